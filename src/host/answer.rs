//! What the Functions host is answered: always JSON, never an empty body.
//!
//! An empty 200 makes the host wait until its own timeout and then kill the program with everything under way in it,
//! so no answer of this program is ever empty.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

pub use crate::functions::Ended;

/// How an invocation ended, in one word: the answer brings it to whoever watches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome(pub &'static str);

impl IntoResponse for Ended {
    fn into_response(self) -> Response {
        let (line, outcome) = (shortened(self.line()), Outcome(self.outcome()));
        let mut response = match self {
            Ended::Done { .. } | Ended::AgainAt { .. } | Ended::Rejected { .. } => {
                Json(json!({"Outputs": {}, "Logs": [line], "ReturnValue": null})).into_response()
            }
            Ended::Failed { .. } => refusal(StatusCode::INTERNAL_SERVER_ERROR, "InvocationFailed", &line),
        };
        response.extensions_mut().insert(outcome);
        response
    }
}

/// Longer than any sentence of ours: what a foreign message makes of it does not fill the log.
const LONGEST_LINE: usize = 2_000;

fn shortened(line: String) -> String {
    match line.char_indices().nth(LONGEST_LINE) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
    }
}

/// A refusal as JSON with one sentence.
pub fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({"error": {"code": code, "message": message}}))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    async fn answered(ended: Ended) -> (StatusCode, Value) {
        let response = ended.into_response();
        assert_eq!(response.headers()["content-type"], "application/json");
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn every_success_has_the_form_that_the_host_wants() {
        let at = "2026-01-15T10:00:00Z".parse().unwrap();
        for (ended, line) in [
            (Ended::Done { note: "handled".to_owned() }, "handled"),
            (Ended::AgainAt { at, note: "nsg-1 is busy".to_owned() }, "again at 2026-01-15T10:00:00Z: nsg-1 is busy"),
            (Ended::Rejected { reason: "not ours".to_owned() }, "rejected: not ours"),
        ] {
            let mut expected: Value = serde_json::from_str(include_str!("../../tests/fixtures/host/response_ok.json")).unwrap();
            expected["Logs"] = json!([line]);
            assert_eq!(answered(ended).await, (StatusCode::OK, expected));
        }
    }

    #[tokio::test]
    async fn a_failure_is_a_500_with_a_sentence() {
        let (status, body) = answered(Ended::Failed { why: "no queue".to_owned() }).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(body["error"]["message"], "failed: no queue");
    }

    #[test]
    fn a_line_is_never_as_long_as_a_foreign_message() {
        let line = shortened(Ended::Rejected { reason: "Å".repeat(1_000_000) }.line());
        assert_eq!(line.chars().count(), LONGEST_LINE + 1);
    }
}
