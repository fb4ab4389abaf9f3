//! What all faces have in common: a request comes in over TLS, meets the faults that wait for it, is answered
//! by one function under one lock of the state, and carries the world's time in `Date`.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use crate::state::State;

/// A request to a face, read whole.
#[derive(Clone, Debug)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The path, percent-encoding kept.
    pub path: String,
    /// The query's pairs, decoded, in their order.
    pub query: Vec<(String, String)>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The base URL under which this face is reached, such as `https://127.0.0.1:40001`.
    pub base: String,
    /// Base URLs of all faces, by name, for those that must point at another.
    pub bases: std::sync::Arc<Bases>,
    /// Function and invocation of ours that made the call, if its `traceparent` says so.
    pub trace: Option<(String, String)>,
    /// The caller's address.
    pub ip: String,
}

/// Where every face is reached.
#[derive(Clone, Debug, Default)]
pub struct Bases {
    /// By the name of the face: `arm`, `entra`, `identity`, `graph`, `servicebus`, `blob`, `logs`, `eventgrid`,
    /// `api`, `control`.
    pub urls: std::collections::BTreeMap<String, String>,
}

impl Call {
    /// The first value of a query parameter, its name compared without case.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(k, _)| k.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
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

/// A face: one request, answered under the lock of the state.
pub type Face = fn(&mut State, &Call) -> Answer;
