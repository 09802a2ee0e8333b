//! A container's `config.json`: a pure function of the request, the image and facts that were gathered before.
//!
//! Everything that a request can get wrong ends here, with the name of its field, before anything is made.

pub mod accounts;
pub mod capabilities;
pub mod cdi;
pub mod devices;
pub mod mounts;
mod process;
pub mod resources;
pub mod seccomp;

use crate::api::{
    ContainerConfig, IdMapping, LinuxContainerConfig, LinuxContainerSecurityContext, NamespaceMode,
    NamespaceOption, PodSandboxConfig, SeLinuxOption,
};
use crate::error::{Error, Kind, Result, invalid};
use accounts::User;
use capabilities::Sets;
use serde_json::{Value, json};
use std::path::PathBuf;

/// What an image says about its process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageProcess {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// The rest, or the program where there is no entry point.
    pub command: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// `user[:group]`.
    pub user: String,
    /// Name or number.
    pub stop_signal: String,
}

/// Paths of the pod's namespaces; empty for those of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Network.
    pub network: String,
    /// IPC.
    pub ipc: String,
    /// UTS.
    pub uts: String,
    /// User.
    pub user: String,
    /// PID: the pod's, or the target's.
    pub pid: String,
}

/// Where a mount of a request comes from, symbolic links followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostMount {
    /// The source.
    pub path: PathBuf,
    /// Whether the mount it is on is shared with others.
    pub is_shared: bool,
    /// Whether the mount it is on receives what others do.
    pub is_slave: bool,
    /// Whether it is not there, and becomes a directory before the container is made.
    pub is_missing: bool,
}

/// A device node of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostDevice {
    /// In the container.
    pub path: String,
    /// `c` or `b`.
    pub kind: char,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Of `r`, `w` and `m`.
    pub access: String,
}

/// What the host and the pod are like, as far as a configuration depends on it.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The pod's namespaces.
    pub namespaces: Namespaces,
    /// Ids of the pod's user namespace.
    pub id_maps: (Vec<IdMapping>, Vec<IdMapping>),
    /// The empty directory at which the root is attached, in the container's mount namespace. Every user can reach it.
    pub root: PathBuf,
    /// The pod's /dev/shm.
    pub shm: PathBuf,
    /// Files such as /etc/hosts: path in the container, and on the host.
    pub files: Vec<(String, PathBuf)>,
    /// The host name that the container sees.
    pub hostname: String,
    /// Who the process is.
    pub user: User,
    /// Sources, one for each mount of the request.
    pub mounts: Vec<HostMount>,
    /// Nodes that the request asks for, by itself or by CDI.
    pub devices: Vec<HostDevice>,
    /// All nodes of the host, for a privileged container.
    pub all_devices: Vec<HostDevice>,
    /// What CDI adds.
    pub edits: Vec<cdi::Edits>,
    /// The text of the seccomp profile, where there is to be one.
    pub seccomp: Option<String>,
    /// The AppArmor profile, where there is to be one.
    pub apparmor: Option<String>,
    /// Whether SELinux is at work.
    pub has_selinux: bool,
    /// Capabilities that this daemon may give, by full names.
    pub capabilities: Vec<String>,
    /// Whether the kernel accounts for swap.
    pub has_swap: bool,
    /// Whether cgroups are those of version 2 alone.
    pub is_unified: bool,
    /// The lowest OOM score that this daemon may give.
    pub least_oom_score: i32,
    /// `linux.cgroupsPath`.
    pub cgroups_path: String,
    /// Flags of `ocirun-init`, where the pod does not say; see [`INIT`].
    pub init: String,
}

/// All that a configuration follows from.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The pod's id.
    pub pod_id: &'a str,
    /// The request.
    pub config: &'a ContainerConfig,
    /// The pod's request.
    pub pod: &'a PodSandboxConfig,
    /// The image.
    pub image: &'a ImageProcess,
    /// Capabilities where the request does not say.
    pub capabilities: &'a [String],
    /// What was gathered.
    pub facts: &'a Facts,
}

impl Input<'_> {
    fn linux(&self) -> LinuxContainerConfig {
        self.config.linux.clone().unwrap_or_default()
    }

    fn security(&self) -> LinuxContainerSecurityContext {
        self.linux().security_context.unwrap_or_default()
    }
}

