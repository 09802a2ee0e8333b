//! As much of D-Bus as it takes to ask systemd: values, method calls, replies and signals on one socket.
//!
//! Only what systemd's manager needs is here: a D-Bus library brings more code than all of a runtime. See the D-Bus
//! specification, "Message Protocol" and "Authentication Protocol".

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::error::{Call, Error, Result};
use crate::host::in_user_namespace;

/// Longest message that is taken.
const LONGEST: usize = 1 << 20;
/// Bytes of the fixed part of a header.
const HEADER: usize = 16;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

const FIELD_PATH: u8 = 1;
const FIELD_INTERFACE: u8 = 2;
const FIELD_MEMBER: u8 = 3;
const FIELD_ERROR_NAME: u8 = 4;
const FIELD_REPLY_SERIAL: u8 = 5;
const FIELD_DESTINATION: u8 = 6;
const FIELD_SIGNATURE: u8 = 8;

/// A value with its type.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Byte(u8),
    Bool(bool),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    Double(f64),
    Str(String),
    Path(String),
    /// Values of one type, which is told for the case that there are none.
    Array(&'static str, Vec<Self>),
    Struct(Vec<Self>),
    Variant(Box<Self>),
}

impl Value {
    pub(super) fn text(text: &str) -> Self {
        Self::Str(text.to_owned())
    }

    /// An array of structures `(sv)`, as systemd takes properties.
    pub(super) fn properties(properties: &[(String, Self)]) -> Self {
        let pair = |(name, value): &(String, Self)| {
            Self::Struct(vec![
                Self::text(name),
                Self::Variant(Box::new(value.clone())),
            ])
        };
        Self::Array("(sv)", properties.iter().map(pair).collect())
    }

    fn signature(&self, to: &mut String) {
        match self {
            Self::Byte(_) => to.push('y'),
            Self::Bool(_) => to.push('b'),
            Self::I16(_) => to.push('n'),
            Self::U16(_) => to.push('q'),
            Self::I32(_) => to.push('i'),
            Self::U32(_) => to.push('u'),
            Self::I64(_) => to.push('x'),
            Self::U64(_) => to.push('t'),
            Self::Double(_) => to.push('d'),
            Self::Str(_) => to.push('s'),
            Self::Path(_) => to.push('o'),
            Self::Array(element, _) => {
                to.push('a');
                to.push_str(element);
            }
            Self::Struct(fields) => {
                to.push('(');
                fields.iter().for_each(|field| field.signature(to));
                to.push(')');
            }
            Self::Variant(_) => to.push('v'),
        }
    }

    /// To what multiple values of a type, named by its first letter, are aligned.
    fn alignment(first: Option<char>) -> usize {
        match first {
            Some('y' | 'g' | 'v') => 1,
            Some('n' | 'q') => 2,
            Some('x' | 't' | 'd' | '(' | '{') => 8,
            _ => 4,
        }
    }
}

/// Bytes of a message on their way out, little-endian.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number<const N: usize>(&mut self, bytes: [u8; N]) {
        self.align(N);
        self.0.extend(bytes);
    }

    fn length(&mut self, length: usize) {
        self.number(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, signature: &str) {
        self.0
            .push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.0.extend(signature.as_bytes());
        self.0.push(0);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Byte(value) => self.0.push(*value),
            Value::Bool(value) => self.number(u32::from(*value).to_le_bytes()),
            Value::I16(value) => self.number(value.to_le_bytes()),
            Value::U16(value) => self.number(value.to_le_bytes()),
            Value::I32(value) => self.number(value.to_le_bytes()),
            Value::U32(value) => self.number(value.to_le_bytes()),
            Value::I64(value) => self.number(value.to_le_bytes()),
            Value::U64(value) => self.number(value.to_le_bytes()),
            Value::Double(value) => self.number(value.to_bits().to_le_bytes()),
            Value::Str(text) | Value::Path(text) => self.text(text),
            Value::Array(element, values) => self.array(element, values),
            Value::Struct(fields) => {
                self.align(8);
                fields.iter().for_each(|field| self.value(field));
            }
            Value::Variant(value) => {
                let mut signature = String::new();
                value.signature(&mut signature);
                self.signature(&signature);
                self.value(value);
            }
        }
    }

    /// The length in front counts neither itself nor the gap before the first element.
    fn array(&mut self, element: &str, values: &[Value]) {
        self.length(0);
        let length_at = self.0.len() - 4;
        self.align(Value::alignment(element.chars().next()));
        let start = self.0.len();
        values.iter().for_each(|value| self.value(value));
        let length = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX);
        self.0[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    fn field(&mut self, code: u8, value: &Value) {
        self.align(8);
        self.0.push(code);
        self.value(&Value::Variant(Box::new(value.clone())));
    }
}

