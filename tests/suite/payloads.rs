//! The host's own payloads, sent to the handler as they are, and what becomes of them in a world that answers.

use portcullis_sandbox::blob;
use portcullis_sandbox::estate;
use portcullis_trials::story::{Setting, Story, initiate_event, policy, vm};
use serde_json::{Value, json};

const EVENT_ALONE: &str = include_str!("../fixtures/host/eventgrid_one_derived.json");
const EVENTS: &str = include_str!("../fixtures/host/eventgrid_many_derived.json");
const MESSAGE_ALONE: &str = include_str!("../fixtures/host/servicebus_one_derived.json");
const MESSAGES_AS_TEXT: &str = include_str!("../fixtures/host/servicebus_many_dataType_string_derived.json");
const MESSAGES: &str = include_str!("../fixtures/host/servicebus_many_no_dataType_derived.json");
const TIMER_AT_FIRST: &str = include_str!("../fixtures/host/timer_first_run_derived.json");
const TIMER: &str = include_str!("../fixtures/host/timer_usemonitor_derived.json");

/// Sends an invocation to the handler itself, while the world's time stands still and nothing else is delivered, and
/// gives the line that it logs.
async fn invoked(story: &Story, function: &str, body: &str) -> String {
    let handler = story.sandbox.host.as_ref().unwrap().process().unwrap().base().await.unwrap();
    let request = story.sandbox.client().unwrap().post(format!("{handler}/{function}")).header("content-type", "application/json");
    let response = request.body(body.to_owned()).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let answer: Value = response.json().await.unwrap();
    assert!(answer["Outputs"].is_object() && answer.get("ReturnValue").is_some(), "{answer}");
    let [line] = &answer["Logs"].as_array().unwrap()[..] else { panic!("{answer}") };
    line.as_str().unwrap().to_owned()
}

/// The payload with another value in the place of its own, encoded as that was.
fn with(payload: &str, name: &str, value: &Value) -> String {
    let mut payload: Value = serde_json::from_str(payload).unwrap();
    let place = &mut payload["Data"][name];
    *place = match place {
        Value::String(_) => json!(value.to_string()),
        Value::Object(_) => value.clone(),
        other => panic!("{other}"),
    };
    payload.to_string()
}

fn kept(story: &Story, prefix: &str) -> Vec<Value> {
    story.world(|state| {
        let blobs = state.containers["state"].blobs.iter().filter(|(name, _)| name.starts_with(prefix));
        blobs.map(|(_, blob)| serde_json::from_slice(&blob::content_bytes(&blob.content)).unwrap()).collect()
    })
}

/// The bodies of the messages of a queue.
fn waiting(story: &Story, queue: &str) -> Vec<Value> {
    story.world(|state| state.queues[queue].messages.iter().map(|message| serde_json::from_str(&message.body).unwrap()).collect())
}

#[tokio::test]
async fn an_event_is_kept_and_passed_on_in_either_form_of_the_host() {
    for (payload, name) in [(EVENT_ALONE, "event"), (EVENTS, "events")] {
        let story = Story::begin().await;
        let event = initiate_event("e", &policy(), story.now());
        let value = if name == "events" { json!([event]) } else { event };
        let line = invoked(&story, "jit_activity", &with(payload, name, &value)).await;
        assert!(!line.starts_with("rejected") && !line.starts_with("failed"), "{line}");
        let events = kept(&story, "events/");
        assert_eq!((events.len(), &events[0]["objectId"]), (1, &json!(estate::ADMIN_OBJECT_ID)), "{events:#?}");
        let sent = waiting(&story, "approval");
        assert_eq!((sent.len(), &sent[0]["portcullis"]["kind"]), (1, &json!("event")), "{sent:#?}");
        assert_eq!(story.rejected(), Vec::<Value>::new());
    }
}

#[tokio::test]
async fn an_event_that_says_nothing_of_jit_is_rejected_whole() {
    for payload in [EVENT_ALONE, EVENTS] {
        let story = Story::begin().await;
        invoked(&story, "jit_activity", payload).await;
        let [rejected] = &story.rejected()[..] else { panic!("{:#?}", story.rejected()) };
        let body: Value = serde_json::from_str(rejected["body"].as_str().unwrap()).unwrap();
        let one: Value = serde_json::from_str(EVENT_ALONE).unwrap();
        assert_eq!((&rejected["from"], body), (&json!("jit_activity"), one["Data"]["event"].clone()));
        assert_eq!((kept(&story, "events/").len(), story.queued("approval")), (0, 0));
    }
}

#[tokio::test]
async fn messages_of_others_are_rejected_with_their_text_whole_in_every_form_of_the_host() {
    let alone = r#"{"requestId":"r-1","attempt":2,"urgent":true,"when":"2026-01-15T09:59:58Z","role":{"id":"x"},"tags":["a"]}"#;
    let batch = [r#"{"a":1}"#, r#"{"a":2}"#];
    for function in ["approval", "sweep_shard", "alert"] {
        for (payload, texts) in [(MESSAGE_ALONE, &[alone][..]), (MESSAGES_AS_TEXT, &batch), (MESSAGES, &batch)] {
            let story = Story::begin().await;
            let line = invoked(&story, function, payload).await;
            assert_eq!(line.matches("rejected: ").count(), texts.len(), "{line}");
            let rejected = story.rejected();
            assert!(rejected.iter().all(|rejected| rejected["from"] == function), "{rejected:#?}");
            let mut bodies: Vec<&str> = rejected.iter().map(|rejected| rejected["body"].as_str().unwrap()).collect();
            bodies.sort_unstable();
            assert_eq!(bodies, texts, "{function}");
            assert_eq!(story.audits_of("rejected").len(), texts.len());
        }
    }
}

#[tokio::test]
async fn our_own_message_is_handled_in_every_form_of_the_host() {
    let look = json!({"portcullis": {"kind": "look", "vm": vm("web-1")}});
    let text = json!(look.to_string());
    for (payload, name, value) in
        [(MESSAGE_ALONE, "msg", text.clone()), (MESSAGES_AS_TEXT, "msgs", json!([text])), (MESSAGES, "msgs", json!([look]))]
    {
        let story = Story::begin().await;
        invoked(&story, "approval", &with(payload, name, &value)).await;
        assert!(story.record("web-1").is_some_and(|record| record["lease"].is_null()), "{value}");
        assert_eq!(story.rejected(), Vec::<Value>::new());
    }
}

#[tokio::test]
async fn a_tick_is_done_at_the_first_run_of_a_timer_and_later() {
    for payload in [TIMER_AT_FIRST, TIMER] {
        let story = Setting::default().begin().await;
        invoked(&story, "sweep", payload).await;
        let shard = json!({"portcullis": {"kind": "shard", "subscription": estate::SUBSCRIPTION, "tries": 0}});
        assert_eq!(waiting(&story, "sweep"), [shard]);

        let due = format!("due/{}/{}/{}/web-1/0a1b2c3d", story.now().format("%Y%m%dT%H%M%SZ"), estate::SUBSCRIPTION, estate::GROUP);
        story.change(|state| blob::put(state, "state", &due, b"{}", "application/json"));
        invoked(&story, "schedule", payload).await;
        let sent = waiting(&story, "approval");
        assert_eq!((sent.len(), &sent[0]["portcullis"]["kind"]), (1, &json!("look")), "{sent:#?}");
        assert!(sent[0]["portcullis"]["vm"].as_str().unwrap().eq_ignore_ascii_case(&vm("web-1")), "{sent:#?}");
    }
}
