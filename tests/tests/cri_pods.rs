//! Pods and containers by the interface: their lives, their logs, what runs in them, and what many callers get.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::{Node, apart, namespaces, pod_config, refused, text};
use cri_server::api;
use cri_server::api::{
    ContainerEventType, ContainerFilter, ContainerState, ContainerStatsRequest,
    ContainerStatusRequest, GetEventsRequest, LinuxContainerResources, ListContainerStatsRequest,
    ListContainersRequest, ListPodSandboxRequest, NamespaceMode, PodSandboxFilter, PodSandboxState,
    PodSandboxStateValue, PodSandboxStatsRequest, PodSandboxStatusRequest, RemoveContainerRequest,
    RemoveImageRequest, RemovePodSandboxRequest, ReopenContainerLogRequest, StopContainerRequest,
    StopPodSandboxRequest, StreamContainersRequest, StreamPodSandboxesRequest,
    UpdateContainerResourcesRequest,
};
use ocirun_tests::{Need, eventually, suite};
use std::path::Path;
use std::time::Duration;
use tokio_stream::StreamExt as _;
use tonic::Code;

fn stop(node: &Node, id: &str, timeout: i64) -> Result<(), tonic::Status> {
    let request = StopContainerRequest {
        container_id: id.to_owned(),
        timeout,
    };
    node.wait(node.runtime().stop_container(request)).map(drop)
}

fn remove(node: &Node, id: &str) -> Result<(), tonic::Status> {
    let request = RemoveContainerRequest {
        container_id: id.to_owned(),
    };
    node.wait(node.runtime().remove_container(request))
        .map(drop)
}

fn stop_pod(node: &Node, id: &str) -> Result<(), tonic::Status> {
    let request = StopPodSandboxRequest {
        pod_sandbox_id: id.to_owned(),
    };
    node.wait(node.runtime().stop_pod_sandbox(request))
        .map(drop)
}

fn pod_status(node: &Node, id: &str) -> Result<api::PodSandboxStatus, tonic::Status> {
    let request = PodSandboxStatusRequest {
        pod_sandbox_id: id.to_owned(),
        verbose: true,
    };
    let answer = node.wait(node.runtime().pod_sandbox_status(request))?;
    Ok(answer.into_inner().status.unwrap())
}

fn ready() -> Node {
    let node = Node::new();
    node.pull("busybox:1").unwrap();
    node
}

fn from_the_first_call_to_the_last() {
    apart(|| {
        let node = ready();
        let pod = node.pod(|config| {
            config.labels.insert("l".into(), "v".into());
            config.annotations.insert("a".into(), "w".into());
        });
        let status = pod_status(&node, &pod).unwrap();
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
            stop(&node, &id, 5).unwrap();
            remove(&node, &id).unwrap();
            stop_pod(&node, &pod).unwrap();
        }
        assert_eq!(
            pod_status(&node, &pod).unwrap().state(),
            PodSandboxState::SandboxNotready
        );
        let late = node.try_create(&pod, node.container_config("true"));
        refused(late, Code::FailedPrecondition, "was stopped");
        node.remove_pod(&pod);
        node.remove_pod(&pod);
        refused(pod_status(&node, &pod), Code::NotFound, "pod_sandbox_id");
        node.assert_nothing_left();
    });
}

/// Without a signal handler PID 1 ignores SIGTERM: that is what the deadline is for.
fn stopping_in_its_time_or_by_force() {
    apart(|| {
        let node = ready();
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
        stop(&node, &kind, 60).unwrap();
        assert_eq!(node.status(&kind).exit_code, 3);
        let deaf = node.run(&pod, "trap '' TERM; while :; do sleep 1; done", |_| {});
        stop(&node, &deaf, 1).unwrap();
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
        stop(&node, &own, 60).unwrap();
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
        stop(&node, &never, 1).unwrap();
        assert_eq!(node.status(&never).state(), ContainerState::ContainerExited);
        refused(stop(&node, &deaf, -1), Code::InvalidArgument, "timeout: -1");
        // A pod ends with all that is in it.
        let running = node.run(&pod, "trap '' TERM; while :; do sleep 1; done", |_| {});
        stop_pod(&node, &pod).unwrap();
        assert_eq!(node.ended(&running).exit_code, 137);
    });
}

