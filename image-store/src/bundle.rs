//! An OCI bundle's config.json from an image's config: the spec that `runc spec` would write, with the image's process.
//!
//! See runtime-spec config.md and image-spec conversion.md.

use crate::error::{Context, Error, ErrorKind, Result, invalid};
use crate::manifest::Config;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat2};
use serde_json::{Value, json};
use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Largest passwd or group file that is read.
const ACCOUNTS: u64 = 1 << 20;
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Who a process is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Further groups.
    pub additional: Vec<u32>,
}

/// The config.json for an image whose file system is at `rootfs` below the bundle.
pub fn spec(config: &Config, root: BorrowedFd<'_>, rootfs: &str) -> Result<Value> {
    let empty = oci_spec::image::Config::default();
    let image = config.image.config().as_ref().unwrap_or(&empty);
    let entrypoint = image.entrypoint().iter().flatten();
    let mut args = entrypoint
        .chain(image.cmd().iter().flatten())
        .cloned()
        .collect::<Vec<_>>();
    if args.is_empty() {
        args.push("sh".to_owned());
    }
    let mut env = image.env().clone().unwrap_or_default();
    if !env.iter().any(|variable| variable.starts_with("PATH=")) {
        env.insert(0, DEFAULT_PATH.to_owned());
    }
    let cwd = image
        .working_dir()
        .as_deref()
        .filter(|dir| !dir.is_empty())
        .unwrap_or("/");
    if !cwd.starts_with('/') {
        return Err(invalid(format!(
            "config: working directory {cwd:?} is not absolute"
        )));
    }
    let user = user(root, image.user().as_deref().unwrap_or_default())?;
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let namespaces =
        ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({"type": kind}));
    let mut spec = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": user.uid, "gid": user.gid},
            "args": args,
            "env": env,
            "cwd": cwd,
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": rootfs},
        "hostname": "ocirun",
        "mounts": mounts(),
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": namespaces,
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    });
    if !user.additional.is_empty() {
        spec["process"]["user"]["additionalGids"] = json!(user.additional);
    }
    Ok(spec)
}

/// Changes a spec into one that the user who calls this can run, as `runc spec --rootless` has it. The one id that can be
/// mapped is the user's own, as 0; the process is then 0 too, whoever the image wants it to be.
pub fn make_rootless(spec: &mut Value) {
    spec["process"]["user"] = json!({"uid": 0, "gid": 0});
    let map = |outer: u32| json!([{"containerID": 0, "hostID": outer, "size": 1}]);
    spec["linux"]["uidMappings"] = map(rustix::process::geteuid().as_raw());
    spec["linux"]["gidMappings"] = map(rustix::process::getegid().as_raw());
    let namespaces = ["pid", "ipc", "uts", "mount", "cgroup", "user"];
    spec["linux"]["namespaces"] = namespaces.map(|kind| json!({"type": kind})).into();
    if let Some(linux) = spec["linux"].as_object_mut() {
        linux.remove("resources");
    }
    for mount in spec["mounts"].as_array_mut().into_iter().flatten() {
        if mount["destination"] == "/sys" {
            *mount = json!({"destination": "/sys", "type": "none", "source": "/sys",
                "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
        } else if let Some(options) = mount["options"].as_array_mut() {
            options.retain(|option| option != "gid=5");
        }
    }
}

fn mounts() -> Value {
    let mount = |target: &str, kind: &str, source: &str, options: &str| json!({"destination": target, "type": kind, "source": source, "options": options.split(',').collect::<Vec<_>>()});
    json!([
        mount("/proc", "proc", "proc", "nosuid,noexec,nodev"),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            "nosuid,strictatime,mode=755,size=65536k"
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            "nosuid,noexec,nodev,mode=1777,size=65536k"
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
        mount("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            "nosuid,noexec,nodev,relatime,ro"
        ),
    ])
}

/// Resolves `user[:group]`, by name in the image's own files or by number.
pub fn user(root: BorrowedFd<'_>, text: &str) -> Result<User> {
    let (name, group) = match text.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (text, None),
    };
    let passwd = accounts(root, "etc/passwd")?;
    let groups = accounts(root, "etc/group")?;
    let name = if name.is_empty() { "0" } else { name };
    let number = id(name)?;
    let entry = rows(&passwd).find(|row| match number {
        Some(uid) => row.get(2).is_some_and(|field| field.parse() == Ok(uid)),
        None => row[0] == name,
    });
    let missing = |what: &str, name: &str| {
        Error::new(
            ErrorKind::NotFound,
            format!("config: no {what} {name:?} in the image"),
        )
    };
    let field = |row: &[&str], at: usize| row.get(at).and_then(|text| id(text).ok().flatten());
    let (uid, mut gid) = match (&entry, number) {
        (Some(row), _) => (
            field(row, 2).ok_or_else(|| missing("user", name))?,
            field(row, 3).unwrap_or(0),
        ),
        (None, Some(uid)) => (uid, 0),
        (None, None) => return Err(missing("user", name)),
    };
    let mut additional = Vec::new();
    match group {
        Some(group) => {
            gid = match id(group)? {
                Some(gid) => gid,
                None => {
                    let row = rows(&groups)
                        .find(|row| row[0] == group)
                        .ok_or_else(|| missing("group", group))?;
                    field(&row, 2).ok_or_else(|| missing("group", group))?
                }
            };
        }
        None => {
            if let Some(row) = &entry {
                let login = row[0];
                let mine = rows(&groups).filter(|row| {
                    row.get(3)
                        .is_some_and(|all| all.split(',').any(|m| m == login))
                });
                additional = mine
                    .filter_map(|row| field(&row, 2))
                    .filter(|other| *other != gid)
                    .collect();
            }
        }
    }
    Ok(User {
        uid,
        gid,
        additional,
    })
}

/// A number that is an id, nothing if it is no number, an error if it is too large for one.
fn id(text: &str) -> Result<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    let id = text
        .parse::<u32>()
        .ok()
        .filter(|id| i32::try_from(*id).is_ok());
    id.map(Some)
        .ok_or_else(|| invalid(format!("config: id {text} is too large")))
}

fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .filter(|line| !line.starts_with('#') && line.contains(':'))
        .map(|line| line.split(':').collect())
}

/// A regular file of bounded size inside the root; empty if there is none.
fn accounts(root: BorrowedFd<'_>, path: &str) -> Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let fd: OwnedFd = match openat2(root, path, flags, Mode::empty(), resolve) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
            return Ok(String::new());
        }
        fd => fd.call(|| format!("openat2(rootfs, {path:?})"))?,
    };
    let stat = rustix::fs::fstat(&fd).call(|| "fstat")?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(invalid(format!(
            "{path} of the image is not a regular file"
        )));
    }
    let mut data = Vec::new();
    std::fs::File::from(fd)
        .take(ACCOUNTS + 1)
        .read_to_end(&mut data)
        .call(|| format!("read {path}"))?;
    if data.len() as u64 > ACCOUNTS {
        return Err(crate::error::limit(format!(
            "{path} of the image is larger than {ACCOUNTS} bytes"
        )));
    }
    Ok(String::from_utf8_lossy(&data).into_owned())
}
