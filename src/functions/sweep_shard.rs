//! One subscription: what its lists show is compared with what the last looks saw, and every VM that differs is
//! looked at. The lists decide nothing: the look reads again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::ControlFlow;
use std::sync::PoisonError;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use portcullis_domain::arm_id::VmId;
use portcullis_domain::audit::AuditKind;
use portcullis_domain::behind::CLOCKS_DIFFER_BY;
use portcullis_domain::jit::JitPolicy;
use portcullis_domain::json::tree;
use portcullis_domain::judge::{Facts, Judgement, Seen, Violation, judge};
use portcullis_domain::missed::REMEMBERED;
use portcullis_domain::network::Nic;
use portcullis_domain::nsg::{Nsg, SecurityRule};
use portcullis_domain::reconcile::Mode;
use portcullis_domain::sweep::{VmSeen, survey};
use serde::{Deserialize, Serialize};
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;
use tracing::{info, warn};
use uuid::Uuid;

use super::{App, Ended, Message, PATIENCE, Queue, Stopped, TELL_WITHIN, call_pause, in_lanes, of_service, told_in_time};
use crate::azure::{CallFailed, Service};
use crate::store::{Found, Held, StoreError};
use crate::telemetry::Measure;

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
    let swept = timeout(PATIENCE, shard(app, &subscription)).await;
    match swept {
        Ok(Ok(note)) => Ended::done(note),
        Err(_) => {
            let why = format!("subscription {subscription} was not looked through within {} s", PATIENCE.as_secs());
            told_in_time(app.tell_failing("shard", &subscription.to_string(), &why, MEANWHILE)).await;
            left(&why)
        }
        Ok(Err(NotSwept::Stopped(stopped))) if message.tries() >= MOST_TRIES => left(&stopped),
        Ok(Err(NotSwept::Stopped(stopped))) => app.put_off(&message, stopped).await,
        Ok(Err(NotSwept::Azure(failed))) => {
            warn!(subscription.id = %subscription, error = %failed, "a shard could not be listed");
            let pause = call_pause(&failed, message.tries());
            let ended = if message.tries() >= MOST_TRIES || pause >= PERIOD {
                left(&failed)
            } else {
                app.put_off_for(&message, pause, failed.to_string()).await
            };
            // The message came first: what is left of the time may be little.
            told_in_time(app.tell_failing("shard", &subscription.to_string(), &failed.to_string(), MEANWHILE)).await;
            ended
        }
    }
}

const MEANWHILE: &str = "a subscription is not swept, so that openings in it are found by their events alone";

/// So many pauses fill a period, and with it the next sweep's message is there.
const MOST_TRIES: u32 = 6;

/// The period of the sweep.
const PERIOD: TimeDelta = TimeDelta::minutes(5);

fn left(why: &dyn Display) -> Ended {
    Ended::done(format!("left to the next sweep: {why}"))
}

async fn reject(app: &App, body: &str, reason: &str) -> Ended {
    app.reject_or_hold("sweep_shard", Queue::Sweep, body, reason).await
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
    // Side by side, since nothing is done before all of them are there.
    let (up_to, listed, known) = tokio::try_join!(
        async { UpTo::read(app, subscription).await.map_err(NotSwept::from) },
        // Three calls in one are two thirds of a shard, which need not have their room while it sends.
        async {
            let turn = app.shard_reads.next().await;
            Box::pin(read(app, subscription, turn)).await.map_err(NotSwept::Azure)
        },
        async { known(app, subscription).await.map_err(NotSwept::from) },
    )?;
    let Listed { seen, unreadable, jit_unread, turn } = listed;
    let now = up_to.now;
    if let Some((first, count)) = unreadable {
        let why = format!("{count} listed resources of subscription {subscription} cannot be read, among them: {first}");
        app.tell_failing("shard-part", &subscription.to_string(), &why, "openings that they make are not seen").await;
    }
    if let Some(failed) = jit_unread {
        drop(turn);
        sweep_without_jit(app, subscription, seen, known, now).await?;
        return Err(NotSwept::Azure(failed));
    }
    let rules = app.rulebook.set().await;
    let changed = seen.iter().filter(|(vm, one)| differs(app, one, known.get(*vm), rules));
    let mut due = Due::sorted(app, changed, &known, now);
    due.others.extend(known.keys().filter(|vm| seen.get(*vm).is_none_or(|one| !one.is_worth_a_look())).cloned());
    let newest = |one: &VmSeen| one.newest_record(up_to.document.up_to, now);
    let new: Vec<_> = seen.iter().filter_map(|(vm, one)| Some((vm, one, newest(one)?))).collect();
    let is_missed = |vm: &VmId, one: &VmSeen| match known.get(vm) {
        None => !one.is_worth_a_look(),
        of_it => one.is_worth_a_look() && one.has_gone_since(up_to.document.up_to) && !differs(app, one, of_it, rules),
    };
    due.others.extend(new.iter().filter(|(vm, one, _)| is_missed(vm, one)).map(|(vm, ..)| (*vm).clone()));
    let newest = new.iter().map(|(.., newest)| *newest).max();
    let vms = seen.len();
    // What was listed is not held while the looks are sent.
    drop((seen, known, turn));
    let (looks, kept) = due.send(app, subscription, now).await?;
    info!(subscription.id = %subscription, vms, looks, over_cap = kept, "shard swept");
    app.azure.telemetry.measure(Measure::Swept { vms, looks });
    // Of those that wait for the next sweep it asks once more: what is open there may be gone by then.
    let newest = newest.filter(|_| kept == 0);
    let (remembered, ()) = tokio::join!(UpTo::keep(app, subscription, up_to, newest), tell_swept(app, subscription, now));
    remembered?;
    Ok(format!("{looks} of {vms} VMs are looked at, {kept} more wait for the next sweep"))
}

