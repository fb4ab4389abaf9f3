//! Openings around Portcullis, judged by the rules: adopted for who may, shut for who may not, and provisional while
//! nothing but an event says who it was.

use chrono::TimeDelta;
use portcullis_sandbox::estate;
use portcullis_sandbox::faults::Effect;
use portcullis_sandbox::state::{Assignment, State};
use portcullis_sandbox::switches::{Events, NewerInitiate, Requestor, SubscriptionParents};
use portcullis_trials::story::{self, DELETE, Setting, Story, initiate_event, policy, vm};
use serde_json::{Value, json};

const MINUTE: i64 = 60;
const HOUR: TimeDelta = TimeDelta::hours(1);
const OFFICE: &str = "198.51.100.7";
const HOME: &str = "203.0.113.4";

fn silent(state: &mut State) {
    state.switches.requestor = Requestor::Empty;
}

fn tagged(state: &mut State, name: &str, environment: &str) {
    state.resources.get_mut(&vm(name)).unwrap()["tags"] = json!({"Environment": environment});
}

/// An event that says that somebody opened something, as anybody could send it.
fn event_of(story: &Story, id: &str, person: &str) -> Value {
    let mut event = initiate_event(id, &policy(), story.now());
    event["data"]["claims"] = json!({"http://schemas.microsoft.com/identity/claims/objectidentifier": person, "name": "Somebody"});
    event
}

#[tokio::test]
async fn a_responders_own_opening_is_adopted_with_its_rule_named_and_shut_at_its_end() {
    let story = Story::begin().await;
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
    story.pass(10 * MINUTE).await;
    let [adopted] = <[Value; 1]>::try_from(story.audits_of("adopted")).unwrap();
    assert_eq!((&adopted["rule"], &adopted["person"]), (&json!("responders-from-the-office"), &json!(estate::RESPONDER_UPN)));
    assert_eq!((&adopted["severity"], &adopted["decision"]["outcome"]["kind"]), (&json!("Informational"), &json!("open")));
    assert_eq!((story.tried(DELETE).len(), story.allow_rules(22).len(), story.alarms().as_str()), (0, 2, ""), "{}", story.told());
    assert_eq!(story.audits_of("finding-appeared"), Vec::<Value>::new());
    story.pass(55 * MINUTE).await;
    assert_eq!((story.audits_of("grant-ended").len(), story.audits_of("grant-closed").len()), (1, 1), "{}", story.told());
    assert_eq!(story.record("web-1").unwrap()["grants"], json!([]));
    assert_eq!((story.allow_rules(22).len(), story.alarms().as_str()), (0, ""));
    story.holds();
}

#[tokio::test]
async fn what_no_rule_permits_is_shut_and_the_decision_is_kept() {
    for (who, name, source, says) in [
        (estate::ADMIN_OBJECT_ID, "web-1", OFFICE, "no rule permits it"),
        (estate::RESPONDER_OBJECT_ID, "web-1", HOME, "it was opened without asking, and rule ask-for-a-machine leaves it to one person"),
        (estate::RESPONDER_OBJECT_ID, "db-1", OFFICE, "it was opened without asking"),
        (estate::RESPONDER_OBJECT_ID, "web-1", "198.51.100.0/23", "rule nobody-from-a-wide-range forbids it"),
    ] {
        let story = Setting::with(|state| tagged(state, "db-1", "production")).begin().await;
        story.opens(who, &vm(name), 22, &[source], HOUR).await;
        story.pass(5 * MINUTE).await;
        let close = &story.audits_of("close")[0];
        assert_eq!(close["code"], "unapproved", "{says}");
        assert!(close["why"].as_str().unwrap().contains(says), "{close}");
        let found = story.audits_of("finding-appeared").into_iter().find(|audit| audit["code"] == "unapproved").unwrap();
        assert_eq!(found["decision"]["wish"]["sources"], json!([source]));
        story.is_proved_shut(name, 22);
    }
}

#[tokio::test]
async fn what_is_opened_in_the_second_of_a_proof_is_judged_by_its_own_record() {
    for again in [59, 60, 61] {
        let story = Story::begin().await;
        story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 22, &[HOME], HOUR).await;
        story.pass(again).await;
        story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
        story.pass(10 * MINUTE).await;
        assert_eq!(story.audits_of("adopted").len(), 1, "{again}: {}", story.told());
        assert!(story.lets_in("web-1", 22, &[OFFICE]) && !story.lets_in("web-1", 22, &[HOME]), "{again}: {}", story.told());
        story.holds();
    }
}

