//! Reaping: by wait4 and SIGCHLD, or by the kernel alone where it can still tell us the child's status.
//!
//! Whether it can (Linux 6.15) is tried once, on a process that ends at once: its status is read through its pidfd
//! after it was reaped. If that works SIGCHLD is ignored from then on: the kernel reaps, nobody wakes, and the child's
//! status comes from its own pidfd.

use super::signals::CHLD;
use super::sys::{self, Action, Errno, Fd, Fork};

/// Who reaps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reaper {
    /// We do: the kernel is too old, or somebody wants to hear of each process.
    Us,
    /// The kernel does.
    Kernel,
}

/// What is left after a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// Children that live.
    Some,
    /// No child at all.
    Nobody,
}

/// Reaps everything that has ended; `each` hears of every process and its wait status.
pub fn round(mut each: impl FnMut(i32, i32)) -> Left {
    loop {
        match sys::reap_ended() {
            Ok(Some((pid, status))) => each(pid, status),
            Err(Errno::ECHILD) => return Left::Nobody,
            Ok(None) | Err(_) => return Left::Some,
        }
    }
}

/// Whether the kernel tells the status of a process that is already reaped.
pub fn kernel_keeps_statuses() -> bool {
    match sys::fork() {
        Ok(Fork::Child) => sys::exit(0),
        Ok(Fork::Parent { pid, pidfd }) => {
            sys::reap_this(pid).is_ok() && sys::exit_status(pidfd).is_some()
        }
        Err(_) => false,
    }
}

/// The kernel reaps from now on. What ended before is still ours, so a round must follow.
pub fn leave_to_kernel(reaper: &mut Reaper) {
    sys::set_action(CHLD, Action::IGNORE);
    *reaper = Reaper::Kernel;
}

/// We reap from now on, and SIGCHLD is heard again.
pub fn take_over(reaper: &mut Reaper) {
    sys::set_action(CHLD, Action::DEFAULT);
    *reaper = Reaper::Us;
}

/// The status of a child whose descriptor says that it ended and which the kernel reaps. The kernel wakes us a moment
/// before it has reaped.
pub fn status_from_kernel(pidfd: Fd) -> i32 {
    let mut tries = 0;
    loop {
        if let Some(status) = sys::exit_status(pidfd) {
            return status;
        }
        tries += 1;
        if tries < 1000 {
            sys::give_way();
        } else {
            sys::poll(Fd::NONE, Fd::NONE, Some(1));
        }
    }
}

/// The exit code that stands for a wait status: the code itself, or 128 and the signal.
pub fn exit_code(status: i32) -> u8 {
    let [low, high, ..] = status.to_le_bytes();
    if low & 0x7F == 0 {
        high
    } else {
        128 + (low & 0x7F)
    }
}

#[cfg(test)]
mod tests {
    use super::exit_code;

    #[test]
    fn codes_and_signals() {
        for (status, code) in [
            (0, 0),
            (0x100, 1),
            (0xFF00, 255),
            (15, 143),
            (9, 137),
            (0x8B, 139),
            (64, 192),
        ] {
            assert_eq!(exit_code(status), code);
        }
    }
}
