//! Writing an image to a directory or an archive. The result appears under its name only when it is whole.

use super::{Member, parts};
use crate::error::{At, Context, Error, ErrorKind, Result, invalid};
use crate::store::Store;
use crate::store::images::Image;
use rustix::fs::OFlags;
use serde_json::json;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// The form of an exported image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// OCI layout in a directory.
    Directory,
    /// OCI layout in a tar archive.
    Archive,
    /// What `docker load` reads.
    Docker,
}

/// Writes an image with its kept blobs to `destination`, which must not exist. `names` are noted in it.
pub fn export(
    store: &Store,
    image: &Image,
    names: &[String],
    form: Form,
    destination: &Path,
) -> Result<()> {
    if destination.symlink_metadata().is_ok() {
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            format!("{destination:?} exists"),
        ));
    }
    let mut partial = destination.as_os_str().to_owned();
    partial.push(format!(".partial-{}", std::process::id()));
    let partial = PathBuf::from(partial);
    let written = write(store, image, names, form, &partial);
    if written.is_err() {
        let gone = if partial.is_dir() {
            std::fs::remove_dir_all(&partial)
        } else {
            std::fs::remove_file(&partial)
        };
        // The first error tells more.
        drop(gone);
        return written;
    }
    std::fs::rename(&partial, destination).call(|| format!("rename {partial:?} to {destination:?}"))
}

fn write(store: &Store, image: &Image, names: &[String], form: Form, partial: &Path) -> Result<()> {
    let mut output = match form {
        Form::Directory => {
            std::fs::create_dir(partial).call(|| format!("mkdir {partial:?}"))?;
            Output::Directory(partial.to_owned())
        }
        _ => Output::Tar(tar::Builder::new(
            File::create_new(partial).call(|| format!("create {partial:?}"))?,
        )),
    };
    if form == Form::Docker {
        docker(store, image, names, &mut output)?;
    } else {
        layout(store, image, names, &mut output)?;
    }
    match output {
        Output::Directory(_) => Ok(()),
        Output::Tar(builder) => {
            let mut file = builder.into_inner().call(|| "write archive")?;
            file.flush().call(|| "write archive")
        }
    }
}

fn layout(store: &Store, image: &Image, names: &[String], output: &mut Output) -> Result<()> {
    let path =
        |digest: &crate::Digest| format!("blobs/{}/{}", digest.algorithm().name(), digest.hex());
    output.put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let descriptor = |name: Option<&String>| {
        let mut descriptor = json!({
            "mediaType": image.manifest.media_type,
            "digest": image.manifest.digest,
            "size": image.manifest.data.len(),
        });
        if let Some(name) = name {
            let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
            descriptor["annotations"] =
                json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
        }
        descriptor
    };
    let manifests = if names.is_empty() {
        vec![descriptor(None)]
    } else {
        names.iter().map(|n| descriptor(Some(n))).collect()
    };
    output.put(
        "index.json",
        json!({"schemaVersion": 2, "manifests": manifests})
            .to_string()
            .as_bytes(),
    )?;
    output.put(&path(&image.manifest.digest), &image.manifest.data)?;
    output.put(&path(&image.config.digest), &image.config.data)?;
    let mut digests = parts(image);
    digests.sort_unstable();
    digests.dedup();
    for digest in digests {
        output.copy(&path(&digest), &kept_blob(store, &digest)?)?;
    }
    Ok(())
}

fn docker(store: &Store, image: &Image, names: &[String], output: &mut Output) -> Result<()> {
    let config = format!("{}.json", image.config.digest.hex());
    let name = |digest: &crate::Digest| format!("{}.tar", digest.hex());
    let digests = parts(image);
    let layers = digests.iter().map(name).collect::<Vec<_>>();
    let manifest = json!([{"Config": config, "RepoTags": names, "Layers": layers}]);
    output.put("manifest.json", manifest.to_string().as_bytes())?;
    output.put(&config, &image.config.data)?;
    let mut unique = digests;
    unique.sort_unstable();
    unique.dedup();
    for digest in unique {
        output.copy(&name(&digest), &kept_blob(store, &digest)?)?;
    }
    Ok(())
}

/// A kept blob of an image.
pub fn kept_blob(store: &Store, digest: &crate::Digest) -> Result<Member> {
    if store.blob(digest)?.is_none() {
        let text = format!(
            "layer {digest} was not kept when the image was pulled; pull it again with its blobs"
        );
        return Err(Error::new(ErrorKind::NotFound, text));
    }
    Member::whole(store.open_path(&Store::blob_path(digest), OFlags::RDONLY)?)
}

enum Output {
    Directory(PathBuf),
    Tar(tar::Builder<File>),
}

impl Output {
    fn put(&mut self, name: &str, data: &[u8]) -> Result<()> {
        self.write(name, data.len() as u64, data)
    }

    fn copy(&mut self, name: &str, member: &Member) -> Result<()> {
        self.write(name, member.size(), Stream { member, at: 0 })
    }

    fn write(&mut self, name: &str, size: u64, mut data: impl Read) -> Result<()> {
        match self {
            Self::Directory(dir) => {
                let path = dir.join(name);
                let parent = path.parent().ok_or_else(|| invalid("export path"))?;
                std::fs::create_dir_all(parent).call(|| format!("mkdir {parent:?}"))?;
                let mut file = File::create_new(&path).call(|| format!("create {path:?}"))?;
                std::io::copy(&mut data, &mut file)
                    .map(drop)
                    .call(|| format!("write {path:?}"))
            }
            Self::Tar(builder) => {
                let mut header = tar::Header::new_ustar();
                header.set_size(size);
                header.set_mode(0o644);
                builder
                    .append_data(&mut header, name, data)
                    .call(|| format!("write {name:?}"))
                    .at(|| "archive")
            }
        }
    }
}

/// A member as a stream.
struct Stream<'a> {
    member: &'a Member,
    at: u64,
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let data = self
            .member
            .read(self.at, buffer.len())
            .map_err(std::io::Error::other)?;
        buffer[..data.len()].copy_from_slice(&data);
        self.at += data.len() as u64;
        Ok(data.len())
    }
}
