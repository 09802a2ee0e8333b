//! What the files of version 2 say.

use std::fs;
use std::path::Path;

use super::{
    BlockIo, BlockIoEntry, Cpu, CpuSet, CpuUsage, Hugetlb, Memory, Pids, Pressure, Stall, Stats,
    Throttling, Usage, list, number, page_sizes, pairs,
};

/// Nanoseconds of a microsecond.
const MICROSECOND: u64 = 1000;

/// Reads everything in `directory`.
pub(super) fn read(directory: &Path) -> Stats {
    let times = pairs(directory, "cpu.stat");
    let time = |key: &str| times.get(key).copied().unwrap_or_default();
    Stats {
        cpu: Cpu {
            usage: CpuUsage {
                total: time("usage_usec") * MICROSECOND,
                kernel: time("system_usec") * MICROSECOND,
                user: time("user_usec") * MICROSECOND,
                ..CpuUsage::default()
            },
            throttling: Throttling {
                periods: time("nr_periods"),
                throttled_periods: time("nr_throttled"),
                throttled_time: time("throttled_usec") * MICROSECOND,
            },
            psi: pressure(directory, "cpu.pressure"),
        },
        cpuset: CpuSet {
            cpus: list(directory, "cpuset.cpus"),
            mems: list(directory, "cpuset.mems"),
            ..CpuSet::default()
        },
        memory: memory(directory),
        pids: Pids {
            current: number(directory, "pids.current").unwrap_or_default(),
            limit: number(directory, "pids.max")
                .filter(|&limit| limit != u64::MAX)
                .unwrap_or_default(),
        },
        blkio: block_io(directory),
        hugetlb: page_sizes()
            .into_iter()
            .filter_map(|size| Some((size.clone(), huge_pages(directory, &size)?)))
            .collect(),
        ..Stats::default()
    }
}

fn memory(directory: &Path) -> Memory {
    let usage = |kind: &str| {
        let file = |name: &str| number(directory, &format!("memory.{kind}{name}"));
        let events = pairs(directory, &format!("memory.{kind}events"));
        Usage {
            limit: file("max").unwrap_or_default(),
            usage: file("current").unwrap_or_default(),
            max: file("peak").unwrap_or_default(),
            failcnt: events.get("max").copied().unwrap_or_default(),
        }
    };
    let (memory, mut swap) = (usage(""), usage("swap."));
    // Callers know the two together, as version 1 counts them.
    swap.usage += memory.usage;
    swap.limit = swap.limit.saturating_add(memory.limit);
    let raw = pairs(directory, "memory.stat");
    Memory {
        cache: raw.get("file").copied().unwrap_or_default(),
        usage: memory,
        swap,
        psi: pressure(directory, "memory.pressure"),
        raw,
        ..Memory::default()
    }
}

/// Lines `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
fn block_io(directory: &Path) -> BlockIo {
    let text = fs::read_to_string(directory.join("io.stat")).unwrap_or_default();
    let mut found = parse_io(&text);
    found.psi = pressure(directory, "io.pressure");
    found
}

fn parse_io(text: &str) -> BlockIo {
    let mut found = BlockIo::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else {
            continue;
        };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else {
            continue;
        };
        for word in words {
            let Some((key, value)) = word.split_once('=') else {
                continue;
            };
            let (list, op) = match key {
                "rbytes" => (&mut found.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut found.io_service_bytes_recursive, "Write"),
                "dbytes" => (&mut found.io_service_bytes_recursive, "Discard"),
                "rios" => (&mut found.io_serviced_recursive, "Read"),
                "wios" => (&mut found.io_serviced_recursive, "Write"),
                "dios" => (&mut found.io_serviced_recursive, "Discard"),
                _ => continue,
            };
            list.push(BlockIoEntry {
                major,
                minor,
                op: op.to_owned(),
                value: value.parse().unwrap_or_default(),
            });
        }
    }
    found
}

fn huge_pages(directory: &Path, size: &str) -> Option<Hugetlb> {
    let file = |name: &str| format!("hugetlb.{size}.{name}");
    Some(Hugetlb {
        usage: number(directory, &file("current"))?,
        max: 0,
        failcnt: pairs(directory, &file("events"))
            .get("max")
            .copied()
            .unwrap_or_default(),
    })
}

/// Lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and `full …`. None where the kernel does not measure it.
fn pressure(directory: &Path, file: &str) -> Option<Pressure> {
    parse_pressure(&fs::read_to_string(directory.join(file)).ok()?)
}

fn parse_pressure(text: &str) -> Option<Pressure> {
    let mut pressure = Pressure::default();
    let mut lines = 0;
    for line in text.lines() {
        let (kind, rest) = line.split_once(' ')?;
        let value = |key: &str| {
            rest.split(' ')
                .find_map(|word| word.split_once('=').filter(|(name, _)| *name == key))
                .map(|(_, value)| value)
        };
        let stall = Stall {
            avg10: value("avg10")?.parse().ok()?,
            avg60: value("avg60")?.parse().ok()?,
            avg300: value("avg300")?.parse().ok()?,
            total: value("total")?.parse().ok()?,
        };
        match kind {
            "some" => pressure.some = stall,
            "full" => pressure.full = stall,
            _ => {}
        }
        lines += 1;
    }
    (lines > 0).then_some(pressure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io() {
        let found = parse_io("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n253:1 \nx\n");
        let values = |list: &[BlockIoEntry]| -> Vec<(String, u64)> {
            list.iter()
                .map(|entry| (entry.op.clone(), entry.value))
                .collect()
        };
        let expected = |values: [u64; 3]| {
            ["Read", "Write", "Discard"]
                .map(str::to_owned)
                .into_iter()
                .zip(values)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            values(&found.io_service_bytes_recursive),
            expected([1, 2, 5])
        );
        assert_eq!(values(&found.io_serviced_recursive), expected([3, 4, 6]));
    }

    #[test]
    fn pressures() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n";
        let found = parse_pressure(text).unwrap();
        assert_eq!(
            (found.some.avg10, found.some.total, found.full.total),
            (1.5, 77, 3)
        );
        assert!(parse_pressure("").is_none());
    }
}
