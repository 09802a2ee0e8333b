//! Mounts: what every container has, and what the request asks for.

use super::{Facts, HostMount};
use crate::api::{IdMapping, Mount, MountPropagation};
use crate::error::{Error, Kind, Reason, Result, invalid};
use serde_json::{Value, json};
use std::path::{Component, Path};

/// `linux.mounts`, and the propagation that the root needs for them.
#[derive(Debug)]
pub(super) struct Mounts {
    pub(super) list: Vec<Value>,
    pub(super) root_propagation: Option<&'static str>,
}

/// Checks a mount of a request by itself.
///
/// # Errors
/// `Invalid` with the field's name; kubelet's words for what image volumes and recursive read-only mounts may not be.
pub fn check(mount: &Mount, at: &str) -> Result<()> {
    let target = Path::new(&mount.container_path);
    if mount.container_path.is_empty() {
        return Err(invalid(format!("{at}.container_path"), "is empty"));
    }
    if mount.container_path.contains('\0') || target.components().any(|c| c == Component::ParentDir)
    {
        let text = format!("{:?} is not a path without \"..\"", mount.container_path);
        return Err(invalid(format!("{at}.container_path"), text));
    }
    let propagation = MountPropagation::try_from(mount.propagation).map_err(|_| {
        let text = format!("{} is not a propagation", mount.propagation);
        invalid(format!("{at}.propagation"), text)
    })?;
    if mount.recursive_read_only {
        if !mount.readonly {
            let text = "needs readonly to be set";
            return Err(invalid(format!("{at}.recursive_read_only"), text));
        }
        if propagation != MountPropagation::PropagationPrivate {
            let text = "needs private propagation";
            return Err(invalid(format!("{at}.recursive_read_only"), text));
        }
    }
    if mount.image.is_some() {
        return check_image(mount, at);
    }
    if !mount.image_sub_path.is_empty() {
        return Err(invalid(
            format!("{at}.image_sub_path"),
            "is for images only",
        ));
    }
    if mount.host_path.is_empty() {
        return Err(invalid(format!("{at}.host_path"), "is empty"));
    }
    if !mount.host_path.starts_with('/') || mount.host_path.contains('\0') {
        let text = format!("{:?} is not an absolute path", mount.host_path);
        return Err(invalid(format!("{at}.host_path"), text));
    }
    for (field, maps) in [
        ("uidMappings", &mount.uid_mappings),
        ("gidMappings", &mount.gid_mappings),
    ] {
        check_maps(maps, &format!("{at}.{field}"))?;
    }
    if mount.uid_mappings.is_empty() != mount.gid_mappings.is_empty() {
        let text = "maps of users and of groups go together";
        return Err(invalid(format!("{at}.uidMappings"), text));
    }
    Ok(())
}

fn check_image(mount: &Mount, at: &str) -> Result<()> {
    if !mount.host_path.is_empty() {
        return Err(invalid(format!("{at}.host_path"), "is not for images"));
    }
    if !mount.readonly {
        let text = "an image can only be mounted read-only";
        return Err(invalid(format!("{at}.readonly"), text));
    }
    let sub = Path::new(&mount.image_sub_path);
    if sub.is_absolute() || sub.components().any(|c| c == Component::ParentDir) {
        let text = format!("{sub:?} is not a relative path without \"..\"");
        return Err(
            Error::new(Kind::Reason(Reason::ImageVolumeMountFailed), text)
                .at(format!("{at}.image_sub_path")),
        );
    }
    Ok(())
}

/// Checks ranges of ids: none is empty, too long, or given twice.
///
/// # Errors
/// `Invalid` with the field's name.
pub fn check_maps(maps: &[IdMapping], at: &str) -> Result<()> {
    for (index, map) in maps.iter().enumerate() {
        let fits = |start: u32| start.checked_add(map.length).is_some();
        if map.length == 0 || !fits(map.host_id) || !fits(map.container_id) {
            return Err(invalid(
                format!("{at}[{index}].length"),
                format!("{} is out of range", map.length),
            ));
        }
        let overlaps = |other: &IdMapping| {
            let range = |a: u32, b: u32| {
                a < b.saturating_add(other.length) && b < a.saturating_add(map.length)
            };
            range(map.container_id, other.container_id) || range(map.host_id, other.host_id)
        };
        if maps[..index].iter().any(overlaps) {
            return Err(invalid(format!("{at}[{index}]"), "overlaps one before it"));
        }
    }
    Ok(())
}

