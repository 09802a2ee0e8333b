//! Entering cgroups, and the container's view of them.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{symlinkat, write};

use super::{At, Prepared, Result, Step};
use crate::kernel::mount::{self, Attributes, Change, Scope};
use crate::kernel::process;
use crate::plan::Plan;
use crate::plan::mounts::Mount;
use crate::sync::{Channel, Message};

/// Takes the descriptors of the cgroups from the parent, enters them and makes the cgroup namespace: its root is where
/// the process is when it is made.
///
/// A container without cgroups of its own gets no descriptors, and has nothing to show either.
pub(super) fn enter(plan: &Plan, prepared: &mut Prepared, channel: &Channel) -> Result<()> {
    match channel.receive_with() {
        Ok(Some((Message::Cgroups, tasks))) => {
            join(&tasks)?;
            prepared.cgroup_views.truncate(tasks.len());
        }
        _ => process::exit_now(255),
    }
    if plan.namespaces.new.contains(CloneFlags::CLONE_NEWCGROUP) {
        unshare(CloneFlags::CLONE_NEWCGROUP).at(Step::Cgroup, 0, "unshare(CLONE_NEWCGROUP)")?;
    }
    Ok(())
}

/// Moves this process, which has one thread, through each `tasks` file.
pub(crate) fn join(tasks: &[OwnedFd]) -> Result<()> {
    for (index, tasks) in tasks.iter().enumerate() {
        write(tasks, b"0").at(Step::Cgroup, index, "write(tasks, \"0\")")?;
    }
    Ok(())
}

/// Mounts what the container sees of cgroups: on version 2 its own, on version 1 a tmpfs with one directory for each
/// hierarchy.
pub(super) fn mount_view(
    at: &OwnedFd,
    mount: &Mount,
    index: usize,
    init: (&Plan, &Prepared),
) -> Result<OwnedFd> {
    match &init.1.unified_view {
        Some(path) => mount_unified(at, mount, index, (init.0, path)),
        None => mount_hierarchies(at, mount, index, init),
    }
}

/// Mounts the one hierarchy of version 2. Its root is that of the container's cgroup namespace; without one, or where
/// the kernel does not let this user namespace mount it, only the container's own cgroup is shown.
fn mount_unified(
    at: &OwnedFd,
    mount: &Mount,
    index: usize,
    (plan, path): (&Plan, &CStr),
) -> Result<OwnedFd> {
    let step = Step::Mount;
    let new = || -> nix::Result<OwnedFd> {
        let context = mount::fs_open(c"cgroup2")?;
        mount::fs_set(context.as_fd(), c"source", Some(c"cgroup"))?;
        mount::fs_mount(context.as_fd(), Attributes::default())
    };
    let view = if plan.namespaces.has(crate::spec::NamespaceKind::Cgroup) {
        new()
    } else {
        Err(Errno::EPERM)
    };
    let view = match view {
        Err(Errno::EPERM | Errno::EBUSY | Errno::EACCES) => mount::clone_of_path(path, Scope::One)
            .at(step, index, format_args!("open_tree({path:?})"))?,
        view => view.at(step, index, "fsmount(\"cgroup2\")")?,
    };
    let change = Change {
        set: mount.change.set,
        clear: Attributes::default(),
    };
    mount::set_attributes(view.as_fd(), Scope::One, change).at(
        step,
        index,
        "mount_setattr(\"cgroup2\")",
    )?;
    mount::attach(view.as_fd(), at.as_fd()).at(step, index, "move_mount(\"cgroup2\")")?;
    Ok(view)
}

