//! What a test needs of the machine, and the reason to give when it is not there.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cgroup::v1_mount;
use crate::programs::{Kind, own_program, program_in_path, runtime};

/// Something a test cannot do without.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// User 0 with CAP_SYS_ADMIN.
    Root,
    /// A mounted cgroup v1 hierarchy with this controller.
    CgroupV1(&'static str),
    /// Cgroup v2 and no v1, with this controller.
    CgroupV2(&'static str),
    /// A controller of either version.
    Cgroup(&'static str),
    /// systemd as the manager of this machine.
    Systemd,
    /// An ordinary user whose part of cgroup v2 is its own, with this controller.
    Delegated(&'static str),
    /// An ordinary user with a systemd manager of its own.
    UserSystemd,
    /// Root, cgroup v2, and a systemd manager of user 1000, in whose part of the hierarchy the test is not.
    OthersSystemd,
    /// An ordinary user with subordinate ids and the programs that map them.
    SubordinateIds,
    /// The test machine: a virtual one that can be booted here.
    Machine,
    /// A kernel of at least this version, where no file tells of what it can do.
    Kernel(u32, u32),
    /// User namespaces, for an ordinary user as well.
    UserNamespace,
    /// Capability with this number (capabilities(7)), for tests that root may be denied in a virtual machine.
    Capability(u32),
    /// A namespace of the kernel, by its name in /proc/self/ns.
    Namespace(&'static str),
    /// A file of the host, which the kernel shows where it can do a thing.
    File(&'static str),
    /// A file that the host does not have, for what must then be refused.
    NoFile(&'static str),
    /// Landlock among the security modules at work.
    Landlock,
    /// A program of the host, by its name in PATH.
    Program(&'static str),
    /// A CRIU that works with this kernel.
    Criu,
    /// Something that CRIU and this kernel can do together, by its name for `criu check --feature`.
    CriuFeature(&'static str),
    /// A CRIU that knows what this kernel lost: since Linux 6.16 TCP has no SO_PASSSEC, which older ones ask for.
    CriuTcp,
    /// A device node of the host, by its path.
    Device(&'static str),
    /// A variable of the environment, which says where something is.
    Variable(&'static str),
    /// A runtime other than runc, which is known not to do this: the reason.
    NotRunc(&'static str),
    /// A runtime other than crun, which is known not to do this: the reason.
    NotCrun(&'static str),
    /// A runtime other than `ocirun`, which does not do this yet and refuses it: the reason.
    NotOcirun(&'static str),
    /// `ocirun` itself: what no other runtime promises.
    Ocirun,
}

impl Need {
    /// The reason why the need is not met, if it is not.
    #[must_use]
    pub fn absent(self) -> Option<String> {
        let (met, reason) = match self {
            Self::Root => (
                nix::unistd::geteuid().is_root() && has_capability(21),
                "needs root".to_owned(),
            ),
            Self::CgroupV1(name) => (
                v1_mount(name).is_some(),
                format!("needs the cgroup v1 controller {name}"),
            ),
            Self::CgroupV2(name) => (
                has_v2_controller(name),
                format!("needs cgroup v2 alone, with {name}"),
            ),
            Self::Cgroup(name) => (
                v1_mount(name).is_some() || has_v2_controller(name),
                format!("needs the cgroup controller {name}"),
            ),
            Self::Systemd => (
                fs::exists("/run/systemd/system").unwrap_or(false),
                "needs systemd".to_owned(),
            ),
            Self::Delegated(controller) => (
                !nix::unistd::geteuid().is_root() && is_delegated(controller),
                format!("needs a user with a delegated cgroup that has {controller}"),
            ),
            Self::UserSystemd => (
                !nix::unistd::geteuid().is_root()
                    && std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|directory| {
                        Path::new(&directory).join("systemd/private").exists()
                    }),
                "needs a user with a systemd manager".to_owned(),
            ),
            Self::OthersSystemd => (
                nix::unistd::geteuid().is_root()
                    && Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
                    && Path::new("/run/user/1000/systemd/private").exists(),
                "needs root, a systemd manager of user 1000, and cgroup v2".to_owned(),
            ),
            Self::SubordinateIds => (
                !nix::unistd::geteuid().is_root()
                    && program_in_path("newuidmap").is_some()
                    && subordinate_ids().is_some(),
                "needs a user with subordinate ids and newuidmap".to_owned(),
            ),
            Self::Machine => return machine_absent(),
            Self::Kernel(major, minor) => (
                kernel_version().is_some_and(|version| version >= (major, minor)),
                format!("needs Linux {major}.{minor}"),
            ),
            Self::UserNamespace => (user_namespaces(), "needs user namespaces".to_owned()),
            Self::Capability(number) => {
                (has_capability(number), format!("needs capability {number}"))
            }
            Self::Namespace(name) => (
                fs::exists(format!("/proc/self/ns/{name}")).unwrap_or(false),
                format!("needs {name} namespaces"),
            ),
            Self::File(path) => (fs::exists(path).unwrap_or(false), format!("needs {path}")),
            Self::NoFile(path) => (
                !fs::exists(path).unwrap_or(false),
                format!("needs a host without {path}"),
            ),
            Self::Landlock => (landlock(), "needs Landlock".to_owned()),
            Self::Program(name) => (
                program_in_path(name).is_some(),
                format!("needs the program {name}"),
            ),
            Self::Criu => (
                criu_check(&[]),
                "needs a criu in PATH that `criu check` is content with".to_owned(),
            ),
            Self::CriuTcp => (
                kernel_version().is_some_and(|version| version < (6, 16))
                    || criu_version().is_some_and(|version| version >= (4, 2)),
                "needs criu 4.2 in PATH for TCP on Linux 6.16 and later".to_owned(),
            ),
            Self::CriuFeature(name) => (
                criu_check(&["--feature", name]),
                format!("needs a criu in PATH that has, with this kernel, {name}"),
            ),
            Self::Device(path) => (
                fs::exists(path).unwrap_or(false),
                format!("needs the device {path}"),
            ),
            Self::Variable(name) => (
                std::env::var_os(name).is_some_and(|value| !value.is_empty()),
                format!("needs {name}"),
            ),
            Self::NotRunc(why) => (runtime().kind != Kind::Runc, format!("runc differs: {why}")),
            Self::NotCrun(why) => (
                !runtime().program.ends_with("crun"),
                format!("crun differs: {why}"),
            ),
            Self::NotOcirun(why) => (runtime().kind != Kind::Ocirun, format!("ocirun: {why}")),
            Self::Ocirun => (
                runtime().kind == Kind::Ocirun,
                "only ocirun promises this".to_owned(),
            ),
        };
        (!met).then_some(reason)
    }
}

/// The machine's own program knows.
fn machine_absent() -> Option<String> {
    let check = Command::new(own_program("ocirun-machine"))
        .arg("check")
        .output();
    match check {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("start ocirun-machine: {error}")),
    }
}

fn kernel_version() -> Option<(u32, u32)> {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|mask| mask >> number & 1 == 1)
}

/// What version 2 does without a controller is always there.
fn has_v2_controller(name: &str) -> bool {
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
    controllers.is_ok_and(|all| {
        matches!(name, "devices" | "freezer") || all.split_whitespace().any(|one| one == name)
    })
}

/// From `Version: 4.2.1`.
fn criu_version() -> Option<(u32, u32)> {
    let output = Command::new("criu").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.lines().next()?.strip_prefix("Version: ")?;
    let mut parts = version.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

fn criu_check(args: &[&str]) -> bool {
    let check = Command::new("criu").arg("check").args(args).output();
    check.is_ok_and(|check| check.status.success())
}

/// Whether the cgroup above this process's own is the user's, with `controller`.
fn is_delegated(controller: &str) -> bool {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(own) = own.trim_end().strip_prefix("0::/") else {
        return false;
    };
    let above = Path::new("/sys/fs/cgroup").join(own);
    let Some(above) = above.parent() else {
        return false;
    };
    let has = fs::read_to_string(above.join("cgroup.controllers"))
        .is_ok_and(|all| all.split_whitespace().any(|name| name == controller));
    has && rustix::fs::access(above.join("cgroup.procs"), rustix::fs::Access::WRITE_OK).is_ok()
}

/// The first of this user's subordinate ids, and how many there are: see subuid(5).
#[must_use]
pub fn subordinate_ids() -> Option<(u32, u32)> {
    let uid = nix::unistd::geteuid();
    let name = nix::unistd::User::from_uid(uid).ok()??.name;
    let table = fs::read_to_string("/etc/subuid").ok()?;
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        (owner == name || owner == uid.to_string()).then_some(())?;
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

/// The list of security modules lies in a file system that few mount.
fn landlock() -> bool {
    let script = "mount -t securityfs none /mnt && cat /mnt/lsm";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script])
        .output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("landlock"))
}

fn user_namespaces() -> bool {
    let allowed = |path: &str| fs::read_to_string(path).map_or(true, |text| text.trim() != "0");
    fs::exists("/proc/self/ns/user").unwrap_or(false)
        && allowed("/proc/sys/user/max_user_namespaces")
        && allowed("/proc/sys/kernel/unprivileged_userns_clone")
}
