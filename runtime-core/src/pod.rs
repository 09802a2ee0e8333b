//! Namespaces that several containers join: those of a pod.
//!
//! A short-lived process makes them; who asked for them pins them by bind mounts of its `/proc/PID/ns/*` before it
//! lets the process go. No process has to stay.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{sethostname, write};

use crate::container::{Child, ids};
use crate::error::{Call, Error, ErrorKind, Result};
use crate::init::{self, At, Step};
use crate::kernel::clone::{Parent, Side, fork_into};
use crate::kernel::{net, pidfd, process};
use crate::plan::namespaces::Namespaces;
use crate::plan::sysctl::{self, Sysctl};
use crate::spec::{self, NamespaceKind};
use crate::sync::{Channel, Failure, Message};

/// A process that is in new namespaces and does nothing. It ends with this value.
#[derive(Debug)]
pub struct Holder {
    child: Child,
    channel: Channel,
}

/// What the process makes.
struct Wanted<'a> {
    kinds: CloneFlags,
    sysctls: Vec<Sysctl>,
    hostname: Option<&'a str>,
}

impl Holder {
    /// Makes the namespaces that `linux` lists, of the kinds user, network, IPC and UTS: the others belong to the user
    /// namespace, where that is one of them. Brings the loopback device up, sets `linux.sysctl` and `hostname`.
    ///
    /// The calling process must have one thread.
    ///
    /// # Errors
    /// `InvalidSpec` with a pointer below `/linux`; `Unsupported` for another kind of namespace, or one that is there
    /// already; the errno of what could not be made.
    pub fn make(linux: &spec::Linux, hostname: Option<&str>) -> Result<Self> {
        let namespaces = Namespaces::compile(linux)?;
        let possible = CloneFlags::CLONE_NEWUSER
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS;
        if !possible.contains(namespaces.new) || !namespaces.joined.is_empty() {
            return Err(Error::unsupported(
                "/linux/namespaces: a pod has new user, network, ipc and uts namespaces and no others",
            ));
        }
        if hostname.is_some() && !namespaces.new.contains(CloneFlags::CLONE_NEWUTS) {
            return Err(Error::invalid_spec(
                "/hostname",
                "the UTS namespace is the host's",
            ));
        }
        let wanted = Wanted {
            kinds: namespaces.new,
            sysctls: sysctl::compile(linux.sysctl.as_ref(), &namespaces)?,
            hostname,
        };
        let (channel, childs) = Channel::pair().call(|| "socketpair(SOCK_SEQPACKET)")?;
        let side = fork_into(wanted.kinds, None, Parent::Caller)
            .call(|| format!("clone3({:?})", wanted.kinds))?;
        let child = match side {
            Side::Parent(pid, pidfd) => Child { pid, pidfd },
            Side::Child => {
                let _ = nix::unistd::close(channel.as_fd().as_raw_fd());
                hold(&wanted, &childs)
            }
        };
        drop(childs);
        // From here on the process ends with the value.
        let holder = Self { child, channel };
        holder.lead(&namespaces, &wanted)?;
        Ok(holder)
    }

    fn lead(&self, namespaces: &Namespaces, wanted: &Wanted<'_>) -> Result<()> {
        if namespaces.new.contains(CloneFlags::CLONE_NEWUSER) {
            ids::map(self.child.pid, &namespaces.uid_map, &namespaces.gid_map)?;
        }
        let _ = self.channel.send(Message::Mapped);
        match self.channel.receive().call(|| "recvmsg(namespaces)")? {
            Some(Message::Ready) => Ok(()),
            Some(Message::Failed(failure)) => Err(told(&failure, wanted)),
            _ => Err(Error::new(
                ErrorKind::Os(nix::errno::Errno::ECHILD),
                "the process that makes the namespaces ended early",
            )),
        }
    }

    /// Where the namespace of `kind` can be reached as long as this value lives.
    #[must_use]
    pub fn path(&self, kind: NamespaceKind) -> PathBuf {
        let name = match kind {
            NamespaceKind::User => "user",
            NamespaceKind::Pid => "pid",
            NamespaceKind::Network => "net",
            NamespaceKind::Mount => "mnt",
            NamespaceKind::Ipc => "ipc",
            NamespaceKind::Uts => "uts",
            NamespaceKind::Cgroup => "cgroup",
            NamespaceKind::Time => "time",
        };
        PathBuf::from(format!("/proc/{}/ns/{name}", self.child.pid))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = pidfd::send_signal(self.child.pidfd.as_fd(), libc::SIGKILL);
        let _ = waitpid(self.child.pid, None);
    }
}

fn told(failure: &Failure, wanted: &Wanted<'_>) -> Error {
    let error = Error::os(failure.call(), failure.errno);
    match wanted.sysctls.get(usize::from(failure.element)) {
        Some(sysctl) if failure.step == Step::Sysctl => {
            error.context(format_args!("linux.sysctl {:?}", sysctl.key))
        }
        _ => error,
    }
}

/// The process. Never returns.
fn hold(wanted: &Wanted<'_>, channel: &Channel) -> ! {
    let Err(failure) = steps(wanted, channel);
    let _ = channel.send(Message::Failed(failure));
    process::exit_now(255)
}

fn steps(wanted: &Wanted<'_>, channel: &Channel) -> init::Result<Infallible> {
    init::wait_for(channel, Message::Mapped);
    if wanted.kinds.contains(CloneFlags::CLONE_NEWUSER) {
        init::become_root()?;
    }
    if wanted.kinds.contains(CloneFlags::CLONE_NEWNET) {
        net::loopback_up().at(Step::Network, 0, "ioctl(SIOCSIFFLAGS, \"lo\", IFF_UP)")?;
    }
    if let Some(name) = wanted.hostname {
        sethostname(OsStr::new(name)).at(
            Step::Hostname,
            0,
            format_args!("sethostname({name:?})"),
        )?;
    }
    for (index, sysctl) in wanted.sysctls.iter().enumerate() {
        set(sysctl, index)?;
    }
    channel
        .send(Message::Ready)
        .at(Step::Wait, 0, "write(parent)")?;
    // Nothing is sent any more: this waits for the end of the parent, who kills it otherwise.
    init::wait_for(channel, Message::Go);
    process::exit_now(0)
}

/// Through the host's own procfs, which shows each process the parameters of its namespaces.
fn set(sysctl: &Sysctl, index: usize) -> init::Result<()> {
    let path = format!("/proc/{}", sysctl.file.to_str().unwrap_or_default());
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let file = open(path.as_str(), flags, Mode::empty()).at(
        Step::Sysctl,
        index,
        format_args!("open({path:?})"),
    )?;
    write(&file, &sysctl.value)
        .at(Step::Sysctl, index, format_args!("write({path:?})"))
        .map(drop)
}
