//! Programs run in containers, whose output is the answer.

use crate::api::{ContainerState, ExecSyncResponse};
use crate::container::word;
use crate::error::{Context, Error, Kind, Result, invalid};
use crate::images::blocking;
use crate::pods::Pods;
use crate::spec::exec_process;
use ocirun_shim::wire::{ExecOutput, ExecRequest};
use std::sync::Arc;

/// Bytes of each stream that are kept (CVE-2022-1708).
const MAX_OUTPUT: u64 = 16 << 20;

/// The longest time, in seconds.
const LONGEST: i64 = 10 * 365 * 24 * 3600;

/// Refuses what is no command.
pub(crate) fn check_command(command: &[String]) -> Result<()> {
    if command.first().is_none_or(String::is_empty) {
        return Err(invalid("cmd", "is empty"));
    }
    if command.iter().any(|word| word.contains('\0')) {
        return Err(invalid("cmd", "has a NUL byte"));
    }
    Ok(())
}

impl Pods {
    /// Runs a program in a container and returns what it prints.
    ///
    /// # Errors
    /// `Invalid` with the field's name, `NotFound`, `WrongState` for a container that does not run; `Deadline` if
    /// `seconds` (0 for no limit) are over, and the program is killed.
    pub async fn exec_sync(
        self: &Arc<Self>,
        id: &str,
        command: Vec<String>,
        seconds: i64,
    ) -> Result<ExecSyncResponse> {
        check_command(&command)?;
        if !(0..=LONGEST).contains(&seconds) {
            return Err(invalid(
                "timeout",
                format!("{seconds} is not between 0 and {LONGEST}"),
            ));
        }
        let container = self.container(id, "container_id")?;
        let state = container.now().state;
        if state != ContainerState::ContainerRunning {
            let text = format!("container {} is not running: {}", container.id, word(state));
            return Err(Error::new(Kind::WrongState, text));
        }
        let path = container.dir().join("config.json");
        let process = blocking(move || {
            let config = std::fs::read(&path).call(|| format!("read {path:?}"))?;
            exec_process(&config, &command, false)
        });
        let request = ExecRequest {
            id: container.id.clone(),
            process: process.await?,
            timeout_ms: seconds.cast_unsigned().saturating_mul(1000),
            output_limit: MAX_OUTPUT,
        };
        let shim = self.shim_of(&container.pod).await?;
        let mut messages = shim.stream("Exec", &request).await?;
        let mut answer = ExecSyncResponse::default();
        while let Some(part) = messages.next::<ExecOutput>().await? {
            answer.stdout.extend(part.stdout);
            answer.stderr.extend(part.stderr);
            if let Some(exit) = part.exit {
                answer.exit_code = exit.code;
            }
        }
        Ok(answer)
    }
}
