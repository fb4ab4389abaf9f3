//! What follows from deleting an allow rule of JIT's by hand.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use portcullis_domain::arm_id::RuleId;
use portcullis_domain::jit::RecordStatus;
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::azure::Trouble;
use super::look::{Asked, Look, pause, record_told};
use super::machine::{NETWORK, SECOND};
use super::opening::LONG;
use super::report::seen;
use super::{Probe, Stage};

/// A rule that comes back, comes back so soon, or is taken for one that does not.
const RETURNS_WITHIN: TimeDelta = TimeDelta::minutes(2);
/// A rule that was deleted is gone so soon.
const GONE_WITHIN: TimeDelta = TimeDelta::minutes(10);
/// An etag that no group has.
const NO_ETAG: &str = "W/\"00000000-0000-4000-8000-000000000000\"";

impl Probe<'_> {
    /// Deletes the rules of an opening, sees whether they come back, and what its record becomes.
    pub(super) async fn deleting(&self) -> Stage {
        let (asked, look) = self.something_open().await?;
        self.tell("deleting the rules that JIT wrote, and waiting whether they come back");
        let rules: Vec<RuleId> = look.rules(&asked).into_iter().map(|opening| opening.rule.clone()).collect();
        if rules.is_empty() {
            return Err(Trouble::Broken("The rule was gone before it was deleted: somebody else may delete JIT's rules.".to_owned()));
        }
        let mut lines = Vec::new();
        for (place, rule) in rules.iter().enumerate() {
            match place {
                0 => self.delete_on_condition(rule).await?,
                _ => self.delete(rule).await?,
            }
            lines.push(seen(self.azure.now(), format!("deleted {}", rule.name())));
        }
        let mut back = self.come_back(&asked, &rules, &mut lines).await?;
        let mut setting = "never";
        if back {
            for rule in &rules {
                self.delete(rule).await?;
                lines.push(seen(self.azure.now(), format!("deleted {} again", rule.name())));
            }
            back = self.come_back(&asked, &rules, &mut lines).await?;
            setting = if back { "always" } else { "once" };
        }
        self.found("deletedRuleReturns", json!(setting), lines);
        self.judge_record(&asked, back).await
    }

    /// An opening of the probe whose rules are there and whose groups are settled; a new one if none is left.
    async fn something_open(&self) -> Result<(Asked, Look), Trouble> {
        let opened = self.open_for(&[SECOND], LONG).await?;
        let look = self.settled(self.azure.now()).await?;
        Ok((opened.asked, look))
    }

    /// Deletes with an `If-Match` that cannot hold, and without it where Azure minds it.
    async fn delete_on_condition(&self, rule: &RuleId) -> Stage {
        let path = rule.to_string();
        let status = match self.azure.delete_if(&path, NETWORK, NO_ETAG).await {
            Ok(answer) => {
                let line = seen(answer.at, format!("deleted a rule with `If-Match: {NO_ETAG}`: Azure answered {}", answer.status.as_u16()));
                self.found("nsgIfMatch", json!("ignored"), vec![line]);
                answer.status
            }
            Err(trouble) if trouble.status() == Some(412) => {
                let line = seen(self.azure.now(), format!("deleted a rule with `If-Match: {NO_ETAG}`: {trouble}"));
                self.found("nsgIfMatch", json!("honoured"), vec![line]);
                self.azure.write_patiently(Method::DELETE, &path, NETWORK, None).await?.status
            }
            Err(trouble) => return Err(trouble),
        };
        let line = seen(self.azure.now(), format!("the delete of {} was answered {}", rule.name(), status.as_u16()));
        let setting = if status == StatusCode::ACCEPTED { "accepted" } else { "done" };
        self.found("deleteAnswers", json!(setting), vec![line]);
        if status == StatusCode::ACCEPTED && !self.is_answered("busyNsg") {
            let again = self.azure.write(Method::DELETE, &path, NETWORK, None).await.map(|_| ());
            self.judge_busy(&again, "while the delete of the same rule was under way");
        }
        Ok(())
    }

    pub(super) async fn delete(&self, rule: &RuleId) -> Stage {
        self.azure.write_patiently(Method::DELETE, &rule.to_string(), NETWORK, None).await.map(|_| ())
    }

    /// Whether rules that were deleted just now come back once they are gone.
    async fn come_back(&self, asked: &Asked, deleted: &[RuleId], lines: &mut Vec<String>) -> Result<bool, Trouble> {
        let since = self.azure.now();
        let mut absent = BTreeSet::new();
        let mut gone = None;
        loop {
            let look = Look::at_groups(&self.azure, &self.machine).await?;
            let there: BTreeSet<&RuleId> = look.rules(asked).into_iter().map(|opening| &opening.rule).collect();
            if let Some(rule) = there.iter().find(|rule| gone.is_some() || absent.contains(**rule)) {
                lines.push(seen(look.at, format!("{} was there again", rule.name())));
                // Those of other groups may be a moment behind.
                self.azure.pass(TimeDelta::seconds(5)).await;
                return Ok(true);
            }
            absent.extend(deleted.iter().filter(|rule| !there.contains(rule)));
            if there.is_empty() && gone.is_none() {
                gone = Some(look.at);
                lines.push(seen(look.at, "no rule of it was there"));
            }
            match gone {
                Some(gone) if look.at - gone >= RETURNS_WITHIN => {
                    lines.push(seen(look.at, "none had come back"));
                    return Ok(false);
                }
                Some(gone) => self.azure.pass(pause(gone, look.at)).await,
                None if look.at - since > GONE_WITHIN => {
                    return Err(Trouble::Broken("A rule was deleted, and is still there ten minutes later.".to_owned()));
                }
                // Closely all the while: a rule that comes back after seconds must be seen to be gone before.
                None => self.azure.pass(TimeDelta::seconds(1)).await,
            }
        }
    }

    async fn judge_record(&self, asked: &Asked, back: bool) -> Stage {
        let look = self.look().await?;
        if back {
            self.open("recordOfDeletedRule", "The rule comes back each time, so that its record is that of a rule.", Vec::new());
            return Ok(());
        }
        let told = record_told(&look, asked);
        let setting = match look.record(asked) {
            None => Some("disappears"),
            Some(record) => match record.status {
                RecordStatus::Initiated => Some("staysInitiated"),
                RecordStatus::Revoked if !record.was_replaced() && look.at < record.end => Some("revoked"),
                _ => None,
            },
        };
        let lines = vec![seen(
            look.at,
            format!("with its rules deleted, the record that was to end at {} is {told}", asked.end.format("%H:%M:%S")),
        )];
        match setting {
            Some(setting) => self.found("recordOfDeletedRule", json!(setting), lines),
            None => self.open("recordOfDeletedRule", "The record became something that the deletion does not explain.", lines),
        }
        Ok(())
    }
}
