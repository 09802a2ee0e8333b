//! The Landlock ruleset of the program: made while `create` can still tell what is wrong with it, and in force last but
//! for a seccomp filter, so that what the runtime itself opens until then need not be allowed by it.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag};

use super::{At, Result, Step};
use crate::kernel::landlock;
use crate::plan::landlock::{Missing, OF_FILES, Ruleset};

/// Makes the ruleset in the kernel.
pub(crate) fn make(ruleset: Option<&Ruleset>) -> Result<Option<OwnedFd>> {
    let Some(ruleset) = ruleset else {
        return Ok(None);
    };
    let step = Step::Landlock;
    let rules = landlock::create(ruleset.handled).at(step, 0, "landlock_create_ruleset()")?;
    for (path, allowed) in &ruleset.paths {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let file = match open(path.as_c_str(), flags, Mode::empty()) {
            Err(Errno::ENOENT | Errno::EACCES | Errno::ENOTDIR)
                if ruleset.missing == Missing::PassedOver =>
            {
                continue;
            }
            file => file.at(step, 0, format_args!("open({path:?}, O_PATH)"))?,
        };
        let kind = crate::root::kind(file.as_fd()).at(step, 0, "fstat()")?;
        let allowed = if kind == SFlag::S_IFDIR {
            *allowed
        } else {
            allowed & OF_FILES
        };
        if allowed != 0 {
            landlock::allow_beneath(rules.as_fd(), file.as_fd(), allowed).at(
                step,
                0,
                format_args!("landlock_add_rule({path:?})"),
            )?;
        }
    }
    for (port, allowed) in &ruleset.ports {
        landlock::allow_port(rules.as_fd(), *port, *allowed).at(
            step,
            0,
            format_args!("landlock_add_rule(port {port})"),
        )?;
    }
    Ok(Some(rules))
}

/// Puts this process under it.
pub(crate) fn restrict(rules: Option<OwnedFd>) -> Result<()> {
    match rules {
        Some(rules) => {
            landlock::restrict_self(rules.as_fd()).at(Step::Landlock, 0, "landlock_restrict_self()")
        }
        None => Ok(()),
    }
}
