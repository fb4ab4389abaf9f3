//! Bodies of Azure Resource Manager: nothing in one is so odd that the rest goes unread, and nothing odd goes untold.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use portcullis_domain::arm_id::{RuleId, VmId};
use portcullis_domain::jit::{JitPolicy, Problem};
use portcullis_domain::judge::Limits;
use portcullis_domain::network::{Nic, Vm, subnet_nics, subnet_nsg};
use portcullis_domain::nsg::{JitRuleName, Nsg, SecurityRule};
use portcullis_domain::opening::openings;
use portcullis_domain::reconcile::Mode;
use portcullis_domain::sweep::{VmSeen, orphans, records_of, remarks_of, survey};
use serde_json::Value;

use crate::checks::{SENTENCE, is_told, json, survives_json};

/// A JIT policy: every port of every VM and record is read, or is a problem with its place.
pub(crate) fn jit_policy(data: &[u8]) {
    let Some(body) = json(data) else { return };
    let read = JitPolicy::read(&body);
    assert_eq!(JitPolicy::of_text(&String::from_utf8_lossy(data)), read, "a text says what its tree says");
    let policy = match read {
        Ok(policy) => policy,
        Err(problem) => {
            assert_eq!(problem.place, "id");
            return is_told(&problem.why, SENTENCE);
        }
    };
    let counted = count(&body);
    let told = |place: &str| policy.problems.iter().filter(|problem| problem.place.starts_with(place)).count();
    let ports: usize = policy.vms.iter().map(|vm| vm.ports.len()).sum();
    assert_eq!((policy.vms.len(), ports + told("properties.virtualMachines[")), counted.of_vms(&policy.problems), "{:?}", policy.problems);
    assert!(policy.records.len() <= counted.asked);
    assert!(counted.requests == 0 || !policy.records.is_empty() || told("properties.requests[") > 0 || counted.asked == 0);
    policy.problems.iter().for_each(is_placed);
    for record in &policy.records {
        survives_json(record);
        assert!(record.length().num_milliseconds().abs() < TimeDelta::days(10_000 * 366).num_milliseconds());
    }
    let machines: BTreeSet<&VmId> = policy.vms.iter().map(|vm| &vm.vm).chain(policy.records.iter().map(|record| &record.vm)).collect();
    let policies = [policy.clone()];
    for vm in machines {
        for record in records_of(&policies, vm) {
            assert!(policy.records.contains(&record));
        }
        for remark in remarks_of(&policies, vm, true) {
            is_told(&remark.evidence, 2 * SENTENCE);
        }
    }
}

fn is_placed(problem: &Problem) {
    assert!(problem.place.starts_with("properties."), "{problem:?}");
    is_told(&problem.place, SENTENCE);
    is_told(&problem.why, SENTENCE);
}

/// How many there are of what a policy lists, whatever each is.
struct Counted {
    vms: usize,
    ports: Vec<usize>,
    requests: usize,
    asked: usize,
}

fn count(body: &Value) -> Counted {
    let list = |value: &Value, field: &str| value.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let properties = body.get("properties").cloned().unwrap_or_default();
    let vms = list(&properties, "virtualMachines");
    let requests = list(&properties, "requests");
    let asked = requests.iter().flat_map(|request| list(request, "virtualMachines")).map(|vm| list(&vm, "ports").len()).sum();
    Counted { vms: vms.len(), ports: vms.iter().map(|vm| list(vm, "ports").len()).collect(), requests: requests.len(), asked }
}

impl Counted {
    /// How many VMs there must be, and how many ports and problems of VMs.
    fn of_vms(&self, problems: &[Problem]) -> (usize, usize) {
        let unread: Vec<usize> =
            (0..self.vms).filter(|n| problems.iter().any(|p| p.place == format!("properties.virtualMachines[{n}].id"))).collect();
        let ports: usize = self.ports.iter().enumerate().filter(|(n, _)| !unread.contains(n)).map(|(_, ports)| ports).sum();
        (self.vms - unread.len(), ports + unread.len())
    }
}

