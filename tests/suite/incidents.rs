//! Requests that name an incident of Microsoft Sentinel: what it opens, and what is said where it opens nothing.

use portcullis_sandbox::estate;
use portcullis_sandbox::faults::Effect;
use portcullis_sandbox::roles::DUTIES;
use portcullis_sandbox::state::{Assignment, Entity, Incident, IncidentSeverity, IncidentStatus, State};
use portcullis_sandbox::switches::{IncidentEntities, LetterCase};
use portcullis_trials::story::{INITIATE, Setting, Story, each_row, vm};
use serde_json::{Value, json};

const MINUTE: i64 = 60;
/// From where a responder has no rule but that on incidents.
const VPN: &str = "203.0.113.4";
/// Open, of web-1.
const OPEN: u32 = 1234;
/// Closed, of web-1.
const CLOSED: u32 = 1235;
/// Open, of web-2.
const ANOTHERS: u32 = 1236;
/// Open, of a host that is called web-1.
const BY_NAME: u32 = 1237;

fn guid(number: u32) -> String {
    format!("73e01a99-5cd7-4139-a149-9f27362{number:05}")
}

fn resource(number: u32) -> String {
    format!("{}/providers/Microsoft.SecurityInsights/incidents/{}", estate::workspace_id(), guid(number))
}

fn incidents(state: &mut State) {
    let azure = |name: &str| vec![Entity::Host { host_name: Some(name.to_owned()), azure_id: Some(vm(name)) }];
    let by_name = vec![Entity::Host { host_name: Some("web-1".to_owned()), azure_id: None }, Entity::Ip { address: VPN.to_owned() }];
    let created = state.now - chrono::TimeDelta::minutes(10);
    let incident = |number, status, entities| Incident {
        id: guid(number),
        number,
        title: "Somebody guesses passwords".to_owned(),
        severity: IncidentSeverity::High,
        status,
        owner: None,
        created,
        entities,
    };
    state.workspaces[0].incidents = vec![
        incident(CLOSED, IncidentStatus::Closed, azure("web-1")),
        incident(ANOTHERS, IncidentStatus::New, azure("web-2")),
        incident(BY_NAME, IncidentStatus::New, by_name),
        incident(OPEN, IncidentStatus::Active, azure("web-1")),
    ];
}

fn setting() -> Setting {
    Setting::with(incidents)
}

/// A responder asks for port 22 of web-1 from the VPN, and names this incident. Gives the status and the answer of the API.
async fn asks(story: &Story, incident: Value) -> (u16, Value) {
    let body = json!({"vm": vm("web-1"), "port": 22, "sources": [VPN], "duration": "PT1H", "reason": "it burns",
        "person": estate::RESPONDER_OBJECT_ID, "incident": incident});
    story.posts(estate::SECURITY_OBJECT_ID, "/grants", &body).await
}

/// The same, once it is worked on.
async fn grants(story: &Story, incident: Value) -> Value {
    let (status, answer) = asks(story, incident).await;
    assert_eq!(status, 202, "{answer}");
    story.pass(1).await;
    story.answer_to(answer["id"].as_str().unwrap()).await
}

async fn is_opened_on(story: &Story, incident: Value) {
    let answer = grants(story, incident.clone()).await;
    assert_eq!((&answer["became"], &answer["rule"]), (&json!("granted"), &json!("responders-on-an-incident")), "{incident}: {answer}");
    story.pass(MINUTE).await;
    assert!(story.lets_in("web-1", 22, &[VPN]) && story.ours(INITIATE).len() == 1, "{incident}: {}", story.told());
    story.holds();
}

/// Nothing is opened, and what is said of it has this in it.
async fn opens_nothing(story: &Story, incident: Value, says: &str) -> Value {
    let answer = grants(story, incident.clone()).await;
    assert_eq!(answer["became"], "refused", "{incident}: {answer}");
    assert!(answer["why"].as_str().unwrap().contains(says), "{incident}: {answer}");
    assert_eq!(story.tried(INITIATE).len(), 0, "{}", story.told());
    answer
}

