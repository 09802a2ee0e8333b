//! Attacks by time: while containers are created one after the other, names on their way are exchanged for links, as fast
//! as the kernel does it. A directory outside tells by inotify(7) whether any of it got there.
//!
//! `OCIRUN_RACE_SECONDS=60` is how long each race runs, with at least 100,000 exchanges; the default is for every day.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ocirun_tests::{Bundle, CANARY, Container, Finished, Need, Outside, suite};
use rustix::fs::{AtFlags, CWD, RenameFlags, renameat_with, unlinkat};
use serde_json::{Value, json};

/// Exchanges that a race of a minute has at least.
const MANY: u64 = 100_000;

fn duration() -> Duration {
    let written = std::env::var("OCIRUN_RACE_SECONDS").ok();
    Duration::from_secs(written.map_or(1, |seconds| seconds.parse().unwrap()))
}

fn is_long() -> bool {
    duration() >= Duration::from_secs(60)
}

/// How a race went.
#[derive(Debug, Default)]
struct Tally {
    exchanges: u64,
    succeeded: u64,
    refused: u64,
}

impl Tally {
    fn check(&self, race: &str) {
        assert!(
            self.exchanges > 0 && self.succeeded + self.refused > 0,
            "{self:?}"
        );
        if is_long() {
            assert!(self.exchanges >= MANY && self.succeeded > 0, "{self:?}");
            eprintln!("{race}: {self:?}, 0 escapes");
        }
    }
}

/// Two names whose meanings are exchanged.
type Pair = (PathBuf, PathBuf);

