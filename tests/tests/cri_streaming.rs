//! Exec, Attach and PortForward by clients of our own, which do as they like.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::streams::{
    Spdy, WAITS, Web, attach_url, exec_request, exec_url, exit_code, forward_url, get, is_running,
};
use cri::{Node, apart, namespaces, refused};
use cri_server::api::{ExecRequest, NamespaceMode};
use ocirun_tests::{Need, eventually, suite};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;
use tonic::Code;

fn programs_for_clients_of_either_kind() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let id = node.run(&pod, WAITS, |_| {});
        let script = "cat; echo err >&2; exit 3";
        let url = exec_url(&node, exec_request(&id, script)).unwrap();
        let mut web = Web::open(&url, "v5.channel.k8s.io");
        web.send(0, b"in");
        web.send(0, b"put\n");
        web.send(255, &[0]);
        let said = web.finish();
        assert_eq!(
            (&said[1][..], &said[2][..]),
            (&b"input\n"[..], &b"err\n"[..])
        );
        assert_eq!(exit_code(&said[3]), Some(3));
        let url = exec_url(&node, exec_request(&id, script)).unwrap();
        let mut spdy = Spdy::open(&url, "v4.channel.k8s.io");
        spdy.streams(&["error", "stdin", "stdout", "stderr"]);
        spdy.data(3, b"input\n", true);
        let said = spdy.finish();
        assert_eq!(
            (&said[&5][..], &said[&7][..]),
            (&b"input\n"[..], &b"err\n"[..])
        );
        assert_eq!(exit_code(&said[&1]), Some(3));
        // Older clients hear of errors in plain text.
        let url = exec_url(&node, exec_request(&id, "exit 7")).unwrap();
        let mut spdy = Spdy::open(&url, "v2.channel.k8s.io");
        spdy.streams(&["error", "stdin", "stdout", "stderr"]);
        assert_eq!(spdy.finish()[&1], b"command terminated with exit code 7");
        // What goes well, and what cannot be begun.
        for (script, words) in [("true", "Success"), ("", "")] {
            let mut request = exec_request(&id, script);
            if script.is_empty() {
                request.cmd = vec!["/nonexistent".to_owned()];
            }
            let url = exec_url(&node, request).unwrap();
            let said = Web::open(&url, "v4.channel.k8s.io").finish();
            let told = String::from_utf8_lossy(&said[3]).into_owned();
            assert!(
                told.contains(words) && told.contains("Failure") == script.is_empty(),
                "{told}"
            );
        }
        // What a program leaves running is not waited for.
        let url = exec_url(&node, exec_request(&id, "sleep 30 & echo begun")).unwrap();
        assert_eq!(Web::open(&url, "v4.channel.k8s.io").finish()[1], b"begun\n");
        node.remove_pod(&pod);
        node.assert_nothing_left();
    });
}

fn much_in_both_directions() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let id = node.run(&pod, WAITS, |_| {});
        let part = (0..=255u8).cycle().take(60_000).collect::<Vec<_>>();
        let url = exec_url(&node, exec_request(&id, "cat")).unwrap();
        let mut spdy = Spdy::open(&url, "v4.channel.k8s.io");
        spdy.streams(&["error", "stdin", "stdout", "stderr"]);
        let mut writer = spdy.another();
        let sent = part.clone();
        let writing = std::thread::spawn(move || {
            for number in 0..200 {
                writer.data(3, &sent, number == 199);
            }
        });
        let said = spdy.finish();
        writing.join().unwrap();
        assert_eq!(said[&5].len(), 200 * part.len());
        assert!(said[&5].chunks(part.len()).all(|chunk| chunk == part));
        assert_eq!(exit_code(&said[&1]), Some(0));
    });
}

fn addresses_are_used_once_and_checked() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let id = node.run(&pod, WAITS, |_| {});
        let url = exec_url(&node, exec_request(&id, "true")).unwrap();
        assert_eq!(url.rsplit('/').next().unwrap().len(), 32, "{url}");
        // Nothing that is refused uses the address up.
        assert!(get(&url, &[]).starts_with("HTTP/1.1 400"));
        let spdy = [
            ("Connection", "Upgrade"),
            ("Upgrade", "SPDY/3.1"),
            ("X-Stream-Protocol-Version", "v9"),
        ];
        let answer = get(&url, &spdy);
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert!(
            answer.contains("x-accepted-stream-protocol-versions: v4.channel.k8s.io"),
            "{answer}"
        );
        let other = url.replace("/exec/", "/portforward/");
        let upgrade = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")];
        assert!(get(&other, &upgrade).starts_with("HTTP/1.1 404"));
        assert!(
            get(&url, &upgrade).starts_with("HTTP/1.1 404"),
            "the token was given away"
        );
        let url = exec_url(&node, exec_request(&id, "true")).unwrap();
        assert!(Web::open(&url, "v4.channel.k8s.io").finish()[3].len() > 2);
        assert!(get(&url, &upgrade).starts_with("HTTP/1.1 404"));
        let wrong = |change: fn(&mut ExecRequest)| {
            let mut request = exec_request(&id, "true");
            change(&mut request);
            exec_url(&node, request)
        };
        refused(wrong(|r| r.tty = true), Code::InvalidArgument, "stderr");
        let none = wrong(|r| (r.stdin, r.stdout, r.stderr) = (false, false, false));
        refused(none, Code::InvalidArgument, "stdin");
        refused(wrong(|r| r.cmd.clear()), Code::InvalidArgument, "cmd");
        refused(attach_url(&node, &id, true), Code::InvalidArgument, "tty");
        refused(
            attach_url(&node, &id, false),
            Code::FailedPrecondition,
            "no standard input",
        );
        node.stop(&id, 5).unwrap();
        refused(wrong(|_| {}), Code::FailedPrecondition, "is not running");
    });
}

