//! What this runtime can do, by the names of the specification: features.md.

pub use crate::plan::capabilities::NAMES as CAPABILITIES;
pub use crate::plan::mounts::option_names as mount_options;
pub use crate::plan::namespaces::names as namespaces;
pub use crate::plan::scheduling::{memory_flags, memory_modes};
pub use crate::plan::seccomp::{
    ACTIONS as SECCOMP_ACTIONS, ARCHITECTURES as SECCOMP_ARCHITECTURES, FLAGS as SECCOMP_FLAGS,
    OPERATORS as SECCOMP_OPERATORS,
};
