//! Mounts: options in the words of fstab(5) to attributes, parameters and propagation.

use std::ffi::{CStr, CString};

use super::c_string;
use super::idmap::{IdMap, Written};
use super::namespaces::Namespaces;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::kernel::mount::{Attributes as A, Change, Propagation, Scope};
use crate::spec;

mod options;

use options::Options;
pub use options::names as option_names;

/// One mount, resolved.
#[derive(Debug)]
pub(crate) struct Mount {
    /// Absolute path in the container, without `.` and `..`.
    pub(crate) destination: CString,
    pub(crate) kind: Kind,
    /// Attributes of the mount itself.
    pub(crate) change: Change,
    /// Attributes of the mount and of all below it (`rro` and the like).
    pub(crate) recursive: Change,
    /// In the order given.
    pub(crate) propagation: Vec<(Propagation, Scope)>,
    /// Whether the destination may lie inside procfs: only files that lxcfs and the like stand in for.
    pub(crate) inside_proc: bool,
}

/// What is mounted.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A file or directory of the host.
    Bind {
        source: String,
        scope: Scope,
        idmap: Option<IdMap>,
    },
    /// A file system made for the container.
    New {
        filesystem: CString,
        source: Option<CString>,
        parameters: Vec<(CString, Option<CString>)>,
        contents: Contents,
    },
    /// The container's view of its cgroups.
    Cgroup,
    /// New attributes for what is mounted there already.
    Remount,
}

/// What a new file system begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// What it has of its own.
    Own,
    /// A copy of what it covers (`tmpcopyup`).
    CopiedUp,
}

impl Mount {
    /// A directory of the host in which the container can do nothing but talk to sockets.
    pub(crate) fn of_sockets(source: String, destination: &CStr) -> Self {
        let safe = A::RDONLY.with(A::NOSUID).with(A::NODEV).with(A::NOEXEC);
        Self {
            destination: destination.to_owned(),
            kind: Kind::Bind {
                source,
                scope: Scope::One,
                idmap: None,
            },
            change: Change {
                set: safe,
                clear: A::default(),
            },
            recursive: Change::default(),
            propagation: Vec::new(),
            inside_proc: false,
        }
    }
}

/// Whether `/dev` gets its nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DevSetup {
    /// Default nodes and links are made.
    Populate,
    /// `/dev` is bind mounted: what is in it is the caller's.
    Leave,
}

impl DevSetup {
    pub(super) fn of(mounts: &[Mount]) -> Self {
        let bound = |mount: &Mount| {
            matches!(mount.kind, Kind::Bind { .. }) && mount.destination.as_bytes() == b"/dev"
        };
        if mounts.iter().any(bound) {
            Self::Leave
        } else {
            Self::Populate
        }
    }
}

/// Resolves the mounts, whose order is kept.
pub(crate) fn compile(
    written: &[spec::Mount],
    namespaces: &Namespaces,
    warnings: &mut Vec<String>,
) -> Result<Vec<Mount>> {
    written
        .iter()
        .enumerate()
        .map(|(index, mount)| compile_one((mount, index), namespaces, warnings))
        .collect()
}

/// Labels the file systems that are made for the container. Those of the kernel have labels of their own.
pub(crate) fn label(mounts: &mut [Mount], label: Option<&CString>) {
    let Some(label) = label else { return };
    for mount in mounts {
        if let Kind::New {
            filesystem,
            parameters,
            ..
        } = &mut mount.kind
            && !matches!(filesystem.to_bytes(), b"proc" | b"sysfs" | b"mqueue")
        {
            parameters.push((c"context".to_owned(), Some(label.clone())));
        }
    }
}

/// What only the host's root may do.
pub(super) fn check_rights(mounts: &[Mount], host: &Host) -> Result<()> {
    let mapped = |mount: &Mount| matches!(mount.kind, Kind::Bind { idmap: Some(_), .. });
    match mounts.iter().position(mapped) {
        Some(index) if !host.can_mount => Err(Error::unsupported(format!(
            "/mounts/{index}: id-mapped mounts need CAP_SYS_ADMIN on the host"
        ))),
        _ => Ok(()),
    }
}

