//! Delivery: takes what is deliverable, POSTs it to the handler as the host does, and treats the outcome by the
//! rules of its trigger. A failed message comes back at once, a failed event by Event Grid's schedule, a failed
//! timer never.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use http_body::Frame;
use serde_json::{Map, Value};

use super::answer::{self, HandlerResult, Read};
use super::client;
use super::config::{Cardinality, Function, HostConfig, OutputTarget, TriggerKind};
use super::encode::{self, BrokeredMessage, Sys, TimerInfo, Trigger};
use super::http::check_output;
use super::process::Process;
use super::record::{Invocation, Outcome, Record};
use super::timers::Timers;
use crate::eventgrid;
use crate::servicebus;
use crate::state::{Message, PendingEvent, State};
use crate::switches::Messages;
use crate::world::World;

/// How a failure begins that the handler's death explains.
pub const DIED: &str = "the handler died";

/// The version that the host names in its headers: that of the source that the stand-in follows.
const HOST_VERSION: &str = "4.1037.0.0";
/// How many events are under way at once; Event Grid itself adapts to its receiver.
const MOST_EVENTS: usize = 64;
/// A function with more invocations than this in one instant of the world will never come to rest.
pub const MOST_IN_AN_INSTANT: u64 = 10_000;
/// The same for events, which come from outside: a burst of them is no circle.
const MOST_EVENTS_IN_AN_INSTANT: u64 = 100_000;
/// So many invocations more for each message that lay there when the instant began, and for each event that came in it.
const EACH_BRINGS: u64 = 10;
/// How many messages a batch has at most (documentation: the default of `maxMessageBatchSize`).
const LARGEST_BATCH: usize = 1_000;
/// The size of the chunks in which a body is sent.
const CHUNK: usize = 64 << 10;

/// The Functions host stand-in. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    shared: Arc<Shared>,
}

struct Shared {
    world: World,
    config: HostConfig,
    worker: Worker,
    client: reqwest::Client,
    record: Record,
    flow: Mutex<Flow>,
}

/// Who handles the invocations.
#[derive(Clone)]
pub enum Worker {
    /// The handler program.
    Process(Process),
    /// Whoever answers at this base URL; it cannot be killed.
    At(String),
}

/// What is under way.
struct Flow {
    /// Invocations and requests of all kinds.
    in_flight: usize,
    /// How many of them there ever were.
    begun: u64,
    /// Messages by function.
    messages: BTreeMap<String, usize>,
    events: usize,
    timers: Timers,
    instant: DateTime<Utc>,
    in_instant: BTreeMap<String, u64>,
    /// What lay there when the instant began, and the events since.
    brought: u64,
}

/// A story that does not come to rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// What goes round in circles.
    pub what: String,
    /// How often it did.
    pub many: u64,
    /// The instant of the world in which it does.
    pub at: DateTime<Utc>,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the world does not come to rest: more than {} runs of {} at {}; look for a message that sends itself again without a later time",
            self.many, self.what, self.at
        )
    }
}

impl std::error::Error for Stuck {}

/// Something that is being delivered.
enum Delivery {
    /// One message, or a batch.
    Messages(Function, String, Vec<Message>),
    Event(PendingEvent),
    Tick(Function, TimerInfo),
}

impl Host {
    /// A host of this app in this world. Nothing is started or delivered yet.
    pub fn new(world: World, config: HostConfig, worker: Worker) -> anyhow::Result<Host> {
        let timers = {
            let mut state = world.lock();
            let timers = Timers::starting(&config.functions, &state.timers, state.now);
            state.timers = timers.remembered();
            timers
        };
        if let Worker::Process(process) = &worker {
            let process = process.clone();
            world.on_kill(move || process.kill());
        }
        Ok(Host {
            shared: Arc::new(Shared {
                client: client::to_handler(config.http)?,
                world,
                config,
                worker,
                record: Record::default(),
                flow: Mutex::new(Flow {
                    in_flight: 0,
                    begun: 0,
                    messages: BTreeMap::new(),
                    events: 0,
                    timers,
                    instant: DateTime::<Utc>::MIN_UTC,
                    in_instant: BTreeMap::new(),
                    brought: 0,
                }),
            }),
        })
    }

    /// The app.
    pub fn config(&self) -> &HostConfig {
        &self.shared.config
    }

    /// What it remembers.
    pub fn record(&self) -> &Record {
        &self.shared.record
    }

    /// The handler program, if it is one.
    pub fn process(&self) -> Option<&Process> {
        match &self.shared.worker {
            Worker::Process(process) => Some(process),
            Worker::At(_) => None,
        }
    }

