//! Cgroups of version 2: limits as the kernel shows them and as other runtimes write them, limits in force, who is
//! where, and what is left.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ocirun_tests::{Bundle, Container, Invocation, Need, eventually, program_in_path, suite};
use serde_json::{Value, json};

fn limited(resources: Value) -> Bundle {
    let mut resources = resources;
    resources["devices"] = json!([{"allow": false, "access": "rwm"}]);
    Bundle::new().set("/linux/resources", resources)
}

fn created(resources: Value) -> Container {
    let container = limited(resources).probe(&["pause"]).container();
    container.create().ok();
    container
}

fn read(container: &Container, file: &str) -> String {
    let path = container.bundle.cgroup().unified().join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    text.trim_end().to_owned()
}

/// Sections of resources, with what the files hold after them.
fn sections() -> Vec<(Value, Vec<(&'static str, &'static str)>)> {
    vec![
        (json!({}), vec![("memory.max", "max"), ("pids.max", "max")]),
        (
            json!({"memory": {"limit": 64 << 20}}),
            vec![("memory.max", "67108864")],
        ),
        (
            json!({"memory": {"limit": 64 << 20, "reservation": 32 << 20}}),
            vec![("memory.max", "67108864"), ("memory.low", "33554432")],
        ),
        (
            json!({"memory": {"limit": 64 << 20, "swap": 96 << 20}}),
            vec![("memory.max", "67108864"), ("memory.swap.max", "33554432")],
        ),
        (
            json!({"memory": {"limit": 64 << 20, "swap": 64 << 20}}),
            vec![("memory.swap.max", "0")],
        ),
        (
            json!({"memory": {"limit": 64 << 20, "swap": -1}}),
            vec![("memory.swap.max", "max")],
        ),
        (
            json!({"memory": {"limit": -1}}),
            vec![("memory.max", "max"), ("memory.swap.max", "max")],
        ),
        (json!({"pids": {"limit": 20}}), vec![("pids.max", "20")]),
        (json!({"pids": {"limit": -1}}), vec![("pids.max", "max")]),
        (
            json!({"cpu": {"quota": 50_000, "period": 100_000}}),
            vec![("cpu.max", "50000 100000")],
        ),
        (
            json!({"cpu": {"quota": 20_000}}),
            vec![("cpu.max", "20000 100000")],
        ),
        (
            json!({"cpu": {"period": 50_000}}),
            vec![("cpu.max", "max 50000")],
        ),
        (
            json!({"cpu": {"quota": -1, "period": 50_000}}),
            vec![("cpu.max", "max 50000")],
        ),
        // The ends of the range, where all formulas of shares meet.
        (json!({"cpu": {"shares": 2}}), vec![("cpu.weight", "1")]),
        (
            json!({"cpu": {"shares": 262_144}}),
            vec![("cpu.weight", "10000")],
        ),
        (
            json!({"cpu": {"cpus": "0", "mems": "0"}}),
            vec![("cpuset.cpus", "0"), ("cpuset.mems", "0")],
        ),
        (
            json!({"unified": {"memory.high": "50331648", "memory.min": "1048576"}}),
            vec![("memory.high", "50331648"), ("memory.min", "1048576")],
        ),
        (
            json!({"unified": {"cpu.weight": "77", "pids.max": "33"}}),
            vec![("cpu.weight", "77"), ("pids.max", "33")],
        ),
        (
            json!({"unified": {"memory.oom.group": "1"}}),
            vec![("memory.oom.group", "1")],
        ),
        (
            json!({
                "memory": {"limit": 128 << 20, "reservation": 16 << 20}, "pids": {"limit": 7},
                "cpu": {"quota": 150_000, "period": 100_000, "cpus": "0"}, "unified": {"memory.high": "100663296"},
            }),
            vec![
                ("pids.max", "7"),
                ("cpu.max", "150000 100000"),
                ("memory.max", "134217728"),
            ],
        ),
    ]
}

fn limits_are_in_their_files() {
    for (resources, files) in sections() {
        let container = created(resources.clone());
        for (file, value) in files {
            assert_eq!(read(&container, file), value, "{file} of {resources}");
        }
    }
}

