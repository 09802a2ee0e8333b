//! `--init` and the annotation: ocirun-init as the container's first process, without any change of the image.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ocirun_tests::{
    Bundle, Container, Finished, Need, PROBE, Terminal, eventually, rootless_spec, suite,
};
use serde_json::{Value, json};

const INIT: &[&str] = &["--init"];

fn run_with(container: &Container, flags: &[&str]) -> Finished {
    container.from_bundle("run", flags).finish()
}

fn annotated(value: &str) -> Bundle {
    Bundle::new().set("/annotations", json!({"org.ocirun.init": value}))
}

/// The program by the init, detached and ready.
fn running(steps: &[&str]) -> (Container, Finished) {
    let container = Bundle::new().probe(steps).container();
    let run = run_with(&container, &["--init", "--detach"]).ok();
    eventually("ready", || run.stdout().contains("\"ready\""));
    (container, run)
}

fn command_line(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let words = bytes.split(|byte| *byte == 0);
    let mut words: Vec<String> = words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    words.pop();
    words
}

fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn the_first_process_is_the_init() {
    let (container, _run) = running(&["pause"]);
    let pid = container.pid();
    assert_eq!(command_line(pid), ["ocirun-init", "--", PROBE, "pause"]);
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    assert!(
        program.to_str().unwrap().starts_with("/memfd:ocirun-init"),
        "{program:?}"
    );
    // A program that runs cannot be written; a sealed one could not even later.
    let writable = fs::OpenOptions::new()
        .write(true)
        .open(format!("/proc/{pid}/exe"));
    assert_eq!(writable.unwrap_err().raw_os_error(), Some(26));
    // The kernel's list may lack one for a moment, see proc_pid_task(5).
    let mut found = Vec::new();
    eventually("one child", || {
        found = children(pid);
        found.len() == 1
    });
    assert_eq!(command_line(found[0]), [PROBE, "pause"]);
}

/// What a report says that is not of the process's place in the tree.
fn essence(mut report: Value) -> Value {
    report["fds"] = numbers(&report).into();
    for of_place in ["pid", "ppid", "group", "namespaces", "cgroup", "keyring"] {
        report.as_object_mut().unwrap().remove(of_place);
    }
    report
}

fn numbers(report: &Value) -> Vec<u64> {
    let fds = report["fds"].as_array().unwrap().iter();
    fds.map(|fd| fd["fd"].as_u64().unwrap()).collect()
}

