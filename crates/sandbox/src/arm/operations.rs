//! Asynchronous operations of Microsoft.Network.

use chrono::TimeDelta;
use http::{Method, StatusCode};
use serde_json::json;

use crate::state::{DueKind, Operation, OperationWork, State};

use super::Request;
use super::envelope::{Outcome, Refusal, Reply, method_not_allowed};
use super::nsg;
use super::path::{Form, Kind, Resource};

/// Begins an operation on a resource that an NSG holds. Where operations take no time, its effect is there at once.
pub(super) fn begin(state: &mut State, resource: &str, work: OperationWork, started_by: &str) -> String {
    let id = state.take_uuid();
    let takes = state.switches.operation_seconds;
    state.operations.insert(
        id.clone(),
        Operation { status: "InProgress".to_owned(), resource: resource.to_owned(), error: None, work, started_by: started_by.to_owned() },
    );
    if takes > 0 {
        let at = state.now + TimeDelta::seconds(takes);
        state.later(at, DueKind::OperationEnds { operation: id.clone() });
    } else {
        ends(state, &id);
    }
    id
}

/// Notes an operation whose effect was there when it was answered.
pub(super) fn done(state: &mut State, resource: &str, work: OperationWork, started_by: &str) -> String {
    let id = state.take_uuid();
    state.operations.insert(
        id.clone(),
        Operation { status: "Succeeded".to_owned(), resource: resource.to_owned(), error: None, work, started_by: started_by.to_owned() },
    );
    id
}

/// An operation takes its effect and ends.
pub(super) fn ends(state: &mut State, id: &str) {
    let Some(operation) = state.operations.get_mut(id).filter(|o| o.status == "InProgress") else {
        return;
    };
    operation.status = "Succeeded".to_owned();
    let (resource, work) = (operation.resource.clone(), operation.work);
    let by_hand = !operation.started_by.is_empty();
    match work {
        OperationWork::Write => nsg::settle(state, nsg::group_of(&resource)),
        OperationWork::DeleteRule => {
            nsg::take_rule(state, &resource, by_hand);
            nsg::settle(state, nsg::group_of(&resource));
        }
        OperationWork::DeleteGroup => {
            super::subscriptions::remove_resource(state, &resource);
        }
    }
}

/// Whether an operation is still at work on the NSG, and whether it is somebody's other than the world's.
pub(super) fn at_work(state: &State, nsg_id: &str) -> Option<AtWork> {
    let running =
        state.operations.iter().filter(|(_, o)| o.status == "InProgress" && nsg::group_of(&o.resource).eq_ignore_ascii_case(nsg_id));
    let mut found = None;
    for (id, operation) in running {
        let foreign = !operation.started_by.is_empty();
        if foreign || found.is_none() {
            found = Some(AtWork { id: id.clone(), foreign, work: operation.work });
        }
    }
    found
}

/// An operation that is at work.
pub(super) struct AtWork {
    pub id: String,
    /// Somebody's, not Defender's own.
    pub foreign: bool,
    pub work: OperationWork,
}

/// `Azure-AsyncOperation`, for a body that is answered at once.
pub(super) fn status_url(request: &Request, nsg_id: &str, location: &str, id: &str) -> String {
    url(request, nsg_id, location, "operations", id)
}

/// `Location`, for a 202.
pub(super) fn result_url(request: &Request, nsg_id: &str, location: &str, id: &str) -> String {
    url(request, nsg_id, location, "operationResults", id)
}

fn url(request: &Request, nsg_id: &str, location: &str, kind: &str, id: &str) -> String {
    let subscription = super::path::segment_after(nsg_id, "subscriptions").unwrap_or_default();
    format!(
        "{}/subscriptions/{subscription}/providers/Microsoft.Network/locations/{location}/{kind}/{id}?api-version={}",
        request.call.base, request.api_version
    )
}

/// Seconds after which a client asks again.
pub(super) fn retry_after(state: &State) -> String {
    state.switches.operation_seconds.max(1).to_string()
}

/// GET of an operation's state or of its result.
pub(super) fn serve(state: &State, request: &Request, resource: &Resource) -> Outcome {
    if request.call.method != Method::GET || resource.form != Form::Item {
        return Err(method_not_allowed(&request.call.method));
    }
    let id = resource.name().to_ascii_lowercase();
    let Some(operation) = state.operations.get(&id) else {
        return Err(Refusal::service(
            404,
            "NotFound",
            format!("Operation '{id}' was not found. Operations are kept for the life of the world."),
        ));
    };
    let running = operation.status == "InProgress";
    if resource.kind == Kind::Operation {
        let mut body = json!({ "status": operation.status });
        if let Some(error) = &operation.error {
            body["error"] = error.clone();
        }
        let reply = Reply::ok(body);
        return Ok(if running { reply.header("Retry-After", retry_after(state)) } else { reply });
    }
    let here = format!("{}{}?api-version={}", request.call.base, request.call.path, request.api_version);
    if running {
        return Ok(Reply::empty(StatusCode::ACCEPTED).header("Location", here).header("Retry-After", retry_after(state)));
    }
    match nsg::presented_part(state, &operation.resource) {
        Some(body) if operation.work == OperationWork::Write => Ok(Reply::ok(body).header("Location", here)),
        _ => Ok(Reply::empty(StatusCode::NO_CONTENT)),
    }
}
