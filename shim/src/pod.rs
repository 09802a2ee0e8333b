//! The pod itself: its namespaces and its `/dev/shm`, which outlive the shim, and its PID 1 where it has one.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::Pid;
use ocirun_shim::files::{PodDirectory, PodFile};
use ocirun_shim::wire::{Code, Namespaces, PodState};
use runtime_core::host::Driver;
use runtime_core::kernel::pidfd;
use runtime_core::pod::Holder;
use runtime_core::spec::{IdMapping, Linux, Namespace, NamespaceKind};
use serde::{Deserialize, Serialize};

use crate::disk::{self, now};
use crate::failure::{Call, Failure, Result};
use init::{Init, remove_init};

mod init;

/// Bytes of `/dev/shm` where the pod does not say.
const SHM: u64 = 64 << 20;

/// What a shim leaves for the next one: `shim.json`. It is there once the namespaces are.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    created_at: i64,
    stopped: bool,
}

/// A pod.
#[derive(Debug)]
pub(crate) struct Pod {
    directory: PodDirectory,
    id: String,
    file: PodFile,
    record: Record,
    init: Option<Init>,
}

/// The namespaces that can be a pod's own, with their names below `ns/` and `/proc/PID/ns/`.
const KINDS: [(NamespaceKind, &str); 4] = [
    (NamespaceKind::User, "user"),
    (NamespaceKind::Network, "net"),
    (NamespaceKind::Ipc, "ipc"),
    (NamespaceKind::Uts, "uts"),
];

impl Pod {
    /// Makes the pod of `directory`, or takes over the one that an earlier shim has made.
    pub(crate) fn open(directory: PodDirectory) -> Result<Self> {
        let path = directory.pod_file();
        let missing = || Failure::os(format!("open({path:?})"), Errno::ENOENT);
        let file: PodFile = disk::read_json(&path)?.ok_or_else(missing)?;
        check(&file)?;
        let name = directory.path().file_name().unwrap_or_default();
        let mut pod = Self {
            id: name.to_string_lossy().into_owned(),
            record: Record {
                created_at: now(),
                stopped: false,
            },
            file,
            init: None,
            directory,
        };
        if let Some(record) = disk::read_json(&pod.directory.record())? {
            pod.record = record;
            pod.init = Init::find(&pod.directory)?;
            return Ok(pod);
        }
        // What a killed shim may have begun.
        pod.unmake()?;
        if let Err(failure) = pod.make() {
            return Err(match pod.unmake() {
                Ok(()) => failure,
                Err(also) => Failure::new(failure.code, format!("{failure}; also, {also}")),
            });
        }
        Ok(pod)
    }

    fn make(&mut self) -> Result<()> {
        disk::make_directory(&self.directory.path().join("ns"))?;
        let own = |kind: &NamespaceKind| self.owns(*kind);
        let new = |(kind, _): &(NamespaceKind, &str)| Namespace {
            kind: *kind,
            path: None,
        };
        let list = KINDS.iter().filter(|(kind, _)| own(kind)).map(new);
        let linux = Linux {
            namespaces: Some(list.collect()),
            uid_mappings: self
                .file
                .namespaces
                .user
                .then(|| ids(&self.file.uid_mappings)),
            gid_mappings: self
                .file
                .namespaces
                .user
                .then(|| ids(&self.file.gid_mappings)),
            sysctl: Some(self.file.sysctls.clone()),
            ..Linux::default()
        };
        let holder = Holder::make(&linux, self.file.hostname.as_deref())?;
        for (kind, name) in KINDS.iter().filter(|(kind, _)| own(kind)) {
            pin(&holder.path(*kind), &self.directory.namespace(name))?;
        }
        if let Some(path) = self.network_path() {
            pin(&holder.path(NamespaceKind::Network), path)?;
        }
        if self.file.namespaces.ipc {
            self.mount_shm()?;
        }
        if self.file.namespaces.pid {
            self.init = Some(Init::start(self)?);
        }
        disk::write_json(&self.directory.record(), &self.record)
    }

    fn owns(&self, kind: NamespaceKind) -> bool {
        let own = &self.file.namespaces;
        match kind {
            NamespaceKind::User => own.user,
            NamespaceKind::Network => own.network,
            NamespaceKind::Ipc => own.ipc,
            NamespaceKind::Uts => own.uts,
            NamespaceKind::Pid => own.pid,
            _ => false,
        }
    }

    fn network_path(&self) -> Option<&Path> {
        let path = self.file.network_path.as_deref();
        path.filter(|_| self.file.namespaces.network)
    }