fn terminals_and_their_sizes() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let id = node.run(&pod, WAITS, |_| {});
        let script = "echo $TERM; while [ \"$(busybox stty size 2>/dev/null)\" != '24 80' ]; do busybox sleep 0.1; done; echo first; \
                      read x; busybox stty size; echo got $x";
        let request = || ExecRequest {
            tty: true,
            stderr: false,
            ..exec_request(&id, script)
        };
        let url = exec_url(&node, request()).unwrap();
        let mut web = Web::open(&url, "v5.channel.k8s.io");
        web.send(4, br#"{"Width":80,"Height":24}"#);
        web.wait_for(1, "first");
        for width in 1..=5000 {
            web.send(4, format!("{{\"Width\":{width},\"Height\":9}}").as_bytes());
        }
        // The sizes are another stream than the input: they are taken when they are taken.
        std::thread::sleep(Duration::from_millis(500));
        web.send(0, b"word\n");
        let said = web.finish();
        let text = String::from_utf8_lossy(&said[1]).into_owned();
        assert!(text.starts_with("xterm\r\nfirst\r\n"), "{text}");
        assert!(
            text.contains("\r\n9 5000\r\n") && text.ends_with("got word\r\n"),
            "{text}"
        );
        assert_eq!(exit_code(&said[3]), Some(0));
    });
}

fn a_client_that_leaves_takes_its_program_along() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let id = node.run(&pod, WAITS, |_| {});
        for tty in [false, true] {
            let mut request = exec_request(&id, "busybox sleep 4321 & busybox sleep 4322");
            (request.tty, request.stderr) = (tty, !tty);
            let url = exec_url(&node, request).unwrap();
            let web = Web::open(&url, "v4.channel.k8s.io");
            eventually("it runs", || is_running(&node, &id, "sleep 4322"));
            drop(web);
            eventually("it is ended", || !is_running(&node, &id, "sleep 432"));
        }
        // One that sends what nobody takes, too.
        let url = exec_url(&node, exec_request(&id, "exec busybox sleep 4323")).unwrap();
        let web = Web::open(&url, "v4.channel.k8s.io");
        eventually("it runs", || is_running(&node, &id, "sleep 4323"));
        let mut socket = web.socket();
        socket.set_nonblocking(true).unwrap();
        let frame = cri::streams::message(2, &[&[0][..], &[7; 30_000]].concat());
        while socket
            .write(&frame)
            .is_ok_and(|length| length == frame.len())
        {}
        drop((socket, web));
        eventually("it is ended", || !is_running(&node, &id, "sleep 4323"));
    });
}

fn who_does_not_read_costs_nobody_else() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let id = node.run(&pod, WAITS, |_| {});
        let url = exec_url(&node, exec_request(&id, "exec busybox yes")).unwrap();
        let mut stalled = vec![Web::open(&url, "v4.channel.k8s.io")];
        let before = node.memory();
        for _ in 0..20 {
            let url = exec_url(&node, exec_request(&id, "exec busybox yes")).unwrap();
            stalled.push(Web::open(&url, "v4.channel.k8s.io"));
        }
        // Connections that say nothing.
        let address = url.trim_start_matches("http://").split('/').next().unwrap();
        let silent = (0..1000)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect::<Vec<_>>();
        let url = exec_url(&node, exec_request(&id, "echo here")).unwrap();
        assert_eq!(Web::open(&url, "v4.channel.k8s.io").finish()[1], b"here\n");
        let after = node.memory();
        assert!(after < before + (40 << 20), "{before} became {after}");
        drop((stalled, silent));
        eventually("they are ended", || !is_running(&node, &id, "busybox yes"));
    });
}

