//! Why a call to Azure failed, sorted by what can be done about it.

use std::fmt;
use std::time::Duration;

use azure_core::http::Method;
use azure_core::xml::from_xml;
use portcullis_domain::plain::{is_hidden, quoted};
use portcullis_domain::time;
use serde::Deserialize;
use serde_json::Value;

use super::channel::Answer;

/// The services that are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Azure Resource Manager and the providers behind it.
    Arm,
    /// Blob storage, which holds the state.
    Blob,
    /// Service Bus.
    ServiceBus,
    /// Azure Monitor's Logs Ingestion.
    Logs,
    /// Entra ID, asked for the keys that callers' tokens are signed with.
    Entra,
    /// Microsoft Graph, asked for people and their groups.
    Graph,
    /// Application Insights, which telemetry is sent to.
    Insights,
}

impl Service {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Service::Arm => "Azure Resource Manager",
            Service::Blob => "Blob storage",
            Service::ServiceBus => "Service Bus",
            Service::Logs => "Logs Ingestion",
            Service::Entra => "Entra ID",
            Service::Graph => "Microsoft Graph",
            Service::Insights => "Application Insights",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What kind of failure it was: what a caller branches on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// There is no such thing.
    NotFound,
    /// There is one already.
    AlreadyExists,
    /// It was changed since it was read.
    PreconditionFailed,
    /// Another write to the same resource is under way; nothing is wrong.
    Busy,
    /// Too many calls.
    Throttled,
    /// A lock of Azure Resource Manager forbids it.
    Locked,
    /// A policy of Azure Policy forbids it.
    DeniedByPolicy,
    /// The app's identity lacks the right.
    MissingRight,
    /// No token, or one that was not believed.
    NotSignedIn,
    /// The request was never sent.
    Unreachable,
    /// The request was sent and no answer came: it may have had its effect.
    Doubtful,
    /// Another refusal (4xx).
    Refused,
    /// The service failed (5xx).
    Server,
    /// The answer could not be read.
    Malformed,
}

impl FailureKind {
    /// The kind in one word, for telemetry.
    pub fn name(self) -> &'static str {
        match self {
            FailureKind::NotFound => "NotFound",
            FailureKind::AlreadyExists => "AlreadyExists",
            FailureKind::PreconditionFailed => "PreconditionFailed",
            FailureKind::Busy => "Busy",
            FailureKind::Throttled => "Throttled",
            FailureKind::Locked => "Locked",
            FailureKind::DeniedByPolicy => "DeniedByPolicy",
            FailureKind::MissingRight => "MissingRight",
            FailureKind::NotSignedIn => "NotSignedIn",
            FailureKind::Unreachable => "Unreachable",
            FailureKind::Doubtful => "Doubtful",
            FailureKind::Refused => "Refused",
            FailureKind::Server => "Server",
            FailureKind::Malformed => "Malformed",
        }
    }
}

/// A call that failed. Its text is one sentence for a person; it never holds a token, a body or a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFailed {
    /// The service that was called.
    pub service: Service,
    /// What was being done, such as `deleting rule SecurityCenter-JITRule_… of nsg-1`.
    pub what: Box<str>,
    /// The HTTP method.
    pub method: Method,
    /// The status, if there was an answer.
    pub status: Option<u16>,
    /// The service's error code; empty if it gave none.
    pub code: String,
    /// The codes of `error.details`, which say more than the code itself.
    pub detail_codes: Vec<String>,
    /// The service's message, shortened.
    pub message: Box<str>,
    /// How long the service asks to wait.
    pub retry_after: Option<Duration>,
    /// The service's id of the request, for its support.
    pub request_id: Option<Box<str>>,
    /// What kind of failure it was.
    pub kind: FailureKind,
}

impl CallFailed {
    /// Whether a changing call may have had its effect although it failed: then the state must be read again.
    pub fn may_have_happened(&self) -> bool {
        match self.kind {
            FailureKind::Doubtful | FailureKind::Server | FailureKind::Malformed => true,
            FailureKind::NotFound
            | FailureKind::AlreadyExists
            | FailureKind::PreconditionFailed
            | FailureKind::Busy
            | FailureKind::Throttled
            | FailureKind::Locked
            | FailureKind::DeniedByPolicy
            | FailureKind::MissingRight
            | FailureKind::NotSignedIn
            | FailureKind::Unreachable
            | FailureKind::Refused => false,
        }
    }

