//! Writes filters: classic BPF, from the end to the beginning, so that every jump knows where it goes.
//!
//! Jumps of classic BPF go forward, conditional ones by 255 instructions at most; what is further off is reached
//! through an unconditional one. See `Documentation/networking/filter.rst` of the kernel.

use crate::kernel::process::Instruction;

/// Loads a word of `struct seccomp_data` (`BPF_LD | BPF_W | BPF_ABS`).
pub(super) const LOAD: u16 = 0x20;
/// Masks the word (`BPF_ALU | BPF_AND | BPF_K`).
pub(super) const AND: u16 = 0x54;
/// Jumps always (`BPF_JMP | BPF_JA`).
pub(super) const JUMP: u16 = 0x05;
/// Ends with a verdict (`BPF_RET | BPF_K`).
pub(super) const RETURN: u16 = 0x06;

/// Comparisons of the word with a constant, unsigned (`BPF_JMP | … | BPF_K`).
#[derive(Clone, Copy)]
pub(super) enum Compare {
    Equal = 0x15,
    Greater = 0x25,
    GreaterOrEqual = 0x35,
}

/// Offsets in `struct seccomp_data`, see seccomp(2).
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCHITECTURE: u32 = 4;
pub(super) const ARGUMENTS: u32 = 16;

/// An instruction that is already written: its distance from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// A program in the making.
#[derive(Default)]
pub(super) struct Writer {
    /// Last first.
    reversed: Vec<Instruction>,
    /// Where a verdict was last written.
    verdicts: Vec<(u32, Label)>,
}

impl Writer {
    /// Ends with `verdict`. One that is near is used again.
    pub(super) fn verdict(&mut self, verdict: u32) -> Label {
        let known = self.verdicts.iter_mut().find(|(of, _)| *of == verdict);
        if let Some((_, label)) = &known
            && self.reversed.len() - label.0 <= 0xff
        {
            return *label;
        }
        let next = Label(self.reversed.len());
        match known {
            Some((_, label)) => *label = next,
            None => self.verdicts.push((verdict, next)),
        }
        self.push(RETURN, verdict)
    }

    /// Does `code` with `k` and goes on with `then`.
    pub(super) fn step(&mut self, code: u16, k: u32, then: Label) -> Label {
        if then.0 + 1 != self.reversed.len() {
            self.jump(then);
        }
        self.push(code, k)
    }

    /// Goes on with `yes` or `no`.
    pub(super) fn branch(&mut self, compare: Compare, k: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        let (yes, no) = (self.near(yes), self.near(no));
        let from = self.reversed.len() - 1;
        // Both are at most 255 off: see `near`.
        let offset = |to: Label| u8::try_from(from - to.0).unwrap_or(u8::MAX);
        let (jt, jf) = (offset(yes), offset(no));
        let label = Label(self.reversed.len());
        self.reversed.push(Instruction {
            code: compare as u16,
            jt,
            jf,
            k,
        });
        label
    }

    /// The program that begins at `start`, the instruction written last.
    pub(super) fn finish(mut self, start: Label) -> Vec<Instruction> {
        if start.0 + 1 != self.reversed.len() {
            self.jump(start);
        }
        self.reversed.reverse();
        self.reversed
    }

    /// `to`, or a jump there: something that a branch can reach even when one more instruction comes between.
    fn near(&mut self, to: Label) -> Label {
        if self.reversed.len() - to.0 <= 0xff {
            to
        } else {
            self.jump(to)
        }
    }

    fn jump(&mut self, to: Label) -> Label {
        let distance = self.reversed.len() - 1 - to.0;
        // A program of more than 2^32 instructions is refused long before.
        self.push(JUMP, u32::try_from(distance).unwrap_or(u32::MAX))
    }

    fn push(&mut self, code: u16, k: u32) -> Label {
        let label = Label(self.reversed.len());
        self.reversed.push(Instruction {
            code,
            jt: 0,
            jf: 0,
            k,
        });
        label
    }
}
