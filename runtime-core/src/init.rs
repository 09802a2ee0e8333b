//! The container's first process, from clone to exec.
//!
//! It has a copy of its parent's memory and nothing else: it makes system calls, reports what failed in one frame of
//! fixed size, and ends by `_exit`. It neither logs nor panics nor runs destructors of the parent's.

use std::convert::Infallible;
use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, setresgid, setresuid, write};

use crate::bundle::RootDir;
use crate::kernel::clone::{CLONE_NEWTIME, Parent, Side, fork_into};
use crate::kernel::fd::close_all_but;
use crate::kernel::process;
use crate::netlink::{Link, Netlink, State};
use crate::plan::Plan;
use crate::state::Status;
use crate::sync::{Channel, Failure, Message};

pub(crate) mod cgroups;
mod copy_up;
pub(crate) mod environment;
pub(crate) mod exec;
pub(crate) mod hooks;
pub(crate) mod identity;
mod labels;
pub(crate) mod landlock;
pub(crate) mod mounts;
mod nodes;
mod protect;
mod rootfs;
mod terminal;

pub(crate) use terminal::{hand_over, open_terminal};

/// A result in the child.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// The steps of a start, in their order. A failure names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    UserNamespace,
    JoinNamespace,
    Session,
    OomScore,
    Keyring,
    AppArmor,
    SeLinux,
    Cgroup,
    Network,
    NetDevice,
    Propagation,
    Root,
    Mount,
    Device,
    Dev,
    Terminal,
    Hostname,
    Domainname,
    Sysctl,
    ReadonlyPath,
    MaskedPath,
    CreateContainerHook,
    Pivot,
    Personality,
    MemoryPolicy,
    Affinity,
    Scheduler,
    IoPriority,
    Rlimit,
    Stdio,
    Bounding,
    User,
    Cwd,
    Capabilities,
    NoNewPrivileges,
    Seccomp,
    Program,
    Wait,
    StartContainerHook,
    Landlock,
    Exec,
}

impl Step {
    const LAST: u8 = Self::Exec as u8;

    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        ALL.get(usize::from(number)).copied()
    }
}

const ALL: [Step; Step::LAST as usize + 1] = [
    Step::UserNamespace,
    Step::JoinNamespace,
    Step::Session,
    Step::OomScore,
    Step::Keyring,
    Step::AppArmor,
    Step::SeLinux,
    Step::Cgroup,
    Step::Network,
    Step::NetDevice,
    Step::Propagation,
    Step::Root,
    Step::Mount,
    Step::Device,
    Step::Dev,
    Step::Terminal,
    Step::Hostname,
    Step::Domainname,
    Step::Sysctl,
    Step::ReadonlyPath,
    Step::MaskedPath,
    Step::CreateContainerHook,
    Step::Pivot,
    Step::Personality,
    Step::MemoryPolicy,
    Step::Affinity,
    Step::Scheduler,
    Step::IoPriority,
    Step::Rlimit,
    Step::Stdio,
    Step::Bounding,
    Step::User,
    Step::Cwd,
    Step::Capabilities,
    Step::NoNewPrivileges,
    Step::Seccomp,
    Step::Program,
    Step::Wait,
    Step::StartContainerHook,
    Step::Landlock,
    Step::Exec,
];

/// Names the step, the element of the configuration and the call that failed.
pub(crate) trait At<T> {
    fn at(self, step: Step, element: usize, call: impl fmt::Display) -> Result<T>;
}

impl<T> At<T> for nix::Result<T> {
    fn at(self, step: Step, element: usize, call: impl fmt::Display) -> Result<T> {
        self.map_err(|errno| Failure::new(step, element, call, errno))
    }
}