    /// Whether the same call may succeed later without anybody doing anything.
    pub fn passes(&self) -> bool {
        match self.kind {
            FailureKind::Busy
            | FailureKind::Throttled
            | FailureKind::Unreachable
            | FailureKind::Doubtful
            | FailureKind::Server
            | FailureKind::Malformed
            | FailureKind::NotSignedIn
            | FailureKind::PreconditionFailed => true,
            FailureKind::NotFound
            | FailureKind::AlreadyExists
            | FailureKind::Locked
            | FailureKind::DeniedByPolicy
            | FailureKind::MissingRight
            | FailureKind::Refused => false,
        }
    }

    /// A failure that no answer of a service stands behind.
    pub(super) fn without_answer(service: Service, method: Method, what: &str, kind: FailureKind, message: &str) -> Self {
        CallFailed {
            service,
            what: what.into(),
            method,
            status: None,
            code: String::new(),
            detail_codes: Vec::new(),
            message: shorten(message),
            retry_after: None,
            request_id: None,
            kind,
        }
    }

    /// The failure of something that was read for longer than whoever asked for it can wait.
    pub fn too_slow(service: Service, what: &str, waited: Duration) -> Self {
        let message = format!("it was not answered whole within {} s", waited.as_secs());
        Self::without_answer(service, Method::Get, what, FailureKind::Unreachable, &message)
    }

    /// The failure that an answer of 3xx, 4xx or 5xx tells of.
    pub fn from_answer(service: Service, method: Method, what: &str, answer: &Answer) -> Self {
        let told = Told::read(answer);
        let kind = kind(service, answer.status, &told);
        CallFailed {
            service,
            what: what.into(),
            method,
            status: Some(answer.status),
            message: shorten(&told.message),
            code: told.code,
            detail_codes: told.detail_codes,
            retry_after: retry_after(answer),
            request_id: request_id(answer),
            kind,
        }
    }

    /// An answer of success whose content is not what it must be.
    pub(super) fn malformed(service: Service, method: Method, what: &str, answer: &Answer, message: &str) -> Self {
        CallFailed {
            status: Some(answer.status),
            request_id: request_id(answer),
            ..Self::without_answer(service, method, what, FailureKind::Malformed, message)
        }
    }

    fn cure(&self) -> &'static str {
        match self.kind {
            FailureKind::NotFound => "it is not there (any more)",
            FailureKind::AlreadyExists => "it is there already",
            FailureKind::PreconditionFailed => "it was changed meanwhile; it is read again",
            FailureKind::Busy => "another write to it is under way; it is tried again",
            FailureKind::Throttled => "too many calls; it is tried again later",
            FailureKind::Locked => "remove the lock that the message names, or let its owner do it",
            FailureKind::DeniedByPolicy => "exempt the resource from the policy that the message names",
            // Graph's message names no permission.
            FailureKind::MissingRight if self.service == Service::Graph => {
                "give the app's identity User.Read.All and GroupMember.Read.All, as infra/registration.sh does (docs/install.md)"
            }
            FailureKind::MissingRight => "give the app's identity the right, or turn on the plan, that the message names",
            FailureKind::NotSignedIn => "the app could not sign in: check its managed identity",
            FailureKind::Unreachable => "the service cannot be reached: check the network, its name and the endpoint setting",
            FailureKind::Doubtful => "no answer came, so it may have been done; the state is read again",
            FailureKind::Refused => "the service does not accept the request",
            FailureKind::Server => "the service failed; it is tried again",
            FailureKind::Malformed => "the answer cannot be read",
        }
    }
}

impl CallFailed {
    /// What was being done and what was answered, without what to do about it.
    pub fn told(&self) -> String {
        Answered(self).to_string()
    }
}

