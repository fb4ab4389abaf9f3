//! The host stand-in against a handler that is made for the purpose: every rule and every trap of the real host.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use portcullis_sandbox::engine::Engine;
use portcullis_sandbox::eventgrid;
use portcullis_sandbox::face::Call;
use portcullis_sandbox::host::client;
use portcullis_sandbox::host::config::HttpMode;
use portcullis_sandbox::host::process::{Console, Process, Program};
use portcullis_sandbox::host::{Host, HostConfig, HostFiles, Outcome, Worker};
use portcullis_sandbox::servicebus;
use portcullis_sandbox::state::{Message, Queue, State};
use portcullis_sandbox::world::World;
use serde_json::{Value, json};

/// What the handler of a test got.
#[derive(Clone, Debug)]
struct Got {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

struct Story {
    world: World,
    engine: Engine,
    host: Host,
    got: Arc<Mutex<Vec<Got>>>,
}

const HOST_JSON: &str = r#"{"version":"2.0",
    "customHandler":{"description":{"defaultExecutablePath":"handler"},"enableForwardingHttpRequest":true,"enableProxyingHttpRequest":true},
    "extensions":{"serviceBus":{"maxConcurrentCalls":2}}}"#;

fn files(host_json: &str) -> HostFiles {
    let function = |name: &str, bindings: Value| (name.to_owned(), json!({ "bindings": bindings }).to_string());
    HostFiles {
        root: std::env::temp_dir(),
        host_json: host_json.to_owned(),
        functions: vec![
            function(
                "api",
                json!([
                    { "type": "httpTrigger", "direction": "in", "name": "req", "authLevel": "anonymous", "route": "{*path}" },
                    { "type": "http", "direction": "out", "name": "res" },
                ]),
            ),
            function(
                "approval",
                json!([
                    { "type": "serviceBusTrigger", "direction": "in", "name": "msg", "queueName": "approval", "connection": "Bus" },
                    { "type": "serviceBus", "direction": "out", "name": "out", "queueName": "alerts", "connection": "Bus" },
                ]),
            ),
            function("jit_activity", json!([{ "type": "eventGridTrigger", "direction": "in", "name": "event" }])),
            function(
                "sweep",
                json!([
                    { "type": "timerTrigger", "direction": "in", "name": "timer", "schedule": "0 */5 * * * *" },
                ]),
            ),
        ],
    }
}

fn config_of(files: &HostFiles) -> HostConfig {
    let settings = BTreeMap::from([("Bus__fullyQualifiedNamespace".to_owned(), "ns".to_owned())]);
    HostConfig::read(files, &settings).unwrap()
}

fn config(host_json: &str) -> HostConfig {
    config_of(&files(host_json))
}

fn a_world() -> World {
    let mut state = State::default();
    for queue in ["approval", "alerts"] {
        state.queues.insert(queue.to_owned(), Queue::default());
    }
    World::new(state, Duration::ZERO)
}

/// A story whose handler answers with what `reply` makes of a request.
async fn a_story<F>(host_json: &str, reply: F) -> Story
where
    F: Fn(&World, &Got) -> Response + Clone + Send + Sync + 'static,
{
    a_story_of(a_world(), config(host_json), reply).await
}

/// The same in a world of its own, with an app of its own.
async fn a_story_of<F>(world: World, config: HostConfig, reply: F) -> Story
where
    F: Fn(&World, &Got) -> Response + Clone + Send + Sync + 'static,
{
    let got: Arc<Mutex<Vec<Got>>> = Arc::default();
    let (kept, of_handler) = (Arc::clone(&got), world.clone());
    let router = Router::new().fallback(move |request: Request| {
        let (kept, world, reply) = (Arc::clone(&kept), of_handler.clone(), reply.clone());
        async move {
            let (parts, body) = request.into_parts();
            let path = parts.uri.path_and_query().unwrap().to_string();
            let body = to_bytes(body, usize::MAX).await.unwrap();
            let got = Got { path, headers: parts.headers, body };
            kept.lock().unwrap().push(got.clone());
            reply(&world, &got)
        }
    });
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let host = Host::new(world.clone(), config, Worker::At(base)).unwrap();
    let engine = Engine::new(world.clone(), Some(host.clone()));
    Story { world, engine, host, got }
}

