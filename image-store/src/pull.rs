//! Pull: resolve, fetch and unpack what is missing in parallel, commit.
//!
//! Layers are locked by their chain id, which contains all layers below, so that waiting for a lower layer never makes a
//! circle; a blob's lock is held only while it comes. What is finished is named at once and found again after a kill.

use crate::archive::{Archive, Member};
use crate::digest::{Digest, chain_ids};
use crate::error::{At, Context, Error, ErrorKind, Result, invalid};
use crate::layout::Layout;
use crate::limits;
use crate::manifest::{Descriptor, Document, Manifest, Platform, is_layer, parse, parse_config};
use crate::pipeline::{Guard, PIECES, Piece, Pipeline, Unpacked};
use crate::reference::Reference;
use crate::registry::{Registry, Sink};
use crate::store::{Commit, ImageLayer, Lease, Lock, Store, Stored};
use crate::unpack::Unpacker;
use bytes::Bytes;
use rustix::fs::{Mode, OFlags, mkdirat};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

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
    let keys = image.clone().all(senders).await?;
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

/// One image while it is being pulled.
struct Image {
    store: Arc<Store>,
    origin: Origin,
    lease: Arc<Lease>,
    layers: Vec<Descriptor>,
    diff_ids: Vec<Digest>,
    chain: Vec<Digest>,
    /// The name of each layer when it is finished.
    done: Vec<watch::Receiver<Option<Digest>>>,
    options: Options,
    working: Semaphore,
}

