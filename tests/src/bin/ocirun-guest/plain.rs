//! PID 1 without systemd: mounts what every Linux has, and reaps.

use std::fs;
use std::os::unix::fs::chown;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, wait};
use ocirun_tests::machine::{SHARE, USER_ID};

use crate::boot::mount_at;

const CGROUPS: &str = "/sys/fs/cgroup";

/// Mounts, lets another process of this program do the job, and reaps until that one ends.
///
/// # Errors
/// What failed, in words: the kernel then panics, and the machine ends.
pub fn run() -> Result<(), String> {
    // The options are systemd's.
    for (kind, at, options) in [
        ("proc", "/proc", ""),
        ("sysfs", "/sys", ""),
        ("cgroup2", CGROUPS, "nsdelegate,memory_recursiveprot"),
        ("securityfs", "/sys/kernel/security", ""),
        ("devpts", "/dev/pts", "gid=5,mode=620,ptmxmode=000"),
        ("tmpfs", "/dev/shm", "mode=1777"),
        ("mqueue", "/dev/mqueue", ""),
    ] {
        mount_at(kind, at, options)?;
    }
    delegate().map_err(|error| format!("delegate a cgroup: {error}"))?;
    nix::unistd::sethostname("machine").map_err(|errno| format!("sethostname: {errno}"))?;
    let loopback = Command::new("/bin/busybox")
        .args(["ip", "link", "set", "lo", "up"])
        .status();
    if !loopback.is_ok_and(|status| status.success()) {
        return Err("set the loopback interface up: busybox failed".to_owned());
    }
    let job = Command::new(format!("{SHARE}/ocirun-guest"))
        .arg("job")
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .spawn()
        .map_err(|error| format!("start the job: {error}"))?;
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw().unsigned_abs() == job.id() => {
                return Err(format!("the job ended with {code}"));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw().unsigned_abs() == job.id() => {
                return Err(format!("the job was ended by {signal}"));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(format!("wait: {errno}")),
        }
    }
}

/// A cgroup that belongs to the ordinary user, with all controllers the kernel has. The files are those that
/// cgroups(7) names under delegation.
fn delegate() -> std::io::Result<()> {
    let controllers = fs::read_to_string(format!("{CGROUPS}/cgroup.controllers"))?;
    let all: Vec<String> = controllers
        .split_whitespace()
        .map(|name| format!("+{name}"))
        .collect();
    let own = crate::job::delegated_cgroup();
    fs::write(format!("{CGROUPS}/cgroup.subtree_control"), all.join(" "))?;
    fs::create_dir(&own)?;
    fs::write(own.join("cgroup.subtree_control"), all.join(" "))?;
    fs::create_dir(own.join("tests"))?;
    for path in [own.clone(), own.join("tests")] {
        chown(&path, Some(USER_ID), Some(USER_ID))?;
        for file in ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            chown(path.join(file), Some(USER_ID), Some(USER_ID))?;
        }
    }
    Ok(())
}