    /// Kills the handler at once (SIGKILL); the next invocation starts it again.
    pub fn kill(&self) {
        if let Worker::Process(process) = &self.shared.worker {
            process.kill();
        }
    }

    /// Starts the handler, if it is down, and waits until it answers. The error says why it does not.
    pub async fn ready(&self) -> Result<(), String> {
        self.base().await.map(|_| ())
    }

    /// Whether the host has shut down for the handler's errors: then it takes nothing any more, and its site
    /// answers 503.
    pub fn has_ended(&self) -> bool {
        self.process().is_some_and(Process::has_ended)
    }

    /// How many invocations and requests there ever were, if none is under way. Two equal answers say that nothing
    /// happened in between.
    pub fn quiet_since(&self) -> Option<u64> {
        let flow = self.flow();
        (flow.in_flight == 0).then_some(flow.begun)
    }

    /// Whether an invocation or a request is under way.
    pub fn is_busy(&self) -> bool {
        self.flow().in_flight > 0
    }

    /// When the next timer runs.
    pub fn next_timer(&self) -> Option<DateTime<Utc>> {
        if self.has_ended() { None } else { self.flow().timers.next() }
    }

    /// Says that something is under way until the guard is dropped.
    pub fn under_way(&self) -> UnderWay {
        self.flow().begin(1);
        UnderWay { host: self.clone() }
    }

    /// Starts to deliver all that can be delivered now, up to the limits; gives how much that is.
    pub fn start_deliverable(&self) -> Result<usize, Stuck> {
        let (deliveries, stuck) = self.take_deliverable();
        let started = deliveries.len();
        for delivery in deliveries {
            // Counted already when it was taken.
            let under_way = UnderWay { host: self.clone() };
            tokio::spawn(async move {
                under_way.host.deliver(delivery).await;
                drop(under_way);
            });
        }
        stuck.map_or(Ok(started), Err)
    }

    /// Timers by their times, messages by their places in the queue, events by theirs. What is taken counts as
    /// under way before any lock is given back, or somebody else could see a world at rest in between.
    fn take_deliverable(&self) -> (Vec<Delivery>, Option<Stuck>) {
        let mut state = self.shared.world.lock();
        let mut flow = self.flow();
        let mut deliveries = Vec::new();
        flow.enter(&state);
        // A host that has shut down takes nothing; Event Grid goes on trying its site.
        let taken = match self.has_ended() {
            true => Ok(()),
            false => self.take_ticks_and_messages(&mut state, &mut flow, &mut deliveries),
        };
        let stuck = taken.and_then(|()| take_events(&mut state, &mut flow, &mut deliveries)).err();
        flow.begin(deliveries.len());
        (deliveries, stuck)
    }

    fn take_ticks_and_messages(&self, state: &mut State, flow: &mut Flow, deliveries: &mut Vec<Delivery>) -> Result<(), Stuck> {
        let config = &self.shared.config;
        let now = state.now;
        while let Some((name, timer)) = flow.timers.take_due(now) {
            if let Some(function) = config.function(&name) {
                deliveries.push(Delivery::Tick(function.clone(), timer));
                flow.count(&function.name, flow.most())?;
            }
        }
        let lock_for = TimeDelta::from_std(config.lock_renewal).unwrap_or(TimeDelta::minutes(5));
        for function in &config.functions {
            let TriggerKind::ServiceBus { queue, cardinality } = &function.trigger else {
                continue;
            };
            // A batch is waited for before the next is received.
            let (at_once, largest) = match cardinality {
                Cardinality::One => (config.max_concurrent_calls, 1),
                Cardinality::Many(_) => (1, LARGEST_BATCH),
            };
            while flow.messages.get(&function.name).copied().unwrap_or_default() < at_once {
                let taken: Vec<Message> = std::iter::from_fn(|| servicebus::take(state, queue, lock_for)).take(largest).collect();
                if taken.is_empty() {
                    break;
                }
                *flow.messages.entry(function.name.clone()).or_default() += 1;
                deliveries.push(Delivery::Messages(function.clone(), queue.clone(), taken));
                flow.count(&format!("{} (queue {queue})", function.name), flow.most())?;
            }
        }
        Ok(())
    }

    async fn deliver(&self, delivery: Delivery) {
        match delivery {
            Delivery::Messages(function, queue, messages) => self.deliver_messages(&function, &queue, &messages).await,
            Delivery::Event(event) => self.deliver_pending(event).await,
            Delivery::Tick(function, timer) => self.deliver_tick(&function, timer).await,
        }
    }

