//! Sparse files in the old GNU notation and in PAX versions 0.0, 0.1 and 1.0.

use super::fields::unsigned;
use super::pax::{Records, Version, decimal};
use super::{BLOCK, Entry, Extent, Reader};
use crate::error::{Result, invalid, limit};
use crate::limits;
use std::io::BufRead;

/// Reads the map in the header and in the extension blocks that follow it.
pub(super) fn old_gnu<R: BufRead>(
    reader: &mut Reader<R>,
    header: &tar::Header,
    entry: &mut Entry,
) -> Result<()> {
    let gnu = header
        .as_gnu()
        .ok_or_else(|| invalid("sparse entry without a GNU header"))?;
    let mut pairs = Vec::new();
    for part in &gnu.sparse {
        push(&mut pairs, &part.offset, &part.numbytes)?;
    }
    let mut more = gnu.isextended[0] != 0;
    while more {
        let block = reader
            .block()?
            .ok_or_else(|| invalid("archive ends inside a sparse map"))?;
        for part in block[..504].chunks(24) {
            push(&mut pairs, &part[..12], &part[12..])?;
        }
        more = block[504] != 0;
        if pairs.len() > limits::SPARSE_EXTENTS {
            return Err(limit("sparse file has too many pieces"));
        }
    }
    let size = unsigned(&gnu.realsize, "real size")?;
    finish(entry, size, &pairs, reader.body)
}

fn push(pairs: &mut Vec<(u64, u64)>, offset: &[u8], length: &[u8]) -> Result<()> {
    if offset[0] != 0 && length[0] != 0 {
        pairs.push((
            unsigned(offset, "sparse offset")?,
            unsigned(length, "sparse length")?,
        ));
    }
    Ok(())
}

/// Takes the map from the PAX records, or from the head of the body.
pub(super) fn pax<R: BufRead>(
    reader: &mut Reader<R>,
    version: Version,
    records: &Records,
    entry: &mut Entry,
) -> Result<()> {
    if let Some(name) = records.get("GNU.sparse.name") {
        entry.path = name.to_vec();
    }
    let size = records
        .get("GNU.sparse.realsize")
        .or_else(|| records.get("GNU.sparse.size"));
    let size = decimal(size.ok_or_else(|| invalid("sparse file has no size"))?)?;
    let pairs = match version {
        Version::Pairs => records.extents.clone(),
        Version::Map => map(records.get("GNU.sparse.map").unwrap_or_default())?,
        Version::InBody => in_body(reader)?,
    };
    finish(entry, size, &pairs, reader.body)
}

fn map(text: &[u8]) -> Result<Vec<(u64, u64)>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let numbers = text
        .split(|b| *b == b',')
        .map(decimal)
        .collect::<Result<Vec<_>>>()?;
    if numbers.len() % 2 != 0 {
        return Err(invalid("sparse map has an odd count of numbers"));
    }
    Ok(numbers.chunks(2).map(|pair| (pair[0], pair[1])).collect())
}

/// Decimal lines at the head of the body, padded to a block: a count, then offset and length of each piece.
fn in_body<R: BufRead>(reader: &mut Reader<R>) -> Result<Vec<(u64, u64)>> {
    let mut lines = Lines {
        reader,
        block: Vec::new(),
        at: 0,
    };
    let count = usize::try_from(lines.number()?).unwrap_or(usize::MAX);
    if count > limits::SPARSE_EXTENTS {
        return Err(limit("sparse file has too many pieces"));
    }
    (0..count)
        .map(|_| Ok((lines.number()?, lines.number()?)))
        .collect()
}

struct Lines<'a, R> {
    reader: &'a mut Reader<R>,
    block: Vec<u8>,
    at: usize,
}

impl<R: BufRead> Lines<'_, R> {
    fn number(&mut self) -> Result<u64> {
        let mut digits = Vec::new();
        loop {
            if self.at == self.block.len() {
                let block = &mut self.block;
                block.clear();
                self.at = 0;
                self.reader.piece(BLOCK as u64, |piece| {
                    block.extend_from_slice(piece);
                    Ok(())
                })?;
            }
            let byte = self.block[self.at];
            self.at += 1;
            match byte {
                b'\n' => return decimal(&digits),
                _ if digits.len() < 20 => digits.push(byte),
                _ => return Err(invalid("sparse map has an endless number")),
            }
        }
    }
}

/// Pieces must be in order, apart, inside the file, and exactly as long as the body.
fn finish(entry: &mut Entry, size: u64, pairs: &[(u64, u64)], body: u64) -> Result<()> {
    if pairs.len() > limits::SPARSE_EXTENTS {
        return Err(limit("sparse file has too many pieces"));
    }
    let mut end = 0;
    let mut total: u64 = 0;
    let mut extents = Vec::with_capacity(pairs.len());
    for &(offset, length) in pairs {
        let next = offset
            .checked_add(length)
            .filter(|next| offset >= end && *next <= size);
        end = next.ok_or_else(|| invalid("sparse map is out of order or outside the file"))?;
        total += length;
        if length > 0 {
            extents.push(Extent { offset, length });
        }
    }
    if total != body {
        return Err(invalid("sparse map and body differ in size"));
    }
    entry.size = size;
    entry.sparse = Some(extents);
    Ok(())
}
