//! Images in files: OCI layouts (a directory or a tar archive) and docker archives, to read and to write.
//!
//! Of an archive only members with exactly the expected names are used; links in it are never followed.
//! See image-spec image-layout.md.

use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{At, Context, Error, ErrorKind, Result, invalid, limit};
use crate::limits;
use crate::manifest::{Document, OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST, Platform, json, parse};
use crate::pull::Wanted;
use crate::store::Stored;
use crate::store::images::Image;
use crate::tar::{Kind, Reader};
use crate::tree::clean;
use bytes::Bytes;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use serde_json::{Value, json as object};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

mod write;
pub use write::{Form, export, kept_blob};

/// Most members of an archive that is imported.
const MEMBERS: usize = 100_000;

/// A source of images.
#[derive(Debug)]
pub enum Archive {
    /// A layout directory.
    Directory(OwnedFd),
    /// A tar archive and where its members are.
    Tar(Arc<File>, HashMap<String, (u64, u64)>),
}

/// A file, or a part of one.
#[derive(Debug, Clone)]
pub struct Member {
    file: Arc<File>,
    offset: u64,
    size: u64,
}

impl Member {
    /// All of a file.
    pub fn whole(file: OwnedFd) -> Result<Self> {
        let file = File::from(file);
        let size = file.metadata().call(|| "stat")?.len();
        Ok(Self {
            file: Arc::new(file),
            offset: 0,
            size,
        })
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads up to `length` bytes at `at`; at least one, except at the end.
    pub fn read(&self, at: u64, length: usize) -> Result<Bytes> {
        let left = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut data = vec![0; left.min(length)];
        self.file
            .read_exact_at(&mut data, self.offset + at)
            .call(|| "read blob")?;
        Ok(data.into())
    }

    fn all(&self) -> Result<Vec<u8>> {
        if self.size > limits::DOCUMENT {
            return Err(limit(format!(
                "document is larger than {} bytes",
                limits::DOCUMENT
            )));
        }
        self.read(0, usize::MAX).map(Into::into)
    }

    fn digest(&self) -> Result<Digest> {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut at = 0;
        while at < self.size {
            let data = self.read(at, 1 << 20)?;
            hasher.update(&data);
            at += data.len() as u64;
        }
        Ok(hasher.finish())
    }
}

impl crate::registry::push::Source for Member {
    async fn read(&self, offset: u64, length: usize) -> Result<Bytes> {
        let member = self.clone();
        let read = tokio::task::spawn_blocking(move || Self::read(&member, offset, length)).await;
        read.map_err(|e| Error::new(ErrorKind::Cancelled, format!("read blob: {e}")))?
    }
}

/// Counts what was taken from a stream.
struct Counted<R> {
    inner: R,
    taken: u64,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.taken += read as u64;
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.taken += amount as u64;
        self.inner.consume(amount);
    }
}

