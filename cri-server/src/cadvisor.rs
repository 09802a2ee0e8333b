//! Metrics of pods and containers under the names that cAdvisor made known, for a kubelet that takes them from here.
//!
//! Numbers are whole: what is counted in seconds is cut to them. What a machine does not count (pressure on version 1 of
//! cgroups, huge pages where there are none) has a description and no value.

mod read;
mod table;

use crate::api::{
    ContainerMetrics, ContainerState, LinuxContainerResources, Metric, MetricDescriptor,
    PodSandboxMetrics, UInt64Value,
};
use crate::error::Result;
use crate::images::blocking;
use crate::network::counters::{self, Interface};
use crate::pods::{Container, Pod, Pods};
use crate::time;
use ocirun_shim::wire::{StatsRequest, StatsResponse};
use read::Processes;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use table::{LABELS, TABLE};

/// How long a shim may take to read its containers' cgroups.
const PATIENCE: Duration = Duration::from_secs(10);
/// From here on a limit of memory is none.
const NO_LIMIT: u64 = 1 << 60;
const SECOND: u64 = 1_000_000_000;

/// What there is.
#[must_use]
pub fn descriptors() -> Vec<MetricDescriptor> {
    let described = TABLE
        .iter()
        .map(|(name, _, labels, help)| MetricDescriptor {
            name: (*name).to_owned(),
            help: (*help).to_owned(),
            label_keys: LABELS
                .iter()
                .chain(*labels)
                .map(|key| (*key).to_owned())
                .collect(),
        });
    described.collect()
}

/// Metrics that are being gathered.
#[derive(Debug)]
struct Gathered {
    labels: Vec<String>,
    at: i64,
    metrics: Vec<Metric>,
}

impl Gathered {
    fn new(labels: [&str; 6]) -> Self {
        Self {
            labels: labels.map(str::to_owned).into(),
            at: time::now(),
            metrics: Vec::new(),
        }
    }

    /// Adds a number by its name in the table, with the values of its further labels.
    fn add(&mut self, name: &str, further: &[&str], value: u64) {
        let row = TABLE.iter().find(|(known, ..)| *known == name);
        let Some((_, kind, ..)) = row.filter(|(_, _, keys, _)| keys.len() == further.len()) else {
            debug_assert!(false, "{name} is not in the table");
            return;
        };
        let further = further.iter().map(|value| (*value).to_owned());
        self.metrics.push(Metric {
            name: name.to_owned(),
            timestamp: self.at,
            metric_type: (*kind).into(),
            label_values: self.labels.iter().cloned().chain(further).collect(),
            value: Some(UInt64Value { value }),
        });
    }

    fn add_if(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.add(name, &[], value);
        }
    }
}

impl Pods {
    /// The metrics of all pods that were not stopped.
    ///
    /// # Errors
    /// None but those of the executor: what cannot be read is left out.
    pub async fn pod_metrics(self: &Arc<Self>) -> Result<Vec<PodSandboxMetrics>> {
        let mut pods = self.pods();
        pods.retain(|pod| !pod.now().is_stopped);
        let own = pods.iter().filter(|pod| pod.has_network());
        let paths = own.map(|pod| self.network_path(&pod.record.id)).collect();
        let mut networks = counters::of(paths).await.into_iter();
        let mut all = Vec::new();
        for pod in pods {
            let interfaces = if pod.has_network() {
                networks.next()
            } else {
                None
            };
            all.push(PodSandboxMetrics {
                pod_sandbox_id: pod.record.id.clone(),
                metrics: of_network(&pod, &interfaces.unwrap_or_default()),
                container_metrics: self.container_metrics(&pod).await?,
            });
        }
        Ok(all)
    }

