//! The programs under test: the runtime, and our probe that runs inside.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// Whose runtime is under test, told by the name of the program's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ocirun`, the one of this workspace.
    Ocirun,
    /// runc, the measure of compatibility.
    Runc,
    /// crun or any other.
    Other,
}

/// The runtime under test.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Whose it is.
    pub kind: Kind,
}

/// The runtime that `RUNTIME=` names, or `ocirun` built from this workspace (once per process).
///
/// # Panics
/// When the named program is not there, or the build fails.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let program = match std::env::var_os("RUNTIME") {
            Some(name) if !name.is_empty() => find(&name),
            _ => build("oci-runtime", "ocirun"),
        };
        let name = program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let kind = match name.as_str() {
            name if name.contains("ocirun") => Kind::Ocirun,
            name if name.contains("runc") => Kind::Runc,
            _ => Kind::Other,
        };
        Runtime { program, kind }
    })
}

fn find(name: &OsString) -> PathBuf {
    if Path::new(name).components().count() > 1 {
        return std::fs::canonicalize(name)
            .unwrap_or_else(|error| panic!("RUNTIME={}: {error}", name.display()));
    }
    program_in_path(name)
        .unwrap_or_else(|| panic!("RUNTIME={}: no such program in PATH", name.display()))
}

/// The first executable file of this name in `PATH`, and in the places of administrators' programs.
#[must_use]
pub fn program_in_path(name: impl AsRef<Path>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|directory| directory.join(&name))
        .find(|file| {
            rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file()
        })
}

/// Builds the release program `name` of a package of this workspace, and gives its path.
///
/// # Panics
/// When cargo fails (its own messages go to standard error), or builds no such program.
#[must_use]
pub fn build(package: &str, name: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(&cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "build",
            "--quiet",
            "--release",
            "--message-format=json-render-diagnostics",
        ])
        .args(["--package", package, "--bin", name])
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("run {}: {error}", cargo.display()));
    assert!(
        output.status.success(),
        "cargo build --release --package {package} --bin {name}: {}",
        output.status
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .unwrap_or_else(|| panic!("cargo build --package {package}: no program {name}"))
}

/// The probe.
///
/// # Panics
/// When it is not there and cannot be built.
pub fn probe_program() -> &'static Path {
    static PROBE: OnceLock<PathBuf> = OnceLock::new();
    PROBE.get_or_init(|| own_program("ocirun-probe"))
}

/// A program of this package: the one that cargo built beside the running test, otherwise built now.
///
/// # Panics
/// When it is not there and cannot be built.
#[must_use]
pub fn own_program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("path of the running program");
    let beside = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name));
    beside
        .into_iter()
        .find(|file| file.is_file())
        .unwrap_or_else(|| build("ocirun-tests", name))
}

/// True on runc, where it is known to do otherwise than `ocirun`; the reason stays in the source for the reader.
#[must_use]
pub fn differs_on_runc(_why: &'static str) -> bool {
    runtime().kind == Kind::Runc
}
