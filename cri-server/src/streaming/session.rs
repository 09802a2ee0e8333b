//! A session with a program or a container: what the client sends and gets, whichever way it speaks.

use super::outcome::Outcome;
use super::spdy_frame as spdy;
use super::wire::{Gone, Guard, Queue};
use super::ws_frame as ws;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::termios::Winsize;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};

/// Pieces of input that wait for a program.
pub const INPUT: usize = 2;
/// Longest text of a size that is waited for, in bytes.
const MAX_SIZE: usize = 1024;

/// The streams of a session. Their numbers are those that WebSocket clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Input.
    Stdin,
    /// Output.
    Stdout,
    /// Errors of the program.
    Stderr,
    /// How the session ended.
    Error,
    /// Sizes of the client's window.
    Resize,
}

impl Channel {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Stdin,
        Self::Stdout,
        Self::Stderr,
        Self::Error,
        Self::Resize,
    ];

    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The one that SPDY clients call so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "stdin" => Some(Self::Stdin),
            "stdout" => Some(Self::Stdout),
            "stderr" => Some(Self::Stderr),
            "error" => Some(Self::Error),
            "resize" => Some(Self::Resize),
            _ => None,
        }
    }
}

/// The streams that were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Input.
    pub stdin: bool,
    /// Output.
    pub stdout: bool,
    /// Errors of the program.
    pub stderr: bool,
    /// Whether it is at a terminal.
    pub tty: bool,
}

impl Wanted {
    /// Whether a stream belongs to the session, in this version of the protocol.
    #[must_use]
    pub fn has(self, channel: Channel, version: u8) -> bool {
        match channel {
            Channel::Stdin => self.stdin,
            Channel::Stdout => self.stdout,
            Channel::Stderr => self.stderr && !self.tty,
            Channel::Error => true,
            Channel::Resize => self.tty && version >= 3,
        }
    }
}

/// A session.
#[derive(Debug)]
pub struct Session {
    /// What the client sends to the program; it ends with the client's input.
    pub stdin: mpsc::Receiver<Vec<u8>>,
    /// The last size of the client's window.
    pub sizes: watch::Receiver<Option<Winsize>>,
    /// Where output goes.
    pub out: Out,
    /// How the connection is.
    pub guard: Guard,
}

/// What the reader of a connection feeds.
#[derive(Debug)]
pub struct Feed {
    stdin: Option<mpsc::Sender<Vec<u8>>>,
    sizes: watch::Sender<Option<Winsize>>,
    text: Vec<u8>,
}

/// A session's two sides.
#[must_use]
pub fn session(out: Out, guard: Guard) -> (Session, Feed) {
    let (input, stdin) = mpsc::channel(INPUT);
    let (changes, sizes) = watch::channel(None);
    let feed = Feed {
        stdin: Some(input),
        sizes: changes,
        text: Vec::new(),
    };
    let session = Session {
        stdin,
        sizes,
        out,
        guard,
    };
    (session, feed)
}

impl Feed {
    /// Hands over a piece of a stream.
    ///
    /// # Errors
    /// A client that is gone, and sizes that are none.
    pub async fn take(
        &mut self,
        guard: &Guard,
        channel: Channel,
        bytes: &[u8],
    ) -> std::io::Result<()> {
        match channel {
            Channel::Stdin if !bytes.is_empty() => {
                if let Some(stdin) = &self.stdin {
                    let sent = guard.hand_over(stdin.send(bytes.to_vec())).await?;
                    if sent.is_err() {
                        // The program takes no more.
                        self.stdin = None;
                    }
                }
            }
            Channel::Resize => self.resize(bytes)?,
            _ => {}
        }
        Ok(())
    }

    /// A stream has ended.
    pub fn end(&mut self, channel: Channel) {
        if channel == Channel::Stdin {
            self.stdin = None;
        }
    }