/// What the parent opened and made for the child.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) root: RootDir,
    /// A detached clone of the root, where the parent may make one.
    pub(crate) root_tree: Option<OwnedFd>,
    /// By mount: the source of a bind mount.
    pub(crate) binds: Vec<Option<BindSource>>,
    /// By device: likewise, for nodes that are bound.
    pub(crate) device_trees: Vec<Option<OwnedFd>>,
    /// By joined namespace.
    pub(crate) joined: Vec<OwnedFd>,
    /// Names and host paths of the version 1 cgroups, for a mount of type `cgroup`.
    pub(crate) cgroup_views: Vec<(CString, CString)>,
    /// Host path of the cgroup where version 2 is all there is, likewise; none where the container has no cgroup.
    pub(crate) unified_view: Option<CString>,
    pub(crate) terminal: TerminalTo,
    /// By network device: what it was before it was moved.
    pub(crate) links: Vec<Link>,
    /// Name of the session keyring.
    pub(crate) keyring: Option<CString>,
    pub(crate) pivot: Pivot,
    /// First descriptor that is not passed to the program.
    pub(crate) first_closed: i32,
    pub(crate) wait: Wait,
    /// The state for hooks inside the container.
    pub(crate) hook_state: crate::hooks::HookState,
    /// A program that is executed in the place of the container's, and executes that.
    pub(crate) init: Option<OwnedFd>,
}

/// What a bind mount shows.
#[derive(Debug)]
pub(crate) enum BindSource {
    /// A detached clone, made by the parent.
    Tree(OwnedFd),
    /// A path of the host: the parent may not clone mounts, the child may in its user namespace.
    Path(CString),
}

/// Who gets the master of the container's terminal.
#[derive(Debug)]
pub(crate) enum TerminalTo {
    /// The parent, over the channel.
    Caller,
    /// A connected socket of the caller's caller (`--console-socket`).
    Socket(OwnedFd),
}

/// How the container gets its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pivot {
    /// pivot_root(2).
    PivotRoot,
    /// A move over `/` and chroot(2), where the root of the namespace cannot be pivoted (`--no-pivot`).
    MoveRoot,
}

/// What the program waits for once everything is made.
#[derive(Debug)]
pub(crate) enum Wait {
    /// For nothing but the parent's leave.
    Leave,
    /// Then in a FIFO, until `start` opens it.
    Fifo(Fifo),
}

/// A FIFO in which a process waits.
#[derive(Debug)]
pub(crate) struct Fifo {
    /// Opened with `O_PATH`, for it blocks who opens it otherwise.
    pub(crate) fifo: OwnedFd,
    /// A procfs through which it is opened, made when the namespaces are there; the container's own may be anything.
    /// It has processes and nothing else, for other processes of the container may come to see it.
    pub(crate) proc: Option<OwnedFd>,
}

/// The child of the first clone. Never returns.
pub(crate) fn run(plan: &mut Plan, prepared: &mut Prepared, channel: &Channel) -> ! {
    let Err(failure) = steps(plan, prepared, channel);
    // Once the parent has left only the program's own error stream remains to tell.
    if channel.send(Message::Failed(failure)).is_err()
        && failure.step.number() >= Step::Wait.number()
    {
        let text = format!(
            "exec {}: {}\n",
            plan.process.program.name,
            failure.errno.desc().to_lowercase()
        );
        let _ = write(std::io::stderr(), text.as_bytes());
    }
    process::exit_now(255)
}

