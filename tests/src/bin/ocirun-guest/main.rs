//! The test machine's side of `ocirun-machine`: one program for three parts.
//!
//! - `/init` of the initial RAM disk: loads the drivers, mounts the disks, and gives the machine to its PID 1.
//! - `plain`: that PID 1, where systemd is not wanted.
//! - `job`: does the job, and turns the machine off.
#![forbid(unsafe_code)]

mod boot;
mod job;
mod plain;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let own = arguments.next().unwrap_or_default();
    let result = match arguments.next().as_deref() {
        _ if own == "/init" => boot::run(),
        Some("plain") => plain::run(),
        Some("job") => job::run(),
        _ => Err("this program runs in the test machine of `cargo machine` only".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => {
            eprintln!("ocirun-guest: {words}");
            ExitCode::FAILURE
        }
    }
}
