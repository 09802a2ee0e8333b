//! Frames of SPDY/3.1, as the clients of Kubernetes use it. Pure functions: no byte makes them fail otherwise than by an
//! error, and none makes them take more memory than is said here.
//!
//! ```text
//!  control │1│ version 15 │ type 16 │ flags 8 │ length 24 │ payload
//!  data    │0│ stream 31            │ flags 8 │ length 24 │ payload
//! ```

use flate2::{Decompress, FlushDecompress, Status};
use std::fmt;

/// Bytes that every frame begins with.
pub const HEAD: usize = 8;
/// Longest payload of a control frame, in bytes.
pub const MAX_CONTROL: usize = 64 << 10;
/// Most bytes that the headers of one stream may be inflated to.
const MAX_HEADERS: usize = 64 << 10;
/// Most headers of one stream.
const MAX_PAIRS: usize = 64;
/// Longest payload of a data frame that is sent: more makes several.
const MAX_DATA: usize = 1 << 20;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FIN: u8 = 1;

/// Why a stream is reset: it is not taken.
pub const REFUSED: u32 = 3;
/// Why a stream is reset: it is of no more use.
pub const CANCEL: u32 = 5;

/// What is wrong with what came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrong(pub &'static str);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl From<Wrong> for std::io::Error {
    fn from(wrong: Wrong) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, wrong.0)
    }
}

/// The beginning of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// A control frame.
    Control {
        /// Its type.
        kind: u16,
        /// Its flags.
        flags: u8,
        /// Bytes that follow: at most [`MAX_CONTROL`].
        length: usize,
    },
    /// Data of a stream.
    Data {
        /// Which.
        stream: u32,
        /// Whether nothing follows.
        is_last: bool,
        /// Bytes that follow: any number below 16 MiB.
        length: usize,
    },
}

impl Head {
    /// Reads the beginning of a frame.
    ///
    /// # Errors
    /// Other versions, and control frames that are too long.
    pub fn parse(bytes: [u8; HEAD]) -> Result<Self, Wrong> {
        let [a, b, c, d, flags, x, y, z] = bytes;
        let length = u32::from_be_bytes([0, x, y, z]) as usize;
        if a & 0x80 == 0 {
            return Ok(Self::Data {
                stream: u32::from_be_bytes([a, b, c, d]),
                is_last: flags & FIN != 0,
                length,
            });
        }
        if u16::from_be_bytes([a & 0x7f, b]) != 3 {
            return Err(Wrong("SPDY: not version 3"));
        }
        if length > MAX_CONTROL {
            return Err(Wrong("SPDY: a control frame is too long"));
        }
        Ok(Self::Control {
            kind: u16::from_be_bytes([c, d]),
            flags,
            length,
        })
    }
}

/// A control frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// The client opens a stream.
    Open {
        /// Its number.
        stream: u32,
        /// Whether the client sends nothing on it.
        is_last: bool,
        /// Names, in small letters, and values.
        headers: Vec<(String, String)>,
    },
    /// The client does without a stream.
    Reset(u32),
    /// To be sent back as it is.
    Ping(u32),
    /// The client opens no more streams.
    GoAway,
    /// What nothing follows from here: settings, windows, and what is not known.
    Other,
}

/// Reads control frames. Their headers are one compressed stream, so each has to be read, in order.
pub struct Reader {
    inflate: Decompress,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            inflate: Decompress::new(true),
        }
    }
}

