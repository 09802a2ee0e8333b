//! Frames of ttrpc: a header of ten bytes and a payload.
//!
//! ```text
//!  0       4         8      9       10
//!  ├───────┼─────────┼──────┼───────┼─────────────
//!  │length │stream id│ kind │ flags │ payload …
//! ```
//! Numbers are big-endian.

use std::fmt;

/// Bytes of a header.
pub const HEADER: usize = 10;

/// Most bytes of a payload: what other implementations take.
pub const MAX_PAYLOAD: usize = 4 << 20;

/// Flag of a request: no data follows it.
pub const REMOTE_CLOSED: u8 = 1;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A call, with a [`super::Request`].
    Request = 1,
    /// The end of a call, with a [`super::Response`].
    Response = 2,
    /// A message of a stream.
    Data = 3,
}

/// What precedes a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the payload.
    pub length: u32,
    /// Which call it belongs to.
    pub stream: u32,
    /// What it is.
    pub kind: Kind,
    /// Bits such as [`REMOTE_CLOSED`].
    pub flags: u8,
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// Where the payload would be too long, or the kind is none.
    pub fn parse(bytes: [u8; HEADER]) -> Result<Self, FrameError> {
        let [l0, l1, l2, l3, s0, s1, s2, s3, kind, flags] = bytes;
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        if length as usize > MAX_PAYLOAD {
            return Err(FrameError::TooLong(length as usize));
        }
        let kind = match kind {
            1 => Kind::Request,
            2 => Kind::Response,
            3 => Kind::Data,
            other => return Err(FrameError::Kind(other)),
        };
        Ok(Self {
            length,
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            kind,
            flags,
        })
    }
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which call it belongs to.
    pub stream: u32,
    /// What it is.
    pub kind: Kind,
    /// Bits such as [`REMOTE_CLOSED`].
    pub flags: u8,
    /// An encoded message.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Appends the frame's bytes to `out`.
    ///
    /// # Errors
    /// Where the payload is longer than [`MAX_PAYLOAD`].
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let length = self.payload.len();
        let too_long = || FrameError::TooLong(length);
        let header = u32::try_from(length).map_err(|_| too_long())?;
        if length > MAX_PAYLOAD {
            return Err(too_long());
        }
        out.extend_from_slice(&header.to_be_bytes());
        out.extend_from_slice(&self.stream.to_be_bytes());
        out.extend_from_slice(&[self.kind as u8, self.flags]);
        out.extend_from_slice(&self.payload);
        Ok(())
    }

    /// Takes the first frame from `bytes`. None where it is not whole yet.
    ///
    /// # Errors
    /// As [`Header::parse`]: the connection is of no more use then.
    pub fn take(bytes: &mut Vec<u8>) -> Result<Option<Self>, FrameError> {
        let Some(header) = bytes.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let header = Header::parse(*header)?;
        let end = HEADER + header.length as usize;
        if bytes.len() < end {
            return Ok(None);
        }
        let rest = bytes.split_off(end);
        let mut payload = std::mem::replace(bytes, rest);
        payload.drain(..HEADER);
        Ok(Some(Self {
            stream: header.stream,
            kind: header.kind,
            flags: header.flags,
            payload,
        }))
    }
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A payload of so many bytes.
    TooLong(usize),
    /// A kind that is none.
    Kind(u8),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(length) => {
                write!(
                    f,
                    "frame of {length} bytes is longer than the {MAX_PAYLOAD} allowed"
                )
            }
            Self::Kind(kind) => write!(f, "frame of unknown kind {kind}"),
        }
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Frame {
        Frame {
            stream: 7,
            kind: Kind::Data,
            flags: REMOTE_CLOSED,
            payload: payload.to_vec(),
        }
    }

    #[test]
    fn bytes_of_a_frame() {
        let mut bytes = Vec::new();
        frame(b"hi").encode(&mut bytes).unwrap();
        assert_eq!(bytes, [0, 0, 0, 2, 0, 0, 0, 7, 3, 1, b'h', b'i']);
    }

    #[test]
    fn frames_come_out_as_they_went_in() {
        let sent = [frame(b""), frame(b"one"), frame(&[9; 70_000])];
        let mut stream = Vec::new();
        for frame in &sent {
            frame.encode(&mut stream).unwrap();
        }
        let (mut buffer, mut got) = (Vec::new(), Vec::new());
        for byte in stream {
            buffer.push(byte);
            while let Some(frame) = Frame::take(&mut buffer).unwrap() {
                got.push(frame);
            }
        }
        assert_eq!(got, sent);
        assert!(buffer.is_empty());
    }

    #[test]
    fn what_is_no_frame() {
        for (bytes, error) in [
            (
                [0xff, 0, 0, 0, 0, 0, 0, 1, 1, 0],
                FrameError::TooLong(0xff00_0000),
            ),
            (
                [0, 0x40, 0, 1, 0, 0, 0, 1, 1, 0],
                FrameError::TooLong((4 << 20) + 1),
            ),
            ([0, 0, 0, 0, 0, 0, 0, 1, 0, 0], FrameError::Kind(0)),
            ([0, 0, 0, 0, 0, 0, 0, 1, 4, 0], FrameError::Kind(4)),
        ] {
            assert_eq!(Frame::take(&mut bytes.to_vec()), Err(error));
        }
        assert!(
            frame(&vec![0; MAX_PAYLOAD + 1])
                .encode(&mut Vec::new())
                .is_err()
        );
    }
}
