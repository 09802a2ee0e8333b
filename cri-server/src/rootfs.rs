//! The root file systems of containers: an image's layers and a writable one, as a detached mount that the shim attaches.
//! And image volumes, which are attached below the container's directory, where the shim binds them from.

use crate::error::{Context, Error, Kind, Reason, Result};
use crate::mountinfo::{self, Mount};
use image_store::mount::{Access, attach, mapped, open_or_make, overlay};
use image_store::{Digest, Store};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The empty directory at which roots are attached, each in a mount namespace of its own: every user can reach it.
#[must_use]
pub fn place(state: &Path) -> PathBuf {
    state.join("rootfs")
}

/// Opens layers, topmost first, shown by a user namespace's maps where there is one.
fn lowers(store: &Store, layers: &[Digest], user: Option<&OwnedFd>) -> Result<Vec<OwnedFd>> {
    let mut opened = Vec::new();
    for key in layers.iter().rev() {
        let layer = store.open_layer(key)?;
        opened.push(match user {
            Some(namespace) => mapped(layer.as_fd(), namespace.as_fd())?,
            None => layer,
        });
    }
    Ok(opened)
}

/// The layers with a writable one on top, as a detached mount.
///
/// `owner` is who owns the root of the writable layer: the host's id of the container's root.
///
/// # Errors
/// Those of the kernel.
pub fn writable(
    store: &Store,
    layers: &[Digest],
    dir: &Path,
    user: Option<(&OwnedFd, (u32, u32))>,
) -> Result<OwnedFd> {
    let opened = lowers(store, layers, user.map(|(namespace, _)| namespace))?;
    let lowers = opened.iter().map(AsFd::as_fd).collect::<Vec<_>>();
    let upper = open_or_make(&dir.join("upper"))?;
    let work = open_or_make(&dir.join("work"))?;
    if let Some(top) = opened.first() {
        as_below(top, &upper)?;
    } else if let Some((_, (uid, gid))) = user {
        own(&upper, uid, gid)?;
    }
    let empty = store.open_path("empty", OFlags::RDONLY | OFlags::DIRECTORY)?;
    let access = Access::ReadWrite {
        upper: upper.as_fd(),
        work: work.as_fd(),
    };
    Ok(overlay(&lowers, empty.as_fd(), access)?)
}

/// The root directory of the union is the upper one: it is as the image's own is.
fn as_below(layer: &OwnedFd, upper: &OwnedFd) -> Result<()> {
    let stat = rustix::fs::fstat(layer).call(|| "fstat(layer)")?;
    own(upper, stat.st_uid, stat.st_gid)?;
    rustix::fs::fchmod(upper, Mode::from_raw_mode(stat.st_mode & 0o7777)).call(|| "fchmod(upper)")
}

fn own(dir: &OwnedFd, uid: u32, gid: u32) -> Result<()> {
    let (uid, gid) = (
        rustix::fs::Uid::from_raw(uid),
        rustix::fs::Gid::from_raw(gid),
    );
    rustix::fs::fchown(dir, Some(uid), Some(gid)).call(|| "fchown(upper)")
}

/// Attaches an image's layers read-only at `target`, and returns the path of `sub` below it.
///
/// # Errors
/// With kubelet's word for it: those of the kernel, and a path that the image does not have.
pub fn volume(
    store: &Store,
    layers: &[Digest],
    target: &Path,
    sub: &str,
    user: Option<&OwnedFd>,
) -> Result<PathBuf> {
    let failed = |error: Error| error.as_kind(Kind::Reason(Reason::ImageVolumeMountFailed));
    let mount = || {
        std::fs::create_dir_all(target).call(|| format!("mkdir {target:?}"))?;
        let opened = lowers(store, layers, user)?;
        let lowers = opened.iter().map(AsFd::as_fd).collect::<Vec<_>>();
        let empty = store.open_path("empty", OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mount = overlay(&lowers, empty.as_fd(), Access::Volume)?;
        attach(&mount, target)?;
        if sub.is_empty() {
            return Ok(target.to_owned());
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let root = rustix::fs::open(target, flags | OFlags::DIRECTORY, Mode::empty())
            .call(|| format!("open {target:?}"))?;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let found = openat2(&root, sub, flags, Mode::empty(), resolve)
            .call(|| format!("image_sub_path {sub:?}"))?;
        let link = format!("/proc/self/fd/{}", found.as_raw_fd());
        std::fs::read_link(&link).call(|| format!("readlink {link:?}"))
    };
    mount().map_err(failed)
}

/// Takes away all that is mounted below a directory, the last first; what is busy vanishes with its last user.
///
/// # Errors
/// Those of umount(2), after everything was tried.
pub fn unmount_below(dir: &Path) -> Result<()> {
    use rustix::mount::{UnmountFlags, unmount};
    // The table has no links in it.
    let dir = match std::fs::canonicalize(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        found => found.call(|| format!("resolve {dir:?}"))?,
    };
    let mut first = Ok(());
    let mut mounts = mountinfo::read()?;
    mounts.retain(|mount| mount.point.starts_with(&dir));
    for Mount { point, .. } in mounts.iter().rev() {
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        match unmount(point, flags) {
            // Gone meanwhile, with what it was on.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            done => {
                let done = done.call(|| format!("umount2({point:?}, MNT_DETACH)"));
                first = first.and(done);
            }
        }
    }
    first
}

/// Removes a directory with all in it; one that is not there is removed.
///
/// # Errors
/// Those of the file system.
pub fn remove_tree(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done.call(|| format!("remove {dir:?}")),
    }
}
