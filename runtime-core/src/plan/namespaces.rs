//! Namespaces: which are new, which are joined, and the ids of a new user namespace.

use std::fmt::Write;

use nix::sched::CloneFlags;

use crate::error::{Error, Result};
use crate::kernel::clone::CLONE_NEWTIME;
use crate::spec::{IdMapping, Linux, NamespaceKind};

/// The namespaces of a container.
#[derive(Debug)]
pub(crate) struct Namespaces {
    /// Those to be made.
    pub(crate) new: CloneFlags,
    /// Those to be joined, in the order of joining.
    pub(crate) joined: Vec<Joined>,
    /// For `/proc/PID/uid_map` of a new user namespace.
    pub(crate) uid_map: Vec<IdMapping>,
    /// For `/proc/PID/gid_map`.
    pub(crate) gid_map: Vec<IdMapping>,
    /// For `/proc/PID/timens_offsets`, when there are any.
    pub(crate) time_offsets: Option<String>,
}

/// A namespace that exists already.
#[derive(Clone, Debug)]
pub(crate) struct Joined {
    pub(crate) kind: NamespaceKind,
    pub(crate) path: String,
    /// Place in `linux.namespaces`.
    pub(crate) index: usize,
}

impl NamespaceKind {
    /// The flag of clone3 and setns.
    pub(crate) fn flag(self) -> CloneFlags {
        match self {
            Self::User => CloneFlags::CLONE_NEWUSER,
            Self::Pid => CloneFlags::CLONE_NEWPID,
            Self::Network => CloneFlags::CLONE_NEWNET,
            Self::Mount => CloneFlags::CLONE_NEWNS,
            Self::Ipc => CloneFlags::CLONE_NEWIPC,
            Self::Uts => CloneFlags::CLONE_NEWUTS,
            Self::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            Self::Time => CloneFlags::from_bits_retain(CLONE_NEWTIME),
        }
    }

    /// The name in `config.json`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Pid => "pid",
            Self::Network => "network",
            Self::Mount => "mount",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }
}

/// Names of all namespaces that can be asked for.
#[must_use]
pub fn names() -> [&'static str; 8] {
    [
        NamespaceKind::Cgroup,
        NamespaceKind::Ipc,
        NamespaceKind::Mount,
        NamespaceKind::Network,
        NamespaceKind::Pid,
        NamespaceKind::Time,
        NamespaceKind::User,
        NamespaceKind::Uts,
    ]
    .map(NamespaceKind::name)
}

impl Namespaces {
    pub(crate) fn compile(linux: &Linux) -> Result<Self> {
        let mut namespaces = Self {
            new: CloneFlags::empty(),
            joined: Vec::new(),
            uid_map: linux.uid_mappings.clone().unwrap_or_default(),
            gid_map: linux.gid_mappings.clone().unwrap_or_default(),
            time_offsets: None,
        };
        for (index, namespace) in linux.namespaces.iter().flatten().enumerate() {
            let kind = namespace.kind;
            if namespaces.has(kind) {
                let pointer = format!("/linux/namespaces/{index}/type");
                return Err(Error::invalid_spec(
                    &pointer,
                    &format!("{} is there twice", kind.name()),
                ));
            }
            match namespace.path.as_deref() {
                None | Some("") => namespaces.new |= kind.flag(),
                Some(path) if path.contains('\0') => {
                    return Err(Error::invalid_spec(
                        &format!("/linux/namespaces/{index}/path"),
                        "has a NUL byte",
                    ));
                }
                Some(path) => namespaces.joined.push(Joined {
                    kind,
                    path: path.to_owned(),
                    index,
                }),
            }
        }
        // The user namespace first, for the others may belong to it; the mount namespace last, for it takes away the
        // paths. That is the order of the enumeration but for the mounts.
        namespaces
            .joined
            .sort_by_key(|joined| (joined.kind == NamespaceKind::Mount, joined.kind));
        namespaces.check_maps()?;
        namespaces.time_offsets = namespaces.time_offsets(linux)?;
        Ok(namespaces)
    }

