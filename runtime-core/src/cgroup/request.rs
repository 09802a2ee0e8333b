//! What a configuration asks of cgroups, resolved.

use super::devices;
use super::hierarchies::Hierarchies;
use super::properties::{self, Version};
use super::setting::Setting;
use super::systemd::{self, Properties, Unit};
use super::{v1, v2};
use crate::error::{Error, Result};
use crate::host::{Driver, Host, Manager};
use crate::spec::{DeviceRule, Linux, Resources, Spec};

/// What a configuration asks of cgroups.
#[derive(Debug)]
pub(crate) struct Request {
    pub(super) place: Place,
    pub(super) writes: Vec<Setting>,
    pub(super) devices: Vec<devices::Rule>,
    /// Whether a container may run without cgroups of its own where they cannot be made.
    pub(super) optional: bool,
    /// Whose the cgroup is to be, if it is given away: ids on the host.
    pub(super) owner: Option<(u32, u32)>,
    pub(super) hierarchies: Hierarchies,
}

/// Where the cgroups are to be, and who makes them.
#[derive(Debug)]
pub(super) enum Place {
    /// `linux.cgroupsPath`: absolute below each mount point, or relative to the caller's own cgroup. Made here.
    Path(Option<String>),
    /// `linux.cgroupsPath` for a unit. Made by systemd.
    Unit {
        path: Option<String>,
        of_user: bool,
        properties: Properties,
    },
}

impl Request {
    /// Resolves what `spec` asks for; the cgroup is given to `owner`, if there is one.
    ///
    /// # Errors
    /// `InvalidSpec` for what cannot be, `Unsupported` for what this host's version of cgroups has not.
    pub(crate) fn compile(
        spec: &Spec,
        linux: &Linux,
        host: &Host,
        owner: Option<(u32, u32)>,
    ) -> Result<Self> {
        let path = linux.cgroups_path.clone().filter(|path| !path.is_empty());
        if let Some(path) = &path
            && (path.split('/').any(|part| part == "..") || path.contains('\0'))
        {
            return Err(Error::invalid_spec(
                "/linux/cgroupsPath",
                &format!("{path:?} must not have \"..\" or NUL"),
            ));
        }
        let version = host.cgroups.version();
        let none = Resources::default();
        let resources = linux.resources.as_ref().unwrap_or(&none);
        let writes = match version {
            Version::V1 => v1::settings(resources)?,
            Version::V2 => v2::settings(resources)?,
        };
        let rules: &[DeviceRule] = resources.devices.as_deref().unwrap_or_default();
        let devices = devices::compile(rules)?;
        let optional = host.cgroups_are_optional && path.is_none() && writes.is_empty();
        let place = match host.cgroup_driver {
            Driver::Cgroupfs => Place::Path(path),
            Driver::Systemd(manager) => {
                let of_user = manager == Manager::User;
                refuse_without_systemd(of_user, version)?;
                // The id matters to no error.
                Unit::parse(path.as_deref(), "id", of_user)?;
                let mut properties = properties::of_devices(&devices);
                properties.extend(properties::of_resources(resources, version)?);
                let annotations = spec.annotations.as_ref();
                properties.extend(
                    annotations
                        .map(properties::of_annotations)
                        .transpose()?
                        .unwrap_or_default(),
                );
                Place::Unit {
                    path,
                    of_user,
                    properties,
                }
            }
        };
        Ok(Self {
            place,
            writes,
            devices,
            optional,
            owner,
            hierarchies: host.cgroups.clone(),
        })
    }
}

fn refuse_without_systemd(of_user: bool, version: Version) -> Result<()> {
    if !systemd::is_booted() {
        return Err(Error::unsupported(
            "the systemd cgroup driver: systemd does not run this host",
        ));
    }
    if of_user && version == Version::V1 {
        return Err(Error::unsupported(
            "the systemd cgroup driver without root: only with cgroup v2",
        ));
    }
    Ok(())
}