impl Reader {
    /// Reads the payload of a control frame.
    ///
    /// # Errors
    /// What is too short or too long, or not compressed as it should be.
    pub fn control(&mut self, kind: u16, flags: u8, payload: &[u8]) -> Result<Control, Wrong> {
        let number = |at: usize| {
            let bytes = payload.get(at..at + 4).and_then(<[u8]>::first_chunk);
            bytes.map(|bytes| u32::from_be_bytes(*bytes))
        };
        let first = number(0).ok_or(Wrong("SPDY: a control frame is too short"));
        match kind {
            SYN_STREAM => {
                let block = payload
                    .get(10..)
                    .ok_or(Wrong("SPDY: SYN_STREAM is too short"))?;
                Ok(Control::Open {
                    stream: first? & 0x7fff_ffff,
                    is_last: flags & FIN != 0,
                    headers: self.headers(block)?,
                })
            }
            RST_STREAM => Ok(Control::Reset(first? & 0x7fff_ffff)),
            PING => Ok(Control::Ping(first?)),
            GOAWAY => Ok(Control::GoAway),
            // Their headers are part of the compressed stream.
            SYN_REPLY | 8 => {
                self.headers(payload.get(4..).unwrap_or_default())?;
                Ok(Control::Other)
            }
            _ => Ok(Control::Other),
        }
    }

    fn headers(&mut self, block: &[u8]) -> Result<Vec<(String, String)>, Wrong> {
        let plain = self.inflated(block)?;
        let mut rest = plain.as_slice();
        let count = length(&mut rest)?;
        if count > MAX_PAIRS {
            return Err(Wrong("SPDY: too many headers"));
        }
        let mut pairs = Vec::with_capacity(count);
        for _ in 0..count {
            let name = text(&mut rest)?.to_ascii_lowercase();
            pairs.push((name, text(&mut rest)?));
        }
        Ok(pairs)
    }

    fn inflated(&mut self, block: &[u8]) -> Result<Vec<u8>, Wrong> {
        let mut plain = Vec::with_capacity(1024);
        let begin = self.inflate.total_in();
        loop {
            let used = usize::try_from(self.inflate.total_in() - begin).unwrap_or(block.len());
            let rest = block.get(used..).unwrap_or_default();
            let before = (used, plain.len());
            let done = self
                .inflate
                .decompress_vec(rest, &mut plain, FlushDecompress::Sync);
            match done {
                Err(error) if error.needs_dictionary().is_some() => {
                    let set = self.inflate.set_dictionary(&dictionary());
                    set.map_err(|_| Wrong("SPDY: another dictionary"))?;
                    continue;
                }
                Err(_) => return Err(Wrong("SPDY: headers are not compressed as they should be")),
                Ok(Status::StreamEnd) => return Err(Wrong("SPDY: the compressed headers end")),
                Ok(Status::Ok | Status::BufError) => {}
            }
            let used = usize::try_from(self.inflate.total_in() - begin).unwrap_or(block.len());
            if plain.len() > MAX_HEADERS {
                return Err(Wrong("SPDY: headers are too long"));
            }
            if plain.len() == plain.capacity() {
                plain.reserve(plain.len());
            } else if used >= block.len() || (used, plain.len()) == before {
                return Ok(plain);
            }
        }
    }
}

fn length(rest: &mut &[u8]) -> Result<usize, Wrong> {
    let (bytes, after) = rest
        .split_first_chunk::<4>()
        .ok_or(Wrong("SPDY: headers are cut off"))?;
    *rest = after;
    usize::try_from(u32::from_be_bytes(*bytes)).map_err(|_| Wrong("SPDY: headers are too long"))
}

