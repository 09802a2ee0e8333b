//! Lines of a log as the CRI wants them: `<time> stdout|stderr P|F <bytes>\n`.
//!
//! `F` ends a line; `P` is a part of one that is too long for one record.

use std::fmt::Write;

use memchr::memchr;

/// One stream of output on its way to the log.
#[derive(Debug)]
pub(crate) struct Lines {
    name: &'static str,
    /// Most bytes of a record.
    limit: usize,
    /// A line whose end has not come yet; at most `limit` bytes.
    begun: Vec<u8>,
    /// What records begin with that are read at one time: `<time> <name> F `.
    head: Vec<u8>,
}

impl Lines {
    /// A stream called `name`, `stdout` or `stderr`, with records of at most `limit` bytes.
    pub(crate) fn new(name: &'static str, limit: usize) -> Self {
        Self {
            name,
            limit: limit.max(1),
            begun: Vec::new(),
            head: Vec::new(),
        }
    }

    /// Appends the records that `output`, read at `stamp`, completes to `log`.
    pub(crate) fn add(&mut self, output: &[u8], stamp: &str, log: &mut Vec<u8>) {
        self.begin(stamp);
        let mut rest = output;
        while let Some(end) = memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end);
            let line = self.cut(line, log);
            self.record(b'F', line, log);
            self.begun.clear();
            rest = &after[1..];
        }
        let rest = self.cut(rest, log);
        self.begun.extend_from_slice(rest);
    }

    /// Appends what is left of a line that has no end.
    pub(crate) fn finish(&mut self, stamp: &str, log: &mut Vec<u8>) {
        if !self.begun.is_empty() {
            self.begin(stamp);
            self.record(b'F', &[], log);
            self.begun.clear();
        }
    }

    fn begin(&mut self, stamp: &str) {
        self.head.clear();
        for word in [stamp, self.name, "F"] {
            self.head.extend_from_slice(word.as_bytes());
            self.head.push(b' ');
        }
    }

    /// Cuts parts off a line while it is longer than a record, and gives the rest.
    fn cut<'a>(&mut self, line: &'a [u8], log: &mut Vec<u8>) -> &'a [u8] {
        let mut rest = line;
        while self.begun.len() + rest.len() > self.limit {
            let (part, after) = rest.split_at(self.limit - self.begun.len());
            self.record(b'P', part, log);
            self.begun.clear();
            rest = after;
        }
        rest
    }

    /// One record of what was begun and `more`.
    fn record(&self, tag: u8, more: &[u8], log: &mut Vec<u8>) {
        log.reserve(self.head.len() + self.begun.len() + more.len() + 1);
        log.extend_from_slice(&self.head);
        let at = log.len() - 2;
        log[at] = tag;
        log.extend_from_slice(&self.begun);
        log.extend_from_slice(more);
        log.push(b'\n');
    }
}

/// A time, in nanoseconds since 1970, in the words of RFC 3339, with all nine digits: they sort as they follow.
pub(crate) fn stamp(nanoseconds: i64) -> String {
    const DAY: i64 = 86_400;
    let seconds = nanoseconds.div_euclid(1_000_000_000);
    let (year, month, day) = date(seconds.div_euclid(DAY));
    let second = seconds.rem_euclid(DAY);
    let mut text = String::with_capacity(30);
    let _ = write!(
        text,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        nanoseconds.rem_euclid(1_000_000_000)
    );
    text
}

/// Year, month and day of a day counted from 1970, in the Gregorian calendar.
fn date(days: i64) -> (i64, i64, i64) {
    // Eras of 400 years that begin with March, so that the leap day is the last of its year.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (year + era * 400 + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(limit: usize, outputs: &[&str]) -> String {
        let mut lines = Lines::new("stdout", limit);
        let mut log = Vec::new();
        for output in outputs {
            lines.add(output.as_bytes(), "T", &mut log);
        }
        lines.finish("E", &mut log);
        String::from_utf8(log).unwrap()
    }

    #[test]
    fn records() {
        for (outputs, expected) in [
            (&["a\n"][..], "T stdout F a\n"),
            (&["a\nb\n"], "T stdout F a\nT stdout F b\n"),
            (&["a", "b\n"], "T stdout F ab\n"),
            (&["\n\n"], "T stdout F \nT stdout F \n"),
            (&[""], ""),
            (&["end"], "E stdout F end\n"),
            // As long as a record may be, and longer.
            (&["1234\n"], "T stdout F 1234\n"),
            (&["1234", "\n"], "T stdout F 1234\n"),
            (&["12345\n"], "T stdout P 1234\nT stdout F 5\n"),
            (&["123", "45\n"], "T stdout P 1234\nT stdout F 5\n"),
            (
                &["123456789"],
                "T stdout P 1234\nT stdout P 5678\nE stdout F 9\n",
            ),
        ] {
            assert_eq!(log(4, outputs), expected, "{outputs:?}");
        }
    }

    #[test]
    fn the_same_however_it_is_cut() {
        let text = "one\ntwo and a half\n\nthree three three\nno end";
        let whole = log(7, &[text]).replace("E ", "T ");
        for size in 1..9 {
            let parts: Vec<&str> = text
                .as_bytes()
                .chunks(size)
                .map(|part| str::from_utf8(part).unwrap())
                .collect();
            assert_eq!(log(7, &parts).replace("E ", "T "), whole, "{size}");
        }
    }

    #[test]
    fn stamps() {
        for (time, expected) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
            (1_709_251_199_999_999_999, "2024-02-29T23:59:59.999999999Z"),
            (1_709_251_200_000_000_000, "2024-03-01T00:00:00.000000000Z"),
            (4_102_444_799_000_000_000, "2099-12-31T23:59:59.000000000Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
        ] {
            assert_eq!(stamp(time), expected);
        }
    }
}
