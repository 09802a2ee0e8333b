//! An overlay whose layers are named by paths, for kernels that take no descriptors: before Linux 6.5 all layers come in
//! one option string of at most a page, and before 6.15 each has to be attached somewhere.
//!
//! A thread with a mount namespace of its own attaches them to a tmpfs under short names, mounts the overlay there, and
//! hands out a detached clone of it; everything else goes with its namespace. See mount(2) and mount_namespaces(7).

use super::Access;
use crate::error::{Context, Error, ErrorKind, Result};
use nix::sched::{CloneFlags, unshare};
use runtime_core::kernel::mount::{self as kernel, Scope};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, mkdirat, openat, statat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, fsconfig_create, fsmount, fsopen, mount, mount_change, move_mount, open_tree,
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Where the overlay is mounted before it is detached.
const TARGET: &str = "overlay";

/// See [`super::overlay`].
pub(super) fn overlay(
    lowers: &[BorrowedFd<'_>],
    empty: BorrowedFd<'_>,
    access: Access<'_>,
) -> Result<OwnedFd> {
    let all = lowers.iter().chain([&empty]);
    let mut trees = all.map(|lower| tree(*lower)).collect::<Result<Vec<_>>>()?;
    let names = (0..trees.len()).map(|number| number.to_string());
    let mut options = b"lowerdir=".to_vec();
    options.extend(names.collect::<Vec<_>>().join(":").bytes());
    if !rustix::process::geteuid().is_root() {
        options.extend(b",userxattr");
    }
    let flags = match access {
        Access::ReadOnly => MountFlags::RDONLY,
        Access::Volume => MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID,
        Access::ReadWrite { upper, work } => {
            let (parent, [upper, work]) = siblings([upper, work])?;
            let parent_name = trees.len();
            trees.push(tree(parent.as_fd())?);
            for (key, name) in [("upperdir", upper), ("workdir", work)] {
                options.extend(format!(",{key}={parent_name}/").bytes());
                options.extend(escaped(&name));
            }
            MountFlags::empty()
        }
    };
    let work = || mounted(&trees, flags, &options);
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Invalid, "mount(\"overlay\"): panic")))
}

/// What can be attached for a directory: a detached clone, or the directory's mount itself if that is detached.
fn tree(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    match kernel::clone_of(dir, Scope::One) {
        Err(nix::errno::Errno::EINVAL) => {
            dir.try_clone_to_owned().call(|| "fcntl(F_DUPFD_CLOEXEC)")
        }
        cloned => cloned
            .map_err(std::io::Error::from)
            .call(|| format!("open_tree([{}])", dir.as_raw_fd())),
    }
}

/// The directory in which both stand, and their names there: overlay wants them below one mount.
fn siblings(dirs: [BorrowedFd<'_>; 2]) -> Result<(OwnedFd, [Vec<u8>; 2])> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = openat(dirs[0], "..", flags, Mode::empty()).call(|| "openat(upper, \"..\")")?;
    let name = |dir: BorrowedFd<'_>| {
        let link = format!("/proc/self/fd/{}", dir.as_raw_fd());
        let path = std::fs::read_link(&link).call(|| format!("readlink({link:?})"))?;
        let name = path.file_name().unwrap_or_default().as_bytes().to_vec();
        let there = statat(&parent, &name[..], AtFlags::SYMLINK_NOFOLLOW).ok();
        let itself = fstat(dir).call(|| "fstat")?;
        if there.map(|stat| (stat.st_dev, stat.st_ino)) == Some((itself.st_dev, itself.st_ino)) {
            return Ok(name);
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("{path:?}: before Linux 6.5, upper and work have to be in one directory"),
        ))
    };
    let names = [name(dirs[0])?, name(dirs[1])?];
    Ok((parent, names))
}

/// A name in an option string of overlay.
fn escaped(name: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(name.len());
    for byte in name {
        if b",:\\".contains(byte) {
            text.push(b'\\');
        }
        text.push(*byte);
    }
    text
}

/// Attaches the trees under their numbers and mounts the overlay over them. Leaves the thread in a namespace of its own.
fn mounted(trees: &[OwnedFd], flags: MountFlags, options: &[u8]) -> Result<OwnedFd> {
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(std::io::Error::from)
        .call(|| "unshare(CLONE_NEWNS)")?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).call(|| "mount(\"/\", MS_REC|MS_PRIVATE)")?;
    let base = tmpfs()?;
    attach(&base, "/")?;
    rustix::process::fchdir(&base).call(|| "fchdir(tmpfs)")?;
    for (number, tree) in trees.iter().enumerate() {
        let name = number.to_string();
        mkdirat(CWD, &name, Mode::RWXU).call(|| format!("mkdir({name:?})"))?;
        attach(tree, &name)?;
    }
    mkdirat(CWD, TARGET, Mode::RWXU).call(|| format!("mkdir({TARGET:?})"))?;
    let options = std::ffi::CString::new(options)
        .map_err(|_| crate::error::invalid("name with a zero byte"))?;
    mount("overlay", TARGET, "overlay", flags, Some(&*options))
        .call(|| format!("mount(\"overlay\", {} directories)", trees.len()))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, TARGET, flags).call(|| "open_tree(overlay)")
}

fn tmpfs() -> Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).call(|| "fsopen(\"tmpfs\")")?;
    fsconfig_create(context.as_fd()).call(|| "fsconfig(tmpfs, FSCONFIG_CMD_CREATE)")?;
    let attributes = MountAttrFlags::empty();
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).call(|| "fsmount(tmpfs)")
}

fn attach(tree: &OwnedFd, at: &str) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(tree, "", CWD, at, flags).call(|| format!("move_mount({at:?})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_options() {
        for (name, text) in [("upper", "upper"), ("a,b", r"a\,b"), (r"a:b\c", r"a\:b\\c")] {
            assert_eq!(escaped(name.as_bytes()), text.as_bytes());
        }
    }
}
