//! What the host POSTs: trigger values as the body of an invocation of a custom handler.
//!
//! The rules are the host's: an object stays an object, everything else becomes JSON text inside a JSON
//! string, dates lose their fractions, and the properties of a message that is a JSON object are written over
//! the broker's own metadata.

use chrono::{DateTime, Datelike, FixedOffset, NaiveDateTime, Utc};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::retry::RetryContext;

/// What a trigger brought.
#[derive(Clone, Debug)]
pub enum Trigger {
    /// One Service Bus message, bound as a string.
    ServiceBusOne(Box<BrokeredMessage>),
    /// A batch of Service Bus messages.
    ServiceBusMany(Vec<BrokeredMessage>, ManyAs),
    /// One event.
    EventGridOne(Value),
    /// A batch of events, each as JSON text, so that the order of its keys is kept.
    EventGridMany(Vec<String>),
    /// A tick of a timer.
    Timer(TimerInfo),
    /// An HTTP request that is not forwarded as it is.
    Http(Box<HttpRequest>),
}

impl Trigger {
    /// Whether the host can bind it: without a `dataType` every message of a batch is parsed, and one that is no JSON
    /// fails them all before the handler hears of any.
    pub fn check(&self) -> Result<(), String> {
        let Trigger::ServiceBusMany(messages, ManyAs::Parsed) = self else {
            return Ok(());
        };
        for message in messages {
            serde_json::from_str::<serde::de::IgnoredAny>(&message.body)
                .map_err(|error| format!("the batch cannot be bound: message {} is no JSON: {error}", message.sequence))?;
        }
        Ok(())
    }
}

/// What `dataType` makes of a batch of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManyAs {
    /// `"dataType": "string"`: each message is a string.
    Strings,
    /// No `dataType`: each message is parsed as JSON.
    Parsed,
}

/// The host's own metadata of an invocation.
#[derive(Clone, Debug)]
pub struct Sys {
    /// The function's name.
    pub method: String,
    /// The host's time.
    pub now: DateTime<Utc>,
    /// A new GUID.
    pub guid: String,
}

/// A Service Bus message as the host's receiver holds it.
#[derive(Clone, Debug, Default)]
pub struct BrokeredMessage {
    /// The body as text.
    pub body: String,
    /// The namespace's host name.
    pub namespace: String,
    /// The receiving client's name.
    pub client: String,
    /// Deliveries, this one included.
    pub delivery_count: u32,
    /// The lock.
    pub lock_token: String,
    /// When the broker drops it.
    pub expires_at: DateTime<Utc>,
    /// When it came in.
    pub enqueued_at: DateTime<Utc>,
    /// Its place in the queue.
    pub sequence: u64,
    /// The queue that it was dead-lettered from.
    pub dead_letter_source: Option<String>,
    /// `MessageId`.
    pub message_id: Option<String>,
    /// `ContentType`.
    pub content_type: Option<String>,
    /// `ReplyTo`.
    pub reply_to: Option<String>,
    /// `To`.
    pub to: Option<String>,
    /// `Label`, which newer clients call `Subject`.
    pub subject: Option<String>,
    /// `CorrelationId`.
    pub correlation_id: Option<String>,
    /// `SessionId`.
    pub session_id: Option<String>,
    /// `ReplyToSessionId`.
    pub reply_to_session_id: Option<String>,
    /// `PartitionKey`.
    pub partition_key: Option<String>,
    /// `TransactionPartitionKey`, also called via-partition key.
    pub transaction_partition_key: Option<String>,
    /// The sender's own properties.
    pub application_properties: Map<String, Value>,
}

/// What a timer brings.
#[derive(Clone, Debug)]
pub struct TimerInfo {
    /// The monitor's status; absent when `useMonitor` is off.
    pub status: Option<TimerStatus>,
    /// Whether this run makes up for a missed one.
    pub past_due: bool,
    /// What a try that is not the first is told.
    pub retry: Option<RetryContext>,
}

/// What the timer's monitor remembers.
#[derive(Clone, Debug)]
pub struct TimerStatus {
    /// The last run; absent before the first.
    pub last: Option<DateTime<Utc>>,
    /// The occurrence that is being run.
    pub next: DateTime<Utc>,
}

