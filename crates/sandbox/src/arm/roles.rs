//! Role assignments and role definitions, as the world's principals have them. They can be read, and changed only through the
//! world's state.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use http::Method;
use serde_json::{Value, json};

use crate::roles::ROLES;
use crate::state::{Assignment, State};

use super::envelope::{Outcome, Refusal, method_not_allowed, resource_not_found};
use super::path::{Form, Kind, Resource, is_within};
use super::{Request, paging};

/// Answers a list: definitions, or the assignments at a scope, above it and below it (documentation: without a filter).
pub(super) fn serve(state: &State, request: &Request, resource: &Resource) -> Outcome {
    if request.call.method != Method::GET {
        return Err(method_not_allowed(&request.call.method));
    }
    if resource.form != Form::Collection {
        return Err(not_served(resource));
    }
    match resource.kind {
        Kind::RoleAssignment => paging::reply(state, request, assignments(state, &resource.scope)),
        _ => paging::reply(state, request, definitions(state)),
    }
}

fn not_served(resource: &Resource) -> Refusal {
    resource_not_found(&resource.id(), resource.kind.name())
}

fn all(state: &State) -> impl Iterator<Item = (&str, bool, usize, &Assignment)> {
    state.principals.iter().flat_map(|principal| {
        let given = principal.assignments.iter().enumerate();
        given.map(|(n, assignment)| (principal.object_id.as_str(), principal.upn.is_empty(), n, assignment))
    })
}

fn assignments(state: &State, scope: &str) -> Vec<Value> {
    let touches = |of: &Assignment| is_within(scope, &of.scope) || is_within(&of.scope, scope);
    all(state)
        .filter(|(.., assignment)| touches(assignment))
        .map(|(object_id, is_application, n, assignment)| {
            let name = guid(&format!("{object_id} {n}"));
            let id = format!("{}/providers/Microsoft.Authorization/roleAssignments/{name}", assignment.scope.trim_end_matches('/'));
            json!({
                "id": id,
                "name": name,
                "type": "Microsoft.Authorization/roleAssignments",
                "properties": {
                    "roleDefinitionId": definition_id(assignment),
                    "principalId": object_id,
                    "principalType": if is_application { "ServicePrincipal" } else { "User" },
                    "scope": assignment.scope,
                    "condition": null,
                },
            })
        })
        .collect()
}

fn definitions(state: &State) -> Vec<Value> {
    let distinct: BTreeMap<String, &Assignment> = all(state).map(|(.., assignment)| (definition_id(assignment), assignment)).collect();
    distinct
        .into_iter()
        .map(|(id, assignment)| {
            json!({
                "id": id,
                "name": id.rsplit('/').next(),
                "type": "Microsoft.Authorization/roleDefinitions",
                "properties": {
                    "roleName": role_name(assignment),
                    "type": "CustomRole",
                    "assignableScopes": ["/"],
                    "permissions": [{
                        "actions": assignment.actions, "notActions": [], "dataActions": assignment.actions, "notDataActions": [],
                    }],
                },
            })
        })
        .collect()
}

/// The name of the role of the deployment that allows just this; `Owner` for everything.
fn role_name(assignment: &Assignment) -> String {
    if assignment.actions == ["*"] {
        return "Owner".to_owned();
    }
    let of_deployment = ROLES.values().find(|role| role.actions == assignment.actions);
    of_deployment.map_or_else(|| format!("Role {}", &guid(&assignment.actions.join(" "))[..8]), |role| role.role_name.clone())
}

fn definition_id(assignment: &Assignment) -> String {
    format!("/providers/Microsoft.Authorization/roleDefinitions/{}", guid(&assignment.actions.join(" ")))
}

/// A GUID that is always the same for the same text.
fn guid(text: &str) -> String {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, text).hash(&mut hasher);
        hasher.finish()
    };
    uuid::Uuid::from_u64_pair(half(0), half(1)).to_string()
}
