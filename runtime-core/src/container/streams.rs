//! The standard streams of a container that is written and restored: what of them is not the container's own gets what
//! the restoring process has in its place.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::readlink;
use nix::sys::stat::{SFlag, major, stat};

use crate::criu::options::{field, inherit};
use crate::criu::wire::Message;
use crate::error::{Call, Error, Result};

/// Their names as `/proc/PID/fd` has them, where runc looks for pipes.
const DESCRIPTORS: &str = "descriptors.json";
/// How CRIU names those that are files of the host; `null` for others.
const FILES: &str = "ocirun-files.json";
/// Longest list.
const LONGEST: u64 = 64 << 10;
/// Major number of `/dev/null` and the like.
const MEMORY_DEVICES: u64 = 1;

/// Writes down what the streams of `pid` are, and has CRIU leave out those that are files of the host.
pub(super) fn write(images: &Path, pid: i32, opts: &mut Message) -> Result<()> {
    let mounts = format!("/proc/{pid}/mountinfo");
    let mounts = std::fs::read_to_string(&mounts).call(|| format!("read({mounts:?})"))?;
    let mut names = Vec::new();
    let mut files = Vec::new();
    for fd in 0..3 {
        let path = format!("/proc/{pid}/fd/{fd}");
        let name = match readlink(path.as_str()) {
            // A closed one is nothing to anybody.
            Err(Errno::ENOENT) => None,
            name => Some(name.call(|| format!("readlink({path:?})"))?),
        };
        let key = match name {
            Some(_) => key(pid, fd, &mounts)?,
            None => None,
        };
        names.push(name.map_or_else(
            || "/dev/null".into(),
            |name| name.to_string_lossy().into_owned(),
        ));
        if let Some(key) = &key {
            opts.text(field::EXTERNAL, key);
        }
        files.push(key);
    }
    put(&images.join(DESCRIPTORS), &serde_json::to_vec(&names))?;
    put(&images.join(FILES), &serde_json::to_vec(&files))
}

/// CRIU's name of a stream that is a file on a mount that is not among the container's.
fn key(pid: i32, fd: u32, mounts: &str) -> Result<Option<String>> {
    let path = format!("/proc/{pid}/fd/{fd}");
    let found = stat(path.as_str()).call(|| format!("stat({path:?})"))?;
    let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
    let is_file =
        kind == SFlag::S_IFREG || kind == SFlag::S_IFCHR && major(found.st_rdev) == MEMORY_DEVICES;
    if !is_file {
        return Ok(None);
    }
    let path = format!("/proc/{pid}/fdinfo/{fd}");
    let info = std::fs::read_to_string(&path).call(|| format!("read({path:?})"))?;
    let Some(mount) = mount_id(&info) else {
        return Ok(None);
    };
    let own = format!("{mount} ");
    if mounts.lines().any(|line| line.starts_with(&own)) {
        return Ok(None);
    }
    Ok(Some(format!("file[{mount:x}:{:x}]", found.st_ino)))
}

fn mount_id(info: &str) -> Option<u64> {
    let line = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    line.trim().parse().ok()
}

fn put(path: &Path, json: &serde_json::Result<Vec<u8>>) -> Result<()> {
    let json = json
        .as_deref()
        .map_err(|error| Error::argument(format!("{path:?}: {error}")))?;
    let mut open = OpenOptions::new();
    open.write(true).create(true).truncate(true).mode(0o600);
    let mut file = open
        .open(path)
        .call(|| format!("open({path:?}, O_CREAT)"))?;
    file.write_all(json).call(|| format!("write({path:?})"))
}

/// What the streams were.
#[derive(Debug)]
pub(super) struct Streams {
    names: Vec<String>,
    files: Vec<Option<String>>,
}

impl Streams {
    /// Reads what was written; runc writes names alone.
    pub(super) fn read(images: &Path) -> Result<Self> {
        let names = images.join(DESCRIPTORS);
        let files = images.join(FILES);
        let streams = Self {
            names: parse(&names, &get(&names)?)?,
            files: match get(&files) {
                Err(error) if error.errno() == Some(Errno::ENOENT) => Vec::new(),
                json => parse(&files, &json?)?,
            },
        };
        if streams.names.len() > 3 || streams.files.len() > 3 {
            return Err(Error::argument(format!(
                "{names:?}: more than three streams"
            )));
        }
        Ok(streams)
    }

    /// Has CRIU put this process's streams in the place of those that were not the container's own.
    pub(super) fn inherit(&self, opts: &mut Message) {
        let pipes = self
            .names
            .iter()
            .map(|name| name.contains("pipe:").then_some(name));
        for (stream, key) in (0..).zip(pipes) {
            if let Some(key) = key {
                inherit(opts, key, stream);
            }
        }
        for (stream, key) in (0..).zip(&self.files) {
            if let Some(key) = key {
                inherit(opts, key, stream);
            }
        }
    }
}

fn get(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).call(|| format!("open({path:?})"))?;
    crate::bundle::read_limited(file, LONGEST)
}

fn parse<'a, T: serde::Deserialize<'a>>(path: &Path, json: &'a [u8]) -> Result<T> {
    serde_json::from_slice(json)
        .map_err(|error| Error::argument(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_descriptors() {
        assert_eq!(
            mount_id("pos:\t0\nflags:\t0100002\nmnt_id:\t27\nino:\t5\n"),
            Some(27)
        );
        assert_eq!(mount_id("pos:\t0\n"), None);
    }

    #[test]
    fn streams_survive_the_way() {
        let directory = tempfile::tempdir().unwrap();
        let images = directory.path();
        let own = nix::unistd::getpid().as_raw();
        assert_eq!(
            Streams::read(images).unwrap_err().errno(),
            Some(Errno::ENOENT)
        );
        write(images, own, &mut Message::default()).unwrap();
        let streams = Streams::read(images).unwrap();
        assert_eq!((streams.names.len(), streams.files.len()), (3, 3));
        std::fs::remove_file(images.join(FILES)).unwrap();
        std::fs::write(
            images.join(DESCRIPTORS),
            r#"["pipe:[7]", "/dev/null", "pipe:[8]"]"#,
        )
        .unwrap();
        let mut opts = Message::default();
        Streams::read(images).unwrap().inherit(&mut opts);
        let inherited = crate::criu::wire::fields(opts.bytes());
        assert!(inherited.map(|(field, _)| field).eq([27, 27]));
        std::fs::write(images.join(DESCRIPTORS), r#"["", "", "", ""]"#).unwrap();
        assert!(Streams::read(images).is_err());
    }

    #[test]
    fn a_file_of_another_mount_is_the_hosts() {
        // As seen by a process whose mounts are none of those that its file can be on.
        let own = nix::unistd::getpid().as_raw();
        let file = tempfile::tempfile().unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file).cast_unsigned();
        let found = key(own, fd, "1 1 0:1 / / rw - x x rw\n").unwrap().unwrap();
        assert!(
            found.starts_with("file[") && found.ends_with(']'),
            "{found}"
        );
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
        let own_mount = format!("{} 1 0:1 / / rw - x x rw\n", mount_id(&info).unwrap());
        assert_eq!(key(own, fd, &own_mount).unwrap(), None);
    }
}
