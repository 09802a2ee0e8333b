//! The user namespaces through which mounts show other owners.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;

use super::ids;
use crate::error::{Call, Error, Result};
use crate::kernel::clone::{Parent, Side, fork_into};
use crate::kernel::{mount, process};
use crate::plan::idmap::{IdMap, Ids};
use crate::spec::IdMapping;
use crate::sync::Channel;

/// The user namespaces that mounts are mapped by, each made once.
#[derive(Debug)]
pub(super) struct UserNamespaces<'a> {
    joined: Option<&'a OwnedFd>,
    made: Vec<(&'a Ids, OwnedFd)>,
}

impl<'a> UserNamespaces<'a> {
    /// None made; `joined` is the container's where it joins one.
    pub(super) fn new(joined: Option<&'a OwnedFd>) -> Self {
        Self {
            joined,
            made: Vec::new(),
        }
    }

    /// Has `tree`, a detached mount, show other owners.
    pub(super) fn map(&mut self, tree: BorrowedFd<'_>, map: &'a IdMap) -> Result<()> {
        mount::set_id_map(tree, map.scope, self.of(&map.ids)?)
            .call(|| "mount_setattr(MOUNT_ATTR_IDMAP)")
    }

    /// The one of `ids`.
    pub(super) fn of(&mut self, ids: &'a Ids) -> Result<BorrowedFd<'_>> {
        let Ids::Mapped { uids, gids } = ids else {
            let joined = self.joined.map(AsFd::as_fd);
            return joined.ok_or_else(|| Error::os("user namespace", Errno::ENOENT));
        };
        let known = self.made.iter().position(|(known, _)| *known == ids);
        let place = if let Some(place) = known {
            place
        } else {
            self.made.push((ids, make(uids, gids)?));
            self.made.len() - 1
        };
        Ok(self.made[place].1.as_fd())
    }
}

/// Makes a user namespace by way of a process that lives as long as it takes to open it.
fn make(uids: &[IdMapping], gids: &[IdMapping]) -> Result<OwnedFd> {
    let (parents, childs) = Channel::pair().call(|| "socketpair(SOCK_SEQPACKET)")?;
    let side = fork_into(CloneFlags::CLONE_NEWUSER, None, Parent::Caller)
        .call(|| "clone3(CLONE_NEWUSER)")?;
    let Side::Parent(pid, _) = side else {
        let _ = nix::unistd::close(parents.as_fd().as_raw_fd());
        // The parent's end, by whatever cause, is the end of this.
        let _ = childs.receive();
        process::exit_now(0)
    };
    let opened = ids::map(pid, uids, gids).and_then(|()| {
        let path = format!("/proc/{pid}/ns/user");
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        open(path.as_str(), flags, Mode::empty()).call(|| format!("open({path:?})"))
    });
    drop((parents, childs));
    let _ = waitpid(pid, None);
    opened
}
