//! What the machine is like, as far as containers depend on it: looked at once, at start.

use crate::spec::capabilities::NAMES;
use std::path::Path;

/// The machine and what this daemon may do on it.
#[derive(Debug, Clone)]
pub struct Host {
    /// Capabilities that the daemon may give, by full names.
    pub capabilities: Vec<String>,
    /// Whether the kernel accounts for swap.
    pub has_swap: bool,
    /// Whether cgroups are those of version 2 alone.
    pub is_unified: bool,
    /// The lowest OOM score that may be given.
    pub least_oom_score: i32,
    /// Whether SELinux is at work.
    pub has_selinux: bool,
    /// Whether AppArmor is at work.
    pub has_apparmor: bool,
}

impl Host {
    /// Looks at the machine.
    #[must_use]
    pub fn probe() -> Self {
        let capabilities = capabilities();
        let may_lower = capabilities.iter().any(|name| name == "CAP_SYS_RESOURCE");
        let own_score = read("/proc/self/oom_score_adj").and_then(|text| text.trim().parse().ok());
        let is_unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let swap = "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes";
        Self {
            capabilities,
            has_swap: is_unified || Path::new(swap).exists(),
            is_unified,
            least_oom_score: if may_lower {
                -1000
            } else {
                own_score.unwrap_or(0)
            },
            has_selinux: Path::new("/sys/fs/selinux/enforce").exists(),
            // And its files are there, by which profiles are loaded.
            has_apparmor: read("/sys/module/apparmor/parameters/enabled")
                .is_some_and(|text| text.trim() == "Y")
                && Path::new("/sys/kernel/security/apparmor/profiles").exists(),
        }
    }

    /// Says once what will be given less than it is asked for.
    pub fn warn(&self) {
        if self.least_oom_score > -1000 {
            tracing::warn!(
                "CAP_SYS_RESOURCE is missing: OOM scores below {} become that",
                self.least_oom_score
            );
        }
        if !self.has_swap {
            tracing::warn!("the kernel does not account for swap: limits of swap are left out");
        }
    }
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// The bounding set of this process.
fn capabilities() -> Vec<String> {
    let status = read("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let set = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let set = set.unwrap_or(0);
    let numbered = NAMES.iter().enumerate();
    numbered
        .filter(|(number, _)| set >> number & 1 == 1)
        .map(|(_, name)| format!("CAP_{name}"))
        .collect()
}

/// The machine's name.
#[must_use]
pub fn name() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().into_owned()
}
