//! The content of a file: written as it arrives, hashed on the way, holes left as holes.

use super::room::Room;
use crate::error::{Context, Result};
use crate::tar::Reader;
use rustix::fs::ftruncate;
use std::io::BufRead;
use std::os::fd::OwnedFd;

pub(super) fn write_plain<R: BufRead>(
    file: &OwnedFd,
    reader: &mut Reader<R>,
    room: &mut Room,
) -> Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    reader.body(|piece| {
        hasher.update(piece);
        room.take(file, piece.len() as u64)?;
        write_all(file, piece)
    })?;
    Ok(*hasher.finalize().as_bytes())
}

fn write_all(file: &OwnedFd, mut data: &[u8]) -> Result<()> {
    while !data.is_empty() {
        let written = rustix::io::write(file, data).call(|| "write")?;
        data = &data[written..];
    }
    Ok(())
}

pub(super) fn write_sparse<R: BufRead>(
    file: &OwnedFd,
    (size, extents): (u64, &[crate::tar::Extent]),
    reader: &mut Reader<R>,
    room: &mut Room,
) -> Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    ftruncate(file, size).call(|| format!("ftruncate({size})"))?;
    let mut at = 0;
    for extent in extents {
        zeros(&mut hasher, extent.offset - at);
        rustix::fs::seek(file, rustix::fs::SeekFrom::Start(extent.offset)).call(|| "lseek")?;
        reader.piece(extent.length, |piece| {
            hasher.update(piece);
            room.take(file, piece.len() as u64)?;
            write_all(file, piece)
        })?;
        at = extent.offset + extent.length;
    }
    zeros(&mut hasher, size - at);
    Ok(*hasher.finalize().as_bytes())
}

fn zeros(hasher: &mut blake3::Hasher, mut count: u64) {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    while count > 0 {
        let piece = usize::try_from(count)
            .unwrap_or(usize::MAX)
            .min(ZEROS.len());
        hasher.update(&ZEROS[..piece]);
        count -= piece as u64;
    }
}
