//! Devices, variables, labels and profiles: what of the host a container gets besides its files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::{Node, apart, refused};
use cri_server::api::security_profile::ProfileType;
use cri_server::api::{
    Capability, CdiDevice, ContainerConfig, Device, KeyValue, Mount, SecurityProfile,
};
use cri_server::relabel;
use ocirun_tests::{Need, eventually, suite};
use std::os::unix::fs::symlink;
use std::path::Path;
use tonic::Code;

fn devices_and_variables() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let device = |access: &str| {
            vec![Device {
                host_path: "/dev/zero".into(),
                container_path: "/dev/mine".into(),
                permissions: access.into(),
            }]
        };
        let script =
            "head -c 4 /dev/mine | wc -c; (echo x > /dev/mine) 2>/dev/null && echo written; true";
        assert_eq!(
            node.output(&pod, script, |c| c.devices = device("rwm")),
            "4\nwritten\n"
        );
        let cdi = node.path("cdi");
        std::fs::create_dir(&cdi).unwrap();
        let spec = r#"{"cdiVersion": "0.6.0", "kind": "v.example/dev", "devices": [{"name": "one", "containerEdits": {
            "env": ["FROM_CDI=1"], "deviceNodes": [{"path": "/dev/cdi", "hostPath": "/dev/zero"}]}}]}"#;
        std::fs::write(cdi.join("v.json"), spec).unwrap();
        let seen = node.output(
            &pod,
            "echo $FROM_CDI $SET; head -c 3 /dev/cdi | wc -c",
            |c| {
                c.cdi_devices = vec![CdiDevice {
                    name: "v.example/dev=one".into(),
                }];
                c.envs = vec![KeyValue {
                    key: "SET".into(),
                    value: b"by request".to_vec(),
                }];
            },
        );
        assert_eq!(seen, "1 by request\n3\n");
        for (name, code, words) in [
            ("v.example/dev=two", Code::NotFound, "v.example/dev=two"),
            (
                "nonsense",
                Code::InvalidArgument,
                "config.CDI_devices[0].name",
            ),
        ] {
            let mut config = node.container_config("true");
            config.cdi_devices = vec![CdiDevice { name: name.into() }];
            refused(node.try_create(&pod, config), code, words);
        }
    });
}

/// As vendors write them, with numbers as YAML 1.1 has them.
const YAML: &str = "# devices\n---\ncdiVersion: 0.6.0\nkind: v.example/yaml\ndevices:\n- name: one\n  containerEdits:\n    env: [\"FROM_YAML=1\"]\n    deviceNodes:\n    - path: /dev/cdi\n      hostPath: /dev/zero\n      fileMode: 0640\n";

fn devices_of_a_specification_in_yaml() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        std::fs::create_dir(node.path("cdi")).unwrap();
        let file = node.path("cdi/v.yaml");
        std::fs::write(&file, YAML).unwrap();
        let with_device = |config: &mut ContainerConfig| {
            config.cdi_devices = vec![CdiDevice {
                name: "v.example/yaml=one".into(),
            }];
        };
        let script = "echo $FROM_YAML; head -c 3 /dev/cdi | wc -c; stat -c %a /dev/cdi";
        assert_eq!(node.output(&pod, script, with_device), "1\n3\n640\n");
        std::fs::write(&file, "kind: [").unwrap();
        let mut config = node.container_config("true");
        with_device(&mut config);
        refused(
            node.try_create(&pod, config),
            Code::InvalidArgument,
            "v.yaml",
        );
    });
}

/// The value of an attribute of a file, which may be a link.
fn attribute(path: &Path) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let length = rustix::fs::lgetxattr(path, LABEL, &mut value).ok()?;
    value.truncate(length);
    Some(value)
}

/// An attribute that the kernel keeps for root, whatever security modules there are.
const LABEL: &str = "trusted.ocirun-test";

fn a_volume_gets_a_label_and_what_it_links_to_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(at("volume/sub")).unwrap();
    std::fs::create_dir(at("outside")).unwrap();
    for file in ["volume/a", "volume/sub/b", "outside/c"] {
        std::fs::write(at(file), "").unwrap();
    }
    symlink(at("outside"), at("volume/link")).unwrap();
    relabel::relabel(&at("volume"), LABEL, "u:r:t:s0").unwrap();
    for name in [
        "volume",
        "volume/a",
        "volume/sub",
        "volume/sub/b",
        "volume/link",
    ] {
        assert_eq!(
            attribute(&at(name)).as_deref(),
            Some(&b"u:r:t:s0\0"[..]),
            "{name}"
        );
    }
    for name in ["outside", "outside/c"] {
        assert_eq!(attribute(&at(name)), None, "{name}");
    }
    for path in ["/", "/usr", "/etc"] {
        let error = relabel::check(Path::new(path), "f").unwrap_err();
        assert!(error.to_string().starts_with("f: "), "{error}");
    }
    relabel::check(Path::new("/usr/share/x"), "f").unwrap();
}

