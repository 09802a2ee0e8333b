//! From verdicts by number to instructions: a tree of ranges for each architecture.

use super::architecture::{Abi, X32_SYSCALL_BIT};
use super::program::{AND, ARCHITECTURE, ARGUMENTS, Compare, LOAD, Label, NUMBER, Writer};
use super::rules::{Alternative, Condition, Verdict};
use crate::kernel::process::Instruction;
use crate::spec::seccomp::Operator;

/// What happens to calls of an architecture that the profile does not name.
const BAD_ARCHITECTURE: u32 = libc::SECCOMP_RET_KILL_THREAD;
/// Fails as if the kernel did not have the call.
pub(super) const NO_SUCH_CALL: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
/// A tracer makes this of a call that it wants skipped: it is of no architecture.
const SKIPPED_CALL: u32 = u32::MAX;
/// `AUDIT_ARCH_X86_64`, which x32 has too.
const X86_64_AUDIT: u32 = 0xc000_003e;

/// What is said about the system calls of one architecture.
pub(super) struct Filter {
    pub(super) abi: Abi,
    /// By number.
    pub(super) verdicts: Vec<(u32, Verdict)>,
    /// Calls with a larger number look as if the kernel did not have them.
    pub(super) newest: Option<u32>,
}

/// Numbers from `start` up to the next range.
struct Range<'a> {
    start: u32,
    verdict: Leaf<'a>,
}

#[derive(Clone, Copy)]
enum Leaf<'a> {
    Always(u32),
    First(&'a [Alternative], &'a Abi),
}

/// Writes the program of `filters`, of which those with one audit number stand together.
pub(super) fn write(filters: &[Filter], default: u32) -> Vec<Instruction> {
    let mut writer = Writer::default();
    let mut next = writer.verdict(BAD_ARCHITECTURE);
    let by_audit: Vec<u32> = filters.iter().map(|filter| filter.abi.audit).collect();
    for (index, audit) in by_audit.iter().enumerate().rev() {
        if by_audit[..index].contains(audit) {
            // x32, told from x86-64 by its numbers.
            continue;
        }
        let of_audit: Vec<&Filter> = filters
            .iter()
            .filter(|filter| filter.abi.audit == *audit)
            .collect();
        let ranges = ranges(&of_audit, default);
        let tree = tree(&mut writer, &ranges, default);
        let load = writer.step(LOAD, NUMBER, tree);
        next = writer.branch(Compare::Equal, *audit, load, next);
    }
    let start = writer.step(LOAD, ARCHITECTURE, next);
    writer.finish(start)
}

/// All numbers, in ranges of one verdict each.
fn ranges<'a>(filters: &[&'a Filter], default: u32) -> Vec<Range<'a>> {
    let mut ranges = Ranges::default();
    let has_x32 = filters
        .iter()
        .any(|filter| filter.abi.number_bits == X32_SYSCALL_BIT);
    for filter in filters {
        ranges.add(filter, default);
        if filter.abi.audit == X86_64_AUDIT && !has_x32 {
            ranges.push(X32_SYSCALL_BIT, Leaf::Always(BAD_ARCHITECTURE));
            ranges.push(SKIPPED_CALL, Leaf::Always(default));
        }
    }
    ranges.0
}

#[derive(Default)]
struct Ranges<'a>(Vec<Range<'a>>);

impl<'a> Ranges<'a> {
    fn add(&mut self, filter: &'a Filter, default: u32) {
        let mut end = filter.abi.number_bits;
        self.push(end, Leaf::Always(default));
        for (number, verdict) in &filter.verdicts {
            if *number != end {
                self.push(end, Leaf::Always(default));
            }
            self.push(
                *number,
                match verdict {
                    Verdict::Always(verdict) => Leaf::Always(*verdict),
                    Verdict::First(alternatives) => Leaf::First(alternatives, &filter.abi),
                },
            );
            end = number + 1;
        }
        self.push(end, Leaf::Always(default));
        if let Some(newest) = filter.newest {
            self.push(newest + 1, Leaf::Always(NO_SUCH_CALL));
        }
    }

