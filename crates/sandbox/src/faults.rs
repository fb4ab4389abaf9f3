//! Faults that a test or a person asks for: they wait in the state for matching requests.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{Method, StatusCode};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::bounds;
use crate::face::{Answer, Call, percent_decoded};
use crate::state::{Obstacle, State};

/// One fault and the requests that it meets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Fault {
    /// The service, letter case aside: `arm`, `blob`, `servicebus`, `logs`, `entra`, `identity`, `graph`, `insights`; `*` is any, but for
    /// `insights`: what is told of the work is no part of it.
    #[serde(default = "any", deserialize_with = "face")]
    pub face: String,
    /// The HTTP method; `*` is any.
    #[serde(default = "any", deserialize_with = "method")]
    pub method: String,
    /// A part of path and query, as sent or percent-decoded, letter case aside; empty is any.
    #[serde(default)]
    pub path: String,
    /// Whose requests.
    #[serde(default, skip_serializing_if = "By::is_anybody")]
    pub by: By,
    /// Only requests of this [shape]; empty is any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub shape: String,
    /// How many matching requests pass first.
    #[serde(default, deserialize_with = "bounds::skip")]
    pub skip: u32,
    /// How many it meets then; absent is all. One that has met them all is gone.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "bounds::times")]
    pub times: Option<u32>,
    /// What happens.
    pub effect: Effect,
    /// What [`Effect::Stale`] remembers: the first answer by path and query.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub remembered: BTreeMap<String, Remembered>,
}

/// Whose requests a fault meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum By {
    /// Everybody's.
    #[default]
    Anybody,
    /// The handler's, told by the trace of the invocation in which it makes them, or by the endpoints of managed identities and
    /// of Application Insights, which nobody else knows.
    Handler,
}

impl By {
    fn is_anybody(&self) -> bool {
        *self == By::Anybody
    }

    fn made(self, face: &str, call: &Call) -> bool {
        self == By::Anybody || call.trace.is_some() || face == "identity" || face == "insights"
    }
}

/// A request that met a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Meeting {
    /// World time.
    pub at: DateTime<Utc>,
    /// The function whose invocation made it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// That invocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<String>,
    /// The face.
    pub face: String,
    /// The HTTP method.
    pub method: String,
    /// Path and query, as they were sent.
    pub target: String,
    /// Its [shape].
    #[serde(default)]
    pub shape: String,
    /// What happened to it.
    pub effect: Effect,
}

fn any() -> String {
    "*".to_owned()
}

/// The faces that meet faults.
const FACES: [&str; 9] = ["*", "arm", "blob", "servicebus", "logs", "entra", "identity", "graph", "insights"];
/// The methods that any face knows.
const METHODS: [&str; 8] = ["*", "GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"];

fn face<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    one_of(from, "face", &FACES)
}

fn method<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    one_of(from, "method", &METHODS)
}

/// A fault that could meet nothing is a slip of whoever asks for it.
fn one_of<'de, D: Deserializer<'de>>(from: D, member: &str, known: &[&str]) -> Result<String, D::Error> {
    let given = Value::deserialize(from)?;
    let text = given.as_str().filter(|text| known.iter().any(|known| known.eq_ignore_ascii_case(text)));
    text.map(str::to_owned).ok_or_else(|| D::Error::custom(bounds::refusal(member, &format!("one of {}", known.join(", ")), &given)))
}

/// What a fault does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", deny_unknown_fields, rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Effect {
    /// Answers this status instead, with an error envelope of the face; the request has no effect.
    Status {
        /// The HTTP status, one with which an answer ends.
        #[serde(deserialize_with = "bounds::status")]
        status: u16,
        /// The error code of the envelope; absent gives one that the face uses for that status.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        /// The codes of `error.details`, for the faces whose errors have them (ARM, Microsoft Graph, Logs Ingestion).
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        details: Vec<String>,
        /// Seconds for `Retry-After`; absent leaves the header out.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "bounds::retry_after")]
        retry_after: Option<u64>,
    },
    /// Cuts the connection before the request has any effect.
    CutBefore,
    /// Cuts the connection after the request has had its effect.
    CutAfter,
    /// The request has its effect at once and its answer comes this many real milliseconds later.
    Delay {
        /// Milliseconds, an hour at most.
        #[serde(deserialize_with = "bounds::milliseconds")]
        milliseconds: u64,
    },
    /// A GET or HEAD is answered with what the same path and query were answered the first time that it met
    /// them. That first time does not count as one of `times`.
    Stale,
    /// Kills the handler before the request has any effect.
    KillBefore,
    /// Kills the handler after the request has had its effect and before it is answered.
    KillAfter,
}

