//! Descriptors that come over a unix socket: the terminal of `--console-socket`, the notify descriptor of seccomp.

use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::{TIME_LIMIT, eventually};

/// The next connection to a socket.
///
/// # Panics
/// When none comes within the time limit.
#[must_use]
#[track_caller]
pub fn accept_in_time(listener: &UnixListener) -> UnixStream {
    listener.set_nonblocking(true).expect("ioctl(FIONBIO)");
    let mut accepted = None;
    eventually("a connection to the socket", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (stream, _) = accepted.expect("a connection");
    stream.set_nonblocking(false).expect("ioctl(FIONBIO)");
    stream
}

/// Everything that comes over a connection until its end: bytes and descriptors.
///
/// # Panics
/// When nothing comes within the time limit.
#[must_use]
pub fn receive_descriptors(stream: &UnixStream) -> (Vec<u8>, Vec<OwnedFd>) {
    let (mut bytes, descriptors) = receive_message(stream);
    let mut rest = stream;
    rest.read_to_end(&mut bytes).expect("read the rest");
    (bytes, descriptors)
}

/// What comes over a connection at once, whose other end may stay open.
///
/// # Panics
/// When nothing comes within the time limit.
#[must_use]
pub fn receive_message(stream: &UnixStream) -> (Vec<u8>, Vec<OwnedFd>) {
    stream
        .set_read_timeout(Some(TIME_LIMIT))
        .expect("setsockopt");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffer = vec![0; 64 * 1024];
    let count = {
        let mut slices = [IoSliceMut::new(&mut buffer)];
        recvmsg(stream, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)
            .expect("recvmsg")
            .bytes
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    buffer.truncate(count);
    (buffer, descriptors)
}
