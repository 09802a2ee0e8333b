//! Where and when this process runs: sched_setattr(2), sched_setaffinity(2), ioprio_set(2), set_mempolicy(2).

use super::check;

/// Scheduling policy and parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Of `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// Of `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// ns, of `SCHED_DEADLINE`.
    pub runtime: u64,
    /// ns, of `SCHED_DEADLINE`.
    pub deadline: u64,
    /// ns, of `SCHED_DEADLINE`.
    pub period: u64,
}

/// `struct sched_attr` of the kernel, as of 3.14.
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets how this process is scheduled.
///
/// # Errors
/// The errno of sched_setattr(2).
pub fn set_scheduler(attributes: Attributes) -> nix::Result<()> {
    let raw = SchedAttr {
        size: 48,
        policy: attributes.policy,
        flags: attributes.flags,
        nice: attributes.nice,
        priority: attributes.priority,
        runtime: attributes.runtime,
        deadline: attributes.deadline,
        period: attributes.period,
    };
    // SAFETY: `raw` is a whole sched_attr of the size that it says, alive across the call; pid 0 is the caller.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const raw, 0) }).map(drop)
}

/// Lets this process run on the CPUs of `mask` (bit `n % 64` of word `n / 64`); of those, on what its cpuset has.
///
/// # Errors
/// The errno of sched_setaffinity(2), `EINVAL` where no such CPU is allowed.
pub fn set_affinity(mask: &[u64]) -> nix::Result<()> {
    // SAFETY: the kernel reads as many bytes as are passed, from a mask that lives across the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            0,
            size_of_val(mask),
            mask.as_ptr(),
        )
    })
    .map(drop)
}

/// Sets the I/O priority of this process: the class in the bits from 13 on, the level below.
///
/// # Errors
/// The errno of ioprio_set(2).
pub fn set_io_priority(priority: i32) -> nix::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    // SAFETY: the call takes integers only; process 0 is the caller.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) }).map(drop)
}

/// Sets the NUMA policy of this process: a mode with its flags, and a mask of nodes.
///
/// # Errors
/// The errno of set_mempolicy(2), `ENOSYS` where the kernel knows no NUMA.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> nix::Result<()> {
    // The kernel takes one off the number of bits that it is told.
    let bits = nodes.len() * 64 + 1;
    let mask = if nodes.is_empty() {
        std::ptr::null()
    } else {
        nodes.as_ptr()
    };
    let bits = if nodes.is_empty() { 0 } else { bits };
    // SAFETY: the mask is null, or has the words that the kernel reads for so many bits, alive across the call.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) }).map(drop)
}
