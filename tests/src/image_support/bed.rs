//! A store, the program on it, and trees as lists of lines.

use super::{Image, digest, image_program};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A store in a directory that goes away with it.
#[derive(Debug)]
pub struct Bed {
    dir: PathBuf,
    _owned: Option<tempfile::TempDir>,
}

impl Default for Bed {
    fn default() -> Self {
        Self::new()
    }
}

impl Bed {
    /// An empty store.
    pub fn new() -> Self {
        let owned = tempfile::tempdir().unwrap();
        Self {
            dir: owned.path().to_owned(),
            _owned: Some(owned),
        }
    }

    /// A store in a directory that is the caller's.
    pub fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            _owned: None,
        }
    }

    /// A path beside the store.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The program with the store and no configuration of the machine's.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(image_program());
        command
            .arg("--root")
            .arg(self.path("store"))
            .arg("--hosts-dir")
            .arg(self.path("certs.d"));
        command
            .arg("--registries-conf")
            .arg(self.path("registries.conf"));
        command
            .arg("--authfile")
            .arg(self.path("auth.json"))
            .args(arguments);
        command
    }

    /// Runs the program.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs the program, which has to succeed; returns what it printed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the program, which has to fail with one line; returns it.
    pub fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
        let last = errors.lines().last().unwrap_or_default().to_owned();
        assert!(last.starts_with("ocirun-image: "), "{errors}");
        last
    }

    /// Imports an image under the name `t/image` and unpacks it to `rootfs`.
    pub fn unpack(&self, image: &Image) -> Result<PathBuf, String> {
        let layout = self.path("layout");
        image.write_layout(&layout);
        let imported = self.run(&["import", layout.to_str().unwrap(), "t.io/image:1"]);
        fs::remove_dir_all(&layout).unwrap();
        if !imported.status.success() {
            return Err(String::from_utf8_lossy(&imported.stderr).into_owned());
        }
        let rootfs = self.path("rootfs");
        self.ok(&["unpack", "t.io/image:1", rootfs.to_str().unwrap()]);
        Ok(rootfs)
    }

    /// Nothing is damaged, and after a full collection every byte below the store is of a layer, a blob or the database.
    pub fn assert_sound(&self) {
        self.ok(&["fsck"]);
        self.ok(&["gc", "--all"]);
        let store = self.path("store");
        let names = |dir: &Path| {
            let entries = fs::read_dir(dir).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.collect::<BTreeSet<_>>()
        };
        let usage: Value = serde_json::from_str(&self.ok(&["--json", "df"])).unwrap();
        let mut parts = names(&store);
        for part in ["database", "database-wal", "database-shm", "reserve"] {
            parts.remove(part);
        }
        let expected = ["blobs", "empty", "layers", "run", "staging"];
        assert!(parts.iter().eq(expected.iter()), "{parts:?}");
        for part in ["empty", "run", "staging"] {
            assert_eq!(names(&store.join(part)), BTreeSet::new(), "{part}");
        }
        let (layers, blobs) = (names(&store.join("layers")), names(&store.join("blobs")));
        let disk: u64 = layers
            .iter()
            .map(|l| disk_of(&store.join("layers").join(l)))
            .sum();
        let size = |blob: &String| fs::metadata(store.join("blobs").join(blob)).unwrap().len();
        assert_eq!(usage["layers"], json!([layers.len(), disk]));
        assert_eq!(
            usage["blobs"],
            json!([blobs.len(), blobs.iter().map(size).sum::<u64>()])
        );
        assert_eq!(usage["reclaimable"], json!(0));
    }
}

/// Bytes of disk of everything below a directory, each inode once.
fn disk_of(root: &Path) -> u64 {
    let mut inodes = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            todo.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
        let is_whiteout = meta.mode() & 0o170_000 == 0o020_000 && meta.rdev() == 0;
        inodes.insert(
            meta.ino(),
            if is_whiteout { 0 } else { meta.blocks() * 512 },
        );
    }
    inodes.values().sum()
}

/// Everything below a directory: path, type, mode, owner, size, times of change, link group, target, attributes, content.
pub fn listing(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut first_names: BTreeMap<u64, String> = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let meta = fs::symlink_metadata(&path).unwrap();
        let mut line = format!(
            "{name} {:o} {}:{} {}.{}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec()
        );
        let attributes = xattrs(&path);
        if meta.is_dir() {
            let mut inner = fs::read_dir(&path)
                .unwrap()
                .map(|e| e.unwrap().path())
                .collect::<Vec<_>>();
            inner.sort();
            todo.extend(inner);
        } else {
            let first = first_names
                .entry(meta.ino())
                .or_insert_with(|| name.clone());
            line += &format!(" {} {} {}", meta.size(), meta.rdev(), first);
        }
        if meta.is_symlink() {
            line += &format!(" -> {}", fs::read_link(&path).unwrap().display());
        } else if meta.is_file() {
            line += &format!(" {}", digest(&fs::read(&path).unwrap()));
        }
        lines.push(format!("{line} {attributes:?}"));
    }
    lines.sort();
    lines
}

fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0_u8; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let mut all = Vec::new();
    for name in names[..length]
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0_u8; 65536];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        all.push((
            String::from_utf8_lossy(name).into_owned(),
            value[..length].to_vec(),
        ));
    }
    all.sort();
    all
}