fn shares_are_a_weight() {
    assert_eq!(
        read(&created(json!({"cpu": {"shares": 1024}})), "cpu.weight"),
        "100"
    );
}

fn an_idle_container() {
    let container = created(json!({"cpu": {"idle": 1, "shares": 512}}));
    assert_eq!(read(&container, "cpu.idle"), "1");
}

/// Every setting of the cgroup: what its owner may write and read, but for what lives.
fn settings(directory: &Path) -> BTreeMap<String, String> {
    let living = [
        "cgroup.procs",
        "cgroup.threads",
        "cgroup.pressure",
        "memory.reclaim",
        // Linux 6.12 lets them be reset.
        "memory.peak",
        "memory.swap.peak",
    ];
    let entries = fs::read_dir(directory).unwrap().flatten();
    let files = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&entry.metadata().ok()?.permissions());
        let is_setting = mode & 0o600 == 0o600 && !living.contains(&name.as_str());
        (is_setting && !name.ends_with(".pressure"))
            .then(|| fs::read_to_string(entry.path()).ok())?
            .map(|text| (name, text))
    });
    files.collect()
}

fn files_are_those_of(peer: &str) {
    let program = program_in_path(peer).unwrap();
    for (resources, _) in sections() {
        let container = created(resources.clone());
        let ours = settings(&container.bundle.cgroup().unified());
        container
            .command("delete")
            .args(["--force", &container.id])
            .finish()
            .ok();
        let peers = |verb: &str| {
            Invocation::new(&program)
                .arg("--root")
                .arg(container.file("peer"))
                .arg(verb)
        };
        peers("create")
            .arg("--bundle")
            .arg(container.bundle.path())
            .arg(&container.id)
            .finish()
            .ok();
        let theirs = settings(&container.bundle.cgroup().unified());
        peers("delete")
            .args(["--force", &container.id])
            .finish()
            .ok();
        assert_eq!(ours, theirs, "{resources}");
        assert!(ours.len() > 10, "{ours:?}");
    }
}

fn files_are_those_of_runc() {
    files_are_those_of("runc");
}

fn files_are_those_of_crun() {
    files_are_those_of("crun");
}

fn what_has_no_file_is_an_error() {
    for (resources, words) in [
        (
            json!({"memory": {"swappiness": 3}}),
            "/linux/resources/memory/swappiness",
        ),
        (
            json!({"unified": {"nothing.here": "1"}}),
            "the controller nothing is not available",
        ),
        (json!({"cpu": {"period": 1}}), "cpu.max"),
        (
            json!({"unified": {"memory/max": "1"}}),
            "/linux/resources/unified/memory~1max",
        ),
    ] {
        let container = limited(resources).container();
        container.run().fails(1, words);
        assert_eq!(
            container.bundle.cgroup().existing(),
            Vec::<PathBuf>::new(),
            "{words}"
        );
    }
}

fn memory_in_force() {
    let container = limited(json!({"memory": {"limit": 24 << 20, "swap": 24 << 20}}));
    let run = container.probe(&["allocate", "200"]).container().run();
    assert_eq!(run.code(), 128 + 9, "{run}");
}

fn pids_in_force() {
    let container = limited(json!({"pids": {"limit": 3}}));
    let run = container.probe(&["fork", "5"]).container().run();
    assert!(run.stdout().contains("EAGAIN"), "{run}");
}

/// The cgroup that the kernel says a process is in.
fn cgroup_of(pid: i32) -> String {
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    table.trim_end().trim_start_matches("0::").to_owned()
}

fn the_process_is_in_the_cgroup_of_the_configuration() {
    let container = created(json!({"pids": {"limit": 10}}));
    assert_eq!(cgroup_of(container.pid()), container.bundle.cgroup().path());
}

fn exec_is_in_the_same_cgroup() {
    let container = created(json!({"pids": {"limit": 10}}));
    container.start().ok();
    let report = container.exec(&["report"]).ok().value();
    let own = format!("0::{}", container.bundle.cgroup().path());
    assert_eq!(report["cgroup"], json!([own]));
}

