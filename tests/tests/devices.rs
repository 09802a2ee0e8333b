//! Device nodes: the default /dev, those of the configuration, and what the device cgroup lets through.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use ocirun_tests::{Bundle, Need, suite};
use serde_json::{Value, json};

fn steps(bundle: Bundle, steps: &[&str]) -> Vec<Value> {
    let run = bundle.probe(steps).container().run();
    run.values()
}

fn default_devices() {
    let expected = [
        ("/dev/null", 1, 3),
        ("/dev/zero", 1, 5),
        ("/dev/full", 1, 7),
        ("/dev/random", 1, 8),
        ("/dev/urandom", 1, 9),
        ("/dev/tty", 5, 0),
    ];
    for (path, major, minor) in expected {
        let found = &steps(Bundle::new(), &["stat", path])[0];
        assert_eq!(
            (&found["type"], &found["mode"]),
            (&json!("character"), &json!("0666")),
            "{path}"
        );
        assert_eq!(
            (&found["major"], &found["minor"]),
            (&json!(major), &json!(minor)),
            "{path}"
        );
        assert_eq!(
            (&found["uid"], &found["gid"]),
            (&json!(0), &json!(0)),
            "{path}"
        );
    }
}

fn default_links() {
    let expected = [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/dev/ptmx", "pts/ptmx"),
    ];
    for (path, target) in expected {
        let found = &steps(Bundle::new(), &["stat", path])[0];
        assert_eq!(
            (&found["type"], &found["target"]),
            (&json!("link"), &json!(target)),
            "{path}"
        );
    }
}

fn nothing_else_is_in_dev() {
    let mut expected = vec![
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
        "stdout", "tty", "urandom", "zero",
    ];
    if fs::exists("/proc/kcore").unwrap() {
        expected.insert(1, "core");
        expected.sort_unstable();
    }
    let found = &steps(Bundle::new(), &["list", "/dev"])[0];
    assert_eq!(found, &json!(expected));
}

fn default_devices_work() {
    let found = steps(
        Bundle::new(),
        &[
            "write",
            "/dev/null",
            "x",
            ",",
            "read",
            "/dev/null",
            ",",
            "write",
            "/dev/full",
            "x",
            ",",
            "open",
            "/dev/urandom",
            ",",
            "read",
            "/dev/stdin",
        ],
    );
    assert_eq!(
        found,
        [
            json!("ok"),
            json!(""),
            json!({"errno": "ENOSPC"}),
            json!("ok"),
            json!("")
        ]
    );
}

fn devices_of_the_configuration() {
    let bundle = Bundle::new().set(
        "/linux/devices",
        json!([
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 3, "gid": 4},
            {"path": "/dev/below/deep/disk", "type": "b", "major": 7, "minor": 99, "fileMode": 0o600},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o644},
            {"path": "/dev/plain", "type": "u", "major": 1, "minor": 3},
        ]),
    );
    let found = steps(
        bundle,
        &[
            "stat",
            "/dev/fuse",
            ",",
            "stat",
            "/dev/below/deep/disk",
            ",",
            "stat",
            "/dev/pipe",
            ",",
            "stat",
            "/dev/plain",
        ],
    );
    let fields = |value: &Value| {
        json!([
            value["type"],
            value["mode"],
            value["uid"],
            value["gid"],
            value["major"],
            value["minor"]
        ])
    };
    assert_eq!(
        fields(&found[0]),
        json!(["character", "0640", 3, 4, 10, 229])
    );
    assert_eq!(fields(&found[1]), json!(["block", "0600", 0, 0, 7, 99]));
    assert_eq!(
        (&found[2]["type"], &found[2]["mode"]),
        (&json!("fifo"), &json!("0644"))
    );
    assert_eq!(
        (&found[3]["type"], &found[3]["minor"]),
        (&json!("character"), &json!(3))
    );
}

fn a_device_replaces_its_default() {
    let bundle = Bundle::new()
        .set(
            "/linux/devices",
            json!([{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600}]),
        )
        .set(
            "/linux/resources/devices/-",
            json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}),
        );
    let found = &steps(bundle, &["stat", "/dev/null"])[0];
    assert_eq!(found["mode"], "0600");
}

fn an_unknown_device_type_is_refused() {
    let bundle = Bundle::new().set(
        "/linux/devices",
        json!([{"path": "/dev/x", "type": "z", "major": 1, "minor": 1}]),
    );
    bundle.container().run().fails(1, "");
}

fn a_device_outside_dev_stays_inside_the_rootfs() {
    let bundle = Bundle::new().set("/root/readonly", false).set(
        "/linux/devices",
        json!([{"path": "/../../../../escaped/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]),
    );
    let container = bundle.probe(&["stat", "/escaped/null"]).container();
    let run = container.run();
    assert!(!fs::exists("/escaped").unwrap());
    if run.code() == 0 {
        assert_eq!(
            run.value()["type"],
            "character",
            "made inside, if it is not refused"
        );
    }
}

fn a_writable_node() -> Bundle {
    Bundle::new()
        .capabilities(&["CAP_MKNOD"])
        .set("/process/noNewPrivileges", false)
        .mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]}))
}

