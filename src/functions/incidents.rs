//! The incident that a request names, as rules see it.

use chrono::{DateTime, TimeDelta, Utc};
use portcullis_domain::arm_id::VmId;
use portcullis_domain::incident::IncidentName;
use portcullis_rules::set::Rules;
use portcullis_rules::wish::{Incident, SeenIncident};

use super::App;
use crate::azure::CallFailed;
use crate::azure::incidents::Incidents;
use crate::settings::SENTINEL_WORKSPACE;

/// What whoever named an incident does where it could not be read.
pub(super) const ASK_AGAIN: &str = "ask again later";

impl App {
    /// What is known of an incident that a request about this VM names. It is read only where a rule asks for one, each time anew.
    pub(super) async fn incident(&self, rules: &Rules, name: &IncidentName, vm: &VmId, now: DateTime<Utc>) -> SeenIncident {
        let absent = |why: String| SeenIncident::Absent { why };
        let Some(incidents) = &self.azure.incidents else {
            return absent(format!(
                "incident {name} was not looked for, since no workspace of Microsoft Sentinel is connected here: {SENTINEL_WORKSPACE} names one"
            ));
        };
        let workspace = incidents.workspace();
        match name {
            IncidentName::Resource { workspace: other, .. } if **other != *workspace => {
                absent(format!("incident {name} lies in another workspace than {}, in which incidents are read here", workspace.name()))
            }
            _ if !rules.ask_for_incidents() => SeenIncident::NotAsked,
            _ => match seen(incidents, name, vm, now).await {
                Ok(Some(incident)) => SeenIncident::Known(incident),
                Ok(None) => absent(missing(name, workspace.name())),
                Err(failed) => SeenIncident::Unreachable { why: unread(&failed) },
            },
        }
    }
}

/// Why an incident could not be read, and what to do: nobody tries again but whoever asked.
fn unread(failed: &CallFailed) -> String {
    match failed.retry_after {
        _ if !failed.passes() => failed.to_string(),
        Some(wait) => format!("{}; ask again in {} s", failed.told(), wait.as_secs()),
        None => format!("{}; {ASK_AGAIN}", failed.told()),
    }
}

/// Why there is no incident of a name.
fn missing(name: &IncidentName, workspace: &str) -> String {
    let cure = match name {
        IncidentName::Number(_) => ": give the number that Microsoft Sentinel has for it, the Defender portal counts on its own",
        IncidentName::Id(_) | IncidentName::Resource { .. } => "",
    };
    format!("incident {name} was not found in workspace {workspace}{cure}")
}

async fn seen(incidents: &Incidents, name: &IncidentName, vm: &VmId, now: DateTime<Utc>) -> Result<Option<Incident>, CallFailed> {
    let Some(found) = incidents.find(name).await? else { return Ok(None) };
    let names_this_vm = incidents.names(&found, vm).await?;
    // Clocks differ, and no incident is of the future.
    let age = (now - found.created).max(TimeDelta::zero());
    Ok(Some(Incident { open: found.open, severity: found.severity, owner: found.owner, names_this_vm, age_seconds: age.num_seconds() }))
}
