//! `spec`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use nix::unistd::{getegid, geteuid};

use super::{Failure, Invocation, Outcome};

const ROOT: &str = include_str!("config.json");
const ROOTLESS: &str = include_str!("rootless.json");

/// Writes a `config.json` to begin with.
pub(super) fn spec(invocation: &Invocation<'_>) -> Outcome {
    let directory = invocation
        .flags
        .value("bundle")
        .filter(|bundle| !bundle.is_empty())
        .unwrap_or(".");
    let path = Path::new(directory).join("config.json");
    let text = if invocation.flags.on("rootless") {
        rootless(geteuid().as_raw(), getegid().as_raw())
    } else {
        ROOT.to_owned()
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    let written = options
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => Ok(0),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Failure::File(
            "File config.json exists. Remove it first".to_owned(),
        )),
        Err(error) => Err(Failure::File(format!(
            "write({path:?}): {}",
            crate::format::io(&error)
        ))),
    }
}

/// Root in the container is the caller outside.
fn rootless(uid: u32, gid: u32) -> String {
    let host_id = |id| format!("\"hostID\": {id}");
    let (before, after) = ROOTLESS.split_once(&host_id(0)).unwrap_or((ROOTLESS, ""));
    format!(
        "{before}{}{}",
        host_id(uid),
        after.replacen(&host_id(0), &host_id(gid), 1)
    )
}

#[cfg(test)]
mod tests {
    use runtime_core::spec::Spec;

    use super::*;

    #[test]
    fn both_are_configurations() {
        Spec::from_json(ROOT.as_bytes()).unwrap();
        let spec = Spec::from_json(rootless(1000, 1001).as_bytes()).unwrap();
        let linux = spec.linux.unwrap();
        assert_eq!(linux.uid_mappings.unwrap()[0].host_id, 1000);
        assert_eq!(linux.gid_mappings.unwrap()[0].host_id, 1001);
    }
}