impl Story {
    fn send(&self, body: &str) {
        let message = Message { body: body.to_owned(), ..Message::default() };
        assert!(servicebus::enqueue(&mut self.world.lock(), "approval", message));
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    fn reasons(&self) -> Vec<String> {
        let failures = self.host.record().failures();
        failures
            .into_iter()
            .map(|failure| match failure.outcome {
                Outcome::Failed { reason } => reason,
                Outcome::Succeeded => panic!("a success is no failure"),
            })
            .collect()
    }
}

fn ok() -> Response {
    answer("application/json", "{}")
}

fn answer(content_type: &'static str, body: &'static str) -> Response {
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}

#[tokio::test]
async fn a_message_is_posted_in_chunks_with_the_hosts_headers_and_is_gone_after_success() {
    let story = a_story(HOST_JSON, |_, _| ok()).await;
    let large = "x".repeat(3 << 20);
    story.send(&large);
    story.engine.settle().await.unwrap();
    let got = story.got();
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].path, "/approval");
    assert_eq!(got[0].header("transfer-encoding"), "chunked");
    assert_eq!(got[0].header("content-length"), "");
    assert_eq!(got[0].header("content-type"), "application/json; charset=utf-8");
    assert!(got[0].header("user-agent").starts_with("Azure-Functions-Host/"));
    assert_eq!(got[0].json()["Data"]["msg"], format!("\"{large}\""));
    let invocation = got[0].header("x-azure-functions-invocationid").to_owned();
    let traced = story.world.trace(got[0].header("traceparent"));
    assert_eq!(traced, Some(("approval".to_owned(), invocation)));
    assert!(story.world.lock().queues["approval"].messages.is_empty());
    assert_eq!(story.host.record().counts(), (1, 0));
}

#[tokio::test]
async fn a_failing_message_comes_back_at_once_and_dies_after_ten_deliveries() {
    let story = a_story(HOST_JSON, |_, _| StatusCode::INTERNAL_SERVER_ERROR.into_response()).await;
    let before = story.engine.now();
    story.send("m");
    assert_eq!(story.engine.settle().await.unwrap(), before);
    let counts: Vec<Value> = story.got().iter().map(|got| got.json()["Metadata"]["DeliveryCount"].clone()).collect();
    assert_eq!(counts, (1..=10).map(|count| json!(count.to_string())).collect::<Vec<_>>());
    let ids: std::collections::BTreeSet<String> =
        story.got().iter().map(|got| got.header("x-azure-functions-invocationid").to_owned()).collect();
    assert_eq!(ids.len(), 10);
    let state = story.world.lock();
    assert!(state.queues["approval"].messages.is_empty());
    assert_eq!(state.queues["approval"].dead_letters[0].dead_letter_reason.as_deref(), Some("MaxDeliveryCountExceeded"));
}

#[tokio::test]
async fn answers_that_are_no_results_fail_or_hang() {
    type Row = (&'static str, fn() -> Response, &'static str);
    let rows: [Row; 6] = [
        ("an empty 200", || StatusCode::OK.into_response(), "timeout"),
        ("a 204", || StatusCode::NO_CONTENT.into_response(), "timeout"),
        ("null", || answer("application/json", "null"), "timeout"),
        ("text", || answer("text/plain", "{}"), "media type"),
        ("bad JSON", || answer("application/json", "{\"Outputs\":"), "no JSON"),
        ("a 404", || (StatusCode::NOT_FOUND, "{}").into_response(), "404"),
    ];
    // Together, since those that hang take all of their time.
    let told: Vec<_> = rows.into_iter().map(|(name, reply, reason)| tokio::spawn(is_no_result(name, reply, reason))).collect();
    for told in told {
        told.await.unwrap();
    }
}

