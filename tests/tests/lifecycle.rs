//! create, start, state, kill, delete, list, pause, resume and ps: statuses, refusals and their words, what is on
//! disk and in the cgroups before and after.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use ocirun_tests::{Bundle, Container, Need, PROBE, differs_on_runc, eventually, runtime, suite};
use serde_json::{Value, json};

/// A container whose PID 1 traps all signals and ends on SIGTERM.
fn trapping() -> Container {
    Bundle::new().probe(&["trap"]).container()
}

/// A container whose PID 1 ignores all signals that can be ignored.
fn pausing() -> Container {
    Bundle::new().probe(&["pause"]).container()
}

fn created(container: Container) -> Container {
    container.create().ok();
    container
}

fn running(container: Container) -> Container {
    let run = container.run_detached().ok();
    eventually("ready", || run.stdout().contains("ready"));
    container
}

fn stopped(container: Container) -> Container {
    let container = running(container);
    container.kill("KILL").ok();
    container.wait_for_status("stopped");
    container
}

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
    let container = trapping();
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
    let container = trapping();
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
    let container = pausing();
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

fn the_whole_life_by_state() {
    let container = trapping();
    let create = container.create().ok();
    assert_eq!(container.status(), "created");
    assert_eq!(create.stdout(), "", "the program must not have started");
    container.start().ok();
    eventually("ready", || create.stdout().contains("ready"));
    assert_eq!(container.status(), "running");
    container.verb("pause").ok();
    assert_eq!(container.status(), "paused");
    container.verb("resume").ok();
    assert_eq!(container.status(), "running");
    container.kill("TERM").ok();
    container.wait_for_status("stopped");
    assert_eq!(container.state()["pid"], 0);
    container.delete().ok();
    container.verb("state").fails(1, "container does not exist");
}

fn state_has_its_keys_in_order() {
    let container = created(pausing());
    let text = container.verb("state").ok().stdout();
    let keys = [
        "ociVersion",
        "id",
        "pid",
        "status",
        "bundle",
        "rootfs",
        "created",
        "owner",
    ];
    let found: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("  \"")?.split('"').next())
        .collect();
    assert_eq!(found, keys);
    assert!(!text.ends_with('\n'), "no line end after the object");
    let state: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(state["id"], container.id);
    assert_eq!(state["owner"], "");
    assert_eq!(state["bundle"], container.bundle.path().to_str().unwrap());
    assert_eq!(
        state["rootfs"],
        container.bundle.path().join("rootfs").to_str().unwrap()
    );
    let time = state["created"].as_str().unwrap();
    assert!(
        time.ends_with('Z') && time.as_bytes()[10] == b'T' && time.contains('.'),
        "RFC 3339, UTC, ns: {time}"
    );
    assert!(fs::exists(format!("/proc/{}", state["pid"])).unwrap());
}

fn state_shows_annotations() {
    let container = Bundle::new()
        .set("/annotations/org.example.key", "a value")
        .probe(&["pause"])
        .container();
    container.create().ok();
    assert_eq!(
        container.state()["annotations"],
        json!({"org.example.key": "a value"})
    );
}

fn list_knows_the_container() {
    let container = created(pausing());
    let table = container.command("list").finish().ok().stdout();
    let mut lines = table.lines();
    let header: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(
        header,
        ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    );
    let row: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    let (pid, bundle) = (
        container.pid().to_string(),
        container.bundle.path().to_str().unwrap(),
    );
    assert_eq!(
        (row[0], row[1], row[2], row[3]),
        (container.id.as_str(), pid.as_str(), "created", bundle)
    );
    assert_eq!(row[5], "root");
    assert_eq!(lines.next(), None);
    assert_eq!(
        container.command("list").arg("-q").finish().ok().stdout(),
        format!("{}\n", container.id)
    );
    let json: Value = container
        .command("list")
        .args(["--format", "json"])
        .finish()
        .ok()
        .value();
    assert_eq!(json.as_array().unwrap().len(), 1);
    assert_eq!(json[0]["id"], container.id);
    assert_eq!(json[0]["owner"], "root");
}

