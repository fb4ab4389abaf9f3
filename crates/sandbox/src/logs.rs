//! The Logs Ingestion API: rows for one stream of one data collection rule.

use std::io::Read;

use flate2::read::GzDecoder;
use http::{Method, StatusCode};
use serde_json::Value;

use crate::entra::{self, NotAuthenticated};
use crate::face::{Answer, Call};
use crate::state::{Caller, IngestedRow, State};

/// The immutable id of the world's one data collection rule.
pub const RULE_ID: &str = "dcr-5a4db0c5000040008000000000000001";
/// The one stream of the rule.
pub const STREAM: &str = "Custom-Portcullis_CL";

const AUDIENCES: &[&str] = &["https://monitor.azure.com"];
const INGEST: &str = "Microsoft.Insights/Telemetry/Write";
/// The limit of one call (documentation: 1 MB), which the body as sent must keep, and as the world's switch says the
/// unpacked one.
const LARGEST_CALL: usize = 1 << 20;
/// What no body may unpack to: a megabyte can hold a gigabyte.
const LARGEST_UNPACKED: usize = 64 << 20;
/// Text beyond it is cut off without a word (documentation: 64 KB a field).
const LONGEST_FIELD: usize = 64 * 1024;

/// Answers one request to the ingestion endpoint.
pub fn answer(state: &mut State, call: &Call) -> Answer {
    let segments = call.segments();
    let (rule, stream) = match segments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["dataCollectionRules", rule, "streams", stream] => (rule, stream),
        _ => return Answer::error(StatusCode::NOT_FOUND, "NotFound", "The resource was not found."),
    };
    if call.method != Method::POST {
        return Answer::error(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "Rows are sent with POST.");
    }
    let caller = match authenticated(state, call) {
        Ok(caller) => caller,
        Err(answer) => return answer,
    };
    let answer = match ingest(state, call, &caller, rule, stream) {
        Ok(()) => Answer::empty(StatusCode::NO_CONTENT),
        Err(answer) => answer,
    };
    state.record(&caller, "logs", "ingest", &format!("{rule}/{stream}"), answer.status.as_u16());
    answer
}

fn authenticated(state: &State, call: &Call) -> Result<Caller, Answer> {
    entra::authenticate(state, call, AUDIENCES).map_err(|why| {
        let message = match why {
            NotAuthenticated::Missing => "The authentication token was not provided.".to_owned(),
            NotAuthenticated::Expired => "The authentication token has expired.".to_owned(),
            NotAuthenticated::Invalid(why) => why,
        };
        Answer::error(StatusCode::UNAUTHORIZED, "InvalidToken", &message)
    })
}

fn ingest(state: &mut State, call: &Call, caller: &Caller, rule: &str, stream: &str) -> Result<(), Answer> {
    match call.param("api-version") {
        Some("2023-01-01" | "2021-11-01-preview") => {}
        Some(other) => {
            let message = format!("The api-version '{other}' is not known; give api-version=2023-01-01.");
            return Err(bad_request("InvalidApiVersionParameter", &message));
        }
        None => {
            let message = "The api-version query parameter (?api-version=) is required for all requests.";
            return Err(bad_request("MissingApiVersionParameter", message));
        }
    }
    if rule != RULE_ID {
        let message = format!("Data collection rule with immutable Id '{rule}' not found.");
        return Err(Answer::error(StatusCode::NOT_FOUND, "NotFound", &message));
    }
    if !entra::may_anywhere(state, caller, INGEST) {
        let message = format!(
            "The authentication token provided does not have access to ingest data for the data collection rule \
             with immutable Id '{rule}'."
        );
        return Err(Answer::error(StatusCode::FORBIDDEN, "OperationFailed", &message));
    }
    if !stream.eq_ignore_ascii_case(STREAM) {
        let message = format!("The stream '{stream}' is not one of the data collection rule's.");
        return Err(Answer::error(StatusCode::NOT_FOUND, "InvalidStream", &message));
    }
    let at = state.now;
    let most_unpacked = if state.switches.logs_unpacked_counts { LARGEST_CALL } else { LARGEST_UNPACKED };
    for row in rows(call, most_unpacked)? {
        state.rows.push(IngestedRow { at, rule: rule.to_owned(), stream: STREAM.to_owned(), row: cut(row) });
    }
    Ok(())
}

