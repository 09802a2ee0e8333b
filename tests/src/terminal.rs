//! Terminals on the test's side: a pseudoterminal that plays the user's, and the socket to which a detached
//! container's terminal is handed over.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcgetwinsize, tcsetwinsize};
use serde_json::Value;

use crate::{accept_in_time, eventually, receive_descriptors};

/// The master of a terminal, and all that was read from it so far.
#[derive(Debug)]
pub struct Terminal {
    master: OwnedFd,
    screen: Vec<u8>,
}

impl Terminal {
    /// A new terminal of this size and its other end, which a program gets as standard input, output and error.
    ///
    /// # Panics
    /// When the kernel gives none.
    #[must_use]
    pub fn open(rows: u16, columns: u16) -> (Self, OwnedFd) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("open /dev/ptmx");
        unlockpt(&master).expect("ioctl(TIOCSPTLCK)");
        let other_end = ioctl_tiocgptpeer(&master, flags).expect("ioctl(TIOCGPTPEER)");
        let terminal = Self::from_master(master);
        terminal.resize(rows, columns);
        (terminal, other_end)
    }

    /// Takes a master that came over a socket.
    ///
    /// # Panics
    /// When it is no terminal.
    #[must_use]
    pub fn from_master(master: OwnedFd) -> Self {
        rustix::io::ioctl_fionbio(&master, true).expect("ioctl(FIONBIO)");
        Self {
            master,
            screen: Vec::new(),
        }
    }

    /// Changes the size. Only programs whose controlling terminal this is hear of it by SIGWINCH.
    ///
    /// # Panics
    /// When the other end is gone for good.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.master, size).expect("ioctl(TIOCSWINSZ)");
    }

    /// Rows and columns.
    ///
    /// # Panics
    /// When the other end is gone for good.
    #[must_use]
    pub fn size(&self) -> (u16, u16) {
        let size = tcgetwinsize(&self.master).expect("ioctl(TIOCGWINSZ)");
        (size.ws_row, size.ws_col)
    }

    /// The line discipline: raw while a program with its own terminal is in the foreground.
    ///
    /// # Panics
    /// When the other end is gone for good.
    #[must_use]
    pub fn attributes(&self) -> Termios {
        tcgetattr(&self.master).expect("tcgetattr")
    }

    /// Types.
    ///
    /// # Panics
    /// When nobody reads.
    pub fn write(&self, text: &str) {
        let count =
            rustix::io::write(&self.master, text.as_bytes()).expect("write to the terminal");
        assert_eq!(count, text.len());
    }

    /// All that was printed so far.
    ///
    /// # Panics
    /// On any error but the end and "nothing yet".
    pub fn screen(&mut self) -> String {
        let mut buffer = [0; 4096];
        loop {
            match nix::unistd::read(self.master.as_fd(), &mut buffer) {
                Ok(0) | Err(Errno::EAGAIN | Errno::EIO) => break,
                Ok(count) => self.screen.extend_from_slice(&buffer[..count]),
                Err(error) => panic!("read from the terminal: {error}"),
            }
        }
        String::from_utf8_lossy(&self.screen).into_owned()
    }

    /// Waits until this was printed.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        eventually(text, || self.screen().contains(text));
    }

    /// The lines of the screen that are JSON.
    pub fn values(&mut self) -> Vec<Value> {
        self.screen()
            .lines()
            .filter_map(|line| serde_json::from_str(line.trim()).ok())
            .collect()
    }
}

/// The socket of `--console-socket`.
#[derive(Debug)]
pub struct ConsoleSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ConsoleSocket {
    /// A listening socket at this path.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn bind(path: PathBuf) -> Self {
        let listener = UnixListener::bind(&path).expect("bind the console socket");
        Self { listener, path }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The terminal that was sent, and the bytes that came with it.
    ///
    /// # Panics
    /// When none comes, or more than one descriptor.
    #[must_use]
    pub fn receive(&self) -> (Terminal, String) {
        let stream = accept_in_time(&self.listener);
        let (bytes, mut descriptors) = receive_descriptors(&stream);
        assert_eq!(descriptors.len(), 1, "one descriptor");
        let master = descriptors.pop().expect("one descriptor");
        (
            Terminal::from_master(master),
            String::from_utf8_lossy(&bytes).into_owned(),
        )
    }
}
