//! What a container uses, in the shape in which `events` prints it.
//!
//! Names, units and what is left out when it is zero are runc's, for its callers read them. Times are nanoseconds, sizes
//! bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::Cgroup;

mod v1;
mod v2;

/// What a container uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// CPU time.
    pub cpu: Cpu,
    /// CPUs and memory nodes.
    pub cpuset: CpuSet,
    /// Memory.
    pub memory: Memory,
    /// Tasks.
    pub pids: Pids,
    /// Block devices.
    pub blkio: BlockIo,
    /// Huge pages by their size.
    pub hugetlb: BTreeMap<String, Hugetlb>,
    /// Intel RDT, of which there is nothing.
    pub intel_rdt: Nothing,
    /// Of interfaces made by the runtime, of which there are none.
    pub network_interfaces: Option<Nothing>,
}

/// An object without members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Nothing {}

/// CPU time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// Used.
    pub usage: CpuUsage,
    /// Withheld.
    pub throttling: Throttling,
    /// Waited for, on version 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// CPU time used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpuUsage {
    /// In all.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    /// By CPU (version 1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// In the kernel by CPU (version 1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// In user space by CPU (version 1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In user space.
    pub user: u64,
}

/// CPU time withheld for a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods that passed.
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    /// Periods in which the quota was used up.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    /// Time waited.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
}

/// Pressure stall information, see the kernel's accounting/psi.rst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// Some tasks waited.
    pub some: Stall,
    /// All waited.
    pub full: Stall,
}

/// Shares of time waited, in percent, and the sum in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Stall {
    /// Over 10 seconds.
    pub avg10: f64,
    /// Over a minute.
    pub avg60: f64,
    /// Over five minutes.
    pub avg300: f64,
    /// In all, µs.
    pub total: u64,
}

/// What `cpuset` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpuSet {
    /// CPUs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    /// As the files of version 1 say, and so are those that follow.
    pub cpu_exclusive: u64,
    /// Memory nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    #[allow(missing_docs, reason = "named as the files of cpuset(7)")]
    pub mem_hardwall: u64,
    #[allow(missing_docs, reason = "named as the files of cpuset(7)")]
    pub mem_exclusive: u64,
    #[allow(missing_docs, reason = "named as the files of cpuset(7)")]
    pub memory_migrate: u64,
    #[allow(missing_docs, reason = "named as the files of cpuset(7)")]
    pub memory_spread_page: u64,
    #[allow(missing_docs, reason = "named as the files of cpuset(7)")]
    pub memory_spread_slab: u64,
    #[allow(missing_docs, reason = "named as the files of cpuset(7)")]
    pub memory_pressure: u64,
    #[allow(missing_docs, reason = "named as the files of cpuset(7)")]
    pub sched_load_balance: u64,
    #[allow(missing_docs, reason = "named as the files of cpuset(7)")]
    pub sched_relax_domain_level: i64,
}

/// Memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Memory {
    /// Of the page cache.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    /// All.
    pub usage: Usage,
    /// Memory and swap together, as version 1 counts them.
    pub swap: Usage,
    /// Of the kernel.
    pub kernel: Usage,
    /// Of TCP in the kernel.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: Usage,
    /// `memory.stat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// Waited for, on version 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// A use and its limit, which is the largest number where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// The limit.
    pub limit: u64,
    /// Now.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// At most so far.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

/// Tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pids {
    /// Now.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// The limit; zero where there is none.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Block devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockIo {
    /// Bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlockIoEntry>,
    /// Operations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlockIoEntry>,
    /// Operations that wait.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_queue_recursive: Vec<BlockIoEntry>,
    /// Time at the devices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_time_recursive: Vec<BlockIoEntry>,
    /// Time waited.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_wait_time_recursive: Vec<BlockIoEntry>,
    /// Operations merged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_merged_recursive: Vec<BlockIoEntry>,
    /// Time of the devices, ms.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_time_recursive: Vec<BlockIoEntry>,
    /// Sectors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sectors_recursive: Vec<BlockIoEntry>,
    /// Waited for, on version 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One device and kind of operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BlockIoEntry {
    /// Major number.
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    /// Minor number.
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    /// `Read`, `Write` and the like.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    /// The count.
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

/// Huge pages of one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Hugetlb {
    /// Now.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// At most so far.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Cgroup {
    /// What the processes in the cgroups use. What the host does not count is zero.
    pub(crate) fn stats(&self) -> Stats {
        match self.v2() {
            Some(directory) => v2::read(directory),
            None => v1::read(&|controller| self.directory(controller)),
        }
    }
}

/// A file of one number; `max` is the largest.
fn number(directory: &Path, file: &str) -> Option<u64> {
    let text = fs::read_to_string(directory.join(file)).ok()?;
    match text.trim() {
        "max" => Some(u64::MAX),
        text => text.parse().ok(),
    }
}

/// A file of keys and numbers.
fn pairs(directory: &Path, file: &str) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// A list as in cpuset(7).
fn list(directory: &Path, file: &str) -> Vec<u16> {
    let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
    parse_list(text.trim())
}

fn parse_list(text: &str) -> Vec<u16> {
    let range = |range: &str| -> Option<std::ops::RangeInclusive<u16>> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

/// The sizes of huge pages of this host, as the files of cgroups name them.
fn page_sizes() -> Vec<String> {
    let entries = fs::read_dir("/sys/kernel/mm/hugepages")
        .into_iter()
        .flatten();
    let size = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let kibibytes: u64 = name
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()?;
        Some(match kibibytes {
            size if size >= 1 << 20 => format!("{}GB", size >> 20),
            size if size >= 1 << 10 => format!("{}MB", size >> 10),
            size => format!("{size}KB"),
        })
    };
    entries.flatten().filter_map(size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(parse_list("0-2,7"), [0, 1, 2, 7]);
        assert!(parse_list("").is_empty());
    }

    #[test]
    fn nothing_used_is_as_runc_prints_it() {
        let json = serde_json::to_string(&Stats::default()).unwrap();
        let expected = concat!(
            r#"{"cpu":{"usage":{"kernel":0,"user":0},"throttling":{}},"#,
            r#""cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"#,
            r#""memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"#,
            r#""sched_relax_domain_level":0},"#,
            r#""memory":{"usage":{"limit":0,"failcnt":0},"swap":{"limit":0,"failcnt":0},"#,
            r#""kernel":{"limit":0,"failcnt":0},"kernelTCP":{"limit":0,"failcnt":0}},"pids":{},"blkio":{},"#,
            r#""hugetlb":{},"intel_rdt":{},"network_interfaces":null}"#
        );
        assert_eq!(json, expected);
    }
}
