//! Where and when processes run: names to the kernel's numbers, lists of CPUs and nodes to masks.

use crate::error::{Error, Result};
use crate::kernel::sched::Attributes;
use crate::spec::scheduling;

/// Most CPUs and nodes that a list may name; the kernel's own limit on every architecture.
const MOST: usize = 8192;

/// What a process gets besides time on the CPUs of its cpuset.
#[derive(Debug, Default)]
pub(crate) struct Scheduling {
    pub(crate) scheduler: Option<Attributes>,
    /// As ioprio_set(2) takes it.
    pub(crate) io_priority: Option<i32>,
    /// For `exec`.
    pub(crate) affinity: Affinity,
}

/// Masks of CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Affinity {
    /// Until the process is in its cgroup; the caller's where none is given.
    pub(crate) initial: Option<Vec<u64>>,
    /// From then on; all CPUs of the cgroup where none is given.
    pub(crate) last: Option<Vec<u64>>,
}

/// A NUMA policy as set_mempolicy(2) takes it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MemoryPolicy {
    pub(crate) mode: u32,
    pub(crate) nodes: Vec<u64>,
}

/// Policies of sched(7), with what they take beside the policy.
const POLICIES: [(&str, u32, Takes); 7] = [
    ("SCHED_OTHER", 0, Takes::Nice),
    ("SCHED_FIFO", 1, Takes::Priority),
    ("SCHED_RR", 2, Takes::Priority),
    ("SCHED_BATCH", 3, Takes::Nice),
    ("SCHED_ISO", 4, Takes::Nothing),
    ("SCHED_IDLE", 5, Takes::Nothing),
    ("SCHED_DEADLINE", 6, Takes::Times),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    Nice,
    Priority,
    Times,
}

const SCHEDULER_FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// Classes of ioprio_set(2).
const IO_CLASSES: [(&str, i32); 3] = [
    ("IOPRIO_CLASS_RT", 1),
    ("IOPRIO_CLASS_BE", 2),
    ("IOPRIO_CLASS_IDLE", 3),
];

/// Modes of set_mempolicy(2), and whether they take nodes.
const MODES: [(&str, u32, Nodes); 7] = [
    ("MPOL_DEFAULT", 0, Nodes::None),
    ("MPOL_PREFERRED", 1, Nodes::May),
    ("MPOL_BIND", 2, Nodes::Must),
    ("MPOL_INTERLEAVE", 3, Nodes::Must),
    ("MPOL_LOCAL", 4, Nodes::None),
    ("MPOL_PREFERRED_MANY", 5, Nodes::Must),
    ("MPOL_WEIGHTED_INTERLEAVE", 6, Nodes::Must),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Nodes {
    None,
    May,
    Must,
}

const MODE_FLAGS: [(&str, u32); 3] = [
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

/// Names of the modes of a memory policy, for `features`.
pub fn memory_modes() -> impl Iterator<Item = &'static str> {
    MODES.iter().map(|(name, ..)| *name)
}

/// Names of the flags of a memory policy, for `features`.
pub fn memory_flags() -> impl Iterator<Item = &'static str> {
    MODE_FLAGS.iter().map(|(name, _)| *name)
}

impl Scheduling {
    pub(super) fn compile(written: &crate::spec::Process, pointer: &str) -> Result<Self> {
        let scheduler = written.scheduler.as_ref();
        let priority = written.io_priority.as_ref();
        let affinity = written.exec_cpu_affinity.as_ref();
        Ok(Self {
            scheduler: scheduler
                .map(|written| attributes(written, &format!("{pointer}/scheduler")))
                .transpose()?,
            io_priority: priority
                .map(|written| io_priority(written, &format!("{pointer}/ioPriority")))
                .transpose()?,
            affinity: affinity
                .map(|written| Affinity::compile(written, &format!("{pointer}/execCPUAffinity")))
                .transpose()?
                .unwrap_or_default(),
        })
    }
}

fn attributes(written: &scheduling::Scheduler, pointer: &str) -> Result<Attributes> {
    let invalid =
        |name: &str, text: &str| Err(Error::invalid_spec(&format!("{pointer}/{name}"), text));
    let known = POLICIES.iter().find(|(name, ..)| *name == written.policy);
    let Some((name, policy, takes)) = known else {
        return invalid("policy", &format!("unknown policy {:?}", written.policy));
    };
    let nice = written.nice.unwrap_or(0);
    let priority = written.priority.unwrap_or(0);
    let [runtime, deadline, period] =
        [written.runtime, written.deadline, written.period].map(Option::unwrap_or_default);
    let times = [
        ("runtime", runtime),
        ("deadline", deadline),
        ("period", period),
    ];
    if nice != 0 && *takes != Takes::Nice {
        return invalid("nice", &format!("{name} has none"));
    }
    if !(-20..=19).contains(&nice) {
        return invalid("nice", &format!("{nice} is not from -20 to 19"));
    }
    if priority != 0 && *takes != Takes::Priority {
        return invalid("priority", &format!("{name} has none"));
    }
    if *takes == Takes::Priority && !(1..=99).contains(&priority) {
        return invalid("priority", &format!("{priority} is not from 1 to 99"));
    }
    if let Some((time, _)) = times.iter().find(|(_, value)| *value != 0)
        && *takes != Takes::Times
    {
        return invalid(time, &format!("{name} has none"));
    }
    Ok(Attributes {
        policy: *policy,
        flags: bits(written.flags.as_deref(), &SCHEDULER_FLAGS, pointer)?,
        nice,
        priority: priority.unsigned_abs(),
        runtime,
        deadline,
        period,
    })
}

