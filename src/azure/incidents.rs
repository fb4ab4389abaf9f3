//! Incidents of Microsoft Sentinel, in the one workspace that is connected. Read only.

use std::ops::ControlFlow;

use azure_core::http::Method;
use chrono::{DateTime, Utc};
use portcullis_domain::arm_id::{VmId, WorkspaceId};
use portcullis_domain::incident::{IncidentName, guid};
use portcullis_domain::json::tree;
use portcullis_domain::time;
use portcullis_rules::wish::IncidentSeverity;
use serde_json::Value;
use serde_json::value::RawValue;

use super::arm::{ApiVersion, Arm, text_at};
use super::error::{CallFailed, FailureKind, Service};

/// The incidents of a workspace.
#[derive(Clone, Debug)]
pub struct Incidents {
    arm: Arm,
    workspace: WorkspaceId,
}

/// An incident as the workspace has it, but for what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// The GUID at the end of its resource id, in lower case.
    pub id: String,
    /// Whether it is not closed.
    pub open: bool,
    /// How severe it is.
    pub severity: IncidentSeverity,
    /// The object id of the person who works on it, in lower case.
    pub owner: Option<String>,
    /// When it was created.
    pub created: DateTime<Utc>,
}

impl Incidents {
    pub(super) fn new(arm: Arm, workspace: WorkspaceId) -> Self {
        Incidents { arm, workspace }
    }

    /// The workspace that is read.
    pub fn workspace(&self) -> &WorkspaceId {
        &self.workspace
    }

    /// The incident of this name; nothing where the workspace answers and has none. Of a resource id nothing but the incident's own
    /// part is looked at.
    pub async fn find(&self, name: &IncidentName) -> Result<Option<Incident>, CallFailed> {
        match name {
            IncidentName::Number(number) => self.of_number(*number).await,
            IncidentName::Id(id) | IncidentName::Resource { id, .. } => self.of_id(id).await,
        }
    }

    /// Reads some incident and what it names, as a request that names one takes it. Gives whether the workspace has any.
    pub async fn check(&self) -> Result<bool, CallFailed> {
        let Some(incident) = self.any().await? else { return Ok(false) };
        self.entities(&incident).await.map(|_| true)
    }

    async fn any(&self) -> Result<Option<Incident>, CallFailed> {
        let what = format!("listing the incidents of workspace {}", self.workspace.name());
        self.first(&what, &[("$top", "1")], |_| true).await
    }

    /// Whether an incident names this VM: see [`names`].
    pub async fn names(&self, incident: &Incident, vm: &VmId) -> Result<bool, CallFailed> {
        Ok(names(&self.entities(incident).await?, vm))
    }

    async fn entities(&self, incident: &Incident) -> Result<Vec<Value>, CallFailed> {
        let what = format!("asking what incident {} of workspace {} names", incident.id, self.workspace.name());
        let path = format!("{}/{}/entities", self.path(), incident.id);
        let body = self.arm.ask(&what, &path, &[], ApiVersion::SENTINEL).await?;
        entities_in(body).ok_or_else(|| malformed(Method::Post, &what, "the answer has no `entities`"))
    }

    /// The filter is one of the service's own (many clients use it; the specification leaves open what can be filtered). What it lets
    /// through is looked at all the same, on every page: a service that makes nothing of it would answer with any incident.
    async fn of_number(&self, number: u32) -> Result<Option<Incident>, CallFailed> {
        let what = format!("looking for incident {number} of workspace {}", self.workspace.name());
        let filter = format!("properties/incidentNumber eq {number}");
        let is_it = |body: &Value| body.pointer("/properties/incidentNumber").and_then(Value::as_u64) == Some(number.into());
        self.first(&what, &[("$filter", &filter)], is_it).await
    }

    async fn of_id(&self, id: &str) -> Result<Option<Incident>, CallFailed> {
        let what = format!("reading incident {id} of workspace {}", self.workspace.name());
        match self.arm.get_at(&what, &format!("{}/{id}", self.path()), ApiVersion::SENTINEL).await {
            Ok(body) => match incident_in(&body) {
                Ok(incident) if incident.id == id => Ok(Some(incident)),
                Ok(_) => Err(malformed(Method::Get, &what, "the answer is about another incident")),
                Err(why) => Err(malformed(Method::Get, &what, why)),
            },
            // A workspace that is gone answers the same, and would make every incident one that never was.
            Err(failed) if failed.kind == FailureKind::NotFound => self.any().await.map(|_| None),
            Err(failed) => Err(failed),
        }
    }

