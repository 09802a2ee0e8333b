//! Errors: one line each, from the element of the container to the failed call and its errno.

use std::fmt;

use nix::errno::Errno;

use crate::state::Status;

/// What a function of this crate that can fail gives.
pub type Result<T> = std::result::Result<T, Error>;

/// An error: a kind to decide by and a line to show.
///
/// The line names the element, the failed call with its arguments, and the errno last, for example
/// `mounts[3] "/data": move_mount(…): operation not permitted (EPERM)`. Decide by [`Error::kind`], never by the text.
pub struct Error(Box<Repr>);

struct Repr {
    kind: ErrorKind,
    text: String,
}

/// What went wrong, for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No container of that name.
    NotFound,
    /// A container of that name, or a cgroup in use, is there already.
    AlreadyExists,
    /// The container is not in a state that allows it.
    WrongState(Status),
    /// An argument of the caller (an id, a signal, a path) cannot be.
    InvalidArgument,
    /// `config.json` says what cannot be.
    InvalidSpec {
        /// JSON pointer (RFC 6901) of the element.
        pointer: String,
    },
    /// This host or this version cannot do what is asked.
    Unsupported,
    /// The program to run is missing or may not be executed.
    Executable(Errno),
    /// A hook ended with an error or took too long.
    Hook,
    /// A system call's own error.
    Os(Errno),
}

impl ErrorKind {
    /// One word for programs that read logs. It does not change between versions.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::WrongState(_) => "wrong_state",
            Self::InvalidArgument => "invalid_argument",
            Self::InvalidSpec { .. } => "invalid_spec",
            Self::Unsupported => "unsupported",
            Self::Executable(_) => "executable",
            Self::Hook => "hook",
            Self::Os(_) => "os",
        }
    }
}

impl Error {
    /// An error of `kind` that says `text`.
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self(Box::new(Repr {
            kind,
            text: text.into(),
        }))
    }

    /// The system call `call`, as strace would print it, ended with `errno`.
    pub(crate) fn os(call: impl fmt::Display, errno: Errno) -> Self {
        Self::new(ErrorKind::Os(errno), format!("{call}: {}", describe(errno)))
    }

    /// An argument of the caller cannot be.
    pub(crate) fn argument(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, on_one_line(&text.into()))
    }

    /// The element at `pointer` cannot be what it is.
    pub(crate) fn invalid_spec(pointer: &str, text: &str) -> Self {
        let shown = if pointer.is_empty() { "/" } else { pointer };
        Self::new(
            ErrorKind::InvalidSpec {
                pointer: pointer.to_owned(),
            },
            on_one_line(&format!("{shown}: {text}")),
        )
    }

    /// This host or this version cannot do what is asked.
    pub(crate) fn unsupported(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, on_one_line(&text.into()))
    }

    /// The same error with `what` it happened to before it.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.0.text = format!("{what}: {}", self.0.text);
        self
    }

    /// The same error, followed by what else is to be said.
    #[must_use]
    pub(crate) fn also(mut self, what: &str) -> Self {
        self.0.text = format!("{}; {what}", self.0.text);
        self
    }

    /// What went wrong, for programs.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The JSON pointer of the element of `config.json` that cannot be, if that is the error.
    #[must_use]
    pub fn pointer(&self) -> Option<&str> {
        match self.kind() {
            ErrorKind::InvalidSpec { pointer } => Some(pointer),
            _ => None,
        }
    }

    /// The errno of the failed system call, if that is the error.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self.kind() {
            ErrorKind::Os(errno) | ErrorKind::Executable(errno) => Some(*errno),
            _ => None,
        }
    }
}

/// What happened, in the words of strerror(3) with a small letter, as callers search for them, and the errno's name.
#[must_use]
pub fn describe(errno: Errno) -> String {
    format!("{} ({errno:?})", errno.desc().to_lowercase())
}

/// What a configuration brings into a text may end lines and move cursors, unless it is written as code is.
pub(crate) fn on_one_line(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut line, c| {
            if c.is_control() {
                line.extend(c.escape_default());
            } else {
                line.push(c);
            }
            line
        })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.0.text, self.0.kind)
    }
}

impl std::error::Error for Error {}

/// Names the call that failed.
pub(crate) trait Call<T> {
    /// Turns an errno into an [`Error`] that says `call`, which is built only then.
    fn call<D: fmt::Display>(self, call: impl FnOnce() -> D) -> Result<T>;
}

impl<T> Call<T> for nix::Result<T> {
    fn call<D: fmt::Display>(self, call: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|errno| Error::os(call(), errno))
    }
}

impl<T> Call<T> for std::io::Result<T> {
    fn call<D: fmt::Display>(self, call: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| match error.raw_os_error() {
            Some(errno) => Error::os(call(), Errno::from_raw(errno)),
            None => Error::new(ErrorKind::Os(Errno::EIO), format!("{}: {error}", call())),
        })
    }
}

/// Names the element an error happened to.
pub(crate) trait Context<T> {
    /// Puts `what`, built only on an error, before the error's text.
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Self {
        self.map_err(|error| error.context(what()))
    }
}
