//! What cannot be is refused by its name, and nothing is made.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::{Node, apart, pod_config, refused, spec};
use cri_server::api;
use cri_server::api::{
    ContainerConfig, Int64Value, LinuxContainerConfig, LinuxContainerSecurityContext, Mount,
    RunPodSandboxRequest,
};
use ocirun_tests::{Need, suite};
use tonic::{Code, Status};

fn pods_that_cannot_be() {
    apart(|| {
        let node = Node::new();
        let ask = |request| node.wait(node.runtime().run_pod_sandbox(request));
        let empty = ask(RunPodSandboxRequest::default());
        refused(empty, Code::InvalidArgument, "config: is not set");
        let mut config = pod_config();
        config.metadata.as_mut().unwrap().name.clear();
        let nameless = node.run_pod(config);
        refused(nameless, Code::InvalidArgument, "config.metadata.name");
        let strange = ask(RunPodSandboxRequest {
            config: Some(pod_config()),
            runtime_handler: "kata".into(),
        });
        refused(strange, Code::InvalidArgument, "runtime_handler");
        // What the shim alone finds out.
        let mut config = pod_config();
        let sysctls = &mut config.linux.as_mut().unwrap().sysctls;
        sysctls.insert("kernel.shm_no_such".into(), "1".into());
        refused(node.run_pod(config), Code::Unknown, "kernel.shm_no_such");
        assert_eq!(node.pods(), Vec::<String>::new());
        node.assert_nothing_left();
    });
}

fn volume(host_path: &str) -> Mount {
    Mount {
        container_path: "/v".into(),
        host_path: host_path.into(),
        ..Mount::default()
    }
}

fn secured(config: &mut ContainerConfig, change: fn(&mut LinuxContainerSecurityContext)) {
    let linux: &mut LinuxContainerConfig = config.linux.get_or_insert_default();
    change(linux.security_context.get_or_insert_default());
}

/// What is asked for, the code of the answer, and words of it.
type Case = (fn(&mut ContainerConfig), Code, &'static str);

const CONTAINERS: [Case; 11] = [
    (
        |c| c.metadata = None,
        Code::InvalidArgument,
        "config.metadata",
    ),
    (
        |c| c.image = Some(spec("absent.example/x:1")),
        Code::NotFound,
        "config.image.image",
    ),
    (
        |c| c.image = Some(spec("Bad Name")),
        Code::InvalidArgument,
        "image",
    ),
    (
        |c| c.mounts = vec![volume("relative")],
        Code::InvalidArgument,
        "config.mounts[0].host_path",
    ),
    (
        |c| secured(c, |s| s.run_as_group = Some(Int64Value { value: 1 })),
        Code::InvalidArgument,
        "run_as_group",
    ),
    (
        |c| secured(c, |s| s.run_as_user = Some(Int64Value { value: -1 })),
        Code::InvalidArgument,
        "run_as_user",
    ),
    (
        |c| secured(c, |s| s.privileged = true),
        Code::InvalidArgument,
        "privileged",
    ),
    (
        |c| secured(c, |s| s.run_as_username = "nobody".into()),
        Code::InvalidArgument,
        "run_as_username",
    ),
    (
        |c| c.command = vec!["/no/such/program".into()],
        Code::Unknown,
        "/no/such/program",
    ),
    (
        |c| c.log_path = "../x".into(),
        Code::InvalidArgument,
        "config.log_path",
    ),
    (
        |c| c.working_dir = "x".into(),
        Code::InvalidArgument,
        "config.working_dir",
    ),
];

fn containers_that_cannot_be() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let containers = node.path("run/pods").join(&pod).join("containers");
        let layers = node.path("root/containers");
        for (change, code, words) in CONTAINERS {
            let mut config = node.container_config("true");
            change(&mut config);
            refused(node.try_create(&pod, config), code, words);
            for dir in [&containers, &layers] {
                let left = std::fs::read_dir(dir).into_iter().flatten().count();
                assert_eq!(left, 0, "{words}: {}", dir.display());
            }
        }
        // Nor is the directory of a volume made for what is refused for something else.
        let missing = node.path("not/made");
        let mut config = node.container_config("true");
        config.mounts = vec![volume(missing.to_str().unwrap())];
        config.working_dir = "x".into();
        let answer = node.try_create(&pod, config);
        refused(answer, Code::InvalidArgument, "config.working_dir");
        assert!(!missing.exists());
    });
}

