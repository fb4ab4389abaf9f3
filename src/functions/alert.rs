//! Rows to Microsoft Sentinel: one for each audit record, at least once, with the record's id.

use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use portcullis_domain::audit::{AuditKind, AuditRecord};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::{error, info};

use super::{App, Ended, Message, PATIENCE, Stopped, gathered_in_lanes, of_service};
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
    let Message::Row { audit, with, .. } = message else { return Ended::done("nothing to send") };
    let ids: Vec<String> = std::iter::once(audit).chain(with).collect();
    match tokio::time::timeout(PATIENCE, send(app, &ids)).await {
        Ok(Ok(note)) => Ended::done(note),
        // What still has no receipt the schedule sends again: a message that waited for itself would be doubled by every tick.
        Ok(Err(stopped)) => Ended::done(format!("{} is sent again by the schedule: {stopped}", rows(&ids))),
        Err(_) => Ended::done(format!("{} is sent again by the schedule: it was not done in time", rows(&ids))),
    }
}

/// What is sent, by its ids.
fn rows(ids: &[String]) -> String {
    format!("row {}", ids.join(", "))
}

async fn reject(app: &App, body: &str, reason: &str) -> Ended {
    app.reject_or_hold("alert", super::Queue::Alerts, body, reason).await
}

/// Sends the rows of these audit records that have no receipt, all in one call.
async fn send(app: &App, ids: &[String]) -> Result<String, Stopped> {
    let (mut audits, mut notes) = (Vec::new(), Vec::new());
    for read in gathered_in_lanes(ids, |id| unsent(app, id)).await? {
        match read {
            Ok(audit) => audits.push(audit),
            Err(note) => notes.push(note),
        }
    }
    let Some(first) = audits.iter().map(|audit| audit.at).min() else { return Ok(notes.join("; ")) };
    let ids: Vec<String> = audits.iter().map(|audit| audit.id.clone()).collect();
    let sent: Vec<Value> = audits.iter().map(|audit| audit.row(&app.installation)).collect();
    match app.azure.logs.ingest(&sent).await {
        Ok(()) => {
            let receipts = gathered_in_lanes(&ids, |id| app.store.mark_sent(id)).await?;
            rows_went(app, receipts.into_iter().max().map_or(i64::MIN, |now| now.timestamp())).await?;
            for audit in &audits {
                info!(audit.id, kind = audit.kind.text(), "row sent");
            }
            notes.push(format!("{} sent", rows(&ids)));
        }
        Err(failed) => {
            // Without a receipt the schedule sends each again every minute.
            error!(audit.id = ids[0], rows = ids.len(), error = %failed, "rows were not taken");
            app.rows_went.store(i64::MIN, Ordering::Relaxed);
            note(app, Some((first, failed.to_string()))).await?;
            notes.push(format!("{} was not taken and is sent again by the schedule: {failed}", rows(&ids)));
        }
    }
    Ok(notes.join("; "))
}

/// The audit record whose row is to be sent, or why there is nothing to send.
async fn unsent(app: &App, id: &str) -> Result<Result<AuditRecord, String>, Stopped> {
    if !app.store.is_unsent(id).await? {
        app.store.check().await?;
        return Ok(Err(format!("row {id} was sent before")));
    }
    if let Some(audit) = app.store.audit(id).await? {
        return Ok(Ok(audit));
    }
    let never = app.store.forget_unwritten(id).await?;
    Ok(Err(format!("audit record {id} {}", if never { "was never written" } else { "is not written yet" })))
}

/// Remembers that rows go out. That nothing says otherwise is known for a minute: another process may say so meanwhile, and what it
/// says stands for so long at least.
async fn rows_went(app: &App, now: i64) -> Result<(), Stopped> {
    let since = now.saturating_sub(app.rows_went.load(Ordering::Relaxed));
    if !(0..KNOWN_FOR_SECONDS).contains(&since) {
        note(app, None).await?;
        app.rows_went.store(now, Ordering::Relaxed);
    }
    Ok(())
}

/// See [`rows_went`].
const KNOWN_FOR_SECONDS: i64 = 60;

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
