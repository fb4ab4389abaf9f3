//! The examination of an installation: each thing that it stands on broken, and told with what to do about it.

use portcullis_sandbox::estate;
use portcullis_sandbox::faults::Effect;
use portcullis_sandbox::roles::DUTIES;
use portcullis_sandbox::state::{Assignment, Incident, IncidentSeverity, IncidentStatus, Lock, LockLevel, State};
use portcullis_sandbox::switches::{IncidentEntities, SubscriptionParents};
use portcullis_trials::story::{Setting, Story, policy, vm};
use serde_json::{Value, json};

async fn examined(story: &Story, query: &str) -> Vec<Value> {
    let (status, answer) = story.reads(estate::AUDITOR_OBJECT_ID, &format!("/doctor{query}")).await;
    assert_eq!(status, 200, "{answer}");
    answer["checks"].as_array().unwrap().clone()
}

/// What is not well, as `name state`.
fn not_well(checks: &[Value]) -> Vec<String> {
    let text = |check: &Value, field: &str| check[field].as_str().unwrap().to_owned();
    let bad = checks.iter().filter(|check| check["state"] != "well");
    bad.map(|check| format!("{} {}", text(check, "name"), text(check, "state"))).collect()
}

/// Whoever may do everything in the small estate besides the app: Ada, by one role for everything.
const USUAL: &str = "initiate attention";

fn subscription(state: &mut State) -> &mut portcullis_sandbox::state::Subscription {
    let known = state.subscriptions.iter_mut();
    known.into_iter().find(|known| known.id == estate::SUBSCRIPTION).unwrap()
}

fn gives_the_app(state: &mut State, duties: &[&str]) {
    let app = state.principals.iter_mut().find(|one| one.object_id == estate::PRODUCT_OBJECT_ID).unwrap();
    let actions = estate::product_actions(duties).into_iter().map(str::to_owned).collect();
    app.assignments = vec![Assignment { scope: "/".to_owned(), actions }];
}

#[tokio::test]
async fn an_installation_that_is_as_it_must_be_is_well_in_everything() {
    let story = Story::begin().await;
    let checks = examined(&story, "").await;
    assert_eq!(not_well(&checks), [USUAL], "{checks:#?}");
    let names: std::collections::BTreeSet<&str> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    let all = [
        "clock",
        "deadletters",
        "events",
        "graph",
        "groups",
        "identity",
        "incidents",
        "ingestion",
        "initiate",
        "mode",
        "plan",
        "policies",
        "rights",
        "rules",
        "settings",
        "store",
        "subscriptions",
    ];
    assert_eq!(names.into_iter().collect::<Vec<_>>(), all);
    assert!(checks.iter().all(|check| (check["state"] == "well") == (check["cure"] == "")), "{checks:#?}");
    // It only reads.
    assert_eq!(story.world(|state| state.log.iter().filter(|entry| entry.face == "arm").count()), 0);
}

#[tokio::test]
async fn whatever_is_broken_in_azure_is_told_by_its_name() {
    type Breaks = fn(&mut State);
    let cases: [(&str, Breaks, &str); 9] = [
        ("plan failing", |state| subscription(state).jit_plan = false, "Defender for Servers"),
        ("events failing", |state| subscription(state).events = false, "infra/events.sh"),
        ("rights failing", |state| gives_the_app(state, &["observe", "open", "examine"]), "Portcullis close"),
        ("rights failing", |state| gives_the_app(state, &["observe", "close", "examine"]), "Portcullis open"),
        ("rights notKnown", |state| gives_the_app(state, &["observe", "open", "close"]), "Portcullis examine"),
        (
            "policies attention",
            |state| state.resources.get_mut(&policy()).unwrap()["properties"]["virtualMachines"] = json!([]),
            "protects no machine",
        ),
        (
            "policies attention",
            |state| state.resources.get_mut(&policy()).unwrap()["properties"]["virtualMachines"][0]["id"] = json!(vm("web-9")),
            "names web-9",
        ),
        (
            "policies attention",
            |state| state.resources.get_mut(&policy()).unwrap()["properties"]["provisioningState"] = json!("Failed"),
            "is Failed",
        ),
        ("initiate attention", |state| gives_the_app(state, &DUTIES), "2 by Owner"),
    ];
    for (what, breaks, says) in cases {
        let story = Setting::with(breaks).begin().await;
        let checks = examined(&story, "").await;
        let found = checks.iter().find(|check| format!("{} {}", check["name"].as_str().unwrap(), check["state"].as_str().unwrap()) == what);
        let told = found.unwrap_or_else(|| panic!("{what}: {checks:#?}"));
        assert!(told.to_string().contains(says), "{what}: {told:#}");
        assert_eq!(told["subscription"], estate::SUBSCRIPTION);
    }
}

