//! `spec`.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{getegid, geteuid};

use super::{Failure, Invocation, Outcome};

const ROOT: &str = include_str!("config.json");
const ROOTLESS: &str = include_str!("rootless.json");

/// Writes a `config.json` to begin with.
pub(super) fn spec(invocation: &Invocation<'_>) -> Outcome {
    let directory = invocation
        .flags
        .value("bundle")
        .filter(|bundle| !bundle.is_empty())
        .unwrap_or(".");
    let path = Path::new(directory).join("config.json");
    let mut text = if invocation.flags.on("rootless") {
        rootless(geteuid().as_raw(), getegid().as_raw())
    } else {
        ROOT.to_owned()
    };
    if is_unified() {
        text = with_cgroup_namespace(&text);
    }
    let failed = |call: &str, error: &io::Error| {
        Failure::File(format!("{call}({path:?}): {}", crate::format::io(error)))
    };
    let mut file = File::create_new(&path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            Failure::File("File config.json exists. Remove it first".to_owned())
        }
        _ => failed("open", &error),
    })?;
    file.write_all(text.as_bytes()).map_err(|error| {
        // Half a configuration would be in the way of the next attempt.
        drop(fs::remove_file(&path));
        failed("write", &error)
    })?;
    Ok(0)
}

/// Whether the host has cgroups of version 2 and no other.
fn is_unified() -> bool {
    statfs("/sys/fs/cgroup").is_ok_and(|host| host.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// There a container sees its own part of the hierarchy only.
fn with_cgroup_namespace(text: &str) -> String {
    let mount = "\"type\": \"mount\"\n\t\t\t}";
    let cgroup = ",\n\t\t\t{\n\t\t\t\t\"type\": \"cgroup\"\n\t\t\t}";
    text.replacen(mount, &format!("{mount}{cgroup}"), 1)
}

/// Root in the container is the caller outside.
fn rootless(uid: u32, gid: u32) -> String {
    let host_id = |id| format!("\"hostID\": {id}");
    let (before, after) = ROOTLESS.split_once(&host_id(0)).unwrap_or((ROOTLESS, ""));
    format!(
        "{before}{}{}",
        host_id(uid),
        after.replacen(&host_id(0), &host_id(gid), 1)
    )
}

#[cfg(test)]
mod tests {
    use runtime_core::spec::Spec;

    use super::*;

    #[test]
    fn unified_hosts_get_a_cgroup_namespace() {
        for text in [ROOT.to_owned(), rootless(1000, 1001)] {
            let types = |text: &str| -> Vec<String> {
                let spec: serde_json::Value = serde_json::from_str(text).unwrap();
                let namespaces = spec["linux"]["namespaces"].as_array().unwrap();
                namespaces
                    .iter()
                    .map(|namespace| namespace["type"].as_str().unwrap().to_owned())
                    .collect()
            };
            let mut expected = types(&text);
            let mount = expected.iter().position(|name| name == "mount").unwrap();
            expected.insert(mount + 1, "cgroup".to_owned());
            assert_eq!(types(&with_cgroup_namespace(&text)), expected);
        }
    }

    #[test]
    fn both_are_configurations() {
        Spec::from_json(ROOT.as_bytes()).unwrap();
        let spec = Spec::from_json(rootless(1000, 1001).as_bytes()).unwrap();
        let linux = spec.linux.unwrap();
        assert_eq!(linux.uid_mappings.unwrap()[0].host_id, 1000);
        assert_eq!(linux.gid_mappings.unwrap()[0].host_id, 1001);
    }
}
