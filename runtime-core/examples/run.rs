//! Runs the program of a bundle as a container and ends with its exit code:
//! `cargo run -p runtime-core --example run -- bundle/`.

use std::path::Path;
use std::process::ExitCode;

use nix::sys::wait::{WaitStatus, waitpid};
use runtime_core::{Bundle, Container, CreateOptions, Host, Plan, Result, Root, Start};

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: run BUNDLE");
        return ExitCode::FAILURE;
    };
    match run(Path::new(&path)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("run: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(path: &Path) -> Result<u8> {
    // The host's program must be out of the container's reach before anything enters one.
    runtime_core::seal::ensure_sealed()?;
    let bundle = Bundle::open(path)?;
    // Everything that can be wrong with the configuration is wrong here, before anything is done.
    let plan = Plan::compile(bundle.spec(), &Host::probe()?)?;
    let root = Root::new(std::env::temp_dir().join("runtime-core-example"));
    let id = format!("example-{}", std::process::id());
    let created = Container::create(
        &root,
        &id,
        &bundle,
        plan,
        CreateOptions {
            start: Start::Now,
            ..CreateOptions::default()
        },
    )?;
    let code = match waitpid(created.init.pid, None) {
        Ok(WaitStatus::Exited(_, code)) => u8::try_from(code).unwrap_or(u8::MAX),
        Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as u8,
        _ => u8::MAX,
    };
    created.container.delete()?;
    Ok(code)
}
