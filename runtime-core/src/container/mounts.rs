//! Mounts of a container that runs: made on the host, attached inside by a child that has joined its mount namespace.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, fchdir};

use super::Container;
use super::idmap::UserNamespaces;
use crate::error::{Call, Context, Error, ErrorKind, Result, describe};
use crate::host::SecurityModules;
use crate::init::{self, At, Step, mounts as attach};
use crate::kernel::clone::{Parent, Side, fork_into};
use crate::kernel::mount::{self, Propagation, Scope};
use crate::kernel::{pidfd, process};
use crate::plan::labels;
use crate::plan::mounts::{self, Kind, Mount};
use crate::plan::namespaces::Namespaces;
use crate::root::{Links, Root};
use crate::spec::{self, NamespaceKind};
use crate::state::{Identity, Status};
use crate::sync::{Channel, Failure, Message};

/// What the child does in the container.
enum Work {
    /// Attaches the mounts, of which bind mounts have their trees.
    Add(Vec<Option<OwnedFd>>),
    /// Detaches what is at their destinations.
    Remove,
}

impl Container {
    /// Adds mounts to this container, in order: bind mounts, id-mapped too, and file systems of type tmpfs. Gives what
    /// is odd about them. Those before one that fails stay.
    ///
    /// The calling process must have one thread.
    ///
    /// # Errors
    /// `WrongState` where no process runs; `InvalidSpec` with a pointer such as `/mounts/0/source`; `Unsupported` for
    /// other types; the errno of the failed call.
    pub fn add_mounts(&self, written: &[spec::Mount]) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        let linux = self.spec()?.linux.unwrap_or_default();
        let namespaces = Namespaces::compile(&linux)?;
        let mut mounts = mounts::compile(written, &namespaces, &mut warnings)?;
        let label = labels::of_mounts(linux.mount_label.as_deref(), SecurityModules::probe)?;
        mounts::label(&mut mounts, label.as_ref());
        let propagation = mounts::root_propagation(linux.rootfs_propagation.as_deref())?;
        let init = self.running()?;
        let user = namespaces.joins(NamespaceKind::User);
        let user = user.then(|| init.user_namespace()).transpose()?;
        let mut users = UserNamespaces::new(user.as_ref());
        let sources = mounts.iter().enumerate();
        let sources = sources
            .map(|which| self.source(which, propagation, &mut users))
            .collect::<Result<_>>()?;
        work_inside(&init, &namespaces, &mounts, Work::Add(sources))?;
        Ok(warnings)
    }

    /// Takes away what is mounted at the destinations of `written`.
    ///
    /// # Errors
    /// As [`Container::add_mounts`], `EINVAL` where nothing is mounted.
    pub fn remove_mounts(&self, written: &[spec::Mount]) -> Result<()> {
        let namespaces = Namespaces::compile(&self.spec()?.linux.unwrap_or_default())?;
        let only_where = |mount: &spec::Mount| spec::Mount {
            destination: mount.destination.clone(),
            kind: Some("tmpfs".to_owned()),
            ..spec::Mount::default()
        };
        let written: Vec<_> = written.iter().map(only_where).collect();
        let mounts = mounts::compile(&written, &namespaces, &mut Vec::new())?;
        work_inside(&self.running()?, &namespaces, &mounts, Work::Remove)
    }

    /// Its first process, which runs.
    pub(super) fn running(&self) -> Result<Init> {
        let status = self.status()?;
        let not_running = || Error::new(ErrorKind::WrongState(status), "container not running");
        let identity = match status {
            Status::Stopped | Status::Creating => None,
            _ => self.record.init,
        };
        let identity = identity.ok_or_else(not_running)?;
        let pidfd = pidfd::open(Pid::from_raw(identity.pid))
            .call(|| format!("pidfd_open({})", identity.pid))?;
        if !identity.is_alive() {
            return Err(not_running());
        }
        Ok(Init { identity, pidfd })
    }

    /// A detached clone of a bind mount's source, which travels between namespaces as all of the container's mounts do.
    fn source<'a>(
        &self,
        which: (usize, &'a Mount),
        propagation: (Propagation, Scope),
        users: &mut UserNamespaces<'a>,
    ) -> Result<Option<OwnedFd>> {
        let (index, mount) = which;
        let (source, scope, idmap) = match &mount.kind {
            Kind::Bind {
                source,
                scope,
                idmap,
            } => (source, *scope, idmap),
            Kind::New { filesystem, .. } if filesystem.as_c_str() == c"tmpfs" => return Ok(None),
            _ => {
                return Err(Error::unsupported(format!(
                    "/mounts/{index}: only bind mounts and tmpfs can be added to a container that runs"
                )));
            }
        };
        let path = self.record.bundle.join(source);
        let path = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let mut clone = || -> Result<OwnedFd> {
            let at = open(path.as_c_str(), flags, Mode::empty())
                .call(|| format!("open({path:?}, O_PATH)"))?;
            let tree = mount::clone_of(at.as_fd(), scope).call(|| "open_tree(OPEN_TREE_CLONE)")?;
            let (kind, scope) = propagation;
            mount::set_propagation(tree.as_fd(), scope, kind)
                .call(|| format!("mount_setattr({kind:?})"))?;
            if let Some(map) = idmap {
                users.map(tree.as_fd(), map)?;
            }
            Ok(tree)
        };
        clone().map(Some).context(|| element(mount, index))
    }
}

