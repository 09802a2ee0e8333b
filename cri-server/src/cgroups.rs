//! The cgroup above those of pods that name none.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Its name, in each hierarchy.
pub const PARENT: &str = "ocirun";

/// Where hierarchies are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// Removes it where nothing is in it. It is made with the next pod, by whoever makes that pod's.
pub fn remove_parent(is_unified: bool) {
    for parent in parents(is_unified) {
        match std::fs::remove_dir(&parent) {
            // Other pods are there; or it never was.
            Err(error) if matches!(error.kind(), ErrorKind::ResourceBusy | ErrorKind::NotFound) => {
            }
            Err(error) => tracing::warn!("rmdir({parent:?}): {error}"),
            Ok(()) => {}
        }
    }
}

fn parents(is_unified: bool) -> Vec<PathBuf> {
    let mount = Path::new(MOUNT);
    if is_unified {
        return vec![mount.join(PARENT)];
    }
    let entries = std::fs::read_dir(mount).into_iter().flatten().flatten();
    // Several names of one hierarchy are links.
    let hierarchies = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    hierarchies.map(|at| at.path().join(PARENT)).collect()
}