/// Bytes of a message that came in. Positions count from the start of the message, for alignment.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.u32()?).ok()?;
        let text = str::from_utf8(self.take(length)?).ok()?.to_owned();
        self.take(1)?;
        Some(text)
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(*self.take(1)?.first()?);
        let text = str::from_utf8(self.take(length)?).ok()?.to_owned();
        self.take(1)?;
        Some(text)
    }
}

/// What came in, with the values that replies and signals of systemd's manager begin with.
#[derive(Debug, Default)]
pub(super) struct Message {
    kind: u8,
    reply_to: u32,
    member: String,
    error_name: String,
    /// The strings and paths of the body, in order; numbers are left out.
    pub(super) texts: Vec<String>,
}

impl Message {
    /// Whether it is the signal `member`.
    pub(super) fn is_signal(&self, member: &str) -> bool {
        self.kind == SIGNAL && self.member == member
    }

    /// Reads all of a message behind its fixed header of 16 bytes; none where it breaks the rules.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut message = Self {
            kind: *bytes.get(1)?,
            ..Self::default()
        };
        let mut reader = Reader { bytes, at: 12 };
        let fields_end = 16 + usize::try_from(reader.u32()?).ok()?;
        let mut body = String::new();
        while reader.at < fields_end {
            reader.align(8);
            let code = *reader.take(1)?.first()?;
            match (code, reader.signature()?.as_str()) {
                (FIELD_MEMBER, "s") => message.member = reader.text()?,
                (FIELD_ERROR_NAME, "s") => message.error_name = reader.text()?,
                (FIELD_SIGNATURE, "g") => body = reader.signature()?,
                (FIELD_REPLY_SERIAL, "u") => message.reply_to = reader.u32()?,
                (_, "s" | "o") => drop(reader.text()?),
                (_, "g") => drop(reader.signature()?),
                (_, "u") => drop(reader.u32()?),
                _ => return None,
            }
        }
        reader.align(8);
        // Values behind one of another type are none that anything here asks for.
        for kind in body.chars() {
            match kind {
                's' | 'o' => message.texts.push(reader.text()?),
                'u' | 'i' | 'b' => drop(reader.u32()?),
                'v' => match reader.signature()?.as_str() {
                    "s" | "o" => message.texts.push(reader.text()?),
                    _ => break,
                },
                _ => break,
            }
        }
        Some(message)
    }
}

/// A connection on which every wait ends by one moment.
#[derive(Debug)]
pub(super) struct Connection {
    socket: UnixStream,
    serial: u32,
    until: Instant,
    /// Signals that came while a reply was waited for.
    signals: Vec<Message>,
}

/// A method of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Method<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
}

impl Connection {
    /// Connects to the socket at `path` and proves by its credentials who this process is.
    ///
    /// # Errors
    /// The errno of the calls; `ETIMEDOUT` where nobody answers within `limit`.
    pub(super) fn open(path: &Path, limit: Duration) -> Result<Self> {
        let until = Instant::now() + limit;
        let socket = UnixStream::connect(path).call(|| format!("connect({path:?})"))?;
        let mut connection = Self {
            socket,
            serial: 0,
            until,
            signals: Vec::new(),
        };
        connection.authenticate()?;
        Ok(connection)
    }

