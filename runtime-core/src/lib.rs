//! Containers from OCI bundles.
//!
//! A [`Bundle`] is a directory with a `config.json`. Together with what was probed about the [`Host`] it becomes a
//! [`Plan`], by a pure function that finds every mistake of the configuration. A plan becomes a [`Container`]:
//!
//! ```text
//!            create                start              (the program ends)
//!   bundle ─────────▶ created ─────────▶ running ─────────────▶ stopped ───delete──▶ gone
//!                                        │     ▲
//!                                  pause ▼     │ resume
//!                                        paused
//! ```
//!
//! ```no_run
//! use std::path::Path;
//! use runtime_core::{Bundle, Container, CreateOptions, Host, Plan, Root};
//!
//! # fn main() -> runtime_core::Result<()> {
//! let bundle = Bundle::open(Path::new("bundle"))?;
//! let plan = Plan::compile(bundle.spec(), &Host::probe()?)?;
//! let root = Root::new("/run/ocirun".into());
//! // Only a single-threaded process may create containers.
//! let created = Container::create(&root, "web1", &bundle, plan, CreateOptions::default())?;
//! created.container.start()?;
//! created.container.kill(libc::SIGTERM)?;
//! # Ok(())
//! # }
//! ```
//!
//! Invariants:
//! - **Paths of a container are looked up below the descriptor of its root**, never as paths of the host.
//! - **The status is the kernel's word**: pid and start time, freezer, FIFO; the disk only says where to look.
//! - **A process is known by pid and start time**, and signalled by descriptor.
//! - **The child makes system calls and nothing else**; whatever can fail for a dull reason has failed before the clone.
//! - **`unsafe` lives in [`kernel`]** and nowhere else.

pub mod bundle;
mod cgroup;
mod container;
mod criu;
mod error;
pub mod features;
mod files;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod hooks;
pub mod host;
mod init;
#[expect(
    unsafe_code,
    reason = "the one place for system calls that nothing safe gives"
)]
pub mod kernel;
mod netlink;
pub mod plan;
pub mod pod;
mod rdt;
mod root;
pub mod seal;
pub mod spec;
mod state;
mod sync;

pub use bundle::Bundle;
pub use cgroup::oom::{MemoryEvent, MemoryWatch};
pub use cgroup::stats;
pub use container::checkpoint::{CheckpointOptions, Dump, PageServer};
pub use container::create::{CreateOptions, Created, InitProgram, InitRuns, Start, Terminal};
pub use container::exec::{ExecOptions, Executed};
pub use container::group::Group;
pub use container::restore::RestoreOptions;
pub use container::{Child, Container};
pub use criu::options::{CgroupsMode, CriuOptions, Network, Switch};
pub use error::{Error, ErrorKind, Result, describe};
pub use host::{Driver, Host};
pub use plan::Plan;
pub use state::{Root, State, Status, check_id};
