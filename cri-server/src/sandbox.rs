//! Pods: run, stop, remove.

use crate::api::ContainerEventType::{
    ContainerCreatedEvent, ContainerDeletedEvent, ContainerStartedEvent, ContainerStoppedEvent,
};
use crate::api::{DnsConfig, LinuxContainerResources, NamespaceMode, PodSandboxConfig};
use crate::error::{Context, Error, Kind, Result, invalid};
use crate::flight::Abandoned;
use crate::images::blocking;
use crate::pods::{Ending, Making, Pod, PodName, Pods};
use crate::record::{self, Phase, PodResources, Sandbox};
use crate::server::make_dir;
use crate::spec::{Modes, resources};
use crate::{cgroups, host, metrics, rootfs, time, validate};
use ocirun_shim::files::{IdMapping, OwnNamespaces, PodDirectory, PodFile};
use ocirun_shim::wire::{Empty, StopPodRequest};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a shim may take to remove everything and end.
const LEAVING: Duration = Duration::from_secs(100);

/// Files of a pod that containers see: name in its directory, path in the container.
pub(crate) const FILES: [(&str, &str); 3] = [
    ("hostname", "/etc/hostname"),
    ("hosts", "/etc/hosts"),
    ("resolv.conf", "/etc/resolv.conf"),
];

impl Pods {
    /// Makes a pod, or joins who makes it, and returns its id. A pod that is there already, just as it is asked for, is
    /// the answer to a caller who did not hear the first one.
    ///
    /// # Errors
    /// `Invalid` and `Unsupported` with the field's name, before anything is made; `AlreadyExists` for a name that
    /// another pod has. Whatever fails, nothing is left.
    pub async fn run_pod(
        self: &Arc<Self>,
        config: PodSandboxConfig,
        handler: String,
    ) -> Result<String> {
        let checked = validate::pod(&config)?;
        if !handler.is_empty() && !self.live.get().handlers.contains_key(&handler) {
            return Err(invalid(
                "runtime_handler",
                format!("there is no handler {handler:?}"),
            ));
        }
        let name = PodName::of(&config);
        let (this, wanted) = (self.clone(), (config.clone(), handler.clone()));
        let taken = name.clone();
        let work = || async move {
            match this.named(&taken) {
                Some(pod) if !pod.now().is_stopped => Ok(pod.record.id.clone()),
                Some(pod) => Err(taken_by(&pod)),
                None => this.make_pod(wanted, checked.modes).await,
            }
        };
        let id = self
            .making
            .join(Making::Pod(name), Abandoned::GoesOn, work)
            .await?;
        let pod = self.pod(&id, "pod_sandbox_id")?;
        if pod.record.config != config || pod.record.handler != handler {
            return Err(taken_by(&pod));
        }
        Ok(id)
    }

    async fn make_pod(
        self: &Arc<Self>,
        (config, handler): (PodSandboxConfig, String),
        modes: Modes,
    ) -> Result<String> {
        let id = record::new_id()?;
        let dir = PodDirectory::new(self.pods_dir().join(&id));
        let linux = config.linux.clone().unwrap_or_default();
        let resources = PodResources {
            overhead: linux.overhead,
            resources: linux.resources,
        };
        let record = Sandbox {
            id: id.clone(),
            config,
            handler,
            created_at: time::now(),
            phase: Phase::Making,
            resources,
        };
        let pod = Arc::new(Pod::new(record, modes, dir));
        let made = self.make_parts(&pod).await;
        if let Err(error) = made {
            self.take_back(&pod).await;
            return Err(error);
        }
        self.add_pod(pod.clone());
        self.tell_pod(ContainerCreatedEvent, &pod, pod.record.created_at);
        self.tell_pod(ContainerStartedEvent, &pod, time::now());
        tracing::info!("pod {id} runs");
        Ok(id)
    }

