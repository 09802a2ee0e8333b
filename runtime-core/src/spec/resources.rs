//! `linux.resources`: what a container may use, config-linux.md.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `linux.resources`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Which devices may be used.
    pub devices: Option<Vec<DeviceRule>>,
    /// Memory.
    pub memory: Option<Memory>,
    /// CPU time and CPU sets.
    pub cpu: Option<Cpu>,
    /// Tasks.
    pub pids: Option<Pids>,
    /// Block devices.
    #[serde(rename = "blockIO")]
    pub block_io: Option<BlockIo>,
    /// Huge pages.
    pub hugepage_limits: Option<Vec<HugepageLimit>>,
    /// Network class and priorities.
    pub network: Option<Network>,
    /// RDMA limits by device.
    pub rdma: Option<BTreeMap<String, Rdma>>,
    /// Files of the unified hierarchy.
    pub unified: Option<BTreeMap<String, String>>,
}

/// An element of `linux.resources.devices`.
#[derive(Clone, Debug, Deserialize)]
pub struct DeviceRule {
    /// Whether the rule allows or denies.
    pub allow: bool,
    /// `a`, `b` or `c`; all when absent.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// All when absent or -1.
    pub major: Option<i64>,
    /// All when absent or -1.
    pub minor: Option<i64>,
    /// Of `r`, `w`, `m`.
    pub access: Option<String>,
}

/// `linux.resources.memory`, in bytes; -1 is no limit.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Hard limit.
    pub limit: Option<i64>,
    /// Soft limit.
    pub reservation: Option<i64>,
    /// Limit of memory and swap together.
    pub swap: Option<i64>,
    /// Obsolete: kernel memory.
    pub kernel: Option<i64>,
    /// Kernel memory of TCP.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: Option<i64>,
    /// 0 to 100.
    pub swappiness: Option<u64>,
    /// Whether the OOM killer is off.
    #[serde(rename = "disableOOMKiller")]
    pub disable_oom_killer: Option<bool>,
    /// Hierarchical accounting (cgroup v1).
    pub use_hierarchy: Option<bool>,
    /// Whether a limit below what is in use is refused.
    pub check_before_update: Option<bool>,
}

/// `linux.resources.cpu`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    /// Relative weight.
    pub shares: Option<u64>,
    /// µs of a period; below zero is no limit.
    pub quota: Option<i64>,
    /// µs that may be borrowed.
    pub burst: Option<u64>,
    /// µs.
    pub period: Option<u64>,
    /// µs of a real-time period.
    pub realtime_runtime: Option<i64>,
    /// µs.
    pub realtime_period: Option<u64>,
    /// CPUs as in cpuset(7).
    pub cpus: Option<String>,
    /// Memory nodes as in cpuset(7).
    pub mems: Option<String>,
    /// 1 for `SCHED_IDLE`.
    pub idle: Option<i64>,
}

/// `linux.resources.pids`.
#[derive(Clone, Debug, Deserialize)]
pub struct Pids {
    /// Below zero is no limit.
    pub limit: i64,
}

/// `linux.resources.blockIO`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockIo {
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// Weight of tasks against child cgroups.
    pub leaf_weight: Option<u16>,
    /// Weights by device.
    pub weight_device: Option<Vec<WeightDevice>>,
    /// Bytes a second.
    pub throttle_read_bps_device: Option<Vec<ThrottleDevice>>,
    /// Bytes a second.
    pub throttle_write_bps_device: Option<Vec<ThrottleDevice>>,
    /// Operations a second.
    #[serde(rename = "throttleReadIOPSDevice")]
    pub throttle_read_iops_device: Option<Vec<ThrottleDevice>>,
    /// Operations a second.
    #[serde(rename = "throttleWriteIOPSDevice")]
    pub throttle_write_iops_device: Option<Vec<ThrottleDevice>>,
}

/// A weight for one block device.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WeightDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// 10 to 1000.
    pub leaf_weight: Option<u16>,
}

/// A rate for one block device.
#[derive(Clone, Debug, Deserialize)]
pub struct ThrottleDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// A second.
    pub rate: u64,
}

/// An element of `linux.resources.hugepageLimits`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HugepageLimit {
    /// `2MB` and the like.
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
}

/// An element of `linux.resources.rdma`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rdma {
    /// Most handles of the device.
    pub hca_handles: Option<u32>,
    /// Most objects of the device.
    pub hca_objects: Option<u32>,
}

/// `linux.resources.network`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Network {
    /// Tag of the container's packets.
    #[serde(rename = "classID")]
    pub class_id: Option<u32>,
    /// Priorities by interface.
    pub priorities: Option<Vec<InterfacePriority>>,
}

/// A priority of one network interface.
#[derive(Clone, Debug, Deserialize)]
pub struct InterfacePriority {
    /// The interface.
    pub name: String,
    /// Its priority.
    pub priority: u32,
}
