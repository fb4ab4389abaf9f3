//! Conditions that never hold because of what there can be: a port of 70000, a time of day past midnight.
//!
//! Cedar knows of each attribute only its kind. Here is what values it has, and which comparisons no value passes.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use cedar_policy::{Effect, Policy};
use portcullis_domain::grant::{LONGEST, SHORTEST};
use serde_json::Value;

use crate::mistake::Mistake;
use crate::spoken::path;
use crate::terms::Source;
use crate::text::places;

/// The values that an attribute has: of a duration in milliseconds.
struct Known {
    name: &'static str,
    least: i64,
    greatest: i64,
    is: &'static str,
}

const DAY: i64 = 86_400_000;

fn known(path: &str) -> Option<Known> {
    let known = |name, values: RangeInclusive<i64>, is| Some(Known { name, least: *values.start(), greatest: *values.end(), is });
    match path {
        "context.duration" => known(
            "context.duration",
            SHORTEST.num_milliseconds()..=LONGEST.num_milliseconds(),
            "hard limits hold it from 5 minutes to 24 hours",
        ),
        "context.timeOfDay" => known("context.timeOfDay", 0..=DAY - 1000, "a time of day is at least 0h and less than 24h"),
        "context.openToday" => known("context.openToday", 0..=i64::MAX, "no time is less than none"),
        "context.leastPort" => known("context.leastPort", PORTS, PORTS_ARE),
        "context.greatestPort" => known("context.greatestPort", PORTS, PORTS_ARE),
        "context.widestPrefix" => known("context.widestPrefix", 0..=32, "a prefix is at most 32 long"),
        "context.approvalsToday" => known("context.approvalsToday", 0..=i64::MAX, "no count is less than 0"),
        "context.alerts" => known("context.alerts", 0..=i64::MAX, "no count is less than 0"),
        _ => None,
    }
}

const PORTS: RangeInclusive<i64> = 1..=65535;
const PORTS_ARE: &str = "ports are from 1 to 65535";

/// What a comparison leaves of the values of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Left {
    path: &'static str,
    least: i64,
    greatest: i64,
    /// The comparison as a rule writes it.
    words: String,
}

/// Every comparison of a rule that never holds, and those that exclude each other.
pub(crate) fn never_met(source: &Source<'_>, policy: &Policy) -> Vec<Mistake> {
    let Ok(json) = policy.to_json() else { return Vec::new() };
    let forbids = policy.effect() == Effect::Forbid;
    let mut look = Look { source, forbids, told: Vec::new() };
    let mut all: BTreeMap<&'static str, Left> = BTreeMap::new();
    for condition in json["conditions"].as_array().into_iter().flatten() {
        let (body, holds) = (&condition["body"], condition["kind"] == "when");
        look.each(body, holds);
        for left in together(body, holds) {
            look.exclude(&mut all, left);
        }
    }
    look.told
}

struct Look<'a> {
    source: &'a Source<'a>,
    forbids: bool,
    told: Vec<Mistake>,
}

