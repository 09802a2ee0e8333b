//! Volumes: directories of the host, with propagation and recursive read-only, and images.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::{Node, apart, refused, spec};
use cri_server::api::{ContainerConfig, Mount, MountPropagation};
use nix::mount::{MsFlags, mount, umount};
use ocirun_tests::{Need, suite};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tonic::Code;

fn bind(source: &Path, target: &Path) {
    let flags = MsFlags::MS_BIND;
    mount(Some(source), target, None::<&str>, flags, None::<&str>).unwrap();
}

/// A privileged pod, and a shared mount of the host with `real` (a file, a directory `sub`) and `link`, which leads there.
struct Volumes {
    node: Node,
    pod: String,
    base: PathBuf,
}

impl Volumes {
    fn new() -> Self {
        let node = Node::ready();
        let base = node.path("volumes");
        std::fs::create_dir(&base).unwrap();
        bind(&base, &base);
        let flags = MsFlags::MS_SHARED;
        mount(None::<&str>, &base, None::<&str>, flags, None::<&str>).unwrap();
        std::fs::create_dir_all(base.join("real/sub")).unwrap();
        std::fs::write(base.join("real/file"), "content\n").unwrap();
        symlink("real", base.join("link")).unwrap();
        let pod = node.pod(|config| {
            let linux = config.linux.get_or_insert_default();
            linux.security_context.get_or_insert_default().privileged = true;
        });
        Self { node, pod, base }
    }

    /// The mount of a volume at /v.
    fn volume(&self, name: &str, change: impl FnOnce(&mut Mount)) -> Vec<Mount> {
        let mut mount = Mount {
            container_path: "/v".into(),
            host_path: self.base.join(name).display().to_string(),
            ..Mount::default()
        };
        change(&mut mount);
        vec![mount]
    }

    fn end(self) {
        self.node.remove_pod(&self.pod);
        umount(&self.base).unwrap();
        self.node.assert_nothing_left();
    }
}

fn privileged(config: &mut ContainerConfig) {
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().privileged = true;
}

fn links_are_followed_and_directories_made() {
    apart(|| {
        let bed = Volumes::new();
        let script = "cat /v/file; touch /v/new; cat /v/file > /v/copy";
        let seen = bed.node.output(&bed.pod, script, |config| {
            config.mounts = bed.volume("link", |_| {});
        });
        assert_eq!(seen, "content\n");
        assert!(bed.base.join("real/new").exists());
        let missing = bed.volume("missing/deep", |mount| mount.readonly = true);
        let id = bed.node.run(&bed.pod, "true", |config| {
            config.mounts.clone_from(&missing);
        });
        assert_eq!(bed.node.status(&id).mounts, missing);
        assert!(bed.base.join("missing/deep").is_dir());
        bed.end();
    });
}

/// A mount below is writable under a plain read-only one, and not under a recursive one.
fn read_only_and_recursively_so() {
    apart(|| {
        let bed = Volumes::new();
        std::fs::create_dir(bed.base.join("other")).unwrap();
        bind(&bed.base.join("other"), &bed.base.join("real/sub"));
        let script =
            "touch /v/a 2>/dev/null && echo top; touch /v/sub/a 2>/dev/null && echo below; true";
        for (is_recursive, expected) in [(false, "below\n"), (true, "")] {
            let seen = bed.node.output(&bed.pod, script, |config| {
                config.mounts = bed.volume("real", |mount| {
                    mount.readonly = true;
                    mount.recursive_read_only = is_recursive;
                });
            });
            assert_eq!(seen, expected);
        }
        umount(&bed.base.join("real/sub")).unwrap();
        bed.end();
    });
}

