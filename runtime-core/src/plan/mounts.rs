//! Mounts: options in the words of fstab(5) to attributes, parameters and propagation.

use std::ffi::CString;

use super::c_string;
use crate::error::{Error, Result};
use crate::kernel::mount::{Attributes, Change, Propagation, Scope};
use crate::spec;

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
    Bind { source: String, scope: Scope },
    /// A file system made for the container.
    New {
        filesystem: CString,
        source: Option<CString>,
        parameters: Vec<(CString, Option<CString>)>,
    },
    /// The container's view of its cgroups.
    Cgroup,
    /// New attributes for what is mounted there already.
    Remount,
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

/// What an option does.
#[derive(Clone, Copy)]
enum Effect {
    Set(Attributes),
    Clear(Attributes),
    /// One of the three policies for access times.
    AccessTime(Attributes),
    SetAll(Attributes),
    ClearAll(Attributes),
    AccessTimeAll(Attributes),
    Propagation(Propagation, Scope),
    Bind(Scope),
    /// A parameter of the file system, by the same name.
    Parameter,
    Remount,
    Nothing,
    Unsupported,
}

use Attributes as A;
use Effect::{
    AccessTime, AccessTimeAll, Bind, Clear, ClearAll, Nothing, Parameter, Remount, Set, SetAll,
    Unsupported,
};
use Propagation::{Private, Shared, Slave, Unbindable};
use Scope::{One, Tree};

/// Every option that is not the file system's own.
const OPTIONS: [(&str, Effect); 65] = [
    ("acl", Parameter),
    ("async", Nothing),
    ("atime", AccessTime(A(0))),
    ("bind", Bind(One)),
    ("defaults", Nothing),
    ("dev", Clear(A::NODEV)),
    ("diratime", Clear(A::NODIRATIME)),
    ("dirsync", Parameter),
    ("exec", Clear(A::NOEXEC)),
    ("idmap", Unsupported),
    ("iversion", Parameter),
    ("lazytime", Parameter),
    ("loud", Nothing),
    ("mand", Parameter),
    ("noacl", Parameter),
    ("noatime", AccessTime(A::NOATIME)),
    ("nodev", Set(A::NODEV)),
    ("nodiratime", Set(A::NODIRATIME)),
    ("noexec", Set(A::NOEXEC)),
    ("noiversion", Nothing),
    ("nolazytime", Nothing),
    ("nomand", Nothing),
    ("norelatime", Nothing),
    ("nostrictatime", AccessTime(A(0))),
    ("nosuid", Set(A::NOSUID)),
    ("nosymfollow", Set(A::NOSYMFOLLOW)),
    ("private", Effect::Propagation(Private, One)),
    ("ratime", AccessTimeAll(A(0))),
    ("rbind", Bind(Tree)),
    ("rdev", ClearAll(A::NODEV)),
    ("rdiratime", ClearAll(A::NODIRATIME)),
    ("relatime", AccessTime(A(0))),
    ("remount", Remount),
    ("rexec", ClearAll(A::NOEXEC)),
    ("ridmap", Unsupported),
    ("rnoatime", AccessTimeAll(A::NOATIME)),
    ("rnodev", SetAll(A::NODEV)),
    ("rnodiratime", SetAll(A::NODIRATIME)),
    ("rnoexec", SetAll(A::NOEXEC)),
    ("rnorelatime", Nothing),
    ("rnostrictatime", AccessTimeAll(A(0))),
    ("rnosuid", SetAll(A::NOSUID)),
    ("rnosymfollow", SetAll(A::NOSYMFOLLOW)),
    ("ro", Set(A::RDONLY)),
    ("rprivate", Effect::Propagation(Private, Tree)),
    ("rrelatime", AccessTimeAll(A(0))),
    ("rro", SetAll(A::RDONLY)),
    ("rrw", ClearAll(A::RDONLY)),
    ("rshared", Effect::Propagation(Shared, Tree)),
    ("rslave", Effect::Propagation(Slave, Tree)),
    ("rstrictatime", AccessTimeAll(A::STRICTATIME)),
    ("rsuid", ClearAll(A::NOSUID)),
    ("rsymfollow", ClearAll(A::NOSYMFOLLOW)),
    ("runbindable", Effect::Propagation(Unbindable, Tree)),
    ("rw", Clear(A::RDONLY)),
    ("shared", Effect::Propagation(Shared, One)),
    ("silent", Nothing),
    ("slave", Effect::Propagation(Slave, One)),
    ("strictatime", AccessTime(A::STRICTATIME)),
    ("suid", Clear(A::NOSUID)),
    ("symfollow", Clear(A::NOSYMFOLLOW)),
    ("sync", Parameter),
    ("tmpcopyup", Unsupported),
    ("unbindable", Effect::Propagation(Unbindable, One)),
    ("userxattr", Parameter),
];

/// Names of the options that have an effect, for `features`.
pub fn option_names() -> impl Iterator<Item = &'static str> {
    OPTIONS
        .iter()
        .filter(|(_, effect)| !matches!(effect, Unsupported))
        .map(|(name, _)| *name)
}