/// The `config.json`.
///
/// # Errors
/// `Invalid` with the name of the field.
pub fn build(input: &Input<'_>) -> Result<Value> {
    let (security, facts) = (input.security(), input.facts);
    let privileged = security.privileged;
    let sets = if privileged {
        Sets {
            main: facts.capabilities.clone(),
            ambient: Vec::new(),
        }
    } else {
        let wanted = security.capabilities.as_ref();
        capabilities::sets(wanted, input.capabilities, &facts.capabilities)?
    };
    let limits = input.linux().resources.unwrap_or_default();
    let mut resources = resources::resources(&limits, facts.has_swap, "config.linux.resources")?;
    let nodes = if privileged {
        &facts.all_devices
    } else {
        &facts.devices
    };
    resources["devices"] = devices::rules(nodes, privileged).into();
    let mounts = mounts::mounts(&input.config.mounts, facts, privileged)?;
    let env = process::env(input)?;
    let mut spec = json!({
        "ociVersion": "1.2.0",
        "process": process(input, &sets, env.texts)?,
        "root": {"path": facts.root, "readonly": security.readonly_rootfs},
        "mounts": mounts.list,
        "annotations": annotations(input),
        "linux": {
            "namespaces": namespaces(facts, privileged),
            "cgroupsPath": facts.cgroups_path,
            "resources": resources,
            "devices": devices::nodes(nodes),
        },
    });
    if !env.bytes.is_empty() {
        spec["annotations"][BYTES] = json!(json!(env.bytes).to_string());
    }
    let score = i32::try_from(limits.oom_score_adj).unwrap_or_default();
    spec["process"]["oomScoreAdj"] = json!(score.max(facts.least_oom_score));
    if let Some(propagation) = mounts.root_propagation {
        spec["linux"]["rootfsPropagation"] = json!(propagation);
    }
    if !privileged {
        confine(&mut spec, &security, &sets, facts)?;
    }
    label(&mut spec, input)?;
    cdi::apply(&mut spec, &facts.edits);
    Ok(spec)
}

fn process(input: &Input<'_>, sets: &Sets, env: Value) -> Result<Value> {
    let user = &input.facts.user;
    Ok(json!({
        "terminal": input.config.tty,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups},
        "args": process::args(input)?,
        "env": env,
        "cwd": process::cwd(input)?,
        "capabilities": sets.json(),
        "noNewPrivileges": input.security().no_new_privs,
    }))
}

fn namespaces(facts: &Facts, privileged: bool) -> Vec<Value> {
    let pod = &facts.namespaces;
    let mut list = vec![json!({"type": "mount"})];
    for (kind, path) in [
        ("user", &pod.user),
        ("network", &pod.network),
        ("ipc", &pod.ipc),
        ("uts", &pod.uts),
    ] {
        if !path.is_empty() {
            list.push(json!({"type": kind, "path": path}));
        }
    }
    match pod.pid.as_str() {
        HOST_PID => {}
        "" => list.push(json!({"type": "pid"})),
        path => list.push(json!({"type": "pid", "path": path})),
    }
    if facts.is_unified && !privileged {
        list.push(json!({"type": "cgroup"}));
    }
    list
}

/// In the place of a path: the PID namespace of the host.
pub const HOST_PID: &str = "host";

/// What a container that is not privileged may not see, write or call.
fn confine(
    spec: &mut Value,
    security: &LinuxContainerSecurityContext,
    sets: &Sets,
    facts: &Facts,
) -> Result<()> {
    let context = "config.linux.security_context";
    for (field, key, paths) in [
        ("masked_paths", "maskedPaths", &security.masked_paths),
        ("readonly_paths", "readonlyPaths", &security.readonly_paths),
    ] {
        for (index, path) in paths.iter().enumerate() {
            if !path.starts_with('/') || path.contains('\0') {
                let field = format!("{context}.{field}[{index}]");
                return Err(invalid(field, format!("{path:?} is not an absolute path")));
            }
        }
        spec["linux"][key] = json!(paths);
    }
    if let Some(profile) = &facts.seccomp {
        spec["linux"]["seccomp"] = seccomp::resolve(profile, &sets.main)?;
    }
    if let Some(profile) = &facts.apparmor {
        spec["process"]["apparmorProfile"] = json!(profile);
    }
    Ok(())
}

