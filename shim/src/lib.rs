//! What is spoken between a pod's shim and who drives it: messages, framing, and the files of a pod's directory.
//!
//! The program `ocirun-shim` is one single-threaded process a pod. It is started with the pod's directory as its only
//! argument, serves [`wire::SERVICE`] on the socket there, and outlives who started it.

#![forbid(unsafe_code)]

pub mod files;
pub mod wire;
