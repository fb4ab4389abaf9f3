//! The activity log: every write leaves two or three entries, which a query shows only minutes later.

use chrono::{DateTime, TimeDelta, Utc};
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::face::Call;
use crate::state::{ActivityEntry, Caller, State};

use super::envelope::{Outcome, Refusal, method_not_allowed};
use super::path::{Kind, Path, segment_after};
use super::{Note, Request, instants, letter_case, nsg, paging};

/// The application id under which Defender writes into groups (public lists of application ids).
const DEFENDER_APP_ID: &str = "8edd93e1-2103-40b4-bd70-6e34e586362d";
/// How long entries are kept (documentation).
const RETENTION: TimeDelta = TimeDelta::days(90);

/// The entries of one request: Started, then Accepted and Succeeded, or Failed; all with its correlation id.
pub(super) fn of_request(state: &mut State, call: &Call, note: &Note, correlation: &str, status: u16) {
    let request = json!({
        "clientRequestId": call.header("x-ms-client-request-id").unwrap_or(correlation),
        "clientIpAddress": note.caller.ip,
        "method": call.method.as_str(),
    });
    let mut properties = Map::new();
    properties.insert("entity".to_owned(), json!(note.target));
    if !call.body.is_empty() {
        properties.insert("requestbody".to_owned(), json!(String::from_utf8_lossy(&call.body)));
    }
    let takes = match note.kind {
        Some(Kind::SecurityGroup | Kind::SecurityRule) => state.switches.operation_seconds.max(0),
        _ => 0,
    };
    let entry =
        Entry { action: &note.action, resource: &note.target, caller: &note.caller, correlation, http_request: Some(request), properties };
    entry.write(state, status, TimeDelta::seconds(takes));
    if note.action.ends_with("/initiate/action") && status < 300 {
        let vms: Vec<String> = serde_json::from_slice::<Value>(&call.body)
            .ok()
            .and_then(|body| body["virtualMachines"].as_array().cloned())
            .into_iter()
            .flatten()
            .filter_map(|vm| vm["id"].as_str().map(str::to_owned))
            .collect();
        for vm in vms {
            // Reported: one initiate leaves an entry whose resource is the VM; the portal's list of a VM rests on it.
            let about_vm = Entry { resource: &vm, properties: Map::new(), http_request: None, ..entry.clone() };
            about_vm.write_end(state, "Succeeded", 200, state.now);
        }
    }
}

/// The entry of a write that Defender made by itself; its request body holds the whole rule (reported).
pub(super) fn of_defender(state: &mut State, action: &str, id: &str, request_body: Option<String>, status: u16) {
    let correlation = state.take_uuid();
    let caller = Caller { app_id: DEFENDER_APP_ID.to_owned(), ..Caller::world(nsg::DEFENDER) };
    let mut properties = Map::new();
    properties.insert("entity".to_owned(), json!(id));
    if let Some(body) = request_body {
        properties.insert("requestbody".to_owned(), json!(body));
    }
    let entry = Entry { action, resource: id, caller: &caller, correlation: &correlation, http_request: None, properties };
    entry.write_end(state, "Succeeded", status, state.now);
}

#[derive(Clone)]
struct Entry<'a> {
    action: &'a str,
    resource: &'a str,
    caller: &'a Caller,
    correlation: &'a str,
    http_request: Option<Value>,
    properties: Map<String, Value>,
}