    /// Whether the container has a namespace of this kind that is not the caller's.
    pub(crate) fn has(&self, kind: NamespaceKind) -> bool {
        self.new.contains(kind.flag()) || self.joins(kind)
    }

    /// Whether the container joins a namespace of this kind.
    pub(crate) fn joins(&self, kind: NamespaceKind) -> bool {
        self.joined.iter().any(|joined| joined.kind == kind)
    }

    /// Whether the container's process is the child of one that joins namespaces first: those whose members are only
    /// the children of who joins, and new ones that are to belong to a joined user namespace.
    pub(crate) fn needs_second_process(&self) -> bool {
        self.joins(NamespaceKind::Pid)
            || self.joins(NamespaceKind::User)
            || self.new.contains(NamespaceKind::Time.flag())
    }

    /// Whether the first process waits until the parent has done what a user namespace or a second process would be
    /// out of its reach for.
    pub(crate) fn waits_for_parent(&self) -> bool {
        self.new.contains(CloneFlags::CLONE_NEWUSER) || self.needs_second_process()
    }

    /// New namespaces made by the first clone. A cgroup namespace is made later, by who is in its cgroup already.
    pub(crate) fn flags_of_first_clone(&self) -> CloneFlags {
        if self.needs_second_process() {
            self.new & CloneFlags::CLONE_NEWUSER
        } else {
            self.new_by_clone()
        }
    }

    /// New namespaces made by the second clone, where there is one.
    pub(crate) fn flags_of_second_clone(&self) -> CloneFlags {
        self.new_by_clone() - CloneFlags::CLONE_NEWUSER
    }

    fn new_by_clone(&self) -> CloneFlags {
        // Nor is a network namespace, the one kind that takes long: the child makes it while the parent makes cgroups.
        self.new
            - CloneFlags::CLONE_NEWCGROUP
            - CloneFlags::CLONE_NEWNET
            - NamespaceKind::Time.flag()
    }

    /// User and group id of the container's root on the host.
    pub(crate) fn root_ids(&self) -> (u32, u32) {
        let host = |map: &[IdMapping]| {
            let range = map.iter().find(|range| range.container_id == 0);
            range.map_or(0, |range| range.host_id)
        };
        (host(&self.uid_map), host(&self.gid_map))
    }

    fn check_maps(&self) -> Result<()> {
        let new_user = self.new.contains(CloneFlags::CLONE_NEWUSER);
        for (map, pointer) in [
            (&self.uid_map, "/linux/uidMappings"),
            (&self.gid_map, "/linux/gidMappings"),
        ] {
            if new_user && map.is_empty() {
                return Err(Error::invalid_spec(
                    pointer,
                    "missing: a new user namespace needs mappings",
                ));
            }
            if !map.is_empty() && !self.has(NamespaceKind::User) {
                return Err(Error::invalid_spec(
                    pointer,
                    "given without a user namespace",
                ));
            }
            super::idmap::check_map(map, pointer)?;
        }
        Ok(())
    }

    fn time_offsets(&self, linux: &Linux) -> Result<Option<String>> {
        let Some(offsets) = linux
            .time_offsets
            .as_ref()
            .filter(|offsets| !offsets.is_empty())
        else {
            return Ok(None);
        };
        if !self.new.contains(NamespaceKind::Time.flag()) {
            return Err(Error::invalid_spec(
                "/linux/timeOffsets",
                "given without a new time namespace",
            ));
        }
        let mut text = String::new();
        for (clock, offset) in offsets {
            if !matches!(clock.as_str(), "monotonic" | "boottime") {
                let pointer = format!("/linux/timeOffsets/{clock}");
                return Err(Error::invalid_spec(
                    &pointer,
                    "only monotonic and boottime have offsets",
                ));
            }
            let _ = writeln!(text, "{clock} {} {}", offset.secs, offset.nanosecs);
        }
        Ok(Some(text))
    }
}
