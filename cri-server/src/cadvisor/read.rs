//! Facts that no cgroup tells: of the file system, and of processes one by one.

use std::path::Path;

/// Most processes of a container that are looked at one by one.
const MOST: usize = 4096;

/// The file system of a writable layer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Files {
    pub(super) inodes: u64,
    pub(super) inodes_free: u64,
    pub(super) bytes: u64,
    pub(super) used: u64,
}

/// The file system that a layer is on, and what the layer takes of it.
pub(super) fn files(layer: &Path) -> Files {
    let Ok(stat) = rustix::fs::statvfs(layer) else {
        return Files::default();
    };
    Files {
        inodes: stat.f_files,
        inodes_free: stat.f_ffree,
        bytes: stat.f_blocks * stat.f_frsize,
        used: crate::stats::measure(&layer.join("upper")).0,
    }
}

/// The processes of a container.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Processes {
    pub(super) count: u64,
    pub(super) descriptors: u64,
    pub(super) sockets: u64,
    pub(super) oom_kills: u64,
    /// The soft limit of open files of the first.
    pub(super) open_files: Option<u64>,
}

/// Looks at the processes in the cgroup of a container's first process. Those that end meanwhile are not there.
pub(super) fn processes(first: i32) -> Processes {
    let mut found = Processes::default();
    let text = |path: String| std::fs::read_to_string(path).unwrap_or_default();
    let table = text(format!("/proc/{first}/cgroup"));
    let pids = text(format!("{}/cgroup.procs", cgroup(&table, "pids")));
    for pid in pids.lines().take(MOST) {
        found.count += 1;
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd"));
        for entry in entries.into_iter().flatten().flatten() {
            found.descriptors += 1;
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            found.sockets += u64::from(target.to_string_lossy().starts_with("socket:"));
        }
    }
    let memory = cgroup(&table, "memory");
    let events =
        text(format!("{memory}/memory.events")) + &text(format!("{memory}/memory.oom_control"));
    let kills = events
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "));
    found.oom_kills = kills
        .and_then(|kills| kills.trim().parse().ok())
        .unwrap_or(0);
    found.open_files = open_files(&text(format!("/proc/{first}/limits")));
    found
}

/// Where the cgroup of a controller is shown, by the table of proc_pid_cgroup(5).
fn cgroup(table: &str, controller: &str) -> String {
    let mut whole = None;
    for line in table.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        if controllers.split(',').any(|known| known == controller) {
            return format!("/sys/fs/cgroup/{controller}{path}");
        }
        if controllers.is_empty() {
            whole = Some(format!("/sys/fs/cgroup{path}"));
        }
    }
    whole.unwrap_or_default()
}

/// The soft limit in the table of proc_pid_limits(5).
fn open_files(table: &str) -> Option<u64> {
    let line = table
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// The name of a block device, or its numbers.
pub(super) fn device(major: &str, minor: &str) -> String {
    let link = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}")).unwrap_or_default();
    match link.file_name() {
        Some(name) => format!("/dev/{}", name.to_string_lossy()),
        None => format!("{major}:{minor}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        let v1 = "5:pids:/a/b\n4:cpu,memory:/c\n0::/\n";
        assert_eq!(cgroup(v1, "pids"), "/sys/fs/cgroup/pids/a/b");
        assert_eq!(cgroup(v1, "memory"), "/sys/fs/cgroup/memory/c");
        assert_eq!(cgroup("0::/x.slice\n", "pids"), "/sys/fs/cgroup/x.slice");
        assert_eq!(cgroup("", "pids"), "");
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096  files\n";
        assert_eq!(open_files(limits), Some(1024));
        assert_eq!(open_files(""), None);
    }
}
