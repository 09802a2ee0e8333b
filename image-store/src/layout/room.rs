//! The room that a layer must leave to everybody else on the file system, see statvfs(3).

use crate::error::{Context, Error, ErrorKind, Result};
use rustix::fs::{StatVfs, fstatvfs};
use std::os::fd::OwnedFd;

/// Bytes written between two looks at the file system.
const STEP: u64 = 16 << 20;
/// What a file takes beside its content.
pub(super) const FILE: u64 = 4096;
/// Bytes and inodes that are left free, or a hundredth of the file system where that is less.
const BYTES: u64 = 128 << 20;
const INODES: u64 = 4096;

/// Counts what is written.
#[derive(Debug, Default)]
pub(super) struct Room {
    unchecked: u64,
}

impl Room {
    /// Asks for room for `bytes` more in `file`.
    pub(super) fn take(&mut self, file: &OwnedFd, bytes: u64) -> Result<()> {
        self.unchecked += bytes;
        if self.unchecked < STEP {
            return Ok(());
        }
        self.unchecked = 0;
        check(&fstatvfs(file).call(|| "fstatvfs")?)
    }
}

fn check(stat: &StatVfs) -> Result<()> {
    let reserve = BYTES.min(stat.f_blocks.saturating_mul(stat.f_frsize) / 100);
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let too_little = |free: u64, reserve: u64, unit: &str| {
        let text = format!("No space left for a layer: {free} {unit} are free, {reserve} are kept");
        Err(Error::new(ErrorKind::NoSpace, text))
    };
    if free < reserve {
        return too_little(free, reserve, "bytes");
    }
    // Where inodes are made at need, none are counted.
    let reserve = INODES.min(stat.f_files / 100);
    if stat.f_favail < reserve {
        return too_little(stat.f_favail, reserve, "inodes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_it_is_kept() {
        let stat = |bytes: u64, free: u64, files: u64, inodes: u64| StatVfs {
            f_bsize: 4096,
            f_frsize: 4096,
            f_blocks: bytes / 4096,
            f_bfree: free / 4096,
            f_bavail: free / 4096,
            f_files: files,
            f_ffree: inodes,
            f_favail: inodes,
            f_fsid: 0,
            f_flag: rustix::fs::StatVfsMountFlags::empty(),
            f_namemax: 255,
        };
        const GIB: u64 = 1 << 30;
        for (bytes, free, files, inodes, fits) in [
            (100 * GIB, GIB, 1_000_000, 500_000, true),
            (100 * GIB, 100 << 20, 1_000_000, 500_000, false),
            (GIB, 11 << 20, 1_000_000, 500_000, true),
            (GIB, 10 << 20, 1_000_000, 500_000, false),
            (100 * GIB, GIB, 1_000_000, 4000, false),
            (100 * GIB, GIB, 300, 3, true),
            (100 * GIB, GIB, 300, 2, false),
            (100 * GIB, GIB, 0, 0, true),
        ] {
            let checked = check(&stat(bytes, free, files, inodes));
            assert_eq!(
                checked.is_ok(),
                fits,
                "{free} of {bytes}, {inodes} of {files}"
            );
            if let Err(error) = checked {
                assert_eq!(error.kind(), ErrorKind::NoSpace);
            }
        }
    }
}
