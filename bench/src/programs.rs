//! The programs measured: our own, built here, and the peers found on the machine.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Peers looked for in PATH and in the directories for administrators.
const PEERS: [&str; 3] = ["runc", "crun", "youki"];

/// The PID 1 of containers.
const INIT: &str = "ocirun-init";

/// A runtime, with runc's command line.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Name and version, as the report shows it.
    pub name: String,
    /// Where it is, or why it cannot be measured.
    pub program: Result<PathBuf, String>,
}

/// The programs of this package, beside the bench itself.
#[derive(Debug, Clone)]
pub struct Own {
    /// `ocirun-bench-floor`
    pub floor: PathBuf,
    /// `ocirun-bench-payload`
    pub payload: PathBuf,
    /// `ocirun-bench-rss`
    pub rss: PathBuf,
}

impl Own {
    /// Builds them.
    ///
    /// # Errors
    /// What cargo could not build.
    pub fn build() -> Result<Self, String> {
        let programs = build("ocirun-bench")?;
        let find = |name: &str| {
            let named = |path: &&PathBuf| path.file_name().is_some_and(|file| file == name);
            programs
                .iter()
                .find(named)
                .cloned()
                .ok_or_else(|| format!("cargo built no {name}"))
        };
        Ok(Self {
            floor: find("ocirun-bench-floor")?,
            payload: find("ocirun-bench-payload")?,
            rss: find("ocirun-bench-rss")?,
        })
    }
}

/// The programs that a node runs.
#[derive(Debug, Clone)]
pub struct Node {
    /// `ocirun-cri`, with `ocirun-shim` beside it.
    pub daemon: PathBuf,
    /// `ocirun-image`
    pub images: PathBuf,
    /// `ocirun-init`
    pub init: PathBuf,
}

impl Node {
    /// Builds them.
    ///
    /// # Errors
    /// What cargo could not build.
    pub fn build() -> Result<Self, String> {
        let one = |package: &str, name: &str| {
            let mut programs = build(package)?.into_iter();
            programs
                .find(|path| path.file_name().is_some_and(|file| file == name))
                .ok_or_else(|| format!("cargo built no {name}"))
        };
        let shim = one("ocirun-shim", "ocirun-shim")?;
        Ok(Self {
            daemon: one("cri-server", "ocirun-cri")?,
            images: one("image-store", "ocirun-image")?,
            init: shim.with_file_name(INIT),
        })
    }
}

/// ocirun, built now, then runc, crun and youki where found, then what the variable `RUNTIMES` lists (paths, commas between).
pub fn runtimes() -> Vec<Runtime> {
    let ocirun = build("oci-runtime").and_then(|programs| {
        let runtime = programs
            .into_iter()
            .find(|path| path.file_name().is_some_and(|file| file == "ocirun"));
        let path = runtime.ok_or("cargo built no ocirun")?;
        version(&path).map(|_| path)
    });
    let mut list = vec![Runtime {
        name: "ocirun".to_owned(),
        program: ocirun,
    }];
    list.extend(PEERS.iter().map(|peer| match in_path(peer) {
        Some(path) => named(peer, path),
        None => Runtime {
            name: (*peer).to_owned(),
            program: Err("not found on this machine".to_owned()),
        },
    }));
    let more = env::var("RUNTIMES").unwrap_or_default();
    for path in more
        .split(',')
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
    {
        let file = path.file_name().map_or_else(
            || path.display().to_string(),
            |file| file.to_string_lossy().into_owned(),
        );
        let mut runtime = named(&file, path);
        if list.iter().any(|other| other.name == runtime.name) {
            runtime.name = format!("{} ({})", runtime.name, more_specific(&runtime));
        }
        list.push(runtime);
    }
    list
}

/// The program of that name in PATH, /usr/sbin, /sbin or /usr/local/sbin.
pub fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(administrators)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// Runs a program that is looked for as [`in_path`] does it.
///
/// # Errors
/// It is not found, or fails: what it said.
pub fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let path = in_path(program).ok_or_else(|| format!("{program} not found on this machine"))?;
    let output = Command::new(path).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {arguments:?}: {}", said.trim()))
}

