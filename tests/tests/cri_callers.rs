//! Many callers at once: what they ask for is done once, and each gets an answer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::{Node, apart, pod_config, refused};
use cri_server::api::runtime_service_client::RuntimeServiceClient;
use cri_server::api::{
    ContainerStatusRequest, CreateContainerRequest, ListContainersRequest, RemoveContainerRequest,
    RemovePodSandboxRequest, RunPodSandboxRequest, StopContainerRequest, StopPodSandboxRequest,
};
use ocirun_tests::{Need, suite};
use std::time::Duration;
use tonic::Code;
use tonic::transport::Channel;

const CALLERS: usize = 64;

/// What so many callers get who all call at once, each with its number.
fn together<T, F>(node: &Node, call: impl Fn(usize, RuntimeServiceClient<Channel>) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    node.wait(async {
        let calls = (0..CALLERS).map(|number| tokio::spawn(call(number, node.runtime())));
        let mut answers = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            answers.push(call.await.unwrap());
        }
        answers
    })
}

/// The one id that all of them got.
fn the_one(mut ids: Vec<String>) -> String {
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    ids.remove(0)
}

fn one_pod_by_many(node: &Node, request: &RunPodSandboxRequest) -> String {
    the_one(together(node, |_, mut runtime| {
        let request = request.clone();
        async move {
            let answer = runtime.run_pod_sandbox(request).await;
            answer.unwrap().into_inner().pod_sandbox_id
        }
    }))
}

fn one_container_by_many(node: &Node, request: &CreateContainerRequest) -> String {
    the_one(together(node, |_, mut runtime| {
        let request = request.clone();
        async move {
            let answer = runtime.create_container(request).await;
            answer.unwrap().into_inner().container_id
        }
    }))
}

fn many_callers_make_one() {
    apart(|| {
        let node = Node::ready();
        let config = pod_config();
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: String::new(),
        };
        // One gives up at once, and asks again.
        node.wait(async {
            let mut early = node.runtime();
            let early = early.run_pod_sandbox(request.clone());
            drop(tokio::time::timeout(Duration::from_millis(2), early).await);
        });
        let pod = one_pod_by_many(&node, &request);
        assert_eq!(node.pods(), [pod.as_str()]);
        let mut other = config;
        other.hostname = "another".into();
        refused(node.run_pod(other), Code::AlreadyExists, "config.metadata");
        let request = CreateContainerRequest {
            pod_sandbox_id: pod,
            config: Some(node.container_config("while :; do sleep 1; done")),
            sandbox_config: None,
        };
        let container = one_container_by_many(&node, &request);
        let mut other = request.config.clone().unwrap();
        other.working_dir = "/tmp".into();
        let other = node.try_create(&request.pod_sandbox_id, other);
        refused(other, Code::AlreadyExists, "config.metadata");
        node.start_container(&container).unwrap();
        let again = node.wait(node.runtime().create_container(request));
        refused(again, Code::AlreadyExists, "is there already");
    });
}

/// Whether a thing is still there when a caller's turn comes is a matter of chance; a list and the end of a pod are not.
fn many_callers_end_a_pod() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let id = node.run(&pod, "while :; do sleep 1; done", |_| {});
        together(&node, |number, mut runtime| {
            let (pod_sandbox_id, container_id) = (pod.clone(), id.clone());
            async move {
                match number % 6 {
                    0 => {
                        let timeout = 0;
                        let request = StopContainerRequest {
                            container_id,
                            timeout,
                        };
                        drop(runtime.stop_container(request).await);
                    }
                    1 => {
                        let request = RemoveContainerRequest { container_id };
                        drop(runtime.remove_container(request).await);
                    }
                    2 => {
                        let verbose = true;
                        let request = ContainerStatusRequest {
                            container_id,
                            verbose,
                        };
                        drop(runtime.container_status(request).await);
                    }
                    3 => {
                        let request = ListContainersRequest::default();
                        drop(runtime.list_containers(request).await.unwrap());
                    }
                    4 => {
                        let request = StopPodSandboxRequest { pod_sandbox_id };
                        drop(runtime.stop_pod_sandbox(request).await.unwrap());
                    }
                    _ => {
                        let request = RemovePodSandboxRequest { pod_sandbox_id };
                        drop(runtime.remove_pod_sandbox(request).await);
                    }
                }
            }
        });
        node.remove_pod(&pod);
        node.assert_nothing_left();
    });
}

suite! {
    &[Need::Root, Need::Program("busybox")] => [many_callers_make_one, many_callers_end_a_pod],
}
