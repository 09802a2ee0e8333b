//! One error for the whole crate: a kind to switch on, and one line of text that names step, element and failed call.

use std::fmt;
use std::io;

/// What went wrong, for callers that decide by it. Texts are for people and may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The image, blob, layer or reference does not exist.
    NotFound,
    /// It exists already and was not to be replaced.
    AlreadyExists,
    /// The input (reference, manifest, archive, argument) breaks its format.
    Invalid,
    /// Bytes do not have the digest or size that was promised for them.
    Corrupt,
    /// A budget for input from outside was exceeded.
    Limit,
    /// The registry wants other credentials.
    Unauthorized,
    /// The registry answered with an error of this HTTP status.
    Registry(u16),
    /// The network or the registry does not work now; a later try may succeed.
    Unavailable,
    /// Somebody else uses what was to be changed.
    Busy,
    /// This kernel, file system or program cannot do it.
    Unsupported,
    /// No space, inode or quota is left.
    NoSpace,
    /// It ended because another part of the operation failed, or because the caller gave up.
    Cancelled,
    /// Any other failed system call, with its errno.
    Os(i32),
    /// The database failed.
    Database,
}

struct Repr {
    kind: ErrorKind,
    text: String,
}

/// An error with its kind and a one-line text.
#[expect(
    clippy::error_impl_error,
    reason = "it is the error of the crate, spelled ocirun_image::Error elsewhere"
)]
pub struct Error(Box<Repr>);

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` that reads `text`.
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self(Box::new(Repr {
            kind,
            text: text.into(),
        }))
    }

    /// The kind to decide by.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Puts the step or element in front of the text.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.0.text = format!("{place}: {}", self.0.text);
        self
    }

    /// A failed call on the operating system, written as `call: reason`.
    pub fn os(call: impl fmt::Display, error: &io::Error) -> Self {
        let errno = error.raw_os_error();
        let kind = match errno.map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => ErrorKind::NoSpace,
            Some(rustix::io::Errno::NOENT) => ErrorKind::NotFound,
            Some(rustix::io::Errno::EXIST) => ErrorKind::AlreadyExists,
            Some(rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => ErrorKind::Unsupported,
            Some(errno) => ErrorKind::Os(errno.raw_os_error()),
            None if error.kind() == io::ErrorKind::ConnectionAborted => ErrorKind::Cancelled,
            None => ErrorKind::Invalid,
        };
        Self::new(kind, format!("{call}: {error}"))
    }

    /// Whether another try, perhaps elsewhere, may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::Unavailable | ErrorKind::Registry(429 | 500..=599)
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.text)
    }
}

impl std::error::Error for Error {}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let kind = match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => ErrorKind::NoSpace,
            Some(rusqlite::ErrorCode::DatabaseBusy) => ErrorKind::Busy,
            _ => ErrorKind::Database,
        };
        Self::new(kind, format!("database: {error}"))
    }
}

/// Adds the failed call to a result of the operating system.
pub(crate) trait Context<T> {
    /// Turns the error into ours; `call` is written only when it is needed.
    fn call<D: fmt::Display>(self, call: impl FnOnce() -> D) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn call<D: fmt::Display>(self, call: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| Error::os(call(), &error))
    }
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn call<D: fmt::Display>(self, call: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| Error::os(call(), &error.into()))
    }
}

/// Adds the place to an error of this crate.
pub(crate) trait At<T> {
    /// Puts `place` in front of the error's text.
    fn at<D: fmt::Display>(self, place: impl FnOnce() -> D) -> Result<T>;
}

impl<T> At<T> for Result<T> {
    fn at<D: fmt::Display>(self, place: impl FnOnce() -> D) -> Self {
        self.map_err(|error| error.at(place()))
    }
}

/// Shorthand for the most frequent error: input that breaks its format.
pub(crate) fn invalid(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, text)
}

/// Shorthand for input that exceeds a budget.
pub(crate) fn limit(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Limit, text)
}
