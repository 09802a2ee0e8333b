//! A node with a network of its own, and what is seen of it from outside.

use super::{Node, namespaces};
use cri_server::api::{
    NamespaceMode, NetworkUsage, PodSandboxConfig, PodSandboxNetworkStatus, PodSandboxStatsRequest,
    PortMapping, StatusRequest,
};
use ocirun_tests::eventually;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tonic::Status;

/// Where plugins are: Debian's, or those in the directory that `CNI_BIN=` names.
fn bin_dir() -> PathBuf {
    let named = std::env::var_os("CNI_BIN").filter(|dir| !dir.is_empty());
    named.map_or_else(|| "/usr/lib/cni".into(), PathBuf::from)
}

/// A node with a network of its own, made by these plugins.
pub struct Bed {
    pub node: Node,
}

impl Bed {
    pub fn new(version: &str, plugins: &Value) -> Self {
        let mut node = Node::new();
        node.kill();
        for dir in ["cri.d", "net.d", "bin"] {
            std::fs::create_dir(node.path(dir)).unwrap();
        }
        let drop_in = format!(
            "[network]\nconf_dir = {:?}\nbin_dirs = [{:?}, {:?}]\nplugin_seconds = 20\n",
            node.path("net.d"),
            node.path("bin"),
            bin_dir(),
        );
        std::fs::write(node.path("cri.d/10.toml"), drop_in).unwrap();
        let bed = Self { node };
        bed.configure(version, plugins);
        bed
    }

    /// Writes the configuration of the network.
    pub fn configure(&self, version: &str, plugins: &Value) {
        let list = json!({"cniVersion": version, "name": "n", "plugins": plugins});
        let path = self.node.path("net.d/10-n.conflist");
        std::fs::write(path, list.to_string()).unwrap();
    }

    /// A plugin that runs a script after it has noted how it was called. `$log` is the file.
    pub fn plugin(&self, name: &str, script: &str) {
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
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.log_path(name)).unwrap_or_default()
    }

    pub fn start(mut self) -> Self {
        self.node.start();
        self.node.pull("busybox:1").unwrap();
        self
    }

    /// Addresses that host-local has given out.
    pub fn leases(&self) -> Vec<String> {
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
    pub fn entries(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.node.path("cni/results"))
            .into_iter()
            .flatten();
        entries.flatten().map(|entry| entry.path()).collect()
    }

    pub fn assert_clean(&self) {
        assert_eq!(self.leases(), Vec::<String>::new());
        assert_eq!(self.entries(), Vec::<PathBuf>::new());
        assert_eq!(veths(), 0);
        self.node.assert_nothing_left();
    }

    /// A pod with a network of its own.
    pub fn try_pod(&self, change: impl FnOnce(&mut PodSandboxConfig)) -> Result<String, Status> {
        self.node.try_pod(|config| {
            namespaces(config, |options| {
                options.network = NamespaceMode::Pod.into();
            });
            change(config);
        })
    }

    pub fn pod(&self, change: impl FnOnce(&mut PodSandboxConfig)) -> String {
        self.try_pod(change)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.node.log()))
    }

    pub fn addresses(&self, pod: &str) -> Vec<IpAddr> {
        let PodSandboxNetworkStatus { ip, additional_ips } =
            self.node.pod_status(pod).unwrap().network.unwrap();
        let all = std::iter::once(ip).chain(additional_ips.into_iter().map(|more| more.ip));
        all.filter(|ip| !ip.is_empty())
            .map(|ip| ip.parse().unwrap())
            .collect()
    }

    /// What went through the interfaces of a pod.
    pub fn stats(&self, pod: &str) -> NetworkUsage {
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
    pub fn not_ready(&self) -> Option<String> {
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

pub fn veths() -> usize {
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
pub fn rules(text: &str) -> String {
    let saved = |program: &str| {
        let output = Command::new(program).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let all = saved("iptables-save") + &saved("ip6tables-save");
    let lines = all.lines().filter(|line| line.contains(text));
    lines.collect::<Vec<_>>().join("\n")
}

pub fn bridge(node: &Node, ranges: &Value) -> Value {
    json!({
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": true,
        "ipMasq": true,
        "hairpinMode": true,
        "ipam": ipam(node, ranges),
    })
}

pub fn ipam(node: &Node, ranges: &Value) -> Value {
    json!({"type": "host-local", "ranges": ranges, "dataDir": node.path("ipam")})
}

pub fn one_range() -> Value {
    json!([[{"subnet": "10.88.0.0/24"}]])
}

pub fn portmap() -> Value {
    json!({"type": "portmap", "capabilities": {"portMappings": true}})
}

/// What a server in a pod says, by an address of the host or of the pod.
///
/// A first packet that the kernel drops while an address of version 6 is still being tried out is not waited for.
pub fn fetched(address: SocketAddr) -> String {
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

pub fn mapping(host_port: i32, container_port: i32) -> PortMapping {
    PortMapping {
        host_port,
        container_port,
        ..PortMapping::default()
    }
}
