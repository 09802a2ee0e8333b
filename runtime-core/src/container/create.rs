//! `create` and the first half of `run`: from a bundle and a plan to a process that is ready to be the program.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::agent::Agent;
use super::becoming::hears;
use super::failure::{self, START};
use super::net_devices::Moved;
use super::prepare::prepare;
use super::{Child, Container, ids};
use crate::bundle::Bundle;
use crate::cgroup::Cgroup;
use crate::error::{Call, Context, Error, ErrorKind, Result};
use crate::files;
use crate::hooks;
use crate::init::{self, Fifo, Prepared, Wait};
use crate::kernel::clone::{Parent, Side, fork_into};
use crate::kernel::pidfd;
use crate::netlink::Link;
use crate::plan::Plan;
use crate::plan::mounts::Mount;
use crate::rdt::Group;
use crate::spec::Spec;
use crate::state::{Directory, HookPoints, Identity, NOTIFY, Record, Root, Status};
use crate::sync::{Channel, Message};

/// How a container is created.
#[derive(Debug)]
pub struct CreateOptions {
    /// When its program runs.
    pub start: Start,
    /// Who gets the master of its terminal, if the configuration asks for one.
    pub terminal: Terminal,
    /// Where its pid is written.
    pub pid_file: Option<PathBuf>,
    /// Socket to which a descriptor of its first process is sent.
    pub pidfd_socket: Option<PathBuf>,
    /// Whether its root is made by pivot_root(2); otherwise by moving it over `/`.
    pub pivot: bool,
    /// Whether it gets a session keyring of its own.
    pub keyring: bool,
    /// How many descriptors from 3 up are passed to the program.
    pub preserved_fds: i32,
    /// Variables added to the program's environment.
    pub env: Vec<CString>,
    /// Whether its program may tell how it gets on: it then finds a `NOTIFY_SOCKET`, see sd_notify(3), at which
    /// [`Created::notify`] or [`Container::notify_socket`] listens.
    pub notify: bool,
    /// What runs as the container's first process.
    pub init: Option<InitProgram>,
    /// A detached mount (open_tree(2), fsmount(2)) that is the root file system, owned. The container gets it at
    /// `root.path` of the configuration, a directory that need not have anything in it: no other process ever sees it
    /// mounted.
    pub root: Option<OwnedFd>,
}

/// A program of the caller's own that a container gets as its first process, whatever its image has.
///
/// It is executed from memory that nobody can write, with all signals blocked from the time that the container is
/// ready: one that is sent before its first instruction waits for it.
#[derive(Debug)]
pub struct InitProgram {
    /// A static ELF program.
    pub bytes: &'static [u8],
    /// Its name and flags.
    pub args: Vec<CString>,
    /// What becomes of the container's own program.
    pub program: InitRuns,
    /// Variables added to its environment, which are those of the container's program.
    pub env: Vec<CString>,
}

impl InitProgram {
    /// `bytes` with these words and one variable (`NAME=value`), none of which can have a NUL byte.
    #[must_use]
    pub fn new(bytes: &'static [u8], words: &[&str], variable: &str, program: InitRuns) -> Self {
        let strings = |words: &[&str]| {
            let strings = words.iter().filter_map(|word| CString::new(*word).ok());
            strings.collect()
        };
        Self {
            bytes,
            args: strings(words),
            program,
            env: strings(&[variable]),
        }
    }
}

/// What a program of [`InitProgram`] has to do with the container's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitRuns {
    /// It runs it: its words follow the flags.
    Program,
    /// Nothing: `process.args` are not looked at, and the root may be empty.
    Nothing,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            start: Start::Later,
            terminal: Terminal::Caller,
            pid_file: None,
            pidfd_socket: None,
            pivot: true,
            keyring: true,
            preserved_fds: 0,
            env: Vec::new(),
            notify: false,
            init: None,
            root: None,
        }
    }
}

/// When the program of a new container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// After [`Container::start`].
    Later,
    /// At once.
    Now,
}

