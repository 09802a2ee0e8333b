//! The root file system: assembled in a mount namespace that still has the host's paths, then made the root.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{chdir, chroot, fchdir, pivot_root};

use super::mounts::mount_one;
use super::{At, Pivot, Prepared, Result, Step, cgroups, nodes};
use crate::kernel::mount::{self, Attributes, Change, Propagation, Scope};
use crate::plan::Plan;
use crate::plan::mounts::{Kind, Mount};
use crate::root::{Leaf, Links, Root};
use crate::sync::Channel;

/// Attaches the root at its own path and mounts everything in it.
pub(super) fn assemble(plan: &Plan, prepared: &mut Prepared, channel: &Channel) -> Result<Root> {
    let (propagation, scope) = plan.root.propagation;
    set_propagation_of_all(propagation, scope)?;
    let root = attach_root(plan, prepared)?;
    // Mounts that show cgroups need the process to be in its own; all others are made while the parent makes those.
    let is_cgroup = |mount: &Mount| matches!(mount.kind, Kind::Cgroup);
    let first_cgroup = plan
        .mounts
        .iter()
        .position(is_cgroup)
        .unwrap_or(plan.mounts.len());
    for (index, mount) in plan.mounts[..first_cgroup].iter().enumerate() {
        mount_one(plan, prepared, &root, (mount, index))?;
    }
    cgroups::enter(plan, prepared, channel)?;
    for (index, mount) in plan.mounts.iter().enumerate().skip(first_cgroup) {
        mount_one(plan, prepared, &root, (mount, index))?;
    }
    nodes::make(plan, prepared, &root)?;
    Ok(root)
}

/// Sets how mounts travel between this new namespace and the host's, before anything is mounted in it.
fn set_propagation_of_all(propagation: Propagation, scope: Scope) -> Result<()> {
    let kind = match propagation {
        Propagation::Shared => MsFlags::MS_SHARED,
        Propagation::Slave => MsFlags::MS_SLAVE,
        Propagation::Private => MsFlags::MS_PRIVATE,
        Propagation::Unbindable => MsFlags::MS_UNBINDABLE,
    };
    let flags = if scope == Scope::Tree {
        kind | MsFlags::MS_REC
    } else {
        kind
    };
    nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).at(
        Step::Propagation,
        0,
        format_args!("mount(\"/\", {flags:?})"),
    )
}

fn attach_root(plan: &Plan, prepared: &mut Prepared) -> Result<Root> {
    let step = Step::Root;
    let path = prepared.root.path.as_c_str();
    let tree = match prepared.root_tree.take() {
        Some(tree) => tree,
        None => mount::clone_of_path(path, Scope::Tree).at(
            step,
            0,
            format_args!("open_tree({path:?})"),
        )?,
    };
    if matches!(
        plan.root.propagation.0,
        Propagation::Shared | Propagation::Unbindable
    ) {
        make_private_below(path.to_str().unwrap_or("/"))?;
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let target =
        openat(AT_FDCWD, path, flags, Mode::empty()).at(step, 0, format_args!("open({path:?})"))?;
    let stat = fstat(&target).at(step, 0, "fstat()")?;
    if (stat.st_dev, stat.st_ino) != (prepared.root.device, prepared.root.inode) {
        return Err(Errno::ESTALE).at(step, 0, format_args!("open({path:?})"));
    }
    mount::attach(tree.as_fd(), target.as_fd()).at(
        step,
        0,
        format_args!("move_mount({path:?})"),
    )?;
    Ok(Root::new(tree))
}

/// Makes the mount that holds `path` private: pivot_root wants a parent that is not shared, and what is attached to a
/// shared mount shows up on the host.
fn make_private_below(path: &str) -> Result<()> {
    let mut path = path;
    loop {
        match nix::mount::mount(
            None::<&str>,
            path,
            None::<&str>,
            MsFlags::MS_PRIVATE,
            None::<&str>,
        ) {
            // Not the root of a mount: that is further up.
            Err(Errno::EINVAL) if path != "/" => {
                let up = path.rfind('/').unwrap_or(0);
                path = if up == 0 { "/" } else { &path[..up] };
            }
            other => return other.at(Step::Root, 0, format_args!("mount({path:?}, MS_PRIVATE)")),
        }
    }
}

/// Makes `root` the root of this process and lets go of the host's.
pub(super) fn pivot(plan: &Plan, prepared: &Prepared, root: &Root) -> Result<()> {
    let step = Step::Pivot;
    make_cwd(plan, root);
    let (propagation, scope) = plan.root.propagation;
    if plan.root.readonly {
        let change = Change {
            set: Attributes::RDONLY,
            clear: Attributes::default(),
        };
        mount::set_attributes(root.as_fd(), Scope::One, change).at(
            step,
            0,
            "mount_setattr(MOUNT_ATTR_RDONLY)",
        )?;
    }
    let travels = matches!(propagation, Propagation::Shared | Propagation::Unbindable);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    // Where only `/` itself was changed, the mounts below it are still the host's peers.
    let still_shared = travels || scope == Scope::One;
    let old = still_shared
        .then(|| openat(AT_FDCWD, "/", flags, Mode::empty()))
        .transpose()
        .at(step, 0, "open(\"/\")")?;
    fchdir(root.as_fd()).at(step, 0, "fchdir(rootfs)")?;
    match prepared.pivot {
        Pivot::PivotRoot => {
            pivot_root(".", ".").at(step, 0, "pivot_root(\".\", \".\")")?;
            // The old root now lies on the new one. Where its mounts travel, its end here must not reach the host.
            if let Some(old) = old {
                fchdir(&old).at(step, 0, "fchdir(old root)")?;
                nix::mount::mount(
                    None::<&str>,
                    ".",
                    None::<&str>,
                    MsFlags::MS_SLAVE | MsFlags::MS_REC,
                    None::<&str>,
                )
                .at(step, 0, "mount(\".\", MS_SLAVE|MS_REC)")?;
            }
            umount2(".", MntFlags::MNT_DETACH).at(step, 0, "umount2(\".\", MNT_DETACH)")?;
            // Only now, for a root that is shared cannot be pivoted to. The mounts below have theirs.
            if travels {
                mount::set_propagation(root.as_fd(), Scope::One, propagation).at(
                    step,
                    0,
                    "mount_setattr(propagation)",
                )?;
            }
        }
        Pivot::MoveRoot => {
            mount::move_to_root(root.as_fd()).at(step, 0, "move_mount(rootfs, \"/\")")?;
            chroot(".").at(step, 0, "chroot(\".\")")?;
        }
    }
    chdir("/").at(step, 0, "chdir(\"/\")")
}

/// Makes the working directory where it is missing. Whether it can be used is seen when it is entered.
fn make_cwd(plan: &Plan, root: &Root) {
    drop(root.find_or_make(&plan.process.cwd, Links::Follow, Leaf::Directory));
}