#[tokio::test]
async fn a_rule_that_somebody_made_wider_than_what_was_asked_for_is_shut() {
    let story = Story::begin().await;
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
    story.pass(MINUTE).await;
    assert_eq!(story.audits_of("adopted").len(), 1, "{}", story.told());
    let [rule, _] = <[String; 2]>::try_from(story.allow_rules(22)).unwrap();
    let (_, mut body) = story.arm(estate::ADMIN_OBJECT_ID, reqwest::Method::GET, &format!("{rule}?api-version=2025-05-01"), None).await;
    body["properties"]["destinationPortRange"] = json!("22-65535");
    let put = story.arm(estate::ADMIN_OBJECT_ID, reqwest::Method::PUT, &format!("{rule}?api-version=2025-05-01"), Some(body)).await;
    assert!(put.0 < 300, "{put:?}");
    story.pass(10 * MINUTE).await;
    let close = &story.audits_of("close")[0];
    assert_eq!((&close["about"], &close["why"]), (&json!(rule), &json!("it opens ports 22-65535, more than anybody asked for")));
    let is_there = |state: &State| {
        let groups = state.resources.of_type("Microsoft.Network/networkSecurityGroups");
        groups.flat_map(|group| group["properties"]["securityRules"].as_array().into_iter().flatten()).any(|found| found["id"] == rule)
    };
    assert!(!story.world(is_there), "{}", story.told());
}

#[tokio::test]
async fn what_is_asked_for_longer_than_the_rule_permits_says_so() {
    let story = Story::begin().await;
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], TimeDelta::hours(5)).await;
    story.pass(5 * MINUTE).await;
    let close = &story.audits_of("close")[0];
    assert_eq!(close["code"], "over-cap");
    assert_eq!(close["why"], "it was asked for 5 h, longer than the 4 h that rule responders-from-the-office permits");
    story.is_proved_shut("web-1", 22);
}

#[tokio::test]
async fn breaking_the_glass_is_adopted_loudly() {
    let story = Setting::with(|state| tagged(state, "web-1", "production")).begin().await;
    story.opens(estate::GLASS_OBJECT_ID, &vm("web-1"), 22, &[HOME], HOUR).await;
    story.pass(5 * MINUTE).await;
    let [adopted] = <[Value; 1]>::try_from(story.audits_of("adopted")).unwrap();
    assert_eq!((&adopted["rule"], &adopted["code"], &adopted["severity"]), (&json!("break-glass"), &json!("break-glass"), &json!("High")));
    assert_eq!((story.tried(DELETE).len(), story.allow_rules(22).len()), (0, 2));
    story.holds();
}

#[tokio::test]
async fn a_claim_that_the_activity_log_confirms_stays() {
    let story = Setting::with(|state| {
        silent(state);
        state.switches.activity_log_seconds = 9 * MINUTE;
    });
    let story = story.begin().await;
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
    story.pass(5 * MINUTE).await;
    let grant = story.record("web-1").unwrap()["grants"][0].clone();
    assert!(grant["confirmBy"].is_string(), "{grant}");
    assert_eq!(story.audits_of("confirmed").len(), 0);
    story.pass(8 * MINUTE).await;
    let [confirmed] = <[Value; 1]>::try_from(story.audits_of("confirmed")).unwrap();
    assert!(confirmed["why"].as_str().unwrap().starts_with("the activity log"), "{confirmed}");
    story.pass(30 * MINUTE).await;
    assert_eq!((story.tried(DELETE).len(), story.allow_rules(22).len(), story.alarms().as_str()), (0, 2, ""), "{}", story.told());
    story.holds();
}

#[tokio::test]
async fn a_request_that_jit_refused_says_nothing_against_what_somebody_else_opened_meanwhile() {
    let story = Setting::with(silent).begin().await;
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
    let too_long = (story.now() + TimeDelta::days(30)).to_rfc3339();
    let ports = json!([{"number": 22, "allowedSourceAddressPrefix": HOME, "endTimeUtc": too_long}]);
    let asked = json!({"virtualMachines": [{"id": vm("web-1"), "ports": ports}]});
    let (status, answer) = story.arm(estate::ADMIN_OBJECT_ID, reqwest::Method::POST, &format!("{}/initiate", policy()), Some(asked)).await;
    assert_eq!(status, 400, "{answer}");
    let mut failed = event_of(&story, "failed", estate::ADMIN_OBJECT_ID);
    failed["eventType"] = json!("Microsoft.Resources.ResourceActionFailure");
    failed["data"]["status"] = json!("Failed");
    assert_eq!(story.post_events(failed.to_string()).await, 202);
    story.pass(40 * MINUTE).await;
    assert_eq!((story.audits_of("confirmed").len(), story.audits_of("grant-ended").len()), (1, 0), "{}", story.told());
    assert_eq!((story.tried(DELETE).len(), story.allow_rules(22).len(), story.alarms().as_str()), (0, 2, ""));
    story.holds();
}