/// A failed call without its cure.
struct Answered<'a>(&'a CallFailed);

impl fmt::Display for Answered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.0;
        write!(f, "{}: {}", failed.what, failed.service)?;
        match (failed.status, failed.code.is_empty()) {
            (Some(status), false) => write!(f, " answered {status} {}", failed.code)?,
            (Some(status), true) => write!(f, " answered {status}")?,
            (None, _) if matches!(failed.kind, FailureKind::NotSignedIn | FailureKind::Unreachable) => f.write_str(" was not asked")?,
            (None, _) => f.write_str(" gave no answer")?,
        }
        if !failed.detail_codes.is_empty() {
            write!(f, " ({})", failed.detail_codes.join(", "))?;
        }
        if !failed.message.is_empty() {
            write!(f, ": {}", failed.message.trim_end_matches('.'))?;
        }
        Ok(())
    }
}

impl fmt::Display for CallFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Answered(self).fmt(f)?;
        write!(f, "; {}", self.cure())?;
        if let Some(wait) = self.retry_after {
            write!(f, ", not before {} s", wait.as_secs())?;
        }
        Ok(())
    }
}

impl std::error::Error for CallFailed {}

/// What the body of an error tells, in whichever of the services' forms.
#[derive(Default)]
struct Told {
    code: String,
    message: String,
    detail_codes: Vec<String>,
}

/// More details than any error of Azure has.
const MOST_DETAILS: usize = 10;

/// `<Error><Code/><Message/></Error>` of Blob storage, `<Error><Code/><Detail/></Error>` of Service Bus.
#[derive(Deserialize)]
struct XmlError {
    #[serde(rename = "Code")]
    code: Option<String>,
    #[serde(rename = "Message", alias = "Detail")]
    message: Option<String>,
}

impl Told {
    fn read(answer: &Answer) -> Told {
        let mut told = Self::from_json(&answer.body).or_else(|| Self::from_xml(&answer.body)).unwrap_or_default();
        if let Some(code) = answer.header("x-ms-error-code") {
            told.code = quoted(code);
        }
        told
    }

    fn from_json(body: &[u8]) -> Option<Told> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let error = body.get("error").filter(|error| error.is_object()).unwrap_or(&body);
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let code = |value: &Value| quoted(&text(value, "code"));
        let details = error.get("details").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let of_details = details.iter().map(code).filter(|code| !code.is_empty()).take(MOST_DETAILS);
        Some(Told { code: code(error), message: text(error, "message"), detail_codes: of_details.collect() })
    }

    fn from_xml(body: &[u8]) -> Option<Told> {
        let error: XmlError = from_xml(body).ok()?;
        Some(Told { code: quoted(&error.code.unwrap_or_default()), message: error.message.unwrap_or_default(), detail_codes: Vec::new() })
    }

    fn any(&self, known: &[&str]) -> bool {
        let codes = || std::iter::once(&self.code).chain(&self.detail_codes);
        codes().any(|code| known.iter().any(|known| code.eq_ignore_ascii_case(known)))
    }
}

/// Codes that mean that another write to the resource is under way, not that there are too many calls: the network
/// provider answers them with 429 as well as with 409 (documentation; `details[].code` tells).
const BUSY: [&str; 8] = [
    "RetryableError",
    "RetryableErrorDueToAnotherOperation",
    "ReferencedResourceNotProvisioned",
    "AnotherOperationInProgress",
    "CanceledAndSupersededDueToAnotherOperation",
    "OperationNotAllowedOnUpdatingResource",
    "Conflict",
    "ConcurrentRequestConflict",
];

