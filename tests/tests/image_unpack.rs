//! Archives that attack, and archives that are merely unusual. Nothing beside the target may be touched.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

use ocirun_tests::image_support::{
    Bed, Header, Image, Tar, attack, checksum, content, digest, gzip, listing, refused, succeeds,
};
use ocirun_tests::{Need, suite};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

fn base() -> Tar {
    Tar::new().dir("etc", 0o755).file("etc/passwd", b"inside")
}

fn names_are_clamped() {
    let layer = Tar::new()
        .file("../../a", b"1")
        .file("/b", b"2")
        .file("./c//d/../e", b"3")
        .dir("./", 0o711)
        .end();
    succeeds(&[layer], |root| {
        assert_eq!(
            (content(root, "a"), content(root, "b"), content(root, "c/e")),
            ("1".into(), "2".into(), "3".into())
        );
        assert_eq!(fs::metadata(root).unwrap().mode() & 0o7777, 0o711);
    });
    // Nothing but a directory can be the root.
    succeeds(
        &[Tar::new()
            .symlink("/etc", "/")
            .file(".", b"x")
            .file("a", b"1")
            .end()],
        |root| {
            assert!(fs::symlink_metadata(root).unwrap().is_dir());
            assert_eq!(content(root, "a"), "1");
        },
    );
    refused(
        Tar::new().pax(&[("path", b"a\0b")]).file("x", b"").end(),
        "malformed",
    );
    refused(
        Tar::new().symlink("loop", "loop").file("loop/x", b"").end(),
        "too many symbolic links",
    );
    refused(base().file("etc/passwd/x", b"").end(), "not a directory");
    succeeds(
        &[Tar::new()
            .file("new\nline\u{1f600}", b"1")
            .entry(
                &Header {
                    size: 1,
                    ..Header::new(b'0', b"\xff\xfe")
                },
                b"2",
            )
            .end()],
        |root| {
            assert_eq!(fs::read_dir(root).unwrap().count(), 2);
        },
    );
}

fn marks_of_overlay_are_refused_or_dropped() {
    refused(Tar::new().entry(&Header::new(b'3', "x"), b"").end(), "0:0");
    let drop = [
        ("SCHILY.xattr.trusted.overlay.redirect", &b"/etc"[..]),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.security.selinux", b"x"),
        ("SCHILY.xattr.user.kept", b"v"),
    ];
    let lower = Tar::new().dir("d", 0o755).file("d/old", b"1").end();
    succeeds(
        &[
            lower,
            Tar::new()
                .pax(&drop)
                .dir("d", 0o755)
                .file("d/new", b"")
                .end(),
        ],
        |root| {
            assert!(root.join("d/old").exists());
            let line = listing(root)
                .into_iter()
                .find(|l| l.starts_with("d "))
                .unwrap();
            assert!(
                line.contains("user.kept")
                    && !line.contains("overlay")
                    && !line.contains("selinux"),
                "{line}"
            );
        },
    );
}

