//! The server is killed and started again, and shims are: nothing is lost, nothing is done twice, nothing is left.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::{Node, apart, pod_config, text};
use cri_server::api;
use cri_server::api::{
    ContainerState, PodSandboxState, PodSandboxStatusRequest, StopPodSandboxRequest,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ocirun_tests::{Need, eventually, suite};
use std::path::Path;
use std::time::Duration;

fn ready() -> Node {
    let node = Node::new();
    node.pull("busybox:1").unwrap();
    node
}

fn shim_pid(node: &Node, pod: &str) -> Pid {
    let file = node.path("run/pods").join(pod).join("shim.pid");
    Pid::from_raw(
        std::fs::read_to_string(file)
            .unwrap()
            .trim()
            .parse()
            .unwrap(),
    )
}

fn everything_is_there_after_a_kill() {
    apart(|| {
        let mut node = ready();
        let pod = node.pod(|c| drop(c.labels.insert("l".into(), "v".into())));
        let stopped = node.pod(|_| {});
        let request = StopPodSandboxRequest {
            pod_sandbox_id: stopped.clone(),
        };
        node.wait(node.runtime().stop_pod_sandbox(request)).unwrap();
        let runs = node.run(
            &pod,
            "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done",
            |_| {},
        );
        let ended = node.run(&pod, "exit 5", |_| {});
        node.ended(&ended);
        let ends = node.run(
            &pod,
            "while [ ! -e /tmp/end ]; do sleep 0.05; done; exit 6",
            |_| {},
        );
        let created = node
            .try_create(&pod, node.container_config("exit 7"))
            .unwrap();
        let before = [&runs, &ended, &created].map(|id| node.status(id));
        let first = node
            .exec(&runs, "echo $PPID; cut -d' ' -f22 /proc/1/stat")
            .unwrap()
            .stdout;
        node.exec(&ends, "(sleep 0.5; touch /tmp/end) > /dev/null 2>&1 &")
            .unwrap();
        node.kill();
        let exit = node
            .path("run/pods")
            .join(&pod)
            .join("containers")
            .join(&ends)
            .join("exit.json");
        eventually("a container ends while nobody listens", || exit.exists());
        let log = before[0].log_path.clone();
        let lines = || text(Path::new(&log)).lines().count();
        let seen = lines();
        eventually("its log goes on meanwhile", || lines() > seen);
        node.start();
        assert_eq!(node.pods().len(), 2);
        let status = |pod: &str| {
            let request = PodSandboxStatusRequest {
                pod_sandbox_id: pod.to_owned(),
                verbose: false,
            };
            node.wait(node.runtime().pod_sandbox_status(request))
                .unwrap()
                .into_inner()
                .status
                .unwrap()
        };
        assert_eq!(
            (status(&pod).state(), status(&pod).labels["l"].as_str()),
            (PodSandboxState::SandboxReady, "v")
        );
        assert_eq!(status(&stopped).state(), PodSandboxState::SandboxNotready);
        assert_eq!([&runs, &ended, &created].map(|id| node.status(id)), before);
        let late = node.status(&ends);
        assert_eq!(
            (late.state(), late.exit_code),
            (ContainerState::ContainerExited, 6)
        );
        assert!(late.finished_at > late.started_at);
        let again = node
            .exec(&runs, "echo $PPID; cut -d' ' -f22 /proc/1/stat")
            .unwrap()
            .stdout;
        assert_eq!(again, first, "the same process");
        node.start_container(&created).unwrap();
        assert_eq!(node.ended(&created).exit_code, 7);
        let whole = text(Path::new(&log));
        let numbers = whole
            .lines()
            .map(|l| l.parse::<usize>().unwrap())
            .collect::<Vec<_>>();
        assert!(
            numbers.iter().enumerate().all(|(at, number)| at == *number),
            "nothing lost or doubled"
        );
        node.remove_pod(&pod);
        node.remove_pod(&stopped);
        node.assert_nothing_left();
    });
}

/// Killed at any moment of a pod's and a container's making: what nobody was told of is gone after the next start, and
/// the same name can be had at once.
fn killed_in_the_midst() {
    apart(|| {
        let mut node = ready();
        let kept = node.pod(|_| {});
        for step in 0..12_u32 {
            let config = pod_config();
            let request = api::RunPodSandboxRequest {
                config: Some(config.clone()),
                runtime_handler: String::new(),
            };
            let container = node.container_config("exit 9");
            let create = api::CreateContainerRequest {
                pod_sandbox_id: kept.clone(),
                config: Some(container.clone()),
                sandbox_config: None,
            };
            let told = node.wait(async {
                let (mut one, mut two) = (node.runtime(), node.runtime());
                let both = async {
                    tokio::join!(one.run_pod_sandbox(request), two.create_container(create))
                };
                tokio::time::timeout(Duration::from_millis(u64::from(step) * 2), both).await
            });
            node.kill();
            node.start();
            let known = node.pods();
            if let Ok((Ok(pod), _)) = &told {
                assert!(
                    known.contains(&pod.get_ref().pod_sandbox_id),
                    "what was told is there"
                );
            }
            let pod = node
                .run_pod(config)
                .unwrap_or_else(|error| panic!("{error}\n{}", node.log()));
            let id = node
                .try_create(&kept, container)
                .unwrap_or_else(|error| panic!("{error}\n{}", node.log()));
            if let Ok((_, Ok(container))) = &told {
                assert_eq!(container.get_ref().container_id, id);
            }
            node.start_container(&id).unwrap();
            assert_eq!(node.ended(&id).exit_code, 9);
            node.remove_pod(&pod);
            assert_eq!(node.pods(), [kept.as_str()]);
        }
        node.remove_pod(&kept);
        node.assert_nothing_left();
    });
}

fn shims_that_are_killed() {
    apart(|| {
        let node = ready();
        let pod = node.pod(|_| {});
        let runs = node.run(
            &pod,
            "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done",
            |_| {},
        );
        let before = node.status(&runs);
        let old = shim_pid(&node, &pod);
        kill(old, Signal::SIGKILL).unwrap();
        eventually("another shim is there", || {
            let file = node.path("run/pods").join(&pod).join("shim.pid");
            std::fs::read_to_string(file).is_ok_and(|pid| pid.trim().parse() != Ok(old.as_raw()))
        });
        eventually("it answers", || node.exec(&runs, "true").is_ok());
        assert_eq!(node.status(&runs), before);
        let seen = text(Path::new(&before.log_path)).lines().count();
        eventually("its log goes on", || {
            text(Path::new(&before.log_path)).lines().count() > seen
        });
        // Both at once.
        let mut node = node;
        kill(shim_pid(&node, &pod), Signal::SIGKILL).unwrap();
        node.kill();
        node.start();
        eventually("it answers", || node.exec(&runs, "true").is_ok());
        assert_eq!(node.status(&runs), before);
        node.remove_pod(&pod);
        node.assert_nothing_left();
    });
}

/// A record that cannot be read costs its own pod alone, and is left for people to look at.
fn records_that_are_broken() {
    apart(|| {
        let mut node = ready();
        let (good, bad) = (node.pod(|_| {}), node.pod(|_| {}));
        let file = node.path("run/pods").join(&bad).join("sandbox.json");
        let whole = std::fs::read(&file).unwrap();
        for broken in [&b""[..], b"{", &whole[..whole.len() / 2]] {
            node.kill();
            std::fs::write(&file, broken).unwrap();
            node.start();
            assert_eq!(node.pods(), [good.as_str()]);
            assert!(node.log().contains("is left alone"));
        }
        node.kill();
        std::fs::write(&file, &whole).unwrap();
        node.start();
        assert_eq!(node.pods().len(), 2);
        node.remove_pod(&good);
        node.remove_pod(&bad);
        node.assert_nothing_left();
    });
}

/// Writable layers of containers that a start of the machine took away.
fn layers_of_a_former_boot() {
    apart(|| {
        let mut node = ready();
        let layer = node.path("root/containers").join("a".repeat(64));
        std::fs::create_dir_all(layer.join("upper/etc")).unwrap();
        node.kill();
        node.start();
        assert!(!layer.exists());
    });
}

suite! {
    &[Need::Root, Need::Program("busybox")] => [
        everything_is_there_after_a_kill,
        killed_in_the_midst,
        shims_that_are_killed,
        records_that_are_broken,
        layers_of_a_former_boot,
    ],
}
