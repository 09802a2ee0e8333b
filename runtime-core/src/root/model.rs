//! Lookups against a model: random trees with links of every kind, random paths, and three answers that must be one:
//! the model's, the kernel's and the walker's.
//!
//! `OCIRUN_MODEL_CASES=1000000` looks up as many paths; the default is for every day.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use super::*;

/// Paths that are looked up in one tree.
const PATHS: usize = 100;
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// What is at a path.
#[derive(Clone, Debug)]
enum Node {
    Directory(BTreeMap<&'static str, usize>),
    File,
    Link(String),
}

/// A tree in memory: nodes by number, the root is 0.
#[derive(Debug)]
struct Model(Vec<Node>);

/// xorshift64*: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % end
    }

    fn path(&mut self) -> String {
        let mut path = if self.below(2) == 0 { "/" } else { "" }.to_owned();
        for place in 0..=self.below(5) {
            if place > 0 {
                path.push_str(["/", "/", "//", "/./"][self.below(4)]);
            }
            path.push_str(["a", "b", "c", "d", "a", "b", "..", ".", "secret"][self.below(9)]);
        }
        if self.below(8) == 0 {
            path.push('/');
        }
        path
    }
}

impl Model {
    fn random(random: &mut Random) -> Self {
        let mut model = Self(vec![Node::Directory(BTreeMap::new())]);
        for _ in 0..random.below(14) {
            let parent = random.below(model.0.len());
            let name = NAMES[random.below(4)];
            let node = match random.below(10) {
                0..=4 => Node::Directory(BTreeMap::new()),
                5 | 6 => Node::File,
                _ => Node::Link(random.path()),
            };
            let number = model.0.len();
            if let Node::Directory(entries) = &mut model.0[parent]
                && !entries.contains_key(name)
            {
                entries.insert(name, number);
                model.0.push(node);
            }
        }
        model
    }

    /// Makes the tree at `path`, and gives the inode of each node.
    fn make(&self, path: &Path) -> Vec<u64> {
        let mut inodes = vec![0; self.0.len()];
        let mut left = vec![(0, path.to_owned())];
        while let Some((number, path)) = left.pop() {
            match &self.0[number] {
                Node::Directory(entries) => {
                    fs::create_dir(&path).unwrap();
                    left.extend(entries.iter().map(|(name, node)| (*node, path.join(name))));
                }
                Node::File => fs::write(&path, "").unwrap(),
                Node::Link(target) => symlink(target, &path).unwrap(),
            }
            inodes[number] = fs::symlink_metadata(&path).unwrap().ino();
        }
        inodes
    }

    /// Looks up `path` as path_resolution(7) has it, for a process whose root is node 0.
    fn find(&self, path: &str, links: Links) -> nix::Result<usize> {
        let mut here = vec![0];
        let mut rest: Vec<String> = Self::parts(path);
        let mut followed = 0;
        while let Some(part) = rest.pop() {
            let at = *here.last().unwrap();
            let Node::Directory(entries) = &self.0[at] else {
                return Err(Errno::ENOTDIR);
            };
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    here.truncate((here.len() - 1).max(1));
                    continue;
                }
                name => here.push(*entries.get(name).ok_or(Errno::ENOENT)?),
            }
            if let Node::Link(target) = &self.0[*here.last().unwrap()] {
                followed += 1;
                if links == Links::Refuse || followed > 40 {
                    return Err(Errno::ELOOP);
                }
                here.pop();
                if target.starts_with('/') {
                    here.truncate(1);
                }
                rest.extend(Self::parts(target));
            }
        }
        Ok(*here.last().unwrap())
    }

    /// The first one last; an empty last one, after a slash, wants a directory like `.`.
    fn parts(path: &str) -> Vec<String> {
        path.split('/').rev().map(str::to_owned).collect()
    }
}

fn open(path: &Path) -> Root {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    Root::new(nix::fcntl::open(path, flags, Mode::empty()).unwrap())
}

fn inode(found: nix::Result<OwnedFd>) -> nix::Result<u64> {
    found.map(|fd| fs::File::from(fd).metadata().unwrap().ino())
}

/// In memory where there is such a place.
fn workshop() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    tempfile::tempdir_in(shm).unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn cases() -> usize {
    let given = std::env::var("OCIRUN_MODEL_CASES").ok();
    given.and_then(|cases| cases.parse().ok()).unwrap_or(30_000)
}

#[test]
fn kernel_walker_and_model_agree() {
    let dir = workshop();
    fs::write(dir.path().join("secret"), "outside").unwrap();
    let mut random = Random(0x00c0_ffee);
    for tree in 0..cases().div_ceil(PATHS) {
        let at: PathBuf = dir.path().join("root");
        let model = Model::random(&mut random);
        let inodes = model.make(&at);
        let root = open(&at);
        for _ in 0..PATHS {
            let path = random.path();
            let c_path = CString::new(path.as_str()).unwrap();
            for links in [Links::Follow, Links::Refuse] {
                let expected = model.find(&path, links).map(|node| inodes[node]);
                let kernel = inode(root.find(&c_path, links));
                let walker = inode(walk(root.as_fd(), &c_path, links, None));
                let told = format!("{path:?} {links:?} in tree {tree}: {model:?}");
                assert_eq!(kernel, expected, "kernel: {told}");
                assert_eq!(walker, expected, "walker: {told}");
            }
        }
        fs::remove_dir_all(&at).unwrap();
    }
}

#[test]
fn nothing_is_made_outside() {
    let dir = workshop();
    fs::write(dir.path().join("secret"), "outside").unwrap();
    let mut random = Random(0xdead_beef);
    for tree in 0..cases().div_ceil(PATHS) {
        let at: PathBuf = dir.path().join("root");
        let model = Model::random(&mut random);
        let inodes = model.make(&at);
        let root = open(&at);
        for _ in 0..PATHS / 10 {
            let path = random.path();
            let c_path = CString::new(path.as_str()).unwrap();
            let leaf = [Leaf::Directory, Leaf::File][random.below(2)];
            let was_there = model.find(&path, Links::Follow);
            let made = inode(root.find_or_make(&c_path, Links::Follow, leaf));
            let told = format!("{path:?} {leaf:?} in tree {tree}: {model:?}");
            // What the tree had it still has, and finds.
            if let Ok(node) = was_there {
                assert_eq!(made, Ok(inodes[node]), "{told}");
            }
            if let Ok(made) = made {
                assert_eq!(inode(root.find(&c_path, Links::Follow)), Ok(made), "{told}");
            }
        }
        let mut beside: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        beside.sort();
        assert_eq!(beside, ["root", "secret"], "tree {tree}");
        fs::remove_dir_all(&at).unwrap();
    }
    assert_eq!(
        fs::read_to_string(dir.path().join("secret")).unwrap(),
        "outside"
    );
}
