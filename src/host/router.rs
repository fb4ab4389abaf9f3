//! The routes of the custom handler.
//!
//! Trigger routes and the public API share one port, and the host forwards what a caller sends to `/api/…` with its
//! path as the caller spelt it. So a trigger answers at its own path and at no other spelling of it, and a path that
//! a normaliser might turn into another is answered nowhere.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::answer::{Ended, Outcome, refusal};
use super::invocation::{Invocation, TimerInfo, Unreadable};
use crate::telemetry::{InvocationSpan, Telemetry, trace};
use crate::turns::Turns;

/// Twice what a Service Bus message of the largest tier (100 MB aside, which needs AMQP) or a full batch of Event Grid
/// can become by double encoding.
const LARGEST_BODY: usize = 32 * 1024 * 1024;

/// A handler's own deadline: far below the host's timeout, which would kill every other invocation too.
const DEADLINE: Duration = Duration::from_secs(28);

/// How many invocations of one function are worked on at once. Of messages the host has no more (host.json); in a burst it has
/// hundreds of events, for which there are no connections. The body of one that waits is not read yet.
const AT_ONCE: usize = 16;

/// How many rows are on their way at once while looks wait for their turn: what is to be shut comes first. A row is late by seconds
/// then, and what stays open is open.
const BEHIND_LOOKS: usize = 2;

/// The functions that the host triggers; their names are those of their folders, routes and log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// Event Grid: something happened to a JIT policy.
    JitActivity,
    /// Queue `approval`: the logic and the reconcile for one VM.
    Approval,
    /// Timer: splits the estate into shards.
    Sweep,
    /// Queue `sweep`: looks through one shard.
    SweepShard,
    /// Timer: sends a look for whatever is due.
    Schedule,
    /// Queue `alerts`: rows and messages go out.
    Alert,
}

impl Function {
    /// Every function.
    pub const ALL: [Function; 6] =
        [Function::JitActivity, Function::Approval, Function::Sweep, Function::SweepShard, Function::Schedule, Function::Alert];

    /// The one name.
    pub fn name(self) -> &'static str {
        match self {
            Function::JitActivity => "jit_activity",
            Function::Approval => "approval",
            Function::Sweep => "sweep",
            Function::SweepShard => "sweep_shard",
            Function::Schedule => "schedule",
            Function::Alert => "alert",
        }
    }
}

/// What the host's triggers run.
///
/// Each runs in its own task, with its trace passed on to Azure, and is dropped at the deadline: whatever it was about
/// must be durable before.
pub trait Functions: Send + Sync + 'static {
    /// Events of Event Grid, one at least.
    fn jit_activity(&self, events: Vec<Value>) -> impl Future<Output = Ended> + Send;
    /// One message of the queue `approval`.
    fn approval(&self, message: &str) -> impl Future<Output = Ended> + Send;
    /// The tick of the sweep.
    fn sweep(&self, timer: TimerInfo) -> impl Future<Output = Ended> + Send;
    /// One message of the queue `sweep`.
    fn sweep_shard(&self, message: &str) -> impl Future<Output = Ended> + Send;
    /// The tick of the schedule.
    fn schedule(&self, timer: TimerInfo) -> impl Future<Output = Ended> + Send;
    /// One message of the queue `alerts`.
    fn alert(&self, message: &str) -> impl Future<Output = Ended> + Send;
    /// A body that is no invocation: it will not become one by being delivered again.
    fn unreadable(&self, function: Function, raw: &str, why: &Unreadable) -> impl Future<Output = Ended> + Send;
    /// Where invocations are told of; nowhere by default.
    fn telemetry(&self) -> Telemetry {
        Telemetry::default()
    }
}

/// The whole router: `GET /` for the host's polls, the triggers, and `api` under `/api`.
///
/// `api` sees its paths without the prefix. Everything else is a 404 as JSON.
pub fn router<F: Functions>(functions: Arc<F>, api: Router) -> Router {
    let telemetry = functions.telemetry();
    let mut router = Router::new().route("/", get(up).fallback(nowhere));
    let looks = Turns::new(AT_ONCE);
    for function in Function::ALL {
        let turns = if function == Function::Approval { looks.clone() } else { Turns::new(AT_ONCE) };
        let behind = (function == Function::Alert).then(|| (looks.clone(), Turns::new(BEHIND_LOOKS)));
        router = router.route(&format!("/{}", function.name()), trigger(function, turns, behind));
    }
    router
        .with_state(functions)
        .nest("/api", api.method_not_allowed_fallback(wrong_method).fallback(nowhere))
        .fallback(nowhere)
        .layer(middleware::from_fn_with_state(telemetry, guard))
}

