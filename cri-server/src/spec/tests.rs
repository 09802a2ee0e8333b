use super::*;
use crate::api::{
    Capability, Device, Int64Value, KeyValue, LinuxContainerResources, Mount, UserNamespace,
};

mod mounts;
mod security;

/// A request with a command, changed.
fn request(change: impl FnOnce(&mut ContainerConfig)) -> ContainerConfig {
    let mut config = ContainerConfig {
        command: vec!["/bin/app".into()],
        ..ContainerConfig::default()
    };
    change(&mut config);
    config
}

fn secured(change: impl FnOnce(&mut LinuxContainerSecurityContext)) -> ContainerConfig {
    request(|config| {
        let mut context = LinuxContainerSecurityContext::default();
        change(&mut context);
        config.linux = Some(LinuxContainerConfig {
            security_context: Some(context),
            resources: None,
        });
    })
}

fn facts() -> Facts {
    Facts {
        namespaces: Namespaces {
            network: "/p/ns/net".into(),
            ipc: "/p/ns/ipc".into(),
            uts: "/p/ns/uts".into(),
            ..Namespaces::default()
        },
        shm: "/p/shm".into(),
        files: vec![("/etc/hosts".into(), "/p/hosts".into())],
        hostname: "pod".into(),
        capabilities: ["CAP_CHOWN", "CAP_KILL", "CAP_SYS_ADMIN"]
            .map(str::to_owned)
            .into(),
        has_swap: true,
        least_oom_score: -500,
        cgroups_path: "/k/id".into(),
        mounts: vec![HostMount::default(); 4],
        ..Facts::default()
    }
}

fn built_with(config: &ContainerConfig, facts: &Facts, image: &ImageProcess) -> Result<Value> {
    let capabilities = ["CHOWN".to_owned(), "KILL".to_owned()];
    build(&Input {
        id: "c",
        pod_id: "p",
        config,
        pod: &PodSandboxConfig::default(),
        image,
        capabilities: &capabilities,
        facts,
    })
}

fn built(config: &ContainerConfig) -> Value {
    built_with(config, &facts(), &ImageProcess::default()).unwrap()
}

fn refused(config: &ContainerConfig) -> String {
    let error = built_with(config, &facts(), &ImageProcess::default()).unwrap_err();
    error.to_string()
}

fn mount_at<'a>(spec: &'a Value, target: &str) -> &'a Value {
    let mounts = spec["mounts"].as_array().unwrap();
    let found = mounts.iter().filter(|m| m["destination"] == target);
    let found = found.collect::<Vec<_>>();
    assert_eq!(found.len(), 1, "{target}: {mounts:?}");
    found[0]
}

/// The container's word counts before the pod's, and that before the node's; an image has none.
#[test]
fn init_by_annotation() {
    let annotated = |value: Option<&str>| {
        let pair = value.map(|value| (INIT.to_owned(), value.to_owned()));
        pair.into_iter()
            .collect::<std::collections::HashMap<_, _>>()
    };
    for (container, pod, node, expected) in [
        (None, None, "", ""),
        (None, None, "true", "true"),
        (None, Some("false"), "true", "false"),
        (Some("-g"), Some("false"), "true", "-g"),
        (Some(""), Some("true"), "true", ""),
    ] {
        let config = request(|config| config.annotations = annotated(container));
        let pod = PodSandboxConfig {
            annotations: annotated(pod),
            ..PodSandboxConfig::default()
        };
        let facts = Facts {
            init: node.to_owned(),
            ..facts()
        };
        let spec = build(&Input {
            id: "c",
            pod_id: "p",
            config: &config,
            pod: &pod,
            image: &ImageProcess::default(),
            capabilities: &[],
            facts: &facts,
        });
        assert_eq!(spec.unwrap()["annotations"][INIT], expected);
    }
}