async fn is_no_result(name: &'static str, reply: fn() -> Response, reason: &'static str) {
    let first = Arc::new(AtomicUsize::new(0));
    let mut config = config(HOST_JSON);
    if reason == "timeout" {
        config.function_timeout = Duration::from_secs(2);
    }
    let story = a_story_of(a_world(), config, move |_, _| match first.fetch_add(1, Ordering::SeqCst) {
        0 => reply(),
        _ => ok(),
    })
    .await;
    story.send("m");
    story.engine.settle().await.unwrap();
    let reasons = story.reasons();
    assert_eq!(reasons.len(), 1, "{name}: {reasons:?}");
    assert!(reasons[0].contains(reason), "{name}: {reasons:?}");
    assert_eq!(story.got().len(), 2, "{name}");
    assert!(story.world.lock().queues["approval"].messages.is_empty(), "{name}");
}

/// The app of these tests with another `function.json` of one function.
fn config_with(name: &str, function: Value) -> HostConfig {
    let mut files = files(HOST_JSON);
    let (_, text) = files.functions.iter_mut().find(|(known, _)| known == name).unwrap();
    *text = function.to_string();
    config_of(&files)
}

fn sweep(retry: Value) -> Value {
    json!({ "retry": retry, "bindings": [{ "type": "timerTrigger", "direction": "in", "name": "timer", "schedule": "0 */5 * * * *" }] })
}

/// When each run of the story began, in seconds of its world, and what it was told of those before.
fn told_of_retries(story: &Story, begin: DateTime<Utc>) -> Vec<(i64, Value, Value)> {
    let runs = story.host.record().invocations();
    let told = runs.iter().zip(story.got()).map(|(run, got)| {
        let context = &got.json()["Metadata"]["RetryContext"];
        ((run.at - begin).num_seconds(), context["RetryCount"].clone(), context["MaxRetryCount"].clone())
    });
    told.collect()
}

#[tokio::test]
async fn a_timer_with_a_policy_is_tried_again_and_told_the_count() {
    let fixed = json!({ "strategy": "fixedDelay", "maxRetryCount": 2, "delayInterval": "00:00:10" });
    // As the host's own sample does: it succeeds only when no retry is left.
    let story = a_story_of(a_world(), config_with("sweep", sweep(fixed)), |_, got| match got.json()["Metadata"].get("RetryContext") {
        Some(context) if context["RetryCount"] == context["MaxRetryCount"] => ok(),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    })
    .await;
    let begin = story.engine.now();
    story.engine.advance_by(TimeDelta::minutes(9)).await.unwrap();
    assert_eq!(told_of_retries(&story, begin), [(300, Value::Null, Value::Null), (310, json!(1), json!(2)), (320, json!(2), json!(2))]);
    let exception = &story.got()[1].json()["Metadata"]["RetryContext"]["Exception"];
    assert!(exception["Message"].as_str().unwrap().contains("500"), "{exception}");
    let ids: std::collections::BTreeSet<String> = story.host.record().invocations().into_iter().map(|run| run.id).collect();
    assert_eq!((ids.len(), story.host.record().counts()), (3, (3, 2)));
}

#[tokio::test]
async fn a_policy_that_grows_its_pauses_gives_up_and_the_next_tick_comes() {
    let growing =
        json!({ "strategy": "exponentialBackoff", "maxRetryCount": 3, "minimumInterval": "00:00:10", "maximumInterval": "00:00:25" });
    let failing = |_: &World, _: &Got| StatusCode::INTERNAL_SERVER_ERROR.into_response();
    let story = a_story_of(a_world(), config_with("sweep", sweep(growing)), failing).await;
    let begin = story.engine.now();
    story.engine.advance_by(TimeDelta::minutes(10)).await.unwrap();
    let runs: Vec<i64> = told_of_retries(&story, begin).into_iter().map(|(at, _, _)| at).collect();
    assert_eq!(runs, [300, 310, 330, 355, 600]);
}

