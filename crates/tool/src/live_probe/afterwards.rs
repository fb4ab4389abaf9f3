//! What JIT's records say later: how long they are kept, what a refused request leaves, and what becomes of one whose rules were deleted.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use portcullis_domain::time;
use serde_json::{Value, json};

use super::look::record_told;
use super::report::seen;
use super::{Probe, Stage};

/// What happens to a record at its end has happened so long after it.
const ENDED_WITHIN: TimeDelta = TimeDelta::minutes(2);

impl Probe<'_> {
    /// The oldest record that the policy listed at the beginning.
    pub(super) fn oldest_record(&self) {
        let Some(policy) = &self.machine.policy else { return };
        let records = policy.body["properties"]["requests"].as_array().into_iter().flatten();
        let starts: Vec<_> = records.filter_map(|record| time::parse(record["startTimeUtc"].as_str()?)).collect();
        let told = match starts.iter().min() {
            None => "the policy lists no record".to_owned(),
            Some(oldest) => {
                let days = (self.machine.began - *oldest).num_days();
                format!(
                    "of {} that the policy lists the oldest began {}, {days} days ago",
                    starts.len(),
                    oldest.format("%Y-%m-%d %H:%M:%S")
                )
            }
        };
        self.also("How long are records kept?", vec![seen(self.machine.began, told)]);
    }

    /// How many records there are of the probe's requests, by what they say.
    pub(super) async fn refusals_kept(&self) -> Stage {
        let (taken, refused) = self.noted(|notes| (notes.requests.len(), notes.refused));
        if refused == 0 {
            return Ok(());
        }
        let look = self.look().await?;
        let mut by_status: BTreeMap<String, usize> = BTreeMap::new();
        for record in look.own(&self.machine) {
            *by_status.entry(String::from(record.status.clone())).or_default() += 1;
        }
        let told: Vec<String> = by_status.iter().map(|(status, count)| format!("{count} `{status}`")).collect();
        let line = format!(
            "JIT took {taken} requests and refused {refused} with 400; of the probe's there are these records: {}",
            told.join(", ")
        );
        self.also("Does a request that is refused leave a record?", vec![seen(look.at, line)]);
        Ok(())
    }

    /// What the record of the last request has become after its end, whose rules were deleted when all was put back. No newer request
    /// has taken its place.
    pub(super) async fn end_of_deleted(&self) -> Stage {
        let is = |question: &str, answer: Value| self.answered(question) == Some(answer);
        // Where a rule comes back, or the PUT that put the policy back took it away, something else became of it.
        let is_told =
            (is("deletedRuleReturns", json!("never")) || is("deletedRuleReturns", json!("once"))) && is("putClosesRecords", json!(false));
        let Some(asked) = self.noted(|notes| notes.last.clone()).filter(|_| is_told) else { return Ok(()) };
        let ended = asked.end + ENDED_WITHIN;
        if self.azure.now() < ended {
            self.tell(&format!("waiting until {}, for what becomes of the record whose rules were deleted", ended.format("%H:%M:%S")));
            self.azure.pass(ended - self.azure.now()).await;
        }
        let look = self.look().await?;
        let line = format!("the record that ended at {} is {}", asked.end.format("%H:%M:%S"), record_told(&look, &asked));
        self.also("What does a record whose rules were deleted become at its end?", vec![seen(look.at, line)]);
        Ok(())
    }
}
