//! `exec`.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use runtime_core::spec::{self, Process, Spec};
use runtime_core::{ExecOptions, Terminal};

use super::create::{preserved_fds, terminal_for};
use super::{Failure, Invocation, Outcome};
use crate::cli::Flags;
use crate::foreground::{Signals, follow};

/// Starts another process in a container, and stays with it unless detached.
pub(super) fn exec(invocation: &Invocation<'_>) -> Outcome {
    let flags = invocation.flags;
    let container = invocation.container()?;
    let spec = container.spec()?;
    let process = process(flags, &invocation.arguments[1..], &spec)?;
    let is_detached = flags.on("detach");
    let options = ExecOptions {
        terminal: terminal_for(flags.value("console-socket"), process.terminal, is_detached)?,
        pid_file: flags.value("pid-file").map(PathBuf::from),
        pidfd_socket: flags.value("pidfd-socket").map(PathBuf::from),
        preserved_fds: preserved_fds(flags.value("preserve-fds"), 0)?,
        cgroups: flags.values("cgroup").map(str::to_owned).collect(),
        ignore_paused: flags.on("ignore-paused"),
    };
    if is_detached {
        let executed = container.exec(&spec, &process, &options)?;
        executed
            .warnings
            .iter()
            .for_each(|warning| invocation.log.warning(warning));
        return Ok(0);
    }
    let os = |errno: nix::errno::Errno| {
        Failure::File(format!("signalfd(): {} ({errno:?})", errno.desc()))
    };
    let signals = Signals::hold().map_err(os)?;
    let executed = container.exec(&spec, &process, &options)?;
    executed
        .warnings
        .iter()
        .for_each(|warning| invocation.log.warning(warning));
    debug_assert!(
        options.terminal == Terminal::Caller,
        "a process in the foreground has its terminal here"
    );
    follow(&executed.child, executed.master, &signals, None).map_err(os)
}

/// The process of `--process`, or that of the container with what the flags say.
fn process(flags: &Flags, command: &[String], spec: &Spec) -> Result<Process, Failure> {
    let mut process = match flags.value("process") {
        Some(path) => read(path)?,
        None => {
            if command.is_empty() {
                return Err(Failure::Argument("process args cannot be empty".to_owned()));
            }
            let process = spec.process.clone().unwrap_or_default();
            Process {
                args: Some(command.to_vec()),
                terminal: false,
                ..process
            }
        }
    };
    if flags.on("tty") {
        process.terminal = true;
    }
    if let Some(cwd) = flags.value("cwd") {
        cwd.clone_into(&mut process.cwd);
    }
    process
        .env
        .get_or_insert_default()
        .extend(flags.values("env").map(str::to_owned));
    if let Some(user) = flags.value("user") {
        (process.user.uid, process.user.gid) = spec::user_from_text(user, process.user.gid)?;
    }
    for gid in flags.list("additional-gids") {
        let gid = gid
            .parse()
            .map_err(|_| Failure::Argument(format!("--additional-gids {gid:?}: is no group id")))?;
        process
            .user
            .additional_gids
            .get_or_insert_default()
            .push(gid);
    }
    for name in flags.list("cap") {
        process.capabilities.get_or_insert_default().grant(name);
    }
    if flags.value("no-new-privs").is_some() {
        process.no_new_privileges = flags.on("no-new-privs");
    }
    let text = |name| {
        flags
            .value(name)
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
    };
    process.apparmor_profile = text("apparmor").or(process.apparmor_profile);
    process.selinux_label = text("process-label").or(process.selinux_label);
    Ok(process)
}

fn read(path: &str) -> Result<Process, Failure> {
    let mut json = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(spec::MAX_CONFIG_BYTES + 1).read_to_end(&mut json));
    let length = read.map_err(|error| {
        Failure::File(format!("--process {path:?}: {}", crate::format::io(&error)))
    })?;
    if length as u64 > spec::MAX_CONFIG_BYTES {
        let text = format!(
            "--process {path:?}: more than the {} bytes that are read",
            spec::MAX_CONFIG_BYTES
        );
        return Err(Failure::File(text));
    }
    Ok(spec::process_from_json(&json)?)
}
