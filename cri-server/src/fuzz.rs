//! What is fuzzed: each target takes any bytes, as a client could send them, and panics where what comes of them breaks a
//! promise. The programs that make up the bytes are in the directory `fuzz`.
//!
//! Compiled for tests, which replay `fuzz/corpus`, and with `--cfg fuzzing`.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a panic is how a finding is told"
)]

use crate::streaming::{self, session};

mod http2;
mod spdy;
mod websocket;

/// Takes bytes, and panics where a promise is broken.
pub type Target = fn(&[u8]);

/// All targets, by the names of their corpora.
pub const TARGETS: [(&str, Target); 5] = [
    ("cri_spdy", spdy),
    ("cri_websocket", websocket),
    ("cri_sizes", sizes),
    ("cri_http", http),
    ("cri_http2", http2),
];

/// What a client sends that speaks SPDY. The first byte says what was asked for, and whether the headers of streams
/// stand there as they are: they are put into compressed form then.
pub fn spdy(bytes: &[u8]) {
    spdy::check(bytes);
}

/// What a client sends that speaks WebSocket. The first byte says what was asked for, and by which protocol.
pub fn websocket(bytes: &[u8]) {
    websocket::check(bytes);
}

/// Sizes of a window, which come in two pieces: the first byte says where they are cut.
pub fn sizes(bytes: &[u8]) {
    let Some((at, text)) = bytes.split_first() else {
        return;
    };
    let (first, second) = text.split_at(usize::from(*at).min(text.len()));
    let whole = session::sizes(text);
    let in_pieces = session::sizes(first).and_then(|(mut found, rest)| {
        let left = [&first[first.len() - rest..], second].concat();
        let (more, rest) = session::sizes(&left)?;
        found.extend(more);
        Ok((found, rest))
    });
    match (whole, in_pieces) {
        (Ok((whole, rest)), Ok((pieces, rest_of_pieces))) => {
            assert_eq!(whole, pieces);
            assert!(rest <= text.len() && rest_of_pieces <= text.len());
        }
        (Err(_), Err(_)) => {}
        (whole, pieces) => panic!("whole {whole:?}, in pieces {pieces:?}"),
    }
}

/// What a client sends to the HTTP server of streams.
pub fn http(bytes: &[u8]) {
    run(async {
        let answer = conversation(bytes, streaming::fuzz).await;
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1."),
            "{:?}",
            String::from_utf8_lossy(&answer)
        );
    });
}

/// What a client sends to the server of the interface, in HTTP/2: no call is known there.
pub fn http2(bytes: &[u8]) {
    run(http2::check(bytes));
}

/// Longest time that anything may take, in a clock that runs ahead whenever nobody works.
const HANGS: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

fn run(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let ended = runtime
        .unwrap()
        .block_on(async { tokio::time::timeout(HANGS, work).await });
    assert!(ended.is_ok(), "it does not end");
}

/// What a server answers to bytes behind which nothing comes.
async fn conversation<F: Future>(
    bytes: &[u8],
    serve: impl FnOnce(tokio::io::DuplexStream) -> F,
) -> Vec<u8> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (client, server) = tokio::io::duplex(64 << 10);
    let (mut read, mut write) = tokio::io::split(client);
    let mut answer = Vec::new();
    let say = async {
        // A server that has heard enough closes the connection.
        drop(write.write_all(bytes).await);
        drop(write.shutdown().await);
    };
    // No error of reading is possible, but that it was closed.
    let hear = async { drop(read.read_to_end(&mut answer).await) };
    tokio::join!(serve(server), say, hear);
    answer
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Every file that was kept, found or made up: none of them breaks a promise.
    #[test]
    fn corpora_are_replayed() {
        let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        for (name, target) in TARGETS {
            let mut count = 0;
            for entry in fs::read_dir(corpora.join(name)).unwrap() {
                let path = entry.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                let replay = std::panic::catch_unwind(|| target(&bytes));
                assert!(replay.is_ok(), "{}", path.display());
                count += 1;
            }
            assert!(count > 0, "{name}: an empty corpus");
        }
    }

    #[test]
    fn every_corpus_has_its_target() {
        let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        for entry in fs::read_dir(corpora).unwrap() {
            let name = entry.unwrap().file_name();
            let is_known = TARGETS.iter().any(|(target, _)| name == *target);
            let is_ours = name.to_string_lossy().starts_with("cri_");
            assert_eq!(is_known, is_ours, "{name:?}");
        }
    }
}
