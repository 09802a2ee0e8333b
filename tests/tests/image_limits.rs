//! What an image or an archive may cost: memory, names, inodes, space; and who may reach what is kept of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

use ocirun_tests::disk::mount_image;
use ocirun_tests::image_support::{
    Bed, FakeRegistry, Header, Image, Tar, attack, digest, gzip, refused,
};
use ocirun_tests::{Need, own_program, suite};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

/// Buffers of three layers, the budget for the names of one, a zstd window, and the program itself; in KiB.
const MEMORY: u64 = 64 << 10;
const TREE: u64 = 256 << 10;
const WINDOW: u64 = 128 << 10;

/// Runs the program and says how much memory it had at most, in KiB.
fn peak(bed: &Bed, arguments: &[&str]) -> (Output, u64) {
    let command = bed.command(arguments);
    let report = bed.path("peak");
    let output = Command::new(own_program("ocirun-peak"))
        .arg(&report)
        .arg(command.get_program())
        .args(command.get_args())
        .output()
        .unwrap();
    let text = fs::read_to_string(report).unwrap();
    (output, text.parse().unwrap())
}

/// Imports and unpacks an image that ends with `reason`, or without an error if there is none.
fn import(bed: &Bed, image: &Image, reason: Option<&str>, most: u64) {
    let layout = bed.path("layout");
    image.write_layout(&layout);
    let (output, taken) = peak(bed, &["import", layout.to_str().unwrap(), "t.io/x:1"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    println!("{taken} KiB: {}", error.trim());
    match reason {
        Some(reason) => assert!(error.contains(reason), "{error}"),
        None => assert!(output.status.success(), "{error}"),
    }
    assert!(taken < most, "{taken} KiB");
    fs::remove_dir_all(layout).unwrap();
    bed.assert_sound();
}

fn of_blob(blob: Vec<u8>, archive: &str) -> Image {
    Image::of(&[(blob, archive.to_owned())], &json!({}))
}

/// A directory may have a MiB of attributes, and this many would take 400.
fn attributes_of_directories_have_a_budget() {
    let names = (0..16).map(|n| format!("SCHILY.xattr.user.{n}"));
    let names = names.collect::<Vec<_>>();
    let value = vec![b'v'; 64 << 10];
    let records = names.iter().map(|name| (name.as_str(), &value[..]));
    let records = records.take(15).collect::<Vec<_>>();
    let attributes = gzip(&Tar::new().pax(&records).cut());
    let mut blob = Vec::new();
    for number in 0..400 {
        blob.extend_from_slice(&attributes);
        blob.extend_from_slice(&gzip(&Tar::new().dir(&number.to_string(), 0o755).cut()));
    }
    let image = of_blob(blob, &digest(b""));
    import(&Bed::new(), &image, Some("take more than"), MEMORY + TREE);
}

/// One entry may name two thousand directories.
fn implied_directories_take_little_memory() {
    let mut blob = Vec::new();
    for number in 0..20 {
        let path = format!("{number}/{}", "d/".repeat(1200));
        let tar = Tar::new().pax(&[("path", path.as_bytes())]).file("x", b"");
        blob.extend_from_slice(&gzip(&tar.cut()));
    }
    blob.extend_from_slice(&gzip(&Tar::new().file("loop", b"x").cut()[..700]));
    let image = of_blob(blob, &digest(b""));
    import(&Bed::new(), &image, Some("ends inside"), MEMORY);
}

/// A GiB of zeros is a MiB of gzip, which the disk does not have room for.
fn bombs_end_where_the_space_does() {
    let bed = Bed::new();
    let store = bed.path("store");
    fs::create_dir(&store).unwrap();
    let flags = nix::mount::MsFlags::empty();
    let options = Some("size=40m,nr_inodes=300");
    nix::mount::mount(Some("tmpfs"), &store, Some("tmpfs"), flags, options).unwrap();
    let done = std::panic::catch_unwind(|| {
        let zeros = gzip(&vec![0; 16 << 20]);
        let file = Header {
            size: 1 << 30,
            ..Header::new(b'0', "zeros")
        };
        let blob = [gzip(&file.block()), zeros.repeat(64)].concat();
        let image = of_blob(blob, &digest(b""));
        import(&bed, &image, Some("No space left"), MEMORY);
        // A collection works also where there is no room for a transaction.
        fs::write(store.join("staging/full"), vec![0; 60 << 20]).unwrap_err();
        bed.assert_sound();
        // Inodes end too.
        let many = (0..400).fold(Tar::new(), |tar, n| tar.file(&n.to_string(), b""));
        import(
            &bed,
            &Image::new(&[many.end()]),
            Some("No space left"),
            MEMORY,
        );
        import(
            &bed,
            &Image::new(&[Tar::new().file("a", b"1").end()]),
            None,
            MEMORY,
        );
    });
    nix::mount::umount2(&store, nix::mount::MntFlags::MNT_DETACH).unwrap();
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// On a large disk a bomb ends before others run out of space, and what it took is free again.
fn the_last_of_a_disk_is_left_to_others() {
    let bed = Bed::new();
    let (at, disk) = (bed.path("mounted"), bed.path("disk"));
    fs::create_dir(&at).unwrap();
    fs::File::create(&disk).unwrap().set_len(20 << 30).unwrap();
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-O", "^has_journal", "-N", "1000", "-m", "0"])
        .arg(&disk)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    mount_image(&disk, &at);
    let free = || nix::sys::statvfs::statvfs(&at).unwrap();
    let bytes = || free().blocks_available() * free().fragment_size();
    let done = std::panic::catch_unwind(|| {
        fs::create_dir(at.join("store")).unwrap();
        std::os::unix::fs::symlink(at.join("store"), bed.path("store")).unwrap();
        let others = fs::File::create(at.join("others")).unwrap();
        let taken = i64::try_from(bytes() - (190 << 20)).unwrap();
        nix::fcntl::fallocate(&others, nix::fcntl::FallocateFlags::empty(), 0, taken).unwrap();
        let before = bytes();
        let zeros = gzip(&vec![0; 16 << 20]);
        let file = Header {
            size: 1 << 30,
            ..Header::new(b'0', "zeros")
        };
        let blob = [gzip(&file.block()), zeros.repeat(64)].concat();
        let image = of_blob(blob, &digest(b""));
        import(&bed, &image, Some("are kept"), MEMORY);
        bed.ok(&["gc", "--all"]);
        assert!(bytes() + (2 << 20) > before, "{} of {before}", bytes());
    });
    nix::mount::umount2(&at, nix::mount::MntFlags::MNT_DETACH).unwrap();
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// A store where names that differ in case are one is no store.
fn a_directory_that_ignores_case_is_refused() {
    let bed = Bed::new();
    let (at, disk) = (bed.path("mounted"), bed.path("disk"));
    fs::create_dir(&at).unwrap();
    fs::File::create(&disk).unwrap().set_len(64 << 20).unwrap();
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-O", "casefold", "-E", "encoding=utf8"])
        .arg(&disk)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    mount_image(&disk, &at);
    let done = std::panic::catch_unwind(|| {
        fs::create_dir(at.join("store")).unwrap();
        let folded = Command::new("chattr")
            .arg("+F")
            .arg(at.join("store"))
            .output();
        assert!(folded.unwrap().status.success());
        std::os::unix::fs::symlink(at.join("store"), bed.path("store")).unwrap();
        let error = bed.fails(&["ls"]);
        assert!(error.contains("ignores case"), "{error}");
    });
    nix::mount::umount2(&at, nix::mount::MntFlags::MNT_DETACH).unwrap();
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Two million entries for one name, and one more.
fn entries_are_counted() {
    let some = (0..10_000)
        .fold(Tar::new(), |tar, _| tar.dir("d", 0o755))
        .cut();
    let one = gzip(&Tar::new().dir("d", 0o755).cut());
    let blob = [gzip(&some).repeat(200), one].concat();
    let image = of_blob(blob, &digest(b""));
    import(
        &Bed::new(),
        &image,
        Some("more than 2000000 entries"),
        MEMORY,
    );
}

/// A large image takes no more memory than a small one, whatever its compression.
fn large_layers_take_little_memory() {
    let megabyte = vec![7; 1 << 20];
    let archive = (0..100)
        .fold(Tar::new(), |tar, n| tar.file(&n.to_string(), &megabyte))
        .end();
    let (bed, id) = (Bed::new(), digest(&archive));
    import(&bed, &of_blob(gzip(&archive), &id), None, MEMORY);
    let zstd = zstd::encode_all(&archive[..], 1).unwrap();
    import(&Bed::new(), &of_blob(zstd, &id), None, MEMORY + WINDOW);
    import(&Bed::new(), &of_blob(archive, &id), None, MEMORY);
}

fn sparse_maps_have_bounds() {
    let pieces = (0..70_000)
        .map(|n| format!("{},1", n * 10))
        .collect::<Vec<_>>();
    let map = pieces.join(",");
    let records: [(&str, &[u8]); 5] = [
        ("GNU.sparse.major", b"0"),
        ("GNU.sparse.minor", b"1"),
        ("GNU.sparse.name", b"s"),
        ("GNU.sparse.realsize", b"800000"),
        ("GNU.sparse.map", map.as_bytes()),
    ];
    refused(
        Tar::new().pax(&records).file("x", &vec![1; 70_000]).end(),
        "too many pieces",
    );
    let in_body = format!("70000\n{}", pieces.join("\n").replace(',', "\n"));
    let mut body = in_body.into_bytes();
    body.resize(body.len().next_multiple_of(512), 0);
    let records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"s"),
        ("GNU.sparse.realsize", b"800000"),
    ];
    refused(
        Tar::new().pax(&records).file("x", &body).end(),
        "too many pieces",
    );
}

fn times_and_names_at_their_ends() {
    let tar = Tar::new()
        .pax(&[("mtime", b"9999999999999")])
        .file("late", b"1")
        .pax(&[("mtime", b"8000000000")])
        .file("later", b"1")
        .pax(&[("mtime", b"-5.5")])
        .file("early", b"1")
        .file("Name", b"1")
        .file("name", b"2")
        .file("\u{e9}", b"composed")
        .file("e\u{301}", b"decomposed");
    let (_bed, done) = attack(&[tar.end()]);
    let root = done.unwrap();
    let time = |name: &str| fs::metadata(root.join(name)).unwrap().mtime();
    // As containerd has it, what is out of range is the epoch.
    assert_eq!((time("late"), time("later")), (0, 8_000_000_000));
    assert_eq!(time("early"), 0);
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    assert_eq!(
        (read("Name"), read("name")),
        ("1".to_owned(), "2".to_owned())
    );
    assert_eq!(read("\u{e9}"), "composed");
    assert_eq!(read("e\u{301}"), "decomposed");
    // The target of a hard link comes before it.
    refused(
        Tar::new().link("later", "x").file("later", b"1").end(),
        "no such file",
    );
}

/// A set-id program of an image is not there for the machine's users, neither in the store nor where images are looked at.
fn nobody_else_reaches_what_is_kept() {
    let tar = Tar::new().entry(
        &Header {
            mode: 0o4755,
            size: 1,
            ..Header::new(b'0', "suid")
        },
        b"x",
    );
    let device = Header {
        device: (1, 5),
        mode: 0o666,
        ..Header::new(b'3', "zero")
    };
    let (bed, done) = attack(&[tar.entry(&device, b"").end()]);
    done.unwrap();
    fs::set_permissions(bed.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let as_nobody = |path: &std::path::Path| {
        let mut command = Command::new("cat");
        command.arg(path).uid(65534).gid(65534);
        command.output().unwrap().status.success()
    };
    for name in ["", "layers", "staging", "blobs", "run"] {
        let mode = fs::metadata(bed.path("store").join(name)).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o700, "{name}");
    }
    let layer = fs::read_dir(bed.path("store/layers"))
        .unwrap()
        .next()
        .unwrap();
    assert!(!as_nobody(&layer.unwrap().path().join("suid")));
    let target = bed.path("mnt");
    fs::create_dir(&target).unwrap();
    bed.ok(&["mount", "t.io/image:1", target.to_str().unwrap()]);
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let device = fs::File::open(target.join("zero"));
    let readable = as_nobody(&target.join("suid"));
    bed.ok(&["umount", target.to_str().unwrap()]);
    let line = table
        .lines()
        .find(|line| line.contains(target.to_str().unwrap()));
    let options = line.unwrap().split(' ').nth(5).unwrap().to_owned();
    assert!(
        options.contains("nosuid") && options.contains("nodev"),
        "{options}"
    );
    assert!(readable && device.is_err());
}

/// What an image says of itself is not what its container is run with: no label is an annotation.
fn labels_stay_labels() {
    let tar = Tar::new().file("x", b"").end();
    let labels =
        json!({"Labels": {"run.oci.hooks": "/evil", "org.criu.config": "/evil"}, "Cmd": ["/x"]});
    let bed = Bed::new();
    let layout = bed.path("layout");
    Image::of(&[(gzip(&tar), digest(&tar))], &labels).write_layout(&layout);
    bed.ok(&["import", layout.to_str().unwrap(), "t.io/x:1"]);
    bed.ok(&["bundle", "t.io/x:1", bed.path("b").to_str().unwrap()]);
    let text = fs::read_to_string(bed.path("b/config.json")).unwrap();
    assert!(
        !text.contains("evil") && !text.contains("annotations"),
        "{text}"
    );
}

/// Members are taken by their exact names, whatever a docker archive asks for.
fn archives_name_only_their_members() {
    let layer = Tar::new().file("a", b"1").end();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let config = config.to_string();
    let import = |config_name: &str, layer_name: &str, tag: &str| {
        let bed = Bed::new();
        fs::write(bed.path("layer.tar"), &layer).unwrap();
        let manifest = json!([{"Config": config_name, "RepoTags": [tag], "Layers": [layer_name]}]);
        let archive = Tar::new()
            .file("config.json", config.as_bytes())
            .file("l/layer.tar", &layer)
            .symlink("../../../../../../../etc/passwd", "link")
            .file("manifest.json", manifest.to_string().as_bytes())
            .end();
        fs::write(bed.path("a.tar"), archive).unwrap();
        let (output, taken) = peak(&bed, &["import", bed.path("a.tar").to_str().unwrap()]);
        bed.assert_sound();
        assert!(taken < MEMORY, "{taken} KiB");
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    assert!(import("config.json", "l/layer.tar", "t.io/x:1").0);
    for (config_name, layer_name) in [
        ("/etc/passwd", "l/layer.tar"),
        ("../../etc/passwd", "l/layer.tar"),
        ("link", "l/layer.tar"),
        ("config.json", "../layer.tar"),
        ("config.json", "l/../l/layer.tar"),
        ("config.json", "link"),
    ] {
        let (done, error) = import(config_name, layer_name, "t.io/x:1");
        assert!(
            !done && error.len() < 1000,
            "{config_name} {layer_name}: {error}"
        );
    }
    for tag in [
        "../x",
        "t.io/x:1@sha256:00",
        "T.io/../x:1",
        "\u{1b}[31m/x:1",
    ] {
        assert!(!import("config.json", "l/layer.tar", tag).0, "{tag}");
    }
    let bed = Bed::new();
    let huge = Header {
        size: 1 << 40,
        ..Header::new(b'0', "manifest.json")
    };
    fs::write(bed.path("a.tar"), huge.block()).unwrap();
    let (output, taken) = peak(&bed, &["import", bed.path("a.tar").to_str().unwrap()]);
    assert!(!output.status.success() && taken < MEMORY, "{taken} KiB");
}

/// A tag that moves between two requests cannot mix two images: it is asked for once, the rest goes by digest.
fn a_tag_is_resolved_once() {
    let images =
        ["1", "2"].map(|content| Image::new(&[Tar::new().file("a", content.as_bytes()).end()]));
    let count = std::sync::atomic::AtomicUsize::new(0);
    let registry = FakeRegistry::start(move |request| {
        let by_tag = request.path.ends_with("/manifests/1");
        let at = count.fetch_add(usize::from(by_tag), std::sync::atomic::Ordering::SeqCst);
        let named = images.iter().find(|image| {
            let last = request.path.rsplit('/').next().unwrap();
            image.blobs.contains_key(last)
        });
        let latest = &images[usize::from(at > 0)];
        let image = named.unwrap_or(latest);
        ocirun_tests::image_support::honest(image, request)
    });
    let bed = Bed::new();
    let name = format!("{}/x:1", registry.host);
    bed.ok(&["pull", "-q", &name]);
    let by_tag = |r: &&ocirun_tests::image_support::Request| r.path.ends_with("/manifests/1");
    assert_eq!(registry.requests().iter().filter(by_tag).count(), 1);
    bed.ok(&["unpack", &name, bed.path("r").to_str().unwrap()]);
    assert_eq!(fs::read(bed.path("r/a")).unwrap(), b"1");
}

/// Places outside of the registry that a manifest names are not asked, old and foreign documents are not read.
fn documents_lead_nowhere_else() {
    let elsewhere = FakeRegistry::start(|_| {
        ocirun_tests::image_support::Answer::Whole(404, Vec::new(), Vec::new())
    });
    let image = Image::new(&[Tar::new().file("a", b"1").end()]);
    let manifest: Value = serde_json::from_slice(&image.blobs[&image.manifest]).unwrap();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut manifest = manifest.clone();
        change(&mut manifest);
        manifest.to_string().into_bytes()
    };
    let url = format!("http://{}/layer", elsewhere.host);
    let pull = |data: Vec<u8>, kind: &str| {
        let kind = ("content-type".to_owned(), kind.to_owned());
        let registry = FakeRegistry::serving(&image, move |request| {
            let answer = ocirun_tests::image_support::Answer::Whole;
            request
                .path
                .contains("/manifests/")
                .then(|| answer(200, vec![kind.clone()], data.clone()))
        });
        let bed = Bed::new();
        let output = bed.run(&["pull", "-q", &format!("{}/x:1", registry.host)]);
        bed.assert_sound();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let oci = "application/vnd.oci.image.manifest.v1+json";
    let foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    let with_urls = changed(&|m| m["layers"][0]["urls"] = json!([url]));
    assert!(pull(with_urls, oci).0);
    let absent = digest(b"absent");
    let only_there = changed(&|m| {
        m["layers"][0]["urls"] = json!([url]);
        m["layers"][0]["mediaType"] = json!(foreign);
        m["layers"][0]["digest"] = json!(absent);
    });
    assert!(!pull(only_there, oci).0);
    assert!(
        elsewhere.requests().is_empty(),
        "{:?}",
        elsewhere.requests()
    );
    let (done, error) = pull(
        changed(&|m| m["schemaVersion"] = json!(1)),
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    );
    assert!(!done && error.len() < 1000, "{error}");
    let (done, error) = pull(
        changed(&|m| m["layers"][0]["mediaType"] = json!("text/plain")),
        oci,
    );
    assert!(!done && error.contains("artifact"), "{error}");
    let (done, error) = pull(changed(&|m| m["manifests"] = json!([])), oci);
    assert!(!done && error.len() < 1000, "{error}");
}

/// A token server that never ends its answer.
fn answers_about_tokens_have_bounds() {
    use ocirun_tests::image_support::Answer;
    let registry = FakeRegistry::start(|request| {
        if request.path.starts_with("/token") {
            return Answer::Endless;
        }
        let host = &request.headers["host"];
        let realm = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
        let header = ("www-authenticate".to_owned(), realm);
        Answer::Whole(401, vec![header], vec![b'x'; 10 << 20])
    });
    let bed = Bed::new();
    let (output, taken) = peak(&bed, &["pull", "-q", &format!("{}/x:1", registry.host)]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("larger than"), "{error}");
    assert!(taken < MEMORY, "{taken} KiB");
}

suite! {
    &[Need::Root] => [
        attributes_of_directories_have_a_budget, implied_directories_take_little_memory, bombs_end_where_the_space_does,
        entries_are_counted, large_layers_take_little_memory, sparse_maps_have_bounds, times_and_names_at_their_ends,
        nobody_else_reaches_what_is_kept, labels_stay_labels, archives_name_only_their_members, a_tag_is_resolved_once,
        documents_lead_nowhere_else, answers_about_tokens_have_bounds,
    ],
    &[Need::Root, Need::Device("/dev/loop-control"), Need::Program("mkfs.ext4"), Need::Program("mount")] => [
        the_last_of_a_disk_is_left_to_others,
    ],
    &[
        Need::Root, Need::Device("/dev/loop-control"), Need::Program("mkfs.ext4"), Need::Program("chattr"),
        Need::File("/sys/fs/ext4/features/casefold"),
    ] => [a_directory_that_ignores_case_is_refused],
}
