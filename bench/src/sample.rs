//! Taking samples so that drift of the machine hits every subject alike.

use crate::table::Row;

/// One program under measurement in one row.
pub struct Subject<'a> {
    /// As shown in the report.
    pub name: String,
    /// Takes one sample, in the row's unit, or says why it could not.
    pub sample: Box<dyn FnMut() -> Result<f64, String> + 'a>,
}

impl<'a> Subject<'a> {
    /// A subject whose samples `sample` takes.
    pub fn new(name: &str, sample: impl FnMut() -> Result<f64, String> + 'a) -> Self {
        Self {
            name: name.to_owned(),
            sample: Box::new(sample),
        }
    }
}

impl std::fmt::Debug for Subject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Samples taken before the counted ones, to warm caches.
const WARM_UP: usize = 2;

/// Takes `runs` samples of every subject in turn (A B C A B C), after two uncounted ones, and fills `row`.
///
/// A subject that fails is dropped with its reason, its earlier samples with it; the others go on.
pub fn interleave(row: &mut Row, subjects: Vec<Subject<'_>>, runs: usize) {
    let mut states: Vec<_> = subjects
        .into_iter()
        .map(|subject| (subject, Ok(Vec::with_capacity(runs))))
        .collect();
    for round in 0..WARM_UP + runs {
        for (subject, state) in &mut states {
            let Ok(samples) = state else { continue };
            match (subject.sample)() {
                Ok(value) if round >= WARM_UP => samples.push(value),
                Ok(_) => {}
                Err(reason) => *state = Err(reason),
            }
        }
    }
    for (subject, state) in states {
        match state {
            Ok(samples) => row.measured(&subject.name, samples),
            Err(reason) => row.missing(&subject.name, &reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::table::Unit;

    #[test]
    fn subjects_take_turns_and_a_failure_stays_alone() {
        let order = RefCell::new(String::new());
        let turn = |letter: char| order.borrow_mut().push(letter);
        let subjects = vec![
            Subject::new("a", || {
                turn('a');
                Ok(1.0)
            }),
            Subject::new("b", || {
                turn('b');
                Err("broken".to_owned())
            }),
        ];
        let mut row = Row::new("x", "x", Unit::Count);
        interleave(&mut row, subjects, 2);
        assert_eq!(*order.borrow(), "abaaa");
        assert_eq!(row.samples("a").map(crate::table::Samples::count), Some(2));
        assert!(row.samples("b").is_none());
    }
}