    async fn make_parts(self: &Arc<Self>, pod: &Arc<Pod>) -> Result<()> {
        let (this, written) = (self.clone(), pod.clone());
        let files = blocking(move || this.write_files(&written));
        timed("files", files).await?;
        timed("shim", self.start_shim(pod)).await?;
        timed("connect", self.connect(pod)).await?;
        timed("network", self.join_network(pod)).await?;
        let made = pod.clone();
        blocking(move || made.rewrite(|_| Ok(()))).await
    }

    /// Removes a pod that was not made to the end.
    pub(crate) async fn take_back(&self, pod: &Pod) {
        let id = &pod.record.id;
        pod.change(|now| now.is_leaving = true);
        if let Err(left) = self.leave_network(pod).await {
            tracing::warn!("pod {id}: {left}; it is tried again");
        }
        self.networks.forget(id);
        if let Err(left) = self.unmake(pod).await {
            tracing::error!("pod {id}: what was begun is left: {left}");
        }
    }

    async fn join_network(&self, pod: &Pod) -> Result<()> {
        if pod.has_network() {
            let (id, netns) = (&pod.record.id, self.network_path(&pod.record.id));
            let addresses = self.networks.attach(id, &pod.record.config, &netns).await?;
            pod.change(|now| now.addresses = addresses);
        }
        Ok(())
    }

    async fn leave_network(&self, pod: &Pod) -> Result<()> {
        if pod.has_network() {
            let netns = self.network_path(&pod.record.id);
            self.networks.detach(&pod.record.id, &netns).await?;
            pod.change(|now| now.addresses.clear());
        }
        Ok(())
    }

    /// Everything that the shim reads, and the files that containers see.
    fn write_files(&self, pod: &Pod) -> Result<()> {
        let (dir, config) = (pod.dir.path(), &pod.record.config);
        make_dir(&self.pods_dir(), 0o711)?;
        make_dir(dir, 0o700)?;
        record::write(&record::sandbox_file(&pod.dir), &pod.record)?;
        if !config.log_directory.is_empty() {
            make_dir(Path::new(&config.log_directory), 0o755)?;
        }
        if pod.has_network() {
            make_dir(&self.live.get().netns_dir, 0o755)?;
        }
        let hosts = std::fs::read("/etc/hosts");
        let resolv = match config.dns_config.as_ref().map(resolv_conf) {
            Some(text) if !text.is_empty() => text.into_bytes(),
            _ => std::fs::read("/etc/resolv.conf").unwrap_or_default(),
        };
        let hostname = format!("{}\n", hostname(config, pod.modes)).into_bytes();
        let hosts = hosts.unwrap_or_else(|_| b"127.0.0.1 localhost\n::1 localhost\n".to_vec());
        for ((name, _), content) in FILES.iter().zip([hostname, hosts, resolv]) {
            let path = dir.join(name);
            record::write_file(&path, &content)?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            std::fs::set_permissions(&path, mode).call(|| format!("chmod {path:?}"))?;
        }
        record::write(&pod.dir.pod_file(), &self.pod_file(pod))
    }

    fn pod_file(&self, pod: &Pod) -> PodFile {
        let (config, modes, id) = (&pod.record.config, pod.modes, &pod.record.id);
        let own = |mode: NamespaceMode| mode == NamespaceMode::Pod;
        let linux = config.linux.clone().unwrap_or_default();
        let security = linux.security_context.unwrap_or_default();
        let user = security.namespace_options.and_then(|o| o.userns_options);
        let user = user.filter(|_| modes.user).unwrap_or_default();
        let map = |m: &crate::api::IdMapping| IdMapping {
            container_id: m.container_id,
            host_id: m.host_id,
            size: m.length,
        };
        PodFile {
            namespaces: OwnNamespaces {
                user: modes.user,
                network: own(modes.network),
                ipc: own(modes.ipc),
                uts: own(modes.network),
                pid: own(modes.pid),
            },
            network_path: own(modes.network).then(|| self.network_path(id)),
            hostname: own(modes.network).then(|| hostname(config, modes)),
            sysctls: linux.sysctls.into_iter().collect(),
            uid_mappings: user.uids.iter().map(map).collect(),
            gid_mappings: user.gids.iter().map(map).collect(),
            shm_size: own(modes.ipc).then(|| self.live.get().container.shm_bytes),
            cgroups_path: own(modes.pid).then(|| self.cgroups_path(config, id)),
            systemd_cgroup: self.has_systemd_cgroups(),
            root: own(modes.pid).then(|| rootfs::place(&self.live.get().state)),
        }
    }

