//! Changes a JSON text element by element.

use serde_json::{Value, json};

/// The text with some of its elements changed; none where it is not JSON.
pub fn changed(text: &[u8], seed: u32) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(text).ok()?;
    let mut dice = Dice(u64::from(seed) << 20 | 0x9e37_79b9);
    for _ in 0..=dice.below(4) {
        change(&mut value, &mut dice);
    }
    serde_json::to_vec(&value).ok()
}

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap_or_default() % end.max(1)
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

fn change(value: &mut Value, dice: &mut Dice) {
    let count = count(value);
    let donor = nth(value, &mut dice.below(count)).map(|donor| donor.clone());
    let Some(element) = nth(value, &mut dice.below(count)) else {
        return;
    };
    match dice.below(10) {
        0..=6 => change_in_kind(element, donor, dice),
        7 => *element = donor.unwrap_or_default(),
        8 => *element = simple(dice),
        _ => *element = Value::Null,
    }
}

/// Another value of the same type.
fn change_in_kind(element: &mut Value, donor: Option<Value>, dice: &mut Dice) {
    match element {
        Value::Array(list) if !list.is_empty() => {
            let (from, to) = (dice.below(list.len()), dice.below(list.len()));
            match dice.below(4) {
                0 => drop(list.remove(from)),
                1 if list.len() < 64 => list.insert(to, list[from].clone()),
                2 if list.len() < 64 => list.extend(donor),
                _ => list.swap(from, to),
            }
        }
        Value::Array(list) => list.extend(donor),
        Value::Object(members) if dice.below(3) == 0 => {
            let name = members.keys().nth(dice.below(members.len())).cloned();
            drop(name.and_then(|name| members.remove(&name)));
        }
        Value::Object(members) => {
            let name = (*dice.one(&NAMES)).to_owned();
            members.insert(name, donor.unwrap_or_default());
        }
        Value::String(text) => *text = string(text, dice),
        Value::Number(_) => *element = number(dice),
        Value::Bool(is_true) => *is_true = !*is_true,
        Value::Null => *element = simple(dice),
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum::<usize>(),
        _ => 0,
    }
}

/// The element that is `place` elements further on, in the order of the text.
fn nth<'a>(value: &'a mut Value, place: &mut usize) -> Option<&'a mut Value> {
    if *place == 0 {
        return Some(value);
    }
    *place -= 1;
    match value {
        Value::Array(list) => list.iter_mut().find_map(|one| nth(one, place)),
        Value::Object(members) => members.values_mut().find_map(|one| nth(one, place)),
        _ => None,
    }
}

fn string(text: &str, dice: &mut Dice) -> String {
    let cut = text
        .char_indices()
        .map(|(at, _)| at)
        .nth(dice.below(text.len()));
    let (start, end) = text.split_at(cut.unwrap_or_default());
    let word = *dice.one(&WORDS);
    match dice.below(5) {
        0 => word.to_owned(),
        1 => format!("{start}{word}{end}"),
        2 => format!("{start}{word}"),
        3 => end.to_owned(),
        _ => format!("{text}{word}"),
    }
}

fn number(dice: &mut Dice) -> Value {
    match dice.below(6) {
        0 => json!(dice.below(70)),
        1 => json!(u64::MAX - dice.below(2) as u64),
        2 => json!(i64::MIN + dice.below(2) as i64),
        3 => json!(-(dice.below(1002) as i64)),
        4 => json!((1_u64 << dice.below(64)) - dice.below(2) as u64),
        _ => json!(0.5),
    }
}

fn simple(dice: &mut Dice) -> Value {
    match dice.below(5) {
        0 => Value::Null,
        1 => json!([]),
        2 => json!({}),
        3 => json!(*dice.one(&WORDS)),
        _ => number(dice),
    }
}

/// Names of members, of which some are meant elsewhere.
const NAMES: [&str; 60] = [
    "type",
    "path",
    "source",
    "destination",
    "options",
    "uidMappings",
    "gidMappings",
    "containerID",
    "hostID",
    "size",
    "names",
    "action",
    "errnoRet",
    "args",
    "index",
    "value",
    "valueTwo",
    "op",
    "architectures",
    "flags",
    "defaultErrnoRet",
    "listenerPath",
    "listenerMetadata",
    "sysctl",
    "seccomp",
    "maskedPaths",
    "readonlyPaths",
    "mountLabel",
    "rootfsPropagation",
    "timeOffsets",
    "secs",
    "nanosecs",
    "memory",
    "swap",
    "cpu",
    "quota",
    "period",
    "pids",
    "limit",
    "unified",
    "hugepageLimits",
    "pageSize",
    "blockIO",
    "network",
    "classID",
    "rdma",
    "devices",
    "allow",
    "major",
    "minor",
    "access",
    "hooks",
    "timeout",
    "annotations",
    "capabilities",
    "scheduler",
    "ioPriority",
    "personality",
    "memoryPolicy",
    "netDevices",
];

/// Strings, and parts of strings, that mean something somewhere.
const WORDS: [&str; 64] = [
    "",
    "/",
    "..",
    "/../",
    "./",
    "//",
    "\0",
    "\n",
    "~",
    "~1",
    ",",
    ":",
    "=",
    "-",
    "a",
    "0",
    "/proc",
    "/proc/self/fd/3",
    "/dev",
    "/sys",
    "bind",
    "rbind",
    "tmpfs",
    "proc",
    "cgroup",
    "cgroup2",
    "ro",
    "rro",
    "idmap",
    "ridmap",
    "tmpcopyup",
    "remount",
    "net.",
    "net/",
    "kernel.",
    "kernel.shm_rmid_forced",
    "fs.mqueue.",
    "user.",
    "kernel.domainname",
    "user",
    "mount",
    "network",
    "time",
    "CAP_",
    "CAP_SYS_ADMIN",
    "RLIMIT_NOFILE",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_NOTIFY",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_LT",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_S390X",
    "socketcall",
    "ipc",
    "socket",
    "max",
    "c",
    "b",
    "rwm",
    "rshared",
    "unbindable",
    "\u{e9}",
];
