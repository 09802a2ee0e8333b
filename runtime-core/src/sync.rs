//! Messages between the parent and the container's first process, from clone to exec.
//!
//! ```text
//!  parent                                  child
//!    clone3 ───────────────────────────────▶ (waits, if its ids have to be mapped or another process comes)
//!    maps and score ── Mapped ─────────────▶ mounts that need no cgroup
//!                 ◀────────────── Network ── (network devices to be moved)
//!    moved ── DevicesMoved ────────────────▶
//!    cgroups made ── Cgroups + fds ────────▶ enters them, cgroup namespace, other mounts
//!    state written
//!                 ◀─────── Terminal + fd ── (a terminal of the caller's)
//!                 ◀────────────── Mounted ── (only with hooks before pivot_root)
//!    hooks ── HooksDone ───────────────────▶ pivot_root, identity
//!                 ◀───────────── Listener ── (a filter that asks an agent)
//!    agent has it ── ListenerTaken ────────▶
//!                 ◀──────────────── Ready ── (create: the parent leaves)
//!    Go ───────────────────────────────────▶ execve: the socket closes
//! ```
//! A message the parent can send early waits in the socket. In place of any message the child may send `Failed`; the
//! end of the socket means the other side has died, and ends the child too: no container outlives a killed `create`.
//!
//! Frames have one size and are sent by write(2), which every seccomp profile allows; only descriptors need sendmsg.

use std::fmt::{self, Write as _};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use nix::unistd::{read, write};

use crate::init::Step;
use crate::kernel::fd::owned_from_message;

/// Bytes of a frame.
const FRAME: usize = 64;
/// Bytes of a frame that name a failed call.
const CALL: usize = 52;
/// Most descriptors one message brings: one for each cgroup hierarchy.
const MOST_FDS: usize = 32;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// To the child: its user and group ids are mapped.
    Mapped,
    /// To the child: descriptors of the cgroups to enter.
    Cgroups,
    /// To the child: go on past the hooks.
    HooksDone,
    /// To the child: nothing is left to do here.
    Go,
    /// To the child: the network devices are in its network namespace.
    DevicesMoved,
    /// To the child: the agent has the listener.
    ListenerTaken,
    /// To the parent: the first of two processes made the second, with this pid.
    Second(i32),
    /// To the parent: the master of the container's terminal.
    Terminal,
    /// To the parent: the network namespace is there.
    Network,
    /// To the parent: the number of a descriptor that is for the agent of the seccomp filter.
    Listener(RawFd),
    /// To the parent: everything is mounted, hooks may run.
    Mounted,
    /// To the parent: only the program is left to be executed.
    Ready,
    /// To the parent: a step failed, and the child has ended.
    Failed(Failure),
}

/// What failed in the child. Fits a frame, so that nothing is allocated to report it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    /// Place in the list of the configuration that the step goes through.
    pub(crate) element: u16,
    pub(crate) errno: Errno,
    call: [u8; CALL],
}

impl Failure {
    /// `call`, as strace would print it, failed with `errno`.
    pub(crate) fn new(step: Step, element: usize, call: impl fmt::Display, errno: Errno) -> Self {
        let mut text = Text {
            bytes: [0; CALL],
            length: 0,
        };
        // What does not fit is cut.
        let _ = write!(text, "{call}");
        Self {
            step,
            element: u16::try_from(element).unwrap_or(u16::MAX),
            errno,
            call: text.bytes,
        }
    }

    /// The failed call.
    pub(crate) fn call(&self) -> String {
        let end = self.call.iter().position(|&byte| byte == 0).unwrap_or(CALL);
        crate::error::on_one_line(&String::from_utf8_lossy(&self.call[..end]))
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}[{}]: {}: {:?}",
            self.step,
            self.element,
            self.call(),
            self.errno
        )
    }
}