impl Effect {
    /// This status, with the error code that the face uses for it, and seconds for `Retry-After`.
    pub fn status(status: u16, retry_after: Option<u64>) -> Self {
        Effect::Status { status, code: None, details: Vec::new(), retry_after }
    }
}

/// An answer that a stale read gives again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Remembered {
    /// The status.
    #[serde(deserialize_with = "bounds::status")]
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body; every face answers text.
    pub body: String,
}

impl Fault {
    /// A fault for every request to `face` whose method is `method` and whose path and query contain `path`.
    pub fn new(face: &str, method: &str, path: &str, effect: Effect) -> Self {
        Fault {
            face: face.to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            by: By::Anybody,
            shape: String::new(),
            skip: 0,
            times: None,
            effect,
            remembered: BTreeMap::new(),
        }
    }

    /// The same for the handler's requests alone.
    pub fn of_handler(mut self) -> Self {
        self.by = By::Handler;
        self
    }

    /// The same for requests of this [shape] alone.
    pub fn of_shape(mut self, shape: &str) -> Self {
        shape.clone_into(&mut self.shape);
        self
    }

    /// The same, letting the first `skip` matching requests pass.
    pub fn skip(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    /// The same, gone after it has met `times` requests.
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    fn matches(&self, face: &str, call: &Call) -> bool {
        let is = |pattern: &str, value: &str| pattern == "*" || pattern.eq_ignore_ascii_case(value);
        let is_face = is(&self.face, face) && (self.face != "*" || face != "insights");
        is_face
            && is(&self.method, call.method.as_str())
            && self.by.made(face, call)
            && (self.effect != Effect::Stale || call.method == Method::GET || call.method == Method::HEAD)
            && contains(&call.target(), &self.path)
            && (self.shape.is_empty() || self.shape == shape_of(face, call))
    }
}

fn shape_of(face: &str, call: &Call) -> String {
    let function = call.trace.as_ref().map(|(function, _)| function.as_str());
    shape(function, face, call.method.as_str(), &call.target())
}

/// What a request is alike to, whatever numbers it has: `function:face:METHOD:path`, in small letters but for the method, with `ID` for
/// each part of the path that has four digits or more. Of a list of blobs it has the prefix, too. Requests that are made side by side
/// come now in one order and now in another; the first, the second of one shape are alike whichever comes first.
pub fn shape(function: Option<&str>, face: &str, method: &str, target: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let prefix = query.split('&').find_map(|pair| pair.strip_prefix("prefix="));
    let text = match prefix {
        Some(prefix) => format!("{}+{}", percent_decoded(path), percent_decoded(prefix)),
        None => percent_decoded(path),
    };
    let part = |part: &str| match part.bytes().filter(u8::is_ascii_digit).count() {
        0..4 => part.chars().map(|c| if c.is_ascii_alphanumeric() || "-._~+".contains(c) { c.to_ascii_lowercase() } else { '_' }).collect(),
        _ => "ID".to_owned(),
    };
    let path: Vec<String> = text.split('/').map(part).collect();
    format!("{}:{face}:{method}:{}", function.unwrap_or("-"), path.join("/"))
}

fn contains(target: &str, part: &str) -> bool {
    let part = part.to_ascii_lowercase();
    target.to_ascii_lowercase().contains(&part) || percent_decoded(target).to_ascii_lowercase().contains(&part)
}

/// What the first waiting fault does to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Met {
    /// No fault waits for it.
    Nothing,
    /// It is answered so.
    Status(Refusal),
    /// Its connection is cut before the effect.
    CutBefore,
    /// Its connection is cut after the effect.
    CutAfter,
    /// It is answered this many milliseconds late.
    Delay(u64),
    /// It is answered with this older answer.
    Stale(Remembered),
    /// Its answer is to be given to [`remember`] for the fault at this place.
    Remember(usize),
    /// The handler is killed before the effect.
    KillBefore,
    /// The handler is killed after the effect.
    KillAfter,
}