fn special_files() {
    let tar = Tar::new()
        .entry(
            &Header {
                device: (1, 3),
                mode: 0o666,
                ..Header::new(b'3', "null")
            },
            b"",
        )
        .entry(
            &Header {
                device: (7, 0),
                mode: 0o660,
                owner: (0, 6),
                ..Header::new(b'4', "loop")
            },
            b"",
        )
        .entry(&Header::new(b'6', "fifo"), b"")
        .entry(
            &Header {
                mode: 0o4755,
                size: 1,
                ..Header::new(b'0', "suid")
            },
            b"x",
        )
        .entry(
            &Header {
                mode: 0o1777,
                ..Header::new(b'5', "tmp")
            },
            b"",
        )
        .pax(&[
            ("uid", b"100000"),
            ("gid", b"4294967294"),
            ("mtime", b"1600000000.123456789"),
        ])
        .file("big-ids", b"")
        .pax(&[(
            "SCHILY.xattr.security.capability",
            b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        )])
        .file("cap", b"x")
        .end();
    succeeds(&[tar], |root| {
        let meta = |name: &str| fs::symlink_metadata(root.join(name)).unwrap();
        assert!(
            meta("null").file_type().is_char_device() && meta("loop").file_type().is_block_device()
        );
        assert!(meta("fifo").file_type().is_fifo());
        assert_eq!(
            (meta("null").mode() & 0o7777, meta("loop").gid()),
            (0o666, 6)
        );
        assert_eq!(
            (meta("suid").mode() & 0o7777, meta("tmp").mode() & 0o7777),
            (0o4755, 0o1777)
        );
        assert_eq!(
            (meta("big-ids").uid(), meta("big-ids").gid()),
            (100_000, 4_294_967_294)
        );
        assert_eq!(
            (meta("big-ids").mtime(), meta("big-ids").mtime_nsec()),
            (1_600_000_000, 123_456_789)
        );
        assert!(
            listing(root)
                .iter()
                .any(|line| line.starts_with("cap ") && line.contains("security.capability"))
        );
    });
    refused(
        Tar::new()
            .pax(&[("uid", b"4294967295")])
            .file("x", b"")
            .end(),
        "is not an id",
    );
    refused(
        Tar::new().pax(&[("gid", b"-1")]).file("x", b"").end(),
        "not a number",
    );
    refused(
        Tar::new().entry(&Header::new(b'V', "x"), b"").end(),
        "unknown",
    );
}

fn sizes_cannot_be_read_two_ways() {
    // PAX size governs body and skip: the second header is content, not an entry.
    let inner = Tar::new().file("smuggled", b"").cut();
    let tar = Tar::new()
        .pax(&[("size", inner.len().to_string().as_bytes())])
        .raw(&Header::new(b'0', "outer").block())
        .raw(&inner)
        .file("after", b"1")
        .end();
    succeeds(&[tar], |root| {
        assert!(!root.join("smuggled").exists());
        assert_eq!(
            fs::metadata(root.join("outer")).unwrap().len(),
            inner.len() as u64
        );
        assert_eq!(content(root, "after"), "1");
    });
    let field = |range: std::ops::Range<usize>, data: &[u8]| {
        let mut block = Header::new(b'0', "x").block();
        block[range].copy_from_slice(data);
        checksum(&mut block);
        Tar::new().raw(&block).end()
    };
    refused(
        field(
            124..136,
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ),
        "negative",
    );
    refused(
        field(
            124..136,
            b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ),
        "not a number",
    );
    refused(field(124..136, b"0000000008\0\0"), "not a number");
    let mut broken = Header::new(b'0', "x").block();
    broken[0] = b'y';
    refused(Tar::new().raw(&broken).end(), "checksum");
    for body in [
        &b"9 path=x\n"[..],
        b"99 path=x\n",
        b"path=x\n",
        b"10 path x\n",
        b" 9 path=x\n",
    ] {
        let tar = Tar::new()
            .entry(
                &Header {
                    size: body.len() as u64,
                    ..Header::new(b'x', "pax")
                },
                body,
            )
            .file("a", b"")
            .end();
        let (_bed, done) = attack(&[tar]);
        assert_eq!(done.is_ok(), body == b"9 path=x\n", "{body:?}: {done:?}");
    }
    refused(
        Tar::new()
            .file("x", b"")
            .raw(&[0; 512])
            .file("y", b"")
            .end(),
        "lone block",
    );
    refused(
        Tar::new()
            .raw(
                &Header {
                    size: 600,
                    ..Header::new(b'0', "x")
                }
                .block(),
            )
            .raw(&[1; 512])
            .cut(),
        "ends inside",
    );
    refused(
        Tar::new().pax(&[("path", b"x")]).end(),
        "ends after an extended header",
    );
}

