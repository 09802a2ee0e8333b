//! The second disk: the job, our release programs and the built whole-program tests.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use ocirun_tests::machine::{Job, SHARE, Task};
use ocirun_tests::{build, own_program, program_in_path};
use serde_json::Value;

use crate::image::{run, tree_size};

/// The one that boots a machine itself.
const NOT_INSIDE: &str = "machine";

/// In front of the names of what tests `ocirun-image`, which has little to do with a machine's cgroups.
const IMAGE_PREFIX: &str = "image_";
/// How the tests of the shim are called.
const SHIM_PREFIX: &str = "shim_";
/// Those of the server, which needs the shim too.
const CRI_PREFIX: &str = "cri";
/// Its clients, which are no packages: shared in where the host has them in PATH.
const CRI_CLIENTS: [&str; 2] = ["crictl", "critest"];
/// What the tests of the server look at is passed on.
const CRI_VARIABLES: [&str; 2] = ["CRITEST_FOCUS", "CRITEST_MINUTES"];

/// What cargo built of the package of tests.
#[derive(Debug)]
pub struct Built {
    /// Test files by name.
    tests: Vec<(String, PathBuf)>,
    guest: PathBuf,
    probe: PathBuf,
    demo: PathBuf,
}

impl Built {
    /// The whole-program tests and the programs they use: those of `OCIRUN_MACHINE_PROGRAMS`, or built now.
    ///
    /// # Errors
    /// In words, if something is missing or cargo fails.
    pub fn get() -> Result<Self, String> {
        match std::env::var_os("OCIRUN_MACHINE_PROGRAMS") {
            Some(directory) if !directory.is_empty() => Self::in_directory(Path::new(&directory))
                .map_err(|error| format!("{}: {error}", directory.display())),
            _ => Self::with_cargo(),
        }
    }

    /// What cargo left in a `deps` directory: of each test file the newest program, beside older ones and those of
    /// other features. It was built from today's sources if any was.
    fn in_directory(deps: &Path) -> io::Result<Self> {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let mut tests = Vec::new();
        for entry in fs::read_dir(sources)? {
            let path = entry?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            if path.extension().is_some_and(|end| end == "rs") && name != NOT_INSIDE {
                tests.push((name.clone().into_owned(), newest(deps, &name)?));
            }
        }
        tests.sort();
        let beside = deps.parent().unwrap_or(deps);
        Ok(Self {
            tests,
            guest: beside.join("ocirun-guest"),
            probe: beside.join("ocirun-probe"),
            demo: beside.join("ocirun-demo"),
        })
    }

    fn with_cargo() -> Result<Self, String> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["test", "--no-run", "--package", "ocirun-tests", "--quiet"])
            .args(["--test", "*"])
            .arg("--message-format=json-render-diagnostics")
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("start cargo: {error}"))?;
        if !output.status.success() {
            return Err(format!("cargo test --no-run: {}", output.status));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let messages: Vec<Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let of_kind = |kind: &'static str, test: bool| {
            messages
                .iter()
                .filter(move |message| {
                    message["target"]["kind"][0] == kind && message["profile"]["test"] == test
                })
                .filter_map(|message| {
                    let name = message["target"]["name"].as_str()?.to_owned();
                    Some((name, PathBuf::from(message["executable"].as_str()?)))
                })
        };
        let program = |wanted: &str| {
            of_kind("bin", false)
                .find(|(name, _)| name == wanted)
                .map(|(_, path)| path)
                .ok_or_else(|| format!("cargo built no {wanted}"))
        };
        let mut tests: Vec<_> = of_kind("test", true)
            .filter(|(name, _)| name != NOT_INSIDE)
            .collect();
        tests.sort();
        Ok(Self {
            guest: program("ocirun-guest")?,
            probe: program("ocirun-probe")?,
            demo: program("ocirun-demo")?,
            tests,
        })
    }

    /// The guest's program.
    #[must_use]
    pub fn guest(&self) -> &Path {
        &self.guest
    }

    /// The names of these test files; all of the runtime and the shim without a name, all there are for `all`.
    ///
    /// # Errors
    /// In words, if there is no such file.
    pub fn choose(&self, wanted: &[String]) -> Result<Vec<String>, String> {
        let all = || self.tests.iter().map(|(name, _)| name.clone());
        let unknown = |name: &&String| all().all(|other| other != **name);
        match wanted {
            [] => Ok(all()
                .filter(|name| !name.starts_with(IMAGE_PREFIX) && !name.starts_with(CRI_PREFIX))
                .collect()),
            [word] if word == "all" => Ok(all().collect()),
            names => match names.iter().find(unknown) {
                Some(name) => Err(format!("{name}: no such test file")),
                None => Ok(names.to_vec()),
            },
        }
    }

    /// The task that runs a test file.
    #[must_use]
    pub fn task(name: &str, arguments: &[String]) -> Task {
        let program = format!("{SHARE}/deps/{name}");
        Task {
            name: name.to_owned(),
            command: [&[program], arguments].concat(),
        }
    }
}

/// The task that measures the start of containers.
#[must_use]
pub fn bench_task(arguments: &[String]) -> Task {
    let command = [format!("{SHARE}/ocirun-bench"), "start".to_owned()];
    Task {
        name: "bench".to_owned(),
        command: [&command, arguments].concat(),
    }
}

