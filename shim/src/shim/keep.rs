//! Keepers: what they say, and what is asked of them.

use std::os::fd::OwnedFd;

use nix::sys::epoll::EpollFlags;
use ocirun_shim::wire::Code;

use super::Shim;
use crate::connection::CallId;
use crate::container::Phase;
use crate::failure::{Failure, Result};
use crate::keeper::{Keeper, Said, Word};
use crate::reactor::Source;

impl Shim {
    /// Listens to a keeper from now on.
    pub(super) fn take_keeper(&mut self, id: &str, keeper: Keeper) -> Result<()> {
        let source = Source::Keeper(id.to_owned());
        let token = self
            .reactor
            .watch(&keeper.socket, EpollFlags::EPOLLIN, source)?;
        if let Some(container) = self.containers.get_mut(id) {
            container.keeper = Some((keeper, token));
        }
        Ok(())
    }

    /// A keeper has something to say.
    pub(super) fn hear(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let phase = container.phase;
        let Some(said) = container
            .keeper
            .as_ref()
            .and_then(|(keeper, _)| keeper.hear())
        else {
            return;
        };
        match said {
            Said::Opened if phase == Phase::Creating => self.creation_is_whole(id),
            Said::Failed(failure) if phase == Phase::Creating => {
                self.undo_creation(id, failure.context("log_path"));
            }
            Said::Opened => self.answer_reopen(id, Ok(Vec::new())),
            Said::Failed(failure) => self.answer_reopen(id, Err(failure)),
            Said::Given(fds) => self.take_given(id, fds),
            Said::Ended => self.keeper_has_ended(id),
        }
    }

    /// Goes on with a new log.
    pub(super) fn reopen(&mut self, call: CallId, id: &str) -> Result<()> {
        let container = self.container(id)?;
        let has_none = || {
            let text = format!("container {id:?} has ended: its log is finished");
            Failure::new(Code::FailedPrecondition, text)
        };
        let (keeper, _) = container.keeper.as_ref().ok_or_else(has_none)?;
        keeper.ask(Word::Reopen).map_err(|_| has_none())?;
        container.waiting.reopen.push_back(call);
        Ok(())
    }

    /// The keeper answers in the order in which it was asked.
    fn answer_reopen(&mut self, id: &str, answer: Result<Vec<u8>>) {
        let container = self.containers.get_mut(id);
        if let Some(call) = container.and_then(|container| container.waiting.reopen.pop_front()) {
            self.answer(call, answer);
        }
    }

    /// All is written; or the keeper was killed, and another one takes its place.
    fn keeper_has_ended(&mut self, id: &str) {
        self.forget_keeper(id);
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let unanswered = std::mem::take(&mut container.waiting.reopen);
        let phase = container.phase;
        let ended = Failure::new(Code::Unavailable, "what writes the log has ended");
        self.answer_all(unanswered.into(), &Err(ended.clone()));
        match phase {
            Phase::Creating => self.undo_creation(id, ended),
            Phase::Ending => self.announce(id),
            Phase::Created | Phase::Starting | Phase::Running => {
                self.log(&format!(
                    "container {id:?}: what writes its log was killed: another one goes on"
                ));
                if let Err(failure) = self.keep_streams(id) {
                    self.log(&format!("container {id:?}: {failure}"));
                }
            }
            Phase::Exited | Phase::Deleting => {}
        }
    }

    /// Does not listen to the keeper any more.
    pub(super) fn forget_keeper(&mut self, id: &str) {
        let container = self.containers.get_mut(id);
        if let Some((keeper, token)) = container.and_then(|container| container.keeper.take()) {
            self.reactor.forget(&keeper.socket, token);
        }
    }

    /// The master of a container's terminal.
    pub(super) fn master(&mut self, id: &str) -> Result<&OwnedFd> {
        let container = self.container(id)?;
        container.master.as_ref().ok_or_else(|| {
            Failure::new(
                Code::FailedPrecondition,
                format!("container {id:?} has no terminal"),
            )
        })
    }
}
