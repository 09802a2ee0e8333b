//! Creating a container: what the request names is looked up, its configuration follows from that, and its shim makes it.

use crate::api::{
    ContainerConfig, ContainerEventType, ContainerState, LinuxContainerUser, NamespaceMode,
};
use crate::container::{PATIENCE, container_file, delete_request, lease, word};
use crate::error::{Context, Error, Kind, Result, invalid};
use crate::flight::Abandoned;
use crate::images::{Entry, blocking};
use crate::pods::{Container, Making, Pod, Pods};
use crate::record::{self, Phase};
use crate::server::make_dir;
use crate::spec::{self, Facts, HOST_PID, Input, Namespaces, accounts};
use crate::{apparmor, gather, relabel, rootfs, sandbox, signals, time, validate};
use ocirun_shim::wire::{CreateRequest, CreateResponse, Exit, Rootfs};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An image volume: the image's id, and its layers.
type Volume = (String, Vec<image_store::Digest>);

/// A container that only its shim has yet to make.
struct Prepared {
    record: record::Container,
    root: OwnedFd,
}

impl Pods {
    /// Creates a container, or joins who creates it, and returns its id.
    ///
    /// # Errors
    /// `Invalid` and `Unsupported` with the field's name; `NotFound` for pod or image, `WrongState` for a pod that was
    /// stopped, `AlreadyExists` for a name that another container has. Whatever fails, nothing is left.
    pub async fn create_container(
        self: &Arc<Self>,
        pod: &str,
        config: ContainerConfig,
    ) -> Result<String> {
        validate::container(&config)?;
        let pod = self.pod(pod, "pod_sandbox_id")?;
        if pod.now().is_stopped {
            let text = format!("pod_sandbox_id: pod {} was stopped", pod.record.id);
            return Err(Error::new(Kind::WrongState, text));
        }
        let metadata = config.metadata.clone().unwrap_or_default();
        let key = Making::Container(
            pod.record.id.clone(),
            metadata.name.clone(),
            metadata.attempt,
        );
        let (this, wanted) = (self.clone(), config.clone());
        let work = || async move {
            match this.container_named(&pod.record.id, &metadata.name, metadata.attempt) {
                Some(known) if known.now().state == ContainerState::ContainerCreated => {
                    Ok(known.id.clone())
                }
                Some(known) => Err(taken_by(&known)),
                None => this.make_container(&pod, wanted).await,
            }
        };
        let id = self.making.join(key, Abandoned::GoesOn, work).await?;
        let container = self.container(&id, "container_id")?;
        if !is_same(&container.now().record.config, &config) {
            return Err(taken_by(&container));
        }
        Ok(id)
    }

    async fn make_container(
        self: &Arc<Self>,
        pod: &Arc<Pod>,
        config: ContainerConfig,
    ) -> Result<String> {
        let id = record::new_id()?;
        let made = self.make_whole(pod, id.clone(), config).await;
        if let Err(error) = made {
            let (this, pod, name) = (self.clone(), pod.clone(), id.clone());
            if let Err(left) = blocking(move || this.remove_files(&pod, &name)).await {
                tracing::error!("container {id}: what was begun is left: {left}");
            }
            return Err(error);
        }
        Ok(id)
    }

