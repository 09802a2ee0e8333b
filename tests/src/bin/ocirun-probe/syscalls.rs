//! One system call each, made to see whether a seccomp filter or a capability lets it through.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::personality::{self, Persona};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nix::sys::stat::{Mode, umask};
use nix::unistd;
use rustix::fs::{CWD, Mode as RawMode, OFlags, ResolveFlags};
use serde_json::Value;

use crate::{Outcome, Refusal};

/// Makes the named call with arguments that do no harm where they are allowed.
pub fn attempt(name: &str) -> Outcome {
    match name {
        "getcwd" => drop(unistd::getcwd()?),
        "getppid" => drop(unistd::getppid()),
        "mkdir" => unistd::mkdir("/tmp/probe-mkdir", Mode::S_IRWXU)?,
        "chmod" => std::fs::set_permissions("/tmp", Permissions::from_mode(0o777))?,
        "chroot" => unistd::chroot("/")?,
        "sethostname" => unistd::sethostname("probe")?,
        "setuid" => unistd::setuid(unistd::getuid())?,
        "setuid-1" => unistd::setuid(unistd::Uid::from_raw(1))?,
        "setgid-1" => unistd::setgid(unistd::Gid::from_raw(1))?,
        "kill-self" => nix::sys::signal::kill(unistd::getpid(), None)?,
        "personality" => drop(personality::get()?),
        "personality-linux32" => drop(personality::set(Persona::ADDR_NO_RANDOMIZE)?),
        "unshare-user" => unshare(CloneFlags::CLONE_NEWUSER)?,
        "unshare-mount" => unshare(CloneFlags::CLONE_NEWNS)?,
        "unshare-uts" => unshare(CloneFlags::CLONE_NEWUTS)?,
        "mount-tmpfs" => mount(
            Some("tmpfs"),
            "/tmp",
            Some("tmpfs"),
            MsFlags::empty(),
            None::<&str>,
        )?,
        "umount-proc" => umount2("/proc", MntFlags::MNT_DETACH)?,
        "socket-unix" => open_socket(AddressFamily::Unix, SockType::Datagram)?,
        "socket-inet" => open_socket(AddressFamily::Inet, SockType::Datagram)?,
        "socket-raw" => open_socket(AddressFamily::Inet, SockType::Raw)?,
        "socket-vsock" => open_socket(AddressFamily::Vsock, SockType::Stream)?,
        "nice-up" => rustix::process::setpriority_process(None, -1)?,
        "settime" => set_time()?,
        "sync" => unistd::sync(),
        "umask" => drop(umask(Mode::empty())),
        "openat2" => drop(rustix::fs::openat2(
            CWD,
            "/",
            OFlags::PATH,
            RawMode::empty(),
            ResolveFlags::empty(),
        )?),
        "keys" => drop(io::read_to_string(std::fs::File::open(Path::new(
            "/proc/keys",
        ))?)?),
        _ => return Err(Refusal::Usage(format!("system call {name}"))),
    }
    Ok(Value::from("ok"))
}

fn open_socket(family: AddressFamily, kind: SockType) -> nix::Result<()> {
    let protocol = (kind == SockType::Raw).then_some(SockProtocol::Icmp);
    socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol).map(drop)
}

/// Sets the clock to what it already shows.
fn set_time() -> nix::Result<()> {
    let clock = nix::time::ClockId::CLOCK_REALTIME;
    let now = clock.now()?;
    nix::time::clock_settime(clock, now)
}
