//! Bundles: a temporary directory with a config.json and a rootfs in which only the probe lives.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::cgroup::Cgroup;
use crate::container::Container;
use crate::programs::probe_program;
use crate::spec::default_spec;

/// Where the probe stands inside every container; its directory is in the default `PATH`.
pub const PROBE: &str = "/bin/probe";

/// A bundle of its own for one test, removed on drop.
#[derive(Debug)]
pub struct Bundle {
    directory: TempDir,
    cgroup: Cgroup,
    /// The config.json to be; [`Bundle::write`] puts it on disk.
    pub spec: Value,
}

impl Default for Bundle {
    fn default() -> Self {
        Self::new()
    }
}

impl Bundle {
    /// A bundle that `runc spec` could have made, with an own cgroup path, and the probe's `report` as its command.
    #[must_use]
    pub fn new() -> Self {
        Self::from_spec(default_spec())
    }

    /// A bundle with this configuration, to which the cgroup path (if it has resources) and the command are added.
    #[must_use]
    pub fn from_spec(spec: Value) -> Self {
        let directory = temporary_directory();
        let rootfs = directory.path().join("rootfs");
        for name in ["bin", "dev", "proc", "sys", "tmp", "etc"] {
            fs::create_dir_all(rootfs.join(name)).expect("make the rootfs");
        }
        fs::set_permissions(rootfs.join("tmp"), fs::Permissions::from_mode(0o1777))
            .expect("chmod /tmp");
        place_probe(&rootfs.join("bin/probe"));
        let cgroup = Cgroup::unique();
        let mut bundle = Self {
            directory,
            cgroup,
            spec,
        };
        if bundle.spec.pointer("/linux/resources").is_some() {
            let path = bundle.cgroup.path().to_owned();
            bundle = bundle.set("/linux/cgroupsPath", path);
        }
        bundle.probe(&["report"])
    }

    /// Replaces the value at a JSON pointer; objects on the way are made, `-` appends to a list.
    #[must_use]
    pub fn set(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        *place(&mut self.spec, pointer) = value.into();
        self
    }

    /// Removes what is at a JSON pointer.
    #[must_use]
    pub fn remove(mut self, pointer: &str) -> Self {
        let (parent, key) = pointer.rsplit_once('/').expect("a JSON pointer");
        match self.spec.pointer_mut(parent) {
            Some(Value::Object(object)) => drop(object.remove(key)),
            Some(Value::Array(list)) => drop(list.remove(key.parse().expect("an index"))),
            _ => panic!("{pointer}: not in the configuration"),
        }
        self
    }

    /// Sets the whole command line of the process.
    #[must_use]
    pub fn args(self, args: &[&str]) -> Self {
        self.set("/process/args", Value::from(args))
    }

    /// Lets the process be the probe with these steps.
    #[must_use]
    pub fn probe(self, steps: &[&str]) -> Self {
        self.args(&[&[PROBE], steps].concat())
    }

    /// Appends a mount.
    #[must_use]
    pub fn mount(self, mount: Value) -> Self {
        self.set("/mounts/-", mount)
    }

    /// Appends a namespace.
    #[must_use]
    pub fn namespace(self, namespace: Value) -> Self {
        self.set("/linux/namespaces/-", namespace)
    }

    /// Takes a namespace out, so that the caller's is shared.
    #[must_use]
    pub fn without_namespace(mut self, kind: &str) -> Self {
        let list = self.spec["linux"]["namespaces"]
            .as_array_mut()
            .expect("namespaces");
        list.retain(|namespace| namespace["type"] != kind);
        self
    }

    /// Grants these capabilities in all sets but the inheritable one.
    #[must_use]
    pub fn capabilities(mut self, names: &[&str]) -> Self {
        for set in ["bounding", "effective", "permitted", "ambient"] {
            self.spec["process"]["capabilities"][set] = Value::from(names);
        }
        self
    }

    /// The bundle's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A path in the rootfs, given as the container sees it.
    #[must_use]
    pub fn inside(&self, path: &str) -> PathBuf {
        self.path()
            .join("rootfs")
            .join(path.trim_start_matches('/'))
    }

    /// The cgroup that config.json names.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Writes config.json.
    pub fn write(&self) {
        let text = serde_json::to_vec_pretty(&self.spec).expect("JSON");
        fs::write(self.path().join("config.json"), text).expect("write config.json");
    }

    /// Writes config.json, and gives the container that will be made of it.
    #[must_use]
    pub fn container(self) -> Container {
        self.write();
        Container::new(self)
    }
}

/// Links the probe into a rootfs. All link to one copy, so that no container can change the program that cargo built.
fn place_probe(at: &Path) {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    let copy = COPY.get_or_init(|| {
        let file = std::env::temp_dir().join(format!("ocirun-probe.{}", std::process::id()));
        fs::copy(probe_program(), &file).expect("copy the probe");
        file
    });
    fs::hard_link(copy, at).expect("link the probe");
}

/// Removes the copy that all bundles link to.
pub(crate) fn remove_probe_copy() {
    let _never_made =
        fs::remove_file(std::env::temp_dir().join(format!("ocirun-probe.{}", std::process::id())));
}

fn place<'a>(root: &'a mut Value, pointer: &str) -> &'a mut Value {
    let mut at = root;
    for key in pointer.split('/').skip(1) {
        if at.is_null() {
            *at = if key == "-" {
                Value::Array(Vec::new())
            } else {
                Value::Object(Map::new())
            };
        }
        at = match at {
            Value::Object(object) => object.entry(key).or_insert(Value::Null),
            Value::Array(list) => {
                let index = if key == "-" {
                    list.len()
                } else {
                    key.parse().expect("an index")
                };
                if index == list.len() {
                    list.push(Value::Null);
                }
                &mut list[index]
            }
            _ => panic!("{pointer}: passes through a scalar"),
        };
    }
    at
}

/// A directory that other users may enter, in short paths (unix sockets live there).
pub(crate) fn temporary_directory() -> TempDir {
    let directory = tempfile::Builder::new()
        .prefix("ocirun-test-")
        .tempdir()
        .expect("make a temporary directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    directory
}

#[cfg(test)]
mod tests {
    use super::place;
    use serde_json::json;

    #[test]
    fn a_pointer_makes_what_is_missing_on_its_way() {
        let mut spec = json!({"linux": {"namespaces": [{"type": "pid"}]}});
        *place(&mut spec, "/linux/resources/pids/limit") = json!(5);
        *place(&mut spec, "/linux/namespaces/-") = json!({"type": "user"});
        *place(&mut spec, "/hooks/prestart/-") = json!({"path": "/bin/true"});
        let expected = json!({
            "linux": {"namespaces": [{"type": "pid"}, {"type": "user"}], "resources": {"pids": {"limit": 5}}},
            "hooks": {"prestart": [{"path": "/bin/true"}]},
        });
        assert_eq!(spec, expected);
    }
}
