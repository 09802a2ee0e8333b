//! `exec`: another process in a container that runs.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{Gid, Pid, Uid, setresgid, setresuid};

use super::agent::Agent;
use super::becoming::hears;
use super::create::Terminal;
use super::{Child, Container, failure};
use crate::cgroup::{Cgroup, SubCgroup};
use crate::error::{Call, Context, Error, ErrorKind, Result};
use crate::files;
use crate::hooks::HookState;
use crate::host::SecurityModules;
use crate::init::{self, At, Step, TerminalTo, cgroups, environment, identity};
use crate::kernel::clone::{Parent, Side, fork_into};
use crate::kernel::fd::close_all_but;
use crate::kernel::{landlock, pidfd, process};
use crate::plan::landlock::Ruleset;
use crate::plan::namespaces::Namespaces;
use crate::plan::process::Process;
use crate::plan::scheduling::MemoryPolicy;
use crate::plan::seccomp::Program;
use crate::plan::variables;
use crate::rdt;
use crate::root;
use crate::spec::{self, NamespaceKind, Spec};
use crate::state::Status;
use crate::sync::{Channel, Message};

/// How a process is started in a container.
#[derive(Clone, Debug)]
pub struct ExecOptions {
    /// Who gets the master of its terminal, if it has one.
    pub terminal: Terminal,
    /// Where its pid is written.
    pub pid_file: Option<PathBuf>,
    /// Socket to which a descriptor of it is sent.
    pub pidfd_socket: Option<PathBuf>,
    /// How many descriptors from 3 up are passed to the program.
    pub preserved_fds: i32,
    /// Cgroups below the container's: `PATH`, or `CONTROLLER[,CONTROLLER…]:PATH`.
    pub cgroups: Vec<String>,
    /// Whether the container may be paused: the process then starts frozen.
    pub ignore_paused: bool,
}

/// A process started by [`Container::exec`].
#[derive(Debug)]
pub struct Executed {
    /// The process.
    pub child: Child,
    /// Master of its terminal, for [`Terminal::Caller`]; owned.
    pub master: Option<OwnedFd>,
    /// What is odd about the request without being an error.
    pub warnings: Vec<String>,
}

/// How a process gets into the cgroup of version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entrance {
    /// By itself, at its start.
    Own,
    /// systemd moves it.
    BySystemd,
}

/// What the children need to get into the container.
struct Entry {
    process: Process,
    oom_score: Option<i32>,
    seccomp: Option<Program>,
    landlock: Option<Ruleset>,
    personality: Option<u64>,
    memory_policy: Option<MemoryPolicy>,
    /// Descriptor of the container's first process: it stands for all its namespaces.
    init: OwnedFd,
    namespaces: CloneFlags,
    tasks: Vec<OwnedFd>,
    terminal: TerminalTo,
    keyring: CString,
    first_closed: i32,
}

impl Container {
    /// Starts `process` in this container, whose configuration is `spec` (see [`Container::spec`]).
    ///
    /// The calling process must have one thread. The new process is its child.
    ///
    /// # Errors
    /// `WrongState` where the container does not run or is paused; `InvalidSpec` with a pointer into `process`;
    /// `Executable` where the program is missing.
    pub fn exec(
        &self,
        spec: &Spec,
        process: &spec::Process,
        options: &ExecOptions,
    ) -> Result<Executed> {
        let status = self.status()?;
        let wrong = |text: &str| Err(Error::new(ErrorKind::WrongState(status), text));
        match status {
            Status::Stopped | Status::Creating => {
                return wrong("cannot exec in a stopped container");
            }
            Status::Paused if !options.ignore_paused => {
                return wrong(
                    "cannot exec in a paused container (use --ignore-paused to override)",
                );
            }
            _ => {}
        }
        let mut warnings = Vec::new();
        let mut process = Process::compile(process, "/process", &mut warnings)?;
        process
            .env
            .add_missing(variables::of(spec.annotations.as_ref())?);
        process.labels.check(SecurityModules::probe, "/process")?;
        let sub = SubCgroup::parse(&options.cgroups)?;
        sub.check(&self.record.cgroup)?;
        let score = process.oom_score_adj.or_else(|| {
            spec.process
                .as_ref()
                .and_then(|process| process.oom_score_adj)
        });
        let entry = self.entry(spec, (process, score), options, &sub)?;
        let (channel, childs) = Channel::pair().call(|| "socketpair(SOCK_SEQPACKET)")?;
        let agent = Agent::of(entry.seccomp.as_ref())?;
        let (side, entrance) = self.fork_into_cgroup(&sub)?;
        let first = match side {
            Side::Parent(pid, pidfd) => Child { pid, pidfd },
            Side::Child => {
                let _ = nix::unistd::close(channel.as_fd().as_raw_fd());
                self.directory.close_in_child();
                first_process(entry, &childs)
            }
        };
        drop(childs);
        let mut starting = Starting {
            child: first,
            entry,
            master: None,
            agent,
            state: self.record.hook_state(status),
            attach: (entrance == Entrance::BySystemd).then(|| self.record.cgroup.clone()),
            rdt: self.record.rdt.clone(),
        };
        match starting.lead(&channel, options) {
            Ok(()) => Ok(Executed {
                child: starting.child,
                master: starting.master,
                warnings,
            }),
            Err(error) => Err(starting.end(error)),
        }
    }

