//! Limits of a container that runs.

use std::fs;
use std::path::{Path, PathBuf};

use super::properties::{self, Version};
use super::setting::{POINTER, Setting};
use super::systemd::Manager;
use super::{Cgroup, allow_devices, devices, directory, v1, v2};
use crate::error::{Call, Context, Error, ErrorKind, Result};
use crate::spec::{Memory, Resources};

impl Cgroup {
    /// Changes what `resources` names, and nothing else. Rules for devices replace all earlier ones.
    ///
    /// # Errors
    /// As for a new container. What was changed before an error is changed back.
    pub(crate) fn update(&self, resources: &Resources) -> Result<()> {
        let (version, settings) = match self.v2() {
            Some(_) => (Version::V2, v2::settings(resources)?),
            None => (Version::V1, v1::settings(resources)?),
        };
        if let Some(memory) = &resources.memory {
            self.check_memory(memory)?;
        }
        let rules = resources
            .devices
            .as_deref()
            .map(devices::compile)
            .transpose()?;
        let files = settings
            .iter()
            .map(|setting| Ok((self.file_directory(setting)?, setting)))
            .collect::<Result<Vec<_>>>()?;
        let apply = match version {
            Version::V1 => Setting::apply,
            Version::V2 => v2::apply,
        };
        let changed = change(&files, apply)?;
        self.tell_systemd(resources, rules.as_deref(), version)
            .and_then(|()| match (&rules, self.v2()) {
                (Some(rules), Some(directory)) => allow_devices(directory, rules),
                (Some(rules), None) => self.change_devices(rules),
                (None, _) => Ok(()),
            })
            .inspect_err(|_| changed.take_back())
    }

    fn file_directory(&self, setting: &Setting) -> Result<PathBuf> {
        let directory = self.v2().or_else(|| self.directory(setting.controller));
        directory.map(Path::to_owned).ok_or_else(|| {
            let (pointer, controller) = (&setting.pointer, setting.controller);
            Error::unsupported(format!(
                "{pointer}: the container has no cgroup of {controller}"
            ))
        })
    }

    /// What systemd knows it would set back some day.
    fn tell_systemd(
        &self,
        resources: &Resources,
        rules: Option<&[devices::Rule]>,
        version: Version,
    ) -> Result<()> {
        let Some(unit) = &self.unit else {
            return Ok(());
        };
        let mut properties = properties::of_resources(resources, version)?;
        properties.extend(rules.map(properties::of_devices).unwrap_or_default());
        if properties.is_empty() {
            return Ok(());
        }
        Manager::connect(unit.of_user)?.set(unit, &properties)
    }

    /// Refuses a limit that is below what is in use, where that is asked for: it would have processes killed.
    fn check_memory(&self, memory: &Memory) -> Result<()> {
        if memory.check_before_update != Some(true) {
            return Ok(());
        }
        let (directory, usage, swap_usage) = match self.v2() {
            Some(directory) => (Some(directory), "memory.current", "memory.swap.current"),
            None => (
                self.directory("memory"),
                "memory.usage_in_bytes",
                "memory.memsw.usage_in_bytes",
            ),
        };
        let Some(directory) = directory else {
            return Ok(());
        };
        let usage = number(&directory.join(usage)).unwrap_or_default();
        let swapped = number(&directory.join(swap_usage)).unwrap_or_default();
        // The file of version 1 counts both together, that of version 2 swap alone.
        let both = match self.v2() {
            Some(_) => usage.saturating_add(swapped),
            None => swapped.max(usage),
        };
        for (limit, usage, what) in [
            (memory.limit, usage, "memory limit"),
            (memory.swap, both, "memory+swap limit"),
        ] {
            if let Some(limit) = limit.and_then(|limit| u64::try_from(limit).ok())
                && limit > 0
                && limit < usage
            {
                let text =
                    format!("{POINTER}/memory: rejecting {what} {limit}: {usage} bytes are in use");
                return Err(Error::new(ErrorKind::InvalidArgument, text));
            }
        }
        Ok(())
    }

    /// Goes from the rules in force on version 1 to `rules`, one by one: what both allow is allowed all the time.
    fn change_devices(&self, rules: &[devices::Rule]) -> Result<()> {
        let Some(directory) = self.directory("devices") else {
            return Ok(());
        };
        let list = directory.join("devices.list");
        let now = fs::read_to_string(&list).call(|| format!("read({list:?})"))?;
        devices::v1_changes(&now, rules)
            .into_iter()
            .try_for_each(|(file, value)| directory::write(&directory.join(file), &value))
            .context(|| format!("{POINTER}/devices"))
    }
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Files with what they held before they were changed, in the order of the changes.
#[derive(Default)]
struct Changed(Vec<(PathBuf, String)>);

impl Changed {
    fn take_back(&self) {
        for (file, old) in self.0.iter().rev() {
            drop(directory::write(file, old));
        }
    }
}

/// Writes all settings, in an order that the kernel takes: limits that bound each other may have to wait for one
/// another. Changes back what it changed where one cannot be written.
fn change(
    settings: &[(PathBuf, &Setting)],
    apply: impl Fn(&Setting, &Path) -> Result<()>,
) -> Result<Changed> {
    let mut changed = Changed::default();
    let mut left: Vec<&(PathBuf, &Setting)> = settings.iter().collect();
    while !left.is_empty() {
        let before = left.len();
        let mut first = None;
        left.retain(|(directory, setting)| {
            let file = directory.join(&setting.file);
            let old = fs::read_to_string(&file).ok();
            match apply(setting, directory) {
                Ok(()) => {
                    changed
                        .0
                        .extend(old.map(|old| (file, old.trim_end().to_owned())));
                    false
                }
                Err(error) => {
                    first.get_or_insert(error);
                    true
                }
            }
        });
        if let Some(error) = first
            && left.len() == before
        {
            changed.take_back();
            return Err(error);
        }
    }
    Ok(changed)
}
