//! Containers written to files by CRIU, and made again from them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use ocirun_tests::{
    Bundle, ConsoleSocket, Container, Invocation, Need, eventually, runtime, suite,
};
use serde_json::json;

#[path = "checkpoint/bed.rs"]
mod bed;
#[path = "checkpoint/work.rs"]
mod work;

use bed::{COUNT, checkpoint, count, counting, goes_on, images, read, restore, with_busybox};
use work::{
    a_client_elsewhere_keeps_its_connection, files_stay_open_where_they_were,
    memory_written_ahead_is_not_written_again, pages_go_to_a_server, what_was_in_memory_is_there,
};

fn it_goes_on_where_it_was() {
    let container = counting(with_busybox(COUNT));
    checkpoint(&container, &[]).ok();
    container.verb("state").fails(1, "does not exist");
    assert!(container.bundle.cgroup().existing().is_empty());
    let there = count(&container);
    restore(&container, &["-d"]).finish().ok();
    goes_on(&container, there);
    eventually("its processes are in its cgroup", || {
        container.bundle.cgroup().processes().len() == 2
    });
    let own = container.exec(&["report"]).value();
    assert_eq!(
        own["namespaces"],
        container.exec(&["report"]).value()["namespaces"]
    );
    // And once more.
    checkpoint(&container, &[]).ok();
    restore(&container, &["-d"]).finish().ok();
    goes_on(&container, there);
    container.kill("KILL").ok();
    container.wait_for_status("stopped");
    container.delete().ok();
    assert!(container.bundle.cgroup().existing().is_empty());
    assert!(!container.state_root().join(&container.id).exists());
}

fn it_may_go_on_meanwhile() {
    let container = counting(with_busybox(COUNT));
    checkpoint(&container, &["--leave-running"]).ok();
    goes_on(&container, count(&container));
    checkpoint(&container, &["-leave-running=true", "--work-path", "/tmp"]).ok();
    goes_on(&container, count(&container));
}

fn descriptors_are_written_as_runc_does() {
    let container = with_busybox(COUNT).container();
    let run = container.from_bundle("run", &[]).start();
    eventually("it counts", || count(&container) > 2);
    let stream = |fd: u32| fs::read_link(format!("/proc/{}/fd/{fd}", container.pid())).unwrap();
    let expected = [0, 1, 2].map(stream);
    checkpoint(&container, &[]).ok();
    let names = fs::read(images(&container).join("descriptors.json")).unwrap();
    let names: Vec<PathBuf> = serde_json::from_slice(&names).unwrap();
    assert_eq!(names, expected);
    assert_eq!(run.finish().code(), 137);
}

fn standard_output_is_that_of_restore() {
    let script = "while sleep 0.05; do echo here; i=x$i; echo $i > /tmp/count; [ -e /tmp/end ] && exit 7; done";
    let container = with_busybox(script).container();
    // Pipes, as callers have them, and the code behind what came through.
    let through_a_pipe = |call: Invocation| {
        let words = ["sh", "-c", "{ \"$@\"; echo code $?; } | cat"];
        call.words_behind(&words, Path::new("sh")).start()
    };
    let run = through_a_pipe(container.from_bundle("run", &[]));
    eventually("output", || run.stdout().contains("here"));
    checkpoint(&container, &[]).ok();
    assert!(run.finish().stdout().ends_with("code 137\n"));
    let pid_file = container.file("pid");
    let flags = ["--pid-file", pid_file.to_str().unwrap()];
    let mut restored = through_a_pipe(restore(&container, &flags));
    eventually("output", || {
        restored.stdout().contains("here") || restored.ended()
    });
    eventually("the pid file", || pid_file.exists() || restored.ended());
    assert_eq!(
        fs::read_to_string(pid_file).unwrap(),
        container.pid().to_string()
    );
    fs::write(container.bundle.inside("/tmp/end"), "").unwrap();
    let restored = restored.finish();
    assert!(restored.stdout().ends_with("code 7\n"), "{restored}");
    container.verb("state").fails(1, "does not exist");
}

/// CRIU wants files to be as long as they were.
fn standard_streams_that_are_files() {
    let script = "while sleep 0.05; do echo here; i=x$i; echo $i > /tmp/count; done";
    let container = with_busybox(script).container();
    let output = container.file("output");
    let lines = || {
        fs::read_to_string(&output)
            .unwrap_or_default()
            .lines()
            .count()
    };
    let into = |call: Invocation| {
        let words = ["sh", "-c", "exec \"$@\" >>\"$0\" </dev/null"];
        call.words_behind(&words, &output).finish().ok();
    };
    into(container.from_bundle("run", &["-d"]));
    eventually("output", || lines() > 2);
    checkpoint(&container, &[]).ok();
    let there = lines();
    into(restore(&container, &["-d"]));
    eventually("output", || lines() > there + 2);
}

