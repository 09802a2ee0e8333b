//! Where and when processes run: `process.scheduler`, `ioPriority`, `execCPUAffinity`, `linux.memoryPolicy`,
//! `linux.intelRdt`.

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

/// `linux.intelRdt`: Intel Resource Director Technology, by the groups of resctrl.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IntelRdt {
    /// Name of a group that is not removed with the container; `/` for the one that all processes begin in.
    #[serde(rename = "closID")]
    pub clos_id: Option<String>,
    /// Lines for the group's `schemata`, written after the two that follow.
    pub schemata: Option<Vec<String>>,
    /// Parts of caches, as `L3:0=ff;1=f0`.
    pub l3_cache_schema: Option<String>,
    /// Memory bandwidth, as `MB:0=20;1=70`.
    pub mem_bw_schema: Option<String>,
    /// Whether a group of its own counts what the container uses.
    #[serde(default)]
    pub enable_monitoring: bool,
}
