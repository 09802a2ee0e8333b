//! A container's cgroups: made, limited, joined, frozen, killed and removed.
//!
//! On version 1 a container has one directory in each hierarchy; where a version 2 hierarchy is mounted beside them
//! (the hybrid layout) it has one there too, for `cgroup.kill`. Directories are found by the usual mount points below
//! `/sys/fs/cgroup`, without parsing the mount table.
//!
//! See cgroups(7), and the kernel's cgroup-v1 documents.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::error::{Call, Context, Error, Result};
use crate::host::Host;
use crate::kernel::pidfd;
use crate::spec::Linux;

mod directory;
mod sub;
mod v1;

use self::directory::{
    below, collect_processes, is_forbidden, is_gone, make_directories, open_directory, open_write,
    refuse_used, remove_tree, write,
};
pub(crate) use self::sub::SubCgroup;

/// Where cgroup file systems are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// How long processes are given to leave a cgroup after they were killed.
const EMPTYING: Duration = Duration::from_secs(10);

/// The hierarchies of this host and where this process is in them.
#[derive(Clone, Debug, Default)]
pub struct Hierarchies {
    /// Version 1, in the order of the kernel.
    v1: Vec<Hierarchy>,
    /// Version 2.
    unified: Option<Hierarchy>,
}

#[derive(Clone, Debug)]
struct Hierarchy {
    /// As in `/proc/self/cgroup`: controllers with commas between them, `name=…` for one without, empty for version 2.
    controllers: String,
    mount: PathBuf,
    /// The cgroup of this process, absolute within the hierarchy.
    own: String,
}

impl Hierarchies {
    /// Reads `/proc/self/cgroup`.
    pub(crate) fn probe() -> Result<Self> {
        let text =
            fs::read_to_string("/proc/self/cgroup").call(|| "read(\"/proc/self/cgroup\")")?;
        Ok(Self::parse(&text, |mount| {
            Path::new(mount).join("cgroup.procs").exists()
        }))
    }

    fn parse(text: &str, is_mounted: impl Fn(&str) -> bool) -> Self {
        let mut hierarchies = Self::default();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(own)) = (fields.next(), fields.next()) else {
                continue;
            };
            let name = controllers.strip_prefix("name=").unwrap_or(controllers);
            let mount = match name {
                "" => [format!("{MOUNT}/unified"), MOUNT.to_owned()]
                    .into_iter()
                    .find(|mount| is_mounted(mount)),
                name => Some(format!("{MOUNT}/{name}")),
            };
            let Some(mount) = mount else { continue };
            let hierarchy = Hierarchy {
                controllers: controllers.to_owned(),
                mount: mount.into(),
                own: own.to_owned(),
            };
            if name.is_empty() {
                hierarchies.unified = Some(hierarchy);
            } else {
                hierarchies.v1.push(hierarchy);
            }
        }
        hierarchies
    }
}

/// What a configuration asks of cgroups.
#[derive(Debug)]
pub(crate) struct Request {
    /// `linux.cgroupsPath`: absolute below each mount point, or relative to the caller's own cgroup.
    path: Option<String>,
    writes: Vec<Setting>,
    /// Whether a container may run without cgroups of its own where they cannot be made.
    optional: bool,
    hierarchies: Hierarchies,
}

/// One value of one file.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    controller: &'static str,
    file: String,
    value: String,
    /// JSON pointer of what asked for it.
    pointer: String,
}

impl Request {
    pub(crate) fn compile(linux: &Linux, host: &Host) -> Result<Self> {
        let path = linux.cgroups_path.clone().filter(|path| !path.is_empty());
        if let Some(path) = &path
            && (path.split('/').any(|part| part == "..") || path.contains('\0'))
        {
            return Err(Error::invalid_spec(
                "/linux/cgroupsPath",
                &format!("{path:?} must not have \"..\" or NUL"),
            ));
        }
        if host.cgroups.v1.is_empty() && host.cgroups.unified.is_some() && host.uid.is_root() {
            return Err(Error::unsupported(
                "a host with cgroup v2 alone is not supported yet",
            ));
        }
        let limits = linux
            .resources
            .as_ref()
            .map(v1::settings)
            .transpose()?
            .unwrap_or_default();
        let optional = host.cgroups_are_optional && path.is_none() && limits.is_empty();
        let mut writes = limits;
        let devices = linux
            .resources
            .as_ref()
            .and_then(|resources| resources.devices.as_deref())
            .unwrap_or_default();
        v1::device_settings(devices, &mut writes)?;
        Ok(Self {
            path,
            writes,
            optional,
            hierarchies: host.cgroups.clone(),
        })
    }
}

