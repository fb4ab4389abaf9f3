//! Event Grid: publishing as the switches say, delivery with its retries, dead letters, and the webhook of the
//! Functions host that takes what Event Grid would POST.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::face::{Answer, Call};
use crate::host::{Host, Outcome};
use crate::servicebus;
use crate::state::{Caller, Due, DueKind, Message, PendingEvent, QueueSubscription, State};
use crate::switches::{EventSchema, Events};
use crate::world::World;

/// The function that the event subscription leads to.
pub const FUNCTION: &str = "jit_activity";
/// The event subscription's filter: `data.operationName` begins so (letter case aside, as Event Grid compares).
const FILTER: &str = "Microsoft.Security/locations/jitNetworkAccessPolicies";
/// How late events are under [`Events::Late`].
const LATE: TimeDelta = TimeDelta::minutes(10);
/// How long the first of two events is held under [`Events::Reordered`].
const HELD: TimeDelta = TimeDelta::seconds(30);
/// Deliveries after which an event is given up (documentation: the default).
const MOST_ATTEMPTS: u32 = 30;
/// Age at which an event is given up; looked at only when the next attempt comes (documentation).
const TIME_TO_LIVE: TimeDelta = TimeDelta::hours(24);
/// Seconds from a failed delivery to the next (documentation); the last one repeats. The jitter that the real
/// service adds is left out, so that a story repeats itself.
const PAUSES: [i64; 10] = [10, 30, 60, 300, 600, 1800, 3600, 10_800, 21_600, 43_200];

/// Publishes the `data` of a resource event, to be delivered as the switches say.
///
/// `action` is `Action`, `Write` or `Delete`; `subject` is the resource id. What the event subscription's filter
/// does not let through is dropped.
pub fn publish(state: &mut State, action: &str, subject: &str, data: Value) {
    let operation = data.get("operationName").and_then(Value::as_str).unwrap_or_default();
    let of = data.get("subscriptionId").and_then(Value::as_str).or_else(|| subject.split('/').nth(2)).unwrap_or_default();
    let leads_nowhere = state.subscriptions.iter().any(|known| known.id.eq_ignore_ascii_case(of) && !known.events);
    let passes = starts_with(operation, FILTER) && !leads_nowhere;
    let mut queues = state.event_grid.queues.clone();
    let kind = kind(action);
    queues.retain(|queue| queue.subscription.eq_ignore_ascii_case(of) && queue.wants(&kind, subject));
    for queue in queues {
        let event = envelope(state, action, subject, data.clone(), queue.schema);
        push_to_queue(state, &queue, &event);
    }
    if !passes {
        return;
    }
    let body = envelope(state, action, subject, data, state.switches.event_schema);
    let now = state.now;
    match state.switches.events {
        Events::InOrder => push(state, body, now),
        Events::Late => push(state, body, now + LATE),
        Events::Doubled => {
            push(state, body.clone(), now);
            push(state, body, now);
        }
        Events::Reordered => {
            let holds_one = state.event_grid.pending.iter().any(|event| event.attempts == 0 && event.at > now);
            push(state, body, if holds_one { now } else { now + HELD });
        }
        Events::Never => {}
    }
}

/// Puts an event on its way to a queue, as the switches say.
fn push_to_queue(state: &mut State, of: &QueueSubscription, event: &Value) {
    let (now, queue) = (state.now, of.queue());
    let is_held = |due: &Due| due.at > now && matches!(&due.what, DueKind::EventArrives { queue: its, .. } if *its == queue);
    let times = match state.switches.events {
        Events::InOrder => vec![now],
        Events::Late => vec![now + LATE],
        Events::Doubled => vec![now, now],
        Events::Reordered if state.due.iter().any(is_held) => vec![now],
        Events::Reordered => vec![now + HELD],
        Events::Never => Vec::new(),
    };
    for at in times {
        state.later(at, DueKind::EventArrives { queue: queue.clone(), of: of.name.to_uppercase(), event: event.clone() });
    }
}

