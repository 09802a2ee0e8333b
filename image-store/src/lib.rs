//! Pulls, keeps and unpacks OCI images.
//!
//! A pull: [`registry`] resolves a reference and streams each missing layer; [`pull`] gives every layer two threads, which
//! hash, inflate, hash again and [`unpack`] it in one pass; names are resolved in a [`tree`] in memory and made by a
//! [`layout`]; [`store`] commits the whole image behind one barrier. The store's header draws what is on disk.
//!
//! What holds: nothing is named by the database before it is whole; no path of an archive or registry is ever used as a
//! path of the host; every input has a budget ([`limits`]). A layer takes at most 16 MiB of buffers and 130 bytes or so
//! for each of its entries, at most [`limits::TREE`]; a zstd layer its window besides, 128 MiB at most.
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
