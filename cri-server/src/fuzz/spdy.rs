//! A client that speaks SPDY.

use super::run;
use crate::streaming::outcome::Outcome;
use crate::streaming::session::{Channel, Session, Wanted};
use crate::streaming::spdy_frame::{Control, HEAD, Head, MAX_CONTROL, Reader};
use crate::streaming::{spdy, wire};
use std::fs::File;
use std::io::Cursor;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Bytes of headers that one stream can have at most: what is no UTF-8 becomes three bytes for one.
const MOST: usize = 3 * (64 << 10);

pub fn check(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else {
        return;
    };
    let sent = if choice & 1 == 0 {
        rest.to_vec()
    } else {
        compressed(rest)
    };
    frames(&sent);
    let wanted = wanted(*choice);
    let version = choice >> 5 & 3;
    run(async move {
        let length = sent.len();
        let ends = ends();
        let begun = spdy::begin(Cursor::new(sent), ends, wanted, version + 1).await;
        if let Ok(session) = begun {
            drain(session, length).await;
        }
    });
}

/// What was asked for, by the bits of a number.
pub fn wanted(bits: u8) -> Wanted {
    Wanted {
        stdin: bits & 2 != 0,
        stdout: bits & 4 != 0,
        stderr: bits & 8 != 0,
        tty: bits & 16 != 0,
    }
}

/// The ends of a connection whose client reads everything.
pub fn ends() -> (wire::Queue, wire::Guard) {
    static SOCKET: OnceLock<Arc<OwnedFd>> = OnceLock::new();
    // Never closed by the other side, for there is none.
    let socket = SOCKET.get_or_init(|| Arc::new(File::open("/dev/null").unwrap().into()));
    wire::start(
        tokio::io::sink(),
        socket.clone(),
        Duration::from_secs(60 * 60),
    )
}

/// A program that takes all its input, and ends.
pub async fn drain(session: Session, length: usize) {
    let Session {
        mut stdin,
        sizes,
        out,
        guard,
    } = session;
    let mut taken = 0;
    while let Some(piece) = stdin.recv().await {
        assert!(piece.len() <= wire::PIECE, "{} bytes", piece.len());
        taken += piece.len();
    }
    assert!(taken <= length, "{taken} of {length} bytes");
    drop(sizes);
    let _ = out.write(Channel::Stdout, b"output").await;
    out.finish(&Outcome::Exited(1)).await;
    guard.gone().await;
}

/// Reads frames one after the other, as far as they are any.
fn frames(bytes: &[u8]) {
    let (mut rest, mut reader) = (bytes, Reader::default());
    while let Some((head, after)) = rest.split_first_chunk::<HEAD>() {
        let Ok(head) = Head::parse(*head) else {
            return;
        };
        let (Head::Control { length, .. } | Head::Data { length, .. }) = head;
        let Some(payload) = after.get(..length) else {
            return;
        };
        rest = &after[length..];
        let Head::Control { kind, flags, .. } = head else {
            assert!(length < 1 << 24);
            continue;
        };
        assert!(length <= MAX_CONTROL);
        match reader.control(kind, flags, payload) {
            Err(_) => return,
            Ok(Control::Open {
                stream, headers, ..
            }) => {
                assert!(stream < 1 << 31 && headers.len() <= 64);
                let texts = headers.iter().map(|(name, value)| name.len() + value.len());
                assert!(texts.sum::<usize>() <= MOST);
                let is_small = |(name, _): &(String, String)| {
                    !name.bytes().any(|byte| byte.is_ascii_uppercase())
                };
                assert!(headers.iter().all(is_small));
            }
            Ok(Control::Reset(stream)) => assert!(stream < 1 << 31),
            Ok(_) => {}
        }
    }
}

/// Frames whose headers are compressed, from those whose headers are not.
fn compressed(bytes: &[u8]) -> Vec<u8> {
    let (mut rest, mut all, mut has_begun) = (bytes, Vec::new(), false);
    while let Some((head, after)) = rest.split_first_chunk::<HEAD>() {
        let [a, b, c, d, flags, x, y, z] = *head;
        let length = u32::from_be_bytes([0, x, y, z]) as usize;
        let payload = &after[..length.min(after.len())];
        rest = &after[payload.len()..];
        let is_open = [a, b, c, d] == [0x80, 3, 0, 1];
        let (Some((number, plain)), true) = (payload.split_first_chunk::<10>(), is_open) else {
            all.extend(head);
            all.extend(payload);
            continue;
        };
        let mut frame = number.to_vec();
        if !has_begun {
            has_begun = true;
            frame.extend([0x78, 0x01]);
        }
        for block in plain.chunks(usize::from(u16::MAX)) {
            let length = u16::try_from(block.len()).unwrap();
            frame.push(0);
            frame.extend(length.to_le_bytes());
            frame.extend((!length).to_le_bytes());
            frame.extend(block);
        }
        all.extend([a, b, c, d]);
        let length = u32::try_from(frame.len()).unwrap() | u32::from(flags) << 24;
        all.extend(length.to_be_bytes());
        all.extend(frame);
    }
    all.extend(rest);
    all
}