fn exec_into_a_cgroup_below() {
    let container = created(json!({}));
    container.start().ok();
    let below = container.bundle.cgroup().unified().join("below");
    fs::create_dir(&below).unwrap();
    let report = container
        .exec_with(&["--cgroup", "below"], &["report"])
        .ok();
    let own = format!("0::{}/below", container.bundle.cgroup().path());
    assert_eq!(report.value()["cgroup"], json!([own]));
    container
        .exec_with(&["--cgroup", "../below"], &["report"])
        .fails(255, "sub cgroup");
    container
        .exec_with(&["--cgroup", "missing"], &["report"])
        .fails(255, "missing");
}

/// A container that manages cgroups itself keeps its processes below its own, which then takes none.
fn exec_follows_the_first_process_down() {
    let container = created(json!({}));
    container.start().ok();
    let own = container.bundle.cgroup().unified();
    let below = own.join("init");
    fs::create_dir(&below).unwrap();
    fs::write(below.join("cgroup.procs"), container.pid().to_string()).unwrap();
    fs::write(own.join("cgroup.subtree_control"), "+pids").unwrap();
    let report = container.exec(&["report"]).ok().value();
    let expected = format!("0::{}/init", container.bundle.cgroup().path());
    assert_eq!(report["cgroup"], json!([expected]));
}

fn nothing_is_left_after_delete() {
    let container = created(json!({"memory": {"limit": 64 << 20}}));
    container.start().ok();
    let below = container.bundle.cgroup().unified().join("below/deep");
    fs::create_dir_all(below).unwrap();
    container
        .command("delete")
        .args(["--force", &container.id])
        .finish()
        .ok();
    assert_eq!(container.bundle.cgroup().existing(), Vec::<PathBuf>::new());
}

fn pause_freezes() {
    let container = created(json!({}));
    container.start().ok();
    container.verb("pause").ok();
    assert_eq!(read(&container, "cgroup.freeze"), "1");
    assert!(read(&container, "cgroup.events").contains("frozen 1"));
    assert_eq!(container.status(), "paused");
    container.verb("resume").ok();
    assert!(read(&container, "cgroup.events").contains("frozen 0"));
    assert_eq!(container.status(), "running");
}

fn a_frozen_cgroup_is_refused() {
    let container = Bundle::new().container();
    let directory = container.bundle.cgroup().unified();
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("cgroup.freeze"), "1").unwrap();
    container
        .run()
        .fails(1, "container's cgroup unexpectedly frozen");
}

fn a_cgroup_that_is_not_empty_is_refused() {
    let first = created(json!({}));
    let second = Bundle::new()
        .set("/linux/cgroupsPath", first.bundle.cgroup().path())
        .container();
    second
        .run()
        .fails(1, "container's cgroup is not empty: 1 process(es) found");
    assert_eq!(first.status(), "created");
}

fn a_relative_path_is_beside_the_callers() {
    let bundle = Bundle::new();
    let path = bundle.cgroup().path().trim_start_matches('/').to_owned();
    let report = bundle
        .set("/linux/cgroupsPath", path.as_str())
        .probe(&["report"])
        .container()
        .run()
        .ok()
        .value();
    let own = report["cgroup"][0].as_str().unwrap();
    assert!(own.ends_with(&path), "{own}");
}

fn a_cgroup_mount_in_a_cgroup_namespace() {
    let bundle = Bundle::new().namespace(json!({"type": "cgroup"}));
    let steps = ["report", ",", "read", "/sys/fs/cgroup/cgroup.procs"];
    let found = bundle.probe(&steps).container().run().ok().values();
    let mounts = found[0]["mounts"].as_array().unwrap();
    let own = mounts
        .iter()
        .find(|mount| mount["at"] == "/sys/fs/cgroup")
        .unwrap();
    assert_eq!(
        (&own["type"], &own["root"]),
        (&json!("cgroup2"), &json!("/"))
    );
    assert_eq!(found[1], "1\n");
}

