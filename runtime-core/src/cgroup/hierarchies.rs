//! The cgroup file systems of this host.

use std::fs;
use std::path::{Path, PathBuf};

use super::MOUNT;
use super::properties::Version;
use crate::error::{Call, Result};

/// The hierarchies of this host and where this process is in them.
#[derive(Clone, Debug, Default)]
pub struct Hierarchies {
    /// Version 1, in the order of the kernel.
    pub(super) v1: Vec<Hierarchy>,
    /// Version 2.
    pub(super) unified: Option<Hierarchy>,
}

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Hierarchy {
    /// As in `/proc/self/cgroup`: controllers with commas between them, `name=…` for one without, empty for version 2.
    pub(super) controllers: String,
    pub(super) mount: PathBuf,
    /// The cgroup of this process, absolute within the hierarchy.
    pub(super) own: String,
}

impl Hierarchies {
    /// Reads `/proc/self/cgroup`.
    pub(crate) fn probe() -> Result<Self> {
        let text =
            fs::read_to_string("/proc/self/cgroup").call(|| "read(\"/proc/self/cgroup\")")?;
        Ok(Self::parse(&text, |file| Path::new(file).exists()))
    }

    /// `exists` tells of files: the kernel also names hierarchies that are mounted elsewhere, or only in another mount
    /// namespace.
    pub(crate) fn parse(text: &str, exists: impl Fn(&str) -> bool) -> Self {
        let mut hierarchies = Self::default();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(own)) = (fields.next(), fields.next()) else {
                continue;
            };
            let hierarchy = |mount: String| Hierarchy {
                controllers: controllers.to_owned(),
                mount: mount.into(),
                own: own.to_owned(),
            };
            if controllers.is_empty() {
                // Alone, or beside those of version 1.
                let mounts = [MOUNT.to_owned(), format!("{MOUNT}/unified")];
                hierarchies.unified = mounts
                    .into_iter()
                    .find(|mount| exists(&format!("{mount}/cgroup.procs")))
                    .map(hierarchy);
                continue;
            }
            let name = controllers.strip_prefix("name=").unwrap_or(controllers);
            let mount = format!("{MOUNT}/{name}");
            if exists(&format!("{mount}/tasks")) {
                hierarchies.v1.push(hierarchy(mount));
            }
        }
        hierarchies
    }

    /// Which version the limits are in.
    pub(super) fn version(&self) -> Version {
        match (&self.unified, self.v1.is_empty()) {
            (Some(_), true) => Version::V2,
            _ => Version::V1,
        }
    }
}

/// The cgroup above `own`.
pub(super) fn parent(own: &str) -> &str {
    own.rsplit_once('/').map_or("", |(parent, _)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies() {
        let text = "5:freezer:/\n4:memory:/own/a\n3:cpu,cpuacct:/\n2:name=systemd:/x:y\n0::/u\n";
        let found = Hierarchies::parse(text, |file| {
            file != "/sys/fs/cgroup/cgroup.procs" && !file.contains("freezer")
        });
        let mounts: Vec<_> = found
            .v1
            .iter()
            .map(|h| (h.mount.to_str().unwrap(), h.own.as_str()))
            .collect();
        let expected = [
            ("/sys/fs/cgroup/memory", "/own/a"),
            ("/sys/fs/cgroup/cpu,cpuacct", "/"),
            ("/sys/fs/cgroup/systemd", "/x:y"),
        ];
        assert_eq!(mounts, expected);
        assert_eq!(
            found.unified.unwrap().mount,
            Path::new("/sys/fs/cgroup/unified")
        );
    }

    #[test]
    fn version_2_alone() {
        let found = Hierarchies::parse("0::/a/b\n", |file| !file.ends_with("tasks"));
        assert_eq!(found.version(), Version::V2);
        assert_eq!(found.unified.unwrap().mount, Path::new("/sys/fs/cgroup"));
        assert_eq!((parent("/a/b"), parent("/a"), parent("/")), ("/a", "", ""));
    }
}