fn a_terminal_of_its_own() {
    let container = with_busybox("while read line; do echo heard $line; done")
        .set("/process/terminal", true)
        .container();
    let socket = ConsoleSocket::bind(container.file("console"));
    let flags = ["-d", "--console-socket", socket.path().to_str().unwrap()];
    container.from_bundle("run", &flags).finish().ok();
    let (mut terminal, _) = socket.receive();
    terminal.write("one\n");
    terminal.wait_for("heard one");
    checkpoint(&container, &[]).ok();
    let restored = restore(&container, &flags).start();
    let (mut terminal, _) = socket.receive();
    restored.finish().ok();
    terminal.write("two\n");
    terminal.wait_for("heard two");
    restore(&container, &["-d"])
        .finish()
        .fails(1, "cannot allocate tty if runc will detach");
}

fn bind_mounts_are_the_hosts() {
    let bundle =
        with_busybox("mkdir /data/x; while sleep 0.05; do i=x$i; echo $i > /data/count; done");
    let source = bundle.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::create_dir_all(bundle.inside("/var")).unwrap();
    std::os::unix::fs::symlink("../var/data", bundle.inside("/data")).unwrap();
    fs::create_dir_all(bundle.inside("/var/data")).unwrap();
    let container = bundle
        .mount(
            json!({"destination": "/data", "type": "bind", "source": source, "options": ["rbind"]}),
        )
        .container();
    container.run_detached().ok();
    let length = || fs::read(source.join("count")).unwrap_or_default().len();
    eventually("it counts", || length() > 2);
    checkpoint(&container, &[]).ok();
    // A start would make the place as well.
    fs::remove_dir(container.bundle.inside("/var/data")).unwrap();
    fs::create_dir(container.bundle.inside("/var/data")).unwrap();
    let there = length();
    restore(&container, &["-d"]).finish().ok();
    eventually("it goes on", || length() > there + 2);
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !table.contains(container.state_root().to_str().unwrap()),
        "{table}"
    );
}

fn a_network_of_another() {
    let other = Bundle::new().probe(&["pause"]).container();
    other.run_until_ready_detached();
    let network = format!("/proc/{}/ns/net", other.pid());
    let bundle = with_busybox(COUNT).without_namespace("network");
    let container = counting(bundle.namespace(json!({"type": "network", "path": network})));
    checkpoint(&container, &[]).ok();
    restore(&container, &["-d"]).finish().ok();
    goes_on(&container, count(&container));
    let of = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert_eq!(of(container.pid()), of(other.pid()));
}

fn connections_stay() {
    let script = "sleep 1000 | nc -l -p 77 > /tmp/came & sleep 0.3; (i=0; while sleep 0.05; do i=$((i+1)); echo $i; echo $i > /tmp/count; done) | nc 127.0.0.1 77";
    let container = with_busybox(script).container();
    container.run_detached().ok();
    let came = |container: &Container| read(container, "/tmp/came").lines().count();
    eventually("bytes come", || came(&container) > 2);
    checkpoint(&container, &[]).fails(1, "");
    assert_eq!(container.status(), "running");
    checkpoint(&container, &["--tcp-established"]).ok();
    let there = came(&container);
    restore(&container, &["-d", "--tcp-established"])
        .finish()
        .ok();
    eventually("bytes come", || came(&container) > there + 2);
    let lines = read(&container, "/tmp/came");
    let numbers: Vec<usize> = lines.lines().map(|line| line.parse().unwrap()).collect();
    assert!(
        (1..).zip(&numbers).all(|(wanted, found)| wanted == *found),
        "{numbers:?}"
    );
}

fn locks_of_files_need_a_word() {
    let bundle = Bundle::new().set("/root/readonly", false);
    let container = bundle
        .probe(&["lock", "/tmp/lock", ",", "pause"])
        .container();
    // What it prints would have to be there for restore too.
    let silently = |call: Invocation| {
        let words = ["sh", "-c", "exec \"$@\" > /dev/null"];
        call.words_behind(&words, Path::new("sh")).finish().ok()
    };
    silently(container.from_bundle("run", &["-d"]));
    let is_locked = || {
        let file = fs::File::open(container.bundle.inside("/tmp/lock"));
        file.is_ok_and(|file| file.try_lock().is_err())
    };
    eventually("it has the lock", is_locked);
    let refused = checkpoint(&container, &[]).fails(1, "criu failed: type");
    assert!(
        refused.says("file-lock") && refused.says("dump.log"),
        "{refused}"
    );
    assert_eq!(refused.message().lines().count(), 1, "{refused}");
    assert_eq!(container.status(), "running");
    checkpoint(&container, &["--file-locks"]).ok();
    assert!(!is_locked());
    silently(restore(&container, &["-d", "--file-locks"]));
    assert_eq!(container.status(), "running");
    assert!(is_locked());
}

fn hooks_before_the_mounts_run_again() {
    let bundle = with_busybox(COUNT);
    let hook = bundle.path().join("hook");
    let at = bundle.path().join("told");
    let script = format!("cat >> {}; echo >> {0}", at.display());
    let hooks = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    fs::write(hook, "").unwrap();
    let container = counting(bundle.set("/hooks/createRuntime", hooks));
    checkpoint(&container, &[]).ok();
    restore(&container, &["-d"]).finish().ok();
    let told = fs::read_to_string(at).unwrap();
    let last: serde_json::Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!(told.lines().count(), 2, "{told}");
    assert_eq!(last["pid"], container.pid());
}

