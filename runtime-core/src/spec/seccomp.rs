//! `linux.seccomp`.

use serde::Deserialize;

/// A profile.
#[derive(Clone, Debug, Deserialize)]
pub struct Seccomp {}
