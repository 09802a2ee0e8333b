//! The control groups that the containers of a measurement live in, and their removal.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::sys;

const MOUNT_POINT: &str = "/sys/fs/cgroup";
/// In front of the process number in the name of the directory that holds all others.
const PREFIX: &str = "ocirun-bench-";
/// How long killed processes may take to leave a directory.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is mounted at /sys/fs/cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One cgroup2 mount.
    Unified,
    /// Version 1 hierarchies, with or without a cgroup2 mount beside them.
    Legacy,
}

/// One directory of ours in each hierarchy. Dropped, it kills what is inside and removes all of it.
#[derive(Debug)]
pub struct Cgroups {
    layout: Layout,
    name: String,
    hierarchies: Vec<Hierarchy>,
}

#[derive(Debug)]
struct Hierarchy {
    root: PathBuf,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    V1,
    Cpuset,
    V2,
}

impl Cgroups {
    /// Completes the hierarchies (crun wants each controller in one) and makes our directory in each. The caller is in a private mount
    /// namespace. What an earlier measurement left when it was killed is removed first.
    ///
    /// # Errors
    /// Those of the file system and of mount(2), with the path.
    pub fn prepare(scratch: &Path) -> Result<Self, String> {
        let layout = if Path::new(MOUNT_POINT).join("cgroup.controllers").exists() {
            Layout::Unified
        } else {
            Layout::Legacy
        };
        if layout == Layout::Legacy {
            complete(scratch)
                .map_err(|error| format!("mount the missing cgroup hierarchies: {error}"))?;
        }
        let own = Self {
            layout,
            name: format!("{PREFIX}{}", std::process::id()),
            hierarchies: hierarchies(layout)?,
        };
        own.remove_abandoned();
        for hierarchy in &own.hierarchies {
            let directory = hierarchy.root.join(&own.name);
            make(hierarchy, &directory)
                .map_err(|error| format!("make {}: {error}", directory.display()))?;
        }
        Ok(own)
    }

    /// Which version the machine has.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// In words, for the reader of the report.
    pub fn describe(&self) -> String {
        let v2 = self
            .hierarchies
            .iter()
            .filter(|hierarchy| hierarchy.kind == Kind::V2)
            .count();
        match self.layout {
            Layout::Unified => "cgroup v2".to_owned(),
            Layout::Legacy => format!(
                "{} cgroup v1 hierarchies, {v2} cgroup2 mount beside them",
                self.hierarchies.len() - v2
            ),
        }
    }

    /// The `cgroupsPath` of a container's config.json.
    pub fn path_of(&self, container: &str) -> String {
        format!("/{}/{container}", self.name)
    }

    /// A container's directory in each hierarchy, in the form in which the floor program takes them.
    pub fn floor_arguments(&self, container: &str) -> Vec<String> {
        let argument = |hierarchy: &Hierarchy| {
            let kind = match hierarchy.kind {
                Kind::V1 => "v1",
                Kind::Cpuset => "cpuset",
                Kind::V2 => "v2",
            };
            format!(
                "{kind}:{}",
                hierarchy.root.join(&self.name).join(container).display()
            )
        };
        self.hierarchies.iter().map(argument).collect()
    }

    fn remove_abandoned(&self) {
        for hierarchy in &self.hierarchies {
            let names = fs::read_dir(&hierarchy.root)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.file_name());
            for name in names.filter_map(|name| name.into_string().ok()) {
                let maker = name
                    .strip_prefix(PREFIX)
                    .and_then(|pid| pid.parse::<u32>().ok());
                if maker.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
                    empty_and_remove(&hierarchy.root.join(name));
                }
            }
        }
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for hierarchy in &self.hierarchies {
            empty_and_remove(&hierarchy.root.join(&self.name));
        }
    }
}

