//! Pods' networks: Debian's plugins, and plugins that fail in every way.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::{Node, apart, namespaces, refused};
use cri_server::api::{
    NamespaceMode, NetworkConfig, NetworkUsage, PodSandboxConfig, PodSandboxNetworkStatus,
    PodSandboxStatsRequest, PortMapping, RuntimeConfig, StatusRequest, UInt64Value,
    UpdateRuntimeConfigRequest,
};
use ocirun_tests::{Need, eventually, suite};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tonic::{Code, Status};

/// Where Debian's plugins are.
const PLUGINS: &str = "/usr/lib/cni";

/// A node with a network of its own, made by these plugins.
struct Bed {
    node: Node,
}

impl Bed {
    fn new(version: &str, plugins: &Value) -> Self {
        let mut node = Node::new();
        node.kill();
        for dir in ["cri.d", "net.d", "bin"] {
            std::fs::create_dir(node.path(dir)).unwrap();
        }
        let drop_in = format!(
            "[network]\nconf_dir = {:?}\nbin_dirs = [{:?}, {PLUGINS:?}]\nplugin_seconds = 20\n",
            node.path("net.d"),
            node.path("bin")
        );
        std::fs::write(node.path("cri.d/10.toml"), drop_in).unwrap();
        let bed = Self { node };
        bed.configure(version, plugins);
        bed
    }

    /// Writes the configuration of the network.
    fn configure(&self, version: &str, plugins: &Value) {
        let list = json!({"cniVersion": version, "name": "n", "plugins": plugins});
        let path = self.node.path("net.d/10-n.conflist");
        std::fs::write(path, list.to_string()).unwrap();
    }

    /// A plugin that runs a script after it has noted how it was called. `$log` is the file.
    fn plugin(&self, name: &str, script: &str) {
        let path = self.node.path("bin").join(name);
        let log = self.log_path(name);
        let text = format!(
            "#!/bin/sh\nlog={}\necho \"$CNI_COMMAND $CNI_CONTAINERID ${{CNI_NETNS:-none}} $CNI_IFNAME $CNI_ARGS $(cat)\" >> $log\n\
             {script}\n",
            log.display()
        );
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.node.path(&format!("{name}.log"))
    }

    /// How a plugin was called, line by line.
    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.log_path(name)).unwrap_or_default()
    }

    fn start(mut self) -> Self {
        self.node.start();
        self.node.pull("busybox:1").unwrap();
        self
    }

    /// Addresses that host-local has given out.
    fn leases(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.node.path("ipam/n"))
            .into_iter()
            .flatten();
        let names = entries
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned());
        let mut leases = names
            .filter(|name| name.parse::<IpAddr>().is_ok())
            .collect::<Vec<_>>();
        leases.sort();
        leases
    }

    /// What is on record of pods.
    fn entries(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.node.path("cni/results"))
            .into_iter()
            .flatten();
        entries.flatten().map(|entry| entry.path()).collect()
    }

    fn assert_clean(&self) {
        assert_eq!(self.leases(), Vec::<String>::new());
        assert_eq!(self.entries(), Vec::<PathBuf>::new());
        assert_eq!(veths(), 0);
        self.node.assert_nothing_left();
    }

    /// A pod with a network of its own.
    fn try_pod(&self, change: impl FnOnce(&mut PodSandboxConfig)) -> Result<String, Status> {
        self.node.try_pod(|config| {
            namespaces(config, |options| {
                options.network = NamespaceMode::Pod.into();
            });
            change(config);
        })
    }

    fn pod(&self, change: impl FnOnce(&mut PodSandboxConfig)) -> String {
        self.try_pod(change)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.node.log()))
    }

    fn addresses(&self, pod: &str) -> Vec<IpAddr> {
        let PodSandboxNetworkStatus { ip, additional_ips } =
            self.node.pod_status(pod).unwrap().network.unwrap();
        let all = std::iter::once(ip).chain(additional_ips.into_iter().map(|more| more.ip));
        all.filter(|ip| !ip.is_empty())
            .map(|ip| ip.parse().unwrap())
            .collect()
    }

    /// What went through the interfaces of a pod.
    fn stats(&self, pod: &str) -> NetworkUsage {
        let request = PodSandboxStatsRequest {
            pod_sandbox_id: pod.to_owned(),
        };
        let stats = self
            .node
            .wait(self.node.runtime().pod_sandbox_stats(request));
        let linux = stats.unwrap().into_inner().stats.unwrap().linux;
        linux.unwrap().network.unwrap()
    }

    /// Why pods cannot be added to the network; none where they can.
    fn not_ready(&self) -> Option<String> {
        let status = self.node.runtime().status_request();
        let conditions = self.node.wait(status);
        let network = conditions
            .into_iter()
            .find(|(kind, ..)| kind == "NetworkReady");
        let (_, status, message) = network.unwrap();
        (!status).then_some(message)
    }
}

