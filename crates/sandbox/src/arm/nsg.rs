//! A network security group as the world keeps it: rules inside the group's body, one etag for all of them.

use serde_json::{Value, json};

use crate::state::{Caller, OperationWork, State};
use crate::switches::NsgIfMatch;

use super::authorization::{Deed, demand_undenied, demand_unlocked};
use super::envelope::Refusal;
use super::path::{Kind, last, parent, segment_after};
use super::{activity, jit_life, operations};

/// The NSG that an id of a group or of a rule belongs to.
pub(super) fn group_of(id: &str) -> &str {
    let above = parent(id);
    let is_rule = above.rsplit('/').nth(1).is_some_and(|segment| segment.eq_ignore_ascii_case("networkSecurityGroups"));
    if is_rule { above } else { id }
}

/// The group's own rules.
pub(super) fn rules(nsg: &Value) -> &[Value] {
    nsg["properties"]["securityRules"].as_array().map_or(&[], Vec::as_slice)
}

/// A rule by its name, letter case aside.
pub(super) fn rule<'a>(nsg: &'a Value, name: &str) -> Option<&'a Value> {
    rules(nsg).iter().find(|rule| is_named(rule, name))
}

fn is_named(rule: &Value, name: &str) -> bool {
    rule["name"].as_str().is_some_and(|n| n.eq_ignore_ascii_case(name))
}

/// Adds a rule, or replaces the one of its name.
pub(super) fn put_rule(nsg: &mut Value, rule: Value) {
    let name = rule["name"].as_str().unwrap_or_default().to_owned();
    let rules = &mut nsg["properties"]["securityRules"];
    if !rules.is_array() {
        *rules = json!([]);
    }
    let Some(rules) = rules.as_array_mut() else { return };
    match rules.iter_mut().find(|rule| is_named(rule, &name)) {
        Some(place) => *place = rule,
        None => rules.push(rule),
    }
}

fn remove_rule(nsg: &mut Value, name: &str) -> Option<Value> {
    let rules = nsg.pointer_mut("/properties/securityRules")?.as_array_mut()?;
    let at = rules.iter().position(|rule| is_named(rule, name))?;
    Some(rules.remove(at))
}

/// The members of a list of a body; none where the body has no such list, and then it gets none.
pub(super) fn listed_mut<'a>(body: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    body.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Takes a rule away by its id; JIT hears of it when somebody else did it.
pub(super) fn take_rule(state: &mut State, rule_id: &str, by_hand: bool) {
    let nsg_id = group_of(rule_id).to_owned();
    let taken = state.resources.get_mut(&nsg_id).and_then(|nsg| remove_rule(nsg, last(rule_id)));
    touch(state, &nsg_id);
    if let Some(rule) = taken.filter(|_| by_hand) {
        jit_life::rule_was_deleted(state, &nsg_id, &rule);
    }
}

/// Gives the group and all its rules a new etag (recorded: they share one).
pub(super) fn touch(state: &mut State, nsg_id: &str) {
    let etag = json!(format!("W/\"{}\"", state.take_uuid()));
    let Some(nsg) = state.resources.get_mut(nsg_id) else { return };
    nsg["etag"] = etag.clone();
    for list in ["/properties/securityRules", "/properties/defaultSecurityRules"] {
        for rule in listed_mut(nsg, list) {
            rule["etag"] = etag.clone();
        }
    }
}

/// Says what state the group is in.
pub(super) fn mark(state: &mut State, nsg_id: &str, provisioning: &str) {
    if let Some(nsg) = state.resources.get_mut(nsg_id) {
        nsg["properties"]["provisioningState"] = json!(provisioning);
    }
}

/// An operation on the group ended: it is `Succeeded` again unless another still works on it.
pub(super) fn settle(state: &mut State, nsg_id: &str) {
    if operations::at_work(state, nsg_id).is_some() {
        return;
    }
    mark(state, nsg_id, "Succeeded");
    if let Some(nsg) = state.resources.get_mut(nsg_id) {
        for rule in listed_mut(nsg, "/properties/securityRules") {
            rule["properties"]["provisioningState"] = json!("Succeeded");
        }
    }
    touch(state, nsg_id);
}

/// Whether a write is under way.
pub(super) fn is_busy(nsg: &Value) -> bool {
    nsg["properties"]["provisioningState"]
        .as_str()
        .is_some_and(|state| !state.eq_ignore_ascii_case("Succeeded") && !state.eq_ignore_ascii_case("Failed"))
}

