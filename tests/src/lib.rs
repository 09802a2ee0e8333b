//! What the whole-program tests stand on: the runtime under test, bundles, containers that clean up after themselves,
//! and a harness that names every test it could not run.
//!
//! A test file has `harness = false` and reads like this:
//!
//! ```no_run
//! use ocirun_tests::{Bundle, Need, suite};
//!
//! fn exits_with_the_code_of_the_program() {
//!     let run = Bundle::new().probe(&["exit", "7"]).container().run();
//!     assert_eq!(run.code(), 7);
//! }
//!
//! suite! {
//!     &[Need::Root] => [exits_with_the_code_of_the_program],
//! }
//! ```
//!
//! `RUNTIME=` chooses the runtime, by path or by a name in `PATH` (`RUNTIME=runc cargo test -p ocirun-tests`); without
//! it `ocirun` is built from this workspace. Tests that fail on runc are first suspected of being wrong themselves;
//! where the two are meant to differ, [`differs_on_runc`] and [`Need::NotRunc`] say why.
//!
//! Everything here panics with the facts when the ground it stands on is missing: it serves tests only.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a broken test bed ends the test, with the facts"
)]

mod bundle;
mod cgroup;
mod command;
mod container;
pub mod disk;
mod harness;
pub mod image_support;
pub mod logs;
pub mod machine;
pub mod mounts;
mod need;
mod outside;
pub mod pod;
mod programs;
mod sockets;
mod spec;
mod terminal;

pub use bundle::{Bundle, PROBE};
pub use cgroup::Cgroup;
pub use command::{Finished, Invocation, Running};
pub use container::Container;
pub use harness::Suite;
pub use need::{Need, subordinate_ids};
pub use outside::{CANARY, Outside};
pub use programs::{
    Kind, Runtime, build, differs_on_runc, own_program, probe_program, program_in_path, runtime,
};
pub use sockets::{accept_in_time, receive_descriptors, receive_message};
pub use spec::{default_spec, rootless_spec};
pub use terminal::{ConsoleSocket, Terminal};

use std::time::{Duration, Instant};

/// How long anything may take before it counts as hung.
pub const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Waits until `condition` holds.
///
/// # Panics
/// After [`TIME_LIMIT`], naming `what` was waited for.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + TIME_LIMIT;
    while !condition() {
        assert!(
            Instant::now() < end,
            "still not after {TIME_LIMIT:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}
