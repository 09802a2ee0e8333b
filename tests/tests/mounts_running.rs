//! Mounts added to a container that runs, and taken away again.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::chown;

use ocirun_tests::{Bundle, Container, Finished, Need, suite};
use serde_json::{Value, json};

fn running(bundle: Bundle) -> Container {
    fs::create_dir(bundle.path().join("source")).unwrap();
    fs::write(bundle.path().join("source/file"), "from the host").unwrap();
    let container = bundle
        .set("/root/readonly", false)
        .probe(&["pause"])
        .container();
    container.run_until_ready_detached();
    container
}

fn mounts(container: &Container, what: &str, list: &Value) -> Finished {
    let file = container.file("mounts.json");
    fs::write(&file, list.to_string()).unwrap();
    container
        .command("mounts")
        .arg(what)
        .arg(&container.id)
        .arg(file)
        .finish()
}

fn bind(options: &[&str]) -> Value {
    json!([{"destination": "/data/here", "type": "bind", "source": "source", "options": options}])
}

fn a_bind_mount_comes_and_goes() {
    let container = running(Bundle::new());
    mounts(&container, "add", &bind(&["bind", "ro"])).ok();
    let values = container
        .exec(&["read", "/data/here/file", ",", "write", "/data/here/x", "y"])
        .values();
    assert_eq!(values, [json!("from the host"), json!({"errno": "EROFS"})]);
    mounts(
        &container,
        "remove",
        &json!([{"destination": "/data/here"}]),
    )
    .ok();
    assert_eq!(
        container.exec(&["read", "/data/here/file"]).value(),
        json!({"errno": "ENOENT"})
    );
    mounts(
        &container,
        "remove",
        &json!([{"destination": "/data/here"}]),
    )
    .fails(1, "mounts[0] \"/data/here\"");
    // The host never had it.
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains("/data/here"));
}

fn a_tmpfs_with_its_options() {
    let container = running(Bundle::new());
    let list = json!([{"destination": "/cache", "type": "tmpfs", "source": "tmpfs", "options": ["mode=750", "nosuid"]}]);
    mounts(&container, "add", &list).ok();
    let values = container
        .exec(&["stat", "/cache", ",", "write", "/cache/x", "y"])
        .values();
    assert_eq!(
        (&values[0]["mode"], &values[1]),
        (&json!("0750"), &json!("ok"))
    );
}

fn links_of_the_container_lead_nowhere_outside() {
    let container = running(Bundle::new());
    std::os::unix::fs::symlink("/../../..", container.bundle.inside("/data")).unwrap();
    mounts(&container, "add", &bind(&["bind"])).ok();
    assert_eq!(
        container.exec(&["read", "/here/file"]).value(),
        "from the host"
    );
    assert!(!fs::exists("/here").unwrap());
}

fn in_a_user_namespace() {
    let container = running(mapped());
    mounts(&container, "add", &bind(&["bind"])).ok();
    assert_eq!(
        container.exec(&["read", "/data/here/file"]).value(),
        "from the host"
    );
}

fn map() -> Value {
    json!([{"containerID": 0, "hostID": 200_000, "size": 1000}])
}

/// A container whose root is 200000 on the host.
fn mapped() -> Bundle {
    let bundle = Bundle::new()
        .namespace(json!({"type": "user"}))
        .set("/linux/uidMappings", map())
        .set("/linux/gidMappings", map());
    for name in ["", "tmp"] {
        chown(bundle.inside(name), Some(200_000), Some(200_000)).unwrap();
    }
    bundle
}

/// Whose a file of user 1 and group 2 is in the container, by a mount with these options and maps.
fn owner(container: &Container, options: &[&str], maps: Option<&Value>) -> (Value, Value) {
    let mut list = bind(options);
    if let Some(maps) = maps {
        list[0]["uidMappings"] = maps.clone();
        list[0]["gidMappings"] = maps.clone();
    }
    mounts(container, "add", &list).ok();
    let stat = container.exec(&["stat", "/data/here/file"]).ok().value();
    let destination = json!([{"destination": "/data/here"}]);
    mounts(container, "remove", &destination).ok();
    (stat["uid"].clone(), stat["gid"].clone())
}

