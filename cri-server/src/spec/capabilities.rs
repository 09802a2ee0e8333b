//! Capability sets of a container.

use crate::api::Capability;
use crate::error::{Result, invalid};
use serde_json::{Value, json};

/// All that Linux has, in the order of their numbers.
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The sets, by full names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sets {
    /// Bounding, effective and permitted.
    pub main: Vec<String>,
    /// Ambient, and with it inheritable.
    pub ambient: Vec<String>,
}

impl Sets {
    /// `process.capabilities`.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "bounding": self.main,
            "effective": self.main,
            "permitted": self.main,
            "inheritable": self.ambient,
            "ambient": self.ambient,
        })
    }
}

/// What a container gets. `host` is what this daemon may give at all, `ALL` stands for that; `defaults` is where one
/// starts from.
///
/// # Errors
/// `Invalid` for a name that is none.
pub fn sets(wanted: Option<&Capability>, defaults: &[String], host: &[String]) -> Result<Sets> {
    let empty = Capability::default();
    let wanted = wanted.unwrap_or(&empty);
    let list = |names: &[String], field: &str| -> Result<(bool, Vec<String>)> {
        let mut is_all = false;
        let mut list = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let name = name.to_uppercase();
            if name == "ALL" {
                is_all = true;
                continue;
            }
            let place = format!("config.linux.security_context.capabilities.{field}[{index}]");
            list.push(
                full(&name)
                    .ok_or_else(|| invalid(place, format!("{name:?} is not a capability")))?,
            );
        }
        Ok((is_all, list))
    };
    let (adds_all, added) = list(&wanted.add_capabilities, "add_capabilities")?;
    let (drops_all, dropped) = list(&wanted.drop_capabilities, "drop_capabilities")?;
    let (ambient_all, ambient) =
        list(&wanted.add_ambient_capabilities, "add_ambient_capabilities")?;
    let mut main = if adds_all {
        host.to_vec()
    } else {
        let known = defaults
            .iter()
            .filter_map(|name| full(&name.to_uppercase()));
        known.filter(|name| host.contains(name)).collect()
    };
    if drops_all {
        main.clear();
    }
    let ambient = if ambient_all { host.to_vec() } else { ambient };
    for name in added.iter().chain(&ambient) {
        if !main.contains(name) {
            main.push(name.clone());
        }
    }
    main.retain(|name| !dropped.contains(name));
    let ambient = ambient.into_iter().filter(|name| main.contains(name));
    Ok(Sets {
        ambient: ambient.collect(),
        main,
    })
}

/// The full name of a capability in capital letters.
#[must_use]
pub fn full(name: &str) -> Option<String> {
    let short = name.strip_prefix("CAP_").unwrap_or(name);
    NAMES.contains(&short).then(|| format!("CAP_{short}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn wanted(add: &str, drop: &str, ambient: &str) -> Capability {
        Capability {
            add_capabilities: names(add),
            drop_capabilities: names(drop),
            add_ambient_capabilities: names(ambient),
        }
    }

    #[test]
    fn adding_and_dropping() {
        let host = names("CAP_CHOWN CAP_KILL CAP_NET_ADMIN CAP_SYS_ADMIN");
        let defaults = names("CHOWN CAP_KILL SYS_RESOURCE");
        for (wanted, main, ambient) in [
            (wanted("", "", ""), "CAP_CHOWN CAP_KILL", ""),
            (
                wanted("net_admin", "", ""),
                "CAP_CHOWN CAP_KILL CAP_NET_ADMIN",
                "",
            ),
            (wanted("", "CAP_KILL", ""), "CAP_CHOWN", ""),
            (
                wanted("ALL", "", ""),
                "CAP_CHOWN CAP_KILL CAP_NET_ADMIN CAP_SYS_ADMIN",
                "",
            ),
            (
                wanted("ALL", "KILL", ""),
                "CAP_CHOWN CAP_NET_ADMIN CAP_SYS_ADMIN",
                "",
            ),
            (wanted("", "ALL", ""), "", ""),
            (wanted("NET_ADMIN", "all", ""), "CAP_NET_ADMIN", ""),
            (wanted("", "ALL", "KILL"), "CAP_KILL", "CAP_KILL"),
            (wanted("", "KILL", "KILL"), "CAP_CHOWN", ""),
        ] {
            let found = sets(Some(&wanted), &defaults, &host).unwrap();
            assert_eq!(found.main, names(main), "{wanted:?}");
            assert_eq!(found.ambient, names(ambient), "{wanted:?}");
        }
    }

    #[test]
    fn names_that_are_none() {
        let error = sets(Some(&wanted("KILL FLY", "", "")), &[], &[]).unwrap_err();
        let field = "config.linux.security_context.capabilities.add_capabilities[1]";
        assert!(error.to_string().starts_with(field), "{error}");
    }
}
