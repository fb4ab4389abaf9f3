//! The annotations of a rule: what it is called, why it is there, and what it grants.

use std::collections::BTreeSet;
use std::ops::Range;

use cedar_policy::Policy;
use chrono::TimeDelta;
use chrono_tz::{TZ_VARIANTS, Tz};
use portcullis_domain::duration;
use portcullis_domain::grant::{LONGEST, SHORTEST};
use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::mistake::Mistake;
use crate::people::People;
use crate::text::{Shape, places};

/// What is said of a rule that lacks an annotation, before its name.
pub(crate) const MISSING: &str = "the rule has no";

/// The annotations there are.
const NAMES: [&str; 7] = ["id", "reason", "max", "approvers", "escalate", "expire", "timezone"];

/// What a rule says besides its condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What it is called.
    pub id: String,
    /// Why it is there, for people.
    pub reason: String,
    /// The longest time that it permits at once; absent means what the hard limits allow.
    pub max: Option<TimeDelta>,
    /// Who decides, where it lets people ask.
    pub people: Option<Decides>,
    /// The time zone of its times and weekdays.
    pub timezone: Tz,
}

/// Who decides on a request, and what happens while nobody does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decides {
    /// How many people must agree.
    pub count: u32,
    /// The group that they are of.
    pub group: String,
    /// Who is asked besides, and after how many seconds.
    pub escalate: Vec<Escalation>,
    /// After how many seconds without a decision the request is over; absent means the installation's own time.
    pub expire_seconds: Option<i64>,
}

/// Who is asked besides when nobody has decided for some time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Escalation {
    /// Seconds after the request.
    pub after_seconds: i64,
    /// The group.
    pub group: String,
}

/// Whether a rule permits or forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// It permits.
    Permit,
    /// It forbids.
    Forbid,
}

/// One rule's text and where it is in its file.
pub(crate) struct Source<'a> {
    pub file: &'a str,
    pub text: &'a str,
    pub start: usize,
    pub shape: &'a Shape,
}

impl Source<'_> {
    /// A mistake at some bytes of the rule.
    pub fn mistake(&self, span: &Range<usize>, what: impl Into<String>) -> Mistake {
        Mistake::error(self.file, self.start + span.start..self.start + span.end, what)
    }

    /// Where a few words stand in the rule first; its head where they are written in another way.
    pub fn find(&self, words: &str) -> Range<usize> {
        places(self.text, words).into_iter().next().unwrap_or_else(|| self.shape.head.clone())
    }

    fn head(&self, what: impl Into<String>) -> Mistake {
        self.mistake(&self.shape.head, what)
    }
}

/// The annotations of one rule by name, with their places.
struct Annotations<'a> {
    source: &'a Source<'a>,
    mistakes: Vec<Mistake>,
}

impl<'a> Annotations<'a> {
    fn is_there(&self, name: &str) -> bool {
        self.source.shape.annotations.iter().any(|annotation| &self.source.text[annotation.name.clone()] == name)
    }

    /// What an annotation says; that one says nothing is told where all are looked at.
    fn find(&self, name: &str) -> Option<(String, Range<usize>)> {
        let text = self.source.text;
        let found = self.source.shape.annotations.iter().find(|annotation| &text[annotation.name.clone()] == name)?;
        let span = found.value.clone()?;
        Some((unescaped(&text[span.clone()]), span))
    }

    /// Whether another name is told to be meant for this one.
    fn is_meant(&self, name: &str) -> bool {
        let cure = format!("did you mean `{name}`?");
        self.mistakes.iter().any(|mistake| mistake.cure.as_deref() == Some(cure.as_str()))
    }

    fn refuse_unknown(&mut self) {
        for annotation in &self.source.shape.annotations {
            let name = &self.source.text[annotation.name.clone()];
            if !NAMES.contains(&name) {
                let mistake = self.source.mistake(&annotation.name, format!("`@{name}` is no annotation of a rule"));
                self.mistakes.push(mistake.meant(name, NAMES));
            } else if annotation.value.is_none() {
                self.mistakes.push(
                    self.source.mistake(&annotation.name, format!("`@{name}` has no value")).cured(format!("write `@{name}(\"…\")`")),
                );
            }
        }
    }

