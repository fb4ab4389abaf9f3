//! Which right it takes to read what an incident of Microsoft Sentinel names.

use portcullis_domain::rights::{Permission, missing};
use portcullis_rules::plain::plain;
use serde_json::json;

use super::report::seen;
use super::{Probe, Stage};

const SENTINEL: &str = "2024-09-01";
const PERMISSIONS: &str = "2022-04-01";
const READ: &str = "Microsoft.SecurityInsights/incidents/read";
const OWN: &str = "Microsoft.SecurityInsights/incidents/entities/action";

impl Probe<'_> {
    /// Reads what the first incident of the workspace names: with the right to read incidents alone, the answer tells.
    pub(super) async fn incident_entities(&self) -> Stage {
        let Some(workspace) = &self.workspace else { return Ok(()) };
        let incidents =
            self.azure.list("incidents", &format!("{workspace}/providers/Microsoft.SecurityInsights/incidents"), SENTINEL).await?;
        let Some(name) = incidents.first().and_then(|incident| incident["name"].as_str()) else {
            self.open("incidentEntities", "The workspace has no incident: make one, and ask again.", Vec::new());
            return Ok(());
        };
        let held =
            self.azure.list("permissions", &format!("{workspace}/providers/Microsoft.Authorization/permissions"), PERMISSIONS).await?;
        let held: Vec<Permission> = held.iter().map(Permission::read).collect();
        let path = format!("{workspace}/providers/Microsoft.SecurityInsights/incidents/{name}/entities");
        let answer = self.azure.ask(&path, SENTINEL).await.map(|_| ());
        let told = |said: &str| vec![seen(self.azure.now(), format!("asked what incident {} names: {said}", plain(name)))];
        match (missing(&held, [READ, OWN]).as_slice(), answer) {
            ([], Ok(())) => {
                let why = format!("Who asks may do both {READ} and {OWN}: ask as an identity that has `Portcullis read incidents` alone.");
                self.open("incidentEntities", &why, told("it was answered"));
            }
            (lacking, Ok(())) if lacking.contains(&OWN) => self.found("incidentEntities", json!("readRight"), told("it was answered")),
            (_, Ok(())) => self.found("incidentEntities", json!("ownAction"), told("it was answered")),
            (_, Err(trouble)) if trouble.status() == Some(403) && trouble.to_string().contains(OWN) => {
                self.found("incidentEntities", json!("ownAction"), told(&trouble.to_string()));
            }
            (_, Err(trouble)) => return Err(trouble),
        }
        Ok(())
    }
}

/// The resource id of a workspace, as an argument.
pub(super) fn workspace(id: &str) -> Result<String, String> {
    let id = id.trim_end_matches('/');
    let kind = "/providers/microsoft.operationalinsights/workspaces/";
    match id.to_ascii_lowercase().split_once(kind) {
        Some((scope, name)) if scope.starts_with("/subscriptions/") && !name.is_empty() && !name.contains('/') => Ok(id.to_owned()),
        _ => {
            Err("give the resource id of a Log Analytics workspace, /subscriptions/…/providers/Microsoft.OperationalInsights/workspaces/…"
                .to_owned())
        }
    }
}
