//! `cargo demo`: a small real container, run by `ocirun run <bundle>/`, that prints what it sees of itself.
//!
//! Builds the release programs, writes a bundle under `target/demo`, and runs it: as root with limits, as an ordinary
//! user in a user namespace, with a limit of memory where its cgroup is delegated. `RUNTIME=runc cargo demo` shows the same with another runtime.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::time::ClockId;
use nix::unistd::{getegid, geteuid};
use ocirun_tests::{Kind, Need, build, default_spec, own_program, rootless_spec, runtime};
use serde_json::{Map, Value, json};

fn main() -> ExitCode {
    // Where there is no cargo, as in the test machine, the built one is taken.
    let program = match std::env::var_os("CARGO") {
        Some(_) => build("ocirun-tests", "ocirun-probe"),
        None => own_program("ocirun-probe"),
    };
    let runtime = runtime();
    let directory = target_directory(&program).join("demo");
    let bundle = directory.join("bundle");
    if let Err(error) = write_bundle(&bundle, &program) {
        eprintln!("ocirun-demo: write {}: {error}", bundle.display());
        return ExitCode::FAILURE;
    }
    println!("{} run {}/", runtime.program.display(), bundle.display());
    let mut command = Command::new(&runtime.program);
    command
        .arg("--root")
        .arg(directory.join("state"))
        .arg("run");
    match runtime.kind {
        Kind::Ocirun => command.arg(format!("{}/", bundle.display())),
        Kind::Runc | Kind::Other => command.arg("--bundle").arg(&bundle).arg("ocirun-demo"),
    };
    match command.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("ocirun-demo: {}: {status}", runtime.program.display());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("ocirun-demo: start {}: {error}", runtime.program.display());
            ExitCode::FAILURE
        }
    }
}

/// `target/` itself: the program lies in `target/<triple>/release/`, or in `target/release/`.
fn target_directory(program: &Path) -> PathBuf {
    let named = program
        .ancestors()
        .find(|path| path.file_name().is_some_and(|name| name == "target"));
    named.unwrap_or_else(|| Path::new("target")).to_owned()
}

/// A bundle whose root file system is one program.
fn write_bundle(bundle: &Path, program: &Path) -> io::Result<()> {
    let rootfs = bundle.join("rootfs");
    for name in ["dev", "proc", "sys", "bin"] {
        fs::create_dir_all(rootfs.join(name))?;
    }
    let inside = rootfs.join("bin/describe");
    if inside.exists() {
        fs::remove_file(&inside)?;
    }
    fs::copy(program, inside)?;
    fs::write(bundle.join("config.json"), format!("{:#}\n", spec()?))
}

fn spec() -> io::Result<Value> {
    let mut spec = if geteuid().is_root() {
        let mut spec = default_spec();
        spec["linux"]["cgroupsPath"] = Value::from("/ocirun-demo");
        spec["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
        spec["linux"]["resources"]["pids"] = json!({"limit": 32});
        spec["linux"]["resources"]["cpu"] = json!({"shares": 512});
        spec
    } else {
        let mut spec = rootless_spec(geteuid().as_raw(), getegid().as_raw());
        if Need::Delegated("memory").absent().is_none() {
            spec["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}});
        }
        spec
    };
    spec["hostname"] = Value::from("ocirun-demo");
    spec["process"]["args"] = json!(["describe", "describe"]);
    spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": [],
        "syscalls": [{"names": ["kexec_load", "bpf", "init_module", "keyctl"], "action": "SCMP_ACT_ERRNO"}],
    });
    let host = Value::from(host_namespaces()?).to_string();
    let now = ClockId::CLOCK_MONOTONIC.now()?;
    let started = now.tv_sec() * 1_000_000_000 + now.tv_nsec();
    spec["process"]["env"] = json!([
        "PATH=/bin",
        format!("DEMO_HOST_NAMESPACES={host}"),
        format!("DEMO_STARTED={started}"),
    ]);
    Ok(spec)
}

fn host_namespaces() -> io::Result<Map<String, Value>> {
    let mut found = Map::new();
    for entry in fs::read_dir("/proc/self/ns")? {
        let entry = entry?;
        let link = fs::read_link(entry.path())?;
        found.insert(
            entry.file_name().to_string_lossy().into_owned(),
            Value::from(link.to_string_lossy()),
        );
    }
    Ok(found)
}
