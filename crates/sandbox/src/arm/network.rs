//! Microsoft.Network: interfaces, networks and addresses to read; security groups and their rules to write, too.

use std::collections::HashMap;

use http::StatusCode;
use serde_json::{Value, json};

use crate::state::{OperationWork, State};
use crate::switches::{BusyNsg, DeleteAnswers};

use super::compute::{stored, stored_item};
use super::envelope::{Outcome, Refusal, Reply, method_not_allowed, resource_not_found};
use super::path::{Form, Kind, Path, Resource, last};
use super::{Request, jit_life, nsg, operations, paging, security_rule, subscriptions};

/// One request to this provider.
pub(super) fn serve(state: &mut State, request: &Request, path: &Path, resource: &Resource) -> Outcome {
    match (request.call.method.as_str(), &resource.form, resource.kind) {
        ("GET", Form::Collection, Kind::SecurityGroup) => list_groups(state, request, path),
        ("GET", Form::Collection, Kind::SecurityRule | Kind::DefaultRule | Kind::Subnet) => {
            let parts = parts(state, resource)?;
            paging::reply(state, request, parts)
        }
        ("GET", Form::Collection, kind) => paging::reply(state, request, stored(state, path, kind).cloned()),
        ("GET", Form::Item, Kind::SecurityGroup) => {
            stored_item(state, resource)?;
            let body = nsg::presented_part(state, &resource.id());
            let found = body.map(|body| Reply::ok(body).with_etag());
            found.ok_or_else(|| resource_not_found(&resource.id(), resource.kind.name()))
        }
        ("GET", Form::Item, Kind::SecurityRule | Kind::DefaultRule | Kind::Subnet) => part(state, resource),
        ("GET", Form::Item, _) => stored_item(state, resource).map(|body| Reply::ok(body.clone()).with_etag()),
        ("PUT", Form::Item, Kind::SecurityGroup) => put_group(state, request, resource),
        ("DELETE", Form::Item, Kind::SecurityGroup) => delete_group(state, request, resource),
        ("PUT", Form::Item, Kind::SecurityRule) => put_rule(state, request, resource),
        ("DELETE", Form::Item, Kind::SecurityRule) => delete_rule(state, request, resource),
        _ => Err(method_not_allowed(&request.call.method)),
    }
}

fn list_groups(state: &State, request: &Request, path: &Path) -> Outcome {
    let lacks = |body: &&Value| {
        let properties = &body["properties"];
        properties.get("networkInterfaces").is_none() && properties.get("subnets").is_none()
    };
    let subscription = path.subscription.as_deref().unwrap_or_default();
    let index = match stored(state, path, Kind::SecurityGroup).find(lacks) {
        Some(_) => attachment_index(state, subscription),
        None => HashMap::new(),
    };
    let groups = stored(state, path, Kind::SecurityGroup).map(|body| {
        nsg::presented(body, || {
            let id = body["id"].as_str().unwrap_or_default().to_ascii_lowercase();
            index.get(&id).cloned().unwrap_or_default()
        })
    });
    paging::reply(state, request, groups)
}

type Attachments = (Vec<Value>, Vec<Value>);

/// What refers to each group of a subscription, found in one pass.
fn attachment_index(state: &State, subscription: &str) -> HashMap<String, Attachments> {
    let mut index: HashMap<String, Attachments> = HashMap::new();
    let group_of = |body: &Value| {
        let id = &body["properties"]["networkSecurityGroup"]["id"];
        id.as_str().map(str::to_ascii_lowercase)
    };
    for body in state.resources.under(&format!("/subscriptions/{subscription}/")) {
        if super::compute::is(body, Kind::NetworkInterface) {
            if let Some(group) = group_of(body) {
                index.entry(group).or_default().0.push(json!({ "id": body["id"] }));
            }
        } else if super::compute::is(body, Kind::VirtualNetwork) {
            for subnet in body["properties"]["subnets"].as_array().into_iter().flatten() {
                if let Some(group) = group_of(subnet) {
                    index.entry(group).or_default().1.push(json!({ "id": subnet["id"] }));
                }
            }
        }
    }
    index
}