    fn authenticate(&mut self) -> Result<()> {
        let words = if in_user_namespace() {
            // Ids here are not those of the server. Without one it takes the socket's credentials.
            "\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n".to_owned()
        } else {
            let id: String = nix::unistd::geteuid()
                .to_string()
                .bytes()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            format!("\0AUTH EXTERNAL {id}\r\nBEGIN\r\n")
        };
        // All in one, and nothing behind it before the answer: a message that systemd reads together with BEGIN lies
        // there until something else comes.
        self.send(words.as_bytes())?;
        let mut answer = self.line()?;
        if answer == "DATA" {
            answer = self.line()?;
        }
        if answer.starts_with("OK") {
            return Ok(());
        }
        Err(Error::os(
            format!("authentication by D-Bus: {answer:?}"),
            Errno::EACCES,
        ))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < 512 {
            let mut byte = [0];
            self.receive(&mut byte)?;
            line.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// What is left of the time.
    fn limit(&self) -> Result<Duration> {
        self.until
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
            .ok_or_else(timed_out)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let limit = self.limit()?;
        self.socket
            .set_write_timeout(Some(limit))
            .call(|| "setsockopt(SO_SNDTIMEO)")?;
        self.socket
            .write_all(bytes)
            .map_err(|error| failed(&error, "write"))
    }

    fn receive(&mut self, bytes: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let limit = self.limit()?;
            self.socket
                .set_read_timeout(Some(limit))
                .call(|| "setsockopt(SO_RCVTIMEO)")?;
            match self.socket.read(&mut bytes[done..]) {
                Ok(0) => return Err(Error::os("read(D-Bus)", Errno::ECONNRESET)),
                Ok(count) => done += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(&error, "read")),
            }
        }
        Ok(())
    }

    /// Calls a method and waits for its reply.
    ///
    /// # Errors
    /// What the other side says, as [`Refusal`]; else those of the socket, and `ETIMEDOUT`.
    pub(super) fn call(
        &mut self,
        method: Method<'_>,
        arguments: &[Value],
    ) -> Result<std::result::Result<Message, Refusal>> {
        self.serial += 1;
        let serial = self.serial;
        let message = encode(serial, method, arguments);
        self.send(&message)?;
        loop {
            let message = self.next()?;
            match message.kind {
                METHOD_RETURN if message.reply_to == serial => return Ok(Ok(message)),
                ERROR if message.reply_to == serial => {
                    return Ok(Err(Refusal {
                        name: message.error_name,
                        text: message.texts.into_iter().next().unwrap_or_default(),
                    }));
                }
                SIGNAL => self.signals.push(message),
                _ => {}
            }
        }
    }

    /// The next signal.
    ///
    /// # Errors
    /// Those of the socket, and `ETIMEDOUT`.
    pub(super) fn signal(&mut self) -> Result<Message> {
        if !self.signals.is_empty() {
            return Ok(self.signals.remove(0));
        }
        loop {
            let message = self.next()?;
            if message.kind == SIGNAL {
                return Ok(message);
            }
        }
    }

    fn next(&mut self) -> Result<Message> {
        let broken = || Error::os("read(D-Bus): no message", Errno::EPROTO);
        let mut bytes = vec![0; HEADER];
        self.receive(&mut bytes)?;
        let rest = rest_of(&bytes).ok_or_else(broken)?;
        bytes.resize(HEADER + rest, 0);
        self.receive(&mut bytes[HEADER..])?;
        Message::parse(&bytes).ok_or_else(broken)
    }
}

