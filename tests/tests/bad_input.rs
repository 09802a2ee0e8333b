//! Input that is wrong: an exit code as runc's, words that lead to the place, and nothing left behind.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use ocirun_tests::{Bundle, Container, Finished, Kind, Need, differs_on_runc, runtime, suite};
use serde_json::{Value, json};

/// Nothing of the container is on this machine.
#[track_caller]
fn nothing_is_left(container: &Container) {
    container.verb("state").fails(1, "container does not exist");
    assert!(!container.state_root().join(&container.id).exists());
    assert_eq!(container.bundle.cgroup().existing(), Vec::<PathBuf>::new());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(container.bundle.path().to_str().unwrap()));
}

/// Both `create` and `run` refuse it with exit code 1.
#[track_caller]
fn refused(container: &Container) -> Finished {
    let create = container.create();
    assert_eq!(create.code(), 1, "{create}");
    assert!(!create.stderr().is_empty(), "a reason");
    nothing_is_left(container);
    let run = container.run();
    assert_eq!(run.code(), 1, "{run}");
    nothing_is_left(container);
    run
}

/// The words name the place in config.json: `ocirun` by JSON pointer, which no other runtime does.
#[track_caller]
fn refused_at(container: &Container, pointer: &str) {
    let run = refused(container);
    if runtime().kind == Kind::Ocirun {
        assert!(run.says(pointer), "no {pointer} in: {run}");
    }
}

fn at(pointer: &str, value: Value) {
    refused_at(&Bundle::new().set(pointer, value).container(), pointer);
}

fn raw(text: &[u8]) -> Container {
    let container = Bundle::new().container();
    fs::write(container.file("config.json"), text).unwrap();
    container
}

fn no_configuration() {
    let container = Bundle::new().container();
    fs::remove_file(container.file("config.json")).unwrap();
    let run = refused(&container);
    assert!(run.says("config.json"), "{run}");
}

fn a_configuration_that_is_a_directory() {
    let container = Bundle::new().container();
    fs::remove_file(container.file("config.json")).unwrap();
    fs::create_dir(container.file("config.json")).unwrap();
    refused(&container);
}

fn texts_that_are_no_json() {
    for text in [
        &b""[..],
        b"{",
        b"[]",
        b"\"text\"",
        b"{\"process\":",
        b"\xff\xfe\x00",
        b"{\"a\":1}}",
        b"nonsense",
    ] {
        refused(&raw(text));
    }
}

fn a_null_for_a_configuration() {
    refused(&raw(b"null"));
}

fn a_truncated_configuration() {
    let container = Bundle::new().container();
    let whole = fs::read(container.file("config.json")).unwrap();
    for part in [1, 10, 100, whole.len() / 2, whole.len() - 2] {
        fs::write(container.file("config.json"), &whole[..part]).unwrap();
        refused(&container);
    }
}

fn a_configuration_of_100_megabytes() {
    let container = Bundle::new().container();
    let file = fs::File::create(container.file("config.json")).unwrap();
    file.set_len(100 << 20).unwrap();
    refused(&container);
    fs::write(container.file("config.json"), vec![b' '; 100 << 20]).unwrap();
    refused(&container);
}

fn a_configuration_nested_too_deep() {
    refused(&raw(format!(
        "{{\"linux\": {}1{}}}",
        "[".repeat(200_000),
        "]".repeat(200_000)
    )
    .as_bytes()));
}

fn wrong_types() {
    at("/process/args", json!("sh"));
    at("/process/env", json!({"A": "1"}));
    at("/process/cwd", json!(5));
    at("/process/user/uid", json!("root"));
    at("/process/user/uid", json!(-1));
    at("/process/terminal", json!("yes"));
    at("/process/rlimits", json!(5));
    at("/mounts", json!({}));
    at("/root/readonly", json!("true"));
    at("/linux", json!([]));
    at("/linux/namespaces", json!("pid"));
    at("/linux/sysctl", json!(["net.ipv4.ip_forward"]));
    at("/hooks", json!([]));
}

fn wrong_types_of_limits() {
    at("/linux/resources/memory/limit", json!("64M"));
    at("/linux/resources/pids/limit", json!(1.5));
    at("/linux/resources/cpu/shares", json!(-1));
    at("/linux/resources/devices", json!({}));
}

fn wrong_types_in_lists() {
    at("/mounts/0/destination", json!(5));
    at("/process/capabilities/bounding", json!([5]));
    at("/linux/namespaces/0/type", json!(null));
    at("/linux/maskedPaths", json!([1]));
}

fn unknown_words() {
    at("/linux/namespaces/0/type", json!("nosuch"));
    at("/linux/rootfsPropagation", json!("nosuch"));
    at(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_NOSUCH"}),
    );
    at(
        "/linux/devices",
        json!([{"path": "/dev/x", "type": "z", "major": 1, "minor": 3}]),
    );
    at(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]),
    );
}

fn an_unknown_key_is_not_an_error() {
    let container = Bundle::new()
        .set("/process/somethingNew", json!({"a": 1}))
        .set("/future", true);
    container.probe(&["print", "x"]).container().run().ok();
}

