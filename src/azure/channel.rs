//! One authenticated way to one audience: azure_core's pipeline over the shared client, with our own patience.
//!
//! A pipeline's usual retries repeat every method and wait as long as `Retry-After` says, which from ARM can be 20
//! minutes. Here a call says how often it may be sent, no pause is longer than two seconds, and the whole call has a
//! deadline; whatever is longer goes back to the caller with its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::TokenCredential;
use azure_core::error::ErrorKind;
use azure_core::http::headers::{HeaderName, Headers};
use azure_core::http::policies::auth::BearerTokenAuthorizationPolicy;
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{ClientOptions, Context, Method, Pipeline, PipelineSendOptions, Request, RetryOptions, Transport};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use portcullis_domain::time;
use url::Url;

use super::error::{CallFailed, FailureKind, Service, retry_after};
use super::packed::{ACCEPT_ENCODING, GZIP, unpacked};
use super::watched;
use crate::telemetry::Telemetry;
use crate::turns::Turns;

/// A handler works for 16 s on a message and makes several calls.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest pause inside a call; a longer `Retry-After` is the caller's to wait for.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The pause before the second try where the service names none; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// A third failure in a row is no accident of the network.
const MOST_TRIES: u32 = 3;

/// How many calls of one channel are under way at once: each has a connection with its buffers, and a burst of events
/// would open a hundred of them. Azure Resource Manager is the slowest to answer, and a sweep asks it of a thousand subscriptions.
pub(crate) const MOST_AT_ONCE: usize = 24;

/// The same for every other service, which answers in a few milliseconds.
const MOST_AT_ONCE_ELSEWHERE: usize = 12;

/// How often a call may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempts {
    /// Again after any passing failure: it changes nothing.
    Safe,
    /// Again only when the service did not take it: never connected, 429 or 503.
    NotTaken,
    /// Once, whatever happens: what it did is found out by reading.
    Once,
}

/// A request to be sent.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub what: String,
    pub method: Method,
    pub url: Url,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
    pub attempts: Attempts,
}

impl Outgoing {
    /// A read without a body.
    pub fn get(what: String, url: Url) -> Self {
        Outgoing { what, method: Method::Get, url, headers: Vec::new(), body: Bytes::new(), attempts: Attempts::Safe }
    }
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(super) status: u16,
    pub(super) headers: Headers,
    pub(super) body: Bytes,
}

impl Answer {
    /// The answer of this status, these headers and this body.
    pub fn of(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut all = Headers::new();
        for (name, value) in headers {
            all.insert(HeaderName::from((*name).to_owned()), (*value).to_owned());
        }
        Answer { status, headers: all, body: Bytes::copy_from_slice(body) }
    }

    pub(super) fn header(&self, name: &'static str) -> Option<&str> {
        // Where `RUST_BACKTRACE` is set the map's own lookup takes a backtrace for each header that is not there.
        self.headers.iter().find(|(known, _)| known.as_str() == name).map(|(_, value)| value.as_str())
    }

    /// The service's clock when it answered.
    pub fn date(&self) -> Option<DateTime<Utc>> {
        time::of_header(self.header("date")?)
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// One audience's pipeline.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    service: Service,
    pipeline: Arc<Pipeline>,
    turns: Turns,
    telemetry: Telemetry,
}

impl Channel {
    pub fn new(service: Service, scope: &str, credential: Arc<dyn TokenCredential>, transport: Transport) -> Self {
        let bearer = BearerTokenAuthorizationPolicy::new(credential, [scope.to_owned()]);
        Self::over(service, transport, vec![Arc::new(bearer)])
    }

    /// A way without sign-in, for what needs none.
    pub fn anonymous(service: Service, transport: Transport) -> Self {
        Self::over(service, transport, Vec::new())
    }

    fn over(service: Service, transport: Transport, mut per_try: Vec<Arc<dyn Policy>>) -> Self {
        per_try.push(Arc::new(MarkSent));
        let options = ClientOptions { transport: Some(transport), retry: RetryOptions::none(), ..ClientOptions::default() };
        let name = Some(env!("CARGO_PKG_NAME"));
        let version = Some(env!("CARGO_PKG_VERSION"));
        let pipeline = Pipeline::new(name, version, options, vec![Arc::new(Patience)], per_try, None);
        let at_once = if service == Service::Arm { MOST_AT_ONCE } else { MOST_AT_ONCE_ELSEWHERE };
        Channel { service, pipeline: Arc::new(pipeline), turns: Turns::new(at_once), telemetry: Telemetry::default() }
    }

