//! The roles of a deployment, held against what the program really asks of Azure: every action is needed, nothing else is, and
//! each duty is a role's alone.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use portcullis_sandbox::estate;
use portcullis_sandbox::roles::{DUTIES, ROLES, actions};
use portcullis_sandbox::state::{Assignment, Entity, Incident, IncidentSeverity, IncidentStatus, NeededRight, State};
use portcullis_sandbox::switches::{Requestor, SubscriptionParents};
use portcullis_trials::story::{INITIATE, Setting, Story, policy, tag, vm};
use serde_json::{Value, json};

const MINUTE: i64 = 60;
const HOUR: TimeDelta = TimeDelta::hours(1);
const OFFICE: &str = "198.51.100.7";
const VPN: &str = "203.0.113.4";

/// Gives somebody these actions in the whole estate and no others.
fn gives(state: &mut State, object_id: &str, actions: Vec<&str>) {
    let person = state.principals.iter_mut().find(|person| person.object_id == object_id).unwrap();
    let actions = actions.into_iter().map(str::to_owned).collect();
    person.assignments = vec![Assignment { scope: "/".to_owned(), actions }];
}

/// A world in which the app finds out everything that it ever asks Azure: it has these duties, nobody says what subscriptions
/// there are, no record says who asked for it, and a rule names a management group.
fn world(duties: &[&str]) -> Setting {
    let duties = estate::product_actions(duties);
    let setting = Setting::with(|state| {
        tag(state, "web-2", "development");
        state.switches.subscription_parents = SubscriptionParents::Refused;
        // So that the activity log alone can say who it was.
        state.switches.requestor = Requestor::Empty;
        gives(state, estate::PRODUCT_OBJECT_ID, duties);
    });
    setting.set("PORTCULLIS_SUBSCRIPTIONS", "").ruled_by(
        "quarantine.cedar",
        r#"@id("quarantined") @reason("Nothing below it is opened") forbid (principal, action, resource in ManagementGroup::"quarantine");"#,
    )
}

/// Somebody opens a port to everybody, somebody else one that a rule permits them, and a third asks for one.
async fn lived(setting: Setting) -> Story {
    let story = setting.begin().await;
    // Clocks differ by less than what lies between them, so that nobody takes one for the other.
    story.opens(estate::ADMIN_OBJECT_ID, &vm("db-1"), 3389, &["*"], HOUR).await;
    story.pass(10 * MINUTE).await;
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
    story.pass(10 * MINUTE).await;
    story.asks_for(estate::DEVELOPER_OBJECT_ID, "web-2", 22, VPN, "PT30M").await;
    story.pass(45 * MINUTE).await;
    story
}

/// What the app needed of Resource Manager, and whether it had it.
fn needed(story: &Story) -> BTreeSet<(String, bool)> {
    let is_data = |action: &str| {
        ["Microsoft.Storage/", "Microsoft.ServiceBus/", "Microsoft.Insights/Telemetry/"].iter().any(|of| action.starts_with(of))
    };
    let is_its = |right: &&NeededRight| right.object_id == estate::PRODUCT_OBJECT_ID && !is_data(&right.action);
    story.world(|state| state.rights.borrow().iter().filter(is_its).map(|right| (right.action.clone(), right.held)).collect())
}

fn roles(duties: &[&str]) -> BTreeSet<(String, bool)> {
    duties.iter().flat_map(|duty| actions(duty)).map(|action| (action.clone(), true)).collect()
}

fn missing(story: &Story) -> Vec<String> {
    let rights = story.world(|state| state.rights.borrow().clone());
    let of_app = rights.into_iter().filter(|right| right.object_id == estate::PRODUCT_OBJECT_ID && !right.held);
    of_app.map(|right| right.action).collect()
}

#[tokio::test]
async fn every_action_of_the_roles_is_needed_and_none_besides() {
    let duties = ["observe", "groups", "open", "close"];
    let story = lived(world(&duties)).await;
    assert_eq!(needed(&story), roles(&duties));
    assert_eq!((missing(&story), story.alarms()), (Vec::new(), String::new()), "{}", story.told());
    let done = ["adopted", "granted", "opened", "proved-shut"].map(|kind| story.audits_of(kind).len());
    // One was shut at sight, one at its end.
    assert_eq!(done, [1, 1, 1, 2], "{}", story.told());
    story.holds();
}

