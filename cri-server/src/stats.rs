//! What containers and pods use, in the interface's words.

use crate::api::{
    ContainerAttributes, ContainerState, ContainerStats, CpuUsage, FilesystemIdentifier,
    FilesystemUsage, IoUsage, LinuxPodSandboxStats, MemoryUsage, NetworkInterfaceUsage,
    NetworkUsage, PodSandboxAttributes, PodSandboxStats, ProcessUsage, PsiData, PsiStats,
    SwapUsage, UInt64Value,
};
use crate::error::Result;
use crate::images::blocking;
use crate::network::INTERFACE;
use crate::network::counters::{self, Interface};
use crate::pods::{Container, Pod, Pods};
use crate::time;
use ocirun_shim::wire::{self, StatsRequest, StatsResponse};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a shim may take to read its containers' cgroups.
const PATIENCE: Duration = Duration::from_secs(10);

/// As long a measure of all layers holds.
const FRESH: Duration = Duration::from_secs(10);

/// From here on a limit of memory is none.
const NO_LIMIT: u64 = 1 << 60;

impl Pods {
    /// What these containers use. Those that do not run are told without numbers but those of their files.
    ///
    /// # Errors
    /// Those of the shims, for a single container; in a list the others are told all the same.
    pub async fn stats(self: &Arc<Self>, wanted: &[Arc<Container>]) -> Result<Vec<ContainerStats>> {
        let mut told = HashMap::new();
        for pod in self.pods() {
            let is_wanted = |c: &&Arc<Container>| {
                c.pod.record.id == pod.record.id
                    && c.now().state == ContainerState::ContainerRunning
            };
            let ids = wanted
                .iter()
                .filter(is_wanted)
                .map(|c| c.id.clone())
                .collect::<Vec<_>>();
            if ids.is_empty() {
                continue;
            }
            let request = StatsRequest { ids };
            let Ok(shim) = pod.shim() else {
                continue;
            };
            match shim
                .call::<StatsResponse>("Stats", &request, Some(PATIENCE))
                .await
            {
                Ok(stats) => told.extend(stats.containers.into_iter().map(|c| (c.id.clone(), c))),
                Err(error) if wanted.len() == 1 => return Err(error),
                Err(error) => tracing::warn!("stats of pod {}: {error}", pod.record.id),
            }
        }
        let mut all = Vec::new();
        for container in wanted {
            let upper = self.layer_dir(&container.id).join("upper");
            let (bytes, inodes) = blocking(move || Ok(measure(&upper))).await?;
            let mut stats = shown(container, told.get(&container.id));
            stats.writable_layer = Some(FilesystemUsage {
                timestamp: time::now(),
                fs_id: Some(FilesystemIdentifier {
                    mountpoint: self
                        .live
                        .get()
                        .root
                        .join("containers")
                        .to_string_lossy()
                        .into_owned(),
                }),
                used_bytes: value(bytes),
                inodes_used: value(inodes),
            });
            all.push(stats);
        }
        Ok(all)
    }

    /// What a pod uses: the sum of its containers.
    ///
    /// # Errors
    /// As for [`Self::stats`].
    pub async fn pod_stats(self: &Arc<Self>, pod: &Pod) -> Result<PodSandboxStats> {
        let containers = self.containers_of(&pod.record.id);
        let containers = self.stats(&containers).await?;
        let timestamp = time::now();
        let sum = |of: &dyn Fn(&ContainerStats) -> Option<u64>| {
            value(containers.iter().filter_map(of).sum())
        };
        let cpu = |of: fn(&CpuUsage) -> Option<UInt64Value>| {
            sum(&move |c| c.cpu.as_ref().and_then(of).map(|v| v.value))
        };
        let memory = |of: fn(&MemoryUsage) -> Option<UInt64Value>| {
            sum(&move |c| c.memory.as_ref().and_then(of).map(|v| v.value))
        };
        let record = &pod.record;
        Ok(PodSandboxStats {
            attributes: Some(PodSandboxAttributes {
                id: record.id.clone(),
                metadata: record.config.metadata.clone(),
                labels: record.config.labels.clone(),
                annotations: record.config.annotations.clone(),
            }),
            linux: Some(LinuxPodSandboxStats {
                cpu: Some(CpuUsage {
                    timestamp,
                    usage_core_nano_seconds: cpu(|c| c.usage_core_nano_seconds),
                    usage_nano_cores: cpu(|c| c.usage_nano_cores),
                    psi: None,
                }),
                memory: Some(MemoryUsage {
                    timestamp,
                    working_set_bytes: memory(|m| m.working_set_bytes),
                    usage_bytes: memory(|m| m.usage_bytes),
                    rss_bytes: memory(|m| m.rss_bytes),
                    page_faults: memory(|m| m.page_faults),
                    major_page_faults: memory(|m| m.major_page_faults),
                    ..MemoryUsage::default()
                }),
                network: self.network_of(pod).await,
                process: Some(ProcessUsage {
                    timestamp,
                    process_count: value(processes(&self.containers_of(&record.id))),
                }),
                containers,
                io: None,
            }),
            windows: None,
        })
    }
}

