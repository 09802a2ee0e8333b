//! From root of the container to the user of its program, with no more rights than were asked for. The order is the
//! point.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::resource::setrlimit;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::{SFlag, fstat, makedev, umask};
use nix::unistd::{
    Gid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fchown, setgroups, setresgid, setresuid,
};

use super::{At, Result, Step};
use crate::kernel::fd::inherited;
use crate::kernel::process::{self, CapabilitySets};
use crate::kernel::tty;
use crate::plan::Plan;
use crate::plan::capabilities::Sets;
use crate::plan::process::Process;
use crate::plan::seccomp::Program;
use crate::sync::{Channel, Message};

/// Takes the identity of the program of `plan`, but for a seccomp filter that can come last.
pub(super) fn take(plan: &mut Plan, terminal: Option<OwnedFd>, channel: &Channel) -> Result<()> {
    super::exec::fill_home(&mut plan.process);
    take_process(&plan.process, plan.seccomp.as_ref(), terminal, channel)
}

/// As [`take`], for `exec` too.
pub(crate) fn take_process(
    process: &Process,
    seccomp: Option<&Program>,
    terminal: Option<OwnedFd>,
    channel: &Channel,
) -> Result<()> {
    if let Some(terminal) = terminal {
        use_terminal(terminal)?;
    }
    super::labels::program(&process.labels)?;
    super::environment::schedule(&process.scheduling)?;
    // Limits while the right to raise them is still there.
    for (index, limit) in process.rlimits.iter().enumerate() {
        setrlimit(limit.resource, limit.soft, limit.hard).at(
            Step::Rlimit,
            index,
            format_args!("setrlimit({}, {}, {})", limit.name, limit.soft, limit.hard),
        )?;
    }
    own_streams(process)?;
    // Without no_new_privs a filter takes CAP_SYS_ADMIN, which is about to go.
    if let Some(program) = seccomp
        && !process.no_new_privileges
    {
        load(program, channel)?;
    }
    bound(process.capabilities)?;
    let has_entered = chdir(process.cwd.as_c_str()).is_ok();
    take_user(process)?;
    if !has_entered {
        // A directory that only the user may enter, as on a file system that mistrusts root.
        chdir(process.cwd.as_c_str()).at(Step::Cwd, 0, format_args!("chdir({:?})", process.cwd))?;
    }
    refuse_outside()?;
    drop_capabilities(process.capabilities)?;
    if process.no_new_privileges {
        nix::sys::prctl::set_no_new_privs().at(
            Step::NoNewPrivileges,
            0,
            "prctl(PR_SET_NO_NEW_PRIVS)",
        )?;
    }
    match seccomp {
        // The parent, who gives the listener to the agent, leaves before the last step.
        Some(program) if process.no_new_privileges && program.agent().is_some() => {
            load(program, channel)
        }
        _ => Ok(()),
    }
}

/// Loads the filter, where that may be the last thing before the program.
pub(crate) fn confine_last(
    seccomp: Option<&Program>,
    process: &Process,
    channel: &Channel,
) -> Result<()> {
    match seccomp {
        Some(program) if process.no_new_privileges && program.agent().is_none() => {
            load(program, channel)
        }
        _ => Ok(()),
    }
}

/// Loads a filter. Where there is an agent it gets the listener now: from here on calls may wait for its answer.
fn load(program: &Program, channel: &Channel) -> Result<()> {
    let step = Step::Seccomp;
    let listener = process::load_seccomp(program.instructions(), program.flags()).at(
        step,
        0,
        "seccomp(SECCOMP_SET_MODE_FILTER)",
    )?;
    if let Some(listener) = listener {
        // By write(2), which no profile can have answered by an agent; the parent takes the descriptor itself.
        let message = Message::Listener(listener.as_raw_fd());
        channel.send(message).at(step, 0, "write(parent)")?;
        super::wait_for(channel, Message::ListenerTaken);
    }
    Ok(())
}

fn use_terminal(slave: OwnedFd) -> Result<()> {
    let step = Step::Terminal;
    tty::take_control(slave.as_fd()).at(step, 0, "ioctl(TIOCSCTTY)")?;
    dup2_stdin(&slave).at(step, 0, "dup2(slave, 0)")?;
    dup2_stdout(&slave).at(step, 0, "dup2(slave, 1)")?;
    dup2_stderr(&slave).at(step, 0, "dup2(slave, 2)")
}

