//! Containers: start, stop, remove, change. How they are created is in [`crate::create`].

use crate::api::{ContainerEventType, ContainerState, LinuxContainerResources};
use crate::error::{Error, Kind, Result, invalid};
use crate::flight::Abandoned;
use crate::images::blocking;
use crate::pods::{Container, Ending, Pod, Pods};
use crate::spec::resources;
use crate::{record, rootfs, time};
use ocirun_shim::wire::{
    DeleteRequest, Empty, Exit, ReopenLogRequest, StartRequest, StopRequest, UpdateRequest,
};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a shim may take for what is not the workload's to delay.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The longest time to stop a container, in seconds: beyond it a number is a mistake.
const LONGEST_STOP: i64 = 10 * 365 * 24 * 3600;

impl Pods {
    /// Starts the program of a container.
    ///
    /// # Errors
    /// `NotFound`, `WrongState` for one that was started before, and those of the shim.
    pub async fn start_container(self: &Arc<Self>, id: &str) -> Result<()> {
        let container = self.container(id, "container_id")?;
        let this = self.clone();
        let key = Ending::StartContainer(container.id.clone());
        let work = || async move {
            let state = container.now().state;
            if state != ContainerState::ContainerCreated {
                let text = format!("container {} is not created: {}", container.id, word(state));
                return Err(Error::new(Kind::WrongState, text));
            }
            let shim = this.shim_of(&container.pod).await?;
            let request = StartRequest {
                id: container.id.clone(),
            };
            shim.call::<Empty>("Start", &request, None).await?;
            container.change(|now| {
                if now.state == ContainerState::ContainerCreated {
                    now.state = ContainerState::ContainerRunning;
                    now.started_at = time::now();
                }
            });
            tracing::info!("container {} runs", container.id);
            Ok(())
        };
        self.ending.join(key, Abandoned::GoesOn, work).await
    }

    /// Stops a container: its signal, and SIGKILL when `seconds` are over. One that is not there, or has ended, is no
    /// error.
    ///
    /// # Errors
    /// `Invalid` with the field's name, and those of the shim.
    pub async fn stop_container(self: &Arc<Self>, id: &str, seconds: i64) -> Result<()> {
        if !(0..=LONGEST_STOP).contains(&seconds) {
            return Err(invalid(
                "timeout",
                format!("{seconds} is not between 0 and {LONGEST_STOP}"),
            ));
        }
        let container = match self.container(id, "container_id") {
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            container => container?,
        };
        let now = container.now();
        if now.state == ContainerState::ContainerExited {
            return Ok(());
        }
        let shim = self.shim_of(&container.pod).await?;
        let request = StopRequest {
            id: container.id.clone(),
            signal: now.record.stop_signal,
            deadline_ms: seconds.cast_unsigned().saturating_mul(1000),
        };
        // A caller that gives up ends nothing: the shim goes on, and another stop joins it there.
        let exit: Exit = shim.call("Stop", &request, None).await?;
        ended(&container, exit);
        Ok(())
    }

    /// Removes a container, by force. One that is not there is no error.
    ///
    /// # Errors
    /// `Invalid` for what is no id; otherwise what could not be removed. A later call goes on with it.
    pub async fn remove_container(self: &Arc<Self>, id: &str) -> Result<()> {
        let container = match self.container(id, "container_id") {
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            container => container?,
        };
        let this = self.clone();
        let key = Ending::RemoveContainer(container.id.clone());
        let work = || async move { this.unmake_container(&container).await };
        self.ending.join(key, Abandoned::GoesOn, work).await
    }

    async fn unmake_container(self: &Arc<Self>, container: &Arc<Container>) -> Result<()> {
        container.change(|now| now.is_leaving = true);
        let shim = self.shim_of(&container.pod).await?;
        match shim
            .call::<Exit>("Delete", &delete_request(&container.id), None)
            .await
        {
            Err(error) if error.kind() == Kind::NotFound => {}
            done => ended(container, done?),
        }
        let (this, pod, id) = (self.clone(), container.pod.clone(), container.id.clone());
        blocking(move || this.remove_files(&pod, &id)).await?;
        self.forget_container(&container.id);
        self.tell(
            ContainerEventType::ContainerDeletedEvent,
            container,
            time::now(),
        );
        tracing::info!("container {} is removed", container.id);
        let (images, image) = (self.images.clone(), container.now().record.image);
        if blocking(move || images.find(&image)).await?.is_none() {
            // It was the last that held the layers of a removed image.
            self.images.collect().await?;
        }
        Ok(())
    }

