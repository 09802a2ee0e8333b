//! The fields of one header block.

use super::{Entry, Kind, Time};
use crate::error::{Result, invalid};

/// The bytes before the first zero byte.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

/// A number in octal digits, or in base 256 when the first bit is set.
pub(super) fn number(field: &[u8], name: &str) -> Result<i64> {
    let bad = || invalid(format!("header field {name} is not a number"));
    if field[0] & 0x80 != 0 {
        // Two's complement over all bytes; the first bit is only the marker, the second is the sign.
        let negative = field[0] & 0x40 != 0;
        let first = if negative { field[0] } else { field[0] & 0x7f };
        let mut value = i128::from(i8::from_ne_bytes([first]));
        for byte in &field[1..] {
            value = value
                .checked_mul(256)
                .and_then(|v| v.checked_add(i128::from(*byte)))
                .ok_or_else(bad)?;
        }
        return i64::try_from(value).map_err(|_| bad());
    }
    let digits = field
        .split(|b| *b == 0)
        .next()
        .unwrap_or_default()
        .trim_ascii();
    let mut value: i64 = 0;
    for digit in digits {
        if !(b'0'..=b'7').contains(digit) {
            return Err(bad());
        }
        value = value
            .checked_mul(8)
            .and_then(|v| v.checked_add(i64::from(digit - b'0')))
            .ok_or_else(bad)?;
    }
    Ok(value)
}

/// The same for what cannot be negative.
pub(super) fn unsigned(field: &[u8], name: &str) -> Result<u64> {
    u64::try_from(number(field, name)?)
        .map_err(|_| invalid(format!("header field {name} is negative")))
}

/// A user or group id; the highest one means "none" to the kernel and is refused.
pub(super) fn id(value: u64, name: &str) -> Result<u32> {
    u32::try_from(value)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| invalid(format!("{name} {value} is not an id")))
}

/// Seconds and nanoseconds, where what lies before the epoch or too far after it becomes the epoch, as in containerd.
pub(super) fn time(seconds: i64, nanos: u32) -> Time {
    const LAST: i64 = i64::MAX / 1_000_000_000;
    if (0..LAST).contains(&seconds) {
        Time { seconds, nanos }
    } else {
        Time::default()
    }
}

/// What the header block alone says. `size` is still the stored size.
pub(super) fn entry(header: &tar::Header, size: u64) -> Result<Entry> {
    let old = header.as_old();
    let mut path = text(&old.name).to_vec();
    if let Some(ustar) = header.as_ustar() {
        let prefix = text(&ustar.prefix);
        if !prefix.is_empty() {
            path = [prefix, b"/", &path].concat();
        }
    }
    let flag = header.as_bytes()[156];
    let kind = match flag {
        0 if path.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::Char,
        b'4' => Kind::Block,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => {
            return Err(invalid(format!(
                "entry type {:?} is unknown",
                char::from(other)
            )));
        }
    };
    let device = match (kind, header.as_ustar(), header.as_gnu()) {
        (Kind::Char | Kind::Block, Some(u), _) => (device(&u.dev_major)?, device(&u.dev_minor)?),
        (Kind::Char | Kind::Block, _, Some(g)) => (device(&g.dev_major)?, device(&g.dev_minor)?),
        (Kind::Char | Kind::Block, None, None) => return Err(invalid("device without numbers")),
        _ => (0, 0),
    };
    let mode = unsigned(&old.mode, "mode")? & 0o7777;
    Ok(Entry {
        path,
        kind,
        mode: u32::try_from(mode).unwrap_or(0),
        uid: id(unsigned(&old.uid, "uid")?, "uid")?,
        gid: id(unsigned(&old.gid, "gid")?, "gid")?,
        size,
        mtime: time(number(&old.mtime, "mtime")?, 0),
        link: text(&old.linkname).to_vec(),
        device,
        xattrs: Vec::new(),
        sparse: None,
    })
}

fn device(field: &[u8]) -> Result<u32> {
    u32::try_from(unsigned(field, "device number")?)
        .map_err(|_| invalid("device number is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_both_notations() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"77777777777\0", Some(0o77_777_777_777)),
            (b"0000648\0", None),
            (b"-000644\0", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (
                b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
                Some(i64::MAX),
            ),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(number(field, "x").ok(), value, "{field:?}");
        }
        assert!(unsigned(b"\xff\xff\xff\xff\xff\xff\xff\xff", "size").is_err());
        assert!(id(u64::from(u32::MAX), "uid").is_err());
        assert!(id(u64::from(u32::MAX) - 1, "uid").is_ok());
        assert!(id(1 << 32, "uid").is_err());
    }

    #[test]
    fn times_are_clamped() {
        assert_eq!(time(-1, 5), Time::default());
        assert_eq!(time(i64::MAX, 0), Time::default());
        assert_eq!(
            time(7, 8),
            Time {
                seconds: 7,
                nanos: 8
            }
        );
    }
}