/// Gives the standard streams to the program's user, so that it can open `/dev/stdout` again. Not the null device,
/// which is everyone's.
fn own_streams(process: &Process) -> Result<()> {
    for stream in (0..=2).filter_map(inherited) {
        let Ok(stat) = fstat(stream) else { continue };
        let is_null = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR
            && stat.st_rdev == makedev(1, 3);
        if is_null || stat.st_uid == process.user.uid {
            continue;
        }
        match fchown(
            stream,
            Some(Uid::from_raw(process.user.uid)),
            Some(Gid::from_raw(process.user.gid)),
        ) {
            // Streams on read-only or foreign file systems, and of ids that this user namespace does not know.
            Ok(())
            | Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS | Errno::EACCES | Errno::ENOSYS) => {}
            Err(errno) => return Err(errno).at(Step::Stdio, 0, "fchown()"),
        }
    }
    Ok(())
}

/// Takes all but the named capabilities out of the bounding set.
fn bound(sets: Sets) -> Result<()> {
    let step = Step::Bounding;
    for number in 0..64 {
        match process::bounding_has(number) {
            Ok(true) if sets.bounding & 1 << number == 0 => {
                process::bounding_drop(number).at(
                    step,
                    0,
                    format_args!("prctl(PR_CAPBSET_DROP, {number})"),
                )?;
            }
            Ok(_) => {}
            // The first number past the kernel's last.
            Err(Errno::EINVAL) => break,
            Err(errno) => {
                return Err(errno).at(step, 0, format_args!("prctl(PR_CAPBSET_READ, {number})"));
            }
        }
    }
    Ok(())
}

fn take_user(process: &Process) -> Result<()> {
    let user = &process.user;
    let step = Step::User;
    // A child of a user namespace without setgroups keeps the groups it has; asking for more is an error.
    match setgroups(&user.groups) {
        Err(Errno::EPERM) if user.groups.is_empty() => {}
        other => other.at(step, 0, "setgroups()")?,
    }
    process::set_keep_capabilities(true).at(step, 0, "prctl(PR_SET_KEEPCAPS, 1)")?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    setresgid(gid, gid, gid).at(step, 0, format_args!("setresgid({gid})"))?;
    setresuid(uid, uid, uid).at(step, 0, format_args!("setresuid({uid})"))?;
    process::set_keep_capabilities(false).at(step, 0, "prctl(PR_SET_KEEPCAPS, 0)")?;
    umask(user.umask);
    Ok(())
}

/// The working directory must lie in the container (CVE-2024-21626). The kernel itself is asked: a C library that gets
/// a path from outside goes looking for one by way of `..`, and finds it.
fn refuse_outside() -> Result<()> {
    match process::is_inside_root() {
        Ok(true) => Ok(()),
        // A directory that was removed is no place to be either.
        Ok(false) | Err(Errno::ENOENT) => Err(Errno::ENOENT).at(
            Step::Cwd,
            0,
            "getcwd(): current working directory is outside of container",
        ),
        Err(errno) => Err(errno).at(Step::Cwd, 0, "getcwd()"),
    }
}

fn drop_capabilities(sets: Sets) -> Result<()> {
    let step = Step::Capabilities;
    let own = process::capabilities().at(step, 0, "capget()")?;
    // What this process itself does not have it cannot give; asking for it is no error, as with every runtime.
    let wanted = CapabilitySets {
        effective: sets.effective & sets.permitted & own.permitted,
        permitted: sets.permitted & own.permitted,
        inheritable: sets.inheritable & (own.permitted | own.inheritable),
    };
    process::set_capabilities(wanted).at(step, 0, "capset()")?;
    process::ambient_clear().at(step, 0, "prctl(PR_CAP_AMBIENT_CLEAR_ALL)")?;
    for number in (0..64).filter(|number| sets.ambient & 1 << number != 0) {
        match process::ambient_raise(number) {
            // Not permitted or not inheritable, or unknown to this kernel.
            Ok(()) | Err(Errno::EPERM | Errno::EINVAL) => {}
            Err(errno) => {
                return Err(errno).at(
                    step,
                    0,
                    format_args!("prctl(PR_CAP_AMBIENT_RAISE, {number})"),
                );
            }
        }
    }
    Ok(())
}

/// Keeps signals pending until the program that is executed next wants them.
pub(super) fn block_signals() -> nix::Result<()> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)
}

/// Undoes what the parent's signal handling left to its child.
pub(crate) fn restore_signals() -> nix::Result<()> {
    process::default_sigpipe()?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}
