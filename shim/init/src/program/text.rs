//! Help, version, licence and refusals, in the form that callers of each program know.

use super::command::Refusal;
use super::personality::Personality;
use super::print::Line;
use super::sys::{self, Fd};

const TINI_HELP: &[u8] = b"Usage: tini [OPTIONS] PROGRAM -- [ARGS] | --version

Runs PROGRAM as a child, forwards signals to it and reaps what it leaves behind.
Without any argument ocirun-init holds its namespaces and reaps until SIGTERM or SIGINT.

Command line options:

  --version: Print the version.
  -h: Print this help.
  -s: Become a child subreaper.
  -p SIGNAL: Receive SIGNAL when the parent dies, e.g. \"-p SIGKILL\".
  -v: Say more. Up to 3 times.
  -w: Warn of each reaped process.
  -g: Signal the child's process group.
  -e EXIT_CODE: Turn EXIT_CODE (0 to 255) into 0.
  -l: Print the licence.
  --stop-tree[=SECONDS]: On TERM, INT or QUIT, and when the child has ended: signal
      everybody, wait for all, KILL after SECONDS (10).
  --drain=SECONDS: Hold TERM, INT and QUIT back so long before forwarding.
  --rewrite=S:R: Forward signal S as R, drop it if R is 0.

Environment variables:

  TINI_SUBREAPER: As -s.
  TINI_VERBOSITY: The level of messages (default: 1).
  TINI_KILL_PROCESS_GROUP: As -g.

";
const DUMB_INIT_HELP: &[u8] = b"Usage: dumb-init [option] command [[arg] ...]

Runs command as a child in a session of its own and forwards signals to it.

Optional arguments:
   -c, --single-child   Signal the child alone, without a session of its own.
   -r, --rewrite s:r    Forward signal s as r; drop it if r is 0. Repeatable.
   -v, --verbose        Print debugging information to stderr.
   -h, --help           Print this help message and exit.
   -V, --version        Print the current version and exit.
   --stop-tree[=SECONDS], --drain=SECONDS   As ocirun-init -h says.
";
const CATATONIT_HELP: &[u8] = b"usage: catatonit [-ghLPV] [--] <progname> [<arguments>...]

options:
  -g              Signal the child's process group.
  -h              Print this help.
  -L              Print the licence.
  -P              Run no program: pause until SIGINT or SIGTERM.
  -V, --version   Print the version.
";
const PAUSE_HELP: &[u8] = b"Usage: pause [-v]\n";
const LICENSE: &[u8] = b"ocirun-init is licensed under the Apache License, Version 2.0.
You may obtain a copy of it at http://www.apache.org/licenses/LICENSE-2.0
It is provided \"AS IS\", WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND.
";
const DUMB_INIT_REWRITE: &[u8] =
    b"Usage: -r option takes <signum>:<signum>, where <signum> is between 1 and 31.
This option can be specified multiple times.
Use --help for full usage.
";

/// The name that messages begin with.
fn name(personality: Personality) -> &'static [u8] {
    match personality {
        Personality::Own => b"ocirun-init",
        Personality::Tini => b"tini",
        Personality::DumbInit => b"dumb-init",
        Personality::Catatonit => b"catatonit",
        Personality::Pause => b"pause",
    }
}

/// The version line. Docker reads "tini version ", catatonit says it too; the number is that of the matched release.
const fn version(personality: Personality) -> &'static [u8] {
    match personality {
        Personality::DumbInit => b"dumb-init v1.2.5_ocirun-init\n",
        Personality::Catatonit => b"tini version 0.2.1_catatonit_ocirun-init\n",
        Personality::Pause => b"pause.c 3.10_ocirun-init\n",
        Personality::Own | Personality::Tini => b"tini version 0.19.0_ocirun-init\n",
    }
}

/// Prints the help.
pub fn help(personality: Personality, to: Fd) {
    match personality {
        Personality::DumbInit => {
            sys::write(Fd::STDERR, version(personality));
            sys::write(Fd::STDERR, DUMB_INIT_HELP);
        }
        Personality::Catatonit => sys::write(Fd::STDERR, CATATONIT_HELP),
        Personality::Pause => sys::write(to, PAUSE_HELP),
        Personality::Own | Personality::Tini => {
            let version = version(personality).strip_suffix(b"\n").unwrap_or(b"");
            Line::new()
                .text(name(personality))
                .text(b" (")
                .text(version)
                .text(b")")
                .send(to);
            sys::write(to, TINI_HELP);
        }
    }
}

/// Prints the version where the program in question prints it.
pub fn print_version(personality: Personality) {
    let to = if personality == Personality::DumbInit {
        Fd::STDERR
    } else {
        Fd::STDOUT
    };
    sys::write(to, version(personality));
}

/// Prints the licence.
pub fn license() {
    sys::write(Fd::STDOUT, LICENSE);
}

/// Says why the words are refused, as the program in question does.
pub fn refuse(personality: Personality, why: Refusal<'_>) {
    let line = Line::new().text(name(personality));
    match (personality, why) {
        (Personality::DumbInit, Refusal::NoProgram) => sys::write(
            Fd::STDERR,
            b"Usage: dumb-init [option] program [args]\nTry dumb-init --help for full usage.\n",
        ),
        (Personality::DumbInit, Refusal::BadValue(word, _))
            if word == b"-r" || word.starts_with(b"--rewrite") =>
        {
            sys::write(Fd::STDERR, DUMB_INIT_REWRITE);
        }
        (Personality::Own | Personality::Tini, Refusal::BadValue(word, value)) => {
            let line = Line::new()
                .text(b"[FATAL tini (")
                .number(sys::pid())
                .text(b")] Not a valid option for ");
            line.text(word).text(b": ").text(value).send(Fd::STDERR);
        }
        (_, Refusal::BadValue(word, value)) => {
            line.text(b": invalid value for ")
                .text(word)
                .text(b": ")
                .text(value)
                .send(Fd::STDERR);
        }
        (_, Refusal::Unknown(word)) => {
            if word.starts_with(b"--")
                && matches!(personality, Personality::DumbInit | Personality::Catatonit)
            {
                line.text(b": unrecognized option '")
                    .text(word)
                    .text(b"'")
                    .send(Fd::STDERR);
            } else {
                let letters = word.strip_prefix(b"-").unwrap_or(word);
                line.text(b": invalid option -- '")
                    .text(letters)
                    .text(b"'")
                    .send(Fd::STDERR);
            }
        }
        (_, Refusal::ValueMissing(word)) => {
            let letters = word.strip_prefix(b"-").unwrap_or(word);
            line.text(b": option requires an argument -- '")
                .text(letters)
                .text(b"'")
                .send(Fd::STDERR);
        }
        (Personality::Catatonit, Refusal::NoProgram) => {
            let line = Line::new().text(b"ERROR (catatonit:").number(sys::pid());
            line.text(b"): missing program name").send(Fd::STDERR);
        }
        (_, Refusal::NoProgram) => {}
    }
    if personality != Personality::DumbInit && !matches!(why, Refusal::BadValue(..)) {
        help(personality, Fd::STDERR);
    }
}

/// What strerror(3) says of the errors that an exec makes.
pub fn errno(errno: sys::Errno) -> &'static [u8] {
    match errno.0 {
        2 => b"No such file or directory",
        5 => b"Input/output error",
        7 => b"Argument list too long",
        8 => b"Exec format error",
        12 => b"Cannot allocate memory",
        13 => b"Permission denied",
        20 => b"Not a directory",
        26 => b"Text file busy",
        36 => b"File name too long",
        40 => b"Too many levels of symbolic links",
        _ => b"",
    }
}
