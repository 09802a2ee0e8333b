//! Messages, as protocol buffers. Numbers of fields never change their meaning; new fields get new numbers.

use prost::{Enumeration, Message, Oneof};

/// A call, in a frame of [`super::Kind::Request`].
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// [`super::SERVICE`].
    #[prost(string, tag = "1")]
    pub service: String,
    /// Name of the method.
    #[prost(string, tag = "2")]
    pub method: String,
    /// The encoded request.
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
    /// After how many nanoseconds the caller gives up; 0 for never. What was begun goes on: a caller that asks again
    /// finds it done.
    #[prost(int64, tag = "4")]
    pub timeout_nano: i64,
    /// Free data of the caller.
    #[prost(message, repeated, tag = "5")]
    pub metadata: Vec<KeyValue>,
}

/// A word of metadata.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// The end of a call, in a frame of [`super::Kind::Response`].
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    /// None, or with code 0, where the call went well.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// The encoded answer.
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

/// An error.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// A [`super::Code`].
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// One line that names what failed.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// Nothing to say.
#[derive(Clone, PartialEq, Message)]
pub struct Empty {}

/// Asks for everything the shim knows.
#[derive(Clone, PartialEq, Message)]
pub struct StateRequest {}

/// Everything the shim knows.
#[derive(Clone, PartialEq, Message)]
pub struct StateResponse {
    /// The pod.
    #[prost(message, optional, tag = "1")]
    pub pod: Option<PodState>,
    /// Its containers, in the order of their ids.
    #[prost(message, repeated, tag = "2")]
    pub containers: Vec<ContainerState>,
}

/// A pod.
#[derive(Clone, PartialEq, Message)]
pub struct PodState {
    /// Its name: that of its directory.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The shim itself.
    #[prost(int32, tag = "2")]
    pub shim_pid: i32,
    /// PID 1 of a shared PID namespace; 0 where there is none.
    #[prost(int32, tag = "3")]
    pub init_pid: i32,
    /// Whether [`StopPodRequest`] was called.
    #[prost(bool, tag = "4")]
    pub stopped: bool,
    /// Where its namespaces are pinned; empty for those that are the host's.
    #[prost(message, optional, tag = "5")]
    pub namespaces: Option<Namespaces>,
    /// When the namespaces were made.
    #[prost(int64, tag = "6")]
    pub created_at: i64,
    /// Version of the program.
    #[prost(string, tag = "7")]
    pub version: String,
}

/// Paths that namespaces are pinned at, for `linux.namespaces[].path` of the containers.
#[derive(Clone, PartialEq, Message)]
pub struct Namespaces {
    /// Network.
    #[prost(string, tag = "1")]
    pub network: String,
    /// IPC.
    #[prost(string, tag = "2")]
    pub ipc: String,
    /// UTS.
    #[prost(string, tag = "3")]
    pub uts: String,
    /// User.
    #[prost(string, tag = "4")]
    pub user: String,
    /// PID, where it is shared.
    #[prost(string, tag = "5")]
    pub pid: String,
    /// Directory that is the pod's `/dev/shm`; empty where the IPC namespace is the host's.
    #[prost(string, tag = "6")]
    pub shm: String,
}

/// Where the life of a container has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum ContainerStatus {
    /// Not known.
    Unspecified = 0,
    /// Its program waits for `Start`.
    Created = 1,
    /// Its program runs.
    Running = 2,
    /// Its program has ended.
    Exited = 3,
    /// It is frozen.
    Paused = 4,
}

/// A container.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerState {
    /// Its name.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Where its life has come to.
    #[prost(enumeration = "ContainerStatus", tag = "2")]
    pub status: i32,
    /// Its first process as the host sees it; 0 once that has ended.
    #[prost(int32, tag = "3")]
    pub pid: i32,
    /// When it was created.
    #[prost(int64, tag = "4")]
    pub created_at: i64,
    /// When its program was let run; 0 for not yet.
    #[prost(int64, tag = "5")]
    pub started_at: i64,
    /// How its program ended.
    #[prost(message, optional, tag = "6")]
    pub exit: Option<Exit>,
}

/// How a program ended.
#[derive(Clone, PartialEq, Message)]
pub struct Exit {
    /// What it gave to exit(2); 128 and the signal's number where a signal ended it; 255 where nobody can tell any
    /// more.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// The signal that ended it; 0 for none.
    #[prost(int32, tag = "2")]
    pub signal: i32,
    /// Whether the kernel killed a process of the container for lack of memory.
    #[prost(bool, tag = "3")]
    pub oom: bool,
    /// When it was seen to have ended.
    #[prost(int64, tag = "4")]
    pub exited_at: i64,
    /// Whether the code is not known: nobody was there to see it.
    #[prost(bool, tag = "5")]
    pub unknown: bool,
    /// The process that ended.
    #[prost(int32, tag = "6")]
    pub pid: i32,
}

