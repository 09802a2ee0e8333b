//! The one pass over a layer, as two threads: hash, keep and inflate the compressed bytes; hash and unpack the archive.
//!
//! ```text
//! network ──Bytes──▶ inflate thread ──256 KiB buffers──▶ unpack thread
//!                    digest, blob file                    DiffID, files
//! ```
//! All channels are short, so memory is bounded and the slowest part sets the pace.

use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Context, Error, ErrorKind, Result, limit};
use crate::limits;
use crate::unpack::Unpacker;
use bytes::Bytes;
use std::fs::File;
use std::io::{self, BufRead, Read, Seek, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// One buffer between the threads, and how many there are.
const BUFFER: usize = 256 << 10;
const BUFFERS: usize = 6;
/// Pieces between network and inflate thread.
pub(crate) const PIECES: usize = 8;

/// What must stay as long as a thread of a pipeline runs.
pub(crate) type Guard = std::sync::Arc<dyn std::any::Any + Send + Sync>;

/// What came out of the compressed side.
#[derive(Debug)]
pub(crate) struct Inflated {
    pub(crate) digest: Digest,
}

/// What came out of the archive's side.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) diff_id: Digest,
    pub(crate) unpacker: Unpacker,
}

/// The two threads of a layer. The inflate thread's blob file is begun with what is in it already.
#[derive(Debug)]
pub(crate) struct Pipeline {
    inflate: JoinHandle<Result<Inflated>>,
    unpack: Option<JoinHandle<Result<Unpacked>>>,
}

/// An end that never comes: the other side failed.
fn aborted() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the other side of the pipeline ended",
    )
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<JoinHandle<Result<T>>> {
    // The walk over a deep layer recurses once a directory.
    let builder = std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(16 << 20);
    builder.spawn(work).call(|| format!("spawn thread {name}"))
}

/// Pieces of a stream, or its orderly end. A channel that closes without an end was aborted.
#[derive(Debug)]
pub(crate) enum Piece<T> {
    Data(T),
    End,
}

impl Pipeline {
    /// Begins. Without an unpacker the blob is only hashed and kept.
    pub(crate) fn start(
        algorithm: (Algorithm, Algorithm),
        pieces: tokio::sync::mpsc::Receiver<Piece<Bytes>>,
        (blob, unpacker): (Option<File>, Option<Unpacker>),
        guard: Guard,
    ) -> Result<Self> {
        let mut source = Compressed::new(algorithm.0, pieces, blob)?;
        let Some(unpacker) = unpacker else {
            let inflate = spawn("inflate", move || {
                let _guard = guard;
                source.finish()
            })?;
            return Ok(Self {
                inflate,
                unpack: None,
            });
        };
        let (full, buffers) = sync_channel(BUFFERS);
        let (empty, returned) = sync_channel(BUFFERS);
        for _ in 0..BUFFERS {
            // Room for all of them.
            drop(empty.try_send(vec![0; BUFFER]));
        }
        let held = guard.clone();
        let inflate = spawn("inflate", move || {
            let _guard = held;
            inflate(&mut source, &full, &returned)?;
            let inflated = source.finish()?;
            full.send(Piece::End)
                .map_err(|_| Error::os("inflate", &aborted()))?;
            Ok(inflated)
        })?;
        let archive = Archive::new(algorithm.1, buffers, empty);
        let unpack = spawn("unpack", move || {
            let _guard = guard;
            unpack(archive, unpacker)
        })?;
        Ok(Self {
            inflate,
            unpack: Some(unpack),
        })
    }

    /// Waits for the threads. Of several errors, the first cause is returned.
    pub(crate) fn finish(self) -> Result<(Inflated, Option<Unpacked>)> {
        let panicked = |_| Error::new(ErrorKind::Invalid, "layer thread panicked");
        let inflated = self.inflate.join().map_err(panicked)?;
        let unpacked = self
            .unpack
            .map(|unpack| unpack.join().map_err(panicked))
            .transpose()?
            .transpose();
        match (inflated, unpacked) {
            (Ok(inflated), Ok(unpacked)) => Ok((inflated, unpacked)),
            (Err(error), Err(other)) if error.kind() == ErrorKind::Cancelled => Err(other),
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
        }
    }
}

fn unpack(mut archive: Archive, mut unpacker: Unpacker) -> Result<Unpacked> {
    archive = unpacker.run(archive)?;
    Ok(Unpacked {
        diff_id: archive.hasher.finish(),
        unpacker,
    })
}

