//! What a PUT of the policy does to openings, and what a narrower policy takes.

use chrono::{DateTime, TimeDelta, Utc};
use portcullis_domain::arm_id::VmId;
use portcullis_domain::jit::{JitPolicy, RecordStatus};
use reqwest::Method;
use serde_json::{Value, json};

use super::asking::Opened;
use super::azure::Trouble;
use super::look::{Look, pause, policy_now, record_told};
use super::machine::{FIRST, JIT, Machine, Policy, WHOLE};
use super::opening::LONG;
use super::report::seen;
use super::{Probe, Stage};

/// What a PUT does to openings, it has done so long after the policy is settled.
const CLOSED_WITHIN: TimeDelta = TimeDelta::seconds(30);
/// How long the last opening is asked for, whose rules are deleted long before its end.
const LAST: TimeDelta = TimeDelta::minutes(10);
/// What is left of an opening at least, whose fate after a PUT is looked at.
const LEAST: TimeDelta = TimeDelta::minutes(3);
/// A policy is settled within this time.
const SETTLED_WITHIN: TimeDelta = TimeDelta::minutes(10);

impl Probe<'_> {
    /// Narrows the policy for the machine's port while it is open, asks for a part of what it then allows, and puts it back.
    pub(super) async fn writing(&self) -> Stage {
        let policy = self.policy()?;
        let mut opened = self.open_for(&[FIRST], LONG).await?;
        self.demand_untouched(policy).await?;
        self.tell("writing the policy as it is");
        let (look, lines) = self.written(policy, machines_of(policy), &opened, "the policy was written as it is, and settled").await?;
        self.also("What does a PUT that changes nothing do to what is open?", lines);
        if look.rules(&opened.asked).is_empty() || opened.asked.end - self.azure.now() < LEAST {
            opened = self.open_for(&[FIRST], LONG).await?;
        }
        // It took a while, in which somebody may have opened, or written the policy.
        self.demand_untouched(policy).await?;
        self.tell(&format!("writing the policy with {WHOLE} as the only source of port {} of this VM", policy.port.number));
        let narrowed = narrowed(policy, &self.machine.vm);
        self.note(|notes| notes.written = Some(narrowed.clone()));
        let (look, mut lines) = self.written(policy, &narrowed, &opened, "the policy was written and settled").await?;
        lines.insert(0, seen(opened.look.at, format!("the port was open to {FIRST}")));
        if look.at >= opened.asked.end {
            self.open("putClosesRecords", "The opening had ended before it was looked at.", lines);
            return self.source_inside().await;
        }
        let is_closed =
            look.rules(&opened.asked).is_empty() || look.record(&opened.asked).is_none_or(|record| record.status == RecordStatus::Revoked);
        self.found("putClosesRecords", json!(is_closed), lines);
        self.source_inside().await
    }

    /// A PUT might shut what others have open, or undo what they wrote.
    async fn demand_untouched(&self, policy: &Policy) -> Stage {
        let body = policy_now(&self.azure, policy).await?;
        demand_nobody_else(&body, &self.machine, self.azure.now())?;
        demand_as_it_was(&body, policy)
    }

    /// Writes these machines into the policy while a port is open, and looks at what has become of the opening then.
    async fn written(&self, policy: &Policy, machines: &Value, opened: &Opened, what: &str) -> Result<(Look, Vec<String>), Trouble> {
        self.put(policy, machines).await?;
        let at = self.settled_policy(policy).await?;
        self.azure.pass(CLOSED_WITHIN).await;
        let look = self.look().await?;
        let (rules, told) = (look.rules(&opened.asked).len(), record_told(&look, &opened.asked));
        let lines = vec![seen(at, what), seen(look.at, format!("of the opening there are {rules} rules, and its record is {told}"))];
        Ok((look, lines))
    }

    async fn source_inside(&self) -> Stage {
        let inside = self.ask(&[FIRST], self.azure.now() + self.machine.time_at_most(LAST)).await;
        let refused = match inside {
            Ok(asked) => {
                let line = seen(asked.start, format!("the policy allows {WHOLE}, and a request for {FIRST} was taken"));
                self.found("sourceMust", json!("lieInside"), vec![line]);
                return Ok(());
            }
            Err(trouble) if trouble.status() == Some(400) => trouble,
            Err(trouble) => return Err(trouble),
        };
        let asked = self.ask(&[WHOLE], self.azure.now() + self.machine.time_at_most(LAST)).await?;
        let line = format!("the policy allows {WHOLE}, and a request for it was taken, one for {FIRST} was not: {refused}");
        self.found("sourceMust", json!("equal"), vec![seen(asked.start, line)]);
        Ok(())
    }

    async fn put(&self, policy: &Policy, machines: &Value) -> Stage {
        let body = json!({"kind": policy.body["kind"].as_str().unwrap_or("Basic"), "properties": {"virtualMachines": machines}});
        self.azure.write_patiently(Method::PUT, &policy.path, JIT, Some(&body)).await.map(|_| ())
    }

    async fn settled_policy(&self, policy: &Policy) -> Result<DateTime<Utc>, Trouble> {
        let since = self.azure.now();
        loop {
            let body = policy_now(&self.azure, policy).await?;
            let now = self.azure.now();
            if body["properties"]["provisioningState"].as_str().is_some_and(|state| state.eq_ignore_ascii_case("Succeeded")) {
                return Ok(now);
            }
            if now - since > SETTLED_WITHIN {
                return Err(Trouble::Broken("The policy was written, and is not `Succeeded` ten minutes later.".to_owned()));
            }
            self.azure.pass(pause(since, now)).await;
        }
    }

    /// Puts the policy back as it was, if the probe wrote it; the error says why it could not.
    pub(super) async fn put_policy_back(&self) -> Stage {
        let Some(written) = self.noted(|notes| notes.written.clone()) else { return Ok(()) };
        let policy = self.policy()?;
        let now = policy_now(&self.azure, policy).await?;
        let machines = &now["properties"]["virtualMachines"];
        if is_same(machines, machines_of(policy)) {
            return Ok(());
        }
        if !is_same(machines, &written) {
            return Err(Trouble::Broken("Somebody else has written it meanwhile, and their words stay as they are.".to_owned()));
        }
        self.put(policy, machines_of(policy)).await?;
        self.settled_policy(policy).await.map(|_| ())
    }
}

