//! What JIT does by itself: opening, closing, cleaning up, and writing back what somebody deleted.

use std::collections::{BTreeSet, HashMap};

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::state::{DueKind, State};
use crate::switches::{NewerInitiate, RecordOfDeletedRule, Returns};

use super::jit::entry;
use super::jit_records::{self, RecordPort};
use super::jit_rules::{self, JitRule, Place};
use super::nsg::{self, Blocked, Change};
use super::path::{Kind, segment_after};

/// JIT tries again this much later when somebody else writes the group.
const BUSY: TimeDelta = TimeDelta::seconds(1);
/// JIT tries again this much later when a lock or a policy stands in its way.
const FORBIDDEN: TimeDelta = TimeDelta::minutes(5);
/// A deleted rule comes back this much later, where it does.
const RETURN: TimeDelta = TimeDelta::seconds(5);

/// A record's ports go from `Initiating` to `Initiated`, each with its allow rules.
pub(super) fn opens(state: &mut State, policy: &str, record: &str) {
    let waiting: Vec<RecordPort> =
        jit_records::of(state, policy).into_iter().filter(|port| port.record == record && port.status == "Initiating").collect();
    let mut again = false;
    for port in waiting {
        match open(state, policy, &port) {
            Opening::Opened => jit_records::set_status(state, policy, &port, "Initiated", "UserRequested"),
            Opening::Expired => jit_records::set_status(state, policy, &port, "Revoked", "Expired"),
            Opening::Withdrawn => jit_records::set_status(state, policy, &port, "Revoked", "UserRequested"),
            // The word for it is not public; clients must take unknown ones.
            Opening::Impossible => jit_records::set_status(state, policy, &port, "Failed", "UserRequested"),
            Opening::Later => again = true,
        }
    }
    if again {
        let at = state.now + BUSY;
        state.later(at, DueKind::JitOpens { policy: policy.to_owned(), record: record.to_owned() });
    }
}

enum Opening {
    Opened,
    /// Its end came first.
    Expired,
    /// The policy no longer has the VM.
    Withdrawn,
    /// There is no group to write into, or a lock or a policy forbids it.
    Impossible,
    /// Somebody else writes a group.
    Later,
}

fn open(state: &mut State, policy: &str, port: &RecordPort) -> Opening {
    if port.end.is_some_and(|end| end <= state.now) {
        return Opening::Expired;
    }
    let body = state.resources.get(policy);
    let protocol = body.and_then(|body| entry(body, &port.vm)).and_then(|entry| {
        let mut ports = jit_rules::policy_ports(entry);
        ports.find(|(number, _)| *number == port.number).map(|(_, protocol)| protocol.to_owned())
    });
    let Some(protocol) = protocol else { return Opening::Withdrawn };
    let places = jit_rules::places(state, &port.vm);
    if places.is_empty() {
        return Opening::Impossible;
    }
    // All groups are looked at before the first is written, so that a retry finds none half done.
    let mut blocked = None;
    for place in &places {
        let change = Change::Put(jit_rules::allow_rule(state, policy, port, &protocol, place, 100));
        match nsg::may_write(state, &place.nsg, &[change]) {
            Ok(()) => {}
            Err(Blocked::Forbidden) => return Opening::Impossible,
            Err(Blocked::Busy) => blocked = Some(Opening::Later),
        }
    }
    if let Some(later) = blocked {
        return later;
    }
    for place in &places {
        let group = state.resources.get(&place.nsg);
        let priority = group.map_or(100, |group| nsg::free_priority(group, 100, 1));
        let rule = jit_rules::allow_rule(state, policy, port, &protocol, place, priority);
        // Nothing can have come between: the groups were free a moment ago, under the same lock of the world.
        let _written = nsg::world_write(state, &place.nsg, vec![Change::Put(rule)]);
    }
    match state.switches.newer_initiate {
        NewerInitiate::Replaces => replace_older(state, policy, port),
        NewerInitiate::Adds => {}
    }
    Opening::Opened
}

fn replace_older(state: &mut State, policy: &str, newer: &RecordPort) {
    let older: Vec<RecordPort> = jit_records::of(state, policy)
        .into_iter()
        .filter(|port| port.record != newer.record && port.is_live() && port.is_of(&newer.vm, newer.number))
        .filter(|port| started_before(port, newer))
        .collect();
    for port in older {
        close(state, policy, &port, ("Revoked", "NewerRequestInitiated"));
    }
}

fn started_before(port: &RecordPort, newer: &RecordPort) -> bool {
    super::instants::parse(&port.record) < super::instants::parse(&newer.record)
}

/// A record's port comes to its end, as late as the world is at that moment: the record says so, and its allow rules go.
pub(super) fn closes(state: &mut State, policy: &str, record: &str, vm: &str, number: u16) {
    let found = jit_records::of(state, policy).into_iter().find(|port| port.record == record && port.is_of(vm, number));
    let Some(port) = found else { return };
    let late = TimeDelta::seconds(state.switches.expiry_delay_seconds.max(0));
    match port.end.map(|end| end + late).filter(|at| *at > state.now && port.is_live()) {
        Some(at) => {
            state.later(at, DueKind::JitCloses { policy: policy.to_owned(), record: record.to_owned(), vm: vm.to_owned(), port: number })
        }
        None => close(state, policy, &port, ("Revoked", "Expired")),
    }
}