#[tokio::test]
async fn what_enforcing_needs_is_told_while_it_observes() {
    let told = async |duties: &'static [&str]| {
        let story = Setting::with(|state| gives_the_app(state, duties)).observing().begin().await;
        let checks = examined(&story, "").await;
        let rights = checks.iter().find(|check| check["name"] == "rights").unwrap();
        assert_eq!(rights["state"], "well");
        rights["said"].as_str().unwrap().to_owned()
    };
    let observes = "the app has every right of its roles in the group of the JIT policy";
    assert_eq!(
        told(&["observe", "examine"]).await,
        format!("{observes}; before PORTCULLIS_MODE is enforce it needs Portcullis close and Portcullis open as well")
    );
    assert_eq!(told(&["observe", "examine", "open", "close"]).await, observes);
}

#[tokio::test]
async fn whatever_is_broken_in_the_installation_is_told_by_its_name() {
    let observing = Setting::default().observing().begin().await;
    assert_eq!(not_well(&examined(&observing, "").await), [USUAL, "mode attention"]);
    let ruleless = Setting::default().without_rules().begin().await;
    assert!(not_well(&examined(&ruleless, "").await).contains(&"rules failing".to_owned()));
    let unfilled = Setting::default().ruled_by("people.yaml", include_str!("../../policies/people.yaml")).begin().await;
    assert!(not_well(&examined(&unfilled, "").await).contains(&"rules attention".to_owned()));
    // Rows that are refused are known to be once one was sent.
    let story = Story::begin().await;
    story.fault("logs", "POST", "/", Effect::status(403, None), None);
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], chrono::TimeDelta::hours(1)).await;
    story.pass(600).await;
    assert!(not_well(&examined(&story, "").await).contains(&"ingestion failing".to_owned()), "{}", story.told());
    story.heal();
    story.fault("arm", "GET", "/jitNetworkAccessPolicies", Effect::status(503, None), None);
    let checks = examined(&story, "").await;
    assert!(not_well(&checks).contains(&"policies notKnown".to_owned()), "{checks:#?}");
}

/// A rule that names a management group, which somebody has to know of every machine.
const QUARANTINED: &str =
    r#"@id("quarantined") @reason("Nothing below it is opened") forbid (principal, action, resource in ManagementGroup::"quarantine");"#;

#[tokio::test]
async fn whatever_keeps_rules_from_knowing_what_they_ask_for_is_told_by_its_name() {
    let told = async |story: &Story, name: &str| {
        let checks = examined(story, "").await;
        let check = checks.iter().find(|check| check["name"] == name).unwrap();
        format!("{} {}", check["state"].as_str().unwrap(), check["cure"].as_str().unwrap())
    };
    let story = Story::begin().await;
    story.fault("graph", "POST", "/checkMemberGroups", Effect::status(403, None), None);
    assert!(told(&story, "graph").await.starts_with("failing run infra/registration.sh"), "{}", told(&story, "graph").await);
    story.heal();
    story.fault("graph", "POST", "/checkMemberGroups", Effect::status(503, None), None);
    assert_eq!(told(&story, "graph").await, "notKnown ask again");

    let named = async |parents| {
        let world = Setting::with(|state| {
            state.switches.subscription_parents = parents;
            gives_the_app(state, &["observe", "open", "close", "examine"]);
        });
        told(&world.ruled_by("quarantined.cedar", QUARANTINED).begin().await, "groups").await
    };
    assert_eq!(named(SubscriptionParents::Shown).await, "well ");
    for parents in [SubscriptionParents::Refused, SubscriptionParents::Withheld] {
        assert!(named(parents).await.starts_with("failing assign the role `Portcullis management groups`"), "{parents:?}");
    }
    let ruleless = Setting::default().without_rules().begin().await;
    assert_eq!([told(&ruleless, "graph").await, told(&ruleless, "groups").await], ["notKnown see the check `rules`"; 2]);
}

