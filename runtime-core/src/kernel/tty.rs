//! Terminals: ioctl_tty(2).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::fd::owned;

/// Allows the slave of the pseudo-terminal `master` to be opened.
///
/// # Errors
/// The errno of ioctl(2).
pub fn unlock(master: BorrowedFd<'_>) -> nix::Result<()> {
    let zero: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, alive across the call.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const zero) })
        .map(drop)
}

/// Opens the slave of the pseudo-terminal `master` without a path.
///
/// # Errors
/// The errno of ioctl(2).
pub fn open_slave(master: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags by value and returns a new descriptor.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags.bits()) })
        .map(owned)
}

/// The number of the pseudo-terminal `master`: its slave is `N` in devpts.
///
/// # Errors
/// The errno of ioctl(2).
pub fn number(master: BorrowedFd<'_>) -> nix::Result<u32> {
    let mut number: libc::c_uint = 0;
    // SAFETY: TIOCGPTN writes one unsigned int, alive across the call.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number) })?;
    Ok(number)
}

/// Makes `terminal` the controlling terminal of this session, whose leader the caller is.
///
/// # Errors
/// The errno of ioctl(2).
pub fn take_control(terminal: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer by value.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// Rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// Sets the size of `terminal`.
///
/// # Errors
/// The errno of ioctl(2).
pub fn set_size(terminal: BorrowedFd<'_>, size: Size) -> nix::Result<()> {
    let size = libc::winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCSWINSZ reads one winsize, alive across the call.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })
        .map(drop)
}

/// Reads the size of `terminal`.
///
/// # Errors
/// The errno of ioctl(2), `ENOTTY` for what is none.
pub fn size(terminal: BorrowedFd<'_>) -> nix::Result<Size> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ writes one winsize, alive across the call.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) })?;
    Ok(Size {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}
