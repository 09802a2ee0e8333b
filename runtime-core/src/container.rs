//! A container and its verbs.
//!
//! Every verb can be called again after it was cut short, by whatever means: it takes up what it finds.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, read};

use crate::cgroup::oom::MemoryWatch;
use crate::cgroup::stats::Stats;
use crate::error::{Call, Context, Error, ErrorKind, Result};
use crate::hooks::{self, HookState};
use crate::kernel::pidfd;
use crate::plan::hooks::Hooks;
use crate::rdt;
use crate::spec::{Resources, Spec};
use crate::state::{Directory, Identity, Lock, Record, Root, State, Status};

mod agent;
mod becoming;
pub(crate) mod checkpoint;
pub(crate) mod create;
pub(crate) mod exec;
mod external;
mod failure;
pub(crate) mod group;
mod idmap;
pub(crate) mod ids;
mod mounts;
mod net_devices;
mod prepare;
pub(crate) mod restore;
mod streams;

/// How long a killed process is given to end.
const ENDING: Duration = Duration::from_secs(10);

/// How long a process that waits for `start` is given to answer.
const RELEASING: Duration = Duration::from_secs(10);

/// What became of the process that waited for `start`.
enum Released {
    /// It goes on.
    Now,
    /// It went on before.
    Before,
    /// It has ended.
    Ended,
}

/// A container that exists.
#[derive(Debug)]
pub struct Container {
    directory: Directory,
    record: Record,
}

/// A process, which is a child of this one where this one started it.
#[derive(Debug)]
pub struct Child {
    /// As this process sees it.
    pub pid: Pid,
    /// Descriptor of the process, owned.
    pub pidfd: OwnedFd,
}

impl Container {
    /// Opens the container `id` to look at it.
    ///
    /// # Errors
    /// `NotFound` where there is none, `InvalidArgument` where there can be none of that name.
    pub fn open(root: &Root, id: &str) -> Result<Self> {
        Self::open_locked(root, id, Lock::None)
    }

    /// Opens the container `id` and keeps other verbs away from it until the value is dropped.
    ///
    /// # Errors
    /// As [`Container::open`].
    pub fn open_exclusive(root: &Root, id: &str) -> Result<Self> {
        Self::open_locked(root, id, Lock::Exclusive)
    }

    fn open_locked(root: &Root, id: &str, lock: Lock) -> Result<Self> {
        let directory = Directory::open(root, id, lock)?;
        match directory.record()? {
            Some(record) => Ok(Self { directory, record }),
            None => Err(Error::new(ErrorKind::NotFound, "container does not exist")),
        }
    }

    /// The state as callers are told it.
    ///
    /// # Errors
    /// Those of reading the freezer's state.
    pub fn state(&self) -> Result<State> {
        Ok(self.record.state(self.status()?))
    }

    /// Where its life has come to.
    ///
    /// # Errors
    /// Those of reading the freezer's state.
    pub fn status(&self) -> Result<Status> {
        self.directory.status(&self.record)
    }

