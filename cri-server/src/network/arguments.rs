//! What plugins are told about a pod: the arguments and capabilities that containerd gives, in its words.

use crate::api::{PodSandboxConfig, PortMapping, Protocol};
use crate::error::{Result, invalid};
use serde_json::{Map, Value, json};

/// Annotations of a pod that limit its bandwidth, in bits a second, and the words for plugins.
const BANDWIDTH: [(&str, &str); 2] = [
    ("kubernetes.io/ingress-bandwidth", "ingress"),
    ("kubernetes.io/egress-bandwidth", "egress"),
];
/// The least and the greatest bandwidth, as for kubelet.
const RATES: (u64, u64) = (1_000, 1_000_000_000_000_000);

/// `CNI_ARGS`, pair by pair.
///
/// # Errors
/// `Invalid` for a name that cannot be told.
pub fn args(config: &PodSandboxConfig, id: &str) -> Result<Vec<(String, String)>> {
    let metadata = config.metadata.clone().unwrap_or_default();
    let all = [
        ("IgnoreUnknown", "", "1".to_owned()),
        ("K8S_POD_NAMESPACE", "namespace", metadata.namespace),
        ("K8S_POD_NAME", "name", metadata.name),
        ("K8S_POD_INFRA_CONTAINER_ID", "", id.to_owned()),
        ("K8S_POD_UID", "uid", metadata.uid),
    ];
    let mut pairs = Vec::new();
    for (key, field, value) in all {
        if value.contains([';', '=', '\0']) {
            let text =
                format!("{value:?} has a ';', '=' or NUL, which cannot be told to network plugins");
            return Err(invalid(format!("config.metadata.{field}"), text));
        }
        pairs.push((key.to_owned(), value));
    }
    Ok(pairs)
}

/// `runtimeConfig` for a plugin that takes everything.
///
/// # Errors
/// `Invalid` with the field's name.
pub fn capabilities(config: &PodSandboxConfig) -> Result<Map<String, Value>> {
    let mut all = Map::new();
    let annotations = "io.kubernetes.cri.pod-annotations".to_owned();
    all.insert(annotations, json!(config.annotations));
    let ports = host_ports(config)?;
    if !ports.is_empty() {
        let ports = ports.iter().map(|port| {
            json!({
                "hostPort": port.number,
                "containerPort": port.inside,
                "protocol": port.protocol,
                "hostIP": port.address,
            })
        });
        all.insert("portMappings".to_owned(), ports.collect());
    }
    let mut bandwidth = Map::new();
    for (annotation, word) in BANDWIDTH {
        if let Some(text) = config.annotations.get(annotation) {
            let rate = quantity(text).filter(|rate| (RATES.0..=RATES.1).contains(rate));
            let field = format!("config.annotations[{annotation:?}]");
            let wrong = || invalid(field, format!("{text:?} is not a rate between 1k and 1P"));
            bandwidth.insert(format!("{word}Rate"), json!(rate.ok_or_else(wrong)?));
            bandwidth.insert(format!("{word}Burst"), json!(u32::MAX));
        }
    }
    if !bandwidth.is_empty() {
        all.insert("bandwidth".to_owned(), bandwidth.into());
    }
    if let Some(dns) = &config.dns_config {
        let dns = json!({"servers": dns.servers, "searches": dns.searches, "options": dns.options});
        all.insert("dns".to_owned(), dns);
    }
    let parent = config
        .linux
        .as_ref()
        .map_or("", |linux| &linux.cgroup_parent);
    if !parent.is_empty() {
        all.insert("cgroupPath".to_owned(), json!(parent));
    }
    Ok(all)
}

/// A port of the host that leads to one of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// On the host.
    pub number: u16,
    /// In the pod.
    pub inside: u16,
    /// An address of the host; empty for all.
    pub address: String,
}

/// The ports of the host that a pod asks for; mappings without one ask for nothing.
///
/// # Errors
/// `Invalid` with the field's name.
pub fn host_ports(config: &PodSandboxConfig) -> Result<Vec<HostPort>> {
    let mut ports = Vec::new();
    for (index, mapping) in config.port_mappings.iter().enumerate() {
        if mapping.host_port > 0 {
            ports.push(host_port(
                &format!("config.port_mappings[{index}]"),
                mapping,
            )?);
        }
    }
    Ok(ports)
}

