//! ocirun-init, and with INIT=/usr/bin/tini (dumb-init, catatonit) its peers: what a PID 1 must do.
//!
//! Each case names the peers that are known to fail it; run on such a peer, it must fail. What does not apply to the
//! program under test, or cannot run on this machine, is reported as ignored, by name.
#![expect(
    clippy::expect_used,
    reason = "a harness of its own: the lint knows only #[test] functions"
)]

#[path = "init/cases_dumb_init.rs"]
mod cases_dumb_init;
#[path = "init/cases_new.rs"]
mod cases_new;
#[path = "init/cases_tini.rs"]
mod cases_tini;
#[path = "init/record.rs"]
mod record;
#[path = "init/refuse.rs"]
mod refuse;
#[path = "init/support.rs"]
mod support;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use support::{Kind, Outcome, Subject};

/// One promise.
struct Case {
    name: &'static str,
    kind: Kind,
    /// Peers that do not keep it, and why.
    broken: &'static [(Kind, &'static str)],
    run: fn(&Subject) -> Outcome,
}

/// A case that every peer of its kind passes.
const fn case(name: &'static str, kind: Kind, run: fn(&Subject) -> Outcome) -> Case {
    Case {
        name,
        kind,
        broken: &[],
        run,
    }
}

impl Case {
    /// Names the peers that fail.
    const fn broken(mut self, broken: &'static [(Kind, &'static str)]) -> Self {
        self.broken = broken;
        self
    }

    fn trial(self, subject: &Arc<Subject>) -> Trial {
        let subject = Arc::clone(subject);
        let applies = subject.speaks(self.kind);
        let broken = self
            .broken
            .iter()
            .find(|(kind, _)| Some(*kind) == subject.peer);
        let name = broken.map_or_else(
            || self.name.to_owned(),
            |(kind, why)| format!("{} ({kind:?} fails: {why})", self.name),
        );
        let (run, expected) = (self.run, broken.is_none());
        let body = move || match (run(&subject), expected) {
            (Ok(()), true) | (Err(_), false) => Ok(()),
            (Err(what), true) => Err(Failed::from(what)),
            (Ok(()), false) => Err(Failed::from("the peer passes: the case's list is wrong")),
        };
        Trial::test(name, body).with_ignored_flag(!applies || !is_root())
    }
}

/// Private PID namespaces and other users need root.
fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if let [_, flag, file] = words.as_slice()
        && flag == "--record"
    {
        return if record::run(file).is_ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    if let [_, word, line @ ..] = words.as_slice()
        && let Some(refused) = refuse::Refused::of(word)
    {
        let refusal = refused.launch(line);
        eprintln!("{line:?}: {refusal:?}");
        return ExitCode::FAILURE;
    }
    let subject = Arc::new(Subject::from_environment());
    let cases = cases_tini::all()
        .into_iter()
        .chain(cases_dumb_init::all())
        .chain(cases_new::all());
    let trials = cases.map(|case| case.trial(&subject)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