/// Who gets the master of a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// The caller, in what it gets back.
    Caller,
    /// Who listens at this unix socket.
    Socket(PathBuf),
}

/// A new container.
#[derive(Debug)]
pub struct Created {
    /// The container, locked against other verbs until [`Container::unlock`] or drop.
    pub container: Container,
    /// Its first process.
    pub init: Child,
    /// Master of its terminal, for [`Terminal::Caller`]; owned.
    pub master: Option<OwnedFd>,
    /// What its program tells, where it was asked for and started at once.
    pub notify: Option<UnixDatagram>,
}

impl Container {
    /// Creates the container `id` below `root`, and starts its program if `options` say so.
    ///
    /// The calling process must have one thread. The container's process is its child.
    ///
    /// # Errors
    /// Everything that can go wrong; nothing of the container is left then.
    pub fn create(
        root: &Root,
        id: &str,
        bundle: &Bundle,
        mut plan: Plan,
        options: CreateOptions,
    ) -> Result<Created> {
        debug_assert!(
            is_single_threaded(),
            "only a single-threaded process may clone a container"
        );
        let mut cgroup = Cgroup::locate(&plan.cgroup, id)?;
        let rdt = plan.rdt.as_ref();
        let rdt = rdt.map(|request| Group::locate(request, id)).transpose()?;
        let directory = Directory::make(root, id)?;
        plan.process.env.add(options.env.iter().cloned());
        if options.notify {
            add_notify_socket(&mut plan, root, id);
        }
        if let Some(init) = &options.init {
            plan.process.run_by(init);
        }
        let record = record(id, bundle, &plan, rdt);
        let container = Self { directory, record };
        let mut attempt = Attempt::new(container);
        match attempt.make(bundle, plan, &mut cgroup, &options) {
            Ok(()) if options.start == Start::Now => {
                match attempt.container.run_poststart_hooks() {
                    Ok(()) => attempt.succeed(),
                    Err(error) => Err(attempt.undo(error)),
                }
            }
            Ok(()) => attempt.succeed(),
            Err(error) => Err(attempt.undo(error)),
        }
    }
}

/// What is known of the container before any of it is made.
pub(super) fn record(id: &str, bundle: &Bundle, plan: &Plan, rdt: Option<Group>) -> Record {
    Record {
        oci_version: bundle.spec().oci_version.clone(),
        id: id.to_owned(),
        bundle: bundle.path().to_owned(),
        rootfs: bundle.path().join(
            bundle
                .spec()
                .root
                .as_ref()
                .map_or("", |root| root.path.as_str()),
        ),
        created: Record::now(),
        owner: nix::unistd::geteuid().as_raw(),
        annotations: bundle.spec().annotations.clone().unwrap_or_default(),
        cgroup: Cgroup::default(),
        rdt,
        own_pids: plan.namespaces.new.contains(CloneFlags::CLONE_NEWPID),
        init: None,
        hooks: points(bundle.spec()),
    }
}

/// Shows the container a socket of its own, at the place where callers of runc know it.
fn add_notify_socket(plan: &mut Plan, root: &Root, id: &str) {
    let directory = root.path().join(id).join(NOTIFY);
    let directory = directory.to_string_lossy().into_owned();
    plan.mounts
        .push(Mount::of_sockets(directory, c"/run/notify"));
    let variable = c"NOTIFY_SOCKET=/run/notify/notify.sock";
    plan.process.env.add([variable.to_owned()]);
}

fn points(spec: &Spec) -> HookPoints {
    let any = |hooks: Option<&Vec<crate::spec::Hook>>| hooks.is_some_and(|hooks| !hooks.is_empty());
    let hooks = spec.hooks.as_ref();
    HookPoints {
        poststart: any(hooks.and_then(|hooks| hooks.poststart.as_ref())),
        poststop: any(hooks.and_then(|hooks| hooks.poststop.as_ref())),
    }
}