fn text(rest: &mut &[u8]) -> Result<String, Wrong> {
    let length = length(rest)?;
    let bytes = rest
        .get(..length)
        .ok_or(Wrong("SPDY: headers are cut off"))?;
    *rest = &rest[length..];
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// Writes frames.
#[derive(Debug, Default)]
pub struct Writer {
    has_begun: bool,
}

impl Writer {
    /// Takes a stream that the client has opened. The answer has no headers, so nothing is gained by compression: the
    /// compressed stream is made of stored blocks.
    pub fn reply(&mut self, stream: u32) -> Vec<u8> {
        let mut payload = stream.to_be_bytes().to_vec();
        if !self.has_begun {
            self.has_begun = true;
            payload.extend([0x78, 0x01]);
        }
        // No headers; and an empty block, for readers that wait for one before they believe what came before it.
        payload.extend([0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0]);
        payload.extend([0, 0, 0, 0xff, 0xff]);
        control(SYN_REPLY, &payload)
    }
}

/// Data of a stream, in as many frames as it needs.
#[must_use]
pub fn data(stream: u32, bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::with_capacity(bytes.len() + HEAD);
    for part in bytes.chunks(MAX_DATA) {
        data_frame(&mut all, stream, 0, part);
    }
    all
}

/// The end of what is sent on a stream.
#[must_use]
pub fn end(stream: u32) -> Vec<u8> {
    let mut frame = Vec::new();
    data_frame(&mut frame, stream, FIN, &[]);
    frame
}

fn data_frame(into: &mut Vec<u8>, stream: u32, flags: u8, part: &[u8]) {
    into.extend((stream & 0x7fff_ffff).to_be_bytes());
    into.extend(flags_and_length(flags, part.len()));
    into.extend(part);
}

/// Ends a stream in both directions.
#[must_use]
pub fn reset(stream: u32, why: u32) -> Vec<u8> {
    control(
        RST_STREAM,
        &[stream.to_be_bytes(), why.to_be_bytes()].concat(),
    )
}

/// Answers a ping.
#[must_use]
pub fn ping(id: u32) -> Vec<u8> {
    control(PING, &id.to_be_bytes())
}

/// Ends the connection; `last` is the last stream that was taken.
#[must_use]
pub fn go_away(last: u32) -> Vec<u8> {
    control(GOAWAY, &[last.to_be_bytes(), [0; 4]].concat())
}

fn control(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80, 3];
    frame.extend(kind.to_be_bytes());
    frame.extend(flags_and_length(0, payload.len()));
    frame.extend(payload);
    frame
}

fn flags_and_length(flags: u8, length: usize) -> [u8; 4] {
    let [.., x, y, z] = length.to_be_bytes();
    [flags, x, y, z]
}