/// An event comes into a queue: one message each (documentation). A queue that is gone takes none.
///
/// The event subscription stands beside it, its name in capitals (documentation).
pub fn arrives(state: &mut State, queue: &str, of: &str, event: &Value) {
    let user_properties = [("aeg-subscription-name".to_owned(), json!(of))].into();
    let is_taken = servicebus::enqueue(state, queue, Message { body: event.to_string(), user_properties, ..Message::default() });
    record(state, event, if is_taken { StatusCode::OK } else { StatusCode::NOT_FOUND });
}

fn kind(action: &str) -> String {
    format!("Microsoft.Resources.Resource{action}Success")
}

impl QueueSubscription {
    fn wants(&self, kind: &str, subject: &str) -> bool {
        (self.types.is_empty() || self.types.iter().any(|wanted| wanted.eq_ignore_ascii_case(kind)))
            && starts_with(subject, &self.begins_with)
    }
}

fn starts_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn envelope(state: &mut State, action: &str, subject: &str, data: Value, schema: EventSchema) -> Value {
    let id = state.take_uuid();
    let kind = kind(action);
    let ticks = state.now.timestamp_subsec_nanos() % 1_000_000_000 / 100;
    let time = format!("{}.{ticks:07}Z", state.now.format("%Y-%m-%dT%H:%M:%S"));
    let subscription = match data.get("subscriptionId").and_then(Value::as_str) {
        Some(subscription) => subscription,
        None => subject.split('/').nth(2).unwrap_or_default(),
    };
    let source = format!("/subscriptions/{subscription}");
    match schema {
        EventSchema::EventGrid => json!({
            "id": id,
            "topic": source,
            "subject": subject,
            "eventType": kind,
            "eventTime": time,
            "data": data,
            "dataVersion": "2",
            "metadataVersion": "1",
        }),
        EventSchema::CloudEvents => json!({
            "id": id,
            "source": source,
            "subject": subject,
            "type": kind,
            "time": time,
            "data": data,
            "specversion": "1.0",
        }),
    }
}

/// Puts an event on its way as it is, whatever the switches say.
pub fn push(state: &mut State, body: Value, at: DateTime<Utc>) {
    let order = state.take_id();
    let published_at = state.now;
    state.event_grid.pending.push(PendingEvent {
        at,
        published_at,
        order,
        function: FUNCTION.to_owned(),
        attempts: 0,
        last_attempt: None,
        last_outcome: String::new(),
        body,
    });
}

/// Whether a body is an event in one of the two schemas; the sentence says what is missing.
pub fn check_event(body: &Value) -> Result<(), String> {
    let Value::Object(event) = body else {
        return Err("an event is a JSON object".to_owned());
    };
    let has = |key: &str| event.get(key).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    if !has("id") {
        return Err("an event needs an id".to_owned());
    }
    if !has("eventType") && !has("type") {
        return Err("an event needs an eventType (Event Grid schema) or a type (CloudEvents)".to_owned());
    }
    Ok(())
}

/// Takes the event that is to be delivered next, if its time has come; those whose time to live is over become
/// dead letters instead.
pub fn take_due(state: &mut State) -> Option<PendingEvent> {
    loop {
        let now = state.now;
        let pending = &state.event_grid.pending;
        let due = pending.iter().enumerate().filter(|(_, event)| event.at <= now);
        let (place, _) = due.min_by_key(|(_, event)| event.order)?;
        let event = state.event_grid.pending.remove(place);
        if event.attempts == 0 || now - event.published_at < TIME_TO_LIVE {
            return Some(event);
        }
        bury(state, event, "TimeToLiveExceeded");
    }
}

/// When the next event is due.
pub fn next_due(state: &State) -> Option<DateTime<Utc>> {
    state.event_grid.pending.iter().map(|event| event.at).min()
}

/// An event was answered with success.
pub fn delivered(state: &mut State, event: &PendingEvent) {
    state.event_grid.delivered = state.event_grid.delivered.saturating_add(1);
    record(state, &event.body, StatusCode::ACCEPTED);
}