fn is_single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// A container on its way.
pub(super) struct Attempt {
    pub(super) container: Container,
    pub(super) init: Option<Child>,
    /// Whether the child is known to have ended and been waited for.
    has_ended: bool,
    /// Master of the terminal, once the child has sent it.
    pub(super) master: Option<OwnedFd>,
    /// Who gets the listener of its filter.
    agent: Option<Agent>,
    notify: Option<UnixDatagram>,
    /// Network devices that are the host's again if the container does not come to be.
    moved: Option<Moved>,
}

impl Attempt {
    pub(super) fn new(container: Container) -> Self {
        Self {
            container,
            init: None,
            has_ended: false,
            master: None,
            agent: None,
            notify: None,
            moved: None,
        }
    }

    fn make(
        &mut self,
        bundle: &Bundle,
        plan: Plan,
        cgroup: &mut Cgroup,
        options: &CreateOptions,
    ) -> Result<()> {
        // What others use must not be in the record: deleting this container would end them.
        cgroup.refuse_used()?;
        self.container.record.cgroup = cgroup.clone();
        // Written before anything that it names is made: whatever becomes of this process, `delete` finds it.
        self.container
            .directory
            .write_record(&self.container.record)?;
        self.container.directory.write_config(bundle.config())?;
        if options.notify {
            self.make_notify_socket(options.start)?;
        }
        let mut prepared = prepare(
            &plan,
            bundle,
            cgroup,
            options,
            self.container.record.hook_state(Status::Creating),
        )?;
        if options.start == Start::Later {
            prepared.wait = Wait::Fifo(Fifo {
                fifo: self
                    .container
                    .directory
                    .make_fifo(plan.namespaces.root_ids())?,
                proc: None,
            });
        }
        self.agent = Agent::of(plan.seccomp.as_ref())?;
        let unified = cgroup.create_unified(&plan.cgroup)?;
        // Only now it is certain that there is one.
        prepared.unified_view = cgroup.unified_view();
        let (channel, child) = Channel::pair().call(|| "socketpair(SOCK_SEQPACKET)")?;
        let (plan, links) = self.clone_child(plan, prepared, (&channel, child), unified)?;
        self.lead(&plan, links, &channel, cgroup)?;
        if plan.hooks.before_pivot() {
            self.run_hooks(&plan, &channel)?;
        }
        self.container.record.cgroup = cgroup.clone();
        self.container
            .directory
            .write_record(&self.container.record)?;
        if self.agent.is_none() {
            // A child that has failed by now says so in its last message.
            let _ = channel.send(Message::Go);
        }
        self.follow(&plan, &channel, options.start)?;
        self.announce(options.pid_file.as_ref(), options.pidfd_socket.as_ref())
    }

    /// Who starts the program listens before.
    fn make_notify_socket(&mut self, start: Start) -> Result<()> {
        let directory = &self.container.directory;
        directory.make_notify()?;
        if start == Start::Now {
            self.notify = Some(directory.bind_notify()?);
        }
        Ok(())
    }

    /// Clones. The child never comes back; the parent goes on without what was prepared for it.
    fn clone_child(
        &mut self,
        mut plan: Plan,
        mut prepared: Prepared,
        channels: (&Channel, Channel),
        unified: Option<OwnedFd>,
    ) -> Result<(Plan, Vec<Link>)> {
        let (parents, childs) = channels;
        let flags = plan.namespaces.flags_of_first_clone();
        let cgroup = unified.as_ref().map(AsFd::as_fd);
        match fork_into(flags, cgroup, Parent::Caller)
            .call(|| format!("clone3({flags:?})"))
            .context(|| START)?
        {
            Side::Parent(pid, pidfd) => {
                self.init = Some(Child { pid, pidfd });
                Ok((plan, prepared.links))
            }
            Side::Child => {
                // What is the parent's alone: its end of the channel, or the parent's death would not be seen, and the
                // directory on the host.
                let _ = nix::unistd::close(parents.as_fd().as_raw_fd());
                self.container.directory.close_in_child();
                drop(unified);
                init::run(&mut plan, &mut prepared, &childs)
            }
        }
    }

