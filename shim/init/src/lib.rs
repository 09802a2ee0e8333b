//! ocirun-init, PID 1 for containers, as bytes that other crates embed.
//!
//! The program is freestanding (no standard library, no libc, no heap). Cargo cannot build such a binary under
//! `cargo test`, which forces unwinding, so the build script compiles `src/program/start.rs` by itself. The result is
//! [`PROGRAM`], and a copy named `ocirun-init` in cargo's output directory, beside the other programs
//! (`target/<triple>/release/ocirun-init`).
//!
//! # Contract with whoever starts it
//! - `argv[0]` decides whose command line it speaks: `tini`, `docker-init`, `dumb-init`, `catatonit`, `podman-init`,
//!   `pause`; any other name is its own, which is tini's with more. `argv = [name, flags…, "--", program, args…]`.
//!   `argv = [name]` or `[name, "--pause", …]` runs no program.
//! - **All signals are blocked before the exec**, and the init is told nothing of the mask that was: it gives its child
//!   the mask that it was started with. A launcher that wants an empty mask in the child says so by
//!   [`LAUNCHER_MASK_VARIABLE`]: its value is the child's mask, 16 hexadecimal digits, and it is not passed on.
//!   Signals that arrive before the init's first instruction then stay pending, and none is lost.
//! - Dispositions, umask, working directory, limits and descriptors reach the child as they are. The init itself
//!   closes all descriptors from 3 on and goes to `/`.
//! - Executed from a sealed memfd by execveat(2) with `AT_EMPTY_PATH`, or from a file: it reads nothing else.
#![cfg_attr(not(test), forbid(unsafe_code))]

/// The static ELF program for the target that this crate is built for.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ocirun-init"));

/// The variable by which a launcher that blocks signals says which mask the child is to have.
pub const LAUNCHER_MASK_VARIABLE: &str = "OCIRUN_INIT_MASK";

#[cfg(test)]
#[expect(
    dead_code,
    reason = "tests call the pure parts; the program in start.rs uses all of it"
)]
mod program {
    pub mod command;
    pub mod lockdown;
    pub mod personality;
    pub mod print;
    pub mod reap;
    pub mod signals;
    #[expect(unsafe_code, reason = "the one file with system calls")]
    pub mod sys;
}

#[cfg(test)]
mod tests {
    use super::PROGRAM;

    #[test]
    fn the_program_is_small_and_needs_no_loader() {
        assert_eq!(&PROGRAM[..4], b"\x7fELF");
        assert!(PROGRAM.len() <= 24 * 1024, "{} bytes", PROGRAM.len());
        assert!(!PROGRAM.windows(8).any(|window| window == b"ld-linux"));
    }
}
