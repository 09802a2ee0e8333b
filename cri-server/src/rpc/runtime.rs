//! The calls of the runtime service, each led to where it is answered.

use super::{Answers, Service, answer, containers, pods, status};
use crate::api;
use crate::api::runtime_service_server::RuntimeService;
use crate::error::Result;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl RuntimeService for Service {
    type StreamPodSandboxesStream = Answers<api::StreamPodSandboxesResponse>;
    type StreamContainersStream = Answers<api::StreamContainersResponse>;
    type StreamContainerStatsStream = Answers<api::StreamContainerStatsResponse>;
    type StreamPodSandboxStatsStream = Answers<api::StreamPodSandboxStatsResponse>;
    type GetContainerEventsStream = Answers<api::ContainerEventResponse>;
    type StreamPodSandboxMetricsStream = Answers<api::StreamPodSandboxMetricsResponse>;

    async fn version(
        &self,
        request: Request<api::VersionRequest>,
    ) -> Result<Response<api::VersionResponse>, Status> {
        answer("Version", status::version(self, request.into_inner())).await
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<api::RunPodSandboxRequest>,
    ) -> Result<Response<api::RunPodSandboxResponse>, Status> {
        answer("RunPodSandbox", pods::run(self, request.into_inner())).await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<api::StopPodSandboxRequest>,
    ) -> Result<Response<api::StopPodSandboxResponse>, Status> {
        answer("StopPodSandbox", pods::stop(self, request.into_inner())).await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<api::RemovePodSandboxRequest>,
    ) -> Result<Response<api::RemovePodSandboxResponse>, Status> {
        answer("RemovePodSandbox", pods::remove(self, request.into_inner())).await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<api::PodSandboxStatusRequest>,
    ) -> Result<Response<api::PodSandboxStatusResponse>, Status> {
        answer("PodSandboxStatus", pods::status(self, request.into_inner())).await
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<api::ListPodSandboxRequest>,
    ) -> Result<Response<api::ListPodSandboxResponse>, Status> {
        answer("ListPodSandbox", pods::list(self, request.into_inner())).await
    }

    async fn stream_pod_sandboxes(
        &self,
        request: Request<api::StreamPodSandboxesRequest>,
    ) -> Result<Response<Self::StreamPodSandboxesStream>, Status> {
        answer(
            "StreamPodSandboxes",
            pods::stream(self, request.into_inner()),
        )
        .await
    }

    async fn create_container(
        &self,
        request: Request<api::CreateContainerRequest>,
    ) -> Result<Response<api::CreateContainerResponse>, Status> {
        answer(
            "CreateContainer",
            containers::create(self, request.into_inner()),
        )
        .await
    }

    async fn start_container(
        &self,
        request: Request<api::StartContainerRequest>,
    ) -> Result<Response<api::StartContainerResponse>, Status> {
        answer(
            "StartContainer",
            containers::start(self, request.into_inner()),
        )
        .await
    }

    async fn stop_container(
        &self,
        request: Request<api::StopContainerRequest>,
    ) -> Result<Response<api::StopContainerResponse>, Status> {
        answer(
            "StopContainer",
            containers::stop(self, request.into_inner()),
        )
        .await
    }

    async fn remove_container(
        &self,
        request: Request<api::RemoveContainerRequest>,
    ) -> Result<Response<api::RemoveContainerResponse>, Status> {
        answer(
            "RemoveContainer",
            containers::remove(self, request.into_inner()),
        )
        .await
    }

    async fn list_containers(
        &self,
        request: Request<api::ListContainersRequest>,
    ) -> Result<Response<api::ListContainersResponse>, Status> {
        answer(
            "ListContainers",
            containers::list(self, request.into_inner()),
        )
        .await
    }

    async fn stream_containers(
        &self,
        request: Request<api::StreamContainersRequest>,
    ) -> Result<Response<Self::StreamContainersStream>, Status> {
        answer(
            "StreamContainers",
            containers::stream(self, request.into_inner()),
        )
        .await
    }

    async fn container_status(
        &self,
        request: Request<api::ContainerStatusRequest>,
    ) -> Result<Response<api::ContainerStatusResponse>, Status> {
        answer(
            "ContainerStatus",
            containers::status(self, request.into_inner()),
        )
        .await
    }

    async fn update_container_resources(
        &self,
        request: Request<api::UpdateContainerResourcesRequest>,
    ) -> Result<Response<api::UpdateContainerResourcesResponse>, Status> {
        answer(
            "UpdateContainerResources",
            containers::update(self, request.into_inner()),
        )
        .await
    }

    async fn reopen_container_log(
        &self,
        request: Request<api::ReopenContainerLogRequest>,
    ) -> Result<Response<api::ReopenContainerLogResponse>, Status> {
        answer(
            "ReopenContainerLog",
            containers::reopen_log(self, request.into_inner()),
        )
        .await
    }

    async fn exec_sync(
        &self,
        request: Request<api::ExecSyncRequest>,
    ) -> Result<Response<api::ExecSyncResponse>, Status> {
        answer(
            "ExecSync",
            containers::exec_sync(self, request.into_inner()),
        )
        .await
    }

    async fn exec(
        &self,
        request: Request<api::ExecRequest>,
    ) -> Result<Response<api::ExecResponse>, Status> {
        answer("Exec", containers::exec(self, request.into_inner())).await
    }

    async fn attach(
        &self,
        request: Request<api::AttachRequest>,
    ) -> Result<Response<api::AttachResponse>, Status> {
        answer("Attach", containers::attach(self, request.into_inner())).await
    }

    async fn port_forward(
        &self,
        request: Request<api::PortForwardRequest>,
    ) -> Result<Response<api::PortForwardResponse>, Status> {
        answer(
            "PortForward",
            pods::port_forward(self, request.into_inner()),
        )
        .await
    }

    async fn container_stats(
        &self,
        request: Request<api::ContainerStatsRequest>,
    ) -> Result<Response<api::ContainerStatsResponse>, Status> {
        answer(
            "ContainerStats",
            containers::stats(self, request.into_inner()),
        )
        .await
    }

    async fn list_container_stats(
        &self,
        request: Request<api::ListContainerStatsRequest>,
    ) -> Result<Response<api::ListContainerStatsResponse>, Status> {
        answer(
            "ListContainerStats",
            containers::list_stats(self, request.into_inner()),
        )
        .await
    }

    async fn stream_container_stats(
        &self,
        request: Request<api::StreamContainerStatsRequest>,
    ) -> Result<Response<Self::StreamContainerStatsStream>, Status> {
        answer(
            "StreamContainerStats",
            containers::stream_stats(self, request.into_inner()),
        )
        .await
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<api::PodSandboxStatsRequest>,
    ) -> Result<Response<api::PodSandboxStatsResponse>, Status> {
        answer("PodSandboxStats", pods::stats(self, request.into_inner())).await
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<api::ListPodSandboxStatsRequest>,
    ) -> Result<Response<api::ListPodSandboxStatsResponse>, Status> {
        answer(
            "ListPodSandboxStats",
            pods::list_stats(self, request.into_inner()),
        )
        .await
    }

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<api::StreamPodSandboxStatsRequest>,
    ) -> Result<Response<Self::StreamPodSandboxStatsStream>, Status> {
        answer(
            "StreamPodSandboxStats",
            pods::stream_stats(self, request.into_inner()),
        )
        .await
    }

    async fn update_runtime_config(
        &self,
        request: Request<api::UpdateRuntimeConfigRequest>,
    ) -> Result<Response<api::UpdateRuntimeConfigResponse>, Status> {
        answer(
            "UpdateRuntimeConfig",
            status::update_runtime_config(self, request.into_inner()),
        )
        .await
    }

    async fn status(
        &self,
        request: Request<api::StatusRequest>,
    ) -> Result<Response<api::StatusResponse>, Status> {
        answer("Status", status::status(self, request.into_inner())).await
    }

    async fn checkpoint_container(
        &self,
        _: Request<api::CheckpointContainerRequest>,
    ) -> Result<Response<api::CheckpointContainerResponse>, Status> {
        answer(
            "CheckpointContainer",
            super::not_here("CheckpointContainer"),
        )
        .await
    }

    async fn get_container_events(
        &self,
        request: Request<api::GetEventsRequest>,
    ) -> Result<Response<Self::GetContainerEventsStream>, Status> {
        answer(
            "GetContainerEvents",
            containers::events(self, request.into_inner()),
        )
        .await
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<api::ListMetricDescriptorsRequest>,
    ) -> Result<Response<api::ListMetricDescriptorsResponse>, Status> {
        answer("ListMetricDescriptors", pods::metric_descriptors()).await
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<api::ListPodSandboxMetricsRequest>,
    ) -> Result<Response<api::ListPodSandboxMetricsResponse>, Status> {
        answer("ListPodSandboxMetrics", pods::metrics(self)).await
    }

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<api::StreamPodSandboxMetricsRequest>,
    ) -> Result<Response<Self::StreamPodSandboxMetricsStream>, Status> {
        answer("StreamPodSandboxMetrics", pods::stream_metrics(self)).await
    }

    async fn runtime_config(
        &self,
        request: Request<api::RuntimeConfigRequest>,
    ) -> Result<Response<api::RuntimeConfigResponse>, Status> {
        answer(
            "RuntimeConfig",
            status::runtime_config(self, request.into_inner()),
        )
        .await
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<api::UpdatePodSandboxResourcesRequest>,
    ) -> Result<Response<api::UpdatePodSandboxResourcesResponse>, Status> {
        answer(
            "UpdatePodSandboxResources",
            pods::update(self, request.into_inner()),
        )
        .await
    }
}
