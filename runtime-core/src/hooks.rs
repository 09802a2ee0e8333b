//! Running hooks: programs of the caller that get the container's state on their standard input.
//!
//! See config.md "POSIX-platform Hooks".

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollTimeout;
use nix::sched::CloneFlags;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout};
use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::kernel::clone::{Parent, Side, fork_into};
use crate::kernel::fd::{CloseHow, close_from};
use crate::kernel::{exec, pidfd, process};
use crate::plan::hooks::Hook;
use crate::state::Status;

/// Most bytes of a hook's output that an error quotes.
const MOST_QUOTED: u64 = 1024;

/// What hooks are told of the container, runtime.md "State".
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HookState {
    pub(crate) oci_version: String,
    pub(crate) id: String,
    pub(crate) status: Status,
    #[serde(skip_serializing_if = "is_none")]
    pub(crate) pid: i32,
    pub(crate) bundle: PathBuf,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_none(pid: &i32) -> bool {
    *pid == 0
}

/// How one hook failed.
#[derive(Debug)]
pub(crate) enum HookFailure {
    /// It could not be run.
    Os(&'static str, Errno),
    /// It ended with this code, having printed this.
    Exited(i32, String),
    /// This signal ended it.
    Signalled(i32, String),
    /// It was still running after this long, and was killed.
    TimedOut(Duration),
}

impl fmt::Display for HookFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = |output: &str| {
            if output.is_empty() {
                String::new()
            } else {
                format!(": {output}")
            }
        };
        match self {
            Self::Os(call, errno) => write!(f, "{call}: {}", crate::error::describe(*errno)),
            Self::Exited(code, output) => write!(f, "exit status {code}{}", quote(output)),
            Self::Signalled(signal, output) => write!(f, "signal {signal}{}", quote(output)),
            Self::TimedOut(limit) => write!(f, "still running after {} s, killed", limit.as_secs()),
        }
    }
}

/// Runs `hooks` in order, up to the first that fails.
///
/// # Errors
/// `Hook`, with the name of the point, the number of the hook and what it printed.
pub(crate) fn run(hooks: &[Hook], point: &str, state: &HookState) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, state).map_err(|failure| {
            Error::new(
                ErrorKind::Hook,
                format!(
                    "error running {point} hook #{}: {:?}: {failure}",
                    index + 1,
                    hook.path
                ),
            )
        })?;
    }
    Ok(())
}

/// Runs one hook to its end.
pub(crate) fn run_one(hook: &Hook, state: &HookState) -> std::result::Result<(), HookFailure> {
    let failed = |call| move |errno| HookFailure::Os(call, errno);
    let input = memory(state_json(state).as_bytes()).map_err(failed("memfd_create()"))?;
    let output = memfd_create(c"hook", MFdFlags::MFD_CLOEXEC).map_err(failed("memfd_create()"))?;
    let side = fork_into(CloneFlags::empty(), None, Parent::Caller).map_err(failed("clone3()"))?;
    let (pid, pidfd) = match side {
        Side::Parent(pid, pidfd) => (pid, pidfd),
        Side::Child => become_hook(hook, &input, &output),
    };
    wait(pid, &pidfd, hook.timeout, output)
}

fn state_json(state: &HookState) -> String {
    serde_json::to_string(state).unwrap_or_default()
}

/// A file in memory that begins with `bytes`, to be read from its beginning.
fn memory(bytes: &[u8]) -> nix::Result<OwnedFd> {
    let mut file = File::from(memfd_create(c"state", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .map_err(|_| Errno::EIO)?;
    Ok(file.into())
}

fn become_hook(hook: &Hook, input: &OwnedFd, output: &OwnedFd) -> ! {
    let streams = dup2_stdin(input)
        .and_then(|()| dup2_stdout(output))
        .and_then(|()| dup2_stderr(output));
    let _ = close_from(3, CloseHow::OnExec);
    if streams.is_ok() && crate::init::identity::restore_signals().is_ok() {
        let errno = exec::execve(&hook.path, &hook.args, &hook.env);
        let _ = nix::unistd::write(
            output,
            format!("execve: {}", crate::error::describe(errno)).as_bytes(),
        );
    }
    process::exit_now(127)
}

fn wait(
    pid: Pid,
    pidfd: &OwnedFd,
    limit: Option<Duration>,
    output: OwnedFd,
) -> std::result::Result<(), HookFailure> {
    let failed = |call| move |errno| HookFailure::Os(call, errno);
    if let Some(limit) = limit {
        let deadline = Instant::now() + limit;
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        if !pidfd::wait_end(pidfd.as_fd(), timeout).map_err(failed("poll(pidfd)"))? {
            let _ = pidfd::send_signal(pidfd.as_fd(), libc::SIGKILL);
            let _ = waitpid(pid, None);
            return Err(HookFailure::TimedOut(limit));
        }
    }
    loop {
        match waitpid(pid, None) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(HookFailure::Os("waitpid()", errno)),
            Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
            Ok(WaitStatus::Exited(_, code)) => {
                return Err(HookFailure::Exited(code, printed(output)));
            }
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                return Err(HookFailure::Signalled(signal as i32, printed(output)));
            }
            Ok(_) => {}
        }
    }
}

/// The beginning of what a hook printed, as one line.
fn printed(output: OwnedFd) -> String {
    let mut file = File::from(output);
    let mut bytes = Vec::new();
    if file.seek(SeekFrom::Start(0)).is_ok() {
        drop(file.take(MOST_QUOTED).read_to_end(&mut bytes));
    }
    String::from_utf8_lossy(&bytes).trim().replace('\n', " ")
}
