//! Lists with their filters, streams of lists, and numbers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::{Node, apart, refused};
use cri_server::api::{
    ContainerFilter, ContainerState, ContainerStateValue, ContainerStats, ContainerStatsFilter,
    ContainerStatsRequest, ContainerStatusRequest, LinuxContainerResources,
    ListContainerStatsRequest, ListContainersRequest, ListPodSandboxRequest, PodSandboxFilter,
    PodSandboxState, PodSandboxStateValue, PodSandboxStatsFilter, PodSandboxStatsRequest,
    StreamContainerStatsRequest, StreamContainersRequest, StreamPodSandboxStatsRequest,
    StreamPodSandboxesRequest, UpdateContainerResourcesRequest,
};
use ocirun_tests::{Need, eventually, suite};
use std::collections::HashMap;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

fn label(value: &str) -> HashMap<String, String> {
    [("l".to_owned(), value.to_owned())].into()
}

/// A node with a ready pod, in which a container runs, and a stopped one, in which one was made.
struct Two {
    node: Node,
    pods: [String; 2],
    containers: [String; 2],
}

impl Two {
    fn new() -> Self {
        let node = Node::ready();
        let one = node.pod(|config| config.labels = label("1"));
        let two = node.pod(|config| config.labels = label("2"));
        let first = node.run(&one, "sleep 1000", |config| config.labels = label("x"));
        let second = node.try_create(&two, node.container_config("true"));
        let second = second.unwrap();
        node.stop_pod(&two).unwrap();
        Self {
            node,
            pods: [one, two],
            containers: [first, second],
        }
    }

    fn pods(&self, filter: PodSandboxFilter) -> Vec<String> {
        let filter = Some(filter);
        let request = ListPodSandboxRequest { filter };
        let list = self
            .node
            .wait(self.node.runtime().list_pod_sandbox(request));
        let list = list.unwrap().into_inner();
        list.items.into_iter().map(|pod| pod.id).collect()
    }

    fn containers(&self, filter: ContainerFilter) -> Result<Vec<String>, Status> {
        let filter = Some(filter);
        let request = ListContainersRequest { filter };
        let list = self.node.wait(self.node.runtime().list_containers(request));
        let list = list?.into_inner().containers;
        Ok(list.into_iter().map(|container| container.id).collect())
    }
}

fn pods_by_id_label_and_state() {
    apart(|| {
        let two = Two::new();
        let [one, other] = &two.pods;
        let none = PodSandboxFilter::default;
        assert_eq!(two.pods(none()).len(), 2);
        let id = one[..8].to_owned();
        assert_eq!(two.pods(PodSandboxFilter { id, ..none() }), [one.as_str()]);
        let label_selector = label("2");
        let labelled = PodSandboxFilter {
            label_selector,
            ..none()
        };
        assert_eq!(two.pods(labelled), [other.as_str()]);
        let state = PodSandboxState::SandboxReady.into();
        let state = Some(PodSandboxStateValue { state });
        let ready = PodSandboxFilter { state, ..none() };
        assert_eq!(two.pods(ready), [one.as_str()]);
    });
}

fn containers_by_pod_label_and_state() {
    apart(|| {
        let two = Two::new();
        let [first, second] = &two.containers;
        let none = ContainerFilter::default;
        assert_eq!(two.containers(none()).unwrap().len(), 2);
        let pod_sandbox_id = two.pods[1].clone();
        let of_pod = ContainerFilter {
            pod_sandbox_id,
            ..none()
        };
        assert_eq!(two.containers(of_pod).unwrap(), [second.as_str()]);
        let label_selector = label("x");
        let labelled = ContainerFilter {
            label_selector,
            ..none()
        };
        assert_eq!(two.containers(labelled).unwrap(), [first.as_str()]);
        let in_state = |state| ContainerFilter {
            state: Some(ContainerStateValue { state }),
            ..none()
        };
        let running = in_state(ContainerState::ContainerRunning.into());
        assert_eq!(two.containers(running).unwrap(), [first.as_str()]);
        let answer = two.containers(in_state(77));
        refused(answer, Code::InvalidArgument, "filter.state.state: 77");
    });
}

