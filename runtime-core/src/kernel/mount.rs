//! The mount API by descriptors.
//!
//! Kernel: open_tree, move_mount, fsopen, fsconfig and fsmount 5.2, mount_setattr 5.12. There is no other way here.
//! See open_tree(2), move_mount(2), fsopen(2), fsconfig(2), fsmount(2), mount_setattr(2).

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::fd::owned;
use super::{check, narrow};

const OPEN_TREE_CLONE: libc::c_uint = 1;
const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC.cast_unsigned();
const AT_EMPTY_PATH: libc::c_uint = libc::AT_EMPTY_PATH.cast_unsigned();
const AT_RECURSIVE: libc::c_uint = 0x8000;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;

/// How much of a tree of mounts a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One mount.
    One,
    /// The mount and all below it.
    Tree,
}

impl Scope {
    fn at_flags(self) -> libc::c_uint {
        match self {
            Self::One => 0,
            Self::Tree => AT_RECURSIVE,
        }
    }
}

/// Attributes of a mount, `MOUNT_ATTR_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub u64);

impl Attributes {
    /// Read-only.
    pub const RDONLY: Self = Self(0x1);
    /// Set-user-id bits have no effect.
    pub const NOSUID: Self = Self(0x2);
    /// Device nodes cannot be opened.
    pub const NODEV: Self = Self(0x4);
    /// Programs cannot be executed.
    pub const NOEXEC: Self = Self(0x8);
    /// The bits that hold one of the three policies for access times.
    pub const ATIME: Self = Self(0x70);
    /// Access times are never updated.
    pub const NOATIME: Self = Self(0x10);
    /// Access times are always updated.
    pub const STRICTATIME: Self = Self(0x20);
    /// Access times of directories are never updated.
    pub const NODIRATIME: Self = Self(0x80);
    /// Symbolic links on the mount are not followed.
    pub const NOSYMFOLLOW: Self = Self(0x20_0000);

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Without `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` are in it.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether no attribute is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Attributes to set and to clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Set.
    pub set: Attributes,
    /// Cleared, before the others are set.
    pub clear: Attributes,
}

impl Change {
    /// Whether nothing changes.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.set.is_empty() && self.clear.is_empty()
    }
}

/// How mounts and unmounts travel between namespaces, see mount_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Both ways.
    Shared,
    /// Only in.
    Slave,
    /// Not.
    Private,
    /// Not, and it cannot be bind mounted.
    Unbindable,
}

