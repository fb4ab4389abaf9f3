//! The Logs Ingestion API: rows for one stream of one data collection rule.
//!
//! 204 means accepted, not stored: a column that the stream does not declare is dropped without a word, a value that
//! does not convert becomes null, and an instant far from now is replaced by that of receipt (documentation).

use std::collections::BTreeMap;
use std::io::Read;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use flate2::read::GzDecoder;
use http::{Method, StatusCode};
use serde_json::Value;

use crate::entra::{self, NotAuthenticated};
use crate::face::{Answer, Call};
use crate::state::{Caller, ColumnType, Deed, IngestedRow, State};

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

/// The column that says when a row happened, without which no table is.
const TIME: &str = "TimeGenerated";
/// A [`TIME`] older than this is replaced by the time of receipt (documentation).
const OLDEST: TimeDelta = TimeDelta::days(2);
/// And so is one further ahead (documentation).
const FURTHEST_AHEAD: TimeDelta = TimeDelta::days(1);

/// What a deployment of the product declares: ASIM's AuditEvent columns that it fills, and its own.
const DECLARED: &[(&str, ColumnType)] = &[
    ("ActingAppName", ColumnType::String),
    ("ActorScopeId", ColumnType::String),
    ("ActorUserType", ColumnType::String),
    ("ActorUsername", ColumnType::String),
    ("ActorUsernameType", ColumnType::String),
    ("Asked", ColumnType::Dynamic),
    ("Attempt", ColumnType::Int),
    ("AuditId", ColumnType::String),
    ("Claims", ColumnType::Dynamic),
    ("Code", ColumnType::String),
    ("Dvc", ColumnType::String),
    ("EventCount", ColumnType::Int),
    ("EventEndTime", ColumnType::DateTime),
    ("EventMessage", ColumnType::String),
    ("EventProduct", ColumnType::String),
    ("EventProductVersion", ColumnType::String),
    ("EventResult", ColumnType::String),
    ("EventResultDetails", ColumnType::String),
    ("EventSchema", ColumnType::String),
    ("EventSchemaVersion", ColumnType::String),
    ("EventSeverity", ColumnType::String),
    ("EventStartTime", ColumnType::DateTime),
    ("EventSubType", ColumnType::String),
    ("EventType", ColumnType::String),
    ("EventUid", ColumnType::String),
    ("EventVendor", ColumnType::String),
    ("Object", ColumnType::String),
    ("ObjectType", ColumnType::String),
    ("OpenedBy", ColumnType::String),
    ("Operation", ColumnType::String),
    ("Sources", ColumnType::String),
    ("TargetDvcId", ColumnType::String),
    ("TargetDvcIdType", ColumnType::String),
    ("TargetDvcScopeId", ColumnType::String),
    ("TargetHostname", ColumnType::String),
    ("TargetPortNumber", ColumnType::Int),
    (TIME, ColumnType::DateTime),
];

/// The columns of the stream, unless a world says otherwise.
pub fn columns() -> BTreeMap<String, ColumnType> {
    DECLARED.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect()
}

/// Answers one request to the ingestion endpoint.
pub fn answer(state: &mut State, call: &Call) -> Answer {
    let Some((rule, stream)) = place(call) else {
        return Answer::error(StatusCode::NOT_FOUND, "NotFound", "The resource was not found.");
    };
    if call.method != Method::POST {
        return Answer::error(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "Rows are sent with POST.");
    }
    let caller = match authenticated(state, call) {
        Ok(caller) => caller,
        Err(answer) => return answer,
    };
    let answer = match ingest(state, call, &caller, &rule, &stream) {
        Ok(()) => Answer::empty(StatusCode::NO_CONTENT),
        Err(answer) => answer,
    };
    state.record(&caller, "logs", "ingest", &format!("{rule}/{stream}"), answer.status.as_u16());
    answer
}

/// The rule and the stream that a path names.
fn place(call: &Call) -> Option<(String, String)> {
    match &call.segments()[..] {
        [rules, rule, streams, stream] if rules == "dataCollectionRules" && streams == "streams" => Some((rule.clone(), stream.clone())),
        _ => None,
    }
}