/// Ends a record's port and takes its rules away; what stands in the way is tried again later.
fn close(state: &mut State, policy: &str, port: &RecordPort, (status, reason): (&str, &str)) {
    if port.is_live() {
        jit_records::set_status(state, policy, port, status, reason);
    }
    let of_policy = jit_records::of(state, policy);
    let again = remove_where(state, &port.vm, |state, rule| jit_rules::opens(state, rule, policy, port, &of_policy));
    if let Some(pause) = again {
        let at = state.now + pause;
        state.later(
            at,
            DueKind::JitCloses { policy: policy.to_owned(), record: port.record.clone(), vm: port.vm.clone(), port: port.number },
        );
    }
}

/// Takes rules out of all groups of a VM; gives the pause after which to try again, if something was in the way.
fn remove_where(state: &mut State, vm: &str, wanted: impl Fn(&State, &Value) -> bool) -> Option<TimeDelta> {
    let mut again = None;
    for group in jit_rules::groups(state, vm) {
        let Some(body) = state.resources.get(&group) else { continue };
        let names = nsg::rules(body).iter().filter(|rule| wanted(state, rule)).filter_map(|rule| rule["name"].as_str().map(str::to_owned));
        let changes: Vec<Change> = names.map(Change::Remove).collect();
        let pause = match nsg::world_write(state, &group, changes) {
            Ok(()) => continue,
            Err(Blocked::Busy) => BUSY,
            Err(Blocked::Forbidden) => FORBIDDEN,
        };
        again = Some(again.map_or(pause, |other: TimeDelta| other.min(pause)));
    }
    again
}

/// Takes every rule of JIT's for a VM away that this policy made, unless the policy has the VM again.
pub(super) fn cleans(state: &mut State, policy: &str, vm: &str) {
    if state.resources.get(policy).is_some_and(|body| entry(body, vm).is_some()) {
        return;
    }
    let again = remove_where(state, vm, |state, rule| jit_rules::is_for(state, rule, policy, vm).is_some());
    if let Some(pause) = again {
        let at = state.now + pause;
        state.later(at, DueKind::JitCleans { policy: policy.to_owned(), vm: vm.to_owned() });
    }
}

/// A policy goes from `Updating` to `Succeeded`: its VMs have their deny rules, and, where the world says so, what
/// was open before is closed.
pub(super) fn settles(state: &mut State, policy: &str) {
    let mut busy = false;
    for (group, rule) in missing_deny_rules(state, policy) {
        busy |= nsg::world_write(state, &group, vec![Change::Put(rule)]) == Err(Blocked::Busy);
    }
    if busy {
        let at = state.now + BUSY;
        state.later(at, DueKind::PolicySettles { policy: policy.to_owned() });
        return;
    }
    if state.switches.put_closes_records {
        for port in jit_records::of(state, policy).into_iter().filter(RecordPort::is_live) {
            close(state, policy, &port, ("Revoked", "UserRequested"));
        }
    }
    if let Some(body) = state.resources.get_mut(policy) {
        body["properties"]["provisioningState"] = json!("Succeeded");
    }
}

/// Deny rules of a policy's VMs that are not there, or not as the policy says; each with a priority that is free also
/// beside the others.
fn missing_deny_rules(state: &State, policy: &str) -> Vec<(String, Value)> {
    let mut missing: Vec<(String, Value)> = Vec::new();
    let mut given: HashMap<String, BTreeSet<i64>> = HashMap::new();
    for (place, mut rule) in deny_rules(state, policy) {
        let there = state.resources.get(&place.nsg).and_then(|group| nsg::rule(group, rule["name"].as_str()?));
        let same = |field: &str| there.is_some_and(|there| there["properties"][field] == rule["properties"][field]);
        let fields = ["destinationPortRange", "destinationPortRanges", "destinationAddressPrefix", "protocol"];
        if fields.into_iter().all(same) {
            continue;
        }
        let given = given.entry(place.nsg.to_ascii_lowercase()).or_default();
        set_free_priority(state, &place, &mut rule, given);
        missing.push((place.nsg, rule));
    }
    missing
}

/// The deny rules of a policy's VMs, each with where it lands.
fn deny_rules(state: &State, policy: &str) -> Vec<(Place, Value)> {
    let machines = state.resources.get(policy).and_then(|body| body["properties"]["virtualMachines"].as_array());
    let mut rules = Vec::new();
    for vm in machines.into_iter().flatten() {
        for place in jit_rules::places(state, vm["id"].as_str().unwrap_or_default()) {
            let rule = jit_rules::deny_rule(state, policy, vm, &place);
            rules.push((place, rule));
        }
    }
    rules
}