fn host_port(field: &str, mapping: &PortMapping) -> Result<HostPort> {
    let port = |name: &str, number: i32| {
        let port = u16::try_from(number).ok().filter(|port| *port > 0);
        port.ok_or_else(|| invalid(format!("{field}.{name}"), format!("{number} is not a port")))
    };
    let protocol = match Protocol::try_from(mapping.protocol) {
        Ok(Protocol::Tcp) => "tcp",
        Ok(Protocol::Udp) => "udp",
        Ok(Protocol::Sctp) => "sctp",
        Err(_) => {
            let text = format!("{} is not a protocol", mapping.protocol);
            return Err(invalid(format!("{field}.protocol"), text));
        }
    };
    let address = &mapping.host_ip;
    if !address.is_empty() && address.parse::<std::net::IpAddr>().is_err() {
        return Err(invalid(
            format!("{field}.host_ip"),
            format!("{address:?} is not an address"),
        ));
    }
    Ok(HostPort {
        protocol,
        number: port("host_port", mapping.host_port)?,
        inside: port("container_port", mapping.container_port)?,
        address: address.clone(),
    })
}

/// A whole number in Kubernetes' notation: `10M`, `1Gi`, `1500000`.
fn quantity(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let factor: u64 = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "P" => 1_000_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::PodSandboxMetadata;

    #[test]
    fn arguments_in_order() {
        let mut config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: "p".into(),
                uid: "u".into(),
                namespace: "n".into(),
                attempt: 0,
            }),
            ..PodSandboxConfig::default()
        };
        let pairs = args(&config, "id").unwrap();
        let text = pairs
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect::<Vec<_>>();
        let all = "IgnoreUnknown=1;K8S_POD_NAMESPACE=n;K8S_POD_NAME=p;K8S_POD_INFRA_CONTAINER_ID=id;K8S_POD_UID=u";
        assert_eq!(text.join(";"), all);
        config.metadata.as_mut().unwrap().name = "p;X=1".into();
        let error = args(&config, "id").unwrap_err().to_string();
        assert!(error.starts_with("config.metadata.name: "), "{error}");
    }

    #[test]
    fn capabilities_in_containerds_words() {
        let port_mappings = vec![
            PortMapping {
                container_port: 80,
                ..PortMapping::default()
            },
            PortMapping {
                protocol: Protocol::Udp.into(),
                container_port: 53,
                host_port: 5353,
                host_ip: "127.0.0.1".into(),
            },
        ];
        let mut config = PodSandboxConfig {
            port_mappings,
            ..PodSandboxConfig::default()
        };
        let annotation = "kubernetes.io/ingress-bandwidth".to_owned();
        config.annotations.insert(annotation.clone(), "10M".into());
        let all = capabilities(&config).unwrap();
        let ports = json!([{"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": "127.0.0.1"}]);
        assert_eq!(all["portMappings"], ports);
        assert_eq!(
            all["bandwidth"],
            json!({"ingressRate": 10_000_000, "ingressBurst": u32::MAX})
        );
        assert_eq!(all["io.kubernetes.cri.pod-annotations"][&annotation], "10M");
        for wrong in ["", "x", "1", "2P", "1e6", "-1M", "99999999999999999999"] {
            config.annotations.insert(annotation.clone(), wrong.into());
            assert!(capabilities(&config).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ports_that_are_none() {
        for (change, words) in [
            ((-1, 70_000, 0, ""), ""),
            ((80, 70_000, 0, ""), "port_mappings[0].host_port: 70000"),
            ((0, 80, 0, ""), "container_port: 0"),
            ((80, 80, 7, ""), "protocol: 7"),
            ((80, 80, 0, "x"), "host_ip: \"x\""),
        ] {
            let (container_port, host_port, protocol, host_ip) = change;
            let config = PodSandboxConfig {
                port_mappings: vec![PortMapping {
                    protocol,
                    container_port,
                    host_port,
                    host_ip: host_ip.into(),
                }],
                ..PodSandboxConfig::default()
            };
            let error = host_ports(&config).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