impl Image {
    /// Runs all layers, the biggest first; the first failure ends all.
    async fn all(
        self: Arc<Self>,
        senders: Vec<watch::Sender<Option<Digest>>>,
    ) -> Result<Vec<Digest>> {
        let mut order = senders.into_iter().enumerate().collect::<Vec<_>>();
        order.sort_by_key(|(at, _)| std::cmp::Reverse(self.layers[*at].size));
        let mut tasks = JoinSet::new();
        for (at, sender) in order {
            let image = self.clone();
            tasks.spawn(async move {
                let key = image
                    .layer(at)
                    .await
                    .at(|| format!("layer {}", image.layers[at].digest))?;
                sender.send_replace(Some(key));
                Ok(())
            });
        }
        let mut failure: Option<Error> = None;
        while let Some(ended) = tasks.join_next().await {
            let ended = ended
                .map_err(|e| Error::new(ErrorKind::Cancelled, format!("layer: {e}")))
                .flatten();
            if let Err(error) = ended {
                // Others may fail only because this one did.
                if failure
                    .as_ref()
                    .is_none_or(|first| first.kind() == ErrorKind::Cancelled)
                {
                    failure = Some(error);
                }
                tasks.abort_all();
            }
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        let keys = self
            .done
            .iter()
            .map(|done| *done.borrow())
            .collect::<Option<Vec<_>>>();
        keys.ok_or_else(|| invalid("a layer ended without a name"))
    }

    /// The layer of a position, reused or made. Returns its name.
    async fn layer(&self, at: usize) -> Result<Digest> {
        let permit = self
            .working
            .acquire()
            .await
            .map_err(|_| Error::new(ErrorKind::Cancelled, "pull ended"))?;
        if let Some(key) = self.present(at)? {
            (self.options.progress)(Event::Present(at));
            return Ok(key);
        }
        let chain_lock = self.lock(&self.chain[at]).await?;
        let blob_lock = match self.layers[at].digest == self.chain[at] {
            // An uncompressed bottom layer has one digest for all three.
            true => None,
            false => Some(self.lock(&self.layers[at].digest).await?),
        };
        if let Some(key) = self.present(at)? {
            (self.options.progress)(Event::Present(at));
            return Ok(key);
        }
        let chain_lock = Arc::new(chain_lock);
        let unpacked = self.fetch(at, &chain_lock, Arc::new(blob_lock)).await?;
        drop(permit);
        let Some(unpacked) = unpacked else {
            return self.present(at)?.ok_or_else(|| invalid("layer vanished"));
        };
        let lowers = if unpacked.unpacker.needs_lowers() {
            self.lowers(at).await?
        } else {
            Vec::new()
        };
        let key = self.finish(at, unpacked, lowers, chain_lock).await?;
        (self.options.progress)(Event::Unpacked(at));
        Ok(key)
    }

    /// The name of the layer if everything wanted of it is there. It is held from now on.
    fn present(&self, at: usize) -> Result<Option<Digest>> {
        self.lease.blob(&self.layers[at].digest)?;
        let needs_blob = self.options.blobs == Blobs::Keep;
        if needs_blob && self.store.blob(&self.layers[at].digest)?.is_none() {
            return Ok(None);
        }
        self.unpacked(at)
    }

    fn unpacked(&self, at: usize) -> Result<Option<Digest>> {
        for key in [self.chain[at], self.diff_ids[at]] {
            if let Some(layer) = self.lease.layer(&key)? {
                return Ok(Some(layer.key));
            }
        }
        Ok(None)
    }

    async fn lock(&self, digest: &Digest) -> Result<Lock> {
        loop {
            if let Some(lock) = self.store.try_lock(digest)? {
                return Ok(lock);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The directories of the layers below, topmost first.
    async fn lowers(&self, at: usize) -> Result<Vec<OwnedFd>> {
        let mut lowers = Vec::new();
        for done in self.done[..at].iter().rev() {
            let mut done = done.clone();
            let key = done.wait_for(Option::is_some).await;
            let key = key.map_err(|_| Error::new(ErrorKind::Cancelled, "a lower layer failed"))?;
            if let Some(key) = *key {
                lowers.push(self.store.open_layer(&key)?);
            }
        }
        Ok(lowers)
    }

    /// Fetches and unpacks; once more, from another endpoint if there is one, when the bytes were wrong.
    async fn fetch(
        &self,
        at: usize,
        chain: &Arc<Lock>,
        blob: Arc<Option<Lock>>,
    ) -> Result<Option<Unpacked>> {
        // The threads hold the locks too: they may outlive a pull that was given up.
        let locks: Guard = Arc::new((chain.clone(), blob));
        match self.fetch_from(at, 0, locks.clone()).await {
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid) => {
                let partial = Store::partial_path(&self.layers[at].digest);
                crate::layout::dirs::remove_all(self.store.dir().as_fd(), partial.as_bytes())?;
                match self.fetch_from(at, 1, locks).await {
                    // There is no other: what the first one sent is what counts.
                    Err(other) if other.kind() == ErrorKind::NotFound => Err(error),
                    done => done,
                }
            }
            done => done,
        }
    }

    async fn fetch_from(&self, at: usize, skip: usize, locks: Guard) -> Result<Option<Unpacked>> {
        let descriptor = &self.layers[at];
        let unpacker = match self.unpacked(at)? {
            Some(_) => None,
            None => Some(Unpacker::new(Layout::dirs(self.begin_directory(at)?))),
        };
        let keeps = self.options.blobs == Blobs::Keep;
        let blob = if keeps {
            Some(self.open_partial(descriptor)?)
        } else {
            None
        };
        let from = blob
            .as_ref()
            .map_or(Ok(0), |file| file.metadata().map(|m| m.len()))
            .call(|| "stat blob")?;
        let (sender, pieces) = mpsc::channel(PIECES);
        let algorithms = (descriptor.digest.algorithm(), self.diff_ids[at].algorithm());
        let pipeline = Pipeline::start(algorithms, pieces, (blob, unpacker), locks)?;
        (self.options.progress)(Event::Bytes(at, from));
        let mut sink = ToPipeline {
            sender,
            at,
            progress: self.options.progress.clone(),
        };
        let fetched = match &descriptor.data {
            Some(data) if from == 0 => sink.put(data.clone().into()).await,
            _ => self.bring(descriptor, (from, skip), &mut sink).await,
        };
        if fetched.is_ok() {
            // Refused only if the pipeline failed, which it then says itself.
            drop(sink.sender.send(Piece::End).await);
        }
        drop(sink);
        let ended = blocking(move || pipeline.finish()).await;
        let (inflated, unpacked) = match (fetched, ended) {
            (Ok(()), ended) => ended?,
            (Err(error), Err(cause)) if error.kind() == ErrorKind::Cancelled => return Err(cause),
            (Err(error), _) => return Err(error),
        };
        descriptor.digest.expect(&inflated.digest)?;
        if let Some(unpacked) = &unpacked {
            self.diff_ids[at]
                .expect(&unpacked.diff_id)
                .at(|| "DiffID")?;
        }
        if keeps {
            self.store.place(
                &Store::partial_path(&descriptor.digest),
                &Store::blob_path(&descriptor.digest),
            )?;
            self.store
                .record_blob(&descriptor.digest, descriptor.size)?;
        }
        Ok(unpacked)
    }

    async fn bring(
        &self,
        descriptor: &Descriptor,
        from: (u64, usize),
        sink: &mut ToPipeline,
    ) -> Result<()> {
        let file = match &self.origin {
            Origin::Registry(registry, reference) => {
                return registry.blob(reference, descriptor, from, sink).await;
            }
            _ if from.1 > 0 => return Err(Error::new(ErrorKind::NotFound, "no other place")),
            Origin::Archive(archive) => archive.blob(&descriptor.digest)?,
            Origin::Store(store) => Member::whole(
                store.open_path(&Store::blob_path(&descriptor.digest), OFlags::RDONLY)?,
            )?,
        };
        if file.size() != descriptor.size {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("blob {}: wrong size", descriptor.digest),
            ));
        }
        let mut at = from.0;
        let file = Arc::new(file);
        while at < descriptor.size {
            let source = file.clone();
            let data = blocking(move || source.read(at, 256 << 10)).await?;
            at += data.len() as u64;
            sink.put(data).await?;
        }
        Ok(())
    }

    /// The blob file so far; one that is too long is begun anew.
    fn open_partial(&self, descriptor: &Descriptor) -> Result<File> {
        let path = Store::partial_path(&descriptor.digest);
        let file = File::from(self.store.open_path(&path, OFlags::RDWR | OFlags::CREATE)?);
        if file.metadata().call(|| "stat blob")?.len() > descriptor.size {
            file.set_len(0).call(|| "ftruncate blob")?;
        }
        Ok(file)
    }

    /// An empty directory to unpack into; what a killed pull left there is removed.
    fn begin_directory(&self, at: usize) -> Result<OwnedFd> {
        let path = Store::unpacking_path(&self.chain[at]);
        crate::layout::dirs::remove_all(self.store.dir().as_fd(), path.as_bytes())?;
        mkdirat(self.store.dir(), &path[..], Mode::RWXU).call(|| format!("mkdirat({path:?})"))?;
        self.store
            .open_path(&path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    async fn finish(
        &self,
        at: usize,
        unpacked: Unpacked,
        lowers: Vec<OwnedFd>,
        lock: Arc<Lock>,
    ) -> Result<Digest> {
        let (store, lease) = (self.store.clone(), self.lease.clone());
        let (chain, diff_id) = (self.chain[at], self.diff_ids[at]);
        blocking(move || {
            let lowers = lowers.iter().map(AsFd::as_fd).collect::<Vec<_>>();
            let sealed = unpacked.unpacker.finish(&lowers)?;
            let key = if sealed.is_chained { chain } else { diff_id };
            // Another image with the same layer elsewhere in its chain may be as far as we are.
            let _lock = if key == chain {
                None
            } else {
                Some(store.lock(&key)?)
            };
            let staged = Store::unpacking_path(&chain);
            if lease.layer(&key)?.is_some() {
                crate::layout::dirs::remove_all(store.dir().as_fd(), staged.as_bytes())?;
            } else {
                store.place(&staged, &Store::layer_path(&key))?;
                store.record_layer(&key, &diff_id, &sealed)?;
            }
            drop(lock);
            Ok(key)
        })
        .await
    }
}

/// Hands what the network brings to the inflate thread.
struct ToPipeline {
    sender: mpsc::Sender<Piece<Bytes>>,
    at: usize,
    progress: Progress,
}

impl Sink for ToPipeline {
    async fn put(&mut self, data: Bytes) -> Result<()> {
        let length = data.len() as u64;
        let sent = self.sender.send(Piece::Data(data)).await;
        sent.map_err(|_| Error::new(ErrorKind::Cancelled, "unpacking ended"))?;
        (self.progress)(Event::Bytes(self.at, length));
        Ok(())
    }
}
