//! Namespaces: new ones, the caller's, those joined by path, user namespaces with maps, host and domain name.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use ocirun_tests::{Bundle, Container, Need, suite};
use serde_json::{Value, json};

/// Name in config.json and name in /proc/self/ns.
const KINDS: [(&str, &str); 6] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
];

fn host(name: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{name}"))
        .unwrap()
        .to_string_lossy()
        .into_owned()
}

fn report(bundle: Bundle) -> Value {
    bundle.probe(&["report"]).container().run().ok().value()
}

/// A container that only holds its namespaces.
fn holder() -> Container {
    let container = Bundle::new()
        .namespace(json!({"type": "cgroup"}))
        .probe(&["pause"])
        .container();
    container.run_detached().ok();
    container
}

fn join(bundle: Bundle, holder: &Container, kind: &str, name: &str) -> Bundle {
    let path = format!("/proc/{}/ns/{name}", holder.pid());
    bundle
        .without_namespace(kind)
        .namespace(json!({"type": kind, "path": path}))
}

fn listed_ones_are_new() {
    let report = report(Bundle::new().namespace(json!({"type": "cgroup"})));
    for (kind, name) in KINDS {
        assert_ne!(report["namespaces"][name], host(name), "{kind}");
    }
    assert_eq!(report["namespaces"]["user"], host("user"));
}

fn those_not_listed_are_the_callers() {
    let bundle = Bundle::new()
        .without_namespace("network")
        .without_namespace("ipc")
        .remove("/hostname");
    let report = report(bundle.without_namespace("uts").without_namespace("pid"));
    for name in ["net", "ipc", "uts", "pid", "cgroup", "user"] {
        assert_eq!(report["namespaces"][name], host(name), "{name}");
    }
    assert_ne!(report["namespaces"]["mnt"], host("mnt"));
}

fn each_is_joined_by_path() {
    let holder = holder();
    for (kind, name) in KINDS {
        if kind == "mount" || kind == "cgroup" {
            continue;
        }
        let mut bundle = join(Bundle::new(), &holder, kind, name);
        if kind == "uts" {
            bundle = bundle.remove("/hostname");
        }
        let inside = fs::read_link(format!("/proc/{}/ns/{name}", holder.pid())).unwrap();
        assert_eq!(
            report(bundle)["namespaces"][name],
            inside.to_str().unwrap(),
            "{kind}"
        );
    }
}

fn a_joined_pid_namespace_has_its_own_first_process() {
    let holder = holder();
    let report = report(join(Bundle::new(), &holder, "pid", "pid"));
    assert_ne!(report["pid"], 1);
    assert_eq!(holder.status(), "running");
}

fn a_container_in_a_joined_pid_namespace_can_be_managed() {
    let holder = holder();
    let container = join(Bundle::new(), &holder, "pid", "pid")
        .probe(&["trap"])
        .container();
    let create = container.create().ok();
    assert_eq!(container.status(), "created");
    container.start().ok();
    ocirun_tests::eventually("ready", || create.stdout().contains("ready"));
    container.kill("TERM").ok();
    container.wait_for_status("stopped");
    container.delete().ok();
    assert_eq!(holder.status(), "running");
}

/// Who is there may trace, and keep what tells that a newcomer's program has begun from being closed.
fn nobody_in_a_joined_pid_namespace_holds_a_newcomer_up() {
    let holder = Bundle::new()
        .capabilities(&["CAP_SYS_PTRACE"])
        .set("/root/readonly", false)
        .probe(&["print", "ready", ",", "hold", "/stop"])
        .container();
    let run = holder.run_until_ready();
    for _ in 0..5 {
        let newcomer = join(Bundle::new(), &holder, "pid", "pid");
        let newcomer = newcomer.probe(&["exit", "7"]).container();
        newcomer.run().fails(7, "");
    }
    fs::write(holder.bundle.inside("/stop"), "").unwrap();
    let told = run.finish().ok().values();
    assert!(told[1]["held"].as_u64().unwrap() > 0, "{}", told[1]);
}

fn all_joined_at_once() {
    let holder = holder();
    let mut bundle = Bundle::new().remove("/hostname");
    for (kind, name) in [
        ("pid", "pid"),
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
    ] {
        bundle = join(bundle, &holder, kind, name);
    }
    let report = report(bundle);
    assert_eq!(report["hostname"], "runc", "the holder's");
    for name in ["pid", "net", "ipc", "uts"] {
        let inside = fs::read_link(format!("/proc/{}/ns/{name}", holder.pid())).unwrap();
        assert_eq!(report["namespaces"][name], inside.to_str().unwrap());
    }
}