/// Opens a node of /dev/fuse for reading, then for both; the driver itself may be absent, which is no EPERM.
fn refusals(bundle: Bundle) -> [bool; 2] {
    let found = steps(
        bundle,
        &[
            "mknod",
            "/tmp/fuse",
            "c",
            "10",
            "229",
            ",",
            "open",
            "/tmp/fuse",
            ",",
            "open-rdwr",
            "/tmp/fuse",
        ],
    );
    assert_eq!(found[0], "ok");
    [
        found[1] == json!({"errno": "EPERM"}),
        found[2] == json!({"errno": "EPERM"}),
    ]
}

fn other_devices_can_be_made_but_not_opened() {
    assert_eq!(refusals(a_writable_node()), [true, true]);
    let found = steps(
        a_writable_node(),
        &[
            "mknod",
            "/tmp/null",
            "c",
            "1",
            "3",
            ",",
            "open",
            "/tmp/null",
        ],
    );
    assert_eq!(found, [json!("ok"), json!("ok")]);
}

fn a_rule_allows_one_device() {
    let rules = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"},
    ]);
    assert_eq!(
        refusals(a_writable_node().set("/linux/resources/devices", rules)),
        [false, true]
    );
}

fn a_rule_allows_a_whole_driver() {
    let rules = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "access": "rw"}]);
    assert_eq!(
        refusals(a_writable_node().set("/linux/resources/devices", rules)),
        [false, false]
    );
}

fn a_rule_takes_a_device_away() {
    let rules = json!([
        {"allow": true, "access": "rwm"},
        {"allow": false, "type": "c", "major": 10, "minor": 229, "access": "w"},
    ]);
    assert_eq!(
        refusals(a_writable_node().set("/linux/resources/devices", rules)),
        [false, true]
    );
}

fn a_rule_allows_everything() {
    let rules = json!([{"allow": true, "access": "rwm"}]);
    assert_eq!(
        refusals(a_writable_node().set("/linux/resources/devices", rules)),
        [false, false]
    );
}

fn without_the_capability_no_node_is_made() {
    let bundle =
        Bundle::new().mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
    let found = steps(bundle, &["mknod", "/tmp/null", "c", "1", "3"]);
    assert_eq!(found, [json!({"errno": "EPERM"})]);
}

/// CVE-2026-41579 and CVE-2026-47766: an image whose /dev is a link makes nothing on the host.
fn a_dev_that_is_a_link_leads_nowhere_outside() {
    let bundle = Bundle::new();
    let outside = bundle.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::remove_dir(bundle.inside("/dev")).unwrap();
    std::os::unix::fs::symlink(&outside, bundle.inside("/dev")).unwrap();
    let container = bundle.probe(&["report"]).container();
    let run = container.run();
    assert_eq!(
        fs::read_dir(container.file("outside")).unwrap().count(),
        0,
        "{run}"
    );
}

fn devices_without_a_mount_on_dev() {
    let mut bundle = Bundle::new().set("/root/readonly", false);
    let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    let container = bundle.probe(&["stat", "/dev/null"]).container();
    assert_eq!(container.run().ok().value()["type"], "character");
    assert!(fs::exists(container.bundle.inside("/dev/null")).unwrap());
}

fn a_user_namespace_gets_its_devices_by_bind_mount() {
    let bundle = Bundle::new()
        .namespace(json!({"type": "user"}))
        .set(
            "/linux/uidMappings",
            json!([{"containerID": 0, "hostID": 200_000, "size": 1000}]),
        )
        .set(
            "/linux/gidMappings",
            json!([{"containerID": 0, "hostID": 200_000, "size": 1000}]),
        );
    for path in ["rootfs", "rootfs/dev", "rootfs/proc", "rootfs/sys"] {
        std::os::unix::fs::chown(bundle.path().join(path), Some(200_000), Some(200_000)).unwrap();
    }
    let found = steps(
        bundle,
        &[
            "stat",
            "/dev/null",
            ",",
            "write",
            "/dev/null",
            "x",
            ",",
            "report",
        ],
    );
    assert_eq!(
        (&found[0]["type"], &found[1]),
        (&json!("character"), &json!("ok"))
    );
    let mounts = found[2]["mounts"].as_array().unwrap();
    assert!(mounts.iter().any(|mount| mount["at"] == "/dev/null"));
}

suite! {
    &[Need::Root] => [
        default_devices,
        default_links,
        nothing_else_is_in_dev,
        default_devices_work,
        devices_of_the_configuration,
        a_device_replaces_its_default,
        an_unknown_device_type_is_refused,
        a_device_outside_dev_stays_inside_the_rootfs,
        without_the_capability_no_node_is_made,
        devices_without_a_mount_on_dev,
    ],
    &[Need::Root, Need::Cgroup("devices")] => [
        other_devices_can_be_made_but_not_opened,
        a_rule_allows_one_device,
        a_rule_allows_a_whole_driver,
        a_rule_allows_everything,
        a_rule_takes_a_device_away,
    ],
    &[Need::Root, Need::UserNamespace] => [a_user_namespace_gets_its_devices_by_bind_mount],
    &[Need::Root, Need::NotRunc("1.1.5 is open to CVE-2026-41579")] => [a_dev_that_is_a_link_leads_nowhere_outside],
}
