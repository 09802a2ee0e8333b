//! All pods and containers, in memory behind one lock that is never held across an await.
//!
//! What is here follows from three things: the records on disk, what the shims say, and requests. A record says that
//! something exists; its shim says how it is.

use crate::api::{ContainerEventType, ContainerState, NamespaceMode};
use crate::config::CgroupDriver;
use crate::error::{Error, Kind, Result};
use crate::events::Events;
use crate::flight::Flights;
use crate::host::Host;
use crate::images::Images;
use crate::live::Live;
use crate::network::Networks;
use crate::program::View;
use crate::record::{self, Phase, PodResources, Sandbox};
use crate::shim_client::Shim;
use crate::spec::Modes;
use crate::validate;
use ocirun_shim::files::PodDirectory;
use ocirun_shim::wire::{Exit, Namespaces};
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The pods and containers of this machine.
#[derive(Debug)]
pub struct Pods {
    /// The configuration.
    pub live: Arc<Live>,
    /// The images.
    pub images: Arc<Images>,
    /// The networks.
    pub networks: Arc<Networks>,
    /// The machine.
    pub host: Host,
    /// What happens to containers.
    pub events: Events,
    pub(crate) making: Flights<Making, String>,
    pub(crate) ending: Flights<Ending, ()>,
    pub(crate) shim_program: View,
    state: Mutex<State>,
}

/// What is made once, however often it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Making {
    Pod(PodName),
    Container(String, String, u32),
}

/// What is ended once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Ending {
    StartContainer(String),
    RemoveContainer(String),
    StopPod(String),
    RemovePod(String),
    Revive(String),
}

/// What tells pods apart for kubelet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PodName {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) attempt: u32,
}

impl PodName {
    pub(crate) fn of(config: &crate::api::PodSandboxConfig) -> Self {
        let metadata = config.metadata.clone().unwrap_or_default();
        Self {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            attempt: metadata.attempt,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    pods: HashMap<String, Arc<Pod>>,
    containers: HashMap<String, Arc<Container>>,
}

/// A pod.
#[derive(Debug)]
pub struct Pod {
    /// What it was made from. What changes of it is in [`PodNow`], and written by [`Self::rewrite`].
    pub record: Sandbox,
    /// Its namespaces, as asked for.
    pub modes: Modes,
    /// Its files.
    pub dir: PodDirectory,
    now: Mutex<PodNow>,
    /// Held while its record is written.
    writing: Mutex<()>,
}

/// What changes about a pod.
#[derive(Debug, Clone, Default)]
pub struct PodNow {
    /// Whether it was stopped.
    pub is_stopped: bool,
    /// Whether it is being removed: no shim is started for it any more.
    pub is_leaving: bool,
    /// The connection to its shim.
    pub shim: Option<Arc<Shim>>,
    /// Where its namespaces are.
    pub namespaces: Namespaces,
    /// Process 1 of a shared PID namespace; 0 for none.
    pub init_pid: i32,
    /// Whether its end was told.
    pub has_told_end: bool,
    /// What was said last of its resources.
    pub resources: PodResources,
    /// Its addresses in the network, while it has any.
    pub addresses: Vec<IpAddr>,
}

impl Pod {
    /// A pod from its record.
    #[must_use]
    pub fn new(record: Sandbox, modes: Modes, dir: PodDirectory) -> Self {
        let is_stopped = record.phase == Phase::Stopped;
        let now = PodNow {
            is_stopped,
            has_told_end: is_stopped,
            resources: record.resources.clone(),
            ..PodNow::default()
        };
        Self {
            record,
            modes,
            dir,
            now: Mutex::new(now),
            writing: Mutex::default(),
        }
    }

    /// What changes about it, as it is now.
    #[must_use]
    pub fn now(&self) -> PodNow {
        lock(&self.now).clone()
    }

    /// Changes it.
    pub fn change<T>(&self, change: impl FnOnce(&mut PodNow) -> T) -> T {
        change(&mut lock(&self.now))
    }

    /// Writes its record with whether it was stopped and its resources as `change` leaves them, and takes that for what
    /// is once it is written. One at a time, so that no older state is written last.
    ///
    /// # Errors
    /// Those of `change` and of the file system; then nothing has changed.
    pub fn rewrite(&self, change: impl FnOnce(&mut PodNow) -> Result<()>) -> Result<()> {
        let _turn = lock(&self.writing);
        let mut new = self.now();
        change(&mut new)?;
        let record = Sandbox {
            phase: if new.is_stopped {
                Phase::Stopped
            } else {
                Phase::Made
            },
            resources: new.resources.clone(),
            ..self.record.clone()
        };
        record::write(&record::sandbox_file(&self.dir), &record)?;
        self.change(|now| {
            now.is_stopped |= new.is_stopped;
            now.resources = new.resources;
        });
        Ok(())
    }

    /// The shim.
    ///
    /// # Errors
    /// `Unavailable` where there is none at this moment.
    pub fn shim(&self) -> Result<Arc<Shim>> {
        self.now().shim.ok_or_else(|| {
            let text = format!(
                "pod {}: its shim is not there, and is being started",
                self.record.id
            );
            Error::new(Kind::Unavailable, text)
        })
    }

    /// Whether it has a network of its own.
    #[must_use]
    pub fn has_network(&self) -> bool {
        self.modes.network == NamespaceMode::Pod
    }
}

/// A container.
#[derive(Debug)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its pod.
    pub pod: Arc<Pod>,
    now: Mutex<ContainerNow>,
}

/// A container's record, and what its shim said last.
#[derive(Debug, Clone)]
pub struct ContainerNow {
    /// What it was made from, with its resources as they are.
    pub record: record::Container,
    /// Where it has come to.
    pub state: ContainerState,
    /// Its first process; 0 for none.
    pub pid: i32,
    /// Nanoseconds since 1970; 0 for not yet.
    pub started_at: i64,
    /// How it ended.
    pub exit: Option<Exit>,
    /// Whether it is being removed.
    pub is_leaving: bool,
    /// CPU time and when it was looked at, for the rate between two looks.
    pub cpu_seen: Option<(i64, u64)>,
}

impl Container {
    /// A container that was created.
    #[must_use]
    pub fn new(record: record::Container, pod: Arc<Pod>) -> Self {
        let now = ContainerNow {
            state: ContainerState::ContainerCreated,
            pid: 0,
            started_at: 0,
            exit: None,
            is_leaving: false,
            cpu_seen: None,
            record,
        };
        Self {
            id: now.record.id.clone(),
            pod,
            now: Mutex::new(now),
        }
    }