/// A delivery failed with this status: the event is tried again later, or given up.
pub fn failed(state: &mut State, mut event: PendingEvent, status: StatusCode) {
    record(state, &event.body, status);
    let pause = PAUSES.get(event.attempts as usize).copied().unwrap_or(PAUSES[PAUSES.len() - 1]);
    event.attempts = event.attempts.saturating_add(1);
    event.last_attempt = Some(state.now);
    event.last_outcome = outcome_word(status).to_owned();
    // Not found is retried after five minutes at the soonest (documentation).
    // One that timed out, two minutes.
    let least = match status {
        StatusCode::NOT_FOUND => 300,
        StatusCode::REQUEST_TIMEOUT => 120,
        _ => 10,
    };
    event.at = state.now + TimeDelta::seconds(pause.max(least));
    if event.attempts < MOST_ATTEMPTS {
        state.event_grid.pending.push(event);
    } else {
        bury(state, event, "MaxDeliveryAttemptsExceeded");
    }
}

fn outcome_word(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::REQUEST_TIMEOUT => "TimedOut",
        StatusCode::SERVICE_UNAVAILABLE => "Busy",
        _ => "GenericError",
    }
}

/// The dead-letter form: the event with members more, whose names follow the schema (documentation).
fn bury(state: &mut State, event: PendingEvent, reason: &str) {
    let instant = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Micros, true);
    let mut members = Map::new();
    members.insert("deadLetterReason".to_owned(), json!(reason));
    members.insert("deliveryAttempts".to_owned(), json!(event.attempts));
    members.insert("lastDeliveryOutcome".to_owned(), json!(event.last_outcome));
    members.insert("publishTime".to_owned(), json!(instant(event.published_at)));
    let cloud_event = event.body.get("specversion").is_some();
    if let (Some(at), false) = (event.last_attempt, cloud_event) {
        members.insert("lastDeliveryAttemptTime".to_owned(), json!(instant(at)));
    }
    let mut body = event.body;
    if let Value::Object(body) = &mut body {
        for (key, value) in members {
            let key = if cloud_event { key.to_ascii_lowercase() } else { key };
            body.insert(key, value);
        }
    }
    state.event_grid.dead_letters.push(body);
}

fn record(state: &mut State, event: &Value, status: StatusCode) {
    let id = event.get("id").and_then(Value::as_str).unwrap_or_default();
    state.record(&Caller::world("Event Grid"), "eventgrid", "deliver", id, status.as_u16());
}

/// The host's webhook, `/runtime/webhooks/EventGrid?functionName=X`: handshakes are answered here, events go to
/// the function at once, and the answer says how that went. `POST /` is the same for [`FUNCTION`].
pub async fn webhook(world: World, host: Option<Host>, call: Call) -> Answer {
    let path = call.path.trim_end_matches('/');
    if !path.is_empty() && !path.eq_ignore_ascii_case("/runtime/webhooks/EventGrid") {
        return refusal(StatusCode::NOT_FOUND, "there is nothing here: POST to /runtime/webhooks/EventGrid");
    }
    match call.method {
        Method::OPTIONS => cloud_handshake(&call),
        Method::POST => take_post(world, host, &call).await,
        _ => refusal(StatusCode::METHOD_NOT_ALLOWED, "events come by POST").with("Allow", "POST, OPTIONS"),
    }
}

fn refusal(status: StatusCode, message: &str) -> Answer {
    Answer::json(status, &json!({ "error": message }))
}

/// The abuse protection of CloudEvents: consent is the origin said back.
fn cloud_handshake(call: &Call) -> Answer {
    match call.header("WebHook-Request-Origin") {
        None => refusal(StatusCode::BAD_REQUEST, "the WebHook-Request-Origin header is missing"),
        Some(origin) => {
            Answer::empty(StatusCode::OK).with("WebHook-Allowed-Origin", origin).with("WebHook-Allowed-Rate", "*").with("Allow", "POST")
        }
    }
}

