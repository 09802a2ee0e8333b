//! The facts that a configuration follows from: files are read and paths are resolved here, and nothing is made.

use crate::api::{ContainerConfig, Device, LinuxContainerSecurityContext};
use crate::error::{Context, Error, Kind, Result, invalid};
use crate::images::Entry;
use crate::mountinfo;
use crate::spec::accounts::Accounts;
use crate::spec::cdi::{self, Edits, Node, Specification};
use crate::spec::seccomp::{MAX_PROFILE, Wanted, wanted};
use crate::spec::{HostDevice, HostMount, ImageProcess};
use image_store::store::images::Image;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat2};
use std::fmt::Display;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Largest account file of an image that is read, in bytes.
const MAX_ACCOUNTS: u64 = 1 << 20;
/// Largest CDI specification that is read, in bytes.
const MAX_CDI: u64 = 4 << 20;

/// What an image says about its process.
#[must_use]
pub fn image_process(image: &Image) -> ImageProcess {
    let config = image
        .parsed_config
        .image
        .config()
        .clone()
        .unwrap_or_default();
    ImageProcess {
        entrypoint: config.entrypoint().clone().unwrap_or_default(),
        command: config.cmd().clone().unwrap_or_default(),
        env: config.env().clone().unwrap_or_default(),
        cwd: config.working_dir().clone().unwrap_or_default(),
        user: config.user().clone().unwrap_or_default(),
        stop_signal: config.stop_signal().clone().unwrap_or_default(),
    }
}

/// The account files below the root of a container.
///
/// # Errors
/// Those of the file system, and files that are too large or none at all.
pub fn accounts(root: BorrowedFd<'_>) -> Result<Accounts> {
    Ok(Accounts {
        passwd: account_file(root, "etc/passwd")?,
        group: account_file(root, "etc/group")?,
    })
}

fn account_file(root: BorrowedFd<'_>, path: &str) -> Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = match openat2(root, path, flags, Mode::empty(), resolve) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
            return Ok(String::new());
        }
        file => file.call(|| format!("openat2(image, {path:?})"))?,
    };
    let stat = rustix::fs::fstat(&file).call(|| format!("fstat(image, {path:?})"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(invalid(
            "config.image",
            format!("its {path} is not a regular file"),
        ));
    }
    bounded(std::fs::File::from(file), MAX_ACCOUNTS, path)
}

