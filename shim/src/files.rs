//! The files of a pod's directory.
//!
//! ```text
//! <pod>/                       0700; its name is the pod's id
//!   pod.json                   PodFile; written by who starts the shim, before that
//!   shim.sock                  0600, where the shim serves
//!   shim.pid                   its pid; locked by fcntl(2) as long as it lives
//!   shim.log                   its words, bounded
//!   shim.json                  what a shim leaves for the next one
//!   ns/{user,net,ipc,uts,pid}  where namespaces are pinned
//!   shm/                       the pod's /dev/shm
//!   init/                      the first process of a shared PID namespace
//!   runtime/<id>/              the runtime's files of a container: `ocirun --root <pod>/runtime list` shows them
//!   containers/<id>/           made where it is missing, removed where it is empty
//!     exit.json                ExitFile, once it has ended
//!     shim.json                what a shim leaves for the next one
//!     stdin, stdout, stderr    FIFOs
//!     io.sock                  where the process that writes the log is spoken to
//! ```
//!
//! Files are written beside their place and renamed into it: what is read is whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What a pod is to be, `pod.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PodFile {
    /// The namespaces it has of its own; the others are the host's.
    pub namespaces: OwnNamespaces,
    /// Where the network namespace is pinned besides `ns/net`, such as `/run/netns/<name>`; absolute.
    pub network_path: Option<PathBuf>,
    /// The host name, where the UTS namespace is the pod's own.
    pub hostname: Option<String>,
    /// Kernel parameters by name, with `.` or `/` between the words. Only those of namespaces that are the pod's own.
    pub sysctls: BTreeMap<String, String>,
    /// Ids of the user namespace, where it has one of its own.
    pub uid_mappings: Vec<IdMapping>,
    /// Likewise for groups.
    pub gid_mappings: Vec<IdMapping>,
    /// Size of `/dev/shm` in bytes, where the IPC namespace is the pod's own; 64 MiB where there is none.
    pub shm_size: Option<u64>,
    /// Cgroup of the shared PID namespace's first process, in the words of `linux.cgroupsPath`.
    pub cgroups_path: Option<String>,
    /// Whether `cgroups_path` is of systemd's form, `slice:prefix:name`, and systemd makes the pod's cgroups.
    pub systemd_cgroup: bool,
    /// An empty directory that every user can reach, at which the first process of a shared PID namespace has its root,
    /// in a mount namespace of its own; one in the pod's directory, which only root can, without it. Absolute.
    pub root: Option<PathBuf>,
}

/// Which namespaces are the pod's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct OwnNamespaces {
    /// User: the others are made inside of it.
    pub user: bool,
    /// Network, with its loopback device up.
    pub network: bool,
    /// IPC, with `/dev/shm`.
    pub ipc: bool,
    /// UTS, with the host name.
    pub uts: bool,
    /// PID, shared by the containers that join it, with a first process that reaps.
    pub pid: bool,
}

/// A range of ids, see user_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IdMapping {
    /// First id inside.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// First id outside.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many.
    pub size: u32,
}

/// How a container ended, `exit.json`: as [`crate::wire::Exit`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitFile {
    /// The process that ended.
    pub pid: i32,
    /// Its exit code; 128 and the signal's number; 255 where it is unknown.
    pub code: i32,
    /// The signal that ended it; 0 for none.
    pub signal: i32,
    /// Whether the kernel killed a process of it for lack of memory.
    pub oom: bool,
    /// Whether nobody can tell the code any more.
    pub unknown: bool,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// Nanoseconds since 1970; 0 where its program never ran.
    pub started_at: i64,
    /// Nanoseconds since 1970.
    pub exited_at: i64,
}

/// The directory of a pod: where its files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodDirectory(PathBuf);

impl PodDirectory {
    /// Names the directory.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// [`PodFile`].
    #[must_use]
    pub fn pod_file(&self) -> PathBuf {
        self.0.join("pod.json")
    }

    /// Where the shim serves.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.0.join("shim.sock")
    }

    /// The shim's pid.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.0.join("shim.pid")
    }

    /// The shim's words.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.0.join("shim.log")
    }

    /// What a shim leaves for the next one of the pod.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.0.join("shim.json")
    }

    /// The runtime's files of the containers, as those of `ocirun --root`.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        self.0.join("runtime")
    }

    /// The first process of a shared PID namespace, as a container of its own.
    #[must_use]
    pub fn init(&self) -> PathBuf {
        self.0.join("init")
    }

    /// Where the namespace `name` is pinned: `user`, `net`, `ipc`, `uts`, `pid`.
    #[must_use]
    pub fn namespace(&self, name: &str) -> PathBuf {
        self.0.join("ns").join(name)
    }

    /// The pod's `/dev/shm`.
    #[must_use]
    pub fn shm(&self) -> PathBuf {
        self.0.join("shm")
    }

    /// The directories of all containers.
    #[must_use]
    pub fn containers(&self) -> PathBuf {
        self.0.join("containers")
    }

    /// The directory of the container `id`.
    #[must_use]
    pub fn container(&self, id: &str) -> PathBuf {
        self.containers().join(id)
    }

    /// What a shim leaves of the container `id` for the next one.
    #[must_use]
    pub fn shim_file(&self, id: &str) -> PathBuf {
        self.container(id).join("shim.json")
    }

    /// Where the keeper of the streams of the container `id` is spoken to.
    #[must_use]
    pub fn keeper_socket(&self, id: &str) -> PathBuf {
        self.container(id).join("io.sock")
    }

    /// [`ExitFile`] of the container `id`.
    #[must_use]
    pub fn exit_file(&self, id: &str) -> PathBuf {
        self.container(id).join("exit.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_as_it_is_written() {
        let json = r#"{
            "namespaces": {"user": true, "network": true},
            "networkPath": "/run/netns/p",
            "hostname": "h",
            "sysctls": {"net.ipv4.ip_forward": "1"},
            "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}]
        }"#;
        let pod: PodFile = serde_json::from_str(json).unwrap();
        assert!(pod.namespaces.user && pod.namespaces.network && !pod.namespaces.pid);
        assert_eq!(pod.uid_mappings[0].host_id, 100_000);
        let again = serde_json::to_string(&pod).unwrap();
        assert_eq!(serde_json::from_str::<PodFile>(&again).unwrap(), pod);
    }

    #[test]
    fn a_misspelt_field_is_seen() {
        let wrong = serde_json::from_str::<PodFile>(r#"{"namespace": {}}"#);
        assert!(wrong.is_err());
    }
}
