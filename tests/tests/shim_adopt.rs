//! A shim that is killed is replaced, and the next one takes over what it finds.
//!
//! `OCIRUN_TEST_KILLS=` is how often it is killed at some moment of a container's life, 30 times unless told.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use ocirun_shim::wire::{
    Code, ContainerState, ContainerStatus, CreateRequest, DeleteRequest, Exit, StartRequest,
};
use ocirun_tests::pod::{Pod, exec_request, is_alive};
use ocirun_tests::{Bundle, Need, PROBE, eventually, program_in_path, suite};
use serde_json::{Value, json};

fn pausing() -> Bundle {
    Bundle::new().probe(&["pause"])
}

/// The kernel keeps how a process ended that is not the shim's child from Linux 6.15 on. Before, it is known only where
/// the shim was quicker than who waits for it, and otherwise said to be unknown.
#[track_caller]
fn ended_with(exit: &Exit, code: i32) {
    if exit.unknown && Need::Kernel(6, 15).absent().is_some() {
        assert_eq!(exit.code, 255);
        return;
    }
    assert_eq!((exit.code, exit.unknown), (code, false));
}

fn running_containers_are_adopted() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundles = [pausing(), Bundle::new().probe(&["trap"])];
    client.run(&pod.request("a", &bundles[0]));
    client.run(&pod.request("b", &bundles[1]));
    eventually("it listens", || pod.log("b").contains("ready"));
    let before = client.state().containers;
    pod.replace_shim();
    let mut client = pod.client();
    assert_eq!(client.state().containers, before);
    let output = client
        .exec(&exec_request("a", &[PROBE, "print", "x"]))
        .unwrap();
    assert_eq!(output.stdout, b"\"x\"\n");
    ended_with(&client.stop("a", 0, 0).unwrap(), 137);
    ended_with(&client.stop("b", 0, 60_000).unwrap(), 0);
    assert!(pod.log("b").contains("end"));
    client.delete("a").unwrap();
}

/// Whoever waits for orphans on this machine may take its time.
fn an_end_that_nobody_has_waited_for_is_told() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = Bundle::new().probe(&["trap", ",", "exit", "9"]);
    let pid = Pid::from_raw(client.run(&pod.request("c", &bundle)).pid);
    eventually("it listens", || pod.log("c").contains("ready"));
    pod.kill_shim();
    kill(pid, Signal::SIGTERM).unwrap();
    eventually("it has ended", || !is_alive(pid));
    assert!(pod.start_shim().status.success());
    let exit = pod.client().wait("c");
    assert_eq!((exit.code, exit.unknown), (9, false));
}

fn an_end_that_no_shim_saw_is_told() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = Bundle::new().probe(&["trap", ",", "exit", "9"]);
    let pid = client.run(&pod.request("c", &bundle)).pid;
    eventually("it listens", || pod.log("c").contains("ready"));
    pod.kill_shim();
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    eventually("it has ended, and was waited for", || {
        !fs::exists(format!("/proc/{pid}")).unwrap()
    });
    assert!(pod.start_shim().status.success());
    let exit = pod.client().wait("c");
    assert_eq!((exit.code, exit.unknown), (9, false));
    assert!(pod.log("c").contains("end"));
}

/// By the time the next shim comes another process may have got the pid.
fn who_has_got_the_pid_is_left_alone() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = pausing();
    let pid = Pid::from_raw(client.run(&pod.request("c", &bundle)).pid);
    pod.kill_shim();
    kill(pid, Signal::SIGKILL).unwrap();
    eventually("it has ended", || !is_alive(pid));
    let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
    let file = pod.directory.runtime().join("c/state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(state["init"]["pid"], pid.as_raw());
    state["init"]["pid"] = json!(other.id());
    fs::write(&file, state.to_string()).unwrap();
    assert!(pod.start_shim().status.success());
    let mut client = pod.client();
    let exit = client.wait("c");
    assert_eq!(exit.code, if exit.unknown { 255 } else { 137 });
    client.stop("c", 0, 0).unwrap();
    client.delete("c").unwrap();
    let is_there = other.try_wait().unwrap().is_none();
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(is_there);
}