/// Up to when the records began that a sweep has sent a look for, as the store keeps it for each subscription. What JIT opened and
/// took away between two sweeps has left nothing else.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpTo {
    /// When the newest of these records began.
    #[serde(deserialize_with = "portcullis_domain::time::stored")]
    pub up_to: DateTime<Utc>,
}

impl UpTo {
    fn name(subscription: &Uuid) -> String {
        format!("records/{subscription}")
    }

    /// Reads it, and by it makes sure that this is the store. A subscription that was never swept is asked about the last day, and so is
    /// one of which a time is stored that has not come: a sweep writes none.
    async fn read(app: &App, subscription: &Uuid) -> Result<Held<Self>, StoreError> {
        Ok(match app.store.service_or_nothing::<Self>(&Self::name(subscription)).await? {
            Found::Document(held) if held.document.up_to > held.now + CLOCKS_DIFFER_BY => {
                Held { document: UpTo { up_to: held.now - REMEMBERED }, ..held }
            }
            Found::Document(held) => held,
            Found::Nothing(now) => Held { document: UpTo { up_to: now - REMEMBERED }, etag: None, now },
        })
    }

    /// Remembers it once the looks are sent, if there is something new to remember.
    async fn keep(app: &App, subscription: &Uuid, before: Held<Self>, newest: Option<DateTime<Utc>>) -> Result<(), StoreError> {
        if newest.is_none() && before.etag.is_some() {
            return Ok(());
        }
        // Where another run of the shard was faster, the next one sends some looks once more.
        let up_to = UpTo { up_to: newest.unwrap_or(before.document.up_to) };
        app.store.save_service(&Self::name(subscription), &up_to, before.etag.as_deref()).await?;
        Ok(())
    }
}

/// Tells once an hour that a subscription is swept.
async fn tell_swept(app: &App, subscription: &Uuid, now: DateTime<Utc>) {
    let hour = now.timestamp().div_euclid(3600);
    let told = || app.told_swept.lock().unwrap_or_else(PoisonError::into_inner);
    if told().get(subscription) == Some(&hour) {
        return;
    }
    let name = format!("shard-{subscription}-{}", now.format("%Y%m%dT%H"));
    let about = Some(format!("/subscriptions/{subscription}"));
    let telling = app.tell_swept(&name, now, "shard", about, format!("subscription {subscription} is swept"));
    match timeout(TELL_WITHIN, telling).await {
        Ok(true) => {
            told().insert(*subscription, hour);
        }
        Ok(false) => {}
        Err(_) => warn!(subscription.id = %subscription, "that a subscription is swept could not be told in time"),
    }
}

/// JIT's policies could not be listed. Whatever the groups alone show to be wrong is looked at all the same, and what is open of a
/// VM that no look has seen yet; what else would differ is not known.
async fn sweep_without_jit(
    app: &App,
    subscription: &Uuid,
    seen: BTreeMap<VmId, VmSeen>,
    known: Known,
    now: DateTime<Utc>,
) -> Result<(), Stopped> {
    let open = seen.iter().filter(|(_, one)| one.is_worth_a_look());
    let mut due = Due::sorted(app, open, &known, now);
    due.others.retain(|vm| !known.contains_key(vm));
    let vms = seen.len();
    drop((seen, known));
    let (looks, kept) = due.send(app, subscription, now).await?;
    info!(subscription.id = %subscription, vms, looks, over_cap = kept, "shard swept without JIT's policies");
    app.azure.telemetry.measure(Measure::Swept { vms, looks });
    Ok(())
}

