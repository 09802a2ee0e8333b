//! A connection of a client that speaks SPDY/3.1: it opens streams, each of which says what it is by its headers.

use super::session::{Channel, Feed, Form, Out, Session, Wanted, session};
use super::spdy_frame::{Control, HEAD, Head, REFUSED, Reader, Writer, ping, reset};
use super::wire::{Guard, PIECE, Queue};
use std::collections::HashMap;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::oneshot;

/// How long a client may take to open all streams of a session.
const OPENING: Duration = Duration::from_secs(30);

/// What a client does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It opens a stream, which has to be taken or reset.
    Open {
        /// Its number.
        stream: u32,
        /// Whether nothing comes on it.
        is_last: bool,
        /// What it is.
        headers: Vec<(String, String)>,
    },
    /// It sends on a stream.
    Data {
        /// Which.
        stream: u32,
        /// A piece.
        bytes: Vec<u8>,
        /// Whether nothing follows.
        is_last: bool,
    },
    /// It does without a stream.
    Reset(u32),
    /// It opens no more streams.
    GoAway,
}

/// The side of a connection that is read.
#[derive(Debug)]
pub struct Incoming<R> {
    read: R,
    queue: Queue,
    guard: Guard,
    frames: Reader,
    replies: Writer,
    /// The data frame that is being read: its stream, what is left of it, whether nothing follows.
    left: Option<(u32, usize, bool)>,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    /// Reads what comes from `read`, and answers by `queue`.
    pub fn new(read: R, queue: Queue, guard: Guard) -> Self {
        Self {
            read,
            queue,
            guard,
            frames: Reader::default(),
            replies: Writer::default(),
            left: None,
        }
    }

    /// What comes next; nothing at the end of the connection.
    ///
    /// # Errors
    /// Those of reading, and `InvalidData` for what is no SPDY.
    pub async fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            if let Some((stream, left, is_last)) = self.left.take() {
                return self.piece(stream, left, is_last).await.map(Some);
            }
            let mut head = [0; HEAD];
            match self.guard.read(self.read.read_exact(&mut head)).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                read => read?,
            };
            match Head::parse(head)? {
                Head::Data {
                    stream,
                    is_last,
                    length,
                } => self.left = Some((stream, length, is_last)),
                Head::Control {
                    kind,
                    flags,
                    length,
                } => {
                    let mut payload = vec![0; length];
                    self.guard.read(self.read.read_exact(&mut payload)).await?;
                    match self.frames.control(kind, flags, &payload)? {
                        Control::Open {
                            stream,
                            is_last,
                            headers,
                        } => {
                            return Ok(Some(Event::Open {
                                stream,
                                is_last,
                                headers,
                            }));
                        }
                        Control::Reset(stream) => return Ok(Some(Event::Reset(stream))),
                        Control::GoAway => return Ok(Some(Event::GoAway)),
                        Control::Ping(id) => self.send(ping(id)).await?,
                        Control::Other => {}
                    }
                }
            }
        }
    }

    async fn piece(&mut self, stream: u32, left: usize, is_last: bool) -> io::Result<Event> {
        let mut bytes = vec![0; left.min(PIECE)];
        self.guard.read(self.read.read_exact(&mut bytes)).await?;
        let left = left - bytes.len();
        if left > 0 {
            self.left = Some((stream, left, is_last));
        }
        Ok(Event::Data {
            stream,
            bytes,
            is_last: is_last && left == 0,
        })
    }

    /// Takes a stream.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn take(&mut self, stream: u32) -> io::Result<()> {
        let frame = self.replies.reply(stream);
        self.send(frame).await
    }

    /// Does not take a stream.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn refuse(&mut self, stream: u32) -> io::Result<()> {
        self.send(reset(stream, REFUSED)).await
    }

    async fn send(&mut self, frame: Vec<u8>) -> io::Result<()> {
        self.guard.send(&self.queue, frame).await
    }
}

/// The value of a header.
#[must_use]
pub fn header<'a>(headers: &'a [(String, String)], name: &str) -> &'a str {
    let found = headers.iter().find(|(known, _)| known == name);
    found.map_or("", |(_, value)| value)
}

/// A session over SPDY: it begins when the client has opened all its streams.
///
/// # Errors
/// `TimedOut` for a client that does not, and those of reading.
pub async fn begin<R>(
    read: R,
    (queue, guard): (Queue, Guard),
    wanted: Wanted,
    version: u8,
) -> io::Result<Session>
where
    R: AsyncRead + Unpin + Send + 'static,
{
    let out = Out {
        queue: queue.clone(),
        form: Form::Spdy([0; 5]),
        version,
    };
    let (mut session, feed) = session(out, guard.clone());
    let (opened, streams) = oneshot::channel();
    let incoming = Incoming::new(read, queue, guard.clone());
    let opening = Opening {
        wanted,
        version,
        streams: [0; 5],
        tell: Some(opened),
    };
    tokio::spawn(async move {
        let guard = incoming.guard.clone();
        if let Err(error) = feed_all(incoming, feed, opening).await {
            tracing::debug!("stream: {error}");
        }
        guard.leave();
    });
    let streams = tokio::time::timeout(OPENING, streams).await;
    let Ok(Ok(streams)) = streams else {
        guard.leave();
        return Err(io::ErrorKind::TimedOut.into());
    };
    session.out.form = Form::Spdy(streams);
    Ok(session)
}

/// The streams that were opened so far.
struct Opening {
    wanted: Wanted,
    version: u8,
    streams: [u32; 5],
    tell: Option<oneshot::Sender<[u32; 5]>>,
}

impl Opening {
    /// The channel of a stream that the client opens, if there is one to open.
    fn channel(&mut self, stream: u32, headers: &[(String, String)]) -> Option<Channel> {
        let channel = Channel::named(header(headers, "streamtype"))?;
        let place = self.streams.get_mut(usize::from(channel.number()))?;
        if *place != 0 || stream == 0 || !self.wanted.has(channel, self.version) {
            return None;
        }
        *place = stream;
        Some(channel)
    }

    fn tell(&mut self) {
        let is_open = |channel: &Channel| {
            let is_wanted = self.wanted.has(*channel, self.version);
            !is_wanted || self.streams[usize::from(channel.number())] != 0
        };
        if Channel::ALL.iter().all(is_open)
            && let Some(tell) = self.tell.take()
        {
            // Who waited has given up.
            let _ = tell.send(self.streams);
        }
    }
}

async fn feed_all<R: AsyncRead + Unpin>(
    mut incoming: Incoming<R>,
    mut feed: Feed,
    mut opening: Opening,
) -> io::Result<()> {
    let mut channels = HashMap::new();
    while let Some(event) = incoming.next().await? {
        match event {
            Event::Open {
                stream, headers, ..
            } => match opening.channel(stream, &headers) {
                Some(channel) => {
                    channels.insert(stream, channel);
                    incoming.take(stream).await?;
                    opening.tell();
                }
                None => incoming.refuse(stream).await?,
            },
            Event::Data {
                stream,
                bytes,
                is_last,
            } => {
                if let Some(channel) = channels.get(&stream) {
                    let guard = incoming.guard.clone();
                    feed.take(&guard, *channel, &bytes).await?;
                    if is_last {
                        feed.end(*channel);
                    }
                }
            }
            Event::Reset(stream) => {
                if let Some(channel) = channels.get(&stream) {
                    feed.end(*channel);
                }
            }
            Event::GoAway => {}
        }
    }
    Ok(())
}
