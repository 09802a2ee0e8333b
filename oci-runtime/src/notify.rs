//! sd_notify(3): what a container's program tells goes on to who supervises this one, as far as that is its business.

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::pipe2;

/// How long the supervisor is given to read what it was told, in ms.
const READING: u16 = 30_000;
/// More than a message has.
const LONGEST: usize = 4096;

/// The caller's socket, if it wants to hear.
pub(crate) fn callers() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty())
}

/// The way from a container's socket to the caller's.
#[derive(Debug)]
pub(crate) struct Relay {
    containers: UnixDatagram,
    callers: UnixDatagram,
}

impl Relay {
    /// Connects the socket of a container to that of the caller.
    ///
    /// # Errors
    /// Those of connecting.
    pub(crate) fn new(containers: UnixDatagram, callers: &OsString) -> io::Result<Self> {
        let address = match callers.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(callers)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        containers.set_nonblocking(true)?;
        Ok(Self {
            containers,
            callers: socket,
        })
    }

    /// Readable when the program has told something.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.containers.as_fd()
    }

    /// Passes on that the program is ready, and gives whether it was that. Nothing else is: this program's supervisor
    /// knows only this program.
    pub(crate) fn pass(&self) -> bool {
        let mut message = [0; LONGEST];
        let is_ready = |message: &[u8]| {
            let mut lines = message.split(|&byte| byte == b'\n');
            lines.any(|line| line.starts_with(b"READY="))
        };
        while let Ok(length) = self.containers.recv(&mut message) {
            if is_ready(&message[..length]) {
                return self.callers.send(b"READY=1\n").is_ok();
            }
        }
        false
    }

    /// Waits until the program is ready, and gives its process over to the supervisor; or until it has ended.
    ///
    /// # Errors
    /// The errno of poll(2).
    pub(crate) fn wait(&self, pid: i32, process: BorrowedFd<'_>) -> nix::Result<()> {
        loop {
            let mut fds = [
                PollFd::new(self.as_fd(), PollFlags::POLLIN),
                PollFd::new(process, PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let has_ended = fds[1].any().unwrap_or(false);
            if self.pass() {
                // This program ends now; the other one is what the unit is about.
                let _ = self.callers.send(format!("MAINPID={pid}\n").as_bytes());
                self.barrier();
                return Ok(());
            }
            if has_ended {
                return Ok(());
            }
        }
    }

    /// Waits until the supervisor has read everything: what a process said that is gone by then counts for nothing.
    fn barrier(&self) {
        let Ok((end, passed)) = pipe2(OFlag::O_CLOEXEC) else {
            return;
        };
        let descriptors = [passed.as_raw_fd()];
        let sent = sendmsg::<()>(
            self.callers.as_raw_fd(),
            &[IoSlice::new(b"BARRIER=1\n")],
            &[ControlMessage::ScmRights(&descriptors)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        );
        drop(passed);
        if sent.is_ok() {
            let mut fds = [PollFd::new(end.as_fd(), PollFlags::empty())];
            let _ = poll(&mut fds, PollTimeout::from(READING));
        }
    }
}
