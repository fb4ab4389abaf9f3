//! Who may do what: role assignments, linked access, locks and policies.

use serde_json::{Value, json};

use crate::entra::{NotAuthenticated, allows, may};
use crate::state::{Caller, LockLevel, State};

use super::envelope::{Outcome, Refusal, Reply};
use super::path::is_within;
use super::{Request, paging};

/// What tokens for ARM may name as their audience. ARM takes the classic endpoint's, too.
pub(super) const AUDIENCES: &[&str] = &[
    "https://management.azure.com",
    "https://management.azure.com/",
    "https://management.core.windows.net",
    "https://management.core.windows.net/",
];

/// 401 with the challenge that clients read their authority from.
pub(super) fn not_authenticated(state: &State, entra: &str, why: NotAuthenticated) -> Refusal {
    let (code, message) = match why {
        NotAuthenticated::Missing => ("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.".to_owned()),
        NotAuthenticated::Invalid(reason) => {
            ("InvalidAuthenticationToken", if reason.is_empty() { "The access token is invalid.".to_owned() } else { reason })
        }
        NotAuthenticated::Expired => {
            ("ExpiredAuthenticationToken", "The access token expiry UTC time has passed. Get a new token and try again.".to_owned())
        }
    };
    let challenge = format!(
        "Bearer authorization_uri=\"{entra}/{}\", error=\"invalid_token\", error_description=\"{}\"",
        state.tenant_id,
        message.replace('"', "'")
    );
    Refusal::gateway(401, code, message).header("WWW-Authenticate", challenge)
}

fn assignments<'a>(state: &'a State, caller: &Caller) -> impl Iterator<Item = &'a crate::state::Assignment> {
    let object_id = caller.object_id.clone();
    state
        .principals
        .iter()
        .filter(move |p| !object_id.is_empty() && p.object_id.eq_ignore_ascii_case(&object_id))
        .flat_map(|p| p.assignments.iter())
}

/// Whether a caller holds any right in a subscription, and so sees it.
pub(super) fn sees_subscription(state: &State, caller: &Caller, subscription: &str) -> bool {
    let scope = format!("/subscriptions/{subscription}");
    assignments(state, caller).any(|a| is_within(&scope, &a.scope) || is_within(&a.scope, &scope))
}

/// 403 unless the caller may.
pub(super) fn demand(state: &State, caller: &Caller, action: &str, scope: &str) -> Result<(), Refusal> {
    if may(state, caller, action, scope) {
        return Ok(());
    }
    let name = caller.client_name();
    Err(Refusal::gateway(
        403,
        "AuthorizationFailed",
        format!(
            "The client '{name}' with object id '{}' does not have authorization to perform action '{action}' over \
             scope '{scope}' or the scope is invalid. If access was recently granted, please refresh your credentials.",
            caller.object_id
        ),
    ))
}

/// 403 unless the caller may do `linked_action` on a resource that a body of `action` names.
pub(super) fn demand_linked(
    state: &State,
    caller: &Caller,
    (action, scope): (&str, &str),
    (linked_action, linked_id): (&str, &str),
) -> Result<(), Refusal> {
    let subscription = super::path::segment_after(linked_id, "subscriptions");
    let known =
        linked_id.starts_with('/') && subscription.is_some_and(|id| state.subscriptions.iter().any(|s| s.id.eq_ignore_ascii_case(id)));
    if !known {
        let named = subscription.unwrap_or("subscriptions");
        return Err(Refusal::gateway(
            403,
            "LinkedAuthorizationFailed",
            format!(
                "The client has permission to perform action '{linked_action}' on scope '{scope}', however the linked \
                 subscription '{named}' was not found."
            ),
        ));
    }
    if may(state, caller, linked_action, linked_id) {
        return Ok(());
    }
    let name = caller.client_name();
    Err(Refusal::gateway(
        403,
        "LinkedAuthorizationFailed",
        format!(
            "The client '{name}' with object id '{}' has permission to perform action '{action}' on scope '{scope}'; \
             however, it does not have permission to perform action '{linked_action}' on the linked scope(s) \
             '{linked_id}' or the linked scope(s) are invalid.",
            caller.object_id
        ),
    ))
}

