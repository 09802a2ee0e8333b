//! Networks of pods, by plugins of the Container Network Interface, as its specification says: versions 0.3 to 1.1.
//!
//! ```text
//!  RunPodSandbox ── entry written ── ADD of each plugin, with the result of the one before ── entry with the result
//!  StopPodSandbox ─ DEL of each plugin, the last first, past errors ── entry removed, if all went well
//! ```
//! An entry ([`cache`]) is the one thing that says what has to be undone. One whose pod nobody knows any more, as after
//! a killed daemon or a start of the machine, is undone from time to time until that succeeds.

pub mod answer;
pub mod arguments;
pub mod cache;
pub mod conf;
pub mod counters;
pub mod plugin;
pub mod ports;
mod template;
mod tend;

use crate::api::PodSandboxConfig;
use crate::config;
use crate::error::{Error, Kind, Result};
use crate::images::blocking;
use crate::live::Live;
use cache::{Cache, Entry};
use conf::{Network, Plugin, Version};
use plugin::Call;
use ports::Ports;
use rustix::fs::Access;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The interface in every pod.
pub const INTERFACE: &str = "eth0";
/// How long the plugins may take to say whether they are ready: kubeadm waits for two seconds for everything.
const READY: Duration = Duration::from_millis(1500);

/// The networks of this machine.
#[derive(Debug)]
pub struct Networks {
    live: Arc<Live>,
    ports: Ports,
    /// Pods that somebody knows: their entries are not to be swept.
    known: Mutex<HashSet<String>>,
}