    async fn deliver_tick(&self, function: &Function, timer: TimerInfo) {
        let now = self.shared.world.lock().now;
        let what = format!("timer {}", now.format("%Y-%m-%dT%H:%M:%SZ"));
        let outcome = self.invoke(function, &Trigger::Timer(timer), what).await;
        let failed = match &outcome {
            Outcome::Succeeded => None,
            Outcome::Failed { reason } => Some(reason.as_str()),
        };
        let mut state = self.shared.world.lock();
        let mut flow = self.flow();
        flow.timers.ended(&function.name, failed, state.now);
        state.timers = flow.timers.remembered();
    }

    /// One message, or a batch, which is settled as a whole.
    async fn deliver_messages(&self, function: &Function, queue: &str, messages: &[Message]) {
        let mut taken: Vec<BrokeredMessage> = messages.iter().map(|message| brokered(message, queue)).collect();
        let tokens: Vec<String> = taken.iter().map(|message| message.lock_token.clone()).collect();
        let delivery = messages.iter().map(|message| message.delivery_count).max().unwrap_or_default();
        let sequences: Vec<String> = messages.iter().map(|message| message.sequence.to_string()).collect();
        let what = format!("{queue} message {}, delivery {delivery}", sequences.join(" "));
        let trigger = match (&function.trigger, taken.len()) {
            (TriggerKind::ServiceBus { cardinality: Cardinality::Many(many_as), .. }, _) => Trigger::ServiceBusMany(taken, *many_as),
            _ => Trigger::ServiceBusOne(Box::new(taken.swap_remove(0))),
        };
        let deliveries = self.shared.world.lock().switches.messages;
        let outcome = match deliveries {
            Messages::Once => self.invoke(function, &trigger, what).await,
            Messages::Again => match self.invoke(function, &trigger, what.clone()).await {
                Outcome::Succeeded => self.invoke(function, &trigger, what).await,
                failed => failed,
            },
            Messages::TwiceAtOnce => {
                let (first, second) = tokio::join!(self.invoke(function, &trigger, what.clone()), self.invoke(function, &trigger, what));
                if first == Outcome::Succeeded { first } else { second }
            }
        };
        {
            let mut state = self.shared.world.lock();
            for token in &tokens {
                // A lock that was lost meanwhile leaves nothing to settle: the message has come back already.
                let _settled = match outcome {
                    Outcome::Succeeded => servicebus::complete(&mut state, queue, token),
                    Outcome::Failed { .. } => servicebus::abandon(&mut state, queue, token),
                };
            }
        }
        if let Some(count) = self.flow().messages.get_mut(&function.name) {
            *count -= 1;
        }
    }

    async fn deliver_pending(&self, event: PendingEvent) {
        if self.has_ended() {
            eventgrid::failed(&mut self.shared.world.lock(), event, StatusCode::SERVICE_UNAVAILABLE);
            self.flow().events -= 1;
            return;
        }
        // The function goes on when Event Grid has stopped waiting for it.
        let going_on = tokio::spawn({
            let (under_way, function, body) = (self.under_way(), event.function.clone(), event.body.clone());
            async move { under_way.host.deliver_event(&function, &body).await }
        });
        let ended = tokio::time::timeout(self.shared.config.event_response_limit, going_on).await;
        {
            let mut state = self.shared.world.lock();
            match ended {
                Ok(Ok(Some(Outcome::Succeeded))) => eventgrid::delivered(&mut state, &event),
                Ok(Ok(Some(Outcome::Failed { .. })) | Err(_)) => {
                    eventgrid::failed(&mut state, event, StatusCode::INTERNAL_SERVER_ERROR);
                }
                Ok(Ok(None)) => eventgrid::failed(&mut state, event, StatusCode::NOT_FOUND),
                Err(_) => eventgrid::failed(&mut state, event, StatusCode::REQUEST_TIMEOUT),
            }
        }
        self.flow().events -= 1;
    }

    /// Delivers one event to an Event Grid function; none if there is no such function.
    pub async fn deliver_event(&self, function: &str, event: &Value) -> Option<Outcome> {
        let function = self.shared.config.function(function)?;
        let TriggerKind::EventGrid { cardinality } = &function.trigger else {
            return None;
        };
        let trigger = match cardinality {
            Cardinality::One => Trigger::EventGridOne(event.clone()),
            Cardinality::Many(_) => Trigger::EventGridMany(vec![event.to_string()]),
        };
        let id = event.get("id").and_then(Value::as_str).unwrap_or("without id");
        Some(self.invoke(function, &trigger, format!("event {id}")).await)
    }

    /// One invocation from its id to its outcome, which is also recorded.
    pub async fn invoke(&self, function: &Function, trigger: &Trigger, what: String) -> Outcome {
        self.invoke_for_result(function, trigger, what).await.0
    }

