//! Permits that let in somebody of whom nobody knows who it is.

use std::collections::BTreeSet;

use cedar_policy::{
    Effect, Policy, PolicyId, PolicySet, PrincipalConstraint, ResourceConstraint, ValidationMode, ValidationWarning, Validator,
};
use serde_json::json;

use crate::action::Action;
use crate::mistake::Mistake;
use crate::terms::Source;
use crate::text::places;

/// What a set says of somebody unknown.
#[derive(Default)]
pub(crate) struct Unknown {
    /// Permits that let them in, each with its actions.
    let_in: Vec<(BTreeSet<Action>, Mistake)>,
    /// What is forbidden to them whatever else holds.
    forbidden: BTreeSet<Action>,
}

impl Unknown {
    /// Looks at one rule that has no error.
    pub(crate) fn look(&mut self, source: &Source<'_>, policy: &Policy, actions: &BTreeSet<Action>, validator: &Validator) {
        if policy.effect() == Effect::Forbid {
            let of_unknown = match policy.principal_constraint() {
                PrincipalConstraint::Any => true,
                PrincipalConstraint::Is(kind) => kind.to_string() == "Unknown",
                _ => false,
            };
            let of_all = policy.resource_constraint() == ResourceConstraint::Any && asks_at_most_for_unknown(policy);
            self.forbidden.extend(actions.iter().filter(|_| of_unknown && of_all));
        } else if actions.iter().any(|action| action.opens()) && may_match(source, validator) {
            let opens = actions.iter().copied().filter(|action| action.opens()).collect();
            let mistake = source.mistake(&source.shape.head, "the rule lets in somebody of whom nobody knows who it is");
            let cure =
                "write `principal is Person` or name a group; or forbid it for all: `forbid (principal is Unknown, action, resource);`";
            self.let_in.push((opens, mistake.cured(cure).as_warning()));
        }
    }

    /// The permits that let them in, and that nothing forbids.
    pub(crate) fn mistakes(self) -> impl Iterator<Item = Mistake> {
        self.let_in.into_iter().filter(move |(actions, _)| !actions.is_subset(&self.forbidden)).map(|(_, mistake)| mistake)
    }
}

/// Whether the conditions of a rule, where it has any, say no more than that it is about somebody unknown, or what is so of all of them.
fn asks_at_most_for_unknown(policy: &Policy) -> bool {
    let is = |kind: &str| json!({"is": {"left": {"Var": "principal"}, "entity_type": kind}});
    let direct = json!({".": {"left": {"Var": "context"}, "attr": "direct"}});
    let known = [
        json!({"kind": "when", "body": is("Unknown")}),
        json!({"kind": "unless", "body": is("Person")}),
        // Nobody is unknown but whoever opened something around Portcullis.
        json!({"kind": "when", "body": direct}),
    ];
    let written = policy.to_json().ok();
    written.and_then(|json| json["conditions"].as_array().map(|all| all.iter().all(|one| known.contains(one)))).unwrap_or_default()
}

/// Whether a rule can hold for somebody unknown, who is nobody but whoever opened something around Portcullis.
fn may_match(source: &Source<'_>, validator: &Validator) -> bool {
    let mut text = source.text.trim_end_matches(';').to_owned();
    for place in places(&text, "context.direct").into_iter().rev() {
        text.replace_range(place, "true");
    }
    let rule = format!("{text} when {{ principal is Unknown }};");
    let Ok(policy) = Policy::parse(Some(PolicyId::new("unknown")), rule) else { return false };
    let Ok(alone) = PolicySet::from_policies([policy]) else { return false };
    let said = validator.validate(&alone, ValidationMode::Strict);
    let is_impossible =
        |said: &ValidationWarning| matches!(said, ValidationWarning::ImpossiblePolicy(_) | ValidationWarning::InvalidActionApplication(_));
    said.validation_passed() && !said.validation_warnings().any(is_impossible)
}
