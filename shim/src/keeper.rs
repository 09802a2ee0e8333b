//! The keeper of a container's streams: a process of its own for each container, for what it writes to may block.
//!
//! It is a fork of the shim. It reads what the container prints, from FIFOs or the master of its terminal, and writes
//! the log. It goes on when the shim is killed: the next one finds its socket, `io.sock`, in the container's directory,
//! and gets what only a keeper has kept: a descriptor of the container's first process, by which its end can be told
//! whoever has waited for it, and the master of its terminal.
//!
//! ```text
//!  shim                                keeper
//!              ◀───────────── Opened ── (or Failed: the log cannot be opened)
//!    Reopen ──────────────────────────▶
//!              ◀───────────── Opened ──
//!    Give ────────────────────────────▶ (a new shim)
//!              ◀── Given + pidfd, master
//!    Attach + the client's socket and pipes ▶ (a copy of what is printed from now on)
//!    CloseInput ──────────────────────▶ (the container's input ends)
//!    Finish ──────────────────────────▶ (the container has ended)
//!              ◀──────────── Written ── all that was printed is in the log; the keeper ends
//! ```

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::prctl::set_name;
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind, connect, listen,
    socket,
};
use nix::sys::stat::Mode;
use nix::unistd::read;
use ocirun_shim::wire::Status;
use prost::Message as _;
use runtime_core::kernel::clone::{Parent, Side, fork_into};
use runtime_core::kernel::process;

use self::clients::Clients;
use self::lines::Lines;
pub(crate) use self::lines::stamp;
use self::log::Log;
use crate::disk::{self, now};
use crate::failure::{Call, Failure, Result};
use crate::job::close_but;
use crate::messages;

mod clients;
mod lines;
mod log;

/// Bytes read at once: what a pipe holds.
const READ: usize = 64 << 10;

/// Milliseconds between two looks at whether a container's directory is still there, once nobody else cares.
const ORPHAN: u16 = 5000;

/// What is asked and answered: the first byte of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Word {
    Opened = 1,
    Failed = 2,
    Reopen = 3,
    Give = 4,
    Given = 5,
    Finish = 6,
    Written = 7,
    Attach = 8,
    CloseInput = 9,
}

impl Word {
    fn from_byte(byte: u8) -> Option<Self> {
        let all = [
            Self::Opened,
            Self::Failed,
            Self::Reopen,
            Self::Give,
            Self::Given,
            Self::Finish,
            Self::Written,
            Self::Attach,
            Self::CloseInput,
        ];
        all.into_iter().find(|word| *word as u8 == byte)
    }
}

/// What a keeper reads, writes and keeps.
#[derive(Debug)]
pub(crate) struct Streams {
    /// FIFOs, standard output first, or the master of the terminal alone.
    pub(crate) outputs: Vec<OwnedFd>,
    /// The end of the input that is written to, kept open so that the input does not end.
    pub(crate) input: Option<OwnedFd>,
    /// The container's first process.
    pub(crate) pidfd: OwnedFd,
    /// Whether the output is the master of a terminal.
    pub(crate) is_terminal: bool,
    /// The log; none to drop what is read.
    pub(crate) log: Option<PathBuf>,
    /// Most bytes of a record.
    pub(crate) limit: usize,
    /// Where a new shim finds the keeper.
    pub(crate) socket: PathBuf,
}

/// A keeper, as the shim sees it.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// Messages; its end is the keeper's.
    pub(crate) socket: OwnedFd,
}

/// What a keeper says.
#[derive(Debug)]
pub(crate) enum Said {
    /// The log is open, for the first time or again.
    Opened,
    /// The log could not be opened.
    Failed(Failure),
    /// The container's first process, and the master of its terminal.
    Given(Vec<OwnedFd>),
    /// All is written, and the keeper has ended, or it has ended without.
    Ended,
}

impl Keeper {
    /// Starts one.
    pub(crate) fn start(streams: Streams) -> Result<Self> {
        let listener = listen_at(&streams.socket)?;
        let (socket, childs) = messages::pair().call(|| "socketpair(SOCK_SEQPACKET)")?;
        let side = fork_into(CloneFlags::empty(), None, Parent::Caller).call(|| "clone3()")?;
        match side {
            Side::Parent(..) => Ok(Self { socket }),
            Side::Child => run(streams, listener, childs),
        }
    }

    /// Finds the one that an earlier shim started.
    pub(crate) fn find(path: &Path) -> Result<Self> {
        let socket = seqpacket(SockFlag::SOCK_NONBLOCK)?;
        let (address, _directory) = address_of(path)?;
        connect(socket.as_raw_fd(), &address).call(|| format!("connect({path:?})"))?;
        Ok(Self { socket })
    }

    /// Asks for something.
    pub(crate) fn ask(&self, word: Word) -> nix::Result<()> {
        self.give(word, 0, &[])
    }

