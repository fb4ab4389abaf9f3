//! Queues as plain functions on the state: what the REST face and the Functions host stand-in both live by.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Line, Shelf};
use crate::state::{Message, Queue, State};

/// The lock under which a message was to be settled does not hold it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockLost;

/// Puts a message into a queue; its sequence number, its time and, if it has none, its `MessageId` are given here.
/// False is for a queue that does not exist.
pub fn enqueue(state: &mut State, queue: &str, mut message: Message) -> bool {
    if !state.queues.contains_key(queue) {
        return false;
    }
    if !message.properties.contains_key("MessageId") {
        let id = state.take_uuid().replace('-', "");
        message.properties.insert("MessageId".to_owned(), id.into());
    }
    message.enqueued_at = state.now;
    message.scheduled_for = message.scheduled_for.filter(|at| *at > state.now);
    if let Some(queue) = state.queues.get_mut(queue) {
        let twice = queue.come_twice > 0;
        queue.come_twice = queue.come_twice.saturating_sub(1);
        for _ in 0..=u8::from(twice) {
            message.sequence = queue.next_sequence;
            queue.next_sequence += 1;
            queue.messages.push(message.clone());
        }
    }
    true
}

/// The next message that is visible, locked now for `lock_for`; its delivery count says that this is one more
/// delivery. `None` when there is nothing to deliver, or no such queue.
pub fn take(state: &mut State, queue: &str, lock_for: TimeDelta) -> Option<Message> {
    take_from(state, queue, Shelf::Active, lock_for)
}

pub(super) fn take_from(state: &mut State, queue: &str, shelf: Shelf, lock_for: TimeDelta) -> Option<Message> {
    let now = state.now;
    let place = next(state.queues.get_mut(queue)?, shelf, now)?;
    let token = state.take_uuid();
    let taken = line_mut(state.queues.get_mut(queue)?, shelf).change(place, |message| {
        message.delivery_count = message.delivery_count.saturating_add(1);
        message.lock = Some((token, now + lock_for));
    });
    taken.cloned()
}

/// Takes the next visible message out of the queue for good.
pub(super) fn take_away(state: &mut State, queue: &str, shelf: Shelf) -> Option<Message> {
    let now = state.now;
    let queue = state.queues.get_mut(queue)?;
    let place = next(queue, shelf, now)?;
    let mut message = line_mut(queue, shelf).remove(place)?;
    message.delivery_count = message.delivery_count.saturating_add(1);
    Some(message)
}

/// The message that this lock holds is done.
pub fn complete(state: &mut State, queue: &str, lock: &str) -> Result<(), LockLost> {
    complete_in(state, queue, Shelf::Active, lock)
}

pub(super) fn complete_in(state: &mut State, queue: &str, shelf: Shelf, lock: &str) -> Result<(), LockLost> {
    let (line, place) = locked(state, queue, shelf, lock)?;
    line.remove(place);
    Ok(())
}

/// The message that this lock holds is to be delivered again: it is visible at once, or, if it has been delivered
/// as often as the queue allows, among the dead letters.
pub fn abandon(state: &mut State, queue: &str, lock: &str) -> Result<(), LockLost> {
    abandon_in(state, queue, Shelf::Active, lock)
}

pub(super) fn abandon_in(state: &mut State, queue: &str, shelf: Shelf, lock: &str) -> Result<(), LockLost> {
    let now = state.now;
    let (line, place) = locked(state, queue, shelf, lock)?;
    line.change(place, |message| message.lock = None);
    if let (Some(queue), Shelf::Active) = (state.queues.get_mut(queue), shelf) {
        settle_message(queue, place, now);
    }
    Ok(())
}

/// The lock holds for `lock_for` from now.
pub fn renew(state: &mut State, queue: &str, lock: &str, lock_for: TimeDelta) -> Result<(), LockLost> {
    renew_in(state, queue, Shelf::Active, lock, lock_for)
}

pub(super) fn renew_in(state: &mut State, queue: &str, shelf: Shelf, lock: &str, lock_for: TimeDelta) -> Result<(), LockLost> {
    let until = state.now + lock_for;
    let (line, place) = locked(state, queue, shelf, lock)?;
    line.change(place, |message| message.lock = Some((lock.to_owned(), until)));
    Ok(())
}

