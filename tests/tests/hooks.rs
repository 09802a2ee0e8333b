//! The six hooks: order, place, state on standard input, environment, arguments, time limits, failures.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::PathBuf;

use ocirun_tests::{Bundle, Container, Need, differs_on_runc, eventually, probe_program, suite};
use serde_json::{Value, json};

const ALL: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// A hook that is the probe with these steps. It takes its path on the host or, for startContainer, in the container.
fn hook(kind: &str, steps: &[&str]) -> Value {
    let program = if kind == "startContainer" {
        "/bin/probe"
    } else {
        probe_program().to_str().unwrap()
    };
    json!({"path": program, "args": Value::from([&["probe"], steps].concat())})
}

fn with(bundle: Bundle, kind: &str, hook: Value) -> Bundle {
    bundle.set(&format!("/hooks/{kind}/-"), hook)
}

/// A bundle whose hooks each append their name to one log, which the container sees at its own path.
fn logging(kinds: &[&str]) -> (Bundle, PathBuf) {
    let mut bundle = Bundle::new().set("/root/readonly", false);
    let log = bundle.path().join("log");
    fs::write(&log, "").unwrap();
    let path = log.to_str().unwrap().to_owned();
    bundle = bundle
        .mount(json!({"destination": path, "type": "bind", "source": path, "options": ["bind"]}));
    for kind in kinds {
        bundle = with(
            bundle,
            kind,
            hook(kind, &["append", &path, &format!("{kind} ")]),
        );
    }
    (bundle, log)
}

