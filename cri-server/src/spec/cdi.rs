//! Devices by the Container Device Interface: what a specification says about a device, put into a `config.json`.
//!
//! <https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md>

use crate::error::{Error, Kind, Result, invalid};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Annotations whose values are names of devices too.
pub const ANNOTATIONS: &str = "cdi.k8s.io/";

/// A specification: devices of one kind.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Specification {
    /// `vendor.com/class`.
    pub kind: String,
    /// Its devices.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// For a container with any of them.
    #[serde(default)]
    pub container_edits: Edits,
}

/// A device.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Its name.
    pub name: String,
    /// What it means for a container.
    #[serde(default)]
    pub container_edits: Edits,
}

/// Changes to a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Edits {
    /// `NAME=value`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Nodes.
    #[serde(default)]
    pub device_nodes: Vec<Node>,
    /// Mounts.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Hooks.
    #[serde(default)]
    pub hooks: Vec<Hook>,
    /// Supplementary groups.
    #[serde(default, rename = "additionalGids")]
    pub additional_gids: Vec<u32>,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// In the container.
    pub path: String,
    /// On the host, where that is another.
    pub host_path: Option<String>,
    /// `c` or `b`; that of the host's node when absent.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Number; the host's when absent.
    pub major: Option<u32>,
    /// Number; the host's when absent.
    pub minor: Option<u32>,
    /// Mode of the node.
    pub file_mode: Option<u32>,
    /// Of `r`, `w`, `m`.
    pub permissions: Option<String>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// On the host.
    pub host_path: String,
    /// In the container.
    pub container_path: String,
    /// As in fstab(5).
    #[serde(default)]
    pub options: Vec<String>,
    /// `bind` when absent.
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// A hook.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// As in config.json: `createContainer`.
    pub hook_name: String,
    /// The program.
    pub path: String,
    /// With the program's name first.
    #[serde(default)]
    pub args: Vec<String>,
    /// `NAME=value`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Seconds.
    pub timeout: Option<i64>,
}

/// The names of devices that a request asks for: by its list, and by annotations.
///
/// # Errors
/// `Invalid` with the field's name for what is not `vendor.com/class=device`.
pub fn wanted<'a>(
    list: impl Iterator<Item = &'a str>,
    annotations: impl Iterator<Item = (&'a String, &'a String)>,
) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut add = |name: &str, field: String| {
        let parts = name.split_once('=').filter(|(kind, device)| {
            kind.split_once('/')
                .is_some_and(|(v, c)| !v.is_empty() && !c.is_empty())
                && !device.is_empty()
        });
        if parts.is_none() {
            return Err(invalid(
                field,
                format!("{name:?} is not vendor.com/class=device"),
            ));
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
        Ok(())
    };
    for (index, name) in list.enumerate() {
        add(name, format!("config.CDI_devices[{index}].name"))?;
    }
    let annotations: BTreeMap<_, _> = annotations
        .filter(|(key, _)| key.starts_with(ANNOTATIONS))
        .collect();
    for (key, value) in annotations {
        for name in value.split(',').filter(|name| !name.is_empty()) {
            add(name, format!("config.annotations[{key:?}]"))?;
        }
    }
    Ok(names)
}

/// What the specifications say about these devices: those of the devices, and once for each specification its own. A
/// later specification wins over an earlier one.
///
/// # Errors
/// `NotFound` for a device that none of them has.
pub fn edits(names: &[String], specifications: &[Specification]) -> Result<Vec<Edits>> {
    let mut edits: Vec<Edits> = Vec::new();
    let mut used = Vec::new();
    for name in names {
        let (kind, wanted) = name.split_once('=').unwrap_or((name, ""));
        let found = specifications
            .iter()
            .enumerate()
            .rev()
            .find_map(|(index, spec)| {
                let device = spec.devices.iter().find(|device| device.name == wanted);
                device
                    .filter(|_| spec.kind == kind)
                    .map(|device| (index, device))
            });
        let Some((index, device)) = found else {
            return Err(Error::new(
                Kind::NotFound,
                format!("CDI device {name:?} is in no specification"),
            ));
        };
        edits.push(device.container_edits.clone());
        if !used.contains(&index) {
            used.push(index);
        }
    }
    edits.extend(
        used.into_iter()
            .map(|index| specifications[index].container_edits.clone()),
    );
    Ok(edits)
}

