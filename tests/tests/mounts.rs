//! Mounts: kinds, options, order, propagation, recursive attributes, the root, masked and read-only paths.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::PathBuf;

use ocirun_tests::{Bundle, Invocation, Need, runtime, suite};
use serde_json::{Value, json};

/// The last mount at a path, as the container sees it.
fn at<'a>(report: &'a Value, path: &str) -> &'a Value {
    let mounts = report["mounts"].as_array().unwrap();
    mounts
        .iter()
        .rev()
        .find(|mount| mount["at"] == path)
        .unwrap_or_else(|| panic!("nothing mounted at {path}"))
}

fn has(mount: &Value, option: &str) -> bool {
    mount["options"]
        .as_array()
        .unwrap()
        .iter()
        .any(|found| found == option)
}

fn has_data(mount: &Value, option: &str) -> bool {
    mount["super_options"]
        .as_array()
        .unwrap()
        .iter()
        .any(|found| found == option)
}

fn report(bundle: Bundle) -> Value {
    bundle.probe(&["report"]).container().run().ok().value()
}

fn values(bundle: Bundle, steps: &[&str]) -> Vec<Value> {
    bundle.probe(steps).container().run().values()
}

/// A directory of the host with one file, inside the bundle so that it is removed with it.
fn source(bundle: &Bundle) -> PathBuf {
    let directory = bundle.path().join("source");
    fs::create_dir_all(directory.join("below")).unwrap();
    fs::write(directory.join("file"), "from the host").unwrap();
    directory
}

fn bind(bundle: Bundle, destination: &str, options: &[&str]) -> Bundle {
    let source = source(&bundle);
    bundle.mount(
        json!({"destination": destination, "type": "bind", "source": source, "options": options}),
    )
}

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

fn data_of_a_tmpfs() {
    let mount = json!({
        "destination": "/fresh", "type": "tmpfs", "source": "named",
        "options": ["size=2m", "nr_inodes=100", "mode=1750", "uid=7", "gid=8", "nosuid"],
    });
    let bundle = Bundle::new().set("/root/readonly", false).mount(mount);
    let found = values(bundle, &["report", ",", "stat", "/fresh"]);
    let mount = at(&found[0], "/fresh");
    assert_eq!(
        (&mount["type"], &mount["source"]),
        (&json!("tmpfs"), &json!("named"))
    );
    assert!(
        has_data(mount, "size=2048k") && has_data(mount, "nr_inodes=100") && has(mount, "nosuid")
    );
    let meta = (&found[1]["mode"], &found[1]["uid"], &found[1]["gid"]);
    assert_eq!(meta, (&json!("1750"), &json!(7), &json!(8)));
}

fn the_mode_option_wins_over_what_is_covered() {
    let mount = json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1750"]});
    assert_eq!(
        values(Bundle::new().mount(mount), &["stat", "/tmp"])[0]["mode"],
        "1750"
    );
}

