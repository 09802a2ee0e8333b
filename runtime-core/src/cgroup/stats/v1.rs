//! What the files of version 1 say.

use std::fs;
use std::path::Path;

use super::{
    BlockIo, BlockIoEntry, Cpu, CpuSet, CpuUsage, Hugetlb, Memory, Pids, Stats, Throttling, Usage,
    list, number, page_sizes, pairs,
};

/// Nanoseconds of a clock tick of user space (`USER_HZ` is 100 wherever Linux runs).
const TICK: u64 = 10_000_000;

/// Reads everything; `directory` tells where a controller's files are.
pub(super) fn read<'a>(directory: &dyn Fn(&str) -> Option<&'a Path>) -> Stats {
    let mut stats = Stats::default();
    if let Some(cpuacct) = directory("cpuacct") {
        stats.cpu = cpu(cpuacct);
    }
    if let Some(cpu) = directory("cpu") {
        let found = pairs(cpu, "cpu.stat");
        let found = |key: &str| found.get(key).copied().unwrap_or_default();
        stats.cpu.throttling = Throttling {
            periods: found("nr_periods"),
            throttled_periods: found("nr_throttled"),
            throttled_time: found("throttled_time"),
        };
    }
    if let Some(cpuset) = directory("cpuset") {
        stats.cpuset = cpu_set(cpuset);
    }
    if let Some(directory) = directory("memory") {
        stats.memory = memory(directory);
    }
    if let Some(pids) = directory("pids") {
        stats.pids = Pids {
            current: number(pids, "pids.current").unwrap_or_default(),
            limit: number(pids, "pids.max")
                .filter(|&limit| limit != u64::MAX)
                .unwrap_or_default(),
        };
    }
    if let Some(blkio) = directory("blkio") {
        stats.blkio = block_io(blkio);
    }
    if let Some(hugetlb) = directory("hugetlb") {
        stats.hugetlb = page_sizes()
            .into_iter()
            .map(|size| (size.clone(), huge_pages(hugetlb, &size)))
            .collect();
    }
    stats
}

fn cpu(directory: &Path) -> Cpu {
    let numbers = |file: &str| -> Vec<u64> {
        let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
        text.split_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect()
    };
    // `cpu user system` by line, behind a title.
    let table = fs::read_to_string(directory.join("cpuacct.usage_all")).unwrap_or_default();
    let column = |index: usize| -> Vec<u64> {
        table
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().nth(index)?.parse().ok())
            .collect()
    };
    let ticks = pairs(directory, "cpuacct.stat");
    let time = |key: &str| ticks.get(key).copied().unwrap_or_default() * TICK;
    Cpu {
        usage: CpuUsage {
            total: number(directory, "cpuacct.usage").unwrap_or_default(),
            percpu: numbers("cpuacct.usage_percpu"),
            percpu_kernel: column(2),
            percpu_user: column(1),
            kernel: time("system"),
            user: time("user"),
        },
        ..Cpu::default()
    }
}

fn cpu_set(directory: &Path) -> CpuSet {
    let flag = |name: &str| number(directory, &format!("cpuset.{name}")).unwrap_or_default();
    let level = fs::read_to_string(directory.join("cpuset.sched_relax_domain_level"));
    CpuSet {
        cpus: list(directory, "cpuset.cpus"),
        cpu_exclusive: flag("cpu_exclusive"),
        mems: list(directory, "cpuset.mems"),
        mem_hardwall: flag("mem_hardwall"),
        mem_exclusive: flag("mem_exclusive"),
        memory_migrate: flag("memory_migrate"),
        memory_spread_page: flag("memory_spread_page"),
        memory_spread_slab: flag("memory_spread_slab"),
        memory_pressure: flag("memory_pressure"),
        sched_load_balance: flag("sched_load_balance"),
        sched_relax_domain_level: level
            .ok()
            .and_then(|level| level.trim().parse().ok())
            .unwrap_or_default(),
    }
}

fn memory(directory: &Path) -> Memory {
    let usage = |kind: &str| {
        let file = |name: &str| number(directory, &format!("memory.{kind}{name}"));
        Usage {
            limit: file("limit_in_bytes").unwrap_or_default(),
            usage: file("usage_in_bytes").unwrap_or_default(),
            max: file("max_usage_in_bytes").unwrap_or_default(),
            failcnt: file("failcnt").unwrap_or_default(),
        }
    };
    let raw = pairs(directory, "memory.stat");
    Memory {
        cache: raw.get("cache").copied().unwrap_or_default(),
        usage: usage(""),
        swap: usage("memsw."),
        kernel: usage("kmem."),
        kernel_tcp: usage("kmem.tcp."),
        raw,
        psi: None,
    }
}

/// BFQ counts by itself where it schedules; else what the throttle sees is known.
fn block_io(directory: &Path) -> BlockIo {
    let entries = |name: &str| {
        let files = [format!("blkio.bfq.{name}"), format!("blkio.{name}")];
        let found = files
            .iter()
            .find_map(|file| fs::read_to_string(directory.join(file)).ok());
        parse_entries(&found.unwrap_or_default())
    };
    let throttled = |name: &str| {
        let found = entries(name);
        if found.is_empty() {
            let file = directory.join(format!("blkio.throttle.{name}"));
            parse_entries(&fs::read_to_string(file).unwrap_or_default())
        } else {
            found
        }
    };
    BlockIo {
        io_service_bytes_recursive: throttled("io_service_bytes_recursive"),
        io_serviced_recursive: throttled("io_serviced_recursive"),
        io_queue_recursive: entries("io_queued_recursive"),
        io_service_time_recursive: entries("io_service_time_recursive"),
        io_wait_time_recursive: entries("io_wait_time_recursive"),
        io_merged_recursive: entries("io_merged_recursive"),
        io_time_recursive: entries("time_recursive"),
        sectors_recursive: entries("sectors_recursive"),
        psi: None,
    }
}

/// Lines `8:0 Read 4096` or `8:0 4096`; the sum at the end has no device.
fn parse_entries(text: &str) -> Vec<BlockIoEntry> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let (op, value) = match (words.next()?, words.next()) {
            (op, Some(value)) => (op, value),
            (value, None) => ("", value),
        };
        Some(BlockIoEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op: op.to_owned(),
            value: value.parse().ok()?,
        })
    };
    text.lines().filter_map(entry).collect()
}

fn huge_pages(directory: &Path, size: &str) -> Hugetlb {
    let file = |name: &str| number(directory, &format!("hugetlb.{size}.{name}"));
    Hugetlb {
        usage: file("usage_in_bytes").unwrap_or_default(),
        max: file("max_usage_in_bytes").unwrap_or_default(),
        failcnt: file("failcnt").unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let found = parse_entries("8:0 Read 4096\n8:16 12\nTotal 4096\n");
        let found: Vec<_> = found
            .iter()
            .map(|entry| (entry.minor, entry.op.as_str(), entry.value))
            .collect();
        assert_eq!(found, [(0, "Read", 4096), (16, "", 12)]);
    }
}
