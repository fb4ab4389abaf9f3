//! Who somebody is, and in which of the groups that the rules name: from people.yaml, else from Microsoft Graph, kept
//! for five minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use portcullis_rules::set::Rules;
use portcullis_rules::wish::{Groups, Who};
use uuid::Uuid;

use crate::azure::graph::Graph;

/// How long an answer of Microsoft Graph is good: a change of groups is seen after that.
const KEPT_FOR: TimeDelta = TimeDelta::minutes(5);

/// People that are kept at once; beyond it all are asked about anew.
const MOST_KEPT: usize = 10_000;

/// What Microsoft Graph said in the last minutes, by the store's clock.
#[derive(Debug, Default)]
pub struct PeopleKept(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    ids: BTreeMap<String, (DateTime<Utc>, Option<String>)>,
    groups: BTreeMap<String, (DateTime<Utc>, BTreeSet<String>)>,
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
        if let Some(known) = self.fresh(|kept| kept.ids.get(&key).cloned(), now) {
            return known.ok_or(NotKnown::Nobody);
        }
        let found = graph.id_of(name).await.map_err(|failed| NotKnown::Unreachable(failed.to_string()))?;
        self.keep(|kept| {
            kept.ids.insert(key, (now, found.clone()));
        });
        found.ok_or(NotKnown::Nobody)
    }

    /// Somebody with the groups that the rules name.
    pub async fn who(&self, graph: &Graph, rules: &Rules, id: &str, now: DateTime<Utc>) -> Who {
        let asked: Vec<(&str, &str)> = rules.people().entra_groups().collect();
        let id = id.to_lowercase();
        let ids = match self.fresh(|kept| kept.groups.get(&id).cloned(), now) {
            _ if asked.is_empty() => BTreeSet::new(),
            Some(known) => known,
            None => match graph.member_groups(&id, &asked.iter().map(|(_, group)| *group).collect::<Vec<_>>()).await {
                Ok(found) => {
                    let found: BTreeSet<String> = found.into_iter().collect();
                    self.keep(|kept| {
                        kept.groups.insert(id.clone(), (now, found.clone()));
                    });
                    found
                }
                Err(failed) => return Who::Person { id, groups: Groups::Unreachable { why: failed.to_string() } },
            },
        };
        let named = |of: bool| asked.iter().filter(|(_, group)| ids.contains(*group) == of).map(|(name, _)| (*name).to_owned()).collect();
        Who::Person { id, groups: Groups::Known { of: named(true), not_of: named(false) } }
    }

    fn fresh<T>(&self, find: impl FnOnce(&Kept) -> Option<(DateTime<Utc>, T)>, now: DateTime<Utc>) -> Option<T> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that went back makes nothing last longer.
        find(&kept).filter(|(at, _)| (TimeDelta::zero()..KEPT_FOR).contains(&(now - *at))).map(|(_, found)| found)
    }

    fn keep(&self, put: impl FnOnce(&mut Kept)) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.ids.len() + kept.groups.len() >= MOST_KEPT {
            *kept = Kept::default();
        }
        put(&mut kept);
    }
}

/// The object id that a text is, in lower case. What else an event claims must not become a name in the store or a part
/// of a URL.
pub(super) fn object_id(text: &str) -> Option<String> {
    Uuid::parse_str(text).ok().filter(|id| !id.is_nil()).map(|id| id.to_string())
}
