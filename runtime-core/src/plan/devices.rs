//! Device nodes: those every container has and those asked for.

use std::ffi::CString;

use nix::sys::stat::{Mode, SFlag, makedev};

use super::c_string;
use super::namespaces::Namespaces;
use crate::error::{Error, Result};
use crate::spec::{self, NamespaceKind};

/// A device node.
#[derive(Debug)]
pub(crate) struct Device {
    /// Absolute path in the container, and of the same node on the host.
    pub(crate) path: CString,
    pub(crate) kind: SFlag,
    pub(crate) number: u64,
    pub(crate) mode: Mode,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Place in `linux.devices`; none for those every container has.
    pub(crate) index: Option<usize>,
    /// Whether the node of the host is bound instead: who has a user namespace may make none.
    pub(crate) bind: bool,
}

/// Nodes that every container has, config-linux.md "Default Devices".
const DEFAULTS: [(&str, u64, u64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/random", 1, 8),
    ("/dev/full", 1, 7),
    ("/dev/tty", 5, 0),
    ("/dev/zero", 1, 5),
    ("/dev/urandom", 1, 9),
];

pub(super) fn compile(written: &[spec::Device], namespaces: &Namespaces) -> Result<Vec<Device>> {
    let bind = namespaces.has(NamespaceKind::User);
    let mut devices = Vec::new();
    for (path, major, minor) in DEFAULTS {
        if written.iter().any(|device| device.path == path) {
            continue;
        }
        devices.push(Device {
            path: c_string(path, "")?,
            kind: SFlag::S_IFCHR,
            number: makedev(major, minor),
            mode: Mode::from_bits_truncate(0o666),
            uid: 0,
            gid: 0,
            index: None,
            bind,
        });
    }
    for (index, device) in written.iter().enumerate() {
        devices.push(compile_one(device, index, bind)?);
    }
    Ok(devices)
}

fn compile_one(written: &spec::Device, index: usize, bind: bool) -> Result<Device> {
    let pointer = |field: &str| format!("/linux/devices/{index}/{field}");
    let kind = match written.kind.as_str() {
        "c" | "u" => SFlag::S_IFCHR,
        "b" => SFlag::S_IFBLK,
        "p" => SFlag::S_IFIFO,
        other => {
            return Err(Error::invalid_spec(
                &pointer("type"),
                &format!("{other:?} is none of c, u, b, p"),
            ));
        }
    };
    if !written.path.starts_with('/') {
        return Err(Error::invalid_spec(
            &pointer("path"),
            &format!("{:?} is not an absolute path", written.path),
        ));
    }
    let number = |value: Option<i64>, field| -> Result<u64> {
        match value.map(u32::try_from) {
            Some(Ok(number)) => Ok(u64::from(number)),
            None if kind == SFlag::S_IFIFO => Ok(0),
            None => Err(Error::invalid_spec(&pointer(field), "missing")),
            Some(Err(_)) => Err(Error::invalid_spec(
                &pointer(field),
                "is not a device number",
            )),
        }
    };
    Ok(Device {
        path: c_string(&super::cleaned(&written.path), &pointer("path"))?,
        kind,
        number: makedev(
            number(written.major, "major")?,
            number(written.minor, "minor")?,
        ),
        mode: Mode::from_bits_truncate(written.file_mode.unwrap_or(0o666)),
        uid: written.uid.unwrap_or_default(),
        gid: written.gid.unwrap_or_default(),
        index: Some(index),
        bind: bind && kind != SFlag::S_IFIFO,
    })
}
