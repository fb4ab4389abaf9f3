//! What came to no end: dead letters of the queues, and what was set aside because nobody could use it. Nothing of it is tried
//! again until a person says so.

use std::convert::Infallible;

use chrono::{DateTime, Utc};
use portcullis_domain::audit::{AuditKind, AuditRecord};
use portcullis_domain::finding::Severity;
use portcullis_domain::plain::quoted;
use portcullis_domain::want::Wanter;
use serde::Deserialize;
use serde_json::Value;
use tracing::{info, warn};
use uuid::Uuid;

use super::jit_activity::{Activity, NotUsed};
use super::{App, Message, Queue, Stopped, in_lanes};
use crate::azure::servicebus::DeadLetter;

/// Dead letters of one queue that are looked through: each is held for a moment.
const MOST_OF_QUEUE: usize = 100;

/// Things that were set aside that are read for one answer, the newest first.
const MOST_SET_ASIDE: usize = 100;

/// The kinds of id: `rejected-…` is what was set aside, `QUEUE-NUMBER` a dead letter.
const SET_ASIDE: &str = "rejected";

/// Something that came to no end.
#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    /// What it is called here.
    pub id: String,
    /// The queue that it is a dead letter of; nothing where it was set aside.
    pub queue: Option<Queue>,
    /// When it was sent, or set aside.
    pub at: Option<DateTime<Utc>>,
    /// The function that could not use it.
    pub from: Option<String>,
    /// Why it came to no end.
    pub reason: String,
    /// How often it was delivered.
    pub deliveries: Option<u32>,
    /// It, whole.
    pub body: String,
    /// What would be sent to have it worked on again, or why nothing can be.
    pub again: Result<Message, String>,
}

/// What of it there is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AllLeft {
    /// These, the newest first.
    pub items: Vec<Left>,
    /// Whether there is more.
    pub more: bool,
}

/// What came of sending something again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// It is in this queue again.
    Sent(Queue),
    /// There is no such thing, or somebody else holds it just now.
    NotThere,
    /// It cannot be used as it is.
    Unusable(String),
}

/// What is kept of something that was set aside.
#[derive(Debug, Deserialize)]
struct SetAside {
    from: String,
    reason: String,
    body: String,
}

impl App {
    /// Everything that came to no end. Dead letters are held for a moment, and given back.
    pub async fn left(&self) -> Result<AllLeft, Stopped> {
        // Each to its end, although another one failed: what it holds it gives back.
        let (approval, sweep, alerts, aside) = tokio::join!(
            self.dead_letters(Queue::Approval),
            self.dead_letters(Queue::Sweep),
            self.dead_letters(Queue::Alerts),
            self.all_set_aside(),
        );
        let all = [approval?, sweep?, alerts?, aside?];
        let more = all.iter().any(|all| all.more);
        let mut items: Vec<Left> = all.into_iter().flat_map(|all| all.items).collect();
        items.sort_by(|a, b| (b.at, &a.id).cmp(&(a.at, &b.id)));
        Ok(AllLeft { items, more })
    }

    /// One of them by its id.
    pub async fn left_one(&self, id: &str) -> Result<Option<Left>, Stopped> {
        match place(id) {
            Some(Place::SetAside(name)) => {
                let known = self.store.rejected(name).await?;
                let at = known.into_iter().find_map(|(known, at)| at.filter(|_| known == name));
                self.set_aside_one(name, at).await
            }
            Some(Place::Dead(queue, sequence)) => {
                let (wanted, others) = self.held_until(queue, Some(sequence)).await?;
                self.give_back(queue, wanted.iter().chain(&others)).await;
                Ok(wanted.map(|letter| dead(queue, &letter)))
            }
            None => Ok(None),
        }
    }