    /// `linux.cgroupsPath` of a container, or of the pod's own process. The parent comes as a path, whoever makes cgroups.
    pub(crate) fn cgroups_path(&self, pod: &PodSandboxConfig, id: &str) -> String {
        let parent = pod
            .linux
            .as_ref()
            .map_or("", |linux| linux.cgroup_parent.as_str());
        let parent = parent.trim_end_matches('/');
        if self.has_systemd_cgroups() {
            let slice = parent.rsplit('/').next().filter(|s| !s.is_empty());
            return format!("{}:ocirun:{id}", slice.unwrap_or("system.slice"));
        }
        match parent {
            "" => format!("/{}/{id}", cgroups::PARENT),
            parent => format!("/{}/{id}", parent.trim_start_matches('/')),
        }
    }

    /// Stops a pod: ends all its containers at once. One that is not there, or was stopped, is no error.
    ///
    /// # Errors
    /// `Invalid` for what is no id, and those of the shim.
    pub async fn stop_pod(self: &Arc<Self>, id: &str) -> Result<()> {
        let pod = match self.pod(id, "pod_sandbox_id") {
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            pod => pod?,
        };
        let this = self.clone();
        let key = Ending::StopPod(pod.record.id.clone());
        let work = || async move { this.end_pod(&pod).await };
        self.ending.join(key, Abandoned::GoesOn, work).await
    }

    async fn end_pod(self: &Arc<Self>, pod: &Arc<Pod>) -> Result<()> {
        let stopped = pod.clone();
        let write = move || {
            stopped.rewrite(|now| {
                now.is_stopped = true;
                Ok(())
            })
        };
        blocking(write).await?;
        let shim = self.shim_of(pod).await?;
        shim.call::<Empty>("StopPod", &StopPodRequest {}, None)
            .await?;
        self.leave_network(pod).await?;
        let has_told = pod.change(|now| std::mem::replace(&mut now.has_told_end, true));
        if !has_told {
            self.tell_pod(ContainerStoppedEvent, pod, time::now());
            tracing::info!("pod {} is stopped", pod.record.id);
        }
        Ok(())
    }

    /// Removes a pod with its containers, by force. One that is not there is no error.
    ///
    /// # Errors
    /// `Invalid` for what is no id; otherwise what could not be removed. A later call goes on with it.
    pub async fn remove_pod(self: &Arc<Self>, id: &str) -> Result<()> {
        let pod = match self.pod(id, "pod_sandbox_id") {
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            pod => pod?,
        };
        let this = self.clone();
        let key = Ending::RemovePod(pod.record.id.clone());
        let work = || async move {
            this.stop_pod(&pod.record.id).await?;
            for container in this.containers_of(&pod.record.id) {
                this.remove_container(&container.id).await?;
            }
            // A shim that has died is needed once more: it removes what it made.
            this.shim_of(&pod).await?;
            pod.change(|now| now.is_leaving = true);
            this.unmake(&pod).await?;
            this.networks.forget(&pod.record.id);
            this.forget_pod(&pod.record.id);
            this.tell_pod(ContainerDeletedEvent, &pod, time::now());
            tracing::info!("pod {} is removed", pod.record.id);
            Ok(())
        };
        self.ending.join(key, Abandoned::GoesOn, work).await
    }

