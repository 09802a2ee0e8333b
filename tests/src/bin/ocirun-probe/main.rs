//! The program that runs inside the containers of the tests, and says what it finds there.
//!
//! One static file, so that a root file system needs nothing else. Its arguments are steps, separated by `,`:
//! `ocirun-probe read /etc/hosts , stat /dev/null , report`. Each step prints one line of JSON on standard output,
//! `{"errno":"EACCES"}` where the kernel refused it. The last step decides the exit status.
#![forbid(unsafe_code)]

mod attacks;
mod describe;
mod files;
mod process;
mod report;
mod signals;
mod syscalls;

use std::io::Write;
use std::process::ExitCode;

use nix::errno::Errno;
use serde_json::{Value, json};

/// What a step came to: a value to print, or the kernel's refusal.
type Outcome = Result<Value, Refusal>;

/// Why a step did not succeed.
enum Refusal {
    /// A system call returned this error.
    Kernel(Errno),
    /// The step itself was written wrong: a mistake of the test, not of the runtime.
    Usage(String),
    /// The program is to end here with this status.
    Exit(u8),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::Kernel(errno)
    }
}

impl From<rustix::io::Errno> for Refusal {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Kernel(Errno::from_raw(errno.raw_os_error()))
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::Kernel(Errno::from_raw(errno)),
            None => Self::Usage(error.to_string()),
        }
    }
}

impl From<std::num::ParseIntError> for Refusal {
    fn from(error: std::num::ParseIntError) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Prints one line; a reader that went away is no error.
fn say(value: &Value) {
    let mut out = std::io::stdout().lock();
    let _gone = writeln!(out, "{value}").and_then(|()| out.flush());
}

fn step(words: &[&str]) -> Outcome {
    match *words {
        ["report"] => Ok(report::all()),
        ["describe"] => describe::print(),
        ["print", ref text @ ..] => Ok(Value::from(text.join(" "))),
        ["lines", from, count] => process::lines(from.parse()?, count.parse()?),
        ["stderr", text] => {
            eprintln!("{text}");
            Ok(Value::Null)
        }
        ["cat"] => process::cat(),
        ["sleep", seconds] => process::sleep(seconds),
        ["pause"] => process::pause(),
        ["listen", path] => process::listen(path),
        ["exit", code] => Err(Refusal::Exit(code.parse()?)),
        ["orphans", count] => process::orphans(count.parse()?),
        ["fork", count] => process::fork(count.parse()?),
        ["allocate", mebibytes] => process::allocate(mebibytes.parse()?),
        ["notify", text] => process::notify(text),
        ["raise", signal] => signals::raise(signal),
        ["trap"] => signals::trap(),
        ["winch"] => signals::winch(),
        ["syscall", name] => syscalls::attempt(name),
        ["pry", stop] => attacks::pry(stop),
        ["hold", stop] => attacks::hold(stop),
        ["seize", stop] => attacks::seize(stop),
        ["swap", one, other, stop] => attacks::swap(one, other, stop),
        _ => files::step(words),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [step, count, program, rest @ ..] = arguments.as_slice()
        && step == "with-fds"
    {
        let refusal = process::become_with_descriptors(count, program, rest);
        eprintln!("ocirun-probe: {program}: {refusal}");
        return ExitCode::from(64);
    }
    let mut last = ExitCode::SUCCESS;
    for words in arguments.split(|word| word == ",") {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match step(&words) {
            Ok(value) => {
                say(&value);
                last = ExitCode::SUCCESS;
            }
            Err(Refusal::Kernel(errno)) => {
                say(&json!({"errno": format!("{errno:?}")}));
                last = ExitCode::FAILURE;
            }
            Err(Refusal::Exit(code)) => return ExitCode::from(code),
            Err(Refusal::Usage(message)) => {
                eprintln!("ocirun-probe: {words:?}: {message}");
                return ExitCode::from(64);
            }
        }
    }
    last
}
