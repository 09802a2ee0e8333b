//! Logs of containers: every line once, whatever happens to the log, its disk or the shim.
//!
//! `OCIRUN_TEST_LINES=` is how many lines of 100 bytes are printed in the tests of many lines, 200000 unless told;
//! logs are then rotated each 10 MiB, otherwise each MiB.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Pid, mkfifo};
use ocirun_shim::wire::{Code, CreateRequest, ReopenLogRequest};
use ocirun_tests::logs::{log_size, numbered_lines};
use ocirun_tests::pod::{Client, Pod, exec_request, is_alive};
use ocirun_tests::{Bundle, Need, PROBE, eventually, suite};

fn printing(count: u64) -> Bundle {
    Bundle::new().probe(&["lines", "0", &count.to_string()])
}

fn reopen(client: &mut Client, id: &str) {
    let id = id.to_owned();
    client.call("ReopenLog", &ReopenLogRequest { id }).unwrap();
}

/// Renames the log as the kubelet does, whenever it has grown to `limit`, until the container has ended. Gives the logs
/// in their order.
fn rotate(pod: &Pod, client: &mut Client, limit: u64) -> Vec<PathBuf> {
    let path = pod.log_path("c");
    let mut old = Vec::new();
    while client.container("c").unwrap().exit.is_none() {
        if fs::metadata(&path).is_ok_and(|found| found.len() > limit) {
            let to = path.with_extension(format!("{}", old.len()));
            fs::rename(&path, &to).unwrap();
            old.push(to);
            let id = "c".to_owned();
            match client.call("ReopenLog", &ReopenLogRequest { id }) {
                Ok(_) => assert!(path.exists(), "the new log is there"),
                // It has just ended: what was left was written to the old one.
                Err(status) => assert_eq!(status.code, Code::FailedPrecondition as i32),
            }
        }
        std::thread::yield_now();
    }
    old.push(path);
    old
}

/// Numbers of the lines of `logs`, each of which must be whole.
fn numbers(logs: &[PathBuf]) -> Vec<u64> {
    let logs = logs.iter().filter(|log| log.exists());
    logs.flat_map(|log| numbered_lines(File::open(log).unwrap()))
        .collect()
}

#[track_caller]
fn all_are_there(numbers: &[u64], count: u64) {
    let wrong = numbers
        .iter()
        .zip(0..)
        .find(|(number, place)| *number != place);
    assert_eq!(wrong, None, "the first that is not in its place");
    assert_eq!(numbers.len() as u64, count);
}

fn every_line_is_there_once_across_rotations() {
    let (count, limit) = log_size();
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = printing(count);
    client.run(&pod.request("c", &bundle));
    let logs = rotate(&pod, &mut client, limit);
    assert!(logs.len() > 3, "{logs:?}");
    all_are_there(&numbers(&logs), count);
}

fn every_line_is_there_once_though_the_shim_is_killed() {
    let (count, _) = log_size();
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = printing(count);
    client.run(&pod.request("c", &bundle));
    for _ in 0..5 {
        pod.replace_shim();
    }
    let mut client = pod.client();
    client.wait("c");
    all_are_there(&numbers(&[pod.log_path("c")]), count);
}

fn long_lines_are_cut_and_the_last_needs_no_end() {
    let pod = Pod::new();
    let mut client = pod.client();
    let long = "x".repeat(40_000);
    let bundle = Bundle::new().probe(&["cat"]);
    fs::write(bundle.inside("/text"), format!("{long}\nlast")).unwrap();
    let bundle = bundle.probe(&["read", "/text"]);
    let request = CreateRequest {
        log_line_limit: 10_000,
        ..pod.request("c", &bundle)
    };
    client.run(&request);
    client.wait("c");
    let log = pod.log("c");
    let tags: Vec<&str> = log
        .lines()
        .map(|line| line.split(' ').nth(2).unwrap())
        .collect();
    assert_eq!(tags, ["P", "P", "P", "P", "F"], "{log}");
    let joined: String = log
        .lines()
        .map(|line| line.splitn(4, ' ').nth(3).unwrap())
        .collect();
    assert!(joined.contains(&long));
}

/// The disk that stalls is a FIFO whose reader does not read.
fn a_log_that_stalls_holds_only_its_own_container() {
    let pod = Pod::new();
    let mut client = pod.client();
    let stalled = pod.log_path("slow");
    mkfifo(&stalled, Mode::from_bits_truncate(0o600)).unwrap();
    let mut options = OpenOptions::new();
    let reader = options
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(&stalled)
        .unwrap();
    let slow = printing(1_000_000);
    client.run(&pod.request("slow", &slow));
    let quick = printing(1000);
    client.run(&pod.request("quick", &quick));
    assert_eq!(client.wait("quick").code, 0);
    all_are_there(&numbers(&[pod.log_path("quick")]), 1000);
    let output = client.exec(&exec_request("slow", &[PROBE, "print", "lives"]));
    assert_eq!(output.unwrap().stdout, b"\"lives\"\n");
    // It waits, and has lost nothing.
    assert!(client.container("slow").unwrap().exit.is_none());
    // Its end is told though the log is not written, and so is its removal.
    assert_eq!(client.stop("slow", 0, 0).unwrap().code, 137);
    client.delete("slow").unwrap();
    nix::fcntl::fcntl(
        &reader,
        nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty()),
    )
    .unwrap();
    let mut text = Vec::new();
    (&reader).read_to_end(&mut text).unwrap();
    // The last line may have been cut by the end of who printed it.
    let end = text.iter().rposition(|&byte| byte == b'\n').unwrap();
    let start = text[..end].iter().rposition(|&byte| byte == b'\n').unwrap();
    let numbers: Vec<u64> = numbered_lines(&text[..start]).collect();
    assert!(numbers.len() > 1000, "{}", numbers.len());
    all_are_there(&numbers, numbers.len() as u64);
}

