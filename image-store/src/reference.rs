//! Image references as people write them: `alpine`, `quay.io/a/b:1.2`, `host:5000/x@sha256:…`.
//! The grammar is distribution's, with docker.io and library as defaults.

use crate::digest::Digest;
use crate::error::{Error, Result, invalid};
use std::fmt;
use std::str::FromStr;

/// A normalized reference. `Display` gives its full form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Registry host with an optional port, as written in the reference (`docker.io`, not its API host).
    pub host: String,
    /// Repository path below the host.
    pub repository: String,
    /// Tag; `latest` where neither tag nor digest was written.
    pub tag: Option<String>,
    /// Digest; where both are given it decides and the tag is only a label.
    pub digest: Option<Digest>,
}

const MAX_LENGTH: usize = 512;
const MAX_REPOSITORY: usize = 255;
const MAX_TAG: usize = 128;

impl Reference {
    /// `host/repository`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// What the registry is asked for: the digest where there is one, else the tag.
    pub fn target(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The same repository at a digest, without tag.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text).ok_or_else(|| invalid(format!("{text:?} is not an image reference")))
    }
}

fn parse(text: &str) -> Option<Reference> {
    if text.len() > MAX_LENGTH {
        return None;
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse().ok()?)),
        None => (text, None),
    };
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return None;
    }
    let (host, repository) = match name.split_once('/') {
        Some((host, path)) if is_host_like(host) => (host, path.to_owned()),
        _ => ("docker.io", name.to_owned()),
    };
    let host = if host == "index.docker.io" {
        "docker.io"
    } else {
        host
    };
    let repository = if host == "docker.io" && !repository.contains('/') {
        format!("library/{repository}")
    } else {
        repository
    };
    if !is_host(host)
        || repository.len() > MAX_REPOSITORY
        || !repository.split('/').all(is_component)
    {
        return None;
    }
    let tag = match (tag, digest.is_some()) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, true) => None,
        (None, false) => Some("latest".to_owned()),
    };
    Some(Reference {
        host: host.to_owned(),
        repository,
        tag,
        digest,
    })
}

/// The first component is a host when it could not be a repository's: distribution's rule.
fn is_host_like(text: &str) -> bool {
    text == "localhost"
        || text.contains(['.', ':', '['])
        || text.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_host(text: &str) -> bool {
    let (name, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, rest)) = rest.split_once(']') else {
            return false;
        };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        ("v6", rest)
    } else {
        match text.find(':') {
            Some(at) => text.split_at(at),
            None => (text, ""),
        }
    };
    let port_fits = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok());
    let label_fits = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    port_fits && name.split('.').all(label_fits)
}

/// Lower-case letters and digits, separated by one `.`, one or two `_`, or any number of `-`.
fn is_component(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !is_word(*first) || !is_word(*last) {
        return false;
    }
    bytes.split(|b| is_word(*b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

/// Whether `text` may be a tag.
pub fn is_tag(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= MAX_TAG
        && bytes
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_normalized() {
        let hex = "0a".repeat(32);
        for (text, full) in [
            ("alpine", "docker.io/library/alpine:latest".to_owned()),
            ("a/b", "docker.io/a/b:latest".to_owned()),
            (
                "index.docker.io/alpine:3",
                "docker.io/library/alpine:3".to_owned(),
            ),
            ("localhost/a", "localhost/a:latest".to_owned()),
            ("localhost:5000/a/b:v1", "localhost:5000/a/b:v1".to_owned()),
            ("[::1]:5000/a", "[::1]:5000/a:latest".to_owned()),
            ("q.io/a__b/c-d--e.f", "q.io/a__b/c-d--e.f:latest".to_owned()),
            (
                &format!("q.io/a@sha256:{hex}"),
                format!("q.io/a@sha256:{hex}"),
            ),
            (
                &format!("q.io/a:t@sha256:{hex}"),
                format!("q.io/a:t@sha256:{hex}"),
            ),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), full);
        }
    }

    #[test]
    fn what_is_no_reference() {
        let long = "a".repeat(256);
        for text in [
            "",
            ":",
            "a:",
            "A",
            "a//b",
            "/a",
            "a/",
            "q.io/",
            "a:-t",
            "a@sha256:12",
            "a_",
            "a___b",
            "a..b",
            "-a",
            "q.io/a b",
            "../a",
            "q.io/../a",
            "q.io:99999/a",
            "q.io:x/a",
            "[::1/a",
            &long,
            "é",
            "a:é",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
