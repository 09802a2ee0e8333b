//! create, start, kill, delete, pause and resume: statuses, refusals and their words, before and after.
#![allow(clippy::unwrap_used, reason = "tests")]

use ocirun_tests::{Bundle, Container, Need, differs_on_runc, eventually, suite};
use std::fs;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

/// As `start` of every runtime of this kind does it, so that one can start what another created.
fn create_can_be_released_through_the_fifo() {
    let container = Container::trapping();
    let create = container.create().ok();
    let fifo = container.state_root().join(&container.id).join("exec.fifo");
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let fifo = nix::fcntl::open(&fifo, flags, Mode::empty()).unwrap();
    let mut byte = [0];
    eventually("a byte in the fifo", || {
        nix::unistd::read(&fifo, &mut byte) == Ok(1)
    });
    assert_eq!(&byte, b"0");
    drop(fifo);
    eventually("ready", || create.stdout().contains("ready"));
}

fn create_refuses_an_existing_id() {
    let container = Container::pausing().created();
    container
        .create()
        .fails(1, "container with given ID already exists");
    assert_eq!(container.status(), "created");
    container
        .run()
        .fails(1, "container with given ID already exists");
}

fn create_refuses_ids_that_are_none() {
    let container = Container::pausing();
    for id in ["a/b", "..", ".", "a b", "ä", "../x", "/abs"] {
        let create = container
            .command("create")
            .arg("--bundle")
            .arg(container.bundle.path())
            .arg(id)
            .finish();
        create.fails(1, "invalid container ID format");
    }
    let empty = container
        .command("create")
        .arg("--bundle")
        .arg(container.bundle.path())
        .arg("")
        .finish();
    empty.fails(1, "container id cannot be empty");
    let left = fs::read_dir(container.state_root()).unwrap().count();
    assert_eq!(left, 0);
}

fn create_takes_every_letter_of_ids() {
    let container = Container::pausing();
    let id = format!("{}_a.B+c-9", container.id);
    let call = |verb: &str| container.command(verb).arg(&id).finish();
    container
        .command("create")
        .arg("--bundle")
        .arg(container.bundle.path())
        .arg(&id)
        .finish()
        .ok();
    container
        .command("delete")
        .args(["--force", &id])
        .finish()
        .ok();
    call("state").fails(1, "container does not exist");
}

fn start_twice() {
    let container = Container::pausing().running();
    container
        .start()
        .fails(1, "cannot start an already running container");
    assert_eq!(container.status(), "running");
}

fn start_of_a_stopped_container() {
    Container::pausing()
        .stopped()
        .start()
        .fails(1, "cannot start a container that has stopped");
}

fn delete_of_a_running_container() {
    let container = Container::pausing().running();
    let words = format!(
        "cannot delete container {} that is not stopped: running",
        container.id
    );
    container.delete().fails(1, &words);
    assert_eq!(container.status(), "running");
}

fn delete_of_a_created_container() {
    let container = Container::pausing().created();
    let pid = container.pid();
    container.delete().ok();
    container.verb("state").fails(1, "container does not exist");
    eventually("its init is gone", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.is_empty() || status.contains("State:\tZ")
    });
    assert_eq!(
        container.bundle.cgroup().existing(),
        Vec::<std::path::PathBuf>::new()
    );
}

fn delete_force_of_any_state() {
    for prepare in [Container::created, Container::running, Container::stopped] {
        let container = prepare(Container::pausing());
        container
            .command("delete")
            .args(["--force", &container.id])
            .finish()
            .ok();
        container.verb("state").fails(1, "container does not exist");
        assert_eq!(
            container.bundle.cgroup().existing(),
            Vec::<std::path::PathBuf>::new()
        );
    }
}

fn delete_force_of_a_paused_container() {
    let container = Container::pausing().running();
    container.verb("pause").ok();
    container.delete().fails(1, "that is not stopped: paused");
    container
        .command("delete")
        .args(["-f", &container.id])
        .finish()
        .ok();
    assert_eq!(
        container.bundle.cgroup().existing(),
        Vec::<std::path::PathBuf>::new()
    );
}

fn delete_of_an_unknown_container() {
    let container = Container::pausing();
    container.delete().fails(1, "container does not exist");
    container
        .command("delete")
        .args(["--force", &container.id])
        .finish()
        .ok();
}

