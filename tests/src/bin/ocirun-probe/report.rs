//! Everything a process can say about itself, as one JSON object.

use std::fs;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};
use serde_json::{Map, Value, json};

/// The whole report. A part that cannot be read (no /proc, say) is null or empty, never an error.
pub fn all() -> Value {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uts = nix::sys::utsname::uname().ok();
    json!({
        "pid": std::process::id(),
        "ppid": nix::unistd::getppid().as_raw(),
        "session": nix::unistd::getsid(None).map(nix::unistd::Pid::as_raw).ok(),
        "group": nix::unistd::getpgrp().as_raw(),
        "uids": status_words(&status, "Uid"),
        "gids": status_words(&status, "Gid"),
        "groups": status_words(&status, "Groups"),
        "umask": status_value(&status, "Umask"),
        "capabilities": capabilities(&status),
        "seccomp": status_value(&status, "Seccomp"),
        "seccomp_filters": status_value(&status, "Seccomp_filters"),
        "no_new_privs": status_value(&status, "NoNewPrivs"),
        "dumpable": fs::metadata("/proc/self/environ").is_ok(),
        "signals_blocked": status_value(&status, "SigBlk"),
        "signals_ignored": status_value(&status, "SigIgn"),
        "cpus_allowed": status_value(&status, "Cpus_allowed_list"),
        "rlimits": rlimits(),
        "args": std::env::args().collect::<Vec<String>>(),
        "env": environment(),
        "cwd": fs::read_link("/proc/self/cwd").ok().map(|cwd| cwd.to_string_lossy().into_owned()),
        "exe": fs::read_link("/proc/self/exe").ok().map(|exe| exe.to_string_lossy().into_owned()),
        "hostname": uts.as_ref().map(|uts| uts.nodename().to_string_lossy().into_owned()),
        "domainname": uts.as_ref().map(|uts| uts.domainname().to_string_lossy().into_owned()),
        "namespaces": namespaces(),
        "uid_map": map_file("/proc/self/uid_map"),
        "gid_map": map_file("/proc/self/gid_map"),
        "setgroups": line("/proc/self/setgroups"),
        "mounts": mounts(),
        "fds": descriptors(),
        "terminal": terminal(),
        "cgroup": fs::read_to_string("/proc/self/cgroup").unwrap_or_default().lines().collect::<Vec<&str>>(),
        "oom_score_adj": line("/proc/self/oom_score_adj"),
        "label": line("/proc/self/attr/current"),
        "keyring": fs::read_to_string("/proc/keys").unwrap_or_default(),
        "interfaces": interfaces(),
    })
}

/// The rest of one line of /proc/self/status.
pub fn status_value<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .map(str::trim)
}

