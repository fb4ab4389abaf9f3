//! Incidents of Microsoft Sentinel, as people name them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::arm_id::{ArmId, WorkspaceId, is_guid};
use crate::plain::quoted;

/// An incident as somebody names it. That there is one is not said by that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum IncidentName {
    /// By the number that the portal shows; a workspace counts from 1.
    Number(u32),
    /// By the GUID at the end of its resource id, in lower case.
    Id(String),
    /// By its resource id.
    Resource {
        /// The workspace that it lies in.
        workspace: Box<WorkspaceId>,
        /// The GUID at the end of the id, in lower case.
        id: String,
    },
}

/// A text that can be no incident.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` names no incident: write its number, such as 1234, or the GUID at the end of its resource id, or the resource id whole, which \
     begins with /subscriptions/",
    quoted(.0)
)]
pub struct NoIncident(String);

/// What the resource id of an incident ends in, after that of its workspace (REST specification). The portal writes the type with a
/// capital.
const BELOW_WORKSPACE: &str = "/providers/microsoft.securityinsights/incidents/";

impl IncidentName {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self, NoIncident> {
        let text = text.trim();
        let named = number(text).map(IncidentName::Number).or_else(|| guid(text).map(IncidentName::Id)).or_else(|| resource(text));
        named.ok_or_else(|| NoIncident(text.to_owned()))
    }
}

/// The number that a text is: digits alone, as people quote it.
fn number(text: &str) -> Option<u32> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_plain && *number > 0)
}

/// The GUID that a text is, in lower case.
pub fn guid(text: &str) -> Option<String> {
    is_guid(text).then(|| text.to_ascii_lowercase())
}

fn resource(text: &str) -> Option<IncidentName> {
    let key = ArmId::parse(text).ok()?.key();
    let (workspace, id) = key.split_once(BELOW_WORKSPACE)?;
    // As it came, since people read it.
    let workspace = Box::new(WorkspaceId::parse(text.get(..workspace.len())?).ok()?);
    Some(IncidentName::Resource { workspace, id: guid(id)? })
}

impl fmt::Display for IncidentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IncidentName::Number(number) => number.fmt(f),
            IncidentName::Id(id) => f.write_str(id),
            IncidentName::Resource { workspace, id } => write!(f, "{workspace}/providers/Microsoft.SecurityInsights/incidents/{id}"),
        }
    }
}

impl FromStr for IncidentName {
    type Err = NoIncident;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        IncidentName::parse(text)
    }
}

impl TryFrom<String> for IncidentName {
    type Error = NoIncident;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        IncidentName::parse(&text)
    }
}

impl From<IncidentName> for String {
    fn from(name: IncidentName) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKSPACE: &str = "/subscriptions/s/resourceGroups/soc/providers/Microsoft.OperationalInsights/workspaces/Sentinel";
    const ID: &str = "73e01a99-5cd7-4139-a149-9f2736ff2ab5";

    #[test]
    fn an_incident_is_named_by_number_by_id_or_by_resource_id_in_any_letter_case() {
        let resource = || IncidentName::Resource { workspace: Box::new(WorkspaceId::parse(WORKSPACE).unwrap()), id: ID.to_owned() };
        let whole = format!("{WORKSPACE}/providers/Microsoft.SecurityInsights/Incidents/{ID}");
        for (text, named) in [
            ("1234", IncidentName::Number(1234)),
            (" 0012 ", IncidentName::Number(12)),
            ("4294967295", IncidentName::Number(u32::MAX)),
            (ID, IncidentName::Id(ID.to_owned())),
            (&ID.to_uppercase(), IncidentName::Id(ID.to_owned())),
            (&whole, resource()),
            (&format!("{whole}/"), resource()),
            (&whole.to_uppercase(), resource()),
        ] {
            let read = IncidentName::parse(text).unwrap();
            assert_eq!(read, named, "{text}");
            assert_eq!(IncidentName::parse(&read.to_string()), Ok(read), "{text}");
        }
    }

    #[test]
    fn what_can_be_no_incident_is_refused_with_what_to_write() {
        let elsewhere = "/subscriptions/s/resourceGroups/soc/providers/Microsoft.Compute/virtualMachines/Sentinel";
        for text in [
            "",
            "0",
            "-1",
            "+1",
            "12.5",
            "1 2",
            "#12",
            "INC-12",
            "4294967296",
            &ID[1..],
            &format!("{{{ID}}}"),
            WORKSPACE,
            &format!("{WORKSPACE}/providers/Microsoft.SecurityInsights/incidents/12"),
            &format!("{WORKSPACE}/providers/Microsoft.SecurityInsights/incidents/{ID}/comments/{ID}"),
            &format!("{WORKSPACE}/providers/Microsoft.SecurityInsights/alertRules/{ID}"),
            &format!("{elsewhere}/providers/Microsoft.SecurityInsights/incidents/{ID}"),
        ] {
            let why = IncidentName::parse(text).unwrap_err().to_string();
            assert!(why.starts_with(&format!("`{text}` names no incident: write its number")), "{why}");
        }
    }

    #[test]
    fn a_name_is_stored_as_a_text() {
        let stored = serde_json::to_string(&IncidentName::Number(12)).unwrap();
        assert_eq!((stored.as_str(), serde_json::from_str(&stored).unwrap()), ("\"12\"", IncidentName::Number(12)));
        assert!(serde_json::from_str::<IncidentName>("\"twelve\"").is_err());
    }

    #[test]
    fn a_workspace_is_one_of_log_analytics_in_a_group() {
        assert_eq!(WorkspaceId::parse(WORKSPACE).unwrap().name(), "Sentinel");
        assert_eq!(WorkspaceId::parse(&WORKSPACE.to_lowercase()), WorkspaceId::parse(WORKSPACE));
        for text in
            ["sentinel", "/subscriptions/s/resourceGroups/soc", "/subscriptions/s/providers/Microsoft.OperationalInsights/workspaces/w"]
        {
            assert!(WorkspaceId::parse(text).is_err(), "{text}");
        }
        assert!(WorkspaceId::parse(&format!("{WORKSPACE}/tables/x")).is_err());
    }
}
