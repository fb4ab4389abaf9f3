//! What looks were sent for a moment ago: a hundred events of one person in one second, each of which may be about any of a hundred
//! VMs, bring about a hundred looks and not ten thousand.
//!
//! It is memory of one process and may be lost, or be another's: then a look is sent once too often.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::MutexGuard;
use tokio::time::timeout;

/// What comes later than this was not sent at once.
const KEPT_FOR: TimeDelta = TimeDelta::seconds(10);

/// Marks that are kept at once.
const MOST_KEPT: usize = 32_768;

/// Work that shares a turn, by chance or because it is about the same, waits for each other.
const TURNS: usize = 32;

/// How long a turn is waited for: it saves sending twice, and nothing else.
const TURN_PATIENCE: Duration = Duration::from_secs(1);

/// What was sent lately, as marks of what was to be seen then.
#[derive(Debug, Default)]
pub struct Sent {
    marks: Mutex<HashMap<u64, DateTime<Utc>>>,
    turns: [tokio::sync::Mutex<()>; TURNS],
    hasher: RandomState,
}

impl Sent {
    /// The mark of something; nobody outside this process can make two things have the same.
    pub fn mark(&self, of: &impl Hash) -> u64 {
        self.hasher.hash_one(of)
    }

    /// Waits, for a second at most, until nobody else sends for the same thing: what they send need not be sent again.
    pub async fn turn(&self, about: &impl Hash) -> Option<MutexGuard<'_, ()>> {
        let count = u64::try_from(TURNS).unwrap_or(1);
        let number = usize::try_from(self.mark(about) % count).unwrap_or_default();
        timeout(TURN_PATIENCE, self.turns[number].lock()).await.ok()
    }

    /// Whether it was sent lately.
    pub fn is_fresh(&self, mark: u64, now: DateTime<Utc>) -> bool {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.get(&mark).is_some_and(|sent| (now - *sent).abs() < KEPT_FOR)
    }

    /// Remembers that its queue took it.
    pub fn keep(&self, mark: u64, now: DateTime<Utc>) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if marks.len() >= MOST_KEPT {
            marks.retain(|_, sent| (now - *sent).abs() < KEPT_FOR);
        }
        if marks.len() < MOST_KEPT {
            marks.insert(mark, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_000_000, 0).unwrap()
    }

    #[test]
    fn what_was_sent_is_remembered_for_ten_seconds() {
        let sent = Sent::default();
        let mark = sent.mark(&("vm", 1));
        sent.keep(mark, now());
        for (seconds, fresh) in [(0, true), (9, true), (-9, true), (10, false), (-10, false)] {
            assert_eq!(sent.is_fresh(mark, now() + TimeDelta::seconds(seconds)), fresh, "{seconds}");
        }
        assert!(!sent.is_fresh(sent.mark(&("vm", 2)), now()));
    }

    #[test]
    fn marks_are_bounded_and_the_old_ones_make_room() {
        let sent = Sent::default();
        let last = u64::try_from(MOST_KEPT).unwrap();
        for n in 0..=last {
            sent.keep(n, now());
        }
        assert!(sent.is_fresh(0, now()) && !sent.is_fresh(last, now()));
        let later = now() + KEPT_FOR;
        sent.keep(last, later);
        assert!(sent.is_fresh(last, later) && !sent.is_fresh(0, later));
        assert_eq!(sent.marks.lock().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_waits_for_the_other_about_the_same_and_not_for_long() {
        let sent = Sent::default();
        let first = sent.turn(&"policy").await;
        let began = Instant::now();
        assert!(first.is_some() && sent.turn(&"policy").await.is_none());
        assert_eq!(began.elapsed(), TURN_PATIENCE);
        drop(first);
        assert!(sent.turn(&"policy").await.is_some());
        assert_eq!(began.elapsed(), TURN_PATIENCE);
    }
}
