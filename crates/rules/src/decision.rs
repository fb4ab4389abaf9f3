//! What was decided, and why: one value that is acted on, stored, shown and replayed.

use portcullis_domain::duration::spoken;
use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::terms::Decides;
use crate::text::{PartKind, on_one_line};
use crate::wish::{self, Wish};

/// A decision with everything that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// What was decided.
    pub outcome: Outcome,
    /// Rules that forbade what was tried before this outcome.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forbade: Vec<Named>,
    /// The permit that came nearest to letting more happen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest: Option<Miss>,
    /// The hash of the rule set.
    pub set: String,
    /// What it was decided on.
    pub wish: Wish,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// It may be opened without a person, for as long as this rule says.
    Open {
        /// The deciding rule.
        rule: Named,
        /// The longest time, in seconds.
        cap_seconds: i64,
    },
    /// It may be opened around the other rules, and everybody is told.
    BreakGlass {
        /// The deciding rule.
        rule: Named,
        /// The longest time, in seconds.
        cap_seconds: i64,
    },
    /// People decide.
    Ask {
        /// The deciding rule.
        rule: Named,
        /// The longest time, in seconds.
        cap_seconds: i64,
        /// Who decides.
        decides: Decides,
    },
    /// It may not be opened.
    Refuse(Refusal),
    /// Nobody knows yet: something that decides could not be reached.
    Undecided {
        /// What.
        why: String,
    },
}

/// What a decision comes to, without what made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// It may be opened without a person.
    Open,
    /// It may be opened around the other rules.
    BreakGlass,
    /// People decide.
    Ask,
    /// Somebody has the right.
    Permit,
    /// It may not be opened, or nobody has the right.
    Refuse,
    /// Nobody knows yet.
    Undecided,
}

impl Decided {
    /// All that can come of a request for an opening.
    pub const OF_OPENINGS: [Decided; 5] = [Decided::Open, Decided::BreakGlass, Decided::Ask, Decided::Refuse, Decided::Undecided];

    /// All that can come of a right.
    pub const OF_RIGHTS: [Decided; 2] = [Decided::Permit, Decided::Refuse];

    /// It as scenario files and lists write it.
    pub fn text(self) -> &'static str {
        match self {
            Decided::Open => "open",
            Decided::BreakGlass => "breakGlass",
            Decided::Ask => "ask",
            Decided::Permit => "permit",
            Decided::Refuse => "refuse",
            Decided::Undecided => "undecided",
        }
    }
}

/// Why something is refused, without what refused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// It breaks hard limits.
    Limits,
    /// Rules forbid it.
    Forbidden,
    /// A rule could not be worked out.
    Erred,
    /// No rule permits it.
    NothingPermits,
}

impl Ground {
    /// All there are.
    pub const ALL: [Ground; 4] = [Ground::Limits, Ground::Forbidden, Ground::Erred, Ground::NothingPermits];

    /// It as scenario files and lists write it.
    pub fn text(self) -> &'static str {
        match self {
            Ground::Limits => "limits",
            Ground::Forbidden => "forbidden",
            Ground::Erred => "erred",
            Ground::NothingPermits => "nothingPermits",
        }
    }
}

/// Why something may not be opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Refusal {
    /// It breaks hard limits, which no rule can lift.
    Limits {
        /// A sentence for each.
        broken: Vec<String>,
    },
    /// Rules forbid it.
    Forbidden {
        /// The rules.
        rules: Vec<Named>,
        /// What was tried besides, and is not forbidden: no rule permits it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unpermitted: Vec<Action>,
    },
    /// A rule could not be worked out.
    Erred {
        /// The rule.
        rule: Named,
        /// What went wrong.
        why: String,
    },
    /// No rule permits it.
    NothingPermits,
}

/// A rule as people are told of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Named {
    /// Its id.
    pub id: String,
    /// Why it is there.
    pub reason: String,
}

/// A permit that did not match, and what it lacked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Miss {
    /// The rule.
    pub rule: Named,
    /// What it would have permitted.
    pub action: Action,
    /// What did not hold, in the rule's own words; empty where only a forbid stood against it.
    pub lacks: Vec<Lack>,
}