    /// How it is.
    #[must_use]
    pub fn now(&self) -> ContainerNow {
        lock(&self.now).clone()
    }

    /// Changes what is known.
    pub fn change<T>(&self, change: impl FnOnce(&mut ContainerNow) -> T) -> T {
        change(&mut lock(&self.now))
    }

    /// Its directory, which is its bundle.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.pod.dir.container(&self.id)
    }
}

impl Pods {
    /// None yet.
    #[must_use]
    pub fn new(live: Arc<Live>, images: Arc<Images>) -> Self {
        let host = Host::probe();
        host.warn();
        Self {
            networks: Arc::new(Networks::new(live.clone())),
            live,
            images,
            host,
            events: Events::default(),
            making: Flights::default(),
            ending: Flights::default(),
            shim_program: View::default(),
            state: Mutex::default(),
        }
    }

    /// The directory of all pods.
    #[must_use]
    pub fn pods_dir(&self) -> PathBuf {
        self.live.get().state.join("pods")
    }

    /// The directory of a container's writable layer.
    #[must_use]
    pub fn layer_dir(&self, container: &str) -> PathBuf {
        self.live.get().root.join("containers").join(container)
    }

    /// Where a pod's network namespace is pinned.
    #[must_use]
    pub fn network_path(&self, pod: &str) -> PathBuf {
        self.live.get().netns_dir.join(format!("ocirun-{pod}"))
    }

    /// Whether systemd makes the cgroups.
    #[must_use]
    pub fn has_systemd_cgroups(&self) -> bool {
        self.live.get().cgroup_driver.resolved() == CgroupDriver::Systemd
    }

