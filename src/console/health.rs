//! Whether the app can do its work, for anybody who asks: it names nothing of the estate.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use tracing::warn;

use super::Console;
use super::answer::store_sentence;
use crate::functions::alert::{ROWS, RowsFailing};
use crate::store::{Store, StoreError};

/// What health says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    status: Status,
    mode: &'static str,
    loopback: bool,
    version: &'static str,
    store: Part,
    rows: Part,
    rules: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Status {
    Ok,
    Failing,
}

/// A part of the service.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Part {
    ok: bool,
    sentence: String,
}

impl Part {
    fn well(sentence: &str) -> Self {
        Part { ok: true, sentence: sentence.to_owned() }
    }

    fn failing(sentence: impl Into<String>) -> Self {
        Part { ok: false, sentence: sentence.into() }
    }
}

/// `GET /health`, which needs no token.
pub(super) async fn get(State(console): State<Console>) -> Response {
    let (store, rows) = parts(&console.app.store).await;
    let rules = rules(console.app.rulebook.rules().await.map(|_| ()));
    let status = if store.ok && rows.ok && rules.ok { Status::Ok } else { Status::Failing };
    let code = match status {
        Status::Ok => StatusCode::OK,
        Status::Failing => StatusCode::SERVICE_UNAVAILABLE,
    };
    let health = Health { status, mode: console.app.mode.text(), loopback: console.loopback, version: crate::VERSION, store, rows, rules };
    (code, Json(health)).into_response()
}

async fn parts(store: &Store) -> (Part, Part) {
    let checked = async {
        store.check().await?;
        store.check_audits().await
    };
    match checked.await {
        Ok(()) => (
            Part::well("The store answers."),
            rows(store.service::<RowsFailing>(ROWS).await.map(|held| held.and_then(|held| held.document.since))),
        ),
        Err(error) => {
            warn!(error = %error, "the store cannot be used");
            (Part::failing(store_sentence(&error)), Part::failing("Not known: the store cannot be used."))
        }
    }
}

/// Whether the rules can be used. Their mistakes name people and networks, so that the log alone has them.
fn rules(loaded: Result<(), &str>) -> Part {
    match loaded {
        Ok(()) => Part::well("The rules are used."),
        Err(_) => Part::failing(
            "The rules cannot be used: nothing opens, and openings that no hard limit forbids are only reported. The log says why; \
             `portcullis rules check` finds it before a deployment.",
        ),
    }
}

/// What is known of rows: since when they do not go out, if they do not.
fn rows(failing_since: Result<Option<DateTime<Utc>>, StoreError>) -> Part {
    match failing_since {
        Ok(None) => Part::well("Rows go out to Microsoft Sentinel."),
        Ok(Some(since)) => {
            let since = since.to_rfc3339_opts(SecondsFormat::Secs, true);
            Part::failing(format!(
                "Rows to Microsoft Sentinel have not been taken since {since}: they are sent again every minute, and the log says why."
            ))
        }
        Err(error) => {
            warn!(error = %error, "what is known of rows cannot be read");
            Part::failing(store_sentence(&error))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_that_are_not_taken_are_told_without_a_name() {
        assert!(rows(Ok(None)).ok);
        let since = "2026-01-15T09:00:00Z".parse().unwrap();
        insta::assert_snapshot!(rows(Ok(Some(since))).sentence, @"Rows to Microsoft Sentinel have not been taken since 2026-01-15T09:00:00Z: they are sent again every minute, and the log says why.");
        let unreadable = StoreError::Unreadable { name: "service/rows.json".to_owned(), why: "EOF".to_owned() };
        assert_eq!(rows(Err(unreadable)), Part::failing("A document in the store cannot be read: the log says which."));
    }

    #[test]
    fn the_document_explains_every_field() {
        use crate::console::tests::documented;
        let health = Health {
            status: Status::Ok,
            mode: "observe",
            loopback: false,
            version: "1",
            store: Part::well("Well."),
            rows: Part::failing("Not well."),
            rules: Part::well("Well."),
        };
        let shown = serde_json::to_value(&health).unwrap();
        let names: BTreeSet<&str> = shown.as_object().unwrap().keys().map(String::as_str).collect();
        let explained = documented("GET /api/health");
        assert_eq!(explained.into_iter().collect::<BTreeSet<_>>(), names);
    }
}
