//! What messages were sent for a moment ago, and which are yet to come: a hundred events of one person in one second, each of which
//! may be about any of a hundred VMs, bring about a hundred looks and not ten thousand.
//!
//! A message that Service Bus delivers twice is put off once: each of two would be delivered twice again, and a dozen tries would be
//! thousands.
//!
//! It is memory of one process and may be lost, or be another's: then a message is sent once too often.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::MutexGuard;
use tokio::time::timeout;

use crate::turns::TURN_PATIENCE;

/// A generation of marks. What was sent is remembered for one of them at least, and for two at most.
const GENERATION: TimeDelta = TimeDelta::seconds(5);

/// Times come with what was read, so that what took longer brings an earlier one than what is known. Earlier than this it is
/// another clock, and all begins anew.
const BEHIND: TimeDelta = TimeDelta::minutes(1);

/// Marks of a generation that are kept: what a table of 32,768 places takes before it doubles.
const MOST_KEPT: usize = 28_672;

/// Messages that were put off and are remembered until they come; one that is not may come twice.
const MOST_WAITING: usize = 3_584;

/// The clock that a service tells has whole seconds.
const DATE_STEP: TimeDelta = TimeDelta::seconds(1);

/// Work that shares a turn, by chance or because it is about the same, waits for each other.
const TURNS: usize = 32;

/// A message that was put off.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// When it comes.
    at: DateTime<Utc>,
    /// What was to be seen by then it is content to see.
    since: DateTime<Utc>,
}

/// What was sent lately, as marks of what was to be seen then.
#[derive(Debug, Default)]
pub struct Sent {
    marks: Mutex<Marks>,
    waiting: Mutex<HashMap<u64, Waiting>>,
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
        self.marks(now).has(mark)
    }

    /// Remembers that its queue took it.
    pub fn keep(&self, mark: u64, now: DateTime<Utc>) {
        let mut marks = self.marks(now);
        if marks.young.len() < MOST_KEPT {
            marks.young.insert(mark);
        }
    }

    /// Whether the same message was put off already, comes after `now`, hardly later than `at`, and sees what there was at `since`: then
    /// it does what this one would. Whoever asks has the turn of it, so that none is on its way.
    pub fn comes_later(&self, mark: u64, now: DateTime<Utc>, at: DateTime<Utc>, since: DateTime<Utc>) -> bool {
        self.waiting().get(&mark).is_some_and(|known| known.at > now && known.at <= at + DATE_STEP && known.since >= since)
    }

    /// Remembers that its queue, or the store, has a message that comes at `at`: of several the one that sees most.
    pub fn put_off(&self, mark: u64, now: DateTime<Utc>, at: DateTime<Utc>, since: DateTime<Utc>) {
        let mut waiting = self.waiting();
        if waiting.get(&mark).is_some_and(|known| known.at > now && known.since > since) {
            return;
        }
        if waiting.len() >= MOST_WAITING {
            waiting.retain(|_, known| known.at > now);
        }
        if waiting.len() < MOST_WAITING {
            waiting.insert(mark, Waiting { at, since });
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn marks(&self, now: DateTime<Utc>) -> std::sync::MutexGuard<'_, Marks> {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.age(now);
        marks
    }
}

/// Marks without their times, since there are tens of thousands in a burst.
#[derive(Debug, Default)]
struct Marks {
    /// When the young ones began; nothing before the first.
    since: Option<DateTime<Utc>>,
    young: HashSet<u64>,
    old: HashSet<u64>,
}

impl Marks {
    fn has(&self, mark: u64) -> bool {
        self.young.contains(&mark) || self.old.contains(&mark)
    }

