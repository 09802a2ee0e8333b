//! Logs of containers in the kubelet's format, and the numbered lines that `ocirun-probe lines` prints into them.

use std::io::{BufRead, BufReader, Read};

/// How many lines a test of many prints, and after how many bytes their log is rotated: `OCIRUN_TEST_LINES=` says the
/// first, and then the second is the kubelet's 10 MiB.
///
/// # Panics
/// When that is no number.
pub fn log_size() -> (u64, u64) {
    match std::env::var("OCIRUN_TEST_LINES") {
        Ok(text) => (text.parse().expect("OCIRUN_TEST_LINES="), 10 << 20),
        Err(_) => (200_000, 1 << 20),
    }
}

/// Numbers of the lines of a log, each of which must be whole. What a probe says of its end is passed over.
///
/// # Panics
/// At the first line that is not whole.
pub fn numbered_lines(log: impl Read) -> impl Iterator<Item = u64> {
    let lines = BufReader::new(log).split(b'\n');
    lines.filter_map(|line| {
        let line = String::from_utf8(line.unwrap()).unwrap();
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let [stamp, stream, tag, text] = words[..] else {
            panic!("a torn line: {line:?}");
        };
        assert!(stamp.len() == 30 && stamp.ends_with('Z'), "{line:?}");
        assert_eq!((stream, tag), ("stdout", "F"), "{line:?}");
        if text == "null" {
            return None;
        }
        assert_eq!(text.len(), 99, "{line:?}");
        Some(text[..12].parse().unwrap())
    })
}