#[tokio::test]
async fn a_forged_event_lets_nobody_in_for_longer_than_half_an_hour() {
    // The admin opens, and no event comes but the forged one, which names a responder.
    let story = Setting::with(|state| {
        silent(state);
        state.switches.events = Events::Never;
    });
    let story = story.begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], TimeDelta::hours(2)).await;
    story.pass(20).await;
    assert_eq!(story.post_events(event_of(&story, "forged", estate::RESPONDER_OBJECT_ID).to_string()).await, 202);
    story.pass(10 * MINUTE).await;
    assert_eq!((story.allow_rules(22).len(), story.audits_of("adopted").len()), (2, 1), "{}", story.told());
    story.pass(25 * MINUTE).await;
    assert_eq!(story.allow_rules(22).len(), 0, "{}", story.told());
    let ended = &story.audits_of("grant-ended")[0];
    assert_eq!((&ended["code"], &ended["severity"]), (&json!("unconfirmed"), &json!("High")), "{ended}");
    assert!(story.audits_of("close").iter().all(|close| close["code"] == "unconfirmed"));
    story.is_proved_shut("web-1", 22);
}

#[tokio::test]
async fn a_forged_event_beside_the_true_one_is_shut_at_once() {
    let story = Setting::with(silent).begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
    assert_eq!(story.post_events(event_of(&story, "forged", estate::RESPONDER_OBJECT_ID).to_string()).await, 202);
    story.pass(5 * MINUTE).await;
    assert_eq!(story.audits_of("adopted").len(), 0);
    story.is_proved_shut("web-1", 22);
}

#[tokio::test]
async fn a_true_event_that_comes_long_after_a_forged_one_ends_what_that_one_let_in() {
    let story = Setting::with(|state| {
        silent(state);
        state.switches.events = Events::Never;
        state.switches.activity_log_seconds = 20 * MINUTE;
    });
    let story = story.begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], TimeDelta::hours(2)).await;
    let late = event_of(&story, "true", estate::ADMIN_OBJECT_ID);
    story.post_events(event_of(&story, "forged", estate::RESPONDER_OBJECT_ID).to_string()).await;
    story.pass(10 * MINUTE).await;
    assert_eq!((story.allow_rules(22).len(), story.audits_of("adopted").len()), (2, 1), "{}", story.told());
    story.post_events(late.to_string()).await;
    story.pass(3 * MINUTE).await;
    let ended = &story.audits_of("grant-ended")[0];
    assert_eq!((&ended["code"], &ended["severity"]), (&json!("contradicted"), &json!("High")), "{ended}");
    story.is_proved_shut("web-1", 22);
    assert_eq!(story.audits_of("adopted").len(), 1, "{}", story.told());
    story.holds();
}

#[tokio::test]
async fn an_activity_log_that_may_not_be_read_is_told_since_claims_end_by_it() {
    let story = Setting::with(silent).begin().await;
    story.fault("arm", "GET", "/providers/Microsoft.Insights/eventtypes", Effect::status(403, None), None);
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
    story.pass(40 * MINUTE).await;
    let [told] = <[Value; 1]>::try_from(story.audits_of("service-failing")).unwrap();
    assert_eq!(told["code"], "activity-log", "{told}");
    assert!(told["what"].as_str().unwrap().contains("half an hour"), "{told}");
    assert_eq!(story.audits_of("grant-ended")[0]["code"], "unconfirmed");
    story.is_proved_shut("web-1", 22);
}

