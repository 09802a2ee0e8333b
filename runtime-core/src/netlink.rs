//! Network devices by rtnetlink(7): what they are, moving them to another namespace, and making them there what they were.
//!
//! A request is a header, a fixed part and attributes, each at a multiple of four bytes; its answer is an errno, or a
//! list of messages with an end.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x600;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_PERMANENT: u8 = 0x80;
const RT_SCOPE_UNIVERSE: u8 = 0;
const IFF_UP: u32 = 1;

/// Bytes of `struct nlmsghdr`, `struct ifinfomsg` and `struct ifaddrmsg`.
const HEADER: usize = 16;
const LINK: usize = 16;
const ADDRESS: usize = 8;
/// What the kernel sends at once at most.
const LARGEST: usize = 32 << 10;

/// A network device as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) state: State,
    mtu: Vec<u8>,
    hardware_address: Vec<u8>,
    addresses: Vec<Address>,
}

/// Whether a device is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Up,
    Down,
}

/// An address that is somebody's decision and of the whole network.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    family: u8,
    prefix: u8,
    /// Those of its attributes that are not of the place where it was.
    attributes: Vec<(u16, Vec<u8>)>,
}

/// A socket to the kernel's network of one namespace: that in which it was made.
#[derive(Debug)]
pub(crate) struct Netlink(OwnedFd);

/// A request in the making.
struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        bytes.extend(fixed);
        Self(bytes)
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        // Values here are names, addresses and numbers: far below what a length can say.
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn name(self, name: &str) -> Self {
        self.attribute(IFLA_IFNAME, &[name.as_bytes(), b"\0"].concat())
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

/// `struct ifinfomsg`: the device `index` (0 where a name says which), and flags to change.
fn link_message(index: u32, flags: u32) -> [u8; LINK] {
    let mut message = [0; LINK];
    message[4..8].copy_from_slice(&index.to_ne_bytes());
    message[8..12].copy_from_slice(&flags.to_ne_bytes());
    message[12..16].copy_from_slice(&flags.to_ne_bytes());
    message
}

impl Netlink {
    pub(crate) fn open() -> nix::Result<Self> {
        let protocol = SockProtocol::NetlinkRoute;
        let flags = SockFlag::SOCK_CLOEXEC;
        socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).map(Self)
    }

    /// Looks at the device `name`.
    ///
    /// # Errors
    /// `ENODEV` where there is none.
    pub(crate) fn link(&self, name: &str) -> nix::Result<Link> {
        let request = Request::new(RTM_GETLINK, 0, &link_message(0, 0)).name(name);
        let mut link = None;
        self.ask(request, Answer::One, |kind, message| {
            if kind == RTM_NEWLINK {
                link = parse_link(message);
            }
        })?;
        let mut link = link.ok_or(Errno::ENODEV)?;
        let request = Request::new(RTM_GETADDR, NLM_F_DUMP, &[0; ADDRESS]);
        self.ask(request, Answer::Many, |kind, message| {
            if kind == RTM_NEWADDR {
                link.addresses.extend(parse_address(message, link.index));
            }
        })?;
        Ok(link)
    }

    /// Moves a device to the network namespace of `to`, where it is called `name`. It is down then, without addresses.
    pub(crate) fn move_to(&self, link: &Link, to: BorrowedFd<'_>, name: &str) -> nix::Result<()> {
        let namespace = to.as_raw_fd().to_ne_bytes();
        let request = Request::new(RTM_NEWLINK, NLM_F_ACK, &link_message(link.index, 0));
        let request = request.attribute(IFLA_NET_NS_FD, &namespace).name(name);
        self.change(request)
    }

    /// Makes the device `name` of this namespace what `link` was in another, but for its state.
    pub(crate) fn restore(&self, name: &str, link: &Link, state: State) -> nix::Result<()> {
        let index = self.link(name)?.index;
        let mut request = Request::new(RTM_NEWLINK, NLM_F_ACK, &link_message(index, 0));
        request = request.attribute(IFLA_MTU, &link.mtu);
        if !link.hardware_address.is_empty() {
            request = request.attribute(IFLA_ADDRESS, &link.hardware_address);
        }
        self.change(request)?;
        for address in &link.addresses {
            self.add(index, address)?;
        }
        match state {
            State::Down => Ok(()),
            State::Up => {
                let message = link_message(index, IFF_UP);
                self.change(Request::new(RTM_NEWLINK, NLM_F_ACK, &message))
            }
        }
    }

    fn add(&self, index: u32, address: &Address) -> nix::Result<()> {
        let mut message = [
            address.family,
            address.prefix,
            0,
            RT_SCOPE_UNIVERSE,
            0,
            0,
            0,
            0,
        ];
        message[4..].copy_from_slice(&index.to_ne_bytes());
        let mut request = Request::new(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE, &message);
        for (kind, value) in &address.attributes {
            request = request.attribute(*kind, value);
        }
        // It was looked for duplicates where it came from.
        request = request.attribute(IFA_FLAGS, &IFA_F_NODAD.to_ne_bytes());
        match self.change(request) {
            // A device of a kind that gives itself the same.
            Err(Errno::EEXIST) => Ok(()),
            other => other,
        }
    }

    fn change(&self, request: Request) -> nix::Result<()> {
        self.ask(request, Answer::One, |_, _| {})
    }

    /// Sends a request, and hands each message of the answer to `each`.
    fn ask(
        &self,
        request: Request,
        answer: Answer,
        mut each: impl FnMut(u16, &[u8]),
    ) -> nix::Result<()> {
        let fd = self.0.as_raw_fd();
        send(fd, &request.finish(), MsgFlags::empty())?;
        let mut buffer = vec![0; LARGEST];
        loop {
            let length = match recv(fd, &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let mut rest = &buffer[..length];
            while let Some((kind, message, next)) = split(rest) {
                rest = next;
                match kind {
                    NLMSG_ERROR => return errno_of(message),
                    NLMSG_DONE => return Ok(()),
                    kind => each(kind, message),
                }
                if answer == Answer::One {
                    return Ok(());
                }
            }
        }
    }
}

/// How an answer ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// With its first message.
    One,
    /// With `NLMSG_DONE`.
    Many,
}

