//! The daemon's side of a pod's shim: calls over one connection, any number at once.
//!
//! A call that nobody waits for any more is ended by nobody: what was begun in a shim goes on, and its answer is dropped.

use crate::error::{Context, Error, Kind, Result};
use ocirun_shim::wire::{
    self, Code, Frame, Kind as FrameKind, Request, Response, SERVICE, Status, frame,
};
use prost::Message;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::collections::HashMap;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{mpsc, watch};

/// Frames that wait to be sent; more make callers wait.
const QUEUE: usize = 64;

/// A connection to a shim.
#[derive(Debug)]
pub struct Shim {
    outgoing: mpsc::Sender<Outgoing>,
    calls: Arc<Calls>,
    closed: watch::Receiver<bool>,
}

#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    descriptor: Option<OwnedFd>,
}

/// Who waits for frames, by stream.
#[derive(Debug, Default)]
struct Calls {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    last: u32,
    is_closed: bool,
    by_stream: HashMap<u32, mpsc::UnboundedSender<Frame>>,
}

impl Calls {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new stream; clients have the odd ones.
    fn open(&self) -> Option<(u32, mpsc::UnboundedReceiver<Frame>)> {
        let mut waiting = self.lock();
        if waiting.is_closed {
            return None;
        }
        let id = match waiting.last {
            0 => 1,
            last => last.checked_add(2)?,
        };
        waiting.last = id;
        let (sender, receiver) = mpsc::unbounded_channel();
        waiting.by_stream.insert(id, sender);
        Some((id, receiver))
    }

    /// Hands a frame to whoever waits for it.
    fn deliver(&self, frame: Frame) {
        let mut waiting = self.lock();
        let stream = frame.stream;
        let is_last = frame.kind == FrameKind::Response;
        let sent = waiting
            .by_stream
            .get(&stream)
            .map(|sender| sender.send(frame));
        if is_last || !matches!(sent, Some(Ok(()))) {
            waiting.by_stream.remove(&stream);
        }
    }

    fn close(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        waiting.by_stream.clear();
    }
}

/// The messages of a call that answers with many.
#[derive(Debug)]
pub struct Messages {
    method: &'static str,
    frames: mpsc::UnboundedReceiver<Frame>,
    is_over: bool,
}

impl Messages {
    /// The next message; nothing after the last.
    ///
    /// # Errors
    /// Those of the shim; `Unavailable` if the connection is lost.
    pub async fn next<T: Message + Default>(&mut self) -> Result<Option<T>> {
        if self.is_over {
            return Ok(None);
        }
        let frame = self.frames.recv().await.ok_or_else(|| lost(self.method))?;
        if frame.kind != FrameKind::Response {
            return decode(self.method, &frame.payload).map(Some);
        }
        self.is_over = true;
        let payload = answer(self.method, &frame.payload)?;
        if payload.is_empty() {
            return Ok(None);
        }
        decode(self.method, &payload).map(Some)
    }
}

impl Shim {
    /// Connects to the socket of a shim.
    ///
    /// # Errors
    /// Those of connect(2).
    pub async fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .await
            .call(|| format!("connect {socket:?}"))?;
        let (read, write) = stream.into_split();
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let calls = Arc::new(Calls::default());
        let (close, closed) = watch::channel(false);
        let reading = calls.clone();
        tokio::spawn(async move {
            if let Err(error) = receive(read, &reading).await {
                tracing::warn!("connection to a shim: {error}");
            }
            reading.close();
            close.send_replace(true);
        });
        let writing = calls.clone();
        tokio::spawn(async move {
            if let Err(error) = send(write.as_ref(), queue).await {
                tracing::debug!("connection to a shim: {error}");
                writing.close();
            }
        });
        Ok(Self {
            outgoing,
            calls,
            closed,
        })
    }

    /// Waits until the connection is lost.
    pub async fn closed(&self) {
        let mut closed = self.closed.clone();
        // An error means that the reader is gone, which is the same.
        drop(closed.wait_for(|closed| *closed).await);
    }

    /// Makes a call with one answer.
    ///
    /// # Errors
    /// Those of the shim; `Unavailable` if the connection is lost, `Deadline` if the time is over.
    pub async fn call<T: Message + Default>(
        &self,
        method: &'static str,
        request: &impl Message,
        within: Option<Duration>,
    ) -> Result<T> {
        self.call_with(method, request, None, within).await
    }

    /// Makes a call with one answer, and passes a descriptor beside it.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn call_with<T: Message + Default>(
        &self,
        method: &'static str,
        request: &impl Message,
        descriptor: Option<OwnedFd>,
        within: Option<Duration>,
    ) -> Result<T> {
        let work = async {
            let mut messages = self.begin(method, request, descriptor).await?;
            let frame = messages.frames.recv().await.ok_or_else(|| lost(method))?;
            decode(method, &answer(method, &frame.payload)?)
        };
        match within {
            None => work.await,
            Some(limit) => tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
                let text = format!("shim: {method}: no answer within {limit:?}");
                Err(Error::new(Kind::Deadline, text))
            }),
        }
    }

    /// Makes a call with any number of answers.
    ///
    /// # Errors
    /// `Unavailable` if the connection is lost.
    pub async fn stream(&self, method: &'static str, request: &impl Message) -> Result<Messages> {
        self.begin(method, request, None).await
    }

    async fn begin(
        &self,
        method: &'static str,
        request: &impl Message,
        descriptor: Option<OwnedFd>,
    ) -> Result<Messages> {
        let (stream, frames) = self.calls.open().ok_or_else(|| lost(method))?;
        let request = Request {
            service: SERVICE.to_owned(),
            method: method.to_owned(),
            payload: request.encode_to_vec(),
            timeout_nano: 0,
            metadata: Vec::new(),
        };
        let frame = Frame {
            stream,
            kind: FrameKind::Request,
            flags: frame::REMOTE_CLOSED,
            payload: request.encode_to_vec(),
        };
        let mut bytes = Vec::new();
        frame
            .encode(&mut bytes)
            .map_err(|error| Error::new(Kind::Exhausted, format!("shim: {method}: {error}")))?;
        let outgoing = Outgoing { bytes, descriptor };
        self.outgoing
            .send(outgoing)
            .await
            .map_err(|_| lost(method))?;
        Ok(Messages {
            method,
            frames,
            is_over: false,
        })
    }
}

