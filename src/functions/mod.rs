//! The functions: one file each, named as its folder, route and log lines are.
//!
//! Every one of them reads again before it acts, may run twice, and ends in one of the ways of [`Ended`].

pub mod alert;
pub mod approval;
mod audited;
pub mod dead_letters;
mod ended;
mod incidents;
pub mod jit_activity;
mod kept;
mod machines;
mod message;
pub mod people;
pub mod schedule;
mod sent;
pub mod sweep;
pub mod sweep_shard;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{TryStreamExt, stream};
use portcullis_domain::arm_id::VmId;
use portcullis_domain::audit::{AuditKind, AuditRecord, Installation};
use portcullis_domain::finding::Severity;
use portcullis_domain::initiate::Newer;
use portcullis_domain::judge::Limits;
use portcullis_domain::opening::short_hash;
use portcullis_domain::reconcile::Mode;
use portcullis_domain::want::Want;
use serde_json::json;
use tokio::time::timeout;
use tracing::{error, warn};

use self::audited::Audited;
pub use self::ended::{Ended, Stopped};
use self::kept::Kept;
pub use self::message::{DueEntry, Message, NotOurs, Queue, Round};
use self::people::{NotKnown, PeopleKept};
use self::sent::Sent;
use crate::azure::servicebus::Options;
use crate::azure::{Azure, CallFailed, MOST_AT_ONCE};
use crate::rulebook::Rulebook;
use crate::settings::Settings;
use crate::store::{Due, Store, StoreError};
use crate::telemetry::Measure;
use crate::turns::Turns;

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
    /// What a newer `initiate` makes of an older one.
    pub newer: Newer,
    /// The most VMs with a never-covered opening that one shard's run sends to be closed.
    pub close_cap: usize,
    /// The subscriptions that are governed; empty means all that the identity can see.
    pub subscriptions: Vec<uuid::Uuid>,
    /// Whether Application Insights is told of the work.
    pub has_telemetry: bool,
    /// The rules.
    pub rulebook: Rulebook,
    /// What is known of people.
    people: Arc<PeopleKept>,
    /// The management groups above subscriptions, by the subscription's id.
    management_groups: Arc<Kept<BTreeSet<String>>>,
    /// Live grants whose audit records were seen.
    audited: Arc<Audited>,
    /// What looks were sent for a moment ago.
    sent: Arc<Sent>,
    /// What rows say about this installation.
    pub installation: Installation,
    /// The period for which it was last told that the store does not answer.
    told_store: Arc<AtomicI64>,
    /// The period for which it was last told that an invocation took too long.
    told_slow: Arc<AtomicI64>,
    /// Shards that may hold the lists of a subscription at once: as many as can list at once, with three calls each.
    shard_reads: Turns,
    /// Sends of looks by all shards of a sweep that may be under way at once: as many as there are connections.
    shard_sends: Turns,
    /// The hour for which it was last told of a subscription that it was swept.
    told_swept: Arc<Mutex<BTreeMap<uuid::Uuid, i64>>>,
    /// By the store's clock, in seconds, when it was last seen that nothing says that rows do not go out.
    rows_went: Arc<AtomicI64>,
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
            newer: settings.jit_newer,
            close_cap: usize::try_from(settings.close_cap).unwrap_or(usize::MAX),
            subscriptions: settings.subscriptions.clone(),
            has_telemetry: settings.insights.is_some(),
            rulebook: Rulebook::new(settings.policies.clone()),
            people: Arc::default(),
            management_groups: Arc::default(),
            audited: Arc::default(),
            sent: Arc::default(),
            installation: Installation {
                name: settings.app_name.clone(),
                tenant: settings.tenant_id.to_string(),
                version: crate::VERSION.to_owned(),
            },
            azure,
            told_store: Arc::new(AtomicI64::new(-1)),
            told_slow: Arc::new(AtomicI64::new(-1)),
            shard_reads: Turns::new(MOST_AT_ONCE / 3),
            shard_sends: Turns::new(LANES),
            told_swept: Arc::default(),
            rows_went: Arc::new(AtomicI64::new(i64::MIN)),
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

    /// Leaves what somebody wants for the next look at the VM, and sends for it. The due entry stands before the wish, so
    /// that the schedule looks if the queue does not take the message.
    pub async fn want(&self, want: &Want) -> Result<(), StoreError> {
        self.store.put_due(&Due { at: want.at, vm: want.vm.clone(), run: want.id.chars().take(8).collect() }).await?;
        self.store.leave_want(want).await?;
        if let Err(why) = self.send(&Message::look(&want.vm)).await {
            warn!(want.id, error = %why, "a look could not be sent: the schedule looks instead");
        }
        Ok(())
    }

    /// Whether the VM's subscription is one of those that the settings name.
    pub fn governs_vm(&self, vm: &VmId) -> bool {
        self.governs(&vm.subscription())
    }

    /// Whether this subscription, as a GUID in lower case, is one of those that the settings name.
    fn governs(&self, subscription: &str) -> bool {
        self.subscriptions.is_empty() || self.subscriptions.iter().any(|known| known.to_string() == subscription)
    }

    /// The governed subscriptions: those of the settings, else all that the identity can see.
    pub async fn governed_subscriptions(&self) -> Result<Vec<uuid::Uuid>, CallFailed> {
        if self.subscriptions.is_empty() { self.azure.subscriptions.visible().await } else { Ok(self.subscriptions.clone()) }
    }

    /// The object id of somebody by the name that they sign in with. While the rules cannot be used nobody is asked: nothing
    /// opens then.
    pub async fn person_id(&self, name: &str, now: DateTime<Utc>) -> Result<String, NotKnown> {
        let rules = self.rulebook.rules().await.map_err(|_| NotKnown::Unreachable("the rules cannot be used".to_owned()))?;
        self.people.id_of(&self.azure.graph, rules, name, now).await
    }

    /// Writes an audit record and sends its row on its way.
    async fn write_audit(&self, audit: &AuditRecord) -> Result<(), Stopped> {
        let written = self.keep_audit(audit).await?;
        self.send_rows(&[written]).await;
        Ok(())
    }

    /// Writes an audit record, and gives it as it stands then. Whoever writes it sends its row, too; one that is not sent is found by
    /// `schedule`, since it has no receipt.
    async fn keep_audit(&self, audit: &AuditRecord) -> Result<AuditRecord, Stopped> {
        let apart = self.store.write_audit(audit).await?;
        if let Some(apart) = &apart {
            warn!(
                audit.id = apart.id,
                "another audit record has the id {}: the machine's record in the store was lost, or is older", audit.id
            );
        }
        let audit = apart.unwrap_or_else(|| audit.clone());
        self.count(&audit);
        Ok(audit)
    }

    /// Writes several audit records, side by side: none of them needs another. Gives them as [`Self::keep_audit`] does, in any order.
    async fn keep_audits(&self, audits: &[AuditRecord]) -> Result<Vec<AuditRecord>, Stopped> {
        gathered_in_lanes(audits, |audit| self.keep_audit(audit)).await
    }

    /// Sends the rows of audit records on their way. What cannot be sent now is sent by `schedule`.
    async fn send_rows(&self, audits: &[AuditRecord]) {
        for some in audits.chunks(MOST_ROWS) {
            let mut ids = some.iter().map(|audit| audit.id.clone());
            let Some(first) = ids.next() else { continue };
            let rows = Message::Row { audit: first.clone(), with: ids.collect(), tries: 0 };
            match timeout(TELL_WITHIN, self.send(&rows)).await {
                Ok(Ok(())) => continue,
                Ok(Err(why)) => {
                    warn!(audit.id = first, error = %why, "the queue does not take rows of audit records: they are sent from here")
                }
                Err(_) => warn!(audit.id = first, "the queue is slow to take rows of audit records: they are sent from here"),
            }
            let rows: Vec<_> = some.iter().map(|audit| audit.row(&self.installation)).collect();
            match timeout(TELL_WITHIN, self.azure.logs.ingest(&rows)).await {
                Ok(Ok(())) => {
                    if let Err(why) = in_lanes(some, |audit| async { self.store.mark_sent(&audit.id).await.map(drop) }).await {
                        warn!(audit.id = first, error = %why, "rows of audit records have no receipt, and come again");
                    }
                }
                Ok(Err(why)) => warn!(audit.id = first, error = %why, "rows of audit records wait for the schedule"),
                Err(_) => warn!(audit.id = first, "rows of audit records wait for the schedule: ingestion is slow"),
            }
        }
    }

    /// Counts the alarms that audit records tell of, and logs those that are raised: Azure Monitor asks the log for them.
    fn count(&self, audit: &AuditRecord) {
        match audit.kind {
            AuditKind::AlarmRaised => {
                warn!(audit.id = audit.id, code = audit.code, "an alarm was raised");
                self.azure.telemetry.measure(Measure::AlarmRaised { code: &audit.code });
            }
            AuditKind::AlarmCleared => self.azure.telemetry.measure(Measure::AlarmCleared { code: &audit.code }),
            _ => {}
        }
    }

    /// Writes an audit record that may have been written before by another invocation: then its row was sent, too, or is.
    async fn write_audit_once(&self, audit: &AuditRecord) -> Result<(), Stopped> {
        match self.store.audit(&audit.id).await {
            Ok(Some(there)) if !audit.is_another_than(&there) => Ok(()),
            Err(StoreError::Unreadable { .. }) => Ok(()),
            Ok(_) => self.write_audit(audit).await,
            Err(failed) => Err(failed.into()),
        }
    }

    /// Stores what came in and cannot be used, and raises an alert.
    async fn reject(&self, from: &str, body: &str, reason: &str) -> Result<Ended, Stopped> {
        let id = short_hash(&format!("{from}|{body}"));
        let now = self.store.reject(&id, &json!({"from": from, "reason": reason, "body": body})).await?;
        let what = format!("{from} got something that it cannot use");
        let why = format!(
            "{reason}. It is kept whole as rejected/{id}.json in the store's container and is not tried again: find out who sent it"
        );
        self.write_audit_once(&of_service(&format!("rejected-{id}"), now, AuditKind::Rejected, "rejected", (what, why))).await?;
        // The reason may hold a part of what came in, and no log does.
        error!(function = from, rejected.id = id, "rejected");
        Ok(Ended::Rejected { reason: reason.to_owned() })
    }

    /// Keeps an entry of the store that cannot be read where nothing trips over it, and raises an alert.
    async fn set_aside(&self, from: &str, name: &str, why: &str) -> Result<(), Stopped> {
        let text = self.store.text(name).await?;
        self.reject(from, &text, &format!("{name} in the store cannot be read: {why}")).await?;
        self.store.remove(name).await?;
        Ok(())
    }

    /// The end of an invocation whose body is none. What no queue brings is delivered again by the host.
    pub async fn reject_invocation(&self, function: &str, queue: Option<Queue>, raw: &str, reason: &str) -> Ended {
        match queue {
            Some(queue) => self.reject_or_hold(function, queue, raw, reason).await,
            None => match self.reject(function, raw, reason).await {
                Ok(ended) => ended,
                Err(stopped) => Ended::Failed { why: format!("{reason}; and {stopped}") },
            },
        }
    }

    /// The end of a message that cannot be used: the store keeps it, or its queue holds it until the store answers.
    async fn reject_or_hold(&self, function: &str, queue: Queue, body: &str, reason: &str) -> Ended {
        let (note, store) = match timeout(PATIENCE, self.reject(function, body, reason)).await {
            Ok(Ok(ended)) => return ended,
            Ok(Err(Stopped::Store(why))) => (why.to_string(), Some(why)),
            Ok(Err(stopped)) => (stopped.to_string(), None),
            Err(_) => (slowness(), None),
        };
        let held = saved(|| async {
            let now = self.azure.service_time().await?;
            let at = now + HOLD_UNREAD;
            let options = Options { at: Some(at), ..Options::default() };
            self.once(body, now, at, self.azure.bus.send(queue.name(), body, options)).await?;
            Ok::<_, CallFailed>(at)
        });
        let ended = match held.await {
            Ok(at) => Ended::AgainAt { at, note },
            Err(why) => Ended::Failed { why: format!("{note}; and {why}") },
        };
        if let Some(why) = store {
            told_in_time(self.tell_without_receipt(&why)).await;
        }
        ended
    }

    /// Tells, at most once an hour and subject, that a part of the service does not work. Gives whether it is written down.
    async fn tell_failing(&self, code: &str, subject: &str, why: &str, meanwhile: &str) -> bool {
        let told = async {
            let now = self.store.check().await?;
            let id = format!("{code}-{}-{}", short_hash(subject), now.format("%Y%m%dT%H"));
            let words = (meanwhile.to_owned(), why.to_owned());
            self.write_audit_once(&of_service(&id, now, AuditKind::ServiceFailing, code, words)).await
        };
        told.await.inspect_err(|stopped| error!(error = %stopped, "a failure could not be written down")).is_ok()
    }

    /// Handles a message within the time that an invocation has. What is not done by then is sent again, and told:
    /// whatever was begun is durable, and a message that the host delivers ten times for its slowness would be dead.
    async fn within(&self, message: &Message, work: impl Future<Output = Result<Ended, Stopped>>) -> Ended {
        match timeout(PATIENCE, work).await {
            Ok(Ok(ended)) => ended,
            // Boxed, since it seldom happens, and each message would have its room.
            Ok(Err(stopped)) => Box::pin(self.put_off(message, stopped)).await,
            Err(_) => {
                let ended = Box::pin(self.put_off_for(message, store_pause(message.tries()), slowness())).await;
                told_in_time(Box::pin(self.tell_directly(&self.told_slow, "slow", &slowness()))).await;
                ended
            }
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
        let ended = self.put_off_for(message, wait, stopped.to_string()).await;
        // There is little time left, and the message came first.
        if let Stopped::Store(why) = &stopped {
            told_in_time(self.tell_without_receipt(why)).await;
        }
        ended
    }

    /// Sends the same message again for later, by Service Bus' clock, or the store's where that does not answer.
    async fn put_off_for(&self, message: &Message, wait: TimeDelta, note: String) -> Ended {
        let again = message.again();
        let put_off = saved(|| async {
            let now = match timeout(CLOCK_WITHIN, self.azure.service_time()).await {
                Ok(Ok(now)) => now,
                Ok(Err(_)) | Err(_) => self.store.check().await?,
            };
            let at = now + wait;
            Ok::<_, Stopped>((at, self.once(&again.body(), now, at, self.send_or_keep(&again, at)).await?))
        });
        match put_off.await {
            Ok((at, true)) => Ended::AgainAt { at, note },
            Ok((_, false)) => Ended::done(format!("the same message comes later: {note}")),
            Err(why) => Ended::Failed { why: format!("{note}; and {why}") },
        }
    }

    /// Has a message sent that comes at `at`, unless one with the same body, which does the same, comes after `now` and no later: a
    /// message that is delivered twice would otherwise be two from then on. Whether it was sent. What is being sent is waited for,
    /// since it may fail.
    ///
    /// A body with its tries is sent by whoever has one try less, so that no message is taken for the one that it was sent by.
    async fn once<E>(
        &self,
        body: &str,
        now: DateTime<Utc>,
        at: DateTime<Utc>,
        send: impl Future<Output = Result<(), E>>,
    ) -> Result<bool, E> {
        self.once_of(&body, DateTime::UNIX_EPOCH, now, at, send).await
    }

    /// The same of messages that are alike but for what they see: one stands for those that are content with less than what there was
    /// at its `since`.
    async fn once_of<E>(
        &self,
        alike: &impl Hash,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
        at: DateTime<Utc>,
        send: impl Future<Output = Result<(), E>>,
    ) -> Result<bool, E> {
        let mark = self.sent.mark(alike);
        let _turn = self.sent.turn(&mark).await;
        if self.sent.comes_later(mark, now, at, since) {
            return Ok(false);
        }
        send.await?;
        self.sent.put_off(mark, now, at, since);
        Ok(true)
    }

    /// Sends a message for a time. If its queue does not take it, the store keeps it and the schedule sends it.
    async fn send_or_keep(&self, message: &Message, at: DateTime<Utc>) -> Result<(), Stopped> {
        let Err(why) = self.send_at(message, at).await else { return Ok(()) };
        warn!(error = %why, "the store keeps a message that its queue does not take");
        self.store.keep_message(at, &message.body()).await.map_err(|_| why.clone())?;
        told_in_time(self.tell_queue(&why)).await;
        Ok(())
    }

    /// Tells that a queue takes no messages.
    async fn tell_queue(&self, why: &Stopped) {
        self.tell_failing("queue", "queue", &why.to_string(), "a queue takes no messages, so that everything waits for the schedule").await;
    }

    /// While the store does not answer, a row a period goes out that no receipt is kept of.
    async fn tell_without_receipt(&self, why: &StoreError) {
        match why {
            StoreError::Unreachable(_) | StoreError::Unmarked(_) | StoreError::Hidden(_) => {}
            // One document of it; the store itself works.
            StoreError::Unreadable { .. } => return,
        }
        error!(error = %why, "the store cannot be used: nothing is judged, opened or closed");
        let why = format!("the store cannot be used, so nothing is judged, opened or closed: {why}");
        self.tell_directly(&self.told_store, "store", &why).await;
    }

    /// Tells that a sweep goes on, by a row of which no record is kept: where such rows stop coming, Sentinel finds that nothing
    /// is swept. Whether it could be told.
    async fn tell_swept(&self, name: &str, now: DateTime<Utc>, code: &str, about: Option<String>, what: String) -> bool {
        let audit = AuditRecord { what, about, ..AuditRecord::of_service(name, now, AuditKind::Swept, code, Severity::Informational) };
        let told = self.azure.logs.ingest(&[audit.row(&self.installation)]).await;
        told.inspect_err(|why| warn!(error = %why, "that a sweep goes on could not be told")).is_ok()
    }

    /// Tells at most once a period, by a row that no receipt is kept of.
    async fn tell_directly(&self, told: &AtomicI64, code: &str, why: &str) {
        let Ok(now) = self.azure.service_time().await else { return };
        let period = now.timestamp() / TELL_EVERY_SECONDS;
        let before = told.swap(period, Ordering::Relaxed);
        if before == period {
            return;
        }
        // Whether it fails or is cut off, whoever comes next tells of it.
        let untold = Untold { told, before };
        let words = (String::new(), why.to_owned());
        let audit = of_service(&format!("{code}-{period}"), now, AuditKind::ServiceFailing, code, words);
        match self.azure.logs.ingest(&[audit.row(&self.installation)]).await {
            Ok(()) => std::mem::forget(untold),
            Err(why) => error!(error = %why, code, "a failure of the service could not be told either"),
        }
    }
}

