//! System call filters. Compiling profiles is not there yet, and is refused.

use crate::error::{Error, Result};
use crate::kernel::process::Instruction;
use crate::spec::seccomp::Seccomp;

/// A filter for the kernel.
#[derive(Debug)]
pub struct Program {
    instructions: Vec<Instruction>,
    flags: u64,
}

impl Program {
    /// The instructions, in the kernel's form.
    #[must_use]
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// `SECCOMP_FILTER_FLAG_*`.
    #[must_use]
    pub fn flags(&self) -> u64 {
        self.flags
    }
}

/// Compiles a profile.
///
/// # Errors
/// `Unsupported`.
pub fn compile(_: &Seccomp) -> Result<Program> {
    Err(Error::unsupported("/linux/seccomp: is not supported yet"))
}
