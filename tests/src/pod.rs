//! A pod of the shim under test: its directory, its shim, and a small client.

use std::collections::VecDeque;
use std::fs;
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::Pid;
use ocirun_shim::files::PodDirectory;
use ocirun_shim::wire::{
    ContainerState, CreateRequest, CreateResponse, DeleteRequest, Empty, Event, ExecOutput,
    ExecRequest, Exit, Frame, Kind, Request, Response, SERVICE, StartRequest, StateRequest,
    StateResponse, Status, StopRequest,
};
use prost::Message;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bundle::{Bundle, temporary_directory};
use crate::{TIME_LIMIT, build, eventually};

/// The shim that `SHIM=` names, or the one built from this workspace (once per process).
///
/// # Panics
/// When it is not there and cannot be built.
pub fn shim_program() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| match std::env::var_os("SHIM") {
        Some(path) if !path.is_empty() => fs::canonicalize(path).expect("SHIM="),
        _ => build("ocirun-shim", "ocirun-shim"),
    })
}

/// A pod with a shim. On drop it is shut down, whatever state it is in.
#[derive(Debug)]
pub struct Pod {
    temporary: TempDir,
    /// Where its files are.
    pub directory: PodDirectory,
}

impl Pod {
    /// A pod with the host's namespaces.
    #[must_use]
    pub fn new() -> Self {
        Self::with(&json!({}))
    }

    /// A pod as `pod.json` says.
    #[must_use]
    pub fn with(file: &Value) -> Self {
        let pod = Self::not_started(file);
        let output = pod.start_shim();
        assert!(
            output.status.success(),
            "ocirun-shim: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        pod
    }

    /// A pod whose shim is yet to be started.
    #[must_use]
    pub fn not_started(file: &Value) -> Self {
        let temporary = temporary_directory();
        let path = temporary.path().join("pod");
        fs::create_dir(&path).expect("mkdir");
        let directory = PodDirectory::new(path);
        fs::write(directory.pod_file(), file.to_string()).expect("write pod.json");
        Self {
            temporary,
            directory,
        }
    }

    /// Starts a shim, and gives what it said when it serves.
    #[must_use]
    pub fn start_shim(&self) -> Output {
        Command::new(shim_program())
            .arg(self.directory.path())
            .output()
            .expect("start ocirun-shim")
    }

    /// The pid of the shim.
    #[must_use]
    pub fn shim_pid(&self) -> Pid {
        let text = fs::read_to_string(self.directory.pid_file()).expect("read shim.pid");
        Pid::from_raw(text.parse().expect("a pid"))
    }

    /// Kills the shim, and waits until it is gone.
    pub fn kill_shim(&self) {
        let pid = self.shim_pid();
        kill(pid, Signal::SIGKILL).expect("kill the shim");
        eventually("the shim has ended", || !is_alive(pid));
    }

    /// Kills the shim and starts another.
    pub fn replace_shim(&self) {
        self.kill_shim();
        let output = self.start_shim();
        assert!(
            output.status.success(),
            "ocirun-shim: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// A connection to the shim.
    #[must_use]
    pub fn client(&self) -> Client {
        let socket = UnixStream::connect(self.directory.socket()).expect("connect to the shim");
        socket
            .set_read_timeout(Some(TIME_LIMIT))
            .expect("set a time limit");
        Client {
            socket,
            incoming: Vec::new(),
            frames: VecDeque::new(),
            last: 0,
        }
    }

    /// Where a test keeps its logs.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.temporary.path()
    }

    /// The log of a container.
    #[must_use]
    pub fn log_path(&self, id: &str) -> PathBuf {
        self.scratch().join(format!("{id}.log"))
    }

    /// The text of a container's log.
    #[must_use]
    pub fn log(&self, id: &str) -> String {
        fs::read_to_string(self.log_path(id)).unwrap_or_default()
    }

    /// What a container of `bundle` is asked for with, with a log.
    #[must_use]
    pub fn request(&self, id: &str, bundle: &Bundle) -> CreateRequest {
        bundle.write();
        CreateRequest {
            id: id.to_owned(),
            bundle: bundle.path().to_string_lossy().into_owned(),
            log_path: self.log_path(id).to_string_lossy().into_owned(),
            ..CreateRequest::default()
        }
    }

    /// What the shim has written to its log.
    #[must_use]
    pub fn shim_log(&self) -> String {
        fs::read_to_string(self.directory.log()).unwrap_or_default()
    }
}

impl Default for Pod {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("shim.log:\n{}", self.shim_log());
        }
        if !self.directory.socket().exists() {
            return;
        }
        // One that is not there is started, and takes over what there is.
        let shut = || {
            let mut client = self.client();
            client.call("Shutdown", &Empty {})
        };
        if UnixStream::connect(self.directory.socket()).is_err() {
            drop(self.start_shim());
        }
        if UnixStream::connect(self.directory.socket()).is_ok() {
            let answer = shut();
            if !std::thread::panicking() {
                answer.expect("Shutdown");
            }
        }
    }
}