    fn required(&mut self, name: &str, example: &str) -> String {
        match self.find(name) {
            Some((value, _)) if !value.trim().is_empty() => value.trim().to_owned(),
            Some((_, span)) => {
                self.mistakes
                    .push(self.source.mistake(&span, format!("`@{name}` is empty")).cured(format!("write `@{name}(\"{example}\")`")));
                String::new()
            }
            None if self.is_there(name) || self.is_meant(name) => String::new(),
            None => {
                self.mistakes
                    .push(self.source.head(format!("{MISSING} `@{name}`")).cured(format!("put `@{name}(\"{example}\")` before it")));
                String::new()
            }
        }
    }

    fn duration(&mut self, name: &str) -> Option<TimeDelta> {
        let (value, span) = self.find(name)?;
        match duration::parse(&value) {
            Ok(time) if time > TimeDelta::zero() || name == "max" => Some(time),
            Ok(_) => {
                let mistake = self.source.mistake(&span, format!("`@{name}` is no time at all"));
                self.mistakes.push(mistake.cured("write PT2H for two hours, PT30M for thirty minutes"));
                None
            }
            Err(why) => {
                self.mistakes.push(
                    self.source
                        .mistake(&span, format!("`@{name}` cannot be read: {why}"))
                        .cured("write PT2H for two hours, PT30M for thirty minutes"),
                );
                None
            }
        }
    }

    fn refuse(&mut self, name: &str, why: &str) {
        if let Some((_, span)) = self.find(name) {
            self.mistakes.push(self.source.mistake(&span, format!("`@{name}` has no meaning here: {why}")).cured("take it away"));
        }
    }

    fn group(&mut self, span: &Range<usize>, group: &str, people: &People) {
        if !people.may_name(group) {
            let mistake = self.source.mistake(span, format!("`{group}` is no group of people.yaml"));
            self.mistakes.push(mistake.meant(group, people.groups().map(|(name, _)| name)));
        }
    }
}

/// Reads the annotations of a rule, with every mistake.
///
/// Where it is not known what the rule is about, because that is a mistake itself, nothing is said to have no meaning there: a limit
/// that somebody takes away for it would be missing afterwards.
pub(crate) fn read(source: &Source<'_>, effect: Effect, actions: Option<&BTreeSet<Action>>, people: &People) -> (Terms, Vec<Mistake>) {
    let mut all = Annotations { source, mistakes: Vec::new() };
    all.refuse_unknown();
    let id = all.required("id", "what-it-is-called");
    if let (false, Some((_, span))) = (id.is_empty() || is_name(&id), all.find("id")) {
        let mistake = source.mistake(&span, format!("`{id}` cannot name a rule"));
        all.mistakes.push(mistake.cured("use small letters, digits and hyphens, 60 at most"));
    }
    let reason = all.required("reason", "Why, for the people who are told");
    let timezone = timezone(&mut all);
    let is_permit = effect == Effect::Permit;
    let opens = is_permit && actions.is_none_or(|actions| actions.iter().any(|action| action.opens()));
    let asks = is_permit && actions.map_or_else(|| all.find("approvers").is_some(), |actions| actions.contains(&Action::Ask));
    let unknown = is_permit && actions.is_none();
    let max = if opens {
        longest(&mut all)
    } else {
        all.refuse("max", "only a permit of open, ask or breakGlass opens anything");
        None
    };
    let decides = if asks {
        // Without a person is tried before with one.
        let also = actions.into_iter().flatten().find(|action| matches!(action, Action::Open | Action::BreakGlass));
        if let (Some(also), Some((_, span))) = (also, all.find("approvers")) {
            let mistake = source.mistake(&span, format!("nobody is asked by this rule: it permits `{also}`, too, which needs nobody"));
            all.mistakes.push(mistake.cured("write a rule of its own for `ask`").as_warning());
        }
        decides(&mut all, people)
    } else if unknown {
        None
    } else {
        for name in ["approvers", "escalate", "expire"] {
            all.refuse(name, "only a permit of ask leaves a decision to people");
        }
        None
    };
    (Terms { id, reason, max, people: decides, timezone }, all.mistakes)
}

/// What a literal says: Cedar alone knows its escapes.
fn unescaped(literal: &str) -> String {
    let raw = literal.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(literal);
    let read = |literal: &str| {
        let policy = Policy::parse(None, format!("@says({literal}) permit (principal, action, resource);")).ok()?;
        policy.annotation("says").map(str::to_owned)
    };
    Some(literal).filter(|literal| literal.contains('\\')).and_then(read).unwrap_or_else(|| raw.to_owned())
}

