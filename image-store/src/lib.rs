//! Pulls, keeps and unpacks OCI images.
#![forbid(unsafe_code)]

pub mod archive;
pub mod bundle;
pub mod commit;
pub mod diff;
pub mod digest;
mod error;
pub mod layout;
pub mod limits;
pub mod manifest;
pub mod materialize;
pub mod mount;
mod pipeline;
pub mod pull;
pub mod push;
pub mod reference;
pub mod registry;
pub mod seal;
pub mod store;
pub mod tar;
pub mod tree;
pub mod unpack;

pub use digest::Digest;
pub use error::{Error, ErrorKind, Result};
pub use reference::Reference;
pub use store::Store;
