//! What a request for a container makes of it, seen from the inside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::{Node, apart, namespaces, refused};
use cri_server::api::security_profile::ProfileType;
use cri_server::api::{
    Capability, ContainerConfig, Int64Value, LinuxContainerConfig, LinuxContainerSecurityContext,
    NamespaceMode, NamespaceOption, PodSandboxConfig, SecurityProfile,
};
use ocirun_tests::{Need, suite};
use std::path::Path;
use tonic::Code;

fn ready() -> Node {
    let node = Node::new();
    node.pull("busybox:1").unwrap();
    node
}

fn secure(config: &mut ContainerConfig, change: impl FnOnce(&mut LinuxContainerSecurityContext)) {
    let linux: &mut LinuxContainerConfig = config.linux.get_or_insert_default();
    change(linux.security_context.get_or_insert_default());
}

fn secured(
    change: impl FnOnce(&mut LinuxContainerSecurityContext),
) -> impl FnOnce(&mut ContainerConfig) {
    |config| secure(config, change)
}

#[expect(clippy::unnecessary_wraps, reason = "the type of the field")]
fn number(value: i64) -> Option<Int64Value> {
    Some(Int64Value { value })
}

fn capabilities_and_no_new_privileges() {
    apart(|| {
        let node = ready();
        let pod = node.pod(|_| {});
        let has = |bit: u32, change: &dyn Fn(&mut LinuxContainerSecurityContext)| {
            let script = "grep CapEff /proc/self/status | cut -f2";
            let set = node.output(&pod, script, |c| secure(c, change));
            u64::from_str_radix(set.trim(), 16).unwrap() >> bit & 1 == 1
        };
        let (net_admin, chown) = (12, 0);
        let list = |name: &str| vec![name.to_owned()];
        let with = |add: &str, drop: &str| Capability {
            add_capabilities: list(add),
            drop_capabilities: list(drop),
            ..Capability::default()
        };
        assert!(has(chown, &|_| {}) && !has(net_admin, &|_| {}));
        assert!(has(net_admin, &|s| s.capabilities =
            Some(with("NET_ADMIN", "KILL"))));
        assert!(has(net_admin, &|s| s.capabilities = Some(with("ALL", "KILL"))));
        assert!(!has(chown, &|s| s.capabilities = Some(with("NET_ADMIN", "ALL"))));
        let ambient = node.output(
            &pod,
            "grep CapEff /proc/self/status | cut -f2",
            secured(|s| {
                s.run_as_user = number(1000);
                s.capabilities = Some(Capability {
                    drop_capabilities: list("ALL"),
                    add_ambient_capabilities: list("NET_ADMIN"),
                    ..Capability::default()
                });
            }),
        );
        assert_eq!(ambient.trim(), "0000000000001000");
        let wrong = secured(|s| s.capabilities = Some(with("FLY", "KILL")));
        let mut config = node.container_config("true");
        wrong(&mut config);
        refused(
            node.try_create(&pod, config),
            Code::InvalidArgument,
            "add_capabilities[0]",
        );
        for is_set in [true, false] {
            let script = "grep NoNewPrivs /proc/self/status | cut -f2";
            let seen = node.output(&pod, script, secured(|s| s.no_new_privs = is_set));
            assert_eq!(seen.trim() == "1", is_set);
        }
    });
}

fn seccomp_profiles() {
    apart(|| {
        let node = ready();
        let pod = node.pod(|_| {});
        let profile = |kind: ProfileType, name: &str| {
            Some(SecurityProfile {
                profile_type: kind.into(),
                localhost_ref: name.to_owned(),
            })
        };
        // Whether it may make a directory, unshare namespaces and set the host name, with the capability for it.
        let script = "mkdir /tmp/a && echo mkdir; unshare -u true && echo unshare; true";
        let seen = |seccomp: Option<SecurityProfile>, cap: &str| {
            node.output(
                &pod,
                script,
                secured(|s| {
                    s.seccomp = seccomp;
                    s.capabilities = Some(Capability {
                        add_capabilities: vec![cap.to_owned()],
                        ..Capability::default()
                    });
                }),
            )
        };
        let lines = |text: &str| {
            text.lines()
                .filter(|l| ["mkdir", "unshare"].contains(l))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(lines(&seen(None, "SYS_ADMIN")), ["mkdir", "unshare"]);
        assert_eq!(
            lines(&seen(profile(ProfileType::Unconfined, ""), "SYS_ADMIN")),
            ["mkdir", "unshare"]
        );
        assert_eq!(
            lines(&seen(profile(ProfileType::RuntimeDefault, ""), "SYS_ADMIN")),
            ["mkdir", "unshare"]
        );
        assert_eq!(
            lines(&seen(profile(ProfileType::RuntimeDefault, ""), "KILL")),
            ["mkdir"]
        );
        let filter = "grep '^Seccomp:' /proc/self/status | cut -f2";
        let mode = |seccomp| {
            node.output(&pod, filter, secured(|s| s.seccomp = seccomp))
                .trim()
                .to_owned()
        };
        assert_eq!(
            (mode(None), mode(profile(ProfileType::RuntimeDefault, ""))),
            ("0".into(), "2".into())
        );
        let file = node.path("deny.json");
        let deny = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}"#;
        std::fs::write(&file, deny).unwrap();
        let local = profile(ProfileType::Localhost, file.to_str().unwrap());
        assert_eq!(lines(&seen(local, "SYS_ADMIN")), ["unshare"]);
        for (name, words) in [
            ("/no/such/profile", "/no/such/profile"),
            ("", "localhost_ref"),
            ("x", "not an absolute path"),
        ] {
            let mut config = node.container_config("true");
            secure(&mut config, |s| {
                s.seccomp = profile(ProfileType::Localhost, name);
            });
            let error = node.try_create(&pod, config).unwrap_err();
            assert!(error.message().contains(words), "{error}");
        }
    });
}

