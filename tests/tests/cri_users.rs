//! Users of containers, and user namespaces of pods.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::{Node, apart, namespaces, refused};
use cri_server::api::{
    ContainerConfig, IdMapping, Int64Value, LinuxContainerConfig, LinuxContainerSecurityContext,
    Mount, NamespaceMode, NamespaceOption, PodSandboxConfig, SupplementalGroupsPolicy,
    UserNamespace,
};
use ocirun_tests::{Need, suite};
use std::path::Path;
use tonic::Code;

fn secure(config: &mut ContainerConfig, change: impl FnOnce(&mut LinuxContainerSecurityContext)) {
    let linux: &mut LinuxContainerConfig = config.linux.get_or_insert_default();
    change(linux.security_context.get_or_insert_default());
}

#[expect(clippy::unnecessary_wraps, reason = "the type of the field")]
fn number(value: i64) -> Option<Int64Value> {
    Some(Int64Value { value })
}

/// `Uid`, `Gid` and `Groups` of this process.
const IDS: &str =
    "grep -E '^(Uid|Gid|Groups)' /proc/self/status | cut -f2- | tr '\\t' ' ' | sed 's/ *$//'";

fn users_and_groups() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let ids = |change: &dyn Fn(&mut LinuxContainerSecurityContext)| {
            let id = node.run(&pod, IDS, |c| secure(c, change));
            let status = node.ended(&id);
            let user = status.user.unwrap().linux.unwrap();
            (
                cri::text(Path::new(&status.log_path)),
                (user.uid, user.gid, user.supplemental_groups),
            )
        };
        assert_eq!(
            ids(&|_| {}),
            ("0 0 0 0\n0 0 0 0\n0\n".into(), (0, 0, vec![0]))
        );
        let app = ids(&|s| s.run_as_user = number(1000));
        assert_eq!(
            app,
            (
                "1000 1000 1000 1000\n1000 1000 1000 1000\n1000 50000\n".into(),
                (1000, 1000, vec![1000, 50000])
            )
        );
        let strict = ids(&|s| {
            s.run_as_username = "app".into();
            s.supplemental_groups = vec![1234];
            s.supplemental_groups_policy = SupplementalGroupsPolicy::Strict.into();
        });
        assert_eq!(
            strict,
            (
                "1000 1000 1000 1000\n1000 1000 1000 1000\n1000 1234\n".into(),
                (1000, 1000, vec![1000, 1234])
            )
        );
        let other = ids(&|s| {
            s.run_as_user = number(1001);
            s.run_as_group = number(2002);
        });
        assert_eq!(
            other,
            (
                "1001 1001 1001 1001\n2002 2002 2002 2002\n2002\n".into(),
                (1001, 2002, vec![2002])
            )
        );
    });
}

fn user_namespaces() {
    apart(|| {
        let node = Node::ready();
        let map = |container_id, length| IdMapping {
            host_id: 100_000,
            container_id,
            length,
        };
        let user = |maps: Vec<IdMapping>| {
            Some(UserNamespace {
                mode: NamespaceMode::Pod.into(),
                uids: maps.clone(),
                gids: maps,
            })
        };
        let with = |maps: Vec<IdMapping>| {
            move |config: &mut PodSandboxConfig| {
                namespaces(config, |o| {
                    o.network = NamespaceMode::Pod.into();
                    o.userns_options = user(maps);
                });
            }
        };
        let pod = node.pod(with(vec![map(0, 65_536)]));
        let volume = node.path("volume");
        std::fs::create_dir(&volume).unwrap();
        let script = "cat /proc/self/uid_map; id -u; stat -c %u /data /volume; touch /data/new /volume/new && stat -c %u /data/new /volume/new";
        let seen = node.output(&pod, script, |c| {
            c.mounts = vec![Mount {
                container_path: "/volume".into(),
                host_path: volume.display().to_string(),
                uid_mappings: vec![map(0, 65_536)],
                gid_mappings: vec![map(0, 65_536)],
                ..Mount::default()
            }];
        });
        let words = seen.split_whitespace().collect::<Vec<_>>();
        assert_eq!(words, ["0", "100000", "65536", "0", "0", "0", "0", "0"]);
        use std::os::unix::fs::MetadataExt;
        assert_eq!(
            std::fs::metadata(volume.join("new")).unwrap().uid(),
            0,
            "mapped for the container alone"
        );
        for (maps, words) in [
            (vec![map(0, 10), map(10, 10)], "userns_options.uids"),
            (vec![map(1, 10)], "userns_options.uids[0].container_id"),
        ] {
            refused(node.try_pod(with(maps)), Code::InvalidArgument, words);
        }
        for mode in [NamespaceMode::Container, NamespaceMode::Target] {
            let answer = node.try_pod(|c| {
                namespaces(c, |o| {
                    o.userns_options = Some(UserNamespace {
                        mode: mode.into(),
                        ..UserNamespace::default()
                    });
                });
            });
            refused(answer, Code::InvalidArgument, "userns_options.mode");
        }
        node.remove_pod(&pod);
        node.assert_nothing_left();
    });
}

/// Users of its own, and the host's network: a node's agent that is root for itself alone.
fn user_namespaces_on_the_hosts_network() {
    apart(|| {
        let node = Node::ready();
        let maps = vec![IdMapping {
            host_id: 100_000,
            container_id: 0,
            length: 65_536,
        }];
        let users = UserNamespace {
            mode: NamespaceMode::Pod.into(),
            uids: maps.clone(),
            gids: maps,
        };
        let with = |change: fn(&mut NamespaceOption)| {
            let users = users.clone();
            move |config: &mut PodSandboxConfig| {
                namespaces(config, |options| {
                    options.userns_options = Some(users);
                    change(options);
                });
            }
        };
        for mode in [NamespaceMode::Container, NamespaceMode::Pod] {
            let pod = match mode {
                NamespaceMode::Pod => node.pod(with(|o| o.pid = NamespaceMode::Pod.into())),
                _ => node.pod(with(|_| {})),
            };
            let script = "tr -s ' ' < /proc/self/uid_map; readlink /proc/self/ns/net; \
                          ls /sys/class/net/lo > /dev/null && touch /new && stat -c %u /new; \
                          touch /sys/x 2>/dev/null || echo read-only";
            let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
            let seen = node.output(&pod, script, |_| {});
            let expected = format!(" 0 100000 65536\n{}\n0\nread-only\n", own.display());
            assert_eq!(seen, expected);
            let id = node.run(&pod, "sleep 1000", |_| {});
            assert_eq!(node.exec(&id, "id -u").unwrap().stdout, b"0\n");
            node.remove_pod(&pod);
        }
        for (change, words) in [
            (
                (|o: &mut NamespaceOption| o.pid = NamespaceMode::Node.into()) as fn(&mut _),
                "namespace_options.pid",
            ),
            (
                |o| o.ipc = NamespaceMode::Node.into(),
                "namespace_options.ipc",
            ),
        ] {
            refused(node.try_pod(with(change)), Code::InvalidArgument, words);
        }
        node.assert_nothing_left();
    });
}

suite! {
    &[Need::Root, Need::Program("busybox")] => [users_and_groups],
    // Layers of an overlay that are mapped.
    &[Need::Root, Need::Program("busybox"), Need::Kernel(6, 15)] => [
        user_namespaces,
        user_namespaces_on_the_hosts_network,
    ],
}
