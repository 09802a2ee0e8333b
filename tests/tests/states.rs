//! state, list, ps and PID files: what is told of containers, and what lies on disk.
#![allow(clippy::unwrap_used, reason = "tests")]

use ocirun_tests::{Bundle, Container, Need, eventually, suite};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};

fn the_whole_life_by_state() {
    let container = Container::trapping();
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
    let container = Container::pausing().created();
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
    let container = Container::pausing().created();
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
    let container = Container::pausing().created();
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
    let container = Container::pausing();
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
    let container = Container::pausing().created();
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
    let container = Container::pausing().stopped();
    assert_eq!(container.verb("ps").ok().stdout().lines().count(), 1);
}

fn state_directory_modes_and_fifo() {
    let container = Container::pausing().created();
    let directory = container.state_root().join(&container.id);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&directory), 0o711);
    let fifo = directory.join("exec.fifo");
    assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());
    assert_eq!(mode(&fifo), 0o622);
    container.start().ok();
    assert!(!fifo.exists(), "start takes the fifo away");
}

fn pid_file_holds_the_bare_number() {
    let container = Container::pausing();
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
    let container = Container::pausing();
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

fn unknown_containers() {
    let container = Container::pausing();
    for verb in ["state", "start", "kill", "pause", "resume", "ps", "delete"] {
        container.verb(verb).fails(1, "container does not exist");
    }
    container
        .exec(&["report"])
        .fails(255, "container does not exist");
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

suite! {
    &[Need::Root] => [
        state_has_its_keys_in_order,
        state_shows_annotations,
        list_knows_the_container,
        list_aligns_its_columns,
        list_of_nothing,
        list_skips_what_is_no_container,
        ps_shows_the_processes,
        ps_of_a_stopped_container_is_empty,
        state_directory_modes_and_fifo,
        pid_file_holds_the_bare_number,
        pid_file_is_relative_to_the_caller,
        pid_file_is_not_written_on_error,
        unknown_containers,
        an_exited_container_is_stopped_and_keeps_its_id,
    ],
    &[Need::Root, Need::Cgroup("freezer")] => [
        the_whole_life_by_state,
    ],
}