    /// All pods, the newest first.
    #[must_use]
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        let mut all = lock(&self.state).pods.values().cloned().collect::<Vec<_>>();
        all.sort_by(|a, b| {
            b.record
                .created_at
                .cmp(&a.record.created_at)
                .then_with(|| a.record.id.cmp(&b.record.id))
        });
        all
    }

    /// All containers, the newest first.
    #[must_use]
    pub fn containers(&self) -> Vec<Arc<Container>> {
        let all = lock(&self.state)
            .containers
            .values()
            .cloned()
            .collect::<Vec<_>>();
        let mut dated = all
            .into_iter()
            .map(|container| (container.change(|now| now.record.created_at), container))
            .collect::<Vec<_>>();
        dated.sort_by(|(a, x), (b, y)| b.cmp(a).then_with(|| x.id.cmp(&y.id)));
        dated.into_iter().map(|(_, container)| container).collect()
    }

    /// The containers of a pod.
    #[must_use]
    pub fn containers_of(&self, pod: &str) -> Vec<Arc<Container>> {
        let mut all = self.containers();
        all.retain(|container| container.pod.record.id == pod);
        all
    }

    /// The pod of an id or the beginning of one.
    ///
    /// # Errors
    /// `Invalid` with the field's name, `NotFound`.
    pub fn pod(&self, id: &str, field: &str) -> Result<Arc<Pod>> {
        validate::id(id, field)?;
        let state = lock(&self.state);
        find(&state.pods, id, field)?
            .ok_or_else(|| Error::new(Kind::NotFound, format!("{field}: pod {id:?} is not there")))
    }

    /// The container of an id or the beginning of one.
    ///
    /// # Errors
    /// `Invalid` with the field's name, `NotFound`.
    pub fn container(&self, id: &str, field: &str) -> Result<Arc<Container>> {
        validate::id(id, field)?;
        let state = lock(&self.state);
        find(&state.containers, id, field)?.ok_or_else(|| {
            Error::new(
                Kind::NotFound,
                format!("{field}: container {id:?} is not there"),
            )
        })
    }

    /// The pod of a name.
    pub(crate) fn named(&self, name: &PodName) -> Option<Arc<Pod>> {
        let state = lock(&self.state);
        let mut pods = state.pods.values();
        pods.find(|pod| PodName::of(&pod.record.config) == *name)
            .cloned()
    }

    /// The container of a name in a pod.
    pub(crate) fn container_named(
        &self,
        pod: &str,
        name: &str,
        attempt: u32,
    ) -> Option<Arc<Container>> {
        let is_it = |container: &Arc<Container>| {
            container.pod.record.id == pod
                && container.change(|now| {
                    let metadata = now.record.config.metadata.as_ref();
                    metadata.is_some_and(|m| m.name == name && m.attempt == attempt)
                })
        };
        lock(&self.state)
            .containers
            .values()
            .find(|c| is_it(c))
            .cloned()
    }

    pub(crate) fn add_pod(&self, pod: Arc<Pod>) {
        lock(&self.state).pods.insert(pod.record.id.clone(), pod);
    }

    pub(crate) fn forget_pod(&self, id: &str) {
        lock(&self.state).pods.remove(id);
    }

    pub(crate) fn add_container(&self, container: Arc<Container>) {
        lock(&self.state)
            .containers
            .insert(container.id.clone(), container);
    }

    pub(crate) fn forget_container(&self, id: &str) {
        lock(&self.state).containers.remove(id);
    }

    /// Tells what happened to a container, with everything about its pod.
    pub(crate) fn tell(&self, kind: ContainerEventType, container: &Container, at: i64) {
        self.tell_of(kind, &container.id, &container.pod, at);
    }

    /// Tells what happened to a pod, in the way of a container that has its id: so kubelet knows it.
    pub(crate) fn tell_pod(&self, kind: ContainerEventType, pod: &Pod, at: i64) {
        self.tell_of(kind, &pod.record.id, pod, at);
    }

    fn tell_of(&self, kind: ContainerEventType, id: &str, pod: &Pod, at: i64) {
        let siblings = self.containers_of(&pod.record.id);
        let event = crate::api::ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at: at,
            pod_sandbox_status: Some(crate::show::pod_status(pod)),
            containers_statuses: siblings
                .iter()
                .map(|c| crate::show::container_status(c))
                .collect(),
        };
        self.events.send(event);
    }
}

/// The one whose id is this or begins so.
fn find<T>(all: &HashMap<String, Arc<T>>, id: &str, field: &str) -> Result<Option<Arc<T>>> {
    if let Some(found) = all.get(id) {
        return Ok(Some(found.clone()));
    }
    let mut fitting = all.iter().filter(|(known, _)| known.starts_with(id));
    match (fitting.next(), fitting.next()) {
        (Some(_), Some(_)) => {
            let text = format!("{id:?} is the beginning of several ids");
            Err(crate::error::invalid(field, text))
        }
        (one, _) => Ok(one.map(|(_, found)| found.clone())),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
