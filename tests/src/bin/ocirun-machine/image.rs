//! The disk image: a small Debian with the peers to compare with, made once per recipe and kept.

use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use ocirun_tests::machine::{USER, USER_ID};
use ocirun_tests::program_in_path;
use sha2::{Digest as _, Sha256};

use crate::modules;

const MIRROR: &str = "http://deb.debian.org/debian";
const SECURITY: &str = "http://deb.debian.org/debian-security";
const SUITE: &str = "bookworm";
const PACKAGES: &[&str] = &[
    "apparmor",
    "busybox-static",
    "ca-certificates",
    "containernetworking-plugins",
    "crun",
    "dbus",
    "dbus-user-session",
    "iproute2",
    "iptables",
    "kmod",
    "libpam-systemd",
    "procps",
    "runc",
    "strace",
    "sudo",
    "systemd",
    "systemd-sysv",
    "uidmap",
];
/// How long the mirror may take to answer.
const MIRROR_PATIENCE: Duration = Duration::from_secs(5);
/// What the disk holds besides its files, in MiB.
const FREE_SPACE: u64 = 1024;
/// Changed where the steps of this file change what they make.
const RECIPE_VERSION: u32 = 1;

/// In front of the name of an image that is being made.
const UNFINISHED: &str = "new-";

/// A kernel of Debian's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Debian 12's own.
    Bookworm,
    /// The newer one from its backports.
    Backports,
}

impl Kernel {
    /// All of them: the image holds each.
    pub const ALL: [Self; 2] = [Self::Bookworm, Self::Backports];

    /// Its version, by which variants name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "6.1",
            Self::Backports => "6.12",
        }
    }

    /// The kernel of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kernel| kernel.name() == name)
    }

    fn suite(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Backports => "bookworm-backports",
        }
    }
}

/// A finished image.
#[derive(Debug)]
pub struct Image {
    directory: PathBuf,
}

impl Image {
    /// The image of this program's recipe, made now if it is not there.
    ///
    /// # Errors
    /// In words, with the program that is missing or failed.
    pub fn get() -> Result<Self, String> {
        let cache = cache_directory()?;
        fs::create_dir_all(&cache)
            .map_err(|error| format!("mkdir {}: {error}", cache.display()))?;
        let directory = cache.join(recipe_digest());
        if !directory.is_dir() {
            let lock = File::create(cache.join("lock")).map_err(|error| error.to_string())?;
            // Held until the end of this block: who waited finds the image of who was first.
            let _lock = Flock::lock(lock, FlockArg::LockExclusive)
                .map_err(|(_, errno)| format!("lock {}: {errno}", cache.display()))?;
            if !directory.is_dir() {
                build(&cache, &directory)?;
            }
        }
        Ok(Self { directory })
    }

    /// Whether the image is there, or could be made: the reason if not.
    #[must_use]
    pub fn absent() -> Option<String> {
        let cached = cache_directory().is_ok_and(|cache| cache.join(recipe_digest()).is_dir());
        if cached { None } else { missing_program() }
    }

    /// Where images are kept; a good place for what a run needs.
    #[must_use]
    pub fn cache(&self) -> &Path {
        self.directory.parent().unwrap_or(&self.directory)
    }

    /// The disk, a raw image of one ext4.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.directory.join("disk")
    }

    /// A kernel to boot.
    #[must_use]
    pub fn kernel(&self, kernel: Kernel) -> PathBuf {
        self.directory.join(kernel.name()).join("vmlinuz")
    }

    /// The modules that reach the disks, named in the order of loading.
    #[must_use]
    pub fn modules(&self, kernel: Kernel) -> PathBuf {
        self.directory.join(kernel.name()).join("modules")
    }
}

/// `OCIRUN_MACHINE_CACHE`, or a directory of the user's cache.
fn cache_directory() -> Result<PathBuf, String> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let own = variable("OCIRUN_MACHINE_CACHE").map(PathBuf::from);
    let of_the_user = variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache")))
        .map(|cache| cache.join("ocirun-machine"));
    own.or(of_the_user)
        .ok_or_else(|| "neither OCIRUN_MACHINE_CACHE, XDG_CACHE_HOME nor HOME is set".to_owned())
}