fn a_namespace_held_by_a_bind_mount() {
    let holder = holder();
    let container = Bundle::new().container();
    let file = container.file("netns");
    fs::write(&file, "").unwrap();
    let source = format!("/proc/{}/ns/net", holder.pid());
    let flags = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(
        Some(source.as_str()),
        &file,
        None::<&str>,
        flags,
        None::<&str>,
    )
    .unwrap();
    let inside = fs::read_link(&source).unwrap();
    holder.kill("KILL").ok();
    let bundle = Bundle::new().without_namespace("network");
    let bundle = bundle.namespace(json!({"type": "network", "path": file}));
    assert_eq!(
        report(bundle)["namespaces"]["net"],
        inside.to_str().unwrap()
    );
}

fn a_path_that_is_no_namespace() {
    for path in ["/proc/self/ns/nosuch", "/etc/passwd", "/", "relative"] {
        let bundle = Bundle::new().without_namespace("network");
        let container = bundle
            .namespace(json!({"type": "network", "path": path}))
            .container();
        container.run().fails(1, "");
        container.verb("state").fails(1, "container does not exist");
        assert_eq!(
            container.bundle.cgroup().existing(),
            Vec::<std::path::PathBuf>::new()
        );
    }
}

fn a_namespace_listed_twice_is_refused() {
    let bundle = Bundle::new().namespace(json!({"type": "uts"}));
    bundle.container().run().fails(1, "");
}

fn an_unknown_kind_is_refused() {
    Bundle::new()
        .namespace(json!({"type": "nosuch"}))
        .container()
        .run()
        .fails(1, "nosuch");
}

fn host_and_domain_name() {
    let found = report(Bundle::new().set("/hostname", "some-host"));
    assert_eq!(found["hostname"], "some-host");
    let outside = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_ne!(outside.trim(), "some-host");
}

fn domain_name() {
    assert_eq!(
        report(Bundle::new().set("/domainname", "example.org"))["domainname"],
        "example.org"
    );
}

fn host_name_needs_an_uts_namespace() {
    Bundle::new()
        .without_namespace("uts")
        .container()
        .run()
        .fails(1, "UTS");
}

fn the_new_network_has_loopback_up() {
    let run = Bundle::new()
        .probe(&["report", ",", "read", "/sys/class/net/lo/flags"])
        .container()
        .run()
        .ok();
    assert_eq!(run.values()[0]["interfaces"], json!(["lo"]));
    assert_eq!(run.values()[1], "0x9\n", "IFF_UP and IFF_LOOPBACK");
}

fn the_cgroup_namespace_hides_the_path() {
    let report = report(Bundle::new().namespace(json!({"type": "cgroup"})));
    let lines = report["cgroup"].as_array().unwrap();
    let pids = lines
        .iter()
        .filter_map(Value::as_str)
        .find(|line| line.contains(":pids:") || line.starts_with("0::"))
        .unwrap();
    assert!(pids.ends_with(":/"), "{pids}");
}

fn in_user_namespace(uid: u32, gid: u32) -> Bundle {
    let bundle = Bundle::new().namespace(json!({"type": "user"}));
    for path in [
        "",
        "rootfs",
        "rootfs/bin",
        "rootfs/dev",
        "rootfs/proc",
        "rootfs/sys",
        "rootfs/tmp",
        "rootfs/etc",
    ] {
        std::os::unix::fs::chown(bundle.path().join(path), Some(uid), Some(gid)).unwrap();
    }
    bundle
        .set(
            "/linux/uidMappings",
            json!([{"containerID": 0, "hostID": uid, "size": 1000}]),
        )
        .set(
            "/linux/gidMappings",
            json!([{"containerID": 0, "hostID": gid, "size": 2000}]),
        )
}

fn a_user_namespace_maps_ids() {
    let report = report(in_user_namespace(200_000, 300_000));
    assert_eq!(report["uid_map"], json!([[0, 200_000, 1000]]));
    assert_eq!(report["gid_map"], json!([[0, 300_000, 2000]]));
    assert_eq!(report["uids"], json!([0, 0, 0, 0]));
    assert_ne!(report["namespaces"]["user"], host("user"));
    assert_eq!(report["setgroups"], "allow");
}

fn a_user_namespace_maps_several_ranges() {
    let bundle = in_user_namespace(200_000, 300_000).set(
        "/linux/uidMappings",
        json!([
            {"containerID": 0, "hostID": 200_000, "size": 10},
            {"containerID": 10, "hostID": 400_000, "size": 90},
        ]),
    );
    let bundle = bundle.set(
        "/process/user",
        json!({"uid": 11, "gid": 5, "additionalGids": [7, 9]}),
    );
    let report = report(bundle);
    assert_eq!(
        report["uid_map"],
        json!([[0, 200_000, 10], [10, 400_000, 90]])
    );
    assert_eq!(
        (&report["uids"][0], &report["groups"]),
        (&json!(11), &json!([7, 9]))
    );
}

