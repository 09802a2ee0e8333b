//! `--init` and its annotation: a PID 1 of our own in front of the container's program.

use std::collections::BTreeMap;
use std::ffi::CString;

use runtime_core::spec::{NamespaceKind, Spec};
use runtime_core::{InitProgram, InitRuns};

use super::Failure;
use crate::cli::Flags;

/// The annotation of the configuration: `true`, `false`, or flags of ocirun-init with spaces between them.
const ANNOTATION: &str = "org.ocirun.init";

/// The init that a container gets, if the command line or, where that is silent, the annotation asks for one.
pub(super) fn program(flags: &Flags, spec: &Spec) -> Result<Option<InitProgram>, Failure> {
    let annotation = annotated(spec.annotations.as_ref())?;
    let typed = flags.value("init").map(|_| flags.on("init"));
    let wanted = match (typed, annotation) {
        (Some(false), _) | (None, None) => return Ok(None),
        (_, Some(flags)) => flags,
        (Some(true), None) => Vec::new(),
    };
    // Orphans come to it in any case.
    let subreaper = (!is_pid_1(spec)).then_some("-s");
    let words = ["ocirun-init"].into_iter().chain(subreaper).chain(wanted);
    let mask = format!("{}={:016x}", ocirun_init::LAUNCHER_MASK_VARIABLE, 0);
    Ok(Some(InitProgram {
        bytes: ocirun_init::PROGRAM,
        args: words
            .chain(["--"])
            .filter_map(|word| CString::new(word).ok())
            .collect(),
        program: InitRuns::Program,
        env: CString::new(mask).into_iter().collect(),
    }))
}

/// The flags that the annotation gives, if it asks for an init.
fn annotated(annotations: Option<&BTreeMap<String, String>>) -> Result<Option<Vec<&str>>, Failure> {
    let flags: Vec<&str> = match annotations.and_then(|all| all.get(ANNOTATION)) {
        None => return Ok(None),
        Some(value) => match value.trim() {
            "" | "false" => return Ok(None),
            "true" => Vec::new(),
            flags => flags.split_ascii_whitespace().collect(),
        },
    };
    match ocirun_init::check_flags(&flags) {
        Ok(()) => Ok(Some(flags)),
        Err(wrong) => Err(Failure::Argument(format!(
            "/annotations/{ANNOTATION}: neither true, false nor flags of ocirun-init: {wrong}"
        ))),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn annotation(value: &str) -> Result<Option<Vec<String>>, String> {
        let all = BTreeMap::from([(ANNOTATION.to_owned(), value.to_owned())]);
        let flags = annotated(Some(&all)).map_err(|wrong| wrong.to_string())?;
        Ok(flags.map(|flags| flags.into_iter().map(str::to_owned).collect()))
    }

    #[test]
    fn annotations() {
        let off: Option<&[&str]> = None;
        for (value, expected) in [
            ("true", Some(&[][..])),
            ("false", off),
            ("", off),
            (" -g  --stop-tree=5 ", Some(&["-g", "--stop-tree=5"])),
        ] {
            let expected = expected.map(|flags| flags.iter().map(ToString::to_string).collect());
            assert_eq!(annotation(value), Ok(expected), "{value:?}");
        }
        for (value, words) in [
            ("yes", "would not run"),
            ("--nope", "unknown flag \"--nope\""),
            ("-h", "would not run"),
        ] {
            let wrong = annotation(value).unwrap_err();
            assert!(
                wrong.starts_with("/annotations/org.ocirun.init: "),
                "{wrong}"
            );
            assert!(wrong.contains(words), "{wrong}");
        }
        assert!(annotated(None).is_ok_and(|flags| flags.is_none()));
    }
}