async fn up() -> Response {
    axum::Json(json!({"status": "up"})).into_response()
}

async fn nowhere() -> Response {
    refusal(StatusCode::NOT_FOUND, "NotFound", "There is nothing at this path.")
}

async fn wrong_method() -> Response {
    refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "This path does not take this method.")
}

/// The route of a function. While the turns of what it is `behind` are all taken, it has so few.
fn trigger<F: Functions>(function: Function, turns: Turns, behind: Option<(Turns, Turns)>) -> MethodRouter<Arc<F>> {
    post(move |State(functions): State<Arc<F>>, body: Body| async move {
        let _turn = turns.next().await;
        let _behind = match &behind {
            Some((first, few)) if first.are_taken() => few.next().await,
            _ => None,
        };
        match to_bytes(body, LARGEST_BODY).await {
            // Those that wait for their turn need not have its room.
            Ok(body) => Box::pin(invoke(functions.as_ref(), function, body)).await.into_response(),
            Err(error) if is_too_large(&error) => {
                refusal(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", &format!("The body is larger than {} MB.", LARGEST_BODY / 1024 / 1024))
            }
            Err(_) => refusal(StatusCode::BAD_REQUEST, "BodyCut", "The body ended before its end."),
        }
    })
    .fallback(nowhere)
}

fn is_too_large(error: &axum::Error) -> bool {
    // axum tells the limit only by its text.
    std::error::Error::source(error).is_some_and(|source| source.to_string().contains("length limit"))
}

/// What an invocation brings.
enum Work {
    Events(Vec<Value>),
    Messages(Vec<String>),
    Timer(TimerInfo),
}

impl Work {
    fn read(function: Function, body: &[u8]) -> Result<Self, Unreadable> {
        let invocation = Invocation::read(body)?;
        trace::came_of(&invocation.senders());
        Ok(match function {
            Function::JitActivity => Work::Events(invocation.events()?),
            Function::Approval | Function::SweepShard | Function::Alert => Work::Messages(invocation.messages()?),
            Function::Sweep | Function::Schedule => Work::Timer(invocation.timer()),
        })
    }
}

async fn invoke<F: Functions>(functions: &F, function: Function, body: Bytes) -> Ended {
    let work = match Work::read(function, &body) {
        Ok(work) => work,
        // Boxed, since it seldom happens, and each invocation would have its room.
        Err(why) => return Box::pin(functions.unreadable(function, &String::from_utf8_lossy(&body), &why)).await,
    };
    // It is a part of what its connection read, all of which is kept for as long as it is.
    drop(body);
    run(functions, function, work).await
}

async fn run<F: Functions>(functions: &F, function: Function, work: Work) -> Ended {
    match work {
        Work::Events(events) => functions.jit_activity(events).await,
        Work::Timer(timer) if function == Function::Sweep => functions.sweep(timer).await,
        Work::Timer(timer) => functions.schedule(timer).await,
        Work::Messages(messages) => {
            let mut all = Vec::new();
            for message in messages {
                all.push(match function {
                    Function::SweepShard => functions.sweep_shard(&message).await,
                    Function::Alert => functions.alert(&message).await,
                    Function::Approval | Function::JitActivity | Function::Sweep | Function::Schedule => functions.approval(&message).await,
                });
            }
            together(all)
        }
    }
}

/// The end of a batch, which the host settles as a whole: failed if one of its messages failed, since then all of
/// them come again.
fn together(mut all: Vec<Ended>) -> Ended {
    if all.len() == 1
        && let Some(only) = all.pop()
    {
        return only;
    }
    let lines: Vec<String> = all.iter().map(Ended::line).collect();
    let lines = lines.join("; ");
    if all.iter().any(|ended| matches!(ended, Ended::Failed { .. })) { Ended::Failed { why: lines } } else { Ended::Done { note: lines } }
}

/// What holds for every request: an unmistakable path, a task of its own whose panic is an answer, a deadline, the
/// trace, and one line in the log.
async fn guard(State(telemetry): State<Telemetry>, request: Request, next: Next) -> Response {
    if !is_plain(request.uri().path()) {
        return nowhere().await;
    }
    // A task of its own also outlives a host that hangs up: what was begun is brought to an end or to its deadline, and told.
    tokio::spawn(answered(telemetry, request, next)).await.unwrap_or_else(|_| panicked())
}

async fn answered(telemetry: Telemetry, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let started = Instant::now();
    let invocation = header(request.headers(), "x-azure-functions-invocationid");
    let parent = header(request.headers(), "traceparent").and_then(|text| trace::parse(&text));
    let span = watched(&path).map(|name| telemetry.invocation(name, invocation.as_deref(), parent));
    let trace = span.as_ref().and_then(InvocationSpan::trace);
    let task = tokio::spawn(trace::within(trace, timeout(DEADLINE, next.run(request))));
    let (response, cut) = match task.await {
        Ok(Ok(response)) => (response, None),
        Ok(Err(_)) => {
            let message = format!(
                "{path} was not done within {} s; its calls may have had effects, which the next delivery reads.",
                DEADLINE.as_secs()
            );
            (refusal(StatusCode::INTERNAL_SERVER_ERROR, "DeadlinePassed", &message), Some("deadline"))
        }
        Err(_) => (panicked(), Some("panicked")),
    };
    if let Some(span) = span {
        span.over(cut.unwrap_or_else(|| outcome(&response)), response.status().as_u16());
    }
    if path != "/" {
        // A path may name a person; the route says enough.
        let path = path.split('/').take(3).collect::<Vec<_>>().join("/");
        let status = response.status().as_u16();
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let id = invocation.as_deref().unwrap_or("-");
        tracing::info!(path, invocation.id = id, http.status = status, duration_ms, "answered {path} with {status}");
    }
    response
}

fn panicked() -> Response {
    let message = "The handler came upon a state that it does not know; the log says where.";
    refusal(StatusCode::INTERNAL_SERVER_ERROR, "Panicked", message)
}

/// What telemetry calls a path that it is told of: functions and the API. The host's polls are many and nothing, and what
/// else is asked for is answered with 404.
fn watched(path: &str) -> Option<&'static str> {
    let first = path.split('/').nth(1)?;
    let function = Function::ALL.iter().map(|function| function.name()).find(|name| *name == first);
    function.or((first == "api").then_some("api"))
}

