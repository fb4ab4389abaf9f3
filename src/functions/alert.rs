//! Rows to Microsoft Sentinel: one for each audit record, at least once, with the record's id.

use chrono::{DateTime, Utc};
use portcullis_domain::audit::AuditKind;
use serde::{Deserialize, Serialize};
use tracing::{error, info};

use super::{App, Ended, Message, PATIENCE, Stopped, of_service};
use crate::store::{StoreError, Written};

/// What keeps rows from going out, as health tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RowsFailing {
    /// Since when; absent while rows go out.
    #[serde(default, deserialize_with = "portcullis_domain::time::stored")]
    pub since: Option<DateTime<Utc>>,
    /// What was answered last.
    pub said: String,
}

/// The name of the document that holds it.
pub const ROWS: &str = "rows";

/// Handles one message of the queue `alerts`.
pub async fn run(app: &App, body: &str) -> Ended {
    let message = match Message::read(body) {
        Ok(message @ Message::Row { .. }) => message,
        Ok(_) => return reject(app, body, "the queue alerts takes rows only").await,
        Err(why) => return reject(app, body, &why.to_string()).await,
    };
    let Message::Row { audit, .. } = &message else { return Ended::done("nothing to send") };
    match tokio::time::timeout(PATIENCE, send_row(app, audit)).await {
        Ok(Ok(note)) => Ended::done(note),
        // The row still has no receipt, by which the schedule sends it again: a message that waited for itself would be
        // doubled by every tick.
        Ok(Err(stopped)) => Ended::done(format!("row {audit} is sent again by the schedule: {stopped}")),
        Err(_) => Ended::done(format!("row {audit} is sent again by the schedule: it was not done in time")),
    }
}

async fn reject(app: &App, body: &str, reason: &str) -> Ended {
    app.reject_or_hold("alert", super::Queue::Alerts, body, reason).await
}

async fn send_row(app: &App, id: &str) -> Result<String, Stopped> {
    if !app.store.is_unsent(id).await? {
        app.store.check().await?;
        return Ok(format!("row {id} was sent before"));
    }
    let Some(audit) = app.store.audit(id).await? else {
        let never = app.store.forget_unwritten(id).await?;
        return Ok(format!("audit record {id} {}", if never { "was never written" } else { "is not written yet" }));
    };
    match app.azure.logs.ingest(&[audit.row(&app.installation)]).await {
        Ok(()) => {
            app.store.mark_sent(id).await?;
            note(app, None).await?;
            info!(audit.id = id, kind = audit.kind.text(), "row sent");
            Ok(format!("row {id} sent"))
        }
        Err(failed) => {
            // Without a receipt the schedule sends it again every minute.
            error!(audit.id = id, error = %failed, "a row was not taken");
            note(app, Some((audit.at, failed.to_string()))).await?;
            Ok(format!("row {id} was not taken and is sent again by the schedule: {failed}"))
        }
    }
}

/// Remembers whether rows go out, for health. Written only when it changes.
async fn note(app: &App, failing: Option<(DateTime<Utc>, String)>) -> Result<(), Stopped> {
    let held = app.store.service::<RowsFailing>(ROWS).await?;
    let before = held.as_ref().map(|held| held.document.clone()).unwrap_or(RowsFailing { since: None, said: String::new() });
    let after = match failing {
        Some((at, said)) => RowsFailing { since: before.since.or(Some(at)), said },
        None => RowsFailing { since: None, said: String::new() },
    };
    if after != before {
        let saved = app.store.save_service(ROWS, &after, held.and_then(|held| held.etag).as_deref()).await?;
        if matches!(saved, Written::Lost) {
            // Another row came to the same, or went out.
            return Ok(());
        }
    }
    match after.since {
        Some(since) => tell(app, since, &after.said).await,
        None => Ok(()),
    }
}

/// That rows do not go out is written down too, once each time it begins, be it by another run than the one that saw it begin: its
/// own row goes out when rows do again.
async fn tell(app: &App, since: DateTime<Utc>, said: &str) -> Result<(), Stopped> {
    let id = format!("rows-{}", since.format("%Y%m%dT%H%M%S"));
    let words =
        ("rows do not reach Microsoft Sentinel, so nobody is told there; each is sent again every minute".to_owned(), said.to_owned());
    let audit = of_service(&id, since, AuditKind::ServiceFailing, "rows", words);
    match app.store.audit(&audit.id).await {
        Ok(None) => app.store.write_audit(&audit).await.map(drop).map_err(Stopped::from),
        Ok(Some(_)) | Err(StoreError::Unreadable { .. }) => Ok(()),
        Err(failed) => Err(failed.into()),
    }
}
