//! What a suite returns: a [`Table`] of [`Row`]s, each with one [`Cell`] a subject.
//!
//! A suite is a module with a function that measures and returns a `Table`; `main` prints it ([`Table`]'s `Display`),
//! writes it as JSON and draws it. A subject is one of the programs compared, by the name shown to the reader
//! (`runc 1.1.5`, `floor`). A subject that is absent or breaks still gets its cell: [`Outcome::Missing`] with the reason.
//!
//! ```ignore
//! let mut row = Row::new("state", "state of a running container", Unit::Milliseconds);
//! row.measured("crun 1.8.1", crun_samples);
//! row.missing("youki", "not found on this machine");
//! row.goals.push(Goal::ratio("ocirun", "crun 1.8.1", 0.4));
//! ```

use std::fmt;

use serde::Serialize;

/// What one suite measured.
#[derive(Debug, Clone, Serialize)]
pub struct Table {
    /// Short name of the suite, also the stem of its files: `start`, `init`, `pull`.
    pub suite: &'static str,
    /// The heading, with what a reader has to know to place the figures.
    pub title: String,
    /// Remarks printed below: which payload, which control groups, what was left out and why.
    pub notes: Vec<String>,
    /// One row a measurement, in the order of the report.
    pub rows: Vec<Row>,
}

/// One measurement, for every subject.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Key of the row for `--only` and the JSON file: lower case, no spaces.
    pub name: &'static str,
    /// What was measured, in words.
    pub label: String,
    /// Unit of every sample.
    pub unit: Unit,
    /// One a subject, in the order of the columns.
    pub cells: Vec<Cell>,
    /// What the row is to reach.
    pub goals: Vec<Goal>,
}

/// A subject's figures in one row.
#[derive(Debug, Clone, Serialize)]
pub struct Cell {
    /// The program measured.
    pub subject: String,
    /// Its samples, or why there are none.
    pub outcome: Outcome,
}

/// What came of measuring one subject.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// At least one sample.
    Measured(Samples),
    /// No figure, and the reason.
    Missing(String),
}

/// The unit of a row. Smaller is better in all of them except [`Unit::PerSecond`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Wall-clock time.
    Milliseconds,
    /// Wall-clock or processor time.
    Microseconds,
    /// Wall-clock time.
    Seconds,
    /// 1,024 bytes.
    Kibibytes,
    /// A plain count.
    Count,
    /// A rate.
    PerSecond,
}

impl Unit {
    /// The unit as printed behind a figure.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Microseconds => "µs",
            Self::Seconds => "s",
            Self::Kibibytes => "KiB",
            Self::Count => "",
            Self::PerSecond => "/s",
        }
    }
}

/// The samples of one subject, sorted; never empty.
#[derive(Debug, Clone)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Sorts the samples; `None` if there are none or one of them is not a number.
    pub fn new(mut values: Vec<f64>) -> Option<Self> {
        if values.is_empty() || values.iter().any(|value| value.is_nan()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        Some(Self(values))
    }

    /// The smallest.
    pub fn min(&self) -> f64 {
        self.quantile(0)
    }

    /// The median.
    pub fn p50(&self) -> f64 {
        self.quantile(50)
    }

    /// The 99th percentile; the largest sample while there are fewer than 100.
    pub fn p99(&self) -> f64 {
        self.quantile(99)
    }

    /// The arithmetic mean.
    pub fn mean(&self) -> f64 {
        #[allow(
            clippy::cast_precision_loss,
            reason = "a count of samples is far below 2^52"
        )]
        let count = self.0.len() as f64;
        self.0.iter().sum::<f64>() / count
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Nearest rank: the smallest sample that at least `percent` of all samples do not exceed.
    fn quantile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or(f64::NAN)
    }
}

impl Serialize for Samples {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut out = serializer.serialize_struct("Samples", 6)?;
        out.serialize_field("count", &self.count())?;
        out.serialize_field("min", &self.min())?;
        out.serialize_field("p50", &self.p50())?;
        out.serialize_field("p99", &self.p99())?;
        out.serialize_field("mean", &self.mean())?;
        out.serialize_field("samples", &self.0)?;
        out.end()
    }
}

/// What a row is to reach, judged on medians.
#[derive(Debug, Clone, Serialize)]
pub struct Goal {
    /// The subject that is to reach it.
    pub subject: String,
    /// Whose median counts as 1; without one the limit is in the row's unit.
    pub against: Option<String>,
    /// The largest value that still reaches the goal.
    pub at_most: f64,
}

impl Goal {
    /// `subject` is to need at most `at_most` times what `against` needs.
    pub fn ratio(subject: &str, against: &str, at_most: f64) -> Self {
        Self {
            subject: subject.to_owned(),
            against: Some(against.to_owned()),
            at_most,
        }
    }

    /// `subject` is to stay at or below `at_most` in the row's unit.
    pub fn absolute(subject: &str, at_most: f64) -> Self {
        Self {
            subject: subject.to_owned(),
            against: None,
            at_most,
        }
    }

