//! run, in the foreground and detached: exit codes, streams, signals, flags, and many at once.
#![allow(clippy::unwrap_used, reason = "tests")]

use ocirun_tests::{Bundle, Container, Need, PROBE, eventually, runtime, suite};
use serde_json::json;
use std::fs;

use nix::sys::signal::{Signal, kill};

fn run_gives_the_exit_code() {
    assert_eq!(
        Bundle::new().probe(&["exit", "7"]).container().run().code(),
        7
    );
    assert_eq!(
        Bundle::new().probe(&["exit", "0"]).container().run().code(),
        0
    );
}

fn run_gives_128_and_the_signal() {
    let container = Bundle::new().probe(&["trap"]).container();
    let run = container.run_until_ready();
    container.kill("KILL").ok();
    assert_eq!(run.finish().code(), 128 + 9);
}

fn run_deletes_the_container_at_its_end() {
    let container = Bundle::new().probe(&["print", "hello"]).container();
    assert_eq!(container.run().ok().value(), "hello");
    container.verb("state").fails(1, "container does not exist");
    assert_eq!(
        container.bundle.cgroup().existing(),
        Vec::<std::path::PathBuf>::new()
    );
    assert_eq!(fs::read_dir(container.state_root()).unwrap().count(), 0);
}

fn run_keep_leaves_a_stopped_container() {
    let container = Bundle::new().probe(&["exit", "3"]).container();
    assert_eq!(container.from_bundle("run", &["--keep"]).finish().code(), 3);
    assert_eq!(container.status(), "stopped");
    container.delete().ok();
}

fn run_takes_the_current_directory_as_the_bundle() {
    let container = Bundle::new().probe(&["print", "here"]).container();
    let run = container
        .command("run")
        .arg(&container.id)
        .directory(container.bundle.path())
        .finish()
        .ok();
    assert_eq!(run.value(), "here");
}

fn run_takes_a_single_directory_as_the_bundle() {
    let container = Bundle::new().probe(&["print", "here"]).container();
    assert_eq!(
        container
            .command("run")
            .arg(container.bundle.path())
            .finish()
            .ok()
            .value(),
        "here"
    );
}

fn run_passes_standard_input_on() {
    let container = Bundle::new().probe(&["cat"]).container();
    let run = container
        .from_bundle("run", &[])
        .stdin("typed in")
        .finish()
        .ok();
    assert_eq!(run.stdout(), "typed in{\"bytes\":8}\n");
}

fn run_keeps_output_and_errors_apart() {
    let run = Bundle::new()
        .probe(&["print", "out", ",", "stderr", "err"])
        .container()
        .run()
        .ok();
    assert_eq!(
        (run.stdout().as_str(), run.stderr().as_str()),
        ("\"out\"\nnull\n", "err\n")
    );
}

fn run_passes_signals_on() {
    let container = Container::trapping();
    let run = container.run_until_ready();
    for signal in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGUSR1,
        Signal::SIGQUIT,
    ] {
        kill(run.pid(), signal).unwrap();
        eventually(signal.as_str(), || run.stdout().contains(signal.as_str()));
    }
    kill(run.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(run.finish().code(), 0);
    container.verb("state").fails(1, "container does not exist");
}

fn run_in_the_foreground_has_a_state() {
    let container = Container::trapping();
    let run = container.run_until_ready();
    assert_eq!(container.status(), "running");
    assert_eq!(container.exec(&["print", "x"]).ok().value(), "x");
    container.kill("TERM").ok();
    assert_eq!(run.finish().code(), 0);
}

fn run_takes_its_flags() {
    let container = Bundle::new().probe(&["print", "x"]).container();
    let file = container.file("pid");
    let flags = [
        "--no-subreaper",
        "--no-new-keyring",
        "--pid-file",
        file.to_str().unwrap(),
    ];
    assert_eq!(
        container.from_bundle("run", &flags).finish().ok().value(),
        "x"
    );
    assert!(fs::read_to_string(file).unwrap().parse::<i32>().unwrap() > 1);
}

