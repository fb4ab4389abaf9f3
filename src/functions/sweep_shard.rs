//! One subscription: what its lists show is compared with what the last looks saw, and every VM that differs is
//! looked at. The lists decide nothing: the look reads again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::ControlFlow;

use chrono::TimeDelta;
use portcullis_domain::arm_id::VmId;
use portcullis_domain::jit::JitPolicy;
use portcullis_domain::judge::{Facts, Judgement, Seen, Violation, judge};
use portcullis_domain::network::Nic;
use portcullis_domain::nsg::Nsg;
use portcullis_domain::reconcile::Mode;
use portcullis_domain::sweep::{VmSeen, survey};
use serde_json::Value;
use tracing::{info, warn};
use uuid::Uuid;

use super::{App, Ended, Message, Queue, Stopped, call_pause};
use crate::azure::CallFailed;

/// Handles one message of the queue `sweep`.
pub async fn run(app: &App, body: &str) -> Ended {
    let (message, subscription) = match Message::read(body) {
        Ok(message) => match &message {
            Message::Shard { subscription, .. } => match Uuid::parse_str(subscription) {
                Ok(subscription) => (message, subscription),
                Err(_) => return reject(app, body, "the shard's subscription is not a GUID").await,
            },
            Message::Event { .. } | Message::Unstored { .. } | Message::Look { .. } | Message::Row { .. } => {
                return reject(app, body, "the queue sweep takes shards only").await;
            }
        },
        Err(why) => return reject(app, body, &why.to_string()).await,
    };
    match shard(app, &subscription).await {
        Ok(note) => Ended::done(note),
        Err(NotSwept::Stopped(stopped)) if message.tries() >= MOST_TRIES => left(&stopped),
        Err(NotSwept::Stopped(stopped)) => app.put_off(&message, stopped).await,
        Err(NotSwept::Azure(failed)) => {
            warn!(subscription.id = %subscription, error = %failed, "a shard could not be listed");
            app.tell_failing("shard", &subscription.to_string(), &failed).await;
            let pause = call_pause(&failed, message.tries());
            if message.tries() >= MOST_TRIES || pause >= PERIOD {
                return left(&failed);
            }
            app.put_off_for(&message, pause, failed.to_string()).await
        }
    }
}

/// So many pauses fill a period, and with it the next sweep's message is there.
const MOST_TRIES: u32 = 6;

/// The period of the sweep.
const PERIOD: TimeDelta = TimeDelta::minutes(5);

fn left(why: &dyn Display) -> Ended {
    Ended::done(format!("left to the next sweep: {why}"))
}

async fn reject(app: &App, body: &str, reason: &str) -> Ended {
    match app.reject("sweep_shard", body, reason).await {
        Ok(ended) => ended,
        Err(stopped) => app.hold_unread(Queue::Sweep, body, stopped).await,
    }
}

enum NotSwept {
    Stopped(Stopped),
    Azure(CallFailed),
}

impl<T: Into<Stopped>> From<T> for NotSwept {
    fn from(stopped: T) -> Self {
        NotSwept::Stopped(stopped.into())
    }
}

async fn shard(app: &App, subscription: &Uuid) -> Result<String, NotSwept> {
    let now = app.store.check().await?;
    let seen = read(app, subscription).await.map_err(NotSwept::Azure)?;
    let known = known(app, subscription).await?;
    let changed: Vec<(&VmId, &VmSeen)> = seen.iter().filter(|(vm, one)| differs(app.mode, one, known.get(*vm))).collect();

    let (mut worst, mut others) = (Vec::new(), Vec::new());
    for (vm, one) in changed {
        match violation(app, one, now) {
            Some(violation) if app.mode == Mode::Enforce => worst.push((urgency(&violation), vm)),
            Some(_) | None => others.push(vm),
        }
    }
    worst.sort();
    let kept = worst.len().saturating_sub(app.close_cap);
    worst.truncate(app.close_cap);
    let gone = known.keys().filter(|vm| seen.get(*vm).is_none_or(|one| !one.is_worth_a_look()));
    let looks: Vec<&VmId> = worst.iter().map(|(_, vm)| *vm).chain(others).chain(gone).collect();
    for vm in &looks {
        app.send(&Message::look(vm)).await?;
    }
    if kept > 0 {
        tell_cap(app, subscription, kept, now).await?;
    }
    info!(subscription.id = %subscription, vms = seen.len(), looks = looks.len(), over_cap = kept, "shard swept");
    Ok(format!("{} of {} VMs are looked at, {kept} more wait for the next sweep", looks.len(), seen.len()))
}