fn a_tmpfs_takes_the_mode_of_what_it_covers() {
    let bundle = Bundle::new();
    fs::create_dir(bundle.inside("/covered")).unwrap();
    fs::set_permissions(
        bundle.inside("/covered"),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    let bundle =
        bundle.mount(json!({"destination": "/covered", "type": "tmpfs", "source": "tmpfs"}));
    assert_eq!(values(bundle, &["stat", "/covered"])[0]["mode"], "0700");
}

fn tmpcopyup_keeps_what_was_there() {
    let bundle = Bundle::new();
    fs::create_dir(bundle.inside("/etc/sub")).unwrap();
    fs::write(bundle.inside("/etc/sub/file"), "content").unwrap();
    let bundle = bundle
        .mount(json!({"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}));
    let container = bundle
        .probe(&["read", "/etc/sub/file", ",", "write", "/etc/sub/file", "x"])
        .container();
    assert_eq!(
        container.run().ok().values(),
        [json!("content"), json!("ok")]
    );
    assert_eq!(
        fs::read_to_string(container.bundle.inside("/etc/sub/file")).unwrap(),
        "content"
    );
}

fn copied_up(bundle: Bundle, options: &[&str]) -> Bundle {
    bundle.mount(
        json!({"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": options}),
    )
}

fn tmpcopyup_keeps_owners_and_modes() {
    let bundle = Bundle::new();
    let file = bundle.inside("/etc/file");
    fs::write(&file, "content").unwrap();
    std::os::unix::fs::chown(&file, Some(5), Some(6)).unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o4750)).unwrap();
    let found = values(
        copied_up(bundle, &["tmpcopyup", "ro"]),
        &[
            "stat",
            "/etc/file",
            ",",
            "write",
            "/etc/new",
            "x",
            ",",
            "report",
        ],
    );
    assert_eq!(
        (&found[0]["mode"], &found[0]["uid"], &found[0]["gid"]),
        (&json!("4750"), &json!(5), &json!(6))
    );
    assert_eq!(found[1], json!({"errno": "EROFS"}));
    assert!(has(at(&found[2], "/etc"), "ro"));
}

fn tmpcopyup_does_not_follow_links() {
    let bundle = Bundle::new();
    std::os::unix::fs::symlink("/etc/hostname", bundle.inside("/etc/host")).unwrap();
    std::os::unix::fs::symlink("../../..", bundle.inside("/etc/up")).unwrap();
    let found = values(
        copied_up(bundle, &["tmpcopyup"]),
        &["stat", "/etc/host", ",", "stat", "/etc/up"],
    );
    let targets: Vec<&Value> = found.iter().map(|found| &found["target"]).collect();
    assert_eq!(targets, ["/etc/hostname", "../../.."]);
}

/// Without them a program that needs one would be there and not work.
fn tmpcopyup_keeps_capabilities_of_files() {
    let bundle = Bundle::new();
    let file = bundle.inside("/etc/file");
    fs::write(&file, "").unwrap();
    // `struct vfs_cap_data`, revision 2: CAP_NET_RAW, permitted and effective.
    let mut value = [0_u8; 20];
    value[..8].copy_from_slice(&[1, 0, 0, 2, 0, 0x20, 0, 0]);
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&file, "security.capability", &value, flags).unwrap();
    let steps = ["attribute", "/etc/file", "security.capability"];
    let found = values(copied_up(bundle, &["tmpcopyup"]), &steps);
    assert_eq!(found, [json!(value)]);
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

fn masked_paths() {
    let bundle = Bundle::new().set(
        "/linux/maskedPaths",
        json!(["/etc/secret", "/proc/kcore", "/hidden", "/absent/path"]),
    );
    fs::write(bundle.inside("/etc/secret"), "secret").unwrap();
    fs::create_dir(bundle.inside("/hidden")).unwrap();
    fs::write(bundle.inside("/hidden/file"), "secret").unwrap();
    let found = values(
        bundle,
        &[
            "read",
            "/etc/secret",
            ",",
            "list",
            "/hidden",
            ",",
            "write",
            "/hidden/x",
            "y",
            ",",
            "stat",
            "/absent/path",
            ",",
            "read",
            "/proc/kcore",
        ],
    );
    assert_eq!(found[..2], [json!(""), json!([])]);
    assert_eq!(found[2], json!({"errno": "EROFS"}));
    assert_eq!(found[3], json!({"errno": "ENOENT"}));
    assert_ne!(
        found[4].as_str().map(str::len),
        Some(64 * 1024),
        "no memory of the host"
    );
}

fn read_only_paths() {
    let bundle = Bundle::new().set("/root/readonly", false).set(
        "/linux/readonlyPaths",
        json!(["/etc", "/proc/sys", "/absent"]),
    );
    let found = values(
        bundle,
        &[
            "write",
            "/etc/x",
            "y",
            ",",
            "write",
            "/tmp/x",
            "y",
            ",",
            "write",
            "/proc/sys/net/ipv4/ip_forward",
            "1",
        ],
    );
    assert_eq!(
        found,
        [
            json!({"errno": "EROFS"}),
            json!("ok"),
            json!({"errno": "EROFS"})
        ]
    );
}

fn read_only_paths_keep_other_options() {
    let bundle = bind(
        Bundle::new(),
        "/tmp",
        &["bind", "nosuid", "nodev", "noexec"],
    );
    let report = report(bundle.set("/linux/readonlyPaths", json!(["/tmp/below"])));
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(has(at(&report, "/tmp/below"), option), "{option}");
    }
}

fn recursive_read_only() {
    let run = tree_with_a_mount_below(
        &["rbind", "rro"],
        &["write", "/tmp/below/x", "y", ",", "write", "/tmp/x", "y"],
    );
    assert_eq!(run, [json!({"errno": "EROFS"}), json!({"errno": "EROFS"})]);
}

fn plain_read_only_leaves_the_mounts_below() {
    let run = tree_with_a_mount_below(
        &["rbind", "ro"],
        &["write", "/tmp/below/x", "y", ",", "write", "/tmp/x", "y"],
    );
    assert_eq!(run, [json!("ok"), json!({"errno": "EROFS"})]);
}

fn recursive_attributes() {
    let run = tree_with_a_mount_below(
        &["rbind", "rnosuid", "rnodev", "rnoexec", "rnoatime"],
        &["report"],
    );
    for path in ["/tmp", "/tmp/below"] {
        for option in ["nosuid", "nodev", "noexec", "noatime"] {
            assert!(has(at(&run[0], path), option), "{path} {option}");
        }
    }
}

/// Binds a directory of the host on /tmp below which a tmpfs is mounted.
fn tree_with_a_mount_below(options: &[&str], steps: &[&str]) -> Vec<Value> {
    let bundle = bind(Bundle::new(), "/tmp", options).probe(steps);
    let below = bundle.path().join("source/below");
    let container = bundle.container();
    let none = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), &below, Some("tmpfs"), none, None::<&str>).unwrap();
    let run = container.run();
    run.values()
}