#[tokio::test]
async fn one_subscription_can_be_looked_at_alone_and_one_that_is_not_governed_is_told() {
    let story = Setting::with(|state| estate::add_subscription(state, &estate::numbered_subscription(7), "Seven"))
        .set("PORTCULLIS_SUBSCRIPTIONS", "")
        .begin()
        .await;
    let about = |checks: &[Value]| -> std::collections::BTreeSet<String> {
        checks.iter().filter_map(|check| check["subscription"].as_str().map(str::to_owned)).collect()
    };
    let all = examined(&story, "").await;
    assert_eq!(about(&all).len(), 2, "{all:#?}");
    let one = examined(&story, &format!("?subscription={}", estate::SUBSCRIPTION)).await;
    assert_eq!(about(&one).into_iter().collect::<Vec<_>>(), [estate::SUBSCRIPTION]);
    let none = examined(&story, "?subscription=00000000-0000-4000-8000-000000000009").await;
    assert!(not_well(&none).contains(&"subscriptions failing".to_owned()) && about(&none).is_empty(), "{none:#?}");
    let (status, answer) = story.reads(estate::AUDITOR_OBJECT_ID, "/doctor?subscription=x").await;
    assert_eq!(status, 400, "{answer}");
    let (status, _) = story.reads(estate::DEVELOPER_OBJECT_ID, "/doctor").await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn whatever_keeps_incidents_from_being_read_is_told_with_what_to_do() {
    let one = |state: &mut State| {
        let created = state.now;
        state.workspaces[0].incidents.push(Incident {
            id: "73e01a99-5cd7-4139-a149-9f2736ff2ab5".to_owned(),
            number: 1,
            title: String::new(),
            severity: IncidentSeverity::Low,
            status: IncidentStatus::New,
            owner: None,
            created,
            entities: Vec::new(),
        });
    };
    let check = async |setting: Setting| {
        let checks = examined(&setting.begin().await, "").await;
        let check = checks.into_iter().find(|check| check["name"] == "incidents").unwrap();
        assert_eq!(check["subscription"], Value::Null);
        let text = |field: &str| check[field].as_str().unwrap().to_owned();
        (text("state"), text("said"), text("cure"))
    };
    let asks = "rules ask for incidents of Microsoft Sentinel, and no workspace is connected";
    let mut without_right = Setting::default();
    gives_the_app(&mut without_right.state, &["observe", "open", "close", "examine"]);
    for (setting, state, says, cure) in [
        (Setting::default(), "well", "has no incident yet", ""),
        (Setting::with(one), "well", "can be read, with what they name", ""),
        (Setting::default().set("PORTCULLIS_SENTINEL_WORKSPACE", ""), "attention", asks, "set PORTCULLIS_SENTINEL_WORKSPACE"),
        (without_right, "failing", "Microsoft.SecurityInsights/incidents/read", "Portcullis read incidents"),
        (
            Setting::with(|state| {
                one(state);
                state.switches.incident_entities = IncidentEntities::OwnAction;
            }),
            "failing",
            "Microsoft.SecurityInsights/incidents/entities/action",
            "Microsoft Sentinel Responder",
        ),
        (
            Setting::default().set("PORTCULLIS_SENTINEL_WORKSPACE", &estate::workspace_id().replace("/sentinel", "/another")),
            "failing",
            "404",
            "Microsoft Sentinel is on in it",
        ),
        (
            Setting::with(|state| {
                one(state);
                state.locks.push(Lock::new(estate::workspace_id(), LockLevel::ReadOnly));
            }),
            "failing",
            "ScopeLocked",
            "read-only lock",
        ),
    ] {
        let (seen, said, told) = check(setting).await;
        assert_eq!(seen, state, "{said}");
        assert!(said.contains(says) && told.contains(cure), "{said}: {told}");
    }
}
