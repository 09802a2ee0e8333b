//! Pulls, keeps and unpacks OCI images.
#![forbid(unsafe_code)]

pub mod digest;
mod error;
pub mod layout;
pub mod limits;
pub mod manifest;
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
