//! `ocirun-init`: where a container's configuration asks for it by its annotation, and as the first process of a pod.

use ocirun_shim::wire::Code;
use runtime_core::spec::Spec;
use runtime_core::{InitProgram, InitRuns};

use crate::failure::{Failure, Result};

/// The init of a container, if it is to have one.
pub(crate) fn of_spec(spec: &Spec) -> Result<Option<InitProgram>> {
    let annotations = spec.annotations.as_ref();
    let annotation = annotations.and_then(|all| all.get(ocirun_init::ANNOTATION));
    let annotated = annotation.map_or(Ok(None), |value| ocirun_init::annotated(value));
    let flags = annotated.map_err(|wrong| Failure::new(Code::InvalidArgument, wrong))?;
    Ok(flags.map(|flags| {
        let words = ocirun_init::words(flags, spec.has_new_pids());
        program(&words, InitRuns::Program)
    }))
}

/// The init that holds a pod's PID namespace, reaps, and runs nothing.
pub(crate) fn of_pod() -> InitProgram {
    program(&["ocirun-init"], InitRuns::Nothing)
}

fn program(words: &[&str], runs: InitRuns) -> InitProgram {
    InitProgram::new(ocirun_init::PROGRAM, words, ocirun_init::EMPTY_MASK, runs)
}
