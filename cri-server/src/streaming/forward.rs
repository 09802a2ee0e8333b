//! Ports of a pod for a client: each connection is two streams of the client, one for its bytes and one for an error.

use super::spdy::{Event, Incoming, header};
use super::spdy_frame::{CANCEL, data, end, go_away, reset};
use super::wire::{Guard, PIECE, Queue};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

/// Most connections of one client at a time.
const MOST: usize = 256;
/// Longest name by which a client knows a connection, in bytes.
const MAX_NAME: usize = 128;
/// Pieces that wait for one connection.
const WAITING: usize = 4;
/// How long a connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections that are being made at a time, for all clients.
static DIALS: Semaphore = Semaphore::const_new(64);

/// Where connections lead to: the pod's network namespace, or the host's where there is none.
#[derive(Debug, Clone)]
pub struct Place {
    /// The path of the namespace.
    pub netns: Option<PathBuf>,
    /// The only ports; none for any.
    pub ports: Vec<u16>,
}

/// One connection.
#[derive(Debug, Default)]
struct Pair {
    port: u16,
    data: Option<u32>,
    error: Option<u32>,
    input: Option<mpsc::Sender<Vec<u8>>>,
    task: Option<JoinHandle<()>>,
}

impl Drop for Pair {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Serves a client until it is gone.
pub async fn serve<R>(read: R, (queue, guard): (Queue, Guard), place: Place)
where
    R: AsyncRead + Unpin,
{
    let mut forwarding = Forwarding {
        incoming: Incoming::new(read, queue.clone(), guard.clone()),
        pairs: HashMap::new(),
        place: Arc::new(place),
        queue,
    };
    if let Err(error) = forwarding.run(&guard).await {
        tracing::debug!("port-forward: {error}");
    }
    let _ = forwarding.queue.send(go_away(0)).await;
    guard.leave();
}

struct Forwarding<R> {
    incoming: Incoming<R>,
    /// By what the client calls them.
    pairs: HashMap<String, Pair>,
    place: Arc<Place>,
    queue: Queue,
}

impl<R: AsyncRead + Unpin> Forwarding<R> {
    async fn run(&mut self, guard: &Guard) -> io::Result<()> {
        while let Some(event) = self.incoming.next().await? {
            match event {
                Event::Open {
                    stream, headers, ..
                } => self.open(stream, &headers).await?,
                Event::Data {
                    stream,
                    bytes,
                    is_last,
                } => {
                    let pair = self.pairs.values_mut().find(|p| p.data == Some(stream));
                    let Some(pair) = pair else {
                        continue;
                    };
                    if let Some(input) = pair.input.as_ref().filter(|_| !bytes.is_empty()) {
                        // One that has ended takes no more.
                        drop(guard.hand_over(input.send(bytes)).await?);
                    }
                    if is_last {
                        pair.input = None;
                    }
                }
                Event::Reset(stream) => {
                    let is_its = |pair: &Pair| [pair.data, pair.error].contains(&Some(stream));
                    self.pairs.retain(|_, pair| !is_its(pair));
                }
                Event::GoAway => {}
            }
            self.pairs.retain(|_, pair| {
                let has_ended = pair.task.as_ref().is_some_and(JoinHandle::is_finished);
                !has_ended
            });
        }
        Ok(())
    }

