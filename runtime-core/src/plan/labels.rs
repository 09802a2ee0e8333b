//! Labels of Linux security modules: an AppArmor profile or an SELinux label for the program, and one for its mounts.

use std::ffi::CString;

use super::c_string;
use crate::error::{Error, Result};
use crate::host::SecurityModules;
use crate::spec;

/// What a process is labelled with from its next exec on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels {
    /// Name of an AppArmor profile.
    pub(crate) apparmor: Option<CString>,
    /// SELinux label.
    pub(crate) selinux: Option<CString>,
}

impl Labels {
    pub(super) fn compile(written: &spec::Process, pointer: &str) -> Result<Self> {
        let label = |text: &Option<String>, name: &str| {
            let text = text.as_deref().filter(|text| !text.is_empty());
            text.map(|text| c_string(text, &format!("{pointer}/{name}")))
                .transpose()
        };
        Ok(Self {
            apparmor: label(&written.apparmor_profile, "apparmorProfile")?,
            selinux: label(&written.selinux_label, "selinuxLabel")?,
        })
    }

    /// Whether the host can do it, which is asked where there is a label alone: without its module it must not be silence.
    pub(crate) fn check(
        &self,
        host: impl FnOnce() -> SecurityModules,
        pointer: &str,
    ) -> Result<()> {
        if *self == Self::default() {
            return Ok(());
        }
        let host = host();
        if self.apparmor.is_some() && !host.apparmor {
            return Err(Error::unsupported(format!(
                "{pointer}/apparmorProfile: AppArmor is not enabled on this host"
            )));
        }
        if self.selinux.is_some() && !host.selinux {
            return Err(Error::unsupported(format!(
                "{pointer}/selinuxLabel: SELinux is not enabled on this host"
            )));
        }
        Ok(())
    }
}

/// The SELinux label of the file systems that are made for the container.
pub(crate) fn of_mounts(
    written: Option<&str>,
    host: impl FnOnce() -> SecurityModules,
) -> Result<Option<CString>> {
    let pointer = "/linux/mountLabel";
    match written.filter(|label| !label.is_empty()) {
        None => Ok(None),
        Some(_) if !host().selinux => Err(Error::unsupported(format!(
            "{pointer}: SELinux is not enabled on this host"
        ))),
        Some(label) => c_string(label, pointer).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_needs_its_module() {
        let with = |apparmor: &str, selinux: &str| {
            let written = spec::Process {
                apparmor_profile: Some(apparmor.to_owned()),
                selinux_label: Some(selinux.to_owned()),
                ..spec::Process::default()
            };
            Labels::compile(&written, "/process").unwrap()
        };
        let host = |apparmor, selinux| move || SecurityModules { apparmor, selinux };
        for (labels, host, pointer) in [
            (with("", ""), host(false, false), None),
            (with("p", ""), host(true, false), None),
            (with("", "l"), host(false, true), None),
            (
                with("p", ""),
                host(false, true),
                Some("/process/apparmorProfile: "),
            ),
            (
                with("", "l"),
                host(true, false),
                Some("/process/selinuxLabel: "),
            ),
        ] {
            let error = labels
                .check(host, "/process")
                .err()
                .map(|error| error.to_string());
            match pointer {
                None => assert_eq!(error, None, "{labels:?}"),
                Some(pointer) => assert!(error.unwrap().starts_with(pointer), "{labels:?}"),
            }
        }
        assert!(of_mounts(Some("l"), host(false, true)).unwrap().is_some());
        assert!(of_mounts(Some(""), host(false, false)).unwrap().is_none());
        assert!(of_mounts(Some("l"), host(true, false)).is_err());
    }
}