fn named(fallback: &str, path: PathBuf) -> Runtime {
    match version(&path) {
        Ok(version) => {
            let version = version.replace(" version ", " ");
            Runtime {
                name: version.split('+').next().unwrap_or(fallback).to_owned(),
                program: Ok(path),
            }
        }
        Err(reason) => Runtime {
            name: fallback.to_owned(),
            program: Err(reason),
        },
    }
}

fn more_specific(runtime: &Runtime) -> String {
    runtime
        .program
        .as_ref()
        .map_or_else(Clone::clone, |path| path.display().to_string())
}

/// The first line of `--version`.
fn version(path: &Path) -> Result<String, String> {
    let output = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| format!("run {}: {error}", path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().next() {
        Some(line) if output.status.success() && !line.is_empty() => Ok(line.to_owned()),
        _ => Err(format!(
            "{} --version says nothing ({})",
            path.display(),
            output.status
        )),
    }
}

/// Builds a package of the workspace for release, installs its programs and returns them; where the variable `BENCH_PROGRAMS` names a
/// directory, they were built before and lie there.
fn build(package: &str) -> Result<Vec<PathBuf>, String> {
    if let Some(directory) = env::var_os("BENCH_PROGRAMS") {
        let entries = std::fs::read_dir(&directory)
            .map_err(|error| format!("BENCH_PROGRAMS={}: {error}", directory.display()))?;
        return Ok(entries.flatten().map(|entry| entry.path()).collect());
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args([
        "build",
        "--quiet",
        "--release",
        "--bins",
        "--message-format=json-render-diagnostics",
        "--package",
        package,
    ]);
    let output = command
        .current_dir(workspace())
        .stderr(Stdio::inherit())
        .output();
    let output = output.map_err(|error| format!("run cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "cargo build --package {package}: {}",
            output.status
        ));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let artifact = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    };
    let mut built: Vec<PathBuf> = messages.lines().filter_map(artifact).collect();
    // A build script puts it beside the shim.
    let shim = built.iter().find(|path| path.ends_with("ocirun-shim"));
    built.extend(shim.map(|shim| shim.with_file_name(INIT)));
    built.iter().map(|path| install(path)).collect()
}

/// Copies a program as an installation does. The page cache has what a linker wrote in the smallest pages, and each start
/// would pay for it with faults that no user sees.
fn install(program: &Path) -> Result<PathBuf, String> {
    let directory = workspace().join("target/bench/programs");
    let installed = directory.join(program.file_name().unwrap_or_default());
    let new = installed.with_extension("new");
    std::fs::create_dir_all(&directory)
        .and_then(|()| std::fs::copy(program, &new))
        .and_then(|_| std::fs::rename(&new, &installed))
        .map_err(|error| format!("install {}: {error}", program.display()))?;
    Ok(installed)
}

/// The root of the workspace that the bench was built from.
pub fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// Bytes of a program and of the shared libraries that the dynamic linker loads with it.
///
/// # Errors
/// The program or a library cannot be found.
pub fn size_with_libraries(path: &Path) -> Result<u64, String> {
    let size = |path: &Path| {
        std::fs::metadata(path)
            .map(|data| data.len())
            .map_err(|error| format!("{}: {error}", path.display()))
    };
    let output = Command::new("ldd")
        .arg(path)
        .output()
        .map_err(|error| format!("run ldd: {error}"))?;
    // ldd fails for a static program and says so; then there are no libraries.
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    libraries(&listing).try_fold(size(path)?, |sum, library| {
        Ok(sum + size(Path::new(library))?)
    })
}

/// The paths in what ldd prints: `name => path (address)` or, for the linker itself, `path (address)`.
fn libraries(listing: &str) -> impl Iterator<Item = &str> {
    listing
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_libraries_are_found() {
        let listing = "\tlinux-vdso.so.1 (0x7f)\n\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n\t/lib64/ld-linux.so.2 (0x7f)\n";
        assert_eq!(
            libraries(listing).collect::<Vec<_>>(),
            ["/lib/libc.so.6", "/lib64/ld-linux.so.2"]
        );
        assert_eq!(libraries("\tnot a dynamic executable\n").count(), 0);
    }
}