    async fn container_metrics(self: &Arc<Self>, pod: &Pod) -> Result<Vec<ContainerMetrics>> {
        let mut containers = self.containers_of(&pod.record.id);
        containers.retain(|c| c.now().state == ContainerState::ContainerRunning);
        let mut numbers = HashMap::new();
        if let (Ok(shim), false) = (pod.shim(), containers.is_empty()) {
            let ids = containers.iter().map(|c| c.id.clone()).collect();
            let request = StatsRequest { ids };
            let told = shim.call::<StatsResponse>("Stats", &request, Some(PATIENCE));
            match told.await {
                Ok(told) => numbers.extend(told.containers.into_iter().map(|c| (c.id, c.stats))),
                Err(error) => tracing::warn!("metrics of pod {}: {error}", pod.record.id),
            }
        }
        let mut all = Vec::new();
        for container in containers {
            let stats = numbers.remove(&container.id).unwrap_or_default();
            let layer = self.layer_dir(&container.id);
            let container_id = container.id.clone();
            let metrics = blocking(move || {
                let stats = serde_json::from_slice(&stats).unwrap_or_default();
                let files = read::files(&layer);
                let processes = read::processes(container.now().pid);
                Ok(of_container(&container, &stats, files, &processes))
            });
            all.push(ContainerMetrics {
                container_id,
                metrics: metrics.await?,
            });
        }
        Ok(all)
    }
}

fn of_network(pod: &Pod, interfaces: &[Interface]) -> Vec<Metric> {
    let metadata = pod.record.config.metadata.clone().unwrap_or_default();
    let (id, name) = (&pod.record.id, &metadata.name);
    let mut all = Gathered::new(["", id, "", name, &metadata.namespace, name]);
    for interface in interfaces {
        for (way, counters) in [
            ("receive", interface.received),
            ("transmit", interface.sent),
        ] {
            for (what, value) in [
                ("bytes", counters.bytes),
                ("errors", counters.errors),
                ("packets_dropped", counters.dropped),
                ("packets", counters.packets),
            ] {
                let name = format!("container_network_{way}_{what}_total");
                all.add(&name, &[&interface.name], value);
            }
        }
    }
    all.metrics
}

fn of_container(
    container: &Container,
    stats: &Value,
    files: read::Files,
    processes: &Processes,
) -> Vec<Metric> {
    let now = container.now();
    let pod = container
        .pod
        .record
        .config
        .metadata
        .clone()
        .unwrap_or_default();
    let own = now.record.config.metadata.clone().unwrap_or_default();
    let (name, image) = (&own.name, &now.record.image);
    let labels = [name, &container.id, image, name, &pod.namespace, &pod.name];
    let mut all = Gathered::new(labels.map(String::as_str));
    let seconds = |nanoseconds: i64| u64::try_from(nanoseconds).unwrap_or(0) / SECOND;
    all.add("container_last_seen", &[], seconds(all.at));
    all.add("container_start_time_seconds", &[], seconds(now.started_at));
    of_cpu(&mut all, &stats["cpu"]);
    of_memory(&mut all, &stats["memory"]);
    of_devices(&mut all, stats);
    of_pressure(&mut all, stats);
    for (name, value) in [
        ("container_fs_inodes_free", files.inodes_free),
        ("container_fs_inodes_total", files.inodes),
        ("container_fs_limit_bytes", files.bytes),
        ("container_fs_usage_bytes", files.used),
    ] {
        all.add(name, &[""], value);
    }
    all.add(
        "container_threads",
        &[],
        stats["pids"]["current"].as_u64().unwrap_or(0),
    );
    let limit = stats["pids"]["limit"]
        .as_u64()
        .filter(|limit| *limit < NO_LIMIT);
    all.add("container_threads_max", &[], limit.unwrap_or(0));
    all.add("container_processes", &[], processes.count);
    all.add("container_file_descriptors", &[], processes.descriptors);
    all.add("container_sockets", &[], processes.sockets);
    all.add("container_oom_events_total", &[], processes.oom_kills);
    if let Some(limit) = processes.open_files {
        all.add("container_ulimits_soft", &["max_open_files"], limit);
    }
    let linux = now.record.config.linux.and_then(|linux| linux.resources);
    of_limits(&mut all, &linux.unwrap_or_default());
    all.metrics
}

