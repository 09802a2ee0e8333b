//! The root file system: assembled in a mount namespace that still has the host's paths, then made the root.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::{chdir, chroot, fchdir, pivot_root};

use super::{At, BindSource, Pivot, Prepared, Result, Step, TerminalTo, cgroups, nodes};
use crate::kernel::mount::{self, Attributes, Change, Propagation, Scope};
use crate::kernel::tty;
use crate::plan::Plan;
use crate::plan::mounts::{Kind, Mount};
use crate::root::{Leaf, Links, Root};
use crate::sync::{Channel, Message, send_fds};

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

fn mount_one(
    plan: &Plan,
    prepared: &mut Prepared,
    root: &Root,
    which: (&Mount, usize),
) -> Result<()> {
    let (mount, index) = which;
    let step = Step::Mount;
    let tree = match &mount.kind {
        Kind::Bind { .. } => bind(plan, prepared, root, which)?,
        Kind::New { filesystem, .. } => {
            // A link here would take a kernel file system, and what is written to it, elsewhere.
            let kernels_own = matches!(filesystem.to_bytes(), b"proc" | b"sysfs");
            let links = if kernels_own {
                Links::Refuse
            } else {
                Links::Follow
            };
            let target = target(root, which, links, Leaf::Directory)?;
            let tree = new_file_system(which, &target)?;
            mount::attach(tree.as_fd(), target.as_fd()).at(step, index, "move_mount()")?;
            tree
        }
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
    if !mount.recursive.is_empty() {
        change_attributes(&tree, Scope::Tree, mount.recursive).at(
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
    mount::fs_mount(context.as_fd(), mount.change.set).at(
        step,
        index,
        format_args!("fsmount({filesystem:?})"),
    )
}

/// Opens a terminal in the container's own devpts, binds its slave to `/dev/console` and hands over its master.
/// Returns the slave.
///
/// Nothing here is opened by a name that the image could have made something else (CVE-2025-52565).
pub(super) fn terminal(
    plan: &Plan,
    prepared: &Prepared,
    root: &Root,
    channel: &Channel,
) -> Result<Option<OwnedFd>> {
    let Some(terminal) = &plan.process.terminal else {
        return Ok(None);
    };
    let (slave, master) = open_terminal(root, terminal.size)?;
    let step = Step::Terminal;
    let console = root
        .find_or_make(c"/dev/console", Links::Follow, Leaf::File)
        .at(step, 0, "openat2(\"/dev/console\")")?;
    let tree = mount::clone_of(slave.as_fd(), Scope::One).at(step, 0, "open_tree(slave)")?;
    mount::attach(tree.as_fd(), console.as_fd()).at(step, 0, "move_mount(\"/dev/console\")")?;
    hand_over(&master, &prepared.terminal, channel)?;
    Ok(Some(slave))
}

/// Gives the master of a terminal to who asked for it; a socket gets the name of the slave as its message.
pub(crate) fn hand_over(master: &OwnedFd, to: &TerminalTo, channel: &Channel) -> Result<()> {
    let step = Step::Terminal;
    match to {
        TerminalTo::Caller => {
            channel
                .send_with(Message::Terminal, &[master.as_fd()])
                .at(step, 0, "sendmsg(parent)")
        }
        TerminalTo::Socket(socket) => {
            let name = format!(
                "/dev/pts/{}",
                tty::number(master.as_fd()).at(step, 0, "ioctl(TIOCGPTN)")?
            );
            send_fds(socket, name.as_bytes(), &[master.as_fd()]).at(
                step,
                0,
                "sendmsg(console socket)",
            )
        }
    }
}

/// A new pseudo-terminal of the devpts below `root`: its slave and its master.
pub(crate) fn open_terminal(root: &Root, size: Option<tty::Size>) -> Result<(OwnedFd, OwnedFd)> {
    let step = Step::Terminal;
    let master = root
        .open(c"/dev/pts/ptmx", OFlag::O_RDWR, Links::Refuse)
        .at(step, 0, "openat2(\"/dev/pts/ptmx\")")?;
    let stat = fstat(&master).at(step, 0, "fstat(\"/dev/pts/ptmx\")")?;
    let is_devpts =
        fstatfs(&master).is_ok_and(|statfs| statfs.filesystem_type().0 == DEVPTS_SUPER_MAGIC);
    if !is_devpts || stat.st_rdev != nix::sys::stat::makedev(5, 2) {
        return Err(Errno::ENOTTY).at(step, 0, "open(\"/dev/pts/ptmx\"): not of devpts");
    }
    tty::unlock(master.as_fd()).at(step, 0, "ioctl(TIOCSPTLCK)")?;
    let slave = tty::open_slave(master.as_fd()).at(step, 0, "ioctl(TIOCGPTPEER)")?;
    if let Some(size) = size {
        tty::set_size(master.as_fd(), size).at(step, 0, "ioctl(TIOCSWINSZ)")?;
    }
    Ok((slave, master))
}

const DEVPTS_SUPER_MAGIC: libc::c_long = 0x1cd1;

/// Makes `root` the root of this process and lets go of the host's.
pub(super) fn pivot(plan: &Plan, prepared: &Prepared, root: &Root) -> Result<()> {
    let step = Step::Pivot;
    make_cwd(plan, root);
    let (propagation, _) = plan.root.propagation;
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
    let old = travels
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
