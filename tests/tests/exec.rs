//! exec: its flags, exit codes, a process from a file, descriptors, and containers that are not simply running.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use ocirun_tests::{Bundle, Container, Need, PROBE, differs_on_runc, eventually, suite};
use serde_json::{Value, json};

fn started(bundle: Bundle) -> Container {
    let container = bundle.probe(&["pause"]).container();
    container.run_detached().ok();
    container
}

fn running() -> Container {
    started(Bundle::new())
}

fn report(container: &Container, flags: &[&str]) -> Value {
    container.exec_with(flags, &["report"]).ok().value()
}

fn variables(report: &Value) -> Vec<&str> {
    report["env"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect()
}

fn exit_codes() {
    let container = running();
    assert_eq!(container.exec(&["exit", "0"]).code(), 0);
    assert_eq!(container.exec(&["exit", "42"]).code(), 42);
    assert_eq!(container.exec(&["exit", "255"]).code(), 255);
    assert_eq!(container.exec(&["raise", "SIGKILL"]).code(), 128 + 9);
    assert_eq!(container.exec(&["raise", "SIGUSR1"]).code(), 128 + 10);
    assert_eq!(container.status(), "running");
}

fn a_missing_program_is_255() {
    let container = running();
    let exec = |program: &str| {
        container
            .command("exec")
            .arg(&container.id)
            .arg(program)
            .finish()
    };
    exec("/no/such/program").fails(255, "no such file or directory");
    exec("nosuchprogram").fails(
        255,
        "exec: \"nosuchprogram\": executable file not found in $PATH",
    );
    exec("/etc").fails(255, "");
}

fn a_file_without_the_mode_is_255() {
    let bundle = Bundle::new();
    fs::write(bundle.inside("/etc/data"), "text").unwrap();
    let container = started(bundle);
    container
        .command("exec")
        .args([&container.id, "/etc/data"])
        .finish()
        .fails(255, "permission denied");
}

fn standard_streams() {
    let container = running();
    let call = container
        .exec_call(&[], &["print", "out", ",", "stderr", "err", ",", "cat"])
        .stdin("typed in");
    let exec = call.finish().ok();
    assert_eq!(exec.stdout(), "\"out\"\nnull\ntyped in{\"bytes\":8}\n");
    assert_eq!(exec.stderr(), "err\n");
}

fn it_is_in_every_namespace_of_the_container() {
    let container = started(Bundle::new().namespace(json!({"type": "cgroup"})));
    let report = report(&container, &[]);
    for (name, link) in report["namespaces"].as_object().unwrap() {
        let init = fs::read_link(format!("/proc/{}/ns/{name}", container.pid())).unwrap();
        assert_eq!(link, init.to_str().unwrap(), "{name}");
    }
    assert_eq!(report["hostname"], "runc");
    assert_ne!(report["pid"], 1);
}

fn the_process_of_the_configuration_is_the_ground() {
    let bundle = Bundle::new()
        .set("/process/env", json!(["PATH=/bin", "FROM=config"]))
        .set("/process/cwd", "/tmp")
        .set("/process/user", json!({"uid": 0, "gid": 0, "umask": 0o077}))
        .set("/process/oomScoreAdj", 300);
    let container = started(bundle);
    let report = report(&container, &[]);
    assert!(variables(&report).contains(&"FROM=config"));
    assert_eq!(report["cwd"], "/tmp");
    if !differs_on_runc("1.1.5 leaves the umask of its own") {
        assert_eq!(report["umask"], "0077");
    }
    assert_eq!(
        (&report["no_new_privs"], &report["oom_score_adj"]),
        (&json!("1"), &json!("300"))
    );
    assert_eq!(
        report["capabilities"]["bounding"],
        json!(["CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_AUDIT_WRITE"])
    );
}

fn env_adds_and_replaces() {
    let container =
        started(Bundle::new().set("/process/env", json!(["PATH=/bin", "A=config", "B=config"])));
    let report = report(&container, &["-e", "A=flag", "-e", "C=with = and space"]);
    let found = variables(&report);
    assert!(
        found.contains(&"A=flag") && !found.contains(&"A=config"),
        "{found:?}"
    );
    assert!(
        found.contains(&"B=config") && found.contains(&"C=with = and space"),
        "{found:?}"
    );
}

fn cwd() {
    let container = running();
    assert_eq!(report(&container, &["--cwd", "/etc"])["cwd"], "/etc");
}

fn user_and_group() {
    let container = running();
    let report_of = |flag: &str| report(&container, &["--user", flag]);
    let found = report_of("1000:2000");
    assert_eq!(
        (&found["uids"][0], &found["gids"][0]),
        (&json!(1000), &json!(2000))
    );
    let found = report_of("1000");
    assert_eq!(
        (&found["uids"][0], &found["gids"][0]),
        (&json!(1000), &json!(0))
    );
}

/// CVE-2026-30892: what is no number is an error, never another user.
fn a_user_that_is_no_number_is_refused() {
    let container = running();
    for user in ["root", "1000x", ":5", "1:x", "-1", "1:2:3", "0x10"] {
        let exec = container.exec_with(&[&format!("--user={user}")], &["report"]);
        assert_eq!(exec.code(), 255, "{user}: {exec}");
    }
}

fn additional_groups() {
    let container = running();
    let found = report(&container, &["-g", "65", "-g", "66"]);
    assert_eq!(found["groups"], json!([65, 66]));
}

fn capabilities_are_added() {
    let container = running();
    let found =
        report(&container, &["-c", "CAP_SYSLOG", "-c", "CAP_NET_RAW"])["capabilities"].take();
    for set in ["bounding", "permitted", "effective"] {
        let names = found[set].as_array().unwrap();
        assert!(
            names.contains(&json!("CAP_SYSLOG")) && names.contains(&json!("CAP_KILL")),
            "{set}: {found}"
        );
    }
}

fn no_new_privs_on_request() {
    let container = started(Bundle::new().set("/process/noNewPrivileges", false));
    assert_eq!(report(&container, &[])["no_new_privs"], "0");
    assert_eq!(report(&container, &["--no-new-privs"])["no_new_privs"], "1");
}

fn process_file(container: &Container, process: &Value) -> String {
    let file = container.file("process.json");
    fs::write(&file, process.to_string()).unwrap();
    file.to_str().unwrap().to_owned()
}

fn a_process_from_a_file() {
    let container = running();
    let file = process_file(
        &container,
        &json!({
            "args": [PROBE, "report"], "cwd": "/tmp", "env": ["ONLY=this"], "user": {"uid": 7, "gid": 8},
            "capabilities": {"bounding": ["CAP_CHOWN"]}, "noNewPrivileges": false,
            "rlimits": [{"type": "RLIMIT_CORE", "soft": 11, "hard": 12}],
        }),
    );
    let exec = container
        .command("exec")
        .args(["--process", &file, &container.id])
        .finish()
        .ok();
    let found = exec.value();
    assert!(
        variables(&found).contains(&"ONLY=this")
            && !variables(&found)
                .iter()
                .any(|entry| entry.starts_with("PATH"))
    );
    assert_eq!(
        (&found["uids"][0], &found["gids"][0], &found["cwd"]),
        (&json!(7), &json!(8), &json!("/tmp"))
    );
    assert_eq!(found["capabilities"]["bounding"], json!(["CAP_CHOWN"]));
    assert_eq!(
        found["rlimits"]["RLIMIT_CORE"],
        json!({"soft": 11, "hard": 12})
    );
    assert_eq!(found["no_new_privs"], "0");
}

fn a_process_file_that_is_none() {
    let container = running();
    let exec = |file: &str| {
        container
            .command("exec")
            .args(["--process", file, &container.id])
            .finish()
    };
    exec("/no/such/file").fails(255, "no such file or directory");
    for text in [
        "",
        "{",
        "[]",
        "{\"args\": 5}",
        "{\"args\": [], \"cwd\": \"/\"}",
        "{\"args\": [\"/bin/probe\"]}",
    ] {
        let file = container.file("broken.json");
        fs::write(&file, text).unwrap();
        let found = exec(file.to_str().unwrap());
        assert_eq!(found.code(), 255, "{text}: {found}");
    }
}

fn detached_with_a_pid_file() {
    let container = running();
    let file = container.file("exec.pid");
    let flags = ["--detach", "--pid-file", file.to_str().unwrap()];
    let exec = container.exec_with(&flags, &["trap"]).ok();
    let text = fs::read_to_string(&file).unwrap();
    let pid: i32 = text.parse().unwrap();
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(line, format!("{PROBE}\0trap\0"));
    eventually("ready", || exec.stdout().contains("ready"));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    eventually("its end", || exec.stdout().contains("end"));
    assert_eq!(container.status(), "running");
}

fn the_pid_file_in_the_foreground() {
    let container = running();
    let file = container.file("exec.pid");
    let mut exec = container
        .exec_call(&["--pid-file", file.to_str().unwrap()], &["trap"])
        .start();
    eventually("the pid file", || file.exists() || exec.ended());
    let pid: i32 = fs::read_to_string(&file).unwrap().parse().unwrap();
    eventually("ready", || exec.stdout().contains("ready"));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(exec.finish().code(), 0);
}

fn a_pid_file_that_cannot_be_written() {
    let container = running();
    let exec = container.exec_with(&["--pid-file", "/no/such/directory/pid"], &["print", "x"]);
    exec.fails(255, "no such file or directory");
}

fn signals_are_passed_on() {
    let container = running();
    let exec = container.exec_call(&[], &["trap"]).start();
    eventually("ready", || exec.stdout().contains("ready"));
    for signal in [
        nix::sys::signal::Signal::SIGUSR1,
        nix::sys::signal::Signal::SIGHUP,
    ] {
        nix::sys::signal::kill(exec.pid(), signal).unwrap();
        eventually(signal.as_str(), || exec.stdout().contains(signal.as_str()));
    }
    nix::sys::signal::kill(exec.pid(), nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(exec.finish().code(), 0);
}

fn preserved_descriptors() {
    let container = running();
    let call = container.runtime_with_descriptors(5).args([
        "exec",
        "--preserve-fds",
        "2",
        &container.id,
        PROBE,
    ]);
    let exec = call
        .args(["report", ",", "read", "/proc/self/fd/4"])
        .finish()
        .ok();
    let numbers: Vec<u64> = exec.values()[0]["fds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fd| fd["fd"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    assert_eq!(exec.values()[1], "4");
}

fn into_a_created_container() {
    let container = Bundle::new().probe(&["pause"]).container();
    container.create().ok();
    assert_eq!(container.exec(&["print", "x"]).ok().value(), "x");
    assert_eq!(container.status(), "created");
}

fn into_a_paused_container_on_request() {
    let container = running();
    container.verb("pause").ok();
    container.exec(&["print", "x"]).fails(
        255,
        "cannot exec in a paused container (use --ignore-paused to override)",
    );
    let exec = container
        .exec_call(&["--ignore-paused"], &["print", "late"])
        .start();
    container.verb("resume").ok();
    assert_eq!(exec.finish().ok().value(), "late");
}

fn flags_after_the_id_are_the_programs() {
    let container = running();
    let exec = container
        .command("exec")
        .args([&container.id, PROBE, "print", "-d", "--user", "5"])
        .finish()
        .ok();
    assert_eq!(exec.value(), "-d --user 5");
}

fn a_program_is_found_through_the_path_of_the_container() {
    let container = running();
    let exec = container
        .command("exec")
        .args([&container.id, "probe", "print", "x"])
        .finish()
        .ok();
    assert_eq!(exec.value(), "x");
    let elsewhere = container
        .command("exec")
        .args(["--env", "PATH=/elsewhere", &container.id, "probe"])
        .finish();
    elsewhere.fails(255, "executable file not found in $PATH");
}

fn without_a_program() {
    let container = running();
    let exec = container.command("exec").arg(&container.id).finish();
    assert_ne!(exec.code(), 0, "{exec}");
}

fn killed_with_its_container() {
    let container = running();
    let exec = container.exec_call(&[], &["trap"]).start();
    eventually("ready", || exec.stdout().contains("ready"));
    container.kill("KILL").ok();
    assert_eq!(exec.finish().code(), 128 + 9);
}

fn eight_at_once() {
    let container = running();
    let words: Vec<String> = (0..8).map(|number| number.to_string()).collect();
    let calls: Vec<_> = words
        .iter()
        .map(|word| container.exec_call(&[], &["print", word]).start())
        .collect();
    for (word, call) in words.iter().zip(calls) {
        assert_eq!(call.finish().ok().value(), word.as_str());
    }
}

fn into_a_user_namespace() {
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
    let container = started(bundle);
    let found = report(&container, &["--user", "5:6"]);
    assert_eq!(
        (&found["uids"][0], &found["uid_map"]),
        (&json!(5), &json!([[0, 200_000, 1000]]))
    );
}

/// Who may trace others can keep what tells of a program's beginning from being closed: nobody waits for that alone.
fn what_a_process_inside_keeps_holds_nobody_up() {
    let bundle = Bundle::new().capabilities(&["CAP_SYS_PTRACE"]);
    let bundle = bundle.set("/root/readonly", false);
    let container = bundle
        .probe(&["print", "ready", ",", "hold", "/stop"])
        .container();
    let run = container.run_until_ready();
    for _ in 0..10 {
        container.exec(&["print", "x"]).ok();
        container.exec(&["exit", "7"]).fails(7, "");
    }
    container
        .command("exec")
        .args([&container.id, "/nosuch"])
        .finish()
        .fails(255, "no such file");
    fs::write(container.bundle.inside("/stop"), "").unwrap();
    let told = run.finish().ok().values();
    assert!(told[1]["held"].as_u64().unwrap() > 0, "{}", told[1]);
}

fn a_cgroup_below() {
    let container = running();
    let directory = container.bundle.cgroup().directory("pids").join("below");
    fs::create_dir(&directory).unwrap();
    let found = report(&container, &["--cgroup", "pids:below"]);
    let line = found["cgroup"].to_string();
    assert!(
        line.contains(&format!("pids:{}/below", container.bundle.cgroup().path())),
        "{line}"
    );
    let words = if differs_on_runc("1.1.5 has other words") {
        "sub cgroup path"
    } else {
        "bad sub cgroup path"
    };
    container
        .exec_with(&["--cgroup", "pids:../../.."], &["report"])
        .fails(255, words);
    container
        .exec_with(&["--cgroup", "nosuch:/x"], &["report"])
        .fails(255, "unknown controller ");
    fs::remove_dir(&directory).unwrap();
}

suite! {
    &[Need::Root] => [
        exit_codes,
        a_missing_program_is_255,
        a_file_without_the_mode_is_255,
        standard_streams,
        it_is_in_every_namespace_of_the_container,
        the_process_of_the_configuration_is_the_ground,
        env_adds_and_replaces,
        cwd,
        user_and_group,
        a_user_that_is_no_number_is_refused,
        additional_groups,
        capabilities_are_added,
        no_new_privs_on_request,
        a_process_from_a_file,
        a_process_file_that_is_none,
        detached_with_a_pid_file,
        the_pid_file_in_the_foreground,
        a_pid_file_that_cannot_be_written,
        signals_are_passed_on,
        preserved_descriptors,
        into_a_created_container,
        flags_after_the_id_are_the_programs,
        a_program_is_found_through_the_path_of_the_container,
        without_a_program,
        killed_with_its_container,
        eight_at_once,
    ],
    &[Need::Root, Need::Cgroup("freezer")] => [into_a_paused_container_on_request],
    &[Need::Root, Need::NotRunc("1.1.5 waits for ever")] => [what_a_process_inside_keeps_holds_nobody_up],
    &[Need::Root, Need::CgroupV1("pids")] => [a_cgroup_below],
    &[Need::Root, Need::UserNamespace] => [into_a_user_namespace],
}
