//! PID 1 of a PID namespace that containers share: `ocirun-init`, as a container with an empty root.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use ocirun_shim::files::PodDirectory;
use runtime_core::kernel::mount::{Attributes, fs_mount, fs_open};
use runtime_core::{Bundle, Container, CreateOptions, ErrorKind, Host, Plan, Root, Start};
use serde_json::{Value, json};

use super::{KINDS, Pod, pin};
use crate::disk;
use crate::failure::{Call, Failure, Result};
use crate::job::{Answer, Job};

/// Its name as a container.
const ID: &str = "init";

/// The PID 1.
#[derive(Debug)]
pub(super) struct Init {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
}

impl Init {
    /// Starts it, and pins its PID namespace.
    pub(super) fn start(pod: &Pod) -> Result<Self> {
        let directory = pod.directory.init();
        disk::make_directory(&directory)?;
        disk::make_directory(&directory.join("rootfs"))?;
        disk::write_json(&directory.join("config.json"), &config(pod))?;
        let driver = pod.host();
        // By a process of its own, whose standard streams lead nowhere.
        let job = Job::start([], || {
            crate::close_standard_error()?;
            let bundle = Bundle::open(&directory)?;
            let mut host = Host::probe()?;
            host.cgroup_driver = driver;
            let plan = Plan::compile(bundle.spec(), &host)?;
            let options = CreateOptions {
                start: Start::Now,
                init: Some(crate::init::of_pod()),
                root: Some(empty_root()?),
                keyring: false,
                ..CreateOptions::default()
            };
            Container::create(&root(&directory), ID, &bundle, plan, options)?;
            Ok(Answer::default())
        })?;
        let _ = waitpid(job.pid, None);
        job.finish()
            .map_err(|failure| failure.context("first process of the pod"))?;
        let found = Self::find(&pod.directory)?;
        let ended = || Failure::os("first process of the pod", nix::errno::Errno::ESRCH);
        let init = found.ok_or_else(ended)?;
        let namespace = format!("/proc/{}/ns/pid", init.pid);
        pin(namespace.as_ref(), &pod.directory.namespace("pid"))?;
        Ok(init)
    }

    /// Finds the one that is there.
    pub(super) fn find(directory: &PodDirectory) -> Result<Option<Self>> {
        let container = match Container::open(&root(&directory.init()), ID) {
            Err(error) if *error.kind() == ErrorKind::NotFound => return Ok(None),
            container => container?,
        };
        let first = container.first_process()?;
        Ok(first.map(|first| Self {
            pid: first.pid,
            pidfd: first.pidfd,
        }))
    }
}

/// Ends and removes what there is of it.
pub(super) fn remove_init(directory: &PodDirectory) -> Result<()> {
    let directory = directory.init();
    Container::delete_by_force(&root(&directory), ID)?;
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.call(|| format!("rmdir({directory:?})")),
    }
}

fn root(directory: &Path) -> Root {
    Root::new(directory.join("runtime"))
}

/// A file system with nothing in it.
fn empty_root() -> Result<OwnedFd> {
    let context = fs_open(c"tmpfs").call(|| "fsopen(\"tmpfs\")")?;
    let attributes = Attributes::NOSUID
        .with(Attributes::NODEV)
        .with(Attributes::NOEXEC);
    fs_mount(context.as_fd(), attributes).call(|| "fsmount(\"tmpfs\")")
}

/// No rights, no mounts, and the pod's namespaces.
fn config(pod: &Pod) -> Value {
    let joined = KINDS
        .iter()
        .filter(|(kind, _)| pod.owns(*kind))
        .map(|(_, name)| {
            let kind = if *name == "net" { "network" } else { name };
            json!({"type": kind, "path": pod.directory.namespace(name)})
        });
    let new = ["pid", "mount"].map(|kind| json!({ "type": kind }));
    let namespaces: Vec<Value> = new.into_iter().chain(joined).collect();
    let root_path = pod
        .file
        .root
        .as_deref()
        .unwrap_or_else(|| Path::new("rootfs"));
    json!({
        "ociVersion": "1.2.0",
        "root": {"path": root_path, "readonly": true},
        "process": {
            "cwd": "/",
            "args": ["ocirun-init"],
            "user": {"uid": 0, "gid": 0},
            "noNewPrivileges": true,
        },
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": pod.file.cgroups_path,
        },
    })
}
