//! Runs a command and writes the most memory it had at a time, in KiB, into the file that is the first argument.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a broken test bed ends the test, with the facts"
)]

use std::process::{Command, ExitCode};

use nix::sys::resource::{UsageWho, getrusage};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let report = arguments.next().expect("a file to report to");
    let program = arguments.next().expect("a command");
    let status = Command::new(program).args(arguments).status().unwrap();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    std::fs::write(report, usage.max_rss().to_string()).unwrap();
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}