fn lost(method: &str) -> Error {
    Error::new(
        Kind::Unavailable,
        format!("shim: {method}: the connection is lost"),
    )
}

fn decode<T: Message + Default>(method: &str, payload: &[u8]) -> Result<T> {
    T::decode(payload).map_err(|error| Error::new(Kind::Failed, format!("shim: {method}: {error}")))
}

/// The payload of a response, or the error that it is.
fn answer(method: &str, response: &[u8]) -> Result<Vec<u8>> {
    let response: Response = decode(method, response)?;
    match response.status {
        None | Some(Status { code: 0, .. }) => Ok(response.payload),
        Some(Status { code, message }) => Err(Error::new(kind(code), message)),
    }
}

/// The kind of one of the shim's codes.
fn kind(code: i32) -> Kind {
    const TABLE: [(Code, Kind); 9] = [
        (Code::Cancelled, Kind::Cancelled),
        (Code::InvalidArgument, Kind::Invalid),
        (Code::DeadlineExceeded, Kind::Deadline),
        (Code::NotFound, Kind::NotFound),
        (Code::AlreadyExists, Kind::AlreadyExists),
        (Code::ResourceExhausted, Kind::Exhausted),
        (Code::FailedPrecondition, Kind::WrongState),
        (Code::Unimplemented, Kind::Unsupported),
        (Code::Unavailable, Kind::Unavailable),
    ];
    let entry = TABLE.iter().find(|(known, _)| *known as i32 == code);
    entry.map_or(Kind::Failed, |(_, kind)| *kind)
}

async fn receive(mut read: OwnedReadHalf, calls: &Calls) -> Result<()> {
    let mut buffer = Vec::new();
    loop {
        let length = read.read_buf(&mut buffer).await.call(|| "read")?;
        if length == 0 {
            return Ok(());
        }
        while let Some(frame) = wire::Frame::take(&mut buffer)
            .map_err(|error| Error::new(Kind::Failed, error.to_string()))?
        {
            calls.deliver(frame);
        }
    }
}

async fn send(stream: &UnixStream, mut queue: mpsc::Receiver<Outgoing>) -> Result<()> {
    while let Some(outgoing) = queue.recv().await {
        let mut rest = &outgoing.bytes[..];
        let mut descriptor = outgoing.descriptor;
        while !rest.is_empty() {
            let sent = stream
                .async_io(Interest::WRITABLE, || {
                    write(stream, rest, descriptor.as_ref())
                })
                .await
                .call(|| "sendmsg")?;
            // It went with the first byte.
            descriptor = None;
            rest = &rest[sent..];
        }
    }
    Ok(())
}

