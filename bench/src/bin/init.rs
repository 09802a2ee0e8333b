//! `ocirun-bench-init [--starts N] [--unblocked N] [--zombies N] [--idle SECONDS] PROGRAM…`: the figures of PID 1 as JSON lines.

use std::path::PathBuf;
use std::process::ExitCode;

use ocirun_bench::init::{Effort, payload, run};
use serde_json::json;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    payload(&words);
    match measure(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("ocirun-bench-init: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn measure(words: &[String]) -> Result<(), String> {
    let mut effort = Effort {
        starts: 10_000,
        unblocked_starts: 10_000,
        zombies: 10_000,
        idle: 60,
    };
    let mut programs = Vec::new();
    let mut rest = words.iter().skip(1);
    while let Some(word) = rest.next() {
        let mut value = || {
            rest.next()
                .and_then(|text| text.parse::<u32>().ok())
                .ok_or_else(|| format!("{word}: no number"))
        };
        match word.as_str() {
            "--starts" => effort.starts = value()?,
            "--unblocked" => effort.unblocked_starts = value()?,
            "--zombies" => effort.zombies = value()?,
            "--idle" => effort.idle = value()?.into(),
            _ => programs.push(PathBuf::from(word)),
        }
    }
    for row in run(&programs, effort)? {
        println!(
            "{}",
            json!({"program": row.program, "what": row.what, "value": row.value, "unit": row.unit})
        );
    }
    Ok(())
}
