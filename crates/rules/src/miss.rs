//! The nearest miss: which permit came nearest to matching, and what it lacked.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use cedar_policy::{Authorizer, Entities, Policy, PolicyId, PolicySet, Request};
use chrono_tz::Tz;

use crate::action::Action;
use crate::decide::order as rank;
use crate::decision::{Lack, Miss};
use crate::set::{Rule, Rules};
use crate::terms::Effect;
use crate::text::PartKind;
use crate::wish::Wish;

/// The parts of all rules that are about one action and read at one clock, each as a permit of its own, so that Cedar is asked
/// once which of them hold.
#[derive(Debug)]
pub(crate) struct Parts {
    /// What a rule lacks where a part does not hold.
    lacks: Vec<Lack>,
    by_rule: BTreeMap<String, Range<usize>>,
    /// A permit is called by its part's number.
    permits: PolicySet,
}

impl Parts {
    fn of<'a>(rules: impl Iterator<Item = &'a Rule>) -> Self {
        let mut parts = Parts { lacks: Vec::new(), by_rule: BTreeMap::new(), permits: PolicySet::new() };
        for rule in rules {
            let first = parts.lacks.len();
            for part in &rule.shape.parts {
                parts.add(part.kind, &rule.text[part.span.clone()]);
            }
            parts.by_rule.insert(rule.terms.id.clone(), first..parts.lacks.len());
        }
        parts
    }

    /// Adds a part. One that does not parse on its own is left out, so that the miss tells less.
    fn add(&mut self, kind: PartKind, text: &str) {
        let rule = match kind {
            PartKind::Principal => format!("permit ({text}, action, resource);"),
            PartKind::Resource => format!("permit (principal, action, {text});"),
            PartKind::When => format!("permit (principal, action, resource) when {{ {text} }};"),
            PartKind::Unless => format!("permit (principal, action, resource) unless {{ {text} }};"),
        };
        let permit = Policy::parse(Some(PolicyId::new(self.lacks.len().to_string())), rule);
        if permit.is_ok_and(|permit| self.permits.add(permit).is_ok()) {
            self.lacks.push(Lack::of(kind, text));
        }
    }

    /// The numbers of those that hold. One that cannot be worked out, because what it speaks of is not there, does not.
    pub(crate) fn holding(&self, request: &Request, entities: &Entities) -> BTreeSet<usize> {
        let response = Authorizer::new().is_authorized(request, &self.permits, entities);
        response.diagnostics().reason().filter_map(|id| AsRef::<str>::as_ref(id).parse().ok()).collect()
    }

    /// What a rule lacks to match, besides the action.
    pub(crate) fn lacks(&self, rule: &Rule, holding: &BTreeSet<usize>, seconds: i64) -> Vec<Lack> {
        let numbers = self.by_rule.get(&rule.terms.id).cloned().unwrap_or_default();
        let mut lacks: Vec<Lack> = numbers.filter(|number| !holding.contains(number)).map(|number| self.lacks[number].clone()).collect();
        // What is not there cannot have anything: only that it is not there is lacking.
        let absent: Vec<String> = lacks.iter().filter_map(Lack::absent).collect();
        lacks.retain(|lack| lack.absent().is_some() || !absent.iter().any(|of| lack.is_about(of)));
        let max = rule.terms.max.map(|max| max.num_seconds()).filter(|max| *max < seconds);
        lacks.extend(max.map(|seconds| Lack::Max { seconds }));
        lacks
    }
}

impl Rules {
    /// The parts of the rules that are about an action and read at this clock, made when they are first asked for: most
    /// decisions need none.
    pub(crate) fn parts(&self, zone: Tz, action: Action) -> Option<&Parts> {
        let about = |rule: &&Rule| rule.terms.timezone == zone && rule.actions.contains(&action);
        self.parts.get(&(zone.name(), action)).map(|parts| parts.get_or_init(|| Parts::of(self.rules().filter(about))))
    }
}

/// An action that was tried, and how many rules forbade it.
pub(crate) type Tried = (Action, usize);

/// The permit of these actions that lacked least; none where there is no permit. A forbid counts as one thing that is
/// lacking. Of several that lack as much, the earlier action's, then the one that would decide.
pub(crate) fn nearest(rules: &Rules, tried: &[Tried], seconds: i64, lacks: impl Fn(&Rule, Action) -> Option<Vec<Lack>>) -> Option<Miss> {
    let mut misses = Vec::new();
    for (order, (action, forbids)) in tried.iter().enumerate() {
        for rule in rules.rules().filter(|rule| rule.effect == Effect::Permit && rule.actions.contains(action)) {
            let Some(lacks) = lacks(rule, *action) else { continue };
            // Somebody it is not for is further away than a condition that could be met.
            let foreign = lacks.iter().any(Lack::is_about_the_person);
            // Of several that permit too little time, the one that permits most is nearest.
            let short = lacks.iter().find_map(Lack::max_seconds).map_or(0, |max| seconds.saturating_sub(max));
            misses.push((foreign, lacks.len() + forbids, order, (short, rank(rule)), Miss { rule: rule.named(), action: *action, lacks }));
        }
    }
    misses.sort_by(|(a, b, c, d, _), (e, f, g, h, _)| (a, b, c, d).cmp(&(e, f, g, h)));
    misses.into_iter().next().map(|(.., miss)| miss)
}

/// The permit of a right that lacks least; none where there is no permit.
pub(crate) fn nearest_right(rules: &Rules, right: Action, wish: &Wish) -> Option<Miss> {
    let lacks = rules.lacks(wish, Some(right)).into_iter();
    let permits = lacks.filter_map(|(id, lacks)| Some((rules.rule(&id)?, lacks))).filter(|(rule, _)| rule.effect == Effect::Permit);
    let nearest = permits.min_by_key(|(_, lacks)| (lacks.iter().any(Lack::is_about_the_person), lacks.len()));
    nearest.map(|(rule, lacks)| Miss { rule: rule.named(), action: right, lacks })
}
