//! The file that the records go to.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use nix::errno::Errno;
use runtime_core::describe;

use super::lines;
use crate::disk::now;
use crate::failure::{Call, Result};

/// Most bytes that are brought from a file without a name to the next, where nobody can tell who has removed it.
const MOST_BROUGHT: u64 = 1 << 20;

/// A log: whole records or nothing.
///
/// What cannot be written for lack of space is dropped and counted, so that the container goes on; the log tells so
/// when there is space again.
///
/// A kubelet that does not hear that the log was opened anew renames the old file back, over the new one: what was
/// written to that since is brought to where the kubelet looks.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    /// Device and inode of the file before this one, which may be renamed back.
    former: Option<(u64, u64)>,
    dropped: u64,
    reason: Errno,
}

impl Log {
    /// Opens the log at `path`, and makes it where it is missing.
    pub(crate) fn open(path: PathBuf) -> Result<Self> {
        let file = open(&path)?;
        Ok(Self {
            path,
            file,
            former: None,
            dropped: 0,
            reason: Errno::ENOSPC,
        })
    }

    /// Goes on at the same path, which somebody has renamed the old file from.
    pub(crate) fn reopen(&mut self) -> Result<()> {
        let old = std::mem::replace(&mut self.file, open(&self.path)?);
        let found = old.metadata();
        let is_lost = |found: &Metadata| found.nlink() == 0 && found.len() <= MOST_BROUGHT;
        if self.former.is_some() && found.as_ref().is_ok_and(is_lost) {
            self.bring(&old);
        }
        self.former = found.ok().map(|found| identity(&found));
        Ok(())
    }

    /// Goes on with the file before this one, where that was renamed back over it.
    pub(crate) fn follow(&mut self) {
        let Some(former) = self.former else {
            return;
        };
        let has_name = self.file.metadata().map_or(true, |found| found.nlink() > 0);
        let is_back = || fs::symlink_metadata(&self.path).is_ok_and(|at| identity(&at) == former);
        if has_name || !is_back() {
            return;
        }
        if let Ok(file) = open(&self.path) {
            let lost = std::mem::replace(&mut self.file, file);
            self.former = None;
            self.bring(&lost);
        }
    }

    /// Appends all that is in `lost`, which has no name any more.
    fn bring(&mut self, lost: &File) {
        let length = lost.metadata().map_or(0, |found| found.len());
        let before = self.file.metadata().map_or(0, |found| found.len());
        let path = format!("/proc/self/fd/{}", lost.as_raw_fd());
        let copied = File::open(path).and_then(|mut from| std::io::copy(&mut from, &mut self.file));
        if let Err(error) = copied {
            drop(self.file.set_len(before));
            self.dropped += length;
            self.reason = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        }
    }

    /// Writes whole records.
    pub(crate) fn write(&mut self, records: &[u8]) {
        self.follow();
        if self.dropped > 0 {
            let stamp = lines::stamp(now());
            let text = format!(
                "{stamp} stderr F [ocirun: {} bytes of log were dropped: {}]\n",
                self.dropped,
                describe(self.reason)
            );
            if self.append(text.as_bytes()).is_ok() {
                self.dropped = 0;
            }
        }
        if let Err(errno) = self.append(records) {
            self.dropped += records.len() as u64;
            self.reason = errno;
        }
    }

    /// Appends all of `bytes`, or takes back what was written of them.
    fn append(&mut self, bytes: &[u8]) -> nix::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(written) if written > 0 => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => {
                    let written = bytes.len() - rest.len();
                    if written > 0 {
                        self.take_back(written as u64);
                    }
                    let errno = other.err().and_then(|error| error.raw_os_error());
                    return Err(errno.map_or(Errno::ENOSPC, Errno::from_raw));
                }
            }
        }
        Ok(())
    }

    /// Nobody else writes to the file, so its end is ours.
    fn take_back(&self, written: u64) {
        if let Ok(found) = self.file.metadata() {
            drop(self.file.set_len(found.len().saturating_sub(written)));
        }
    }
}

/// What tells a file from all others.
fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// The last name may not be a link: who can write to the directory must not choose another file of the host's.
fn open(path: &PathBuf) -> Result<File> {
    let mut options = OpenOptions::new();
    options
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NOCTTY);
    options
        .open(path)
        .call(|| format!("open({path:?}, O_APPEND|O_CREAT|O_NOFOLLOW)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log at `log` in a directory of its own, with one line.
    fn begun() -> (tempfile::TempDir, Log) {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::open(directory.path().join("log")).unwrap();
        log.write(b"1\n");
        (directory, log)
    }

    fn text(directory: &tempfile::TempDir, name: &str) -> String {
        fs::read_to_string(directory.path().join(name)).unwrap()
    }

    #[test]
    fn what_is_renamed_back_gets_all() {
        let (directory, mut log) = begun();
        let at = |name: &str| directory.path().join(name);
        fs::rename(at("log"), at("old")).unwrap();
        log.reopen().unwrap();
        log.write(b"2\n");
        fs::rename(at("old"), at("log")).unwrap();
        log.write(b"3\n");
        assert_eq!(text(&directory, "log"), "1\n2\n3\n");
        // Once more, and nothing is written before the next rotation.
        fs::rename(at("log"), at("old")).unwrap();
        log.reopen().unwrap();
        log.write(b"4\n");
        fs::rename(at("old"), at("log")).unwrap();
        fs::rename(at("log"), at("old")).unwrap();
        log.reopen().unwrap();
        log.write(b"5\n");
        assert_eq!(text(&directory, "old"), "1\n2\n3\n");
        assert_eq!(text(&directory, "log"), "4\n5\n");
    }

    #[test]
    fn what_somebody_removed_stays_so() {
        let (directory, mut log) = begun();
        fs::remove_file(directory.path().join("log")).unwrap();
        log.write(b"2\n");
        log.reopen().unwrap();
        log.write(b"3\n");
        assert_eq!(text(&directory, "log"), "3\n");
    }
}
