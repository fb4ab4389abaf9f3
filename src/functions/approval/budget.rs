//! What somebody was approved in a day, for the rules that have a budget.

use chrono::{DateTime, Utc};
use portcullis_rules::decision::Decision;
use portcullis_rules::set::Rules;
use portcullis_rules::wish::Wish;

use super::super::{App, Stopped};
use crate::store::{Approvals, Held, StoreError, Written};

/// How often it is tried to enter an approval while other runs enter theirs.
const MOST_TRIES: usize = 8;

impl App {
    /// How many approvals without a person somebody got in the last day, but for this grant.
    pub(super) async fn approvals(&self, person: &str, now: DateTime<Utc>, but_for: &str) -> Result<u32, Stopped> {
        Ok(self.approvals_of(person).await?.document.in_a_day(now, but_for))
    }

    /// Enters a grant among what somebody was approved. Where there are more by then than it was decided on, the rules must say the
    /// same: else this run ends, and the next one is told what they say.
    pub(super) async fn enter_approval(
        &self,
        person: &str,
        now: DateTime<Utc>,
        grant: &str,
        decision: &Decision,
        rules: &Rules,
    ) -> Result<(), Stopped> {
        let _turn = self.sent.turn(&("approvals", person)).await;
        let lost = || Stopped::Lost(format!("what {person} is approved"));
        for _ in 0..MOST_TRIES {
            let Held { mut document, etag, .. } = self.approvals_of(person).await?;
            let others = document.in_a_day(now, grant);
            if !document.enter(grant, now) {
                return Ok(());
            }
            let by_now = Wish { approvals_today: others, ..decision.wish.clone() };
            if others > decision.wish.approvals_today && rules.decide(&by_now).outcome != decision.outcome {
                return Err(lost());
            }
            if let Written::Done { .. } = self.store.save_approvals(person, &document, etag.as_deref()).await? {
                return Ok(());
            }
        }
        Err(lost())
    }

    /// What cannot be read is kept elsewhere, and counts for nothing: it keeps no port open.
    async fn approvals_of(&self, person: &str) -> Result<Held<Approvals>, Stopped> {
        match self.store.approvals(person).await {
            Err(StoreError::Unreadable { name, why }) => {
                self.set_aside("approval", &name, &why).await?;
                Ok(self.store.approvals(person).await?)
            }
            read => Ok(read?),
        }
    }
}
