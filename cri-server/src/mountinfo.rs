//! The mount table of this process, see proc_pid_mountinfo(5).

use crate::error::{Context, Result};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is.
    pub point: PathBuf,
    /// Whether it is shared with others.
    pub is_shared: bool,
    /// Whether it receives what others do.
    pub is_slave: bool,
}

/// All mounts, in the order of the kernel: of two at the same place the later one covers the other.
///
/// # Errors
/// Those of reading the table.
pub fn read() -> Result<Vec<Mount>> {
    let path = "/proc/self/mountinfo";
    Ok(parse(
        &std::fs::read(path).call(|| format!("read {path:?}"))?,
    ))
}

/// Paths are bytes, so the table is.
pub(crate) fn parse(table: &[u8]) -> Vec<Mount> {
    let lines = table.split(|&byte| byte == b'\n');
    let mount = |line: &[u8]| {
        let mut words = line.split(|&byte| byte == b' ');
        let point = unescaped(words.nth(4)?);
        let tags: Vec<_> = words.skip(1).take_while(|word| *word != b"-").collect();
        let has = |name: &[u8]| tags.iter().any(|tag| tag.starts_with(name));
        Some(Mount {
            point,
            is_shared: has(b"shared:"),
            is_slave: has(b"master:"),
        })
    };
    lines.filter_map(mount).collect()
}

/// A path in which `\040` and the like stand for bytes that would end a word.
fn unescaped(word: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| byte == b'\\');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) => {
                bytes.push(escaped);
                rest = &after[3..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn paths_of_any_bytes() {
        for (word, path) in [
            (&b"/a"[..], &b"/a"[..]),
            (b"/a\\040b\\011\\012\\134c", b"/a b\t\n\\c"),
            (b"/\\134040", b"/\\040"),
            (b"/\xff\\04", b"/\xff\\04"),
        ] {
            assert_eq!(unescaped(word).as_os_str().as_bytes(), path);
        }
    }

    #[test]
    fn lines() {
        let table = b"1 0 8:1 / / rw shared:1 master:2 - ext4 /dev/x rw\n2 1 8:2 / /a rw - ext4 shared: rw\n\nbad\n";
        let mount = |point: &str, is_shared, is_slave| Mount {
            point: point.into(),
            is_shared,
            is_slave,
        };
        assert_eq!(
            parse(table),
            [mount("/", true, true), mount("/a", false, false)]
        );
    }
}
