//! The calls of the runtime service, each led to where it is answered.

use super::{Answers, Service, answer, status};
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
        _: Request<api::RunPodSandboxRequest>,
    ) -> Result<Response<api::RunPodSandboxResponse>, Status> {
        answer("RunPodSandbox", super::not_here("RunPodSandbox")).await
    }

    async fn stop_pod_sandbox(
        &self,
        _: Request<api::StopPodSandboxRequest>,
    ) -> Result<Response<api::StopPodSandboxResponse>, Status> {
        answer("StopPodSandbox", super::not_here("StopPodSandbox")).await
    }

    async fn remove_pod_sandbox(
        &self,
        _: Request<api::RemovePodSandboxRequest>,
    ) -> Result<Response<api::RemovePodSandboxResponse>, Status> {
        answer("RemovePodSandbox", super::not_here("RemovePodSandbox")).await
    }

    async fn pod_sandbox_status(
        &self,
        _: Request<api::PodSandboxStatusRequest>,
    ) -> Result<Response<api::PodSandboxStatusResponse>, Status> {
        answer("PodSandboxStatus", super::not_here("PodSandboxStatus")).await
    }

    async fn list_pod_sandbox(
        &self,
        _: Request<api::ListPodSandboxRequest>,
    ) -> Result<Response<api::ListPodSandboxResponse>, Status> {
        answer("ListPodSandbox", super::not_here("ListPodSandbox")).await
    }

    async fn stream_pod_sandboxes(
        &self,
        _: Request<api::StreamPodSandboxesRequest>,
    ) -> Result<Response<Self::StreamPodSandboxesStream>, Status> {
        answer("StreamPodSandboxes", super::not_here("StreamPodSandboxes")).await
    }

    async fn create_container(
        &self,
        _: Request<api::CreateContainerRequest>,
    ) -> Result<Response<api::CreateContainerResponse>, Status> {
        answer("CreateContainer", super::not_here("CreateContainer")).await
    }

    async fn start_container(
        &self,
        _: Request<api::StartContainerRequest>,
    ) -> Result<Response<api::StartContainerResponse>, Status> {
        answer("StartContainer", super::not_here("StartContainer")).await
    }

    async fn stop_container(
        &self,
        _: Request<api::StopContainerRequest>,
    ) -> Result<Response<api::StopContainerResponse>, Status> {
        answer("StopContainer", super::not_here("StopContainer")).await
    }

    async fn remove_container(
        &self,
        _: Request<api::RemoveContainerRequest>,
    ) -> Result<Response<api::RemoveContainerResponse>, Status> {
        answer("RemoveContainer", super::not_here("RemoveContainer")).await
    }

    async fn list_containers(
        &self,
        _: Request<api::ListContainersRequest>,
    ) -> Result<Response<api::ListContainersResponse>, Status> {
        answer("ListContainers", super::not_here("ListContainers")).await
    }

    async fn stream_containers(
        &self,
        _: Request<api::StreamContainersRequest>,
    ) -> Result<Response<Self::StreamContainersStream>, Status> {
        answer("StreamContainers", super::not_here("StreamContainers")).await
    }

    async fn container_status(
        &self,
        _: Request<api::ContainerStatusRequest>,
    ) -> Result<Response<api::ContainerStatusResponse>, Status> {
        answer("ContainerStatus", super::not_here("ContainerStatus")).await
    }

    async fn update_container_resources(
        &self,
        _: Request<api::UpdateContainerResourcesRequest>,
    ) -> Result<Response<api::UpdateContainerResourcesResponse>, Status> {
        answer(
            "UpdateContainerResources",
            super::not_here("UpdateContainerResources"),
        )
        .await
    }

    async fn reopen_container_log(
        &self,
        _: Request<api::ReopenContainerLogRequest>,
    ) -> Result<Response<api::ReopenContainerLogResponse>, Status> {
        answer("ReopenContainerLog", super::not_here("ReopenContainerLog")).await
    }

    async fn exec_sync(
        &self,
        _: Request<api::ExecSyncRequest>,
    ) -> Result<Response<api::ExecSyncResponse>, Status> {
        answer("ExecSync", super::not_here("ExecSync")).await
    }

    async fn exec(
        &self,
        _: Request<api::ExecRequest>,
    ) -> Result<Response<api::ExecResponse>, Status> {
        answer("Exec", super::not_here("Exec")).await
    }

    async fn attach(
        &self,
        _: Request<api::AttachRequest>,
    ) -> Result<Response<api::AttachResponse>, Status> {
        answer("Attach", super::not_here("Attach")).await
    }

    async fn port_forward(
        &self,
        _: Request<api::PortForwardRequest>,
    ) -> Result<Response<api::PortForwardResponse>, Status> {
        answer("PortForward", super::not_here("PortForward")).await
    }

    async fn container_stats(
        &self,
        _: Request<api::ContainerStatsRequest>,
    ) -> Result<Response<api::ContainerStatsResponse>, Status> {
        answer("ContainerStats", super::not_here("ContainerStats")).await
    }

    async fn list_container_stats(
        &self,
        _: Request<api::ListContainerStatsRequest>,
    ) -> Result<Response<api::ListContainerStatsResponse>, Status> {
        answer("ListContainerStats", super::not_here("ListContainerStats")).await
    }

    async fn stream_container_stats(
        &self,
        _: Request<api::StreamContainerStatsRequest>,
    ) -> Result<Response<Self::StreamContainerStatsStream>, Status> {
        answer(
            "StreamContainerStats",
            super::not_here("StreamContainerStats"),
        )
        .await
    }

    async fn pod_sandbox_stats(
        &self,
        _: Request<api::PodSandboxStatsRequest>,
    ) -> Result<Response<api::PodSandboxStatsResponse>, Status> {
        answer("PodSandboxStats", super::not_here("PodSandboxStats")).await
    }

    async fn list_pod_sandbox_stats(
        &self,
        _: Request<api::ListPodSandboxStatsRequest>,
    ) -> Result<Response<api::ListPodSandboxStatsResponse>, Status> {
        answer(
            "ListPodSandboxStats",
            super::not_here("ListPodSandboxStats"),
        )
        .await
    }

    async fn stream_pod_sandbox_stats(
        &self,
        _: Request<api::StreamPodSandboxStatsRequest>,
    ) -> Result<Response<Self::StreamPodSandboxStatsStream>, Status> {
        answer(
            "StreamPodSandboxStats",
            super::not_here("StreamPodSandboxStats"),
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
        _: Request<api::GetEventsRequest>,
    ) -> Result<Response<Self::GetContainerEventsStream>, Status> {
        answer("GetContainerEvents", super::not_here("GetContainerEvents")).await
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<api::ListMetricDescriptorsRequest>,
    ) -> Result<Response<api::ListMetricDescriptorsResponse>, Status> {
        answer(
            "ListMetricDescriptors",
            super::not_here("ListMetricDescriptors"),
        )
        .await
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<api::ListPodSandboxMetricsRequest>,
    ) -> Result<Response<api::ListPodSandboxMetricsResponse>, Status> {
        answer(
            "ListPodSandboxMetrics",
            super::not_here("ListPodSandboxMetrics"),
        )
        .await
    }

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<api::StreamPodSandboxMetricsRequest>,
    ) -> Result<Response<Self::StreamPodSandboxMetricsStream>, Status> {
        answer(
            "StreamPodSandboxMetrics",
            super::not_here("StreamPodSandboxMetrics"),
        )
        .await
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
        _: Request<api::UpdatePodSandboxResourcesRequest>,
    ) -> Result<Response<api::UpdatePodSandboxResourcesResponse>, Status> {
        answer(
            "UpdatePodSandboxResources",
            super::not_here("UpdatePodSandboxResources"),
        )
        .await
    }
}
