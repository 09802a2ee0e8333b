//! The program that cases run inside an init: it writes every signal that it gets to a file.

use std::fs::OpenOptions;
use std::io::Write as _;

use nix::sys::signal::SigSet;
use nix::sys::signalfd::SignalFd;

/// Blocks everything, says `ready`, then writes `number:value` for each signal, in order. Runs until it is killed.
pub fn run(file: &str) -> Result<(), Box<dyn std::error::Error>> {
    SigSet::all().thread_block()?;
    let signals = SignalFd::new(&SigSet::all())?;
    let mut file = OpenOptions::new().append(true).create(true).open(file)?;
    writeln!(file, "ready")?;
    while let Some(signal) = signals.read_signal()? {
        writeln!(file, "<{}:{}>", signal.ssi_signo, signal.ssi_int)?;
    }
    Ok(())
}
