//! What a call is refused with.

use std::fmt;

use nix::errno::Errno;
use ocirun_shim::wire::{Code, Status};
use runtime_core::{Error, ErrorKind, describe};

/// What a function of this program that can fail gives.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// An error: a code to decide by and a line to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }

    /// The system call `call`, as strace would print it, ended with `errno`.
    pub(crate) fn os(call: impl fmt::Display, errno: Errno) -> Self {
        Self::new(Code::Internal, format!("{call}: {}", describe(errno)))
    }

    /// The field `field` of a request cannot be what it is.
    pub(crate) fn argument(field: &str, text: impl fmt::Display) -> Self {
        Self::new(Code::InvalidArgument, format!("{field}: {text}"))
    }

    /// The same error with `what` it happened to before it.
    pub(crate) fn context(mut self, what: impl fmt::Display) -> Self {
        self.text = format!("{what}: {}", self.text);
        self
    }

    pub(crate) fn status(&self) -> Status {
        Status {
            code: self.code as i32,
            message: self.text.clone(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            ErrorKind::NotFound => Code::NotFound,
            ErrorKind::AlreadyExists => Code::AlreadyExists,
            ErrorKind::WrongState(_) => Code::FailedPrecondition,
            ErrorKind::InvalidArgument | ErrorKind::InvalidSpec { .. } => Code::InvalidArgument,
            ErrorKind::Unsupported => Code::Unimplemented,
            ErrorKind::Os(Errno::ENOSPC | Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM) => {
                Code::ResourceExhausted
            }
            ErrorKind::Os(_) => Code::Internal,
            // A missing program, and a hook that failed.
            _ => Code::Unknown,
        };
        Self::new(code, error.to_string())
    }
}

/// Names the call that failed.
pub(crate) trait Call<T> {
    /// Turns an errno into a [`Failure`] that says `call`, which is built only then.
    fn call<D: fmt::Display>(self, call: impl FnOnce() -> D) -> Result<T>;
}

impl<T> Call<T> for nix::Result<T> {
    fn call<D: fmt::Display>(self, call: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|errno| Failure::os(call(), errno))
    }
}

impl<T> Call<T> for std::io::Result<T> {
    fn call<D: fmt::Display>(self, call: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| {
            let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            Failure::os(call(), errno)
        })
    }
}
