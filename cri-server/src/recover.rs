//! After a start of the daemon: everything is built from the records and the shims, and what a killed daemon had begun
//! and told nobody is taken back.

use crate::container::lease;
use crate::error::{Context, Result};
use crate::images::blocking;
use crate::pods::{Container, Pod, Pods};
use crate::record::{self, Phase, Sandbox};
use crate::spec::Modes;
use crate::{rootfs, validate};
use ocirun_shim::files::PodDirectory;
use ocirun_shim::wire::{DeleteRequest, Exit};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long the first call may have to wait for shims that do not answer: the other pods are not theirs to delay.
const PATIENCE: Duration = Duration::from_secs(5);

impl Pods {
    /// Takes over what is there.
    ///
    /// A record that cannot be read costs its own pod or container alone: it is left for people to look at, and said.
    ///
    /// # Errors
    /// Those of reading the directory of all pods.
    pub async fn recover(self: &Arc<Self>) -> Result<()> {
        let mut pods = Vec::new();
        for id in names(&self.pods_dir())? {
            let dir = PodDirectory::new(self.pods_dir().join(&id));
            match record::read::<Sandbox>(&record::sandbox_file(&dir)) {
                Ok(record) => {
                    let modes = modes(&record);
                    pods.push(Arc::new(Pod::new(record, modes, dir)));
                }
                Err(error) => tracing::error!("pod {id} is left alone: {error}"),
            }
        }
        let work = pods.into_iter().map(|pod| {
            let this = self.clone();
            tokio::spawn(async move { this.recover_pod(pod).await })
        });
        let work = work.collect::<Vec<_>>();
        let all = async {
            for pod in work {
                if let Err(error) = pod.await {
                    tracing::error!("recovery of a pod: {error}");
                }
            }
        };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            tracing::warn!("some shims do not answer yet; their pods follow");
        }
        let this = self.clone();
        blocking(move || this.sweep_layers()).await
    }

    async fn recover_pod(self: Arc<Self>, pod: Arc<Pod>) {
        let id = pod.record.id.clone();
        if pod.record.phase == Phase::Making {
            tracing::warn!("pod {id} was not made to the end, and is removed");
            // What is left of it is known only to a shim.
            drop(self.shim_of(&pod).await);
            self.take_back(&pod).await;
            return;
        }
        let mut half = Vec::new();
        match names(&pod.dir.containers()) {
            Ok(containers) => {
                for name in containers {
                    self.recover_container(&pod, &name, &mut half);
                }
            }
            Err(error) => tracing::error!("pod {id}: {error}"),
        }
        self.add_pod(pod.clone());
        self.recover_network(&pod);
        let shim = match self.shim_of(&pod).await {
            Ok(shim) => shim,
            Err(error) => {
                tracing::error!("pod {id}: {error}");
                return;
            }
        };
        for name in half {
            tracing::warn!("container {name} was not made to the end, and is removed");
            let request = DeleteRequest {
                id: name.clone(),
                force: true,
            };
            // The shim may never have heard of it.
            drop(shim.call::<Exit>("Delete", &request, None).await);
            let (this, pod) = (self.clone(), pod.clone());
            let shown = name.clone();
            if let Err(error) = blocking(move || this.remove_files(&pod, &name)).await {
                tracing::error!("container {shown}: {error}");
            }
        }
    }

    fn recover_network(&self, pod: &Pod) {
        if !pod.has_network() {
            return;
        }
        match self.networks.recover(&pod.record.id, &pod.record.config) {
            Ok(addresses) => pod.change(|now| now.addresses = addresses),
            Err(error) => tracing::error!("pod {}: {error}", pod.record.id),
        }
    }

    fn recover_container(&self, pod: &Arc<Pod>, name: &str, half: &mut Vec<String>) {
        let path = crate::container::container_file(pod, name);
        if !path.exists() {
            half.push(name.to_owned());
            return;
        }
        match record::read::<record::Container>(&path) {
            Ok(record) if record.phase == Phase::Making => half.push(name.to_owned()),
            Ok(record) => self.add_container(Arc::new(Container::new(record, pod.clone()))),
            Err(error) => tracing::error!("container {name} is left alone: {error}"),
        }
    }

    /// Removes writable layers whose containers are gone, as after a start of the machine.
    fn sweep_layers(&self) -> Result<()> {
        let layers = self.live.get().root.join("containers");
        let mut known = HashSet::new();
        for pod in names(&self.pods_dir())? {
            known.extend(names(
                &PodDirectory::new(self.pods_dir().join(pod)).containers(),
            )?);
        }
        for name in names(&layers)? {
            if !known.contains(&name) && validate::id(&name, "layer").is_ok() {
                rootfs::remove_tree(&layers.join(&name))?;
                self.images.store().release(&lease(&name))?;
            }
        }
        Ok(())
    }
}

fn modes(record: &Sandbox) -> Modes {
    let checked = validate::pod(&record.config);
    checked.map_or_else(
        |_| Modes {
            network: crate::api::NamespaceMode::Node,
            pid: crate::api::NamespaceMode::Container,
            ipc: crate::api::NamespaceMode::Node,
            user: false,
        },
        |pod| pod.modes,
    )
}

/// Names of the directories in a directory; none if it is not there.
fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.call(|| format!("read directory {dir:?}"))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.call(|| format!("read directory {dir:?}"))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
