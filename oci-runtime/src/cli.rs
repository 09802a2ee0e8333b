//! The command line as typed: one table, from which the parser, the help, the man pages and the completions come.
//!
//! Long flags take one dash or two, as runc's callers use both. Flags may stand before and after the first argument,
//! but for `exec` and `ps`: what follows the id there belongs to another program.

pub(crate) mod table;

pub(crate) use table::{COMMANDS, Command, Flag, GLOBAL};

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing, or `=true` and `=false`.
    Nothing,
    /// A value.
    Value,
    /// A value that is a number, not below zero.
    Number,
    /// A value, and the flag may be given again.
    Values,
}

/// What is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A command with its flags and arguments.
    Run {
        command: &'static str,
        flags: Flags,
        arguments: Vec<String>,
    },
    /// The help of everything, or of one command.
    Help(Option<&'static str>),
    /// The version.
    Version,
}

/// Flags as given, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(Vec<(&'static str, String)>);

impl Flags {
    /// Whether the flag `name` is on: the last one given counts.
    pub(crate) fn on(&self, name: &str) -> bool {
        self.value(name) == Some("true")
    }

    /// The last value of the flag `name`.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }

    /// All values of the flag `name`.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The values of a flag that takes a list with commas.
    pub(crate) fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.values(name).flat_map(|value| value.split(','))
    }
}

/// A command line that was not understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Misuse {
    /// There is no such command.
    NoCommand(String),
    /// The flags of a command, or those before it, are wrong.
    Flags {
        command: Option<&'static str>,
        text: String,
    },
    /// A command does not take that many arguments.
    Count { command: &'static str, text: String },
}

/// Reads the arguments that follow the program's name.
///
/// The flags before the command count also where the rest is wrong: they say where that is told.
pub(crate) fn parse(arguments: &[String]) -> (Flags, Result<Wanted, Misuse>) {
    let mut words = arguments.iter();
    let mut global = Flags::default();
    let mut name = words.next();
    while let Some(written) = name.and_then(|word| flag_of(word)) {
        if let Err(text) = take(GLOBAL, written, &mut words, &mut global) {
            let command = None;
            return (Flags::default(), Err(Misuse::Flags { command, text }));
        }
        name = words.next();
    }
    if name.is_some_and(|word| word == "--") {
        name = words.next();
    }
    let wanted = match name {
        _ if global.on("help") => Ok(Wanted::Help(None)),
        _ if global.on("version") => Ok(Wanted::Version),
        Some(name) => parse_command(name, words.as_slice()),
        None => Ok(Wanted::Help(None)),
    };
    (global, wanted)
}

fn parse_command(name: &str, words: &[String]) -> Result<Wanted, Misuse> {
    if matches!(name, "help" | "h") {
        return match words.first() {
            None => Ok(Wanted::Help(None)),
            Some(topic) if matches!(topic.as_str(), "help" | "h" | "-h" | "--help") => {
                Ok(Wanted::Help(None))
            }
            Some(topic) => find(topic).map(|command| Wanted::Help(Some(command.name))),
        };
    }
    let command = find(name)?;
    if command.is_other_program {
        return Ok(Wanted::Run {
            command: command.name,
            flags: Flags::default(),
            arguments: words.to_vec(),
        });
    }
    let mut flags = Flags::default();
    let mut arguments = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            arguments.extend(words.cloned());
            break;
        }
        match flag_of(word) {
            Some(written) if arguments.is_empty() || is_known(command.flags, written) => {
                take(command.flags, written, &mut words, &mut flags).map_err(|text| {
                    let command = Some(command.name);
                    Misuse::Flags { command, text }
                })?;
            }
            _ => {
                arguments.push(word.clone());
                if command.rest_is_foreign {
                    arguments.extend(words.cloned());
                    break;
                }
            }
        }
    }
    if flags.on("help") {
        return Ok(Wanted::Help(Some(command.name)));
    }
    command
        .arguments
        .check(command.name, arguments.len())
        .map_err(|text| {
            let command = command.name;
            Misuse::Count { command, text }
        })?;
    Ok(Wanted::Run {
        command: command.name,
        flags,
        arguments,
    })
}

fn find(name: &str) -> Result<&'static Command, Misuse> {
    COMMANDS
        .iter()
        .find(|command| command.name == name)
        .ok_or_else(|| Misuse::NoCommand(name.to_owned()))
}

/// The flag in a word, without its dashes. A single dash, and a negative number, is an argument.
fn flag_of(word: &str) -> Option<&str> {
    let bare = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
    (!bare.is_empty() && !bare.starts_with(|c: char| c.is_ascii_digit())).then_some(bare)
}

fn is_known(flags: &'static [Flag], written: &str) -> bool {
    let name = written.split('=').next().unwrap_or(written);
    lookup(flags, name).is_some()
}

/// Every command and the program itself have `help`.
const HELP: Flag = Flag {
    name: "help",
    short: Some("h"),
    takes: Takes::Nothing,
    help: "show help",
};

