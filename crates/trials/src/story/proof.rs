//! What is held against every story: who wrote what and in which order, and whether a proof was one.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use portcullis_domain::grant::{Grant, Phase};
use portcullis_domain::record::{Closing, VmRecord};
use portcullis_domain::source::Sources;
use portcullis_sandbox::arm::jit_records;
use portcullis_sandbox::arm::jit_rules::{JitRule, parse_name, vm_number};
use portcullis_sandbox::host::deliver::DIED;
use portcullis_sandbox::host::record::Outcome;
use portcullis_sandbox::state::{Condition, LogEntry, Message, State};
use portcullis_sandbox::{blob, estate};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{COUNTS, DELETE, INITIATE, Story, bystanders, id_of, rules_for, vm};
use crate::watch::machine_of;

/// The two reads that prove a port shut are at least so far apart, and both come after the last delete.
const BETWEEN_READS: TimeDelta = TimeDelta::seconds(30);

/// No read proves anything earlier than this after the start of the port's newest record.
const AFTER_START: TimeDelta = TimeDelta::seconds(60);

/// After so many deliveries a message is a dead letter.
const MOST_DELIVERIES: usize = 10;

/// The action by which JIT writes a rule.
const WRITE: &str = "Microsoft.Network/networkSecurityGroups/securityRules/write";

/// Whether the product did it, told by the identity that called.
pub fn is_ours(entry: &LogEntry) -> bool {
    entry.object_id == estate::PRODUCT_OBJECT_ID
}

/// Whether a rule's last part is what JIT names a rule that lets in.
fn is_named_as_jit_allows(id: &str) -> bool {
    id.rsplit('/').next().and_then(parse_name).is_some_and(|name| name.rule == JitRule::Allow)
}

/// Whether an audit record of an opening says what this `initiate` asked for: one port of one machine, and to whom.
fn is_about(audit: &Value, initiate: &LogEntry) -> bool {
    let [asked] = initiate.asked.as_slice() else { return false };
    let told: Sources = serde_json::from_value(audit["sources"].clone()).unwrap_or_default();
    let sources = Sources::read(asked.sources.iter().map(String::as_str));
    same(&audit["vm"], &asked.vm) && audit["port"] == asked.port && told == sources
}

/// What an opening is about, for those that are announced and tried.
fn place(vm: &str, port: &Value) -> String {
    format!("{} port {port}", vm.to_ascii_lowercase())
}

fn is_effect(entry: &LogEntry) -> bool {
    [DELETE, INITIATE].iter().any(|effect| entry.what.eq_ignore_ascii_case(effect))
}

fn same(one: &Value, other: &str) -> bool {
    one.as_str().is_some_and(|one| one.eq_ignore_ascii_case(other))
}

fn instant(value: &Value) -> DateTime<Utc> {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} is no instant"))
}

/// The key under which the store keeps a VM, or a group whose rules lead to none.
pub fn key(vm: &str) -> String {
    let lower = vm.to_ascii_lowercase();
    let parts: Vec<&str> = lower.split('/').collect();
    let kind = if parts[7] == "networksecuritygroups" { "~nsg" } else { "" };
    format!("{}/{}/{}{kind}", parts[2], parts[4], parts[8])
}

impl Story {
    /// Holds whatever happened: nothing is broken.
    pub fn holds(&self) {
        let broken = self.broken();
        assert!(broken.is_empty(), "{}\n{}", broken.join("\n"), self.told());
    }

