//! A program in a container, or the container itself, and a client: what goes between them.
//!
//! The pod's shim hands over descriptors of pipes or of a terminal, and is in the way of no byte. A socket to it is the
//! sign that somebody is there: when it is closed, the shim ends what runs for nobody.

use super::outcome::Outcome;
use super::session::{Channel, Out, Session, Wanted};
use super::wire::PIECE;
use crate::error::{Context, Error, Kind, Result};
use crate::pods::{Container, Pods};
use ocirun_shim::wire::{
    AttachRequest, CloseStdinRequest, Empty, ExecOutput, ExecStreamRequest, Exit, Stream,
};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
    recvmsg, socketpair,
};
use rustix::termios::{Winsize, tcsetwinsize};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};

/// A descriptor that does not block.
#[derive(Debug)]
struct Pipe(AsyncFd<OwnedFd>);

fn watched(fd: OwnedFd) -> Result<AsyncFd<OwnedFd>> {
    #[expect(
        deprecated,
        reason = "its successor is unsafe for types that may change their descriptor, which an OwnedFd does not"
    )]
    let watched = AsyncFd::new(fd);
    watched.call(|| "epoll_ctl(EPOLL_CTL_ADD)")
}

impl Pipe {
    fn new(fd: OwnedFd) -> Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true).call(|| "ioctl(FIONBIO)")?;
        watched(fd).map(Self)
    }

    /// Reads; 0 is the end.
    async fn read(&self, buffer: &mut [u8]) -> usize {
        loop {
            let Ok(mut ready) = self.0.readable().await else {
                return 0;
            };
            match ready.try_io(|fd| Ok(rustix::io::read(fd, &mut *buffer)?)) {
                Ok(Ok(length)) => return length,
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // A terminal that nobody has open any more.
                Ok(Err(_)) => return 0,
                Err(_would_block) => {}
            }
        }
    }

    /// Reads what is there at this moment; 0 where nothing is.
    fn read_now(&self, buffer: &mut [u8]) -> usize {
        rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut *buffer)).unwrap_or(0)
    }

    /// Writes all, unless nobody reads any more.
    async fn write(&self, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|fd| Ok(rustix::io::write(fd, bytes)?)) {
                Ok(Ok(length)) => bytes = &bytes[length..],
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
        Ok(())
    }
}

/// What a shim hands over.
#[derive(Debug, Default)]
struct Streams {
    stdin: Option<Arc<Pipe>>,
    stdout: Option<Arc<Pipe>>,
    stderr: Option<Arc<Pipe>>,
    terminal: Option<Arc<Pipe>>,
}

/// Our side of the socket to a shim.
struct Control(AsyncFd<OwnedFd>);

impl Control {
    /// The socket, and its other side.
    fn new() -> Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let (ours, theirs) = pair.call(|| "socketpair(SOCK_SEQPACKET)")?;
        Ok((Self(watched(ours)?), theirs))
    }

    /// Waits for the streams.
    async fn streams(&self) -> Result<Streams> {
        loop {
            match receive(self.0.get_ref()) {
                Err(Errno::AGAIN) => {}
                Err(Errno::INTR) => continue,
                received => return taken(received.call(|| "recvmsg")?),
            }
            let mut ready = self.0.readable().await.call(|| "epoll_wait")?;
            ready.clear_ready();
        }
    }

    /// Waits until the other side is closed.
    async fn closed(&self) {
        loop {
            match receive(self.0.get_ref()) {
                Err(Errno::AGAIN) => {}
                Err(Errno::INTR) => continue,
                Ok((0, _)) | Err(_) => return,
                Ok(_) => continue,
            }
            match self.0.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return,
            }
        }
    }
}

fn receive(socket: &OwnedFd) -> rustix::io::Result<(u8, Vec<OwnedFd>)> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let parts = &mut [IoSliceMut::new(&mut byte)];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    recvmsg(socket, parts, &mut control, flags)?;
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(all) => Some(all.collect::<Vec<_>>()),
        _ => None,
    });
    let fds = fds.flatten().collect();
    Ok((byte[0], fds))
}