fn nothing_is_left_of_what_cannot_be_restored() {
    let container = counting(with_busybox(COUNT));
    checkpoint(&container, &[]).ok();
    let core = images(&container).join("core-1.img");
    fs::write(core, "nothing").unwrap();
    let refused = restore(&container, &["-d"])
        .finish()
        .fails(1, "criu failed");
    container.verb("state").fails(1, "does not exist");
    assert!(container.bundle.cgroup().existing().is_empty(), "{refused}");
    assert!(!container.state_root().join(&container.id).exists());
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !table.contains(container.state_root().to_str().unwrap()),
        "{table}"
    );
}

fn states_in_which_there_is_nothing_to_write() {
    let container = with_busybox(COUNT).container();
    checkpoint(&container, &[]).fails(1, "container does not exist");
    container.create().ok();
    checkpoint(&container, &[]).fails(1, "container cannot be checkpointed in created state");
    container.kill("KILL").ok();
    container.wait_for_status("stopped");
    checkpoint(&container, &[]).fails(1, "container cannot be checkpointed in stopped state");
    restore(&container, &["-d"]).finish().fails(1, "");
}

fn flags_that_cannot_be() {
    let container = counting(with_busybox(COUNT));
    for (flags, text) in [
        (
            &["--parent-path", "/abs"][..],
            "--parent-path must be relative",
        ),
        (&["--parent-path", "none"], "invalid --parent-path: stat"),
        (
            &["--page-server", "x"],
            "Use --page-server ADDRESS:PORT to specify page server",
        ),
        (&["--page-server", "x:y"], "Invalid port number"),
        (
            &["--manage-cgroups-mode", "none"],
            "Invalid manage cgroups mode",
        ),
        (&["--empty-ns", "pid"], "namespace \"pid\" is not supported"),
        (
            &["--lazy-pages", "--status-fd", "77"],
            "invalid --status-fd argument 77: bad file descriptor",
        ),
    ] {
        checkpoint(&container, flags).fails(1, text);
    }
    goes_on(&container, count(&container));
}

fn without_images() {
    let container = with_busybox(COUNT).container();
    restore(&container, &["-d"])
        .finish()
        .fails(1, "no such file or directory");
    fs::create_dir(images(&container)).unwrap();
    restore(&container, &["-d"])
        .finish()
        .fails(1, "descriptors.json");
    container.verb("state").fails(1, "does not exist");
}

fn without_criu() {
    let container = counting(with_busybox(COUNT));
    let call = container.command("checkpoint").arg("--image-path");
    let call = call
        .arg(images(&container))
        .arg(&container.id)
        .env("PATH", "/nowhere");
    call.finish()
        .fails(1, "exec: \"criu\": executable file not found in $PATH");
    goes_on(&container, count(&container));
}

/// What CRI-O and podman look at before they count on it.
fn callers_find_out_that_it_can() {
    let call = |words: &[&str]| Invocation::new(&runtime().program).args(words).finish();
    call(&["checkpoint", "--help"]).ok();
    call(&["restore", "--help"]).ok();
    let asked = call(&["restore", "--lsm-mount-context"]);
    assert_eq!(asked.code(), 1);
    let text = asked.stdout() + &asked.stderr();
    assert!(text.contains("flag needs an argument"), "{text}");
}

const NEEDS: &[Need] = &[Need::Root, Need::Program("busybox"), Need::Criu];
/// Beside those, for containers whose standard streams are the test's files.
const STREAMS: Need = Need::NotRunc("has CRIU take pipes of the host for streams, and no files");

suite! {
    NEEDS => [
        descriptors_are_written_as_runc_does,
        standard_output_is_that_of_restore,
        states_in_which_there_is_nothing_to_write,
        flags_that_cannot_be,
    ],
    &[Need::Root, Need::Program("busybox"), Need::Criu, STREAMS] => [
        it_goes_on_where_it_was,
        it_may_go_on_meanwhile,
        a_terminal_of_its_own,
        bind_mounts_are_the_hosts,
        a_network_of_another,
        locks_of_files_need_a_word,
        hooks_before_the_mounts_run_again,
        nothing_is_left_of_what_cannot_be_restored,
        without_images,
        standard_streams_that_are_files,
        files_stay_open_where_they_were,
        pages_go_to_a_server,
        what_was_in_memory_is_there,
    ],
    &[Need::Root, Need::Program("busybox"), Need::Criu, Need::CriuTcp, STREAMS] => [
        connections_stay,
        a_client_elsewhere_keeps_its_connection,
    ],
    &[
        Need::Root,
        Need::Program("busybox"),
        Need::Criu,
        Need::CriuFeature("mem_dirty_track"),
        STREAMS,
    ] => [memory_written_ahead_is_not_written_again],
    &[Need::Root, Need::Program("busybox")] => [without_criu],
    &[] => [callers_find_out_that_it_can],
}
