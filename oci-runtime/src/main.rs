//! `ocirun`, an OCI runtime: the command line on top of runtime-core.
//!
//! Called as `runc` it says that it is runc.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use crate::cli::{COMMANDS, Misuse, Wanted};
use crate::commands::{Failure, Invocation};
use crate::logging::Log;

mod cli;
mod commands;
mod docs;
mod foreground;
mod format;
mod help;
mod logging;
mod time;
mod version;

fn main() -> ExitCode {
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let called = words.next().unwrap_or_default();
    let name = if called.rsplit('/').next() == Some("runc") {
        "runc"
    } else {
        "ocirun"
    };
    let words: Vec<String> = words.collect();
    match cli::parse(&words) {
        Err(misuse) => refuse(name, &misuse),
        Ok(typed) => match &typed.command {
            Wanted::Help(None) => show(&help::overview(name)),
            Wanted::Help(Some(command)) => show(&help_of(name, command)),
            Wanted::Version => show(&format!("{}\n", version::of(name))),
            Wanted::Run {
                command,
                flags,
                arguments,
            } => run(&mut Invocation {
                command,
                global: &typed.global,
                flags,
                arguments,
                log: Log::standard(),
                name,
            }),
        },
    }
}

fn show(text: &str) -> ExitCode {
    match commands::print(text) {
        Ok(_) => ExitCode::SUCCESS,
        Err(failure) => {
            Log::standard().fatal(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}

fn help_of(name: &str, command: &str) -> String {
    COMMANDS
        .iter()
        .find(|known| known.name == command)
        .map(|command| help::of(name, command))
        .unwrap_or_default()
}

/// A command line that was not understood, with the help that would have helped.
fn refuse(name: &str, misuse: &Misuse) -> ExitCode {
    let text = match misuse {
        Misuse::NoCommand(command) => {
            Log::standard().fatal(&format!("No help topic for '{command}'"));
            return ExitCode::from(3);
        }
        Misuse::Usage { command, text } => {
            let help =
                command.map_or_else(|| help::overview(name), |command| help_of(name, command));
            // The error is told on standard error too, whoever reads the help.
            drop(commands::print(&format!(
                "Incorrect Usage. {text}\n\n{help}"
            )));
            text
        }
    };
    Log::standard().fatal(text);
    ExitCode::FAILURE
}

fn run(invocation: &mut Invocation<'_>) -> ExitCode {
    // Whoever enters a container must not take a writable program of the host along, and begins anew without it.
    if matches!(invocation.command, "create" | "run" | "exec")
        && let Err(error) = runtime_core::seal::ensure_sealed()
    {
        invocation.log.fatal(&error.to_string());
        return ExitCode::FAILURE;
    }
    let global = invocation.global;
    match Log::open(
        global.value("log"),
        global.value("log-format"),
        global.on("debug"),
    ) {
        Ok(log) => invocation.log = log,
        Err(text) => {
            invocation.log.fatal(&text);
            return ExitCode::FAILURE;
        }
    }
    match commands::run(invocation) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(failure) => {
            invocation.log.fatal(&describe(invocation, &failure));
            // That of a process that could not be started is none that it could have had.
            if invocation.command == "exec" {
                ExitCode::from(u8::MAX)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// The one line of an error. Callers search for how it begins.
fn describe(invocation: &Invocation<'_>, failure: &Failure) -> String {
    match (invocation.command, invocation.arguments.first()) {
        (command @ ("run" | "create"), _) => {
            format!("{} {command} failed: {failure}", invocation.name)
        }
        ("exec", _) => format!("exec failed: {failure}"),
        (command, Some(id)) => format!("{command} {id:?}: {failure}"),
        (command, None) => format!("{command}: {failure}"),
    }
}