    async fn make_whole(
        self: &Arc<Self>,
        pod: &Arc<Pod>,
        id: String,
        config: ContainerConfig,
    ) -> Result<()> {
        let shim = self.shim_of(pod).await?;
        let (this, own) = (self.clone(), pod.clone());
        let prepared = blocking(move || this.prepare(&own, id, config)).await?;
        let Prepared { mut record, root } = prepared;
        let request = CreateRequest {
            id: record.id.clone(),
            bundle: pod.dir.container(&record.id).to_string_lossy().into_owned(),
            rootfs: Some(Rootfs::Descriptor(true)),
            log_path: record.log_path.clone(),
            stdin: record.config.stdin,
            stdin_once: record.config.stdin_once,
            log_line_limit: self.live.get().container.log_line_bytes,
        };
        let created: CreateResponse = shim.call_with("Create", &request, Some(root), None).await?;
        record.phase = Phase::Made;
        record.created_at = created.created_at;
        let (path, written) = (container_file(pod, &record.id), record.clone());
        let kept = blocking(move || record::write(&path, &written)).await;
        if let Err(error) = kept {
            let request = delete_request(&record.id);
            shim.call::<Exit>("Delete", &request, Some(PATIENCE))
                .await?;
            return Err(error);
        }
        let container = Arc::new(Container::new(record, pod.clone()));
        container.change(|now| now.pid = created.pid);
        self.add_container(container.clone());
        self.tell(
            ContainerEventType::ContainerCreatedEvent,
            &container,
            created.created_at,
        );
        tracing::info!("container {} is created", container.id);
        Ok(())
    }

    /// Everything before the shim: image, facts, configuration, files.
    fn prepare(&self, pod: &Pod, id: String, config: ContainerConfig) -> Result<Prepared> {
        let (name, settings) = (
            config.image.clone().unwrap_or_default().image,
            self.live.get(),
        );
        let entry = self.image(&name, "config.image.image")?;
        let image = self.images.store().image(&entry.stored[0].manifest)?;
        let process = gather::image_process(&image);
        let (stop_signal, stop_name) = signals::stop(config.stop_signal, &process.stop_signal)?;
        let log_path = validate::log_path(&pod.record.config, &config);
        let mut facts = self.facts(pod, &id, &config)?;
        let user = self.user_namespace(pod)?;
        let volumes = self.volumes(&config)?;
        let mut held = image.layers.clone();
        held.extend(volumes.iter().flatten().flat_map(|(_, layers)| layers));
        self.images.store().hold(&lease(&id), &held)?;
        let layer = self.layer_dir(&id);
        make_dir(&layer, 0o700)?;
        let owner = user.as_ref().map(|(namespace, ids)| (namespace, *ids));
        let root = rootfs::writable(self.images.store(), &image.layers, &layer, owner)?;
        let security = security(&config);
        facts.user = accounts::resolve(&security, &process.user, &gather::accounts(root.as_fd())?)?;
        let dir = pod.dir.container(&id);
        make_dir(&dir, 0o700)?;
        let namespace = user.as_ref().map(|(namespace, _)| namespace);
        self.mount_volumes(&dir, &config, &volumes, (&mut facts, namespace))?;
        let config_json = spec::build(&Input {
            id: &id,
            pod_id: &pod.record.id,
            config: &config,
            pod: &pod.record.config,
            image: &process,
            capabilities: &settings.container.capabilities,
            facts: &facts,
        })?;
        record::write(&dir.join("config.json"), &config_json)?;
        // Only now, for nothing is made by a request that cannot be.
        for mount in facts.mounts.iter().filter(|mount| mount.is_missing) {
            make_dir(&mount.path, 0o755)?;
        }
        relabel_mounts(&config, &facts, config_json["linux"]["mountLabel"].as_str())?;
        if let Some(parent) = log_path.as_deref().and_then(Path::parent) {
            make_dir(parent, 0o755)?;
        }
        let record = record::Container {
            pod: pod.record.id.clone(),
            created_at: time::now(),
            phase: Phase::Making,
            image: entry.id.to_string(),
            image_digest: gather::digest_of(&entry),
            volumes: volumes
                .into_iter()
                .map(|v| v.map(|(id, _)| id).unwrap_or_default())
                .collect(),
            stop_signal,
            stop_signal_name: stop_name.into(),
            user: LinuxContainerUser {
                uid: facts.user.uid.into(),
                gid: facts.user.gid.into(),
                supplemental_groups: facts
                    .user
                    .groups
                    .iter()
                    .map(|gid| i64::from(*gid))
                    .collect(),
            },
            log_path: log_path.unwrap_or_default().to_string_lossy().into_owned(),
            config,
            id,
        };
        record::write(&container_file(pod, &record.id), &record)?;
        Ok(Prepared { record, root })
    }