fn programs_in_containers() {
    apart(|| {
        let node = ready();
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
        stop(&node, &id, 0).unwrap();
        refused(
            node.exec(&id, "true"),
            Code::FailedPrecondition,
            "is not running: exited",
        );
    });
}

fn logs_and_their_rotation() {
    apart(|| {
        let node = ready();
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

fn lists_filters_and_streams() {
    apart(|| {
        let node = ready();
        let label = |value: &str| [("l".to_owned(), value.to_owned())].into_iter().collect();
        let one = node.pod(|c| c.labels = label("1"));
        let two = node.pod(|c| c.labels = label("2"));
        let first = node.run(&one, "sleep 1000", |c| c.labels = label("x"));
        let second = node
            .try_create(&two, node.container_config("true"))
            .unwrap();
        stop_pod(&node, &two).unwrap();
        let pods = |filter: PodSandboxFilter| {
            let request = ListPodSandboxRequest {
                filter: Some(filter),
            };
            let list = node
                .wait(node.runtime().list_pod_sandbox(request))
                .unwrap()
                .into_inner();
            list.items.into_iter().map(|p| p.id).collect::<Vec<_>>()
        };
        let none = PodSandboxFilter::default;
        assert_eq!(pods(none()).len(), 2);
        assert_eq!(
            pods(PodSandboxFilter {
                id: one[..8].into(),
                ..none()
            }),
            [one.as_str()]
        );
        assert_eq!(
            pods(PodSandboxFilter {
                label_selector: label("2"),
                ..none()
            }),
            [two.as_str()]
        );
        let state = Some(PodSandboxStateValue {
            state: PodSandboxState::SandboxReady.into(),
        });
        assert_eq!(pods(PodSandboxFilter { state, ..none() }), [one.as_str()]);
        let containers = |filter: ContainerFilter| {
            let request = ListContainersRequest {
                filter: Some(filter),
            };
            let list = node
                .wait(node.runtime().list_containers(request))
                .unwrap()
                .into_inner();
            list.containers
                .into_iter()
                .map(|c| c.id)
                .collect::<Vec<_>>()
        };
        let all = ContainerFilter::default;
        assert_eq!(containers(all()).len(), 2);
        assert_eq!(
            containers(ContainerFilter {
                pod_sandbox_id: two.clone(),
                ..all()
            }),
            [second.as_str()]
        );
        assert_eq!(
            containers(ContainerFilter {
                label_selector: label("x"),
                ..all()
            }),
            [first.as_str()]
        );
        let running = Some(api::ContainerStateValue {
            state: ContainerState::ContainerRunning.into(),
        });
        assert_eq!(
            containers(ContainerFilter {
                state: running,
                ..all()
            }),
            [first.as_str()]
        );
        let wrong = Some(api::ContainerStateValue { state: 77 });
        let request = ListContainersRequest {
            filter: Some(ContainerFilter {
                state: wrong,
                ..all()
            }),
        };
        let answer = node.wait(node.runtime().list_containers(request));
        refused(answer, Code::InvalidArgument, "filter.state.state: 77");
        node.wait(async {
            let stream = node
                .runtime()
                .stream_pod_sandboxes(StreamPodSandboxesRequest::default())
                .await;
            let pods = stream
                .unwrap()
                .into_inner()
                .map(|m| m.unwrap().pod_sandboxes.len())
                .collect::<Vec<_>>();
            assert_eq!(pods.await, [2]);
            let stream = node
                .runtime()
                .stream_containers(StreamContainersRequest::default())
                .await;
            let all = stream
                .unwrap()
                .into_inner()
                .map(|m| m.unwrap().containers.len())
                .collect::<Vec<_>>();
            assert_eq!(all.await, [2]);
        });
        let verbose = ContainerStatusRequest {
            container_id: first[..10].into(),
            verbose: true,
        };
        let answer = node
            .wait(node.runtime().container_status(verbose))
            .unwrap()
            .into_inner();
        let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).unwrap();
        assert!(info["pid"].as_i64().unwrap() > 1);
        assert_eq!(info["runtimeSpec"]["process"]["args"][1], "sh");
        assert_eq!(info["sandboxID"], one.as_str());
    });
}

fn numbers_and_their_change() {
    apart(|| {
        let node = ready();
        let pod = node.pod(|_| {});
        let id = node.run(&pod, "while :; do :; done", |c| {
            c.linux.get_or_insert_default().resources = Some(LinuxContainerResources {
                memory_limit_in_bytes: 64 << 20,
                cpu_shares: 512,
                ..LinuxContainerResources::default()
            });
        });
        let stats = || {
            let request = ContainerStatsRequest {
                container_id: id.clone(),
            };
            node.wait(node.runtime().container_stats(request))
                .unwrap()
                .into_inner()
                .stats
                .unwrap()
        };
        eventually("CPU time is counted", || {
            stats().cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0
        });
        eventually("two looks make a rate", || {
            stats()
                .cpu
                .unwrap()
                .usage_nano_cores
                .is_some_and(|rate| rate.value > 0)
        });
        let memory = stats().memory.unwrap();
        assert!(memory.usage_bytes.unwrap().value > 0);
        assert!(memory.available_bytes.unwrap().value <= 64 << 20);
        node.exec(&id, "head -c 1000000 /dev/zero > /tmp/big")
            .unwrap();
        let layer = stats().writable_layer.unwrap();
        assert!(layer.used_bytes.unwrap().value >= 1_000_000);
        assert!(layer.inodes_used.unwrap().value >= 2);
        let request = ListContainerStatsRequest::default();
        let list = node
            .wait(node.runtime().list_container_stats(request))
            .unwrap()
            .into_inner()
            .stats;
        assert_eq!(list.len(), 1);
        let request = PodSandboxStatsRequest {
            pod_sandbox_id: pod.clone(),
        };
        let sum = node
            .wait(node.runtime().pod_sandbox_stats(request))
            .unwrap()
            .into_inner()
            .stats
            .unwrap();
        let sum = sum.linux.unwrap();
        assert_eq!(sum.containers.len(), 1);
        assert!(sum.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);
        let update = |linux: Option<LinuxContainerResources>| {
            let request = UpdateContainerResourcesRequest {
                container_id: id.clone(),
                linux,
                ..UpdateContainerResourcesRequest::default()
            };
            node.wait(node.runtime().update_container_resources(request))
        };
        update(Some(LinuxContainerResources {
            memory_limit_in_bytes: 128 << 20,
            ..LinuxContainerResources::default()
        }))
        .unwrap();
        let shown = node.status(&id).resources.unwrap().linux.unwrap();
        assert_eq!(
            (shown.memory_limit_in_bytes, shown.cpu_shares),
            (128 << 20, 512)
        );
        assert!(stats().memory.unwrap().available_bytes.unwrap().value > 64 << 20);
        refused(update(None), Code::InvalidArgument, "linux: is not set");
        let wrong = LinuxContainerResources {
            cpu_quota: 5,
            ..LinuxContainerResources::default()
        };
        refused(
            update(Some(wrong)),
            Code::InvalidArgument,
            "linux.cpu_quota: 5",
        );
        assert_eq!(
            node.status(&id).resources.unwrap().linux.unwrap().cpu_quota,
            0
        );
        stop(&node, &id, 0).unwrap();
        refused(update(Some(shown)), Code::FailedPrecondition, "has ended");
    });
}

fn killed_for_lack_of_memory() {
    apart(|| {
        let node = ready();
        let pod = node.pod(|_| {});
        let id = node.run(&pod, "x=a; while :; do x=$x$x; done", |c| {
            c.linux.get_or_insert_default().resources = Some(LinuxContainerResources {
                memory_limit_in_bytes: 16 << 20,
                memory_swap_limit_in_bytes: 16 << 20,
                ..LinuxContainerResources::default()
            });
        });
        let ended = node.ended(&id);
        assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "OOMKilled"));
    });
}

