//! A disk that remembers: a file served by FUSE (see `ocirun-disk`), on which a loop device lies. Writes and flushes are
//! recorded in their order, so that every state that a power loss could have left can be made of them; and writes can be
//! refused.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// In the place of an offset in the log: all before has to outlive a power loss.
pub const FLUSH: u64 = u64::MAX;

/// Where ext4's superblock begins, and how long it is, in bytes.
const SUPERBLOCK: usize = 1024;

/// What reached the disk.
#[derive(Debug, Clone)]
pub enum Event {
    /// These bytes, at this offset.
    Write(usize, Vec<u8>),
    /// Everything before has to outlive a power loss.
    Flush,
}

/// The disk.
#[derive(Debug)]
pub struct Disk {
    dir: PathBuf,
    server: Child,
}

/// Runs a test on an empty disk of `size` bytes, in a directory that goes away with it. The test's thread, and what it
/// starts, has mounts of its own, which end with it; so it must start no thread that stays.
pub fn on_a_disk(size: usize, test: impl FnOnce(&Disk, &Path) + Send) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["served", "fs"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let (mut disk, device) = Disk::serve(dir.path(), size);
    let body = || {
        private_mounts();
        disk.attach(device);
        test(&disk, dir.path());
    };
    let done = std::thread::scope(|scope| scope.spawn(body).join());
    // Ends with the mount.
    let ended = disk.server.wait().unwrap();
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
    assert!(ended.success(), "ocirun-disk: {ended}");
}

fn private_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).unwrap();
}

impl Disk {
    fn serve(dir: &Path, size: usize) -> (Self, File) {
        let mut options = File::options();
        let device = options.read(true).write(true).open("/dev/fuse").unwrap();
        let server = Command::new(crate::own_program("ocirun-disk"))
            .arg(size.to_string())
            .args(["log", "refused"].map(|name| dir.join(name)))
            .stdin(device.try_clone().unwrap())
            .spawn()
            .unwrap();
        let dir = dir.to_owned();
        (Self { dir, server }, device)
    }

    /// The mount is the server's from here on.
    fn attach(&self, device: File) {
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            device.as_raw_fd()
        );
        let flags = MsFlags::empty();
        let at = self.dir.join("served");
        mount(Some("disk"), &at, Some("fuse"), flags, Some(&options[..])).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.dir.join("served/disk")
    }

    /// Makes an ext4 file system with a journal on it.
    pub fn format(&self) {
        let now = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        let output = Command::new("mkfs.ext4")
            .args(["-q", "-F", "-O", "has_journal", "-E", now])
            .arg(self.file())
            .output()
            .unwrap();
        assert!(output.status.success(), "mkfs.ext4: {output:?}");
    }

    /// Mounts the file system.
    pub fn mount(&self, at: &Path) {
        mount_image(&self.file(), at);
    }

    /// What was recorded so far.
    pub fn log(&self) -> Vec<Event> {
        let data = fs::read(self.dir.join("log")).unwrap();
        let mut rest = &data[..];
        let mut events = Vec::new();
        while let Some((offset, after)) = rest.split_first_chunk::<8>() {
            let (length, after) = after.split_first_chunk::<8>().unwrap();
            let length = usize::try_from(u64::from_ne_bytes(*length)).unwrap();
            let (data, after) = after.split_at(length);
            events.push(match u64::from_ne_bytes(*offset) {
                FLUSH => Event::Flush,
                offset => Event::Write(usize::try_from(offset).unwrap(), data.to_vec()),
            });
            rest = after;
        }
        events
    }

    /// Lets writes of blocks that begin with `mark` fail, or no longer any.
    pub fn refuse(&self, mark: Option<&[u8]>) {
        let file = self.dir.join("refused");
        match mark {
            Some(mark) => fs::write(file, mark).unwrap(),
            None => fs::remove_file(file).unwrap(),
        }
    }
}

/// Mounts the ext4 image `file` by a loop device that goes away with the mount.
pub fn mount_image(file: &Path, at: &Path) {
    let output = Command::new("mount")
        .args(["-t", "ext4", "-o", "loop"])
        .args([file, at])
        .output()
        .unwrap();
    assert!(output.status.success(), "mount {file:?}: {output:?}");
}

/// Replays what a disk recorded, up to moments at which the power is lost.
#[derive(Debug)]
pub struct Replay<'a> {
    log: &'a [Event],
    /// What was flushed, up to `at`.
    durable: Vec<u8>,
    at: usize,
}

impl<'a> Replay<'a> {
    /// From an empty disk.
    pub fn new(log: &'a [Event], size: usize) -> Self {
        Self {
            log,
            durable: vec![0; size],
            at: 0,
        }
    }

    /// The disk when power is lost after `position` events, which must not be before that of the last call. Of what was
    /// not flushed, `survives` decides for each piece of `granule` bytes.
    pub fn lost_at(
        &mut self,
        position: usize,
        granule: usize,
        mut survives: impl FnMut() -> bool,
    ) -> Vec<u8> {
        let before = &self.log[..position];
        let flushed = before
            .iter()
            .rposition(|event| matches!(event, Event::Flush));
        let flushed = flushed.map_or(self.at, |last| last.max(self.at));
        for event in &before[self.at..flushed] {
            if let Event::Write(offset, data) = event {
                self.durable[*offset..offset + data.len()].copy_from_slice(data);
            }
        }
        self.at = flushed;
        let mut disk = self.durable.clone();
        for event in &before[flushed..] {
            let Event::Write(offset, data) = event else {
                continue;
            };
            // ext4 has the disk write its superblock in one piece; the one it mounts by has no second.
            let granule = if *offset <= SUPERBLOCK && SUPERBLOCK < offset + data.len() {
                granule.max(SUPERBLOCK)
            } else {
                granule
            };
            for (piece, data) in data.chunks(granule).enumerate() {
                if survives() {
                    let start = offset + piece * granule;
                    disk[start..start + data.len()].copy_from_slice(data);
                }
            }
        }
        disk
    }
}