/// Puts everything but device nodes into a configuration.
pub(super) fn apply(spec: &mut Value, edits: &[Edits]) {
    for edit in edits {
        for variable in &edit.env {
            super::process::set_variable(&mut spec["process"]["env"], variable);
        }
        for mount in &edit.mounts {
            push(
                &mut spec["mounts"],
                json!({
                    "destination": mount.container_path,
                    "source": mount.host_path,
                    "type": mount.kind.as_deref().unwrap_or("bind"),
                    "options": mount.options,
                }),
            );
        }
        for hook in &edit.hooks {
            let mut value = json!({"path": hook.path, "args": hook.args, "env": hook.env});
            if let Some(timeout) = hook.timeout {
                value["timeout"] = json!(timeout);
            }
            push(&mut spec["hooks"][&hook.hook_name], value);
        }
        for gid in &edit.additional_gids {
            push(&mut spec["process"]["user"]["additionalGids"], json!(gid));
        }
    }
}

fn push(list: &mut Value, value: Value) {
    match list {
        Value::Array(list) => list.push(value),
        other => *other = json!([value]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specifications() -> Vec<Specification> {
        let text = r#"[
            {"cdiVersion": "0.6.0", "kind": "v.com/gpu", "devices": [
                {"name": "0", "containerEdits": {"env": ["A=0"]}},
                {"name": "1", "containerEdits": {"env": ["A=1"]}}],
             "containerEdits": {"env": ["ALL=1"], "additionalGids": [7],
                "hooks": [{"hookName": "createContainer", "path": "/h", "timeout": 3}],
                "mounts": [{"hostPath": "/h", "containerPath": "/c", "options": ["ro"]}]}},
            {"kind": "v.com/gpu", "devices": [{"name": "1", "containerEdits": {"env": ["A=new"]}}]}
        ]"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn names_of_devices() {
        let list = ["v.com/gpu=0", "v.com/gpu=0"].into_iter();
        let annotations = [
            ("cdi.k8s.io/b".to_owned(), "v.com/gpu=2".to_owned()),
            ("other".to_owned(), "x".to_owned()),
        ];
        let pairs = annotations.iter().map(|(k, v)| (k, v));
        let found = wanted(list, pairs).unwrap();
        assert_eq!(found, ["v.com/gpu=0", "v.com/gpu=2"]);
        for bad in ["", "gpu", "v.com=0", "v.com/gpu", "v.com/gpu=", "/gpu=1"] {
            let error = wanted([bad].into_iter(), [].into_iter()).unwrap_err();
            assert!(
                error.to_string().starts_with("config.CDI_devices[0].name"),
                "{error}"
            );
        }
    }

    #[test]
    fn edits_of_devices_and_of_their_specification() {
        let names = ["v.com/gpu=0".to_owned(), "v.com/gpu=1".to_owned()];
        let edits = edits(&names, &specifications()).unwrap();
        let env = edits.iter().flat_map(|e| e.env.clone()).collect::<Vec<_>>();
        assert_eq!(env, ["A=0", "A=new", "ALL=1"]);
        let mut spec =
            json!({"process": {"env": ["A=x"], "user": {"additionalGids": [1]}}, "mounts": []});
        apply(&mut spec, &edits);
        assert_eq!(spec["process"]["env"], json!(["A=new", "ALL=1"]));
        assert_eq!(spec["process"]["user"]["additionalGids"], json!([1, 7]));
        assert_eq!(spec["mounts"][0]["destination"], "/c");
        assert_eq!(spec["hooks"]["createContainer"][0]["timeout"], 3);
    }

    #[test]
    fn a_device_that_is_not_there() {
        let error = edits(&["v.com/gpu=9".to_owned()], &specifications()).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
    }
}
