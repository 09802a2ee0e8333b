//! Limits: the interface's numbers as `linux.resources`.

use crate::api::LinuxContainerResources;
use crate::error::{Result, invalid};
use serde_json::{Map, Value, json};

/// The least memory limit that is taken, in bytes: with less not even a first process can run.
const LEAST_MEMORY: i64 = 6 << 20;

/// `linux.resources`, with what is set; zero and empty are not set.
///
/// `has_swap` tells whether the kernel accounts for swap: then memory that may not be swapped is what a limit without a
/// word about swap means.
///
/// # Errors
/// `Invalid` with the field's name, below `at`.
pub fn resources(wanted: &LinuxContainerResources, has_swap: bool, at: &str) -> Result<Value> {
    check(wanted, at)?;
    let mut all = Map::new();
    let mut cpu = Map::new();
    let mut set = |key: &str, value: i64| {
        if value != 0 {
            cpu.insert(key.to_owned(), json!(value));
        }
    };
    set("shares", wanted.cpu_shares);
    set("quota", wanted.cpu_quota);
    set("period", wanted.cpu_period);
    for (key, list) in [("cpus", &wanted.cpuset_cpus), ("mems", &wanted.cpuset_mems)] {
        if !list.is_empty() {
            cpu.insert(key.to_owned(), json!(list));
        }
    }
    if !cpu.is_empty() {
        all.insert("cpu".to_owned(), Value::Object(cpu));
    }
    let limit = wanted.memory_limit_in_bytes;
    let mut memory = Map::new();
    if limit != 0 {
        memory.insert("limit".to_owned(), json!(limit));
    }
    let swap = match wanted.memory_swap_limit_in_bytes {
        0 => limit,
        swap => swap,
    };
    if swap != 0 && has_swap {
        memory.insert("swap".to_owned(), json!(swap));
    }
    if !memory.is_empty() {
        all.insert("memory".to_owned(), Value::Object(memory));
    }
    if !wanted.hugepage_limits.is_empty() {
        let limits = wanted.hugepage_limits.iter();
        let limits = limits.map(|l| json!({"pageSize": l.page_size, "limit": l.limit}));
        all.insert("hugepageLimits".to_owned(), limits.collect());
    }
    if !wanted.unified.is_empty() {
        all.insert("unified".to_owned(), json!(wanted.unified));
    }
    Ok(Value::Object(all))
}

fn check(wanted: &LinuxContainerResources, at: &str) -> Result<()> {
    let wrong = |field: &str, text: String| Err(invalid(format!("{at}.{field}"), text));
    let period = wanted.cpu_period;
    if period != 0 && !(1000..=1_000_000).contains(&period) {
        return wrong(
            "cpu_period",
            format!("{period} is not between 1000 and 1000000"),
        );
    }
    let quota = wanted.cpu_quota;
    if quota != 0 && quota != -1 && quota < 1000 {
        return wrong(
            "cpu_quota",
            format!("{quota} is neither -1 nor 1000 or more"),
        );
    }
    if wanted.cpu_shares < 0 {
        return wrong("cpu_shares", format!("{} is below zero", wanted.cpu_shares));
    }
    let memory = wanted.memory_limit_in_bytes;
    if memory != 0 && memory != -1 && memory < LEAST_MEMORY {
        return wrong(
            "memory_limit_in_bytes",
            format!("{memory} is less than {LEAST_MEMORY}"),
        );
    }
    let swap = wanted.memory_swap_limit_in_bytes;
    if swap < -1 || (swap > 0 && memory > 0 && swap < memory) {
        let text = format!("{swap} is less than the limit of memory, which it includes");
        return wrong("memory_swap_limit_in_bytes", text);
    }
    let score = wanted.oom_score_adj;
    if !(-1000..=1000).contains(&score) {
        return wrong(
            "oom_score_adj",
            format!("{score} is not between -1000 and 1000"),
        );
    }
    for (field, list) in [
        ("cpuset_cpus", &wanted.cpuset_cpus),
        ("cpuset_mems", &wanted.cpuset_mems),
    ] {
        if !list.is_empty() && !is_list(list) {
            return wrong(field, format!("{list:?} is not a list such as 0-2,4"));
        }
    }
    for (index, limit) in wanted.hugepage_limits.iter().enumerate() {
        let size = &limit.page_size;
        let unit = size.trim_start_matches(|c: char| c.is_ascii_digit());
        if unit.len() == size.len() || !["KB", "MB", "GB"].contains(&unit) {
            let field = format!("hugepage_limits[{index}].page_size");
            return wrong(&field, format!("{size:?} is not a size such as 2MB"));
        }
    }
    for key in wanted.unified.keys() {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if !key.contains('.') || !key.bytes().all(is_name) {
            return wrong("unified", format!("{key:?} is not a file of a cgroup"));
        }
    }
    Ok(())
}

/// Whether it is a list as in cpuset(7).
fn is_list(text: &str) -> bool {
    text.split(',').all(|range| {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        match (from.parse::<u32>(), to.parse::<u32>()) {
            (Ok(from), Ok(to)) => from <= to,
            _ => false,
        }
    })
}