impl Networks {
    /// None yet.
    #[must_use]
    pub fn new(live: Arc<Live>) -> Self {
        Self {
            live,
            ports: Ports::default(),
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache(&self) -> Cache {
        Cache::new(&self.live.get().network.cache_dir)
    }

    /// The configuration in force; none where pods are to have their loopback device alone.
    ///
    /// # Errors
    /// As [`conf::first`].
    pub fn configured(&self) -> Result<Option<Network>> {
        let config = self.live.get();
        if config.network.conf_dir.as_os_str().is_empty() {
            return Ok(None);
        }
        conf::first(&config.network.conf_dir).map(Some)
    }

    /// Adds a pod to the network, and returns its addresses. If that fails, what was done is undone.
    ///
    /// # Errors
    /// `Invalid` and `AlreadyExists` with a field's name, before anything is done; `Unavailable` where no network is
    /// configured; otherwise what the plugins said.
    pub async fn attach(
        &self,
        pod: &str,
        config: &PodSandboxConfig,
        netns: &Path,
    ) -> Result<Vec<IpAddr>> {
        let args = arguments::args(config, pod)?;
        let capabilities = arguments::capabilities(config)?;
        let ports = arguments::host_ports(config)?;
        let Some(network) = self.configured().map_err(|error| error.at("network"))? else {
            return Ok(Vec::new());
        };
        if !ports.is_empty() && !network.takes("portMappings") {
            // Some serve ports of the host in other ways.
            tracing::warn!(
                "pod {pod}: network {:?} is not told of its host ports",
                network.name
            );
        }
        self.ports.take(pod, ports)?;
        let mut entry = Entry::new(&network, pod, netns, INTERFACE);
        entry.cni_args = args;
        entry.capability_args = capabilities;
        entry.owner = Some(self.live.get().state.clone());
        self.known().insert(pod.to_owned());
        match self.add(&network, &mut entry).await {
            Ok(addresses) => Ok(addresses),
            Err(error) => {
                if let Err(left) = self.undo(&entry, Some(netns)).await {
                    tracing::warn!("pod {pod}: {left}; it is tried again");
                }
                self.forget(pod);
                Err(error)
            }
        }
    }

    async fn add(&self, network: &Network, entry: &mut Entry) -> Result<Vec<IpAddr>> {
        self.write(entry).await?;
        let mut result = None;
        for plugin in &network.plugins {
            let config = plugin_config(network, plugin, entry, result.as_ref());
            let output = self.call("ADD", network, plugin, entry, &config);
            let answered = output
                .await
                .and_then(|output| answer::result(&output, network.version));
            result = Some(answered.map_err(|error| named(network, plugin, "ADD", error))?);
        }
        let addresses = result
            .as_ref()
            .map(|result| answer::addresses(result, &entry.if_name));
        entry.result = result;
        self.write(entry).await?;
        addresses.unwrap_or_else(|| Ok(Vec::new()))
    }

    async fn write(&self, entry: &Entry) -> Result<()> {
        let (cache, entry) = (self.cache(), entry.clone());
        blocking(move || cache.write(&entry)).await
    }

    /// Takes a pod from its networks; one that is in none is no error. Its ports are free then.
    ///
    /// # Errors
    /// All that failed. What is left to be done is known, and a later call goes on with it.
    pub async fn detach(&self, pod: &str, netns: &Path) -> Result<()> {
        let (cache, id) = (self.cache(), pod.to_owned());
        let mut failed = Vec::new();
        for entry in blocking(move || cache.of(&id)).await? {
            if let Err(error) = self.undo(&entry, Some(netns)).await {
                failed.push(error);
            }
        }
        if let Some(error) = together(failed) {
            return Err(error);
        }
        self.ports.give_back(pod);
        Ok(())
    }

    /// A pod that is gone: what it may have left is swept.
    pub fn forget(&self, pod: &str) {
        self.ports.give_back(pod);
        self.known().remove(pod);
    }

    /// Takes over a pod that was made by an earlier daemon, and returns its addresses.
    ///
    /// # Errors
    /// Those of reading the entries.
    pub fn recover(&self, pod: &str, config: &PodSandboxConfig) -> Result<Vec<IpAddr>> {
        self.known().insert(pod.to_owned());
        let entries = self.cache().of(pod)?;
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        self.ports.take(pod, arguments::host_ports(config)?)?;
        let mut all = Vec::new();
        for entry in entries {
            if let Some(result) = &entry.result {
                all.extend(answer::addresses(result, &entry.if_name)?);
            }
        }
        Ok(all)
    }

    /// Undoes one entry: the plugins in reverse, past errors. A namespace that is not there any more is not named.
    async fn undo(&self, entry: &Entry, netns: Option<&Path>) -> Result<()> {
        let network = entry.network()?;
        let mut entry = entry.clone();
        let is_there = netns.is_some_and(Path::exists);
        if !is_there {
            entry.netns = String::new();
        }
        let mut failed = Vec::new();
        for plugin in network.plugins.iter().rev() {
            let before = entry
                .result
                .as_ref()
                .filter(|_| network.version >= Version::CHECK);
            let config = plugin_config(&network, plugin, &entry, before);
            if let Err(error) = self.call("DEL", &network, plugin, &entry, &config).await {
                failed.push(named(&network, plugin, "DEL", error));
            }
        }
        if let Some(error) = together(failed) {
            return Err(error);
        }
        let cache = self.cache();
        blocking(move || cache.remove(&entry)).await
    }

    /// Executes one plugin.
    async fn call(
        &self,
        command: &'static str,
        network: &Network,
        plugin: &Plugin,
        entry: &Entry,
        config: &Value,
    ) -> Result<Vec<u8>> {
        let pairs = entry
            .cni_args
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let mut call = self.program(command, plugin)?;
        call.variables.extend([
            ("CNI_CONTAINERID", entry.container_id.clone()),
            ("CNI_NETNS", entry.netns.clone()),
            ("CNI_IFNAME", entry.if_name.clone()),
            ("CNI_ARGS", pairs.collect::<Vec<_>>().join(";")),
        ]);
        tracing::debug!(
            "network {:?}: {command} of {}",
            network.name,
            entry.container_id
        );
        call.run(config).await
    }

    /// A call of a plugin without variables of its own.
    fn program(&self, command: &'static str, plugin: &Plugin) -> Result<Call> {
        let config = self.live.get();
        let config::Network { bin_dirs, .. } = &config.network;
        let places = bin_dirs.iter().map(|dir| dir.join(&plugin.program));
        let is_program = |file: &PathBuf| rustix::fs::access(file, Access::EXEC_OK).is_ok();
        let found = places.into_iter().find(is_program).ok_or_else(|| {
            let dirs = bin_dirs.iter().map(|dir| dir.display().to_string());
            let dirs = dirs.collect::<Vec<_>>().join(", ");
            Error::new(Kind::Unavailable, format!("its program is not in {dirs}"))
        })?;
        Ok(Call {
            program: found,
            command,
            variables: vec![("CNI_PATH", joined(bin_dirs))],
            limit: Duration::from_secs(config.network.plugin_seconds),
        })
    }

    /// Whether pods can be added.
    ///
    /// # Errors
    /// Why not.
    pub async fn ready(&self) -> Result<()> {
        let Some(network) = self.configured()? else {
            return Ok(());
        };
        for plugin in &network.plugins {
            let status = self.status(&network, plugin);
            status
                .await
                .map_err(|error| named(&network, plugin, "STATUS", error))?;
        }
        Ok(())
    }

    async fn status(&self, network: &Network, plugin: &Plugin) -> Result<()> {
        let mut call = self.program("STATUS", plugin)?;
        if network.version < Version::STATUS {
            return Ok(());
        }
        call.limit = call.limit.min(READY);
        let config = bare_config(network, plugin);
        call.run(&config).await.map(drop)
    }
}

fn joined(dirs: &[PathBuf]) -> String {
    let dirs = dirs.iter().map(|dir| dir.to_string_lossy());
    dirs.collect::<Vec<_>>().join(":")
}

/// The configuration of a plugin by itself.
fn bare_config(network: &Network, plugin: &Plugin) -> Value {
    let mut config = plugin.config.clone();
    config.insert("cniVersion".to_owned(), network.version.text().into());
    config.insert("name".to_owned(), network.name.clone().into());
    config.into()
}

/// The configuration of a plugin for a pod.
fn plugin_config(
    network: &Network,
    plugin: &Plugin,
    entry: &Entry,
    previous: Option<&Value>,
) -> Value {
    let mut config = bare_config(network, plugin);
    let given = entry.capability_args.iter();
    let given = given.filter(|(name, _)| plugin.capabilities.contains(name));
    let given = given.map(|(name, value)| (name.clone(), value.clone()));
    let given = given.collect::<serde_json::Map<_, _>>();
    if !given.is_empty() {
        config["runtimeConfig"] = given.into();
    }
    if let Some(previous) = previous {
        config["prevResult"] = previous.clone();
    }
    config
}

/// An error with the network, the plugin and the verb in front.
fn named(network: &Network, plugin: &Plugin, command: &str, error: Error) -> Error {
    error.at(format!(
        "network {:?}: {} {command}",
        network.name, plugin.program
    ))
}

/// All errors as one.
fn together(mut errors: Vec<Error>) -> Option<Error> {
    if errors.len() <= 1 {
        return errors.pop();
    }
    let text = errors.iter().map(ToString::to_string);
    Some(Error::new(
        Kind::Failed,
        text.collect::<Vec<_>>().join("; "),
    ))
}

/// What people see of the networks.
#[must_use]
pub fn shown(networks: &Networks) -> Value {
    match networks.configured() {
        Ok(None) => Value::Null,
        Ok(Some(network)) => serde_json::from_slice(&network.to_json()).unwrap_or_default(),
        Err(error) => json!({"error": error.to_string()}),
    }
}