impl Propagation {
    fn flag(self) -> u64 {
        match self {
            Self::Shared => libc::MS_SHARED,
            Self::Slave => libc::MS_SLAVE,
            Self::Private => libc::MS_PRIVATE,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Makes a detached copy of the mount, or the part of one, that `at` is a descriptor of.
///
/// # Errors
/// The errno of open_tree(2).
pub fn clone_of(at: BorrowedFd<'_>, scope: Scope) -> nix::Result<OwnedFd> {
    open_tree(at.as_raw_fd(), c"", AT_EMPTY_PATH | scope.at_flags())
}

/// Makes a detached copy of the mount, or the part of one, at `path`. Follows symbolic links.
///
/// # Errors
/// The errno of open_tree(2).
pub fn clone_of_path(path: &CStr, scope: Scope) -> nix::Result<OwnedFd> {
    open_tree(libc::AT_FDCWD, path, scope.at_flags())
}

fn open_tree(dir: libc::c_int, path: &CStr, flags: libc::c_uint) -> nix::Result<OwnedFd> {
    let flags = flags | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
    // SAFETY: `path` ends with NUL and lives across the call, which reads nothing else.
    let fd = check(unsafe { libc::syscall(libc::SYS_open_tree, dir, path.as_ptr(), flags) })?;
    Ok(owned(narrow(fd)))
}

/// Attaches the detached mount `tree` at `target`.
///
/// # Errors
/// The errno of move_mount(2).
pub fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> nix::Result<()> {
    move_mount(tree, target.as_raw_fd(), c"", MOVE_MOUNT_T_EMPTY_PATH)
}

/// Moves the mount `tree` over the root of this mount namespace.
///
/// # Errors
/// The errno of move_mount(2).
pub fn move_to_root(tree: BorrowedFd<'_>) -> nix::Result<()> {
    move_mount(tree, libc::AT_FDCWD, c"/", 0)
}

fn move_mount(
    tree: BorrowedFd<'_>,
    dir: libc::c_int,
    path: &CStr,
    flags: libc::c_uint,
) -> nix::Result<()> {
    // SAFETY: both paths end with NUL and live across the call, which reads nothing else.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            dir,
            path.as_ptr(),
            flags | MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// Changes attributes of a mount, or of a tree of mounts.
///
/// # Errors
/// The errno of mount_setattr(2), `ENOSYS` below Linux 5.12.
pub fn set_attributes(tree: BorrowedFd<'_>, scope: Scope, change: Change) -> nix::Result<()> {
    let attr = MountAttr {
        set: change.set.0,
        clear: change.clear.0,
        propagation: 0,
        user_namespace: 0,
    };
    mount_setattr(
        tree.as_raw_fd(),
        c"",
        AT_EMPTY_PATH | scope.at_flags(),
        &attr,
    )
}

/// Shows the owners of files on a detached mount, or on a tree of mounts, by the maps of a user namespace.
///
/// # Errors
/// The errno of mount_setattr(2): `EINVAL` where the file system cannot, `EPERM` where the mount is mapped already.
pub fn set_id_map(
    tree: BorrowedFd<'_>,
    scope: Scope,
    user_namespace: BorrowedFd<'_>,
) -> nix::Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
    let attr = MountAttr {
        set: MOUNT_ATTR_IDMAP,
        clear: 0,
        propagation: 0,
        user_namespace: u64::from(user_namespace.as_raw_fd().cast_unsigned()),
    };
    mount_setattr(
        tree.as_raw_fd(),
        c"",
        AT_EMPTY_PATH | scope.at_flags(),
        &attr,
    )
}

/// Changes the propagation of a mount, or of a tree of mounts.
///
/// # Errors
/// The errno of mount_setattr(2), `ENOSYS` below Linux 5.12.
pub fn set_propagation(
    tree: BorrowedFd<'_>,
    scope: Scope,
    propagation: Propagation,
) -> nix::Result<()> {
    let attr = MountAttr {
        set: 0,
        clear: 0,
        propagation: propagation.flag(),
        user_namespace: 0,
    };
    mount_setattr(
        tree.as_raw_fd(),
        c"",
        AT_EMPTY_PATH | scope.at_flags(),
        &attr,
    )
}

fn mount_setattr(
    dir: libc::c_int,
    path: &CStr,
    flags: libc::c_uint,
    attr: &MountAttr,
) -> nix::Result<()> {
    // SAFETY: `path` ends with NUL, `attr` is a whole mount_attr of the size given; both live across the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir,
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// Begins a file system of `kind`. Its superblock belongs to the namespaces of the caller.
///
/// # Errors
/// The errno of fsopen(2), `ENODEV` where the kernel does not know `kind`.
pub fn fs_open(kind: &CStr) -> nix::Result<OwnedFd> {
    // SAFETY: `kind` ends with NUL and lives across the call, which reads nothing else.
    let fd = check(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?;
    Ok(owned(narrow(fd)))
}

/// Sets the parameter `key` of a file system: to `value`, or as a flag without one.
///
/// # Errors
/// The errno of fsconfig(2), `EINVAL` where the file system does not know `key`.
pub fn fs_set(context: BorrowedFd<'_>, key: &CStr, value: Option<&CStr>) -> nix::Result<()> {
    match value {
        Some(value) => fsconfig(context, FSCONFIG_SET_STRING, Some(key), Some(value)),
        None => fsconfig(context, FSCONFIG_SET_FLAG, Some(key), None),
    }
}

/// Makes the file system and a detached mount of it with `attributes`.
///
/// # Errors
/// The errno of fsconfig(2) or fsmount(2).
pub fn fs_mount(context: BorrowedFd<'_>, attributes: Attributes) -> nix::Result<OwnedFd> {
    fsconfig(context, FSCONFIG_CMD_CREATE, None, None)?;
    // SAFETY: the call takes integers only.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            FSMOUNT_CLOEXEC,
            attributes.0,
        )
    })?;
    Ok(owned(narrow(fd)))
}

fn fsconfig(
    context: BorrowedFd<'_>,
    command: libc::c_uint,
    key: Option<&CStr>,
    value: Option<&CStr>,
) -> nix::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: key and value are null or end with NUL, and live across the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            command,
            pointer(key),
            pointer(value),
            0,
        )
    })
    .map(drop)
}