/// Mounts made later, on either side.
fn propagation() {
    apart(|| {
        let bed = Volumes::new();
        for (propagation, outside_seen, inside_seen) in [
            (MountPropagation::PropagationPrivate, false, false),
            (MountPropagation::PropagationHostToContainer, true, false),
            (MountPropagation::PropagationBidirectional, true, true),
        ] {
            let name = format!("{propagation:?}");
            let dir = bed.base.join(&name);
            for name in ["late", "inner"] {
                std::fs::create_dir_all(dir.join(name)).unwrap();
            }
            let waits = "while [ ! -e /v/go ]; do sleep 0.1; done; ls /v/late; mount -t tmpfs x /v/inner 2>&1; true";
            let id = bed.node.run(&bed.pod, waits, |config| {
                config.mounts = bed.volume(&name, |m| m.propagation = propagation.into());
                privileged(config);
            });
            let (late, flags) = (dir.join("late"), MsFlags::empty());
            mount(Some("late"), &late, Some("tmpfs"), flags, None::<&str>).unwrap();
            std::fs::write(late.join("seen"), "").unwrap();
            std::fs::write(dir.join("go"), "").unwrap();
            bed.node.ended(&id);
            let log = cri::text(Path::new(&bed.node.status(&id).log_path));
            assert_eq!(log.contains("seen"), outside_seen, "{name}");
            let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            let inner = dir.join("inner").display().to_string();
            assert_eq!(table.contains(&inner), inside_seen, "{name}: {log}");
            umount(&late).unwrap();
            if inside_seen {
                umount(&dir.join("inner")).unwrap();
            }
        }
        bed.end();
    });
}

fn volumes_that_cannot_be() {
    apart(|| {
        let bed = Volumes::new();
        let refuse = |mounts: Vec<Mount>, words: &str| {
            let mut config = bed.node.container_config("true");
            config.mounts = mounts;
            let created = bed.node.try_create(&bed.pod, config);
            refused(created, Code::InvalidArgument, words);
        };
        refuse(
            bed.volume("real", |mount| mount.recursive_read_only = true),
            "recursive_read_only",
        );
        refuse(
            bed.volume("real", |mount| mount.container_path = "/a/../b".into()),
            "container_path",
        );
        bed.end();
    });
}

fn images_as_volumes() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let id = node.pull("volume:1").unwrap();
        let volume = |sub: &str| Mount {
            container_path: "/v".into(),
            readonly: true,
            image: Some(spec(&node.image("volume:1"))),
            image_sub_path: sub.into(),
            ..Mount::default()
        };
        let script = "cat /v/data/sub/hello; touch /v/x 2>/dev/null || echo read-only; /v/bin/busybox echo runs";
        let container = node.run(&pod, script, |c| c.mounts = vec![volume("")]);
        let status = node.ended(&container);
        assert_eq!(
            cri::text(Path::new(&status.log_path)),
            "hello\nread-only\nruns\n"
        );
        assert_eq!(status.mounts[0].image.as_ref().unwrap().image_ref, id);
        let seen = node.output(&pod, "cat /v/hello", |c| {
            c.mounts = vec![volume("data/sub")];
        });
        assert_eq!(seen, "hello\n");
        let file = node.output(&pod, "cat /v", |c| {
            c.mounts = vec![volume("data/sub/hello")];
        });
        assert_eq!(file, "hello\n");
        for (mount, code, words) in [
            (volume("no/such"), Code::Unknown, "ImageVolumeMountFailed: "),
            (volume("../etc"), Code::Unknown, "ImageVolumeMountFailed: "),
            (
                Mount {
                    readonly: false,
                    ..volume("")
                },
                Code::InvalidArgument,
                "readonly",
            ),
            (
                Mount {
                    image: Some(spec("absent.example/x:1")),
                    ..volume("")
                },
                Code::NotFound,
                "config.mounts[0].image.image",
            ),
        ] {
            let mut config = node.container_config("true");
            config.mounts = vec![mount];
            refused(node.try_create(&pod, config), code, words);
        }
        node.remove_pod(&pod);
        node.assert_nothing_left();
    });
}

suite! {
    &[Need::Root, Need::Program("busybox")] => [
        links_are_followed_and_directories_made,
        read_only_and_recursively_so,
        propagation,
        volumes_that_cannot_be,
        images_as_volumes,
    ],
}
