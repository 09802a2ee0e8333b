//! The store on disk. The database is the only authority over it; what it does not name is garbage.
//!
//! ```text
//! root/           0700
//!   database      SQLite, WAL: documents (manifests, configs), images, tags, leases, and what exists below
//!   blobs/        compressed layers that are kept: sha256-<hex>
//!   layers/       unpacked layers: sha256-<hex> of the DiffID, or of the chain id where a layer took something from
//!                 those below it
//!   staging/      what is being made: <digest>.part (a blob so far), <digest>.dir (a layer so far)
//!   empty/        what its name says, the lowest layer of mounts
//!   run/          lock files; each exists only while it is held
//!   reserve       room for the database's log on a full disk, given up to open the store there
//! ```
//!
//! A file is made in `staging`, moved to its place, and then named by a row that counts in this boot only. When an image
//! is whole, one `syncfs` and one transaction make it visible and its rows lasting. Processes exclude each other by lock
//! files named after what they make, and hold what they use by a lease, so that garbage collection runs at any time.

use crate::digest::Digest;
use crate::error::{At, Context, Error, ErrorKind, Result};
use crate::layout::Sealed;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, ResolveFlags, openat2, unlinkat};
use std::fs::{DirBuilder, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub mod fsck;
pub mod gc;
pub mod images;
mod lock;
mod uploads;

pub use lock::{Lease, Lock};

/// The version of the layout; a store of another one is not touched.
const VERSION: i64 = 3;

/// See the header. SQLite's shared memory takes 32 KiB, a collection's transaction about as much again.
const RESERVE: &str = "reserve";
const RESERVE_SIZE: u64 = 256 << 10;

/// A store that is open.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    dir: OwnedFd,
    database: Mutex<Connection>,
    boot: String,
}

/// A row of an unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its name in `layers`: the DiffID, or the chain id.
    pub key: Digest,
    /// Digest of the unpacked archive.
    pub diff_id: Digest,
    /// See [`crate::seal`].
    pub seal: String,
    /// Bytes of disk.
    pub disk: u64,
    /// Count of inodes.
    pub inodes: u64,
}

/// Pause between two rounds of early write-back.
const WRITE_BACK: Duration = Duration::from_millis(200);

/// Early write-back, see [`Store::write_back`].
#[derive(Debug)]
pub struct WriteBack {
    _stop: std::sync::mpsc::Sender<()>,
}

/// One layer of an image, for a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLayer {
    /// The unpacked layer's name.
    pub layer: Digest,
    /// The compressed layer.
    pub blob: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
}

/// A document that is stored as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Digest of the bytes.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// The bytes.
    pub data: Vec<u8>,
}

/// A whole image, for a commit.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The manifest of this platform.
    pub manifest: Stored,
    /// Its config.
    pub config: Stored,
    /// The index that led to the manifest.
    pub index: Option<Stored>,
    /// Layers, bottom first.
    pub layers: Vec<ImageLayer>,
    /// The full reference to be tagged, if any.
    pub tag: Option<String>,
    /// `host/repository` that it came from, if any.
    pub repository: Option<String>,
}

impl Store {
    /// Opens the store below `root`, and makes it if there is none.
    pub fn open(root: &Path) -> Result<Self> {
        let boot =
            std::fs::read_to_string("/proc/sys/kernel/random/boot_id").call(|| "read boot_id")?;
        for name in ["", "blobs", "layers", "staging", "run", "empty"] {
            let path = root.join(name);
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .call(|| format!("mkdir {path:?}"))?;
        }
        let dir: OwnedFd = File::open(root).call(|| format!("open {root:?}"))?.into();
        refuse_folded_names(&dir).at(|| format!("{root:?}"))?;
        let database = root.join("database");
        let connect = || {
            let connection = Connection::open(&database).map_err(Error::from)?;
            prepare(&connection).map(|()| connection)
        };
        let connection = match connect() {
            Ok(connection) => {
                keep_reserve(&dir);
                connection
            }
            Err(error) => match unlinkat(&dir, RESERVE, AtFlags::empty()) {
                Ok(()) => connect(),
                Err(_) => Err(error),
            }
            .at(|| format!("open {database:?}"))?,
        };
        Ok(Self {
            root: root.to_owned(),
            dir,
            database: Mutex::new(connection),
            boot: boot.trim().to_owned(),
        })
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its root directory.
    pub fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    pub(crate) fn boot(&self) -> &str {
        &self.boot
    }

    /// A panic elsewhere cannot leave a transaction half done, SQLite rolls it back; so a poisoned lock is fine.
    pub(crate) fn database(&self) -> MutexGuard<'_, Connection> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one transaction that holds the write lock from its begin.
    pub(crate) fn transaction<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut database = self.database();
        let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    /// The same, on disk when it returns.
    pub(crate) fn lasting_transaction<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        self.database().pragma_update(None, "synchronous", "FULL")?;
        let done = self.transaction(work);
        self.database()
            .pragma_update(None, "synchronous", "NORMAL")?;
        done
    }

