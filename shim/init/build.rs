//! Compiles the freestanding program by itself, because `cargo test` would force unwinding on a binary target.
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const FLAGS: &[&str] = &[
    "--edition=2024",
    "--crate-name=ocirun_init",
    "--crate-type=bin",
    "-Copt-level=z",
    "-Cpanic=abort",
    "-Clto=fat",
    "-Ccodegen-units=1",
    "-Cstrip=symbols",
    "-Crelro-level=off",
    "-Crelocation-model=static",
    "-Ctarget-feature=+crt-static",
    "-Cforce-unwind-tables=no",
    "-Cdebug-assertions=no",
    "-Coverflow-checks=no",
    // Of the workspace's lints, those that guard soundness; clippy sees the same files as modules of the tests.
    "-Dunsafe_op_in_unsafe_fn",
    "-Dunused_must_use",
];

/// No start-up files and no libraries; program.ld says how the sections lie.
const LINK: &[&str] = &[
    "-nostartfiles",
    "-nostdlib",
    "-static",
    "-no-pie",
    "-Wl,-Tprogram.ld,--no-eh-frame-hdr,--build-id=none,-n,--gc-sections",
];

fn main() -> Result<(), Box<dyn Error>> {
    let source = Path::new("src/program");
    println!("cargo::rerun-if-changed={}", source.display());
    println!("cargo::rerun-if-changed=program.ld");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let program = out.join("ocirun-init");
    let mut rustc = Command::new(env::var_os("RUSTC").ok_or("RUSTC is not set")?);
    rustc
        .arg(source.join("start.rs"))
        .args(FLAGS)
        .arg("--target")
        .arg(env::var("TARGET")?)
        .arg("-o")
        .arg(&program);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        rustc.arg(format!("-Clinker={}", linker.to_string_lossy()));
    }
    for argument in LINK {
        rustc.arg(format!("-Clink-arg={argument}"));
    }
    let status = rustc.status()?;
    if !status.success() {
        return Err(format!("{rustc:?}: {status}").into());
    }
    // OUT_DIR is <profile>/build/<package>-<hash>/out: the program is delivered beside cargo's own.
    if let Some(profile) = out.ancestors().nth(3) {
        let partial = profile.join(format!(".ocirun-init.{}", std::process::id()));
        fs::copy(&program, &partial)?;
        fs::rename(&partial, profile.join("ocirun-init"))?;
    }
    Ok(())
}
