//! Descriptors: openat2(2), close_range(2), sealed memory files.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::OFlag;

use super::{check, narrow};

/// How openat2 walks a path, `RESOLVE_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolve {
    /// Everything happens inside the directory as if it were `/`; magic links are refused (`RESOLVE_IN_ROOT`,
    /// `RESOLVE_NO_MAGICLINKS`).
    InRoot,
    /// As `InRoot`, and no component may be a symbolic link (`RESOLVE_NO_SYMLINKS`).
    InRootNoLinks,
    /// The path lies below the directory and on its file system, without any link (`RESOLVE_BENEATH`,
    /// `RESOLVE_NO_XDEV`, `RESOLVE_NO_SYMLINKS`): for private procfs.
    BeneathSameMount,
}

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

const RESOLVE_NO_XDEV: u64 = 0x01;
const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
const RESOLVE_NO_SYMLINKS: u64 = 0x04;
const RESOLVE_BENEATH: u64 = 0x08;
const RESOLVE_IN_ROOT: u64 = 0x10;

/// How often openat2(2) is asked again.
const MOST_TRIES: u32 = 64;

/// Opens `path` below `dir`, close-on-exec.
///
/// # Errors
/// The errno of openat2(2); `ENOSYS` below Linux 5.6 and in sandboxes that hide it; `EAGAIN` where something was renamed
/// during each of many tries.
pub fn openat2(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlag,
    mode: u32,
    resolve: Resolve,
) -> nix::Result<OwnedFd> {
    let resolve = match resolve {
        Resolve::InRoot => RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
        Resolve::InRootNoLinks => RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS,
        Resolve::BeneathSameMount => RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS,
    };
    // The kernel refuses flags that mean nothing, as O_NOCTTY beside O_PATH.
    let terminal = if flags.contains(OFlag::O_PATH) {
        OFlag::empty()
    } else {
        OFlag::O_NOCTTY
    };
    let flags = flags | OFlag::O_CLOEXEC | terminal;
    let how = OpenHow {
        flags: u64::from(flags.bits().cast_unsigned()),
        mode: u64::from(mode),
        resolve,
    };
    let mut tries = 0;
    loop {
        tries += 1;
        // SAFETY: `path` ends with NUL and `how` is a whole open_how of the size given; both live across the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<OpenHow>(),
            )
        };
        match check(result) {
            // Something was renamed or mounted while the kernel walked by `..`: it asks to try again. Who does nothing
            // but rename would hold this process here.
            Err(nix::errno::Errno::EAGAIN) if tries < MOST_TRIES => {}
            Err(nix::errno::Errno::EINTR) => {}
            other => return Ok(owned(narrow(other?))),
        }
    }
}

/// Takes a descriptor that a system call has just returned.
pub(super) fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: callers pass what a successful system call of theirs returned a moment ago: a new, open descriptor that
    // nothing else owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Takes a descriptor that came in a message (`SCM_RIGHTS`), which made it new in this process.
#[must_use]
pub fn owned_from_message(fd: RawFd) -> OwnedFd {
    owned(fd)
}

/// Takes over the descriptor `fd` that this process was started with, if it is open.
///
/// For descriptors announced by number: `LISTEN_FDS`, `--preserve-fds`. Call it once for each, before anything else
/// could have taken the number.
#[must_use]
pub fn inherited(fd: RawFd) -> Option<BorrowedFd<'static>> {
    // SAFETY: F_GETFD only looks at the descriptor table.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: the descriptor is open, and nothing in this program closes a descriptor it was started with: those are
    // either its standard streams or announced by the caller to be passed on.
    Some(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Closes all descriptors from `first` up but those of `kept`, now.
///
/// For a child that waits before it execs: it never returns to the owners of what is closed.
///
/// # Errors
/// The errno of close_range(2); `ENOSYS`, below Linux 5.9, is none.
pub fn close_all_but<const N: usize>(first: RawFd, mut kept: [RawFd; N]) -> nix::Result<()> {
    kept.sort_unstable();
    let ends = kept.map(|fd| fd - 1).into_iter().chain([RawFd::MAX]);
    let begins = [first].into_iter().chain(kept.map(|fd| fd + 1));
    for (from, to) in begins.zip(ends) {
        let from = from.max(first);
        if from > to {
            continue;
        }
        // SAFETY: by the contract above no owner of these descriptors is used or dropped again in this process.
        match check(unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) }) {
            Ok(_) | Err(nix::errno::Errno::ENOSYS) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// What [`close_from`] does to descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseHow {
    /// Closes them now. Only for a process that is about to end or to exec and uses none of them.
    Now,
    /// Closes them at the next exec.
    OnExec,
}

/// Closes all descriptors from `first` up.
///
/// # Errors
/// The errno of close_range(2), `ENOSYS` below Linux 5.9, `EINVAL` for [`CloseHow::OnExec`] below 5.11.
pub fn close_from(first: RawFd, how: CloseHow) -> nix::Result<()> {
    let flags = match how {
        CloseHow::Now => 0,
        CloseHow::OnExec => libc::CLOSE_RANGE_CLOEXEC,
    };
    // SAFETY: with CLOSE_RANGE_CLOEXEC nothing is closed now; without it the contract of `CloseHow::Now` holds: the
    // owners of these descriptors are never used or dropped again.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flags) })
        .map(drop)
}