/// What an ingestion would do, whether it may or not; none for everything else.
pub(crate) fn deed(state: &State, call: &Call) -> Option<Deed> {
    let (rule, stream) = place(call).filter(|_| call.method == Method::POST)?;
    let caller = authenticated(state, call).unwrap_or_else(|_| Caller::anonymous(&call.ip));
    Some(Deed { caller, what: "ingest".to_owned(), target: format!("{rule}/{stream}") })
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
        let row = stored(row, &state.columns, at);
        state.rows.push(IngestedRow { at, rule: rule.to_owned(), stream: STREAM.to_owned(), row });
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

/// The row as the table has it: declared columns alone, each of its type.
fn stored(row: Value, columns: &BTreeMap<String, ColumnType>, now: DateTime<Utc>) -> Value {
    let Value::Object(fields) = row else {
        return row;
    };
    let declared = fields.into_iter().filter_map(|(name, value)| {
        let kind = columns.get(&name)?;
        let value = converted(value, *kind);
        let value = if name == TIME { time_generated(value, now) } else { value };
        Some((name, value))
    });
    Value::Object(declared.collect())
}

/// The value in the column's type; null where it cannot be that.
fn converted(value: Value, kind: ColumnType) -> Value {
    let whole = |value: &Value, bits: u32| {
        let number = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())?;
        (i128::from(number).abs() < 1_i128 << (bits - 1)).then_some(number)
    };
    match kind {
        ColumnType::Dynamic => value,
        ColumnType::String => match value {
            Value::String(text) => Value::String(cut(text)),
            Value::Null => Value::Null,
            other => Value::String(cut(other.to_string())),
        },
        ColumnType::Int => whole(&value, 32).map_or(Value::Null, Value::from),
        ColumnType::Long => whole(&value, 64).map_or(Value::Null, Value::from),
        ColumnType::Real => value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).map_or(Value::Null, Value::from),
        ColumnType::Boolean => match &value {
            Value::Bool(_) => value,
            Value::String(text) => text.to_ascii_lowercase().parse::<bool>().map_or(Value::Null, Value::from),
            Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => Value::Null,
        },
        ColumnType::DateTime => match instant(&value) {
            Some(_) => value,
            None => Value::Null,
        },
    }
}

fn instant(value: &Value) -> Option<DateTime<Utc>> {
    value.as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok()).map(|at| at.with_timezone(&Utc))
}

