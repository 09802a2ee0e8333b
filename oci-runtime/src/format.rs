//! What is printed of containers, in the forms that callers of runc read.

use std::collections::BTreeMap;
use std::path::Path;

use nix::sys::signal::Signal;
use runtime_core::State;
use serde::Serialize;

use crate::time;

/// A state in the order of runc's fields.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StateView<'a> {
    oci_version: &'a str,
    id: &'a str,
    pid: i32,
    status: &'static str,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    owner: &'a str,
}

impl<'a> StateView<'a> {
    pub(crate) fn new(state: &'a State, owner: &'a str) -> Self {
        Self {
            oci_version: &state.oci_version,
            id: &state.id,
            pid: state.pid,
            status: state.status.name(),
            bundle: &state.bundle,
            rootfs: &state.rootfs,
            created: time::nanoseconds(state.created),
            annotations: &state.annotations,
            owner,
        }
    }
}

/// An error of reading or writing a file, in the words that callers search for.
pub(crate) fn io(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => runtime_core::describe(nix::errno::Errno::from_raw(errno)),
        None => error.to_string(),
    }
}

/// Rows in columns as wide as their widest cell and three spaces, and at least twelve.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let widest = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max();
        (widest.unwrap_or_default() + 3).max(12)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter().fold(String::new(), |mut text, row| {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < row.len() {
                let padding = widths[column] - cell.chars().count();
                text.extend(std::iter::repeat_n(' ', padding));
            }
        }
        text.push('\n');
        text
    })
}

/// The number of a signal by its name, with or without `SIG`, or by its number.
pub(crate) fn signal(written: &str) -> Option<i32> {
    if let Ok(number) = written.parse::<i32>() {
        return (0..=64).contains(&number).then_some(number);
    }
    let upper = written.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(number) = real_time(bare) {
        return Some(number);
    }
    format!("SIG{bare}")
        .parse::<Signal>()
        .ok()
        .map(|signal| signal as i32)
}

/// `RTMIN`, `RTMIN+n`, `RTMAX-n`.
fn real_time(name: &str) -> Option<i32> {
    let (first, last) = (34, 64);
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => first,
        (_, Some("")) => last,
        (Some(rest), _) => first + rest.strip_prefix('+')?.parse::<i32>().ok()?,
        (_, Some(rest)) => last - rest.strip_prefix('-')?.parse::<i32>().ok()?,
        _ => return None,
    };
    (first..=last).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals() {
        for (written, expected) in [
            ("TERM", Some(15)),
            ("SIGKILL", Some(9)),
            ("kill", Some(9)),
            ("9", Some(9)),
            ("64", Some(64)),
            ("RTMIN+3", Some(37)),
            ("SIGRTMAX-1", Some(63)),
            ("RTMIN+31", None),
            ("0", Some(0)),
            ("65", None),
            ("NOPE", None),
            ("", None),
        ] {
            assert_eq!(signal(written), expected, "{written}");
        }
    }

    #[test]
    fn columns() {
        let row = |cells: &[&str]| {
            cells
                .iter()
                .map(|&cell| cell.to_owned())
                .collect::<Vec<_>>()
        };
        let text = table(&[
            row(&["ID", "PID", "X"]),
            row(&["a-long-container", "1", "y"]),
        ]);
        assert_eq!(
            text,
            "ID                 PID         X\na-long-container   1           y\n"
        );
    }
}
