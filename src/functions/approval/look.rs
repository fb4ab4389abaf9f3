//! `look(VM)`: one run of the reconcile for one VM.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use portcullis_domain::arm_id::VmId;
use portcullis_domain::audit::{AuditKind, AuditRecord};
use portcullis_domain::behind::CLOCKS_DIFFER_BY;
use portcullis_domain::conclude::{conclude, could_not_look, overdue};
use portcullis_domain::judge::Violation;
use portcullis_domain::opening::Opening;
use portcullis_domain::reconcile::{Close, Jit, Look, Mode, Open, begun, reconcile, to_be_ruled};
use portcullis_domain::record::{Cause as TroubleCause, Claim, Lease, Trouble, VmRecord, WakeUp};
use portcullis_domain::ruling::{CONFIRMED_WITHIN, Confirmation, Ruling, Rulings};
use portcullis_domain::want::{Answer, Became, Want};
use tokio::time::Instant;
use tracing::{info, warn};
use uuid::Uuid;

use super::super::{App, DueEntry, Ended, LONGEST_HOLD, Message, Stopped, fresh_name, in_lanes};
use super::event::said_by;
use super::rule::{Asking, Ruled};
use super::see::{NotSeen, Sight, see};
use super::shut::{GoOn, shut};
use super::{open, want};
use crate::azure::{CallFailed, FailureKind};
use crate::store::{Due, StoreError, Written};
use crate::telemetry::Measure;

/// How long a run holds a VM; a run that was killed holds it no longer than this.
pub(super) const LEASE: TimeDelta = TimeDelta::seconds(30);

/// So long a look asks Microsoft Graph, the activity log and the management groups, all together, and no longer than until
/// then after its beginning: what they do not say in time is not known, and nothing that must be shut waits for them.
const ASKS_FOR: Duration = Duration::from_secs(4);

/// See [`ASKS_FOR`].
const ASKS_UNTIL: Duration = Duration::from_millis(10_500);

/// So long after its beginning a look still begins a delete, which takes a second or two.
const BEGINS_DELETES_WITHIN: Duration = Duration::from_secs(11);

/// So long after its beginning a look waits for the answer to a delete: what is left of the invocation's time is for
/// writing down what is known.
const ANSWERED_WITHIN: Duration = Duration::from_secs(14);

/// Claims that are remembered of a VM.
const MOST_CLAIMS: usize = 20;

/// Entries of the inbox that one look takes in; it comes back for the others at once.
const MOST_OF_INBOX: usize = 50;

/// What a look was sent for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cause<'a> {
    /// The VM.
    pub vm: &'a VmId,
    /// The time of the wake-up that it is.
    pub wake: Option<DateTime<Utc>>,
    /// The due entry that it is for.
    pub due: Option<&'a DueEntry>,
    /// When another run was found to work on the VM.
    pub busy: Option<DateTime<Utc>>,
}

/// A run that holds the lease of a record.
pub(super) struct Run {
    /// The record as it stands in this run.
    pub record: VmRecord,
    /// The run's time: the store's clock when the lease was taken.
    pub now: DateTime<Utc>,
    /// What is to be written down of the answers to its effects.
    pub answers: Vec<AuditRecord>,
    /// What was written down and has to be told in Microsoft Sentinel.
    rows: Vec<AuditRecord>,
    /// What people want of the VM, each with its name in the inbox.
    pub wants: Vec<(String, Want)>,
    /// What became of it, to be told once the record is written.
    pub answers_to_wants: Vec<Answer>,
    /// Until when others than JIT and the network are asked.
    pub asked_by: Instant,
    /// A moment before the store said what time it is.
    began: Instant,
    /// Its name in index entries.
    name: String,
    etag: Option<String>,
    inbox: Vec<String>,
    inbox_has_more: bool,
    /// Whether there was no time left for something that it was to ask JIT for.
    is_unfinished: bool,
}

/// When a look goes on that had no time left: what it calls is slow.
const UNFINISHED: TimeDelta = TimeDelta::seconds(15);

