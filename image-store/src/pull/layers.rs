//! The layers of one image while they are brought into the store.

use super::{Blobs, Event, Options, Origin, Progress, blocking};
use crate::archive::Member;
use crate::digest::Digest;
use crate::error::{At, Context, Error, ErrorKind, Result, invalid};
use crate::layout::Layout;
use crate::manifest::Descriptor;
use crate::pipeline::{Guard, PIECES, Piece, Pipeline, Unpacked};
use crate::registry::Sink;
use crate::store::{Lease, Lock, Store};
use crate::unpack::Unpacker;
use bytes::Bytes;
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

/// One image while it is being pulled.
pub(super) struct Image {
    pub(super) store: Arc<Store>,
    pub(super) origin: Origin,
    pub(super) lease: Arc<Lease>,
    pub(super) layers: Vec<Descriptor>,
    pub(super) diff_ids: Vec<Digest>,
    pub(super) chain: Vec<Digest>,
    /// The name of each layer when it is finished.
    pub(super) done: Vec<watch::Receiver<Option<Digest>>>,
    pub(super) options: Options,
    pub(super) working: Semaphore,
}

impl Image {
    /// Runs all layers, the biggest first; the first failure ends all.
    pub(super) async fn all(
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

    /// Fetches and unpacks; once more when the bytes were wrong: without those of an earlier pull, then from another
    /// endpoint if there is one.
    async fn fetch(
        &self,
        at: usize,
        chain: &Arc<Lock>,
        blob: Arc<Option<Lock>>,
    ) -> Result<Option<Unpacked>> {
        // The threads hold the locks too: they may outlive a pull that was given up.
        let locks: Guard = Arc::new((chain.clone(), blob));
        let partial = Store::partial_path(&self.layers[at].digest);
        let is_begun = self.options.blobs == Blobs::Keep
            && rustix::fs::statat(self.store.dir(), &partial[..], AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| stat.st_size > 0);
        let fetched = self.fetch_somewhere(at, is_begun, locks).await;
        if fetched.is_err() {
            // The space may be what was missing. A begun blob stays for the next pull, half a layer is of no use.
            let unpacked = Store::unpacking_path(&self.chain[at]);
            crate::layout::remove::remove_all(self.store.dir().as_fd(), unpacked.as_bytes())?;
        }
        fetched
    }

    async fn fetch_somewhere(
        &self,
        at: usize,
        is_begun: bool,
        locks: Guard,
    ) -> Result<Option<Unpacked>> {
        let partial = Store::partial_path(&self.layers[at].digest);
        let mut failure = None;
        for skip in if is_begun { &[0, 0, 1][..] } else { &[0, 1] } {
            match (self.fetch_from(at, *skip, locks.clone()).await, failure) {
                (Err(error), _)
                    if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid) =>
                {
                    crate::layout::remove::remove_all(
                        self.store.dir().as_fd(),
                        partial.as_bytes(),
                    )?;
                    failure = Some(error);
                }
                // There is no other endpoint: what this one sent is what counts.
                (Err(other), Some(error)) if other.kind() == ErrorKind::NotFound => {
                    return Err(error);
                }
                (done, _) => return done,
            }
        }
        Err(failure.unwrap_or_else(|| invalid("layer was not fetched")))
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
        crate::layout::remove::remove_all(self.store.dir().as_fd(), path.as_bytes())?;
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
                crate::layout::remove::remove_all(store.dir().as_fd(), staged.as_bytes())?;
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