fn kind(service: Service, status: u16, told: &Told) -> FailureKind {
    // A lock and a policy come as 409 or 403 by turns; what they are called decides.
    if told.any(&["ScopeLocked"]) {
        return FailureKind::Locked;
    }
    if told.any(&["RequestDisallowedByPolicy"]) {
        return FailureKind::DeniedByPolicy;
    }
    match (status, service) {
        (401, _) => FailureKind::NotSignedIn,
        // Service Bus says 403 for a full queue and for a message that is too large, 401 for a missing right, and
        // 410 for a queue that does not exist (documentation of its REST face).
        (403, Service::ServiceBus) => FailureKind::Refused,
        (403, _) => FailureKind::MissingRight,
        (404, _) | (410, Service::ServiceBus) => FailureKind::NotFound,
        (409, _) if told.any(&BUSY) => FailureKind::Busy,
        (409, _) if told.any(&["BlobAlreadyExists", "ContainerAlreadyExists", "ResourceExists", "AlreadyExists"]) => {
            FailureKind::AlreadyExists
        }
        (412, _) => FailureKind::PreconditionFailed,
        (429, Service::Arm) if told.any(&BUSY) => FailureKind::Busy,
        (429, _) => FailureKind::Throttled,
        (503, Service::ServiceBus | Service::Blob) => FailureKind::Throttled,
        (500..=599, _) => FailureKind::Server,
        _ => FailureKind::Refused,
    }
}

/// No service asks for more in earnest, and no sum with it leaves the calendar.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the service asks to wait, a day at most: `Retry-After` in seconds or as a date, which counts from the service's
/// own `Date`, or the millisecond headers of some services.
pub fn retry_after(answer: &Answer) -> Option<Duration> {
    asked_wait(answer).map(|wait| wait.min(LONGEST_WAIT))
}

fn asked_wait(answer: &Answer) -> Option<Duration> {
    for name in ["x-ms-retry-after-ms", "retry-after-ms"] {
        if let Some(milliseconds) = answer.header(name).and_then(|text| text.trim().parse().ok()) {
            return Some(Duration::from_millis(milliseconds));
        }
    }
    let text = answer.header("retry-after")?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some((time::of_header(text)? - answer.date()?).to_std().unwrap_or_default())
}

fn request_id(answer: &Answer) -> Option<Box<str>> {
    // Answers of JIT carry an empty x-ms-request-id (recorded), so the correlation id stands in.
    let names = ["x-ms-request-id", "x-ms-correlation-request-id"];
    names.iter().filter_map(|name| answer.header(name)).find(|id| !id.is_empty()).map(Box::from)
}

/// Enough for every message of Azure that names a scope and an action; a page of HTML from a proxy is cut.
const LONGEST_MESSAGE: usize = 600;

