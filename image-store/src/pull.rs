//! Pull: resolve, fetch and unpack what is missing in parallel, commit.
//!
//! Layers are locked by their chain id, which contains all layers below, so that waiting for a lower layer never makes a
//! circle; a blob's lock is held only while it comes. What is finished is named at once and found again after a kill.

use crate::archive::Archive;
use crate::digest::{Digest, chain_ids};
use crate::error::{At, Context, Error, ErrorKind, Result, invalid};
use crate::limits;
use crate::manifest::{Descriptor, Document, Manifest, Platform, is_layer, parse, parse_config};
use crate::reference::Reference;
use crate::registry::Registry;
use crate::store::{Commit, ImageLayer, Store, Stored};
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};

mod layers;

use layers::Image;

/// Whether compressed layers stay after they were unpacked. Kept, an image can be pushed or exported as it came, and a
/// killed pull goes on in the middle of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blobs {
    /// They stay.
    Keep,
    /// They never reach the disk.
    Discard,
}

/// What happens during a pull, for whoever shows it.
#[derive(Debug, Clone)]
pub enum Event {
    /// The manifest is known; these layers make the image: digest and compressed size.
    Resolved(Digest, Vec<(Digest, u64)>),
    /// The layer of this position is there already.
    Present(usize),
    /// The layer of this position got this many bytes.
    Bytes(usize, u64),
    /// The layer of this position is unpacked.
    Unpacked(usize),
    /// Everything is on its way to the disk.
    Committing,
}

/// Receives events, from several threads.
pub type Progress = Arc<dyn Fn(Event) + Send + Sync>;

/// How to pull.
#[derive(Clone)]
pub struct Options {
    /// Whose manifest is chosen from an index.
    pub platform: Platform,
    /// See [`Blobs`].
    pub blobs: Blobs,
    /// Layers that are worked on at once.
    pub parallel: usize,
    /// Who is told.
    pub progress: Progress,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Options({}, {:?}, {})",
            self.platform, self.blobs, self.parallel
        )
    }
}

/// Where the layers of an image come from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A repository, by digest.
    Registry(Arc<Registry>, Reference),
    /// A layout directory or an archive.
    Archive(Arc<Archive>),
    /// The blobs that the store keeps.
    Store(Arc<Store>),
}

/// An image whose documents are at hand and whose layers are to be brought into the store.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The manifest of this platform.
    pub manifest: Stored,
    /// Its config.
    pub config: Stored,
    /// The index that led to the manifest.
    pub index: Option<Stored>,
    /// The full reference to be tagged, if any.
    pub tag: Option<String>,
    /// `host/repository` that it comes from, if any.
    pub repository: Option<String>,
}

/// Pulls an image and returns the digest of its manifest.
pub async fn pull(
    store: &Arc<Store>,
    registry: &Arc<Registry>,
    reference: &Reference,
    options: &Options,
) -> Result<Digest> {
    let resolved = resolve(registry, reference, &options.platform).await?;
    let tag = reference.tag.is_some().then(|| {
        Reference {
            digest: None,
            ..reference.clone()
        }
        .to_string()
    });
    let at = reference.at(resolved.manifest.digest);
    let config = registry
        .small_blob(&at, &resolved.parsed.config)
        .await
        .at(|| "config")?;
    let repository = Some(reference.name());
    let wanted = Wanted {
        manifest: resolved.manifest,
        config,
        index: resolved.index,
        tag,
        repository,
    };
    assemble(
        store,
        Origin::Registry(registry.clone(), at),
        wanted,
        options,
    )
    .await
}

