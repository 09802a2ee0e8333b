//! Mounts: kinds, options, order, the root, and what is refused.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use ocirun_tests::mounts::{at, bind, has, has_data, report, source, values};
use ocirun_tests::{Bundle, Need, suite};
use serde_json::json;

fn the_default_mounts() {
    let report = report(Bundle::new());
    let kinds = [
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
        ("/sys", "sysfs"),
    ];
    for (path, kind) in kinds {
        let first = report["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .find(|mount| mount["at"] == path)
            .unwrap();
        assert_eq!(first["type"], kind, "{path}");
    }
    assert!(has(at(&report, "/sys"), "ro") && has(at(&report, "/sys"), "nosuid"));
    assert!(
        has(at(&report, "/dev"), "nosuid") && !has(at(&report, "/dev"), "relatime"),
        "strictatime"
    );
    assert!(
        has_data(at(&report, "/dev"), "size=65536k") && has_data(at(&report, "/dev"), "mode=755")
    );
    assert!(
        has_data(at(&report, "/dev/pts"), "ptmxmode=666")
            && has_data(at(&report, "/dev/pts"), "gid=5")
    );
}

fn nothing_of_the_host_is_left_in_the_table() {
    let report = report(Bundle::new());
    let allowed = ["/", "/proc", "/dev", "/sys"];
    for mount in report["mounts"].as_array().unwrap() {
        let path = mount["at"].as_str().unwrap();
        let inside = allowed
            .iter()
            .any(|root| path == *root || path.starts_with(&format!("{root}/")) && *root != "/");
        assert!(inside, "{mount}");
    }
}

fn a_read_only_root() {
    let found = values(Bundle::new(), &["report", ",", "write", "/etc/x", "y"]);
    assert!(has(at(&found[0], "/"), "ro"));
    assert_eq!(found[1], json!({"errno": "EROFS"}));
}

fn a_writable_root() {
    let container = Bundle::new()
        .set("/root/readonly", false)
        .probe(&["write", "/etc/x", "y"])
        .container();
    assert_eq!(container.run().ok().value(), "ok");
    assert_eq!(
        fs::read_to_string(container.bundle.inside("/etc/x")).unwrap(),
        "y"
    );
}

fn an_absolute_root_path() {
    let bundle = Bundle::new();
    let root = bundle.path().join("rootfs");
    let path = root.to_str().unwrap().to_owned();
    assert_eq!(
        values(bundle.set("/root/path", path), &["print", "x"]),
        ["x"]
    );
}

fn a_bind_mount_of_a_directory() {
    let found = values(
        bind(Bundle::new(), "/data", &["bind"]).set("/root/readonly", false),
        &[
            "read",
            "/data/file",
            ",",
            "write",
            "/data/new",
            "x",
            ",",
            "stat",
            "/data",
        ],
    );
    assert_eq!(
        (&found[0], &found[1], &found[2]["type"]),
        (&json!("from the host"), &json!("ok"), &json!("directory"))
    );
}

fn a_bind_mount_of_a_file() {
    let bundle = Bundle::new().set("/root/readonly", false);
    let file = source(&bundle).join("file");
    let bundle = bundle.mount(
        json!({"destination": "/etc/deep/er/name", "source": file, "options": ["bind", "ro"]}),
    );
    let found = values(
        bundle,
        &[
            "read",
            "/etc/deep/er/name",
            ",",
            "overwrite",
            "/etc/deep/er/name",
            "x",
        ],
    );
    assert_eq!(found, [json!("from the host"), json!({"errno": "EROFS"})]);
}

fn a_bind_mount_without_a_type() {
    let bundle = Bundle::new().set("/root/readonly", false);
    let source = source(&bundle);
    let bundle =
        bundle.mount(json!({"destination": "/data", "source": source, "options": ["rbind"]}));
    assert_eq!(values(bundle, &["read", "/data/file"]), ["from the host"]);
}

fn a_relative_source_is_below_the_bundle() {
    let bundle = Bundle::new().set("/root/readonly", false);
    source(&bundle);
    let bundle = bundle.mount(
        json!({"destination": "/data", "type": "bind", "source": "source", "options": ["bind"]}),
    );
    assert_eq!(values(bundle, &["read", "/data/file"]), ["from the host"]);
}

fn a_missing_source_is_refused() {
    let bundle = Bundle::new().set("/root/readonly", false);
    let bundle =
        bundle.mount(json!({"destination": "/data", "type": "bind", "source": "/no/such/source", "options": ["bind"]}));
    let container = bundle.container();
    container.run().fails(1, "no such file or directory");
    container.verb("state").fails(1, "container does not exist");
}

fn options_of_a_bind_mount() {
    let bundle = bind(
        Bundle::new(),
        "/tmp",
        &["bind", "ro", "nosuid", "nodev", "noexec"],
    );
    let found = values(bundle, &["report", ",", "write", "/tmp/x", "y"]);
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(has(at(&found[0], "/tmp"), option), "{option}");
    }
    assert_eq!(found[1], json!({"errno": "EROFS"}));
}

fn noexec_is_in_force() {
    let bundle = Bundle::new();
    let source = source(&bundle);
    fs::copy(bundle.inside("/bin/probe"), source.join("program")).unwrap();
    let bundle = bundle.mount(
        json!({"destination": "/tmp", "type": "bind", "source": source, "options": ["bind", "noexec"]}),
    );
    assert_eq!(
        values(bundle, &["exec", "/tmp/program"]),
        [json!({"errno": "EACCES"})]
    );
}

