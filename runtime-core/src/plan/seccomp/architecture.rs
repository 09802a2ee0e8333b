//! Architectures: how a filter recognises them, where their arguments are, and the numbers of their system calls.

use std::cmp::Ordering;

use super::table::{COUNT, ENDS, NAMES, NUMBERS};
use crate::spec::seccomp::Architecture::{
    self, Aarch64, Arm, LoongArch64, Ppc, Ppc64, Ppc64Le, RiscV64, S390X, X32, X86, X86_64,
};

/// Set in the number of every system call of x32.
pub(super) const X32_SYSCALL_BIT: u32 = 1 << 30;

/// `__AUDIT_ARCH_64BIT` and `__AUDIT_ARCH_LE` of `linux/audit.h`.
const AUDIT_64_BIT: u32 = 0x8000_0000;
const AUDIT_LITTLE_ENDIAN: u32 = 0x4000_0000;

/// The architecture this is built for, if there is a table for it.
pub(super) const NATIVE: Option<Architecture> = if cfg!(target_arch = "x86_64") {
    Some(X86_64)
} else if cfg!(target_arch = "x86") {
    Some(X86)
} else if cfg!(target_arch = "aarch64") {
    Some(Aarch64)
} else if cfg!(target_arch = "arm") {
    Some(Arm)
} else if cfg!(target_arch = "riscv64") {
    Some(RiscV64)
} else if cfg!(target_arch = "loongarch64") {
    Some(LoongArch64)
} else if cfg!(target_arch = "s390x") {
    Some(S390X)
} else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
    Some(Ppc64Le)
} else if cfg!(target_arch = "powerpc64") {
    Some(Ppc64)
} else {
    None
};

/// Those whose system calls a kernel of `native` serves, `native` first. A filter need not know any other, since none
/// of their calls ever reaches it. (S/390's 31 bits are missing: there is no table, so they count as unknown.)
pub(super) fn served(native: Architecture) -> &'static [Architecture] {
    match native {
        X86_64 => &[X86_64, X86, X32],
        X86 => &[X86],
        Aarch64 => &[Aarch64, Arm],
        Arm => &[Arm],
        RiscV64 => &[RiscV64],
        LoongArch64 => &[LoongArch64],
        Ppc64 => &[Ppc64, Ppc],
        Ppc64Le => &[Ppc64Le],
        S390X => &[S390X],
        _ => &[],
    }
}

/// How system calls of an architecture look to a filter.
#[derive(Clone, Copy)]
pub(super) struct Abi {
    /// `AUDIT_ARCH_*` of `linux/audit.h`.
    pub(super) audit: u32,
    /// Whether arguments have 64 bits. Of those with 32 the upper half is not looked at.
    pub(super) is_wide: bool,
    pub(super) is_big_endian: bool,
    /// What all its numbers have set.
    pub(super) number_bits: u32,
    /// Whether socketcall(2) and ipc(2) are there.
    has_multiplexers: bool,
    column: usize,
}

impl Abi {
    /// Of one that is [`served`] by some kernel.
    pub(super) fn of(architecture: Architecture) -> Option<Self> {
        // The ELF machine, the bits of its audit number, and the column in the table.
        const BOTH: u32 = AUDIT_64_BIT | AUDIT_LITTLE_ENDIAN;
        let (machine, bits, column) = match architecture {
            X86_64 => (62, BOTH, 0),
            X86 => (3, AUDIT_LITTLE_ENDIAN, 1),
            X32 => (62, BOTH, 2),
            Aarch64 => (183, BOTH, 3),
            Arm => (40, AUDIT_LITTLE_ENDIAN, 4),
            RiscV64 => (243, BOTH, 5),
            LoongArch64 => (258, BOTH, 6),
            Ppc => (20, 0, 7),
            Ppc64 => (21, AUDIT_64_BIT, 8),
            Ppc64Le => (21, BOTH, 8),
            S390X => (22, AUDIT_64_BIT, 9),
            _ => return None,
        };
        Some(Self {
            audit: machine | bits,
            is_wide: bits & AUDIT_64_BIT != 0 && architecture != X32,
            is_big_endian: bits & AUDIT_LITTLE_ENDIAN == 0,
            number_bits: if architecture == X32 {
                X32_SYSCALL_BIT
            } else {
                0
            },
            has_multiplexers: matches!(architecture, X86 | Ppc | Ppc64 | Ppc64Le | S390X),
            column,
        })
    }

