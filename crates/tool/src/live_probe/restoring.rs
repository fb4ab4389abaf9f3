//! Putting everything back: the policy as it was, and no rule of the probe left, however the asking ended.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use portcullis_domain::arm_id::RuleId;

use super::azure::Trouble;
use super::look::Look;
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
        let mut tried = Tried::default();
        let (mut clear_since, mut last_end) = (None, self.azure.now());
        loop {
            let look = match self.look_patiently().await {
                Ok(look) => look,
                Err(trouble) => return vec![self.unseen(&trouble)],
            };
            let ends = look.own_live(&self.machine).into_iter().map(|record| record.end);
            last_end = ends.fold(last_end, Ord::max);
            if look.openings.is_empty() && !look.is_initiating(&self.machine) {
                let since = *clear_since.get_or_insert(look.at);
                if look.at - since >= APART {
                    return Vec::new();
                }
                self.azure.pass(APART).await;
                continue;
            }
            clear_since = None;
            if look.at > last_end + AFTER_ENDS {
                return look.openings.iter().map(|opening| tried.still_there(&opening.rule)).collect();
            }
            let is_left_to_jit = !look.openings.is_empty() && !self.delete_all(&look, &mut tried).await;
            self.azure.pass(if is_left_to_jit { SELDOM } else { EVERY }).await;
        }
    }

    async fn look_patiently(&self) -> Result<Look, Trouble> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.look().await {
                Err(trouble) if tries < TRIES => self.tell(&trouble.to_string()),
                looked => return looked,
            }
            self.azure.pass(EVERY).await;
        }
    }

    /// Deletes each rule that it makes sense to try to delete; whether there was any.
    async fn delete_all(&self, look: &Look, tried: &mut Tried) -> bool {
        let mut any = false;
        for opening in &look.openings {
            if tried.refused.contains_key(&opening.rule) || tried.deletes.get(&opening.rule) >= Some(&DELETES) {
                continue;
            }
            any = true;
            *tried.deletes.entry(opening.rule.clone()).or_default() += 1;
            match self.delete(&opening.rule).await {
                Err(trouble) if trouble.status().is_some() => drop(tried.refused.insert(opening.rule.clone(), trouble)),
                Ok(()) | Err(_) => {}
            }
        }
        any
    }

    fn unseen(&self, trouble: &Trouble) -> String {
        let groups: Vec<&str> = self.machine.groups.iter().map(|group| group.id.name()).collect();
        format!(
            "Whether rules of the probe are left cannot be seen. {trouble} Delete rules with `JITRule-` in their name and a source of {FIRST} or \
             {SECOND} in {}.",
            groups.join(" and ")
        )
    }
}

/// What became of deleting rules.
#[derive(Default)]
struct Tried {
    deletes: BTreeMap<RuleId, u32>,
    refused: BTreeMap<RuleId, Trouble>,
}

impl Tried {
    fn still_there(&self, rule: &RuleId) -> String {
        match self.refused.get(rule) {
            Some(trouble) => format!("{rule} is still there. {trouble} Delete it by hand."),
            None => format!("{rule} comes back each time that it is deleted. Delete it by hand once JIT leaves it alone."),
        }
    }
}