/// The examination needs its own role, all of it, and besides what observing takes nothing.
#[tokio::test]
async fn to_examine_takes_the_role_for_it_and_without_it_says_what_it_could_not_find_out() {
    let examined = async |duties: &[&str]| {
        let story = world(duties).observing().begin().await;
        let (status, answer) = story.reads(estate::AUDITOR_OBJECT_ID, "/doctor").await;
        assert_eq!(status, 200, "{answer}");
        let states: BTreeSet<(String, String)> =
            answer["checks"].as_array().unwrap().iter().map(|check| (text(check, "name"), text(check, "state"))).collect();
        (needed(&story), states)
    };
    let (needed, states) = examined(&["observe", "examine", "incidents", "groups"]).await;
    let of_duties = roles(&["examine", "incidents", "groups"]);
    assert!(of_duties.is_subset(&needed) && needed.is_subset(&roles(&["observe", "examine", "incidents", "groups"])), "{needed:#?}");
    assert!(states.iter().all(|(_, state)| state != "notKnown"), "{states:#?}");
    let (_, states) = examined(&["observe"]).await;
    assert!(states.contains(&("groups".to_owned(), "failing".to_owned())), "{states:#?}");
    let unknown: BTreeSet<&str> = states.iter().filter(|(_, state)| state == "notKnown").map(|(name, _)| name.as_str()).collect();
    assert_eq!(unknown, BTreeSet::from(["rights", "plan", "initiate", "events"]));
}

