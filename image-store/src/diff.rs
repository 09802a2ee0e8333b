//! What one directory tree adds to, changes in or takes from another, as a list and as a layer's archive.

use crate::error::{Context, Result, invalid};
use crate::layout::dirs::open_below;
use crate::layout::measure::path_xattrs;
use crate::layout::remove::names;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

mod archive;

pub use archive::write_layer;

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Kind {
    /// It is new.
    #[serde(rename = "A")]
    Added,
    /// Its content or metadata differ, or it is a directory with a difference in it.
    #[serde(rename = "C")]
    Changed,
    /// It is gone.
    #[serde(rename = "D")]
    Deleted,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: Kind,
    /// The path from the root, without a slash in front.
    pub path: Vec<u8>,
}

/// Lists the differences from `old` to `new`, sorted, each directory before its content. Sockets do not count.
pub fn diff(old: BorrowedFd<'_>, new: BorrowedFd<'_>) -> Result<Vec<Change>> {
    let mut compare = Compare {
        old,
        new,
        changes: Vec::new(),
        old_links: Links::default(),
        new_links: Links::default(),
    };
    compare.directory(&mut Vec::new())?;
    compare.regrouped();
    Ok(compare.changes)
}

struct Compare<'a> {
    old: BorrowedFd<'a>,
    new: BorrowedFd<'a>,
    changes: Vec<Change>,
    old_links: Links,
    new_links: Links,
}

/// Files with several names: inode and paths.
#[derive(Default)]
struct Links(HashMap<(u64, u64), Vec<Vec<u8>>>);

impl Links {
    fn add(&mut self, path: &[u8], stat: Option<&Stat>) {
        if let Some(stat) = stat.filter(|s| s.st_nlink > 1 && !is(s, FileType::Directory)) {
            let paths = self.0.entry((stat.st_dev, stat.st_ino)).or_default();
            paths.push(path.to_vec());
        }
    }
}

fn open(root: BorrowedFd<'_>, path: &[u8]) -> Result<Option<OwnedFd>> {
    match open_below(root, path, OFlags::RDONLY | OFlags::DIRECTORY) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
            Ok(None)
        }
        fd => fd
            .map(Some)
            .call(|| format!("openat2({:?})", String::from_utf8_lossy(path))),
    }
}

fn stat(dir: &OwnedFd, name: &[u8]) -> Result<Option<Stat>> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => Ok(None),
        stat => stat
            .map(Some)
            .call(|| format!("fstatat({:?})", String::from_utf8_lossy(name))),
    }
}

fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

