//! A client that speaks WebSocket.

use super::run;
use super::spdy::{drain, ends, wanted};
use crate::streaming::encoded::Decoder;
use crate::streaming::session::Coding;
use crate::streaming::websocket;
use crate::streaming::ws_frame::{Head, MAX_CONTROL, unmask};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io::Cursor;
use tokio::io::AsyncReadExt as _;

pub fn check(bytes: &[u8]) {
    let Some((choice, sent)) = bytes.split_first() else {
        return;
    };
    head(sent);
    encoded(sent);
    let (wanted, sent) = (wanted(*choice), sent.to_vec());
    let protocol = match choice >> 5 {
        0 => None,
        1..4 => Some((choice >> 5, Coding::Base64)),
        version => Some((version - 2, Coding::Bytes)),
    };
    run(async move {
        let length = sent.len();
        let ends = ends();
        if let Some(protocol) = protocol {
            let session = websocket::begin(Cursor::new(sent), ends, wanted, protocol).await;
            drain(session, length).await;
        } else {
            let outside = ends.1.clone();
            let mut inside = websocket::tunnel(Cursor::new(sent), ends.0, ends.1);
            let mut all = Vec::new();
            tokio::select! {
                _ = inside.read_to_end(&mut all) => {}
                () = outside.gone() => {}
            }
            assert!(all.len() <= length);
        }
    });
}

/// The beginning of a frame is as long as its first bytes say, and says what they say.
fn head(bytes: &[u8]) {
    let Some((first, _)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let length = Head::length(*first);
    let Some(whole) = bytes.get(..length) else {
        return;
    };
    let Ok(head) = Head::parse(whole) else {
        return;
    };
    assert!(Head::parse(&whole[..length - 1]).is_err());
    assert!(!head.kind.is_control() || (head.is_last && head.length <= MAX_CONTROL as u64));
    // Unmasked in pieces, it is what it is as a whole.
    let mut plain = bytes[length..].to_vec();
    let mut pieces = plain.clone();
    unmask(&mut plain, head.mask, 0);
    let at = usize::from(first[1]) % (pieces.len() + 1);
    unmask(&mut pieces[..at], head.mask, 0);
    unmask(&mut pieces[at..], head.mask, at as u64);
    assert_eq!(plain, pieces);
}

/// In pieces, base64 means what it means as a whole.
fn encoded(text: &[u8]) {
    let at = text.first().copied().map_or(0, usize::from) % (text.len() + 1);
    let mut decoder = Decoder::default();
    let in_pieces = decoder.piece(&text[..at]).and_then(|mut all| {
        all.extend(decoder.piece(&text[at..])?);
        decoder.end().map(|()| all)
    });
    assert_eq!(STANDARD.decode(text).ok(), in_pieces.ok());
}
