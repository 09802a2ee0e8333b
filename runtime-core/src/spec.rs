//! `config.json` as written, with only what the runtime reads.
//!
//! Nothing is resolved here and nothing is checked beyond types and enumerations: [`crate::Plan`] does that. A list or
//! object that is absent and one that is `null` are the same, as they are to runtimes written in Go.
//!
//! Follows the OCI runtime specification 1.3: `config.md` and `config-linux.md`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Result};

mod pointer;
mod resources;
pub mod scheduling;
pub mod seccomp;

pub use resources::{
    BlockIo, Cpu, DeviceRule, HugepageLimit, InterfacePriority, Memory, Network, Pids, Rdma,
    Resources, ThrottleDevice, WeightDevice,
};

/// Largest `config.json` that is read, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// A configuration as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// Version of the specification the bundle follows, for example `1.2.0`.
    pub oci_version: String,
    /// Root file system.
    pub root: Option<Root>,
    /// Mounts, in the order they are made.
    pub mounts: Option<Vec<Mount>>,
    /// The container's program.
    pub process: Option<Process>,
    /// Host name in a new UTS namespace.
    pub hostname: Option<String>,
    /// NIS domain name in a new UTS namespace.
    pub domainname: Option<String>,
    /// Programs run at points of the life of the container.
    pub hooks: Option<Hooks>,
    /// Free data of the caller.
    pub annotations: Option<BTreeMap<String, String>>,
    /// What is specific to Linux.
    pub linux: Option<Linux>,
}

impl Spec {
    /// Reads a configuration from the bytes of a `config.json`.
    ///
    /// # Errors
    /// `InvalidSpec` with the JSON pointer of the element that is not what it should be.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        parse(json, "config.json")
    }

    /// Whether the container's first process is the first of its PID namespace.
    #[must_use]
    pub fn has_new_pids(&self) -> bool {
        let linux = self.linux.iter();
        linux
            .flat_map(|linux| linux.namespaces.iter().flatten())
            .filter(|namespace| namespace.kind == NamespaceKind::Pid)
            .any(|namespace| namespace.path.as_deref().is_none_or(str::is_empty))
    }
}

/// Reads a `Process` from the bytes of a file given to `exec --process`.
///
/// # Errors
/// `InvalidSpec` as for [`Spec::from_json`].
pub fn process_from_json(json: &[u8]) -> Result<Process> {
    parse(json, "process.json")
}

/// Reads `<uid>[:<gid>]`, as `exec --user` has it; `gid` is for where there is none.
///
/// Numbers and nothing else: what a name means is the image's word (CVE-2016-3697), and what is half a number nobody's
/// (CVE-2026-30892).
///
/// # Errors
/// `InvalidArgument`.
pub fn user_from_text(text: &str, gid: u32) -> Result<(u32, u32)> {
    let invalid = || Error::argument(format!("--user {text:?}: is not <uid>[:<gid>]"));
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse()
            .ok()
            .filter(|&id: &u32| is_number && id != u32::MAX)
            .ok_or_else(invalid)
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, number(gid)?)),
        None => Ok((number(text)?, gid)),
    }
}

/// Reads `linux.resources` from the bytes of a file given to `update --resources`.
///
/// # Errors
/// `InvalidSpec` as for [`Spec::from_json`], with a pointer into the file.
pub fn resources_from_json(json: &[u8]) -> Result<Resources> {
    parse(json, "resources")
}

/// Reads a list of mounts from the bytes of a file.
///
/// # Errors
/// `InvalidSpec` as for [`Spec::from_json`], with a pointer into the file.
pub fn mounts_from_json(json: &[u8]) -> Result<Vec<Mount>> {
    parse(json, "mounts")
}

fn parse<'a, T: Deserialize<'a>>(json: &'a [u8], file: &str) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| {
        let at = pointer::at(json, error.line(), error.column());
        // serde_json ends its text with the position, which the pointer says better.
        let text = error.to_string();
        let text = text
            .rsplit_once(" at line ")
            .map_or(text.as_str(), |(before, _)| before);
        Error::invalid_spec(
            &at,
            &format!("{text} (line {}, column {})", error.line(), error.column()),
        )
        .context(file)
    })
}

/// `root`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Root {
    /// Absolute, or relative to the bundle.
    pub path: String,
    /// Whether the root is mounted read-only.
    #[serde(default)]
    pub readonly: bool,
}