/// What was asked last where the new request does not say.
#[must_use]
pub fn merged(
    old: &LinuxContainerResources,
    new: &LinuxContainerResources,
) -> LinuxContainerResources {
    let number = |new: i64, old: i64| if new == 0 { old } else { new };
    let text = |new: &String, old: &String| {
        if new.is_empty() {
            old.clone()
        } else {
            new.clone()
        }
    };
    let mut unified = old.unified.clone();
    unified.extend(new.unified.clone());
    LinuxContainerResources {
        cpu_period: number(new.cpu_period, old.cpu_period),
        cpu_quota: number(new.cpu_quota, old.cpu_quota),
        cpu_shares: number(new.cpu_shares, old.cpu_shares),
        memory_limit_in_bytes: number(new.memory_limit_in_bytes, old.memory_limit_in_bytes),
        // The score of a process is set at its start.
        oom_score_adj: old.oom_score_adj,
        cpuset_cpus: text(&new.cpuset_cpus, &old.cpuset_cpus),
        cpuset_mems: text(&new.cpuset_mems, &old.cpuset_mems),
        hugepage_limits: if new.hugepage_limits.is_empty() {
            old.hugepage_limits.clone()
        } else {
            new.hugepage_limits.clone()
        },
        unified,
        memory_swap_limit_in_bytes: number(
            new.memory_swap_limit_in_bytes,
            old.memory_swap_limit_in_bytes,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::HugepageLimit;
    use std::collections::HashMap;

    type Change = fn(&mut LinuxContainerResources);

    fn with(change: Change) -> LinuxContainerResources {
        let mut wanted = LinuxContainerResources::default();
        change(&mut wanted);
        wanted
    }

    #[test]
    fn what_is_set_is_written() {
        let table: [(Change, bool, Value); 8] = [
            (|_| {}, true, json!({})),
            (
                |r| {
                    r.cpu_shares = 512;
                    r.cpu_quota = 50_000;
                    r.cpu_period = 100_000;
                    r.cpuset_cpus = "0-1".into();
                },
                true,
                json!({"cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0-1"}}),
            ),
            (|r| r.cpu_quota = -1, true, json!({"cpu": {"quota": -1}})),
            (
                |r| r.memory_limit_in_bytes = 64 << 20,
                true,
                json!({"memory": {"limit": 64 << 20, "swap": 64 << 20}}),
            ),
            (
                |r| r.memory_limit_in_bytes = 64 << 20,
                false,
                json!({"memory": {"limit": 64 << 20}}),
            ),
            (
                |r| {
                    r.memory_limit_in_bytes = 64 << 20;
                    r.memory_swap_limit_in_bytes = 80 << 20;
                },
                true,
                json!({"memory": {"limit": 64 << 20, "swap": 80 << 20}}),
            ),
            (
                |r| {
                    r.hugepage_limits = vec![HugepageLimit {
                        page_size: "2MB".into(),
                        limit: 4 << 20,
                    }];
                },
                true,
                json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]}),
            ),
            (
                |r| r.unified = HashMap::from([("memory.high".into(), "1M".into())]),
                true,
                json!({"unified": {"memory.high": "1M"}}),
            ),
        ];
        for (change, has_swap, expected) in table {
            let wanted = with(change);
            assert_eq!(resources(&wanted, has_swap, "r").unwrap(), expected);
        }
    }

    #[test]
    fn numbers_out_of_bounds_are_named() {
        let table: [(Change, &str); 12] = [
            (|r| r.cpu_period = 999, "r.cpu_period: 999"),
            (|r| r.cpu_quota = -2, "r.cpu_quota: -2"),
            (|r| r.cpu_quota = 10, "r.cpu_quota: 10"),
            (|r| r.cpu_shares = -1, "r.cpu_shares: -1"),
            (
                |r| r.memory_limit_in_bytes = 5,
                "r.memory_limit_in_bytes: 5",
            ),
            (
                |r| r.memory_swap_limit_in_bytes = -2,
                "r.memory_swap_limit_in_bytes",
            ),
            (
                |r| {
                    r.memory_limit_in_bytes = 64 << 20;
                    r.memory_swap_limit_in_bytes = 8 << 20;
                },
                "r.memory_swap_limit_in_bytes",
            ),
            (|r| r.oom_score_adj = 1001, "r.oom_score_adj: 1001"),
            (|r| r.cpuset_cpus = "2-1".into(), "r.cpuset_cpus: \"2-1\""),
            (|r| r.cpuset_mems = "x".into(), "r.cpuset_mems: \"x\""),
            (
                |r| r.hugepage_limits = vec![HugepageLimit::default()],
                "r.hugepage_limits[0].page_size",
            ),
            (
                |r| r.unified = HashMap::from([("../x.y".into(), String::new())]),
                "r.unified: \"../x.y\"",
            ),
        ];
        for (change, words) in table {
            let error = resources(&with(change), true, "r").unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
        }
    }

    #[test]
    fn an_update_keeps_what_it_does_not_name() {
        let old = with(|r| {
            r.cpu_shares = 2;
            r.memory_limit_in_bytes = 64 << 20;
            r.oom_score_adj = 5;
        });
        let new = with(|r| {
            r.cpu_shares = 4;
            r.cpuset_cpus = "0".into();
        });
        let merged = merged(&old, &new);
        assert_eq!(merged.cpu_shares, 4);
        assert_eq!(merged.memory_limit_in_bytes, 64 << 20);
        assert_eq!(merged.cpuset_cpus, "0");
        assert_eq!(merged.oom_score_adj, 5);
    }
}