    /// What follows `start`; the range before ends there.
    fn push(&mut self, start: u32, verdict: Leaf<'a>) {
        if self.0.last().is_some_and(|last| last.start == start) {
            self.0.pop();
        }
        match (self.0.last().map(|last| last.verdict), verdict) {
            (Some(Leaf::Always(before)), Leaf::Always(verdict)) if before == verdict => {}
            _ => self.0.push(Range { start, verdict }),
        }
    }
}

/// Finds the range of the number that is loaded.
fn tree(writer: &mut Writer, ranges: &[Range<'_>], default: u32) -> Label {
    if let [range] = ranges {
        return match range.verdict {
            Leaf::Always(verdict) => writer.verdict(verdict),
            Leaf::First(alternatives, abi) => first(writer, alternatives, abi, default),
        };
    }
    let (below, from) = ranges.split_at(ranges.len() / 2);
    let upper = tree(writer, from, default);
    let lower = tree(writer, below, default);
    writer.branch(Compare::GreaterOrEqual, from[0].start, upper, lower)
}

/// Finds the first alternative that holds.
fn first(writer: &mut Writer, alternatives: &[Alternative], abi: &Abi, default: u32) -> Label {
    let mut otherwise = writer.verdict(default);
    for alternative in alternatives.iter().rev() {
        let mut then = writer.verdict(alternative.verdict);
        for condition in alternative.conditions.iter().rev() {
            then = holds(writer, condition, abi, (then, otherwise));
        }
        otherwise = then;
    }
    otherwise
}

/// Goes on with the first of `ways` if `condition` holds, else with the second.
fn holds(writer: &mut Writer, condition: &Condition, abi: &Abi, ways: (Label, Label)) -> Label {
    let (yes, no) = ways;
    let (op, yes, no) = match condition.op {
        Operator::NotEqual => (Operator::Equal, no, yes),
        Operator::Less => (Operator::GreaterOrEqual, no, yes),
        Operator::LessOrEqual => (Operator::Greater, no, yes),
        op => (op, yes, no),
    };
    let words = Words::of(condition, abi);
    let compare = match op {
        Operator::Greater => Compare::Greater,
        Operator::GreaterOrEqual => Compare::GreaterOrEqual,
        _ => Compare::Equal,
    };
    let mut start = yes;
    if words.lower_mask != 0 {
        start = writer.branch(compare, words.lower, yes, no);
        start = load(writer, words.lower_offset, words.lower_mask, start);
    }
    if abi.is_wide && words.upper_mask != 0 {
        start = writer.branch(Compare::Equal, words.upper, start, no);
        if !matches!(compare, Compare::Equal) {
            start = writer.branch(Compare::Greater, words.upper, yes, start);
        }
        start = load(writer, words.upper_offset, words.upper_mask, start);
    }
    start
}

fn load(writer: &mut Writer, offset: u32, mask: u32, then: Label) -> Label {
    let masked = if mask == u32::MAX {
        then
    } else {
        writer.step(AND, mask, then)
    };
    writer.step(LOAD, offset, masked)
}

/// The two halves of an argument and of what it is compared with.
struct Words {
    lower_offset: u32,
    upper_offset: u32,
    lower_mask: u32,
    upper_mask: u32,
    lower: u32,
    upper: u32,
}

impl Words {
    fn of(condition: &Condition, abi: &Abi) -> Self {
        let offset = ARGUMENTS + 8 * condition.index;
        let (lower_mask, upper_mask) = halves(condition.mask);
        let (lower, upper) = halves(condition.value);
        let order = if abi.is_big_endian { (4, 0) } else { (0, 4) };
        Self {
            lower_offset: offset + order.0,
            upper_offset: offset + order.1,
            lower_mask,
            upper_mask,
            lower,
            upper,
        }
    }
}

/// The lower and the upper half.
fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    (
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    )
}