/// One look.
pub(super) async fn run(app: &App, message: &Message, cause: Cause<'_>) -> Result<Ended, Stopped> {
    if Uuid::parse_str(&cause.vm.subscription()).is_err() {
        return app.reject("approval", &message.body(), "the VM's subscription is not a GUID").await;
    }
    if !app.governs(&cause.vm.subscription()) {
        return Ok(Ended::done("the settings do not name the VM's subscription: it is not governed"));
    }
    let mut run = match begin(app, message, cause).await? {
        Begun::Run(run) => *run,
        Begun::Ended(ended) => return Ok(ended),
    };
    let worked = work(app, &mut run).await;
    // One message names all of them, and what the machine needs comes first.
    let rows = std::mem::take(&mut run.rows);
    let ended = match worked {
        Ok(()) => finish(app, run, cause).await,
        Err(stopped) => Err(stopped),
    };
    app.send_rows(&rows).await;
    ended
}

/// All that a look does until its record can be written for good.
async fn work(app: &App, run: &mut Run) -> Result<(), Stopped> {
    // The run that was about to write them was killed.
    in_lanes(&std::mem::take(&mut run.record.untold), |audit| app.write_audit_once(audit)).await?;
    match run.record.not_before.filter(|hold| *hold > run.now) {
        None => {
            run.record.not_before = None;
            look(app, run).await?;
        }
        Some(hold) => {
            want::unread(app, run, hold, &no_calls_before(hold)).await?;
        }
    }
    // Whatever asked for quiet, nobody sees the VM meanwhile: in its time that is an alarm, whatever else is one. What is being shut
    // is told of by itself, and something else may be opened beside it.
    if let Some(hold) = run.record.not_before.filter(|hold| *hold > run.now)
        && run.record.blind.as_ref().is_none_or(|blind| blind.trouble.cause == TroubleCause::CannotLook)
    {
        let now = run.now;
        could_not_look(&mut run.record, now, Trouble { cause: TroubleCause::CannotLook, said: no_calls_before(hold) });
    }
    let mut audits = std::mem::take(&mut run.answers);
    audits.extend(conclude(&mut run.record, run.now, app.mode));
    let is_of_alarm = |audit: &AuditRecord| matches!(audit.kind, AuditKind::AlarmRaised | AuditKind::AlarmCleared);
    if audits.iter().any(is_of_alarm) || !run.record.untold.is_empty() {
        // What the next run sees may be another thing: what was told of and is not remembered would never be over.
        run.record.untold.append(&mut audits);
        run.save(app).await?;
        run.tell(app).await?;
    }
    run.write_audits(app, &audits).await
}

fn no_calls_before(hold: DateTime<Utc>) -> String {
    format!("Azure wants no calls before {}", hold.to_rfc3339_opts(SecondsFormat::Secs, true))
}

enum Begun {
    Run(Box<Run>),
    Ended(Ended),
}

