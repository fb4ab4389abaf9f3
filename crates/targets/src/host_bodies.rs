//! What the Functions host hands over: invocations, the events and messages in them, traces and paths.

use chrono::Datelike;
use portcullis::functions::Message;
use portcullis::functions::jit_activity::{Activity, NotUsed};
use portcullis::host::invocation::Invocation;
use portcullis::host::router::is_plain;
use portcullis::telemetry::trace;
use serde_json::{Value, json};

use crate::checks::{SENTENCE, is_told, json, survives_json, text};

/// An invocation says what it is about, or why it cannot be used; a message's text is found under every encoding of the host.
pub(crate) fn invocations(data: &[u8]) {
    match Invocation::read(data) {
        Ok(invocation) => {
            an_invocation(&invocation);
            for sender in invocation.senders() {
                assert_eq!(trace::parse(&trace::text(&sender)).as_ref(), Some(&sender));
            }
            // A number that is too large for anybody stops nothing where nobody looks.
            if let Some(value) = json(data).as_mut().and_then(|body| body.get_mut("Data").map(Value::take)) {
                assert_eq!(value.as_object().map(serde_json::Map::len), Some(1), "an invocation is about one value");
                let unsaid = json!({"Data": value, "Metadata": "another", "More": [1]}).to_string();
                let other = Invocation::read(unsaid.as_bytes()).unwrap_or_else(|why| panic!("{why}"));
                assert!(other.senders().is_empty(), "no metadata names a sender");
                let what = |one: &Invocation| (one.clone().events(), one.clone().messages());
                assert_eq!(what(&other), what(&invocation), "nothing but the value says what it is about");
            }
        }
        Err(why) => is_told(&why, SENTENCE),
    }
    let Some(text) = text(data) else { return };
    let once = json!({"Data": {"message": json!(text).to_string()}}).to_string();
    let messages = Invocation::read(once.as_bytes()).and_then(Invocation::messages).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(messages.len(), 1);
    let is_a_text = matches!(serde_json::from_str(text), Ok(Value::String(_)));
    assert!(is_a_text || messages == [text], "the sender's text is another: {messages:?}");
}

fn an_invocation(invocation: &Invocation) {
    match invocation.clone().events() {
        Ok(events) => {
            assert!(!events.is_empty(), "an invocation without an event is one that cannot be used");
            for event in &events {
                assert!(event.is_object());
                an_event(event);
            }
        }
        Err(why) => is_told(&why, SENTENCE),
    }
    match invocation.clone().messages() {
        Ok(messages) => {
            assert!(!messages.is_empty(), "an invocation without a message is one that cannot be used");
            messages.iter().for_each(|message| a_message(message));
        }
        Err(why) => is_told(&why, SENTENCE),
    }
    let timer = invocation.clone().timer();
    assert!([timer.last, timer.next].into_iter().flatten().all(|time| (2..=9999).contains(&time.year())), "{timer:?}");
}

/// An event is one of JIT's, one about something else, or is refused with a reason; in both schemas the same.
pub(crate) fn events(data: &[u8]) {
    if let Some(event) = json(data) {
        an_event(&event);
    }
}

fn an_event(event: &Value) {
    let activity = match Activity::read(event) {
        Ok(activity) => activity,
        Err(NotUsed::Malformed(why)) => return is_told(&why, SENTENCE),
        Err(NotUsed::Foreign(operation)) => return assert!(!operation.is_empty()),
        Err(NotUsed::NotDone(became)) => {
            let says = [event.get("eventType"), event.get("type"), event.pointer("/data/status")];
            return assert!(says.into_iter().flatten().any(|said| *said == json!(became)), "{became} is not what it says");
        }
    };
    survives_json(&activity);
    assert_eq!(activity.object_id, activity.object_id.to_ascii_lowercase());
    let id = activity.id(event);
    assert!(id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id} would be a name in the store");
    if let Some(operation) = event.pointer("/data/operationName").and_then(Value::as_str) {
        let mut shouted = event.clone();
        shouted["data"]["operationName"] = json!(operation.to_ascii_uppercase());
        assert_eq!(Activity::read(&shouted).as_ref(), Ok(&activity), "an operation is the same in every letter case");
    }
    let mut fields = event.as_object().cloned().unwrap_or_default();
    if let (Some(time), false) = (fields.remove("eventTime"), fields.contains_key("time")) {
        fields.insert("time".to_owned(), time);
        assert_eq!(Activity::read(&Value::Object(fields)).as_ref(), Ok(&activity), "an event is the same in both schemas");
    }
}

/// A message is one of ours, and the same when it is sent again, or is refused with a reason.
pub(crate) fn messages(data: &[u8]) {
    if let Some(text) = text(data) {
        a_message(text);
    }
}

fn a_message(body: &str) {
    let message = match Message::read(body) {
        Ok(message) => message,
        Err(why) => return is_told(&why, SENTENCE),
    };
    assert_eq!(Message::read(&message.body()).as_ref(), Ok(&message));
    assert_eq!(serde_json::from_str::<Value>(&message.body()).ok().and_then(|body| Some(body.as_object()?.len())), Some(1));
    let again = message.again();
    assert_eq!((again.tries(), again.queue()), (message.tries().saturating_add(1), message.queue()));
    assert!(message.id().len() == 16 && Message::read(&again.body()).as_ref() == Ok(&again));
}

/// Headers and paths that a caller chooses: what is passed on has one form, and what can be understood in two ways is not.
pub(crate) fn headers_and_paths(data: &[u8]) {
    for line in text(data).unwrap_or_default().lines() {
        if let Some(passed_on) = trace::parse(line) {
            assert_eq!(trace::text(&passed_on), line);
            assert!(line.len() == 55 && line.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b) || b == b'-'));
        }
        if is_plain(line) {
            assert!(line.starts_with('/') && !line.contains("//") && !line.contains(['\\', ';']), "{line}");
            for hidden in ["%2e", "%2f", "%5c", "%00", "/./", "/../"] {
                assert!(!format!("{line}/").to_ascii_lowercase().contains(hidden), "{line}");
            }
        }
    }
}
