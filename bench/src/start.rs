//! The suite `start`: what it takes to start a container, for every runtime found.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::container::Created;
use crate::lab::{Lab, PAYLOAD, TRUE};
use crate::options::Options;
use crate::programs::{self, Own, Runtime};
use crate::sample::{Subject, interleave};
use crate::table::{Goal, Row, Table, Unit};
use crate::{spec, sys};

/// How many containers are started at once.
const CROWD: usize = 100;
/// Where profiles of podman and Docker are looked for, after the variable `SECCOMP_PROFILE`.
const PROFILES: [&str; 2] = [
    "/usr/share/containers/seccomp.json",
    "/etc/containers/seccomp.json",
];
/// The name of our runtime in the report.
const OURS: &str = "ocirun";
/// The name of the floor program in the report.
const FLOOR: &str = "floor";

type Sampled = Result<f64, String>;

/// Measures the suite's rows that `options` ask for.
///
/// # Errors
/// What cannot be set up. A runtime that breaks costs only its own cells.
pub fn measure(options: &Options) -> Result<Table, String> {
    let own = Own::build()?;
    let runtimes = programs::runtimes();
    let directory = options.output.join(format!("start-{}", std::process::id()));
    let lab = Lab::set_up(&directory, &own, options.driver)?;
    let bench = Bench {
        lab,
        own,
        runtimes,
        runs: options.runs,
    };
    let rows: [(&str, Measure); 8] = [
        ("run", Bench::run),
        ("run-seccomp", Bench::run_with_seccomp),
        ("lifecycle", Bench::lifecycle),
        ("exec", Bench::exec),
        ("state", Bench::state),
        ("crowd", Bench::crowd),
        ("memory", Bench::memory),
        ("size", Bench::size),
    ];
    let mut table = Table {
        suite: "start",
        title: "Start of a container".to_owned(),
        notes: bench.notes(),
        rows: Vec::new(),
    };
    for (name, row) in rows {
        if options.wants(name) && !sys::interrupted() {
            table.rows.push(row(&bench)?);
        }
    }
    Ok(table)
}

type Measure = fn(&Bench) -> Result<Row, String>;

/// What every row needs.
struct Bench {
    lab: Lab,
    own: Own,
    runtimes: Vec<Runtime>,
    runs: usize,
}

impl Bench {
    fn notes(&self) -> Vec<String> {
        vec![
            format!("the container runs {}", self.lab.payload()),
            format!(
                "control groups: {}, made {}",
                self.lab.cgroups.describe(),
                self.lab.describe_driver()
            ),
            "the default spec of `runc spec` without a terminal; the floor neither masks paths nor mounts /sys/fs/cgroup".to_owned(),
            "memory: resident peak of the largest process among the runtime and those it waited for, shared pages and a payload of our own included".to_owned(),
        ]
    }

    /// `run` to exit.
    fn run(&self) -> Result<Row, String> {
        let mut row = self.run_row("run", "run to exit", None)?;
        row.goals.extend(self.ratio("crun", 0.5));
        row.goals.push(Goal::ratio(OURS, FLOOR, 1.5));
        Ok(row)
    }

    /// The same with a seccomp profile.
    fn run_with_seccomp(&self) -> Result<Row, String> {
        let asked = std::env::var_os("SECCOMP_PROFILE").map(PathBuf::from);
        let Some(path) = asked.or_else(|| {
            PROFILES
                .map(PathBuf::from)
                .into_iter()
                .find(|path| path.exists())
        }) else {
            let mut row = Row::new(
                "run-seccomp",
                "run to exit with a seccomp profile",
                Unit::Milliseconds,
            );
            for runtime in &self.runtimes {
                row.missing(
                    &runtime.name,
                    "no profile found (SECCOMP_PROFILE names one)",
                );
            }
            return Ok(row);
        };
        let text = fs::read(&path).map_err(|error| format!("read {}: {error}", path.display()))?;
        let profile: Value = serde_json::from_slice(&text)
            .map_err(|error| format!("parse {}: {error}", path.display()))?;
        let label = format!("run to exit with {}", path.display());
        let mut row = self.run_row("run-seccomp", &label, Some(&spec::seccomp(&profile)))?;
        row.goals.extend(self.ratio("crun", 0.5));
        Ok(row)
    }