fn propagation_of_a_mount() {
    for (option, shown) in [
        ("rshared", "shared:"),
        ("rslave", "master:"),
        ("rprivate", ""),
    ] {
        let bundle = bind(Bundle::new(), "/tmp", &["rbind", option]);
        let bundle = bundle
            .set("/linux/rootfsPropagation", "rshared")
            .set("/root/readonly", false);
        let report = report(bundle);
        let tags: Vec<&str> = at(&report, "/tmp")["propagation"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        match option {
            "rprivate" => assert_eq!(tags, Vec::<&str>::new()),
            // The host's mount is private here, so a slave of it has no master.
            "rslave" => assert!(
                !tags.iter().any(|tag| tag.starts_with("shared:")),
                "{tags:?}"
            ),
            _ => assert!(
                tags.iter().any(|tag| tag.starts_with(shown)),
                "{option}: {tags:?}"
            ),
        }
    }
}

/// What is mounted in a volume that the host shares is the host's too from then on: as it was asked for, not as it was
/// on its way there.
fn what_travels_to_the_host_has_its_attributes() {
    let bundle = Bundle::new().set("/linux/rootfsPropagation", "rshared");
    let (volume, source) = (bundle.path().join("volume"), bundle.path().join("source"));
    fs::create_dir(&volume).unwrap();
    fs::create_dir(&source).unwrap();
    let bundle = bundle
        .set("/root/readonly", false)
        .mount(json!({"destination": "/volume", "type": "bind", "source": volume, "options": ["rbind", "rshared"]}))
        .mount(json!({
            "destination": "/volume/inner", "type": "bind", "source": source,
            "options": ["bind", "ro", "nosuid", "nodev", "noexec"],
        }));
    let container = bundle.probe(&["print", "x"]).container();
    let volume = volume.display();
    let words = format!(
        "mount -t tmpfs none {volume} && mount --make-shared {volume} && {} --root {} run --bundle {} {} && cat /proc/self/mountinfo",
        runtime().program.display(),
        container.state_root().display(),
        container.bundle.path().display(),
        container.id,
    );
    let call = Invocation::new("unshare".as_ref()).args(["-m", "sh", "-c", &words]);
    let told = call.finish().ok().stdout();
    let inner = format!(" {volume}/inner ");
    let line = told.lines().find(|line| line.contains(&inner));
    let line = line.unwrap_or_else(|| panic!("not shared: {told}"));
    assert!(line.contains(" ro,nosuid,nodev,noexec"), "{line}");
}

fn propagation_of_the_root() {
    let tags = |value: &str| {
        let report = report(
            Bundle::new()
                .set("/linux/rootfsPropagation", value)
                .set("/root/readonly", false),
        );
        at(&report, "/")["propagation"].to_string()
    };
    assert!(tags("shared").contains("shared:"));
    assert!(tags("rshared").contains("shared:"));
    assert!(!tags("private").contains("shared:"));
    assert!(!tags("rslave").contains("shared:"));
    assert!(!tags("slave").contains("shared:"));
    // systemd shares `/` with all: the end of the old root inside must not be that of the host's mounts.
    let host = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(
        host.contains(" /dev/pts ") || !fs::exists("/run/systemd/system").unwrap(),
        "{host}"
    );
}

fn an_unknown_propagation_is_refused() {
    Bundle::new()
        .set("/linux/rootfsPropagation", "nosuch")
        .container()
        .run()
        .fails(1, "nosuch");
}

fn the_host_sees_none_of_the_mounts() {
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let container = bind(Bundle::new(), "/tmp", &["rbind"])
        .probe(&["pause"])
        .container();
    container.run_detached().ok();
    let now = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours = container.bundle.path().to_str().unwrap();
    assert!(!now.contains(ours), "before: {before}\nnow: {now}");
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

fn a_remount_does_not_undo_read_only() {
    let found = values(
        Bundle::new(),
        &[
            "remount-rw",
            "/",
            ",",
            "remount-rw",
            "/proc/sys",
            ",",
            "remount-rw",
            "/sys",
        ],
    );
    assert_eq!(found, vec![json!({"errno": "EPERM"}); 3]);
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
        data_of_a_tmpfs,
        a_tmpfs_takes_the_mode_of_what_it_covers,
        tmpcopyup_keeps_what_was_there,
        tmpcopyup_keeps_owners_and_modes,
        tmpcopyup_does_not_follow_links,
        mounts_are_made_in_order,
        an_unknown_file_system_is_refused,
        an_unknown_option_reaches_the_file_system,
        masked_paths,
        read_only_paths,
        read_only_paths_keep_other_options,
        plain_read_only_leaves_the_mounts_below,
        recursive_read_only,
        recursive_attributes,
        propagation_of_a_mount,
        an_unknown_propagation_is_refused,
        the_host_sees_none_of_the_mounts,
        a_link_as_target_stays_inside,
        proc_or_sys_that_is_a_link_is_refused,
        a_mount_inside_proc_is_refused,
        a_remount_does_not_undo_read_only,
        no_pivot,
        without_a_mount_namespace,
    ],
    &[Need::Root, Need::CgroupV1("pids")] => [a_cgroup_mount_shows_only_its_own],
    &[Need::Root, Need::Program("unshare"), Need::NotRunc("1.1.5 changes it when it is there")] => [
        what_travels_to_the_host_has_its_attributes,
    ],
    &[Need::Root, Need::NotRunc("1.1.5 sets it before pivot_root, without effect")] => [propagation_of_the_root],
    &[Need::Root, Need::NotRunc("1.1.5 copies no attributes")] => [tmpcopyup_keeps_capabilities_of_files],
    &[Need::Root, Need::NotRunc("1.1.5 gives every tmpfs the mode of what it covers")] => [
        the_mode_option_wins_over_what_is_covered,
    ],
}
