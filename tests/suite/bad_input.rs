//! Input that is wrong, foreign, doubled, late or in disorder: it is used, left alone, or kept with a reason, and
//! never lost, retried for ever or a dead letter.

use chrono::TimeDelta;
use portcullis_sandbox::switches::{EventSchema, Events};
use portcullis_sandbox::{blob, estate};
use portcullis_trials::story::{DELETE, Setting, Story, each_row, initiate_event, policy, vm};
use serde_json::{Value, json};

const MINUTE: i64 = 60;

async fn quiet() -> Story {
    Setting::with(|state| state.switches.events = Events::Never).begin().await
}

async fn opened_in_silence() -> Story {
    let story = quiet().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(1)).await;
    story
}

/// What stands under `rejected/`, as (from, reason), and that each has its audit record and its row.
fn rejected(story: &Story) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kept: Vec<(String, String)> = story.rejected().iter().map(|kept| (text(&kept["from"]), text(&kept["reason"]))).collect();
    assert_eq!(story.audits_of("rejected").len(), kept.len());
    assert!(story.row_kinds().iter().filter(|kind| *kind == "rejected").count() >= kept.len());
    story.holds();
    kept
}

#[tokio::test]
async fn poison_is_kept_with_its_reason_and_gone_from_its_queue() {
    let look = json!({"kind": "look", "vm": vm("web-1")});
    let large = json!({"portcullis": {"kind": "look", "vm": vm("web-1"), "more": "x".repeat(200_000)}}).to_string();
    let bodies = [
        ("".to_owned(), "not JSON"),
        ("{".to_owned(), "not JSON"),
        ("\u{0}\u{1}\u{7f}".to_owned(), "not JSON"),
        ("null".to_owned(), "only key"),
        ("[1,2]".to_owned(), "only key"),
        (r#"{"orderId":7,"items":[]}"#.to_owned(), "only key"),
        (json!({"portcullis": look, "MessageId": "x"}).to_string(), "only key"),
        (json!({"portcullis": {"kind": "open", "vm": vm("web-1")}}).to_string(), "none that Portcullis sends"),
        (json!({"portcullis": {"kind": "look", "vm": "web-1"}}).to_string(), "none that Portcullis sends"),
        (json!({"portcullis": {"kind": "look", "vm": vm("../web-1")}}).to_string(), "none that Portcullis sends"),
        (large, "none that Portcullis sends"),
    ];
    let others = json!({"portcullis": {"kind": "row", "audit": "a"}}).to_string();
    let shard = json!({"portcullis": {"kind": "shard", "subscription": "every"}}).to_string();
    for (queue, function) in [("approval", "approval"), ("sweep", "sweep_shard"), ("alerts", "alert")] {
        let story = quiet().await;
        let mut sent = bodies.to_vec();
        match queue {
            "approval" => sent.push((others.clone(), "events and looks only")),
            "sweep" => sent.extend([(others.clone(), "shards only"), (shard.clone(), "not a GUID")]),
            _ => sent.push((json!({ "portcullis": look }).to_string(), "rows only")),
        }
        for (body, _) in &sent {
            story.send(queue, body);
        }
        story.pass(2).await;
        assert_eq!((story.queued(queue), story.queued("alerts")), (0, 0));
        let mut kept = rejected(&story);
        for (body, reason) in &sent {
            let place = kept.iter().position(|(_, said)| said.contains(reason));
            let (from, _) = kept.swap_remove(place.unwrap_or_else(|| panic!("{queue}: {body:.80} {kept:?}")));
            assert_eq!(from, function, "{queue}: {body:.80}");
        }
        assert_eq!(kept, []);
        let mut whole: Vec<String> = story.rejected().iter().map(|kept| kept["body"].as_str().unwrap().to_owned()).collect();
        let mut expected: Vec<String> = sent.iter().map(|(body, _)| body.clone()).collect();
        whole.sort();
        expected.sort();
        assert_eq!(whole, expected, "what cannot be used is kept whole");
        assert!(story.record("web-1").is_none(), "nothing was looked at");
    }
}

#[tokio::test]
async fn one_poison_twice_is_kept_once() {
    let story = quiet().await;
    for _ in 0..3 {
        story.send("approval", "{");
        story.pass(1).await;
    }
    assert_eq!(rejected(&story).len(), 1);
}

#[tokio::test]
async fn a_message_that_the_store_kept_and_nobody_can_read_is_rejected_and_not_lost() {
    let story = quiet().await;
    let name = "later/20260115T090000Z/0";
    let kept = json!({"name": name, "body": "{"}).to_string();
    story.change(|state| blob::put(state, "state", name, kept.as_bytes(), "application/json"));
    story.pass(2 * MINUTE).await;
    let kept = rejected(&story);
    assert_eq!(kept.iter().map(|(from, _)| from.as_str()).collect::<Vec<_>>(), ["schedule"]);
    assert!(kept[0].1.contains("not JSON"), "{kept:?}");
}

#[tokio::test]
async fn malformed_events_are_kept_and_foreign_ones_left_alone() {
    let good = || initiate_event("e", &policy(), portcullis_sandbox::state::beginning());
    let changed = |pointer: &str, value: Value| {
        let mut event = good();
        *event.pointer_mut(pointer).unwrap() = value;
        event
    };
    let story = quiet().await;
    let malformed = [
        (json!({"id": "x"}), "no `data` object"),
        (changed("/data", json!("text")), "no `data` object"),
        (changed("/data/operationName", json!(7)), "no `data.operationName`"),
        (changed("/data/operationName", json!("")), "no `data.operationName`"),
        (changed("/eventTime", json!("yesterday")), "no readable `eventTime`"),
        (changed("/data/resourceUri", json!("web-1")), "the event's resource"),
        (changed("/data/resourceUri", json!("/subscriptions/../x")), "the event's resource"),
    ];
    for (event, _) in &malformed {
        assert_eq!(story.post_events(format!("[{event}]")).await, 202);
    }
    for foreign in ["Microsoft.Compute/virtualMachines/write", "Microsoft.Security/locations/jitNetworkAccessPolicies/read", "x"] {
        let event = changed("/data/operationName", json!(foreign));
        assert_eq!(story.post_events(format!("[{event}]")).await, 202);
    }
    story.pass(2).await;
    let kept = rejected(&story);
    assert_eq!(kept.len(), malformed.len(), "{kept:?}");
    for (_, reason) in malformed {
        assert!(kept.iter().any(|(from, said)| from == "jit_activity" && said.contains(reason)), "{reason}: {kept:?}");
    }
    assert_eq!((story.queued("approval"), story.record("web-1")), (0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_shut_the_port_in_whatever_form_and_order_they_come() {
    let at = portcullis_sandbox::state::beginning();
    let claims_as_string = {
        let mut event = initiate_event("e", &policy(), at);
        event["data"]["claims"] = json!(event["data"]["claims"].to_string());
        event
    };
    let cloud = {
        let mut event = initiate_event("e", &policy(), at);
        let fields = event.as_object_mut().unwrap();
        for (old, new) in [("topic", "source"), ("eventType", "type"), ("eventTime", "time")] {
            let value = fields.remove(old).unwrap();
            fields.insert(new.to_owned(), value);
        }
        fields.insert("specversion".to_owned(), json!("1.0"));
        event
    };
    let one = || initiate_event("e", &policy(), at);
    let of_vm = |id: String| initiate_event("e", &id, at);
    let bodies = [
        ("one in an array", json!([one()])),
        ("one alone", one()),
        ("CloudEvents", cloud.clone()),
        (
            "a batch of both schemas with a foreign and a broken one",
            json!([{"id": "broken"}, cloud, one(), {"id": "f", "eventType": "x", "data": {"operationName": "a/b"}}]),
        ),
        ("claims as a string", json!([claims_as_string])),
        ("the same three times", json!([one(), one(), one()])),
        ("of the VM", json!([of_vm(vm("web-1"))])),
        ("of the VM in capitals", json!([of_vm(vm("web-1").to_ascii_uppercase())])),
        ("of the policy in small letters", json!([of_vm(policy().to_ascii_lowercase())])),
        ("of the action", json!([of_vm(format!("{}/initiate/action", policy()))])),
    ];
    let rows = bodies.map(|(name, body)| {
        let story = async move {
            let story = opened_in_silence().await;
            assert_eq!(story.post_events(body.to_string()).await, 202);
            story.pass(30).await;
            assert_eq!(story.ours(DELETE).len(), 2, "{}", story.told());
            story.pass(3 * MINUTE).await;
            story.is_proved_shut("web-1", 3389);
            assert_eq!(story.queued("approval"), 0);
            let records = story.world(|state| state.containers["state"].blobs.keys().filter(|name| name.starts_with("vm/")).count());
            assert_eq!(records, 1, "one VM has one record");
            let claims = story.record("web-1").unwrap()["claims"].clone();
            let claims = claims.as_array().unwrap();
            assert!(!claims.is_empty() && claims.iter().all(|claim| claim["objectId"] == estate::ADMIN_OBJECT_ID), "{claims:#?}");
        };
        (name.to_owned(), story)
    });
    each_row(rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_two_openings_shut_both_late_doubled_reordered_or_lost_in_both_schemas() {
    let rows =
        Events::ALL.iter().flat_map(|events| EventSchema::ALL.iter().map(move |schema| (*events, *schema))).map(|(events, schema)| {
            let story = async move {
                let change = |state: &mut portcullis_sandbox::state::State| {
                    state.switches.events = events;
                    state.switches.event_schema = schema;
                };
                let story = Setting::with(change).begin().await;
                story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(1)).await;
                story.opens(estate::ADMIN_OBJECT_ID, &vm("db-1"), 22, &["0.0.0.0/0"], TimeDelta::hours(1)).await;
                story.pass(15 * MINUTE).await;
                story.is_proved_shut("web-1", 3389);
                story.is_proved_shut("db-1", 22);
                assert_eq!((story.ours(DELETE).len(), story.alarms().as_str(), story.queued("approval")), (4, "", 0));
            };
            (format!("{events:?} {schema:?}"), story)
        });
    each_row(rows).await;
}

#[tokio::test]
async fn an_old_event_and_one_of_nothing_change_nothing() {
    let story = quiet().await;
    let gone = policy().replace("/default", "/gone");
    let elsewhere = "/subscriptions/5a4db0c5-0001-4000-8000-0000000000ff/resourceGroups/x/providers/Microsoft.Security/locations/l/jitNetworkAccessPolicies/p";
    let events = [
        initiate_event("a", &gone, story.now()),
        initiate_event("b", elsewhere, story.now()),
        initiate_event("c", &vm("nobody"), story.now()),
        initiate_event("d", &policy(), story.now() - TimeDelta::days(30)),
        initiate_event("e", &policy(), story.now() + TimeDelta::days(30)),
    ];
    assert_eq!(story.post_events(json!(events).to_string()).await, 202);
    story.pass(40 * MINUTE).await;
    assert_eq!((story.queued("approval"), story.ours(DELETE).len(), story.alarms().as_str()), (0, 0, ""), "{}", story.told());
    assert_eq!(story.rejected(), Vec::<Value>::new());
    story.holds();
}

#[tokio::test]
async fn a_forged_event_opens_and_shuts_nothing() {
    let story = Setting::with(|state| state.switches.events = Events::Never).letting_everybody_in().begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 22, &["203.0.113.4"], TimeDelta::hours(1)).await;
    story.pass(30).await;
    for (number, operation) in ["write", "delete", "initiate/action"].iter().enumerate() {
        let mut event = initiate_event(&format!("f{number}"), &policy(), story.now());
        event["data"]["operationName"] = json!(format!("Microsoft.Security/locations/jitNetworkAccessPolicies/{operation}"));
        assert_eq!(story.post_events(event.to_string()).await, 202);
    }
    story.pass(10 * MINUTE).await;
    assert_eq!((story.allow_rules(22).len(), story.tried(DELETE).len()), (2, 0));
    story.holds();
}

#[tokio::test]
async fn a_policy_that_is_deleted_after_its_opening_leaves_no_port_open() {
    let story = opened_in_silence().await;
    story.pass(14).await;
    story.change(|state| {
        state.resources.remove(&policy());
    });
    let mut event = initiate_event("gone", &policy(), story.now());
    assert_eq!(story.post_events(event.to_string()).await, 202);
    event["data"]["operationName"] = json!("Microsoft.Security/locations/jitNetworkAccessPolicies/delete");
    assert_eq!(story.post_events(event.to_string()).await, 202);
    story.pass(10 * MINUTE).await;
    story.is_proved_shut("web-1", 3389);
}
