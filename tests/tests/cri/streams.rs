//! Clients of streams, frame by frame.
#![allow(clippy::unwrap_used, reason = "a test ends with the facts")]

use crate::cri::Node;
use cri_server::api::{AttachRequest, ExecRequest, PortForwardRequest};
use std::collections::{HashMap, HashSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;
use tonic::Status;

/// After this time nothing comes any more.
const HANGS: Duration = Duration::from_secs(60);

/// What runs until it is told to end.
pub const WAITS: &str = "trap exit TERM; while :; do sleep 0.1; done";

pub fn exec_request(container: &str, script: &str) -> ExecRequest {
    ExecRequest {
        container_id: container.to_owned(),
        cmd: ["busybox", "sh", "-c", script].map(str::to_owned).into(),
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    }
}

pub fn exec_url(node: &Node, request: ExecRequest) -> Result<String, Status> {
    Ok(node.wait(node.runtime().exec(request))?.into_inner().url)
}

pub fn attach_url(node: &Node, container: &str, tty: bool) -> Result<String, Status> {
    let request = AttachRequest {
        container_id: container.to_owned(),
        stdin: true,
        tty,
        stdout: true,
        stderr: !tty,
    };
    Ok(node.wait(node.runtime().attach(request))?.into_inner().url)
}

pub fn forward_url(node: &Node, pod: &str, port: i32) -> String {
    let request = PortForwardRequest {
        pod_sandbox_id: pod.to_owned(),
        port: vec![port],
    };
    let answer = node.wait(node.runtime().port_forward(request)).unwrap();
    answer.into_inner().url
}

/// A process of the container whose command line has a text.
pub fn is_running(node: &Node, container: &str, text: &str) -> bool {
    let own = node.status(container).id;
    let found = node.exec(
        &own,
        &format!("busybox ps -o args | busybox grep -v grep | busybox grep -c '{text}'"),
    );
    found.unwrap().stdout != b"0\n"
}

/// The code that a status of version 4 tells.
pub fn exit_code(status: &[u8]) -> Option<i32> {
    let status: serde_json::Value = serde_json::from_slice(status).ok()?;
    if status["status"] == "Success" {
        return Some(0);
    }
    status["details"]["causes"][0]["message"]
        .as_str()?
        .parse()
        .ok()
}

/// Connects, asks for an address with headers, and returns the beginning of the answer too.
fn ask(url: &str, headers: &[(&str, &str)]) -> (TcpStream, String) {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(HANGS)).unwrap();
    let mut request = format!("POST /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream
        .write_all(format!("{request}\r\n").as_bytes())
        .unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
        answer.push(byte[0]);
    }
    (stream, String::from_utf8(answer).unwrap())
}

/// Whether anything comes at once.
fn has_more(stream: &TcpStream) -> bool {
    let soon = Duration::from_millis(200);
    stream.set_read_timeout(Some(soon)).unwrap();
    let found = stream.peek(&mut [0]);
    stream.set_read_timeout(Some(HANGS)).unwrap();
    found.is_ok_and(|length| length > 0)
}

/// The answer to a request, without its body.
pub fn get(url: &str, headers: &[(&str, &str)]) -> String {
    ask(url, headers).1
}

/// A client that speaks WebSocket.
pub struct Web {
    stream: TcpStream,
    said: Vec<Vec<u8>>,
    has_ended: bool,
}

impl Web {
    pub fn open(url: &str, protocol: &str) -> Self {
        let (stream, answer) = ask(
            url,
            &[
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("Sec-WebSocket-Protocol", protocol),
            ],
        );
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        // The example of RFC 6455.
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
        assert!(
            answer.contains(&format!("sec-websocket-protocol: {protocol}\r\n")),
            "{answer}"
        );
        Self {
            stream,
            said: vec![Vec::new(); 5],
            has_ended: false,
        }
    }