/// Whether a process is there and no zombie.
#[must_use]
pub fn is_alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest.starts_with('Z'));
    state == Some(false)
}

/// A connection to a shim.
#[derive(Debug)]
pub struct Client {
    socket: UnixStream,
    incoming: Vec<u8>,
    frames: VecDeque<Frame>,
    last: u32,
}

impl Client {
    /// Calls `method` and gives its answer.
    ///
    /// # Errors
    /// What the shim refuses it with.
    pub fn call(&mut self, method: &str, request: &impl Message) -> Result<Vec<u8>, Status> {
        let stream = self.send(method, request);
        self.answer(stream)
    }

    /// Begins a call, and gives its number.
    pub fn send(&mut self, method: &str, request: &impl Message) -> u32 {
        self.send_with(method, request, &[])
    }

    /// Begins a call with descriptors.
    pub fn send_with(
        &mut self,
        method: &str,
        request: &impl Message,
        fds: &[BorrowedFd<'_>],
    ) -> u32 {
        let request = Request {
            service: SERVICE.to_owned(),
            method: method.to_owned(),
            payload: request.encode_to_vec(),
            ..Request::default()
        };
        self.send_request(&request, fds)
    }

    /// Begins a call as it is given.
    pub fn send_request(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> u32 {
        // 1, 3, 5, …: a client's are odd.
        let stream = 2 * self.last + 1;
        self.last += 1;
        let frame = Frame {
            stream,
            kind: Kind::Request,
            flags: 0,
            payload: request.encode_to_vec(),
        };
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).expect("a frame");
        let raw: Vec<i32> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights };
        let socket = self.socket.as_fd().as_raw_fd();
        let parts = [IoSlice::new(&bytes)];
        let sent = sendmsg::<()>(socket, &parts, control, MsgFlags::empty(), None);
        let sent = sent.expect("send a request");
        self.socket
            .write_all(&bytes[sent..])
            .expect("send a request");
        stream
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Waits for the end of a call.
    ///
    /// # Errors
    /// What the shim refuses it with.
    pub fn answer(&mut self, stream: u32) -> Result<Vec<u8>, Status> {
        let frame = self.frame(|frame| frame.stream == stream && frame.kind == Kind::Response);
        let response = Response::decode(frame.payload.as_slice()).expect("a response");
        match response.status {
            Some(status) if status.code != 0 => Err(status),
            _ => Ok(response.payload),
        }
    }

    /// Waits for the next frame that `is_wanted`; others wait for their turn.
    pub fn frame(&mut self, is_wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let place = self.frames.iter().position(&is_wanted);
            if let Some(frame) = place.and_then(|place| self.frames.remove(place)) {
                return frame;
            }
            assert!(self.receive(), "the shim has closed the connection");
        }
    }

