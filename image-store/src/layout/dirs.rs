//! A layer as a directory in the form that overlay wants for a lower layer: whiteouts are character devices 0:0, opaque
//! directories carry an extended attribute.
//!
//! All calls go through directory descriptors and make plain new names (`O_EXCL`, `O_NOFOLLOW`); metadata is set through
//! the descriptor of the inode, or without following. See openat2(2), and overlayfs.rst in the kernel's documentation.

use super::content::{write_plain, write_sparse};
use super::remove::remove_all;
use super::{Sealed, Warnings, lower};
use crate::error::{Context, Error, Result, invalid};
use crate::seal::{self, Body, Leaf, Meta, Sealer};
use crate::tar::{Entry, Kind, Reader, Time};
use crate::tree::{Found, Node, NodeId, ROOT, Tree};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
    fchmod, fchown, fsetxattr, fstat, futimens, linkat, lsetxattr, makedev, mkdirat, mknodat,
    openat, openat2, symlinkat, utimensat,
};
use std::collections::HashMap;
use std::io::BufRead;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Descriptors of directories kept open.
const OPEN: usize = 128;

/// The marks that overlay understands, which differ for a file system without privilege.
pub const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];

/// A layer that is being written.
#[derive(Debug)]
pub struct Dirs {
    root: OwnedFd,
    open: HashMap<NodeId, OwnedFd>,
    privileged: bool,
    disk: u64,
    inodes: u64,
    warnings: Warnings,
    is_chained: bool,
    /// Something that was counted is gone again.
    is_miscounted: bool,
}

/// How directories below a layer's root are opened: no link is followed, nothing above is reached.
pub(super) fn beneath() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

/// Opens a directory below `root` by a path without links; an empty path is the root itself.
pub(crate) fn open_below(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    openat2(
        root,
        path,
        flags | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
        beneath(),
    )
}

pub(super) fn shown(name: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(name)
}

fn stamps(time: Time) -> Timestamps {
    let at = Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanos.into(),
    };
    Timestamps {
        last_access: at,
        last_modification: at,
    }
}

impl Dirs {
    /// Writes into the empty directory `root`.
    pub fn new(root: OwnedFd) -> Self {
        Self {
            root,
            open: HashMap::new(),
            privileged: rustix::process::geteuid().is_root(),
            disk: 0,
            inodes: 0,
            warnings: Warnings::default(),
            is_chained: false,
            is_miscounted: false,
        }
    }

