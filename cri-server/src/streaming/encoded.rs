//! Base64 in pieces of any length: what browsers send and get, which are at home with text.

use super::spdy_frame::Wrong;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What is wrong with what came.
const WRONG: Wrong = Wrong("WebSocket: a message is not in base64");

/// One message, piece by piece.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Less than four characters, which mean something together with those that follow.
    rest: Vec<u8>,
    /// Whether the padding has come, behind which nothing is.
    is_over: bool,
}

impl Decoder {
    /// What the next piece means.
    ///
    /// # Errors
    /// Other characters, and anything behind the padding.
    pub fn piece(&mut self, text: &[u8]) -> Result<Vec<u8>, Wrong> {
        self.rest.extend_from_slice(text);
        let whole = self.rest.len() / 4 * 4;
        if self.is_over && !self.rest.is_empty() {
            return Err(WRONG);
        }
        let bytes = STANDARD
            .decode(&self.rest[..whole])
            .map_err(|_error| WRONG)?;
        self.is_over = self.rest[..whole].ends_with(b"=");
        self.rest.drain(..whole);
        Ok(bytes)
    }

    /// Ends the message: the next piece is of another one.
    ///
    /// # Errors
    /// A message that is cut off.
    pub fn end(&mut self) -> Result<(), Wrong> {
        let is_whole = self.rest.is_empty();
        *self = Self::default();
        is_whole.then_some(()).ok_or(WRONG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(pieces: &[&[u8]]) -> Result<Vec<u8>, Wrong> {
        let (mut decoder, mut all) = (Decoder::default(), Vec::new());
        for piece in pieces {
            all.extend(decoder.piece(piece)?);
        }
        decoder.end().map(|()| all)
    }

    #[test]
    fn in_any_pieces() {
        let text = b"Zm9vYmFyIQ==";
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(decoded(&pieces), Ok(b"foobar!".to_vec()), "{pieces:?}");
            }
        }
        assert_eq!(decoded(&[]), Ok(Vec::new()));
    }

    #[test]
    fn what_is_none() {
        for pieces in [
            &[&b"Zm9"[..]][..],
            &[b"Zm9v\n"],
            &[b"Zm9_"],
            &[b"IQ==Zm9v"],
            &[b"IQ==", b"Zm9v"],
            &[b"IQ==", b"Z"],
            &[b"===="],
            &[b"I=", b"Q="],
            &[b"IR=="],
        ] {
            assert_eq!(decoded(pieces), Err(WRONG), "{pieces:?}");
        }
    }
}
