//! Layers made of changes: containerd's named cases of differences, and that an image made of a directory is that directory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

use ocirun_tests::image_support::{Bed, Entry, Image, Tar, entries, listing};
use ocirun_tests::{Need, suite};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// A base image, a copy of it in `dir`, changed; the entries of the layer that a commit makes of it. The new image has to
/// be `dir` again.
fn commit(base: Tar, change: impl Fn(&Path), arguments: &[&str]) -> Vec<Entry> {
    let bed = Bed::new();
    let layout = bed.path("layout");
    Image::new(&[base.end()]).write_layout(&layout);
    bed.ok(&["import", layout.to_str().unwrap(), "t.io/a:1"]);
    let dir = bed.path("dir");
    bed.ok(&["unpack", "t.io/a:1", dir.to_str().unwrap()]);
    change(&dir);
    let command = ["commit", "t.io/a:1", dir.to_str().unwrap(), "t.io/a:2"];
    bed.ok(&[&command, arguments].concat());
    if arguments.is_empty() {
        bed.ok(&["unpack", "t.io/a:2", bed.path("again").to_str().unwrap()]);
        let content = |path: &Path| {
            let lines = listing(path).into_iter();
            // Not the root, whose time no layer tells; sockets are in no layer.
            lines
                .filter(|line| !line.starts_with(' ') && !line.contains(" 140"))
                .collect::<Vec<_>>()
        };
        assert_eq!(content(&bed.path("again")), content(&dir));
    }
    let out = bed.path("out");
    let target = out.to_str().unwrap();
    bed.ok(&["export", "t.io/a:2", target, "--format", "oci-dir"]);
    let document: Value = serde_json::from_str(&bed.ok(&["inspect", "t.io/a:2"])).unwrap();
    let layer = document["manifest"]["layers"][1]["digest"]
        .as_str()
        .unwrap();
    let blob = fs::read(out.join("blobs").join(layer.replace(':', "/"))).unwrap();
    let mut archive = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(&blob[..]);
    std::io::Read::read_to_end(&mut decoder, &mut archive).unwrap();
    bed.assert_sound();
    entries(&archive)
}