fn what_cannot_be_seen_or_written() {
    apart(|| {
        let node = ready();
        let open = |config: &mut PodSandboxConfig| {
            config
                .linux
                .get_or_insert_default()
                .security_context
                .get_or_insert_default()
                .privileged = true;
        };
        let pod = node.pod(open);
        let write = "touch /x 2>/dev/null && echo root; touch /proc/sys/kernel/domainname 2>/dev/null; \
                     echo a 2>/dev/null > /proc/sys/net/ipv4/ip_default_ttl || echo denied; wc -c < /proc/uptime 2>/dev/null; true";
        let seen = node.output(
            &pod,
            write,
            secured(|s| {
                s.readonly_rootfs = true;
                s.masked_paths = vec!["/proc/uptime".into()];
                s.readonly_paths = vec!["/proc/sys".into()];
            }),
        );
        assert_eq!(seen, "denied\n0\n");
        assert_eq!(node.output(&pod, "touch /x && echo root", |_| {}), "root\n");
        let script = "ls /dev/kmsg /dev/null 2>/dev/null | wc -l; touch /sys/fs/cgroup/x 2>&1 | grep -c Read-only; \
                      grep CapEff /proc/self/status | cut -f2; grep '^Seccomp:' /proc/self/status | cut -f2; true";
        let privileged = node.output(
            &pod,
            script,
            secured(|s| {
                s.privileged = true;
                s.seccomp = Some(SecurityProfile::default());
            }),
        );
        let plain = node.output(
            &pod,
            script,
            secured(|s| s.seccomp = Some(SecurityProfile::default())),
        );
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let (privileged, plain) = (lines(&privileged), lines(&plain));
        assert_eq!(
            (privileged[3].as_str(), plain.last().unwrap().as_str()),
            ("0", "2")
        );
        assert_eq!(
            (privileged[1].as_str(), plain[plain.len() - 3].as_str()),
            ("0", "1")
        );
        assert!(
            u64::from_str_radix(&privileged[2], 16).unwrap()
                > u64::from_str_radix(&plain[plain.len() - 2], 16).unwrap()
        );
        if Path::new("/dev/kmsg").exists() {
            assert_eq!(privileged[0], "2");
        }
    });
}

fn namespaces_shared_and_not() {
    apart(|| {
        let node = ready();
        let own = |kind: &str| {
            std::fs::read_link(format!("/proc/thread-self/ns/{kind}"))
                .unwrap()
                .display()
                .to_string()
        };
        let modes = |pid: NamespaceMode| NamespaceOption {
            network: NamespaceMode::Node.into(),
            pid: pid.into(),
            ..NamespaceOption::default()
        };
        let script =
            "for n in pid ipc net; do readlink /proc/self/ns/$n; done; echo $$; sleep 1000";
        let lines = |id: &str| {
            let log = node.status(id).log_path;
            ocirun_tests::eventually("four lines", || {
                cri::text(Path::new(&log)).lines().count() == 4
            });
            cri::text(Path::new(&log))
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let run = |pod: &str, options: NamespaceOption| {
            node.run(
                pod,
                script,
                secured(|s| s.namespace_options = Some(options)),
            )
        };
        // A PID namespace for the pod, one for each container, that of the host.
        let shared = node.pod(|c| namespaces(c, |o| o.pid = NamespaceMode::Pod.into()));
        let (a, b) = (
            run(&shared, modes(NamespaceMode::Pod)),
            run(&shared, modes(NamespaceMode::Pod)),
        );
        assert_eq!(lines(&a)[..3], lines(&b)[..3]);
        assert_ne!(lines(&a)[3], "1", "the pod's own process is the first");
        assert_ne!(lines(&a)[1], own("ipc"));
        assert_eq!(lines(&a)[2], own("net"));
        let seen = node.exec(&a, "ps | grep -c '[s]leep 1000'").unwrap();
        assert_eq!(seen.stdout, b"2\n");
        let apart = node.pod(|_| {});
        let (a, b) = (
            run(&apart, modes(NamespaceMode::Container)),
            run(&apart, modes(NamespaceMode::Container)),
        );
        assert_ne!(lines(&a)[0], lines(&b)[0]);
        assert_eq!((lines(&a)[3].as_str(), &lines(&a)[1]), ("1", &lines(&b)[1]));
        // One that joins another's processes.
        let target = NamespaceOption {
            target_id: a.clone(),
            ..modes(NamespaceMode::Target)
        };
        assert_eq!(lines(&run(&apart, target))[0], lines(&a)[0]);
        let mut config = node.container_config("true");
        secure(&mut config, |s| {
            s.namespace_options = Some(NamespaceOption {
                target_id: "abcd".into(),
                ..modes(NamespaceMode::Target)
            });
        });
        let error = node.try_create(&apart, config).unwrap_err();
        assert!(error.message().contains("target_id"), "{error}");
        let host = node.pod(|c| {
            namespaces(c, |o| {
                o.pid = NamespaceMode::Node.into();
                o.ipc = NamespaceMode::Node.into();
            });
        });
        let id = run(&host, modes(NamespaceMode::Node));
        assert_eq!(lines(&id)[..3], [own("pid"), own("ipc"), own("net")]);
        for pod in [shared, apart, host] {
            node.remove_pod(&pod);
        }
        node.assert_nothing_left();
    });
}

suite! {
    &[Need::Root, Need::Program("busybox")] => [
        capabilities_and_no_new_privileges,
        seccomp_profiles,
        what_cannot_be_seen_or_written,
        namespaces_shared_and_not,
    ],
}
