//! `checkpoint`: CRIU writes a container's processes to files.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Container, external, streams};
use crate::criu::options::{CriuOptions, Directories, Switch, external_mount, field, make};
use crate::criu::wire::Message;
use crate::criu::{Criu, Feature, Notice, Request, Start, check_feature, check_version, with_log};
use crate::error::{Call, Error, ErrorKind, Result};
use crate::host::Host;
use crate::plan::Plan;
use crate::spec::NamespaceKind;
use crate::state::Status;

const LOG: &str = "dump.log";

/// How a container is written.
#[derive(Debug)]
pub struct CheckpointOptions {
    /// What goes for restore too.
    pub criu: CriuOptions,
    /// Directory of an earlier image that this one builds on, relative to the directory of the images.
    pub parent: Option<PathBuf>,
    /// Who takes the pages.
    pub page_server: Option<PageServer>,
    /// How much is written.
    pub dump: Dump,
    /// Gets one NUL when pages can be fetched, and is closed then; owned.
    pub status: Option<OwnedFd>,
}

/// Where a page server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageServer {
    /// Its address.
    pub address: String,
    /// Its port.
    pub port: u16,
}

/// How much of a container is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dump {
    /// All of it.
    Whole,
    /// Its memory, so that there is less to write later. The container goes on.
    Memory,
}

impl Container {
    /// Writes this container to files. Its processes have ended then, unless they were to go on; the container itself
    /// is still to be deleted.
    ///
    /// The calling process must have one thread.
    ///
    /// # Errors
    /// `WrongState` where no program runs; `Unsupported` without CRIU, or for what CRIU or the kernel cannot do; `Os`
    /// with the last errors of CRIU's log.
    pub fn checkpoint(&self, options: CheckpointOptions) -> Result<()> {
        let status = self.status()?;
        if !matches!(status, Status::Running | Status::Paused) {
            let text = format!(
                "container cannot be checkpointed in {} state",
                status.name()
            );
            return Err(Error::new(ErrorKind::WrongState(status), text));
        }
        let plan = Plan::compile(&self.spec()?, &Host::probe()?)?;
        external::check(&plan)?;
        check_version(false)?;
        if options.dump == Dump::Memory {
            check_feature(Feature::MemoryTracking)?;
        }
        if options.criu.is_on(Switch::LazyPages) {
            check_feature(Feature::LazyPages)?;
        }
        make(&options.criu.images)?;
        let directories = Directories::open(&options.criu.paths()?)?;
        let mut opts = options.criu.message(LOG, &self.record.annotations);
        directories.describe(&mut opts);
        self.describe(&plan, &options, &mut opts)?;
        let request = match options.dump {
            Dump::Whole => Request::Dump,
            Dump::Memory => Request::PreDump,
        };
        let log = options.criu.log_directory().join(LOG);
        let mut ready = options.status;
        let criu = Criu::start(&Start::default())?;
        let dumped = criu.carry_out(request, &opts, &mut |notice: Notice| {
            if notice.point == "status-ready"
                && let Some(status) = ready.take()
            {
                // Whoever waited for it may be gone, which is no reason to give up.
                let _ = nix::unistd::write(&status, &[0]);
            }
            Ok(())
        });
        dumped.map(drop).map_err(|error| with_log(error, &log))
    }

    /// What of the options is this container's own.
    fn describe(&self, plan: &Plan, options: &CheckpointOptions, opts: &mut Message) -> Result<()> {
        let init = self.running()?;
        let pid = init.pid();
        opts.number(field::PID, u64::try_from(pid).unwrap_or_default());
        opts.text(field::ROOT, self.record.rootfs.as_os_str().as_bytes());
        if let Some(server) = &options.page_server {
            let mut ps = Message::default();
            ps.text(1, &server.address);
            ps.number(2, server.port.into());
            opts.message(field::PS, &ps);
        }
        if let Some(parent) = &options.parent {
            opts.text(field::PARENT_IMG, parent.as_os_str().as_bytes());
            opts.bool(field::TRACK_MEM, true);
        }
        if let Some(freezer) = self.record.cgroup.freezer_directory() {
            opts.text(field::FREEZE_CGROUP, freezer.as_os_str().as_bytes());
        }
        for joined in &plan.namespaces.joined {
            if let Some(key) = external_namespace(joined.kind) {
                let path = &joined.path;
                let inode = std::fs::metadata(path)
                    .call(|| format!("stat({path:?})"))?
                    .ino();
                opts.text(
                    field::EXTERNAL,
                    format!("{}[{inode}]:{key}", kind_name(joined.kind)),
                );
            }
        }
        if options.dump == Dump::Memory {
            return Ok(());
        }
        self.describe_mounts(plan, pid, opts)?;
        streams::write(&options.criu.images, pid, opts)
    }

    fn describe_mounts(&self, plan: &Plan, pid: i32, opts: &mut Message) -> Result<()> {
        let root = external::open_root(Path::new(&format!("/proc/{pid}/root")))?;
        let mounts = external::of(plan, &self.record.bundle, &self.record.cgroup);
        for mount in &mounts {
            let inside = external::resolve(&root, &mount.inside)?;
            let inside = inside.as_os_str().as_bytes();
            external_mount(opts, inside, inside);
        }
        if self.directory.has_notify() {
            external_mount(opts, NOTIFY.as_bytes(), NOTIFY.as_bytes());
        }
        for file in external::masked_files(plan, &root)? {
            external_mount(opts, file.as_os_str().as_bytes(), external::NULL);
        }
        Ok(())
    }
}

/// Where a container finds the socket of sd_notify(3).
pub(super) const NOTIFY: &str = "/run/notify";

/// How the images name a namespace that is not the container's: CRIU can leave out these two.
pub(super) fn external_namespace(kind: NamespaceKind) -> Option<&'static str> {
    match kind {
        NamespaceKind::Network => Some("extRootNetNS"),
        NamespaceKind::Pid => Some("extRootPidNS"),
        _ => None,
    }
}

/// The name of a namespace in procfs.
pub(super) fn kind_name(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Network => "net",
        NamespaceKind::Mount => "mnt",
        kind => kind.name(),
    }
}
