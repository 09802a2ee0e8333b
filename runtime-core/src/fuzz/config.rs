//! Promises of a plan.

use std::cell::OnceCell;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sched::CloneFlags;
use nix::unistd::{Gid, Uid};
use serde_json::Value;

use super::{check_error, is_clean};
use crate::cgroup::Hierarchies;
use crate::host::{Driver, Host, Manager, SecurityModules};
use crate::plan::Plan;
use crate::plan::mounts::Kind;
use crate::spec::{NamespaceKind, Spec};

pub(super) fn check(bytes: &[u8]) {
    // A process's own file has the same types.
    if let Err(error) = crate::spec::process_from_json(bytes) {
        check_error(&error);
    }
    let spec = match Spec::from_json(bytes) {
        Ok(spec) => spec,
        Err(error) => return check_error(&error),
    };
    for host in hosts() {
        match Plan::compile(&spec, &host) {
            Ok(plan) => promises(&plan, &spec, &host),
            Err(error) => {
                check_error(&error);
                leads_somewhere(&error, bytes);
            }
        }
    }
}

/// Privileged with version 1, without privilege on version 2 by systemd.
fn hosts() -> [Host; 2] {
    let host = |groups: &str, is_v1: bool| Host {
        uid: Uid::from_raw(u32::from(!is_v1) * 1000),
        gid: Gid::from_raw(u32::from(!is_v1) * 1000),
        can_mount: is_v1,
        cgroups_are_optional: !is_v1,
        cgroup_driver: if is_v1 {
            Driver::Cgroupfs
        } else {
            Driver::Systemd(Manager::User)
        },
        cgroups: Hierarchies::parse(groups, |file| is_v1 || !file.ends_with("tasks")),
        landlock: OnceCell::from(if is_v1 { 6 } else { 0 }),
        security: OnceCell::from(SecurityModules {
            apparmor: is_v1,
            selinux: is_v1,
        }),
    };
    [
        host(
            "9:pids:/\n8:memory:/a\n7:cpu,cpuacct:/\n6:cpuset:/\n5:devices:/\n4:blkio:/\n3:hugetlb:/\n2:freezer:/\n1:name=systemd:/x\n0::/\n",
            true,
        ),
        host("0::/user.slice/user-1000.slice/session-1.scope\n", false),
    ]
}

fn promises(plan: &Plan, spec: &Spec, host: &Host) {
    for mount in &plan.mounts {
        mounts(mount);
    }
    for path in plan.masked_paths.iter().chain(&plan.readonly_paths) {
        assert!(path.to_bytes().starts_with(b"/"), "{path:?}");
    }
    for device in &plan.devices {
        let path = device.path.to_bytes();
        assert!(is_clean(path) || path == b"/", "{:?}", device.path);
    }
    namespaces(plan, spec);
    for sysctl in &plan.sysctls {
        kernel_parameter(sysctl.file.to_bytes(), plan);
    }
    let sets = plan.process.capabilities;
    let known = (1 << crate::plan::capabilities::NAMES.len()) - 1;
    let all = sets.bounding | sets.effective | sets.inheritable | sets.permitted | sets.ambient;
    assert_eq!(all & !known, 0);
    let cwd = &plan.process.cwd;
    assert!(cwd.to_bytes().starts_with(b"/"), "{cwd:?}");
    assert!(!plan.process.program.name.is_empty());
    for limit in &plan.process.rlimits {
        assert!(
            limit.soft <= limit.hard || limit.hard == u64::MAX,
            "{limit:?}"
        );
    }
    labels(plan, host);
    if let Some(program) = &plan.seccomp {
        assert!((1..=4096).contains(&program.instructions().len()));
    }
}