fn write(
    stream: &UnixStream,
    bytes: &[u8],
    descriptor: Option<&OwnedFd>,
) -> std::io::Result<usize> {
    let descriptors = descriptor.map(AsFd::as_fd);
    let descriptors = descriptors.as_slice();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Ok(sendmsg(
        stream,
        &[IoSlice::new(bytes)],
        &mut control,
        flags,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocirun_shim::wire::{CreateResponse, Empty, ExecOutput, KillRequest, StartRequest};
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::{UnixListener, UnixStream as StdStream};

    fn socket(name: &str) -> (std::path::PathBuf, UnixListener) {
        let path = std::env::temp_dir().join(format!("shim-client-{}-{name}", std::process::id()));
        drop(std::fs::remove_file(&path));
        (path.clone(), UnixListener::bind(path).unwrap())
    }

    fn next(stream: &mut StdStream, buffer: &mut Vec<u8>) -> (u32, Request) {
        loop {
            if let Some(frame) = Frame::take(buffer).unwrap() {
                assert_eq!(frame.kind, FrameKind::Request);
                return (frame.stream, Request::decode(&frame.payload[..]).unwrap());
            }
            let mut bytes = [0; 4096];
            let length = stream.read(&mut bytes).unwrap();
            assert_ne!(length, 0);
            buffer.extend_from_slice(&bytes[..length]);
        }
    }

    fn reply(stream: &mut StdStream, id: u32, kind: FrameKind, payload: Vec<u8>) {
        let mut bytes = Vec::new();
        let frame = Frame {
            stream: id,
            kind,
            flags: 0,
            payload,
        };
        frame.encode(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
    }

    fn good(message: &impl Message) -> Vec<u8> {
        let payload = message.encode_to_vec();
        Response {
            status: None,
            payload,
        }
        .encode_to_vec()
    }

    #[tokio::test]
    async fn answers_find_their_callers_in_any_order() {
        let (path, listener) = socket("order");
        let server = std::thread::spawn(move || {
            let (mut stream, mut buffer) = (listener.accept().unwrap().0, Vec::new());
            let calls = (0..8)
                .map(|_| next(&mut stream, &mut buffer))
                .collect::<Vec<_>>();
            for (id, request) in calls.into_iter().rev() {
                assert_eq!(id % 2, 1);
                let start = StartRequest::decode(&request.payload[..]).unwrap();
                let pid = start.id.parse().unwrap();
                let answer = CreateResponse { pid, created_at: 0 };
                reply(&mut stream, id, FrameKind::Response, good(&answer));
            }
        });
        let shim = Arc::new(Shim::connect(&path).await.unwrap());
        let calls = (0..8).map(|number: i32| {
            let shim = shim.clone();
            tokio::spawn(async move {
                let request = StartRequest {
                    id: number.to_string(),
                };
                let answer: CreateResponse = shim.call("Start", &request, None).await.unwrap();
                assert_eq!(answer.pid, number);
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap();
        }
        server.join().unwrap();
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn errors_streams_and_the_end() {
        let (path, listener) = socket("errors");
        let server = std::thread::spawn(move || {
            let (mut stream, mut buffer) = (listener.accept().unwrap().0, Vec::new());
            let (id, _) = next(&mut stream, &mut buffer);
            let status = Status {
                code: Code::NotFound as i32,
                message: "no c".into(),
            };
            let error = Response {
                status: Some(status),
                payload: Vec::new(),
            };
            reply(&mut stream, id, FrameKind::Response, error.encode_to_vec());
            let (id, _) = next(&mut stream, &mut buffer);
            let part = |text: &str| ExecOutput {
                stdout: text.into(),
                ..ExecOutput::default()
            };
            reply(&mut stream, id, FrameKind::Data, part("a").encode_to_vec());
            reply(&mut stream, id, FrameKind::Data, part("b").encode_to_vec());
            reply(
                &mut stream,
                id,
                FrameKind::Response,
                Response::default().encode_to_vec(),
            );
            next(&mut stream, &mut buffer);
        });
        let shim = Shim::connect(&path).await.unwrap();
        let error = shim
            .call::<Empty>("Kill", &KillRequest::default(), None)
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (Kind::NotFound, "no c".to_owned())
        );
        let mut messages = shim.stream("Exec", &Empty {}).await.unwrap();
        let mut text = Vec::new();
        while let Some(part) = messages.next::<ExecOutput>().await.unwrap() {
            text.extend(part.stdout);
        }
        assert_eq!(text, b"ab");
        let error = shim
            .call::<Empty>("Stop", &Empty {}, None)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        shim.closed().await;
        server.join().unwrap();
        let error = shim
            .call::<Empty>("Stop", &Empty {}, None)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn a_descriptor_comes_with_the_first_byte() {
        let (path, listener) = socket("descriptor");
        let server = std::thread::spawn(move || {
            let stream = listener.accept().unwrap().0;
            let mut byte = [0; 1];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let buffers = &mut [std::io::IoSliceMut::new(&mut byte)];
            recvmsg(&stream, buffers, &mut control, RecvFlags::empty()).unwrap();
            let descriptors = control.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(all) => Some(all.collect::<Vec<_>>()),
                _ => None,
            });
            let descriptors = descriptors.flatten().collect::<Vec<_>>();
            let mut text = String::new();
            std::fs::File::from(descriptors.into_iter().next().unwrap())
                .read_to_string(&mut text)
                .unwrap();
            text
        });
        let shim = Shim::connect(&path).await.unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"root").unwrap();
        drop(writer);
        let request = StartRequest {
            id: "x".repeat(100_000),
        };
        let call = shim.call_with::<Empty>("Create", &request, Some(reader.into()), None);
        // The other side closes after one byte.
        assert_eq!(call.await.unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(server.join().unwrap(), "root");
        std::fs::remove_file(path).unwrap();
    }
}
