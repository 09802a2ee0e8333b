//! Commit: an image with one more layer, which turns it into the content of a directory.

use crate::diff::{Change, diff, write_layer};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Context, Result, invalid};
use crate::manifest::{OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST, Platform, json};
use crate::pull::{Blobs, Options, Origin, Wanted, assemble};
use crate::reference::Reference;
use crate::store::images::Image;
use crate::store::{Store, Stored};
use rustix::fs::OFlags;
use serde_json::json as object;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// Hashes what goes through.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
    count: u64,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Hasher::new(Algorithm::Sha256),
            count: 0,
        }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(data)?;
        self.hasher.update(&data[..written]);
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

struct Layer {
    digest: Digest,
    diff_id: Digest,
    size: u64,
}

/// What is said of the new layer.
#[derive(Debug, Clone, Copy)]
pub struct Note<'a> {
    /// A line for the image's history.
    pub message: &'a str,
    /// The latest time of its files, in seconds since the epoch.
    pub latest: Option<i64>,
}

/// Makes the image and names it `name`. `view` shows the base image's file system, `dir` the one to be.
pub async fn commit(
    store: &Arc<Store>,
    base: &Image,
    (view, dir): (BorrowedFd<'_>, BorrowedFd<'_>),
    name: &Reference,
    note: Note<'_>,
) -> Result<Digest> {
    let lease = store.lease()?;
    // Named after the lease, whose lock tells a collection that the file is in use.
    let staged = format!("staging/{}.new", lease.id());
    let changes = diff(view, dir)?;
    let layer = write(store, &staged, (dir, &changes), note.latest)?;
    lease.blob(&layer.digest)?;
    let lock = store.lock(&layer.digest)?;
    if store.blob(&layer.digest)?.is_none() {
        store.place(&staged, &Store::blob_path(&layer.digest))?;
        store.record_blob(&layer.digest, layer.size)?;
    } else {
        rustix::fs::unlinkat(store.dir(), &staged[..], rustix::fs::AtFlags::empty())
            .call(|| "unlinkat")?;
    }
    drop(lock);
    let wanted = documents(base, &layer, name, note.message)?;
    let options = Options {
        platform: Platform::host(),
        blobs: Blobs::Discard,
        parallel: 1,
        progress: Arc::new(drop),
    };
    assemble(store, Origin::Store(store.clone()), wanted, &options).await
}

fn write(
    store: &Store,
    staged: &str,
    (dir, changes): (BorrowedFd<'_>, &[Change]),
    latest: Option<i64>,
) -> Result<Layer> {
    let file = File::from(store.open_path(staged, OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC)?);
    let compressed = Hashing::new(io::BufWriter::with_capacity(256 << 10, file));
    let encoder = flate2::write::GzEncoder::new(compressed, flate2::Compression::default());
    let plain = write_layer(dir, changes, latest, Hashing::new(encoder))?;
    let diff_id = plain.hasher.finish();
    let mut compressed = plain.inner.finish().call(|| "compress layer")?;
    compressed.flush().call(|| "write layer")?;
    Ok(Layer {
        digest: compressed.hasher.finish(),
        diff_id,
        size: compressed.count,
    })
}

/// The documents of the new image: the old ones with a layer and a line of history more.
fn documents(base: &Image, layer: &Layer, name: &Reference, message: &str) -> Result<Wanted> {
    let mut config = json(&base.config.data)?;
    let mut manifest = json(&base.manifest.data)?;
    let broken = || invalid("documents of the base image");
    let ids = config
        .pointer_mut("/rootfs/diff_ids")
        .and_then(|v| v.as_array_mut())
        .ok_or_else(broken)?;
    ids.push(object!(layer.diff_id));
    let root = config.as_object_mut().ok_or_else(broken)?;
    let history = root.entry("history").or_insert_with(|| object!([]));
    history
        .as_array_mut()
        .ok_or_else(broken)?
        .push(object!({"created_by": message}));
    let data = config.to_string().into_bytes();
    let config = Stored {
        digest: Digest::of(&data),
        media_type: OCI_CONFIG.to_owned(),
        data,
    };
    manifest["mediaType"] = object!(OCI_MANIFEST);
    manifest["config"] =
        object!({"mediaType": OCI_CONFIG, "digest": config.digest, "size": config.data.len()});
    let layers = manifest["layers"].as_array_mut().ok_or_else(broken)?;
    layers.push(object!({"mediaType": OCI_LAYER_GZIP, "digest": layer.digest, "size": layer.size}));
    let data = manifest.to_string().into_bytes();
    let manifest = Stored {
        digest: Digest::of(&data),
        media_type: OCI_MANIFEST.to_owned(),
        data,
    };
    Ok(Wanted {
        manifest,
        config,
        index: None,
        tag: Some(name.to_string()),
        repository: None,
    })
}
