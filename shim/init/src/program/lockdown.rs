//! What the init gives up once the child runs: capabilities, privileges to gain, and all system calls but a few.

use super::sys::{self, AUDIT_ARCH, CALLS_AFTER_START, Instruction, Prctl};

const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const KILL_PROCESS: u32 = 0x8000_0000;
const REFUSE_EPERM: u32 = 0x0005_0001;
const ALLOW: u32 = 0x7FFF_0000;
const CAP_KILL: u32 = 1 << 5;
const CALLS: usize = CALLS_AFTER_START.len();

/// Gives up everything that supervising does not need. What the kernel refuses is left: an init without its filter is
/// worth more than none.
pub fn apply() {
    sys::keep_capabilities(CAP_KILL);
    let _ = sys::prctl(Prctl::NotDumpable);
    if sys::prctl(Prctl::NoNewPrivileges).is_ok() {
        let _ = sys::filter(&program());
    }
}

/// A foreign architecture is an attack; an unlisted call is refused, not deadly, lest a mistake of ours end a container.
fn program() -> [Instruction; CALLS + 6] {
    let returns = |k| Instruction {
        code: RETURN,
        yes: 0,
        no: 0,
        k,
    };
    let load = |k| Instruction {
        code: LOAD,
        yes: 0,
        no: 0,
        k,
    };
    let mut program = [Instruction::default(); CALLS + 6];
    let calls = CALLS_AFTER_START
        .iter()
        .enumerate()
        .map(|(index, number)| Instruction {
            code: JUMP_EQUAL,
            yes: u8::try_from(CALLS - index).unwrap_or(0),
            no: 0,
            k: u32::try_from(*number).unwrap_or(u32::MAX),
        });
    let head = [
        load(4),
        Instruction {
            code: JUMP_EQUAL,
            yes: 1,
            no: 0,
            k: AUDIT_ARCH,
        },
        returns(KILL_PROCESS),
        load(0),
    ];
    let tail = [returns(REFUSE_EPERM), returns(ALLOW)];
    for (to, from) in program
        .iter_mut()
        .zip(head.into_iter().chain(calls).chain(tail))
    {
        *to = from;
    }
    program
}

#[cfg(test)]
mod tests {
    use super::{
        ALLOW, AUDIT_ARCH, CALLS_AFTER_START, Instruction, JUMP_EQUAL, KILL_PROCESS, LOAD,
        REFUSE_EPERM, program,
    };

    /// Runs the filter on one call, as the kernel would.
    fn verdict(arch: u32, number: u32) -> u32 {
        let program = program();
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let Instruction { code, yes, no, k } = program[at];
            at += 1;
            match code {
                LOAD => accumulator = if k == 0 { number } else { arch },
                JUMP_EQUAL => at += usize::from(if accumulator == k { yes } else { no }),
                _ => return k,
            }
        }
    }

    #[test]
    fn only_the_listed_calls_pass() {
        let listed: Vec<u32> = CALLS_AFTER_START
            .iter()
            .map(|n| u32::try_from(*n).unwrap())
            .collect();
        for number in 0..500 {
            let wanted = if listed.contains(&number) {
                ALLOW
            } else {
                REFUSE_EPERM
            };
            assert_eq!(verdict(AUDIT_ARCH, number), wanted, "call {number}");
            assert_eq!(verdict(0x4000_0003, number), KILL_PROCESS);
        }
    }
}