/// Creates a container.
#[derive(Clone, PartialEq, Message)]
pub struct CreateRequest {
    /// Its name.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Directory with its `config.json`.
    #[prost(string, tag = "2")]
    pub bundle: String,
    /// Its root file system, where that is not at `root.path` of the configuration.
    #[prost(oneof = "Rootfs", tags = "3, 4")]
    pub rootfs: Option<Rootfs>,
    /// The log in CRI's form, absolute; empty for none: output is then read and dropped.
    #[prost(string, tag = "5")]
    pub log_path: String,
    /// Whether its standard input is kept open for who attaches; otherwise it is empty.
    #[prost(bool, tag = "6")]
    pub stdin: bool,
    /// Whether the input ends with the first who attached.
    #[prost(bool, tag = "7")]
    pub stdin_once: bool,
    /// Bytes of output after which a line of the log is broken; 0 for 16 KiB.
    #[prost(uint32, tag = "8")]
    pub log_line_limit: u32,
}

/// A root file system that is not at `root.path`.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum Rootfs {
    /// It is at this path.
    #[prost(string, tag = "3")]
    Path(String),
    /// It is a detached mount (open_tree(2), fsmount(2)) whose descriptor comes by `SCM_RIGHTS` with the first byte of
    /// the request's frame.
    #[prost(bool, tag = "4")]
    Descriptor(bool),
}

/// A container that was created.
#[derive(Clone, PartialEq, Message)]
pub struct CreateResponse {
    /// Its first process as the host sees it.
    #[prost(int32, tag = "1")]
    pub pid: i32,
    /// When it was created.
    #[prost(int64, tag = "2")]
    pub created_at: i64,
}

/// Lets the program of a created container run.
#[derive(Clone, PartialEq, Message)]
pub struct StartRequest {
    /// Which.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// Sends a signal.
#[derive(Clone, PartialEq, Message)]
pub struct KillRequest {
    /// To which container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its number.
    #[prost(int32, tag = "2")]
    pub signal: i32,
    /// Whether every process of the container gets it, not only the first.
    #[prost(bool, tag = "3")]
    pub all: bool,
}

/// Ends a container: `signal`, and SIGKILL for every process that is there when the time is over. One that has ended
/// is an answer, not an error.
#[derive(Clone, PartialEq, Message)]
pub struct StopRequest {
    /// Which.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Sent first; 0 for SIGTERM.
    #[prost(int32, tag = "2")]
    pub signal: i32,
    /// Milliseconds until SIGKILL; 0 for at once.
    #[prost(uint64, tag = "3")]
    pub deadline_ms: u64,
}

/// Removes a container that does not run. One that is not there is an error of [`super::Code::NotFound`].
#[derive(Clone, PartialEq, Message)]
pub struct DeleteRequest {
    /// Which.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Whether one that runs is killed before.
    #[prost(bool, tag = "2")]
    pub force: bool,
}

/// Runs a process in a container and captures what it prints.
///
/// It ends with that process: what its children print later than a short time after is not waited for. If the time is
/// over first, everything that it started is killed, and the error is [`super::Code::DeadlineExceeded`].
#[derive(Clone, PartialEq, Message)]
pub struct ExecRequest {
    /// In which container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// `process` of config.json, as JSON.
    #[prost(bytes = "vec", tag = "2")]
    pub process: Vec<u8>,
    /// Milliseconds after which it is killed; 0 for never.
    #[prost(uint64, tag = "3")]
    pub timeout_ms: u64,
    /// Bytes of each stream that are kept, what is beyond is read and dropped; 0 for 16 MiB.
    #[prost(uint64, tag = "4")]
    pub output_limit: u64,
}

/// A part of what a process printed; the last part tells how it ended.
#[derive(Clone, PartialEq, Message)]
pub struct ExecOutput {
    /// More of its standard output.
    #[prost(bytes = "vec", tag = "1")]
    pub stdout: Vec<u8>,
    /// More of its standard error.
    #[prost(bytes = "vec", tag = "2")]
    pub stderr: Vec<u8>,
    /// How it ended.
    #[prost(message, optional, tag = "3")]
    pub exit: Option<Exit>,
    /// Whether there was more than the limit. In the last part.
    #[prost(bool, tag = "4")]
    pub truncated: bool,
}

/// Runs a process in a container whose streams the caller gets. What was not asked for is empty, or dropped.
///
/// Everything that it has started is killed if the caller closes its socket before the end.
#[derive(Clone, PartialEq, Message)]
pub struct ExecStreamRequest {
    /// In which container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// `process` of config.json, as JSON. With a terminal, that is its only stream.
    #[prost(bytes = "vec", tag = "2")]
    pub process: Vec<u8>,
    /// Whether the caller writes its standard input.
    #[prost(bool, tag = "3")]
    pub stdin: bool,
    /// Whether the caller reads its standard output.
    #[prost(bool, tag = "4")]
    pub stdout: bool,
    /// Whether the caller reads its standard error.
    #[prost(bool, tag = "5")]
    pub stderr: bool,
}

/// Gives the caller a container's streams, beside its log and others that have them: what it prints from now on, its
/// input, and its terminal for the size. A caller that does not read is cut off.
#[derive(Clone, PartialEq, Message)]
pub struct AttachRequest {
    /// Which.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Whether the caller writes the standard input, or what is typed at the terminal.
    #[prost(bool, tag = "2")]
    pub stdin: bool,
    /// Whether the caller reads the standard output, or what the terminal shows.
    #[prost(bool, tag = "3")]
    pub stdout: bool,
    /// Whether the caller reads the standard error.
    #[prost(bool, tag = "4")]
    pub stderr: bool,
}

/// Ends a container's standard input, once all who attached to it have closed it.
#[derive(Clone, PartialEq, Message)]
pub struct CloseStdinRequest {
    /// Which container's.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// A descriptor that comes by the socket of [`ExecStreamRequest`] or [`AttachRequest`]: its bit in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stream {
    /// Where the input is written to.
    Stdin = 1,
    /// Where the output is read.
    Stdout = 2,
    /// Where errors are read.
    Stderr = 4,
    /// Master of the terminal.
    Terminal = 8,
}

/// Gives a container's terminal a size.
#[derive(Clone, PartialEq, Message)]
pub struct ResizePtyRequest {
    /// Which container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Columns.
    #[prost(uint32, tag = "2")]
    pub width: u32,
    /// Lines.
    #[prost(uint32, tag = "3")]
    pub height: u32,
}

/// Goes on with a new log where the old one was renamed. Answered when the new file is there.
#[derive(Clone, PartialEq, Message)]
pub struct ReopenLogRequest {
    /// Of which container.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// Changes limits of a container that has processes.
#[derive(Clone, PartialEq, Message)]
pub struct UpdateRequest {
    /// Which.
    #[prost(string, tag = "1")]
    pub id: String,
    /// `linux.resources` of config.json, as JSON: what it does not name stays.
    #[prost(bytes = "vec", tag = "2")]
    pub resources: Vec<u8>,
}

/// Asks what containers use.
#[derive(Clone, PartialEq, Message)]
pub struct StatsRequest {
    /// Which; none for all. Those that are not there or have ended are left out of the answer.
    #[prost(string, repeated, tag = "1")]
    pub ids: Vec<String>,
}

/// What containers use.
#[derive(Clone, PartialEq, Message)]
pub struct StatsResponse {
    /// One each.
    #[prost(message, repeated, tag = "1")]
    pub containers: Vec<ContainerStats>,
}

/// What a container uses.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerStats {
    /// Which.
    #[prost(string, tag = "1")]
    pub id: String,
    /// When it was looked at.
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
    /// The numbers as JSON, in the form of `ocirun events --stats`.
    #[prost(bytes = "vec", tag = "3")]
    pub stats: Vec<u8>,
}

/// What happened to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum EventKind {
    /// Not known.
    Unspecified = 0,
    /// It was created.
    Created = 1,
    /// Its program was let run.
    Started = 2,
    /// Its program ended.
    Exited = 3,
    /// It was removed.
    Deleted = 4,
}