fn status_words(status: &str, key: &str) -> Vec<u32> {
    status_value(status, key)
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

fn line(path: &str) -> Option<String> {
    fs::read_to_string(path)
        .ok()
        .map(|text| text.trim_end().to_owned())
}

/// The five sets, each a list of names from the lowest number on.
fn capabilities(status: &str) -> Value {
    let set = |key: &str| -> Value {
        let mask = status_value(status, key)
            .and_then(|hex| u64::from_str_radix(hex, 16).ok())
            .unwrap_or_default();
        capability_names(mask).into()
    };
    json!({
        "inheritable": set("CapInh"), "permitted": set("CapPrm"), "effective": set("CapEff"),
        "bounding": set("CapBnd"), "ambient": set("CapAmb"),
    })
}

/// Names of the bits of a mask; a bit without a name is shown by its number.
pub fn capability_names(mask: u64) -> Vec<String> {
    (0..64)
        .filter(|bit| mask >> bit & 1 == 1)
        .map(capability_name)
        .collect()
}

/// Numbered from 0, as in `linux/capability.h`.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

fn capability_name(bit: usize) -> String {
    CAPABILITIES
        .get(bit)
        .map_or_else(|| bit.to_string(), |name| format!("CAP_{name}"))
}

/// Soft and hard limit by the names of config.json; null is no limit.
fn rlimits() -> Value {
    const LIMITS: [(&str, Resource); 16] = [
        ("RLIMIT_AS", Resource::RLIMIT_AS),
        ("RLIMIT_CORE", Resource::RLIMIT_CORE),
        ("RLIMIT_CPU", Resource::RLIMIT_CPU),
        ("RLIMIT_DATA", Resource::RLIMIT_DATA),
        ("RLIMIT_FSIZE", Resource::RLIMIT_FSIZE),
        ("RLIMIT_LOCKS", Resource::RLIMIT_LOCKS),
        ("RLIMIT_MEMLOCK", Resource::RLIMIT_MEMLOCK),
        ("RLIMIT_MSGQUEUE", Resource::RLIMIT_MSGQUEUE),
        ("RLIMIT_NICE", Resource::RLIMIT_NICE),
        ("RLIMIT_NOFILE", Resource::RLIMIT_NOFILE),
        ("RLIMIT_NPROC", Resource::RLIMIT_NPROC),
        ("RLIMIT_RSS", Resource::RLIMIT_RSS),
        ("RLIMIT_RTPRIO", Resource::RLIMIT_RTPRIO),
        ("RLIMIT_RTTIME", Resource::RLIMIT_RTTIME),
        ("RLIMIT_SIGPENDING", Resource::RLIMIT_SIGPENDING),
        ("RLIMIT_STACK", Resource::RLIMIT_STACK),
    ];
    let finite = |limit: u64| (limit != u64::MAX).then_some(limit);
    let entry = |&(name, resource): &(&str, Resource)| {
        let (soft, hard) = getrlimit(resource).ok()?;
        Some((
            name.to_owned(),
            json!({"soft": finite(soft), "hard": finite(hard)}),
        ))
    };
    Value::Object(
        LIMITS
            .iter()
            .filter_map(entry)
            .collect::<Map<String, Value>>(),
    )
}

/// `NAME=value` in the order in which the kernel holds them, duplicates included.
fn environment() -> Vec<String> {
    let raw = fs::read("/proc/self/environ").unwrap_or_default();
    raw.split(|&byte| byte == 0)
        .filter(|entry| !entry.is_empty())
        .map(|entry| String::from_utf8_lossy(entry).into_owned())
        .collect()
}

/// `{"pid": "pid:[4026531836]", …}`
pub fn namespaces() -> Value {
    let mut found = Map::new();
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        if let Ok(link) = fs::read_link(Path::new("/proc/self/ns").join(name)) {
            found.insert(name.to_owned(), Value::from(link.to_string_lossy()));
        }
    }
    Value::Object(found)
}

/// Rows of three numbers: inside, outside, length.
fn map_file(path: &str) -> Vec<Vec<u32>> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|row| {
            row.split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect()
        })
        .collect()
}

/// /proc/self/mountinfo (proc(5)), in its order.
pub fn mounts() -> Vec<Value> {
    fs::read_to_string("/proc/self/mountinfo")
        .unwrap_or_default()
        .lines()
        .filter_map(mount)
        .collect()
}

fn mount(row: &str) -> Option<Value> {
    let (own, file_system) = row.split_once(" - ")?;
    let own: Vec<&str> = own.split(' ').collect();
    let file_system: Vec<&str> = file_system.split(' ').collect();
    Some(json!({
        "root": own.get(3)?, "at": own.get(4)?, "options": own.get(5)?.split(',').collect::<Vec<&str>>(),
        "propagation": own.get(6..)?, "type": file_system.first()?, "source": file_system.get(1)?,
        "super_options": file_system.get(2)?.split(',').collect::<Vec<&str>>(),
    }))
}

/// Open descriptors and where they lead, without the one that reads the directory.
fn descriptors() -> Vec<Value> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    let mut numbers: Vec<u32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let open = |number: &u32| {
        fs::read_link(format!("/proc/self/fd/{number}"))
            .ok()
            .map(|link| (*number, link))
    };
    numbers
        .iter()
        .filter_map(open)
        .map(|(fd, link)| json!({"fd": fd, "target": link.to_string_lossy()}))
        .collect()
}

/// Name and size of the terminal on standard input, if it is one.
fn terminal() -> Value {
    let stdin = std::io::stdin();
    let Ok(size) = rustix::termios::tcgetwinsize(&stdin) else {
        return Value::Null;
    };
    let name = rustix::termios::ttyname(&stdin, Vec::new()).ok();
    json!({
        "name": name.map(|name| name.to_string_lossy().into_owned()), "rows": size.ws_row, "columns": size.ws_col,
        "foreground": rustix::termios::tcgetpgrp(&stdin).ok().map(|group| group.as_raw_nonzero().get()),
    })
}

/// Names of the network interfaces.
fn interfaces() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    text.lines()
        .skip(2)
        .filter_map(|row| Some(row.split_once(':')?.0.trim().to_owned()))
        .collect()
}