/// How much follows the fixed header of a message; none where it is not one that is read here.
fn rest_of(header: &[u8]) -> Option<usize> {
    let length = |at: usize| -> Option<usize> {
        let bytes = header.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let rest = length(12)?.next_multiple_of(8).saturating_add(length(4)?);
    (*header.first()? == b'l' && rest <= LONGEST).then_some(rest)
}

/// Any bytes from systemd: what is read of them is no more than there is.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(bytes: &[u8]) {
    assert!(rest_of(bytes).is_none_or(|rest| rest <= LONGEST));
    if let Some(message) = Message::parse(bytes) {
        let texts = message
            .texts
            .iter()
            .chain([&message.member, &message.error_name]);
        let read: usize = texts.map(String::len).sum();
        assert!(read <= bytes.len(), "{message:?}");
    }
}

/// What the other side said in place of a reply.
#[derive(Debug)]
pub(super) struct Refusal {
    /// `org.freedesktop.…`
    pub(super) name: String,
    pub(super) text: String,
}

fn timed_out() -> Error {
    Error::os("read(D-Bus): no answer", Errno::ETIMEDOUT)
}

fn failed(error: &std::io::Error, call: &str) -> Error {
    match error.raw_os_error().map(Errno::from_raw) {
        // That is how a socket says that its time is over.
        Some(Errno::EAGAIN) | None => timed_out(),
        Some(errno) => Error::os(format!("{call}(D-Bus)"), errno),
    }
}

fn encode(serial: u32, method: Method<'_>, arguments: &[Value]) -> Vec<u8> {
    let mut body = Writer::default();
    let mut signature = String::new();
    for argument in arguments {
        argument.signature(&mut signature);
        body.value(argument);
    }
    let mut fields = Writer::default();
    fields.field(FIELD_PATH, &Value::Path(method.path.to_owned()));
    for (code, text) in [
        (FIELD_INTERFACE, method.interface),
        (FIELD_MEMBER, method.member),
        (FIELD_DESTINATION, method.destination),
    ] {
        fields.field(code, &Value::text(text));
    }
    if !signature.is_empty() {
        fields.align(8);
        fields.0.push(FIELD_SIGNATURE);
        fields.signature("g");
        fields.signature(&signature);
    }
    let mut message = Writer(vec![b'l', METHOD_CALL, 0, 1]);
    message.length(body.0.len());
    message.number(serial.to_le_bytes());
    message.length(fields.0.len());
    message.0.extend(fields.0);
    message.align(8);
    message.0.extend(body.0);
    message.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHOD: Method<'_> = Method {
        destination: "d.e",
        path: "/p",
        interface: "i.f",
        member: "M",
    };

    /// Byte by byte as the specification has it.
    #[test]
    fn a_call() {
        let arguments = [
            Value::text("ab"),
            Value::properties(&[
                ("B".to_owned(), Value::Bool(true)),
                ("P".to_owned(), Value::Array("u", vec![Value::U32(7)])),
            ]),
        ];
        let bytes = encode(2, METHOD, &arguments);
        let header: [u8; 16] = [b'l', 1, 0, 1, 52, 0, 0, 0, 2, 0, 0, 0, 76, 0, 0, 0];
        assert_eq!(bytes[..16], header);
        let body: [u8; 52] = [
            2, 0, 0, 0, b'a', b'b', 0, 0, // "ab"
            36, 0, 0, 0, 0, 0, 0, 0, // length of the array, gap
            1, 0, 0, 0, b'B', 0, 1, b'b', 0, 0, 0, 0, 1, 0, 0, 0, // ("B", true)
            1, 0, 0, 0, b'P', 0, 2, b'a', b'u', 0, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0,
        ];
        assert_eq!(bytes[bytes.len() - 52..], body);
    }

    #[test]
    fn what_is_written_can_be_read() {
        let bytes = encode(
            9,
            METHOD,
            &[Value::U32(4), Value::text("job"), Value::text("done")],
        );
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.kind, message.member.as_str()), (METHOD_CALL, "M"));
        assert_eq!(message.texts, ["job", "done"]);
    }

    #[test]
    fn broken_messages() {
        let bytes = encode(9, METHOD, &[Value::text("done")]);
        for length in 0..bytes.len() {
            assert!(Message::parse(&bytes[..length]).is_none(), "{length}");
        }
    }
}