/// Exchanges every pair in turn while `attempt` is made again and again, and looks at each call that it gives.
fn race(pairs: &[Pair], attempt: impl FnMut() -> Finished, look: impl Fn(&Finished)) -> Tally {
    let is_over = AtomicBool::new(false);
    let exchanges = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            let mut rounds = 0;
            // At the end each name means what it meant.
            while !is_over.load(Ordering::Relaxed) || rounds % 2 == 1 {
                for (one, other) in pairs {
                    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                    exchanges.fetch_add(1, Ordering::Relaxed);
                }
                rounds += 1;
            }
        });
        // The exchanges end with the attempts, also with one that fails the test.
        let tally = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            attempts(attempt, &look, &|| {
                exchanges.load(Ordering::Relaxed) >= MANY
            })
        }));
        is_over.store(true, Ordering::Relaxed);
        swapper.join().unwrap();
        let exchanges = exchanges.load(Ordering::Relaxed);
        match tally {
            Ok(tally) => Tally { exchanges, ..tally },
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Makes attempts for as long as a race runs, and a long one until there were enough exchanges: a busy machine has them
/// later.
fn attempts(
    mut attempt: impl FnMut() -> Finished,
    look: &impl Fn(&Finished),
    is_enough: &dyn Fn() -> bool,
) -> Tally {
    let mut tally = Tally::default();
    let end = Instant::now() + duration();
    while tally.succeeded + tally.refused == 0 || Instant::now() < end || is_long() && !is_enough()
    {
        let run = attempt();
        look(&run);
        match run.code() {
            0 => tally.succeeded += 1,
            _ => tally.refused += 1,
        }
    }
    tally
}

/// A directory that containers share, with two directories that become links to `outside`.
struct Volume {
    path: PathBuf,
    pairs: Vec<Pair>,
    directories: Vec<fs::File>,
}

impl Volume {
    fn of(bundle: &Bundle, outside: &Outside) -> Self {
        let path = bundle.path().join("volume");
        let mut volume = Self {
            path: path.clone(),
            pairs: Vec::new(),
            directories: Vec::new(),
        };
        for (name, up) in [("one", ""), ("two", "../../../../../../../../..")] {
            let (directory, link) = (path.join(name), path.join(format!("link-{name}")));
            fs::create_dir_all(&directory).unwrap();
            symlink(format!("{up}{}", outside.path().display()), &link).unwrap();
            volume.directories.push(fs::File::open(&directory).unwrap());
            volume.pairs.push((directory, link));
        }
        volume
    }

    /// Removes what was made in the directories, however they are called now.
    fn clear(&self) {
        for directory in &self.directories {
            for name in ["new/below", "new", "file"] {
                let _absent = unlinkat(directory, name, AtFlags::empty());
                let _absent = unlinkat(directory, name, AtFlags::REMOVEDIR);
            }
        }
    }
}

fn bind(at: &str, source: &Path) -> Value {
    json!({"destination": at, "type": "bind", "source": source, "options": ["bind"]})
}

/// What the links lead to exists inside too, so that every lookup that stays there finds something.
fn make_twin(bundle: &Bundle, outside: &Outside) {
    let path = outside.path().to_str().unwrap();
    fs::create_dir_all(bundle.inside(path)).unwrap();
}

/// Mounts below the changing directories: on what is there, and on what has to be made.
fn on_targets_of(bundle: Bundle, volume: &Path) -> Bundle {
    let source = bundle.path().join("source");
    fs::create_dir(&source).unwrap();
    let file = bundle.path().join("source-file");
    fs::write(&file, "").unwrap();
    bundle
        .set("/root/readonly", false)
        .mount(bind("/volume", volume))
        .mount(bind("/volume/one", &source))
        .mount(bind("/volume/two/new/below", &source))
        .mount(bind("/volume/one/new/below", &source))
        .mount(bind("/volume/two/file", &file))
        .mount(json!({"destination": "/volume/two", "type": "tmpfs", "source": "marked"}))
        .probe(&["report"])
}

/// A mount that is not in the container is somewhere else.
fn all_mounts_are_inside(run: &Finished) {
    if run.code() != 0 {
        return;
    }
    let report = run.value();
    let mounts = report["mounts"].as_array().unwrap();
    let count = |is: &dyn Fn(&str) -> bool, field: &str| {
        let fields = mounts.iter().filter_map(|mount| mount[field].as_str());
        fields.filter(|text| is(text)).count()
    };
    let found = (
        count(&|root| root.ends_with("/source"), "root"),
        count(&|root| root.ends_with("/source-file"), "root"),
        count(&|source| source == "marked", "source"),
    );
    assert_eq!(found, (3, 1, 1), "{run}");
}

fn targets_of_mounts() {
    let bundle = Bundle::new();
    let outside = Outside::below(bundle.path());
    make_twin(&bundle, &outside);
    let volume = Volume::of(&bundle, &outside);
    let container = on_targets_of(bundle, &volume.path).container();
    let attempt = || {
        volume.clear();
        container.run()
    };
    race(&volume.pairs, attempt, all_mounts_are_inside).check("targets of mounts");
    outside.assert_untouched();
}

/// The exchanges are made by a program in a container of its own.
fn a_sibling_with_the_same_volume() {
    let bundle = Bundle::new();
    let outside = Outside::below(bundle.path());
    make_twin(&bundle, &outside);
    let volume = Volume::of(&bundle, &outside);
    let steps = [
        "print",
        "ready",
        ",",
        "swap",
        "/volume/one",
        "/volume/link-one",
        "/stop",
    ];
    let sibling = Bundle::new().mount(bind("/volume", &volume.path));
    let sibling = sibling.set("/root/readonly", false).probe(&steps);
    let sibling = sibling.container();
    let run = sibling.run_until_ready();
    let container = on_targets_of(bundle, &volume.path).container();
    let attempt = || {
        volume.clear();
        container.run()
    };
    let mut tally = attempts(attempt, &all_mounts_are_inside, &|| true);
    fs::write(sibling.bundle.inside("/stop"), "").unwrap();
    tally.exchanges = run.finish().ok().values()[1]["swaps"].as_u64().unwrap();
    tally.check("a sibling with the same volume");
    outside.assert_untouched();
}

/// Paths to be hidden and to be read-only: a mount for each, and in the container.
fn masked_and_read_only_paths() {
    let bundle = Bundle::new().set("/root/readonly", false);
    let outside = Outside::below(bundle.path());
    make_twin(&bundle, &outside);
    let volume = Volume::of(&bundle, &outside);
    let bundle = bundle
        .mount(bind("/volume", &volume.path))
        .set("/linux/maskedPaths", json!(["/volume/one"]))
        .set("/linux/readonlyPaths", json!(["/volume/two"]));
    let container = bundle.container();
    let look = |run: &Finished| {
        if run.code() == 0 {
            let report = run.value();
            let mounts = report["mounts"].as_array().unwrap();
            // The volume itself, the mask and the read-only view; the view is of the volume or of the root.
            let default = container_mounts();
            assert_eq!(mounts.len(), default + 3, "{run}");
        }
    };
    race(&volume.pairs, || container.run(), look).check("masked and read-only paths");
    outside.assert_untouched();
}

/// How many mounts a container has that asks for nothing, and hides nothing.
fn container_mounts() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| {
        let none = json!([]);
        let bundle = Bundle::new().set("/root/readonly", false);
        let bundle = bundle.set("/linux/maskedPaths", none.clone());
        let report = bundle
            .set("/linux/readonlyPaths", none)
            .container()
            .run()
            .ok()
            .value();
        report["mounts"].as_array().unwrap().len()
    })
}

fn nothing(_: &Finished) {}

fn without_dev(mut bundle: Bundle) -> Bundle {
    let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    bundle.set("/root/readonly", false)
}

/// `/dev` of the image, where nodes and links are made.
fn device_nodes() {
    let bundle = without_dev(Bundle::new());
    let outside = Outside::below(bundle.path());
    symlink(outside.path(), bundle.inside("/link")).unwrap();
    let pairs = [(bundle.inside("/dev"), bundle.inside("/link"))];
    let device = json!({"path": "/dev/sub/zero", "type": "c", "major": 1, "minor": 5});
    let bundle = bundle
        .set("/linux/devices", json!([device]))
        .set("/linux/maskedPaths", json!([]))
        .probe(&["print", "x"]);
    let container = bundle.container();
    race(&pairs, || container.run(), nothing).check("device nodes");
    outside.assert_untouched();
}