/// Puts a private tmpfs in the place of /sys/fs/cgroup, with the hierarchies moved onto it and the missing ones mounted
/// beside them: crun refuses a mixture in which a controller is in no hierarchy. The host's own directory is not touched.
fn complete(scratch: &Path) -> io::Result<()> {
    let staging = scratch.join("cgroup");
    fs::create_dir_all(&staging)?;
    sys::mount(Path::new("tmpfs"), &staging, "tmpfs", 0, "mode=755")?;
    for entry in fs::read_dir(MOUNT_POINT)? {
        let entry = entry?;
        let target = staging.join(entry.file_name());
        if entry.file_type()?.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, target)?;
        } else if entry.path().join("cgroup.procs").exists() {
            fs::create_dir(&target)?;
            sys::move_mount(&entry.path(), &target)?;
        }
    }
    for controller in
        missing_controllers(&fs::read_to_string("/proc/cgroups")?, &held_controllers()?)
    {
        let target = staging.join(&controller);
        fs::create_dir_all(&target)?;
        match sys::mount(Path::new("cgroup"), &target, "cgroup", 0, &controller) {
            // The cgroup2 mount has it and uses it.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => fs::remove_dir(&target)?,
            mounted => mounted?,
        }
    }
    sys::move_mount(&staging, Path::new(MOUNT_POINT))
}

/// The controllers of all version 1 hierarchies mounted in this mount namespace. One that a cgroup2 mount has and does
/// not use can be had: crun wants none there.
fn held_controllers() -> io::Result<BTreeSet<String>> {
    let mut held = BTreeSet::new();
    for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
        let Some((_, right)) = line.split_once(" - ") else {
            continue;
        };
        let mut fields = right.split(' ');
        if fields.next() == Some("cgroup")
            && let Some(options) = fields.nth(1)
        {
            held.extend(options.split(',').map(str::to_owned));
        }
    }
    Ok(held)
}

/// The enabled controllers of /proc/cgroups (name, hierarchy, directories, enabled) that are not held.
fn missing_controllers(table: &str, held: &BTreeSet<String>) -> Vec<String> {
    let enabled = |line: &str| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        [name, _, _, "1"] => Some((*name).to_owned()),
        _ => None,
    };
    table
        .lines()
        .filter_map(enabled)
        .filter(|name| !held.contains(name))
        .collect()
}

fn hierarchies(layout: Layout) -> Result<Vec<Hierarchy>, String> {
    if layout == Layout::Unified {
        return Ok(vec![Hierarchy {
            root: PathBuf::from(MOUNT_POINT),
            kind: Kind::V2,
        }]);
    }
    let entries =
        fs::read_dir(MOUNT_POINT).map_err(|error| format!("read {MOUNT_POINT}: {error}"))?;
    // Links such as cpu -> cpu,cpuacct lead to what is in the list already.
    let roots: BTreeSet<PathBuf> = entries
        .flatten()
        .filter_map(|entry| entry.path().canonicalize().ok())
        .collect();
    let hierarchy = |root: PathBuf| {
        let kind = if root.join("cgroup.controllers").exists() {
            Kind::V2
        } else if root.join("cpuset.cpus").exists() {
            Kind::Cpuset
        } else {
            Kind::V1
        };
        Hierarchy { root, kind }
    };
    Ok(roots
        .into_iter()
        .filter(|root| root.join("cgroup.procs").exists())
        .map(hierarchy)
        .collect())
}

fn make(hierarchy: &Hierarchy, directory: &Path) -> io::Result<()> {
    fs::create_dir(directory)?;
    if hierarchy.kind == Kind::Cpuset {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            fs::write(directory.join(file), fs::read(hierarchy.root.join(file))?)?;
        }
    }
    Ok(())
}

/// Kills every process below `directory` and removes it. Only for directories that this module named.
fn empty_and_remove(directory: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while directory.exists() && !remove_tree(directory) && Instant::now() < deadline {
        sys::reap_ended();
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn remove_tree(directory: &Path) -> bool {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let members = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    members
        .lines()
        .filter_map(|line| line.parse().ok())
        .for_each(sys::kill);
    fs::remove_dir(directory).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_without_a_hierarchy_are_found() {
        let table = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t9\t1\nhugetlb\t0\t9\t1\nrdma\t0\t1\t0\n";
        let held = BTreeSet::from(["cpuset".to_owned()]);
        assert_eq!(missing_controllers(table, &held), ["hugetlb"]);
    }
}
