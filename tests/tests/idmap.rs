//! Id-mapped mounts and roots: owners on disk, and whom the container sees.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use ocirun_tests::{Bundle, Container, Need, suite};
use serde_json::{Value, json};

const OUTSIDE: u32 = 200_000;

fn maps(container: u32, host: u32) -> Value {
    json!([{"containerID": container, "hostID": host, "size": 1000}])
}

/// A bundle in a user namespace whose root is 200000 on the host, as the owners of its root file system are.
fn in_user_namespace() -> Bundle {
    let bundle = Bundle::new()
        .namespace(json!({"type": "user"}))
        .set("/linux/uidMappings", maps(0, OUTSIDE))
        .set("/linux/gidMappings", maps(0, OUTSIDE));
    for name in ["", "bin", "dev", "etc", "proc", "sys", "tmp"] {
        chown(bundle.inside(name), Some(OUTSIDE), Some(OUTSIDE)).unwrap();
    }
    bundle
}

/// A directory of the host with a file of user 1, group 2, and a directory below.
fn source(bundle: &Bundle) -> std::path::PathBuf {
    let source = bundle.path().join("source");
    fs::create_dir_all(source.join("below")).unwrap();
    owned_file(&source.join("file"));
    source
}

fn owned_file(path: &Path) {
    fs::write(path, "x").unwrap();
    chown(path, Some(1), Some(2)).unwrap();
}

fn bound(bundle: Bundle, options: &[&str], mappings: Option<(Value, Value)>) -> Bundle {
    let source = source(&bundle);
    let mut mount =
        json!({"destination": "/tmp", "type": "bind", "source": source, "options": options});
    if let Some((uids, gids)) = mappings {
        mount["uidMappings"] = uids;
        mount["gidMappings"] = gids;
    }
    bundle.mount(mount)
}

fn owner(container: &Container) -> (Value, Value) {
    owners(container).remove(0)
}

fn owners(container: &Container) -> Vec<(Value, Value)> {
    let stats = container.run().ok().values();
    let ids = |stat: &Value| (stat["uid"].clone(), stat["gid"].clone());
    stats.iter().map(ids).collect()
}

fn stat(bundle: Bundle) -> Container {
    bundle.probe(&["stat", "/tmp/file"]).container()
}

fn given_maps() {
    let given = Some((maps(0, OUTSIDE), maps(0, OUTSIDE)));
    let container = stat(bound(in_user_namespace(), &["bind"], given));
    assert_eq!(owner(&container), (json!(1), json!(2)));
}

fn without_a_map_the_owner_is_unknown() {
    let container = stat(bound(in_user_namespace(), &["bind"], None));
    assert_eq!(owner(&container), (json!(65534), json!(65534)));
}

fn given_maps_without_a_user_namespace() {
    let given = Some((maps(0, 5000), maps(0, 7000)));
    let container = stat(bound(Bundle::new(), &["bind"], given));
    assert_eq!(owner(&container), (json!(5001), json!(7002)));
}

fn implied_maps_are_those_of_the_container() {
    let container = stat(bound(in_user_namespace(), &["bind", "idmap"], None));
    assert_eq!(owner(&container), (json!(1), json!(2)));
}

fn implied_maps_of_a_joined_namespace() {
    let holder = in_user_namespace().probe(&["pause"]).container();
    holder.run_until_ready_detached();
    let path = format!("/proc/{}/ns/user", holder.pid());
    let bundle = in_user_namespace()
        .without_namespace("user")
        .remove("/linux/uidMappings")
        .remove("/linux/gidMappings")
        .namespace(json!({"type": "user", "path": path}));
    let container = stat(bound(bundle, &["bind", "idmap"], None));
    assert_eq!(owner(&container), (json!(1), json!(2)));
}

