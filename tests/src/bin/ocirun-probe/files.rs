//! Steps about paths: what can be read, written, made and opened.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};

use crate::{Outcome, Refusal, report};

/// A device or a large file is read up to here.
const READ_LIMIT: usize = 64 * 1024;

/// Steps that name a path.
pub fn step(words: &[&str]) -> Outcome {
    match *words {
        ["read", path] => read(path),
        ["write", path, text] => write(
            OpenOptions::new().write(true).create(true).truncate(true),
            path,
            text,
        ),
        ["overwrite", path, text] => write(OpenOptions::new().write(true), path, text),
        ["append", path, text] => write(OpenOptions::new().append(true), path, text),
        ["stdin-to", path] => done(fs::write(path, std::io::read_to_string(std::io::stdin())?)),
        ["report-to", path] => done(fs::write(path, report::all().to_string())),
        ["stat-to", path, of] => done(fs::write(path, stat(of)?.to_string())),
        ["open", path] => File::open(path)
            .map(|_| Value::from("ok"))
            .map_err(Refusal::from),
        ["open-rdwr", path] => open_rdwr(path),
        ["stat", path] => stat(path),
        ["list", path] => list(path),
        ["attribute", path, name] => attribute(path, name),
        ["mkdir", path] => done(fs::create_dir(path)),
        ["lock", path] => lock(path),
        ["unlink", path] => done(fs::remove_file(path)),
        ["symlink", target, path] => done(symlink(target, path)),
        ["chown", path, uid, gid] => done(std::os::unix::fs::chown(
            path,
            Some(uid.parse()?),
            Some(gid.parse()?),
        )),
        ["mknod", path, kind, major, minor] => {
            make_node(path, kind, major.parse()?, minor.parse()?)
        }
        ["remount-rw", path] => remount_rw(path),
        ["exec", path] => exec(path),
        ["wait-for", path] => wait_for(path),
        _ => Err(Refusal::Usage("no such step".to_owned())),
    }
}

fn done(result: std::io::Result<()>) -> Outcome {
    result.map(|()| Value::from("ok")).map_err(Refusal::from)
}

fn read(path: &str) -> Outcome {
    use std::io::Read;
    let mut bytes = Vec::new();
    File::open(path)?
        .take(READ_LIMIT as u64)
        .read_to_end(&mut bytes)?;
    Ok(Value::from(String::from_utf8_lossy(&bytes)))
}

fn write(options: &OpenOptions, path: &str, text: &str) -> Outcome {
    done(options.open(path)?.write_all(text.as_bytes()))
}

fn open_rdwr(path: &str) -> Outcome {
    let flags = rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(|error| Refusal::Usage(error.to_string()))?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(path)?;
    Ok(Value::from("ok"))
}

fn stat(path: &str) -> Outcome {
    let meta = fs::symlink_metadata(path)?;
    let kind = match meta.mode() & SFlag::S_IFMT.bits() {
        bits if bits == SFlag::S_IFREG.bits() => "file",
        bits if bits == SFlag::S_IFDIR.bits() => "directory",
        bits if bits == SFlag::S_IFLNK.bits() => "link",
        bits if bits == SFlag::S_IFCHR.bits() => "character",
        bits if bits == SFlag::S_IFBLK.bits() => "block",
        bits if bits == SFlag::S_IFIFO.bits() => "fifo",
        _ => "socket",
    };
    let target = fs::read_link(path)
        .ok()
        .map(|target| target.to_string_lossy().into_owned());
    Ok(json!({
        "type": kind, "mode": format!("{:04o}", meta.mode() & 0o7777), "uid": meta.uid(), "gid": meta.gid(),
        "size": meta.size(), "links": meta.nlink(), "dev": meta.dev(), "ino": meta.ino(), "target": target,
        "major": rustix::fs::major(meta.rdev()), "minor": rustix::fs::minor(meta.rdev()),
    }))
}

fn list(path: &str) -> Outcome {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(Value::from(names))
}

/// The bytes of an extended attribute.
fn attribute(path: &str, name: &str) -> Outcome {
    let mut value = [0; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut value)?;
    Ok(Value::from(&value[..length]))
}

fn make_node(path: &str, kind: &str, major: u64, minor: u64) -> Outcome {
    let kind = match kind {
        "c" => SFlag::S_IFCHR,
        "b" => SFlag::S_IFBLK,
        _ => return Err(Refusal::Usage(format!("device type {kind}"))),
    };
    mknod(
        path,
        kind,
        Mode::from_bits_truncate(0o666),
        makedev(major, minor),
    )?;
    Ok(Value::from("ok"))
}

/// What an escape from a read-only bind mount would try first.
fn remount_rw(path: &str) -> Outcome {
    mount(
        None::<&str>,
        path,
        None::<&str>,
        MsFlags::MS_REMOUNT | MsFlags::MS_BIND,
        None::<&str>,
    )?;
    Ok(Value::from("ok"))
}

/// Runs a file with no argument, waits, and gives its exit status.
fn exec(path: &str) -> Outcome {
    let status = std::process::Command::new(OsStr::from_bytes(path.as_bytes())).status()?;
    Ok(json!({"code": status.code()}))
}

/// Waits until a path exists: how a test on the host lets a container go on.
fn wait_for(path: &str) -> Outcome {
    while fs::symlink_metadata(path).is_err() {
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(Value::from("ok"))
}

/// Holds a lock of flock(2) on a file that is made if it is not there, to the end.
fn lock(path: &str) -> Outcome {
    let file = File::create(path)?;
    file.lock()?;
    std::mem::forget(file);
    Ok(Value::Null)
}
