//! Hooks that run inside the container.

use nix::errno::Errno;
use nix::unistd::getpid;

use super::{Result, Step};
use crate::hooks::{HookFailure, HookState, run_one};
use crate::plan::hooks::Hook;
use crate::sync::Failure;

/// Runs `hooks` in order, up to the first that fails.
pub(super) fn run(hooks: &[Hook], state: &HookState, step: Step) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    // As the container sees it: the host's number means nothing in here.
    let state = HookState {
        pid: getpid().as_raw(),
        ..state.clone()
    };
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, &state).map_err(|failure| {
            let errno = match failure {
                HookFailure::Os(_, errno) => errno,
                HookFailure::TimedOut(_) => Errno::ETIMEDOUT,
                _ => Errno::ECHILD,
            };
            Failure::new(step, index, failure, errno)
        })?;
    }
    Ok(())
}
