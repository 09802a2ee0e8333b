//! The init that a container's configuration asks for by its annotation, as `ocirun` gives it.

use std::ffi::CString;

use ocirun_shim::wire::Code;
use runtime_core::spec::{NamespaceKind, Spec};
use runtime_core::{InitProgram, InitRuns};

use crate::failure::{Failure, Result};

/// The annotation: `true`, `false`, or flags of ocirun-init with spaces between them.
const ANNOTATION: &str = "org.ocirun.init";

/// The init of a container, if it is to have one.
pub(crate) fn of_spec(spec: &Spec) -> Result<Option<InitProgram>> {
    let annotations = spec.annotations.as_ref();
    let flags: Vec<&str> = match annotations.and_then(|all| all.get(ANNOTATION)) {
        None => return Ok(None),
        Some(value) => match value.trim() {
            "" | "false" => return Ok(None),
            "true" => Vec::new(),
            flags => flags.split_ascii_whitespace().collect(),
        },
    };
    ocirun_init::check_flags(&flags).map_err(|wrong| {
        let text = format!(
            "/annotations/{ANNOTATION}: neither true, false nor flags of ocirun-init: {wrong}"
        );
        Failure::new(Code::InvalidArgument, text)
    })?;
    // Orphans come to it in any case.
    let subreaper = (!is_pid_1(spec)).then_some("-s");
    let words = ["ocirun-init"].into_iter().chain(subreaper).chain(flags);
    Ok(Some(program(words.chain(["--"]), InitRuns::Program)))
}

/// The init that holds a pod's PID namespace, reaps, and runs nothing.
pub(crate) fn of_pod() -> InitProgram {
    program(["ocirun-init"].into_iter(), InitRuns::Nothing)
}

fn program<'a>(words: impl Iterator<Item = &'a str>, runs: InitRuns) -> InitProgram {
    let mask = format!("{}={:016x}", ocirun_init::LAUNCHER_MASK_VARIABLE, 0);
    InitProgram {
        bytes: ocirun_init::PROGRAM,
        args: words.filter_map(|word| CString::new(word).ok()).collect(),
        program: runs,
        env: CString::new(mask).into_iter().collect(),
    }
}

/// Whether the container's first process is the first of its PID namespace.
fn is_pid_1(spec: &Spec) -> bool {
    let namespaces = spec
        .linux
        .iter()
        .flat_map(|linux| linux.namespaces.iter().flatten());
    namespaces
        .filter(|namespace| namespace.kind == NamespaceKind::Pid)
        .any(|namespace| namespace.path.as_deref().is_none_or(str::is_empty))
}
