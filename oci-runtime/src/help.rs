//! The help of the program and of each command, from the table.

use std::fmt::Write;

use crate::cli::{COMMANDS, Command, Flag, GLOBAL, Takes};

/// What the program says of itself.
pub(crate) const ABOUT: &str = "Open Container Initiative runtime";

const OVERVIEW: &str = "\
A container is made from a bundle: a directory with a config.json, as the OCI runtime
specification has it, and a root file system. To run one in the foreground:

    # {name} run bundle/

Whatever calls runc can call it instead.";

/// The help of everything.
pub(crate) fn overview(name: &str) -> String {
    let mut text = format!(
        "NAME:\n   {name} - {ABOUT}\n\n{}\n\nUSAGE:\n   {name} [global options] command [command options] \
         [arguments...]\n\nVERSION:\n   {}\n\nCOMMANDS:\n",
        OVERVIEW.replace("{name}", name),
        crate::version::text().replace('\n', "\n   "),
    );
    let shown = || COMMANDS.iter().filter(|command| !command.hidden);
    let width = shown()
        .map(|command| command.name.len())
        .max()
        .unwrap_or_default();
    for command in shown() {
        let _ = writeln!(text, "   {:width$}  {}", command.name, command.about);
    }
    let _ = writeln!(
        text,
        "   {:width$}  Shows a list of commands or help for one command",
        "help, h"
    );
    text.push_str("\nGLOBAL OPTIONS:\n");
    text.push_str(&flags(GLOBAL));
    text
}

/// The help of one command.
pub(crate) fn of(name: &str, command: &Command) -> String {
    let options = if command.flags.is_empty() {
        ""
    } else {
        " [command options]"
    };
    let mut text = format!(
        "NAME:\n   {name} {} - {}\n\nUSAGE:\n   {name} {}{options} {}\n\nDESCRIPTION:\n   {}\n",
        command.name,
        command.about,
        command.name,
        command.usage,
        command.description.replace('\n', "\n   "),
    );
    if !command.flags.is_empty() {
        text.push_str("\nOPTIONS:\n");
    }
    text.push_str(&flags(command.flags));
    text
}

/// The names of a flag as they are typed.
pub(crate) fn names(flag: &Flag) -> String {
    let value = if flag.takes == Takes::Nothing {
        ""
    } else {
        " value"
    };
    match flag.short {
        Some(short) => format!("--{}{value}, -{short}{value}", flag.name),
        None => format!("--{}{value}", flag.name),
    }
}

fn flags(flags: &[Flag]) -> String {
    let width = flags
        .iter()
        .map(|flag| names(flag).len())
        .max()
        .unwrap_or_default();
    flags.iter().fold(String::new(), |mut text, flag| {
        let _ = writeln!(text, "   {:width$}  {}", names(flag), flag.help);
        text
    })
}
