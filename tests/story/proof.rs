//! What is held against every story: who wrote what and in which order, and whether a proof was one.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use portcullis_sandbox::arm::jit_rules::{JitRule, parse_name, vm_number};
use portcullis_sandbox::state::{Condition, LogEntry, State};
use portcullis_sandbox::{blob, estate};
use serde_json::{Value, json};

use super::{DELETE, INITIATE, Story, vm};

/// The two reads that prove a port shut are at least so far apart, and both come after the last delete.
const BETWEEN_READS: TimeDelta = TimeDelta::seconds(30);

/// No read proves anything earlier than this after the start of the port's newest record.
const AFTER_START: TimeDelta = TimeDelta::seconds(60);

/// The action by which JIT writes a rule.
const WRITE: &str = "Microsoft.Network/networkSecurityGroups/securityRules/write";

/// Whether the product did it, told by the identity that called.
pub fn is_ours(entry: &LogEntry) -> bool {
    entry.object_id == estate::PRODUCT_OBJECT_ID
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
    /// Holds whatever happened: who may write what, due entry, intent and audit record before each delete, a row for
    /// each audit record, no dead letter, nothing left over.
    pub fn holds(&self) {
        let (dead, grid) = self.world(|state| {
            let dead: Vec<String> =
                state.queues.iter().flat_map(|(name, q)| q.dead_letters.iter().map(move |m| format!("{name}: {}", m.body))).collect();
            (dead, state.event_grid.dead_letters.clone())
        });
        assert_eq!(dead, Vec::<String>::new(), "dead letters");
        assert_eq!(grid, Vec::<Value>::new(), "dead events");
        self.only_approval_changes_azure();
        self.each_delete_was_told_before();
        let rows: BTreeSet<String> =
            self.world(|state| state.rows.iter().map(|row| row.row["AuditId"].as_str().unwrap_or_default().to_owned()).collect());
        for audit in self.audits() {
            assert!(audit["id"].as_str().is_some_and(|id| rows.contains(id)), "no row for {audit}");
        }
        let left: Vec<String> = self.world(|state| {
            let names = state.containers["state"].blobs.keys();
            names.filter(|name| ["inbox/", "unsent/", "later/"].iter().any(|prefix| name.starts_with(prefix))).cloned().collect()
        });
        assert_eq!(left, Vec::<String>::new(), "left over");
    }

    /// Every write of the product says which function made it, and only `approval` changes Azure: by deleting JIT's
    /// allow rules, and by asking JIT to open.
    fn only_approval_changes_azure(&self) {
        for entry in self.world(|state| state.log.clone()).iter().filter(|entry| is_ours(entry)) {
            assert!(entry.function.is_some() && entry.invocation.is_some(), "a write outside every invocation: {entry:?}");
            if entry.face == "arm" {
                assert_eq!(entry.function.as_deref(), Some("approval"), "{entry:?}");
                let deletes = entry.what.eq_ignore_ascii_case(DELETE) && entry.target.to_ascii_lowercase().contains("-jitrule-");
                assert!(deletes || entry.what.eq_ignore_ascii_case(INITIATE), "{entry:?}");
            }
        }
    }

    /// Before each delete and each `initiate`, whatever came of it, a due entry of its VM for a later time stood; and since its last delete the
    /// same invocation had written the VM's record with If-Match and then an audit record of this delete and no other.
    fn each_delete_was_told_before(&self) {
        let log = self.world(|state| state.log.clone());
        let mut due = BTreeSet::new();
        let mut told = BTreeSet::new();
        for (place, entry) in log.iter().enumerate() {
            let done = entry.face == "blob" && entry.status < 300;
            match entry.what.as_str() {
                "put" if done && entry.target.starts_with("state/due/") => {
                    due.insert(entry.target.as_str());
                }
                "delete" if done => {
                    due.remove(entry.target.as_str());
                }
                _ if is_ours(entry) && [DELETE, INITIATE].iter().any(|effect| entry.what.eq_ignore_ascii_case(effect)) => {
                    let (audit, vm) = self.announced(&log[..place], entry);
                    assert!(told.insert(audit), "one audit record for two deletes: {entry:?}");
                    let (now, its) = (format!("state/due/{}", entry.at.format("%Y%m%dT%H%M%SZ")), format!("/{}/", key(&vm)));
                    let promised = due.iter().any(|name| **name > *now && !name.starts_with(&now) && name.contains(&its));
                    assert!(promised, "no later look was promised: {entry:?}\n{due:?}");
                }
                _ => {}
            }
        }
    }

    /// The audit record that announced a delete, and the VM that it is about.
    fn announced(&self, before: &[LogEntry], effect: &LogEntry) -> (String, String) {
        let run = before.iter().rev().filter(|entry| entry.invocation == effect.invocation);
        let run = run.take_while(|entry| ![DELETE, INITIATE].iter().any(|effect| entry.what.eq_ignore_ascii_case(effect)));
        let mut puts = run.filter(|entry| entry.face == "blob" && entry.what == "put" && entry.status < 300);
        let close = puts.by_ref().filter(|entry| entry.condition == Some(Condition::IfNoneMatch)).find_map(|entry| {
            let audit = self.audit_in(entry.target.strip_prefix("audit/")?)?;
            let announces = if effect.what.eq_ignore_ascii_case(DELETE) {
                audit["kind"] == "close" && same(&audit["about"], &effect.target)
            } else {
                audit["kind"] == "open"
            };
            announces.then(|| (entry.target.clone(), audit["vm"].as_str().unwrap_or_default().to_owned()))
        });
        let (audit, vm) = close.unwrap_or_else(|| panic!("no audit record before {effect:?}\n{}", self.told()));
        let record = format!("state/vm/{}.json", key(&vm));
        let is_intent = |entry: &LogEntry| entry.target == record && entry.condition == Some(Condition::IfMatch);
        assert!(puts.any(is_intent), "no intent before {audit}: {effect:?}");
        (audit, vm)
    }

    fn audit_in(&self, name: &str) -> Option<Value> {
        self.world(|state| serde_json::from_slice(&blob::content_bytes(&state.containers["audit"].blobs.get(name)?.content)).ok())
    }

    /// The ids of JIT's allow rules for this port of a VM that are in some group now.
    pub fn rules_of(&self, vm: &str, port: u16) -> Vec<String> {
        let number = vm_number(vm);
        let is_its = |rule: &String| rule.rsplit('/').next().and_then(parse_name).is_some_and(|name| name.number == number);
        self.allow_rules(port).into_iter().filter(is_its).collect()
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
        assert_eq!(self.rules_of(&vm(name), port), Vec::<String>::new());
        self.is_at_rest(&vm(name));
        let told = ["proved-shut", "grant-closed"].into_iter().flat_map(|kind| self.audits_of(kind));
        let of_port = told.filter(|audit| same(&audit["vm"], &vm(name)) && audit["port"] == port);
        of_port.map(|audit| instant(&audit["at"])).max().unwrap_or_else(|| panic!("nobody saw port {port} of {name} shut: {}", self.told()))
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
        let is_left = self.is_at_rest(vm);
        let mut proofs = self.audits_of("proved-shut");
        if is_left {
            proofs.extend(self.audits_of("proved-gone"));
        }
        let proofs = proofs.iter().filter(|audit| same(&audit["vm"], vm) && audit["port"] == port);
        let proof = proofs.map(|audit| instant(&audit["at"])).max();
        let proof = proof.unwrap_or_else(|| panic!("port {port} of {vm} was not proved shut: {:#?}", self.audits()));
        self.is_borne_out(vm, port, proof, is_left);
        self.holds();
    }

    /// Holds for a VM of which nothing has to be shut and no alarm stands, and gives whether something harmless is open. Nothing
    /// is due unless it is.
    fn is_at_rest(&self, vm: &str) -> bool {
        let record = self.record_of(vm).unwrap_or_else(|| panic!("{vm} was never looked at"));
        assert_eq!(record["closings"], json!({}), "{record:#}");
        assert_eq!(record["alarms"], json!({}), "{record:#}");
        let is_left = record["openings"] != json!([]);
        if !is_left {
            assert_eq!((&record["nextLook"], &record["wakeUp"]), (&Value::Null, &Value::Null), "{record:#}");
            assert_eq!(self.due_of(vm), Vec::<String>::new());
        }
        is_left
    }

    /// The names of the due entries of a VM.
    fn due_of(&self, vm: &str) -> Vec<String> {
        let its = format!("/{}/", key(vm));
        self.world(|state| {
            let names = state.containers["state"].blobs.keys();
            names.filter(|name| name.starts_with("due/") && name.contains(&its)).cloned().collect()
        })
    }

    /// Holds a proof against the world's own log: it came late enough after what was deleted, after what was asked
    /// for, and nothing was opened before it.
    fn is_borne_out(&self, vm: &str, port: u16, proof: DateTime<Utc>, is_left: bool) {
        let closes = self.audits_of("close").into_iter().filter(|close| same(&close["vm"], vm) && close["port"] == port);
        let rules: BTreeSet<String> = closes.filter_map(|close| Some(close["about"].as_str()?.to_ascii_lowercase())).collect();
        let deletes = self.ours(DELETE).into_iter().filter(|entry| rules.contains(&entry.target.to_ascii_lowercase()));
        let deleted = deletes.map(|entry| entry.at + self.carried_out_within(&entry)).max();
        let written = self.world(|state| state.activity.iter().filter_map(|entry| written(&entry.body, vm, port)).collect::<Vec<_>>());
        if let Some(deleted) = deleted {
            assert!(proof >= deleted + BETWEEN_READS, "proved at {proof}, deleted at {deleted}:\n{}", self.told());
            let back = |(at, rule): &&(DateTime<Utc>, String)| *at > deleted && *at <= proof && (!is_left || rules.contains(rule));
            assert_eq!(written.iter().find(back), None, "written before the proof at {proof}:\n{}", self.told());
        }
        let newest = self.world(|state| starts(state, vm, port).into_iter().filter(|start| *start <= proof).max());
        if let Some(newest) = newest {
            assert!(proof >= newest + AFTER_START, "proved at {proof}, asked for at {newest}:\n{}", self.told());
        }
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
    let records = policies.flat_map(|policy| policy["properties"]["requests"].as_array().into_iter().flatten());
    let of_port = |record: &&Value| {
        let vms = record["virtualMachines"].as_array().into_iter().flatten().filter(|one| same(&one["id"], vm));
        vms.flat_map(|one| one["ports"].as_array().into_iter().flatten()).any(|one| one["number"] == port)
    };
    records.filter(of_port).map(|record| instant(&record["startTimeUtc"])).collect()
}