    fn run_row(
        &self,
        name: &'static str,
        label: &str,
        seccomp: Option<&Value>,
    ) -> Result<Row, String> {
        let bundle = self.lab.bundle(name, &[TRUE], seccomp)?;
        let mut subjects = self.subjects(|program| {
            let lab = &self.lab;
            let bundle = bundle.clone();
            Ok(Box::new(move || {
                Ok(milliseconds(
                    lab.timed(run_command(lab, program, &bundle, name))?,
                ))
            }))
        });
        subjects.push(Subject::new(FLOOR, || {
            Ok(milliseconds(self.lab.timed(self.floor(TRUE))?))
        }));
        Ok(filled(
            Row::new(name, label, Unit::Milliseconds),
            subjects,
            self.runs,
        ))
    }

    /// create, start, state and delete; the time between, until the container's process has ended, does not count.
    fn lifecycle(&self) -> Result<Row, String> {
        let bundle = self.lab.bundle("lifecycle", &[TRUE], None)?;
        let subjects = self.subjects(|program| {
            let bundle = bundle.clone();
            Ok(Box::new(move || self.one_lifecycle(program, &bundle)))
        });
        let row = Row::new(
            "lifecycle",
            "create + start + state + delete",
            Unit::Milliseconds,
        );
        let mut row = filled(row, subjects, self.runs);
        row.goals.extend(self.ratio("crun", 0.4));
        Ok(row)
    }

    fn one_lifecycle(&self, program: &Path, bundle: &Path) -> Sampled {
        let container = Created::new(&self.lab, program, bundle, "lifecycle")?;
        let verb = |verb| container.verb(&[verb, "lifecycle"]);
        let mut sum = container.took + verb("start")? + verb("state")?;
        sys::reap(container.pid);
        sum += verb("delete")?;
        container.deleted();
        Ok(milliseconds(sum))
    }

    /// exec of a program that exits at once, in a running container.
    fn exec(&self) -> Result<Row, String> {
        self.in_running(
            "exec",
            "exec true in a running container",
            &["exec", "ID", TRUE],
            0.5,
        )
    }

    /// state of a running container; the floor is the start of a program that does nothing.
    fn state(&self) -> Result<Row, String> {
        self.in_running(
            "state",
            "state of a running container",
            &["state", "ID"],
            0.4,
        )
    }

    fn in_running(
        &self,
        name: &'static str,
        label: &str,
        arguments: &[&str],
        goal: f64,
    ) -> Result<Row, String> {
        let mut subjects = self.subjects(|program| {
            // They run side by side: each in a control group, and unit, of its own.
            let id = format!("{name}-{}", program.to_string_lossy().replace('/', "_"));
            let bundle = self.lab.bundle(&id, &[PAYLOAD, "pause"], None)?;
            let container = Created::new(&self.lab, program, &bundle, &id)?;
            container.verb(&["start", &id])?;
            let arguments: Vec<String> = arguments
                .iter()
                .map(|word| word.replace("ID", &id))
                .collect();
            Ok(Box::new(move || {
                container.verb(&arguments).map(milliseconds)
            }))
        });
        if name == "state" {
            subjects.push(Subject::new(FLOOR, || {
                Ok(milliseconds(
                    self.lab.timed(Command::new(&self.own.payload))?,
                ))
            }));
        }
        let mut row = filled(
            Row::new(name, label, Unit::Milliseconds),
            subjects,
            self.runs,
        );
        row.goals.extend(self.ratio("crun", goal));
        Ok(row)
    }

    /// [`CROWD`] containers started at once, until the last is up.
    fn crowd(&self) -> Result<Row, String> {
        let bundles = (0..CROWD).map(|i| {
            self.lab
                .bundle(&format!("crowd-{i}"), &[PAYLOAD, "pause"], None)
        });
        let bundles = bundles.collect::<Result<Vec<_>, _>>()?;
        let bundles = bundles.as_slice();
        let subjects =
            self.subjects(|program| Ok(Box::new(move || self.one_crowd(program, bundles))));
        let label = format!("{CROWD} containers started at once, until all are up");
        let mut row = filled(
            Row::new("crowd", &label, Unit::Milliseconds),
            subjects,
            (self.runs / 20).max(3),
        );
        row.goals.extend(self.ratio("crun", 0.5));
        Ok(row)
    }

