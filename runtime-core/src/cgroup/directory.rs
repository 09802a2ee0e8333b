//! Directories and files of a cgroup hierarchy.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkdir};

use super::{EMPTYING, MOUNT, v1, v2};
use crate::error::{Call, Error, ErrorKind, Result};

/// Opens a cgroup for programs to be attached to it, which `O_PATH` is not enough for.
pub(super) fn open_for_bpf(path: &Path) -> Result<File> {
    File::open(path).call(|| format!("open({path:?}, O_DIRECTORY)"))
}

/// Joins absolute paths as if each were relative.
pub(super) fn below(base: &Path, parts: &[&str]) -> PathBuf {
    let mut path = base.to_owned();
    for part in parts {
        path.extend(
            part.split('/')
                .filter(|name| !name.is_empty() && *name != "."),
        );
    }
    path
}

/// Makes a directory and those above it, which others may remove meanwhile while nothing is in them.
pub(super) fn make_directories(path: &Path) -> Result<()> {
    /// How often that is borne.
    const MOST: usize = 64;
    let is_gone = |made: &Result<()>| {
        let error = made.as_ref().err();
        error.is_some_and(|error| error.errno() == Some(Errno::ENOENT))
    };
    let tries = std::iter::repeat_with(|| make_once(path));
    let mut tries = tries.take(MOST).skip_while(is_gone);
    tries.next().unwrap_or_else(|| make_once(path))
}

fn make_once(path: &Path) -> Result<()> {
    match mkdir(path, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(Errno::ENOENT) => {
            let Some(parent) = path.parent() else {
                return Ok(());
            };
            make_ancestors(parent)?;
            mkdir(path, Mode::from_bits_truncate(0o755)).call(|| format!("mkdir({path:?}, 0755)"))
        }
        Err(errno) => Err(Error::os(format!("mkdir({path:?}, 0755)"), errno)),
    }
}

/// Makes the cgroups above a container's own, which stay: others may be below them too.
pub(super) fn make_ancestors(path: &Path) -> Result<()> {
    match mkdir(path, Mode::from_bits_truncate(0o755)) {
        Ok(()) => {}
        Err(Errno::EEXIST) => return Ok(()),
        Err(Errno::ENOENT)
            if path
                .parent()
                .is_some_and(|parent| parent != Path::new(MOUNT)) =>
        {
            make_ancestors(path.parent().unwrap_or(path))?;
            return make_ancestors(path);
        }
        Err(errno) => return Err(Error::os(format!("mkdir({path:?}, 0755)"), errno)),
    }
    // By a file that version 2, where nothing need be handed down, does not have.
    if path.join("cpuset.cpu_exclusive").exists() {
        v1::inherit_cpuset(path)
    } else {
        Ok(())
    }
}

pub(super) fn refuse_used(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let mut pids = Vec::new();
    collect_processes(path, &mut pids)?;
    if !pids.is_empty() {
        let text = format!(
            "container's cgroup is not empty: {} process(es) found in {path:?}",
            pids.len()
        );
        return Err(Error::new(ErrorKind::AlreadyExists, text));
    }
    let state = fs::read(path.join("freezer.state")).unwrap_or_default();
    if state.starts_with(b"FROZEN") || state.starts_with(b"FREEZING") || v2::is_frozen(path) {
        let text = format!("container's cgroup unexpectedly frozen: {path:?}");
        return Err(Error::new(ErrorKind::AlreadyExists, text));
    }
    Ok(())
}

pub(super) fn collect_processes(directory: &Path, pids: &mut Vec<Pid>) -> Result<()> {
    let file = directory.join("cgroup.procs");
    match fs::read_to_string(&file) {
        Ok(text) => pids.extend(
            text.lines()
                .filter_map(|line| line.parse().ok())
                .map(Pid::from_raw),
        ),
        Err(error) if is_gone(&error) => return Ok(()),
        Err(error) => return Err(error).call(|| format!("read({file:?})")),
    }
    for sub in sub_directories(directory) {
        collect_processes(&sub, pids)?;
    }
    Ok(())
}

pub(super) fn sub_directories(directory: &Path) -> Vec<PathBuf> {
    // The number of links of a cgroup's directory tells whether any is below it.
    let has_some = fs::metadata(directory)
        .is_ok_and(|metadata| std::os::unix::fs::MetadataExt::nlink(&metadata) > 2);
    if !has_some {
        return Vec::new();
    }
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

pub(super) fn remove_tree(directory: &Path) -> Result<()> {
    let deadline = Instant::now() + EMPTYING;
    let mut pause = Duration::from_micros(100);
    loop {
        match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                let subs = sub_directories(directory);
                for sub in &subs {
                    remove_tree(sub)?;
                }
                // A process that has just ended leaves its cgroup a moment later.
                if subs.is_empty() {
                    if Instant::now() > deadline {
                        return Err(error).call(|| format!("rmdir({directory:?})"));
                    }
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(20));
                }
            }
            Err(error) => return Err(error).call(|| format!("rmdir({directory:?})")),
        }
    }
}

pub(super) fn open_directory(path: &Path) -> Result<OwnedFd> {
    use nix::fcntl::{OFlag, open};
    open(
        path,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .call(|| format!("open({path:?}, O_PATH|O_DIRECTORY)"))
}

pub(super) fn open_write(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .call(|| format!("open({path:?}, O_WRONLY)"))
}

/// Writes a value in one call, as cgroup files want it.
pub(super) fn write(path: &Path, value: &str) -> Result<()> {
    open_write(path)?
        .write_all(value.as_bytes())
        .call(|| format!("write({path:?}, {value:?})"))
}

pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

/// Whether someone without the rights to cgroups tried to make one.
pub(super) fn is_forbidden(error: &Error) -> bool {
    matches!(
        error.errno(),
        Some(Errno::EACCES | Errno::EPERM | Errno::EROFS)
    )
}
