//! Who attached to a container: they get what it prints, as it comes.
//!
//! A client that reads more slowly than the container prints makes it wait for a moment, as a slow terminal would; one
//! that does not read at all is cut off, and costs the others that moment once.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;

/// Most bytes that wait for a client, beside those in its pipe.
const MOST: usize = 1 << 20;
/// How long a client may take to make room.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most clients of one container.
const MOST_CLIENTS: usize = 32;

/// The clients of a container.
#[derive(Debug, Default)]
pub(super) struct Clients(Vec<Client>);

#[derive(Debug)]
struct Client {
    /// Closed by the client when it leaves, and by the end of this process when the container ends.
    life: OwnedFd,
    /// Output and errors.
    outputs: [Option<Pipe>; 2],
}

#[derive(Debug)]
struct Pipe {
    fd: OwnedFd,
    waiting: Vec<u8>,
}

/// Whether a client stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stays,
    Goes,
}

impl Clients {
    /// Takes a client: `fds` are its socket, then pipes for the streams whose bits are set. One too many is sent away.
    pub(super) fn add(&mut self, bits: u8, fds: Vec<OwnedFd>) {
        let mut fds = fds.into_iter();
        let Some(life) = fds.next().filter(|_| self.0.len() < MOST_CLIENTS) else {
            return;
        };
        let outputs = [2, 4].map(|bit| {
            let fd = if bits & bit == 0 { None } else { fds.next() };
            fd.map(|fd| Pipe {
                fd,
                waiting: Vec::new(),
            })
        });
        self.0.push(Client { life, outputs });
    }

    /// Gives everybody what was printed: `index` is 0 for output, 1 for errors.
    pub(super) fn give(&mut self, index: usize, bytes: &[u8]) {
        self.0
            .retain_mut(|client| match &mut client.outputs[index] {
                Some(pipe) => pipe.give(bytes) == Fate::Stays,
                None => true,
            });
    }

    /// What to wait for: room in pipes that something waits for, and the end of clients.
    pub(super) fn wanted(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.0.iter().flat_map(|client| {
            let pipes = client.outputs.iter().flatten();
            let full = pipes.filter(|pipe| !pipe.waiting.is_empty());
            let life = PollFd::new(client.life.as_fd(), PollFlags::POLLIN);
            full.map(|pipe| PollFd::new(pipe.fd.as_fd(), PollFlags::POLLOUT))
                .chain([life])
        })
    }

    /// Goes on with what waits, and forgets who is gone.
    pub(super) fn go_on(&mut self) {
        self.0.retain_mut(|client| {
            let mut pipes = client.outputs.iter_mut().flatten();
            let is_fed = pipes.all(|pipe| pipe.flush() == Fate::Stays);
            is_fed && !has_left(&client.life)
        });
    }

    /// Gives everybody a moment to take the last of it.
    pub(super) fn finish(&mut self) {
        let until = Instant::now() + PATIENCE;
        for client in &mut self.0 {
            for pipe in client.outputs.iter_mut().flatten() {
                while !pipe.waiting.is_empty() && pipe.wait(until) == Fate::Stays {
                    if pipe.flush() == Fate::Goes {
                        break;
                    }
                }
            }
        }
        self.0.clear();
    }
}

/// Nobody sends anything by this socket, so that what there is to be read is its end.
fn has_left(life: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(life.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

impl Pipe {
    fn give(&mut self, bytes: &[u8]) -> Fate {
        self.waiting.extend_from_slice(bytes);
        let until = Instant::now() + PATIENCE;
        loop {
            if self.flush() == Fate::Goes {
                return Fate::Goes;
            }
            if self.waiting.len() <= MOST {
                return Fate::Stays;
            }
            if self.wait(until) == Fate::Goes {
                return Fate::Goes;
            }
        }
    }

    /// Writes what can be written now.
    fn flush(&mut self) -> Fate {
        let mut written = 0;
        let fate = loop {
            if written == self.waiting.len() {
                break Fate::Stays;
            }
            match write(&self.fd, &self.waiting[written..]) {
                Ok(length) => written += length,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break Fate::Stays,
                Err(_) => break Fate::Goes,
            }
        };
        self.waiting.drain(..written);
        if self.waiting.is_empty() {
            self.waiting.shrink_to(4096);
        }
        fate
    }

    /// Waits for room.
    fn wait(&self, until: Instant) -> Fate {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut fds, timeout) {
            Ok(0) => Fate::Goes,
            Ok(_) | Err(Errno::EINTR) => Fate::Stays,
            Err(_) => Fate::Goes,
        }
    }
}
