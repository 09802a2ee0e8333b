//! Starting CRIU: where it is to work, and with what.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::{AccessFlags, Pid, access};

use super::options::{Directories, open_directory};
use crate::error::{Call, Error, ErrorKind, Result, describe};
use crate::init::{self, At, Step, cgroups};
use crate::kernel::clone::{Parent, Side, fork_into};
use crate::kernel::exec::{CStrings, execve};
use crate::kernel::process;
use crate::sync::{Channel, Message};

/// How CRIU is started.
#[derive(Debug, Default)]
pub(crate) struct Start<'a> {
    /// Descriptors that it gets, by their numbers here.
    pub(crate) kept: &'a [OwnedFd],
    /// What it is in before it begins.
    pub(crate) inside: Option<Inside<'a>>,
}

/// Where CRIU makes processes again: in the container's cgroups, for they and all that is done for them are its, and in a
/// mount namespace of its own, in which the container's root is a mount.
pub(crate) struct Inside<'a> {
    /// The root, and an empty directory at which it is mounted.
    pub(crate) root: (&'a CStr, &'a CStr),
    /// Directories in which it mounts, so that it has to open them itself: [`super::Criu::directories`].
    pub(crate) directories: &'a [CString],
    /// The version 2 cgroup.
    pub(crate) unified: Option<BorrowedFd<'a>>,
    /// Makes all other cgroups around this process, and gives the `tasks` files of version 1.
    pub(crate) enter: &'a dyn Fn(Pid) -> Result<Vec<OwnedFd>>,
}

impl std::fmt::Debug for Inside<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inside")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// What the child works with, all of it made before.
struct Prepared<'a> {
    program: CString,
    args: CStrings,
    env: CStrings,
    socket: OwnedFd,
    start: &'a Start<'a>,
}

/// Gives the process and the socket at which it listens.
pub(super) fn start(start: &Start<'_>) -> Result<(Pid, OwnedFd, Directories)> {
    let program = find()?;
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .call(|| "socketpair(SOCK_SEQPACKET)")?;
    let number = CString::new(theirs.as_raw_fd().to_string()).unwrap_or_default();
    let prepared = Prepared {
        program,
        args: CStrings::new(vec![c"criu".to_owned(), c"swrk".to_owned(), number]),
        env: environment(),
        socket: theirs,
        start,
    };
    let (channel, childs) = Channel::pair().call(|| "socketpair(SOCK_SEQPACKET)")?;
    let (flags, unified) = match &start.inside {
        Some(inside) => (CloneFlags::CLONE_NEWNS, inside.unified),
        None => (CloneFlags::empty(), None),
    };
    let side = fork_into(flags, unified, Parent::Caller).call(|| "clone3(criu)")?;
    let Side::Parent(pid, _) = side else {
        let _ = nix::unistd::close(channel.as_fd().as_raw_fd());
        let Err(failure) = become_criu(&prepared, &childs);
        let _ = childs.send(Message::Failed(failure));
        process::exit_now(255)
    };
    drop((childs, prepared));
    match lead(start, &channel, pid) {
        Ok(directories) => Ok((pid, ours, directories)),
        Err(error) => {
            drop(channel);
            let _ = waitpid(pid, None);
            Err(error)
        }
    }
}

/// Gives the child its cgroups, takes what it opened, and waits until it is CRIU.
fn lead(start: &Start<'_>, channel: &Channel, pid: Pid) -> Result<Directories> {
    let mut directories = Vec::new();
    if let Some(inside) = &start.inside {
        let tasks = (inside.enter)(pid)?;
        let tasks: Vec<_> = tasks.iter().map(AsFd::as_fd).collect();
        let _ = channel.send_with(Message::Cgroups, &tasks);
    }
    loop {
        match channel.receive_with().call(|| "recvmsg(criu)")? {
            None => return Ok(Directories::of(directories)),
            Some((Message::Mounted, opened)) => directories = opened,
            Some((Message::Failed(failure), _)) => {
                let text = format!("criu: {}: {}", failure.call(), describe(failure.errno));
                return Err(Error::new(ErrorKind::Os(failure.errno), text));
            }
            Some(_) => return Err(Error::os("criu", nix::errno::Errno::EPROTO)),
        }
    }
}

/// In the child: makes system calls and nothing else.
fn become_criu(prepared: &Prepared<'_>, channel: &Channel) -> init::Result<Infallible> {
    let step = Step::Exec;
    if let Some(inside) = &prepared.start.inside {
        match channel.receive_with() {
            Ok(Some((Message::Cgroups, tasks))) => cgroups::join(&tasks)?,
            _ => process::exit_now(255),
        }
        mount_root(inside.root)?;
        send_directories(inside.directories, channel)?;
    }
    for fd in prepared.start.kept.iter().chain([&prepared.socket]) {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).at(step, 0, "fcntl(F_SETFD)")?;
    }
    process::default_sigpipe().at(step, 0, "signal(SIGPIPE)")?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).at(
        step,
        0,
        "sigprocmask()",
    )?;
    let errno = execve(&prepared.program, &prepared.args, &prepared.env);
    Err(errno).at(step, 0, format_args!("execve({:?})", prepared.program))
}

/// CRIU wants a root that is a mount, below one on which nothing else is mounted. The host sees none of it.
fn mount_root((root, at): (&CStr, &CStr)) -> init::Result<()> {
    let step = Step::Root;
    let none = None::<&CStr>;
    let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    mount(none, c"/", none, slave, none).at(step, 0, "mount(\"/\", MS_SLAVE|MS_REC)")?;
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(root), at, none, bind, none).at(
        step,
        0,
        format_args!("mount({root:?}, {at:?}, MS_BIND)"),
    )
}

/// In its own namespace: nothing can be mounted in what was opened in another.
fn send_directories(paths: &[CString], channel: &Channel) -> init::Result<()> {
    let step = Step::Exec;
    let mut opened = Vec::with_capacity(paths.len());
    for path in paths {
        opened.push(open_directory(path).at(step, 0, format_args!("open({path:?})"))?);
    }
    let mut borrowed = Vec::with_capacity(opened.len());
    borrowed.extend(opened.iter().map(AsFd::as_fd));
    let sent = channel.send_with(Message::Mounted, &borrowed);
    sent.at(step, 0, "sendmsg(directories)")
}

fn environment() -> CStrings {
    let pairs = std::env::vars_os().filter_map(|(name, value)| {
        let pair = [name.as_bytes(), b"=", value.as_bytes()].concat();
        CString::new(pair).ok()
    });
    CStrings::new(pairs.collect())
}

fn find() -> Result<CString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path);
    let mut programs = places.map(|place| place.join("criu"));
    let found =
        programs.find(|program| program.is_file() && access(program, AccessFlags::X_OK).is_ok());
    let Some(found) = found else {
        return Err(Error::unsupported(
            "exec: \"criu\": executable file not found in $PATH (checkpoint and restore are CRIU's work: install it)",
        ));
    };
    Ok(CString::new(found.into_os_string().into_vec()).unwrap_or_default())
}
