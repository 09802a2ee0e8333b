//! The root file system as a descriptor: every path of a container is looked up from here and never leaves it.
//!
//! openat2(2) does the walking (Linux 5.6). Where it is missing, hidden by a sandbox or disturbed by renames without end,
//! and where something has to be made on the way, a walker of our own opens one component after the other without following links, follows them
//! itself by their text, and keeps `..` inside by a stack of the directories it came through.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat, mkdirat};

use crate::kernel::fd::{Resolve, openat2};

/// Most symbolic links on one path, as in the kernel.
const MOST_LINKS: usize = 40;

/// A directory that is `/` to whatever is looked up in it.
#[derive(Debug)]
pub(crate) struct Root(OwnedFd);

/// Whether symbolic links on a path are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// Inside the root.
    Follow,
    /// `ELOOP` at the first one.
    Refuse,
}

/// What is made where a path leads to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaf {
    /// A directory, mode 0755.
    Directory,
    /// An empty file, mode 0644.
    File,
}

impl Root {
    pub(crate) fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// The directory itself.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Opens what is at `path` with `O_PATH`.
    pub(crate) fn find(&self, path: &CStr, links: Links) -> nix::Result<OwnedFd> {
        match self.open(path, OFlag::O_PATH, links) {
            Err(Errno::ENOSYS | Errno::EPERM | Errno::EAGAIN) => {
                walk(self.as_fd(), path, links, None)
            }
            other => other,
        }
    }

    /// Opens what is at `path` with `O_PATH`; where nothing is, makes `leaf` and all directories above it.
    pub(crate) fn find_or_make(
        &self,
        path: &CStr,
        links: Links,
        leaf: Leaf,
    ) -> nix::Result<OwnedFd> {
        match self.open(path, OFlag::O_PATH, links) {
            Err(Errno::ENOENT | Errno::ENOSYS | Errno::EPERM | Errno::EAGAIN) => {
                walk(self.as_fd(), path, links, Some(leaf))
            }
            other => other,
        }
    }

    /// Opens the file at `path` for use. Needs openat2.
    pub(crate) fn open(&self, path: &CStr, flags: OFlag, links: Links) -> nix::Result<OwnedFd> {
        let resolve = match links {
            Links::Follow => Resolve::InRoot,
            Links::Refuse => Resolve::InRootNoLinks,
        };
        openat2(self.as_fd(), path, flags, 0, resolve)
    }
}

/// Walks `path` below `root`; makes what is missing where `make` says what the last component is to be.
fn walk(
    root: BorrowedFd<'_>,
    path: &CStr,
    links: Links,
    make: Option<Leaf>,
) -> nix::Result<OwnedFd> {
    let mut walker = Walker {
        root,
        stack: Vec::new(),
        rest: components(path.to_bytes()),
        followed: 0,
    };
    while let Some(name) = walker.rest.pop() {
        let is_up = name.as_bytes() == b"..";
        if is_up || name.as_bytes() == b"." {
            if kind(walker.here())? != SFlag::S_IFDIR {
                return Err(Errno::ENOTDIR);
            }
            if is_up {
                walker.stack.pop();
            }
            continue;
        }
        let leaf = match make {
            None => None,
            Some(leaf) if walker.rest.is_empty() => Some(leaf),
            Some(_) => Some(Leaf::Directory),
        };
        let found = walker.enter(&name, leaf)?;
        if is_link(&found)? {
            if links == Links::Refuse {
                return Err(Errno::ELOOP);
            }
            walker.follow(&name)?;
        } else {
            walker.stack.push(found);
        }
    }
    match walker.stack.pop() {
        Some(found) => Ok(found),
        None => root.try_clone_to_owned().map_err(|_| Errno::last()),
    }
}

struct Walker<'a> {
    root: BorrowedFd<'a>,
    /// Directories between the root and here, so that `..` needs no look at the disk.
    stack: Vec<OwnedFd>,
    /// Components still to walk, the next one last.
    rest: Vec<CString>,
    followed: usize,
}

