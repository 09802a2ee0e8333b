//! The flags of `update`, one for each limit.

use super::super::Takes::Value;
use super::{Flag, flag};

pub(super) const FLAGS: &[Flag] = &[
    flag(
        "resources",
        Some("r"),
        Value,
        "path to the file containing the resources to update, or '-' to read them from the standard input: \
     linux.resources of a configuration; other flags are not looked at then",
    ),
    flag(
        "blkio-weight",
        None,
        Value,
        "specifies per cgroup weight, range is from 10 to 1000",
    ),
    flag(
        "cpu-period",
        None,
        Value,
        "CPU CFS period to be used for hardcapping (in usecs). 0 to use system default",
    ),
    flag(
        "cpu-quota",
        None,
        Value,
        "CPU CFS hardcap limit (in usecs). Allowed cpu time in a given period",
    ),
    flag(
        "cpu-burst",
        None,
        Value,
        "CPU CFS hardcap burst limit (in usecs). Allowed accumulated cpu time additionally for burst a given period",
    ),
    flag(
        "cpu-share",
        None,
        Value,
        "CPU shares (relative weight vs. other containers)",
    ),
    flag(
        "cpu-rt-period",
        None,
        Value,
        "CPU realtime period to be used for hardcapping (in usecs). 0 to use system default",
    ),
    flag(
        "cpu-rt-runtime",
        None,
        Value,
        "CPU realtime hardcap limit (in usecs). Allowed cpu time in a given period",
    ),
    flag("cpuset-cpus", None, Value, "CPU(s) to use"),
    flag("cpuset-mems", None, Value, "memory node(s) to use"),
    flag(
        "cpu-idle",
        None,
        Value,
        "set cgroup SCHED_IDLE or not, 0: default behavior, 1: SCHED_IDLE",
    ),
    flag(
        "kernel-memory",
        None,
        Value,
        "taken from callers of old and without effect",
    ),
    flag(
        "kernel-memory-tcp",
        None,
        Value,
        "taken from callers of old and without effect",
    ),
    flag("memory", None, Value, "memory limit (in bytes)"),
    flag(
        "memory-reservation",
        None,
        Value,
        "memory reservation or soft limit (in bytes)",
    ),
    flag(
        "memory-swap",
        None,
        Value,
        "total memory usage (memory + swap); set '-1' to enable unlimited swap",
    ),
    flag(
        "pids-limit",
        None,
        Value,
        "maximum number of pids allowed in the container; '-1' for no limit",
    ),
    flag(
        "l3-cache-schema",
        None,
        Value,
        "Intel RDT/CAT L3 cache schema",
    ),
    flag(
        "mem-bw-schema",
        None,
        Value,
        "Intel RDT/MBA memory bandwidth schema",
    ),
];
