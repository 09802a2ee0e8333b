//! From a configuration as written to a plan: everything resolved, nothing done.
//!
//! [`Plan::compile`] is a pure function of the configuration and of what was probed about the host. All mistakes of a
//! configuration end here, before any side effect, with the JSON pointer of the element.

use std::ffi::CString;

use nix::sched::CloneFlags;

use crate::cgroup;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::kernel::mount::{Propagation, Scope};
use crate::rdt;
use crate::spec::{Linux, NamespaceKind, Spec};

pub(crate) mod capabilities;
pub(crate) mod devices;
pub(crate) mod hooks;
pub(crate) mod idmap;
pub(crate) mod labels;
pub(crate) mod landlock;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod net_devices;
pub(crate) mod process;
pub(crate) mod scheduling;
pub mod seccomp;
pub(crate) mod sysctl;
pub(crate) mod variables;

/// What is to be done for one container, in the kernel's terms.
#[derive(Debug)]
pub struct Plan {
    pub(crate) root: Root,
    pub(crate) namespaces: namespaces::Namespaces,
    pub(crate) mounts: Vec<mounts::Mount>,
    pub(crate) devices: Vec<devices::Device>,
    pub(crate) net_devices: Vec<net_devices::NetDevice>,
    pub(crate) dev_setup: mounts::DevSetup,
    /// SELinux label of what is made to hide paths.
    pub(crate) mount_label: Option<CString>,
    pub(crate) masked_paths: Vec<CString>,
    pub(crate) readonly_paths: Vec<CString>,
    pub(crate) hostname: Option<CString>,
    pub(crate) domainname: Option<CString>,
    pub(crate) sysctls: Vec<sysctl::Sysctl>,
    pub(crate) personality: Option<u64>,
    pub(crate) memory_policy: Option<scheduling::MemoryPolicy>,
    pub(crate) process: process::Process,
    pub(crate) seccomp: Option<seccomp::Program>,
    pub(crate) landlock: Option<landlock::Ruleset>,
    pub(crate) cgroup: cgroup::Request,
    pub(crate) rdt: Option<rdt::Request>,
    pub(crate) hooks: hooks::Hooks,
    /// Whether the parent may clone mounts; otherwise the child does, in its user namespace.
    pub(crate) can_mount: bool,
    warnings: Vec<String>,
}

/// The root mount.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    pub(crate) readonly: bool,
    /// Through which ids its files are seen, if not as they are.
    pub(crate) ids: Option<idmap::Ids>,
    /// Of all mounts of the new namespace; `rslave` unless the configuration says otherwise.
    pub(crate) propagation: (Propagation, Scope),
}

impl Plan {
    /// Resolves `spec` for `host`.
    ///
    /// # Errors
    /// `InvalidSpec` with a JSON pointer for what cannot be, `Unsupported` for what this host or this version cannot do.
    pub fn compile(spec: &Spec, host: &Host) -> Result<Self> {
        let mut warnings = Vec::new();
        check_version(&spec.oci_version)?;
        let none = Linux::default();
        let linux = spec.linux.as_ref().unwrap_or(&none);
        let namespaces = namespaces::Namespaces::compile(linux)?;
        let Some(process) = &spec.process else {
            return Err(Error::invalid_spec(
                "/process",
                "missing: there is no program to run",
            ));
        };
        let mut process = process::Process::compile(process, "/process", &mut warnings)?;
        process.env.add(variables::of(spec.annotations.as_ref())?);
        process.labels.check(|| host.security(), "/process")?;
        let mount_label = labels::of_mounts(linux.mount_label.as_deref(), || host.security())?;
        let mut mounts = mounts::compile(
            spec.mounts.as_deref().unwrap_or_default(),
            &namespaces,
            &mut warnings,
        )?;
        mounts::label(&mut mounts, mount_label.as_ref());
        mounts::check_rights(&mounts, host)?;
        let dev_setup = mounts::DevSetup::of(&mounts);
        let owner = cgroup_owner(&namespaces, &mounts);
        let plan = Self {
            root: Root {
                readonly: spec.root.as_ref().is_some_and(|root| root.readonly),
                ids: idmap::of_root(spec.annotations.as_ref(), &namespaces, host)?,
                propagation: mounts::root_propagation(linux.rootfs_propagation.as_deref())?,
            },
            devices: devices::compile(linux.devices.as_deref().unwrap_or_default(), &namespaces)?,
            net_devices: net_devices::compile(linux.net_devices.as_ref(), &namespaces)?,
            dev_setup,
            mount_label,
            masked_paths: paths(linux.masked_paths.as_deref(), "/linux/maskedPaths")?,
            readonly_paths: paths(linux.readonly_paths.as_deref(), "/linux/readonlyPaths")?,
            hostname: name(spec.hostname.as_deref(), "/hostname", &namespaces)?,
            domainname: name(spec.domainname.as_deref(), "/domainname", &namespaces)?,
            sysctls: sysctl::compile(linux.sysctl.as_ref(), &namespaces)?,
            personality: personality(linux)?,
            memory_policy: memory_policy(linux)?,
            landlock: landlock::Ruleset::compile(
                spec.annotations.as_ref(),
                process.no_new_privileges,
                || host.landlock(),
            )?,
            process,
            seccomp: linux.seccomp.as_ref().map(seccomp::compile).transpose()?,
            cgroup: cgroup::Request::compile(spec, linux, host, owner)?,
            rdt: rdt::Request::compile(linux.intel_rdt.as_ref())?,
            hooks: hooks::Hooks::compile(spec.hooks.as_ref())?,
            can_mount: host.can_mount,
            mounts,
            namespaces,
            warnings,
        };
        plan.check_together()?;
        Ok(plan)
    }