fn steps(plan: &mut Plan, prepared: &mut Prepared, channel: &Channel) -> Result<Infallible> {
    enter_namespaces(plan, prepared, channel)?;
    // A session of its own, so that nobody's terminal can stop it.
    nix::unistd::setsid().at(Step::Session, 0, "setsid()")?;
    if let Some(name) = &prepared.keyring {
        labels::keys(&plan.process.labels)?;
        join_keyring(name)?;
    }
    if plan.namespaces.new.contains(CloneFlags::CLONE_NEWNET) {
        unshare(CloneFlags::CLONE_NEWNET).at(Step::Network, 0, "unshare(CLONE_NEWNET)")?;
        crate::kernel::net::loopback_up().at(
            Step::Network,
            0,
            "ioctl(SIOCSIFFLAGS, \"lo\", IFF_UP)",
        )?;
    }
    take_net_devices(plan, prepared, channel)?;
    let root = rootfs::assemble(plan, prepared, channel)?;
    // The parent needs nothing of this process's /proc entries any more; who joins the container shall not have them.
    process::set_dumpable(false).at(Step::Session, 0, "prctl(PR_SET_DUMPABLE, 0)")?;
    let terminal = terminal::open(plan, prepared, &root, channel)?;
    set_names(plan)?;
    protect::sysctls(plan)?;
    if plan.hooks.before_pivot() {
        channel
            .send(Message::Mounted)
            .at(Step::CreateContainerHook, 0, "write(parent)")?;
        wait_for(channel, Message::HooksDone);
        hooks::run(
            &plan.hooks.create_container,
            &prepared.hook_state,
            Step::CreateContainerHook,
        )?;
    }
    if let Wait::Fifo(wait) = &mut prepared.wait {
        // Who may not mount one has to take what is at /proc.
        wait.proc = protect::private_proc(protect::Subset::Pids).ok();
    }
    // After the hooks, which may still mount and write.
    protect::readonly_paths(plan, &root)?;
    protect::masked_paths(plan, &root)?;
    rootfs::pivot(plan, prepared, &root)?;
    // From here on the host's paths do not exist, and what is open must not lead back to them: neither the program nor
    // its working directory may find a descriptor of the host's (CVE-2024-21626).
    drop(root);
    close_hosts_files(prepared, channel, terminal.as_ref())?;
    environment::of_container(plan.personality, plan.memory_policy.as_ref())?;
    // Not what the caller was confined to, but all that the cgroup has.
    environment::run_anywhere();
    identity::take(plan, terminal, channel)?;
    exec::find_program(&plan.process)?;
    let rules = landlock::make(plan.landlock.as_ref())?;
    if prepared.init.is_some() {
        // From here on the container is known to others, and what they send shall reach the init.
        identity::block_signals().at(Step::Wait, 0, "sigprocmask()")?;
    }
    channel
        .send(Message::Ready)
        .at(Step::Wait, 0, "write(parent)")?;
    wait_for(channel, Message::Go);
    if let Wait::Fifo(fifo) = &prepared.wait {
        exec::wait_for_start(fifo)?;
    }
    prepared.hook_state.status = Status::Created;
    hooks::run(
        &plan.hooks.start_container,
        &prepared.hook_state,
        Step::StartContainerHook,
    )?;
    landlock::restrict(rules)?;
    identity::confine_last(plan.seccomp.as_ref(), &plan.process, channel)?;
    let init = prepared.init.as_ref().map(AsFd::as_fd);
    exec::replace(&plan.process, init, prepared.first_closed)
}

/// Closes everything but what the last steps need, and what is passed to the program.
fn close_hosts_files(
    prepared: &Prepared,
    channel: &Channel,
    terminal: Option<&OwnedFd>,
) -> Result<()> {
    let channel = channel.as_fd().as_raw_fd();
    let mut kept = [channel; 5];
    if let Some(terminal) = terminal {
        kept[1] = terminal.as_raw_fd();
    }
    if let Wait::Fifo(wait) = &prepared.wait {
        kept[2] = wait.fifo.as_raw_fd();
        kept[3] = wait.proc.as_ref().map_or(channel, AsRawFd::as_raw_fd);
    }
    if let Some(init) = &prepared.init {
        kept[4] = init.as_raw_fd();
    }
    close_all_but(prepared.first_closed, kept).at(Step::Pivot, 0, "close_range()")
}

/// Ends this process where the parent is gone.
pub(crate) fn wait_for(channel: &Channel, message: Message) {
    if !channel.expect(message) {
        process::exit_now(255);
    }
}

