//! bpf(2): programs that decide which devices a cgroup may use.
//!
//! Kernel: 4.15 for the program type, 5.6 to replace one by another at once. See linux/bpf.h.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use super::{check, narrow};

const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const BPF_PROG_GET_FD_BY_ID: i32 = 13;
const BPF_OBJ_GET_INFO_BY_FD: i32 = 15;
const BPF_PROG_QUERY: i32 = 16;

const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_F_REPLACE: u32 = 4;

/// Most programs of one cgroup that are looked at; the kernel allows 64.
const MOST: usize = 64;

/// By this name a program is known as ours among others of the cgroup.
const NAME: [u8; 16] = *b"ocirun_devices\0\0";

/// A register. A program is given its context in the second and gives its result in the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// The result.
    R0 = 0,
    /// The context at the start.
    R1,
    /// Free.
    R2,
    /// Free.
    R3,
    /// Free.
    R4,
    /// Free.
    R5,
    /// Free.
    R6,
}

/// When a jump is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cond {
    /// The register is the value.
    Equal = 0x16,
    /// It is not.
    NotEqual = 0x56,
}

/// `struct bpf_insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    /// The register written to in the lower half, the one read from in the upper.
    registers: u8,
    offset: i16,
    value: i32,
}

const LDX_MEM_W: u8 = 0x61;
const ALU_MOV_X: u8 = 0xbc;
const ALU_MOV_K: u8 = 0xb4;
const ALU_AND_K: u8 = 0x54;
const ALU_RSH_K: u8 = 0x74;
const EXIT: u8 = 0x95;

impl Instruction {
    const fn new(code: u8, to: Register, from: Register, offset: i16, value: i32) -> Self {
        Self {
            code,
            registers: (from as u8) << 4 | to as u8,
            offset,
            value,
        }
    }

    /// Loads 32 bits from `offset` bytes behind what `from` points at.
    #[must_use]
    pub const fn load32(to: Register, from: Register, offset: i16) -> Self {
        Self::new(LDX_MEM_W, to, from, offset, 0)
    }

    /// Copies 32 bits.
    #[must_use]
    pub const fn mov(to: Register, from: Register) -> Self {
        Self::new(ALU_MOV_X, to, from, 0, 0)
    }

    /// Loads a number.
    #[must_use]
    pub const fn load(to: Register, value: i32) -> Self {
        Self::new(ALU_MOV_K, to, Register::R0, 0, value)
    }

    /// Keeps the bits of `mask`.
    #[must_use]
    pub const fn and(to: Register, mask: i32) -> Self {
        Self::new(ALU_AND_K, to, Register::R0, 0, mask)
    }

    /// Shifts right, with zeros.
    #[must_use]
    pub const fn shift_right(to: Register, bits: i32) -> Self {
        Self::new(ALU_RSH_K, to, Register::R0, 0, bits)
    }

    /// Skips `over` instructions where 32 bits of the register compare so with `value`.
    #[must_use]
    pub const fn jump(when: Cond, register: Register, value: i32, over: i16) -> Self {
        Self::new(when as u8, register, Register::R0, over, value)
    }

    /// Ends the program.
    #[must_use]
    pub const fn exit() -> Self {
        Self::new(EXIT, Register::R0, Register::R0, 0, 0)
    }
}

