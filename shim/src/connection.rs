//! A connection of who drives the shim: frames in and out, and the calls that are not answered yet.

use std::collections::{HashSet, VecDeque};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::socket::MsgFlags;
use ocirun_shim::wire::{Frame, Kind, Request, Response};
use prost::Message;

use crate::failure::{Failure, Result};
use crate::messages;
use crate::reactor::Token;

/// Bytes waiting to be sent from which on no more of a stream is read.
pub(crate) const FULL: usize = 1 << 20;

/// Most bytes that may wait to be sent: who does not read the answers is cut off.
const MOST: usize = 8 << 20;

/// Most calls of one connection at a time.
const MOST_CALLS: usize = 1024;

/// Most descriptors that may come ahead of their requests.
const MOST_FDS: usize = 64;

/// A call: of which connection, and which of its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallId {
    pub(crate) connection: u64,
    pub(crate) stream: u32,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: OwnedFd,
    pub(crate) token: Token,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    fds: VecDeque<OwnedFd>,
    calls: HashSet<u32>,
    /// Whether the loop waits until more can be sent.
    pub(crate) is_blocked: bool,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd, token: Token) -> Self {
        Self {
            socket,
            token,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            fds: VecDeque::new(),
            calls: HashSet::new(),
            is_blocked: false,
        }
    }

    /// Reads what is there. Gives the requests that are whole; none where the connection is of no more use.
    pub(crate) fn receive(&mut self) -> Option<Vec<(u32, Request)>> {
        let mut buffer = [0; 64 << 10];
        let flags = MsgFlags::MSG_DONTWAIT;
        let length = match messages::receive(&self.socket, &mut buffer, flags) {
            Err(Errno::EAGAIN) => return Some(Vec::new()),
            Err(_) | Ok((0, _)) => return None,
            Ok((length, fds)) => {
                self.fds.extend(fds);
                length
            }
        };
        self.incoming.extend_from_slice(&buffer[..length]);
        let mut requests = Vec::new();
        while let Some(frame) = Frame::take(&mut self.incoming).ok()? {
            let is_new = frame.kind == Kind::Request && self.calls.insert(frame.stream);
            if !is_new || self.calls.len() > MOST_CALLS || self.fds.len() > MOST_FDS {
                return None;
            }
            requests.push((
                frame.stream,
                Request::decode(frame.payload.as_slice()).ok()?,
            ));
        }
        Some(requests)
    }

    /// The next descriptor that came with a request.
    pub(crate) fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }

    /// Ends a call. One that has ended before stays so.
    pub(crate) fn answer(&mut self, stream: u32, answer: Result<Vec<u8>>) {
        if !self.calls.remove(&stream) {
            return;
        }
        let response = match answer {
            Ok(payload) => Response {
                status: None,
                payload,
            },
            Err(failure) => Response {
                status: Some(failure.status()),
                payload: Vec::new(),
            },
        };
        self.queue(stream, Kind::Response, response.encode_to_vec());
    }

    /// Sends a message of a stream.
    pub(crate) fn send(&mut self, stream: u32, message: Vec<u8>) {
        if self.calls.contains(&stream) {
            self.queue(stream, Kind::Data, message);
        }
    }

    fn queue(&mut self, stream: u32, kind: Kind, payload: Vec<u8>) {
        let frame = Frame {
            stream,
            kind,
            flags: 0,
            payload,
        };
        if let Err(error) = frame.encode(&mut self.outgoing) {
            let failure = Failure::new(
                ocirun_shim::wire::Code::ResourceExhausted,
                error.to_string(),
            );
            let response = Response {
                status: Some(failure.status()),
                payload: Vec::new(),
            };
            self.calls.remove(&stream);
            self.queue(stream, Kind::Response, response.encode_to_vec());
        }
    }

    /// Whether so much waits to be sent that streams should wait.
    pub(crate) fn is_full(&self) -> bool {
        self.outgoing.len() >= FULL
    }

    /// Sends what can be sent now. Gives whether something is left; none where the connection is of no more use.
    pub(crate) fn flush(&mut self) -> Option<bool> {
        let mut sent = 0;
        while sent < self.outgoing.len() {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            use std::os::fd::AsRawFd;
            match nix::sys::socket::send(self.socket.as_raw_fd(), &self.outgoing[sent..], flags) {
                Ok(length) => sent += length,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(_) => return None,
            }
        }
        self.outgoing.drain(..sent);
        if self.outgoing.is_empty() {
            // What a burst took is given back.
            self.outgoing.shrink_to(FULL);
        }
        (self.outgoing.len() <= MOST).then_some(!self.outgoing.is_empty())
    }
}
