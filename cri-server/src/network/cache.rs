//! What was added to pods, on disk: in the form and at the place of libcni, whose readers find there what they know.
//!
//! An entry is written before the first plugin runs, and removed after the last has undone its work. So whatever ends
//! the daemon or the machine, what has to be undone is known, with the configuration that it was done by.

use super::conf::Network;
use crate::error::{Context, Error, Kind, Result};
use crate::record;
use crate::server::make_dir;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// What libcni calls entries of this form.
const KIND: &str = "cniCacheV1";

/// One network of one pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    kind: String,
    /// The pod.
    pub container_id: String,
    /// The list of plugins, in base64.
    config: String,
    /// The interface in the pod.
    pub if_name: String,
    /// The network.
    pub network_name: String,
    /// Where the pod's network namespace is pinned.
    #[serde(default)]
    pub netns: String,
    /// `CNI_ARGS`, pair by pair.
    #[serde(default)]
    pub cni_args: Vec<(String, String)>,
    /// `runtimeConfig` for a plugin that takes everything.
    #[serde(default)]
    pub capability_args: Map<String, Value>,
    /// What the last plugin answered; none while they run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// State directory of the daemon that made it: ours are told by it from those of others.
    #[serde(
        default,
        rename = "ocirunState",
        skip_serializing_if = "Option::is_none"
    )]
    pub owner: Option<PathBuf>,
}

impl Entry {
    /// An entry for a pod that is about to be added.
    #[must_use]
    pub fn new(network: &Network, pod: &str, netns: &Path, interface: &str) -> Self {
        Self {
            kind: KIND.to_owned(),
            container_id: pod.to_owned(),
            config: STANDARD.encode(network.to_json()),
            if_name: interface.to_owned(),
            network_name: network.name.clone(),
            netns: netns.to_string_lossy().into_owned(),
            cni_args: Vec::new(),
            capability_args: Map::new(),
            result: None,
            owner: None,
        }
    }

    /// The network as it was when the pod was added.
    ///
    /// # Errors
    /// `Failed` for an entry that holds none.
    pub fn network(&self) -> Result<Network> {
        let bytes = STANDARD.decode(&self.config);
        let bytes = bytes.map_err(|error| Error::new(Kind::Failed, error.to_string()));
        bytes
            .and_then(|bytes| Network::parse(&bytes))
            .map_err(|error| {
                let name = format!(
                    "entry of network {:?} for {}",
                    self.network_name, self.container_id
                );
                error.at(name).as_kind(Kind::Failed)
            })
    }
}

/// The directory of all entries.
#[derive(Debug, Clone)]
pub struct Cache(PathBuf);

impl Cache {
    /// That of a cache directory such as `/var/lib/cni`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self(dir.join("results"))
    }

    /// Writes an entry.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, entry: &Entry) -> Result<()> {
        make_dir(&self.0, 0o700)?;
        record::write(&self.path(entry), entry)
    }

    /// Removes an entry.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove(&self, entry: &Entry) -> Result<()> {
        let path = self.path(entry);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done.call(|| format!("remove {path:?}")),
        }
    }

    /// All entries, whoever made them. A file that is none is said, and left to whoever made it.
    ///
    /// # Errors
    /// Those of reading the directory.
    pub fn all(&self) -> Result<Vec<Entry>> {
        self.with(|_| true)
    }

    /// The entries of a pod.
    ///
    /// # Errors
    /// As [`Self::all`].
    pub fn of(&self, pod: &str) -> Result<Vec<Entry>> {
        let mut entries = self.with(|name| name.contains(pod))?;
        entries.retain(|entry| entry.container_id == pod);
        Ok(entries)
    }

    fn with(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<Entry>> {
        let entries = match std::fs::read_dir(&self.0) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.call(|| format!("read directory {:?}", self.0))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry
                .call(|| format!("read directory {:?}", self.0))?
                .path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // What a killed daemon was writing was never an entry.
            if name.ends_with(".new") || !wanted(&name) {
                continue;
            }
            match record::read::<Entry>(&path) {
                Ok(entry) if entry.kind == KIND => found.push(entry),
                Ok(_) => {}
                Err(error) => tracing::debug!("{error}"),
            }
        }
        found.sort_by(|a, b| a.container_id.cmp(&b.container_id));
        Ok(found)
    }

    fn path(&self, entry: &Entry) -> PathBuf {
        let (network, pod) = (&entry.network_name, &entry.container_id);
        self.0.join(format!("{network}-{pod}-{}", entry.if_name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_in_libcnis_form() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        assert!(cache.all().unwrap().is_empty());
        let network = br#"{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "a"}]}"#;
        let network = Network::parse(network).unwrap();
        let mut entry = Entry::new(&network, "pod1", Path::new("/run/netns/x"), "eth0");
        entry.cni_args = vec![("K8S_POD_NAME".into(), "p".into())];
        entry.owner = Some("/run/ocirun".into());
        cache.write(&entry).unwrap();
        let path = dir.path().join("results/n-pod1-eth0");
        let json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(json["kind"], "cniCacheV1");
        assert_eq!(json["containerId"], "pod1");
        assert_eq!(json["cniArgs"][0][0], "K8S_POD_NAME");
        assert_eq!(cache.of("pod1").unwrap(), [entry.clone()]);
        assert!(cache.of("pod").unwrap().is_empty());
        assert_eq!(entry.network().unwrap(), network);
        // As libcni itself writes it, and what is none.
        let theirs = r#"{"kind": "cniCacheV1", "containerId": "c", "config": "e30=", "ifName": "eth0", "networkName": "n",
            "result": {"ips": []}}"#;
        std::fs::write(dir.path().join("results/n-c-eth0"), theirs).unwrap();
        std::fs::write(dir.path().join("results/x"), "{").unwrap();
        let all = cache.all().unwrap();
        assert_eq!(all.len(), 2);
        assert!(all[0].owner.is_none() && all[0].network().is_err());
        cache.remove(&entry).unwrap();
        cache.remove(&entry).unwrap();
        assert!(!path.exists());
    }
}
