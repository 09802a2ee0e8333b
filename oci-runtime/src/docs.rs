//! Man pages and completions, from the same table as the parser.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::cli::{COMMANDS, Command, Flag, GLOBAL, Takes};
use crate::commands::{Failure, Outcome, print};
use crate::help;

const NAME: &str = "ocirun";

/// Prints the completions for a shell.
pub(crate) fn completions(shell: &str) -> Outcome {
    let script = match shell {
        "bash" => bash(),
        "zsh" => format!(
            "#compdef {NAME}\nautoload -U +X bashcompinit && bashcompinit\n{}",
            bash()
        ),
        "fish" => fish(),
        other => {
            return Err(Failure::Argument(format!(
                "{other:?}: neither bash, zsh nor fish"
            )));
        }
    };
    print(&script)
}

/// Writes a man page for the program and for each command into `directory`.
pub(crate) fn man(directory: &Path) -> Outcome {
    for (name, page) in pages() {
        let path = directory.join(format!("{name}.8"));
        fs::write(&path, page).map_err(|error| {
            Failure::File(format!("write({path:?}): {}", crate::format::io(&error)))
        })?;
    }
    Ok(0)
}

fn shown() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().filter(|command| !command.hidden)
}

fn pages() -> Vec<(String, String)> {
    let mut commands = String::new();
    for command in shown() {
        let _ = write!(
            commands,
            ".TP\n.BR {NAME}-{} (8)\n{}\n",
            command.name,
            escape(command.about)
        );
    }
    let head = |name: &str| {
        format!(
            ".TH {} 8 \"\" \"{NAME} {}\"\n",
            name.to_uppercase(),
            env!("CARGO_PKG_VERSION")
        )
    };
    let main = format!(
        "{}.SH NAME\n{NAME} \\- {}\n.SH SYNOPSIS\n.B {NAME}\n[\\fIglobal options\\fR] \\fIcommand\\fR \
         [\\fIoptions\\fR] [\\fIarguments\\fR]\n.SH COMMANDS\n{commands}.SH GLOBAL OPTIONS\n{}",
        head(NAME),
        help::ABOUT,
        options(GLOBAL),
    );
    let page = |command: &Command| {
        let name = format!("{NAME}-{}", command.name);
        let heading = if command.flags.is_empty() {
            ""
        } else {
            ".SH OPTIONS\n"
        };
        let text = format!(
            "{}.SH NAME\n{name} \\- {}\n.SH SYNOPSIS\n.B {NAME} {}\n{}\n.SH DESCRIPTION\n{}\n{heading}{}",
            head(&name),
            escape(command.about),
            command.name,
            escape(command.usage),
            escape(&command.description.replace('\n', "\n.PP\n")),
            options(command.flags),
        );
        (name, text)
    };
    std::iter::once((NAME.to_owned(), main))
        .chain(shown().map(page))
        .collect()
}

fn options(flags: &[Flag]) -> String {
    flags.iter().fold(String::new(), |mut text, flag| {
        let _ = write!(
            text,
            ".TP\n\\fB{}\\fR\n{}\n",
            escape(&help::names(flag)),
            escape(flag.help)
        );
        text
    })
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

fn words(flags: &[Flag]) -> String {
    let word = |flag: &Flag| match flag.short {
        Some(short) => format!("--{} -{short}", flag.name),
        None => format!("--{}", flag.name),
    };
    flags
        .iter()
        .map(word)
        .chain(["--help -h".to_owned()])
        .collect::<Vec<_>>()
        .join(" ")
}

fn bash() -> String {
    let names: Vec<_> = shown().map(|command| command.name).collect();
    let mut cases = String::new();
    for command in shown() {
        if command.is_other_program {
            let _ = writeln!(cases, "    {}) return ;;", command.name);
            continue;
        }
        let _ = writeln!(
            cases,
            "    {}) words='{}' ;;",
            command.name,
            words(command.flags)
        );
    }
    let takes: Vec<_> = GLOBAL
        .iter()
        .filter(|flag| flag.takes != Takes::Nothing)
        .map(|flag| format!("--{}", flag.name))
        .collect();
    format!(
        "_{NAME}() {{\n  local current=${{COMP_WORDS[COMP_CWORD]}} command= words i\n  for ((i = 1; i < COMP_CWORD; i++)); \
         do\n    case ${{COMP_WORDS[i]}} in\n      {}) ((i++)) ;;\n      -*) ;;\n      *) command=${{COMP_WORDS[i]}}; break ;;\n    \
         esac\n  done\n  case $command in\n    '') words='{} {}' ;;\n{cases}  esac\n  if [[ $current != -* && -n $command ]]; then\n    \
         words=$({NAME} list -q 2>/dev/null)\n  fi\n  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n}}\ncomplete -o default -F _{NAME} {NAME}\n",
        takes.join("|"),
        names.join(" "),
        words(GLOBAL),
    )
}

fn fish() -> String {
    let mut script = format!("complete -c {NAME} -f\n");
    let mut add = |condition: &str, flag: &Flag| {
        let short = flag
            .short
            .map(|short| format!(" -s {short}"))
            .unwrap_or_default();
        let value = if flag.takes == Takes::Nothing {
            ""
        } else {
            " -r"
        };
        let help = flag.help.replace('\'', "\\'");
        let _ = writeln!(
            script,
            "complete -c {NAME} -n {condition} -l {}{short}{value} -d '{help}'",
            flag.name
        );
    };
    GLOBAL
        .iter()
        .for_each(|flag| add("__fish_use_subcommand", flag));
    for command in shown() {
        let condition = format!("'__fish_seen_subcommand_from {}'", command.name);
        command.flags.iter().for_each(|flag| add(&condition, flag));
    }
    for command in shown() {
        let about = command.about.replace('\'', "\\'");
        let _ = writeln!(
            script,
            "complete -c {NAME} -n __fish_use_subcommand -a {} -d '{about}'",
            command.name
        );
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_is_everywhere() {
        let pages = pages();
        for command in shown() {
            let page = &pages
                .iter()
                .find(|(name, _)| *name == format!("{NAME}-{}", command.name))
                .unwrap()
                .1;
            let help = help::of(NAME, command);
            for flag in command.flags {
                assert!(
                    page.contains(&escape(&help::names(flag))),
                    "{} {}",
                    command.name,
                    flag.name
                );
                assert!(
                    help.contains(&help::names(flag)),
                    "{} {}",
                    command.name,
                    flag.name
                );
                assert!(fish().contains(&format!(
                    "seen_subcommand_from {}' -l {}",
                    command.name, flag.name
                )));
                assert!(bash().contains(&words(command.flags)));
            }
            assert!(help::overview(NAME).contains(command.about));
        }
    }
}
