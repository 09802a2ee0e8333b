//! Cgroups of version 1: limits as the kernel shows them, limits in force, who is in which, and what is left.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use ocirun_tests::{Bundle, Container, Need, eventually, suite};
use serde_json::{Value, json};

fn limited(resources: Value) -> Bundle {
    let devices = json!([{"allow": false, "access": "rwm"}]);
    let mut resources = resources;
    resources["devices"] = devices;
    Bundle::new().set("/linux/resources", resources)
}

/// A created container with these resources.
fn created(resources: Value) -> Container {
    let container = limited(resources).probe(&["pause"]).container();
    container.create().ok();
    container
}

fn shows(container: &Container, controller: &str, expected: &[(&str, &str)]) {
    for (file, value) in expected {
        assert_eq!(
            container.bundle.cgroup().read(controller, file),
            *value,
            "{file}"
        );
    }
}

fn memory() {
    let container = created(json!({
        "memory": {"limit": 64 << 20, "reservation": 32 << 20, "swappiness": 7, "disableOOMKiller": true},
    }));
    shows(
        &container,
        "memory",
        &[
            ("memory.limit_in_bytes", "67108864"),
            ("memory.soft_limit_in_bytes", "33554432"),
            ("memory.swappiness", "7"),
        ],
    );
    assert!(
        container
            .bundle
            .cgroup()
            .read("memory", "memory.oom_control")
            .contains("oom_kill_disable 1")
    );
}

fn memory_without_limit() {
    let container = created(json!({"memory": {"limit": -1}}));
    assert!(
        container
            .bundle
            .cgroup()
            .read("memory", "memory.limit_in_bytes")
            .parse::<u64>()
            .unwrap()
            > 1 << 60
    );
}

fn hierarchical_accounting_stays() {
    let container = created(json!({"memory": {"limit": 64 << 20}}));
    shows(&container, "memory", &[("memory.use_hierarchy", "1")]);
}

fn cpu() {
    let container = created(json!({"cpu": {"shares": 512, "quota": 50_000, "period": 100_000}}));
    shows(
        &container,
        "cpu",
        &[
            ("cpu.shares", "512"),
            ("cpu.cfs_quota_us", "50000"),
            ("cpu.cfs_period_us", "100000"),
        ],
    );
}

fn cpu_quota_alone() {
    let container = created(json!({"cpu": {"quota": 20_000}}));
    shows(
        &container,
        "cpu",
        &[
            ("cpu.cfs_quota_us", "20000"),
            ("cpu.cfs_period_us", "100000"),
        ],
    );
}

fn cpuset() {
    let container = created(json!({"cpu": {"cpus": "0", "mems": "0"}}));
    shows(
        &container,
        "cpuset",
        &[("cpuset.cpus", "0"), ("cpuset.mems", "0")],
    );
    let report = container.exec(&["report"]).ok().value();
    assert_eq!(report["cpus_allowed"], "0");
}

fn cpuset_is_inherited_where_not_given() {
    let container = created(json!({}));
    let own = container.bundle.cgroup().read("cpuset", "cpuset.cpus");
    let parent = fs::read_to_string(
        container
            .bundle
            .cgroup()
            .directory("cpuset")
            .join("../cpuset.cpus"),
    )
    .unwrap();
    assert_eq!(own, parent.trim());
    assert!(!own.is_empty());
}

fn pids() {
    let container = created(json!({"pids": {"limit": 123}}));
    shows(&container, "pids", &[("pids.max", "123")]);
    let container = created(json!({"pids": {"limit": -1}}));
    shows(&container, "pids", &[("pids.max", "max")]);
}

fn pids_in_force() {
    let container = limited(json!({"pids": {"limit": 3}}))
        .probe(&["fork", "20"])
        .container();
    assert_eq!(
        container.run().values().last().unwrap(),
        &json!({"errno": "EAGAIN"})
    );
}

/// The first block device of the machine, `major:minor`.
fn block_device() -> (u64, u64) {
    let entry = fs::read_dir("/sys/dev/block")
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let name = entry.file_name().into_string().unwrap();
    let (major, minor) = name.split_once(':').unwrap();
    (major.parse().unwrap(), minor.parse().unwrap())
}

fn block_device_throttle() {
    let (major, minor) = block_device();
    let rule = json!([{"major": major, "minor": minor, "rate": 1_048_576}]);
    let container = created(json!({"blockIO": {
        "throttleReadBpsDevice": rule, "throttleWriteBpsDevice": rule,
        "throttleReadIOPSDevice": rule, "throttleWriteIOPSDevice": rule,
    }}));
    let shown = format!("{major}:{minor} 1048576");
    shows(
        &container,
        "blkio",
        &[
            ("blkio.throttle.read_bps_device", &shown),
            ("blkio.throttle.write_bps_device", &shown),
            ("blkio.throttle.read_iops_device", &shown),
            ("blkio.throttle.write_iops_device", &shown),
        ],
    );
}