/// Decompresses by the stream's first bytes, not by what its media type says.
fn inflate(
    source: &mut Compressed,
    full: &SyncSender<Piece<Vec<u8>>>,
    empty: &Receiver<Vec<u8>>,
) -> Result<()> {
    let first = source.peek().call(|| "read layer")?;
    let mut decoder: Box<dyn Read + '_> = match first {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source).call(|| "zstd")?;
            decoder
                .window_log_max(limits::ZSTD_WINDOW_LOG)
                .call(|| "zstd window")?;
            Box::new(decoder)
        }
        _ => Box::new(source),
    };
    let most = limits::LAYER_BYTES + limits::ENTRIES * 1024;
    let mut total = 0;
    loop {
        let mut buffer = empty.recv().map_err(|_| Error::os("inflate", &aborted()))?;
        buffer.resize(BUFFER, 0);
        let mut filled = 0;
        while filled < BUFFER {
            match decoder
                .read(&mut buffer[filled..])
                .call(|| "inflate layer")?
            {
                0 => break,
                read => filled += read,
            }
        }
        if filled == 0 {
            return Ok(());
        }
        total += filled as u64;
        if total > most {
            return Err(limit(format!("layer inflates to more than {most} bytes")));
        }
        buffer.truncate(filled);
        full.send(Piece::Data(buffer))
            .map_err(|_| Error::os("inflate", &aborted()))?;
    }
}

/// The compressed bytes: first those that the blob file has, then those from the network, which are added to it.
struct Compressed {
    pieces: tokio::sync::mpsc::Receiver<Piece<Bytes>>,
    hasher: Hasher,
    blob: Option<File>,
    /// Bytes of the file that are still to be read before the network's turn.
    stored: u64,
    current: Bytes,
    is_over: bool,
}

impl Compressed {
    fn new(
        algorithm: Algorithm,
        pieces: tokio::sync::mpsc::Receiver<Piece<Bytes>>,
        blob: Option<File>,
    ) -> Result<Self> {
        let mut stored = 0;
        if let Some(mut file) = blob.as_ref() {
            stored = file.metadata().call(|| "stat blob")?.len();
            file.rewind().call(|| "seek blob")?;
        }
        Ok(Self {
            pieces,
            hasher: Hasher::new(algorithm),
            blob,
            stored,
            current: Bytes::new(),
            is_over: false,
        })
    }

    /// Takes the next piece if the current one is used up; false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        while self.current.is_empty() && !self.is_over {
            if let (true, Some(file)) = (self.stored > 0, self.blob.as_mut()) {
                let mut data = vec![0; usize::try_from(self.stored).unwrap_or(BUFFER).min(BUFFER)];
                file.read_exact(&mut data)?;
                self.stored -= data.len() as u64;
                self.current = data.into();
            } else {
                match self.pieces.blocking_recv() {
                    None => return Err(aborted()),
                    Some(Piece::End) => self.is_over = true,
                    Some(Piece::Data(data)) => {
                        if let Some(file) = &mut self.blob {
                            file.write_all(&data)?;
                        }
                        self.current = data;
                    }
                }
            }
            self.hasher.update(&self.current);
        }
        Ok(!self.current.is_empty())
    }

    /// The first four bytes, without taking them; zeros where the stream is shorter.
    fn peek(&mut self) -> io::Result<[u8; 4]> {
        let mut start = Vec::new();
        while start.len() < 4 && self.advance()? {
            start.extend_from_slice(&std::mem::take(&mut self.current));
        }
        let mut first = [0; 4];
        let length = start.len().min(4);
        first[..length].copy_from_slice(&start[..length]);
        self.current = start.into();
        Ok(first)
    }

    /// Reads what the decoder left, so that the digest covers all.
    fn finish(&mut self) -> Result<Inflated> {
        while self.advance().call(|| "read layer")? {
            self.current.clear();
        }
        let fresh = Hasher::new(Algorithm::Sha256);
        Ok(Inflated {
            digest: std::mem::replace(&mut self.hasher, fresh).finish(),
        })
    }
}

impl BufRead for Compressed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.advance()?;
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        bytes::Buf::advance(&mut self.current, amount);
    }
}

impl Read for Compressed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}

fn read_buffered(source: &mut impl BufRead, buffer: &mut [u8]) -> io::Result<usize> {
    let available = source.fill_buf()?;
    let length = available.len().min(buffer.len());
    buffer[..length].copy_from_slice(&available[..length]);
    source.consume(length);
    Ok(length)
}

/// The inflated bytes. Buffers go back when they are used up.
struct Archive {
    buffers: Receiver<Piece<Vec<u8>>>,
    empty: SyncSender<Vec<u8>>,
    hasher: Hasher,
    current: Vec<u8>,
    at: usize,
    is_over: bool,
}

impl Archive {
    fn new(
        algorithm: Algorithm,
        buffers: Receiver<Piece<Vec<u8>>>,
        empty: SyncSender<Vec<u8>>,
    ) -> Self {
        Self {
            buffers,
            empty,
            hasher: Hasher::new(algorithm),
            current: Vec::new(),
            at: 0,
            is_over: false,
        }
    }
}

impl BufRead for Archive {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len() && !self.is_over {
            let used = std::mem::take(&mut self.current);
            if !used.is_empty() {
                // The inflate thread may be gone already.
                drop(self.empty.try_send(used));
            }
            self.at = 0;
            match self.buffers.recv() {
                Err(_) => return Err(aborted()),
                Ok(Piece::End) => self.is_over = true,
                Ok(Piece::Data(buffer)) => {
                    self.hasher.update(&buffer);
                    self.current = buffer;
                }
            }
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}
