//! A layer as a directory in the form that overlay wants for a lower layer: whiteouts are character devices 0:0, opaque
//! directories carry an extended attribute.
//!
//! All calls go through directory descriptors and make plain new names (`O_EXCL`, `O_NOFOLLOW`); metadata is set through
//! the descriptor of the inode, or without following. See openat2(2), and overlayfs.rst in the kernel's documentation.

use super::Warnings;
use super::content::{write_plain, write_sparse};
use super::remove::remove_all;
use super::room::Room;
use crate::error::{Context, Error, Result};
use crate::seal::{self, Body, Leaf, Meta};
use crate::tar::{Entry, Kind, Reader, Time};
use crate::tree::{NodeId, ROOT, Tree};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
    fchmod, fchown, fsetxattr, fstat, futimens, linkat, lsetxattr, makedev, mkdirat, mknodat,
    openat, openat2, symlinkat, utimensat,
};
use std::collections::HashMap;
use std::io::BufRead;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

mod finish;

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
    room: Room,
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
            room: Room::default(),
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
        self.room.take(&file, super::room::FILE)?;
        let content = match &entry.sparse {
            None => write_plain(&file, reader, &mut self.room)?,
            Some(extents) => write_sparse(&file, (entry.size, extents), reader, &mut self.room)?,
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
