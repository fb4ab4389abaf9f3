//! The functions: one file each, named as its folder, route and log lines are.
//!
//! Every one of them reads again before it acts, may run twice, and ends in one of the ways of [`Ended`].

pub mod alert;
pub mod approval;
mod ended;
pub mod jit_activity;
mod message;
pub mod schedule;
pub mod sweep;
pub mod sweep_shard;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use portcullis_domain::audit::{AuditKind, AuditRecord, Installation};
use portcullis_domain::finding::Severity;
use portcullis_domain::judge::Limits;
use portcullis_domain::opening::short_hash;
use portcullis_domain::reconcile::Mode;
use serde_json::json;
use tracing::{error, warn};

pub use self::ended::{Ended, Stopped};
pub use self::message::{Message, NotOurs, Queue, Round};
use crate::azure::servicebus::Options;
use crate::azure::{Azure, CallFailed};
use crate::settings::Settings;
use crate::store::{Store, StoreError};

/// Everything that the functions work with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App {
    /// The clients.
    pub azure: Azure,
    /// The store.
    pub store: Store,
    /// The limits of this installation.
    pub limits: Limits,
    /// Whether to act.
    pub mode: Mode,
    /// The most VMs with a never-covered opening that one shard's run sends to be closed.
    pub close_cap: usize,
    /// The subscriptions that are governed; empty means all that the identity can see.
    pub subscriptions: Vec<uuid::Uuid>,
    /// What rows say about this installation.
    pub installation: Installation,
    /// The period for which it was last told that the store does not answer.
    told_period: Arc<AtomicI64>,
}

