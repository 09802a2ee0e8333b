//! The configuration: one TOML file and drop-ins, read at start and again on SIGHUP.
//!
//! Files are merged in order of their names: tables key by key, anything else as a whole. What is not known is an error,
//! so that a misspelt key is not a silent default.

use crate::error::{Context, Error, Kind, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "/etc/ocirun/cri.toml";

/// The defaults with their comments, as `ocirun-cri config default` prints them. They are read before any file.
pub const DEFAULT: &str = include_str!("config.toml");

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupDriver {
    /// systemd where it runs, otherwise `cgroupfs`.
    Auto,
    /// The runtime, in the cgroup file systems.
    Cgroupfs,
    /// systemd, by its bus.
    Systemd,
}

impl CgroupDriver {
    /// What `Auto` stands for on this machine.
    #[must_use]
    pub fn resolved(self) -> Self {
        match self {
            Self::Auto if Path::new("/run/systemd/system").is_dir() => Self::Systemd,
            Self::Auto => Self::Cgroupfs,
            other => other,
        }
    }
}

/// The configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Path of the socket.
    pub listen: PathBuf,
    /// What outlives a boot: images, and the writable layers of containers.
    pub root: PathBuf,
    /// What does not: records of pods and containers, their namespaces and sockets.
    pub state: PathBuf,
    /// Where network namespaces of pods are pinned.
    pub netns_dir: PathBuf,
    /// Path of `ocirun-shim`; found beside this program or in PATH when empty.
    pub shim: PathBuf,
    /// Address and port of the metrics; empty for none.
    pub metrics_listen: String,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: String,
    /// See [`CgroupDriver`].
    pub cgroup_driver: CgroupDriver,
    /// Told to kubeadm, and never removed by kubelet. No pod needs it here.
    pub sandbox_image: String,
    /// References of images that kubelet never removes.
    pub pinned_images: Vec<String>,
    /// What containers get.
    pub container: Container,
    /// How pods get their network.
    pub network: Network,
    /// Where clients of Exec, Attach and PortForward come to.
    pub streaming: Streaming,
    /// What pods get whose request names one of these.
    pub handlers: BTreeMap<String, Handler>,
    /// How registries are spoken to.
    pub registry: Registry,
}

/// What containers get whose pod has this handler.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handler {
    /// In the place of [`Container::init`].
    pub init: Option<String>,
}

/// What containers get where their pod does not say.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Capabilities, with or without `CAP_`.
    pub capabilities: Vec<String>,
    /// A profile in the place of the built-in one for `RuntimeDefault`; empty for the built-in one.
    pub seccomp_profile: PathBuf,
    /// The AppArmor profile of containers that name none; empty for none. All but [`crate::apparmor::OWN`] must be loaded.
    pub apparmor_profile: String,
    /// Bytes after which a line of a log is split.
    pub log_line_bytes: u32,
    /// Directories of CDI specifications.
    pub cdi_dirs: Vec<PathBuf>,
    /// Bytes of a pod's /dev/shm.
    pub shm_bytes: u64,
    /// Whether `ocirun-init` is the first process, and its flags: the value of the annotation `org.ocirun.init`.
    pub init: String,
}

/// How pods get their network.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Directory of the networks' configurations; empty for pods with their loopback device alone.
    pub conf_dir: PathBuf,
    /// Directories of plugins.
    pub bin_dirs: Vec<PathBuf>,
    /// Where it is kept what was added to pods: it has to outlive a boot.
    pub cache_dir: PathBuf,
    /// Seconds that one plugin may take.
    pub plugin_seconds: u64,
    /// What a configuration is made from when kubelet tells the pods' addresses; empty for none.
    pub template: PathBuf,
}

/// Where clients of Exec, Attach and PortForward come to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Streaming {
    /// Address and port; port 0 for any that is free.
    pub listen: std::net::SocketAddr,
    /// File with the chain of certificates; empty for no TLS.
    pub tls_certificate: PathBuf,
    /// File with the key.
    pub tls_key: PathBuf,
    /// Seconds without a byte after which a session ends.
    pub idle_seconds: u64,
}