fn shorten(message: &str) -> Box<str> {
    let line: String = message.chars().map(|c| if is_hidden(c) { ' ' } else { c }).take(LONGEST_MESSAGE).collect();
    line.trim().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
        Answer::of(status, headers, body.as_bytes())
    }

    fn arm(status: u16, body: &str) -> CallFailed {
        CallFailed::from_answer(Service::Arm, Method::Delete, "deleting rule r", &answer(status, &[], body))
    }

    #[test]
    fn each_refusal_of_azure_has_its_kind() {
        let code = |code: &str| format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#);
        for (status, name, kind) in [
            (401, "InvalidAuthenticationToken", FailureKind::NotSignedIn),
            (403, "AuthorizationFailed", FailureKind::MissingRight),
            (403, "RequestDisallowedByPolicy", FailureKind::DeniedByPolicy),
            (404, "ResourceNotFound", FailureKind::NotFound),
            (409, "ScopeLocked", FailureKind::Locked),
            (409, "AnotherOperationInProgress", FailureKind::Busy),
            (409, "Conflict", FailureKind::Busy),
            (409, "SecurityRuleConflict", FailureKind::Refused),
            (412, "PreconditionFailed", FailureKind::PreconditionFailed),
            (429, "TooManyRequests", FailureKind::Throttled),
            (400, "InvalidApiVersionParameter", FailureKind::Refused),
            (500, "InternalServerError", FailureKind::Server),
            (503, "ServiceUnavailable", FailureKind::Server),
            (302, "", FailureKind::Refused),
        ] {
            let failed = arm(status, &code(name));
            assert_eq!((failed.kind, failed.code.as_str()), (kind, name), "{status}");
        }
    }

    #[test]
    fn a_busy_group_is_told_from_throttling_by_its_details() {
        let body = r#"{"error":{"code":"RetryableError","message":"A retryable error occurred.","details":[{"code":"RetryableErrorDueToAnotherOperation","message":"x"}]}}"#;
        let failed = arm(429, body);
        assert_eq!(failed.kind, FailureKind::Busy);
        assert_eq!(failed.detail_codes, ["RetryableErrorDueToAnotherOperation"]);
    }

    #[test]
    fn xml_errors_of_blob_and_service_bus_are_read() {
        let body = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>ContainerNotFound</Code><Message>The specified container does not exist.</Message></Error>";
        let failed = CallFailed::from_answer(
            Service::Blob,
            Method::Get,
            "reading x",
            &answer(404, &[("x-ms-error-code", "ContainerNotFound")], body),
        );
        assert_eq!((failed.kind, failed.code.as_str()), (FailureKind::NotFound, "ContainerNotFound"));
        assert_eq!(failed.message.as_ref(), "The specified container does not exist.");
        let body = "<Error><Code>410</Code><Detail>No such queue. TrackingId:1</Detail></Error>";
        let failed = CallFailed::from_answer(Service::ServiceBus, Method::Post, "sending", &answer(410, &[], body));
        assert_eq!((failed.kind, failed.message.as_ref()), (FailureKind::NotFound, "No such queue. TrackingId:1"));
        let failed = CallFailed::from_answer(Service::ServiceBus, Method::Post, "sending", &answer(403, &[], ""));
        assert_eq!(failed.kind, FailureKind::Refused);
    }

    #[test]
    fn a_wait_is_read_in_every_form() {
        let date = ("date", "Sun, 22 Nov 2026 08:00:00 GMT");
        let wait = |headers: &[(&str, &str)]| retry_after(&answer(429, headers, ""));
        assert_eq!(wait(&[("retry-after", "1200")]), Some(Duration::from_secs(1200)));
        assert_eq!(wait(&[("x-ms-retry-after-ms", "1500")]), Some(Duration::from_millis(1500)));
        assert_eq!(wait(&[date, ("retry-after", "Sun, 22 Nov 2026 08:00:30 GMT")]), Some(Duration::from_secs(30)));
        assert_eq!(wait(&[date, ("retry-after", "Sun, 22 Nov 2026 07:00:00 GMT")]), Some(Duration::ZERO));
        assert_eq!(wait(&[("retry-after", "soon")]), None);
    }

    #[test]
    fn the_text_is_one_sentence_with_a_cure() {
        let body = r#"{"error":{"code":"ScopeLocked","message":"The scope cannot perform delete operation because following scope(s) are locked: '/x'."}}"#;
        insta::assert_snapshot!(arm(409, body), @"deleting rule r: Azure Resource Manager answered 409 ScopeLocked: The scope cannot perform delete operation because following scope(s) are locked: '/x'; remove the lock that the message names, or let its owner do it");
    }

    #[test]
    fn a_refusal_of_graph_names_the_permissions_that_its_message_does_not() {
        let body = r#"{"error":{"code":"Authorization_RequestDenied","message":"Insufficient privileges to complete the operation."}}"#;
        let failed = CallFailed::from_answer(Service::Graph, Method::Get, "asking for a person", &answer(403, &[], body));
        assert_eq!(failed.kind, FailureKind::MissingRight);
        insta::assert_snapshot!(failed, @"asking for a person: Microsoft Graph answered 403 Authorization_RequestDenied: Insufficient privileges to complete the operation; give the app's identity User.Read.All and GroupMember.Read.All, as infra/registration.sh does (docs/install.md)");
    }

    #[test]
    fn only_what_was_sent_and_not_refused_may_have_happened() {
        assert!(arm(500, "").may_have_happened());
        assert!(!arm(409, "").may_have_happened());
        let cut = CallFailed::without_answer(Service::Arm, Method::Delete, "x", FailureKind::Doubtful, "");
        assert!(cut.may_have_happened());
        let unsent = CallFailed::without_answer(Service::Arm, Method::Delete, "x", FailureKind::Unreachable, "");
        assert!(!unsent.may_have_happened());
    }
}
