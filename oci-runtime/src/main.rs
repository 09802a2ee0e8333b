//! `ocirun`, an OCI runtime: the command line on top of runtime-core.
//!
//! Called as `runc` it says that it is runc.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::process::ExitCode;

use crate::cli::{COMMANDS, Flags, Misuse, Wanted};
use crate::commands::{Failure, Invocation};
use crate::logging::{Author, Cause, Log};

mod cli;
mod commands;
mod docs;
mod foreground;
mod format;
mod help;
mod logging;
mod notify;
mod time;
mod version;

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let called = words.next().unwrap_or_default();
    let called = called.to_string_lossy();
    let name = if called.rsplit('/').next() == Some("runc") {
        "runc"
    } else {
        "ocirun"
    };
    let words: Vec<String> = match words.map(OsString::into_string).collect() {
        Ok(words) => words,
        Err(word) => {
            Log::standard().fatal(
                &format!("argument {word:?}: is not UTF-8"),
                &Cause::of("usage"),
            );
            return ExitCode::FAILURE;
        }
    };
    let (global, wanted) = cli::parse(&words);
    match wanted {
        Err(misuse) => refuse(name, &called, &global, &misuse),
        Ok(Wanted::Help(None)) => show(&help::overview(name)),
        Ok(Wanted::Help(Some(command))) => show(&help_of(name, command)),
        Ok(Wanted::Version) => show(&format!("{}\n", version::of(name))),
        Ok(Wanted::Run {
            command,
            flags,
            arguments,
        }) => run(&mut Invocation {
            command,
            global: &global,
            flags: &flags,
            arguments: &arguments,
            log: Log::standard(),
            name,
        }),
    }
}

fn show(text: &str) -> ExitCode {
    match commands::print(text) {
        Ok(_) => ExitCode::SUCCESS,
        Err(failure) => {
            Log::standard().fatal(&failure.to_string(), &failure.cause());
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

/// A command line that was not understood: the error where `global` wants it, and the help that would have helped.
fn refuse(name: &str, called: &str, global: &Flags, misuse: &Misuse) -> ExitCode {
    let container = None;
    let log = match Log::open(
        global,
        Author {
            program: name,
            container,
        },
    ) {
        Ok(log) => log,
        Err(text) => {
            Log::standard().fatal(&text, &Cause::of("file"));
            return ExitCode::FAILURE;
        }
    };
    // The three first lines differ because runc's do.
    let (usage, error, code) = match misuse {
        Misuse::NoCommand(command) => (String::new(), format!("No help topic for '{command}'"), 3),
        Misuse::Flags {
            command: None,
            text,
        } => (
            format!("Incorrect Usage. {text}\n\n{}", help::overview(name)),
            text.clone(),
            1,
        ),
        Misuse::Flags {
            command: Some(command),
            text,
        } => (
            format!("Incorrect Usage: {text}\n\n{}", help_of(name, command)),
            text.clone(),
            1,
        ),
        Misuse::Count { command, text } => (
            format!("Incorrect Usage.\n\n{}", help_of(name, command)),
            format!("{called}: {text}"),
            1,
        ),
    };
    // The error is told all the same, whoever reads the help.
    drop(commands::print(&usage));
    log.fatal(&error, &Cause::of("usage"));
    ExitCode::from(code)
}

fn run(invocation: &mut Invocation<'_>) -> ExitCode {
    // Whoever enters a container must not take a writable program of the host along, and begins anew without it.
    if matches!(invocation.command, "create" | "run" | "exec")
        && let Err(error) = runtime_core::seal::ensure_sealed()
    {
        let text = error.to_string();
        invocation.log.fatal(&text, &Failure::from(error).cause());
        return ExitCode::FAILURE;
    }
    let author = Author {
        program: invocation.name,
        container: invocation.container_named(),
    };
    match Log::open(invocation.global, author) {
        Ok(log) => invocation.log = log,
        Err(text) => {
            invocation.log.fatal(&text, &Cause::of("file"));
            return ExitCode::FAILURE;
        }
    }
    match commands::run(invocation) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(failure) => {
            invocation
                .log
                .fatal(&describe(invocation, &failure), &failure.cause());
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
        // Callers take these words alone for it.
        _ if failure.is_not_found() => failure.to_string(),
        (command, Some(id)) => format!("{command} {id:?}: {failure}"),
        (command, None) => format!("{command}: {failure}"),
    }
}