fn list_aligns_its_columns() {
    let container = created(pausing());
    let table = container.command("list").finish().ok().stdout();
    let (header, row) = table.split_once('\n').unwrap();
    let column = |name: &str| header.find(name).unwrap();
    let width = |text: &str| 12.max(text.len() + 3);
    assert_eq!(column("PID"), width(&container.id));
    assert_eq!(column("STATUS") - column("PID"), 12);
    assert_eq!(column("BUNDLE") - column("STATUS"), 12);
    assert_eq!(
        column("CREATED") - column("BUNDLE"),
        width(container.bundle.path().to_str().unwrap())
    );
    assert!(row[column("OWNER")..].starts_with("root"));
}

fn list_of_nothing() {
    let container = pausing();
    let list = container.command("list").finish().ok();
    assert_eq!(list.stdout().lines().count(), 1);
    assert_eq!(
        container
            .command("list")
            .args(["--format", "json"])
            .finish()
            .ok()
            .stdout()
            .trim_end(),
        "null"
    );
    assert_eq!(
        container
            .command("list")
            .arg("--quiet")
            .finish()
            .ok()
            .stdout(),
        ""
    );
}

fn list_skips_what_is_no_container() {
    let container = created(pausing());
    fs::create_dir(container.state_root().join("broken")).unwrap();
    let list = container.command("list").arg("-q").finish().ok();
    assert_eq!(list.stdout(), format!("{}\n", container.id));
    assert!(list.stderr().contains("broken"), "{list}");
}

fn ps_shows_the_processes() {
    let container = Bundle::new().probe(&["fork", "2"]).container();
    let run = container.run_detached().ok();
    eventually("children", || run.stdout().contains("children"));
    let pids = container
        .command("ps")
        .args(["--format", "json"])
        .arg(&container.id)
        .finish()
        .ok()
        .value();
    assert_eq!(pids.as_array().unwrap().len(), 3);
    assert!(pids.as_array().unwrap().contains(&json!(container.pid())));
    let table = container.verb("ps").ok().stdout();
    assert!(table.lines().next().unwrap().contains("PID"));
    assert_eq!(table.lines().count(), 4, "{table}");
    let own = container
        .command("ps")
        .arg(&container.id)
        .args(["-o", "pid,comm"])
        .finish()
        .ok()
        .stdout();
    let header: Vec<&str> = own.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["PID", "COMMAND"]);
}

fn ps_of_a_stopped_container_is_empty() {
    let container = stopped(pausing());
    assert_eq!(container.verb("ps").ok().stdout().lines().count(), 1);
}

fn state_directory_modes_and_fifo() {
    let container = created(pausing());
    let directory = container.state_root().join(&container.id);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&directory), 0o711);
    let fifo = directory.join("exec.fifo");
    assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());
    assert_eq!(mode(&fifo), 0o622);
    container.start().ok();
    assert!(!fifo.exists(), "start takes the fifo away");
}

/// As `start` of every runtime of this kind does it, so that one can start what another created.
fn create_can_be_released_through_the_fifo() {
    let container = trapping();
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

fn pid_file_holds_the_bare_number() {
    let container = pausing();
    let file = container.file("pid");
    container
        .from_bundle("create", &["--pid-file", file.to_str().unwrap()])
        .finish()
        .ok();
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        container.pid().to_string()
    );
}

