//! Attributes of mounts and of what is below them, masked and read-only paths, propagation.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use ocirun_tests::mounts::{at, bind, has, report, values};
use ocirun_tests::{Bundle, Invocation, Need, runtime, suite};
use serde_json::{Value, json};

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

suite! {
    &[Need::Root] => [
        masked_paths,
        read_only_paths,
        read_only_paths_keep_other_options,
        plain_read_only_leaves_the_mounts_below,
        recursive_read_only,
        recursive_attributes,
        propagation_of_a_mount,
        an_unknown_propagation_is_refused,
        the_host_sees_none_of_the_mounts,
        a_remount_does_not_undo_read_only,
    ],
    &[Need::Root, Need::Program("unshare"), Need::NotRunc("1.1.5 changes it when it is there")] => [
        what_travels_to_the_host_has_its_attributes,
    ],
    &[Need::Root, Need::NotRunc("1.1.5 sets it before pivot_root, without effect")] => [
        propagation_of_the_root,
    ],
}