    async fn open(&mut self, stream: u32, headers: &[(String, String)]) -> io::Result<()> {
        let port = header(headers, "port").parse::<u16>().unwrap_or(0);
        let is_data = match header(headers, "streamtype") {
            "data" => true,
            "error" => false,
            _ => return self.incoming.refuse(stream).await,
        };
        let name = match header(headers, "requestid") {
            // Old clients open the stream for errors first, and the other right after it.
            "" if is_data => format!("#{}", stream.saturating_sub(2)),
            "" => format!("#{stream}"),
            name => name.to_owned(),
        };
        if name.len() > MAX_NAME {
            return self.incoming.refuse(stream).await;
        }
        let is_known = self.pairs.contains_key(&name);
        let ports = &self.place.ports;
        let is_allowed = port != 0 && (ports.is_empty() || ports.contains(&port));
        if !is_allowed || (!is_known && self.pairs.len() >= MOST) {
            return self.incoming.refuse(stream).await;
        }
        let pair = self.pairs.entry(name.clone()).or_default();
        let place = if is_data {
            &mut pair.data
        } else {
            &mut pair.error
        };
        if place.is_some() || (is_known && pair.port != port) {
            return self.incoming.refuse(stream).await;
        }
        *place = Some(stream);
        pair.port = port;
        self.incoming.take(stream).await?;
        if let (Some(data), Some(error)) = (pair.data, pair.error) {
            let (input, pieces) = mpsc::channel(WAITING);
            pair.input = Some(input);
            let connection = Connection {
                place: self.place.clone(),
                port,
                streams: (data, error),
                queue: self.queue.clone(),
            };
            pair.task = Some(tokio::spawn(connection.run(pieces)));
        }
        Ok(())
    }
}

struct Connection {
    place: Arc<Place>,
    port: u16,
    /// For its bytes, and for an error.
    streams: (u32, u32),
    queue: Queue,
}

impl Connection {
    async fn run(self, pieces: mpsc::Receiver<Vec<u8>>) {
        let (bytes, errors) = self.streams;
        let last = match dial(self.place.netns.clone(), self.port).await {
            Ok(stream) => {
                drop(self.copy(stream, pieces).await);
                vec![end(bytes), end(errors)]
            }
            Err(error) => {
                let text = format!("port {} of the pod: {error}", self.port);
                vec![
                    data(errors, text.as_bytes()),
                    end(errors),
                    reset(bytes, CANCEL),
                ]
            }
        };
        for frame in last {
            // Who is gone hears nothing.
            let _ = self.queue.send(frame).await;
        }
    }

    /// Copies both ways, until the pod's side has ended.
    async fn copy(&self, stream: TcpStream, mut pieces: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
        let (mut read, mut write) = stream.into_split();
        let up = async move {
            while let Some(bytes) = pieces.recv().await {
                write.write_all(&bytes).await?;
            }
            write.shutdown().await?;
            std::future::pending::<io::Result<()>>().await
        };
        let down = async {
            let mut buffer = vec![0; PIECE];
            loop {
                let length = read.read(&mut buffer).await?;
                if length == 0 {
                    return Ok(());
                }
                let sent = self.queue.send(data(self.streams.0, &buffer[..length]));
                let gone = |_| io::Error::from(io::ErrorKind::ConnectionReset);
                sent.await.map_err(gone)?;
            }
        };
        tokio::select! {
            done = up => done,
            done = down => done,
        }
    }
}

/// Connects to a port of a pod, by its loopback device.
///
/// # Errors
/// Those of open(2), setns(2) and connect(2).
pub async fn dial(netns: Option<PathBuf>, port: u16) -> io::Result<TcpStream> {
    let permit = DIALS.acquire().await.map_err(io::Error::other)?;
    let (tell, told) = oneshot::channel();
    // A thread of its own, which ends in the namespace that it goes to.
    let thread = std::thread::Builder::new().name("port-forward".to_owned());
    thread.spawn(move || {
        let connected = connect(netns, port);
        drop(permit);
        // Who asked may be gone.
        drop(tell.send(connected));
    })?;
    let stream = told.await.map_err(io::Error::other)??;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

fn connect(netns: Option<PathBuf>, port: u16) -> io::Result<std::net::TcpStream> {
    if let Some(path) = netns {
        let file = std::fs::File::open(path)?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
    }
    let four = IpAddr::from(Ipv4Addr::LOCALHOST);
    let six = IpAddr::from(Ipv6Addr::LOCALHOST);
    let try_to =
        |address| std::net::TcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE);
    // The first error counts: most pods have both addresses, and few serve on the second alone.
    try_to(four).or_else(|error| try_to(six).map_err(|_| error))
}
