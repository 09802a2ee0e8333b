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
use crate::error::{Call, Context, Error, ErrorKind, Result, describe};
use crate::host::SecurityModules;
use crate::init::{self, At, Step, mounts as inside};
use crate::kernel::clone::{Parent, Side, fork_into};
use crate::kernel::mount::{self, Propagation, Scope};
use crate::kernel::{pidfd, process};
use crate::plan::labels;
use crate::plan::mounts::{self, Kind, Mount};
use crate::plan::namespaces::Namespaces;
use crate::root::{Links, Root};
use crate::spec::{self, NamespaceKind};
use crate::state::Status;
use crate::sync::{Channel, Failure, Message};

/// What the child does in the container.
enum Work {
    /// Attaches the mounts, of which bind mounts have their trees.
    Add(Vec<Option<OwnedFd>>),
    /// Detaches what is at their destinations.
    Remove,
}

impl Container {
    /// Adds mounts to this container, in order: bind mounts, and file systems of type tmpfs. Gives what is odd about
    /// them. Those before one that fails stay.
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
        let sources = mounts.iter().enumerate();
        let sources = sources
            .map(|which| self.source(which, propagation))
            .collect::<Result<_>>()?;
        self.work_inside(&namespaces, &mounts, Work::Add(sources))?;
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
        self.work_inside(&namespaces, &mounts, Work::Remove)
    }

    /// A detached clone of a bind mount's source, which travels between namespaces as all of the container's mounts do.
    fn source(
        &self,
        which: (usize, &Mount),
        propagation: (Propagation, Scope),
    ) -> Result<Option<OwnedFd>> {
        let (index, mount) = which;
        let (source, scope) = match &mount.kind {
            Kind::Bind {
                source,
                scope,
                idmap: None,
            } => (source, *scope),
            Kind::New { filesystem, .. } if filesystem.as_c_str() == c"tmpfs" => return Ok(None),
            _ => {
                return Err(Error::unsupported(format!(
                    "/mounts/{index}: only plain bind mounts and tmpfs can be added to a container that runs"
                )));
            }
        };
        let path = self.record.bundle.join(source);
        let path = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let clone = || -> Result<OwnedFd> {
            let at = open(path.as_c_str(), flags, Mode::empty())
                .call(|| format!("open({path:?}, O_PATH)"))?;
            let tree = mount::clone_of(at.as_fd(), scope).call(|| "open_tree(OPEN_TREE_CLONE)")?;
            let (kind, scope) = propagation;
            mount::set_propagation(tree.as_fd(), scope, kind)
                .call(|| format!("mount_setattr({kind:?})"))?;
            Ok(tree)
        };
        clone().map(Some).context(|| element(mount, index))
    }

    fn work_inside(&self, namespaces: &Namespaces, mounts: &[Mount], work: Work) -> Result<()> {
        let status = self.status()?;
        let not_running = || Error::new(ErrorKind::WrongState(status), "container not running");
        let identity = match status {
            Status::Stopped | Status::Creating => None,
            _ => self.record.init,
        };
        let identity = identity.ok_or_else(not_running)?;
        let init = pidfd::open(Pid::from_raw(identity.pid))
            .call(|| format!("pidfd_open({})", identity.pid))?;
        if !identity.is_alive() {
            return Err(not_running());
        }
        let mut joined = CloneFlags::CLONE_NEWNS;
        if namespaces.has(NamespaceKind::User) {
            joined |= CloneFlags::CLONE_NEWUSER;
        }
        let (channel, childs) = Channel::pair().call(|| "socketpair(SOCK_SEQPACKET)")?;
        let side = fork_into(CloneFlags::empty(), None, Parent::Caller).call(|| "clone3()")?;
        let Side::Parent(pid, _) = side else {
            let _ = nix::unistd::close(channel.as_fd().as_raw_fd());
            let result = enter(&init, joined).and_then(|root| carry_out(&root, mounts, work));
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

/// Joins the container, in which nobody may look into this process, and gives its root.
fn enter(init: &OwnedFd, namespaces: CloneFlags) -> init::Result<Root> {
    let step = Step::JoinNamespace;
    process::set_dumpable(false).at(step, 0, "prctl(PR_SET_DUMPABLE, 0)")?;
    process::join(init.as_fd(), namespaces).at(step, 0, "setns(init)")?;
    if namespaces.contains(CloneFlags::CLONE_NEWUSER) {
        init::become_root()?;
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open("/", flags, Mode::empty()).at(step, 0, "open(\"/\")")?;
    Ok(Root::new(root))
}

fn carry_out(root: &Root, mounts: &[Mount], work: Work) -> init::Result<()> {
    let all = mounts.iter().enumerate();
    match work {
        Work::Add(sources) => {
            for ((index, mount), source) in all.zip(sources) {
                inside::add(root, (mount, index), source)?;
            }
        }
        Work::Remove => {
            for (index, mount) in all {
                detach(root, (mount, index))?;
            }
        }
    }
    Ok(())
}

/// Detaches the mount that a lookup ends at, by its descriptor: the path is not walked again.
fn detach(root: &Root, which: (&Mount, usize)) -> init::Result<()> {
    let (mount, index) = which;
    let step = Step::Mount;
    let found = root
        .find(&mount.destination, Links::Follow)
        .at(step, index, "openat2()")?;
    let proc = init::private_proc().at(step, index, "fsmount(\"proc\")")?;
    fchdir(&proc).at(step, index, "fchdir(proc)")?;
    let path = format!("self/fd/{}", found.as_raw_fd());
    umount2(path.as_str(), MntFlags::MNT_DETACH).at(step, index, "umount2(MNT_DETACH)")
}
