//! What every command answers in every state of a container, in the words that callers of runc search for.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use ocirun_tests::{Bundle, Container, Finished, Invocation, Need, runtime, suite};
use serde_json::{Value, json};

/// An exit code, and words on standard error.
type Answer = (i32, &'static str);

const OK: Answer = (0, "");
const MISSING: Answer = (1, "container does not exist");
const TAKEN: Answer = (1, "container with given ID already exists");
const NOT_PAUSED: Answer = (1, "container not paused");
const NOT_RUNNING: Answer = (1, "container not running");

/// A command, for the container `ID` in the bundle `BUNDLE`, and its answers where there is no such container, and where
/// it is created, running, paused and stopped.
const ANSWERS: &[(&[&str], [Answer; 5])] = &[
    (&["state", "ID"], [MISSING, OK, OK, OK, OK]),
    (
        &["create", "-b", "BUNDLE", "ID"],
        [OK, TAKEN, TAKEN, TAKEN, TAKEN],
    ),
    (
        &["run", "-d", "-b", "BUNDLE", "ID"],
        [OK, TAKEN, TAKEN, TAKEN, TAKEN],
    ),
    (
        &["start", "ID"],
        [
            MISSING,
            OK,
            (1, "cannot start an already running container"),
            (1, "cannot start a container in the paused state"),
            (1, "cannot start a container that has stopped"),
        ],
    ),
    (
        &["pause", "ID"],
        [MISSING, OK, OK, NOT_RUNNING, NOT_RUNNING],
    ),
    (
        &["resume", "ID"],
        [MISSING, NOT_PAUSED, NOT_PAUSED, OK, NOT_PAUSED],
    ),
    (&["ps", "ID"], [MISSING, OK, OK, OK, OK]),
    (
        &["events", "--stats", "ID"],
        [MISSING, OK, OK, OK, (1, "is not running")],
    ),
    (
        &["update", "--pids-limit", "20", "ID"],
        [MISSING, OK, OK, OK, NOT_RUNNING],
    ),
    (
        &["exec", "ID", "/bin/probe", "print", "x"],
        [
            (255, "exec failed: container does not exist"),
            OK,
            OK,
            (
                255,
                "exec failed: cannot exec in a paused container (use --ignore-paused to override)",
            ),
            (255, "exec failed: cannot exec in a stopped container"),
        ],
    ),
    (&["kill", "ID", "0"], [MISSING, OK, OK, OK, NOT_RUNNING]),
    (&["kill", "--all", "ID", "0"], [MISSING, OK, OK, OK, OK]),
    (
        &["kill", "ID", "NOSUCH"],
        [
            MISSING,
            (1, "unknown signal \"NOSUCH\""),
            (1, "unknown signal \"NOSUCH\""),
            (1, "unknown signal \"NOSUCH\""),
            (1, "unknown signal \"NOSUCH\""),
        ],
    ),
    (
        &["delete", "ID"],
        [
            MISSING,
            OK,
            (
                1,
                "cannot delete container {id} that is not stopped: running",
            ),
            (
                1,
                "cannot delete container {id} that is not stopped: paused",
            ),
            OK,
        ],
    ),
    (&["delete", "--force", "ID"], [OK, OK, OK, OK, OK]),
];

fn call(container: &Container, words: &[&str]) -> Finished {
    let bundle = container.bundle.path().to_str().unwrap();
    let real = |word: &&str| match *word {
        "ID" => container.id.clone(),
        "BUNDLE" => bundle.to_owned(),
        word => word.to_owned(),
    };
    container.runtime().args(words.iter().map(real)).finish()
}

/// Holds the column `state` of the table against containers that `make` has brought into it.
fn answers(state: usize, make: fn(&Container)) {
    for (words, answers) in ANSWERS {
        let container = Bundle::new().probe(&["pause"]).container();
        make(&container);
        let answer = call(&container, words);
        let (code, text) = answers[state];
        assert_eq!(answer.code(), code, "{answer}");
        assert!(
            answer.says(&text.replace("{id}", &container.id)),
            "no {text:?} in: {answer}"
        );
        if code != 0 {
            assert!(answer.stdout().is_empty(), "{answer}");
        }
    }
}

fn of_none() {
    answers(0, |_| {});
}

fn of_a_created_one() {
    answers(1, |container| drop(container.create().ok()));
}

fn of_a_running_one() {
    answers(2, |container| container.run_until_ready_detached());
}

fn of_a_paused_one() {
    answers(3, |container| {
        container.run_until_ready_detached();
        container.verb("pause").ok();
    });
}

fn of_a_stopped_one() {
    answers(4, |container| {
        container.run_until_ready_detached();
        container.kill("KILL").ok();
        container.wait_for_status("stopped");
    });
}

/// A list that is none is `null` to who reads it in Go.
fn lists_of_nothing() {
    let container = Bundle::new().probe(&["print", "x"]).container();
    assert_eq!(container.from_bundle("run", &["--keep"]).finish().code(), 0);
    let pids = call(&container, &["ps", "--format", "json", "ID"]).ok();
    assert_eq!(pids.stdout(), "null\n");
}

/// What containerd, CRI-O and podman ask before they count on something.
fn probes() {
    let call = |words: &[&str]| Invocation::new(&runtime().program).args(words).finish();
    for command in ["checkpoint", "restore", "events", "update", "exec", "run"] {
        call(&[command, "--help"]).ok();
    }
    for flag in ["--lsm-mount-context", "--lsm-profile", "--image-path"] {
        let asked = call(&["restore", flag]);
        assert_eq!(asked.code(), 1, "{asked}");
        let text = asked.stdout() + &asked.stderr();
        assert!(text.contains("flag needs an argument"), "{text}");
    }
    let features: Value = serde_json::from_str(&call(&["features"]).ok().stdout()).unwrap();
    let annotations = &features["annotations"];
    assert_eq!(
        annotations["org.opencontainers.runc.checkpoint.enabled"],
        "true"
    );
}

/// How the lines of a failed start begin, by where it failed.
fn beginnings() {
    let missing = Bundle::new().args(&["/no/such"]).container().run();
    missing.fails(1, "run failed: unable to start container process: ");
    let mount = json!({"destination": "/x", "type": "nosuchfs", "source": "x"});
    let container = Bundle::new().mount(mount).container();
    let words = "run failed: unable to start container process: error during container init: ";
    container.run().fails(1, words);
    let container = Bundle::new().args(&["/bin/script"]).container();
    let script = container.bundle.inside("/bin/script");
    fs::write(&script, "#!/no/such/shell\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    container
        .run()
        .fails(1, "exec /bin/script: no such file or directory");
}

fn too_little_memory_to_begin_with() {
    let limit = json!({"limit": 4096});
    let bundle = Bundle::new().set("/linux/resources/memory", limit);
    let words = "container init was OOM-killed (memory limit too low?)";
    bundle.container().run().fails(1, words);
}

suite! {
    &[
        Need::Root,
        Need::CgroupV1("memory"),
        Need::NotRunc("1.1.5 needs more than that itself, and says so"),
    ] => [too_little_memory_to_begin_with],
    &[Need::Root] => [
        of_none,
        of_a_created_one,
        of_a_running_one,
        of_a_paused_one,
        of_a_stopped_one,
        lists_of_nothing,
        beginnings,
    ],
    &[] => [probes],
}
