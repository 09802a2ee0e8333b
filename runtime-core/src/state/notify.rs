//! The socket of sd_notify(3) that a container gets in the place of the caller's: a directory of its own, of which only
//! what the program says to it comes out.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use nix::errno::Errno;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, mkdirat};
use nix::unistd::{AccessFlags, UnlinkatFlags, faccessat, unlinkat};

use super::Directory;
use crate::error::{Call, Error, Result};

/// In the container's directory.
pub(crate) const NOTIFY: &str = "notify";
const SOCKET: &str = "notify/notify.sock";

impl Directory {
    /// Makes the directory that the container sees.
    pub(crate) fn make_notify(&self) -> Result<()> {
        mkdirat(&self.own, NOTIFY, Mode::from_bits_truncate(0o755))
            .call(|| format!("mkdirat({NOTIFY:?}, 0755)"))
    }

    pub(crate) fn has_notify(&self) -> bool {
        let flags = nix::fcntl::AtFlags::empty();
        faccessat(&self.own, NOTIFY, AccessFlags::F_OK, flags).is_ok()
    }

    /// Makes the socket, in the place of one whose listener is gone. Everybody in the container may write to it.
    pub(crate) fn bind_notify(&self) -> Result<UnixDatagram> {
        unlink(self, SOCKET, UnlinkatFlags::NoRemoveDir)?;
        // Socket addresses are short, and this one is.
        let path = format!("/proc/self/fd/{}/{SOCKET}", self.own.as_raw_fd());
        let socket = UnixDatagram::bind(&path).call(|| format!("bind({SOCKET:?})"))?;
        let mode = Mode::from_bits_truncate(0o777);
        fchmodat(&self.own, SOCKET, mode, FchmodatFlags::FollowSymlink)
            .call(|| format!("fchmodat({SOCKET:?}, 0777)"))?;
        Ok(socket)
    }

    pub(super) fn remove_notify(&self) -> Result<()> {
        unlink(self, SOCKET, UnlinkatFlags::NoRemoveDir)?;
        unlink(self, NOTIFY, UnlinkatFlags::RemoveDir)
    }
}

fn unlink(directory: &Directory, name: &str, how: UnlinkatFlags) -> Result<()> {
    match unlinkat(&directory.own, name, how) {
        Ok(()) | Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
        Err(errno) => Err(Error::os(format!("unlinkat({name:?})"), errno)),
    }
}