/// The directories of one container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cgroup {
    /// Version 1, with the controllers of each.
    v1: Vec<Directory>,
    /// Version 2.
    unified: Option<PathBuf>,
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
    pub(crate) fn locate(request: &Request, id: &str) -> Self {
        let hierarchies = &request.hierarchies;
        let path = |hierarchy: &Hierarchy| match request.path.as_deref() {
            Some(path) if path.starts_with('/') => below(&hierarchy.mount, &[path]),
            path => below(&hierarchy.mount, &[&hierarchy.own, path.unwrap_or(id)]),
        };
        let directory = |hierarchy: &Hierarchy| {
            let controllers = hierarchy.controllers.clone();
            // The kernel also names hierarchies that are mounted elsewhere, or only in another mount namespace.
            hierarchy.mount.join("tasks").exists().then(|| Directory {
                controllers,
                path: path(hierarchy),
            })
        };
        Self {
            v1: hierarchies.v1.iter().filter_map(directory).collect(),
            unified: hierarchies.unified.as_ref().map(path),
        }
    }

    /// All directories.
    fn directories(&self) -> impl Iterator<Item = &Path> {
        self.v1
            .iter()
            .map(|directory| directory.path.as_path())
            .chain(self.unified.as_deref())
    }

    /// The directory of the hierarchy that has `controller`.
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

    /// Makes the directory of version 2, for clone3 to put the child into, and gives a descriptor of it.
    ///
    /// # Errors
    /// The errno of making it.
    pub(crate) fn create_unified(&mut self, request: &Request) -> Result<Option<OwnedFd>> {
        let Some(path) = &self.unified else {
            return Ok(None);
        };
        match make_directories(path).and_then(|()| open_directory(path)) {
            Ok(directory) => Ok(Some(directory)),
            Err(error) if request.optional && is_forbidden(&error) => {
                self.unified = None;
                Ok(None)
            }
            Err(error) => Err(error.context("unable to apply cgroup configuration")),
        }
    }

    /// Makes the directories of version 1 and writes the limits.
    ///
    /// Where cgroups cannot be made and no limit asks for them, the container has none.
    ///
    /// # Errors
    /// `Os` for what cannot be made or written.
    pub(crate) fn create(&mut self, request: &Request) -> Result<Entrance> {
        match self.create_v1(request) {
            Err(error) if request.optional && is_forbidden(&error) => {
                drop(self.remove());
                *self = Self::default();
                Ok(Entrance::default())
            }
            other => other.context(|| "unable to apply cgroup configuration"),
        }
    }

    fn create_v1(&self, request: &Request) -> Result<Entrance> {
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
            self.apply(setting)?;
        }
        Ok(entrance)
    }

    fn apply(&self, setting: &Setting) -> Result<()> {
        let Some(directory) = self.directory(setting.controller) else {
            // Without the controller nothing can be allowed or denied, and nothing was asked for but the defaults.
            if setting.controller == "devices" {
                return Ok(());
            }
            let text = format!(
                "{}: the cgroup controller {} is not mounted",
                setting.pointer, setting.controller
            );
            return Err(Error::unsupported(text));
        };
        write(&directory.join(&setting.file), &setting.value).context(|| &setting.pointer)
    }

    /// Opens the files by which a process enters these cgroups, or the cgroup `sub` below each.
    ///
    /// # Errors
    /// The errno of opening them.
    pub(crate) fn entrance(&self, sub: &SubCgroup) -> Result<Entrance> {
        let mut entrance = Entrance::default();
        for directory in &self.v1 {
            let path = sub.below(&directory.path, &directory.controllers)?;
            let tasks = open_write(&path.join("tasks")).map_err(|error| {
                if sub.is_none() {
                    error
                } else {
                    error.context("unknown sub-cgroup")
                }
            })?;
            entrance.tasks.push(tasks.into());
        }
        Ok(entrance)
    }

    /// Opens the directory of version 2 for clone3.
    ///
    /// # Errors
    /// The errno of opening it.
    pub(crate) fn unified_directory(&self) -> Result<Option<OwnedFd>> {
        self.unified.as_deref().map(open_directory).transpose()
    }

    /// Directories of version 1 with the names under which a container finds them.
    pub(crate) fn views(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.v1
            .iter()
            .map(|directory| (directory.controllers.as_str(), directory.path.as_path()))
    }

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

    /// Whether the container is frozen.
    ///
    /// # Errors
    /// The errno of reading the freezer's state.
    pub(crate) fn is_frozen(&self) -> Result<bool> {
        let Some(directory) = self.directory("freezer") else {
            return Ok(false);
        };
        let file = directory.join("freezer.state");
        match fs::read(&file) {
            Ok(state) => Ok(!state.starts_with(b"THAWED")),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(error).call(|| format!("read({file:?})")),
        }
    }

    /// Stops all processes, or lets them go on.
    ///
    /// # Errors
    /// `Unsupported` without a freezer; the errno of writing its state.
    pub(crate) fn set_frozen(&self, frozen: bool) -> Result<()> {
        let Some(directory) = self.directory("freezer") else {
            return Err(Error::unsupported(
                "the cgroup controller freezer is not mounted",
            ));
        };
        let file = directory.join("freezer.state");
        let state = if frozen { "FROZEN" } else { "THAWED" };
        let deadline = Instant::now() + EMPTYING;
        loop {
            write(&file, state)?;
            // A process in the middle of a fork leaves the state at FREEZING until it is frozen again.
            let now = fs::read_to_string(&file).call(|| format!("read({file:?})"))?;
            if now.trim_end() == state {
                return Ok(());
            }
            if Instant::now() > deadline {
                if frozen {
                    write(&file, "THAWED")?;
                }
                return Err(Error::os(
                    format!("write({file:?}, {state:?})"),
                    Errno::ETIMEDOUT,
                ));
            }
            std::thread::sleep(Duration::from_millis(1));
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
        if self.directory("freezer").is_none() {
            return if killed {
                Ok(())
            } else {
                self.signal_all(libc::SIGKILL)
            };
        }
        // Frozen processes neither fork nor die: thawed, they find the signal first.
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

    /// Removes the directories, and those the container made below them.
    ///
    /// Goes on past what cannot be removed.
    ///
    /// # Errors
    /// The first one, where there were any; `EBUSY` where processes are left.
    pub(crate) fn remove(&self) -> Result<()> {
        let mut first = Ok(());
        for directory in self.directories() {
            let removed = remove_tree(directory);
            if first.is_ok() {
                first = removed;
            }
        }
        first
    }

    /// How often the kernel killed for lack of memory in this cgroup.
    pub(crate) fn oom_kills(&self) -> u64 {
        let Some(directory) = self.directory("memory") else {
            return 0;
        };
        let Ok(text) = fs::read_to_string(directory.join("memory.oom_control")) else {
            return 0;
        };
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count
            .and_then(|count| count.trim().parse().ok())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies() {
        let text = "4:memory:/own/a\n3:cpu,cpuacct:/\n2:name=systemd:/x:y\n0::/u\n";
        let found = Hierarchies::parse(text, |mount| mount == "/sys/fs/cgroup/unified");
        let mounts: Vec<_> = found
            .v1
            .iter()
            .map(|h| (h.mount.to_str().unwrap(), h.own.as_str()))
            .collect();
        let expected = [
            ("/sys/fs/cgroup/memory", "/own/a"),
            ("/sys/fs/cgroup/cpu,cpuacct", "/"),
            ("/sys/fs/cgroup/systemd", "/x:y"),
        ];
        assert_eq!(mounts, expected);
        assert_eq!(
            found.unified.unwrap().mount,
            Path::new("/sys/fs/cgroup/unified")
        );
    }
}
