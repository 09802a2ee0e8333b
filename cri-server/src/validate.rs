//! What requests may be: each refusal names its field, before anything is made.

use crate::api::{ContainerConfig, PodSandboxConfig};
use crate::error::{Result, invalid};
use crate::network::arguments;
use crate::spec::{self, Modes, devices, mounts, resources};
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

/// The longest name, in bytes: a name of Kubernetes and what is put around it.
const MAX_NAME: usize = 512;
/// Labels or annotations of one object.
const MAX_PAIRS: usize = 10_000;
/// Bytes of all labels or annotations of one object: four times what Kubernetes allows.
const MAX_PAIR_BYTES: usize = 1 << 20;
/// Mounts, devices or variables of a container.
const MAX_LIST: usize = 10_000;
/// The longest host name, see sethostname(2).
const MAX_HOSTNAME: usize = 64;
/// The longest id, and the digits of every id.
const MAX_ID: usize = 64;

/// A request for a pod that was checked.
#[derive(Debug, Clone, Copy)]
pub struct Pod {
    /// Its namespaces.
    pub modes: Modes,
}

/// Checks a request for a pod.
///
/// # Errors
/// `Invalid` with the field's name, `Unsupported` for what this server does not do.
pub fn pod(config: &PodSandboxConfig) -> Result<Pod> {
    let Some(metadata) = &config.metadata else {
        return Err(invalid("config.metadata", "is not set"));
    };
    name(&metadata.name, "config.metadata.name")?;
    for (field, value) in [("uid", &metadata.uid), ("namespace", &metadata.namespace)] {
        if !value.is_empty() {
            name(value, &format!("config.metadata.{field}"))?;
        }
    }
    pairs(&config.labels, "config.labels")?;
    pairs(&config.annotations, "config.annotations")?;
    let hostname = &config.hostname;
    let is_host_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if hostname.len() > MAX_HOSTNAME || !hostname.bytes().all(is_host_name) {
        let text = format!("{hostname:?} is not a host name of {MAX_HOSTNAME} bytes at most");
        return Err(invalid("config.hostname", text));
    }
    if !config.log_directory.is_empty() {
        absolute(&config.log_directory, "config.log_directory")?;
    }
    if let Some(dns) = &config.dns_config {
        let lists = [&dns.servers, &dns.searches, &dns.options];
        for (field, list) in ["servers", "searches", "options"].iter().zip(lists) {
            let is_word = |w: &String| {
                !w.is_empty() && !w.contains(|c: char| c.is_whitespace() || c.is_control())
            };
            if let Some(index) = list.iter().position(|word| !is_word(word)) {
                let field = format!("config.dns_config.{field}[{index}]");
                return Err(invalid(field, format!("{:?} is not a word", list[index])));
            }
        }
    }
    let linux = config.linux.clone().unwrap_or_default();
    let security = linux.security_context.unwrap_or_default();
    let at = "config.linux.security_context.namespace_options";
    let modes = spec::modes(security.namespace_options.as_ref(), at)?;
    if modes.pid == crate::api::NamespaceMode::Target {
        return Err(invalid(format!("{at}.pid"), "TARGET is not a mode for it"));
    }
    for (field, mode) in [("pid", modes.pid), ("ipc", modes.ipc)] {
        if modes.user && mode == crate::api::NamespaceMode::Node {
            let text = "a pod with users of its own cannot have the host's";
            return Err(invalid(format!("{at}.{field}"), text));
        }
    }
    parent(&linux.cgroup_parent)?;
    sysctls(&linux.sysctls, modes)?;
    arguments::host_ports(config)?;
    if modes.network == crate::api::NamespaceMode::Pod {
        arguments::args(config, "")?;
        arguments::capabilities(config)?;
    }
    Ok(Pod { modes })
}

