//! Sending: one message a request, or a batch, all or nothing.

use http::StatusCode;
use serde_json::Value;

use super::properties::{self, Sent};
use super::{error, queue};
use crate::face::{Answer, Call};
use crate::state::{Message, State};

/// The largest message or batch of the standard tier.
const LARGEST: usize = 256 * 1024;
const BATCH: &str = "application/vnd.microsoft.servicebus.json";

/// Puts the request's message or messages into the queue.
pub(super) fn answer(state: &mut State, call: &Call, queue: &str) -> Result<Answer, Answer> {
    let properties = call.header("brokerproperties").unwrap_or("").len();
    if call.body.len() + properties > LARGEST {
        let detail = format!("40300: The message is too large: {} bytes; the limit is {LARGEST}.", call.body.len() + properties);
        return Err(error(StatusCode::FORBIDDEN, &detail));
    }
    let content_type = call.header("content-type").unwrap_or("");
    let is_batch = content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(BATCH));
    let messages = if is_batch { batch(state, call)? } else { vec![single(state, call)?] };
    for message in messages {
        queue::enqueue(state, queue, message);
    }
    Ok(Answer::empty(StatusCode::CREATED))
}

fn bad_request(detail: &str) -> Answer {
    error(StatusCode::BAD_REQUEST, &format!("40000: {detail}"))
}

fn single(state: &State, call: &Call) -> Result<Message, Answer> {
    let sent = match call.header("brokerproperties") {
        None if call.headers.contains_key("brokerproperties") => {
            return Err(bad_request("The BrokerProperties header is not UTF-8."));
        }
        None => Sent::default(),
        Some(text) => {
            let json: Value =
                serde_json::from_str(text).map_err(|error| bad_request(&format!("The BrokerProperties header is no JSON: {error}.")))?;
            properties::read(&json).map_err(|why| bad_request(&why))?
        }
    };
    let mut message = message(state, sent, text(&call.body)?);
    message.content_type = call.header("content-type").map(str::to_owned);
    message.user_properties = properties::user_properties(&call.headers);
    Ok(message)
}

fn batch(state: &State, call: &Call) -> Result<Vec<Message>, Answer> {
    let items: Value = serde_json::from_slice(&call.body).map_err(|error| bad_request(&format!("The batch is no JSON: {error}.")))?;
    let Value::Array(items) = items else {
        return Err(bad_request("The batch must be a JSON array of messages."));
    };
    items.iter().map(|item| batch_item(state, item)).collect()
}

fn batch_item(state: &State, item: &Value) -> Result<Message, Answer> {
    let body =
        item.get("Body").and_then(Value::as_str).ok_or_else(|| bad_request("Each message of a batch needs a Body that is a string."))?;
    let sent = match item.get("BrokerProperties") {
        None | Some(Value::Null) => Sent::default(),
        Some(properties) => properties::read(properties).map_err(|why| bad_request(&why))?,
    };
    let mut message = message(state, sent, body.to_owned());
    if let Some(Value::Object(properties)) = item.get("UserProperties") {
        message.user_properties = properties.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    }
    Ok(message)
}

fn message(state: &State, sent: Sent, body: String) -> Message {
    let from = sent.scheduled_for.unwrap_or(state.now).max(state.now);
    Message {
        body,
        properties: sent.texts,
        scheduled_for: sent.scheduled_for,
        expires_at: sent.time_to_live.and_then(|lives| from.checked_add_signed(lives)),
        ..Message::default()
    }
}

fn text(body: &[u8]) -> Result<String, Answer> {
    String::from_utf8(body.to_vec()).map_err(|_| bad_request("The sandbox keeps message bodies that are UTF-8 text only."))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use serde_json::json;

    use crate::servicebus::answer;
    use crate::servicebus::tests::{call, namespace};

    #[test]
    fn a_message_keeps_what_its_sender_said() {
        let mut state = namespace(&["*"]);
        let send = call(&state, "POST", "/approval/messages")
            .with_header("content-type", "application/json")
            .with_header(
                "brokerproperties",
                r#"{"MessageId":"m-1","TimeToLive":300,"ScheduledEnqueueTimeUtc":"Thu, 15 Jan 2026 09:00:30 GMT"}"#,
            )
            .with_header("kind", "\"look\"")
            .with_body(r#"{"portcullis":{}}"#);
        assert_eq!(answer(&mut state, &send).status, 201);
        let message = &state.queues["approval"].messages[0];
        assert_eq!(message.body, r#"{"portcullis":{}}"#);
        assert_eq!(message.content_type.as_deref(), Some("application/json"));
        assert_eq!(message.properties["MessageId"], "m-1");
        assert_eq!(message.user_properties["kind"], "look");
        assert_eq!(message.scheduled_for, Some(state.now + TimeDelta::seconds(30)));
        assert_eq!(message.expires_at, Some(state.now + TimeDelta::seconds(330)));
        assert_eq!(message.enqueued_at, state.now);
        assert_eq!((state.log[0].what.as_str(), state.log[0].target.as_str()), ("send", "approval"));
    }

    #[test]
    fn a_message_without_an_id_gets_one() {
        let mut state = namespace(&["*"]);
        let send = call(&state, "POST", "/approval/messages").with_body("x");
        assert_eq!(answer(&mut state, &send).status, 201);
        assert_eq!(state.queues["approval"].messages[0].properties["MessageId"].as_str().unwrap().len(), 32);
    }

    #[test]
    fn a_batch_is_taken_whole_or_not_at_all() {
        let mut state = namespace(&["*"]);
        let batch = |body: serde_json::Value| {
            call(&namespace(&["*"]), "POST", "/approval/messages")
                .with_header("content-type", "application/vnd.microsoft.servicebus.json")
                .with_body(body.to_string())
        };
        let good = json!([
            { "Body": "1", "BrokerProperties": { "MessageId": "a", "TimeToLiveTimeSpan": "00:00:10" } },
            { "Body": "2", "UserProperties": { "kind": "look" } },
        ]);
        assert_eq!(answer(&mut state, &batch(good)).status, 201);
        assert_eq!(state.queues["approval"].messages.len(), 2);
        assert_eq!(state.queues["approval"].messages[1].user_properties["kind"], "look");
        for bad in [
            json!({ "Body": "1" }),
            json!([{ "Body": "1" }, { "Body": 2 }]),
            json!([{ "Body": "1", "BrokerProperties": { "TimeToLive": -1 } }]),
        ] {
            assert_eq!(answer(&mut state, &batch(bad)).status, 400);
        }
        assert_eq!(state.queues["approval"].messages.len(), 2);
    }

    #[test]
    fn what_is_too_large_or_malformed_is_refused() {
        let mut state = namespace(&["*"]);
        let send = |state: &_| call(state, "POST", "/approval/messages");
        let large = send(&state).with_body("x".repeat(256 * 1024 + 1));
        assert_eq!(answer(&mut state, &large).status, 403);
        let fits = send(&state).with_body("x".repeat(256 * 1024));
        assert_eq!(answer(&mut state, &fits).status, 201);
        for call in [
            send(&state).with_header("brokerproperties", "{"),
            send(&state).with_header("brokerproperties", r#"{"MessageId":7}"#),
            send(&state).with_body(vec![0xff, 0xfe]),
        ] {
            assert_eq!(answer(&mut state, &call).status, 400);
        }
    }
}
