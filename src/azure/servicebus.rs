//! Service Bus: sending, over azure_messaging_servicebus with a client of our own underneath.
//!
//! The published crate signs with a shared key, knows one cloud's host and writes the scheduled time in a form that
//! the service takes for "now". The client injected here replaces all three: the signature by an Entra token, the
//! host by the namespace of the settings, the time by the documented form. So there is no key anywhere.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::http::Method;
use azure_core::time::OffsetDateTime;
use azure_core_of_servicebus as legacy;
use azure_messaging_servicebus::prelude::QueueClient;
use azure_messaging_servicebus::service_bus::{SendMessageOptions, SettableBrokerProperties};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use legacy::headers::HeaderName;
use portcullis_domain::time;
use serde_json::Value;
use tokio::time::timeout;
use url::Url;

use super::channel::{Answer, Attempts, Channel, Outgoing};
use super::error::{CallFailed, FailureKind, Service};

/// The queues of one namespace.
#[derive(Clone, Debug)]
pub struct Bus {
    channel: Channel,
    anonymous: Channel,
    endpoint: Url,
}

/// A dead letter that is held until its lock ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its place in the queue.
    pub sequence: u64,
    /// When it was sent, if the broker says so.
    pub sent: Option<DateTime<Utc>>,
    /// How often it was delivered, its being held counted.
    pub deliveries: u32,
    /// Why the broker gave it up; empty where it does not say.
    pub reason: String,
    /// It.
    pub body: String,
    /// The path at which it is given back or taken away.
    pub lock: String,
}

impl DeadLetter {
    /// Reads the answer to a peek-lock of a namespace.
    ///
    /// # Errors
    /// What it lacks.
    pub fn read(answer: &Answer, endpoint: &Url) -> Result<Self, &'static str> {
        let properties = answer.header("brokerproperties").and_then(|text| serde_json::from_str::<Value>(text).ok());
        let properties = properties.ok_or("the answer has no BrokerProperties that can be read")?;
        // The token goes to the namespace of the settings, whatever host the answer names.
        let lock = answer.header("location").and_then(|location| endpoint.join(location).ok());
        let lock = lock.filter(|url| ["http", "https"].contains(&url.scheme())).map(|url| url.path().to_owned());
        let sequence = properties["SequenceNumber"].as_u64();
        let (Some(lock), Some(sequence)) = (lock, sequence) else {
            return Err("the answer names no lock or no sequence number");
        };
        Ok(DeadLetter {
            sequence,
            sent: properties["EnqueuedTimeUtc"].as_str().and_then(time::of_header),
            deliveries: properties["DeliveryCount"].as_u64().and_then(|count| u32::try_from(count).ok()).unwrap_or_default(),
            reason: answer.header("deadletterreason").unwrap_or_default().trim_matches('"').to_owned(),
            body: String::from_utf8_lossy(&answer.body).into_owned(),
            lock,
        })
    }
}

/// How a message is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The message's id, for tracing; at most 128 characters (documentation).
    pub message_id: Option<String>,
    /// When it becomes visible; absent means now. Whole seconds: the rest is cut.
    pub at: Option<DateTime<Utc>>,
    /// How long it lives, at least a second.
    pub time_to_live: Option<Duration>,
    /// What it belongs to, for tracing.
    pub correlation_id: Option<String>,
}

impl Bus {
    pub(super) fn new(channel: Channel, anonymous: Channel, endpoint: Url) -> Self {
        Bus { channel, anonymous, endpoint }
    }

    /// The clock of Service Bus: for the one case in which the store cannot say what time it is and a message has to
    /// go out for later. If Service Bus does not answer here, it does not take the message either.
    ///
    /// Asked without a token: the refusal carries the `Date` too, and no token is lost to a 401.
    pub async fn clock(&self) -> Result<DateTime<Utc>, CallFailed> {
        let what = "asking Service Bus for its time";
        let answer = self.anonymous.send(Outgoing::get(what.to_owned(), self.endpoint.clone())).await?;
        let no_date = || CallFailed::malformed(Service::ServiceBus, Method::Get, what, &answer, "the answer has no Date");
        answer.date().ok_or_else(no_date)
    }

