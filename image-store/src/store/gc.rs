//! Garbage collection: what no image and no lease names is removed, and what no row names at all.
//!
//! Rows go first, in one lasting transaction; then each file is removed under the lock of its name, after a look whether
//! a row for it came back. So a pull that begins at any moment finds either a row with its file, or neither.

use super::{Store, file_name, now, parse_file_name};
use crate::error::{Context, Result};
use crate::layout::remove::{names, remove_all};
use rusqlite::params;
use rustix::fs::{AtFlags, OFlags, statat};
use serde::Serialize;
use std::os::fd::AsFd;
use std::time::Duration;

/// How long the begun download of a killed pull is kept for the next one.
pub const PARTIAL_AGE: Duration = Duration::from_secs(24 * 3600);

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Unpacked layers.
    pub layers: u64,
    /// Kept blobs.
    pub blobs: u64,
    /// Leftovers of killed operations.
    pub leftovers: u64,
    /// Bytes of layers and blobs, as recorded.
    pub bytes: u64,
}

/// What is on disk, by purpose. The sum is all there is below the root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Images.
    pub images: u64,
    /// Unpacked layers and their bytes of disk.
    pub layers: (u64, u64),
    /// Kept blobs and their bytes.
    pub blobs: (u64, u64),
    /// Inodes of the unpacked layers.
    pub inodes: u64,
    /// Bytes that a collection would free.
    pub reclaimable: u64,
    /// Unfinished work and its count of entries.
    pub staging: u64,
}

const LIVE_LAYER: &str = "key IN (SELECT layer FROM image_layer) OR \
     ((boot IS NULL OR boot = ?1) AND key IN (SELECT key FROM lease_item WHERE kind = 'layer'))";
const LIVE_BLOB: &str = "digest IN (SELECT blob FROM image_layer) OR \
     ((boot IS NULL OR boot = ?1) AND digest IN (SELECT key FROM lease_item WHERE kind = 'blob'))";

impl Store {
    /// Removes garbage. Begun downloads younger than `partial_age` stay.
    pub fn collect(&self, partial_age: Duration) -> Result<Collected> {
        // First what needs no transaction: on a full disk there is none.
        let staged = self.sweep_staging(partial_age)?;
        self.drop_dead_leases()?;
        let mut collected = self.lasting_transaction(|t| {
            let mut collected = Collected::default();
            let sum = |table: &str, column: &str, live: &str| -> Result<i64> {
                let sql = format!("SELECT coalesce(sum({column}), 0) FROM {table} WHERE NOT ({live})");
                Ok(t.query_row(&sql, params![self.boot()], |row| row.get(0))?)
            };
            let bytes = sum("layer", "disk", LIVE_LAYER)? + sum("blob", "size", LIVE_BLOB)?;
            collected.bytes = bytes.cast_unsigned();
            let drop_rows = |table: &str, live: &str| -> Result<u64> {
                Ok(t.execute(&format!("DELETE FROM {table} WHERE NOT ({live})"), params![self.boot()])? as u64)
            };
            collected.layers = drop_rows("layer", LIVE_LAYER)?;
            collected.blobs = drop_rows("blob", LIVE_BLOB)?;
            t.execute(
                "DELETE FROM document WHERE digest NOT IN (SELECT manifest FROM image UNION SELECT config FROM image \
                 UNION SELECT resolved FROM tag UNION SELECT resolved FROM reached)",
                [],
            )?;
            // No registry keeps half an upload for longer than this.
            t.execute(
                "DELETE FROM upload WHERE updated < ?",
                [now() - i64::try_from(partial_age.as_secs()).unwrap_or(i64::MAX)],
            )?;
            t.execute(
                "DELETE FROM source WHERE digest NOT IN (SELECT digest FROM document UNION \
                 SELECT blob FROM image_layer UNION SELECT manifest FROM quarantine)",
                [],
            )?;
            Ok(collected)
        })?;
        let named = collected.layers + collected.blobs;
        let removed = self.sweep("layers")? + self.sweep("blobs")?;
        collected.leftovers = removed.saturating_sub(named) + staged + self.sweep_locks()?;
        self.database()
            .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
        super::keep_reserve(self.dir());
        Ok(collected)
    }

    fn drop_dead_leases(&self) -> Result<()> {
        let leases = {
            let database = self.database();
            let mut query = database.prepare("SELECT id, boot, expires FROM lease")?;
            query
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<rusqlite::Result<Vec<(String, Option<String>, Option<i64>)>>>()?
        };
        for (id, boot, expires) in leases {
            let is_over = boot.is_some_and(|boot| boot != self.boot())
                || expires.is_some_and(|at| at < now());
            if is_over || self.is_abandoned(&id)? {
                self.release(&id)?;
            }
        }
        Ok(())
    }

