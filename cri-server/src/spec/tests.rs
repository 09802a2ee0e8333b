use super::*;
use crate::api::{
    Capability, Device, Int64Value, KeyValue, LinuxContainerResources, Mount, UserNamespace,
};

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
fn namespaces_of_pods() {
    let kinds = |facts: &Facts| {
        let spec = built_with(&request(|_| {}), facts, &ImageProcess::default()).unwrap();
        let list = spec["linux"]["namespaces"].as_array().unwrap().clone();
        list.iter()
            .map(|n| {
                format!(
                    "{}{}",
                    n["type"].as_str().unwrap(),
                    n["path"].as_str().unwrap_or("")
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        kinds(&facts()),
        [
            "mount",
            "network/p/ns/net",
            "ipc/p/ns/ipc",
            "uts/p/ns/uts",
            "pid"
        ]
    );
    let mut host = facts();
    host.namespaces = Namespaces {
        pid: HOST_PID.into(),
        ..Namespaces::default()
    };
    assert_eq!(kinds(&host), ["mount"]);
    let mut shared = facts();
    shared.namespaces.pid = "/p/ns/pid".into();
    shared.namespaces.user = "/p/ns/user".into();
    shared.is_unified = true;
    assert!(kinds(&shared).contains(&"pid/p/ns/pid".to_owned()));
    assert!(kinds(&shared).contains(&"user/p/ns/user".to_owned()));
    assert!(kinds(&shared).contains(&"cgroup".to_owned()));
}

#[test]
fn privileged_or_confined() {
    let paths = |c: &mut LinuxContainerSecurityContext| {
        c.masked_paths = vec!["/proc/kcore".into()];
        c.readonly_paths = vec!["/proc/sys".into()];
    };
    let mut facts = facts();
    facts.seccomp = Some(seccomp::DEFAULT.to_owned());
    facts.apparmor = Some("profile".into());
    facts.all_devices = vec![HostDevice {
        path: "/dev/x".into(),
        kind: 'c',
        major: 1,
        minor: 2,
        mode: 0o600,
        uid: 0,
        gid: 0,
        access: "rwm".into(),
    }];
    let image = ImageProcess::default();
    let confined = built_with(&secured(paths), &facts, &image).unwrap();
    assert_eq!(confined["linux"]["maskedPaths"], json!(["/proc/kcore"]));
    assert_eq!(confined["linux"]["readonlyPaths"], json!(["/proc/sys"]));
    assert_eq!(confined["process"]["apparmorProfile"], "profile");
    assert_eq!(
        confined["process"]["capabilities"]["bounding"],
        json!(["CAP_CHOWN", "CAP_KILL"])
    );
    assert_eq!(confined["linux"]["devices"], json!([]));
    assert_eq!(mount_at(&confined, "/sys")["options"][3], "ro");
    let rules = json!([{"allow": false, "access": "rwm"}]);
    assert_eq!(confined["linux"]["resources"]["devices"], rules);
    let open = secured(|c| {
        paths(c);
        c.privileged = true;
        c.capabilities = Some(Capability {
            drop_capabilities: vec!["ALL".into()],
            ..Capability::default()
        });
    });
    let open = built_with(&open, &facts, &image).unwrap();
    for key in ["maskedPaths", "readonlyPaths", "seccomp"] {
        assert_eq!(open["linux"][key], Value::Null);
    }
    assert_eq!(open["process"]["apparmorProfile"], Value::Null);
    assert_eq!(
        open["process"]["capabilities"]["bounding"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    assert_eq!(open["linux"]["devices"][0]["path"], "/dev/x");
    assert_eq!(mount_at(&open, "/sys")["options"][3], "rw");
    assert!(refused(&secured(|c| c.masked_paths = vec!["x".into()])).contains("masked_paths[0]"));
}

#[test]
fn limits_and_scores() {
    let with_score = |score| {
        request(|c| {
            c.linux = Some(LinuxContainerConfig {
                resources: Some(LinuxContainerResources {
                    oom_score_adj: score,
                    memory_limit_in_bytes: 64 << 20,
                    ..LinuxContainerResources::default()
                }),
                security_context: None,
            });
        })
    };
    let spec = built(&with_score(100));
    assert_eq!(spec["process"]["oomScoreAdj"], 100);
    assert_eq!(spec["linux"]["resources"]["memory"]["limit"], 64 << 20);
    // Less than this daemon may give: it gives the least it may.
    assert_eq!(built(&with_score(-997))["process"]["oomScoreAdj"], -500);
    assert!(refused(&with_score(-1001)).starts_with("config.linux.resources.oom_score_adj"));
}

fn volume(change: impl FnOnce(&mut Mount)) -> Mount {
    let mut mount = Mount {
        container_path: "/data".into(),
        host_path: "/d".into(),
        ..Mount::default()
    };
    change(&mut mount);
    mount
}

#[test]
fn mounts_of_requests() {
    let shared = HostMount {
        path: "/resolved".into(),
        is_shared: true,
        ..HostMount::default()
    };
    let mut facts = facts();
    facts.mounts = vec![shared; 4];
    let built = |mounts: Vec<Mount>| {
        let image = ImageProcess::default();
        built_with(&request(|c| c.mounts = mounts), &facts, &image).unwrap()
    };
    for (mount, options, root) in [
        (
            volume(|_| {}),
            json!(["rbind", "rprivate", "rw"]),
            Value::Null,
        ),
        (
            volume(|m| m.readonly = true),
            json!(["rbind", "rprivate", "ro"]),
            Value::Null,
        ),
        (
            volume(|m| {
                m.readonly = true;
                m.recursive_read_only = true;
            }),
            json!(["rbind", "rprivate", "rro"]),
            Value::Null,
        ),
        (
            volume(|m| m.propagation = 1),
            json!(["rbind", "rslave", "rw"]),
            json!("rslave"),
        ),
        (
            volume(|m| m.propagation = 2),
            json!(["rbind", "rshared", "rw"]),
            json!("rshared"),
        ),
    ] {
        let spec = built(vec![mount]);
        assert_eq!(mount_at(&spec, "/data")["options"], options);
        assert_eq!(mount_at(&spec, "/data")["source"], "/resolved");
        assert_eq!(spec["linux"]["rootfsPropagation"], root);
    }
    // What is below another comes after it, and the request's own files take the place of the pod's.
    let spec = built(vec![
        volume(|m| m.container_path = "/a/b/c".into()),
        volume(|m| m.container_path = "a//b".into()),
        volume(|m| m.container_path = "/etc/hosts".into()),
        volume(|m| m.container_path = "/dev/shm".into()),
    ]);
    let targets = spec["mounts"].as_array().unwrap().iter();
    let targets = targets
        .map(|m| m["destination"].as_str().unwrap())
        .collect::<Vec<_>>();
    assert_eq!(
        targets[targets.len() - 4..],
        ["/a/b", "/etc/hosts", "/dev/shm", "/a/b/c"]
    );
    assert_eq!(mount_at(&spec, "/etc/hosts")["source"], "/resolved");
    let mapped = IdMapping {
        host_id: 100_000,
        container_id: 0,
        length: 10,
    };
    let spec = built(vec![volume(|m| {
        m.uid_mappings = vec![mapped];
        m.gid_mappings = vec![mapped];
    })]);
    let maps = json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
    assert_eq!(mount_at(&spec, "/data")["uidMappings"], maps);
}

#[test]
fn mounts_that_cannot_be() {
    let image = || {
        volume(|m| {
            m.host_path.clear();
            m.readonly = true;
            m.image = Some(crate::api::ImageSpec::default());
        })
    };
    for (mount, words) in [
        (
            volume(|m| m.container_path.clear()),
            "config.mounts[0].container_path: is empty",
        ),
        (
            volume(|m| m.container_path = "/a/../b".into()),
            "config.mounts[0].container_path",
        ),
        (
            volume(|m| m.host_path.clear()),
            "config.mounts[0].host_path: is empty",
        ),
        (
            volume(|m| m.host_path = "d".into()),
            "config.mounts[0].host_path: \"d\"",
        ),
        (
            volume(|m| m.propagation = 3),
            "config.mounts[0].propagation: 3",
        ),
        (
            volume(|m| m.propagation = 2),
            "config.mounts[0].propagation: \"\" is not on a shared",
        ),
        (
            volume(|m| m.propagation = 1),
            "config.mounts[0].propagation: \"\" is neither",
        ),
        (
            volume(|m| m.recursive_read_only = true),
            "config.mounts[0].recursive_read_only: needs readonly",
        ),
        (
            volume(|m| {
                m.readonly = true;
                m.recursive_read_only = true;
                m.propagation = 1;
            }),
            "config.mounts[0].recursive_read_only: needs private",
        ),
        (
            volume(|m| m.image_sub_path = "x".into()),
            "config.mounts[0].image_sub_path",
        ),
        (
            volume(|m| m.uid_mappings = vec![IdMapping::default()]),
            "config.mounts[0].uidMappings[0].length",
        ),
        (
            {
                let mut mount = image();
                mount.readonly = false;
                mount
            },
            "config.mounts[0].readonly",
        ),
        (
            {
                let mut mount = image();
                mount.image_sub_path = "../x".into();
                mount
            },
            "ImageVolumeMountFailed: config.mounts[0].image_sub_path",
        ),
    ] {
        let error = refused(&request(|c| c.mounts = vec![mount]));
        assert!(error.starts_with(words), "{error}");
    }
}

#[test]
fn devices_of_requests() {
    let mut facts = facts();
    facts.devices = vec![HostDevice {
        path: "/dev/y".into(),
        kind: 'b',
        major: 7,
        minor: 1,
        mode: 0o660,
        uid: 0,
        gid: 6,
        access: "r".into(),
    }];
    let spec = built_with(&request(|_| {}), &facts, &ImageProcess::default()).unwrap();
    assert_eq!(
        spec["linux"]["devices"],
        json!([{"path": "/dev/y", "type": "b", "major": 7, "minor": 1, "fileMode": 0o660, "uid": 0, "gid": 6}])
    );
    assert_eq!(
        spec["linux"]["resources"]["devices"][1],
        json!({"allow": true, "type": "b", "major": 7, "minor": 1, "access": "r"})
    );
    for (device, words) in [
        (("x", "/c", "rw"), "d.host_path"),
        (("/x", "c", "rw"), "d.container_path"),
        (("/x", "/c", "rx"), "d.permissions"),
    ] {
        let device = Device {
            host_path: device.0.into(),
            container_path: device.1.into(),
            permissions: device.2.into(),
        };
        let error = devices::check(&device, "d").unwrap_err().to_string();
        assert!(error.starts_with(words), "{error}");
    }
}

#[test]
fn namespace_modes() {
    let map = |container_id, length| IdMapping {
        host_id: 100_000,
        container_id,
        length,
    };
    let user = |mode, uids: &[IdMapping]| {
        Some(UserNamespace {
            mode,
            uids: uids.to_vec(),
            gids: uids.to_vec(),
        })
    };
    let options = |change: &dyn Fn(&mut NamespaceOption)| {
        let mut options = NamespaceOption::default();
        change(&mut options);
        modes(Some(&options), "n")
    };
    let good = options(&|o| o.userns_options = user(0, &[map(0, 65_536)])).unwrap();
    assert!(good.user && good.pid == NamespaceMode::Pod);
    assert!(!options(&|o| o.userns_options = user(2, &[])).unwrap().user);
    let target = options(&|o| {
        o.pid = 3;
        o.target_id = "x".into();
    });
    assert_eq!(target.unwrap().pid, NamespaceMode::Target);
    type Change<'a> = &'a dyn Fn(&mut NamespaceOption);
    let table: [(Change<'_>, &str); 10] = [
        (&|o| o.network = 1, "n.network: CONTAINER"),
        (&|o| o.ipc = 3, "n.ipc: TARGET"),
        (&|o| o.pid = 4, "n.pid: 4"),
        (&|o| o.pid = 3, "n.target_id"),
        (&|o| o.target_id = "x".into(), "n.target_id"),
        (
            &|o| o.userns_options = user(1, &[]),
            "n.userns_options.mode: CONTAINER",
        ),
        (
            &|o| o.userns_options = user(3, &[]),
            "n.userns_options.mode: TARGET",
        ),
        (
            &|o| o.userns_options = user(0, &[]),
            "n.userns_options.uids: has 0",
        ),
        (
            &|o| o.userns_options = user(0, &[map(1, 9)]),
            "n.userns_options.uids[0].container_id",
        ),
        (
            &|o| o.userns_options = user(0, &[map(0, 0)]),
            "n.userns_options.uids[0].length",
        ),
    ];
    for (change, words) in table {
        let error = options(change).unwrap_err().to_string();
        assert!(error.starts_with(words), "{error}");
    }
}

#[test]
fn labels_of_selinux() {
    let with = |level: &str| {
        secured(|c| {
            c.selinux_options = Some(SeLinuxOption {
                level: level.into(),
                ..SeLinuxOption::default()
            });
        })
    };
    assert_eq!(
        built(&with("s0:c1,c2"))["process"]["selinuxLabel"],
        Value::Null
    );
    let mut facts = facts();
    facts.has_selinux = true;
    let spec = built_with(&with("s0:c1,c2"), &facts, &ImageProcess::default()).unwrap();
    assert_eq!(
        spec["process"]["selinuxLabel"],
        "system_u:system_r:container_t:s0:c1,c2"
    );
    assert_eq!(
        spec["linux"]["mountLabel"],
        "system_u:object_r:container_file_t:s0:c1,c2"
    );
    assert!(refused(&with("s0 x")).contains("selinux_options.level"));
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
