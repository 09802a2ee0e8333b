//! Landlock: rules that a process gives itself and its children, see landlock(7). Linux 5.13 and later.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::fd::owned;
use super::{check, narrow};

const CREATE_RULESET_VERSION: libc::c_uint = 1;
const RULE_PATH_BENEATH: libc::c_int = 1;
const RULE_NET_PORT: libc::c_int = 2;

/// What a ruleset is about, `struct landlock_ruleset_attr`: whatever is named here and not allowed by a rule is
/// refused.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handled {
    /// `LANDLOCK_ACCESS_FS_*`.
    pub fs: u64,
    /// `LANDLOCK_ACCESS_NET_*`, version 4 and later.
    pub net: u64,
    /// `LANDLOCK_SCOPE_*`, version 6 and later.
    pub scoped: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: libc::c_int,
}

#[repr(C)]
struct NetPort {
    allowed: u64,
    port: u64,
}

/// The version of Landlock that the kernel has at work; 0 where it has none.
#[must_use]
pub fn version() -> u32 {
    // SAFETY: with this flag the kernel takes a null pointer and a size of 0, and only returns a number.
    let version = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<Handled>(),
            0,
            CREATE_RULESET_VERSION,
        )
    });
    version.map_or(0, |version| u32::try_from(version).unwrap_or(0))
}

/// Makes a ruleset without rules.
///
/// # Errors
/// The errno of landlock_create_ruleset(2).
pub fn create(handled: Handled) -> nix::Result<OwnedFd> {
    // Old kernels refuse what is longer than theirs, unless it ends with zeros.
    // SAFETY: `handled` is a whole landlock_ruleset_attr of the size given, alive across the call.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const handled,
            size_of::<Handled>(),
            0,
        )
    })?;
    Ok(owned(narrow(fd)))
}

/// Allows `allowed` on the file, or below the directory, that `parent` is a descriptor of.
///
/// # Errors
/// The errno of landlock_add_rule(2), `EINVAL` for accesses that the ruleset is not about.
pub fn allow_beneath(
    ruleset: BorrowedFd<'_>,
    parent: BorrowedFd<'_>,
    allowed: u64,
) -> nix::Result<()> {
    let rule = PathBeneath {
        allowed,
        parent: parent.as_raw_fd(),
    };
    add(ruleset, RULE_PATH_BENEATH, (&raw const rule).cast())
}

/// Allows `allowed` with the TCP port `port`.
///
/// # Errors
/// As [`allow_beneath`].
pub fn allow_port(ruleset: BorrowedFd<'_>, port: u16, allowed: u64) -> nix::Result<()> {
    let rule = NetPort {
        allowed,
        port: u64::from(port),
    };
    add(ruleset, RULE_NET_PORT, (&raw const rule).cast())
}

fn add(ruleset: BorrowedFd<'_>, kind: libc::c_int, rule: *const libc::c_void) -> nix::Result<()> {
    // SAFETY: both callers pass the structure that `kind` stands for, alive across the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            kind,
            rule,
            0,
        )
    })
    .map(drop)
}

/// Puts this process under the ruleset, for ever.
///
/// # Errors
/// The errno of landlock_restrict_self(2), `EPERM` without no_new_privs.
pub fn restrict_self(ruleset: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: the call takes integers only.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) })
        .map(drop)
}
