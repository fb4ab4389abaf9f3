//! What the Functions host sends for a trigger, decoded.
//!
//! The host wraps a value by its own type: an object stays an object, bytes become base64, and everything else, a
//! message's text above all, becomes JSON text inside a JSON string. So JSON in a message arrives doubly encoded.
//! Of `Metadata` only the traces of a message's senders are read, which decide nothing: a message's own body can write over it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Datelike, Utc};
use opentelemetry::trace::SpanContext;
use portcullis_domain::plain::quoted;
use portcullis_domain::time;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::telemetry::trace;

/// The body of an invocation: the one value that it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Invocation {
    value: Value,
    metadata: Value,
}

/// Why a body is not an invocation that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is not a JSON object.
    #[error("the body is not a JSON object: {0}")]
    NotAnObject(String),
    /// There is no `Data`, or not exactly one value in it.
    #[error("`Data` must hold the trigger's one value, and holds {0}")]
    NotOneValue(usize),
    /// The value is of another kind than the trigger's.
    #[error("the trigger's value is not {0}")]
    OtherKind(&'static str),
}

/// What a timer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimerInfo {
    /// Whether the host was down when it should have rung.
    pub past_due: bool,
    /// When it last rang; nothing at its first time.
    pub last: Option<DateTime<Utc>>,
    /// When it was to ring.
    pub next: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "Data", default)]
    data: Map<String, Value>,
    #[serde(rename = "Metadata", default)]
    metadata: Value,
}

/// The property of a message that has the trace of its sender.
const DIAGNOSTIC_ID: &str = "Diagnostic-Id";

/// Where the host has the properties of a message, or of each message of a batch.
const PROPERTIES: [&str; 4] = ["ApplicationProperties", "UserProperties", "ApplicationPropertiesArray", "UserPropertiesArray"];

impl Invocation {
    /// Reads the body of an invocation. The value's name is whatever function.json calls it; unknown keys are passed
    /// over.
    pub fn read(body: &[u8]) -> Result<Self, Unreadable> {
        // Without this a list would be read as an object whose keys it leaves out.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(Unreadable::NotAnObject("it does not begin with `{`".to_owned()));
        }
        let body: Body = serde_json::from_slice(body).map_err(|error| Unreadable::NotAnObject(quoted(&error.to_string())))?;
        let count = body.data.len();
        let mut values = body.data.into_iter().map(|(_, value)| value);
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(Invocation { value, metadata: body.metadata }),
            _ => Err(Unreadable::NotOneValue(count)),
        }
    }

    /// The spans in which the messages of the invocation were sent, as far as their senders say so.
    pub fn senders(&self) -> Vec<SpanContext> {
        let properties = PROPERTIES.into_iter().find_map(|name| self.metadata.get(name)).cloned().map(|all| decoded(all, MOST_ENCODINGS));
        let each = match properties {
            Some(Value::Array(each)) => each,
            one => one.into_iter().collect(),
        };
        each.iter().filter_map(sender).collect()
    }

    /// The events of an Event Grid trigger, of cardinality one or many, as objects.
    pub fn events(self) -> Result<Vec<Value>, Unreadable> {
        let events = match decoded(self.value, MOST_ENCODINGS) {
            Value::Array(events) => events.into_iter().map(|event| decoded(event, MOST_ENCODINGS)).collect(),
            event => vec![event],
        };
        if events.is_empty() || !events.iter().all(Value::is_object) {
            return Err(Unreadable::OtherKind("an event or a list of events"));
        }
        Ok(events)
    }

    /// The texts of a Service Bus trigger: one of cardinality one, all of a batch.
    pub fn messages(self) -> Result<Vec<String>, Unreadable> {
        let text = match self.value {
            Value::String(text) => text,
            // What the host did not encode as text.
            Value::Object(_) => return Ok(vec![self.value.to_string()]),
            Value::Array(batch) if !batch.is_empty() => return Ok(batch.into_iter().map(message_of_batch).collect()),
            _ => return Err(Unreadable::OtherKind("a message's text")),
        };
        match serde_json::from_str(&text) {
            Ok(Value::Array(batch)) if !batch.is_empty() => Ok(batch.into_iter().map(message_of_batch).collect()),
            Ok(Value::String(inner)) => Ok(vec![without_one_more_encoding(inner)]),
            Ok(_) => Ok(vec![text]),
            Err(_) => Ok(vec![from_base64(&text).unwrap_or(text)]),
        }
    }

    /// What a timer trigger says. It is of no use but to show, so nothing in it is a reason not to run.
    pub fn timer(self) -> TimerInfo {
        let timer = decoded(self.value, MOST_ENCODINGS);
        let status = |name: &str| {
            let text = timer.get("ScheduleStatus")?.get(name)?.as_str()?;
            // The host writes the first of all days for "never".
            time::parse(text).filter(|time| time.year() > 1)
        };
        TimerInfo { past_due: timer.get("IsPastDue").and_then(Value::as_bool).unwrap_or(false), last: status("Last"), next: status("Next") }
    }
}

