//! What happens to pods and containers, told as it happens.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::{Node, apart, pod_config, refused};
use cri_server::api;
use cri_server::api::ContainerEventType::{
    ContainerCreatedEvent, ContainerDeletedEvent, ContainerStartedEvent, ContainerStoppedEvent,
};
use cri_server::api::{
    ContainerEventResponse, ContainerEventType, ContainerState, GetEventsRequest,
    LinuxContainerResources, PodSandboxState, PodSandboxStatusRequest, RemoveContainerRequest,
    UpdatePodSandboxResourcesRequest,
};
use ocirun_tests::{Need, suite};
use serde_json::{Value, json};
use tokio_stream::StreamExt as _;
use tonic::Code;

fn events_of_a_life() {
    apart(|| {
        let node = Node::ready();
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

/// A pod is told of as a container that has its id, with all that a kubelet takes over from an event.
fn events_of_a_pod() {
    apart(|| {
        let node = Node::ready();
        let mut runtime = node.runtime();
        let events = node.wait(runtime.get_container_events(GetEventsRequest {}));
        let mut events = events.unwrap().into_inner();
        let mut next = |kind: ContainerEventType| -> ContainerEventResponse {
            let event = node.wait(async { events.next().await.unwrap().unwrap() });
            assert_eq!(event.container_event_type(), kind);
            event
        };
        let config = pod_config();
        let uid = config.metadata.as_ref().unwrap().uid.clone();
        let pod = node.run_pod(config).unwrap();
        let mut told = vec![next(ContainerCreatedEvent), next(ContainerStartedEvent)];
        let container = node.run(&pod, "exit 3", |_| {});
        node.ended(&container);
        for kind in [
            ContainerCreatedEvent,
            ContainerStartedEvent,
            ContainerStoppedEvent,
        ] {
            let event = next(kind);
            assert_eq!(event.container_id, container);
            assert_eq!(event.containers_statuses.len(), 1);
        }
        node.stop_pod(&pod).unwrap();
        // An end is told once, however often it is asked for.
        node.stop_pod(&pod).unwrap();
        let stopped = next(ContainerStoppedEvent);
        assert_eq!(stopped.containers_statuses[0].exit_code, 3);
        node.remove_pod(&pod);
        assert_eq!(next(ContainerDeletedEvent).container_id, container);
        told.extend([stopped, next(ContainerDeletedEvent)]);
        let states = told.iter().map(|event| {
            let status = event.pod_sandbox_status.as_ref().unwrap();
            assert_eq!((&event.container_id, &status.id), (&pod, &pod));
            assert_eq!(status.metadata.as_ref().unwrap().uid, uid);
            assert!(event.created_at > 0);
            status.state()
        });
        let (ready, not) = (
            PodSandboxState::SandboxReady,
            PodSandboxState::SandboxNotready,
        );
        assert_eq!(states.collect::<Vec<_>>(), [ready, ready, not, not]);
    });
}

fn resources_of_a_whole_pod() {
    apart(|| {
        let mut node = Node::ready();
        let pod = node.pod(|_| {});
        let limits = |cpu_shares, memory_limit_in_bytes| {
            Some(LinuxContainerResources {
                cpu_shares,
                memory_limit_in_bytes,
                ..LinuxContainerResources::default()
            })
        };
        let update = |node: &Node, id: &str, overhead, resources| {
            let request = UpdatePodSandboxResourcesRequest {
                pod_sandbox_id: id.to_owned(),
                overhead,
                resources,
            };
            node.wait(node.runtime().update_pod_sandbox_resources(request))
        };
        let shown = |node: &Node| {
            let request = PodSandboxStatusRequest {
                pod_sandbox_id: pod.clone(),
                verbose: true,
            };
            let answer = node.wait(node.runtime().pod_sandbox_status(request));
            let info: Value =
                serde_json::from_str(&answer.unwrap().into_inner().info["info"]).unwrap();
            [
                &info["overhead"]["cpu_shares"],
                &info["resources"]["cpu_shares"],
            ]
            .map(Clone::clone)
        };
        update(&node, &pod, limits(2, 1 << 20), limits(512, 64 << 20)).unwrap();
        assert_eq!(shown(&node), [json!(2), json!(512)]);
        let wrong = update(&node, &pod, None, limits(-1, 0));
        refused(wrong, Code::InvalidArgument, "resources.cpu_shares");
        refused(
            update(&node, "ab", None, None),
            Code::NotFound,
            "pod_sandbox_id",
        );
        node.kill();
        node.start();
        assert_eq!(shown(&node), [json!(2), json!(512)]);
        node.stop_pod(&pod).unwrap();
        let late = update(&node, &pod, None, None);
        refused(late, Code::FailedPrecondition, "was stopped");
    });
}

suite! {
    &[Need::Root, Need::Program("busybox")] => [
        events_of_a_life,
        events_of_a_pod,
        resources_of_a_whole_pod,
    ],
}