fn the_program_is_as_it_would_be_alone() {
    for bundle in [
        Bundle::new,
        || Bundle::new().set("/process/noNewPrivileges", false),
        || {
            Bundle::new().set(
                "/process/user",
                json!({"uid": 1000, "gid": 1000, "additionalGids": [7]}),
            )
        },
        || Bundle::from_spec(rootless_spec(0, 0)),
    ] {
        let container = bundle().container();
        let alone = container.run().ok().value();
        let report = run_with(&container, INIT).ok().value();
        assert_eq!((&report["pid"], &report["ppid"]), (&json!(2), &json!(1)));
        assert_eq!(essence(report), essence(alone));
        // Nothing was put into the image.
        let mut names: Vec<_> = fs::read_dir(container.bundle.inside("/"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["bin", "dev", "etc", "proc", "sys", "tmp"]);
    }
}

fn the_annotation_does_it_too() {
    let ppid = |bundle: Bundle, flags: &[&str]| {
        let container = bundle.container();
        run_with(&container, flags).ok().value()["ppid"].clone()
    };
    assert_eq!(ppid(annotated("true"), &[]), 1);
    assert_eq!(ppid(annotated("-g --stop-tree=3"), &[]), 1);
    assert_eq!(ppid(annotated("false"), &[]), 0);
    assert_eq!(ppid(annotated("false"), INIT), 1);
    assert_eq!(ppid(annotated("true"), &["--init=false"]), 0);
}

fn the_annotations_flags_reach_the_init() {
    let container = annotated("-g --drain=2").probe(&["pause"]).container();
    container.run_until_ready_detached();
    let words = command_line(container.pid());
    assert_eq!(
        words,
        ["ocirun-init", "-g", "--drain=2", "--", PROBE, "pause"]
    );
}

fn an_annotation_that_is_neither_is_refused() {
    for value in ["yes", "--nope", "-h", "--pause", "-e 300"] {
        let container = annotated(value).container();
        let run = container.run();
        run.fails(1, "/annotations/org.ocirun.init: ");
        container.verb("state").fails(1, "does not exist");
    }
}

fn orphans_are_reaped() {
    let (container, _run) = running(&["pause"]);
    let init = container.pid();
    container.exec(&["orphans", "3"]).ok();
    eventually("three orphans", || children(init).len() == 4);
    let main = children(init)[0];
    for orphan in children(init) {
        if orphan != main {
            kill(Pid::from_raw(orphan), Signal::SIGKILL).unwrap();
        }
    }
    eventually("nobody but the program", || children(init) == [main]);
}

fn signals_are_forwarded() {
    let (container, run) = running(&["trap"]);
    for signal in ["USR1", "WINCH", "TERM"] {
        container.kill(signal).ok();
        let name = format!("SIG{signal}");
        eventually(&name, || run.stdout().contains(&name));
    }
    container.wait_for_status("stopped");
}

fn signals_sent_before_the_start_are_not_lost() {
    // Without an init a PID 1 that has no handler drops it, and the program would stay.
    for _ in 0..10 {
        let container = Bundle::new().probe(&["pause"]).container();
        container.from_bundle("create", INIT).finish().ok();
        container.kill("TERM").ok();
        container.start().ok();
        container.wait_for_status("stopped");
    }
}

fn codes_are_those_of_the_program() {
    for (steps, code) in [
        (&["exit", "0"][..], 0),
        (&["exit", "7"], 7),
        (&["exit", "255"], 255),
        (&["raise", "SIGTERM"], 143),
        (&["raise", "SIGUSR1"], 138),
        (&["raise", "SIGUSR2"], 140),
        (&["raise", "SIGKILL"], 137),
    ] {
        let container = Bundle::new().probe(steps).container();
        assert_eq!(run_with(&container, INIT).code(), code, "{steps:?}");
    }
}

fn a_program_that_cannot_run_is_told_as_without() {
    let plain = |bundle: &Bundle| {
        let file = bundle.inside("/bin/plain");
        fs::write(&file, "x").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    };
    for (program, words) in [
        (
            "nonexistent",
            "exec: \"nonexistent\": executable file not found in $PATH",
        ),
        (
            "/nonexistent",
            "exec: \"/nonexistent\": stat /nonexistent: no such file or directory",
        ),
        ("/bin/plain", "exec: \"/bin/plain\": permission denied"),
        ("/bin", "exec: \"/bin\": is a directory"),
    ] {
        for flags in [&[], INIT] {
            for verb in ["create", "run"] {
                let bundle = Bundle::new().args(&[program]);
                plain(&bundle);
                let container = bundle.container();
                container.from_bundle(verb, flags).finish().fails(1, words);
                container.verb("state").fails(1, "does not exist");
            }
        }
    }
}

fn on_a_terminal() {
    let container = Bundle::new()
        .set("/process/terminal", true)
        .probe(&["report", ",", "pause"])
        .container();
    let (mut terminal, other_end) = Terminal::open(30, 100);
    let run = container.from_bundle("run", INIT).start_on(&other_end);
    terminal.wait_for("\"ready\"");
    let report = terminal.values().remove(0);
    assert_eq!(report["terminal"]["name"], "/dev/pts/0");
    // The program's own group is in the foreground of the session that the init leads.
    assert_eq!(
        (
            &report["session"],
            &report["group"],
            &report["terminal"]["foreground"]
        ),
        (&json!(1), &json!(2), &json!(2))
    );
    terminal.write("\x03");
    assert_eq!(run.finish().code(), 130);
}

fn in_a_user_namespace() {
    let maps = json!([{"containerID": 0, "hostID": 200_000, "size": 70_000}]);
    let bundle = Bundle::new()
        .namespace(json!({"type": "user"}))
        .set("/linux/uidMappings", maps.clone())
        .set("/linux/gidMappings", maps);
    let container = bundle
        .set("/process/user", json!({"uid": 5, "gid": 6}))
        .container();
    let report = run_with(&container, INIT).ok().value();
    assert_eq!(
        (&report["ppid"], &report["uids"][0]),
        (&json!(1), &json!(5))
    );
}

fn without_a_pid_namespace() {
    let container = Bundle::new()
        .without_namespace("pid")
        .probe(&["pause"])
        .container();
    let run = run_with(&container, &["--init", "--detach"]).ok();
    eventually("ready", || run.stdout().contains("\"ready\""));
    assert_eq!(run.stderr(), "");
    assert_eq!(
        command_line(container.pid())[..3],
        ["ocirun-init", "-s", "--"]
    );
}

fn under_a_seccomp_profile() {
    for no_new_privileges in [true, false] {
        let bundle = Bundle::new()
            .set("/process/noNewPrivileges", no_new_privileges)
            .set(
                "/linux/seccomp",
                json!({
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "architectures": ["SCMP_ARCH_X86_64"],
                    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}],
                }),
            );
        let container = bundle.probe(&["syscall", "mkdir"]).container();
        let run = run_with(&container, INIT);
        assert_eq!(run.value(), json!({"errno": "EIO"}), "{run}");
    }
}

