//! The cases in which a condition comes out in one way, as far as they can be told apart.
//!
//! There are never fewer than there are: what is not understood is left out of a case, so that no cases at all is a proof.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde_json::{Value, json};

use crate::bounds::{Comparison, Need, number};
use crate::spoken::path;

/// The least port that is asked for.
pub(crate) const LEAST: &str = "context.leastPort";

/// The greatest port that is asked for.
pub(crate) const GREATEST: &str = "context.greatestPort";

/// More cases than any rule that people write has; the work grows with their square.
const MOST: usize = 32;

/// What a value is, as far as a case says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Values {
    Numbers(RangeInclusive<i64>),
    OneOf(BTreeSet<String>),
    NoneOf(BTreeSet<String>),
}

impl Values {
    /// Those that are in both; none where there are none.
    fn both(&self, other: &Self) -> Option<Self> {
        let values = match (self, other) {
            (Values::Numbers(one), Values::Numbers(other)) => {
                let range = *one.start().max(other.start())..=*one.end().min(other.end());
                return Some(Values::Numbers(range)).filter(|_| one.start().max(other.start()) <= one.end().min(other.end()));
            }
            (Values::OneOf(one), Values::OneOf(other)) => one & other,
            (Values::OneOf(one), Values::NoneOf(other)) | (Values::NoneOf(other), Values::OneOf(one)) => one - other,
            (Values::NoneOf(one), Values::NoneOf(other)) => return Some(Values::NoneOf(one | other)),
            // Numbers and names of one thing do not come together.
            (Values::Numbers(_), _) | (_, Values::Numbers(_)) => return Some(self.clone()),
        };
        Some(Values::OneOf(values.clone())).filter(|_| !values.is_empty())
    }
}

/// One case: what is known in it of each thing, by how a rule reaches it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Case(BTreeMap<String, Values>);

impl Case {
    /// The case that an attribute is in a range.
    pub(crate) fn of_numbers(path: &str, range: RangeInclusive<i64>) -> Self {
        Case(BTreeMap::from([(path.to_owned(), Values::Numbers(range))]))
    }

    fn of(key: &Value, values: Values) -> Self {
        Case(BTreeMap::from([(path(key).unwrap_or_else(|| key.to_string()), values)]))
    }

    /// The case that both are so, where that can be.
    fn and(&self, other: &Self) -> Option<Self> {
        let mut values = self.0.clone();
        for (key, new) in &other.0 {
            let now = match values.get(key) {
                Some(old) => old.both(new)?,
                None => new.clone(),
            };
            if let Values::NoneOf(excluded) = &now
                && is_all(key, excluded)
            {
                return None;
            }
            values.insert(key.clone(), now);
        }
        let bound = |path: &str| match values.get(path) {
            Some(Values::Numbers(range)) => Some(range),
            _ => None,
        };
        let crossed = bound(LEAST).zip(bound(GREATEST)).is_some_and(|(least, greatest)| least.start() > greatest.end());
        (!crossed).then_some(Case(values))
    }
}

/// Whether these are all that there can be of something.
fn is_all(key: &str, values: &BTreeSet<String>) -> bool {
    let count = match key {
        "context.weekday" => 7,
        "context.incident.severity" => 4,
        _ => return false,
    };
    values.len() >= count
}

/// The cases in which one of each of two lists is so.
pub(crate) fn both(one: &[Case], other: &[Case]) -> Vec<Case> {
    let all: Vec<Case> = one.iter().flat_map(|one| other.iter().filter_map(|other| one.and(other))).collect();
    // Fewer than there are would prove too much: those of one list alone are more.
    if all.len() > MOST { if one.len() < other.len() { one.to_vec() } else { other.to_vec() } } else { all }
}

fn either(mut one: Vec<Case>, other: Vec<Case>) -> Vec<Case> {
    one.extend(other);
    if one.len() > MOST { vec![Case::default()] } else { one }
}

/// The cases in which an expression comes out as it is needed.
pub(crate) fn of(json: &Value, need: Need) -> Vec<Case> {
    let Some((sign, sides)) = json.as_object().and_then(|fields| fields.iter().next()) else { return vec![Case::default()] };
    let is_met = match need {
        Need::Met => true,
        Need::Unmet => false,
        Need::Either => return vec![Case::default()],
    };
    let (left, right) = (&sides["left"], &sides["right"]);
    match (sign.as_str(), need) {
        ("&&", Need::Met) | ("||", Need::Unmet) => both(&of(left, need), &of(right, need)),
        ("&&", _) | ("||", _) => either(of(left, need), of(right, need)),
        ("!", _) => of(&sides["arg"], need.negated()),
        ("Value", _) if sides.is_boolean() => {
            if sides == &Value::Bool(is_met) {
                vec![Case::default()]
            } else {
                Vec::new()
            }
        }
        ("if-then-else", _) => either(
            both(&of(&sides["if"], Need::Met), &of(&sides["then"], need)),
            both(&of(&sides["if"], Need::Unmet), &of(&sides["else"], need)),
        ),
        _ => of_one(json, sign, left, right, need),
    }
}

/// The cases of what is put together of no others.
fn of_one(json: &Value, sign: &str, left: &Value, right: &Value, need: Need) -> Vec<Case> {
    if let Some(comparison) = Comparison::read(json) {
        return comparison.leaves(need).into_iter().map(|range| Case::of_numbers(comparison.known.path, range)).collect();
    }
    let named = |names: BTreeSet<String>, need: Need| if need == Need::Unmet { Values::NoneOf(names) } else { Values::OneOf(names) };
    match sign {
        "==" | "!=" => {
            let need = if sign == "!=" { need.negated() } else { need };
            for (one, other) in [(left, right), (right, left)] {
                if let (Some(name), None) = (name(other), name(one)) {
                    return match other["Value"].as_bool() {
                        Some(is) => of(one, if is { need } else { need.negated() }),
                        None => vec![Case::of(one, named(BTreeSet::from([name]), need))],
                    };
                }
            }
            return vec![Case::of(&json!({"==": [left, right]}), Values::OneOf(BTreeSet::from([(need == Need::Met).to_string()])))];
        }
        "contains" => {
            let names: Option<BTreeSet<String>> = left["Set"].as_array().and_then(|items| items.iter().map(name).collect());
            if let Some(names) = names.filter(|_| name(right).is_none() && number(right).is_none()) {
                return vec![Case::of(right, named(names, need))];
            }
        }
        _ => {}
    }
    let own = Case::of(json, Values::OneOf(BTreeSet::from([(need == Need::Met).to_string()])));
    match number(right).filter(|_| sign == "contains" && need == Need::Met && path(left).as_deref() == Some("context.ports")) {
        Some(port) => both(&[own], &both(&[Case::of_numbers(LEAST, i64::MIN..=port)], &[Case::of_numbers(GREATEST, port..=i64::MAX)])),
        None => vec![own],
    }
}

/// A name that a rule writes out: a text, `true` or `false`, or an entity.
fn name(json: &Value) -> Option<String> {
    let value = &json["Value"];
    (value.is_string() || value.is_boolean() || value.get("__entity").is_some()).then(|| value.to_string())
}
