//! What somebody wants of a VM: left in its inbox, worked on by the next look.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::arm_id::VmId;
use crate::incident::IncidentName;
use crate::source::Sources;

/// One wish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Want {
    /// Its id; that of the grant that may come of it.
    pub id: String,
    /// When it was received.
    #[serde(deserialize_with = "crate::time::stored")]
    pub at: DateTime<Utc>,
    /// The VM.
    pub vm: VmId,
    /// Who wants it.
    pub by: Wanter,
    /// What.
    pub what: What,
}

/// Who wants something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wanter {
    /// The Entra object id, in lower case.
    pub id: String,
    /// A name for people; empty where the token has none.
    pub name: String,
}

impl Wanter {
    /// The name, else the object id.
    pub fn shown(&self) -> &str {
        if self.name.is_empty() { &self.id } else { &self.name }
    }
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum What {
    /// A port open.
    Open {
        /// The port.
        port: u16,
        /// For these sources.
        sources: Sources,
        /// For so many seconds from its opening on.
        seconds: i64,
        /// For whom.
        person: Wanter,
        /// Why.
        reason: String,
        /// The incident that it is for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        incident: Option<IncidentName>,
    },
    /// A grant ended.
    Close {
        /// The grant, by id.
        grant: String,
    },
}

/// What became of a wish, as whoever asked may read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The wish.
    pub want: Want,
    /// What became of it.
    pub became: Became,
    /// When that was decided; absent while it was not.
    #[serde(default, deserialize_with = "crate::time::stored")]
    pub at: Option<DateTime<Utc>>,
    /// Why, in one sentence; empty while nothing was decided.
    pub why: String,
    /// The rule that decided, where one did.
    pub rule: Option<String>,
}

/// What became of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Became {
    /// Nothing yet.
    Received,
    /// It is granted: the grant says how far it is.
    Granted,
    /// It is refused.
    Refused,
    /// The grant is ended.
    Ended,
}
