//! Serves the disk of `ocirun_tests::disk`: a FUSE file system with one file, `disk`. Standard input is the kernel's end
//! of it; the arguments are the size of the disk, the file to record into, and the file that names what is refused.
//!
//! A process of its own, outside the mount namespace in which the disk is mounted: one that dies with the last reference
//! to these mounts would have to serve its own unmounting.
//!
//! The protocol is that of <linux/fuse.h>, version 7.31, as far as one file of fixed size needs it; see fuse(4).
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a broken test bed ends the test, with the facts"
)]

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use ocirun_tests::disk::FLUSH;

/// Largest write the kernel may send.
const LARGEST: u32 = 1 << 20;
const ROOT: u64 = 1;
const FILE: u64 = 2;

struct Served {
    content: Vec<u8>,
    log: File,
    /// As long as it exists, writes of blocks that begin with its content fail with EIO.
    refused: PathBuf,
}

fn main() {
    let arguments = std::env::args().collect::<Vec<_>>();
    let [_, size, log, refused] = &arguments[..] else {
        panic!("usage: ocirun-disk SIZE LOG REFUSED < /dev/fuse");
    };
    let device = std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned();
    let served = Served {
        content: vec![0; size.parse().unwrap()],
        log: File::create(log).unwrap(),
        refused: refused.into(),
    };
    serve(device.unwrap().into(), served);
}

/// Answers the kernel until the file system is gone.
fn serve(mut device: File, mut served: Served) {
    let mut buffer = vec![0; LARGEST as usize + 4096];
    let parent = nix::unistd::getppid();
    loop {
        let length = match device.read(&mut buffer) {
            Ok(length) => length,
            Err(error) => match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
                // Not mounted yet.
                Errno::EPERM if nix::unistd::getppid() == parent => {
                    std::thread::sleep(Duration::from_millis(2));
                    continue;
                }
                Errno::EINTR | Errno::EAGAIN | Errno::ENOENT => continue,
                _ => return,
            },
        };
        let request = Request(&buffer[..length]);
        if let Some(answer) = answer(&request, &mut served) {
            let (error, body) = match answer {
                Ok(body) => (0, body),
                Err(errno) => (-(errno as i32), Vec::new()),
            };
            let mut reply = Vec::with_capacity(16 + body.len());
            let length = u32::try_from(16 + body.len()).unwrap();
            reply.extend_from_slice(&length.to_ne_bytes());
            reply.extend_from_slice(&error.to_ne_bytes());
            reply.extend_from_slice(&request.long(8).to_ne_bytes());
            reply.extend_from_slice(&body);
            // An interrupted request is not waited for any more.
            drop(device.write_all(&reply));
        }
    }
}

/// One request: a header of 40 bytes (length, operation, number, node, …) and a body.
struct Request<'a>(&'a [u8]);

impl Request<'_> {
    fn word(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    fn long(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    /// Offset and length, which stand at the same place of every body that has them.
    fn range(&self) -> (usize, usize) {
        let offset = usize::try_from(self.long(48)).unwrap();
        (offset, self.word(56) as usize)
    }
}

type Answer = Result<Vec<u8>, Errno>;

fn answer(request: &Request<'_>, served: &mut Served) -> Option<Answer> {
    let node = request.long(16);
    let size = served.content.len();
    Some(match request.word(4) {
        // FORGET, INTERRUPT, BATCH_FORGET: nobody waits.
        2 | 36 | 42 => return None,
        1 if node == ROOT && &request.0[40..] == b"disk\0" => {
            Ok(words(&[FILE, 0, 3600, 3600, 0], &attributes(FILE, size)))
        }
        1 => Err(Errno::ENOENT),
        // GETATTR, SETATTR
        3 | 4 => Ok(words(&[3600, 0], &attributes(node, size))),
        // OPEN, OPENDIR
        14 | 27 => Ok(words(&[0, 0], &[])),
        15 => {
            let (offset, length) = request.range();
            Ok(served.content[offset.min(size)..(offset + length).min(size)].to_vec())
        }
        16 => {
            let (offset, length) = request.range();
            write(served, offset, &request.0[80..80 + length])
        }
        17 => Ok(vec![0; 80]),
        // FALLOCATE: holes and zeroed ranges alike are zeros.
        43 => {
            let (offset, _) = request.range();
            let length = usize::try_from(request.long(56)).unwrap();
            write(served, offset, &vec![0; length]).map(|_| Vec::new())
        }
        // FSYNC
        20 => {
            served.record(FLUSH, &[]);
            Ok(Vec::new())
        }
        // RELEASE, FLUSH, RELEASEDIR, DESTROY
        18 | 25 | 29 | 38 => Ok(Vec::new()),
        // INIT: version, read-ahead, FUSE_BIG_WRITES and FUSE_MAX_PAGES, background, largest write, granularity, pages.
        26 => {
            let mut body = Vec::new();
            for word in [
                7_u32,
                31,
                1 << 20,
                1 << 5 | 1 << 22,
                0x000c_0010,
                LARGEST,
                1,
                256,
            ] {
                body.extend_from_slice(&word.to_ne_bytes());
            }
            body.resize(64, 0);
            Ok(body)
        }
        _ => Err(Errno::ENOSYS),
    })
}

fn write(served: &mut Served, offset: usize, data: &[u8]) -> Answer {
    if let Ok(mark) = std::fs::read(&served.refused)
        && data.chunks(4096).any(|block| block.starts_with(&mark))
    {
        return Err(Errno::EIO);
    }
    served.content[offset..offset + data.len()].copy_from_slice(data);
    served.record(offset as u64, data);
    Ok(words(&[data.len() as u64], &[]))
}

impl Served {
    /// Before the answer, so that what was answered is in the log.
    fn record(&mut self, offset: u64, data: &[u8]) {
        let mut record = words(&[offset, data.len() as u64], &[]);
        record.extend_from_slice(data);
        self.log.write_all(&record).unwrap();
    }
}

fn words(first: &[u64], rest: &[u8]) -> Vec<u8> {
    let mut body: Vec<u8> = first.iter().flat_map(|word| word.to_ne_bytes()).collect();
    body.extend_from_slice(rest);
    body
}

/// `struct fuse_attr`.
fn attributes(node: u64, size: usize) -> Vec<u8> {
    let (mode, size) = match node {
        FILE => (0o100_600_u32, size as u64),
        _ => (0o40_700, 0),
    };
    let mut body = words(&[node, size, size / 512, 0, 0, 0], &[]);
    for word in [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0] {
        body.extend_from_slice(&word.to_ne_bytes());
    }
    body
}
