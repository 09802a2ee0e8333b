//! Reads a tar archive as a stream of entries under budgets: ustar, GNU and PAX, sparse files in all four notations.
//!
//! Stricter than most readers on purpose: what two readers could understand differently is an error here.
//! Field offsets and types come from the `tar` crate's header; see tar(5) and POSIX pax.

use crate::error::{Context, Error, ErrorKind, Result, invalid, limit};
use crate::limits;
use std::io::BufRead;

mod fields;
mod pax;
mod sparse;

use fields::{number, text, unsigned};
use pax::Records;

const BLOCK: usize = 512;

/// A time stamp relative to the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time {
    /// Seconds, never negative: earlier times are clamped to the epoch.
    pub seconds: i64,
    /// Nanoseconds below one second.
    pub nanos: u32,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its content follows.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to `Entry::link`.
    Symlink,
    /// Another name of `Entry::link`.
    HardLink,
    /// A character device `Entry::device`.
    Char,
    /// A block device `Entry::device`.
    Block,
    /// A named pipe.
    Fifo,
}

/// A piece of a sparse file that holds data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where in the file it begins.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// One entry's header, already checked and bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path as written.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size of the file, holes included.
    pub size: u64,
    /// Time of the last change.
    pub mtime: Time,
    /// Target of a link as written.
    pub link: Vec<u8>,
    /// Major and minor number.
    pub device: (u32, u32),
    /// Extended attributes as written, in order of their names.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The pieces that hold data, for a sparse file.
    pub sparse: Option<Vec<Extent>>,
}

/// Reads entries from a stream.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    /// Bytes of the current entry's body that were not read yet.
    body: u64,
    /// Zero bytes that fill its last block.
    padding: u64,
    entries: u64,
    bytes: u64,
}

impl<R: BufRead> Reader<R> {
    /// Reads from `source`, which should hand out large pieces.
    pub fn new(source: R) -> Self {
        Self {
            source,
            body: 0,
            padding: 0,
            entries: 0,
            bytes: 0,
        }
    }

    /// The stream, which stands at the begin of the current entry's body.
    pub fn source(&self) -> &R {
        &self.source
    }