/// Whose name of the property has the case that it was sent in, which HTTP does not promise to keep.
fn sender(properties: &Value) -> Option<SpanContext> {
    let (_, id) = properties.as_object()?.iter().find(|(name, _)| name.eq_ignore_ascii_case(DIAGNOSTIC_ID))?;
    trace::parse(id.as_str()?)
}

/// The host's own encoding and one more that a client added by mistake.
const MOST_ENCODINGS: usize = 2;

/// A value out of the JSON texts around it.
fn decoded(value: Value, levels: usize) -> Value {
    let Value::String(text) = &value else { return value };
    let inner = serde_json::from_str(text).ok().or_else(|| serde_json::from_str(&from_base64(text)?).ok());
    match inner {
        Some(inner) if levels > 0 => decoded(inner, levels - 1),
        _ => value,
    }
}

/// In a batch the host hands texts on as texts, JSON texts as what they hold, and bytes as base64.
fn message_of_batch(message: Value) -> String {
    match message {
        Value::String(text) => from_base64(&text).unwrap_or_else(|| without_one_more_encoding(text)),
        other => other.to_string(),
    }
}

/// Clients that serialise a text they had serialised before are common enough; a third level is not.
fn without_one_more_encoding(text: String) -> String {
    match serde_json::from_str(&text) {
        Ok(Value::String(inner)) => inner,
        _ => text,
    }
}

