//! What ARM answers: bodies with their headers, and refusals in the error envelope.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::face::Answer;

/// An answer with success.
pub(super) struct Reply {
    pub status: StatusCode,
    pub body: Option<Value>,
    pub headers: Vec<(String, String)>,
}

/// What every operation ends in.
pub(super) type Outcome = Result<Reply, Refusal>;

impl Reply {
    /// 200 with a body.
    pub fn ok(body: Value) -> Self {
        Reply::with(StatusCode::OK, body)
    }

    /// Any status with a body.
    pub fn with(status: StatusCode, body: Value) -> Self {
        Reply { status, body: Some(body), headers: Vec::new() }
    }

    /// A status alone.
    pub fn empty(status: StatusCode) -> Self {
        Reply { status, body: None, headers: Vec::new() }
    }

    /// The same with one more header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The same with the `ETag` header of a body that carries an etag (recorded for the network provider).
    pub fn with_etag(self) -> Self {
        let etag = self.body.as_ref().and_then(|body| body.get("etag")).and_then(Value::as_str).map(str::to_owned);
        match etag {
            Some(etag) => self.header("ETag", etag),
            None => self,
        }
    }
}

/// Who refuses, as `x-ms-failure-cause` says (recorded 2026).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// ARM itself.
    Gateway,
    /// The resource provider.
    Service,
}

/// An answer with an error.
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
    pub cause: Cause,
    extra: Option<Box<Extra>>,
}

#[derive(Debug, Default)]
struct Extra {
    target: Option<String>,
    details: Vec<(&'static str, String)>,
    additional_info: Option<Value>,
    headers: Vec<(String, String)>,
}

impl Refusal {
    /// ARM refuses.
    pub fn gateway(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Refusal { status, code, message: message.into(), cause: Cause::Gateway, extra: None }
    }

    /// The resource provider refuses.
    pub fn service(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Refusal { cause: Cause::Service, ..Refusal::gateway(status, code, message) }
    }

    /// With the name of what it is about.
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.extra.get_or_insert_default().target = Some(target.into());
        self
    }

    /// With one more entry of `details`.
    pub fn detail(mut self, code: &'static str, message: impl Into<String>) -> Self {
        self.extra.get_or_insert_default().details.push((code, message.into()));
        self
    }

    /// With `additionalInfo`.
    pub fn additional_info(mut self, info: Value) -> Self {
        self.extra.get_or_insert_default().additional_info = Some(info);
        self
    }

    /// With one more header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.extra.get_or_insert_default().headers.push((name.to_owned(), value.into()));
        self
    }

    fn into_answer(self) -> Answer {
        let extra = self.extra.map(|extra| *extra).unwrap_or_default();
        let mut error = Map::new();
        error.insert("code".to_owned(), json!(self.code));
        error.insert("message".to_owned(), json!(self.message));
        if let Some(target) = extra.target {
            error.insert("target".to_owned(), json!(target));
        }
        if !extra.details.is_empty() {
            let details: Vec<Value> = extra.details.into_iter().map(|(code, message)| json!({"code": code, "message": message})).collect();
            error.insert("details".to_owned(), Value::Array(details));
        }
        if let Some(info) = extra.additional_info {
            error.insert("additionalInfo".to_owned(), info);
        }
        let cause = match self.cause {
            Cause::Gateway => "gateway",
            Cause::Service => "service",
        };
        let mut headers = extra.headers;
        headers.push(("x-ms-failure-cause".to_owned(), cause.to_owned()));
        let body = json!({ "error": error });
        with_body(StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), headers, &body)
    }
}

/// What an answer is about, for its headers.
pub(super) struct Headers {
    /// `x-ms-correlation-request-id`.
    pub correlation: String,
    /// Whether `x-ms-request-id` is there but empty, as recorded for JIT's PUT and initiate.
    pub empty_request_id: bool,
    /// What the caller has left.
    pub remaining: Vec<(&'static str, &'static str)>,
    /// `x-ms-client-request-id`, if the caller wants it back.
    pub client_request_id: Option<String>,
}

/// The answer on the wire.
pub(super) fn render(outcome: Outcome, about: Headers) -> Answer {
    let mut answer = match outcome {
        Ok(Reply { status, body: Some(body), headers }) => with_body(status, headers, &body),
        Ok(Reply { status, body: None, headers }) => Answer { status, headers, body: Bytes::new() },
        Err(refusal) => refusal.into_answer(),
    };
    let mut add = |name: &str, value: String| answer.headers.push((name.to_owned(), value));
    add("Cache-Control", "no-cache".to_owned());
    add("Pragma", "no-cache".to_owned());
    add("X-Content-Type-Options", "nosniff".to_owned());
    add("x-ms-request-id", if about.empty_request_id { String::new() } else { request_id() });
    add("x-ms-correlation-request-id", about.correlation);
    for (name, value) in about.remaining {
        add(name, value.to_owned());
    }
    if let Some(id) = about.client_request_id {
        add("x-ms-client-request-id", id);
    }
    answer
}

fn with_body(status: StatusCode, mut headers: Vec<(String, String)>, body: &Value) -> Answer {
    headers.push(("Content-Type".to_owned(), "application/json; charset=utf-8".to_owned()));
    Answer { status, headers, body: Bytes::from(body.to_string()) }
}

/// A new id for one request. It is not drawn from the world, so that reads leave the world as it was.
pub(super) fn request_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("0e9ae5d1-0000-4000-9000-{:012x}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// 404 for a resource that is not there.
pub(super) fn resource_not_found(id: &str, kind: &str) -> Refusal {
    let name = id.rsplit('/').next().unwrap_or_default();
    let group = super::path::segment_after(id, "resourceGroups").unwrap_or_default();
    Refusal::gateway(
        404,
        "ResourceNotFound",
        format!(
            "The Resource '{kind}/{name}' under resource group '{group}' was not found. \
             For more details please go to https://aka.ms/ARMResourceNotFoundFix"
        ),
    )
}

/// 405 for a method that the resource type does not have.
pub(super) fn method_not_allowed(method: &http::Method) -> Refusal {
    Refusal::gateway(405, "HttpMethodNotSupported", format!("The HTTP method '{method}' is not supported at this resource."))
}

/// 400 for a body that is no JSON.
pub(super) fn invalid_json(why: &serde_json::Error) -> Refusal {
    Refusal::gateway(400, "InvalidRequestContent", format!("The request content was invalid and could not be deserialized: '{why}'."))
}
