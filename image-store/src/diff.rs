//! What one directory tree adds to, changes in or takes from another, as a list and as a layer's archive.

use crate::error::{At, Context, Result, invalid};
use crate::layout::dirs::open_below;
use crate::layout::measure::path_xattrs;
use crate::layout::remove::names;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use serde::Serialize;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

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
    let mut changes = Vec::new();
    let mut compare = Compare {
        old,
        new,
        changes: &mut changes,
    };
    compare.directory(&mut Vec::new())?;
    Ok(changes)
}

struct Compare<'a> {
    old: BorrowedFd<'a>,
    new: BorrowedFd<'a>,
    changes: &'a mut Vec<Change>,
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

/// Writes the layer that makes these changes, with content and metadata from `new`.
pub fn write_layer<W: Write>(new: BorrowedFd<'_>, changes: &[Change], output: W) -> Result<W> {
    let mut builder = tar::Builder::new(output);
    let mut links = HashMap::new();
    for change in changes {
        let (holder, name) = match change.path.iter().rposition(|b| *b == b'/') {
            Some(at) => (&change.path[..at], &change.path[at + 1..]),
            None => (&b""[..], &change.path[..]),
        };
        if name.starts_with(b".wh.") {
            return Err(invalid(format!(
                "{:?} cannot be in a layer",
                String::from_utf8_lossy(&change.path)
            )));
        }
        let place = || String::from_utf8_lossy(&change.path).into_owned();
        if change.kind == Kind::Deleted {
            let slash = if holder.is_empty() { &b""[..] } else { b"/" };
            let mark = [holder, slash, b".wh.", name].concat();
            append(&mut builder, Header::plain(&mark), &[][..]).at(place)?;
            continue;
        }
        let dir =
            open(new, holder)?.ok_or_else(|| invalid("directory vanished while it was read"))?;
        entry(&mut builder, &dir, name, &change.path, &mut links).at(place)?;
    }
    builder.into_inner().call(|| "write layer")
}

/// A header with what may not fit into it.
struct Header {
    header: tar::Header,
    path: Vec<u8>,
    pax: Vec<(String, Vec<u8>)>,
}

impl Header {
    fn plain(path: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        Self {
            header,
            path: path.to_vec(),
            pax: Vec::new(),
        }
    }
}

fn entry<W: Write>(
    builder: &mut tar::Builder<W>,
    dir: &OwnedFd,
    name: &[u8],
    path: &[u8],
    links: &mut HashMap<(u64, u64), Vec<u8>>,
) -> Result<()> {
    let stat = stat(dir, name)?.ok_or_else(|| invalid("file vanished while it was read"))?;
    let mut header = Header::plain(path);
    header.header.set_mode(stat.st_mode & 0o7777);
    header.header.set_uid(stat.st_uid.into());
    header.header.set_gid(stat.st_gid.into());
    header
        .header
        .set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    if stat.st_mtime_nsec != 0 {
        header.pax.push((
            "mtime".to_owned(),
            format!("{}.{:09}", stat.st_mtime, stat.st_mtime_nsec).into_bytes(),
        ));
    }
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::Directory && stat.st_nlink > 1 {
        if let Some(first) = links.get(&(stat.st_dev, stat.st_ino)) {
            header.header.set_entry_type(tar::EntryType::Link);
            header.pax.push(("linkpath".to_owned(), first.clone()));
            return append(builder, header, &[][..]);
        }
        links.insert((stat.st_dev, stat.st_ino), path.to_vec());
    }
    let node = openat(
        dir,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .call(|| "openat")?;
    let kept = match kind {
        FileType::Symlink => Vec::new(),
        _ => path_xattrs(&format!("/proc/self/fd/{}", node.as_raw_fd()))?,
    };
    for (key, value) in kept {
        header.pax.push((
            format!("SCHILY.xattr.{}", String::from_utf8_lossy(&key)),
            value,
        ));
    }
    let mut content = None;
    let entry_type = match kind {
        FileType::Directory => tar::EntryType::Directory,
        FileType::Symlink => {
            header
                .pax
                .push(("linkpath".to_owned(), link_target(dir, name)?));
            tar::EntryType::Symlink
        }
        FileType::Fifo => tar::EntryType::Fifo,
        FileType::CharacterDevice | FileType::BlockDevice => {
            let numbers = (
                rustix::fs::major(stat.st_rdev),
                rustix::fs::minor(stat.st_rdev),
            );
            header
                .header
                .set_device_major(numbers.0)
                .and_then(|()| header.header.set_device_minor(numbers.1))
                .call(|| "device")?;
            if kind == FileType::BlockDevice {
                tar::EntryType::Block
            } else {
                tar::EntryType::Char
            }
        }
        _ => {
            header
                .header
                .set_size(u64::try_from(stat.st_size).unwrap_or(0));
            content = Some(file(dir, name)?);
            tar::EntryType::Regular
        }
    };
    header.header.set_entry_type(entry_type);
    match content {
        // Exactly the size in the header, also if the file grows meanwhile.
        Some(file) => append(
            builder,
            header,
            file.take(u64::try_from(stat.st_size).unwrap_or(0)),
        ),
        None => append(builder, header, &[][..]),
    }
}

fn append<W: Write>(
    builder: &mut tar::Builder<W>,
    mut header: Header,
    data: impl Read,
) -> Result<()> {
    if header.header.entry_type() == tar::EntryType::Directory {
        header.path.push(b'/');
    }
    let short = std::path::Path::new(std::ffi::OsStr::from_bytes(&header.path));
    if header.header.set_path(short).is_err() || !header.path.is_ascii() {
        header.pax.push(("path".to_owned(), header.path.clone()));
        header.header.set_path("long-name").call(|| "tar header")?;
    }
    if !header.pax.is_empty() {
        let records = header
            .pax
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_slice()));
        builder
            .append_pax_extensions(records)
            .call(|| "write layer")?;
    }
    header.header.set_cksum();
    builder.append(&header.header, data).call(|| "write layer")
}
