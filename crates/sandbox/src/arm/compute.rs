//! Microsoft.Compute: virtual machines, read only.

use http::Method;
use serde_json::Value;

use crate::state::State;

use super::envelope::{Outcome, Reply, method_not_allowed, resource_not_found};
use super::path::{Form, Kind, Path, Resource};
use super::{Request, paging};

/// GET of one, of a resource group's, of a subscription's.
pub(super) fn serve(state: &State, request: &Request, path: &Path, resource: &Resource) -> Outcome {
    if request.call.method != Method::GET {
        return Err(method_not_allowed(&request.call.method));
    }
    match resource.form {
        Form::Collection => paging::reply(state, request, stored(state, path, Kind::VirtualMachine).cloned()),
        Form::Item => stored_item(state, resource).map(|body| Reply::ok(body.clone())),
        Form::Action(_) => Err(method_not_allowed(&request.call.method)),
    }
}

/// The stored resources of a type in the scope of a path: a resource group or a subscription.
pub(super) fn stored<'a>(state: &'a State, path: &Path, kind: Kind) -> impl Iterator<Item = &'a Value> + use<'a> {
    let subscription = path.subscription.as_deref().unwrap_or_default();
    let prefix = match &path.group {
        Some(group) => format!("/subscriptions/{subscription}/resourceGroups/{group}/"),
        None => format!("/subscriptions/{subscription}/"),
    };
    let found: Vec<&Value> = state.resources.under(&prefix).filter(|body| is(body, kind)).collect();
    found.into_iter()
}

/// Whether a stored body is of this type.
pub(super) fn is(body: &Value, kind: Kind) -> bool {
    body["type"].as_str().is_some_and(|t| t.eq_ignore_ascii_case(kind.name()))
}

/// One stored resource, or 404.
pub(super) fn stored_item<'a>(state: &'a State, resource: &Resource) -> Result<&'a Value, super::envelope::Refusal> {
    let id = resource.id();
    state.resources.get(&id).ok_or_else(|| resource_not_found(&id, resource.kind.name()))
}