/// A request that names an incident needs the role for it, all of it, at the workspace alone; and no other does.
#[tokio::test]
async fn to_read_an_incident_takes_the_role_for_it_at_the_workspace() {
    let asked = async |incident: Value| {
        let mut setting = world(&["observe", "groups", "open", "close"]);
        let state = &mut setting.state;
        let app = state.principals.iter_mut().find(|one| one.object_id == estate::PRODUCT_OBJECT_ID).unwrap();
        app.assignments.push(Assignment { scope: estate::workspace_id(), actions: actions("incidents").to_vec() });
        state.workspaces[0].incidents.push(Incident {
            id: "73e01a99-5cd7-4139-a149-9f2736ff2ab5".to_owned(),
            number: 1,
            title: String::new(),
            severity: IncidentSeverity::High,
            status: IncidentStatus::New,
            owner: None,
            created: state.now,
            entities: vec![Entity::AzureResource { resource_id: vm("web-1") }],
        });
        let story = setting.begin().await;
        let body = json!({"vm": vm("web-1"), "port": 22, "sources": [VPN], "duration": "PT1H", "person": estate::RESPONDER_OBJECT_ID,
            "incident": incident});
        let (status, answer) = story.posts(estate::SECURITY_OBJECT_ID, "/grants", &body).await;
        assert_eq!(status, 202, "{answer}");
        story.pass(MINUTE).await;
        assert_eq!(missing(&story), Vec::<String>::new(), "{}", story.told());
        (story.lets_in("web-1", 22, &[VPN]), needed(&story))
    };
    let (with, without) = (asked(json!(1)).await, asked(Value::Null).await);
    assert!(with.0 && roles(&["incidents"]).is_disjoint(&without.1), "{without:#?}");
    // What opened needs the role to open, too.
    let more: BTreeSet<_> = with.1.difference(&without.1).cloned().collect();
    assert_eq!(more, roles(&["incidents", "open"]));
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn to_observe_takes_the_role_for_it_and_no_other() {
    let story = lived(world(&["observe", "groups"]).observing()).await;
    assert_eq!(needed(&story), roles(&["observe", "groups"]));
    assert_eq!((missing(&story), story.alarms()), (Vec::new(), String::new()), "{}", story.told());
    // Of both groups.
    assert_eq!((story.audits_of("would-close").len(), story.audits_of("close").len()), (2, 0), "{}", story.told());
}

/// What is missing is told by its name, and whatever needs it not goes on.
#[tokio::test]
async fn a_role_that_is_missing_takes_its_duty_away_and_no_other() {
    let open = "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action";
    let story = lived(world(&["observe", "groups", "close"])).await;
    assert_eq!((missing(&story), story.audits_of("proved-shut").len()), (vec![open.to_owned()], 1), "{}", story.told());
    let answered = story.audits_of("open-answered");
    assert!(!answered.is_empty() && answered.iter().all(|audit| audit["why"].as_str().unwrap().contains(open)), "{answered:#?}");

    let story = lived(world(&["observe", "groups", "open"])).await;
    let [delete, read] = ["delete", "read"].map(|deed| format!("Microsoft.Network/networkSecurityGroups/securityRules/{deed}"));
    assert_eq!((missing(&story), story.audits_of("opened").len()), (vec![read.clone()], 1), "{}", story.told());
    let raised = story.audits_of("alarm-raised");
    assert!(raised.iter().any(|audit| audit["code"] == "missing-right" && audit["port"] == 3389), "{raised:#?}");

    let mut with_reads = world(&["observe", "groups", "open"]);
    let actions = [estate::product_actions(&["observe", "groups", "open"]), vec![read.as_str()]].concat();
    gives(&mut with_reads.state, estate::PRODUCT_OBJECT_ID, actions);
    let story = lived(with_reads).await;
    assert_eq!(missing(&story), std::slice::from_ref(&delete));
    let raised = story.audits_of("alarm-raised");
    assert!(raised.iter().any(|audit| audit["code"] == "missing-right" && audit.to_string().contains(&delete)), "{raised:#?}");
}

#[tokio::test]
async fn a_person_of_the_role_for_people_sees_and_asks_and_cannot_open() {
    let mut setting = world(&["observe", "groups", "open", "close"]);
    gives(&mut setting.state, estate::DEVELOPER_OBJECT_ID, actions("people").iter().map(String::as_str).collect());
    let story = setting.begin().await;
    let end = (story.now() + HOUR).to_rfc3339();
    let body =
        json!({"virtualMachines": [{"id": vm("web-2"), "ports": [{"number": 22, "allowedSourceAddressPrefix": VPN, "endTimeUtc": end}]}]});
    let who = estate::DEVELOPER_OBJECT_ID;
    let (refused, answer) = story.arm(who, reqwest::Method::POST, &format!("{}/initiate", policy()), Some(body)).await;
    assert_eq!((refused, &answer["error"]["code"]), (403, &json!("AuthorizationFailed")), "{answer}");
    let seen = story.arm(who, reqwest::Method::GET, &policy(), None).await;
    assert_eq!(seen.0, 200, "{}", seen.1);
    let answer = story.grants(who, "web-2", 22, VPN, "PT30M").await;
    assert_eq!(answer["became"], "granted", "{answer}");
    story.pass(MINUTE).await;
    assert!(story.lets_in("web-2", 22, &[VPN]) && story.ours(INITIATE).len() == 1, "{}", story.told());
}

#[test]
fn the_table_of_actions_in_the_docs_is_that_of_the_roles() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/roles.md")).unwrap();
    let table = docs.split("## Actions").nth(1).unwrap().split("## ").next().unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `Microsoft.")).map(|row| {
        let mut cells = row.split(" | ");
        let action = format!("Microsoft.{}", cells.next().unwrap().trim_end_matches('`'));
        (action, cells.next().unwrap().to_owned())
    });
    let told: BTreeSet<(String, String)> = rows.collect();
    let one_duty = |duty: &String| duty != "people";
    let mut all: BTreeSet<(String, String)> = ROLES
        .iter()
        .filter(|(duty, _)| one_duty(duty))
        .flat_map(|(duty, role)| role.actions.iter().map(move |action| (action.clone(), duty.clone())))
        .collect();
    // People have some of what the program observes, besides.
    let of_app: BTreeSet<&String> = ROLES.iter().filter(|(duty, _)| one_duty(duty)).flat_map(|(_, role)| &role.actions).collect();
    let more = actions("people").iter().filter(|action| !of_app.contains(action));
    all.extend(more.map(|action| (action.clone(), "people".to_owned())));
    assert_eq!(told, all);
    let text = docs.split("The role for people also has").nth(1).unwrap().split("It has no").next().unwrap();
    let also: BTreeSet<&str> = text.split('`').filter(|part| part.starts_with("Microsoft.")).collect();
    let expected: BTreeSet<&str> = actions("people").iter().filter(|action| of_app.contains(action)).map(String::as_str).collect();
    assert_eq!(also, expected);
}

#[test]
fn no_role_allows_more_than_single_actions_or_changes_what_a_deployment_made() {
    for (duty, role) in ROLES.iter() {
        assert!(role.role_name.starts_with("Portcullis ") && role.description.ends_with('.'), "{duty}");
        for action in &role.actions {
            assert!(!action.contains('*') && !action.ends_with("/write"), "{duty}: {action}");
        }
        let sorted: BTreeSet<&String> = role.actions.iter().collect();
        assert!(role.actions.iter().eq(sorted), "{duty}: its actions are in the order of the alphabet, each once");
    }
    let all: Vec<&String> = DUTIES.iter().flat_map(|duty| actions(duty)).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "an action is one duty's");
}
