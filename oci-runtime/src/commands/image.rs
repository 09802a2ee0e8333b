//! `image`: all of it is `ocirun-image`'s, which takes this process over.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use crate::cli::Flags;

use super::{Failure, Invocation, Outcome};

const PROGRAM: &str = "ocirun-image";

/// Returns only if there is no such program. See execve(2).
pub(crate) fn image(invocation: &Invocation<'_>) -> Outcome {
    if *invocation.global != Flags::default() {
        return Err(Failure::Argument(format!(
            "flags before the command are not {PROGRAM}'s, whose own follow it"
        )));
    }
    let places = beside().into_iter().chain([PathBuf::from(PROGRAM)]);
    for place in places {
        let error = Command::new(&place).args(invocation.arguments).exec();
        if error.kind() != std::io::ErrorKind::NotFound {
            let error = crate::format::io(&error);
            return Err(Failure::File(format!("execve({place:?}): {error}")));
        }
    }
    Err(Failure::File(format!(
        "{PROGRAM}: neither beside this program nor in PATH; install it to use images"
    )))
}

fn beside() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.with_file_name(PROGRAM))
}
