//! A layer's archive of changes.

use super::{Change, Kind, file, link_target, open, stat};
use crate::error::{At, Context, Result, invalid};
use crate::layout::measure::path_xattrs;
use rustix::fs::{FileType, Mode, OFlags, openat};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Writes the layer that makes these changes, with content and metadata from `new`. Times later than `latest` (seconds
/// since the epoch) become `latest`, so that the same content makes the same layer.
pub fn write_layer<W: Write>(
    new: BorrowedFd<'_>,
    changes: &[Change],
    latest: Option<i64>,
    output: W,
) -> Result<W> {
    let mut builder = tar::Builder::new(output);
    let mut writer = Writer {
        latest,
        links: HashMap::new(),
    };
    for change in changes {
        let (holder, name) = match change.path.iter().rposition(|b| *b == b'/') {
            Some(at) => (&change.path[..at], &change.path[at + 1..]),
            None => (&b""[..], &change.path[..]),
        };
        if name.starts_with(b".wh.") {
            return Err(invalid(format!(
                "{:?} cannot be in a layer",
                String::from_utf8_lossy(&change.path)
            )));
        }
        let place = || String::from_utf8_lossy(&change.path).into_owned();
        if change.kind == Kind::Deleted {
            let slash = if holder.is_empty() { &b""[..] } else { b"/" };
            let mark = [holder, slash, b".wh.", name].concat();
            let mut header = Header::plain(&mark);
            header.set_time(0.max(latest.unwrap_or(0)), 0);
            append(&mut builder, header, &[][..]).at(place)?;
            continue;
        }
        let dir =
            open(new, holder)?.ok_or_else(|| invalid("directory vanished while it was read"))?;
        writer
            .entry(&mut builder, &dir, name, &change.path)
            .at(place)?;
    }
    builder.into_inner().call(|| "write layer")
}

/// A header with what may not fit into it.
struct Header {
    header: tar::Header,
    path: Vec<u8>,
    pax: Vec<(String, Vec<u8>)>,
}

impl Header {
    fn plain(path: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        Self {
            header,
            path: path.to_vec(),
            pax: Vec::new(),
        }
    }

    fn set_time(&mut self, seconds: i64, nanos: u32) {
        self.header.set_mtime(u64::try_from(seconds).unwrap_or(0));
        if nanos != 0 || seconds < 0 {
            // Nanoseconds count upwards also before the epoch, decimals do not.
            let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
            let sign = if total < 0 { "-" } else { "" };
            let total = total.unsigned_abs();
            let text = format!(
                "{sign}{}.{:09}",
                total / 1_000_000_000,
                total % 1_000_000_000
            );
            self.pax.push(("mtime".to_owned(), text.into_bytes()));
        }
    }
}

/// What entries have to know of each other.
struct Writer {
    latest: Option<i64>,
    /// The first path of each inode with several names.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl Writer {
    fn entry<W: Write>(
        &mut self,
        builder: &mut tar::Builder<W>,
        dir: &OwnedFd,
        name: &[u8],
        path: &[u8],
    ) -> Result<()> {
        let stat = stat(dir, name)?.ok_or_else(|| invalid("file vanished while it was read"))?;
        let mut header = Header::plain(path);
        header.header.set_mode(stat.st_mode & 0o7777);
        header.header.set_uid(stat.st_uid.into());
        header.header.set_gid(stat.st_gid.into());
        let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        match self.latest.filter(|latest| stat.st_mtime >= *latest) {
            Some(latest) => header.set_time(latest, 0),
            None => header.set_time(stat.st_mtime, nanos),
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                header.header.set_entry_type(tar::EntryType::Link);
                header.pax.push(("linkpath".to_owned(), first.clone()));
                return append(builder, header, &[][..]);
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        let node = openat(
            dir,
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .call(|| "openat")?;
        let kept = match kind {
            FileType::Symlink => Vec::new(),
            _ => path_xattrs(&format!("/proc/self/fd/{}", node.as_raw_fd()))?,
        };
        for (key, value) in kept {
            header.pax.push((
                format!("SCHILY.xattr.{}", String::from_utf8_lossy(&key)),
                value,
            ));
        }
        let mut content = None;
        let entry_type = match kind {
            FileType::Directory => tar::EntryType::Directory,
            FileType::Symlink => {
                header
                    .pax
                    .push(("linkpath".to_owned(), link_target(dir, name)?));
                tar::EntryType::Symlink
            }
            FileType::Fifo => tar::EntryType::Fifo,
            FileType::CharacterDevice | FileType::BlockDevice => {
                let numbers = (
                    rustix::fs::major(stat.st_rdev),
                    rustix::fs::minor(stat.st_rdev),
                );
                header
                    .header
                    .set_device_major(numbers.0)
                    .and_then(|()| header.header.set_device_minor(numbers.1))
                    .call(|| "device")?;
                if kind == FileType::BlockDevice {
                    tar::EntryType::Block
                } else {
                    tar::EntryType::Char
                }
            }
            _ => {
                header
                    .header
                    .set_size(u64::try_from(stat.st_size).unwrap_or(0));
                content = Some(file(dir, name)?);
                tar::EntryType::Regular
            }
        };
        header.header.set_entry_type(entry_type);
        match content {
            // Exactly the size in the header, also if the file grows meanwhile.
            Some(file) => append(
                builder,
                header,
                file.take(u64::try_from(stat.st_size).unwrap_or(0)),
            ),
            None => append(builder, header, &[][..]),
        }
    }
}

fn append<W: Write>(
    builder: &mut tar::Builder<W>,
    mut header: Header,
    data: impl Read,
) -> Result<()> {
    if header.header.entry_type() == tar::EntryType::Directory {
        header.path.push(b'/');
    }
    let short = std::path::Path::new(std::ffi::OsStr::from_bytes(&header.path));
    if header.header.set_path(short).is_err() || !header.path.is_ascii() {
        header.pax.push(("path".to_owned(), header.path.clone()));
        header.header.set_path("long-name").call(|| "tar header")?;
    }
    if !header.pax.is_empty() {
        let records = header
            .pax
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_slice()));
        builder
            .append_pax_extensions(records)
            .call(|| "write layer")?;
    }
    header.header.set_cksum();
    builder.append(&header.header, data).call(|| "write layer")
}
