//! Capability names to sets of bits, see capabilities(7).

use crate::spec;

/// Names by number. All that Linux has up to 6.x.
pub const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The five sets of a process, as bits by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sets {
    pub(crate) bounding: u64,
    pub(crate) effective: u64,
    pub(crate) inheritable: u64,
    pub(crate) permitted: u64,
    pub(crate) ambient: u64,
}

impl Sets {
    /// Absent sets are empty. A name that is not known gives a warning, as newer callers name newer capabilities.
    pub(crate) fn compile(
        written: Option<&spec::Capabilities>,
        warnings: &mut Vec<String>,
    ) -> Self {
        let Some(written) = written else {
            return Self::default();
        };
        let mut set = |names: &Option<Vec<String>>| {
            names
                .iter()
                .flatten()
                .fold(0, |bits, name| match number(name) {
                    Some(number) => bits | 1 << number,
                    None => {
                        let warning =
                            format!("ignoring unknown or unavailable capability {name:?}");
                        if !warnings.contains(&warning) {
                            warnings.push(warning);
                        }
                        bits
                    }
                })
        };
        Self {
            bounding: set(&written.bounding),
            effective: set(&written.effective),
            inheritable: set(&written.inheritable),
            permitted: set(&written.permitted),
            ambient: set(&written.ambient),
        }
    }
}

/// The number of the capability `name`, which may be given without `CAP_` and in small letters.
pub(crate) fn number(name: &str) -> Option<u32> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES
        .iter()
        .position(|known| known[4..] == *bare)
        .and_then(|number| u32::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (name, expected) in [
            ("CAP_CHOWN", Some(0)),
            ("cap_kill", Some(5)),
            ("BPF", Some(39)),
            ("CAP_", None),
            ("CAP_NONE", None),
        ] {
            assert_eq!(number(name), expected, "{name}");
        }
    }
}