/// Streams by the bits of the message that they came with.
fn taken((bits, fds): (u8, Vec<OwnedFd>)) -> Result<Streams> {
    let mut streams = Streams::default();
    let mut fds = fds.into_iter();
    for (stream, place) in [
        (Stream::Stdin, &mut streams.stdin),
        (Stream::Stdout, &mut streams.stdout),
        (Stream::Stderr, &mut streams.stderr),
        (Stream::Terminal, &mut streams.terminal),
    ] {
        if bits & stream as u8 != 0 {
            let lost = || {
                Error::new(
                    Kind::Failed,
                    "the shim handed over fewer descriptors than it said",
                )
            };
            *place = Some(Arc::new(Pipe::new(fds.next().ok_or_else(lost)?)?));
        }
    }
    if bits == 0 {
        return Err(Error::new(
            Kind::Unavailable,
            "the shim handed over no streams",
        ));
    }
    Ok(streams)
}

impl Pods {
    /// Runs a program for a client, to its end or the client's.
    pub(crate) async fn exec_for(
        self: &Arc<Self>,
        container: &Container,
        process: Vec<u8>,
        wanted: Wanted,
        mut session: Session,
    ) {
        let out = session.out.clone();
        let guard = session.guard.clone();
        tokio::select! {
            ended = self.exec_in(container, process, wanted, &mut session) => {
                let outcome = ended.map_or_else(Outcome::Failed, |exit| Outcome::Exited(exit.code));
                drop(session);
                out.finish(&outcome).await;
            }
            () = guard.gone() => {}
        }
    }

    async fn exec_in(
        self: &Arc<Self>,
        container: &Container,
        process: Vec<u8>,
        wanted: Wanted,
        session: &mut Session,
    ) -> Result<Exit> {
        let request = ExecStreamRequest {
            id: container.id.clone(),
            process,
            stdin: wanted.stdin,
            stdout: wanted.stdout,
            stderr: wanted.stderr,
        };
        let shim = self.shim_of(&container.pod).await?;
        let (control, theirs) = Control::new()?;
        let mut call =
            pin!(shim.call_with::<ExecOutput>("ExecStream", &request, Some(theirs), None));
        let streams = tokio::select! {
            biased;
            streams = control.streams() => streams,
            ended = &mut call => {
                // What it printed is there, if it has begun at all.
                let exit = ended?.exit.unwrap_or_default();
                let streams = taken(receive(control.0.get_ref()).call(|| "recvmsg")?)?;
                let (_, exited) = watch::channel(true);
                outputs(&streams, &session.out, exited).await;
                return Ok(exit);
            }
        };
        // A shim that could not begin closes the socket, and then says why.
        let Ok(mut streams) = streams else {
            return Ok((&mut call).await?.exit.unwrap_or_default());
        };
        let given = (streams.stdin.take(), streams.terminal.clone());
        let (exits, exited) = watch::channel(false);
        let exit = async {
            let ended = (&mut call).await;
            exits.send_replace(true);
            ended.map(|ended| ended.exit.unwrap_or_default())
        };
        let both = async { tokio::join!(exit, outputs(&streams, &session.out, exited)) };
        let inputs = inputs(given, &mut session.stdin, &mut session.sizes);
        tokio::select! {
            (exit, ()) = both => exit,
            never = async { inputs.await; std::future::pending().await } => never,
        }
    }

    /// Shows a client what a container prints, and gives the container what the client sends, until one of them ends.
    pub(crate) async fn attach_for(
        self: &Arc<Self>,
        container: &Container,
        wanted: Wanted,
        mut session: Session,
    ) {
        let out = session.out.clone();
        let guard = session.guard.clone();
        tokio::select! {
            ended = self.attach_to(container, wanted, &mut session) => {
                let outcome = ended.map_or_else(Outcome::Failed, |()| Outcome::Exited(0));
                drop(session);
                out.finish(&outcome).await;
            }
            () = guard.gone() => {}
        }
    }