fn headers_have_bounds() {
    refused(
        Tar::new()
            .raw(
                &Header {
                    size: 2 << 20,
                    ..Header::new(b'x', "pax")
                }
                .block(),
            )
            .raw(&vec![b'1'; 2 << 20])
            .end(),
        "at most",
    );
    refused(
        Tar::new()
            .raw(
                &Header {
                    size: 1 << 30,
                    ..Header::new(b'L', "long")
                }
                .block(),
            )
            .end(),
        "at most",
    );
    refused(
        Tar::new()
            .pax(&[("path", "a".repeat(256).as_bytes())])
            .file("x", b"")
            .end(),
        "longer than 255",
    );
    refused(
        Tar::new()
            .pax(&[("path", "a/".repeat(3000).as_bytes())])
            .file("x", b"")
            .end(),
        "longer than 4096",
    );
    refused(
        Tar::new()
            .pax(&[("linkpath", "a/".repeat(3000).as_bytes())])
            .symlink("x", "y")
            .end(),
        "longer than 4095",
    );
    refused(
        Tar::new()
            .pax(&[("SCHILY.xattr.user.x", &vec![1; 70 << 10])])
            .file("x", b"")
            .end(),
        "extended attributes",
    );
    let names = (0..130)
        .map(|n| format!("SCHILY.xattr.user.x{n}"))
        .collect::<Vec<_>>();
    let many = names
        .iter()
        .map(|name| (name.as_str(), &b"v"[..]))
        .collect::<Vec<_>>();
    refused(
        Tar::new().pax(&many).file("x", b"").end(),
        "extended attributes",
    );
    // Long names in both notations arrive whole.
    let name = ["d".repeat(200), "e".repeat(200)].join("/");
    for tar in [
        Tar::new().pax(&[("path", name.as_bytes())]).file("x", b"1"),
        Tar::new()
            .entry(
                &Header {
                    size: name.len() as u64 + 1,
                    ..Header::new(b'L', "././@LongLink")
                },
                format!("{name}\0").as_bytes(),
            )
            .file("x", b"1"),
    ] {
        succeeds(&[tar.end()], |root| assert_eq!(content(root, &name), "1"));
    }
}

fn sparse_files_stay_sparse_and_bounded() {
    let sparse = |version: &str, map: &str, size: &str, body: &[u8]| {
        let (major, minor) = version.split_once('.').unwrap();
        let mut records = vec![
            ("GNU.sparse.major", major.as_bytes()),
            ("GNU.sparse.minor", minor.as_bytes()),
            ("GNU.sparse.name", b"s"),
        ];
        records.push(("GNU.sparse.realsize", size.as_bytes()));
        if version == "0.1" {
            records.push(("GNU.sparse.map", map.as_bytes()));
        }
        Tar::new().pax(&records).file("x", body)
    };
    let in_body = |map: &str, data: &[u8]| {
        let mut body = map.as_bytes().to_vec();
        body.resize(512, 0);
        [body, data.to_vec()].concat()
    };
    for tar in [
        sparse("0.1", "1048576,4", "8388608", b"data"),
        sparse("1.0", "", "8388608", &in_body("1\n1048576\n4\n", b"data")),
    ] {
        succeeds(&[tar.end()], |root| {
            let meta = fs::metadata(root.join("s")).unwrap();
            assert_eq!(meta.len(), 8 << 20);
            assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
            assert_eq!(
                &fs::read(root.join("s")).unwrap()[1 << 20..(1 << 20) + 4],
                b"data"
            );
        });
    }
    for (map, size, reason) in [
        ("0,4", "2", "outside the file"),
        ("8,4,0,4", "100", "out of order"),
        ("0,3", "100", "differ in size"),
        ("1", "9", "odd"),
    ] {
        refused(sparse("0.1", map, size, b"data").end(), reason);
    }
    refused(
        sparse("0.1", "0,4", "99999999999999", b"data").end(),
        "unpacks to more than",
    );
}