    /// The same, whose calls telemetry is told of.
    pub fn watched_by(self, telemetry: &Telemetry) -> Self {
        Channel { telemetry: telemetry.clone(), ..self }
    }

    /// Who is told of its calls.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Sends a request and gives an answer of 2xx; anything else is a failure.
    pub async fn call(&self, outgoing: Outgoing) -> Result<Answer, CallFailed> {
        let (method, what) = (outgoing.method, outgoing.what.clone());
        let answer = self.send(outgoing).await?;
        if answer.is_success() { Ok(answer) } else { Err(CallFailed::from_answer(self.service, method, &what, &answer)) }
    }

    /// Sends a request and gives its answer, whatever the status.
    pub async fn send(&self, outgoing: Outgoing) -> Result<Answer, CallFailed> {
        let (method, sent) = (outgoing.method, Sent::default());
        let span = watched::begin(&self.telemetry, self.service, &outgoing);
        let carried = Carried { traceparent: span.traceparent(), in_message: self.telemetry.is_on() && self.is_message(&outgoing) };
        let result = self.exchange(outgoing, &carried, &sent).await;
        span.over(watched::came_to(self.service, method, &result, sent.tries()));
        result
    }

    /// Whether somebody receives what is sent here.
    fn is_message(&self, outgoing: &Outgoing) -> bool {
        self.service == Service::ServiceBus && outgoing.method == Method::Post && outgoing.url.path().ends_with("/messages")
    }

    async fn exchange(&self, outgoing: Outgoing, carried: &Carried, sent: &Sent) -> Result<Answer, CallFailed> {
        let (method, what) = (outgoing.method, outgoing.what);
        let mut request = Request::new(outgoing.url, outgoing.method);
        for (name, value) in outgoing.headers {
            request.insert_header(HeaderName::from_static(name), value);
        }
        request.insert_header(ACCEPT_ENCODING, GZIP);
        carried.write_into(&mut request);
        request.set_body(outgoing.body);
        let ctx = Context::new().with_value(outgoing.attempts).with_value(sent.clone());
        let _turn = self.turns.next().await;
        let skip_checks = PipelineSendOptions { skip_checks: true, ..PipelineSendOptions::default() };
        let failed = |kind, message: &str| CallFailed::without_answer(self.service, method, &what, kind, message);
        match tokio::time::timeout(CALL_TIMEOUT, self.pipeline.send(&ctx, &mut request, Some(skip_checks))).await {
            Ok(Ok(response)) => {
                let (status, headers, body) = response.deconstruct();
                let answer = Answer { status: *status, headers, body: body.into() };
                match unpacked(answer.header("content-encoding"), answer.body.clone()) {
                    Ok(body) => Ok(Answer { body, ..answer }),
                    // Its status and headers say what to do about it.
                    Err(_) if !answer.is_success() => Ok(Answer { body: Bytes::new(), ..answer }),
                    Err(why) => {
                        let message = format!("the body cannot be unpacked ({why})");
                        Err(CallFailed::malformed(self.service, method, &what, &answer, &message))
                    }
                }
            }
            Ok(Err(error)) => Err(failed(kind_of(&error, sent), &error_text(&error))),
            Err(_) if sent.was() => Err(failed(FailureKind::Doubtful, &format!("no answer within {} s", CALL_TIMEOUT.as_secs()))),
            Err(_) => Err(failed(FailureKind::Unreachable, &format!("nothing could be sent within {} s", CALL_TIMEOUT.as_secs()))),
        }
    }
}

/// The trace as a call carries it.
struct Carried {
    traceparent: Option<String>,
    /// Whether the message has it too, for whoever receives it.
    in_message: bool,
}

impl Carried {
    fn write_into(&self, request: &mut Request) {
        let Some(traceparent) = &self.traceparent else { return };
        request.insert_header(TRACEPARENT, traceparent.clone());
        if self.in_message {
            // A property of a message, as its REST face has them: a header whose text stands in quotation marks.
            request.insert_header(DIAGNOSTIC_ID, format!("\"{traceparent}\""));
        }
    }
}

/// W3C Trace Context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Where a message has the trace of its sender (documentation of Service Bus' end-to-end tracing): the Functions host reads
/// it, too.
const DIAGNOSTIC_ID: HeaderName = HeaderName::from_static("diagnostic-id");

fn kind_of(error: &azure_core::Error, sent: &Sent) -> FailureKind {
    match error.kind() {
        // The last try was not sent, but one before it may have been.
        ErrorKind::Connection if sent.was_before() => FailureKind::Doubtful,
        ErrorKind::Connection => FailureKind::Unreachable,
        ErrorKind::Credential | ErrorKind::HttpResponse { .. } if !sent.was() => FailureKind::NotSignedIn,
        _ if sent.was() => FailureKind::Doubtful,
        _ => FailureKind::Unreachable,
    }
}

/// The whole chain, since the outermost text says only that something failed. URLs are cut away: their queries have
/// no place in a log.
pub(super) fn error_text(error: &azure_core::Error) -> String {
    let mut text = String::new();
    let mut link: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = link {
        let said = error.to_string();
        let said = said.split(" for url (").next().unwrap_or_default();
        if !said.is_empty() && !text.contains(said) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(said);
        }
        link = error.source();
    }
    text
}

