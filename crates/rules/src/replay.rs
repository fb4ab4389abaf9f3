//! Stored decisions decided again: what a change of the rules would have changed.

use serde_json::Value;

use crate::decision::{Decision, Outcome};
use crate::set::Rules;

/// A stored decision that another set decides otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which of the decisions, from 0.
    pub number: usize,
    /// As it was decided.
    pub before: Decision,
    /// As this set decides.
    pub after: Decision,
}

/// What came of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// How many decisions there were.
    pub decisions: usize,
    /// How many are decided otherwise.
    pub differences: Vec<Difference>,
}

/// Why a file holds no decisions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Unreadable {
    /// The line, from 1; of a list the number of the item.
    pub line: usize,
    /// Why.
    pub why: String,
}

/// Reads decisions: a JSON list, or one JSON object a line; each a decision or something that holds one as `decision`,
/// as audit records do. What holds none is passed over.
pub fn read(text: &str) -> Result<Vec<Decision>, Unreadable> {
    let values: Vec<(usize, Value)> = if text.trim_start().starts_with('[') {
        let list: Vec<Value> =
            serde_json::from_str(text).map_err(|why| Unreadable { line: why.line(), why: format!("it is not a JSON list: {why}") })?;
        list.into_iter().enumerate().map(|(n, value)| (n + 1, value)).collect()
    } else {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let read = |(n, line): (usize, &str)| {
            let value = serde_json::from_str(line).map_err(|why| Unreadable { line: n + 1, why: format!("it is not JSON: {why}") })?;
            Ok((n + 1, value))
        };
        lines.map(read).collect::<Result<_, Unreadable>>()?
    };
    let mut decisions = Vec::new();
    for (line, mut value) in values {
        let held = match value.get_mut("decision").map(Value::take) {
            Some(held) => held,
            None if value.get("outcome").is_some() => value,
            None => continue,
        };
        if !held.is_null() {
            let decision = serde_json::from_value(held).map_err(|why| Unreadable { line, why: format!("it is no decision: {why}") })?;
            decisions.push(decision);
        }
    }
    Ok(decisions)
}

/// Decides again on what each decision was made on.
pub fn replay(rules: &Rules, decisions: Vec<Decision>) -> Replay {
    let count = decisions.len();
    let again = |(number, before): (usize, Decision)| {
        let after = rules.decide(&before.wish);
        (!is_same(&before.outcome, &after.outcome)).then_some(Difference { number, before, after })
    };
    Replay { decisions: count, differences: decisions.into_iter().enumerate().filter_map(again).collect() }
}

/// Whether two outcomes have the same effect by the same rule: another wording is no difference.
fn is_same(before: &Outcome, after: &Outcome) -> bool {
    let rule = |outcome: &Outcome| outcome.rule().map(|rule| rule.id.clone());
    let decides = |outcome: &Outcome| match outcome {
        Outcome::Ask { decides, .. } => Some(decides.clone()),
        Outcome::Open { .. } | Outcome::BreakGlass { .. } | Outcome::Refuse(_) | Outcome::Undecided { .. } => None,
    };
    before.text() == after.text()
        && rule(before) == rule(after)
        && before.cap_seconds() == after.cap_seconds()
        && decides(before) == decides(after)
}

impl Difference {
    /// It for a person: who wanted what, what was decided, what this set decides, and why.
    pub fn sentence(&self) -> String {
        let wish = &self.before.wish;
        let ports: Vec<String> = wish.ports.iter().map(ToString::to_string).collect();
        let mut text = format!(
            "{} port {} of {} from {}\n  was  {}: {}\n  now  {}: {}",
            wish.at.format("%Y-%m-%dT%H:%M:%SZ"),
            ports.join(" and "),
            wish.vm.id.name(),
            wish.sources,
            self.before.outcome.text(),
            self.before.outcome.sentence(),
            self.after.outcome.text(),
            self.after.outcome.sentence(),
        );
        if let Some(miss) = &self.after.nearest {
            for lack in &miss.lacks {
                text.push_str(&format!("\n       {} permits {}, but {}", miss.rule.id, miss.action, lack.sentence()));
            }
        }
        text
    }
}