fn events_of_a_life() {
    apart(|| {
        let node = ready();
        let pod = node.pod(|_| {});
        let kinds = node.wait(async {
            let events = node
                .runtime()
                .get_container_events(GetEventsRequest {})
                .await
                .unwrap();
            let mut events = events.into_inner();
            let (mut runtime, config) = (node.runtime(), node.container_config("true"));
            let request = api::CreateContainerRequest {
                pod_sandbox_id: pod.clone(),
                config: Some(config),
                sandbox_config: None,
            };
            let id = runtime
                .create_container(request)
                .await
                .unwrap()
                .into_inner()
                .container_id;
            let container_id = id.clone();
            runtime
                .start_container(api::StartContainerRequest { container_id })
                .await
                .unwrap();
            let mut kinds = Vec::new();
            while let Some(event) = events.next().await {
                let event = event.unwrap();
                assert_eq!(
                    (event.container_id.as_str(), event.created_at > 0),
                    (id.as_str(), true)
                );
                assert_eq!(event.pod_sandbox_status.as_ref().unwrap().id, pod);
                kinds.push(event.container_event_type());
                if event.container_event_type() == ContainerEventType::ContainerStoppedEvent {
                    let told = event
                        .containers_statuses
                        .iter()
                        .find(|c| c.id == id)
                        .unwrap();
                    assert_eq!(told.state(), ContainerState::ContainerExited);
                    let container_id = id.clone();
                    runtime
                        .remove_container(RemoveContainerRequest { container_id })
                        .await
                        .unwrap();
                }
                if event.container_event_type() == ContainerEventType::ContainerDeletedEvent {
                    break;
                }
            }
            kinds
        });
        let expected = [
            ContainerEventType::ContainerCreatedEvent,
            ContainerEventType::ContainerStartedEvent,
            ContainerEventType::ContainerStoppedEvent,
            ContainerEventType::ContainerDeletedEvent,
        ];
        assert_eq!(kinds, expected);
    });
}

