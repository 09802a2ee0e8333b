//! What is fuzzed: each target takes any bytes, as a file or a caller could give them, and panics where what comes of
//! them breaks a promise. The programs that make up the bytes are in the directory `fuzz`.
//!
//! Compiled for tests, which replay `fuzz/corpus`, and with `--cfg fuzzing`.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a panic is how a finding is told"
)]

use crate::error::{Error, ErrorKind};

mod config;
mod exec;
mod mounts;

/// Takes bytes, and panics where a promise is broken.
pub type Target = fn(&[u8]);

/// All targets, by the names of their corpora.
pub const TARGETS: [(&str, Target); 7] = [
    ("config", config),
    ("exec", exec),
    ("seccomp", seccomp),
    ("state", state),
    ("mounts", mounts),
    ("dbus", dbus),
    ("netlink", netlink),
];

/// `config.json`, for hosts of several kinds.
pub fn config(bytes: &[u8]) {
    config::check(bytes);
}

/// Strings of `exec`: the user on the first line, cgroups on the second, capabilities on the others.
pub fn exec(bytes: &[u8]) {
    exec::check(bytes);
}

/// `linux.seccomp`, for several architectures.
pub fn seccomp(bytes: &[u8]) {
    if let Ok(profile) = serde_json::from_slice(bytes) {
        crate::plan::seccomp::fuzz::check(&profile);
    }
}

/// `state.json`, and what procfs says of a process.
pub fn state(bytes: &[u8]) {
    crate::state::fuzz(bytes);
}

/// A mount: the type on the first line, the destination on the second, options on the others.
pub fn mounts(bytes: &[u8]) {
    mounts::check(bytes);
}

/// What systemd answers.
pub fn dbus(bytes: &[u8]) {
    crate::cgroup::fuzz_dbus(bytes);
}

/// What the kernel answers about network devices.
pub fn netlink(bytes: &[u8]) {
    crate::netlink::fuzz(bytes);
}

/// An error of a configuration is one line, and its pointer is one.
fn check_error(error: &Error) {
    let text = error.to_string();
    assert!(!text.contains(['\n', '\r', '\0']), "{text:?}");
    assert!(!text.is_empty());
    match error.kind() {
        ErrorKind::InvalidSpec { pointer } => {
            assert!(pointer.is_empty() || pointer.starts_with('/'), "{text}");
        }
        ErrorKind::Unsupported | ErrorKind::InvalidArgument => {}
        other => panic!("{text}: {other:?} of a configuration alone"),
    }
}

/// A path of the container that nothing has to be looked up for.
fn is_clean(path: &[u8]) -> bool {
    path.strip_prefix(b"/").is_some_and(|rest| {
        rest.split(|&byte| byte == b'/')
            .all(|name| !name.is_empty() && name != b"." && name != b"..")
    })
}

fn lines(bytes: &[u8]) -> Option<std::str::Split<'_, char>> {
    str::from_utf8(bytes).ok().map(|text| text.split('\n'))
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
            // The others are those of the server, and its test looks after them.
            let is_ours = !name.to_string_lossy().starts_with("cri_");
            assert_eq!(is_known, is_ours, "{name:?}");
        }
    }
}
