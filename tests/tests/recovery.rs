//! What stays behind: nothing after many containers, and nothing once `delete --force` was called on one whose
//! runtime was killed at any of its system calls.
//!
//! `OCIRUN_TEST_KILL_EVERY=1` kills at every system call (minutes), otherwise at every 17th;
//! `OCIRUN_TEST_CONTAINERS=` is how many containers come and go, 20 unless told.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use ocirun_tests::{Container, Invocation, Need, PROBE, Suite, eventually, runtime};

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

/// Processes that have this word in their command line, zombies not counted.
fn processes_with(word: &str) -> Vec<i32> {
    let named = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(word)
    };
    let entries = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    entries.filter(named).collect()
}

fn own_children() -> Vec<i32> {
    let mut found = Vec::new();
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let text = fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
        found.extend(
            text.split_whitespace()
                .filter_map(|word| word.parse::<i32>().ok()),
        );
    }
    found
}

fn mounts() -> usize {
    fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .count()
}

#[track_caller]
fn nothing_is_left(container: &Container, when: &str) {
    container.verb("state").fails(1, "container does not exist");
    assert_eq!(
        fs::read_dir(container.state_root()).unwrap().count(),
        0,
        "{when}: state"
    );
    assert_eq!(
        container.bundle.cgroup().existing(),
        Vec::<PathBuf>::new(),
        "{when}: cgroups"
    );
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !table.contains(container.bundle.path().to_str().unwrap()),
        "{when}: mounts"
    );
    eventually(&format!("{when}: no process is left"), || {
        processes_with(&container.id).is_empty()
    });
}

/// Orphans become children of this process, so that none can go unseen.
fn many_containers_leave_nothing() {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let before = (mounts(), fs::read_dir("/proc/self/fd").unwrap().count());
    let state = Container::pausing();
    for _ in 0..number("OCIRUN_TEST_CONTAINERS", 20) {
        state.create().ok();
        let init = Pid::from_raw(state.pid());
        state.start().ok();
        state.exec(&["print", "x"]).ok();
        state.kill("KILL").ok();
        state.wait_for_status("stopped");
        state.delete().ok();
        waitpid(init, None).unwrap();
        nothing_is_left(&state, "after delete");
    }
    nix::sys::prctl::set_child_subreaper(false).unwrap();
    assert_eq!(own_children(), Vec::<i32>::new());
    assert_eq!(
        (mounts(), fs::read_dir("/proc/self/fd").unwrap().count()),
        before
    );
}

/// Who is killed.
#[derive(Clone, Copy)]
enum Victim {
    /// The process that was called; what it had started goes on.
    Caller,
    /// Whichever process or thread gets to its own n-th call first.
    Anyone,
}

/// Calls a verb under strace, which sends SIGKILL at the `count`-th system call. True once it got through.
fn killed_at(count: usize, victim: Victim, container: &Container, verb: &[String]) -> bool {
    let inject = format!("inject=all:signal=KILL:when={count}");
    // -D: the runtime is our child, and strace its companion, so that nobody waits for a traced container.
    let strace = Invocation::new("strace".as_ref()).args([
        "-D",
        "-o",
        "/dev/null",
        "-e",
        "trace=all",
        "-e",
        &inject,
    ]);
    let strace = match victim {
        Victim::Caller => strace,
        Victim::Anyone => strace.arg("-f"),
    };
    let run = strace
        .arg("--")
        .arg(&runtime().program)
        .arg("--root")
        .arg(container.state_root())
        .args(verb)
        .finish();
    run.signal().is_none() && run.code() == 0
}

/// For each point of one verb: brings a container to where the verb begins, kills there, deletes by force.
fn at_every_call_of(
    victim: Victim,
    prepare: fn(&Container),
    verb: impl Fn(&Container) -> Vec<String>,
) {
    let container = Container::pausing();
    let words = verb(&container);
    for count in (1..100_000).step_by(number("OCIRUN_TEST_KILL_EVERY", 17)) {
        prepare(&container);
        let through = killed_at(count, victim, &container, &words);
        container
            .command("delete")
            .args(["--force", &container.id])
            .finish()
            .ok();
        nothing_is_left(&container, &format!("{} killed at call {count}", words[0]));
        if through {
            break;
        }
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn create(container: &Container) -> Vec<String> {
    words(&[
        "create",
        "--bundle",
        container.bundle.path().to_str().unwrap(),
        &container.id,
    ])
}

fn run(container: &Container) -> Vec<String> {
    words(&[
        "run",
        "--detach",
        "--bundle",
        container.bundle.path().to_str().unwrap(),
        &container.id,
    ])
}

fn created(container: &Container) {
    container.create().ok();
}

fn running(container: &Container) {
    container.run_detached().ok();
}

fn create_killed_anywhere() {
    at_every_call_of(Victim::Caller, |_| {}, create);
}

fn create_or_its_children_killed_anywhere() {
    at_every_call_of(Victim::Anyone, |_| {}, create);
}

fn run_killed_anywhere() {
    at_every_call_of(Victim::Caller, |_| {}, run);
}

fn run_or_its_children_killed_anywhere() {
    at_every_call_of(Victim::Anyone, |_| {}, run);
}

fn start_killed_anywhere() {
    at_every_call_of(Victim::Anyone, created, |container| {
        words(&["start", &container.id])
    });
}

fn exec_killed_anywhere() {
    at_every_call_of(Victim::Caller, running, |container| {
        words(&["exec", &container.id, PROBE, "print", "x"])
    });
}

fn exec_or_its_children_killed_anywhere() {
    at_every_call_of(Victim::Anyone, running, |container| {
        words(&["exec", &container.id, PROBE, "print", "x"])
    });
}

fn kill_killed_anywhere() {
    at_every_call_of(Victim::Anyone, running, |container| {
        words(&["kill", &container.id, "KILL"])
    });
}

fn delete_killed_anywhere() {
    at_every_call_of(Victim::Anyone, running, |container| {
        words(&["delete", "--force", &container.id])
    });
}

fn pause_killed_anywhere() {
    at_every_call_of(Victim::Anyone, running, |container| {
        words(&["pause", &container.id])
    });
}

fn main() -> ExitCode {
    const STRACE: &[Need] = &[Need::Root, Need::Program("strace")];
    const FAMILY: &[Need] = &[
        Need::Root,
        Need::Program("strace"),
        Need::NotRunc("killed before it has written its state, it leaves the cgroups"),
    ];
    Suite::new()
        .sequential()
        .test(
            "many_containers_leave_nothing",
            &[Need::Root],
            many_containers_leave_nothing,
        )
        .test("create_killed_anywhere", STRACE, create_killed_anywhere)
        .test(
            "create_or_its_children_killed_anywhere",
            FAMILY,
            create_or_its_children_killed_anywhere,
        )
        .test("run_killed_anywhere", STRACE, run_killed_anywhere)
        .test(
            "run_or_its_children_killed_anywhere",
            FAMILY,
            run_or_its_children_killed_anywhere,
        )
        .test("start_killed_anywhere", STRACE, start_killed_anywhere)
        .test("exec_killed_anywhere", STRACE, exec_killed_anywhere)
        .test(
            "exec_or_its_children_killed_anywhere",
            STRACE,
            exec_or_its_children_killed_anywhere,
        )
        .test("kill_killed_anywhere", STRACE, kill_killed_anywhere)
        .test("delete_killed_anywhere", STRACE, delete_killed_anywhere)
        .test("pause_killed_anywhere", STRACE, pause_killed_anywhere)
        .run()
}