/// Whether a text can name a rule in logs, rows and commands.
fn is_name(text: &str) -> bool {
    text.len() <= 60 && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn timezone(all: &mut Annotations<'_>) -> Tz {
    let Some((value, span)) = all.find("timezone") else { return Tz::UTC };
    value.parse().unwrap_or_else(|_| {
        let mistake = all.source.mistake(&span, format!("`{value}` is no time zone"));
        let near = crate::mistake::nearest(&value, TZ_VARIANTS.iter().map(|zone| zone.name()));
        let cure = near
            .map_or_else(|| "write one of the IANA names, such as `Europe/Berlin`".to_owned(), |near| format!("did you mean `{near}`?"));
        all.mistakes.push(mistake.cured(cure));
        Tz::UTC
    })
}

fn longest(all: &mut Annotations<'_>) -> Option<TimeDelta> {
    let max = all.duration("max")?;
    if let Some((value, span)) = all.find("max").filter(|_| max < SHORTEST || max > LONGEST) {
        let mistake = all.source.mistake(&span, format!("`@max` is {value}, which no opening can be"));
        all.mistakes.push(mistake.cured("it must lie between PT5M and PT24H"));
    }
    Some(max)
}

fn decides(all: &mut Annotations<'_>, people: &People) -> Option<Decides> {
    let approvers = approvers(all, people);
    let expire = all.duration("expire");
    let escalate = escalations(all, people);
    let last = escalate.iter().map(|escalation| escalation.after_seconds).max();
    if let (Some(expire), Some(last)) = (expire, last)
        && expire.num_seconds() <= last
        && let Some((_, span)) = all.find("expire")
    {
        let mistake = all.source.mistake(&span, "the request is over before its last escalation");
        all.mistakes.push(mistake.cured("give `@expire` a longer time than `@escalate` has"));
    }
    let (count, group) = approvers?;
    Some(Decides { count, group, escalate, expire_seconds: expire.map(|time| time.num_seconds()) })
}

/// How many people of which group must agree.
fn approvers(all: &mut Annotations<'_>, people: &People) -> Option<(u32, String)> {
    let Some((value, span)) = all.find("approvers") else {
        if all.is_there("approvers") {
            return None;
        }
        let mistake = all.source.head("the rule lets people ask, and nobody is named who decides");
        all.mistakes.push(mistake.cured("put `@approvers(\"1 of GROUP\")` before it"));
        return None;
    };
    let Some((count, group)) = count_and_group(&value) else {
        let mistake = all.source.mistake(&span, format!("`@approvers` cannot be read: `{value}`"));
        all.mistakes.push(mistake.cured("write `2 of security-duty`, with a number from 1 to 10"));
        return None;
    };
    all.group(&span, &group, people);
    Some((count, group))
}

/// What `@approvers` says, as `2 of security-duty`.
pub(crate) fn count_and_group(text: &str) -> Option<(u32, String)> {
    let (count, group) = text.split_once(" of ")?;
    let count = count.trim().parse().ok().filter(|count| (1..=10).contains(count))?;
    Some((count, group.trim().to_owned()))
}

/// How `@escalate` is written.
const ESCALATE: &str = "write `PT15M security-leads; PT30M ciso`, with a `;` between";

fn escalations(all: &mut Annotations<'_>, people: &People) -> Vec<Escalation> {
    let Some((value, span)) = all.find("escalate") else { return Vec::new() };
    let mut found: Vec<Escalation> = Vec::new();
    for part in value.split(';').map(str::trim) {
        let read = part
            .split_once(' ')
            .filter(|(_, group)| !group.contains(", "))
            .and_then(|(after, group)| Some((duration::parse(after).ok()?, group.trim())));
        let Some((after, group)) = read else {
            let mistake = all.source.mistake(&span, format!("`@escalate` cannot be read: `{part}`"));
            all.mistakes.push(mistake.cured(ESCALATE));
            continue;
        };
        all.group(&span, group, people);
        let after_seconds = after.num_seconds();
        if after_seconds <= 0 {
            let mistake = all.source.mistake(&span, format!("`{part}` asks at once"));
            all.mistakes.push(mistake.cured("name them in `@approvers`, or write a time"));
        }
        if found.last().is_some_and(|last| last.after_seconds >= after_seconds) {
            let mistake = all.source.mistake(&span, format!("`{part}` does not come after the escalation before it"));
            all.mistakes.push(mistake.cured("put the times in order"));
        }
        found.push(Escalation { after_seconds, group: group.to_owned() });
    }
    found
}
