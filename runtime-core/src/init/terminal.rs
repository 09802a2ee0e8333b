//! The container's terminal.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use nix::sys::statfs::fstatfs;

use super::{At, Prepared, Result, Step, TerminalTo};
use crate::kernel::mount::{self, Scope};
use crate::kernel::tty;
use crate::plan::Plan;
use crate::root::{Leaf, Links, Root};
use crate::sync::{Channel, Message, send_fds};

/// Opens a terminal in the container's own devpts, binds its slave to `/dev/console` and hands over its master.
/// Returns the slave.
///
/// Nothing here is opened by a name that the image could have made something else (CVE-2025-52565).
pub(super) fn open(
    plan: &Plan,
    prepared: &Prepared,
    root: &Root,
    channel: &Channel,
) -> Result<Option<OwnedFd>> {
    let Some(terminal) = &plan.process.terminal else {
        return Ok(None);
    };
    let (slave, master) = open_terminal(root, terminal.size)?;
    let step = Step::Terminal;
    let dev = root
        .find(c"/dev", Links::Follow)
        .at(step, 0, "openat2(\"/dev\")")?;
    // A link of that name is the image's, and leads to what the image would have covered.
    let console = Root::new(dev)
        .find_or_make(c"console", Links::Refuse, Leaf::File)
        .at(step, 0, "openat2(\"/dev/console\")")?;
    let tree = mount::clone_of(slave.as_fd(), Scope::One).at(step, 0, "open_tree(slave)")?;
    mount::attach(tree.as_fd(), console.as_fd()).at(step, 0, "move_mount(\"/dev/console\")")?;
    hand_over(&master, &prepared.terminal, channel)?;
    Ok(Some(slave))
}

/// Gives the master of a terminal to who asked for it; a socket gets the name of the slave as its message.
pub(crate) fn hand_over(master: &OwnedFd, to: &TerminalTo, channel: &Channel) -> Result<()> {
    let step = Step::Terminal;
    match to {
        TerminalTo::Caller => {
            channel
                .send_with(Message::Terminal, &[master.as_fd()])
                .at(step, 0, "sendmsg(parent)")
        }
        TerminalTo::Socket(socket) => {
            let name = format!(
                "/dev/pts/{}",
                tty::number(master.as_fd()).at(step, 0, "ioctl(TIOCGPTN)")?
            );
            send_fds(socket, name.as_bytes(), &[master.as_fd()]).at(
                step,
                0,
                "sendmsg(console socket)",
            )
        }
    }
}

/// A new pseudo-terminal of the devpts below `root`: its slave and its master.
pub(crate) fn open_terminal(root: &Root, size: Option<tty::Size>) -> Result<(OwnedFd, OwnedFd)> {
    let step = Step::Terminal;
    let master = root
        .open(c"/dev/pts/ptmx", OFlag::O_RDWR, Links::Refuse)
        .at(step, 0, "openat2(\"/dev/pts/ptmx\")")?;
    let stat = fstat(&master).at(step, 0, "fstat(\"/dev/pts/ptmx\")")?;
    let is_devpts =
        fstatfs(&master).is_ok_and(|statfs| statfs.filesystem_type().0 == DEVPTS_SUPER_MAGIC);
    if !is_devpts || stat.st_rdev != nix::sys::stat::makedev(5, 2) {
        return Err(Errno::ENOTTY).at(step, 0, "open(\"/dev/pts/ptmx\"): not of devpts");
    }
    tty::unlock(master.as_fd()).at(step, 0, "ioctl(TIOCSPTLCK)")?;
    let slave = tty::open_slave(master.as_fd()).at(step, 0, "ioctl(TIOCGPTPEER)")?;
    if let Some(size) = size {
        tty::set_size(master.as_fd(), size).at(step, 0, "ioctl(TIOCSWINSZ)")?;
    }
    Ok((slave, master))
}

const DEVPTS_SUPER_MAGIC: libc::c_long = 0x1cd1;
