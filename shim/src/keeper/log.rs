//! The file that the records go to.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use nix::errno::Errno;
use runtime_core::describe;

use super::lines;
use crate::disk::now;
use crate::failure::{Call, Result};

/// A log: whole records or nothing.
///
/// What cannot be written for lack of space is dropped and counted, so that the container goes on; the log tells so
/// when there is space again.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
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
            dropped: 0,
            reason: Errno::ENOSPC,
        })
    }

    /// Goes on at the same path, which somebody has renamed the old file from.
    pub(crate) fn reopen(&mut self) -> Result<()> {
        self.file = open(&self.path)?;
        Ok(())
    }

    /// Writes whole records.
    pub(crate) fn write(&mut self, records: &[u8]) {
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
