//! The power fails at any moment, and the disk errs: what was acknowledged is there, and nothing is listed that is not
//! whole. The store lies on ext4 on a disk that records writes and flushes (see `ocirun_tests::disk`).
//!
//! `IMAGE_POWER_CUTS` is the count of moments; a few by default. `IMAGE_SEED` chooses them again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

use ocirun_tests::disk::{Disk, Replay, mount_image, on_a_disk};
use ocirun_tests::image_support::{Bed, Dice, FakeRegistry, Image, Tar, honest, listing, noise};
use ocirun_tests::{Need, eventually, suite};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const SIZE: usize = 96 << 20;

/// Two images with a common layer, as `x:1` and `x:2`.
fn images() -> [Image; 2] {
    let layer = |seed: u32, name: &str| {
        let mut tar = Tar::new().dir(name, 0o755);
        for file in 0..40 {
            let content = noise(seed + file, 6_000);
            tar = tar.file(&format!("{name}/{file}"), &content);
        }
        tar.file(&format!("{name}/large"), &noise(seed, 600_000))
    };
    let common = layer(1000, "a").end();
    let upper = layer(2000, "b")
        .file("a/.wh.1", b"")
        .link("a/2", "a/linked");
    [
        Image::new(&[common.clone(), upper.end()]),
        Image::new(&[common, layer(3000, "c").end()]),
    ]
}

fn registry() -> FakeRegistry {
    let images = images();
    FakeRegistry::start(move |request| {
        while request.path.starts_with("/v2/silent/") {
            std::thread::park();
        }
        let of = images.iter().find(|image| {
            let last = request.path.rsplit('/').next().unwrap();
            image.blobs.contains_key(last)
        });
        let second = request.path.ends_with("/manifests/2");
        let named = &images[usize::from(second)];
        honest(of.unwrap_or(named), request)
    })
}

/// Names that the store lists. Whatever it lists has to be whole.
fn listed(bed: &Bed) -> BTreeSet<String> {
    let images: Value = serde_json::from_str(&bed.ok(&["--json", "ls"])).unwrap();
    let mut names = BTreeSet::new();
    for image in images.as_array().unwrap() {
        bed.ok(&["inspect", image["manifest"].as_str().unwrap()]);
        let tags = image["tags"].as_array().unwrap().iter();
        names.extend(tags.map(|tag| tag.as_str().unwrap().to_owned()));
    }
    bed.ok(&["fsck"]);
    names
}

/// A boot is known by its id; every process that this thread starts sees this one.
fn boot_as(dir: &Path, id: &str) {
    let file = dir.join(format!("boot-{id}"));
    fs::write(&file, format!("00000000-0000-4000-8000-{id:0>12}\n")).unwrap();
    let at = "/proc/sys/kernel/random/boot_id";
    let flags = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(Some(&file), at, None::<&str>, flags, None::<&str>).unwrap();
}

/// Whoever looks at the memory of a process (ps does) keeps what it had mapped for a moment longer than it lives.
fn unmount(at: &Path) {
    eventually(
        "nobody uses what is unmounted",
        || match nix::mount::umount2(at, nix::mount::MntFlags::empty()) {
            Err(nix::errno::Errno::EBUSY) => false,
            done => done.is_ok() || panic!("umount {at:?}: {done:?}"),
        },
    );
}

/// What was listed after each command, and how much had been recorded when it returned.
struct Acknowledged {
    position: usize,
    names: BTreeSet<String>,
}

fn work(disk: &Disk, bed: &Bed, one: &str, two: &str) -> Vec<Acknowledged> {
    // The last one to close a database brings it to disk, so somebody has it open all the time.
    let silent = one.replace("/x:", "/silent:");
    let mut other = bed.command(&["pull", "-q", &silent]).spawn().unwrap();
    let mut acknowledged = Vec::new();
    let commands: [&[&str]; 10] = [
        &["ls"],
        &["pull", "-q", one],
        &["pull", "-q", two],
        &["rm", one],
        &["gc", "--all"],
        &["pull", "-q", "--discard-blobs", one],
        &["tag", one, "t.io/x:3"],
        &["rm", two],
        &["pull", "-q", two],
        &["rm", two],
    ];
    for command in commands {
        bed.ok(command);
        let position = disk.log().len();
        let names = listed(bed);
        acknowledged.push(Acknowledged { position, names });
    }
    assert!(other.try_wait().unwrap().is_none(), "the other one ended");
    other.kill().unwrap();
    other.wait().unwrap();
    acknowledged
}

