//! The command line.

use std::path::PathBuf;

use crate::programs;

/// What `--help` prints.
pub const HELP: &str = "\
Measures ocirun beside the runtimes found on this machine.

usage: cargo bench-peers [SUITE...] [--runs N] [--only ROW]... [--json FILE] [--systemd]

  SUITE        start, pull, pod, pod-network (all suites without one)
  --runs N     samples of each subject in a row (100; pull takes five at most)
  --only ROW   measure this row alone; may be repeated
  --json FILE  write the figures there as well as under target/bench/
  --systemd    have the runtimes of the suite start ask systemd for their cgroups
  --help       print this

environment:
  BENCH_PROGRAMS   a directory with our programs, which are built otherwise
  IMAGE_PROGRAM    the image program to measure instead of the one of this workspace
  RUNTIMES         paths of further runtimes with runc's command line, commas between
  SECCOMP_PROFILE  a profile as podman and Docker ship it
";

/// The names of the suites.
pub const SUITES: [&str; 4] = ["start", "pull", "pod", "pod-network"];

/// Who makes the cgroups of containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// The runtime.
    Cgroupfs,
    /// systemd, asked by the runtime.
    Systemd,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The suites to measure.
    pub suites: Vec<String>,
    /// Samples of each subject in a row.
    pub runs: usize,
    /// The rows to measure; all if empty.
    pub only: Vec<String>,
    /// A further place for the figures.
    pub json: Option<PathBuf>,
    /// The directory for reports and scratch data, `target/bench`.
    pub output: PathBuf,
    /// Who makes the cgroups of containers.
    pub driver: Driver,
    /// Whether the help was asked for.
    pub help: bool,
}

impl Options {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// What is wrong with them, in one line.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| programs::workspace().join("target"), PathBuf::from);
        let output = target.join("bench");
        let mut options = Self {
            suites: Vec::new(),
            runs: 100,
            only: Vec::new(),
            json: None,
            output,
            driver: Driver::Cgroupfs,
            help: false,
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| format!("{argument} needs a value"))
            };
            match argument.as_str() {
                "--help" | "-h" => options.help = true,
                "--runs" => options.runs = positive(&value()?)?,
                "--only" => options.only.push(value()?),
                "--systemd" => options.driver = Driver::Systemd,
                "--json" => options.json = Some(value()?.into()),
                suite if SUITES.contains(&suite) => options.suites.push(argument),
                other => return Err(format!("unknown argument {other:?}, see --help")),
            }
        }
        if options.suites.is_empty() {
            options.suites = SUITES.map(str::to_owned).to_vec();
        }
        Ok(options)
    }

    /// Whether a row is to be measured.
    pub fn wants(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == row)
    }
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|runs| *runs > 0)
        .ok_or_else(|| format!("--runs {text:?}: a positive number is needed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read() {
        let options = parse("start --runs 7 --only run --only state --json /x").unwrap();
        assert_eq!(
            (options.runs, options.only.len(), options.suites.as_slice()),
            (7, 2, ["start".to_owned()].as_slice())
        );
        assert!(options.wants("run") && !options.wants("exec"));
        assert!(parse("").unwrap().wants("exec"));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, part) in [
            ("--runs", "needs a value"),
            ("--runs 0", "positive"),
            ("--rusn 3", "unknown argument"),
        ] {
            assert!(parse(line).unwrap_err().contains(part), "{line}");
        }
    }
}