fn attached_to_a_container() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let script = "echo early; while read x; do echo got $x; echo err $x >&2; done; echo end";
        let id = node.run(&pod, script, |config| {
            config.stdin = true;
            config.stdin_once = true;
        });
        let mut first = Web::open(&attach_url(&node, &id, false).unwrap(), "v5.channel.k8s.io");
        let mut second = Spdy::open(&attach_url(&node, &id, false).unwrap(), "v4.channel.k8s.io");
        second.streams(&["error", "stdin", "stdout", "stderr"]);
        // Both are there when the first gets an answer to what it sends, and the second sees it.
        eventually("both see it", || {
            first.send(0, b"a\n");
            second.has(5, b"got a\n")
        });
        second.data(3, b"b\n", false);
        first.wait_for(1, "got b");
        first.send(255, &[0]);
        second.data(3, b"", true);
        let (first, second) = (first.finish(), second.finish());
        assert!(first[1].ends_with(b"end\n") && first[2].ends_with(b"err b\n"));
        assert!(second[&5].ends_with(b"end\n"));
        assert_eq!(exit_code(&first[3]), Some(0));
        let ended = node.ended(&id);
        assert_eq!(ended.exit_code, 0);
        // The log has all of it.
        let log = cri::text(Path::new(&ended.log_path));
        assert!(
            log.starts_with("early\n") && log.ends_with("end\n"),
            "{log}"
        );
    });
}

fn attached_to_a_terminal_and_never_reading() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let script = "while read x; do [ $x != size ] || busybox stty size; [ $x != flood ] || busybox seq 1000000; done";
        let id = node.run(&pod, script, |config| {
            config.stdin = true;
            config.tty = true;
        });
        let mut web = Web::open(&attach_url(&node, &id, true).unwrap(), "v5.channel.k8s.io");
        web.send(4, br#"{"Width":77,"Height":22}"#);
        eventually("the size is known", || {
            web.send(0, b"size\n");
            web.has(1, b"22 77")
        });
        let stalled = Web::open(&attach_url(&node, &id, true).unwrap(), "v5.channel.k8s.io");
        let other = node.run(&pod, WAITS, |_| {});
        web.send(0, b"flood\n");
        web.wait_for(1, "1000000");
        drop(stalled);
        drop(web);
        assert_eq!(node.exec(&other, "echo here").unwrap().stdout, b"here\n");
        // Who detaches ends nothing.
        let mut again = Web::open(&attach_url(&node, &id, true).unwrap(), "v5.channel.k8s.io");
        eventually("it goes on", || {
            again.send(0, b"size\n");
            again.has(1, b"22 77")
        });
    });
}

fn ports_of_pods() {
    apart(|| {
        let node = Node::ready();
        let own = node.pod(|config| namespaces(config, |o| o.network = NamespaceMode::Pod.into()));
        let hosts = node.pod(|_| {});
        for (pod, port) in [(&own, 8080), (&hosts, 8081)] {
            node.run(
                pod,
                &format!("exec busybox httpd -f -p {port} -h /data/sub"),
                |_| {},
            );
            let mut spdy = Spdy::open(&forward_url(&node, pod, port), "portforward.k8s.io");
            eventually("the pod's server answers", || {
                let (error, data) = spdy.pair(port);
                spdy.data(error, b"", true);
                spdy.data(data, b"GET /hello HTTP/1.0\r\n\r\n", false);
                spdy.wait_for_end(data);
                spdy.received(data).ends_with(b"hello\n")
            });
            // Another port than the one that was asked for, and one that nobody serves.
            let (error, _) = spdy.pair(1);
            assert!(spdy.was_reset(error));
        }
        let mut spdy = Spdy::open(&forward_url(&node, &own, 9), "portforward.k8s.io");
        let (error, data) = spdy.pair(9);
        spdy.wait_for_end(error);
        let text = String::from_utf8_lossy(&spdy.received(error)).into_owned();
        assert!(
            text.contains("port 9 of the pod: Connection refused"),
            "{text}"
        );
        assert!(spdy.was_reset(data));
        let file = cri_server::api::PortForwardRequest {
            pod_sandbox_id: own.clone(),
            port: vec![70_000],
        };
        refused(
            node.wait(node.runtime().port_forward(file)),
            Code::InvalidArgument,
            "port[0]: 70000",
        );
    });
}

/// Bytes that are no SPDY and no WebSocket.
fn rubbish_from_clients() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let id = node.run(&pod, WAITS, |_| {});
        for bytes in [
            &[0xff; 64][..],
            b"GET / HTTP/1.1\r\n\r\n",
            &[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff],
            &[0x82, 0xff, 0xff, 0xff],
        ] {
            for is_web in [false, true] {
                let url = exec_url(&node, exec_request(&id, "exec busybox sleep 4324")).unwrap();
                let mut socket = if is_web {
                    Web::open(&url, "v4.channel.k8s.io").socket()
                } else {
                    Spdy::open(&url, "v4.channel.k8s.io").socket()
                };
                drop(socket.write_all(bytes));
                drop(socket.shutdown(std::net::Shutdown::Write));
                // The server closes it.
                drop(socket.read_to_end(&mut Vec::new()));
            }
        }
        eventually("all are ended", || !is_running(&node, &id, "sleep 4324"));
    });
}

suite! {
    &[Need::Root, Need::Program("ip"), Need::Program("busybox")] => [
        programs_for_clients_of_either_kind,
        much_in_both_directions,
        addresses_are_used_once_and_checked,
        terminals_and_their_sizes,
        a_client_that_leaves_takes_its_program_along,
        who_does_not_read_costs_nobody_else,
        attached_to_a_container,
        attached_to_a_terminal_and_never_reading,
        ports_of_pods,
        rubbish_from_clients,
    ],
}
