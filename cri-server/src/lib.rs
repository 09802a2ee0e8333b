//! The Kubernetes Container Runtime Interface on top of ocirun: a daemon that keeps pods and containers, and starts none
//! itself.
//!
//! [`rpc`] decodes a call, [`validate`] and [`spec`] refuse what cannot be, [`sandbox`], [`create`] and [`container`] do it, and a
//! pod's shim ([`shims`], [`shim_client`]) makes and keeps the processes. [`pods`] is all that is known, built anew by
//! [`recover`] from small files ([`record`]) and the shims. Images are [`images`], their mounts [`rootfs`].
#![forbid(unsafe_code)]

pub mod api;
pub mod apparmor;
pub mod cadvisor;
pub mod cgroups;
pub mod config;
pub mod container;
pub mod create;
pub mod error;
pub mod events;
pub mod exec;
pub mod flight;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod gather;
pub mod host;
pub mod images;
pub mod live;
pub mod look;
pub mod metrics;
pub mod mountinfo;
pub mod network;
pub mod notify;
pub mod pods;
pub mod program;
pub mod record;
pub mod recover;
pub mod relabel;
pub mod rootfs;
pub mod rpc;
pub mod sandbox;
pub mod server;
pub mod shim_client;
pub mod shims;
pub mod show;
pub mod signals;
pub mod spec;
pub mod stats;
pub mod streaming;
pub mod time;
pub mod validate;

pub use config::Config;
pub use error::{Error, Kind, Result};