fn pid_file_is_relative_to_the_caller() {
    let container = pausing();
    let elsewhere = container.file("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    container
        .from_bundle("create", &["--pid-file", "pid"])
        .directory(&elsewhere)
        .finish()
        .ok();
    assert_eq!(
        fs::read_to_string(elsewhere.join("pid")).unwrap(),
        container.pid().to_string()
    );
}

fn pid_file_is_not_written_on_error() {
    let container = Bundle::new().args(&["/no/such/program"]).container();
    let file = container.file("pid");
    let create = container
        .from_bundle("create", &["--pid-file", file.to_str().unwrap()])
        .finish();
    create.fails(1, "no such file or directory");
    assert!(!file.exists());
}

fn create_refuses_an_existing_id() {
    let container = created(pausing());
    container
        .create()
        .fails(1, "container with given ID already exists");
    assert_eq!(container.status(), "created");
    container
        .run()
        .fails(1, "container with given ID already exists");
}

fn create_refuses_ids_that_are_none() {
    let container = pausing();
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
    let container = pausing();
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
    let container = running(pausing());
    container
        .start()
        .fails(1, "cannot start an already running container");
    assert_eq!(container.status(), "running");
}

fn start_of_a_stopped_container() {
    stopped(pausing())
        .start()
        .fails(1, "cannot start a container that has stopped");
}

fn delete_of_a_running_container() {
    let container = running(pausing());
    let words = format!(
        "cannot delete container {} that is not stopped: running",
        container.id
    );
    container.delete().fails(1, &words);
    assert_eq!(container.status(), "running");
}

fn delete_of_a_created_container() {
    let container = created(pausing());
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
    for prepare in [created, running, stopped] {
        let container = prepare(pausing());
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
    let container = running(pausing());
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
    let container = pausing();
    container.delete().fails(1, "container does not exist");
    container
        .command("delete")
        .args(["--force", &container.id])
        .finish()
        .ok();
}

fn unknown_containers() {
    let container = pausing();
    for verb in ["state", "start", "kill", "pause", "resume", "ps", "delete"] {
        container.verb(verb).fails(1, "container does not exist");
    }
    container
        .exec(&["report"])
        .fails(255, "container does not exist");
}

fn kill_delivers_the_signal() {
    let container = trapping();
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
    let container = created(pausing());
    container.kill("NOSUCH").fails(1, "unknown signal");
    container.kill("99").fails(1, "");
    container.kill("0").ok();
    assert_eq!(container.status(), "created");
}

fn kill_of_a_created_container() {
    let container = created(pausing());
    container.kill("KILL").ok();
    container.wait_for_status("stopped");
    container.delete().ok();
}

fn kill_of_a_stopped_container() {
    let container = stopped(pausing());
    container.kill("KILL").fails(1, "container not running");
    container
        .command("kill")
        .args(["--all", &container.id, "KILL"])
        .finish()
        .ok();
}

fn kill_of_a_paused_container() {
    let container = running(pausing());
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
    let container = running(pausing());
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
    let container = created(pausing());
    container.verb("pause").ok();
    assert_eq!(container.status(), "paused");
    container.verb("resume").ok();
    assert_eq!(container.status(), "created");
    container.start().ok();
    assert_eq!(container.status(), "running");
}

fn an_exited_container_is_stopped_and_keeps_its_id() {
    let container = Bundle::new().probe(&["exit", "0"]).container();
    container.run_detached().ok();
    container.wait_for_status("stopped");
    container
        .create()
        .fails(1, "container with given ID already exists");
    container.delete().ok();
    container.create().ok();
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
    let container = running(pausing());
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
    let containers: Vec<Container> = (0..16).map(|_| pausing()).collect();
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
        state_has_its_keys_in_order,
        state_shows_annotations,
        list_knows_the_container,
        list_aligns_its_columns,
        list_of_nothing,
        list_skips_what_is_no_container,
        ps_shows_the_processes,
        ps_of_a_stopped_container_is_empty,
        state_directory_modes_and_fifo,
        create_can_be_released_through_the_fifo,
        pid_file_holds_the_bare_number,
        pid_file_is_relative_to_the_caller,
        pid_file_is_not_written_on_error,
        create_refuses_an_existing_id,
        create_refuses_ids_that_are_none,
        create_takes_every_letter_of_ids,
        start_twice,
        start_of_a_stopped_container,
        delete_of_a_running_container,
        delete_of_a_created_container,
        delete_force_of_any_state,
        delete_of_an_unknown_container,
        unknown_containers,
        kill_delivers_the_signal,
        kill_refuses_what_is_no_signal,
        kill_of_a_created_container,
        kill_of_a_stopped_container,
        kill_ends_all_with_a_shared_pid_namespace,
        an_exited_container_is_stopped_and_keeps_its_id,
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
    &[Need::Root, Need::Cgroup("freezer")] => [
        the_whole_life_by_state,
        delete_force_of_a_paused_container,
        kill_of_a_paused_container,
        pause_and_resume_refuse_the_wrong_state,
        pause_of_a_created_container,
    ],
}
