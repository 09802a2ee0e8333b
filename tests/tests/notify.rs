//! sd_notify(3): a program in a container tells the supervisor of `ocirun` that it is ready.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use ocirun_tests::{Bundle, Container, Invocation, Need, TIME_LIMIT, eventually, suite};

/// The supervisor's socket.
fn supervisor(container: &Container) -> (UnixDatagram, PathBuf) {
    let path = container.file("supervisor");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(TIME_LIMIT)).unwrap();
    (socket, path)
}

fn message(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
}

fn nothing_more(socket: &UnixDatagram) {
    socket.set_nonblocking(true).unwrap();
    let mut buffer = [0; 4096];
    while let Ok(length) = socket.recv(&mut buffer) {
        // For who wants to know that all was read.
        assert!(
            buffer[..length].starts_with(b"BARRIER="),
            "{:?}",
            &buffer[..length]
        );
    }
}

fn telling(steps: &[&str]) -> Container {
    Bundle::new().probe(steps).container()
}

fn with_socket(call: Invocation, path: &PathBuf) -> Invocation {
    call.env("NOTIFY_SOCKET", path)
}

fn a_detached_run_waits_until_the_program_is_ready() {
    let container = telling(&[
        "notify",
        "STATUS=busy",
        ",",
        "notify",
        "READY=1\nX=1",
        ",",
        "pause",
    ]);
    let (socket, path) = supervisor(&container);
    let mut run = with_socket(container.from_bundle("run", &["--detach"]), &path).start();
    assert_eq!(message(&socket), "READY=1");
    assert_eq!(message(&socket), format!("MAINPID={}", container.pid()));
    eventually("the end of run, once all is read", || {
        socket.set_nonblocking(true).unwrap();
        let _read = socket.recv(&mut [0; 64]);
        run.ended()
    });
    run.finish().ok();
}

fn start_waits_until_the_program_is_ready() {
    let container = telling(&["notify", "READY=1", ",", "pause"]);
    let (socket, path) = supervisor(&container);
    with_socket(container.from_bundle("create", &[]), &path)
        .finish()
        .ok();
    let start = with_socket(container.command("start").arg(&container.id), &path).start();
    assert_eq!(message(&socket), "READY=1");
    assert_eq!(message(&socket), format!("MAINPID={}", container.pid()));
    drop(socket);
    start.finish().ok();
}

fn a_program_that_ends_is_not_waited_for() {
    let container = telling(&["exit", "0"]);
    let (socket, path) = supervisor(&container);
    with_socket(container.from_bundle("run", &["--detach"]), &path)
        .finish()
        .ok();
    nothing_more(&socket);
}

fn in_the_foreground_readiness_is_passed_on() {
    let container = telling(&["notify", "READY=1", ",", "pause"]);
    let (socket, path) = supervisor(&container);
    let run = with_socket(container.from_bundle("run", &[]), &path).start();
    assert_eq!(message(&socket), "READY=1");
    container.kill("KILL").ok();
    assert_eq!(run.finish().code(), 137);
    // The process that the supervisor knows is the right one.
    nothing_more(&socket);
}

fn only_with_the_callers_socket() {
    let container = telling(&["report", ",", "list", "/run"]);
    let values = container.run().values();
    assert!(!values[0]["env"].to_string().contains("NOTIFY_SOCKET"));
    assert_eq!(values[1]["errno"], "ENOENT");
}

fn the_socket_is_all_that_the_container_gets() {
    let container = telling(&[
        "report",
        ",",
        "list",
        "/run/notify",
        ",",
        "write",
        "/run/notify/x",
        "y",
    ]);
    let (_socket, path) = supervisor(&container);
    let values = with_socket(container.from_bundle("run", &[]), &path)
        .finish()
        .values();
    let variable = "\"NOTIFY_SOCKET=/run/notify/notify.sock\"";
    assert!(values[0]["env"].to_string().contains(variable));
    assert_eq!(values[1], serde_json::json!(["notify.sock"]));
    assert_eq!(values[2]["errno"], "EROFS");
    // And it goes with the container.
    container.verb("state").fails(1, "does not exist");
    assert!(!container.state_root().join(&container.id).exists());
}

suite! {
    &[Need::Root] => [
        a_detached_run_waits_until_the_program_is_ready,
        start_waits_until_the_program_is_ready,
        only_with_the_callers_socket,
    ],
    &[Need::Root, Need::NotRunc("1.1.5 waits for ever for a program that ends without having told anything")] => [
        a_program_that_ends_is_not_waited_for,
        the_socket_is_all_that_the_container_gets,
    ],
    &[Need::Root, Need::NotRunc("1.1.5 listens to a program in the foreground for a tenth of a second")] => [
        in_the_foreground_readiness_is_passed_on,
    ],
}