    /// Gives the child its ids, its network devices and its cgroups.
    fn lead(
        &mut self,
        plan: &Plan,
        links: Vec<Link>,
        channel: &Channel,
        cgroup: &mut Cgroup,
    ) -> Result<()> {
        let first = self.init_pid();
        if plan.namespaces.new.contains(CloneFlags::CLONE_NEWUSER) {
            ids::map(first, &plan.namespaces.uid_map, &plan.namespaces.gid_map)?;
        }
        // A second process inherits it, and may be out of reach for who has no privilege.
        if let Some(score) = plan.process.oom_score_adj {
            write_proc(first, "oom_score_adj", &score.to_string())
                .context(|| "process.oomScoreAdj")?;
        }
        if plan.namespaces.waits_for_parent() {
            let _ = channel.send(Message::Mapped);
        }
        if plan.namespaces.needs_second_process() {
            self.take_second(plan, channel)?;
        }
        if !links.is_empty() {
            self.move_devices(plan, links, channel)?;
        }
        let pid = self.init_pid();
        let alive = Identity::of(pid);
        let id = &self.container.record.id;
        let created = cgroup.create(&plan.cgroup, id, pid);
        if created.is_err() {
            // What is to be undone is what is there now.
            self.container.record.cgroup = cgroup.clone();
        }
        let entrance = created?;
        if let (Some(group), Some(request)) = (&self.container.record.rdt, &plan.rdt) {
            group.enter(request, pid)?;
        }
        let tasks: Vec<_> = entrance.tasks.iter().map(AsFd::as_fd).collect();
        // A child that has failed by now says so in its last message.
        let _ = channel.send_with(Message::Cgroups, &tasks);
        self.container.record.init = alive.ok();
        Ok(())
    }

    /// The first child made the container's process and has ended.
    fn take_second(&mut self, plan: &Plan, channel: &Channel) -> Result<()> {
        match self.next(channel)? {
            Some(Message::Second(pid)) => {
                let pid = Pid::from_raw(pid);
                let pidfd = pidfd::open(pid).call(|| format!("pidfd_open({pid})"))?;
                let first = self.init.replace(Child { pid, pidfd });
                if let Some(first) = first {
                    let _ = waitpid(first.pid, None);
                }
                Ok(())
            }
            other => Err(self.failed(plan, other)),
        }
    }

    fn move_devices(&mut self, plan: &Plan, links: Vec<Link>, channel: &Channel) -> Result<()> {
        match self.next(channel)? {
            Some(Message::Network) => {}
            other => return Err(self.failed(plan, other)),
        }
        let moved = self.moved.insert(Moved::to(self.init_pid())?);
        for (device, link) in plan.net_devices.iter().zip(links) {
            moved.take(device, link)?;
        }
        let _ = channel.send(Message::DevicesMoved);
        Ok(())
    }

    fn run_hooks(&mut self, plan: &Plan, channel: &Channel) -> Result<()> {
        match self.next(channel)? {
            Some(Message::Mounted) => {}
            other => return Err(self.failed(plan, other)),
        }
        let state = self.container.record.hook_state(Status::Creating);
        hooks::run(&plan.hooks.prestart, "prestart", &state)?;
        hooks::run(&plan.hooks.create_runtime, "createRuntime", &state)?;
        let _ = channel.send(Message::HooksDone);
        Ok(())
    }

    /// Tells who asked for the pid, when nothing can go wrong any more.
    pub(super) fn announce(
        &self,
        pid_file: Option<&PathBuf>,
        pidfd_socket: Option<&PathBuf>,
    ) -> Result<()> {
        let Some(init) = &self.init else {
            return Ok(());
        };
        if let Some(socket) = pidfd_socket {
            files::send_pidfd(socket, "standard", init.pidfd.as_fd())?;
        }
        match pid_file {
            Some(path) => files::write_pid(path, init.pid),
            None => Ok(()),
        }
    }

