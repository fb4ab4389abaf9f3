//! When a timer runs: NCrontab expressions of six fields, or five, in UTC, and plain time spans.

use chrono::{DateTime, Datelike, Duration, NaiveDate, Timelike, Utc};

/// When a timer runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// An NCrontab expression.
    Cron(Box<Cron>),
    /// Every so often.
    Every(Duration),
}

/// An NCrontab expression: one bit a value in each field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
}

/// After this many days without a match there will be none: every combination of month, day and weekday that
/// occurs at all occurs within one cycle of leap years and weekdays.
const SEARCHED_DAYS: u32 = 28 * 366;

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    /// Reads an expression as the host does: NCrontab first, then a time span.
    pub fn parse(text: &str) -> Result<Schedule, String> {
        match Cron::parse(text) {
            Ok(cron) => Ok(Schedule::Cron(Box::new(cron))),
            Err(why) => match time_span(text) {
                Some(span) if span > Duration::zero() => Ok(Schedule::Every(span)),
                _ => Err(why),
            },
        }
    }

    /// The first occurrence after `at`; none if there never is one.
    pub fn next_after(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Schedule::Cron(cron) => cron.next_after(at),
            Schedule::Every(span) => at.checked_add_signed(*span),
        }
    }

    /// Whether two occurrences after `at` lie less than a minute apart, in which case the monitor turns itself off.
    pub fn is_more_than_once_a_minute(&self, at: DateTime<Utc>) -> bool {
        let first = self.next_after(at);
        let second = first.and_then(|first| self.next_after(first));
        match (first, second) {
            (Some(first), Some(second)) => second - first < Duration::minutes(1),
            _ => false,
        }
    }
}

impl Cron {
    fn parse(text: &str) -> Result<Cron, String> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let (seconds, rest) = match fields.as_slice() {
            [_, _, _, _, _] => ("0", fields.as_slice()),
            [seconds, rest @ ..] if rest.len() == 5 => (*seconds, rest),
            _ => return Err(format!("'{text}' has {} fields: six are needed, or five", fields.len())),
        };
        Ok(Cron {
            seconds: field(seconds, "seconds", 0, 59, &[])?,
            minutes: field(rest[0], "minutes", 0, 59, &[])?,
            hours: field(rest[1], "hours", 0, 23, &[])?,
            days: field(rest[2], "days", 1, 31, &[])?,
            months: field(rest[3], "months", 1, 12, &MONTHS)?,
            weekdays: field(rest[4], "days of the week", 0, 6, &WEEKDAYS)?,
        })
    }

    fn next_after(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let start = at.checked_add_signed(Duration::seconds(1))?;
        let mut day = start.date_naive();
        let mut from = start.time().num_seconds_from_midnight();
        for _ in 0..SEARCHED_DAYS {
            if self.has_day(day)
                && let Some(second) = self.next_second(from)
            {
                return Some((day.and_hms_opt(0, 0, 0)? + Duration::seconds(i64::from(second))).and_utc());
            }
            day = day.succ_opt()?;
            from = 0;
        }
        None
    }

    /// Day of the month and day of the week must both match, unlike in the cron of Unix.
    fn has_day(&self, day: NaiveDate) -> bool {
        has(self.months, day.month()) && has(self.days, day.day()) && has(self.weekdays, day.weekday().num_days_from_sunday())
    }

    /// The first matching second of a day at or after `from`.
    fn next_second(&self, from: u32) -> Option<u32> {
        let (hour, minute, second) = (from / 3600, from / 60 % 60, from % 60);
        for h in (hour..24).filter(|h| has(self.hours, *h)) {
            let first_minute = if h == hour { minute } else { 0 };
            for m in (first_minute..60).filter(|m| has(self.minutes, *m)) {
                let first_second = if h == hour && m == minute { second } else { 0 };
                if let Some(s) = (first_second..60).find(|s| has(self.seconds, *s)) {
                    return Some(h * 3600 + m * 60 + s);
                }
            }
        }
        None
    }
}

fn has(bits: u64, value: u32) -> bool {
    bits >> value & 1 == 1
}

fn field(text: &str, what: &str, least: u32, greatest: u32, names: &[&str]) -> Result<u64, String> {
    let mut bits = 0;
    for part in text.split(',') {
        bits |=
            range(part, least, greatest, names).ok_or_else(|| format!("'{part}' is no value for the {what} ({least} to {greatest})"))?;
    }
    Ok(bits)
}

fn range(part: &str, least: u32, greatest: u32, names: &[&str]) -> Option<u64> {
    let (span, step) = match part.split_once('/') {
        Some((span, step)) => (span, Some(step.parse::<u32>().ok().filter(|step| *step > 0)?)),
        None => (part, None),
    };
    let one = |text: &str| value(text, least, names).filter(|value| (least..=greatest).contains(value));
    let (first, last) = match span.split_once('-') {
        Some((first, last)) => (one(first)?, one(last)?),
        None if span == "*" => (least, greatest),
        None => {
            let first = one(span)?;
            (first, if step.is_some() { greatest } else { first })
        }
    };
    let (first, last) = (first.min(last), first.max(last));
    let steps = (first..=last).step_by(step.unwrap_or(1) as usize);
    Some(steps.fold(0, |bits, value| bits | 1 << value))
}

