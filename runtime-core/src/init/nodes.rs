//! `/dev`: device nodes and the links that every program expects.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::{Mode, mknodat, umask};
use nix::unistd::{AccessFlags, Gid, Uid, UnlinkatFlags, access, fchownat, symlinkat, unlinkat};

use super::{At, Prepared, Result, Step};
use crate::kernel::mount::{self, Scope};
use crate::plan::Plan;
use crate::plan::devices::Device;
use crate::plan::mounts::DevSetup;
use crate::root::{Leaf, Links, Root, is_device};

/// Links in `/dev`, config-linux.md "Default Devices" and runtime-linux.md "Dev symbolic links".
const LINKS: [(&CStr, &CStr); 4] = [
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
];

pub(super) fn make(plan: &Plan, prepared: &mut Prepared, root: &Root) -> Result<()> {
    if plan.dev_setup == DevSetup::Leave {
        return Ok(());
    }
    let dev = root
        .find_or_make(c"/dev", Links::Follow, Leaf::Directory)
        .at(Step::Dev, 0, "openat2(\"/dev\")")?;
    // Modes are meant as they are written.
    let mask = umask(Mode::empty());
    let made = plan
        .devices
        .iter()
        .enumerate()
        .try_for_each(|(place, device)| {
            // What every container has is not in the list.
            let index = device.index.unwrap_or(usize::MAX);
            if device.bind {
                let tree = prepared.device_trees.get_mut(place).and_then(Option::take);
                return bind(device, tree, root, index);
            }
            // Nearly all are right below /dev.
            match device.path.to_bytes().strip_prefix(b"/dev/") {
                Some(name) if !name.contains(&b'/') => make_node(device, &dev, name, index),
                _ => {
                    let (parent, name) = parent_of(device, root, index)?;
                    make_node(device, &parent, name, index)
                }
            }
        });
    umask(mask);
    made?;
    links(&dev)
}

/// Opens the directory above a node and gives it with the node's name.
fn parent_of<'a>(device: &'a Device, root: &Root, index: usize) -> Result<(OwnedFd, &'a [u8])> {
    let path = device.path.to_bytes();
    let slash = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    let parent = CString::new(&path[..slash.max(1)]).unwrap_or_default();
    let parent = root
        .find_or_make(&parent, Links::Follow, Leaf::Directory)
        .at(Step::Device, index, format_args!("openat2({parent:?})"))?;
    Ok((parent, &path[slash + 1..]))
}

fn make_node(device: &Device, parent: &OwnedFd, name: &[u8], index: usize) -> Result<()> {
    let name = CString::new(name).unwrap_or_default();
    match mknodat(
        parent,
        name.as_c_str(),
        device.kind,
        device.mode,
        device.number,
    ) {
        Ok(()) => {}
        // An image may bring the same node; anything else of that name is in the way.
        Err(Errno::EEXIST)
            if is_device(parent.as_fd(), &name, device.kind, device.number) == Ok(true) => {}
        Err(errno) => return Err(errno).at(Step::Device, index, format_args!("mknodat({name:?})")),
    }
    if (device.uid, device.gid) == (0, 0) {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    fchownat(
        parent,
        name.as_c_str(),
        Some(uid),
        Some(gid),
        nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
    )
    .at(
        Step::Device,
        index,
        format_args!("fchownat({name:?}, {uid}, {gid})"),
    )
}

/// Binds the host's node, for who may make none.
fn bind(device: &Device, tree: Option<OwnedFd>, root: &Root, index: usize) -> Result<()> {
    let step = Step::Device;
    let path = &device.path;
    let tree = match tree {
        Some(tree) => tree,
        None => mount::clone_of_path(path, Scope::One).at(
            step,
            index,
            format_args!("open_tree({path:?})"),
        )?,
    };
    let target = root.find_or_make(path, Links::Follow, Leaf::File).at(
        step,
        index,
        format_args!("openat2({path:?})"),
    )?;
    mount::attach(tree.as_fd(), target.as_fd()).at(
        step,
        index,
        format_args!("move_mount({path:?})"),
    )
}

fn links(dev: &OwnedFd) -> Result<()> {
    let link = |name: &CStr, target: &CStr| symlinkat(target, dev, name);
    for (name, target) in LINKS {
        match link(name, target) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno).at(Step::Dev, 0, format_args!("symlinkat({name:?})")),
        }
    }
    if access("/proc/kcore", AccessFlags::F_OK).is_ok() {
        let _ = link(c"core", c"/proc/kcore");
    }
    // A ptmx that is not the one of the container's own devpts would open terminals of the host.
    let made = match link(c"ptmx", c"pts/ptmx") {
        Err(Errno::EEXIST) => unlinkat(dev, c"ptmx", UnlinkatFlags::NoRemoveDir)
            .and_then(|()| link(c"ptmx", c"pts/ptmx")),
        made => made,
    };
    made.at(Step::Dev, 0, "symlinkat(\"ptmx\")")
}
