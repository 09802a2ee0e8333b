//! Times in UTC as RFC 3339 writes them.

use std::time::{SystemTime, UNIX_EPOCH};

/// With as many digits of the second as it has, down to nanoseconds, as Go's `RFC3339Nano`.
pub(crate) fn nanoseconds(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let fraction = format!(".{:09}", since.subsec_nanos());
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!("{}{fraction}Z", date(since.as_secs()))
}

/// To the second.
pub(crate) fn seconds(time: SystemTime) -> String {
    format!(
        "{}Z",
        date(
            time.duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs()
        )
    )
}

fn date(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Year, month and day, counted in eras of 400 years that begin on the first of March.
fn civil(days_since_1970: u64) -> (u64, u64, u64) {
    let days = days_since_1970 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates() {
        for (second, nanosecond, expected) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_400, 0, "2000-02-29T00:00:00Z"),
            (951_868_799, 120_000_000, "2000-02-29T23:59:59.12Z"),
            (4_107_542_400, 1, "2100-03-01T00:00:00.000000001Z"),
            (1_795_253_383, 0, "2026-11-21T09:29:43Z"),
        ] {
            let time = UNIX_EPOCH + Duration::new(second, nanosecond);
            assert_eq!(nanoseconds(time), expected);
        }
    }
}
