//! What becomes of an image: bundles, mounts, commits, archives; as root, and as an ordinary user.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

use ocirun_tests::image_support::{
    Bed, FakeRegistry, Header, Image, Tar, digest, gzip, image_program, listing, program, small,
};
use ocirun_tests::{Need, eventually, probe_program, runtime, suite};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
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

/// What an ordinary user runs, as user 1000 if the tests are root's.
fn as_user(bed: &Bed, command: &mut Command) -> String {
    command
        .env("HOME", bed.path("home"))
        .env("XDG_RUNTIME_DIR", bed.path("home"));
    command.env_remove("XDG_DATA_HOME").uid(1000).gid(1000);
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// A probe that reports, and files that their owner may not read, in directories that nobody may enter or change.
fn image_for_a_user() -> Image {
    let image = program(probe_program(), &["report"]);
    let closed = Tar::new()
        .dir("closed", 0)
        .entry(
            &Header {
                mode: 0,
                size: 1,
                ..Header::new(b'0', "closed/file")
            },
            b"x",
        )
        .dir("closed/inner", 0o500)
        .file("closed/inner/file", b"y")
        .entry(
            &Header {
                owner: (7, 8),
                size: 1,
                ..Header::new(b'0', "of-another")
            },
            b"z",
        )
        .entry(
            &Header {
                device: (1, 3),
                ..Header::new(b'3', "null")
            },
            b"",
        )
        .file("closed/gone", b"1")
        .end();
    let over = Tar::new()
        .file("closed/.wh.gone", b"")
        .dir("new", 0o755)
        .file("new/.wh..wh..opq", b"");
    let base: Vec<u8> = {
        let blob = &image.blobs[&image.layers[0]];
        let mut tar = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&blob[..]), &mut tar).unwrap();
        tar
    };
    let archives = [base, closed, over.end()];
    let layers = archives
        .iter()
        .map(|tar| (gzip(tar), digest(tar)))
        .collect::<Vec<_>>();
    let name = probe_program().file_name().unwrap().to_str().unwrap();
    let config = json!({"Entrypoint": [format!("/bin/{name}"), "report"], "User": "33:34"});
    Image::of(&layers, &config)
}

fn an_ordinary_user_pulls_unpacks_and_runs() {
    let registry = FakeRegistry::serving(&image_for_a_user(), |_| None);
    let name = format!("{}/x:1", registry.host);
    let bed = Bed::new();
    fs::create_dir(bed.path("home")).unwrap();
    fs::set_permissions(bed.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(bed.path("home"), Some(1000), Some(1000)).unwrap();
    let call = |arguments: &[&str]| as_user(&bed, Command::new(image_program()).args(arguments));
    call(&["pull", "-q", &name]);
    // Kept below the user's own directory.
    assert!(
        bed.path("home/.local/share/ocirun/images/database")
            .exists()
    );
    call(&["fsck"]);
    let bundle = bed.path("home/bundle");
    call(&["bundle", &name, bundle.to_str().unwrap()]);
    let at = |path: &str| fs::symlink_metadata(bundle.join("rootfs").join(path)).unwrap();
    assert_eq!(at("closed").mode() & 0o7777, 0);
    assert_eq!(
        (at("closed/file").mode() & 0o7777, at("closed/file").uid()),
        (0, 1000)
    );
    assert_eq!(at("closed/inner").mode() & 0o7777, 0o500);
    assert_eq!(
        fs::read(bundle.join("rootfs/closed/inner/file")).unwrap(),
        b"y"
    );
    assert!(!bundle.join("rootfs/null").exists() && !bundle.join("rootfs/closed/gone").exists());
    let id = format!("image-{}", std::process::id());
    let mut run = Command::new(&runtime().program);
    run.args([
        "--root",
        bed.path("home/run").to_str().unwrap(),
        "run",
        "-b",
    ]);
    let report: Value = serde_json::from_str(&as_user(&bed, run.arg(&bundle).arg(&id))).unwrap();
    assert_eq!(report["uids"], json!([0, 0, 0, 0]));
    assert_eq!(report["uid_map"], json!([[0, 1000, 1]]));
    // A commit looks at the image through an overlay of the user's own.
    let rootfs = bundle.join("rootfs");
    fs::remove_file(rootfs.join("of-another")).unwrap();
    call(&["commit", &name, rootfs.to_str().unwrap(), "t.io/x:2"]);
    call(&["rm", &name]);
    call(&["rm", "t.io/x:2"]);
    call(&["gc", "--all"]);
    let left = fs::read_dir(bed.path("home/.local/share/ocirun/images/layers")).unwrap();
    assert_eq!(left.count(), 0);
    let output = Command::new(image_program())
        .args(["mount", &name, "/mnt"])
        .env("HOME", bed.path("home"))
        .uid(1000)
        .gid(1000)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("ordinary user"), "{error}");
}

