//! Steps about signals, through a signalfd so that no handler is needed.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use serde_json::{Value, json};

use crate::{Outcome, Refusal, say};

fn named(name: &str) -> Result<Signal, Refusal> {
    name.parse()
        .map_err(|_| Refusal::Usage(format!("signal {name}")))
}

/// Sends a signal to this process with the default action in place.
pub fn raise(name: &str) -> Outcome {
    nix::sys::signal::raise(named(name)?)?;
    Ok(Value::Null)
}

fn next(source: &SignalFd) -> Result<Signal, Refusal> {
    loop {
        if let Some(info) = source.read_signal()? {
            let number =
                i32::try_from(info.ssi_signo).map_err(|error| Refusal::Usage(error.to_string()))?;
            return Ok(Signal::try_from(number)?);
        }
    }
}

fn caught(set: SigSet) -> Result<SignalFd, Refusal> {
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?)
}

/// Prints `"ready"`, then the name of every signal as it comes; SIGTERM ends it.
pub fn trap() -> Outcome {
    let source = caught(SigSet::all())?;
    say(&Value::from("ready"));
    loop {
        let signal = next(&source)?;
        say(&Value::from(signal.as_str()));
        if signal == Signal::SIGTERM {
            return Ok(Value::from("end"));
        }
    }
}

/// Prints the terminal's size, and again after each SIGWINCH; SIGTERM ends it.
pub fn winch() -> Outcome {
    let mut set = SigSet::empty();
    set.add(Signal::SIGWINCH);
    set.add(Signal::SIGTERM);
    let source = caught(set)?;
    loop {
        let size = rustix::termios::tcgetwinsize(std::io::stdin())?;
        say(&json!({"rows": size.ws_row, "columns": size.ws_col}));
        if next(&source)? == Signal::SIGTERM {
            return Ok(Value::from("end"));
        }
    }
}