    /// Keeps what a pod may use as a whole. The limits of its cgroup are kubelet's to set.
    ///
    /// # Errors
    /// `Invalid` with the field's name, `NotFound`, `WrongState` for a pod that was stopped.
    pub async fn update_pod(self: &Arc<Self>, id: &str, wanted: PodResources) -> Result<()> {
        let pod = self.pod(id, "pod_sandbox_id")?;
        for (limits, field) in [
            (&wanted.overhead, "overhead"),
            (&wanted.resources, "resources"),
        ] {
            let limits = LinuxContainerResources {
                // What a pod costs beside its containers may be less than any container needs.
                memory_limit_in_bytes: 0,
                ..limits.clone().unwrap_or_default()
            };
            resources::resources(&limits, self.host.has_swap, field)?;
        }
        let write = move || {
            pod.rewrite(|now| {
                if now.is_stopped {
                    let text = format!("pod_sandbox_id: pod {} was stopped", pod.record.id);
                    return Err(Error::new(Kind::WrongState, text));
                }
                now.resources = wanted;
                Ok(())
            })
        };
        blocking(write).await
    }

    /// Ends the shim and removes all files of a pod.
    pub(crate) async fn unmake(&self, pod: &Pod) -> Result<()> {
        if let Some(shim) = pod.now().shim {
            match shim
                .call::<Empty>("Shutdown", &Empty {}, Some(LEAVING))
                .await
            {
                // It may be gone before its answer is.
                Err(error) if error.kind() == Kind::Unavailable => {}
                done => {
                    done?;
                }
            }
            shim.closed().await;
        }
        let dir = pod.dir.path().to_owned();
        let linux = pod.record.config.linux.as_ref();
        let names_no_parent = !self.has_systemd_cgroups()
            && linux.is_none_or(|linux| linux.cgroup_parent.trim_end_matches('/').is_empty());
        let is_unified = self.host.is_unified;
        // The shim's work, unless there was none that could.
        let network = self.network_path(&pod.record.id);
        blocking(move || {
            rootfs::unmount_below(&network)?;
            match std::fs::remove_file(&network) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                done => done.call(|| format!("remove {network:?}"))?,
            }
            // Not the whole directory: these are gone as a rule, and then no mount table is read.
            for name in ["ns", "shm", "init", "containers"] {
                rootfs::unmount_below(&dir.join(name))?;
            }
            rootfs::remove_tree(&dir)?;
            if names_no_parent {
                cgroups::remove_parent(is_unified);
            }
            Ok(())
        })
        .await
    }
}

/// Takes the time of a part of a pod's start.
async fn timed<T>(phase: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let begin = Instant::now();
    let done = work.await;
    metrics::pod_phase(phase, begin.elapsed());
    done
}

fn taken_by(pod: &Pod) -> Error {
    let PodName {
        name,
        namespace,
        uid,
        attempt,
    } = PodName::of(&pod.record.config);
    let text = format!(
        "config.metadata: pod {namespace}/{name} ({uid}), attempt {attempt}, is there already, as {}",
        pod.record.id
    );
    Error::new(Kind::AlreadyExists, text)
}

/// The name that a pod's containers see.
pub(crate) fn hostname(config: &PodSandboxConfig, modes: Modes) -> String {
    if config.hostname.is_empty() || modes.network == NamespaceMode::Node {
        return host::name();
    }
    config.hostname.clone()
}

/// `/etc/resolv.conf` of a pod; empty if nothing is asked for.
fn resolv_conf(dns: &DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text += &format!("search {}\n", dns.searches.join(" "));
    }
    for server in &dns.servers {
        text += &format!("nameserver {server}\n");
    }
    if !dns.options.is_empty() {
        text += &format!("options {}\n", dns.options.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let dns = DnsConfig {
            servers: words("10.0.0.1 10.0.0.2"),
            searches: words("a.b c"),
            options: words("ndots:5"),
        };
        assert_eq!(
            resolv_conf(&dns),
            "search a.b c\nnameserver 10.0.0.1\nnameserver 10.0.0.2\noptions ndots:5\n"
        );
        assert_eq!(resolv_conf(&DnsConfig::default()), "");
    }
}