/// Labels are asked for on any machine; without SELinux there are none.
fn a_label_is_asked_for_where_there_are_none() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let volume = node.path("volume");
        std::fs::create_dir(&volume).unwrap();
        let seen = node.output(&pod, "echo x > /volume/x; cat /volume/x", |config| {
            config.mounts = vec![Mount {
                container_path: "/volume".into(),
                host_path: volume.display().to_string(),
                selinux_relabel: true,
                ..Mount::default()
            }];
        });
        assert_eq!(seen, "x\n");
    });
}

/// A request for a profile.
fn confined(kind: ProfileType, name: &str) -> impl FnOnce(&mut ContainerConfig) {
    let profile = SecurityProfile {
        profile_type: kind.into(),
        localhost_ref: name.to_owned(),
    };
    |config| {
        let linux = config.linux.get_or_insert_default();
        let security = linux.security_context.get_or_insert_default();
        security.apparmor = Some(profile);
        security.capabilities = Some(Capability {
            add_capabilities: vec!["SYS_ADMIN".into()],
            ..Capability::default()
        });
    }
}

fn a_profile_of_apparmor_by_default() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let script =
            "cat /proc/self/attr/current; mount -t tmpfs x /tmp 2>/dev/null && echo mounted; true";
        let default = "ocirun-default (enforce)\n";
        assert_eq!(node.output(&pod, script, |_| {}), default);
        let seen = node.output(&pod, script, confined(ProfileType::RuntimeDefault, ""));
        assert_eq!(seen, default);
        let seen = node.output(&pod, script, confined(ProfileType::Unconfined, ""));
        assert_eq!(seen, "unconfined\nmounted\n");
        let mut config = node.container_config("true");
        confined(ProfileType::Localhost, "ocirun-no-such")(&mut config);
        refused(
            node.try_create(&pod, config),
            Code::NotFound,
            "ocirun-no-such",
        );
        // Those who run the container can end it.
        let id = node.run(&pod, "while :; do sleep 1; done", |_| {});
        node.stop(&id, 0).unwrap();
    });
}

fn a_profile_where_there_is_no_apparmor() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let mut config = node.container_config("true");
        confined(ProfileType::Localhost, "x")(&mut config);
        let answer = node.try_create(&pod, config);
        refused(answer, Code::Unimplemented, "this machine has no AppArmor");
        node.output(&pod, "true", confined(ProfileType::RuntimeDefault, ""));
    });
}

/// As they come from secrets.
fn values_of_any_bytes() {
    apart(|| {
        let node = Node::ready();
        let pod = node.pod(|_| {});
        let pair = |key: &str, value: &[u8]| KeyValue {
            key: key.into(),
            value: value.to_vec(),
        };
        let bytes = |config: &mut ContainerConfig| {
            config.envs = vec![
                pair("A", b"text"),
                pair("A", b"\xff\x01 \xfe"),
                pair("B", b"\xff"),
                pair("B", b"text"),
            ];
        };
        let script = "printf %s \"$A\" | hexdump -ve '1/1 \"%02x\"'; echo; echo $B";
        let id = node.run(&pod, &format!("{script}; sleep 1000"), bytes);
        let expected = "ff0120fe\ntext\n";
        let log = node.status(&id).log_path;
        eventually("it has printed them", || {
            cri::text(Path::new(&log)) == expected
        });
        // Probes have the same.
        let seen = node.exec(&id, script).unwrap().stdout;
        assert_eq!(seen, expected.as_bytes());
        let mut config = node.container_config("true");
        config.envs = vec![pair("A", b"a\0b")];
        let answer = node.try_create(&pod, config);
        refused(answer, Code::InvalidArgument, "config.envs[0].value");
    });
}

suite! {
    &[Need::Root, Need::Program("busybox")] => [
        devices_and_variables,
        values_of_any_bytes,
        a_volume_gets_a_label_and_what_it_links_to_does_not,
        devices_of_a_specification_in_yaml,
    ],
    &[Need::Root, Need::Program("busybox"), Need::NoFile("/sys/fs/selinux/enforce")] => [
        a_label_is_asked_for_where_there_are_none,
    ],
    &[Need::Root, Need::Program("busybox"), Need::File("/sys/kernel/security/apparmor/profiles"), Need::Program("apparmor_parser")] => [a_profile_of_apparmor_by_default],
    &[Need::Root, Need::Program("busybox"), Need::NoFile("/sys/kernel/security/apparmor/profiles")] => [
        a_profile_where_there_is_no_apparmor,
    ],
}