fn recipe_digest() -> String {
    let kernels: Vec<&str> = Kernel::ALL.iter().map(|kernel| kernel.suite()).collect();
    let recipe = format!(
        "{RECIPE_VERSION} {MIRROR} {SECURITY} {SUITE} {} {} {FREE_SPACE} {USER} {USER_ID} {} {}",
        PACKAGES.join(","),
        kernels.join(","),
        modules::TO_BOOT.join(","),
        modules::ON_DISK.join(","),
    );
    let digest = Sha256::digest(recipe.as_bytes());
    digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn missing_program() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("making the test machine's image needs root, for debootstrap".to_owned());
    }
    let program = ["debootstrap", "mke2fs"]
        .into_iter()
        .find(|name| program_in_path(name).is_none())
        .map(|name| format!("making the test machine's image needs the program {name}"));
    program.or_else(mirror_out_of_reach)
}

/// The reason why Debian's mirror cannot be asked, unless a proxy is to be.
fn mirror_out_of_reach() -> Option<String> {
    if ["http_proxy", "HTTP_PROXY"]
        .iter()
        .any(|name| std::env::var_os(name).is_some())
    {
        return None;
    }
    let host = MIRROR.trim_start_matches("http://").split('/').next()?;
    let reached = (host, 80).to_socket_addrs().is_ok_and(|mut addresses| {
        addresses.any(|address| TcpStream::connect_timeout(&address, MIRROR_PATIENCE).is_ok())
    });
    (!reached).then(|| format!("making the test machine's image needs {host}"))
}

/// Makes the image in a temporary directory beside its place, and moves it there when it is whole.
fn build(cache: &Path, directory: &Path) -> Result<(), String> {
    if let Some(reason) = missing_program() {
        return Err(reason);
    }
    eprintln!(
        "making the test machine's image in {}: some minutes, once",
        directory.display()
    );
    let abandoned = fs::read_dir(cache).into_iter().flatten().flatten();
    for entry in
        abandoned.filter(|entry| entry.file_name().to_string_lossy().starts_with(UNFINISHED))
    {
        // The caller holds the lock: who made it was killed.
        let _said_later = fs::remove_dir_all(entry.path());
    }
    let scratch = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(cache)
        .map_err(|error| format!("make a directory in {}: {error}", cache.display()))?;
    // A thread of its own, for its mount namespace: the tree lies in memory, where dpkg's many fsync cost nothing, and
    // is gone with the thread, however this ends.
    let made = std::thread::scope(|scope| scope.spawn(|| build_in_memory(scratch.path())).join());
    made.map_err(|_panic| "the thread that makes the image panicked".to_owned())??;
    fs::rename(scratch.path().join("image"), directory)
        .map_err(|error| format!("rename to {}: {error}", directory.display()))
}

fn build_in_memory(scratch: &Path) -> Result<(), String> {
    let tree = scratch.join("tree");
    let image = scratch.join("image");
    for path in [&tree, &image] {
        fs::create_dir(path).map_err(|error| format!("mkdir {}: {error}", path.display()))?;
    }
    private_tmpfs(&tree).map_err(|errno| format!("mount {}: {errno}", tree.display()))?;
    run(Command::new("debootstrap")
        .args(["--variant=minbase", "--include", &PACKAGES.join(","), SUITE])
        .arg(&tree)
        .arg(MIRROR))?;
    write_sources(&tree).map_err(|error| format!("write the package sources: {error}"))?;
    run(in_tree(&tree, "apt-get").args(["-q", "update"]))?;
    for kernel in Kernel::ALL {
        let own = image.join(kernel.name());
        fetch_kernel(&tree, kernel)?;
        modules::install(&tree, &own)?;
    }
    furnish(&tree)?;
    write_disk(&tree, &image.join("disk"))
}

fn private_tmpfs(at: &Path) -> nix::Result<()> {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
    mount(
        Some("tmpfs"),
        at,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=755"),
    )
}

