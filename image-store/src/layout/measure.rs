//! Reads a layer's directory back and computes its seal, sizes included.

use super::dirs::{OPAQUE, disk_of, open_below};
use super::remove::names;
use crate::error::{Context, Result, invalid, limit};
use crate::limits;
use crate::seal::{self, Body, Leaf, Meta, Sealer};
use crate::tar::Time;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What a layer on disk came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// Its seal.
    pub seal: String,
    /// Bytes of disk.
    pub disk: u64,
    /// Count of inodes.
    pub inodes: u64,
}

/// One inode that is no directory.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) leaf: Leaf,
    pub(super) disk: u64,
    pub(super) symlink: Option<Vec<u8>>,
}

/// Reads the whole layer below `root`.
pub fn layer(root: BorrowedFd<'_>) -> Result<Measured> {
    let mut walk = Walk {
        root,
        sealer: Sealer::default(),
        seen: HashMap::new(),
        disk: 0,
        inodes: 0,
    };
    walk.directory(&mut Vec::new())?;
    Ok(Measured {
        seal: walk.sealer.finish(),
        disk: walk.disk,
        inodes: walk.inodes,
    })
}

struct Walk<'a> {
    root: BorrowedFd<'a>,
    sealer: Sealer,
    seen: HashMap<u64, Vec<u8>>,
    disk: u64,
    inodes: u64,
}

impl Walk<'_> {
    fn directory(&mut self, path: &mut Vec<u8>) -> Result<()> {
        if path.len() > limits::PATH {
            return Err(limit("layer is deeper than a path can name"));
        }
        let fd = open_below(self.root, path, OFlags::RDONLY | OFlags::DIRECTORY)
            .call(|| format!("openat2(layer, {:?})", String::from_utf8_lossy(path)))?;
        let meta = meta_of(
            &rustix::fs::fstat(&fd).call(|| "fstat")?,
            xattrs(fd.as_fd())?,
        );
        let opaque = OPAQUE
            .iter()
            .any(|name| rustix::fs::fgetxattr(&fd, *name, &mut [0u8; 1][..]) == Ok(1));
        self.sealer
            .add(path, &seal::leaf(&meta, Body::Directory { opaque }));
        self.inodes += 1;
        self.disk += disk_of(fd.as_fd())?;
        let mut directories = Vec::new();
        // Names go in sorted, so the files between two directories wait for the first of them.
        for name in names(fd.as_fd())? {
            let stat = statat(&fd, &name[..], AtFlags::SYMLINK_NOFOLLOW).call(|| "fstatat")?;
            directories.push((name, stat));
        }
        let fd = Holder { fd: Some(fd) };
        self.entries(fd, path, directories)
    }

    fn entries(
        &mut self,
        mut holder: Holder,
        path: &mut Vec<u8>,
        entries: Vec<(Vec<u8>, Stat)>,
    ) -> Result<()> {
        let length = path.len();
        for (name, stat) in entries {
            let prefix = path.clone();
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                // Not held while the walk is further down: a deep tree would need too many.
                holder.fd = None;
                self.directory(path)?;
            } else if let Some(first) = self.seen.get(&stat.st_ino) {
                self.sealer.link(path, first);
            } else {
                let inode = inode(holder.open(self.root, &prefix)?, &name)?;
                self.sealer.add(path, &inode.leaf);
                if !is_whiteout(&stat) {
                    self.disk += inode.disk;
                    self.inodes += 1;
                }
                if stat.st_nlink > 1 && !is_whiteout(&stat) {
                    self.seen.insert(stat.st_ino, path.clone());
                }
            }
            path.truncate(length);
        }
        Ok(())
    }
}

/// A directory's descriptor that is given up and opened again.
struct Holder {
    fd: Option<OwnedFd>,
}

impl Holder {
    fn open(&mut self, root: BorrowedFd<'_>, path: &[u8]) -> Result<BorrowedFd<'_>> {
        if self.fd.is_none() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            self.fd = Some(open_below(root, path, flags).call(|| "openat2(layer)")?);
        }
        self.fd
            .as_ref()
            .map(AsFd::as_fd)
            .ok_or_else(|| invalid("directory is closed"))
    }
}

