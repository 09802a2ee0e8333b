//! Hearing from a process on its way, until it has become its program.
//!
//! execve(2) closes the child's end of the channel, and that end is what a parent waits for. But a process of the
//! container that may trace others can have copied the descriptor in time (pidfd_getfd(2)): then the end never comes. So
//! who hears nothing for a while looks at the process itself.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Child;
use crate::error::{Call, Result};
use crate::state;
use crate::sync::Channel;

/// How long is a while, in milliseconds. Nearly all processes have become their program by then, and were heard of.
const WHILE: u8 = 100;

/// Waits for something on the channel, if only its end, and gives whether it came. Nothing comes any more from a
/// `process`, a child of this one, that has ended or executed its program.
pub(super) fn hears(channel: &Channel, process: &Child) -> Result<bool> {
    let mut fds = [
        PollFd::new(channel.as_fd(), PollFlags::POLLIN),
        PollFd::new(process.pidfd.as_fd(), PollFlags::POLLIN),
    ];
    loop {
        match poll(&mut fds, PollTimeout::from(WHILE)) {
            Err(Errno::EINTR) => continue,
            other => other.call(|| "poll(channel, pidfd)")?,
        };
        let [message, end] = fds.each_ref().map(|fd| fd.any() != Some(false));
        if message || end || state::has_executed(process.pid) {
            return Ok(message);
        }
    }
}