    /// The same with the handler's result, which is empty for a failed one.
    pub(super) async fn invoke_for_result(&self, function: &Function, trigger: &Trigger, what: String) -> (Outcome, HandlerResult) {
        let (id, at) = self.new_invocation(&function.name);
        let sys = Sys { method: function.name.clone(), now: at, guid: self.shared.world.lock().take_uuid() };
        let began = Instant::now();
        let ended = match trigger.check() {
            Ok(()) => self.call(function, &id, &encode::invocation_body(&function.binding, trigger, &sys)).await,
            Err(reason) => Err(reason),
        };
        let ended = ended.and_then(|result| self.send_outputs(function, &result).map(|()| result));
        let (outcome, result) = match ended {
            Ok(result) => (Outcome::Succeeded, result),
            Err(reason) => (Outcome::Failed { reason }, HandlerResult::default()),
        };
        self.shared.record.add(Invocation {
            function: function.name.clone(),
            id,
            trigger: what,
            at,
            outcome: outcome.clone(),
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            logs: result.logs.clone(),
        });
        (outcome, result)
    }

    /// A new invocation's id, which its trace is derived from, and the world's time.
    pub(super) fn new_invocation(&self, function: &str) -> (String, DateTime<Utc>) {
        let (id, now) = {
            let mut state = self.shared.world.lock();
            (state.take_uuid(), state.now)
        };
        self.shared.world.name_trace(&trace_id(&id), function, &id);
        (id, now)
    }

    async fn call(&self, function: &Function, id: &str, body: &Value) -> Result<HandlerResult, String> {
        let base = self.base().await?;
        let generation = self.generation();
        let request = self
            .shared
            .client
            .post(format!("{base}/{}", function.name))
            .header("Content-Type", "application/json; charset=utf-8")
            .header("User-Agent", format!("Azure-Functions-Host/{HOST_VERSION}"))
            .header("X-Azure-Functions-InvocationId", id)
            .header("X-Azure-Functions-HostVersion", HOST_VERSION)
            .header("traceparent", traceparent(id))
            .body(reqwest::Body::wrap(Chunked::of(Bytes::from(body.to_string()))));
        let limit = self.shared.config.function_timeout;
        let exchange = async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            let content_type = response.headers().get("content-type").and_then(|v| v.to_str().ok()).map(str::to_owned);
            Ok::<_, reqwest::Error>((status, content_type, response.bytes().await?))
        };
        let waited = async {
            match exchange.await {
                Ok((status, content_type, body)) => match answer::read(status, content_type.as_deref(), &body) {
                    // The real host waits on for a result that will never come.
                    Read::Hangs => std::future::pending().await,
                    Read::Result(result) => Ok(result),
                    Read::Failed(reason) => Err(reason),
                },
                Err(error) => {
                    let has_died = self.connection_broke(generation).await;
                    let what = if has_died { DIED } else { "the connection to the handler failed" };
                    Err(format!("{what}: {}", with_causes(&error)))
                }
            }
        };
        match tokio::time::timeout(limit, waited).await {
            Ok(ended) => ended,
            Err(_) => {
                self.kill();
                Err(format!(
                    "no result within the function's timeout of {limit:?} (an empty or null answer counts as none): the handler was killed"
                ))
            }
        }
    }

    pub(super) async fn base(&self) -> Result<String, String> {
        match &self.shared.worker {
            Worker::Process(process) => process.base().await,
            Worker::At(base) => Ok(base.clone()),
        }
    }

    /// How often the handler was started by now, where the host starts it.
    pub(super) fn generation(&self) -> u64 {
        match &self.shared.worker {
            Worker::Process(process) => process.starts(),
            Worker::At(_) => 0,
        }
    }

    /// A connection to the handler broke that was started so often. Whether it is known to have died.
    pub(super) async fn connection_broke(&self, generation: u64) -> bool {
        match &self.shared.worker {
            Worker::Process(process) => process.connection_broke(generation).await,
            Worker::At(_) => false,
        }
    }

    pub(super) fn client(&self) -> &reqwest::Client {
        &self.shared.client
    }

    /// Outputs go only where the function has an output binding of that very name. One that is no HTTP response where
    /// one is declared fails the invocation.
    fn send_outputs(&self, function: &Function, result: &HandlerResult) -> Result<(), String> {
        for binding in &function.outputs {
            if binding.target == OutputTarget::Http {
                check_output(binding, result)?;
            }
            let OutputTarget::Queue(queue) = &binding.target else {
                continue;
            };
            let value = match binding.name.as_str() {
                "$return" => Some(&result.return_value),
                name => result.outputs.get(name),
            };
            let messages = value.map(|value| answer::output_messages(value, binding.strings)).unwrap_or_default();
            let mut state = self.shared.world.lock();
            for message in messages {
                let message = Message { body: message, ..Message::default() };
                if !servicebus::enqueue(&mut state, queue, message) {
                    return Err(format!(
                        "output binding '{}' failed after the handler had succeeded: there is no queue '{queue}'",
                        binding.name
                    ));
                }
            }
        }
        Ok(())
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.shared.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flow {
    fn begin(&mut self, count: usize) {
        self.in_flight += count;
        self.begun += count as u64;
    }

    /// Counts anew if it is another instant than the last time.
    fn enter(&mut self, state: &State) {
        if self.instant != state.now {
            self.instant = state.now;
            self.in_instant.clear();
            self.brought = state.queues.values().map(|queue| queue.messages.free() as u64).sum();
        }
    }

    /// How many invocations of one function this instant may have.
    fn most(&self) -> u64 {
        MOST_IN_AN_INSTANT + EACH_BRINGS * self.brought
    }

    /// Counts an invocation of this instant; more than `most` are an error.
    fn count(&mut self, what: &str, most: u64) -> Result<(), Stuck> {
        let count = self.in_instant.entry(what.to_owned()).or_default();
        *count += 1;
        if *count > most {
            return Err(Stuck { what: what.to_owned(), many: most, at: self.instant });
        }
        Ok(())
    }
}

fn take_events(state: &mut State, flow: &mut Flow, deliveries: &mut Vec<Delivery>) -> Result<(), Stuck> {
    while flow.events < MOST_EVENTS {
        let Some(event) = eventgrid::take_due(state) else {
            break;
        };
        let what = format!("{} (Event Grid)", event.function);
        flow.events += 1;
        deliveries.push(Delivery::Event(event));
        flow.brought += 1;
        flow.count(&what, MOST_EVENTS_IN_AN_INSTANT)?;
    }
    Ok(())
}

/// Something under way, until this is dropped.
pub struct UnderWay {
    host: Host,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.host.flow().in_flight -= 1;
        self.host.shared.world.tell_changed();
    }
}