    /// The path of a kept blob below the root.
    pub fn blob_path(digest: &Digest) -> String {
        format!("blobs/{}", file_name(digest))
    }

    /// The path of an unpacked layer below the root.
    pub fn layer_path(key: &Digest) -> String {
        format!("layers/{}", file_name(key))
    }

    /// Opens something of the store by its path below the root.
    pub fn open_path(&self, path: &str, flags: OFlags) -> Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = if flags.contains(OFlags::CREATE) {
            Mode::RUSR | Mode::WUSR
        } else {
            Mode::empty()
        };
        openat2(
            &self.dir,
            path,
            flags,
            mode,
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        )
        .call(|| format!("openat2({:?})", self.root.join(path)))
    }

    /// Opens the directory of an unpacked layer.
    pub fn open_layer(&self, key: &Digest) -> Result<OwnedFd> {
        self.open_path(&Self::layer_path(key), OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// The layer of this name, if it is whole.
    pub fn layer(&self, key: &Digest) -> Result<Option<Layer>> {
        find_layer(&self.database(), &self.boot, key)
    }

    /// Names an unpacked layer that stands at its place. It counts in this boot only until an image with it is committed.
    pub fn record_layer(&self, key: &Digest, diff_id: &Digest, sealed: &Sealed) -> Result<()> {
        self.transaction(|t| {
            t.execute(
                "INSERT OR REPLACE INTO layer (key, diff_id, seal, disk, inodes, boot) VALUES (?, ?, ?, ?, ?, ?)",
                params![key, diff_id, sealed.seal, number(sealed.disk), number(sealed.inodes), self.boot],
            )?;
            Ok(())
        })
    }

    /// The size of a kept blob, if it is whole.
    pub fn blob(&self, digest: &Digest) -> Result<Option<u64>> {
        let size: Option<i64> = self
            .database()
            .query_row(
                "SELECT size FROM blob WHERE digest = ? AND (boot IS NULL OR boot = ?)",
                params![digest, self.boot],
                |row| row.get(0),
            )
            .optional()?;
        Ok(size.map(i64::cast_unsigned))
    }

    /// Names a kept blob that stands at its place, like [`Self::record_layer`].
    pub fn record_blob(&self, digest: &Digest, size: u64) -> Result<()> {
        self.transaction(|t| {
            t.execute(
                "INSERT OR REPLACE INTO blob (digest, size, boot) VALUES (?, ?, ?)",
                params![digest, number(size), self.boot],
            )?;
            Ok(())
        })
    }

    /// Moves something from `staging` to its place. What stands there already is garbage: the caller holds the lock of
    /// its name and found no row.
    pub fn place(&self, staged: &str, path: &str) -> Result<()> {
        let (holder, name) = path
            .split_once('/')
            .ok_or_else(|| crate::error::invalid("path in the store"))?;
        let holder = self.open_path(holder, OFlags::RDONLY | OFlags::DIRECTORY)?;
        crate::layout::remove::remove_all(holder.as_fd(), name.as_bytes())?;
        rustix::fs::renameat(&self.dir, staged, &self.dir, path)
            .call(|| format!("renameat({staged:?}, {path:?})"))
    }

    /// Waits until everything written so far is on disk. What it cannot be sure of is forgotten: the kernel tells a failed
    /// write once, and shows its bytes until it needs the memory.
    pub fn barrier(&self) -> Result<()> {
        let done = rustix::fs::syncfs(&self.dir).call(|| format!("syncfs({:?})", self.root));
        if done.is_err() {
            self.transaction(|t| {
                for table in ["layer", "blob"] {
                    let sql = format!("UPDATE {table} SET boot = 'lost' WHERE boot IS NOT NULL");
                    t.execute(&sql, [])?;
                }
                Ok(())
            })?;
            self.sweep_staging(Duration::ZERO)?;
        }
        done
    }

    /// Writes back what is made, from now until the result is dropped, so that the barrier has little left to do.
    pub fn write_back(&self) -> WriteBack {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        // A failed write is told once to each open description, so this one must not be the barrier's.
        let dir = self.open_path(".", OFlags::RDONLY | OFlags::DIRECTORY);
        let work = move || {
            while let (Err(RecvTimeoutError::Timeout), Ok(dir)) =
                (stopped.recv_timeout(WRITE_BACK), &dir)
            {
                if rustix::fs::syncfs(dir).is_err() {
                    return;
                }
            }
        };
        // Without the thread the barrier does it all.
        drop(
            std::thread::Builder::new()
                .name("write-back".to_owned())
                .spawn(work),
        );
        WriteBack { _stop: stop }
    }

    /// Makes an image visible and lasting: barrier, then one transaction.
    pub fn commit(&self, commit: &Commit) -> Result<()> {
        self.barrier()?;
        self.lasting_transaction(|t| images::insert(t, &self.boot, commit))
    }
}

/// Images have names that differ in case alone, which such a directory and all below it would take for one. See ext4(5).
fn refuse_folded_names(dir: &OwnedFd) -> Result<()> {
    /// `FS_CASEFOLD_FL` of linux/fs.h.
    const CASEFOLD: u32 = 0x4000_0000;
    match rustix::fs::ioctl_getflags(dir) {
        Ok(flags) if flags.bits() & CASEFOLD != 0 => Err(Error::new(
            ErrorKind::Unsupported,
            "the directory ignores case; images need one that does not (chattr -F)",
        )),
        // Most file systems have no such flags.
        _ => Ok(()),
    }
}

/// Takes the reserve, if there is none and there is room for it.
pub(crate) fn keep_reserve(dir: &OwnedFd) {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let made = rustix::fs::openat(dir, RESERVE, flags, Mode::RUSR | Mode::WUSR);
    if let Ok(file) = made
        && rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, RESERVE_SIZE).is_err()
    {
        // What there is then counts for nothing; the next one to open the store tries again.
        let _ = unlinkat(dir, RESERVE, AtFlags::empty());
    }
}