/// An element of `mounts`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Path in the container.
    pub destination: String,
    /// File system type, or `bind`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Device, path or name, by type.
    pub source: Option<String>,
    /// As in fstab(5).
    pub options: Option<Vec<String>>,
    /// User ids of an id-mapped mount.
    pub uid_mappings: Option<Vec<IdMapping>>,
    /// Group ids of an id-mapped mount.
    pub gid_mappings: Option<Vec<IdMapping>>,
}

/// `process`, and the file given to `exec --process`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Whether the process gets a terminal of its own.
    #[serde(default)]
    pub terminal: bool,
    /// Size of that terminal.
    pub console_size: Option<ConsoleSize>,
    /// Who runs it.
    #[serde(default)]
    pub user: User,
    /// The program and its arguments.
    pub args: Option<Vec<String>>,
    /// `NAME=value` each.
    pub env: Option<Vec<String>>,
    /// Absolute path in the container.
    #[serde(default)]
    pub cwd: String,
    /// Capability sets.
    pub capabilities: Option<Capabilities>,
    /// Resource limits.
    pub rlimits: Option<Vec<Rlimit>>,
    /// Whether `execve` may give more privileges.
    #[serde(default)]
    pub no_new_privileges: bool,
    /// Name of an AppArmor profile.
    pub apparmor_profile: Option<String>,
    /// SELinux label.
    pub selinux_label: Option<String>,
    /// -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// CPU scheduling class and parameters.
    pub scheduler: Option<scheduling::Scheduler>,
    /// I/O scheduling class and priority.
    pub io_priority: Option<scheduling::IoPriority>,
    /// CPU affinity of `exec`'s processes.
    #[serde(rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Option<scheduling::CpuAffinity>,
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// `process.user`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// In the container's user namespace.
    #[serde(default)]
    pub uid: u32,
    /// In the container's user namespace.
    #[serde(default)]
    pub gid: u32,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// Supplementary groups.
    pub additional_gids: Option<Vec<u32>>,
}

/// `process.capabilities`, by names such as `CAP_KILL`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Capabilities {
    /// Bounding set.
    pub bounding: Option<Vec<String>>,
    /// Effective set.
    pub effective: Option<Vec<String>>,
    /// Inheritable set.
    pub inheritable: Option<Vec<String>>,
    /// Permitted set.
    pub permitted: Option<Vec<String>>,
    /// Ambient set.
    pub ambient: Option<Vec<String>>,
}

impl Capabilities {
    /// Gives `name` as `exec --cap` does: to the bounding, effective and permitted sets, and to the ambient set only
    /// where it is inheritable already (CVE-2022-29162).
    pub fn grant(&mut self, name: &str) {
        let give = |set: &mut Option<Vec<String>>| {
            let set = set.get_or_insert_default();
            if !set.iter().any(|known| known == name) {
                set.push(name.to_owned());
            }
        };
        give(&mut self.bounding);
        give(&mut self.effective);
        give(&mut self.permitted);
        if self.inheritable.iter().flatten().any(|known| known == name) {
            give(&mut self.ambient);
        }
    }
}

/// An element of `process.rlimits`.
#[derive(Clone, Debug, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE` and the like.
    #[serde(rename = "type")]
    pub kind: String,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// `hooks`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hooks {
    /// Deprecated: with `createRuntime`, before it.
    pub prestart: Option<Vec<Hook>>,
    /// In the runtime's namespaces, when the container's exist.
    pub create_runtime: Option<Vec<Hook>>,
    /// In the container's namespaces, before `pivot_root`.
    pub create_container: Option<Vec<Hook>>,
    /// In the container, before its program.
    pub start_container: Option<Vec<Hook>>,
    /// In the runtime's namespaces, after the program was started.
    pub poststart: Option<Vec<Hook>>,
    /// In the runtime's namespaces, after the container is deleted.
    pub poststop: Option<Vec<Hook>>,
}

/// A program run at a point of the container's life.
#[derive(Clone, Debug, Deserialize)]
pub struct Hook {
    /// Absolute.
    pub path: String,
    /// With the program's name first.
    pub args: Option<Vec<String>>,
    /// `NAME=value` each; nothing else is in the hook's environment.
    pub env: Option<Vec<String>>,
    /// Seconds until it is killed, above zero.
    pub timeout: Option<i64>,
}

