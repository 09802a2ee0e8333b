//! Layers whose unpacking is watched: nothing outside of its target may be created, changed or read.

use super::{Bed, Image, listing};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Whoever opens, reads, changes or makes something in some directories is seen.
struct Watch {
    inotify: Inotify,
    watched: BTreeMap<nix::sys::inotify::WatchDescriptor, PathBuf>,
}

impl Watch {
    fn on(paths: &[PathBuf]) -> Self {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
        let watch = |path: &PathBuf| {
            // Not those of closing: another test's child closes what it was born with.
            let flags = AddWatchFlags::IN_ALL_EVENTS.difference(AddWatchFlags::IN_CLOSE);
            (inotify.add_watch(path, flags).unwrap(), path.clone())
        };
        let watched = paths.iter().map(watch).collect();
        Self { inotify, watched }
    }

    /// What happened since the last call.
    fn seen(&self) -> Vec<String> {
        let events = match self.inotify.read_events() {
            Err(Errno::EAGAIN) => Vec::new(),
            events => events.unwrap(),
        };
        let shown = |event: &nix::sys::inotify::InotifyEvent| {
            let (path, name) = (&self.watched[&event.wd], &event.name);
            format!("{path:?} {name:?} {:?}", event.mask)
        };
        events.iter().map(shown).collect()
    }
}

/// Imports and unpacks layers where the machine's `/etc`, and `etc` and `tmp` beside the store, are watched.
pub fn attack(layers: &[Vec<u8>]) -> (Bed, Result<PathBuf, String>) {
    let bed = Bed::new();
    let image = Image::new(layers);
    // Mounts of its own need a thread of its own.
    let done = std::thread::scope(|scope| scope.spawn(|| watched(&bed, &image)).join());
    let done = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    bed.assert_sound();
    (bed, done)
}

/// Layers that unpack, and leave what `check` wants.
pub fn succeeds(layers: &[Vec<u8>], check: impl Fn(&Path)) {
    let (_bed, done) = attack(layers);
    check(&done.unwrap());
}

/// A layer that does not unpack, for a reason that is said in one short line.
pub fn refused(layer: Vec<u8>, reason: &str) {
    let (_bed, done) = attack(&[layer]);
    let error = done.expect_err(reason);
    assert!(error.contains(reason), "expected {reason:?} in {error:?}");
    assert!(error.len() < 2000, "{error}");
}

/// The text of a file of an unpacked layer.
pub fn content(root: &Path, name: &str) -> String {
    fs::read_to_string(root.join(name)).unwrap()
}

fn watched(bed: &Bed, image: &Image) -> Result<PathBuf, String> {
    let outside = bed.path("etc");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("passwd"), "outside").unwrap();
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    let bind = MsFlags::MS_BIND;
    mount(Some(&outside), "/etc", None::<&str>, bind, None::<&str>).unwrap();
    let before = listing(&outside);
    let watch = Watch::on(&[outside.clone(), outside.join("passwd")]);
    assert_eq!(fs::read(Path::new("/etc/passwd")).unwrap(), b"outside");
    assert!(watch.seen().len() >= 2, "reading is not seen");
    let done = bed.unpack(image);
    assert_eq!(watch.seen(), Vec::<String>::new(), "reached outside");
    assert_eq!(listing(&outside), before);
    done
}