/// Any-source openings go first.
fn urgency(violation: &Violation) -> u8 {
    match violation {
        Violation::AnySource { .. } => 0,
        Violation::Overlong { .. } | Violation::Outlived { .. } | Violation::GrantEnded { .. } => 1,
    }
}

fn differs(mode: Mode, one: &VmSeen, known: Option<&BTreeSet<String>>) -> bool {
    one.is_worth_a_look() && known.is_none_or(|known| !known.contains(&one.fingerprint(mode)))
}

/// The worst that a limit forbids about a VM, as far as the lists show it.
fn violation(app: &App, one: &VmSeen, now: chrono::DateTime<chrono::Utc>) -> Option<Violation> {
    let facts = Facts { now, records: &one.records, grants: &[], limits: app.limits };
    let judgements = judge(&one.openings, facts, |_| Seen { first: now, port_shut: None });
    let violations = judgements.into_iter().filter_map(|judgement| match judgement {
        Judgement::Shut(violation) => Some(violation),
        Judgement::Covered | Judgement::Left => None,
    });
    violations.min_by_key(urgency)
}

async fn tell_cap(app: &App, subscription: &Uuid, kept: usize, now: chrono::DateTime<chrono::Utc>) -> Result<(), Stopped> {
    let why = format!(
        "subscription {subscription} has {kept} more VMs with openings that must be shut than one sweep may shut ({}): look at what opened them; the next sweep shuts the next {}",
        app.close_cap, app.close_cap
    );
    let id = format!("close-cap-{subscription}-{}", now.format("%Y%m%dT%H%M"));
    let audit = app.service_audit(&id, now, portcullis_domain::audit::AuditKind::ServiceFailing, "close-cap", why);
    app.write_audit(&audit).await
}

/// VMs that looks have left in the index of what is open, with the fingerprints of what they saw.
async fn known(app: &App, subscription: &Uuid) -> Result<BTreeMap<VmId, BTreeSet<String>>, Stopped> {
    let mut known: BTreeMap<VmId, BTreeSet<String>> = BTreeMap::new();
    for (vm, fingerprint) in app.store.list_open(&format!("{subscription}/")).await? {
        known.entry(vm).or_default().insert(fingerprint);
    }
    Ok(known)
}

async fn read(app: &App, subscription: &Uuid) -> Result<BTreeMap<VmId, VmSeen>, CallFailed> {
    let (mut policies, mut groups, mut nics) = (Vec::new(), Vec::new(), Vec::new());
    let jit = app.azure.jit.list(subscription, |page| take(page, &mut policies, |body| JitPolicy::read(body).map_err(|p| p.why)));
    let nsgs = app.azure.network.nsgs(subscription, |page| take(page, &mut groups, |body| Nsg::read(body).map_err(|e| e.to_string())));
    let interfaces = app.azure.network.nics(subscription, |page| take(page, &mut nics, |body| Nic::read(body).map_err(|e| e.to_string())));
    tokio::try_join!(jit, nsgs, interfaces)?;
    Ok(survey(&policies, &groups, &nics))
}

/// Reads a page, so that no more than one is held as JSON. A resource that cannot be read is told and left out: the
/// others must not go unseen for it.
fn take<T>(page: Vec<Value>, into: &mut Vec<T>, read: impl Fn(&Value) -> Result<T, String>) -> ControlFlow<()> {
    for body in &page {
        match read(body) {
            Ok(one) => into.push(one),
            Err(why) => warn!(error = why, "a listed resource cannot be read"),
        }
    }
    ControlFlow::Continue(())
}