/// The conditions of a node: kind, status, message.
trait StatusCall {
    fn status_request(self) -> impl Future<Output = Vec<(String, bool, String)>>;
}

impl StatusCall
    for cri_server::api::runtime_service_client::RuntimeServiceClient<tonic::transport::Channel>
{
    async fn status_request(mut self) -> Vec<(String, bool, String)> {
        let answer = self
            .status(StatusRequest { verbose: true })
            .await
            .unwrap()
            .into_inner();
        let conditions = answer.status.unwrap().conditions;
        let parts = conditions
            .into_iter()
            .map(|c| (c.r#type, c.status, c.message));
        parts.collect()
    }
}

fn veths() -> usize {
    let output = Command::new("ip")
        .args(["-o", "link", "show", "type", "veth"])
        .output();
    output
        .unwrap()
        .stdout
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
}

/// The rules of the packet filter that name a text.
fn rules(text: &str) -> String {
    let saved = |program: &str| {
        let output = Command::new(program).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let all = saved("iptables-save") + &saved("ip6tables-save");
    let lines = all.lines().filter(|line| line.contains(text));
    lines.collect::<Vec<_>>().join("\n")
}

fn bridge(node: &Node, ranges: &Value) -> Value {
    json!({
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": true,
        "ipMasq": true,
        "hairpinMode": true,
        "ipam": ipam(node, ranges),
    })
}

fn ipam(node: &Node, ranges: &Value) -> Value {
    json!({"type": "host-local", "ranges": ranges, "dataDir": node.path("ipam")})
}

fn one_range() -> Value {
    json!([[{"subnet": "10.88.0.0/24"}]])
}

fn portmap() -> Value {
    json!({"type": "portmap", "capabilities": {"portMappings": true}})
}

/// What a server in a pod says, by an address of the host or of the pod.
///
/// A first packet that the kernel drops while an address of version 6 is still being tried out is not waited for.
fn fetched(address: SocketAddr) -> String {
    let mut text = String::new();
    eventually(&format!("a server at {address} answers"), || {
        let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
            return false;
        };
        text.clear();
        stream.write_all(b"GET /hello HTTP/1.0\r\n\r\n").is_ok()
            && stream.read_to_string(&mut text).is_ok()
    });
    text
}

fn mapping(host_port: i32, container_port: i32) -> PortMapping {
    PortMapping {
        host_port,
        container_port,
        ..PortMapping::default()
    }
}

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

fn a_chain_that_fails_is_taken_back() {
    apart(|| {
        let bed = Bed::new("1.0.0", &json!([]));
        bed.configure(
            "1.0.0",
            &json!([bridge(&bed.node, &one_range()), {"type": "fails"}]),
        );
        let bed = bed.start();
        let fail = |error: &str| format!("[ $CNI_COMMAND = DEL ] || {{ {error}; }}");
        bed.plugin(
            "fails",
            &fail(r#"echo '{"code": 100, "msg": "no luck", "details": "at all"}'; exit 1"#),
        );
        let words = "network \"n\": fails ADD: no luck: at all (exit status: 1)";
        refused(bed.try_pod(|_| {}), Code::Unknown, words);
        bed.assert_clean();
        bed.plugin("fails", &fail("echo hello"));
        refused(
            bed.try_pod(|_| {}),
            Code::Unknown,
            "fails ADD: answers with no result",
        );
        bed.assert_clean();
        bed.plugin("fails", &fail("kill -9 $$"));
        refused(bed.try_pod(|_| {}), Code::Unknown, "signal: 9");
        bed.assert_clean();
        bed.plugin("fails", &fail("head -c 10000000 /dev/zero"));
        refused(bed.try_pod(|_| {}), Code::Unknown, "prints more than");
        bed.assert_clean();
        std::fs::remove_file(bed.node.path("bin/fails")).unwrap();
        assert!(
            bed.not_ready()
                .unwrap()
                .contains("fails STATUS: its program is not in")
        );
    });
}

fn a_plugin_that_hangs_is_ended() {
    apart(|| {
        let bed = Bed::new("1.0.0", &json!([]));
        bed.configure(
            "1.0.0",
            &json!([bridge(&bed.node, &one_range()), {"type": "hangs"}]),
        );
        let drop_in = "[network]\nplugin_seconds = 3\n";
        std::fs::write(bed.node.path("cri.d/20.toml"), drop_in).unwrap();
        let bed = bed.start();
        bed.plugin(
            "hangs",
            "[ $CNI_COMMAND = DEL ] || { echo $$ > $log.pid; sleep 4321; }",
        );
        refused(
            bed.try_pod(|_| {}),
            Code::DeadlineExceeded,
            "hangs ADD: did not end within 3s",
        );
        let pid = std::fs::read_to_string(bed.node.path("hangs.log.pid")).unwrap();
        assert!(!std::fs::exists(format!("/proc/{}", pid.trim())).unwrap());
        bed.assert_clean();
    });
}

fn undoing_goes_on_past_errors_and_is_tried_until_it_is_done() {
    apart(|| {
        let bed = Bed::new("1.0.0", &json!([]));
        bed.configure(
            "1.0.0",
            &json!([bridge(&bed.node, &one_range()), {"type": "stays"}]),
        );
        let bed = bed.start();
        let script = "[ $CNI_COMMAND != DEL ] || [ -e $log.free ] || { echo busy >&2; exit 1; }\n\
                      [ $CNI_COMMAND != ADD ] || echo '{\"cniVersion\": \"1.0.0\"}'";
        bed.plugin("stays", script);
        let pod = bed.pod(|_| {});
        let container = bed.node.run(&pod, "while :; do sleep 1; done", |_| {});
        refused(
            bed.node.stop_pod(&pod),
            Code::Unknown,
            "stays DEL: busy (exit status: 1)",
        );
        // The containers have ended, and what could be undone is.
        assert_eq!(bed.node.status(&container).exit_code, 137);
        assert_eq!((bed.leases().len(), bed.entries().len()), (0, 1));
        // Nor does a pod that could not be made leave anything for ever.
        std::fs::write(bed.node.path("stays.log.free"), "").unwrap();
        bed.node.stop_pod(&pod).unwrap();
        bed.node.stop_pod(&pod).unwrap();
        bed.node.remove_pod(&pod);
        bed.assert_clean();
    });
}

/// The server is killed by a plugin in the middle of a chain, and the machine starts again.
fn what_a_killed_server_had_begun_is_undone() {
    apart(|| {
        let bed = Bed::new("1.0.0", &json!([]));
        bed.configure(
            "1.0.0",
            &json!([bridge(&bed.node, &one_range()), {"type": "kills"}]),
        );
        let mut bed = bed.start();
        let script = "[ $CNI_COMMAND != ADD ] || { kill -9 $PPID; exit 1; }";
        bed.plugin("kills", script);
        // Nobody is there to answer.
        bed.try_pod(|_| {}).unwrap_err();
        assert_eq!((bed.leases().len(), bed.entries().len()), (1, 1));
        bed.node.kill();
        bed.node.start();
        eventually("it is undone", || {
            bed.leases().is_empty() && bed.entries().is_empty()
        });
        assert!(bed.node.pods().is_empty());
        bed.assert_clean();
        // A pod whose files are gone, as after a start of the machine.
        bed.plugin(
            "kills",
            "[ $CNI_COMMAND != ADD ] || echo '{\"cniVersion\": \"1.0.0\"}'",
        );
        let pod = bed.pod(|_| {});
        bed.node.kill();
        let dir = bed.node.path("run/pods").join(&pod);
        cri::end_by_force(&dir);
        let netns = bed.node.path("netns").join(format!("ocirun-{pod}"));
        for point in [
            netns.clone(),
            dir.join("ns/net"),
            dir.join("ns/uts"),
            dir.join("ns/ipc"),
            dir.join("shm"),
        ] {
            let _ = nix::mount::umount2(&point, nix::mount::MntFlags::MNT_DETACH);
        }
        std::fs::remove_file(&netns).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(bed.leases().len(), 1);
        bed.node.start();
        eventually("it is undone", || bed.entries().is_empty());
        let last = bed.log("kills").lines().last().unwrap().to_owned();
        assert!(last.starts_with(&format!("DEL {pod} none eth0 ")), "{last}");
        bed.assert_clean();
    });
}

fn what_plugins_are_told() {
    apart(|| {
        let capable = json!({"portMappings": true, "bandwidth": true, "dns": true, "other": true});
        let plugins =
            json!([{"type": "first"}, {"type": "second", "capabilities": capable, "x": 5}]);
        let mut bed = Bed::new("1.1.0", &plugins).start();
        let result = r#"{"cniVersion": "1.1.0", "ips": [{"address": "10.9.8.7/24"}]}"#;
        let script = format!("[ $CNI_COMMAND != ADD ] || echo '{result}'");
        bed.plugin("first", &script);
        bed.plugin("second", &script);
        assert_eq!(bed.not_ready(), None);
        let pod = bed.pod(|config| {
            let annotation = "kubernetes.io/egress-bandwidth".to_owned();
            config.annotations.insert(annotation, "8M".to_owned());
            config.port_mappings = vec![mapping(1234, 80)];
        });
        assert_eq!(bed.addresses(&pod), ["10.9.8.7".parse::<IpAddr>().unwrap()]);
        let dir = bed.node.path(".");
        let calls = |name: &str, command: &str| {
            let log = std::fs::read_to_string(dir.join(format!("{name}.log"))).unwrap_or_default();
            let lines = log.lines().filter(|line| line.starts_with(command));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let config =
            |line: &str| serde_json::from_str::<Value>(&line[line.find('{').unwrap()..]).unwrap();
        let add = calls("second", "ADD").pop().unwrap();
        let netns = bed.node.path("netns").join(format!("ocirun-{pod}"));
        assert!(add.starts_with(&format!(
            "ADD {pod} {} eth0 IgnoreUnknown=1;K8S_POD_NAMESPACE=test;",
            netns.display()
        )));
        assert!(
            add.contains(&format!(";K8S_POD_INFRA_CONTAINER_ID={pod};K8S_POD_UID=u")),
            "{add}"
        );
        let second = config(&add);
        assert_eq!(
            (&second["name"], &second["x"], &second["cniVersion"]),
            (&json!("n"), &json!(5), &json!("1.1.0"))
        );
        assert_eq!(second["prevResult"]["ips"][0]["address"], "10.9.8.7/24");
        assert_eq!(
            second["runtimeConfig"]["bandwidth"]["egressRate"],
            8_000_000
        );
        assert_eq!(second["runtimeConfig"]["portMappings"][0]["hostPort"], 1234);
        assert!(second["runtimeConfig"].get("other").is_none());
        let first = config(&calls("first", "ADD")[0]);
        assert!(first.get("runtimeConfig").is_none() && first.get("prevResult").is_none());
        // The next server asks whether all is as it was, and tells what is in use.
        bed.node.kill();
        bed.node.start();
        eventually("plugins are told what is in use", || {
            !calls("second", "GC").is_empty()
        });
        assert_eq!(
            config(&calls("second", "CHECK")[0])["prevResult"]["ips"][0]["address"],
            "10.9.8.7/24"
        );
        let valid = &config(&calls("first", "GC")[0])["cni.dev/valid-attachments"];
        assert_eq!(*valid, json!([{"containerID": pod, "ifname": "eth0"}]));
        // The configuration changes: what was added by the old one is undone by it.
        bed.configure("1.0.0", &json!([{"type": "third"}]));
        bed.node.remove_pod(&pod);
        let undone = config(&calls("second", "DEL")[0]);
        assert_eq!(
            (&undone["cniVersion"], &undone["x"]),
            (&json!("1.1.0"), &json!(5))
        );
        assert_eq!(undone["prevResult"]["ips"][0]["address"], "10.9.8.7/24");
        assert!(bed.entries().is_empty());
    });
}

fn ready_or_why_not() {
    apart(|| {
        let bed = Bed::new("1.1.0", &json!([{"type": "bad"}])).start();
        bed.plugin("bad", r#"echo '{"code": 50, "msg": "no uplink"}'; exit 1"#);
        assert_eq!(
            bed.not_ready().unwrap(),
            "network \"n\": bad STATUS: no uplink (exit status: 1)"
        );
        bed.plugin("bad", "sleep 4321");
        assert!(bed.not_ready().unwrap().contains("did not end within"));
        std::fs::remove_file(bed.node.path("net.d/10-n.conflist")).unwrap();
        assert!(
            bed.not_ready()
                .unwrap()
                .contains("no configuration of a network in")
        );
        refused(
            bed.try_pod(|_| {}),
            Code::Unavailable,
            "network: no configuration of a network in",
        );
        bed.assert_clean();
        // The host's network needs none.
        bed.node.pod(|_| {});
        // Whoever puts one there is noticed, even if the directory is another one.
        std::fs::remove_dir(bed.node.path("net.d")).unwrap();
        std::fs::create_dir(bed.node.path("net.d")).unwrap();
        bed.configure("0.4.0", &json!([{"type": "bad"}]));
        assert_eq!(bed.not_ready(), None);
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
        a_chain_that_fails_is_taken_back,
        a_plugin_that_hangs_is_ended,
        undoing_goes_on_past_errors_and_is_tried_until_it_is_done,
        what_a_killed_server_had_begun_is_undone,
        a_configuration_made_from_a_template,
        many_at_once_get_addresses_of_their_own,
    ],
    &[Need::Root, Need::Program("ip"), Need::Program("busybox")] => [
        what_plugins_are_told,
        ready_or_why_not,
    ],
}