    /// Sends one message, once: whoever needs it sent sends again, since a doubled wake-up is harmless. It fails where the queue does not
    /// answer within four seconds, so that there is time to keep the message elsewhere.
    pub async fn send(&self, queue: &str, body: &str, options: Options) -> Result<(), CallFailed> {
        let what = format!("sending a message to queue {queue}");
        let failed = |kind, message: &str| CallFailed::without_answer(Service::ServiceBus, Method::Post, &what, kind, message);
        let injected = Arc::new(Injected { bus: self.clone(), what: what.clone(), failure: Mutex::new(None) });
        // The crate insists on a key and signs with it; the signature is thrown away below.
        let client = QueueClient::new(injected.clone(), "unused", queue, "unused", "unused".to_owned())
            .map_err(|error| failed(FailureKind::Unreachable, &error.to_string()))?;
        let properties = properties(options).map_err(|message| failed(FailureKind::Refused, message))?;
        let options = SendMessageOptions {
            content_type: Some("application/json".to_owned()),
            broker_properties: Some(properties),
            custom_properties: None,
        };
        let error = match timeout(TAKEN_WITHIN, client.send_message(body, Some(options))).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => {
                return Err(failed(FailureKind::Doubtful, &format!("there was no answer within {} s", TAKEN_WITHIN.as_secs())));
            }
        };
        let kept = injected.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(kept.unwrap_or_else(|| failed(FailureKind::Unreachable, &error.to_string())))
    }

    /// Takes the next dead letter of a queue that nobody holds, and holds it; nothing where there is none.
    pub async fn take_dead_letter(&self, queue: &str) -> Result<Option<DeadLetter>, CallFailed> {
        let what = format!("taking a dead letter of queue {queue}");
        let path = format!("/{queue}/$DeadLetterQueue/messages/head");
        let mut call = self.settling(&what, Method::Post, &path);
        // The least that the documentation allows: nobody waits for a dead letter.
        call.url.set_query(Some("timeout=1"));
        let answer = self.channel.call(call).await?;
        if answer.status == NO_CONTENT {
            return Ok(None);
        }
        let letter = DeadLetter::read(&answer, &self.endpoint);
        letter.map(Some).map_err(|why| CallFailed::malformed(Service::ServiceBus, Method::Post, &what, &answer, why))
    }

    /// Gives a dead letter back.
    pub async fn give_back(&self, queue: &str, letter: &DeadLetter) -> Result<(), CallFailed> {
        let what = format!("giving dead letter {} of queue {queue} back", letter.sequence);
        self.channel.call(self.settling(&what, Method::Put, &letter.lock)).await.map(drop)
    }

    /// Takes a dead letter away for good.
    pub async fn complete(&self, queue: &str, letter: &DeadLetter) -> Result<(), CallFailed> {
        let what = format!("taking dead letter {} of queue {queue} away", letter.sequence);
        self.channel.call(self.settling(&what, Method::Delete, &letter.lock)).await.map(drop)
    }

    /// A call of a receiver, sent once: a lock that was lost shows the letter again.
    fn settling(&self, what: &str, method: Method, path: &str) -> Outgoing {
        let mut url = self.endpoint.clone();
        url.set_path(path);
        let headers = vec![("x-ms-retrypolicy", "NoRetry".to_owned())];
        Outgoing { what: what.to_owned(), method, url, headers, body: Bytes::new(), attempts: Attempts::Once }
    }
}

/// The status of a receive that found nothing.
const NO_CONTENT: u16 = 204;

/// How long a queue is waited for to take a message.
const TAKEN_WITHIN: Duration = Duration::from_secs(4);

fn properties(options: Options) -> Result<SettableBrokerProperties, &'static str> {
    let at = options.at.map(|at| OffsetDateTime::from_unix_timestamp(at.timestamp()));
    Ok(SettableBrokerProperties {
        message_id: options.message_id,
        correlation_id: options.correlation_id,
        time_to_live: options.time_to_live.map(|time| time.max(Duration::from_secs(1))),
        scheduled_enqueue_time_utc: at.transpose().map_err(|_| "the time that it is scheduled for is beyond the calendar")?,
        ..SettableBrokerProperties::default()
    })
}

/// The client underneath azure_messaging_servicebus, for one message.
#[derive(Debug)]
struct Injected {
    bus: Bus,
    what: String,
    /// The failure in our own form, which that crate's errors cannot carry whole.
    failure: Mutex<Option<CallFailed>>,
}

#[async_trait]
impl legacy::HttpClient for Injected {
    async fn execute_request(&self, request: &legacy::Request) -> legacy::Result<legacy::Response> {
        match self.bus.channel.call(self.outgoing(request)?).await {
            Ok(answer) => {
                let status = legacy::StatusCode::try_from(answer.status).unwrap_or(legacy::StatusCode::Created);
                let body = Box::pin(legacy::BytesStream::new(answer.body));
                Ok(legacy::Response::new(status, legacy::headers::Headers::new(), body))
            }
            Err(failed) => {
                let text = failed.to_string();
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed);
                Err(legacy::error::Error::message(legacy::error::ErrorKind::Other, text))
            }
        }
    }
}

