//! What cannot be is refused by its name, and nothing is made.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::{Node, apart, pod_config, refused, spec};
use cri_server::api::{
    ContainerConfig, Int64Value, LinuxContainerConfig, LinuxContainerSecurityContext, Mount,
    RunPodSandboxRequest,
};
use ocirun_tests::{Need, suite};
use tonic::Code;

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

fn ids_that_cannot_be_or_are_not_there() {
    apart(|| {
        let node = Node::new();
        let bad = Code::InvalidArgument;
        for id in ["", "zz", "../x", &"a".repeat(65)] {
            refused(node.start_container(id), bad, "container_id");
            refused(node.stop(id, 0), bad, "container_id");
            refused(node.pod_status(id), bad, "pod_sandbox_id");
        }
        let absent = node.start_container("abcdef");
        refused(absent, Code::NotFound, "container_id");
        // What is not there cannot be ended, and that is no error.
        node.stop("abcdef", 0).unwrap();
        node.remove("abcdef").unwrap();
        node.stop_pod("abcdef").unwrap();
    });
}

suite! {
    &[Need::Root, Need::Program("busybox")] => [
        pods_that_cannot_be,
        containers_that_cannot_be,
        ids_that_cannot_be_or_are_not_there,
    ],
}