/// Frees whatever a lock held until now or earlier; what has been delivered as often as its queue allows goes to
/// the dead letters, and what has outlived its time to live is dropped.
pub fn expire_locks(state: &mut State) {
    let now = state.now;
    for queue in state.queues.values_mut() {
        settle_queue(queue, now);
    }
}

/// The next instant after now at which a message becomes visible by itself: its scheduled time, or its lock's end.
pub fn next_due(state: &State) -> Option<DateTime<Utc>> {
    let lines = state.queues.values().flat_map(|queue| [&queue.messages, &queue.dead_letters]);
    lines.filter_map(|line| line.next_due(state.now)).min()
}

/// How many messages of a queue could be delivered now.
pub fn visible(state: &State, queue: &str) -> usize {
    state.queues.get(queue).map_or(0, |queue| queue.messages.iter().filter(|message| is_visible(message, state.now)).count())
}

fn is_visible(message: &Message, now: DateTime<Utc>) -> bool {
    message.scheduled_for.is_none_or(|at| at <= now)
        && message.lock.as_ref().is_none_or(|(_, until)| *until <= now)
        && message.expires_at.is_none_or(|at| at > now)
}

/// The place of the message that is delivered next: the one that has been in the queue longest, a scheduled one from its
/// time on.
fn next(queue: &mut Queue, shelf: Shelf, now: DateTime<Utc>) -> Option<u64> {
    settle_queue(queue, now);
    loop {
        let place = line_mut(queue, shelf).next()?;
        // A world that was written by hand may have worn-out messages from the start.
        if shelf == Shelf::DeadLetter || settle_message(queue, place, now) == Settled::Stays {
            return Some(place);
        }
    }
}

