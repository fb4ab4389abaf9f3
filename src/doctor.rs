//! `portcullis doctor`: what the installation stands on, looked at one by one, each with what is wrong and what to do about it.
//! It reads, and changes nothing.

mod judged;
mod subscription;

use std::sync::Mutex;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use self::judged::{clocks, dead_letters, identity, mode, rows, subscriptions};
use crate::functions::App;
use crate::functions::alert::{ROWS, RowsFailing};
use crate::store::StoreError;

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// It does not work.
    Failing,
    /// It works, and somebody should know this.
    Attention,
    /// It could not be found out.
    NotKnown,
    /// It is as it must be.
    Well,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What was looked at: a word that stays the same.
    pub name: &'static str,
    /// How it stands.
    pub state: State,
    /// The subscription, where it is about one.
    pub subscription: Option<Uuid>,
    /// What was seen, in one sentence.
    pub said: String,
    /// What to do about it; empty where it is well.
    pub cure: String,
}

impl Check {
    fn well(name: &'static str, said: impl Into<String>) -> Self {
        Check { name, state: State::Well, subscription: None, said: said.into(), cure: String::new() }
    }

    fn not_well(name: &'static str, state: State, said: impl Into<String>, cure: impl Into<String>) -> Self {
        Check { name, state, subscription: None, said: said.into(), cure: cure.into() }
    }

    fn of(self, subscription: Uuid) -> Self {
        Check { subscription: Some(subscription), ..self }
    }
}

/// What an examination found.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Examination {
    /// Everything that was looked at, what does not work first.
    pub checks: Vec<Check>,
    /// Subscriptions for which there was no time: they are looked at alone, by their ids.
    pub left_out: Vec<Uuid>,
}

#[cfg(test)]
impl Examination {
    pub(crate) fn sample() -> Self {
        let check = Check::not_well("plan", State::NotKnown, "said", "cure").of(Uuid::from_u128(1));
        Examination { checks: vec![check], left_out: vec![Uuid::from_u128(2)] }
    }
}

/// So long subscriptions are looked at: a request of the API has 20 seconds, and its answer is to be in them.
const WITHIN: Duration = Duration::from_secs(15);

/// So many subscriptions are looked at at once.
const AT_ONCE: usize = 4;

impl App {
    /// Looks at everything, or at one subscription alone besides what all have in common.
    pub async fn examine(&self, only: Option<Uuid>, loopback: bool) -> Examination {
        let until = Instant::now() + WITHIN;
        let (governed, store, clock, dead, rules) =
            tokio::join!(self.governed_subscriptions(), self.store_checks(), self.clock(loopback), self.left(), self.rulebook.rules());
        // A token was asked for by now, if one can be had.
        let mut checks = vec![mode(self.mode), identity(self.azure.own.get(), governed.as_ref().err())];
        checks.extend(store);
        checks.push(clock);
        checks.push(dead_letters(dead.as_ref().map_err(ToString::to_string)));
        checks.push(judged::rules(rules.map(|_| ())));
        checks.push(subscriptions(governed.as_deref(), only));
        let mut governed = governed.unwrap_or_default();
        governed.retain(|one| only.is_none_or(|only| only == *one));
        let (found, left_out) = self.examine_all(&governed, until).await;
        checks.extend(found);
        checks.sort_by_key(|check| (check.state, check.name, check.subscription));
        Examination { checks, left_out }
    }

    async fn store_checks(&self) -> [Check; 2] {
        let store = async {
            self.store.check().await?;
            self.store.check_audits().await
        };
        let (store, failing) = tokio::join!(store, self.store.service::<RowsFailing>(ROWS));
        let since = failing.map(|held| held.and_then(|held| held.document.since));
        [judged::store(store.as_ref()), rows(since.as_ref().map_err(StoreError::to_string).copied())]
    }

    async fn clock(&self, loopback: bool) -> Check {
        let (store, bus) = tokio::join!(self.store.check(), self.azure.service_time());
        match (store, bus) {
            (Ok(store), Ok(bus)) => clocks(store, bus, (!loopback).then(instance_clock)),
            _ => Check::not_well("clock", State::NotKnown, "the store or the queues do not tell their time", "mend those first"),
        }
    }

    async fn examine_all(&self, governed: &[Uuid], until: Instant) -> (Vec<Check>, Vec<Uuid>) {
        let (found, left_out) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let lane = |number: usize| {
            let (found, left_out) = (&found, &left_out);
            async move {
                for one in governed.iter().skip(number).step_by(AT_ONCE) {
                    match timeout_at(until, self.examine_subscription(*one)).await {
                        Ok(checks) => extend(found, checks),
                        Err(_) => extend(left_out, [*one]),
                    }
                }
            }
        };
        tokio::join!(lane(0), lane(1), lane(2), lane(3));
        let taken = |all: Mutex<Vec<Uuid>>| all.into_inner().unwrap_or_default();
        let mut left_out = taken(left_out);
        left_out.sort();
        (found.into_inner().unwrap_or_default(), left_out)
    }
}

fn extend<T>(all: &Mutex<Vec<T>>, some: impl IntoIterator<Item = T>) {
    if let Ok(mut all) = all.lock() {
        all.extend(some);
    }
}

#[expect(clippy::disallowed_methods, reason = "whether this very clock is right is what is looked at; nothing is decided by it")]
fn instance_clock() -> DateTime<Utc> {
    std::time::SystemTime::now().into()
}