/// `linux`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Linux {
    /// Namespaces that are new or joined; all others are the caller's.
    pub namespaces: Option<Vec<Namespace>>,
    /// Ids of a new user namespace.
    pub uid_mappings: Option<Vec<IdMapping>>,
    /// Group ids of a new user namespace.
    pub gid_mappings: Option<Vec<IdMapping>>,
    /// Offsets of a new time namespace, by clock: `monotonic`, `boottime`.
    pub time_offsets: Option<BTreeMap<String, TimeOffset>>,
    /// Device nodes.
    pub devices: Option<Vec<Device>>,
    /// Network interfaces moved into the container, by their name outside.
    pub net_devices: Option<BTreeMap<String, NetDevice>>,
    /// Where the cgroups are, below each hierarchy.
    pub cgroups_path: Option<String>,
    /// Limits.
    pub resources: Option<Resources>,
    /// Shares of caches and memory bandwidth.
    pub intel_rdt: Option<scheduling::IntelRdt>,
    /// NUMA memory policy.
    pub memory_policy: Option<scheduling::MemoryPolicy>,
    /// Kernel parameters of the container's namespaces.
    pub sysctl: Option<BTreeMap<String, String>>,
    /// System call filter.
    pub seccomp: Option<seccomp::Seccomp>,
    /// `shared`, `slave`, `private`, `unbindable`, or with a leading `r`.
    pub rootfs_propagation: Option<String>,
    /// Paths that cannot be read in the container.
    pub masked_paths: Option<Vec<String>>,
    /// Paths that cannot be written in the container.
    pub readonly_paths: Option<Vec<String>>,
    /// SELinux label of the mounts.
    pub mount_label: Option<String>,
    /// Execution domain.
    pub personality: Option<Personality>,
}

/// A value of `linux.netDevices`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NetDevice {
    /// In the container, where it is not to be as outside.
    pub name: Option<String>,
}

/// An element of `linux.namespaces`.
#[derive(Clone, Debug, Deserialize)]
pub struct Namespace {
    /// Which.
    #[serde(rename = "type")]
    pub kind: NamespaceKind,
    /// One to join; a new one when absent or empty.
    pub path: Option<String>,
}

/// The kinds of namespace, see namespaces(7).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    /// user_namespaces(7).
    User,
    /// pid_namespaces(7).
    Pid,
    /// network_namespaces(7).
    Network,
    /// mount_namespaces(7).
    Mount,
    /// ipc_namespaces(7).
    Ipc,
    /// uts_namespaces(7).
    Uts,
    /// cgroup_namespaces(7).
    Cgroup,
    /// time_namespaces(7).
    Time,
}

/// A range of ids of a user namespace.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct IdMapping {
    /// First id in the container.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// First id outside.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many.
    pub size: u32,
}

/// An offset of a clock.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct TimeOffset {
    /// Seconds.
    #[serde(default)]
    pub secs: i64,
    /// Nanoseconds, below 10^9.
    #[serde(default)]
    pub nanosecs: u32,
}

/// An element of `linux.devices`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// `c`, `u`, `b` or `p`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Path in the container.
    pub path: String,
    /// Major number; not for `p`.
    pub major: Option<i64>,
    /// Minor number; not for `p`.
    pub minor: Option<i64>,
    /// Permission bits.
    pub file_mode: Option<u32>,
    /// Owner, in the container.
    pub uid: Option<u32>,
    /// Group, in the container.
    pub gid: Option<u32>,
}

/// `linux.personality`.
#[derive(Clone, Debug, Deserialize)]
pub struct Personality {
    /// `LINUX` or `LINUX32`.
    pub domain: String,
    /// None is defined yet.
    pub flags: Option<Vec<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users() {
        for (text, expected) in [
            ("0", Some((0, 7))),
            ("1000:1001", Some((1000, 1001))),
            ("", None),
            ("root", None),
            ("+1", None),
            ("-1", None),
            ("1:", None),
            (":1", None),
            ("1:2:3", None),
            ("4294967295", None),
            ("4294967296", None),
        ] {
            assert_eq!(user_from_text(text, 7).ok(), expected, "{text}");
        }
    }

    #[test]
    fn granted_capabilities_are_ambient_only_where_inheritable() {
        let mut sets = Capabilities {
            inheritable: Some(vec!["CAP_KILL".to_owned()]),
            ..Capabilities::default()
        };
        sets.grant("CAP_KILL");
        sets.grant("CAP_CHOWN");
        let names = |set: &Option<Vec<String>>| set.clone().unwrap_or_default().join(" ");
        assert_eq!(names(&sets.permitted), "CAP_KILL CAP_CHOWN");
        assert_eq!(
            (names(&sets.ambient), names(&sets.inheritable)),
            ("CAP_KILL".into(), "CAP_KILL".into())
        );
    }
}