/// Reads the record, takes its lease and takes the inbox in.
async fn begin(app: &App, message: &Message, cause: Cause<'_>) -> Result<Begun, Stopped> {
    let held = app.store.vm(cause.vm).await?;
    let mut record = held.document;
    if let Some(at) = cause.wake {
        if record.wake_up.as_ref().map(|wake| wake.at) != Some(at) {
            return Ok(Begun::Ended(Ended::done("another wake-up is under way")));
        }
        if held.now < at {
            // A second is the least that the broker can hold a message for.
            let at = at.max(held.now + TimeDelta::seconds(1));
            again_once(app, &message.again(), held.now, at).await?;
            return Ok(Begun::Ended(Ended::AgainAt { at, note: "the wake-up came early".to_owned() }));
        }
    }
    // A queue that is behind brings one for each minute that it was: what was promised then was kept by a look that began later.
    if let Some(due) = cause.due
        && record.due.get(&due.at) != Some(&due.run)
        && record.looked.is_some_and(|looked| looked > due.at + LEFT_WITHIN)
    {
        app.store.remove_due(&Due { at: due.at, vm: cause.vm.clone(), run: due.run.clone() }).await?;
        return Ok(Begun::Ended(Ended::done("a look that began after its time has seen it")));
    }
    // Where many are sent for one VM, one look is enough for all of them: otherwise each that is delivered twice while another run
    // works would be sent twice, and so on for as long as one works.
    if let (Some(busy), Some(looked)) = (cause.busy, record.looked)
        && looked > busy
    {
        if let Some(due) = cause.due.filter(|due| is_nobodys(due, &record.due, held.now)) {
            app.store.remove_due(&Due { at: due.at, vm: cause.vm.clone(), run: due.run.clone() }).await?;
        }
        return Ok(Begun::Ended(Ended::done("a look that began later has seen it")));
    }
    let id = fresh_name();
    if let Some(lease) = record.is_leased_to_another(&id, held.now) {
        return busy(app, message, cause, held.now, lease.until).await;
    }
    let name = id.chars().take(8).collect();
    record.lease = Some(Lease { run: id, until: held.now + LEASE });
    let (now, etag, began) = (held.now, held.etag, Instant::now());
    let mut run = Run {
        rows: Vec::new(),
        record,
        now,
        answers: Vec::new(),
        wants: Vec::new(),
        answers_to_wants: Vec::new(),
        asked_by: began + ASKS_UNTIL,
        began,
        name,
        etag,
        inbox: Vec::new(),
        inbox_has_more: false,
        is_unfinished: false,
    };
    run.now = match run.save(app).await {
        // Another run was a moment faster.
        Err(Stopped::Lost(_)) => return busy(app, message, cause, now, now + LEASE).await,
        saved => saved?,
    };
    let mut inbox = app.store.inbox(cause.vm, MOST_OF_INBOX).await?;
    for (name, claim) in inbox.claims {
        take_claim(&mut run.record, claim, now);
        run.inbox.push(name);
    }
    for (name, want) in inbox.wants {
        // The run that answered it was killed, or stopped, before it could take the wish out.
        match app.store.answer_to(&want.id).await {
            Ok(Some(answer)) if answer.became != Became::Received => run.inbox.push(name),
            Ok(_) => run.wants.push((name, want)),
            // Nobody could be told what became of it, nor whether it was done already.
            Err(StoreError::Unreadable { name: of, why }) => inbox.unreadable.push((name, format!("{of}: {why}"))),
            Err(failed) => return Err(failed.into()),
        }
    }
    // A claim is a hint, and a wish is its person's: one that nobody can read stops no look.
    for (name, why) in inbox.unreadable {
        app.set_aside("approval", &name, &why).await?;
    }
    run.inbox_has_more = inbox.more;
    Ok(Begun::Run(Box::new(run)))
}

/// Another run works on the VM: the look is sent again, for a look that begins after that run did, unless one comes that sees as much.
/// Where runs are killed, or too slow to come to their end, there would be ever more.
async fn busy(app: &App, message: &Message, cause: Cause<'_>, now: DateTime<Utc>, until: DateTime<Utc>) -> Result<Begun, Stopped> {
    let at = (now + TimeDelta::seconds(1i64 << message.tries().min(5))).min(until);
    let (again, since) = (message.after(now), cause.busy.unwrap_or(now));
    Box::pin(app.once_of(&("look", cause.vm), since, now + BROKER_AHEAD, at, app.send_at(&again, at))).await?;
    Ok(Begun::Ended(Ended::AgainAt { at, note: "another run works on this VM".to_owned() }))
}

/// Sends a look again, unless the same one is yet to come by any clock.
async fn again_once(app: &App, again: &Message, now: DateTime<Utc>, at: DateTime<Utc>) -> Result<(), Stopped> {
    Box::pin(app.once(&again.body(), now + BROKER_AHEAD, at, app.send_at(again, at))).await.map(drop)
}

/// Whoever leaves something to be looked at promises the look before, and no invocation takes this long.
const LEFT_WITHIN: TimeDelta = TimeDelta::minutes(1);

/// Whether a due entry is none of the record's own, and nobody is about to leave what it is for.
fn is_nobodys(due: &DueEntry, ours: &BTreeMap<DateTime<Utc>, String>, now: DateTime<Utc>) -> bool {
    ours.get(&due.at) != Some(&due.run) && now > due.at + LEFT_WITHIN
}

/// The broker goes by another clock than the store.
const BROKER_AHEAD: TimeDelta = TimeDelta::seconds(2);

/// Claims are remembered so long: an opening lasts no longer than a day.
const CLAIMS_KEPT_FOR: TimeDelta = TimeDelta::days(1);