#[tokio::test]
async fn a_forged_event_against_jits_own_record_counts_for_nothing() {
    let story = Setting::with(|state| state.switches.events = Events::Never).begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
    assert_eq!(story.post_events(event_of(&story, "forged", estate::RESPONDER_OBJECT_ID).to_string()).await, 202);
    story.pass(5 * MINUTE).await;
    assert_eq!(story.audits_of("adopted").len(), 0);
    story.is_proved_shut("web-1", 22);
    // Nor does one that accuses a responder's true opening.
    let story = Story::begin().await;
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
    assert_eq!(story.post_events(event_of(&story, "accuses", estate::ADMIN_OBJECT_ID).to_string()).await, 202);
    story.pass(10 * MINUTE).await;
    assert_eq!((story.tried(DELETE).len(), story.audits_of("adopted").len()), (0, 1), "{}", story.told());
    story.holds();
}

#[tokio::test]
async fn an_event_whose_person_is_none_permits_nothing() {
    for person in ["", "not-a-guid", "../../vm/x", "00000000-0000-0000-0000-000000000000", "5a4db0c5-00b0-4000-8000-0000000000ff"] {
        let story = Setting::with(|state| {
            silent(state);
            state.switches.events = Events::Never;
        });
        let story = story.begin().await;
        story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
        assert_eq!(story.post_events(event_of(&story, "e", person).to_string()).await, 202);
        story.pass(10 * MINUTE).await;
        assert_eq!(story.audits_of("adopted").len(), 0, "{person}");
        story.is_proved_shut("web-1", 22);
    }
}

#[tokio::test]
async fn an_opening_that_nothing_tells_of_is_nobodys_after_five_minutes_of_its_record() {
    let story = Setting::with(|state| {
        silent(state);
        state.switches.events = Events::Never;
    });
    let story = story.begin().await;
    story.pass(4 * MINUTE).await;
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
    story.pass(4 * MINUTE).await;
    assert_eq!(story.tried(DELETE).len(), 0, "the sweep has seen it, and an event may still come: {}", story.told());
    story.pass(3 * MINUTE).await;
    let close = &story.audits_of("close")[0];
    assert!(close["why"].as_str().unwrap().contains("rule nobody-unknown forbids it"), "{close}");
    story.is_proved_shut("web-1", 22);
}

#[tokio::test]
async fn while_graph_does_not_answer_nothing_is_adopted_and_after_half_an_hour_it_is_shut() {
    let down = || Effect::status(503, None);
    let story = Story::begin().await;
    story.fault("graph", "POST", "", down(), None);
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
    story.pass(20 * MINUTE).await;
    assert_eq!((story.audits_of("adopted").len(), story.tried(DELETE).len(), story.allow_rules(22).len()), (0, 0, 2), "{}", story.told());
    story.pass(15 * MINUTE).await;
    story.is_proved_shut("web-1", 22);
}

#[tokio::test]
async fn once_graph_answers_again_it_is_decided_within_a_minute() {
    // Who it is that a record names, and which groups they are in.
    for (method, path) in [("GET", "/users/"), ("POST", "checkMemberGroups")] {
        let story = Story::begin().await;
        story.fault("graph", method, path, Effect::status(503, None), None);
        story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
        story.pass(10 * MINUTE).await;
        assert_eq!((story.audits_of("adopted").len(), story.alarms()), (0, "+undecided".to_owned()), "{path}: {}", story.told());
        story.heal();
        story.pass(MINUTE + 5).await;
        let told = (story.audits_of("adopted").len(), story.tried(DELETE).len(), story.alarms());
        assert_eq!(told, (1, 0, "+undecided -undecided".to_owned()), "{path}: {}", story.told());
        story.holds();
    }
}

#[tokio::test]
async fn graph_is_asked_once_in_five_minutes_about_a_person() {
    let story = Story::begin().await;
    story.count("graph", "POST", "checkMemberGroups");
    for (name, port) in [("web-1", 22), ("web-2", 22), ("web-1", 3389)] {
        story.opens(estate::RESPONDER_OBJECT_ID, &vm(name), port, &[OFFICE], HOUR).await;
        story.pass(60).await;
    }
    assert_eq!((story.audits_of("adopted").len(), story.counted()), (3, 1), "{}", story.told());
    story.pass(5 * MINUTE).await;
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-2"), 3389, &[OFFICE], HOUR).await;
    story.pass(60).await;
    assert_eq!((story.audits_of("adopted").len(), story.counted()), (4, 2));
}

/// A rule about everything below a management group, in the letter case in which rules name one.
const QUARANTINE: &str =
    r#"@id("quarantined") @reason("Nothing below it is opened") forbid (principal, action, resource in ManagementGroup::"quarantine");"#;

