//! The initial RAM disk's program: from the kernel's start to the first program of the machine's disk.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot};
use ocirun_tests::machine::{Manager, Message, SHARE, USER_ID};

use crate::job::{Port, read_job};

/// finit_module(2)'s MODULE_INIT_COMPRESSED_FILE (Linux 5.17).
const COMPRESSED: i32 = 4;
/// How long a disk may take to appear.
const PATIENCE: Duration = Duration::from_secs(20);
const ROOT: &str = "/root";

/// Becomes the machine's PID 1.
///
/// # Errors
/// What failed, in words: the kernel then panics, and the machine ends.
pub fn run() -> Result<(), String> {
    mount_at("devtmpfs", "/dev", "")?;
    mount_at("proc", "/proc", "")?;
    mount_at("sysfs", "/sys", "")?;
    load_modules()?;
    wait_for("/dev/vda")?;
    wait_for("/dev/vdb")?;
    mount_disk("/dev/vda", ROOT, MsFlags::empty())?;
    mount_disk("/dev/vdb", &format!("{ROOT}{SHARE}"), MsFlags::MS_RDONLY)?;
    let mut port = Port::open()?;
    port.tell(&Message::Booted)?;
    drop(port);
    let manager = read_job(Path::new(&format!("{ROOT}{SHARE}")))?.manager;
    for name in ["proc", "sys"] {
        nix::mount::umount(format!("/{name}").as_str())
            .map_err(|errno| format!("umount(/{name}): {errno}"))?;
    }
    mount_at("devtmpfs", &format!("{ROOT}/dev"), "")?;
    mount_at("tmpfs", &format!("{ROOT}/run"), "mode=755")?;
    if manager == Manager::Systemd {
        write_units(Path::new(&format!("{ROOT}/run/systemd/system")))
            .map_err(|error| format!("write the units: {error}"))?;
    }
    enter_root().map_err(|errno| format!("enter the disk: {errno}"))?;
    let error = match manager {
        Manager::Systemd => Command::new("/sbin/init").exec(),
        Manager::Plain => Command::new(format!("{SHARE}/ocirun-guest"))
            .arg("plain")
            .exec(),
    };
    Err(format!("execute the first program of the disk: {error}"))
}

/// Mounts a file system that needs no device, by its type's name.
pub fn mount_at(kind: &str, at: &str, options: &str) -> Result<(), String> {
    fs::create_dir_all(at).map_err(|error| format!("mkdir({at}): {error}"))?;
    mount(Some(kind), at, Some(kind), MsFlags::empty(), Some(options))
        .map_err(|errno| format!("mount({kind}, {at}): {errno}"))
}

fn mount_disk(device: &str, at: &str, flags: MsFlags) -> Result<(), String> {
    fs::create_dir_all(at).map_err(|error| format!("mkdir({at}): {error}"))?;
    mount(Some(device), at, Some("ext4"), flags, None::<&str>)
        .map_err(|errno| format!("mount({device}, {at}): {errno}"))
}

/// The host has numbered the files in the order of their dependencies.
fn load_modules() -> Result<(), String> {
    let entries = fs::read_dir("/modules").map_err(|error| format!("read /modules: {error}"))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    for path in files {
        let flags = if path.extension().is_some_and(|end| end == "ko") {
            0
        } else {
            COMPRESSED
        };
        let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        rustix::system::finit_module(&file, c"", flags)
            .map_err(|errno| format!("finit_module({}): {errno}", path.display()))?;
    }
    Ok(())
}

fn wait_for(device: &str) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    while !Path::new(device).exists() {
        if Instant::now() > end {
            return Err(format!("{device} is not there after {PATIENCE:?}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// What switch_root(8) does: the disk becomes `/`.
fn enter_root() -> nix::Result<()> {
    chdir(ROOT)?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
    chroot(".")?;
    chdir("/")
}

/// systemd reads these beside the disk's own; the kernel's command line names the target.
fn write_units(directory: &Path) -> std::io::Result<()> {
    let target = "[Unit]\nRequires=basic.target ocirun-machine.service\nAfter=basic.target\n";
    let service = format!(
        "[Unit]\n\
         Wants=dbus.socket systemd-logind.service user@{USER_ID}.service\n\
         After=basic.target dbus.socket systemd-logind.service user@{USER_ID}.service\n\
         [Service]\n\
         Type=oneshot\n\
         ExecStart={SHARE}/ocirun-guest job\n\
         StandardOutput=tty\n\
         TTYPath=/dev/console\n\
         Delegate=yes\n\
         TasksMax=infinity\n\
         LimitNOFILE=1048576\n"
    );
    fs::create_dir_all(directory)?;
    fs::write(directory.join("ocirun-machine.target"), target)?;
    fs::write(directory.join("ocirun-machine.service"), service)
}