    fn resize(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.text.extend_from_slice(bytes);
        let (sizes, rest) = sizes(&self.text)?;
        if let Some(last) = sizes.last() {
            self.sizes.send_replace(Some(*last));
        }
        let used = self.text.len() - rest;
        self.text.drain(..used);
        if self.text.len() > MAX_SIZE {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }
}

/// The sizes in a text, and how many bytes at its end are the beginning of another.
///
/// # Errors
/// A text that is none.
pub fn sizes(text: &[u8]) -> std::io::Result<(Vec<Winsize>, usize)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Size {
        width: u16,
        height: u16,
    }
    let mut found = Vec::new();
    let mut stream = serde_json::Deserializer::from_slice(text).into_iter::<Size>();
    loop {
        let begin = stream.byte_offset();
        match stream.next() {
            None => return Ok((found, 0)),
            Some(Ok(size)) => found.push(Winsize {
                ws_row: size.height,
                ws_col: size.width,
                ws_xpixel: 0,
                ws_ypixel: 0,
            }),
            Some(Err(error)) if error.is_eof() => return Ok((found, text.len() - begin)),
            Some(Err(_)) => return Err(std::io::ErrorKind::InvalidData.into()),
        }
    }
}

/// How a stream's bytes stand in a message of WebSocket, and the number of the stream in front of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As they are.
    Bytes,
    /// Behind a digit, in base64.
    Base64,
}

/// How frames are made.
#[derive(Debug, Clone, Copy)]
pub enum Form {
    /// SPDY, with the streams' numbers; 0 for those that are not there.
    Spdy([u32; 5]),
    /// WebSocket.
    WebSocket(Coding),
}

/// Where a session's output goes.
#[derive(Debug, Clone)]
pub struct Out {
    /// Where frames go.
    pub queue: Queue,
    /// How they are made.
    pub form: Form,
    /// The version of the protocol.
    pub version: u8,
}

impl Out {
    /// Sends a piece of a stream.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn write(&self, channel: Channel, bytes: &[u8]) -> Result<(), Gone> {
        let frame = match self.form {
            Form::Spdy(streams) => match streams[usize::from(channel.number())] {
                // Nobody asked for it.
                0 => return Ok(()),
                stream => spdy::data(stream, bytes),
            },
            Form::WebSocket(Coding::Bytes) => {
                ws::message(ws::Kind::Binary, [&[channel.number()], bytes])
            }
            Form::WebSocket(Coding::Base64) => {
                let text = STANDARD.encode(bytes);
                ws::message(
                    ws::Kind::Text,
                    [&[b'0' + channel.number()], text.as_bytes()],
                )
            }
        };
        self.queue.send(frame).await
    }

    /// Tells how the session ended, and ends it.
    pub async fn finish(self, outcome: &Outcome) {
        let told = outcome.told(self.version);
        let said = async {
            if !told.is_empty() {
                self.write(Channel::Error, &told).await?;
            }
            match self.form {
                Form::Spdy(streams) => {
                    for stream in streams.into_iter().filter(|stream| *stream != 0) {
                        self.queue.send(spdy::end(stream)).await?;
                    }
                    let last = streams.into_iter().max().unwrap_or_default();
                    self.queue.send(spdy::go_away(last)).await
                }
                Form::WebSocket(_) => self.queue.send(ws::close()).await,
            }
        };
        // Who is gone hears nothing.
        let _ = said.await;
        self.queue.end().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_any_pieces() {
        let text = b"{\"Width\":80,\"Height\":24}\n{\"Width\":1,\"Height\":2}\n{\"Wid";
        let (found, rest) = sizes(text).unwrap();
        assert_eq!((found.len(), rest), (2, 6));
        assert_eq!((found[1].ws_col, found[1].ws_row), (1, 2));
        assert_eq!(sizes(b"").unwrap().1, 0);
        for wrong in ["x", "{\"Width\":70000,\"Height\":1}", "[]", "{}"] {
            assert!(sizes(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
