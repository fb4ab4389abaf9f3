//! The records of a JIT policy (`properties.requests`), which Azure gives no id: here its start is a record's key.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::state::State;

use super::instants;
use super::nsg::listed_mut;

/// What a record says of one port of one VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordPort {
    /// The record's key, its `startTimeUtc`.
    pub record: String,
    /// The VM's id.
    pub vm: String,
    /// The port's number.
    pub number: u16,
    /// Whom it is to let in.
    pub sources: Vec<String>,
    /// When it ends.
    pub end: Option<DateTime<Utc>>,
    /// Its status, as it stands there.
    pub status: String,
}

impl RecordPort {
    /// Whether JIT holds it open, or is about to.
    pub fn is_live(&self) -> bool {
        ["Initiating", "Initiated"].contains(&self.status.as_str())
    }

    /// Whether it is about this port of this VM.
    pub fn is_of(&self, vm: &str, number: u16) -> bool {
        self.number == number && self.vm.eq_ignore_ascii_case(vm)
    }
}

/// Every port of every record of a policy.
pub fn all(policy: &Value) -> Vec<RecordPort> {
    let mut found = Vec::new();
    for record in policy["properties"]["requests"].as_array().into_iter().flatten() {
        for vm in record["virtualMachines"].as_array().into_iter().flatten() {
            for port in vm["ports"].as_array().into_iter().flatten() {
                found.extend(read(record, vm, port));
            }
        }
    }
    found
}

fn read(record: &Value, vm: &Value, port: &Value) -> Option<RecordPort> {
    let many = port["allowedSourceAddressPrefixes"].as_array().into_iter().flatten();
    let one = port["allowedSourceAddressPrefix"].as_str();
    Some(RecordPort {
        record: record["startTimeUtc"].as_str()?.to_owned(),
        vm: vm["id"].as_str()?.to_owned(),
        number: u16::try_from(port["number"].as_u64()?).ok()?,
        sources: one.into_iter().chain(many.filter_map(Value::as_str)).map(str::to_owned).collect(),
        end: port["endTimeUtc"].as_str().and_then(instants::parse),
        status: port["status"].as_str().unwrap_or_default().to_owned(),
    })
}

/// The records of the policy of this id; none if it is gone.
pub(super) fn of(state: &State, policy: &str) -> Vec<RecordPort> {
    state.resources.get(policy).map(all).unwrap_or_default()
}

/// Writes the state of a record's port.
pub(super) fn set_status(state: &mut State, policy: &str, port: &RecordPort, status: &str, reason: &str) {
    let Some(policy) = state.resources.get_mut(policy) else { return };
    visit(policy, port, |found| {
        found["status"] = json!(status);
        found["statusReason"] = json!(reason);
    });
}

fn visit(policy: &mut Value, port: &RecordPort, mut change: impl FnMut(&mut Value)) {
    for record in listed_mut(policy, "/properties/requests") {
        if record["startTimeUtc"].as_str() != Some(&port.record) {
            continue;
        }
        for vm in listed_mut(record, "/virtualMachines") {
            if !vm["id"].as_str().is_some_and(|id| id.eq_ignore_ascii_case(&port.vm)) {
                continue;
            }
            for found in listed_mut(vm, "/ports") {
                if found["number"].as_u64() == Some(u64::from(port.number)) {
                    change(found);
                }
            }
        }
    }
}

/// Takes a record's port away, and what is empty without it.
pub(super) fn remove(state: &mut State, policy: &str, port: &RecordPort) {
    let Some(policy) = state.resources.get_mut(policy) else { return };
    visit(policy, port, |found| found["number"] = Value::Null);
    let is_full = |owner: &Value, list: &str| owner[list].as_array().is_some_and(|list| !list.is_empty());
    let Some(records) = policy.pointer_mut("/properties/requests").and_then(Value::as_array_mut) else { return };
    for record in records.iter_mut() {
        let Some(vms) = record["virtualMachines"].as_array_mut() else { continue };
        for vm in vms.iter_mut() {
            if let Some(ports) = vm["ports"].as_array_mut() {
                ports.retain(|port| !port["number"].is_null());
            }
        }
        vms.retain(|vm| is_full(vm, "ports"));
    }
    records.retain(|record| is_full(record, "virtualMachines"));
}

/// A start that no other record of the policy has: two in one instant lie a tenth of a microsecond apart.
pub(super) fn new_key(policy: &Value, now: DateTime<Utc>) -> String {
    let taken = |key: &str| {
        let records = policy["properties"]["requests"].as_array().into_iter().flatten();
        records.into_iter().any(|record| record["startTimeUtc"].as_str() == Some(key))
    };
    let mut at = now;
    loop {
        let key = instants::seven_digits(at);
        if !taken(&key) {
            return key;
        }
        at += chrono::TimeDelta::nanoseconds(100);
    }
}