/// The bodies of policies, groups, interfaces, subnets and machines, as a sweep lists them: no order of them and no
/// letter case of their ids changes what is seen.
pub(crate) fn estate(data: &[u8]) {
    let Some(body) = json(data) else { return };
    let list = |field: &str| body.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    for one in list("subnets") {
        subnet_nics(&one);
        told(subnet_nsg(&one));
    }
    list("machines").iter().for_each(|one| told(Vm::read(one)));
    list("rules").iter().for_each(|one| told(SecurityRule::read(one)));
    list("groups").iter().for_each(a_group);
    list("nics").iter().for_each(|one| told(Nic::read(one)));
    let mut estate = Estate::read(&body);
    estate.groups.iter().flat_map(|group| &group.rules).for_each(a_rule);
    let addresses: BTreeSet<_> = estate.nics.iter().flat_map(|nic| nic.addresses.iter().copied()).collect();
    for opening in openings(&estate.groups, &addresses) {
        survives_json(&opening);
        assert!(opening.leads_to(&addresses) && opening.nsg().is_some());
    }
    for (_, opening) in orphans(&estate.groups, &estate.nics) {
        assert!(!estate.nics.iter().filter(|nic| nic.vm.is_some()).any(|nic| opening.leads_to(&nic.addresses.iter().copied().collect())));
    }
    let (fingerprints, seen) = (estate.fingerprints(), estate.seen());
    estate.groups.iter_mut().for_each(|group| group.rules.reverse());
    estate.groups.reverse();
    estate.policies.reverse();
    assert_eq!(fingerprints, estate.fingerprints(), "the order in which Azure lists means nothing");
    assert_eq!(seen, Estate::read(&shouted(body)).seen(), "Azure gives the same id in any letter case");
}

/// A group that is read has each of its rules that JIT could have made.
fn a_group(body: &Value) {
    let read = Nsg::read(body);
    if let Ok(group) = &read {
        let rules = body.pointer("/properties/securityRules").and_then(Value::as_array).into_iter().flatten();
        // An id that can be read is what Azure knows it by, whatever it calls it besides.
        let unknown = rules.filter(|rule| rule.get("id").and_then(Value::as_str).is_none_or(|id| RuleId::parse(id).is_err()));
        for name in unknown.filter_map(|rule| rule.get("name")?.as_str()).filter(|name| JitRuleName::parse(name).is_some()) {
            assert!(group.rules.iter().any(|rule| rule.id.name() == name), "the rule {name} of JIT was left out");
        }
    }
    told(read);
}

/// What can be read of the lists of a subscription.
struct Estate {
    policies: Vec<JitPolicy>,
    groups: Vec<Nsg>,
    nics: Vec<Nic>,
}

impl Estate {
    fn read(body: &Value) -> Self {
        let list = |field: &str| body.get(field).and_then(Value::as_array).into_iter().flatten();
        Estate {
            policies: list("policies").filter_map(|one| JitPolicy::read(one).ok()).collect(),
            groups: list("groups").filter_map(|one| Nsg::read(one).ok()).collect(),
            nics: list("nics").filter_map(|one| Nic::read(one).ok()).collect(),
        }
    }

    fn fingerprints(&self) -> Vec<(String, String)> {
        let limits = Limits { longest_opening: TimeDelta::hours(8) };
        let seen = survey(self.policies.clone(), &self.groups, &self.nics);
        seen.iter().map(|(vm, one)| (vm.key(), one.fingerprint(Mode::Enforce, limits, ""))).collect()
    }

    /// Which machines are seen, with what of each is open.
    fn seen(&self) -> Vec<(String, BTreeSet<String>)> {
        let rules = |one: &VmSeen| one.openings.iter().map(|opening| opening.rule.arm_id().key().to_owned()).collect();
        survey(self.policies.clone(), &self.groups, &self.nics).iter().map(|(vm, one)| (vm.key(), rules(one))).collect()
    }
}

/// A body with all of its ids in capitals.
fn shouted(body: Value) -> Value {
    match body {
        Value::Object(fields) => {
            let field = |(name, value): (String, Value)| match value {
                Value::String(id) if name == "id" => (name, Value::String(id.to_ascii_uppercase())),
                value => (name, shouted(value)),
            };
            fields.into_iter().map(field).collect()
        }
        Value::Array(items) => items.into_iter().map(shouted).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => body,
    }
}

fn told<T, E: std::fmt::Display>(read: Result<T, E>) {
    if let Err(why) = read {
        is_told(&why, SENTENCE);
    }
}

/// What cannot be understood of a rule makes it none that is harmless.
fn a_rule(rule: &SecurityRule) {
    assert!(!rule.ports.is_empty() && !rule.sources.is_empty() && !rule.destinations.is_empty());
}