impl Entry<'_> {
    fn write(&self, state: &mut State, status: u16, takes: TimeDelta) {
        let now = state.now;
        self.clone().push(state, "BeginRequest", "Started", None, now);
        match status {
            202 => {
                let soon = now + TimeDelta::microseconds(1);
                self.clone().push(state, "Accepted", "Accepted", Some(202), soon);
                self.write_end(state, "Succeeded", 200, soon + takes);
            }
            200..300 => self.write_end(state, "Succeeded", status, now + takes),
            _ => self.write_end(state, "Failed", status, now),
        }
    }

    fn write_end(&self, state: &mut State, status: &str, code: u16, at: DateTime<Utc>) {
        self.clone().push(state, "EndRequest", status, Some(code), at + TimeDelta::microseconds(1));
    }

    fn push(mut self, state: &mut State, event: &str, status: &str, code: Option<u16>, at: DateTime<Utc>) {
        let id = state.take_uuid();
        let subscription = segment_after(self.resource, "subscriptions").unwrap_or_default();
        let group = segment_after(self.resource, "resourceGroups").unwrap_or_default();
        let provider = self.action.split('/').next().unwrap_or_default();
        let (code_name, code_text) = match code.and_then(|code| StatusCode::from_u16(code).ok()) {
            Some(code) => {
                let words = code.canonical_reason().unwrap_or_default();
                let name = words.replace(' ', "");
                self.properties.insert("statusCode".to_owned(), json!(name));
                (name, format!("{words} (HTTP Status Code: {})", code.as_u16()))
            }
            None => (String::new(), String::new()),
        };
        let mut body = json!({
            "authorization": authorization(state, self.caller, self.action, self.resource),
            "caller": caller_name(self.caller),
            "category": {"value": "Administrative", "localizedValue": "Administrative"},
            "claims": claims(state, self.caller),
            "correlationId": self.correlation,
            "description": "",
            "eventDataId": id,
            "eventName": {"value": event, "localizedValue": event},
            "id": format!("{}/events/{id}/ticks/{}", self.resource, ticks(at)),
            "level": if status == "Failed" { "Error" } else { "Informational" },
            "resourceGroupName": group,
            "resourceProviderName": {"value": provider, "localizedValue": provider},
            "resourceId": self.resource,
            "resourceType": {"value": resource_type(self.action), "localizedValue": resource_type(self.action)},
            "operationId": self.correlation,
            "operationName": {"value": self.action, "localizedValue": friendly(self.action)},
            "properties": self.properties,
            "status": {"value": status, "localizedValue": status},
            "subStatus": {"value": code_name, "localizedValue": code_text},
            "eventTimestamp": instants::seven_digits(at),
            "subscriptionId": subscription,
            "tenantId": state.tenant_id,
        });
        if let Some(request) = self.http_request {
            body["httpRequest"] = request;
        }
        state.activity.push(ActivityEntry { at, body });
    }
}

/// .NET ticks, as an entry's id ends.
fn ticks(at: DateTime<Utc>) -> i64 {
    const UNIX_EPOCH: i64 = 621_355_968_000_000_000;
    UNIX_EPOCH + at.timestamp_micros() * 10
}

fn resource_type(action: &str) -> &str {
    let without_verb = action.strip_suffix("/action").unwrap_or(action);
    without_verb.rsplit_once('/').map_or(without_verb, |(kind, _)| kind)
}

/// What the portal calls an operation (documentation and training material).
fn friendly(action: &str) -> &str {
    match action {
        "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action" => "Initiate JIT Network Access Policy",
        "Microsoft.Security/locations/jitNetworkAccessPolicies/write" => "Update JIT Network Access Policy",
        "Microsoft.Security/locations/jitNetworkAccessPolicies/delete" => "Delete JIT Network Access Policy",
        "Microsoft.Network/networkSecurityGroups/securityRules/write" => "Create or Update Security Rule",
        "Microsoft.Network/networkSecurityGroups/securityRules/delete" => "Delete Security Rule",
        "Microsoft.Network/networkSecurityGroups/write" => "Create or Update Network Security Group",
        "Microsoft.Network/networkSecurityGroups/delete" => "Delete Network Security Group",
        other => other,
    }
}

fn caller_name(caller: &Caller) -> &str {
    [&caller.upn, &caller.object_id, &caller.app_id].into_iter().find(|name| !name.is_empty()).map_or("", String::as_str)
}