    /// Forks into the container's cgroup of version 2, if there is one.
    fn fork_into_cgroup(&self, sub: &SubCgroup) -> Result<(Side, Entrance)> {
        let fork = |cgroup: Option<&OwnedFd>| {
            let cgroup = cgroup.map(AsFd::as_fd);
            fork_into(CloneFlags::empty(), cgroup, Parent::Caller)
        };
        let cgroup = self.record.cgroup.unified_directory(sub)?;
        let (forked, entrance) = match fork(cgroup.as_ref()) {
            // It has made cgroups below its own, which then takes no processes: where its first process is now.
            Err(Errno::EBUSY) if let Some(init) = self.record.init => {
                let cgroup = Cgroup::directory_of(Pid::from_raw(init.pid))?;
                (fork(cgroup.as_ref()), Entrance::Own)
            }
            // Without privilege a process may not leave its own part of the hierarchy by itself.
            Err(Errno::EACCES) => (fork(None), Entrance::BySystemd),
            forked => (forked, Entrance::Own),
        };
        let side = forked.call(|| "clone3()").context(|| failure::START)?;
        Ok((side, entrance))
    }

    fn entry(
        &self,
        spec: &Spec,
        (process, oom_score): (Process, Option<i32>),
        options: &ExecOptions,
        sub: &SubCgroup,
    ) -> Result<Entry> {
        let none = spec::Linux::default();
        let linux = spec.linux.as_ref().unwrap_or(&none);
        let namespaces = Namespaces::compile(linux)?;
        let not_running = || {
            Error::new(
                ErrorKind::WrongState(Status::Stopped),
                "cannot exec in a stopped container",
            )
        };
        let identity = self.record.init.ok_or_else(not_running)?;
        let init = pidfd::open(Pid::from_raw(identity.pid))
            .call(|| format!("pidfd_open({})", identity.pid))?;
        // The descriptor may be of a later process of that pid: if the one meant lives now, it is of that one.
        if !identity.is_alive() {
            return Err(not_running());
        }
        Ok(Entry {
            landlock: Ruleset::compile(
                spec.annotations.as_ref(),
                process.no_new_privileges,
                landlock::version,
            )?,
            process,
            oom_score,
            seccomp: linux
                .seccomp
                .as_ref()
                .map(crate::plan::seccomp::compile)
                .transpose()?,
            personality: crate::plan::personality(linux)?,
            memory_policy: crate::plan::memory_policy(linux)?,
            init,
            namespaces: namespaces.new
                | namespaces
                    .joined
                    .iter()
                    .map(|joined| joined.kind.flag())
                    .collect(),
            tasks: self.record.cgroup.entrance(sub)?.tasks,
            terminal: match &options.terminal {
                Terminal::Caller => TerminalTo::Caller,
                Terminal::Socket(path) => {
                    TerminalTo::Socket(files::connect_to(path).context(|| "console socket")?)
                }
            },
            keyring: CString::new(format!("_ses.{}", self.record.id)).unwrap_or_default(),
            first_closed: 3 + options.preserved_fds,
        })
    }
}

/// A process on its way, in the parent.
struct Starting {
    child: Child,
    entry: Entry,
    master: Option<OwnedFd>,
    agent: Option<Agent>,
    /// Of the container, for the agent.
    state: HookState,
    /// The cgroup that systemd has to move it to.
    attach: Option<Cgroup>,
    /// The container's shares of caches and memory bandwidth.
    rdt: Option<rdt::Group>,
}

impl Starting {
    fn lead(&mut self, channel: &Channel, options: &ExecOptions) -> Result<()> {
        match self.next(channel)? {
            Some(Message::Second(pid)) => {
                let pid = Pid::from_raw(pid);
                let pidfd = pidfd::open(pid).call(|| format!("pidfd_open({pid})"))?;
                let first = std::mem::replace(&mut self.child, Child { pid, pidfd });
                let _ = waitpid(first.pid, None);
            }
            other => return Err(self.failed(other)),
        }
        if let Some(cgroup) = &self.attach {
            cgroup.attach_by_systemd(self.child.pid)?;
        }
        if let Some(group) = &self.rdt {
            group.add(self.child.pid)?;
        }
        if let Some(socket) = &options.pidfd_socket {
            files::send_pidfd(socket, "setns", self.child.pidfd.as_fd())?;
        }
        if let Some(path) = &options.pid_file {
            files::write_pid(path, self.child.pid)?;
        }
        let _ = channel.send(Message::Go);
        let mut is_ready = false;
        loop {
            match self.next(channel)? {
                Some(Message::Ready) => is_ready = true,
                None if is_ready => return Ok(()),
                other => return Err(self.failed(other)),
            }
        }
    }

