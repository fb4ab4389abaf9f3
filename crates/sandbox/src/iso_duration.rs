//! Durations as ISO 8601 writes them, and as .NET reads them.

use chrono::TimeDelta;

/// Days, hours, minutes and seconds, in this order and each at most once; seconds alone may have a fraction, of which
/// milliseconds are kept. Years, months and weeks are none that .NET would read as a fixed length.
pub fn parse(text: &str) -> Option<TimeDelta> {
    let rest = text.strip_prefix('P')?;
    let (days, clock) = match rest.split_once('T') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (rest, ""),
    };
    if days.is_empty() && clock.is_empty() {
        return None;
    }
    let days = sum(days, &[('D', 86_400_000)])?;
    TimeDelta::try_milliseconds(days.checked_add(sum(clock, &[('H', 3_600_000), ('M', 60_000), ('S', 1_000)])?)?)
}

fn sum(mut text: &str, units: &[(char, i64)]) -> Option<i64> {
    let mut sum = 0_i64;
    for (unit, milliseconds) in units {
        let Some((number, rest)) = text.split_once(*unit) else {
            continue;
        };
        text = rest;
        let (whole, fraction) = match number.split_once('.') {
            Some((whole, fraction)) if *unit == 'S' => (whole, thousandths(fraction)?),
            Some(_) => return None,
            None => (number, 0),
        };
        sum = sum.checked_add(digits(whole)?.checked_mul(*milliseconds)?)?.checked_add(fraction)?;
    }
    text.is_empty().then_some(sum)
}

/// A fraction's first three digits.
fn thousandths(fraction: &str) -> Option<i64> {
    digits(fraction)?;
    format!("{fraction:0<3}").get(..3)?.parse().ok()
}

fn digits(text: &str) -> Option<i64> {
    let written_well = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| written_well)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, milliseconds) in [
            ("PT3H", 10_800_000),
            ("PT1H30M", 5_400_000),
            ("PT0H6M", 360_000),
            ("P1D", 86_400_000),
            ("PT24H", 86_400_000),
            ("P1DT1S", 86_401_000),
            ("PT0.5S", 500),
            ("PT1.2345S", 1_234),
        ] {
            assert_eq!(parse(text).map(|span| span.num_milliseconds()), Some(milliseconds), "{text}");
        }
        for text in [
            "",
            "P",
            "PT",
            "3H",
            "PT3",
            "PTH",
            "PT-3H",
            "PT3H5",
            "P1M",
            "PT5M3H",
            "PT1.5H",
            "PT.5S",
            "PT1.S",
            "P1W",
            "PT9223372036854775807H",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
