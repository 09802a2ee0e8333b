//! The agent of a seccomp filter with `SCMP_ACT_NOTIFY`: it gets the filter's listener before the program runs.
//!
//! See config-linux.md "The Container Process State" and seccomp_unotify(2).

use std::os::fd::{AsFd, OwnedFd, RawFd};

use serde::Serialize;

use super::Child;
use crate::error::{Call, Context, Result};
use crate::files;
use crate::hooks::HookState;
use crate::kernel::pidfd;
use crate::plan::seccomp::Program;
use crate::sync::{Channel, Message, send_fds};

/// A connection to an agent.
#[derive(Debug)]
pub(super) struct Agent {
    socket: OwnedFd,
    metadata: Option<String>,
}

/// What an agent is told.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'a str,
    /// Names of the descriptors that come along.
    fds: [&'static str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a str>,
    state: &'a HookState,
}

impl Agent {
    /// Connects to the agent of `filter`, where it has one. Callers search for the words of the error.
    pub(super) fn of(filter: Option<&Program>) -> Result<Option<Self>> {
        let Some(agent) = filter.and_then(Program::agent) else {
            return Ok(None);
        };
        let socket = files::connect_to(&agent.path)
            .context(|| "failed to connect with seccomp agent specified in the seccomp profile")?;
        Ok(Some(Self {
            socket,
            metadata: agent.metadata.clone(),
        }))
    }

    /// Gives the descriptor `listener` of `process` to the agent, and lets the process go on.
    pub(super) fn give(
        &self,
        process: &Child,
        listener: RawFd,
        state: &HookState,
        channel: &Channel,
    ) -> Result<()> {
        let listener = pidfd::copy_of(process.pidfd.as_fd(), listener)
            .call(|| format!("pidfd_getfd({}, {listener})", process.pid))
            .context(|| "linux.seccomp")?;
        let message = ProcessState {
            oci_version: &state.oci_version,
            fds: ["seccompFd"],
            pid: process.pid.as_raw(),
            metadata: self.metadata.as_deref(),
            state,
        };
        let message = serde_json::to_vec(&message).unwrap_or_default();
        send_fds(&self.socket, &message, &[listener.as_fd()])
            .call(|| "sendmsg(seccomp agent)")
            .context(|| "linux.seccomp.listenerPath")?;
        // A process that has died by now is seen when nothing more comes from it.
        let _ = channel.send(Message::ListenerTaken);
        Ok(())
    }
}
