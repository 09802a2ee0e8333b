//! Containers at work: with connections, open files and memory that must be as they were.

use std::fs;
use std::path::Path;

use ocirun_tests::{Container, Invocation, eventually, program_in_path};
use serde_json::json;

use super::bed::{
    COUNT, checkpoint, count, counting, goes_on, images, read, restore, with_busybox,
};

/// The numbers that lie one on each line of a file, which must be all from the first on.
#[track_caller]
fn numbers(container: &Container, path: &str) -> usize {
    let text = read(container, path);
    let mut lines: Vec<&str> = text.lines().collect();
    // The last may be half written.
    lines.pop();
    for (wanted, found) in (1_usize..).zip(&lines) {
        assert_eq!(found.parse(), Ok(wanted), "{lines:?}");
    }
    lines.len()
}

/// Server and client are in one network, in containers of their own: the client never hears of it.
pub fn a_client_elsewhere_keeps_its_connection() {
    let client = with_busybox("sleep 1000 | nc 127.0.0.1 77 > /tmp/came").container();
    client.create().ok();
    let network = format!("/proc/{}/ns/net", client.pid());
    let script = "(i=0; while sleep 0.05; do i=$((i+1)); echo $i; done) | nc -l -p 77";
    let server = with_busybox(script).without_namespace("network");
    let server = server.namespace(json!({"type": "network", "path": network}));
    let server = server.container();
    server.run_detached().ok();
    let table = format!("/proc/{}/net/tcp", client.pid());
    let listening = || {
        let tables = [table.clone(), table.clone() + "6"];
        let mut all = tables
            .iter()
            .map(|table| fs::read_to_string(table).unwrap());
        all.any(|table| table.contains(":004D "))
    };
    eventually("it listens", listening);
    client.start().ok();
    eventually("numbers come", || numbers(&client, "/tmp/came") > 2);
    for _ in 0..2 {
        checkpoint(&server, &["--tcp-established"]).ok();
        assert_eq!(client.status(), "running");
        let there = numbers(&client, "/tmp/came");
        restore(&server, &["-d", "--tcp-established"]).finish().ok();
        eventually("numbers come", || numbers(&client, "/tmp/came") > there + 2);
    }
}

/// One that is read, one that is written, and one that has no name any more.
pub fn files_stay_open_where_they_were() {
    let script = "exec 3< /etc/lines 4> /tmp/out 5> /tmp/gone; echo here >&5; exec 6< /tmp/gone; rm /tmp/gone; \
        while read line <&3; do echo $line >&4; sleep 0.02; done; cat <&6 >&4; sleep 1000";
    let bundle = with_busybox(script);
    let lines = |count: usize| {
        (1..=count)
            .map(|number| format!("{number}\n"))
            .collect::<String>()
    };
    fs::create_dir_all(bundle.inside("/etc")).unwrap();
    fs::write(bundle.inside("/etc/lines"), lines(100)).unwrap();
    let container = bundle.container();
    container.run_detached().ok();
    eventually("it reads", || numbers(&container, "/tmp/out") > 2);
    checkpoint(&container, &[]).ok();
    assert!(numbers(&container, "/tmp/out") < 99);
    restore(&container, &["-d"]).finish().ok();
    eventually("it has read all", || {
        read(&container, "/tmp/out").ends_with("here")
    });
    assert_eq!(read(&container, "/tmp/out"), lines(100) + "here");
}

/// Some megabytes of a shell's memory, which tell at the end whether they are as they were.
const REMEMBER: &str = "a=0123456789abcdef; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do a=$a$a; done; \
    i=0; while sleep 0.05; do i=$((i+1)); echo $i > /tmp/count; [ -e /tmp/end ] && break; done; \
    echo ${#a} > /tmp/length; echo \"$a\" | md5sum > /tmp/sum; sleep 1000";

fn is_as_it_was(container: &Container) {
    fs::write(container.bundle.inside("/tmp/end"), "").unwrap();
    eventually("it tells", || read(container, "/tmp/sum").contains('-'));
    assert_eq!(read(container, "/tmp/length"), (16 << 16).to_string());
    let mut expected = "0123456789abcdef".repeat(1 << 16);
    expected.push('\n');
    let sum = Invocation::new(&program_in_path("md5sum").unwrap());
    let sum = sum.stdin(expected).finish().ok().stdout();
    assert_eq!(read(container, "/tmp/sum"), sum.trim());
}

pub fn what_was_in_memory_is_there() {
    let container = counting(with_busybox(REMEMBER));
    checkpoint(&container, &[]).ok();
    restore(&container, &["-d"]).finish().ok();
    is_as_it_was(&container);
}

/// How many bytes of pages an image has.
fn pages(images: &Path) -> u64 {
    let all = fs::read_dir(images).unwrap().map(Result::unwrap);
    let pages = all.filter(|entry| entry.file_name().to_string_lossy().starts_with("pages-"));
    pages.map(|entry| entry.metadata().unwrap().len()).sum()
}

pub fn memory_written_ahead_is_not_written_again() {
    let container = counting(with_busybox(REMEMBER));
    let ahead = container.file("ahead");
    let call = container
        .command("checkpoint")
        .arg("--pre-dump")
        .arg("--image-path");
    call.arg(&ahead).arg(&container.id).finish().ok();
    goes_on(&container, count(&container));
    checkpoint(&container, &["--parent-path", "../ahead"]).ok();
    let (first, second) = (pages(&ahead), pages(&images(&container)));
    assert!(first > 1 << 20 && second < first / 2, "{first} {second}");
    restore(&container, &["-d"]).finish().ok();
    is_as_it_was(&container);
}

/// A page server of CRIU's at a port of its own choice in the test's directory.
pub fn pages_go_to_a_server() {
    let container = counting(with_busybox(COUNT));
    let there = images(&container);
    fs::create_dir(&there).unwrap();
    let port = free_port();
    let server = Invocation::new(&program_in_path("criu").unwrap());
    let server = server.args(["page-server", "--address", "127.0.0.1", "--port", &port]);
    let server = server.arg("--images-dir").arg(&there).start();
    eventually("it listens", || is_listened_at(&port));
    checkpoint(&container, &["--page-server", &format!("127.0.0.1:{port}")]).ok();
    server.finish().ok();
    assert!(pages(&there) > 0);
    let from = count(&container);
    restore(&container, &["-d"]).finish().ok();
    goes_on(&container, from);
}

fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// Whether a socket listens there, without a connection, which would be taken for the one.
fn is_listened_at(port: &str) -> bool {
    let address = format!(
        " 0100007F:{:04X} 00000000:0000 0A ",
        port.parse::<u16>().unwrap()
    );
    fs::read_to_string("/proc/net/tcp")
        .unwrap()
        .contains(&address)
}