    /// Removes files that no row names.
    fn sweep(&self, holder: &str) -> Result<u64> {
        let dir = self.open_path(holder, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut removed = 0;
        for name in names(dir.as_fd())? {
            let digest = std::str::from_utf8(&name).ok().and_then(parse_file_name);
            let Some(digest) = digest else {
                remove_all(dir.as_fd(), &name)?;
                removed += 1;
                continue;
            };
            let is_named = || {
                let sql = match holder {
                    "layers" => "SELECT count(*) FROM layer WHERE key = ?",
                    _ => "SELECT count(*) FROM blob WHERE digest = ?",
                };
                self.database()
                    .query_row(sql, [digest], |row| row.get::<_, i64>(0))
            };
            if is_named()? > 0 {
                continue;
            }
            // Whoever holds the lock is about to name it, or to remove it.
            if let Some(_lock) = self.try_lock(&digest)?
                && is_named()? == 0
            {
                remove_all(dir.as_fd(), &name)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    pub(super) fn sweep_staging(&self, partial_age: Duration) -> Result<u64> {
        let dir = self.open_path("staging", OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut removed = 0;
        for name in names(dir.as_fd())? {
            let text = String::from_utf8_lossy(&name).into_owned();
            let (stem, kind) = text.rsplit_once('.').unwrap_or((&text, ""));
            let _lock = match parse_file_name(stem) {
                None if stem.starts_with("process-") && !self.is_abandoned(stem)? => continue,
                None => None,
                Some(digest) => match self.try_lock(&digest)? {
                    None => continue,
                    lock => lock,
                },
            };
            if kind == "part" && !self.is_older(&dir, &name, partial_age)? {
                continue;
            }
            remove_all(dir.as_fd(), &name)?;
            removed += 1;
        }
        Ok(removed)
    }

    fn is_older(&self, dir: &std::os::fd::OwnedFd, name: &[u8], age: Duration) -> Result<bool> {
        match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => Ok(false),
            stat => {
                let stat = stat.call(|| format!("stat({:?})", String::from_utf8_lossy(name)))?;
                Ok(now() - stat.st_mtime >= i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
            }
        }
    }

    /// Lock files of dead processes.
    fn sweep_locks(&self) -> Result<u64> {
        let dir = self.open_path("run", OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut removed = 0;
        for name in names(dir.as_fd())? {
            let text = String::from_utf8_lossy(&name).into_owned();
            let lock = match parse_file_name(&text) {
                Some(digest) => self.try_lock(&digest)?.is_some(),
                None => self.is_abandoned(&text)?,
            };
            removed += u64::from(lock);
        }
        Ok(removed)
    }

    /// What the store holds.
    pub fn usage(&self) -> Result<Usage> {
        let database = self.database();
        let pair = |sql: &str| -> Result<(u64, u64)> {
            let row = database.query_row(sql, [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
            })?;
            Ok((row.0.cast_unsigned(), row.1.cast_unsigned()))
        };
        let (images, _) = pair("SELECT count(*), 0 FROM image")?;
        let layers = pair("SELECT count(*), coalesce(sum(disk), 0) FROM layer")?;
        let (inodes, _) = pair("SELECT coalesce(sum(inodes), 0), 0 FROM layer")?;
        let blobs = pair("SELECT count(*), coalesce(sum(size), 0) FROM blob")?;
        let dead = |table: &str, column: &str, live: &str| -> Result<i64> {
            let sql = format!("SELECT coalesce(sum({column}), 0) FROM {table} WHERE NOT ({live})");
            Ok(database.query_row(&sql, params![self.boot()], |row| row.get(0))?)
        };
        let reclaimable = dead("layer", "disk", LIVE_LAYER)? + dead("blob", "size", LIVE_BLOB)?;
        let staging = self.open_path("staging", OFlags::RDONLY | OFlags::DIRECTORY)?;
        let staging = names(staging.as_fd())?.len() as u64;
        Ok(Usage {
            images,
            layers,
            blobs,
            inodes,
            reclaimable: reclaimable.cast_unsigned(),
            staging,
        })
    }

    /// The path in `staging` of a blob that is being fetched.
    pub fn partial_path(digest: &crate::Digest) -> String {
        format!("staging/{}.part", file_name(digest))
    }

    /// The path in `staging` of a layer that is being unpacked.
    pub fn unpacking_path(diff_id: &crate::Digest) -> String {
        format!("staging/{}.dir", file_name(diff_id))
    }
}
