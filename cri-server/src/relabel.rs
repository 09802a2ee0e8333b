//! SELinux labels of volumes: where a request says so, everything in a volume gets the label that its container may use.
//!
//! Somebody else may be at work in the volume meanwhile, so everything is reached by the descriptor of its directory,
//! and no link is followed.

use crate::error::{Context, Error, Kind, Result, invalid};
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, XattrFlags, fstat, openat, setxattr};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Where a label is kept.
pub const ATTRIBUTE: &str = "security.selinux";

/// How deep directories may lie: each takes a descriptor meanwhile.
const DEEPEST: usize = 512;

/// Directories that belong to the whole machine: with another label on them it would not run for long.
const OF_ALL: [&str; 23] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt",
    "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib",
    "/var/log", "/var/tmp",
];

/// Refuses to relabel what belongs to the whole machine.
///
/// # Errors
/// `Invalid` with the field's name.
pub fn check(path: &Path, field: &str) -> Result<()> {
    if OF_ALL.iter().any(|dir| path == Path::new(dir)) {
        let text = format!("{path:?} belongs to the whole machine, and is not relabelled");
        return Err(invalid(field, text));
    }
    Ok(())
}

/// Gives `attribute` of a file, or of a directory with all in it, the value `label`. A file system that keeps no labels
/// is left as it is.
///
/// # Errors
/// Those of the file system; `Exhausted` for directories that are nested too deeply.
pub fn relabel(path: &Path, attribute: &str, label: &str) -> Result<()> {
    // With the NUL byte, as the tools of SELinux write it.
    let value = [label.as_bytes(), b"\0"].concat();
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let top = openat(CWD, path, flags, Mode::empty()).call(|| format!("open {path:?}"))?;
    let labels = Labels {
        attribute,
        value: &value,
    };
    labels
        .tree(&top, 0)
        .map_err(|error| error.at(format!("relabel {path:?}")))
}

struct Labels<'a> {
    attribute: &'a str,
    value: &'a [u8],
}

impl Labels<'_> {
    fn tree(&self, file: &OwnedFd, depth: usize) -> Result<()> {
        self.set(file.as_fd())?;
        let stat = fstat(file).call(|| "fstat")?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(());
        }
        if depth == DEEPEST {
            let text = format!("directories lie more than {DEEPEST} deep");
            return Err(Error::new(Kind::Exhausted, text));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(file, c".", flags, Mode::empty());
        let mut dir = dir.and_then(Dir::new).call(|| "open a directory")?;
        while let Some(entry) = dir.read() {
            let entry = entry.call(|| "getdents64")?;
            let name = entry.file_name();
            if ![c".", c".."].contains(&name) {
                self.entry(file, name, depth)?;
            }
        }
        Ok(())
    }

    fn entry(&self, dir: &OwnedFd, name: &CStr, depth: usize) -> Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(dir, name, flags, Mode::empty()) {
            // Gone meanwhile.
            Err(Errno::NOENT) => Ok(()),
            file => self.tree(&file.call(|| format!("open {name:?}"))?, depth + 1),
        }
    }

    fn set(&self, file: BorrowedFd<'_>) -> Result<()> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        match setxattr(&path, self.attribute, self.value, XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP) => Ok(()),
            done => done.call(|| format!("setxattr({:?})", self.attribute)),
        }
    }
}