fn compile_one(
    which: (&spec::Mount, usize),
    namespaces: &Namespaces,
    warnings: &mut Vec<String>,
) -> Result<Mount> {
    let (written, index) = which;
    let pointer = format!("/mounts/{index}");
    let destination = destination(&written.destination, &pointer, warnings)?;
    let options = Options::compile(written.options.as_deref().unwrap_or_default());
    let idmap = IdMap::compile(
        &Written {
            uids: written.uid_mappings.as_deref(),
            gids: written.gid_mappings.as_deref(),
            option: options.idmap,
        },
        namespaces,
        &pointer,
    )?;
    let type_name = written.kind.as_deref().unwrap_or_default();
    let bind = options
        .bind
        .or_else(|| (type_name == "bind").then_some(Scope::One));
    let kind = match (options.remount, bind, type_name) {
        (false, Some(scope), _) => {
            let source = bind_source(written, &options, &pointer)?;
            Kind::Bind {
                source,
                scope,
                idmap,
            }
        }
        _ if idmap.is_some() => {
            let text = "only bind mounts can be id-mapped";
            return Err(Error::invalid_spec(&pointer, text));
        }
        (true, _, _) => Kind::Remount,
        (_, _, "") => {
            return Err(Error::invalid_spec(
                &format!("{pointer}/type"),
                "missing: neither a type nor a bind mount",
            ));
        }
        (_, _, "cgroup" | "cgroup2") => Kind::Cgroup,
        _ => new_kind(written, &options, type_name, &pointer)?,
    };
    let inside_proc = check_proc(&destination, &kind, &pointer)?;
    Ok(Mount {
        destination: c_string(&destination, &format!("{pointer}/destination"))?,
        kind,
        change: options.change,
        recursive: options.recursive,
        propagation: options.propagation,
        inside_proc,
    })
}

fn bind_source(written: &spec::Mount, options: &Options, pointer: &str) -> Result<String> {
    let Some(source) = written.source.clone().filter(|source| !source.is_empty()) else {
        return Err(Error::invalid_spec(
            &format!("{pointer}/source"),
            "missing: a bind mount needs one",
        ));
    };
    if source.contains('\0') {
        return Err(Error::invalid_spec(
            &format!("{pointer}/source"),
            "has a NUL byte",
        ));
    }
    if let Some(index) = options.copy_up {
        return Err(Error::invalid_spec(
            &format!("{pointer}/options/{index}"),
            "tmpcopyup is for tmpfs, not for a bind mount",
        ));
    }
    if let Some((index, option)) = options.parameters.first() {
        let text =
            format!("bind mounts cannot have any filesystem-specific options applied: {option:?}");
        return Err(Error::invalid_spec(
            &format!("{pointer}/options/{index}"),
            &text,
        ));
    }
    Ok(source)
}

fn new_kind(
    written: &spec::Mount,
    options: &Options,
    type_name: &str,
    pointer: &str,
) -> Result<Kind> {
    let mut parameters = Vec::new();
    for (index, option) in &options.parameters {
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (option.as_str(), None),
        };
        let pointer = format!("{pointer}/options/{index}");
        parameters.push((
            c_string(key, &pointer)?,
            value.map(|value| c_string(value, &pointer)).transpose()?,
        ));
    }
    let contents = match options.copy_up {
        None => Contents::Own,
        Some(_) if type_name == "tmpfs" => Contents::CopiedUp,
        Some(index) => {
            return Err(Error::invalid_spec(
                &format!("{pointer}/options/{index}"),
                &format!("tmpcopyup is for tmpfs, not for {type_name}"),
            ));
        }
    };
    // mount(2) made both the mount and the file system read-only. What is to be filled is so later, as a mount.
    if options.change.set.contains(A::RDONLY) && contents == Contents::Own {
        parameters.push((c"ro".to_owned(), None));
    }
    let source = written
        .source
        .as_deref()
        .filter(|source| !source.is_empty());
    Ok(Kind::New {
        filesystem: c_string(type_name, &format!("{pointer}/type"))?,
        source: source
            .map(|source| c_string(source, &format!("{pointer}/source")))
            .transpose()?,
        parameters,
        contents,
    })
}