fn time_generated(value: Value, now: DateTime<Utc>) -> Value {
    match instant(&value) {
        Some(at) if now - at <= OLDEST && at - now <= FURTHEST_AHEAD => value,
        Some(_) | None => Value::from(now.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
    }
}

fn cut(mut text: String) -> String {
    let end = (0..=LONGEST_FIELD.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
    text
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
    use crate::state::testing::one_application;

    fn call(rule: &str, stream: &str, query: &str) -> Call {
        let token = entra::mint(&one_application(&[]), "oid", "https://monitor.azure.com").unwrap();
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
        let mut state = one_application(&["Microsoft.Insights/Telemetry/Write"]);
        let body = json!([{ "AuditId": "a" }, { "AuditId": "b" }]).to_string();
        assert_eq!(answer(&mut state, &good().with_body(body.clone())).status, 204);
        let packed = good().with_header("content-encoding", "gzip").with_body(gzip(body.as_bytes()));
        assert_eq!(answer(&mut state, &packed).status, 204);
        let ids: Vec<&str> = state.rows.iter().map(|row| row.row["AuditId"].as_str().unwrap()).collect();
        assert_eq!(ids, ["a", "b", "a", "b"]);
        assert_eq!(state.rows[0].rule, RULE_ID);
        assert_eq!((state.log[0].what.as_str(), state.log[0].status), ("ingest", 204));
    }

    #[test]
    fn each_refusal_has_azures_status_and_code() {
        let mut state = one_application(&["*"]);
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
        let refused = answer(&mut one_application(&["Microsoft.Insights/*/read"]), &good().with_body("[]"));
        assert_eq!(refused.status, 403);
    }

    /// What the table has of one row.
    fn kept(row: Value) -> Value {
        let mut state = one_application(&["*"]);
        assert_eq!(answer(&mut state, &good().with_body(json!([row]).to_string())).status, 204);
        state.rows[0].row.clone()
    }

    #[test]
    fn columns_that_the_stream_does_not_declare_are_dropped_without_a_word() {
        let row = json!({ "Operation": "close", "operation": "other case", "Computer": "vm", "Claims": [{ "any": "JSON" }] });
        assert_eq!(kept(row), json!({ "Operation": "close", "Claims": [{ "any": "JSON" }] }));
        assert_eq!(kept(json!({ "Time": "2026-01-15", "RawData": "a line" })), json!({}));
        let mut state = one_application(&["*"]);
        state.columns = BTreeMap::from([("RawData".to_owned(), ColumnType::String)]);
        answer(&mut state, &good().with_body(r#"[{"RawData": "a line", "Operation": "close"}]"#));
        assert_eq!(state.rows[0].row, json!({ "RawData": "a line" }));
    }

    #[test]
    fn a_value_that_does_not_convert_becomes_null() {
        let rows = [
            ("Attempt", json!("7"), json!(7)),
            ("Attempt", json!(7), json!(7)),
            ("Attempt", json!("seven"), Value::Null),
            ("Attempt", json!(1.5), Value::Null),
            ("Attempt", json!(3_000_000_000_i64), Value::Null),
            ("EventStartTime", json!("2026-01-15T09:00:00.5Z"), json!("2026-01-15T09:00:00.5Z")),
            ("EventStartTime", json!("yesterday"), Value::Null),
            ("Operation", json!(7), json!("7")),
            ("Operation", json!({ "a": 1 }), json!("{\"a\":1}")),
            ("Operation", Value::Null, Value::Null),
        ];
        for (column, sent, stored) in rows {
            assert_eq!(kept(json!({ column: sent }))[column], stored, "{column} {sent}");
        }
        for (kind, sent, stored) in [
            (ColumnType::Long, json!(3_000_000_000_i64), json!(3_000_000_000_i64)),
            (ColumnType::Real, json!("1.5"), json!(1.5)),
            (ColumnType::Boolean, json!("True"), json!(true)),
            (ColumnType::Boolean, json!(1), Value::Null),
        ] {
            assert_eq!(converted(sent.clone(), kind), stored, "{kind:?} {sent}");
        }
    }

    #[test]
    fn a_time_far_from_now_is_replaced_by_that_of_receipt() {
        let now = "2026-01-15T09:00:00Z";
        for (sent, stored) in [
            ("2026-01-13T09:00:00Z", "2026-01-13T09:00:00Z"),
            ("2026-01-13T08:59:59Z", now),
            ("2026-01-16T09:00:00Z", "2026-01-16T09:00:00Z"),
            ("2026-01-16T09:00:01Z", now),
            ("no time", now),
        ] {
            assert_eq!(kept(json!({ "TimeGenerated": sent }))["TimeGenerated"], stored, "{sent}");
        }
        assert_eq!(kept(json!({ "EventStartTime": "2020-01-01T00:00:00Z" }))["EventStartTime"], "2020-01-01T00:00:00Z");
    }

    #[test]
    fn every_declared_column_has_a_name_that_azure_takes() {
        for (name, _) in DECLARED {
            let written_well =
                name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            assert!(written_well && name.len() <= 45, "{name}");
            assert!(!["id", "TenantId", "Type", "UniqueId", "Title"].contains(name), "{name} is reserved");
        }
        assert_eq!(columns().len(), DECLARED.len());
    }

    #[test]
    fn the_limit_is_said_with_what_was_sent_and_the_unpacked_size_counts_where_the_world_says_so() {
        let mut state = one_application(&["*"]);
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
        let mut state = one_application(&["*"]);
        let body = json!([{ "EventMessage": format!("{}é", "x".repeat(LONGEST_FIELD - 1)) }]).to_string();
        assert_eq!(answer(&mut state, &good().with_body(body)).status, 204);
        assert_eq!(state.rows[0].row["EventMessage"].as_str().unwrap().len(), LONGEST_FIELD - 1);
    }
}