/// The newest of the programs `name-HASH`.
fn newest(deps: &Path, name: &str) -> io::Result<PathBuf> {
    let mut found: Option<(SystemTime, PathBuf)> = None;
    for entry in fs::read_dir(deps)? {
        let entry = entry?;
        let file = entry.file_name().to_string_lossy().into_owned();
        let hash = file
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('-'));
        if hash.is_some_and(|hash| hash.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            let time = entry.metadata()?.modified()?;
            if found.as_ref().is_none_or(|(newest, _)| time > *newest) {
                found = Some((time, entry.path()));
            }
        }
    }
    found
        .map(|(_, path)| path)
        .ok_or_else(|| io::Error::other(format!("no program of the test file {name}")))
}

/// The programs under test: where they are on the host, and what the tests are told.
#[derive(Debug)]
pub struct Programs {
    files: Vec<PathBuf>,
    /// For the job.
    pub environment: Vec<(String, String)>,
}

impl Programs {
    /// `RUNTIME`, `INIT`, `IMAGE_PROGRAM`, `SHIM` and `CRI`: a path of the host is shared in, a name is one of the machine's own
    /// programs. Without them ours are built, as far as these test files use them.
    ///
    /// # Errors
    /// In words, if a named program is not there.
    pub fn choose(tests: &[String]) -> Result<Self, String> {
        let image = tests.iter().any(|name| name.starts_with(IMAGE_PREFIX));
        let mut own = Self {
            files: Vec::new(),
            environment: Vec::new(),
        };
        own.add("RUNTIME", || Some(build("oci-runtime", "ocirun")))?;
        // The tests of the init carry ours with them.
        own.add("INIT", || None)?;
        own.add("IMAGE_PROGRAM", || {
            image.then(|| build("image-store", "ocirun-image"))
        })?;
        let cri = tests.iter().any(|name| name.starts_with(CRI_PREFIX));
        let shim = cri || tests.iter().any(|name| name.starts_with(SHIM_PREFIX));
        own.add("SHIM", || shim.then(|| build("ocirun-shim", "ocirun-shim")))?;
        own.add("CRI", || cri.then(|| build("cri-server", "ocirun-cri")))?;
        if cri {
            own.add_clients();
        }
        Ok(own)
    }

    fn add_clients(&mut self) {
        self.files
            .extend(CRI_CLIENTS.iter().filter_map(program_in_path));
        self.files.push(own_program("ocirun-critest-programs"));
        let path = format!("{SHARE}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        self.environment.push(("PATH".to_owned(), path));
        for name in CRI_VARIABLES {
            if let Ok(value) = std::env::var(name) {
                self.environment.push((name.to_owned(), value));
            }
        }
    }

    /// What measures, and our runtime.
    #[must_use]
    pub fn bench() -> Self {
        let bench = build("ocirun-bench", "ocirun-bench");
        let parts = ["floor", "payload", "rss"].map(|name| format!("ocirun-bench-{name}"));
        let parts = parts.map(|name| build("ocirun-bench", &name));
        let mut files = vec![build("oci-runtime", "ocirun"), bench];
        files.extend(parts);
        Self {
            files,
            environment: vec![
                ("BENCH_PROGRAMS".to_owned(), SHARE.to_owned()),
                ("CARGO_TARGET_DIR".to_owned(), "/tmp".to_owned()),
            ],
        }
    }

    fn add(&mut self, variable: &str, ours: impl Fn() -> Option<PathBuf>) -> Result<(), String> {
        let given = std::env::var(variable).unwrap_or_default();
        let path = match given.as_str() {
            "" => ours(),
            name if !name.contains('/') => {
                self.environment.push((variable.to_owned(), given));
                return Ok(());
            }
            path => Some(
                fs::canonicalize(path).map_err(|error| format!("{variable}={path}: {error}"))?,
            ),
        };
        if let Some(path) = path {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            self.environment
                .push((variable.to_owned(), format!("{SHARE}/{name}")));
            self.files.push(path);
        }
        Ok(())
    }
}

/// Writes the disk.
///
/// # Errors
/// In words.
pub fn write(
    scratch: &Path,
    built: &Built,
    programs: &Programs,
    job: &Job,
) -> Result<PathBuf, String> {
    let tree = scratch.join("share");
    fill(&tree, built, programs, job)
        .map_err(|error| format!("write the shared files: {error}"))?;
    let disk = scratch.join("share.ext4");
    let size = 32 + tree_size(&tree)? / (1 << 20) * 11 / 10;
    run(Command::new("mke2fs")
        .args([
            "-q",
            "-t",
            "ext4",
            "-O",
            "^has_journal",
            "-E",
            "root_owner=0:0",
            "-d",
        ])
        .arg(&tree)
        .arg(&disk)
        .arg(format!("{size}M")))?;
    Ok(disk)
}

fn fill(tree: &Path, built: &Built, programs: &Programs, job: &Job) -> io::Result<()> {
    // Test programs find the probe where cargo puts it: beside their directory.
    fs::create_dir_all(tree.join("deps"))?;
    fs::write(tree.join("job.json"), serde_json::to_vec(job)?)?;
    place(&built.guest, &tree.join("ocirun-guest"))?;
    place(&built.probe, &tree.join("ocirun-probe"))?;
    place(&built.demo, &tree.join("ocirun-demo"))?;
    for path in &programs.files {
        place(path, &tree.join(path.file_name().unwrap_or_default()))?;
    }
    for (name, path) in &built.tests {
        // A script of `sh` may name one as well.
        let program = format!("{SHARE}/deps/{name}");
        let named = |word: &String| {
            word.match_indices(&program).any(|(at, _)| {
                let rest = &word[at + program.len()..];
                !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_')
            })
        };
        if job.tasks.iter().any(|task| task.command.iter().any(named)) {
            place(path, &tree.join("deps").join(name))?;
        }
    }
    Ok(())
}

/// A link where that is possible.
fn place(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to).or_else(|_other_file_system| fs::copy(from, to).map(drop))
}
