//! Resource events of JIT operations, as Event Grid's subscription topic carries them. No real one is public: the
//! form is that of the documentation's examples. The request's body is not in it.

use http::Method;
use serde_json::{Value, json};

use crate::eventgrid;
use crate::face::Call;
use crate::state::State;
use crate::switches::EventResource;

use super::activity::{authorization, cased, claims};
use super::envelope::Reply;
use super::path::{Form, Kind, segment_after};
use super::{Note, letter_case};

/// Publishes what a successful request of a caller gives rise to.
pub(super) fn of_request(state: &mut State, call: &Call, note: &Note, correlation: &str, reply: &Reply) {
    if note.kind != Some(Kind::JitPolicy) || reply.status == http::StatusCode::NO_CONTENT {
        return;
    }
    let kind = match (&call.method, &note.form) {
        (&Method::PUT, _) => "Write",
        (&Method::DELETE, _) => "Delete",
        (&Method::POST, Some(Form::Action(_))) => "Action",
        _ => return,
    };
    let policy = note.target.clone();
    let mut about = vec![policy];
    if kind == "Action" {
        let vms = reply.body.iter().flat_map(|body| body["virtualMachines"].as_array().into_iter().flatten());
        let vms: Vec<String> = vms.filter_map(|vm| vm["id"].as_str().map(str::to_owned)).collect();
        match state.switches.event_resource {
            EventResource::Policy => {}
            EventResource::Vm => about = vms,
            EventResource::Both => about.extend(vms),
        }
    }
    for resource in about {
        let mut data = data(state, call, note, correlation, &resource);
        letter_case::rewrite(state.switches.letter_case, &mut data);
        let subject = cased(state, &resource);
        eventgrid::publish(state, kind, &subject, data);
    }
}

fn data(state: &State, call: &Call, note: &Note, correlation: &str, resource: &str) -> Value {
    let query: Vec<String> = call.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut authorization = authorization(state, &note.caller, &note.action, resource);
    if let Some(fields) = authorization.as_object_mut() {
        fields.remove("role");
    }
    json!({
        "authorization": authorization,
        "claims": claims(state, &note.caller),
        "correlationId": correlation,
        "httpRequest": {
            "clientRequestId": call.header("x-ms-client-request-id").unwrap_or(correlation),
            "clientIpAddress": note.caller.ip,
            "method": call.method.as_str(),
            "url": format!("https://management.azure.com{}?{}", call.path, query.join("&")),
        },
        "resourceProvider": "Microsoft.Security",
        "resourceUri": resource,
        "operationName": note.action,
        "status": "Succeeded",
        "subscriptionId": segment_after(resource, "subscriptions").unwrap_or_default(),
        "tenantId": state.tenant_id,
    })
}