impl App {
    /// Puts the app together; calls nothing.
    pub fn new(settings: &Settings) -> Self {
        let azure = Azure::new(settings);
        let store = Store::new(azure.blobs.clone(), &settings.state_container, &settings.audit_container);
        App {
            store,
            limits: Limits { longest_opening: settings.longest_opening },
            mode: settings.mode,
            close_cap: usize::try_from(settings.close_cap).unwrap_or(usize::MAX),
            subscriptions: settings.subscriptions.clone(),
            installation: Installation {
                name: settings.service_bus_namespace.clone(),
                tenant: settings.tenant_id.to_string(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            azure,
            told_period: Arc::new(AtomicI64::new(-1)),
        }
    }

    /// Sends a message now.
    async fn send(&self, message: &Message) -> Result<(), Stopped> {
        self.send_with(message, Options::default()).await
    }

    /// Sends a message that comes at a time.
    async fn send_at(&self, message: &Message, at: DateTime<Utc>) -> Result<(), Stopped> {
        self.send_with(message, Options { at: Some(at), ..Options::default() }).await
    }

    async fn send_with(&self, message: &Message, options: Options) -> Result<(), Stopped> {
        let options = Options { message_id: Some(message.id()), ..options };
        self.azure.bus.send(message.queue().name(), &message.body(), options).await.map_err(Stopped::Queue)
    }

    /// Writes an audit record and sends its row on its way. A row that cannot be sent now is sent by `schedule`, which
    /// finds it without a receipt.
    async fn write_audit(&self, audit: &AuditRecord) -> Result<(), Stopped> {
        self.store.write_audit(audit).await?;
        if let Err(why) = self.send(&Message::Row { audit: audit.id.clone(), tries: 0 }).await {
            warn!(audit.id, error = %why, "the row of an audit record waits for the schedule");
        }
        Ok(())
    }

    /// Stores what came in and cannot be used, and raises an alert.
    async fn reject(&self, from: &str, body: &str, reason: &str) -> Result<Ended, Stopped> {
        let id = short_hash(&format!("{from}|{body}"));
        let now = self.store.reject(&id, &json!({"from": from, "reason": reason, "body": body})).await?;
        let why = format!("{from} got something that it cannot use: {reason}. It is kept as rejected/{id}.json");
        self.write_audit(&self.service_audit(&format!("rejected-{id}"), now, AuditKind::Rejected, "rejected", why)).await?;
        error!(function = from, rejected.id = id, reason, "rejected");
        Ok(Ended::Rejected { reason: reason.to_owned() })
    }

    /// The end of an invocation whose body is none. Without the store the host has to deliver it again: what it was
    /// about is not known, so no message can stand for it.
    pub async fn reject_invocation(&self, function: &str, raw: &str, reason: &str) -> Ended {
        self.reject(function, raw, reason).await.unwrap_or_else(|stopped| Ended::Failed { why: format!("{reason}; and {stopped}") })
    }

    /// A message that cannot be used and cannot be stored either: the queue holds it until the store answers.
    async fn hold_unread(&self, queue: Queue, body: &str, stopped: Stopped) -> Ended {
        if let Stopped::Store(why) = &stopped {
            self.tell_without_receipt(why).await;
        }
        let held = match self.azure.service_time().await {
            Ok(now) => {
                let at = now + HOLD_UNREAD;
                let options = Options { at: Some(at), ..Options::default() };
                self.azure.bus.send(queue.name(), body, options).await.map(|()| at)
            }
            Err(why) => Err(why),
        };
        match held {
            Ok(at) => Ended::AgainAt { at, note: stopped.to_string() },
            Err(why) => Ended::Failed { why: format!("{stopped}; and {why}") },
        }
    }

    /// Tells, at most once an hour and subject, that a part of the service does not work.
    async fn tell_failing(&self, code: &str, subject: &str, failed: &CallFailed) {
        let told = async {
            let now = self.store.check().await?;
            let id = format!("{code}-{}-{}", short_hash(subject), now.format("%Y%m%dT%H"));
            let why = format!("{failed}. Until it works, openings around Portcullis are found by their events alone");
            self.write_audit(&self.service_audit(&id, now, AuditKind::ServiceFailing, code, why)).await
        };
        if let Err(stopped) = told.await {
            error!(error = %stopped, "a failure could not be written down");
        }
    }

    /// An audit record about the service itself.
    fn service_audit(&self, id: &str, at: DateTime<Utc>, kind: AuditKind, code: &str, why: String) -> AuditRecord {
        AuditRecord {
            id: format!("service-{id}"),
            at,
            kind,
            vm: None,
            port: None,
            sources: None,
            about: None,
            code: code.to_owned(),
            severity: Severity::High,
            why,
            attempt: None,
            claims: Vec::new(),
        }
    }

    /// The end of a message whose work was stopped: it is sent again to its own queue, which is success, since the
    /// broker holds it; or the store holds it for the schedule. Only when neither takes it, the host has to deliver it
    /// again.
    async fn put_off(&self, message: &Message, stopped: Stopped) -> Ended {
        let wait = match &stopped {
            Stopped::Lost(_) => TimeDelta::seconds(1),
            Stopped::Store(_) | Stopped::Queue(_) => store_pause(message.tries()),
        };
        if let Stopped::Store(why) = &stopped {
            self.tell_without_receipt(why).await;
        }
        self.put_off_for(message, wait, stopped.to_string()).await
    }

    /// Sends the same message again for later, by Service Bus' clock, or the store's where that does not answer.
    async fn put_off_for(&self, message: &Message, wait: TimeDelta, note: String) -> Ended {
        let now = match self.azure.service_time().await {
            Ok(now) => Ok(now),
            Err(_) => self.store.check().await,
        };
        let at = match now {
            Ok(now) => now + wait,
            Err(why) => return Ended::Failed { why: format!("{note}; and {why}") },
        };
        match self.send_or_keep(&message.again(), at).await {
            Ok(()) => Ended::AgainAt { at, note },
            Err(why) => Ended::Failed { why: format!("{note}; and {why}") },
        }
    }

    /// Sends a message for a time. If its queue does not take it, the store keeps it and the schedule sends it.
    async fn send_or_keep(&self, message: &Message, at: DateTime<Utc>) -> Result<(), Stopped> {
        let Err(why) = self.send_at(message, at).await else { return Ok(()) };
        warn!(error = %why, "the store keeps a message that its queue does not take");
        self.store.keep_message(at, &message.body()).await.map_err(|_| why)
    }

    /// While the store does not answer, a row a period goes out that no receipt is kept of.
    async fn tell_without_receipt(&self, why: &StoreError) {
        error!(error = %why, "the store cannot be used: nothing is judged, opened or closed");
        let Ok(now) = self.azure.service_time().await else { return };
        let period = now.timestamp() / TELL_EVERY_SECONDS;
        if self.told_period.swap(period, Ordering::Relaxed) == period {
            return;
        }
        let why = format!("the store cannot be used, so nothing is judged, opened or closed: {why}");
        let audit = self.service_audit(&format!("store-{period}"), now, AuditKind::ServiceFailing, "store", why);
        if let Err(why) = self.azure.logs.ingest(&[audit.row(&self.installation)]).await {
            error!(error = %why, "that the store cannot be used could not be told either");
        }
    }
}

/// A period of the sweep: how often a store that does not answer is told of.
const TELL_EVERY_SECONDS: i64 = 300;

/// How long a message that cannot be used waits for the store.
const HOLD_UNREAD: TimeDelta = TimeDelta::seconds(60);

/// How long a message waits for the store: 10, 20 and so on to 300 seconds.
fn store_pause(tries: u32) -> TimeDelta {
    TimeDelta::seconds((10 * (i64::from(tries) + 1)).min(300))
}

/// How long a message waits that Azure would not serve: what Azure says, else growing to a minute.
fn call_pause(failed: &CallFailed, tries: u32) -> TimeDelta {
    let asked = failed.retry_after.and_then(|wait| TimeDelta::from_std(wait).ok());
    asked.unwrap_or_else(|| TimeDelta::seconds((4i64 << tries.min(4)).min(60)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_for_the_store_grow_by_ten_seconds_to_five_minutes() {
        let seconds: Vec<i64> = [0, 1, 28, 29, 30, 400].map(|tries| store_pause(tries).num_seconds()).to_vec();
        assert_eq!(seconds, [10, 20, 290, 300, 300, 300]);
    }
}
