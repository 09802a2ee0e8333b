//! Taking over what an earlier shim of the pod has left.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use ocirun_shim::files::ExitFile;
use runtime_core::kernel::pidfd;
use runtime_core::{Container as Runtime, ErrorKind, Status};

use super::create::open_outputs;
use super::{Shim, watch_adopted};
use crate::container::{Container, ContainerFile, Ended, Phase, Stage};
use crate::disk::{self, now};
use crate::failure::{Call, Result};
use crate::keeper::{Keeper, Word};
use crate::reactor::Timer;

/// How long the end of an adopted process is asked for that is gone: its keeper may have kept a descriptor of it.
const REAPING: Duration = Duration::from_secs(5);

/// Between two looks at that.
const LOOK: Duration = Duration::from_millis(20);

impl Shim {
    /// Takes over all containers that there are.
    pub(super) fn adopt(&mut self) -> Result<()> {
        let directory = self.pod.directory().containers();
        disk::make_directory(&directory)?;
        let entries = std::fs::read_dir(&directory).call(|| format!("open({directory:?})"))?;
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut ids: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
        ids.sort();
        for id in ids {
            let file = disk::read_json(&self.pod.directory().shim_file(&id));
            let adopted = match file {
                Ok(Some(file)) => self.adopt_one(&id, file),
                // The daemon's alone.
                Ok(None) => Ok(()),
                Err(failure) => Err(failure),
            };
            if let Err(failure) = adopted {
                self.log(&format!("adopt {id:?}: {failure}"));
            }
        }
        Ok(())
    }

    fn adopt_one(&mut self, id: &str, file: ContainerFile) -> Result<()> {
        if file.stage == Stage::Creating {
            // Nobody was told of it: who asked asks again.
            self.silence_keeper(id);
            Runtime::delete_by_force(&self.root, id)?;
            return self.remove_files(id);
        }
        let runtime = match Runtime::open(&self.root, id) {
            Err(error) if *error.kind() == ErrorKind::NotFound => {
                // Its removal had come this far.
                self.silence_keeper(id);
                return self.remove_files(id);
            }
            runtime => runtime?,
        };
        let exit: Option<ExitFile> = disk::read_json(&self.pod.directory().exit_file(id))?;
        let status = runtime.status()?;
        let mut container = Container::new(file, Phase::Running);
        let is_released = container.file.started_at != 0;
        if status == Status::Created && !is_released {
            container.phase = Phase::Created;
        }
        container.outputs = open_outputs(&self.pod.directory().container(id)).unwrap_or_default();
        let first = runtime.first_process()?;
        if exit.is_none()
            && let Some(first) = first
        {
            let token = watch_adopted(&mut self.reactor, id, &first.pidfd)?;
            container.adopted = Some(token);
            container.pidfd = Some(first.pidfd);
        }
        let is_recorded = exit.is_some();
        container.exit = exit;
        self.containers.insert(id.to_owned(), container);
        if status == Status::Created && is_released {
            self.finish_start(id);
        }
        self.end_execs(id, &runtime);
        self.find_keeper(id)?;
        if is_recorded {
            self.take_up_end(id);
        } else {
            self.look_for_end(id);
        }
        Ok(())
    }

    /// A keeper of a container that is removed has nothing to keep.
    fn silence_keeper(&self, id: &str) {
        if let Ok(keeper) = Keeper::find(&self.pod.directory().keeper_socket(id)) {
            let _ = keeper.ask(Word::Finish);
        }
    }

    /// Finds the keeper of a container, or starts another where it was killed too.
    fn find_keeper(&mut self, id: &str) -> Result<()> {
        match Keeper::find(&self.pod.directory().keeper_socket(id)) {
            Ok(keeper) => {
                let _ = keeper.ask(Word::Give);
                self.take_keeper(id, keeper)
            }
            Err(_) => self.keep_streams(id),
        }
    }

    /// The end was recorded, and not told yet, or not to everyone.
    fn take_up_end(&mut self, id: &str) {
        if let Some(container) = self.containers.get_mut(id) {
            let exit = container.exit.clone();
            let ended = exit.map(|exit| {
                let ended = Ended {
                    code: exit.code,
                    signal: exit.signal,
                    unknown: exit.unknown,
                };
                (ended, exit.exited_at)
            });
            container.ended = ended.or_else(|| Some((Ended::UNKNOWN, now())));
            container.phase = Phase::Ending;
            self.end_rest(id);
        }
    }

    /// A process that has gone while no shim was there: only its keeper has a descriptor of it.
    fn look_for_end(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        if container.pidfd.is_none() {
            container.gone = Some(Instant::now());
            self.reactor.after(LOOK, Timer::Adopted(id.to_owned()));
        }
    }

    /// What a keeper has kept.
    pub(super) fn take_given(&mut self, id: &str, fds: Vec<OwnedFd>) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let mut fds = fds.into_iter();
        let pidfd = fds.next();
        if let Some(master) = fds.next() {
            container.master = Some(master);
        }
        if container.pidfd.is_none() && container.ended.is_none() {
            container.pidfd = pidfd;
        }
    }

    /// An adopted first process has ended: asks how, until whoever waits for it has done so, or that takes too long.
    pub(super) fn adopted_has_ended(&mut self, id: &str) {
        self.reactor.cancel(&Timer::Adopted(id.to_owned()));
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        if container.ended.is_some() {
            return;
        }
        if let (Some(token), Some(pidfd)) = (container.adopted.take(), &container.pidfd) {
            self.reactor.forget(pidfd, token);
        }
        let since = *container.gone.get_or_insert_with(Instant::now);
        let kept = container
            .pidfd
            .as_ref()
            .and_then(|pidfd| pidfd::exit_status(pidfd.as_fd()));
        // Before its new parent has waited for it the process itself tells; after that the descriptor.
        let status = kept.or_else(|| Runtime::open(&self.root, id).ok()?.unreaped_status());
        match status {
            Some(status) => self.first_has_ended(id, Ended::of_raw(status)),
            None if since.elapsed() < REAPING => {
                self.reactor.after(LOOK, Timer::Adopted(id.to_owned()));
            }
            None => self.first_has_ended(id, Ended::UNKNOWN),
        }
    }
}