fn of_cpu(all: &mut Gathered, cpu: &Value) {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let (usage, throttling) = (&cpu["usage"], &cpu["throttling"]);
    all.add(
        "container_cpu_usage_seconds_total",
        &["total"],
        number(&usage["total"]) / SECOND,
    );
    all.add(
        "container_cpu_user_seconds_total",
        &[],
        number(&usage["user"]) / SECOND,
    );
    all.add(
        "container_cpu_system_seconds_total",
        &[],
        number(&usage["kernel"]) / SECOND,
    );
    all.add(
        "container_cpu_cfs_periods_total",
        &[],
        number(&throttling["periods"]),
    );
    let throttled = number(&throttling["throttledPeriods"]);
    all.add("container_cpu_cfs_throttled_periods_total", &[], throttled);
    let waited = number(&throttling["throttledTime"]) / SECOND;
    all.add("container_cpu_cfs_throttled_seconds_total", &[], waited);
}

fn of_memory(all: &mut Gathered, memory: &Value) {
    let raw = |names: &[&str]| names.iter().find_map(|name| memory["raw"][name].as_u64());
    let number = |part: &str, key: &str| memory[part][key].as_u64().unwrap_or(0);
    let usage = number("usage", "usage");
    let inactive = raw(&["total_inactive_file", "inactive_file"]).unwrap_or(0);
    all.add("container_memory_usage_bytes", &[], usage);
    all.add(
        "container_memory_working_set_bytes",
        &[],
        usage.saturating_sub(inactive),
    );
    all.add(
        "container_memory_max_usage_bytes",
        &[],
        number("usage", "max"),
    );
    all.add("container_memory_failcnt", &[], number("usage", "failcnt"));
    all.add(
        "container_memory_kernel_usage",
        &[],
        number("kernel", "usage"),
    );
    // Version 1 counts memory and swap together.
    all.add(
        "container_memory_swap",
        &[],
        number("swap", "usage").saturating_sub(usage),
    );
    all.add_if(
        "container_memory_cache",
        raw(&["total_cache", "cache", "file"]),
    );
    all.add_if("container_memory_rss", raw(&["total_rss", "rss", "anon"]));
    let mapped = raw(&["total_mapped_file", "mapped_file", "file_mapped"]);
    all.add_if("container_memory_mapped_file", mapped);
    for (kind, value) in [
        ("pgfault", raw(&["total_pgfault", "pgfault"])),
        ("pgmajfault", raw(&["total_pgmajfault", "pgmajfault"])),
    ] {
        all.add(
            "container_memory_failures_total",
            &[kind, "container"],
            value.unwrap_or(0),
        );
    }
}

fn of_devices(all: &mut Gathered, stats: &Value) {
    let entries = |key: &str| stats["blkio"][key].as_array().cloned().unwrap_or_default();
    for (key, is_bytes) in [
        ("ioServiceBytesRecursive", true),
        ("ioServicedRecursive", false),
    ] {
        for entry in entries(key) {
            let number = |key: &str| entry[key].as_u64().unwrap_or(0);
            let (major, minor) = (number("major").to_string(), number("minor").to_string());
            let device = read::device(&major, &minor);
            let operation = entry["op"].as_str().unwrap_or_default();
            if is_bytes {
                let labels = [device.as_str(), &major, &minor, operation];
                all.add(
                    "container_blkio_device_usage_total",
                    &labels,
                    number("value"),
                );
            }
            let verb = match operation.to_ascii_lowercase().as_str() {
                "read" => "reads",
                "write" => "writes",
                _ => continue,
            };
            let what = if is_bytes { "_bytes" } else { "" };
            all.add(
                &format!("container_fs_{verb}{what}_total"),
                &[&device],
                number("value"),
            );
        }
    }
    for (size, pages) in stats["hugetlb"].as_object().into_iter().flatten() {
        let number = |key: &str| pages[key].as_u64().unwrap_or(0);
        all.add("container_hugetlb_usage_bytes", &[size], number("usage"));
        all.add("container_hugetlb_max_usage_bytes", &[size], number("max"));
    }
}

