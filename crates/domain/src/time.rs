//! Times as Azure writes them.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, NaiveDateTime, Utc};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// Reads a time of Azure: RFC 3339 with any number of fraction digits, or the same without an offset, which the
/// Functions host writes for UTC. A year that is not of four digits is no time of Azure, and sums with it could overflow.
pub fn parse(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    let time = match DateTime::parse_from_rfc3339(text) {
        Ok(time) => time.with_timezone(&Utc),
        Err(_) => NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok()?.and_utc(),
    };
    Some(time).filter(is_in_calendar)
}

/// Reads a time as headers of HTTP write it (RFC 9110), with a year of four digits.
pub fn of_header(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc2822(text).ok().map(|time| time.to_utc()).filter(is_in_calendar)
}

/// Reads the times of a stored document. One whose year is not of four digits was written by nobody of ours, and sums with it
/// could overflow: the document is refused.
pub fn stored<'de, D: Deserializer<'de>, T: Deserialize<'de> + Times>(from: D) -> Result<T, D::Error> {
    let times = T::deserialize(from)?;
    if times.are_in_calendar() { Ok(times) } else { Err(D::Error::custom("a time must have a year of four digits")) }
}

/// What a document stores of times.
pub trait Times {
    /// Whether the years of all of them are of four digits.
    fn are_in_calendar(&self) -> bool;
}

impl Times for DateTime<Utc> {
    fn are_in_calendar(&self) -> bool {
        is_in_calendar(self)
    }
}

impl Times for Option<DateTime<Utc>> {
    fn are_in_calendar(&self) -> bool {
        self.iter().all(is_in_calendar)
    }
}

impl Times for Vec<DateTime<Utc>> {
    fn are_in_calendar(&self) -> bool {
        self.iter().all(is_in_calendar)
    }
}

impl<K> Times for BTreeMap<K, DateTime<Utc>> {
    fn are_in_calendar(&self) -> bool {
        self.values().all(is_in_calendar)
    }
}

impl Times for BTreeMap<DateTime<Utc>, String> {
    fn are_in_calendar(&self) -> bool {
        self.keys().all(is_in_calendar)
    }
}

fn is_in_calendar(time: &DateTime<Utc>) -> bool {
    (1..=9999).contains(&time.year())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recorded_form_is_read() {
        let expected = parse("2018-07-22T15:51:55Z").unwrap();
        for text in ["2018-07-22T15:51:55", "2018-07-22T15:51:55.0000000Z", "2018-07-22T17:51:55+02:00", " 2018-07-22T15:51:55.0 "] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
        let fraction = parse("2018-07-22T15:51:55.21337Z").unwrap();
        assert_eq!((fraction - expected).num_microseconds(), Some(213_370));
        assert_eq!(parse("0001-01-01T00:00:00+00:00").unwrap().timestamp(), -62_135_596_800);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "now",
            "2018-07-22",
            "2018-13-22T15:51:55Z",
            "22/07/2018 15:51:55",
            "-262143-01-01T00:00:30",
            "+262142-12-31T23:59:59",
            "0000-12-31T23:59:59",
            "10000-01-01T00:00:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