fn devices_by_default() {
    let container = created(json!({}));
    let list = container.bundle.cgroup().read("devices", "devices.list");
    let mut lines: Vec<&str> = list.lines().collect();
    lines.sort_unstable();
    // The tun device and the console are allowed or not by the version of the runtime.
    lines.retain(|line| !["c 10:200 rwm", "c 5:1 rwm"].contains(line));
    let expected = [
        "b *:* m",
        "c *:* m",
        "c 136:* rwm",
        "c 1:3 rwm",
        "c 1:5 rwm",
        "c 1:7 rwm",
        "c 1:8 rwm",
        "c 1:9 rwm",
        "c 5:0 rwm",
        "c 5:2 rwm",
    ];
    assert_eq!(lines, expected);
}

fn memory_in_force() {
    let container = limited(json!({"memory": {"limit": 24 << 20, "swap": 24 << 20}}));
    let container = container.probe(&["allocate", "200"]).container();
    let run = container.run();
    assert_eq!(run.code(), 128 + 9, "{run}");
}

fn exec_is_under_the_same_limits() {
    let container = created(json!({"memory": {"limit": 64 << 20}}));
    container.start().ok();
    let init = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let report = container.exec(&["report"]).ok().value();
    let lines: Vec<&str> = report["cgroup"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(lines, init.lines().collect::<Vec<&str>>());
}

fn the_process_is_in_the_cgroup_of_the_configuration() {
    let container = created(json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 10}}));
    let table = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    for controller in ["memory", "pids", "devices", "freezer"] {
        let line = table
            .lines()
            .find(|line| line.split(':').nth(1) == Some(controller))
            .unwrap();
        assert!(line.ends_with(container.bundle.cgroup().path()), "{line}");
    }
}

fn children_stay_in_the_cgroup() {
    let container = Bundle::new().probe(&["fork", "3"]).container();
    let run = container.run_detached().ok();
    eventually("children", || run.stdout().contains("children"));
    assert_eq!(
        container
            .bundle
            .cgroup()
            .read("pids", "cgroup.procs")
            .lines()
            .count(),
        4
    );
    assert_eq!(container.bundle.cgroup().read("pids", "pids.current"), "4");
}

fn nothing_is_left_after_delete() {
    let container = created(json!({"memory": {"limit": 64 << 20}, "cpu": {"cpus": "0"}}));
    assert!(!container.bundle.cgroup().existing().is_empty());
    container.delete().ok();
    assert_eq!(
        container.bundle.cgroup().existing(),
        Vec::<std::path::PathBuf>::new()
    );
}

fn cgroups_made_below_are_deleted_too() {
    let container = created(json!({}));
    container.start().ok();
    for controller in ["pids", "memory"] {
        fs::create_dir_all(
            container
                .bundle
                .cgroup()
                .directory(controller)
                .join("below/deep"),
        )
        .unwrap();
    }
    container
        .command("delete")
        .args(["--force", &container.id])
        .finish()
        .ok();
    assert_eq!(
        container.bundle.cgroup().existing(),
        Vec::<std::path::PathBuf>::new()
    );
}

fn a_cgroup_that_is_not_empty_is_refused() {
    let first = created(json!({}));
    let second = Bundle::new()
        .set("/linux/cgroupsPath", first.bundle.cgroup().path())
        .container();
    let run = second.run();
    run.fails(1, "container's cgroup is not empty: 1 process(es) found");
    assert_eq!(first.status(), "created");
}

fn a_frozen_cgroup_is_refused() {
    let container = Bundle::new().container();
    let directory = container.bundle.cgroup().directory("freezer");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("freezer.state"), "FROZEN").unwrap();
    container
        .run()
        .fails(1, "container's cgroup unexpectedly frozen");
}

fn an_empty_cgroup_of_somebody_else_is_used() {
    let container = limited(json!({"pids": {"limit": 9}}))
        .probe(&["pause"])
        .container();
    fs::create_dir_all(container.bundle.cgroup().directory("pids")).unwrap();
    container.create().ok();
    shows(&container, "pids", &[("pids.max", "9")]);
}

