//! PAX records: `length key=value\n`, repeated. A record that breaks the form is an error, never skipped.

use super::fields::{id, time};
use super::{Entry, Time};
use crate::error::{Result, invalid, limit};
use crate::limits;
use std::collections::BTreeMap;

/// The records in force for one entry; the last one of a key counts, an empty value takes it back.
#[derive(Debug, Default)]
pub(super) struct Records {
    known: BTreeMap<Vec<u8>, Vec<u8>>,
    /// `GNU.sparse.offset` and `GNU.sparse.numbytes` repeat: version 0.0 of the sparse format.
    pub(super) extents: Vec<(u64, u64)>,
    pending_offset: Option<u64>,
    seen: bool,
}

impl Records {
    pub(super) fn is_empty(&self) -> bool {
        !self.seen
    }

    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        self.known.get(key.as_bytes()).map(Vec::as_slice)
    }

    pub(super) fn extend(&mut self, mut data: &[u8]) -> Result<()> {
        self.seen = true;
        while !data.is_empty() {
            let (key, value, rest) =
                record(data).ok_or_else(|| invalid("extended header has a malformed record"))?;
            data = rest;
            match key {
                b"GNU.sparse.offset" => {
                    if self.pending_offset.replace(decimal(value)?).is_some() {
                        return Err(invalid("sparse record has two offsets and no length"));
                    }
                }
                b"GNU.sparse.numbytes" => {
                    let offset = self
                        .pending_offset
                        .take()
                        .ok_or_else(|| invalid("sparse record has no offset"))?;
                    self.extents.push((offset, decimal(value)?));
                    if self.extents.len() > limits::SPARSE_EXTENTS {
                        return Err(limit("sparse file has too many pieces"));
                    }
                }
                _ if value.is_empty() => {
                    self.known.remove(key);
                }
                _ => {
                    self.known.insert(key.to_vec(), value.to_vec());
                }
            }
        }
        Ok(())
    }

    /// Which of the three PAX notations of sparse files is used.
    pub(super) fn sparse_version(&self) -> Result<Option<Version>> {
        let major = self.get("GNU.sparse.major");
        let minor = self.get("GNU.sparse.minor");
        match (major, minor) {
            (Some(b"1"), Some(b"0")) => Ok(Some(Version::InBody)),
            (Some(b"0"), Some(b"1")) => Ok(Some(Version::Map)),
            (Some(b"0"), Some(b"0")) => Ok(Some(Version::Pairs)),
            (None, None) if self.get("GNU.sparse.map").is_some() => Ok(Some(Version::Map)),
            (None, None) if self.get("GNU.sparse.size").is_some() => Ok(Some(Version::Pairs)),
            (None, None) => Ok(None),
            _ => Err(invalid("sparse format has an unknown version")),
        }
    }

    pub(super) fn apply(&self, entry: &mut Entry) -> Result<()> {
        if let Some(path) = self.get("path") {
            entry.path = path.to_vec();
        }
        if let Some(link) = self.get("linkpath") {
            entry.link = link.to_vec();
        }
        if let Some(size) = self.get("size") {
            entry.size = decimal(size)?;
        }
        if let Some(uid) = self.get("uid") {
            entry.uid = id(decimal(uid)?, "uid")?;
        }
        if let Some(gid) = self.get("gid") {
            entry.gid = id(decimal(gid)?, "gid")?;
        }
        if let Some(mtime) = self.get("mtime") {
            entry.mtime = fraction(mtime)?;
        }
        let mut bytes = 0;
        for (key, value) in &self.known {
            let Some(name) = key.strip_prefix(b"SCHILY.xattr.") else {
                continue;
            };
            bytes += name.len() + value.len();
            if name.is_empty() || name.len() > 255 || name.contains(&0) {
                return Err(invalid("extended attribute has a bad name"));
            }
            if value.len() > limits::XATTR_VALUE
                || bytes > limits::XATTR_BYTES
                || entry.xattrs.len() >= limits::XATTRS
            {
                return Err(limit("extended attributes are too large or too many"));
            }
            entry.xattrs.push((name.to_vec(), value.clone()));
        }
        Ok(())
    }
}

