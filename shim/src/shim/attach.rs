//! Streams of containers for who attaches: the container's keeper copies what is printed to them.

use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::pipe2;
use ocirun_shim::wire::{AttachRequest, Code, Stream};

use super::Shim;
use super::exec::send_streams;
use crate::connection::CallId;
use crate::container::Phase;
use crate::failure::{Call, Failure, Result};
use crate::keeper::Word;

impl Shim {
    /// Gives the other side of `socket` the streams that `request` asks for.
    pub(super) fn attach(
        &mut self,
        call: CallId,
        request: &AttachRequest,
        socket: OwnedFd,
    ) -> Result<()> {
        let id = &request.id;
        let input = self.pod.directory().container(id).join("stdin");
        let container = self.container(id)?;
        let is_running = matches!(
            container.phase,
            Phase::Created | Phase::Starting | Phase::Running
        );
        let Some((keeper, _)) = container.keeper.as_ref().filter(|_| is_running) else {
            let text = format!("container {id:?} is not running");
            return Err(Failure::new(Code::FailedPrecondition, text));
        };
        let mut streams = Vec::new();
        if request.stdin && container.master.is_none() {
            let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let fifo = open(&input, flags, Mode::empty()).call(|| format!("open({input:?})"))?;
            streams.push((Stream::Stdin, fifo));
        }
        let mut writers = Vec::new();
        let outputs = [
            (request.stdout, Stream::Stdout),
            (request.stderr && container.master.is_none(), Stream::Stderr),
        ];
        let mut bits = 0;
        for (_, stream) in outputs.into_iter().filter(|(is_wanted, _)| *is_wanted) {
            let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
            let (reader, writer) = pipe2(flags).call(|| "pipe2(O_CLOEXEC)")?;
            streams.push((stream, reader));
            writers.push(writer);
            bits |= stream as u8;
        }
        if let Some(master) = &container.master {
            let master = master.try_clone().call(|| "fcntl(F_DUPFD_CLOEXEC)")?;
            streams.push((Stream::Terminal, master));
        }
        let mut fds = vec![socket.as_fd()];
        fds.extend(writers.iter().map(AsFd::as_fd));
        let gone = |_| Failure::new(Code::Unavailable, "what writes the log has ended");
        keeper.give(Word::Attach, bits, &fds).map_err(gone)?;
        send_streams(&socket, &streams).call(|| "sendmsg()")?;
        self.answer(call, Ok(Vec::new()));
        Ok(())
    }

    /// Ends the input of a container, unless somebody else writes it.
    pub(super) fn close_stdin(&mut self, call: CallId, id: &str) -> Result<()> {
        let container = self.container(id)?;
        container.input = None;
        if let Some((keeper, _)) = &container.keeper {
            let ended = |_| Failure::new(Code::Unavailable, "what writes the log has ended");
            keeper.ask(Word::CloseInput).map_err(ended)?;
        }
        self.answer(call, Ok(Vec::new()));
        Ok(())
    }
}