fn kill_delivers_the_signal() {
    let container = Container::trapping();
    let run = container.run_until_ready();
    for (name, seen) in [
        ("USR1", "SIGUSR1"),
        ("SIGHUP", "SIGHUP"),
        ("12", "SIGUSR2"),
        ("int", "SIGINT"),
    ] {
        container.kill(name).ok();
        eventually(seen, || run.stdout().contains(seen));
    }
    container.verb("kill").ok();
    let end = run.finish();
    assert_eq!(
        end.values().iter().rev().nth(1).unwrap(),
        "SIGTERM",
        "the default signal: {end}"
    );
    assert_eq!(end.code(), 0);
}

fn kill_refuses_what_is_no_signal() {
    let container = Container::pausing().created();
    container.kill("NOSUCH").fails(1, "unknown signal");
    container.kill("99").fails(1, "");
    container.kill("0").ok();
    assert_eq!(container.status(), "created");
}

fn kill_of_a_created_container() {
    let container = Container::pausing().created();
    container.kill("KILL").ok();
    container.wait_for_status("stopped");
    container.delete().ok();
}

fn kill_of_a_stopped_container() {
    let container = Container::pausing().stopped();
    container.kill("KILL").fails(1, "container not running");
    container
        .command("kill")
        .args(["--all", &container.id, "KILL"])
        .finish()
        .ok();
}

fn kill_of_a_paused_container() {
    let container = Container::pausing().running();
    container.verb("pause").ok();
    container.kill("KILL").ok();
    container.wait_for_status("stopped");
}

fn kill_ends_all_with_a_shared_pid_namespace() {
    let container = Bundle::new()
        .without_namespace("pid")
        .probe(&["fork", "3"])
        .container();
    let run = container.run_detached().ok();
    eventually("children", || run.stdout().contains("children"));
    let children: Vec<u64> = run.values()[0]["children"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pid| pid.as_u64().unwrap())
        .collect();
    assert_eq!(children.len(), 3);
    let verb = if differs_on_runc("1.1.5 kills all only when asked to") {
        &["--all"][..]
    } else {
        &[]
    };
    container
        .command("kill")
        .args(verb)
        .args([&container.id, "KILL"])
        .finish()
        .ok();
    container.wait_for_status("stopped");
    let alive = |pid: &u64| {
        fs::read_to_string(format!("/proc/{pid}/status"))
            .is_ok_and(|status| !status.contains("State:\tZ"))
    };
    eventually("all children are gone", || !children.iter().any(alive));
}

fn pause_and_resume_refuse_the_wrong_state() {
    let container = Container::pausing().running();
    container.verb("resume").fails(1, "container not paused");
    container.verb("pause").ok();
    container.verb("pause").fails(1, "container not running");
    container.start().fails(1, "");
    container.exec(&["report"]).fails(
        255,
        "cannot exec in a paused container (use --ignore-paused to override)",
    );
    container.verb("resume").ok();
    container.kill("KILL").ok();
    container.wait_for_status("stopped");
    container.verb("pause").fails(1, "container not running");
    container.verb("resume").fails(1, "container not paused");
    container
        .exec(&["report"])
        .fails(255, "cannot exec in a stopped container");
}

fn pause_of_a_created_container() {
    let container = Container::pausing().created();
    container.verb("pause").ok();
    assert_eq!(container.status(), "paused");
    container.verb("resume").ok();
    assert_eq!(container.status(), "created");
    container.start().ok();
    assert_eq!(container.status(), "running");
}

suite! {
    &[Need::Root] => [
        create_can_be_released_through_the_fifo,
        create_refuses_an_existing_id,
        create_refuses_ids_that_are_none,
        create_takes_every_letter_of_ids,
        start_twice,
        start_of_a_stopped_container,
        delete_of_a_running_container,
        delete_of_a_created_container,
        delete_force_of_any_state,
        delete_of_an_unknown_container,
        kill_delivers_the_signal,
        kill_refuses_what_is_no_signal,
        kill_of_a_created_container,
        kill_of_a_stopped_container,
        kill_ends_all_with_a_shared_pid_namespace,
    ],
    &[Need::Root, Need::Cgroup("freezer")] => [
        delete_force_of_a_paused_container,
        kill_of_a_paused_container,
        pause_and_resume_refuse_the_wrong_state,
        pause_of_a_created_container,
    ],
}