/// A world whose subscription is below these management groups, with a rule that names one.
fn below(groups: &[&str], parents: SubscriptionParents) -> Setting {
    let setting = Setting::with(|state| {
        state.switches.subscription_parents = parents;
        state.subscriptions[0].management_groups = groups.iter().map(|name| (*name).to_owned()).collect();
    });
    setting.ruled_by("quarantine.cedar", QUARANTINE)
}

#[tokio::test]
async fn a_rule_about_a_management_group_holds_for_everything_below_it_and_azure_is_asked_once_in_five_minutes() {
    for (groups, adopted) in
        [(&["Platform", "Quarantine"][..], false), (&["Quarantine", "Online"], false), (&["Platform"], true), (&[], true)]
    {
        let story = below(groups, SubscriptionParents::Shown).begin().await;
        story.count("arm", "POST", "/providers/Microsoft.Management/getEntities");
        for name in ["web-1", "web-2"] {
            story.opens(estate::RESPONDER_OBJECT_ID, &vm(name), 22, &[OFFICE], HOUR).await;
            story.pass(MINUTE).await;
        }
        assert_eq!(story.counted(), 1, "{groups:?}");
        if adopted {
            story.pass(5 * MINUTE).await;
            assert_eq!((story.audits_of("adopted").len(), story.tried(DELETE).len()), (2, 0), "{groups:?}: {}", story.told());
        } else {
            assert!(story.audits_of("close")[0]["why"].as_str().unwrap().contains("rule quarantined forbids it"), "{}", story.told());
            story.pass(5 * MINUTE).await;
            story.is_proved_shut("web-1", 22);
        }
        story.holds();
    }
    let story = Story::begin().await;
    story.count("arm", "POST", "/providers/Microsoft.Management/getEntities");
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
    story.pass(MINUTE).await;
    assert_eq!((story.audits_of("adopted").len(), story.counted()), (1, 0), "no rule names one");
}

#[tokio::test]
async fn while_azure_does_not_say_what_is_above_a_subscription_nothing_that_a_rule_ties_to_it_is_decided() {
    for (parents, says) in [
        (SubscriptionParents::Withheld, "names no parents of the subscription"),
        (SubscriptionParents::Refused, "Microsoft.Management/getEntities/action"),
    ] {
        let story = below(&["platform"], parents).begin().await;
        story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
        story.pass(20 * MINUTE).await;
        assert_eq!((story.audits_of("adopted").len(), story.tried(DELETE).len()), (0, 0), "{}", story.told());
        let refused = story.grants(estate::RESPONDER_OBJECT_ID, "web-2", 22, OFFICE, "PT1H").await;
        assert!(refused["became"] == "refused" && refused["why"].as_str().unwrap().contains(says), "{refused}");
        story.pass(15 * MINUTE).await;
        story.is_proved_shut("web-1", 22);
        assert!(story.audits_of("close")[0]["why"].as_str().unwrap().contains(says), "{}", story.told());
        story.holds();
    }
    // With the right at the root it is said.
    let mut setting = below(&["platform"], SubscriptionParents::Refused);
    setting.state.principals.iter_mut().filter(|one| one.managed_identity).for_each(|app| {
        let actions = vec!["Microsoft.Management/getEntities/action".to_owned()];
        app.assignments.push(Assignment { scope: "/".to_owned(), actions });
    });
    let story = setting.begin().await;
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
    story.pass(5 * MINUTE).await;
    assert_eq!((story.audits_of("adopted").len(), story.tried(DELETE).len()), (1, 0), "{}", story.told());
    story.holds();
}

#[tokio::test]
async fn in_observe_mode_what_would_be_shut_is_said_and_what_is_permitted_is_adopted() {
    let story = Setting::default().observing().begin().await;
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-2"), 22, &[OFFICE], HOUR).await;
    story.pass(10 * MINUTE).await;
    assert_eq!((story.audits_of("adopted").len(), story.tried(DELETE).len(), story.alarms().as_str()), (1, 0, ""));
    let would = story.audits_of("would-close");
    assert!(would.len() == 2 && would.iter().all(|audit| audit["code"] == "unapproved"), "{would:#?}");
    story.holds();
}

