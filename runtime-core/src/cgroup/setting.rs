//! One value of one cgroup file, and how a list of them comes from `linux.resources`.

use std::path::Path;

use super::directory::write;
use crate::error::{Context, Error, Result};
use crate::spec::{BlockIo, Cpu};

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

    /// `cpuset.cpus` and `cpuset.mems`, which are the same in both versions.
    pub(super) fn cpuset(&mut self, cpu: &Cpu) {
        for (value, file, element) in [
            (&cpu.cpus, "cpuset.cpus", "cpu/cpus"),
            (&cpu.mems, "cpuset.mems", "cpu/mems"),
        ] {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                self.add("cpuset", file, value, element);
            }
        }
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

/// A limit of one block device.
#[derive(Debug)]
pub(super) struct Throttle {
    pub(super) kind: ThrottleKind,
    /// As the kernel's files name it.
    pub(super) device: String,
    /// A second.
    pub(super) rate: u64,
    /// The element of the resources that asks for it.
    pub(super) element: String,
}

/// What a [`Throttle`] limits.
#[derive(Clone, Copy, Debug)]
pub(super) enum ThrottleKind {
    ReadBytes,
    WriteBytes,
    Reads,
    Writes,
}

impl ThrottleKind {
    /// In the names of files of version 1.
    pub(super) fn v1_name(self) -> &'static str {
        match self {
            Self::ReadBytes => "read_bps",
            Self::WriteBytes => "write_bps",
            Self::Reads => "read_iops",
            Self::Writes => "write_iops",
        }
    }

    /// In `io.max` of version 2.
    pub(super) fn v2_name(self) -> &'static str {
        match self {
            Self::ReadBytes => "rbps",
            Self::WriteBytes => "wbps",
            Self::Reads => "riops",
            Self::Writes => "wiops",
        }
    }
}

/// All limits of block devices, in the order of their lists.
pub(super) fn throttles(block_io: &BlockIo) -> Result<Vec<Throttle>> {
    use ThrottleKind::{ReadBytes, Reads, WriteBytes, Writes};
    let lists = [
        (
            ReadBytes,
            "throttleReadBpsDevice",
            &block_io.throttle_read_bps_device,
        ),
        (
            WriteBytes,
            "throttleWriteBpsDevice",
            &block_io.throttle_write_bps_device,
        ),
        (
            Reads,
            "throttleReadIOPSDevice",
            &block_io.throttle_read_iops_device,
        ),
        (
            Writes,
            "throttleWriteIOPSDevice",
            &block_io.throttle_write_iops_device,
        ),
    ];
    let mut found = Vec::new();
    for (kind, name, devices) in lists {
        for (index, device) in devices.iter().flatten().enumerate() {
            let element = format!("blockIO/{name}/{index}");
            found.push(Throttle {
                kind,
                device: device_number(device.major, device.minor, &element)?,
                rate: device.rate,
                element,
            });
        }
    }
    Ok(found)
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
