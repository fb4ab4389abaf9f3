//! Asking JIT to open, and waiting for what becomes of it.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use portcullis_domain::jit::RecordStatus;
use portcullis_domain::source::Sources;
use portcullis_domain::time;
use reqwest::Method;
use serde_json::{Value, json};

use super::Probe;
use super::azure::Trouble;
use super::look::{Asked, Look, pause};
use super::machine::{JIT, Policy};

/// The longest that a record is waited for, and a write of a group.
const PATIENCE: TimeDelta = TimeDelta::minutes(10);
/// A rule that its record says is there may be seen this much later.
const RULE_LATE: TimeDelta = TimeDelta::minutes(1);

/// What became of a request.
pub(super) struct Opened {
    /// The request.
    pub asked: Asked,
    /// The first look at which its record was no longer `Initiating`.
    pub look: Look,
    /// The time of the look before.
    pub before: DateTime<Utc>,
}

impl Probe<'_> {
    /// The policy, without which nothing of JIT can be asked.
    pub(super) fn policy(&self) -> Result<&Policy, Trouble> {
        let why = "Defender for Servers Plan 2 is off, and JIT answers nothing: turn it on, and run the probe again.";
        self.machine.policy.as_ref().ok_or_else(|| Trouble::Broken(why.to_owned()))
    }

    /// One look at policy and groups.
    pub(super) async fn look(&self) -> Result<Look, Trouble> {
        Look::take(&self.azure, &self.machine, self.policy()?).await
    }

    /// Asks JIT once to open to these sources until this time.
    pub(super) async fn ask(&self, sources: &[&str], end: DateTime<Utc>) -> Result<Asked, Trouble> {
        let policy = self.policy()?;
        let before = Look::at_groups(&self.azure, &self.machine).await?;
        let end = end.to_rfc3339_opts(SecondsFormat::Secs, true);
        let mut port = json!({"number": policy.port.number, "endTimeUtc": end});
        match sources {
            [one] => port["allowedSourceAddressPrefix"] = json!(one),
            many => port["allowedSourceAddressPrefixes"] = json!(many),
        }
        let body = json!({
            "virtualMachines": [{"id": policy.vm, "ports": [port]}],
            "justification": "portcullis live-probe: the source is an address of documentation",
        });
        self.note(|notes| notes.asked_jit = true);
        let answer = self.azure.write_patiently(Method::POST, &format!("{}/initiate", policy.path), JIT, Some(&body)).await;
        let answer = answer.inspect_err(|trouble| self.note(|notes| notes.refused += usize::from(trouble.status() == Some(400))))?;
        let text = |field: &str| answer.body[field].as_str().unwrap_or_default().to_owned();
        self.note(|notes| notes.requests.push(answer.correlation.clone()));
        let asked = Asked {
            start: time::parse(&text("startTimeUtc")).unwrap_or(answer.at),
            end: time::parse(&end).unwrap_or(answer.at),
            sources: Sources::read(sources.iter().copied()),
            requestor: text("requestor"),
            correlation: answer.correlation,
            before: before.openings,
        };
        self.note(|notes| notes.last = Some(asked.clone()));
        Ok(asked)
    }

    /// Asks JIT to open for so long, or as long as the policy allows, and waits until it has.
    pub(super) async fn open_for(&self, sources: &[&str], long: TimeDelta) -> Result<Opened, Trouble> {
        let end = self.azure.now() + self.machine.time_at_most(long);
        self.tell(&format!("asking JIT to open to {} until {}", sources.join(" and "), end.format("%H:%M:%S")));
        let asked = self.ask(sources, end).await?;
        self.opened(asked).await
    }

    /// Waits until the record is no longer `Initiating` and its rule is seen.
    pub(super) async fn opened(&self, asked: Asked) -> Result<Opened, Trouble> {
        let mut before = asked.start;
        loop {
            let look = self.look().await?;
            let status = look.record(&asked).map(|record| record.status.clone());
            let waited = look.at - asked.start;
            match status {
                Some(RecordStatus::Initiated) => {
                    let first = look.clone();
                    self.rules_seen(&asked, look).await?;
                    return Ok(Opened { asked, look: first, before });
                }
                Some(RecordStatus::Initiating) | None if waited < PATIENCE => {}
                Some(status) => {
                    let status = String::from(status);
                    return Err(Trouble::Broken(format!(
                        "JIT's record became `{status}` after {} s, and opened nothing.",
                        waited.num_seconds()
                    )));
                }
                None => return Err(Trouble::Broken("JIT took the request, and no record of it was seen.".to_owned())),
            }
            before = look.at;
            self.azure.pass(pause(asked.start, look.at)).await;
        }
    }

    async fn rules_seen(&self, asked: &Asked, mut look: Look) -> Result<(), Trouble> {
        let since = look.at;
        while look.rules(asked).is_empty() {
            if look.at - since > RULE_LATE {
                return Err(Trouble::Broken("JIT says that it has opened, and no rule of its kind is in the groups of the VM.".to_owned()));
            }
            self.azure.pass(pause(since, look.at)).await;
            look = Look::at_groups(&self.azure, &self.machine).await?;
        }
        Ok(())
    }

    /// Waits until no write to a group is under way.
    pub(super) async fn settled(&self, since: DateTime<Utc>) -> Result<Look, Trouble> {
        self.groups_until(since, "the groups are settled", |look| look.settled).await
    }

    /// Looks at the groups again and again until something is so of them.
    pub(super) async fn groups_until(&self, since: DateTime<Utc>, what: &str, is_so: impl Fn(&Look) -> bool) -> Result<Look, Trouble> {
        loop {
            let look = Look::at_groups(&self.azure, &self.machine).await?;
            if is_so(&look) {
                return Ok(look);
            }
            if look.at - since > PATIENCE {
                return Err(Trouble::Broken(format!("It was not seen within {} minutes that {what}.", PATIENCE.num_minutes())));
            }
            self.azure.pass(pause(since, look.at)).await;
        }
    }
}

/// Seconds from one time to another, as an answer says them.
pub(super) fn seconds(from: DateTime<Utc>, until: DateTime<Utc>) -> Value {
    // Azure's headers have no fractions: what began within a second began with it.
    let milliseconds = (until - from).num_milliseconds().max(0);
    json!((milliseconds + 500) / 1000)
}
