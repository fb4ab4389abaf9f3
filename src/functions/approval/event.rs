//! `event(id)`: which VMs an event may be about. It does not say which port it opened, and the record that tells may
//! not show yet, so it is asked three times.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use portcullis_domain::arm_id::{PolicyId, VmId};
use portcullis_domain::behind::CLOCKS_DIFFER_BY;
use portcullis_domain::jit::{JitPolicy, JitRecord};
use portcullis_domain::record::Claim;
use portcullis_domain::ruling::{claimed_by, nearest, starts_of};
use tracing::{info, warn};

use super::super::jit_activity::{Activity, Operation};
use super::super::{App, Ended, Message, Round, Stopped, call_pause, in_lanes};
use super::see::usable;
use crate::azure::jit::Read;
use crate::azure::{CallFailed, FailureKind};
use crate::store::{Held, StoreError, Written};

/// After this many tries a policy that cannot be read is left to the sweep, which reads it too.
const MOST_TRIES: u32 = 12;

pub(super) async fn run(app: &App, message: &Message, id: &str, round: Round, rounds_sent: bool) -> Result<Ended, Stopped> {
    let Some(held) = app.store.event::<Activity>(id).await? else {
        app.store.check().await?;
        return app.reject("approval", &message.body(), "its event is not in the store").await;
    };
    if round != Round::First || rounds_sent {
        return worked_on(app, message, id, round, held).await;
    }
    for (round, after) in [(Round::Second, 20), (Round::Third, 90)] {
        let again = Message::Event { id: id.to_owned(), round, rounds_sent: true, tries: 0 };
        app.send_or_keep(&again, held.now + TimeDelta::seconds(after)).await?;
    }
    let message = Message::Event { id: id.to_owned(), round, rounds_sent: true, tries: message.tries() };
    match worked_on(app, &message, id, round, held).await {
        Err(unreadable @ Stopped::Store(StoreError::Unreadable { .. })) => Err(unreadable),
        // What has to wait sends them once, and not with each try.
        Err(stopped) => Ok(Box::pin(app.put_off(&message, stopped)).await),
        ended => ended,
    }
}

async fn worked_on(app: &App, message: &Message, id: &str, round: Round, held: Held<Activity>) -> Result<Ended, Stopped> {
    let activity = held.document;
    let mut claim = Claim {
        event: id.to_owned(),
        at: activity.at,
        object_id: activity.object_id.clone(),
        name: activity.name.clone(),
        operation: format!("{:?}", activity.operation).to_ascii_lowercase(),
        apart_seconds: activity.apart_seconds,
    };
    let (vms, apart) = match affected(app, &activity, &claim).await {
        Ok(found) => found,
        Err(NotRead::Stopped(stopped)) => return Err(stopped),
        Err(NotRead::Azure(failed)) => {
            // What the groups show of it does not wait for JIT's policies.
            if let Ok(vm) = VmId::from_arm_id(activity.resource.clone())
                && app.governs(&vm.subscription())
                && message.tries() == 0
            {
                app.send(&Message::look(&vm)).await?;
            }
            return Ok(not_read(app, message, &activity, failed).await);
        }
    };
    claim.apart_seconds = activity.apart_seconds.into_iter().chain(apart).min();
    if claim.apart_seconds != activity.apart_seconds {
        let known = Activity { apart_seconds: claim.apart_seconds, ..activity.clone() };
        if let Written::Lost = app.store.save_event(id, &known, held.etag.as_deref()).await? {
            // Another round wrote what it has seen: both are read again.
            return Err(Stopped::Lost(format!("event {id}")));
        }
    }
    let vms: Vec<Affected> = vms.into_iter().filter(|affected| app.governs(&affected.vm.subscription())).collect();
    let _turn = match activity.operation {
        Operation::Initiate => app.sent.turn(&(&activity.resource, said_by(&claim))).await,
        Operation::Write | Operation::Delete => None,
    };
    let (claim, affected, now) = (&claim, &vms, held.now);
    in_lanes(affected, |affected| send_look(app, affected, claim, round, now)).await?;
    info!(event.id = id, round = ?round, vms = vms.len(), "event worked on");
    Ok(Ended::done(format!("event {id}: {} VMs are looked at", vms.len())))
}

/// Who says it and of which second: what others say of the same is the same.
pub(super) fn said_by(claim: &Claim) -> (&str, &str, i64) {
    (&claim.object_id, &claim.name, claim.at.timestamp())
}