/// A probe whose shim is killed has lost its caller and its time limit; what one before it has left running goes on.
fn execs_end_with_their_shim() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = pausing();
    client.run(&pod.request("c", &bundle));
    let before = bundle.cgroup().processes();
    client
        .exec(&exec_request("c", &[PROBE, "orphans", "1"]))
        .unwrap();
    let left = bundle.cgroup().processes();
    assert_eq!(left.len(), before.len() + 1);
    let request = exec_request("c", &[PROBE, "orphans", "2", ",", "pause"]);
    client.send("Exec", &request);
    eventually("it runs, with what it started", || {
        bundle.cgroup().processes().len() == left.len() + 3
    });
    pod.replace_shim();
    eventually("it has ended", || bundle.cgroup().processes() == left);
    let mut client = pod.client();
    client.stop("c", 0, 0).unwrap();
    client.delete("c").unwrap();
    assert!(bundle.cgroup().existing().is_empty());
}

/// Nobody was told of it: it is as if it had never been asked for.
fn a_creation_that_was_cut_short_is_undone() {
    let pod = Pod::new();
    let mut client = pod.client();
    let fifo = pod.scratch().join("fifo");
    mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
    let cat = program_in_path("cat").unwrap();
    let hook = json!([{"path": cat, "args": ["cat", fifo]}]);
    let hanging = pausing().set("/hooks/createRuntime", hook);
    client.send("Create", &pod.request("c", &hanging));
    eventually("its processes are there", || {
        !hanging.cgroup().processes().is_empty()
    });
    pod.replace_shim();
    let mut client = pod.client();
    assert_eq!(client.container("c"), None);
    assert!(hanging.cgroup().existing().is_empty());
    assert!(!pod.directory.container("c").exists());
    client.run(&pod.request("c", &pausing()));
}

/// The program is let run by the next shim, where an earlier one has only said that it would be.
fn a_start_that_was_cut_short_is_finished() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = pausing();
    client.create(&pod.request("c", &bundle)).unwrap();
    pod.kill_shim();
    let file = pod.directory.shim_file("c");
    let mut state: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(state["startedAt"], 0);
    state["startedAt"] = json!(1);
    fs::write(&file, state.to_string()).unwrap();
    assert!(pod.start_shim().status.success());
    eventually("it runs", || pod.log("c").contains("ready"));
    let state = pod.client().container("c").unwrap();
    assert_eq!(state.status(), ContainerStatus::Running);
}

fn what_waits_to_be_started_is_adopted() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = Bundle::new().probe(&["print", "hello"]);
    client.create(&pod.request("c", &bundle)).unwrap();
    pod.replace_shim();
    let mut client = pod.client();
    let state = client.container("c").unwrap();
    assert_eq!(state.status(), ContainerStatus::Created);
    client.start("c").unwrap();
    ended_with(&client.wait("c"), 0);
    assert!(pod.log("c").contains("hello"));
}

fn an_end_that_was_told_stays() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = Bundle::new().probe(&["exit", "4"]);
    client.run(&pod.request("c", &bundle));
    let exit = client.wait("c");
    pod.replace_shim();
    let mut client = pod.client();
    assert_eq!(client.wait("c"), exit);
    client.delete("c").unwrap();
    pod.replace_shim();
    assert!(pod.client().state().containers.is_empty());
}

fn a_terminal_is_adopted() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = Bundle::new()
        .set("/process/terminal", true)
        .probe(&["winch"]);
    client.run(&pod.request("c", &bundle));
    eventually("it listens", || pod.log("c").contains("columns"));
    pod.replace_shim();
    let mut client = pod.client();
    let request = ocirun_shim::wire::ResizePtyRequest {
        id: "c".to_owned(),
        width: 99,
        height: 5,
    };
    eventually("it is resized", || {
        client.call("ResizePty", &request).is_ok()
    });
    eventually("it knows", || pod.log("c").contains("99"));
}

