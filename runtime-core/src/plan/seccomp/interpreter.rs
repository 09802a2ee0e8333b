//! Runs filters as the kernel does, see `kernel/seccomp.c` and `net/core/filter.c`, and refuses what it refuses.
#![allow(
    clippy::unwrap_used,
    reason = "for tests and fuzzing, where a panic is a finding"
)]

use super::LONGEST;
use crate::kernel::process::Instruction;

/// `struct seccomp_data`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) architecture: u32,
    pub(super) number: u32,
    pub(super) arguments: [u64; 6],
    pub(super) is_big_endian: bool,
}

impl Call {
    pub(super) fn new(architecture: u32, number: u32, arguments: [u64; 6]) -> Self {
        Self {
            architecture,
            number,
            arguments,
            is_big_endian: false,
        }
    }

    fn word(&self, offset: u32) -> u32 {
        let is_upper = (offset % 8 == 4) != self.is_big_endian;
        match offset {
            0 => self.number,
            4 => self.architecture,
            8 | 12 => 0,
            16..64 if offset.is_multiple_of(4) => {
                let argument = self.arguments[usize::try_from((offset - 16) / 8).unwrap()];
                let shift = if is_upper { 32 } else { 0 };
                u32::try_from((argument >> shift) & 0xffff_ffff).unwrap()
            }
            _ => panic!("no word at {offset}"),
        }
    }
}

/// What `program` says about `call`.
pub(super) fn run(program: &[Instruction], call: &Call) -> u32 {
    assert!((1..=LONGEST).contains(&program.len()));
    let mut word = 0;
    let mut at = 0;
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        let skip = |taken: bool| usize::from(if taken { jt } else { jf });
        at += 1;
        match code {
            0x20 => word = call.word(k),
            0x54 => word &= k,
            0x05 => at += usize::try_from(k).unwrap(),
            0x15 => at += skip(word == k),
            0x25 => at += skip(word > k),
            0x35 => at += skip(word >= k),
            0x45 => at += skip(word & k != 0),
            0x06 => return k,
            _ => panic!("no instruction {code:#x}"),
        }
    }
}