    /// Removes what the daemon made for a container; the shim's part is gone by then.
    pub(crate) fn remove_files(&self, pod: &Pod, id: &str) -> Result<()> {
        let dir = pod.dir.container(id);
        rootfs::unmount_below(&dir.join("images"))?;
        rootfs::remove_tree(&self.layer_dir(id))?;
        self.images.store().release(&lease(id))?;
        // The record last: as long as it is there a restarted daemon goes on here.
        rootfs::remove_tree(&dir)
    }

    /// Changes the limits of a container; what the request does not name stays.
    ///
    /// # Errors
    /// `Invalid` with the field's name, `NotFound`, `WrongState` for one that has ended, and those of the shim.
    pub async fn update_container(
        self: &Arc<Self>,
        id: &str,
        wanted: LinuxContainerResources,
    ) -> Result<()> {
        let container = self.container(id, "container_id")?;
        let now = container.now();
        if now.state == ContainerState::ContainerExited {
            let text = format!("container {} has ended", container.id);
            return Err(Error::new(Kind::WrongState, text));
        }
        let mut config = now.record.config.clone();
        let linux = config.linux.get_or_insert_default();
        let old = linux.resources.clone().unwrap_or_default();
        let merged = resources::merged(&old, &wanted);
        resources::resources(&wanted, self.host.has_swap, "linux")?;
        // Memory and swap are one setting: both go with either.
        let mut changed = wanted.clone();
        if wanted.memory_limit_in_bytes != 0 || wanted.memory_swap_limit_in_bytes != 0 {
            changed.memory_limit_in_bytes = merged.memory_limit_in_bytes;
            changed.memory_swap_limit_in_bytes = merged.memory_swap_limit_in_bytes;
        }
        let json = resources::resources(&changed, self.host.has_swap, "linux")?;
        let request = UpdateRequest {
            id: container.id.clone(),
            resources: json.to_string().into_bytes(),
        };
        let shim = self.shim_of(&container.pod).await?;
        shim.call::<Empty>("Update", &request, Some(PATIENCE))
            .await?;
        linux.resources = Some(merged);
        let record = record::Container {
            config,
            ..now.record
        };
        let (path, written) = (
            container_file(&container.pod, &container.id),
            record.clone(),
        );
        blocking(move || record::write(&path, &written)).await?;
        container.change(|now| now.record = record);
        Ok(())
    }

    /// Goes on with a new log where the old one was renamed; it is there when this returns.
    ///
    /// # Errors
    /// `NotFound`, `WrongState` for one that does not run, and those of the shim.
    pub async fn reopen_log(self: &Arc<Self>, id: &str) -> Result<()> {
        let container = self.container(id, "container_id")?;
        let state = container.now().state;
        if state != ContainerState::ContainerRunning {
            let text = format!("container {} is not running: {}", container.id, word(state));
            return Err(Error::new(Kind::WrongState, text));
        }
        let shim = self.shim_of(&container.pod).await?;
        let request = ReopenLogRequest {
            id: container.id.clone(),
        };
        shim.call::<Empty>("ReopenLog", &request, Some(PATIENCE))
            .await?;
        Ok(())
    }
}

fn ended(container: &Container, exit: Exit) {
    container.change(|now| {
        if now.state != ContainerState::ContainerExited {
            now.state = ContainerState::ContainerExited;
            now.pid = 0;
            now.exit = Some(exit);
        }
    });
}

pub(crate) fn delete_request(id: &str) -> DeleteRequest {
    DeleteRequest {
        id: id.to_owned(),
        force: true,
    }
}

/// The store's name for what a container holds.
pub(crate) fn lease(id: &str) -> String {
    format!("container-{id}")
}

/// The record of a container.
pub(crate) fn container_file(pod: &Pod, id: &str) -> PathBuf {
    pod.dir.container(id).join("container.json")
}

/// A state in words.
pub(crate) fn word(state: ContainerState) -> &'static str {
    match state {
        ContainerState::ContainerCreated => "created",
        ContainerState::ContainerRunning => "running",
        ContainerState::ContainerExited => "exited",
        ContainerState::ContainerUnknown => "unknown",
    }
}
