//! What this host and this process can do, probed once and never guessed from a version.

use std::cell::OnceCell;

use nix::sys::statfs::{FsType, statfs};
use nix::unistd::{Gid, Uid, getegid, geteuid};

use crate::cgroup;
use crate::error::{Call, Result};
use crate::kernel::{landlock, process};

/// Of the file system by which SELinux is spoken to.
const SELINUX_MAGIC: FsType = FsType(0xf97c_ff8c);

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
    /// Whether a container without limits may do without cgroups where they cannot be made.
    pub cgroups_are_optional: bool,
    /// Who makes cgroups.
    pub cgroup_driver: Driver,
    /// The cgroup hierarchies.
    pub(crate) cgroups: cgroup::Hierarchies,
    /// This and what follows is looked at when a configuration first asks for it, which few do.
    pub(crate) landlock: OnceCell<u32>,
    pub(crate) security: OnceCell<SecurityModules>,
}

/// Which Linux security modules are at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecurityModules {
    /// AppArmor.
    pub apparmor: bool,
    /// SELinux.
    pub selinux: bool,
}

impl SecurityModules {
    /// Looks at sysfs.
    #[must_use]
    pub fn probe() -> Self {
        let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled");
        Self {
            apparmor: enabled.is_ok_and(|enabled| enabled.starts_with(b"Y")),
            selinux: statfs("/sys/fs/selinux")
                .is_ok_and(|found| found.filesystem_type() == SELINUX_MAGIC),
        }
    }
}

/// Who makes the cgroups of containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// This process, in the cgroup file systems.
    Cgroupfs,
    /// systemd, which is asked for a unit.
    Systemd(Manager),
}

/// Which systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// The host's.
    System,
    /// The user's own.
    User,
}

impl Driver {
    /// The systemd that does what this process may ask for: the host's does it for the host's root alone.
    #[must_use]
    pub fn systemd() -> Self {
        Self::Systemd(if geteuid().is_root() && !in_user_namespace() {
            Manager::System
        } else {
            Manager::User
        })
    }
}

/// Whether ids of this process are mapped, see user_namespaces(7).
pub(crate) fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let mut fields = map.split_whitespace();
    let all =
        [fields.next(), fields.next(), fields.next()] == [Some("0"), Some("0"), Some("4294967295")];
    !map.is_empty() && !all
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
            cgroup_driver: Driver::Cgroupfs,
            cgroups: cgroup::Hierarchies::probe()?,
            landlock: OnceCell::new(),
            security: OnceCell::new(),
        })
    }

    /// Version of Landlock, 0 for none.
    #[must_use]
    pub fn landlock(&self) -> u32 {
        *self.landlock.get_or_init(landlock::version)
    }

    /// Security modules that know labels.
    #[must_use]
    pub fn security(&self) -> SecurityModules {
        *self.security.get_or_init(SecurityModules::probe)
    }
}