fn io_priority(written: &scheduling::IoPriority, pointer: &str) -> Result<i32> {
    let class = IO_CLASSES.iter().find(|(name, _)| *name == written.class);
    let Some((_, class)) = class else {
        let text = format!("unknown class {:?}", written.class);
        return Err(Error::invalid_spec(&format!("{pointer}/class"), &text));
    };
    match i32::try_from(written.priority) {
        Ok(level @ 0..=7) => Ok(class << 13 | level),
        _ => Err(Error::invalid_spec(
            &format!("{pointer}/priority"),
            &format!("{} is not from 0 to 7", written.priority),
        )),
    }
}

impl Affinity {
    fn compile(written: &scheduling::CpuAffinity, pointer: &str) -> Result<Self> {
        let mask = |list: &Option<String>, name: &str| {
            let list = list.as_deref().filter(|list| !list.trim().is_empty());
            list.map(|list| mask(list, &format!("{pointer}/{name}")))
                .transpose()
        };
        Ok(Self {
            initial: mask(&written.initial, "initial")?,
            last: mask(&written.last, "final")?,
        })
    }
}

impl MemoryPolicy {
    pub(crate) fn compile(written: &scheduling::MemoryPolicy) -> Result<Self> {
        const RELATIVE_OR_STATIC: u32 = 3 << 14;
        let pointer = "/linux/memoryPolicy";
        let invalid =
            |name: &str, text: &str| Err(Error::invalid_spec(&format!("{pointer}/{name}"), text));
        let Some((name, mode, takes)) = MODES.iter().find(|(name, ..)| *name == written.mode)
        else {
            return invalid("mode", &format!("unknown mode {:?}", written.mode));
        };
        let list = written.nodes.as_deref().unwrap_or_default();
        let nodes = mask(list, &format!("{pointer}/nodes"))?;
        match takes {
            Nodes::Must if nodes.is_empty() => {
                return invalid("nodes", &format!("{name} needs some"));
            }
            Nodes::None if !nodes.is_empty() => {
                return invalid("nodes", &format!("{name} has none"));
            }
            _ => {}
        }
        let flags = bits(written.flags.as_deref(), &MODE_FLAGS, pointer)?;
        if flags & RELATIVE_OR_STATIC == RELATIVE_OR_STATIC {
            return invalid("flags", "nodes are either relative or static");
        }
        if flags != 0 && nodes.is_empty() {
            return invalid("flags", &format!("{name} without nodes has none"));
        }
        Ok(Self {
            mode: mode | flags,
            nodes,
        })
    }
}

fn bits<T>(written: Option<&[String]>, known: &[(&str, T)], pointer: &str) -> Result<T>
where
    T: Copy + Default + std::ops::BitOr<Output = T>,
{
    let mut bits = T::default();
    for (index, flag) in written.unwrap_or_default().iter().enumerate() {
        let Some((_, bit)) = known.iter().find(|(name, _)| name == flag) else {
            return Err(Error::invalid_spec(
                &format!("{pointer}/flags/{index}"),
                &format!("unknown flag {flag:?}"),
            ));
        };
        bits = bits | *bit;
    }
    Ok(bits)
}

