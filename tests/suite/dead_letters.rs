//! What came to no end is shown to who operates the app, and worked on again when they say so.

use chrono::TimeDelta;
use portcullis_sandbox::estate;
use portcullis_sandbox::faults::{Effect, Fault};
use portcullis_sandbox::switches::Events;
use portcullis_trials::story::{DELETE, Setting, Story, initiate_event, policy, vm};
use serde_json::{Value, json};

const OPERATOR: &str = estate::SECURITY_OBJECT_ID;
const MINUTE: i64 = 60;

async fn listed(story: &Story) -> Vec<Value> {
    let (status, answer) = story.reads(OPERATOR, "/deadletters").await;
    assert_eq!((status, &answer["more"]), (200, &json!(false)), "{answer}");
    answer["items"].as_array().unwrap().clone()
}

async fn replayed(story: &Story, id: &Value) -> (u16, Value) {
    story.posts(OPERATOR, &format!("/deadletters/{}/replay", id.as_str().unwrap()), &json!({})).await
}

fn look() -> String {
    json!({"portcullis": {"kind": "look", "vm": vm("web-1")}}).to_string()
}

/// An opening to everybody that no event told of, and a look at it whose every delivery killed the handler.
async fn with_a_dead_look() -> Story {
    let story = Setting::with(|state| state.switches.events = Events::Never).begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(3)).await;
    story.pass(20).await;
    story.fault("blob", "PUT", "/state/vm/", Effect::KillBefore, None);
    story.send("approval", &look());
    story.pass(3 * MINUTE).await;
    story.heal();
    story
}

fn dead(story: &Story) -> usize {
    story.world(|state| state.queues.values().map(|queue| queue.dead_letters.len()).sum())
}

#[tokio::test]
async fn a_dead_letter_is_shown_as_often_as_somebody_looks_and_worked_on_again_once() {
    let story = with_a_dead_look().await;
    let first = listed(&story).await;
    assert_eq!(first.len(), 1, "{first:#?}");
    let id = &first[0]["id"];
    assert!(id.as_str().unwrap().starts_with("approval-"), "{id}");
    assert_eq!((&first[0]["place"], &first[0]["replayable"]), (&json!("approval"), &json!(true)));
    assert_eq!(first[0]["message"], json!({"kind": "look", "vm": vm("web-1"), "tries": 0}));
    assert!(first[0].get("body").is_none());
    let again = listed(&story).await;
    assert_eq!((&again[0]["id"], again[0]["deliveries"].as_u64()), (id, first[0]["deliveries"].as_u64().map(|count| count + 1)));
    let (status, whole) = story.reads(OPERATOR, &format!("/deadletters/{}", id.as_str().unwrap())).await;
    assert_eq!((status, whole["body"].as_str()), (200, Some(look().as_str())), "{whole}");

    let (status, answer) = replayed(&story, id).await;
    assert_eq!((status, &answer), (202, &json!({"id": id, "queue": "approval"})));
    story.pass(30).await;
    assert_eq!((story.allow_rules(3389).len(), dead(&story)), (0, 0), "before the sweep: {}", story.told());
    let audits = story.audits_of("replayed");
    assert_eq!((audits.len(), &audits[0]["personId"]), (1, &json!(OPERATOR)), "{audits:#?}");
    assert_eq!(replayed(&story, id).await.0, 404);
    story.pass(3 * MINUTE).await;
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test]
async fn a_dead_letter_that_was_sent_and_could_not_be_taken_away_shows_again_and_does_no_harm() {
    let story = with_a_dead_look().await;
    let id = listed(&story).await[0]["id"].clone();
    story.fault("servicebus", "DELETE", "/messages/", Effect::CutBefore, Some(1));
    let (status, answer) = replayed(&story, &id).await;
    assert_eq!((status, &answer["error"]["code"]), (503, &json!("QueueUnavailable")), "{answer}");
    story.pass(2 * MINUTE).await;
    assert_eq!(replayed(&story, &id).await.0, 202);
    story.pass(5 * MINUTE).await;
    assert_eq!((dead(&story), story.audits_of("replayed").len(), story.audits_of("close").len()), (0, 2, story.ours(DELETE).len()));
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test]
async fn what_would_only_be_set_aside_again_is_refused_with_the_reason_and_kept() {
    let story = Story::begin().await;
    story.send("approval", "{\"portcullis\": {\"kind\": \"dance\"}}");
    story.send("sweep", &json!({"portcullis": {"kind": "shard", "subscription": "S"}}).to_string());
    assert_eq!(story.post_events("[{\"data\": {\"operationName\": \"x\"}}]").await, 202);
    story.pass(10).await;
    let left = listed(&story).await;
    assert_eq!(left.len(), story.rejected().len(), "{left:#?}");
    assert!(left.len() >= 2, "{left:#?}");
    for one in &left {
        assert_eq!((&one["place"], &one["replayable"], one["message"].is_null()), (&json!("rejected"), &json!(false), true), "{one:#}");
        let (status, answer) = replayed(&story, &one["id"]).await;
        let why = one["whyNot"].as_str().unwrap();
        assert_eq!((status, &answer["error"]["code"]), (409, &json!("Unusable")), "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(why), "{answer}");
    }
    assert_eq!((story.rejected().len(), story.audits_of("replayed").len()), (left.len(), 0));
}

#[tokio::test]
async fn what_came_to_the_wrong_queue_is_sent_to_its_own() {
    let story = Story::begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(1)).await;
    story.send("alerts", &look());
    story.pass(5).await;
    let left = listed(&story).await;
    assert_eq!((left.len(), &left[0]["from"]), (1, &json!("alert")), "{left:#?}");
    assert_eq!(replayed(&story, &left[0]["id"]).await.1["queue"], "approval");
    story.pass(3 * MINUTE).await;
    assert!(story.rejected().is_empty() && listed(&story).await.is_empty());
    story.is_proved_shut("web-1", 3389);
}