impl Change {
    fn set(&mut self, attributes: Attributes) {
        self.set = self.set.with(attributes);
        self.clear = self.clear.without(attributes);
    }

    fn clear(&mut self, attributes: Attributes) {
        self.clear = self.clear.with(attributes);
        self.set = self.set.without(attributes);
    }

    /// The kernel wants all bits of the policy cleared whenever one is set.
    fn access_time(&mut self, policy: Attributes) {
        self.set = self.set.without(A::ATIME).with(policy);
        self.clear = self.clear.with(A::ATIME);
    }
}

/// Resolves the mounts, whose order is kept.
pub(super) fn compile(written: &[spec::Mount], warnings: &mut Vec<String>) -> Result<Vec<Mount>> {
    written
        .iter()
        .enumerate()
        .map(|(index, mount)| compile_one(mount, index, warnings))
        .collect()
}

/// What the options of one mount add up to.
#[derive(Default)]
struct Options {
    change: Change,
    recursive: Change,
    propagation: Vec<(Propagation, Scope)>,
    bind: Option<Scope>,
    remount: bool,
    /// With the place of each in `options`.
    parameters: Vec<(usize, String)>,
}

fn compile_one(written: &spec::Mount, index: usize, warnings: &mut Vec<String>) -> Result<Mount> {
    let pointer = format!("/mounts/{index}");
    let maps = [&written.uid_mappings, &written.gid_mappings];
    if maps.into_iter().flatten().any(|map| !map.is_empty()) {
        return Err(Error::unsupported(format!(
            "{pointer}/uidMappings: id-mapped mounts are not supported yet"
        )));
    }
    let destination = destination(&written.destination, &pointer, warnings)?;
    let options = Options::compile(written.options.as_deref().unwrap_or_default(), &pointer)?;
    let type_name = written.kind.as_deref().unwrap_or_default();
    let bind = options
        .bind
        .or_else(|| (type_name == "bind").then_some(One));
    let kind = match (options.remount, bind, type_name) {
        (true, _, _) => Kind::Remount,
        (_, Some(scope), _) => bind_kind(written, &options, scope, &pointer)?,
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

impl Options {
    fn compile(written: &[String], pointer: &str) -> Result<Self> {
        let mut options = Self::default();
        for (index, option) in written.iter().enumerate() {
            let Ok(known) = OPTIONS.binary_search_by_key(&option.as_str(), |(name, _)| name) else {
                // A caller may give several at once, as in the fourth field of fstab(5).
                let single = option.split(',').filter(|option| !option.is_empty());
                options
                    .parameters
                    .extend(single.map(|option| (index, option.to_owned())));
                continue;
            };
            match OPTIONS[known].1 {
                Set(attributes) => options.change.set(attributes),
                Clear(attributes) => options.change.clear(attributes),
                AccessTime(policy) => options.change.access_time(policy),
                SetAll(attributes) => options.recursive.set(attributes),
                ClearAll(attributes) => options.recursive.clear(attributes),
                AccessTimeAll(policy) => options.recursive.access_time(policy),
                Effect::Propagation(kind, scope) => options.propagation.push((kind, scope)),
                Bind(scope) => options.bind = Some(scope),
                Remount => options.remount = true,
                Parameter => options.parameters.push((index, option.clone())),
                Nothing => {}
                Unsupported => {
                    return Err(Error::unsupported(format!(
                        "{pointer}/options/{index}: {option} is not supported yet"
                    )));
                }
            }
        }
        Ok(options)
    }
}

fn bind_kind(
    written: &spec::Mount,
    options: &Options,
    scope: Scope,
    pointer: &str,
) -> Result<Kind> {
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
    if let Some((index, option)) = options.parameters.first() {
        let text =
            format!("bind mounts cannot have any filesystem-specific options applied: {option:?}");
        return Err(Error::invalid_spec(
            &format!("{pointer}/options/{index}"),
            &text,
        ));
    }
    Ok(Kind::Bind { source, scope })
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
    // mount(2) made both the mount and the file system read-only.
    if options.change.set.0 & A::RDONLY.0 != 0 {
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
            Kind::New { filesystem, .. } if filesystem.as_c_str() != c"proc" => {
                invalid("cannot be mounted because it is not of type proc")
            }
            _ => Ok(false),
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
pub(super) fn root_propagation(written: Option<&str>) -> Result<(Propagation, Scope)> {
    let Some(name) = written.filter(|name| !name.is_empty()) else {
        return Ok((Slave, Tree));
    };
    match OPTIONS.iter().find(|(known, _)| *known == name) {
        Some((_, Effect::Propagation(kind, scope))) => Ok((*kind, *scope)),
        _ => {
            let text = format!("rootfsPropagation={name} is not supported");
            Err(Error::invalid_spec("/linux/rootfsPropagation", &text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn table_is_sorted() {
        assert!(OPTIONS.is_sorted_by_key(|(name, _)| *name));
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
        ];
        for (mount, pointer) in cases {
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
