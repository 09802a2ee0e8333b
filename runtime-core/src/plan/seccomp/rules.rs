//! What a profile says about each system call number of an architecture.
//!
//! The verdicts are those of libseccomp as runc drives it, for that is what profiles are written and tested with:
//! - a rule without conditions holds, whatever conditions earlier rules have; of two such rules the first holds;
//! - of rules with conditions the first that matches holds, in an order that does not depend on the profile's: see
//!   [`Alternative::precedence`];
//! - a rule that does what is done by default is not a rule, and does not keep a wider one from matching.

use std::cmp::{Ordering, Reverse};

use super::architecture::{Abi, Call};
use crate::error::{Error, Result};
use crate::spec::seccomp::Operator;

/// A comparison of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) index: u32,
    pub(super) op: Operator,
    /// All ones but for [`Operator::MaskedEqual`].
    pub(super) mask: u64,
    /// What the masked argument is compared with, masked too.
    pub(super) value: u64,
}

impl Condition {
    pub(super) fn new(index: u32, op: Operator, value: u64, second: u64) -> Self {
        let (mask, value) = match op {
            Operator::MaskedEqual => (value, second & value),
            _ => (u64::MAX, value),
        };
        Self {
            index,
            op,
            mask,
            value,
        }
    }

    fn equals(index: u32, value: u64) -> Self {
        Self::new(index, Operator::Equal, value, 0)
    }

    /// The same of the lower half.
    fn narrow(self) -> Self {
        const LOWER: u64 = 0xffff_ffff;
        Self {
            mask: self.mask & LOWER,
            value: self.value & LOWER,
            ..self
        }
    }

    /// Last arguments come first, then equality before less before greater, and narrower ranges before wider ones.
    fn precedence(&self) -> impl Ord + use<> {
        let (class, value) = match self.op {
            Operator::Equal | Operator::NotEqual | Operator::MaskedEqual => (0, !self.value),
            Operator::Less | Operator::LessOrEqual => (1, self.value),
            Operator::Greater | Operator::GreaterOrEqual => (2, !self.value),
        };
        (
            Reverse(self.index),
            class,
            value,
            self.op as u8,
            Reverse(self.mask),
        )
    }
}

/// Conditions that must all hold, and what happens then.
#[derive(Clone, Debug)]
pub(super) struct Alternative {
    pub(super) conditions: Vec<Condition>,
    pub(super) verdict: u32,
    /// Which rule of the profile it is of.
    pub(super) rule: usize,
}

impl Alternative {
    /// For the arguments that `abi` has, and where these are those of the multiplexing call `number`.
    fn narrowed(&self, abi: &Abi, number: Option<u64>) -> Self {
        let mut conditions: Vec<Condition> = Vec::with_capacity(self.conditions.len() + 1);
        conditions.extend(number.map(|number| Condition::equals(0, number)));
        conditions.extend(
            self.conditions
                .iter()
                .filter(|condition| number.is_none() || condition.index != 0)
                .map(|condition| match abi.is_wide {
                    true => *condition,
                    false => condition.narrow(),
                })
                .filter(|condition| condition.mask != 0),
        );
        Self {
            conditions,
            ..*self
        }
    }

    fn precedence(&self, other: &Self) -> Ordering {
        let keys = |alternative: &Self| {
            let conditions = alternative.conditions.iter();
            conditions.map(Condition::precedence).collect::<Vec<_>>()
        };
        keys(self).cmp(&keys(other))
    }
}

/// What happens to a system call.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Always the same.
    Always(u32),
    /// That of the first alternative whose conditions hold, or the default.
    First(Vec<Alternative>),
}

/// A name of a rule, and the alternatives of that rule.
pub(super) struct Mention<'a> {
    pub(super) call: Call,
    pub(super) alternatives: &'a [Alternative],
}

/// What is said about the system calls of `abi`, in the order of their numbers.
///
/// # Errors
/// `InvalidSpec` for rules of the same conditions that say different things.
pub(super) fn verdicts(mentions: &[Mention<'_>], abi: &Abi) -> Result<Vec<(u32, Verdict)>> {
    let mut said = Vec::with_capacity(mentions.len());
    for (mention, Mention { call, .. }) in mentions.iter().enumerate() {
        if let Some((number, _)) = abi.multiplexed(*call) {
            said.push(Said {
                number,
                mention,
                is_multiplexed: true,
            });
        }
        if let Some(number) = abi.number(*call) {
            said.push(Said {
                number,
                mention,
                is_multiplexed: false,
            });
        }
    }
    said.sort_unstable();
    said.chunk_by(|a, b| a.number == b.number)
        .map(|of_one| Ok((of_one[0].number, verdict(of_one, mentions, abi)?)))
        .collect()
}

/// That something is said about a number, in the order of the numbers and then of the profile.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    number: u32,
    mention: usize,
    /// About a part of what the number does.
    is_multiplexed: bool,
}

fn verdict(said: &[Said], mentions: &[Mention<'_>], abi: &Abi) -> Result<Verdict> {
    let mut found: Vec<Alternative> = Vec::new();
    for one in said {
        let mention = &mentions[one.mention];
        let multiplexed = abi.multiplexed(mention.call);
        let argument = multiplexed
            .filter(|_| one.is_multiplexed)
            .map(|(_, argument)| argument);
        for alternative in mention.alternatives {
            let is_unconditional = alternative.conditions.is_empty() && argument.is_none();
            if is_unconditional {
                return Ok(Verdict::Always(alternative.verdict));
            }
            let narrowed = alternative.narrowed(abi, argument);
            if narrowed.conditions.is_empty() {
                return Ok(Verdict::Always(narrowed.verdict));
            }
            found.push(narrowed);
        }
    }
    found.sort_by(Alternative::precedence);
    let is_multiplexed = said.iter().any(|one| one.is_multiplexed);
    let contradiction = found.windows(2).find(|pair| {
        pair[0].conditions == pair[1].conditions && pair[0].verdict != pair[1].verdict
    });
    match contradiction {
        Some([first, second]) if !is_multiplexed => Err(Error::invalid_spec(
            &format!("/linux/seccomp/syscalls/{}", second.rule),
            &format!(
                "contradicts /linux/seccomp/syscalls/{}, of the same system call with the same arguments",
                first.rule
            ),
        )),
        _ => Ok(Verdict::First(found)),
    }
}