pub(super) fn mounts(mount: &crate::plan::mounts::Mount) {
    let destination = mount.destination.as_bytes();
    assert!(is_clean(destination), "{mount:?}");
    for change in [mount.change, mount.recursive] {
        let both = change.set.0 & change.clear.0;
        assert_eq!(
            both & !crate::kernel::mount::Attributes::ATIME.0,
            0,
            "{mount:?}"
        );
    }
    let is_remount = matches!(mount.kind, Kind::Remount);
    let is_bind = matches!(mount.kind, Kind::Bind { .. });
    if destination == b"/proc" && !is_remount && !is_bind {
        let is_proc =
            matches!(&mount.kind, Kind::New { filesystem, .. } if filesystem.as_bytes() == b"proc");
        assert!(is_proc, "{mount:?}");
    }
    if destination.starts_with(b"/proc/") && !is_remount {
        assert!(is_bind && mount.inside_proc, "{mount:?}");
    }
    assert!(
        !mount.inside_proc || destination.starts_with(b"/proc/"),
        "{mount:?}"
    );
}

/// Each namespace once, as it was written; ids of a new user namespace are mapped.
fn namespaces(plan: &Plan, spec: &Spec) {
    let linux = spec.linux.as_ref().unwrap();
    let written: Vec<_> = linux.namespaces.iter().flatten().collect();
    for namespace in &written {
        let is_new = namespace.path.as_deref().is_none_or(str::is_empty);
        let flag = namespace.kind.flag();
        assert_eq!(plan.namespaces.new.contains(flag), is_new);
        let joined = |one: &&crate::plan::namespaces::Joined| one.kind == namespace.kind;
        let count = plan.namespaces.joined.iter().filter(joined).count();
        assert_eq!(count, usize::from(!is_new));
    }
    assert!(plan.namespaces.has(NamespaceKind::Mount));
    let new = plan.namespaces.new.iter().count();
    assert_eq!(new + plan.namespaces.joined.len(), written.len());
    if plan.namespaces.new.contains(CloneFlags::CLONE_NEWUSER) {
        let is_mapped = |id: u32, map: &[crate::spec::IdMapping]| {
            map.iter().any(|range| {
                let first = u64::from(range.container_id);
                (first..first + u64::from(range.size)).contains(&u64::from(id))
            })
        };
        assert!(is_mapped(plan.process.user.uid, &plan.namespaces.uid_map));
        assert!(is_mapped(plan.process.user.gid, &plan.namespaces.gid_map));
    }
}

/// Only files of namespaces that the container has of its own.
fn kernel_parameter(file: &[u8], plan: &Plan) {
    let file = Path::new(std::ffi::OsStr::from_bytes(file));
    let names: Vec<&str> = file.iter().map(|name| name.to_str().unwrap()).collect();
    assert_eq!(names[0], "sys", "{file:?}");
    assert!(!names.contains(&".."), "{file:?}");
    let of = |kind| assert!(plan.namespaces.has(kind), "{file:?}");
    match names[1..] {
        ["net", _, ..] => of(NamespaceKind::Network),
        ["user", _, ..] => of(NamespaceKind::User),
        ["fs", name, ..] if name == "mqueue" || name.starts_with("mqueue.") => {
            of(NamespaceKind::Ipc);
        }
        ["kernel", "domainname"] => of(NamespaceKind::Uts),
        ["kernel", name] => {
            let is_ipc = ["msg", "sem", "shm", "auto_msgmni"];
            assert!(
                is_ipc.iter().any(|known| name.starts_with(known)),
                "{file:?}"
            );
            of(NamespaceKind::Ipc);
        }
        // Where dots stand in a name there is no such file, and the kernel says so.
        [first] if first.contains('.') => {}
        _ => panic!("{file:?}"),
    }
}

fn labels(plan: &Plan, host: &Host) {
    let labels = &plan.process.labels;
    assert!(labels.apparmor.is_none() || host.security().apparmor);
    assert!(labels.selinux.is_none() || host.security().selinux);
}

/// The pointer of an error is that of an element, or of one that is missing.
fn leads_somewhere(error: &crate::Error, bytes: &[u8]) {
    let Some(pointer) = error.pointer() else {
        return;
    };
    // In what is not read there may be what no parser takes.
    let Ok(json) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let mut there = pointer;
    while json.pointer(there).is_none() {
        there = there.rsplit_once('/').unwrap().0;
    }
    // What is missing can be a member with all that would be in it, but no element of a list.
    let mut missing = pointer[there.len()..].split('/').skip(1);
    let is_place = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    assert!(!missing.any(is_place), "{error}");
}
