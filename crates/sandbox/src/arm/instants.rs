//! Instants as Azure writes them.

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_and_written_with_seven_digits() {
        let at = parse("2018-07-22T15:51:55.21337Z");
        assert_eq!(at.map(seven_digits).as_deref(), Some("2018-07-22T15:51:55.2133700Z"));
        assert_eq!(parse("2018-07-22T17:51:55.21337+02:00"), at);
        assert_eq!(parse("2018-07-22T15:51:55.21337"), at);
        assert_eq!(parse("tomorrow"), None);
    }
}
