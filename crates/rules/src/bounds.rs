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

/// An attribute and the values that it has: of a duration in milliseconds.
struct Known {
    path: &'static str,
    values: RangeInclusive<i64>,
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

const LEAST_PORT: Known = known("context.leastPort", PORTS, "ports are from 1 to 65535");

const GREATEST_PORT: Known = known("context.greatestPort", PORTS, "ports are from 1 to 65535");

static KNOWN: [Known; 8] = [
    DURATION,
    TIME_OF_DAY,
    LEAST_PORT,
    GREATEST_PORT,
    known("context.openToday", 0..=i64::MAX, "no time is less than none"),
    known("context.widestPrefix", 0..=32, "a prefix is at most 32 long"),
    known("context.approvalsToday", 0..=i64::MAX, "no count is less than 0"),
    known("context.alerts", 0..=i64::MAX, "no count is less than 0"),
];

/// What has to come of a condition for the rule to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// It holds.
    Met,
    /// It does not hold.
    Unmet,
    /// Either will do.
    Either,
}

impl Need {
    /// Of what is negated.
    fn negated(self) -> Self {
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
}

impl Sign {
    fn read(text: &str) -> Option<Self> {
        match text {
            "<" => Some(Sign::Less),
            "<=" => Some(Sign::AtMost),
            ">" => Some(Sign::More),
            ">=" => Some(Sign::AtLeast),
            "==" => Some(Sign::Equal),
            _ => None,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Sign::Less => "<",
            Sign::AtMost => "<=",
            Sign::More => ">",
            Sign::AtLeast => ">=",
            Sign::Equal => "==",
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
        }
    }

    /// The values that pass a comparison with this one.
    fn passing(self, literal: i64) -> RangeInclusive<i64> {
        match self {
            Sign::Less => i64::MIN..=literal.saturating_sub(1),
            Sign::AtMost => i64::MIN..=literal,
            Sign::More => literal.saturating_add(1)..=i64::MAX,
            Sign::AtLeast => literal..=i64::MAX,
            Sign::Equal => literal..=literal,
        }
    }

    /// The values that do not pass it; none where they are not one range.
    fn failing(self, literal: i64) -> Option<RangeInclusive<i64>> {
        match self {
            Sign::Less => Some(Sign::AtLeast.passing(literal)),
            Sign::AtMost => Some(Sign::More.passing(literal)),
            Sign::More => Some(Sign::AtMost.passing(literal)),
            Sign::AtLeast => Some(Sign::Less.passing(literal)),
            Sign::Equal => None,
        }
    }
}

/// An attribute that a rule compares with something that it writes out.
#[derive(Clone)]
struct Comparison {
    known: &'static Known,
    sign: Sign,
    literal: i64,
    /// How a rule writes it.
    words: String,
    /// How a rule writes what it compares with.
    written: String,
}

impl Comparison {
    fn read(json: &Value) -> Option<Self> {
        let (text, sides) = json.as_object()?.iter().next()?;
        let sign = Sign::read(text)?;
        let (left, right) = (&sides["left"], &sides["right"]);
        let (path, (literal, written), sign, words) = if let Some((path, literal)) = path(left).zip(literal(right)) {
            let words = format!("{path} {} {}", sign.text(), literal.1);
            (path, literal, sign, words)
        } else {
            let (path, literal) = path(right).zip(literal(left))?;
            let words = format!("{} {} {path}", literal.1, sign.text());
            (path, literal, sign.turned(), words)
        };
        let known = KNOWN.iter().find(|known| known.path == path)?;
        Some(Comparison { known, sign, literal, words, written })
    }

    /// The values with which what is needed comes of it; none where they are not one range.
    fn leaves(&self, need: Need) -> Option<RangeInclusive<i64>> {
        match need {
            Need::Met => Some(self.sign.passing(self.literal)),
            Need::Unmet => self.sign.failing(self.literal),
            Need::Either => None,
        }
    }
}

/// Tells every comparison of a rule that keeps it from ever matching, and those that do so together.
pub(crate) fn never_met(source: &Source<'_>, policy: &Policy) -> Vec<Mistake> {
    // Only a template whose slots are filled has no JSON, and no rule is one.
    let Ok(json) = policy.to_json() else { return Vec::new() };
    let mut look = Look { source, effect: policy.effect(), left: BTreeMap::new(), told: Vec::new() };
    for condition in json["conditions"].as_array().into_iter().flatten() {
        let need = if condition["kind"] == "when" { Need::Met } else { Need::Unmet };
        look.each(&condition["body"], need);
        look.together(&condition["body"], need);
    }
    look.told
}

/// A comparison with what has to come of it.
type Needed = (Comparison, Need);

/// What the comparisons that all have to come out in one way leave of an attribute's values.
struct Left {
    least: i64,
    /// What leaves none below.
    least_by: Option<Needed>,
    greatest: i64,
    /// What leaves none above.
    greatest_by: Option<Needed>,
}

struct Look<'a> {
    source: &'a Source<'a>,
    effect: Effect,
    /// By attribute; of one of which nothing is left, what was left before.
    left: BTreeMap<&'static str, Left>,
    told: Vec<Mistake>,
}