    /// A tmpfs that belongs to the root of the pod's user namespace.
    fn mount_shm(&self) -> Result<()> {
        let path = self.directory.shm();
        disk::make_directory(&path)?;
        let root = |ids: &[ocirun_shim::files::IdMapping]| {
            let root = ids.iter().find(|range| range.container_id == 0);
            root.filter(|_| self.file.namespaces.user)
                .map_or(0, |range| range.host_id)
        };
        let options = format!(
            "mode=1777,size={},uid={},gid={}",
            self.file.shm_size.unwrap_or(SHM),
            root(&self.file.uid_mappings),
            root(&self.file.gid_mappings)
        );
        mount(
            Some("shm"),
            &path,
            Some("tmpfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
            Some(options.as_str()),
        )
        .call(|| format!("mount(\"tmpfs\", {path:?}, {options:?})"))
    }

    /// Where it is.
    pub(crate) fn directory(&self) -> &PodDirectory {
        &self.directory
    }

    /// Who makes its cgroups.
    pub(crate) fn host(&self) -> Driver {
        if self.file.systemd_cgroup {
            Driver::systemd()
        } else {
            Driver::Cgroupfs
        }
    }

    /// Whether that is systemd.
    pub(crate) fn has_systemd(&self) -> bool {
        self.file.systemd_cgroup
    }

    /// What is told of it.
    pub(crate) fn state(&self) -> PodState {
        let path = |kind: NamespaceKind, path: PathBuf| match self.owns(kind) {
            true => path.to_string_lossy().into_owned(),
            false => String::new(),
        };
        let pinned = |kind, name| path(kind, self.directory.namespace(name));
        let network = self.network_path().map(|path| path.display().to_string());
        PodState {
            id: self.id.clone(),
            shim_pid: nix::unistd::getpid().as_raw(),
            init_pid: self.init.as_ref().map_or(0, |init| init.pid.as_raw()),
            stopped: self.record.stopped,
            namespaces: Some(Namespaces {
                network: network.unwrap_or_else(|| pinned(NamespaceKind::Network, "net")),
                ipc: pinned(NamespaceKind::Ipc, "ipc"),
                uts: pinned(NamespaceKind::Uts, "uts"),
                user: pinned(NamespaceKind::User, "user"),
                pid: pinned(NamespaceKind::Pid, "pid"),
                shm: path(NamespaceKind::Ipc, self.directory.shm()),
            }),
            created_at: self.record.created_at,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Whether nothing is created or started any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.record.stopped
    }

    /// From now on nothing is, also after a new shim has taken over.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.record.stopped = true;
        disk::write_json(&self.directory.record(), &self.record)
    }

    /// Whether `pid` is its PID 1.
    pub(crate) fn is_init(&self, pid: Pid) -> bool {
        self.init.as_ref().is_some_and(|init| init.pid == pid)
    }

    /// Its PID 1 has ended and was waited for.
    pub(crate) fn init_has_ended(&mut self) {
        self.init = None;
    }

    /// Ends its PID 1.
    pub(crate) fn kill_init(&self) {
        if let Some(init) = &self.init {
            let _ = pidfd::send_signal(init.pidfd.as_fd(), libc::SIGKILL);
        }
    }

    /// Removes everything of it but what is the daemon's.
    pub(crate) fn remove(&self) -> Result<()> {
        self.unmake()?;
        for path in [self.directory.containers(), self.directory.runtime()] {
            // The daemon's files of containers may be there still.
            let _ = disk::remove_directory(&path);
        }
        disk::remove(&self.directory.record())?;
        disk::remove(&self.directory.socket())?;
        disk::remove(&self.directory.pid_file())
    }

    /// Takes back what [`Pod::make`] made. Goes on past what fails.
    fn unmake(&self) -> Result<()> {
        let mut results = vec![remove_init(&self.directory)];
        results.push(unpin(&self.directory.namespace("pid")));
        results.extend(self.network_path().map(unpin));
        for (_, name) in KINDS {
            results.push(unpin(&self.directory.namespace(name)));
        }
        let shm = self.directory.shm();
        results.push(unmount(&shm).and_then(|()| disk::remove_directory(&shm)));
        results.push(disk::remove_directory(&self.directory.path().join("ns")));
        results.into_iter().collect()
    }
}

fn check(file: &PodFile) -> Result<()> {
    let wrong = |text: &str| {
        Err(Failure::new(
            Code::InvalidArgument,
            format!("pod.json: {text}"),
        ))
    };
    let has_maps = !file.uid_mappings.is_empty() && !file.gid_mappings.is_empty();
    if file.namespaces.user && !has_maps {
        return wrong("a user namespace needs uidMappings and gidMappings");
    }
    if !file.namespaces.user && (!file.uid_mappings.is_empty() || !file.gid_mappings.is_empty()) {
        return wrong("uidMappings and gidMappings need a user namespace");
    }
    if file.root.as_deref().is_some_and(|root| !root.is_absolute()) {
        return wrong("root is not absolute");
    }
    match &file.network_path {
        Some(_) if !file.namespaces.network => {
            wrong("networkPath needs a network namespace of the pod's own")
        }
        Some(path) if !path.is_absolute() => wrong("networkPath is not absolute"),
        _ => Ok(()),
    }
}

fn ids(written: &[ocirun_shim::files::IdMapping]) -> Vec<IdMapping> {
    let map = |range: &ocirun_shim::files::IdMapping| IdMapping {
        container_id: range.container_id,
        host_id: range.host_id,
        size: range.size,
    };
    written.iter().map(map).collect()
}

/// Mounts the namespace at `from` over a new file, which holds it.
fn pin(from: &Path, at: &Path) -> Result<()> {
    if let Some(parent) = at.parent() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o755);
        builder
            .create(parent)
            .call(|| format!("mkdir({parent:?}, 0755)"))?;
    }
    File::create_new(at).call(|| format!("open({at:?}, O_CREAT|O_EXCL)"))?;
    mount(Some(from), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .call(|| format!("mount({from:?}, {at:?}, MS_BIND)"))
}

fn unpin(path: &Path) -> Result<()> {
    unmount(path)?;
    disk::remove(path)
}

/// Detaches what is mounted at `path`, if anything is.
fn unmount(path: &Path) -> Result<()> {
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(Failure::os(format!("umount2({path:?}, MNT_DETACH)"), errno)),
    }
}
