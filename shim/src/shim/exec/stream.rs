//! A process whose streams the caller has: pipes of its own, or its terminal's master. The shim moves none of its bytes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::epoll::EpollFlags;
use nix::unistd::pipe2;
use ocirun_shim::wire::{Code, ExecStreamRequest, Stream};

use super::{Exec, Output, Shim};
use crate::connection::CallId;
use crate::failure::{Call, Failure, Result};
use crate::messages;
use crate::reactor::{Source, Token};

/// Who has the streams.
#[derive(Debug)]
pub(super) struct Caller {
    socket: OwnedFd,
    /// While it is listened to.
    token: Option<Token>,
    /// The caller's side of the streams, until it has them.
    streams: Vec<(Stream, OwnedFd)>,
}

impl Shim {
    /// Begins to run a process whose streams go to the other side of `socket`.
    pub(in super::super) fn exec_stream(
        &mut self,
        call: CallId,
        request: ExecStreamRequest,
        socket: OwnedFd,
    ) -> Result<()> {
        let process = self.process_in(&request.id, &request.process)?;
        let mut inside = [None, None, None];
        let mut streams = Vec::new();
        let wanted = [
            (request.stdin, Stream::Stdin),
            (request.stdout, Stream::Stdout),
            (request.stderr, Stream::Stderr),
        ];
        for (place, (is_wanted, stream)) in inside.iter_mut().zip(wanted) {
            if is_wanted && !process.terminal {
                let (reader, writer) = pipe2(OFlag::O_CLOEXEC).call(|| "pipe2(O_CLOEXEC)")?;
                let (theirs, callers) = match stream {
                    Stream::Stdin => (reader, writer),
                    _ => (writer, reader),
                };
                *place = Some(theirs);
                streams.push((stream, callers));
            }
        }
        let caller = Caller {
            socket,
            token: None,
            streams,
        };
        let none = || Output {
            pipe: None,
            token: None,
            left: 0,
        };
        let exec = Exec::new(call, request.id, [none(), none()], Some(caller));
        self.begin_exec(exec, process, inside);
        Ok(())
    }

    /// The process runs: the caller gets the streams, and is listened to.
    pub(super) fn hand_over(&mut self, number: u64, master: Option<OwnedFd>) {
        let Some(caller) = self.execs.get_mut(&number).and_then(|e| e.caller.as_mut()) else {
            return;
        };
        let mut streams = std::mem::take(&mut caller.streams);
        streams.extend(master.map(|master| (Stream::Terminal, master)));
        let sent = send_streams(&caller.socket, &streams);
        let source = Source::ExecCaller(number);
        caller.token = self
            .reactor
            .watch(&caller.socket, EpollFlags::EPOLLIN, source)
            .ok();
        if sent.is_err() || caller.token.is_none() {
            self.exec_caller_is_gone(number);
        }
    }

    /// Nobody hears any more of what was begun.
    pub(in super::super) fn exec_caller_is_gone(&mut self, number: u64) {
        if let Some(exec) = self.execs.get_mut(&number) {
            let gone = Failure::new(Code::Cancelled, "the caller is gone");
            exec.killed.get_or_insert(gone);
            self.kill_exec(number);
        }
    }

    /// Does not listen to a caller any more.
    pub(super) fn forget_caller(&mut self, number: u64) {
        let exec = self.execs.get_mut(&number);
        if let Some(caller) = exec.and_then(|exec| exec.caller.as_mut())
            && let Some(token) = caller.token.take()
        {
            self.reactor.forget(&caller.socket, token);
        }
    }
}

/// Sends descriptors, the kinds of which are in the order of their bits.
pub(in super::super) fn send_streams(
    socket: &OwnedFd,
    streams: &[(Stream, OwnedFd)],
) -> std::result::Result<(), Errno> {
    let bits = streams
        .iter()
        .fold(0, |bits, (stream, _)| bits | *stream as u8);
    let fds: Vec<BorrowedFd<'_>> = streams.iter().map(|(_, fd)| fd.as_fd()).collect();
    messages::send(socket, &[bits], &fds).map(drop)
}