fn without_a_namespace_only_the_own_cgroup_is_shown() {
    let steps = [
        "report",
        ",",
        "read",
        "/sys/fs/cgroup/cgroup.procs",
        ",",
        "write",
        "/sys/fs/cgroup/pids.max",
        "1",
    ];
    let container = Bundle::new().probe(&steps).container();
    let found = container.run().values();
    let mounts = found[0]["mounts"].as_array().unwrap();
    let own = mounts
        .iter()
        .find(|mount| mount["at"] == "/sys/fs/cgroup")
        .unwrap();
    assert_eq!(own["root"], container.bundle.cgroup().path());
    assert_eq!(
        (&found[1], &found[2]),
        (&json!("1\n"), &json!({"errno": "EROFS"}))
    );
}

/// A user namespace that owns its cgroup can make others below it, and sets no limits of its own.
fn a_cgroup_of_its_own_belongs_to_the_user_namespace() {
    let bundle = Bundle::new()
        .namespace(json!({"type": "user"}))
        .namespace(json!({"type": "cgroup"}))
        .set(
            "/linux/uidMappings",
            json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]),
        )
        .set(
            "/linux/gidMappings",
            json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]),
        );
    let mut bundle = bundle;
    for mount in bundle.spec["mounts"].as_array_mut().unwrap() {
        if mount["type"] == "cgroup" {
            mount["options"] = json!(["nosuid", "noexec", "nodev", "rw"]);
        }
    }
    let container = bundle.probe(&["pause"]).container();
    container.create().ok();
    let owner = |file: &str| {
        let path = container.bundle.cgroup().unified().join(file);
        std::os::unix::fs::MetadataExt::uid(&fs::metadata(path).unwrap())
    };
    for (file, uid) in [
        ("", 100_000),
        ("cgroup.procs", 100_000),
        ("cgroup.subtree_control", 100_000),
        ("memory.max", 0),
    ] {
        assert_eq!(owner(file), uid, "{file:?}");
    }
}

fn killed_for_memory_at_the_start() {
    let container = limited(json!({"memory": {"limit": 4096, "swap": 4096}})).container();
    let run = container.run();
    assert_ne!(run.code(), 0);
    eventually("nothing left", || {
        container.bundle.cgroup().existing().is_empty()
    });
}

suite! {
    &[Need::Root, Need::CgroupV2("memory"), Need::Cgroup("cpuset")] => [
        limits_are_in_their_files,
        memory_in_force,
        killed_for_memory_at_the_start,
        nothing_is_left_after_delete,
    ],
    &[Need::Root, Need::CgroupV2("memory"), Need::NotRunc("1.1.5 does so with systemd alone")] => [
        a_cgroup_of_its_own_belongs_to_the_user_namespace,
    ],
    &[Need::Root, Need::CgroupV2("cpu"), Need::NotRunc("1.1.5 has the older formula")] => [shares_are_a_weight],
    &[Need::Root, Need::CgroupV2("cpu"), Need::NotRunc("1.1.5 writes a weight to an idle cgroup")] => [
        an_idle_container,
    ],
    &[Need::Root, Need::CgroupV2("memory"), Need::Cgroup("cpuset"), Need::Program("runc"), Need::Ocirun] => [
        files_are_those_of_runc,
    ],
    &[Need::Root, Need::CgroupV2("memory"), Need::Cgroup("cpuset"), Need::Program("crun"), Need::Ocirun] => [
        files_are_those_of_crun,
    ],
    &[Need::Root, Need::CgroupV2("cpu"), Need::Ocirun] => [what_has_no_file_is_an_error],
    &[Need::Root, Need::CgroupV2("pids")] => [
        pids_in_force,
        the_process_is_in_the_cgroup_of_the_configuration,
        exec_is_in_the_same_cgroup,
        exec_into_a_cgroup_below,
        exec_follows_the_first_process_down,
        pause_freezes,
        a_frozen_cgroup_is_refused,
        a_relative_path_is_beside_the_callers,
        a_cgroup_mount_in_a_cgroup_namespace,
    ],
    &[Need::Root, Need::CgroupV2("pids"), Need::NotRunc("1.1.5 shows the whole tree")] => [
        without_a_namespace_only_the_own_cgroup_is_shown,
    ],
    &[Need::Root, Need::CgroupV2("pids"), Need::NotRunc("1.1.5 only warns")] => [
        a_cgroup_that_is_not_empty_is_refused,
    ],
}
