//! Reads a profile rule by rule, as a person does, to say what a filter compiled from it may answer.
#![allow(
    clippy::unwrap_used,
    reason = "for tests and fuzzing only, of profiles that compile"
)]

use super::architecture::{Abi, Call, X32_SYSCALL_BIT, served};
use super::{interpreter, verdict};
use crate::spec::seccomp::{Action, Architecture, Argument, Operator, Seccomp};

/// What runc puts before libseccomp's program: `ENOSYS` for numbers above the largest that the profile names.
pub(super) fn hidden(profile: &Seccomp, native: Architecture, call: &interpreter::Call) -> bool {
    use Action::{Allow, Log, Trace};
    if matches!(profile.default_action, Allow | Log | Trace) {
        return false;
    }
    let is_x32 = call.number & X32_SYSCALL_BIT != 0;
    let of_call = served(native).iter().find(|architecture| {
        let abi = Abi::of(**architecture).unwrap();
        let same_mode = native != Architecture::X86_64
            || **architecture == Architecture::X86
            || (**architecture == Architecture::X32) == is_x32;
        abi.audit == call.architecture && same_mode
    });
    let listed = profile.architectures.as_deref().unwrap_or_default();
    let Some(architecture) = of_call.filter(|architecture| listed.contains(architecture)) else {
        return false;
    };
    let abi = Abi::of(*architecture).unwrap();
    let names = profile
        .syscalls
        .iter()
        .flatten()
        .flat_map(|rule| &rule.names);
    // Names of multiplexed calls count as what carries them: runc passes them over.
    let numbers = names.filter_map(|name| {
        let named = Call::of(name, None)?;
        abi.number(named)
            .max(abi.multiplexed(named).map(|(number, _)| number))
    });
    let newest = numbers.max().unwrap_or(0);
    newest != 0 && (call.number > newest || (native == Architecture::S390X && call.number == 0))
}

/// The verdicts that the rules which match a call have, as a reader of the profile finds them: no order but that a rule
/// without conditions decides.
pub(super) fn candidates(
    profile: &Seccomp,
    architecture: Architecture,
    call: &interpreter::Call,
) -> Vec<u32> {
    let abi = Abi::of(architecture).unwrap();
    let default = verdict(profile.default_action, profile.default_errno_ret).unwrap();
    let mut found = Vec::new();
    for rule in profile.syscalls.iter().flatten() {
        let action = verdict(rule.action, rule.errno_ret).unwrap();
        let arguments = rule.args.as_deref().unwrap_or_default();
        let is_repeated =
            (0..6).any(|index| arguments.iter().filter(|one| one.index == index).count() > 1);
        for name in rule.names.iter().filter(|_| action != default) {
            let Some(named) = Call::of(name, None) else {
                continue;
            };
            let multiplexed = abi
                .multiplexed(named)
                .filter(|(number, _)| *number == call.number);
            let mut alternatives: Vec<Vec<&Argument>> = vec![arguments.iter().collect()];
            if is_repeated {
                alternatives = arguments.iter().map(|one| vec![one]).collect();
            }
            if let Some((_, number)) = multiplexed {
                for alternative in &alternatives {
                    let rest = alternative.iter().filter(|one| one.index != 0);
                    let bits = if abi.is_wide { u64::MAX } else { 0xffff_ffff };
                    let is_of_call = call.arguments[0] & bits == number;
                    if is_of_call && rest.clone().all(|one| matches(one, &abi, call)) {
                        found.push(action);
                    }
                }
            }
            if abi.number(named) != Some(call.number) {
                continue;
            }
            for alternative in &alternatives {
                if alternative.iter().all(|one| is_nothing(one, &abi)) {
                    return vec![action];
                }
                if alternative.iter().all(|one| matches(one, &abi, call)) {
                    found.push(action);
                }
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    if found.is_empty() {
        found.push(default);
    }
    found
}

fn is_nothing(argument: &Argument, abi: &Abi) -> bool {
    let bits = if abi.is_wide { u64::MAX } else { 0xffff_ffff };
    argument.op == Operator::MaskedEqual && argument.value & bits == 0
}

pub(super) fn matches(argument: &Argument, abi: &Abi, call: &interpreter::Call) -> bool {
    let bits = if abi.is_wide { u64::MAX } else { 0xffff_ffff };
    let given = call.arguments[usize::try_from(argument.index).unwrap()] & bits;
    let value = argument.value & bits;
    match argument.op {
        Operator::Equal => given == value,
        Operator::NotEqual => given != value,
        Operator::Less => given < value,
        Operator::LessOrEqual => given <= value,
        Operator::Greater => given > value,
        Operator::GreaterOrEqual => given >= value,
        Operator::MaskedEqual => given & value == argument.value_two.unwrap_or(0) & value,
    }
}
