//! Measurements of ocirun beside its peers.
//!
//! Each suite is a module with a function that measures and returns a [`table::Table`].

pub mod sample;
pub mod table;
