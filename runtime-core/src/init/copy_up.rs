//! `tmpcopyup`: what a directory of the image holds, in the tmpfs that is to cover it.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstat, fstatat, mkdirat,
    mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use crate::kernel::xattr;

/// A directory on its way: where its entries come from, those left, and where they go.
struct Level {
    from: OwnedFd,
    names: Vec<CString>,
    to: OwnedFd,
    /// Of `from`: times are set once everything is in it.
    stat: FileStat,
}

/// Copies what is in the directory `from` into the empty one `to`, and gives it the same owner.
///
/// No link is followed. What is mounted below stays out: its place is an empty directory. Devices, which a tmpfs of a
/// container seldom may have, are made like all else.
pub(super) fn copy(from: &OwnedFd, to: &OwnedFd) -> nix::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let top = fstat(from)?;
    let mut levels = vec![Level::open(
        openat(from, c".", flags, Mode::empty())?,
        openat(to, c".", flags, Mode::empty())?,
        top,
    )?];
    own(to, c"", &top, AtFlags::AT_EMPTY_PATH)?;
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.pop() else {
            times(&level.to, c".", &level.stat)?;
            levels.pop();
            continue;
        };
        let stat = fstatat(&level.from, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if kind(&stat) == SFlag::S_IFDIR {
            mkdirat(&level.to, name.as_c_str(), Mode::S_IRWXU)?;
            finish(level, &name, &stat)?;
            if stat.st_dev == top.st_dev {
                let flags = flags | OFlag::O_NOFOLLOW;
                let from = openat(&level.from, name.as_c_str(), flags, Mode::empty())?;
                let to = openat(&level.to, name.as_c_str(), flags, Mode::empty())?;
                attributes(&from, &to)?;
                levels.push(Level::open(from, to, stat)?);
            }
            continue;
        }
        let files = copy_file(level, &name, &stat)?;
        finish(level, &name, &stat)?;
        // After the owner, whose change takes the capabilities of a file away.
        if let Some((from, to)) = files {
            attributes(&from, &to)?;
        }
        times(&level.to, &name, &stat)?;
    }
    Ok(())
}

impl Level {
    fn open(from: OwnedFd, to: OwnedFd, stat: FileStat) -> nix::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut listed = Dir::from_fd(openat(&from, c".", flags, Mode::empty())?)?;
        let mut names = Vec::new();
        for entry in listed.iter() {
            let name = entry?.file_name().to_owned();
            if name.as_c_str() != c"." && name.as_c_str() != c".." {
                names.push(name);
            }
        }
        Ok(Self {
            from,
            names,
            to,
            stat,
        })
    }
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// Makes the same as `name`, and gives both where they are files with contents.
fn copy_file(level: &Level, name: &CStr, stat: &FileStat) -> nix::Result<Option<(File, File)>> {
    let made = match kind(stat) {
        SFlag::S_IFLNK => {
            let target = readlinkat(&level.from, name)?;
            symlinkat(target.as_os_str(), &level.to, name)
        }
        SFlag::S_IFREG => {
            let flags = OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
            let from = openat(&level.from, name, flags | OFlag::O_RDONLY, Mode::empty())?;
            let flags = flags | OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
            let to = openat(&level.to, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
            let (mut from, mut to) = (File::from(from), File::from(to));
            std::io::copy(&mut from, &mut to)
                .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
            return Ok(Some((from, to)));
        }
        // A socket is nothing without who listens at it.
        SFlag::S_IFSOCK => Ok(()),
        other => mknodat(&level.to, name, other, Mode::empty(), stat.st_rdev),
    };
    made.map(|()| None)
}

/// Copies what attributes the tmpfs takes: capabilities and access lists of files are among them.
fn attributes(from: &impl AsFd, to: &impl AsFd) -> nix::Result<()> {
    for name in xattr::names(from.as_fd())? {
        // A layer's own marks mean nothing outside of an overlay.
        if name.to_bytes().starts_with(b"trusted.overlay.") {
            continue;
        }
        let value = xattr::get(from.as_fd(), &name)?;
        match xattr::set(to.as_fd(), &name, &value) {
            // Of a kind that it does not keep, or that this process may not give.
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::EPERM | Errno::EACCES) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Owner first, for a change of it takes set-user-id bits away.
fn finish(level: &Level, name: &CStr, stat: &FileStat) -> nix::Result<()> {
    if kind(stat) == SFlag::S_IFSOCK {
        return Ok(());
    }
    own(&level.to, name, stat, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if kind(stat) == SFlag::S_IFLNK {
        return Ok(());
    }
    let mode = Mode::from_bits_truncate(stat.st_mode);
    fchmodat(&level.to, name, mode, FchmodatFlags::FollowSymlink)
}

fn own(at: &OwnedFd, name: &CStr, stat: &FileStat, flags: AtFlags) -> nix::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    match fchownat(at, name, Some(uid), Some(gid), flags) {
        // An owner whom this user namespace does not know cannot own anything new in it.
        Err(Errno::EINVAL | Errno::EPERM) => Ok(()),
        other => other,
    }
}

fn times(at: &OwnedFd, name: &CStr, stat: &FileStat) -> nix::Result<()> {
    if kind(stat) == SFlag::S_IFSOCK {
        return Ok(());
    }
    utimensat(
        at,
        name,
        &TimeSpec::new(stat.st_atime, stat.st_atime_nsec),
        &TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec),
        UtimensatFlags::NoFollowSymlink,
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn open(path: &std::path::Path) -> OwnedFd {
        nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn copies_what_is_there_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let mut deep = from.clone();
        for _ in 0..50 {
            deep.push("d");
        }
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(deep.join("file"), "deep").unwrap();
        fs::write(from.join("plain"), vec![7; 100_000]).unwrap();
        fs::set_permissions(from.join("plain"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::write(dir.path().join("secret"), "outside").unwrap();
        symlink("../secret", from.join("link")).unwrap();
        nix::unistd::mkfifo(&from.join("fifo"), Mode::S_IRUSR).unwrap();
        for name in ["plain", "d"] {
            let file = fs::File::open(from.join(name)).unwrap();
            xattr::set(file.as_fd(), c"user.name", name.as_bytes()).unwrap();
        }
        let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
        copy(&open(&from), &open(&to)).unwrap();
        let mut names: Vec<_> = fs::read_dir(&to)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["d", "fifo", "link", "plain"]);
        assert_eq!(fs::read(to.join("plain")).unwrap(), vec![7; 100_000]);
        assert_eq!(
            fs::read_link(to.join("link")).unwrap().to_str(),
            Some("../secret")
        );
        let copied = to.join(deep.strip_prefix(&from).unwrap()).join("file");
        assert_eq!(fs::read_to_string(copied).unwrap(), "deep");
        for name in ["plain", "d"] {
            let file = fs::File::open(to.join(name)).unwrap();
            assert_eq!(
                xattr::names(file.as_fd()).unwrap(),
                [c"user.name".to_owned()]
            );
            assert_eq!(
                xattr::get(file.as_fd(), c"user.name").unwrap(),
                name.as_bytes()
            );
        }
        for name in ["plain", "fifo", "d"] {
            let of = |directory: &std::path::Path| {
                let metadata = fs::symlink_metadata(directory.join(name)).unwrap();
                (
                    metadata.mode(),
                    metadata.uid(),
                    metadata.mtime(),
                    metadata.mtime_nsec(),
                )
            };
            assert_eq!(of(&from), of(&to), "{name}");
        }
    }
}
