//! A bundle: a directory with a `config.json` and, mostly, the root file system.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, readlink};
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::error::{Call, Context, Error, Result};
use crate::spec::{MAX_CONFIG_BYTES, Spec};

/// Name of the configuration in a bundle.
pub const CONFIG: &str = "config.json";

/// An opened bundle with its configuration read.
#[derive(Debug)]
pub struct Bundle {
    dir: OwnedFd,
    path: PathBuf,
    config: Vec<u8>,
    spec: Spec,
}

impl Bundle {
    /// Opens the bundle at `path` and reads its `config.json`.
    ///
    /// # Errors
    /// `Os` where the directory or the file cannot be read, `InvalidSpec` where the file is not a configuration.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with_config(path, Path::new(CONFIG))
    }

    /// As [`Bundle::open`], with the configuration at `config`, relative to the bundle or absolute.
    ///
    /// # Errors
    /// As [`Bundle::open`].
    pub fn open_with_config(path: &Path, config: &Path) -> Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = openat(AT_FDCWD, path, flags, Mode::empty())
            .call(|| format!("open({path:?}, O_PATH|O_DIRECTORY)"))
            .context(|| "bundle")?;
        let path = path_of(dir.as_fd())?;
        let config = read_config(dir.as_fd(), config)?;
        let spec = Spec::from_json(&config)?;
        Ok(Self {
            dir,
            path,
            config,
            spec,
        })
    }

    /// The bundle's directory, absolute and without symbolic links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration as written.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The bytes the configuration was read from.
    #[must_use]
    pub fn config(&self) -> &[u8] {
        &self.config
    }

    /// Opens the root file system, which must be a directory reached without symbolic links.
    ///
    /// # Errors
    /// `InvalidSpec` at `/root` or `/root/path`.
    pub(crate) fn open_root(&self) -> Result<RootDir> {
        let Some(root) = &self.spec.root else {
            return Err(Error::invalid_spec(
                "/root",
                "missing: a container needs a root file system",
            ));
        };
        if root.path.is_empty() {
            return Err(Error::invalid_spec("/root/path", "empty"));
        }
        let invalid = |text: String| Error::invalid_spec("/root/path", &text);
        // Joining drops the bundle where the path is absolute.
        let path = self.path.join(&root.path);
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let dir =
            openat(&self.dir, Path::new(&root.path), flags, Mode::empty()).map_err(|errno| {
                invalid(format!("open({path:?}): {}", crate::error::describe(errno)))
            })?;
        let stat = fstat(&dir).call(|| format!("fstat({path:?})"))?;
        match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFDIR => {}
            SFlag::S_IFLNK => return Err(invalid(format!("{path:?} is a symbolic link"))),
            _ => {
                return Err(invalid(format!(
                    "{path:?} is not a directory: {}",
                    crate::error::describe(Errno::ENOTDIR)
                )));
            }
        }
        let real = path_of(dir.as_fd())?;
        if real != normalized(&path) {
            return Err(invalid(format!(
                "{path:?} leads through a symbolic link to {real:?}"
            )));
        }
        if real == Path::new("/") {
            return Err(invalid(
                "the host's own root cannot be a container's".to_owned(),
            ));
        }
        let path = CString::new(real.as_os_str().as_bytes())
            .map_err(|_| invalid("has a NUL byte".to_owned()))?;
        Ok(RootDir {
            dir,
            path,
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }
}

/// The root file system's directory on the host.
#[derive(Debug)]
pub(crate) struct RootDir {
    /// Opened with `O_PATH`.
    pub(crate) dir: OwnedFd,
    /// Absolute and without symbolic links when it was opened.
    pub(crate) path: CString,
    /// By device and inode a child tells that the path still leads to the same directory.
    pub(crate) device: u64,
    /// See `device`.
    pub(crate) inode: u64,
}

/// The path without `.`, `..` and double slashes, by its words alone.
fn normalized(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            std::path::Component::Normal(name) => clean.push(name),
            std::path::Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

/// Where the kernel says that `fd` is.
pub(crate) fn path_of(fd: BorrowedFd<'_>) -> Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let path = readlink(link.as_str()).call(|| format!("readlink({link:?})"))?;
    Ok(PathBuf::from(std::ffi::OsString::from_vec(path.into_vec())))
}

fn read_config(dir: BorrowedFd<'_>, name: &Path) -> Result<Vec<u8>> {
    let file = openat(
        dir,
        name,
        OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK,
        Mode::empty(),
    )
    .call(|| format!("open({name:?}, O_RDONLY)"))?;
    read_limited(File::from(file), MAX_CONFIG_BYTES).context(|| name.display().to_string())
}

/// Reads a regular file of at most `limit` bytes.
pub(crate) fn read_limited(file: File, limit: u64) -> Result<Vec<u8>> {
    let metadata = file.metadata().call(|| "fstat()")?;
    if !metadata.is_file() {
        return Err(Error::argument("is not a regular file"));
    }
    if metadata.len() > limit {
        return Err(Error::argument(format!(
            "{} bytes are more than the {limit} that are read",
            metadata.len()
        )));
    }
    // The limit holds too for a file that grows meanwhile.
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len() + 1).unwrap_or_default());
    file.take(limit).read_to_end(&mut bytes).call(|| "read()")?;
    Ok(bytes)
}
