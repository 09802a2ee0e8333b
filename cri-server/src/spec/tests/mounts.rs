//! Mounts and devices.

use super::*;

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
