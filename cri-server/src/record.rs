//! What is kept of pods and containers, one small file each: enough to build everything anew after a restart.
//!
//! ```text
//! <state>/rootfs/                     empty; where roots are attached, each in its own mount namespace
//! <state>/pods/<pod>/                 see ocirun_shim::files
//!   sandbox.json                      Sandbox
//!   hostname, hosts, resolv.conf      bound into containers
//!   containers/<id>/
//!     container.json                  Container
//!     config.json                     the bundle
//!     images/<n>                      image volumes
//! <root>/containers/<id>/{upper,work} the writable layer
//! ```

use crate::api::{ContainerConfig, LinuxContainerResources, LinuxContainerUser, PodSandboxConfig};
use crate::error::{Context, Error, Kind, Result};
use ocirun_shim::files::PodDirectory;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Largest record that is read, in bytes: more than the largest request makes.
const MAX_RECORD: u64 = 128 << 20;

/// A pod.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sandbox {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The request.
    pub config: PodSandboxConfig,
    /// The handler that the request names.
    pub handler: String,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// Where it has come to.
    pub phase: Phase,
    /// What was said last of its resources.
    #[serde(default)]
    pub resources: PodResources,
}

/// The resources of a whole pod, in kubelet's words. Kubelet sets the limits of the pod's cgroup itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PodResources {
    /// Beside those of its containers.
    pub overhead: Option<LinuxContainerResources>,
    /// All together.
    pub resources: Option<LinuxContainerResources>,
}

/// Where a pod or container has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It is being made: after a restart nobody knows its id, and it is removed.
    Making,
    /// It is there.
    Made,
    /// It was stopped, which is never taken back. For pods.
    Stopped,
}

/// A container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its pod.
    pub pod: String,
    /// The request; its resources follow updates.
    pub config: ContainerConfig,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// Where it has come to.
    pub phase: Phase,
    /// The image's id.
    pub image: String,
    /// `registry/repository@digest` of the image, where it has one.
    pub image_digest: String,
    /// Ids of image volumes, by their place among the mounts; empty for other mounts.
    pub volumes: Vec<String>,
    /// Number of the signal that stops it.
    pub stop_signal: i32,
    /// The interface's number of the same signal.
    pub stop_signal_name: i32,
    /// Who its process is.
    pub user: LinuxContainerUser,
    /// Absolute; empty for none.
    pub log_path: String,
}

/// Where the record of a pod is.
#[must_use]
pub fn sandbox_file(dir: &PodDirectory) -> PathBuf {
    dir.path().join("sandbox.json")
}

/// Writes a record beside its place and renames it into it.
///
/// # Errors
/// Those of the file system.
pub fn write(path: &Path, record: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec(record)
        .map_err(|error| Error::new(Kind::Failed, format!("{path:?}: {error}")))?;
    write_file(path, &text)
}

/// Writes a file beside its place and renames it into it.
///
/// # Errors
/// Those of the file system.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let new = path.with_extension(format!("{number}.new"));
    let written = std::fs::write(&new, bytes)
        .call(|| format!("write {new:?}"))
        .and_then(|()| std::fs::rename(&new, path).call(|| format!("rename {new:?}")));
    if written.is_err() {
        // The first error counts.
        drop(std::fs::remove_file(&new));
    }
    written
}

/// Reads a record.
///
/// # Errors
/// Those of the file system; `Failed` for what is no record.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let file = std::fs::File::open(path).call(|| format!("open {path:?}"))?;
    let mut text = Vec::new();
    let mut limited = file.take(MAX_RECORD);
    limited
        .read_to_end(&mut text)
        .call(|| format!("read {path:?}"))?;
    serde_json::from_slice(&text)
        .map_err(|error| Error::new(Kind::Failed, format!("{path:?}: {error}")))
}

/// A new id: 256 bits that nobody can guess.
///
/// # Errors
/// Those of reading /dev/urandom.
pub fn new_id() -> Result<String> {
    random::<32>()
}

/// `N` bytes that nobody can guess, in hexadecimal digits.
///
/// # Errors
/// Those of reading /dev/urandom.
pub fn random<const N: usize>() -> Result<String> {
    let mut bytes = [0; N];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .call(|| "read /dev/urandom")?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sandbox.json");
        let mut config = PodSandboxConfig {
            hostname: "h".into(),
            ..PodSandboxConfig::default()
        };
        config.labels.insert("a".into(), "b".into());
        let record = Sandbox {
            id: new_id().unwrap(),
            config: config.clone(),
            handler: String::new(),
            created_at: 5,
            phase: Phase::Made,
            resources: PodResources::default(),
        };
        write(&path, &record).unwrap();
        let again: Sandbox = read(&path).unwrap();
        assert_eq!((again.id.len(), again.config), (64, config));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_record() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        assert!(read::<Sandbox>(&path).is_err());
        for text in ["", "{", "{}", "{\"id\": 3}"] {
            std::fs::write(&path, text).unwrap();
            assert!(read::<Sandbox>(&path).is_err(), "{text}");
        }
    }
}
