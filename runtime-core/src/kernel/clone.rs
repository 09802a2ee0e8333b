//! clone3(2): a child with the memory of its parent and namespaces of its own.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sched::CloneFlags;
use nix::unistd::Pid;

use super::{check, narrow};

/// Flag of clone3 alone: a new time namespace.
pub const CLONE_NEWTIME: i32 = 0x80;

/// Puts the child into the cgroup of `clone_args.cgroup`.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of [`fork_into`] goes on.
#[derive(Debug)]
pub enum Side {
    /// The parent, with the child's pid as the parent sees it and a descriptor of the child.
    Parent(Pid, OwnedFd),
    /// The child.
    Child,
}

/// `struct clone_args` of the kernel, as of 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Who the parent of the new process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// The caller.
    Caller,
    /// The caller's own parent (`CLONE_PARENT`).
    Grandparent,
}

/// Forks into new namespaces, and into a cgroup of the unified hierarchy if one is given.
///
/// The caller must be single-threaded: only then is the child's copy of the heap and of every lock whole. The child
/// shall make system calls and end by `execve` or `_exit`.
///
/// # Errors
/// The errno of clone3(2).
pub fn fork_into(
    namespaces: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    parent: Parent,
) -> nix::Result<Side> {
    let mut pidfd: libc::c_int = -1;
    let namespaces = u64::from(namespaces.bits().cast_unsigned());
    let mut flags = namespaces | libc::CLONE_PIDFD as u64;
    // With CLONE_PARENT the exit signal is the caller's own, and the kernel refuses another.
    let exit_signal = match parent {
        Parent::Caller => libc::SIGCHLD as u64,
        Parent::Grandparent => 0,
    };
    if parent == Parent::Grandparent {
        let clone_parent = libc::CLONE_PARENT as u64;
        flags |= clone_parent;
    }
    let mut args = CloneArgs {
        flags,
        pidfd: (&raw mut pidfd).addr() as u64,
        exit_signal,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: `args` is a whole clone_args of the size given, and lives across the call; `pidfd` outlives it too. No
    // stack and no CLONE_VM: the child has a copy of this stack and returns from here by itself. Being the only thread
    // (asserted by `Init::spawn`), the child's copy of the allocator's state is consistent.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) })?;
    if pid == 0 {
        return Ok(Side::Child);
    }
    // SAFETY: clone3 succeeded with CLONE_PIDFD, so `pidfd` is a new descriptor that nothing else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Side::Parent(Pid::from_raw(narrow(pid)), pidfd))
}
