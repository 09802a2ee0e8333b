//! Resources in the files of cgroup version 1.

use std::fs;
use std::path::Path;

use super::directory::write;
use super::setting::{
    Missing, POINTER, Setting, Settings, check_page_size, device_number, invalid, throttles,
};
use crate::error::{Call, Error, Result};
use crate::spec::{BlockIo, Cpu, HugepageLimit, Memory, Network, Resources};

/// What `resources` asks for, without devices, in the order of writing.
pub(super) fn settings(resources: &Resources) -> Result<Vec<Setting>> {
    if resources
        .unified
        .as_ref()
        .is_some_and(|unified| !unified.is_empty())
    {
        return Err(Error::unsupported(format!(
            "{POINTER}/unified: this host has no cgroup v2 controllers"
        )));
    }
    let mut all = Settings::default();
    if let Some(memory) = &resources.memory {
        add_memory(&mut all, memory)?;
    }
    if let Some(cpu) = &resources.cpu {
        add_cpu(&mut all, cpu)?;
    }
    if let Some(pids) = &resources.pids {
        all.pids(pids.limit);
    }
    if let Some(block_io) = &resources.block_io {
        add_block_io(&mut all, block_io)?;
    }
    add_huge_pages(
        &mut all,
        resources.hugepage_limits.as_deref().unwrap_or_default(),
    )?;
    if let Some(network) = &resources.network {
        add_network(&mut all, network);
    }
    if let Some(devices) = &resources.rdma {
        all.rdma(devices);
    }
    Ok(all.0)
}

fn add_memory(all: &mut Settings, memory: &Memory) -> Result<()> {
    if let (Some(limit), Some(swap)) = (memory.limit, memory.swap)
        && swap >= 0
        && (limit < 0 || swap < limit)
    {
        let text = format!(
            "{swap} is less than the memory limit {limit}: it counts memory and swap together"
        );
        return Err(invalid("memory/swap", &text));
    }
    if let Some(swappiness @ 101..) = memory.swappiness {
        let text = format!("{swappiness} is not from 0 to 100");
        return Err(invalid("memory/swappiness", &text));
    }
    // The kernel keeps memory at or below memory and swap together: a new cgroup has no limits, so the smaller
    // comes first. Zero has always meant that nothing is asked for.
    let values = [
        (memory.limit, "memory.limit_in_bytes", "memory/limit"),
        (memory.swap, "memory.memsw.limit_in_bytes", "memory/swap"),
        (
            memory.reservation,
            "memory.soft_limit_in_bytes",
            "memory/reservation",
        ),
        (
            memory.kernel_tcp,
            "memory.kmem.tcp.limit_in_bytes",
            "memory/kernelTCP",
        ),
    ];
    for (value, file, element) in values {
        if let Some(value) = value.filter(|&value| value != 0) {
            all.add("memory", file, value, element);
        }
    }
    // Without a limit of memory one of both makes no sense.
    if memory.limit.is_some_and(|limit| limit < 0) && memory.swap.unwrap_or(0) == 0 {
        let both = ("memory.memsw.limit_in_bytes", "-1".to_owned());
        all.add_or("memory", both, "memory/limit", Missing::Ignore);
    }
    if let Some(swappiness) = memory.swappiness {
        all.add(
            "memory",
            "memory.swappiness",
            swappiness,
            "memory/swappiness",
        );
    }
    if memory.disable_oom_killer == Some(true) {
        all.add("memory", "memory.oom_control", 1, "memory/disableOOMKiller");
    }
    Ok(())
}

