//! Calls about containers.

use super::{Answers, Service, chunks, labels_match};
use crate::api;
use crate::api::{ContainerFilter, ContainerState};
use crate::error::{Context, Error, Kind, Result, invalid};
use crate::images::blocking;
use crate::pods::Container;
use crate::show;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::BroadcastStream;
use tonic::Status;

pub(super) async fn create(
    service: &Service,
    request: api::CreateContainerRequest,
) -> Result<api::CreateContainerResponse> {
    let config = request
        .config
        .ok_or_else(|| invalid("config", "is not set"))?;
    let id = &request.pod_sandbox_id;
    let container_id = service.pods.create_container(id, config).await?;
    Ok(api::CreateContainerResponse { container_id })
}

pub(super) async fn start(
    service: &Service,
    request: api::StartContainerRequest,
) -> Result<api::StartContainerResponse> {
    service.pods.start_container(&request.container_id).await?;
    Ok(api::StartContainerResponse {})
}

pub(super) async fn stop(
    service: &Service,
    request: api::StopContainerRequest,
) -> Result<api::StopContainerResponse> {
    service
        .pods
        .stop_container(&request.container_id, request.timeout)
        .await?;
    Ok(api::StopContainerResponse {})
}

pub(super) async fn remove(
    service: &Service,
    request: api::RemoveContainerRequest,
) -> Result<api::RemoveContainerResponse> {
    service.pods.remove_container(&request.container_id).await?;
    Ok(api::RemoveContainerResponse {})
}

pub(super) async fn update(
    service: &Service,
    request: api::UpdateContainerResourcesRequest,
) -> Result<api::UpdateContainerResourcesResponse> {
    if request.windows.is_some() {
        return Err(invalid("windows", "is for another system"));
    }
    let wanted = request
        .linux
        .ok_or_else(|| invalid("linux", "is not set"))?;
    service
        .pods
        .update_container(&request.container_id, wanted)
        .await?;
    Ok(api::UpdateContainerResourcesResponse {})
}

pub(super) async fn reopen_log(
    service: &Service,
    request: api::ReopenContainerLogRequest,
) -> Result<api::ReopenContainerLogResponse> {
    service.pods.reopen_log(&request.container_id).await?;
    Ok(api::ReopenContainerLogResponse {})
}

pub(super) async fn exec(
    service: &Service,
    request: api::ExecRequest,
) -> Result<api::ExecResponse> {
    let url = service.streaming.exec(request).await?;
    Ok(api::ExecResponse { url })
}

pub(super) async fn attach(
    service: &Service,
    request: api::AttachRequest,
) -> Result<api::AttachResponse> {
    let url = service.streaming.attach(&request)?;
    Ok(api::AttachResponse { url })
}

pub(super) async fn exec_sync(
    service: &Service,
    request: api::ExecSyncRequest,
) -> Result<api::ExecSyncResponse> {
    let api::ExecSyncRequest {
        container_id,
        cmd,
        timeout,
    } = request;
    service.pods.exec_sync(&container_id, cmd, timeout).await
}

pub(super) async fn status(
    service: &Service,
    request: api::ContainerStatusRequest,
) -> Result<api::ContainerStatusResponse> {
    let container = service
        .pods
        .container(&request.container_id, "container_id")?;
    let mut info = HashMap::new();
    if request.verbose {
        let path = container.dir().join("config.json");
        let spec: Value = blocking(move || {
            let text = std::fs::read(&path).call(|| format!("read {path:?}"))?;
            serde_json::from_slice(&text)
                .map_err(|e| Error::new(Kind::Failed, format!("{path:?}: {e}")))
        })
        .await?;
        let now = container.now();
        let text = json!({
            "sandboxID": container.pod.record.id,
            "pid": now.pid,
            "removing": now.is_leaving,
            "snapshotter": "overlay",
            "config": now.record.config,
            "runtimeSpec": spec,
        });
        info.insert("info".to_owned(), text.to_string());
    }
    Ok(api::ContainerStatusResponse {
        status: Some(show::container_status(&container)),
        info,
    })
}