    fn next(&mut self, channel: &Channel) -> Result<Option<Message>> {
        loop {
            if !hears(channel, &self.child)? {
                return Ok(None);
            }
            match channel.receive_with().call(|| "recvmsg(process)")? {
                Some((Message::Terminal, fds)) => self.master = fds.into_iter().next(),
                Some((Message::Listener(listener), _)) => {
                    let none = || Error::os("seccomp listener", Errno::EPROTO);
                    let agent = self.agent.as_ref().ok_or_else(none)?;
                    agent.give(&self.child, listener, &self.state, channel)?;
                }
                other => return Ok(other.map(|(message, _)| message)),
            }
        }
    }

    fn failed(&self, last: Option<Message>) -> Error {
        match last {
            Some(Message::Failed(failure)) => failure::of_exec(&failure, &self.entry.process),
            _ => Error::new(
                ErrorKind::Os(Errno::ECHILD),
                "process ended early (possibly OOM-killed)",
            )
            .context(failure::START),
        }
    }

    fn end(&self, error: Error) -> Error {
        let _ = pidfd::send_signal(self.child.pidfd.as_fd(), libc::SIGKILL);
        let _ = waitpid(self.child.pid, None);
        error
    }
}

/// The first child: enters cgroups and namespaces, and makes the process that is a member of the PID namespace too.
fn first_process(mut entry: Entry, channel: &Channel) -> ! {
    let Err(failure) = enter(&mut entry, channel);
    let _ = channel.send(Message::Failed(failure));
    process::exit_now(255)
}

fn enter(entry: &mut Entry, channel: &Channel) -> init::Result<Infallible> {
    let affinity = &entry.process.scheduling.affinity;
    if let Some(score) = entry.oom_score {
        // With the caller's rights, and while the file is the caller's.
        init::write_file("/proc/self/oom_score_adj", score.to_string().as_bytes()).at(
            Step::OomScore,
            0,
            format_args!("write(\"/proc/self/oom_score_adj\", {score})"),
        )?;
    }
    // Nobody in the container may look into this process while it has still the host's rights (CVE-2016-9962).
    process::set_dumpable(false).at(Step::JoinNamespace, 0, "prctl(PR_SET_DUMPABLE, 0)")?;
    environment::confine_first(affinity)?;
    cgroups::join(&entry.tasks)?;
    environment::confine_last(affinity)?;
    process::join(entry.init.as_fd(), entry.namespaces).at(
        Step::JoinNamespace,
        0,
        format_args!("setns(init, {:?})", entry.namespaces),
    )?;
    match fork_into(CloneFlags::empty(), None, Parent::Grandparent).at(
        Step::JoinNamespace,
        0,
        "clone3(CLONE_PARENT)",
    )? {
        Side::Parent(pid, _) => {
            let _ = channel.send(Message::Second(pid.as_raw()));
            process::exit_now(0)
        }
        Side::Child => {}
    }
    // The host's side of it is ready: its pid is known.
    init::wait_for(channel, Message::Go);
    if entry.namespaces.contains(NamespaceKind::User.flag()) {
        setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0)).at(
            Step::UserNamespace,
            0,
            "setresgid(0)",
        )?;
        setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).at(
            Step::UserNamespace,
            0,
            "setresuid(0)",
        )?;
    }
    nix::unistd::setsid().at(Step::Session, 0, "setsid()")?;
    init::label_keys(&entry.process)?;
    // A container created without a keyring of its own has none by this name, and gets none by this.
    let _ = process::join_session_keyring(&entry.keyring);
    environment::of_container(entry.personality, entry.memory_policy.as_ref())?;
    let terminal = terminal(entry, channel)?;
    // What led here was the host's (CVE-2024-21626).
    let channels = channel.as_fd().as_raw_fd();
    let kept = [
        channels,
        terminal.as_ref().map_or(channels, AsRawFd::as_raw_fd),
    ];
    close_all_but(entry.first_closed, kept).at(Step::Stdio, 0, "close_range()")?;
    init::exec::fill_home(&mut entry.process);
    identity::take_process(&entry.process, entry.seccomp.as_ref(), terminal, channel)?;
    init::exec::find_program(&entry.process)?;
    let rules = init::landlock::make(entry.landlock.as_ref())?;
    channel
        .send(Message::Ready)
        .at(Step::Wait, 0, "write(parent)")?;
    init::landlock::restrict(rules)?;
    identity::confine_last(entry.seccomp.as_ref(), &entry.process, channel)?;
    init::exec::replace(&entry.process, None, entry.first_closed)
}

fn terminal(entry: &Entry, channel: &Channel) -> init::Result<Option<OwnedFd>> {
    let Some(terminal) = &entry.process.terminal else {
        return Ok(None);
    };
    let step = Step::Terminal;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open("/", flags, Mode::empty()).at(step, 0, "open(\"/\")")?;
    let (slave, master) = init::open_terminal(&root::Root::new(root), terminal.size)?;
    init::hand_over(&master, &entry.terminal, channel)?;
    Ok(Some(slave))
}