fn a_profile_without_execveat_says_so() {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["execveat"], "action": "SCMP_ACT_ERRNO"}],
    });
    let container = Bundle::new().set("/linux/seccomp", profile).container();
    run_with(&container, INIT).fails(1, "operation not permitted: execveat(init)");
}

fn descriptors_are_passed_through() {
    let container = Bundle::new()
        .probe(&["report", ",", "read", "/proc/self/fd/3"])
        .container();
    let call = container
        .runtime_with_descriptors(2)
        .args(["run", "--init", "--bundle"])
        .arg(container.bundle.path());
    let run = call.arg(&container.id).env("LISTEN_FDS", "2").finish().ok();
    let report = &run.values()[0];
    assert_eq!(numbers(report), [0, 1, 2, 3, 4]);
    // The sockets are the program's, not the init's.
    assert!(
        report["env"].to_string().contains("\"LISTEN_PID=2\""),
        "{report}"
    );
    assert_eq!(run.values()[1], "3");
}

fn exec_goes_past_it() {
    let (container, _run) = running(&["pause"]);
    let report = container.exec(&["report"]).ok().value();
    assert_eq!(report["ppid"], 0);
    assert_eq!(report["signals_blocked"], "0000000000000000");
    assert!(!report["env"].to_string().contains("OCIRUN"), "{report}");
}

fn state_and_ps_know_it() {
    let (container, _run) = running(&["pause"]);
    let init = container.pid();
    assert_eq!(container.status(), "running");
    let ps = container
        .command("ps")
        .args(["--format", "json", &container.id]);
    let listed: Vec<i32> = serde_json::from_str(&ps.finish().ok().stdout()).unwrap();
    assert_eq!(listed, [init, children(init)[0]]);
}

fn a_hook_gets_its_signals() {
    // The hook runs while the init's signals are held back; it must not inherit that.
    let bundle = Bundle::new().set(
        "/hooks/startContainer",
        json!([{"path": PROBE, "args": ["probe", "raise", "SIGTERM"]}]),
    );
    let container = bundle.container();
    run_with(&container, INIT).fails(1, "startContainer hook #1");
}

suite! {
    &[Need::Root, Need::Ocirun] => [
        the_first_process_is_the_init,
        the_program_is_as_it_would_be_alone,
        the_annotation_does_it_too,
        the_annotations_flags_reach_the_init,
        an_annotation_that_is_neither_is_refused,
        orphans_are_reaped,
        signals_are_forwarded,
        signals_sent_before_the_start_are_not_lost,
        codes_are_those_of_the_program,
        a_program_that_cannot_run_is_told_as_without,
        on_a_terminal,
        without_a_pid_namespace,
        under_a_seccomp_profile,
        a_profile_without_execveat_says_so,
        descriptors_are_passed_through,
        exec_goes_past_it,
        state_and_ps_know_it,
        a_hook_gets_its_signals,
    ],
    &[Need::Root, Need::Ocirun, Need::UserNamespace] => [in_a_user_namespace],
}
