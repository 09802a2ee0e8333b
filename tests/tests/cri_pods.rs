//! Pods and containers by the interface: their lives, their logs, and what runs in them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::{Node, apart, namespaces, refused, text};
use cri_server::api;
use cri_server::api::{
    ContainerState, LinuxContainerResources, NamespaceMode, PodSandboxState, RemoveImageRequest,
    ReopenContainerLogRequest, StopContainerRequest,
};
use ocirun_tests::{Need, eventually, suite};
use std::path::Path;
use tonic::Code;

fn from_the_first_call_to_the_last() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|config| {
            config.labels.insert("l".into(), "v".into());
            config.annotations.insert("a".into(), "w".into());
        });
        let status = node.pod_status(&pod).unwrap();
        assert_eq!(status.state(), PodSandboxState::SandboxReady);
        assert_eq!(
            (
                status.labels["l"].as_str(),
                status.annotations["a"].as_str()
            ),
            ("v", "w")
        );
        assert!(status.created_at > 0);
        let mut config = node.container_config("echo out; echo err >&2; exit 7");
        config.labels.insert("k".into(), "c".into());
        let id = node.try_create(&pod, config).unwrap();
        assert_eq!(id.len(), 64);
        assert_eq!(node.status(&id).state(), ContainerState::ContainerCreated);
        node.start_container(&id).unwrap();
        let ended = node.ended(&id);
        assert_eq!((ended.exit_code, ended.reason.as_str()), (7, "Error"));
        assert!(ended.created_at <= ended.started_at && ended.started_at <= ended.finished_at);
        assert!(ended.image_ref.starts_with("sha256:") && ended.image_id == ended.image_ref);
        assert_eq!(ended.image.as_ref().unwrap().image, node.image("busybox:1"));
        assert_eq!(ended.labels["k"], "c");
        let log = std::fs::read_to_string(&ended.log_path).unwrap();
        let mut lines = log
            .lines()
            .map(|l| l.split_once(' ').unwrap().1)
            .collect::<Vec<_>>();
        lines.sort_unstable();
        assert_eq!(lines, ["stderr F err", "stdout F out"]);
        refused(
            node.start_container(&id),
            Code::FailedPrecondition,
            "is not created: exited",
        );
        let well = node.run(&pod, "true", |_| {});
        assert_eq!(node.ended(&well).reason, "Completed");
        // Everything that ends something may be asked for again and again.
        for _ in 0..2 {
            node.stop(&id, 5).unwrap();
            node.remove(&id).unwrap();
            node.stop_pod(&pod).unwrap();
        }
        assert_eq!(
            node.pod_status(&pod).unwrap().state(),
            PodSandboxState::SandboxNotready
        );
        let late = node.try_create(&pod, node.container_config("true"));
        refused(late, Code::FailedPrecondition, "was stopped");
        node.remove_pod(&pod);
        node.remove_pod(&pod);
        refused(node.pod_status(&pod), Code::NotFound, "pod_sandbox_id");
        node.assert_nothing_left();
    });
}