fn without_a_path_the_id_names_the_cgroup() {
    let container = Bundle::new()
        .remove("/linux/cgroupsPath")
        .probe(&["report"])
        .container();
    let report = container.run().ok().value();
    let lines: Vec<&str> = report["cgroup"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let pids = lines.iter().find(|line| line.contains(":pids:")).unwrap();
    let path = pids.rsplit(':').next().unwrap();
    assert!(path.ends_with(&format!("/{}", container.id)), "{path}");
    assert!(!fs::exists(format!("/sys/fs/cgroup/pids{path}")).unwrap());
}

fn a_relative_path_is_below_the_callers() {
    let bundle = Bundle::new();
    let path = bundle.cgroup().path().trim_start_matches('/').to_owned();
    let report = bundle
        .set("/linux/cgroupsPath", path.as_str())
        .probe(&["report"])
        .container()
        .run()
        .ok()
        .value();
    let lines: Vec<&str> = report["cgroup"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let pids = lines.iter().find(|line| line.contains(":pids:")).unwrap();
    assert!(pids.ends_with(&path), "{pids}");
}

fn a_path_with_dots_stays_below_the_mount() {
    let bundle = Bundle::new();
    let path = format!("/../../../..{}", bundle.cgroup().path());
    let container = bundle
        .set("/linux/cgroupsPath", path)
        .probe(&["report"])
        .container();
    let run = container.run();
    assert!(!fs::exists(container.bundle.cgroup().path()).unwrap());
    assert!(!fs::exists("/sys/ocirun-tests").unwrap(), "{run}");
}

fn values_the_kernel_refuses() {
    for (resources, word) in [
        (json!({"cpu": {"period": 1}}), "cpu.cfs_period_us"),
        (json!({"cpu": {"cpus": "4000"}}), "cpuset.cpus"),
    ] {
        let container = limited(resources).container();
        container.run().fails(1, word);
        container.verb("state").fails(1, "container does not exist");
        assert_eq!(
            container.bundle.cgroup().existing(),
            Vec::<std::path::PathBuf>::new(),
            "{word}"
        );
    }
}

fn freezer_state_while_paused() {
    let container = created(json!({}));
    container.start().ok();
    container.verb("pause").ok();
    shows(&container, "freezer", &[("freezer.state", "FROZEN")]);
    container.verb("resume").ok();
    shows(&container, "freezer", &[("freezer.state", "THAWED")]);
}

fn a_container_frozen_by_others_is_paused() {
    let container = Bundle::new().probe(&["pause"]).container();
    container.run_until_ready_detached();
    let file = container
        .bundle
        .cgroup()
        .directory("freezer")
        .join("freezer.state");
    // A task may be in the midst of something that cannot be frozen: whoever freezes has to ask again.
    eventually("FROZEN", || {
        fs::write(&file, "FROZEN").unwrap();
        fs::read_to_string(&file).unwrap() == "FROZEN\n"
    });
    assert_eq!(container.status(), "paused");
    fs::write(&file, "THAWED").unwrap();
    assert_eq!(container.status(), "running");
}

fn a_cgroup_mount_in_a_cgroup_namespace() {
    let bundle = Bundle::new().namespace(json!({"type": "cgroup"}));
    let steps = ["report", ",", "read", "/sys/fs/cgroup/pids/cgroup.procs"];
    let found = bundle.probe(&steps).container().run().ok().values();
    let mounts = found[0]["mounts"].as_array().unwrap();
    let pids = mounts
        .iter()
        .find(|mount| mount["at"] == "/sys/fs/cgroup/pids")
        .unwrap();
    assert_eq!(
        (&pids["type"], &pids["root"]),
        (&json!("cgroup"), &json!("/"))
    );
    assert_eq!(found[1], "1\n");
}

suite! {
    &[Need::Root, Need::CgroupV1("memory")] => [
        memory,
        memory_without_limit,
        hierarchical_accounting_stays,
        memory_in_force,
        exec_is_under_the_same_limits,
        nothing_is_left_after_delete,
    ],
    &[Need::Root, Need::CgroupV1("cpu")] => [cpu, cpu_quota_alone, values_the_kernel_refuses],
    &[Need::Root, Need::CgroupV1("cpuset")] => [cpuset, cpuset_is_inherited_where_not_given],
    &[Need::Root, Need::CgroupV1("pids")] => [
        pids,
        pids_in_force,
        the_process_is_in_the_cgroup_of_the_configuration,
        children_stay_in_the_cgroup,
        cgroups_made_below_are_deleted_too,
        an_empty_cgroup_of_somebody_else_is_used,
        without_a_path_the_id_names_the_cgroup,
        a_relative_path_is_below_the_callers,
        a_path_with_dots_stays_below_the_mount,
        a_cgroup_mount_in_a_cgroup_namespace,
    ],
    &[Need::Root, Need::CgroupV1("blkio")] => [block_device_throttle],
    &[Need::Root, Need::CgroupV1("devices")] => [devices_by_default],
    &[Need::Root, Need::CgroupV1("freezer")] => [
        a_frozen_cgroup_is_refused,
        freezer_state_while_paused,
        a_container_frozen_by_others_is_paused,
    ],
    &[Need::Root, Need::CgroupV1("pids"), Need::NotRunc("1.1.5 only warns")] => [
        a_cgroup_that_is_not_empty_is_refused,
    ],
}
