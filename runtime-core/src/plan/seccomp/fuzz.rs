//! Promises of a filter: the kernel takes it, and it says what its profile says.
#![allow(
    clippy::unwrap_used,
    reason = "for fuzzing, where a panic is a finding"
)]

use super::architecture::{Abi, Call, X32_SYSCALL_BIT, served};
use super::reader::{candidates, hidden};
use super::{LONGEST, Program, compile_for, interpreter};
use crate::spec::seccomp::{Architecture, Seccomp};

/// `ENOSYS` as a verdict.
const NO_SUCH_CALL: u32 = 0x5_0026;
/// Most system calls that are asked about.
const MOST_CALLS: usize = 40;

pub(crate) fn check(profile: &Seccomp) {
    use Architecture::{Aarch64, S390X, X86_64};
    for native in [X86_64, Aarch64, S390X] {
        if let Ok(program) = compile_for(profile, native) {
            is_well_formed(&program);
            says_what_is_written(&program, profile, native);
        }
    }
}

/// As `seccomp_check_filter` and `bpf_check_classic` of the kernel want it.
fn is_well_formed(program: &Program) {
    let all = program.instructions();
    assert!((1..=LONGEST).contains(&all.len()));
    for (at, one) in all.iter().enumerate() {
        let left = all.len() - at - 1;
        match one.code {
            0x20 => assert!(one.k < 64 && one.k.is_multiple_of(4)),
            0x05 => assert!((one.k as usize) < left),
            0x15 | 0x25 | 0x35 | 0x45 => {
                assert!(usize::from(one.jt.max(one.jf)) < left);
            }
            0x06 | 0x54 => {}
            code => panic!("no instruction {code:#x}"),
        }
    }
    assert_eq!(all[all.len() - 1].code, 0x06);
    assert_eq!(program.flags() & !0b10_1110, 0, "{:#x}", program.flags());
}

/// The calls that are named and their neighbours, with arguments about the values that are named.
fn says_what_is_written(program: &Program, profile: &Seccomp, native: Architecture) {
    let rules = || profile.syscalls.iter().flatten();
    let mut values = vec![0, u64::MAX];
    for argument in rules().flat_map(|rule| rule.args.iter().flatten()).take(8) {
        let second = argument.value_two.unwrap_or(0);
        values.extend([argument.value, argument.value.wrapping_add(1), second]);
    }
    let names = || rules().flat_map(|rule| &rule.names);
    for architecture in served(native) {
        let abi = Abi::of(*architecture).unwrap();
        let listed = profile.architectures.as_deref().unwrap_or_default();
        if *architecture != native && !listed.contains(architecture) {
            continue;
        }
        let named = names().filter_map(|name| abi.number(Call::of(name, None)?));
        for number in named.take(MOST_CALLS).flat_map(|one| [one, one + 1]) {
            if native == Architecture::X86_64
                && (number & X32_SYSCALL_BIT != 0) != (*architecture == Architecture::X32)
            {
                continue;
            }
            for value in &values {
                let mut call = interpreter::Call::new(abi.audit, number, [*value; 6]);
                call.is_big_endian = Abi::of(native).unwrap().is_big_endian;
                let found = interpreter::run(program.instructions(), &call);
                if hidden(profile, native, &call) {
                    assert_eq!(found, NO_SUCH_CALL, "{call:x?}");
                } else {
                    let allowed = candidates(profile, *architecture, &call);
                    assert!(allowed.contains(&found), "{call:x?}: {found:#x}");
                }
            }
        }
    }
}
