//! Faults that a test or a person asks for: they wait in the state for matching requests.

use serde::{Deserialize, Serialize};

/// One fault and the requests that it meets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Fault {
    /// The service: `arm`, `blob`, `servicebus`, `logs`, `entra`, `identity`, `graph`; `*` is any.
    #[serde(default = "any")]
    pub face: String,
    /// The HTTP method; `*` is any.
    #[serde(default = "any")]
    pub method: String,
    /// A part of path and query, letter case aside; empty is any.
    #[serde(default)]
    pub path: String,
    /// How many matching requests pass first.
    #[serde(default)]
    pub skip: u32,
    /// How many it meets then; absent is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// What happens.
    pub effect: Effect,
}

fn any() -> String {
    "*".to_owned()
}

/// What a fault does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", deny_unknown_fields, rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Effect {
    /// Answers this status instead, with an error envelope of the face; the request has no effect.
    Status {
        /// The HTTP status.
        status: u16,
        /// The error code of the envelope; absent gives one that the face uses for that status.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        /// Seconds for `Retry-After`; absent leaves the header out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
    },
    /// Cuts the connection before the request has any effect.
    CutBefore,
    /// Cuts the connection after the request has had its effect.
    CutAfter,
    /// Answers this many real milliseconds later.
    Delay {
        /// Milliseconds.
        milliseconds: u64,
    },
    /// A read answers the state of the first read that it met.
    Stale,
    /// Kills the handler before the request has any effect.
    KillBefore,
    /// Kills the handler after the request has had its effect and before it is answered.
    KillAfter,
}
