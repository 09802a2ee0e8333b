//! A container's cgroups: made, limited, joined, frozen, killed and removed.
//!
//! On version 1 a container has one directory in each hierarchy; where a version 2 hierarchy is mounted beside them
//! (the hybrid layout) it has one there too, for `cgroup.kill`. On version 2 alone it has that one directory.
//! Directories are found by the usual mount points below `/sys/fs/cgroup`, without parsing the mount table.
//!
//! The directories are made by this process, or by systemd, which is asked for a unit (see [`systemd`]). Limits are
//! written to them in both cases: systemd does not know all of them.
//!
//! See cgroups(7), and the kernel's documents on cgroup-v1 and cgroup-v2.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::error::{Call, Context, Error, Result};
use crate::kernel::bpf;

mod dbus;
mod devices;
mod directory;
mod hierarchies;
pub mod oom;
mod processes;
mod properties;
mod request;
mod setting;
pub mod stats;
mod sub;
mod systemd;
mod update;
mod v1;
mod v2;

#[cfg(any(test, fuzzing))]
pub(crate) use self::dbus::fuzz as fuzz_dbus;
use self::directory::{
    below, is_forbidden, make_directories, open_directory, open_write, refuse_used, remove_tree,
};
pub use self::hierarchies::Hierarchies;
use self::hierarchies::{Hierarchy, parent};
use self::properties::Version;
use self::request::Place;
pub(crate) use self::request::Request;
pub(crate) use self::sub::SubCgroup;
use self::systemd::{Manager, Unit};

/// Where cgroup file systems are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// How long processes are given to leave a cgroup after they were killed.
const EMPTYING: Duration = Duration::from_secs(10);

/// The directories of one container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cgroup {
    /// Version 1, with the controllers of each.
    v1: Vec<Directory>,
    /// Version 2.
    unified: Option<PathBuf>,
    /// The unit that they belong to.
    unit: Option<Unit>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Directory {
    controllers: String,
    path: PathBuf,
}

/// Descriptors by which a process enters a cgroup.
///
/// On version 1 it writes `0` to each `tasks` file itself: the kernel spares a task that moves itself the lock that
/// stops all forks and execs of the host, which a write by another process takes.
#[derive(Debug, Default)]
pub(crate) struct Entrance {
    /// One a hierarchy.
    pub(crate) tasks: Vec<OwnedFd>,
}

impl Cgroup {
    /// Where the cgroups of the container `id` are to be. Makes none.
    ///
    /// # Errors
    /// Those of asking the user's systemd where it is.
    pub(crate) fn locate(request: &Request, id: &str) -> Result<Self> {
        let hierarchies = &request.hierarchies;
        let version = hierarchies.version();
        let unit = match &request.place {
            Place::Path(_) => None,
            Place::Unit { path, of_user, .. } => Some(Unit::parse(path.as_deref(), id, *of_user)?),
        };
        let manager = match &unit {
            Some(unit) if unit.of_user => Manager::connect(true)?.control_group()?,
            _ => String::new(),
        };
        let locate = |hierarchy: &Hierarchy| {
            let own = match version {
                Version::V1 => hierarchy.own.as_str(),
                // There a cgroup with processes, as the caller's is, cannot have limited ones below it.
                Version::V2 => parent(&hierarchy.own),
            };
            let directory = unit.as_ref().and_then(Unit::directory);
            match (directory, &request.place) {
                (Some(directory), _) => below(&hierarchy.mount, &[&manager]).join(directory),
                (None, Place::Path(Some(path))) if path.starts_with('/') => {
                    below(&hierarchy.mount, &[path])
                }
                (None, Place::Path(Some(path))) => below(&hierarchy.mount, &[own, path]),
                (None, _) => below(&hierarchy.mount, &[own, id]),
            }
        };
        let v1 = hierarchies.v1.iter().map(|hierarchy| Directory {
            controllers: hierarchy.controllers.clone(),
            path: locate(hierarchy),
        });
        Ok(Self {
            v1: v1.collect(),
            unified: hierarchies.unified.as_ref().map(locate),
            unit: unit.clone(),
        })
    }

    /// All directories.
    fn directories(&self) -> impl Iterator<Item = &Path> {
        self.v1
            .iter()
            .map(|directory| directory.path.as_path())
            .chain(self.unified.as_deref())
    }

    /// The directory of version 2, where that is the version that limits.
    fn v2(&self) -> Option<&Path> {
        self.unified.as_deref().filter(|_| self.v1.is_empty())
    }