fn many_callers_make_one() {
    apart(|| {
        let node = ready();
        let config = pod_config();
        let request = api::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: String::new(),
        };
        let ids = node.wait(async {
            // One gives up at once, and asks again.
            let mut early = node.runtime();
            let early = early.run_pod_sandbox(request.clone());
            drop(tokio::time::timeout(Duration::from_millis(2), early).await);
            let callers = (0..64).map(|_| {
                let (mut runtime, request) = (node.runtime(), request.clone());
                tokio::spawn(async move {
                    runtime
                        .run_pod_sandbox(request)
                        .await
                        .unwrap()
                        .into_inner()
                        .pod_sandbox_id
                })
            });
            let mut ids = Vec::new();
            for caller in callers.collect::<Vec<_>>() {
                ids.push(caller.await.unwrap());
            }
            ids
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(node.pods(), [ids[0].as_str()]);
        let mut other = config.clone();
        other.hostname = "another".into();
        refused(node.run_pod(other), Code::AlreadyExists, "config.metadata");
        let request = api::CreateContainerRequest {
            pod_sandbox_id: ids[0].clone(),
            config: Some(node.container_config("while :; do sleep 1; done")),
            sandbox_config: None,
        };
        let containers = node.wait(async {
            let callers = (0..64).map(|_| {
                let (mut runtime, request) = (node.runtime(), request.clone());
                tokio::spawn(async move {
                    runtime
                        .create_container(request)
                        .await
                        .unwrap()
                        .into_inner()
                        .container_id
                })
            });
            let mut ids = Vec::new();
            for caller in callers.collect::<Vec<_>>() {
                ids.push(caller.await.unwrap());
            }
            ids
        });
        assert!(
            containers.iter().all(|id| *id == containers[0]),
            "{containers:?}"
        );
        node.start_container(&containers[0]).unwrap();
        let again = node.wait(node.runtime().create_container(request));
        refused(again, Code::AlreadyExists, "is there already");
        // 64 who do all sorts of things to the same pod: each gets an answer, and then it is gone.
        node.wait(async {
            let callers = (0..64).map(|number| {
                let (mut runtime, pod, id) =
                    (node.runtime(), ids[0].clone(), containers[0].clone());
                tokio::spawn(async move {
                    let pod_sandbox_id = pod.clone();
                    let container_id = id.clone();
                    // Whether it is still there when its turn comes is a matter of chance.
                    match number % 6 {
                        0 => drop(
                            runtime
                                .stop_container(StopContainerRequest {
                                    container_id,
                                    timeout: 0,
                                })
                                .await,
                        ),
                        1 => drop(
                            runtime
                                .remove_container(RemoveContainerRequest { container_id })
                                .await,
                        ),
                        2 => drop(
                            runtime
                                .container_status(ContainerStatusRequest {
                                    container_id,
                                    verbose: true,
                                })
                                .await,
                        ),
                        3 => drop(
                            runtime
                                .list_containers(ListContainersRequest::default())
                                .await
                                .unwrap(),
                        ),
                        4 => drop(
                            runtime
                                .stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id })
                                .await
                                .unwrap(),
                        ),
                        _ => drop(
                            runtime
                                .remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id })
                                .await,
                        ),
                    }
                })
            });
            for caller in callers.collect::<Vec<_>>() {
                caller.await.unwrap();
            }
        });
        node.remove_pod(&ids[0]);
        node.assert_nothing_left();
    });
}

