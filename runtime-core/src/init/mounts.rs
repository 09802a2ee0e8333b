//! One mount after the other, below the root and nowhere else.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::{At, BindSource, Prepared, Result, Step, cgroups, copy_up};
use crate::kernel::mount::{self, Attributes, Change, Scope};
use crate::plan::Plan;
use crate::plan::mounts::{Contents, Kind, Mount};
use crate::root::{Leaf, Links, Root};

/// Makes one mount, at its place in the list.
pub(super) fn mount_one(
    plan: &Plan,
    prepared: &mut Prepared,
    root: &Root,
    which: (&Mount, usize),
) -> Result<()> {
    let (mount, index) = which;
    let step = Step::Mount;
    let tree = match &mount.kind {
        Kind::Bind { .. } => bind(plan, prepared, root, which)?,
        Kind::New { filesystem, .. } => attach_new(root, which, filesystem)?,
        Kind::Cgroup => {
            let target = target(root, which, Links::Follow, Leaf::Directory)?;
            cgroups::mount_view(&target, mount, index, (plan, prepared))?
        }
        Kind::Remount => {
            let found =
                root.find(&mount.destination, Links::Follow)
                    .at(step, index, "openat2()")?;
            change_attributes(&found, Scope::One, mount.change).at(
                step,
                index,
                "mount_setattr()",
            )?;
            found
        }
    };
    settle(&tree, which)
}

/// What a mount gets once it is attached.
fn settle(tree: &OwnedFd, which: (&Mount, usize)) -> Result<()> {
    let (mount, index) = which;
    let step = Step::Mount;
    if !mount.recursive.is_empty() {
        change_attributes(tree, Scope::Tree, mount.recursive).at(
            step,
            index,
            "mount_setattr(AT_RECURSIVE)",
        )?;
    }
    for &(propagation, scope) in &mount.propagation {
        mount::set_propagation(tree.as_fd(), scope, propagation).at(
            step,
            index,
            format_args!("mount_setattr({propagation:?}, {scope:?})"),
        )?;
    }
    Ok(())
}

/// Makes a file system and attaches it.
fn attach_new(root: &Root, which: (&Mount, usize), filesystem: &CStr) -> Result<OwnedFd> {
    // A link here would take a kernel file system, and what is written to it, elsewhere.
    let kernels_own = matches!(filesystem.to_bytes(), b"proc" | b"sysfs");
    let links = if kernels_own {
        Links::Refuse
    } else {
        Links::Follow
    };
    let target = target(root, which, links, Leaf::Directory)?;
    let tree = new_file_system(which, &target)?;
    mount::attach(tree.as_fd(), target.as_fd()).at(Step::Mount, which.1, "move_mount()")?;
    Ok(tree)
}

/// Adds a mount to a container that runs: `source` is the tree of a bind mount.
pub(crate) fn add(root: &Root, which: (&Mount, usize), source: Option<OwnedFd>) -> Result<()> {
    let tree = match (&which.0.kind, source) {
        (_, Some(source)) => attach_bind(root, which, source)?,
        (Kind::New { filesystem, .. }, None) => attach_new(root, which, filesystem)?,
        _ => return Err(Errno::EINVAL).at(Step::Mount, which.1, "mount"),
    };
    settle(&tree, which)
}

/// Opens the destination of a mount, made where it is missing, and refuses one inside procfs: what is written to a
/// file there that is not the kernel's would go astray.
fn target(root: &Root, which: (&Mount, usize), links: Links, leaf: Leaf) -> Result<OwnedFd> {
    let (mount, index) = which;
    let found = match root.find_or_make(&mount.destination, links, leaf) {
        Err(Errno::ELOOP) if links == Links::Refuse => {
            return Err(Errno::ELOOP).at(
                Step::Mount,
                index,
                "must be mounted on ordinary directory",
            );
        }
        other => other.at(Step::Mount, index, "openat2(RESOLVE_IN_ROOT)")?,
    };
    let is_directory =
        crate::root::kind(found.as_fd()).at(Step::Mount, index, "fstat()")? == SFlag::S_IFDIR;
    if is_directory != (leaf == Leaf::Directory) {
        // move_mount(2) says EINVAL for that.
        return Err(Errno::ENOTDIR).at(Step::Mount, index, "move_mount()");
    }
    if !mount.inside_proc && is_proc(&found) {
        return Err(Errno::EPERM).at(
            Step::Mount,
            index,
            "cannot be mounted because it is inside /proc",
        );
    }
    Ok(found)
}

fn is_proc(file: &OwnedFd) -> bool {
    fstatfs(file).is_ok_and(|statfs| statfs.filesystem_type() == PROC_SUPER_MAGIC)
}

