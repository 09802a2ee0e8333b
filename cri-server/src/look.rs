//! `ocirun-cri status`: what a running daemon says of itself, for people.

use crate::api::image_service_client::ImageServiceClient;
use crate::api::runtime_service_client::RuntimeServiceClient;
use crate::api::{
    ContainerState, ImageFsInfoRequest, ListContainersRequest, ListImagesRequest,
    ListPodSandboxRequest, PodSandboxState, RuntimeCondition, StatusRequest, VersionRequest,
};
use crate::error::{Error, Kind, Result};
use std::fmt::Write as _;
use std::path::Path;
use tonic::transport::{Channel, Endpoint};

/// Asks the daemon at `socket`, and tells a line of each: version, conditions, pods, containers, images. The second value
/// is whether it can run pods.
///
/// # Errors
/// `Unavailable` where nobody answers, and those of the daemon.
pub async fn status(socket: &Path) -> Result<(String, bool)> {
    let channel = connect(socket).await?;
    let mut runtime = RuntimeServiceClient::new(channel.clone());
    let mut images = ImageServiceClient::new(channel);
    let version = runtime.version(VersionRequest::default());
    let version = version.await.map_err(failed)?.into_inner();
    let status = runtime.status(StatusRequest::default());
    let status = status.await.map_err(failed)?.into_inner();
    let pods = runtime.list_pod_sandbox(ListPodSandboxRequest::default());
    let pods = pods.await.map_err(failed)?.into_inner().items;
    let containers = runtime.list_containers(ListContainersRequest::default());
    let containers = containers.await.map_err(failed)?.into_inner().containers;
    let listed = images.list_images(ListImagesRequest::default());
    let listed = listed.await.map_err(failed)?.into_inner().images;
    let usage = images.image_fs_info(ImageFsInfoRequest::default());
    let usage = usage.await.map_err(failed)?.into_inner();

    let mut text = format!(
        "{} {} at {}\n",
        version.runtime_name,
        version.runtime_version,
        socket.display()
    );
    let conditions = status.status.unwrap_or_default().conditions;
    for condition in &conditions {
        line(&mut text, &condition.r#type, &told(condition));
    }
    let ready = pods
        .iter()
        .filter(|pod| pod.state == PodSandboxState::SandboxReady as i32)
        .count();
    let words = format!("{ready} ready, {} stopped", pods.len() - ready);
    line(&mut text, "pods", &words);
    let states = [
        ("running", ContainerState::ContainerRunning),
        ("created", ContainerState::ContainerCreated),
        ("exited", ContainerState::ContainerExited),
        ("unknown", ContainerState::ContainerUnknown),
    ];
    let count = |state: ContainerState| {
        let of_state = containers.iter().filter(|c| c.state == state as i32);
        of_state.count()
    };
    let words = states.map(|(word, state)| format!("{} {word}", count(state)));
    line(&mut text, "containers", &words.join(", "));
    let bytes: u64 = usage
        .image_filesystems
        .iter()
        .filter_map(|system| system.used_bytes.as_ref())
        .map(|used| used.value)
        .sum();
    let words = format!("{}, {} MB", listed.len(), bytes / 1_000_000);
    line(&mut text, "images", &words);
    let is_ready = |c: &RuntimeCondition| c.r#type != "RuntimeReady" || c.status;
    Ok((text, conditions.iter().all(is_ready)))
}

fn line(text: &mut String, name: &str, words: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{name:<14}{words}");
}

fn told(condition: &RuntimeCondition) -> String {
    if condition.status {
        return "yes".to_owned();
    }
    let parts = ["no", &condition.reason, &condition.message];
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(": ")
}

async fn connect(socket: &Path) -> Result<Channel> {
    let refused = |error: tonic::transport::Error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        let cause = cause.unwrap_or_else(|| error.to_string());
        let text = format!("connect {socket:?}: {cause}; does the daemon run?");
        Error::new(Kind::Unavailable, text)
    };
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()));
    endpoint.map_err(refused)?.connect().await.map_err(refused)
}

fn failed(status: tonic::Status) -> Error {
    Error::new(Kind::Failed, status.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_in_words() {
        let condition = |status, reason: &str, message: &str| RuntimeCondition {
            status,
            reason: reason.to_owned(),
            message: message.to_owned(),
            ..RuntimeCondition::default()
        };
        for (condition, words) in [
            (condition(true, "", ""), "yes"),
            (condition(false, "Why", "because"), "no: Why: because"),
            (condition(false, "", "because"), "no: because"),
        ] {
            assert_eq!(told(&condition), words);
        }
    }
}
