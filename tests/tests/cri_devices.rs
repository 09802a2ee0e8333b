//! Devices, variables, labels and profiles: what of the host a container gets besides its files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::{Node, apart, refused};
use cri_server::api::{CdiDevice, ContainerConfig, Device, KeyValue};
use ocirun_tests::{Need, suite};
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

suite! {
    &[Need::Root, Need::Program("busybox")] => [
        devices_and_variables,
        devices_of_a_specification_in_yaml,
    ],
}
