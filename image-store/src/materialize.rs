//! Writes the union of an image's layers into a plain directory, as `unpack` and `bundle` want it.

use crate::error::{Context, Error, ErrorKind, Result};
use crate::layout::dirs::open_below;
use crate::layout::lower::{copy, is_opaque, set_meta};
use crate::layout::measure::{is_whiteout, xattrs};
use crate::layout::remove::{names, remove_all};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, linkat, mkdirat, statat};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Opens `dir` for writing a file system into it: made if it does not exist, refused if it is not empty.
pub fn open_empty(dir: &Path) -> Result<OwnedFd> {
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        done => done.call(|| format!("mkdir {dir:?}"))?,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(dir, flags, Mode::empty()).call(|| format!("open {dir:?}"))?;
    if names(fd.as_fd())?.is_empty() {
        return Ok(fd);
    }
    Err(Error::new(
        ErrorKind::AlreadyExists,
        format!("{dir:?} is not empty"),
    ))
}

/// Writes the union of `layers` (bottom first) into the empty directory `target`.
pub fn materialize(layers: &[BorrowedFd<'_>], target: BorrowedFd<'_>) -> Result<()> {
    let mut directories = BTreeMap::new();
    for layer in layers {
        Layer {
            layer: *layer,
            target,
            links: HashMap::new(),
            directories: &mut directories,
        }
        .write()?;
    }
    // Deepest first: what is set above must not be touched again from below.
    for (path, meta) in directories.iter().rev() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = open_below(target, path, flags)
            .call(|| format!("openat2({:?})", String::from_utf8_lossy(path)))?;
        set_meta(&fd, &meta.stat, meta.xattrs.clone())?;
    }
    Ok(())
}

/// What a directory gets in the end.
struct Meta {
    stat: Stat,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

struct Layer<'a> {
    layer: BorrowedFd<'a>,
    target: BorrowedFd<'a>,
    /// First path of each inode with several names.
    links: HashMap<u64, Vec<u8>>,
    directories: &'a mut BTreeMap<Vec<u8>, Meta>,
}

impl Layer<'_> {
    fn write(mut self) -> Result<()> {
        let mut todo = vec![Vec::new()];
        while let Some(path) = todo.pop() {
            self.directory(&path, &mut todo)?;
        }
        Ok(())
    }

    fn directory(&mut self, path: &[u8], todo: &mut Vec<Vec<u8>>) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let shown = || String::from_utf8_lossy(path).into_owned();
        let from = open_below(self.layer, path, flags)
            .call(|| format!("openat2(layer, {:?})", shown()))?;
        let to = open_below(self.target, path, flags)
            .call(|| format!("openat2(target, {:?})", shown()))?;
        if is_opaque(&from) {
            for name in names(to.as_fd())? {
                remove_all(to.as_fd(), &name)?;
            }
            self.forget_below(path);
        }
        let stat = rustix::fs::fstat(&from).call(|| "fstat")?;
        self.directories.insert(
            path.to_vec(),
            Meta {
                stat,
                xattrs: xattrs(from.as_fd())?,
            },
        );
        for name in names(from.as_fd())? {
            let stat = statat(&from, &name[..], AtFlags::SYMLINK_NOFOLLOW).call(|| "fstatat")?;
            let inner = if path.is_empty() {
                name.clone()
            } else {
                [path, &b"/"[..], &name].concat()
            };
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if is_directory && is_directory_at(&to, &name)? {
                todo.push(inner);
                continue;
            }
            remove_all(to.as_fd(), &name)?;
            self.forget(&inner);
            if is_directory {
                mkdirat(&to, &name[..], Mode::RWXU).call(|| format!("mkdirat({:?})", shown()))?;
                todo.push(inner);
            } else if !is_whiteout(&stat) {
                self.leaf((&from, &to), &name, inner, &stat)?;
            }
        }
        Ok(())
    }

    fn leaf(
        &mut self,
        (from, to): (&OwnedFd, &OwnedFd),
        name: &[u8],
        path: Vec<u8>,
        stat: &Stat,
    ) -> Result<()> {
        if let Some(first) = self.links.get(&stat.st_ino) {
            let (holder, old) = match first.iter().rposition(|b| *b == b'/') {
                Some(at) => (&first[..at], &first[at + 1..]),
                None => (&b""[..], &first[..]),
            };
            let holder = open_below(self.target, holder, OFlags::PATH | OFlags::DIRECTORY)
                .call(|| "openat2(target)")?;
            return linkat(&holder, old, to, name, AtFlags::empty())
                .call(|| format!("linkat({:?})", String::from_utf8_lossy(name)));
        }
        copy(from.as_fd(), to.as_fd(), name)?;
        if stat.st_nlink > 1 {
            self.links.insert(stat.st_ino, path);
        }
        Ok(())
    }

    /// Drops the metadata of a directory that was replaced, and of all below it.
    fn forget(&mut self, path: &[u8]) {
        self.directories.remove(path);
        self.forget_below(path);
    }

    fn forget_below(&mut self, path: &[u8]) {
        let prefix = if path.is_empty() {
            Vec::new()
        } else {
            [path, &b"/"[..]].concat()
        };
        let below = self
            .directories
            .range(prefix.clone()..)
            .take_while(|(path, _)| path.starts_with(&prefix));
        let below = below
            .map(|(path, _)| path.clone())
            .filter(|p| !p.is_empty())
            .collect::<Vec<_>>();
        for path in below {
            self.directories.remove(&path);
        }
    }
}

fn is_directory_at(dir: &OwnedFd, name: &[u8]) -> Result<bool> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => Ok(false),
        stat => {
            Ok(FileType::from_raw_mode(stat.call(|| "fstatat")?.st_mode) == FileType::Directory)
        }
    }
}