/// The first process of a container that runs.
pub(super) struct Init {
    identity: Identity,
    pidfd: OwnedFd,
}

impl Init {
    /// As the host sees it.
    pub(super) fn pid(&self) -> i32 {
        self.identity.pid
    }

    /// The user namespace that it is in.
    fn user_namespace(&self) -> Result<OwnedFd> {
        let path = format!("/proc/{}/ns/user", self.identity.pid);
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let namespace =
            open(path.as_str(), flags, Mode::empty()).call(|| format!("open({path:?})"))?;
        // Of no later process of that pid.
        if self.identity.is_alive() {
            Ok(namespace)
        } else {
            Err(Error::os(format!("open({path:?})"), Errno::ESRCH))
        }
    }
}

fn work_inside(init: &Init, namespaces: &Namespaces, mounts: &[Mount], work: Work) -> Result<()> {
    let mut joined = CloneFlags::CLONE_NEWNS;
    if namespaces.has(NamespaceKind::User) {
        joined |= CloneFlags::CLONE_NEWUSER;
    }
    let (channel, childs) = Channel::pair().call(|| "socketpair(SOCK_SEQPACKET)")?;
    let side = fork_into(CloneFlags::empty(), None, Parent::Caller).call(|| "clone3()")?;
    let Side::Parent(pid, _) = side else {
        let _ = nix::unistd::close(channel.as_fd().as_raw_fd());
        let result = enter(&init.pidfd, joined).and_then(|inside| carry_out(&inside, mounts, work));
        let message = result.map_or_else(Message::Failed, |()| Message::Ready);
        let _ = childs.send(message);
        process::exit_now(0)
    };
    drop(childs);
    let answer = channel.receive().call(|| "read(child)");
    let _ = waitpid(pid, None);
    match answer? {
        Some(Message::Ready) => Ok(()),
        Some(Message::Failed(failure)) => Err(told(&failure, mounts)),
        _ => Err(Error::os("mounts", Errno::ECHILD)),
    }
}

fn element(mount: &Mount, index: usize) -> String {
    format!("mounts[{index}] {:?}", mount.destination)
}

fn told(failure: &Failure, mounts: &[Mount]) -> Error {
    let index = usize::from(failure.element);
    let element = mounts
        .get(index)
        .map_or_else(String::new, |mount| element(mount, index));
    let text = format!("{element}: {}: {}", failure.call(), describe(failure.errno));
    Error::new(ErrorKind::Os(failure.errno), text)
}

/// What a child in the container works with.
struct Inside {
    root: Root,
    /// The host's procfs, in which it finds its own descriptors: the container's may be anything.
    proc: OwnedFd,
}

/// Joins the container, in which nobody may look into this process.
fn enter(init: &OwnedFd, namespaces: CloneFlags) -> init::Result<Inside> {
    let step = Step::JoinNamespace;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let proc = open("/proc", flags, Mode::empty()).at(step, 0, "open(\"/proc\")")?;
    process::set_dumpable(false).at(step, 0, "prctl(PR_SET_DUMPABLE, 0)")?;
    process::join(init.as_fd(), namespaces).at(step, 0, "setns(init)")?;
    if namespaces.contains(CloneFlags::CLONE_NEWUSER) {
        init::become_root()?;
    }
    let root = open("/", flags, Mode::empty()).at(step, 0, "open(\"/\")")?;
    let root = Root::new(root);
    Ok(Inside { root, proc })
}

fn carry_out(inside: &Inside, mounts: &[Mount], work: Work) -> init::Result<()> {
    let all = mounts.iter().enumerate();
    match work {
        Work::Add(sources) => {
            for ((index, mount), source) in all.zip(sources) {
                attach::add(&inside.root, (mount, index), source)?;
            }
        }
        Work::Remove => {
            for (index, mount) in all {
                detach(inside, (mount, index))?;
            }
        }
    }
    Ok(())
}

/// Detaches the mount that a lookup ends at, by its descriptor: the path is not walked again.
fn detach(inside: &Inside, which: (&Mount, usize)) -> init::Result<()> {
    let (mount, index) = which;
    let step = Step::Mount;
    let found = inside
        .root
        .find(&mount.destination, Links::Follow)
        .at(step, index, "openat2()")?;
    fchdir(&inside.proc).at(step, index, "fchdir(proc)")?;
    let path = format!("self/fd/{}", found.as_raw_fd());
    umount2(path.as_str(), MntFlags::MNT_DETACH).at(step, index, "umount2(MNT_DETACH)")
}
