//! Containers of an ordinary user: `runc spec --rootless`, no cgroups, one mapped id. As root the tests call the
//! runtime as user 1000, otherwise as who runs them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::unistd::{getegid, geteuid};
use ocirun_tests::{Bundle, Container, Need, eventually, rootless_spec, suite};
use serde_json::json;

fn ids() -> (u32, u32) {
    if geteuid().is_root() {
        (1000, 1000)
    } else {
        (geteuid().as_raw(), getegid().as_raw())
    }
}

fn bundle() -> Bundle {
    let (uid, gid) = ids();
    Bundle::from_spec(rootless_spec(uid, gid))
}

fn owned(bundle: Bundle) -> Container {
    let container = bundle.container();
    if geteuid().is_root() {
        let (uid, gid) = ids();
        return container.owned_by(uid, gid);
    }
    container
}

fn run_as_an_ordinary_user() {
    let container = owned(bundle().probe(&["report"]));
    let report = container.run().ok().value();
    assert_eq!(
        (&report["pid"], &report["uids"]),
        (&json!(1), &json!([0, 0, 0, 0]))
    );
    assert_eq!(report["uid_map"], json!([[0, ids().0, 1]]));
    assert_eq!(report["gid_map"], json!([[0, ids().1, 1]]));
    assert_eq!(
        (&report["setgroups"], &report["hostname"]),
        (&json!("deny"), &json!("runc"))
    );
    container.verb("state").fails(1, "container does not exist");
}

fn the_exit_code_comes_through() {
    assert_eq!(owned(bundle().probe(&["exit", "7"])).run().code(), 7);
}

fn the_whole_life() {
    let container = owned(bundle().probe(&["trap"]));
    let create = container.create().ok();
    assert_eq!(container.status(), "created");
    let owner = fs::metadata(format!("/proc/{}", container.pid()))
        .unwrap()
        .uid();
    assert!(owner == ids().0 || owner == 0, "{owner}");
    container.start().ok();
    eventually("ready", || create.stdout().contains("ready"));
    assert_eq!(container.exec(&["report"]).ok().value()["uids"][0], 0);
    assert_eq!(container.status(), "running");
    let list = container.command("list").arg("-q").finish().ok();
    assert_eq!(list.stdout(), format!("{}\n", container.id));
    container.kill("TERM").ok();
    container.wait_for_status("stopped");
    container.delete().ok();
    assert_eq!(fs::read_dir(container.state_root()).unwrap().count(), 0);
}

fn files_belong_to_the_user() {
    let container = owned(
        bundle()
            .set("/root/readonly", false)
            .probe(&["write", "/etc/new", "x"]),
    );
    container.run().ok();
    let meta = fs::metadata(container.bundle.inside("/etc/new")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), ids());
}

fn devices_work() {
    let container = owned(bundle().probe(&[
        "write",
        "/dev/null",
        "x",
        ",",
        "open",
        "/dev/urandom",
        ",",
        "list",
        "/dev/pts",
    ]));
    assert_eq!(
        container.run().ok().values(),
        [json!("ok"), json!("ok"), json!(["ptmx"])]
    );
}

fn mounts_are_what_was_asked_for() {
    let container = owned(bundle().probe(&[
        "report",
        ",",
        "write",
        "/etc/x",
        "y",
        ",",
        "write",
        "/proc/sysrq-trigger",
        "b",
    ]));
    let values = container.run().values();
    let has = |path: &str| {
        values[0]["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .any(|mount| mount["at"] == path)
    };
    assert!(has("/proc") && has("/sys") && has("/dev/shm") && has("/dev/mqueue"));
    assert_eq!(values[1], json!({"errno": "EROFS"}));
    assert_ne!(values[2], "ok");
}

fn an_unmapped_user_is_refused() {
    owned(bundle().set("/process/user", json!({"uid": 5, "gid": 5})))
        .run()
        .fails(1, "");
}

fn additional_groups_are_refused() {
    owned(bundle().set("/process/user/additionalGids", json!([5])))
        .run()
        .fails(1, "");
}

fn a_map_of_others_is_refused() {
    let maps = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    owned(bundle().set("/linux/uidMappings", maps))
        .run()
        .fails(1, "");
}

fn without_a_user_namespace_it_is_refused() {
    let bundle = bundle()
        .without_namespace("user")
        .remove("/linux/uidMappings")
        .remove("/linux/gidMappings");
    owned(bundle).run().fails(1, "");
}

fn no_new_network_is_needed() {
    let container = owned(
        bundle()
            .namespace(json!({"type": "network"}))
            .probe(&["report"]),
    );
    assert_eq!(container.run().ok().value()["interfaces"], json!(["lo"]));
}

fn seccomp_works() {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22}],
    });
    let container = owned(
        bundle()
            .set("/linux/seccomp", profile)
            .probe(&["syscall", "mkdir"]),
    );
    assert_eq!(container.run().value(), json!({"errno": "EINVAL"}));
}

fn a_terminal_works() {
    let container = owned(bundle().set("/process/terminal", true).probe(&["report"]));
    let (mut terminal, other_end) = ocirun_tests::Terminal::open(30, 100);
    let run = container.from_bundle("run", &[]).start_on(&other_end);
    assert_eq!(run.finish().code(), 0);
    eventually("a report", || terminal.screen().contains("/dev/pts/0"));
}

suite! {
    &[Need::UserNamespace] => [
        run_as_an_ordinary_user,
        the_exit_code_comes_through,
        the_whole_life,
        files_belong_to_the_user,
        devices_work,
        mounts_are_what_was_asked_for,
        an_unmapped_user_is_refused,
        additional_groups_are_refused,
        a_map_of_others_is_refused,
        without_a_user_namespace_it_is_refused,
        no_new_network_is_needed,
        seccomp_works,
        a_terminal_works,
    ],
}