    fn image(&self, name: &str, field: &str) -> Result<Entry> {
        self.images.find(name)?.ok_or_else(|| {
            let text = format!("{field}: image {name:?} is not here");
            Error::new(Kind::NotFound, text)
        })
    }

    /// What can be told before there is a root file system.
    fn facts(&self, pod: &Pod, id: &str, config: &ContainerConfig) -> Result<Facts> {
        let (security, settings) = (security(config), self.live.get());
        let now = pod.now();
        let pod_security = pod
            .record
            .config
            .linux
            .as_ref()
            .and_then(|l| l.security_context.as_ref());
        if security.privileged && !pod_security.is_some_and(|context| context.privileged) {
            let text = "the pod is not privileged";
            return Err(invalid("config.linux.security_context.privileged", text));
        }
        let (edits, mut devices) = gather::cdi(config, &settings.container.cdi_dirs)?;
        devices.extend(gather::devices(&config.devices)?);
        let is_confined = !security.privileged;
        let seccomp = gather::seccomp(&security, &settings.container.seccomp_profile)?;
        let default = &settings.container.apparmor_profile;
        let apparmor = apparmor::profile(&security, default, &self.host)?;
        let shm = match now.namespaces.shm.as_str() {
            "" => "/dev/shm",
            path => path,
        };
        let files = sandbox::FILES.iter();
        Ok(Facts {
            namespaces: Namespaces {
                pid: self.pid_namespace(pod, config)?,
                network: now.namespaces.network.clone(),
                ipc: now.namespaces.ipc.clone(),
                uts: now.namespaces.uts.clone(),
                user: now.namespaces.user.clone(),
            },
            root: rootfs::place(&settings.state),
            shm: PathBuf::from(shm),
            files: files
                .map(|(name, target)| ((*target).to_owned(), pod.dir.path().join(name)))
                .collect(),
            hostname: sandbox::hostname(&pod.record.config, pod.modes),
            mounts: gather::mounts(config)?,
            devices,
            all_devices: if security.privileged {
                gather::all_devices()?
            } else {
                Vec::new()
            },
            edits,
            seccomp: seccomp.filter(|_| is_confined),
            apparmor: apparmor.filter(|_| is_confined),
            has_selinux: self.host.has_selinux,
            capabilities: self.host.capabilities.clone(),
            has_swap: self.host.has_swap,
            is_unified: self.host.is_unified,
            least_oom_score: self.host.least_oom_score,
            cgroups_path: self.cgroups_path(&pod.record.config, id),
            init: settings.init(&pod.record.handler).to_owned(),
            ..Facts::default()
        })
    }

    /// The path of the PID namespace that a container joins; empty for one of its own.
    fn pid_namespace(&self, pod: &Pod, config: &ContainerConfig) -> Result<String> {
        let at = "config.linux.security_context.namespace_options";
        let options = security(config).namespace_options;
        let modes = spec::modes(options.as_ref(), at)?;
        if modes.user && !pod.modes.user {
            let text = "the pod has no user namespace of its own";
            return Err(invalid(format!("{at}.userns_options"), text));
        }
        match (modes.pid, pod.modes.pid) {
            (NamespaceMode::Target, _) => {
                let field = format!("{at}.target_id");
                let target = self.container(&options.unwrap_or_default().target_id, &field)?;
                let now = target.now();
                if target.pod.record.id != pod.record.id
                    || now.state != ContainerState::ContainerRunning
                {
                    let text = "is not a running container of this pod";
                    return Err(invalid(field, text));
                }
                Ok(format!("/proc/{}/ns/pid", now.pid))
            }
            (NamespaceMode::Node, _) | (NamespaceMode::Pod, NamespaceMode::Node) => {
                Ok(HOST_PID.to_owned())
            }
            (NamespaceMode::Pod, NamespaceMode::Pod) => Ok(pod.now().namespaces.pid),
            _ => Ok(String::new()),
        }
    }