/// Whether a try was handed to the HTTP client: the difference between "never sent" and "perhaps done".
#[derive(Clone, Debug, Default)]
struct Sent(Arc<SentFlags>);

#[derive(Debug, Default)]
struct SentFlags {
    any: AtomicBool,
    /// A try before the one under way reached the service.
    before: AtomicBool,
    tries: AtomicU32,
}

impl Sent {
    fn was(&self) -> bool {
        self.0.any.load(Ordering::SeqCst)
    }

    fn was_before(&self) -> bool {
        self.0.before.load(Ordering::SeqCst)
    }

    fn tries(&self) -> u32 {
        self.0.tries.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
struct MarkSent;

#[async_trait]
impl Policy for MarkSent {
    async fn send(&self, ctx: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        let sent = ctx.value::<Sent>();
        if let Some(sent) = sent {
            sent.0.any.store(true, Ordering::SeqCst);
            sent.0.tries.fetch_add(1, Ordering::SeqCst);
        }
        let result = next[0].send(ctx, request, &next[1..]).await;
        let arrived = !matches!(&result, Err(error) if *error.kind() == ErrorKind::Connection);
        if let (Some(sent), true) = (sent, arrived) {
            sent.0.before.store(true, Ordering::SeqCst);
        }
        result
    }
}

/// Sends again what may be sent again, and never waits long.
#[derive(Debug)]
struct Patience;

#[async_trait]
impl Policy for Patience {
    async fn send(&self, ctx: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        let attempts = ctx.value::<Attempts>().copied().unwrap_or(Attempts::Once);
        let mut pause = FIRST_PAUSE;
        let mut tries = 1;
        loop {
            let result = next[0].send(ctx, request, &next[1..]).await;
            let Some(wait) = pause_before_next(attempts, &result, pause).filter(|_| tries < MOST_TRIES) else {
                return result;
            };
            tokio::time::sleep(wait).await;
            request.body_mut().reset().await?;
            pause *= 2;
            tries += 1;
        }
    }
}

/// How long to wait before the next try; nothing if there is to be none.
fn pause_before_next(attempts: Attempts, result: &PolicyResult, pause: Duration) -> Option<Duration> {
    let again = match (result, attempts) {
        (_, Attempts::Once) => false,
        (Ok(response), Attempts::Safe) => matches!(*response.status(), 408 | 429 | 500 | 502 | 503 | 504),
        (Ok(response), Attempts::NotTaken) => matches!(*response.status(), 429 | 503),
        (Err(error), Attempts::Safe) => matches!(error.kind(), ErrorKind::Connection | ErrorKind::Io),
        (Err(error), Attempts::NotTaken) => *error.kind() == ErrorKind::Connection,
    };
    if !again {
        return None;
    }
    let headers = result.as_ref().ok().map(|response| response.headers().clone());
    let asked = headers.and_then(|headers| retry_after(&Answer { status: 0, headers, body: Bytes::new() }));
    let wait = asked.map_or(pause, |asked| asked.max(pause));
    (wait <= LONGEST_PAUSE).then_some(wait)
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use azure_core::http::{AsyncRawResponse, HttpClient, StatusCode};

    use super::super::packed::tests::packed;
    use super::*;
    use crate::telemetry::trace;
    use crate::turns::TURN_PATIENCE;

    /// What the far end does with one request.
    pub enum Reply {
        Status(u16, Vec<(&'static str, &'static str)>, &'static str),
        Packed(Vec<u8>),
        NeverConnects,
        CutAfterSending,
        Hangs,
    }

    /// A far end that replies as told and remembers what it was asked.
    #[derive(Default)]
    pub struct FarEnd {
        replies: Mutex<VecDeque<Reply>>,
        pub asked: Mutex<Vec<Request>>,
    }

    impl std::fmt::Debug for FarEnd {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("FarEnd")
        }
    }

    #[async_trait]
    impl HttpClient for FarEnd {
        async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
            self.asked.lock().unwrap().push(request.clone());
            let reply = self.replies.lock().unwrap().pop_front().expect("a reply for each request");
            let failed = |kind| Err(azure_core::Error::with_message(kind, "as told"));
            match reply {
                Reply::Status(status, headers, body) => {
                    let headers = Answer::of(status, &headers, b"").headers;
                    Ok(AsyncRawResponse::from_bytes(StatusCode::from(status), headers, body))
                }
                Reply::Packed(body) => {
                    let headers = Answer::of(200, &[("content-encoding", "gzip")], b"").headers;
                    Ok(AsyncRawResponse::from_bytes(StatusCode::Ok, headers, body))
                }
                Reply::NeverConnects => failed(ErrorKind::Connection),
                Reply::CutAfterSending => failed(ErrorKind::Io),
                Reply::Hangs => std::future::pending().await,
            }
        }
    }

    /// A channel without sign-in to a far end with these replies.
    pub fn channel(service: Service, replies: Vec<Reply>) -> (Channel, Arc<FarEnd>) {
        let far_end = Arc::new(FarEnd { replies: Mutex::new(replies.into()), asked: Mutex::default() });
        (Channel::over(service, Transport::new(far_end.clone()), Vec::new()), far_end)
    }

    fn status(status: u16) -> Reply {
        Reply::Status(status, Vec::new(), "")
    }

    async fn send(attempts: Attempts, replies: Vec<Reply>) -> (Result<u16, FailureKind>, usize) {
        let (channel, far_end) = channel(Service::Arm, replies);
        let url = Url::parse("https://127.0.0.1/x").unwrap();
        let outgoing = Outgoing { attempts, ..Outgoing::get("reading x".to_owned(), url) };
        let result = channel.send(outgoing).await;
        let asked = far_end.asked.lock().unwrap().len();
        (result.map(|answer| answer.status).map_err(|failed| failed.kind), asked)
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_is_sent_again_after_passing_failures() {
        assert_eq!(send(Attempts::Safe, vec![status(503), Reply::CutAfterSending, status(200)]).await, (Ok(200), 3));
        assert_eq!(send(Attempts::Safe, vec![status(500), status(500), status(500)]).await, (Ok(500), 3));
        assert_eq!(send(Attempts::Safe, vec![status(404)]).await, (Ok(404), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_is_sent_again_only_when_it_was_not_taken() {
        assert_eq!(send(Attempts::NotTaken, vec![Reply::NeverConnects, status(429), status(201)]).await, (Ok(201), 3));
        assert_eq!(send(Attempts::NotTaken, vec![status(500)]).await, (Ok(500), 1));
        assert_eq!(send(Attempts::NotTaken, vec![Reply::CutAfterSending]).await, (Err(FailureKind::Doubtful), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_once_is_sent_once() {
        for reply in [status(429), status(503), status(500)] {
            assert_eq!(send(Attempts::Once, vec![reply]).await.1, 1);
        }
        assert_eq!(send(Attempts::Once, vec![Reply::NeverConnects]).await, (Err(FailureKind::Unreachable), 1));
        assert_eq!(send(Attempts::Once, vec![Reply::CutAfterSending]).await, (Err(FailureKind::Doubtful), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_wait_is_handed_back_and_a_short_one_is_waited_for() {
        let busy = |seconds| Reply::Status(429, vec![("retry-after", seconds)], "");
        let before = tokio::time::Instant::now();
        assert_eq!(send(Attempts::Safe, vec![busy("1200")]).await, (Ok(429), 1));
        assert_eq!(before.elapsed(), Duration::ZERO);
        assert_eq!(send(Attempts::Safe, vec![busy("2"), status(200)]).await, (Ok(200), 2));
        assert_eq!(before.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_ends_in_doubt_at_its_deadline() {
        assert_eq!(send(Attempts::Safe, vec![Reply::Hangs]).await, (Err(FailureKind::Doubtful), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_may_have_arrived_is_not_forgotten() {
        let replies = vec![Reply::CutAfterSending, Reply::NeverConnects, Reply::NeverConnects];
        assert_eq!(send(Attempts::Safe, replies).await, (Err(FailureKind::Doubtful), 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_takes_turns_and_a_service_that_hangs_holds_nobody_up() {
        let (channel, far_end) = channel(Service::Arm, (0..MOST_AT_ONCE + 5).map(|_| Reply::Hangs).collect());
        let url = Url::parse("https://127.0.0.1/x").unwrap();
        for _ in 0..MOST_AT_ONCE + 5 {
            let (channel, url) = (channel.clone(), url.clone());
            tokio::spawn(async move { channel.send(Outgoing::get("reading x".to_owned(), url)).await });
        }
        let asked = || far_end.asked.lock().unwrap().len();
        tokio::time::sleep(TURN_PATIENCE / 2).await;
        assert_eq!(asked(), MOST_AT_ONCE);
        tokio::time::sleep(TURN_PATIENCE).await;
        assert_eq!(asked(), MOST_AT_ONCE + 5);
    }

    #[tokio::test]
    async fn answers_are_asked_for_packed_and_read_as_they_were() {
        let broken = packed("[]").split_off(4);
        let not_packed = Reply::Status(429, vec![("content-encoding", "gzip"), ("retry-after", "1200")], "{}");
        let (channel, far_end) = channel(Service::Arm, vec![Reply::Packed(packed("[]")), status(200), Reply::Packed(broken), not_packed]);
        let url = Url::parse("https://127.0.0.1/x").unwrap();
        let call = || channel.call(Outgoing::get("reading x".to_owned(), url.clone()));
        assert_eq!(call().await.unwrap().body, "[]");
        assert_eq!(call().await.unwrap().body, "");
        let failed = call().await.unwrap_err();
        assert_eq!(failed.kind, FailureKind::Malformed);
        assert!(failed.to_string().contains("the body cannot be unpacked"), "{failed}");
        assert_eq!(failed.status, Some(200));
        let refused = call().await.unwrap_err();
        assert_eq!((refused.kind, refused.retry_after), (FailureKind::Throttled, Some(Duration::from_secs(1200))));
        let asked = far_end.asked.lock().unwrap();
        assert!(asked.iter().all(|one| one.headers().get_optional_str(&ACCEPT_ENCODING) == Some("gzip")));
    }

    #[tokio::test]
    async fn every_call_carries_the_trace_and_an_id_of_its_own() {
        let (channel, far_end) = channel(Service::Arm, vec![status(200), status(200)]);
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let url = Url::parse("https://127.0.0.1/x").unwrap();
        let call = || channel.send(Outgoing::get("reading x".to_owned(), url.clone()));
        trace::within(trace::parse(traceparent).map(trace::of), call()).await.unwrap();
        call().await.unwrap();
        let asked = far_end.asked.lock().unwrap();
        let header = |at: usize, name: &'static str| asked[at].headers().get_optional_string(&HeaderName::from_static(name));
        assert_eq!(header(0, "traceparent").as_deref(), Some(traceparent));
        assert_eq!(header(1, "traceparent"), None);
        assert!(header(0, "x-ms-client-request-id").is_some_and(|id| header(1, "x-ms-client-request-id") != Some(id)));
    }
}
