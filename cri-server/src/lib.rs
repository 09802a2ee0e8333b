//! The Kubernetes Container Runtime Interface on top of ocirun: a daemon that keeps pods and containers, and starts none
//! itself.
#![forbid(unsafe_code)]

pub mod api;
pub mod config;
pub mod error;
pub mod flight;
pub mod images;
pub mod live;
pub mod notify;
pub mod rpc;
pub mod server;
pub mod shim_client;
pub mod signals;
pub mod spec;
pub mod time;

pub use config::Config;
pub use error::{Error, Kind, Result};