    /// Sends one of them again, in somebody's name. Its record is written first; then it is sent, and taken away: whoever is stopped
    /// between the two has sent it, and may send it once more, which is harmless.
    pub async fn replay(&self, id: &str, by: &Wanter) -> Result<Replayed, Stopped> {
        match place(id) {
            Some(Place::SetAside(name)) => {
                let Some(left) = self.set_aside_one(name, None).await? else { return Ok(Replayed::NotThere) };
                let replayed = self.send_again(&left, by).await?;
                if matches!(replayed, Replayed::Sent(_)) {
                    self.store.remove(&format!("rejected/{name}.json")).await?;
                }
                Ok(replayed)
            }
            Some(Place::Dead(queue, sequence)) => {
                let (wanted, others) = self.held_until(queue, Some(sequence)).await?;
                let replayed = match &wanted {
                    Some(letter) => self.send_again(&dead(queue, letter), by).await,
                    None => Ok(Replayed::NotThere),
                };
                self.give_back(queue, others.iter()).await;
                let Some(letter) = wanted else { return replayed };
                match replayed {
                    Ok(Replayed::Sent(sent)) => {
                        self.azure.bus.complete(queue.name(), &letter).await.map_err(Stopped::Queue)?;
                        Ok(Replayed::Sent(sent))
                    }
                    other => {
                        self.give_back(queue, [&letter].into_iter()).await;
                        other
                    }
                }
            }
            None => Ok(Replayed::NotThere),
        }
    }

    async fn send_again(&self, left: &Left, by: &Wanter) -> Result<Replayed, Stopped> {
        let message = match &left.again {
            Ok(message) => message,
            Err(why) => return Ok(Replayed::Unusable(why.clone())),
        };
        let now = self.store.check().await?;
        let name = by.shown();
        let audit = AuditRecord {
            what: format!("{name} has {} worked on again", left.id),
            why: format!("it came to no end: {}", left.reason),
            person: Some(name.to_owned()),
            person_id: Some(by.id.clone()),
            ..AuditRecord::of_service(
                &format!("replayed-{}-{}", left.id, now.format("%Y%m%dT%H%M%S")),
                now,
                AuditKind::Replayed,
                message.queue().name(),
                Severity::Low,
            )
        };
        self.write_audit_once(&audit).await?;
        self.send(message).await?;
        info!(left.id = left.id, queue = message.queue().name(), caller.id = by.id, "worked on again");
        Ok(Replayed::Sent(message.queue()))
    }

    async fn dead_letters(&self, queue: Queue) -> Result<AllLeft, Stopped> {
        let (_, letters) = self.held_until(queue, None).await?;
        self.give_back(queue, letters.iter()).await;
        let items = letters.iter().map(|letter| dead(queue, letter)).collect();
        Ok(AllLeft { items, more: letters.len() >= MOST_OF_QUEUE })
    }

    /// Holds dead letters of a queue until the wanted one is among them, or there are no more; gives it, and the others. If one cannot
    /// be taken, those that were are given back.
    async fn held_until(&self, queue: Queue, wanted: Option<u64>) -> Result<(Option<DeadLetter>, Vec<DeadLetter>), Stopped> {
        let mut others = Vec::new();
        while others.len() < MOST_OF_QUEUE {
            match self.azure.bus.take_dead_letter(queue.name()).await {
                Ok(Some(letter)) if Some(letter.sequence) == wanted => return Ok((Some(letter), others)),
                Ok(Some(letter)) => others.push(letter),
                Ok(None) => break,
                Err(why) => {
                    self.give_back(queue, others.iter()).await;
                    return Err(Stopped::Queue(why));
                }
            }
        }
        Ok((None, others))
    }

    /// Gives dead letters back. One that cannot be is held until its lock ends.
    async fn give_back(&self, queue: Queue, letters: impl Iterator<Item = &DeadLetter>) {
        let letters: Vec<&DeadLetter> = letters.collect();
        let Ok(()) = in_lanes(&letters, |letter| self.give_one_back(queue, letter)).await;
    }

    async fn give_one_back(&self, queue: Queue, letter: &DeadLetter) -> Result<(), Infallible> {
        if let Err(why) = self.azure.bus.give_back(queue.name(), letter).await {
            warn!(queue = queue.name(), error = %why, "a dead letter could not be given back: it shows again when its lock ends");
        }
        Ok(())
    }