/// Puts the mark of the period back that was last told in.
struct Untold<'a> {
    told: &'a AtomicI64,
    before: i64,
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        self.told.store(self.before, Ordering::Relaxed);
    }
}

/// A name that nothing else has: of a run, of a wish.
pub(crate) fn fresh_name() -> String {
    unheard_of().to_string()
}

/// A place in a list of so many, another one each time; the first in an empty one.
fn somewhere(many: usize) -> usize {
    usize::try_from(unheard_of().as_u64_pair().1).unwrap_or_default().checked_rem(many).unwrap_or_default()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place of the app that needs something unheard of: two runs with one name would share a lease"
)]
fn unheard_of() -> uuid::Uuid {
    uuid::Uuid::new_v4()
}

/// An audit record about the service itself: what is so, and why.
fn of_service(id: &str, at: DateTime<Utc>, kind: AuditKind, code: &str, (what, why): (String, String)) -> AuditRecord {
    let severity = if kind == AuditKind::Rejected { Severity::Medium } else { Severity::High };
    AuditRecord { what, why, ..AuditRecord::of_service(id, at, kind, code, severity) }
}

/// Rows that one message names. Those of a look are fewer, but for that of a machine with very many openings.
const MOST_ROWS: usize = 50;

/// Does something with each of many, a few at a time, and stops at the first that fails.
pub(crate) async fn in_lanes<'a, T, F, E>(all: &'a [T], each: impl Fn(&'a T) -> F) -> Result<(), E>
where
    F: Future<Output = Result<(), E>>,
{
    stream::iter(all.iter().map(Ok)).try_for_each_concurrent(LANES, each).await
}

/// The same, for what comes of each, in any order.
async fn gathered_in_lanes<'a, T, R, F, E>(all: &'a [T], each: impl Fn(&'a T) -> F) -> Result<Vec<R>, E>
where
    F: Future<Output = Result<R, E>>,
{
    let gathered = Mutex::new(Vec::with_capacity(all.len()));
    in_lanes(all, |one| {
        let (doing, gathered) = (each(one), &gathered);
        async move {
            let done = doing.await?;
            gathered.lock().unwrap_or_else(PoisonError::into_inner).push(done);
            Ok(())
        }
    })
    .await?;
    Ok(gathered.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Does something with each of many, a few at a time, whatever comes of the others; the error is the first.
async fn all_in_lanes<'a, T, F, E>(all: &'a [T], each: impl Fn(&'a T) -> F) -> Result<(), E>
where
    F: Future<Output = Result<(), E>>,
{
    let first = Mutex::new(Ok(()));
    let Ok(()) = in_lanes(all, |one| {
        let (doing, first) = (each(one), &first);
        async move {
            let done = doing.await;
            let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
            if first.is_ok() {
                *first = done;
            }
            Ok::<_, Infallible>(())
        }
    })
    .await;
    first.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// How many calls of one invocation are under way at once: as many as there are connections with one service, so that a thousand
/// sends of 20 ms take two seconds.
const LANES: usize = 12;

/// How long it may take to tell of something for which work waits.
const TELL_WITHIN: Duration = Duration::from_secs(2);

/// Tells of something, if that does not take long.
async fn told_in_time<T>(telling: impl Future<Output = T>) {
    if timeout(TELL_WITHIN, telling).await.is_err() {
        error!("a failure of the service could not be told in time");
    }
}

/// Tries what saves a message until it is done, for as long as there is for it: each failure is one delivery of ten, and without
/// pauses ten of them are over in a moment.
async fn saved<T, E, F>(attempt: impl Fn() -> F) -> Result<T, String>
where
    E: fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let until = tokio::time::Instant::now() + SAVED_WITHIN;
    let mut pauses = PAUSES.into_iter();
    loop {
        let why = match tokio::time::timeout_at(until, attempt()).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(why)) => why.to_string(),
            Err(_) => return Err(format!("neither its queue nor the store took it within {} s", SAVED_WITHIN.as_secs())),
        };
        match pauses.next() {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(why),
        }
    }
}

/// How long it is tried to send a message again, or to keep it.
const SAVED_WITHIN: Duration = Duration::from_secs(8);

/// The pauses between these tries: ten deliveries take half a minute at least.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(200), Duration::from_millis(400), Duration::from_millis(800), Duration::from_millis(1_600)];

/// How long Service Bus is waited for to say what time it is.
const CLOCK_WITHIN: Duration = Duration::from_millis(1_500);

fn slowness() -> String {
    format!("it was not done within {} s: something that it calls is slow", PATIENCE.as_secs())
}

/// How long the work on a message may take. With [`SAVED_WITHIN`] and [`TELL_WITHIN`] it is less than the deadline of an invocation, so
/// that there is time to send it again.
const PATIENCE: Duration = Duration::from_secs(16);

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
    asked.map_or_else(|| TimeDelta::seconds((4i64 << tries.min(4)).min(60)), |asked| asked.min(LONGEST_HOLD))
}

/// No service asks for more in earnest, and no sum with it leaves the calendar.
const LONGEST_HOLD: TimeDelta = TimeDelta::hours(24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_for_the_store_grow_by_ten_seconds_to_five_minutes() {
        let seconds: Vec<i64> = [0, 1, 28, 29, 30, 400].map(|tries| store_pause(tries).num_seconds()).to_vec();
        assert_eq!(seconds, [10, 20, 290, 300, 300, 300]);
    }
}