/// The type and the contents of the first message, and what follows it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(number(bytes, 0)?).ok()?;
    let kind = u16::from_ne_bytes([*bytes.get(4)?, *bytes.get(5)?]);
    let message = bytes.get(HEADER..length)?;
    Some((
        kind,
        message,
        bytes.get(length.next_multiple_of(4)..).unwrap_or_default(),
    ))
}

fn errno_of(message: &[u8]) -> nix::Result<()> {
    match number(message, 0).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(errno) => Err(Errno::from_raw(errno.wrapping_neg())),
        None => Err(Errno::EBADMSG),
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// Any bytes from the kernel: what is read of them is no more than there is.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let mut rest = bytes;
    while let Some((_, message, next)) = split(rest) {
        assert!(message.len() + next.len() < rest.len());
        rest = next;
        let _ = errno_of(message);
        if let Some(link) = parse_link(message) {
            assert!(link.mtu.len() + link.hardware_address.len() <= 2 * message.len());
        }
        if let Some(address) = parse_address(message, 1) {
            let values = address.attributes.iter().map(|(_, value)| value.len());
            assert!(values.sum::<usize>() <= message.len());
        }
    }
}

/// Attributes, by kind.
fn attributes(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut found = Vec::new();
    while let [a, b, c, d, ..] = *bytes {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let Some(value) = bytes.get(4..length) else {
            break;
        };
        found.push((u16::from_ne_bytes([c, d]), value.to_vec()));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn parse_link(message: &[u8]) -> Option<Link> {
    let attributes = attributes(message.get(LINK..)?);
    let value = |wanted: u16| {
        let found = attributes.iter().find(|(kind, _)| *kind == wanted);
        found.map_or_else(Vec::new, |(_, value)| value.clone())
    };
    Some(Link {
        index: number(message, 4)?,
        state: if number(message, 8)? & IFF_UP != 0 {
            State::Up
        } else {
            State::Down
        },
        mtu: value(IFLA_MTU),
        hardware_address: value(IFLA_ADDRESS),
        addresses: Vec::new(),
    })
}

/// An address of the device `index` that goes with it.
fn parse_address(message: &[u8], index: u32) -> Option<Address> {
    let [family, prefix, flags, scope, ..] = *message else {
        return None;
    };
    let goes_along = flags & IFA_F_PERMANENT != 0 && scope == RT_SCOPE_UNIVERSE;
    if number(message, 4)? != index || !goes_along {
        return None;
    }
    let mut attributes = attributes(message.get(ADDRESS..)?);
    attributes.retain(|(kind, _)| [IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST].contains(kind));
    Some(Address {
        family,
        prefix,
        attributes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_are_written() {
        let request = Request::new(RTM_NEWLINK, NLM_F_ACK, &link_message(7, IFF_UP))
            .name("eth0")
            .attribute(IFLA_MTU, &1400_u32.to_ne_bytes())
            .attribute(IFLA_ADDRESS, &[1, 2, 3, 4, 5, 6])
            .finish();
        let (kind, message, rest) = split(&request).unwrap();
        assert_eq!((kind, rest.len()), (RTM_NEWLINK, 0));
        let link = parse_link(message).unwrap();
        assert_eq!((link.index, link.state), (7, State::Up));
        assert_eq!(link.mtu, 1400_u32.to_ne_bytes());
        assert_eq!(link.hardware_address, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn addresses_that_go_along() {
        let of = |index: u32, flags: u8, scope: u8| {
            let mut message = vec![2, 24, flags, scope];
            message.extend(index.to_ne_bytes());
            let attributes = Request(Vec::new())
                .attribute(IFA_LOCAL, &[10, 0, 0, 1])
                .attribute(3, b"eth0:1\0");
            message.extend(attributes.0);
            parse_address(&message, 7)
        };
        let address = of(7, IFA_F_PERMANENT, 0).unwrap();
        assert_eq!((address.family, address.prefix), (2, 24));
        assert_eq!(address.attributes, [(IFA_LOCAL, vec![10, 0, 0, 1])]);
        assert_eq!(of(8, IFA_F_PERMANENT, 0), None, "another device's");
        assert_eq!(of(7, 0, 0), None, "of a lease");
        assert_eq!(of(7, IFA_F_PERMANENT, 253), None, "of the link");
    }

    #[test]
    fn broken_messages_are_none() {
        for bytes in [&[][..], &[1], &[255, 0, 0, 0, 0, 0], &[0; 16]] {
            assert!(split(bytes).is_none(), "{bytes:?}");
        }
        assert_eq!(attributes(&[200, 0, 1, 0]), []);
        assert_eq!(attributes(&[0, 0, 1, 0]), []);
    }

    #[test]
    fn the_kernel_knows_its_loopback() {
        let netlink = Netlink::open().unwrap();
        assert_eq!(netlink.link("lo").unwrap().index, 1);
        assert_eq!(netlink.link("nosuchdevice"), Err(Errno::ENODEV));
    }
}
