//! tmpfs: data, modes, and what it takes over from what it covers.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use ocirun_tests::mounts::{at, has, has_data, values};
use ocirun_tests::{Bundle, Need, suite};
use serde_json::{Value, json};

fn copied_up(bundle: Bundle, options: &[&str]) -> Bundle {
    bundle.mount(
        json!({"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": options}),
    )
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

suite! {
    &[Need::Root] => [
        data_of_a_tmpfs,
        a_tmpfs_takes_the_mode_of_what_it_covers,
        tmpcopyup_keeps_what_was_there,
        tmpcopyup_keeps_owners_and_modes,
        tmpcopyup_does_not_follow_links,
    ],
    &[Need::Root, Need::NotRunc("1.1.5 copies no attributes")] => [
        tmpcopyup_keeps_capabilities_of_files,
    ],
    &[Need::Root, Need::NotRunc("1.1.5 gives every tmpfs the mode of what it covers")] => [
        the_mode_option_wins_over_what_is_covered,
    ],
}