/// Without a signal handler PID 1 ignores SIGTERM: that is what the deadline is for.
fn stopping_in_its_time_or_by_force() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let kind = node.run(
            &pod,
            "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done",
            |_| {},
        );
        // A signal that comes before its trap is set is ignored, as for every first process.
        let ready = |id: &str| {
            let log = node.status(id).log_path;
            eventually("its trap is set", || text(Path::new(&log)) == "ready\n");
        };
        ready(&kind);
        node.stop(&kind, 60).unwrap();
        assert_eq!(node.status(&kind).exit_code, 3);
        let deaf = node.run(&pod, "trap '' TERM; while :; do sleep 1; done", |_| {});
        node.stop(&deaf, 1).unwrap();
        assert_eq!(
            (node.status(&deaf).exit_code, &*node.status(&deaf).reason),
            (137, "Error")
        );
        let own = node.run(
            &pod,
            "trap 'exit 4' USR1; echo ready; while :; do sleep 0.1; done",
            |c| {
                c.stop_signal = api::Signal::Sigusr1.into();
            },
        );
        assert_eq!(node.status(&own).stop_signal(), api::Signal::Sigusr1);
        ready(&own);
        node.stop(&own, 60).unwrap();
        assert_eq!(node.status(&own).exit_code, 4);
        // One that waits is overtaken by one that does not.
        let slow = node.run(&pod, "trap '' TERM; while :; do sleep 1; done", |_| {});
        node.wait(async {
            let request = |timeout| StopContainerRequest {
                container_id: slow.clone(),
                timeout,
            };
            let (mut one, mut two) = (node.runtime(), node.runtime());
            let (one, two) = tokio::join!(
                one.stop_container(request(100_000)),
                two.stop_container(request(0))
            );
            one.unwrap();
            two.unwrap();
        });
        let never = node
            .try_create(&pod, node.container_config("true"))
            .unwrap();
        node.stop(&never, 1).unwrap();
        assert_eq!(node.status(&never).state(), ContainerState::ContainerExited);
        refused(node.stop(&deaf, -1), Code::InvalidArgument, "timeout: -1");
        // A pod ends with all that is in it.
        let running = node.run(&pod, "trap '' TERM; while :; do sleep 1; done", |_| {});
        node.stop_pod(&pod).unwrap();
        assert_eq!(node.ended(&running).exit_code, 137);
    });
}

fn programs_in_containers() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let id = node.run(&pod, "while :; do sleep 1; done", |c| {
            c.working_dir = "/data".into();
        });
        let done = node.exec(&id, "pwd; echo e >&2; exit 3").unwrap();
        assert_eq!(
            (&done.stdout[..], &done.stderr[..], done.exit_code),
            (&b"/data\n"[..], &b"e\n"[..], 3)
        );
        refused(
            node.exec_within(&id, "sleep 4321", 1),
            Code::DeadlineExceeded,
            "",
        );
        let left = node.exec(&id, "ps | grep -c '[s]leep 4321'").unwrap();
        assert_eq!(left.stdout, b"0\n", "killed when its time was over");
        // A child that keeps the output open does not keep the caller.
        let done = node.exec(&id, "sleep 1000 & echo done").unwrap();
        assert_eq!(done.stdout, b"done\n");
        let big = node.exec(&id, "head -c 9000000 /dev/zero").unwrap();
        assert_eq!(big.stdout.len(), 9_000_000);
        let huge = node.exec(&id, "head -c 20000000 /dev/zero").unwrap();
        assert_eq!(huge.stdout.len(), 16 << 20);
        let request = |cmd: &[&str], timeout| api::ExecSyncRequest {
            container_id: id.clone(),
            cmd: cmd.iter().map(ToString::to_string).collect(),
            timeout,
        };
        for (request, words) in [
            (request(&[], 0), "cmd: is empty"),
            (request(&["a\0b"], 0), "cmd: has a NUL"),
            (request(&["a"], -1), "timeout: -1"),
        ] {
            refused(
                node.wait(node.runtime().exec_sync(request)),
                Code::InvalidArgument,
                words,
            );
        }
        let absent = node.wait(node.runtime().exec_sync(request(&["/absent"], 0)));
        assert!(absent.unwrap_err().message().contains("absent"));
        node.stop(&id, 0).unwrap();
        refused(
            node.exec(&id, "true"),
            Code::FailedPrecondition,
            "is not running: exited",
        );
    });
}

fn logs_and_their_rotation() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let long = node.output(&pod, "head -c 40000 /dev/zero | tr '\\0' x; echo", |_| {});
        assert_eq!(long.trim_end().len(), 40_000);
        let id = node.run(
            &pod,
            "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done",
            |_| {},
        );
        let log = node.status(&id).log_path;
        let mut parts = Vec::new();
        for number in 0..5 {
            let old = format!("{log}.{number}");
            std::fs::rename(&log, &old).unwrap();
            parts.push(old);
            let request = ReopenContainerLogRequest {
                container_id: id.clone(),
            };
            match node.wait(node.runtime().reopen_container_log(request)) {
                Ok(_) => assert!(Path::new(&log).exists(), "the new log is there"),
                // It may have ended meanwhile.
                Err(error) => {
                    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
                    break;
                }
            }
        }
        node.ended(&id);
        parts.push(log);
        let all = parts
            .iter()
            .map(|part| text(Path::new(part)))
            .collect::<String>();
        let expected = (0..20_000).map(|i| format!("{i}\n")).collect::<String>();
        assert_eq!(all, expected);
        let request = ReopenContainerLogRequest { container_id: id };
        let answer = node.wait(node.runtime().reopen_container_log(request));
        refused(answer, Code::FailedPrecondition, "is not running");
    });
}

