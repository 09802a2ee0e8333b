//! Mounts as the container sees them, and sources to mount.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::Bundle;

/// The last mount at a path, as the container sees it.
pub fn at<'a>(report: &'a Value, path: &str) -> &'a Value {
    let mounts = report["mounts"].as_array().unwrap();
    mounts
        .iter()
        .rev()
        .find(|mount| mount["at"] == path)
        .unwrap_or_else(|| panic!("nothing mounted at {path}"))
}

/// Whether a mount has an option.
pub fn has(mount: &Value, option: &str) -> bool {
    mount["options"]
        .as_array()
        .unwrap()
        .iter()
        .any(|found| found == option)
}

/// Whether the file system of a mount has an option.
pub fn has_data(mount: &Value, option: &str) -> bool {
    mount["super_options"]
        .as_array()
        .unwrap()
        .iter()
        .any(|found| found == option)
}

/// What a probe in a container of the bundle reports.
pub fn report(bundle: Bundle) -> Value {
    bundle.probe(&["report"]).container().run().ok().value()
}

/// What a probe in a container of the bundle says to each of these steps.
pub fn values(bundle: Bundle, steps: &[&str]) -> Vec<Value> {
    bundle.probe(steps).container().run().values()
}

/// A directory of the host with one file, inside the bundle so that it is removed with it.
pub fn source(bundle: &Bundle) -> PathBuf {
    let directory = bundle.path().join("source");
    fs::create_dir_all(directory.join("below")).unwrap();
    fs::write(directory.join("file"), "from the host").unwrap();
    directory
}

/// Adds a bind mount of a [`source`].
pub fn bind(bundle: Bundle, destination: &str, options: &[&str]) -> Bundle {
    let source = source(&bundle);
    bundle.mount(
        json!({"destination": destination, "type": "bind", "source": source, "options": options}),
    )
}
