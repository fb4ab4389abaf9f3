//! What a look at the policy and the groups shows of what the probe asked for.

use chrono::{DateTime, TimeDelta, Utc};
use portcullis_domain::jit::{JitPolicy, JitRecord, RecordStatus};
use portcullis_domain::nsg::Nsg;
use portcullis_domain::opening::{Opening, openings};
use portcullis_domain::source::Sources;
use portcullis_rules::plain::plain;
use serde_json::Value;

use super::azure::{Azure, Trouble};
use super::machine::{JIT, Machine, Policy, is_of_probe, read_groups};

/// An opening that JIT was asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// When the record begins, as JIT answered.
    pub start: DateTime<Utc>,
    /// Until when it was asked for.
    pub end: DateTime<Utc>,
    /// From where.
    pub sources: Sources,
    /// What JIT answered to who asked.
    pub requestor: String,
    /// What ties it to the activity log.
    pub correlation: String,
    /// What was open to addresses of documentation before.
    pub before: Vec<Opening>,
}

/// What was there at one time.
#[derive(Clone, Debug)]
pub struct Look {
    /// When, by Azure's time.
    pub at: DateTime<Utc>,
    /// The records of the machine.
    pub records: Vec<JitRecord>,
    /// JIT's allow rules to addresses of documentation, which the probe alone asks for.
    pub openings: Vec<Opening>,
    /// Whether no write to a group is under way.
    pub settled: bool,
}

/// Records of one and the same request differ by no more in their start.
const SAME: TimeDelta = TimeDelta::minutes(1);

impl Look {
    /// Looks at the policy and the groups.
    pub async fn take(azure: &Azure<'_>, machine: &Machine, policy: &Policy) -> Result<Look, Trouble> {
        let body = policy_now(azure, policy).await?;
        let read = JitPolicy::read(&body).map_err(|problem| Trouble::Broken(format!("the JIT policy cannot be used: {}", problem.why)))?;
        let records = read.records.into_iter().filter(|record| record.vm == machine.vm).collect();
        let look = Look::at_groups(azure, machine).await?;
        Ok(Look { records, ..look })
    }

    /// Looks at the groups alone, which spares JIT's budget of reads.
    pub async fn at_groups(azure: &Azure<'_>, machine: &Machine) -> Result<Look, Trouble> {
        let groups = read_groups(azure, &machine.groups).await?;
        Ok(Look::of(azure.now(), &groups, machine))
    }

    fn of(at: DateTime<Utc>, groups: &[Nsg], machine: &Machine) -> Look {
        let is_own = |opening: &Opening| is_of_probe(&opening.sources) && !machine.rules_before.contains(&opening.rule);
        Look {
            at,
            records: Vec::new(),
            openings: openings(groups, &machine.addresses).into_iter().filter(is_own).collect(),
            settled: groups.iter().all(Nsg::is_settled),
        }
    }

    /// The record of what was asked for.
    pub fn record(&self, asked: &Asked) -> Option<&JitRecord> {
        let is_it = |record: &&JitRecord| {
            record.sources == asked.sources
                && (record.end - asked.end).abs() <= TimeDelta::seconds(1)
                && (record.start - asked.start).abs() <= SAME
        };
        self.records.iter().filter(is_it).min_by_key(|record| (record.start - asked.start).abs())
    }

    /// The rules that let in what was asked for, or a part of it: nobody knows whether JIT writes one for each source, or one for several
    /// requests.
    pub fn rules(&self, asked: &Asked) -> Vec<&Opening> {
        let is_of = |opening: &&Opening| opening.sources.covers(&asked.sources) || asked.sources.covers(&opening.sources);
        let is_new = |opening: &&Opening| !asked.before.iter().any(|before| before.is_same(opening));
        self.openings.iter().filter(is_of).filter(is_new).collect()
    }

    /// The records that the probe may have asked for.
    pub fn own(&self, machine: &Machine) -> impl Iterator<Item = &JitRecord> {
        let began = machine.began - SAME;
        self.records.iter().filter(move |record| is_of_probe(&record.sources) && record.start >= began)
    }

    /// Those that are not over.
    pub fn own_live(&self, machine: &Machine) -> Vec<&JitRecord> {
        self.own(machine).filter(|record| record.may_be_open() && record.end > self.at).collect()
    }

    /// Whether a rule of the probe may still be about to come.
    pub fn is_initiating(&self, machine: &Machine) -> bool {
        self.own_live(machine).iter().any(|record| record.status == RecordStatus::Initiating)
    }
}

/// What became of the record of what was asked for, in words.
pub fn record_told(look: &Look, asked: &Asked) -> String {
    let of = |record: &JitRecord| format!("`{}`, `{}`", String::from(record.status.clone()), plain(&record.status_reason));
    look.record(asked).map_or_else(|| "gone".to_owned(), of)
}

/// The policy as it is now.
pub async fn policy_now(azure: &Azure<'_>, policy: &Policy) -> Result<Value, Trouble> {
    Ok(azure.get(&policy.path, JIT).await?.body)
}

/// Until when one looks every second; later every five. What takes longer is told to five seconds.
const CLOSELY: i64 = 125;

/// How long to wait before the next look, so that looks lie on whole steps after the time that is measured from.
pub fn pause(from: DateTime<Utc>, now: DateTime<Utc>) -> TimeDelta {
    match (now - from).num_seconds() {
        passed if passed < CLOSELY => TimeDelta::seconds(1),
        passed => TimeDelta::seconds(5 - passed % 5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_lie_on_whole_steps() {
        let from = DateTime::UNIX_EPOCH;
        for (passed, next) in [(-3, 1), (0, 1), (124, 1), (125, 5), (127, 3), (130, 5), (299, 1)] {
            assert_eq!(pause(from, from + TimeDelta::seconds(passed)), TimeDelta::seconds(next), "{passed}");
        }
    }
}
