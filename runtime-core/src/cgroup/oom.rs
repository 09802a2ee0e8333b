//! Word of processes that the kernel kills for lack of memory.
//!
//! On version 1 the kernel writes to an eventfd that is registered in `cgroup.event_control`; on version 2 a change of
//! `memory.events` is seen by inotify(7), and one of `cgroup.events` when the last process is gone.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::directory::write;
use super::{Cgroup, v2};
use crate::error::{Call, Error, Result};

/// Watches one container's memory.
#[derive(Debug)]
pub struct MemoryWatch {
    source: Source,
    directory: PathBuf,
    /// Kills so far.
    kills: u64,
}

#[derive(Debug)]
enum Source {
    V1 {
        event: EventFd,
        /// Open as long as it is watched.
        _control: File,
    },
    V2(Inotify),
}

/// What a [`MemoryWatch`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryEvent {
    /// Nothing in all the time.
    None,
    /// The kernel killed a process.
    OutOfMemory,
    /// The cgroup has no processes any more, or is not there any more.
    Gone,
}

impl Cgroup {
    /// Begins to watch. None without a cgroup for memory.
    ///
    /// # Errors
    /// The errno of the calls.
    pub(crate) fn watch_memory(&self) -> Result<Option<MemoryWatch>> {
        let (directory, source) = if let Some(directory) = self.v2() {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
                .call(|| "inotify_init1()")?;
            for name in ["memory.events", "cgroup.events"] {
                let file = directory.join(name);
                match inotify.add_watch(&file, AddWatchFlags::IN_MODIFY) {
                    Err(Errno::ENOENT) if name == "memory.events" => return Ok(None),
                    added => added.call(|| format!("inotify_add_watch({file:?})"))?,
                };
            }
            (directory, Source::V2(inotify))
        } else {
            let Some(directory) = self.directory("memory") else {
                return Ok(None);
            };
            let file = directory.join("memory.oom_control");
            let control = File::open(&file).call(|| format!("open({file:?})"))?;
            let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
                .call(|| "eventfd()")?;
            let words = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
            write(&directory.join("cgroup.event_control"), &words)?;
            let source = Source::V1 {
                event,
                _control: control,
            };
            (directory, source)
        };
        Ok(Some(MemoryWatch {
            source,
            directory: directory.to_owned(),
            kills: self.oom_kills().unwrap_or_default(),
        }))
    }
}

impl MemoryWatch {
    /// Waits for an event for as long as `limit`.
    ///
    /// # Errors
    /// The errno of poll(2).
    pub fn wait(&mut self, limit: Duration) -> Result<MemoryEvent> {
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.source.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) | Err(Errno::EINTR) => return Ok(MemoryEvent::None),
            Ok(_) => {}
            Err(errno) => return Err(Error::os("poll(\"memory.events\")", errno)),
        }
        self.source.clear();
        let file = match self.source {
            Source::V1 { .. } => "memory.oom_control",
            Source::V2(_) => "memory.events",
        };
        let Some(kills) = v2::number(&self.directory, file, "oom_kill") else {
            return Ok(MemoryEvent::Gone);
        };
        if kills > self.kills {
            self.kills = kills;
            return Ok(MemoryEvent::OutOfMemory);
        }
        let has_processes = match self.source {
            Source::V1 { .. } => fs::exists(&self.directory).unwrap_or_default(),
            Source::V2(_) => {
                v2::number(&self.directory, "cgroup.events", "populated").unwrap_or_default() > 0
            }
        };
        Ok(if has_processes {
            MemoryEvent::None
        } else {
            MemoryEvent::Gone
        })
    }
}

impl Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::V1 { event, .. } => event.as_fd(),
            Self::V2(inotify) => inotify.as_fd(),
        }
    }

    /// Takes what is there to read, so that the next wait is for something new.
    fn clear(&self) {
        match self {
            Self::V1 { event, .. } => drop(event.read()),
            Self::V2(inotify) => drop(inotify.read_events()),
        }
    }
}
