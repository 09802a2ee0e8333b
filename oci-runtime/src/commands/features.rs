//! `features`.

use runtime_core::features::{
    CAPABILITIES, SECCOMP_ACTIONS, SECCOMP_ARCHITECTURES, SECCOMP_FLAGS, SECCOMP_OPERATORS,
    mount_options, namespaces,
};
use serde_json::{Serializer, json, ser::PrettyFormatter};

use super::{Invocation, Outcome};
use crate::version::SPEC;

/// Prints what this program can do, features.md of the specification.
pub(super) fn features(_: &Invocation<'_>) -> Outcome {
    let features = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": mount_options().collect::<Vec<_>>(),
        "linux": {
            "namespaces": namespaces(),
            "capabilities": CAPABILITIES.as_slice(),
            "cgroup": { "v1": true, "v2": false, "systemd": false, "systemdUser": false, "rdma": false },
            "seccomp": seccomp(),
            "apparmor": { "enabled": false },
            "selinux": { "enabled": false },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": false } },
            "netDevices": { "enabled": false },
        },
        "annotations": { "org.ocirun.version": env!("CARGO_PKG_VERSION") },
    });
    let mut text = Vec::new();
    let mut serializer =
        Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
    let _ = serde::Serialize::serialize(&features, &mut serializer);
    println!("{}", String::from_utf8_lossy(&text));
    Ok(0)
}

fn seccomp() -> serde_json::Value {
    json!({
        "enabled": true,
        "actions": SECCOMP_ACTIONS,
        "operators": SECCOMP_OPERATORS,
        "archs": SECCOMP_ARCHITECTURES,
        "knownFlags": SECCOMP_FLAGS,
    })
}
