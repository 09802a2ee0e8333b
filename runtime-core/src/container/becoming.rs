//! Hearing from a process on its way, until it has become its program.
//!
//! execve(2) closes the child's end of the channel, and that end is what a parent waits for. But a process of the
//! container that may trace others can have copied the descriptor in time (pidfd_getfd(2)): then the end never comes. So
//! who hears nothing for a while looks at the process itself.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Child;
use crate::error::{Error, Result};
use crate::state;
use crate::sync::Channel;

/// How long is a while, in milliseconds. Nearly all processes have become their program by then, and were heard of.
const WHILE: u8 = 100;

/// Waits for something on the channel, if only its end, and gives whether it came. Nothing comes any more from a
/// `process`, a child of this one, that has ended or executed its program.
pub(super) fn hears(channel: &Channel, process: &Child) -> Result<bool> {
    loop {
        let (message, end) = look(channel, process, PollTimeout::from(WHILE))?;
        if message {
            return Ok(true);
        }
        if end || state::has_executed(process.pid) {
            // What it had to say is there by now, but may not have been before.
            return look(channel, process, PollTimeout::ZERO).map(|(message, _)| message);
        }
    }
}

/// Whether something is on the channel, and whether the process has ended.
fn look(channel: &Channel, process: &Child, timeout: PollTimeout) -> Result<(bool, bool)> {
    let mut fds = [
        PollFd::new(channel.as_fd(), PollFlags::POLLIN),
        PollFd::new(process.pidfd.as_fd(), PollFlags::POLLIN),
    ];
    match poll(&mut fds, timeout) {
        Ok(_) => Ok((fds[0].any() != Some(false), fds[1].any() != Some(false))),
        Err(Errno::EINTR) => Ok((false, false)),
        Err(errno) => Err(Error::os("poll(channel, pidfd)", errno)),
    }
}