/// An HTTP request as the default, not forwarded, form shows it.
#[derive(Clone, Debug, Default)]
pub struct HttpRequest {
    /// The whole URL.
    pub url: String,
    /// The method.
    pub method: String,
    /// The query.
    pub query: Vec<(String, String)>,
    /// The headers, each with its values.
    pub headers: Vec<(String, Vec<String>)>,
    /// Route values; empty when the route has none.
    pub params: Vec<(String, String)>,
    /// The body; absent without a positive `Content-Length`.
    pub body: Option<HttpBody>,
}

/// The body of an HTTP request.
#[derive(Clone, Debug)]
pub enum HttpBody {
    /// Text of any kind.
    Text(String),
    /// `application/octet-stream` or `multipart/*`.
    Bytes(Vec<u8>),
}

/// The body of the invocation whose trigger's binding is named `binding`.
pub fn invocation_body(binding: &str, trigger: &Trigger, sys: &Sys) -> Value {
    let (data, mut metadata) = match trigger {
        Trigger::ServiceBusOne(message) => (text(&message.body), one_message(message)),
        Trigger::ServiceBusMany(messages, many_as) => many_messages(messages, *many_as),
        Trigger::EventGridOne(event) => one_event(event),
        Trigger::EventGridMany(events) => many_events(events),
        Trigger::Timer(timer) => (timer_info(timer), timer_metadata(timer)),
        Trigger::Http(request) => (http_request(request), http_metadata(request)),
    };
    metadata.set("sys", json!({ "MethodName": sys.method, "UtcNow": utc(sys.now), "RandGuid": sys.guid }));
    if let Trigger::ServiceBusOne(message) = trigger {
        // Last of all, so that even the host's own `sys` can be forged by a body, as it can be there.
        metadata.overwrite_with(&message.body);
    }
    let mut named = Map::new();
    named.insert(binding.to_owned(), data);
    json!({ "Data": named, "Metadata": metadata.finished() })
}

/// Binding data: keys compare without case, and keep the spelling that they came with first.
#[derive(Default)]
struct Metadata(Map<String, Value>);

impl Metadata {
    /// Sets a value; null takes the key away, since null metadata is not sent.
    fn set(&mut self, key: &str, value: Value) {
        let spelled = self.0.keys().find(|known| known.eq_ignore_ascii_case(key)).cloned();
        let key = spelled.unwrap_or_else(|| key.to_owned());
        if value.is_null() {
            self.0.remove(&key);
        } else {
            self.0.insert(key, value);
        }
    }

    fn set_text(&mut self, key: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.set(key, text(value));
        }
    }

    /// Writes the properties of a JSON object over what is there, as the host does.
    fn overwrite_with(&mut self, body: &str) {
        let Ok(Value::Object(properties)) = serde_json::from_str(body) else {
            return;
        };
        for (key, value) in properties {
            match value {
                Value::Array(_) => {}
                Value::Object(_) => self.set(&key, reprinted(value)),
                Value::Null => self.set(&key, Value::Null),
                Value::Bool(_) | Value::Number(_) | Value::String(_) => self.set(&key, text(&cast_to_string(&value))),
            }
        }
    }

    /// What is sent: keys that end in `trigger` are not.
    fn finished(self) -> Map<String, Value> {
        self.0.into_iter().filter(|(key, _)| !key.to_ascii_lowercase().ends_with("trigger")).collect()
    }
}

/// A string as JSON text inside a JSON string.
fn text(value: &str) -> Value {
    Value::String(json_literal(value))
}

/// Any value as JSON text inside a JSON string.
fn encoded(value: &Value) -> Value {
    Value::String(escaped_as_the_host(&value.to_string()))
}

fn json_literal(value: &str) -> String {
    escaped_as_the_host(&Value::from(value).to_string())
}

