//! The command line: what is typed, what is called, what is printed. Errors are printed here, once.

mod args;
mod commands;
mod files;
mod rootless;
mod show;

use args::Cli;
use clap::Parser;
use image_store::Result;
use std::process::ExitCode;

/// Runs the program.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    rootless::enter();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return report(&Err(image_store::Error::os("start runtime", &error))),
    };
    let done = runtime.block_on(commands::run(&cli));
    // Threads that still wait for something must not delay the end.
    runtime.shutdown_background();
    report(&done)
}

fn report(done: &Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            show::error_line(&format!("ocirun-image: {error}"));
            ExitCode::FAILURE
        }
    }
}