async fn take_post(world: World, host: Option<Host>, call: &Call) -> Answer {
    let events = match events_of(call) {
        Ok(events) => events,
        Err(why) => return refusal(StatusCode::BAD_REQUEST, &why),
    };
    let header = call.header("aeg-event-type").unwrap_or_default();
    if header.eq_ignore_ascii_case("Unsubscribe") || header.eq_ignore_ascii_case("SubscriptionDeletion") {
        return Answer::empty(StatusCode::ACCEPTED);
    }
    if let Some(code) = validation_code(&events) {
        return Answer::json(StatusCode::OK, &json!({ "validationResponse": code }));
    }
    let Some(host) = host else {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "no host runs here (--no-host): nothing is delivered");
    };
    if host.has_ended() {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "the host has shut down");
    }
    let function = call.param("functionName").unwrap_or(FUNCTION).to_owned();
    let _under_way = host.under_way();
    let deliveries: Vec<_> = events
        .iter()
        .map(|event| {
            let (host, event, function) = (host.clone(), event.clone(), function.clone());
            tokio::spawn(async move { host.deliver_event(&function, &event).await })
        })
        .collect();
    let mut answer = Answer::empty(StatusCode::ACCEPTED);
    for (delivery, event) in deliveries.into_iter().zip(&events) {
        let ended = delivery.await.unwrap_or_else(|error| Some(Outcome::Failed { reason: format!("the delivery broke off: {error}") }));
        // One failed event fails the whole POST, and Event Grid sends all of it again.
        match &ended {
            Some(Outcome::Succeeded) => {}
            Some(Outcome::Failed { reason }) => answer = refusal(StatusCode::INTERNAL_SERVER_ERROR, reason),
            None => answer = refusal(StatusCode::NOT_FOUND, &format!("there is no Event Grid function '{function}'")),
        }
        let status = match ended {
            Some(Outcome::Succeeded) => StatusCode::ACCEPTED,
            Some(Outcome::Failed { .. }) => StatusCode::INTERNAL_SERVER_ERROR,
            None => StatusCode::NOT_FOUND,
        };
        record(&mut world.lock(), event, status);
    }
    answer
}

/// An array of events, or one: Event Grid's own schema comes in an array, CloudEvents come alone.
fn events_of(call: &Call) -> Result<Vec<Value>, String> {
    match serde_json::from_slice(&call.body) {
        Ok(Value::Array(events)) if events.iter().all(Value::is_object) => Ok(events),
        Ok(event @ Value::Object(_)) => Ok(vec![event]),
        Ok(_) => Err("an event is a JSON object, alone or in an array".to_owned()),
        Err(error) => Err(format!("the body is no JSON: {error}")),
    }
}