pub(super) async fn list(
    service: &Service,
    request: api::ListContainersRequest,
) -> Result<api::ListContainersResponse> {
    Ok(api::ListContainersResponse {
        containers: listed(service, request.filter)?,
    })
}

pub(super) async fn stream(
    service: &Service,
    request: api::StreamContainersRequest,
) -> Result<Answers<api::StreamContainersResponse>> {
    let containers = listed(service, request.filter)?;
    Ok(chunks(containers, |containers| {
        api::StreamContainersResponse { containers }
    }))
}

fn listed(service: &Service, filter: Option<ContainerFilter>) -> Result<Vec<api::Container>> {
    let filter = filter.unwrap_or_default();
    let state = match filter.state {
        None => None,
        Some(value) => Some(ContainerState::try_from(value.state).map_err(|_| {
            invalid(
                "filter.state.state",
                format!("{} is not a state", value.state),
            )
        })?),
    };
    let found = matching(
        service,
        (&filter.id, &filter.pod_sandbox_id),
        &filter.label_selector,
    )?;
    let mut shown = found.iter().map(|c| show::container(c)).collect::<Vec<_>>();
    shown.retain(|container| state.is_none_or(|state| container.state() == state));
    Ok(shown)
}

/// Containers by the beginning of their ids and their pods', and labels.
fn matching(
    service: &Service,
    (id, pod): (&str, &str),
    labels: &HashMap<String, String>,
) -> Result<Vec<Arc<Container>>> {
    for (field, id) in [("filter.id", id), ("filter.pod_sandbox_id", pod)] {
        if !id.is_empty() {
            crate::validate::id(id, field)?;
        }
    }
    let mut all = service.pods.containers();
    all.retain(|container| {
        container.id.starts_with(id)
            && container.pod.record.id.starts_with(pod)
            && container.change(|now| labels_match(&now.record.config.labels, labels))
    });
    Ok(all)
}

pub(super) async fn stats(
    service: &Service,
    request: api::ContainerStatsRequest,
) -> Result<api::ContainerStatsResponse> {
    let container = service
        .pods
        .container(&request.container_id, "container_id")?;
    let stats = service.pods.stats(&[container]).await?.pop();
    Ok(api::ContainerStatsResponse { stats })
}

pub(super) async fn list_stats(
    service: &Service,
    request: api::ListContainerStatsRequest,
) -> Result<api::ListContainerStatsResponse> {
    let stats = all_stats(service, request.filter).await?;
    Ok(api::ListContainerStatsResponse { stats })
}

pub(super) async fn stream_stats(
    service: &Service,
    request: api::StreamContainerStatsRequest,
) -> Result<Answers<api::StreamContainerStatsResponse>> {
    let stats = all_stats(service, request.filter).await?;
    Ok(chunks(stats, |container_stats| {
        api::StreamContainerStatsResponse { container_stats }
    }))
}

/// Of containers that run: the others use nothing that anybody asks for.
async fn all_stats(
    service: &Service,
    filter: Option<api::ContainerStatsFilter>,
) -> Result<Vec<api::ContainerStats>> {
    let filter = filter.unwrap_or_default();
    let ids = (filter.id.as_str(), filter.pod_sandbox_id.as_str());
    let mut found = matching(service, ids, &filter.label_selector)?;
    found.retain(|container| container.now().state == ContainerState::ContainerRunning);
    service.pods.stats(&found).await
}

pub(super) async fn events(
    service: &Service,
    _: api::GetEventsRequest,
) -> Result<Answers<api::ContainerEventResponse>> {
    let events = BroadcastStream::new(service.pods.events.listen());
    let events = events.map(|event| match event {
        Ok(event) => Ok((*event).clone()),
        Err(missed) => Err(Status::data_loss(format!("events were missed: {missed}"))),
    });
    Ok(Box::pin(events))
}