    async fn attach_to(
        self: &Arc<Self>,
        container: &Container,
        wanted: Wanted,
        session: &mut Session,
    ) -> Result<()> {
        let request = AttachRequest {
            id: container.id.clone(),
            stdin: wanted.stdin,
            stdout: wanted.stdout,
            stderr: wanted.stderr,
        };
        let shim = self.shim_of(&container.pod).await?;
        let (control, theirs) = Control::new()?;
        shim.call_with::<Empty>("Attach", &request, Some(theirs), None)
            .await?;
        let mut streams = control.streams().await?;
        let is_once = container.change(|now| now.record.config.stdin_once);
        let (exits, exited) = watch::channel(false);
        let end = async {
            control.closed().await;
            exits.send_replace(true);
        };
        let terminal = streams.terminal.clone();
        let (stdin, stdout) = (streams.stdin.take(), streams.stdout.take());
        let shown = Streams {
            stdout,
            stderr: streams.stderr.take(),
            ..Streams::default()
        };
        let both = async { tokio::join!(end, outputs(&shown, &session.out, exited)) };
        let is_pipe = stdin.is_some();
        let (input, sizes) = (&mut session.stdin, &mut session.sizes);
        let inputs = async {
            inputs((stdin, terminal), input, sizes).await;
            if is_once && is_pipe {
                let id = container.id.clone();
                let request = CloseStdinRequest { id };
                let closed = shim.call::<Empty>("CloseStdin", &request, None);
                if let Err(error) = closed.await {
                    tracing::debug!("container {}: {error}", container.id);
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = both => {}
            () = inputs => {}
        }
        Ok(())
    }
}

/// Copies what is printed, until its end, or until nothing is there once the program has ended: what it left running is
/// not waited for.
async fn outputs(streams: &Streams, out: &Out, exited: watch::Receiver<bool>) {
    let terminal = streams.terminal.as_ref();
    let stdout = streams.stdout.as_ref().or(terminal);
    tokio::join!(
        copy_out(stdout, Channel::Stdout, out, exited.clone()),
        copy_out(streams.stderr.as_ref(), Channel::Stderr, out, exited),
    );
}

async fn copy_out(
    pipe: Option<&Arc<Pipe>>,
    channel: Channel,
    out: &Out,
    mut exited: watch::Receiver<bool>,
) {
    let Some(pipe) = pipe else {
        return;
    };
    let mut buffer = vec![0; PIECE];
    loop {
        let length = tokio::select! {
            biased;
            length = pipe.read(&mut buffer) => length,
            _ = exited.wait_for(|exited| *exited) => pipe.read_now(&mut buffer),
        };
        if length == 0 || out.write(channel, &buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// Copies what the client sends to a pipe or a terminal, and gives the terminal the client's size. The pipe is closed
/// with the client's input.
async fn inputs(
    (pipe, terminal): (Option<Arc<Pipe>>, Option<Arc<Pipe>>),
    stdin: &mut mpsc::Receiver<Vec<u8>>,
    sizes: &mut watch::Receiver<Option<Winsize>>,
) {
    let pipe = pipe.or_else(|| terminal.clone());
    tokio::join!(copy_in(pipe, stdin), resize(terminal, sizes));
}

async fn copy_in(pipe: Option<Arc<Pipe>>, stdin: &mut mpsc::Receiver<Vec<u8>>) {
    if let Some(pipe) = pipe {
        while let Some(bytes) = stdin.recv().await {
            if pipe.write(&bytes).await.is_err() {
                break;
            }
        }
    }
    // What comes now is dropped where it comes in.
    stdin.close();
}

async fn resize(terminal: Option<Arc<Pipe>>, sizes: &mut watch::Receiver<Option<Winsize>>) {
    let Some(terminal) = terminal else {
        return;
    };
    while sizes.changed().await.is_ok() {
        let size = *sizes.borrow_and_update();
        if let Some(size) = size {
            // A terminal that is gone has no size.
            let _ = tcsetwinsize(&terminal.0, size);
        }
    }
}