    /// Asks for something by a word, a byte and descriptors.
    pub(crate) fn give(&self, word: Word, byte: u8, fds: &[BorrowedFd<'_>]) -> nix::Result<()> {
        messages::send(&self.socket, &[word as u8, byte], fds).map(drop)
    }

    /// What it has said, if it has said something new.
    pub(crate) fn hear(&self) -> Option<Said> {
        let mut buffer = [0; 4096];
        let received = messages::receive(&self.socket, &mut buffer, MsgFlags::MSG_DONTWAIT);
        let (length, fds) = match received {
            Err(Errno::EAGAIN) => return None,
            received => received.unwrap_or_default(),
        };
        let Some((&word, rest)) = buffer[..length].split_first() else {
            return Some(Said::Ended);
        };
        Some(match Word::from_byte(word) {
            Some(Word::Opened) => Said::Opened,
            Some(Word::Failed) => {
                let status = Status::decode(rest).unwrap_or_default();
                Said::Failed(Failure::new(
                    ocirun_shim::wire::Code::Internal,
                    status.message,
                ))
            }
            Some(Word::Given) => Said::Given(fds),
            _ => Said::Ended,
        })
    }
}

fn seqpacket(flags: SockFlag) -> Result<OwnedFd> {
    let flags = flags | SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
        .call(|| "socket(AF_UNIX, SOCK_SEQPACKET)")
}

/// The address of a socket by the descriptor of its directory, which has to stay open: two ids of 64 digits in a path
/// are more than an address has room for, see unix(7).
fn address_of(path: &Path) -> Result<(UnixAddr, OwnedFd)> {
    let (parent, name) = (path.parent(), path.file_name());
    let (parent, name) = (parent.unwrap_or(path), name.unwrap_or_default());
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = open(parent, flags, Mode::empty()).call(|| format!("open({parent:?})"))?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string());
    let address = UnixAddr::new(&short.join(name)).call(|| format!("sockaddr_un({path:?})"))?;
    Ok((address, directory))
}

fn listen_at(path: &Path) -> Result<OwnedFd> {
    disk::remove(path)?;
    let listener = seqpacket(SockFlag::empty())?;
    let (address, _directory) = address_of(path)?;
    bind(listener.as_raw_fd(), &address).call(|| format!("bind({path:?})"))?;
    // More than one: a shim may have died while the keeper wrote to a slow disk.
    let backlog = Backlog::new(16).call(|| "listen(16)")?;
    listen(&listener, backlog).call(|| "listen(16)")?;
    Ok(listener)
}

/// The process. Never returns.
fn run(streams: Streams, listener: OwnedFd, shim: OwnedFd) -> ! {
    let _ = set_name(c"ocirun-log");
    let _ = nix::unistd::chdir("/");
    let none = shim.as_raw_fd();
    let output = |index: usize| streams.outputs.get(index).map_or(none, AsRawFd::as_raw_fd);
    let kept = [
        output(0),
        output(1),
        streams.input.as_ref().map_or(none, AsRawFd::as_raw_fd),
        streams.pidfd.as_raw_fd(),
        listener.as_raw_fd(),
    ];
    let closed = close_but(kept, none);
    let mut keeping = Keeping::new(streams, listener, shim);
    if closed.is_ok() {
        keeping.open();
        keeping.keep();
    }
    process::exit_now(0)
}

/// A keeper at work.
struct Keeping {
    outputs: Vec<Output>,
    clients: Clients,
    input: Option<OwnedFd>,
    pidfd: OwnedFd,
    is_terminal: bool,
    path: Option<PathBuf>,
    log: Option<Log>,
    listener: OwnedFd,
    address: PathBuf,
    shim: Option<OwnedFd>,
    records: Vec<u8>,
}

struct Output {
    fd: OwnedFd,
    lines: Lines,
    has_ended: bool,
}

/// What to do after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    End,
}

impl Keeping {
    fn new(streams: Streams, listener: OwnedFd, shim: OwnedFd) -> Self {
        let limit = streams.limit;
        let outputs = streams.outputs.into_iter().zip(["stdout", "stderr"]);
        Self {
            outputs: outputs
                .map(|(fd, name)| Output {
                    fd,
                    lines: Lines::new(name, limit),
                    has_ended: false,
                })
                .collect(),
            clients: Clients::default(),
            input: streams.input,
            pidfd: streams.pidfd,
            is_terminal: streams.is_terminal,
            path: streams.log,
            log: None,
            listener,
            address: streams.socket,
            shim: Some(shim),
            records: Vec::with_capacity(2 * READ),
        }
    }

    fn open(&mut self) {
        let opened = match (&mut self.log, &self.path) {
            (Some(log), _) => log.reopen(),
            (None, Some(path)) => Log::open(path.clone()).map(|log| self.log = Some(log)),
            (None, None) => Ok(()),
        };
        match opened {
            Ok(()) => self.say(Word::Opened, &[], &[]),
            Err(failure) => self.say(Word::Failed, &failure.status().encode_to_vec(), &[]),
        }
    }

