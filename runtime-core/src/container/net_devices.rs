//! Moving network devices into the container's network namespace, and back where the container does not come to be.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::error::{Call, Context, Error, Result};
use crate::kernel::clone::{Parent, Side, fork_into};
use crate::kernel::process;
use crate::netlink::{Link, Netlink};
use crate::plan::net_devices::NetDevice;

/// Devices that were the host's.
#[derive(Debug)]
pub(super) struct Moved {
    /// The namespace in which they are. Held, for most kinds of devices end with it.
    namespace: OwnedFd,
    /// Where they came from.
    home: OwnedFd,
    devices: Vec<(NetDevice, Link)>,
}

/// Looks at the devices while they are still here.
pub(super) fn look_at(devices: &[NetDevice]) -> Result<Vec<Link>> {
    if devices.is_empty() {
        return Ok(Vec::new());
    }
    let netlink = Netlink::open().call(|| "socket(NETLINK_ROUTE)")?;
    let look = |device: &NetDevice| {
        netlink
            .link(&device.outside)
            .call(|| "rtnetlink(RTM_GETLINK)")
            .context(|| element(device))
    };
    devices.iter().map(look).collect()
}

fn element(device: &NetDevice) -> String {
    format!("linux.netDevices {:?}", device.outside)
}

impl Moved {
    /// No device yet, on the way to the network namespace of `pid`.
    pub(super) fn to(pid: Pid) -> Result<Self> {
        Ok(Self {
            namespace: namespace_of(&pid.to_string())?,
            home: namespace_of("self")?,
            devices: Vec::new(),
        })
    }

    /// Moves one device.
    pub(super) fn take(&mut self, device: &NetDevice, link: Link) -> Result<()> {
        let moved = Netlink::open()
            .and_then(|netlink| netlink.move_to(&link, self.namespace.as_fd(), &device.inside));
        let mut device = device.clone();
        let (what, inside) = (element(&device), device.inside.clone());
        if moved.is_err() {
            // The kernel moves first and renames then: it may be there by its old name.
            device.inside.clone_from(&device.outside);
        }
        self.devices.push((device, link));
        moved
            .call(|| format!("rtnetlink(RTM_NEWLINK, IFLA_NET_NS_FD, {inside:?})"))
            .context(|| what)
    }

    /// Moves all back, and makes them what they were. Goes on past what fails.
    pub(super) fn give_back(&self) -> Result<()> {
        let mut result = Ok(());
        for (device, link) in &self.devices {
            let returned = self.return_one(device).and_then(|()| {
                let restored = Netlink::open()
                    .and_then(|netlink| netlink.restore(&device.outside, link, link.state));
                restored.call(|| "rtnetlink(RTM_NEWLINK)")
            });
            let returned = returned.context(|| element(device));
            result = result.and(returned);
        }
        result
    }

    /// By a child: this process itself never joins what is a container's.
    fn return_one(&self, device: &NetDevice) -> Result<()> {
        let side = fork_into(CloneFlags::empty(), None, Parent::Caller).call(|| "clone3()")?;
        let Side::Parent(pid, _) = side else {
            let moved = process::join(self.namespace.as_fd(), CloneFlags::CLONE_NEWNET)
                .and_then(|()| Netlink::open())
                .and_then(|netlink| {
                    match netlink.link(&device.inside) {
                        // It never left.
                        Err(Errno::ENODEV) => Ok(()),
                        link => netlink.move_to(&link?, self.home.as_fd(), &device.outside),
                    }
                });
            process::exit_now(i32::from(moved.is_err()))
        };
        match waitpid(pid, None).call(|| "waitpid()")? {
            nix::sys::wait::WaitStatus::Exited(_, 0) => Ok(()),
            _ => Err(Error::argument("cannot be moved back")),
        }
    }
}

fn namespace_of(process: &str) -> Result<OwnedFd> {
    let path = format!("/proc/{process}/ns/net");
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    open(path.as_str(), flags, Mode::empty()).call(|| format!("open({path:?})"))
}