/// Brings the layers of an image into the store and commits it.
pub async fn assemble(
    store: &Arc<Store>,
    origin: Origin,
    wanted: Wanted,
    options: &Options,
) -> Result<Digest> {
    let Document::Manifest(parsed) =
        parse(&wanted.manifest.data, Some(&wanted.manifest.media_type))?
    else {
        return Err(invalid("an index is not an image"));
    };
    refuse_artifact(&parsed)?;
    let parsed_config = parse_config(&wanted.config.data, parsed.layers.len())?;
    let lease = Arc::new(store.lease()?);
    let sizes = parsed
        .layers
        .iter()
        .map(|layer| (layer.digest, layer.size))
        .collect();
    (options.progress)(Event::Resolved(wanted.manifest.digest, sizes));
    check_space(store, &parsed.layers)?;
    let chain = chain_ids(&parsed_config.diff_ids);
    let (senders, done): (Vec<_>, Vec<_>) = chain.iter().map(|_| watch::channel(None)).unzip();
    let image = Arc::new(Image {
        store: store.clone(),
        origin,
        lease,
        layers: parsed.layers.clone(),
        diff_ids: parsed_config.diff_ids,
        chain,
        done,
        options: options.clone(),
        working: Semaphore::new(options.parallel.max(1)),
    });
    let write_back = store.write_back();
    let keys = image.clone().all(senders).await?;
    drop(write_back);
    (options.progress)(Event::Committing);
    let layers = keys
        .into_iter()
        .zip(&parsed.layers)
        .map(|(layer, blob)| ImageLayer {
            layer,
            blob: blob.digest,
            size: blob.size,
            media_type: blob.media_type.clone(),
        });
    let Wanted {
        manifest,
        config,
        index,
        tag,
        repository,
    } = wanted;
    let digest = manifest.digest;
    let commit = Commit {
        manifest,
        config,
        index,
        layers: layers.collect(),
        tag,
        repository,
    };
    let store = store.clone();
    blocking(move || store.commit(&commit)).await?;
    // Held until here: what the commit names must not be collected before.
    drop(image);
    Ok(digest)
}

fn refuse_artifact(manifest: &Manifest) -> Result<()> {
    match manifest
        .layers
        .iter()
        .find(|layer| !is_layer(&layer.media_type))
    {
        None => Ok(()),
        Some(layer) => {
            let what = format!(
                "this is an artifact, not an image: it has {:?}",
                layer.media_type
            );
            Err(Error::new(ErrorKind::Unsupported, what))
        }
    }
}

struct Resolved {
    index: Option<Stored>,
    manifest: Stored,
    parsed: Manifest,
}

/// From a reference to one platform's manifest. The tag is resolved once; what follows is by digest.
async fn resolve(
    registry: &Registry,
    reference: &Reference,
    platform: &Platform,
) -> Result<Resolved> {
    let mut found = registry.manifest(reference).await?;
    let mut index = None;
    for _ in 0..=limits::INDEX_NESTING {
        match parse(&found.data, Some(&found.media_type))? {
            Document::Manifest(parsed) => {
                refuse_artifact(&parsed).at(|| reference.to_string())?;
                return Ok(Resolved {
                    index,
                    manifest: found,
                    parsed,
                });
            }
            Document::Index(list) => {
                let chosen = list.choose(platform).at(|| reference.to_string())?.clone();
                let next = match chosen.data {
                    Some(data) => Stored {
                        digest: chosen.digest,
                        media_type: chosen.media_type.clone(),
                        data,
                    },
                    None => registry.manifest(&reference.at(chosen.digest)).await?,
                };
                if next.data.len() as u64 != chosen.size {
                    return Err(Error::new(
                        ErrorKind::Corrupt,
                        format!("manifest {}: wrong size", chosen.digest),
                    ));
                }
                let outer = std::mem::replace(&mut found, next);
                if index.is_none() {
                    index = Some(outer);
                }
            }
        }
    }
    Err(crate::error::limit(format!(
        "{reference}: indexes nest deeper than {}",
        limits::INDEX_NESTING
    )))
}

/// Fails early if the image can hardly fit: three times its compressed size, and a reserve for everybody else.
fn check_space(store: &Store, layers: &[Descriptor]) -> Result<()> {
    let mut wanted: u64 = 0;
    for layer in layers {
        if store.blob(&layer.digest)?.is_none() {
            wanted = wanted.saturating_add(layer.size.saturating_mul(3));
        }
    }
    let stat = rustix::fs::fstatvfs(store.dir()).call(|| format!("statvfs({:?})", store.root()))?;
    let reserve = (stat.f_blocks.saturating_mul(stat.f_frsize) / 20).min(1 << 30);
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if wanted > limits::LAYERS as u64 && wanted.saturating_add(reserve.min(wanted)) > free {
        let text = format!(
            "{:?}: image may need {wanted} bytes, {free} are free",
            store.root()
        );
        return Err(Error::new(ErrorKind::NoSpace, text));
    }
    Ok(())
}

/// Work that blocks, off the network's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::new(ErrorKind::Cancelled, format!("worker: {e}")))?
}