/// `claims` of an entry and of an event: text by claim name; an application has neither name nor UPN (documentation).
pub(super) fn claims(state: &State, caller: &Caller) -> Value {
    let mut claims = json!({
        "aud": "https://management.core.windows.net/",
        "iss": format!("https://sts.windows.net/{}/", state.tenant_id),
        "http://schemas.microsoft.com/identity/claims/tenantid": state.tenant_id,
        "ver": "1.0",
    });
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            claims[name] = json!(value);
        }
    };
    add("appid", &caller.app_id);
    add("ipaddr", &caller.ip);
    add("http://schemas.microsoft.com/identity/claims/objectidentifier", &caller.object_id);
    if !caller.upn.is_empty() {
        add("name", &caller.name);
        add("http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn", &caller.upn);
        add("http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name", &caller.upn);
        add("http://schemas.microsoft.com/identity/claims/scope", "user_impersonation");
    }
    claims
}

/// `authorization` of an entry and of an event, with the assignment that gave the right.
pub(super) fn authorization(state: &State, caller: &Caller, action: &str, scope: &str) -> Value {
    let mut authorization = json!({ "scope": scope, "action": action });
    let principal = state.principals.iter().find(|p| !caller.object_id.is_empty() && p.object_id.eq_ignore_ascii_case(&caller.object_id));
    if let Some(principal) = principal
        && let Some(assignment) = principal
            .assignments
            .iter()
            .find(|a| super::path::is_within(scope, &a.scope) && a.actions.iter().any(|pattern| crate::entra::allows(pattern, action)))
    {
        let role = if assignment.actions.iter().any(|a| a == "*") { "Owner" } else { "JIT Access Role" };
        let plain = principal.object_id.replace('-', "");
        authorization["role"] = json!(role);
        authorization["evidence"] = json!({
            "role": role,
            "roleAssignmentScope": assignment.scope,
            "roleAssignmentId": plain,
            "roleDefinitionId": plain,
            "principalId": plain,
            "principalType": if caller.upn.is_empty() { "ServicePrincipal" } else { "User" },
        });
    }
    authorization
}

/// GET `…/Microsoft.Insights/eventtypes/management/values`: newest first.
pub(super) fn query(state: &State, request: &Request, path: &Path) -> Outcome {
    if request.call.method != Method::GET {
        return Err(method_not_allowed(&request.call.method));
    }
    let filter = Filter::read(request.call.param("$filter"), state.now)?;
    let select = request.call.param("$select").map(|list| {
        let names = list.split(',').map(|name| name.trim().to_owned());
        names.collect::<Vec<_>>()
    });
    let subscription = path.subscription.as_deref().unwrap_or_default();
    let lag = TimeDelta::seconds(state.switches.activity_log_seconds.max(0));
    let mut found: Vec<(&ActivityEntry, &str)> = state
        .activity
        .iter()
        .filter(|entry| entry.at + lag <= state.now)
        .filter(|entry| entry.body["subscriptionId"].as_str().is_some_and(|id| id.eq_ignore_ascii_case(subscription)))
        .filter(|entry| filter.admits(&entry.body))
        .map(|entry| (entry, entry.body["eventTimestamp"].as_str().unwrap_or_default()))
        .collect();
    // Stable, and over the reverse: of two in one instant the later written comes first.
    found.reverse();
    found.sort_by(|(_, a), (_, b)| b.cmp(a));
    let bodies = found.into_iter().map(|(entry, _)| {
        let mut body = entry.body.clone();
        body["submissionTimestamp"] = json!(instants::seven_digits(entry.at + lag));
        if let (Some(names), Some(fields)) = (&select, body.as_object_mut()) {
            fields.retain(|name, _| names.iter().any(|n| n.eq_ignore_ascii_case(name)));
        }
        body
    });
    paging::reply(state, request, bodies)
}