/// Takes a claim in. What is older than any opening, or is said to happen only later than clocks differ, tells of none; and the
/// newest ones, which push out the others, must be believable.
fn take_claim(record: &mut VmRecord, claim: Claim, now: DateTime<Utc>) {
    let is_believable = |at: DateTime<Utc>| at >= now - CLAIMS_KEPT_FOR && at <= now + CLOCKS_DIFFER_BY;
    record.claims.retain(|known| is_believable(known.at));
    if !is_believable(claim.at) {
        return;
    }
    // What one person did in one second left claims that say the same, not all of which come.
    for known in record.claims.iter_mut().filter(|known| known.event == claim.event || said_by(known) == said_by(&claim)) {
        known.apart_seconds = known.apart_seconds.into_iter().chain(claim.apart_seconds).min();
    }
    if record.claims.iter().all(|known| known.event != claim.event) {
        record.claims.push(claim);
        record.claims.sort_by(|a, b| (a.at, &a.event).cmp(&(b.at, &b.event)));
        let over = record.claims.len().saturating_sub(MOST_CLAIMS);
        record.claims.drain(..over);
    }
}

/// Reads Azure, plans, and carries the plan out.
async fn look(app: &App, run: &mut Run) -> Result<(), Stopped> {
    let mut sight = match see(app, &run.record).await {
        Ok(sight) => sight,
        Err(why) => return unread(app, run, &why).await,
    };
    run.asked_by = (Instant::now() + ASKS_FOR).min(run.began + ASKS_UNTIL);
    if let Some(why) = sight.jit_unread.take() {
        return look_without_jit(app, run, &sight, &why).await;
    }
    leave_to_vms(app, &run.record, &mut sight).await?;
    want::work(app, run, &sight).await?;
    let ruled = ruled(app, run, &sight).await?;
    let seen = seen_as(app, run.now, run.surely_by_now(), &sight, &ruled);
    let (closes, opens) = planned(app, run, &seen);
    run.fingerprint(app, &sight).await?;
    if shut_all(app, run, &closes).await? == GoOn::No {
        return Ok(());
    }
    for open in &opens {
        if run.began.elapsed() > BEGINS_DELETES_WITHIN {
            run.is_unfinished = true;
            break;
        }
        if open::open(app, run, open, &sight).await? == GoOn::No {
            break;
        }
    }
    Ok(())
}

/// Plans. What is to be told of it stands in the record, which is written with the first intent, or at the end where there is none,
/// and is told right after that.
fn planned(app: &App, run: &mut Run, seen: &Look<'_>) -> (Vec<Close>, Vec<Open>) {
    let plan = reconcile(run.record.clone(), seen);
    measure_shut(app, &run.record, &plan.audits);
    run.record = plan.record;
    run.record.untold.extend(plan.audits);
    let overdue = overdue(&mut run.record, run.now, app.mode);
    run.record.untold.extend(overdue);
    (plan.closes, plan.opens)
}

/// Measures how long ports that are proved shut now were to be shut, as the record from before says.
fn measure_shut(app: &App, before: &VmRecord, audits: &[AuditRecord]) {
    for audit in audits.iter().filter(|audit| audit.kind == AuditKind::ProvedShut) {
        let since = audit.port.and_then(|port| before.closings.get(&port)).map(|closing| closing.since);
        if let Some(took) = since.and_then(|since| (audit.at - since).to_std().ok()) {
            app.azure.telemetry.measure(Measure::Shut { took });
        }
    }
}

async fn shut_all(app: &App, run: &mut Run, closes: &[Close]) -> Result<GoOn, Stopped> {
    for close in closes {
        if run.began.elapsed() > BEGINS_DELETES_WITHIN || shut(app, run, close).await? == GoOn::No {
            return Ok(GoOn::No);
        }
    }
    Ok(GoOn::Yes)
}

/// What becomes of a look that could not read Azure: it is remembered, and nobody's wish waits for it too long.
async fn unread(app: &App, run: &mut Run, why: &NotSeen) -> Result<(), Stopped> {
    warn!(vm = %run.record.vm, error = %why, "the VM could not be read");
    not_seen(&mut run.record, run.now, why);
    let again = match why {
        NotSeen::Call(failed) if failed.kind == FailureKind::MissingRight => DateTime::<Utc>::MAX_UTC,
        _ => run.record.not_before.unwrap_or(run.now),
    };
    want::unread(app, run, again, &why.to_string()).await
}

