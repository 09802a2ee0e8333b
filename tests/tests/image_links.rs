//! Links and whiteouts that lead out of a layer, or would: containerd's named cases. Nothing beside the target may be
//! touched.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

use ocirun_tests::image_support::{Bed, Header, Image, Tar, content, refused, succeeds};
use ocirun_tests::{Need, suite};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

fn same_file(root: &Path, a: &str, b: &str) {
    let of = |name: &str| fs::symlink_metadata(root.join(name)).unwrap().ino();
    assert_eq!(of(a), of(b), "{a} and {b}");
}

fn base() -> Tar {
    Tar::new().dir("etc", 0o755).file("etc/passwd", b"inside")
}

/// containerd's names, where the content of the archive and its outcome are the same as there.
fn breakouts_by_symlink() {
    let unbroken = |root: &Path| assert_eq!(content(root, "etc/unbroken"), "unbroken");
    let with = |tar: Tar, path: &str| tar.file(path, b"unbroken").end();
    let dirs = || Tar::new().dir("etc", 0o755).dir("dummy", 0o755);
    for (name, layer) in [
        (
            "SymlinkAbsolute",
            with(dirs().symlink("/etc", "localetc"), "/localetc/unbroken"),
        ),
        (
            "SymlinkUpAndOut",
            with(
                dirs().symlink("/dummy/../etc", "localetc"),
                "/localetc/unbroken",
            ),
        ),
        (
            "SymlinkMultipleAbsolute",
            with(
                dirs()
                    .symlink("/etc", "/dummy/etc")
                    .symlink("/dummy/etc", "localetc"),
                "/dummy/etc/unbroken",
            ),
        ),
        (
            "SymlinkMultipleRelative",
            with(
                dirs()
                    .symlink("/etc", "/dummy/etc")
                    .symlink("./dummy/etc", "localetc"),
                "/dummy/etc/unbroken",
            ),
        ),
    ] {
        println!("{name}");
        succeeds(&[layer], unbroken);
    }
    // SymlinkEmptyFile
    let layer = Tar::new()
        .dir("etc", 0o755)
        .file("etc/emptied", b"notempty")
        .symlink("/etc", "localetc")
        .file("/localetc/emptied", b"");
    succeeds(&[layer.end()], |root| {
        assert_eq!(content(root, "etc/emptied"), "");
    });
}

fn breakouts_by_hard_link() {
    for (name, target, link, at) in [
        (
            "HardlinkRelative",
            "../../etc",
            "/breakouts/d1/passwd",
            "breakouts/d1",
        ),
        (
            "HardlinkDownAndOut",
            "../downandout/../../etc",
            "/breakouts/d1/passwd",
            "breakouts/d1",
        ),
        ("HardlinkAbsolute", "/etc", "/localetc/passwd", "localetc"),
        (
            "HardlinkRelativeLong",
            "../../../../../../../etc",
            "/localetc/passwd",
            "localetc",
        ),
        (
            "HardlinkRelativeUpAndOut",
            "upandout/../../../etc",
            "/localetc/passwd",
            "localetc",
        ),
        (
            "HardlinkDirectRelative",
            "etc",
            "../../../../../etc/passwd",
            "unused",
        ),
        ("HardlinkDirectAbsolute", "etc", "/etc/passwd", "unused"),
    ] {
        println!("{name}");
        let tar = base()
            .dir("breakouts", 0o755)
            .dir("downandout", 0o755)
            .symlink(target, at)
            .link(link, "mypasswd");
        succeeds(&[tar.end()], |root| {
            same_file(root, "mypasswd", "etc/passwd");
        });
    }
    let linked = |tar: Tar, name: &str| tar.link("/etc/passwd", name).end();
    // SymlinkParentDirectory: a link named as the root is left out.
    succeeds(
        &[linked(base().symlink("/etc/", ".."), "localpasswd")],
        |r| same_file(r, "localpasswd", "etc/passwd"),
    );
    // SymlinkParentRelative
    succeeds(
        &[linked(
            base().symlink("/etc/", "localetc/sub/.."),
            "/localetc/localpasswd",
        )],
        |root| {
            same_file(root, "etc/localpasswd", "etc/passwd");
        },
    );
    // SymlinkSlashEnded
    succeeds(
        &[linked(
            base().dir("localetc/", 0o770),
            "/localetc/localpasswd",
        )],
        |root| {
            same_file(root, "localetc/localpasswd", "etc/passwd");
        },
    );
    // SymlinkEmptyFilename: containerd leaves the entry out, here it is an error.
    refused(base().symlink("/etc/", "").end(), "empty name");
}

