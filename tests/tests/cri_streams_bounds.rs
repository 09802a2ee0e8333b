//! Clients of streams that stall, flood and say nothing: what each may cost, and for how long.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cri::streams::{
    Spdy, WAITS, Web, exec_request, exit_code, forward_url, get, is_running, message,
};
use cri::{Node, apart, refused, streams};
use cri_server::api::ExecRequest;
use ocirun_tests::{Need, eventually, suite};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;
use tonic::Code;

/// What a few clients may take of the server's memory, in bytes.
const LITTLE: u64 = 12 << 20;
/// What waits in the sockets of one connection is less, in bytes.
const SOCKETS: usize = 24 << 20;

/// A node with a container that waits.
fn bed() -> (Node, String) {
    let node = Node::ready();
    let pod = node.pod(|_| {});
    let id = node.run(&pod, WAITS, |_| {});
    (node, id)
}

/// Starts the server anew with more configuration, and what [`bed`] has.
fn bed_with(drop_in: &str) -> (Node, String) {
    let mut node = Node::ready();
    node.configure(drop_in);
    let pod = node.pod(|_| {});
    let id = node.run(&pod, WAITS, |_| {});
    (node, id)
}

fn exec_url(node: &Node, container: &str, script: &str, tty: bool) -> String {
    let request = ExecRequest {
        tty,
        stderr: !tty,
        ..exec_request(container, script)
    };
    streams::exec_url(node, request).unwrap()
}

/// The host and port of an address.
fn host(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap();
    rest.split('/').next().unwrap()
}

/// Descriptors of the server that are sockets.
fn sockets(node: &Node) -> usize {
    let entries = std::fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap();
    let links = entries
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok());
    links
        .filter(|link| link.to_string_lossy().starts_with("socket:"))
        .count()
}

/// Writes the same bytes again and again until the other side takes no more, or far more than it should have.
fn flooded(socket: &mut TcpStream, bytes: &[u8]) -> usize {
    socket
        .set_write_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let mut written = 0;
    while written < 4 * SOCKETS {
        match socket.write(bytes) {
            Ok(length) => written += length,
            Err(_) => break,
        }
    }
    written
}

/// Waits until the server closes a connection; returns what it said.
fn closed(mut socket: TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    socket
        .set_read_timeout(Some(ocirun_tests::TIME_LIMIT))
        .unwrap();
    match socket.read_to_end(&mut said) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("it stays open"),
        _ => said,
    }
}

fn input_that_nobody_takes_waits_at_the_client() {
    apart(|| {
        let (node, id) = bed();
        let before = node.memory();
        let piece = message(2, &[&[0][..], &[7; 60_000]].concat());
        let web = Web::open(
            &exec_url(&node, &id, "exec busybox sleep 4331", false),
            "v4.channel.k8s.io",
        );
        assert!(flooded(&mut web.socket(), &piece) < SOCKETS);
        let mut spdy = Spdy::open(
            &exec_url(&node, &id, "exec busybox sleep 4332", false),
            "v4.channel.k8s.io",
        );
        spdy.streams(&["error", "stdin", "stdout", "stderr"]);
        let piece = [&[0, 0, 0, 3, 0, 0, 0xea, 0x60][..], &[7; 60_000]].concat();
        assert!(flooded(&mut spdy.socket(), &piece) < SOCKETS);
        // A frame that is longer than anything that is kept.
        let mut spdy = Spdy::open(
            &exec_url(&node, &id, "exec busybox sleep 4333", false),
            "v4.channel.k8s.io",
        );
        spdy.streams(&["error", "stdin", "stdout", "stderr"]);
        let mut socket = spdy.socket();
        socket
            .write_all(&[0, 0, 0, 3, 0, 0xff, 0xff, 0xff])
            .unwrap();
        assert!(flooded(&mut socket, &[7; 60_000]) < SOCKETS);
        let after = node.memory();
        assert!(after < before + LITTLE, "{before} became {after}");
    });
}