fn write_sources(tree: &Path) -> std::io::Result<()> {
    let mut lines = vec![
        format!("deb {MIRROR} {SUITE} main"),
        format!("deb {SECURITY} {SUITE}-security main"),
    ];
    let others = Kernel::ALL.iter().map(|kernel| kernel.suite());
    lines.extend(
        others
            .filter(|&suite| suite != SUITE)
            .map(|suite| format!("deb {MIRROR} {suite} main")),
    );
    fs::write(tree.join("etc/apt/sources.list"), lines.join("\n") + "\n")?;
    fs::copy("/etc/resolv.conf", tree.join("etc/resolv.conf"))?;
    Ok(())
}

/// Unpacks a kernel below `kernel/` of the tree. It is not installed: that would make an initial RAM disk of its own.
fn fetch_kernel(tree: &Path, kernel: Kernel) -> Result<(), String> {
    let script = format!(
        "set -e\n\
         rm -rf /kernel && mkdir /kernel && cd /kernel\n\
         version=$(apt-cache madison linux-image-cloud-amd64 | grep ' {}\\(-security\\)\\?/main ' | head -n 1 | cut -d'|' -f2 | tr -d ' ')\n\
         name=$(apt-cache show \"linux-image-cloud-amd64=$version\" | sed -n 's/^Depends: \\(linux-image-[^ ]*\\).*/\\1/p')\n\
         apt-get -q -o APT::Sandbox::User=root download \"$name\"\n\
         dpkg-deb -x ./*.deb .\n\
         rm ./*.deb\n\
         depmod -b /kernel \"$(ls lib/modules)\"\n",
        kernel.suite()
    );
    run(in_tree(tree, "sh").args(["-c", &script]))
}

/// The user, and nothing that a machine without a network and without readers needs.
fn furnish(tree: &Path) -> Result<(), String> {
    let script = format!(
        "set -e\n\
         useradd --create-home --shell /bin/sh --uid {USER_ID} {USER}\n\
         echo {USER}:100000:65536 > /etc/subuid\n\
         echo {USER}:100000:65536 > /etc/subgid\n\
         mkdir -p /var/lib/systemd/linger && touch /var/lib/systemd/linger/{USER}\n\
         echo machine > /etc/hostname\n\
         echo 127.0.0.1 localhost machine > /etc/hosts\n\
         echo /dev/vda / ext4 defaults 0 0 > /etc/fstab\n\
         systemd-machine-id-setup\n\
         for version in $(ls /lib/modules); do depmod \"$version\"; done\n\
         rm -rf /kernel /var/lib/apt/lists/* /var/cache/apt/* /usr/share/doc /usr/share/man /usr/share/locale \
         /etc/resolv.conf\n\
         mkdir -p /machine\n"
    );
    run(in_tree(tree, "sh").args(["-c", &script]))
}

fn write_disk(tree: &Path, disk: &Path) -> Result<(), String> {
    let size = FREE_SPACE + tree_size(tree)? / (1 << 20) * 11 / 10;
    run(Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-d"])
        .arg(tree)
        .arg(disk)
        .arg(format!("{size}M")))
}

/// Bytes that the files of a tree have.
///
/// # Errors
/// In words, if a directory cannot be read.
pub fn tree_size(directory: &Path) -> Result<u64, String> {
    let words = |error| format!("read {}: {error}", directory.display());
    let mut sum = 0;
    for entry in fs::read_dir(directory).map_err(words)? {
        let entry = entry.map_err(words)?;
        let meta = entry.metadata().map_err(words)?;
        sum += if meta.is_dir() {
            tree_size(&entry.path())?
        } else {
            meta.len().next_multiple_of(4096)
        };
    }
    Ok(sum)
}

fn in_tree(tree: &Path, program: &str) -> Command {
    let mut command = Command::new("chroot");
    command.arg(tree).arg(program).env("LC_ALL", "C");
    command.env(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    command
}

/// Runs a program without input; its output is shown only if it fails.
///
/// # Errors
/// In words, with all that it printed.
pub fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("start {name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let mut told = std::io::stderr().lock();
    let _unread = told.write_all(&output.stdout);
    let _unread = told.write_all(&output.stderr);
    Err(format!("{name}: {}", output.status))
}