/// One thing that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Lack {
    /// It is for other people.
    Principal {
        /// The rule's words.
        text: String,
    },
    /// It is for other machines.
    Resource {
        /// The rule's words.
        text: String,
    },
    /// A condition does not hold.
    When {
        /// The rule's words.
        text: String,
    },
    /// A condition that must not hold does.
    Unless {
        /// The rule's words.
        text: String,
    },
    /// It permits less time.
    Max {
        /// The longest time that it permits, in seconds.
        seconds: i64,
    },
}

/// Whether somebody has a right, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Permission {
    /// A rule gives it.
    Permit {
        /// The rule.
        rule: Named,
    },
    /// No rule gives it, or one takes it away.
    Refuse {
        /// The rules that take it away; empty where none gives it.
        forbade: Vec<Named>,
        /// Why, in one sentence, where no rule says so: it could not be worked out, or nobody may whatever the rules say.
        why: Option<String>,
    },
}

impl Refusal {
    /// The reason as scenario files write it.
    pub fn text(&self) -> &'static str {
        self.ground().text()
    }

    /// Why it is refused.
    pub fn ground(&self) -> Ground {
        match self {
            Refusal::Limits { .. } => Ground::Limits,
            Refusal::Forbidden { .. } => Ground::Forbidden,
            Refusal::Erred { .. } => Ground::Erred,
            Refusal::NothingPermits => Ground::NothingPermits,
        }
    }
}

impl Permission {
    /// What it comes to.
    pub fn decided(&self) -> Decided {
        match self {
            Permission::Permit { .. } => Decided::Permit,
            Permission::Refuse { .. } => Decided::Refuse,
        }
    }

    /// The rules that made it.
    pub fn rules(&self) -> impl Iterator<Item = &Named> {
        match self {
            Permission::Permit { rule } => std::slice::from_ref(rule).iter(),
            Permission::Refuse { forbade, .. } => forbade.iter(),
        }
    }

    /// It in one sentence for people.
    pub fn sentence(&self) -> String {
        match self {
            Permission::Permit { rule } => format!("rule {} permits it: {}", rule.id, rule.reason),
            Permission::Refuse { why: Some(why), .. } => why.clone(),
            Permission::Refuse { forbade, .. } if forbade.is_empty() => "no rule permits it".to_owned(),
            Permission::Refuse { forbade, .. } => {
                let told: Vec<String> = forbade.iter().map(|rule| format!("rule {} forbids it: {}", rule.id, rule.reason)).collect();
                told.join("; ")
            }
        }
    }
}

impl Lack {
    /// What a part of a rule lacks.
    pub(crate) fn of(kind: PartKind, text: &str) -> Self {
        let text = on_one_line(text);
        match kind {
            PartKind::Principal => Lack::Principal { text },
            PartKind::Resource => Lack::Resource { text },
            PartKind::When => Lack::When { text },
            PartKind::Unless => Lack::Unless { text },
        }
    }

    /// Whether the rule is for other people.
    pub(crate) fn is_about_the_person(&self) -> bool {
        match self {
            Lack::Principal { .. } => true,
            Lack::When { text } | Lack::Unless { text } => text.trim_start_matches('(').starts_with("principal "),
            Lack::Resource { .. } | Lack::Max { .. } => false,
        }
    }

    /// What is not there, where that is all that is lacking: `context.incident` of `context has incident`.
    pub(crate) fn absent(&self) -> Option<String> {
        let Lack::When { text } = self else { return None };
        let (of, name) = text.split_once(" has ")?;
        let is_name = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'));
        (is_name(of) && is_name(name)).then(|| format!("{of}.{name}"))
    }

    /// Whether a condition asks something of what can be reached in this way.
    pub(crate) fn is_about(&self, of: &str) -> bool {
        match self {
            Lack::When { text } | Lack::Unless { text } => text.contains(of),
            Lack::Principal { .. } | Lack::Resource { .. } | Lack::Max { .. } => false,
        }
    }

    /// It in words.
    pub fn sentence(&self) -> String {
        match self {
            Lack::Principal { text } => format!("this person is not one of `{text}`"),
            Lack::Resource { text } => format!("this machine is not one of `{text}`"),
            Lack::When { text } => format!("`{text}` does not hold"),
            Lack::Unless { text } => format!("`{text}` holds"),
            Lack::Max { seconds } => format!("it permits {} at most", spoken(wish::seconds(*seconds))),
        }
    }
}