    /// The configuration it was created from.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn spec(&self) -> Result<Spec> {
        self.directory.spec()
    }

    /// Lets the program of a created container run.
    ///
    /// # Errors
    /// `WrongState` where it does not wait for that; `Hook` where a poststart hook failed, which ends the container.
    pub fn start(&self) -> Result<()> {
        let wrong = |status, text: &str| Err(Error::new(ErrorKind::WrongState(status), text));
        match self.status()? {
            Status::Created => {}
            Status::Stopped => {
                return wrong(Status::Stopped, "cannot start a container that has stopped");
            }
            Status::Paused => {
                return wrong(
                    Status::Paused,
                    "cannot start a container in the paused state",
                );
            }
            status => return wrong(status, "cannot start an already running container"),
        }
        let released = self.release()?;
        self.directory.remove_fifo()?;
        match released {
            Released::Now => self.run_poststart_hooks(),
            // By a `start` that was killed before it could tell.
            Released::Before => wrong(Status::Running, "cannot start an already running container"),
            Released::Ended => wrong(Status::Stopped, "cannot start a container that has stopped"),
        }
    }

    /// Where the program will tell how it gets on, if it was created to: for who lets it run, before that.
    ///
    /// # Errors
    /// Those of making the socket.
    pub fn notify_socket(&self) -> Result<Option<UnixDatagram>> {
        let has_one = self.directory.has_notify();
        has_one.then(|| self.directory.bind_notify()).transpose()
    }

    /// Opens the FIFO, and waits for the byte of the process that waits in it.
    fn release(&self) -> Result<Released> {
        let Some(init) = self.record.init else {
            return Ok(Released::Ended);
        };
        let process = match pidfd::open(Pid::from_raw(init.pid)) {
            Err(Errno::ESRCH) => return Ok(Released::Ended),
            process => process.call(|| format!("pidfd_open({})", init.pid))?,
        };
        let fifo = self.directory.open_fifo()?;
        let timeout = PollTimeout::try_from(RELEASING).unwrap_or(PollTimeout::MAX);
        let mut fds = [
            PollFd::new(fifo.as_fd(), PollFlags::POLLIN),
            PollFd::new(process.as_fd(), PollFlags::POLLIN),
        ];
        let ready = loop {
            match poll(&mut fds, timeout) {
                Err(Errno::EINTR) => {}
                other => break other.call(|| "poll(\"exec.fifo\")")?,
            }
        };
        let mut byte = [0];
        Ok(match read(&fifo, &mut byte) {
            Ok(1) => Released::Now,
            _ if ready == 0 => Released::Before,
            _ => Released::Ended,
        })
    }

    fn run_poststart_hooks(&self) -> Result<()> {
        if !self.record.hooks.poststart {
            return Ok(());
        }
        let hooks = self.hooks()?;
        hooks::run(
            &hooks.poststart,
            "poststart",
            &self.hook_state(Status::Running),
        )
        .inspect_err(|_| {
            drop(self.kill(libc::SIGKILL));
        })
    }

    fn hooks(&self) -> Result<Hooks> {
        Hooks::compile(self.spec()?.hooks.as_ref())
    }

    fn hook_state(&self, status: Status) -> HookState {
        self.record.hook_state(status)
    }

    /// Sends `signal` to the container's first process. SIGKILL goes to all of them where they share a PID namespace
    /// with others, for then the end of the first is not the end of all.
    ///
    /// # Errors
    /// `WrongState` where there is none: `container not running`.
    pub fn kill(&self, signal: i32) -> Result<()> {
        let status = self.status()?;
        if status == Status::Stopped || status == Status::Creating {
            return Err(Error::new(
                ErrorKind::WrongState(status),
                "container not running",
            ));
        }
        if signal == libc::SIGKILL && !self.record.own_pids {
            return self.record.cgroup.kill_all();
        }
        self.signal_init(signal)?;
        if signal == libc::SIGKILL && status == Status::Paused {
            // Frozen processes do not die.
            return self.record.cgroup.set_frozen(false);
        }
        Ok(())
    }

    /// Sends `signal` to every process of the container.
    ///
    /// # Errors
    /// Those of reading the cgroup.
    pub fn kill_all(&self, signal: i32) -> Result<()> {
        if signal == libc::SIGKILL {
            return self.record.cgroup.kill_all();
        }
        self.record.cgroup.signal_all(signal)
    }

    fn signal_init(&self, signal: i32) -> Result<()> {
        let not_running = || {
            Error::new(
                ErrorKind::WrongState(Status::Stopped),
                "container not running",
            )
        };
        let Some(init) = self.record.init else {
            return Err(not_running());
        };
        let process = match pidfd::open(Pid::from_raw(init.pid)) {
            Err(Errno::ESRCH) => return Err(not_running()),
            process => process.call(|| format!("pidfd_open({})", init.pid))?,
        };
        // The descriptor may be of a later process of that pid: if the one meant lives now, it is of that one.
        if !init.is_alive() {
            return Err(not_running());
        }
        match pidfd::send_signal(process.as_fd(), signal) {
            Err(Errno::ESRCH) => Err(not_running()),
            sent => sent.call(|| format!("pidfd_send_signal({}, {signal})", init.pid)),
        }
    }

    /// Freezes every process.
    ///
    /// # Errors
    /// `WrongState` where none runs.
    pub fn pause(&self) -> Result<()> {
        match self.status()? {
            Status::Running | Status::Created => self.record.cgroup.set_frozen(true),
            status => Err(Error::new(
                ErrorKind::WrongState(status),
                "container not running",
            )),
        }
    }

    /// Lets frozen processes go on.
    ///
    /// # Errors
    /// `WrongState` where they are not frozen.
    pub fn resume(&self) -> Result<()> {
        match self.status()? {
            Status::Paused => self.record.cgroup.set_frozen(false),
            status => Err(Error::new(
                ErrorKind::WrongState(status),
                "container not paused",
            )),
        }
    }

    /// Changes the limits that `resources` names, of a container that has processes.
    ///
    /// # Errors
    /// `WrongState` where it has none; `InvalidSpec` with a pointer below `/linux/resources`, `Unsupported` and `Os` for
    /// limits that cannot be. What was changed before an error is changed back.
    pub fn update(&self, resources: &Resources) -> Result<()> {
        match self.status()? {
            Status::Created | Status::Running | Status::Paused => {
                self.record.cgroup.update(resources)
            }
            status => Err(Error::new(
                ErrorKind::WrongState(status),
                "container not running",
            )),
        }
    }

    /// Changes the container's shares of caches and of memory bandwidth: lines such as `L3:0=ff` and `MB:0=50`.
    ///
    /// # Errors
    /// `Unsupported` where the host has no such shares, or the container was created without any; `Os` for what the
    /// kernel refuses.
    pub fn update_shares(&self, cache: Option<&str>, bandwidth: Option<&str>) -> Result<()> {
        if cache.is_none() && bandwidth.is_none() {
            return Ok(());
        }
        rdt::check_update(cache, bandwidth)?;
        match &self.record.rdt {
            Some(group) => group.change(cache, bandwidth),
            None => Err(Error::unsupported(
                "updating a non-existent Intel RDT configuration is not supported",
            )),
        }
    }

    /// What its processes use.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.record.cgroup.stats()
    }

    /// How many of its processes the kernel has killed for lack of memory. None where its cgroup does not tell: there is
    /// none, or systemd has removed it since the last process ended.
    #[must_use]
    pub fn oom_kills(&self) -> Option<u64> {
        self.record.cgroup.oom_kills()
    }

    /// How many were in the cgroup above its own and all below that, also those that are gone. None on version 1, and
    /// where its own is below the root.
    #[must_use]
    pub fn oom_kills_around(&self) -> Option<u64> {
        self.record.cgroup.oom_kills_around()
    }

    /// Whether the end of its first process is the end of all of them: it is the first of a PID namespace.
    #[must_use]
    pub fn has_own_pids(&self) -> bool {
        self.record.own_pids
    }

    /// Its first process, by a new descriptor; none where that has ended and was waited for.
    ///
    /// # Errors
    /// The errno of pidfd_open(2).
    pub fn first_process(&self) -> Result<Option<Child>> {
        let Some(init) = self.record.init else {
            return Ok(None);
        };
        let pid = Pid::from_raw(init.pid);
        let pidfd = match pidfd::open(pid) {
            Err(Errno::ESRCH) => return Ok(None),
            pidfd => pidfd.call(|| format!("pidfd_open({pid})"))?,
        };
        // The descriptor may be of a later process of that pid: if the one meant is there now, it is of that one.
        Ok(init.exists().then_some(Child { pid, pidfd }))
    }

    /// How its first process ended, in the form of wait(2), where it has and nobody has waited for it: whoever's child it
    /// is. See [`crate::kernel::pidfd::exit_status`] for later.
    #[must_use]
    pub fn unreaped_status(&self) -> Option<i32> {
        self.record.init.and_then(Identity::zombie)
    }

    /// Begins to watch for processes killed for lack of memory. None where its memory is not counted.
    ///
    /// # Errors
    /// The errno of the calls.
    pub fn watch_memory(&self) -> Result<Option<MemoryWatch>> {
        self.record.cgroup.watch_memory()
    }

    /// All processes of the container, as the host sees them.
    ///
    /// # Errors
    /// Those of reading the cgroup.
    pub fn processes(&self) -> Result<Vec<Pid>> {
        self.record.cgroup.processes()
    }

    /// Removes a container that has stopped, or whose program was never started.
    ///
    /// # Errors
    /// `WrongState` while it runs; `Hook` where a poststop hook failed, when all else is done.
    pub fn delete(self) -> Result<()> {
        match self.status()? {
            Status::Stopped | Status::Creating | Status::Created => self.destroy(),
            status => {
                let id = &self.record.id;
                let text = format!(
                    "cannot delete container {id} that is not stopped: {}",
                    status.name()
                );
                Err(Error::new(ErrorKind::WrongState(status), text))
            }
        }
    }

    /// Removes the container `id` whatever its state, and what a killed verb left of it. One that does not exist is
    /// gone already.
    ///
    /// # Errors
    /// Those of ending its processes and removing its cgroups and files; `Hook` as for [`Container::delete`].
    pub fn delete_by_force(root: &Root, id: &str) -> Result<()> {
        let directory = match Directory::open(root, id, Lock::Exclusive) {
            Err(error) if *error.kind() == ErrorKind::NotFound => return Ok(()),
            directory => directory?,
        };
        match directory.record() {
            Ok(Some(record)) => Self { directory, record }.destroy(),
            // `create` was killed before it had made anything else, or nobody can tell any more what it made.
            Ok(None) | Err(_) => directory.remove(),
        }
    }

    /// Ends and removes everything. Goes on past what fails, so that the next attempt has less to do.
    fn destroy(self) -> Result<()> {
        let ended = self.end_processes();
        let removed = self.record.cgroup.remove();
        let group = self.record.rdt.as_ref();
        let left = group.map_or(Ok(()), rdt::Group::remove);
        ended?;
        removed.and(left)?;
        let poststop = if self.record.hooks.poststop {
            self.hooks()?.poststop
        } else {
            Vec::new()
        };
        self.directory.remove()?;
        hooks::run(&poststop, "poststop", &self.hook_state(Status::Stopped))
    }

    fn end_processes(&self) -> Result<()> {
        if let Some(init) = self.record.init
            && init.is_alive()
            && let Ok(process) = pidfd::open(Pid::from_raw(init.pid))
            && init.is_alive()
        {
            let _ = pidfd::send_signal(process.as_fd(), libc::SIGKILL);
            if self.record.cgroup.is_frozen()? {
                self.record.cgroup.set_frozen(false)?;
            }
            let timeout = PollTimeout::try_from(ENDING).unwrap_or(PollTimeout::MAX);
            if !pidfd::wait_end(process.as_fd(), timeout).call(|| "poll(pidfd)")? {
                return Err(Error::os(
                    format!("container init still running: {}", init.pid),
                    Errno::ETIMEDOUT,
                ));
            }
        }
        self.record
            .cgroup
            .kill_all()
            .context(|| "container's processes")
    }

    /// Lets other verbs at a container that was opened or created exclusively.
    ///
    /// # Errors
    /// The errno of flock(2).
    pub fn unlock(&self) -> Result<()> {
        self.directory.unlock()
    }
}