/// The disk that is full is a device that says so, until the log is opened anew.
fn a_full_disk_does_not_hold_the_container() {
    let pod = Pod::new();
    let mut client = pod.client();
    let path = pod.log_path("c");
    let full = makedev(1, 7);
    mknod(&path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o600), full).unwrap();
    let bundle = Bundle::new().probe(&["lines", "0", "5000", ",", "trap"]);
    let pid = client.run(&pod.request("c", &bundle)).pid;
    eventually("it has printed all, and takes signals", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.contains("SigBlk:\tf")
    });
    fs::remove_file(&path).unwrap();
    reopen(&mut client, "c");
    kill(Pid::from_raw(pid), Signal::SIGUSR1).unwrap();
    eventually("it is heard", || pod.log("c").contains("SIGUSR1"));
    let log = pod.log("c");
    let told = log.lines().next().unwrap();
    let words = "bytes of log were dropped: no space left on device (ENOSPC)]";
    assert!(told.ends_with(words), "{log}");
}

fn keeper_of(pod: &Pod, id: &str) -> Option<Pid> {
    let fifo = pod.directory.container(id).join("stdout");
    let has_it = |pid: &i32| {
        let named = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let fds = fs::read_dir(format!("/proc/{pid}/fd"));
        let mut fds = fds.into_iter().flatten().flatten();
        named.trim() == "ocirun-log"
            && fds.any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == fifo))
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(has_it).map(Pid::from_raw)
}

fn another_goes_on_where_what_writes_the_log_is_killed() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = Bundle::new().probe(&["trap"]);
    let pid = Pid::from_raw(client.run(&pod.request("c", &bundle)).pid);
    eventually("it listens", || pod.log("c").contains("ready"));
    let keeper = keeper_of(&pod, "c").unwrap();
    kill(keeper, Signal::SIGKILL).unwrap();
    kill(pid, Signal::SIGUSR1).unwrap();
    eventually("it is heard", || pod.log("c").contains("SIGUSR1"));
    client.stop("c", 0, 60_000).unwrap();
    assert!(pod.log("c").contains("end"));
}

/// Nobody reads what it prints for a while: it neither ends nor loses it.
fn what_is_printed_while_nobody_reads_is_kept() {
    let pod = Pod::new();
    let mut client = pod.client();
    let bundle = Bundle::new().probe(&["trap"]);
    let pid = Pid::from_raw(client.run(&pod.request("c", &bundle)).pid);
    eventually("it listens", || pod.log("c").contains("ready"));
    let keeper = keeper_of(&pod, "c").unwrap();
    pod.kill_shim();
    kill(keeper, Signal::SIGKILL).unwrap();
    eventually("nobody reads", || !is_alive(keeper));
    kill(pid, Signal::SIGUSR1).unwrap();
    kill(pid, Signal::SIGUSR2).unwrap();
    eventually("it has taken both", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.contains("ShdPnd:\t0000000000000000")
    });
    assert!(pod.start_shim().status.success());
    eventually("both are heard", || {
        let log = pod.log("c");
        log.contains("SIGUSR1") && log.contains("SIGUSR2")
    });
    assert!(is_alive(pid));
}

fn the_log_is_no_link() {
    let pod = Pod::new();
    let mut client = pod.client();
    let target = pod.scratch().join("target");
    fs::write(&target, "").unwrap();
    std::os::unix::fs::symlink(&target, pod.log_path("c")).unwrap();
    let bundle = Bundle::new().probe(&["print", "x"]);
    let status = client.create(&pod.request("c", &bundle)).unwrap_err();
    assert!(
        status.message.contains("log_path: open("),
        "{}",
        status.message
    );
    assert_eq!(fs::read(Path::new(&target)).unwrap(), b"");
}

suite! {
    &[Need::Root] => [
        every_line_is_there_once_across_rotations,
        every_line_is_there_once_though_the_shim_is_killed,
        long_lines_are_cut_and_the_last_needs_no_end,
        a_log_that_stalls_holds_only_its_own_container,
        a_full_disk_does_not_hold_the_container,
        another_goes_on_where_what_writes_the_log_is_killed,
        what_is_printed_while_nobody_reads_is_kept,
        the_log_is_no_link,
    ],
}
