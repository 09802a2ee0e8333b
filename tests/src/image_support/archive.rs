//! Archives with any header.

use std::io::Write;

/// A tar archive that is written header by header, so that it can say anything.
#[derive(Debug, Clone, Default)]
pub struct Tar {
    bytes: Vec<u8>,
}

/// The fields of one header; the rest is zero.
#[derive(Debug, Clone)]
pub struct Header {
    /// Up to 100 bytes.
    pub name: Vec<u8>,
    /// Type flag.
    pub flag: u8,
    /// Permission bits.
    pub mode: u32,
    /// The size field; the body need not have it.
    pub size: u64,
    /// Link target.
    pub link: Vec<u8>,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Seconds.
    pub mtime: u64,
    /// Device numbers.
    pub device: (u32, u32),
}

impl Header {
    /// A header of this type and name.
    pub fn new(flag: u8, name: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            flag,
            mode: if flag == b'5' { 0o755 } else { 0o644 },
            size: 0,
            link: Vec::new(),
            owner: (0, 0),
            mtime: 1_700_000_000,
            device: (0, 0),
        }
    }

    /// The block with its checksum.
    pub fn block(&self) -> Vec<u8> {
        let mut block = vec![0_u8; 512];
        let mut put = |at: usize, data: &[u8]| block[at..at + data.len()].copy_from_slice(data);
        put(0, &self.name[..self.name.len().min(100)]);
        put(100, format!("{:07o}\0", self.mode).as_bytes());
        put(108, format!("{:07o}\0", self.owner.0).as_bytes());
        put(116, format!("{:07o}\0", self.owner.1).as_bytes());
        put(124, format!("{:011o}\0", self.size).as_bytes());
        put(136, format!("{:011o}\0", self.mtime).as_bytes());
        put(156, &[self.flag]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, b"ustar\x0000");
        put(329, format!("{:07o}\0", self.device.0).as_bytes());
        put(337, format!("{:07o}\0", self.device.1).as_bytes());
        checksum(&mut block);
        block
    }
}

/// Writes the checksum of a header block into it.
pub fn checksum(block: &mut [u8]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

impl Tar {
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes as they are.
    #[must_use]
    pub fn raw(mut self, data: &[u8]) -> Self {
        self.bytes.extend_from_slice(data);
        self
    }

    /// A header and a body, padded.
    #[must_use]
    pub fn entry(self, header: &Header, body: &[u8]) -> Self {
        let mut all = self.raw(&header.block()).raw(body);
        all.bytes.resize(all.bytes.len().next_multiple_of(512), 0);
        all
    }

    /// A directory.
    #[must_use]
    pub fn dir(self, name: &str, mode: u32) -> Self {
        self.entry(
            &Header {
                mode,
                ..Header::new(b'5', name)
            },
            b"",
        )
    }

    /// A file.
    #[must_use]
    pub fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(
            &Header {
                size: content.len() as u64,
                ..Header::new(b'0', name)
            },
            content,
        )
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, target: &str, name: &str) -> Self {
        self.entry(
            &Header {
                link: target.into(),
                ..Header::new(b'2', name)
            },
            b"",
        )
    }

    /// A hard link.
    #[must_use]
    pub fn link(self, target: &str, name: &str) -> Self {
        self.entry(
            &Header {
                link: target.into(),
                ..Header::new(b'1', name)
            },
            b"",
        )
    }

    /// PAX records for the next entry.
    #[must_use]
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            body.extend_from_slice(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.entry(
            &Header {
                size: body.len() as u64,
                ..Header::new(b'x', "pax")
            },
            &body,
        )
    }

    /// The archive with its end.
    pub fn end(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }

    /// The archive without its end.
    pub fn cut(self) -> Vec<u8> {
        self.bytes
    }
}

/// `data` as one gzip member.
pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that hardly compress.
pub fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// An entry as a reader sees it, with the records before it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// `d d1/ 755`, `f d2/f 644 content`, `l d1/f1 -> d2/l1`, `s link -> target`, `w d6/l1` for a whiteout, or the type
    /// flag, name and mode of anything else.
    pub shown: String,
    /// Seconds since the epoch, as written.
    pub mtime: String,
}

/// The entries of an archive in the form of POSIX, in order.
pub fn entries(archive: &[u8]) -> Vec<Entry> {
    let text = |bytes: &[u8]| {
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).trim().to_owned()
    };
    let octal = |bytes: &[u8]| {
        u64::from_str_radix(&format!("0{}", text(bytes)), 8)
            .unwrap_or_else(|error| panic!("{error}: {bytes:?}"))
    };
    let (mut rest, mut found) = (archive, Vec::new());
    let mut pax = std::collections::BTreeMap::new();
    while rest.iter().take(512).any(|byte| *byte != 0) {
        let (header, after) = rest.split_at(512);
        let size = usize::try_from(octal(&header[124..136])).unwrap();
        let body = &after[..size];
        rest = &after[size.next_multiple_of(512)..];
        if header[156] == b'x' {
            let mut records = body;
            while let Some(space) = records.iter().position(|b| *b == b' ') {
                let length: usize = text(&records[..space]).parse().unwrap();
                let record = text(&records[space + 1..length - 1]);
                let (key, value) = record.split_once('=').unwrap();
                pax.insert(key.to_owned(), value.to_owned());
                records = &records[length..];
            }
            continue;
        }
        let mut field = |key: &str, bytes: &[u8]| pax.remove(key).unwrap_or_else(|| text(bytes));
        let (name, link) = (
            field("path", &header[..100]),
            field("linkpath", &header[157..257]),
        );
        let mtime = pax
            .remove("mtime")
            .unwrap_or_else(|| octal(&header[136..148]).to_string());
        pax.clear();
        let mode = octal(&header[100..108]);
        let shown = match (header[156], name.rsplit_once(".wh.")) {
            (b'0', Some((holder, hidden))) => format!("w {holder}{hidden}"),
            (b'0', None) => format!("f {name} {mode:o} {}", text(body)),
            (b'1', _) => format!("l {name} -> {link}"),
            (b'2', _) => format!("s {name} -> {link}"),
            (b'5', _) => format!("d {name} {mode:o}"),
            (flag, _) => format!("{} {name} {mode:o}", flag as char),
        };
        found.push(Entry { shown, mtime });
    }
    found
}
