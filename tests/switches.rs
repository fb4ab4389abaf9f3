//! What nobody knows about Azure: the port is proved shut, or an alarm stands, under every setting of every switch.

#[expect(dead_code, reason = "each test binary uses its part of the harness")]
mod story;

use chrono::TimeDelta;
use portcullis_sandbox::estate;
use portcullis_sandbox::switches::*;
use reqwest::Method;
use serde_json::{Value, json};
use story::{DELETE, Setting, Story, each_row, policy, vm};

const MINUTE: i64 = 60;

/// Every setting of every switch, each apart from the usual world. The pattern names every switch, so that a new one
/// has to be entered here.
fn settings() -> Vec<(String, Switches)> {
    let Switches {
        newer_initiate: _,
        deleted_rule_returns: _,
        put_closes_records: _,
        source_must: _,
        plural_sources: _,
        smallest_end_seconds: _,
        rules_land: _,
        requestor: _,
        event_resource: _,
        initiating_seconds: _,
        expiry_delay_seconds: _,
        record_of_deleted_rule: _,
        letter_case: _,
        rule_names: _,
        delete_answers: _,
        operation_seconds: _,
        busy_nsg: _,
        nsg_if_match: _,
        activity_log_seconds: _,
        events: _,
        event_schema: _,
        page_size: _,
        logs_unpacked_counts: _,
    } = Switches::default();
    let mut rows = Vec::new();
    macro_rules! every {
        ($($switch:ident: $settings:expr),+ $(,)?) => {$(
            for setting in $settings {
                rows.push((format!("{} = {setting:?}", stringify!($switch)), Switches { $switch: setting.to_owned(), ..Switches::default() }));
            }
        )+};
    }
    every! {
        newer_initiate: NewerInitiate::ALL,
        deleted_rule_returns: Returns::ALL,
        put_closes_records: [false, true],
        source_must: SourceMust::ALL,
        plural_sources: [false, true],
        smallest_end_seconds: [0, 300],
        rules_land: RulesLand::ALL,
        requestor: Requestor::ALL,
        event_resource: EventResource::ALL,
        initiating_seconds: [0, 12, 120],
        expiry_delay_seconds: [0, 30, 600],
        record_of_deleted_rule: RecordOfDeletedRule::ALL,
        letter_case: LetterCase::ALL,
        rule_names: RuleNames::ALL,
        delete_answers: DeleteAnswers::ALL,
        operation_seconds: [0, 4, 60],
        busy_nsg: BusyNsg::ALL,
        nsg_if_match: NsgIfMatch::ALL,
        activity_log_seconds: [0, 300],
        events: Events::ALL,
        event_schema: EventSchema::ALL,
        page_size: [0, 1],
        logs_unpacked_counts: [false, true],
    }
    rows
}

fn alarm_stands(story: &Story) -> bool {
    story.record("web-1").is_some_and(|record| record["alarms"] != json!({}))
}

/// Two people open the same port to everybody, and in between somebody writes the policy again.
async fn any_source(switches: Switches) {
    let returns = switches.deleted_rule_returns;
    let story = Setting::with(|state| state.switches = switches).begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(1)).await;
    story.pass(20).await;
    let (_, body) = story.arm(estate::ADMIN_OBJECT_ID, Method::GET, &policy(), None).await;
    let kept = json!({"kind": body["kind"], "properties": {"virtualMachines": body["properties"]["virtualMachines"], "requests": body["properties"]["requests"]}});
    let (status, answer) = story.arm(estate::ADMIN_OBJECT_ID, Method::PUT, &policy(), Some(kept)).await;
    assert_eq!(status, 200, "{answer}");
    story.pass(10).await;
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 3389, &["0.0.0.0/0"], TimeDelta::hours(1)).await;
    story.pass(20 * MINUTE).await;
    if returns == Returns::Always {
        assert!(alarm_stands(&story), "{}", story.told());
        assert!(story.ours(DELETE).len() < 120, "a returning rule is deleted with pauses: {}", story.ours(DELETE).len());
        // JIT itself takes it down after its record's end.
        story.pass(60 * MINUTE).await;
    }
    assert!(!alarm_stands(&story), "{}\n{:#}", story.alarms(), story.record("web-1").unwrap());
    assert!(!story.ours(DELETE).is_empty());
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_to_everybody_ends_proved_shut_under_every_setting() {
    each_row(settings().into_iter().map(|(name, switches)| (name, any_source(switches)))).await;
}

/// All that is slow at once, with rules that come back and groups that are written by others.
#[tokio::test(flavor = "multi_thread")]
async fn the_worst_of_all_settings_together_end_proved_shut() {
    let worst = |case| Switches {
        newer_initiate: NewerInitiate::Adds,
        deleted_rule_returns: Returns::Once,
        initiating_seconds: 120,
        record_of_deleted_rule: RecordOfDeletedRule::Disappears,
        letter_case: case,
        operation_seconds: 60,
        busy_nsg: BusyNsg::Conflict,
        events: Events::Late,
        event_schema: EventSchema::CloudEvents,
        page_size: 1,
        ..Switches::default()
    };
    each_row(LetterCase::ALL.iter().map(|case| (format!("{case:?}"), any_source(worst(*case))))).await;
}

#[tokio::test]
async fn an_opening_for_too_long_whose_event_is_lost_is_found_by_the_sweep() {
    let story = Setting::with(|state| state.switches.events = Events::Never).begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 22, &["203.0.113.4"], TimeDelta::hours(12)).await;
    story.pass(4 * MINUTE).await;
    assert_eq!(story.ours(DELETE).len(), 0);
    story.pass(6 * MINUTE).await;
    assert_eq!((story.ours(DELETE).len(), story.alarms().as_str()), (2, ""));
    assert!(story.audits_of("close").iter().all(|close| close["code"] == "overlong"));
    story.is_proved_shut("web-1", 22);
}

#[tokio::test]
async fn observing_says_once_what_it_would_close_and_enforcing_later_closes_it() {
    let story = Setting::default().observing().begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(6)).await;
    story.pass(60 * MINUTE).await;
    assert_eq!((story.tried(DELETE).len(), story.allow_rules(3389).len(), story.alarms().as_str()), (0, 2, ""));
    assert_eq!(story.audits_of("would-close").len(), 2, "one a rule");
    assert_eq!((story.queued("approval"), &story.record("web-1").unwrap()["nextLook"]), (0, &Value::Null), "no wake-up");
    assert_eq!(story.record("web-1").unwrap()["closings"], json!({}));
    story.holds();

    let story = story.left().begin().await;
    story.pass(10 * MINUTE).await;
    assert_eq!(story.ours(DELETE).len(), 2);
    story.is_proved_shut("web-1", 3389);

    let observing = story.left().observing().begin().await;
    observing.pass(10 * MINUTE).await;
    assert_eq!((observing.ours(DELETE).len(), observing.audits_of("would-close").len()), (2, 2));
}