/// SELinux labels, where SELinux is at work: kubelet sends them from whatever node it runs on.
fn label(spec: &mut Value, input: &Input<'_>) -> Result<()> {
    let pod = input
        .pod
        .linux
        .as_ref()
        .and_then(|l| l.security_context.as_ref());
    let pod = pod.and_then(|context| context.selinux_options.clone());
    let Some(options) = input.security().selinux_options.or(pod) else {
        return Ok(());
    };
    let SeLinuxOption {
        user,
        role,
        r#type,
        level,
    } = options;
    let is_word = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_:,.-".contains(&b))
    };
    for (field, text) in [
        ("user", &user),
        ("role", &role),
        ("type", &r#type),
        ("level", &level),
    ] {
        if !is_word(text) || (field != "level" && text.contains(':')) {
            let field = format!("config.linux.security_context.selinux_options.{field}");
            return Err(invalid(field, format!("{text:?} is not a part of a label")));
        }
    }
    if !input.facts.has_selinux {
        return Ok(());
    }
    let or = |text: &str, default: &str| {
        if text.is_empty() {
            default.to_owned()
        } else {
            text.to_owned()
        }
    };
    let (user, level) = (or(&user, "system_u"), or(&level, "s0"));
    let process = format!(
        "{user}:{}:{}:{level}",
        or(&role, "system_r"),
        or(&r#type, "container_t")
    );
    spec["process"]["selinuxLabel"] = json!(process);
    spec["linux"]["mountLabel"] = json!(format!("{user}:object_r:container_file_t:{level}"));
    Ok(())
}

/// The annotation of a pod, or of a container of it, that asks for `ocirun-init`: `true`, `false`, or flags.
pub const INIT: &str = "org.ocirun.init";

/// The annotation by which the runtime gets variables whose values are no text.
const BYTES: &str = "org.ocirun.env";

/// What hooks and agents look for, by the names that they know. Of what the pod itself is annotated with, only what it may
/// decide goes further: others mean something to the runtime.
fn annotations(input: &Input<'_>) -> Value {
    let metadata = input.pod.metadata.clone().unwrap_or_default();
    let name = input.config.metadata.clone().unwrap_or_default().name;
    let image = input.config.image.clone().unwrap_or_default();
    let image = if image.user_specified_image.is_empty() {
        image.image
    } else {
        image.user_specified_image
    };
    let own = [&input.config.annotations, &input.pod.annotations];
    let init = own.iter().find_map(|annotations| annotations.get(INIT));
    json!({
        INIT: init.unwrap_or(&input.facts.init),
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.container-name": name,
        "io.kubernetes.cri.image-name": image,
        "io.kubernetes.cri.sandbox-id": input.pod_id,
        "io.kubernetes.cri.sandbox-name": metadata.name,
        "io.kubernetes.cri.sandbox-namespace": metadata.namespace,
        "io.kubernetes.cri.sandbox-uid": metadata.uid,
    })
}

/// The modes of a pod's or container's namespaces, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    /// Network: `Pod` or `Node`.
    pub network: NamespaceMode,
    /// PID: any.
    pub pid: NamespaceMode,
    /// IPC: `Pod` or `Node`.
    pub ipc: NamespaceMode,
    /// Whether there is a user namespace of its own.
    pub user: bool,
}

/// Checks what namespaces are asked for.
///
/// # Errors
/// `Invalid` with the field's name, below `at`.
pub fn modes(options: Option<&NamespaceOption>, at: &str) -> Result<Modes> {
    use NamespaceMode::{Container, Node, Pod, Target};
    let empty = NamespaceOption::default();
    let options = options.unwrap_or(&empty);
    let mode = |value: i32, field: &str, allowed: &[NamespaceMode]| {
        let mode = NamespaceMode::try_from(value).ok();
        mode.filter(|mode| allowed.contains(mode)).ok_or_else(|| {
            let name = mode.map_or_else(|| value.to_string(), |m| m.as_str_name().to_owned());
            invalid(
                format!("{at}.{field}"),
                format!("{name} is not a mode for it"),
            )
        })
    };
    let mut modes = Modes {
        network: mode(options.network, "network", &[Pod, Node])?,
        pid: mode(options.pid, "pid", &[Pod, Container, Node, Target])?,
        ipc: mode(options.ipc, "ipc", &[Pod, Node])?,
        user: false,
    };
    if (modes.pid == Target) == options.target_id.is_empty() {
        return Err(invalid(
            format!("{at}.target_id"),
            "belongs to the PID mode TARGET and to no other",
        ));
    }
    let Some(user) = &options.userns_options else {
        return Ok(modes);
    };
    let at = format!("{at}.userns_options");
    if mode(user.mode, "userns_options.mode", &[Pod, Node])? == Node {
        if !user.uids.is_empty() || !user.gids.is_empty() {
            return Err(invalid(format!("{at}.uids"), "belong to the mode POD"));
        }
        return Ok(modes);
    }
    for (field, maps) in [("uids", &user.uids), ("gids", &user.gids)] {
        let at = format!("{at}.{field}");
        mounts::check_maps(maps, &at)?;
        match maps.as_slice() {
            [map] if map.container_id == 0 => {}
            [_] => return Err(invalid(format!("{at}[0].container_id"), "is not 0")),
            maps => {
                return Err(invalid(
                    at,
                    format!("has {} ranges, one is needed", maps.len()),
                ));
            }
        }
    }
    if user.uids != user.gids {
        return Err(invalid(format!("{at}.gids"), "differ from uids"));
    }
    modes.user = true;
    Ok(modes)
}

/// `process` for another program in a container that has this configuration, at a terminal or not.
///
/// # Errors
/// `Failed` for what is no configuration.
pub fn exec_process(config: &[u8], command: &[String], tty: bool) -> Result<Vec<u8>> {
    let bad = |error: serde_json::Error| Error::new(Kind::Failed, format!("config.json: {error}"));
    let mut config: Value = serde_json::from_slice(config).map_err(bad)?;
    let mut process = config["process"].take();
    process["args"] = json!(command);
    process["terminal"] = json!(tty);
    if let (true, Some(env)) = (tty, process["env"].as_array_mut()) {
        let has_term = |word: &Value| word.as_str().is_some_and(|word| word.starts_with("TERM="));
        if !env.iter().any(has_term) {
            env.push(json!("TERM=xterm"));
        }
    }
    serde_json::to_vec(&process).map_err(bad)
}

#[cfg(test)]
mod tests;
