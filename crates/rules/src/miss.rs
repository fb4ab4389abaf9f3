//! The nearest miss: which permit came nearest to matching, and what it lacked.

use cedar_policy::{Authorizer, Decision as Allowed, Entities, Policy, PolicyId, PolicySet, Request};

use crate::action::Action;
use crate::decide::order as rank;
use crate::decision::{Lack, Miss};
use crate::set::{Rule, Rules};
use crate::terms::Effect;
use crate::text::PartKind;
use crate::wish::Wish;

/// A part of a rule that can be asked on its own.
#[derive(Debug)]
pub(crate) struct Part {
    kind: PartKind,
    text: String,
    alone: PolicySet,
}

impl Rule {
    /// The parts, made when they are first asked for: most decisions need none.
    fn parts(&self) -> &[Part] {
        self.parts.get_or_init(|| self.shape.parts.iter().filter_map(|part| Part::of(part.kind, &self.text[part.span.clone()])).collect())
    }
}

impl Part {
    /// A part as a permit of its own. One that does not parse on its own is left out, so that the miss tells less.
    fn of(kind: PartKind, text: &str) -> Option<Self> {
        let rule = match kind {
            PartKind::Principal => format!("permit ({text}, action, resource);"),
            PartKind::Resource => format!("permit (principal, action, {text});"),
            PartKind::When => format!("permit (principal, action, resource) when {{ {text} }};"),
            PartKind::Unless => format!("permit (principal, action, resource) unless {{ {text} }};"),
        };
        let policy = Policy::parse(Some(PolicyId::new("part")), rule).ok()?;
        let alone = PolicySet::from_policies([policy]).ok()?;
        Some(Part { kind, text: text.to_owned(), alone })
    }

    /// Whether it holds. One that cannot be worked out, because what it speaks of is not there, does not.
    fn holds(&self, request: &Request, entities: &Entities) -> bool {
        Authorizer::new().is_authorized(request, &self.alone, entities).decision() == Allowed::Allow
    }
}

/// What a rule lacks to match, besides the action.
pub(crate) fn lacks(rule: &Rule, request: &Request, entities: &Entities, seconds: i64) -> Vec<Lack> {
    let lacking = rule.parts().iter().filter(|part| !part.holds(request, entities));
    let mut lacks: Vec<Lack> = lacking.map(|part| Lack::of(part.kind, &part.text)).collect();
    // What is not there cannot have anything: only that it is not there is lacking.
    let absent: Vec<String> = lacks.iter().filter_map(Lack::absent).collect();
    lacks.retain(|lack| lack.absent().is_some() || !absent.iter().any(|of| lack.is_about(of)));
    let max = rule.terms.max.map(|max| max.num_seconds()).filter(|max| *max < seconds);
    lacks.extend(max.map(|seconds| Lack::Max { seconds }));
    lacks
}

/// An action that was tried, and how many rules forbade it.
pub(crate) type Tried = (Action, usize);

/// The permit of these actions that lacked least; none where there is no permit. A forbid counts as one thing that is
/// lacking. Of several that lack as much, the earlier action's, then the one that would decide.
pub(crate) fn nearest(
    rules: &Rules,
    tried: &[Tried],
    seconds: i64,
    entities: &Entities,
    request: impl Fn(&Rule, Action) -> Option<Request>,
) -> Option<Miss> {
    let mut misses = Vec::new();
    for (order, (action, forbids)) in tried.iter().enumerate() {
        for rule in rules.rules().filter(|rule| rule.effect == Effect::Permit && rule.actions.contains(action)) {
            let Some(request) = request(rule, *action) else { continue };
            let lacks = lacks(rule, &request, entities, seconds);
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