/// The owners are those of the user namespace, and nothing is copied for it.
fn owners_follow_a_user_namespace() {
    let owned = |name: &str, owner: (u32, u32)| Header {
        owner,
        size: 1,
        ..Header::new(b'0', name)
    };
    let lower = Tar::new()
        .entry(&owned("root", (0, 0)), b"1")
        .entry(&owned("user", (1000, 1001)), b"2");
    let upper = Tar::new()
        .entry(&owned("top", (5, 6)), b"3")
        .entry(&owned("beyond", (70_000, 70_000)), b"4");
    let bed = Bed::new();
    let layout = bed.path("layout");
    Image::new(&[lower.end(), upper.end()]).write_layout(&layout);
    bed.ok(&["import", layout.to_str().unwrap(), "t.io/x:1"]);
    let before = bed.ok(&["--json", "df"]);
    let mut holder = Command::new("unshare")
        .args(["--user", "sleep", "600"])
        .spawn()
        .unwrap();
    let ours = fs::read_link("/proc/self/ns/user").unwrap();
    let namespace = format!("/proc/{}/ns/user", holder.id());
    eventually("a user namespace", || {
        fs::read_link(&namespace).unwrap() != ours
    });
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", holder.id()), "0 100000 65536").unwrap();
    }
    let target = bed.path("mnt");
    fs::create_dir(&target).unwrap();
    let at = target.to_str().unwrap();
    bed.ok(&["mount", "--userns", &namespace, "t.io/x:1", at]);
    let owner = |name: &str| {
        let meta = fs::metadata(target.join(name)).unwrap();
        (meta.uid(), meta.gid())
    };
    let owners = ["root", "user", "top", "beyond"].map(owner);
    let content = fs::read(target.join("user")).unwrap();
    bed.ok(&["umount", at]);
    holder.kill().unwrap();
    holder.wait().unwrap();
    let expected = [
        (100_000, 100_000),
        (101_000, 101_001),
        (100_005, 100_006),
        (65_534, 65_534),
    ];
    assert_eq!((owners, content), (expected, b"2".to_vec()));
    assert_eq!(bed.ok(&["--json", "df"]), before);
    bed.assert_sound();
}

/// Mounts an image while the kernel refuses one call of fsconfig(2) with EINVAL; gives what strace saw.
fn mount_refused_once(bed: &Bed, call: usize, mount: &[&str]) -> String {
    let mount = bed.command(mount);
    let log = bed.path("log");
    let inject = format!("inject=fsconfig:error=EINVAL:when={call}");
    let output = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=fsconfig,mount", "-e", &inject])
        .arg("-o")
        .arg(&log)
        .arg(mount.get_program())
        .args(mount.get_args())
        .output()
        .unwrap();
    let calls = fs::read_to_string(log).unwrap();
    assert!(output.status.success(), "{output:?}: {calls}");
    assert!(calls.contains("INJECTED"), "{calls}");
    calls
}

/// Kernels before 6.13 take layers by path only: as if the first descriptor had been refused.
fn older_kernels_get_paths() {
    let bed = Bed::new();
    let layout = bed.path("layout");
    small().write_layout(&layout);
    bed.ok(&["import", layout.to_str().unwrap(), "t.io/x:1"]);
    let target = bed.path("mnt");
    fs::create_dir(&target).unwrap();
    let at = target.to_str().unwrap();
    let calls = mount_refused_once(&bed, 1, &["mount", "t.io/x:1", at]);
    let content = fs::read(target.join("etc/passwd"));
    bed.ok(&["umount", at]);
    assert_eq!(content.unwrap(), b"root:x:0:0::/:/bin/sh\n", "{calls}");
    assert!(calls.contains("FSCONFIG_SET_STRING"), "{calls}");
    bed.assert_sound();
}

/// Kernels before 6.5 take them in one option: as if the overlay had been refused. A name may have what options end with.
fn the_oldest_kernels_get_one_option() {
    let bed = Bed::new();
    let layout = bed.path("layout");
    let layers = (0..30).map(|n| Tar::new().file(&n.to_string(), b"x").end());
    Image::new(&layers.collect::<Vec<_>>()).write_layout(&layout);
    bed.ok(&["import", layout.to_str().unwrap(), "t.io/x:1"]);
    let [target, upper] = ["mnt", r"up,per:\x"].map(|name| bed.path(name));
    fs::create_dir(&target).unwrap();
    let (at, upper_at) = (target.to_str().unwrap(), upper.to_str().unwrap());
    let table = || {
        fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .lines()
            .count()
    };
    let before = table();
    // Thirty layers and the empty one go before the call that makes it.
    let read_only = ["mount", "t.io/x:1", at];
    let writable = ["mount", "--upper", upper_at, "t.io/x:1", at];
    for (mount, calls, may_write) in [(&read_only[..], 32, false), (&writable[..], 34, true)] {
        let calls = mount_refused_once(&bed, calls, mount);
        let (mounts, count) = (table(), fs::read_dir(&target).unwrap().count());
        let written = fs::write(target.join("new"), "").is_ok();
        bed.ok(&["umount", at]);
        assert!(calls.contains("lowerdir=0:1:2:"), "{calls}");
        assert_eq!((mounts, count, written), (before + 1, 30, may_write));
    }
    assert!(upper.join("new").exists());
    assert_eq!(table(), before);
    bed.assert_sound();
}

suite! {
    &[] => [manual_and_completions_are_complete],
    &[Need::Root] => [bundles_of_hostile_images, mounts_show_the_union, commits_and_exports_go_round, a_bundle_runs],
    &[Need::Root, Need::UserNamespace] => [an_ordinary_user_pulls_unpacks_and_runs],
    &[Need::Root, Need::UserNamespace, Need::Program("unshare")] => [owners_follow_a_user_namespace],
    &[Need::Root, Need::Program("strace"), Need::Kernel(6, 13)] => [
        older_kernels_get_paths, the_oldest_kernels_get_one_option,
    ],
}