/// How registries are spoken to.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// Directories with one directory a host and a `hosts.toml` in it.
    pub hosts_dirs: Vec<PathBuf>,
    /// The file in the form of containers-registries.conf(5).
    pub registries_conf: PathBuf,
    /// Files of credentials in docker's form, for images that are pulled without any.
    pub credentials: Vec<PathBuf>,
    /// Layers of one image that are worked on at once.
    pub parallel_layers: usize,
    /// Whether compressed layers are kept.
    pub keep_blobs: bool,
    /// Seconds in which at least 20 KiB have to come.
    pub stall_seconds: u64,
}

impl Config {
    /// Reads the defaults, the file and its drop-ins: `cri.toml` and `cri.d/*.toml`. A file that is not there is one
    /// without content, unless it was `named`.
    pub fn load(file: &Path, named: Named) -> Result<Self> {
        let mut merged = parse(DEFAULT, Path::new("defaults"))?;
        for path in files(file, named)? {
            let text = std::fs::read_to_string(&path).call(|| format!("read {path:?}"))?;
            // A file with a mistake is named, not the sum of all.
            let table = parse(&text, &path)?;
            merge(&mut merged, table);
            merged
                .clone()
                .try_into::<Self>()
                .map_err(|error| bad(&path, &error))?;
        }
        let config: Self = merged
            .try_into()
            .map_err(|error| bad(Path::new("defaults"), &error))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let wrong = |key: &str, text: &str| {
            Err(Error::new(
                Kind::Invalid,
                format!("configuration: {key}: {text}"),
            ))
        };
        for (key, path) in [
            ("listen", &self.listen),
            ("root", &self.root),
            ("state", &self.state),
            ("netns_dir", &self.netns_dir),
            ("network.cache_dir", &self.network.cache_dir),
        ] {
            if !path.is_absolute() {
                return wrong(key, "is not an absolute path");
            }
        }
        if !self.metrics_listen.is_empty() && self.metrics_address().is_none() {
            return wrong("metrics_listen", "is not an address with a port");
        }
        if !["error", "warn", "info", "debug", "trace"].contains(&&*self.log_level) {
            return wrong("log_level", "is not error, warn, info, debug or trace");
        }
        if self.network.plugin_seconds == 0 {
            return wrong("network.plugin_seconds", "is zero");
        }
        if self.streaming.idle_seconds == 0 {
            return wrong("streaming.idle_seconds", "is zero");
        }
        if self.registry.parallel_layers == 0 {
            return wrong("registry.parallel_layers", "is zero");
        }
        if !(256..=1 << 20).contains(&self.container.log_line_bytes) {
            return wrong("container.log_line_bytes", "is not between 256 and 1048576");
        }
        Ok(())
    }

    /// Where metrics are served.
    #[must_use]
    pub fn metrics_address(&self) -> Option<std::net::SocketAddr> {
        self.metrics_listen.parse().ok()
    }

    /// The flags of `ocirun-init` for containers of pods with this handler, where the pod does not say.
    #[must_use]
    pub fn init(&self, handler: &str) -> &str {
        let handler = self.handlers.get(handler);
        handler
            .and_then(|handler| handler.init.as_deref())
            .unwrap_or(&self.container.init)
    }

    /// The keys that differ from `running` and take effect at the next start only.
    #[must_use]
    pub fn needs_restart(&self, running: &Self) -> Vec<&'static str> {
        let changed = [
            ("listen", self.listen != running.listen),
            ("root", self.root != running.root),
            ("state", self.state != running.state),
            ("netns_dir", self.netns_dir != running.netns_dir),
            (
                "metrics_listen",
                self.metrics_listen != running.metrics_listen,
            ),
            (
                "streaming.listen and TLS",
                (self.streaming.listen, &self.streaming.tls_certificate)
                    != (running.streaming.listen, &running.streaming.tls_certificate)
                    || self.streaming.tls_key != running.streaming.tls_key,
            ),
            (
                "cgroup_driver",
                self.cgroup_driver.resolved() != running.cgroup_driver.resolved(),
            ),
        ];
        changed
            .into_iter()
            .filter_map(|(key, is_changed)| is_changed.then_some(key))
            .collect()
    }
}

/// Whether somebody asked for this very file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// It has to be there.
    Yes,
    /// It may be absent.
    No,
}