/// The PAX notations of sparse files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// 0.0: repeated offset and length records.
    Pairs,
    /// 0.1: one record with all numbers.
    Map,
    /// 1.0: the map is at the head of the body.
    InBody,
}

fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(8).position(|b| *b == b' ')?;
    let length = usize::try_from(decimal(&data[..space]).ok()?).ok()?;
    if length > data.len() || length < space + 4 || data[length - 1] != b'\n' {
        return None;
    }
    let body = &data[space + 1..length - 1];
    let equals = body.iter().position(|b| *b == b'=')?;
    let (key, value) = (&body[..equals], &body[equals + 1..]);
    let is_text = !key.starts_with(b"SCHILY.xattr.");
    if key.is_empty() || key.contains(&0) || (is_text && value.contains(&0)) {
        return None;
    }
    Some((key, value, &data[length..]))
}

/// A plain decimal number: digits only.
pub(super) fn decimal(text: &[u8]) -> Result<u64> {
    let bad = || {
        invalid(format!(
            "{:?} is not a number",
            String::from_utf8_lossy(text)
        ))
    };
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(bad());
    }
    std::str::from_utf8(text)
        .ok()
        .and_then(|t| t.parse().ok())
        .filter(|v| i64::try_from(*v).is_ok())
        .ok_or_else(bad)
}

/// Seconds with an optional sign and fraction.
fn fraction(text: &[u8]) -> Result<Time> {
    let (whole, part) = match text.iter().position(|b| *b == b'.') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &b""[..]),
    };
    if !part.iter().all(u8::is_ascii_digit) {
        return Err(invalid(format!(
            "time {:?} is not a number",
            String::from_utf8_lossy(text)
        )));
    }
    if let Some(negative) = whole.strip_prefix(b"-") {
        decimal(negative)?;
        return Ok(Time::default());
    }
    let nanos = part
        .iter()
        .chain(std::iter::repeat(&b'0'))
        .take(9)
        .fold(0, |n, d| n * 10 + u32::from(d - b'0'));
    Ok(time(
        i64::try_from(decimal(whole)?).unwrap_or(i64::MAX),
        nanos,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_exactly() {
        let mut records = Records::default();
        records
            .extend(b"12 path=a/b\n9 size=7\n12 path=c/d\n")
            .unwrap();
        assert_eq!(records.get("path"), Some(&b"c/d"[..]));
        assert_eq!(records.get("size"), Some(&b"7"[..]));
        for bad in [
            &b"12 path=a/b"[..],
            b"13 path=a/b\n",
            b"11 path=a/b\n",
            b"x path=a/b\n",
            b"+12 path=a/b\n",
            b"12 pathea/b\n",
            b"12 path=a\0b\n",
            b"6 =abc\n",
            b"99999999999 path=a\n",
            b"\0",
        ] {
            assert!(Records::default().extend(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_empty_value_takes_a_record_back() {
        let mut records = Records::default();
        records.extend(b"12 path=a/b\n8 path=\n").unwrap();
        assert_eq!(records.get("path"), None);
    }

    #[test]
    fn fractions() {
        assert_eq!(
            fraction(b"12.5").unwrap(),
            Time {
                seconds: 12,
                nanos: 500_000_000
            }
        );
        assert_eq!(
            fraction(b"12.1234567899").unwrap(),
            Time {
                seconds: 12,
                nanos: 123_456_789
            }
        );
        assert_eq!(fraction(b"-3.5").unwrap(), Time::default());
        for bad in [&b""[..], b".5", b"1.x", b"1e3", b"--1"] {
            assert!(fraction(bad).is_err(), "{bad:?}");
        }
    }
}
