//! `portcullis doctor`: what the installation stands on, looked at one by one, each with what is wrong and what to do about it.
//! It reads, and changes nothing.

mod asked_by_rules;
mod incidents;
mod judged;
pub mod subscription;

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use portcullis_domain::duration::spoken;
use portcullis_domain::initiate::Newer;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use self::judged::{clocks, dead_letters, identity, mode, rows, subscriptions};
use crate::functions::alert::{ROWS, RowsFailing};
use crate::functions::{App, in_lanes};
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

impl App {
    /// Looks at everything, or at one subscription alone besides what all have in common.
    ///
    /// `somebody` is the object id of a person whose groups may be asked for: of whoever wants the examination.
    pub async fn examine(&self, somebody: &str, only: Option<Uuid>, loopback: bool) -> Examination {
        let until = Instant::now() + WITHIN;
        let (governed, services, dead, rules, incidents, graph) = tokio::join!(
            self.governed_subscriptions(),
            self.services(loopback),
            self.left(),
            self.rulebook.rules(),
            self.examine_incidents(until),
            self.examine_graph(somebody, until),
        );
        let groups = self.examine_groups(governed.as_ref().ok().and_then(|all| all.first()), until).await;
        // A token was asked for by now, if one can be had.
        let mut checks = vec![mode(self.mode), self.settings(loopback), identity(self.azure.own.get(), governed.as_ref().err())];
        checks.extend(services);
        checks.extend([incidents, graph, groups]);
        checks.push(dead_letters(dead.as_ref().map_err(ToString::to_string)));
        checks.push(judged::rules(rules));
        checks.push(subscriptions(governed.as_deref(), only));
        let mut governed = governed.unwrap_or_default();
        governed.retain(|one| only.is_none_or(|only| only == *one));
        let (found, left_out) = self.examine_all(&governed, until).await;
        checks.extend(found);
        checks.sort_by_key(|check| (check.state, check.name, check.subscription));
        Examination { checks, left_out }
    }

    fn settings(&self, loopback: bool) -> Check {
        let named = match self.subscriptions.len() {
            0 => "every subscription that the app sees is governed".to_owned(),
            count => format!("the subscriptions that are named are governed, {count} in all"),
        };
        let said = format!(
            "{named}; an opening may stand for {}, one sweep of a subscription has {} machines shut at most, and a newer request of JIT {} an older one",
            spoken(self.limits.longest_opening),
            self.close_cap,
            match self.newer {
                Newer::Replaces => "takes the place of",
                Newer::Adds => "stands beside",
            }
        );
        judged::settings(said, self.has_telemetry || loopback)
    }

    /// What is seen of the store, the rows and the clocks.
    async fn services(&self, loopback: bool) -> [Check; 3] {
        let store = &self.store;
        let (state, audits, failing, bus) =
            tokio::join!(store.check(), store.check_audits(), store.service::<RowsFailing>(ROWS), self.azure.service_time());
        let since = failing.map(|held| held.and_then(|held| held.document.since));
        let clock = match (&state, bus) {
            (Ok(now), Ok(bus)) => clocks(*now, bus, (!loopback).then(instance_clock)),
            _ => Check::not_well("clock", State::NotKnown, "the store or the queues do not tell their time", "mend those first"),
        };
        let store = judged::store(state.as_ref().and(audits.as_ref()));
        [store, rows(since.as_ref().map_err(StoreError::to_string).copied()), clock]
    }

    async fn examine_all(&self, governed: &[Uuid], until: Instant) -> (Vec<Check>, Vec<Uuid>) {
        let ended = Mutex::new((Vec::new(), Vec::new()));
        let each = async |one: &Uuid| {
            let checks = timeout_at(until, self.examine_subscription(*one)).await;
            let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
            match checks {
                Ok(checks) => ended.0.extend(checks),
                Err(_) => ended.1.push(*one),
            }
            Ok::<(), Infallible>(())
        };
        let Ok(()) = in_lanes(governed, each).await;
        let (found, mut left_out) = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
        left_out.sort();
        (found, left_out)
    }
}

#[expect(clippy::disallowed_methods, reason = "whether this very clock is right is what is looked at; nothing is decided by it")]
fn instance_clock() -> DateTime<Utc> {
    std::time::SystemTime::now().into()
}
