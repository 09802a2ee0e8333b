//! Mounts of a container that lead out of it: CRIU neither writes nor makes them, and is told where they are.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::bundle::path_of;
use crate::cgroup::Cgroup;
use crate::error::{Call, Context, Error, Result};
use crate::plan::Plan;
use crate::plan::mounts::{Kind, Mount};
use crate::root::{Leaf, Links, Root};
use crate::spec::NamespaceKind;

/// What a masked file is covered with.
pub(super) const NULL: &[u8] = b"/dev/null";

/// One such mount.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct External {
    /// As the configuration has it: links of the root are not followed yet.
    pub(super) inside: PathBuf,
    pub(super) outside: PathBuf,
}

/// Those of the configuration, in its order; `bundle` is what its paths are relative to.
pub(super) fn of(plan: &Plan, bundle: &Path, cgroup: &Cgroup) -> Vec<External> {
    let external = |inside: &Path, outside: PathBuf| External {
        inside: inside.to_owned(),
        outside,
    };
    let own_view = plan.namespaces.has(NamespaceKind::Cgroup);
    let mut all = Vec::new();
    for mount in &plan.mounts {
        let inside = path(&mount.destination);
        match &mount.kind {
            Kind::Bind { source, .. } => all.push(external(inside, bundle.join(source))),
            // With a namespace of its own it has file systems of its own.
            Kind::Cgroup if !own_view => match cgroup.unified_view() {
                Some(view) => all.push(external(inside, path(&view).to_owned())),
                None => all.extend(cgroup.views().map(|(name, directory)| {
                    let name = name.strip_prefix("name=").unwrap_or(name);
                    external(&inside.join(name), directory.to_owned())
                })),
            },
            _ => {}
        }
    }
    let devices = plan.devices.iter().filter(|device| device.index.is_some());
    all.extend(devices.map(|device| {
        let node = path(&device.path);
        external(node, node.to_owned())
    }));
    all
}

/// What CRIU would make otherwise than it was.
pub(super) fn check(plan: &Plan) -> Result<()> {
    let mapped = |mount: &Mount| matches!(mount.kind, Kind::Bind { idmap: Some(_), .. });
    if let Some(index) = plan.mounts.iter().position(mapped) {
        return Err(Error::unsupported(format!(
            "/mounts/{index}: CRIU does not restore id-mapped mounts"
        )));
    }
    if plan.root.ids.is_some() {
        return Err(Error::unsupported(
            "/root: CRIU does not restore an id-mapped root",
        ));
    }
    Ok(())
}

/// The directory at `path` as the root of lookups.
pub(super) fn open_root(path: &Path) -> Result<Root> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = openat(AT_FDCWD, path, flags, Mode::empty());
    Ok(Root::new(
        directory.call(|| format!("open({path:?}, O_PATH|O_DIRECTORY)"))?,
    ))
}

/// Where `inside` leads to in `root`, as a path in it; unchanged where nothing is.
pub(super) fn resolve(root: &Root, inside: &Path) -> Result<PathBuf> {
    let name = std::ffi::CString::new(inside.as_os_str().as_bytes()).unwrap_or_default();
    match root.find(&name, Links::Follow) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(inside.to_owned()),
        found => below(root, &found.call(|| format!("openat2({inside:?})"))?),
    }
}

fn below(root: &Root, found: &OwnedFd) -> Result<PathBuf> {
    let found = path_of(found.as_fd())?;
    let root = path_of(root.as_fd())?;
    let rest = found.strip_prefix(&root).unwrap_or(&found);
    Ok(Path::new("/").join(rest))
}

/// Makes the places of the mounts in `root`, as a start of the container would have: CRIU finds them there.
pub(super) fn make_places(plan: &Plan, bundle: &Path, root: &Path) -> Result<()> {
    let root = open_root(root)?;
    for (index, mount) in plan.mounts.iter().enumerate() {
        let element = || format!("mounts[{index}] {:?}", mount.destination);
        make_place(plan, bundle, &root, index).context(element)?;
    }
    Ok(())
}

fn make_place(plan: &Plan, bundle: &Path, root: &Root, index: usize) -> Result<()> {
    let mount = &plan.mounts[index];
    let inside = path(&mount.destination);
    let leaf = match &mount.kind {
        Kind::Bind { source, .. } => leaf_for(&bundle.join(source))?,
        Kind::Remount => return Ok(()),
        _ => Leaf::Directory,
    };
    // The nearest of the earlier mounts that it lies in.
    let covers = |earlier: &&Mount| {
        let covers = path(&earlier.destination);
        inside.starts_with(covers) && inside != covers
    };
    let around = plan.mounts[..index].iter().rev().find(covers);
    match around.map(|mount| (&mount.kind, path(&mount.destination))) {
        None => make(root, inside, leaf),
        Some((Kind::Bind { source, .. }, covers)) => {
            let rest = inside.strip_prefix(covers).unwrap_or(inside);
            make(
                &open_root(&bundle.join(source))?,
                &Path::new("/").join(rest),
                leaf,
            )
        }
        // CRIU makes what is in there.
        Some(_) => Ok(()),
    }
}

fn make(root: &Root, inside: &Path, leaf: Leaf) -> Result<()> {
    let name = std::ffi::CString::new(inside.as_os_str().as_bytes()).unwrap_or_default();
    root.find_or_make(&name, Links::Follow, leaf)
        .map(drop)
        .call(|| format!("mkdirat({inside:?})"))
}

fn leaf_for(source: &Path) -> Result<Leaf> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let source_fd = openat(AT_FDCWD, source, flags, Mode::empty())
        .call(|| format!("open({source:?}, O_PATH)"))?;
    let stat = fstat(&source_fd).call(|| format!("fstat({source:?})"))?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    Ok(if kind == SFlag::S_IFDIR {
        Leaf::Directory
    } else {
        Leaf::File
    })
}

/// The masked paths that are files of the container, each covered by a mount of a device.
pub(super) fn masked_files<'a>(plan: &'a Plan, root: &Root) -> Result<Vec<&'a Path>> {
    let mut files = Vec::new();
    for masked in &plan.masked_paths {
        let found = match root.find(masked, Links::Follow) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES) => continue,
            found => found.call(|| format!("openat2({masked:?})"))?,
        };
        let stat = fstat(&found).call(|| format!("fstat({masked:?})"))?;
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFDIR {
            files.push(path(masked));
        }
    }
    Ok(files)
}

fn path(name: &CStr) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()))
}
