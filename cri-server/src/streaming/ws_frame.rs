//! Frames of WebSocket (RFC 6455), the server's side. Pure functions, as those of SPDY.

use super::spdy_frame::Wrong;

/// Most bytes that a frame begins with.
pub const MAX_HEAD: usize = 14;
/// Longest payload of a control frame, in bytes.
pub const MAX_CONTROL: usize = 125;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// More of a message.
    Continuation,
    /// Text.
    Text,
    /// Bytes.
    Binary,
    /// The end.
    Close,
    /// To be answered.
    Ping,
    /// An answer.
    Pong,
}

impl Kind {
    const ALL: [(u8, Self); 6] = [
        (0, Self::Continuation),
        (1, Self::Text),
        (2, Self::Binary),
        (8, Self::Close),
        (9, Self::Ping),
        (10, Self::Pong),
    ];

    fn code(self) -> u8 {
        let entry = Self::ALL.iter().find(|(_, kind)| *kind == self);
        entry.map_or(0, |(code, _)| *code)
    }

    /// Whether it may stand between the frames of a message.
    #[must_use]
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The beginning of a frame from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What it is.
    pub kind: Kind,
    /// Whether the message ends with it.
    pub is_last: bool,
    /// Bytes that follow.
    pub length: u64,
    /// What they are masked with.
    pub mask: [u8; 4],
}

impl Head {
    /// How many bytes the beginning of a frame has, told by its first two.
    #[must_use]
    pub fn length([_, second]: [u8; 2]) -> usize {
        let length = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        2 + length + mask
    }

    /// Reads the beginning of a frame: as many bytes as [`Self::length`] says.
    ///
    /// # Errors
    /// What a client may not send.
    pub fn parse(bytes: &[u8]) -> Result<Self, Wrong> {
        let cut = Wrong("WebSocket: a frame is cut off");
        let (&[first, second], rest) = bytes.split_first_chunk::<2>().ok_or(cut)?;
        let kind = Kind::ALL.iter().find(|(code, _)| *code == first & 0xf);
        let (_, kind) = *kind.ok_or(Wrong("WebSocket: a frame of no known kind"))?;
        if first & 0x70 != 0 {
            return Err(Wrong("WebSocket: an extension that was not agreed on"));
        }
        if second & 0x80 == 0 {
            return Err(Wrong("WebSocket: a frame is not masked"));
        }
        let (length, rest) = match second & 0x7f {
            126 => {
                let (bytes, rest) = rest.split_first_chunk::<2>().ok_or(cut)?;
                (u64::from(u16::from_be_bytes(*bytes)), rest)
            }
            127 => {
                let (bytes, rest) = rest.split_first_chunk::<8>().ok_or(cut)?;
                (u64::from_be_bytes(*bytes), rest)
            }
            length => (u64::from(length), rest),
        };
        let head = Self {
            kind,
            is_last: first & 0x80 != 0,
            length,
            mask: *rest.first_chunk().ok_or(cut)?,
        };
        if kind.is_control() && (!head.is_last || length > MAX_CONTROL as u64) {
            return Err(Wrong("WebSocket: a control frame is cut or too long"));
        }
        Ok(head)
    }
}

/// Unmasks bytes that begin at `offset` of their frame.
pub fn unmask(bytes: &mut [u8], mask: [u8; 4], offset: u64) {
    let begin = usize::try_from(offset % 4).unwrap_or_default();
    for (byte, mask) in bytes.iter_mut().zip(mask.iter().cycle().skip(begin)) {
        *byte ^= mask;
    }
}

/// A whole message as it is sent.
#[must_use]
pub fn message(kind: Kind, parts: [&[u8]; 2]) -> Vec<u8> {
    let length = parts[0].len() + parts[1].len();
    let mut frame = Vec::with_capacity(length + 10);
    frame.push(0x80 | kind.code());
    match length {
        0..126 => frame.push(u8::try_from(length).unwrap_or_default()),
        126..0x1_0000 => {
            frame.push(126);
            frame.extend(u16::try_from(length).unwrap_or_default().to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(parts[0]);
    frame.extend(parts[1]);
    frame
}

/// The normal end of a connection.
#[must_use]
pub fn close() -> Vec<u8> {
    message(Kind::Close, [&1000u16.to_be_bytes(), &[]])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 6455, section 5.7.
    #[test]
    fn as_in_the_specification() {
        let mut hello = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        assert_eq!(Head::length([hello[0], hello[1]]), 6);
        let head = Head::parse(&hello[..6]).unwrap();
        assert_eq!(
            (head.kind, head.is_last, head.length),
            (Kind::Text, true, 5)
        );
        unmask(&mut hello[6..8], head.mask, 0);
        unmask(&mut hello[8..], head.mask, 2);
        assert_eq!(&hello[6..], b"Hello");
        assert_eq!(message(Kind::Text, [b"Hel", b"lo"]), b"\x81\x05Hello");
        assert_eq!(
            message(Kind::Binary, [&[0; 256], &[]])[..4],
            [0x82, 0x7e, 1, 0]
        );
        assert_eq!(
            message(Kind::Binary, [&[0; 65536], &[]])[..10],
            [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]
        );
        assert_eq!(close(), [0x88, 2, 3, 0xe8]);
    }

    #[test]
    fn what_a_client_may_not_send() {
        for bytes in [
            &[][..],
            &[0x82],
            &[0x82, 0x05],
            &[0x83, 0x80, 0, 0, 0, 0],
            &[0xc2, 0x80, 0, 0, 0, 0],
            &[0x82, 0xfe, 0, 1],
            &[0x82, 0x81, 0, 0, 0],
            &[0x09, 0x80, 0, 0, 0, 0],
            &[0x89, 0xfe, 0, 126, 0, 0, 0, 0],
        ] {
            assert!(Head::parse(bytes).is_err(), "{bytes:?}");
        }
    }
}