/// What is about to be done to a scope, as locks see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// PUT, PATCH and POST.
    Write,
    /// DELETE.
    Delete,
}

/// 409 if a lock on the scope or above it forbids the deed (recorded text).
pub(super) fn demand_unlocked(state: &State, id: &str, deed: Deed) -> Result<(), Refusal> {
    let locks: Vec<&str> = state
        .locks
        .iter()
        .filter(|lock| is_within(id, &lock.scope))
        .filter(|lock| match lock.level {
            LockLevel::ReadOnly => true,
            LockLevel::CanNotDelete => deed == Deed::Delete,
        })
        .map(|lock| lock.scope.as_str())
        .collect();
    if locks.is_empty() {
        return Ok(());
    }
    let verb = match deed {
        Deed::Write => "write",
        Deed::Delete => "delete",
    };
    Err(Refusal::gateway(
        409,
        "ScopeLocked",
        format!(
            "The scope '{id}' cannot perform {verb} operation because following scope(s) are locked: '{}'. \
             Please remove the lock and try again.",
            locks.join(",")
        ),
    ))
}

/// 403 if a policy denies the action (recorded text).
pub(super) fn demand_undenied(state: &State, id: &str, action: &str) -> Result<(), Refusal> {
    let denied = state.denials.iter().find(|denial| is_within(id, &denial.scope) && allows(&denial.action, action));
    let Some(denial) = denied else { return Ok(()) };
    let name = super::path::last(id);
    let effect = if action.ends_with("/delete") { "denyAction" } else { "deny" };
    let definitions = format!("{}/providers/Microsoft.Authorization", denial.scope.trim_end_matches('/'));
    let info = json!([{
        "type": "PolicyViolation",
        "info": {
            "policyDefinitionDisplayName": format!("Deny {}", denial.action),
            "policyDefinitionId": format!("{definitions}/policyDefinitions/deny"),
            "policyDefinitionEffect": effect,
            "policyAssignmentId": format!("{definitions}/policyAssignments/deny"),
        }
    }]);
    Err(Refusal::gateway(
        403,
        "RequestDisallowedByPolicy",
        format!(
            "Resource '{name}' was disallowed by policy. Reasons: 'Deny {}'. See error details for policy resource IDs.",
            denial.action
        ),
    )
    .target(name)
    .additional_info(info))
}

/// GET `{scope}/providers/Microsoft.Authorization/locks`: the locks that act on the scope, inherited ones included.
pub(super) fn list_locks(state: &State, request: &Request, scope: &str) -> Outcome {
    let locks = state
        .locks
        .iter()
        .enumerate()
        .filter(|(_, lock)| is_within(scope, &lock.scope) || is_within(&lock.scope, scope))
        .map(|(number, lock)| {
            let level = match lock.level {
                LockLevel::CanNotDelete => "CanNotDelete",
                LockLevel::ReadOnly => "ReadOnly",
            };
            let name = lock.name.clone().unwrap_or_else(|| format!("lock-{}", number + 1));
            let mut properties = json!({ "level": level });
            if let Some(notes) = &lock.notes {
                properties["notes"] = json!(notes);
            }
            json!({
                "properties": properties,
                "id": format!("{}/providers/Microsoft.Authorization/locks/{name}", lock.scope),
                "type": "Microsoft.Authorization/locks",
                "name": name,
            })
        })
        .collect::<Vec<Value>>();
    paging::reply(state, request, locks)
}

/// GET `{scope}/providers/Microsoft.Authorization/permissions`: one entry per assignment that acts on the caller.
pub(super) fn list_permissions(state: &State, request: &Request, scope: &str) -> Outcome {
    let permissions = assignments(state, &request.caller)
        .filter(|a| is_within(scope, &a.scope))
        .map(|a| json!({"actions": a.actions, "notActions": [], "dataActions": a.actions, "notDataActions": []}))
        .collect::<Vec<Value>>();
    Ok(Reply::ok(json!({ "value": permissions })))
}
