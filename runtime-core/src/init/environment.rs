//! How and where a process runs: personality, memory policy, CPUs, scheduler, I/O priority.

use super::{At, Result, Step};
use crate::kernel::{process, sched};
use crate::plan::scheduling::{Affinity, MemoryPolicy, Scheduling};

/// What every process of a container has.
pub(crate) fn of_container(personality: Option<u64>, policy: Option<&MemoryPolicy>) -> Result<()> {
    if let Some(domain) = personality {
        process::set_personality(domain).at(Step::Personality, 0, "personality()")?;
    }
    if let Some(policy) = policy {
        sched::set_memory_policy(policy.mode, &policy.nodes).at(
            Step::MemoryPolicy,
            0,
            format_args!("set_mempolicy({:#x})", policy.mode),
        )?;
    }
    Ok(())
}

/// Lets this process run on all CPUs of its cgroup, whatever its parent was confined to.
pub(crate) fn run_anywhere() {
    // Where a sandbox does not allow it, all is as it was.
    let _ = sched::set_affinity(&[u64::MAX; 128]);
}

/// Confines a process of `exec` that is not yet in its cgroup.
pub(crate) fn confine_first(affinity: &Affinity) -> Result<()> {
    match &affinity.initial {
        Some(mask) => sched::set_affinity(mask).at(Step::Affinity, 0, "sched_setaffinity(initial)"),
        None => Ok(()),
    }
}

/// Confines it to what it has from then on.
pub(crate) fn confine_last(affinity: &Affinity) -> Result<()> {
    match &affinity.last {
        Some(mask) => sched::set_affinity(mask).at(Step::Affinity, 0, "sched_setaffinity(final)"),
        None => {
            run_anywhere();
            Ok(())
        }
    }
}

/// Scheduler and I/O priority, while the right to raise them is still there.
pub(super) fn schedule(scheduling: &Scheduling) -> Result<()> {
    if let Some(attributes) = scheduling.scheduler {
        sched::set_scheduler(attributes).at(
            Step::Scheduler,
            0,
            format_args!("sched_setattr(policy {})", attributes.policy),
        )?;
    }
    match scheduling.io_priority {
        Some(priority) => sched::set_io_priority(priority).at(
            Step::IoPriority,
            0,
            format_args!("ioprio_set({priority:#x})"),
        ),
        None => Ok(()),
    }
}