    /// What is odd about the configuration without being an error.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether the program gets a terminal of its own.
    #[must_use]
    pub fn terminal(&self) -> bool {
        self.process.terminal.is_some()
    }

    /// What no single element can be blamed for.
    fn check_together(&self) -> Result<()> {
        let has_mount_namespace = self.namespaces.has(NamespaceKind::Mount);
        if !has_mount_namespace {
            return Err(Error::invalid_spec(
                "/linux/namespaces",
                "without a mount namespace the container's root would be the host's",
            ));
        }
        if self.namespaces.new.contains(CloneFlags::CLONE_NEWUSER) {
            let mapped = |id: u32, map: &[crate::spec::IdMapping]| {
                map.iter()
                    .any(|range| id >= range.container_id && id - range.container_id < range.size)
            };
            for (id, map, pointer) in [
                (
                    self.process.user.uid,
                    &self.namespaces.uid_map,
                    "/process/user/uid",
                ),
                (
                    self.process.user.gid,
                    &self.namespaces.gid_map,
                    "/process/user/gid",
                ),
            ] {
                if !mapped(id, map) {
                    return Err(Error::invalid_spec(
                        pointer,
                        &format!("{id} is not mapped in the user namespace"),
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Whose a container's cgroup is: its own root's, where it can see and write nothing but this cgroup.
fn cgroup_owner(
    namespaces: &namespaces::Namespaces,
    mounts: &[mounts::Mount],
) -> Option<(u32, u32)> {
    let is_private = namespaces.new.contains(CloneFlags::CLONE_NEWUSER)
        && namespaces.new.contains(CloneFlags::CLONE_NEWCGROUP);
    let is_writable = |mount: &mounts::Mount| {
        matches!(mount.kind, mounts::Kind::Cgroup)
            && mount.change.set.0 & crate::kernel::mount::Attributes::RDONLY.0 == 0
    };
    (is_private && mounts.iter().any(is_writable)).then(|| namespaces.root_ids())
}

/// Any 1.x of the specification is read: later ones only add to it.
fn check_version(version: &str) -> Result<()> {
    let digits = |part: Option<&str>| {
        part.is_some_and(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut parts = version.splitn(3, '.');
    let known = parts.next() == Some("1")
        && digits(parts.next())
        && parts
            .next()
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if known {
        return Ok(());
    }
    Err(Error::invalid_spec(
        "/ociVersion",
        &format!("{version:?} is not a version 1.x.y of the runtime specification"),
    ))
}

/// A string of the configuration for the kernel, which ends strings at NUL.
fn c_string(text: &str, pointer: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::invalid_spec(pointer, "has a NUL byte"))
}

/// A path of the container by its words alone: absolute, without `.`, `..` and double slashes.
fn cleaned(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Absolute paths of the container.
fn paths(paths: Option<&[String]>, pointer: &str) -> Result<Vec<CString>> {
    let absolute = |(index, path): (usize, &String)| {
        let pointer = format!("{pointer}/{index}");
        if !path.starts_with('/') {
            return Err(Error::invalid_spec(
                &pointer,
                &format!("{path:?} is not an absolute path"),
            ));
        }
        c_string(path, &pointer)
    };
    paths
        .unwrap_or_default()
        .iter()
        .enumerate()
        .map(absolute)
        .collect()
}

/// A host or domain name, which only a UTS namespace of the container's own may take.
fn name(
    name: Option<&str>,
    pointer: &str,
    namespaces: &namespaces::Namespaces,
) -> Result<Option<CString>> {
    /// `__NEW_UTS_LEN` of the kernel.
    const LONGEST: usize = 64;
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    if !namespaces.has(NamespaceKind::Uts) {
        return Err(Error::invalid_spec(
            pointer,
            "unable to set a name without a UTS namespace",
        ));
    }
    if name.len() > LONGEST {
        return Err(Error::invalid_spec(
            pointer,
            &format!("longer than {LONGEST} bytes"),
        ));
    }
    c_string(name, pointer).map(Some)
}

pub(crate) fn memory_policy(linux: &Linux) -> Result<Option<scheduling::MemoryPolicy>> {
    let written = linux.memory_policy.as_ref();
    written.map(scheduling::MemoryPolicy::compile).transpose()
}

pub(crate) fn personality(linux: &Linux) -> Result<Option<u64>> {
    /// `PER_LINUX` and `PER_LINUX32` of personality(2).
    const LINUX: u64 = 0;
    const LINUX32: u64 = 8;
    let Some(personality) = &linux.personality else {
        return Ok(None);
    };
    if personality
        .flags
        .as_ref()
        .is_some_and(|flags| !flags.is_empty())
    {
        return Err(Error::invalid_spec(
            "/linux/personality/flags",
            "none is defined",
        ));
    }
    match personality.domain.as_str() {
        "LINUX" => Ok(Some(LINUX)),
        "LINUX32" => Ok(Some(LINUX32)),
        other => Err(Error::invalid_spec(
            "/linux/personality/domain",
            &format!("unknown domain {other:?}"),
        )),
    }
}