fn cuts() -> usize {
    let count = std::env::var("IMAGE_POWER_CUTS").ok();
    count.and_then(|text| text.parse().ok()).unwrap_or(24)
}

fn a_power_loss_takes_nothing_that_was_acknowledged() {
    let registry = registry();
    on_a_disk(SIZE, |disk, dir| power_losses(disk, dir, &registry));
}

fn power_losses(disk: &Disk, dir: &Path, registry: &FakeRegistry) {
    let at = |name: &str| dir.join(name);
    let [one, two] = ["1", "2"].map(|tag| format!("{}/x:{tag}", registry.host));
    for name in ["lost", "reference"] {
        fs::create_dir(at(name)).unwrap();
    }
    let reference = Bed::at(&at("reference"));
    reference.ok(&["pull", "-q", &one]);
    reference.ok(&["unpack", &one, reference.path("r").to_str().unwrap()]);
    let expected = listing(&reference.path("r"));

    disk.format();
    disk.mount(&at("fs"));
    let bed = Bed::at(&at("fs"));
    let acknowledged = work(disk, &bed, &one, &two);
    let log = disk.log();
    unmount(&at("fs"));

    boot_as(dir, "2");
    let mut dice = Dice::new();
    let first = acknowledged[0].position;
    let mut moments = (0..cuts())
        .map(|_| first + dice.below(log.len() - first))
        .collect::<Vec<_>>();
    moments.sort_unstable();
    let mut replay = Replay::new(&log, SIZE);
    for moment in moments {
        let granule = [512, 4096, 65536][dice.below(3)];
        let survivors = [0, 50, 90][dice.below(3)];
        let lost = replay.lost_at(moment, granule, || dice.below(100) < survivors);
        println!(
            "after {moment} of {} events, {survivors} % of {granule}",
            log.len()
        );
        fs::write(at("image"), lost).unwrap();
        mount_image(&at("image"), &at("lost"));
        let bed = Bed::at(&at("lost"));
        let names = listed(&bed);
        let done = acknowledged.iter().rposition(|a| a.position <= moment);
        let before = &acknowledged[done.unwrap()].names;
        let after = acknowledged
            .get(done.unwrap() + 1)
            .map_or(before, |a| &a.names);
        let certain = before & after;
        let possible = before | after;
        assert!(
            certain.is_subset(&names) && names.is_subset(&possible),
            "listed {names:?}, expected {certain:?} at least and {possible:?} at most"
        );
        bed.ok(&["pull", "-q", &one]);
        bed.ok(&["unpack", &one, bed.path("r").to_str().unwrap()]);
        assert_eq!(listing(&bed.path("r")), expected);
        bed.assert_sound();
        unmount(&at("lost"));
    }
}

/// Content of a layer never reaches the disk, and the kernel tells it only once. No later pull of the same boot may take
/// that layer for whole.
fn what_the_disk_refused_is_fetched_again() {
    let mark = b"this block never reaches the disk";
    let mut content = mark.to_vec();
    content.resize(1 << 20, b'.');
    let image = Image::new(&[
        Tar::new().file("good", b"1").end(),
        Tar::new().file("bad", &content).end(),
    ]);
    let registry = FakeRegistry::serving(&image, |_| None);
    let name = format!("{}/x:1", registry.host);
    on_a_disk(SIZE, |disk, dir| {
        let bed = Bed::at(&dir.join("fs"));
        disk.format();
        disk.mount(&bed.path(""));
        disk.refuse(Some(mark));
        let error = bed.fails(&["pull", "-q", &name]);
        assert!(error.contains("Input/output error"), "{error}");
        assert!(listed(&bed).is_empty());
        disk.refuse(None);
        bed.ok(&["pull", "-q", &name]);
        unmount(&bed.path(""));
        // What the page cache had is gone now: what is read is what is on the disk.
        boot_as(dir, "2");
        disk.mount(&bed.path(""));
        assert_eq!(listed(&bed), BTreeSet::from([name.clone()]));
        bed.ok(&["unpack", &name, bed.path("r").to_str().unwrap()]);
        assert_eq!(fs::read(bed.path("r/bad")).unwrap(), content);
        bed.assert_sound();
        unmount(&bed.path(""));
    });
}

suite! {
    &[Need::Root, Need::Device("/dev/fuse"), Need::Device("/dev/loop-control"), Need::Program("mkfs.ext4"), Need::Program("mount")] => [
        a_power_loss_takes_nothing_that_was_acknowledged, what_the_disk_refused_is_fetched_again,
    ],
}