#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
struct Attach {
    cgroup: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

#[repr(C)]
struct Query {
    cgroup: u32,
    kind: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

#[repr(C)]
struct InfoOf {
    program: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_prog_info`, to its name.
#[repr(C)]
#[derive(Default)]
struct Info {
    before: [u64; 8],
    name: [u8; 16],
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// One command with its part of `union bpf_attr`.
fn command<T>(number: i32, attributes: &mut T) -> nix::Result<libc::c_long> {
    // SAFETY: the kernel reads and writes no more than the size given, all of which is `attributes`, a C structure
    // without padding; what its addresses lead to is alive in the callers below, which pass lengths that fit.
    check(unsafe { libc::syscall(libc::SYS_bpf, number, attributes, size_of::<T>()) })
}

/// Takes what a command just returned.
fn descriptor(value: libc::c_long) -> OwnedFd {
    // SAFETY: only called with the result of commands that return a new descriptor, which nothing else owns.
    unsafe { OwnedFd::from_raw_fd(narrow(value)) }
}

/// Loads a program about devices. The descriptor closes on exec.
///
/// # Errors
/// The errno of bpf(2): `EPERM` without privilege, `EINVAL` or `EACCES` where the kernel's verifier refuses it.
pub fn load_devices(program: &[Instruction]) -> nix::Result<OwnedFd> {
    let mut attributes = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).map_err(|_| Errno::E2BIG)?,
        instructions: program.as_ptr().addr() as u64,
        license: c"Apache-2.0".as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: NAME,
    };
    command(BPF_PROG_LOAD, &mut attributes).map(descriptor)
}

/// Puts a program about devices into force for a cgroup, at once in the place of an earlier one of ours. Those of
/// others stay: a device may be used where all of them allow it.
///
/// # Errors
/// The errno of bpf(2).
pub fn attach_devices(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> nix::Result<()> {
    let earlier = attached(cgroup)?;
    let mut attributes = Attach {
        cgroup: raw(cgroup),
        program: raw(program),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
        replaced: 0,
    };
    if let Some(earlier) = &earlier {
        attributes.flags |= BPF_F_REPLACE;
        attributes.replaced = earlier.as_raw_fd().cast_unsigned();
    }
    command(BPF_PROG_ATTACH, &mut attributes).map(drop)
}

/// Our program of a cgroup, if there is one.
fn attached(cgroup: BorrowedFd<'_>) -> nix::Result<Option<OwnedFd>> {
    let mut ids = [0u32; MOST];
    let mut query = Query {
        cgroup: raw(cgroup),
        kind: BPF_CGROUP_DEVICE,
        flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr().addr() as u64,
        count: u32::try_from(MOST).unwrap_or_default(),
        padding: 0,
    };
    command(BPF_PROG_QUERY, &mut query)?;
    let count = usize::try_from(query.count).unwrap_or_default();
    for &id in ids.iter().take(count) {
        let mut by_id = ById {
            id,
            next: 0,
            flags: 0,
        };
        let program = match command(BPF_PROG_GET_FD_BY_ID, &mut by_id) {
            // Detached meanwhile.
            Err(Errno::ENOENT) => continue,
            other => descriptor(other?),
        };
        let mut info = Info::default();
        let mut of = InfoOf {
            program: program.as_raw_fd().cast_unsigned(),
            length: u32::try_from(size_of::<Info>()).unwrap_or_default(),
            info: (&raw mut info).addr() as u64,
        };
        command(BPF_OBJ_GET_INFO_BY_FD, &mut of)?;
        if info.name == NAME {
            return Ok(Some(program));
        }
    }
    Ok(None)
}

/// Runs a program as the kernel would, for tests: what is in `context` are 32 bits each.
#[cfg(test)]
pub(crate) fn run(program: &[Instruction], context: &[u32]) -> u32 {
    let mut registers = [0u32; 11];
    let mut at = 0;
    loop {
        let Instruction {
            code,
            registers: which,
            offset,
            value,
        } = program[at];
        let (to, from) = (usize::from(which & 0xf), usize::from(which >> 4));
        let value = value.cast_unsigned();
        let jumps = match code {
            LDX_MEM_W => {
                assert_eq!(from, Register::R1 as usize, "only the context can be read");
                registers[to] = context[usize::try_from(offset).unwrap() / 4];
                false
            }
            ALU_MOV_X => {
                registers[to] = registers[from];
                false
            }
            ALU_MOV_K => {
                registers[to] = value;
                false
            }
            ALU_AND_K => {
                registers[to] &= value;
                false
            }
            ALU_RSH_K => {
                registers[to] >>= value;
                false
            }
            EXIT => return registers[0],
            0x16 => registers[to] == value,
            0x56 => registers[to] != value,
            other => panic!("instruction {other:#x}"),
        };
        at += 1;
        if jumps {
            at += usize::try_from(offset).unwrap();
        }
    }
}