/// One whose program takes nothing is not read from, and its end is noticed all the same.
fn who_leaves_in_a_flood_takes_the_program_along() {
    apart(|| {
        let (node, id) = bed();
        let url = exec_url(&node, &id, "exec busybox sleep 4338", false);
        let web = Web::open(&url, "v4.channel.k8s.io");
        eventually("it runs", || is_running(&node, &id, "sleep 4338"));
        let piece = message(2, &[&[0][..], &[7; 60_000]].concat());
        flooded(&mut web.socket(), &piece);
        drop(web);
        eventually("it is ended", || !is_running(&node, &id, "sleep 4338"));
    });
}

fn answers_that_nobody_reads_wait_too() {
    apart(|| {
        let (node, id) = bed();
        let before = node.memory();
        let ping = message(9, &[7; 125]).repeat(500);
        let web = Web::open(&exec_url(&node, &id, "cat", false), "v4.channel.k8s.io");
        let written = flooded(&mut web.socket(), &ping);
        assert!(written < 2 * SOCKETS);
        let mut spdy = Spdy::open(&exec_url(&node, &id, "cat", false), "v4.channel.k8s.io");
        spdy.streams(&["error", "stdin", "stdout", "stderr"]);
        let ping = [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1].repeat(5000);
        assert!(flooded(&mut spdy.socket(), &ping) < 2 * SOCKETS);
        let after = node.memory();
        assert!(after < before + LITTLE, "{before} became {after}");
    });
}

fn a_size_that_does_not_end() {
    apart(|| {
        let (node, id) = bed();
        let url = exec_url(&node, &id, "exec busybox sleep 4334", true);
        let mut web = Web::open(&url, "v4.channel.k8s.io");
        web.send(4, b"{\"Width\":");
        web.send(4, &[b' '; 2000]);
        closed(web.socket());
    });
}

