//! Instants and durations as Azure writes them.

use chrono::{DateTime, NaiveDateTime, SecondsFormat, TimeDelta, Utc};

/// With seven digits after the second, as recorded.
pub(super) fn seven_digits(at: DateTime<Utc>) -> String {
    let head = at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let ticks = at.timestamp_subsec_nanos() / 100;
    format!("{}.{ticks:07}Z", head.trim_end_matches('Z'))
}

/// Reads an instant; one without an offset is UTC, as Azure takes it.
pub(super) fn parse(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text)
        .map(|at| at.with_timezone(&Utc))
        .ok()
        .or_else(|| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok().map(|at| at.and_utc()))
}

/// Reads an ISO 8601 duration of days, hours, minutes and seconds.
pub(super) fn duration(text: &str) -> Option<TimeDelta> {
    let rest = text.strip_prefix('P')?;
    let (days, clock) = match rest.split_once('T') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (rest, ""),
    };
    if days.is_empty() && clock.is_empty() {
        return None;
    }
    let seconds = parts(days, &[('D', 86_400)])?.checked_add(parts(clock, &[('H', 3_600), ('M', 60), ('S', 1)])?)?;
    TimeDelta::try_seconds(seconds)
}

/// Sums numbers with their units, each unit at most once and in this order.
fn parts(mut text: &str, units: &[(char, i64)]) -> Option<i64> {
    let mut sum = 0_i64;
    for (unit, seconds) in units {
        if let Some((number, rest)) = text.split_once(*unit) {
            if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            sum = sum.checked_add(number.parse::<i64>().ok()?.checked_mul(*seconds)?)?;
            text = rest;
        }
    }
    text.is_empty().then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, seconds) in
            [("PT3H", 10_800), ("PT1H30M", 5_400), ("PT0H6M", 360), ("P1D", 86_400), ("PT24H", 86_400), ("P1DT1S", 86_401)]
        {
            assert_eq!(duration(text).map(|d| d.num_seconds()), Some(seconds), "{text}");
        }
        for text in ["", "P", "PT", "3H", "PT3", "PTH", "PT-3H", "PT3H5", "P1M", "PT5M3H", "PT1.5H"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn instants_are_read_and_written_with_seven_digits() {
        let at = parse("2018-07-22T15:51:55.21337Z");
        assert_eq!(at.map(seven_digits).as_deref(), Some("2018-07-22T15:51:55.2133700Z"));
        assert_eq!(parse("2018-07-22T17:51:55.21337+02:00"), at);
        assert_eq!(parse("2018-07-22T15:51:55.21337"), at);
        assert_eq!(parse("tomorrow"), None);
    }
}