fn killed_for_lack_of_memory() {
    apart(|| {
        let mut node = Node::ready();
        node.configure("cgroup_driver = \"cgroupfs\"\n");
        lacks_memory(&node);
    });
}

/// systemd removes the cgroup as soon as nothing is in it. With version 1 nobody counts for it then.
fn killed_for_lack_of_memory_in_a_scope() {
    apart(|| {
        let mut node = Node::ready();
        node.configure("cgroup_driver = \"systemd\"\n");
        lacks_memory(&node);
    });
}

fn lacks_memory(node: &Node) {
    let pod = node.pod(|_| {});
    let others = [1, 2].map(|_| node.run(&pod, "sleep 1000", |_| {}));
    let id = node.run(&pod, "x=a; while :; do x=$x$x; done", |c| {
        c.linux.get_or_insert_default().resources = Some(LinuxContainerResources {
            memory_limit_in_bytes: 16 << 20,
            memory_swap_limit_in_bytes: 16 << 20,
            ..LinuxContainerResources::default()
        });
    });
    let ended = node.ended(&id);
    assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "OOMKilled"));
    // It is not told of who was killed by somebody else.
    for other in others {
        node.stop(&other, 0).unwrap();
        let ended = node.status(&other);
        assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "Error"));
    }
}

fn an_image_in_use_may_be_removed() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let id = node.run(&pod, "while :; do sleep 1; done", |_| {});
        let request = RemoveImageRequest {
            image: Some(cri::spec(&node.image("busybox:1"))),
        };
        node.wait(node.images().remove_image(request)).unwrap();
        let done = node.exec(&id, "cat /data/sub/hello").unwrap();
        assert_eq!(done.stdout, b"hello\n");
        let layers = || {
            std::fs::read_dir(node.path("root/images/layers"))
                .unwrap()
                .count()
        };
        assert_eq!(layers(), 1);
        node.remove_pod(&pod);
        assert_eq!(layers(), 0);
    });
}

fn a_pod_with_namespaces_of_its_own() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|config| {
            config.hostname = "inside".into();
            namespaces(config, |options| {
                options.network = NamespaceMode::Pod.into();
            });
            let linux = config.linux.as_mut().unwrap();
            linux
                .sysctls
                .insert("net.ipv4.ip_forward".into(), "1".into());
            config.dns_config = Some(api::DnsConfig {
                servers: vec!["10.9.8.7".into()],
                searches: vec!["a.example".into()],
                options: vec!["ndots:3".into()],
            });
        });
        let script = "hostname; cat /etc/resolv.conf; cat /proc/sys/net/ipv4/ip_forward; \
                      ls /sys/class/net; cat /sys/class/net/lo/flags; cat /etc/hostname; ping -c1 127.0.0.1 | grep -c 'seq=0'";
        let seen = node.output(&pod, script, |_| {});
        let expected = "inside\nsearch a.example\nnameserver 10.9.8.7\noptions ndots:3\n1\nlo\n0x9\ninside\n1\n";
        assert_eq!(seen, expected);
        node.remove_pod(&pod);
        node.assert_nothing_left();
    });
}

suite! {
    &[Need::Root, Need::Program("busybox")] => [
        from_the_first_call_to_the_last,
        stopping_in_its_time_or_by_force,
        programs_in_containers,
        logs_and_their_rotation,
        an_image_in_use_may_be_removed,
        a_pod_with_namespaces_of_its_own,
    ],
    &[Need::Root, Need::Program("busybox"), Need::Cgroup("memory")] => [
        killed_for_lack_of_memory,
    ],
    &[Need::Root, Need::Program("busybox"), Need::CgroupV2("memory"), Need::Systemd] => [
        killed_for_lack_of_memory_in_a_scope,
    ],
}