/// Files of procfs that others may stand in for, as lxcfs does.
const PROC_FILES: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Whether the destination may lie inside procfs. `/proc` itself must be a procfs, and what is in it must be the
/// kernel's: a false `/proc` takes labels and parameters to the wrong file (CVE-2019-16884, CVE-2019-19921).
fn check_proc(destination: &str, kind: &Kind, pointer: &str) -> Result<bool> {
    let invalid = |text: &str| {
        Err(Error::invalid_spec(
            &format!("{pointer}/destination"),
            &format!("{destination:?} {text}"),
        ))
    };
    if destination == "/proc" {
        return match kind {
            // What a bind mount shows is seen when it is made.
            Kind::Bind { .. } | Kind::Remount => Ok(false),
            Kind::New { filesystem, .. } if filesystem.as_c_str() == c"proc" => Ok(false),
            _ => invalid("cannot be mounted because it is not of type proc"),
        };
    }
    if !destination.starts_with("/proc/") || matches!(kind, Kind::Remount) {
        return Ok(false);
    }
    if PROC_FILES.contains(&destination) && matches!(kind, Kind::Bind { .. }) {
        return Ok(true);
    }
    invalid("cannot be mounted because it is inside /proc")
}

/// The destination as an absolute path without `.`, `..` and double slashes.
fn destination(written: &str, pointer: &str, warnings: &mut Vec<String>) -> Result<String> {
    if written.is_empty() {
        return Err(Error::invalid_spec(
            &format!("{pointer}/destination"),
            "empty",
        ));
    }
    if !written.starts_with('/') {
        warnings.push(format!("{pointer}/destination: mount destination {written:?} is not absolute, taken from the root"));
    }
    match super::cleaned(written) {
        root if root == "/" => Err(Error::invalid_spec(
            &format!("{pointer}/destination"),
            "the root cannot be mounted over",
        )),
        path => Ok(path),
    }
}