#[tokio::test]
async fn an_open_incident_that_names_the_machine_opens_it_without_a_person_and_is_written_down() {
    let story = setting().begin().await;
    is_opened_on(&story, json!(OPEN.to_string())).await;
    let granted = &story.audits_of("granted")[0];
    let said = "incident 1234 is open, severity high, names this machine, 10 min old";
    assert!(granted["what"].as_str().unwrap().ends_with("on incident 1234"), "{granted:#}");
    assert!(granted["why"].as_str().unwrap().ends_with(said), "{granted:#}");
    let seen = json!({"known": {"open": true, "severity": "high", "namesThisVm": true, "ageSeconds": 600}});
    assert_eq!(granted["decision"]["wish"]["incident"], json!({"name": "1234", "seen": seen}));
    let row = story.world(|state| {
        let mut rows = state.rows.iter().map(|row| &row.row);
        rows.find(|row| row["EventSubType"] == "granted").cloned().unwrap()
    });
    assert!(row["EventMessage"].as_str().unwrap().contains(said), "{row:#}");
    let answer = story.answer_to(granted["grant"].as_str().unwrap()).await;
    assert_eq!((&answer["incident"], &answer["grant"]["phase"]), (&json!("1234"), &json!("open")), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_named_by_its_number_its_id_or_its_resource_id_in_any_letter_case() {
    let names = [
        json!(OPEN),
        json!(" 1234 "),
        json!(guid(OPEN)),
        json!(guid(OPEN).to_uppercase()),
        json!(resource(OPEN)),
        json!(resource(OPEN).to_uppercase()),
        json!(resource(OPEN).to_lowercase()),
    ];
    let row = |name: Value| (name.to_string(), async move { is_opened_on(&setting().begin().await, name).await });
    each_row(names.map(row)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_azure_lists_and_writes_incidents_they_are_found() {
    let upper = |state: &mut State| state.switches.letter_case = LetterCase::Upper;
    let lower = |state: &mut State| state.switches.letter_case = LetterCase::Lower;
    let paged = |state: &mut State| state.switches.page_size = 1;
    let as_resource = |state: &mut State| {
        state.workspaces[0].incidents[3].entities = vec![Entity::AzureResource { resource_id: vm("web-1").to_uppercase() }];
    };
    let of_the_future = |state: &mut State| state.workspaces[0].incidents[3].created = state.now + chrono::TimeDelta::minutes(5);
    type Change = fn(&mut State);
    let worlds: [(&str, Change); 5] = [
        ("ids in capitals", upper),
        ("ids in small letters", lower),
        ("on the last of four pages", paged),
        ("as a resource", as_resource),
        ("created by a clock that is ahead", of_the_future),
    ];
    let row = |(name, change): (&str, Change)| {
        let mut setting = setting();
        change(&mut setting.state);
        (name.to_owned(), async move { is_opened_on(&setting.begin().await, json!(OPEN)).await })
    };
    each_row(worlds.map(row)).await;
}

#[tokio::test]
async fn an_incident_that_does_not_fit_opens_nothing_and_is_told() {
    let story = setting().begin().await;
    let elsewhere = resource(OPEN).replace("/sentinel/", "/another/");
    for (incident, says) in [
        (json!(CLOSED), "incident 1235 is closed, severity high, names this machine"),
        (json!(ANOTHERS), "incident 1236 is open, severity high, does not name this machine"),
        (json!(BY_NAME), "incident 1237 is open, severity high, does not name this machine"),
        (json!(99), "incident 99 was not found in workspace sentinel: give the number that Microsoft Sentinel has for it"),
        (json!(guid(99)), &format!("incident {} was not found in workspace sentinel", guid(99))),
        (json!(elsewhere), "lies in another workspace than sentinel, in which incidents are read here"),
    ] {
        let answer = opens_nothing(&story, incident, says).await;
        // The person may ask all the same.
        assert_eq!(answer["rule"], "ask-for-a-machine", "{answer}");
    }
    assert_eq!(story.audits_of("declined").len(), 6);
    story.holds();
}

#[tokio::test]
async fn a_text_that_can_be_no_incident_is_refused_at_once_with_what_to_write() {
    let story = setting().begin().await;
    for incident in
        [json!(""), json!("INC-1234"), json!("#1234"), json!(0), json!(-1), json!(12.5), json!(true), json!({}), json!(vm("web-1"))]
    {
        let (status, answer) = asks(&story, incident.clone()).await;
        assert_eq!(status, 400, "{incident}: {answer}");
        let said = answer["error"]["message"].as_str().unwrap();
        assert!(said.starts_with("`incident`: `") && said.contains("write its number, such as 1234"), "{answer}");
    }
    story.pass(MINUTE).await;
    assert_eq!((story.tried(INITIATE).len(), story.audits_of("declined").len()), (0, 0));
    // No incident is no mistake.
    assert_eq!(asks(&story, Value::Null).await.0, 202);
}

#[tokio::test]
async fn where_no_workspace_is_connected_the_setting_is_told() {
    let story = setting().set("PORTCULLIS_SENTINEL_WORKSPACE", "").begin().await;
    opens_nothing(&story, json!(OPEN), "no workspace of Microsoft Sentinel is connected here: PORTCULLIS_SENTINEL_WORKSPACE names one")
        .await;
    story.holds();
}

/// Nobody knows whether there is such an incident: nothing is decided, whoever else might decide.
async fn is_undecided(story: &Story, says: &str) {
    let answer = opens_nothing(story, json!(OPEN), "it could not be decided: incident 1234 could not be read: ").await;
    assert!(answer["why"].as_str().unwrap().contains(says), "{answer}");
    let declined = story.audits_of("declined");
    assert_eq!(declined.last().unwrap()["decision"]["outcome"]["kind"], "undecided", "{declined:#?}");
}

#[tokio::test]
async fn without_the_right_nothing_opens_and_the_right_is_told_by_its_name() {
    let without = |state: &mut State| {
        incidents(state);
        let app = state.principals.iter_mut().find(|one| one.object_id == estate::PRODUCT_OBJECT_ID).unwrap();
        let duties = DUTIES.into_iter().filter(|duty| *duty != "incidents").collect::<Vec<_>>();
        let actions = estate::product_actions(&duties).into_iter().map(str::to_owned).collect();
        app.assignments = vec![Assignment { scope: "/".to_owned(), actions }];
    };
    let story = Setting::with(without).begin().await;
    is_undecided(&story, "Microsoft.SecurityInsights/incidents/read").await;
    story.holds();
    let of_its_own = |state: &mut State| {
        incidents(state);
        state.switches.incident_entities = IncidentEntities::OwnAction;
    };
    let story = Setting::with(of_its_own).begin().await;
    is_undecided(&story, "Microsoft.SecurityInsights/incidents/entities/action").await;
    story.holds();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_sentinel_does_not_answer_nothing_opens_and_once_it_does_it_opens() {
    let slow = Effect::Delay { milliseconds: 20_000 };
    let failures = [
        (
            "down",
            "GET",
            "/incidents",
            Effect::status(503, None),
            "answered 503 ServiceUnavailable: A fault of the sandbox: 503 Service Unavailable; ask again later",
        ),
        ("throttled", "GET", "/incidents", Effect::status(429, Some(600)), "429 Too Many Requests; ask again in 600 s"),
        ("no workspace", "GET", "/incidents", Effect::status(404, None), "answered 404"),
        ("down for what it names", "POST", "/entities", Effect::status(500, None), "500 Internal Server Error; ask again later"),
        ("cut", "POST", "/entities", Effect::CutBefore, "; ask again later"),
        ("slow", "GET", "/incidents", slow, "did not answer in time; ask again later"),
    ];
    let row = |(name, method, path, effect, says): (&str, &'static str, &'static str, Effect, &'static str)| {
        let story = async move {
            let story = setting().begin().await;
            story.fault("arm", method, path, effect, None);
            is_undecided(&story, says).await;
            story.heal();
            is_opened_on(&story, json!(OPEN)).await;
        };
        (name.to_owned(), story)
    };
    each_row(failures.map(row)).await;
}

#[tokio::test]
async fn an_id_that_is_not_found_in_a_workspace_that_is_gone_is_undecided() {
    let story = setting().begin().await;
    story.change(|state| state.workspaces.clear());
    let answer = opens_nothing(&story, json!(guid(OPEN)), "it could not be decided").await;
    assert!(answer["why"].as_str().unwrap().contains("404"), "{answer}");
    story.holds();
}

#[tokio::test]
async fn an_incident_is_read_only_where_a_request_names_one_and_a_rule_asks_for_one() {
    let story = setting().begin().await;
    story.count("arm", "*", "/incidents");
    story.grants(estate::RESPONDER_OBJECT_ID, "web-1", 22, VPN, "PT1H").await;
    assert_eq!(story.counted(), 0);
    let office = "@id(\"office\") @reason(\"From the office\") permit (principal is Person, action == Action::\"open\", resource) \
                  when { context.networks.contains(Network::\"office\") };";
    let story = setting().ruled_by("responders.cedar", office).ruled_by("production.cedar", "").begin().await;
    story.fault("arm", "*", "/incidents", Effect::status(503, None), None);
    opens_nothing(&story, json!(OPEN), "incident 1234 was not read, since no rule asks for one").await;
    let met = story.world(|state| state.met.len());
    assert_eq!(met, 0, "{}", story.told());
    story.holds();
}
