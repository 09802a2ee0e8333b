//! A directory for one run, beside the images. What a killed run left is removed by the next.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

const PREFIX: &str = "run-";

/// The directory, removed on drop.
#[derive(Debug)]
pub struct Scratch {
    directory: TempDir,
    /// Tells others that somebody is here.
    _lock: Flock<File>,
}

impl Scratch {
    /// A new directory below this one.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn new(parent: &Path) -> io::Result<Self> {
        // One at a time: a directory that is not yet locked looks abandoned.
        let _turn = lock(parent, FlockArg::LockExclusive)?;
        for entry in fs::read_dir(parent)?.flatten() {
            let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
            if ours && lock(&entry.path(), FlockArg::LockExclusiveNonblock).is_ok() {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        let lock = lock(directory.path(), FlockArg::LockExclusive)?;
        Ok(Self {
            directory,
            _lock: lock,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

fn lock(directory: &Path, how: FlockArg) -> io::Result<Flock<File>> {
    let file = File::open(directory)?;
    Flock::lock(file, how).map_err(|(_, errno)| errno.into())
}

#[cfg(test)]
mod tests {
    use super::Scratch;

    #[test]
    fn what_nobody_holds_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let abandoned = parent.path().join("run-abandoned");
        std::fs::create_dir(&abandoned).unwrap();
        let first = Scratch::new(parent.path()).unwrap();
        let second = Scratch::new(parent.path()).unwrap();
        assert!(!abandoned.exists());
        assert!(first.path().exists() && second.path().exists());
    }
}