/// What an injected status looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// The error's code; none gives one that the face uses for that status.
    pub code: Option<String>,
    /// The codes of its details.
    pub details: Vec<String>,
    /// Seconds for `Retry-After`.
    pub retry_after: Option<u64>,
}

/// Writes a write that an injected status refused into the world's log, as what it would have been.
pub fn log_refusal(state: &mut State, face: &str, call: &Call, status: StatusCode) {
    let deed = match face {
        "arm" => crate::arm::deed(state, call),
        "blob" => crate::blob::deed(state, call),
        "servicebus" => crate::servicebus::deed(state, call),
        "logs" => crate::logs::deed(state, call),
        _ => None,
    };
    if let Some(deed) = deed {
        let entry = state.record(&deed.caller, face, &deed.what, &deed.target, status.as_u16());
        entry.condition = call.condition();
        entry.asked = if face == "arm" { crate::arm::asked(call) } else { Vec::new() };
        entry.fault = Some(Obstacle::Status);
    }
}

/// The first fault that waits for this request to `face`, which then counts it. That they met is remembered in the state.
pub fn meet(state: &mut State, face: &str, call: &Call) -> Met {
    for place in 0..state.faults.len() {
        let fault = &mut state.faults[place];
        if fault.times == Some(0) || !fault.matches(face, call) {
            continue;
        }
        if fault.skip > 0 {
            fault.skip -= 1;
            continue;
        }
        let met = match &fault.effect {
            Effect::Status { status, code, details, retry_after } => Met::Status(Refusal {
                status: StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                code: code.clone(),
                details: details.clone(),
                retry_after: *retry_after,
            }),
            Effect::CutBefore => Met::CutBefore,
            Effect::CutAfter => Met::CutAfter,
            Effect::Delay { milliseconds } => Met::Delay(*milliseconds),
            Effect::Stale => match fault.remembered.get(&call.target()) {
                Some(older) => Met::Stale(older.clone()),
                None => return Met::Remember(place),
            },
            Effect::KillBefore => Met::KillBefore,
            Effect::KillAfter => Met::KillAfter,
        };
        fault.times = fault.times.map(|times| times - 1);
        state.met.push(Meeting {
            at: state.now,
            function: call.trace.as_ref().map(|(function, _)| function.clone()),
            invocation: call.trace.as_ref().map(|(_, invocation)| invocation.clone()),
            face: face.to_owned(),
            method: call.method.to_string(),
            target: call.target(),
            shape: shape_of(face, call),
            effect: fault.effect.clone(),
        });
        state.faults.retain(|fault| fault.times != Some(0));
        return met;
    }
    Met::Nothing
}

/// Keeps the answer that a stale read gives from now on. `place` is that of [`Met::Remember`], under the same lock.
pub fn remember(state: &mut State, place: usize, call: &Call, answer: &Answer) {
    if let Some(fault) = state.faults.get_mut(place) {
        fault.remembered.insert(
            call.target(),
            Remembered {
                status: answer.status.as_u16(),
                headers: answer.headers.clone(),
                body: String::from_utf8_lossy(&answer.body).into_owned(),
            },
        );
    }
}

impl From<Remembered> for Answer {
    fn from(older: Remembered) -> Self {
        Answer {
            status: StatusCode::from_u16(older.status).unwrap_or(StatusCode::OK),
            headers: older.headers,
            body: Bytes::from(older.body),
        }
    }
}

/// The error that `face` answers with this status: its own envelope, and its own code unless one is given.
pub fn envelope(face: &str, refusal: &Refusal) -> Answer {
    let status = refusal.status;
    let code = refusal.code.clone().unwrap_or_else(|| usual_code(face, status).to_owned());
    let message = format!("A fault of the sandbox: {status}.");
    let answer = match face {
        "arm" | "graph" | "logs" if !refusal.details.is_empty() => {
            let details: Vec<Value> = refusal.details.iter().map(|code| json!({ "code": code, "message": message })).collect();
            Answer::json(status, &json!({ "error": { "code": code, "message": message, "details": details } }))
        }
        _ => error(face, status, &code, &message),
    };
    match refusal.retry_after {
        Some(seconds) => answer.with("Retry-After", &seconds.to_string()),
        None => answer,
    }
}