fn who_says_nothing_is_let_go() {
    apart(|| {
        let (node, id) = bed();
        let url = exec_url(&node, &id, "true", false);
        let connect = |said: &[u8]| {
            let mut socket = TcpStream::connect(host(&url)).unwrap();
            socket.write_all(said).unwrap();
            socket
        };
        let silent = [
            connect(b""),
            connect(b"POST /exec/"),
            connect(b"POST /exec/x HTTP/1.1\r\nHost: x\r\n"),
            // This one is answered, and may ask again.
            connect(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
            // It promises a body that never comes.
            connect(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"),
        ];
        let long = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}", "x".repeat(200_000));
        let mut socket = TcpStream::connect(host(&url)).unwrap();
        drop(socket.write_all(long.as_bytes()));
        let said = closed(socket);
        assert!(
            said.starts_with(b"HTTP/1.1 431"),
            "{:?}",
            String::from_utf8_lossy(&said)
        );
        // A session whose streams are never opened.
        let url = exec_url(&node, &id, "true", false);
        let mut half = Spdy::open(&url, "v4.channel.k8s.io");
        half.streams(&["error", "stdin"]);
        for socket in silent {
            closed(socket);
        }
        closed(half.socket());
    });
}

fn who_makes_no_handshake_is_let_go() {
    apart(|| {
        let mut node = Node::ready();
        let (certificate, key) = (node.path("tls.crt"), node.path("tls.key"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
            .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=x"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output();
        assert!(made.unwrap().status.success());
        node.configure(&format!(
            "[streaming]\ntls_certificate = {certificate:?}\ntls_key = {key:?}\n"
        ));
        let pod = node.pod(|_| {});
        let id = node.run(&pod, WAITS, |_| {});
        let url = exec_url(&node, &id, "true", false);
        let silent = TcpStream::connect(host(&url)).unwrap();
        // The first bytes of a handshake of which no more comes.
        let mut half = TcpStream::connect(host(&url)).unwrap();
        half.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
        closed(silent);
        closed(half);
    });
}

fn idle_for_long() {
    apart(|| {
        let (node, id) = bed_with("[streaming]\nidle_seconds = 2\n");
        let pod = node.pods().pop().unwrap();
        let url = exec_url(&node, &id, "exec busybox sleep 4335", false);
        let web = Web::open(&url, "v4.channel.k8s.io");
        let url = exec_url(&node, &id, "exec busybox sleep 4336", false);
        let mut spdy = Spdy::open(&url, "v4.channel.k8s.io");
        spdy.streams(&["error", "stdin", "stdout", "stderr"]);
        let ports = Spdy::open(&forward_url(&node, &pod, 80), "portforward.k8s.io");
        // One whose program speaks is not idle.
        let script = "for i in 1 2 3 4 5 6; do sleep 1; echo $i; done";
        let busy = Web::open(&exec_url(&node, &id, script, false), "v4.channel.k8s.io");
        closed(web.socket());
        closed(spdy.socket());
        closed(ports.socket());
        let said = busy.finish();
        assert_eq!((said[1].len(), exit_code(&said[3])), (12, Some(0)));
        eventually("their programs are ended", || {
            !is_running(&node, &id, "sleep 433")
        });
    });
}

/// A client that has heard the end, and does not close its side.
fn who_stays_after_the_end() {
    apart(|| {
        let (node, id) = bed();
        let before = sockets(&node);
        let clients = (0..20).map(|_| {
            let url = exec_url(&node, &id, "echo here", false);
            let web = Web::open(&url, "v4.channel.k8s.io");
            let socket = web.socket();
            assert_eq!(web.finish()[1], b"here\n");
            socket
        });
        let clients = clients.collect::<Vec<_>>();
        eventually("the server has let them go", || sockets(&node) <= before);
        drop(clients);
    });
}

/// SPDY inside of WebSocket, whichever way the client ends it.
fn tunnels_leave_nothing() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let before = sockets(&node);
        let ends: [&[u8]; 4] = [
            &message(8, &[3, 0xe8]),
            &message(2, &[0xff; 64]),
            &[0xff; 64],
            b"",
        ];
        for end in ends.iter().cycle().take(40) {
            let url = forward_url(&node, &pod, 80);
            let web = Web::open(&url, "SPDY/3.1+portforward.k8s.io");
            web.socket().write_all(end).unwrap();
        }
        eventually("all are let go", || sockets(&node) <= before);
    });
}

fn connections_to_ports_are_counted() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        // It takes two connections, and the others have to wait.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let few = nix::sys::socket::Backlog::new(1).unwrap();
        nix::sys::socket::listen(&listener, few).unwrap();
        let port = i32::from(listener.local_addr().unwrap().port());
        let mut spdy = Spdy::open(&forward_url(&node, &pod, port), "portforward.k8s.io");
        let pairs = (0..257).map(|_| spdy.pair(port)).collect::<Vec<_>>();
        let dials = || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", node.pid())).unwrap();
            let names = tasks
                .flatten()
                .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
            names.filter(|name| name == "port-forward\n").count()
        };
        // So many threads wait for connections, and no more.
        let mut seen = 0;
        eventually("connections are being made", || {
            seen = seen.max(dials());
            seen >= 60
        });
        for _ in 0..100 {
            seen = seen.max(dials());
        }
        assert!(seen <= 64, "{seen} threads");
        assert!(spdy.was_reset(pairs[256].0), "one too many is taken");
        assert_eq!(node.pods().len(), 1);
        // What a client calls its connections is kept, so it is short.
        let mut other = Spdy::open(&forward_url(&node, &pod, port), "portforward.k8s.io");
        let name = "x".repeat(1000);
        let port = port.to_string();
        let headers = [
            ("streamtype", "error"),
            ("port", &port),
            ("requestid", &name),
        ];
        let stream = other.stream(&headers);
        assert!(other.was_reset(stream), "a long name is taken");
    });
}