/// Bytes come as base64; only a JSON object inside is taken for that, since many a word is base64 by chance.
fn from_base64(text: &str) -> Option<String> {
    let inner = String::from_utf8(BASE64_STANDARD.decode(text).ok()?).ok()?;
    matches!(serde_json::from_str(&inner), Ok(Value::Object(_) | Value::Array(_))).then_some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: &Value) -> Invocation {
        Invocation::read(body.to_string().as_bytes()).unwrap()
    }

    fn fixture(text: &str) -> Invocation {
        Invocation::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn one_event_and_a_batch_of_events_are_read_alike() {
        let one = fixture(include_str!("../../tests/fixtures/host/eventgrid_one_derived.json")).events().unwrap();
        let many = fixture(include_str!("../../tests/fixtures/host/eventgrid_many_derived.json")).events().unwrap();
        assert_eq!(one, many);
        assert_eq!(one[0]["eventTime"], "2026-01-15T10:00:00.1234567Z");
    }

    #[test]
    fn an_event_is_found_under_every_encoding() {
        let event = json!({"id": "1"});
        let base64 = BASE64_STANDARD.encode(event.to_string());
        for value in [
            event.clone(),
            json!([event]),
            json!(event.to_string()),
            json!(json!([event]).to_string()),
            json!(json!([event.to_string()]).to_string()),
            json!(json!(event.to_string()).to_string()),
            json!(base64),
        ] {
            assert_eq!(read(&json!({"Data": {"event": value}})).events().as_deref(), Ok(&[event.clone()][..]), "{value}");
        }
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for value in [json!(null), json!(1), json!("text"), json!([]), json!("[]"), json!([1]), json!("[null]"), json!([{"id": 1}, "x"])] {
            assert!(read(&json!({"Data": {"event": value}})).events().is_err(), "{value}");
        }
    }

    #[test]
    fn a_doubly_encoded_message_is_its_senders_text() {
        let messages = fixture(include_str!("../../tests/fixtures/host/servicebus_one_derived.json")).messages().unwrap();
        let expected = r#"{"requestId":"r-1","attempt":2,"urgent":true,"when":"2026-01-15T09:59:58Z","role":{"id":"x"},"tags":["a"]}"#;
        assert_eq!(messages, [expected]);
    }

    #[test]
    fn a_batch_of_messages_is_read_in_both_of_its_forms() {
        let expected = [r#"{"a":1}"#, r#"{"a":2}"#];
        for text in [
            include_str!("../../tests/fixtures/host/servicebus_many_dataType_string_derived.json"),
            include_str!("../../tests/fixtures/host/servicebus_many_no_dataType_derived.json"),
        ] {
            assert_eq!(fixture(text).messages().unwrap(), expected);
        }
    }

    #[test]
    fn a_batch_of_bytes_and_one_that_is_no_text_are_read_alike() {
        let texts = [r#"{"portcullis":{"kind":"look"}}"#, "no JSON"];
        let bytes = json!([BASE64_STANDARD.encode(texts[0]), texts[1]]);
        let values = json!([{"portcullis": {"kind": "look"}}, texts[1]]);
        for batch in [json!(bytes.to_string()), bytes, json!(values.to_string()), values] {
            assert_eq!(read(&json!({"Data": {"m": batch}})).messages().unwrap(), texts, "{batch}");
        }
        assert!(read(&json!({"Data": {"m": []}})).messages().is_err());
    }

    #[test]
    fn a_message_is_found_under_every_encoding() {
        let text = r#"{"portcullis":{"kind":"look"}}"#;
        let once = json!(text);
        let twice = json!(once.to_string());
        let thrice = json!(twice.to_string());
        for value in [json!({"portcullis": {"kind": "look"}}), once, twice, thrice, json!(BASE64_STANDARD.encode(text))] {
            assert_eq!(read(&json!({"Data": {"m": value}})).messages().unwrap(), [text], "{value}");
        }
    }

    #[test]
    fn a_message_that_is_no_json_is_its_own_text() {
        for text in ["", "hello", "abcd", "12", "true", "{broken", "ÅÄÖ \u{1F6AA}", "\u{0}"] {
            let encoded = json!(json!(text).to_string());
            assert_eq!(read(&json!({"Data": {"m": encoded}})).messages().unwrap(), [text], "{text}");
        }
    }

    #[test]
    fn a_fourth_encoding_stays() {
        let text = json!(json!(json!(json!("{}").to_string()).to_string()).to_string());
        assert_eq!(read(&json!({"Data": {"m": text}})).messages().unwrap(), ["\"{}\""]);
    }

    #[test]
    fn metadata_that_the_body_wrote_over_changes_nothing() {
        let body = json!({
            "Data": {"message": "\"{\\\"MessageId\\\":\\\"forged\\\"}\""},
            "Metadata": {"MessageId": "\"forged\"", "DeliveryCount": {"odd": []}, "sys": null},
            "Unknown": 1,
        });
        assert_eq!(read(&body).messages().unwrap(), [r#"{"MessageId":"forged"}"#]);
        assert!(Invocation::read(br#"{"Data":{"m":"x"},"Metadata":"not even an object"}"#).is_ok());
    }

    #[test]
    fn the_senders_of_messages_are_read_where_the_host_has_them() {
        const SENDER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let one = json!({"Diagnostic-Id": SENDER});
        for (metadata, count) in [
            (json!({"ApplicationProperties": one}), 1),
            (json!({"UserProperties": {"diagnostic-id": SENDER, "other": 1}}), 1),
            (json!({"ApplicationPropertiesArray": json!([one, {}, one]).to_string()}), 2),
            (json!({"ApplicationProperties": {"Diagnostic-Id": "forged"}}), 0),
            (json!({"ApplicationProperties": {"Diagnostic-Id": 7}}), 0),
            (json!({"ApplicationProperties": "text"}), 0),
            (json!("not even an object"), 0),
            (json!(null), 0),
        ] {
            let senders = read(&json!({"Data": {"m": "x"}, "Metadata": metadata})).senders();
            assert_eq!(senders.len(), count, "{metadata}");
            assert!(senders.iter().all(|sender| trace::text(sender) == SENDER));
        }
    }

    #[test]
    fn timers_are_read_in_every_form_of_their_dates() {
        let first = fixture(include_str!("../../tests/fixtures/host/timer_first_run_derived.json")).timer();
        assert_eq!(first, TimerInfo { past_due: false, last: None, next: time::parse("2026-01-15T10:00:00Z") });
        let later = fixture(include_str!("../../tests/fixtures/host/timer_usemonitor_derived.json")).timer();
        assert_eq!(later.last, time::parse("2026-01-15T09:55:00.0012345Z"));
        let fractions = ["", ".1", ".12", ".123", ".1234", ".12345", ".123456", ".1234567"];
        for fraction in fractions {
            for zone in ["", "Z", "+00:00", "+02:00", "-11:30"] {
                let text = format!("2026-01-15T10:00:00{fraction}{zone}");
                let timer = json!({"Data": {"timer": {"ScheduleStatus": {"Last": text}, "IsPastDue": true}}});
                let timer = read(&timer).timer();
                assert!(timer.past_due && timer.last.is_some(), "{text}");
            }
        }
    }

    #[test]
    fn a_timer_runs_whatever_its_dates_are() {
        for status in [json!(null), json!({"Last": "yesterday"}), json!({"Last": 5}), json!([])] {
            let timer = read(&json!({"Data": {"timer": {"ScheduleStatus": status}}})).timer();
            assert_eq!(timer, TimerInfo::default());
        }
        for timer in [json!("text"), json!(null), json!(7), json!([])] {
            assert_eq!(read(&json!({"Data": {"timer": timer}})).timer(), TimerInfo::default());
        }
    }

    #[test]
    fn a_body_without_exactly_one_value_is_unreadable() {
        for (body, why) in [
            (r#"{}"#, Unreadable::NotOneValue(0)),
            (r#"{"Data":{}}"#, Unreadable::NotOneValue(0)),
            (r#"{"Data":{"a":1,"b":2}}"#, Unreadable::NotOneValue(2)),
        ] {
            assert_eq!(Invocation::read(body.as_bytes()), Err(why));
        }
        for body in ["", "null", "[]", "{", r#"{"Data":null}"#, r#"{"Data":[]}"#, "\u{feff}{}"] {
            assert!(matches!(Invocation::read(body.as_bytes()), Err(Unreadable::NotAnObject(_))), "{body}");
        }
    }
}