fn machines_of(policy: &Policy) -> &Value {
    &policy.body["properties"]["virtualMachines"]
}

/// The machines of the policy, with one source alone for the port that is asked for.
fn narrowed(policy: &Policy, vm: &VmId) -> Value {
    let mut machines = machines_of(policy).clone();
    for entry in machines.as_array_mut().into_iter().flatten() {
        let is_it = entry["id"].as_str().is_some_and(|id| VmId::parse(id).is_ok_and(|id| id == *vm));
        let ports = entry.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten();
        for port in ports.filter(|port| is_it && port["number"] == policy.port.number) {
            if let Some(fields) = port.as_object_mut() {
                fields.remove("allowedSourceAddressPrefixes");
                fields.insert("allowedSourceAddressPrefix".to_owned(), json!(WHOLE));
            }
        }
    }
    machines
}

/// A PUT might shut what others have open.
fn demand_nobody_else(body: &Value, machine: &Machine, now: DateTime<Utc>) -> Stage {
    let read = JitPolicy::read(body).map_err(|problem| Trouble::Broken(format!("the JIT policy cannot be used: {}", problem.why)))?;
    let others = read.records.iter().find(|record| record.vm != machine.vm && record.may_be_open() && record.end > now);
    match others {
        None => Ok(()),
        Some(other) => Err(Trouble::Broken(format!(
            "{} of the same policy is open until {}, and a PUT might shut it: run the probe when nothing of the policy is open.",
            other.vm.name(),
            other.end.format("%H:%M:%S")
        ))),
    }
}

fn demand_as_it_was(body: &Value, policy: &Policy) -> Stage {
    match is_same(&body["properties"]["virtualMachines"], machines_of(policy)) {
        true => Ok(()),
        false => Err(Trouble::Broken("Somebody has written the policy since the probe began: run it again when nobody does.".to_owned())),
    }
}

/// Whether two lists of machines say the same, whatever the letters of their ids, the order of their fields, and fields without a value.
fn is_same(one: &Value, other: &Value) -> bool {
    plainly(one) == plainly(other)
}

fn plainly(value: &Value) -> Value {
    match value {
        Value::String(text) => json!(text.to_ascii_lowercase()),
        Value::Array(items) => items.iter().map(plainly).collect(),
        Value::Object(fields) => {
            fields.iter().filter(|(_, field)| !field.is_null()).map(|(name, field)| (name.clone(), plainly(field))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_machines_are_compared_by_what_they_say() {
        let one = json!([{"id": "/subscriptions/s/VM", "ports": [{"number": 22, "allowedSourceAddressPrefixes": null}]}]);
        let same = json!([{"ports": [{"number": 22}], "id": "/SUBSCRIPTIONS/s/vm"}]);
        assert!(is_same(&one, &same));
        assert!(!is_same(&one, &json!([{"id": "/subscriptions/s/VM", "ports": [{"number": 23}]}])));
        assert!(!is_same(&one, &json!([])));
    }
}