fn rows(call: &Call, most_unpacked: usize) -> Result<Vec<Value>, Answer> {
    let malformed = |why: String| bad_request("InvalidRequestBody", &why);
    let body: Value =
        serde_json::from_slice(&unpacked(call, most_unpacked)?).map_err(|error| malformed(format!("The body is no JSON: {error}.")))?;
    let Value::Array(rows) = body else {
        return Err(malformed("The body must be a JSON array of rows.".to_owned()));
    };
    match rows.iter().position(|row| !row.is_object()) {
        Some(place) => Err(malformed(format!("Row {place} of the array is no JSON object."))),
        None => Ok(rows),
    }
}

fn unpacked(call: &Call, most_unpacked: usize) -> Result<Vec<u8>, Answer> {
    check_size(call.body.len(), LARGEST_CALL)?;
    match call.header("content-encoding").map(str::to_ascii_lowercase).as_deref() {
        None | Some("identity") => Ok(call.body.to_vec()),
        Some("gzip") => {
            let mut unpacked = Vec::new();
            // One byte more than is allowed tells too large from just fitting, whatever a bomb unpacks to.
            let limit = u64::try_from(LARGEST_UNPACKED).unwrap_or(u64::MAX).saturating_add(1);
            GzDecoder::new(&call.body[..])
                .take(limit)
                .read_to_end(&mut unpacked)
                .map_err(|error| bad_request("InvalidRequestBody", &format!("The body is no gzip: {error}.")))?;
            if unpacked.len() > LARGEST_UNPACKED {
                return Err(too_large(""));
            }
            check_size(unpacked.len(), most_unpacked)?;
            Ok(unpacked)
        }
        Some(other) => {
            let message = format!("The Content-Encoding '{other}' is not supported; send gzip or none.");
            Err(Answer::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedContentEncoding", &message))
        }
    }
}

fn check_size(length: usize, most: usize) -> Result<(), Answer> {
    if length <= most {
        return Ok(());
    }
    Err(too_large(&format!(" Provided content length: {length} bytes.")))
}

/// The refusal with its sentence as reported; `provided` says how much it was, where that is known.
fn too_large(provided: &str) -> Answer {
    let message = format!("Maximum allowed content length: {LARGEST_CALL} bytes (1 MB).{provided}");
    Answer::error(StatusCode::PAYLOAD_TOO_LARGE, "ContentLengthLimitExceeded", &message)
}

fn cut(mut row: Value) -> Value {
    let fields = row.as_object_mut().into_iter().flat_map(|row| row.values_mut());
    for field in fields {
        if let Value::String(text) = field {
            let end = (0..=LONGEST_FIELD.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or(0));
        }
    }
    row
}

fn bad_request(code: &str, message: &str) -> Answer {
    Answer::error(StatusCode::BAD_REQUEST, code, message)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use serde_json::json;

    use super::*;
    use crate::state::{Assignment, Principal};

    fn workspace(actions: &[&str]) -> State {
        let assignment = Assignment { scope: "/".to_owned(), actions: actions.iter().map(|action| (*action).to_owned()).collect() };
        let principal = Principal {
            object_id: "oid".to_owned(),
            app_id: "app".to_owned(),
            name: "App".to_owned(),
            assignments: vec![assignment],
            ..Principal::default()
        };
        State { principals: vec![principal], ..State::default() }
    }

    fn call(rule: &str, stream: &str, query: &str) -> Call {
        let token = entra::mint(&workspace(&[]), "oid", "https://monitor.azure.com").unwrap();
        Call::new("POST", &format!("/dataCollectionRules/{rule}/streams/{stream}{query}"))
            .with_bearer(&token)
            .with_header("content-type", "application/json")
    }

    fn good() -> Call {
        call(RULE_ID, STREAM, "?api-version=2023-01-01")
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn rows_are_kept_plain_or_packed() {
        let mut state = workspace(&["Microsoft.Insights/Telemetry/Write"]);
        let body = json!([{ "Id": "a" }, { "Id": "b" }]).to_string();
        assert_eq!(answer(&mut state, &good().with_body(body.clone())).status, 204);
        let packed = good().with_header("content-encoding", "gzip").with_body(gzip(body.as_bytes()));
        assert_eq!(answer(&mut state, &packed).status, 204);
        let ids: Vec<&str> = state.rows.iter().map(|row| row.row["Id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["a", "b", "a", "b"]);
        assert_eq!(state.rows[0].rule, RULE_ID);
        assert_eq!((state.log[0].what.as_str(), state.log[0].status), ("ingest", 204));
    }

    #[test]
    fn each_refusal_has_azures_status_and_code() {
        let mut state = workspace(&["*"]);
        let query = "?api-version=2023-01-01";
        let bare = Call::new("POST", &format!("/dataCollectionRules/{RULE_ID}/streams/{STREAM}{query}"));
        let wrong = entra::mint(&state, "oid", "https://storage.azure.com").unwrap();
        let large = format!("[{{\"a\":\"{}\"}}]", "x".repeat(LARGEST_CALL));
        let table = [
            (bare.clone(), 401, "InvalidToken"),
            (bare.with_bearer(&wrong), 401, "InvalidToken"),
            (call(RULE_ID, STREAM, "").with_body("[]"), 400, "MissingApiVersionParameter"),
            (call(RULE_ID, STREAM, "?api-version=1").with_body("[]"), 400, "InvalidApiVersionParameter"),
            (call("dcr-none", STREAM, query).with_body("[]"), 404, "NotFound"),
            (call(RULE_ID, "Custom-Other_CL", query).with_body("[]"), 404, "InvalidStream"),
            (good().with_body("{}"), 400, "InvalidRequestBody"),
            (good().with_body("[1]"), 400, "InvalidRequestBody"),
            (good().with_body("[{"), 400, "InvalidRequestBody"),
            (good().with_body("[]").with_header("content-encoding", "gzip"), 400, "InvalidRequestBody"),
            (good().with_body("[]").with_header("content-encoding", "br"), 415, "UnsupportedContentEncoding"),
            (good().with_body(large.clone()), 413, "ContentLengthLimitExceeded"),
            (good().with_body(gzip(large.as_bytes())).with_header("content-encoding", "gzip"), 413, "ContentLengthLimitExceeded"),
        ];
        for (call, status, code) in table {
            let answered = answer(&mut state, &call);
            let body: Value = serde_json::from_slice(&answered.body).unwrap();
            assert_eq!((answered.status.as_u16(), body["error"]["code"].as_str()), (status, Some(code)));
        }
        assert!(state.rows.is_empty());
        let refused = answer(&mut workspace(&["Microsoft.Insights/*/read"]), &good().with_body("[]"));
        assert_eq!(refused.status, 403);
    }

    #[test]
    fn the_limit_is_said_with_what_was_sent_and_the_unpacked_size_counts_where_the_world_says_so() {
        let mut state = workspace(&["*"]);
        let body = |length: usize| format!("[{{\"a\":\"{}\"}}]", "x".repeat(length));
        let packed = |length: usize| good().with_body(gzip(body(length).as_bytes())).with_header("content-encoding", "gzip");
        let said = |state: &mut State, call: &Call| {
            let answer: Value = serde_json::from_slice(&answer(state, call).body).unwrap_or_default();
            answer["error"]["message"].as_str().unwrap_or_default().to_owned()
        };
        let provided = "Maximum allowed content length: 1048576 bytes (1 MB). Provided content length: 1048577 bytes.";
        let beyond = LARGEST_CALL + 1 - body(0).len();
        assert_eq!(said(&mut state, &good().with_body(body(beyond))), provided);
        assert_eq!(said(&mut state, &packed(beyond)), provided);
        assert_eq!(answer(&mut state, &packed(beyond - 1)).status, 204);
        state.switches.logs_unpacked_counts = false;
        assert_eq!(answer(&mut state, &packed(beyond)).status, 204);
        assert_eq!(said(&mut state, &good().with_body(body(beyond))), provided);
        assert_eq!(said(&mut state, &packed(LARGEST_UNPACKED)), "Maximum allowed content length: 1048576 bytes (1 MB).");
    }

    #[test]
    fn a_field_that_is_too_long_is_cut_without_a_word() {
        let mut state = workspace(&["*"]);
        let body = json!([{ "Text": format!("{}é", "x".repeat(LONGEST_FIELD - 1)) }]).to_string();
        assert_eq!(answer(&mut state, &good().with_body(body)).status, 204);
        assert_eq!(state.rows[0].row["Text"].as_str().unwrap().len(), LONGEST_FIELD - 1);
    }
}