/// JIT's policies could not be read. What the groups alone show to be wrong does not wait for them, nor does whoever wants a
/// grant to end; what only rules can decide on waits as long as it does for Graph, and is shut then; nothing is opened or proved.
/// The alarm that the VM cannot be read comes in its time all the same. Quiet
/// that JIT wants binds the next look, and not the deletes of this one: they are no calls of JIT.
async fn look_without_jit(app: &App, run: &mut Run, sight: &Sight, why: &NotSeen) -> Result<(), Stopped> {
    unread(app, run, why).await?;
    if app.mode == Mode::Observe {
        return Ok(());
    }
    want::end(app, run, sight).await?;
    let mut ruled = Ruled { unaudited: unaudited(app, &run.record, run.now).await?, ..Ruled::default() };
    let blind = Look { jit: None, ..seen_as(app, run.now, run.now, sight, &ruled) };
    let openings = to_be_ruled(&begun(&run.record, &blind), &blind);
    if !openings.is_empty() && app.rulebook.rules().await.is_ok() {
        ruled.rulings = nobodys(&run.record, &openings, run.now, why);
    }
    let seen = Look { jit: None, ..seen_as(app, run.now, run.surely_by_now(), sight, &ruled) };
    let (closes, _) = planned(app, run, &seen);
    shut_all(app, run, &closes).await?;
    Ok(())
}

/// What becomes of openings while nobody can be told who asked for them.
fn nobodys(record: &VmRecord, openings: &[Opening], now: DateTime<Utc>, why: &NotSeen) -> Rulings {
    let ruling = |opening: &Opening| {
        // While JIT could be read it was decided on, or waited for something else.
        let unread = record.blind.as_ref().map(|blind| blind.since);
        let until = record.undecided_since(opening).into_iter().chain(unread).max().unwrap_or(now) + CONFIRMED_WITHIN;
        match now < until {
            true => Ruling::Wait { until, why: format!("who asked for it cannot be told: {why}") },
            false => {
                let said = format!("who asked for it could not be told for 30 min: {why}");
                Ruling::Shut { why: Violation::Unapproved { said }, rule: None, decision: None }
            }
        }
    };
    openings.iter().map(|opening| (opening.rule.clone(), ruling(opening))).collect()
}

/// A rule that the record of a VM remembers is that VM's, although no machine has its address any more: its grant may still
/// cover it, and nobody is to hear of it twice.
async fn leave_to_vms(app: &App, record: &VmRecord, sight: &mut Sight) -> Result<(), Stopped> {
    let openings = &mut sight.seen.openings;
    if record.vm.orphans_of().is_none() || openings.is_empty() {
        return Ok(());
    }
    let known = app.store.list_open(&format!("{}/", record.vm.subscription())).await?;
    let vms: BTreeSet<VmId> = known.into_iter().map(|(vm, _)| vm).filter(|vm| vm.orphans_of().is_none()).collect();
    let vms: Vec<VmId> = vms.into_iter().collect();
    let remembered = Mutex::new(BTreeSet::new());
    let recall = async |vm| match app.store.vm(vm).await {
        Ok(held) => {
            let mut remembered = remembered.lock().unwrap_or_else(PoisonError::into_inner);
            remembered.extend(held.document.remembered().map(|known| known.rule.clone()));
            Ok(())
        }
        // Nobody can go by it, and it stops no look but those at its own machine.
        Err(StoreError::Unreadable { name, why }) => {
            super::tell_unreadable(app, &name, &why).await;
            Ok(())
        }
        Err(failed) => Err(failed),
    };
    in_lanes(&vms, recall).await?;
    let remembered = remembered.into_inner().unwrap_or_else(PoisonError::into_inner);
    openings.retain(|opening| !remembered.contains(&opening.rule));
    Ok(())
}

/// The live grants of which no audit record tells, or one that tells of something else: whoever can write the store must not be
/// able to grant anything by it.
async fn unaudited(app: &App, record: &VmRecord, now: DateTime<Utc>) -> Result<BTreeSet<String>, Stopped> {
    let mut found = BTreeSet::new();
    for grant in record.grants.iter().filter(|grant| grant.is_live(now)) {
        if !app.is_audited(grant).await? {
            warn!(vm = %record.vm, grant.id, "no audit record tells of this grant: it counts as none");
            found.insert(grant.id.clone());
        }
    }
    Ok(found)
}