/// Nothing is made by a request that cannot be.
fn what_is_refused_leaves_nothing() {
    apart(|| {
        let node = ready();
        let answer = node.wait(
            node.runtime()
                .run_pod_sandbox(api::RunPodSandboxRequest::default()),
        );
        refused(answer, Code::InvalidArgument, "config: is not set");
        let mut config = pod_config();
        config.metadata.as_mut().unwrap().name.clear();
        refused(
            node.run_pod(config),
            Code::InvalidArgument,
            "config.metadata.name",
        );
        let request = api::RunPodSandboxRequest {
            config: Some(pod_config()),
            runtime_handler: "kata".into(),
        };
        let answer = node.wait(node.runtime().run_pod_sandbox(request));
        refused(answer, Code::InvalidArgument, "runtime_handler");
        let mut config = pod_config();
        let linux = config.linux.as_mut().unwrap();
        linux
            .sysctls
            .insert("kernel.shm_no_such".into(), "1".into());
        assert!(
            node.run_pod(config).is_err(),
            "the shim finds no such parameter"
        );
        assert_eq!(node.pods(), Vec::<String>::new());
        node.assert_nothing_left();
        let pod = node.pod(|_| {});
        let containers = node.path("run/pods").join(&pod).join("containers");
        let layers = node.path("root/containers");
        let create = |change: &dyn Fn(&mut api::ContainerConfig)| {
            let mut config = node.container_config("true");
            change(&mut config);
            node.try_create(&pod, config)
        };
        let volume = |host_path: &str| api::Mount {
            container_path: "/v".into(),
            host_path: host_path.into(),
            ..api::Mount::default()
        };
        let security = |change: &dyn Fn(&mut api::LinuxContainerSecurityContext)| {
            let mut context = api::LinuxContainerSecurityContext::default();
            change(&mut context);
            Some(api::LinuxContainerConfig {
                security_context: Some(context),
                resources: None,
            })
        };
        let one = |value| Some(api::Int64Value { value });
        type Change<'a> = &'a dyn Fn(&mut api::ContainerConfig);
        let table: [(Change<'_>, Code, &str); 11] = [
            (
                &|c| c.metadata = None,
                Code::InvalidArgument,
                "config.metadata",
            ),
            (
                &|c| c.image = Some(cri::spec("absent.example/x:1")),
                Code::NotFound,
                "config.image.image",
            ),
            (
                &|c| c.image = Some(cri::spec("Bad Name")),
                Code::InvalidArgument,
                "image",
            ),
            (
                &|c| c.mounts = vec![volume("relative")],
                Code::InvalidArgument,
                "config.mounts[0].host_path",
            ),
            (
                &|c| c.linux = security(&|s| s.run_as_group = one(1)),
                Code::InvalidArgument,
                "run_as_group",
            ),
            (
                &|c| c.linux = security(&|s| s.run_as_user = one(-1)),
                Code::InvalidArgument,
                "run_as_user",
            ),
            (
                &|c| c.linux = security(&|s| s.privileged = true),
                Code::InvalidArgument,
                "privileged",
            ),
            (
                &|c| c.linux = security(&|s| s.run_as_username = "nobody".into()),
                Code::InvalidArgument,
                "run_as_username",
            ),
            (
                &|c| c.command = vec!["/no/such/program".into()],
                Code::Unknown,
                "/no/such/program",
            ),
            (
                &|c| c.log_path = "../x".into(),
                Code::InvalidArgument,
                "config.log_path",
            ),
            (
                &|c| c.working_dir = "x".into(),
                Code::InvalidArgument,
                "config.working_dir",
            ),
        ];
        for (change, code, words) in table {
            let error = create(change).expect_err(words);
            assert!(error.message().contains(words), "{error}");
            assert!(error.code() == code || code == Code::Unknown, "{error}");
            for dir in [&containers, &layers] {
                let left = std::fs::read_dir(dir).into_iter().flatten().count();
                assert_eq!(left, 0, "{words}: {dir:?}");
            }
        }
        let missing = node.path("not/made");
        let answer = create(&|c| {
            c.mounts = vec![volume(missing.to_str().unwrap())];
            c.working_dir = "x".into();
        });
        refused(answer, Code::InvalidArgument, "config.working_dir");
        assert!(!missing.exists());
        for id in ["", "zz", "../x", &"a".repeat(65)] {
            refused(
                node.start_container(id),
                Code::InvalidArgument,
                "container_id",
            );
            refused(stop(&node, id, 0), Code::InvalidArgument, "container_id");
            refused(
                pod_status(&node, id),
                Code::InvalidArgument,
                "pod_sandbox_id",
            );
        }
        refused(
            node.start_container("abcdef"),
            Code::NotFound,
            "container_id",
        );
        // What is not there cannot be ended, and that is no error.
        stop(&node, "abcdef", 0).unwrap();
        remove(&node, "abcdef").unwrap();
        stop_pod(&node, "abcdef").unwrap();
    });
}

fn an_image_in_use_may_be_removed() {
    apart(|| {
        let node = ready();
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
        let node = ready();
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
    &[Need::Root, Need::Program("ip"), Need::Program("busybox")] => [
        from_the_first_call_to_the_last,
        stopping_in_its_time_or_by_force,
        programs_in_containers,
        logs_and_their_rotation,
        lists_filters_and_streams,
        events_of_a_life,
        many_callers_make_one,
        what_is_refused_leaves_nothing,
        an_image_in_use_may_be_removed,
        a_pod_with_namespaces_of_its_own,
    ],
    &[Need::Root, Need::Program("ip"), Need::Program("busybox"), Need::Cgroup("memory"), Need::Cgroup("cpu")] => [
        numbers_and_their_change,
        killed_for_lack_of_memory,
    ],
}
