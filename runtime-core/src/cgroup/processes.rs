//! The processes of a container's cgroups: found, frozen and killed.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::directory::{collect_processes, is_gone, write};
use super::{Cgroup, EMPTYING, v2};
use crate::error::{Call, Error, Result};
use crate::kernel::pidfd;

/// Where the processes of one container are stopped and let go.
enum Freezer<'a> {
    /// `freezer.state`.
    V1(&'a Path),
    /// `cgroup.freeze`, and `cgroup.events` for what came of it.
    V2(&'a Path),
}

impl Freezer<'_> {
    fn is_frozen(&self) -> Result<bool> {
        match self {
            Self::V1(directory) => {
                let file = directory.join("freezer.state");
                match fs::read(&file) {
                    Ok(state) => Ok(!state.starts_with(b"THAWED")),
                    Err(error) if is_gone(&error) => Ok(false),
                    Err(error) => Err(error).call(|| format!("read({file:?})")),
                }
            }
            Self::V2(directory) => Ok(v2::is_frozen(directory)),
        }
    }

    /// Asks for it. What is asked again is no error.
    fn ask(&self, frozen: bool) -> Result<()> {
        match self {
            Self::V1(directory) => {
                let state = if frozen { "FROZEN" } else { "THAWED" };
                write(&directory.join("freezer.state"), state)
            }
            Self::V2(directory) => {
                let state = if frozen { "1" } else { "0" };
                write(&directory.join("cgroup.freeze"), state)
            }
        }
    }

    /// Whether it has come to be.
    fn has_become(&self, frozen: bool) -> Result<bool> {
        match self {
            Self::V1(directory) => {
                let file = directory.join("freezer.state");
                let state = fs::read(&file).call(|| format!("read({file:?})"))?;
                Ok(state.starts_with(if frozen { b"FROZEN" } else { b"THAWED" }))
            }
            Self::V2(directory) => {
                let state = v2::number(directory, "cgroup.events", "frozen");
                Ok(state == Some(u64::from(frozen)))
            }
        }
    }
}

impl Cgroup {
    /// All processes in the cgroups and below.
    ///
    /// # Errors
    /// The errno of reading them. A cgroup that is gone has no processes.
    pub(crate) fn processes(&self) -> Result<Vec<Pid>> {
        // All hierarchies have the same processes, but for one that someone moved: freezer and devices are the ones
        // least often touched.
        let directory = ["freezer", "devices", "pids", "memory"]
            .into_iter()
            .find_map(|name| self.directory(name));
        let Some(directory) = directory.or_else(|| self.directories().next()) else {
            return Ok(Vec::new());
        };
        let mut pids = Vec::new();
        collect_processes(directory, &mut pids)?;
        Ok(pids)
    }

    fn freezer(&self) -> Option<Freezer<'_>> {
        match self.v2() {
            Some(directory) => Some(Freezer::V2(directory)),
            None => self.directory("freezer").map(Freezer::V1),
        }
    }

    /// Whether the container is frozen.
    ///
    /// # Errors
    /// The errno of reading the freezer's state.
    pub(crate) fn is_frozen(&self) -> Result<bool> {
        self.freezer()
            .map_or(Ok(false), |freezer| freezer.is_frozen())
    }

    /// Stops all processes, or lets them go on.
    ///
    /// # Errors
    /// `Unsupported` without a freezer; the errno of writing its state.
    pub(crate) fn set_frozen(&self, frozen: bool) -> Result<()> {
        let Some(freezer) = self.freezer() else {
            return Err(Error::unsupported(
                "the cgroup controller freezer is not mounted",
            ));
        };
        let deadline = Instant::now() + EMPTYING;
        let mut pause = Duration::from_micros(50);
        loop {
            // Again each time: a process in the middle of a fork may leave version 1 at FREEZING until then.
            freezer.ask(frozen)?;
            if freezer.has_become(frozen)? {
                return Ok(());
            }
            if Instant::now() > deadline {
                if frozen {
                    freezer.ask(false)?;
                }
                let what = if frozen { "freeze" } else { "thaw" };
                return Err(Error::os(
                    format!("the cgroup does not {what}"),
                    Errno::ETIMEDOUT,
                ));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        }
    }

    /// Sends `signal` to every process.
    ///
    /// # Errors
    /// The errno of reading the cgroup.
    pub(crate) fn signal_all(&self, signal: i32) -> Result<()> {
        for pid in self.processes()? {
            // One that ended meanwhile is what was wanted, or no matter. By descriptor: its pid may be another's by now,
            // which the second look at the cgroup tells.
            if let Ok(process) = pidfd::open(pid) {
                let _ = pidfd::send_signal(process.as_fd(), signal);
            }
        }
        Ok(())
    }

    /// Kills every process, also those forked meanwhile, and waits until none is left.
    ///
    /// # Errors
    /// `ETIMEDOUT` where some would not end.
    pub(crate) fn kill_all(&self) -> Result<()> {
        let deadline = Instant::now() + EMPTYING;
        let mut pause = Duration::from_micros(200);
        loop {
            let left = self.processes()?.len();
            if left == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::os(
                    format!("{left} process(es) of the cgroup do not end"),
                    Errno::ETIMEDOUT,
                ));
            }
            self.kill_once()?;
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    fn kill_once(&self) -> Result<()> {
        let killed = match &self.unified {
            Some(path) => write(&path.join("cgroup.kill"), "1").is_ok(),
            None => false,
        };
        if killed && self.v2().is_some() {
            return Ok(());
        }
        if self.freezer().is_none() {
            return if killed {
                Ok(())
            } else {
                self.signal_all(libc::SIGKILL)
            };
        }
        // Frozen processes do not fork. Nor do those of version 1 die: thawed, they find the signal first.
        let frozen = self.is_frozen()? || (!killed && self.set_frozen(true).is_ok());
        let signalled = self.signal_all(libc::SIGKILL);
        if frozen {
            match self.set_frozen(false) {
                Err(error) if error.errno().is_some_and(|errno| errno != Errno::ENOENT) => {
                    return Err(error);
                }
                _ => {}
            }
        }
        signalled
    }
}
