//! PUT and DELETE of a JIT policy. A PUT replaces: a VM that it does not name is out, with all of JIT's rules for it.

use chrono::TimeDelta;
use http::StatusCode;
use serde_json::{Value, json};

use crate::iso_duration;
use crate::state::{DueKind, State};

use super::Request;
use super::authorization::demand_linked;
use super::envelope::{Outcome, Refusal, Reply};
use super::jit::{bad_request, machines, port_number, same_region, vm_name};
use super::path::{Kind, Path, Resource, segment_after};
use super::{jit_initiate, jit_life, subscriptions};

/// Policy name and VM name together (documentation).
const LONGEST_NAMES: usize = 56;
/// Bounds of `maxRequestAccessDuration` (REST specification: 5 minutes to 1 day).
const SHORTEST: TimeDelta = TimeDelta::minutes(5);
const LONGEST: TimeDelta = TimeDelta::days(1);

/// Creates or replaces a policy: 200 with `Updating` at once, `Succeeded` later (recorded). The records stay with the
/// service; the answer shows only those that the request named (recorded 2023).
pub(super) fn put(state: &mut State, request: &Request, path: &Path, resource: &Resource) -> Outcome {
    let body: Value = request.json()?;
    let properties = &body["properties"];
    let machines = machines(properties)?;
    demand_machines(state, request, path, resource, &machines)?;
    for (vm, entry) in &machines {
        demand_ports(vm, entry)?;
    }

    let old = state.resources.get(&resource.id()).cloned();
    let id = old.as_ref().and_then(|old| old["id"].as_str()).map_or_else(|| resource.id(), str::to_owned);
    let kept = old.as_ref().map_or(json!([]), |old| old["properties"]["requests"].clone());
    let dropped: Vec<String> =
        vms(old.as_ref()).filter(|was| !machines.iter().any(|(vm, _)| vm.eq_ignore_ascii_case(was))).map(str::to_owned).collect();
    let location = resource.names.first().map_or("", String::as_str);
    let mut policy = json!({
        "kind": body["kind"].as_str().unwrap_or("Basic"),
        "properties": {
            "virtualMachines": properties["virtualMachines"],
            "requests": kept,
            "provisioningState": "Updating",
            "appendMode": false,
        },
        "id": id,
        "name": resource.name(),
        "type": Kind::JitPolicy.name(),
        "location": location,
    });
    state.resources.put(policy.clone());
    for vm in &dropped {
        jit_life::cleans(state, &id, vm);
    }
    let takes = state.switches.operation_seconds;
    if takes > 0 {
        let at = state.now + TimeDelta::seconds(takes);
        state.later(at, DueKind::PolicySettles { policy: id });
    } else {
        jit_life::settles(state, &id);
    }
    policy["properties"]["requests"] = match &properties["requests"] {
        Value::Array(named) => json!(named),
        _ => json!([]),
    };
    Ok(Reply::ok(policy))
}

/// Deletes a policy with all of JIT's rules for its VMs: 200, or 204 where there was none.
pub(super) fn delete(state: &mut State, resource: &Resource) -> Outcome {
    let id = resource.id();
    let Some(policy) = subscriptions::remove_resource(state, &id) else {
        return Ok(Reply::empty(StatusCode::NO_CONTENT));
    };
    let id = policy["id"].as_str().unwrap_or(&id).to_owned();
    for vm in vms(Some(&policy)) {
        jit_life::cleans(state, &id, vm);
    }
    Ok(Reply::empty(StatusCode::OK))
}

fn vms(policy: Option<&Value>) -> impl Iterator<Item = &str> {
    let entries = policy.and_then(|policy| policy["properties"]["virtualMachines"].as_array());
    entries.into_iter().flatten().filter_map(|entry| entry["id"].as_str())
}

fn demand_machines(state: &State, request: &Request, path: &Path, resource: &Resource, machines: &[(&str, &Value)]) -> Result<(), Refusal> {
    let id = resource.id();
    let name = resource.name();
    let action = format!("{}/write", Kind::JitPolicy.name());
    for (vm, _) in machines {
        let linked = ("Microsoft.Compute/virtualMachines/write", *vm);
        demand_linked(state, &request.caller, (&action, &id), linked)?;
    }
    let region = resource.names.first().map_or("", String::as_str);
    let same = |part: Option<&str>, of_vm: Option<&str>| match (part, of_vm) {
        (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
        _ => false,
    };
    let elsewhere: Vec<&str> = machines
        .iter()
        .map(|(vm, _)| *vm)
        .filter(|vm| {
            let place = state.resources.get(vm).and_then(|body| body["location"].as_str());
            !same(path.subscription.as_deref(), segment_after(vm, "subscriptions"))
                || !same(path.group.as_deref(), segment_after(vm, "resourceGroups"))
                || place.is_some_and(|place| !same_region(place, region))
        })
        .collect();
    if !elsewhere.is_empty() {
        return Err(bad_request(format!(
            "The following Virtual Machines are in a different cloud, subscription, location or resource group than the \
             JIT policy: {}",
            elsewhere.join(", ")
        )));
    }
    if machines.iter().any(|(vm, _)| state.resources.get(vm).is_none()) {
        return Err(bad_request(format!("Just-In-Time Network Access Policy: '{name}' contains non-existent virtual machines")));
    }
    for (index, (vm, _)) in machines.iter().enumerate() {
        if machines[..index].iter().any(|(other, _)| other.eq_ignore_ascii_case(vm)) {
            return Err(bad_request(format!("Virtual machine '{vm}' is named twice.")));
        }
        if name.chars().count() + vm_name(vm).chars().count() > LONGEST_NAMES {
            return Err(bad_request(format!(
                "The policy name '{name}', together with the targeted VM name '{}', must not exceed a total of \
                 {LONGEST_NAMES} characters.",
                vm_name(vm)
            )));
        }
    }
    Ok(())
}

fn demand_ports(vm: &str, entry: &Value) -> Result<(), Refusal> {
    let mut seen = Vec::new();
    for port in entry["ports"].as_array().into_iter().flatten() {
        let number = port_number(port)?;
        if seen.contains(&number) {
            return Err(bad_request(format!("Port {number} of '{vm}' is named twice.")));
        }
        seen.push(number);
        match port["protocol"].as_str() {
            // Recorded: an empty protocol is not caught before it does harm.
            Some("") => {
                return Err(Refusal::service(500, "InternalServerError", "Internal server error has occurred"));
            }
            Some(protocol) if ["TCP", "UDP", "*"].iter().any(|p| p.eq_ignore_ascii_case(protocol)) => {}
            _ => {
                return Err(bad_request(format!("Port {number} of '{vm}' has protocol {}. Allowed: TCP, UDP, *.", port["protocol"])));
            }
        }
        let text = port["maxRequestAccessDuration"].as_str().unwrap_or_default();
        if !iso_duration::parse(text).is_some_and(|longest| (SHORTEST..=LONGEST).contains(&longest)) {
            return Err(bad_request(format!(
                "Port {number} of '{vm}' has maxRequestAccessDuration '{text}'. It is an ISO 8601 duration from PT5M to P1D."
            )));
        }
        jit_initiate::sources(port)?;
    }
    Ok(())
}
