//! Conditions that never hold, and exceptions that always do, because of what there can be: a port of 70000, a time of day past
//! midnight, two weekdays at once.
//!
//! Cedar knows of each attribute only its kind. Here is what values it has, and which conditions no value passes.

use std::ops::{Range, RangeInclusive};

use cedar_policy::{Effect, Policy};
use portcullis_domain::duration;
use portcullis_domain::grant::{LONGEST, SHORTEST};
use serde_json::Value;

use crate::cases::{Case, GREATEST, LEAST, both};
use crate::mistake::Mistake;
use crate::spoken::{path, written};
use crate::terms::Source;
use crate::text::places;

/// An attribute and the values that it has: of a duration in milliseconds.
pub(crate) struct Known {
    pub(crate) path: &'static str,
    pub(crate) values: RangeInclusive<i64>,
    is: &'static str,
    without_rules: WithoutRules,
}

/// What becomes of a value that an attribute does not have, were there no rule against it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WithoutRules {
    /// Hard limits refuse it.
    Refused,
    /// Nothing refuses it.
    Passed,
}

const DAY: i64 = 86_400_000;

const PORTS: RangeInclusive<i64> = 1..=65535;

const fn known(path: &'static str, values: RangeInclusive<i64>, is: &'static str) -> Known {
    Known { path, values, is, without_rules: WithoutRules::Passed }
}

const DURATION: Known = Known {
    path: "context.duration",
    values: SHORTEST.num_milliseconds()..=LONGEST.num_milliseconds(),
    is: "hard limits hold it from 5 minutes to 24 hours",
    without_rules: WithoutRules::Refused,
};

const TIME_OF_DAY: Known = known("context.timeOfDay", 0..=DAY - 1000, "a time of day is at least 0h and less than 24h");

const LEAST_PORT: Known = known(LEAST, PORTS, "ports are from 1 to 65535");

const GREATEST_PORT: Known = known(GREATEST, PORTS, "ports are from 1 to 65535");

static KNOWN: [Known; 9] = [
    DURATION,
    TIME_OF_DAY,
    LEAST_PORT,
    GREATEST_PORT,
    known("context.openToday", 0..=i64::MAX, "no time is less than none"),
    known("context.widestPrefix", 0..=32, "a prefix is at most 32 long"),
    known("context.approvalsToday", 0..=i64::MAX, "no count is less than 0"),
    known("context.alerts", 0..=i64::MAX, "no count is less than 0"),
    known("context.incident.age", 0..=i64::MAX, "no incident is of the future"),
];

/// What has to come of a condition for the rule to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// It holds.
    Met,
    /// It does not hold.
    Unmet,
    /// Either will do.
    Either,
}

impl Need {
    /// Of what is negated.
    pub(crate) fn negated(self) -> Self {
        match self {
            Need::Met => Need::Unmet,
            Need::Unmet => Need::Met,
            Need::Either => Need::Either,
        }
    }
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Less,
    AtMost,
    More,
    AtLeast,
    Equal,
    Other,
}

impl Sign {
    fn read(text: &str) -> Option<Self> {
        match text {
            "<" => Some(Sign::Less),
            "<=" => Some(Sign::AtMost),
            ">" => Some(Sign::More),
            ">=" => Some(Sign::AtLeast),
            "==" => Some(Sign::Equal),
            "!=" => Some(Sign::Other),
            _ => None,
        }
    }

    /// The same with its sides exchanged.
    fn turned(self) -> Self {
        match self {
            Sign::Less => Sign::More,
            Sign::AtMost => Sign::AtLeast,
            Sign::More => Sign::Less,
            Sign::AtLeast => Sign::AtMost,
            Sign::Equal => Sign::Equal,
            Sign::Other => Sign::Other,
        }
    }

    /// The one that holds where this one does not.
    fn negated(self) -> Self {
        match self {
            Sign::Less => Sign::AtLeast,
            Sign::AtMost => Sign::More,
            Sign::More => Sign::AtMost,
            Sign::AtLeast => Sign::Less,
            Sign::Equal => Sign::Other,
            Sign::Other => Sign::Equal,
        }
    }