/// Mounts a tmpfs with one directory for each hierarchy of version 1.
fn mount_hierarchies(
    at: &OwnedFd,
    mount: &Mount,
    index: usize,
    init: (&Plan, &Prepared),
) -> Result<OwnedFd> {
    let (plan, prepared) = init;
    let step = Step::Mount;
    // The directories have to be made before the tmpfs can be read-only.
    let attributes = mount.change.set.without(Attributes::RDONLY);
    let context = mount::fs_open(c"tmpfs").at(step, index, "fsopen(\"tmpfs\")")?;
    mount::fs_set(context.as_fd(), c"source", Some(c"tmpfs")).at(
        step,
        index,
        "fsconfig(\"source\")",
    )?;
    mount::fs_set(context.as_fd(), c"mode", Some(c"755")).at(
        step,
        index,
        "fsconfig(\"mode\", \"755\")",
    )?;
    let tmpfs =
        mount::fs_mount(context.as_fd(), attributes).at(step, index, "fsmount(\"tmpfs\")")?;
    mount::attach(tmpfs.as_fd(), at.as_fd()).at(step, index, "move_mount(\"tmpfs\")")?;
    let own_namespace = plan.namespaces.has(crate::spec::NamespaceKind::Cgroup);
    for (name, path) in &prepared.cgroup_views {
        mkdirat(&tmpfs, name.as_c_str(), Mode::from_bits_truncate(0o755)).at(
            step,
            index,
            format_args!("mkdirat({name:?})"),
        )?;
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let target = openat(&tmpfs, name.as_c_str(), flags, Mode::empty()).at(
            step,
            index,
            format_args!("openat({name:?})"),
        )?;
        let view = if own_namespace {
            new_view(name.to_bytes(), index)?
        } else {
            mount::clone_of_path(path, Scope::One).at(
                step,
                index,
                format_args!("open_tree({path:?})"),
            )?
        };
        let change = Change {
            set: mount.change.set,
            clear: Attributes::default(),
        };
        mount::set_attributes(view.as_fd(), Scope::One, change).at(
            step,
            index,
            "mount_setattr(cgroup)",
        )?;
        mount::attach(view.as_fd(), target.as_fd()).at(
            step,
            index,
            format_args!("move_mount({name:?})"),
        )?;
        link_controllers(&tmpfs, name.to_bytes(), index)?;
    }
    if mount.change.set.0 & Attributes::RDONLY.0 != 0 {
        let change = Change {
            set: Attributes::RDONLY,
            clear: Attributes::default(),
        };
        mount::set_attributes(tmpfs.as_fd(), Scope::One, change).at(
            step,
            index,
            "mount_setattr(\"tmpfs\")",
        )?;
    }
    Ok(tmpfs)
}

/// A mount of one hierarchy whose root is that of the caller's cgroup namespace.
fn new_view(name: &[u8], index: usize) -> Result<OwnedFd> {
    let step = Step::Mount;
    let context = mount::fs_open(c"cgroup").at(step, index, "fsopen(\"cgroup\")")?;
    let set = |key: &str, value: Option<&str>| {
        let key = std::ffi::CString::new(key).map_err(|_| Errno::EINVAL)?;
        let value = value
            .map(std::ffi::CString::new)
            .transpose()
            .map_err(|_| Errno::EINVAL)?;
        mount::fs_set(context.as_fd(), &key, value.as_deref())
    };
    let name = str::from_utf8(name).unwrap_or_default();
    if name == "systemd" {
        set("none", None)
            .and_then(|()| set("name", Some(name)))
            .at(step, index, "fsconfig(\"name\")")?;
    } else {
        for controller in name.split(',') {
            set(controller, None).at(step, index, format_args!("fsconfig({controller:?})"))?;
        }
    }
    mount::fs_mount(context.as_fd(), Attributes::default()).at(
        step,
        index,
        format_args!("fsmount({name:?})"),
    )
}

/// Links from each controller's name to the directory of a hierarchy that has several.
fn link_controllers(tmpfs: &OwnedFd, name: &[u8], index: usize) -> Result<()> {
    let names = str::from_utf8(name).unwrap_or_default();
    if !names.contains(',') {
        return Ok(());
    }
    for controller in names.split(',') {
        match symlinkat(names, tmpfs, controller) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => {
                return Err(errno).at(
                    Step::Mount,
                    index,
                    format_args!("symlinkat({controller:?})"),
                );
            }
        }
    }
    Ok(())
}