fn add_cpu(all: &mut Settings, cpu: &Cpu) -> Result<()> {
    if let Some(idle) = cpu.idle
        && !matches!(idle, 0 | 1)
    {
        return Err(invalid("cpu/idle", &format!("{idle} is neither 0 nor 1")));
    }
    if let Some(shares) = cpu.shares.filter(|&shares| shares != 0) {
        all.add("cpu", "cpu.shares", shares, "cpu/shares");
    }
    let period = cpu.period.filter(|&period| period != 0);
    let quota = cpu.quota.filter(|&quota| quota != 0);
    if let Some(period) = period {
        all.add("cpu", "cpu.cfs_period_us", period, "cpu/period");
    }
    if let Some(quota) = quota {
        all.add("cpu", "cpu.cfs_quota_us", quota, "cpu/quota");
    }
    if let Some(burst) = cpu.burst {
        all.add("cpu", "cpu.cfs_burst_us", burst, "cpu/burst");
    }
    if let Some(period) = cpu.realtime_period.filter(|&period| period != 0) {
        all.add("cpu", "cpu.rt_period_us", period, "cpu/realtimePeriod");
    }
    if let Some(runtime) = cpu.realtime_runtime.filter(|&runtime| runtime != 0) {
        all.add("cpu", "cpu.rt_runtime_us", runtime, "cpu/realtimeRuntime");
    }
    if let Some(idle) = cpu.idle {
        all.add("cpu", "cpu.idle", idle, "cpu/idle");
    }
    all.cpuset(cpu);
    Ok(())
}

fn add_block_io(all: &mut Settings, block_io: &BlockIo) -> Result<()> {
    if let Some(weight) = block_io.weight.filter(|&weight| weight != 0) {
        add_weight(all, "blkio.weight", weight.to_string(), "blockIO/weight");
    }
    if let Some(weight) = block_io.leaf_weight.filter(|&weight| weight != 0) {
        all.add("blkio", "blkio.leaf_weight", weight, "blockIO/leafWeight");
    }
    for (index, device) in block_io.weight_device.iter().flatten().enumerate() {
        let element = format!("blockIO/weightDevice/{index}");
        let number = device_number(device.major, device.minor, &element)?;
        if let Some(weight) = device.weight {
            add_weight(
                all,
                "blkio.weight_device",
                format!("{number} {weight}"),
                &element,
            );
        }
        if let Some(weight) = device.leaf_weight {
            all.add(
                "blkio",
                "blkio.leaf_weight_device",
                format!("{number} {weight}"),
                &element,
            );
        }
    }
    for throttle in throttles(block_io)? {
        let file = format!("blkio.throttle.{}_device", throttle.kind.v1_name());
        let value = format!("{} {}", throttle.device, throttle.rate);
        all.add("blkio", &file, value, &throttle.element);
    }
    Ok(())
}

fn add_huge_pages(all: &mut Settings, limits: &[HugepageLimit]) -> Result<()> {
    for (index, limit) in limits.iter().enumerate() {
        let element = format!("hugepageLimits/{index}");
        let size = &limit.page_size;
        check_page_size(size, &element)?;
        let file = |kind: &str| format!("hugetlb.{size}.{kind}limit_in_bytes");
        all.add("hugetlb", &file(""), limit.limit, &element);
        // What is reserved counts too, where the kernel counts it (5.7).
        all.add_or(
            "hugetlb",
            (&file("rsvd."), limit.limit.to_string()),
            &element,
            Missing::Ignore,
        );
    }
    Ok(())
}

/// The scheduler that honours weights today, BFQ, has files of its own.
fn add_weight(all: &mut Settings, file: &str, value: String, element: &str) {
    let bfq = file.replace("blkio.", "blkio.bfq.");
    let other = Missing::Instead(file.to_owned(), value.clone());
    all.add_or("blkio", (&bfq, value), element, other);
}

fn add_network(all: &mut Settings, network: &Network) {
    if let Some(class) = network.class_id.filter(|&class| class != 0) {
        all.add("net_cls", "net_cls.classid", class, "network/classID");
    }
    for (index, interface) in network.priorities.iter().flatten().enumerate() {
        let value = format!("{} {}", interface.name, interface.priority);
        all.add(
            "net_prio",
            "net_prio.ifpriomap",
            value,
            &format!("network/priorities/{index}"),
        );
    }
}

