//! Messages with descriptors between this program's processes, and the descriptors of requests: unix(7), `SCM_RIGHTS`.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use runtime_core::kernel::fd::owned_from_message;

/// Most descriptors of one message.
const MOST_FDS: usize = 4;

/// Two connected sockets that keep messages apart.
pub(crate) fn pair() -> nix::Result<(OwnedFd, OwnedFd)> {
    socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
}

/// Sends `bytes` with copies of `fds`.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> nix::Result<usize> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights };
    loop {
        let sent = sendmsg::<()>(
            socket.as_fd().as_raw_fd(),
            &[IoSlice::new(bytes)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        );
        if sent != Err(Errno::EINTR) {
            return sent;
        }
    }
}

/// Receives bytes into `buffer`, and descriptors. 0 bytes are the end.
///
/// # Errors
/// The errno of recvmsg(2), `EAGAIN` where nothing is there and `flags` say not to wait.
pub(crate) fn receive(
    socket: impl AsFd,
    buffer: &mut [u8],
    flags: MsgFlags,
) -> nix::Result<(usize, Vec<OwnedFd>)> {
    loop {
        let mut space = nix::cmsg_space!([RawFd; MOST_FDS]);
        let mut parts = [IoSliceMut::new(buffer)];
        let received = recvmsg::<()>(
            socket.as_fd().as_raw_fd(),
            &mut parts,
            Some(&mut space),
            flags | MsgFlags::MSG_CMSG_CLOEXEC,
        );
        let message = match received {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        let fds = message
            .cmsgs()?
            .filter_map(|control| match control {
                ControlMessageOwned::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .map(owned_from_message)
            .collect();
        return Ok((message.bytes, fds));
    }
}
