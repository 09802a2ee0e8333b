//! Looks into the layers below one: what their union shows at a path, and a copy of it.

use super::dirs::{open_below, set_xattr_at};
use super::measure::{self, is_whiteout, meta_of, xattrs};
use super::remove::names;
use crate::error::{Context, Result, limit};
use crate::seal::Meta;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timestamps, Uid, XattrFlags, fchmod, fchown,
    fgetxattr, fsetxattr, futimens, openat, readlinkat, statat, symlinkat, utimensat,
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

type Name = Box<[u8]>;

/// Whether symbolic links on the way are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// Inside the union, clamped at its root.
    Follow,
    /// A link on the way ends the search.
    Refuse,
}

enum Step {
    Found(usize),
    Symlink(Vec<Name>),
    Nothing,
}

/// Finds what the union of `lowers` (topmost first) shows at a path: the index of the layer, and the path with links on
/// the way resolved. The last component is not followed.
pub(super) fn find(
    lowers: &[BorrowedFd<'_>],
    path: &[Name],
    links: Links,
) -> Result<Option<(usize, Vec<Name>)>> {
    let mut path = path.to_vec();
    for _ in 0..40 {
        match step(lowers, &path)? {
            Step::Found(lower) => return Ok(Some((lower, path))),
            Step::Nothing => return Ok(None),
            Step::Symlink(_) if links == Links::Refuse => return Ok(None),
            Step::Symlink(next) => path = next,
        }
    }
    Err(limit("path goes through too many symbolic links"))
}

fn step(lowers: &[BorrowedFd<'_>], path: &[Name]) -> Result<Step> {
    'layers: for (index, lower) in lowers.iter().enumerate() {
        let mut dir = open_below(*lower, b"", OFlags::RDONLY | OFlags::DIRECTORY)
            .call(|| "openat2(lower)")?;
        for (depth, name) in path.iter().enumerate() {
            let opaque = is_opaque(&dir);
            let stat = match statat(&dir, &name[..], AtFlags::SYMLINK_NOFOLLOW) {
                Err(rustix::io::Errno::NOENT) if opaque => return Ok(Step::Nothing),
                Err(rustix::io::Errno::NOENT) => continue 'layers,
                stat => stat.call(|| "fstatat(lower)")?,
            };
            if is_whiteout(&stat) {
                return Ok(Step::Nothing);
            }
            if depth + 1 == path.len() {
                return Ok(Step::Found(index));
            }
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    dir = open_below(dir.as_fd(), name, OFlags::RDONLY | OFlags::DIRECTORY)
                        .call(|| "openat2(lower)")?;
                }
                FileType::Symlink => {
                    return Ok(Step::Symlink(follow(
                        &dir,
                        &path[..depth],
                        name,
                        &path[depth + 1..],
                    )?));
                }
                _ => return Ok(Step::Nothing),
            }
        }
        return Ok(Step::Found(index));
    }
    Ok(Step::Nothing)
}

fn follow(dir: &OwnedFd, before: &[Name], name: &[u8], after: &[Name]) -> Result<Vec<Name>> {
    let target = readlinkat(dir, name, Vec::new())
        .call(|| "readlinkat(lower)")?
        .into_bytes();
    let base = if target.first() == Some(&b'/') {
        Vec::new()
    } else {
        before.join(&b'/')
    };
    Ok(crate::tree::clean(
        &[&base[..], &target, &after.join(&b'/')].join(&b'/'),
    ))
}

/// Whether a directory hides what lower layers have at its path.
pub fn is_opaque(dir: &OwnedFd) -> bool {
    super::dirs::OPAQUE
        .iter()
        .any(|name| fgetxattr(dir, *name, &mut [0u8; 1][..]) == Ok(1))
}