/// Propagation of the mounts of the new namespace.
pub(crate) fn root_propagation(written: Option<&str>) -> Result<(Propagation, Scope)> {
    let Some(name) = written.filter(|name| !name.is_empty()) else {
        return Ok((Propagation::Slave, Scope::Tree));
    };
    match options::propagation(name) {
        Some(propagation) => Ok(propagation),
        None => {
            let text = format!("rootfsPropagation={name} is not supported");
            Err(Error::invalid_spec("/linux/rootfsPropagation", &text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile_one(
        written: &spec::Mount,
        index: usize,
        warnings: &mut Vec<String>,
    ) -> Result<Mount> {
        let namespaces = Namespaces::compile(&spec::Linux::default())?;
        super::compile_one((written, index), &namespaces, warnings)
    }

    fn mount(kind: &str, destination: &str, options: &[&str]) -> spec::Mount {
        spec::Mount {
            destination: destination.to_owned(),
            kind: (!kind.is_empty()).then(|| kind.to_owned()),
            source: Some("/src".to_owned()),
            options: Some(options.iter().map(|&option| option.to_owned()).collect()),
            ..spec::Mount::default()
        }
    }

    #[test]
    fn options_add_up() {
        let cases: [(&[&str], Change, Change); 6] = [
            (
                &["ro", "nosuid"],
                Change {
                    set: A::RDONLY.with(A::NOSUID),
                    clear: A(0),
                },
                Change::default(),
            ),
            (
                &["ro", "rw"],
                Change {
                    set: A(0),
                    clear: A::RDONLY,
                },
                Change::default(),
            ),
            (
                &["noatime"],
                Change {
                    set: A::NOATIME,
                    clear: A::ATIME,
                },
                Change::default(),
            ),
            (
                &["noatime", "relatime"],
                Change {
                    set: A(0),
                    clear: A::ATIME,
                },
                Change::default(),
            ),
            (
                &["rro", "rnodev"],
                Change::default(),
                Change {
                    set: A::RDONLY.with(A::NODEV),
                    clear: A(0),
                },
            ),
            (
                &["rrelatime"],
                Change::default(),
                Change {
                    set: A(0),
                    clear: A::ATIME,
                },
            ),
        ];
        for (options, change, recursive) in cases {
            let all: Vec<&str> = ["rbind"].iter().chain(options).copied().collect();
            let mount = compile_one(&mount("bind", "/d", &all), 0, &mut Vec::new()).unwrap();
            assert_eq!(
                (mount.change, mount.recursive),
                (change, recursive),
                "{options:?}"
            );
        }
    }

    #[test]
    fn refused() {
        let cases = [
            (mount("", "/d", &[]), "/mounts/0/type"),
            (mount("tmpfs", "", &[]), "/mounts/0/destination"),
            (mount("tmpfs", "/a/..", &[]), "/mounts/0/destination"),
            (mount("tmpfs", "/proc", &[]), "/mounts/0/destination"),
            (mount("tmpfs", "/proc/sys", &[]), "/mounts/0/destination"),
            (
                mount("tmpfs", "/x/../proc/uptime", &[]),
                "/mounts/0/destination",
            ),
            (
                mount("bind", "/proc/sys/kernel", &["bind"]),
                "/mounts/0/destination",
            ),
            (
                mount("bind", "/d", &["bind", "size=1m"]),
                "/mounts/0/options/1",
            ),
            (
                mount("bind", "/d", &["bind", "tmpcopyup"]),
                "/mounts/0/options/1",
            ),
            (mount("ramfs", "/d", &["tmpcopyup"]), "/mounts/0/options/0"),
        ];
        let map = [spec::IdMapping {
            container_id: 0,
            host_id: 5,
            size: 1,
        }];
        let mapped = spec::Mount {
            uid_mappings: Some(map.to_vec()),
            gid_mappings: Some(map.to_vec()),
            ..mount("tmpfs", "/d", &[])
        };
        for (mount, pointer) in cases.into_iter().chain([(mapped, "/mounts/0")]) {
            let error = compile_one(&mount, 0, &mut Vec::new()).unwrap_err();
            assert_eq!(error.pointer(), Some(pointer), "{mount:?}: {error}");
        }
    }

    #[test]
    fn proc_files_may_be_stood_in_for() {
        for (destination, inside) in [
            ("/proc/uptime", true),
            ("/proc/net/dev", true),
            ("/data/proc", false),
        ] {
            let mount =
                compile_one(&mount("bind", destination, &["bind"]), 0, &mut Vec::new()).unwrap();
            assert_eq!(mount.inside_proc, inside, "{destination}");
        }
    }

    #[test]
    fn file_systems_keep_their_parameters() {
        let mount = compile_one(
            &mount(
                "tmpfs",
                "/t",
                &["nosuid", "mode=755", "size=64k,nr_inodes=7", "ro"],
            ),
            0,
            &mut Vec::new(),
        );
        let Kind::New { parameters, .. } = mount.unwrap().kind else {
            panic!("not a new file system")
        };
        let parameters: Vec<_> = parameters
            .iter()
            .map(|(key, value)| {
                (
                    key.to_str().unwrap(),
                    value.as_deref().map(|v| v.to_str().unwrap()),
                )
            })
            .collect();
        assert_eq!(
            parameters,
            [
                ("mode", Some("755")),
                ("size", Some("64k")),
                ("nr_inodes", Some("7")),
                ("ro", None)
            ]
        );
    }

    #[test]
    fn what_is_copied_up_is_read_only_later() {
        let options = ["tmpcopyup", "ro"];
        let mount = compile_one(&mount("tmpfs", "/t", &options), 0, &mut Vec::new()).unwrap();
        assert!(mount.change.set.contains(A::RDONLY));
        let Kind::New {
            parameters,
            contents,
            ..
        } = mount.kind
        else {
            panic!("not a new file system")
        };
        assert_eq!((parameters.len(), contents), (0, Contents::CopiedUp));
    }

    #[test]
    fn labels_are_for_what_is_made() {
        let made = |kind: &str| {
            let mut mounts = [compile_one(&mount(kind, "/d", &[]), 0, &mut Vec::new()).unwrap()];
            label(&mut mounts, Some(&c"system_u:object_r:x:s0".to_owned()));
            let [mount] = mounts;
            match mount.kind {
                Kind::New { parameters, .. } => parameters.len(),
                _ => 0,
            }
        };
        assert_eq!(
            ["tmpfs", "devpts", "sysfs", "mqueue", "bind"].map(made),
            [1, 1, 0, 0, 0]
        );
    }

    #[test]
    fn destinations_are_cleaned() {
        let mut warnings = Vec::new();
        for (written, clean) in [
            ("/a//b/./c/", "/a/b/c"),
            ("/a/../../b", "/b"),
            ("rel", "/rel"),
        ] {
            assert_eq!(destination(written, "", &mut warnings).unwrap(), clean);
        }
        assert_eq!(warnings.len(), 1);
    }
}