#[tokio::test]
async fn a_timer_that_was_missed_while_the_host_was_down_runs_once_and_is_past_due() {
    let world = a_world();
    let story = a_story_of(world.clone(), config(HOST_JSON), |_, _| ok()).await;
    story.engine.advance_by(TimeDelta::minutes(6)).await.unwrap();
    let shown = serde_json::to_value(&*world.lock()).unwrap();
    let mut later: State = serde_json::from_value(shown).unwrap();
    later.now += TimeDelta::minutes(11);
    let story = a_story_of(World::new(later, Duration::ZERO), config(HOST_JSON), |_, _| ok()).await;
    story.engine.advance_by(TimeDelta::minutes(4)).await.unwrap();
    let timers: Vec<Value> = story.got().iter().map(|got| got.json()["Data"]["timer"].clone()).collect();
    assert_eq!(timers.iter().map(|timer| timer["IsPastDue"].clone()).collect::<Vec<_>>(), [json!(true), json!(false)]);
    assert_eq!(timers[0]["ScheduleStatus"]["Last"], "2026-01-15T09:05:00+00:00");
    assert_eq!(timers[0]["ScheduleStatus"]["Next"], "2026-01-15T09:10:00+00:00");
    let runs: Vec<String> = story.host.record().invocations().iter().map(|run| run.at.format("%T").to_string()).collect();
    assert_eq!(runs, ["09:17:00", "09:20:00"]);
}

fn approval_in_batches(data_type: Value) -> HostConfig {
    let mut trigger = json!({ "type": "serviceBusTrigger", "direction": "in", "name": "msg", "queueName": "approval", "connection": "Bus", "cardinality": "many" });
    if !data_type.is_null() {
        trigger["dataType"] = data_type;
    }
    config_with("approval", json!({ "bindings": [trigger] }))
}

#[tokio::test]
async fn a_message_that_is_no_json_fails_its_whole_batch_unless_they_are_strings() {
    let story = a_story_of(a_world(), approval_in_batches(Value::Null), |_, _| ok()).await;
    for body in ["{\"a\":1}", "no JSON", "2"] {
        story.send(body);
    }
    story.engine.settle().await.unwrap();
    assert!(story.got().is_empty(), "the handler hears of no such batch");
    assert_eq!(story.host.record().counts(), (10, 10));
    assert!(story.reasons()[0].contains("message 2 is no JSON"), "{:?}", story.reasons());
    assert_eq!(story.world.lock().queues["approval"].dead_letters.len(), 3);

    let strings = a_story_of(a_world(), approval_in_batches(json!("string")), |_, _| ok()).await;
    for body in ["{\"a\":1}", "no JSON"] {
        strings.send(body);
    }
    strings.engine.settle().await.unwrap();
    let got = strings.got();
    assert_eq!((got.len(), &got[0].json()["Data"]["msg"]), (1, &json!("[\"{\\\"a\\\":1}\",\"no JSON\"]")));
    assert!(strings.world.lock().queues["approval"].messages.is_empty());
}

#[tokio::test]
async fn a_failed_batch_comes_back_as_a_whole() {
    let story =
        a_story_of(a_world(), approval_in_batches(Value::Null), |_, got| match got.json()["Metadata"]["DeliveryCountArray"].as_str() {
            Some("[1,1]") => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            _ => ok(),
        })
        .await;
    story.send("1");
    story.send("2");
    story.engine.settle().await.unwrap();
    let counts: Vec<Value> = story.got().iter().map(|got| got.json()["Metadata"]["DeliveryCountArray"].clone()).collect();
    assert_eq!(counts, ["[1,1]", "[2,2]"]);
    assert!(story.world.lock().queues["approval"].messages.is_empty());
}

