//! What `portcullis doctor` is told by Azure: whatever it is, it is judged, and letter case changes nothing.

use portcullis::azure::authorization::{RoleAssignment, RoleDefinition};
use portcullis::doctor::Check;
use portcullis::doctor::subscription::{events_to, openers, plan_of, rights_in};
use portcullis_domain::reconcile::Mode;
use portcullis_domain::rights::Permission;
use serde_json::Value;

use crate::checks::json;

/// The app whose event subscription is looked for.
const APP: &str = "func-portcullis.azurewebsites.net";

/// The lists that are read of a subscription, as fields of one body: its plan, its event subscriptions, role assignments and
/// definitions, and what the app may do.
pub(crate) fn examined(data: &[u8]) {
    let Some(body) = json(data) else { return };
    let checks = checks(&body);
    for check in &checks {
        assert!(!check.said.trim().is_empty() && !check.name.is_empty());
        assert_eq!(check.cure.is_empty(), check.state == portcullis::doctor::State::Well, "{check:?}");
    }
    let states = |checks: &[Check]| checks.iter().map(|check| (check.name, check.state)).collect::<Vec<_>>();
    assert_eq!(states(&checks), states(&self::checks(&shouted(body))), "Azure gives the same id in any letter case");
}

fn checks(body: &Value) -> Vec<Check> {
    let list = |field: &str| body.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let assignments: Vec<RoleAssignment> = list("assignments").iter().map(RoleAssignment::read).collect();
    let definitions: Vec<RoleDefinition> = list("definitions").iter().map(RoleDefinition::read).collect();
    let permissions: Vec<Permission> = list("permissions").iter().map(Permission::read).collect();
    let mut checks = vec![
        plan_of(body.get("plan").unwrap_or(&Value::Null)),
        events_to(&list("events"), APP),
        openers(&assignments, &definitions, Some("5a4db0c5-00b0-4000-8000-0000000000aa")),
    ];
    checks.extend([Mode::Observe, Mode::Enforce].into_iter().filter_map(|mode| rights_in("rg", mode, &permissions)));
    checks
}

/// A body with what are ids in capitals.
fn shouted(body: Value) -> Value {
    const IDS: [&str; 4] = ["id", "principalId", "roleDefinitionId", "resourceId"];
    match body {
        Value::Object(fields) => {
            let field = |(name, value): (String, Value)| match value {
                Value::String(id) if IDS.contains(&name.as_str()) => (name, Value::String(id.to_ascii_uppercase())),
                value => (name, shouted(value)),
            };
            fields.into_iter().map(field).collect()
        }
        Value::Array(items) => items.into_iter().map(shouted).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => body,
    }
}
