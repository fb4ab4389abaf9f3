//! `event(id)`: which VMs an event may be about. It does not say which port it opened, and the record that tells may
//! not show yet, so it is asked three times.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use portcullis_domain::arm_id::{PolicyId, VmId};
use portcullis_domain::behind::CLOCKS_DIFFER_BY;
use portcullis_domain::jit::JitPolicy;
use portcullis_domain::record::Claim;
use portcullis_domain::ruling::is_claim_of;
use serde_json::Value;
use tracing::{info, warn};

use super::super::jit_activity::{Activity, Operation};
use super::super::{App, Ended, Message, Round, Stopped, call_pause, in_lanes};
use super::see::read_policies;
use crate::azure::{CallFailed, FailureKind};
use crate::store::Written;

/// After this many tries a policy that cannot be read is left to the sweep, which reads it too.
const MOST_TRIES: u32 = 12;

pub(super) async fn run(app: &App, message: &Message, id: &str, round: Round, rounds_sent: bool) -> Result<Ended, Stopped> {
    let Some(held) = app.store.event::<Activity>(id).await? else {
        app.store.check().await?;
        return app.reject("approval", &message.body(), "its event is not in the store").await;
    };
    let activity = held.document;
    let mut message = message.clone();
    if round == Round::First && !rounds_sent {
        for (round, after) in [(Round::Second, 20), (Round::Third, 90)] {
            let again = Message::Event { id: id.to_owned(), round, rounds_sent: true, tries: 0 };
            app.send_or_keep(&again, held.now + TimeDelta::seconds(after)).await?;
        }
        message = Message::Event { id: id.to_owned(), round, rounds_sent: true, tries: message.tries() };
    }
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
                && app.governs(vm.subscription())
                && message.tries() == 0
            {
                app.send(&Message::look(&vm)).await?;
            }
            return Ok(not_read(app, &message, &activity, failed).await);
        }
    };
    claim.apart_seconds = activity.apart_seconds.into_iter().chain(apart).min();
    if claim.apart_seconds != activity.apart_seconds {
        let known = Activity { apart_seconds: claim.apart_seconds, ..activity };
        if let Written::Lost = app.store.save_event(id, &known, held.etag.as_deref()).await? {
            // Another round wrote what it has seen: both are read again.
            return Err(Stopped::Lost(format!("event {id}")));
        }
    }
    let vms: Vec<Affected> = vms.into_iter().filter(|affected| app.governs(affected.vm.subscription())).collect();
    let (claim, affected) = (&claim, &vms);
    in_lanes(affected, |affected| async {
        // Who wrote a policy opened nothing by it.
        if affected.by_it && claim.is_initiate() {
            app.store.leave_claim(&affected.vm, claim).await?;
        }
        app.send(&Message::look(&affected.vm)).await
    })
    .await?;
    info!(event.id = id, round = ?round, vms = vms.len(), "event worked on");
    Ok(Ended::done(format!("event {id}: {} VMs are looked at", vms.len())))
}

async fn not_read(app: &App, message: &Message, activity: &Activity, failed: CallFailed) -> Ended {
    warn!(resource = %activity.resource, error = %failed, "the policy of an event could not be read");
    let is_last = message.tries() >= MOST_TRIES;
    if failed.kind == FailureKind::MissingRight || is_last {
        app.tell_failing("event", activity.resource.key(), &failed.to_string(), MEANWHILE).await;
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
}

/// The VMs that have to be looked at for an event, each once, and how far in seconds the nearest record lies from it.
async fn affected(app: &App, activity: &Activity, claim: &Claim) -> Result<(Vec<Affected>, Option<i64>), NotRead> {
    let named = VmId::from_arm_id(activity.resource.clone()).ok();
    let policies = policies(app, activity).await.map_err(NotRead::Azure)?;
    let mut vms: BTreeMap<VmId, bool> = named.into_iter().map(|vm| (vm, true)).collect();
    match activity.operation {
        Operation::Initiate => {
            let since = activity.at - CLOCKS_DIFFER_BY;
            let all = || policies.iter().flat_map(|policy| &policy.records);
            for record in all().filter(|record| record.start >= since) {
                *vms.entry(record.vm.clone()).or_default() |= is_claim_of(claim, record, all());
            }
        }
        Operation::Write => vms.extend(policies.iter().flat_map(|p| &p.vms).map(|v| (v.vm.clone(), true))),
        Operation::Delete => {}
    }
    // A policy that is gone names no VM any more: those of its group that something was open for are known.
    if policies.is_empty() || activity.operation == Operation::Delete {
        let group = format!("{}/{}/", activity.resource.subscription(), activity.resource.resource_group().unwrap_or_default());
        let open = app.store.list_open(&group).await.map_err(|why| NotRead::Stopped(why.into()))?;
        vms.extend(open.into_iter().map(|(vm, _)| (vm, true)));
    }
    let apart = policies.iter().flat_map(|policy| &policy.records).map(|record| (activity.at - record.start).abs().num_seconds()).min();
    Ok((vms.into_iter().map(|(vm, by_it)| Affected { vm, by_it }).collect(), apart))
}

async fn policies(app: &App, activity: &Activity) -> Result<Vec<JitPolicy>, CallFailed> {
    let bodies: Vec<Value> = match PolicyId::from_arm_id(activity.resource.clone()) {
        Ok(policy) => match app.azure.jit.get(&policy).await {
            Ok(body) => vec![body],
            Err(failed) if failed.kind == FailureKind::NotFound => Vec::new(),
            Err(failed) => return Err(failed),
        },
        Err(_) => match activity.resource.resource_group() {
            Some(group) => app.azure.jit.list_in_group(activity.resource.subscription(), group).await?,
            None => Vec::new(),
        },
    };
    Ok(read_policies(&bodies))
}
