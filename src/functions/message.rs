//! Our own messages: keys, never authority.
//!
//! A body has exactly one top-level key, because the Functions host lets the keys of a body overwrite the metadata of
//! its message.

use chrono::{DateTime, Utc};
use portcullis_domain::arm_id::VmId;
use portcullis_domain::opening::short_hash;
use portcullis_domain::plain::quoted;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The one top-level key.
const KEY: &str = "portcullis";

/// The queues of the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// What the approval logic works on.
    Approval,
    /// Shards of the sweep.
    Sweep,
    /// Rows and messages to people.
    Alerts,
}

impl Queue {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Queue::Approval => "approval",
            Queue::Sweep => "sweep",
            Queue::Alerts => "alerts",
        }
    }
}

/// What a message asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Message {
    /// Work on a stored event.
    Event {
        /// The event's key in the store.
        id: String,
        /// Which of its rounds.
        round: Round,
        /// Whether the later rounds are sent, so that a first one that has to wait sends them once.
        #[serde(default)]
        rounds_sent: bool,
        /// How often it was sent again because something did not answer.
        #[serde(default)]
        tries: u32,
    },
    /// Store this event, which the store could not take when it came, and work on it.
    Unstored {
        /// The event as it came.
        event: Value,
        /// How often it was sent again because something did not answer.
        #[serde(default)]
        tries: u32,
    },
    /// Look at a VM.
    Look {
        /// The VM.
        vm: VmId,
        /// The time of the wake-up that this is; absent for every other cause.
        #[serde(default, deserialize_with = "portcullis_domain::time::stored", skip_serializing_if = "Option::is_none")]
        wake: Option<DateTime<Utc>>,
        /// The due entry that this is for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        due: Option<DueEntry>,
        /// By the store's clock, when another run was found to work on the VM: a look that began later has seen whatever this
        /// one was sent for.
        #[serde(default, deserialize_with = "portcullis_domain::time::stored", skip_serializing_if = "Option::is_none")]
        busy: Option<DateTime<Utc>>,
        /// How often it was sent again because something did not answer or another run worked on the VM.
        #[serde(default)]
        tries: u32,
    },
    /// Look through a subscription.
    Shard {
        /// The subscription's GUID.
        subscription: String,
        /// How often it was sent again because something did not answer.
        #[serde(default)]
        tries: u32,
    },
    /// Send the rows of audit records.
    Row {
        /// The audit record's id.
        audit: String,
        /// The ids of others whose rows go with it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        with: Vec<String>,
        /// How often it was sent again because something did not answer.
        #[serde(default)]
        tries: u32,
    },
}

/// An entry of the index of what is due, of the VM that the message is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DueEntry {
    /// When it was due.
    #[serde(deserialize_with = "portcullis_domain::time::stored")]
    pub at: DateTime<Utc>,
    /// The run that made it.
    pub run: String,
}

/// An event is worked on three times: its record may not show yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Round {
    /// When it came.
    First,
    /// 20 seconds later.
    Second,
    /// 90 seconds later.
    Third,
}

/// Why a body is not one of our messages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOurs {
    /// It is not JSON.
    #[error("the message is not JSON: {0}")]
    NotJson(String),
    /// It has not exactly the one top-level key.
    #[error("the message must be an object with `{KEY}` as its only key")]
    NotWrapped,
    /// What is inside is not known.
    #[error("the message is none that Portcullis sends: {0}")]
    Unknown(String),
}

impl Message {
    /// A look at a VM for whatever cause.
    pub fn look(vm: &VmId) -> Self {
        Message::Look { vm: vm.clone(), wake: None, due: None, busy: None, tries: 0 }
    }

    /// Reads a body.
    pub fn read(body: &str) -> Result<Self, NotOurs> {
        let mut value: Value = serde_json::from_str(body).map_err(|why| NotOurs::NotJson(quoted(&why.to_string())))?;
        let object = value.as_object_mut().filter(|object| object.len() == 1).ok_or(NotOurs::NotWrapped)?;
        let inside = object.remove(KEY).ok_or(NotOurs::NotWrapped)?;
        // What a foreign message holds is told in part: it is kept whole elsewhere.
        serde_json::from_value(inside).map_err(|why| NotOurs::Unknown(quoted(&why.to_string())))
    }