    /// The number of a system call.
    pub(super) fn number(&self, call: Call) -> Option<u32> {
        self.number_at(call.row)
    }

    /// The number of the system call that does the work of `call` too, and the first argument with which it does.
    pub(super) fn multiplexed(&self, call: Call) -> Option<(u32, u64)> {
        let (multiplexer, argument) = call.multiplexer.filter(|_| self.has_multiplexers)?;
        Some((self.number_at(multiplexer)?, argument))
    }

    fn number_at(&self, row: usize) -> Option<u32> {
        match NUMBERS[row][self.column] {
            0xffff => None,
            private @ 0xf000.. => Some(0xf_0000 + u32::from(private & 0xfff)),
            number => Some(u32::from(number) | self.number_bits),
        }
    }
}

/// A system call that some architecture has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    row: usize,
    /// The row of the system call that does the work of this one too, and this one's number there.
    multiplexer: Option<(usize, u64)>,
}

impl Call {
    /// The one of that name. Profiles have names in order: it is looked for behind `last` first.
    pub(super) fn of(name: &str, last: Option<Self>) -> Option<Self> {
        let next = last.map_or(0, |last| last.row + 1);
        let row = (next..COUNT.min(next + 3))
            .find(|row| name_at(*row) == name)
            .or_else(|| search(name))?;
        let multiplexer = multiplexer(name).and_then(|(by, number)| Some((search(by)?, number)));
        Some(Self { row, multiplexer })
    }
}

fn search(name: &str) -> Option<usize> {
    let (mut low, mut high) = (0, COUNT);
    while low < high {
        let middle = usize::midpoint(low, high);
        match name_at(middle).cmp(name) {
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
            Ordering::Equal => return Some(middle),
        }
    }
    None
}

pub(super) fn name_at(row: usize) -> &'static str {
    let start = row.checked_sub(1).map_or(0, |before| ENDS[before]);
    &NAMES[usize::from(start)..usize::from(ENDS[row])]
}

/// socketcall(2) or ipc(2), and this one's number there, from `linux/net.h` and `linux/ipc.h`.
fn multiplexer(name: &str) -> Option<(&'static str, u64)> {
    let number = match name {
        "socket" => 1,
        "bind" => 2,
        "connect" => 3,
        "listen" => 4,
        "accept" => 5,
        "getsockname" => 6,
        "getpeername" => 7,
        "socketpair" => 8,
        "send" => 9,
        "recv" => 10,
        "sendto" => 11,
        "recvfrom" => 12,
        "shutdown" => 13,
        "setsockopt" => 14,
        "getsockopt" => 15,
        "sendmsg" => 16,
        "recvmsg" => 17,
        "accept4" => 18,
        "recvmmsg" => 19,
        "sendmmsg" => 20,
        _ => return ipc(name).map(|number| ("ipc", number)),
    };
    Some(("socketcall", number))
}

fn ipc(name: &str) -> Option<u64> {
    Some(match name {
        "semop" => 1,
        "semget" => 2,
        "semctl" => 3,
        "semtimedop" => 4,
        "msgsnd" => 11,
        "msgrcv" => 12,
        "msgget" => 13,
        "msgctl" => 14,
        "shmat" => 21,
        "shmdt" => 22,
        "shmget" => 23,
        "shmctl" => 24,
        _ => return None,
    })
}
