//! Messages in the order in which they came, with what makes finding the next of a hundred thousand as fast as finding one of
//! ten.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Index;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::state::Message;

/// The messages of a queue, or its dead letters. Written and read as a list of messages.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Message>", into = "Vec<Message>")]
pub struct Line {
    /// By their place, which is nobody's business and never changes.
    all: BTreeMap<u64, Message>,
    next_place: u64,
    /// What nothing holds, in the order in which it is delivered.
    free: BTreeSet<(DateTime<Utc>, u64, u64)>,
    /// When a message that waits for its time or for the end of its lock is free.
    waiting: BTreeSet<(DateTime<Utc>, u64)>,
    /// When a message that is not locked is dropped.
    expiring: BTreeSet<(DateTime<Utc>, u64)>,
    /// By the lock's token, in lower case.
    locks: BTreeMap<String, u64>,
}

impl From<Vec<Message>> for Line {
    fn from(messages: Vec<Message>) -> Self {
        let mut line = Line::default();
        messages.into_iter().for_each(|message| line.push(message));
        line
    }
}

impl From<Line> for Vec<Message> {
    fn from(line: Line) -> Self {
        line.all.into_values().collect()
    }
}

impl Index<usize> for Line {
    type Output = Message;

    fn index(&self, number: usize) -> &Message {
        let Some(message) = self.iter().nth(number) else { panic!("there is no message {number} among {}", self.len()) };
        message
    }
}

impl Line {
    /// The messages, scheduled and locked ones included, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = &Message> {
        self.all.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many nobody holds and wait for nothing.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Takes all of them away.
    pub fn clear(&mut self) {
        *self = Line { next_place: self.next_place, ..Line::default() };
    }

    /// Puts one behind all others.
    pub fn push(&mut self, message: Message) {
        let place = self.next_place;
        self.next_place += 1;
        self.put(place, message);
    }

    /// The place of the one that has been free longest: the next to be delivered.
    pub(super) fn next(&self) -> Option<u64> {
        self.free.first().map(|(.., place)| *place)
    }

    /// The place of a message whose time, or whose lock's end, or whose own end has come.
    pub(super) fn due(&self, now: DateTime<Utc>) -> Option<u64> {
        let first = |all: &BTreeSet<(DateTime<Utc>, u64)>| all.first().filter(|(at, _)| *at <= now).copied();
        first(&self.waiting).or_else(|| first(&self.expiring)).map(|(_, place)| place)
    }

    /// When the first of those that wait after now is free.
    pub(super) fn next_due(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.waiting.range((now, u64::MAX)..).next().map(|(at, _)| *at)
    }

    /// The place of the message that this lock holds.
    pub(super) fn locked(&self, token: &str, now: DateTime<Utc>) -> Option<u64> {
        let place = self.locks.get(&token.to_ascii_lowercase())?;
        let (_, until) = self.all.get(place)?.lock.as_ref()?;
        (*until > now).then_some(*place)
    }

    /// The message at a place.
    pub(super) fn at(&self, place: u64) -> Option<&Message> {
        self.all.get(&place)
    }

    /// Changes the message at a place, and gives it as it is then.
    pub(super) fn change(&mut self, place: u64, change: impl FnOnce(&mut Message)) -> Option<&Message> {
        let mut message = self.remove(place)?;
        change(&mut message);
        self.put(place, message);
        self.all.get(&place)
    }

    /// Takes the message at a place away.
    pub(super) fn remove(&mut self, place: u64) -> Option<Message> {
        let message = self.all.remove(&place)?;
        self.free.remove(&(message.enqueued_at, message.sequence, place));
        for at in message.scheduled_for.iter().chain(message.lock.as_ref().map(|(_, until)| until)) {
            self.waiting.remove(&(*at, place));
        }
        if let Some(at) = message.expires_at {
            self.expiring.remove(&(at, place));
        }
        if let Some(token) = message.lock.as_ref().map(|(token, _)| token.to_ascii_lowercase())
            && self.locks.get(&token) == Some(&place)
        {
            self.locks.remove(&token);
        }
        Some(message)
    }

    fn put(&mut self, place: u64, message: Message) {
        match (&message.lock, message.scheduled_for) {
            (Some((token, until)), _) => {
                self.waiting.insert((*until, place));
                self.locks.insert(token.to_ascii_lowercase(), place);
            }
            (None, Some(at)) => {
                self.waiting.insert((at, place));
            }
            (None, None) => {
                self.free.insert((message.enqueued_at, message.sequence, place));
            }
        }
        if let (Some(at), None) = (message.expires_at, &message.lock) {
            self.expiring.insert((at, place));
        }
        self.all.insert(place, message);
    }
}