/// Everything between the first clone and a process that is in all its namespaces but the cgroup namespace.
fn enter_namespaces(plan: &Plan, prepared: &Prepared, channel: &Channel) -> Result<()> {
    let namespaces = &plan.namespaces;
    if namespaces.waits_for_parent() {
        wait_for(channel, Message::Mapped);
    }
    if namespaces.new.contains(CloneFlags::CLONE_NEWUSER) {
        become_root()?;
    }
    for (joined, namespace) in namespaces.joined.iter().zip(&prepared.joined) {
        process::join(namespace.as_fd(), joined.kind.flag()).at(
            Step::JoinNamespace,
            joined.index,
            format_args!("setns({})", joined.path),
        )?;
        if joined.kind == crate::spec::NamespaceKind::User {
            become_root()?;
        }
    }
    if !namespaces.needs_second_process() {
        return Ok(());
    }
    let time = CloneFlags::from_bits_retain(CLONE_NEWTIME);
    if namespaces.new.contains(time) {
        unshare(time).at(Step::JoinNamespace, 0, "unshare(CLONE_NEWTIME)")?;
        if let Some(offsets) = &namespaces.time_offsets {
            write_file("/proc/self/timens_offsets", offsets.as_bytes()).at(
                Step::JoinNamespace,
                0,
                "write(\"/proc/self/timens_offsets\")",
            )?;
        }
    }
    if namespaces.joins(crate::spec::NamespaceKind::Pid) {
        // Who is there already shall not have the host's files and root by way of the newcomer's /proc entries
        // (CVE-2016-9962).
        process::set_dumpable(false).at(Step::Session, 0, "prctl(PR_SET_DUMPABLE, 0)")?;
    }
    // Joined PID and new time namespaces are those of children: the container is a second process, with the same parent.
    let flags = namespaces.flags_of_second_clone();
    match fork_into(flags, None, Parent::Grandparent).at(
        Step::JoinNamespace,
        0,
        "clone3(CLONE_PARENT)",
    )? {
        Side::Child => Ok(()),
        Side::Parent(pid, _) => {
            let _ = channel.send(Message::Second(pid.as_raw()));
            process::exit_now(0)
        }
    }
}

/// Root of the user namespace it has just entered, whose ids it may use only now.
pub(crate) fn become_root() -> Result<()> {
    let step = Step::UserNamespace;
    setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0)).at(
        step,
        0,
        "setresgid(0, 0, 0)",
    )?;
    setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).at(
        step,
        0,
        "setresuid(0, 0, 0)",
    )
}

/// Labels the keys that this process, which joins a container, makes.
pub(crate) fn label_keys(process: &crate::plan::process::Process) -> Result<()> {
    labels::keys(&process.labels)
}

fn join_keyring(name: &CString) -> Result<()> {
    match process::join_session_keyring(name) {
        // Some kernels have no keys, and some sandboxes hide them.
        Err(Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno).at(
            Step::Keyring,
            0,
            format_args!("keyctl(KEYCTL_JOIN_SESSION_KEYRING, {name:?})"),
        ),
        Ok(serial) => {
            process::allow_keyring_search(serial).at(Step::Keyring, 0, "keyctl(KEYCTL_SETPERM)")
        }
    }
}

/// Lets the parent move network devices here, and makes them what they were.
fn take_net_devices(plan: &Plan, prepared: &Prepared, channel: &Channel) -> Result<()> {
    if plan.net_devices.is_empty() {
        return Ok(());
    }
    let step = Step::NetDevice;
    channel
        .send(Message::Network)
        .at(step, 0, "write(parent)")?;
    wait_for(channel, Message::DevicesMoved);
    let netlink = Netlink::open().at(step, 0, "socket(NETLINK_ROUTE)")?;
    let moved = plan.net_devices.iter().zip(&prepared.links).enumerate();
    for (index, (device, link)) in moved {
        netlink.restore(&device.inside, link, State::Up).at(
            step,
            index,
            "rtnetlink(RTM_NEWLINK, RTM_NEWADDR)",
        )?;
    }
    Ok(())
}

fn set_names(plan: &Plan) -> Result<()> {
    if let Some(name) = &plan.hostname {
        nix::unistd::sethostname(std::ffi::OsStr::new(name.to_str().unwrap_or_default())).at(
            Step::Hostname,
            0,
            format_args!("sethostname({name:?})"),
        )?;
    }
    match &plan.domainname {
        Some(name) => process::set_domain_name(name).at(
            Step::Domainname,
            0,
            format_args!("setdomainname({name:?})"),
        ),
        None => Ok(()),
    }
}

/// Writes a whole file of the host's procfs in one call.
pub(crate) fn write_file(path: &str, bytes: &[u8]) -> nix::Result<()> {
    use nix::fcntl::{OFlag, open};
    let file = open(
        path,
        OFlag::O_WRONLY | OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )?;
    write(&file, bytes).map(drop)
}
