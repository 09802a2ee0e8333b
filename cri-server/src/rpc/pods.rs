//! Calls about pods.

use super::{Answers, Service, chunks, labels_match};
use crate::api;
use crate::api::{PodSandboxFilter, PodSandboxState};
use crate::error::{Result, invalid};
use crate::pods::Pod;
use crate::record::PodResources;
use crate::{cadvisor, show, time};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;

pub(super) async fn run(
    service: &Service,
    request: api::RunPodSandboxRequest,
) -> Result<api::RunPodSandboxResponse> {
    let config = request
        .config
        .ok_or_else(|| invalid("config", "is not set"))?;
    let pod_sandbox_id = service
        .pods
        .run_pod(config, request.runtime_handler)
        .await?;
    Ok(api::RunPodSandboxResponse { pod_sandbox_id })
}

pub(super) async fn stop(
    service: &Service,
    request: api::StopPodSandboxRequest,
) -> Result<api::StopPodSandboxResponse> {
    service.pods.stop_pod(&request.pod_sandbox_id).await?;
    Ok(api::StopPodSandboxResponse {})
}

pub(super) async fn remove(
    service: &Service,
    request: api::RemovePodSandboxRequest,
) -> Result<api::RemovePodSandboxResponse> {
    service.pods.remove_pod(&request.pod_sandbox_id).await?;
    Ok(api::RemovePodSandboxResponse {})
}

pub(super) async fn update(
    service: &Service,
    request: api::UpdatePodSandboxResourcesRequest,
) -> Result<api::UpdatePodSandboxResourcesResponse> {
    let wanted = PodResources {
        overhead: request.overhead,
        resources: request.resources,
    };
    service
        .pods
        .update_pod(&request.pod_sandbox_id, wanted)
        .await?;
    Ok(api::UpdatePodSandboxResourcesResponse {})
}

pub(super) async fn port_forward(
    service: &Service,
    request: api::PortForwardRequest,
) -> Result<api::PortForwardResponse> {
    let url = service.streaming.port_forward(&request)?;
    Ok(api::PortForwardResponse { url })
}

pub(super) async fn status(
    service: &Service,
    request: api::PodSandboxStatusRequest,
) -> Result<api::PodSandboxStatusResponse> {
    let pod = service
        .pods
        .pod(&request.pod_sandbox_id, "pod_sandbox_id")?;
    let containers = service.pods.containers_of(&pod.record.id);
    let mut info = HashMap::new();
    if request.verbose {
        let now = pod.now();
        let text = json!({
            "sandboxID": pod.record.id,
            "pid": now.init_pid,
            "runtimeHandler": pod.record.handler,
            "namespaces": {
                "network": now.namespaces.network,
                "ipc": now.namespaces.ipc,
                "uts": now.namespaces.uts,
                "user": now.namespaces.user,
                "pid": now.namespaces.pid,
            },
            "config": pod.record.config,
            "overhead": now.resources.overhead,
            "resources": now.resources.resources,
        });
        info.insert("info".to_owned(), text.to_string());
    }
    Ok(api::PodSandboxStatusResponse {
        status: Some(show::pod_status(&pod)),
        info,
        containers_statuses: containers
            .iter()
            .map(|c| show::container_status(c))
            .collect(),
        timestamp: time::now(),
    })
}

pub(super) async fn list(
    service: &Service,
    request: api::ListPodSandboxRequest,
) -> Result<api::ListPodSandboxResponse> {
    Ok(api::ListPodSandboxResponse {
        items: listed(service, request.filter)?,
    })
}

pub(super) async fn stream(
    service: &Service,
    request: api::StreamPodSandboxesRequest,
) -> Result<Answers<api::StreamPodSandboxesResponse>> {
    let pods = listed(service, request.filter)?;
    Ok(chunks(pods, |pod_sandboxes| {
        api::StreamPodSandboxesResponse { pod_sandboxes }
    }))
}

fn listed(service: &Service, filter: Option<PodSandboxFilter>) -> Result<Vec<api::PodSandbox>> {
    let filter = filter.unwrap_or_default();
    let state = match filter.state {
        None => None,
        Some(value) => Some(PodSandboxState::try_from(value.state).map_err(|_| {
            invalid(
                "filter.state.state",
                format!("{} is not a state", value.state),
            )
        })?),
    };
    let mut shown = matching(service, &filter.id, &filter.label_selector)?
        .iter()
        .map(|pod| show::pod(pod))
        .collect::<Vec<_>>();
    shown.retain(|pod| state.is_none_or(|state| pod.state() == state));
    Ok(shown)
}

/// Pods by the beginning of their ids, and labels.
fn matching(
    service: &Service,
    id: &str,
    labels: &HashMap<String, String>,
) -> Result<Vec<Arc<Pod>>> {
    if !id.is_empty() {
        crate::validate::id(id, "filter.id")?;
    }
    let mut pods = service.pods.pods();
    pods.retain(|pod| {
        pod.record.id.starts_with(id) && labels_match(&pod.record.config.labels, labels)
    });
    Ok(pods)
}

pub(super) async fn stats(
    service: &Service,
    request: api::PodSandboxStatsRequest,
) -> Result<api::PodSandboxStatsResponse> {
    let pod = service
        .pods
        .pod(&request.pod_sandbox_id, "pod_sandbox_id")?;
    let stats = Some(service.pods.pod_stats(&pod).await?);
    Ok(api::PodSandboxStatsResponse { stats })
}

pub(super) async fn list_stats(
    service: &Service,
    request: api::ListPodSandboxStatsRequest,
) -> Result<api::ListPodSandboxStatsResponse> {
    let stats = all_stats(service, request.filter).await?;
    Ok(api::ListPodSandboxStatsResponse { stats })
}

pub(super) async fn stream_stats(
    service: &Service,
    request: api::StreamPodSandboxStatsRequest,
) -> Result<Answers<api::StreamPodSandboxStatsResponse>> {
    let stats = all_stats(service, request.filter).await?;
    Ok(chunks(stats, |pod_sandbox_stats| {
        api::StreamPodSandboxStatsResponse { pod_sandbox_stats }
    }))
}

pub(super) async fn metric_descriptors() -> Result<api::ListMetricDescriptorsResponse> {
    Ok(api::ListMetricDescriptorsResponse {
        descriptors: cadvisor::descriptors(),
    })
}

pub(super) async fn metrics(service: &Service) -> Result<api::ListPodSandboxMetricsResponse> {
    Ok(api::ListPodSandboxMetricsResponse {
        pod_metrics: service.pods.pod_metrics().await?,
    })
}

pub(super) async fn stream_metrics(
    service: &Service,
) -> Result<Answers<api::StreamPodSandboxMetricsResponse>> {
    let metrics = service.pods.pod_metrics().await?;
    Ok(chunks(metrics, |pod_sandbox_metrics| {
        api::StreamPodSandboxMetricsResponse {
            pod_sandbox_metrics,
        }
    }))
}

async fn all_stats(
    service: &Service,
    filter: Option<api::PodSandboxStatsFilter>,
) -> Result<Vec<api::PodSandboxStats>> {
    let filter = filter.unwrap_or_default();
    let mut all = Vec::new();
    for pod in matching(service, &filter.id, &filter.label_selector)? {
        if !pod.now().is_stopped {
            all.push(service.pods.pod_stats(&pod).await?);
        }
    }
    Ok(all)
}
