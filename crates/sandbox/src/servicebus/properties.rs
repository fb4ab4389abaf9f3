//! Broker properties and user properties as they travel in HTTP headers and in batches (documentation of the
//! REST data plane).

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use http::HeaderMap;
use serde_json::{Value, json};

use crate::face::{http_date, parse_http_date};
use crate::state::Message;

/// Broker properties that are text and come back as they were sent.
const TEXTS: [&str; 8] = ["MessageId", "SessionId", "PartitionKey", "CorrelationId", "Label", "ReplyTo", "ReplyToSessionId", "To"];
/// `MessageId` and `SessionId` have at most so many characters.
const LONGEST_ID: usize = 128;
/// What the broker answers for a message that lives for ever, in seconds.
const FOR_EVER: f64 = 922_337_203_685.477_5;

/// What a sender may say of a message.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sent {
    /// Texts by name.
    pub texts: BTreeMap<String, Value>,
    /// From when it is visible.
    pub scheduled_for: Option<DateTime<Utc>>,
    /// How long it lives.
    pub time_to_live: Option<TimeDelta>,
}

/// Reads broker properties. Unknown names are ignored silently, as the broker does, and so is a
/// `ScheduledEnqueueTimeUtc` in another form than HTTP's: the message is then visible at once.
pub(super) fn read(properties: &Value) -> Result<Sent, String> {
    let Value::Object(properties) = properties else {
        return Err("BrokerProperties must be a JSON object.".to_owned());
    };
    let mut sent = Sent::default();
    for (name, value) in properties.iter().filter(|(_, value)| !value.is_null()) {
        match (name.as_str(), value) {
            (text, Value::String(value)) if TEXTS.contains(&text) => {
                if matches!(text, "MessageId" | "SessionId") && value.chars().count() > LONGEST_ID {
                    return Err(format!("{name} may have at most {LONGEST_ID} characters."));
                }
                sent.texts.insert(name.clone(), json!(value));
            }
            (text, _) if TEXTS.contains(&text) => return Err(format!("{name} must be a string.")),
            ("TimeToLive", value) => sent.time_to_live = Some(seconds(value)?),
            ("TimeToLiveTimeSpan", Value::String(span)) => sent.time_to_live = Some(time_span(span)?),
            ("ScheduledEnqueueTimeUtc", Value::String(at)) => sent.scheduled_for = parse_http_date(at),
            (_, _) => {}
        }
    }
    Ok(sent)
}

fn seconds(value: &Value) -> Result<TimeDelta, String> {
    let wrong = || "TimeToLive must be a positive number of seconds.".to_owned();
    let seconds = value.as_f64().filter(|seconds| *seconds > 0.0).ok_or_else(wrong)?;
    // Beyond any calendar it is for ever, as the broker's own default is.
    let milliseconds = (seconds.min(1e11) * 1000.0).round();
    TimeDelta::try_milliseconds(milliseconds as i64).ok_or_else(wrong)
}

/// `[d.]hh:mm:ss[.fff]`.
fn time_span(text: &str) -> Result<TimeDelta, String> {
    let wrong = || format!("TimeToLiveTimeSpan '{text}' is no time span such as 00:05:00.");
    let (days, clock) = match text.split_once('.') {
        Some((days, clock)) if clock.contains(':') => (days.parse::<i64>().map_err(|_| wrong())?, clock),
        _ => (0, text),
    };
    let parts: Vec<&str> = clock.split(':').collect();
    let [hours, minutes, seconds] = parts.as_slice() else {
        return Err(wrong());
    };
    let (hours, minutes): (i64, i64) = (hours.parse().map_err(|_| wrong())?, minutes.parse().map_err(|_| wrong())?);
    let seconds: f64 = seconds.parse().map_err(|_| wrong())?;
    let parts = [
        TimeDelta::try_days(days),
        TimeDelta::try_hours(hours),
        TimeDelta::try_minutes(minutes),
        TimeDelta::try_milliseconds((seconds * 1000.0).round() as i64),
    ];
    let span = parts.into_iter().try_fold(TimeDelta::zero(), |sum, part| sum.checked_add(&part?)).ok_or_else(wrong)?;
    if span > TimeDelta::zero() { Ok(span) } else { Err(wrong()) }
}

/// A sender's own properties: every header that neither HTTP nor Azure gives a meaning. A value in double quotes
/// is a string; without them it is a number, a boolean or a date, or it is left out.
pub(super) fn user_properties(headers: &HeaderMap) -> BTreeMap<String, Value> {
    headers
        .iter()
        .filter(|(name, _)| !is_standard(name.as_str()))
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), typed(std::str::from_utf8(value.as_bytes()).ok()?)?)))
        .collect()
}