/// A general crate for such configurations reads what is built.
#[test]
fn another_reader_understands_it() {
    let config = request(|c| {
        c.mounts = vec![Mount {
            container_path: "/data".into(),
            host_path: "/d".into(),
            ..Mount::default()
        }];
    });
    let mut facts = facts();
    facts.seccomp = Some(seccomp::DEFAULT.to_owned());
    let spec = built_with(&config, &facts, &ImageProcess::default()).unwrap();
    let read: oci_spec::runtime::Spec = serde_json::from_value(spec).unwrap();
    let linux = read.linux().as_ref().unwrap();
    assert_eq!(
        linux.cgroups_path().as_ref().unwrap().to_str(),
        Some("/k/id")
    );
    assert!(
        linux
            .seccomp()
            .as_ref()
            .unwrap()
            .syscalls()
            .as_ref()
            .unwrap()
            .len()
            > 5
    );
    assert_eq!(
        read.mounts()
            .as_ref()
            .unwrap()
            .last()
            .unwrap()
            .destination()
            .to_str(),
        Some("/data")
    );
}

#[test]
fn commands() {
    let image = ImageProcess {
        entrypoint: vec!["e".into()],
        command: vec!["c".into()],
        ..ImageProcess::default()
    };
    for (command, args, expected) in [
        (&[][..], &[][..], &["e", "c"][..]),
        (&[], &["a"], &["e", "a"]),
        (&["x"], &[], &["x"]),
        (&["x"], &["a"], &["x", "a"]),
    ] {
        let config = request(|c| {
            c.command = command.iter().map(ToString::to_string).collect();
            c.args = args.iter().map(ToString::to_string).collect();
        });
        let spec = built_with(&config, &facts(), &image).unwrap();
        assert_eq!(spec["process"]["args"], json!(expected));
    }
    assert!(refused(&request(|c| c.command.clear())).starts_with("config.command: is empty"));
    assert!(refused(&request(|c| c.command = vec!["a\0".into()])).contains("NUL"));
}

#[test]
fn environment_and_directory() {
    let image = ImageProcess {
        env: vec!["A=image".into(), "PATH=/image".into(), "B=".into()],
        cwd: "/srv".into(),
        ..ImageProcess::default()
    };
    let pair = |key: &str, value: &[u8]| KeyValue {
        key: key.into(),
        value: value.to_vec(),
    };
    let config = request(|c| {
        c.tty = true;
        c.envs = vec![
            pair("A", b"request"),
            pair("C", b"a=b"),
            pair("D", b"text"),
            pair("D", b"\xff\x01"),
            pair("E", b"\xff"),
            pair("E", b"text"),
        ];
    });
    let spec = built_with(&config, &facts(), &image).unwrap();
    let env = [
        "PATH=/image",
        "TERM=xterm",
        "HOSTNAME=pod",
        "A=request",
        "B=",
        "C=a=b",
        "E=text",
    ];
    assert_eq!(spec["process"]["env"], json!(env));
    let bytes = &spec["annotations"]["org.ocirun.env"];
    assert_eq!(*bytes, json!(r#"{"D":"ff01"}"#));
    assert_eq!(spec["process"]["cwd"], "/srv");
    assert_eq!(spec["process"]["terminal"], true);
    let other = built_with(&request(|c| c.working_dir = "/x".into()), &facts(), &image);
    assert_eq!(other.unwrap()["process"]["cwd"], "/x");
    for (config, words) in [
        (
            request(|c| c.envs = vec![pair("", b"")]),
            "config.envs[0].key",
        ),
        (
            request(|c| c.envs = vec![pair("A=", b"")]),
            "config.envs[0].key",
        ),
        (
            request(|c| c.envs = vec![pair("A", b"a\0b")]),
            "config.envs[0].value",
        ),
        (
            request(|c| c.working_dir = "x".into()),
            "config.working_dir",
        ),
    ] {
        assert!(refused(&config).starts_with(words), "{}", refused(&config));
    }
}

#[test]
fn a_second_program_is_like_the_first() {
    let config = secured(|c| c.run_as_user = Some(Int64Value { value: 5 }));
    let mut facts = facts();
    facts.user.uid = 5;
    let spec = built_with(&config, &facts, &ImageProcess::default()).unwrap();
    let process = exec_process(spec.to_string().as_bytes(), &["ls".into()], false).unwrap();
    let process: Value = serde_json::from_slice(&process).unwrap();
    assert_eq!(process["args"], json!(["ls"]));
    assert_eq!(process["user"]["uid"], 5);
    assert_eq!(process["cwd"], "/");
}
