//! One value of one cgroup file, and how a list of them comes from `linux.resources`.

use std::path::Path;

use super::directory::write;
use crate::error::{Context, Error, Result};

/// JSON pointer of what all settings come from.
pub(super) const POINTER: &str = "/linux/resources";

/// One value of one file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// Whose file it is; empty for one of `unified`, which names its file alone.
    pub(super) controller: &'static str,
    pub(super) file: String,
    pub(super) value: String,
    pub(super) missing: Missing,
    /// JSON pointer of what asked for it.
    pub(super) pointer: String,
}

/// What to do where the kernel has no such file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// That is an error.
    Refuse,
    /// Nothing: without the file things are as the value says.
    Ignore,
    /// This value of this file.
    Instead(String, String),
}

impl Setting {
    /// Writes it to the file in `directory`.
    pub(super) fn apply(&self, directory: &Path) -> Result<()> {
        let file = directory.join(&self.file);
        let written = match &self.missing {
            // Rarely are these there, and a write must not make a file.
            Missing::Ignore if !file.exists() => Ok(()),
            Missing::Instead(name, value) if !file.exists() => write(&directory.join(name), value),
            _ => write(&file, &self.value),
        };
        written.context(|| &self.pointer)
    }
}

/// Settings in the order in which they are written.
#[derive(Debug, Default)]
pub(super) struct Settings(pub(super) Vec<Setting>);

impl Settings {
    /// Adds one that is asked for by `element` of the resources.
    pub(super) fn add(
        &mut self,
        controller: &'static str,
        file: &str,
        value: impl ToString,
        element: &str,
    ) {
        self.add_or(
            controller,
            (file, value.to_string()),
            element,
            Missing::Refuse,
        );
    }

    /// Adds one whose file, the first of the pair, may be missing.
    pub(super) fn add_or(
        &mut self,
        controller: &'static str,
        (file, value): (&str, String),
        element: &str,
        missing: Missing,
    ) {
        self.0.push(Setting {
            controller,
            file: file.to_owned(),
            value,
            missing,
            pointer: format!("{POINTER}/{element}"),
        });
    }

    /// `pids.max`, which is the same in both versions.
    pub(super) fn pids(&mut self, limit: i64) {
        let limit = match limit {
            // A limit of 0 still lets the container's one process be: what counts is that it cannot fork.
            0 => "1".to_owned(),
            limit if limit < 0 => "max".to_owned(),
            limit => limit.to_string(),
        };
        self.add("pids", "pids.max", limit, "pids/limit");
    }

    /// The limits of RDMA devices, which are the same in both versions.
    pub(super) fn rdma(&mut self, devices: &std::collections::BTreeMap<String, crate::spec::Rdma>) {
        for (name, limits) in devices {
            let mut value = name.clone();
            for (key, limit) in [
                ("hca_handle", limits.hca_handles),
                ("hca_object", limits.hca_objects),
            ] {
                if let Some(limit) = limit {
                    value.push_str(&format!(" {key}={limit}"));
                }
            }
            self.add("rdma", "rdma.max", value, &format!("rdma/{name}"));
        }
    }
}

/// `element` of the resources cannot be what it is.
pub(super) fn invalid(element: &str, text: &str) -> Error {
    Error::invalid_spec(&format!("{POINTER}/{element}"), text)
}

/// A block device as the kernel's files name it.
pub(super) fn device_number(major: i64, minor: i64, element: &str) -> Result<String> {
    if major < 0 || minor < 0 {
        return Err(invalid(element, "is not a device number"));
    }
    Ok(format!("{major}:{minor}"))
}

/// Whether `size` is one of huge pages as their files are named: `2MB`.
pub(super) fn check_page_size(size: &str, element: &str) -> Result<()> {
    let digits = size.trim_end_matches(['K', 'M', 'G', 'B']);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let text = format!("{size:?} is no size such as 2MB");
        return Err(invalid(&format!("{element}/pageSize"), &text));
    }
    Ok(())
}
