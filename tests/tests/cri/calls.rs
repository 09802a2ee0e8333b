//! What tests ask of a node, call by call.

use super::{HANGS, NEXT, Node, pod_config, spec, text};
use cri_server::api::{
    ContainerConfig, ContainerMetadata, ContainerState, ContainerStatus, ContainerStatusRequest,
    CreateContainerRequest, ExecSyncRequest, ExecSyncResponse, ListPodSandboxRequest,
    PodSandboxConfig, PodSandboxStatus, PodSandboxStatusRequest, PullImageRequest,
    RemoveContainerRequest, RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest,
    StopContainerRequest, StopPodSandboxRequest,
};
use ocirun_tests::eventually;
use std::path::Path;
use std::sync::atomic::Ordering;
use tonic::Status;

impl Node {
    /// Waits for an answer.
    ///
    /// # Panics
    /// If there is none for so long that there will be none.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        let limited = async { tokio::time::timeout(HANGS, work).await };
        self.tokio.block_on(limited).expect("an answer")
    }

    /// A name of an image in the registry.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.registry.host)
    }

    /// Pulls an image, and returns its id.
    pub fn pull(&self, name: &str) -> Result<String, Status> {
        let request = PullImageRequest {
            image: Some(spec(&self.image(name))),
            ..PullImageRequest::default()
        };
        let answer = self.wait(self.images().pull_image(request))?;
        Ok(answer.into_inner().image_ref)
    }

    /// Runs a pod on the host's network with what `change` says.
    pub fn try_pod(&self, change: impl FnOnce(&mut PodSandboxConfig)) -> Result<String, Status> {
        let mut config = pod_config();
        change(&mut config);
        config.log_directory = self.path("logs").display().to_string();
        self.run_pod(config)
    }

    pub fn run_pod(&self, config: PodSandboxConfig) -> Result<String, Status> {
        let request = RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: String::new(),
        };
        let answer = self.wait(self.runtime().run_pod_sandbox(request))?;
        Ok(answer.into_inner().pod_sandbox_id)
    }

    pub fn pod(&self, change: impl FnOnce(&mut PodSandboxConfig)) -> String {
        self.try_pod(change)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    /// A container of busybox, which runs a script.
    pub fn container_config(&self, script: &str) -> ContainerConfig {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: format!("c{number}"),
                attempt: 0,
            }),
            image: Some(spec(&self.image("busybox:1"))),
            command: ["busybox", "sh", "-c", script].map(str::to_owned).into(),
            log_path: format!("c{number}.log"),
            ..ContainerConfig::default()
        }
    }

    pub fn try_create(&self, pod: &str, config: ContainerConfig) -> Result<String, Status> {
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config),
            sandbox_config: None,
        };
        let answer = self.wait(self.runtime().create_container(request))?;
        Ok(answer.into_inner().container_id)
    }

    pub fn start_container(&self, id: &str) -> Result<(), Status> {
        let container_id = id.to_owned();
        self.wait(
            self.runtime()
                .start_container(StartContainerRequest { container_id }),
        )?;
        Ok(())
    }

    /// Creates and starts a container.
    pub fn run(
        &self,
        pod: &str,
        script: &str,
        change: impl FnOnce(&mut ContainerConfig),
    ) -> String {
        let mut config = self.container_config(script);
        change(&mut config);
        let id = self.try_create(pod, config);
        let id = id.unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
        self.start_container(&id)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
        id
    }

    pub fn status(&self, id: &str) -> ContainerStatus {
        let request = ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        let answer = self.wait(self.runtime().container_status(request)).unwrap();
        answer.into_inner().status.unwrap()
    }

    /// Waits for the end of a container.
    pub fn ended(&self, id: &str) -> ContainerStatus {
        eventually("the container ends", || {
            self.status(id).state() == ContainerState::ContainerExited
        });
        self.status(id)
    }

    /// Runs a script to its end, and returns what it printed: it has to succeed.
    pub fn output(
        &self,
        pod: &str,
        script: &str,
        change: impl FnOnce(&mut ContainerConfig),
    ) -> String {
        let id = self.run(pod, script, change);
        let status = self.ended(&id);
        let text = text(Path::new(&status.log_path));
        assert_eq!(status.exit_code, 0, "{script}: {text}");
        text
    }

    pub fn exec(&self, id: &str, script: &str) -> Result<ExecSyncResponse, Status> {
        self.exec_within(id, script, 0)
    }

    pub fn exec_within(
        &self,
        id: &str,
        script: &str,
        timeout: i64,
    ) -> Result<ExecSyncResponse, Status> {
        let request = ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: ["busybox", "sh", "-c", script].map(str::to_owned).into(),
            timeout,
        };
        Ok(self.wait(self.runtime().exec_sync(request))?.into_inner())
    }

    pub fn remove_pod(&self, id: &str) {
        let pod_sandbox_id = id.to_owned();
        let removed = self.wait(
            self.runtime()
                .remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }),
        );
        removed.unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
    }

    /// The ids of all pods.
    pub fn pods(&self) -> Vec<String> {
        let pods = self.wait(
            self.runtime()
                .list_pod_sandbox(ListPodSandboxRequest::default()),
        );
        pods.unwrap()
            .into_inner()
            .items
            .into_iter()
            .map(|pod| pod.id)
            .collect()
    }

    pub fn stop(&self, id: &str, timeout: i64) -> Result<(), Status> {
        let request = StopContainerRequest {
            container_id: id.to_owned(),
            timeout,
        };
        self.wait(self.runtime().stop_container(request)).map(drop)
    }

    pub fn remove(&self, id: &str) -> Result<(), Status> {
        let container_id = id.to_owned();
        let request = RemoveContainerRequest { container_id };
        self.wait(self.runtime().remove_container(request))
            .map(drop)
    }

    pub fn stop_pod(&self, id: &str) -> Result<(), Status> {
        let pod_sandbox_id = id.to_owned();
        let request = StopPodSandboxRequest { pod_sandbox_id };
        self.wait(self.runtime().stop_pod_sandbox(request))
            .map(drop)
    }

    pub fn pod_status(&self, id: &str) -> Result<PodSandboxStatus, Status> {
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: true,
        };
        let answer = self.wait(self.runtime().pod_sandbox_status(request))?;
        Ok(answer.into_inner().status.unwrap())
    }
}