impl Look<'_> {
    /// Looks at everything in an expression by itself.
    fn each(&mut self, json: &Value, need: Need) {
        if let Some(comparison) = Comparison::read(json) {
            self.alone(&comparison, need);
        }
        match json {
            Value::Object(fields) => {
                for (sign, value) in fields {
                    self.ports(sign, value);
                    let need = match sign.as_str() {
                        "!" => need.negated(),
                        // One of them that always holds leaves it to the other.
                        "&&" if need == Need::Unmet => Need::Either,
                        _ => need,
                    };
                    self.each(value, need);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.each(item, need)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn alone(&mut self, comparison: &Comparison, need: Need) {
        let Some(left) = comparison.leaves(need) else { return };
        let known = comparison.known;
        if !is_disjoint(&left, &known.values) {
            return;
        }
        let says = if need == Need::Met { "never holds" } else { "always holds" };
        let what = format!("`{}` {says}: {}", comparison.words, known.is);
        self.tell(&self.place(comparison), what, known.without_rules);
    }

    /// Looks at the ports of a set that a rule names.
    fn ports(&mut self, method: &str, sides: &Value) {
        let is_ports =
            |json: &Value| path(json).is_some_and(|path| ["context.ports", LEAST_PORT.path, GREATEST_PORT.path].contains(&path.as_str()));
        let (left, right) = (&sides["left"], &sides["right"]);
        if !["contains", "containsAny", "containsAll"].contains(&method) || !(is_ports(left) || is_ports(right)) {
            return;
        }
        let numbers = |json: &Value| match &json["Set"] {
            Value::Array(items) => items.iter().filter_map(number).collect(),
            _ => number(json).into_iter().collect::<Vec<_>>(),
        };
        for port in [numbers(left), numbers(right)].concat().into_iter().filter(|port| !PORTS.contains(port)) {
            self.tell(&self.source.find(&port.to_string()), format!("`{port}` is no port"), WithoutRules::Passed);
        }
    }

    /// Looks at the comparisons in an expression that all have to come out in one way for it to do so.
    fn together(&mut self, json: &Value, need: Need) {
        let all = match need {
            Need::Met => &json["&&"],
            Need::Unmet => &json["||"],
            Need::Either => return,
        };
        if all.is_object() {
            self.together(&all["left"], need);
            self.together(&all["right"], need);
        } else if json["!"].is_object() {
            self.together(&json["!"]["arg"], need.negated());
        } else if let Some(comparison) = Comparison::read(json) {
            self.beside_others((comparison, need));
        }
    }

    /// Tells a comparison that leaves nothing of what others have left.
    fn beside_others(&mut self, new: Needed) {
        let (comparison, need) = &new;
        let values = &comparison.known.values;
        // What leaves nothing by itself is told already.
        let Some(leaves) = comparison.leaves(*need).filter(|leaves| !is_disjoint(leaves, values)) else { return };
        let left = self.left.entry(comparison.known.path).or_insert_with(|| Left {
            least: *values.start(),
            least_by: None,
            greatest: *values.end(),
            greatest_by: None,
        });
        let against = if *leaves.start() > left.greatest {
            left.greatest_by.clone()
        } else if *leaves.end() < left.least {
            left.least_by.clone()
        } else {
            if *leaves.start() > left.least {
                (left.least, left.least_by) = (*leaves.start(), Some(new.clone()));
            }
            if *leaves.end() < left.greatest {
                (left.greatest, left.greatest_by) = (*leaves.end(), Some(new));
            }
            return;
        };
        if let Some(against) = against {
            self.exclude(&new, &against);
        }
    }

    fn exclude(&mut self, (new, new_need): &Needed, (old, old_need): &Needed) {
        let is_time = new.known.path == TIME_OF_DAY.path;
        let (a, b) = (&new.words, &old.words);
        let meant = "look which of them is meant";
        let (what, cure) = match (new_need, old_need) {
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
        self.told.push(self.weighed(mistake, WithoutRules::Passed));
    }

    fn tell(&mut self, place: &Range<usize>, what: String, without_rules: WithoutRules) {
        let mistake = self.source.mistake(place, what).cured("write a value that there can be, or take it away");
        self.told.push(self.weighed(mistake, without_rules));
    }

    /// A permit that never matches permits nothing, and a forbid that never matches forbids nothing; what the hard limits refuse
    /// needs no forbid.
    fn weighed(&self, mistake: Mistake, without_rules: WithoutRules) -> Mistake {
        match (self.effect, without_rules) {
            (Effect::Forbid, WithoutRules::Passed) => mistake,
            (Effect::Permit, _) | (Effect::Forbid, WithoutRules::Refused) => mistake.as_warning(),
        }
    }

    /// Where a comparison stands in the rule, or what it compares with; the rule's head where neither is found.
    fn place(&self, comparison: &Comparison) -> Range<usize> {
        let whole = places(self.source.text, &comparison.words).into_iter().next();
        whole.unwrap_or_else(|| self.source.find(&comparison.written))
    }
}

fn is_disjoint(one: &RangeInclusive<i64>, other: &RangeInclusive<i64>) -> bool {
    one.end() < other.start() || other.end() < one.start()
}

/// A number, or a duration in milliseconds, and how a rule writes it.
fn literal(json: &Value) -> Option<(i64, String)> {
    if let Some(number) = number(json) {
        return Some((number, number.to_string()));
    }
    let text = json["duration"][0]["Value"].as_str()?;
    Some((milliseconds(text)?, format!("duration({text:?})")))
}

fn number(json: &Value) -> Option<i64> {
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