fn validation_code(events: &[Value]) -> Option<&str> {
    let kind = "Microsoft.EventGrid.SubscriptionValidationEvent";
    let is_validation = |event: &&Value| event.get("eventType").and_then(Value::as_str) == Some(kind);
    events.iter().find(is_validation)?.pointer("/data/validationCode")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str =
        "/subscriptions/s1/resourceGroups/rg/providers/Microsoft.Security/locations/westeurope/jitNetworkAccessPolicies/default";

    fn published(events: Events, schema: EventSchema, count: usize) -> State {
        let mut state = State::default();
        state.switches.events = events;
        state.switches.event_schema = schema;
        for number in 0..count {
            let operation = "microsoft.security/locations/jitNetworkAccessPolicies/initiate/action";
            publish(&mut state, "Action", POLICY, json!({ "operationName": operation, "n": number }));
        }
        state
    }

    fn delivered_at(state: &mut State, seconds: i64) -> Vec<u64> {
        state.now = crate::state::beginning() + TimeDelta::seconds(seconds);
        let mut numbers = Vec::new();
        while let Some(event) = take_due(state) {
            numbers.push(event.body["data"]["n"].as_u64().unwrap());
        }
        numbers
    }

    #[test]
    fn events_arrive_as_the_switch_says() {
        type At = (i64, &'static [u64]);
        let rows: [(Events, &[At]); 5] = [
            (Events::InOrder, &[(0, &[0, 1])]),
            (Events::Late, &[(0, &[]), (600, &[0, 1])]),
            (Events::Doubled, &[(0, &[0, 0, 1, 1])]),
            (Events::Reordered, &[(0, &[1]), (30, &[0])]),
            (Events::Never, &[(100_000, &[])]),
        ];
        for (events, expected) in rows {
            let mut state = published(events, EventSchema::EventGrid, 2);
            for (seconds, numbers) in expected {
                assert_eq!(delivered_at(&mut state, *seconds), *numbers, "{events:?} at {seconds}");
            }
        }
    }

    #[test]
    fn both_schemas_have_their_members() {
        let state = published(Events::InOrder, EventSchema::EventGrid, 1);
        let event = &state.event_grid.pending[0].body;
        assert_eq!(event["topic"], "/subscriptions/s1");
        assert_eq!(event["subject"], POLICY);
        assert_eq!(event["eventType"], "Microsoft.Resources.ResourceActionSuccess");
        assert_eq!(event["eventTime"], "2026-01-15T09:00:00.0000000Z");
        assert_eq!(event["dataVersion"], "2");
        let state = published(Events::InOrder, EventSchema::CloudEvents, 1);
        let event = &state.event_grid.pending[0].body;
        assert_eq!(event["source"], "/subscriptions/s1");
        assert_eq!(event["type"], "Microsoft.Resources.ResourceActionSuccess");
        assert_eq!(event["specversion"], "1.0");
    }

    #[test]
    fn other_operations_do_not_pass_the_filter() {
        let mut state = State::default();
        publish(&mut state, "Write", "/subscriptions/s1/x", json!({ "operationName": "Microsoft.Network/x/write" }));
        assert!(state.event_grid.pending.is_empty());
    }

    #[test]
    fn a_failing_event_is_tried_on_schedule_and_becomes_a_dead_letter_after_its_time_to_live() {
        let mut state = published(Events::InOrder, EventSchema::EventGrid, 1);
        let begin = state.now;
        let mut tried = Vec::new();
        while let Some(at) = next_due(&state) {
            state.now = at;
            if let Some(event) = take_due(&mut state) {
                tried.push((at - begin).num_seconds());
                failed(&mut state, event, StatusCode::INTERNAL_SERVER_ERROR);
            }
        }
        assert_eq!(tried, [0, 10, 40, 100, 400, 1000, 2800, 6400, 17_200, 38_800, 82_000]);
        let letter = &state.event_grid.dead_letters[0];
        assert_eq!(letter["deadLetterReason"], "TimeToLiveExceeded");
        assert_eq!(letter["deliveryAttempts"], 11);
        assert_eq!(letter["lastDeliveryOutcome"], "GenericError");
        assert_eq!(letter["publishTime"], "2026-01-15T09:00:00.000000Z");
        assert_eq!(letter["lastDeliveryAttemptTime"], "2026-01-16T07:46:40.000000Z");
    }

    #[test]
    fn thirty_failures_are_the_most_and_cloud_events_have_lower_case_members() {
        let mut state = published(Events::InOrder, EventSchema::CloudEvents, 1);
        let mut event = take_due(&mut state).unwrap();
        event.attempts = MOST_ATTEMPTS - 1;
        failed(&mut state, event, StatusCode::NOT_FOUND);
        let letter = &state.event_grid.dead_letters[0];
        assert_eq!(letter["deadletterreason"], "MaxDeliveryAttemptsExceeded");
        assert_eq!(letter["deliveryattempts"], 30);
        assert_eq!(letter["lastdeliveryoutcome"], "NotFound");
        assert_eq!(letter.get("deadLetterReason"), None);
    }

    async fn post(call: Call) -> Answer {
        webhook(World::new(State::default(), std::time::Duration::ZERO), None, call).await
    }

    #[tokio::test]
    async fn handshakes_are_answered_without_a_host() {
        let body = json!([{ "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": { "validationCode": "c" } }]);
        let path = "/runtime/webhooks/EventGrid?functionName=jit_activity";
        let answer = post(Call::new("POST", path).with_body(body.to_string())).await;
        assert_eq!(answer.status, 200);
        assert_eq!(&answer.body[..], br#"{"validationResponse":"c"}"#);
        let call = Call::new("OPTIONS", path).with_header("WebHook-Request-Origin", "eventgrid.azure.net");
        let answer = post(call).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("WebHook-Allowed-Origin"), Some("eventgrid.azure.net"));
    }

    #[tokio::test]
    async fn what_is_no_event_is_refused() {
        let rows = [
            ("POST", "/", "{", 400),
            ("POST", "/", "7", 400),
            ("POST", "/", "[7]", 400),
            ("POST", "/", "[{}]", 503),
            ("POST", "/elsewhere", "{}", 404),
            ("GET", "/", "", 405),
            ("OPTIONS", "/", "", 400),
        ];
        for (method, path, body, status) in rows {
            let answer = post(Call::new(method, path).with_body(body)).await;
            assert_eq!(answer.status.as_u16(), status, "{method} {path} {body}");
        }
    }
}