/// A text of bounded length.
fn bounded(file: impl Read, most: u64, name: &str) -> Result<String> {
    let mut bytes = Vec::new();
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .call(|| format!("read {name:?}"))?;
    if bytes.len() as u64 > most {
        let text = format!("{name} is larger than {most} bytes");
        return Err(Error::new(Kind::Exhausted, text));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Sources of mounts on the host: symbolic links are followed.
///
/// # Errors
/// Those of the file system, with the field's name.
pub fn mounts(config: &ContainerConfig) -> Result<Vec<HostMount>> {
    let wants_propagation = config.mounts.iter().any(|mount| mount.propagation != 0);
    let table = if wants_propagation {
        mountinfo::read()?
    } else {
        Vec::new()
    };
    let source = |(index, mount): (usize, &crate::api::Mount)| {
        if mount.image.is_some() {
            return Ok(HostMount::default());
        }
        let path = Path::new(&mount.host_path);
        let (path, is_missing) = match std::fs::canonicalize(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (path.to_owned(), true),
            found => {
                let found = found.call(|| format!("resolve {path:?}"));
                let at = || format!("config.mounts[{index}].host_path");
                (found.map_err(|error| error.at(at()))?, false)
            }
        };
        let (is_shared, is_slave) = propagation(&table, &path);
        Ok(HostMount {
            path,
            is_shared,
            is_slave,
            is_missing,
        })
    };
    config.mounts.iter().enumerate().map(source).collect()
}

/// Whether the mount that a path is on is shared, and whether it is a slave.
fn propagation(table: &[mountinfo::Mount], path: &Path) -> (bool, bool) {
    let on = table.iter().filter(|mount| path.starts_with(&mount.point));
    // The last of the longest: it covers those before it.
    let best = on.max_by_key(|mount| mount.point.as_os_str().len());
    best.map_or((false, false), |mount| (mount.is_shared, mount.is_slave))
}

/// Devices of a request; a directory stands for all devices below it.
///
/// # Errors
/// Those of the file system, with the field's name.
pub fn devices(wanted: &[Device]) -> Result<Vec<HostDevice>> {
    let mut all = Vec::new();
    for (index, device) in wanted.iter().enumerate() {
        let at = |error: Error| error.at(format!("config.devices[{index}].host_path"));
        let host = Path::new(&device.host_path);
        let inside = match device.container_path.as_str() {
            "" => &device.host_path,
            path => path,
        };
        let access = match device.permissions.as_str() {
            "" => "rwm",
            rights => rights,
        };
        let meta = std::fs::metadata(host)
            .call(|| format!("stat {host:?}"))
            .map_err(at)?;
        if meta.is_dir() {
            for mut found in below(host).map_err(at)? {
                let rest = found
                    .path
                    .strip_prefix(&device.host_path)
                    .unwrap_or(&found.path);
                found.path = format!("{inside}{rest}");
                access.clone_into(&mut found.access);
                all.push(found);
            }
            continue;
        }
        let found = node(&meta, inside.to_owned(), access);
        all.push(found.ok_or_else(|| at(invalid("device", format!("{host:?} is not a device"))))?);
    }
    Ok(all)
}

/// All devices of the host but terminals, which belong to whoever opened them.
///
/// # Errors
/// Those of reading /dev.
pub fn all_devices() -> Result<Vec<HostDevice>> {
    below(Path::new("/dev"))
}

fn below(dir: &Path) -> Result<Vec<HostDevice>> {
    let mut all = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        let entries = std::fs::read_dir(&dir).call(|| format!("read directory {dir:?}"))?;
        for entry in entries {
            let path = entry.call(|| format!("read directory {dir:?}"))?.path();
            let name = path.file_name().unwrap_or_default();
            let is_own = ["pts", "shm", "fd", "mqueue", "console", "ptmx", "hugepages"]
                .iter()
                .any(|n| name == *n);
            // What vanishes meanwhile was not there.
            let Some(meta) = std::fs::symlink_metadata(&path).ok().filter(|_| !is_own) else {
                continue;
            };
            if meta.is_dir() {
                todo.push(path);
            } else {
                all.extend(node(&meta, path.to_string_lossy().into_owned(), "rwm"));
            }
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}

fn node(meta: &std::fs::Metadata, path: String, access: &str) -> Option<HostDevice> {
    let kind = match meta.file_type() {
        kind if kind.is_char_device() => 'c',
        kind if kind.is_block_device() => 'b',
        _ => return None,
    };
    Some(HostDevice {
        path,
        kind,
        major: rustix::fs::major(meta.rdev()),
        minor: rustix::fs::minor(meta.rdev()),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        access: access.to_owned(),
    })
}

/// What CDI says about the devices of a request, and the nodes it names.
///
/// # Errors
/// Names and specifications that are none, devices that are not there.
pub fn cdi(config: &ContainerConfig, dirs: &[PathBuf]) -> Result<(Vec<Edits>, Vec<HostDevice>)> {
    let list = config.cdi_devices.iter().map(|device| device.name.as_str());
    let names = cdi::wanted(list, config.annotations.iter())?;
    if names.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let edits = cdi::edits(&names, &specifications(dirs)?)?;
    let nodes = edits.iter().flat_map(|edit| &edit.device_nodes);
    let devices = nodes.map(cdi_node).collect::<Result<_>>()?;
    Ok((edits, devices))
}

fn specifications(dirs: &[PathBuf]) -> Result<Vec<Specification>> {
    let mut all = Vec::new();
    for dir in dirs {
        let Ok(entries) = std::fs::read_dir(dir) else {
            continue;
        };
        let mut files = entries
            .flatten()
            .map(|entry| entry.path())
            .collect::<Vec<_>>();
        files.sort();
        for file in files {
            let extension = file
                .extension()
                .and_then(|e| e.to_str())
                .unwrap_or_default();
            let bad = |error: &dyn Display| {
                let text = error.to_string();
                let line = text.lines().next().unwrap_or_default();
                Error::new(Kind::Invalid, format!("{file:?}: {line}"))
            };
            let text = || {
                let open = std::fs::File::open(&file).call(|| format!("open {file:?}"))?;
                bounded(open, MAX_CDI, &file.to_string_lossy())
            };
            match extension {
                "json" => all.push(serde_json::from_str(&text()?).map_err(|e| bad(&e))?),
                "yaml" | "yml" => {
                    // As the numbers of file modes are written.
                    let options = serde_saphyr::options! { legacy_octal_numbers: true };
                    let read = serde_saphyr::from_str_with_options(&text()?, options);
                    all.push(read.map_err(|e| bad(&e))?);
                }
                _ => {}
            }
        }
    }
    Ok(all)
}

fn cdi_node(node: &Node) -> Result<HostDevice> {
    let host = node.host_path.as_deref().unwrap_or(&node.path);
    let meta = std::fs::metadata(host).call(|| format!("stat {host:?}"));
    let found = meta.map(|meta| self::node(&meta, node.path.clone(), "rwm"));
    let mut device = match (found, node.major, node.minor) {
        (Ok(Some(device)), _, _) => device,
        (_, Some(major), Some(minor)) => HostDevice {
            path: node.path.clone(),
            kind: 'c',
            major,
            minor,
            mode: 0o600,
            uid: 0,
            gid: 0,
            access: "rwm".to_owned(),
        },
        (Err(error), _, _) => return Err(error.at("CDI")),
        (Ok(None), _, _) => return Err(invalid("CDI", format!("{host:?} is not a device"))),
    };
    device.kind = node
        .kind
        .as_ref()
        .and_then(|k| k.chars().next())
        .unwrap_or(device.kind);
    device.major = node.major.unwrap_or(device.major);
    device.minor = node.minor.unwrap_or(device.minor);
    device.mode = node.file_mode.unwrap_or(device.mode);
    device.uid = node.uid.unwrap_or(device.uid);
    device.gid = node.gid.unwrap_or(device.gid);
    if let Some(access) = &node.permissions {
        device.access.clone_from(access);
    }
    Ok(device)
}

/// The text of the seccomp profile that a request wants.
///
/// # Errors
/// `Invalid` with the field's name, and those of reading the file.
pub fn seccomp(security: &LinuxContainerSecurityContext, default: &Path) -> Result<Option<String>> {
    let at = "config.linux.security_context.seccomp";
    #[expect(deprecated, reason = "older clients send it")]
    let old = &security.seccomp_profile_path;
    let path = match wanted(security.seccomp.as_ref(), old, at)? {
        Wanted::Unconfined => return Ok(None),
        Wanted::Default if default.as_os_str().is_empty() => {
            return Ok(Some(crate::spec::seccomp::DEFAULT.to_owned()));
        }
        Wanted::Default => default.to_owned(),
        Wanted::Local(path) => path,
    };
    if !path.is_absolute() {
        return Err(invalid(at, format!("{path:?} is not an absolute path")));
    }
    let file = std::fs::File::open(&path)
        .call(|| format!("open {path:?}"))
        .map_err(|error| error.at(at))?;
    bounded(file, MAX_PROFILE, &path.to_string_lossy()).map(Some)
}

/// `registry/repository@digest` of an image, where it has one.
#[must_use]
pub fn digest_of(entry: &Entry) -> String {
    let digests = entry.stored.iter().flat_map(|summary| &summary.digests);
    digests.min().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn propagation_of_the_mount_a_path_is_on() {
        let mount = |point: &str, is_shared, is_slave| mountinfo::Mount {
            point: point.into(),
            is_shared,
            is_slave,
        };
        let table = [
            mount("/", true, false),
            mount("/a b", false, true),
            mount("/c", false, false),
            mount("/c", true, true),
        ];
        for (path, expected) in [
            ("/x", (true, false)),
            ("/a b/c", (false, true)),
            ("/a", (true, false)),
            ("/c/d", (true, true)),
        ] {
            assert_eq!(propagation(&table, Path::new(path)), expected, "{path}");
        }
        let plain = propagation(&table[..3], Path::new("/c"));
        assert_eq!(plain, (false, false));
    }

    #[test]
    fn devices_by_path() {
        let device = |path: &str, inside: &str| Device {
            host_path: path.into(),
            container_path: inside.into(),
            permissions: "r".into(),
        };
        let found = devices(&[device("/dev/null", "/dev/x"), device("/dev/zero", "")]).unwrap();
        assert_eq!((found[0].path.as_str(), found[0].kind), ("/dev/x", 'c'));
        assert_eq!(
            (found[0].major, found[0].minor, found[0].access.as_str()),
            (1, 3, "r")
        );
        assert_eq!((found[1].path.as_str(), found[1].minor), ("/dev/zero", 5));
        for bad in ["/dev/nothing", "/etc/passwd"] {
            let error = devices(&[device(bad, "")]).unwrap_err().to_string();
            assert!(error.starts_with("config.devices[0].host_path"), "{error}");
        }
    }
}
