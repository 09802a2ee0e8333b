//! `ocirun-bench`: measures, prints the table, writes JSON and SVG under `target/bench/`. See `--help`.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use ocirun_bench::options::{HELP, Options};
use ocirun_bench::{suite, svg, sys};
use serde_json::json;

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(|options| measure(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("ocirun-bench: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<(), String> {
    if options.help {
        print!("{HELP}");
        return Ok(());
    }
    sys::catch_signals();
    fs::create_dir_all(&options.output)
        .map_err(|error| format!("make {}: {error}", options.output.display()))?;
    let mut tables = Vec::new();
    for name in &options.suites {
        let table = suite(name, options)?;
        if sys::interrupted() {
            return Err("interrupted; everything made for the measurement is removed".to_owned());
        }
        print!("{table}");
        write(
            &options.output.join(format!("{name}.svg")),
            &svg::draw(&table),
        )?;
        tables.push(table);
    }
    let report = json!({"host": host(), "tables": tables});
    let text = format!("{report:#}\n");
    write(&options.output.join("bench.json"), &text)?;
    options
        .json
        .as_deref()
        .map_or(Ok(()), |path| write(path, &text))
}

/// The machine that the figures are from.
fn host() -> serde_json::Value {
    let line = |path: &str| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    json!({
        "kernel": line("/proc/sys/kernel/osrelease"),
        "architecture": std::env::consts::ARCH,
        "cpus": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "load": line("/proc/loadavg"),
    })
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("write {}: {error}", path.display()))
}