/// The VMs that a sweep sends looks for.
struct Due {
    /// Those that may have to be shut, which the cap is for: how urgent that is, and whether a look has seen them before.
    worst: Vec<(u8, bool, VmId)>,
    others: Vec<VmId>,
}

impl Due {
    fn sorted<'a>(app: &App, vms: impl Iterator<Item = (&'a VmId, &'a VmSeen)>, known: &Known, now: DateTime<Utc>) -> Self {
        let mut due = Due { worst: Vec::new(), others: Vec::new() };
        for (vm, one) in vms {
            match violation(app, one, now) {
                // Those that no look has seen yet go first: others may never come to their end, and must not use up the cap.
                Some(violation) if app.mode == Mode::Enforce => due.worst.push((urgency(&violation), known.contains_key(vm), vm.clone())),
                // What no look has seen yet, the rules may refuse: it may have to be shut, too.
                None if app.mode == Mode::Enforce && !known.contains_key(vm) && !one.openings.is_empty() => {
                    due.worst.push((UNJUDGED, false, vm.clone()));
                }
                Some(_) | None => due.others.push(vm.clone()),
            }
        }
        due
    }

    /// Sends for as many as one sweep may shut, the most urgent ones first, and for all others; tells how many were sent for and
    /// how many are left.
    async fn send(mut self, app: &App, subscription: &Uuid, now: DateTime<Utc>) -> Result<(usize, usize), Stopped> {
        self.worst.sort();
        let kept = self.worst.split_off(self.worst.len().min(app.close_cap));
        // First: what its looks cannot be sent for in time is said all the same.
        if !kept.is_empty() {
            tell_cap(app, subscription, &kept, now).await?;
        }
        let looks: Vec<VmId> = self.worst.into_iter().map(|(_, _, vm)| vm).chain(self.others).collect();
        in_lanes(&looks, |vm| async {
            let _turn = app.shard_sends.next().await;
            // Those that wait for their turn need not have the room of a call.
            Box::pin(app.send(&Message::look(vm))).await
        })
        .await?;
        Ok((looks.len(), kept.len()))
    }
}

/// What the rules have yet to judge goes last.
const UNJUDGED: u8 = 2;

/// Any-source openings go first.
fn urgency(violation: &Violation) -> u8 {
    match violation {
        Violation::AnySource { .. } => 0,
        Violation::Overlong { .. }
        | Violation::Outlived { .. }
        | Violation::GrantEnded { .. }
        | Violation::Expired { .. }
        | Violation::OverCap { .. }
        | Violation::Orphan
        | Violation::Unapproved { .. } => 1,
    }
}

fn differs(app: &App, one: &VmSeen, known: Option<&BTreeSet<String>>, rules: &str) -> bool {
    one.is_worth_a_look() && known.is_none_or(|known| !known.contains(&one.fingerprint(app.mode, app.limits, rules)))
}

/// The worst that a limit forbids about a VM, as far as the lists show it.
fn violation(app: &App, one: &VmSeen, now: DateTime<Utc>) -> Option<Violation> {
    let facts = Facts { now, records: &one.records, grants: &[], asked: &[], ended_early: &[], limits: app.limits };
    let judgements = judge(&one.openings, facts, |_| Seen { first: now, port_shut: None });
    let violations = judgements.into_iter().filter_map(|judgement| match judgement {
        Judgement::Shut(violation) => Some(violation),
        Judgement::Covered | Judgement::Left => None,
    });
    violations.min_by_key(urgency)
}

/// So many of the VMs that wait for the next sweeps are named: a row has an end.
const NAMED: usize = 100;