/// What the rules say of what nothing else decides. While they cannot be used, nothing: what no hard limit forbids is
/// reported, and that there are no rules is an alarm.
async fn ruled(app: &App, run: &Run, sight: &Sight) -> Result<Ruled, Stopped> {
    let mut ruled = Ruled { unaudited: unaudited(app, &run.record, run.now).await?, ..Ruled::default() };
    let claims = run.record.grants.iter().any(|grant| grant.confirm_by.is_some());
    let (begun, openings) = to_rule(app, run, sight, &ruled);
    if !claims && openings.is_empty() {
        return Ok(ruled);
    }
    match app.rulebook.rules().await {
        Ok(rules) => {
            let asking = || Asking::of(app, rules, run, sight);
            ruled.rulings = asking().begun(&begun).rule(&openings).await?;
            // Others may take all the time there is for these: what nothing covers was ruled on before.
            ruled.confirmations = asking().confirmations().await?;
            if ruled.confirmations.values().any(|found| matches!(found, Confirmation::Contradicted { .. })) {
                // What only a contradicted claim covered is ruled on in this very look, too.
                let (begun, openings) = to_rule(app, run, sight, &ruled);
                ruled.rulings.extend(asking().begun(&begun).rule(&openings).await?);
            }
        }
        Err(why) => {
            app.tell_failing("rules", "rules", why, "the rules cannot be used, so that nothing opens and what no hard limit forbids stays")
                .await;
        }
    }
    Ok(ruled)
}

/// The record once the look has begun, and what of its openings the rules have still to be asked about, by what was found out so
/// far.
fn to_rule(app: &App, run: &Run, sight: &Sight, ruled: &Ruled) -> (VmRecord, Vec<Opening>) {
    let seen = seen_as(app, run.now, run.now, sight, ruled);
    let begun = begun(&run.record, &seen);
    let mut openings = to_be_ruled(&begun, &seen);
    openings.retain(|opening| !ruled.rulings.contains_key(&opening.rule));
    (begun, openings)
}

fn seen_as<'a>(app: &App, now: DateTime<Utc>, ended: DateTime<Utc>, sight: &'a Sight, ruled: &'a Ruled) -> Look<'a> {
    Look {
        now,
        ended,
        openings: &sight.seen.openings,
        groups_settled: sight.groups_settled,
        versions: &sight.versions,
        gone: sight.gone,
        jit: Some(Jit { records: &sight.seen.records, remarks: &sight.seen.remarks }),
        limits: app.limits,
        newer: app.newer,
        mode: app.mode,
        rulings: &ruled.rulings,
        confirmations: &ruled.confirmations,
        unaudited: &ruled.unaudited,
    }
}

fn not_seen(record: &mut VmRecord, now: DateTime<Utc>, why: &NotSeen) {
    let cause = match why {
        NotSeen::Call(failed) => {
            if let Some(wait) = hold(failed) {
                record.hold_until(now + wait);
            }
            if failed.kind == FailureKind::MissingRight { TroubleCause::MissingRight } else { TroubleCause::CannotLook }
        }
        NotSeen::Body { .. } | NotSeen::Unlisted(_) | NotSeen::Slow { .. } => TroubleCause::CannotLook,
    };
    could_not_look(record, now, Trouble { cause, said: why.to_string() });
}

/// How long Azure wants no call: what it said itself, whatever it was about.
pub(super) fn hold(failed: &CallFailed) -> Option<TimeDelta> {
    let asked = failed.retry_after.and_then(|wait| TimeDelta::from_std(wait).ok());
    asked.map(|asked| asked.min(LONGEST_HOLD))
}

impl Run {
    /// Writes the record over the version that this run holds, and gives the store's clock.
    pub(super) async fn save(&mut self, app: &App) -> Result<DateTime<Utc>, Stopped> {
        match app.store.save_vm(&self.record, self.etag.as_deref()).await? {
            Written::Done { etag, now } => {
                self.etag = Some(etag);
                Ok(now)
            }
            Written::Lost => Err(Stopped::Lost(self.record.vm.to_string())),
        }
    }

    /// Writes down what the record, as it was just saved, has to tell.
    pub(super) async fn tell(&mut self, app: &App) -> Result<(), Stopped> {
        self.rows.extend(app.keep_audits(&self.record.untold).await?);
        self.record.untold.clear();
        Ok(())
    }

