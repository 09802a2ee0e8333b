//! Processes by descriptor, which unlike a pid never comes to mean another one: pidfd_open(2), pidfd_send_signal(2),
//! pidfd_getfd(2).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use super::fd::owned;
use super::{check, narrow};

/// Opens a descriptor of the process `pid`.
///
/// # Errors
/// The errno of pidfd_open(2), `ESRCH` where there is none.
pub fn open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: the call takes integers only.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    Ok(owned(narrow(fd)))
}

/// Sends `signal` to the process of `pidfd`; 0 sends none and tells whether there is one.
///
/// # Errors
/// The errno of pidfd_send_signal(2), `ESRCH` where the process has ended.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> nix::Result<()> {
    // SAFETY: a null siginfo makes the kernel fill it as kill(2) does; the rest are integers.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
    .map(drop)
}

/// Makes a copy of the descriptor `fd` of another process.
///
/// # Errors
/// The errno of pidfd_getfd(2), `EPERM` where the process may not be traced.
pub fn copy_of(pidfd: BorrowedFd<'_>, fd: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: the call takes integers only.
    let copy = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) })?;
    Ok(owned(narrow(copy)))
}

/// How the process of `pidfd` ended, in the form of wait(2), whoever waited for it.
///
/// None as long as nobody has, and where the kernel does not keep it: Linux 6.15 does, for descriptors opened before.
#[must_use]
pub fn exit_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    /// `struct pidfd_info` of the kernel, as of 6.13.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    /// `PIDFD_INFO_EXIT`.
    const EXIT: u64 = 8;
    /// `_IOWR(0xff, 11, struct pidfd_info)`.
    const GET_INFO: libc::Ioctl = 0xc040_ff0b;
    const { assert!(size_of::<Info>() == 64) };
    let mut info = Info {
        mask: EXIT,
        ..Info::default()
    };
    // SAFETY: the number says 64 bytes, which is what `info` has, alive across the call; another kind of descriptor, or
    // an older kernel, refuses it.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO, &raw mut info) };
    (result == 0 && info.mask & EXIT != 0).then_some(info.exit_code)
}

/// Waits until the process of `pidfd` has ended. Returns whether it has, or that the time was over.
///
/// # Errors
/// The errno of poll(2).
pub fn wait_end(pidfd: BorrowedFd<'_>, timeout: PollTimeout) -> nix::Result<bool> {
    loop {
        match poll(&mut [PollFd::new(pidfd, PollFlags::POLLIN)], timeout) {
            Err(Errno::EINTR) => {}
            other => return other.map(|ready| ready > 0),
        }
    }
}