/// Totals are in microseconds.
fn of_pressure(all: &mut Gathered, stats: &Value) {
    for (word, psi) in [
        ("cpu", &stats["cpu"]["psi"]),
        ("io", &stats["blkio"]["psi"]),
        ("memory", &stats["memory"]["psi"]),
    ] {
        for (who, verb) in [("some", "waiting"), ("full", "stalled")] {
            let total = psi[who]["total"].as_u64();
            let name = format!("container_pressure_{word}_{verb}_seconds_total");
            all.add_if(&name, total.map(|total| total / 1_000_000));
        }
    }
}

fn of_limits(all: &mut Gathered, linux: &LinuxContainerResources) {
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    all.add("container_spec_cpu_period", &[], number(linux.cpu_period));
    all.add("container_spec_cpu_quota", &[], number(linux.cpu_quota));
    all.add("container_spec_cpu_shares", &[], number(linux.cpu_shares));
    let limit = number(linux.memory_limit_in_bytes);
    all.add("container_spec_memory_limit_bytes", &[], limit);
    let both = number(linux.memory_swap_limit_in_bytes);
    all.add("container_spec_memory_swap_limit_bytes", &[], both);
    let unified = |key: &str| linux.unified.get(key).and_then(|text| text.parse().ok());
    let low = unified("memory.low").or_else(|| unified("memory.min"));
    all.add(
        "container_spec_memory_reservation_limit_bytes",
        &[],
        low.unwrap_or(0),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_name_once_and_described() {
        let all = descriptors();
        let mut names = all.iter().map(|d| d.name.as_str()).collect::<Vec<_>>();
        assert!(names.is_sorted());
        names.dedup();
        assert_eq!(names.len(), 56);
        assert!(
            all.iter()
                .all(|d| !d.help.is_empty() && d.label_keys.len() >= LABELS.len())
        );
    }

    #[test]
    fn numbers_of_both_versions() {
        let mut all = Gathered::new(["c", "i", "m", "c", "n", "p"]);
        let stats = json!({
            "cpu": {"usage": {"total": 3_500_000_000_u64, "user": 2_000_000_000_u64}, "throttling": {"periods": 4},
                "psi": {"some": {"total": 7_000_000}}},
            "memory": {"usage": {"usage": 100, "max": 120}, "raw": {"inactive_file": 30, "anon": 40, "file": 50}},
            "blkio": {"ioServiceBytesRecursive": [{"major": 8, "minor": 0, "op": "Read", "value": 9}]},
            "hugetlb": {"2MB": {"usage": 1, "max": 2}},
        });
        of_cpu(&mut all, &stats["cpu"]);
        of_memory(&mut all, &stats["memory"]);
        of_devices(&mut all, &stats);
        of_pressure(&mut all, &stats);
        let value = |name: &str| {
            let found = all.metrics.iter().find(|metric| metric.name == name);
            found.map(|metric| metric.value.unwrap().value)
        };
        assert_eq!(value("container_cpu_usage_seconds_total"), Some(3));
        assert_eq!(value("container_memory_working_set_bytes"), Some(70));
        assert_eq!(value("container_memory_rss"), Some(40));
        assert_eq!(value("container_fs_reads_bytes_total"), Some(9));
        assert_eq!(value("container_hugetlb_max_usage_bytes"), Some(2));
        assert_eq!(
            value("container_pressure_cpu_waiting_seconds_total"),
            Some(7)
        );
        assert_eq!(value("container_pressure_io_stalled_seconds_total"), None);
        for metric in &all.metrics {
            let descriptor = descriptors()
                .into_iter()
                .find(|d| d.name == metric.name)
                .unwrap();
            assert_eq!(
                metric.label_values.len(),
                descriptor.label_keys.len(),
                "{}",
                metric.name
            );
        }
    }
}
