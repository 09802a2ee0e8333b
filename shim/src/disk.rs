//! Small files, written so that who reads them finds them whole, and the clock.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::{Call, Failure, Result};

/// Most bytes of a file of ours that are read.
const LONGEST: u64 = 1 << 20;

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(i64::MAX)
}

/// Writes `value` as JSON to a new file that takes the place of `path`.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_vec(value)
        .map_err(|error| Failure::os(format!("{path:?}: {error}"), Errno::EINVAL))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}"));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options
        .open(&new)
        .and_then(|mut file| file.write_all(&json))
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        drop(fs::remove_file(&new));
    }
    written.call(|| format!("write({path:?})"))
}

/// Reads what [`write_json`] wrote; none where there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::metadata(path) {
        Ok(found) if found.len() > LONGEST => Err(Errno::EFBIG.into()),
        Ok(_) => fs::read(path),
        Err(error) => Err(error),
    };
    let bytes = match bytes {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.call(|| format!("read({path:?})"))?,
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| Failure::os(format!("read({path:?}): {error}"), Errno::EBADMSG))
}

/// Makes a directory that may be there already.
pub(crate) fn make_directory(path: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made.call(|| format!("mkdir({path:?}, 0700)")),
    }
}

/// Makes a FIFO in the place of what is at `path`.
pub(crate) fn make_fifo(path: &Path) -> Result<()> {
    remove(path)?;
    mkfifo(path, Mode::from_bits_truncate(0o600)).call(|| format!("mkfifo({path:?}, 0600)"))
}

/// Removes a file that need not be there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.call(|| format!("unlink({path:?})")),
    }
}

/// Removes a directory that is empty, or is not there.
pub(crate) fn remove_directory(path: &Path) -> Result<()> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.call(|| format!("rmdir({path:?})")),
    }
}
