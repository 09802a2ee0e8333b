//! Lists and removes names in directories, without following a link or leaving their file system.

use super::dirs::shown;
use crate::error::{Context, Result};
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Removes a name and, if it is a directory, all below it, without following a link.
///
/// Directories further down are moved up as they are found, so that any depth needs three descriptors.
pub fn remove_all(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    if unlink(dir, name)? {
        return Ok(());
    }
    let top = open_to_empty(dir, name)?;
    let mut moved: u64 = 0;
    loop {
        let children = names(top.as_fd())?;
        if children.is_empty() {
            break;
        }
        for child in children {
            if unlink(top.as_fd(), &child)? {
                continue;
            }
            let inner = open_to_empty(top.as_fd(), &child)?;
            for grandchild in names(inner.as_fd())? {
                if !unlink(inner.as_fd(), &grandchild)? {
                    move_up(inner.as_fd(), &grandchild, top.as_fd(), &mut moved)?;
                }
            }
            remove_empty(top.as_fd(), &child)?;
        }
    }
    drop(top);
    remove_empty(dir, name)
}

/// Whether the name is gone; false if it is a directory.
fn unlink(dir: BorrowedFd<'_>, name: &[u8]) -> Result<bool> {
    use rustix::io::Errno;
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        Err(error) => Err(error).call(|| format!("unlinkat({:?})", shown(name))),
    }
}

fn open_to_empty(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if !rustix::process::geteuid().is_root() {
        // A directory of ours that its mode closes even to us.
        let path = openat(
            dir,
            name,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .call(|| format!("openat({:?})", shown(name)))?;
        rustix::fs::chmod(format!("/proc/self/fd/{}", path.as_raw_fd()), Mode::RWXU)
            .call(|| "chmod")?;
    }
    openat(dir, name, flags, Mode::empty()).call(|| format!("openat({:?})", shown(name)))
}

fn move_up(from: BorrowedFd<'_>, name: &[u8], to: BorrowedFd<'_>, moved: &mut u64) -> Result<()> {
    use rustix::io::Errno;
    loop {
        *moved += 1;
        match rustix::fs::renameat(from, name, to, format!(".removed-{moved}")) {
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            done => return done.call(|| format!("renameat({:?})", shown(name))),
        }
    }
}

fn remove_empty(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        done => done.call(|| format!("unlinkat({:?}, AT_REMOVEDIR)", shown(name))),
    }
}

/// The names in a directory, sorted, without the two dots.
pub fn names(dir: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir).call(|| "read directory")? {
        let entry = entry.call(|| "read directory")?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}
