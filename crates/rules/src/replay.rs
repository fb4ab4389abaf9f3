//! Stored decisions decided again: what a change of the rules would have changed.

use portcullis_domain::duration::spoken;
use serde_json::Value;

use crate::decision::{Decision, Outcome, Refusal};
use crate::plain::plain;
use crate::set::Rules;
use crate::wish::{self, NamedIncident, Who, Wish};

/// A decision as a file holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its line, from 1; in a list its number.
    pub line: usize,
    /// The decision.
    pub decision: Decision,
}

/// A stored decision that another set decides otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// As it was decided.
    pub before: Stored,
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

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// Its decisions.
    pub decisions: Vec<Stored>,
    /// How many records hold none.
    pub without: usize,
    /// Everything that cannot be read.
    pub unreadable: Vec<Unreadable>,
}

/// Something in a file that is no decision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Unreadable {
    /// The line, from 1; in a list the number of the item.
    pub line: usize,
    /// Why.
    pub why: String,
}

/// Reads decisions: a JSON list, a page of the API as it answers it, one JSON object, or one a line; each a decision or something that
/// holds one as `decision`, as audit records do. An audit record that holds none is counted; whatever else it is, it is told.
pub fn read(text: &str) -> File {
    let text = text.trim_start_matches('\u{feff}');
    let mut file = File::default();
    let mut values: Vec<(usize, Value)> = Vec::new();
    let is_list = text.trim_start().starts_with('[');
    let mut whole = if is_list { None } else { serde_json::from_str::<Value>(text).ok() };
    if let Some(Value::Array(items)) = whole.as_mut().and_then(|page| page.get_mut("items").map(Value::take)) {
        values.extend(items.into_iter().enumerate().map(|(n, value)| (n + 1, value)));
    } else if let Some(one) = whole.filter(|_| text.lines().count() > 1) {
        let before = text.lines().take_while(|line| line.trim().is_empty()).count();
        values.push((before + 1, one));
    } else if is_list {
        match serde_json::from_str::<Vec<Value>>(text) {
            Ok(list) => values.extend(list.into_iter().enumerate().map(|(n, value)| (n + 1, value))),
            Err(why) => file.unreadable.push(Unreadable { line: why.line(), why: format!("it is not a JSON list: {}", said(&why)) }),
        }
    } else {
        for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            match serde_json::from_str(line) {
                Ok(value) => values.push((n + 1, value)),
                Err(why) => file.unreadable.push(Unreadable { line: n + 1, why: format!("it is not JSON: {}", said(&why)) }),
            }
        }
    }
    for (line, mut value) in values {
        let is_record = value.is_object();
        let held = match value.get_mut("decision").map(Value::take) {
            Some(held) => held,
            None if is_audit_record(&value) => Value::Null,
            None => value,
        };
        if held.is_null() && is_record {
            file.without += 1;
            continue;
        }
        match serde_json::from_value::<Decision>(held) {
            Ok(decision) if let Some(time) = less_than_none(&decision.wish) => {
                file.unreadable.push(Unreadable { line, why: format!("it is no decision: `{time}` is less than no time") });
            }
            Ok(decision) => file.decisions.push(Stored { line, decision }),
            Err(why) => file.unreadable.push(Unreadable { line, why: format!("it is no decision: {}", said(&why)) }),
        }
    }
    file.unreadable.sort_by_key(|unreadable| unreadable.line);
    file
}

/// Whether it has what every audit record has, and no decision has.
fn is_audit_record(value: &Value) -> bool {
    value.get("kind").is_some_and(Value::is_string)
}

/// The time of a wish that is less than none, by its name, where one is.
fn less_than_none(wish: &Wish) -> Option<&'static str> {
    let age = wish.incident.as_ref().and_then(NamedIncident::known).map(|incident| incident.age_seconds);
    let times = [
        ("seconds", Some(wish.seconds)),
        ("jitLongestSeconds", wish.jit_longest_seconds),
        ("openTodaySeconds", Some(wish.open_today_seconds)),
        ("ageSeconds", age),
    ];
    times.into_iter().find(|(_, seconds)| seconds.is_some_and(|seconds| seconds < 0)).map(|(name, _)| name)
}

/// What is wrong with a line, without its place in the file, which is told beside it.
fn said(why: &serde_json::Error) -> String {
    let said = why.to_string();
    let what = said.rsplit_once(" at line ").map_or(said.as_str(), |(what, _)| what);
    let what = in_our_words(what).unwrap_or_else(|| what.to_owned());
    if why.column() > 0 { format!("{what}, at character {}", why.column()) } else { what }
}