/// Checks a request for a container, as far as it can be without its image and pod.
///
/// # Errors
/// As for [`pod`].
pub fn container(config: &ContainerConfig) -> Result<()> {
    let Some(metadata) = &config.metadata else {
        return Err(invalid("config.metadata", "is not set"));
    };
    name(&metadata.name, "config.metadata.name")?;
    pairs(&config.labels, "config.labels")?;
    pairs(&config.annotations, "config.annotations")?;
    match &config.image {
        Some(image) if !image.image.is_empty() => {}
        _ => return Err(invalid("config.image.image", "is empty")),
    }
    for (field, length) in [
        ("mounts", config.mounts.len()),
        ("devices", config.devices.len()),
        ("envs", config.envs.len()),
        ("command", config.command.len()),
        ("args", config.args.len()),
        ("CDI_devices", config.cdi_devices.len()),
    ] {
        if length > MAX_LIST {
            return Err(invalid(
                format!("config.{field}"),
                format!("has more than {MAX_LIST} elements"),
            ));
        }
    }
    for (index, mount) in config.mounts.iter().enumerate() {
        mounts::check(mount, &format!("config.mounts[{index}]"))?;
    }
    for (index, device) in config.devices.iter().enumerate() {
        devices::check(device, &format!("config.devices[{index}]"))?;
    }
    let log = Path::new(&config.log_path);
    let is_inside = log
        .components()
        .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if !is_inside || config.log_path.contains('\0') {
        let text = format!("{log:?} is not a path below the pod's log directory");
        return Err(invalid("config.log_path", text));
    }
    if config.stdin_once && !config.stdin {
        return Err(invalid("config.stdin_once", "needs stdin"));
    }
    let linux = config.linux.clone().unwrap_or_default();
    let limits = linux.resources.unwrap_or_default();
    resources::resources(&limits, false, "config.linux.resources")?;
    Ok(())
}