/// The refusal of a body that is larger than any face reads, in the form of `face`.
pub fn too_large(face: &str) -> Answer {
    let status = StatusCode::PAYLOAD_TOO_LARGE;
    error(face, status, usual_code(face, status), "The request body is larger than the sandbox reads (64 MB).")
}

fn error(face: &str, status: StatusCode, code: &str, message: &str) -> Answer {
    match face {
        "blob" => crate::blob::error(status, code, message),
        "servicebus" => crate::servicebus::error(status, message),
        "entra" => crate::entra::oauth_error(status, code, message, 0),
        "identity" => crate::entra::identity_error(status, message),
        "insights" => crate::insights::refused(status, message),
        _ => Answer::error(status, code, message),
    }
}

fn usual_code(face: &str, status: StatusCode) -> &'static str {
    match (face, status.as_u16()) {
        ("blob", 401) => "NoAuthenticationInformation",
        ("blob", 403) => "AuthorizationPermissionMismatch",
        ("blob", 404) => "BlobNotFound",
        ("blob", 409) => "BlobAlreadyExists",
        ("blob", 412) => "ConditionNotMet",
        ("blob", 413) => "RequestBodyTooLarge",
        ("logs", 413) => "ContentLengthLimitExceeded",
        ("blob", 429 | 503) => "ServerBusy",
        ("blob", 500) => "InternalError",
        ("entra", 401) => "invalid_client",
        ("entra", 429 | 503) => "temporarily_unavailable",
        ("entra", _) => "server_error",
        ("graph", 401) => "InvalidAuthenticationToken",
        ("graph", 403) => "Authorization_RequestDenied",
        ("graph", 404) => "Request_ResourceNotFound",
        (_, 400) => "BadRequest",
        (_, 401) => "InvalidAuthenticationToken",
        (_, 403) => "AuthorizationFailed",
        (_, 404) => "ResourceNotFound",
        (_, 409) => "Conflict",
        (_, 412) => "PreconditionFailed",
        (_, 413) => "RequestEntityTooLarge",
        (_, 429) => "TooManyRequests",
        (_, 503) => "ServiceUnavailable",
        (_, 504) => "GatewayTimeout",
        _ => "InternalServerError",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Condition;

    fn a_call(method: &str, target: &str) -> Call {
        Call::new(method, target)
    }

    fn world_with(fault: Fault) -> State {
        State { faults: vec![fault], ..State::default() }
    }

    #[test]
    fn a_fault_lets_its_first_requests_pass_and_goes_after_its_times() {
        let mut state = world_with(Fault::new("blob", "PUT", "", Effect::CutBefore).skip(1).times(2));
        let call = a_call("PUT", "/state/x");
        let met: Vec<Met> = (0..4).map(|_| meet(&mut state, "blob", &call)).collect();
        assert_eq!(met, [Met::Nothing, Met::CutBefore, Met::CutBefore, Met::Nothing]);
        assert!(state.faults.is_empty());
    }

    #[test]
    fn a_fault_matches_face_method_and_path_letter_case_aside() {
        let fault = Fault::new("arm", "delete", "securityrules/JIT 1", Effect::KillAfter);
        let mut state = world_with(fault);
        assert_eq!(meet(&mut state, "arm", &a_call("GET", "/SecurityRules/JIT%201")), Met::Nothing);
        assert_eq!(meet(&mut state, "blob", &a_call("DELETE", "/SecurityRules/JIT%201")), Met::Nothing);
        assert_eq!(meet(&mut state, "arm", &a_call("DELETE", "/other")), Met::Nothing);
        assert_eq!(meet(&mut state, "arm", &a_call("DELETE", "/SecurityRules/JIT%201?a=b")), Met::KillAfter);
    }

    #[test]
    fn a_stale_fault_remembers_per_path_and_meets_reads_only() {
        let mut state = world_with(Fault::new("*", "*", "", Effect::Stale).times(1));
        let call = a_call("GET", "/a?b=c");
        assert_eq!(meet(&mut state, "arm", &a_call("PUT", "/a?b=c")), Met::Nothing);
        assert_eq!(meet(&mut state, "arm", &call), Met::Remember(0));
        remember(&mut state, 0, &call, &Answer::text(StatusCode::OK, "first"));
        assert_eq!(meet(&mut state, "arm", &a_call("GET", "/other")), Met::Remember(0));
        match meet(&mut state, "arm", &call) {
            Met::Stale(older) => assert_eq!(older.body, "first"),
            other => panic!("{other:?}"),
        }
        assert_eq!(meet(&mut state, "arm", &call), Met::Nothing);
    }

    #[test]
    fn every_face_answers_a_fault_in_its_own_form() {
        let busy = StatusCode::SERVICE_UNAVAILABLE;
        let refusal = Refusal { status: busy, code: None, details: Vec::new(), retry_after: Some(7) };
        let body = |face| String::from_utf8_lossy(&envelope(face, &refusal).body).into_owned();
        assert!(body("arm").contains(r#""code":"ServiceUnavailable""#));
        assert!(body("blob").contains("<Code>ServerBusy</Code>"));
        assert!(body("servicebus").contains("<Code>503</Code>"));
        assert!(body("entra").contains(r#""error":"temporarily_unavailable""#));
        assert!(body("identity").contains(r#""statusCode":503"#));
        let answer = envelope("arm", &refusal);
        assert!(answer.headers.contains(&("Retry-After".to_owned(), "7".to_owned())));
    }

    #[test]
    fn an_injected_error_has_the_details_that_it_was_given() {
        let fault = json!({ "kind": "status", "status": 429, "code": "RetryableError", "details": ["ReferencedResourceNotProvisioned"] });
        let mut state = world_with(Fault::new("arm", "*", "", serde_json::from_value(fault.clone()).unwrap()));
        assert_eq!(serde_json::to_value(&state.faults[0].effect).unwrap(), fault);
        let Met::Status(refusal) = meet(&mut state, "arm", &a_call("PUT", "/x")) else {
            panic!("the fault is a status");
        };
        let body: Value = serde_json::from_slice(&envelope("arm", &refusal).body).unwrap();
        assert_eq!(body["error"]["code"], "RetryableError");
        assert_eq!(body["error"]["details"][0]["code"], "ReferencedResourceNotProvisioned");
        let without = Refusal { details: Vec::new(), ..refusal };
        let body: Value = serde_json::from_slice(&envelope("arm", &without).body).unwrap();
        assert_eq!(body["error"].get("details"), None);
    }

    #[test]
    fn a_write_that_a_fault_refused_is_in_the_log_as_what_it_would_have_been() {
        let rule = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/networkSecurityGroups/n/securityRules/r";
        let rows = [
            ("arm", a_call("DELETE", rule), "Microsoft.Network/networkSecurityGroups/securityRules/delete", rule),
            ("arm", a_call("POST", "/nowhere"), "post", "/nowhere"),
            ("blob", a_call("PUT", "/portcullisstate/state/vm%2Fa"), "put", "state/vm/a"),
            ("blob", a_call("DELETE", "/portcullisstate/state/x"), "delete", "state/x"),
            ("servicebus", a_call("POST", "/approval/messages"), "send", "approval"),
            ("logs", a_call("POST", "/dataCollectionRules/r/streams/s"), "ingest", "r/s"),
        ];
        for (face, call, what, target) in rows {
            let mut state = State::default();
            log_refusal(&mut state, face, &call.with_header("if-match", "*"), StatusCode::TOO_MANY_REQUESTS);
            let entry = &state.log[0];
            assert_eq!((entry.what.as_str(), entry.target.as_str(), entry.status), (what, target, 429), "{face}");
            assert_eq!((entry.fault, entry.condition), (Some(Obstacle::Status), Some(Condition::IfMatch)));
            assert_eq!(serde_json::to_value(entry).unwrap()["fault"], "status");
        }
        let mut state = State::default();
        let reads = [
            ("arm", a_call("GET", rule)),
            ("blob", a_call("GET", "/portcullisstate/state/x")),
            ("servicebus", a_call("POST", "/approval/messages/head")),
            ("entra", a_call("POST", "/token")),
        ];
        for (face, call) in reads {
            log_refusal(&mut state, face, &call, StatusCode::TOO_MANY_REQUESTS);
        }
        assert!(state.log.is_empty(), "{:?}", state.log);
    }
}