/// An event. The first of a stream come after those that `State`, asked on the same connection after `Events`, tells.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// What happened.
    #[prost(enumeration = "EventKind", tag = "1")]
    pub kind: i32,
    /// To which container.
    #[prost(string, tag = "2")]
    pub id: String,
    /// When.
    #[prost(int64, tag = "3")]
    pub timestamp: i64,
    /// Its state after that.
    #[prost(message, optional, tag = "4")]
    pub container: Option<ContainerState>,
    /// One more than that of the event before, from 1: a gap is an event that was missed.
    #[prost(uint64, tag = "5")]
    pub sequence: u64,
}

/// Ends all containers of a pod and its shared PID namespace at once. Nothing can be created or started after it.
#[derive(Clone, PartialEq, Message)]
pub struct StopPodRequest {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte for byte: tag = field number << 3 | wire type.
    #[test]
    fn encoded_as_protocol_buffers_are() {
        let request = Request {
            service: "s".to_owned(),
            method: "m".to_owned(),
            payload: vec![7],
            timeout_nano: 1,
            metadata: Vec::new(),
        };
        let bytes = [10, 1, b's', 18, 1, b'm', 26, 1, 7, 32, 1];
        assert_eq!(request.encode_to_vec(), bytes);
        let response = Response {
            status: Some(Status {
                code: 5,
                message: "x".to_owned(),
            }),
            payload: Vec::new(),
        };
        assert_eq!(response.encode_to_vec(), [10, 5, 8, 5, 18, 1, b'x']);
    }

    #[test]
    fn either_kind_of_root() {
        for (rootfs, bytes) in [
            (Rootfs::Path("/r".to_owned()), vec![26, 2, b'/', b'r']),
            (Rootfs::Descriptor(true), vec![32, 1]),
        ] {
            let request = CreateRequest {
                rootfs: Some(rootfs),
                ..CreateRequest::default()
            };
            assert_eq!(request.encode_to_vec(), bytes);
            assert_eq!(CreateRequest::decode(bytes.as_slice()), Ok(request));
        }
    }

    #[test]
    fn fields_of_the_future_are_skipped() {
        let bytes = [10, 1, b'c', 0xf8, 0x3f, 1];
        let request = StartRequest::decode(bytes.as_slice()).unwrap();
        assert_eq!(request.id, "c");
    }
}
