//! Who somebody is, and in which of the groups that the rules name: from people.yaml, else from Microsoft Graph, kept
//! for five minutes.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use portcullis_rules::set::Rules;
use portcullis_rules::wish::{Groups, Who};
use uuid::Uuid;

use super::kept::Kept;
use crate::azure::graph::Graph;

/// What Microsoft Graph said in the last minutes.
#[derive(Debug, Default)]
pub struct PeopleKept {
    ids: Kept<Option<String>>,
    groups: Kept<BTreeSet<String>>,
}

/// A name that could not be turned into an object id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotKnown {
    /// The tenant has nobody of that name.
    Nobody,
    /// Nobody could say.
    Unreachable(String),
}

impl PeopleKept {
    /// The object id of somebody whom JIT's record names: a UPN, or an object id itself.
    pub async fn id_of(&self, graph: &Graph, rules: &Rules, name: &str, now: DateTime<Utc>) -> Result<String, NotKnown> {
        if let Some(id) = rules.people().id_of(name).map(str::to_owned).or_else(|| object_id(name)) {
            return Ok(id);
        }
        let key = name.to_lowercase();
        if let Some(known) = self.ids.fresh(&key, now) {
            return known.ok_or(NotKnown::Nobody);
        }
        let found = graph.id_of(name).await.map_err(|failed| NotKnown::Unreachable(failed.to_string()))?;
        self.ids.keep(key, now, found.clone());
        found.ok_or(NotKnown::Nobody)
    }

    /// Somebody with the groups that the rules name.
    pub async fn who(&self, graph: &Graph, rules: &Rules, id: &str, now: DateTime<Utc>) -> Who {
        let asked: Vec<(&str, &str)> = rules.people().entra_groups().collect();
        let id = id.to_lowercase();
        let ids = match self.groups.fresh(&id, now) {
            _ if asked.is_empty() => BTreeSet::new(),
            Some(known) => known,
            None => match graph.member_groups(&id, &asked.iter().map(|(_, group)| *group).collect::<Vec<_>>()).await {
                Ok(found) => {
                    let found: BTreeSet<String> = found.into_iter().collect();
                    self.groups.keep(id.clone(), now, found.clone());
                    found
                }
                Err(failed) => return Who::Person { id, groups: Groups::Unreachable { why: failed.to_string() } },
            },
        };
        let named = |of: bool| asked.iter().filter(|(_, group)| ids.contains(*group) == of).map(|(name, _)| (*name).to_owned()).collect();
        Who::Person { id, groups: Groups::Known { of: named(true), not_of: named(false) } }
    }
}

/// The object id that a text is, in lower case. What else an event claims must not become a name in the store or a part
/// of a URL.
pub(super) fn object_id(text: &str) -> Option<String> {
    Uuid::parse_str(text).ok().filter(|id| !id.is_nil()).map(|id| id.to_string())
}
