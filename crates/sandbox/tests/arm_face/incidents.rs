//! Incidents of Microsoft Sentinel: found by number and by id, page by page, with what they name; and whom they are refused to.

use serde_json::{Value, json};

use portcullis_sandbox::estate;
use portcullis_sandbox::state::{Assignment, Entity, Incident, IncidentSeverity, IncidentStatus};
use portcullis_sandbox::switches::IncidentEntities;

use crate::support::{Desk, vm};

const READ: &str = "Microsoft.SecurityInsights/incidents/read";
const OWN: &str = "Microsoft.SecurityInsights/incidents/entities/action";

fn path(rest: &str) -> String {
    let version = if rest.contains('?') { "&api-version=2024-03-01" } else { "?api-version=2024-03-01" };
    format!("{}/providers/Microsoft.SecurityInsights/incidents{rest}{version}", estate::workspace_id())
}

fn id(number: u32) -> String {
    format!("73e01a99-5cd7-4139-a149-{number:012}")
}

/// A desk whose workspace has the incidents 1 to 3, of which the second names web-1.
fn desk() -> Desk {
    let mut desk = Desk::small();
    let created = desk.state.now;
    desk.state.workspaces[0].incidents = (1..=3)
        .map(|number| Incident {
            id: id(number),
            number,
            title: "Somebody guesses passwords".to_owned(),
            severity: IncidentSeverity::High,
            status: IncidentStatus::Active,
            owner: Some(estate::RESPONDER_OBJECT_ID.to_owned()),
            created,
            entities: Vec::new(),
        })
        .collect();
    desk.state.workspaces[0].incidents[1].entities = vec![
        Entity::Host { host_name: Some("web-1".to_owned()), azure_id: Some(vm("web-1")) },
        Entity::AzureResource { resource_id: vm("web-1") },
        Entity::Ip { address: "192.0.2.1".to_owned() },
    ];
    desk
}

fn numbers(body: &Value) -> Vec<u64> {
    body["value"].as_array().unwrap().iter().map(|one| one["properties"]["incidentNumber"].as_u64().unwrap()).collect()
}

#[test]
fn an_incident_is_found_by_its_number_and_by_its_id_in_any_letter_case() {
    let mut desk = desk();
    assert_eq!(numbers(&desk.get(&path("")).body), [1, 2, 3]);
    let found = desk.get(&path("?$filter=properties/incidentNumber%20eq%202")).body;
    assert_eq!(numbers(&found), [2]);
    let one = desk.get(&path(&format!("/{}", id(2).to_uppercase())));
    assert_eq!((one.status, &one.body), (200, &found["value"][0]));
    let properties = &one.body["properties"];
    assert_eq!((&properties["severity"], &properties["status"]), (&json!("High"), &json!("Active")));
    assert_eq!(properties["owner"]["objectId"], estate::RESPONDER_OBJECT_ID);
    assert_eq!(properties["createdTimeUtc"], "2026-01-15T09:00:00Z");
}

#[test]
fn pages_are_cut_before_they_are_filtered_and_are_followed_to_the_end() {
    let mut desk = desk();
    desk.state.switches.page_size = 1;
    let (mut next, mut seen) = (path("?$filter=properties/incidentNumber%20eq%203"), Vec::new());
    loop {
        let body = desk.get(&next).body;
        seen.push(numbers(&body));
        match body["nextLink"].as_str() {
            Some(link) => next = link.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, [vec![], vec![], vec![3]]);
    desk.state.switches.page_size = 0;
    assert_eq!(numbers(&desk.get(&path("?$top=1")).body), [1]);
}

#[test]
fn what_an_incident_names_is_asked_with_a_post_which_is_no_write() {
    let mut desk = desk();
    let seen = desk.post(&path(&format!("/{}/entities", id(2))), &json!({}));
    assert_eq!(seen.status, 200, "{}", seen.body);
    let kinds: Vec<&Value> = seen.body["entities"].as_array().unwrap().iter().map(|one| &one["kind"]).collect();
    assert_eq!(kinds, ["Host", "AzureResource", "Ip"]);
    assert_eq!(seen.body["entities"][0]["properties"], json!({"hostName": "web-1", "azureID": vm("web-1")}));
    assert_eq!(seen.body["entities"][1]["properties"], json!({"resourceId": vm("web-1")}));
    assert_eq!(seen.body["metaData"][0], json!({"entityKind": "AzureResource", "count": 1}));
    assert!(desk.state.log.is_empty(), "{:?}", desk.state.log);
    let none = desk.post(&path(&format!("/{}/entities", id(1))), &json!({}));
    assert_eq!(none.body, json!({"entities": [], "metaData": []}));
}

#[test]
fn what_is_not_there_or_not_allowed_is_refused() {
    let mut desk = desk();
    let elsewhere = path("").replace(estate::SENTINEL_WORKSPACE, "another");
    for (method, path, status, code) in [
        ("GET", path(&format!("/{}", id(9))), 404, "NotFound"),
        ("POST", path(&format!("/{}/entities", id(9))), 404, "NotFound"),
        ("GET", elsewhere, 404, "ResourceNotFound"),
        ("GET", path("").replace("2024-03-01", "2018-01-01"), 400, "InvalidResourceType"),
        ("GET", path("?$filter=properties/status%20eq%20'New'"), 400, "BadRequest"),
        ("GET", path("?$top=0"), 400, "BadRequest"),
        ("PUT", path(&format!("/{}", id(1))), 405, "HttpMethodNotSupported"),
    ] {
        let seen = desk.send(method, &path, bytes::Bytes::new());
        assert_eq!((seen.status, seen.code()), (status, code), "{method} {path}: {}", seen.body);
    }
}

#[test]
fn a_workspace_takes_the_right_to_read_incidents_and_what_they_name_perhaps_one_of_its_own() {
    let mut desk = desk();
    let asked = |desk: &mut Desk| {
        let list = desk.as_(estate::DEVELOPER_OBJECT_ID).get(&path("")).status;
        (list, desk.post(&path(&format!("/{}/entities", id(2))), &json!({})))
    };
    let gives = |desk: &mut Desk, actions: &[&str]| {
        let person = desk.state.principals.iter_mut().find(|one| one.object_id == estate::DEVELOPER_OBJECT_ID).unwrap();
        let actions = actions.iter().map(|action| (*action).to_owned()).collect();
        person.assignments = vec![Assignment { scope: estate::workspace_id(), actions }];
    };
    assert_eq!(asked(&mut desk).0, 403);
    gives(&mut desk, &[READ]);
    let (list, entities) = asked(&mut desk);
    assert_eq!((list, entities.status), (200, 200));
    desk.state.switches.incident_entities = IncidentEntities::OwnAction;
    let (list, entities) = asked(&mut desk);
    assert_eq!((list, entities.status, entities.code()), (200, 403, "AuthorizationFailed"));
    assert!(entities.body.to_string().contains(OWN), "{}", entities.body);
    gives(&mut desk, &[READ, OWN]);
    assert_eq!(asked(&mut desk).1.status, 200);
}
