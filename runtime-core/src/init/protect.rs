//! What the container may not see or write, and kernel parameters.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat, makedev};
use nix::unistd::write;

use super::{At, Result, Step};
use crate::kernel::fd::{Resolve, openat2};
use crate::kernel::mount::{self, Attributes, Change, Scope};
use crate::plan::Plan;
use crate::root::{Links, Root, kind};

/// Writes kernel parameters through a procfs of our own, in which nothing can have been mounted over a file
/// (CVE-2025-52881).
pub(super) fn sysctls(plan: &Plan) -> Result<()> {
    if plan.sysctls.is_empty() {
        return Ok(());
    }
    let step = Step::Sysctl;
    let proc = private_proc(Subset::All).at(step, 0, "fsmount(\"proc\")")?;
    for (index, sysctl) in plan.sysctls.iter().enumerate() {
        let file = openat2(
            proc.as_fd(),
            &sysctl.file,
            OFlag::O_WRONLY,
            0,
            Resolve::BeneathSameMount,
        )
        .at(step, index, format_args!("openat2({:?})", sysctl.file))?;
        write(&file, &sysctl.value).at(step, index, format_args!("write({:?})", sysctl.file))?;
    }
    Ok(())
}

/// How much of a procfs there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subset {
    /// Kernel parameters too.
    All,
    /// Processes alone.
    Pids,
}

/// A detached procfs of this process's PID namespace.
pub(super) fn private_proc(subset: Subset) -> nix::Result<OwnedFd> {
    let context = mount::fs_open(c"proc")?;
    if subset == Subset::Pids {
        mount::fs_set(context.as_fd(), c"subset", Some(c"pid"))?;
    }
    mount::fs_mount(
        context.as_fd(),
        Attributes::NOSUID
            .with(Attributes::NODEV)
            .with(Attributes::NOEXEC),
    )
}

pub(super) fn readonly_paths(plan: &Plan, root: &Root) -> Result<()> {
    let step = Step::ReadonlyPath;
    let change = Change {
        set: Attributes::RDONLY,
        clear: Attributes::default(),
    };
    for (index, path) in plan.readonly_paths.iter().enumerate() {
        let Some(target) = find(root, path, step, index)? else {
            continue;
        };
        let tree = mount::clone_of(target.as_fd(), Scope::Tree).at(step, index, "open_tree()")?;
        mount::set_attributes(tree.as_fd(), Scope::Tree, change).at(
            step,
            index,
            "mount_setattr(MOUNT_ATTR_RDONLY)",
        )?;
        mount::attach(tree.as_fd(), target.as_fd()).at(step, index, "move_mount()")?;
    }
    Ok(())
}

/// Hides paths: directories below an empty one that they all share, files below `/dev/null`.
pub(super) fn masked_paths(plan: &Plan, root: &Root) -> Result<()> {
    let step = Step::MaskedPath;
    let mut empty: Option<OwnedFd> = None;
    for (index, path) in plan.masked_paths.iter().enumerate() {
        let Some(target) = find(root, path, step, index)? else {
            continue;
        };
        let is_directory = kind(target.as_fd()).at(step, index, "fstat()")? == SFlag::S_IFDIR;
        let mask = match (is_directory, &empty) {
            (false, _) => null_device().at(step, index, "open_tree(\"/dev/null\")")?,
            (true, Some(first)) => {
                mount::clone_of(first.as_fd(), Scope::One).at(step, index, "open_tree(tmpfs)")?
            }
            (true, None) => empty_directory(plan.mount_label.as_deref()).at(
                step,
                index,
                "fsmount(\"tmpfs\")",
            )?,
        };
        mount::attach(mask.as_fd(), target.as_fd()).at(step, index, "move_mount()")?;
        if is_directory && empty.is_none() {
            empty = Some(mask);
        }
    }
    Ok(())
}

/// What is at `path`, or none where there is nothing to protect.
fn find(root: &Root, path: &CStr, step: Step, index: usize) -> Result<Option<OwnedFd>> {
    match root.find(path, Links::Follow) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(errno).at(step, index, "openat2(RESOLVE_IN_ROOT)"),
    }
}

/// A clone of the host's null device, which is one by its number and not by its name (CVE-2025-31133).
fn null_device() -> nix::Result<OwnedFd> {
    let tree = mount::clone_of_path(c"/dev/null", Scope::One)?;
    let stat = fstat(&tree)?;
    let is_null = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR
        && stat.st_rdev == makedev(1, 3);
    if is_null {
        Ok(tree)
    } else {
        Err(Errno::ENODEV)
    }
}

fn empty_directory(label: Option<&CStr>) -> nix::Result<OwnedFd> {
    let context = mount::fs_open(c"tmpfs")?;
    if let Some(label) = label {
        mount::fs_set(context.as_fd(), c"context", Some(label))?;
    }
    mount::fs_set(context.as_fd(), c"nr_blocks", Some(c"1"))?;
    mount::fs_set(context.as_fd(), c"nr_inodes", Some(c"1"))?;
    mount::fs_set(context.as_fd(), c"mode", Some(c"755"))?;
    mount::fs_mount(context.as_fd(), Attributes::RDONLY)
}