    /// What was reached, or `None` where a figure is missing.
    pub fn reached(&self, row: &Row) -> Option<f64> {
        let own = row.samples(&self.subject)?.p50();
        match &self.against {
            None => Some(own),
            Some(peer) => Some(own / row.samples(peer)?.p50()),
        }
    }
}

impl Row {
    /// A row without cells.
    pub fn new(name: &'static str, label: &str, unit: Unit) -> Self {
        Self {
            name,
            label: label.to_owned(),
            unit,
            cells: Vec::new(),
            goals: Vec::new(),
        }
    }

    /// Adds a subject's samples; none at all become a missing cell.
    pub fn measured(&mut self, subject: &str, values: Vec<f64>) {
        match Samples::new(values) {
            Some(samples) => self.push(subject, Outcome::Measured(samples)),
            None => self.missing(subject, "no sample was taken"),
        }
    }

    /// Adds a subject without figures.
    pub fn missing(&mut self, subject: &str, reason: &str) {
        self.push(subject, Outcome::Missing(reason.to_owned()));
    }

    /// The samples of `subject`, if it has any.
    pub fn samples(&self, subject: &str) -> Option<&Samples> {
        self.cells
            .iter()
            .find(|cell| cell.subject == subject)
            .and_then(|cell| match &cell.outcome {
                Outcome::Measured(samples) => Some(samples),
                Outcome::Missing(_) => None,
            })
    }

    fn push(&mut self, subject: &str, outcome: Outcome) {
        self.cells.push(Cell {
            subject: subject.to_owned(),
            outcome,
        });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        for row in &self.rows {
            write!(f, "\n{row}")?;
        }
        if !self.notes.is_empty() {
            writeln!(f)?;
        }
        self.notes
            .iter()
            .try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.unit.symbol();
        let heading = if unit.is_empty() {
            self.label.clone()
        } else {
            format!("{}, {unit}", self.label)
        };
        writeln!(f, "{heading} [{}]", self.name)?;
        writeln!(
            f,
            "  {:<16}{:>10}{:>10}{:>10}{:>10}{:>7}",
            "", "min", "p50", "p99", "mean", "n"
        )?;
        for cell in &self.cells {
            match &cell.outcome {
                Outcome::Missing(reason) => writeln!(f, "  {:<16}  - ({reason})", cell.subject)?,
                Outcome::Measured(s) => writeln!(
                    f,
                    "  {:<16}{:>10.2}{:>10.2}{:>10.2}{:>10.2}{:>7}",
                    cell.subject,
                    s.min(),
                    s.p50(),
                    s.p99(),
                    s.mean(),
                    s.count()
                )?,
            }
        }
        self.goals
            .iter()
            .try_for_each(|goal| write_goal(f, self, goal))
    }
}

fn write_goal(f: &mut fmt::Formatter<'_>, row: &Row, goal: &Goal) -> fmt::Result {
    let against = goal
        .against
        .as_deref()
        .map_or_else(|| row.unit.symbol().to_owned(), |peer| format!("× {peer}"));
    write!(f, "  goal: {} ≤ {} {against}: ", goal.subject, goal.at_most)?;
    match goal.reached(row) {
        Some(value) if value <= goal.at_most => writeln!(f, "{value:.2}, reached"),
        Some(value) => writeln!(f, "{value:.2}, missed"),
        None => writeln!(f, "not measured"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_rank() {
        let hundred = Samples::new((1..=100).rev().map(f64::from).collect()).unwrap();
        assert_eq!(
            (hundred.min(), hundred.p50(), hundred.p99(), hundred.mean()),
            (1.0, 50.0, 99.0, 50.5)
        );
        let three = Samples::new(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((three.min(), three.p50(), three.p99()), (1.0, 2.0, 3.0));
    }

    #[test]
    fn no_samples_or_nan_is_no_figure() {
        assert!(Samples::new(Vec::new()).is_none());
        assert!(Samples::new(vec![1.0, f64::NAN]).is_none());
    }

    #[test]
    fn a_goal_without_its_peer_is_not_measured() {
        let mut row = Row::new("run", "run", Unit::Milliseconds);
        row.measured("ocirun", vec![2.0]);
        row.missing("crun", "not found");
        row.goals.push(Goal::ratio("ocirun", "crun", 0.5));
        assert_eq!(row.goals[0].reached(&row), None);
        assert!(row.to_string().contains("- (not found)"));
        assert!(row.to_string().contains("not measured"));
    }

    #[test]
    fn goals_compare_medians() {
        let mut row = Row::new("run", "run", Unit::Milliseconds);
        row.measured("ocirun", vec![1.0, 2.0, 90.0]);
        row.measured("crun", vec![4.0, 4.0, 4.0]);
        assert_eq!(Goal::ratio("ocirun", "crun", 0.5).reached(&row), Some(0.5));
        assert_eq!(Goal::absolute("ocirun", 1.5).reached(&row), Some(2.0));
    }
}