/// Checks a name.
fn name(text: &str, field: &str) -> Result<()> {
    if text.is_empty() {
        return Err(invalid(field, "is empty"));
    }
    if text.len() > MAX_NAME {
        return Err(invalid(field, format!("is longer than {MAX_NAME} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid(field, format!("{text:?} has control characters")));
    }
    Ok(())
}

fn pairs(pairs: &HashMap<String, String>, field: &str) -> Result<()> {
    if pairs.len() > MAX_PAIRS {
        return Err(invalid(
            field,
            format!("has more than {MAX_PAIRS} elements"),
        ));
    }
    let bytes: usize = pairs
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if bytes > MAX_PAIR_BYTES {
        return Err(invalid(
            field,
            format!("has more than {MAX_PAIR_BYTES} bytes"),
        ));
    }
    match pairs
        .keys()
        .find(|key| key.is_empty() || key.chars().any(char::is_control))
    {
        Some(key) => Err(invalid(field, format!("{key:?} is not a key"))),
        None => Ok(()),
    }
}

fn absolute(path: &str, field: &str) -> Result<()> {
    let has_parent = Path::new(path)
        .components()
        .any(|c| c == Component::ParentDir);
    if !path.starts_with('/') || has_parent || path.contains('\0') || path.len() >= 4096 {
        let text = format!("{path:?} is not an absolute path without \"..\"");
        return Err(invalid(field, text));
    }
    Ok(())
}

/// The parent of cgroups comes as a path, whatever makes them.
fn parent(path: &str) -> Result<()> {
    let has_parent = Path::new(path)
        .components()
        .any(|c| c == Component::ParentDir);
    if has_parent || path.contains(['\0', '\n', ':']) || path.len() >= 4096 {
        let text = format!("{path:?} is not a path of cgroups");
        return Err(invalid("config.linux.cgroup_parent", text));
    }
    Ok(())
}

/// Parameters of the kernel that are a namespace's, if the namespace is the pod's own.
fn sysctls(sysctls: &HashMap<String, String>, modes: Modes) -> Result<()> {
    use crate::api::NamespaceMode::Node;
    for (key, value) in sysctls {
        let field = format!("config.linux.sysctls[{key:?}]");
        // A dot may stand for a slash, and then a slash for a dot.
        let slash = key.find('/').unwrap_or(usize::MAX);
        let dot = key.find('.').unwrap_or(usize::MAX);
        let name = if slash < dot {
            key.replace('/', ".")
        } else {
            key.clone()
        };
        let is_ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."]
            .iter()
            .any(|p| name.starts_with(p))
            || name == "kernel.sem";
        let is_net = name.starts_with("net.");
        if key.split(['/', '.']).any(str::is_empty) || key.contains('\0') || value.contains('\0') {
            return Err(invalid(field, "is not a name of a parameter"));
        }
        if !is_ipc && !is_net {
            return Err(invalid(
                field,
                "does not belong to a namespace that a pod can have",
            ));
        }
        if (is_net && modes.network == Node) || (is_ipc && modes.ipc == Node) {
            return Err(invalid(
                field,
                "belongs to a namespace that the pod shares with the host",
            ));
        }
    }
    Ok(())
}

/// Checks the name of a pod or container in a request: an id or the beginning of one.
///
/// # Errors
/// `Invalid` with the field's name.
pub fn id(text: &str, field: &str) -> Result<()> {
    // Ids of others may be UUIDs: those are not there, which is no error for who ends something.
    let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b) || b == b'-';
    if text.is_empty() {
        return Err(invalid(field, "is empty"));
    }
    if text.len() > MAX_ID || !text.bytes().all(is_digit) {
        let shown: String = text.chars().take(MAX_ID).collect();
        return Err(invalid(field, format!("{shown:?} is not an id")));
    }
    Ok(())
}

/// The path of a container's log; none without a directory or a name.
#[must_use]
pub fn log_path(pod: &PodSandboxConfig, config: &ContainerConfig) -> Option<PathBuf> {
    if pod.log_directory.is_empty() || config.log_path.is_empty() {
        return None;
    }
    Some(Path::new(&pod.log_directory).join(&config.log_path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{
        ContainerMetadata, DnsConfig, ImageSpec, LinuxPodSandboxConfig,
        LinuxSandboxSecurityContext, NamespaceOption, PodSandboxMetadata, PortMapping,
    };

    fn good_pod() -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: "n".into(),
                uid: "u".into(),
                namespace: "d".into(),
                attempt: 0,
            }),
            ..PodSandboxConfig::default()
        }
    }

    fn good_container() -> ContainerConfig {
        ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: "c".into(),
                attempt: 0,
            }),
            image: Some(ImageSpec {
                image: "i".into(),
                ..ImageSpec::default()
            }),
            ..ContainerConfig::default()
        }
    }

    fn linux(change: impl FnOnce(&mut LinuxPodSandboxConfig)) -> Option<LinuxPodSandboxConfig> {
        let mut linux = LinuxPodSandboxConfig::default();
        change(&mut linux);
        Some(linux)
    }

    fn on_host(linux: &mut LinuxPodSandboxConfig) {
        linux.security_context = Some(LinuxSandboxSecurityContext {
            namespace_options: Some(NamespaceOption {
                network: 2,
                ipc: 2,
                ..NamespaceOption::default()
            }),
            ..LinuxSandboxSecurityContext::default()
        });
    }

    fn sysctl(linux: &mut LinuxPodSandboxConfig, key: &str) {
        linux.sysctls.insert(key.into(), "1".into());
    }

    #[test]
    fn pods_out_of_bounds_are_named() {
        pod(&good_pod()).unwrap();
        type Change = fn(&mut PodSandboxConfig);
        let table: [(Change, &str); 20] = [
            (|p| p.metadata = None, "config.metadata:"),
            (
                |p| p.metadata.as_mut().unwrap().name.clear(),
                "config.metadata.name",
            ),
            (
                |p| p.metadata.as_mut().unwrap().name = "a\nb".into(),
                "config.metadata.name",
            ),
            (
                |p| p.metadata.as_mut().unwrap().uid = "x".repeat(513),
                "config.metadata.uid",
            ),
            (
                |p| p.metadata.as_mut().unwrap().namespace = "\0".into(),
                "config.metadata.namespace",
            ),
            (|p| p.hostname = "x".repeat(65), "config.hostname"),
            (|p| p.hostname = "a b".into(), "config.hostname"),
            (|p| p.log_directory = "logs".into(), "config.log_directory"),
            (
                |p| p.log_directory = "/a/../b".into(),
                "config.log_directory",
            ),
            (
                |p| drop(p.labels.insert(String::new(), String::new())),
                "config.labels",
            ),
            (
                |p| drop(p.labels.insert("k".into(), "x".repeat(1 << 20))),
                "config.labels",
            ),
            (
                |p| drop(p.annotations.insert("\n".into(), String::new())),
                "config.annotations",
            ),
            (
                |p| {
                    p.dns_config = Some(DnsConfig {
                        servers: vec!["1.1.1.1\nx".into()],
                        ..DnsConfig::default()
                    });
                },
                "config.dns_config.servers[0]",
            ),
            (
                |p| p.linux = linux(|l| l.cgroup_parent = "/a/../b".into()),
                "config.linux.cgroup_parent",
            ),
            (
                |p| p.linux = linux(|l| l.cgroup_parent = "a:b".into()),
                "config.linux.cgroup_parent",
            ),
            (
                |p| p.linux = linux(|l| sysctl(l, "kernel.pid_max")),
                "config.linux.sysctls",
            ),
            (
                |p| p.linux = linux(|l| sysctl(l, "net..x")),
                "config.linux.sysctls",
            ),
            (
                |p| {
                    p.linux = linux(|l| {
                        on_host(l);
                        sysctl(l, "net/ipv4/ip_forward");
                    });
                },
                "config.linux.sysctls",
            ),
            (
                |p| {
                    p.linux = linux(|l| {
                        on_host(l);
                        sysctl(l, "kernel.shmmax");
                    });
                },
                "config.linux.sysctls",
            ),
            (
                |p| {
                    p.port_mappings = vec![PortMapping {
                        host_port: 80,
                        ..PortMapping::default()
                    }];
                },
                "config.port_mappings[0].container_port",
            ),
        ];
        for (change, words) in table {
            let mut config = good_pod();
            change(&mut config);
            let error = pod(&config).unwrap_err();
            assert!(error.to_string().starts_with(words), "{error}");
        }
        let mut own = good_pod();
        own.linux = linux(|l| sysctl(l, "net.ipv4.ip_forward"));
        pod(&own).unwrap();
    }

    #[test]
    fn containers_out_of_bounds_are_named() {
        container(&good_container()).unwrap();
        type Change = fn(&mut ContainerConfig);
        let table: [(Change, &str); 9] = [
            (|c| c.metadata = None, "config.metadata:"),
            (
                |c| c.metadata.as_mut().unwrap().name.clear(),
                "config.metadata.name",
            ),
            (|c| c.image = None, "config.image.image"),
            (|c| c.log_path = "/abs".into(), "config.log_path"),
            (|c| c.log_path = "../x".into(), "config.log_path"),
            (|c| c.stdin_once = true, "config.stdin_once"),
            (
                |c| c.mounts = vec![crate::api::Mount::default()],
                "config.mounts[0].container_path",
            ),
            (
                |c| c.devices = vec![crate::api::Device::default()],
                "config.devices[0].host_path",
            ),
            (
                |c| c.command = vec![String::new(); MAX_LIST + 1],
                "config.command",
            ),
        ];
        for (change, words) in table {
            let mut config = good_container();
            change(&mut config);
            let error = container(&config).unwrap_err();
            assert!(error.to_string().starts_with(words), "{error}");
        }
    }

    #[test]
    fn ids() {
        id(&"a".repeat(64), "f").unwrap();
        id("0a", "f").unwrap();
        for bad in ["", "x", "A", "..", "a/b", &"a".repeat(65)] {
            assert!(id(bad, "f").unwrap_err().to_string().starts_with("f: "));
        }
    }
}