/// As after an upgrade to a version that understands what the one before did not.
#[tokio::test]
async fn an_event_that_was_set_aside_is_stored_and_worked_on_once_it_is_understood() {
    let story = Setting::with(|state| state.switches.events = Events::Never).begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(1)).await;
    assert_eq!(story.post_events("[{\"data\": {}}]").await, 202);
    story.pass(15).await;
    let event = initiate_event("e-1", &policy(), story.now());
    let kept = json!({"from": "jit_activity", "reason": "not understood", "body": event.to_string()}).to_string();
    story.change(|state| {
        let blobs = &mut state.containers.get_mut("state").unwrap().blobs;
        let (_, blob) = blobs.iter_mut().find(|(name, _)| name.starts_with("rejected/")).unwrap();
        blob.content = kept;
    });
    let left = listed(&story).await;
    assert_eq!((left.len(), &left[0]["message"]["kind"]), (1, &json!("unstored")), "{left:#?}");
    assert_eq!(replayed(&story, &left[0]["id"]).await.0, 202);
    story.pass(60).await;
    assert_eq!(story.allow_rules(3389).len(), 0, "before the sweep: {}", story.told());
    assert!(story.rejected().is_empty());
    story.pass(3 * MINUTE).await;
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test]
async fn only_operators_have_anything_worked_on_again_and_others_learn_nothing() {
    let story = with_a_dead_look().await;
    let id = listed(&story).await[0]["id"].as_str().unwrap().to_owned();
    for (who, read, replay) in [(estate::DEVELOPER_OBJECT_ID, 403, 403), (estate::AUDITOR_OBJECT_ID, 200, 403)] {
        assert_eq!(story.reads(who, "/deadletters").await.0, read, "{who}");
        assert_eq!(story.reads(who, &format!("/deadletters/{id}")).await.0, read, "{who}");
        assert_eq!(story.posts(who, &format!("/deadletters/{id}/replay"), &json!({})).await.0, replay, "{who}");
    }
    for id in ["approval-999999", "rejected-0123", "approval-x", "nothing", "state-1"] {
        let (status, answer) = story.reads(OPERATOR, &format!("/deadletters/{id}")).await;
        assert_eq!((status, &answer["error"]["code"]), (404, &json!("NoDeadLetter")), "{id}");
    }
    let (status, _) = story.posts(OPERATOR, &format!("/deadletters/{id}/replay"), &json!({"force": true})).await;
    assert_eq!((status, dead(&story)), (400, 1));
    story.fault("servicebus", "POST", "/$DeadLetterQueue/", Effect::status(401, None), None);
    let (status, answer) = story.reads(OPERATOR, "/deadletters").await;
    assert_eq!((status, &answer["error"]["code"]), (503, &json!("QueueUnavailable")), "{answer}");
    story.heal();
    story.fault("blob", "GET", "/state", Effect::status(403, None), None);
    assert_eq!(story.reads(OPERATOR, "/deadletters").await.1["error"]["code"], "StoreUnavailable");
}

#[tokio::test]
async fn a_queue_that_does_not_answer_keeps_no_letter_of_another_held() {
    let story = with_a_dead_look().await;
    story.fault("servicebus", "POST", "/alerts/$DeadLetterQueue/", Effect::status(401, None), None);
    let slow = Effect::Delay { milliseconds: 300 };
    story.change(|state| state.faults.push(Fault::new("servicebus", "POST", "/approval/$DeadLetterQueue/", slow).skip(1)));
    assert_eq!(story.reads(OPERATOR, "/deadletters").await.0, 503);
    story.heal();
    assert_eq!(listed(&story).await.len(), 1, "it was not given back");
}
