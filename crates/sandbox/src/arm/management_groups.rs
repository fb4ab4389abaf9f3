//! Management groups: what a caller sees of the tenant's tree.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};

use crate::face::Call;
use crate::state::State;
use crate::switches::SubscriptionParents;

use super::Request;
use super::authorization::{demand, sees_subscription};
use super::envelope::{Outcome, Refusal, method_not_allowed};
use super::paging;

/// Where `Entities_List` is asked (REST specification).
const PATH: &str = "/providers/Microsoft.Management/getEntities";
const TYPE: &str = "Microsoft.Management/managementGroups";

/// Whether a path, with or without a slash at its end, is that of `Entities_List`.
pub(super) fn is_entities(path: &str) -> bool {
    path.trim_end_matches('/').eq_ignore_ascii_case(PATH)
}

/// The subscriptions that the caller sees and the groups above them, each with the chain of its parents from the root
/// down (REST specification, `EntityInfo`). Of the parameters that it knows this Azure plays `$filter=name eq '…'`.
pub(super) fn entities(state: &State, request: &Request) -> Outcome {
    if request.call.method != Method::POST {
        return Err(method_not_allowed(&request.call.method));
    }
    if state.switches.subscription_parents == SubscriptionParents::Refused {
        demand(state, &request.caller, "Microsoft.Management/getEntities/action", "/")?;
    }
    let wanted = filter(request.call)?;
    let root = state.tenant_id.as_str();
    let mut groups: BTreeMap<Vec<&str>, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for subscription in state.subscriptions.iter().filter(|one| sees_subscription(state, &request.caller, &one.id)) {
        let chain: Vec<&str> = std::iter::once(root).chain(subscription.management_groups.iter().map(String::as_str)).collect();
        for end in 1..=chain.len() {
            *groups.entry(chain[..end].to_vec()).or_default() += usize::from(end == chain.len());
        }
        let id = format!("/subscriptions/{}", subscription.id);
        found.push(entity(state, &id, "/subscriptions", &subscription.id, &subscription.display_name, &chain, 0));
    }
    for (path, children) in &groups {
        if let Some((name, above)) = path.split_last() {
            found.push(entity(state, &group_id(name), TYPE, name, shown(state, name), above, *children));
        }
    }
    let is_wanted =
        |one: &Value| wanted.as_deref().is_none_or(|name| one["name"].as_str().is_some_and(|own| own.eq_ignore_ascii_case(name)));
    paging::reply(state, request, found.into_iter().filter(is_wanted))
}

fn group_id(name: &str) -> String {
    format!("/providers/{TYPE}/{name}")
}

fn shown<'a>(state: &State, name: &'a str) -> &'a str {
    if name == state.tenant_id { "Tenant Root Group" } else { name }
}

fn entity(state: &State, id: &str, kind: &str, name: &str, display_name: &str, above: &[&str], children: usize) -> Value {
    let is_withheld = state.switches.subscription_parents == SubscriptionParents::Withheld;
    let above = if is_withheld { &[] } else { above };
    let mut properties = json!({
        "tenantId": state.tenant_id,
        "displayName": display_name,
        "parent": {"id": above.last().map(|parent| group_id(parent))},
        "permissions": if kind == TYPE { "noaccess" } else { "view" },
        "inheritedPermissions": "noaccess",
        "parentDisplayNameChain": above.iter().map(|name| shown(state, name)).collect::<Vec<_>>(),
        "parentNameChain": above,
    });
    if kind == TYPE {
        properties["numberOfChildren"] = json!(children);
    }
    json!({"id": id, "type": kind, "name": name, "properties": properties})
}

/// The name that is asked for.
fn filter(call: &Call) -> Result<Option<String>, Refusal> {
    let refuse = |message: String| Err(Refusal::gateway(400, "BadRequest", message));
    for name in ["$search", "$view", "$select", "$top", "$skip", "groupName"] {
        if call.param(name).is_some() {
            return refuse(format!("The sandbox does not play the parameter '{name}' of getEntities."));
        }
    }
    let Some(filter) = call.param("$filter") else { return Ok(None) };
    let named = filter.trim().strip_prefix("name eq '").and_then(|rest| rest.strip_suffix('\''));
    match named {
        Some(name) => Ok(Some(name.to_owned())),
        None => refuse(format!("The sandbox plays the filter \"name eq '...'\" of getEntities, and not \"{filter}\".")),
    }
}