fn links_over_lower_layers() {
    let lower = base().dir("localetc", 0o755).end();
    for (name, target) in [
        ("SymlinkOverrideDirectory", "/etc"),
        ("SymlinkOverrideDirectoryRelative", "../../etc"),
    ] {
        println!("{name}");
        let upper = Tar::new()
            .symlink(target, "localetc")
            .link("/etc/passwd", "/localetc/localpasswd")
            .end();
        succeeds(&[lower.clone(), upper], |root| {
            same_file(root, "etc/localpasswd", "etc/passwd");
            assert_eq!(content(root, "etc/passwd"), "inside");
        });
    }
    // SymlinkOverridePath: what stood below the directory that the link replaces is gone.
    let lower = base()
        .dir("localetc", 0o755)
        .file("localetc/old", b"1")
        .end();
    let upper = Tar::new()
        .symlink("/etc", "localetc")
        .file("localetc/new", b"2")
        .end();
    succeeds(&[lower, upper], |root| {
        assert_eq!(content(root, "etc/new"), "2");
        assert!(!root.join("etc/old").exists());
    });
    let lower = base().symlink("/etc", "localetc").end();
    // DirectoryOverrideSymlink
    let upper = Tar::new()
        .dir("/localetc/", 0o755)
        .link("/etc/passwd", "/localetc/localpasswd")
        .end();
    succeeds(&[lower, upper], |root| {
        same_file(root, "localetc/localpasswd", "etc/passwd");
        assert!(
            fs::symlink_metadata(root.join("localetc"))
                .unwrap()
                .is_dir()
        );
    });
    // DirectoryOverrideSymlinkAndHardlink
    let lower = base()
        .symlink("etc", "localetc")
        .link("/etc/passwd", "/localetc/localpasswd")
        .end();
    let upper = Tar::new()
        .dir("/localetc/", 0o755)
        .file("/localetc/localpasswd", b"different")
        .end();
    succeeds(&[lower, upper], |root| {
        assert_eq!(content(root, "localetc/localpasswd"), "different");
        assert_eq!(content(root, "etc/passwd"), "inside");
    });
    refused(Tar::new().link("absent", "x").end(), "no such file");
}

fn whiteouts() {
    for (name, path) in [
        ("WhiteoutRootParent", ".wh..."),
        ("WhiteoutParent", "etc/.wh..."),
        ("WhiteoutRoot", ".wh.."),
        ("WhiteoutCurrentDirectory", "etc/.wh.."),
        ("without a name", "etc/.wh."),
    ] {
        println!("{name}");
        refused(Tar::new().file(path, b"").end(), "whiteout");
    }
    let lower = || base().symlink("/etc", "localetc").end();
    // WhiteoutSymlink
    succeeds(
        &[lower(), Tar::new().file(".wh.localetc", b"").end()],
        |root| {
            assert_eq!(content(root, "etc/passwd"), "inside");
            assert!(root.join("localetc").symlink_metadata().is_err());
        },
    );
    // WhiteoutSymlinkPath differs from containerd on purpose: a path through a link of a lower layer is a directory of its own.
    succeeds(
        &[lower(), Tar::new().file("localetc/.wh.passwd", b"").end()],
        |root| assert_eq!(content(root, "etc/passwd"), "inside"),
    );
    // WhiteoutDirectoryName
    succeeds(
        &[
            lower(),
            Tar::new().file(".wh.etc/somefile", b"non-empty").end(),
        ],
        |root| {
            assert_eq!(content(root, "etc/passwd"), "inside");
            assert_eq!(content(root, ".wh.etc/somefile"), "non-empty");
        },
    );
    // WhiteoutDeadSymlinkParent
    let dead = || base().symlink("/dne", "localetc").end();
    succeeds(
        &[dead(), Tar::new().file("localetc/.wh.etc", b"").end()],
        |r| assert_eq!(content(r, "etc/passwd"), "inside"),
    );
    // WhiteoutRelativePath
    succeeds(
        &[dead(), Tar::new().file("dne/../.wh.etc", b"").end()],
        |r| assert!(!r.join("etc").exists()),
    );
}