impl Pods {
    /// What went through a pod's own interfaces; none on the host's network, or where it is gone.
    async fn network_of(&self, pod: &Pod) -> Option<NetworkUsage> {
        if !pod.has_network() {
            return None;
        }
        let path = self.network_path(&pod.record.id);
        let found = counters::of(vec![path]).await.pop().unwrap_or_default();
        let mut interfaces = found.iter().map(interface).collect::<Vec<_>>();
        let is_default = |one: &NetworkInterfaceUsage| one.name == INTERFACE;
        let default = interfaces.iter().position(is_default);
        Some(NetworkUsage {
            timestamp: time::now(),
            default_interface: default.map(|index| interfaces.remove(index)),
            interfaces,
        })
    }
}

fn interface(found: &Interface) -> NetworkInterfaceUsage {
    NetworkInterfaceUsage {
        name: found.name.clone(),
        rx_bytes: value(found.received.bytes),
        rx_errors: value(found.received.errors),
        tx_bytes: value(found.sent.bytes),
        tx_errors: value(found.sent.errors),
    }
}

/// First processes that run: each is one at least.
fn processes(containers: &[Arc<Container>]) -> u64 {
    containers.iter().filter(|c| c.now().pid != 0).count() as u64
}

#[expect(clippy::unnecessary_wraps, reason = "the type of the fields")]
fn value(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

fn shown(container: &Container, told: Option<&wire::ContainerStats>) -> ContainerStats {
    let record = container.now().record;
    let mut stats = ContainerStats {
        attributes: Some(ContainerAttributes {
            id: container.id.clone(),
            metadata: record.config.metadata,
            labels: record.config.labels,
            annotations: record.config.annotations,
        }),
        ..ContainerStats::default()
    };
    let Some(told) = told else {
        return stats;
    };
    let Ok(numbers) = serde_json::from_slice::<Value>(&told.stats) else {
        return stats;
    };
    let at = told.timestamp;
    let total = numbers["cpu"]["usage"]["total"].as_u64().unwrap_or(0);
    let rate = container.change(|now| {
        let rate = now.cpu_seen.and_then(|seen| rate(seen, (at, total)));
        now.cpu_seen = Some((at, total));
        rate
    });
    stats.cpu = Some(CpuUsage {
        timestamp: at,
        usage_core_nano_seconds: value(total),
        usage_nano_cores: rate.and_then(value),
        psi: psi(&numbers["cpu"]["psi"]),
    });
    stats.memory = Some(memory(&numbers["memory"], at));
    let swap = &numbers["memory"]["swap"];
    let both = swap["usage"].as_u64().unwrap_or(0);
    let used = numbers["memory"]["usage"]["usage"].as_u64().unwrap_or(0);
    stats.swap = Some(SwapUsage {
        timestamp: at,
        swap_available_bytes: None,
        // Version 1 counts both together.
        swap_usage_bytes: value(both.saturating_sub(used)),
    });
    let io = psi(&numbers["blkio"]["psi"]);
    stats.io = io.map(|psi| IoUsage {
        timestamp: at,
        psi: Some(psi),
    });
    stats
}

/// Nanoseconds of CPU time in a second, between two looks.
fn rate(before: (i64, u64), now: (i64, u64)) -> Option<u64> {
    let elapsed = u64::try_from(now.0.checked_sub(before.0)?)
        .ok()
        .filter(|e| *e > 0)?;
    let used = now.1.checked_sub(before.1)?;
    let rate = u128::from(used) * 1_000_000_000 / u128::from(elapsed);
    u64::try_from(rate).ok()
}

fn memory(numbers: &Value, timestamp: i64) -> MemoryUsage {
    let raw = |names: &[&str]| names.iter().find_map(|name| numbers["raw"][name].as_u64());
    let usage = numbers["usage"]["usage"].as_u64().unwrap_or(0);
    let inactive = raw(&["total_inactive_file", "inactive_file"]).unwrap_or(0);
    let working = usage.saturating_sub(inactive);
    let limit = numbers["usage"]["limit"]
        .as_u64()
        .filter(|limit| *limit > 0 && *limit < NO_LIMIT);
    MemoryUsage {
        timestamp,
        working_set_bytes: value(working),
        available_bytes: limit.and_then(|limit| value(limit.saturating_sub(working))),
        usage_bytes: value(usage),
        rss_bytes: raw(&["total_rss", "rss", "anon"]).and_then(value),
        page_faults: raw(&["total_pgfault", "pgfault"]).and_then(value),
        major_page_faults: raw(&["total_pgmajfault", "pgmajfault"]).and_then(value),
        psi: psi(&numbers["psi"]),
    }
}

fn psi(numbers: &Value) -> Option<PsiStats> {
    let data = |numbers: &Value| PsiData {
        total: numbers["total"].as_u64().unwrap_or(0),
        avg10: numbers["avg10"].as_f64().unwrap_or(0.0),
        avg60: numbers["avg60"].as_f64().unwrap_or(0.0),
        avg300: numbers["avg300"].as_f64().unwrap_or(0.0),
    };
    numbers.is_object().then(|| PsiStats {
        full: Some(data(&numbers["full"])),
        some: Some(data(&numbers["some"])),
    })
}

/// What all writable layers together take, as of a short while ago: to look at every file costs too much for each call.
#[derive(Debug, Default)]
pub struct Layers(Mutex<Option<(Instant, (u64, u64))>>);

impl Layers {
    /// Bytes of disk and inodes below `dir`.
    pub(crate) fn measure(&self, dir: &Path) -> (u64, u64) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *last {
            Some((at, found)) if at.elapsed() < FRESH => found,
            _ => last.insert((Instant::now(), measure(dir))).1,
        }
    }
}

