//! Network devices that move into the container: config-linux.md "Network Devices".

use std::collections::BTreeMap;

use super::namespaces::Namespaces;
use crate::error::{Error, Result};
use crate::spec::{NamespaceKind, NetDevice as Written};

/// `IFNAMSIZ` of the kernel, with the NUL.
const NAME_SIZE: usize = 16;

/// A device and its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetDevice {
    /// On the host.
    pub(crate) outside: String,
    /// In the container.
    pub(crate) inside: String,
}

pub(super) fn compile(
    written: Option<&BTreeMap<String, Written>>,
    namespaces: &Namespaces,
) -> Result<Vec<NetDevice>> {
    let mut devices: Vec<NetDevice> = Vec::new();
    for (outside, device) in written.into_iter().flatten() {
        let pointer = format!(
            "/linux/netDevices/{}",
            outside.replace('~', "~0").replace('/', "~1")
        );
        if !namespaces.has(NamespaceKind::Network) {
            let text = "network devices need a network namespace to move to";
            return Err(Error::invalid_spec("/linux/netDevices", text));
        }
        check_name(outside, &pointer)?;
        let inside = match device.name.as_deref() {
            None | Some("") => outside,
            Some(name) => {
                check_name(name, &format!("{pointer}/name"))?;
                name
            }
        };
        if devices.iter().any(|known| known.inside == inside) {
            return Err(Error::invalid_spec(
                &format!("{pointer}/name"),
                &format!("two devices cannot both be {inside:?}"),
            ));
        }
        devices.push(NetDevice {
            outside: outside.clone(),
            inside: inside.to_owned(),
        });
    }
    Ok(devices)
}

/// As the kernel checks it.
fn check_name(name: &str, pointer: &str) -> Result<()> {
    let is_bad = |c: char| c == '/' || c == ':' || c == '\0' || c.is_ascii_whitespace();
    if name.is_empty()
        || name.len() >= NAME_SIZE
        || matches!(name, "." | "..")
        || name.contains(is_bad)
    {
        return Err(Error::invalid_spec(
            pointer,
            &format!("{name:?} is no name of a network device"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Linux, Namespace};

    fn devices(pairs: &[(&str, Option<&str>)], network: bool) -> Result<Vec<NetDevice>> {
        let namespace = Namespace {
            kind: NamespaceKind::Network,
            path: None,
        };
        let namespaces = Namespaces::compile(&Linux {
            namespaces: network.then(|| vec![namespace]),
            ..Linux::default()
        })?;
        let written = pairs.iter().map(|(outside, inside)| {
            let name = inside.map(str::to_owned);
            ((*outside).to_owned(), Written { name })
        });
        compile(Some(&written.collect()), &namespaces)
    }

    #[test]
    fn names() {
        let found = devices(
            &[("eth0", None), ("eth1", Some("lan")), ("eth2", Some(""))],
            true,
        )
        .unwrap();
        let names: Vec<_> = found.iter().map(|device| device.inside.as_str()).collect();
        assert_eq!(names, ["eth0", "lan", "eth2"]);
        assert_eq!(devices(&[], false).unwrap(), []);
        for (pairs, pointer) in [
            (&[("a/b", None)][..], "/linux/netDevices/a~1b"),
            (&[("..", None)], "/linux/netDevices/.."),
            (
                &[("sixteen-letters-", None)],
                "/linux/netDevices/sixteen-letters-",
            ),
            (&[("a", Some("b c"))], "/linux/netDevices/a/name"),
            (
                &[("a", Some("x")), ("b", Some("x"))],
                "/linux/netDevices/b/name",
            ),
            (&[("a", Some("b")), ("b", None)], "/linux/netDevices/b/name"),
        ] {
            assert_eq!(
                devices(pairs, true).unwrap_err().pointer(),
                Some(pointer),
                "{pairs:?}"
            );
        }
        let error = devices(&[("eth0", None)], false).unwrap_err();
        assert_eq!(error.pointer(), Some("/linux/netDevices"));
    }
}