    /// The connection itself.
    pub fn socket(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    pub fn send(&mut self, channel: u8, bytes: &[u8]) {
        let frame = message(2, &[&[channel][..], bytes].concat());
        self.stream.write_all(&frame).unwrap();
    }

    /// Reads one frame; returns whether there was one.
    fn read(&mut self) -> bool {
        let mut head = [0; 2];
        if self.has_ended || self.stream.read_exact(&mut head).is_err() {
            self.has_ended = true;
            return false;
        }
        let length = match head[1] {
            126 => {
                let mut bytes = [0; 2];
                self.stream.read_exact(&mut bytes).unwrap();
                usize::from(u16::from_be_bytes(bytes))
            }
            127 => {
                let mut bytes = [0; 8];
                self.stream.read_exact(&mut bytes).unwrap();
                usize::try_from(u64::from_be_bytes(bytes)).unwrap()
            }
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).unwrap();
        match (head[0], payload.split_first()) {
            (0x82, Some((channel, bytes))) => self.said[usize::from(*channel)].extend(bytes),
            (0x88, _) => self.has_ended = true,
            other => panic!("frame {other:?}"),
        }
        true
    }

    /// Waits until a text was said.
    pub fn wait_for(&mut self, channel: usize, text: &str) {
        let mut seen = 0;
        while !self.said[channel][seen..]
            .windows(text.len())
            .any(|part| part == text.as_bytes())
        {
            seen = self.said[channel].len().saturating_sub(text.len());
            assert!(self.read(), "{text} was not said");
        }
    }

    /// Whether a text was said, as far as anything comes at once.
    pub fn has(&mut self, channel: usize, text: &[u8]) -> bool {
        while has_more(&self.stream) {
            self.read();
        }
        self.said[channel]
            .windows(text.len())
            .any(|part| part == text)
    }

    /// Reads to the end; returns what was said, by channel.
    pub fn finish(mut self) -> Vec<Vec<u8>> {
        while self.read() {}
        std::mem::take(&mut self.said)
    }
}

/// A frame as a client sends it: masked.
pub fn message(code: u8, bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | code];
    match u16::try_from(bytes.len()) {
        Ok(length) if length < 126 => frame.push(0x80 | u8::try_from(length).unwrap()),
        Ok(length) => {
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend((bytes.len() as u64).to_be_bytes());
        }
    }
    let mask = [1, 2, 3, 4];
    frame.extend(mask);
    frame.extend(
        bytes
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

/// A client that speaks SPDY/3.1. Its headers are stored, not compressed.
pub struct Spdy {
    stream: TcpStream,
    said: HashMap<u32, Vec<u8>>,
    ended: HashSet<u32>,
    reset: HashSet<u32>,
    next: u32,
}

impl Spdy {
    pub fn open(url: &str, protocol: &str) -> Self {
        let (stream, answer) = ask(
            url,
            &[
                ("Connection", "Upgrade"),
                ("Upgrade", "SPDY/3.1"),
                ("X-Stream-Protocol-Version", protocol),
            ],
        );
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        assert!(
            answer.contains(&format!("x-stream-protocol-version: {protocol}\r\n")),
            "{answer}"
        );
        Self::on(stream)
    }

    fn on(stream: TcpStream) -> Self {
        Self {
            stream,
            said: HashMap::new(),
            ended: HashSet::new(),
            reset: HashSet::new(),
            next: 1,
        }
    }

    /// The connection itself.
    pub fn socket(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    /// Another who writes to the same connection.
    pub fn another(&self) -> Self {
        Self::on(self.socket())
    }

    /// Opens a stream, and returns its number.
    pub fn stream(&mut self, headers: &[(&str, &str)]) -> u32 {
        let stream = self.next;
        self.next += 2;
        let mut plain = u32::try_from(headers.len()).unwrap().to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
            plain.extend(text.as_bytes());
        }
        let mut payload = [&stream.to_be_bytes()[..], &[0; 6]].concat();
        if stream == 1 {
            payload.extend([0x78, 0x01]);
        }
        let length = u16::try_from(plain.len()).unwrap();
        payload.push(0);
        payload.extend(length.to_le_bytes());
        payload.extend((!length).to_le_bytes());
        payload.extend(plain);
        let mut frame = vec![0x80, 3, 0, 1];
        frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
        frame.extend(payload);
        self.stream.write_all(&frame).unwrap();
        stream
    }

    /// Opens the streams of a session, in this order: their numbers are 1, 3, 5 and so on.
    pub fn streams(&mut self, kinds: &[&str]) {
        for kind in kinds {
            self.stream(&[("streamtype", kind)]);
        }
    }

    /// Opens the two streams of a connection to a port: for an error, and for its bytes.
    pub fn pair(&mut self, port: i32) -> (u32, u32) {
        let (port, id) = (port.to_string(), self.next.to_string());
        let of = |kind| [("streamtype", kind), ("port", &*port), ("requestid", &*id)];
        (self.stream(&of("error")), self.stream(&of("data")))
    }

    pub fn data(&mut self, stream: u32, bytes: &[u8], is_last: bool) {
        let mut frame = stream.to_be_bytes().to_vec();
        let length = u32::try_from(bytes.len()).unwrap() | u32::from(is_last) << 24;
        frame.extend(length.to_be_bytes());
        frame.extend(bytes);
        self.stream.write_all(&frame).unwrap();
    }

    /// Reads one frame; returns whether there was one.
    fn read(&mut self) -> bool {
        let mut head = [0; 8];
        if self.stream.read_exact(&mut head).is_err() {
            return false;
        }
        let number = |at: usize| u32::from_be_bytes(*head[at..].first_chunk().unwrap());
        let mut payload = vec![0; (number(4) & 0xff_ffff) as usize];
        self.stream.read_exact(&mut payload).unwrap();
        if head[0] & 0x80 == 0 {
            self.said.entry(number(0)).or_default().extend(payload);
            if head[4] & 1 != 0 {
                self.ended.insert(number(0));
            }
        } else if head[3] == 3 {
            self.reset
                .insert(u32::from_be_bytes(*payload.first_chunk().unwrap()));
        }
        true
    }

    pub fn received(&self, stream: u32) -> Vec<u8> {
        self.said.get(&stream).cloned().unwrap_or_default()
    }

    /// Whether a text was said, as far as anything comes at once.
    pub fn has(&mut self, stream: u32, text: &[u8]) -> bool {
        while has_more(&self.stream) {
            self.read();
        }
        self.received(stream)
            .windows(text.len())
            .any(|part| part == text)
    }

    pub fn wait_for_end(&mut self, stream: u32) {
        while !self.ended.contains(&stream) && !self.reset.contains(&stream) {
            assert!(self.read(), "stream {stream} does not end");
        }
    }

    /// Whether the server does not take a stream.
    pub fn was_reset(&mut self, stream: u32) -> bool {
        self.wait_for_end(stream);
        self.reset.contains(&stream)
    }

    /// Reads to the end; returns what was said, by stream.
    pub fn finish(mut self) -> HashMap<u32, Vec<u8>> {
        while self.read() {}
        std::mem::take(&mut self.said)
    }
}