    /// The pod's user namespace, and the host's ids of its root.
    fn user_namespace(&self, pod: &Pod) -> Result<Option<(OwnedFd, (u32, u32))>> {
        let path = pod.now().namespaces.user;
        if path.is_empty() {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let namespace =
            rustix::fs::open(&path, flags, Mode::empty()).call(|| format!("open {path:?}"))?;
        let linux = pod.record.config.linux.clone().unwrap_or_default();
        let options = linux.security_context.and_then(|c| c.namespace_options);
        let user = options.and_then(|o| o.userns_options).unwrap_or_default();
        let first = |maps: &[crate::api::IdMapping]| maps.first().map_or(0, |map| map.host_id);
        Ok(Some((namespace, (first(&user.uids), first(&user.gids)))))
    }

    /// The images of image volumes, by the place of the mount: id and layers.
    fn volumes(&self, config: &ContainerConfig) -> Result<Vec<Option<Volume>>> {
        let find = |(index, mount): (usize, &crate::api::Mount)| {
            let Some(image) = &mount.image else {
                return Ok(None);
            };
            let field = format!("config.mounts[{index}].image.image");
            let entry = self.image(&image.image, &field)?;
            let image = self.images.store().image(&entry.stored[0].manifest)?;
            Ok(Some((entry.id.to_string(), image.layers)))
        };
        config.mounts.iter().enumerate().map(find).collect()
    }

    fn mount_volumes(
        &self,
        dir: &Path,
        config: &ContainerConfig,
        volumes: &[Option<Volume>],
        (facts, user): (&mut Facts, Option<&OwnedFd>),
    ) -> Result<()> {
        for (index, volume) in volumes.iter().enumerate() {
            let Some((_, layers)) = volume else {
                continue;
            };
            let target = dir.join("images").join(index.to_string());
            let sub = &config.mounts[index].image_sub_path;
            let source = rootfs::volume(self.images.store(), layers, &target, sub, user);
            facts.mounts[index].path =
                source.map_err(|e| e.at(format!("config.mounts[{index}]")))?;
        }
        Ok(())
    }
}

/// Gives volumes the label of the container that asks for it; without SELinux there is none, and nothing to do.
fn relabel_mounts(config: &ContainerConfig, facts: &Facts, label: Option<&str>) -> Result<()> {
    let Some(label) = label else {
        return Ok(());
    };
    let mounts = config.mounts.iter().zip(&facts.mounts).enumerate();
    for (index, (_, source)) in mounts.filter(|(_, (mount, _))| mount.selinux_relabel) {
        let field = format!("config.mounts[{index}].selinux_relabel");
        relabel::check(&source.path, &field)?;
        let done = relabel::relabel(&source.path, relabel::ATTRIBUTE, label);
        done.map_err(|error| error.at(field))?;
    }
    Ok(())
}

fn security(config: &ContainerConfig) -> crate::api::LinuxContainerSecurityContext {
    let linux = config.linux.clone().unwrap_or_default();
    linux.security_context.unwrap_or_default()
}

/// Whether a container is what is asked for; its limits may have changed since.
fn is_same(known: &ContainerConfig, wanted: &ContainerConfig) -> bool {
    let without_limits = |config: &ContainerConfig| {
        let mut config = config.clone();
        let linux = config.linux.get_or_insert_default();
        linux.resources = None;
        config
    };
    without_limits(known) == without_limits(wanted)
}

fn taken_by(container: &Container) -> Error {
    let now = container.now();
    let metadata = now.record.config.metadata.unwrap_or_default();
    let text = format!(
        "config.metadata: container {:?}, attempt {}, is there already, as {} ({})",
        metadata.name,
        metadata.attempt,
        container.id,
        word(now.state)
    );
    Error::new(Kind::AlreadyExists, text)
}