impl Injected {
    fn outgoing(&self, request: &legacy::Request) -> legacy::Result<Outgoing> {
        let mut url = self.bus.endpoint.clone();
        url.set_path(request.url().path());
        let legacy::Body::Bytes(body) = request.body().clone() else {
            return Err(legacy::error::Error::message(legacy::error::ErrorKind::Other, "a message's body is never a stream"));
        };
        let header = |name: &'static str| request.headers().get_optional_string(&HeaderName::from_static(name));
        // Only what is named here goes on: the shared-key signature does not.
        let mut headers = vec![("x-ms-retrypolicy", "NoRetry".to_owned())];
        headers.extend(header("content-type").map(|value| ("content-type", value)));
        headers.extend(header("brokerproperties").map(|value| ("brokerproperties", documented(&value))));
        Ok(Outgoing {
            what: self.what.clone(),
            method: Method::Post,
            url,
            headers,
            body: Bytes::copy_from_slice(&body),
            attempts: Attempts::Once,
        })
    }
}

/// Rewrites the scheduled time, which the crate ends in `+0000`, to the documented form with `GMT`: the service takes
/// any other form for "now" without a word.
fn documented(properties: &str) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(properties) else {
        return properties.to_owned();
    };
    if let Some(at) = value.get_mut("ScheduledEnqueueTimeUtc")
        && let Some(time) = at.as_str().and_then(|text| DateTime::parse_from_rfc2822(text).ok())
    {
        *at = Value::from(time.to_utc().format("%a, %d %b %Y %H:%M:%S GMT").to_string());
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::channel::tests::{FarEnd, Reply, channel};
    use super::*;

    fn bus(replies: Vec<Reply>) -> (Bus, Arc<FarEnd>) {
        let (channel, far_end) = channel(Service::ServiceBus, replies);
        (Bus::new(channel.clone(), channel, Url::parse("https://127.0.0.1:4002").unwrap()), far_end)
    }

    fn header(far_end: &FarEnd, name: &'static str) -> Option<String> {
        far_end.asked.lock().unwrap()[0].headers().get_optional_string(&azure_core::http::headers::HeaderName::from_static(name))
    }

    #[tokio::test]
    async fn a_message_goes_to_the_configured_host_without_a_key() {
        let (bus, far_end) = bus(vec![Reply::Status(201, vec![], "")]);
        let options = Options {
            message_id: Some("m".to_owned()),
            at: Some("2026-11-08T08:49:37.9Z".parse().unwrap()),
            time_to_live: Some(Duration::from_secs(300)),
            correlation_id: Some("c".to_owned()),
        };
        bus.send("approval", r#"{"portcullis":{}}"#, options).await.unwrap();
        assert_eq!(far_end.asked.lock().unwrap()[0].url().as_str(), "https://127.0.0.1:4002/approval/messages");
        assert_eq!(header(&far_end, "authorization"), None);
        assert_eq!(header(&far_end, "x-ms-retrypolicy").as_deref(), Some("NoRetry"));
        let properties: Value = serde_json::from_str(&header(&far_end, "brokerproperties").unwrap()).unwrap();
        let expected = serde_json::json!({
            "MessageId": "m", "CorrelationId": "c", "TimeToLive": 300.0, "ScheduledEnqueueTimeUtc": "Sun, 08 Nov 2026 08:49:37 GMT",
        });
        assert_eq!(properties, expected);
    }

    #[tokio::test]
    async fn the_clock_is_read_from_a_refusal() {
        let refused = |headers| vec![Reply::Status(401, headers, "")];
        let (known, _) = bus(refused(vec![("date", "Thu, 15 Jan 2026 10:00:00 GMT")]));
        assert_eq!(known.clock().await.unwrap(), "2026-01-15T10:00:00Z".parse::<DateTime<Utc>>().unwrap());
        let (unknown, _) = bus(refused(vec![]));
        assert_eq!(unknown.clock().await.unwrap_err().kind, FailureKind::Malformed);
    }

    #[tokio::test]
    async fn a_message_for_now_says_nothing_of_a_time() {
        let (bus, far_end) = bus(vec![Reply::Status(201, vec![], "")]);
        bus.send("approval", "{}", Options::default()).await.unwrap();
        assert_eq!(header(&far_end, "brokerproperties").as_deref(), Some("{}"));
    }

    #[tokio::test]
    async fn a_failed_send_is_told_whole_and_was_sent_once() {
        for (reply, kind) in [
            (Reply::Status(410, vec![], "<Error><Code>410</Code><Detail>no such queue</Detail></Error>"), FailureKind::NotFound),
            (Reply::Status(429, vec![("retry-after", "1")], ""), FailureKind::Throttled),
            (Reply::Status(503, vec![], ""), FailureKind::Throttled),
            (Reply::Status(403, vec![], ""), FailureKind::Refused),
            (Reply::CutAfterSending, FailureKind::Doubtful),
            (Reply::NeverConnects, FailureKind::Unreachable),
        ] {
            let (bus, far_end) = bus(vec![reply]);
            assert_eq!(bus.send("approval", "{}", Options::default()).await.unwrap_err().kind, kind);
            assert_eq!(far_end.asked.lock().unwrap().len(), 1);
        }
    }
}
