//! What the server of a node is configured to: its handlers, its metrics, and what it tells people.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::{Node, apart, busybox};
use cri_server::api::{ContainerConfig, RunPodSandboxRequest};
use ocirun_tests::image_support::FakeRegistry;
use ocirun_tests::{Need, suite};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Output, Stdio};

const FIRST_PROCESS: &str = "busybox tr '\\0' ' ' < /proc/1/cmdline";
const INIT: &str = "org.ocirun.init";

/// A node whose image asks for an init of its own, which has no say.
fn node(drop_in: &str) -> Node {
    let labels = json!({"Cmd": ["sh"], "Labels": {INIT: "true"}});
    let mut node = Node::with(FakeRegistry::serving(&busybox(&labels), |_| None));
    node.configure(drop_in);
    node.pull("busybox:1").unwrap();
    node
}

fn init_by_node_handler_and_pod() {
    apart(|| {
        let node = node(
            "[container]\ninit = \"-g\"\n[handlers.bare]\ninit = \"false\"\n[handlers.same]\n",
        );
        let request = |handler: &str| {
            let mut config = cri::pod_config();
            config.log_directory = node.path("logs").display().to_string();
            RunPodSandboxRequest {
                config: Some(config),
                runtime_handler: handler.to_owned(),
            }
        };
        for (handler, of_pod, of_container, has_init) in [
            ("", None, None, true),
            ("same", None, None, true),
            ("bare", None, None, false),
            ("bare", Some("true"), None, true),
            ("", Some("false"), None, false),
            ("", Some("false"), Some("-g"), true),
        ] {
            let mut request = request(handler);
            let annotations = &mut request.config.as_mut().unwrap().annotations;
            annotations.extend(of_pod.map(|value: &str| (INIT.to_owned(), value.to_owned())));
            let pod = node.wait(node.runtime().run_pod_sandbox(request));
            let pod = pod.unwrap().into_inner().pod_sandbox_id;
            let annotate = |config: &mut ContainerConfig| {
                let value = of_container.map(|value: &str| (INIT.to_owned(), value.to_owned()));
                config.annotations.extend(value);
            };
            let first = node.output(&pod, FIRST_PROCESS, annotate);
            let is_init = first.contains("ocirun-init ");
            assert_eq!(is_init, has_init, "{handler} {of_pod:?}: {first}");
            node.remove_pod(&pod);
        }
        let unknown = node.wait(node.runtime().run_pod_sandbox(request("none")));
        let unknown = unknown.unwrap_err();
        assert_eq!(unknown.code(), tonic::Code::InvalidArgument);
        assert!(unknown.message().contains("runtime_handler"), "{unknown}");
        node.assert_nothing_left();
    });
}

fn without_a_word_there_is_no_init() {
    apart(|| {
        let node = node("");
        let pod = node.pod(|_| {});
        let first = node.output(&pod, FIRST_PROCESS, |_| {});
        assert!(!first.contains("ocirun-init"), "{first}");
    });
}

/// In the network namespace of the test the address is nobody else's.
fn metrics_are_served() {
    apart(|| {
        let node = node("metrics_listen = \"127.0.0.1:9345\"\n");
        node.pod(|_| {});
        let mut stream = TcpStream::connect("127.0.0.1:9345").unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        for line in [
            "ocirun_cri_call_seconds_count{call=\"RunPodSandbox\",code=\"Ok\"} 1",
            "ocirun_cri_pod_start_seconds_count{phase=\"shim\"} 1",
            "ocirun_cri_pods{state=\"stopped\"} 0",
        ] {
            assert!(answer.contains(line), "{line}: {answer}");
        }
    });
}

fn status(node: &Node) -> Output {
    let mut command = node.command();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.arg("status").output().unwrap()
}

fn status_tells_people() {
    apart(|| {
        let mut node = node("");
        let pod = node.pod(|_| {});
        node.run(&pod, "busybox sleep 1000", |_| {});
        let output = status(&node);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        for words in [
            "RuntimeReady  yes",
            "1 ready, 0 stopped",
            "1 running",
            "images        1,",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        node.remove_pod(&pod);
        node.kill();
        let output = status(&node);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("does the daemon run?"), "{text}");
    });
}

suite! {
    &[Need::Root, Need::Program("busybox")] => [
        init_by_node_handler_and_pod,
        without_a_word_there_is_no_init,
        metrics_are_served,
        status_tells_people,
    ],
}
