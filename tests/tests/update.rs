//! `update`: limits of a running container changed by flags and by a file, in both versions of cgroups.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use ocirun_tests::{Bundle, Container, Finished, Need, suite};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

fn running(resources: Value) -> Container {
    let mut resources = resources;
    resources["devices"] = json!([{"allow": false, "access": "rwm"}]);
    let container = Bundle::new()
        .set("/linux/resources", resources)
        .probe(&["pause"])
        .container();
    container.run_until_ready_detached();
    container
}

fn update(container: &Container, flags: &[&str]) -> Finished {
    container
        .command("update")
        .args(flags)
        .arg(&container.id)
        .finish()
}

fn update_by_file(container: &Container, resources: &Value) -> Finished {
    container
        .command("update")
        .args(["-r", "-"])
        .arg(&container.id)
        .stdin(resources.to_string())
        .finish()
}

/// What a file of version 1, or else one of version 2, holds.
fn shown(container: &Container, v1: (&str, &str), v2: &str) -> String {
    let cgroup = container.bundle.cgroup();
    let unified = cgroup.unified().join(v2);
    match fs::read_to_string(unified) {
        Ok(text) => text.trim_end().to_owned(),
        Err(_) => cgroup.read(v1.0, v1.1),
    }
}

fn memory_limit(container: &Container) -> String {
    shown(container, ("memory", "memory.limit_in_bytes"), "memory.max")
}

fn memory_by_flag() {
    let container = running(json!({"memory": {"limit": 64 * MIB}}));
    update(&container, &["--memory", "100m"]).ok();
    assert_eq!(memory_limit(&container), (100 * MIB).to_string());
    update(&container, &["--memory", "52428800"]).ok();
    assert_eq!(memory_limit(&container), (50 * MIB).to_string());
}

/// A limit of both that is below the new limit of memory has to be raised first, one above lowered last.
fn memory_and_swap_in_whatever_order_the_kernel_takes() {
    let container = running(json!({"memory": {"limit": 64 * MIB, "swap": 64 * MIB}}));
    for mebibytes in [200, 32, 100] {
        let size = format!("{mebibytes}m");
        update(&container, &["--memory", &size, "--memory-swap", &size]).ok();
        assert_eq!(memory_limit(&container), (mebibytes * MIB).to_string());
    }
}

fn memory_without_limit() {
    let container = running(json!({"memory": {"limit": 64 * MIB}}));
    update(&container, &["--memory", "-1"]).ok();
    let shown = memory_limit(&container);
    assert!(
        shown == "max" || shown.parse::<u64>().unwrap() > 1 << 60,
        "{shown}"
    );
}

fn pids_and_cpu_by_flags() {
    let container = running(json!({"pids": {"limit": 20}}));
    let flags = [
        "--pids-limit",
        "77",
        "--cpu-quota",
        "30000",
        "--cpu-period",
        "50000",
        "--cpuset-cpus",
        "0",
    ];
    update(&container, &flags).ok();
    assert_eq!(shown(&container, ("pids", "pids.max"), "pids.max"), "77");
    let quota = shown(&container, ("cpu", "cpu.cfs_quota_us"), "cpu.max");
    assert!(
        ["30000", "30000 50000"].contains(&quota.as_str()),
        "{quota}"
    );
    assert_eq!(
        shown(&container, ("cpuset", "cpuset.cpus"), "cpuset.cpus"),
        "0"
    );
    // Zero changes nothing.
    update(&container, &["--pids-limit", "0"]).ok();
    assert_eq!(shown(&container, ("pids", "pids.max"), "pids.max"), "77");
}

fn a_file_of_resources() {
    let container = running(json!({"memory": {"limit": 64 * MIB}}));
    let resources = json!({"memory": {"limit": 96 * MIB}, "pids": {"limit": 9}});
    update_by_file(&container, &resources).ok();
    assert_eq!(memory_limit(&container), (96 * MIB).to_string());
    assert_eq!(shown(&container, ("pids", "pids.max"), "pids.max"), "9");
    let file = container.file("resources.json");
    fs::write(&file, json!({"pids": {"limit": 8}}).to_string()).unwrap();
    update(&container, &["--resources", file.to_str().unwrap()]).ok();
    assert_eq!(shown(&container, ("pids", "pids.max"), "pids.max"), "8");
}

fn a_created_container() {
    let container = Bundle::new().probe(&["pause"]).container();
    container.create().ok();
    update(&container, &["--pids-limit", "5"]).ok();
    assert_eq!(shown(&container, ("pids", "pids.max"), "pids.max"), "5");
    assert_eq!(container.status(), "created");
}

fn a_container_that_has_ended() {
    let container = Bundle::new().probe(&["exit", "0"]).container();
    container.run_detached().ok();
    container.wait_for_status("stopped");
    let run = update(&container, &["--pids-limit", "5"]);
    assert_eq!(run.code(), 1, "{run}");
}

