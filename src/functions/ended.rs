//! How an invocation ends.

use chrono::{DateTime, SecondsFormat, Utc};

use crate::azure::CallFailed;
use crate::store::StoreError;

/// How an invocation ended. The first three are success: whatever has to happen further is already durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It is done.
    Done {
        /// What was done, for the log.
        note: String,
    },
    /// It goes on later, by a message that is already sent or by the timer's next tick.
    AgainAt {
        /// When.
        at: DateTime<Utc>,
        /// Why, for the log.
        note: String,
    },
    /// It can never be done; it is kept under `rejected/` and an alert is raised.
    Rejected {
        /// Why.
        reason: String,
    },
    /// Neither the store nor a queue took it: the host must deliver it again.
    Failed {
        /// Why.
        why: String,
    },
}

impl Ended {
    /// Done, with a note for the log.
    pub fn done(note: impl Into<String>) -> Self {
        Ended::Done { note: note.into() }
    }

    /// The end in one word, for telemetry.
    pub fn outcome(&self) -> &'static str {
        match self {
            Ended::Done { .. } => "done",
            Ended::AgainAt { .. } => "again",
            Ended::Rejected { .. } => "rejected",
            Ended::Failed { .. } => "failed",
        }
    }

    /// The end as a line for the host's log.
    pub fn line(&self) -> String {
        match self {
            Ended::Done { note } => note.clone(),
            Ended::AgainAt { at, note } => format!("again at {}: {note}", at.to_rfc3339_opts(SecondsFormat::Secs, true)),
            Ended::Rejected { reason } => format!("rejected: {reason}"),
            Ended::Failed { why } => format!("failed: {why}"),
        }
    }
}

/// What stops a function before its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The store cannot be used: nothing is judged, opened or closed, and the same message is sent again.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The queue did not take a message that has to go out.
    #[error("{0}")]
    Queue(CallFailed),
    /// Another run wrote the record in between; this one ends without an effect and is sent again.
    #[error("another run works on {0}")]
    Lost(String),
}
