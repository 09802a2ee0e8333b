//! Pods' networks by Debian's plugins.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::network::{Bed, bridge, fetched, ipam, mapping, one_range, portmap, rules};
use cri::{apart, namespaces, refused};
use cri_server::api::{
    NamespaceMode, NetworkConfig, RuntimeConfig, UInt64Value, UpdateRuntimeConfigRequest,
};
use ocirun_tests::{Need, suite};
use serde_json::json;
use tonic::Code;

fn bridge_with_both_families_and_a_port_of_the_host() {
    apart(|| {
        let bed = Bed::new("1.0.0", &json!([]));
        let ranges = json!([[{"subnet": "10.88.0.0/24"}], [{"subnet": "fd00:88::/64"}]]);
        bed.configure("1.0.0", &json!([bridge(&bed.node, &ranges), portmap()]));
        let mut bed = bed.start();
        assert_eq!(bed.not_ready(), None);
        let pod = bed.pod(|config| config.port_mappings = vec![mapping(12080, 80)]);
        let addresses = bed.addresses(&pod);
        assert!(
            addresses[0].is_ipv4() && addresses[1].is_ipv6() && addresses.len() == 2,
            "{addresses:?}"
        );
        assert_eq!(bed.leases().len(), 2);
        bed.node
            .run(&pod, "exec busybox httpd -f -p 80 -h /data/sub", |_| {});
        for address in &addresses {
            assert!(fetched((*address, 80).into()).ends_with("hello\n"));
        }
        assert!(fetched(([127, 0, 0, 1], 12080).into()).ends_with("hello\n"));
        // What went through it is counted.
        let stats = bed.stats(&pod);
        let eth0 = stats.default_interface.unwrap();
        let bytes = |value: Option<UInt64Value>| value.unwrap().value;
        assert_eq!((eth0.name.as_str(), stats.interfaces.len()), ("eth0", 0));
        assert!(bytes(eth0.rx_bytes) > 100 && bytes(eth0.tx_bytes) > 100);
        // A second pod reaches the first.
        let other = bed.pod(|_| {});
        let script = format!("busybox wget -q -O - http://{}/hello", addresses[0]);
        assert_eq!(bed.node.output(&other, &script, |_| {}), "hello\n");
        // All of it is known to the next server too, and the port stays taken.
        bed.node.kill();
        bed.node.start();
        assert_eq!(bed.addresses(&pod), addresses);
        let taken = bed.try_pod(|config| config.port_mappings = vec![mapping(12080, 81)]);
        refused(
            taken,
            Code::AlreadyExists,
            "port 12080/tcp of the host leads to pod",
        );
        assert_eq!(bed.leases().len(), 4);
        assert!(!rules(&pod[..10]).is_empty());
        bed.node.stop_pod(&pod).unwrap();
        assert!(bed.addresses(&pod).is_empty());
        assert_eq!(rules(&pod[..10]), "");
        // Its port is free again.
        let next = bed.pod(|config| config.port_mappings = vec![mapping(12080, 81)]);
        for pod in [pod, other, next] {
            bed.node.remove_pod(&pod);
        }
        assert_eq!(rules("12080"), "");
        bed.assert_clean();
    });
}

fn point_to_point_in_the_oldest_version() {
    apart(|| {
        let bed = Bed::new("0.3.1", &json!([]));
        let plugin = json!({"type": "ptp", "ipam": ipam(&bed.node, &one_range())});
        bed.configure("0.3.1", &json!([plugin]));
        let bed = bed.start();
        let pod = bed.pod(|_| {});
        let addresses = bed.addresses(&pod);
        assert_eq!(addresses.len(), 1);
        bed.node
            .run(&pod, "exec busybox httpd -f -p 80 -h /data/sub", |_| {});
        assert!(fetched((addresses[0], 80).into()).ends_with("hello\n"));
        bed.node.remove_pod(&pod);
        bed.assert_clean();
    });
}

fn a_configuration_made_from_a_template() {
    apart(|| {
        let bed = Bed::new("1.0.0", &json!([]));
        std::fs::remove_file(bed.node.path("net.d/10-n.conflist")).unwrap();
        let template = bed.node.path("template");
        let drop_in = format!("[network]\ntemplate = {template:?}\n");
        std::fs::write(bed.node.path("cri.d/20.toml"), drop_in).unwrap();
        let ipam = json!({"type": "host-local", "ranges": "@", "routes": "%", "dataDir": bed.node.path("ipam")});
        let list =
            json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "ptp", "ipam": ipam}]});
        let list = list
            .to_string()
            .replace("\"@\"", "{{.Ranges}}")
            .replace("\"%\"", "{{.Routes}}");
        std::fs::write(template, list).unwrap();
        let bed = bed.start();
        let update = |ranges: &str| {
            let network_config = Some(NetworkConfig {
                pod_cidr: ranges.to_owned(),
            });
            let request = UpdateRuntimeConfigRequest {
                runtime_config: Some(RuntimeConfig { network_config }),
            };
            bed.node
                .wait(bed.node.runtime().update_runtime_config(request))
        };
        refused(update("10.77.0.0"), Code::InvalidArgument, "pod_cidr");
        assert!(bed.not_ready().is_some());
        update("").unwrap();
        update("10.77.0.0/24,fd00:77::/64").unwrap();
        assert_eq!(bed.not_ready(), None);
        let pod = bed.pod(|_| {});
        let addresses = bed.addresses(&pod);
        assert!(
            addresses[0].to_string().starts_with("10.77.0."),
            "{addresses:?}"
        );
        assert!(
            addresses[1].to_string().starts_with("fd00:77::"),
            "{addresses:?}"
        );
        bed.node.remove_pod(&pod);
        bed.assert_clean();
    });
}

fn many_at_once_get_addresses_of_their_own() {
    apart(|| {
        let bed = Bed::new("1.0.0", &json!([]));
        bed.configure("1.0.0", &json!([bridge(&bed.node, &one_range())]));
        let bed = bed.start();
        let configs = (0..8).map(|_| {
            let mut config = cri::pod_config();
            namespaces(&mut config, |options| {
                options.network = NamespaceMode::Pod.into();
            });
            config.log_directory = bed.node.path("logs").display().to_string();
            config
        });
        let configs = configs.collect::<Vec<_>>();
        let pods = bed.node.wait(async {
            let mut tasks = tokio::task::JoinSet::new();
            for config in configs {
                let mut client = bed.node.runtime();
                let request = cri_server::api::RunPodSandboxRequest {
                    config: Some(config),
                    runtime_handler: String::new(),
                };
                tasks.spawn(async move { client.run_pod_sandbox(request).await });
            }
            tasks.join_all().await
        });
        let pods = pods
            .into_iter()
            .map(|pod| pod.unwrap().into_inner().pod_sandbox_id);
        let pods = pods.collect::<Vec<_>>();
        let mut all = pods
            .iter()
            .flat_map(|pod| bed.addresses(pod))
            .collect::<Vec<_>>();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 8);
        for pod in pods {
            bed.node.remove_pod(&pod);
        }
        bed.assert_clean();
    });
}

suite! {
    &[
        Need::Root, Need::Program("ip"), Need::Program("busybox"), Need::Program("iptables-save"),
        Need::File("/usr/lib/cni/bridge"), Need::File("/usr/lib/cni/portmap"),
    ] => [
        bridge_with_both_families_and_a_port_of_the_host,
        point_to_point_in_the_oldest_version,
        a_configuration_made_from_a_template,
        many_at_once_get_addresses_of_their_own,
    ],
}