impl Archive {
    /// Opens a directory or an uncompressed tar archive.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).call(|| format!("open {path:?}"))?;
        if file.metadata().call(|| format!("stat {path:?}"))?.is_dir() {
            return Ok(Self::Directory(file.into()));
        }
        let file = Arc::new(file);
        let mut members = HashMap::new();
        let source = Counted {
            inner: BufReader::with_capacity(256 << 10, &*file),
            taken: 0,
        };
        let mut reader = Reader::new(source);
        while let Some(entry) = reader.next_entry().at(|| format!("{path:?}"))? {
            if entry.kind != Kind::File || entry.sparse.is_some() {
                continue;
            }
            if members.len() >= MEMBERS {
                return Err(limit(format!("{path:?} has more than {MEMBERS} members")));
            }
            let name = String::from_utf8_lossy(&clean(&entry.path).join(&b'/')).into_owned();
            if members
                .insert(name.clone(), (reader.source().taken, entry.size))
                .is_some()
            {
                return Err(invalid(format!("{path:?} has two members {name:?}")));
            }
        }
        Ok(Self::Tar(file, members))
    }

    fn member(&self, name: &str) -> Result<Member> {
        match self {
            Self::Directory(dir) => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
                let file = openat2(dir, name, flags, Mode::empty(), resolve)
                    .call(|| format!("openat2({name:?})"))?;
                Member::whole(file)
            }
            Self::Tar(file, members) => {
                let missing = || {
                    Error::new(
                        ErrorKind::NotFound,
                        format!("archive has no member {name:?}"),
                    )
                };
                let (offset, size) = *members.get(name).ok_or_else(missing)?;
                Ok(Member {
                    file: file.clone(),
                    offset,
                    size,
                })
            }
        }
    }

    /// A blob of an OCI layout.
    pub fn blob(&self, digest: &Digest) -> Result<Member> {
        self.member(&format!(
            "blobs/{}/{}",
            digest.algorithm().name(),
            digest.hex()
        ))
    }

    fn document(&self, digest: &Digest, media_type: &str) -> Result<Stored> {
        let data = self.blob(digest)?.all()?;
        digest.verify(&data)?;
        Ok(Stored {
            digest: *digest,
            media_type: media_type.to_owned(),
            data,
        })
    }

    /// The images of the source. For a docker archive, a second archive-like view under which its layers are blobs is
    /// made of the same file.
    pub fn images(self, platform: &Platform) -> Result<(Self, Vec<Wanted>)> {
        match self.member("index.json") {
            Ok(index) => {
                let images = self.layout_images(&index.all()?, platform)?;
                Ok((self, images))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => self.docker_images(),
            Err(error) => Err(error),
        }
    }

    fn layout_images(&self, index: &[u8], platform: &Platform) -> Result<Vec<Wanted>> {
        let value = json(index).at(|| "index.json")?;
        let Document::Index(list) = parse(index, None).at(|| "index.json")? else {
            return Err(invalid("index.json is not an index"));
        };
        let entries = value
            .get("manifests")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let mut images = Vec::new();
        for (entry, descriptor) in entries.zip(&list.manifests) {
            let note = |key: &str| {
                entry
                    .get("annotations")?
                    .get(key)?
                    .as_str()
                    .map(str::to_owned)
            };
            let tag = note("io.containerd.image.name")
                .or_else(|| note("org.opencontainers.image.ref.name"));
            let mut found = self.document(&descriptor.digest, &descriptor.media_type)?;
            let mut outer = None;
            for _ in 0..=limits::INDEX_NESTING {
                let Document::Index(list) = parse(&found.data, Some(&found.media_type))? else {
                    break;
                };
                let chosen = list.choose(platform)?;
                let next = self.document(&chosen.digest, &chosen.media_type)?;
                let before = std::mem::replace(&mut found, next);
                if outer.is_none() {
                    outer = Some(before);
                }
            }
            let Document::Manifest(manifest) = parse(&found.data, Some(&found.media_type))? else {
                return Err(limit("indexes nest too deep"));
            };
            let config = self.document(&manifest.config.digest, &manifest.config.media_type)?;
            images.push(Wanted {
                manifest: found,
                config,
                index: outer,
                tag,
                repository: None,
            });
        }
        Ok(images)
    }

    /// Docker's archive names files; their digests have to be computed, and a manifest is made of them.
    fn docker_images(self) -> Result<(Self, Vec<Wanted>)> {
        let list = json(&self.member("manifest.json")?.all()?).at(|| "manifest.json")?;
        let list = list
            .as_array()
            .ok_or_else(|| invalid("manifest.json is not a list"))?;
        let mut blobs = HashMap::new();
        let mut images = Vec::new();
        for image in list.iter().take(limits::INDEX_ENTRIES) {
            let words = |key: &str| {
                let list = image
                    .get(key)
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten();
                list.filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            let name = image
                .get("Config")
                .and_then(Value::as_str)
                .ok_or_else(|| invalid("image without a config"))?;
            let config = self.member(name)?.all()?;
            let config = Stored {
                digest: Digest::of(&config),
                media_type: OCI_CONFIG.to_owned(),
                data: config,
            };
            let mut layers = Vec::new();
            for name in words("Layers") {
                let member = self.member(&name)?;
                let digest = member.digest()?;
                let is_gzip = member.read(0, 2)?[..] == [0x1f, 0x8b];
                let kind = if is_gzip {
                    OCI_LAYER_GZIP
                } else {
                    "application/vnd.oci.image.layer.v1.tar"
                };
                layers.push(object!({"mediaType": kind, "digest": digest, "size": member.size}));
                blobs.insert(
                    format!("blobs/sha256/{}", digest.hex()),
                    (member.offset, member.size),
                );
            }
            let manifest = object!({
                "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": layers,
                "config": {"mediaType": OCI_CONFIG, "digest": config.digest, "size": config.data.len()},
            });
            let data = manifest.to_string().into_bytes();
            let manifest = Stored {
                digest: Digest::of(&data),
                media_type: OCI_MANIFEST.to_owned(),
                data,
            };
            let mut tags = words("RepoTags").into_iter().map(Some).collect::<Vec<_>>();
            if tags.is_empty() {
                tags.push(None);
            }
            for tag in tags {
                let (manifest, config) = (manifest.clone(), config.clone());
                images.push(Wanted {
                    manifest,
                    config,
                    index: None,
                    tag,
                    repository: None,
                });
            }
        }
        match self {
            Self::Tar(file, _) => Ok((Self::Tar(file, blobs), images)),
            Self::Directory(_) => Err(invalid("a docker archive is a tar file")),
        }
    }
}

/// The blobs of an image in the order in which they are written: config and layers.
fn parts(image: &Image) -> Vec<Digest> {
    image
        .parsed
        .layers
        .iter()
        .map(|layer| layer.digest)
        .collect()
}