#[tokio::test]
async fn an_event_whose_function_answers_too_late_is_sent_again() {
    let mut config = config(HOST_JSON);
    config.event_response_limit = Duration::from_secs(1);
    let (world, begun) = (a_world(), Arc::new(AtomicUsize::new(0)));
    let (counted, slow) = (Arc::clone(&begun), Arc::new(tokio::sync::Semaphore::new(0)));
    let gate = Arc::clone(&slow);
    let story = a_slow_story(world, config, move || {
        let (first, gate) = (counted.fetch_add(1, Ordering::SeqCst) == 0, Arc::clone(&gate));
        async move {
            if first {
                drop(gate.acquire().await);
            }
        }
    })
    .await;
    let now = story.engine.now();
    eventgrid::push(&mut story.world.lock(), an_event("e-1"), now);
    let settling = tokio::spawn({
        let engine = story.engine.clone();
        async move { engine.advance_by(TimeDelta::seconds(120)).await }
    });
    tokio::time::timeout(LONG, async {
        while story.world.lock().event_grid.pending.iter().all(|event| event.attempts == 0) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert_eq!(story.world.lock().event_grid.pending[0].last_outcome, "TimedOut");
    // The first run goes on and succeeds, which Event Grid never learns.
    slow.add_permits(1);
    settling.await.unwrap().unwrap();
    let runs: Vec<i64> = story.host.record().invocations().iter().map(|run| (run.at - now).num_seconds()).collect();
    assert_eq!((runs, story.host.record().counts()), (vec![0, 120], (2, 0)));
    assert_eq!(story.world.lock().event_grid.delivered, 1);
}

/// A story whose handler waits for what `waits` gives and then succeeds.
async fn a_slow_story<F, W>(world: World, config: HostConfig, waits: F) -> Story
where
    F: Fn() -> W + Clone + Send + Sync + 'static,
    W: Future<Output = ()> + Send,
{
    let router = Router::new().fallback(move || {
        let waiting = waits();
        async move {
            waiting.await;
            ok()
        }
    });
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let host = Host::new(world.clone(), config, Worker::At(base)).unwrap();
    let engine = Engine::new(world.clone(), Some(host.clone()));
    Story { world, engine, host, got: Arc::default() }
}

#[tokio::test]
async fn an_output_that_is_no_response_fails_its_invocation() {
    let host_json = HOST_JSON.replace("true", "false");
    for (outputs, status) in
        [(r#"{"Outputs":{"res":"SomeBlah"}}"#, 500), (r#"{"Outputs":{"res":"{\"statusCode\":\"204\"}"}}"#, 204), ("{}", 200)]
    {
        let story = a_story(&host_json, move |_, _| answer("application/json", outputs)).await;
        let answer = portcullis_sandbox::host::http::answer(Some(story.host.clone()), Call::new("GET", "/api/x")).await;
        assert_eq!(answer.status.as_u16(), status, "{outputs}");
        assert_eq!(story.host.record().counts().1, u64::from(status == 500), "{outputs}");
    }
}

#[tokio::test]
async fn outputs_go_to_declared_bindings_and_base64_is_decoded() {
    let story = a_story(HOST_JSON, |_, _| {
        answer("application/json", r#"{"Outputs":{"out":["plain text","aGk="],"Out":"wrong case","other":"x"}}"#)
    })
    .await;
    story.send("m");
    story.engine.settle().await.unwrap();
    let state = story.world.lock();
    let bodies: Vec<&str> = state.queues["alerts"].messages.iter().map(|message| message.body.as_str()).collect();
    assert_eq!(bodies, ["plain text", "hi"]);
}

#[tokio::test]
async fn no_more_messages_are_under_way_than_host_json_allows() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let story = a_story(HOST_JSON, move |_, _| {
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::yield_now();
        now.fetch_sub(1, Ordering::SeqCst);
        ok()
    })
    .await;
    for _ in 0..20 {
        story.send("m");
    }
    story.engine.settle().await.unwrap();
    assert_eq!(story.got().len(), 20);
    assert!(seen.load(Ordering::SeqCst) <= 2);
}

#[tokio::test]
async fn a_failed_timer_is_forgotten_and_the_next_tick_comes() {
    let story = a_story(HOST_JSON, |_, _| StatusCode::INTERNAL_SERVER_ERROR.into_response()).await;
    story.engine.advance_by(TimeDelta::minutes(11)).await.unwrap();
    let times: Vec<String> = story.host.record().invocations().iter().map(|run| run.at.to_rfc3339()).collect();
    assert_eq!(times, ["2026-01-15T09:05:00+00:00", "2026-01-15T09:10:00+00:00"]);
    let last: Vec<Value> = story.got().iter().map(|got| got.json()["Data"]["timer"]["ScheduleStatus"]["Last"].clone()).collect();
    assert_eq!(last, ["0001-01-01T00:00:00+00:00", "2026-01-15T09:05:00+00:00"]);
}

#[tokio::test]
async fn time_stops_at_each_message_that_becomes_visible() {
    let story = a_story(HOST_JSON, |_, _| ok()).await;
    let begin = story.engine.now();
    for seconds in [90, 30] {
        let message = Message { body: seconds.to_string(), scheduled_for: Some(begin + TimeDelta::seconds(seconds)), ..Message::default() };
        servicebus::enqueue(&mut story.world.lock(), "approval", message);
    }
    let end = story.engine.advance_by(TimeDelta::seconds(120)).await.unwrap();
    assert_eq!((end - begin).num_seconds(), 120);
    let runs: Vec<i64> = story.host.record().invocations().iter().map(|run| (run.at - begin).num_seconds()).collect();
    assert_eq!(runs, [30, 90]);
}

fn an_event(id: &str) -> Value {
    json!({ "id": id, "eventType": "x", "data": {} })
}

#[tokio::test]
async fn a_failing_event_is_tried_again_by_schedule_and_dies_after_a_day() {
    let story = a_story(HOST_JSON, |_, got| match got.path.as_str() {
        "/jit_activity" => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        _ => ok(),
    })
    .await;
    let now = story.engine.now();
    eventgrid::push(&mut story.world.lock(), an_event("e-1"), now);
    story.engine.advance_by(TimeDelta::seconds(100)).await.unwrap();
    assert_eq!(story.host.record().failures().len(), 4);
    story.engine.advance_by(TimeDelta::hours(40)).await.unwrap();
    let state = story.world.lock();
    assert!(state.event_grid.pending.is_empty());
    assert_eq!(state.event_grid.dead_letters[0]["deadLetterReason"], "TimeToLiveExceeded");
    assert_eq!(state.event_grid.dead_letters[0]["deliveryAttempts"], 11);
}

#[tokio::test]
async fn the_webhook_answers_as_the_functions_end() {
    let story = a_story(HOST_JSON, |_, got| match got.json()["Data"]["event"]["id"].as_str() {
        Some("bad") => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        _ => ok(),
    })
    .await;
    let post = |function: &str, events: Value| {
        let path = format!("/runtime/webhooks/EventGrid?functionName={function}");
        let call = Call::new("POST", &path).with_header("aeg-event-type", "Notification").with_body(events.to_string());
        eventgrid::webhook(story.world.clone(), Some(story.host.clone()), call)
    };
    assert_eq!(post("jit_activity", json!([an_event("1"), an_event("2")])).await.status, 202);
    assert_eq!(post("jit_activity", an_event("3")).await.status, 202);
    assert_eq!(post("jit_activity", json!([an_event("4"), an_event("bad")])).await.status, 500);
    assert_eq!(post("nothing", json!([an_event("5")])).await.status, 404);
    assert_eq!(post("approval", json!([an_event("6")])).await.status, 404);
    assert_eq!(story.got().len(), 5);
    assert!(!story.host.is_busy());
}

#[tokio::test]
async fn requests_are_passed_on_under_the_prefix_alone() {
    let story =
        a_story(HOST_JSON, |_, got| (StatusCode::IM_A_TEAPOT, [("x-seen", got.path.clone())], got.body.clone()).into_response()).await;
    let call = |path: &str| {
        let call = Call::new("POST", path)
            .with_header("X-Forwarded-For", "203.0.113.7")
            .with_header("X-Azure-Functions-InvocationId", "forged")
            .with_header("x-ms-client-principal", "forged")
            .with_header("host", "app.azurewebsites.net")
            .with_body("body");
        portcullis_sandbox::host::http::answer(Some(story.host.clone()), call)
    };
    let answer = call("/api/a%20b?x=1&y=%2F").await;
    assert_eq!(answer.status, 418);
    assert_eq!(answer.header("x-seen"), Some("/api/a%20b?x=1&y=%2F"));
    assert_eq!(&answer.body[..], b"body");
    let got = &story.got()[0];
    assert!(got.header("x-forwarded-for").starts_with("203.0.113.7, 127.0.0.1:"));
    assert_ne!(got.header("x-azure-functions-invocationid"), "forged");
    assert_eq!(got.header("x-ms-client-principal"), "forged");
    assert_eq!(got.header("host"), "app.azurewebsites.net");
    for (path, status) in [
        ("/approval", 404),
        ("/api/../approval", 404),
        ("/%61pi/%2e%2e/approval", 404),
        ("/admin/functions/approval", 401),
        ("/runtime/webhooks/EventGrid", 401),
        ("/%61PI/x", 418),
        ("/", 404),
    ] {
        assert_eq!(call(path).await.status.as_u16(), status, "{path}");
    }
    assert_eq!(story.got().len(), 2);
    assert_eq!(story.host.record().counts(), (2, 0));
}

#[tokio::test]
async fn plain_forwarding_drops_a_body_without_length() {
    let host_json = HOST_JSON.replace("\"enableProxyingHttpRequest\":true", "\"enableProxyingHttpRequest\":false");
    let story = a_story(&host_json, |_, got| got.body.clone().into_response()).await;
    for (call, body) in [
        (Call::new("POST", "/api/x").with_body("body"), ""),
        (Call::new("POST", "/api/x").with_body("body").with_header("content-length", "4"), "body"),
    ] {
        let answer = portcullis_sandbox::host::http::answer(Some(story.host.clone()), call).await;
        assert_eq!(answer.body, body);
    }
}

#[tokio::test]
async fn without_forwarding_a_request_is_an_invocation_and_its_output_the_answer() {
    let host_json = HOST_JSON.replace("true", "false");
    let story = a_story(&host_json, |_, _| {
        answer("application/json", r#"{"Outputs":{"res":{"statusCode":202,"body":"{\"ok\":true}","headers":{"x-a":"b"}}}}"#)
    })
    .await;
    let call = Call::new("GET", "/api/orders/7?x=1");
    let answer = portcullis_sandbox::host::http::answer(Some(story.host.clone()), call).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-a")), (202, Some("b")));
    assert_eq!(answer.body, r#"{"ok":true}"#);
    let body = story.got()[0].json();
    assert_eq!(story.got()[0].path, "/api");
    assert_eq!(body["Data"]["req"]["Params"]["path"], "orders/7");
    assert_eq!(body["Metadata"]["x"], "\"1\"");
}

#[tokio::test]
async fn a_story_that_never_rests_ends_with_the_name_of_its_queue() {
    let story = a_story(HOST_JSON, |world, _| {
        servicebus::enqueue(&mut world.lock(), "approval", Message { body: "again".to_owned(), ..Message::default() });
        ok()
    })
    .await;
    story.send("m");
    let stuck = story.engine.settle().await.unwrap_err();
    assert!(stuck.to_string().contains("queue approval"), "{stuck}");
}

/// A handler program whose POST does what `post` says; `count` is the delivery count of the message.
fn a_program(post: &str) -> Process {
    let script = format!(
        r#"
import http.server, json, os, sys, time
class H(http.server.BaseHTTPRequestHandler):
    def reply(self):
        self.send_response(200); self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"{{}}")
    def do_GET(self): self.reply()
    def do_POST(self):
        body = b""
        while True:
            size = int(self.rfile.readline(), 16)
            body += self.rfile.read(size); self.rfile.readline()
            if size == 0: break
        count = json.loads(body)["Metadata"].get("DeliveryCount")
        print("delivery", count, flush=True)
        {post}
        self.reply()
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["FUNCTIONS_CUSTOMHANDLER_PORT"])), H).serve_forever()
"#
    );
    let program = Program {
        path: PathBuf::from("python3"),
        arguments: vec!["-c".to_owned(), script],
        root: std::env::temp_dir(),
        settings: Vec::new(),
        initialization_timeout: Duration::from_secs(20),
        console: Console::Kept,
    };
    Process::new(program, client::to_handler(HttpMode::Proxying).unwrap())
}

fn a_program_story(post: &str, timeout: Duration) -> Story {
    let world = a_world();
    let mut config = config(HOST_JSON);
    config.function_timeout = timeout;
    let host = Host::new(world.clone(), config, Worker::Process(a_program(post))).unwrap();
    let engine = Engine::new(world.clone(), Some(host.clone()));
    Story { world, engine, host, got: Arc::default() }
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_killed_in_the_middle_gets_the_message_again_with_count_2() {
    let story = a_program_story("time.sleep(0 if count == '2' else 3600)", LONG);
    story.send("m");
    let settling = tokio::spawn({
        let engine = story.engine.clone();
        async move { engine.settle().await }
    });
    let process = story.host.process().unwrap().clone();
    // What it writes is read beside what it answers.
    let written = async |line: &str| {
        let written = async {
            while !process.lines().iter().any(|known| known == line) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, written).await.unwrap();
    };
    written("delivery 1").await;
    story.world.kill_handler();
    settling.await.unwrap().unwrap();
    written("delivery 2").await;
    assert_eq!(process.lines(), ["delivery 1", "delivery 2"]);
    assert_eq!(process.starts(), 2);
    assert_eq!(story.reasons().len(), 1);
    assert!(story.world.lock().queues["approval"].messages.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_handler_is_killed_at_the_functions_timeout() {
    let story = a_program_story("time.sleep(0 if count == '2' else 3600)", Duration::from_secs(2));
    story.host.ready().await.unwrap();
    story.send("m");
    story.engine.settle().await.unwrap();
    assert_eq!(story.host.process().unwrap().starts(), 2);
    assert!(story.reasons()[0].contains("timeout"), "{:?}", story.reasons());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_exits_with_0_fails_every_invocation_from_then_on() {
    let story = a_program_story("os._exit(0)", LONG);
    story.send("m");
    story.engine.settle().await.unwrap();
    let reasons = story.reasons();
    assert_eq!(reasons.len(), 10);
    assert!(reasons[9].contains("code 0"), "{reasons:?}");
    assert_eq!(story.host.process().unwrap().starts(), 1);
    assert_eq!(story.world.lock().queues["approval"].dead_letters.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_crashes_end_the_host_and_the_message_stays() {
    let story = a_program_story("os._exit(3)", LONG);
    story.send("m");
    story.engine.settle().await.unwrap();
    assert_eq!(story.reasons().len(), 3);
    assert!(story.host.has_ended());
    assert_eq!(story.world.lock().queues["approval"].messages[0].delivery_count, 3);
    let now = story.engine.now();
    eventgrid::push(&mut story.world.lock(), an_event("e"), now);
    story.engine.settle().await.unwrap();
    assert_eq!(story.world.lock().event_grid.pending[0].last_outcome, "Busy");
}
