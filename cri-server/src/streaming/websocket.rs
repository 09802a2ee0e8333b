//! A connection of a client that speaks WebSocket: each message begins with the number of its stream.

use super::encoded::Decoder;
use super::session::{Channel, Coding, Feed, Form, Out, Session, Wanted, session};
use super::spdy_frame::Wrong;
use super::wire::{Guard, PIECE, Queue};
use super::ws_frame::{Head, Kind, MAX_CONTROL, MAX_HEAD, close, message, unmask};
use std::borrow::Cow;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// In version 5, the number of a stream that tells of the end of another.
const CLOSE: u8 = 255;

/// A piece of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Whether a message begins with it.
    pub is_first: bool,
    /// Whether the message ends with it.
    pub is_last: bool,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The side of a connection that is read.
#[derive(Debug)]
pub struct Incoming<R> {
    read: R,
    queue: Queue,
    guard: Guard,
    /// The frame that is being read, and how much of it was.
    frame: Option<(Head, u64)>,
    is_inside: bool,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    /// Reads what comes from `read`, and answers by `queue`.
    pub fn new(read: R, queue: Queue, guard: Guard) -> Self {
        Self {
            read,
            queue,
            guard,
            frame: None,
            is_inside: false,
        }
    }

    /// The next piece of a message; nothing once the client has closed the connection.
    ///
    /// # Errors
    /// Those of reading, and `InvalidData` for what is no WebSocket.
    pub async fn next(&mut self) -> io::Result<Option<Piece>> {
        loop {
            if let Some((head, done)) = self.frame.take() {
                return self.piece(head, done).await.map(Some);
            }
            let Some(head) = self.head().await? else {
                return Ok(None);
            };
            if head.kind.is_control() {
                let payload = self.control(head).await?;
                match head.kind {
                    Kind::Close => {
                        self.send(close()).await?;
                        return Ok(None);
                    }
                    Kind::Ping => self.send(message(Kind::Pong, [&payload, &[]])).await?,
                    _ => {}
                }
                continue;
            }
            match (head.kind, self.is_inside) {
                (Kind::Continuation, false) => {
                    return Err(Wrong("WebSocket: more of no message").into());
                }
                (Kind::Text | Kind::Binary, true) => {
                    return Err(Wrong("WebSocket: a message in another").into());
                }
                _ => self.frame = Some((head, 0)),
            }
        }
    }

    async fn head(&mut self) -> io::Result<Option<Head>> {
        let mut bytes = [0; MAX_HEAD];
        match self.guard.read(self.read.read_exact(&mut bytes[..2])).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        };
        let length = Head::length([bytes[0], bytes[1]]);
        let rest = &mut bytes[2..length];
        self.guard.read(self.read.read_exact(rest)).await?;
        Ok(Some(Head::parse(&bytes[..length])?))
    }

    async fn control(&mut self, head: Head) -> io::Result<Vec<u8>> {
        let length = usize::try_from(head.length).unwrap_or(MAX_CONTROL);
        let mut payload = vec![0; length.min(MAX_CONTROL)];
        self.guard.read(self.read.read_exact(&mut payload)).await?;
        unmask(&mut payload, head.mask, 0);
        Ok(payload)
    }

    async fn piece(&mut self, head: Head, done: u64) -> io::Result<Piece> {
        let left = usize::try_from(head.length - done).unwrap_or(PIECE);
        let mut bytes = vec![0; left.min(PIECE)];
        self.guard.read(self.read.read_exact(&mut bytes)).await?;
        unmask(&mut bytes, head.mask, done);
        let done = done + bytes.len() as u64;
        let has_more = done < head.length;
        if has_more {
            self.frame = Some((head, done));
        }
        let piece = Piece {
            is_first: !self.is_inside,
            is_last: head.is_last && !has_more,
            bytes,
        };
        self.is_inside = !piece.is_last;
        Ok(piece)
    }

    async fn send(&mut self, frame: Vec<u8>) -> io::Result<()> {
        self.guard.send(&self.queue, frame).await
    }
}