/// Leaves the claim for the VM and sends a look at it, unless the same was done a moment ago, in the same round of an event of the
/// same second, when the VM's records stood as they do now: for a claim, of the same person.
async fn send_look(app: &App, affected: &Affected, claim: &Claim, round: Round, now: DateTime<Utc>) -> Result<(), Stopped> {
    // Who wrote a policy opened nothing by it, and what Portcullis asked for itself it knows by its record.
    let leaves = affected.by_it && claim.is_initiate() && !app.azure.own.is(&claim.object_id);
    let claimed = app.sent.mark(&(&affected.vm, affected.records, said_by(claim), claim.apart_seconds, round));
    let looked = app.sent.mark(&(&affected.vm, affected.records, claim.at.timestamp(), round));
    // Where no record shows yet, nothing says that two events are about the same.
    let is_fresh = |mark| affected.records.is_some() && app.sent.is_fresh(mark, now);
    if leaves && !is_fresh(claimed) {
        app.store.leave_claim(&affected.vm, claim).await?;
    } else if is_fresh(looked) {
        return Ok(());
    }
    app.send(&Message::look(&affected.vm)).await?;
    app.sent.keep(looked, now);
    if leaves {
        app.sent.keep(claimed, now);
    }
    Ok(())
}

async fn not_read(app: &App, message: &Message, activity: &Activity, failed: CallFailed) -> Ended {
    warn!(resource = %activity.resource, error = %failed, "the policy of an event could not be read");
    let is_last = message.tries() >= MOST_TRIES;
    if failed.kind == FailureKind::MissingRight || is_last {
        app.tell_failing("event", &activity.resource.key(), &failed.to_string(), MEANWHILE).await;
    }
    if is_last {
        return Ended::done(format!("left to the sweep after {} tries: {failed}", message.tries()));
    }
    app.put_off_for(message, call_pause(&failed, message.tries()), failed.to_string()).await
}

enum NotRead {
    Stopped(Stopped),
    Azure(CallFailed),
}

const MEANWHILE: &str = "the JIT policy of an event cannot be read, so that the sweep alone finds what was opened";

/// A VM that has to be looked at for an event.
struct Affected {
    vm: VmId,
    /// Whether the event may be about it at all: then its claim is left for the look.
    by_it: bool,
    /// The mark of its records that were not made long before the event, if it has any.
    records: Option<u64>,
}

/// The VMs that have to be looked at for an event, each once, and how far in seconds the nearest record lies from it.
async fn affected(app: &App, activity: &Activity, claim: &Claim) -> Result<(Vec<Affected>, Option<i64>), NotRead> {
    let named = VmId::from_arm_id(activity.resource.clone()).ok();
    let policies = policies(app, activity).await.map_err(NotRead::Azure)?;
    let records: Vec<&JitRecord> = policies.iter().flat_map(|policy| &policy.records).collect();
    let mut by_it: BTreeSet<VmId> = named.into_iter().collect();
    let mut since: BTreeMap<VmId, Vec<&JitRecord>> = BTreeMap::new();
    match activity.operation {
        Operation::Initiate => {
            by_it.extend(claimed_by(claim, &records).into_iter().map(|record| record.vm.clone()));
            for record in records.iter().filter(|record| record.start >= activity.at - CLOCKS_DIFFER_BY) {
                since.entry(record.vm.clone()).or_default().push(record);
            }
        }
        Operation::Write => by_it.extend(policies.iter().flat_map(|policy| &policy.vms).map(|known| known.vm.clone())),
        Operation::Delete => {}
    }
    // A policy that is gone names no VM any more: those of its group that something was open for are known.
    if policies.is_empty() || activity.operation == Operation::Delete {
        let group = format!("{}/{}/", activity.resource.subscription(), activity.resource.resource_group().unwrap_or_default());
        let open = app.store.list_open(&group).await.map_err(|why| NotRead::Stopped(why.into()))?;
        by_it.extend(open.into_iter().map(|(vm, _)| vm));
    }
    let apart = nearest(activity.at, &starts_of(records.iter().copied())).map(|apart| apart.num_seconds());
    let vms: BTreeSet<VmId> = by_it.iter().chain(since.keys()).cloned().collect();
    let records = |vm: &VmId| since.get(vm).map(|records| app.sent.mark(records));
    Ok((vms.into_iter().map(|vm| Affected { by_it: by_it.contains(&vm), records: records(&vm), vm }).collect(), apart))
}

async fn policies(app: &App, activity: &Activity) -> Result<Vec<JitPolicy>, CallFailed> {
    let read: Vec<Read> = match PolicyId::from_arm_id(activity.resource.clone()) {
        Ok(policy) => match app.azure.jit.get(&policy).await {
            Ok(policy) => vec![policy],
            // A subscription that is not found is one that cannot be seen, too.
            Err(failed) if failed.kind == FailureKind::NotFound && !failed.code.eq_ignore_ascii_case("SubscriptionNotFound") => Vec::new(),
            Err(failed) => return Err(failed),
        },
        Err(_) => match activity.resource.resource_group() {
            Some(group) => app.azure.jit.list_in_group(&activity.resource.subscription(), &group).await?,
            None => Vec::new(),
        },
    };
    Ok(usable(read))
}
