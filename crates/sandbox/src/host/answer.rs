//! What the host makes of a handler's answer.

use base64::Engine as _;
use serde_json::{Map, Value};

/// What an answer means to the host.
#[derive(Clone, Debug, PartialEq)]
pub enum Read {
    /// The invocation succeeded.
    Result(HandlerResult),
    /// Success without a result: the host waits for one until the function's timeout.
    Hangs,
    /// The invocation failed, with the reason that the host logs.
    Failed(String),
}

/// The result of an invocation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HandlerResult {
    /// Values for output bindings.
    pub outputs: Map<String, Value>,
    /// Lines for the log.
    pub logs: Vec<String>,
    /// The return value.
    pub return_value: Value,
}

/// Reads an answer by the host's rules.
pub fn read(status: u16, content_type: Option<&str>, body: &[u8]) -> Read {
    if !(200..300).contains(&status) {
        return Read::Failed(format!("the handler answered {status}, which is no success"));
    }
    if body.iter().all(u8::is_ascii_whitespace) {
        return Read::Hangs;
    }
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !["application/json", "text/json"].iter().any(|json| media_type.eq_ignore_ascii_case(json)) {
        return Read::Failed(format!("the handler answered with media type '{media_type}': it must be application/json"));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Null) => Read::Hangs,
        Ok(Value::Object(members)) => result(members),
        Ok(_) => Read::Failed("the handler's answer is no JSON object: Invalid HttpResponseMessage".to_owned()),
        Err(error) => Read::Failed(format!("the handler's answer is no JSON: Invalid HttpResponseMessage: {error}")),
    }
}

fn result(members: Map<String, Value>) -> Read {
    let mut result = HandlerResult::default();
    for (key, value) in members {
        match (key.to_ascii_lowercase().as_str(), value) {
            ("outputs", Value::Object(outputs)) => result.outputs = outputs,
            ("logs", Value::Array(lines)) => result.logs = lines.iter().map(plain).collect(),
            ("outputs" | "logs", Value::Null) => {}
            ("outputs", _) => return Read::Failed("the handler's Outputs is no object".to_owned()),
            ("logs", _) => return Read::Failed("the handler's Logs is no array".to_owned()),
            ("returnvalue", value) => result.return_value = value,
            _ => {}
        }
    }
    Read::Result(result)
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// How an output binding wants its strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStrings {
    /// Without `dataType`: a string that happens to be base64 is decoded.
    Guessed,
    /// With `"dataType": "binary"`: kept as it is, for the binding to decode.
    Kept,
}

/// What an output binding gets of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// A value that is not a string.
    Json(Value),
    /// A string.
    Text(String),
    /// What a string that is valid base64 becomes, whether it was meant so or not.
    Bytes(Vec<u8>),
}

/// Turns a value of `Outputs` into what the binding gets.
pub fn output(value: &Value, strings: OutputStrings) -> Output {
    match value {
        Value::String(text) => match (strings, base64::engine::general_purpose::STANDARD.decode(text)) {
            (OutputStrings::Guessed, Ok(bytes)) => Output::Bytes(bytes),
            (OutputStrings::Guessed | OutputStrings::Kept, _) => Output::Text(text.clone()),
        },
        other => Output::Json(other.clone()),
    }
}

/// The messages that a Service Bus output becomes: one for each item of an array, else one.
pub fn output_messages(value: &Value, strings: OutputStrings) -> Vec<String> {
    let one = |value: &Value| match output(value, strings) {
        Output::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Output::Text(text) => text,
        Output::Json(value) => format!("{value:#}"),
    };
    match value {
        Value::Array(items) => items.iter().map(one).collect(),
        Value::String(text) => match serde_json::from_str(text) {
            Ok(Value::Array(items)) => items.iter().map(one).collect(),
            _ => vec![one(value)],
        },
        Value::Null => Vec::new(),
        other => vec![one(other)],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const JSON: Option<&str> = Some("application/json; charset=utf-8");

    #[test]
    fn recorded_answers_are_read() {
        let path = |name: &str| format!("{}/tests/fixtures/host/{name}", env!("CARGO_MANIFEST_DIR"));
        let ok = read(200, JSON, &std::fs::read(path("response_ok.json")).unwrap());
        assert_eq!(ok, Read::Result(HandlerResult { logs: vec!["handled".to_owned()], ..HandlerResult::default() }));
        let Read::Result(outputs) = read(200, JSON, &std::fs::read(path("response_outputs.json")).unwrap()) else {
            panic!("the answer with outputs is a success");
        };
        assert_eq!(outputs.outputs["outQueue"], json!(["m1", "m2"]));
        assert_eq!(outputs.outputs["res"]["statusCode"], 202);
    }

    #[test]
    fn an_empty_success_and_null_hang() {
        for body in ["", "  ", "null"] {
            assert_eq!(read(200, JSON, body.as_bytes()), Read::Hangs, "{body:?}");
        }
        assert_eq!(read(204, None, b""), Read::Hangs);
    }

    #[test]
    fn other_answers_fail() {
        let rows: [(u16, Option<&str>, &str); 9] = [
            (500, JSON, "{}"),
            (404, JSON, "{}"),
            (301, JSON, "{}"),
            (200, Some("text/plain"), "{}"),
            (200, None, "{}"),
            (200, JSON, "{"),
            (200, JSON, "[]"),
            (200, JSON, "{\"Outputs\": []}"),
            (200, JSON, "{\"Logs\": {}}"),
        ];
        for (status, content_type, body) in rows {
            let read = read(status, content_type, body.as_bytes());
            assert!(matches!(read, Read::Failed(_)), "{status} {content_type:?} {body}: {read:?}");
        }
    }

    #[test]
    fn keys_compare_without_case_and_unknown_ones_are_ignored() {
        let read = read(200, Some("TEXT/JSON"), br#"{"outputs":null,"LOGS":["a",1],"returnValue":7,"other":1}"#);
        let expected = HandlerResult { logs: vec!["a".to_owned(), "1".to_owned()], return_value: json!(7), ..HandlerResult::default() };
        assert_eq!(read, Read::Result(expected));
    }

    #[test]
    fn a_string_that_happens_to_be_base64_is_decoded() {
        assert_eq!(output(&json!("abcd"), OutputStrings::Guessed), Output::Bytes(vec![0x69, 0xb7, 0x1d]));
        assert_eq!(output(&json!("abcd"), OutputStrings::Kept), Output::Text("abcd".to_owned()));
        assert_eq!(output(&json!("{\"a\":1}"), OutputStrings::Guessed), Output::Text("{\"a\":1}".to_owned()));
    }

    #[test]
    fn an_array_output_is_one_message_an_item() {
        assert_eq!(output_messages(&json!(["m1", "m2"]), OutputStrings::Guessed), ["m1", "m2"]);
        assert_eq!(output_messages(&json!("[\"m1\"]"), OutputStrings::Guessed), ["m1"]);
        assert_eq!(output_messages(&json!({"a": 1}), OutputStrings::Guessed), ["{\n  \"a\": 1\n}"]);
        assert!(output_messages(&Value::Null, OutputStrings::Guessed).is_empty());
    }
}