/// `/proc` and `/sys` of the image, and files in the place of those of procfs.
fn proc_and_sys() {
    let bundle = Bundle::new().set("/root/readonly", false);
    let outside = Outside::below(bundle.path());
    let file = bundle.inside("/false/sys/net/ipv4/ip_default_ttl");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::create_dir_all(bundle.inside("/false/self/attr")).unwrap();
    fs::write(&file, "of the image").unwrap();
    symlink("/false", bundle.inside("/link-proc")).unwrap();
    symlink(outside.path(), bundle.inside("/link-sys")).unwrap();
    let pairs =
        ["proc", "sys"].map(|name| (bundle.inside(name), bundle.inside(&format!("link-{name}"))));
    let bundle = bundle
        .set("/linux/sysctl", json!({"net.ipv4.ip_default_ttl": "33"}))
        .probe(&["print", "x"]);
    let container = bundle.container();
    race(&pairs, || container.run(), nothing).check("proc and sys");
    outside.assert_untouched();
    assert_eq!(fs::read_to_string(&file).unwrap(), "of the image");
}

/// The null device in a `/dev` that is shared: never the source of a mask.
fn sources_of_masks() {
    let bundle = without_dev(Bundle::new());
    let dev = bundle.path().join("dev");
    fs::create_dir(&dev).unwrap();
    fs::write(dev.join("null"), "false").unwrap();
    // By whatever name it has in the end.
    let mut false_null = fs::File::open(dev.join("null")).unwrap();
    symlink("/etc/target", dev.join("link")).unwrap();
    fs::write(bundle.inside("/etc/target"), "the target").unwrap();
    fs::write(bundle.inside("/etc/secret"), "secret").unwrap();
    let pairs = [(dev.join("null"), dev.join("link"))];
    let steps = ["overwrite", "/etc/secret", "x", ",", "read", "/etc/secret"];
    let bundle = bundle
        .mount(bind("/dev", &dev))
        .set("/linux/maskedPaths", json!(["/etc/secret"]))
        .probe(&steps);
    let container = bundle.container();
    let look = |run: &Finished| {
        if run.code() == 0 {
            assert_eq!(run.values()[1], "", "{run}");
        }
    };
    race(&pairs, || container.run(), look).check("sources of masks");
    let target = container.bundle.inside("/etc/target");
    assert_eq!(fs::read_to_string(target).unwrap(), "the target");
    assert_eq!(std::io::read_to_string(&mut false_null).unwrap(), "false");
}

/// Working directories, of the first process and of one that joins; those of the former are made.
fn working_directories() {
    let bundle = Bundle::new();
    let outside = Outside::below(bundle.path());
    let volume = Volume::of(&bundle, &outside);
    let bundle = bundle
        .set("/root/readonly", false)
        .mount(bind("/volume", &volume.path))
        .set("/process/cwd", "/volume/one/new");
    let container = bundle.probe(&["list", "."]).container();
    let holder = Bundle::new().mount(bind("/volume", &volume.path));
    let holder: Container = holder
        .set("/root/readonly", false)
        .probe(&["pause"])
        .container();
    holder.run_until_ready_detached();
    let mut is_exec = false;
    let attempt = || {
        is_exec = !is_exec;
        if is_exec {
            return holder.exec_with(&["--cwd", "/volume/two"], &["list", "."]);
        }
        volume.clear();
        container.run()
    };
    let look = |run: &Finished| assert!(!run.stdout().contains(CANARY), "{run}");
    race(&volume.pairs, attempt, look).check("working directories");
    outside.assert_untouched();
}

/// Sources may change as their owner likes; what is mounted is one of them, as read-only as was asked for.
fn sources_of_volumes() {
    let bundle = Bundle::new();
    let (one, other) = (bundle.path().join("one"), bundle.path().join("other"));
    fs::create_dir(&one).unwrap();
    fs::create_dir(bundle.path().join("third")).unwrap();
    symlink("third", &other).unwrap();
    for name in ["one", "third"] {
        fs::write(bundle.path().join(name).join("name"), name).unwrap();
    }
    let mut mount = bind("/data", &one);
    mount["options"] = json!(["bind", "ro", "nosuid", "nodev", "noexec"]);
    let steps = ["overwrite", "/data/name", "x", ",", "read", "/data/name"];
    let bundle = bundle
        .set("/root/readonly", false)
        .mount(mount)
        .probe(&steps);
    let container = bundle.container();
    let look = |run: &Finished| {
        let values = run.values();
        let found = (&values[0], values[1].as_str().unwrap_or_default());
        let is_one = ["one", "third"].contains(&found.1);
        assert!(found.0["errno"] == "EROFS" && is_one, "{run}");
    };
    race(&[(one, other)], || container.run(), look).check("sources of volumes");
}

suite! {
    &[Need::Root] => [
        targets_of_mounts,
        a_sibling_with_the_same_volume,
        masked_and_read_only_paths,
        proc_and_sys,
        working_directories,
        sources_of_volumes,
        device_nodes,
        sources_of_masks,
    ],
}
