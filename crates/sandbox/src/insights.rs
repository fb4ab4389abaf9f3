//! Application Insights' ingestion: items of telemetry for one component, whose local authentication is off.
//!
//! The form of requests and answers is that of the public swagger file (ApplicationInsights-Home, `EndpointSpecs`); that only
//! v2.1 takes tokens of Entra ID, as that is remembered, and how a caller without one or without the role is answered, that of the documentation of
//! Entra authentication for Application Insights. What is checked of an item is a guess: the real one takes more than it says.

use std::io::Read;

use chrono::DateTime;
use flate2::read::GzDecoder;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::entra::{self, NotAuthenticated};
use crate::face::{Answer, Call};
use crate::state::{State, TelemetryItem};

/// The instrumentation key of the world's one component.
pub const KEY: &str = "5a4db0c5-0000-4000-8000-000000000a11";

const AUDIENCES: &[&str] = &["https://monitor.azure.com"];
const PUBLISH: &str = "Microsoft.Insights/Telemetry/Write";
/// What no body may unpack to. The real limit is not known.
const LARGEST: usize = 64 << 20;

/// The connection string of the component, whose endpoint is this.
pub fn connection_string(endpoint: &str) -> String {
    format!("InstrumentationKey={KEY};IngestionEndpoint={endpoint}/")
}

/// Answers one request to the ingestion endpoint.
pub fn answer(state: &mut State, call: &Call) -> Answer {
    match call.path.trim_end_matches('/') {
        "/v2.1/track" | "/v2/track" if call.method != Method::POST => refused(StatusCode::METHOD_NOT_ALLOWED, "Items are sent with POST."),
        "/v2.1/track" => match authorized(state, call).and_then(|()| items(call)) {
            Ok(items) => track(state, items),
            Err(answer) => answer,
        },
        // It knows keys alone, and the component takes none.
        "/v2/track" => refused(StatusCode::BAD_REQUEST, "Authentication not supported"),
        _ => refused(StatusCode::NOT_FOUND, "There is nothing at this path."),
    }
}

fn authorized(state: &State, call: &Call) -> Result<(), Answer> {
    let caller = entra::authenticate(state, call, AUDIENCES).map_err(|why| {
        let message = match why {
            NotAuthenticated::Missing => "Authorization required".to_owned(),
            NotAuthenticated::Expired => "The token has expired.".to_owned(),
            NotAuthenticated::Invalid(why) => why,
        };
        refused(StatusCode::UNAUTHORIZED, &message)
    })?;
    match entra::may_anywhere(state, &caller, PUBLISH) {
        true => Ok(()),
        false => Err(refused(StatusCode::FORBIDDEN, "The credentials do not grant access to ingest telemetry into the component.")),
    }
}

/// The items of a body: a JSON array, one item, or one a line; packed or not.
fn items(call: &Call) -> Result<Vec<Value>, Answer> {
    let malformed = |why: String| refused(StatusCode::BAD_REQUEST, &why);
    let body = match call.header("content-encoding").map(str::to_ascii_lowercase).as_deref() {
        None | Some("identity") => call.body.to_vec(),
        Some("gzip") => unpacked(&call.body).map_err(|error| malformed(format!("The body is no gzip: {error}.")))?,
        Some(other) => return Err(malformed(format!("The Content-Encoding '{other}' is not supported; send gzip or none."))),
    };
    if body.len() > LARGEST {
        return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large."));
    }
    let read: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(&body).into_iter().collect();
    let mut read = read.map_err(|error| malformed(format!("The body is no JSON: {error}.")))?;
    match read.as_mut_slice() {
        [] => Err(malformed("The body holds no item.".to_owned())),
        [Value::Array(items)] => Ok(std::mem::take(items)),
        _ => Ok(read),
    }
}

fn unpacked(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    let limit = u64::try_from(LARGEST).unwrap_or(u64::MAX).saturating_add(1);
    GzDecoder::new(body).take(limit).read_to_end(&mut unpacked)?;
    Ok(unpacked)
}

fn track(state: &mut State, items: Vec<Value>) -> Answer {
    let received = items.len();
    let mut errors = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        match problem(&item) {
            None => state.telemetry.push(TelemetryItem { at: state.now, item }),
            Some(message) => errors.push(json!({"index": index, "statusCode": 400, "message": message})),
        }
    }
    let accepted = received - errors.len();
    let status = match (errors.is_empty(), accepted) {
        (true, _) => StatusCode::OK,
        (false, 0) => StatusCode::BAD_REQUEST,
        (false, _) => StatusCode::PARTIAL_CONTENT,
    };
    Answer::json(status, &json!({"itemsReceived": received, "itemsAccepted": accepted, "errors": errors}))
}