    /// The directory of the version 1 hierarchy that has `controller`.
    fn directory(&self, controller: &str) -> Option<&Path> {
        let has = |directory: &&Directory| {
            directory
                .controllers
                .split(',')
                .any(|name| name == controller)
        };
        self.v1
            .iter()
            .find(has)
            .map(|directory| directory.path.as_path())
    }

    /// Refuses cgroups with processes in them, and frozen ones: a container neither shares nor begins stopped.
    ///
    /// # Errors
    /// `AlreadyExists` that names the cgroup.
    pub(crate) fn refuse_used(&self) -> Result<()> {
        self.directories()
            .try_for_each(refuse_used)
            .context(|| "unable to apply cgroup configuration")
    }

    /// Makes the directory of version 2, for clone3 to put the child into, and gives a descriptor of it. One that
    /// systemd makes is there only later.
    ///
    /// # Errors
    /// The errno of making it.
    pub(crate) fn create_unified(&mut self, request: &Request) -> Result<Option<OwnedFd>> {
        let Some(path) = self.unified.as_deref().filter(|_| self.unit.is_none()) else {
            return Ok(None);
        };
        let made = match (self.v2(), &request.hierarchies.unified) {
            (Some(path), Some(hierarchy)) => v2::make(&hierarchy.mount, path),
            _ => make_directories(path),
        };
        match made.and_then(|()| open_directory(path)) {
            Ok(directory) => Ok(Some(directory)),
            Err(error) if request.optional && is_forbidden(&error) => {
                self.unified = None;
                Ok(None)
            }
            Err(error) => Err(error.context("unable to apply cgroup configuration")),
        }
    }

    /// Makes the directories that are still missing, or has systemd make them around `process`, and writes the limits
    /// of the container `id`.
    ///
    /// Where cgroups cannot be made and no limit asks for them, the container has none.
    ///
    /// # Errors
    /// `Os` for what cannot be made or written.
    pub(crate) fn create(&mut self, request: &Request, id: &str, process: Pid) -> Result<Entrance> {
        match self.make(request, id, process) {
            Err(error) if request.optional && is_forbidden(&error) => {
                drop(self.remove());
                *self = Self::default();
                Ok(Entrance::default())
            }
            other => other.context(|| "unable to apply cgroup configuration"),
        }
    }

    fn make(&mut self, request: &Request, id: &str, process: Pid) -> Result<Entrance> {
        if let (Some(unit), Place::Unit { properties, .. }) = (&self.unit, &request.place) {
            let mut all = properties::common(id, request.hierarchies.version());
            all.extend(properties.iter().cloned());
            let started = Manager::connect(unit.of_user)
                .and_then(|mut manager| manager.start(unit, process, &all));
            if let Err(error) = started {
                if error.errno() == Some(Errno::ETIMEDOUT) {
                    // Nor would it answer who asks it to stop the unit; a scope whose process is dead ends by itself.
                    self.unit = None;
                }
                return Err(error);
            }
        }
        match self.v2() {
            Some(directory) => self.make_v2(directory, request),
            None => self.make_v1(request),
        }
    }

    fn make_v1(&self, request: &Request) -> Result<Entrance> {
        let mut entrance = Entrance::default();
        for directory in &self.v1 {
            make_directories(&directory.path)?;
            if directory
                .controllers
                .split(',')
                .any(|name| name == "cpuset")
            {
                v1::inherit_cpuset(&directory.path)?;
            }
            entrance
                .tasks
                .push(open_write(&directory.path.join("tasks"))?.into());
        }
        for setting in &request.writes {
            let Some(directory) = self.directory(setting.controller) else {
                let text = format!(
                    "{}: the cgroup controller {} is not mounted",
                    setting.pointer, setting.controller
                );
                return Err(Error::unsupported(text));
            };
            setting.apply(directory)?;
        }
        // Without the controller nothing can be allowed or denied.
        if let Some(directory) = self.directory("devices") {
            devices::v1_settings(&request.devices).try_for_each(|rule| rule.apply(directory))?;
        }
        Ok(entrance)
    }

    fn make_v2(&self, directory: &Path, request: &Request) -> Result<Entrance> {
        if self.unit.is_some()
            && let Some(hierarchy) = &request.hierarchies.unified
        {
            // Those controllers too that systemd does not know.
            v2::make(&hierarchy.mount, directory)?;
        }
        for setting in &request.writes {
            v2::apply(setting, directory)?;
        }
        allow_devices(directory, &request.devices)?;
        if let Some(owner) = request.owner {
            v2::delegate(directory, owner)?;
        }
        Ok(Entrance::default())
    }