    async fn first(
        &self,
        what: &str,
        query: &[(&str, &str)],
        is_it: impl Fn(&Value) -> bool + Send + Sync,
    ) -> Result<Option<Incident>, CallFailed> {
        let mut found = None;
        let each = |page: Vec<&RawValue>| {
            found = page.into_iter().map(tree).find(&is_it);
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        self.arm.list(what, &self.path(), query, ApiVersion::SENTINEL, each).await?;
        let read = found.as_ref().map(incident_in).transpose();
        read.map_err(|why| malformed(Method::Get, what, why))
    }

    fn path(&self) -> String {
        format!("{}/providers/Microsoft.SecurityInsights/incidents", self.workspace)
    }
}

fn malformed(method: Method, what: &str, why: &str) -> CallFailed {
    CallFailed::without_answer(Service::Arm, method, what, FailureKind::Malformed, why)
}

/// Reads an incident (REST specification). The error is what of it cannot be read: a status or a severity that nobody knows yet is
/// none that a rule could speak of.
pub fn incident_in(body: &Value) -> Result<Incident, &'static str> {
    let text = |name: &str| text_at(body, &format!("/properties/{name}"));
    let open = match text("status").to_ascii_lowercase().as_str() {
        "new" | "active" => true,
        "closed" => false,
        _ => return Err("the incident has no `status` that is known"),
    };
    let severity = match text("severity").to_ascii_lowercase().as_str() {
        "high" => IncidentSeverity::High,
        "medium" => IncidentSeverity::Medium,
        "low" => IncidentSeverity::Low,
        "informational" => IncidentSeverity::Informational,
        _ => return Err("the incident has no `severity` that is known"),
    };
    let is_group = text("owner/ownerType").eq_ignore_ascii_case("Group");
    Ok(Incident {
        id: guid(text_at(body, "/name")).ok_or("the incident has no `name` that is a GUID")?,
        open,
        severity,
        owner: guid(text("owner/objectId")).filter(|_| !is_group),
        created: time::parse(text("createdTimeUtc")).ok_or("the incident has no `createdTimeUtc` that is a time")?,
    })
}

/// The entities that an answer lists; nothing where it is no such answer.
pub fn entities_in(mut body: Value) -> Option<Vec<Value>> {
    let Some(Value::Array(entities)) = body.get_mut("entities").map(Value::take) else { return None };
    Some(entities)
}

