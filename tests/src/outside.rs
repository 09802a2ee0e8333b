//! A directory that no container may touch, and what was done to it all the same.

use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Name of the file in it.
pub const CANARY: &str = "canary";
const SONG: &str = "untouched";

/// A directory outside of every root, watched by inotify(7): nothing in it may be opened, made, changed or removed.
#[derive(Debug)]
pub struct Outside {
    path: PathBuf,
    watch: Inotify,
}

impl Outside {
    /// Makes the directory `outside` below `above`.
    ///
    /// # Panics
    /// When it cannot be made or watched.
    #[must_use]
    pub fn below(above: &Path) -> Self {
        let path = above.join("outside");
        fs::create_dir(&path).expect("make a directory");
        fs::write(path.join(CANARY), SONG).expect("write the canary");
        let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).expect("inotify");
        let events = AddWatchFlags::IN_ALL_EVENTS;
        watch.add_watch(&path, events).expect("watch a directory");
        Self { path, watch }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that nobody was here since it was made.
    ///
    /// # Panics
    /// With what happened.
    #[track_caller]
    pub fn assert_untouched(&self) {
        let mut events = Vec::new();
        loop {
            match self.watch.read_events() {
                Ok(more) => events.extend(more),
                Err(Errno::EAGAIN) => break,
                Err(errno) => panic!("read(inotify): {errno}"),
            }
            assert!(events.len() < 1000, "{events:?}");
        }
        assert!(events.is_empty(), "{events:?}");
        let song = fs::read_to_string(self.path.join(CANARY)).expect("read the canary");
        assert_eq!(song, SONG);
        let names = fs::read_dir(&self.path).expect("read a directory");
        assert_eq!(names.count(), 1, "{}", self.path.display());
        // What was done just now is no finding of the next look.
        while self.watch.read_events().is_ok() {}
    }
}