impl Decision {
    /// It in one sentence for whoever asked: where no rule permits it, with the one that came nearest and what it lacked; and with
    /// what is known of the incident that they named.
    pub fn sentence(&self) -> String {
        let mut said = self.outcome.sentence();
        if let (Outcome::Refuse(Refusal::NothingPermits), Some(Miss { rule, lacks, .. })) = (&self.outcome, &self.nearest)
            && !lacks.is_empty()
        {
            let lacks: Vec<String> = lacks.iter().map(Lack::sentence).collect();
            said.push_str(&format!("; rule {} came nearest, but {}", rule.id, lacks.join(" and ")));
        }
        match (&self.outcome, &self.wish.incident) {
            // What could not be decided says why by itself.
            (Outcome::Undecided { .. }, _) | (_, None) => said,
            (_, Some(named)) => format!("{said}; {}", named.sentence()),
        }
    }
}

impl Outcome {
    /// The outcome as scenario files and lists write it.
    pub fn text(&self) -> &'static str {
        self.decided().text()
    }

    /// What it comes to.
    pub fn decided(&self) -> Decided {
        match self {
            Outcome::Open { .. } => Decided::Open,
            Outcome::BreakGlass { .. } => Decided::BreakGlass,
            Outcome::Ask { .. } => Decided::Ask,
            Outcome::Refuse(_) => Decided::Refuse,
            Outcome::Undecided { .. } => Decided::Undecided,
        }
    }

    /// The rule that decided, where one did.
    pub fn rule(&self) -> Option<&Named> {
        match self {
            Outcome::Open { rule, .. } | Outcome::BreakGlass { rule, .. } | Outcome::Ask { rule, .. } => Some(rule),
            Outcome::Refuse(Refusal::Forbidden { rules, .. }) => rules.first(),
            Outcome::Refuse(Refusal::Erred { rule, .. }) => Some(rule),
            Outcome::Refuse(Refusal::Limits { .. } | Refusal::NothingPermits) | Outcome::Undecided { .. } => None,
        }
    }

    /// The longest time that may be open, in seconds, where it may be open at all.
    pub fn cap_seconds(&self) -> Option<i64> {
        match self {
            Outcome::Open { cap_seconds, .. } | Outcome::BreakGlass { cap_seconds, .. } | Outcome::Ask { cap_seconds, .. } => {
                Some(*cap_seconds)
            }
            Outcome::Refuse(_) | Outcome::Undecided { .. } => None,
        }
    }

    /// It in one sentence for people.
    pub fn sentence(&self) -> String {
        let cap = |seconds: &i64| spoken(wish::seconds(*seconds));
        match self {
            Outcome::Open { rule, cap_seconds } => {
                format!("rule {} permits it, for {} at most: {}", rule.id, cap(cap_seconds), rule.reason)
            }
            Outcome::BreakGlass { rule, cap_seconds } => {
                format!("rule {} lets this person break the glass, for {} at most: {}", rule.id, cap(cap_seconds), rule.reason)
            }
            Outcome::Ask { rule, decides, .. } => {
                let people = if decides.count == 1 { "one person".to_owned() } else { format!("{} people", decides.count) };
                format!("rule {} leaves it to {people} of {}: {}", rule.id, decides.group, rule.reason)
            }
            Outcome::Refuse(Refusal::Limits { broken }) => format!("no rule can permit it: {}", broken.join("; ")),
            Outcome::Refuse(Refusal::Forbidden { rules, unpermitted }) => {
                let mut told: Vec<String> = rules.iter().map(|rule| format!("rule {} forbids it: {}", rule.id, rule.reason)).collect();
                let others: Vec<&str> = unpermitted.iter().filter_map(|action| doing(*action)).collect();
                if !others.is_empty() {
                    told.push(format!("no rule permits {}", others.join(" or ")));
                }
                told.join("; ")
            }
            Outcome::Refuse(Refusal::Erred { rule, why }) => format!("rule {} could not be worked out, which refuses it: {why}", rule.id),
            Outcome::Refuse(Refusal::NothingPermits) => "no rule permits it".to_owned(),
            Outcome::Undecided { why } => format!("it could not be decided: {why}"),
        }
    }
}

/// What somebody does by an action of which people are told that nobody may.
fn doing(action: Action) -> Option<&'static str> {
    match action {
        Action::Open => Some("opening it without a person"),
        Action::BreakGlass => Some("breaking the glass"),
        Action::Ask => Some("asking for it"),
        Action::Approve | Action::Close | Action::Read => None,
    }
}