/// Moves a deny rule on to a priority that no other about to be written has.
fn set_free_priority(state: &State, place: &Place, rule: &mut Value, given: &mut BTreeSet<i64>) {
    let mut priority = rule["properties"]["priority"].as_i64().unwrap_or(4096);
    // Rules that come before a permissive one count up from 1000, the others down from the end.
    let step = if priority >= 2048 { -1 } else { 1 };
    let group = state.resources.get(&place.nsg);
    while given.contains(&priority) && (101..4096).contains(&(priority + step)) {
        priority = group.map_or(priority + step, |group| nsg::free_priority(group, priority + step, step));
    }
    given.insert(priority);
    rule["properties"]["priority"] = json!(priority);
}

/// Puts the deny rules of a policy where they belong without a word in any log: for worlds that begin with them.
pub(crate) fn lay_deny_rules(state: &mut State, policy: &str) {
    for (group, rule) in missing_deny_rules(state, policy) {
        if let Some(group) = state.resources.get_mut(&group) {
            let mut rule = rule;
            rule["etag"] = group["etag"].clone();
            nsg::put_rule(group, rule);
        }
    }
}

/// Takes the deny rules of a policy away from where the switches have them land, without a word in any log either.
pub(crate) fn lift_deny_rules(state: &mut State, policy: &str) {
    for (place, laid) in deny_rules(state, policy) {
        let rules = state.resources.get_mut(&place.nsg).and_then(|group| group["properties"]["securityRules"].as_array_mut());
        rules.into_iter().for_each(|rules| rules.retain(|rule| rule["name"] != laid["name"]));
    }
}

/// Somebody other than JIT took a rule away. What JIT then does is the world's choice.
pub(super) fn rule_was_deleted(state: &mut State, nsg_id: &str, rule: &Value) {
    let Some((policy, port)) = record_of(state, nsg_id, rule) else { return };
    let id = format!("{nsg_id}/securityRules/{}", rule["name"].as_str().unwrap_or_default());
    let returns = match state.switches.deleted_rule_returns {
        Returns::Never => false,
        Returns::Once => !state.returned_rules.contains(&id.to_ascii_lowercase()),
        Returns::Always => true,
    };
    let live = port.is_live() && port.end.is_none_or(|end| end > state.now);
    if returns && live {
        let at = state.now + RETURN;
        state.later(at, DueKind::RuleReturns { nsg: nsg_id.to_owned(), rule: rule.clone() });
        return;
    }
    let of_policy = jit_records::of(state, &policy);
    let another_remains = jit_rules::groups(state, &port.vm).iter().any(|group| {
        let body = state.resources.get(group);
        body.is_some_and(|body| nsg::rules(body).iter().any(|rule| jit_rules::opens(state, rule, &policy, &port, &of_policy)))
    });
    if another_remains || !port.is_live() {
        return;
    }
    match state.switches.record_of_deleted_rule {
        RecordOfDeletedRule::StaysInitiated => {}
        RecordOfDeletedRule::Revoked => jit_records::set_status(state, &policy, &port, "Revoked", "UserRequested"),
        RecordOfDeletedRule::Disappears => jit_records::remove(state, &policy, &port),
    }
}

/// The record's port that an allow rule belongs to, with its policy's id.
fn record_of(state: &State, nsg_id: &str, rule: &Value) -> Option<(String, RecordPort)> {
    let name = jit_rules::parse_name(rule["name"].as_str()?)?;
    if name.rule != JitRule::Allow {
        return None;
    }
    let subscription = segment_after(nsg_id, "subscriptions")?;
    let scope = format!("/subscriptions/{subscription}/");
    let policies = state.resources.under(&scope).filter(|body| super::compute::is(body, Kind::JitPolicy));
    for policy in policies {
        let id = policy["id"].as_str().unwrap_or_default();
        let all = jit_records::all(policy);
        let mut fitting = all.iter().filter(|port| jit_rules::opens(state, rule, id, port, &all));
        if let Some(port) = fitting.clone().find(|port| port.is_live()).or_else(|| fitting.next()) {
            return Some((id.to_owned(), port.clone()));
        }
    }
    None
}

/// A deleted rule is written again, if its record still has time.
pub(super) fn rule_returns(state: &mut State, nsg_id: &str, mut rule: Value) {
    let live = record_of(state, nsg_id, &rule).is_some_and(|(_, port)| port.is_live() && port.end.is_none_or(|end| end > state.now));
    let Some(group) = state.resources.get(nsg_id).filter(|_| live) else { return };
    let name = rule["name"].as_str().unwrap_or_default().to_owned();
    if nsg::rule(group, &name).is_some() {
        return;
    }
    let own = rule["properties"]["priority"].as_i64().unwrap_or(100);
    rule["properties"]["priority"] = json!(nsg::free_priority(group, own, 1));
    match nsg::world_write(state, nsg_id, vec![Change::Put(rule.clone())]) {
        Ok(()) => {
            state.returned_rules.insert(format!("{nsg_id}/securityRules/{name}").to_ascii_lowercase());
        }
        Err(Blocked::Busy) => {
            let at = state.now + BUSY;
            state.later(at, DueKind::RuleReturns { nsg: nsg_id.to_owned(), rule });
        }
        Err(Blocked::Forbidden) => {}
    }
}