async fn tell_cap(app: &App, subscription: &Uuid, kept: &[(u8, bool, VmId)], now: DateTime<Utc>) -> Result<(), Stopped> {
    let what = format!(
        "{} more VMs of subscription {subscription} have openings that must be shut, or that no look has judged yet, than one sweep \
         may send to be shut ({})",
        kept.len(),
        app.close_cap
    );
    let named: Vec<String> = kept.iter().take(NAMED).map(|(_, _, vm)| format!("{}/{}", vm.resource_group(), vm.name())).collect();
    let others = if kept.len() > NAMED { format!(" and {} more", kept.len() - NAMED) } else { String::new() };
    let why = format!(
        "look at what opened them; the next sweeps shut them, in this order where nothing worse comes up: {}{others}",
        named.join(", ")
    );
    let id = format!("close-cap-{subscription}-{}", now.format("%Y%m%dT%H%M"));
    app.write_audit(&of_service(&id, now, AuditKind::ServiceFailing, "close-cap", (what, why))).await
}

/// See [`known`].
type Known = BTreeMap<VmId, BTreeSet<String>>;

/// VMs that looks have left in the index of what is open, with the fingerprints of what they saw.
async fn known(app: &App, subscription: &Uuid) -> Result<Known, Stopped> {
    let mut known = Known::new();
    for (vm, fingerprint) in app.store.list_open(&format!("{subscription}/")).await? {
        known.entry(vm).or_default().insert(fingerprint);
    }
    Ok(known)
}

/// What the lists of a subscription show, and what of them cannot be read: the first, and how many.
struct Listed<'a> {
    seen: BTreeMap<VmId, VmSeen>,
    unreadable: Option<(String, usize)>,
    /// Why JIT's policies could not be listed; then all that is seen comes of the groups.
    jit_unread: Option<CallFailed>,
    /// Held for as long as this is.
    turn: Option<SemaphorePermit<'a>>,
}

/// So long JIT's policies may take to be listed, all pages together: what the groups alone show to be wrong must be sent within the
/// invocation.
const JIT_WITHIN: Duration = Duration::from_secs(9);

async fn read<'a>(app: &'a App, subscription: &Uuid, turn: Option<SemaphorePermit<'a>>) -> Result<Listed<'a>, CallFailed> {
    let (mut policies, mut groups, mut nics) = (Pages::default(), Pages::default(), Pages::default());
    let jit =
        app.azure.jit.list(subscription, |page| policies.take(page.into_iter().map(|one| one.map(slim).map_err(|problem| problem.why))));
    let nsgs = app.azure.network.nsgs(subscription, |page| {
        groups.take(page.into_iter().map(|body| Nsg::read(&tree(body)).map(opening).map_err(|why| why.to_string())))
    });
    let interfaces = app
        .azure
        .network
        .nics(subscription, |page| nics.take(page.into_iter().map(|body| Nic::read(&tree(body)).map_err(|why| why.to_string()))));
    let (jit, ground) = tokio::join!(timeout(JIT_WITHIN, jit), async { tokio::try_join!(nsgs, interfaces) });
    ground?;
    let too_slow = || CallFailed::too_slow(Service::Arm, &format!("listing the JIT policies of subscription {subscription}"), JIT_WITHIN);
    let jit_unread = jit.unwrap_or_else(|_| Err(too_slow())).err();
    if jit_unread.is_some() {
        // Half of a list would make what the other half explains look unexplained.
        policies = Pages::default();
    }
    let unreadable: Vec<String> = [policies.unreadable, groups.unreadable, nics.unreadable].concat();
    let unreadable = unreadable.first().map(|first| (first.clone(), unreadable.len()));
    Ok(Listed { seen: survey(policies.read, &groups.read, &nics.read), unreadable, jit_unread, turn })
}

/// A policy without what only an opening needs of it: eight shards hold theirs at once.
fn slim(mut policy: JitPolicy) -> JitPolicy {
    policy.vms.iter_mut().for_each(|known| known.ports = Vec::new());
    policy
}

/// A group without the rules that open nothing, for the same reason.
fn opening(mut group: Nsg) -> Nsg {
    group.rules.retain(SecurityRule::is_jit_allow);
    group.rules.shrink_to_fit();
    group
}

/// What was read of the pages of a list so far.
struct Pages<T> {
    read: Vec<T>,
    unreadable: Vec<String>,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Pages { read: Vec::new(), unreadable: Vec::new() }
    }
}

impl<T> Pages<T> {
    /// Takes in a page. A resource that cannot be read is told and left out: the others must not go unseen for it.
    fn take(&mut self, page: impl Iterator<Item = Result<T, String>>) -> ControlFlow<()> {
        for one in page {
            match one {
                Ok(one) => self.read.push(one),
                Err(why) => self.unreadable.push(why),
            }
        }
        ControlFlow::Continue(())
    }
}