fn owners_as_the_maps_say() {
    let container = running(mapped());
    let file = container.bundle.path().join("source/file");
    chown(file, Some(1), Some(2)).unwrap();
    let other = json!([{"containerID": 0, "hostID": 200_010, "size": 10}]);
    for (options, maps, owners) in [
        (&["bind"][..], None, (65534, 65534)),
        (&["bind", "idmap"], None, (1, 2)),
        (&["rbind", "ridmap"], None, (1, 2)),
        (&["bind"], Some(&other), (11, 12)),
    ] {
        let found = owner(&container, options, maps);
        assert_eq!(found, (json!(owners.0), json!(owners.1)), "{options:?}");
    }
}

fn owners_by_the_maps_of_a_joined_namespace() {
    let holder = mapped().probe(&["pause"]).container();
    holder.run_until_ready_detached();
    let path = format!("/proc/{}/ns/user", holder.pid());
    let bundle = mapped()
        .without_namespace("user")
        .remove("/linux/uidMappings")
        .remove("/linux/gidMappings")
        .namespace(json!({"type": "user", "path": path}));
    let container = running(bundle);
    let file = container.bundle.path().join("source/file");
    chown(file, Some(1), Some(2)).unwrap();
    let found = owner(&container, &["bind", "idmap"], None);
    assert_eq!(found, (json!(1), json!(2)));
}

/// Of a container without a user namespace.
fn owners_by_given_maps_alone() {
    let container = running(Bundle::new());
    let file = container.bundle.path().join("source/file");
    chown(file, Some(1), Some(2)).unwrap();
    let maps = json!([{"containerID": 0, "hostID": 5000, "size": 10}]);
    let found = owner(&container, &["bind"], Some(&maps));
    assert_eq!(found, (json!(5001), json!(5002)));
    let implied = mounts(&container, "add", &bind(&["bind", "idmap"]));
    implied.fails(1, "/mounts/0: an id-mapped mount without mappings");
    let mut one = bind(&["bind"]);
    one[0]["uidMappings"] = maps;
    mounts(&container, "add", &one).fails(1, "/mounts/0/gidMappings");
}

fn mistakes_are_named() {
    let container = running(Bundle::new());
    for (list, words) in [
        (
            json!([{"destination": "/x", "type": "bind"}]),
            "/mounts/0/source",
        ),
        (
            json!([{"destination": "/x", "type": "proc"}]),
            "/mounts/0: only bind mounts and tmpfs",
        ),
        (
            json!([{"destination": "/proc/x", "type": "tmpfs"}]),
            "/mounts/0/destination",
        ),
        (
            json!([{"destination": "/x", "type": "bind", "source": "missing"}]),
            "mounts[0] \"/x\": open(",
        ),
        (json!({}), "invalid type"),
    ] {
        mounts(&container, "add", &list).fails(1, words);
    }
    mounts(&container, "move", &bind(&[])).fails(1, "neither add nor remove");
    container.kill("KILL").ok();
    container.wait_for_status("stopped");
    mounts(&container, "add", &bind(&["bind"])).fails(1, "container not running");
}

suite! {
    &[Need::Root, Need::Ocirun] => [
        a_bind_mount_comes_and_goes,
        a_tmpfs_with_its_options,
        links_of_the_container_lead_nowhere_outside,
        mistakes_are_named,
    ],
    &[Need::Root, Need::Ocirun, Need::UserNamespace] => [
        in_a_user_namespace,
        owners_as_the_maps_say,
        owners_by_the_maps_of_a_joined_namespace,
        owners_by_given_maps_alone,
    ],
}
