//! What all faces have in common: a request comes in over TLS, meets the faults that wait for it, is answered
//! by one function under one lock of the state, and carries the world's time in `Date`.

mod packing;
pub mod server;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use crate::state::{Condition, State};

/// A request to a face, read whole.
#[derive(Clone, Debug)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The path, percent-encoding kept.
    pub path: String,
    /// The query's pairs, decoded, in their order.
    pub query: Vec<(String, String)>,
    /// The query as it was sent.
    pub raw_query: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The base URL under which this face is reached, such as `https://127.0.0.1:40001`.
    pub base: String,
    /// Base URLs of all faces, by name, for those that must point at another.
    pub bases: Arc<Bases>,
    /// Function and invocation of ours that made the call, if its `traceparent` says so.
    pub trace: Option<(String, String)>,
    /// The caller's address.
    pub ip: String,
    /// The caller's port.
    pub port: u16,
}

/// Where every face is reached.
#[derive(Clone, Debug, Default)]
pub struct Bases {
    /// By the name of the face: `arm`, `entra`, `identity`, `graph`, `servicebus`, `blob`, `logs`, `insights`,
    /// `eventgrid`, `api`, `control`.
    pub urls: BTreeMap<String, String>,
}

impl Bases {
    /// The base URL of a face; empty while it does not listen.
    pub fn url(&self, face: &str) -> &str {
        self.urls.get(face).map_or("", String::as_str)
    }
}

impl Call {
    /// A call that came over no wire, for tests: `target` is path and query. A method that is none counts as GET.
    pub fn new(method: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Call {
            method: method.parse().unwrap_or(Method::GET),
            path: path.to_owned(),
            query: query_pairs(query),
            raw_query: query.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            base: "https://127.0.0.1:1".to_owned(),
            bases: Arc::default(),
            trace: None,
            ip: "127.0.0.1".to_owned(),
            port: 1,
        }
    }

    /// The same with a header more. A name or value that HTTP does not allow is left out.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            self.headers.append(name, value);
        }
        self
    }

    /// The same with a bearer token.
    pub fn with_bearer(self, token: &str) -> Self {
        self.with_header("authorization", &format!("Bearer {token}"))
    }

    /// The same with a body.
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The first value of a query parameter, its name compared without case.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// A header as text; a value that is not UTF-8 counts as none.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| std::str::from_utf8(v.as_bytes()).ok())
    }

    /// The condition that the request carries; of both, `If-Match` is the stricter one.
    pub fn condition(&self) -> Option<Condition> {
        match (self.header("if-match"), self.header("if-none-match")) {
            (Some(_), _) => Some(Condition::IfMatch),
            (None, Some(_)) => Some(Condition::IfNoneMatch),
            (None, None) => None,
        }
    }

    /// Path and query as one text: the path as sent, the query decoded.
    pub fn target(&self) -> String {
        let mut target = self.path.clone();
        for (place, (name, value)) in self.query.iter().enumerate() {
            target.push(if place == 0 { '?' } else { '&' });
            target.push_str(name);
            target.push('=');
            target.push_str(value);
        }
        target
    }

    /// The segments of the path, each percent-decoded once, empty ones left out.
    pub fn segments(&self) -> Vec<String> {
        self.path.split('/').filter(|segment| !segment.is_empty()).map(percent_decoded).collect()
    }
}

/// What a face answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Headers besides `Date`, which the face's server adds from the world's clock.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// A status alone.
    pub fn empty(status: StatusCode) -> Self {
        Answer { status, headers: Vec::new(), body: Bytes::new() }
    }

    /// JSON, in the content type that Azure's services give it.
    pub fn json(status: StatusCode, body: &Value) -> Self {
        Answer::body(status, "application/json; charset=utf-8", body.to_string())
    }

    /// XML.
    pub fn xml(status: StatusCode, body: String) -> Self {
        Answer::body(status, "application/xml", body)
    }

    /// Plain text.
    pub fn text(status: StatusCode, body: &str) -> Self {
        Answer::body(status, "text/plain; charset=utf-8", body.to_owned())
    }

    /// The error envelope that ARM, Microsoft Graph and the Logs Ingestion API share:
    /// `{"error": {"code", "message"}}`.
    pub fn error(status: StatusCode, code: &str, message: &str) -> Self {
        Answer::json(status, &json!({ "error": { "code": code, "message": message } }))
    }

    /// The same with a header more.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A header of the answer, its name compared without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    fn body(status: StatusCode, content_type: &str, body: String) -> Self {
        Answer { status, headers: vec![("Content-Type".to_owned(), content_type.to_owned())], body: Bytes::from(body) }
    }
}

/// A face: one request, answered under the lock of the state.
pub type Face = fn(&mut State, &Call) -> Answer;

/// An instant as HTTP writes it in headers: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, IMF-fixdate).
pub fn http_date(at: DateTime<Utc>) -> String {
    at.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// The instant that [`http_date`] would write so; `None` for every other form.
pub fn parse_http_date(text: &str) -> Option<DateTime<Utc>> {
    let at = chrono::NaiveDateTime::parse_from_str(text, "%a, %d %b %Y %H:%M:%S GMT").ok()?;
    Some(at.and_utc())
}

/// The text with `%XX` turned into its byte, once. What is no such escape stays; bytes that are not UTF-8 become
/// the replacement character.
pub fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut place = 0;
    while let Some(&byte) = bytes.get(place) {
        match (byte, bytes.get(place + 1).and_then(hex), bytes.get(place + 2).and_then(hex)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high * 16 + low);
                place += 3;
            }
            _ => {
                decoded.push(byte);
                place += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex(byte: &u8) -> Option<u8> {
    char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The text with what XML gives a meaning to escaped.
pub fn xml_escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            c => escaped.push(c),
        }
    }
    escaped
}

fn query_pairs(query: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_once() {
        assert_eq!(percent_decoded("a%2520b%2Fc%zz%"), "a%20b/c%zz%");
        let call = Call::new("GET", "//state/inbox%2Fvm?prefix=a%2Bb&x=1");
        assert_eq!(call.segments(), ["state", "inbox/vm"]);
        assert_eq!(call.param("PREFIX"), Some("a+b"));
        assert_eq!(call.target(), "//state/inbox%2Fvm?prefix=a+b&x=1");
    }

    #[test]
    fn only_the_fixed_form_of_a_date_is_a_date() {
        let at = parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(http_date(at), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(parse_http_date("1994-11-06T08:49:37Z"), None);
        assert_eq!(parse_http_date("Sun, 06 Nov 1994 08:49:37 +0000"), None);
    }
}