    /// Writes audit records whose rows go out when the run is over.
    pub(super) async fn write_audits(&mut self, app: &App, audits: &[AuditRecord]) -> Result<(), Stopped> {
        self.rows.extend(app.keep_audits(audits).await?);
        Ok(())
    }

    /// Has what the effects before this one came to written down with the record that says so: it is told by no other run.
    pub(super) fn remember_answers(&mut self) {
        self.record.untold.append(&mut self.answers);
    }

    /// Answers a wish, and takes it out of the inbox; one without an answer stays there for the next look.
    pub(super) fn answer(&mut self, name: String, answer: Answer) {
        self.inbox.push(name);
        self.answers_to_wants.push(answer);
    }

    /// Whether the next effect may be begun, when Azure wants no call for so long.
    pub(super) fn go_on(&mut self, hold: Option<TimeDelta>) -> GoOn {
        let Some(wait) = hold else { return GoOn::Yes };
        self.record.hold_until(self.now + wait);
        GoOn::No
    }

    /// A time that is not before now, by the store's clock. Its `Date` is cut to the second.
    fn surely_by_now(&self) -> DateTime<Utc> {
        self.now + TimeDelta::seconds(1) + TimeDelta::from_std(self.began.elapsed()).unwrap_or(LEASE)
    }

    /// When the answer to a delete is no longer waited for.
    pub(super) fn answered_by(&self) -> Instant {
        self.began + ANSWERED_WITHIN
    }

    /// Makes sure that the VM is looked at again at that time, whatever becomes of this run.
    pub(super) async fn promise_look(&mut self, app: &App, at: DateTime<Utc>) -> Result<(), Stopped> {
        if !self.record.due.contains_key(&at) {
            app.store.put_due(&Due { at, vm: self.record.vm.clone(), run: self.name.clone() }).await?;
            self.record.due.insert(at, self.name.clone());
        }
        Ok(())
    }

    /// Enters what was seen into the index that the sweep compares with.
    async fn fingerprint(&mut self, app: &App, sight: &Sight) -> Result<(), Stopped> {
        let fingerprint = sight.seen.fingerprint(app.mode, app.limits, app.rulebook.set().await);
        if !self.record.is_at_rest() && self.record.fingerprint.as_ref() != Some(&fingerprint) {
            // The sweep takes the entry for a look that was brought to its end: this one is, or the due entry brings another.
            self.promise_look(app, self.now + LEASE).await?;
            app.store.put_open(&self.record.vm, &fingerprint, &self.name).await?;
            self.record.fingerprint = Some(fingerprint);
        }
        Ok(())
    }
}

/// One write: outcome, next look, lease released. Then the wake-up, and what the record no longer needs goes.
async fn finish(app: &App, mut run: Run, cause: Cause<'_>) -> Result<Ended, Stopped> {
    let vm = run.record.vm.clone();
    if run.record.is_at_rest() {
        run.record.fingerprint = None;
    } else if run.record.fingerprint.is_none() {
        // A VM that could never be read yet has nothing that the sweep could compare.
        app.store.put_open(&vm, UNSEEN, &run.name).await?;
        run.record.fingerprint = Some(UNSEEN.to_owned());
    }
    if run.inbox_has_more || run.is_unfinished {
        let soon = run.now + if run.is_unfinished { UNFINISHED } else { TimeDelta::seconds(1) };
        run.record.next_look = Some(run.record.next_look.map_or(soon, |next| next.min(soon)));
    }
    let next = run.record.next_look;
    if let Some(next) = next {
        run.promise_look(app, next).await?;
    }
    let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
        std::mem::take(&mut run.record.due).into_iter().partition(|(at, _)| Some(*at) == next);
    let mut gone: BTreeSet<(DateTime<Utc>, String)> = gone.into_iter().collect();
    // It may be that of a run that was killed before its record named it, or of somebody who is about to leave a wish.
    gone.extend(cause.due.filter(|due| is_nobodys(due, &kept, run.now)).map(|due| (due.at, due.run.clone())));
    let no_longer_due: Vec<Due> = gone.into_iter().map(|(at, run)| Due { at, vm: vm.clone(), run }).collect();
    run.record.due = kept;
    let wake = wake_up(&mut run.record, run.now, cause.wake);
    // While nobody else works on it: what the next run enters is not among them.
    let outdated = app.store.outdated_open(&vm, run.record.fingerprint.as_deref()).await?;
    run.record.lease = None;
    run.record.looked = Some(run.now);
    run.save(app).await?;
    for answer in &run.answers_to_wants {
        app.store.answer(answer).await?;
    }
    if let Some(at) = wake {
        // The due entry holds it, too: without the wake-up the schedule looks, a minute later at most.
        if let Err(why) = app.send_at(&Message::Look { vm: vm.clone(), wake: Some(at), due: None, busy: None, tries: 0 }, at).await {
            warn!(vm = %vm, error = %why, "a wake-up could not be sent: the schedule looks instead");
        }
    }
    in_lanes(&run.inbox, |name| app.store.remove(name)).await?;
    in_lanes(&no_longer_due, |due| app.store.remove_due(due)).await?;
    in_lanes(&outdated, |name| app.store.remove(name)).await?;
    info!(vm = %vm, openings = run.record.openings.len(), closings = run.record.closings.len(), alarms = run.record.alarms.len(), next = ?next, "looked");
    Ok(match next {
        Some(at) => Ended::AgainAt { at, note: format!("{} is looked at again", vm.name()) },
        None => Ended::done(format!("{} is as it should be", vm.name())),
    })
}