fn numbers_that_are_none() {
    let container = running(json!({}));
    for (flag, value) in [
        ("--memory", "64q"),
        ("--pids-limit", "many"),
        ("--cpu-quota", "1.5x"),
    ] {
        let run = update(&container, &[flag, value]);
        assert_eq!(run.code(), 1, "{run}");
    }
}

fn what_the_kernel_refuses_changes_nothing() {
    let container = running(json!({"memory": {"limit": 64 * MIB}, "pids": {"limit": 20}}));
    let resources =
        json!({"memory": {"limit": 96 * MIB}, "pids": {"limit": 9}, "cpu": {"cpus": "4000"}});
    update_by_file(&container, &resources).fails(1, "cpuset.cpus");
    assert_eq!(memory_limit(&container), (64 * MIB).to_string());
    assert_eq!(shown(&container, ("pids", "pids.max"), "pids.max"), "20");
}

fn a_mistake_is_named_by_its_pointer() {
    let container = running(json!({}));
    update_by_file(&container, &json!({"memory": {"limit": "much"}})).fails(1, "/memory/limit");
    update_by_file(&container, &json!({"cpu": {"idle": 7}})).fails(1, "/linux/resources/cpu/idle");
}

fn a_limit_below_what_is_in_use_can_be_refused() {
    let container = Bundle::new()
        .set("/linux/resources/memory", json!({"limit": 128 * MIB}))
        .probe(&["allocate", "40", ",", "pause"])
        .container();
    container.run_until_ready_detached();
    let check = json!({"memory": {"limit": 4096, "checkBeforeUpdate": true}});
    update_by_file(&container, &check).fails(1, "rejecting memory limit");
    assert_eq!(memory_limit(&container), (128 * MIB).to_string());
    assert_eq!(container.status(), "running");
}

/// What a process in the container may do with /dev/fuse, a node of its own making.
fn opens(container: &Container, path: &str) -> bool {
    let opened = container.exec(&["open", path]).value();
    match opened.as_str() {
        Some("ok") => true,
        _ if opened == json!({"errno": "EPERM"}) => false,
        _ => panic!("{opened}"),
    }
}

fn device_rules_of_a_running_container() {
    let node = |path: &str, minor: u64| json!({"path": path, "type": "c", "major": 10, "minor": minor, "fileMode": 0o666, "uid": 0, "gid": 0});
    let container = Bundle::new()
        .set("/linux/devices", json!([node("/dev/fuse", 229)]))
        .set(
            "/linux/resources/devices",
            json!([{"allow": false, "access": "rwm"}]),
        )
        .probe(&["pause"])
        .container();
    container.run_until_ready_detached();
    let rule = |allow: bool| {
        json!({"devices": [
            {"allow": false, "access": "rwm"},
            {"allow": allow, "type": "c", "major": 10, "minor": 229, "access": "rw"},
        ]})
    };
    assert!(!opens(&container, "/dev/fuse"));
    update_by_file(&container, &rule(true)).ok();
    assert!(opens(&container, "/dev/fuse"));
    assert!(opens(&container, "/dev/null"));
    update_by_file(&container, &rule(false)).ok();
    assert!(!opens(&container, "/dev/fuse"));
    assert!(opens(&container, "/dev/null"));
    update_by_file(
        &container,
        &json!({"devices": [{"allow": true, "access": "rwm"}]}),
    )
    .ok();
    assert!(opens(&container, "/dev/fuse"));
    // Other limits leave the rules alone.
    update(&container, &["--pids-limit", "99"]).ok();
    assert!(opens(&container, "/dev/fuse"));
    update_by_file(&container, &rule(false)).ok();
    assert!(!opens(&container, "/dev/fuse"));
}

suite! {
    &[Need::Root, Need::Cgroup("memory"), Need::Cgroup("pids")] => [
        memory_by_flag,
        memory_and_swap_in_whatever_order_the_kernel_takes,
        memory_without_limit,
        pids_and_cpu_by_flags,
        a_file_of_resources,
        a_created_container,
        a_container_that_has_ended,
        numbers_that_are_none,
    ],
    &[Need::Root, Need::Cgroup("memory"), Need::NotRunc("1.1.5 leaves what it has changed")] => [
        what_the_kernel_refuses_changes_nothing,
    ],
    &[Need::Root, Need::Cgroup("memory"), Need::Ocirun] => [
        a_mistake_is_named_by_its_pointer,
        a_limit_below_what_is_in_use_can_be_refused,
    ],
    &[Need::Root, Need::Cgroup("devices"), Need::NotRunc("it leaves rules for devices as they were")] => [
        device_rules_of_a_running_container,
    ],
}
