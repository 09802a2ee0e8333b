//! `restore`: CRIU makes a container's processes again from files.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use super::checkpoint::{NOTIFY, external_namespace, kind_name};
use super::create::{Attempt, Created, Terminal, record};
use super::streams::Streams;
use super::{Child, Container, external};
use crate::bundle::Bundle;
use crate::cgroup::Cgroup;
use crate::criu::options::{CriuOptions, external_mount, field, inherit};
use crate::criu::wire::Message;
use crate::criu::{Criu, Inside, Notice, Request, Start, check_version, with_log};
use crate::error::{Call, Context, Error, Result};
use crate::files;
use crate::hooks;
use crate::kernel::pidfd;
use crate::plan::Plan;
use crate::plan::namespaces::Joined;
use crate::rdt::Group;
use crate::spec::NamespaceKind;
use crate::state::{Directory, Identity, Root, Status};
use crate::sync::send_fds;

const LOG: &str = "restore.log";

/// How a container is restored.
#[derive(Debug)]
pub struct RestoreOptions {
    /// As it was written.
    pub criu: CriuOptions,
    /// Who gets the master of its terminal, if it has one.
    pub terminal: Terminal,
    /// Where its pid is written.
    pub pid_file: Option<PathBuf>,
    /// Socket to which a descriptor of its first process is sent.
    pub pidfd_socket: Option<PathBuf>,
    /// The profile that its processes get instead of their own, `TYPE:NAME`.
    pub lsm_profile: Option<String>,
    /// The label that its mounts get instead of their own.
    pub lsm_mount_context: Option<String>,
}

impl Container {
    /// Makes the container `id` below `root` from the files that [`Container::checkpoint`] wrote. It runs then, and its
    /// first process is a child of the calling process, which must have one thread.
    ///
    /// # Errors
    /// Everything that can go wrong, with the last errors of CRIU's log; nothing of the container is left then.
    pub fn restore(
        root: &Root,
        id: &str,
        bundle: &Bundle,
        plan: &Plan,
        options: &RestoreOptions,
    ) -> Result<Created> {
        external::check(plan)?;
        check_version(options.lsm_profile.is_some() || options.lsm_mount_context.is_some())?;
        let streams = Streams::read(&options.criu.images)?;
        let cgroup = Cgroup::locate(&plan.cgroup, id)?;
        let rdt = plan.rdt.as_ref();
        let rdt = rdt.map(|request| Group::locate(request, id)).transpose()?;
        let directory = Directory::make(root, id)?;
        let record = record(id, bundle, plan, rdt);
        let mut attempt = Attempt::new(Self { directory, record });
        let image = Image {
            bundle,
            plan,
            options,
            streams,
        };
        match image.restore(&mut attempt, cgroup) {
            Ok(()) => attempt.succeed(),
            Err(error) => Err(attempt.undo(error)),
        }
    }
}

/// What a container is made of.
struct Image<'a> {
    bundle: &'a Bundle,
    plan: &'a Plan,
    options: &'a RestoreOptions,
    /// What the standard streams were.
    streams: Streams,
}

