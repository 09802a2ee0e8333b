//! Letting a container's program run.

use std::os::fd::AsFd;

use ocirun_shim::wire::{Code, EventKind};
use runtime_core::kernel::pidfd;
use runtime_core::{Container as Runtime, ErrorKind, Root};

use super::{Shim, Task};
use crate::connection::CallId;
use crate::container::Phase;
use crate::disk::{self, now};
use crate::failure::{Call, Failure, Result};
use crate::job::{Answer, Job};

impl Shim {
    /// Begins to start a container. A second request for one on its way waits for the same end.
    pub(super) fn start(&mut self, call: CallId, id: &str) -> Result<()> {
        let is_stopped = self.pod.is_stopped();
        let file = self.pod.directory().shim_file(id);
        let root = self.root.path().to_owned();
        let container = self.container(id)?;
        let wrong = |text: &str| Err(Failure::new(Code::FailedPrecondition, text));
        match container.phase {
            Phase::Starting => {
                container.waiting.start.push(call);
                return Ok(());
            }
            Phase::Created if is_stopped => {
                return wrong("the pod was stopped: nothing is started in it any more");
            }
            Phase::Created => {}
            Phase::Creating => return wrong("cannot start a container that is being created"),
            Phase::Running => return wrong("cannot start an already running container"),
            Phase::Ending | Phase::Exited | Phase::Deleting => {
                return wrong("cannot start a container that has stopped");
            }
        }
        // Before it runs: whoever finds it running knows since when.
        container.file.started_at = now();
        disk::write_json(&file, &container.file)?;
        container.phase = Phase::Starting;
        container.waiting.start.push(call);
        let name = id.to_owned();
        let job = Job::start([], || {
            Runtime::open_exclusive(&Root::new(root), &name)?.start()?;
            Ok(Answer::default())
        });
        self.begin(job, Task::Start(id.to_owned()));
        Ok(())
    }

    /// A start was begun by a shim that was killed at it: nobody can see whether it came to let the program run, and
    /// once more does no harm.
    pub(super) fn finish_start(&mut self, id: &str) {
        let root = self.root.path().to_owned();
        let name = id.to_owned();
        let job = Job::start([], || {
            let started = Runtime::open_exclusive(&Root::new(root), &name)?.start();
            match started {
                Err(error) if !matches!(error.kind(), ErrorKind::WrongState(_)) => {
                    Err(error.into())
                }
                _ => Ok(Answer::default()),
            }
        });
        self.begin(job, Task::FinishStart(id.to_owned()));
    }

    /// The job has ended.
    pub(super) fn started(&mut self, id: &str, answer: Result<Answer>) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let calls = std::mem::take(&mut container.waiting.start);
        match answer {
            Ok(_) => {
                container.phase = Phase::Running;
                self.tell(EventKind::Started, id);
                self.answer_all(calls, &Ok(Vec::new()));
            }
            Err(failure) => {
                container.phase = Phase::Created;
                container.file.started_at = 0;
                let (file, path) = (container.file.clone(), self.pod.directory().shim_file(id));
                if let Err(failure) = disk::write_json(&path, &file) {
                    self.log(&failure.text);
                }
                self.answer_all(calls, &Err(failure));
            }
        }
        self.settle(id);
    }

    /// Sends a signal; SIGKILL to one that shares its PID namespace goes to all of it, as does one that says so.
    pub(super) fn kill(&mut self, call: CallId, id: &str, signal: i32, all: bool) -> Result<()> {
        let root = self.root.path().to_owned();
        let container = self.container(id)?;
        if !matches!(
            container.phase,
            Phase::Created | Phase::Starting | Phase::Running
        ) || !container.has_process()
        {
            return Err(Failure::new(
                Code::FailedPrecondition,
                "container not running",
            ));
        }
        if !(1..=64).contains(&signal) {
            return Err(Failure::argument(
                "signal",
                format!("{signal} is no signal"),
            ));
        }
        if signal != libc::SIGKILL && !all {
            if let Some(pidfd) = &container.pidfd {
                pidfd::send_signal(pidfd.as_fd(), signal)
                    .call(|| format!("pidfd_send_signal({}, {signal})", container.file.pid))?;
            }
            self.answer(call, Ok(Vec::new()));
            return Ok(());
        }
        let name = id.to_owned();
        let job = Job::start([], || {
            let container = Runtime::open(&Root::new(root), &name)?;
            if all {
                container.kill_all(signal)?;
            } else {
                container.kill(signal)?;
            }
            Ok(Answer::default())
        });
        self.begin(job, Task::Kill(call));
        Ok(())
    }
}