/// Makes every call that names a container or a pod with this id, and returns the errors with the field's name.
async fn with_id(node: &Node, id: &str) -> Vec<(Status, &'static str)> {
    let mut runtime = node.runtime();
    let mut errors = Vec::new();
    macro_rules! call {
        ($field:ident: $($method:ident $Request:ident),*) => {$(
            #[allow(clippy::needless_update, reason = "some have more fields")]
            let request = api::$Request {
                $field: id.to_owned(),
                ..api::$Request::default()
            };
            let answer = runtime.$method(request).await;
            errors.push((answer.expect_err(stringify!($method)), stringify!($field)));
        )*};
    }
    call!(container_id: start_container StartContainerRequest, stop_container StopContainerRequest,
        remove_container RemoveContainerRequest, container_status ContainerStatusRequest,
        container_stats ContainerStatsRequest, reopen_container_log ReopenContainerLogRequest);
    call!(pod_sandbox_id: stop_pod_sandbox StopPodSandboxRequest,
        remove_pod_sandbox RemovePodSandboxRequest, pod_sandbox_status PodSandboxStatusRequest,
        pod_sandbox_stats PodSandboxStatsRequest,
        update_pod_sandbox_resources UpdatePodSandboxResourcesRequest);
    // These need more than an id.
    let request = api::ExecSyncRequest {
        container_id: id.to_owned(),
        cmd: vec!["true".to_owned()],
        timeout: 0,
    };
    let answer = runtime.exec_sync(request).await;
    errors.push((answer.expect_err("exec_sync"), "container_id"));
    let request = api::UpdateContainerResourcesRequest {
        container_id: id.to_owned(),
        linux: Some(api::LinuxContainerResources::default()),
        ..api::UpdateContainerResourcesRequest::default()
    };
    let answer = runtime.update_container_resources(request).await;
    errors.push((answer.expect_err("update"), "container_id"));
    let request = api::CreateContainerRequest {
        pod_sandbox_id: id.to_owned(),
        config: Some(node.container_config("true")),
        sandbox_config: None,
    };
    let answer = runtime.create_container(request).await;
    errors.push((answer.expect_err("create"), "pod_sandbox_id"));
    errors
}

fn ids_that_cannot_be_or_are_not_there() {
    apart(|| {
        let node = Node::new();
        for id in ["", "zz", "../x", "\u{1}", &"a".repeat(65)] {
            for (error, field) in node.wait(with_id(&node, id)) {
                refused::<()>(Err(error), Code::InvalidArgument, field);
            }
        }
        let absent = node.start_container("abcdef");
        refused(absent, Code::NotFound, "container_id");
        // What is not there cannot be ended, and that is no error.
        node.stop("abcdef", 0).unwrap();
        node.remove("abcdef").unwrap();
        node.stop_pod("abcdef").unwrap();
    });
}

/// A request that is larger than any can be ends with an error, and the server goes on.
fn a_request_without_end() {
    apart(|| {
        let node = Node::new();
        let annotated = |bytes: usize| {
            let mut config = pod_config();
            config.annotations.insert("a".into(), "x".repeat(bytes));
            node.run_pod(config)
        };
        let large = annotated(2 << 20);
        refused(large, Code::InvalidArgument, "config.annotations");
        let endless = annotated(33 << 20);
        refused(endless, Code::OutOfRange, "message length too large");
        assert_eq!(node.pods(), Vec::<String>::new());
        node.assert_nothing_left();
    });
}

suite! {
    &[Need::Root, Need::Program("busybox")] => [
        pods_that_cannot_be,
        containers_that_cannot_be,
        ids_that_cannot_be_or_are_not_there,
        a_request_without_end,
    ],
}
