//! An image's layers as one overlay mount, as a detached descriptor that its holder attaches where and in whatever mount
//! namespace it likes.
//!
//! Layers go in one by one (`lowerdir+`, Linux 6.5; by descriptor 6.13), so their number is not bounded by the length of
//! an option string; older kernels are served by `paths.rs`. See mount_namespaces(7), fsopen(2), and overlayfs.rst in the
//! kernel's documentation.

mod paths;

use crate::error::{Context, Error, ErrorKind, Result};
use runtime_core::kernel::mount::{self as kernel, Scope};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Whether and where a mount takes changes.
#[derive(Debug, Clone, Copy)]
pub enum Access<'a> {
    /// Nothing can be changed.
    ReadOnly,
    /// Nothing can be changed, and what the image says of devices and set-id bits does not count: for image volumes, and
    /// for looking at an image from outside.
    Volume,
    /// Changes go to these directories, which lie on one file system.
    ReadWrite {
        /// The changed and new files.
        upper: BorrowedFd<'a>,
        /// The kernel's scratch directory; empty, for this mount alone.
        work: BorrowedFd<'a>,
    },
}

const INVALID: ErrorKind = ErrorKind::Os(Errno::INVAL.raw_os_error());

/// Makes the mount. `lowers` are the layers' directories, topmost first, or what [`mapped`] made of them, which is used up
/// by that; `empty` is an empty directory, because a read-only overlay wants two layers at least.
///
/// # Errors
/// The kernel's. Before Linux 6.5 the directories of [`Access::ReadWrite`] have to be in one directory.
pub fn overlay(
    lowers: &[BorrowedFd<'_>],
    empty: BorrowedFd<'_>,
    access: Access<'_>,
) -> Result<OwnedFd> {
    match by_descriptors(lowers, empty, access) {
        // Before 6.5 an option cannot be a descriptor at all, before 6.15 it cannot be that of a mapped layer.
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | INVALID) => {
            paths::overlay(lowers, empty, access).map_err(|other| other.at(error))
        }
        made => made,
    }
}

fn by_descriptors(
    lowers: &[BorrowedFd<'_>],
    empty: BorrowedFd<'_>,
    access: Access<'_>,
) -> Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).call(|| "fsopen(\"overlay\")")?;
    let mut by = By::Descriptor;
    for lower in lowers.iter().chain([&empty]) {
        by = set(&context, "lowerdir+", *lower, by)?;
    }
    let attributes = match access {
        Access::ReadOnly => MountAttrFlags::MOUNT_ATTR_RDONLY,
        Access::Volume => {
            MountAttrFlags::MOUNT_ATTR_RDONLY
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOSUID
        }
        Access::ReadWrite { upper, work } => {
            by = set(&context, "upperdir", upper, by)?;
            set(&context, "workdir", work, by)?;
            MountAttrFlags::empty()
        }
    };
    if !rustix::process::geteuid().is_root() {
        fsconfig_set_flag(context.as_fd(), "userxattr").call(|| "fsconfig(\"userxattr\")")?;
    }
    fsconfig_create(context.as_fd()).map_err(|error| explained(&context, error))?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).call(|| "fsmount(overlay)")
}

/// A layer whose owners are shown by the maps of a user namespace: id 0 of the layer is what the namespace calls 0, and so
/// on; nothing is copied and nothing changed on disk. The result is detached, its holder's own, and takes the layer's
/// place among the lower layers.
///
/// # Errors
/// Of mount_setattr(2): the file system cannot show other owners, or the namespace is the machine's.
pub fn mapped(layer: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    let errno = |call: &'static str| move |errno| Error::os(call, &std::io::Error::from(errno));
    let view = kernel::clone_of(layer, Scope::One).map_err(errno("open_tree(layer)"))?;
    kernel::set_id_map(view.as_fd(), Scope::One, user_namespace)
        .map_err(errno("mount_setattr(layer, MOUNT_ATTR_IDMAP)"))?;
    Ok(view)
}

/// How a layer is named to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Descriptor,
    Path,
}

fn set(context: &OwnedFd, key: &str, dir: BorrowedFd<'_>, by: By) -> Result<By> {
    if by == By::Descriptor {
        match fsconfig_set_fd(context.as_fd(), key, dir) {
            Ok(()) => return Ok(By::Descriptor),
            // Before 6.13 an option cannot be a descriptor.
            Err(Errno::INVAL) => {}
            Err(error) => {
                return Err(error).call(|| format!("fsconfig({key:?}, [{}])", dir.as_raw_fd()));
            }
        }
    }
    let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
    match fsconfig_set_string(context.as_fd(), key, &path) {
        Ok(()) => Ok(By::Path),
        Err(error) => Err(explained(context, error).at(format!("fsconfig({key:?}, {path:?})"))),
    }
}

/// The kernel's own words about a failed configuration, which it keeps in the context.
fn explained(context: &OwnedFd, error: Errno) -> Error {
    let mut message = [0; 512];
    let length = rustix::io::read(context, &mut message[..]).unwrap_or(0);
    let text = String::from_utf8_lossy(&message[..length]);
    let text = text.trim().trim_start_matches("e ");
    let call = if text.is_empty() {
        "fsconfig(FSCONFIG_CMD_CREATE)".to_owned()
    } else {
        text.to_owned()
    };
    Error::os(call, &error.into())
}

/// Attaches a detached mount at a directory.
pub fn attach(mount: &OwnedFd, target: &Path) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(mount, "", CWD, target, flags).call(|| format!("move_mount({target:?})"))
}

/// Takes the topmost mount at a directory away; busy ones vanish with their last user.
pub fn detach(target: &Path) -> Result<()> {
    match unmount(target, UnmountFlags::NOFOLLOW) {
        Err(Errno::INVAL) => Err(Error::new(
            ErrorKind::NotFound,
            format!("umount2({target:?}): nothing is mounted there"),
        )),
        done => done.call(|| format!("umount2({target:?})")),
    }
}

/// Opens a directory, and makes it if it does not exist.
pub fn open_or_make(dir: &Path) -> Result<OwnedFd> {
    std::fs::create_dir_all(dir).call(|| format!("mkdir {dir:?}"))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty()).call(|| format!("open {dir:?}"))
}
