//! Exclusion between processes: lock files for work on one name, leases for what is in use.
//!
//! A lock is a flock(2) on `run/<name>`; the kernel lets go of it when its process dies. The file is removed by its
//! holder, so whoever gets the lock checks that the name still leads to the file it locked.

use super::{Layer, Store, file_name, find_layer, now};
use crate::digest::Digest;
use crate::error::{Context, Error, ErrorKind, Result};
use rusqlite::params;
use rustix::fs::{FlockOperation, OFlags, flock, fstat};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A name that this process alone works on, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: OwnedFd,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still held here, so nobody else's file can be meant. A file that stays is harmless and is reused.
        drop(std::fs::remove_file(&self.path));
    }
}

impl Store {
    /// Takes the lock of a digest, or nothing if another holds it.
    pub fn try_lock(&self, digest: &Digest) -> Result<Option<Lock>> {
        self.lock_file(&file_name(digest), FlockOperation::NonBlockingLockExclusive)
    }

    /// Takes the lock of a digest, and waits for whoever holds it.
    pub fn lock(&self, digest: &Digest) -> Result<Lock> {
        self.lock_file(&file_name(digest), FlockOperation::LockExclusive)?
            .ok_or_else(|| Error::new(ErrorKind::Busy, format!("{digest} is locked")))
    }

    fn lock_file(&self, name: &str, how: FlockOperation) -> Result<Option<Lock>> {
        let path = format!("run/{name}");
        loop {
            let file = self.open_path(&path, OFlags::RDWR | OFlags::CREATE)?;
            match flock(&file, how) {
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(rustix::io::Errno::INTR) => continue,
                done => done.call(|| format!("flock({path:?})"))?,
            }
            let held = fstat(&file).call(|| "fstat")?;
            match rustix::fs::statat(self.dir(), &path[..], rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
                Ok(named) if named.st_ino == held.st_ino => {
                    return Ok(Some(Lock {
                        path: self.root().join(&path),
                        _file: file,
                    }));
                }
                Ok(_) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error).call(|| format!("stat({path:?})")),
            }
        }
    }

    /// Begins a lease that ends when it is dropped or its process dies.
    pub fn lease(self: &Arc<Self>) -> Result<Lease> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("process-{}-{count}-{}", std::process::id(), now());
        let lock = self
            .lock_file(&id, FlockOperation::NonBlockingLockExclusive)?
            .ok_or_else(|| Error::new(ErrorKind::Busy, format!("lease {id} is taken")))?;
        self.transaction(|t| {
            t.execute(
                "INSERT INTO lease (id, boot) VALUES (?, ?)",
                params![id, self.boot()],
            )?;
            Ok(())
        })?;
        Ok(Lease {
            id,
            store: self.clone(),
            lock: Some(lock),
        })
    }

    /// Whether the process of a lease made by [`Self::lease`] is gone.
    pub(super) fn is_abandoned(&self, id: &str) -> Result<bool> {
        if !id.starts_with("process-") {
            return Ok(false);
        }
        Ok(self
            .lock_file(id, FlockOperation::NonBlockingLockExclusive)?
            .is_some())
    }

    /// Holds layers under a name of the caller's until [`Self::release`], or until the machine is started again, where
    /// mounts end too.
    pub fn hold(&self, name: &str, layers: &[Digest]) -> Result<()> {
        self.transaction(|t| {
            t.execute(
                "INSERT OR REPLACE INTO lease (id, boot) VALUES (?, ?)",
                params![name, self.boot()],
            )?;
            for key in layers {
                if find_layer(t, self.boot(), key)?.is_none() {
                    return Err(Error::new(
                        ErrorKind::NotFound,
                        format!("layer {key} is not there"),
                    ));
                }
                add_item(t, name, "layer", key)?;
            }
            Ok(())
        })
    }

    /// Ends what [`Self::hold`] began; nothing happens if it is gone.
    pub fn release(&self, name: &str) -> Result<()> {
        self.transaction(|t| {
            t.execute("DELETE FROM lease WHERE id = ?", params![name])?;
            Ok(())
        })
    }
}

fn add_item(t: &rusqlite::Transaction<'_>, lease: &str, kind: &str, key: &Digest) -> Result<()> {
    t.execute(
        "INSERT OR IGNORE INTO lease_item (lease, kind, key) VALUES (?, ?, ?)",
        params![lease, kind, key],
    )?;
    Ok(())
}

/// What a running operation uses or makes; garbage collection leaves it alone.
#[derive(Debug)]
pub struct Lease {
    id: String,
    store: Arc<Store>,
    lock: Option<Lock>,
}

impl Lease {
    /// Its name, which is unique.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Holds a layer, there or yet to be made, and says whether it is there.
    pub fn layer(&self, key: &Digest) -> Result<Option<Layer>> {
        self.store.transaction(|t| {
            add_item(t, &self.id, "layer", key)?;
            find_layer(t, self.store.boot(), key)
        })
    }

    /// Holds a blob, there or yet to be made.
    pub fn blob(&self, digest: &Digest) -> Result<()> {
        self.store
            .transaction(|t| add_item(t, &self.id, "blob", digest))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // If this fails, the next collection finds the lease without its lock and drops it.
        drop(self.store.release(&self.id));
        drop(self.lock.take());
    }
}
