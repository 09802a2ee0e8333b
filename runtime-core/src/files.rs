//! Files and sockets through which callers are told of a process.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::unistd::Pid;

use crate::error::{Call, Context, Error, Result};
use crate::sync::send_fds;

/// Writes `pid`, in decimal and without a newline, to a new file that takes the place of `path`.
pub(crate) fn write_pid(path: &Path, pid: Pid) -> Result<()> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Err(Error::argument(format!("{path:?} is no name of a file")).context("pid file"));
    };
    let new = path.with_file_name(format!(".{name}"));
    let write = || -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create_new(true)
            .mode(0o666)
            .custom_flags(libc::O_SYNC);
        options.open(&new)?.write_all(pid.to_string().as_bytes())?;
        fs::rename(&new, path)
    };
    let written = write();
    if written.is_err() {
        drop(fs::remove_file(&new));
    }
    written
        .call(|| format!("write({path:?})"))
        .context(|| "pid file")
}

/// Connects to the unix stream socket at `path`.
pub(crate) fn connect_to(path: &Path) -> Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .call(|| "socket(AF_UNIX)")?;
    let address = match UnixAddr::new(path) {
        Err(Errno::ENAMETOOLONG) => {
            // Paths longer than a socket address: by a descriptor of the directory.
            return connect_in_directory(path, &socket).map(|()| socket);
        }
        address => address.call(|| format!("connect({path:?})"))?,
    };
    connect(socket.as_raw_fd(), &address).call(|| format!("connect({path:?})"))?;
    Ok(socket)
}

fn connect_in_directory(path: &Path, socket: &OwnedFd) -> Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::os(format!("connect({path:?})"), Errno::EINVAL));
    };
    let directory = fs::File::open(directory).call(|| format!("open({directory:?})"))?;
    let short = Path::new("/proc/self/fd")
        .join(directory.as_raw_fd().to_string())
        .join(name);
    let address = UnixAddr::new(&short).call(|| format!("connect({path:?})"))?;
    connect(socket.as_raw_fd(), &address).call(|| format!("connect({path:?})"))
}

/// Sends the descriptor of a process to the socket at `path`, with `kind` as the message.
pub(crate) fn send_pidfd(path: &Path, kind: &str, pidfd: BorrowedFd<'_>) -> Result<()> {
    let socket = connect_to(path).context(|| "pidfd socket")?;
    send_fds(&socket, kind.as_bytes(), &[pidfd])
        .call(|| format!("sendmsg({path:?})"))
        .context(|| "pidfd socket")
}