fn settle_queue(queue: &mut Queue, now: DateTime<Utc>) {
    while let Some(place) = queue.messages.due(now) {
        settle_message(queue, place, now);
    }
    while let Some(place) = queue.dead_letters.due(now) {
        queue.dead_letters.change(place, |message| {
            free(message, now);
            // Neither means anything here.
            (message.scheduled_for, message.expires_at) = (None, None);
        });
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Stays,
    Left,
}

/// Does with a message what its time asks for: it is visible from its time on, under a new sequence number (documentation), and
/// after its lock's end; what has outlived its time to live is dropped, and what was delivered as often as the queue allows goes
/// to the dead letters.
fn settle_message(queue: &mut Queue, place: u64, now: DateTime<Utc>) -> Settled {
    let next_sequence = queue.next_sequence;
    let mut comes = false;
    let settled = queue.messages.change(place, |message| {
        free(message, now);
        if let Some(at) = message.scheduled_for.filter(|at| *at <= now) {
            comes = true;
            message.scheduled_for = None;
            message.enqueued_at = at;
            message.sequence = next_sequence;
        }
    });
    // A message that is locked lives on until its lock ends: whoever holds it may still complete it.
    let is_free = |message: &&Message| message.lock.is_none();
    let (is_over, is_worn) = settled.filter(is_free).map_or((false, false), |message| {
        (message.expires_at.is_some_and(|at| at <= now), message.delivery_count >= queue.max_delivery_count)
    });
    queue.next_sequence += u64::from(comes);
    if !is_over && !is_worn {
        return Settled::Stays;
    }
    let left = queue.messages.remove(place);
    if let (Some(message), false) = (left, is_over) {
        let dead_letter_reason = Some("MaxDeliveryCountExceeded".to_owned());
        queue.dead_letters.push(Message { dead_letter_reason, scheduled_for: None, expires_at: None, ..message });
    }
    Settled::Left
}

fn free(message: &mut Message, now: DateTime<Utc>) {
    message.lock.take_if(|(_, until)| *until <= now);
}

fn line_mut(queue: &mut Queue, shelf: Shelf) -> &mut Line {
    match shelf {
        Shelf::Active => &mut queue.messages,
        Shelf::DeadLetter => &mut queue.dead_letters,
    }
}

fn locked<'a>(state: &'a mut State, queue: &str, shelf: Shelf, lock: &str) -> Result<(&'a mut Line, u64), LockLost> {
    let now = state.now;
    let line = line_mut(state.queues.get_mut(queue).ok_or(LockLost)?, shelf);
    let place = line.locked(lock, now).ok_or(LockLost)?;
    Ok((line, place))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    const LOCK: TimeDelta = TimeDelta::seconds(60);

    fn state(max_delivery_count: u32) -> State {
        let mut state = State::default();
        state.queues.insert("q".to_owned(), Queue { max_delivery_count, ..Queue::default() });
        state
    }

    fn send(state: &mut State, body: &str, scheduled_in: Option<i64>, lives: Option<i64>) {
        let message = Message {
            body: body.to_owned(),
            scheduled_for: scheduled_in.map(|seconds| state.now + TimeDelta::seconds(seconds)),
            expires_at: lives.map(|seconds| state.now + TimeDelta::seconds(seconds)),
            ..Message::default()
        };
        assert!(enqueue(state, "q", message));
    }

    fn lock(message: &Message) -> String {
        message.lock.clone().unwrap().0
    }

    #[test]
    fn messages_are_taken_in_order_and_once() {
        let mut state = state(10);
        send(&mut state, "a", None, None);
        send(&mut state, "b", None, None);
        let (a, b) = (take(&mut state, "q", LOCK).unwrap(), take(&mut state, "q", LOCK).unwrap());
        assert_eq!((a.body.as_str(), a.delivery_count, a.sequence), ("a", 1, 1));
        assert_eq!((b.body.as_str(), b.sequence), ("b", 2));
        assert_ne!(lock(&a), lock(&b));
        assert_eq!(take(&mut state, "q", LOCK).map(|message| message.body), None);
        assert_eq!(complete(&mut state, "q", &lock(&a)), Ok(()));
        assert_eq!(complete(&mut state, "q", &lock(&a)), Err(LockLost));
        assert_eq!(state.queues["q"].messages.len(), 1);
    }

    #[test]
    fn a_message_that_was_abandoned_is_visible_at_once_until_it_is_worn_out() {
        let mut state = state(3);
        send(&mut state, "a", None, None);
        for count in 1..=3 {
            assert_eq!(visible(&state, "q"), 1);
            let message = take(&mut state, "q", LOCK).unwrap();
            assert_eq!(message.delivery_count, count);
            assert_eq!(visible(&state, "q"), 0);
            abandon(&mut state, "q", &lock(&message)).unwrap();
        }
        assert_eq!(visible(&state, "q"), 0);
        let dead = &state.queues["q"].dead_letters[0];
        assert_eq!(dead.dead_letter_reason.as_deref(), Some("MaxDeliveryCountExceeded"));
        assert_eq!(dead.delivery_count, 3);
    }

    #[test]
    fn a_lock_that_ends_frees_its_message_and_counts() {
        let mut state = state(2);
        send(&mut state, "a", None, None);
        let first = take(&mut state, "q", LOCK).unwrap();
        assert_eq!(next_due(&state), Some(state.now + LOCK));
        state.now += LOCK;
        expire_locks(&mut state);
        assert_eq!(visible(&state, "q"), 1);
        assert_eq!(abandon(&mut state, "q", &lock(&first)), Err(LockLost));
        let second = take(&mut state, "q", LOCK).unwrap();
        renew(&mut state, "q", &lock(&second), LOCK * 2).unwrap();
        state.now += LOCK;
        expire_locks(&mut state);
        assert_eq!(complete(&mut state, "q", "other"), Err(LockLost));
        assert_eq!(visible(&state, "q"), 0);
        state.now += LOCK;
        expire_locks(&mut state);
        assert_eq!(state.queues["q"].dead_letters.len(), 1);
        assert_eq!(next_due(&state), None);
    }

    #[test]
    fn a_scheduled_message_comes_at_its_time_behind_what_was_there() {
        let mut state = state(10);
        send(&mut state, "later", Some(30), None);
        send(&mut state, "sooner", Some(20), None);
        send(&mut state, "now", None, None);
        send(&mut state, "past", Some(-30), None);
        assert_eq!(visible(&state, "q"), 2);
        assert_eq!(next_due(&state), Some(state.now + TimeDelta::seconds(20)));
        state.now += TimeDelta::seconds(30);
        assert_eq!(next_due(&state), None);
        let bodies: Vec<String> = std::iter::from_fn(|| take(&mut state, "q", LOCK)).map(|message| message.body).collect();
        assert_eq!(bodies, ["now", "past", "sooner", "later"]);
    }

    #[test]
    fn a_scheduled_message_has_a_new_sequence_number_from_its_time_on() {
        let mut state = state(10);
        send(&mut state, "later", Some(30), None);
        send(&mut state, "now", None, None);
        assert_eq!(state.queues["q"].messages[0].sequence, 1);
        state.now += TimeDelta::seconds(31);
        expire_locks(&mut state);
        let message = &state.queues["q"].messages[0];
        assert_eq!((message.sequence, message.enqueued_at, message.scheduled_for), (3, state.now - TimeDelta::seconds(1), None));
        send(&mut state, "last", None, None);
        assert_eq!(state.queues["q"].messages[2].sequence, 4);
    }

    #[test]
    fn a_message_past_its_time_to_live_is_dropped_unless_somebody_holds_it() {
        let mut state = state(10);
        send(&mut state, "held", None, Some(10));
        let held = take(&mut state, "q", LOCK).unwrap();
        send(&mut state, "left", None, Some(10));
        state.now += TimeDelta::seconds(10);
        assert_eq!(visible(&state, "q"), 0);
        expire_locks(&mut state);
        assert_eq!(state.queues["q"].messages.len(), 1);
        assert_eq!(complete(&mut state, "q", &lock(&held)), Ok(()));
    }

    #[test]
    fn a_queue_that_is_not_there_takes_and_gives_nothing() {
        let mut state = state(10);
        assert!(!enqueue(&mut state, "none", Message::default()));
        assert!(take(&mut state, "none", LOCK).is_none());
        assert_eq!(visible(&state, "none"), 0);
        assert_eq!(complete(&mut state, "none", "x"), Err(LockLost));
    }

    /// What is done to a queue.
    #[derive(Clone, Debug)]
    enum Deed {
        /// Sent, for later if so, and living for so long if so.
        Send(Option<i64>, Option<i64>),
        Take,
        /// Of what was taken: which, and what becomes of it.
        Complete(usize),
        Abandon(usize),
        Renew(usize),
        Pass(i64),
    }

    fn deed() -> impl Strategy<Value = Deed> {
        prop_oneof![
            3 => (option::of(0..90_i64), option::of(1..200_i64)).prop_map(|(later, lives)| Deed::Send(later, lives)),
            4 => Just(Deed::Take),
            1 => (0..4_usize).prop_map(Deed::Complete),
            2 => (0..4_usize).prop_map(Deed::Abandon),
            1 => (0..4_usize).prop_map(Deed::Renew),
            2 => (1..80_i64).prop_map(Deed::Pass),
        ]
    }

    /// The same queue as a plain list that is looked through each time.
    #[derive(Default)]
    struct Plain {
        messages: Vec<Message>,
        dead: Vec<Message>,
        sequence: u64,
    }

    impl Plain {
        const MOST: u32 = 3;

        fn send(&mut self, body: &str, now: DateTime<Utc>, later: Option<i64>, lives: Option<i64>) {
            let after = |seconds: i64| now + TimeDelta::seconds(seconds);
            self.sequence += 1;
            self.messages.push(Message {
                body: body.to_owned(),
                sequence: self.sequence,
                enqueued_at: now,
                scheduled_for: later.map(after).filter(|at| *at > now),
                expires_at: lives.map(after),
                ..Message::default()
            });
        }

        fn settle(&mut self, now: DateTime<Utc>) {
            let come = |message: &&mut Message| message.scheduled_for.is_some_and(|at| at <= now);
            let mut coming: Vec<&mut Message> = self.messages.iter_mut().filter(come).collect();
            coming.sort_by_key(|message| (message.scheduled_for, message.sequence));
            for message in coming {
                message.enqueued_at = message.scheduled_for.take().unwrap();
                self.sequence += 1;
                message.sequence = self.sequence;
            }
            self.messages.iter_mut().for_each(|message| free(message, now));
            self.messages.retain(|message| message.lock.is_some() || message.expires_at.is_none_or(|at| at > now));
            let worn = |message: &Message| message.lock.is_none() && message.delivery_count >= Self::MOST;
            self.dead.extend(self.messages.extract_if(.., |message| worn(message)));
        }

        /// Its body and the lock's token.
        fn take(&mut self, now: DateTime<Utc>) -> Option<(String, String)> {
            self.settle(now);
            let visible = self.messages.iter_mut().filter(|message| is_visible(message, now));
            let next = visible.min_by_key(|message| (message.enqueued_at, message.sequence))?;
            next.delivery_count += 1;
            let token = format!("{} {}", next.body, next.delivery_count);
            next.lock = Some((token.clone(), now + LOCK));
            Some((next.body.clone(), token))
        }

        fn held(&self, lock: &str, now: DateTime<Utc>) -> Option<usize> {
            self.messages.iter().position(|message| message.lock.as_ref().is_some_and(|(token, until)| token == lock && *until > now))
        }
    }

    fn told<'a>(messages: impl Iterator<Item = &'a Message>) -> Vec<(String, u64, u32, Option<DateTime<Utc>>)> {
        messages.map(|m| (m.body.clone(), m.sequence, m.delivery_count, m.lock.as_ref().map(|(_, until)| *until))).collect()
    }

    proptest! {
        #[test]
        fn a_queue_gives_what_a_plain_list_would(deeds in vec(deed(), 1..80)) {
            let (mut state, mut plain, mut taken) = (state(Plain::MOST), Plain::default(), Vec::<(String, String)>::new());
            for (number, deed) in deeds.into_iter().enumerate() {
                let now = state.now;
                let which = |at: usize, taken: &[(String, String)]| taken.iter().rev().nth(at).cloned().unwrap_or_default();
                match deed {
                    Deed::Send(later, lives) => {
                        send(&mut state, &number.to_string(), later, lives);
                        plain.send(&number.to_string(), now, later, lives);
                    }
                    Deed::Take => {
                        let message = take(&mut state, "q", LOCK);
                        let (body, token) = plain.take(now).unzip();
                        prop_assert_eq!(message.as_ref().map(|message| message.body.clone()), body);
                        taken.extend(token.zip(message.as_ref().map(lock)));
                    }
                    Deed::Complete(at) => {
                        let (its, token) = which(at, &taken);
                        let held = plain.held(&its, now);
                        prop_assert_eq!(complete(&mut state, "q", &token).is_ok(), held.is_some());
                        held.map(|place| plain.messages.remove(place));
                    }
                    Deed::Abandon(at) => {
                        let (its, token) = which(at, &taken);
                        let held = plain.held(&its, now);
                        prop_assert_eq!(abandon(&mut state, "q", &token).is_ok(), held.is_some());
                        if let Some(place) = held {
                            plain.messages[place].lock = None;
                        }
                    }
                    Deed::Renew(at) => {
                        let (its, token) = which(at, &taken);
                        let held = plain.held(&its, now);
                        prop_assert_eq!(renew(&mut state, "q", &token, LOCK).is_ok(), held.is_some());
                        if let Some(place) = held {
                            plain.messages[place].lock = Some((its, now + LOCK));
                        }
                    }
                    Deed::Pass(seconds) => state.now += TimeDelta::seconds(seconds),
                }
                expire_locks(&mut state);
                plain.settle(state.now);
                let queue = &state.queues["q"];
                prop_assert_eq!(told(queue.messages.iter()), told(plain.messages.iter()));
                // Those whose locks ended since the last look die in the order in which they ended.
                let (mut dead, mut plainly) = (told(queue.dead_letters.iter()), told(plain.dead.iter()));
                dead.sort();
                plainly.sort();
                prop_assert_eq!(dead, plainly);
                let later = plain.messages.iter().filter_map(|m| m.lock.as_ref().map(|(_, until)| *until).or(m.scheduled_for));
                prop_assert_eq!(next_due(&state), later.filter(|at| *at > state.now).min());
                // What a world is written to and read from has the same messages in the same order.
                let written = serde_json::to_value(&queue.messages).unwrap();
                let read: Line = serde_json::from_value(written).unwrap();
                prop_assert_eq!((told(read.iter()), read.next_due(state.now)), (told(queue.messages.iter()), next_due(&state)));
            }
        }
    }
}
