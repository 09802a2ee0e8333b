//! What may block: done in a process of its own, so that the loop never waits.
//!
//! The process is a fork of this one, for it needs what this one knows, and it creates children of its own, which
//! become this program's when it ends. It dies with the program. Its answer is one message.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, killpg};
use nix::sys::socket::MsgFlags;
use nix::unistd::{Pid, getpid, getppid, setpgid};
use ocirun_shim::wire::{Code, Status};
use prost::Message;
use runtime_core::kernel::clone::{Parent, Side, fork_into};
use runtime_core::kernel::fd::close_all_but;
use runtime_core::kernel::{pidfd, process};

use crate::failure::{Call, Failure, Result};
use crate::messages;

/// Most bytes of an answer.
const LONGEST: usize = 64 << 10;

/// What a job gives back: bytes, and descriptors.
pub(crate) type Answer = (Vec<u8>, Vec<OwnedFd>);

/// A process at work.
#[derive(Debug)]
pub(crate) struct Job {
    /// Its process, which the loop waits for.
    pub(crate) pid: Pid,
    pidfd: OwnedFd,
    socket: OwnedFd,
}

impl Job {
    /// Begins `work` in a process that has `kept` and no other descriptor past the standard streams. It owns nothing
    /// else that it drops.
    pub(crate) fn start<const N: usize>(
        kept: [RawFd; N],
        work: impl FnOnce() -> Result<Answer>,
    ) -> Result<Self> {
        let (socket, childs) = messages::pair().call(|| "socketpair(SOCK_SEQPACKET)")?;
        let parent = getpid();
        let side = fork_into(CloneFlags::empty(), None, Parent::Caller).call(|| "clone3()")?;
        match side {
            Side::Parent(pid, pidfd) => Ok(Self { pid, pidfd, socket }),
            Side::Child => run((parent, &childs), kept, work),
        }
    }

    /// Ends it, whatever it is at, with the hooks that it runs.
    pub(crate) fn kill(&self) {
        let _ = pidfd::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        // It has not been waited for, so the number is still that of its group.
        let _ = killpg(self.pid, Signal::SIGKILL);
    }

    /// Takes the answer of a job that has ended.
    pub(crate) fn finish(self) -> Result<Answer> {
        let mut buffer = vec![0; LONGEST];
        let received = messages::receive(&self.socket, &mut buffer, MsgFlags::MSG_DONTWAIT);
        let (length, fds) = received.unwrap_or_default();
        match buffer[..length].split_first() {
            Some((0, answer)) => Ok((answer.to_vec(), fds)),
            Some((_, status)) => Err(refused(status)),
            None => Err(Failure::os(
                "a process of the shim was killed at its work",
                Errno::ECHILD,
            )),
        }
    }
}

fn refused(status: &[u8]) -> Failure {
    let status = Status::decode(status).unwrap_or_default();
    let codes = [
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Unimplemented,
        Code::Internal,
    ];
    let code = codes.into_iter().find(|code| *code as i32 == status.code);
    Failure::new(code.unwrap_or(Code::Unknown), status.message)
}

fn run<const N: usize>(
    (parent, socket): (Pid, &OwnedFd),
    kept: [RawFd; N],
    work: impl FnOnce() -> Result<Answer>,
) -> ! {
    let dies = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
        // A group of its own, in which its hooks are too.
        .and_then(|()| setpgid(Pid::from_raw(0), Pid::from_raw(0)));
    // The parent may have ended before that.
    if dies.is_err() || getppid() != parent {
        process::exit_now(1);
    }
    // The standard streams, the socket, and what is kept: N of them, and as many arrays as there are sizes.
    let socket_fd = socket.as_raw_fd();
    let closed = close_but(kept, socket_fd);
    let answer = closed.call(|| "close_range()").and_then(|()| work());
    let (bytes, fds) = match &answer {
        Ok((bytes, fds)) => ([&[0], bytes.as_slice()].concat(), fds.as_slice()),
        Err(failure) => {
            let status = failure.status().encode_to_vec();
            ([&[1], status.as_slice()].concat(), &[][..])
        }
    };
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let sent = messages::send(socket, &bytes, &fds);
    process::exit_now(i32::from(sent.is_err()))
}

/// Closes what is neither a standard stream, nor of `kept`, nor `socket`.
pub(crate) fn close_but<const N: usize>(kept: [RawFd; N], socket: RawFd) -> nix::Result<()> {
    /// More than any caller keeps.
    const MOST: usize = 8;
    let mut all = [socket; MOST];
    for (place, fd) in all.iter_mut().zip(kept) {
        *place = fd;
    }
    // The last place is never one of `kept`.
    const { assert!(N < MOST) };
    close_all_but(3, all)
}