impl Walker<'_> {
    fn here(&self) -> BorrowedFd<'_> {
        self.stack.last().map_or(self.root, AsFd::as_fd)
    }

    /// Opens the component `name` itself, or makes it.
    fn enter(&self, name: &CStr, make: Option<Leaf>) -> nix::Result<OwnedFd> {
        let open = || {
            openat(
                self.here(),
                name,
                OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
                Mode::empty(),
            )
        };
        let made = match (open(), make) {
            (Err(Errno::ENOENT), Some(Leaf::Directory)) => {
                mkdirat(self.here(), name, Mode::from_bits_truncate(0o755))
            }
            (Err(Errno::ENOENT), Some(Leaf::File)) => {
                let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                openat(self.here(), name, flags, Mode::from_bits_truncate(0o644)).map(drop)
            }
            (found, _) => return found,
        };
        match made {
            // Someone else made it first: what it is will be seen when it is opened.
            Ok(()) | Err(Errno::EEXIST) => open(),
            Err(errno) => Err(errno),
        }
    }

    /// Puts the components of the link `name` before those left.
    fn follow(&mut self, name: &CStr) -> nix::Result<()> {
        self.followed += 1;
        if self.followed > MOST_LINKS {
            return Err(Errno::ELOOP);
        }
        let target = readlinkat(self.here(), name)?.into_encoded_bytes();
        if target.starts_with(b"/") {
            self.stack.clear();
        }
        self.rest.extend(components(&target));
        Ok(())
    }
}

/// Components of a path, the first one last. A slash at the end wants a directory, like a dot.
fn components(path: &[u8]) -> Vec<CString> {
    let dot = path.ends_with(b"/").then_some(&b"."[..]);
    let names = path.split(|&byte| byte == b'/').rev();
    dot.into_iter()
        .chain(names.filter(|name| !name.is_empty()))
        .filter_map(|name| CString::new(name).ok())
        .collect()
}

fn is_link(file: &OwnedFd) -> nix::Result<bool> {
    Ok(kind(file.as_fd())? == SFlag::S_IFLNK)
}

/// The kind of file behind a descriptor.
pub(crate) fn kind(file: BorrowedFd<'_>) -> nix::Result<SFlag> {
    fstat(file).map(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT)
}

/// Whether `name` in `directory` is the device `number` of `device_kind`.
pub(crate) fn is_device(
    directory: BorrowedFd<'_>,
    name: &CStr,
    device_kind: SFlag,
    number: u64,
) -> nix::Result<bool> {
    let stat = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok(
        SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == device_kind
            && stat.st_rdev == number,
    )
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    /// A tree with links of every kind, and a secret beside it.
    fn tree() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/file"), "inside").unwrap();
        fs::write(dir.path().join("secret"), "outside").unwrap();
        for (target, link) in [
            ("/a", "absolute"),
            ("../../../..", "a/up"),
            ("/../secret", "out"),
            ("../secret", "out2"),
            ("loop2", "loop1"),
            ("loop1", "loop2"),
            ("a/missing/file", "dangling"),
            ("/../made/here", "dangling-out"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        let fd = nix::fcntl::open(&root, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        (dir, Root::new(fd))
    }

    #[test]
    fn walker_and_kernel_agree() {
        let (_dir, root) = tree();
        let paths = [
            c"/",
            c"/a/b",
            c"a/./b/../b",
            c"/absolute/file",
            c"/a/up/a/file",
            c"/../../a",
            c"/out",
            c"/out2",
            c"/loop1",
            c"/dangling",
            c"/a/file/x",
            c"/missing",
            c"/absolute/b/../../a/up",
        ];
        for path in paths {
            for links in [Links::Follow, Links::Refuse] {
                let inode = |found: nix::Result<OwnedFd>| {
                    found.map(|fd| fs::File::from(fd).metadata().unwrap().ino())
                };
                let kernel = inode(root.find(path, links));
                let walker = inode(walk(root.as_fd(), path, links, None));
                assert_eq!(kernel, walker, "{path:?} {links:?}");
            }
        }
    }

    #[test]
    fn makes_only_inside() {
        let (dir, root) = tree();
        for (path, leaf, made) in [
            (c"/x/y/z", Leaf::Directory, "x/y/z"),
            (c"/absolute/new", Leaf::File, "a/new"),
            (c"/dangling", Leaf::File, "a/missing/file"),
            (c"/dangling-out", Leaf::Directory, "made/here"),
            (c"/a/up/../../etc/f", Leaf::File, "etc/f"),
        ] {
            root.find_or_make(path, Links::Follow, leaf).unwrap();
            let metadata = fs::symlink_metadata(dir.path().join("root").join(made)).unwrap();
            assert_eq!(metadata.is_dir(), leaf == Leaf::Directory, "{path:?}");
        }
        let beside: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(beside.len(), 2, "{beside:?}");
        assert_eq!(
            root.find_or_make(c"/loop1", Links::Follow, Leaf::File)
                .unwrap_err(),
            Errno::ELOOP
        );
        assert_eq!(
            root.find_or_make(c"/absolute/n", Links::Refuse, Leaf::File)
                .unwrap_err(),
            Errno::ELOOP
        );
    }
}
