//! A container as the shim knows it.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

use nix::sys::wait::WaitStatus;
use ocirun_shim::files::ExitFile;
use ocirun_shim::wire::{ContainerState, ContainerStatus, Exit};
use serde::{Deserialize, Serialize};

use crate::connection::CallId;
use crate::failure::Failure;
use crate::keeper::Keeper;
use crate::reactor::Token;

/// What the shim writes of a container beside what the runtime does: `shim.json` in its directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerFile {
    pub(crate) stage: Stage,
    pub(crate) bundle: PathBuf,
    pub(crate) log: Option<PathBuf>,
    pub(crate) stdin: bool,
    pub(crate) log_line_limit: usize,
    pub(crate) terminal: bool,
    /// Whether the end of its first process is the end of all.
    pub(crate) own_pids: bool,
    pub(crate) pid: i32,
    /// Nanoseconds since 1970.
    pub(crate) created_at: i64,
    /// Nanoseconds since 1970; 0 for not yet. On disk before the program is let run.
    pub(crate) started_at: i64,
    /// Groups of execs that have ended and left processes running: those are the container's.
    #[serde(default)]
    pub(crate) left: Vec<String>,
}

/// How far a container had come when its file was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Stage {
    /// Nobody has been told that there is one.
    Creating,
    /// Its creation was answered.
    Created,
}

/// What is happening to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Being created, by a job, and then until its log is open.
    Creating,
    /// Its program waits.
    Created,
    /// Its program is being let run, by a job.
    Starting,
    /// Its program runs.
    Running,
    /// Its first process has ended: others are ended, and the log is finished.
    Ending,
    /// All is over, and told.
    Exited,
    /// Being removed, by a job.
    Deleting,
}

/// How a first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) signal: i32,
    pub(crate) unknown: bool,
}

impl Ended {
    /// Nobody can tell.
    pub(crate) const UNKNOWN: Self = Self {
        code: 255,
        signal: 0,
        unknown: true,
    };

    /// As wait(2) tells it; none where the process only stopped.
    pub(crate) fn of(status: WaitStatus) -> Option<Self> {
        match status {
            WaitStatus::Exited(_, code) => Some(Self {
                code,
                signal: 0,
                unknown: false,
            }),
            WaitStatus::Signaled(_, signal, _) => Some(Self::by(signal as i32)),
            _ => None,
        }
    }

    /// As wait(2) tells it, in a number.
    pub(crate) fn of_raw(status: i32) -> Self {
        match status & 0x7f {
            0 => Self {
                code: status >> 8 & 0xff,
                signal: 0,
                unknown: false,
            },
            signal => Self::by(signal),
        }
    }

    fn by(signal: i32) -> Self {
        Self {
            code: 128 + signal,
            signal,
            unknown: false,
        }
    }
}

/// Who waits for what.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) create: Vec<CallId>,
    pub(crate) start: Vec<CallId>,
    pub(crate) stop: Vec<CallId>,
    pub(crate) delete: Vec<CallId>,
    pub(crate) reopen: VecDeque<CallId>,
}

/// A container.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) file: ContainerFile,
    pub(crate) phase: Phase,
    /// Its first process; none before it is known, and where an adopted one is gone.
    pub(crate) pidfd: Option<OwnedFd>,
    /// For a first process that is not a child of this one.
    pub(crate) adopted: Option<Token>,
    /// Since when such a one is known to have ended, while nobody can tell how.
    pub(crate) gone: Option<Instant>,
    /// How its first process ended, and when, once that is known.
    pub(crate) ended: Option<(Ended, i64)>,
    /// Master of its terminal.
    pub(crate) master: Option<OwnedFd>,
    /// FIFOs of its output, held so that what is in them outlives its keeper.
    pub(crate) outputs: Vec<OwnedFd>,
    /// Where its input is written to, until a keeper has it.
    pub(crate) input: Option<OwnedFd>,
    pub(crate) keeper: Option<(Keeper, Token)>,
    pub(crate) exit: Option<ExitFile>,
    pub(crate) waiting: Waiting,
    /// Why a creation is being undone.
    pub(crate) failed: Option<Failure>,
}

impl Container {
    pub(crate) fn new(file: ContainerFile, phase: Phase) -> Self {
        Self {
            file,
            phase,
            pidfd: None,
            adopted: None,
            gone: None,
            ended: None,
            master: None,
            outputs: Vec::new(),
            input: None,
            keeper: None,
            exit: None,
            waiting: Waiting::default(),
            failed: None,
        }
    }

    /// Whether its first process lives, as far as is known.
    pub(crate) fn has_process(&self) -> bool {
        self.pidfd.is_some() && self.ended.is_none()
    }

    /// What is told of the container `id`.
    pub(crate) fn state(&self, id: &str) -> ContainerState {
        let status = match self.phase {
            Phase::Creating => ContainerStatus::Unspecified,
            Phase::Created | Phase::Starting => ContainerStatus::Created,
            // Its end is told once all of it is over.
            Phase::Running | Phase::Ending => ContainerStatus::Running,
            Phase::Exited | Phase::Deleting => ContainerStatus::Exited,
        };
        ContainerState {
            id: id.to_owned(),
            status: status as i32,
            pid: if self.ended.is_none() {
                self.file.pid
            } else {
                0
            },
            created_at: self.file.created_at,
            started_at: self.file.started_at,
            exit: self
                .exit
                .as_ref()
                .filter(|_| matches!(self.phase, Phase::Exited | Phase::Deleting))
                .map(told),
        }
    }
}

/// An end as it is told.
pub(crate) fn told(exit: &ExitFile) -> Exit {
    Exit {
        code: exit.code,
        signal: exit.signal,
        oom: exit.oom,
        exited_at: exit.exited_at,
        unknown: exit.unknown,
        pid: exit.pid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends() {
        for (raw, code, signal) in [(0, 0, 0), (7 << 8, 7, 0), (9, 137, 9), (0x80 | 11, 139, 11)] {
            let ended = Ended::of_raw(raw);
            assert_eq!((ended.code, ended.signal), (code, signal), "{raw}");
        }
    }
}