    /// The next entry, or nothing at the end of the archive. Skips what is left of the one before.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.skip(self.body + self.padding)?;
        (self.body, self.padding) = (0, 0);
        let mut records = Records::default();
        let mut long_name = None;
        let mut long_link = None;
        loop {
            let Some(header) = self.header()? else {
                return if records.is_empty() && long_name.is_none() && long_link.is_none() {
                    Ok(None)
                } else {
                    Err(invalid("archive ends after an extended header"))
                };
            };
            let size = unsigned(&header.as_old().size, "size")?;
            match header.as_bytes()[156] {
                b'x' => records.extend(&self.small_body(size, limits::PAX)?)?,
                b'g' => Records::default().extend(&self.small_body(size, limits::PAX)?)?,
                b'L' => {
                    long_name =
                        Some(text(&self.small_body(size, limits::PATH as u64 + 1)?).to_vec());
                }
                b'K' => {
                    long_link =
                        Some(text(&self.small_body(size, limits::LINK as u64 + 1)?).to_vec());
                }
                _ => {
                    self.entries += 1;
                    if self.entries > limits::ENTRIES {
                        return Err(limit(format!(
                            "archive has more than {} entries",
                            limits::ENTRIES
                        )));
                    }
                    return self
                        .entry(&header, size, &records, long_name, long_link)
                        .map(Some);
                }
            }
        }
    }

    fn entry(
        &mut self,
        header: &tar::Header,
        size: u64,
        records: &Records,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry> {
        let mut entry = fields::entry(header, size)?;
        let kind = entry.kind;
        records.apply(&mut entry)?;
        if let Some(name) = long_name {
            entry.path = name;
        }
        if let Some(link) = long_link {
            entry.link = link;
        }
        // Like every other reader in use: links, directories and nodes have no body, whatever their size says.
        let stored = if kind == Kind::File { entry.size } else { 0 };
        self.body = stored;
        self.padding = stored.next_multiple_of(BLOCK as u64) - stored;
        if kind == Kind::File {
            let version = records.sparse_version()?;
            if header.as_bytes()[156] == b'S' {
                sparse::old_gnu(self, header, &mut entry)?;
            } else if let Some(version) = version {
                sparse::pax(self, version, records, &mut entry)?;
            }
        } else {
            entry.size = 0;
        }
        self.charge(&entry)?;
        check_names(&entry)?;
        Ok(entry)
    }

    fn charge(&mut self, entry: &Entry) -> Result<()> {
        self.bytes = self.bytes.saturating_add(entry.size);
        if self.bytes > limits::LAYER_BYTES {
            return Err(limit(format!(
                "archive unpacks to more than {} bytes",
                limits::LAYER_BYTES
            )));
        }
        Ok(())
    }

    /// Hands all that is left of the body to `sink`, in the pieces in which it arrives.
    pub fn body(&mut self, mut sink: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.take(self.body, &mut sink)?;
        self.body = 0;
        Ok(())
    }

    /// Hands the next `length` bytes of the body to `sink`.
    pub fn piece(&mut self, length: u64, mut sink: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if length > self.body {
            return Err(invalid("sparse map goes past the body"));
        }
        self.take(length, &mut sink)?;
        self.body -= length;
        Ok(())
    }

    /// Reads what follows the archive, so that a digest over the stream covers it.
    pub fn drain(mut self) -> Result<R> {
        loop {
            let length = self.source.fill_buf().call(|| "read archive")?.len();
            if length == 0 {
                return Ok(self.source);
            }
            self.source.consume(length);
        }
    }

    fn take(&mut self, mut length: u64, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while length > 0 {
            let buffer = self.source.fill_buf().call(|| "read archive")?;
            if buffer.is_empty() {
                return Err(invalid("archive ends inside an entry"));
            }
            let taken = buffer
                .len()
                .min(usize::try_from(length).unwrap_or(usize::MAX));
            sink(&buffer[..taken])?;
            self.source.consume(taken);
            length -= taken as u64;
        }
        Ok(())
    }

    fn skip(&mut self, length: u64) -> Result<()> {
        self.take(length, &mut |_| Ok(()))
    }

    fn small_body(&mut self, size: u64, most: u64) -> Result<Vec<u8>> {
        if size > most {
            return Err(limit(format!(
                "extended header has {size} bytes, at most {most} are accepted"
            )));
        }
        let mut data = Vec::new();
        self.take(size, &mut |piece| {
            data.extend_from_slice(piece);
            Ok(())
        })?;
        self.skip(size.next_multiple_of(BLOCK as u64) - size)?;
        Ok(data)
    }

    /// One block, or nothing at a clean end of the stream.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let buffer = self.source.fill_buf().call(|| "read archive")?;
            if buffer.is_empty() {
                return if filled == 0 {
                    Ok(None)
                } else {
                    Err(invalid("archive ends inside a header"))
                };
            }
            let taken = buffer.len().min(BLOCK - filled);
            block[filled..filled + taken].copy_from_slice(&buffer[..taken]);
            self.source.consume(taken);
            filled += taken;
        }
        Ok(Some(block))
    }

    fn header(&mut self) -> Result<Option<tar::Header>> {
        let Some(block) = self.block()? else {
            return Ok(None);
        };
        if block == [0; BLOCK] {
            return match self.block()? {
                Some(second) if second != [0; BLOCK] => {
                    Err(invalid("data follows a lone block of zeros"))
                }
                _ => Ok(None),
            };
        }
        let header = tar::Header::from_byte_slice(&block).clone();
        let stored = number(&header.as_old().cksum, "checksum")?;
        let field = 148..156;
        let bytes = block
            .iter()
            .enumerate()
            .map(|(at, b)| if field.contains(&at) { b' ' } else { *b });
        let plain: i64 = bytes.clone().map(i64::from).sum();
        let signed: i64 = bytes.map(|b| i64::from(i8::from_ne_bytes([b]))).sum();
        if stored != plain && stored != signed {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "archive header has a wrong checksum",
            ));
        }
        Ok(Some(header))
    }
}

fn check_names(entry: &Entry) -> Result<()> {
    let shown = || {
        String::from_utf8_lossy(&entry.path)
            .chars()
            .take(200)
            .collect::<String>()
    };
    if entry.path.is_empty() {
        return Err(invalid("entry has an empty name"));
    }
    if entry.path.contains(&0) || entry.link.contains(&0) {
        return Err(invalid(format!(
            "entry {:?} has a zero byte in a name",
            shown()
        )));
    }
    if entry.path.len() > limits::PATH {
        return Err(limit(format!(
            "entry {:?}… has a path longer than {}",
            shown(),
            limits::PATH
        )));
    }
    if entry
        .path
        .split(|b| *b == b'/')
        .any(|part| part.len() > limits::COMPONENT)
    {
        return Err(limit(format!(
            "entry {:?}… has a name longer than {}",
            shown(),
            limits::COMPONENT
        )));
    }
    if entry.link.len() > limits::LINK {
        return Err(limit(format!(
            "entry {:?} has a link target longer than {}",
            shown(),
            limits::LINK
        )));
    }
    if matches!(entry.kind, Kind::Symlink | Kind::HardLink) && entry.link.is_empty() {
        return Err(invalid(format!("link {:?} has no target", shown())));
    }
    Ok(())
}
