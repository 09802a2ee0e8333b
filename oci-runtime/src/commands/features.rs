//! `features`.

use std::collections::BTreeMap;

use runtime_core::features::{
    CAPABILITIES, SECCOMP_ACTIONS, SECCOMP_ARCHITECTURES, SECCOMP_FLAGS, SECCOMP_OPERATORS,
    memory_flags, memory_modes, mount_options, namespaces,
};
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::PrettyFormatter;

use super::{Invocation, Outcome, print};
use crate::version::SPEC;

/// features.md of the specification, in its order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Features {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: [&'static str; 6],
    mount_options: Vec<&'static str>,
    linux: Linux,
    annotations: BTreeMap<&'static str, &'static str>,
    potentially_unsafe_config_annotations: &'static [&'static str],
}

/// Annotations of a configuration that change what is done; a dot at the end stands for all that begin so.
const ACTING_ANNOTATIONS: &[&str] = &["org.criu.config", "org.ocirun.", "org.systemd.property."];

/// What could be tried on no machine at hand, by its place in a configuration.
const UNTRIED: &str = "linux.intelRdt";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: [&'static str; 8],
    capabilities: Vec<&'static str>,
    cgroup: Cgroup,
    seccomp: Seccomp,
    apparmor: Enabled,
    selinux: Enabled,
    intel_rdt: IntelRdt,
    memory_policy: MemoryPolicy,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cgroup {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Seccomp {
    enabled: bool,
    actions: &'static [&'static str],
    operators: &'static [&'static str],
    archs: &'static [&'static str],
    known_flags: &'static [&'static str],
    supported_flags: &'static [&'static str],
}

#[derive(Serialize)]
struct MemoryPolicy {
    modes: Vec<&'static str>,
    flags: Vec<&'static str>,
}

#[derive(Serialize)]
struct IntelRdt {
    enabled: bool,
    schemata: bool,
    monitoring: bool,
}

#[derive(Serialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

/// Prints what this program can do.
pub(super) fn features(_: &Invocation<'_>) -> Outcome {
    let features = Features {
        oci_version_min: "1.0.0",
        oci_version_max: SPEC,
        hooks: [
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "poststop",
        ],
        mount_options: mount_options().collect(),
        linux: Linux {
            namespaces: namespaces(),
            capabilities: CAPABILITIES.to_vec(),
            cgroup: Cgroup {
                v1: true,
                v2: true,
                systemd: true,
                systemd_user: true,
                rdma: true,
            },
            seccomp: Seccomp {
                enabled: true,
                actions: SECCOMP_ACTIONS,
                operators: SECCOMP_OPERATORS,
                archs: SECCOMP_ARCHITECTURES,
                known_flags: SECCOMP_FLAGS,
                supported_flags: SECCOMP_FLAGS,
            },
            apparmor: Enabled { enabled: true },
            selinux: Enabled { enabled: true },
            intel_rdt: IntelRdt {
                enabled: true,
                schemata: true,
                monitoring: true,
            },
            memory_policy: MemoryPolicy {
                modes: memory_modes().collect(),
                flags: memory_flags().collect(),
            },
            mount_extensions: MountExtensions {
                idmap: Enabled { enabled: true },
            },
            net_devices: Enabled { enabled: true },
        },
        annotations: BTreeMap::from([
            ("org.opencontainers.runc.checkpoint.enabled", "true"),
            ("org.ocirun.untried", UNTRIED),
            ("org.ocirun.version", env!("CARGO_PKG_VERSION")),
        ]),
        potentially_unsafe_config_annotations: ACTING_ANNOTATIONS,
    };
    let mut text = Vec::new();
    let mut serializer =
        Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
    // Nothing that cannot be written is in it.
    let _ = features.serialize(&mut serializer);
    text.push(b'\n');
    print(&String::from_utf8_lossy(&text))
}