fn bad(path: &Path, error: &toml::de::Error) -> Error {
    let text = error.to_string();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Error::new(Kind::Invalid, format!("{}: {text}", path.display()))
}

fn parse(text: &str, path: &Path) -> Result<Table> {
    text.parse::<Table>().map_err(|error| bad(path, &error))
}

/// The file, then the drop-ins in order of their names.
fn files(file: &Path, named: Named) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if file.exists() || named == Named::Yes {
        found.push(file.to_owned());
    }
    let dir = file.with_extension("d");
    let entries = match std::fs::read_dir(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => entries.call(|| format!("read directory {dir:?}"))?,
    };
    let mut drop_ins = Vec::new();
    for entry in entries {
        let path = entry.call(|| format!("read directory {dir:?}"))?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            drop_ins.push(path);
        }
    }
    drop_ins.sort();
    found.append(&mut drop_ins);
    Ok(found)
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, text: &str) {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("cri-config-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn defaults_hold_without_a_file() {
        let config = Config::load(Path::new("/nonexistent/cri.toml"), Named::No).unwrap();
        assert_eq!(config.state, Path::new("/run/ocirun"));
        assert!(Config::load(Path::new("/nonexistent/cri.toml"), Named::Yes).is_err());
    }

    #[test]
    fn drop_ins_are_merged_in_order_and_key_by_key() {
        let dir = scratch("merge");
        write(
            &dir,
            "cri.toml",
            "log_level = \"warn\"\n[registry]\nstall_seconds = 7\nparallel_layers = 9",
        );
        write(&dir, "cri.d/20-b.toml", "[registry]\nparallel_layers = 5");
        write(
            &dir,
            "cri.d/10-a.toml",
            "[registry]\nparallel_layers = 4\n[container]\nshm_bytes = 1",
        );
        write(&dir, "cri.d/ignored.conf", "nonsense");
        let config = Config::load(&dir.join("cri.toml"), Named::Yes).unwrap();
        assert_eq!(config.log_level, "warn");
        assert_eq!(config.registry.stall_seconds, 7);
        assert_eq!(config.registry.parallel_layers, 5);
        assert_eq!(config.container.shm_bytes, 1);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn mistakes_name_file_and_key() {
        let dir = scratch("mistakes");
        for (text, words) in [
            ("listn = \"/x\"", "unknown field `listn`"),
            ("log_level = 3", "invalid type"),
            ("log_level = \"loud\"", "log_level: is not error, warn"),
            ("state = \"run\"", "state: is not an absolute path"),
            (
                "metrics_listen = \"x\"",
                "metrics_listen: is not an address",
            ),
            (
                "[registry]\nparallel_layers = 0",
                "registry.parallel_layers: is zero",
            ),
            (
                "[network]\nplugin_seconds = 0",
                "network.plugin_seconds: is zero",
            ),
            (
                "[container]\nlog_line_bytes = 1",
                "container.log_line_bytes",
            ),
            ("cgroup_driver = \"other\"", "unknown variant `other`"),
            ("= 1", "cri.toml"),
        ] {
            write(&dir, "cri.toml", text);
            let error = Config::load(&dir.join("cri.toml"), Named::Yes).unwrap_err();
            assert!(error.to_string().contains(words), "{text}: {error}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn handlers_go_before_the_node() {
        let dir = scratch("handlers");
        let text =
            "[container]\ninit = \"-g\"\n[handlers.plain]\n[handlers.none]\ninit = \"false\"";
        write(&dir, "cri.toml", text);
        let config = Config::load(&dir.join("cri.toml"), Named::Yes).unwrap();
        let inits = ["", "plain", "none"].map(|handler| config.init(handler).to_owned());
        assert_eq!(inits, ["-g", "-g", "false"]);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn some_keys_wait_for_a_restart() {
        let running = Config::load(Path::new("/nonexistent/cri.toml"), Named::No).unwrap();
        let mut new = running.clone();
        new.log_level = "debug".to_owned();
        assert!(new.needs_restart(&running).is_empty());
        new.root = "/elsewhere".into();
        assert_eq!(new.needs_restart(&running), ["root"]);
    }
}