fn is_standard(name: &str) -> bool {
    name.starts_with("x-ms-")
        || name.starts_with("sec-")
        || matches!(
            name,
            "accept"
                | "accept-charset"
                | "accept-encoding"
                | "accept-language"
                | "authorization"
                | "brokerproperties"
                | "cache-control"
                | "connection"
                | "content-encoding"
                | "content-language"
                | "content-length"
                | "content-location"
                | "content-md5"
                | "content-type"
                | "cookie"
                | "date"
                | "expect"
                | "from"
                | "host"
                | "if-match"
                | "if-modified-since"
                | "if-none-match"
                | "if-unmodified-since"
                | "keep-alive"
                | "origin"
                | "pragma"
                | "range"
                | "referer"
                | "te"
                | "traceparent"
                | "tracestate"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
                | "user-agent"
                | "via"
                | "warning"
        )
}

fn typed(text: &str) -> Option<Value> {
    let text = text.trim();
    if let Some(string) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return Some(json!(string.replace("\\\"", "\"")));
    }
    if let Some(date) = parse_http_date(text) {
        return Some(json!(date));
    }
    serde_json::from_str::<Value>(&text.to_ascii_lowercase()).ok().filter(|value| value.is_number() || value.is_boolean())
}

/// The value of the `BrokerProperties` header of a message that is given out.
pub(super) fn written(message: &Message) -> String {
    let since = message.enqueued_at;
    let lives = message.expires_at.map_or(FOR_EVER, |at| (at - since).num_milliseconds() as f64 / 1000.0);
    let mut properties = json!({
        "DeliveryCount": message.delivery_count,
        "EnqueuedSequenceNumber": message.sequence,
        "EnqueuedTimeUtc": http_date(since),
        "SequenceNumber": message.sequence,
        "State": "Active",
        "TimeToLive": lives,
    });
    if let Some((token, until)) = &message.lock {
        properties["LockToken"] = json!(token);
        properties["LockedUntilUtc"] = json!(http_date(*until));
    }
    for (name, value) in &message.properties {
        properties[name] = value.clone();
    }
    properties.to_string()
}

/// A user property as a header.
pub(super) fn header(value: &Value) -> String {
    match value {
        Value::String(text) => format!("\"{}\"", text.replace('"', "\\\"")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_properties_are_read_and_unknown_ones_ignored() {
        let sent = read(&json!({
            "MessageId": "m", "Label": "l", "TimeToLive": 300.5, "Priority": 1, "messageid": "x",
            "ScheduledEnqueueTimeUtc": "Thu, 15 Jan 2026 09:00:30 GMT",
        }))
        .unwrap();
        assert_eq!(sent.texts, BTreeMap::from([("MessageId".into(), json!("m")), ("Label".into(), json!("l"))]));
        assert_eq!(sent.time_to_live, Some(TimeDelta::milliseconds(300_500)));
        assert_eq!(sent.scheduled_for, parse_http_date("Thu, 15 Jan 2026 09:00:30 GMT"));
    }

    #[test]
    fn a_schedule_in_another_form_means_now() {
        for at in ["2026-01-15T09:00:30Z", "Thu, 15 Jan 2026 09:00:30 +0000", "1/15/2026 9:00:30 AM", ""] {
            assert_eq!(read(&json!({ "ScheduledEnqueueTimeUtc": at })).unwrap(), Sent::default(), "{at}");
        }
        assert_eq!(read(&json!({ "ScheduledEnqueueTime": "x" })).unwrap(), Sent::default());
    }

    #[test]
    fn wrong_values_are_refused() {
        for properties in [
            json!([]),
            json!({ "MessageId": 1 }),
            json!({ "MessageId": "m".repeat(129) }),
            json!({ "TimeToLive": 0 }),
            json!({ "TimeToLive": "300" }),
            json!({ "TimeToLiveTimeSpan": "five minutes" }),
            json!({ "TimeToLiveTimeSpan": "00:00:00" }),
            json!({ "TimeToLiveTimeSpan": "106751991167.9000000000:00:00" }),
            json!({ "TimeToLiveTimeSpan": "00:00:-1e300" }),
        ] {
            assert!(read(&properties).is_err(), "{properties}");
        }
    }

    #[test]
    fn a_time_span_has_days_and_fractions() {
        let lives = |span: &str| read(&json!({ "TimeToLiveTimeSpan": span })).unwrap().time_to_live.unwrap();
        assert_eq!(lives("00:05:00"), TimeDelta::minutes(5));
        assert_eq!(lives("1.02:00:00.5"), TimeDelta::milliseconds(93_600_500));
        assert_eq!(lives("00:00:01.250"), TimeDelta::milliseconds(1_250));
    }

    #[test]
    fn custom_headers_are_typed_by_their_quotation_marks() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("kind", "\"look\""),
            ("attempt", "3"),
            ("final", "True"),
            ("at", "Thu, 15 Jan 2026 09:00:30 GMT"),
            ("bare", "text"),
            ("x-ms-retrypolicy", "NoRetry"),
            ("traceparent", "\"00-1-2-01\""),
            ("content-type", "text/plain"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        assert_eq!(
            user_properties(&headers),
            BTreeMap::from([
                ("at".into(), json!("2026-01-15T09:00:30Z")),
                ("attempt".into(), json!(3)),
                ("final".into(), json!(true)),
                ("kind".into(), json!("look")),
            ])
        );
    }
}
