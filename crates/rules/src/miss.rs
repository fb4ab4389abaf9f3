//! The nearest miss: which permit came nearest to matching, and what it lacked.

use std::str::FromStr;

use cedar_policy::{Entities, EvalResult, Expression, Request, eval_expression};

use crate::action::Action;
use crate::decide::order as rank;
use crate::decision::{Lack, Miss};
use crate::set::{Rule, Rules};
use crate::terms::Effect;
use crate::text::PartKind;
use crate::wish::Wish;

/// A part of a rule as a condition of its own, which has to hold for the rule to match.
#[derive(Debug)]
pub(crate) struct Clause {
    condition: Expression,
    /// What the rule lacks where it does not hold.
    lack: Lack,
    /// What is not there then, where that is all that is lacking.
    absent: Option<String>,
}

impl Clause {
    /// None where the text does not parse on its own: the miss tells less then.
    fn read(kind: PartKind, text: &str) -> Option<Self> {
        let condition = match kind {
            PartKind::Principal | PartKind::Resource | PartKind::When => Expression::from_str(text),
            PartKind::Unless => Expression::from_str(&format!("!({text})")),
        };
        let lack = Lack::of(kind, text);
        Some(Clause { condition: condition.ok()?, absent: lack.absent(), lack })
    }

    /// Whether it holds. One that cannot be worked out, because what it speaks of is not there, does not.
    fn holds(&self, request: &Request, entities: &Entities) -> bool {
        matches!(eval_expression(request, entities, &self.condition), Ok(EvalResult::Bool(true)))
    }
}

impl Rule {
    /// Its parts, read when they are first asked for: most decisions need none.
    fn clauses(&self) -> &[Clause] {
        let read = || self.shape.parts.iter().filter_map(|part| Clause::read(part.kind, &self.text[part.span.clone()])).collect();
        self.clauses.get_or_init(read)
    }

    /// What it lacks to match, besides the action.
    pub(crate) fn missing(&self, request: &Request, entities: &Entities, seconds: i64) -> Missing<'_> {
        let mut clauses: Vec<&Clause> = self.clauses().iter().filter(|clause| !clause.holds(request, entities)).collect();
        // What is not there cannot have anything: only that it is not there is lacking.
        let absent: Vec<&str> = clauses.iter().filter_map(|clause| clause.absent.as_deref()).collect();
        if !absent.is_empty() {
            clauses.retain(|clause| clause.absent.is_some() || !absent.iter().any(|of| clause.lack.is_about(of)));
        }
        let max_seconds = self.terms.max.map(|max| max.num_seconds()).filter(|max| *max < seconds);
        Missing { clauses, max_seconds }
    }
}

/// What a rule lacks to match.
pub(crate) struct Missing<'a> {
    clauses: Vec<&'a Clause>,
    /// The longest time that it permits, where that is too short.
    max_seconds: Option<i64>,
}

impl Missing<'_> {
    /// How many things are lacking.
    pub(crate) fn count(&self) -> usize {
        self.clauses.len() + usize::from(self.max_seconds.is_some())
    }

    /// Whether the rule is for other people.
    fn is_about_the_person(&self) -> bool {
        self.clauses.iter().any(|clause| clause.lack.is_about_the_person())
    }

    /// What is lacking, as people are told of it.
    pub(crate) fn lacks(&self) -> Vec<Lack> {
        let clauses = self.clauses.iter().map(|clause| clause.lack.clone());
        clauses.chain(self.max_seconds.map(|seconds| Lack::Max { seconds })).collect()
    }
}

/// An action that was tried, and how many rules forbade it.
pub(crate) type Tried = (Action, usize);

/// The permit of these actions that lacked least; none where there is no permit. A forbid counts as one thing that is
/// lacking. Of several that lack as much, the earlier action's, then the one that would decide.
pub(crate) fn nearest<'a>(
    rules: &'a Rules,
    tried: &[Tried],
    seconds: i64,
    missing_of: impl Fn(&'a Rule, Action) -> Option<Missing<'a>>,
) -> Option<Miss> {
    let mut misses = Vec::new();
    for (order, (action, forbids)) in tried.iter().enumerate() {
        for rule in rules.rules().filter(|rule| rule.effect == Effect::Permit && rule.actions.contains(action)) {
            let Some(missing) = missing_of(rule, *action) else { continue };
            // Somebody it is not for is further away than a condition that could be met.
            let distance = (missing.is_about_the_person(), missing.count() + forbids, order);
            // Of several that permit too little time, the one that permits most is nearest.
            let short = missing.max_seconds.map_or(0, |max| seconds.saturating_sub(max));
            misses.push((distance, short, rule, *action, missing));
        }
    }
    let least = misses.into_iter().min_by(|(one, short, rule, ..), (another, shorter, other, ..)| {
        (one, short).cmp(&(another, shorter)).then_with(|| rank(rule).cmp(&rank(other)))
    });
    least.map(|(_, _, rule, action, missing)| Miss { rule: rule.named(), action, lacks: missing.lacks() })
}

/// The permit of a right that lacks least; none where there is no permit.
pub(crate) fn nearest_right(rules: &Rules, right: Action, wish: &Wish) -> Option<Miss> {
    let lacks = rules.lacks(wish, Some(right)).into_iter();
    let permits = lacks.filter_map(|(id, lacks)| Some((rules.rule(&id)?, lacks))).filter(|(rule, _)| rule.effect == Effect::Permit);
    let nearest = permits.min_by_key(|(_, lacks)| (lacks.iter().any(Lack::is_about_the_person), lacks.len()));
    nearest.map(|(rule, lacks)| Miss { rule: rule.named(), action: right, lacks })
}