fn the_mounts_below_only_with_ridmap() {
    for (option, below) in [("idmap", 65534), ("ridmap", 1)] {
        let bundle = bound(in_user_namespace(), &["rbind", option], None);
        let place = bundle.path().join("source/below");
        let container = bundle
            .probe(&["stat", "/tmp/file", ",", "stat", "/tmp/below/file"])
            .container();
        let none = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), &place, Some("tmpfs"), none, None::<&str>).unwrap();
        owned_file(&place.join("file"));
        let uids: Vec<Value> = owners(&container).into_iter().map(|ids| ids.0).collect();
        assert_eq!(uids, [json!(1), json!(below)], "{option}");
    }
}

fn what_is_written_belongs_to_the_mapped_owner() {
    let bundle = bound(in_user_namespace(), &["bind", "idmap"], None);
    fs::set_permissions(
        bundle.path().join("source"),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    let container = bundle.probe(&["write", "/tmp/new", "x"]).container();
    assert_eq!(container.run().ok().value(), "ok");
    let metadata = fs::metadata(container.bundle.path().join("source/new")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&metadata), 0);
}

fn what_cannot_be_is_refused() {
    let one_map = |name: &str| {
        let bundle = bound(in_user_namespace(), &["bind"], None);
        let last = bundle.spec["mounts"].as_array().unwrap().len() - 1;
        bundle.set(&format!("/mounts/{last}/{name}"), maps(0, OUTSIDE))
    };
    for bundle in [
        one_map("uidMappings"),
        one_map("gidMappings"),
        bound(Bundle::new(), &["bind", "idmap"], None),
        Bundle::new().mount(json!({
            "destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
            "uidMappings": maps(0, 1), "gidMappings": maps(0, 1),
        })),
    ] {
        let container = bundle.container();
        container.run().fails(1, "/mounts/");
        container.verb("state").fails(1, "does not exist");
    }
}

fn the_root_by_annotation() {
    let bundle = in_user_namespace().set("/annotations", json!({"org.ocirun.root.idmap": "true"}));
    // Owners as an image has them.
    for name in ["", "bin", "dev", "etc", "proc", "sys", "tmp"] {
        chown(bundle.inside(name), Some(0), Some(0)).unwrap();
    }
    owned_file(&bundle.inside("/etc/file"));
    let container = bundle
        .set("/root/readonly", false)
        .probe(&[
            "stat",
            "/",
            ",",
            "stat",
            "/etc/file",
            ",",
            "write",
            "/etc/new",
            "x",
        ])
        .container();
    let values = container.run().ok().values();
    assert_eq!(
        (&values[0]["uid"], &values[1]["uid"]),
        (&json!(0), &json!(1))
    );
    let metadata = fs::metadata(container.bundle.inside("/etc/new")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&metadata), 0);
}

fn an_annotation_that_is_neither_is_refused() {
    for (bundle, value) in [(in_user_namespace(), "yes"), (Bundle::new(), "true")] {
        let container = bundle
            .set("/annotations", json!({"org.ocirun.root.idmap": value}))
            .container();
        let run = container.run();
        run.fails(1, "/annotations/org.ocirun.root.idmap: ");
    }
}

suite! {
    &[Need::Root, Need::UserNamespace] => [without_a_map_the_owner_is_unknown],
    &[Need::Root, Need::UserNamespace, Need::NotRunc("1.1.5 has no id-mapped mounts")] => [
        given_maps,
        given_maps_without_a_user_namespace,
        implied_maps_are_those_of_the_container,
        implied_maps_of_a_joined_namespace,
        what_is_written_belongs_to_the_mapped_owner,
    ],
    // crun 1.8.1 knows no ridmap yet.
    &[Need::Root, Need::UserNamespace, Need::Ocirun, Need::Kernel(6, 3)] => [
        // A tmpfs with mapped ids is that new.
        the_mounts_below_only_with_ridmap,
    ],
    &[Need::Root, Need::UserNamespace, Need::Ocirun] => [
        what_cannot_be_is_refused,
        the_root_by_annotation,
        an_annotation_that_is_neither_is_refused,
    ],
}