fn lookup(flags: &'static [Flag], name: &str) -> Option<&'static Flag> {
    static HELP_FLAG: Flag = HELP;
    let is_named = |flag: &&Flag| flag.name == name || flag.short == Some(name);
    flags
        .iter()
        .find(is_named)
        .or_else(|| Some(&HELP_FLAG).filter(is_named))
}

/// Takes one flag, and its value from the words that follow.
fn take(
    known: &'static [Flag],
    written: &str,
    words: &mut std::slice::Iter<'_, String>,
    into: &mut Flags,
) -> Result<(), String> {
    let (name, value) = match written.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (written, None),
    };
    if name.is_empty() || name.starts_with('-') {
        return Err(format!("bad flag syntax: --{written}"));
    }
    let Some(flag) = lookup(known, name) else {
        return Err(format!("flag provided but not defined: -{name}"));
    };
    let value = match (flag.takes, value) {
        (Takes::Nothing, None) => "true".to_owned(),
        (Takes::Nothing, Some(value)) => boolean(&value)
            .ok_or_else(|| format!("invalid boolean value {value:?} for -{name}: parse error"))?
            .to_owned(),
        (_, Some(value)) => value,
        (_, None) => words
            .next()
            .ok_or_else(|| format!("flag needs an argument: -{name}"))?
            .clone(),
    };
    if flag.takes == Takes::Number && value.parse::<u16>().is_err() {
        return Err(format!(
            "invalid value {value:?} for flag -{name}: parse error"
        ));
    }
    into.0.push((flag.name, value));
    Ok(())
}

fn boolean(value: &str) -> Option<&'static str> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some("true"),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some("false"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> (Flags, Result<Wanted, Misuse>) {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words)
    }

    fn run(line: &str) -> (Flags, &'static str, Flags, Vec<String>) {
        match typed(line) {
            (
                global,
                Ok(Wanted::Run {
                    command,
                    flags,
                    arguments,
                }),
            ) => (global, command, flags, arguments),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn as_callers_write_it() {
        let (global, command, flags, arguments) = run(
            "--root /r --log /l --log-format json --systemd-cgroup=false create --bundle /b --pid-file /p -no-pivot web1",
        );
        assert_eq!(
            (global.value("root"), global.value("log-format")),
            (Some("/r"), Some("json"))
        );
        assert!(!global.on("systemd-cgroup"));
        assert_eq!(
            (command, flags.value("bundle"), flags.value("pid-file")),
            ("create", Some("/b"), Some("/p"))
        );
        assert!(flags.on("no-pivot") && !flags.on("no-new-keyring"));
        assert_eq!(arguments, ["web1"]);
    }

    #[test]
    fn what_follows_the_id_of_exec_is_not_ours() {
        let (_, _, flags, arguments) = run("exec -e A=1 -env B=2 -t web1 ls -l --help -- x");
        assert_eq!(flags.values("env").collect::<Vec<_>>(), ["A=1", "B=2"]);
        assert_eq!(arguments, ["web1", "ls", "-l", "--help", "--", "x"]);
        assert_eq!(run("ps web1 -ef").3, ["web1", "-ef"]);
    }

    #[test]
    fn nothing_of_another_program_is_ours() {
        let (_, command, flags, arguments) = run("image --json pull --help -- x");
        assert_eq!((command, flags), ("image", Flags::default()));
        assert_eq!(arguments, ["--json", "pull", "--help", "--", "x"]);
        assert_eq!(typed("help image").1, Ok(Wanted::Help(Some("image"))));
    }

    #[test]
    fn flags_after_the_id() {
        let (_, _, flags, arguments) = run("delete web1 --force");
        assert!(flags.on("force"));
        assert_eq!(arguments, ["web1"]);
        assert_eq!(run("kill web1 -9").3, ["web1", "-9"]);
        assert_eq!(run("delete -- -x").3, ["-x"]);
    }

    #[test]
    fn helps() {
        for (line, expected) in [
            ("", Wanted::Help(None)),
            ("-v", Wanted::Version),
            ("--version state x", Wanted::Version),
            ("--help", Wanted::Help(None)),
            ("help", Wanted::Help(None)),
            ("help kill", Wanted::Help(Some("kill"))),
            ("kill -h", Wanted::Help(Some("kill"))),
            ("help help", Wanted::Help(None)),
            ("help -h", Wanted::Help(None)),
        ] {
            assert_eq!(typed(line).1, Ok(expected), "{line}");
        }
    }

    #[test]
    fn misuse_is_told_where_the_flags_say() {
        for line in ["--log /l nope", "--log /l state --nope x", "--log /l state"] {
            let (global, wanted) = typed(line);
            assert!(wanted.is_err(), "{line}");
            assert_eq!(global.value("log"), Some("/l"), "{line}");
        }
        assert_eq!(typed("--log /l --nope").0, Flags::default());
    }

    #[test]
    fn misuse() {
        let usage = |command, text: &str| {
            let text = text.to_owned();
            Err(match command {
                Some(command) if text.ends_with("argument(s)") => Misuse::Count { command, text },
                command => Misuse::Flags { command, text },
            })
        };
        for (line, expected) in [
            ("foo", Err(Misuse::NoCommand("foo".to_owned()))),
            ("help foo", Err(Misuse::NoCommand("foo".to_owned()))),
            (
                "--nope state",
                usage(None, "flag provided but not defined: -nope"),
            ),
            (
                "state --nope x",
                usage(Some("state"), "flag provided but not defined: -nope"),
            ),
            (
                "exec --user",
                usage(Some("exec"), "flag needs an argument: -user"),
            ),
            (
                "state",
                usage(Some("state"), "\"state\" requires exactly 1 argument(s)"),
            ),
            (
                "state a b",
                usage(Some("state"), "\"state\" requires exactly 1 argument(s)"),
            ),
            (
                "exec",
                usage(Some("exec"), "\"exec\" requires a minimum of 1 argument(s)"),
            ),
            (
                "kill a b c",
                usage(Some("kill"), "\"kill\" requires a maximum of 2 argument(s)"),
            ),
            (
                "create ---x",
                usage(Some("create"), "bad flag syntax: ---x"),
            ),
            (
                "create --=x",
                usage(Some("create"), "bad flag syntax: --=x"),
            ),
            (
                "delete --force=maybe x",
                usage(
                    Some("delete"),
                    "invalid boolean value \"maybe\" for -force: parse error",
                ),
            ),
        ] {
            assert_eq!(typed(line).1, expected, "{line}");
        }
    }
}