/// Messages of text, as browsers send and get them.
fn browsers_speak_base64() {
    apart(|| {
        let (node, id) = bed();
        for (protocol, version) in [
            ("v4.base64.channel.k8s.io", 4),
            ("base64.channel.k8s.io", 1),
        ] {
            let url = exec_url(&node, &id, "read x; echo got $x; exit 3", false);
            let mut socket = Web::open(&url, protocol).socket();
            let text = format!("0{}", STANDARD.encode("word\n"));
            socket.write_all(&message(1, text.as_bytes())).unwrap();
            let said = texts(&closed(socket));
            assert_eq!(said[1], b"got word\n");
            let told = "command terminated with exit code 3";
            match version {
                4 => assert_eq!(exit_code(&said[3]), Some(3)),
                _ => assert_eq!(said[3], told.as_bytes()),
            }
        }
        // What is not base64 ends the session, and its program.
        let url = exec_url(&node, &id, "exec busybox sleep 4337", false);
        let mut socket = Web::open(&url, "base64.channel.k8s.io").socket();
        socket.write_all(&message(1, b"0****")).unwrap();
        closed(socket);
        // Bytes may stand in a message of text too.
        let url = exec_url(&node, &id, "read x; echo got $x", false);
        let web = Web::open(&url, "v4.channel.k8s.io");
        let text = message(1, b"\0word\n");
        web.socket().write_all(&text).unwrap();
        assert_eq!(web.finish()[1], b"got word\n");
    });
}

/// What stands in messages of text, by the digits in front; the message that ends all is not one.
fn texts(mut frames: &[u8]) -> Vec<Vec<u8>> {
    let mut said = vec![Vec::new(); 5];
    while let [0x81, length, rest @ ..] = frames {
        let (length, rest) = match *length {
            126 => (
                usize::from(u16::from_be_bytes([rest[0], rest[1]])),
                &rest[2..],
            ),
            length => (usize::from(length), rest),
        };
        let (message, rest) = rest.split_at(length);
        let bytes = STANDARD.decode(&message[1..]).unwrap();
        said[usize::from(message[0] - b'0')].extend(bytes);
        frames = rest;
    }
    assert_eq!(frames, [0x88, 2, 3, 0xe8]);
    said
}

/// What is refused, and asked for too often.
fn addresses_that_nobody_comes_to() {
    apart(|| {
        let (node, id) = bed();
        let urls = (0..1000)
            .map(|_| exec_url(&node, &id, "echo here", false))
            .collect::<Vec<_>>();
        let request = ExecRequest {
            container_id: id.clone(),
            cmd: vec!["true".to_owned()],
            stdout: true,
            ..ExecRequest::default()
        };
        let full = node.wait(node.runtime().exec(request));
        refused(full, Code::ResourceExhausted, "1000 streams");
        let upgrade = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")];
        let guessed = format!("{}0", &urls[0][..urls[0].len() - 1]);
        if guessed != urls[0] {
            assert!(get(&guessed, &upgrade).starts_with("HTTP/1.1 404"));
        }
        // One that is used makes room.
        let said = Web::open(&urls[0], "v4.channel.k8s.io").finish();
        assert_eq!(said[1], b"here\n");
        exec_url(&node, &id, "true", false);
    });
}

suite! {
    &[Need::Root, Need::Program("ip"), Need::Program("busybox")] => [
        input_that_nobody_takes_waits_at_the_client,
        who_leaves_in_a_flood_takes_the_program_along,
        answers_that_nobody_reads_wait_too,
        a_size_that_does_not_end,
        who_says_nothing_is_let_go,
        idle_for_long,
        who_stays_after_the_end,
        tunnels_leave_nothing,
        connections_to_ports_are_counted,
        browsers_speak_base64,
        addresses_that_nobody_comes_to,
    ],
    &[Need::Root, Need::Program("ip"), Need::Program("busybox"), Need::Program("openssl")] => [
        who_makes_no_handshake_is_let_go,
    ],
}