impl Image<'_> {
    fn restore(&self, attempt: &mut Attempt, mut cgroup: Cgroup) -> Result<()> {
        cgroup.refuse_used()?;
        let container = &mut attempt.container;
        container.record.cgroup = cgroup.clone();
        container.directory.write_record(&container.record)?;
        container.directory.write_config(self.bundle.config())?;
        container.directory.make_notify()?;
        let rootfs = self.bundle.open_root()?.path;
        external::make_places(self.plan, self.bundle.path(), &path(&rootfs))?;
        let at = container.directory.make_criu_root()?;
        let (kept, mut opts) = self.describe(container, &cgroup)?;
        opts.text(field::ROOT, at.as_os_str().as_bytes());
        let at = CString::new(at.as_os_str().as_bytes()).unwrap_or_default();

        let directories = self.options.criu.paths()?;
        let unified = cgroup.create_unified(&self.plan.cgroup)?;
        let id = container.record.id.clone();
        let made = std::cell::RefCell::new(cgroup);
        let enter = |pid: Pid| {
            let entrance = made.borrow_mut().create(&self.plan.cgroup, &id, pid)?;
            Ok(entrance.tasks)
        };
        let criu = Criu::start(&Start {
            kept: &kept,
            inside: Some(Inside {
                root: (&rootfs, &at),
                directories: &directories,
                unified: unified.as_ref().map(AsFd::as_fd),
                enter: &enter,
            }),
        });
        container.record.cgroup = made.into_inner();
        container.directory.write_record(&container.record)?;
        let criu = criu?;
        criu.directories().describe(&mut opts);
        add_cgroup_roots(criu.pid(), &mut opts)?;
        let log = self.options.criu.log_directory().join(LOG);
        let restored = criu.carry_out(Request::Restore, &opts, &mut |notice| {
            self.hear(attempt, notice)
        });
        let pid = restored.map_err(|error| with_log(error, &log))?;
        self.take(attempt, pid)?;
        attempt.container.directory.remove_criu_root()?;
        let options = self.options;
        attempt.announce(options.pid_file.as_ref(), options.pidfd_socket.as_ref())
    }

    /// Takes over the first process, which is this one's child.
    fn take(&self, attempt: &mut Attempt, pid: i32) -> Result<()> {
        if attempt.init.is_some() {
            return Ok(());
        }
        let pid = Pid::from_raw(pid);
        let pidfd = pidfd::open(pid).call(|| format!("pidfd_open({pid})"))?;
        attempt.init = Some(Child { pid, pidfd });
        let record = &mut attempt.container.record;
        record.init = Some(Identity::of(pid)?);
        if let (Some(group), Some(request)) = (&record.rdt, &self.plan.rdt) {
            group.enter(request, pid)?;
        }
        let container = &attempt.container;
        container.directory.write_record(&container.record)
    }

    fn hear(&self, attempt: &mut Attempt, notice: Notice) -> Result<()> {
        match notice.point.as_str() {
            "setup-namespaces" => {
                let mut state = attempt.container.record.hook_state(Status::Creating);
                state.pid = notice.pid;
                let all = &self.plan.hooks;
                hooks::run(&all.prestart, "prestart", &state)?;
                hooks::run(&all.create_runtime, "createRuntime", &state)
            }
            // Its processes do not go on before this is answered: whoever is killed now has left a record of them.
            "post-restore" => self.take(attempt, notice.pid),
            "orphan-pts-master" => match (&self.options.terminal, notice.master) {
                (Terminal::Socket(socket), Some(master)) => {
                    let connection = files::connect_to(socket).context(|| "console socket")?;
                    send_fds(&connection, b"orphan-pts-master", &[master.as_fd()])
                        .call(|| format!("sendmsg({socket:?})"))
                        .context(|| "console socket")
                }
                (Terminal::Caller, master) => {
                    attempt.master = master;
                    Ok(())
                }
                (Terminal::Socket(_), None) => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// The options, and the descriptors that they name.
    fn describe(&self, container: &Container, cgroup: &Cgroup) -> Result<(Vec<OwnedFd>, Message)> {
        let criu = &self.options.criu;
        let mut opts = criu.message(LOG, &container.record.annotations);
        opts.bool(field::EVASIVE_DEVICES, true);
        opts.bool(field::RST_SIBLING, true);
        let labels = [
            (field::LSM_PROFILE, &self.options.lsm_profile),
            (field::LSM_MOUNT_CONTEXT, &self.options.lsm_mount_context),
        ];
        for (number, label) in labels {
            if let Some(label) = label {
                opts.text(number, label);
            }
        }
        self.describe_mounts(container, cgroup, &mut opts)?;
        let mut kept = Vec::new();
        for joined in &self.plan.namespaces.joined {
            kept.extend(join(joined, &mut opts)?);
        }
        self.streams.inherit(&mut opts);
        Ok((kept, opts))
    }

    fn describe_mounts(
        &self,
        container: &Container,
        cgroup: &Cgroup,
        opts: &mut Message,
    ) -> Result<()> {
        let root = external::open_root(&path(&self.bundle.open_root()?.path))?;
        for mount in external::of(self.plan, self.bundle.path(), cgroup) {
            let outside = std::fs::canonicalize(&mount.outside).unwrap_or(mount.outside);
            let outside = outside.as_os_str().as_bytes();
            let resolved = external::resolve(&root, &mount.inside)?;
            external_mount(opts, resolved.as_os_str().as_bytes(), outside);
            if resolved != mount.inside {
                external_mount(opts, mount.inside.as_os_str().as_bytes(), outside);
            }
        }
        let notify = container.directory.notify_path()?;
        external_mount(opts, NOTIFY.as_bytes(), notify.as_os_str().as_bytes());
        external_mount(opts, external::NULL, external::NULL);
        Ok(())
    }
}

/// Has CRIU put the processes into a namespace that exists: by a descriptor where the images leave it out.
fn join(joined: &Joined, opts: &mut Message) -> Result<Option<OwnedFd>> {
    let element = || format!("linux.namespaces[{}] {}", joined.index, joined.kind.name());
    if let Some(key) = external_namespace(joined.kind) {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let path = joined.path.as_str();
        let namespace = open(path, flags, Mode::empty())
            .call(|| format!("open({path:?})"))
            .context(element)?;
        inherit(opts, key, namespace.as_raw_fd());
        return Ok(Some(namespace));
    }
    if matches!(joined.kind, NamespaceKind::Cgroup | NamespaceKind::Mount) {
        let text = "CRIU does not restore into a namespace of this kind that exists";
        return Err(Error::unsupported(text).context(element()));
    }
    let mut namespace = Message::default();
    namespace.text(1, kind_name(joined.kind));
    namespace.text(2, &joined.path);
    opts.message(field::JOIN_NS, &namespace);
    Ok(None)
}

/// Has CRIU make cgroups below the container's, in which it is itself, and not where they once were.
fn add_cgroup_roots(criu: Pid, opts: &mut Message) -> Result<()> {
    let file = format!("/proc/{criu}/cgroup");
    let text = std::fs::read_to_string(&file).call(|| format!("read({file:?})"))?;
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        for controller in controllers.split(',') {
            let mut root = Message::default();
            root.text(1, controller);
            root.text(2, path);
            opts.message(field::CG_ROOT, &root);
        }
    }
    Ok(())
}

fn path(name: &std::ffi::CStr) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(name.to_bytes()))
}