struct Text {
    bytes: [u8; CALL],
    length: usize,
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = text.len().min(CALL - self.length);
        self.bytes[self.length..self.length + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.length += fits;
        if fits == text.len() {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}

/// One end of the socket between parent and child.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// Both ends. The descriptors close on exec.
    pub(crate) fn pair() -> nix::Result<(Self, Self)> {
        let (parent, child) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        Ok((Self(parent), Self(child)))
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    pub(crate) fn send(&self, message: Message) -> nix::Result<()> {
        let frame = encode(message);
        loop {
            match write(&self.0, &frame) {
                Err(Errno::EINTR) => {}
                other => return other.map(drop),
            }
        }
    }

    /// Sends `message` with copies of `fds`.
    pub(crate) fn send_with(&self, message: Message, fds: &[BorrowedFd<'_>]) -> nix::Result<()> {
        send_fds(&self.0, &encode(message), fds)
    }

    /// The next message, or none where the other end is closed.
    pub(crate) fn receive(&self) -> nix::Result<Option<Message>> {
        let mut frame = [0; FRAME];
        loop {
            match read(&self.0, &mut frame) {
                // A peer that died with unread messages resets the connection, which is told once, and before the
                // peer's own last message.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Ok(0) => return Ok(None),
                Ok(_) => return decode(&frame).map(Some),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// The next message and the descriptors that came with it.
    pub(crate) fn receive_with(&self) -> nix::Result<Option<(Message, Vec<OwnedFd>)>> {
        let mut frame = [0; FRAME];
        let mut space = nix::cmsg_space!([RawFd; MOST_FDS]);
        let mut fds = Vec::new();
        let length = {
            let mut buffers = [IoSliceMut::new(&mut frame)];
            let message = loop {
                match recvmsg::<()>(
                    self.0.as_raw_fd(),
                    &mut buffers,
                    Some(&mut space),
                    MsgFlags::MSG_CMSG_CLOEXEC,
                ) {
                    Err(Errno::EINTR | Errno::ECONNRESET) => {}
                    other => break other?,
                }
            };
            for control in message.cmsgs()? {
                if let ControlMessageOwned::ScmRights(received) = control {
                    fds.extend(received.into_iter().map(owned_from_message));
                }
            }
            message.bytes
        };
        if length == 0 {
            return Ok(None);
        }
        Ok(Some((decode(&frame)?, fds)))
    }

    /// Waits for `expected` and gives whether it came: otherwise the other side is gone.
    pub(crate) fn expect(&self, expected: Message) -> bool {
        matches!(self.receive(), Ok(Some(message)) if message == expected)
    }
}

/// Sends `bytes` with copies of `fds` over a connected unix socket.
pub(crate) fn send_fds(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> nix::Result<()> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() {
        &control[..0]
    } else {
        &control[..]
    };
    loop {
        match sendmsg::<()>(
            socket.as_raw_fd(),
            &[IoSlice::new(bytes)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

fn encode(message: Message) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    frame[0] = match message {
        Message::Mapped => 1,
        Message::Cgroups => 2,
        Message::HooksDone => 3,
        Message::Go => 4,
        Message::Second(_) => 5,
        Message::Terminal => 6,
        Message::Mounted => 7,
        Message::Ready => 8,
        Message::Failed(_) => 9,
        Message::ListenerTaken => 10,
        Message::Listener(_) => 11,
        Message::Network => 12,
        Message::DevicesMoved => 13,
    };
    match message {
        Message::Second(number) | Message::Listener(number) => {
            frame[4..8].copy_from_slice(&number.to_ne_bytes());
        }
        Message::Failed(failure) => {
            frame[1] = failure.step.number();
            frame[2..4].copy_from_slice(&failure.element.to_ne_bytes());
            frame[4..8].copy_from_slice(&(failure.errno as i32).to_ne_bytes());
            frame[12..].copy_from_slice(&failure.call);
        }
        _ => {}
    }
    frame
}

fn decode(frame: &[u8; FRAME]) -> nix::Result<Message> {
    let number = i32::from_ne_bytes([frame[4], frame[5], frame[6], frame[7]]);
    Ok(match frame[0] {
        1 => Message::Mapped,
        2 => Message::Cgroups,
        3 => Message::HooksDone,
        4 => Message::Go,
        5 => Message::Second(number),
        6 => Message::Terminal,
        7 => Message::Mounted,
        8 => Message::Ready,
        9 => {
            let mut call = [0; CALL];
            call.copy_from_slice(&frame[12..]);
            Message::Failed(Failure {
                step: Step::from_number(frame[1]).ok_or(Errno::EBADMSG)?,
                element: u16::from_ne_bytes([frame[2], frame[3]]),
                errno: Errno::from_raw(number),
                call,
            })
        }
        10 => Message::ListenerTaken,
        11 => Message::Listener(number),
        12 => Message::Network,
        13 => Message::DevicesMoved,
        _ => return Err(Errno::EBADMSG),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_way() {
        let failure = Failure::new(
            Step::Mount,
            7,
            format_args!("fsconfig({:?})", "s".repeat(80)),
            Errno::EINVAL,
        );
        let (parent, child) = Channel::pair().unwrap();
        for message in [
            Message::Mapped,
            Message::Second(77),
            Message::Ready,
            Message::Listener(5),
            Message::ListenerTaken,
            Message::Network,
            Message::DevicesMoved,
            Message::Failed(failure),
        ] {
            child.send(message).unwrap();
            assert_eq!(parent.receive().unwrap(), Some(message));
        }
        assert!(failure.call().starts_with("fsconfig(\"sss"));
        drop(child);
        assert_eq!(parent.receive().unwrap(), None);
    }

    #[test]
    fn descriptors_come_with_a_message() {
        let (parent, child) = Channel::pair().unwrap();
        let (read_end, write_end) = nix::unistd::pipe().unwrap();
        parent
            .send_with(Message::Cgroups, &[std::os::fd::AsFd::as_fd(&write_end)])
            .unwrap();
        let (message, fds) = child.receive_with().unwrap().unwrap();
        assert_eq!((message, fds.len()), (Message::Cgroups, 1));
        write(&fds[0], b"x").unwrap();
        let mut byte = [0];
        assert_eq!(read(&read_end, &mut byte).unwrap(), 1);
    }
}