fn changed(base: Tar, change: impl Fn(&Path)) -> Vec<String> {
    let entries = commit(base, change, &[]);
    entries.into_iter().map(|entry| entry.shown).collect()
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn parents_are_part_of_a_layer() {
    // EmptyDiff
    let none: [&str; 0] = [];
    assert_eq!(changed(Tar::new().dir("etc", 0o755), |_| {}), none);
    let two = || Tar::new().dir("d1", 0o755).dir("d2", 0o770);
    let add = |dir: &Path| {
        fs::create_dir(dir.join("d1/d")).unwrap();
        chmod(&dir.join("d1/d"), 0o700);
        fs::write(dir.join("d2/f"), "ok").unwrap();
    };
    // ParentInclusion
    assert_eq!(
        changed(two(), add),
        ["d d1/ 755", "d d1/d/ 700", "d d2/ 770", "f d2/f 644 ok"]
    );
    // UpdateDirectoryPermission
    let update = |dir: &Path| {
        add(dir);
        chmod(&dir.join("d1"), 0o777);
    };
    assert_eq!(
        changed(two(), update),
        ["d d1/ 777", "d d1/d/ 700", "d d2/ 770", "f d2/f 644 ok"]
    );
}

/// The order is that of names here, so the first name has the content and not the one that is new.
fn new_names_of_old_files_stay_links() {
    let file = |tar: Tar, dir: &str| tar.dir(dir, 0o755).file(&format!("{dir}/f1"), b"link me");
    let dirs = ["d1", "d2", "d4", "d5"];
    let base = || dirs.into_iter().fold(Tar::new().dir("d3", 0o755), file);
    // HardlinkParentInclusion
    let linked = base()
        .dir("d6", 0o755)
        .link("d1/f1", "d6/l1")
        .link("d5/f1", "d6/l2");
    let change = |dir: &Path| {
        fs::hard_link(dir.join("d1/f1"), dir.join("d2/l1")).unwrap();
        fs::hard_link(dir.join("d4/f1"), dir.join("d3/l1")).unwrap();
        fs::remove_file(dir.join("d6/l1")).unwrap();
        fs::remove_file(dir.join("d6/l2")).unwrap();
    };
    assert_eq!(
        changed(linked, change),
        [
            "d d1/ 755",
            "f d1/f1 644 link me",
            "d d2/ 755",
            "l d2/l1 -> d1/f1",
            "d d3/ 755",
            "f d3/l1 644 link me",
            "d d4/ 755",
            "l d4/f1 -> d3/l1",
            "d d6/ 755",
            "w d6/l1",
            "w d6/l2",
        ]
    );
    // HardlinkUpdatedParent
    let change = |dir: &Path| {
        chmod(&dir.join("d1"), 0o777);
        fs::hard_link(dir.join("d1/f1"), dir.join("d2/l1")).unwrap();
        chmod(&dir.join("d5"), 0o777);
        fs::hard_link(dir.join("d4/f1"), dir.join("d5/l1")).unwrap();
    };
    assert_eq!(
        changed(base(), change),
        [
            "d d1/ 777",
            "f d1/f1 644 link me",
            "d d2/ 755",
            "l d2/l1 -> d1/f1",
            "d d4/ 755",
            "f d4/f1 644 link me",
            "d d5/ 777",
            "l d5/l1 -> d4/f1",
        ]
    );
}

fn what_is_gone_is_hidden() {
    let file = |tar: Tar, dir: &str| tar.dir(dir, 0o755).file(&format!("{dir}/f1"), b"content");
    let base = ["d1", "d2", "d3", "d4", "d5"]
        .into_iter()
        .fold(Tar::new(), file);
    // WhiteoutIncludesParents
    let change = |dir: &Path| {
        for d in ["d1", "d2", "d3", "d4"] {
            fs::remove_file(dir.join(d).join("f1")).unwrap();
        }
        chmod(&dir.join("d2/f2"), 0o777);
        fs::write(dir.join("d3/f2"), "content").unwrap();
        fs::write(dir.join("d4/f0"), "content").unwrap();
        fs::remove_dir_all(dir.join("d5")).unwrap();
    };
    assert_eq!(
        changed(base.file("d2/f2", b"content"), change),
        [
            "d d1/ 755",
            "w d1/f1",
            "d d2/ 755",
            "w d2/f1",
            "f d2/f2 777 content",
            "d d3/ 755",
            "w d3/f1",
            "f d3/f2 644 content",
            "d d4/ 755",
            "f d4/f0 644 content",
            "w d4/f1",
            "w d5",
        ]
    );
    // WhiteoutParentRemoval
    let base = Tar::new()
        .dir("d1", 0o755)
        .dir("d2", 0o755)
        .file("d2/f1", b"content");
    let change = |dir: &Path| {
        fs::remove_dir(dir.join("d1")).unwrap();
        fs::remove_dir_all(dir.join("d2")).unwrap();
        fs::create_dir(dir.join("d3")).unwrap();
    };
    assert_eq!(changed(base, change), ["w d1", "w d2", "d d3/ 755"]);
}

fn sockets_are_left_out() {
    // IgnoreSockets
    let base = Tar::new().dir("d1", 0o755).file("d1/gone", b"1");
    let change = |dir: &Path| {
        drop(std::os::unix::net::UnixListener::bind(dir.join("d1/s")).unwrap());
        fs::remove_file(dir.join("d1/gone")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(dir.join("d1/gone")).unwrap());
    };
    assert_eq!(changed(base, change), ["d d1/ 755", "w d1/gone"]);
}

/// RelativeSymlinks, Symlinks
fn symbolic_links_go_round_as_they_are() {
    let targets = [
        "../a",
        "a/../../b",
        "/",
        "/etc/../../x",
        "..",
        "nowhere",
        "l0",
    ];
    let change = |dir: &Path| {
        for (number, target) in targets.iter().enumerate() {
            symlink(target, dir.join(format!("l{number}"))).unwrap();
        }
    };
    let expected = targets.iter().enumerate();
    let expected = expected.map(|(number, target)| format!("s l{number} -> {target}"));
    assert_eq!(changed(Tar::new(), change), expected.collect::<Vec<_>>());
}

/// TarWithXattr: those of a user go along, SELinux' labels belong to the machine.
fn attributes_go_round() {
    let base = Tar::new()
        .pax(&[
            ("SCHILY.xattr.user.key", b"old"),
            ("SCHILY.xattr.security.selinux", b"label"),
        ])
        .file("f", b"1");
    let change = |dir: &Path| {
        let set = |name: &str, value: &[u8]| {
            rustix::fs::setxattr(dir.join("f"), name, value, rustix::fs::XattrFlags::empty())
        };
        set("user.key", b"new\0value").unwrap();
        // Refused where SELinux is the machine's.
        let _ = set("security.selinux", b"other");
        let _ = rustix::fs::removexattr(dir.join("f"), "security.selinux");
    };
    assert_eq!(changed(base, change), ["f f 644 1"]);
}

/// SourceDateEpoch
fn times_are_bounded_on_request() {
    let base = Tar::new()
        .dir("d", 0o755)
        .file("d/gone", b"1")
        .file("d/old", b"1");
    let change = |dir: &Path| {
        fs::remove_file(dir.join("d/gone")).unwrap();
        fs::write(dir.join("d/new"), "2").unwrap();
        let old = fs::File::options()
            .write(true)
            .open(dir.join("d/old"))
            .unwrap();
        let time = std::time::UNIX_EPOCH - std::time::Duration::from_millis(1500);
        old.set_modified(time).unwrap();
    };
    let of = |arguments: &[&str]| {
        let entries = commit(base.clone(), change, arguments).into_iter();
        entries
            .map(|entry| (entry.shown, entry.mtime))
            .collect::<Vec<_>>()
    };
    let bounded = of(&["--latest", "1600000000"]);
    let expected = [
        ("d d/ 755", "1600000000"),
        ("w d/gone", "1600000000"),
        ("f d/new 644 2", "1600000000"),
        ("f d/old 644 1", "-1.500000000"),
    ];
    assert_eq!(bounded, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    let free = of(&["--latest", "8000000000"]);
    assert!(
        free[2].1.parse::<f64>().unwrap() > 1_700_000_000.0,
        "{free:?}"
    );
}

suite! {
    &[Need::Root] => [
        parents_are_part_of_a_layer, new_names_of_old_files_stay_links, what_is_gone_is_hidden, sockets_are_left_out,
        symbolic_links_go_round_as_they_are, attributes_go_round, times_are_bounded_on_request,
    ],
}
