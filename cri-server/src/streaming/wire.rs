//! A client's connection, once it is no HTTP any more: a task that writes what a bounded queue gives it, and what a
//! reader needs to know when it is over.
//!
//! Nothing here holds more than a few pieces of a stream. Who does not read makes the writer wait, and by the queue those
//! who produce for it; who does not take input makes the reader wait. Idle for long, or closed, all of it ends.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Pieces that wait to be written.
const QUEUE: usize = 4;
/// Most bytes of a piece.
pub const PIECE: usize = 32 << 10;
/// How long a client has to close its side once the last byte was written.
const LINGER: Duration = Duration::from_secs(5);
/// How often it is looked whether a client is there that nothing is read from.
const LOOK: Duration = Duration::from_secs(1);

/// The client is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

#[derive(Debug)]
enum Packet {
    Bytes(Vec<u8>),
    End,
}

/// Where frames go.
#[derive(Debug, Clone)]
pub struct Queue(mpsc::Sender<Packet>);

impl Queue {
    /// Queues a frame, and waits where too many are queued.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn send(&self, bytes: Vec<u8>) -> Result<(), Gone> {
        self.0.send(Packet::Bytes(bytes)).await.map_err(|_| Gone)
    }

    /// Says that nothing follows: what is queued is written, and the connection closed.
    pub async fn end(&self) {
        // Gone already is as good.
        drop(self.0.send(Packet::End).await);
    }
}

/// How a connection is.
#[derive(Debug, Clone)]
pub struct Guard {
    socket: Arc<OwnedFd>,
    idle: Duration,
    last: Arc<Mutex<Instant>>,
    /// Whether the last byte was written.
    over: watch::Receiver<bool>,
    gone: Arc<watch::Sender<bool>>,
}

impl Guard {
    /// Waits for the client's end.
    pub async fn gone(&self) {
        let mut gone = self.gone.subscribe();
        // The sender is here.
        drop(gone.wait_for(|gone| *gone).await);
    }

    /// Says that the client is gone.
    pub fn leave(&self) {
        self.gone.send_replace(true);
    }

    /// Reads, as long as it makes sense to wait.
    ///
    /// # Errors
    /// Those of reading; `TimedOut` for a connection that is idle or over.
    pub async fn read<T>(&self, read: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        tokio::select! {
            done = read => {
                self.touch();
                done
            }
            () = self.expired() => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Hands something over to somebody who may not take it, as long as the client is there.
    ///
    /// # Errors
    /// `TimedOut` as for [`Self::read`], `ConnectionReset` for a client that is gone.
    pub async fn hand_over<T>(&self, take: impl Future<Output = T>) -> io::Result<T> {
        let looked = async {
            loop {
                tokio::time::sleep(LOOK).await;
                if self.has_hung_up() {
                    return;
                }
            }
        };
        tokio::select! {
            done = take => Ok(done),
            () = self.expired() => Err(io::ErrorKind::TimedOut.into()),
            () = looked => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    /// Queues a frame of the reader's own: an answer, or a refusal.
    ///
    /// # Errors
    /// As for [`Self::hand_over`].
    pub async fn send(&self, queue: &Queue, frame: Vec<u8>) -> io::Result<()> {
        let sent = self.hand_over(queue.send(frame)).await?;
        sent.map_err(|Gone| io::ErrorKind::ConnectionReset.into())
    }

    fn has_hung_up(&self) -> bool {
        let ends = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let mut fds = [PollFd::new(&*self.socket, ends)];
        let found = poll(&mut fds, Some(&Timespec::default()));
        found.is_ok_and(|count| count > 0)
    }

    fn touch(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    async fn expired(&self) {
        let idle = async {
            loop {
                let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
                match self.idle.checked_sub(last.elapsed()) {
                    Some(left) if !left.is_zero() => tokio::time::sleep(left).await,
                    _ => return,
                }
            }
        };
        let lingered = async {
            let mut over = self.over.clone();
            if over.wait_for(|over| *over).await.is_err() {
                // The writer has ended: nobody is there.
                return;
            }
            tokio::time::sleep(LINGER).await;
        };
        tokio::select! {
            () = idle => {}
            () = lingered => {}
        }
    }
}

/// Starts the writer of a connection, whose socket is looked at; it ends after `idle` without a byte.
pub fn start<W>(write: W, socket: Arc<OwnedFd>, idle: Duration) -> (Queue, Guard)
where
    W: AsyncWrite + Unpin + Send + 'static,
{
    let (queue, packets) = mpsc::channel(QUEUE);
    let (ended, over) = watch::channel(false);
    let guard = Guard {
        socket,
        idle,
        last: Arc::new(Mutex::new(Instant::now())),
        over,
        gone: Arc::new(watch::channel(false).0),
    };
    let own = guard.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = write_all(write, packets, &own) => {}
            () = own.gone() => return,
        }
        ended.send_replace(true);
        own.gone().await;
    });
    (Queue(queue), guard)
}

async fn write_all(
    mut write: impl AsyncWrite + Unpin,
    mut packets: mpsc::Receiver<Packet>,
    guard: &Guard,
) {
    while let Some(Packet::Bytes(bytes)) = packets.recv().await {
        if write.write_all(&bytes).await.is_err() || write.flush().await.is_err() {
            guard.leave();
            return;
        }
        guard.touch();
    }
    // Who is gone has missed nothing that could still be said.
    drop(write.shutdown().await);
}
