//! Tenants, subscriptions, resource groups, Defender plans, and the metadata that clients sign in by.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::face::Call;
use crate::state::{State, Subscription};

use super::Request;
use super::authorization::{demand, sees_subscription};
use super::envelope::{Outcome, Refusal, Reply, method_not_allowed};
use super::path::{Form, Path, Resource, Target};
use super::{event_topics, incidents, paging};
use crate::entra::may;

const GROUP_TYPE: &str = "Microsoft.Resources/resourceGroups";

/// The first version that lists every cloud, this one alone here, with all its endpoints.
const FIRST_WITH_CLOUDS: &str = "2019-05-01";
/// The first version that answers the cloud that was asked, as one object: `az cloud register` reads that.
const FIRST_WITH_ONE_CLOUD: &str = "2022-01-01";

/// GET /metadata/endpoints: where a client of this cloud signs in and calls (documentation; the forms that az and the
/// SDKs read).
pub(super) fn metadata(state: &State, call: &Call, version: &str) -> Outcome {
    if call.method != Method::GET {
        return Err(method_not_allowed(&call.method));
    }
    let base = |name: &str| call.bases.urls.get(name).cloned().unwrap_or_else(|| call.base.clone());
    let (arm, entra, graph) = (call.base.clone(), base("entra"), base("graph"));
    let audiences = json!(["https://management.core.windows.net/", "https://management.azure.com/"]);
    let one_cloud = json!({
        // Not `AzureCloud`: az gives a cloud of that name the public login endpoint, whatever stands here.
        "name": "PortcullisSandbox",
        "portal": "https://portal.azure.com",
        "authentication": {
            "loginEndpoint": entra,
            "audiences": audiences,
            "tenant": "common",
            "identityProvider": "AAD",
        },
        "resourceManager": arm,
        "activeDirectoryDataLake": "",
        "media": "",
        "microsoftGraphResourceId": "https://graph.microsoft.com/",
        "microsoftGraph": graph,
        "graph": graph,
        "graphAudience": "https://graph.windows.net/",
        "logAnalyticsResourceId": "https://api.loganalytics.io",
        "batch": "https://batch.core.windows.net/",
        "gallery": "",
        "vmImageAliasDoc": "",
        "sqlManagement": "",
        "suffixes": {
            "storage": "core.windows.net",
            "keyVaultDns": "vault.azure.net",
            "acrLoginServer": "azurecr.io",
        },
    });
    if version < FIRST_WITH_CLOUDS {
        return Ok(Reply::ok(json!({
            "galleryEndpoint": "",
            "graphEndpoint": graph,
            "portalEndpoint": "https://portal.azure.com/",
            "authentication": {
                "loginEndpoint": format!("{entra}/"),
                "audiences": audiences,
                "tenant": state.tenant_id,
            },
        })));
    }
    if version < FIRST_WITH_ONE_CLOUD {
        return Ok(Reply::ok(json!([one_cloud])));
    }
    Ok(Reply::ok(one_cloud))
}

const SUBSCRIPTION_READ: &str = "Microsoft.Resources/subscriptions/read";

/// Tenants, subscriptions and resource groups.
pub(super) fn serve(state: &State, request: &Request, path: &Path) -> Outcome {
    let asks_whether_there = request.call.method == Method::HEAD && matches!(path.target, Target::Group);
    if request.call.method != Method::GET && !asks_whether_there {
        return Err(method_not_allowed(&request.call.method));
    }
    let subscription = path.subscription.as_deref().unwrap_or_default();
    match path.target {
        Target::Tenants => paging::reply(
            state,
            request,
            [json!({
                "id": format!("/tenants/{}", state.tenant_id),
                "tenantId": state.tenant_id,
                "countryCode": "DE",
                "displayName": "Portcullis sandbox",
                "domains": ["sandbox.example"],
                "tenantCategory": "Home",
                "tenantType": "AAD",
                "defaultDomain": "sandbox.example",
            })],
        ),
        Target::Subscriptions => {
            // Any role shows it: whether one without this action does, nobody says.
            let sees = |id: &str| {
                may(state, &request.caller, SUBSCRIPTION_READ, &format!("/subscriptions/{id}"))
                    || sees_subscription(state, &request.caller, id)
            };
            let seen = state.subscriptions.iter().filter(|s| sees(&s.id)).map(|s| body(state, s)).collect::<Vec<_>>();
            paging::reply(state, request, seen)
        }
        Target::Subscription => {
            if !sees_subscription(state, &request.caller, subscription) {
                let scope = format!("/subscriptions/{subscription}");
                demand(state, &request.caller, SUBSCRIPTION_READ, &scope)?;
            }
            let found = find(state, subscription).map(|s| Reply::ok(body(state, s)));
            found.ok_or_else(|| Refusal::gateway(404, "SubscriptionNotFound", "The subscription could not be found."))
        }
        Target::Groups | Target::Group => groups(state, request, path, subscription),
        Target::Metadata | Target::Entities | Target::Resource(_) => Err(method_not_allowed(&request.call.method)),
    }
}

