//! Devices: nodes, and the rules that let them be used.

use super::HostDevice;
use crate::error::{Result, invalid};
use serde_json::{Value, json};

/// Checks a device of a request by itself.
///
/// # Errors
/// `Invalid` with the field's name.
pub fn check(device: &crate::api::Device, at: &str) -> Result<()> {
    for (field, path) in [
        ("host_path", &device.host_path),
        ("container_path", &device.container_path),
    ] {
        let is_left_out = field == "container_path" && path.is_empty();
        if !is_left_out && (!path.starts_with('/') || path.contains('\0')) {
            return Err(invalid(
                format!("{at}.{field}"),
                format!("{path:?} is not an absolute path"),
            ));
        }
    }
    let rights = &device.permissions;
    if rights.chars().any(|c| !"rwm".contains(c)) {
        let text = format!("{rights:?} has other letters than r, w and m");
        return Err(invalid(format!("{at}.permissions"), text));
    }
    Ok(())
}

/// `linux.devices` of these nodes.
pub(super) fn nodes(devices: &[HostDevice]) -> Vec<Value> {
    let node = |device: &HostDevice| {
        json!({
            "path": device.path,
            "type": device.kind.to_string(),
            "major": device.major,
            "minor": device.minor,
            "fileMode": device.mode,
            "uid": device.uid,
            "gid": device.gid,
        })
    };
    devices.iter().map(node).collect()
}

/// The rules for these nodes, after one that denies everything. A privileged container may use all there is.
pub(super) fn rules(devices: &[HostDevice], privileged: bool) -> Vec<Value> {
    if privileged {
        return vec![json!({"allow": true, "access": "rwm"})];
    }
    let mut rules = vec![json!({"allow": false, "access": "rwm"})];
    for device in devices {
        rules.push(json!({
            "allow": true,
            "type": device.kind.to_string(),
            "major": device.major,
            "minor": device.minor,
            "access": device.access,
        }));
    }
    rules
}