    fn fd(&mut self, tree: &Tree, id: NodeId) -> Result<BorrowedFd<'_>> {
        if id == ROOT {
            return Ok(self.root.as_fd());
        }
        if !self.open.contains_key(&id) {
            if self.open.len() >= OPEN {
                let parent = tree.directory(id)?.parent;
                self.open.retain(|open, _| *open == parent);
            }
            let directory = tree.directory(id)?;
            let (from, path) = match self.open.get(&directory.parent) {
                // One step where the directory above is at hand: from the root, a deep tree would take quadratic time.
                Some(parent) => (parent.as_fd(), directory.name.to_vec()),
                None => (self.root.as_fd(), tree.path(id)),
            };
            let fd = open_below(from, &path, OFlags::PATH | OFlags::DIRECTORY)
                .call(|| format!("openat2(layer, {:?})", shown(&path)))?;
            self.open.insert(id, fd);
        }
        Ok(self.open[&id].as_fd())
    }

    /// The metadata that will stand on disk for an entry, as far as privilege allows.
    pub fn meta(&mut self, entry: &Entry) -> Meta {
        let xattrs = entry
            .xattrs
            .iter()
            .filter(|(name, _)| seal::is_kept(name))
            .cloned()
            .collect::<Vec<_>>();
        self.warnings.xattrs += (entry.xattrs.len() - xattrs.len()) as u64;
        let mut meta = Meta {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs,
        };
        if !self.privileged {
            meta.uid = rustix::process::geteuid().as_raw();
            meta.gid = rustix::process::getegid().as_raw();
        }
        meta
    }

    /// See [`super::Layout::directory`].
    pub fn directory(&mut self, tree: &Tree, parent: NodeId, name: &[u8]) -> Result<()> {
        tree.check_depth(parent)?;
        self.inodes += 1;
        mkdirat(self.fd(tree, parent)?, name, Mode::RWXU)
            .call(|| format!("mkdirat({:?})", shown(name)))
    }

    /// See [`super::Layout::file`].
    pub fn file<R: BufRead>(
        &mut self,
        (tree, parent, name): (&Tree, NodeId, &[u8]),
        entry: &Entry,
        reader: &mut Reader<R>,
    ) -> Result<Leaf> {
        let mut meta = self.meta(entry);
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(self.fd(tree, parent)?, name, flags, Mode::RUSR | Mode::WUSR)
            .call(|| format!("openat({:?}, O_CREAT|O_EXCL)", shown(name)))?;
        let content = match &entry.sparse {
            None => write_plain(&file, reader)?,
            Some(extents) => write_sparse(&file, entry.size, extents, reader)?,
        };
        self.apply(&file, &mut meta)?;
        self.count(&file)?;
        Ok(seal::leaf(&meta, Body::File(entry.size, content)))
    }

    fn count(&mut self, fd: &OwnedFd) -> Result<()> {
        self.inodes += 1;
        self.disk += disk_of(fd.as_fd())?;
        Ok(())
    }

    /// Sets owner, attributes, mode and times, in the order in which none undoes another. `meta` then says what stands.
    fn apply(&mut self, fd: &OwnedFd, meta: &mut Meta) -> Result<()> {
        if self.privileged {
            let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
            fchown(fd, Some(uid), Some(gid))
                .call(|| format!("fchown({}, {})", meta.uid, meta.gid))?;
        }
        let mut kept = Vec::with_capacity(meta.xattrs.len());
        for (name, value) in std::mem::take(&mut meta.xattrs) {
            match fsetxattr(fd, &name[..], &value, XattrFlags::empty()) {
                Ok(()) => kept.extend(stored(fd, &name, value)?.map(|value| (name, value))),
                Err(error) => self.refused(&name, error)?,
            }
        }
        meta.xattrs = kept;
        fchmod(fd, Mode::from_raw_mode(meta.mode)).call(|| format!("fchmod({:o})", meta.mode))?;
        futimens(fd, &stamps(meta.mtime)).call(|| "futimens")?;
        if meta.mtime.seconds > i64::from(i32::MAX) {
            // The file system may not know such times, and takes its last one.
            meta.mtime = super::measure::time_of(&fstat(fd).call(|| "fstat")?);
        }
        Ok(())
    }

    fn refused(&mut self, name: &[u8], error: rustix::io::Errno) -> Result<()> {
        use rustix::io::Errno;
        if matches!(error, Errno::OPNOTSUPP | Errno::PERM) {
            self.warnings.xattrs += 1;
            return Ok(());
        }
        Err(error).call(|| format!("setxattr({:?})", shown(name)))
    }

    /// See [`super::Layout::node`].
    pub fn node(
        &mut self,
        (tree, parent, name): (&Tree, NodeId, &[u8]),
        entry: &Entry,
    ) -> Result<Option<Leaf>> {
        let mut meta = self.meta(entry);
        let privileged = self.privileged;
        let dir = self.fd(tree, parent)?;
        let (kind, body) = match entry.kind {
            Kind::Symlink => (FileType::Symlink, Body::Symlink(&entry.link)),
            Kind::Char => (
                FileType::CharacterDevice,
                Body::Char(entry.device.0, entry.device.1),
            ),
            Kind::Block => (
                FileType::BlockDevice,
                Body::Block(entry.device.0, entry.device.1),
            ),
            _ => (FileType::Fifo, Body::Fifo),
        };
        let made = match kind {
            FileType::Symlink => symlinkat(&entry.link[..], dir, name),
            _ => mknodat(
                dir,
                name,
                kind,
                Mode::RUSR | Mode::WUSR,
                makedev(entry.device.0, entry.device.1),
            ),
        };
        match made {
            Err(rustix::io::Errno::PERM) if kind != FileType::Symlink => {
                self.warnings.nodes += 1;
                return Ok(None);
            }
            made => made.call(|| format!("mknodat({:?}, {kind:?})", shown(name)))?,
        }
        if privileged {
            let owner = (Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)));
            rustix::fs::chownat(dir, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
                .call(|| format!("fchownat({:?})", shown(name)))?;
        }
        if kind == FileType::Symlink {
            meta.mode = 0o777;
            self.warnings.xattrs += meta.xattrs.drain(..).count() as u64;
        } else {
            self.node_attributes(tree, parent, name, &mut meta)?;
        }
        let dir = self.fd(tree, parent)?;
        utimensat(dir, name, &stamps(meta.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .call(|| format!("utimensat({:?})", shown(name)))?;
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .call(|| format!("fstatat({:?})", shown(name)))?;
        self.inodes += 1;
        self.disk += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        Ok(Some(seal::leaf(&meta, body)))
    }

    /// A node must not be opened, so its attributes and mode go through a path descriptor of it.
    fn node_attributes(
        &mut self,
        tree: &Tree,
        parent: NodeId,
        name: &[u8],
        meta: &mut Meta,
    ) -> Result<()> {
        let node = openat(
            self.fd(tree, parent)?,
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .call(|| format!("openat({:?}, O_PATH)", shown(name)))?;
        let through = format!("/proc/self/fd/{}", node.as_raw_fd());
        let mut kept = Vec::new();
        for (key, value) in std::mem::take(&mut meta.xattrs) {
            match rustix::fs::setxattr(&through, &key[..], &value, XattrFlags::empty()) {
                Ok(()) => kept.push((key, value)),
                Err(error) => self.refused(&key, error)?,
            }
        }
        meta.xattrs = kept;
        rustix::fs::chmod(&through, Mode::from_raw_mode(meta.mode))
            .call(|| format!("chmod({:?})", shown(name)))
    }

    /// See [`super::Layout::link`].
    pub fn link(&mut self, tree: &Tree, from: (NodeId, &[u8]), to: (NodeId, &[u8])) -> Result<()> {
        // Both descriptors at once: the second look-up may empty the table.
        let old = self.fd(tree, from.0)?.try_clone_to_owned().call(|| "dup")?;
        let new = self.fd(tree, to.0)?;
        linkat(&old, from.1, new, to.1, AtFlags::empty())
            .call(|| format!("linkat({:?}, {:?})", shown(from.1), shown(to.1)))
    }

    /// See [`super::Layout::remove`].
    pub fn remove(&mut self, tree: &Tree, parent: NodeId, name: &[u8]) -> Result<()> {
        self.open.clear();
        self.is_miscounted = true;
        let dir = self.fd(tree, parent)?;
        remove_all(dir, name)
    }

    /// See [`super::Layout::finish`].
    pub fn finish(
        &mut self,
        tree: &mut Tree,
        lowers: &[BorrowedFd<'_>],
        warnings: Warnings,
    ) -> Result<Sealed> {
        self.resolve_links(tree, lowers)?;
        self.inherit(tree, lowers)?;
        let mut sealer = Sealer::default();
        let mut seen = HashMap::new();
        self.close_directory(tree, ROOT, &mut Vec::new(), &mut sealer, &mut seen)?;
        let (mut disk, mut inodes) = (self.disk, self.inodes + 1);
        if self.is_miscounted {
            let there = super::measure::layer(self.root.as_fd())?;
            (disk, inodes) = (there.disk, there.inodes);
        }
        Ok(Sealed {
            seal: sealer.finish(),
            is_chained: self.is_chained,
            disk,
            inodes,
            warnings: Warnings {
                xattrs: self.warnings.xattrs,
                nodes: self.warnings.nodes,
                ..warnings
            },
        })
    }

    /// Copies up the files of lower layers that this layer links to.
    fn resolve_links(&mut self, tree: &mut Tree, lowers: &[BorrowedFd<'_>]) -> Result<()> {
        let mut todo = Vec::new();
        let mut stack = vec![ROOT];
        while let Some(id) = stack.pop() {
            for (name, child) in &tree.directory(id)?.children {
                match tree.node(*child) {
                    Node::Directory(_) => stack.push(*child),
                    Node::Pending(target) => todo.push((id, name.clone(), target.clone())),
                    _ => {}
                }
            }
        }
        for (parent, name, target) in todo {
            let absent = || {
                let path = target.join(&b'/');
                invalid(format!(
                    "hard link {:?}: no such file {:?} in this or a lower layer",
                    shown(&name),
                    shown(&path)
                ))
            };
            let (lower, path) =
                lower::find(lowers, &target, lower::Links::Follow)?.ok_or_else(absent)?;
            self.is_chained = true;
            let place = match tree.lookup(&path)? {
                Found::Node(node) => node,
                Found::Missing(path) => self
                    .copy_up(tree, lowers[lower], &path)
                    .map_err(|e| e.at(shown(&name)))?,
            };
            let (holder, first) = path
                .split_last()
                .ok_or_else(absent)
                .map(|(first, holder)| (holder, first))?;
            let Found::Node(holder) = tree.lookup_directory(holder)? else {
                return Err(absent());
            };
            tree.remove(parent, &name)?;
            self.link(tree, (holder, first), (parent, &name))?;
            tree.link(parent, &name, place)?;
        }
        Ok(())
    }

    fn copy_up(
        &mut self,
        tree: &mut Tree,
        lower: BorrowedFd<'_>,
        path: &[Box<[u8]>],
    ) -> Result<NodeId> {
        let (name, parents) = path
            .split_last()
            .ok_or_else(|| invalid("link to the root"))?;
        let mut at = ROOT;
        for part in parents {
            at = match tree.child(at, part) {
                Some(next) => next,
                None => {
                    self.directory(tree, at, part)?;
                    tree.insert(at, part, Node::Directory(Box::default()))?
                }
            };
        }
        let dir = self.fd(tree, at)?.try_clone_to_owned().call(|| "dup")?;
        let from = open_below(
            lower,
            &parents.join(&b'/'),
            OFlags::PATH | OFlags::DIRECTORY,
        )
        .call(|| "openat2(lower)")?;
        lower::copy(from.as_fd(), dir.as_fd(), name)?;
        let measured = super::measure::inode(dir.as_fd(), name)?;
        self.disk += measured.disk;
        self.inodes += 1;
        let node = match measured.symlink {
            Some(target) => Node::Symlink(target.into(), measured.leaf, 1),
            None => Node::Other(measured.leaf, 1),
        };
        tree.insert(at, name, node)
    }

    /// Gives directories that the archive only implies the metadata of the lower layers.
    fn inherit(&mut self, tree: &mut Tree, lowers: &[BorrowedFd<'_>]) -> Result<()> {
        let mut plain = Meta {
            mode: 0o755,
            ..Meta::default()
        };
        if !self.privileged {
            plain.uid = rustix::process::geteuid().as_raw();
            plain.gid = rustix::process::getegid().as_raw();
        }
        let mut stack = vec![ROOT];
        while let Some(id) = stack.pop() {
            hide_lowers(tree, id)?;
            let directory = tree.directory(id)?;
            let children = directory.children.values().copied().collect::<Vec<_>>();
            stack.extend(
                children
                    .into_iter()
                    .filter(|child| matches!(tree.node(*child), Node::Directory(_))),
            );
            if directory.meta.is_some() {
                continue;
            }
            let path = crate::tree::clean(&tree.path(id));
            let hidden = is_hidden(tree, id)?;
            let mut found = plain.clone();
            if !hidden && let Some(meta) = lower::directory_meta(lowers, &path)? {
                found = meta;
                if id == ROOT {
                    // Nobody relies on the time of the root, and most layers imply theirs.
                    found.mtime = Time::default();
                }
            }
            self.is_chained |= found != plain;
            tree.directory_mut(id)?.meta = Some(found);
        }
        Ok(())
    }

    fn close_directory(
        &mut self,
        tree: &Tree,
        id: NodeId,
        path: &mut Vec<u8>,
        sealer: &mut Sealer,
        seen: &mut HashMap<NodeId, Vec<u8>>,
    ) -> Result<()> {
        let directory = tree.directory(id)?;
        let readable = open_below(self.root.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY)
            .call(|| format!("openat2(layer, {:?})", shown(path)))?;
        let hidden = directory
            .whiteouts
            .iter()
            .filter(|name| !directory.children.contains_key(*name));
        for name in hidden.clone() {
            mknodat(
                &readable,
                &name[..],
                FileType::CharacterDevice,
                Mode::empty(),
                0,
            )
            .call(|| format!("mknodat({:?}, whiteout)", shown(name)))?;
        }
        let mut meta = directory.meta.clone().unwrap_or_default();
        if directory.opaque {
            self.mark_opaque(&readable)?;
        }
        self.apply(&readable, &mut meta)?;
        self.disk += disk_of(readable.as_fd())?;
        // Closed before the walk goes down: a deep tree would need too many, and what happens below changes no time here.
        drop(readable);
        sealer.add(
            path,
            &seal::leaf(
                &meta,
                Body::Directory {
                    opaque: directory.opaque,
                },
            ),
        );
        let mut names: Vec<(&[u8], Option<NodeId>)> =
            hidden.map(|name| (&name[..], None)).collect();
        names.extend(
            directory
                .children
                .iter()
                .map(|(name, child)| (&name[..], Some(*child))),
        );
        names.sort_unstable();
        let length = path.len();
        for (name, child) in names {
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            match child.map(|child| (child, tree.node(child))) {
                None => sealer.add(path, &seal::leaf(&Meta::default(), Body::Whiteout)),
                Some((child, Node::Directory(_))) => {
                    self.close_directory(tree, child, path, sealer, seen)?;
                }
                Some((child, Node::Symlink(_, leaf, links) | Node::Other(leaf, links))) => {
                    match seen.get(&child) {
                        Some(first) => sealer.link(path, first),
                        None => {
                            sealer.add(path, leaf);
                            if *links > 1 {
                                seen.insert(child, path.clone());
                            }
                        }
                    }
                }
                Some((_, Node::Pending(_) | Node::Removed)) => {
                    return Err(invalid("layer tree is broken"));
                }
            }
            path.truncate(length);
        }
        Ok(())
    }

    fn mark_opaque(&mut self, fd: &OwnedFd) -> Result<()> {
        let name = OPAQUE[usize::from(!self.privileged)];
        match fsetxattr(fd, name, b"y", XattrFlags::empty()) {
            // Root of a user namespace may not set trusted attributes; overlay then reads the user ones.
            Err(rustix::io::Errno::PERM) => fsetxattr(fd, OPAQUE[1], b"y", XattrFlags::empty()),
            done => done,
        }
        .call(|| format!("fsetxattr({name})"))
    }
}

/// A directory whose name is also hidden by a whiteout of this layer starts anew: it hides what is below it.
fn hide_lowers(tree: &mut Tree, id: NodeId) -> Result<()> {
    let directory = tree.directory(id)?;
    let hidden = directory
        .whiteouts
        .iter()
        .filter_map(|name| directory.children.get(name).copied());
    for child in hidden.collect::<Vec<_>>() {
        if let Node::Directory(child) = tree.node_mut(child) {
            child.opaque = true;
        }
    }
    Ok(())
}

fn is_hidden(tree: &Tree, mut id: NodeId) -> Result<bool> {
    while id != ROOT {
        let directory = tree.directory(id)?;
        let parent = tree.directory(directory.parent)?;
        if directory.opaque || parent.opaque || parent.whiteouts.contains(&directory.name) {
            return Ok(true);
        }
        id = directory.parent;
    }
    Ok(false)
}

/// What the kernel keeps of an attribute: it rewrites some (capabilities) and drops others (an access list that says no
/// more than the mode).
fn stored(fd: &OwnedFd, name: &[u8], value: Vec<u8>) -> Result<Option<Vec<u8>>> {
    if name.starts_with(b"user.") {
        return Ok(Some(value));
    }
    let mut buffer = vec![0; crate::limits::XATTR_VALUE];
    match rustix::fs::fgetxattr(fd, name, &mut buffer[..]) {
        Ok(length) => {
            buffer.truncate(length);
            Ok(Some(buffer))
        }
        Err(rustix::io::Errno::NODATA) => Ok(None),
        Err(error) => Err(error).call(|| format!("fgetxattr({:?})", shown(name))),
    }
}

pub(super) fn disk_of(fd: BorrowedFd<'_>) -> Result<u64> {
    let stat = fstat(fd).call(|| "fstat")?;
    Ok(u64::try_from(stat.st_blocks).unwrap_or(0) * 512)
}

/// Sets an attribute of a name without following it.
pub(super) fn set_xattr_at(
    dir: BorrowedFd<'_>,
    name: &[u8],
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    let path = [
        format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(),
        name,
    ]
    .concat();
    lsetxattr(&path[..], key, value, XattrFlags::empty())
        .map_err(|error| Error::os(format!("lsetxattr({:?})", shown(key)), &error.into()))
}