/// Whether one of these entities is this VM: a resource of Azure with its id, or a host whose `azureID` is that id. A host's name alone is
/// no VM's: many machines have the same, and whoever brings up a machine gives it any.
pub fn names(entities: &[Value], vm: &VmId) -> bool {
    let is_it = |entity: &Value| {
        let id = match text_at(entity, "/kind").to_ascii_lowercase().as_str() {
            "azureresource" => text_at(entity, "/properties/resourceId"),
            "host" => text_at(entity, "/properties/azureID"),
            _ => return false,
        };
        VmId::parse(id).is_ok_and(|named| named == *vm)
    };
    entities.iter().any(is_it)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::arm::tests::{arm, ok};
    use super::super::channel::tests::Reply;
    use super::*;

    const WORKSPACE: &str = "/subscriptions/s/resourceGroups/soc/providers/Microsoft.OperationalInsights/workspaces/sentinel";
    const ID: &str = "73e01a99-5cd7-4139-a149-9f2736ff2ab5";
    const ITS_OWNER: &str = "2046feea-040d-4a46-9e2b-91c2941bfa70";

    /// The example of the REST specification of 2021-04-01, as far as it is read.
    fn example() -> Value {
        json!({"name": ID, "properties": {
            "createdTimeUtc": "2019-01-01T13:15:30Z", "severity": "High", "status": "Closed", "incidentNumber": 3177,
            "owner": {"objectId": ITS_OWNER, "assignedTo": "john doe"}}})
    }

    fn read() -> Incident {
        let created = time::parse("2019-01-01T13:15:30Z").unwrap();
        Incident { id: ID.to_owned(), open: false, severity: IncidentSeverity::High, owner: Some(ITS_OWNER.to_owned()), created }
    }

    fn page(incidents: &[Value], next: &str) -> Reply {
        ok(Box::leak(json!({"value": incidents, "nextLink": next}).to_string().into_boxed_str()))
    }

    fn gone() -> Reply {
        Reply::Status(404, Vec::new(), r#"{"error":{"code":"NotFound","message":"not there"}}"#)
    }

    async fn found(name: &str, replies: Vec<Reply>) -> (Result<Option<Incident>, FailureKind>, Vec<String>) {
        let (arm, far_end) = arm(replies);
        let incidents = Incidents::new(arm, WorkspaceId::parse(WORKSPACE).unwrap());
        let found = incidents.find(&name.parse().unwrap()).await.map_err(|failed| failed.kind);
        let asked =
            far_end.asked.lock().unwrap().iter().map(|request| request.url().as_str().replace("https://127.0.0.1:4004", "")).collect();
        (found, asked)
    }

    #[test]
    fn of_an_incident_is_read_what_rules_speak_of() {
        let with = |name: &str, value: Value| {
            let mut body = example();
            body["properties"][name] = value;
            incident_in(&body)
        };
        assert_eq!(incident_in(&example()), Ok(read()));
        for (status, open) in [("New", true), ("Active", true), ("active", true), ("Closed", false)] {
            assert_eq!(with("status", json!(status)), Ok(Incident { open, ..read() }), "{status}");
        }
        for (severity, known) in [("Medium", IncidentSeverity::Medium), ("LOW", IncidentSeverity::Low)] {
            assert_eq!(with("severity", json!(severity)), Ok(Incident { severity: known, ..read() }), "{severity}");
        }
        for owner in [Value::Null, json!({}), json!({"objectId": null}), json!({"objectId": ITS_OWNER, "ownerType": "Group"})] {
            assert_eq!(with("owner", owner.clone()), Ok(Incident { owner: None, ..read() }), "{owner}");
        }
        for (name, value) in [
            ("status", json!("Resolved")),
            ("status", Value::Null),
            ("severity", json!("Critical")),
            ("createdTimeUtc", json!("yesterday")),
            ("createdTimeUtc", Value::Null),
        ] {
            assert!(with(name, value.clone()).unwrap_err().contains(name), "{name} {value}");
        }
        assert!(incident_in(&json!({"name": "x", "properties": example()["properties"]})).is_err());
        assert!(incident_in(&json!([])).is_err());
    }

    #[test]
    fn a_vm_is_named_by_its_id_in_any_letter_case_and_by_nothing_else() {
        let id = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/web-1";
        let vm = VmId::parse(id).unwrap();
        let entity = |kind: &str, field: &str, value: &str| json!({"kind": kind, "properties": {field: value}});
        for (entities, names) in [
            (vec![], false),
            (vec![entity("AzureResource", "resourceId", id)], true),
            (vec![entity("AzureResource", "resourceId", &id.to_uppercase())], true),
            (vec![entity("Host", "azureID", &id.to_lowercase())], true),
            (vec![entity("Ip", "address", "192.0.2.1"), entity("host", "azureID", id)], true),
            (vec![entity("Host", "hostName", "web-1")], false),
            (vec![entity("Host", "azureID", "web-1")], false),
            (vec![entity("Host", "resourceId", id), entity("AzureResource", "azureID", id)], false),
            (vec![entity("Account", "resourceId", id)], false),
            (vec![entity("AzureResource", "resourceId", &format!("{id}0"))], false),
            (vec![entity("AzureResource", "resourceId", &format!("{id}/extensions/x"))], false),
            (vec![json!({"kind": "Host"}), json!(7), Value::Null], false),
        ] {
            assert_eq!(super::names(&entities, &vm), names, "{entities:?}");
        }
        for body in [json!({}), json!({"entities": {}}), json!([])] {
            assert_eq!(entities_in(body.clone()), None, "{body}");
        }
    }

    #[tokio::test]
    async fn a_number_is_looked_for_on_every_page_and_no_other_incident_is_taken_for_it() {
        let mut other = example();
        other["properties"]["incidentNumber"] = json!(3178);
        let next = "https://127.0.0.1:4004/next";
        let (incident, asked) =
            found("3177", vec![page(&[], next), page(&[other.clone(), example()], "https://127.0.0.1:4004/third")]).await;
        assert_eq!(incident, Ok(Some(read())));
        let list = format!("{WORKSPACE}/providers/Microsoft.SecurityInsights/incidents?api-version=2024-03-01");
        assert_eq!(asked, [format!("{list}&%24filter=properties%2FincidentNumber+eq+3177").as_str(), "/next"]);
        assert_eq!(found("3177", vec![page(&[other], "")]).await.0, Ok(None));
        assert_eq!(found("3177", vec![gone()]).await.0, Err(FailureKind::NotFound));
    }

    #[tokio::test]
    async fn an_id_that_is_not_there_is_none_only_where_the_workspace_answers() {
        let body: &'static str = Box::leak(example().to_string().into_boxed_str());
        let whole = format!("{WORKSPACE}/providers/Microsoft.SecurityInsights/incidents/{ID}");
        for name in [ID.to_uppercase(), whole.clone()] {
            let (incident, asked) = found(&name, vec![ok(body)]).await;
            assert_eq!((incident, asked), (Ok(Some(read())), vec![format!("{whole}?api-version=2024-03-01")]));
        }
        assert_eq!(found(ID, vec![gone(), page(&[], "")]).await.0, Ok(None));
        assert_eq!(found(ID, vec![gone(), gone()]).await.0, Err(FailureKind::NotFound));
        assert_eq!(found(ID, vec![ok("{}")]).await.0, Err(FailureKind::Malformed));
        assert_eq!(found(&ID.replace("73e0", "73e1"), vec![ok(body)]).await.0, Err(FailureKind::Malformed));
    }

    #[tokio::test]
    async fn what_an_incident_names_is_asked_with_a_post() {
        let vm = VmId::parse("/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/web-1").unwrap();
        for (body, names) in [(r#"{"entities":[],"metaData":[]}"#, Ok(false)), ("{}", Err(FailureKind::Malformed))] {
            let (arm, far_end) = arm(vec![ok(body)]);
            let named = Incidents::new(arm, WorkspaceId::parse(WORKSPACE).unwrap()).names(&read(), &vm).await;
            assert_eq!(named.map_err(|failed| failed.kind), names);
            let asked = far_end.asked.lock().unwrap();
            assert!(asked[0].method() == Method::Post && asked[0].url().path().ends_with(&format!("/incidents/{ID}/entities")));
        }
    }
}