/// A session over WebSocket.
pub async fn begin<R>(
    read: R,
    (queue, guard): (Queue, Guard),
    wanted: Wanted,
    (version, coding): (u8, Coding),
) -> Session
where
    R: AsyncRead + Unpin + Send + 'static,
{
    let out = Out {
        queue: queue.clone(),
        form: Form::WebSocket(coding),
        version,
    };
    // Clients take the first message, though it is empty, for a sign that the session has begun.
    let mut writable = [Channel::Stdout, Channel::Stderr, Channel::Error].into_iter();
    if let Some(first) = writable.find(|channel| wanted.has(*channel, version)) {
        // Who is gone is noticed where it is read.
        let _ = out.write(first, &[]).await;
    }
    let (session, feed) = session(out, guard.clone());
    let incoming = Incoming::new(read, queue, guard.clone());
    tokio::spawn(async move {
        if let Err(error) = feed_all(incoming, feed, wanted, (version, coding)).await {
            tracing::debug!("stream: {error}");
        }
        guard.leave();
    });
    session
}

async fn feed_all<R: AsyncRead + Unpin>(
    mut incoming: Incoming<R>,
    mut feed: Feed,
    wanted: Wanted,
    (version, coding): (u8, Coding),
) -> io::Result<()> {
    let inputs = [Channel::Stdin, Channel::Resize];
    let channel_of = |number: u8| {
        let mut own = inputs.into_iter().filter(|c| wanted.has(*c, version));
        own.find(|channel| channel.number() == number)
    };
    let guard = incoming.guard.clone();
    let mut message = Message::new(coding);
    while let Some(piece) = incoming.next().await? {
        let Some((number, bytes)) = message.piece(&piece)? else {
            continue;
        };
        if number == CLOSE && version >= 5 {
            for ended in bytes.iter().filter_map(|number| channel_of(*number)) {
                feed.end(ended);
            }
        } else if let Some(channel) = channel_of(number) {
            feed.take(&guard, channel, &bytes).await?;
        }
    }
    Ok(())
}

/// A stream, and bytes of it.
type Said<'a> = (u8, Cow<'a, [u8]>);

/// A message that comes in pieces: which stream it is of, and what stands in it.
struct Message {
    coding: Coding,
    /// Once it has come.
    number: Option<u8>,
    decoder: Decoder,
}

impl Message {
    fn new(coding: Coding) -> Self {
        Self {
            coding,
            number: None,
            decoder: Decoder::default(),
        }
    }

    /// The stream and its bytes in a piece; none while it is not known of which it is.
    fn piece<'a>(&mut self, piece: &'a Piece) -> Result<Option<Said<'a>>, Wrong> {
        let mut bytes = piece.bytes.as_slice();
        if piece.is_first {
            self.number = None;
        }
        if self.number.is_none()
            && let Some((first, rest)) = bytes.split_first()
        {
            self.number = Some(*first);
            bytes = rest;
        }
        let Some(number) = self.number else {
            return Ok(None);
        };
        match self.coding {
            Coding::Bytes => Ok(Some((number, bytes.into()))),
            Coding::Base64 => {
                let bytes = self.decoder.piece(bytes)?;
                if piece.is_last {
                    self.decoder.end()?;
                }
                // What is below the digits is no stream, as 255 is none.
                Ok(Some((number.wrapping_sub(b'0'), bytes.into())))
            }
        }
    }
}

/// The bytes that a client sends as messages, as one stream, and what is written to that as messages.
pub fn tunnel<R>(read: R, queue: Queue, guard: Guard) -> tokio::io::DuplexStream
where
    R: AsyncRead + Unpin + Send + 'static,
{
    let (ours, theirs) = tokio::io::duplex(2 * PIECE);
    let (out, into) = tokio::io::split(theirs);
    let mut incoming = Incoming::new(read, queue.clone(), guard.clone());
    let reading = guard.clone();
    tokio::spawn(async move {
        if let Err(error) = pour(&mut incoming, into, &reading).await {
            tracing::debug!("stream: {error}");
        }
        reading.leave();
    });
    tokio::spawn(async move {
        drop(draw(out, &queue).await);
        let _ = queue.send(close()).await;
        queue.end().await;
    });
    ours
}

async fn pour<R: AsyncRead + Unpin>(
    incoming: &mut Incoming<R>,
    mut into: impl AsyncWrite + Unpin,
    guard: &Guard,
) -> io::Result<()> {
    while let Some(piece) = incoming.next().await? {
        guard.hand_over(into.write_all(&piece.bytes)).await??;
    }
    into.shutdown().await
}

async fn draw(mut out: impl AsyncRead + Unpin, queue: &Queue) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        let length = out.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let frame = message(Kind::Binary, [&buffer[..length], &[]]);
        let sent = queue.send(frame).await;
        sent.map_err(|_| io::Error::from(io::ErrorKind::ConnectionReset))?;
    }
}