    /// Listens to the child until it waits for `start`, or has become its program.
    fn follow(&mut self, plan: &Plan, channel: &Channel, start: Start) -> Result<()> {
        let mut is_ready = false;
        loop {
            match self.next(channel)? {
                Some(Message::Ready) if start == Start::Later => return Ok(()),
                Some(Message::Ready) => is_ready = true,
                None if is_ready => return Ok(()),
                other => return Err(self.failed(plan, other)),
            }
        }
    }

    /// The next message that is neither the terminal nor the listener, which may come at any time.
    fn next(&mut self, channel: &Channel) -> Result<Option<Message>> {
        loop {
            if let Some(init) = &self.init
                && !hears(channel, init)?
            {
                return Ok(None);
            }
            match channel
                .receive_with()
                .call(|| "recvmsg(container's process)")?
            {
                Some((Message::Terminal, fds)) => self.master = fds.into_iter().next(),
                Some((Message::Listener(listener), _)) => self.give(listener, channel)?,
                other => return Ok(other.map(|(message, _)| message)),
            }
        }
    }

    fn give(&self, listener: RawFd, channel: &Channel) -> Result<()> {
        let state = self.container.record.hook_state(Status::Creating);
        match (&self.agent, &self.init) {
            (Some(agent), Some(init)) => agent.give(init, listener, &state, channel)?,
            _ => return Err(Error::os("seccomp listener", Errno::EPROTO)),
        }
        // Not before: the child takes messages in their order.
        let _ = channel.send(Message::Go);
        Ok(())
    }

    /// The error of a child that sent its last message, or died without one.
    fn failed(&mut self, plan: &Plan, last: Option<Message>) -> Error {
        if let Some(Message::Failed(failure)) = last {
            return failure::of_init(&failure, plan);
        }
        let status = self.reap();
        let text = if self.container.record.cgroup.oom_kills() > Some(0) {
            "container init was OOM-killed (memory limit too low?)".to_owned()
        } else {
            format!("container init ended early: {status}")
        };
        Error::new(ErrorKind::Os(Errno::ECHILD), text).context(START)
    }

    fn init_pid(&self) -> Pid {
        self.init.as_ref().map_or(Pid::from_raw(0), |init| init.pid)
    }

    /// Kills the child if it still runs, and waits for it.
    fn reap(&mut self) -> String {
        let Some(init) = &self.init else {
            return "never begun".to_owned();
        };
        if self.has_ended {
            return "ended".to_owned();
        }
        self.has_ended = true;
        let _ = pidfd::send_signal(init.pidfd.as_fd(), libc::SIGKILL);
        match waitpid(init.pid, None) {
            Ok(status) => format!("{status:?}"),
            Err(errno) => crate::error::describe(errno),
        }
    }

    /// Takes everything back, and gives `error` with what could not be.
    pub(super) fn undo(mut self, error: Error) -> Error {
        self.reap();
        let cgroup = &self.container.record.cgroup;
        let group = self.container.record.rdt.as_ref();
        let returned = self.moved.as_ref().map_or(Ok(()), Moved::give_back);
        let undone = [
            ("give the network devices back", returned),
            ("kill", cgroup.kill_all()),
            ("remove the cgroups", cgroup.remove()),
            ("leave resctrl", group.map_or(Ok(()), Group::remove)),
            ("remove the state", self.container.directory.remove()),
        ];
        undone
            .into_iter()
            .filter_map(|(what, result)| result.err().map(|error| (what, error)))
            .fold(error, |error, (what, undo)| {
                error.also(&format!("also, cannot {what}: {undo}"))
            })
    }

    pub(super) fn succeed(self) -> Result<Created> {
        match self.init {
            Some(init) => Ok(Created {
                container: self.container,
                init,
                master: self.master,
                notify: self.notify,
            }),
            None => Err(Error::os("clone3()", Errno::ECHILD)),
        }
    }
}

/// Writes a file of a child's directory in procfs, in one call.
pub(super) fn write_proc(pid: Pid, name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{name}");
    let mut file = OpenOptions::new()
        .write(true)
        .open(&path)
        .call(|| format!("open({path:?})"))?;
    file.write_all(value.as_bytes())
        .call(|| format!("write({path:?}, {value:?})"))
}