fn streams_of_lists() {
    apart(|| {
        let two = Two::new();
        let node = &two.node;
        node.wait(async {
            let mut runtime = node.runtime();
            let pods = runtime.stream_pod_sandboxes(StreamPodSandboxesRequest::default());
            let pods = pods.await.unwrap().into_inner();
            let sizes = pods.map(|m| m.unwrap().pod_sandboxes.len());
            assert_eq!(sizes.collect::<Vec<_>>().await, [2]);
            let all = runtime.stream_containers(StreamContainersRequest::default());
            let all = all.await.unwrap().into_inner();
            let sizes = all.map(|m| m.unwrap().containers.len());
            assert_eq!(sizes.collect::<Vec<_>>().await, [2]);
        });
    });
}

fn streams_of_numbers_with_their_filters() {
    apart(|| {
        let two = Two::new();
        let node = &two.node;
        let containers = |filter: Option<ContainerStatsFilter>| {
            let mut runtime = node.runtime();
            node.wait(async {
                let stats = runtime.stream_container_stats(StreamContainerStatsRequest { filter });
                let parts = stats.await.unwrap().into_inner();
                let parts = parts.map(|part| part.unwrap().container_stats);
                let all = parts.collect::<Vec<_>>().await.concat();
                let ids = all.into_iter().map(|one| one.attributes.unwrap().id);
                ids.collect::<Vec<_>>()
            })
        };
        let pods = |filter: Option<PodSandboxStatsFilter>| {
            let mut runtime = node.runtime();
            node.wait(async {
                let request = StreamPodSandboxStatsRequest { filter };
                let parts = runtime.stream_pod_sandbox_stats(request).await.unwrap();
                let parts = parts.into_inner();
                let parts = parts.map(|part| part.unwrap().pod_sandbox_stats);
                let all = parts.collect::<Vec<_>>().await.concat();
                let ids = all.into_iter().map(|one| one.attributes.unwrap().id);
                ids.collect::<Vec<_>>()
            })
        };
        let of_label = |value: &str| {
            let label_selector = label(value);
            Some(ContainerStatsFilter {
                label_selector,
                ..ContainerStatsFilter::default()
            })
        };
        let first = [two.containers[0].clone()];
        assert_eq!(containers(of_label("x")), first);
        assert!(containers(of_label("y")).is_empty());
        let id = first[0].clone();
        let by_id = ContainerStatsFilter {
            id,
            ..ContainerStatsFilter::default()
        };
        assert_eq!(containers(Some(by_id)), first);
        assert!(containers(None).contains(&first[0]));
        let of_label = |value: &str| {
            let (id, label_selector) = (String::new(), label(value));
            Some(PodSandboxStatsFilter { id, label_selector })
        };
        let first = [two.pods[0].clone()];
        assert_eq!(pods(of_label("1")), first);
        assert!(pods(of_label("3")).is_empty());
        let by_id = PodSandboxStatsFilter {
            id: first[0].clone(),
            ..PodSandboxStatsFilter::default()
        };
        assert_eq!(pods(Some(by_id)), first);
        assert!(pods(None).contains(&first[0]));
    });
}

fn a_status_with_all_there_is_to_say() {
    apart(|| {
        let two = Two::new();
        let request = ContainerStatusRequest {
            container_id: two.containers[0][..10].into(),
            verbose: true,
        };
        let answer = two.node.wait(two.node.runtime().container_status(request));
        let answer = answer.unwrap().into_inner();
        let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).unwrap();
        assert!(info["pid"].as_i64().unwrap() > 1);
        assert_eq!(info["runtimeSpec"]["process"]["args"][1], "sh");
        assert_eq!(info["sandboxID"], two.pods[0].as_str());
    });
}

