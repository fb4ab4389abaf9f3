//! ISO 8601 durations, as JIT policies and our own settings write them.

use chrono::TimeDelta;
use jiff::{Span, SpanRelativeTo, Unit};

use crate::plain::quoted;

/// Why a text is not a duration that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It is not written as ISO 8601.
    #[error("`{}` is not an ISO 8601 duration such as PT3H or PT1H30M", quoted(.0))]
    NotIso8601(String),
    /// Its length depends on the calendar, or it is negative, or it is beyond all bounds.
    #[error("`{}` must be a positive time of days, hours, minutes and seconds", quoted(.0))]
    NotFixed(String),
}

/// Reads an ISO 8601 duration of days (of 24 hours), hours, minutes and seconds.
pub fn parse(text: &str) -> Result<TimeDelta, DurationError> {
    let not_fixed = || DurationError::NotFixed(text.to_owned());
    let iso = text.starts_with(['P', 'p', '-', '+']);
    let span: Span = match text.parse() {
        Ok(span) if iso => span,
        _ => return Err(DurationError::NotIso8601(text.to_owned())),
    };
    let days = SpanRelativeTo::days_are_24_hours();
    // Years and months have no total without a date.
    let seconds = span.total((Unit::Second, days)).map_err(|_| not_fixed())?;
    // Whole seconds are all that JIT knows; a fraction would be a mistake that nobody sees.
    if seconds.fract() != 0.0 || !(0.0..=MOST_SECONDS).contains(&seconds) {
        return Err(not_fixed());
    }
    Ok(TimeDelta::seconds(seconds as i64))
}

/// A hundred years: beyond it a duration is a mistake, below it no sum with a time can overflow.
const MOST_SECONDS: f64 = 3_155_760_000.0;

/// So many seconds, as a document may give them: no more than any time can be moved by, either way.
pub fn of_seconds(seconds: i64) -> TimeDelta {
    let most = MOST_SECONDS as i64;
    TimeDelta::seconds(seconds.clamp(-most, most))
}

/// Writes a duration in ISO 8601, in hours, minutes and seconds; a negative one as zero.
pub fn format(duration: TimeDelta) -> String {
    let seconds = duration.num_seconds().max(0);
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut text = String::from("PT");
    for (number, unit) in [(hours, 'H'), (minutes, 'M'), (rest, 'S')] {
        if number > 0 {
            text.push_str(&format!("{number}{unit}"));
        }
    }
    if text.len() == 2 { "PT0S".to_owned() } else { text }
}

/// Writes a duration as people say it, such as `8 h`, `1 h 30 min` or `41 s`; a negative one as zero.
pub fn spoken(duration: TimeDelta) -> String {
    let seconds = duration.num_seconds().max(0);
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let told: Vec<String> = parts.iter().filter(|(number, _)| *number > 0).map(|(number, unit)| format!("{number} {unit}")).collect();
    if told.is_empty() { "0 s".to_owned() } else { told.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_policies_are_read() {
        for (text, minutes) in [
            ("PT3H", 180),
            ("PT1H30M", 90),
            ("PT0H6M", 6),
            ("P1D", 1440),
            ("PT24H", 1440),
            ("PT300S", 5),
            ("P1DT1H", 1500),
            ("P1W", 10_080),
        ] {
            assert_eq!(parse(text), Ok(TimeDelta::minutes(minutes)), "{text}");
        }
        assert_eq!(parse("PT0S"), Ok(TimeDelta::zero()));
        assert_eq!(parse("P36525D"), Ok(TimeDelta::days(36_525)));
        assert_eq!(parse("P36525DT1S"), Err(DurationError::NotFixed("P36525DT1S".to_owned())));
    }

    #[test]
    fn what_is_no_fixed_duration_is_refused() {
        for text in ["", "3h", "PT", "P", "3 hours", "1h 30m", "PT3X"] {
            assert_eq!(parse(text), Err(DurationError::NotIso8601(text.to_owned())), "{text}");
        }
        for text in ["P1M", "P1Y", "-PT3H", "PT0.5S", "P99999999D", "P1Y2M"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse("P1M"), Err(DurationError::NotFixed("P1M".to_owned())));
        assert_eq!(parse("-PT3H"), Err(DurationError::NotFixed("-PT3H".to_owned())));
    }

    #[test]
    fn durations_are_written_short() {
        for (seconds, text) in [(10_800, "PT3H"), (5_400, "PT1H30M"), (0, "PT0S"), (86_400, "PT24H"), (61, "PT1M1S"), (-5, "PT0S")] {
            assert_eq!(format(TimeDelta::seconds(seconds)), text);
        }
    }

    #[test]
    fn durations_are_told_as_people_say_them() {
        for (seconds, text) in [(28_800, "8 h"), (5_400, "1 h 30 min"), (0, "0 s"), (86_400, "24 h"), (61, "1 min 1 s"), (-5, "0 s")] {
            assert_eq!(spoken(TimeDelta::seconds(seconds)), text);
        }
    }
}
