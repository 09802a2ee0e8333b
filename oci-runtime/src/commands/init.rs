//! `--init` and its annotation: a PID 1 of our own in front of the container's program.

use runtime_core::spec::Spec;
use runtime_core::{InitProgram, InitRuns};

use super::Failure;
use crate::cli::Flags;

/// The init that a container gets, if the command line or, where that is silent, the annotation asks for one.
pub(super) fn program(flags: &Flags, spec: &Spec) -> Result<Option<InitProgram>, Failure> {
    let annotations = spec.annotations.as_ref();
    let annotation = annotations.and_then(|all| all.get(ocirun_init::ANNOTATION));
    let annotated = annotation.map_or(Ok(None), |value| ocirun_init::annotated(value));
    let typed = flags.value("init").map(|_| flags.on("init"));
    let wanted = match (typed, annotated.map_err(Failure::Argument)?) {
        (Some(false), _) | (None, None) => return Ok(None),
        (_, Some(flags)) => flags,
        (Some(true), None) => Vec::new(),
    };
    let words = ocirun_init::words(wanted, spec.has_new_pids());
    Ok(Some(InitProgram::new(
        ocirun_init::PROGRAM,
        &words,
        ocirun_init::EMPTY_MASK,
        InitRuns::Program,
    )))
}
