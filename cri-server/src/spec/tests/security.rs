//! Namespaces, privileges, limits and labels.

use super::*;

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
