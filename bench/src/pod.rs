//! The suites `pod` and `pod-network`: pods with one container each, on the host's network or on one that plugins make,
//! by the Container Runtime Interface; ocirun-cri beside containerd, both asked in the same way.

mod daemon;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use self::daemon::{Daemon, Kind, Pod};
use crate::cgroups::Cgroups;
use crate::options::Options;
use crate::programs::{Node, in_path};
use crate::sys;
use crate::table::{Goal, Row, Table, Unit};

const OURS: &str = "ocirun-cri";
const CONTAINERD: &str = "containerd";
/// Pods that are held, and how many are brought up at a time.
const MANY: usize = 40;
const AT_ONCE: usize = 10;
/// Lines of 100 bytes that a container prints.
const LINES: usize = 1_000_000;
/// Rounds of the rows that hold many pods.
const LONG_RUNS: usize = 3;
const PAUSE: [&str; 2] = ["/bin/sleep", "100000"];

/// The network of the pods that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// The host's.
    Host,
    /// One of their own by the plugins bridge, host-local and portmap, in a network namespace of this process.
    Plugins,
}

/// What is to be reached, as part of containerd's.
struct Goals {
    run: f64,
    up: f64,
    down: f64,
    many: f64,
}

impl Network {
    fn suite(self) -> &'static str {
        match self {
            Self::Host => "pod",
            Self::Plugins => "pod-network",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Host => "Pods on the host network, by the Container Runtime Interface",
            Self::Plugins => {
                "Pods with bridge, host-local and portmap, by the Container Runtime Interface"
            }
        }
    }

    fn goals(self) -> Goals {
        let goals = |run, up, down, many| Goals {
            run,
            up,
            down,
            many,
        };
        match self {
            Self::Host => goals(0.08, 0.1, 0.1, 0.12),
            Self::Plugins => goals(0.5, 0.35, 0.5, 0.35),
        }
    }
}

/// Measures the rows that `options` ask for. What does not depend on the network is measured on the host's alone.
///
/// # Errors
/// What cannot be set up. A daemon that breaks costs only its own cells.
pub fn measure(options: &Options, network: Network) -> Result<Table, String> {
    sys::private_mounts().map_err(|error| format!("private mounts: {error}"))?;
    if network == Network::Plugins {
        daemon::private_network()?;
    }
    let dir = options.output.join(format!("pod-{}", std::process::id()));
    let lab = Lab { dir };
    fs::create_dir_all(&lab.dir).map_err(|error| format!("make {:?}: {error}", lab.dir))?;
    let cgroups = Cgroups::prepare(&lab.dir)?;
    let busybox = in_path("busybox").ok_or("busybox not found on this machine")?;
    let own = Node::build()?;
    let archives = daemon::images(&lab.dir, &busybox, &own.init)?;
    let start = |kind, name: &str, programs: Result<[PathBuf; 2], String>| {
        let cgroup = cgroups.path_of(name);
        let place = (lab.dir.join(name), cgroup);
        Daemon::start((kind, network), programs?, place, &archives)
    };
    let found =
        |name: &str| in_path(name).ok_or_else(|| format!("{name} not found on this machine"));
    let peer = found("containerd").and_then(|daemon| Ok([daemon, found("ctr")?]));
    let mut bench = Bench {
        subjects: vec![
            (
                OURS,
                start(Kind::Ocirun, OURS, Ok([own.daemon, own.images])),
            ),
            (CONTAINERD, start(Kind::Containerd, CONTAINERD, peer)),
        ],
        runs: options.runs,
        goals: network.goals(),
    };
    let mut table = Table {
        suite: network.suite(),
        title: network.title().to_owned(),
        notes: Vec::new(),
        rows: Vec::new(),
    };
    let rows: &[fn(&mut Bench) -> Vec<Row>] = match network {
        Network::Host => &[Bench::one, Bench::many, Bench::log],
        Network::Plugins => &[Bench::one, Bench::many],
    };
    for measure in rows {
        if !sys::interrupted() {
            table.rows.extend(measure(&mut bench));
        }
    }
    table.rows.retain(|row| options.wants(row.name));
    // Before the directories and cgroups that they use.
    drop(bench);
    Ok(table)
}

/// A directory that goes away with this.
struct Lab {
    dir: PathBuf,
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.dir));
    }
}

