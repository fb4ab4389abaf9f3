//! What is decided on: the inputs of a decision, as they are stored with it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use portcullis_domain::arm_id::VmId;
use portcullis_domain::duration::spoken;
use portcullis_domain::source::Sources;
use serde::{Deserialize, Serialize};

/// Everything that a decision sees. Two decisions of one rule set on equal wishes are equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wish {
    /// For whom.
    pub who: Who,
    /// Whose request it is, by object id, where `who` wants to decide on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asker: Option<String>,
    /// For which machine.
    pub vm: VmFacts,
    /// Which ports.
    pub ports: BTreeSet<u16>,
    /// From where.
    pub sources: Sources,
    /// For how long, in seconds.
    pub seconds: i64,
    /// The longest time at once that the JIT policy allows, in seconds; absent where JIT has checked it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jit_longest_seconds: Option<i64>,
    /// When it is decided on.
    #[serde(deserialize_with = "portcullis_domain::time::stored")]
    pub at: DateTime<Utc>,
    /// How it came.
    pub way: Way,
    /// The reason that was given; empty where there is none.
    #[serde(default)]
    pub reason: String,
    /// The incident that it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<NamedIncident>,
    /// Open alerts of Defender for Cloud on the machine; absent while they are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<u32>,
    /// The maintenance window that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// The change that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// Approvals without a person for this person in the last 24 hours.
    #[serde(default)]
    pub approvals_today: u32,
    /// How long the machine was open in the last 24 hours, in seconds.
    #[serde(default)]
    pub open_today_seconds: i64,
}

impl Wish {
    /// For how long.
    pub fn duration(&self) -> TimeDelta {
        seconds(self.seconds)
    }
}

/// A time of so many seconds; what no time can be is the longest or the shortest there is.
pub(crate) fn seconds(count: i64) -> TimeDelta {
    TimeDelta::try_seconds(count).unwrap_or(if count < 0 { TimeDelta::MIN } else { TimeDelta::MAX })
}

/// How a wish came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Way {
    /// Somebody asked Portcullis.
    Asked,
    /// Somebody asked Portcullis and breaks the glass.
    BreaksGlass,
    /// Somebody opened it around Portcullis.
    Direct,
}

/// For whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Who {
    /// Somebody who is known.
    Person {
        /// The Entra object id, in lower case.
        id: String,
        /// What is known of the groups that the rules name.
        groups: Groups,
    },
    /// Nobody knows who.
    Unknown,
}

/// What is known of somebody's groups, by their names in people.yaml.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Groups {
    /// Each group that was asked about is one that the person is in, or not.
    Known {
        /// In these.
        of: BTreeSet<String>,
        /// Not in these.
        not_of: BTreeSet<String>,
    },
    /// Nobody could say.
    Unreachable {
        /// Why.
        why: String,
    },
}

/// What decides about a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VmFacts {
    /// The machine.
    pub id: VmId,
    /// The management groups above its subscription.
    #[serde(default)]
    pub management_groups: ManagementGroups,
    /// Its tags: names in lower case, as Azure compares them.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// What is known of the management groups above a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ManagementGroups {
    /// These, by name in lower case, up to the tenant's root.
    Known(BTreeSet<String>),
    /// Nobody could say.
    Unreachable {
        /// Why.
        why: String,
    },
}

impl ManagementGroups {
    /// Those of these names.
    pub fn of(names: impl IntoIterator<Item = String>) -> Self {
        ManagementGroups::Known(names.into_iter().map(|name| name.to_lowercase()).collect())
    }

    /// The names that are known.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names = match self {
            ManagementGroups::Known(names) => Some(names),
            ManagementGroups::Unreachable { .. } => None,
        };
        names.into_iter().flatten().map(String::as_str)
    }
}

impl Default for ManagementGroups {
    fn default() -> Self {
        ManagementGroups::Known(BTreeSet::new())
    }
}

impl VmFacts {
    /// The facts of a machine; names of tags are taken in lower case.
    pub fn new(id: VmId, management_groups: ManagementGroups, tags: impl IntoIterator<Item = (String, String)>) -> Self {
        VmFacts { id, management_groups, tags: tags.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect() }
    }
}

/// An incident that a wish names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedIncident {
    /// As the wish names it; empty in a scenario, where it has no name.
    pub name: String,
    /// What is known of it.
    pub seen: SeenIncident,
}

impl NamedIncident {
    /// It in one sentence for people.
    pub fn sentence(&self) -> String {
        let named = if self.name.is_empty() { "the incident".to_owned() } else { format!("incident {}", self.name) };
        match &self.seen {
            SeenIncident::Known(incident) => format!("{named} is {}", incident.sentence()),
            SeenIncident::Absent { why } => why.clone(),
            SeenIncident::NotAsked => format!("{named} was not read, since no rule asks for one"),
            SeenIncident::Unreachable { why } => format!("{named} could not be read: {why}"),
        }
    }

    /// The incident, where rules see one.
    pub fn known(&self) -> Option<&Incident> {
        match &self.seen {
            SeenIncident::Known(incident) => Some(incident),
            SeenIncident::Absent { .. } | SeenIncident::NotAsked | SeenIncident::Unreachable { .. } => None,
        }
    }
}

/// What is known of an incident that a wish names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum SeenIncident {
    /// This.
    Known(Incident),
    /// There is none: rules see no incident.
    Absent {
        /// Why, in one sentence that names it.
        why: String,
    },
    /// It was not read, because no rule asks for an incident.
    NotAsked,
    /// Nobody could say.
    Unreachable {
        /// Why.
        why: String,
    },
}

/// An incident as Microsoft Sentinel has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Incident {
    /// Whether it is not closed.
    pub open: bool,
    /// How severe.
    pub severity: IncidentSeverity,
    /// The object id of its owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Whether the machine is one of its entities.
    pub names_this_vm: bool,
    /// How long ago it was created, in seconds.
    pub age_seconds: i64,
}

impl Incident {
    /// It in words that follow its name and `is`.
    pub fn sentence(&self) -> String {
        let state = if self.open { "open" } else { "closed" };
        let names = if self.names_this_vm { "names this machine" } else { "does not name this machine" };
        let owner = self.owner.as_deref().map(|owner| format!(", owned by {owner}")).unwrap_or_default();
        let age = spoken(seconds(self.age_seconds));
        format!("{state}, severity {}, {names}, {age} old{owner}", self.severity.text())
    }
}

/// How severe an incident is, in the words of Microsoft Sentinel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum IncidentSeverity {
    /// Informational.
    Informational,
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
}

impl IncidentSeverity {
    /// The severity as rules write it.
    pub fn text(self) -> &'static str {
        match self {
            IncidentSeverity::Informational => "informational",
            IncidentSeverity::Low => "low",
            IncidentSeverity::Medium => "medium",
            IncidentSeverity::High => "high",
        }
    }
}
