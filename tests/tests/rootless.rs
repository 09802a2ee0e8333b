//! Containers of an ordinary user: `runc spec --rootless`, no cgroups, one mapped id. As root the tests call the
//! runtime as user 1000, otherwise as who runs them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{getegid, geteuid};
use ocirun_tests::{
    Bundle, Container, Invocation, Need, differs_on_runc, eventually, probe_program,
    program_in_path, rootless_spec, subordinate_ids, suite,
};
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

/// Who joins is out of the caller's reach, and has its score all the same.
fn exec_takes_the_score_of_the_configuration() {
    let bundle = bundle().set("/process/oomScoreAdj", 500);
    let container = owned(bundle.probe(&["pause"]));
    container.run_until_ready_detached();
    let report = container.exec(&["report"]).ok().value();
    assert_eq!(report["oom_score_adj"], "500", "{report}");
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

/// The cgroup of a container's first process, in the file system.
fn cgroup_of(container: &Container) -> PathBuf {
    let table = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    Path::new("/sys/fs/cgroup").join(table.trim_end().trim_start_matches("0::/"))
}

fn limited() -> Bundle {
    let resources = json!({"memory": {"limit": 48 << 20}, "pids": {"limit": 9}});
    bundle()
        .set("/linux/resources", resources)
        .probe(&["pause"])
}

fn a_limit_where_the_cgroup_is_delegated() {
    let container = limited().container();
    container.run_until_ready_detached();
    let cgroup = cgroup_of(&container);
    let read = |file: &str| fs::read_to_string(cgroup.join(file)).unwrap();
    assert_eq!(
        (read("memory.max").trim(), read("pids.max").trim()),
        ("50331648", "9")
    );
    let report = container.exec(&["report"]).ok().value();
    let own = report["cgroup"][0].as_str().unwrap().to_owned();
    assert!(own.ends_with(&container.id), "{own}");
    container
        .command("delete")
        .args(["--force", &container.id])
        .finish()
        .ok();
    assert!(!cgroup.exists());
}

fn a_limit_in_force_where_the_cgroup_is_delegated() {
    let run = limited().probe(&["allocate", "200"]).container().run();
    assert_eq!(run.code(), 128 + 9, "{run}");
}

fn a_limit_without_delegation_is_an_error() {
    let container = owned(limited());
    container
        .run()
        .fails(1, "unable to apply cgroup configuration");
    container.verb("state").fails(1, "container does not exist");
}

fn pause_and_resume_where_the_cgroup_is_delegated() {
    let container = limited().container();
    container.run_until_ready_detached();
    container.verb("pause").ok();
    let freeze = cgroup_of(&container).join("cgroup.freeze");
    assert_eq!(fs::read_to_string(freeze).unwrap(), "1\n");
    assert_eq!(container.status(), "paused");
    container.verb("resume").ok();
    assert_eq!(container.status(), "running");
}

/// A property of a unit of the user's systemd.
fn unit_property(unit: &str, name: &str) -> String {
    let show = Invocation::new(&program_in_path("systemctl").unwrap())
        .args(["--user", "show", "--value", "--property", name, unit])
        .finish()
        .ok();
    show.stdout().trim_end().to_owned()
}

/// The user's own systemd makes the unit.
fn a_limit_by_the_users_systemd() {
    let mut container = limited().container();
    let path = format!(":ocirun_tests:{}", container.id);
    container.bundle.spec["linux"]["cgroupsPath"] = path.into();
    container.bundle.write();
    let by_systemd = |verb: &str| container.runtime().arg("--systemd-cgroup").arg(verb);
    by_systemd("create")
        .arg("--bundle")
        .arg(container.bundle.path())
        .arg(&container.id)
        .finish()
        .ok();
    container.start().ok();
    let cgroup = cgroup_of(&container);
    let name = format!("ocirun_tests-{}.scope", container.id);
    let unit = format!("user.slice/{name}");
    assert!(cgroup.ends_with(&unit), "{cgroup:?}");
    assert_eq!(unit_property(&name, "MemoryMax"), "50331648");
    assert_eq!(unit_property(&name, "TasksMax"), "9");
    assert_eq!(
        fs::read_to_string(cgroup.join("memory.max")).unwrap(),
        "50331648\n"
    );
    let report = container.exec(&["report"]).ok().value();
    assert!(
        report["cgroup"][0].as_str().unwrap().ends_with(&unit),
        "{report}"
    );
    by_systemd("delete")
        .args(["--force", &container.id])
        .finish()
        .ok();
    eventually("no cgroup", || !cgroup.exists());
    eventually("no unit", || {
        unit_property(&name, "LoadState") == "not-found"
    });
}

/// Who logs in by ssh is in a part of the hierarchy that is not the user's own: systemd moves what is started.
fn exec_from_outside_of_the_users_part() {
    let mut container = owned(bundle().probe(&["pause"]));
    container.bundle.spec["linux"]["cgroupsPath"] = format!(":outside:{}", container.id).into();
    container.bundle.write();
    let call = |verb: &str| {
        let runtime = container.runtime().env("XDG_RUNTIME_DIR", "/run/user/1000");
        runtime.arg("--systemd-cgroup").arg(verb)
    };
    call("create")
        .arg("--bundle")
        .arg(container.bundle.path())
        .arg(&container.id)
        .finish()
        .ok();
    call("start").arg(&container.id).finish().ok();
    let unit = format!("user.slice/outside-{}.scope", container.id);
    let cgroup = cgroup_of(&container);
    assert!(cgroup.ends_with(&unit), "{cgroup:?}");
    let members = || fs::read_to_string(cgroup.join("cgroup.procs")).unwrap();
    let before = members().lines().count();
    let (program, pid_file) = (ocirun_tests::PROBE, container.file("pid"));
    call("exec")
        .args(["--detach", "--pid-file"])
        .arg(&pid_file)
        .args([&container.id, program, "pause"])
        .finish()
        .ok();
    let pid = fs::read_to_string(pid_file).unwrap();
    let members = members();
    assert!(
        members.lines().any(|member| member == pid.trim()),
        "{pid} in {members}"
    );
    assert_eq!(members.lines().count(), before + 1);
    call("delete")
        .args(["--force", &container.id])
        .finish()
        .ok();
    eventually("no cgroup", || !cgroup.exists());
}

fn subordinate_ids_are_mapped() {
    let (first, count) = subordinate_ids().unwrap();
    let (uid, gid) = ids();
    let map = |own: u32| {
        json!([
            {"containerID": 0, "hostID": own, "size": 1},
            {"containerID": 1, "hostID": first, "size": count},
        ])
    };
    let mut user = json!({"uid": 5, "gid": 6});
    let groups = if differs_on_runc("1.1.5 refuses groups without root, and keeps the caller's") {
        json!([0])
    } else {
        user["additionalGids"] = json!([7]);
        json!([7])
    };
    let container = bundle()
        .set("/linux/uidMappings", map(uid))
        .set("/linux/gidMappings", map(gid))
        .set("/process/user", user)
        .probe(&["report"])
        .container();
    let report = container.run().ok().value();
    assert_eq!(report["uid_map"], json!([[0, uid, 1], [1, first, count]]));
    assert_eq!(
        (&report["uids"], &report["groups"]),
        (&json!([5, 5, 5, 5]), &groups)
    );
}

fn ids_that_are_not_subordinate_are_refused() {
    let map = json!([
        {"containerID": 0, "hostID": ids().0, "size": 1},
        {"containerID": 1, "hostID": 1, "size": 10},
    ]);
    let container = bundle().set("/linux/uidMappings", map).container();
    container.run().fails(1, "newuidmap");
}

fn a_given_network_namespace() {
    let mut holder = Invocation::new(&program_in_path("unshare").unwrap())
        .args(["--map-root-user", "--net"])
        .arg(probe_program())
        .args(["pause"])
        .start();
    eventually("ready", || {
        holder.stdout().contains("ready") || holder.ended()
    });
    let path = |kind: &str| format!("/proc/{}/ns/{kind}", holder.pid());
    let container = bundle()
        .without_namespace("user")
        .remove("/linux/uidMappings")
        .remove("/linux/gidMappings")
        .namespace(json!({"type": "user", "path": path("user")}))
        .namespace(json!({"type": "network", "path": path("net")}))
        .probe(&["report"])
        .container();
    let report = container.run().ok().value();
    assert_eq!(report["interfaces"], json!(["lo"]));
}

suite! {
    &[Need::Delegated("memory")] => [
        a_limit_where_the_cgroup_is_delegated,
        a_limit_in_force_where_the_cgroup_is_delegated,
        pause_and_resume_where_the_cgroup_is_delegated,
    ],
    &[Need::Root, Need::UserNamespace, Need::NotRunc("1.1.5 says otherwise")] => [
        a_limit_without_delegation_is_an_error,
    ],
    &[Need::Delegated("memory"), Need::UserSystemd] => [a_limit_by_the_users_systemd],
    &[Need::OthersSystemd, Need::UserNamespace, Need::NotRunc("1.1.5 leaves the process outside")] => [
        exec_from_outside_of_the_users_part,
    ],
    &[Need::UserNamespace, Need::SubordinateIds] => [
        subordinate_ids_are_mapped,
        ids_that_are_not_subordinate_are_refused,
    ],
    &[
        Need::UserNamespace,
        Need::SubordinateIds,
        Need::Program("unshare"),
        Need::NotRunc("1.1.5 wants maps for a joined user namespace"),
    ] => [a_given_network_namespace],
    &[Need::UserNamespace] => [
        run_as_an_ordinary_user,
        exec_takes_the_score_of_the_configuration,
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
