//! The machines there are: which cgroups, who is PID 1, who runs the tests, which kernel.

use std::fmt;

use ocirun_tests::machine::{Caller, Manager};

use crate::image::Kernel;

/// What is mounted at /sys/fs/cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// cgroup version 2 alone.
    V2,
    /// Version 1 with systemd's own version 2 hierarchy beside it.
    Hybrid,
    /// Version 1 alone.
    V1,
}

/// One kind of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The cgroups.
    pub layout: Layout,
    /// PID 1.
    pub manager: Manager,
    /// Who runs the tests.
    pub caller: Caller,
    /// The kernel.
    pub kernel: Kernel,
}

/// What `cargo machine` boots if it is not told.
pub const DEFAULT: Variant = Variant {
    layout: Layout::V2,
    manager: Manager::Systemd,
    caller: Caller::Root,
    kernel: Kernel::Bookworm,
};

/// All that the matrix runs. Debian's newer kernel is built without version 1 of memory and cpuset, so that only
/// version 2 is of interest there.
pub const MATRIX: &[&str] = &[
    "v2",
    "v2-user",
    "v2-plain",
    "v2-plain-user",
    "hybrid",
    "v1",
    "v2-6.12",
    "v2-user-6.12",
];

impl Variant {
    /// Reads a name such as `v2-plain-user-6.12`: the layout, and what differs from the default.
    ///
    /// # Errors
    /// In words, if there is no such variant.
    pub fn parse(name: &str) -> Result<Self, String> {
        let mut words = name.split('-');
        let layout = match words.next() {
            Some("v2") => Layout::V2,
            Some("hybrid") => Layout::Hybrid,
            Some("v1") => Layout::V1,
            _ => return Err(format!("{name}: no variant; `list` prints some")),
        };
        let mut variant = Self { layout, ..DEFAULT };
        for word in words {
            match (word, Kernel::by_name(word)) {
                ("plain", _) => variant.manager = Manager::Plain,
                ("user", _) => variant.caller = Caller::User,
                (_, Some(kernel)) => variant.kernel = kernel,
                _ => return Err(format!("{name}: nothing known about \"{word}\"")),
            }
        }
        if variant.manager == Manager::Plain && layout != Layout::V2 {
            return Err(format!("{name}: without systemd there is only v2"));
        }
        Ok(variant)
    }

    /// What the kernel's command line says of it.
    #[must_use]
    pub fn kernel_arguments(&self) -> String {
        let layout = match self.layout {
            Layout::V2 => "systemd.unified_cgroup_hierarchy=1",
            Layout::Hybrid => "systemd.unified_cgroup_hierarchy=0",
            Layout::V1 => {
                "systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1"
            }
        };
        format!(
            "console=ttyS0 quiet panic=-1 systemd.unit=ocirun-machine.target systemd.show_status=0 {layout}"
        )
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.layout {
            Layout::V2 => "v2",
            Layout::Hybrid => "hybrid",
            Layout::V1 => "v1",
        })?;
        if self.manager == Manager::Plain {
            f.write_str("-plain")?;
        }
        if self.caller == Caller::User {
            f.write_str("-user")?;
        }
        if self.kernel != DEFAULT.kernel {
            write!(f, "-{}", self.kernel.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{MATRIX, Variant};

    #[test]
    fn names_are_read_and_written_alike() {
        for name in MATRIX {
            assert_eq!(Variant::parse(name).unwrap().to_string(), *name);
        }
    }

    #[test]
    fn what_does_not_exist_is_refused() {
        for name in ["", "v3", "v2-busy", "v1-plain", "hybrid-plain"] {
            assert!(Variant::parse(name).is_err(), "{name}");
        }
    }
}