fn bind(
    plan: &Plan,
    prepared: &mut Prepared,
    root: &Root,
    which: (&Mount, usize),
) -> Result<OwnedFd> {
    let (mount, index) = which;
    let step = Step::Mount;
    let Kind::Bind { scope, .. } = &mount.kind else {
        return Err(Errno::EINVAL).at(step, index, "bind");
    };
    let tree = match prepared.binds.get_mut(index).and_then(Option::take) {
        Some(BindSource::Tree(tree)) => tree,
        None => return Err(Errno::EINVAL).at(step, index, "bind"),
        Some(BindSource::Path(path)) => {
            let tree = mount::clone_of_path(&path, *scope)
                .or_else(|errno| match errno {
                    // A mount with others below it that cannot be told apart from outside: all of it, or nothing.
                    Errno::EINVAL => mount::clone_of_path(&path, Scope::Tree),
                    errno => Err(errno),
                })
                .at(step, index, format_args!("open_tree({path:?})"))?;
            let (propagation, scope) = plan.root.propagation;
            mount::set_propagation(tree.as_fd(), scope, propagation).at(
                step,
                index,
                "mount_setattr()",
            )?;
            tree
        }
    };
    attach_bind(root, which, tree)
}

/// Attaches the tree of a bind mount.
fn attach_bind(root: &Root, which: (&Mount, usize), tree: OwnedFd) -> Result<OwnedFd> {
    let (mount, index) = which;
    let step = Step::Mount;
    let is_directory =
        crate::root::kind(tree.as_fd()).at(step, index, "fstat()")? == SFlag::S_IFDIR;
    if mount.destination.to_bytes() == b"/proc" && !is_proc(&tree) {
        return Err(Errno::EPERM).at(
            step,
            index,
            "cannot be mounted because it is not of type proc",
        );
    }
    let target = target(
        root,
        which,
        Links::Follow,
        if is_directory {
            Leaf::Directory
        } else {
            Leaf::File
        },
    )?;
    change_attributes(&tree, Scope::One, mount.change).at(step, index, "mount_setattr()")?;
    mount::attach(tree.as_fd(), target.as_fd()).at(step, index, "move_mount()")?;
    Ok(tree)
}

/// Changes attributes. Those that a user namespace keeps locked may stay as they are when they were only to be
/// cleared.
fn change_attributes(tree: &OwnedFd, scope: Scope, change: Change) -> nix::Result<()> {
    if change.is_empty() {
        return Ok(());
    }
    let locked_stay = Change {
        set: change.set,
        clear: change.clear.without(LOCKABLE),
    };
    match mount::set_attributes(tree.as_fd(), scope, change) {
        Err(Errno::EPERM) if locked_stay != change => {
            if locked_stay.is_empty() {
                Ok(())
            } else {
                mount::set_attributes(tree.as_fd(), scope, locked_stay)
            }
        }
        other => other,
    }
}

const LOCKABLE: Attributes = Attributes::RDONLY
    .with(Attributes::NOSUID)
    .with(Attributes::NODEV)
    .with(Attributes::NOEXEC);

fn new_file_system(which: (&Mount, usize), target: &OwnedFd) -> Result<OwnedFd> {
    let (mount, index) = which;
    let step = Step::Mount;
    let Kind::New {
        filesystem,
        source,
        parameters,
        contents,
    } = &mount.kind
    else {
        return Err(Errno::EINVAL).at(step, index, "fsopen()");
    };
    let context =
        mount::fs_open(filesystem).at(step, index, format_args!("fsopen({filesystem:?})"))?;
    if let Some(source) = source {
        mount::fs_set(context.as_fd(), c"source", Some(source)).at(
            step,
            index,
            format_args!("fsconfig(\"source\", {source:?})"),
        )?;
    }
    for (key, value) in parameters {
        mount::fs_set(context.as_fd(), key, value.as_deref()).at(
            step,
            index,
            format_args!("fsconfig({key:?}, {value:?})"),
        )?;
    }
    // A tmpfs over a directory of the image has that directory's mode unless one is given.
    let has_mode = parameters.iter().any(|(key, _)| key.as_c_str() == c"mode");
    if filesystem.as_c_str() == c"tmpfs" && !has_mode {
        let stat = fstat(target).at(step, index, "fstat()")?;
        let mode =
            std::ffi::CString::new(format!("{:o}", stat.st_mode & 0o7777)).unwrap_or_default();
        mount::fs_set(context.as_fd(), c"mode", Some(&mode)).at(
            step,
            index,
            format_args!("fsconfig(\"mode\", {mode:?})"),
        )?;
    }
    let first = match contents {
        Contents::Own => mount.change.set,
        Contents::CopiedUp => Attributes::default(),
    };
    let tree = mount::fs_mount(context.as_fd(), first).at(
        step,
        index,
        format_args!("fsmount({filesystem:?})"),
    )?;
    if *contents == Contents::CopiedUp {
        copy_up::copy(target, &tree).at(step, index, "tmpcopyup")?;
        change_attributes(&tree, Scope::One, mount.change).at(step, index, "mount_setattr()")?;
    }
    Ok(tree)
}