fn without_what_is_needed() {
    for pointer in ["/process", "/root", "/linux"] {
        let container = Bundle::new().remove(pointer).container();
        refused(&container);
    }
    refused(&Bundle::new().args(&[]).container());
    refused(&Bundle::new().args(&[""]).container());
    refused(&Bundle::new().remove("/process/args").container());
    refused(&Bundle::new().set("/process/cwd", "").container());
    refused(&Bundle::new().set("/root/path", "").container());
}

fn a_version_that_is_none() {
    refused_at(
        &Bundle::new().set("/ociVersion", "nonsense").container(),
        "/ociVersion",
    );
    refused_at(
        &Bundle::new().set("/ociVersion", "99.0.0").container(),
        "/ociVersion",
    );
}

/// `create` may let it pass as runc does, `run` cannot.
fn words_with_a_zero_byte() {
    for bundle in [
        Bundle::new().args(&["/bin/probe", "a\0b"]),
        Bundle::new().set("/process/env", json!(["A=\0"])),
        Bundle::new().set("/process/cwd", "/tmp\0x"),
    ] {
        let container = bundle.container();
        assert_ne!(container.run().code(), 0);
        nothing_is_left(&container);
    }
}

fn a_rootfs_that_is_missing() {
    let run = refused(&Bundle::new().set("/root/path", "nosuch").container());
    assert!(run.says("no such file or directory"), "{run}");
}

fn a_rootfs_that_is_a_file() {
    let container = Bundle::new().set("/root/path", "config.json").container();
    let run = refused(&container);
    assert!(run.says("not a directory"), "{run}");
}

fn a_rootfs_that_is_a_link() {
    let bundle = Bundle::new().set("/root/path", "link");
    symlink("rootfs", bundle.path().join("link")).unwrap();
    refused(&bundle.container());
}

fn a_bundle_that_is_a_file() {
    let container = Bundle::new().container();
    let run = container
        .command("run")
        .arg("--bundle")
        .arg(container.file("config.json"))
        .arg(&container.id)
        .finish();
    run.fails(1, "not a directory");
    nothing_is_left(&container);
}

fn a_mount_without_a_destination() {
    refused(
        &Bundle::new()
            .mount(json!({"type": "tmpfs", "source": "tmpfs"}))
            .container(),
    );
}

fn a_mount_on_a_file_of_the_rootfs() {
    let bundle = Bundle::new();
    fs::write(bundle.inside("/etc/file"), "").unwrap();
    let mount = json!({"destination": "/etc/file", "type": "tmpfs", "source": "tmpfs"});
    let run = refused(&bundle.mount(mount).container());
    assert!(run.says("not a directory"), "{run}");
}

fn links_that_lead_in_circles() {
    let bundle = Bundle::new().set("/root/readonly", false);
    symlink("/b", bundle.inside("/a")).unwrap();
    symlink("/a", bundle.inside("/b")).unwrap();
    let mount = json!({"destination": "/a/x", "type": "tmpfs", "source": "tmpfs"});
    refused(&bundle.mount(mount).container());
}

fn a_broken_state_file() {
    let container = Bundle::new().probe(&["pause"]).container();
    let directory = container.state_root().join(&container.id);
    fs::create_dir(&directory).unwrap();
    for text in ["", "{", "[]", "nonsense"] {
        fs::write(directory.join("state.json"), text).unwrap();
        for verb in ["state", "start", "pause", "ps"] {
            let run = container.verb(verb);
            assert_eq!(run.code(), 1, "{run}");
        }
    }
    if !differs_on_runc("it cannot delete what it cannot read") {
        container
            .command("delete")
            .args(["--force", &container.id])
            .finish()
            .ok();
        assert!(!directory.exists());
    }
}

fn the_message_names_the_verb_and_the_element() {
    let container = Bundle::new()
        .mount(json!({"destination": "/tmp", "type": "nosuchfs", "source": "x"}))
        .container();
    let run = refused(&container);
    assert!(run.says("/tmp"), "{run}");
    assert!(run.says("no such device"), "{run}");
}

fn several_mistakes_leave_nothing_either() {
    let bundle = Bundle::new()
        .set("/linux/resources/memory/limit", 64 << 20)
        .set("/linux/sysctl", json!({"net.ipv4.no_such_thing": "1"}))
        .mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
    refused(&bundle.container());
}

suite! {
    &[Need::Root] => [
        no_configuration,
        a_configuration_that_is_a_directory,
        texts_that_are_no_json,
        a_truncated_configuration,
        a_configuration_of_100_megabytes,
        a_configuration_nested_too_deep,
        wrong_types,
        wrong_types_of_limits,
        wrong_types_in_lists,
        unknown_words,
        an_unknown_key_is_not_an_error,
        without_what_is_needed,
        words_with_a_zero_byte,
        a_rootfs_that_is_missing,
        a_rootfs_that_is_a_file,
        a_rootfs_that_is_a_link,
        a_bundle_that_is_a_file,
        a_mount_without_a_destination,
        a_mount_on_a_file_of_the_rootfs,
        links_that_lead_in_circles,
        a_broken_state_file,
        the_message_names_the_verb_and_the_element,
        several_mistakes_leave_nothing_either,
    ],
    &[Need::Root, Need::NotRunc("1.1.5 panics")] => [a_null_for_a_configuration],
    &[Need::Root, Need::NotRunc("1.1.5 does not look at it")] => [a_version_that_is_none],
}