    /// The values that pass a comparison with this one.
    fn passing(self, literal: i64) -> Vec<RangeInclusive<i64>> {
        let (below, above) = (i64::MIN..=literal.saturating_sub(1), literal.saturating_add(1)..=i64::MAX);
        match self {
            Sign::Less => vec![below],
            Sign::AtMost => vec![i64::MIN..=literal],
            Sign::More => vec![above],
            Sign::AtLeast => vec![literal..=i64::MAX],
            Sign::Equal => vec![literal..=literal],
            Sign::Other => vec![below, above],
        }
    }
}

/// An attribute that a rule compares with something that it writes out.
pub(crate) struct Comparison {
    pub(crate) known: &'static Known,
    sign: Sign,
    literal: i64,
    /// How many of the attribute's own units one of the literal's is.
    unit: i64,
    /// How a rule writes what it compares with.
    written: String,
}

impl Comparison {
    pub(crate) fn read(json: &Value) -> Option<Self> {
        let (text, sides) = json.as_object()?.iter().next()?;
        let sign = Sign::read(text)?;
        let (left, right) = (&sides["left"], &sides["right"]);
        let ((path, unit), (literal, written), sign) = match measured(left).zip(literal(right)) {
            Some((measured, literal)) => (measured, literal, sign),
            None => (measured(right)?, literal(left)?, sign.turned()),
        };
        let known = KNOWN.iter().find(|known| known.path == path)?;
        Some(Comparison { known, sign, literal, unit, written })
    }

    /// The values, of those that there can be, with which what is needed comes of it.
    pub(crate) fn leaves(&self, need: Need) -> Vec<RangeInclusive<i64>> {
        let sign = if need == Need::Unmet { self.sign.negated() } else { self.sign };
        let values = &self.known.values;
        let within = |range: RangeInclusive<i64>| {
            let range = in_units(&range, self.unit);
            *range.start().max(values.start())..=*range.end().min(values.end())
        };
        sign.passing(self.literal).into_iter().map(within).filter(|range| !range.is_empty()).collect()
    }
}

/// The values whose number of whole units is in a range: what is over is cut off, towards nothing.
fn in_units(range: &RangeInclusive<i64>, unit: i64) -> RangeInclusive<i64> {
    let over = unit - 1;
    let (start, end) = (range.start().saturating_mul(unit), range.end().saturating_mul(unit));
    let start = if *range.start() > 0 { start } else { start.saturating_sub(over) };
    let end = if *range.end() < 0 { end } else { end.saturating_add(over) };
    start..=end
}

/// How a rule reaches an attribute, and in what unit, where it asks a duration for its hours, minutes or seconds.
fn measured(json: &Value) -> Option<(String, i64)> {
    const UNITS: [(&str, i64); 5] =
        [("toDays", DAY), ("toHours", 3_600_000), ("toMinutes", 60_000), ("toSeconds", 1000), ("toMilliseconds", 1)];
    let in_unit = UNITS.iter().find_map(|(method, unit)| Some((path(&json[method][0])?, *unit)));
    in_unit.or_else(|| Some((path(json)?, 1)))
}

/// Tells every condition of a rule that never holds, or that always does where it should not, and those that do so together.
pub(crate) fn never_met(source: &Source<'_>, policy: &Policy) -> Vec<Mistake> {
    // Only a template whose slots are filled has no JSON, and no rule is one.
    let Ok(json) = policy.to_json() else { return Vec::new() };
    let mut look = Look { source, effect: policy.effect(), told: Vec::new() };
    let mut all = Vec::new();
    for condition in json["conditions"].as_array().into_iter().flatten() {
        let need = if condition["kind"] == "when" { Need::Met } else { Need::Unmet };
        flatten(&condition["body"], need, &mut all);
        look.literals(&condition["body"]);
    }
    look.all(&all, |own| own, Need::Met);
    look.beyond_max(&all, policy);
    look.told
}

/// Something that a rule says, with what has to come of it.
type Needed<'a> = (&'a Value, Need);