/// Whether this is overlay's mark for a hidden name.
pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// The metadata of a stat and its attributes.
pub(super) fn meta_of(stat: &Stat, xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> Meta {
    Meta {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: time_of(stat),
        xattrs,
    }
}

/// When the content was changed last.
pub(super) fn time_of(stat: &Stat) -> Time {
    Time {
        seconds: stat.st_mtime,
        nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
    }
}

/// Reads one inode that is no directory.
pub(super) fn inode(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Inode> {
    let shown = || String::from_utf8_lossy(name).into_owned();
    let stat =
        statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).call(|| format!("fstatat({:?})", shown()))?;
    let disk = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
    let (major, minor) = (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    );
    let plain = |meta: &Meta, body: Body<'_>| Inode {
        leaf: seal::leaf(meta, body),
        disk,
        symlink: None,
    };
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = openat(dir, name, flags, Mode::empty())
                .call(|| format!("openat({:?})", shown()))?;
            let meta = meta_of(&stat, xattrs(file.as_fd())?);
            plain(
                &meta,
                Body::File(u64::try_from(stat.st_size).unwrap_or(0), content(&file)?),
            )
        }
        FileType::Symlink => {
            let target = readlinkat(dir, name, Vec::new())
                .call(|| format!("readlinkat({:?})", shown()))?
                .into_bytes();
            let leaf = seal::leaf(&meta_of(&stat, Vec::new()), Body::Symlink(&target));
            Inode {
                leaf,
                disk,
                symlink: Some(target),
            }
        }
        FileType::CharacterDevice if stat.st_rdev == 0 => plain(&Meta::default(), Body::Whiteout),
        kind => {
            let node = openat(
                dir,
                name,
                OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .call(|| format!("openat({:?}, O_PATH)", shown()))?;
            let meta = meta_of(
                &stat,
                path_xattrs(&format!("/proc/self/fd/{}", node.as_raw_fd()))?,
            );
            match kind {
                FileType::CharacterDevice => plain(&meta, Body::Char(major, minor)),
                FileType::BlockDevice => plain(&meta, Body::Block(major, minor)),
                FileType::Fifo => plain(&meta, Body::Fifo),
                _ => {
                    return Err(invalid(format!(
                        "{:?} has a type that no layer has",
                        shown()
                    )));
                }
            }
        }
    })
}

fn content(file: &OwnedFd) -> Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = rustix::io::read(file, &mut buffer[..]).call(|| "read")?;
        if read == 0 {
            return Ok(*hasher.finalize().as_bytes());
        }
        hasher.update(&buffer[..read]);
    }
}

/// The attributes that count, sorted by name.
pub fn xattrs(fd: BorrowedFd<'_>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    collect(
        |buffer| rustix::fs::flistxattr(fd, buffer),
        |name, buffer| rustix::fs::fgetxattr(fd, name, buffer),
    )
}

/// The same by a path, for what cannot be opened.
pub fn path_xattrs(path: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    collect(
        |buffer| rustix::fs::listxattr(path, buffer),
        |name, buffer| rustix::fs::getxattr(path, name, buffer),
    )
}

fn collect(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut small = [0; 1024];
    let listed = match list(&mut small) {
        Ok(0) | Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Ok(length) => small[..length].to_vec(),
        Err(rustix::io::Errno::RANGE) => {
            let mut large = vec![0; limits::XATTR_VALUE];
            let length = list(&mut large).call(|| "listxattr")?;
            large.truncate(length);
            large
        }
        Err(error) => return Err(error).call(|| "listxattr"),
    };
    let mut found = Vec::new();
    for name in listed.split(|b| *b == 0).filter(|name| seal::is_kept(name)) {
        let mut value = vec![0; limits::XATTR_VALUE];
        let length = get(name, &mut value)
            .call(|| format!("getxattr({:?})", String::from_utf8_lossy(name)))?;
        value.truncate(length);
        found.push((name.to_vec(), value));
    }
    found.sort_unstable();
    Ok(found)
}
