//! config.json as `runc spec` writes it, and the seccomp profile of podman and Docker in the form that it takes.

use serde_json::{Value, json};

/// The capabilities of `runc spec`.
const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
/// The machine's architecture as the profiles name it.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    "amd64"
};

/// The default configuration without a terminal, with the command and the place in the cgroups given.
pub fn default_spec(command: &[&str], cgroups_path: &str, cgroup_namespace: bool) -> Value {
    let mut namespaces = vec!["pid", "network", "ipc", "uts", "mount"];
    if cgroup_namespace {
        namespaces.push("cgroup");
    }
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": command,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES, "effective": CAPABILITIES,
                "permitted": CAPABILITIES, "ambient": CAPABILITIES
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "bench",
        "mounts": mounts(),
        "linux": {
            "cgroupsPath": cgroups_path,
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": namespaces.iter().map(|kind| json!({"type": kind})).collect::<Vec<_>>(),
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}

fn mounts() -> Value {
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
         "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
         "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
    ])
}

/// `linux.seccomp` from a profile as podman and Docker ship it: the rules that hold for the default capabilities on this
/// architecture, and its list of architectures.
pub fn seccomp(profile: &Value) -> Value {
    let rules = profile["syscalls"].as_array().into_iter().flatten();
    let rules = rules.filter(|rule| applies(rule)).map(|rule| {
        let mut rule = rule.clone();
        if let Some(fields) = rule.as_object_mut() {
            fields.retain(|key, value| {
                ["names", "action", "args", "errnoRet"].contains(&key.as_str()) && !value.is_null()
            });
        }
        rule
    });
    let native = if ARCHITECTURE == "arm64" {
        "SCMP_ARCH_AARCH64"
    } else {
        "SCMP_ARCH_X86_64"
    };
    let map = profile["archMap"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|entry| entry["architecture"] == native);
    let mut architectures = vec![json!(native)];
    architectures.extend(
        map.and_then(|entry| entry["subArchitectures"].as_array())
            .into_iter()
            .flatten()
            .cloned(),
    );
    let mut out = json!({
        "defaultAction": profile["defaultAction"],
        "architectures": architectures,
        "syscalls": rules.collect::<Vec<_>>()
    });
    if !profile["defaultErrnoRet"].is_null() {
        out["defaultErrnoRet"] = profile["defaultErrnoRet"].clone();
    }
    out
}

/// Whether a rule's conditions hold. Kernel versions asked for are taken as reached.
fn applies(rule: &Value) -> bool {
    let list = |group: &str, key: &str| {
        rule[group][key]
            .as_array()
            .filter(|list| !list.is_empty())
            .cloned()
    };
    let known = |list: &Vec<Value>, own: &[&str]| {
        list.iter()
            .any(|item| item.as_str().is_some_and(|item| own.contains(&item)))
    };
    let all_known = |list: &Vec<Value>, own: &[&str]| {
        list.iter()
            .all(|item| item.as_str().is_some_and(|item| own.contains(&item)))
    };
    list("includes", "caps").is_none_or(|caps| all_known(&caps, &CAPABILITIES))
        && list("includes", "arches").is_none_or(|arches| known(&arches, &[ARCHITECTURE]))
        && !list("excludes", "caps").is_some_and(|caps| known(&caps, &CAPABILITIES))
        && !list("excludes", "arches").is_some_and(|arches| known(&arches, &[ARCHITECTURE]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_for_absent_capabilities_and_other_machines_are_left_out() {
        let profile = json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
            "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_ALLOW", "comment": "", "includes": {}, "args": null},
                {"names": ["kill"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_KILL"]}},
                {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_KILL"]}},
                {"names": ["s390_runtime_instr"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390"]}}
            ]
        });
        let out = seccomp(&profile);
        assert_eq!(
            out["syscalls"],
            json!([
                {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["kill"], "action": "SCMP_ACT_ALLOW"}
            ])
        );
        assert_eq!(out["defaultErrnoRet"], 38);
    }
}