    fn say(&self, word: Word, text: &[u8], fds: &[BorrowedFd<'_>]) {
        if let Some(shim) = &self.shim {
            let message = [&[word as u8], text].concat();
            // One that is gone is followed by one that asks again.
            let _ = messages::send(shim, &message, fds);
        }
    }

    fn keep(&mut self) {
        let mut buffer = vec![0; READ];
        loop {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(_) => return,
            };
            if ready.output {
                self.copy(&mut buffer);
            }
            self.clients.go_on();
            if ready.listener {
                self.accept();
            } else if ready.shim && self.answer(&mut buffer) == Next::End {
                return;
            }
            if ready.nothing && !self.address.exists() {
                // The pod is gone, and whoever removed it did not ask.
                return;
            }
        }
    }

    fn wait(&self) -> nix::Result<Ready> {
        let mut fds = vec![PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        fds.extend(
            self.shim
                .as_ref()
                .map(|shim| PollFd::new(shim.as_fd(), PollFlags::POLLIN)),
        );
        let first_output = fds.len();
        let living = self.outputs.iter().filter(|output| !output.has_ended);
        fds.extend(living.map(|output| PollFd::new(output.fd.as_fd(), PollFlags::POLLIN)));
        let first_client = fds.len();
        fds.extend(self.clients.wanted());
        let timeout = if self.shim.is_some() {
            PollTimeout::NONE
        } else {
            PollTimeout::from(ORPHAN)
        };
        let count = poll(&mut fds, timeout)?;
        let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        Ok(Ready {
            listener: is_ready(&fds[0]),
            shim: fds[1..first_output].iter().any(is_ready),
            output: fds[first_output..first_client].iter().any(is_ready),
            nothing: count == 0,
        })
    }

    /// Reads once from each output that has something, and writes what that completes.
    fn copy(&mut self, buffer: &mut [u8]) -> bool {
        let stamp = stamp(now());
        let mut any = false;
        let living = self.outputs.iter_mut().enumerate();
        for (index, output) in living.filter(|(_, output)| !output.has_ended) {
            match read(&output.fd, buffer) {
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                // A FIFO that nobody has open for writing, or a terminal of which nobody has the other side.
                Ok(0) | Err(_) => output.has_ended = true,
                Ok(length) => {
                    any = true;
                    self.clients.give(index, &buffer[..length]);
                    output
                        .lines
                        .add(&buffer[..length], &stamp, &mut self.records);
                }
            }
        }
        self.flush();
        any
    }

    fn flush(&mut self) {
        if let Some(log) = &mut self.log
            && !self.records.is_empty()
        {
            log.write(&self.records);
        }
        self.records.clear();
    }

    fn accept(&mut self) {
        if let Ok(fd) = accept4(self.listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            self.shim = Some(runtime_core::kernel::fd::owned_from_message(fd));
        }
    }

    fn answer(&mut self, buffer: &mut [u8]) -> Next {
        let Some(shim) = &self.shim else {
            return Next::GoOn;
        };
        let received = messages::receive(shim, buffer, MsgFlags::MSG_DONTWAIT);
        if received
            .as_ref()
            .is_err_and(|errno| *errno == Errno::EAGAIN)
        {
            return Next::GoOn;
        }
        let (length, fds) = received.unwrap_or_default();
        let word = buffer[..length].first().copied();
        match word.and_then(Word::from_byte) {
            Some(Word::Attach) => {
                let bits = buffer[..length].get(1).copied().unwrap_or_default();
                self.clients.add(bits, fds);
            }
            Some(Word::CloseInput) => self.input = None,
            Some(Word::Reopen) => self.open(),
            Some(Word::Give) => self.give(),
            Some(Word::Finish) => {
                self.finish(buffer);
                return Next::End;
            }
            _ => self.shim = None,
        }
        Next::GoOn
    }

    fn give(&self) {
        let mut fds = vec![self.pidfd.as_fd()];
        if self.is_terminal {
            fds.extend(self.outputs.iter().map(|output| output.fd.as_fd()));
        }
        self.say(Word::Given, &[], &fds);
    }

    /// Writes what is left. The container has ended; what it leaked to others is not waited for.
    fn finish(&mut self, buffer: &mut [u8]) {
        /// More than the pipes hold.
        const MOST_READS: usize = 64;
        for _ in 0..MOST_READS {
            if !self.copy(buffer) {
                break;
            }
        }
        let stamp = stamp(now());
        for output in &mut self.outputs {
            output.lines.finish(&stamp, &mut self.records);
        }
        self.flush();
        if let Some(log) = &mut self.log {
            log.follow();
        }
        let _ = disk::remove(&self.address);
        self.say(Word::Written, &[], &[]);
        self.clients.finish();
    }
}

/// What [`Keeping::wait`] found.
#[derive(Clone, Copy, Debug)]
struct Ready {
    listener: bool,
    shim: bool,
    output: bool,
    nothing: bool,
}