/// What the library says in the terms of its language, in those of a decision.
fn in_our_words(what: &str) -> Option<String> {
    if what.starts_with("EOF while parsing") {
        return Some("it ends too early".to_owned());
    }
    if let Some(field) = what.strip_prefix("missing field ") {
        return Some(format!("{field} is missing"));
    }
    if let Some((variant, known)) = what.strip_prefix("unknown variant ").and_then(|rest| rest.split_once(", expected ")) {
        return Some(format!("{variant} stands where {known} must stand"));
    }
    let (is, wanted) = what.strip_prefix("invalid type: ").or_else(|| what.strip_prefix("invalid value: "))?.split_once(", expected ")?;
    let wanted = match wanted {
        "u16" => "a port",
        "u32" | "i64" | "u64" => "a whole number",
        "a string" => "a text",
        "a boolean" => "`true` or `false`",
        _ if wanted.starts_with("struct ") || wanted.contains("enum") => "an object with its fields",
        _ if wanted.starts_with("a sequence") => "a list",
        other => other,
    };
    let is = is.replace("integer ", "").replace("string ", "the text ").replace("sequence", "a list").replace("map", "an object");
    Some(format!("{is} stands where {wanted} must stand"))
}

/// Decides again on what each decision was made on.
pub fn replay(rules: &Rules, decisions: Vec<Stored>) -> Replay {
    let count = decisions.len();
    let again = |before: Stored| {
        let after = rules.decide(&before.decision.wish);
        let differs = effect(&before.decision.outcome) != effect(&after.outcome);
        differs.then_some(Difference { before, after })
    };
    Replay { decisions: count, differences: decisions.into_iter().filter_map(again).collect() }
}

/// What an outcome comes to, thing by thing and in words: what is decided, by which rules, for how long, and by whom. Another
/// wording of a reason is no other effect.
fn effect(outcome: &Outcome) -> Vec<(&'static str, String)> {
    let mut effect = vec![("it is decided", outcome.text().to_owned())];
    let rules = match outcome {
        Outcome::Refuse(Refusal::Forbidden { rules, .. }) => rules.iter().map(|rule| rule.id.as_str()).collect::<Vec<_>>().join(", "),
        other => other.rule().map(|rule| rule.id.clone()).unwrap_or_default(),
    };
    effect.push(("by rule", rules));
    if let Outcome::Refuse(refusal) = outcome {
        effect.push(("because", refusal.text().to_owned()));
    }
    effect.extend(outcome.cap_seconds().map(|cap| ("at most", spoken(wish::seconds(cap)))));
    if let Outcome::Ask { decides, .. } = outcome {
        effect.push(("people decide", format!("{} of {}", decides.count, decides.group)));
        let told: Vec<String> =
            decides.escalate.iter().map(|next| format!("{} after {}", next.group, spoken(wish::seconds(next.after_seconds)))).collect();
        effect.push(("asked besides", told.join(", ")));
        effect.push(("over after", decides.expire_seconds.map(|after| spoken(wish::seconds(after))).unwrap_or_default()));
    }
    effect
}

impl Difference {
    /// It for a person: where it is stored, who wanted what, what was decided, what this set decides, what differs, and what the
    /// nearest permit lacks where this set permits less.
    pub fn sentence(&self) -> String {
        let (before, after) = (&self.before.decision, &self.after);
        let wish = &before.wish;
        let ports: Vec<String> = wish.ports.iter().map(ToString::to_string).collect();
        let who = match &wish.who {
            Who::Person { id, .. } => id.as_str(),
            Who::Unknown => "somebody unknown",
        };
        let mut text = format!(
            "line {}: {}, {} wants port {} of {} from {} for {}\n  was  {}: {}\n  now  {}: {}",
            self.before.line,
            wish.at.format("%Y-%m-%dT%H:%M:%SZ"),
            plain(who),
            ports.join(" and "),
            plain(wish.vm.id.name()),
            plain(&wish.sources.to_string()),
            spoken(wish.duration()),
            before.outcome.text(),
            plain(&before.outcome.sentence()),
            after.outcome.text(),
            plain(&after.outcome.sentence()),
        );
        let (was, is) = (effect(&before.outcome), effect(&after.outcome));
        if before.outcome.text() == after.outcome.text() {
            let shown = |value: Option<&String>| value.filter(|value| !value.is_empty()).map_or("nothing", String::as_str).to_owned();
            for (name, value) in &is {
                let old = was.iter().find(|(known, _)| known == name).map(|(_, value)| value);
                if old != Some(value) {
                    text.push_str(&format!("\n       {name}: {} -> {}", plain(&shown(old)), plain(&shown(Some(value)))));
                }
            }
        } else if let Some(miss) = &after.nearest {
            for lack in &miss.lacks {
                text.push_str(&format!("\n       {} permits {}, but {}", miss.rule.id, miss.action, plain(&lack.sentence())));
            }
        }
        text
    }
}
