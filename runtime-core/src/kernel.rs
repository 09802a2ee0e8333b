//! System calls that neither std nor nix gives, and the only place with `unsafe`.
//!
//! | module | calls |
//! |---|---|
//! | [`bpf`] | bpf |
//! | [`clone`] | clone3 |
//! | [`exec`] | execve and execveat without allocation |
//! | [`fd`] | close_range, openat2, descriptors that survive an exec |
//! | [`landlock`] | landlock_create_ruleset, landlock_add_rule, landlock_restrict_self |
//! | [`mount`] | open_tree, move_mount, mount_setattr, fsopen, fsconfig, fsmount |
//! | [`net`] | network interface ioctls |
//! | [`pidfd`] | pidfd_open, pidfd_send_signal, pidfd_getfd |
//! | [`process`] | capset, keyctl, personality, prctl where nix has none, seccomp, setns by pidfd |
//! | [`sched`] | sched_setattr, sched_setaffinity, ioprio_set, set_mempolicy |
//! | [`tty`] | terminal ioctls |
//! | [`xattr`] | flistxattr, fgetxattr, fsetxattr |
//!
//! Each wrapper forces the safe default (`CLOEXEC`, no symbolic links), takes borrowed descriptors, and gives the bare
//! errno: who calls it knows which element it was for. All of them may be called in a child after clone: none
//! locks or logs, and only [`xattr`] allocates.

pub mod bpf;
pub mod clone;
pub mod exec;
pub mod fd;
pub mod landlock;
pub mod mount;
pub mod net;
pub mod pidfd;
pub mod process;
pub mod sched;
pub mod tty;
pub mod xattr;

use nix::errno::Errno;

/// Turns the result of `libc::syscall` into a value or an errno.
fn check(result: libc::c_long) -> nix::Result<libc::c_long> {
    Errno::result(result)
}

/// A C integer from one that is known to fit: flags, sizes of kernel structures, descriptors just returned.
#[expect(
    clippy::cast_possible_truncation,
    reason = "descriptors and pids are C ints; the kernel returns them widened"
)]
fn narrow(value: libc::c_long) -> libc::c_int {
    value as libc::c_int
}