    async fn all_set_aside(&self) -> Result<AllLeft, Stopped> {
        self.store.check().await?;
        let names = self.store.rejected("").await?;
        let more = names.len() > MOST_SET_ASIDE;
        let mut items = Vec::new();
        for (name, at) in names.into_iter().take(MOST_SET_ASIDE) {
            items.extend(self.set_aside_one(&name, at).await?);
        }
        Ok(AllLeft { items, more })
    }

    async fn set_aside_one(&self, name: &str, at: Option<DateTime<Utc>>) -> Result<Option<Left>, Stopped> {
        let text = self.store.text(&format!("rejected/{name}.json")).await?;
        if text.is_empty() {
            self.store.check().await?;
            return Ok(None);
        }
        Ok(Some(kept_aside(name, at, text)))
    }
}

/// What was set aside under a name, by what is kept of it. What cannot be read of it is there whole, and is sent by nobody.
pub fn kept_aside(name: &str, at: Option<DateTime<Utc>>, text: String) -> Left {
    let (from, reason, body, again) = match serde_json::from_str::<SetAside>(&text) {
        Ok(SetAside { from, reason, body }) => {
            let again = if from == "jit_activity" { event_of(&body) } else { message_of(&body) };
            (Some(from), reason, body, again)
        }
        Err(why) => {
            let why = format!("what is kept of it cannot be read: {}", quoted(&why.to_string()));
            (None, why.clone(), text, Err(why))
        }
    };
    Left { id: format!("{SET_ASIDE}-{name}"), queue: None, at, from, reason, deliveries: None, body, again }
}

fn dead(queue: Queue, letter: &DeadLetter) -> Left {
    let said = if letter.reason.is_empty() { "the broker says no reason" } else { &letter.reason };
    Left {
        id: format!("{}-{}", queue.name(), letter.sequence),
        queue: Some(queue),
        at: letter.sent,
        from: None,
        reason: said.to_owned(),
        deliveries: Some(letter.deliveries),
        again: message_of(&letter.body),
        body: letter.body.clone(),
    }
}

/// The message that a body is, unless it would be set aside at once.
fn message_of(body: &str) -> Result<Message, String> {
    let message = Message::read(body).map_err(|why| why.to_string())?;
    let subscription = match &message {
        Message::Shard { subscription, .. } => subscription.clone(),
        Message::Look { vm, .. } => vm.subscription(),
        Message::Unstored { event, .. } => return as_unstored(event.clone()),
        Message::Event { .. } | Message::Row { .. } => return Ok(message),
    };
    match Uuid::parse_str(&subscription) {
        Ok(_) => Ok(message),
        Err(_) => Err("its subscription is not a GUID".to_owned()),
    }
}

/// The message that has an event stored and worked on, unless it would be set aside at once.
fn event_of(body: &str) -> Result<Message, String> {
    as_unstored(serde_json::from_str(body).map_err(|why| format!("it is no JSON: {why}"))?)
}

fn as_unstored(event: Value) -> Result<Message, String> {
    let activity = match Activity::read(&event) {
        Ok(activity) => activity,
        Err(NotUsed::Foreign(_)) => return Err("the event is not about JIT".to_owned()),
        Err(NotUsed::NotDone(became)) => return Err(format!("Azure did not do what the event is about ({became})")),
        Err(NotUsed::Malformed(why)) => return Err(why),
    };
    match Uuid::parse_str(&activity.resource.subscription()) {
        Ok(_) => Ok(Message::Unstored { event, tries: 0 }),
        Err(_) => Err("the event's resource: its subscription is not a GUID".to_owned()),
    }
}

/// Where something that came to no end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// In the store, under this name.
    SetAside(&'a str),
    /// Among the dead letters of a queue, with this sequence number.
    Dead(Queue, u64),
}

/// Where the thing of this id is; nothing where it is no id.
pub fn place(id: &str) -> Option<Place<'_>> {
    let (kind, name) = id.split_once('-')?;
    if kind == SET_ASIDE {
        return Some(Place::SetAside(name));
    }
    let queue = [Queue::Approval, Queue::Sweep, Queue::Alerts].into_iter().find(|queue| queue.name() == kind)?;
    Some(Place::Dead(queue, name.parse().ok()?))
}
