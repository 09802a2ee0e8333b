//! Kernel parameters: only those that belong to a namespace of the container's own.

use std::collections::BTreeMap;
use std::ffi::CString;

use super::namespaces::Namespaces;
use crate::error::{Error, Result};
use crate::spec::NamespaceKind;

/// A file below `/proc/sys` and what is written to it.
#[derive(Debug)]
pub(crate) struct Sysctl {
    /// As in the configuration, for errors.
    pub(crate) key: String,
    /// Relative to the root of a procfs.
    pub(crate) file: CString,
    pub(crate) value: Vec<u8>,
}

/// Parameters of the IPC namespace beside `fs.mqueue.*`.
const IPC: [&str; 10] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.auto_msgmni",
    "kernel.msg_next_id",
];

pub(crate) fn compile(
    written: Option<&BTreeMap<String, String>>,
    namespaces: &Namespaces,
) -> Result<Vec<Sysctl>> {
    let mut sysctls = Vec::new();
    for (key, value) in written.into_iter().flatten() {
        let pointer = format!(
            "/linux/sysctl/{}",
            key.replace('~', "~0").replace('/', "~1")
        );
        let invalid = |text: String| Error::invalid_spec(&pointer, &text);
        let path = path(key)
            .ok_or_else(|| invalid(format!("{key:?} is no name of a kernel parameter")))?;
        let dotted = path.replace('/', ".");
        match namespace(&dotted) {
            Some(kind) if namespaces.has(kind) => {}
            Some(kind) => {
                let text = format!(
                    "sysctl {key:?} is not allowed in the hosts {} namespace",
                    kind.name()
                );
                return Err(invalid(text));
            }
            None => {
                return Err(invalid(format!(
                    "sysctl {key:?} is not in a separate kernel namespace"
                )));
            }
        }
        let file = CString::new(format!("sys/{path}"))
            .map_err(|_| invalid("has a NUL byte".to_owned()))?;
        sysctls.push(Sysctl {
            key: key.clone(),
            file,
            value: value.clone().into_bytes(),
        });
    }
    Ok(sysctls)
}

/// The file of a parameter, by the rule of sysctl(8): whichever of `.` and `/` comes first separates.
fn path(key: &str) -> Option<String> {
    let slashes = match (key.find('.'), key.find('/')) {
        (Some(dot), Some(slash)) => slash < dot,
        (None, Some(_)) => true,
        _ => false,
    };
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    let path: String = if slashes {
        key.to_owned()
    } else {
        key.chars().map(swap).collect()
    };
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    (path.split('/').all(part) && !path.contains('\0')).then_some(path)
}

/// The namespace that holds a parameter, written with dots.
fn namespace(dotted: &str) -> Option<NamespaceKind> {
    match dotted {
        key if IPC.contains(&key) || key.starts_with("fs.mqueue.") => Some(NamespaceKind::Ipc),
        key if key.starts_with("net.") => Some(NamespaceKind::Network),
        key if key.starts_with("user.") => Some(NamespaceKind::User),
        // The host name has an element of its own, and two ways to set one thing would need an order.
        "kernel.domainname" => Some(NamespaceKind::Uts),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let cases = [
            ("net.ipv4.ip_forward", Some("net/ipv4/ip_forward")),
            (
                "net/ipv4/conf/eth0.100/forwarding",
                Some("net/ipv4/conf/eth0.100/forwarding"),
            ),
            (
                "net.ipv4.conf.eth0/100.forwarding",
                Some("net/ipv4/conf/eth0.100/forwarding"),
            ),
            ("net/../kernel/core_pattern", None),
            ("net..x", None),
            ("", None),
            ("/net", None),
        ];
        for (key, expected) in cases {
            assert_eq!(path(key).as_deref(), expected, "{key}");
        }
    }

    #[test]
    fn only_namespaced() {
        let cases = [
            ("kernel.shmmax", Some(NamespaceKind::Ipc)),
            ("fs.mqueue.msg_max", Some(NamespaceKind::Ipc)),
            ("net.core.somaxconn", Some(NamespaceKind::Network)),
            ("kernel.domainname", Some(NamespaceKind::Uts)),
            ("kernel.hostname", None),
            ("kernel.core_pattern", None),
            ("vm.swappiness", None),
            ("user.max_user_namespaces", Some(NamespaceKind::User)),
        ];
        for (key, expected) in cases {
            assert_eq!(namespace(key), expected, "{key}");
        }
    }
}