fn a_container_in_a_user_namespace_is_seen_from_outside() {
    let container = in_user_namespace(200_000, 300_000)
        .probe(&["pause"])
        .container();
    container.create().ok();
    let fifo = container.state_root().join(&container.id).join("exec.fifo");
    let meta = fs::metadata(fifo).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&meta), 200_000);
    container.start().ok();
    let status = fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
    let uids = status
        .lines()
        .find(|line| line.starts_with("Uid:"))
        .unwrap();
    assert_eq!(
        uids.split_whitespace().skip(1).collect::<Vec<&str>>(),
        ["200000"; 4]
    );
    assert_eq!(container.exec(&["report"]).ok().value()["uids"][0], 0);
    container.kill("KILL").ok();
    container.wait_for_status("stopped");
}

fn a_user_namespace_needs_maps() {
    Bundle::new()
        .namespace(json!({"type": "user"}))
        .container()
        .run()
        .fails(1, "");
}

fn maps_need_a_user_namespace() {
    let maps = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    Bundle::new()
        .set("/linux/uidMappings", maps)
        .container()
        .run()
        .fails(1, "");
}

fn a_user_namespace_is_joined_by_path() {
    let holder = in_user_namespace(200_000, 300_000)
        .probe(&["pause"])
        .container();
    holder.run_detached().ok();
    let bundle = in_user_namespace(200_000, 300_000);
    let bundle = if ocirun_tests::differs_on_runc("1.1.5 wants the maps beside the path") {
        bundle
    } else {
        bundle
            .remove("/linux/uidMappings")
            .remove("/linux/gidMappings")
    };
    let report = report(join(bundle, &holder, "user", "user"));
    assert_eq!(report["uid_map"], json!([[0, 200_000, 1000]]));
    let inside = fs::read_link(format!("/proc/{}/ns/user", holder.pid())).unwrap();
    assert_eq!(report["namespaces"]["user"], inside.to_str().unwrap());
}

fn time_namespace_with_offsets() {
    let bundle = Bundle::new().namespace(json!({"type": "time"})).set(
        "/linux/timeOffsets",
        json!({"monotonic": {"secs": 7881, "nanosecs": 2_718_281}, "boottime": {"secs": 1337, "nanosecs": 3}}),
    );
    let run = bundle
        .probe(&["report", ",", "read", "/proc/self/timens_offsets"])
        .container()
        .run()
        .ok();
    assert_ne!(run.values()[0]["namespaces"]["time"], host("time"));
    let offsets = run.values()[1].as_str().unwrap().to_owned();
    let words: Vec<&str> = offsets.split_whitespace().collect();
    assert_eq!(
        words,
        ["monotonic", "7881", "2718281", "boottime", "1337", "3"]
    );
}

fn time_offsets_need_their_namespace() {
    let offsets = json!({"monotonic": {"secs": 1, "nanosecs": 0}});
    Bundle::new()
        .set("/linux/timeOffsets", offsets)
        .container()
        .run()
        .fails(1, "time");
}

suite! {
    &[Need::Root] => [
        listed_ones_are_new,
        those_not_listed_are_the_callers,
        each_is_joined_by_path,
        a_joined_pid_namespace_has_its_own_first_process,
        a_container_in_a_joined_pid_namespace_can_be_managed,
        all_joined_at_once,
        a_namespace_held_by_a_bind_mount,
        a_path_that_is_no_namespace,
        a_namespace_listed_twice_is_refused,
        an_unknown_kind_is_refused,
        host_and_domain_name,
        host_name_needs_an_uts_namespace,
        the_new_network_has_loopback_up,
    ],
    &[Need::Root, Need::Cgroup("pids")] => [the_cgroup_namespace_hides_the_path],
    &[Need::Root, Need::UserNamespace] => [
        a_user_namespace_maps_ids,
        a_user_namespace_maps_several_ranges,
        a_container_in_a_user_namespace_is_seen_from_outside,
        a_user_namespace_needs_maps,
        a_user_namespace_is_joined_by_path,
    ],
    &[Need::Root, Need::Ocirun] => [nobody_in_a_joined_pid_namespace_holds_a_newcomer_up],
    &[Need::Root, Need::NotRunc("1.1.5 has no domainname")] => [domain_name],
    &[Need::Root, Need::Namespace("time"), Need::NotRunc("1.1.5 has no time namespaces")] => [
        time_namespace_with_offsets,
        time_offsets_need_their_namespace,
    ],
    &[Need::Root, Need::NotRunc("1.1.5 ignores maps without their namespace")] => [maps_need_a_user_namespace],
}
