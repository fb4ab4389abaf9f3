//! Queues as plain functions on the state: what the REST face and the Functions host stand-in both live by.

use chrono::{DateTime, TimeDelta, Utc};

use super::Shelf;
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
    settle_queue(state.queues.get_mut(queue)?, now);
    let place = next(messages(state.queues.get(queue)?, shelf), now)?;
    let token = state.take_uuid();
    let message = messages_mut(state.queues.get_mut(queue)?, shelf).get_mut(place)?;
    message.delivery_count = message.delivery_count.saturating_add(1);
    message.lock = Some((token, now + lock_for));
    Some(message.clone())
}

/// Takes the next visible message out of the queue for good.
pub(super) fn take_away(state: &mut State, queue: &str, shelf: Shelf) -> Option<Message> {
    let now = state.now;
    let queue = state.queues.get_mut(queue)?;
    settle_queue(queue, now);
    let place = next(messages(queue, shelf), now)?;
    let mut message = messages_mut(queue, shelf).remove(place);
    message.delivery_count = message.delivery_count.saturating_add(1);
    Some(message)
}

/// The message that this lock holds is done.
pub fn complete(state: &mut State, queue: &str, lock: &str) -> Result<(), LockLost> {
    complete_in(state, queue, Shelf::Active, lock)
}

pub(super) fn complete_in(state: &mut State, queue: &str, shelf: Shelf, lock: &str) -> Result<(), LockLost> {
    let (messages, place) = locked(state, queue, shelf, lock)?;
    messages.remove(place);
    Ok(())
}

/// The message that this lock holds is to be delivered again: it is visible at once, or, if it has been delivered
/// as often as the queue allows, among the dead letters.
pub fn abandon(state: &mut State, queue: &str, lock: &str) -> Result<(), LockLost> {
    abandon_in(state, queue, Shelf::Active, lock)
}

pub(super) fn abandon_in(state: &mut State, queue: &str, shelf: Shelf, lock: &str) -> Result<(), LockLost> {
    let now = state.now;
    let (messages, place) = locked(state, queue, shelf, lock)?;
    messages[place].lock = None;
    if let Some(queue) = state.queues.get_mut(queue) {
        settle_queue(queue, now);
    }
    Ok(())
}

/// The lock holds for `lock_for` from now.
pub fn renew(state: &mut State, queue: &str, lock: &str, lock_for: TimeDelta) -> Result<(), LockLost> {
    renew_in(state, queue, Shelf::Active, lock, lock_for)
}

pub(super) fn renew_in(state: &mut State, queue: &str, shelf: Shelf, lock: &str, lock_for: TimeDelta) -> Result<(), LockLost> {
    let until = state.now + lock_for;
    let (messages, place) = locked(state, queue, shelf, lock)?;
    messages[place].lock = Some((lock.to_owned(), until));
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
    let due = |message: &Message| match &message.lock {
        Some((_, until)) => Some(*until),
        None => message.scheduled_for,
    };
    state
        .queues
        .values()
        .flat_map(|queue| queue.messages.iter().chain(&queue.dead_letters))
        .filter_map(due)
        .filter(|at| *at > state.now)
        .min()
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

/// The place of the message that is delivered next: the one that has been in the queue longest, a scheduled one
/// from its time on.
fn next(messages: &[Message], now: DateTime<Utc>) -> Option<usize> {
    messages
        .iter()
        .enumerate()
        .filter(|(_, message)| is_visible(message, now))
        .min_by_key(|(_, message)| (message.enqueued_at, message.sequence))
        .map(|(place, _)| place)
}

fn settle_queue(queue: &mut Queue, now: DateTime<Utc>) {
    enqueue_scheduled(queue, now);
    for message in queue.messages.iter_mut().chain(queue.dead_letters.iter_mut()) {
        if message.lock.as_ref().is_some_and(|(_, until)| *until <= now) {
            message.lock = None;
        }
    }
    // A message that is locked lives on until its lock ends: whoever holds it may still complete it.
    queue.messages.retain(|message| message.lock.is_some() || message.expires_at.is_none_or(|at| at > now));
    let most = queue.max_delivery_count;
    let worn = |message: &Message| message.lock.is_none() && message.delivery_count >= most;
    if queue.messages.iter().any(worn) {
        let (dead, alive) = std::mem::take(&mut queue.messages).into_iter().partition(worn);
        queue.messages = alive;
        queue.dead_letters.extend(Vec::from_iter(dead).into_iter().map(|message: Message| Message {
            dead_letter_reason: Some("MaxDeliveryCountExceeded".to_owned()),
            scheduled_for: None,
            expires_at: None,
            ..message
        }));
    }
}

/// A scheduled message joins its queue only at its time, under a new sequence number (documentation).
fn enqueue_scheduled(queue: &mut Queue, now: DateTime<Utc>) {
    let mut come: Vec<&mut Message> =
        queue.messages.iter_mut().filter(|message| message.scheduled_for.is_some_and(|at| at <= now)).collect();
    come.sort_by_key(|message| (message.scheduled_for, message.sequence));
    for message in come {
        message.enqueued_at = message.scheduled_for.take().unwrap_or(now);
        message.sequence = queue.next_sequence;
        queue.next_sequence += 1;
    }
}

fn messages(queue: &Queue, shelf: Shelf) -> &[Message] {
    match shelf {
        Shelf::Active => &queue.messages,
        Shelf::DeadLetter => &queue.dead_letters,
    }
}

fn messages_mut(queue: &mut Queue, shelf: Shelf) -> &mut Vec<Message> {
    match shelf {
        Shelf::Active => &mut queue.messages,
        Shelf::DeadLetter => &mut queue.dead_letters,
    }
}

fn locked<'a>(state: &'a mut State, queue: &str, shelf: Shelf, lock: &str) -> Result<(&'a mut Vec<Message>, usize), LockLost> {
    let now = state.now;
    let messages = messages_mut(state.queues.get_mut(queue).ok_or(LockLost)?, shelf);
    let holds = |message: &Message| message.lock.as_ref().is_some_and(|(token, until)| token.eq_ignore_ascii_case(lock) && *until > now);
    let place = messages.iter().position(holds).ok_or(LockLost)?;
    Ok((messages, place))
}

#[cfg(test)]
mod tests {
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
}
