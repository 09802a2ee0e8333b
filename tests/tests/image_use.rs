//! What becomes of an image: bundles, mounts, commits, archives; as root, and as an ordinary user.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

use ocirun_tests::image_support::{Bed, Header, Image, Tar, digest, gzip, listing, program, small};
use ocirun_tests::{Need, probe_program, suite};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Users, overflowing ids, and account files that are traps.
fn bundles_of_hostile_images() {
    let with = |user: &str, tar: Vec<u8>| {
        Image::of(
            &[(gzip(&tar), digest(&tar))],
            &json!({"User": user, "Cmd": ["/x"]}),
        )
    };
    let passwd = || {
        Tar::new()
            .dir("etc", 0o755)
            .file("etc/passwd", b"app:x:12:34::/:\n")
            .file("etc/group", b"app:x:34:\nextra:x:56:app\n")
    };
    let spec = |image: &Image| -> Result<Value, String> {
        let bed = Bed::new();
        let layout = bed.path("layout");
        image.write_layout(&layout);
        bed.ok(&["import", layout.to_str().unwrap(), "t.io/x:1"]);
        let output = bed.run(&["bundle", "t.io/x:1", bed.path("b").to_str().unwrap()]);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(serde_json::from_slice(&fs::read(bed.path("b/config.json")).unwrap()).unwrap())
    };
    let user = |image: &Image| spec(image).map(|spec| spec["process"]["user"].clone());
    assert_eq!(
        user(&with("app", passwd().end())).unwrap(),
        json!({"uid": 12, "gid": 34, "additionalGids": [56]})
    );
    assert_eq!(
        user(&with("12:extra", passwd().end())).unwrap(),
        json!({"uid": 12, "gid": 56})
    );
    assert_eq!(
        user(&with("77:88", Tar::new().end())).unwrap(),
        json!({"uid": 77, "gid": 88})
    );
    assert!(
        user(&with("4294967296", Tar::new().end()))
            .unwrap_err()
            .contains("too large")
    );
    assert!(
        user(&with("nobody", passwd().end()))
            .unwrap_err()
            .contains("no user")
    );
    let fifo = Tar::new()
        .dir("etc", 0o755)
        .entry(&Header::new(b'6', "etc/passwd"), b"")
        .end();
    assert!(
        user(&with("app", fifo))
            .unwrap_err()
            .contains("not a regular file")
    );
    let huge = Tar::new()
        .dir("etc", 0o755)
        .file("etc/passwd", &vec![b'x'; 2 << 20])
        .end();
    assert!(
        user(&with("app", huge))
            .unwrap_err()
            .contains("larger than")
    );
    // A link to the host's file leads nowhere.
    let link = Tar::new()
        .dir("etc", 0o755)
        .symlink("/../../../../etc/passwd", "etc/passwd")
        .end();
    assert!(user(&with("root", link)).unwrap_err().contains("no user"));
}

fn a_bundle_runs() {
    let image = program(probe_program(), &["print", "from image"]);
    let bed = Bed::new();
    let layout = bed.path("layout");
    image.write_layout(&layout);
    bed.ok(&["import", layout.to_str().unwrap(), "t.io/busybox:1"]);
    let bundle = bed.path("bundle");
    bed.ok(&["bundle", "t.io/busybox:1", bundle.to_str().unwrap()]);
    let id = format!("image-{}", std::process::id());
    // Its own cgroup is the runtime's business, not this test's.
    let runtime = ocirun_tests::runtime();
    let output = Command::new(&runtime.program)
        .args(["--root", bed.path("run").to_str().unwrap(), "run", "-b"])
        .arg(&bundle)
        .arg(&id)
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "\"from image\"\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn mounts_show_the_union() {
    let bed = Bed::new();
    let mut layers = vec![
        Tar::new()
            .dir("d", 0o755)
            .file("d/0", b"0")
            .file("gone", b"")
            .end(),
    ];
    layers.extend((1..40).map(|n| {
        Tar::new()
            .dir("d", 0o755)
            .file(&format!("d/{n}"), b"x")
            .end()
    }));
    layers.push(Tar::new().file(".wh.gone", b"").end());
    let layout = bed.path("layout");
    Image::new(&layers).write_layout(&layout);
    bed.ok(&["import", layout.to_str().unwrap(), "t.io/many:1"]);
    let target = bed.path("mnt");
    fs::create_dir(&target).unwrap();
    let at = target.to_str().unwrap();
    bed.ok(&["mount", "t.io/many:1", at]);
    let count = fs::read_dir(target.join("d")).unwrap().count();
    let shown = (
        count,
        target.join("gone").exists(),
        fs::write(target.join("new"), "").is_err(),
    );
    // What is mounted is not collected, though its name is gone.
    bed.ok(&["rm", "t.io/many:1"]);
    let still = fs::read(target.join("d/0"));
    bed.ok(&["umount", at]);
    assert_eq!((shown, still.unwrap()), ((40, false, true), b"0".to_vec()));
    bed.assert_sound();
    assert!(bed.fails(&["umount", at]).contains("nothing is mounted"));
}