fn atime_options() {
    let expected = [
        ("noatime", "noatime"),
        ("relatime", "relatime"),
        ("nodiratime", "nodiratime"),
    ];
    for (option, shown) in expected {
        let bundle = Bundle::new().mount(
            json!({"destination": "/tmp", "type": "tmpfs", "source": "t", "options": [option]}),
        );
        assert!(has(at(&report(bundle), "/tmp"), shown), "{option}");
    }
    let bundle = Bundle::new().mount(
        json!({"destination": "/tmp", "type": "tmpfs", "source": "t", "options": ["strictatime"]}),
    );
    let report = report(bundle);
    assert!(!has(at(&report, "/tmp"), "relatime") && !has(at(&report, "/tmp"), "noatime"));
}

fn the_later_option_wins() {
    let bundle = bind(
        Bundle::new(),
        "/tmp",
        &["bind", "ro", "rw", "nosuid", "suid"],
    );
    let report = report(bundle);
    assert!(has(at(&report, "/tmp"), "rw") && !has(at(&report, "/tmp"), "nosuid"));
}

fn mounts_are_made_in_order() {
    let bundle =
        Bundle::new().mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "first"}));
    let bundle = bind(bundle, "/tmp/inner", &["bind"]);
    let bundle =
        bundle.mount(json!({"destination": "/tmp/inner/below", "type": "tmpfs", "source": "last"}));
    let found = values(bundle, &["report", ",", "read", "/tmp/inner/file"]);
    assert_eq!(at(&found[0], "/tmp")["source"], "first");
    assert_eq!(at(&found[0], "/tmp/inner/below")["source"], "last");
    assert_eq!(found[1], "from the host");
}

fn an_unknown_file_system_is_refused() {
    let container = Bundle::new()
        .mount(json!({"destination": "/tmp", "type": "nosuchfs", "source": "x"}))
        .container();
    container.run().fails(1, "no such device");
}

fn an_unknown_option_reaches_the_file_system() {
    let mount =
        json!({"destination": "/tmp", "type": "tmpfs", "source": "x", "options": ["nosuchoption"]});
    Bundle::new()
        .mount(mount)
        .container()
        .run()
        .fails(1, "invalid argument");
}

fn a_link_as_target_stays_inside() {
    let bundle = Bundle::new();
    let outside = bundle.path().join("outside");
    fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, bundle.inside("/link")).unwrap();
    std::os::unix::fs::symlink("../../../../../../etc", bundle.inside("/up")).unwrap();
    let bundle = bundle.set("/root/readonly", false);
    let bundle = bind(bundle, "/link/target", &["bind"]);
    let bundle = bind(bundle, "/up/below", &["bind"]);
    let container = bundle.probe(&["read", "/etc/below/file"]).container();
    let run = container.run().ok();
    assert_eq!(run.value(), "from the host");
    assert_eq!(fs::read_dir(container.file("outside")).unwrap().count(), 0);
    assert!(!fs::exists("/etc/below").unwrap());
}

/// CVE-2019-19921, CVE-2023-27561: /proc and /sys that are links in the image.
fn proc_or_sys_that_is_a_link_is_refused() {
    for name in ["proc", "sys"] {
        let bundle = Bundle::new();
        fs::remove_dir(bundle.inside(name)).unwrap();
        std::os::unix::fs::symlink("/tmp", bundle.inside(name)).unwrap();
        bundle
            .container()
            .run()
            .fails(1, "must be mounted on ordinary directory");
    }
}

fn a_mount_inside_proc_is_refused() {
    let bundle = bind(Bundle::new(), "/proc/irq", &["bind"]);
    bundle
        .container()
        .run()
        .fails(1, "cannot be mounted because it is inside /proc");
}

fn a_cgroup_mount_shows_only_its_own() {
    let run = Bundle::new()
        .probe(&["report", ",", "write", "/sys/fs/cgroup/pids/pids.max", "1"])
        .container()
        .run();
    let found = run.values();
    let mount = at(&found[0], "/sys/fs/cgroup/pids");
    assert!(
        has(mount, "ro")
            && mount["root"]
                .as_str()
                .unwrap()
                .starts_with("/ocirun-tests."),
        "{mount}"
    );
    assert_eq!(found[1], json!({"errno": "EROFS"}));
}

fn no_pivot() {
    let container = Bundle::new().probe(&["list", "/"]).container();
    let run = container.from_bundle("run", &["--no-pivot"]).finish().ok();
    assert_eq!(
        run.value(),
        json!(["bin", "dev", "etc", "proc", "sys", "tmp"])
    );
}

fn without_a_mount_namespace() {
    Bundle::new()
        .without_namespace("mount")
        .container()
        .run()
        .fails(1, "");
}

suite! {
    &[Need::Root] => [
        the_default_mounts,
        nothing_of_the_host_is_left_in_the_table,
        a_read_only_root,
        a_writable_root,
        an_absolute_root_path,
        a_bind_mount_of_a_directory,
        a_bind_mount_of_a_file,
        a_bind_mount_without_a_type,
        a_relative_source_is_below_the_bundle,
        a_missing_source_is_refused,
        options_of_a_bind_mount,
        noexec_is_in_force,
        atime_options,
        the_later_option_wins,
        mounts_are_made_in_order,
        an_unknown_file_system_is_refused,
        an_unknown_option_reaches_the_file_system,
        a_link_as_target_stays_inside,
        proc_or_sys_that_is_a_link_is_refused,
        a_mount_inside_proc_is_refused,
        no_pivot,
        without_a_mount_namespace,
    ],
    &[Need::Root, Need::CgroupV1("pids")] => [
        a_cgroup_mount_shows_only_its_own,
    ],
}