#[tokio::test]
async fn what_another_hand_shuts_is_not_opened_again_and_its_grant_is_over() {
    let story = Story::begin().await;
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
    story.pass(2 * MINUTE).await;
    for rule in story.allow_rules(22) {
        let (status, _) = story.arm(estate::ADMIN_OBJECT_ID, reqwest::Method::DELETE, &rule, None).await;
        assert!(status < 300);
    }
    story.pass(15 * MINUTE).await;
    let ended = &story.audits_of("grant-ended")[0];
    assert_eq!(ended["code"], "shut-by-another");
    assert_eq!((story.audits_of("grant-closed").len(), story.ours(story::INITIATE).len(), story.tried(DELETE).len()), (1, 0, 0));
    story.holds();
}

#[tokio::test]
async fn an_opening_that_jit_leaves_after_its_end_is_shut_as_expired() {
    let story = Setting::with(|state| {
        state.switches.events = Events::Never;
        state.switches.expiry_delay_seconds = 3600;
    });
    // Rules cannot be used until after its end: nothing was adopted.
    let story = story.without_rules().begin().await;
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], TimeDelta::minutes(10)).await;
    story.pass(14 * MINUTE).await;
    assert_eq!(story.tried(DELETE).len(), 0, "{}", story.told());
    story.pass(11 * MINUTE).await;
    let close = &story.audits_of("close")[0];
    assert_eq!(close["code"], "expired", "{close}");
    story.is_proved_shut("web-1", 22);
}

#[tokio::test]
async fn somebody_elses_narrower_opening_is_no_reason_to_let_a_wider_one_stand() {
    let story = Setting::with(|state| state.switches.newer_initiate = NewerInitiate::Adds).begin().await;
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
    story.pass(5 * MINUTE).await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 22, &["198.51.100.0/24"], HOUR).await;
    story.pass(10 * MINUTE).await;
    assert!(story.audits_of("close").iter().any(|close| close["code"] == "unapproved"), "{}", story.told());
    assert!(!story.lets_in("web-1", 22, &["198.51.100.77"]) && story.lets_in("web-1", 22, &[OFFICE]), "{}", story.told());
    assert_eq!((story.audits_of("adopted").len(), story.record("web-1").unwrap()["grants"].as_array().unwrap().len()), (1, 1));
    story.holds();
}

#[tokio::test]
async fn the_end_of_one_persons_opening_does_not_shut_anothers_nor_an_extension() {
    for (newer, second) in [
        (NewerInitiate::Adds, estate::GLASS_OBJECT_ID),
        (NewerInitiate::Replaces, estate::GLASS_OBJECT_ID),
        (NewerInitiate::Adds, estate::RESPONDER_OBJECT_ID),
        (NewerInitiate::Replaces, estate::RESPONDER_OBJECT_ID),
    ] {
        let story = Setting::with(|state| state.switches.newer_initiate = newer).begin().await;
        story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], TimeDelta::minutes(30)).await;
        story.pass(20 * MINUTE).await;
        story.opens(second, &vm("web-1"), 22, &[OFFICE], TimeDelta::minutes(40)).await;
        story.pass(25 * MINUTE).await;
        assert!(story.lets_in("web-1", 22, &[OFFICE]), "{newer:?} {second}: {}", story.told());
        assert_eq!((story.audits_of("adopted").len(), story.tried(story::INITIATE).len()), (2, 0), "{newer:?} {second}: {}", story.told());
        story.pass(25 * MINUTE).await;
        assert_eq!((story.allow_rules(22).len(), story.alarms().as_str()), (0, ""), "{newer:?} {second}: {}", story.told());
        story.holds();
    }
}

#[tokio::test]
async fn what_was_ended_early_is_not_adopted_again_while_its_record_runs_on() {
    let story = Story::begin().await;
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], TimeDelta::hours(2)).await;
    story.pass(5 * MINUTE).await;
    let grant = story.record("web-1").unwrap()["grants"][0]["id"].as_str().unwrap().to_owned();
    let answer = story.closes(estate::SECURITY_OBJECT_ID, "web-1", &grant).await;
    assert_eq!(answer["became"], "ended", "{answer}");
    story.pass(20 * MINUTE).await;
    assert_eq!((story.allow_rules(22).len(), story.audits_of("adopted").len()), (0, 1), "{}", story.told());
    // Somebody opens it anew: that is another wish, decided by the rules.
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
    story.pass(10 * MINUTE).await;
    assert_eq!(story.audits_of("adopted").len(), 2, "{}", story.told());
    assert!(story.lets_in("web-1", 22, &[OFFICE]), "{}", story.told());
    story.holds();
}