    /// Lets go of what is too old by now.
    fn age(&mut self, now: DateTime<Utc>) {
        match self.since {
            Some(since) if (-BEHIND..GENERATION).contains(&(now - since)) => {}
            Some(since) if (GENERATION..GENERATION * 2).contains(&(now - since)) => {
                self.old = std::mem::take(&mut self.young);
                self.since = Some(since + GENERATION);
            }
            _ => *self = Marks { since: Some(now), ..Marks::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    /// For messages that all see the same.
    const ALIKE: DateTime<Utc> = DateTime::UNIX_EPOCH;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_000_000, 0).unwrap()
    }

    #[test]
    fn what_was_sent_is_remembered_for_five_to_ten_seconds() {
        for (begun, seconds, fresh) in
            [(0, 0, true), (0, 9, true), (0, 10, false), (4, 5, true), (4, 6, false), (0, -59, true), (0, -61, false)]
        {
            let sent = Sent::default();
            let mark = sent.mark(&("vm", 1));
            sent.keep(sent.mark(&"the first of its generation"), now() - TimeDelta::seconds(begun));
            sent.keep(mark, now());
            assert_eq!(sent.is_fresh(mark, now() + TimeDelta::seconds(seconds)), fresh, "{begun} {seconds}");
            assert!(!sent.is_fresh(sent.mark(&("vm", 2)), now()));
        }
    }

    #[test]
    fn asking_makes_nothing_last_longer_and_a_time_that_comes_late_ends_nothing() {
        let (sent, at) = (Sent::default(), |seconds| now() + TimeDelta::seconds(seconds));
        sent.keep(1, at(0));
        assert!(sent.is_fresh(1, at(9)) && !sent.is_fresh(1, at(14)));

        sent.keep(2, at(14));
        assert!(!sent.is_fresh(3, at(8)));
        assert!(sent.is_fresh(2, at(14)) && sent.is_fresh(2, at(18)));
    }

    #[test]
    fn marks_are_bounded_and_the_old_ones_make_room() {
        let sent = Sent::default();
        let last = u64::try_from(MOST_KEPT).unwrap();
        for n in 0..=last {
            sent.keep(n, now());
        }
        assert!(sent.is_fresh(0, now()) && !sent.is_fresh(last, now()));
        assert_eq!(sent.marks.lock().unwrap().young.capacity(), MOST_KEPT);
        sent.keep(last, now() + GENERATION);
        assert!(sent.is_fresh(last, now() + GENERATION) && sent.is_fresh(0, now() + GENERATION));
        sent.keep(last, now() + GENERATION * 2);
        assert!(!sent.is_fresh(0, now() + GENERATION * 2));
    }

    #[test]
    fn what_was_put_off_comes_once_until_it_has_come() {
        let (sent, at) = (Sent::default(), |seconds| now() + TimeDelta::seconds(seconds));
        assert!(!sent.comes_later(1, at(0), at(8), ALIKE), "nothing has it yet");
        sent.put_off(1, at(0), at(8), ALIKE);
        assert!(
            sent.comes_later(1, at(0), at(8), ALIKE)
                && sent.comes_later(1, at(7), at(15), ALIKE)
                && sent.comes_later(1, at(0), at(7), ALIKE)
        );
        assert!(!sent.comes_later(2, at(0), at(8), ALIKE), "it is another one");
        assert!(!sent.comes_later(1, at(0), at(6), ALIKE), "it comes too late");
        assert!(!sent.comes_later(1, at(8), at(16), ALIKE), "it has come, and may have seen less than this one is to see");
    }

    #[test]
    fn what_waits_is_bounded_and_what_has_come_makes_room() {
        let (sent, later) = (Sent::default(), now() + TimeDelta::seconds(8));
        let most = u64::try_from(MOST_WAITING).unwrap();
        for n in 0..=most {
            sent.put_off(n, now(), later, ALIKE);
        }
        assert!(
            sent.comes_later(0, now(), later, ALIKE) && !sent.comes_later(most, now(), later, ALIKE),
            "there is no room: it may come twice"
        );
        assert_eq!(sent.waiting().capacity(), MOST_WAITING);
        sent.put_off(most, later, later + TimeDelta::seconds(1), ALIKE);
        assert!(sent.comes_later(most, later, later + TimeDelta::seconds(1), ALIKE));
        assert_eq!(sent.waiting().len(), 1);
    }

    #[test]
    fn of_looks_at_a_machine_the_one_that_sees_most_stands_for_the_others() {
        let (sent, at) = (Sent::default(), |seconds| now() + TimeDelta::seconds(seconds));
        sent.put_off(1, at(0), at(8), at(0));
        assert!(sent.comes_later(1, at(0), at(8), at(0)) && sent.comes_later(1, at(0), at(9), at(-5)));
        assert!(!sent.comes_later(1, at(0), at(8), at(1)), "it may be content with a look that began before");
        assert!(!sent.comes_later(1, at(0), at(6), at(0)), "it comes too late");
        assert!(!sent.comes_later(1, at(8), at(16), at(0)), "it has come");
        sent.put_off(1, at(3), at(20), at(3));
        sent.put_off(1, at(4), at(5), at(1));
        assert!(sent.comes_later(1, at(4), at(20), at(3)), "one that sees less takes no other's place");
        sent.put_off(1, at(21), at(25), at(1));
        assert!(sent.comes_later(1, at(21), at(25), at(1)) && !sent.comes_later(2, at(21), at(25), at(1)));
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