/// All mounts of a container, in the order in which they are made.
pub(super) fn mounts(wanted: &[Mount], facts: &Facts, privileged: bool) -> Result<Mounts> {
    let mut own = Vec::new();
    let mut root_propagation = None;
    for (index, mount) in wanted.iter().enumerate() {
        let at = format!("config.mounts[{index}]");
        check(mount, &at)?;
        let source = facts.mounts.get(index).ok_or_else(|| {
            Error::new(Kind::Failed, format!("{at}: its source was not looked up"))
        })?;
        let (options, root) = options(mount, source, &at)?;
        // A shared root needs no other; a slave needs no private one.
        root_propagation = match (root_propagation, root) {
            (Some("rshared"), _) | (_, Some("rshared")) => Some("rshared"),
            (old, new) => old.or(new),
        };
        let mut value = json!({
            "destination": target(&mount.container_path),
            "type": "bind",
            "source": source.path,
            "options": options,
        });
        if !mount.uid_mappings.is_empty() {
            value["uidMappings"] = maps(&mount.uid_mappings);
            value["gidMappings"] = maps(&mount.gid_mappings);
        }
        own.push(value);
    }
    let is_taken = |path: &str| own.iter().any(|mount| mount["destination"] == path);
    let mut list = base(facts, privileged);
    list.extend(pod_files(facts));
    list.retain(|mount| {
        mount["destination"]
            .as_str()
            .is_none_or(|path| !is_taken(path))
    });
    // What lies below another mount is made after it; otherwise the order of the request holds.
    own.sort_by_key(|mount| depth(mount["destination"].as_str().unwrap_or_default()));
    list.extend(own);
    Ok(Mounts {
        list,
        root_propagation,
    })
}

/// An absolute path without empty parts: relative ones are relative to the root.
fn target(path: &str) -> String {
    let parts = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".");
    format!("/{}", parts.collect::<Vec<_>>().join("/"))
}

fn depth(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

/// Ranges in the form of config.json.
pub(super) fn maps(maps: &[IdMapping]) -> Value {
    let map = |m: &IdMapping| json!({"containerID": m.container_id, "hostID": m.host_id, "size": m.length});
    maps.iter().map(map).collect()
}

fn options(
    mount: &Mount,
    source: &HostMount,
    at: &str,
) -> Result<(Vec<&'static str>, Option<&'static str>)> {
    let mut options = vec!["rbind"];
    let (word, root) = match MountPropagation::try_from(mount.propagation) {
        Ok(MountPropagation::PropagationBidirectional) => {
            if !source.is_shared {
                let text = format!("{:?} is not on a shared mount", source.path);
                return Err(Error::new(Kind::WrongState, text).at(format!("{at}.propagation")));
            }
            ("rshared", Some("rshared"))
        }
        Ok(MountPropagation::PropagationHostToContainer) => {
            if !source.is_shared && !source.is_slave {
                let text = format!(
                    "{:?} is neither on a shared nor on a slave mount",
                    source.path
                );
                return Err(Error::new(Kind::WrongState, text).at(format!("{at}.propagation")));
            }
            ("rslave", Some("rslave"))
        }
        _ => ("rprivate", None),
    };
    options.push(word);
    options.push(match (mount.readonly, mount.recursive_read_only) {
        (true, true) => "rro",
        (true, false) => "ro",
        _ => "rw",
    });
    if mount.image.is_some() {
        options.extend(["nosuid", "nodev"]);
    }
    Ok((options, root))
}

fn mount(target: &str, kind: &str, source: &str, options: &str) -> Value {
    let options = options.split(',').collect::<Vec<_>>();
    json!({"destination": target, "type": kind, "source": source, "options": options})
}

/// What every container has.
fn base(facts: &Facts, privileged: bool) -> Vec<Value> {
    let access = if privileged { "rw" } else { "ro" };
    let with = |options: &str| format!("{options},{access}");
    // Without a network namespace of its own nobody may mount sysfs in a user namespace.
    let sysfs = if facts.namespaces.user.is_empty() || !facts.namespaces.network.is_empty() {
        mount("/sys", "sysfs", "sysfs", &with("nosuid,noexec,nodev"))
    } else {
        mount("/sys", "bind", "/sys", "rbind,nosuid,noexec,nodev,ro")
    };
    let group = if facts.namespaces.user.is_empty() {
        ",gid=5"
    } else {
        ""
    };
    let devpts = format!("nosuid,noexec,newinstance,ptmxmode=0666,mode=0620{group}");
    let mut list = vec![
        mount("/proc", "proc", "proc", "nosuid,noexec,nodev"),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            "nosuid,strictatime,mode=755,size=65536k",
        ),
        mount("/dev/pts", "devpts", "devpts", &devpts),
        mount("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
        sysfs,
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &with("nosuid,noexec,nodev,relatime"),
        ),
    ];
    let shm = facts.shm.to_string_lossy();
    list.push(mount("/dev/shm", "bind", &shm, "rbind,nosuid,noexec,nodev"));
    list
}

/// Names of hosts, as the pod has them.
fn pod_files(facts: &Facts) -> Vec<Value> {
    let files = facts.files.iter();
    files
        .map(|(target, source)| {
            mount(
                target,
                "bind",
                &source.to_string_lossy(),
                "rbind,rprivate,rw",
            )
        })
        .collect()
}