fn trace_id(invocation: &str) -> String {
    invocation.replace('-', "")
}

/// W3C Trace Context: the trace is the invocation, the span its last digits.
pub(super) fn traceparent(invocation: &str) -> String {
    let trace = trace_id(invocation);
    format!("00-{trace}-{}-01", &trace[trace.len().saturating_sub(16)..])
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn brokered(message: &Message, queue: &str) -> BrokeredMessage {
    let property = |name: &str| message.properties.get(name).and_then(Value::as_str).map(str::to_owned);
    let namespace = "portcullis.servicebus.windows.net".to_owned();
    BrokeredMessage {
        body: message.body.clone(),
        client: format!("{namespace}-{queue}"),
        namespace,
        delivery_count: message.delivery_count,
        lock_token: message.lock.as_ref().map(|(token, _)| token.clone()).unwrap_or_default(),
        // The broker's default time to live: for ever, as .NET writes it.
        expires_at: message.expires_at.unwrap_or_else(end_of_time),
        enqueued_at: message.enqueued_at,
        sequence: message.sequence,
        // The broker sets it only where dead letters are forwarded to another queue, which none of these is.
        dead_letter_source: None,
        message_id: property("MessageId"),
        content_type: message.content_type.clone(),
        reply_to: property("ReplyTo"),
        to: property("To"),
        subject: property("Label"),
        correlation_id: property("CorrelationId"),
        session_id: property("SessionId"),
        reply_to_session_id: property("ReplyToSessionId"),
        partition_key: property("PartitionKey"),
        transaction_partition_key: property("ViaPartitionKey"),
        application_properties: message.user_properties.clone().into_iter().collect::<Map<_, _>>(),
    }
}

fn end_of_time() -> DateTime<Utc> {
    const END: i64 = 253_402_300_799;
    DateTime::from_timestamp(END, 0).unwrap_or_default()
}

/// A body without a length, so that it is sent with `Transfer-Encoding: chunked`, as the host does.
struct Chunked(Bytes);

impl Chunked {
    fn of(body: Bytes) -> Chunked {
        Chunked(body)
    }
}

impl http_body::Body for Chunked {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::convert::Infallible>>> {
        if self.0.is_empty() {
            return Poll::Ready(None);
        }
        let next = self.0.len().min(CHUNK);
        Poll::Ready(Some(Ok(Frame::data(self.0.split_to(next)))))
    }
}