    /// The body.
    pub fn body(&self) -> String {
        json!({ KEY: self }).to_string()
    }

    /// The queue that it goes to.
    pub fn queue(&self) -> Queue {
        match self {
            Message::Event { .. } | Message::Unstored { .. } | Message::Look { .. } => Queue::Approval,
            Message::Shard { .. } => Queue::Sweep,
            Message::Row { .. } => Queue::Alerts,
        }
    }

    /// An id for tracing, made of cause and subject.
    pub fn id(&self) -> String {
        short_hash(&self.body())
    }

    /// How often it was sent again.
    pub fn tries(&self) -> u32 {
        match self {
            Message::Event { tries, .. }
            | Message::Unstored { tries, .. }
            | Message::Look { tries, .. }
            | Message::Shard { tries, .. }
            | Message::Row { tries, .. } => *tries,
        }
    }

    /// The same look, sent once more because another run worked on the VM at this time. What counts is the first such time: a look
    /// that began after it is enough, however often another one is met.
    #[must_use]
    pub fn after(&self, busy_at: DateTime<Utc>) -> Self {
        let mut message = self.again();
        if let Message::Look { busy, .. } = &mut message {
            busy.get_or_insert(busy_at);
        }
        message
    }

    /// The same message, sent once more.
    #[must_use]
    pub fn again(&self) -> Self {
        let mut message = self.clone();
        match &mut message {
            Message::Event { tries, .. }
            | Message::Unstored { tries, .. }
            | Message::Look { tries, .. }
            | Message::Shard { tries, .. }
            | Message::Row { tries, .. } => *tries = tries.saturating_add(1),
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm() -> VmId {
        "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm1".parse().unwrap()
    }

    #[test]
    fn a_message_has_one_top_level_key_and_survives_the_wire() {
        let at = portcullis_domain::time::parse("2026-01-15T09:00:00Z").unwrap();
        for message in [
            Message::Event { id: "e".to_owned(), round: Round::Second, rounds_sent: true, tries: 1 },
            Message::Unstored { event: json!({"id": 1}), tries: 0 },
            Message::Look { vm: vm(), wake: Some(at), due: Some(DueEntry { at, run: "0a1b".to_owned() }), busy: Some(at), tries: 2 },
            Message::Shard { subscription: "s".to_owned(), tries: 0 },
            Message::Row { audit: "a".to_owned(), with: Vec::new(), tries: 0 },
            Message::Row { audit: "a".to_owned(), with: vec!["b".to_owned()], tries: 0 },
        ] {
            let body = message.body();
            let value: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(value.as_object().unwrap().len(), 1);
            assert_eq!(Message::read(&body), Ok(message.clone()));
            assert_eq!(message.again().tries(), message.tries() + 1);
            assert_ne!(message.again().id(), message.id());
        }
        assert_eq!(Message::look(&vm()).queue().name(), "approval");
    }

    #[test]
    fn what_is_not_ours_is_refused_with_the_reason() {
        assert!(matches!(Message::read("{"), Err(NotOurs::NotJson(_))));
        for body in ["[]", "1", "{}", r#"{"portcullis":{},"SessionId":"x"}"#, r#"{"kind":"look"}"#] {
            assert_eq!(Message::read(body), Err(NotOurs::NotWrapped), "{body}");
        }
        for body in [
            r#"{"portcullis":{"kind":"open"}}"#,
            r#"{"portcullis":{"kind":"look","vm":"x"}}"#,
            r#"{"portcullis":{"kind":"row","audit":"a","more":1}}"#,
            r#"{"portcullis":[]}"#,
        ] {
            assert!(matches!(Message::read(body), Err(NotOurs::Unknown(_))), "{body}");
        }
    }
}