impl Look<'_> {
    /// Looks at everything in an expression; `holds` says whether the rule needs it to hold, or not to hold.
    fn each(&mut self, json: &Value, holds: bool) {
        if let Some((sign, value)) = comparison(json) {
            self.compare(sign, value, holds);
        }
        match json {
            Value::Object(fields) => {
                for (sign, value) in fields {
                    self.set(sign, value);
                    self.each(value, holds != (sign == "!"));
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.each(item, holds)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn compare(&mut self, sign: &str, value: &Value, holds: bool) {
        let Some((known, sign, literal, words)) = compared(sign, value) else { return };
        let (least, greatest) = passing(sign, literal);
        let never = least > known.greatest || greatest < known.least;
        let always = least <= known.least && greatest >= known.greatest && !is_equality(sign);
        let is_useless = if holds { never } else { always };
        if is_useless {
            let says = if never { "never holds" } else { "always holds" };
            let place = place_of(self.source, &words);
            self.tell(&place, format!("`{}` {says}: {}", words[0], known.is), known.name == "context.duration");
        }
    }

    /// Looks at the ports of a set that a rule names.
    fn set(&mut self, sign: &str, value: &Value) {
        let is_ports = |json: &Value| {
            path(json).is_some_and(|path| ["context.ports", "context.leastPort", "context.greatestPort"].contains(&path.as_str()))
        };
        if !["contains", "containsAny", "containsAll"].contains(&sign) || !(is_ports(&value["left"]) || is_ports(&value["right"])) {
            return;
        }
        let numbers = |json: &Value| match &json["Set"] {
            Value::Array(items) => items.iter().filter_map(number).collect(),
            _ => number(json).into_iter().collect::<Vec<_>>(),
        };
        for port in [numbers(&value["left"]), numbers(&value["right"])].concat() {
            if !PORTS.contains(&port) {
                let place = place_of(self.source, &[port.to_string()]);
                self.tell(&place, format!("`{port}` is no port"), false);
            }
        }
    }

    /// Tells a comparison that leaves nothing of what others have left.
    fn exclude(&mut self, all: &mut BTreeMap<&'static str, Left>, left: Left) {
        let Some(known) = known(left.path) else { return };
        let before = all.entry(left.path).or_insert_with(|| Left {
            path: left.path,
            least: known.least,
            greatest: known.greatest,
            words: String::new(),
        });
        let was_met = before.least <= before.greatest;
        let alone = left.least.max(known.least) <= left.greatest.min(known.greatest);
        let words = std::mem::replace(&mut before.words, left.words.clone());
        (before.least, before.greatest) = (before.least.max(left.least), before.greatest.min(left.greatest));
        if was_met && alone && before.least > before.greatest {
            let place = place_of(self.source, std::slice::from_ref(&left.words));
            let what = format!("`{}` and `{words}` never hold together", left.words);
            let cure = match left.path {
                "context.timeOfDay" => "put `||` between them for a time that goes over midnight",
                _ => "look which of them is meant",
            };
            let mistake = self.source.mistake(&place, what).cured(cure);
            self.told.push(if self.forbids { mistake } else { mistake.as_warning() });
        }
    }

    /// A permit that never holds permits nothing, and a forbid that never holds forbids nothing; what the hard limits refuse
    /// needs no forbid.
    fn tell(&mut self, place: &Range<usize>, what: String, is_a_hard_limit: bool) {
        let mistake = self.source.mistake(place, what).cured("write a value that there can be, or take it away");
        self.told.push(if self.forbids && !is_a_hard_limit { mistake } else { mistake.as_warning() });
    }
}

/// The comparisons that all have to hold for a condition to hold, with what each leaves.
fn together(json: &Value, holds: bool) -> Vec<Left> {
    let both = if holds { &json["&&"] } else { &json["||"] };
    if both.is_object() {
        return [together(&both["left"], holds), together(&both["right"], holds)].concat();
    }
    if json["!"].is_object() {
        return together(&json["!"]["arg"], !holds);
    }
    let left = comparison(json).and_then(|(sign, value)| {
        let (known, sign, literal, words) = compared(sign, value)?;
        let sign = if holds { sign } else { opposite(sign)? };
        let (least, greatest) = passing(sign, literal);
        Some(Left { path: known.name, least, greatest, words: words.into_iter().next()? })
    });
    left.into_iter().collect()
}

fn comparison(json: &Value) -> Option<(&str, &Value)> {
    let (sign, value) = json.as_object()?.iter().next()?;
    ["<", "<=", ">", ">=", "=="].contains(&sign.as_str()).then_some((sign.as_str(), value))
}

/// An attribute, how it is compared, with what, and how a rule may write that.
fn compared<'s>(sign: &'s str, value: &Value) -> Option<(Known, &'s str, i64, Vec<String>)> {
    let (left, right) = (&value["left"], &value["right"]);
    for (one, other, is_turned) in [(left, right, false), (right, left, true)] {
        let Some((path, (literal, written))) = path(one).zip(literal(other)) else { continue };
        let words = if is_turned { format!("{written} {sign} {path}") } else { format!("{path} {sign} {written}") };
        let sign = if is_turned { turned(sign) } else { sign };
        return Some((known(&path)?, sign, literal, vec![words, written]));
    }
    None
}

/// A number, or a duration in milliseconds, and how it is written.
fn literal(json: &Value) -> Option<(i64, String)> {
    if let Some(number) = number(json) {
        return Some((number, number.to_string()));
    }
    let text = json["duration"][0]["Value"].as_str()?;
    Some((milliseconds(text)?, format!("duration({text:?})")))
}

fn number(json: &Value) -> Option<i64> {
    json["Value"].as_i64().or_else(|| json["neg"]["arg"]["Value"].as_i64().map(|number| -number))
}

/// The milliseconds of a duration as Cedar writes it, such as `1d2h3m4s50ms`.
fn milliseconds(text: &str) -> Option<i64> {
    let (sign, mut rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let mut sum: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = rest.split_at(digits);
        let length = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let one = match &unit[..length] {
            "d" => DAY,
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1000,
            "ms" => 1,
            _ => return None,
        };
        sum = sum.checked_add(number.parse::<i64>().ok()?.checked_mul(one)?)?;
        rest = &unit[length..];
    }
    Some(sign * sum)
}

/// The least and the greatest value that passes a comparison.
fn passing(sign: &str, literal: i64) -> (i64, i64) {
    match sign {
        "<" => (i64::MIN, literal.saturating_sub(1)),
        "<=" => (i64::MIN, literal),
        ">" => (literal.saturating_add(1), i64::MAX),
        ">=" => (literal, i64::MAX),
        _ => (literal, literal),
    }
}

fn is_equality(sign: &str) -> bool {
    sign == "=="
}

fn turned(sign: &str) -> &str {
    match sign {
        "<" => ">",
        "<=" => ">=",
        ">" => "<",
        ">=" => "<=",
        same => same,
    }
}

/// The comparison that holds where one does not; none where that leaves two ranges.
fn opposite(sign: &str) -> Option<&'static str> {
    match sign {
        "<" => Some(">="),
        "<=" => Some(">"),
        ">" => Some("<="),
        ">=" => Some("<"),
        _ => None,
    }
}

/// Where the first of some words stand in a rule; its head where none does.
fn place_of(source: &Source<'_>, words: &[String]) -> Range<usize> {
    let found = words.iter().flat_map(|words| places(source.text, words)).next();
    found.unwrap_or_else(|| source.shape.head.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_cedar_writes_them() {
        for (text, is) in [
            ("25h", Some(90_000_000)),
            ("1d2h3m4s50ms", Some(93_784_050)),
            ("-1m", Some(-60_000)),
            ("", Some(0)),
            ("h", None),
            ("2x", None),
            ("9999999999999999999d", None),
        ] {
            assert_eq!(milliseconds(text), is, "{text}");
        }
    }
}