impl Compare<'_> {
    fn directory(&mut self, path: &mut Vec<u8>) -> Result<()> {
        let new =
            open(self.new, path)?.ok_or_else(|| invalid("directory vanished while it was read"))?;
        let old = open(self.old, path)?;
        let mut all = names(new.as_fd())?;
        if let Some(old) = &old {
            all.extend(names(old.as_fd())?);
        }
        all.sort_unstable();
        all.dedup();
        let mut found = Vec::new();
        for name in all {
            let before = old
                .as_ref()
                .map(|old| stat(old, &name))
                .transpose()?
                .flatten();
            let after = stat(&new, &name)?.filter(|stat| !is(stat, FileType::Socket));
            let is_same = match (&before, &after, &old) {
                (Some(before), Some(after), Some(old)) => same(old, &new, &name, before, after)?,
                _ => false,
            };
            let goes_down = after
                .as_ref()
                .is_some_and(|stat| is(stat, FileType::Directory));
            let kind = match (&before, &after) {
                (None, None) => continue,
                (None, Some(_)) => Some(Kind::Added),
                (Some(_), None) => Some(Kind::Deleted),
                (Some(_), Some(_)) => (!is_same).then_some(Kind::Changed),
            };
            let inner = if path.is_empty() {
                name.clone()
            } else {
                [path, &b"/"[..], &name].concat()
            };
            self.old_links.add(&inner, before.as_ref());
            self.new_links.add(&inner, after.as_ref());
            found.push((name, kind, goes_down));
        }
        drop((old, new));
        let length = path.len();
        for (name, kind, goes_down) in found {
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            let at = self.changes.len();
            if goes_down {
                self.directory(path)?;
            }
            // A directory in which something changed is part of the layer, or its metadata would be lost.
            let kind = kind.or_else(|| (self.changes.len() > at).then_some(Kind::Changed));
            if let Some(kind) = kind {
                self.changes.insert(
                    at,
                    Change {
                        kind,
                        path: path.clone(),
                    },
                );
            }
            path.truncate(length);
        }
        Ok(())
    }

    /// A file that got another name is part of the layer under all its names, or they would be different files.
    fn regrouped(&mut self) {
        let old = self.old_links.0.values();
        let groups = old
            .enumerate()
            .flat_map(|(group, paths)| paths.iter().map(move |path| (path, group)))
            .collect::<HashMap<_, _>>();
        let mut known = self
            .changes
            .iter()
            .map(|change| change.path.clone())
            .collect::<BTreeSet<_>>();
        for paths in self.new_links.0.values().filter(|paths| paths.len() > 1) {
            let group = groups.get(&paths[0]);
            if group.is_some() && paths.iter().all(|path| groups.get(path) == group) {
                continue;
            }
            for path in paths {
                let slashes = (0..path.len()).filter(|at| path[*at] == b'/');
                for end in slashes.chain([path.len()]) {
                    if known.insert(path[..end].to_vec()) {
                        self.changes.push(Change {
                            kind: Kind::Changed,
                            path: path[..end].to_vec(),
                        });
                    }
                }
            }
        }
        let parts = |change: &Change| {
            change
                .path
                .split(|b| *b == b'/')
                .map(<[u8]>::to_vec)
                .collect::<Vec<_>>()
        };
        self.changes.sort_by_cached_key(parts);
    }
}

fn same(old: &OwnedFd, new: &OwnedFd, name: &[u8], before: &Stat, after: &Stat) -> Result<bool> {
    let is_directory = is(before, FileType::Directory);
    let of = |stat: &Stat| {
        (
            stat.st_mode,
            stat.st_uid,
            stat.st_gid,
            stat.st_rdev,
            stat.st_mtime,
            stat.st_mtime_nsec,
        )
    };
    let size = |stat: &Stat| if is_directory { 0 } else { stat.st_size };
    if of(before) != of(after) || size(before) != size(after) {
        return Ok(false);
    }
    let attributes = |dir: &OwnedFd| -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let node = openat(dir, name, flags, Mode::empty()).call(|| "openat(O_PATH)")?;
        if is(before, FileType::Symlink) {
            Ok(Vec::new())
        } else {
            path_xattrs(&format!("/proc/self/fd/{}", node.as_raw_fd()))
        }
    };
    if attributes(old)? != attributes(new)? {
        return Ok(false);
    }
    if is(before, FileType::Symlink) {
        return Ok(link_target(old, name)? == link_target(new, name)?);
    }
    // Whole seconds are what archives keep: two versions of a file can then have one time.
    if is(before, FileType::RegularFile) && before.st_mtime_nsec == 0 {
        return same_content(file(old, name)?, file(new, name)?);
    }
    Ok(true)
}

fn link_target(dir: &OwnedFd, name: &[u8]) -> Result<Vec<u8>> {
    readlinkat(dir, name, Vec::new())
        .call(|| "readlinkat")
        .map(std::ffi::CString::into_bytes)
}

fn file(dir: &OwnedFd, name: &[u8]) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::empty())
        .call(|| format!("openat({:?})", String::from_utf8_lossy(name)))?;
    Ok(file.into())
}

fn same_content(mut old: File, mut new: File) -> Result<bool> {
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let read = old.read(&mut left).call(|| "read")?;
        if read == 0 {
            return Ok(new.read(&mut right).call(|| "read")? == 0);
        }
        if new.read_exact(&mut right[..read]).is_err() || left[..read] != right[..read] {
            return Ok(false);
        }
    }
}