/// The metadata of a directory in the union, if there is one at this path.
pub(super) fn directory_meta(lowers: &[BorrowedFd<'_>], path: &[Name]) -> Result<Option<Meta>> {
    let Some((index, _)) = find(lowers, path, Links::Refuse)? else {
        return Ok(None);
    };
    match open_below(
        lowers[index],
        &path.join(&b'/'),
        OFlags::RDONLY | OFlags::DIRECTORY,
    ) {
        Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => Ok(None),
        opened => {
            let dir = opened.call(|| "openat2(lower)")?;
            let stat = rustix::fs::fstat(&dir).call(|| "fstat")?;
            Ok(Some(meta_of(&stat, xattrs(dir.as_fd())?)))
        }
    }
}

/// Copies a name that is no directory from one directory to another, where it must not exist, with all its metadata.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let shown = String::from_utf8_lossy(name);
    let stat =
        statat(from, name, AtFlags::SYMLINK_NOFOLLOW).call(|| format!("fstatat({shown:?})"))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return copy_file(from, to, name, &stat),
        FileType::Symlink => {
            let target =
                readlinkat(from, name, Vec::new()).call(|| format!("readlinkat({shown:?})"))?;
            symlinkat(&target, to, name).call(|| format!("symlinkat({shown:?})"))?;
            own_at(to, name, &stat)?;
        }
        kind => {
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
            rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev)
                .call(|| format!("mknodat({shown:?})"))?;
            own_at(to, name, &stat)?;
            let node = openat(
                from,
                name,
                OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .call(|| format!("openat({shown:?}, O_PATH)"))?;
            for (key, value) in
                measure::path_xattrs(&format!("/proc/self/fd/{}", node.as_raw_fd()))?
            {
                set_xattr_at(to, name, &key, &value)?;
            }
            rustix::fs::chmodat(to, name, mode, AtFlags::empty())
                .call(|| format!("fchmodat({shown:?})"))?;
        }
    }
    utimensat(to, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)
        .call(|| format!("utimensat({shown:?})"))
}

fn own_at(dir: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .call(|| "fchownat")
}

fn times(stat: &Stat) -> Timestamps {
    let at = rustix::fs::Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: stat.st_mtime_nsec.cast_signed(),
    };
    Timestamps {
        last_access: at,
        last_modification: at,
    }
}

fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> Result<()> {
    let shown = String::from_utf8_lossy(name);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = openat(from, name, flags, Mode::empty()).call(|| format!("openat({shown:?})"))?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    let target = openat(to, name, flags, Mode::RUSR | Mode::WUSR)
        .call(|| format!("openat({shown:?}, O_EXCL)"))?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if rustix::fs::ioctl_ficlone(&target, &source).is_err() {
        copy_data(&source, &target, size).map_err(|e| e.at(&shown))?;
    }
    set_meta(&target, stat, xattrs(source.as_fd())?)
}

/// Owner, attributes, mode and times of `stat` onto a descriptor.
pub fn set_meta(target: &OwnedFd, stat: &Stat, xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        fchown(
            target,
            Some(Uid::from_raw(stat.st_uid)),
            Some(Gid::from_raw(stat.st_gid)),
        )
        .call(|| "fchown")?;
    }
    for (key, value) in xattrs {
        fsetxattr(target, &key[..], &value, XattrFlags::empty())
            .call(|| format!("fsetxattr({:?})", String::from_utf8_lossy(&key)))?;
    }
    fchmod(target, Mode::from_raw_mode(stat.st_mode & 0o7777)).call(|| "fchmod")?;
    futimens(target, &times(stat)).call(|| "futimens")
}

/// Copies only the pieces that hold data, so that holes stay holes.
fn copy_data(source: &OwnedFd, target: &OwnedFd, size: u64) -> Result<()> {
    use rustix::fs::{SeekFrom, seek};
    rustix::fs::ftruncate(target, size).call(|| "ftruncate")?;
    let mut at = 0;
    while at < size {
        let start = match seek(source, SeekFrom::Data(at)) {
            Err(rustix::io::Errno::NXIO) => break,
            start => start.call(|| "lseek(SEEK_DATA)")?,
        };
        let end = seek(source, SeekFrom::Hole(start)).call(|| "lseek(SEEK_HOLE)")?;
        let (mut read_at, mut write_at) = (start, start);
        while read_at < end {
            let length = usize::try_from(end - read_at)
                .unwrap_or(usize::MAX)
                .min(1 << 30);
            let copied = rustix::fs::copy_file_range(
                source,
                Some(&mut read_at),
                target,
                Some(&mut write_at),
                length,
            )
            .call(|| "copy_file_range")?;
            if copied == 0 {
                break;
            }
        }
        at = end;
    }
    Ok(())
}

/// The names in a directory that may be gone.
pub fn names_or_none(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<Vec<u8>>> {
    match open_below(dir, name, OFlags::RDONLY | OFlags::DIRECTORY) {
        Err(rustix::io::Errno::NOENT) => Ok(Vec::new()),
        opened => names(
            opened
                .call(|| format!("openat2({:?})", String::from_utf8_lossy(name)))?
                .as_fd(),
        ),
    }
}