fn commits_and_exports_go_round() {
    let bed = Bed::new();
    let layout = bed.path("layout");
    small().write_layout(&layout);
    bed.ok(&["import", layout.to_str().unwrap(), "t.io/a:1"]);
    let dir = bed.path("dir");
    bed.ok(&["unpack", "t.io/a:1", dir.to_str().unwrap()]);
    assert_eq!(bed.ok(&["diff", "t.io/a:1", dir.to_str().unwrap()]), "");
    fs::remove_file(dir.join("etc/passwd")).unwrap();
    fs::write(dir.join("etc/new"), "n").unwrap();
    fs::hard_link(dir.join("etc/new"), dir.join("etc/new2")).unwrap();
    std::os::unix::fs::symlink("x".repeat(300), dir.join("long-link")).unwrap();
    fs::create_dir(dir.join("empty")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap());
    let diff = bed.ok(&["diff", "t.io/a:1", dir.to_str().unwrap()]);
    assert_eq!(
        diff,
        "A /empty\nC /etc\nA /etc/new\nA /etc/new2\nD /etc/passwd\nA /long-link\n"
    );
    bed.ok(&["commit", "t.io/a:1", dir.to_str().unwrap(), "t.io/a:2"]);
    bed.ok(&["unpack", "t.io/a:2", bed.path("again").to_str().unwrap()]);
    fs::remove_file(dir.join("socket")).unwrap();
    let without_root = |path: &Path| {
        listing(path)
            .into_iter()
            .filter(|line| !line.starts_with(' '))
            .collect::<Vec<_>>()
    };
    assert_eq!(without_root(&bed.path("again")), without_root(&dir));
    for format in ["oci-archive", "oci-dir", "docker-archive"] {
        let out = bed.path(format);
        bed.ok(&[
            "export",
            "t.io/a:2",
            out.to_str().unwrap(),
            "--format",
            format,
        ]);
        let other = Bed::new();
        other.ok(&["import", out.to_str().unwrap()]);
        other.ok(&["unpack", "t.io/a:2", other.path("r").to_str().unwrap()]);
        assert_eq!(
            without_root(&other.path("r")),
            without_root(&dir),
            "{format}"
        );
        other.assert_sound();
        assert!(
            bed.fails(&["export", "t.io/a:2", out.to_str().unwrap()])
                .contains("exists")
        );
    }
    bed.assert_sound();
}

/// Man pages and completions know every command.
fn manual_and_completions_are_complete() {
    let bed = Bed::new();
    let man = bed.path("man");
    fs::create_dir(&man).unwrap();
    bed.ok(&["man", man.to_str().unwrap()]);
    let bash = bed.ok(&["completions", "bash"]);
    let help = bed.ok(&["--help"]);
    let commands = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty());
    let names = commands
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect::<Vec<_>>();
    assert!(names.len() >= 20, "{names:?}");
    for name in names {
        assert!(
            man.join(format!("ocirun-image-{name}.1")).exists(),
            "{name}"
        );
        assert!(
            bash.contains(&format!("ocirun__image__subcmd__{name}"))
                || bash.contains(&format!("ocirun__image__{name}")),
            "{name}"
        );
    }
}

suite! {
    &[] => [manual_and_completions_are_complete],
    &[Need::Root] => [bundles_of_hostile_images, mounts_show_the_union, commits_and_exports_go_round, a_bundle_runs],
}
