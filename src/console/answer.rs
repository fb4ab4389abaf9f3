//! What the API answers when it does not answer the question: always JSON with one sentence for a person.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Json;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tracing::error;
use uuid::Uuid;

use super::token::{Role, Untrusted};
use crate::azure::{CallFailed, FailureKind};
use crate::functions::Stopped;
use crate::store::StoreError;

/// Why a question is not answered. The sentence in it is for outsiders: it names nothing that they did not name.
#[derive(Debug)]
pub(super) enum Refusal {
    /// There is no such thing, or none that may be seen.
    NotFound,
    /// There is no record of this VM.
    NeverLookedAt,
    /// The path does not take the method.
    WrongMethod,
    /// The query cannot be understood.
    BadQuestion(String),
    /// The caller is not known.
    Untrusted(Untrusted),
    /// The caller is known and lacks the role.
    NotAllowed(Role),
    /// The caller is an application by itself, which asks for nothing.
    NoPerson,
    /// Azure does not say what or whom the caller named; the reason is for the log.
    NotAsked(String),
    /// Nothing of this id came to no end, or somebody else holds it.
    NoDeadLetter,
    /// It cannot be worked on as it is.
    Unusable(String),
    /// The queues cannot be used; the reason is for the log.
    Queue(CallFailed),
    /// The store cannot be used.
    Store(StoreError),
}

impl From<Stopped> for Refusal {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Store(error) => Refusal::Store(error),
            Stopped::Queue(failed) => Refusal::Queue(failed),
            Stopped::Lost(what) => Refusal::NotAsked(what),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Refusal::Store(error)
    }
}

/// What passes by itself may be asked again after this many seconds.
const AGAIN_AFTER: HeaderValue = HeaderValue::from_static("10");

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Refusal::NotFound => answer(StatusCode::NOT_FOUND, "NotFound", "There is nothing at this path."),
            Refusal::NeverLookedAt => {
                let message = "Portcullis has never looked at this VM: no event and no sweep has told of an opening there. \
                               Check the subscription, the resource group and the name.";
                answer(StatusCode::NOT_FOUND, "NeverLookedAt", message)
            }
            Refusal::WrongMethod => answer(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "This path does not take this method."),
            Refusal::BadQuestion(sentence) => answer(StatusCode::BAD_REQUEST, "BadRequest", &sentence),
            Refusal::Untrusted(Untrusted::KeysUnreadable(failed)) => {
                let message =
                    "The tenant's signing keys cannot be read just now, so no access token can be checked: try again in a moment.";
                unavailable("SignInUnavailable", message, &failed)
            }
            Refusal::Untrusted(untrusted) => {
                let mut response = answer(StatusCode::UNAUTHORIZED, "Unauthorized", &untrusted.to_string());
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge(&untrusted));
                response
            }
            Refusal::NotAllowed(role) => {
                let message = format!("The access token does not carry the app role {}: ask for it to be assigned.", role.value());
                answer(StatusCode::FORBIDDEN, "Forbidden", &message)
            }
            Refusal::NoPerson => {
                let message = "This is an application's own token, and only people ask for access: sign in as a person.";
                answer(StatusCode::FORBIDDEN, "PersonNeeded", message)
            }
            Refusal::NotAsked(why) => {
                let message = "Azure does not say just now which machine or person that is: give the machine as SUBSCRIPTION/GROUP/NAME \
                               and the person as an object id, or try again in a moment.";
                unavailable("AzureUnavailable", message, &why)
            }
            Refusal::NoDeadLetter => {
                let message = "Nothing of this id came to no end, or somebody else holds it just now: list what there is, and try again \
                               in a minute.";
                answer(StatusCode::NOT_FOUND, "NoDeadLetter", message)
            }
            Refusal::Unusable(why) => {
                let message = format!("It cannot be worked on as it is, and would be set aside again: {why}.");
                answer(StatusCode::CONFLICT, "Unusable", &message)
            }
            Refusal::Queue(failed) => {
                let message = "The queues do not answer as they should: check the app's roles on the namespace, or try again in a moment.";
                unavailable("QueueUnavailable", message, &failed)
            }
            Refusal::Store(error) => unavailable("StoreUnavailable", store_sentence(&error), &error),
        }
    }
}

/// RFC 6750: a caller who sent no token is told only that one is needed.
fn challenge(untrusted: &Untrusted) -> HeaderValue {
    match untrusted {
        Untrusted::Missing => HeaderValue::from_static("Bearer"),
        _ => HeaderValue::from_static("Bearer error=\"invalid_token\""),
    }
}

const NOT_AS_IT_SHOULD: &str = "The store does not answer as it should: until it does, nothing is judged, opened or closed.";

/// What is wrong with the store, without a name of it.
pub(super) fn store_sentence(error: &StoreError) -> &'static str {
    match error {
        StoreError::Unreachable(failed) => match failed.kind {
            FailureKind::MissingRight | FailureKind::NotSignedIn => {
                "The app may not use its store: check its identity and the identity's roles on the storage account."
            }
            FailureKind::NotFound
            | FailureKind::AlreadyExists
            | FailureKind::PreconditionFailed
            | FailureKind::Busy
            | FailureKind::Throttled
            | FailureKind::Locked
            | FailureKind::DeniedByPolicy
            | FailureKind::Unreachable
            | FailureKind::Doubtful
            | FailureKind::Refused
            | FailureKind::Server
            | FailureKind::Malformed => NOT_AS_IT_SHOULD,
        },
        StoreError::Hidden(_) => NOT_AS_IT_SHOULD,
        StoreError::Unmarked(_) => {
            "The store has no marker: it is not the store of Portcullis, or it was emptied; restore it, or write the marker if the estate is new."
        }
        StoreError::Unreadable { .. } => "A document in the store cannot be read: the log says which.",
    }
}

/// A failure on our side, until [`guarded`] gives it an id: outside there are code, message and id, and the log has
/// the reason under the same id.
#[derive(Clone)]
struct Failure {
    code: &'static str,
    message: &'static str,
    why: Arc<str>,
}

fn unavailable(code: &'static str, message: &'static str, why: &dyn std::fmt::Display) -> Response {
    let mut response = StatusCode::SERVICE_UNAVAILABLE.into_response();
    response.extensions_mut().insert(Failure { code, message, why: why.to_string().into() });
    response
}

impl Failure {
    fn told(self, id: &str) -> Response {
        error!(failure.id = id, error = %self.why, "a question could not be answered");
        let body = json!({"error": {"code": self.code, "message": self.message, "id": id}});
        let mut response = (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
        response.headers_mut().insert(RETRY_AFTER, AGAIN_AFTER);
        response
    }
}

/// Requests that came without an id of the host, since the start.
static WITHOUT_ID: AtomicU64 = AtomicU64::new(0);

/// The id of a request: the host's for the invocation, under which it is in the host's own log too. The host replaces
/// what a caller sends under this name.
fn id_of(request: &Request) -> String {
    let given = request.headers().get("x-azure-functions-invocationid").and_then(|id| Uuid::parse_str(id.to_str().ok()?).ok());
    given.map_or_else(|| format!("local-{}", WITHOUT_ID.fetch_add(1, Ordering::Relaxed)), |id| id.to_string())
}

fn answer(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({"error": {"code": code, "message": message}}))).into_response()
}

/// Gives every failure its id, and puts on every answer that it is kept by nobody and is nothing else than it says.
pub(super) async fn guarded(request: Request, next: Next) -> Response {
    let id = id_of(&request);
    let mut response = next.run(request).await;
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        response = failure.told(&id);
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
