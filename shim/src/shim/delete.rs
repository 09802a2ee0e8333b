//! Removing containers, and the pod.

use ocirun_shim::wire::{Code, EventKind};
use prost::Message;
use runtime_core::{Container as Runtime, Root};

use super::{Life, Shim, Task};
use crate::connection::CallId;
use crate::container::{Phase, told};
use crate::disk;
use crate::failure::{Failure, Result};
use crate::job::{Answer, Job};
use crate::keeper::Word;
use crate::reactor::Timer;

impl Shim {
    /// Begins to remove a container; one that runs only by force.
    pub(super) fn delete(&mut self, call: CallId, id: &str, force: bool) -> Result<()> {
        let container = self.container(id)?;
        let phase = container.phase;
        let runs = matches!(phase, Phase::Creating | Phase::Starting | Phase::Running);
        if runs && !force {
            let text = format!("cannot delete container {id} that is not stopped: running");
            return Err(Failure::new(Code::FailedPrecondition, text));
        }
        container.waiting.delete.push(call);
        match phase {
            Phase::Creating => self.end_creation(id),
            Phase::Created | Phase::Starting | Phase::Running => self.kill_whole(id),
            Phase::Ending | Phase::Deleting => {}
            Phase::Exited => self.begin_delete(id),
        }
        Ok(())
    }

    /// Ends a creation that hangs: the job, or what opens the log.
    fn end_creation(&mut self, id: &str) {
        let creates = |task: &Task| matches!(task, Task::Create(of) if of == id);
        let job = self.jobs.values().find(|(_, task)| creates(task));
        if let Some((job, _)) = job {
            job.kill();
            return;
        }
        let text = "the container was deleted while it was created";
        self.undo_creation(id, Failure::new(Code::Cancelled, text));
    }

    /// Gives the removal to a job.
    pub(super) fn begin_delete(&mut self, id: &str) {
        let root = self.root.path().to_owned();
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        if container.phase == Phase::Deleting {
            return;
        }
        container.phase = Phase::Deleting;
        let name = id.to_owned();
        let job = Job::start([], || {
            Runtime::delete_by_force(&Root::new(root), &name)?;
            Ok(Answer::default())
        });
        self.begin(job, Task::Delete(id.to_owned()));
    }

    /// The job has ended: the rest are files.
    pub(super) fn deleted(&mut self, id: &str, answer: Result<Answer>) {
        let removed = answer.and_then(|_| self.remove_files(id));
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let creators = std::mem::take(&mut container.waiting.create);
        let mut callers = std::mem::take(&mut container.waiting.delete);
        let undone = container.failed.clone();
        if let Err(failure) = removed {
            container.phase = Phase::Exited;
            self.log(&format!("delete {id:?}: {failure}"));
            self.answer_all(creators, &Err(undone.unwrap_or_else(|| failure.clone())));
            callers.append(&mut self.leaving);
            self.answer_all(callers, &Err(failure));
            return;
        }
        let exit = container.exit.as_ref().map(told).unwrap_or_default();
        if let Some((keeper, _)) = &container.keeper {
            // One whose disk stalls ends when that goes on.
            let _ = keeper.ask(Word::Finish);
        }
        self.forget_keeper(id);
        let container = self.containers.remove(id);
        if let Some(container) = container
            && let (Some(token), Some(pidfd)) = (container.adopted, &container.pidfd)
        {
            self.reactor.forget(pidfd, token);
        }
        for timer in [Timer::Stop, Timer::Adopted, Timer::Announce] {
            self.reactor.cancel(&timer(id.to_owned()));
        }
        match undone {
            Some(failure) => self.answer_all(creators, &Err(failure)),
            None => self.tell(EventKind::Deleted, id),
        }
        self.answer_all(callers, &Ok(exit.encode_to_vec()));
        self.stopped();
        self.leave();
    }

    pub(super) fn remove_files(&self, id: &str) -> Result<()> {
        let directory = self.pod.directory().container(id);
        // `shim.json` last: as long as it is there the next shim goes on here.
        for name in [
            "stdin",
            "stdout",
            "stderr",
            "io.sock",
            "exit.json",
            "shim.json",
        ] {
            disk::remove(&directory.join(name))?;
        }
        // Who drives the shim may have files of its own in it.
        let _ = disk::remove_directory(&directory);
        Ok(())
    }

    /// Removes all containers and the pod, and ends the program.
    pub(super) fn shut_down(&mut self, call: CallId) -> Result<()> {
        self.pod.stop()?;
        self.leaving.push(call);
        let ids: Vec<String> = self.containers.keys().cloned().collect();
        for id in ids {
            let phase = self.containers.get(&id).map(|container| container.phase);
            match phase {
                Some(Phase::Exited) => self.begin_delete(&id),
                Some(Phase::Creating) => self.end_creation(&id),
                _ => self.kill_whole(&id),
            }
        }
        self.leave();
        Ok(())
    }

    /// Goes on with the end of the program where it waits for nothing any more.
    pub(super) fn leave(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        if !self.containers.is_empty() {
            return;
        }
        let removed = self.pod.remove();
        let calls = std::mem::take(&mut self.leaving);
        if removed.is_ok() {
            self.life = Life::Ends;
        }
        self.answer_all(calls, &removed.map(|()| Vec::new()));
    }
}