/// What a whiteout hides does not depend on the order of entries, and old marks are never seen.
fn whiteouts_are_for_lower_layers_only() {
    let lower = || {
        Tar::new()
            .dir("a", 0o755)
            .file("a/old", b"1")
            .file("a/b", b"1")
            .end()
    };
    for upper in [
        Tar::new()
            .dir("a", 0o755)
            .file("a/.wh..wh..opq", b"")
            .file("a/new", b"2")
            .end(),
        Tar::new()
            .dir("a", 0o755)
            .file("a/new", b"2")
            .file("a/.wh..wh..opq", b"")
            .end(),
        Tar::new()
            .file(".wh.a", b"")
            .dir("a", 0o755)
            .file("a/new", b"2")
            .end(),
        Tar::new()
            .dir("a", 0o755)
            .file("a/new", b"2")
            .file(".wh.a", b"")
            .end(),
    ] {
        succeeds(&[lower(), upper], |root| {
            let names = fs::read_dir(root.join("a"))
                .unwrap()
                .map(|e| e.unwrap().file_name())
                .collect::<Vec<_>>();
            assert_eq!(names, ["new"]);
        });
    }
    let upper = Tar::new()
        .dir("a", 0o755)
        .file("a/.wh.b", b"")
        .file("a/b", b"2")
        .file("a/.wh..wh.plnk", b"")
        .end();
    succeeds(&[lower(), upper], |root| {
        assert_eq!(content(root, "a/b"), "2");
        assert!(!root.join("a/.wh..wh.plnk").exists());
    });
}

fn hard_links_to_symbolic_links() {
    let before = Tar::new()
        .dir("etc", 0o770)
        .symlink("/etc/passwd", "localpasswd")
        .link("localpasswd", "dup")
        .file("/etc/passwd", b"after")
        .end();
    // HardlinkSymlinkBeforeCreateTarget, HardlinkSymlinkAbsolute
    succeeds(&[before], |root| same_file(root, "dup", "localpasswd"));
    // HardlinkSymlinkRelative
    let layer = base()
        .symlink("../../../../../etc/passwd", "passwdlink")
        .link("/passwdlink", "localpasswd")
        .end();
    succeeds(&[layer], |root| {
        same_file(root, "localpasswd", "passwdlink");
        assert_eq!(
            fs::read_link(root.join("localpasswd")).unwrap(),
            Path::new("../../../../../etc/passwd")
        );
    });
    refused(base().link("etc", "x").end(), "directory");
    refused(base().link("x", "x").end(), "itself");
    refused(base().link("etc/passwd", "etc/passwd").end(), "itself");
}

/// HardlinkSymlinkChmod, and everything else that could change what a link leads to outside.
fn metadata_belongs_to_the_entry() {
    let bed = Bed::new();
    let outside = bed.path("outside");
    fs::write(&outside, "x").unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o400)).unwrap();
    let target = outside.to_str().unwrap();
    let before = fs::metadata(&outside).unwrap();
    let long = Tar::new().pax(&[("linkpath", target.as_bytes())]);
    let tar = long
        .entry(
            &Header {
                link: b"x".to_vec(),
                mode: 0o777,
                owner: (7, 7),
                ..Header::new(b'2', "l")
            },
            b"",
        )
        .pax(&[("SCHILY.xattr.user.x", b"y")])
        .link("l", "l2")
        .end();
    let root = bed.unpack(&Image::new(&[tar])).unwrap();
    assert!(fs::symlink_metadata(root.join("l2")).unwrap().is_symlink());
    let after = fs::metadata(&outside).unwrap();
    let of = |m: &fs::Metadata| (m.mode(), m.uid(), m.ctime(), m.ctime_nsec(), m.nlink());
    assert_eq!(of(&before), of(&after));
}

suite! {
    &[Need::Root] => [
        breakouts_by_symlink, breakouts_by_hard_link, links_over_lower_layers, whiteouts, whiteouts_are_for_lower_layers_only,
        hard_links_to_symbolic_links, metadata_belongs_to_the_entry,
    ],
}
