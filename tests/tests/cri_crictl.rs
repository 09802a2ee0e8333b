//! Streams by crictl, over either transport, with and without certificates.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::network::fetched;
use cri::streams::{WAITS, exec_request, exec_url, is_running};
use cri::{Node, apart, namespaces};
use cri_server::api::NamespaceMode;
use ocirun_tests::{Need, eventually, suite};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What crictl calls them.
const TRANSPORTS: [&str; 2] = ["spdy", "websocket"];

/// crictl with the node's server.
fn crictl(node: &Node, args: &[&str]) -> Command {
    let mut command = Command::new("crictl");
    let endpoint = format!("unix://{}", node.path("run/cri.sock").display());
    command.args(["-r", &endpoint, "-i", &endpoint]).args(args);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn ended(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Tries something with a container that waits, by each transport.
fn by_each(check: impl Fn(&Node, &str, &str) + Send + 'static) {
    apart(move || {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let id = node.run(&pod, WAITS, |_| {});
        for transport in TRANSPORTS {
            check(&node, transport, &id);
        }
        node.remove_pod(&pod);
        node.assert_nothing_left();
    });
}

fn outputs_and_exit_code() {
    by_each(|node, transport, id| {
        let script = "echo out; echo err >&2; exit 3";
        let exec = ["exec", "-r", transport, id, "busybox", "sh", "-c", script];
        let output = crictl(node, &exec).output().unwrap();
        assert_eq!(output.stdout, b"out\n", "{output:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains("exit code 3"), "{output:?}");
    });
}

fn much_input() {
    by_each(|node, transport, id| {
        let exec = ["exec", "-i", "-r", transport, id, "busybox", "wc", "-c"];
        let mut child = crictl(node, &exec).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let block = vec![b'x'; 1 << 20];
        for _ in 0..20 {
            stdin.write_all(&block).unwrap();
        }
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.stdout, b"20971520\n", "{output:?}");
    });
}

fn a_terminal_of_the_clients_size() {
    by_each(|node, transport, id| {
        let socket = node.path("run/cri.sock");
        let line = format!(
            "stty rows 33 cols 99; crictl -r unix://{} exec -it -r {transport} {id} busybox sh -c \
             'while [ \"$(busybox stty size 2>/dev/null)\" != \"33 99\" ]; do busybox sleep 0.1; done; busybox tty; echo sized'",
            socket.display()
        );
        let output = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            text.contains("/dev/pts/") && text.contains("sized"),
            "{text}"
        );
    });
}

fn attached() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let shell = node.run(&pod, "while read x; do echo got $x; done", |config| {
            config.stdin = true;
        });
        for transport in TRANSPORTS {
            let attach = ["attach", "-i", "-r", transport, &shell];
            let mut child = crictl(&node, &attach).spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            let mut stdout = child.stdout.take().unwrap();
            let (mut seen, mut buffer) = (Vec::new(), [0; 100]);
            stdin.write_all(b"word\n").unwrap();
            while !seen.ends_with(b"got word\n") {
                let length = stdout.read(&mut buffer).unwrap();
                assert_ne!(length, 0, "{:?}", String::from_utf8_lossy(&seen));
                seen.extend_from_slice(&buffer[..length]);
            }
            ended(child);
        }
        node.remove_pod(&pod);
        node.assert_nothing_left();
    });
}

fn forwarded_ports() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|config| namespaces(config, |o| o.network = NamespaceMode::Pod.into()));
        node.run(&pod, "exec busybox httpd -f -p 80 -h /data/sub", |_| {});
        for (transport, port) in TRANSPORTS.into_iter().zip(12001..) {
            let ports = format!("{port}:80");
            let forward = ["port-forward", "-r", transport, &pod, &ports];
            let child = crictl(&node, &forward).spawn().unwrap();
            let text = fetched(([127, 0, 0, 1], port).into());
            assert!(text.ends_with("hello\n"), "{text}");
            ended(child);
        }
        node.remove_pod(&pod);
        node.assert_nothing_left();
    });
}

fn killed_in_the_middle_of_its_input() {
    by_each(|node, transport, id| {
        let exec = [
            "exec", "-i", "-r", transport, id, "busybox", "sleep", "4325",
        ];
        let mut child = crictl(node, &exec).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        eventually("it runs", || is_running(node, id, "sleep 4325"));
        drop(stdin.write_all(&vec![b'x'; 60_000]));
        ended(child);
        eventually("it is ended", || !is_running(node, id, "sleep 4325"));
    });
}

/// A certificate of localhost that signs itself, and its key.
fn certificate(certificate: &Path, key: &Path) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
        .args([
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-subj",
            "/CN=localhost",
        ])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .arg("-keyout")
        .arg(key)
        .arg("-out")
        .arg(certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

fn behind_certificates() {
    apart(|| {
        let mut node = Node::ready();
        node.kill();
        let (crt, key) = (node.path("tls.crt"), node.path("tls.key"));
        certificate(&crt, &key);
        std::fs::create_dir(node.path("cri.d")).unwrap();
        let drop_in = format!("[streaming]\ntls_certificate = {crt:?}\ntls_key = {key:?}\n");
        std::fs::write(node.path("cri.d/10.toml"), drop_in).unwrap();
        node.start();
        let pod = node.pod(|_| {});
        let id = node.run(&pod, WAITS, |_| {});
        let url = exec_url(&node, exec_request(&id, "true")).unwrap();
        assert!(url.starts_with("https://127.0.0.1:"), "{url}");
        let (crt, key) = (crt.to_str().unwrap(), key.to_str().unwrap());
        for transport in TRANSPORTS {
            // crictl wants a certificate of its own where it looks at the server's: nobody asks for it.
            let exec = [
                "exec",
                "-r",
                transport,
                "--tls-ca",
                crt,
                "--tls-cert",
                crt,
                "--tls-key",
                key,
                &id,
                "busybox",
                "echo",
                "here",
            ];
            let output = crictl(&node, &exec).output().unwrap();
            assert_eq!(output.stdout, b"here\n", "{output:?}");
        }
        // Who speaks without TLS is not understood.
        let address = url.trim_start_matches("https://");
        let mut plain = TcpStream::connect(address.split('/').next().unwrap()).unwrap();
        plain
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        drop(plain.read_to_end(&mut answer));
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    });
}

suite! {
    &[Need::Root, Need::Program("ip"), Need::Program("busybox"), Need::Program("crictl")] => [
        outputs_and_exit_code,
        much_input,
        attached,
        forwarded_ports,
        killed_in_the_middle_of_its_input,
    ],
    &[
        Need::Root, Need::Program("ip"), Need::Program("busybox"), Need::Program("crictl"),
        Need::Program("script"),
    ] => [
        a_terminal_of_the_clients_size,
    ],
    &[
        Need::Root, Need::Program("ip"), Need::Program("busybox"), Need::Program("crictl"),
        Need::Program("openssl"),
    ] => [
        behind_certificates,
    ],
}