/// A number, or a name of which at least three letters are given.
fn value(text: &str, least: u32, names: &[&str]) -> Option<u32> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let text = text.to_ascii_lowercase();
    let index = names.iter().position(|name| text.len() >= 3 && text.starts_with(name))?;
    Some(least + index as u32)
}

/// A .NET time span: `[d.]hh:mm[:ss[.fffffff]]`, or a whole number of days.
pub fn time_span(text: &str) -> Option<Duration> {
    let (negative, text) = match text.trim().strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.trim()),
    };
    let span = match text.split(':').collect::<Vec<_>>().as_slice() {
        [days] => Duration::try_days(days.parse().ok()?)?,
        [hours, minutes] => parts(hours, minutes, "0")?,
        [hours, minutes, seconds] => parts(hours, minutes, seconds)?,
        _ => return None,
    };
    Some(if negative { -span } else { span })
}

fn parts(hours: &str, minutes: &str, seconds: &str) -> Option<Duration> {
    let (days, hours) = match hours.split_once('.') {
        Some((days, hours)) => (days.parse::<u32>().ok()?, hours),
        None => (0, hours),
    };
    let hours = hours.parse::<u32>().ok().filter(|hours| *hours < 24)?;
    let minutes = minutes.parse::<u32>().ok().filter(|minutes| *minutes < 60)?;
    let seconds = seconds.parse::<f64>().ok().filter(|seconds| (0.0..60.0).contains(seconds))?;
    let milliseconds = Duration::milliseconds((seconds * 1000.0).round() as i64);
    Some(Duration::days(i64::from(days)) + Duration::hours(i64::from(hours)) + Duration::minutes(i64::from(minutes)) + milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(expression: &str, after: &str) -> String {
        let schedule = Schedule::parse(expression).unwrap();
        let next = schedule.next_after(after.parse().unwrap());
        next.map_or_else(|| "never".to_owned(), |at| at.format("%Y-%m-%dT%H:%M:%S").to_string())
    }

    #[test]
    fn occurrences_follow_the_expression() {
        let rows = [
            ("0 */5 * * * *", "2026-01-15T09:00:00Z", "2026-01-15T09:05:00"),
            ("0 * * * * *", "2026-01-15T09:00:00.5Z", "2026-01-15T09:01:00"),
            ("*/10 * * * * *", "2026-01-15T23:59:55Z", "2026-01-16T00:00:00"),
            ("0 30 9 * * MON-FRI", "2026-01-16T10:00:00Z", "2026-01-19T09:30:00"),
            ("0 0 0 13 * Friday", "2026-01-15T00:00:00Z", "2026-02-13T00:00:00"),
            ("0 0 12 29 2 *", "2026-03-01T00:00:00Z", "2028-02-29T12:00:00"),
            ("0 0 0 30 2 *", "2026-01-01T00:00:00Z", "never"),
            ("*/5 * * * *", "2026-01-15T09:01:00Z", "2026-01-15T09:05:00"),
            ("0 0 1,13 1 jan,Jul *", "2026-01-15T00:00:00Z", "2026-07-01T01:00:00"),
            ("0 5/20 * * * *", "2026-01-15T09:26:00Z", "2026-01-15T09:45:00"),
            ("0 0 0 * * 0", "2026-01-15T00:00:00Z", "2026-01-18T00:00:00"),
            ("00:05:00", "2026-01-15T09:01:00Z", "2026-01-15T09:06:00"),
        ];
        for (expression, after, expected) in rows {
            assert_eq!(next(expression, after), expected, "{expression} after {after}");
        }
    }

    #[test]
    fn wrong_expressions_are_refused() {
        for expression in [
            "",
            "* * * *",
            "* * * * * * *",
            "60 * * * * *",
            "0 0 0 * * 7",
            "0 0 0 0 * *",
            "0 0 0 L * *",
            "0 0 24 * * *",
            "0 0 0 ? * *",
            "0 */0 * * * *",
            "x",
            "0 0 0 * 13 *",
            "00:00:00",
            "1-x * * * * *",
        ] {
            assert!(Schedule::parse(expression).is_err(), "{expression}");
        }
    }

    #[test]
    fn time_spans_read_as_dotnet_prints_them() {
        let rows = [
            ("00:05:00", Some(300_000)),
            ("1.02:00:00", Some(93_600_000)),
            ("00:00:00.2500000", Some(250)),
            ("2", Some(172_800_000)),
            ("24:00:00", None),
            ("00:60:00", None),
            ("soon", None),
        ];
        for (text, milliseconds) in rows {
            assert_eq!(time_span(text).map(|span| span.num_milliseconds()), milliseconds, "{text}");
        }
    }

    #[test]
    fn the_monitor_is_off_for_more_than_once_a_minute() {
        let at = "2026-01-15T09:00:00Z".parse().unwrap();
        assert!(Schedule::parse("*/10 * * * * *").unwrap().is_more_than_once_a_minute(at));
        assert!(!Schedule::parse("0 * * * * *").unwrap().is_more_than_once_a_minute(at));
    }
}
