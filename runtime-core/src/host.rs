//! What this host and this process can do, probed once and never guessed from a version.

use nix::unistd::{Gid, Uid, getegid, geteuid};

use crate::cgroup;
use crate::error::{Call, Result};
use crate::kernel::process;

/// Bit of `CAP_SYS_ADMIN` in a set of capabilities.
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Facts about the host that decide what a plan looks like.
#[derive(Clone, Debug)]
pub struct Host {
    /// Effective user of this process.
    pub uid: Uid,
    /// Effective group of this process.
    pub gid: Gid,
    /// Whether this process may mount in the mount namespace it is in (`CAP_SYS_ADMIN`).
    pub can_mount: bool,
    /// The cgroup hierarchies.
    /// Whether a container without limits may do without cgroups where they cannot be made.
    pub cgroups_are_optional: bool,
    pub(crate) cgroups: cgroup::Hierarchies,
}

fn can_mount() -> Result<bool> {
    let capabilities = process::capabilities().call(|| "capget()")?;
    Ok(capabilities.effective & CAP_SYS_ADMIN != 0)
}

impl Host {
    /// Looks at this process and at `/proc/self/cgroup`.
    ///
    /// # Errors
    /// Those of reading `/proc/self/cgroup`.
    pub fn probe() -> Result<Self> {
        Ok(Self {
            uid: geteuid(),
            gid: getegid(),
            can_mount: can_mount()?,
            cgroups_are_optional: true,
            cgroups: cgroup::Hierarchies::probe()?,
        })
    }
}
