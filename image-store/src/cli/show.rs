//! What people and programs see: tables, JSON, and the progress of a pull as bars, lines or JSON events.

use image_store::Result;
use image_store::pull::{Event, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Prints a value as JSON.
pub fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| {
        image_store::Error::new(image_store::ErrorKind::Invalid, format!("JSON: {e}"))
    })?;
    line(&text)
}

/// Prints a line; a reader that went away is an error like any other.
pub fn line(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}")
        .map_err(|e| image_store::Error::os("write to standard output", &e))
}

/// Prints rows under a header, each column as wide as it must be.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> Result<()> {
    let header = header
        .iter()
        .map(|&text| text.to_owned())
        .collect::<Vec<_>>();
    let all = std::iter::once(&header).chain(rows).collect::<Vec<_>>();
    let width = |column: usize| {
        all.iter()
            .filter_map(|row| row.get(column))
            .map(|text| text.chars().count())
            .max()
    };
    let widths = (0..header.len())
        .map(|column| width(column).unwrap_or(0))
        .collect::<Vec<_>>();
    for row in all {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(text, width)| format!("{text:width$}"));
        line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// Bytes as people read them.
pub fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}

/// The progress of one pull in the form that suits where it goes.
pub fn progress(is_json: bool, is_quiet: bool) -> Progress {
    if is_json {
        return Arc::new(|event| {
            drop(std::io::stdout().write_all(format!("{}\n", event_json(&event)).as_bytes()));
        });
    }
    if is_quiet {
        return Arc::new(drop);
    }
    if std::io::stderr().is_terminal() {
        return bars();
    }
    Arc::new(|event| {
        let text = match event {
            Event::Resolved(digest, layers) => format!("{digest}: {} layers", layers.len()),
            Event::Present(layer) => format!("layer {layer}: present"),
            Event::Unpacked(layer) => format!("layer {layer}: unpacked"),
            Event::Committing => "committing".to_owned(),
            Event::Bytes(..) => return,
        };
        error_line(&text);
    })
}

/// A line on standard error. One that cannot be written is nobody's to hear.
pub fn error_line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn event_json(event: &Event) -> serde_json::Value {
    use serde_json::json;
    match event {
        Event::Resolved(digest, layers) => {
            let layers = layers
                .iter()
                .map(|(digest, size)| json!({"digest": digest, "size": size}));
            json!({"event": "resolved", "manifest": digest, "layers": layers.collect::<Vec<_>>()})
        }
        Event::Present(layer) => json!({"event": "present", "layer": layer}),
        Event::Bytes(layer, bytes) => json!({"event": "bytes", "layer": layer, "bytes": bytes}),
        Event::Unpacked(layer) => json!({"event": "unpacked", "layer": layer}),
        Event::Committing => json!({"event": "committing"}),
    }
}

fn bars() -> Progress {
    let all = MultiProgress::new();
    let style =
        ProgressStyle::with_template("{prefix:19} {bar:30} {bytes:>11}/{total_bytes:11} {msg}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let layers: Mutex<Vec<ProgressBar>> = Mutex::default();
    Arc::new(move |event| {
        let mut layers = layers.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Resolved(_, sizes) => {
                for (digest, size) in sizes {
                    let bar = all.add(ProgressBar::new(size)).with_style(style.clone());
                    bar.set_prefix(digest.to_string().chars().take(19).collect::<String>());
                    layers.push(bar);
                }
            }
            Event::Bytes(layer, bytes) => layers[layer].inc(bytes),
            Event::Present(layer) => layers[layer].finish_with_message("present"),
            Event::Unpacked(layer) => layers[layer].finish_with_message("unpacked"),
            Event::Committing => layers
                .iter()
                .filter(|bar| !bar.is_finished())
                .for_each(ProgressBar::finish),
        }
    })
}