fn prepare(connection: &Connection) -> Result<()> {
    connection.busy_timeout(Duration::from_secs(30))?;
    // SQLite does not wait for others here, for the last of them may be taking the write-ahead log away.
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
                    && std::time::Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            other => break other?,
        }
    }
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        VERSION => Ok(()),
        0 => {
            let schema = include_str!("store/schema.sql");
            connection.execute_batch(&format!(
                "BEGIN IMMEDIATE; {schema} PRAGMA user_version = {VERSION}; COMMIT;"
            ))?;
            Ok(())
        }
        other => Err(Error::new(
            ErrorKind::Unsupported,
            format!("store has version {other}, this program knows version {VERSION}"),
        )),
    }
}

fn find_layer(connection: &Connection, boot: &str, key: &Digest) -> Result<Option<Layer>> {
    let found = connection
        .query_row(
            "SELECT key, diff_id, seal, disk, inodes FROM layer WHERE key = ? AND (boot IS NULL OR boot = ?)",
            params![key, boot],
            |row| {
                Ok(Layer {
                    key: row.get(0)?,
                    diff_id: row.get(1)?,
                    seal: row.get(2)?,
                    disk: row.get::<_, i64>(3)?.cast_unsigned(),
                    inodes: row.get::<_, i64>(4)?.cast_unsigned(),
                })
            },
        )
        .optional()?;
    Ok(found)
}

/// `sha256-<hex>`.
pub(crate) fn file_name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().name(), digest.hex())
}

/// The digest of a name made by [`file_name`].
pub(crate) fn parse_file_name(name: &str) -> Option<Digest> {
    name.replacen('-', ":", 1).parse().ok()
}

/// SQLite's integers are signed; no size reaches the sign.
pub(crate) fn number(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// Seconds since the epoch.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
