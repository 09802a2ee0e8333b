//! `restore`.

use std::path::{Path, PathBuf};

use runtime_core::{Bundle, Container, Created, RestoreOptions};

use super::create::{os, plan, terminal_for};
use super::{Failure, Invocation, Outcome};
use crate::foreground::{Signals, follow};

/// Makes a container again from files: until its end, or detached.
pub(super) fn restore(invocation: &Invocation<'_>) -> Outcome {
    if invocation.flags.on("detach") {
        make(invocation)?;
        return Ok(0);
    }
    if !invocation.flags.on("no-subreaper") {
        nix::sys::prctl::set_child_subreaper(true)
            .map_err(|errno| os("prctl(PR_SET_CHILD_SUBREAPER)", errno))?;
    }
    let signals = Signals::hold().map_err(|errno| os("signalfd()", errno))?;
    let created = make(invocation)?;
    // From here on others may pause, kill and delete it.
    created.container.unlock()?;
    let code = follow(&created.init, created.master, &signals, None)
        .map_err(|errno| os("poll()", errno))?;
    drop(created.container);
    if let Err(error) = Container::delete_by_force(&invocation.root()?, invocation.id()) {
        let text = format!("delete {:?}: {error}", invocation.id());
        invocation.log.warning(&text);
    }
    Ok(code)
}

fn make(invocation: &Invocation<'_>) -> Result<Created, Failure> {
    let flags = invocation.flags;
    runtime_core::check_id(invocation.id())?;
    let criu = super::checkpoint::criu(invocation)?;
    let path = |name: &str| -> Result<Option<PathBuf>, Failure> {
        let written = flags.value(name).filter(|path| !path.is_empty());
        let absolute = written.map(std::path::absolute).transpose();
        absolute
            .map_err(|error| Failure::Argument(format!("--{name}: {}", crate::format::io(&error))))
    };
    let bundle = flags.value("bundle").filter(|bundle| !bundle.is_empty());
    let bundle = Bundle::open(Path::new(bundle.unwrap_or(".")))?;
    let plan = plan(invocation, &bundle)?;
    let socket = flags.value("console-socket");
    let options = RestoreOptions {
        criu,
        terminal: terminal_for(socket, plan.terminal(), flags.on("detach"))?,
        pid_file: path("pid-file")?,
        pidfd_socket: path("pidfd-socket")?,
        lsm_profile: flags.value("lsm-profile").map(str::to_owned),
        lsm_mount_context: flags.value("lsm-mount-context").map(str::to_owned),
    };
    let root = invocation.root()?;
    Ok(Container::restore(
        &root,
        invocation.id(),
        &bundle,
        &plan,
        &options,
    )?)
}
