//! One error for the whole server, and the one place where it becomes a gRPC status.
//!
//! kubelet decides by the code, and by a few words at the beginning of a text whose code is `Unknown`: those are
//! [`Reason`]s.

use image_store::ErrorKind as Image;
use std::fmt;
use tonic::{Code, Status};

/// Words that kubelet turns into the reason a pod shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A registry cannot be reached or does not answer.
    RegistryUnavailable,
    /// Mounts cannot be made read-only recursively here.
    RroUnsupported,
    /// An image volume could not be mounted.
    ImageVolumeMountFailed,
}

impl Reason {
    fn word(self) -> &'static str {
        match self {
            Self::RegistryUnavailable => "RegistryUnavailable",
            Self::RroUnsupported => "RROUnsupported",
            Self::ImageVolumeMountFailed => "ImageVolumeMountFailed",
        }
    }
}

/// What went wrong, for callers that decide by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A field of the request is not what it may be; the text begins with its name.
    Invalid,
    /// There is no such pod, container or image.
    NotFound,
    /// The name is taken by something else.
    AlreadyExists,
    /// The pod or container is in a state in which this cannot be done.
    WrongState,
    /// This server, kernel or machine cannot do it.
    Unsupported,
    /// Somebody who is needed does not answer; a later try may succeed.
    Unavailable,
    /// It took longer than it may.
    Deadline,
    /// Space, descriptors or a budget is used up.
    Exhausted,
    /// The registry wants other credentials.
    Denied,
    /// Whoever asked gave up.
    Cancelled,
    /// What kubelet has a word for.
    Reason(Reason),
    /// Any other failure.
    Failed,
}

/// An error with its kind and one line of text.
#[derive(Debug, Clone)]
#[expect(clippy::error_impl_error, reason = "it is the error of the crate")]
pub struct Error {
    kind: Kind,
    text: String,
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` that reads `text`.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { kind, text }
    }

    /// A failed call on the operating system, written as `call: reason`.
    pub fn os(call: impl fmt::Display, error: &std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Kind::Exhausted,
            _ => Kind::Failed,
        };
        Self::new(kind, format!("{call}: {error}"))
    }

    /// The kind to decide by.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Puts the step or element in front of the text.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.text = format!("{place}: {}", self.text);
        self
    }

    /// The same text under another kind.
    #[must_use]
    pub fn as_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }
}

/// An error about a field of a request, named as in the interface: `config.metadata.name`.
pub fn invalid(field: impl fmt::Display, text: impl fmt::Display) -> Error {
    Error::new(Kind::Invalid, format!("{field}: {text}"))
}

/// Adds what was called to an error of the operating system.
pub trait Context<T> {
    /// Says what was called.
    fn call<D: fmt::Display>(self, call: impl FnOnce() -> D) -> Result<T>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn call<D: fmt::Display>(self, call: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| Error::os(call(), &error))
    }
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn call<D: fmt::Display>(self, call: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| Error::os(call(), &error.into()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Reason(reason) => write!(f, "{}: {}", reason.word(), self.text),
            _ => f.write_str(&self.text),
        }
    }
}

impl std::error::Error for Error {}

impl From<image_store::Error> for Error {
    fn from(error: image_store::Error) -> Self {
        let kind = match error.kind() {
            Image::NotFound => Kind::NotFound,
            Image::AlreadyExists => Kind::AlreadyExists,
            Image::Invalid => Kind::Invalid,
            Image::Limit | Image::NoSpace => Kind::Exhausted,
            Image::Unauthorized => Kind::Denied,
            Image::Unavailable | Image::Registry(429 | 500..=599) => {
                Kind::Reason(Reason::RegistryUnavailable)
            }
            Image::Unsupported => Kind::Unsupported,
            Image::Cancelled => Kind::Cancelled,
            Image::Registry(404) => Kind::NotFound,
            Image::Busy | Image::Corrupt | Image::Registry(_) | Image::Os(_) | Image::Database => {
                Kind::Failed
            }
        };
        Self::new(kind, error.to_string())
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = match error.kind {
            Kind::Invalid => Code::InvalidArgument,
            Kind::NotFound => Code::NotFound,
            Kind::AlreadyExists => Code::AlreadyExists,
            Kind::WrongState => Code::FailedPrecondition,
            Kind::Unsupported => Code::Unimplemented,
            Kind::Unavailable => Code::Unavailable,
            Kind::Deadline => Code::DeadlineExceeded,
            Kind::Exhausted => Code::ResourceExhausted,
            Kind::Denied => Code::PermissionDenied,
            Kind::Cancelled => Code::Cancelled,
            // What kubelet reads by its words must have this code.
            Kind::Reason(_) | Kind::Failed => Code::Unknown,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_kubelet_come_first_and_have_the_code_that_it_reads() {
        let error = image_store::Error::new(Image::Registry(503), "GET x: 503");
        let status = Status::from(Error::from(error));
        assert_eq!(status.code(), Code::Unknown);
        assert_eq!(status.message(), "RegistryUnavailable: GET x: 503");
        let mount = Error::new(Kind::Failed, "no such directory")
            .at("mounts[1]")
            .as_kind(Kind::Reason(Reason::ImageVolumeMountFailed));
        assert_eq!(
            Status::from(mount).message(),
            "ImageVolumeMountFailed: mounts[1]: no such directory"
        );
    }

    #[test]
    fn fields_are_named() {
        let status = Status::from(invalid("config.metadata.name", "is empty"));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "config.metadata.name: is empty");
    }
}