/// What stands in the index for a VM that could not be read.
const UNSEEN: &str = "unseen";

/// The wake-up that has to be sent, if any: only when none is under way that comes in time. One that nobody waits for any more is not
/// named, so that it is done at once when it comes.
fn wake_up(record: &mut VmRecord, now: DateTime<Utc>, came: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    let next = record.next_look;
    let under_way = record.wake_up.as_ref().map(|wake| wake.at).filter(|at| Some(*at) != came && *at > now);
    if under_way.is_some_and(|at| next.is_some_and(|next| at <= next)) {
        return None;
    }
    record.wake_up = next.map(|at| WakeUp { at });
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn record(next: Option<i64>, wake: Option<i64>) -> VmRecord {
        let mut record =
            VmRecord::new("/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm1".parse().unwrap());
        record.next_look = next.map(at);
        record.wake_up = wake.map(|wake| WakeUp { at: at(wake) });
        record
    }

    #[test]
    fn a_wake_up_is_sent_only_when_none_under_way_comes_in_time() {
        for (next, under_way, came, sent, named) in [
            (Some(20), None, None, Some(20), Some(20)),
            (Some(20), Some(15), None, None, Some(15)),
            (Some(20), Some(20), None, None, Some(20)),
            (Some(20), Some(30), None, Some(20), Some(20)),
            (Some(20), Some(9), None, Some(20), Some(20)),
            (Some(20), Some(15), Some(15), Some(20), Some(20)),
            (None, Some(15), None, None, None),
            (None, Some(15), Some(15), None, None),
            (None, None, None, None, None),
        ] {
            let mut record = record(next, under_way);
            let wake = wake_up(&mut record, at(10), came.map(at));
            assert_eq!((wake, record.wake_up.map(|w| w.at)), (sent.map(at), named.map(at)), "{next:?} {under_way:?} {came:?}");
        }
    }

    #[test]
    fn a_claim_is_taken_once_and_the_oldest_give_way() {
        let mut record = record(None, None);
        let claim = |n: i64| Claim {
            event: format!("e{n}"),
            at: at(n),
            object_id: String::new(),
            name: String::new(),
            operation: String::new(),
            apart_seconds: None,
        };
        for n in (0..30).rev().chain(0..30) {
            take_claim(&mut record, claim(n), at(30));
        }
        assert_eq!(record.claims.len(), MOST_CLAIMS);
        assert_eq!(record.claims.first().map(|c| c.event.as_str()), Some("e10"));
        // What nobody can have done yet, or did too long ago, is forgotten.
        let day = 24 * 3600;
        for (n, taken) in [(day + 331, false), (day + 330, true), (29, false), (30, true)] {
            take_claim(&mut record, claim(n), at(day + 30));
            assert_eq!(record.claims.iter().any(|known| known.at == at(n)), taken, "{n}");
        }
        assert_eq!(record.claims.len(), 2);
    }
}
