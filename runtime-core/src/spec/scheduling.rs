//! Where and when processes run: `process.scheduler`, `ioPriority`, `execCPUAffinity`, `linux.memoryPolicy`.

use serde::Deserialize;

/// `process.scheduler`, see sched_setattr(2).
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Scheduler {
    /// `SCHED_OTHER` and the like.
    pub policy: String,
    /// -20 to 19, for `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: Option<i32>,
    /// 1 to 99, for `SCHED_FIFO` and `SCHED_RR`.
    pub priority: Option<i32>,
    /// `SCHED_FLAG_RESET_ON_FORK` and the like.
    pub flags: Option<Vec<String>>,
    /// ns, for `SCHED_DEADLINE`.
    pub runtime: Option<u64>,
    /// ns, for `SCHED_DEADLINE`.
    pub deadline: Option<u64>,
    /// ns, for `SCHED_DEADLINE`.
    pub period: Option<u64>,
}

/// `process.ioPriority`, see ioprio_set(2).
#[derive(Clone, Debug, Deserialize)]
pub struct IoPriority {
    /// `IOPRIO_CLASS_RT`, `IOPRIO_CLASS_BE` or `IOPRIO_CLASS_IDLE`.
    pub class: String,
    /// 0, the highest, to 7.
    #[serde(default)]
    pub priority: i64,
}

/// `process.execCPUAffinity`: lists such as `0-3,7`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct CpuAffinity {
    /// Until the process is in its cgroup.
    pub initial: Option<String>,
    /// From then on.
    #[serde(rename = "final")]
    pub last: Option<String>,
}

/// `linux.memoryPolicy`, see set_mempolicy(2).
#[derive(Clone, Debug, Default, Deserialize)]
pub struct MemoryPolicy {
    /// `MPOL_BIND` and the like.
    pub mode: String,
    /// A list such as `0-3,7`.
    pub nodes: Option<String>,
    /// `MPOL_F_STATIC_NODES` and the like.
    pub flags: Option<Vec<String>>,
}