/// The host's serializer escapes three line separators that JSON itself does not require to be escaped.
fn escaped_as_the_host(json: &str) -> String {
    json.replace('\u{85}', "\\u0085").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

fn one_message(message: &BrokeredMessage) -> Metadata {
    let mut metadata = receiver_metadata(&message.namespace, &message.client);
    metadata.set("DeliveryCount", encoded(&json!(message.delivery_count)));
    metadata.set_text("DeadLetterSource", message.dead_letter_source.as_ref());
    metadata.set("LockToken", text(&message.lock_token));
    metadata.set("ExpiresAtUtc", json!(whole_seconds(message.expires_at)));
    metadata.set("ExpiresAt", json!(format!("{}+00:00", whole_seconds(message.expires_at))));
    metadata.set("EnqueuedTimeUtc", json!(whole_seconds(message.enqueued_at)));
    metadata.set("EnqueuedTime", json!(format!("{}+00:00", whole_seconds(message.enqueued_at))));
    metadata.set_text("MessageId", message.message_id.as_ref());
    metadata.set_text("ContentType", message.content_type.as_ref());
    metadata.set_text("ReplyTo", message.reply_to.as_ref());
    metadata.set("SequenceNumber", encoded(&json!(message.sequence)));
    metadata.set_text("To", message.to.as_ref());
    metadata.set_text("Subject", message.subject.as_ref());
    metadata.set_text("Label", message.subject.as_ref());
    metadata.set_text("CorrelationId", message.correlation_id.as_ref());
    metadata.set("ApplicationProperties", Value::Object(message.application_properties.clone()));
    metadata.set("UserProperties", Value::Object(message.application_properties.clone()));
    metadata.set_text("SessionId", message.session_id.as_ref());
    metadata.set_text("ReplyToSessionId", message.reply_to_session_id.as_ref());
    metadata.set_text("PartitionKey", message.partition_key.as_ref());
    metadata.set_text("TransactionPartitionKey", message.transaction_partition_key.as_ref());
    metadata
}

/// The objects of the receiver that are of no use over HTTP, and which the host sends all the same.
fn receiver_metadata(namespace: &str, client: &str) -> Metadata {
    let mut metadata = Metadata::default();
    for actions in ["MessageReceiver", "MessageSession", "MessageActions", "SessionActions", "ReceiveActions"] {
        metadata.set(actions, json!({}));
    }
    metadata.set(
        "Client",
        json!({
            "FullyQualifiedNamespace": namespace,
            "IsClosed": false,
            "TransportType": 0,
            "Identifier": client,
        }),
    );
    metadata
}

fn many_messages(messages: &[BrokeredMessage], many_as: ManyAs) -> (Value, Metadata) {
    let bodies: Vec<String> = messages
        .iter()
        .map(|message| match many_as {
            ManyAs::Strings => json_literal(&message.body),
            ManyAs::Parsed => minified(&message.body),
        })
        .collect();
    let data = Value::String(format!("[{}]", bodies.join(",")));
    let (namespace, client) = messages.first().map(|first| (first.namespace.as_str(), first.client.as_str())).unwrap_or_default();
    let mut metadata = receiver_metadata(namespace, client);
    let mut column = |key: &str, of: &dyn Fn(&BrokeredMessage) -> Value| {
        metadata.set(key, encoded(&messages.iter().map(of).collect()));
    };
    column("DeliveryCountArray", &|m| json!(m.delivery_count));
    column("DeadLetterSourceArray", &|m| json!(m.dead_letter_source));
    column("LockTokenArray", &|m| json!(m.lock_token));
    column("ExpiresAtUtcArray", &|m| json!(with_fraction(m.expires_at)));
    column("ExpiresAtArray", &|m| json!(format!("{}+00:00", with_fraction(m.expires_at))));
    column("EnqueuedTimeUtcArray", &|m| json!(with_fraction(m.enqueued_at)));
    column("EnqueuedTimeArray", &|m| json!(format!("{}+00:00", with_fraction(m.enqueued_at))));
    column("MessageIdArray", &|m| json!(m.message_id));
    column("SequenceNumberArray", &|m| json!(m.sequence));
    column("CorrelationIdArray", &|m| json!(m.correlation_id));
    column("ApplicationPropertiesArray", &|m| json!(m.application_properties));
    column("UserPropertiesArray", &|m| json!(m.application_properties));
    column("SessionIdArray", &|m| json!(m.session_id));
    (data, metadata)
}

fn one_event(event: &Value) -> (Value, Metadata) {
    let mut metadata = Metadata::default();
    if let Some(data) = event.get("data") {
        let data = reprinted(data.clone());
        metadata.set("data", if data.is_object() { data } else { encoded(&data) });
    }
    (reprinted(event.clone()), metadata)
}

fn many_events(events: &[String]) -> (Value, Metadata) {
    let compact: Vec<String> = events.iter().map(|event| minified(event)).collect();
    let data: Vec<String> = compact
        .iter()
        .map(|event| {
            serde_json::from_str::<std::collections::BTreeMap<String, Box<RawValue>>>(event)
                .ok()
                .and_then(|members| members.get("data").map(|data| data.get().to_owned()))
                .unwrap_or_else(|| "null".to_owned())
        })
        .collect();
    let mut metadata = Metadata::default();
    metadata.set("data", Value::String(format!("[{}]", data.join(","))));
    (Value::String(format!("[{}]", compact.join(","))), metadata)
}

fn timer_info(timer: &TimerInfo) -> Value {
    let status = timer.status.as_ref().map(|status| {
        let last = status.last.map_or_else(|| "0001-01-01T00:00:00+00:00".to_owned(), |last| format!("{}+00:00", with_fraction(last)));
        json!({
            "Last": last,
            "Next": format!("{}+00:00", with_fraction(status.next)),
            "LastUpdated": last,
        })
    });
    json!({
        "Schedule": { "AdjustForDST": true },
        "ScheduleStatus": status,
        "IsPastDue": timer.past_due,
    })
}

fn timer_metadata(timer: &TimerInfo) -> Metadata {
    let mut metadata = Metadata::default();
    if let Some(retry) = &timer.retry {
        metadata.set("RetryContext", retry.encoded());
    }
    metadata
}

fn http_request(request: &HttpRequest) -> Value {
    let mut body = Map::new();
    body.insert("Url".to_owned(), json!(request.url));
    body.insert("Method".to_owned(), json!(request.method));
    body.insert("Query".to_owned(), pairs(&request.query));
    let headers = request.headers.iter().map(|(name, values)| (name.clone(), json!(values)));
    body.insert("Headers".to_owned(), Value::Object(headers.collect()));
    if !request.params.is_empty() {
        body.insert("Params".to_owned(), pairs(&request.params));
    }
    body.insert(
        "Identities".to_owned(),
        json!([{
            "AuthenticationType": null,
            "IsAuthenticated": false,
            "Actor": null,
            "BootstrapContext": null,
            "Claims": [],
            "Label": null,
            "Name": null,
            "NameClaimType": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name",
            "RoleClaimType": "http://schemas.microsoft.com/ws/2008/06/identity/claims/role",
        }]),
    );
    match &request.body {
        None => {}
        Some(HttpBody::Text(text)) => {
            body.insert("Body".to_owned(), json!(text));
        }
        Some(HttpBody::Bytes(bytes)) => {
            use base64::Engine as _;
            let bytes = base64::engine::general_purpose::STANDARD.encode(bytes);
            body.insert("Body".to_owned(), json!(bytes));
        }
    }
    Value::Object(body)
}

fn http_metadata(request: &HttpRequest) -> Metadata {
    let mut metadata = Metadata::default();
    if let Some(HttpBody::Text(body)) = &request.body {
        metadata.overwrite_with(body);
    }
    for (key, value) in request.query.iter().filter(|(key, _)| !key.eq_ignore_ascii_case("code")) {
        metadata.set(key, text(value));
    }
    for (key, value) in &request.params {
        metadata.set(key, text(value));
    }
    metadata.set("Query", pairs(&request.query));
    let headers = request.headers.iter().map(|(name, values)| (name.clone(), json!(values.join(","))));
    metadata.set("Headers", Value::Object(headers.collect()));
    metadata
}

fn pairs(pairs: &[(String, String)]) -> Value {
    Value::Object(pairs.iter().map(|(k, v)| (k.clone(), json!(v))).collect())
}

/// A scalar as the host's cast of a JSON value to a string prints it.
fn cast_to_string(value: &Value) -> String {
    match value {
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::String(text) => match parsed_date(text) {
            Some(date) => date.wall().format("%m/%d/%Y %H:%M:%S").to_string(),
            None => text.clone(),
        },
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => float.to_string(),
            _ => number.to_string(),
        },
        Value::Null | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// A date as the host's JSON parser reads one out of a string.
enum ParsedDate {
    /// Without an offset, or with `Z`: the wall time and what is printed after it.
    AsWritten(NaiveDateTime, &'static str),
    /// With another offset: it becomes local time, which is UTC in Azure.
    Shifted(DateTime<FixedOffset>),
}

impl ParsedDate {
    fn wall(&self) -> NaiveDateTime {
        match self {
            ParsedDate::AsWritten(wall, _) => *wall,
            ParsedDate::Shifted(at) => at.naive_utc(),
        }
    }

    fn printed(&self) -> String {
        let suffix = match self {
            ParsedDate::AsWritten(_, suffix) => suffix,
            ParsedDate::Shifted(_) => "+00:00",
        };
        format!("{}{suffix}", with_fraction(self.wall().and_utc()))
    }
}

/// ISO 8601 with a `T` and whole seconds at least; anything else stays a string.
fn parsed_date(text: &str) -> Option<ParsedDate> {
    if !(19..=40).contains(&text.len()) || text.as_bytes().get(10) != Some(&b'T') {
        return None;
    }
    let date = if let Some(wall) = text.strip_suffix('Z') {
        ParsedDate::AsWritten(wall_time(wall)?, "Z")
    } else if let Some(wall) = wall_time(text) {
        ParsedDate::AsWritten(wall, "")
    } else {
        ParsedDate::Shifted(DateTime::parse_from_rfc3339(text).ok()?)
    };
    (1..=9999).contains(&date.wall().year()).then_some(date)
}

fn wall_time(text: &str) -> Option<NaiveDateTime> {
    let fraction = text.get(19..)?;
    let digits = fraction.strip_prefix('.').unwrap_or(fraction);
    if !fraction.is_empty() && (fraction == digits || digits.is_empty() || digits.len() > 7) {
        return None;
    }
    NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok()
}

/// A value that went through the host's JSON parser and printer: dates inside it are printed anew.
fn reprinted(value: Value) -> Value {
    match value {
        Value::String(text) => match parsed_date(&text) {
            Some(date) => Value::String(date.printed()),
            None => Value::String(text),
        },
        Value::Array(items) => items.into_iter().map(reprinted).collect(),
        Value::Object(members) => members.into_iter().map(|(key, value)| (key, reprinted(value))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

fn whole_seconds(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S").to_string()
}

/// Up to seven digits of the second, trailing zeros left out.
fn with_fraction(at: DateTime<Utc>) -> String {
    let ticks = at.timestamp_subsec_nanos() % 1_000_000_000 / 100;
    if ticks == 0 {
        return whole_seconds(at);
    }
    format!("{}.{}", whole_seconds(at), format!("{ticks:07}").trim_end_matches('0'))
}

fn utc(at: DateTime<Utc>) -> String {
    format!("{}Z", with_fraction(at))
}

/// JSON text without the white space between its tokens; the order of keys stays.
fn minified(json: &str) -> String {
    let mut compact = String::with_capacity(json.len());
    let (mut inside, mut escaped) = (false, false);
    for c in json.chars() {
        if inside {
            compact.push(c);
            inside = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if !c.is_ascii_whitespace() {
            compact.push(c);
            inside = c == '"';
        }
    }
    compact
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    fn fixture(name: &str) -> Value {
        let path = format!("{}/tests/fixtures/host/{name}", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn sys(method: &str) -> Sys {
        Sys { method: method.to_owned(), now: at("2026-01-15T10:00:00.1234567Z"), guid: "24ad4c06-24ad-4e5b-8294-3da9714877e9".to_owned() }
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn a_message(body: &str) -> BrokeredMessage {
        BrokeredMessage {
            body: body.to_owned(),
            namespace: "ns.servicebus.windows.net".to_owned(),
            client: "ns.servicebus.windows.net-4e773554".to_owned(),
            delivery_count: 1,
            lock_token: "4e773554-f6b7-4ea2-b07d-4c5fd5aba741".to_owned(),
            expires_at: at("2026-01-29T10:00:00.123Z"),
            enqueued_at: at("2026-01-15T10:00:00.123Z"),
            sequence: 12,
            message_id: some("msg-1"),
            session_id: some("session-1"),
            ..BrokeredMessage::default()
        }
    }

    fn one(body: &str) -> Value {
        let trigger = Trigger::ServiceBusOne(Box::new(a_message(body)));
        invocation_body("msg", &trigger, &sys("sbworker"))
    }

    #[test]
    fn one_message_equals_the_fixture() {
        let body = r#"{"requestId":"r-1","attempt":2,"urgent":true,"when":"2026-01-15T09:59:58Z","role":{"id":"x"},"tags":["a"]}"#;
        let mut message = a_message(body);
        message.content_type = some("application/json");
        message.subject = some("grant");
        message.correlation_id = some("corr-1");
        message.partition_key = some("session-1");
        message.application_properties.insert("attempt".to_owned(), json!(1));
        let body = invocation_body("msg", &Trigger::ServiceBusOne(Box::new(message)), &sys("sbworker"));
        assert_eq!(body, fixture("servicebus_one_derived.json"));
    }

    fn two_messages() -> Vec<BrokeredMessage> {
        let mut first = a_message(r#"{"a":1}"#);
        first.lock_token = "4e77-a".to_owned();
        let mut second = a_message(r#"{"a":2}"#);
        second.lock_token = "4e77-b".to_owned();
        second.message_id = some("msg-2");
        second.sequence = 13;
        second.correlation_id = some("c2");
        second.expires_at = at("2026-01-29T10:00:00.456Z");
        second.enqueued_at = at("2026-01-15T10:00:00.456Z");
        second.application_properties.insert("k".to_owned(), json!("v"));
        vec![first, second]
    }

    #[test]
    fn many_messages_equal_the_fixtures() {
        for (many_as, name) in [
            (ManyAs::Strings, "servicebus_many_dataType_string_derived.json"),
            (ManyAs::Parsed, "servicebus_many_no_dataType_derived.json"),
        ] {
            let trigger = Trigger::ServiceBusMany(two_messages(), many_as);
            assert_eq!(invocation_body("msgs", &trigger, &sys("sbworker")), fixture(name), "{name}");
        }
    }

    const EVENT: &str = r#"{"id": "831e1650-001e-001b-66ab-eeb76e069631",
        "topic":"/subscriptions/0/resourceGroups/rg/providers/Microsoft.EventGrid/topics/t","subject":"s",
        "eventType":"Demo.Created","eventTime":"2026-01-15T10:00:00.1234567Z","data": {"k":"v"},
        "dataVersion":"1.0","metadataVersion":"1"}"#;

    #[test]
    fn events_equal_the_fixtures() {
        let trigger = Trigger::EventGridOne(serde_json::from_str(EVENT).unwrap());
        assert_eq!(invocation_body("event", &trigger, &sys("eghandler")), fixture("eventgrid_one_derived.json"));
        let trigger = Trigger::EventGridMany(vec![EVENT.to_owned()]);
        assert_eq!(invocation_body("events", &trigger, &sys("eghandler")), fixture("eventgrid_many_derived.json"));
    }

    #[test]
    fn timers_equal_the_fixtures() {
        for (last, name) in
            [(None, "timer_first_run_derived.json"), (Some(at("2026-01-15T09:55:00.0012345Z")), "timer_usemonitor_derived.json")]
        {
            let trigger = Trigger::Timer(TimerInfo {
                status: Some(TimerStatus { last, next: at("2026-01-15T10:00:00Z") }),
                past_due: false,
                retry: None,
            });
            assert_eq!(invocation_body("timer", &trigger, &sys("sweep")), fixture(name), "{name}");
        }
    }

    #[test]
    fn a_timer_without_monitor_has_no_status() {
        let trigger = Trigger::Timer(TimerInfo { status: None, past_due: false, retry: None });
        let body = invocation_body("timer", &trigger, &sys("sweep"));
        assert_eq!(body["Data"]["timer"]["ScheduleStatus"], Value::Null);
    }

    #[test]
    fn an_http_request_equals_the_fixture() {
        let request = HttpRequest {
            url: "https://app.azurewebsites.net/api/order/7?x=1".to_owned(),
            method: "POST".to_owned(),
            query: vec![("x".to_owned(), "1".to_owned())],
            headers: vec![
                ("Content-Type".to_owned(), vec!["application/json".to_owned()]),
                ("Host".to_owned(), vec!["app.azurewebsites.net".to_owned()]),
            ],
            params: vec![("id".to_owned(), "7".to_owned())],
            body: Some(HttpBody::Text(r#"{"a":1}"#.to_owned())),
        };
        let body = invocation_body("req", &Trigger::Http(Box::new(request)), &sys("order"));
        assert_eq!(body, fixture("http_default_derived.json"));
    }

    #[test]
    fn a_bytes_body_of_a_request_is_base64_and_a_missing_one_is_absent() {
        let mut request = HttpRequest { body: Some(HttpBody::Bytes(vec![1, 2, 3])), ..HttpRequest::default() };
        let body = invocation_body("req", &Trigger::Http(Box::new(request.clone())), &sys("f"));
        assert_eq!(body["Data"]["req"]["Body"], "AQID");
        request.body = None;
        let body = invocation_body("req", &Trigger::Http(Box::new(request)), &sys("f"));
        assert_eq!(body["Data"]["req"].get("Body"), None);
    }

    #[test]
    fn keys_of_the_body_replace_the_brokers_metadata_whatever_their_case() {
        let body = one(r#"{"sessionid":"forged","DELIVERYCOUNT":7,"MessageId":null,"sys":{"MethodName":"x"}}"#);
        let metadata = &body["Metadata"];
        assert_eq!(metadata["SessionId"], "\"forged\"");
        assert_eq!(metadata["DeliveryCount"], "\"7\"");
        assert_eq!(metadata.get("MessageId"), None);
        assert_eq!(metadata["sys"]["MethodName"], "x");
    }

    #[test]
    fn only_a_json_object_is_written_over_metadata() {
        for body in ["[{\"SessionId\":\"forged\"}]", "\"SessionId\"", "not json", "7"] {
            assert_eq!(one(body)["Metadata"]["SessionId"], "\"session-1\"", "{body}");
        }
    }

    #[test]
    fn scalars_of_the_body_print_as_the_host_casts_them() {
        let rows = [
            ("1.5", "\"1.5\""),
            ("1e3", "\"1000\""),
            ("-2", "\"-2\""),
            ("false", "\"False\""),
            ("\"plain\"", "\"plain\""),
            ("\"2024-04-06T15:30:00.1234567+02:00\"", "\"04/06/2024 13:30:00\""),
            ("\"2026-01-15T09:59:58\"", "\"01/15/2026 09:59:58\""),
            ("\"2026-01-15\"", "\"2026-01-15\""),
            ("\"2026-13-15T09:59:58Z\"", "\"2026-13-15T09:59:58Z\""),
        ];
        for (value, printed) in rows {
            assert_eq!(one(&format!("{{\"v\":{value}}}"))["Metadata"]["v"], printed, "{value}");
        }
    }

    #[test]
    fn a_key_that_ends_in_trigger_is_not_sent() {
        assert_eq!(one(r#"{"myTrigger":"x"}"#)["Metadata"].get("myTrigger"), None);
    }

    #[test]
    fn a_message_that_is_json_text_is_doubly_encoded() {
        assert_eq!(one("plain")["Data"]["msg"], "\"plain\"");
        assert_eq!(one("a\u{2028}b")["Data"]["msg"], "\"a\\u2028b\"");
    }

    #[test]
    fn dates_inside_an_event_are_printed_anew() {
        let event = json!({ "eventTime": "2018-07-12T08:53:04.0000000Z", "data": { "at": "2026-01-15T10:00:00.500+02:00" } });
        let body = invocation_body("event", &Trigger::EventGridOne(event), &sys("f"));
        assert_eq!(body["Data"]["event"]["eventTime"], "2018-07-12T08:53:04Z");
        assert_eq!(body["Metadata"]["data"]["at"], "2026-01-15T08:00:00.5+00:00");
    }

    #[test]
    fn data_of_an_event_that_is_no_object_is_json_text() {
        let body = invocation_body("e", &Trigger::EventGridOne(json!({ "data": [1] })), &sys("f"));
        assert_eq!(body["Metadata"]["data"], "[1]");
        let body = invocation_body("e", &Trigger::EventGridOne(json!({})), &sys("f"));
        assert_eq!(body["Metadata"].get("data"), None);
    }

    #[test]
    fn an_instant_keeps_at_most_seven_digits() {
        let at = Utc.with_ymd_and_hms(2026, 1, 15, 10, 0, 0).unwrap() + chrono::Duration::nanoseconds(120_000_099);
        assert_eq!(with_fraction(at), "2026-01-15T10:00:00.12");
    }
}