    fn one_crowd(&self, program: &Path, bundles: &[PathBuf]) -> Sampled {
        let start = Instant::now();
        let spawned = bundles.iter().enumerate().map(|(i, bundle)| {
            let id = format!("crowd-{i}");
            let mut command = self.lab.command(program);
            command
                .args(["run", "--detach", "--bundle"])
                .arg(bundle)
                .arg("--pid-file")
                .arg(self.lab.pid_file(&id))
                .arg(&id);
            command.spawn()
        });
        let spawned: Vec<_> = spawned.collect();
        let mut broken = None;
        for child in spawned {
            match child.and_then(|mut child| child.wait()) {
                Ok(status) if status.success() => {}
                Ok(status) => broken = Some(format!("one of them: {status}")),
                Err(error) => broken = Some(format!("one of them: {error}")),
            }
        }
        let elapsed = start.elapsed();
        for i in 0..CROWD {
            drop(Created::adopt(&self.lab, program, &format!("crowd-{i}")));
        }
        match broken {
            Some(reason) => Err(reason),
            None => Ok(milliseconds(elapsed)),
        }
    }

    /// Peak resident memory of `run`, with the smallest payload, as busybox needs more than the floor itself.
    fn memory(&self) -> Result<Row, String> {
        let bundle = self.lab.bundle("memory", &[PAYLOAD], None)?;
        let mut subjects = self.subjects(|program| {
            let bundle = bundle.clone();
            Ok(Box::new(move || {
                self.peak(&run_command(&self.lab, program, &bundle, "memory"))
            }))
        });
        subjects.push(Subject::new(FLOOR, || self.peak(&self.floor(PAYLOAD))));
        let row = Row::new("memory", "peak resident memory of run", Unit::Kibibytes);
        let mut row = filled(row, subjects, (self.runs / 10).max(3));
        row.goals.push(Goal::absolute(OURS, 1536.0));
        Ok(row)
    }

    fn peak(&self, command: &Command) -> Sampled {
        let output = Command::new(&self.own.rss)
            .arg(command.get_program())
            .args(command.get_args())
            .output();
        let output = output.map_err(|error| format!("run {}: {error}", self.own.rss.display()))?;
        if !output.status.success() {
            return Err(format!(
                "{}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            ));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim()
            .parse()
            .map_err(|_| format!("no figure but {text:?}"))
    }

    /// Size of the program on disk.
    fn size(&self) -> Result<Row, String> {
        let subjects = self.subjects(|program| {
            Ok(Box::new(move || {
                programs::size_with_libraries(program).map(kibibytes)
            }))
        });
        let row = Row::new(
            "size",
            "size of the program with its shared libraries",
            Unit::Kibibytes,
        );
        let mut row = filled(row, subjects, 1);
        row.goals.push(Goal::absolute(OURS, 1536.0));
        Ok(row)
    }

    /// One subject a runtime; `prepare` returns what takes a sample.
    fn subjects<'a>(
        &'a self,
        prepare: impl Fn(&'a Path) -> Result<Sampler<'a>, String>,
    ) -> Vec<Subject<'a>> {
        let subject = |runtime: &'a Runtime| {
            let sampler = runtime
                .program
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|program| prepare(program));
            match sampler {
                Ok(sample) => Subject {
                    name: runtime.name.clone(),
                    sample,
                },
                Err(reason) => Subject::new(&runtime.name, move || Err(reason.clone())),
            }
        };
        self.runtimes.iter().map(subject).collect()
    }

    /// The goal against the first runtime whose name begins with `peer`.
    fn ratio(&self, peer: &str, at_most: f64) -> Option<Goal> {
        let peer = self
            .runtimes
            .iter()
            .find(|runtime| runtime.name.starts_with(peer))?;
        Some(Goal::ratio(OURS, &peer.name, at_most))
    }

    fn floor(&self, program: &str) -> Command {
        let mut command = Command::new(&self.own.floor);
        command
            .arg(self.lab.rootfs())
            .arg(program)
            .args(self.lab.cgroups.floor_arguments(FLOOR));
        command
    }
}

type Sampler<'a> = Box<dyn FnMut() -> Sampled + 'a>;

fn filled(mut row: Row, subjects: Vec<Subject<'_>>, runs: usize) -> Row {
    interleave(&mut row, subjects, runs);
    row
}

fn run_command(lab: &Lab, program: &Path, bundle: &Path, id: &str) -> Command {
    let mut command = lab.command(program);
    command.args(["run", "--bundle"]).arg(bundle).arg(id);
    command
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[allow(
    clippy::cast_precision_loss,
    reason = "sizes of programs are far below 2^52"
)]
fn kibibytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}
