//! Killed at any moment, out of space, and with I/O errors: the store opens, lists nothing that is not whole, and goes on.
//!
//! `IMAGE_KILLS` is the count of kills of each kind; a few by default.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

use ocirun_tests::image_support::{
    Answer, Bed, Depot, Dice, FakeRegistry, Header, Image, Request, Tar, honest, listing, noise,
};
use ocirun_tests::{Need, eventually, suite};
use serde_json::Value;
use std::fs;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Three layers that take some time, with links over layers and a whiteout.
fn image() -> Image {
    let layer = |seed: u32, name: &str| {
        let mut tar = Tar::new().dir(name, 0o755);
        for file in 0..60 {
            tar = tar.file(&format!("{name}/{file}"), &noise(seed + file, 20_000));
        }
        tar.file(&format!("{name}/large"), &noise(seed, 3_000_000))
    };
    let top = layer(3000, "c")
        .file("a/.wh.1", b"")
        .link("a/2", "a/linked")
        .entry(&Header::new(b'6', "pipe"), b"");
    Image::new(&[layer(1000, "a").end(), layer(2000, "b").end(), top.end()])
}

fn kills() -> u32 {
    std::env::var("IMAGE_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(12)
}

/// Runs a command, kills it at `after`, and says whether it had ended by itself.
fn killed(bed: &Bed, arguments: &[&str], after: Duration) -> bool {
    let mut child = bed
        .command(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(after);
    let over = child.try_wait().unwrap().is_some();
    child.kill().unwrap();
    child.wait().unwrap();
    over
}

/// Every listed image is whole: its layers are where the database says, with their seals.
fn assert_whole(bed: &Bed) {
    bed.ok(&["fsck"]);
    let images: Value = serde_json::from_str(&bed.ok(&["--json", "ls"])).unwrap();
    for image in images.as_array().unwrap() {
        bed.ok(&["inspect", image["manifest"].as_str().unwrap()]);
    }
}

fn duration_of(work: impl FnOnce()) -> Duration {
    // The first use of the program builds it, which is not the work.
    Bed::new().ok(&["ls"]);
    let begin = Instant::now();
    work();
    begin.elapsed()
}

fn a_killed_pull_leaves_nothing_broken() {
    let image = image();
    let registry = FakeRegistry::serving(&image, |_| None);
    let name = format!("{}/x:1", registry.host);
    let reference = Bed::new();
    let whole = duration_of(|| drop(reference.ok(&["pull", "-q", &name])));
    reference.ok(&["unpack", &name, reference.path("r").to_str().unwrap()]);
    let expected = listing(&reference.path("r"));
    let mut dice = Dice::new();
    for round in 0..kills() {
        let bed = Bed::new();
        let pull: &[&str] = if round % 2 == 0 {
            &["pull", "-q", &name]
        } else {
            &["pull", "-q", "--discard-blobs", &name]
        };
        let times = 1 + round % 3;
        for _ in 0..times {
            killed(&bed, pull, dice.moment(whole.mul_f64(1.2)));
            assert_whole(&bed);
        }
        bed.ok(pull);
        bed.ok(&["unpack", &name, bed.path("r").to_str().unwrap()]);
        assert_eq!(listing(&bed.path("r")), expected, "round {round}");
        bed.assert_sound();
    }
}

fn a_killed_removal_or_collection_leaves_nothing_broken() {
    let image = image();
    let registry = FakeRegistry::serving(&image, |_| None);
    let name = format!("{}/x:1", registry.host);
    let mut dice = Dice::new();
    let bed = Bed::new();
    bed.ok(&["pull", "-q", &name]);
    let whole = duration_of(|| drop(bed.ok(&["rm", &name])));
    for round in 0..kills() {
        bed.ok(&["pull", "-q", &name]);
        killed(&bed, &["rm", &name], dice.moment(whole.mul_f64(1.2)));
        assert_whole(&bed);
        killed(&bed, &["gc", "--all"], dice.moment(whole));
        assert_whole(&bed);
        if round % 4 == 0 {
            bed.assert_sound();
        }
    }
    bed.ok(&["pull", "-q", &name]);
    bed.assert_sound();
}

fn a_killed_unpack_or_import_leaves_the_store_sound() {
    let image = image();
    let mut dice = Dice::new();
    for _ in 0..kills().div_ceil(2) {
        let bed = Bed::new();
        let layout = bed.path("layout");
        image.write_layout(&layout);
        let import = ["import", layout.to_str().unwrap(), "t.io/x:1"];
        killed(&bed, &import, dice.moment(Duration::from_millis(150)));
        assert_whole(&bed);
        bed.ok(&import);
        killed(
            &bed,
            &["unpack", "t.io/x:1", bed.path("half").to_str().unwrap()],
            dice.moment(Duration::from_millis(60)),
        );
        assert_whole(&bed);
        bed.assert_sound();
    }
}

/// A registry never has a manifest without its blobs, and a blob that was sent is not sent again.
fn a_killed_push_leaves_nothing_broken() {
    let image = image();
    let bed = Bed::new();
    let layout = bed.path("layout");
    image.write_layout(&layout);
    bed.ok(&["import", layout.to_str().unwrap(), "t.io/x:1"]);
    let push = |depot: &Depot, after: Option<Duration>| {
        let registry = depot.serve();
        let name = format!("{}/x:1", registry.host);
        match after {
            Some(after) => drop(killed(&bed, &["push", "t.io/x:1", &name], after)),
            None => drop(bed.ok(&["push", "t.io/x:1", &name])),
        }
        registry.requests()
    };
    let whole = duration_of(|| drop(push(&Depot::new(), None)));
    let mut dice = Dice::new();
    for round in 0..kills() {
        let depot = Depot::new();
        push(&depot, Some(dice.moment(whole.mul_f64(1.2))));
        assert_whole(&bed);
        let sent = image.layers.iter().filter(|layer| depot.has(layer)).count();
        let begun = push(&depot, None)
            .iter()
            .filter(|request| request.method == "POST")
            .count();
        assert!(begun <= image.layers.len() + 1 - sent, "round {round}");
        assert_eq!(depot.manifests(), std::slice::from_ref(&image.manifest));
        bed.assert_sound();
    }
}

/// A begun upload goes on where the registry has got to, in another process too.
fn a_killed_push_is_taken_up() {
    let image = Image::new(&[Tar::new().file("large", &noise(1, 10_000_000)).end()]);
    let bed = Bed::new();
    let layout = bed.path("layout");
    image.write_layout(&layout);
    bed.ok(&["import", layout.to_str().unwrap(), "t.io/x:1"]);
    let depot = Depot::new();
    let (kept, is_open) = (depot.clone(), Arc::new(AtomicBool::new(false)));
    let open = is_open.clone();
    // The second piece is never answered, until the first process is gone.
    let registry = FakeRegistry::start(move |request| {
        let range = request
            .headers
            .get("content-range")
            .map_or("", String::as_str);
        while range.starts_with("4194304-") && !open.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        kept.answer(request)
    });
    let name = format!("{}/x:1", registry.host);
    let pieces = || {
        let requests = registry.requests().into_iter();
        requests
            .filter(|r| r.method == "PATCH")
            .map(|r| r.headers["content-range"].clone())
            .collect::<Vec<_>>()
    };
    let mut child = bed.command(&["push", "t.io/x:1", &name]).spawn().unwrap();
    eventually("a second piece", || pieces().len() == 2);
    child.kill().unwrap();
    child.wait().unwrap();
    is_open.store(true, Ordering::SeqCst);
    // What the dead process asked last is answered first.
    std::thread::sleep(Duration::from_millis(200));
    let before = registry.requests().len();
    bed.ok(&["push", "t.io/x:1", &name]);
    let after = registry.requests().split_off(before);
    assert_eq!(depot.manifests(), std::slice::from_ref(&image.manifest));
    let begun = after
        .iter()
        .filter(|r| r.method == "POST" && r.path.contains("uploads"))
        .count();
    assert_eq!(begun, 1, "only the config was begun: {after:?}");
    assert!(pieces()[2].starts_with("8388608-"), "{:?}", pieces());
    bed.assert_sound();
}

/// What was finished before a kill is not fetched again, and a begun layer goes on where it stood.
fn a_killed_pull_is_taken_up() {
    let image = image();
    let slow = image.layers[2].clone();
    let first = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let registry = {
        let (image, slow) = (image.clone(), slow.clone());
        FakeRegistry::start(move |request: &Request| {
            let is_slow = request.path.ends_with(&slow)
                && first.swap(false, std::sync::atomic::Ordering::SeqCst);
            if is_slow {
                Answer::Cut(image.blobs[&slow].clone(), 1_500_000)
            } else {
                honest(&image, request)
            }
        })
    };
    let name = format!("{}/x:1", registry.host);
    let bed = Bed::new();
    // The connection breaks in the middle of the third layer, and the pause before the next try is the time to kill.
    let mut child = bed
        .command(&["pull", "-q", &name])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    let cut = |r: &FakeRegistry| {
        r.requests()
            .iter()
            .any(|request| request.path.ends_with(&slow))
    };
    while !cut(&registry) && begin.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(Duration::from_millis(180));
    child.kill().unwrap();
    child.wait().unwrap();
    let before = registry.requests().len();
    bed.ok(&["pull", "-q", &name]);
    let after = registry.requests().split_off(before);
    let again = after
        .iter()
        .filter(|r| r.path.contains("/blobs/"))
        .collect::<Vec<_>>();
    let range = again
        .iter()
        .find(|r| r.path.ends_with(&slow))
        .and_then(|r| r.headers.get("range").cloned());
    assert!(range.is_some(), "the third layer was begun anew: {again:?}");
    bed.assert_sound();
}

/// After a power loss, what an earlier pull left may have the right length and the wrong bytes.
fn what_an_earlier_pull_left_is_not_believed() {
    let image = image();
    let registry = FakeRegistry::serving(&image, |_| None);
    let name = format!("{}/x:1", registry.host);
    let bed = Bed::new();
    bed.ok(&["ls"]);
    for (layer, length) in image.layers.iter().zip([1, 50_000, usize::MAX]) {
        let zeros = vec![0; image.blobs[layer].len().min(length)];
        let partial = format!("store/staging/{}.part", layer.replace(':', "-"));
        fs::write(bed.path(&partial), zeros).unwrap();
    }
    bed.ok(&["pull", "-q", &name]);
    bed.assert_sound();
}

/// A file system of its own that is too small.
fn no_space_is_an_error_that_leaves_the_store_sound() {
    let image = image();
    let registry = FakeRegistry::serving(&image, |_| None);
    let name = format!("{}/x:1", registry.host);
    for megabytes in [2, 5, 9, 13, 17, 21] {
        let bed = Bed::new();
        let store = bed.path("store");
        fs::create_dir(&store).unwrap();
        let options = format!("size={megabytes}m");
        rustix_mount(&store, &options);
        let failed = std::panic::catch_unwind(|| {
            let error = bed.fails(&["pull", "-q", &name]);
            assert!(
                error.contains("No space left") || error.contains("free") || error.contains("full"),
                "{error}"
            );
            assert_whole(&bed);
            rustix_remount(&store, "size=200m");
            bed.ok(&["pull", "-q", &name]);
            bed.assert_sound();
        });
        nix::mount::umount2(&store, nix::mount::MntFlags::MNT_DETACH).unwrap();
        if let Err(failed) = failed {
            std::panic::resume_unwind(failed);
        }
    }
}

fn rustix_mount(at: &std::path::Path, options: &str) {
    nix::mount::mount(
        Some("tmpfs"),
        at,
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        Some(options),
    )
    .unwrap();
}

fn rustix_remount(at: &std::path::Path, options: &str) {
    nix::mount::mount(
        Some("tmpfs"),
        at,
        Some("tmpfs"),
        nix::mount::MsFlags::MS_REMOUNT,
        Some(options),
    )
    .unwrap();
}

/// One system call fails, at a random count, with ENOSPC or EIO, in each of the commands that write; strace injects it.
fn failing_calls_leave_the_store_sound() {
    const CALLS: [&str; 10] = [
        "write",
        "openat",
        "mkdirat",
        "renameat,renameat2",
        "fchmod",
        "syncfs",
        "pwrite64",
        "fdatasync,fsync",
        "openat2",
        "utimensat",
    ];
    let image = image();
    let registry = FakeRegistry::serving(&image, |_| None);
    let name = format!("{}/x:1", registry.host);
    let depot = Depot::new();
    let pushed = format!("{}/x:1", depot.serve().host);
    let mut dice = Dice::new();
    let mut failed = 0;
    for round in 0..kills() as usize {
        let bed = Bed::new();
        let target = bed.path("r").to_str().unwrap().to_owned();
        let command: &[&str] = match round % 5 {
            0 | 1 => &["pull", "-q", &name],
            2 => &["unpack", &name, &target],
            3 => &["rm", &name],
            _ => &["push", &name, &pushed],
        };
        if round % 5 > 1 {
            bed.ok(&["pull", "-q", &name]);
        }
        let call = CALLS[dice.below(CALLS.len())];
        let error = ["ENOSPC", "EIO"][dice.below(2)];
        let when = 1 + dice.below(if call == "syncfs" { 1 } else { 40 });
        let output = with_failing_call(&bed.command(command), (call, error, when));
        println!(
            "{} {call} {error} {when}: {}",
            command[0],
            if output.status.success() {
                "went on".to_owned()
            } else {
                String::from_utf8_lossy(&output.stderr).trim().to_owned()
            }
        );
        // An error where the kernel never gives one (the event loop's own descriptors) may end the program like a kill.
        failed += u32::from(!output.status.success());
        assert_whole(&bed);
        bed.ok(&["pull", "-q", &name]);
        bed.assert_sound();
    }
    assert!(failed > 0, "no injected error reached the program");
}

fn with_failing_call(command: &Command, (call, error, when): (&str, &str, usize)) -> Output {
    let inject = format!("inject={call}:error={error}:when={when}");
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-o", "/dev/null", "-e"]);
    traced.args([&format!("trace={call}"), "-e", &inject]);
    traced.arg(command.get_program()).args(command.get_args());
    traced.output().unwrap()
}

/// Does something to a layer's directory.
type Damage = fn(&std::path::Path);

/// Bits that change on disk are found and fetched again.
fn damage_is_found_and_repaired() {
    let image = image();
    let registry = FakeRegistry::serving(&image, |_| None);
    let name = format!("{}/x:1", registry.host);
    let bed = Bed::new();
    bed.ok(&["pull", "-q", &name]);
    let layer = |bed: &Bed| {
        let layers = fs::read_dir(bed.path("store/layers"))
            .unwrap()
            .map(|e| e.unwrap().path());
        layers
            .into_iter()
            .find(|path| path.join("b/7").exists())
            .unwrap()
    };
    let damages: [(&str, Damage); 4] = [
        ("content", |path| {
            fs::write(path.join("b/7"), "other").unwrap();
        }),
        ("a missing file", |path| {
            fs::remove_file(path.join("b/8")).unwrap();
        }),
        ("an added file", |path| {
            fs::write(path.join("b/new"), "").unwrap();
        }),
        ("a mode", |path| {
            fs::set_permissions(
                path.join("b/9"),
                std::os::unix::fs::PermissionsExt::from_mode(0o777),
            )
            .unwrap();
        }),
    ];
    for (what, damage) in damages {
        damage(&layer(&bed));
        let error = bed.fails(&["fsck"]);
        assert!(error.contains("damaged"), "{what}: {error}");
        bed.ok(&["fsck", "--repair"]);
        bed.ok(&["inspect", &name]);
        bed.assert_sound();
    }
    let blob = fs::read_dir(bed.path("store/blobs"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut data = fs::read(&blob).unwrap();
    data[1000] ^= 1;
    fs::write(&blob, data).unwrap();
    bed.fails(&["fsck"]);
    bed.ok(&["fsck", "--repair"]);
    bed.assert_sound();
}

/// What cannot be fetched again is not served, and keeps its names until it can be.
fn a_repair_that_fails_loses_no_name() {
    let image = image();
    let bed = Bed::new();
    let layer = |bed: &Bed| {
        let mut layers = fs::read_dir(bed.path("store/layers")).unwrap();
        layers.next().unwrap().unwrap().path()
    };
    let down = Arc::new(AtomicBool::new(false));
    let is_down = down.clone();
    let registry = FakeRegistry::serving(&image, move |_| {
        let missing = Answer::Whole(404, Vec::new(), Vec::new());
        is_down.load(Ordering::Relaxed).then_some(missing)
    });
    let name = format!("{}/x:1", registry.host);
    let other = format!("{}/other:2", registry.host);
    bed.ok(&["pull", "-q", &name]);
    for second in [&other, &"t.io/third:3".to_owned()] {
        bed.ok(&["tag", &name, second]);
    }
    fs::write(layer(&bed).join("new"), "").unwrap();
    down.store(true, Ordering::Relaxed);
    let error = bed.fails(&["fsck", "--repair"]);
    assert!(error.contains(&name) && error.contains(&other), "{error}");
    bed.fails(&["inspect", &name]);
    let error = bed.fails(&["fsck"]);
    assert!(error.contains("1 images wait"), "{error}");
    // A name may be given up.
    bed.ok(&["rm", "t.io/third:3"]);
    down.store(false, Ordering::Relaxed);
    bed.ok(&["fsck", "--repair"]);
    for name in [&name, &other] {
        bed.ok(&["inspect", name]);
    }
    bed.fails(&["inspect", "t.io/third:3"]);
    bed.ok(&["fsck"]);
    bed.assert_sound();
}

suite! {
    &[Need::Root] => [
        a_killed_pull_leaves_nothing_broken, a_killed_removal_or_collection_leaves_nothing_broken, a_killed_pull_is_taken_up,
        a_killed_push_is_taken_up, what_an_earlier_pull_left_is_not_believed, a_killed_push_leaves_nothing_broken,
        a_killed_unpack_or_import_leaves_the_store_sound, no_space_is_an_error_that_leaves_the_store_sound,
        damage_is_found_and_repaired, a_repair_that_fails_loses_no_name,
    ],
    &[Need::Root, Need::Program("strace")] => [failing_calls_leave_the_store_sound],
}
