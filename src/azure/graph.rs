//! Microsoft Graph: who somebody is, and which of some groups they are in.

use azure_core::http::Method;
use bytes::Bytes;
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::channel::{Attempts, Channel, Outgoing};
use super::error::{CallFailed, FailureKind, Service};

/// Microsoft Graph 1.0.
#[derive(Clone, Debug)]
pub struct Graph {
    channel: Channel,
    endpoint: Url,
}

/// Groups that one `checkMemberGroups` may ask about (documentation of Microsoft Graph).
const MOST_GROUPS: usize = 20;

impl Graph {
    pub(super) fn new(channel: Channel, endpoint: Url) -> Self {
        Graph { channel, endpoint }
    }

    /// The object id of a person by user principal name, in lower case; nothing where the tenant has nobody of that name.
    pub async fn id_of(&self, upn: &str) -> Result<Option<String>, CallFailed> {
        let what = "asking Microsoft Graph for a person's object id";
        let mut url = self.url(&["users", upn]);
        url.query_pairs_mut().append_pair("$select", "id");
        let answer = match self.channel.call(Outgoing::get(what.to_owned(), url)).await {
            Ok(answer) => answer,
            Err(failed) if failed.kind == FailureKind::NotFound => return Ok(None),
            Err(failed) => return Err(failed),
        };
        match id_in(&answer.body) {
            Some(id) => Ok(Some(id)),
            None => Err(CallFailed::malformed(Service::Graph, Method::Get, what, &answer, "the person has no `id` that is a GUID")),
        }
    }

    /// Which of these groups, by object id, somebody is in, directly or through others; ids in lower case. Somebody whom
    /// the tenant does not have is in none.
    pub async fn member_groups(&self, object_id: &str, groups: &[&str]) -> Result<Vec<String>, CallFailed> {
        let mut found = Vec::new();
        for some in groups.chunks(MOST_GROUPS) {
            match self.check(object_id, some).await {
                Ok(ids) => found.extend(ids),
                Err(failed) if failed.kind == FailureKind::NotFound => return Ok(Vec::new()),
                Err(failed) => return Err(failed),
            }
        }
        Ok(found)
    }

    async fn check(&self, object_id: &str, groups: &[&str]) -> Result<Vec<String>, CallFailed> {
        let what = "asking Microsoft Graph for a person's groups";
        let url = self.url(&["directoryObjects", object_id, "checkMemberGroups"]);
        let outgoing = Outgoing {
            method: Method::Post,
            headers: vec![("content-type", "application/json".to_owned())],
            body: Bytes::from(json!({"groupIds": groups}).to_string()),
            // It changes nothing.
            attempts: Attempts::Safe,
            ..Outgoing::get(what.to_owned(), url)
        };
        let answer = self.channel.call(outgoing).await?;
        match ids_in(&answer.body) {
            Some(ids) => Ok(ids),
            None => Err(CallFailed::malformed(Service::Graph, Method::Post, what, &answer, "the answer has no `value`")),
        }
    }

    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("v1.0").extend(segments);
        }
        url
    }
}

/// The object id of the person that an answer describes, in lower case; nothing where it has none, or none that is a GUID: it
/// becomes a part of names in the store.
pub fn id_in(answer: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(answer).ok()?;
    Uuid::parse_str(body.get("id")?.as_str()?).ok().map(|id| id.to_string())
}

/// The ids that an answer lists, in lower case; nothing where it is no list.
pub fn ids_in(answer: &[u8]) -> Option<Vec<String>> {
    let body: Value = serde_json::from_slice(answer).ok()?;
    Some(body.get("value")?.as_array()?.iter().filter_map(Value::as_str).map(str::to_lowercase).collect())
}
