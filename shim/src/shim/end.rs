//! The end of containers: asked for, seen, recorded and told, in this order.

use std::os::fd::AsFd;
use std::time::Duration;

use ocirun_shim::files::ExitFile;
use ocirun_shim::wire::{Code, EventKind};
use prost::Message;
use runtime_core::kernel::pidfd;
use runtime_core::{Container as Runtime, ErrorKind, Root};

use super::{Shim, Task};
use crate::connection::CallId;
use crate::container::{Ended, Phase, told};
use crate::disk::{self, now};
use crate::failure::{Failure, Result};
use crate::job::{Answer, Job};
use crate::keeper::Word;
use crate::reactor::Timer;

/// How long an end is not told because its log is not written: longer only where the disk of the log stalls.
const WRITING: Duration = Duration::from_secs(2);

impl Shim {
    /// Begins to end a container: by `signal`, and by SIGKILL for all of it after `deadline`.
    pub(super) fn stop(
        &mut self,
        call: CallId,
        id: &str,
        signal: i32,
        deadline: Duration,
    ) -> Result<()> {
        let container = self.container(id)?;
        let signal = match signal {
            0 => libc::SIGTERM,
            signal if (1..=64).contains(&signal) => signal,
            signal => {
                return Err(Failure::argument(
                    "signal",
                    format!("{signal} is no signal"),
                ));
            }
        };
        match container.phase {
            Phase::Creating => {
                let text = "cannot stop a container that is being created";
                return Err(Failure::new(Code::FailedPrecondition, text));
            }
            Phase::Exited | Phase::Deleting => {
                let exit = container.exit.as_ref().map(told).unwrap_or_default();
                self.answer(call, Ok(exit.encode_to_vec()));
                return Ok(());
            }
            Phase::Created | Phase::Starting | Phase::Running | Phase::Ending => {}
        }
        container.waiting.stop.push(call);
        // What waits to be started takes no notice of any other signal.
        if deadline.is_zero() || container.phase == Phase::Created {
            self.kill_whole(id);
        } else if let Some(pidfd) = container
            .pidfd
            .as_ref()
            .filter(|_| container.ended.is_none())
        {
            // One that has ended meanwhile is what was wanted.
            let _ = pidfd::send_signal(pidfd.as_fd(), signal);
            self.reactor.after(deadline, Timer::Stop(id.to_owned()));
        }
        Ok(())
    }

    /// Kills every process of a container.
    pub(super) fn kill_whole(&mut self, id: &str) {
        let root = self.root.path().to_owned();
        let Some(container) = self.containers.get(id) else {
            return;
        };
        let Some(pidfd) = container
            .pidfd
            .as_ref()
            .filter(|_| container.ended.is_none())
        else {
            return;
        };
        let _ = pidfd::send_signal(pidfd.as_fd(), libc::SIGKILL);
        let name = id.to_owned();
        let job = Job::start([], || kill_all(Root::new(root), &name));
        self.begin(job, Task::Stop(id.to_owned()));
    }

    /// The job has ended. Who waits for the container hears of its end when that is seen, or now why there is none.
    pub(super) fn killed_whole(&mut self, id: &str, answer: Result<Answer>) {
        if let (Err(failure), Some(container)) = (answer, self.containers.get_mut(id)) {
            let mut calls = std::mem::take(&mut container.waiting.stop);
            calls.append(&mut container.waiting.delete);
            calls.append(&mut self.stopping);
            calls.append(&mut self.leaving);
            self.log(&format!("stop {id:?}: {failure}"));
            self.answer_all(calls, &Err(failure));
        }
    }

    /// The first process of a container has ended, and was waited for.
    pub(super) fn first_has_ended(&mut self, id: &str, ended: Ended) {
        if let Some(container) = self.containers.get_mut(id)
            && container.ended.is_none()
        {
            container.ended = Some((ended, now()));
            if let (Some(token), Some(pidfd)) = (container.adopted.take(), &container.pidfd) {
                self.reactor.forget(pidfd, token);
            }
            self.settle(id);
        }
    }

    /// Goes on with the end of a container that has none of its own to wait for.
    pub(super) fn settle(&mut self, id: &str) {
        if let Some(container) = self.containers.get(id)
            && container.ended.is_some()
            && matches!(container.phase, Phase::Created | Phase::Running)
        {
            self.begin_ending(id);
        }
        self.stopped();
    }

