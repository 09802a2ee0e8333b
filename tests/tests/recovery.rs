//! What stays behind: nothing after many containers, and nothing once `delete --force` was called on one whose
//! runtime was killed at any of its system calls.
//!
//! `OCIRUN_TEST_KILL_EVERY=1` kills at every system call (minutes), otherwise at every 17th;
//! `OCIRUN_TEST_CONTAINERS=` is how many containers come and go, 20 unless told.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use ocirun_tests::{Bundle, Container, Invocation, Need, PROBE, Suite, eventually, runtime};

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

fn pausing() -> Container {
    Bundle::new().probe(&["pause"]).container()
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
    let state = pausing();
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
        (mounts(), fs::read_dir("/proc/self/fd").unwrap().count() - 1),
        (before.0, before.1)
    );
}

/// Calls a verb under strace, which kills the runtime at its `count`-th system call. True once it got through.
fn killed_at(count: usize, container: &Container, verb: &[&str]) -> bool {
    let strace = Invocation::new("/usr/bin/strace".as_ref());
    let inject = format!("inject=all:signal=KILL:when={count}");
    let call = strace
        .args(["-o", "/dev/null", "-e", "trace=all", "-e", &inject, "--"])
        .arg(&runtime().program);
    let run = call
        .arg("--root")
        .arg(container.state_root())
        .args(verb)
        .finish();
    run.signal().is_none()
}

/// For each point of one verb: brings a container to where the verb begins, kills the verb there, deletes by force.
fn at_every_call_of(verb: impl Fn(&Container) -> Vec<String>, prepare: fn(&Container)) {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let container = pausing();
    let step = number("OCIRUN_TEST_KILL_EVERY", 17);
    let mut count = 1;
    loop {
        prepare(&container);
        let words = verb(&container);
        let through = killed_at(
            count,
            &container,
            &words.iter().map(String::as_str).collect::<Vec<&str>>(),
        );
        container
            .command("delete")
            .args(["--force", &container.id])
            .finish()
            .ok();
        reap();
        nothing_is_left(&container, &format!("{} killed at call {count}", words[0]));
        if through {
            break;
        }
        count += step;
    }
    nix::sys::prctl::set_child_subreaper(false).unwrap();
}

/// Takes the orphans' statuses. Nobody else waits for a child meanwhile: these tests run one after the other.
fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status.pid().is_none() {
            break;
        }
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn create_killed_anywhere() {
    at_every_call_of(
        |container| {
            words(&[
                "create",
                "--bundle",
                container.bundle.path().to_str().unwrap(),
                &container.id,
            ])
        },
        |_| {},
    );
}

fn run_killed_anywhere() {
    at_every_call_of(
        |container| {
            words(&[
                "run",
                "--detach",
                "--bundle",
                container.bundle.path().to_str().unwrap(),
                &container.id,
            ])
        },
        |_| {},
    );
}

fn created(container: &Container) {
    container.create().ok();
}

fn running(container: &Container) {
    container.run_detached().ok();
}

fn start_killed_anywhere() {
    at_every_call_of(|container| words(&["start", &container.id]), created);
}

fn exec_killed_anywhere() {
    at_every_call_of(
        |container| words(&["exec", &container.id, PROBE, "print", "x"]),
        running,
    );
}

fn kill_killed_anywhere() {
    at_every_call_of(|container| words(&["kill", &container.id, "KILL"]), running);
}

fn delete_killed_anywhere() {
    at_every_call_of(
        |container| words(&["delete", "--force", &container.id]),
        running,
    );
}

fn pause_killed_anywhere() {
    at_every_call_of(|container| words(&["pause", &container.id]), running);
}

fn main() -> ExitCode {
    const ROOT: &[Need] = &[Need::Root];
    const KILLED: &[Need] = &[
        Need::Root,
        Need::Program("strace"),
        Need::NotRunc("killed early it leaves a cgroup and a directory that it cannot delete"),
    ];
    Suite::new()
        .sequential()
        .test(
            "many_containers_leave_nothing",
            ROOT,
            many_containers_leave_nothing,
        )
        .test("create_killed_anywhere", KILLED, create_killed_anywhere)
        .test("run_killed_anywhere", KILLED, run_killed_anywhere)
        .test("start_killed_anywhere", KILLED, start_killed_anywhere)
        .test("exec_killed_anywhere", KILLED, exec_killed_anywhere)
        .test("kill_killed_anywhere", KILLED, kill_killed_anywhere)
        .test("delete_killed_anywhere", KILLED, delete_killed_anywhere)
        .test("pause_killed_anywhere", KILLED, pause_killed_anywhere)
        .run()
}