fn words(log: &PathBuf) -> Vec<String> {
    fs::read_to_string(log)
        .unwrap()
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

fn gone(container: &Container) {
    container.verb("state").fails(1, "container does not exist");
    assert_eq!(container.bundle.cgroup().existing(), Vec::<PathBuf>::new());
}

fn all_run_in_their_order() {
    let (bundle, log) = logging(&ALL);
    let path = log.to_str().unwrap().to_owned();
    let container = bundle.probe(&["append", &path, "process "]).container();
    container.run().ok();
    let mut found = words(&log);
    // The process runs beside poststart, which runc 1.1.5 runs already in create.
    found.retain(|word| word != "poststart");
    assert_eq!(
        found,
        [
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "process",
            "poststop"
        ]
    );
}

fn each_belongs_to_its_verb() {
    let (bundle, log) = logging(&ALL);
    let container = bundle.probe(&["pause"]).container();
    let early = differs_on_runc("1.1.5 runs poststart in create");
    let known = || {
        words(&log)
            .into_iter()
            .filter(|word| !early || word != "poststart")
            .collect::<Vec<String>>()
    };
    container.create().ok();
    assert_eq!(known(), ["prestart", "createRuntime", "createContainer"]);
    container.start().ok();
    let started = if early {
        &["startContainer"][..]
    } else {
        &["startContainer", "poststart"]
    };
    // One runs inside and the other outside, at the same time.
    eventually("the hooks of start", || {
        let mut found = known().split_off(3);
        found.sort_by(|one, other| other.cmp(one));
        found == started
    });
    container.kill("KILL").ok();
    container.wait_for_status("stopped");
    assert_eq!(known().len(), 3 + started.len());
    container.delete().ok();
    assert_eq!(known()[3 + started.len()..], ["poststop"]);
}

fn several_of_one_kind_run_in_order() {
    let (mut bundle, log) = logging(&[]);
    for number in 1..=3 {
        let step = ["append", log.to_str().unwrap(), &format!("{number} ")].map(str::to_owned);
        bundle = with(
            bundle,
            "createRuntime",
            hook("createRuntime", &step.each_ref().map(String::as_str)),
        );
    }
    let container = bundle.probe(&["print", "x"]).container();
    container.run().ok();
    assert_eq!(words(&log), ["1", "2", "3"]);
}

/// Runs one hook that keeps what it reads from standard input, and gives that.
fn state_seen_by(kind: &str, status_of: fn(&Container)) -> (Container, Value) {
    let (bundle, _log) = logging(&[]);
    let file = bundle.path().join("stdin");
    fs::write(&file, "").unwrap();
    let path = file.to_str().unwrap().to_owned();
    let bundle = bundle
        .mount(json!({"destination": path, "type": "bind", "source": path, "options": ["bind"]}));
    let bundle = with(bundle, kind, hook(kind, &["stdin-to", &path]))
        .set("/annotations/org.example", "note");
    let container = bundle.probe(&["pause"]).container();
    status_of(&container);
    eventually("the hook", || {
        !fs::read_to_string(&file).unwrap().is_empty()
    });
    let text = fs::read_to_string(&file).unwrap();
    (
        container,
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")),
    )
}

/// From create to delete. The program is let to start, and with it the hooks before it to end.
fn life(container: &Container) {
    let create = container.create().ok();
    container.start().ok();
    eventually("ready", || create.stdout().contains("ready"));
    container.kill("KILL").ok();
    container.wait_for_status("stopped");
    container.delete().ok();
}

fn the_state_is_on_standard_input() {
    let after_start = if differs_on_runc("1.1.5 runs poststart in create") {
        "created"
    } else {
        "running"
    };
    let statuses = [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("startContainer", "created"),
        ("poststart", after_start),
        ("poststop", "stopped"),
    ];
    for (kind, status) in statuses {
        let (container, state) = state_seen_by(kind, life);
        assert_eq!(
            (&state["id"], &state["status"]),
            (&json!(container.id), &json!(status)),
            "{kind}: {state}"
        );
        assert_eq!(
            state["bundle"],
            container.bundle.path().to_str().unwrap(),
            "{kind}"
        );
        assert_eq!(state["annotations"]["org.example"], "note", "{kind}");
        assert!(state["ociVersion"].is_string(), "{kind}");
        let has_pid = state["pid"].as_i64().unwrap_or_default() > 0;
        assert_eq!(has_pid, kind != "poststop", "{kind}: {state}");
    }
}

fn the_environment_is_only_what_is_given() {
    let (bundle, log) = logging(&[]);
    let mut one = hook("createRuntime", &["report-to", log.to_str().unwrap()]);
    one["env"] = json!(["A=1", "B=2"]);
    let container = with(bundle, "createRuntime", one)
        .probe(&["print", "x"])
        .container();
    container
        .from_bundle("run", &[])
        .env("OF_THE_CALLER", "1")
        .finish()
        .ok();
    let report: Value = serde_json::from_str(&fs::read_to_string(&log).unwrap()).unwrap();
    let found: Vec<&str> = report["env"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(
        found.contains(&"A=1") && found.contains(&"B=2"),
        "{found:?}"
    );
}

fn arguments_are_passed() {
    let (bundle, log) = logging(&[]);
    let one = hook("createRuntime", &["report-to", log.to_str().unwrap()]);
    let container = with(bundle, "createRuntime", one)
        .probe(&["print", "x"])
        .container();
    container.run().ok();
    let report: Value = serde_json::from_str(&fs::read_to_string(&log).unwrap()).unwrap();
    assert_eq!(report["args"], json!(["probe", "report-to", log]));
    let numbers: Vec<u64> = report["fds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fd| fd["fd"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [0, 1, 2], "{}", report["fds"]);
}

fn the_namespaces_of_each_kind() {
    for (kind, inside) in [
        ("prestart", false),
        ("createRuntime", false),
        ("createContainer", true),
        ("startContainer", true),
        ("poststart", false),
        ("poststop", false),
    ] {
        let (bundle, log) = logging(&[]);
        let one = hook(kind, &["report-to", log.to_str().unwrap()]);
        let container = with(bundle, kind, one).probe(&["pause"]).container();
        life(&container);
        let report: Value = serde_json::from_str(&fs::read_to_string(&log).unwrap()).unwrap();
        let host = fs::read_link("/proc/self/ns/mnt").unwrap();
        assert_eq!(
            report["namespaces"]["mnt"] != host.to_str().unwrap(),
            inside,
            "{kind}"
        );
    }
}

/// Between createRuntime and pivot_root the root must be reachable at root.path: vendors mount their drivers there.
fn create_container_hooks_see_the_rootfs_at_its_path() {
    let (bundle, log) = logging(&[]);
    let root = bundle.path().join("rootfs/proc/self/status");
    let one = hook(
        "createContainer",
        &["stat-to", log.to_str().unwrap(), root.to_str().unwrap()],
    );
    let container = with(bundle, "createContainer", one)
        .probe(&["print", "x"])
        .container();
    container.run().ok();
    let found: Value = serde_json::from_str(&fs::read_to_string(&log).unwrap()).unwrap();
    assert_eq!(found["type"], "file", "the mounts are in place: {found}");
}

fn a_failing_hook_stops_the_container() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let bundle = with(Bundle::new(), kind, hook(kind, &["exit", "3"]));
        let container = bundle.probe(&["print", "never"]).container();
        let run = container.run();
        assert_eq!(run.stdout(), "", "{kind}");
        let words = if differs_on_runc("1.1.5 does not name the kind") {
            "error running hook #".to_owned()
        } else {
            format!("error running {kind} hook #")
        };
        run.fails(1, &words);
        gone(&container);
    }
}

fn the_words_of_a_failing_hook_are_shown() {
    let (bundle, _log) = logging(&[]);
    let one = hook(
        "createRuntime",
        &["stderr", "words of the hook", ",", "exit", "3"],
    );
    let run = with(bundle, "createRuntime", one).container().run();
    assert!(run.says("exit status 3"), "{run}");
    assert!(run.says("words of the hook"), "{run}");
}

fn a_missing_hook_stops_the_container() {
    let container = with(
        Bundle::new(),
        "createRuntime",
        json!({"path": "/no/such/hook"}),
    )
    .container();
    container.run().fails(1, "no such file or directory");
    gone(&container);
}

fn a_failing_start_container_hook() {
    let (bundle, _log) = logging(&[]);
    let container = with(
        bundle,
        "startContainer",
        hook("startContainer", &["exit", "3"]),
    )
    .probe(&["print", "never"]);
    let container = container.container();
    let create = container.create().ok();
    let _code = container.start();
    container.wait_for_status("stopped");
    assert!(!create.stdout().contains("never"));
}

fn a_failing_poststart_hook_kills_the_container() {
    let container = with(
        Bundle::new(),
        "poststart",
        hook("poststart", &["exit", "3"]),
    )
    .probe(&["pause"])
    .container();
    container.create().ok();
    container.start().fails(1, "exit status 3");
    container.wait_for_status("stopped");
}

fn a_failing_poststop_hook_is_told_and_the_container_is_gone() {
    let container = with(Bundle::new(), "poststop", hook("poststop", &["exit", "3"]))
        .probe(&["print", "x"])
        .container();
    container.create().ok();
    container.start().ok();
    container.wait_for_status("stopped");
    let delete = container.delete();
    assert!(delete.says("exit status 3"), "{delete}");
    gone(&container);
}

fn a_hook_that_takes_too_long_is_ended() {
    let mut one = hook("createRuntime", &["sleep", "60"]);
    one["timeout"] = json!(1);
    let container = with(Bundle::new(), "createRuntime", one).container();
    container.run().fails(1, "");
    gone(&container);
}

fn a_timeout_that_is_none_is_refused() {
    for timeout in [json!(0), json!(-1), json!("one")] {
        let mut one = hook("createRuntime", &["print", "x"]);
        one["timeout"] = timeout.clone();
        let run = with(Bundle::new(), "createRuntime", one).container().run();
        assert_ne!(run.code(), 0, "{timeout}: {run}");
    }
}

fn a_relative_path_is_refused() {
    let container = with(Bundle::new(), "createRuntime", json!({"path": "relative"})).container();
    container.run().fails(1, "");
    gone(&container);
}

fn hooks_without_arguments() {
    with(Bundle::new(), "createRuntime", json!({"path": "/bin/true"}))
        .probe(&["print", "x"])
        .container()
        .run()
        .ok();
}

suite! {
    &[Need::Root] => [
        all_run_in_their_order,
        each_belongs_to_its_verb,
        several_of_one_kind_run_in_order,
        the_state_is_on_standard_input,
        the_environment_is_only_what_is_given,
        arguments_are_passed,
        the_namespaces_of_each_kind,
        create_container_hooks_see_the_rootfs_at_its_path,
        a_failing_hook_stops_the_container,
        the_words_of_a_failing_hook_are_shown,
        a_missing_hook_stops_the_container,
        a_failing_start_container_hook,
        a_failing_poststop_hook_is_told_and_the_container_is_gone,
        a_hook_that_takes_too_long_is_ended,
        a_timeout_that_is_none_is_refused,
        a_relative_path_is_refused,
        hooks_without_arguments,
    ],
    &[Need::Root, Need::NotRunc("1.1.5 runs poststart in create")] => [a_failing_poststart_hook_kills_the_container],
}