/// The lowest or highest free priority for an inbound rule, looking from `from` on.
pub(super) fn free_priority(nsg: &Value, from: i64, step: i64) -> i64 {
    let taken: Vec<i64> = rules(nsg)
        .iter()
        .filter(|rule| rule["properties"]["direction"].as_str().is_some_and(|d| d.eq_ignore_ascii_case("Inbound")))
        .filter_map(|rule| rule["properties"]["priority"].as_i64())
        .collect();
    let mut priority = from;
    while taken.contains(&priority) && (100..=4096).contains(&(priority + step)) {
        priority += step;
    }
    priority
}

/// A change that Defender makes to a group.
pub(super) enum Change {
    Put(Value),
    Remove(String),
}

/// Why Defender could not make its changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocked {
    /// Somebody else's write is under way.
    Busy,
    /// A lock or a policy forbids it.
    Forbidden,
}

/// The name under which Defender writes (recorded: it is this application that the activity log names).
pub(super) const DEFENDER: &str = "Windows Azure Security Resource Provider";

/// Whether Defender could make these changes now. It may write on while its own writes are under way.
pub(super) fn may_write(state: &State, nsg_id: &str, changes: &[Change]) -> Result<(), Blocked> {
    let Some(nsg) = state.resources.get(nsg_id) else { return Ok(()) };
    for change in changes {
        let (name, deed, action) = match change {
            Change::Put(rule) => (rule["name"].as_str().unwrap_or_default(), Deed::Write, "write"),
            Change::Remove(name) => (name.as_str(), Deed::Delete, "delete"),
        };
        let id = format!("{nsg_id}/securityRules/{name}");
        let action = format!("{}/{action}", Kind::SecurityRule.name());
        demand_unlocked(state, &id, deed).and_then(|()| demand_undenied(state, &id, &action)).map_err(|_| Blocked::Forbidden)?;
    }
    if is_busy(nsg) && operations::at_work(state, nsg_id).is_some_and(|work| work.foreign) {
        return Err(Blocked::Busy);
    }
    Ok(())
}

/// Defender writes into a group, under its own name and without regard to the rights of whoever asked.
pub(super) fn world_write(state: &mut State, nsg_id: &str, changes: Vec<Change>) -> Result<(), Blocked> {
    if changes.is_empty() || state.resources.get(nsg_id).is_none() {
        return Ok(());
    }
    may_write(state, nsg_id, &changes)?;
    let caller = Caller::world(DEFENDER);
    let takes_time = state.switches.operation_seconds > 0;
    for change in changes {
        let (name, verb, request_body, status) = match change {
            Change::Put(mut rule) => {
                let name = rule["name"].as_str().unwrap_or_default().to_owned();
                rule["properties"]["provisioningState"] = json!(if takes_time { "Updating" } else { "Succeeded" });
                let body = json!({"name": name, "properties": rule["properties"]}).to_string();
                if let Some(nsg) = state.resources.get_mut(nsg_id) {
                    put_rule(nsg, rule);
                }
                (name, "write", Some(body), 201)
            }
            Change::Remove(name) => {
                if let Some(nsg) = state.resources.get_mut(nsg_id) {
                    remove_rule(nsg, &name);
                }
                (name, "delete", None, 200)
            }
        };
        let id = format!("{nsg_id}/securityRules/{name}");
        let action = format!("{}/{verb}", Kind::SecurityRule.name());
        state.record(&caller, "arm", &action, &id, status);
        activity::of_defender(state, &action, &id, request_body, status);
    }
    touch(state, nsg_id);
    mark(state, nsg_id, "Updating");
    operations::begin(state, nsg_id, OperationWork::Write, "");
    Ok(())
}

