//! What ran where: counts per variant and test file, and the table of a matrix.

use std::fmt::Write as _;

/// What one test file said at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tests that passed.
    pub passed: u32,
    /// Tests that failed.
    pub failed: u32,
    /// Tests that could not run there.
    pub ignored: u32,
}

impl Counts {
    /// Reads the harness' last line: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let rest = line.trim_start().strip_prefix("test result: ")?;
        let count = |what: &str| {
            let part = rest
                .split(['.', ';'])
                .find_map(|part| part.trim().strip_suffix(what))?;
            part.trim().parse().ok()
        };
        Some(Self {
            passed: count("passed")?,
            failed: count("failed")?,
            ignored: count("ignored")?,
        })
    }
}

/// One task in one variant.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The task's name.
    pub name: String,
    /// Its exit code; none if the machine ended before.
    pub code: Option<i32>,
    /// What the harness counted, if it came to its end.
    pub counts: Option<Counts>,
}

impl Outcome {
    /// `passed (ignored)`, and in bold what is not as it should be.
    fn cell(&self) -> String {
        match (self.counts, self.code) {
            (Some(counts), code) => {
                let mut cell = counts.passed.to_string();
                if counts.ignored > 0 {
                    let _infallible = write!(cell, " ({})", counts.ignored);
                }
                if counts.failed > 0 {
                    let _infallible = write!(cell, " **{} failed**", counts.failed);
                } else if code != Some(0) {
                    cell.push_str(" **failed**");
                }
                cell
            }
            (None, Some(code)) => format!("**exit {code}**"),
            (None, None) => "**no end**".to_owned(),
        }
    }
}

/// A variant's name with the outcome of each of its tasks, or why it could not be booted.
pub type Row = (String, Result<Vec<Outcome>, String>);

/// A table with a line for each task and a column for each variant.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for outcome in rows
        .iter()
        .filter_map(|(_, row)| row.as_ref().ok())
        .flatten()
    {
        if !names.contains(&outcome.name.as_str()) {
            names.push(&outcome.name);
        }
    }
    let mut text = String::from("| passed (ignored) |");
    for (variant, _) in rows {
        let _infallible = write!(text, " {variant} |");
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(rows.len()));
    for name in names {
        let _infallible = write!(text, "\n| {name} |");
        for (_, row) in rows {
            let outcome = row
                .as_ref()
                .ok()
                .and_then(|outcomes| outcomes.iter().find(|outcome| outcome.name == name));
            let cell = outcome.map_or_else(|| "**not run**".to_owned(), Outcome::cell);
            let _infallible = write!(text, " {cell} |");
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::{Counts, Outcome, table};

    #[test]
    fn the_last_line_of_the_harness() {
        let line = "test result: FAILED. 12 passed; 2 failed; 3 ignored; 0 measured; 1 filtered out; finished in 0.71s\n";
        let counts = Counts {
            passed: 12,
            failed: 2,
            ignored: 3,
        };
        assert_eq!(Counts::parse(line), Some(counts));
        assert_eq!(Counts::parse("test x ... ok"), None);
    }

    #[test]
    fn a_variant_that_did_not_boot_has_a_column() {
        let outcome = Outcome {
            name: "exec".to_owned(),
            code: Some(0),
            counts: Counts::parse("test result: ok. 3 passed; 0 failed; 1 ignored"),
        };
        let rows = [
            ("v2".to_owned(), Ok(vec![outcome])),
            ("v1".to_owned(), Err("no".to_owned())),
        ];
        assert_eq!(
            table(&rows),
            "| passed (ignored) | v2 | v1 |\n|---|---|---|\n| exec | 3 (1) | **not run** |\n"
        );
    }
}
