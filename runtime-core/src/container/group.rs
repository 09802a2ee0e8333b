//! What one `exec` starts, held together so that it can be ended together.

use super::Container;
use crate::cgroup::Cgroup;
use crate::error::Result;

/// A cgroup below a container's own, for one process of `exec` and all that it starts.
///
/// It limits nothing. On version 1 it is in one hierarchy only.
#[derive(Debug)]
pub struct Group {
    cgroup: Cgroup,
    option: String,
}

impl Container {
    /// The group `name`, a plain name of the caller's choice. None where the container has no cgroup.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<Group> {
        let (cgroup, option) = self.record.cgroup.group(name)?;
        Some(Group { cgroup, option })
    }

    /// The names of the groups there are, and of cgroups that the container has made for itself.
    #[must_use]
    pub fn groups(&self) -> Vec<String> {
        self.record.cgroup.groups()
    }
}

impl Group {
    /// Makes it.
    ///
    /// # Errors
    /// The errno of mkdir(2).
    pub fn make(&self) -> Result<()> {
        self.cgroup.make_directories()
    }

    /// The word for [`crate::ExecOptions::cgroups`] by which a process is started in it.
    #[must_use]
    pub fn option(&self) -> &str {
        &self.option
    }

    /// Kills every process in it, also those forked meanwhile, and waits until none is left.
    ///
    /// # Errors
    /// `ETIMEDOUT` where some would not end.
    pub fn kill(&self) -> Result<()> {
        self.cgroup.kill_all()
    }

    /// Removes it.
    ///
    /// # Errors
    /// `EBUSY` where processes are left in it.
    pub fn remove(&self) -> Result<()> {
        self.cgroup.remove_empty()
    }
}
