//! Azure Resource Manager: what a request must bring before a provider sees it, and which provider sees it.
//!
//! The order is ARM's: api-version, token, path, subscription, right, resource group, lock, policy, provider. Every
//! write, also a refused one, is an entry of the world's log and of the activity log; JIT's own are events, too.

mod activity;
mod authorization;
mod compute;
mod envelope;
mod event_subscriptions;
mod event_topics;
mod events;
mod incidents;
mod instants;
mod jit;
mod jit_initiate;
mod jit_life;
mod jit_policy;
pub mod jit_records;
pub mod jit_rules;
mod letter_case;
mod management_groups;
mod network;
mod nsg;
mod operations;
mod paging;
mod path;
mod roles;
mod security_rule;
mod subscriptions;
mod versions;

use http::Method;
use serde_json::Value;

pub(crate) use self::jit_initiate::asked;
use crate::entra;
use crate::eventgrid;
use crate::face::{Answer, Call};
use crate::state::{Caller, Deed, DueKind, State};

use envelope::{Headers, Outcome, Refusal, invalid_json, method_not_allowed};
use path::{Form, Kind, Path, Resource, Target};

pub(crate) use jit_life::{lay_deny_rules, lift_deny_rules};

/// One request, with who makes it.
struct Request<'a> {
    call: &'a Call,
    caller: Caller,
    api_version: String,
}

impl Request<'_> {
    /// The body; ARM refuses one that is no JSON.
    fn json(&self) -> Result<Value, Refusal> {
        serde_json::from_slice(&self.call.body).map_err(|why| invalid_json(&why))
    }
}

/// What the logs say about a request, as far as it got.
struct Note {
    caller: Caller,
    authenticated: bool,
    action: String,
    target: String,
    kind: Option<Kind>,
    form: Option<Form>,
}

/// Answers one request to ARM.
pub fn answer(state: &mut State, call: &Call) -> Answer {
    let is_write = !is_read(call);
    let correlation = call
        .header("x-ms-correlation-request-id")
        .filter(|id| uuid::Uuid::parse_str(id).is_ok())
        .map(str::to_owned)
        .unwrap_or_else(|| if is_write { state.take_uuid() } else { envelope::request_id() });
    let mut note = Note {
        caller: Caller::anonymous(&call.ip),
        authenticated: false,
        action: call.method.as_str().to_ascii_lowercase(),
        target: call.path.clone(),
        kind: None,
        form: None,
    };
    let nature = if is_write { nsg::nature(state, &call.path) } else { None };
    let mut outcome = serve(state, call, &mut note);
    if is_write {
        let status = match &outcome {
            Ok(reply) => reply.status.as_u16(),
            Err(refusal) => refusal.status,
        };
        let caller = note.caller.clone();
        let entry = state.record(&caller, "arm", &note.action, &note.target, status);
        entry.condition = call.condition();
        (entry.access, entry.direction) = nature.unwrap_or_default();
        entry.asked = asked(call);
        if note.authenticated && note.kind.is_some() {
            activity::of_request(state, call, &note, &correlation, status);
        }
        if let Ok(reply) = &outcome {
            events::of_request(state, call, &note, &correlation, reply);
        }
    }
    if let Ok(reply) = &mut outcome
        && let Some(body) = &mut reply.body
    {
        letter_case::rewrite(state.switches.letter_case, body);
    }
    let about = Headers {
        correlation,
        empty_request_id: note.kind == Some(Kind::JitPolicy) && is_write && call.method != Method::DELETE,
        remaining: remaining(&note, &call.method),
        client_request_id: call
            .header("x-ms-return-client-request-id")
            .filter(|wanted| wanted.eq_ignore_ascii_case("true"))
            .and_then(|_| call.header("x-ms-client-request-id"))
            .map(str::to_owned),
    };
    envelope::render(outcome, about)
}