/// The parts of a group or of a network: rules, default rules, subnets.
fn parts(state: &State, resource: &Resource) -> Result<Vec<Value>, Refusal> {
    let (whole_kind, field) = match resource.kind {
        Kind::Subnet => (Kind::VirtualNetwork, "subnets"),
        Kind::DefaultRule => (Kind::SecurityGroup, "defaultSecurityRules"),
        _ => (Kind::SecurityGroup, "securityRules"),
    };
    let whole = Resource {
        kind: whole_kind,
        names: resource.names.iter().take(1).cloned().collect(),
        scope: resource.scope.clone(),
        form: Form::Item,
    };
    let body = stored_item(state, &whole)?;
    if let (Kind::DefaultRule, None) = (resource.kind, body["properties"].get(field)) {
        return Ok(nsg::default_rules(body).as_array().cloned().unwrap_or_default());
    }
    Ok(body["properties"][field].as_array().cloned().unwrap_or_default())
}

fn part(state: &State, resource: &Resource) -> Outcome {
    if let Some(body) = state.resources.get(&resource.id()) {
        return Ok(Reply::ok(body.clone()).with_etag());
    }
    let found = parts(state, resource)?
        .into_iter()
        .find(|part| part["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(resource.name())));
    match (found, resource.kind) {
        (Some(body), _) => Ok(Reply::ok(body).with_etag()),
        (None, Kind::Subnet) => Err(resource_not_found(&resource.id(), resource.kind.name())),
        // The provider, not ARM, answers for a part of one of its resources.
        (None, _) => Err(Refusal::service(404, "NotFound", format!("Resource {} not found.", resource.id()))),
    }
}

/// 429 or 409 while another write of the group is under way.
fn demand_idle(state: &State, request: &Request, nsg_id: &str) -> Result<(), Refusal> {
    let Some(group) = state.resources.get(nsg_id).filter(|group| nsg::is_busy(group)) else {
        return Ok(());
    };
    let work = operations::at_work(state, nsg_id);
    let id = work.as_ref().map_or("unknown", |work| work.id.as_str());
    let name = match work.as_ref().map(|work| work.work) {
        Some(OperationWork::DeleteRule) => "DeleteSecurityRuleOperation",
        Some(OperationWork::DeleteGroup) => "DeleteNetworkSecurityGroupOperation",
        Some(OperationWork::Write) | None => "PutSecurityRuleOperation",
    };
    Err(match state.switches.busy_nsg {
        BusyNsg::RetryableError => Refusal::service(429, "RetryableError", "A retryable error occured.")
            .detail("RetryableErrorDueToAnotherOperation", format!("Operation {name} ({id}) is updating resource {nsg_id}")),
        BusyNsg::Conflict => Refusal::service(
            409,
            "AnotherOperationInProgress",
            format!(
                "Another operation on this or dependent resource is in progress. To retrieve status of the operation \
                 use uri: {}.",
                operations::status_url(request, nsg_id, location(group), id)
            ),
        ),
    })
}

fn location(group: &Value) -> &str {
    group["location"].as_str().unwrap_or("westeurope")
}

/// Begins the operation of a caller's write, and gives the header that names it.
fn begin(state: &mut State, request: &Request, (nsg_id, resource): (&str, &str), work: OperationWork) -> (String, String) {
    let place = state.resources.get(nsg_id).map_or("westeurope", location).to_owned();
    nsg::mark(state, nsg_id, "Updating");
    let id = operations::begin(state, resource, work, &request.caller.object_id);
    (operations::status_url(request, nsg_id, &place, &id), operations::result_url(request, nsg_id, &place, &id))
}

fn put_rule(state: &mut State, request: &Request, resource: &Resource) -> Outcome {
    let nsg_id = resource.parent_id();
    let body = request.json()?;
    let Some(group) = state.resources.get(&nsg_id) else {
        return Err(resource_not_found(&nsg_id, Kind::SecurityGroup.name()));
    };
    let nsg_id = group["id"].as_str().unwrap_or(&nsg_id).to_owned();
    let existing = nsg::rule(group, resource.name());
    let name = existing.and_then(|rule| rule["name"].as_str()).unwrap_or(resource.name()).to_owned();
    let created = existing.is_none();
    let etag = existing.and(group["etag"].as_str());
    nsg::demand_condition(state, request, &resource.id(), etag)?;
    let mut rule = security_rule::from_request(&nsg_id, &name, &body["properties"])?;
    security_rule::demand_free_priority(&rule, nsg::rules(group).iter())?;
    demand_idle(state, request, &nsg_id)?;

    if state.switches.operation_seconds > 0 {
        rule["properties"]["provisioningState"] = json!("Updating");
    }
    if let Some(group) = state.resources.get_mut(&nsg_id) {
        nsg::put_rule(group, rule);
    }
    nsg::touch(state, &nsg_id);
    let rule_id = format!("{nsg_id}/securityRules/{name}");
    let (operation, _) = begin(state, request, (&nsg_id, &rule_id), OperationWork::Write);
    let answered = nsg::presented_part(state, &rule_id).unwrap_or_default();
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(Reply::with(status, answered).header("Azure-AsyncOperation", operation).header("Retry-After", operations::retry_after(state)))
}

fn delete_rule(state: &mut State, request: &Request, resource: &Resource) -> Outcome {
    let nsg_id = resource.parent_id();
    let Some(group) = state.resources.get(&nsg_id) else {
        return Err(resource_not_found(&nsg_id, Kind::SecurityGroup.name()));
    };
    let nsg_id = group["id"].as_str().unwrap_or(&nsg_id).to_owned();
    let Some(rule) = nsg::rule(group, resource.name()) else {
        return Ok(Reply::empty(StatusCode::NO_CONTENT));
    };
    let name = rule["name"].as_str().unwrap_or_default().to_owned();
    let rule_id = format!("{nsg_id}/securityRules/{name}");
    nsg::demand_condition(state, request, &rule_id, group["etag"].as_str())?;
    demand_idle(state, request, &nsg_id)?;

    match state.switches.delete_answers {
        DeleteAnswers::Done => {
            nsg::take_rule(state, &rule_id, true);
            // An operation that ends at once, so that the header names one that can be asked for.
            let place = state.resources.get(&nsg_id).map_or("westeurope", location).to_owned();
            let operation = operations::done(state, &rule_id, OperationWork::DeleteRule, &request.caller.object_id);
            Ok(Reply::empty(StatusCode::OK).header("Azure-AsyncOperation", operations::status_url(request, &nsg_id, &place, &operation)))
        }
        DeleteAnswers::Accepted => {
            if let Some(group) = state.resources.get_mut(&nsg_id)
                && let Some(mut rule) = nsg::rule(group, &name).cloned()
            {
                rule["properties"]["provisioningState"] = json!("Deleting");
                nsg::put_rule(group, rule);
            }
            nsg::touch(state, &nsg_id);
            let (operation, result) = begin(state, request, (&nsg_id, &rule_id), OperationWork::DeleteRule);
            Ok(Reply::empty(StatusCode::ACCEPTED)
                .header("Azure-AsyncOperation", operation)
                .header("Location", result)
                .header("Retry-After", operations::retry_after(state)))
        }
    }
}

fn put_group(state: &mut State, request: &Request, resource: &Resource) -> Outcome {
    let body = request.json()?;
    let old = state.resources.get(&resource.id()).cloned();
    let id = old.as_ref().and_then(|old| old["id"].as_str()).map_or_else(|| resource.id(), str::to_owned);
    let old_etag = old.as_ref().and_then(|old| old["etag"].as_str());
    nsg::demand_condition(state, request, &id, old_etag)?;
    let place = group_location(&body, old.as_ref(), resource)?;
    let rules = group_rules(&id, &body)?;
    demand_idle(state, request, &id)?;

    let dropped: Vec<Value> =
        old.as_ref().map_or(&[][..], nsg::rules).iter().filter(|was| !rules.iter().any(|is| same_name(is, was))).cloned().collect();
    let guid =
        old.as_ref().and_then(|old| old["properties"]["resourceGuid"].as_str().map(str::to_owned)).unwrap_or_else(|| state.take_uuid());
    let takes_time = state.switches.operation_seconds > 0;
    let mut group = json!({
        "name": last(&id),
        "id": id,
        "type": Kind::SecurityGroup.name(),
        "location": place,
        "properties": {
            "provisioningState": if takes_time { "Updating" } else { "Succeeded" },
            "resourceGuid": guid,
            "securityRules": rules,
        },
    });
    if let Some(tags) = body.get("tags").filter(|tags| tags.is_object()) {
        group["tags"] = tags.clone();
    }
    if let Some(flush) = body["properties"].get("flushConnection").filter(|flush| flush.is_boolean()) {
        group["properties"]["flushConnection"] = flush.clone();
    }
    for kept in ["networkInterfaces", "subnets"] {
        if let Some(list) = old.as_ref().and_then(|old| old["properties"].get(kept)) {
            group["properties"][kept] = list.clone();
        }
    }
    group["properties"]["defaultSecurityRules"] = nsg::default_rules(&group);
    state.resources.put(group);
    nsg::touch(state, &id);
    let (operation, _) = begin(state, request, (&id, &id), OperationWork::Write);
    for rule in &dropped {
        jit_life::rule_was_deleted(state, &id, rule);
    }
    let answered = nsg::presented_part(state, &id).unwrap_or_default();
    let status = if old.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    Ok(Reply::with(status, answered).header("Azure-AsyncOperation", operation).header("Retry-After", operations::retry_after(state)))
}

fn same_name(a: &Value, b: &Value) -> bool {
    let name = |rule: &Value| rule["name"].as_str().unwrap_or_default().to_ascii_lowercase();
    name(a) == name(b)
}

fn group_location(body: &Value, old: Option<&Value>, resource: &Resource) -> Result<String, Refusal> {
    let Some(place) = body["location"].as_str().filter(|place| !place.is_empty()) else {
        return Err(Refusal::gateway(400, "LocationRequired", "The location property is required for this definition."));
    };
    let place = place.to_ascii_lowercase().replace(' ', "");
    match old.and_then(|old| old["location"].as_str()) {
        Some(was) if !was.eq_ignore_ascii_case(&place) => Err(Refusal::gateway(
            409,
            "InvalidResourceLocation",
            format!(
                "The resource '{}' already exists in location '{was}'. A resource with the same name cannot be created \
                 in location '{place}'. Please select a new resource name.",
                resource.name()
            ),
        )),
        _ => Ok(place),
    }
}

/// The rules that the body of a group names. The PUT replaces: what it does not name is gone.
fn group_rules(id: &str, body: &Value) -> Result<Vec<Value>, Refusal> {
    let named = match &body["properties"]["securityRules"] {
        Value::Null => &[][..],
        Value::Array(rules) => rules.as_slice(),
        other => {
            return Err(Refusal::service(400, "InvalidRequestFormat", "Cannot parse the request.")
                .detail("InvalidJson", format!("securityRules is {other}, which is no list.")));
        }
    };
    let mut rules: Vec<Value> = Vec::with_capacity(named.len());
    for given in named {
        let name = given["name"].as_str().unwrap_or_default();
        let rule = security_rule::from_request(id, name, &given["properties"])?;
        if rules.iter().any(|other| same_name(other, &rule)) {
            return Err(Refusal::service(
                400,
                "InvalidRequestFormat",
                format!("Cannot parse the request: two security rules have the name {name}."),
            ));
        }
        security_rule::demand_free_priority(&rule, rules.iter())?;
        rules.push(rule);
    }
    Ok(rules)
}

fn delete_group(state: &mut State, request: &Request, resource: &Resource) -> Outcome {
    let Some(group) = state.resources.get(&resource.id()) else {
        return Ok(Reply::empty(StatusCode::NO_CONTENT));
    };
    let id = group["id"].as_str().unwrap_or_default().to_owned();
    let (mut users, subnets) = nsg::attachments(state, &id);
    users.extend(subnets);
    if !users.is_empty() {
        let names: Vec<&str> = users.iter().filter_map(|user| user["id"].as_str()).collect();
        return Err(Refusal::service(
            400,
            "InUseNetworkSecurityGroupCannotBeDeleted",
            format!(
                "Network security group {id} cannot be deleted because it is in use by the following resources: {}. \
                 In order to delete the Network security group, remove the association with the resource(s). To learn \
                 how to do this, see aka.ms/deletensg.",
                names.join(", ")
            ),
        ));
    }
    demand_idle(state, request, &id)?;
    match state.switches.delete_answers {
        DeleteAnswers::Done => {
            subscriptions::remove_resource(state, &id);
            Ok(Reply::empty(StatusCode::OK))
        }
        DeleteAnswers::Accepted => {
            let (operation, result) = begin(state, request, (&id, &id), OperationWork::DeleteGroup);
            Ok(Reply::empty(StatusCode::ACCEPTED)
                .header("Azure-AsyncOperation", operation)
                .header("Location", result)
                .header("Retry-After", operations::retry_after(state)))
        }
    }
}