fn run_ends_with_the_first_process_whatever_its_children_do() {
    let container = Bundle::new().probe(&["orphans", "2"]).container();
    container.run().ok();
    container.verb("state").fails(1, "container does not exist");
    assert_eq!(
        container.bundle.cgroup().existing(),
        Vec::<std::path::PathBuf>::new()
    );
}

fn two_containers_of_one_bundle() {
    let container = Container::pausing();
    let second = format!("{}-second", container.id);
    container.run_detached().ok();
    let path = format!("{}-second", container.bundle.cgroup().path());
    let mut spec = container.bundle.spec.clone();
    spec["linux"]["cgroupsPath"] = json!(path);
    fs::write(container.file("config.json"), spec.to_string()).unwrap();
    container
        .command("run")
        .arg("--detach")
        .arg("--bundle")
        .arg(container.bundle.path())
        .arg(&second)
        .finish()
        .ok();
    let list = container.command("list").arg("-q").finish().ok().stdout();
    assert_eq!(list, format!("{}\n{second}\n", container.id));
    container
        .command("delete")
        .args(["--force", &second])
        .finish()
        .ok();
    assert_eq!(container.status(), "running");
}

fn create_refuses_a_missing_program() {
    let absolute = Bundle::new().args(&["/no/such/program"]).container();
    absolute.create().fails(1, "no such file or directory");
    let by_path = Bundle::new().args(&["nosuchprogram"]).container();
    by_path.create().fails(
        1,
        "exec: \"nosuchprogram\": executable file not found in $PATH",
    );
    by_path.run().fails(1, "executable file not found in $PATH");
    let directory = Bundle::new().args(&["/bin"]).container();
    directory.create().fails(1, "");
    let no_mode = Bundle::new().args(&["/etc/data"]).container();
    fs::write(no_mode.bundle.inside("/etc/data"), "text").unwrap();
    no_mode.create().fails(1, "permission denied");
    for container in [absolute, by_path, directory, no_mode] {
        container.verb("state").fails(1, "container does not exist");
        assert_eq!(
            container.bundle.cgroup().existing(),
            Vec::<std::path::PathBuf>::new()
        );
    }
}

fn a_program_is_found_through_the_path_of_the_container() {
    let container = Bundle::new()
        .set("/process/env", json!(["PATH=/sbin:/bin"]))
        .args(&["probe", "print", "x"]);
    assert_eq!(container.container().run().ok().value(), "x");
}

fn detached_containers_outlive_the_runtime() {
    let container = Container::pausing().running();
    let program = fs::read_link(format!("/proc/{}/root", container.pid())).unwrap();
    assert_eq!(program.to_str(), Some("/"));
    let line = fs::read(format!("/proc/{}/cmdline", container.pid())).unwrap();
    assert!(
        line.starts_with(PROBE.as_bytes()),
        "{}",
        runtime().program.display()
    );
}

fn sixteen_at_once() {
    let containers: Vec<Container> = (0..16).map(|_| Container::pausing()).collect();
    let calls: Vec<_> = containers
        .iter()
        .map(|container| container.from_bundle("create", &[]).start())
        .collect();
    for call in calls {
        call.finish().ok();
    }
    for container in &containers {
        assert_eq!(container.status(), "created");
        container.start().ok();
        container
            .command("delete")
            .args(["--force", &container.id])
            .finish()
            .ok();
    }
}

suite! {
    &[Need::Root] => [
        run_gives_the_exit_code,
        run_gives_128_and_the_signal,
        run_deletes_the_container_at_its_end,
        run_takes_the_current_directory_as_the_bundle,
        run_passes_standard_input_on,
        run_keeps_output_and_errors_apart,
        run_passes_signals_on,
        run_in_the_foreground_has_a_state,
        run_takes_its_flags,
        run_ends_with_the_first_process_whatever_its_children_do,
        two_containers_of_one_bundle,
        create_refuses_a_missing_program,
        a_program_is_found_through_the_path_of_the_container,
        detached_containers_outlive_the_runtime,
        sixteen_at_once,
    ],
    &[Need::Root, Need::NotRunc("1.1.5 has no run --keep")] => [
        run_keep_leaves_a_stopped_container,
    ],
    &[Need::Root, Need::Ocirun] => [
        run_takes_a_single_directory_as_the_bundle,
    ],
}