/// The operator sees one grant, and what its person opened besides, behind it, goes with it; another's stays.
#[tokio::test]
async fn whoever_is_shut_out_does_not_stay_by_a_second_opening_of_theirs() {
    let switches = [NewerInitiate::Adds, NewerInitiate::Replaces];
    for (newer, second, stays) in
        switches.into_iter().flat_map(|newer| [(newer, estate::RESPONDER_OBJECT_ID, false), (newer, estate::GLASS_OBJECT_ID, true)])
    {
        let story = Setting::with(|state| state.switches.newer_initiate = newer).begin().await;
        story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], TimeDelta::minutes(44)).await;
        story.pass(2 * MINUTE).await;
        story.opens(second, &vm("web-1"), 22, &[OFFICE], TimeDelta::minutes(54)).await;
        story.pass(20 * MINUTE).await;
        let grant = story.record("web-1").unwrap()["grants"][0]["id"].as_str().unwrap().to_owned();
        let answer = story.closes(estate::SECURITY_OBJECT_ID, "web-1", &grant).await;
        assert_eq!(answer["became"], "ended", "{answer}");
        story.pass(5 * MINUTE).await;
        assert_eq!(story.lets_in("web-1", 22, &[OFFICE]), stays, "{newer:?} {second}: {}", story.told());
        assert_eq!(story.audits_of("adopted").len(), if stays { 2 } else { 1 }, "{newer:?} {second}: {}", story.told());
        story.holds();
    }
}

#[tokio::test]
async fn an_event_in_another_permitted_persons_name_gets_nobodys_opening_shut() {
    // The forged event comes first, and names somebody who may open it, too, and who sorts before the true one.
    let story = Setting::with(silent).begin().await;
    assert!(estate::RESPONDER_OBJECT_ID < estate::GLASS_OBJECT_ID);
    story.opens(estate::GLASS_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
    story.post_events(event_of(&story, "forged", estate::RESPONDER_OBJECT_ID).to_string()).await;
    story.pass(40 * MINUTE).await;
    let [confirmed] = <[Value; 1]>::try_from(story.audits_of("confirmed")).unwrap();
    assert_eq!(confirmed["person"], estate::GLASS_UPN, "{confirmed}");
    assert!(story.lets_in("web-1", 22, &[OFFICE]) && story.tried(DELETE).is_empty(), "{}", story.told());
    story.holds();
}

#[tokio::test]
async fn an_event_that_names_nobody_does_not_outrun_the_true_one() {
    let story = Setting::with(silent).begin().await;
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
    story.post_events(event_of(&story, "nobody", "").to_string()).await;
    story.pass(20 * MINUTE).await;
    assert_eq!((story.audits_of("confirmed").len(), story.tried(DELETE).len()), (1, 0), "{}", story.told());
    story.holds();
}

#[tokio::test]
async fn events_of_the_future_do_not_push_the_true_one_out() {
    let story = Setting::with(silent).begin().await;
    for n in 0..25 {
        let mut event = event_of(&story, &format!("forged-{n}"), estate::ADMIN_OBJECT_ID);
        for field in ["/eventTime", "/data/eventTimestamp"] {
            if let Some(time) = event.pointer_mut(field) {
                *time = json!("9999-12-31T00:00:00Z");
            }
        }
        story.post_events(json!([event]).to_string()).await;
    }
    story.pass(MINUTE).await;
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], HOUR).await;
    story.pass(30 * MINUTE).await;
    assert_eq!((story.audits_of("confirmed").len(), story.tried(DELETE).len()), (1, 0), "{}", story.told());
    story.holds();
}

#[tokio::test]
async fn what_nobody_answers_in_time_delays_nothing_that_must_be_shut() {
    // Half of the handler's own limits: each call alone would be waited for.
    let slow = || Effect::Delay { milliseconds: 9_000 };
    let story = Story::begin().await;
    story.fault("graph", "POST", "", slow(), None);
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 3389, &[OFFICE], HOUR).await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 22, &["*"], HOUR).await;
    story.pass(2 * MINUTE).await;
    assert!(story.ours(DELETE).len() >= 2 && story.allow_rules(22).is_empty(), "{}", story.told());
    story.heal();
    story.pass(10 * MINUTE).await;
    assert_eq!((story.audits_of("adopted").len(), story.allow_rules(3389).len()), (1, 2), "{}", story.told());
    story.holds();
}