/// What keeps an item from being taken.
fn problem(item: &Value) -> Option<&'static str> {
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    if !text("iKey").is_some_and(|key| key.eq_ignore_ascii_case(KEY)) {
        return Some("Invalid instrumentation key");
    }
    if text("time").and_then(|time| DateTime::parse_from_rfc3339(time).ok()).is_none() {
        return Some("103: Field 'time' on type 'Envelope' is required but missing or of another form");
    }
    if text("name").is_none_or(str::is_empty) {
        return Some("103: Field 'name' on type 'Envelope' is required but missing or empty");
    }
    let data = item.get("data");
    let is_data = data.is_some_and(|data| data["baseType"].is_string() && data["baseData"].is_object());
    (!is_data).then_some("103: Field 'data' on type 'Envelope' is required but missing or of another form")
}

/// The refusal of a whole call, in the form of the endpoint.
pub fn refused(status: StatusCode, message: &str) -> Answer {
    let error = json!({"index": 0, "statusCode": status.as_u16(), "message": message});
    Answer::json(status, &json!({"itemsReceived": 0, "itemsAccepted": 0, "errors": [error]}))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::state::testing::one_application;

    fn call(path: &str) -> Call {
        let token = entra::mint(&one_application(&[]), "oid", "https://monitor.azure.com").unwrap();
        Call::new("POST", path).with_bearer(&token)
    }

    fn item(name: &str) -> Value {
        let data = json!({"baseType": "MetricData", "baseData": {"ver": 2}});
        json!({"iKey": KEY, "time": "2026-01-15T09:00:00.000Z", "name": name, "data": data})
    }

    fn told(state: &mut State, call: &Call) -> (u16, Value) {
        let answer = answer(state, call);
        (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap())
    }

    #[test]
    fn items_come_as_a_list_one_a_line_or_alone_and_packed_or_not() {
        let mut state = one_application(&[PUBLISH]);
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(json!([item("a"), item("b")]).to_string().as_bytes()).unwrap();
        let packed = call("/v2.1/track").with_header("content-encoding", "gzip").with_body(packed.finish().unwrap());
        assert_eq!(told(&mut state, &packed), (200, json!({"itemsReceived": 2, "itemsAccepted": 2, "errors": []})));
        for body in [item("c").to_string(), format!("{}\n{}\n", item("d"), item("e"))] {
            assert_eq!(told(&mut state, &call("/v2.1/track").with_body(body)).0, 200);
        }
        let names: Vec<&str> = state.telemetry.iter().map(|one| one.item["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn what_is_no_item_is_refused_and_the_others_are_taken() {
        let mut state = one_application(&[PUBLISH]);
        let mut wrong = vec![item("")];
        for field in ["iKey", "time", "data"] {
            let mut one = item("x");
            one[field] = json!("another");
            wrong.push(one);
        }
        for one in wrong {
            let (status, body) = told(&mut state, &call("/v2.1/track").with_body(json!([item("a"), one]).to_string()));
            assert_eq!((status, &body["itemsAccepted"], &body["errors"][0]["index"]), (206, &json!(1), &json!(1)), "{one}");
            assert_eq!(told(&mut state, &call("/v2.1/track").with_body(one.to_string())).0, 400);
        }
        assert_eq!(state.telemetry.len(), 4);
        for body in ["", "{", "no"] {
            assert_eq!(told(&mut state, &call("/v2.1/track").with_body(body)).0, 400, "{body}");
        }
    }

    #[test]
    fn only_who_may_publish_is_let_in_and_only_where_tokens_are_known() {
        let mut state = one_application(&[PUBLISH]);
        let body = item("a").to_string();
        assert_eq!(told(&mut state, &Call::new("POST", "/v2.1/track").with_body(body.clone())).0, 401);
        assert_eq!(told(&mut state, &call("/v2/track").with_body(body.clone())).0, 400);
        assert_eq!(told(&mut one_application(&[]), &call("/v2.1/track").with_body(body)).0, 403);
        assert_eq!(told(&mut state, &call("/v3/track")).0, 404);
        assert!(state.telemetry.is_empty());
    }
}
