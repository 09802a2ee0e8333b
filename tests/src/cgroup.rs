//! A cgroup of its own for each test, below one directory of the test process, in every hierarchy.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::pod::is_alive;

/// Mount points of all cgroup hierarchies with the controllers of each (none for cgroup2).
fn hierarchies() -> &'static [(PathBuf, Vec<String>)] {
    static FOUND: OnceLock<Vec<(PathBuf, Vec<String>)>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let parse = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            let at = PathBuf::from(words.get(1)?);
            match *words.get(2)? {
                "cgroup" => Some((at, words.get(3)?.split(',').map(str::to_owned).collect())),
                "cgroup2" => Some((at, Vec::new())),
                _ => None,
            }
        };
        table.lines().filter_map(parse).collect()
    })
}

/// The mount point of a cgroup v1 controller (`memory`, …).
pub(crate) fn v1_mount(controller: &str) -> Option<&'static Path> {
    let found = hierarchies()
        .iter()
        .find(|(_, options)| options.iter().any(|option| option == controller));
    found.map(|(at, _)| at.as_path())
}

fn suite_directory() -> String {
    format!("/ocirun-tests.{}", std::process::id())
}

/// The cgroup of one test.
#[derive(Debug)]
pub struct Cgroup {
    path: String,
}

impl Cgroup {
    pub(crate) fn unique() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self {
            path: format!(
                "{}/{}",
                suite_directory(),
                NEXT.fetch_add(1, Ordering::Relaxed)
            ),
        }
    }

    /// The path as `linux.cgroupsPath` has it, from the root of each hierarchy.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The directory in a v1 controller's hierarchy.
    ///
    /// # Panics
    /// When the controller is not mounted: the test lacks `Need::CgroupV1`.
    #[must_use]
    pub fn directory(&self, controller: &str) -> PathBuf {
        let mount = v1_mount(controller)
            .unwrap_or_else(|| panic!("no cgroup v1 hierarchy has {controller}"));
        mount.join(self.path.trim_start_matches('/'))
    }

    /// A file of a v1 controller, without its line end.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn read(&self, controller: &str, file: &str) -> String {
        let path = self.directory(controller).join(file);
        let text = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
        text.trim_end().to_owned()
    }

    /// The directory where version 2 is all there is.
    #[must_use]
    pub fn unified(&self) -> PathBuf {
        Path::new("/sys/fs/cgroup").join(self.path.trim_start_matches('/'))
    }

    /// Directories of this cgroup that exist, over all hierarchies.
    #[must_use]
    pub fn existing(&self) -> Vec<PathBuf> {
        let relative = self.path.trim_start_matches('/');
        hierarchies()
            .iter()
            .map(|(at, _)| at.join(relative))
            .filter(|path| path.is_dir())
            .collect()
    }

    /// Processes in it and below, zombies not counted, in the order of their ids.
    #[must_use]
    pub fn processes(&self) -> Vec<Pid> {
        let mut pids = Vec::new();
        for directory in self.existing() {
            collect(&directory, &mut pids);
        }
        pids.sort();
        pids.dedup();
        pids
    }

    /// Kills every process in it, and removes it.
    pub(crate) fn destroy(&self) {
        let existing = self.existing();
        for directory in &existing {
            thaw_tree(directory);
        }
        for directory in &existing {
            destroy_tree(directory);
        }
    }
}

/// Removes the directory of this test process, after its last test.
pub(crate) fn remove_suite_directory() {
    for (at, _) in hierarchies() {
        let _absent = fs::remove_dir(at.join(suite_directory().trim_start_matches('/')));
    }
}

fn collect(directory: &Path, pids: &mut Vec<Pid>) {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let pid = |line: &str| line.parse().ok().map(Pid::from_raw);
    pids.extend(text.lines().filter_map(pid).filter(|pid| is_alive(*pid)));
    children(directory).for_each(|child| collect(&child, pids));
}

fn children(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
}

/// What is frozen cannot die.
fn thaw_tree(directory: &Path) {
    let _not_a_freezer = fs::write(directory.join("freezer.state"), "THAWED");
    let _not_version_2 = fs::write(directory.join("cgroup.freeze"), "0");
    children(directory).for_each(|child| thaw_tree(&child));
}

fn destroy_tree(directory: &Path) {
    children(directory).for_each(|child| destroy_tree(&child));
    for _ in 0..500 {
        if fs::remove_dir(directory).is_ok() || !directory.exists() {
            return;
        }
        for line in fs::read_to_string(directory.join("cgroup.procs"))
            .unwrap_or_default()
            .lines()
        {
            if let Ok(pid) = line.parse::<i32>() {
                let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    eprintln!("left behind: {}", directory.display());
}