/// What a write would do, whether it may or not; none for a read.
pub(crate) fn deed(state: &State, call: &Call) -> Option<Deed> {
    if is_read(call) {
        return None;
    }
    let caller = entra::authenticate(state, call, authorization::AUDIENCES).unwrap_or_else(|_| Caller::anonymous(&call.ip));
    let (what, target) = match path::parse(&call.path, None) {
        Ok(Path { target: Target::Resource(resource), whole, .. }) => {
            (resource.kind.action(&call.method, &resource.form), resource.named(&whole))
        }
        Ok(_) | Err(_) => (call.method.as_str().to_ascii_lowercase(), call.path.clone()),
    };
    Some(Deed { caller, what, target })
}

fn is_read(call: &Call) -> bool {
    let asks = management_groups::is_entities(&call.path) || (call.method == Method::POST && incidents::is_entities(&call.path));
    asks || matches!(call.method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Carries out what was due.
pub fn happen(state: &mut State, what: DueKind) {
    match what {
        DueKind::JitOpens { policy, record } => jit_life::opens(state, &policy, &record),
        DueKind::JitCloses { policy, record, vm, port } => jit_life::closes(state, &policy, &record, &vm, port),
        DueKind::JitCleans { policy, vm } => jit_life::cleans(state, &policy, &vm),
        DueKind::PolicySettles { policy } => jit_life::settles(state, &policy),
        DueKind::OperationEnds { operation } => operations::ends(state, &operation),
        DueKind::RuleReturns { nsg, rule } => jit_life::rule_returns(state, &nsg, rule),
        DueKind::EventArrives { queue, of, event } => eventgrid::arrives(state, &queue, &of, &event),
    }
}

fn serve(state: &mut State, call: &Call, note: &mut Note) -> Outcome {
    let path = path::parse(&call.path, call.param("api-version"));
    if let Ok(Path { target: Target::Metadata, .. }) = &path {
        // The oldest form has a version of its own, which is no date.
        let version = call.param("api-version").filter(|version| *version == "1.0");
        let version = version.map_or_else(|| demand_api_version(call), |version| Ok(version.to_owned()))?;
        return subscriptions::metadata(state, call, &version);
    }
    let api_version = demand_api_version(call)?;
    let caller = entra::authenticate(state, call, authorization::AUDIENCES).map_err(|why| {
        let entra = call.bases.urls.get("entra").map_or("https://login.microsoftonline.com", String::as_str);
        authorization::not_authenticated(state, entra, why)
    })?;
    note.caller = caller.clone();
    note.authenticated = true;
    let path = path?;
    versions::demand(&path, &api_version)?;
    let request = Request { call, caller, api_version };
    demand_subscription(state, &path)?;
    let resource = match path.target {
        Target::Resource(ref resource) => resource.clone(),
        Target::Entities => return management_groups::entities(state, &request),
        _ => return subscriptions::serve(state, &request, &path),
    };
    note.kind = Some(resource.kind);
    note.form = Some(resource.form.clone());
    note.action = incidents::right(state, &resource, resource.kind.action(&call.method, &resource.form));
    note.target = resource.named(&path.whole);
    authorization::demand(state, &request.caller, &note.action, &resource.authorization_scope())?;
    if let (Some(subscription), Some(group)) = (&path.subscription, &path.group) {
        subscriptions::demand_group(state, subscription, group)?;
    }
    demand_permitted_write(state, &request, &resource, &note.action)?;
    route(state, &request, &path, &resource)
}

fn demand_api_version(call: &Call) -> Result<String, Refusal> {
    let Some(version) = call.param("api-version").filter(|v| !v.is_empty()) else {
        return Err(Refusal::gateway(
            400,
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        ));
    };
    if path::is_api_version(version) {
        return Ok(version.to_owned());
    }
    Err(Refusal::gateway(
        400,
        "InvalidApiVersionParameter",
        format!(
            "The api-version '{version}' is invalid. The supported versions have the form YYYY-MM-DD or \
             YYYY-MM-DD-preview."
        ),
    ))
}

fn demand_subscription(state: &State, path: &Path) -> Result<(), Refusal> {
    let Some(id) = &path.subscription else { return Ok(()) };
    if state.subscriptions.iter().any(|s| s.id.eq_ignore_ascii_case(id)) {
        return Ok(());
    }
    if uuid::Uuid::parse_str(id).is_err() {
        return Err(Refusal::gateway(
            400,
            "InvalidSubscriptionId",
            format!("The provided subscription identifier '{id}' is malformed or invalid."),
        ));
    }
    Err(Refusal::gateway(404, "SubscriptionNotFound", format!("The subscription '{id}' could not be found.")))
}

/// Locks and policies act before the provider does.
fn demand_permitted_write(state: &State, request: &Request, resource: &Resource, action: &str) -> Result<(), Refusal> {
    let deed = match request.call.method.as_str() {
        "DELETE" => authorization::Deed::Delete,
        "PUT" | "PATCH" | "POST" => authorization::Deed::Write,
        _ => return Ok(()),
    };
    let id = resource.id();
    authorization::demand_unlocked(state, &id, deed)?;
    authorization::demand_undenied(state, &id, action)
}

fn route(state: &mut State, request: &Request, path: &Path, resource: &Resource) -> Outcome {
    match resource.kind {
        Kind::VirtualMachine => compute::serve(state, request, path, resource),
        Kind::NetworkInterface
        | Kind::VirtualNetwork
        | Kind::Subnet
        | Kind::PublicAddress
        | Kind::SecurityGroup
        | Kind::SecurityRule
        | Kind::DefaultRule => network::serve(state, request, path, resource),
        Kind::Operation | Kind::OperationResult => operations::serve(state, request, resource),
        Kind::JitPolicies | Kind::JitPolicy => jit::serve(state, request, path, resource),
        Kind::Pricing => subscriptions::pricing(state, request, path, resource),
        Kind::ActivityLog => activity::query(state, request, path),
        Kind::Lock => match request.call.method {
            Method::GET => authorization::list_locks(state, request, &resource.scope),
            _ => Err(method_not_allowed(&request.call.method)),
        },
        Kind::Permission => match request.call.method {
            Method::GET => authorization::list_permissions(state, request, &resource.scope),
            _ => Err(method_not_allowed(&request.call.method)),
        },
        Kind::RoleAssignment | Kind::RoleDefinition => roles::serve(state, request, resource),
        Kind::SystemTopic | Kind::EventSubscription => event_topics::serve(state, request, path, resource),
        Kind::ScopedEventSubscription => event_subscriptions::serve(state, request, path, resource),
        Kind::Incident => incidents::serve(state, request, resource),
    }
}

/// What the caller has left, as recorded: JIT's reads have the provider's own budget, reads of network and compute
/// say nothing.
fn remaining(note: &Note, method: &Method) -> Vec<(&'static str, &'static str)> {
    if !note.authenticated {
        return Vec::new();
    }
    match (method.as_str(), note.kind) {
        ("DELETE", _) => {
            vec![("x-ms-ratelimit-remaining-subscription-deletes", "199"), ("x-ms-ratelimit-remaining-subscription-global-deletes", "2999")]
        }
        ("PUT" | "PATCH" | "POST", _) => {
            vec![("x-ms-ratelimit-remaining-subscription-writes", "199"), ("x-ms-ratelimit-remaining-subscription-global-writes", "2999")]
        }
        (_, Some(Kind::JitPolicies | Kind::JitPolicy | Kind::Pricing)) => {
            vec![("x-ms-ratelimit-remaining-subscription-resource-requests", "749")]
        }
        (
            _,
            Some(
                Kind::ActivityLog
                | Kind::Lock
                | Kind::Permission
                | Kind::RoleAssignment
                | Kind::RoleDefinition
                | Kind::SystemTopic
                | Kind::EventSubscription
                | Kind::ScopedEventSubscription
                | Kind::Incident,
            ),
        ) => {
            vec![("x-ms-ratelimit-remaining-subscription-reads", "249"), ("x-ms-ratelimit-remaining-subscription-global-reads", "3749")]
        }
        (_, Some(_)) => Vec::new(),
        (_, None) => vec![("x-ms-ratelimit-remaining-tenant-reads", "249")],
    }
}
