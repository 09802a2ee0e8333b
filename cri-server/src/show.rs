//! Pods and containers in the interface's words.

use crate::api;
use crate::api::{ContainerState, PodSandboxState};
use crate::pods::{Container, ContainerNow, Pod};
use ocirun_shim::wire::Exit;

fn pod_state(pod: &Pod) -> PodSandboxState {
    if pod.now().is_stopped {
        PodSandboxState::SandboxNotready
    } else {
        PodSandboxState::SandboxReady
    }
}

/// A pod in a list.
#[must_use]
pub fn pod(pod: &Pod) -> api::PodSandbox {
    let record = &pod.record;
    api::PodSandbox {
        id: record.id.clone(),
        metadata: record.config.metadata.clone(),
        state: pod_state(pod).into(),
        created_at: record.created_at,
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
        runtime_handler: record.handler.clone(),
    }
}

/// A pod in full.
#[must_use]
pub fn pod_status(pod: &Pod) -> api::PodSandboxStatus {
    let record = &pod.record;
    let linux = record.config.linux.as_ref();
    let security = linux.and_then(|linux| linux.security_context.as_ref());
    let options = security.and_then(|context| context.namespace_options.clone());
    api::PodSandboxStatus {
        id: record.id.clone(),
        metadata: record.config.metadata.clone(),
        state: pod_state(pod).into(),
        created_at: record.created_at,
        network: Some(network(pod)),
        linux: Some(api::LinuxPodSandboxStatus {
            namespaces: Some(api::Namespace {
                options: Some(options.unwrap_or_default()),
            }),
        }),
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
        runtime_handler: record.handler.clone(),
    }
}

/// The addresses of a pod; none on the host's network, whose kubelet knows.
fn network(pod: &Pod) -> api::PodSandboxNetworkStatus {
    let addresses = pod.now().addresses;
    let mut addresses = addresses.iter().map(ToString::to_string);
    api::PodSandboxNetworkStatus {
        ip: addresses.next().unwrap_or_default(),
        additional_ips: addresses.map(|ip| api::PodIp { ip }).collect(),
    }
}

/// The image of a container as it is told: what the request named, under the image's id.
fn image(now: &ContainerNow) -> api::ImageSpec {
    let wanted = now.record.config.image.clone().unwrap_or_default();
    let named = if wanted.user_specified_image.is_empty() {
        wanted.image.clone()
    } else {
        wanted.user_specified_image.clone()
    };
    api::ImageSpec {
        image: named,
        ..wanted
    }
}

/// A container in a list.
#[must_use]
pub fn container(container: &Container) -> api::Container {
    let now = container.now();
    api::Container {
        id: container.id.clone(),
        pod_sandbox_id: container.pod.record.id.clone(),
        metadata: now.record.config.metadata.clone(),
        image: Some(image(&now)),
        image_ref: now.record.image.clone(),
        state: now.state.into(),
        created_at: now.record.created_at,
        labels: now.record.config.labels.clone(),
        annotations: now.record.config.annotations.clone(),
        image_id: now.record.image.clone(),
    }
}

/// A container in full.
#[must_use]
pub fn container_status(container: &Container) -> api::ContainerStatus {
    let now = container.now();
    let exit = now.exit.clone().unwrap_or_default();
    let has_ended = now.state == ContainerState::ContainerExited;
    let (reason, message) = if has_ended { reason(&exit) } else { ("", "") };
    let config = &now.record.config;
    let resources = config
        .linux
        .as_ref()
        .and_then(|linux| linux.resources.clone());
    api::ContainerStatus {
        id: container.id.clone(),
        metadata: config.metadata.clone(),
        state: now.state.into(),
        created_at: now.record.created_at,
        started_at: now.started_at,
        finished_at: if has_ended { exit.exited_at } else { 0 },
        exit_code: if has_ended { exit.code } else { 0 },
        image: Some(image(&now)),
        image_ref: now.record.image.clone(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        mounts: mounts(&now),
        log_path: now.record.log_path.clone(),
        resources: resources.map(|linux| api::ContainerResources {
            linux: Some(linux),
            windows: None,
        }),
        image_id: now.record.image.clone(),
        user: Some(api::ContainerUser {
            linux: Some(now.record.user.clone()),
        }),
        stop_signal: now.record.stop_signal_name,
    }
}

/// The mounts that were asked for; an image volume tells which image it is.
fn mounts(now: &ContainerNow) -> Vec<api::Mount> {
    let mut mounts = now.record.config.mounts.clone();
    for (mount, id) in mounts.iter_mut().zip(&now.record.volumes) {
        if let Some(image) = &mut mount.image {
            image.image_ref.clone_from(id);
        }
    }
    mounts
}

/// How a container ended, by the words that kubelet knows.
fn reason(exit: &Exit) -> (&'static str, &'static str) {
    match exit {
        Exit { unknown: true, .. } => (
            "ContainerStatusUnknown",
            "nobody was there to see how the container ended",
        ),
        Exit {
            oom: true, code, ..
        } if *code != 0 => ("OOMKilled", ""),
        Exit { code: 0, .. } => ("Completed", ""),
        _ => ("Error", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons() {
        let exit = |code, oom, unknown| Exit {
            code,
            oom,
            unknown,
            ..Exit::default()
        };
        assert_eq!(reason(&exit(0, false, false)).0, "Completed");
        assert_eq!(reason(&exit(0, true, false)).0, "Completed");
        assert_eq!(reason(&exit(1, false, false)).0, "Error");
        assert_eq!(reason(&exit(137, true, false)).0, "OOMKilled");
        assert_eq!(reason(&exit(255, false, true)).0, "ContainerStatusUnknown");
    }
}