/// Bytes of disk and inodes of everything below a directory, as far as it can be read.
pub(crate) fn measure(dir: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let (mut bytes, mut inodes) = (0, 0);
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else {
                continue;
            };
            inodes += 1;
            bytes += meta.blocks() * 512 / meta.nlink().max(1);
            if meta.is_dir() {
                todo.push(entry.path());
                // A directory's links are those below it.
                bytes += meta.blocks() * 512 - meta.blocks() * 512 / meta.nlink().max(1);
            }
        }
    }
    (bytes, inodes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rates() {
        assert_eq!(
            rate((0, 0), (2_000_000_000, 1_000_000_000)),
            Some(500_000_000)
        );
        assert_eq!(rate((5, 0), (5, 1)), None);
        assert_eq!(rate((0, 9), (1, 1)), None);
    }

    #[test]
    fn memory_of_both_versions() {
        let v1 = json!({"usage": {"usage": 100, "limit": 200}, "raw": {"total_inactive_file": 30, "total_rss": 50}});
        let shown = memory(&v1, 7);
        assert_eq!(shown.working_set_bytes, value(70));
        assert_eq!(shown.available_bytes, value(130));
        assert_eq!(shown.rss_bytes, value(50));
        let v2 = json!({"usage": {"usage": 10, "limit": u64::MAX}, "raw": {"inactive_file": 30, "anon": 5, "pgfault": 2}});
        let shown = memory(&v2, 7);
        assert_eq!(shown.working_set_bytes, value(0));
        assert_eq!(shown.available_bytes, None);
        assert_eq!((shown.rss_bytes, shown.page_faults), (value(5), value(2)));
    }

    #[test]
    fn disk_of_a_tree() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/b"), vec![1; 10_000]).unwrap();
        let (bytes, inodes) = measure(dir.path());
        assert!(bytes >= 10_000, "{bytes}");
        assert_eq!(inodes, 2);
    }
}