    /// Opens the files by which a process enters the cgroups of version 1, or the cgroup `sub` below each.
    ///
    /// # Errors
    /// The errno of opening them.
    pub(crate) fn entrance(&self, sub: &SubCgroup) -> Result<Entrance> {
        let mut entrance = Entrance::default();
        for directory in &self.v1 {
            let path = sub.below(&directory.path, &directory.controllers);
            let tasks = open_write(&path.join("tasks")).map_err(|error| sub.explain(error))?;
            entrance.tasks.push(tasks.into());
        }
        Ok(entrance)
    }

    /// Opens the directory of version 2 for clone3, or the cgroup `sub` below it.
    ///
    /// # Errors
    /// The errno of opening it.
    pub(crate) fn unified_directory(&self, sub: &SubCgroup) -> Result<Option<OwnedFd>> {
        let Some(directory) = &self.unified else {
            return Ok(None);
        };
        let directory = match self.v2() {
            Some(directory) => sub.below(directory, ""),
            None => directory.clone(),
        };
        open_directory(&directory)
            .map(Some)
            .map_err(|error| sub.explain(error))
    }

    /// Opens the version 2 cgroup that `process` is in: one below the container's, where it has made some.
    ///
    /// # Errors
    /// The errno of finding it.
    pub(crate) fn directory_of(process: Pid) -> Result<Option<OwnedFd>> {
        let file = format!("/proc/{process}/cgroup");
        let text = fs::read_to_string(&file).call(|| format!("read({file:?})"))?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::"));
        path.map(|path| open_directory(&below(Path::new(MOUNT), &[path])))
            .transpose()
    }

    /// Has systemd move `process` into the cgroups, where this process may not.
    ///
    /// # Errors
    /// Those of asking systemd; `Unsupported` where it did not make the cgroups.
    pub(crate) fn attach_by_systemd(&self, process: Pid) -> Result<()> {
        let Some(unit) = &self.unit else {
            return Err(Error::unsupported(
                "the container's cgroup cannot be entered from the cgroup of this process without privilege",
            ));
        };
        Manager::connect(unit.of_user)?.attach(unit, process)
    }

    /// Directories of version 1 with the names under which a container finds them.
    pub(crate) fn views(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.v1
            .iter()
            .map(|directory| (directory.controllers.as_str(), directory.path.as_path()))
    }

    /// The directory that a container without a cgroup namespace is shown, on version 2.
    pub(crate) fn unified_view(&self) -> Option<CString> {
        let directory = self.v2()?.as_os_str().as_bytes();
        CString::new(directory).ok()
    }

    /// The directory whose freezer stops all of the container.
    pub(crate) fn freezer_directory(&self) -> Option<&Path> {
        self.v2().or_else(|| self.directory("freezer"))
    }

    /// Removes the directories, and those the container made below them.
    ///
    /// Goes on past what cannot be removed.
    ///
    /// # Errors
    /// The first one, where there were any; `EBUSY` where processes are left.
    pub(crate) fn remove(&self) -> Result<()> {
        let mut first = match &self.unit {
            Some(unit) => Manager::connect(unit.of_user).and_then(|mut manager| manager.stop(unit)),
            None => Ok(()),
        };
        for directory in self.directories() {
            let removed = remove_tree(directory);
            if first.is_ok() {
                first = removed;
            }
        }
        first
    }

    /// How often the kernel killed for lack of memory in this cgroup; none where it does not tell, or not any more.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        match self.v2() {
            Some(directory) => v2::number(directory, "memory.events", "oom_kill"),
            None => v2::number(self.directory("memory")?, "memory.oom_control", "oom_kill"),
        }
    }

    /// The same for the cgroup above, with all below it, also what is gone; version 2 alone counts so.
    pub(crate) fn oom_kills_around(&self) -> Option<u64> {
        v2::number(self.v2()?.parent()?, "memory.events", "oom_kill")
    }
}

/// Puts the rules into force for a cgroup of version 2.
fn allow_devices(directory: &Path, rules: &[devices::Rule]) -> Result<()> {
    let attach = || {
        let cgroup = directory::open_for_bpf(directory)?;
        let program = bpf::load_devices(&devices::program(rules)).call(|| "bpf(BPF_PROG_LOAD)")?;
        bpf::attach_devices(cgroup.as_fd(), program.as_fd()).call(|| "bpf(BPF_PROG_ATTACH)")
    };
    match attach() {
        // Who has no right to programs has none to make devices either, and opens those that the host lets it.
        Err(error) if error.errno() == Some(Errno::EPERM) && !is_privileged() => Ok(()),
        other => other.context(|| format!("{}/devices", setting::POINTER)),
    }
}

/// Whether this process is root of the host, not only of a user namespace.
fn is_privileged() -> bool {
    nix::unistd::geteuid().is_root() && !crate::host::in_user_namespace()
}
