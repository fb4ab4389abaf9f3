//! Microsoft.Security: the operations on JIT network access policies.

use http::Method;
use serde_json::Value;

use crate::state::State;
use crate::switches::PlanOffRefuses;

use super::compute::stored;
use super::envelope::{Outcome, Refusal, Reply, method_not_allowed};
use super::path::{Form, Kind, Path, Resource, last};
use super::{Request, jit_initiate, jit_policy, paging, subscriptions};

/// Regions in which JIT is registered; another is refused as one without a provider.
const REGIONS: &[&str] = &[
    "australiacentral",
    "australiaeast",
    "australiasoutheast",
    "brazilsouth",
    "canadacentral",
    "canadaeast",
    "centralindia",
    "centralus",
    "eastasia",
    "eastus",
    "eastus2",
    "francecentral",
    "francesouth",
    "germanynorth",
    "germanywestcentral",
    "israelcentral",
    "italynorth",
    "japaneast",
    "japanwest",
    "jioindiawest",
    "koreacentral",
    "koreasouth",
    "mexicocentral",
    "newzealandnorth",
    "northcentralus",
    "northeurope",
    "norwayeast",
    "norwaywest",
    "polandcentral",
    "qatarcentral",
    "southafricanorth",
    "southcentralus",
    "southeastasia",
    "southindia",
    "spaincentral",
    "swedencentral",
    "switzerlandnorth",
    "switzerlandwest",
    "uaecentral",
    "uaenorth",
    "uksouth",
    "ukwest",
    "westcentralus",
    "westeurope",
    "westindia",
    "westus",
    "westus2",
    "westus3",
];

/// The eight operations (REST specification 2020-01-01).
pub(super) fn serve(state: &mut State, request: &Request, path: &Path, resource: &Resource) -> Outcome {
    demand_region(request, resource)?;
    let subscription = path.subscription.as_deref().unwrap_or_default();
    if request.call.method != Method::GET || state.switches.plan_off_refuses == PlanOffRefuses::Everything {
        demand_plan(state, subscription)?;
    }
    match (request.call.method.as_str(), resource.kind, &resource.form) {
        ("GET", _, Form::Collection) => {
            let region = resource.names.first();
            let policies = stored(state, path, Kind::JitPolicy).filter(|policy| region.is_none_or(|region| is_in(policy, region))).cloned();
            paging::reply(state, request, policies)
        }
        ("GET", Kind::JitPolicy, Form::Item) => find(state, resource).map(|policy| Reply::ok(policy.clone())),
        ("PUT", Kind::JitPolicy, Form::Item) => jit_policy::put(state, request, path, resource),
        ("DELETE", Kind::JitPolicy, Form::Item) => jit_policy::delete(state, resource),
        ("POST", Kind::JitPolicy, Form::Action(action)) if action.eq_ignore_ascii_case("initiate") => {
            jit_initiate::initiate(state, request, resource)
        }
        ("POST", Kind::JitPolicy, Form::Action(action)) => Err(Refusal::gateway(
            404,
            "InvalidResourceType",
            format!("JIT network access policies know no action '{action}'; there is only 'initiate'."),
        )),
        _ => Err(method_not_allowed(&request.call.method)),
    }
}

/// The policy of a path, or 404 as recorded.
pub(super) fn find<'a>(state: &'a State, resource: &Resource) -> Result<&'a Value, Refusal> {
    let id = resource.id();
    state
        .resources
        .get(&id)
        .ok_or_else(|| Refusal::service(404, "PolicyNotFound", format!("Just-In-Time Network Access Policy '{id}' does not exist.")))
}

fn is_in(policy: &Value, region: &str) -> bool {
    policy["location"].as_str().is_some_and(|place| same_region(place, region))
}

/// Whether two spellings mean one region (`West Europe` is `westeurope`).
pub(super) fn same_region(a: &str, b: &str) -> bool {
    let plain = |text: &str| text.replace(' ', "").to_ascii_lowercase();
    plain(a) == plain(b)
}

fn demand_region(request: &Request, resource: &Resource) -> Result<(), Refusal> {
    let Some(region) = resource.names.first().filter(|_| resource.kind == Kind::JitPolicy) else {
        return Ok(());
    };
    if REGIONS.iter().any(|known| same_region(known, region)) {
        return Ok(());
    }
    Err(Refusal::gateway(
        400,
        "NoRegisteredProviderFound",
        format!(
            "No registered resource provider found for location '{region}' and API version '{}' for type \
             'locations/jitNetworkAccessPolicies'. The supported api-versions are '2015-06-01-preview, 2020-01-01'. The \
             supported locations are '{}'.",
            request.api_version,
            REGIONS.join(", ")
        ),
    ))
}

/// 403 where Defender for Servers Plan 2 is off (the sentence is public; its code is not, this is the gateway's).
fn demand_plan(state: &State, subscription: &str) -> Result<(), Refusal> {
    if subscriptions::find(state, subscription).is_some_and(|s| s.jit_plan) {
        return Ok(());
    }
    Err(Refusal::service(
        403,
        "Forbidden",
        format!(
            "JIT VM Access requires a standard tier subscription. Turn Defender for Servers Plan 2 on for subscription \
             '{subscription}'."
        ),
    ))
}

/// 400 of this provider; for most of its refusals the sentence is public, but not the code.
pub(super) fn bad_request(message: impl Into<String>) -> Refusal {
    Refusal::service(400, "BadRequest", message)
}

/// The entry of a VM in a policy.
pub(super) fn entry<'a>(policy: &'a Value, vm: &str) -> Option<&'a Value> {
    let entries = policy["properties"]["virtualMachines"].as_array()?;
    entries.iter().find(|entry| entry["id"].as_str().is_some_and(|id| id.eq_ignore_ascii_case(vm)))
}

/// The VMs of a policy's or a request's body, each with its id.
pub(super) fn machines(owner: &Value) -> Result<Vec<(&str, &Value)>, Refusal> {
    let Some(list) = owner["virtualMachines"].as_array() else {
        return Err(bad_request("The request must have 'virtualMachines', a list."));
    };
    list.iter()
        .map(|entry| match entry["id"].as_str() {
            Some(id) if entry["ports"].as_array().is_some_and(|ports| !ports.is_empty()) => Ok((id, entry)),
            Some(id) => Err(bad_request(format!("Virtual machine '{id}' must have at least one port."))),
            None => Err(bad_request("Every virtual machine must have an 'id'.")),
        })
        .collect()
}

/// The number of a port of a body.
pub(super) fn port_number(port: &Value) -> Result<u16, Refusal> {
    port["number"]
        .as_u64()
        .and_then(|number| u16::try_from(number).ok())
        .ok_or_else(|| bad_request(format!("Port number {} is invalid: 0 to 65535.", port["number"])))
}

/// The last segment of a VM's id.
pub(super) fn vm_name(id: &str) -> &str {
    last(id)
}