/// A pod with a container that is never idle, has 64 MiB and half of the usual shares.
fn busy(node: &Node) -> (String, String) {
    let pod = node.pod(|_| {});
    let id = node.run(&pod, "while :; do :; done", |config| {
        config.linux.get_or_insert_default().resources = Some(LinuxContainerResources {
            memory_limit_in_bytes: 64 << 20,
            cpu_shares: 512,
            ..LinuxContainerResources::default()
        });
    });
    (pod, id)
}

fn stats(node: &Node, id: &str) -> ContainerStats {
    let container_id = id.to_owned();
    let request = ContainerStatsRequest { container_id };
    let answer = node.wait(node.runtime().container_stats(request));
    answer.unwrap().into_inner().stats.unwrap()
}

fn numbers_of_a_container_and_its_pod() {
    apart(|| {
        let node = Node::ready();
        let (pod, id) = busy(&node);
        let cpu = || stats(&node, &id).cpu.unwrap();
        eventually("CPU time is counted", || {
            cpu().usage_core_nano_seconds.unwrap().value > 0
        });
        eventually("two looks make a rate", || {
            cpu().usage_nano_cores.is_some_and(|rate| rate.value > 0)
        });
        let memory = stats(&node, &id).memory.unwrap();
        assert!(memory.usage_bytes.unwrap().value > 0);
        assert!(memory.available_bytes.unwrap().value <= 64 << 20);
        node.exec(&id, "head -c 1000000 /dev/zero > /tmp/big")
            .unwrap();
        let layer = stats(&node, &id).writable_layer.unwrap();
        assert!(layer.used_bytes.unwrap().value >= 1_000_000);
        assert!(layer.inodes_used.unwrap().value >= 2);
        let all = ListContainerStatsRequest::default();
        let list = node.wait(node.runtime().list_container_stats(all));
        assert_eq!(list.unwrap().into_inner().stats.len(), 1);
        let pod_sandbox_id = pod.clone();
        let request = PodSandboxStatsRequest { pod_sandbox_id };
        let sum = node.wait(node.runtime().pod_sandbox_stats(request));
        let sum = sum.unwrap().into_inner().stats.unwrap().linux.unwrap();
        assert_eq!(sum.containers.len(), 1);
        assert!(sum.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);
    });
}

fn resources_change_in_place() {
    apart(|| {
        let node = Node::ready();
        let (_pod, id) = busy(&node);
        let update = |linux: Option<LinuxContainerResources>| {
            let request = UpdateContainerResourcesRequest {
                container_id: id.clone(),
                linux,
                ..UpdateContainerResourcesRequest::default()
            };
            node.wait(node.runtime().update_container_resources(request))
        };
        let shown = || node.status(&id).resources.unwrap().linux.unwrap();
        update(Some(LinuxContainerResources {
            memory_limit_in_bytes: 128 << 20,
            ..LinuxContainerResources::default()
        }))
        .unwrap();
        assert_eq!(
            (shown().memory_limit_in_bytes, shown().cpu_shares),
            (128 << 20, 512)
        );
        let memory = stats(&node, &id).memory.unwrap();
        assert!(memory.available_bytes.unwrap().value > 64 << 20);
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
        assert_eq!(shown().cpu_quota, 0);
        let same = shown();
        node.stop(&id, 0).unwrap();
        refused(update(Some(same)), Code::FailedPrecondition, "has ended");
    });
}

suite! {
    &[Need::Root, Need::Program("busybox")] => [
        pods_by_id_label_and_state,
        containers_by_pod_label_and_state,
        streams_of_lists,
        a_status_with_all_there_is_to_say,
    ],
    &[Need::Root, Need::Program("busybox"), Need::Cgroup("memory"), Need::Cgroup("cpu")] => [
        streams_of_numbers_with_their_filters,
        numbers_of_a_container_and_its_pod,
        resources_change_in_place,
    ],
}
