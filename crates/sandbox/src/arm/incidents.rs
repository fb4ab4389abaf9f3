//! Microsoft Sentinel: the incidents of a workspace and what they name. They can be read, and changed only through the world's
//! state.

use chrono::SecondsFormat;
use http::Method;
use serde_json::{Value, json};

use crate::state::{Entity, Incident, State, Workspace};
use crate::switches::IncidentEntities;

use super::envelope::{Outcome, Refusal, Reply, method_not_allowed, resource_not_found};
use super::path::{Form, Kind, Resource, is_within, segment_after};
use super::{Request, paging};

/// The one action that is served: everything that an incident names, which Azure answers to a POST only (REST specification).
const ENTITIES: &str = "entities";

/// Whether a POST to this path reads what an incident names.
pub(super) fn is_entities(path: &str) -> bool {
    let Some((incident, action)) = path.trim_end_matches('/').rsplit_once('/') else { return false };
    let kind = segment_after(incident, "Microsoft.SecurityInsights");
    action.eq_ignore_ascii_case(ENTITIES) && kind.is_some_and(|kind| kind.eq_ignore_ascii_case("incidents"))
}

/// The right that a request needs. The provider's list of operations has no `incidents/entities/action`, by which ARM would call
/// the right to such a POST.
pub(super) fn right(state: &State, resource: &Resource, by_arm: String) -> String {
    let asks_entities = matches!(&resource.form, Form::Action(action) if action.eq_ignore_ascii_case(ENTITIES));
    match (resource.kind, state.switches.incident_entities) {
        (Kind::Incident, IncidentEntities::ReadRight) if asks_entities => format!("{}/read", Kind::Incident.name()),
        _ => by_arm,
    }
}

/// Whether a workspace lies in this group.
pub(super) fn are_in(state: &State, group: &str) -> bool {
    state.workspaces.iter().any(|workspace| is_within(&workspace.id, group))
}

/// Answers the list, one incident, or what one names.
pub(super) fn serve(state: &State, request: &Request, resource: &Resource) -> Outcome {
    let (get, post) = (request.call.method == Method::GET, request.call.method == Method::POST);
    let workspace = state.workspaces.iter().find(|known| known.id.eq_ignore_ascii_case(&resource.scope));
    let workspace = workspace.ok_or_else(|| resource_not_found(&resource.scope, "Microsoft.OperationalInsights/workspaces"))?;
    let found = || {
        let mut known = workspace.incidents.iter();
        known.find(|known| known.id.eq_ignore_ascii_case(resource.name())).ok_or_else(|| no_incident(resource))
    };
    match &resource.form {
        Form::Collection if get => list(state, request, workspace),
        Form::Item if get => Ok(Reply::ok(body(workspace, found()?))),
        Form::Action(action) if post && action.eq_ignore_ascii_case(ENTITIES) => Ok(Reply::ok(entities(workspace, found()?))),
        Form::Collection | Form::Item | Form::Action(_) => Err(method_not_allowed(&request.call.method)),
    }
}

fn no_incident(resource: &Resource) -> Refusal {
    Refusal::service(404, "NotFound", format!("Incident '{}' was not found.", resource.name()))
}

/// The list, cut into pages before it is filtered: whether Azure cuts before or after is not known, and a client that stops at a page
/// without what it looks for would miss it here.
fn list(state: &State, request: &Request, workspace: &Workspace) -> Outcome {
    let number = request.call.param("$filter").map(wanted_number).transpose()?;
    let top = request.call.param("$top").map(top).transpose()?;
    let bodies = workspace.incidents.iter().map(|incident| body(workspace, incident));
    let is_wanted = |incident: &Value| number.is_none_or(|number| incident["properties"]["incidentNumber"] == number);
    paging::reply_some(state, request, bodies, top, is_wanted)
}

/// The number of the one filter that this world knows.
fn wanted_number(filter: &str) -> Result<u32, Refusal> {
    let mut words = filter.split_ascii_whitespace();
    let is_known = words.next() == Some("properties/incidentNumber") && words.next() == Some("eq");
    let number = words.next().and_then(|number| number.parse().ok()).filter(|_| is_known && words.next().is_none());
    number.ok_or_else(|| bad("$filter", filter, "this world knows `properties/incidentNumber eq NUMBER` alone"))
}

fn top(given: &str) -> Result<usize, Refusal> {
    given.parse().ok().filter(|count| *count > 0).ok_or_else(|| bad("$top", given, "it must be a whole number from 1 on"))
}

fn bad(parameter: &str, given: &str, why: &str) -> Refusal {
    Refusal::service(400, "BadRequest", format!("The value '{given}' of the query parameter '{parameter}' is invalid: {why}."))
}

/// An incident as the provider answers it (example of the REST specification of 2021-04-01).
fn body(workspace: &Workspace, incident: &Incident) -> Value {
    let created = incident.created.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let owner = incident.owner.as_deref().map_or_else(
        || json!({"objectId": null, "email": null, "assignedTo": null, "userPrincipalName": null}),
        |owner| json!({"objectId": owner, "email": null, "assignedTo": null, "userPrincipalName": null, "ownerType": "User"}),
    );
    json!({
        "id": format!("{}/providers/{}/{}", workspace.id, Kind::Incident.name(), incident.id),
        "name": incident.id,
        "type": Kind::Incident.name(),
        "etag": format!("\"{}\"", incident.id),
        "properties": {
            "title": incident.title,
            "severity": incident.severity,
            "status": incident.status,
            "owner": owner,
            "labels": [],
            "createdTimeUtc": created,
            "lastModifiedTimeUtc": created,
            "incidentNumber": incident.number,
            "relatedAnalyticRuleIds": [],
            "additionalData": {"alertsCount": 1, "bookmarksCount": 0, "commentsCount": 0, "alertProductNames": [], "tactics": []},
        },
    })
}

/// What an incident names, with how many of each kind (example of the REST specification).
fn entities(workspace: &Workspace, incident: &Incident) -> Value {
    let all: Vec<Value> = (1..).zip(&incident.entities).map(|(place, entity)| entity_body(workspace, incident, place, entity)).collect();
    let mut counts: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for entity in &all {
        *counts.entry(entity["kind"].as_str().unwrap_or_default()).or_default() += 1;
    }
    let counts: Vec<Value> = counts.iter().map(|(kind, count)| json!({"entityKind": kind, "count": count})).collect();
    json!({"entities": all, "metaData": counts})
}

fn entity_body(workspace: &Workspace, incident: &Incident, place: usize, entity: &Entity) -> Value {
    let (kind, properties) = match entity {
        Entity::Host { host_name, azure_id } => {
            let named = azure_id.as_ref().map(|id| ("azureID", json!(id)));
            let named = host_name.as_ref().map(|name| ("hostName", json!(name))).into_iter().chain(named);
            ("Host", named.map(|(field, value)| (field.to_owned(), value)).collect::<serde_json::Map<_, _>>())
        }
        Entity::AzureResource { resource_id } => ("AzureResource", [("resourceId".to_owned(), json!(resource_id))].into_iter().collect()),
        Entity::Ip { address } => ("Ip", [("address".to_owned(), json!(address))].into_iter().collect()),
    };
    let name = format!("{}-{place:04x}", incident.id.get(..31).unwrap_or_default());
    json!({
        "id": format!("{}/providers/Microsoft.SecurityInsights/Entities/{name}", workspace.id),
        "name": name,
        "type": "Microsoft.SecurityInsights/Entities",
        "kind": kind,
        "properties": properties,
    })
}
