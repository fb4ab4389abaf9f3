//! Microsoft.Compute: virtual machines, read only.

use http::Method;
use serde_json::{Value, json};

use crate::state::State;

use super::envelope::{Outcome, Refusal, Reply, method_not_allowed, resource_not_found};
use super::path::{Form, Kind, Path, Resource};
use super::{Request, paging};

/// What `$expand` of one VM may be (REST specification); only the first adds anything to what this world knows.
const EXPANSIONS: [&str; 3] = ["instanceView", "userData", "resiliencyView"];

/// GET of one and of its instance view, of a resource group's, of a subscription's.
pub(super) fn serve(state: &State, request: &Request, path: &Path, resource: &Resource) -> Outcome {
    if request.call.method != Method::GET {
        return Err(method_not_allowed(&request.call.method));
    }
    let expand = request.call.param("$expand");
    match &resource.form {
        Form::Collection => {
            if let Some(value) = expand {
                // Documentation: a list expands only what a $filter on a scale set selects, and there is none here.
                return Err(invalid_expand(value, "it can only be specified together with a valid $filter"));
            }
            let status_only = request.call.param("statusOnly").is_some_and(|value| value.eq_ignore_ascii_case("true"));
            let found = stored(state, path, Kind::VirtualMachine);
            paging::reply(state, request, found.map(|vm| if status_only { with_view(vm) } else { vm.clone() }))
        }
        Form::Item => {
            let wanted = expand.map(expansion).transpose()?;
            let vm = stored_item(state, resource)?;
            Ok(Reply::ok(if wanted == Some("instanceView") { with_view(vm) } else { vm.clone() }))
        }
        Form::Action(action) if action.eq_ignore_ascii_case("instanceView") => Ok(Reply::ok(view(stored_item(state, resource)?))),
        Form::Action(_) => Err(method_not_allowed(&request.call.method)),
    }
}

fn expansion(given: &str) -> Result<&'static str, Refusal> {
    let known = EXPANSIONS.into_iter().find(|known| known.eq_ignore_ascii_case(given));
    known.ok_or_else(|| invalid_expand(given, &format!("it must be one of {}", EXPANSIONS.join(", "))))
}

fn invalid_expand(given: &str, why: &str) -> Refusal {
    Refusal::service(400, "InvalidParameter", format!("The value '{given}' of the query parameter '$expand' is invalid: {why}."))
        .target("$expand")
}

fn with_view(vm: &Value) -> Value {
    let mut vm = vm.clone();
    let view = view(&vm);
    if let Some(properties) = vm.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("instanceView".to_owned(), view);
    }
    vm
}

/// What a VM is doing: what the world's file says, else that it runs.
fn view(vm: &Value) -> Value {
    let stored = &vm["properties"]["instanceView"];
    if stored.is_object() {
        return stored.clone();
    }
    let provisioning = vm["properties"]["provisioningState"].as_str().unwrap_or("Succeeded").to_ascii_lowercase();
    let status = |code: String, text: String| json!({"code": code, "level": "Info", "displayStatus": text});
    json!({
        "statuses": [
            status(format!("ProvisioningState/{provisioning}"), format!("Provisioning {provisioning}")),
            status("PowerState/running".to_owned(), "VM running".to_owned()),
        ],
    })
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
pub(super) fn stored_item<'a>(state: &'a State, resource: &Resource) -> Result<&'a Value, Refusal> {
    let id = resource.id();
    state.resources.get(&id).ok_or_else(|| resource_not_found(&id, resource.kind.name()))
}