    /// What does not hold of what must hold whatever happened: who may write what, due entry, intent and audit record before
    /// each effect, one audit record for each, a row for each audit record, no dead letter, nothing left over.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = self.dead_letters();
        broken.extend(self.changed_by_others());
        broken.extend(self.untold_effects());
        broken.extend(self.told_twice());
        broken.extend(self.without_rows());
        broken.extend(self.left_over());
        broken
    }

    /// A message may die where each of its ten deliveries ended with the handler's death, or while neither the store nor the
    /// queues could be reached, be it for want of a token; an event never.
    fn dead_letters(&self) -> Vec<String> {
        let failures = self.sandbox.host.as_ref().map(|host| host.record().failures()).unwrap_or_default();
        self.world(|state| {
            // Without a token neither can be reached.
            let stood_in_the_way =
                |face: &str, at| state.met.iter().any(|met| [face, "identity"].contains(&met.face.as_str()) && met.at == at);
            let is_excused = |queue: &str, message: &Message| {
                let of_message = format!("{queue} message {}, ", message.sequence);
                let failed = failures.iter().filter(|failure| failure.trigger.starts_with(&of_message));
                let excused = failed.filter(|failure| {
                    let Outcome::Failed { reason } = &failure.outcome else { return false };
                    reason.starts_with(DIED) || stood_in_the_way("blob", failure.at) && stood_in_the_way("servicebus", failure.at)
                });
                // One delivery may be handled twice at once.
                let deliveries: BTreeSet<&str> = excused.map(|failure| failure.trigger.as_str()).collect();
                deliveries.len() >= MOST_DELIVERIES
            };
            let messages = state.queues.iter().flat_map(|(name, queue)| queue.dead_letters.iter().map(move |message| (name, message)));
            let dead = messages.filter(|(queue, message)| !is_excused(queue, message));
            let mut broken: Vec<String> = dead.map(|(queue, message)| format!("a dead letter in {queue}: {}", message.body)).collect();
            broken.extend(state.event_grid.dead_letters.iter().map(|event| format!("a dead event: {event}")));
            broken
        })
    }

    /// Every write of the product says which function made it, and only `approval` changes Azure: by deleting JIT's
    /// allow rules, and by asking JIT to open.
    fn changed_by_others(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for entry in self.world(|state| state.log.clone()).iter().filter(|entry| is_ours(entry)) {
            if entry.function.is_none() || entry.invocation.is_none() {
                broken.push(format!("a write outside every invocation: {entry:?}"));
            }
            if entry.face == "arm" {
                if entry.function.as_deref() != Some("approval") {
                    broken.push(format!("Azure was changed by another function than approval: {entry:?}"));
                }
                let deletes = entry.what.eq_ignore_ascii_case(DELETE) && is_named_as_jit_allows(&entry.target);
                if !deletes && !entry.what.eq_ignore_ascii_case(INITIATE) {
                    broken.push(format!("Azure was changed in another way than by closing or opening: {entry:?}"));
                }
            }
        }
        let is_else = |its: &Option<String>, wanted: &str| its.as_deref().is_some_and(|its| !its.eq_ignore_ascii_case(wanted));
        let lets_nobody_in = |entry: &LogEntry| is_else(&entry.access, "Allow") || is_else(&entry.direction, "Inbound");
        let deletes = self.tried(DELETE).into_iter().filter(lets_nobody_in);
        broken.extend(deletes.map(|entry| format!("a rule that lets nobody in was to be deleted: {entry:?}")));
        broken.extend(self.world(bystanders::touched));
        broken
    }

    /// Before each delete and each `initiate`, whatever came of it, a due entry of its VM for a later time stood; and since its
    /// last effect the same invocation had written the VM's record with If-Match and then an audit record of this effect and
    /// no other.
    fn untold_effects(&self) -> Vec<String> {
        let log = self.world(|state| state.log.clone());
        let mut broken = Vec::new();
        let mut due = BTreeSet::new();
        for (place, entry) in log.iter().enumerate() {
            let done = entry.face == "blob" && entry.status < 300;
            match entry.what.as_str() {
                "put" if done && entry.target.starts_with("state/due/") => {
                    due.insert(entry.target.as_str());
                }
                "delete" if done => {
                    due.remove(entry.target.as_str());
                }
                _ if is_ours(entry) && is_effect(entry) => match self.announced(&log[..place], entry) {
                    Err(why) => broken.push(why),
                    Ok(vm) => {
                        let (now, its) = (format!("state/due/{}", entry.at.format("%Y%m%dT%H%M%SZ")), format!("/{}/", key(&vm)));
                        if !due.iter().any(|name| **name > *now && !name.starts_with(&now) && name.contains(&its)) {
                            broken.push(format!("no later look was promised: {entry:?}; due: {due:?}"));
                        }
                    }
                },
                _ => {}
            }
        }
        broken
    }

    /// The VM that an effect is about, by the audit record that announced it: one that was written since the run's last effect.
    fn announced(&self, before: &[LogEntry], effect: &LogEntry) -> Result<String, String> {
        let run = before.iter().rev().filter(|entry| entry.invocation == effect.invocation);
        let run = run.take_while(|entry| !is_effect(entry));
        let mut puts = run.filter(|entry| entry.face == "blob" && entry.what == "put" && entry.status < 300);
        let told = puts.by_ref().filter(|entry| entry.condition == Some(Condition::IfNoneMatch)).find_map(|entry| {
            let audit = self.audit_in(entry.target.strip_prefix("audit/")?)?;
            let announces = if effect.what.eq_ignore_ascii_case(DELETE) {
                audit["kind"] == "close" && same(&audit["about"], &effect.target)
            } else {
                audit["kind"] == "open" && is_about(&audit, effect)
            };
            announces.then(|| (entry.target.clone(), audit["vm"].as_str().unwrap_or_default().to_owned()))
        });
        let (audit, vm) = told.ok_or_else(|| format!("no audit record before {effect:?}"))?;
        let record = format!("state/vm/{}.json", key(&vm));
        let is_intent = |entry: &LogEntry| entry.target == record && entry.condition == Some(Condition::IfMatch);
        if puts.any(is_intent) { Ok(vm) } else { Err(format!("no intent before {audit}: {effect:?}")) }
    }

    /// What may be told once in a grant's life was told once; and what was announced was tried, by the run that announced it and
    /// before it announced that again, but for one announcement for each thing that stood in that run's way, and one if it failed.
    fn told_twice(&self) -> Vec<String> {
        const ONCE: [&str; 5] = ["granted", "adopted", "declined", "grant-ended", "grant-closed"];
        let audits = self.audits();
        let mut broken = Vec::new();
        let mut once = BTreeSet::new();
        for audit in &audits {
            let (kind, grant) = (audit["kind"].as_str().unwrap_or_default(), audit["grant"].as_str());
            if let Some(grant) = grant.filter(|_| ONCE.contains(&kind))
                && !once.insert((kind, grant))
            {
                broken.push(format!("told twice: {kind} of {grant}"));
            }
        }
        broken.extend(self.never_tried());
        broken
    }

    /// The audit records that announced a delete or an opening which their run did not try, beyond those that something was in the
    /// way of: a run begins one effect after the other, so that nothing is in the way of more than one.
    fn never_tried(&self) -> Vec<String> {
        let met: Vec<_> = self.world(|state| state.met.iter().filter(|met| met.effect != COUNTS).cloned().collect());
        let mut in_the_way: BTreeMap<String, usize> = BTreeMap::new();
        // A token is for every run of its time.
        let all_disturbed: BTreeSet<DateTime<Utc>> = met.iter().filter(|met| met.invocation.is_none()).map(|met| met.at).collect();
        let failed = self.sandbox.host.as_ref().map(|host| host.record().failures()).unwrap_or_default();
        for run in met.iter().filter_map(|met| met.invocation.clone()).chain(failed.into_iter().map(|failure| failure.id)) {
            *in_the_way.entry(run).or_default() += 1;
        }
        let mut not_tried = Vec::new();
        // What each run has announced and not tried yet, by what it is about.
        let mut announced: BTreeMap<(String, String), String> = BTreeMap::new();
        for entry in self.world(|state| state.log.clone()).iter().filter(|entry| is_ours(entry)) {
            let Some(run) = entry.invocation.clone() else { continue };
            if all_disturbed.contains(&entry.at) {
                continue;
            }
            if is_effect(entry) {
                if entry.what.eq_ignore_ascii_case(DELETE) {
                    announced.remove(&(run, entry.target.to_ascii_lowercase()));
                } else {
                    entry.asked.iter().for_each(|asked| drop(announced.remove(&(run.clone(), place(&asked.vm, &json!(asked.port))))));
                }
            } else if entry.face == "blob" && entry.what == "put" && entry.status < 300 {
                let Some(audit) = entry.target.strip_prefix("audit/").and_then(|name| self.audit_in(name)) else { continue };
                let about = match audit["kind"].as_str() {
                    Some("close") => audit["about"].as_str().unwrap_or_default().to_ascii_lowercase(),
                    Some("open") => place(audit["vm"].as_str().unwrap_or_default(), &audit["port"]),
                    _ => continue,
                };
                let earlier = announced.insert((run.clone(), about), entry.target.clone());
                not_tried.extend(earlier.map(|earlier| (run, format!("{earlier}, before {}", entry.target))));
            }
        }
        not_tried.extend(announced.into_iter().map(|((run, _), audit)| (run, audit)));
        not_tried.retain(|(run, _)| {
            let excuses = in_the_way.entry(run.clone()).or_default();
            let is_excused = *excuses > 0;
            *excuses = excuses.saturating_sub(1);
            !is_excused
        });
        not_tried.into_iter().map(|(_, audit)| format!("announced and not tried: {audit}")).collect()
    }

    fn without_rows(&self) -> Vec<String> {
        let rows: BTreeSet<String> =
            self.world(|state| state.rows.iter().map(|row| row.row["AuditId"].as_str().unwrap_or_default().to_owned()).collect());
        let audits = self.audits();
        let without = audits.iter().filter(|audit| audit["id"].as_str().is_none_or(|id| !rows.contains(id)));
        without.map(|audit| format!("an audit record without a row: {audit}")).collect()
    }

    fn left_over(&self) -> Vec<String> {
        self.world(|state| {
            let names = state.containers["state"].blobs.keys();
            let left = names.filter(|name| ["inbox/", "unsent/", "later/"].iter().any(|prefix| name.starts_with(prefix)));
            left.map(|name| format!("left over: {name}")).collect()
        })
    }

    fn audit_in(&self, name: &str) -> Option<Value> {
        self.world(|state| serde_json::from_slice(&blob::content_bytes(&state.containers["audit"].blobs.get(name)?.content)).ok())
    }

    /// The ids of JIT's allow rules that open this port of a VM in some group now.
    pub fn rules_of(&self, vm: &str, port: u16) -> Vec<String> {
        let number = vm_number(vm);
        self.world(|state| {
            let its = rules_for(state, port).into_iter().filter(|(group, rule)| machine_of(state, group, rule) == Some(number));
            its.map(|(_, rule)| id_of(rule)).collect()
        })
    }

    /// Holds for a port that was proved shut: no rule, no closing, no alarm, nothing due unless something harmless is
    /// left open, and a proof that the world bears out.
    pub fn is_proved_shut(&self, name: &str, port: u16) {
        self.is_vm_proved_shut(&vm(name), port);
    }

    /// The same of a VM anywhere.
    pub fn is_vm_proved_shut(&self, vm: &str, port: u16) {
        assert_eq!(self.rules_of(vm, port), Vec::<String>::new());
        self.is_proved(vm, port);
    }

    /// The same of a port that JIT itself may have shut: that its last grant is closed says as much. Gives when that was said.
    pub fn is_seen_shut(&self, name: &str, port: u16) -> DateTime<Utc> {
        self.seen_shut(&vm(name), port).unwrap_or_else(|why| panic!("{why}\n{}", self.told()))
    }

    /// When it was last said of a port that it is shut, if it is and all about it is at rest.
    pub fn seen_shut(&self, vm: &str, port: u16) -> Result<DateTime<Utc>, String> {
        let rules = self.rules_of(vm, port);
        if !rules.is_empty() {
            return Err(format!("port {port} of {vm} is open: {rules:?}"));
        }
        self.at_rest(vm, Some(port))?;
        let told = ["proved-shut", "proved-gone", "grant-closed"].into_iter().flat_map(|kind| self.audits_of(kind));
        let of_port = told.filter(|audit| same(&audit["vm"], vm) && audit["port"] == port);
        of_port.map(|audit| instant(&audit["at"])).max().ok_or_else(|| format!("nobody saw port {port} of {vm} shut"))
    }

    /// Whether what was found at a port was seen to be gone, at this time or later, and all about it is at rest: what JIT shut
    /// before anybody had to has no proof.
    pub fn saw_go(&self, vm: &str, port: u16, since: DateTime<Utc>) -> bool {
        let mut gone = self.audits_of("finding-gone").into_iter();
        self.at_rest(vm, Some(port)).is_ok()
            && gone.any(|audit| same(&audit["vm"], vm) && audit["port"] == port && instant(&audit["at"]) >= since)
    }

    /// The same of a port that harmless rules still open, which let in each of these sources and no other.
    pub fn is_proved_shut_but_for(&self, name: &str, port: u16, sources: &[&str]) {
        let stays = self.rules_of(&vm(name), port);
        let lets_in = |rule: &String| {
            let (group, rule) = rule.split_once("/securityRules/").unwrap_or_default();
            self.world(|state| {
                let rules = state.resources.get(group)?["properties"]["securityRules"].as_array()?.clone();
                let rule = rules.into_iter().find(|known| known["name"] == rule)?;
                rule["properties"]["sourceAddressPrefix"].as_str().map(str::to_owned)
            })
        };
        let stays: BTreeSet<Option<String>> = stays.iter().map(lets_in).collect();
        assert_eq!(stays, sources.iter().map(|source| Some((*source).to_owned())).collect());
        self.is_proved(&vm(name), port);
    }

    fn is_proved(&self, vm: &str, port: u16) {
        let is_left = self.at_rest(vm, None).unwrap_or_else(|why| panic!("{why}"));
        let mut proofs = self.audits_of("proved-shut");
        if is_left {
            proofs.extend(self.audits_of("proved-gone"));
        }
        let proofs = proofs.iter().filter(|audit| same(&audit["vm"], vm) && audit["port"] == port);
        let proof = proofs.map(|audit| instant(&audit["at"])).max();
        let proof = proof.unwrap_or_else(|| panic!("port {port} of {vm} was not proved shut: {:#?}", self.audits()));
        let mut lies = self.too_early(vm, port, proof);
        lies.extend(self.written_before(vm, port, proof, is_left));
        assert!(lies.is_empty(), "{}\n{}", lies.join("\n"), self.told());
        self.holds();
    }

    /// Whether nothing has to be shut at a VM, no alarm stands, and nothing is due.
    pub fn rests(&self, vm: &str) -> bool {
        self.at_rest(vm, None) == Ok(false)
    }

    /// Whether something is open at a VM of which nothing has to be shut and no alarm stands; nothing is due unless it is. Where a port is
    /// named, that holds of the port, about which nothing is waited for: another one may be shut still. The error says what is not at rest.
    fn at_rest(&self, vm: &str, port: Option<u16>) -> Result<bool, String> {
        let record = self.record_of(vm).ok_or_else(|| format!("{vm} was never looked at"))?;
        let record =
            VmRecord::deserialize(&record).map_err(|why| format!("what is remembered of {vm} cannot be read: {why}: {record:#}"))?;
        let of_port = |of: u16| port.is_none_or(|port| port == of);
        let is_closing = |(of, closing): (&u16, &Closing)| {
            of_port(*of) || closing.targets.iter().any(|target| port.is_some_and(|port| target.ports.contains(port)))
        };
        if record.closings.iter().any(is_closing) || record.alarms.values().any(|alarm| alarm.port.is_none_or(of_port)) {
            return Err(format!("something is being shut, or an alarm stands: {record:#?}"));
        }
        let waits = |of: &u16| port == Some(*of);
        let is_ending = |grant: &Grant| grant.phase == Phase::Closing && waits(&grant.port);
        if record.undecided.keys().any(waits) || record.initiates.keys().any(waits) || record.grants.iter().any(is_ending) {
            return Err(format!("port {port:?} is not at its end: {record:#?}"));
        }
        let is_left = !record.openings.is_empty();
        let is_all = record.closings.is_empty() && record.alarms.is_empty();
        let due = self.due_of(vm);
        if !is_left && is_all && (record.next_look.is_some() || record.wake_up.is_some() || !due.is_empty()) {
            return Err(format!("nothing is open and a look is due ({due:?}): {record:#?}"));
        }
        Ok(is_left)
    }

    /// The names of the due entries of a VM.
    fn due_of(&self, vm: &str) -> Vec<String> {
        let its = format!("/{}/", key(vm));
        self.world(|state| {
            let names = state.containers["state"].blobs.keys();
            names.filter(|name| name.starts_with("due/") && name.contains(&its)).cloned().collect()
        })
    }

    /// What the world's own log says against a proof: it came too early after the last delete, or after what was asked for last.
    fn too_early(&self, vm: &str, port: u16, proof: DateTime<Utc>) -> Vec<String> {
        let deleted = self.last_delete(vm, port).filter(|deleted| proof < *deleted + BETWEEN_READS);
        let deleted = deleted.map(|at| format!("port {port} of {vm} was said to be shut at {proof}, and was deleted at {at}"));
        deleted.into_iter().chain(self.asked_before(vm, port, proof)).collect()
    }

    /// What was asked for too shortly before a proof to be in it.
    pub fn asked_before(&self, vm: &str, port: u16, proof: DateTime<Utc>) -> Option<String> {
        let newest = self.world(|state| starts(state, vm, port).into_iter().filter(|start| *start <= proof).max());
        let asked = newest.filter(|newest| proof < *newest + AFTER_START);
        asked.map(|at| format!("port {port} of {vm} was said to be shut at {proof}, and was asked for at {at}"))
    }

    /// What was opened between the last delete of a port and its proof.
    fn written_before(&self, vm: &str, port: u16, proof: DateTime<Utc>, is_left: bool) -> Vec<String> {
        let Some(deleted) = self.last_delete(vm, port) else { return Vec::new() };
        let rules = self.deleted_rules(vm, port);
        let written = self.world(|state| state.activity.iter().filter_map(|entry| written(&entry.body, vm, port)).collect::<Vec<_>>());
        let back = |(at, rule): &&(DateTime<Utc>, String)| *at > deleted && *at <= proof && (!is_left || rules.contains(rule));
        written.iter().filter(back).map(|(at, rule)| format!("{rule} was written at {at}, before the proof at {proof}")).collect()
    }

    /// The rules of a port whose delete was announced, in lower case.
    fn deleted_rules(&self, vm: &str, port: u16) -> BTreeSet<String> {
        let closes = self.audits_of("close").into_iter().filter(|close| same(&close["vm"], vm) && close["port"] == port);
        closes.filter_map(|close| Some(close["about"].as_str()?.to_ascii_lowercase())).collect()
    }

    /// When the last delete of a rule of a port had its effect.
    fn last_delete(&self, vm: &str, port: u16) -> Option<DateTime<Utc>> {
        let rules = self.deleted_rules(vm, port);
        let deletes = self.ours(DELETE).into_iter().filter(|entry| rules.contains(&entry.target.to_ascii_lowercase()));
        deletes.map(|entry| entry.at + self.carried_out_within(&entry)).max()
    }

    /// An accepted delete has its effect when its operation ends.
    fn carried_out_within(&self, delete: &LogEntry) -> TimeDelta {
        match delete.status {
            202 => self.world(|state| TimeDelta::seconds(state.switches.operation_seconds)),
            _ => TimeDelta::zero(),
        }
    }
}

/// When an entry of the activity log says that JIT wrote an allow rule for this port of a VM, and which.
fn written(entry: &Value, vm: &str, port: u16) -> Option<(DateTime<Utc>, String)> {
    let rule = entry["resourceId"].as_str()?.to_ascii_lowercase();
    let name = entry["resourceId"].as_str()?.rsplit('/').next().and_then(parse_name)?;
    let body: Value = serde_json::from_str(entry["properties"]["requestbody"].as_str()?).ok()?;
    let is_it = same(&entry["operationName"]["value"], WRITE)
        && name.rule == JitRule::Allow
        && name.number == vm_number(vm)
        && same(&body["properties"]["destinationPortRange"], &port.to_string());
    // The log's time is a microsecond after the write's.
    is_it.then(|| (instant(&entry["eventTimestamp"]) - TimeDelta::microseconds(1), rule))
}

/// The starts of all records of this port of a VM.
fn starts(state: &State, vm: &str, port: u16) -> Vec<DateTime<Utc>> {
    let policies = state.resources.of_type("Microsoft.Security/locations/jitNetworkAccessPolicies");
    policies.flat_map(jit_records::all).filter(|one| one.is_of(vm, port)).map(|one| instant(&json!(one.record))).collect()
}
