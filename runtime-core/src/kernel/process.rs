//! What a process is allowed and belongs to: capset(2), setns(2), seccomp(2), keyctl(2), personality(2), prctl(2).

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sched::CloneFlags;

use super::check;

/// Joins the namespaces `kinds` of the process or namespace that `of` is a descriptor of.
///
/// # Errors
/// The errno of setns(2).
pub fn join(of: BorrowedFd<'_>, kinds: CloneFlags) -> nix::Result<()> {
    // SAFETY: the call takes integers only.
    check(unsafe { libc::syscall(libc::SYS_setns, of.as_raw_fd(), kinds.bits()) }).map(drop)
}

/// Capabilities as bits by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    /// What the process may use now.
    pub effective: u64,
    /// What it may take up.
    pub permitted: u64,
    /// What a program with file capabilities may inherit.
    pub inheritable: u64,
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const LINUX_CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Sets the capabilities of this process.
///
/// # Errors
/// The errno of capset(2), `EPERM` for what it does not have.
pub fn set_capabilities(sets: CapabilitySets) -> nix::Result<()> {
    let half = |set: u64, index: u32| -> u32 {
        u32::try_from(set >> (32 * index) & 0xffff_ffff).unwrap_or_default()
    };
    let data = [0, 1].map(|index| CapData {
        effective: half(sets.effective, index),
        permitted: half(sets.permitted, index),
        inheritable: half(sets.inheritable, index),
    });
    let header = CapHeader {
        version: LINUX_CAPABILITY_VERSION_3,
        pid: 0,
    };
    // SAFETY: version 3 reads one header and two data structures, which are what is passed, alive across the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// Reads the capabilities of this process.
///
/// # Errors
/// The errno of capget(2).
pub fn capabilities() -> nix::Result<CapabilitySets> {
    let header = CapHeader {
        version: LINUX_CAPABILITY_VERSION_3,
        pid: 0,
    };
    let mut data = [CapData::default(); 2];
    // SAFETY: version 3 reads one header and writes two data structures, which are what is passed.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) })?;
    let whole = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok(CapabilitySets {
        effective: whole(data[0].effective, data[1].effective),
        permitted: whole(data[0].permitted, data[1].permitted),
        inheritable: whole(data[0].inheritable, data[1].inheritable),
    })
}

/// One prctl(2) with integers as arguments.
fn prctl(option: libc::c_int, argument: u64, second: u64) -> nix::Result<i32> {
    // SAFETY: callers in this file pass options whose arguments are integers.
    let result = unsafe { libc::prctl(option, argument, second, 0, 0) };
    nix::errno::Errno::result(result)
}

/// Whether the bounding set has the capability `number`; an error for one that the kernel does not know.
///
/// # Errors
/// `EINVAL` for an unknown capability.
pub fn bounding_has(number: u32) -> nix::Result<bool> {
    prctl(libc::PR_CAPBSET_READ, u64::from(number), 0).map(|has| has == 1)
}

/// Takes the capability `number` out of the bounding set.
///
/// # Errors
/// `EPERM` without `CAP_SETPCAP`, `EINVAL` for an unknown capability.
pub fn bounding_drop(number: u32) -> nix::Result<()> {
    prctl(libc::PR_CAPBSET_DROP, u64::from(number), 0).map(drop)
}

/// Empties the ambient set.
///
/// # Errors
/// The errno of prctl(2).
pub fn ambient_clear() -> nix::Result<()> {
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL as u64,
        0,
    )
    .map(drop)
}

/// Raises the capability `number` in the ambient set.
///
/// # Errors
/// `EPERM` where it is not permitted and inheritable.
pub fn ambient_raise(number: u32) -> nix::Result<()> {
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_RAISE as u64,
        u64::from(number),
    )
    .map(drop)
}

/// Whether a change of user id keeps the permitted capabilities.
///
/// # Errors
/// The errno of prctl(2).
pub fn set_keep_capabilities(keep: bool) -> nix::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, u64::from(keep), 0).map(drop)
}