/// A list such as `0-3,7` as a mask, no longer than it has to be.
fn mask(list: &str, pointer: &str) -> Result<Vec<u64>> {
    let wrong = |part: &str| {
        let text = format!("{part:?} is neither a number nor a range of numbers below {MOST}");
        Error::invalid_spec(pointer, &text)
    };
    let mut mask = Vec::new();
    for part in list
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse()
                .ok()
                .filter(|number: &usize| is_number && *number < MOST)
        };
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(wrong(part));
        };
        if first > last {
            return Err(wrong(part));
        }
        mask.resize(mask.len().max(last / 64 + 1), 0);
        for number in first..=last {
            mask[number / 64] |= 1 << (number % 64);
        }
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Process, process_from_json};

    fn process(json: &str) -> Process {
        process_from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn lists() {
        for (list, expected) in [
            ("", vec![]),
            ("0", vec![1]),
            ("0-3,7", vec![0x8f]),
            (" 1, 64 ,", vec![2, 1]),
            ("63-64", vec![1 << 63, 1]),
        ] {
            assert_eq!(mask(list, "").unwrap(), expected, "{list}");
        }
        for list in [
            "a",
            "-1",
            "3-1",
            "1-",
            "1-2-3",
            "8192",
            "0-99999999999999999999",
            "+1",
        ] {
            assert_eq!(
                mask(list, "/p").unwrap_err().pointer(),
                Some("/p"),
                "{list}"
            );
        }
    }

    #[test]
    fn schedulers() {
        let of = |json: &str| Scheduling::compile(&process(json), "/process");
        let json = r#"{"scheduler":{"policy":"SCHED_RR","priority":5,"flags":["SCHED_FLAG_RESET_ON_FORK"]}}"#;
        let attributes = of(json).unwrap().scheduler.unwrap();
        assert_eq!(
            (attributes.policy, attributes.priority, attributes.flags),
            (2, 5, 1)
        );
        let json =
            r#"{"scheduler":{"policy":"SCHED_DEADLINE","runtime":1,"deadline":2,"period":3}}"#;
        let attributes = of(json).unwrap().scheduler.unwrap();
        assert_eq!(
            (
                attributes.policy,
                attributes.runtime,
                attributes.deadline,
                attributes.period
            ),
            (6, 1, 2, 3)
        );
        for (scheduler, element) in [
            (r#"{"policy":"SCHED_NONE"}"#, "policy"),
            (r#"{"policy":"SCHED_OTHER","nice":20}"#, "nice"),
            (r#"{"policy":"SCHED_FIFO","priority":1,"nice":1}"#, "nice"),
            (r#"{"policy":"SCHED_FIFO"}"#, "priority"),
            (r#"{"policy":"SCHED_FIFO","priority":100}"#, "priority"),
            (r#"{"policy":"SCHED_OTHER","priority":1}"#, "priority"),
            (r#"{"policy":"SCHED_IDLE","deadline":1}"#, "deadline"),
            (r#"{"policy":"SCHED_OTHER","flags":["X"]}"#, "flags/0"),
        ] {
            let error = of(&format!("{{\"scheduler\":{scheduler}}}")).unwrap_err();
            let pointer = format!("/process/scheduler/{element}");
            assert_eq!(error.pointer(), Some(pointer.as_str()), "{scheduler}");
        }
    }

    #[test]
    fn io_priorities() {
        let of = |json: &str| {
            Scheduling::compile(&process(&format!("{{\"ioPriority\":{json}}}")), "/process")
        };
        for (json, expected) in [
            (r#"{"class":"IOPRIO_CLASS_RT","priority":3}"#, 1 << 13 | 3),
            (r#"{"class":"IOPRIO_CLASS_IDLE"}"#, 3 << 13),
        ] {
            assert_eq!(of(json).unwrap().io_priority, Some(expected), "{json}");
        }
        for (json, element) in [
            (r#"{"class":"IOPRIO_CLASS_NONE"}"#, "class"),
            (r#"{"class":"IOPRIO_CLASS_BE","priority":8}"#, "priority"),
            (r#"{"class":"IOPRIO_CLASS_BE","priority":-1}"#, "priority"),
        ] {
            let pointer = format!("/process/ioPriority/{element}");
            assert_eq!(
                of(json).unwrap_err().pointer(),
                Some(pointer.as_str()),
                "{json}"
            );
        }
    }

    #[test]
    fn memory_policies() {
        let of = |mode: &str, nodes: &str, flags: &[&str]| {
            MemoryPolicy::compile(&scheduling::MemoryPolicy {
                mode: mode.to_owned(),
                nodes: Some(nodes.to_owned()),
                flags: Some(flags.iter().map(ToString::to_string).collect()),
            })
        };
        let policy = of("MPOL_BIND", "0,2", &["MPOL_F_STATIC_NODES"]).unwrap();
        assert_eq!((policy.mode, policy.nodes), (2 | 1 << 15, vec![5]));
        assert_eq!(of("MPOL_PREFERRED", "", &[]).unwrap().mode, 1);
        for (mode, nodes, flags, element) in [
            ("MPOL_X", "0", &[][..], "mode"),
            ("MPOL_BIND", "", &[], "nodes"),
            ("MPOL_LOCAL", "0", &[], "nodes"),
            ("MPOL_BIND", "x", &[], "nodes"),
            (
                "MPOL_BIND",
                "0",
                &["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"],
                "flags",
            ),
            ("MPOL_PREFERRED", "", &["MPOL_F_STATIC_NODES"], "flags"),
            ("MPOL_BIND", "0", &["MPOL_F_X"], "flags/0"),
        ] {
            let pointer = format!("/linux/memoryPolicy/{element}");
            let error = of(mode, nodes, flags).unwrap_err();
            assert_eq!(
                error.pointer(),
                Some(pointer.as_str()),
                "{mode} {nodes} {flags:?}"
            );
        }
    }
}
