//! What `ocirun run` does on its way, seen by strace: how often it executes, clones and reads lists of mounts.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use ocirun_tests::{Bundle, Invocation, Need, runtime, suite};

/// All lines of one traced `run` up to the start of the container's own program.
fn traced() -> Vec<String> {
    let container = Bundle::new().probe(&["print", "x"]).container();
    let log = container.file("strace");
    let run = Invocation::new("strace".as_ref())
        .args([
            "-f",
            "-e",
            "trace=execve,execveat,clone,clone3,fork,vfork,open,openat,openat2",
            "-o",
        ])
        .arg(&log)
        .arg(&runtime().program)
        .arg("--root")
        .arg(container.state_root())
        .args(["run", "--bundle"])
        .arg(container.bundle.path())
        .arg(&container.id);
    run.finish().ok();
    fs::read_to_string(&log)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn count(lines: &[String], names: &[&str]) -> usize {
    let is = |line: &&String| {
        names.iter().any(|name| {
            line.split_whitespace()
                .nth(1)
                .is_some_and(|call| call.starts_with(&format!("{name}(")))
        })
    };
    lines
        .iter()
        .filter(is)
        .filter(|line| !line.contains("= -1 "))
        .count()
}

/// strace's own execve of the runtime, at most one of a protected view of itself, and the container's program.
fn at_most_one_execve_of_its_own() {
    let lines = traced();
    let found = count(&lines, &["execve", "execveat"]);
    assert!(found <= 3, "{found}: {lines:#?}");
}

fn no_second_process() {
    let lines = traced();
    assert_eq!(
        count(&lines, &["clone", "clone3", "fork", "vfork"]),
        1,
        "{lines:#?}"
    );
}

fn no_list_of_mounts_is_read() {
    let lines = traced();
    let read: Vec<&String> = lines
        .iter()
        .filter(|line| line.contains("mountinfo") || line.contains("/proc/self/mounts"))
        .collect();
    assert_eq!(read, Vec::<&String>::new());
}

suite! {
    &[Need::Root, Need::Program("strace"), Need::Ocirun] => [
        at_most_one_execve_of_its_own,
        no_second_process,
        no_list_of_mounts_is_read,
    ],
}
