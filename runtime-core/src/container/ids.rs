//! The id maps of a new user namespace, see user_namespaces(7).

use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::unistd::{Pid, getegid, geteuid};

use super::create::write_proc;
use crate::error::{Call, Context, Error, ErrorKind, Result};
use crate::spec::IdMapping;

/// Writes the maps of the user namespace of `pid`. Who has no privilege maps its own ids, and others by newuidmap(1)
/// and newgidmap(1), as far as /etc/subuid and /etc/subgid let it.
///
/// # Errors
/// Those of writing; what the two programs say.
pub(crate) fn map(pid: Pid, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    if geteuid().is_root() {
        write_map(pid, "uid_map", uids).context(|| "linux.uidMappings")?;
        return write_map(pid, "gid_map", gids).context(|| "linux.gidMappings");
    }
    let is_only = |map: &[IdMapping], own: u32| matches!(map, [range] if range.size == 1 && range.host_id == own);
    map_without_root(pid, uids, ("uid_map", "newuidmap")).context(|| "linux.uidMappings")?;
    if is_only(gids, getegid().as_raw()) {
        // Without privilege a group map is only taken from who can no longer drop groups.
        write_proc(pid, "setgroups", "deny").context(|| "linux.gidMappings")?;
    }
    map_without_root(pid, gids, ("gid_map", "newgidmap")).context(|| "linux.gidMappings")
}

fn write_map(pid: Pid, file: &str, map: &[IdMapping]) -> Result<()> {
    let text: String = map
        .iter()
        .map(|range| format!("{} {} {}\n", range.container_id, range.host_id, range.size))
        .collect();
    write_proc(pid, file, &text)
}

fn map_without_root(pid: Pid, map: &[IdMapping], (file, program): (&str, &str)) -> Result<()> {
    match write_map(pid, file, map) {
        Err(error) if error.errno() == Some(Errno::EPERM) => map_by(program, pid, map),
        written => written,
    }
}

fn map_by(program: &str, pid: Pid, map: &[IdMapping]) -> Result<()> {
    let numbers = map
        .iter()
        .flat_map(|range| [range.container_id, range.host_id, range.size]);
    let mut command = Command::new(program);
    command
        .arg(pid.to_string())
        .args(numbers.map(|number| number.to_string()))
        .stdin(Stdio::null());
    let output = command.output();
    let missing = |error: Error| {
        if error.errno() == Some(Errno::ENOENT) {
            error.also("without privilege only the caller's own id can be mapped, and others by this program")
        } else {
            error
        }
    };
    let output = output
        .call(|| format!("exec {program:?}"))
        .map_err(missing)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let text = format!("{program}: {}", said.trim().replace('\n', "; "));
    Err(Error::new(ErrorKind::Os(Errno::EPERM), text))
}