struct Filter {
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    /// A field and what it must be.
    only: Option<(&'static str, String)>,
}

impl Filter {
    /// The only forms that the service takes (documentation): a stretch of time, and at most one thing more.
    fn read(filter: Option<&str>, now: DateTime<Utc>) -> Result<Filter, Refusal> {
        let Some(text) = filter.filter(|text| !text.trim().is_empty()) else {
            return Err(refused("The $filter query parameter is required: eventTimestamp ge '…' and eventTimestamp le '…'."));
        };
        let (mut from, mut until, mut only) = (None, None, None);
        for condition in split_and(text) {
            let mut words = condition.trim().splitn(3, ' ');
            let (name, operator) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            let value = words
                .next()
                .map(str::trim)
                .and_then(|value| match value.strip_prefix('\'') {
                    Some(quoted) => quoted.strip_suffix('\''),
                    // az writes instants bare.
                    None => is("eventTimestamp").then_some(value),
                })
                .ok_or_else(|| refused(format!("The condition '{condition}' is not of the form NAME OPERATOR 'VALUE'.")))?;
            let known = ["resourceGroupName", "resourceUri", "resourceProvider", "correlationId"];
            match operator {
                "ge" if is("eventTimestamp") && from.is_none() => from = Some(instant(value)?),
                "le" if is("eventTimestamp") && until.is_none() => until = Some(instant(value)?),
                // The tools send it; all that this world writes is of these channels.
                "eq" if is("eventChannels") => {}
                "eq" if only.is_none() => {
                    let name = known.into_iter().find(|known| is(known)).ok_or_else(|| unsupported(condition))?;
                    only = Some((name, value.to_owned()));
                }
                _ => return Err(unsupported(condition)),
            }
        }
        let (Some(from), Some(until)) = (from, until) else {
            return Err(refused("The $filter must hold both eventTimestamp ge '…' and eventTimestamp le '…'."));
        };
        if from > until {
            return Err(refused("The start of the time range must not be after its end."));
        }
        if from < now - RETENTION {
            return Err(refused("The start of the time range must lie within the last 90 days."));
        }
        Ok(Filter { from, until, only })
    }

    fn admits(&self, entry: &Value) -> bool {
        let at = entry["eventTimestamp"].as_str().and_then(instants::parse);
        let in_time = at.is_some_and(|at| (self.from..=self.until).contains(&at));
        let fits = self.only.as_ref().is_none_or(|(name, wanted)| {
            let found = match *name {
                "resourceGroupName" => &entry["resourceGroupName"],
                "resourceUri" => &entry["resourceId"],
                "resourceProvider" => &entry["resourceProviderName"]["value"],
                _ => &entry["correlationId"],
            };
            found.as_str().is_some_and(|found| found.eq_ignore_ascii_case(wanted))
        });
        in_time && fits
    }
}

fn split_and(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut quoted) = (0, false);
    for (at, c) in text.char_indices() {
        if c == '\'' {
            quoted = !quoted;
        }
        let here = text.get(at..at + 5).is_some_and(|word| word.eq_ignore_ascii_case(" and "));
        if here && !quoted && at >= start {
            parts.push(&text[start..at]);
            start = at + 5;
        }
    }
    parts.push(&text[start..]);
    parts
}

fn instant(value: &str) -> Result<DateTime<Utc>, Refusal> {
    instants::parse(value)
        .or_else(|| {
            let date = chrono::NaiveDate::parse_from_str(value, "%Y-%m-%d").ok()?;
            date.and_hms_opt(0, 0, 0).map(|at| at.and_utc())
        })
        .ok_or_else(|| refused(format!("'{value}' is no instant of the form 2026-01-15T10:00:00Z.")))
}

fn unsupported(condition: &str) -> Refusal {
    refused(format!(
        "The condition '{}' is not supported: only eventTimestamp ge and le, with at most one of resourceGroupName, \
         resourceUri, resourceProvider and correlationId eq, joined by and.",
        condition.trim()
    ))
}

fn refused(message: impl Into<String>) -> Refusal {
    Refusal::service(400, "BadRequest", message)
}

/// The id of a resource as entries and events write it.
pub(super) fn cased(state: &State, id: &str) -> String {
    letter_case::id(state.switches.letter_case, id)
}