/// Everything that has to come out in one way for an expression to do so.
fn flatten<'a>(json: &'a Value, need: Need, into: &mut Vec<Needed<'a>>) {
    let (both, one) = match need {
        Need::Met => (&json["&&"], &json["!"]),
        Need::Unmet => (&json["||"], &json["!"]),
        Need::Either => return into.push((json, need)),
    };
    if both.is_object() {
        flatten(&both["left"], need, into);
        flatten(&both["right"], need, into);
    } else if one.is_object() {
        flatten(&one["arg"], need.negated(), into);
    } else {
        into.push((json, need));
    }
}

struct Look<'a> {
    source: &'a Source<'a>,
    effect: Effect,
    told: Vec<Mistake>,
}

impl Look<'_> {
    /// Looks at each of some things with what is needed of it, and where nothing is wrong with one, at all of them together.
    fn all(&mut self, all: &[Needed<'_>], of_each: impl Fn(Need) -> Need, need: Need) {
        let before = self.told.len();
        for (json, own) in all {
            self.each(json, of_each(*own));
        }
        if self.told.len() == before {
            self.together(all, need);
        }
    }

    /// Looks at an expression, and at everything in it.
    fn each(&mut self, json: &Value, need: Need) {
        let in_a_way = |way: Need| {
            let mut all = Vec::new();
            flatten(json, way, &mut all);
            all
        };
        let (met, unmet) = (in_a_way(Need::Met), in_a_way(Need::Unmet));
        if met.len() > 1 {
            // One of them that always holds leaves it to the others.
            self.all(&met, |own| if need == Need::Met { own } else { Need::Either }, need);
        } else if unmet.len() > 1 {
            let of_each = |own: Need| match need {
                Need::Met => own.negated(),
                Need::Unmet => own,
                Need::Either => Need::Either,
            };
            self.all(&unmet, of_each, need.negated());
        } else if let Some(not) = json["!"].as_object() {
            self.each(&not["arg"], need.negated());
        } else if let Some(choice) = json["if-then-else"].as_object() {
            let (asked, then, otherwise) = (&choice["if"], &choice["then"], &choice["else"]);
            self.each(asked, Need::Either);
            self.branch(asked, Need::Met, then, need);
            self.branch(asked, Need::Unmet, otherwise, need);
        } else if let Some(comparison) = Comparison::read(json) {
            self.alone(json, &comparison, need);
        } else if let Value::Object(fields) = json {
            let parts = fields.values().flat_map(|value| match value {
                Value::Array(items) => items.iter().collect::<Vec<_>>(),
                value => vec![&value["left"], &value["right"], &value["arg"]],
            });
            parts.for_each(|part| self.each(part, Need::Either));
        }
    }

    /// Looks at what is asked where something else has come out in one way.
    fn branch(&mut self, asked: &Value, came: Need, json: &Value, need: Need) {
        let before = self.told.len();
        self.each(json, need);
        if self.told.len() == before && !json["Value"].is_boolean() {
            let mut all = Vec::new();
            flatten(asked, came, &mut all);
            flatten(json, Need::Met, &mut all);
            self.together(&all, need);
        }
    }

    fn alone(&mut self, json: &Value, comparison: &Comparison, need: Need) {
        let known = comparison.known;
        let says = match (comparison.leaves(Need::Met).is_empty(), comparison.leaves(Need::Unmet).is_empty(), need) {
            (true, _, _) => "never holds",
            (_, true, Need::Unmet) => "always holds",
            // What limits nothing opens nothing that was meant to stay shut.
            (_, _, _) => return,
        };
        let outcome = if says == "never holds" { need } else { need.negated() };
        let what = format!("`{}` {says}: {}", written(json), known.is);
        self.tell(&self.place(json), what, outcome, known.without_rules);
    }

    /// Looks at values that a rule writes out, and that are never among those that it asks for them.
    fn literals(&mut self, json: &Value) {
        match json {
            Value::Object(fields) => {
                for (sign, value) in fields {
                    self.ports(sign, value);
                    self.sources(sign, value);
                    self.literals(value);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.literals(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Looks at the ports of a set that a rule names.
    fn ports(&mut self, method: &str, sides: &Value) {
        let is_ports =
            |json: &Value| path(json).is_some_and(|path| ["context.ports", LEAST_PORT.path, GREATEST_PORT.path].contains(&path.as_str()));
        for port in beside(method, sides, is_ports).into_iter().filter_map(number).filter(|port| !PORTS.contains(port)) {
            self.tell(&self.source.find(&port.to_string()), format!("`{port}` is no port"), Need::Met, WithoutRules::Passed);
        }
    }

    /// Looks at the addresses of a set that a rule names.
    fn sources(&mut self, method: &str, sides: &Value) {
        let is_sources = |json: &Value| path(json).as_deref() == Some("context.sources");
        for text in beside(method, sides, is_sources).into_iter().filter_map(|json| json["ip"][0]["Value"].as_str()) {
            let place = self.source.find(&format!("ip({text:?})"));
            if text.contains(':') {
                let what = format!("`{text}` is never a source: JIT takes no IPv6 address, and hard limits refuse it");
                self.tell(&place, what, Need::Met, WithoutRules::Refused);
            } else if let Some(range) = cut_to_its_prefix(text).filter(|range| range != text) {
                let what = format!("`{text}` is never a source: a range begins at its first address");
                let mistake = self.source.mistake(&place, what).cured(format!("write `ip({range:?})`"));
                self.told.push(self.weighed(mistake, Need::Met, WithoutRules::Passed));
            }
        }
    }

    /// Tells those of some things that never come out in their ways together; what comes of them is what is needed of the whole.
    fn together(&mut self, all: &[Needed<'_>], need: Need) {
        if all.len() < 2 {
            return;
        }
        let cases: Vec<Vec<Case>> = all.iter().map(|(json, need)| crate::cases::of(json, *need)).collect();
        // What never does by itself is told already, or written so.
        let mut found = false;
        let mut left = vec![Case::default()];
        for (n, new) in cases.iter().enumerate().filter(|(_, new)| !new.is_empty()) {
            let mut others = (0..n).filter(|old| !cases[*old].is_empty());
            if let Some(old) = others.find(|old| both(&cases[*old], new).is_empty()) {
                self.exclude(&all[n], &all[old], need);
                found = true;
                continue;
            }
            let now = both(&left, new);
            if now.is_empty() && !found {
                let what = match all[n].1 {
                    Need::Unmet => format!("`{}` always holds where the rest does", written(all[n].0)),
                    Need::Met | Need::Either => format!("`{}` never holds together with the rest", written(all[n].0)),
                };
                let mistake = self.source.mistake(&self.place(all[n].0), what).cured("look which of them is meant");
                self.told.push(self.weighed(mistake, need, WithoutRules::Passed));
                return;
            }
            left = now;
        }
    }

    fn exclude(&mut self, (new, new_need): &Needed<'_>, (old, old_need): &Needed<'_>, need: Need) {
        let is_of_time = |json: &Value| Comparison::read(json).is_some_and(|comparison| comparison.known.path == TIME_OF_DAY.path);
        let is_time = is_of_time(new) && is_of_time(old);
        let (a, b) = (written(new), written(old));
        let meant = "look which of them is meant";
        let (what, cure) = match (new_need, old_need) {
            (Need::Met, Need::Unmet) | (Need::Unmet, Need::Met) if a == b => (format!("`{a}` cannot both hold and not hold"), meant),
            (Need::Met, Need::Unmet) => (format!("`{b}` always holds where `{a}` does"), meant),
            (Need::Unmet, Need::Met) => (format!("`{a}` always holds where `{b}` does"), meant),
            (Need::Unmet, _) if is_time => {
                (format!("`{a}` or `{b}` always holds"), "put `&&` between them for a time that does not go over midnight")
            }
            (Need::Unmet, _) => (format!("`{a}` or `{b}` always holds"), meant),
            (Need::Met | Need::Either, _) if is_time => {
                (format!("`{a}` and `{b}` never hold together"), "put `||` between them for a time that goes over midnight")
            }
            (Need::Met | Need::Either, _) => (format!("`{a}` and `{b}` never hold together"), meant),
        };
        let mistake = self.source.mistake(&self.place(new), what).cured(cure);
        self.told.push(self.weighed(mistake, need, WithoutRules::Passed));
    }

    /// Tells what a permit asks for that its own `@max` excludes.
    fn beyond_max(&mut self, all: &[Needed<'_>], policy: &Policy) {
        let max = policy.annotation("max").filter(|_| self.effect == Effect::Permit).filter(|_| self.told.is_empty());
        let Some((max, longest)) = max.and_then(|max| Some((max, duration::parse(max).ok()?.num_milliseconds()))) else { return };
        let within = [Case::of_numbers(DURATION.path, 0..=longest)];
        let excluded = |(json, need): &&Needed<'_>| {
            let cases = crate::cases::of(json, *need);
            !cases.is_empty() && both(&within, &cases).is_empty()
        };
        if let Some((json, need)) = all.iter().find(excluded) {
            let says = if *need == Need::Unmet { "always holds" } else { "never holds" };
            let what = format!("`{}` {says} up to this rule's `@max` of {max}, and beyond it the rule permits nothing", written(json));
            let mistake = self.source.mistake(&self.place(json), what).cured("raise `@max`, or take the condition away");
            self.told.push(self.weighed(mistake, Need::Met, WithoutRules::Passed));
        }
    }

    fn tell(&mut self, place: &Range<usize>, what: String, need: Need, without_rules: WithoutRules) {
        let mistake = self.source.mistake(place, what).cured("write a value that there can be, or take it away");
        self.told.push(self.weighed(mistake, need, without_rules));
    }

    /// A permit that never matches permits nothing, and one whose exception never holds is somebody's decision to look at; a forbid
    /// forbids nothing where what it needs never comes. What the hard limits refuse needs no forbid.
    fn weighed(&self, mistake: Mistake, never_comes: Need, without_rules: WithoutRules) -> Mistake {
        match (self.effect, never_comes, without_rules) {
            (Effect::Forbid, Need::Met, WithoutRules::Passed) => mistake,
            (Effect::Permit | Effect::Forbid, _, _) => mistake.as_warning(),
        }
    }

    /// Where something stands in the rule, or the first that it compares with; the rule's head where neither is found.
    fn place(&self, json: &Value) -> Range<usize> {
        let whole = places(self.source.text, &written(json)).into_iter().next();
        whole.unwrap_or_else(|| self.source.find(&Comparison::read(json).map(|comparison| comparison.written).unwrap_or_default()))
    }
}

/// What stands on the other side of a set that is asked what it contains.
fn beside<'a>(method: &str, sides: &'a Value, is_set: impl Fn(&Value) -> bool) -> Vec<&'a Value> {
    let (left, right) = (&sides["left"], &sides["right"]);
    if !["contains", "containsAny", "containsAll"].contains(&method) || !(is_set(left) || is_set(right)) {
        return Vec::new();
    }
    [left, right].into_iter().flat_map(|json| json["Set"].as_array().map_or_else(|| vec![json], |items| items.iter().collect())).collect()
}

/// An IPv4 range with its first address, as sources have it; none where it is no range.
fn cut_to_its_prefix(text: &str) -> Option<String> {
    let (address, bits) = text.split_once('/')?;
    let (address, bits): (std::net::Ipv4Addr, u32) = (address.parse().ok()?, bits.parse().ok()?);
    let mask = u32::MAX.checked_shl(32_u32.checked_sub(bits)?).unwrap_or(0);
    Some(format!("{}/{bits}", std::net::Ipv4Addr::from(u32::from(address) & mask)))
}

/// A number, or a duration in milliseconds, and how a rule writes it.
pub(crate) fn literal(json: &Value) -> Option<(i64, String)> {
    if let Some(number) = number(json) {
        return Some((number, number.to_string()));
    }
    let text = json["duration"][0]["Value"].as_str()?;
    Some((milliseconds(text)?, format!("duration({text:?})")))
}

pub(crate) fn number(json: &Value) -> Option<i64> {
    json["Value"].as_i64().or_else(|| json["neg"]["arg"]["Value"].as_i64()?.checked_neg())
}

/// The milliseconds of a duration as Cedar writes it, such as `1d2h3m4s50ms`; none where it is too long or no duration.
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