    /// Reads what comes next. False at the end.
    pub fn receive(&mut self) -> bool {
        let mut buffer = vec![0; 1 << 16];
        let length = match self.socket.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
            length => length.expect("read from the shim"),
        };
        self.incoming.extend_from_slice(&buffer[..length]);
        while let Some(frame) = Frame::take(&mut self.incoming).expect("a frame") {
            self.frames.push_back(frame);
        }
        length > 0
    }

    /// Creates a container.
    ///
    /// # Errors
    /// What the shim refuses it with.
    pub fn create(&mut self, request: &CreateRequest) -> Result<CreateResponse, Status> {
        self.call("Create", request).map(|answer| decode(&answer))
    }

    /// Starts a container.
    ///
    /// # Errors
    /// What the shim refuses it with.
    pub fn start(&mut self, id: &str) -> Result<(), Status> {
        let id = id.to_owned();
        self.call("Start", &StartRequest { id }).map(drop)
    }

    /// Creates a container and starts it.
    #[track_caller]
    pub fn run(&mut self, request: &CreateRequest) -> CreateResponse {
        let created = self.create(request);
        let created = created.unwrap_or_else(|status| panic!("Create: {}", status.message));
        if let Err(status) = self.start(&request.id) {
            panic!("Start: {}", status.message);
        }
        created
    }

    /// Stops a container by `signal`, and by SIGKILL after so many milliseconds.
    ///
    /// # Errors
    /// What the shim refuses it with.
    pub fn stop(&mut self, id: &str, signal: i32, deadline_ms: u64) -> Result<Exit, Status> {
        let request = StopRequest {
            id: id.to_owned(),
            signal,
            deadline_ms,
        };
        self.call("Stop", &request).map(|answer| decode(&answer))
    }

    /// Removes a container.
    ///
    /// # Errors
    /// What the shim refuses it with.
    pub fn delete(&mut self, id: &str) -> Result<Exit, Status> {
        let request = DeleteRequest {
            id: id.to_owned(),
            force: false,
        };
        self.call("Delete", &request).map(|answer| decode(&answer))
    }

    /// Everything the shim knows.
    pub fn state(&mut self) -> StateResponse {
        let answer = self.call("State", &StateRequest {});
        decode(&answer.expect("State"))
    }

    /// What the shim knows of a container.
    #[must_use]
    pub fn container(&mut self, id: &str) -> Option<ContainerState> {
        let containers = self.state().containers;
        containers.into_iter().find(|container| container.id == id)
    }

    /// Waits until a container has ended.
    #[track_caller]
    pub fn wait(&mut self, id: &str) -> Exit {
        let mut exit = None;
        eventually(&format!("{id} has ended"), || {
            exit = self.container(id).and_then(|container| container.exit);
            exit.is_some()
        });
        exit.expect("an exit")
    }

    /// Runs a process in a container, and gives all that it printed.
    ///
    /// # Errors
    /// What the shim refuses it with.
    pub fn exec(&mut self, request: &ExecRequest) -> Result<ExecOutput, Status> {
        let stream = self.send("Exec", request);
        let mut all = ExecOutput::default();
        loop {
            let frame = self.frame(|frame| frame.stream == stream);
            let payload = if frame.kind == Kind::Data {
                frame.payload
            } else {
                let response = Response::decode(frame.payload.as_slice()).expect("a response");
                if let Some(status) = response.status.filter(|status| status.code != 0) {
                    return Err(status);
                }
                response.payload
            };
            let part: ExecOutput = decode(&payload);
            all.stdout.extend(part.stdout);
            all.stderr.extend(part.stderr);
            all.truncated |= part.truncated;
            if part.exit.is_some() {
                all.exit = part.exit;
                return Ok(all);
            }
        }
    }

    /// The next event of the stream `stream`.
    #[must_use]
    pub fn event(&mut self, stream: u32) -> Event {
        decode(&self.frame(|frame| frame.stream == stream).payload)
    }
}

/// A message of the shim's.
///
/// # Panics
/// When it is none.
pub fn decode<M: Message + Default>(bytes: &[u8]) -> M {
    M::decode(bytes).expect("a message")
}

/// `process` of an exec: the probe with these steps.
#[must_use]
pub fn exec_request(id: &str, args: &[&str]) -> ExecRequest {
    let process =
        json!({"args": args, "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"]});
    ExecRequest {
        id: id.to_owned(),
        process: process.to_string().into_bytes(),
        ..ExecRequest::default()
    }
}
