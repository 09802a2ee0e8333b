//! Metrics of pods and containers, as a kubelet takes them that does not look itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::network::{self, Bed};
use cri::{Node, apart};
use cri_server::api::{
    LinuxContainerConfig, LinuxContainerResources, ListMetricDescriptorsRequest,
    ListPodSandboxMetricsRequest, Metric, PodSandboxMetrics, StreamPodSandboxMetricsRequest,
};
use ocirun_tests::{Need, eventually, suite};
use serde_json::json;
use std::collections::{HashMap, HashSet};

fn listed(node: &Node) -> Vec<PodSandboxMetrics> {
    let mut client = node.runtime();
    let answer = node.wait(client.list_pod_sandbox_metrics(ListPodSandboxMetricsRequest {}));
    answer.unwrap().into_inner().pod_metrics
}

/// The names of labels, by metrics.
fn described(node: &Node) -> HashMap<String, Vec<String>> {
    let mut client = node.runtime();
    let answer = node.wait(client.list_metric_descriptors(ListMetricDescriptorsRequest {}));
    let all = answer.unwrap().into_inner().descriptors.into_iter();
    all.map(|one| (one.name, one.label_keys)).collect()
}

/// Whether a machine, or a pod without a network of its own, may have nothing to tell of it.
fn depends(metric: &str) -> bool {
    [
        "_network_",
        "_pressure_",
        "_hugetlb_",
        "_blkio_",
        "_fs_reads",
        "_fs_writes",
    ]
    .iter()
    .any(|part| metric.contains(part))
}

fn described_and_counted() {
    apart(|| {
        let node = Node::ready();
        let keys = described(&node);
        assert_eq!(keys.len(), 56);
        let pod = node.pod(|_| {});
        let script = "exec 3>/dev/null 4>/dev/null; busybox sleep 1000 & wait";
        let id = node.run(&pod, script, |config| {
            config.linux = Some(LinuxContainerConfig {
                resources: Some(LinuxContainerResources {
                    memory_limit_in_bytes: 50 << 20,
                    cpu_period: 100_000,
                    cpu_quota: 50_000,
                    ..LinuxContainerResources::default()
                }),
                ..LinuxContainerConfig::default()
            });
        });
        let ended = node.run(&pod, "true", |_| {});
        node.ended(&ended);
        let of_container = || {
            let pods = listed(&node);
            assert_eq!(pods.len(), 1);
            assert_eq!(pods[0].pod_sandbox_id, pod);
            // One that has ended uses nothing.
            assert_eq!(pods[0].container_metrics.len(), 1);
            assert_eq!(pods[0].container_metrics[0].container_id, id);
            pods[0].container_metrics[0].metrics.clone()
        };
        let value = |metrics: &[Metric], name: &str| {
            let found = metrics.iter().find(|metric| metric.name == name);
            found.map(|metric| metric.value.unwrap().value)
        };
        eventually("both processes are there", || {
            value(&of_container(), "container_processes") == Some(2)
        });
        let metrics = of_container();
        for metric in &metrics {
            let keys = &keys[&metric.name];
            assert_eq!(metric.label_values.len(), keys.len(), "{metric:?}");
            let label = |key: &str| {
                let place = keys.iter().position(|known| known == key).unwrap();
                metric.label_values[place].clone()
            };
            assert_eq!(
                (label("namespace"), label("id")),
                ("test".to_owned(), id.clone())
            );
            assert!(metric.timestamp > 0);
        }
        let number = |name: &str| value(&metrics, name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(number("container_spec_memory_limit_bytes"), 50 << 20);
        assert_eq!(number("container_spec_cpu_quota"), 50_000);
        assert!(number("container_file_descriptors") >= 8);
        assert!(number("container_memory_usage_bytes") < 50 << 20);
        assert!(number("container_fs_inodes_total") > 0);
        assert!(number("container_ulimits_soft") > 0);
        let status = node.status(&id);
        let started = u64::try_from(status.started_at / 1_000_000_000).unwrap();
        assert_eq!(number("container_start_time_seconds"), started);
        let there = metrics
            .iter()
            .map(|m| m.name.as_str())
            .collect::<HashSet<_>>();
        for name in keys.keys() {
            assert!(depends(name) || there.contains(name.as_str()), "{name}");
        }
        let mut streamed = node
            .wait(
                node.runtime()
                    .stream_pod_sandbox_metrics(StreamPodSandboxMetricsRequest {}),
            )
            .unwrap()
            .into_inner();
        let part = node.wait(streamed.message()).unwrap().unwrap();
        assert_eq!(part.pod_sandbox_metrics[0].pod_sandbox_id, pod);
        node.stop_pod(&pod).unwrap();
        assert!(listed(&node).is_empty());
    });
}

/// All that critest looks for in a pod with a network of its own, but what a machine may not count.
fn of_a_pod_with_a_network() {
    apart(|| {
        let bed = Bed::new("1.0.0", &json!([]));
        bed.configure(
            "1.0.0",
            &json!([network::bridge(&bed.node, &network::one_range())]),
        );
        let bed = bed.start();
        let pod = bed.pod(|_| {});
        // A pod is told of before it has a container.
        let before = listed(&bed.node);
        assert_eq!((before.len(), before[0].pod_sandbox_id == pod), (1, true));
        assert!(before[0].container_metrics.is_empty());
        bed.node.run(&pod, "while :; do sleep 1; done", |config| {
            let resources = LinuxContainerResources {
                cpu_period: 100_000,
                cpu_quota: 20_000,
                cpu_shares: 1024,
                memory_limit_in_bytes: 64 << 20,
                memory_swap_limit_in_bytes: 64 << 20,
                ..LinuxContainerResources::default()
            };
            config.linux.get_or_insert_default().resources = Some(resources);
        });
        let keys = described(&bed.node);
        let all = listed(&bed.node).pop().unwrap();
        let of_pod = all.metrics.iter();
        let seen = of_pod.chain(all.container_metrics.iter().flat_map(|one| &one.metrics));
        let seen = seen.map(|one| (one.name.as_str(), one.label_values.len()));
        let seen = seen.collect::<HashMap<_, _>>();
        let may_lack = [
            "_pressure_",
            "_hugetlb_",
            "_blkio_",
            "_fs_reads",
            "_fs_writes",
        ];
        for (name, labels) in &keys {
            let lacks = may_lack.iter().any(|part| name.contains(part));
            assert!(lacks || seen.contains_key(name.as_str()), "{name}");
            let counted = seen.get(name.as_str()).copied();
            assert_eq!(counted.unwrap_or(labels.len()), labels.len(), "{name}");
        }
        bed.node.remove_pod(&pod);
        bed.assert_clean();
    });
}

suite! {
    &[Need::Root, Need::Program("ip"), Need::Program("busybox"), Need::Cgroup("memory"), Need::Cgroup("cpu")] => [
        described_and_counted,
    ],
    &[
        Need::Root, Need::Program("ip"), Need::Program("busybox"), Need::Cgroup("memory"), Need::Cgroup("cpu"),
        Need::File("/usr/lib/cni/bridge"),
    ] => [
        of_a_pod_with_a_network,
    ],
}