struct Bench {
    subjects: Vec<(&'static str, Result<Daemon, String>)>,
    runs: usize,
    goals: Goals,
}

/// Samples of several rows at once.
type Samples<const N: usize> = Result<[f64; N], String>;

impl Bench {
    /// Takes `runs` samples from each subject in turn, after `warm_up` uncounted ones, and fills the rows; a subject that
    /// fails is left out from then on.
    fn fill<const N: usize>(
        &mut self,
        mut rows: [Row; N],
        (warm_up, runs): (usize, usize),
        sample: fn(&mut Daemon) -> Samples<N>,
    ) -> Vec<Row> {
        let mut taken = self.subjects.iter().map(|_| Vec::new()).collect::<Vec<_>>();
        for round in 0..warm_up + runs {
            for ((_, daemon), taken) in self.subjects.iter_mut().zip(&mut taken) {
                let Ok(serving) = daemon else { continue };
                match sample(serving) {
                    Ok(_) if round < warm_up => {}
                    Ok(values) => taken.push(values),
                    Err(reason) => *daemon = Err(reason),
                }
            }
        }
        for ((name, daemon), taken) in self.subjects.iter().zip(taken) {
            for (index, row) in rows.iter_mut().enumerate() {
                match daemon {
                    Ok(_) => row.measured(name, taken.iter().map(|values| values[index]).collect()),
                    Err(reason) => row.missing(name, reason),
                }
            }
        }
        rows.into()
    }

    fn one(&mut self) -> Vec<Row> {
        let row = |name, label, most| goal(Row::new(name, label, Unit::Milliseconds), most);
        let rows = [
            row("pod-run", "RunPodSandbox", self.goals.run),
            row("pod-container", "CreateContainer and StartContainer", 0.12),
            row("pod-up", "the three together", self.goals.up),
            row("pod-exec", "ExecSync of true", 0.15),
            row(
                "pod-down",
                "StopContainer, StopPodSandbox and RemovePodSandbox",
                self.goals.down,
            ),
        ];
        self.fill(rows, (1, self.runs), |daemon| {
            let (run, pod) = timed(|| daemon.run_pod())?;
            let (container, id) = timed(|| daemon.run_container(&pod, &PAUSE))?;
            let (exec, ()) = timed(|| daemon.exec(&id, &["/bin/true"]))?;
            let (down, ()) = timed(|| daemon.remove(&pod, Some(&id)))?;
            Ok([run, container, run + container, exec, down])
        })
    }

    fn many(&mut self) -> Vec<Row> {
        let row = |name, label: String, unit, most| goal(Row::new(name, &label, unit), most);
        let rows = [
            row(
                "pod-many",
                format!("{MANY} pods, {AT_ONCE} at a time, until all are up"),
                Unit::Milliseconds,
                self.goals.many,
            ),
            row(
                "pod-daemon",
                format!("memory of the daemon with {MANY} pods"),
                Unit::Kibibytes,
                0.25,
            ),
            {
                let label = "memory of what keeps a pod".to_owned();
                let mut row = row("pod-memory", label, Unit::Kibibytes, 0.25);
                row.goals = vec![Goal::absolute(OURS, 1024.0)];
                row
            },
            row(
                "pod-restart",
                format!("daemon killed and started again until {MANY} pods are listed"),
                Unit::Milliseconds,
                0.2,
            ),
        ];
        self.fill(rows, (0, LONG_RUNS), |daemon| {
            let (up, pods) = timed(|| daemon.run_many(MANY, AT_ONCE, &PAUSE))?;
            let memory = daemon.memory()?;
            #[allow(clippy::cast_precision_loss, reason = "a small count")]
            let each = daemon.memory_of_pods()? / MANY as f64;
            let restart = daemon.restart(MANY)?.as_secs_f64() * 1e3;
            for pod in &pods {
                daemon.remove(pod, None)?;
            }
            Ok([up, memory, each, restart])
        })
    }

    fn log(&mut self) -> Vec<Row> {
        let row = Row::new(
            "pod-log",
            "a line of 100 bytes in the log",
            Unit::Microseconds,
        );
        self.fill([goal(row, 0.2)], (0, LONG_RUNS), |daemon| {
            let pod = daemon.run_pod()?;
            let sample = log_of(daemon, &pod);
            daemon.remove(&pod, None)?;
            Ok([sample?])
        })
    }
}

fn log_of(daemon: &mut Daemon, pod: &Pod) -> Result<f64, String> {
    let script = format!("yes {} | head -n {LINES}", "x".repeat(99));
    let begin = Instant::now();
    let id = daemon.run_container(pod, &["/bin/sh", "-c", &script])?;
    daemon.wait_for_end(&id)?;
    let seconds = begin.elapsed().as_secs_f64();
    let path = Daemon::log(pod);
    let log = fs::read(&path).map_err(|error| format!("read {path:?}: {error}"))?;
    let lines = log.split(|byte| *byte == b'\n').count() - 1;
    if lines != LINES {
        return Err(format!("{lines} of {LINES} lines are in the log"));
    }
    #[allow(clippy::cast_precision_loss, reason = "a small count")]
    Ok(seconds * 1e6 / LINES as f64)
}

/// What `work` takes, in milliseconds.
fn timed<T>(work: impl FnOnce() -> Result<T, String>) -> Result<(f64, T), String> {
    let begin = Instant::now();
    let done = work()?;
    Ok((begin.elapsed().as_secs_f64() * 1e3, done))
}

fn goal(mut row: Row, most: f64) -> Row {
    row.goals.push(Goal::ratio(OURS, CONTAINERD, most));
    row
}