/// How it ended: what the function said, or for the API what the status says.
fn outcome(response: &Response) -> &'static str {
    match (response.extensions().get::<Outcome>(), response.status().as_u16()) {
        (Some(Outcome(outcome)), _) => outcome,
        (None, ..400) => "done",
        (None, 400..500) => "refused",
        (None, _) => "failed",
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Whether a path can be understood in one way only: no empty, `.` or `..` segments, no backslash, and none of these
/// in percent-encoding.
pub fn is_plain(path: &str) -> bool {
    if path == "/" {
        return true;
    }
    let lower = path.to_ascii_lowercase();
    let hidden = ["%2e", "%2f", "%5c", "%00", "\\", ";"].iter().any(|part| lower.contains(part));
    let segments = path.strip_prefix('/').map(|rest| rest.strip_suffix('/').unwrap_or(rest)).unwrap_or_default();
    !hidden && segments.split('/').all(|segment| !segment.is_empty() && segment != "." && segment != "..")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::http::Method;
    use axum::routing::any;
    use opentelemetry::trace::TraceContextExt;
    use tower::ServiceExt;

    use super::*;
    use crate::turns::TURN_PATIENCE;

    /// Functions that say what they were given.
    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Told {
        fn hear(&self, text: String) -> Ended {
            self.0.lock().unwrap().push(text.clone());
            Ended::Done { note: text }
        }
    }

    impl Functions for Told {
        async fn jit_activity(&self, events: Vec<Value>) -> Ended {
            self.hear(format!("jit_activity {}", events.len()))
        }
        async fn approval(&self, message: &str) -> Ended {
            match message {
                "panic" => panic!("as asked"),
                "hang" => std::future::pending().await,
                "fail" => Ended::Failed { why: "no queue".to_owned() },
                "trace" => self.hear(trace::current().map(|trace| trace::text(trace.span().span_context())).unwrap_or_default()),
                _ => self.hear(format!("approval {message}")),
            }
        }
        async fn sweep(&self, timer: TimerInfo) -> Ended {
            self.hear(format!("sweep {}", timer.past_due))
        }
        async fn sweep_shard(&self, message: &str) -> Ended {
            self.hear(format!("sweep_shard {message}"))
        }
        async fn schedule(&self, timer: TimerInfo) -> Ended {
            self.hear(format!("schedule {}", timer.past_due))
        }
        async fn alert(&self, message: &str) -> Ended {
            let heard = self.hear(format!("alert {message}"));
            if message == "hang" { std::future::pending().await } else { heard }
        }
        async fn unreadable(&self, function: Function, raw: &str, why: &Unreadable) -> Ended {
            self.hear(format!("{} {raw} {why}", function.name()))
        }
    }

    fn routes(functions: &Arc<Told>) -> Router {
        let api = Router::new().route("/health", get(|| async { "\"well\"" })).route("/approval", any(|| async { "\"the API's\"" }));
        router(functions.clone(), api)
    }

    async fn ask(method: Method, path: &str, body: impl Into<Body>) -> (StatusCode, Value, Vec<String>) {
        let functions = Arc::new(Told::default());
        let request = Request::builder().method(method).uri(path).body(body.into()).unwrap();
        let response = call(routes(&functions), request).await;
        let status = response.status();
        let body = to_bytes(response.into_body(), 1_000_000).await.unwrap();
        let heard = functions.0.lock().unwrap().clone();
        (status, serde_json::from_slice(&body).expect("always JSON, never empty"), heard)
    }

    async fn call(router: Router, request: Request) -> Response {
        router.oneshot(request).await.unwrap()
    }

    fn message(text: &str) -> String {
        json!({"Data": {"message": json!(text).to_string()}, "Metadata": {}}).to_string()
    }

    #[tokio::test]
    async fn every_function_hears_what_is_its() {
        let timer = json!({"Data": {"timer": {"IsPastDue": true}}}).to_string();
        for (path, body, heard) in [
            ("/jit_activity", json!({"Data": {"event": {"id": "1"}}}).to_string(), "jit_activity 1"),
            ("/approval", message("m"), "approval m"),
            ("/sweep", timer.clone(), "sweep true"),
            ("/sweep_shard", message("m"), "sweep_shard m"),
            ("/schedule", timer, "schedule true"),
            ("/alert", message("m"), "alert m"),
        ] {
            let (status, body, all) = ask(Method::POST, path, body).await;
            assert_eq!((status, all), (StatusCode::OK, vec![heard.to_owned()]), "{path}");
            assert_eq!(body, json!({"Outputs": {}, "Logs": [heard], "ReturnValue": null}));
        }
    }

    #[tokio::test]
    async fn a_trigger_is_reached_by_its_own_path_only() {
        for path in [
            "/approval/",
            "/%61pproval",
            "//approval",
            "/./approval",
            "/x/../approval",
            "/APPROVAL",
            "/approval/x",
            "/approval%2f",
            "/approval;x",
            "/api/../approval",
            "/api/%2e%2e/approval",
            "/api/..%2fapproval",
            "/api//approval",
            "/api/..\\approval",
            "/approval%00",
            "/unknown",
        ] {
            let Ok(uri) = path.parse::<axum::http::Uri>() else { continue };
            let (status, _, heard) = ask(Method::POST, &uri.to_string(), message("m")).await;
            assert_eq!((status, heard), (StatusCode::NOT_FOUND, vec![]), "{path}");
        }
        for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS] {
            assert_eq!(ask(method, "/approval", "").await.0, StatusCode::NOT_FOUND);
        }
        assert_eq!(ask(Method::POST, "/api/approval", "").await.1, "the API's");
    }

    #[tokio::test]
    async fn the_hosts_poll_and_the_api_are_answered() {
        assert_eq!(ask(Method::GET, "/", "").await.1, json!({"status": "up"}));
        assert_eq!(ask(Method::GET, "/api/health", "").await.1, "well");
        assert_eq!(ask(Method::POST, "/api/health", "").await.0, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(ask(Method::GET, "/api/unknown", "").await.0, StatusCode::NOT_FOUND);
        assert_eq!(ask(Method::GET, "/api", "").await.0, StatusCode::NOT_FOUND);
        assert_eq!(ask(Method::POST, "/", "").await.0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn a_body_that_is_no_invocation_is_the_functions_to_keep() {
        for body in ["", "null", "{", "{}", r#"{"Data":{"message":5}}"#] {
            let (status, _, heard) = ask(Method::POST, "/approval", body).await;
            assert_eq!(status, StatusCode::OK);
            assert!(heard.len() == 1 && heard[0].starts_with(&format!("approval {body}")), "{heard:?}");
        }
        let (_, _, heard) = ask(Method::POST, "/approval", vec![0xff, 0xfe]).await;
        assert!(heard[0].contains("not a JSON object"));
    }

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let (status, body, _) = ask(Method::POST, "/approval", message("panic")).await;
        assert_eq!((status, body["error"]["code"].as_str()), (StatusCode::INTERNAL_SERVER_ERROR, Some("Panicked")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_hangs_is_answered_at_its_deadline() {
        let before = Instant::now();
        let (status, body, _) = ask(Method::POST, "/approval", message("hang")).await;
        assert_eq!((status, body["error"]["code"].as_str()), (StatusCode::INTERNAL_SERVER_ERROR, Some("DeadlinePassed")));
        assert!(before.elapsed() >= DEADLINE && before.elapsed() < DEADLINE * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_takes_turns_and_those_that_hang_hold_nobody_up() {
        let functions = Arc::new(Told::default());
        let router = routes(&functions);
        let send = |path: &str, text: &str| {
            let request = Request::post(path).body(Body::from(message(text))).unwrap();
            tokio::spawn(call(router.clone(), request));
        };
        for _ in 0..AT_ONCE {
            send("/approval", "hang");
        }
        tokio::time::sleep(TURN_PATIENCE / 2).await;
        send("/approval", "one more");
        send("/alert", "another's");
        tokio::time::sleep(TURN_PATIENCE / 2).await;
        assert_eq!(*functions.0.lock().unwrap(), ["alert another's"]);
        tokio::time::sleep(TURN_PATIENCE).await;
        assert_eq!(*functions.0.lock().unwrap(), ["alert another's", "approval one more"]);
    }

    #[tokio::test(start_paused = true)]
    async fn rows_give_way_while_looks_have_all_their_turns_and_are_not_held_up_for_long() {
        for (looks, rows) in [(AT_ONCE, BEHIND_LOOKS), (AT_ONCE - 1, AT_ONCE)] {
            let functions = Arc::new(Told::default());
            let router = routes(&functions);
            let send = |path: &str| {
                let request = Request::post(path).body(Body::from(message("hang"))).unwrap();
                tokio::spawn(call(router.clone(), request));
            };
            (0..looks).for_each(|_| send("/approval"));
            tokio::time::sleep(TURN_PATIENCE / 4).await;
            (0..AT_ONCE).for_each(|_| send("/alert"));
            tokio::time::sleep(TURN_PATIENCE / 2).await;
            assert_eq!(functions.0.lock().unwrap().len(), rows, "{looks} looks");
            tokio::time::sleep(TURN_PATIENCE).await;
            assert_eq!(functions.0.lock().unwrap().len(), AT_ONCE, "{looks} looks");
        }
    }

    #[tokio::test]
    async fn a_failure_makes_the_host_deliver_again() {
        assert_eq!(ask(Method::POST, "/approval", message("fail")).await.0, StatusCode::INTERNAL_SERVER_ERROR);
        let batch = json!({"Data": {"m": json!(["a", "fail", "b"]).to_string()}}).to_string();
        let (status, _, heard) = ask(Method::POST, "/approval", batch).await;
        assert_eq!((status, heard.len()), (StatusCode::INTERNAL_SERVER_ERROR, 2));
    }

    #[tokio::test]
    async fn large_bodies_are_taken_and_larger_ones_refused() {
        let (status, _, heard) = ask(Method::POST, "/approval", message(&"x".repeat(16 * 1024 * 1024))).await;
        assert_eq!((status, heard[0].len()), (StatusCode::OK, "approval ".len() + 16 * 1024 * 1024));
        let (status, body, _) = ask(Method::POST, "/approval", vec![b' '; LARGEST_BODY + 1]).await;
        assert_eq!((status, body["error"]["code"].as_str()), (StatusCode::PAYLOAD_TOO_LARGE, Some("TooLarge")));
    }

    #[tokio::test]
    async fn the_trace_of_the_invocation_holds_in_the_function() {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let functions = Arc::new(Told::default());
        let request = Request::post("/approval").header("traceparent", trace).body(Body::from(message("trace"))).unwrap();
        call(routes(&functions), request).await;
        assert_eq!(functions.0.lock().unwrap()[0], trace);
    }

    #[test]
    fn each_function_has_its_folder() {
        for function in Function::ALL {
            let folder = format!("{}/functions/{}/function.json", env!("CARGO_MANIFEST_DIR"), function.name());
            assert!(std::path::Path::new(&folder).exists(), "{folder}");
        }
        let folders = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/functions")).unwrap();
        assert_eq!(folders.count(), Function::ALL.len() + 1, "the functions and api");
    }
}