fn streams_in_every_compression() {
    let tar = base().file("big", &vec![7; 1 << 20]).end();
    let (head, tail) = tar.split_at(700_000);
    let zstd = zstd::encode_all(&tar[..], 3).unwrap();
    let skippable = [&b"\x50\x2a\x4d\x18\x04\0\0\0junk"[..], &zstd].concat();
    for (name, blob) in [
        ("gzip", gzip(&tar)),
        ("two gzip members", [gzip(head), gzip(tail)].concat()),
        ("zstd", zstd.clone()),
        (
            "two zstd frames",
            [
                zstd::encode_all(head, 3).unwrap(),
                zstd::encode_all(tail, 3).unwrap(),
            ]
            .concat(),
        ),
        ("skippable zstd frame", skippable),
        ("none", tar.clone()),
    ] {
        println!("{name}");
        let bed = Bed::new();
        let root = bed
            .unpack(&Image::of(&[(blob, digest(&tar))], &json!({})))
            .unwrap();
        assert_eq!(fs::metadata(root.join("big")).unwrap().len(), 1 << 20);
    }
    // What follows the archive's end counts for the DiffID.
    let junk = [tar.clone(), vec![9; 3000]].concat();
    assert!(
        Bed::new()
            .unpack(&Image::new(std::slice::from_ref(&junk)))
            .is_ok()
    );
    let error = Bed::new()
        .unpack(&Image::of(&[(gzip(&junk), digest(&tar))], &json!({})))
        .unwrap_err();
    assert!(error.contains("DiffID"), "{error}");
    let error = Bed::new()
        .unpack(&Image::of(
            &[(gzip(&tar)[..5000].to_vec(), digest(&tar))],
            &json!({}),
        ))
        .unwrap_err();
    assert!(error.contains("inflate"), "{error}");
    // A frame that asks for more memory than is granted: window descriptor of 2 GiB.
    let window = [&b"\x28\xb5\x2f\xfd\x00\xa8"[..], &[0x01, 0, 0]].concat();
    let error = Bed::new()
        .unpack(&Image::of(&[(window, digest(b""))], &json!({})))
        .unwrap_err();
    assert!(
        error.contains("inflate") || error.contains("zstd"),
        "{error}"
    );
}

fn duplicates_merge_and_the_last_wins() {
    let tar = Tar::new()
        .file("a", b"1")
        .file("a", b"22")
        .dir("d", 0o700)
        .file("d/x", b"1")
        .dir("d", 0o755)
        .file("e", b"1")
        .dir("e", 0o755)
        .file("e/f", b"1")
        .dir("g", 0o755)
        .file("g/h", b"1")
        .file("g", b"file")
        .end();
    succeeds(&[tar], |root| {
        assert_eq!(
            (
                content(root, "a"),
                content(root, "d/x"),
                content(root, "e/f"),
                content(root, "g")
            ),
            ("22".into(), "1".into(), "1".into(), "file".into())
        );
        assert_eq!(fs::metadata(root.join("d")).unwrap().mode() & 0o777, 0o755);
    });
}

/// DirectoryCreation, and the metadata of directories that a layer only implies.
fn implied_directories() {
    let layer = Tar::new()
        .dir("/etc/subdir2/more", 0o755)
        .dir("/other/noparent-1/1", 0o755)
        .end();
    succeeds(&[layer], |root| {
        assert!(root.join("other/noparent-1/1").is_dir());
    });
    let lower = Tar::new()
        .entry(
            &Header {
                mode: 0o1777,
                owner: (3, 4),
                ..Header::new(b'5', "tmp")
            },
            b"",
        )
        .end();
    succeeds(&[lower, Tar::new().file("tmp/x", b"").end()], |root| {
        let meta = fs::metadata(root.join("tmp")).unwrap();
        assert_eq!(
            (meta.mode() & 0o7777, meta.uid(), meta.gid(), meta.mtime()),
            (0o1777, 3, 4, 1_700_000_000)
        );
    });
}

/// A tree as deep as a path can be is written, checked and removed with few descriptors.
fn deep_trees() {
    let mut tar = Tar::new();
    let mut path = String::new();
    while path.len() < 3700 {
        path.push_str("d/");
        tar = tar.pax(&[("path", path.as_bytes())]).dir("d", 0o755);
    }
    succeeds(&[tar.end()], |root| assert!(root.join("d/d/d/d").is_dir()));
}

suite! {
    &[Need::Root] => [
        names_are_clamped, marks_of_overlay_are_refused_or_dropped, special_files, sizes_cannot_be_read_two_ways,
        headers_have_bounds, sparse_files_stay_sparse_and_bounded, streams_in_every_compression,
        duplicates_merge_and_the_last_wins, implied_directories, deep_trees,
    ],
}