    /// Records the end; then the others are killed, the log is finished, and it is told.
    fn begin_ending(&mut self, id: &str) {
        self.reactor.cancel(&Timer::Stop(id.to_owned()));
        // While there is a cgroup that tells.
        let oom = self.lacked_memory(id);
        let path = self.pod.directory().exit_file(id);
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let (ended, at) = container.ended.unwrap_or_else(|| (Ended::UNKNOWN, now()));
        container.phase = Phase::Ending;
        let exit = ExitFile {
            pid: container.file.pid,
            code: ended.code,
            signal: ended.signal,
            oom,
            unknown: ended.unknown,
            created_at: container.file.created_at,
            started_at: container.file.started_at,
            exited_at: at,
        };
        let written = disk::write_json(&path, &exit);
        container.exit = Some(exit);
        if let Err(failure) = written {
            // It is still known here, and told.
            self.log(&failure.text);
        }
        self.end_rest(id);
    }

    /// Kills what outlives a first process that shares its PID namespace, and goes on to the log.
    pub(super) fn end_rest(&mut self, id: &str) {
        let root = self.root.path().to_owned();
        let own_pids = self
            .containers
            .get(id)
            .map(|container| container.file.own_pids);
        if own_pids.unwrap_or(true) {
            self.finish_log(id);
            return;
        }
        let name = id.to_owned();
        let job = Job::start([], || kill_all(Root::new(root), &name));
        self.begin(job, Task::KillRest(id.to_owned()));
    }

    /// Processes that outlived the first are gone.
    pub(super) fn rest_is_killed(&mut self, id: &str, answer: Result<Answer>) {
        if let Err(failure) = answer {
            self.log(&format!("container {id:?}: {failure}"));
        }
        self.finish_log(id);
    }

    fn finish_log(&mut self, id: &str) {
        let Some(container) = self.containers.get(id) else {
            return;
        };
        let asked = match &container.keeper {
            Some((keeper, _)) => keeper.ask(Word::Finish).is_ok(),
            None => false,
        };
        if asked {
            self.reactor.after(WRITING, Timer::Announce(id.to_owned()));
        } else {
            self.announce(id);
        }
    }

    /// Tells the end.
    pub(super) fn announce(&mut self, id: &str) {
        self.reactor.cancel(&Timer::Announce(id.to_owned()));
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        if container.phase != Phase::Ending {
            return;
        }
        container.phase = Phase::Exited;
        container.pidfd = None;
        container.master = None;
        container.outputs.clear();
        let exit = container.exit.as_ref().map(told).unwrap_or_default();
        let calls = std::mem::take(&mut container.waiting.stop);
        let is_to_go = !container.waiting.delete.is_empty() || !self.leaving.is_empty();
        self.tell(EventKind::Exited, id);
        self.answer_all(calls, &Ok(exit.encode_to_vec()));
        if is_to_go {
            self.begin_delete(id);
        }
        self.stopped();
    }

    /// Ends all containers, for good.
    pub(super) fn stop_pod(&mut self, call: CallId) -> Result<()> {
        self.pod.stop()?;
        self.stopping.push(call);
        let living = self
            .containers
            .iter()
            .filter(|(_, container)| !matches!(container.phase, Phase::Exited | Phase::Deleting));
        let living: Vec<String> = living.map(|(id, _)| id.clone()).collect();
        for id in living {
            self.kill_whole(&id);
        }
        self.stopped();
        Ok(())
    }

    /// Answers who waits for the end of all containers, if that has come.
    pub(super) fn stopped(&mut self) {
        let all = self
            .containers
            .values()
            .all(|container| matches!(container.phase, Phase::Exited | Phase::Deleting));
        if !all || self.stopping.is_empty() {
            return;
        }
        self.pod.kill_init();
        let calls = std::mem::take(&mut self.stopping);
        self.answer_all(calls, &Ok(Vec::new()));
    }
}

fn kill_all(root: Root, id: &str) -> Result<Answer> {
    match Runtime::open(&root, id) {
        // It has ended and was removed meanwhile.
        Err(error) if *error.kind() == ErrorKind::NotFound => {}
        container => container?.kill_all(libc::SIGKILL)?,
    }
    Ok(Answer::default())
}