fn groups(state: &State, request: &Request, path: &Path, subscription: &str) -> Outcome {
    let scope = match &path.group {
        Some(group) => format!("/subscriptions/{subscription}/resourceGroups/{group}"),
        None => format!("/subscriptions/{subscription}"),
    };
    let action = "Microsoft.Resources/subscriptions/resourceGroups/read";
    demand(state, &request.caller, action, &scope)?;
    let all = group_bodies(state, subscription);
    let Some(group) = &path.group else {
        return paging::reply(state, request, all);
    };
    demand_group(state, subscription, group)?;
    if request.call.method == Method::HEAD {
        return Ok(Reply::empty(StatusCode::NO_CONTENT));
    }
    let found = all.into_iter().find(|body| body["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(group)));
    found.map(Reply::ok).ok_or_else(|| group_not_found(group))
}

/// 404 unless the group is there: it is, when it is a resource of the world or holds one.
pub(super) fn demand_group(state: &State, subscription: &str, group: &str) -> Result<(), Refusal> {
    let id = format!("/subscriptions/{subscription}/resourceGroups/{group}");
    let holds_one = state.resources.under(&format!("{id}/")).next().is_some()
        || event_topics::are_in(state, subscription, group)
        || incidents::are_in(state, &id);
    if holds_one || state.resources.get(&id).is_some() {
        return Ok(());
    }
    Err(group_not_found(group))
}

/// Takes a resource away; its group stays, also when nothing else is in it.
pub(super) fn remove_resource(state: &mut State, id: &str) -> Option<Value> {
    let subscription = super::path::segment_after(id, "subscriptions").unwrap_or_default();
    if let Some(name) = super::path::segment_after(id, "resourceGroups") {
        let group = format!("/subscriptions/{subscription}/resourceGroups/{name}");
        if state.resources.get(&group).is_none() {
            let location = state.resources.get(id).and_then(|body| body.get("location").cloned());
            state.resources.put(json!({
                "id": group,
                "name": name,
                "type": GROUP_TYPE,
                "location": location.unwrap_or_else(|| json!("westeurope")),
                "properties": {"provisioningState": "Succeeded"},
            }));
        }
    }
    state.resources.remove(id)
}

fn group_not_found(group: &str) -> Refusal {
    Refusal::gateway(404, "ResourceGroupNotFound", format!("Resource group '{group}' could not be found."))
}

fn group_bodies(state: &State, subscription: &str) -> Vec<Value> {
    let mut bodies: std::collections::BTreeMap<String, Value> = std::collections::BTreeMap::new();
    for resource in state.resources.under(&format!("/subscriptions/{subscription}/resourceGroups/")) {
        let Some(name) = resource["id"].as_str().and_then(|id| super::path::segment_after(id, "resourceGroups")) else {
            continue;
        };
        let is_group = resource["type"].as_str().is_some_and(|t| t.eq_ignore_ascii_case(GROUP_TYPE));
        let key = name.to_ascii_lowercase();
        if is_group {
            bodies.insert(key, resource.clone());
        } else {
            bodies.entry(key).or_insert_with(|| {
                json!({
                    "id": format!("/subscriptions/{subscription}/resourceGroups/{name}"),
                    "name": name,
                    "type": GROUP_TYPE,
                    "location": resource.get("location").cloned().unwrap_or_else(|| json!("westeurope")),
                    "properties": {"provisioningState": "Succeeded"},
                })
            });
        }
    }
    bodies.into_values().collect()
}

/// The subscription of this id.
pub(super) fn find<'a>(state: &'a State, id: &str) -> Option<&'a Subscription> {
    state.subscriptions.iter().find(|s| s.id.eq_ignore_ascii_case(id))
}

fn body(state: &State, subscription: &Subscription) -> Value {
    json!({
        "id": format!("/subscriptions/{}", subscription.id),
        "authorizationSource": "RoleBased",
        "managedByTenants": [],
        "subscriptionId": subscription.id,
        "tenantId": state.tenant_id,
        "displayName": subscription.display_name,
        "state": "Enabled",
        "subscriptionPolicies": {
            "locationPlacementId": "Public_2014-09-01",
            "quotaId": "EnterpriseAgreement_2014-09-01",
            "spendingLimit": "Off",
        },
    })
}

/// GET `…/Microsoft.Security/pricings[/VirtualMachines]`: the Defender for Servers plan.
pub(super) fn pricing(state: &State, request: &Request, path: &Path, resource: &Resource) -> Outcome {
    if request.call.method != Method::GET {
        return Err(method_not_allowed(&request.call.method));
    }
    let subscription = path.subscription.as_deref().unwrap_or_default();
    let on = find(state, subscription).is_some_and(|s| s.jit_plan);
    let mut plan = json!({
        "id": format!("{}/providers/Microsoft.Security/pricings/VirtualMachines", resource.scope),
        "name": "VirtualMachines",
        "type": "Microsoft.Security/pricings",
        "properties": {
            "pricingTier": if on { "Standard" } else { "Free" },
            "freeTrialRemainingTime": "PT0S",
            "resourcesCoverageStatus": if on { "FullyCovered" } else { "NotCovered" },
        },
    });
    if on {
        plan["properties"]["subPlan"] = json!("P2");
    }
    match &resource.form {
        Form::Collection => Ok(Reply::ok(json!({ "value": [plan] }))),
        Form::Item if resource.name().eq_ignore_ascii_case("VirtualMachines") => Ok(Reply::ok(plan)),
        Form::Item | Form::Action(_) => Err(super::envelope::resource_not_found(&resource.id(), resource.kind.name())),
    }
}