/// Whether other processes may trace this one and look into its `/proc` entries.
///
/// # Errors
/// The errno of prctl(2).
pub fn set_dumpable(dumpable: bool) -> nix::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, u64::from(dumpable), 0).map(drop)
}

/// An instruction of a seccomp filter, `struct sock_filter`.
pub type Instruction = seccompiler::sock_filter;

#[repr(C)]
struct Filter {
    length: u16,
    instructions: *const Instruction,
}

/// Loads the seccomp filter `program`; gives the listener where the flags ask for one.
///
/// # Errors
/// The errno of seccomp(2), `EINVAL` for a program that the kernel does not accept.
pub fn load_seccomp(
    program: &[Instruction],
    flags: u64,
) -> nix::Result<Option<std::os::fd::OwnedFd>> {
    let length = u16::try_from(program.len()).map_err(|_| nix::errno::Errno::EINVAL)?;
    let filter = Filter {
        length,
        instructions: program.as_ptr(),
    };
    // SAFETY: `filter` is a sock_fprog of `length` instructions of the kernel's own layout, alive across the call; the
    // kernel checks the program before it takes it.
    let result = check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const filter,
        )
    })?;
    let listens = flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0;
    Ok(listens.then(|| super::fd::owned(super::narrow(result))))
}

/// Gives this process a session keyring named `name`, new or already there, and returns its serial number.
///
/// # Errors
/// The errno of keyctl(2), `ENOSYS` where the kernel has no keys.
pub fn join_session_keyring(name: &CStr) -> nix::Result<i32> {
    // SAFETY: `name` ends with NUL and lives across the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            name.as_ptr(),
        )
    })
    .map(super::narrow)
}

/// Lets the owner of the keyring `serial` search it, beside what a new session keyring allows.
///
/// # Errors
/// The errno of keyctl(2).
pub fn allow_keyring_search(serial: i32) -> nix::Result<()> {
    /// All for the possessor; view, read, search and link for the owner, see keyctl_setperm(3).
    const PERMISSIONS: u32 = 0x3f1b_0000;
    // SAFETY: the call takes integers only.
    check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_SETPERM, serial, PERMISSIONS) })
        .map(drop)
}

/// Whether the working directory can be reached from the root of this process.
///
/// # Errors
/// The errno of getcwd(2), `ENOENT` for a directory that was removed.
pub fn is_inside_root() -> nix::Result<bool> {
    let mut path = [0_u8; libc::PATH_MAX as usize];
    // SAFETY: the kernel writes at most the length given into the array, which outlives the call.
    let length = check(unsafe { libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len()) });
    match length {
        // A path from outside begins with "(unreachable)".
        Ok(_) => Ok(path[0] == b'/'),
        // Too deep to be told is inside: what is outside is told in few words, for its path is cut at the mount.
        Err(nix::errno::Errno::ERANGE | nix::errno::Errno::ENAMETOOLONG) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Sets the execution domain.
///
/// # Errors
/// The errno of personality(2).
pub fn set_personality(domain: u64) -> nix::Result<()> {
    // SAFETY: the call takes an integer only.
    check(unsafe { libc::syscall(libc::SYS_personality, domain) }).map(drop)
}

/// Sets the NIS domain name of the UTS namespace.
///
/// # Errors
/// The errno of setdomainname(2).
pub fn set_domain_name(name: &CStr) -> nix::Result<()> {
    let bytes = name.to_bytes();
    // SAFETY: pointer and length are of one slice, alive across the call.
    nix::errno::Errno::result(unsafe { libc::setdomainname(bytes.as_ptr().cast(), bytes.len()) })
        .map(drop)
}

/// Gives SIGPIPE its default action, which Rust's start-up took away.
///
/// # Errors
/// The errno of sigaction(2).
pub fn default_sigpipe() -> nix::Result<()> {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: the default action runs no code of this program.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.map(drop)
}

/// Ends this process now: no destructors, no exit handlers, nothing flushed.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: always sound; it does not return.
    unsafe { libc::_exit(code) }
}