/// The dictionary that both sides compress with: words with their lengths, and a text.
fn dictionary() -> Vec<u8> {
    const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
        accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
        content-length content-location content-md5 content-range content-type date etag expect expires from host \
        if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards \
        pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding \
        upgrade user-agent vary via warning www-authenticate method get status";
    const MORE: [&str; 8] = [
        "200 OK",
        "version",
        "HTTP/1.1",
        "url",
        "public",
        "set-cookie",
        "keep-alive",
        "origin",
    ];
    const TEXT: &str = "1001012012022052063003023033043053063074024054064074084094104114124134144154164175025045052\
        03 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden4\
        04 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug S\
        ept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
        application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=u\
        tf-8charset=iso-8859-1,utf-,*,enq=0.";
    let mut all = Vec::with_capacity(1423);
    for word in WORDS.split(' ').filter(|word| !word.is_empty()).chain(MORE) {
        let length = u32::try_from(word.len()).unwrap_or_default();
        all.extend(length.to_be_bytes());
        all.extend(word.as_bytes());
    }
    all.extend(TEXT.as_bytes());
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compress, Compression, FlushCompress};

    /// A client's side of the compressed headers.
    struct Headers(Compress);

    impl Headers {
        fn new() -> Self {
            let mut deflate = Compress::new(Compression::best(), true);
            deflate.set_dictionary(&dictionary()).unwrap();
            Self(deflate)
        }

        fn block(&mut self, pairs: &[(&str, &str)]) -> Vec<u8> {
            let mut plain = u32::try_from(pairs.len()).unwrap().to_be_bytes().to_vec();
            for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
                plain.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                plain.extend(text.as_bytes());
            }
            self.compressed(&plain)
        }

        fn compressed(&mut self, plain: &[u8]) -> Vec<u8> {
            let mut block = Vec::with_capacity(plain.len() + 1024);
            self.0
                .compress_vec(plain, &mut block, FlushCompress::Sync)
                .unwrap();
            block
        }
    }

    fn open(stream: u32, block: &[u8]) -> Vec<u8> {
        [&stream.to_be_bytes()[..], &[0; 6], block].concat()
    }

    fn adler(bytes: &[u8]) -> u32 {
        let (mut a, mut b) = (1u32, 0u32);
        for byte in bytes {
            a = (a + u32::from(*byte)) % 65521;
            b = (b + a) % 65521;
        }
        b << 16 | a
    }

    /// The checksum stands in the first bytes that any client of SPDY/3 sends.
    #[test]
    fn the_dictionary_is_everybodys() {
        assert_eq!(
            (dictionary().len(), adler(&dictionary())),
            (1423, 0xe3c6_a7c2)
        );
    }

    #[test]
    fn streams_are_opened_one_after_the_other() {
        let (mut client, mut reader) = (Headers::new(), Reader::default());
        for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
            let block = client.block(&[("streamType", kind), ("x", "")]);
            let control = reader
                .control(SYN_STREAM, 0, &open(stream, &block))
                .unwrap();
            let headers = [("streamtype", kind), ("x", "")];
            let headers = headers.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
            let is_last = false;
            assert_eq!(
                control,
                Control::Open {
                    stream,
                    is_last,
                    headers
                }
            );
        }
        // Many that do not fit into the first buffer.
        let long = "y".repeat(20_000);
        let block = client.block(&[("a", &long), ("b", &long)]);
        let Control::Open { headers, .. } =
            reader.control(SYN_STREAM, FIN, &open(7, &block)).unwrap()
        else {
            panic!("not opened");
        };
        assert_eq!(headers[1].1, long);
    }

    #[test]
    fn what_is_wrong_or_too_much() {
        let of = |plain: &[u8]| {
            let block = Headers::new().compressed(plain);
            Reader::default().control(SYN_STREAM, 0, &open(1, &block))
        };
        assert!(of(&[]).is_err());
        assert!(of(&[0, 0, 0, 1]).is_err());
        assert!(of(&[0xff; 4]).is_err());
        assert!(of(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0]).is_err());
        let bomb = vec![0; 4 << 20];
        assert_eq!(of(&bomb), Err(Wrong("SPDY: headers are too long")));
        let mut many = 65u32.to_be_bytes().to_vec();
        many.extend([0; 65 * 8]);
        assert_eq!(of(&many), Err(Wrong("SPDY: too many headers")));
        for block in [&[][..], b"hello", &[0x78, 0x01, 0xff, 0xff]] {
            assert!(
                Reader::default()
                    .control(SYN_STREAM, 0, &open(1, block))
                    .is_err()
            );
        }
        assert!(Reader::default().control(SYN_STREAM, 0, &[0; 9]).is_err());
        assert!(Reader::default().control(PING, 0, &[0; 3]).is_err());
        assert!(Head::parse([0x80, 2, 0, 1, 0, 0, 0, 0]).is_err());
        assert!(Head::parse([0x80, 3, 0, 1, 0, 1, 0, 1]).is_err());
    }

    #[test]
    fn frames_as_they_are_sent() {
        let head = |frame: &[u8]| Head::parse(*frame.first_chunk().unwrap()).unwrap();
        let (stream, length) = (5, 3);
        let is_last = false;
        assert_eq!(
            head(&data(5, b"abc")),
            Head::Data {
                stream,
                is_last,
                length
            }
        );
        let (is_last, length) = (true, 0);
        assert_eq!(
            head(&end(5)),
            Head::Data {
                stream,
                is_last,
                length
            }
        );
        assert!(data(5, &[]).is_empty());
        let mut reader = Reader::default();
        let mut again = |frame: &[u8]| {
            let Head::Control {
                kind,
                flags,
                length,
            } = head(frame)
            else {
                panic!("no control frame");
            };
            assert_eq!(length, frame.len() - HEAD);
            reader.control(kind, flags, &frame[HEAD..]).unwrap()
        };
        assert_eq!(again(&reset(9, REFUSED)), Control::Reset(9));
        assert_eq!(again(&ping(7)), Control::Ping(7));
        assert_eq!(again(&go_away(7)), Control::GoAway);
        // The stored blocks are read as one compressed stream.
        let mut writer = Writer::default();
        for stream in [1, 3] {
            assert_eq!(again(&writer.reply(stream)), Control::Other);
        }
    }
}