/// Access and direction of the security rule at this path, letter case aside; nothing if none is there.
pub(super) fn nature(state: &State, path: &str) -> Option<(Option<String>, Option<String>)> {
    let (nsg, rule) = path.trim_end_matches('/').rsplit_once('/').and_then(|(parent, rule)| Some((parent.rsplit_once('/')?.0, rule)))?;
    let rules = state.resources.get(nsg)?["properties"]["securityRules"].as_array()?;
    let rule = rules.iter().find(|known| known["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(rule)))?;
    let text = |name: &str| rule["properties"][name].as_str().map(str::to_owned);
    Some((text("access"), text("direction")))
}

/// The group as it is answered: with its default rules and with what it is attached to, where the stored body does
/// not say so.
pub(super) fn presented(nsg: &Value, attached: impl FnOnce() -> (Vec<Value>, Vec<Value>)) -> Value {
    let mut body = nsg.clone();
    let Some(properties) = body["properties"].as_object_mut() else {
        return body;
    };
    if !properties.contains_key("defaultSecurityRules") {
        properties.insert("defaultSecurityRules".to_owned(), default_rules(nsg));
    }
    if !properties.contains_key("networkInterfaces") && !properties.contains_key("subnets") {
        let (interfaces, subnets) = attached();
        if !interfaces.is_empty() {
            properties.insert("networkInterfaces".to_owned(), Value::Array(interfaces));
        }
        if !subnets.is_empty() {
            properties.insert("subnets".to_owned(), Value::Array(subnets));
        }
    }
    body
}

/// A group or a rule by its id, as it is answered.
pub(super) fn presented_part(state: &State, id: &str) -> Option<Value> {
    let nsg_id = group_of(id);
    let nsg = state.resources.get(nsg_id)?;
    if nsg_id == id {
        return Some(presented(nsg, || attachments(state, nsg_id)));
    }
    rule(nsg, last(id)).cloned()
}

/// What refers to the group: NICs and subnets of its subscription, as references.
pub(super) fn attachments(state: &State, nsg_id: &str) -> (Vec<Value>, Vec<Value>) {
    let subscription = segment_after(nsg_id, "subscriptions").unwrap_or_default();
    let refers = |body: &Value| body["properties"]["networkSecurityGroup"]["id"].as_str().is_some_and(|id| id.eq_ignore_ascii_case(nsg_id));
    let reference = |body: &Value| json!({ "id": body["id"] });
    let (mut interfaces, mut subnets) = (Vec::new(), Vec::new());
    for body in state.resources.under(&format!("/subscriptions/{subscription}/")) {
        if super::compute::is(body, Kind::NetworkInterface) && refers(body) {
            interfaces.push(reference(body));
        } else if super::compute::is(body, Kind::VirtualNetwork) {
            let own = body["properties"]["subnets"].as_array().into_iter().flatten();
            subnets.extend(own.filter(|subnet| refers(subnet)).map(reference));
        } else if super::compute::is(body, Kind::Subnet) && refers(body) {
            subnets.push(reference(body));
        }
    }
    (interfaces, subnets)
}

/// The six rules that every group has (recorded).
pub(super) fn default_rules(nsg: &Value) -> Value {
    let row = |name: &str, about: &str, access: &str, priority: i64, direction: &str, from: &str, to: &str| {
        json!({
            "name": name,
            "id": format!("{}/defaultSecurityRules/{name}", nsg["id"].as_str().unwrap_or_default()),
            "etag": nsg["etag"],
            "type": Kind::DefaultRule.name(),
            "properties": {
                "provisioningState": "Succeeded",
                "description": about,
                "protocol": "*",
                "sourcePortRange": "*",
                "destinationPortRange": "*",
                "sourceAddressPrefix": from,
                "destinationAddressPrefix": to,
                "access": access,
                "priority": priority,
                "direction": direction,
                "sourcePortRanges": [],
                "destinationPortRanges": [],
                "sourceAddressPrefixes": [],
                "destinationAddressPrefixes": [],
            },
        })
    };
    let (inn, out, net) = ("Inbound", "Outbound", "VirtualNetwork");
    json!([
        row("AllowVnetInBound", "Allow inbound traffic from all VMs in VNET", "Allow", 65000, inn, net, net),
        row(
            "AllowAzureLoadBalancerInBound",
            "Allow inbound traffic from azure load balancer",
            "Allow",
            65001,
            inn,
            "AzureLoadBalancer",
            "*"
        ),
        row("DenyAllInBound", "Deny all inbound traffic", "Deny", 65500, inn, "*", "*"),
        row("AllowVnetOutBound", "Allow outbound traffic from all VMs to all VMs in VNET", "Allow", 65000, out, net, net),
        row("AllowInternetOutBound", "Allow outbound traffic from all VMs to Internet", "Allow", 65001, out, "*", "Internet"),
        row("DenyAllOutBound", "Deny all outbound traffic", "Deny", 65500, out, "*", "*"),
    ])
}

/// 412 unless the condition of the request holds for the group as it is, and the world takes such conditions.
pub(super) fn demand_condition(state: &State, request: &super::Request, id: &str, etag: Option<&str>) -> Result<(), Refusal> {
    let failed = |detail: String| {
        Err(Refusal::service(412, "PreconditionFailed", "Precondition failed.").detail("PreconditionFailedEtagMismatch", detail))
    };
    let wanted = match state.switches.nsg_if_match {
        NsgIfMatch::Honoured => request.call.header("if-match"),
        NsgIfMatch::Ignored => None,
    };
    if let Some(wanted) = wanted {
        match etag {
            Some(found) if wanted == "*" || wanted == found => {}
            found => {
                let found = found.unwrap_or_default();
                return failed(format!("Etag provided in if-match header {wanted} does not match etag {found} of resource {id}"));
            }
        }
    }
    match (request.call.header("if-none-match"), etag) {
        (Some("*"), Some(found)) => failed(format!("Etag provided in if-none-match header * matches etag {found} of resource {id}")),
        _ => Ok(()),
    }
}