/// Gives a new cgroup the CPUs and memory nodes of the one above: without them no process may enter.
pub(super) fn inherit_cpuset(directory: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = directory.join(file);
        let read = |path: &Path| fs::read_to_string(path).call(|| format!("read({path:?})"));
        if !read(&own)?.trim().is_empty() {
            continue;
        }
        let Some(parent) = directory.parent() else {
            continue;
        };
        if read(&parent.join(file))?.trim().is_empty() {
            // Made a moment ago by someone who has not come to this yet.
            inherit_cpuset(parent)?;
        }
        write(&own, read(&parent.join(file))?.trim())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(json: &str) -> Result<Vec<(String, String)>> {
        let resources: Resources = serde_json::from_str(json).unwrap();
        Ok(settings(&resources)?
            .into_iter()
            .map(|setting| (setting.file, setting.value))
            .collect())
    }

    #[test]
    fn limits() {
        let cases: [(&str, &[(&str, &str)]); 8] = [
            (
                r#"{"memory":{"limit":1000,"swap":2000}}"#,
                &[
                    ("memory.limit_in_bytes", "1000"),
                    ("memory.memsw.limit_in_bytes", "2000"),
                ],
            ),
            (
                r#"{"memory":{"limit":-1,"swap":-1}}"#,
                &[
                    ("memory.limit_in_bytes", "-1"),
                    ("memory.memsw.limit_in_bytes", "-1"),
                ],
            ),
            (
                r#"{"memory":{"limit":-1}}"#,
                &[
                    ("memory.limit_in_bytes", "-1"),
                    ("memory.memsw.limit_in_bytes", "-1"),
                ],
            ),
            (
                r#"{"memory":{"limit":0,"swappiness":0}}"#,
                &[("memory.swappiness", "0")],
            ),
            (
                r#"{"cpu":{"shares":2,"quota":1000,"period":5000,"cpus":"0-1"}}"#,
                &[
                    ("cpu.shares", "2"),
                    ("cpu.cfs_period_us", "5000"),
                    ("cpu.cfs_quota_us", "1000"),
                    ("cpuset.cpus", "0-1"),
                ],
            ),
            (r#"{"pids":{"limit":0}}"#, &[("pids.max", "1")]),
            (r#"{"pids":{"limit":-1}}"#, &[("pids.max", "max")]),
            (
                r#"{"blockIO":{"throttleReadIOPSDevice":[{"major":8,"minor":1,"rate":7}]},"hugepageLimits":[{"pageSize":"2MB","limit":4096}]}"#,
                &[
                    ("blkio.throttle.read_iops_device", "8:1 7"),
                    ("hugetlb.2MB.limit_in_bytes", "4096"),
                    ("hugetlb.2MB.rsvd.limit_in_bytes", "4096"),
                ],
            ),
        ];
        for (json, expected) in cases {
            let found = values(json).unwrap();
            let found: Vec<_> = found
                .iter()
                .map(|(file, value)| (file.as_str(), value.as_str()))
                .collect();
            assert_eq!(found, expected, "{json}");
        }
    }

    #[test]
    fn refused() {
        let cases = [
            (
                r#"{"memory":{"limit":1000,"swap":10}}"#,
                "/linux/resources/memory/swap",
            ),
            (
                r#"{"memory":{"swappiness":101}}"#,
                "/linux/resources/memory/swappiness",
            ),
            (r#"{"cpu":{"idle":2}}"#, "/linux/resources/cpu/idle"),
            (
                r#"{"hugepageLimits":[{"pageSize":"../x","limit":1}]}"#,
                "/linux/resources/hugepageLimits/0/pageSize",
            ),
        ];
        for (json, pointer) in cases {
            assert_eq!(values(json).unwrap_err().pointer(), Some(pointer), "{json}");
        }
    }
}
