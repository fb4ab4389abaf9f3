//! `event(id)`: which VMs an event may be about. It does not say which port it opened, and the record that tells may
//! not show yet, so it is asked three times.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use portcullis_domain::arm_id::{PolicyId, VmId};
use portcullis_domain::jit::JitPolicy;
use portcullis_domain::record::Claim;
use serde_json::Value;
use tracing::{info, warn};

use super::super::jit_activity::{Activity, Operation};
use super::super::{App, Ended, Message, Round, Stopped, call_pause};
use crate::azure::{CallFailed, FailureKind};

/// A record counts as the event's when it was started since this long before the event, whose clock is another.
const BEFORE_EVENT: TimeDelta = TimeDelta::minutes(5);

/// After this many tries a policy that cannot be read is left to the sweep, which reads it too.
const MOST_TRIES: u32 = 12;

pub(super) async fn run(app: &App, message: &Message, id: &str, round: Round) -> Result<Ended, Stopped> {
    let Some(held) = app.store.event::<Activity>(id).await? else {
        app.store.check().await?;
        return app.reject("approval", &message.body(), "its event is not in the store").await;
    };
    let activity = held.document;
    if round == Round::First && message.tries() == 0 {
        for (round, after) in [(Round::Second, 20), (Round::Third, 90)] {
            let again = Message::Event { id: id.to_owned(), round, tries: 0 };
            app.send_at(&again, held.now + TimeDelta::seconds(after)).await?;
        }
    }
    let vms = match affected(app, &activity).await {
        Ok(vms) => vms,
        Err(NotRead::Stopped(stopped)) => return Err(stopped),
        Err(NotRead::Azure(failed)) => return Ok(not_read(app, message, &activity, failed).await),
    };
    let claim = Claim {
        event: id.to_owned(),
        at: activity.at,
        object_id: activity.object_id.clone(),
        name: activity.name.clone(),
        operation: format!("{:?}", activity.operation).to_ascii_lowercase(),
    };
    for vm in &vms {
        app.store.leave_claim(vm, &claim).await?;
        app.send(&Message::look(vm)).await?;
    }
    info!(event.id = id, round = ?round, vms = vms.len(), "event worked on");
    Ok(Ended::done(format!("event {id}: {} VMs are looked at", vms.len())))
}

async fn not_read(app: &App, message: &Message, activity: &Activity, failed: CallFailed) -> Ended {
    warn!(resource = %activity.resource, error = %failed, "the policy of an event could not be read");
    if failed.kind == FailureKind::MissingRight {
        app.tell_failing("event", activity.resource.key(), &failed).await;
    }
    if message.tries() >= MOST_TRIES {
        app.tell_failing("event", activity.resource.key(), &failed).await;
        return Ended::done(format!("left to the sweep after {} tries: {failed}", message.tries()));
    }
    app.put_off_for(message, call_pause(&failed, message.tries()), failed.to_string()).await
}

enum NotRead {
    Stopped(Stopped),
    Azure(CallFailed),
}

/// The VMs that have to be looked at for an event.
async fn affected(app: &App, activity: &Activity) -> Result<BTreeSet<VmId>, NotRead> {
    let named = VmId::from_arm_id(activity.resource.clone()).ok();
    let policies = policies(app, activity).await.map_err(NotRead::Azure)?;
    let mut vms: BTreeSet<VmId> = named.into_iter().collect();
    match activity.operation {
        Operation::Initiate => {
            let since = activity.at - BEFORE_EVENT;
            let records = policies.iter().flat_map(|p| &p.records).filter(|record| record.start >= since);
            vms.extend(records.map(|record| record.vm.clone()));
        }
        Operation::Write => vms.extend(policies.iter().flat_map(|p| &p.vms).map(|v| v.vm.clone())),
        Operation::Delete => {}
    }
    // A policy that is gone names no VM any more: those of its group that something was open for are known.
    if policies.is_empty() || activity.operation == Operation::Delete {
        let group = format!("{}/{}/", activity.resource.subscription(), activity.resource.resource_group().unwrap_or_default());
        let open = app.store.list_open(&group).await.map_err(|why| NotRead::Stopped(why.into()))?;
        vms.extend(open.into_iter().map(|(vm, _)| vm));
    }
    Ok(vms)
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
    Ok(bodies.iter().filter_map(|body| JitPolicy::read(body).ok()).collect())
}