fn one_shim_serves_a_pod() {
    let pod = Pod::new();
    let output = pod.start_shim();
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("a shim serves this pod already"), "{words}");
    pod.client().state();
}

fn asked_to_end_it_leaves_the_pod_to_the_next() {
    let pod = Pod::new();
    let bundle = pausing();
    let created = pod.client().run(&pod.request("c", &bundle));
    let shim = pod.shim_pid();
    kill(shim, Signal::SIGTERM).unwrap();
    eventually("it has ended", || !is_alive(shim));
    assert!(is_alive(Pid::from_raw(created.pid)));
    assert!(pod.start_shim().status.success());
    assert_eq!(pod.client().container("c").unwrap().pid, created.pid);
}

/// Whatever it was at, the next one finishes or undoes it, and the same request then succeeds.
fn killed_at_any_moment_it_leaves_nothing_half_done() {
    let kills = std::env::var("OCIRUN_TEST_KILLS").map_or(30, |text| text.parse().unwrap());
    let pod = Pod::with(&json!({"namespaces": {"network": true, "ipc": true, "uts": true}}));
    let bundle = pausing();
    let request = pod.request("c", &bundle);
    for round in 0..kills {
        let mut client = pod.client();
        match round % 3 {
            0 => drop(client.send("Create", &request)),
            1 => {
                create(&pod, &request);
                let id = "c".to_owned();
                client.send("Start", &StartRequest { id });
            }
            _ => {
                create(&pod, &request);
                start(&pod, &request);
                let id = "c".to_owned();
                client.send("Delete", &DeleteRequest { id, force: true });
            }
        }
        std::thread::sleep(Duration::from_micros(700 * (round / 3)));
        pod.replace_shim();
    }
    create(&pod, &request);
    start(&pod, &request);
    let mut client = pod.client();
    client.stop("c", 0, 0).unwrap();
    client.delete("c").unwrap();
    assert_eq!(bundle.cgroup().existing(), Vec::<std::path::PathBuf>::new());
    assert!(!pod.directory.container("c").exists());
}

/// Brings it to where it waits to be started, whatever an earlier shim was at.
fn create(pod: &Pod, request: &CreateRequest) {
    bring(pod, request, ContainerStatus::Created);
}

/// Brings it to where it runs.
fn start(pod: &Pod, request: &CreateRequest) {
    bring(pod, request, ContainerStatus::Running);
}

fn bring(pod: &Pod, request: &CreateRequest, wanted: ContainerStatus) {
    let mut client = pod.client();
    eventually("it is where it is wanted", || {
        let state = client.container("c");
        let status = state.as_ref().map(ContainerState::status);
        let done = match status {
            Some(status) if status == wanted => {
                let is_started = state.is_some_and(|state| state.started_at > 0);
                assert_eq!(is_started, wanted == ContainerStatus::Running);
                return true;
            }
            None => client.create(request).map(drop),
            Some(ContainerStatus::Created) => client.start("c"),
            // What began before may still be going on, or end just now.
            Some(_) => client
                .stop("c", 0, 0)
                .and_then(|_| client.delete("c").map(drop)),
        };
        let codes = [Code::FailedPrecondition as i32, Code::NotFound as i32];
        assert!(
            done.as_ref().is_ok()
                || done
                    .as_ref()
                    .is_err_and(|status| codes.contains(&status.code)),
            "{done:?}"
        );
        false
    });
}

suite! {
    &[Need::Root] => [
        running_containers_are_adopted,
        who_has_got_the_pid_is_left_alone,
        execs_end_with_their_shim,
        a_creation_that_was_cut_short_is_undone,
        a_start_that_was_cut_short_is_finished,
        what_waits_to_be_started_is_adopted,
        an_end_that_was_told_stays,
        a_terminal_is_adopted,
        one_shim_serves_a_pod,
        asked_to_end_it_leaves_the_pod_to_the_next,
        killed_at_any_moment_it_leaves_nothing_half_done,
    ],
    &[Need::Root, Need::Kernel(6, 15)] => [
        an_end_that_no_shim_saw_is_told,
        an_end_that_nobody_has_waited_for_is_told,
    ],
}
