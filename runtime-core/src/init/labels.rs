//! Labels by files of procfs: one of our own, which nothing in the image can have put itself in the place of
//! (CVE-2019-16884, CVE-2025-52881).

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{getpid, write};

use super::protect::{Subset, private_proc};
use super::{At, Result, Step};
use crate::kernel::fd::{Resolve, openat2};
use crate::plan::labels::Labels;

/// Labels what this process executes next.
pub(super) fn program(labels: &Labels) -> Result<()> {
    if let Some(profile) = &labels.apparmor {
        let value = [b"exec ", profile.to_bytes()].concat();
        let written = match write_attribute("apparmor/exec", &value) {
            // Before Linux 5.8 there was one file for all modules.
            Err(Errno::ENOENT) => write_attribute("exec", &value),
            other => other,
        };
        let call = format_args!("write(\"attr/apparmor/exec\", {profile:?})");
        written.at(Step::AppArmor, 0, call)?;
    }
    match &labels.selinux {
        Some(label) => write_label("exec", label),
        None => Ok(()),
    }
}

/// Labels the keys that this process makes.
pub(super) fn keys(labels: &Labels) -> Result<()> {
    match &labels.selinux {
        Some(label) => write_label("keycreate", label),
        None => Ok(()),
    }
}

fn write_label(name: &str, label: &CStr) -> Result<()> {
    let call = format_args!("write(\"attr/{name}\", {label:?})");
    write_attribute(name, label.to_bytes()).at(Step::SeLinux, 0, call)
}

fn write_attribute(name: &str, value: &[u8]) -> nix::Result<()> {
    let proc = private_proc(Subset::Pids)?;
    let path = CString::new(format!("{}/attr/{name}", getpid())).unwrap_or_default();
    let file = openat2(
        proc.as_fd(),
        &path,
        OFlag::O_WRONLY,
        0,
        Resolve::BeneathSameMount,
    )?;
    write(&file, value).map(drop)
}
