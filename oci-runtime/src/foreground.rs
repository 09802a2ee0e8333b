//! A process in the foreground: its signals, its terminal, its end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{read, write};
use runtime_core::Child;
use runtime_core::kernel::{pidfd, tty};

use crate::notify::Relay;

/// Signals as they were before this program held them back.
///
/// Held back from before the container's process exists: none that comes for it is lost.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Holds back every signal of this process.
    ///
    /// # Errors
    /// The errno of sigprocmask(2) or signalfd(2).
    pub(crate) fn hold() -> nix::Result<Self> {
        let all = SigSet::all();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), None)?;
        let fd = SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { fd })
    }
}

/// The caller's terminal, raw as long as this value lives.
struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Makes standard input raw, if it is a terminal.
    fn new() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw).ok()?;
        Some(Self { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.before);
    }
}

/// Stays with `child` until it ends: forwards signals to it and, between the caller's terminal and `master`, bytes and
/// sizes, and what it tells by `notify`. Gives its exit code, 128 and the signal where one ended it.
///
/// # Errors
/// The errno of what it waits by.
pub(crate) fn follow(
    child: &Child,
    master: Option<OwnedFd>,
    signals: &Signals,
    notify: Option<&Relay>,
) -> nix::Result<i32> {
    let raw = master.as_ref().and_then(|_| RawTerminal::new());
    let mut terminal = master.map(TerminalRelay::new);
    if let Some(terminal) = &terminal {
        terminal.resize();
    }
    loop {
        wait_for_something(signals, terminal.as_ref(), notify)?;
        if let Some(relay) = notify {
            relay.pass();
        }
        if let Some(relay) = &mut terminal
            && !relay.pass()
        {
            terminal = None;
        }
        while let Some(signal) = signals.fd.read_signal()? {
            let number = i32::try_from(signal.ssi_signo).unwrap_or_default();
            match Signal::try_from(number) {
                Ok(Signal::SIGCHLD) => {
                    if let Some(code) = reap(child)? {
                        if let Some(mut relay) = terminal.take() {
                            relay.finish();
                        }
                        drop(raw);
                        return Ok(code);
                    }
                }
                Ok(Signal::SIGWINCH) if terminal.is_some() => {
                    if let Some(relay) = &terminal {
                        relay.resize();
                    }
                }
                // It may have ended meanwhile, which SIGCHLD will tell.
                _ => drop(pidfd::send_signal(child.pidfd.as_fd(), number)),
            }
        }
    }
}

fn wait_for_something(
    signals: &Signals,
    terminal: Option<&TerminalRelay>,
    notify: Option<&Relay>,
) -> nix::Result<()> {
    let mut fds = vec![PollFd::new(signals.fd.as_fd(), PollFlags::POLLIN)];
    if let Some(relay) = terminal {
        fds.extend(relay.interests());
    }
    fds.extend(notify.map(|relay| PollFd::new(relay.as_fd(), PollFlags::POLLIN)));
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Reaps everything that has ended; the code of `child` if it was among them.
fn reap(child: &Child) -> nix::Result<Option<i32>> {
    loop {
        let status = match waitid(
            Id::All,
            WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT,
        ) {
            Err(Errno::ECHILD) => return Ok(None),
            other => other?,
        };
        let (pid, code) = match status {
            WaitStatus::Exited(pid, code) => (pid, code),
            WaitStatus::Signaled(pid, signal, _) => (pid, 128 + signal as i32),
            _ => return Ok(None),
        };
        waitpid(pid, None)?;
        if pid == child.pid {
            return Ok(Some(code));
        }
    }
}

/// Bytes on their way between the caller's terminal and the container's.
struct TerminalRelay {
    master: OwnedFd,
    /// Whether the caller still has something to say.
    listens: bool,
    /// What the container has not read yet.
    typed: Vec<u8>,
}

/// Most bytes taken from the caller before the container has read them.
const MOST_TYPED: usize = 64 << 10;

impl TerminalRelay {
    fn new(master: OwnedFd) -> Self {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        // What the container does not read must not stop what it writes.
        let _ = fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
        Self {
            master,
            listens: true,
            typed: Vec::new(),
        }
    }

    fn interests(&self) -> Vec<PollFd<'_>> {
        let mut of_master = PollFlags::POLLIN;
        if !self.typed.is_empty() {
            of_master |= PollFlags::POLLOUT;
        }
        let mut interests = vec![PollFd::new(self.master.as_fd(), of_master)];
        if self.listens && self.typed.len() < MOST_TYPED {
            interests.push(PollFd::new(stdin(), PollFlags::POLLIN));
        }
        interests
    }

    /// Passes on what is there. False when the container's side is closed.
    fn pass(&mut self) -> bool {
        if !self.pass_output() {
            return false;
        }
        if self.listens && self.typed.len() < MOST_TYPED && is_readable(stdin()) {
            let mut buffer = [0; 4096];
            match read(stdin(), &mut buffer) {
                Ok(0) | Err(Errno::EIO) => self.listens = false,
                Ok(length) => self.typed.extend_from_slice(&buffer[..length]),
                Err(_) => {}
            }
        }
        if !self.typed.is_empty()
            && let Ok(length) = write(&self.master, &self.typed)
        {
            self.typed.drain(..length);
        }
        true
    }

    fn pass_output(&self) -> bool {
        let mut buffer = [0; 32 << 10];
        match read(&self.master, &mut buffer) {
            // EIO: nobody has the slave open.
            Ok(0) | Err(Errno::EIO) => false,
            Ok(length) => {
                write_all(&buffer[..length]);
                true
            }
            Err(_) => true,
        }
    }

    /// Passes on what the container wrote before it ended.
    fn finish(&mut self) {
        while is_readable(self.master.as_fd()) && self.pass_output() {}
    }

    fn resize(&self) {
        if let Ok(size) = tty::size(stdin()) {
            let _ = tty::set_size(self.master.as_fd(), size);
        }
    }
}

fn stdin() -> BorrowedFd<'static> {
    static STDIN: std::sync::LazyLock<io::Stdin> = std::sync::LazyLock::new(io::stdin);
    STDIN.as_fd()
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
        && fds[0]
            .revents()
            .is_some_and(|events| events.contains(PollFlags::POLLIN))
}

fn write_all(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match write(io::stdout(), bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let stdout = io::stdout();
                let _ = poll(
                    &mut [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)],
                    PollTimeout::NONE,
                );
            }
            Err(_) => return,
        }
    }
}
