//! What is done for networks besides pods' beginnings and ends: what nobody else undoes any more, and what plugins are
//! told to clear away.

use super::cache::Entry;
use super::conf::{Network, Version};
use super::{Networks, bare_config, named, plugin_config};
use crate::error::Result;
use crate::images::blocking;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The shortest and the longest pause between two sweeps.
const PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

impl Networks {
    /// Sweeps at once, and again for as long as the program runs. Pods that were taken over have to be known before.
    pub async fn tend(self: Arc<Self>) {
        let mut pause = PAUSES.0;
        let is_swept = self.sweep().await;
        self.check().await;
        if is_swept {
            self.collect().await;
        }
        loop {
            tokio::time::sleep(pause).await;
            pause = if self.sweep().await {
                PAUSES.0
            } else {
                (pause * 2).min(PAUSES.1)
            };
        }
    }

    /// Undoes entries of this daemon whose pods nobody knows. Returns whether none is left.
    async fn sweep(&self) -> bool {
        let entries = match self.entries().await {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!("networks: {error}");
                return false;
            }
        };
        let state = self.live.get().state.clone();
        let mut is_swept = true;
        for entry in entries {
            let is_ours = entry.owner.as_ref() == Some(&state);
            if !is_ours || self.known().contains(&entry.container_id) {
                continue;
            }
            let netns = entry.netns.clone();
            match self.undo(&entry, Some(Path::new(&netns))).await {
                Ok(()) => {
                    tracing::info!("networks: what pod {} left is undone", entry.container_id);
                }
                Err(error) => {
                    is_swept = false;
                    tracing::warn!("networks: what pod {} left: {error}", entry.container_id);
                }
            }
        }
        is_swept
    }

    async fn entries(&self) -> Result<Vec<Entry>> {
        let cache = self.cache();
        blocking(move || cache.all()).await
    }

    /// Says which pods of an earlier daemon are not as the plugins left them.
    async fn check(&self) {
        for entry in self.entries().await.unwrap_or_default() {
            let is_ours = entry.owner.as_ref() == Some(&self.live.get().state);
            if !is_ours || !self.known().contains(&entry.container_id) || entry.result.is_none() {
                continue;
            }
            let Ok(network) = entry.network() else {
                continue;
            };
            if network.version < Version::CHECK || network.disable_check {
                continue;
            }
            for plugin in &network.plugins {
                let config = plugin_config(&network, plugin, &entry, entry.result.as_ref());
                if let Err(error) = self.call("CHECK", &network, plugin, &entry, &config).await {
                    let error = named(&network, plugin, "CHECK", error);
                    tracing::warn!("pod {}: {error}", entry.container_id);
                    break;
                }
            }
        }
    }

    /// Tells the plugins of the network what is in use, so that they clear away the rest. All that is on record counts,
    /// whoever made it: others may use the same network.
    async fn collect(&self) {
        let Ok(Some(network)) = self.configured() else {
            return;
        };
        if network.version < Version::STATUS || network.disable_gc {
            return;
        }
        let Ok(mut entries) = self.entries().await else {
            return;
        };
        entries.retain(|entry| entry.network_name == network.name);
        for plugin in &network.plugins {
            let done = self.collect_plugin(&network, plugin, &entries).await;
            if let Err(error) = done {
                tracing::warn!("{}", named(&network, plugin, "GC", error));
            }
        }
    }

    async fn collect_plugin(
        &self,
        network: &Network,
        plugin: &super::Plugin,
        valid: &[Entry],
    ) -> Result<()> {
        let valid = valid
            .iter()
            .map(|entry| json!({"containerID": entry.container_id, "ifname": entry.if_name}));
        let mut config = bare_config(network, plugin);
        config["cni.dev/valid-attachments"] = valid.collect();
        // Older ones of the same name.
        config["cni.dev/attachments"] = config["cni.dev/valid-attachments"].clone();
        self.program("GC", plugin)?.run(&config).await.map(drop)
    }
}
