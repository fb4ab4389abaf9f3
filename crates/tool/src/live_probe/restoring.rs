//! Putting everything back: the policy as it was, and no rule of the probe left, however the asking ended.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use portcullis_domain::arm_id::RuleId;

use super::machine::{FIRST, SECOND, WHOLE};
use super::{Probe, Stage};

/// Twice nothing, so far apart, is nothing: a rule may come back after seconds.
const APART: TimeDelta = TimeDelta::seconds(30);
const EVERY: TimeDelta = TimeDelta::seconds(5);
/// While JIT's own end is waited for.
const SELDOM: TimeDelta = TimeDelta::seconds(30);
/// A rule that is deleted so often and comes back is left to JIT's own end.
const DELETES: u32 = 3;
/// What is still there so long after the last end that was asked for, is left to people.
const AFTER_ENDS: TimeDelta = TimeDelta::minutes(30);
/// How often a look or a write may fail in a row.
const TRIES: u32 = 10;

impl Probe<'_> {
    /// Puts everything back, and gives what could not be, each with what to do.
    pub(super) async fn put_back(&self) -> Vec<String> {
        let mut left = Vec::new();
        if self.noted(|notes| notes.written.is_some()) {
            self.tell("putting the policy back as it was");
            // Told after the second time.
            let _first = self.policy_back().await;
        }
        if self.noted(|notes| notes.asked_jit) {
            self.tell("taking away what is left of the probe's openings");
            left = self.rules_gone().await;
        }
        // A PUT that was cut off may have come to its effect after all.
        if let Err(trouble) = self.policy_back().await {
            let path = self.machine.policy.as_ref().map(|policy| policy.path.as_str()).unwrap_or_default();
            left.push(format!(
                "The policy {path} may not be as it was. {trouble} Look whether the only source of its port for {} is {WHOLE}, and write what it \
                 was: {}",
                self.machine.vm.name(),
                self.machine.policy.as_ref().map(|policy| policy.port.sources.to_string()).unwrap_or_default()
            ));
        }
        left
    }

    async fn policy_back(&self) -> Stage {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.put_policy_back().await {
                Err(trouble) if trouble.status().is_none_or(|status| status >= 500) && tries < TRIES => self.azure.pass(EVERY).await,
                done => return done,
            }
        }
    }

    /// Deletes the rules of the probe until two looks show none; what cannot be deleted is waited for until JIT's own end.
    async fn rules_gone(&self) -> Vec<String> {
        let mut deletes: BTreeMap<RuleId, u32> = BTreeMap::new();
        let mut refused = BTreeMap::new();
        let (mut clear, mut failed, mut last_end) = (None, 0, self.azure.now());
        loop {
            let look = match self.look().await {
                Ok(look) => look,
                Err(trouble) if failed < TRIES => {
                    self.tell(&trouble.to_string());
                    failed += 1;
                    self.azure.pass(EVERY).await;
                    continue;
                }
                Err(trouble) => return vec![self.unseen(&trouble.to_string())],
            };
            failed = 0;
            let ends = look.own_live(&self.machine).into_iter().map(|record| record.end);
            last_end = ends.fold(last_end, std::cmp::Ord::max);
            if look.openings.is_empty() && !look.is_initiating(&self.machine) {
                match clear {
                    Some(since) if look.at - since >= APART => return Vec::new(),
                    Some(_) => {}
                    None => clear = Some(look.at),
                }
                self.azure.pass(APART).await;
                continue;
            }
            clear = None;
            if look.at > last_end + AFTER_ENDS {
                return look.openings.iter().map(|opening| still_there(&opening.rule, refused.get(&opening.rule))).collect();
            }
            let mut waits = true;
            for opening in &look.openings {
                let tried = deletes.entry(opening.rule.clone()).or_default();
                if *tried < DELETES && !refused.contains_key(&opening.rule) {
                    *tried += 1;
                    waits = false;
                    match self.delete(&opening.rule).await {
                        Err(trouble) if trouble.status().is_some() => drop(refused.insert(opening.rule.clone(), trouble)),
                        Ok(()) | Err(_) => {}
                    }
                }
            }
            self.azure.pass(if waits && !look.openings.is_empty() { SELDOM } else { EVERY }).await;
        }
    }

    fn unseen(&self, why: &str) -> String {
        let groups: Vec<&str> = self.machine.groups.iter().map(|group| group.id.name()).collect();
        format!(
            "Whether rules of the probe are left cannot be seen. {why} Delete rules with `JITRule-` in their name and a source of {} or {} in {}.",
            FIRST,
            SECOND,
            groups.join(" and ")
        )
    }
}

fn still_there(rule: &RuleId, refused: Option<&super::azure::Trouble>) -> String {
    match refused {
        Some(trouble) => format!("{rule} is still there. {trouble} Delete it by hand."),
        None => format!("{rule} comes back each time that it is deleted. Delete it by hand once JIT leaves it alone."),
    }
}
