//! The protocol: [ttrpc](https://github.com/containerd/ttrpc/blob/main/PROTOCOL.md) frames ([`frame`]) around protocol
//! buffers ([`messages`]).
//!
//! | method | request | answer |
//! |---|---|---|
//! | `State` | [`StateRequest`] | [`StateResponse`] |
//! | `Create` | [`CreateRequest`], with the root file system's descriptor where it says so | [`CreateResponse`] |
//! | `Start` | [`StartRequest`] | [`Empty`] |
//! | `Kill` | [`KillRequest`] | [`Empty`] |
//! | `Stop` | [`StopRequest`] | [`Exit`] |
//! | `Delete` | [`DeleteRequest`] | [`Exit`] |
//! | `Exec` | [`ExecRequest`] | a stream of [`ExecOutput`], whose last has `exit` |
//! | `ExecStream` | [`ExecStreamRequest`], with a socket | [`ExecOutput`] with nothing but `exit`, at the end |
//! | `Attach` | [`AttachRequest`], with a socket | [`Empty`] |
//! | `CloseStdin` | [`CloseStdinRequest`] | [`Empty`] |
//! | `ResizePty` | [`ResizePtyRequest`] | [`Empty`] |
//! | `ReopenLog` | [`ReopenLogRequest`] | [`Empty`] |
//! | `Update` | [`UpdateRequest`] | [`Empty`] |
//! | `Stats` | [`StatsRequest`] | [`StatsResponse`] |
//! | `Events` | [`Empty`] | a stream of [`Event`], which does not end |
//! | `StopPod` | [`StopPodRequest`] | [`Empty`] |
//! | `Shutdown` | [`Empty`] | [`Empty`]; the program then ends |
//!
//! A unary call is answered by one [`frame::Kind::Response`]. A stream is [`frame::Kind::Data`] frames, each with one
//! bare message, and ends with a response: its status, and its payload, if any, a last message. Calls of one connection
//! are answered as they get ready, in any order; their stream ids tell which is which. A client uses odd ids, each for
//! one call.
//!
//! The socket of `ExecStream` and `Attach` is one end of a pair of `SOCK_SEQPACKET`. It gets one message with the
//! descriptors of the streams: a byte with the bits of [`Stream`], and the descriptors in their order. Closed by the
//! caller it ends what was begun; closed by the other side it says that this has ended.
//!
//! An error is a [`Status`] with a gRPC code ([`Code`]) and one line of text. Times are nanoseconds since 1970.

pub mod frame;
pub mod messages;

pub use frame::{Frame, FrameError, Header, Kind};
pub use messages::*;

/// Name of the service.
pub const SERVICE: &str = "ocirun.Pod";

/// Error codes of gRPC, as far as they are used.
///
/// <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    /// No error.
    Ok = 0,
    /// The caller gave up, or what it waited for was taken away.
    Cancelled = 1,
    /// An error that no other code says.
    Unknown = 2,
    /// The request cannot be.
    InvalidArgument = 3,
    /// The time was over first.
    DeadlineExceeded = 4,
    /// No such container.
    NotFound = 5,
    /// There is one of that name.
    AlreadyExists = 6,
    /// Something is used up.
    ResourceExhausted = 8,
    /// Not in a state that allows it.
    FailedPrecondition = 9,
    /// No such method, or not on this host.
    Unimplemented = 12,
    /// A failed system call.
    Internal = 13,
    /// The program is ending.
    Unavailable = 14,
}
