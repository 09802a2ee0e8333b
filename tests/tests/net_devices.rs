//! Network devices of the host that move into the container, with what they were set up to be.
//!
//! The devices are veth pairs in a network namespace of each test's own; the machine's are left alone.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

use ocirun_tests::{
    Bundle, Container, Finished, Invocation, Need, program_in_path, runtime, suite,
};
use serde_json::{Value, json};

const SET_UP: &str = "
    ip link add oci0 address 02:00:00:00:00:07 mtu 1400 type veth peer name oci1 &&
    ip addr add 10.9.8.7/24 brd + dev oci0 &&
    ip addr add fd00:9::7/64 nodad dev oci0 &&
    ip link set oci0 up && ip link set oci1 up";

/// Calls the runtime in a new network namespace with devices, and then `after` it the shell.
fn call(container: &Container, arguments: &[&str], after: &str) -> Finished {
    let script = format!("{SET_UP} || exit 99; \"$@\"; code=$?; {after}; exit $code");
    Invocation::new(&program_in_path("unshare").unwrap())
        .args(["--net", "sh", "-c", &script, "sh"])
        .arg(&runtime().program)
        .arg("--root")
        .arg(container.state_root())
        .args(arguments)
        .finish()
}

fn run(container: &Container, after: &str) -> Finished {
    let bundle = container.bundle.path().to_str().unwrap().to_owned();
    call(
        container,
        &["run", "--bundle", &bundle, &container.id],
        after,
    )
}

fn with_devices(devices: Value) -> Bundle {
    Bundle::new().set("/linux/netDevices", devices)
}

/// A bundle in which ip(8) of busybox shows the devices. It is bound, not copied: what was just written may still be open
/// for writing in a child that another test forks.
fn shown(devices: Value, words: &[&str]) -> Container {
    let busybox = program_in_path("busybox").unwrap();
    let mount = json!({
        "destination": "/bin/busybox", "type": "bind", "source": busybox, "options": ["bind", "ro"],
    });
    with_devices(devices)
        .mount(mount)
        .args(&[&["/bin/busybox"], words].concat())
        .container()
}

fn a_device_keeps_what_it_was() {
    let container = shown(json!({"oci0": {}}), &["ip", "addr", "show", "oci0"]);
    let text = run(&container, "ip link show oci0 && echo still here")
        .ok()
        .stdout();
    for word in [
        "mtu 1400",
        "02:00:00:00:00:07",
        "inet 10.9.8.7/24",
        "brd 10.9.8.255",
        "inet6 fd00:9::7/64",
        "UP",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(
        !text.contains("fd00:9::7/64 scope global tentative"),
        "{text}"
    );
    assert!(!text.contains("still here"), "{text}");
}

fn a_device_gets_another_name() {
    let container = shown(
        json!({"oci0": {"name": "lan"}}),
        &["ip", "addr", "show", "lan"],
    );
    let text = run(&container, "true").ok().stdout();
    assert!(text.contains("10.9.8.7/24"), "{text}");
}

fn several_devices_may_change_names() {
    let devices = json!({"oci0": {"name": "oci1"}, "oci1": {"name": "oci0"}});
    let container = shown(devices, &["ip", "addr", "show", "oci1"]);
    let text = run(&container, "true").ok().stdout();
    assert!(text.contains("10.9.8.7/24"), "{text}");
}

fn in_a_user_namespace() {
    let maps = json!([{"containerID": 0, "hostID": 200_000, "size": 1000}]);
    let bundle = with_devices(json!({"oci0": {}}))
        .namespace(json!({"type": "user"}))
        .set("/linux/uidMappings", maps.clone())
        .set("/linux/gidMappings", maps);
    let container = bundle.probe(&["report"]).container();
    let run = run(&container, "true").ok();
    assert_eq!(run.value()["interfaces"], json!(["lo", "oci0"]));
}

fn into_a_namespace_that_is_joined() {
    let holder = Bundle::new().probe(&["pause"]).container();
    holder.run_until_ready_detached();
    let path = format!("/proc/{}/ns/net", holder.pid());
    let bundle = with_devices(json!({"oci0": {"name": "eth7"}}))
        .without_namespace("network")
        .namespace(json!({"type": "network", "path": path}));
    let container = bundle.probe(&["report"]).container();
    let run = run(&container, "true").ok();
    assert!(
        run.value()["interfaces"].to_string().contains("eth7"),
        "{run}"
    );
}

fn a_container_that_fails_gives_them_back() {
    let container = with_devices(json!({"oci0": {"name": "lan"}}))
        .args(&["/nonexistent"])
        .container();
    let run = run(&container, "ip addr show oci0");
    let text = run.stdout();
    run.fails(1, "stat /nonexistent");
    for word in [
        "mtu 1400",
        "02:00:00:00:00:07",
        "10.9.8.7/24",
        "fd00:9::7/64",
        "UP",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

fn a_device_that_is_not_there() {
    let container = with_devices(json!({"oci7": {}})).container();
    run(&container, "true").fails(
        1,
        "linux.netDevices \"oci7\": rtnetlink(RTM_GETLINK): no such device",
    );
    container.verb("state").fails(1, "does not exist");
}

fn a_name_that_is_taken() {
    let container = with_devices(json!({"oci0": {"name": "lo"}})).container();
    let run = run(&container, "ip addr show oci0");
    let text = run.stdout() + &run.stderr();
    run.fails(1, "linux.netDevices \"oci0\"");
    assert!(text.contains("10.9.8.7/24"), "{text}");
}

fn what_cannot_be_is_refused() {
    for (bundle, pointer) in [
        (with_devices(json!({"a/b": {}})), "/linux/netDevices/a~1b"),
        (
            with_devices(json!({"oci0": {"name": "x y"}})),
            "/linux/netDevices/oci0/name",
        ),
        (
            with_devices(json!({"oci0": {}})).without_namespace("network"),
            "/linux/netDevices: ",
        ),
    ] {
        bundle.container().run().fails(1, pointer);
    }
}

/// The tests' own ground.
fn devices_can_be_made() {
    let made = Command::new("unshare")
        .args(["--net", "sh", "-c", SET_UP])
        .status();
    assert!(made.unwrap().success());
}

suite! {
    &[Need::Root, Need::Ocirun, Need::Program("ip"), Need::Program("unshare")] => [
        devices_can_be_made,
        into_a_namespace_that_is_joined,
        a_container_that_fails_gives_them_back,
        a_device_that_is_not_there,
        a_name_that_is_taken,
        what_cannot_be_is_refused,
    ],
    &[Need::Root, Need::Ocirun, Need::Program("ip"), Need::Program("unshare"), Need::Program("busybox")] => [
        a_device_keeps_what_it_was,
        a_device_gets_another_name,
        several_devices_may_change_names,
    ],
    &[Need::Root, Need::Ocirun, Need::Program("ip"), Need::Program("unshare"), Need::UserNamespace] => [in_a_user_namespace],
}
