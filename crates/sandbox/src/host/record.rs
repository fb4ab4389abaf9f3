//! What the host stand-in remembers of its invocations, for tests and for `GET /host`.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde::Serialize;

/// How many invocations are remembered; of older ones only the count is left.
const REMEMBERED: usize = 10_000;

/// One invocation of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Invocation {
    /// The function.
    pub function: String,
    /// The invocation's id.
    pub id: String,
    /// What triggered it, such as `approval message 12, delivery 1` or `timer 2026-01-15T09:05:00Z`.
    pub trigger: String,
    /// World time at its start.
    pub at: DateTime<Utc>,
    /// How it ended.
    pub outcome: Outcome,
    /// Real milliseconds that it took.
    pub duration_ms: u64,
    /// What the handler said in `Logs`.
    pub logs: Vec<String>,
}

/// How an invocation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// The handler answered with success.
    Succeeded,
    /// It failed.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Everything that the host remembers.
#[derive(Debug, Default)]
pub struct Record {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    invocations: VecDeque<Invocation>,
    failures: VecDeque<Invocation>,
    total: u64,
    failed: u64,
}

impl Record {
    /// Adds one that has ended.
    pub fn add(&self, invocation: Invocation) {
        let mut kept = self.kept();
        kept.total += 1;
        if matches!(invocation.outcome, Outcome::Failed { .. }) {
            kept.failed += 1;
            if kept.failures.len() == REMEMBERED {
                kept.failures.pop_front();
            }
            kept.failures.push_back(invocation.clone());
        }
        if kept.invocations.len() == REMEMBERED {
            kept.invocations.pop_front();
        }
        kept.invocations.push_back(invocation);
    }

    /// The remembered invocations in the order of their ends.
    pub fn invocations(&self) -> Vec<Invocation> {
        self.kept().invocations.iter().cloned().collect()
    }

    /// Those that failed.
    pub fn failures(&self) -> Vec<Invocation> {
        self.kept().failures.iter().cloned().collect()
    }

    /// How many there were in all, and how many of them failed.
    pub fn counts(&self) -> (u64, u64) {
        let kept = self.kept();
        (kept.total, kept.failed)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
