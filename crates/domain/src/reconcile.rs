//! The reconcile: what is remembered and what was just read of a VM become what is to be done.
//!
//! [`reconcile`] runs after Azure was read and before anything is changed; [`conclude`] runs after the effects, or
//! when nothing could be read, and says which alarms stand and when to look again. Both are functions of their
//! arguments alone, and running either twice on the same input finds nothing new.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

use crate::audit::{AuditKind, AuditRecord};
use crate::finding::{Finding, FindingCode, Severity};
use crate::grant::{Grant, Phase, SHORTEST, live_sources};
use crate::jit::JitRecord;
use crate::judge::{Facts, Judgement, Limits, Seen, Violation, judge};
use crate::opening::Opening;
use crate::record::{ALARM_AFTER, Alarm, Blind, Cause, Closing, SeenOpening, VmRecord};
use crate::source::Sources;

/// Whether Portcullis acts or only says what it would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is changed in Azure.
    Observe,
    /// Openings that may not be are shut.
    Enforce,
}

impl Mode {
    /// The mode as settings write it.
    pub fn text(self) -> &'static str {
        match self {
            Mode::Observe => "observe",
            Mode::Enforce => "enforce",
        }
    }
}

/// What one read of Azure showed of a VM.
#[derive(Clone, Debug)]
pub struct Look<'a> {
    /// The run's time: when the reads began.
    pub now: DateTime<Utc>,
    /// When the reads had ended.
    pub ended: DateTime<Utc>,
    /// The openings that lead to the VM.
    pub openings: &'a [Opening],
    /// Whether every security group in front of the VM is settled.
    pub groups_settled: bool,
    /// JIT's records of the VM.
    pub records: &'a [JitRecord],
    /// What is odd about the VM's JIT policies.
    pub remarks: &'a [Remark],
    /// The limits.
    pub limits: Limits,
    /// Whether to act.
    pub mode: Mode,
}

/// Something odd about a JIT policy of a VM.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// What kind of finding it is.
    pub code: FindingCode,
    /// The port, where it is about one.
    pub port: Option<u16>,
    /// The policy or the part of it.
    pub about: String,
    /// What was seen, in one sentence.
    pub evidence: String,
}

/// A rule that has to be deleted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Close {
    /// The port under which the closing is remembered.
    pub port: u16,
    /// What is to be shut, as it was seen.
    pub opening: Opening,
    /// Why.
    pub why: Violation,
}

/// A port that has to be opened for live grants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Open {
    /// The port.
    pub port: u16,
    /// The union of the live grants' sources.
    pub sources: Sources,
    /// The latest end of the live grants.
    pub until: DateTime<Utc>,
}

/// What has to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What is to be remembered before any effect.
    pub record: VmRecord,
    /// What is to be deleted, in this order.
    pub closes: Vec<Close>,
    /// What is to be opened, after the deletes.
    pub opens: Vec<Open>,
    /// Grants that lose their opening and cannot have another, because less than Azure's shortest time is left.
    pub cut_short: BTreeSet<String>,
    /// Open grants whose rule another hand removed: they have ended.
    pub shut_by_another: BTreeSet<String>,
    /// What is to be written down before the record is.
    pub audits: Vec<AuditRecord>,
}

/// The second of the two reads that prove a port shut comes at least this long after the first.
pub const BETWEEN_READS: TimeDelta = TimeDelta::seconds(30);

/// No read proves anything before this long after a record's start: its rule may not be written yet.
pub const AFTER_START: TimeDelta = TimeDelta::seconds(60);

/// A record this new may still bring a rule, whatever its status says (`Initiating` was reported to last up to two
/// minutes).
pub const RULE_MAY_COME: TimeDelta = TimeDelta::seconds(150);

/// What is read in Azure and what is remembered become what is to be done.
pub fn reconcile(record: VmRecord, look: &Look<'_>) -> Plan {
    let mut record = record;
    let openings = sorted(look.openings);
    remember_openings(&mut record, &openings, look);
    let judgements = judge_all(&record, &openings, look);
    let judgements: Vec<Judgement> = openings.iter().zip(judgements).map(|(o, j)| keep_shutting(&record, o, j, look.mode)).collect();
    let judged: Vec<(&Opening, &Judgement)> = openings.iter().zip(&judgements).collect();

    let mut audits = Audits::new(look.now);
    let closes = match look.mode {
        Mode::Enforce => plan_closes(&mut record, &judged, look),
        Mode::Observe => would_close(&mut record, &judged, &mut audits),
    };
    prove_shut(&mut record, &openings, look, &mut audits);
    note_findings(&mut record, &judged, look, &mut audits);
    let mut plan =
        Plan { record, closes, opens: Vec::new(), cut_short: BTreeSet::new(), shut_by_another: BTreeSet::new(), audits: audits.written };
    if look.mode == Mode::Enforce {
        plan_opens(&mut plan, &openings, look);
    }
    plan
}

fn sorted(openings: &[Opening]) -> Vec<Opening> {
    let mut openings = openings.to_vec();
    openings.sort();
    openings.dedup();
    openings
}

fn remember_openings(record: &mut VmRecord, openings: &[Opening], look: &Look<'_>) {
    let before = std::mem::take(&mut record.openings);
    let first_seen = |opening: &Opening| {
        let same = before.iter().find(|seen| seen.opening.is_same(opening));
        same.map_or(look.now, |seen| seen.first)
    };
    record.openings = openings.iter().map(|opening| SeenOpening { opening: opening.clone(), first: first_seen(opening) }).collect();
    record.blind = None;
    record.awaits_opening = look.records.iter().any(|r| r.is_initiating(look.now) || may_still_open(r, look));
    record.judge_again = None;
}

fn may_still_open(record: &JitRecord, look: &Look<'_>) -> bool {
    let shows = look.openings.iter().any(|opening| opening.ports.contains(record.port) && opening.sources.covers(&record.sources));
    let new = record.start + RULE_MAY_COME > look.now;
    record.may_be_open() && record.end > look.now && new && !shows
}

fn judge_all(record: &VmRecord, openings: &[Opening], look: &Look<'_>) -> Vec<Judgement> {
    let facts = Facts { now: look.now, records: look.records, grants: &record.grants, limits: look.limits };
    judge(openings, facts, |opening| Seen {
        first: first_seen(record, opening).unwrap_or(look.now),
        port_shut: opening.port().and_then(|port| record.shut.get(&port).copied()),
    })
}

fn first_seen(record: &VmRecord, opening: &Opening) -> Option<DateTime<Utc>> {
    record.openings.iter().find(|seen| seen.opening == *opening).map(|seen| seen.first)
}

fn note_findings(record: &mut VmRecord, judged: &[(&Opening, &Judgement)], look: &Look<'_>, audits: &mut Audits) {
    let key = record.vm.key();
    let mut found: BTreeMap<String, Finding> = BTreeMap::new();
    let mut add = |finding: Finding| match found.entry(finding.id.clone()) {
        Entry::Vacant(place) => {
            place.insert(finding);
        }
        Entry::Occupied(mut same) => same.get_mut().evidence.push_str(&format!("; {}", finding.evidence)),
    };
    let acts = match look.mode {
        Mode::Enforce => "it is being shut",
        Mode::Observe => "it would be shut in enforce mode",
    };
    for (opening, judgement) in judged {
        let about = opening.rule.to_string();
        let lets_in = format!("{} lets in {} to port {}", opening.rule.name(), opening.sources, opening.ports);
        match judgement {
            Judgement::Covered => {}
            Judgement::Left if !opening.sources.is_understood() => {
                add(Finding::new(FindingCode::Unreadable, &key, opening.port(), &about, look.now)
                    .seen(format!("{lets_in}, which cannot be read"))
                    .doing("it is left for a person to look at"));
            }
            Judgement::Left => {
                add(Finding::new(FindingCode::Unapproved, &key, opening.port(), &about, look.now)
                    .seen(format!("{lets_in}, and no grant covers it"))
                    .doing("it is left: no hard limit forbids it"));
            }
            Judgement::Shut(violation) => {
                add(Finding::new(code_of(violation), &key, opening.port(), &about, look.now)
                    .seen(format!("{lets_in}; {}", violation.sentence()))
                    .doing(acts));
            }
        }
        if **judgement == Judgement::Left {
            let again = first_seen(record, opening).map(|first| first + look.limits.longest_opening + TimeDelta::seconds(1));
            record.judge_again = earliest(record.judge_again, again);
        }
    }
    for remark in look.remarks.iter().collect::<BTreeSet<_>>() {
        add(Finding::new(remark.code, &key, remark.port, &remark.about, look.now)
            .seen(remark.evidence.clone())
            .doing("it is left for a person to look at"));
    }
    keep_until_proved(record, &mut found);
    replace_findings(record, found, audits);
}

/// What is being shut stays a finding until it is proved shut, also while a read does not show it.
fn keep_until_proved(record: &VmRecord, found: &mut BTreeMap<String, Finding>) {
    let targets = record.closings.values().flat_map(|closing| &closing.targets);
    let unproved: BTreeSet<&str> = targets.map(|target| target.rule.arm_id().key()).collect();
    let shown: BTreeSet<String> = found.values().map(|finding| finding.about.to_ascii_lowercase()).collect();
    for (id, finding) in &record.findings {
        let about = finding.about.to_ascii_lowercase();
        if unproved.contains(about.as_str()) && !shown.contains(&about) {
            found.insert(id.clone(), finding.clone());
        }
    }
}

fn code_of(violation: &Violation) -> FindingCode {
    match violation {
        Violation::AnySource { .. } => FindingCode::AnySource,
        Violation::Overlong { .. } => FindingCode::Overlong,
        Violation::Outlived { .. } => FindingCode::Outlived,
        Violation::GrantEnded { .. } => FindingCode::GrantEnded,
    }
}

fn replace_findings(record: &mut VmRecord, mut found: BTreeMap<String, Finding>, audits: &mut Audits) {
    let before = std::mem::take(&mut record.findings);
    for (id, finding) in &mut found {
        match before.get(id) {
            // Azure gives one id in several letter cases: that alone is no change.
            Some(old) if old.evidence.eq_ignore_ascii_case(&finding.evidence) && old.done == finding.done => finding.clone_from(old),
            Some(old) => {
                finding.since = old.since;
                audits.finding(record, AuditKind::FindingChanged, finding);
            }
            None => audits.finding(record, AuditKind::FindingAppeared, finding),
        }
    }
    for (id, old) in &before {
        if !found.contains_key(id) {
            audits.finding(record, AuditKind::FindingGone, old);
        }
    }
    record.findings = found;
}

fn plan_closes(record: &mut VmRecord, judged: &[(&Opening, &Judgement)], look: &Look<'_>) -> Vec<Close> {
    record.would_close.clear();
    spare_covered(record, judged);
    let mut closes = Vec::new();
    for (opening, judgement) in judged {
        let port = opening.port().unwrap_or_default();
        let Judgement::Shut(why) = judgement else { continue };
        let since = must_be_shut_since(record, opening, why, look);
        let closing = record.closings.entry(port).or_insert_with(|| Closing::new(why.clone(), since, opening.flush_connection));
        closing.first_shut_read = None;
        match closing.targets.iter_mut().find(|target| target.is_same(opening)) {
            Some(target) => target.clone_from(opening),
            None => closing.targets.push((*opening).clone()),
        }
        if is_still_being_deleted(closing, opening, look) {
            continue;
        }
        closes.push(Close { port, opening: (*opening).clone(), why: why.clone() });
    }
    closes.sort();
    closes
}

/// What was being shut and is covered by live grants now is right: it is no longer to be shut, and a closing that has
/// nothing else to shut is over without proof.
fn spare_covered(record: &mut VmRecord, judged: &[(&Opening, &Judgement)]) {
    for closing in record.closings.values_mut() {
        closing
            .targets
            .retain(|target| !judged.iter().any(|(opening, judgement)| **judgement == Judgement::Covered && target.is_same(opening)));
    }
    record.closings.retain(|_, closing| !closing.targets.is_empty());
}

/// What the whole internet or a request made wrong was wrong when it was first seen; what time made wrong is so only
/// since this look.
fn must_be_shut_since(record: &VmRecord, opening: &Opening, why: &Violation, look: &Look<'_>) -> DateTime<Utc> {
    match why {
        Violation::AnySource { .. } | Violation::Overlong { .. } => first_seen(record, opening).unwrap_or(look.now),
        Violation::Outlived { .. } | Violation::GrantEnded { .. } => look.now,
    }
}

/// An opening that is being shut goes on being shut. What made it a violation may be gone with its first delete: a
/// record that became `Revoked`, for one.
fn keep_shutting(record: &VmRecord, opening: &Opening, judgement: Judgement, mode: Mode) -> Judgement {
    let closing = record.closings.values().find(|closing| closing.targets.iter().any(|target| target.is_same(opening)));
    match (judgement, closing, mode) {
        (Judgement::Left, Some(closing), Mode::Enforce) => Judgement::Shut(closing.why.clone()),
        (judgement, _, _) => judgement,
    }
}

/// A delete that Azure has accepted and is still carrying out is not sent again: its group is not settled yet.
fn is_still_being_deleted(closing: &Closing, opening: &Opening, look: &Look<'_>) -> bool {
    !look.groups_settled && closing.deleted.get(&opening.rule).is_some_and(|at| *at + CARRIED_OUT_WITHIN > look.now)
}

/// An accepted delete that has not shown any effect by then is sent again.
const CARRIED_OUT_WITHIN: TimeDelta = TimeDelta::minutes(2);

fn would_close(record: &mut VmRecord, judged: &[(&Opening, &Judgement)], audits: &mut Audits) -> Vec<Close> {
    record.closings.clear();
    let mut would = BTreeSet::new();
    for (opening, judgement) in judged {
        let Judgement::Shut(why) = judgement else { continue };
        let key = opening.rule.arm_id().key().to_owned();
        if !record.would_close.contains(&key) {
            audits.would_close(record, opening, why);
        }
        would.insert(key);
    }
    record.would_close = would;
    Vec::new()
}

fn prove_shut(record: &mut VmRecord, openings: &[Opening], look: &Look<'_>, audits: &mut Audits) {
    let ports: Vec<u16> = record.closings.keys().copied().collect();
    for port in ports {
        let Some(closing) = record.closings.get_mut(&port) else { continue };
        let shows = openings.iter().any(|opening| closing.targets.iter().any(|target| target.is_same(opening)));
        let concerned =
            |record: &&JitRecord| record.port == port || closing.targets.iter().any(|target| target.ports.contains(record.port));
        let newest = look.records.iter().filter(concerned).map(|r| r.start).max();
        let initiating = look.records.iter().filter(concerned).any(|r| r.is_initiating(look.now));
        closing.no_proof_before = newest.map(|start| start + AFTER_START);
        if shows || !look.groups_settled || initiating {
            closing.first_shut_read = None;
            continue;
        }
        let early = closing.no_proof_before.is_some_and(|earliest| look.now < earliest);
        match closing.first_shut_read {
            None => closing.first_shut_read = Some(look.ended),
            Some(first) if early || look.now < first + BETWEEN_READS => {}
            Some(_) => {
                audits.proved_shut(record, port, openings);
                record.closings.remove(&port);
                record.shut.insert(port, look.now);
            }
        }
    }
}

fn plan_opens(plan: &mut Plan, openings: &[Opening], look: &Look<'_>) {
    let kept: Vec<&Opening> = openings.iter().filter(|opening| !plan.closes.iter().any(|close| close.opening == **opening)).collect();
    let before = std::mem::take(&mut plan.record.taken_down);
    let live: Vec<Grant> = plan.record.grants.iter().filter(|grant| grant.is_live(look.now)).cloned().collect();
    let ports: BTreeSet<u16> = live.iter().map(|grant| grant.port).collect();
    for port in ports {
        let there = kept.iter().filter(|o| o.ports.contains(port)).fold(Sources::default(), |all, o| all.union(&o.sources));
        let lacks = |grant: &Grant| !there.covers(&grant.sources);
        let may_open = |grant: &Grant| match grant.phase {
            Phase::Open => before.contains(&grant.id) || is_being_taken_down(&plan.record, grant),
            Phase::Requested | Phase::Waiting | Phase::Approved | Phase::Opening | Phase::Closing | Phase::Closed | Phase::Declined(_) => {
                true
            }
        };
        let (gone, wanted): (Vec<&Grant>, Vec<&Grant>) =
            live.iter().filter(|grant| grant.port == port).partition(|grant| lacks(grant) && !may_open(grant));
        plan.shut_by_another.extend(gone.iter().map(|grant| grant.id.clone()));
        let lacking: Vec<&Grant> = wanted.iter().copied().filter(|grant| lacks(grant)).collect();
        plan.record.taken_down.extend(lacking.iter().filter(|grant| grant.phase == Phase::Open).map(|grant| grant.id.clone()));
        let until = wanted.iter().map(|grant| grant.until).max();
        let Some(until) = until.filter(|_| !lacking.is_empty()) else { continue };
        if until - look.now < SHORTEST {
            plan.cut_short.extend(lacking.iter().map(|grant| grant.id.clone()));
        } else {
            let sources = live_sources(wanted, port, look.now);
            plan.opens.push(Open { port, sources, until });
        }
    }
}

/// Whether a rule that lets in any of a grant's sources is being shut.
fn is_being_taken_down(record: &VmRecord, grant: &Grant) -> bool {
    let mut targets = record.closings.values().flat_map(|closing| &closing.targets);
    targets.any(|target| target.ports.contains(grant.port) && grant.sources.minus(&target.sources) != grant.sources)
}

/// What is remembered when the VM could not be read: the opening half of [`reconcile`] does not run.
pub fn could_not_look(record: &mut VmRecord, now: DateTime<Utc>, trouble: crate::record::Trouble) {
    let since = record.blind.as_ref().map_or(now, |blind| blind.since);
    record.blind = Some(Blind { since, trouble });
}

/// Says which alarms stand and when to look again, after the effects or when nothing could be read.
pub fn conclude(record: &mut VmRecord, now: DateTime<Utc>, mode: Mode) -> Vec<AuditRecord> {
    let mut audits = Audits::new(now);
    replace_alarms(record, now, mode, &mut audits);
    record.next_look = next_look(record, now, mode).map(whole_second);
    audits.written
}

/// The whole second at or after a time: the store's clock and the broker's schedule know no fractions, and a message
/// that comes a fraction early would have to be sent again.
fn whole_second(at: DateTime<Utc>) -> DateTime<Utc> {
    let whole = at.trunc_subsecs(0);
    if whole < at { whole + TimeDelta::seconds(1) } else { at }
}

fn replace_alarms(record: &mut VmRecord, now: DateTime<Utc>, mode: Mode, audits: &mut Audits) {
    let wanted = alarms_wanted(record, now, mode);
    let before = std::mem::take(&mut record.alarms);
    let mut standing = BTreeMap::new();
    for (key, mut alarm) in wanted {
        if let Some(old) = before.get(&key) {
            // A cause that can only be waited out does not replace one that a person must remove.
            if old.cause == alarm.cause || !alarm.cause.is_alarm_at_once() {
                alarm.cause = old.cause;
                alarm.text.clone_from(&old.text);
            } else {
                audits.alarm(record, AuditKind::AlarmRaised, &alarm);
            }
            alarm.since = old.since;
        } else {
            audits.alarm(record, AuditKind::AlarmRaised, &alarm);
        }
        standing.insert(key, alarm);
    }
    for (key, old) in &before {
        if !standing.contains_key(key) {
            audits.alarm(record, AuditKind::AlarmCleared, old);
        }
    }
    record.alarms = standing;
}

fn alarms_wanted(record: &VmRecord, now: DateTime<Utc>, mode: Mode) -> BTreeMap<String, Alarm> {
    let mut wanted = BTreeMap::new();
    for (port, closing) in &record.closings {
        let key = format!("close-{port}");
        let cause = closing.trouble.as_ref().map_or(Cause::Slow, |trouble| trouble.cause);
        let stands = record.alarms.contains_key(&key);
        if stands || cause.is_alarm_at_once() || now >= closing.since + ALARM_AFTER {
            let said = closing.trouble.as_ref().map_or("Azure has not shut it yet", |trouble| &trouble.said);
            let text = format!("port {port} of {} is open and must not be: {}; {said}", record.vm.name(), closing.why.sentence());
            wanted.insert(key, Alarm { cause, port: Some(*port), since: now, text });
        }
    }
    if mode == Mode::Enforce {
        for finding in record.findings.values() {
            let cause = match finding.code {
                FindingCode::FirewallPolicy | FindingCode::FirewallPort => Cause::Firewall,
                FindingCode::Unreadable => Cause::Unreadable,
                FindingCode::AnySource
                | FindingCode::Overlong
                | FindingCode::Outlived
                | FindingCode::GrantEnded
                | FindingCode::Unapproved
                | FindingCode::UnreadableRecord => continue,
            };
            let alarm = Alarm { cause, port: finding.port, since: now, text: finding.evidence.clone() };
            wanted.insert(format!("{}-{}", cause.text(), finding.id), alarm);
        }
    }
    if let Some(blind) = &record.blind {
        let stands = record.alarms.contains_key(BLIND);
        if stands || blind.trouble.cause.is_alarm_at_once() || now >= blind.since + ALARM_AFTER {
            let text = format!("{} cannot be read: {}", record.vm.name(), blind.trouble.said);
            wanted.insert(BLIND.to_owned(), Alarm { cause: blind.trouble.cause, port: None, since: now, text });
        }
    }
    wanted
}

const BLIND: &str = "cannot-look";

fn next_look(record: &mut VmRecord, now: DateTime<Utc>, mode: Mode) -> Option<DateTime<Utc>> {
    let soon = now + TimeDelta::seconds(1);
    let mut next = None;
    let mut stuck = record.blind.is_some() || record.awaits_opening;
    let mut returned = false;
    for closing in record.closings.values() {
        let sent_now = closing.last_delete == Some(now) && closing.intent.as_ref().is_some_and(crate::record::Intent::was_deleted);
        let again = closing.intent.as_ref().is_some_and(|intent| intent.again);
        match closing.first_shut_read {
            Some(first) => {
                let second = (first + BETWEEN_READS + TimeDelta::seconds(1)).max(closing.no_proof_before.unwrap_or(first));
                stuck |= second < soon;
                next = earliest(next, Some(second.max(soon)));
            }
            // What was deleted before and is there is deleted again with growing pauses, or it would go on every 5 s.
            None if sent_now && again => returned = true,
            None if sent_now => next = earliest(next, Some(now + FIRST_READ_AFTER)),
            None => stuck = true,
        }
    }
    if stuck || returned {
        let tries = u64::from(record.attempts.values().sum::<u32>()) + record.serial + now.timestamp().unsigned_abs();
        let least = if stuck { TimeDelta::zero() } else { FIRST_READ_AFTER };
        next = earliest(next, Some(now + record.take_pause(tries).max(least)));
    } else {
        record.pause_seconds = 0;
    }
    if mode == Mode::Enforce {
        next = earliest(next, record.judge_again.map(|again| again.max(soon)));
        next = earliest(next, record.grants.iter().filter_map(|grant| grant.next_turn(now)).min());
    }
    if let Some(hold) = record.not_before {
        next = next.map(|at| at.max(hold));
    }
    earliest(next, alarm_due(record))
}

/// How long after an accepted delete the first read is made: recorded deletes take a few seconds.
const FIRST_READ_AFTER: TimeDelta = TimeDelta::seconds(5);

/// When the next alarm falls due by time alone; Azure's wish for quiet does not delay it.
fn alarm_due(record: &VmRecord) -> Option<DateTime<Utc>> {
    let closings = record.closings.iter().filter(|(port, _)| !record.alarms.contains_key(&format!("close-{port}")));
    let blind = record.blind.as_ref().filter(|_| !record.alarms.contains_key(BLIND));
    let times = closings.map(|(_, closing)| closing.since).chain(blind.map(|blind| blind.since));
    times.map(|since| since + ALARM_AFTER).min()
}

fn earliest(one: Option<DateTime<Utc>>, other: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    one.into_iter().chain(other).min()
}

/// Audit records of one run, numbered from the record's serial.
struct Audits {
    now: DateTime<Utc>,
    written: Vec<AuditRecord>,
}

impl Audits {
    fn new(now: DateTime<Utc>) -> Self {
        Audits { now, written: Vec::new() }
    }

    fn add(&mut self, record: &mut VmRecord, kind: AuditKind, fill: impl FnOnce(&mut AuditRecord)) {
        record.serial += 1;
        let mut audit = AuditRecord {
            id: String::new(),
            at: self.now,
            kind,
            vm: Some(record.vm.clone()),
            port: None,
            sources: None,
            about: None,
            code: String::new(),
            severity: Severity::Informational,
            why: String::new(),
            attempt: None,
            claims: record.claims.clone(),
        };
        fill(&mut audit);
        let about = format!("{} {:?} {:?}", audit.code, audit.port, audit.about);
        audit.id = AuditRecord::numbered_id(&record.vm, record.serial, kind, &about);
        self.written.push(audit);
    }

    fn finding(&mut self, record: &mut VmRecord, kind: AuditKind, finding: &Finding) {
        self.add(record, kind, |audit| {
            audit.port = finding.port;
            audit.about = Some(finding.about.clone());
            audit.code = finding.code.text().to_owned();
            audit.severity = if kind == AuditKind::FindingGone { Severity::Informational } else { finding.code.severity() };
            audit.why = format!("{}; {}", finding.evidence, finding.done);
        });
    }

    fn would_close(&mut self, record: &mut VmRecord, opening: &Opening, why: &Violation) {
        self.add(record, AuditKind::WouldClose, |audit| {
            audit.port = opening.port();
            audit.about = Some(opening.rule.to_string());
            audit.sources = Some(opening.sources.clone());
            audit.code = why.code().to_owned();
            audit.severity = code_of(why).severity();
            audit.why = why.sentence();
        });
    }

    fn proved_shut(&mut self, record: &mut VmRecord, port: u16, openings: &[Opening]) {
        let Some(closing) = record.closings.get(&port).cloned() else { return };
        let attempts = record.attempts.get(&port).copied();
        let names = |rules: Vec<&Opening>| rules.iter().map(|opening| opening.rule.name()).collect::<Vec<_>>().join(", ");
        let (by_us, others): (Vec<&Opening>, Vec<&Opening>) =
            closing.targets.iter().partition(|target| closing.deleted.contains_key(&target.rule));
        let stays: Vec<&Opening> = openings.iter().filter(|opening| opening.ports.contains(port)).collect();
        let seconds = (self.now - closing.since).num_seconds();
        let mut told = vec![format!("port {port} was seen shut twice, {seconds} seconds after it was known that it must be")];
        if !stays.is_empty() {
            told =
                vec![format!("what had to go from port {port} was seen gone twice, after {seconds} seconds, and {} stays", names(stays))];
        }
        if !by_us.is_empty() {
            told.push(format!("deleted {}", names(by_us)));
        }
        if !others.is_empty() {
            told.push(format!("{} went without a delete that Azure confirmed to us", names(others)));
        }
        told.push(if closing.flush_connection { "connections were cut" } else { "connections that were open survive" }.to_owned());
        self.add(record, AuditKind::ProvedShut, |audit| {
            audit.port = Some(port);
            audit.code = closing.why.code().to_owned();
            audit.attempt = attempts;
            audit.why = told.join("; ");
        });
    }

    fn alarm(&mut self, record: &mut VmRecord, kind: AuditKind, alarm: &Alarm) {
        self.add(record, kind, |audit| {
            audit.port = alarm.port;
            audit.code = alarm.cause.text().to_owned();
            audit.severity = if kind == AuditKind::AlarmRaised { Severity::High } else { Severity::Informational };
            audit.why = if kind == AuditKind::AlarmRaised {
                format!("{}. What to do: {}", alarm.text, alarm.cause.cure())
            } else {
                format!("no longer: {}", alarm.text)
            };
        });
    }
}

/// The audit record of one delete, written before it is sent.
pub fn audit_of_close(record: &VmRecord, close: &Close, attempt: u32, now: DateTime<Utc>) -> AuditRecord {
    AuditRecord {
        id: AuditRecord::effect_id(&record.vm, close.port, attempt),
        at: now,
        kind: AuditKind::Close,
        vm: Some(record.vm.clone()),
        port: Some(close.port),
        sources: Some(close.opening.sources.clone()),
        about: Some(close.opening.rule.to_string()),
        code: close.why.code().to_owned(),
        severity: code_of(&close.why).severity(),
        why: close.why.sentence(),
        attempt: Some(attempt),
        claims: record.claims.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jit::RecordStatus;
    use crate::port::PortSet;
    use crate::record::{Outcome, Trouble};
    use crate::samples::{at, grant, opening, opening_in, record, vm};

    /// A VM that is looked at again and again.
    struct Story {
        memory: VmRecord,
        openings: Vec<Opening>,
        records: Vec<JitRecord>,
        remarks: Vec<Remark>,
        settled: bool,
        mode: Mode,
    }

    impl Story {
        fn of(openings: Vec<Opening>) -> Self {
            Story { memory: VmRecord::new(vm()), openings, records: Vec::new(), remarks: Vec::new(), settled: true, mode: Mode::Enforce }
        }

        fn granted(mut self, grants: Vec<Grant>) -> Self {
            self.memory.grants = grants;
            self
        }

        /// A look whose reads take a second.
        fn look(&mut self, time: &str) -> Plan {
            let now = at(time);
            let look = Look {
                now,
                ended: now + TimeDelta::seconds(1),
                openings: &self.openings,
                groups_settled: self.settled,
                records: &self.records,
                remarks: &self.remarks,
                limits: Limits { longest_opening: TimeDelta::hours(8) },
                mode: self.mode,
            };
            let plan = reconcile(self.memory.clone(), &look);
            self.memory = plan.record.clone();
            plan
        }

        fn delete(&mut self, time: &str, opening: &Opening, outcome: Outcome, trouble: Option<Cause>) {
            let port = opening.port().unwrap();
            self.memory.intend_delete(port, &opening.rule, at(time));
            self.memory.delete_came_to(port, outcome, trouble.map(|cause| Trouble { cause, said: "Azure says no".to_owned() }));
        }

        /// A look of which every delete is accepted and has its effect at once.
        fn look_and_shut(&mut self, time: &str) -> Plan {
            let plan = self.look(time);
            for close in &plan.closes {
                self.delete(time, &close.opening, Outcome::Accepted, None);
                self.openings.retain(|opening| *opening != close.opening);
            }
            plan
        }

        fn conclude(&mut self, time: &str) -> Vec<AuditRecord> {
            conclude(&mut self.memory, at(time), self.mode)
        }

        fn next(&self) -> Option<DateTime<Utc>> {
            self.memory.next_look
        }
    }

    fn any(n: u32) -> Opening {
        opening(n, "22", &["*"])
    }

    fn home(n: u32) -> Opening {
        opening(n, "22", &["203.0.113.4"])
    }

    fn kinds(audits: &[AuditRecord]) -> Vec<&'static str> {
        audits.iter().map(|audit| audit.kind.text()).collect()
    }

    fn said(audits: &[AuditRecord]) -> Vec<&str> {
        audits.iter().map(|audit| audit.why.as_str()).collect()
    }

    const RULE_1: &str = "MicrosoftDefenderForCloud-JITRule-1-00000000000000000000000000000001";
    const RULE_2: &str = "MicrosoftDefenderForCloud-JITRule-2-00000000000000000000000000000002";

    #[test]
    fn a_vm_with_nothing_open_needs_nothing() {
        let mut story = Story::of(Vec::new());
        let plan = story.look("10:00:00");
        assert_eq!((plan.closes.len(), plan.opens.len(), plan.audits.len()), (0, 0, 0));
        assert_eq!(story.conclude("10:00:01"), []);
        assert_eq!(story.memory, VmRecord::new(vm()));
        assert!(story.memory.is_at_rest() && story.next().is_none());
    }

    #[test]
    fn a_violation_is_to_be_closed_and_is_found() {
        let mut story = Story::of(vec![any(1)]);
        let plan = story.look("10:00:00");
        let why = Violation::AnySource { sources: Sources::internet() };
        assert_eq!(plan.closes, [Close { port: 22, opening: any(1), why: why.clone() }]);
        let closing = Closing {
            why,
            since: at("10:00:00"),
            intent: None,
            last_delete: None,
            first_shut_read: None,
            no_proof_before: None,
            trouble: None,
            deleted: BTreeMap::new(),
            targets: vec![any(1)],
            flush_connection: false,
        };
        assert_eq!(story.memory.closings, BTreeMap::from([(22, closing)]));
        assert_eq!(story.memory.openings, [SeenOpening { opening: any(1), first: at("10:00:00") }]);
        let [audit] = plan.audits.as_slice() else { panic!("{:?}", plan.audits) };
        let evidence = format!("{RULE_1} lets in * to port 22; it lets in *, which amounts to the whole internet");
        assert_eq!(
            (audit.kind, audit.at, audit.vm.as_ref(), audit.port),
            (AuditKind::FindingAppeared, at("10:00:00"), Some(&vm()), Some(22))
        );
        assert_eq!(
            (audit.code.as_str(), audit.severity, audit.about.clone()),
            ("any-source", Severity::High, Some(any(1).rule.to_string()))
        );
        assert_eq!(audit.why, format!("{evidence}; it is being shut"));
        let finding = story.memory.findings.values().next().unwrap();
        assert_eq!((finding.code, finding.since, finding.evidence.as_str()), (FindingCode::AnySource, at("10:00:00"), evidence.as_str()));
        assert_eq!(story.memory.serial, 1);
    }

    #[test]
    fn each_violation_is_a_finding_of_its_own_code() {
        let code = |story: &mut Story| {
            story.look("10:00:00");
            story.memory.findings.values().map(|finding| finding.code.text()).collect::<Vec<_>>()
        };
        assert_eq!(code(&mut Story::of(vec![any(1)])), ["any-source"]);
        let mut overlong = Story::of(vec![home(1)]);
        overlong.records = vec![record(22, "203.0.113.4", "09:00:00", "20:00:00", RecordStatus::Initiated)];
        assert_eq!(code(&mut overlong), ["overlong"]);
        let mut outlived = Story::of(vec![home(1)]);
        outlived.look("01:00:00");
        assert_eq!(code(&mut outlived), ["outlived"]);
        let ended = || Story::of(vec![home(1)]).granted(vec![grant("g", 22, "203.0.113.4", "09:59:00", Phase::Open)]);
        assert_eq!(code(&mut ended()), ["grant-ended"]);
        assert_eq!(code(&mut Story::of(vec![home(1)])), ["unapproved"]);
        assert_eq!(code(&mut Story::of(vec![opening(1, "22", &["??"])])), ["unreadable"]);
        let mut covered = Story::of(vec![home(1)]).granted(vec![grant("g", 22, "203.0.113.4", "11:00:00", Phase::Open)]);
        assert_eq!(code(&mut covered), Vec::<&str>::new());
    }

    #[test]
    fn an_opening_must_be_shut_since_it_was_first_seen_or_since_time_made_it_wrong() {
        let since = |story: &mut Story| {
            story.mode = Mode::Observe;
            story.look("01:00:00");
            story.mode = Mode::Enforce;
            story.look("10:00:00");
            story.memory.closings[&22].since
        };
        assert_eq!(since(&mut Story::of(vec![any(1)])), at("01:00:00"));
        assert_eq!(since(&mut Story::of(vec![home(1)])), at("10:00:00"));
        let mut overlong = Story::of(vec![home(1)]);
        overlong.records = vec![record(22, "203.0.113.4", "00:30:00", "11:00:00", RecordStatus::Initiated)];
        assert_eq!(since(&mut overlong), at("01:00:00"));
        let mut ended = Story::of(vec![home(1)]).granted(vec![grant("g", 22, "203.0.113.4", "09:59:00", Phase::Open)]);
        ended.look("09:30:00");
        ended.look("10:00:00");
        assert_eq!(ended.memory.closings[&22].since, at("10:00:00"));
    }

    #[test]
    fn a_port_is_proved_shut_by_two_reads_half_a_minute_apart() {
        for (second, proved) in [("10:00:07", false), ("10:00:35", false), ("10:00:36", true), ("10:20:00", true)] {
            let mut story = Story::of(vec![any(1)]);
            story.look_and_shut("10:00:00");
            let first = story.look("10:00:05");
            assert_eq!((first.audits.len(), story.memory.closings[&22].first_shut_read), (0, Some(at("10:00:06"))));
            assert_eq!(story.memory.findings.len(), 1);
            let plan = story.look(second);
            assert_eq!(kinds(&plan.audits), if proved { vec!["proved-shut", "finding-gone"] } else { vec![] }, "{second}");
            assert_eq!(story.memory.closings.is_empty(), proved);
            assert_eq!(story.memory.shut.get(&22).copied(), proved.then(|| at(second)));
        }
    }

    #[test]
    fn the_proof_says_what_went_and_how() {
        let mut two = any(2);
        two.flush_connection = true;
        let mut story = Story::of(vec![any(1), two]);
        story.look("10:00:00");
        story.delete("10:00:01", &any(1), Outcome::Accepted, None);
        story.openings.clear();
        story.look("10:00:05");
        let plan = story.look("10:01:00");
        let audit = &plan.audits[0];
        assert_eq!(
            (audit.port, audit.code.as_str(), audit.attempt, audit.severity),
            (Some(22), "any-source", Some(1), Severity::Informational)
        );
        assert_eq!(
            audit.why,
            format!(
                "port 22 was seen shut twice, 60 seconds after it was known that it must be; deleted {RULE_1}; \
                 {RULE_2} went without a delete that Azure confirmed to us; connections that were open survive"
            )
        );
        assert_eq!(plan.audits[1].severity, Severity::Informational);

        let mut flushing = any(1);
        flushing.flush_connection = true;
        let mut story = Story::of(vec![flushing, home(2)]);
        story.look_and_shut("10:00:00");
        story.look("10:00:05");
        let plan = story.look("10:01:00");
        assert_eq!(
            plan.audits[0].why,
            format!(
                "what had to go from port 22 was seen gone twice, after 60 seconds, and {RULE_2} stays; deleted {RULE_1}; connections were cut"
            )
        );
        let mut gone = Story::of(vec![any(1)]);
        gone.look("10:00:00");
        gone.openings.clear();
        gone.look("10:00:05");
        let why = format!("{RULE_1} went without a delete");
        assert!(gone.look("10:01:00").audits[0].why.contains(&why));
    }

    #[test]
    fn what_hinders_a_proof_starts_it_again() {
        type Hinder = fn(&mut Story);
        let hindrances: [(&str, Hinder); 5] = [
            ("the opening is there", |story| story.openings = vec![any(1)]),
            ("another opening of the port must be shut", |story| story.openings = vec![any(2)]),
            ("a group is not settled", |story| story.settled = false),
            ("a record is Initiating", |story| story.records = vec![record(22, "*", "09:00:00", "11:00:00", RecordStatus::Initiating)]),
            ("a delete was sent", |story| story.delete("10:00:40", &any(1), Outcome::NothingToDelete, None)),
        ];
        for (what, hinder) in hindrances {
            let mut story = Story::of(vec![any(1)]);
            story.look_and_shut("10:00:00");
            story.look("10:00:05");
            hinder(&mut story);
            if what != "a delete was sent" {
                assert!(!kinds(&story.look("10:00:40").audits).contains(&"proved-shut"), "{what}");
            }
            assert_eq!(story.memory.closings[&22].first_shut_read, None, "{what}");
            (story.openings, story.settled, story.records) = (Vec::new(), true, Vec::new());
            assert!(!kinds(&story.look("10:01:00").audits).contains(&"proved-shut"), "{what}");
            assert!(kinds(&story.look("10:01:31").audits).contains(&"proved-shut"), "{what}");
        }
    }

    #[test]
    fn nothing_is_proved_in_the_minute_after_a_record_of_the_port_started() {
        let proved = |port, start, second| {
            let mut story = Story::of(vec![opening(1, "22-23", &["*"])]);
            story.records = vec![
                record(port, "*", "09:00:00", "12:00:00", RecordStatus::Revoked),
                record(port, "*", start, "12:00:00", RecordStatus::Initiated),
            ];
            story.look_and_shut("10:00:00");
            story.look("10:00:05");
            kinds(&story.look(second).audits).contains(&"proved-shut")
        };
        for (port, start, second, expected) in [
            (22, "10:00:00", "10:00:59", false),
            (22, "10:00:00", "10:01:00", true),
            // The rule was for port 23 as well.
            (23, "10:00:00", "10:00:59", false),
            (24, "10:00:00", "10:00:59", true),
            (22, "09:58:00", "10:00:36", true),
        ] {
            assert_eq!(proved(port, start, second), expected, "{port} {start} {second}");
        }
    }

    #[test]
    fn a_record_that_is_initiating_holds_up_the_proof_of_its_ports_until_its_end() {
        let proved = |port, end| {
            let mut story = Story::of(vec![opening(1, "22-23", &["*"])]);
            story.records = vec![record(port, "*", "09:00:00", end, RecordStatus::Initiating)];
            story.look_and_shut("10:00:00");
            story.look("10:00:05");
            kinds(&story.look("10:01:00").audits).contains(&"proved-shut")
        };
        assert!(!proved(22, "11:00:00") && !proved(23, "11:00:00"));
        assert!(proved(24, "11:00:00") && proved(22, "10:00:05"));
    }

    #[test]
    fn a_delete_under_way_is_not_sent_again_for_two_minutes() {
        let mut story = Story::of(vec![any(1), opening_in("subnet", 2, "22", &["*"])]);
        let both = story.openings.clone();
        assert_eq!(story.look("10:00:00").closes.len(), 2);
        for opening in &both {
            story.delete("10:00:00", opening, Outcome::Accepted, None);
        }
        story.settled = false;
        assert_eq!(story.look("10:01:59").closes, []);
        assert_eq!(story.memory.closings[&22].first_shut_read, None);
        assert_eq!(story.look("10:02:00").closes.len(), 2);
        story.settled = true;
        assert_eq!(story.look("10:00:10").closes.len(), 2);
        // One that failed is sent again at once.
        story.settled = false;
        let mut failed = Story::of(vec![any(1)]);
        failed.look("10:00:00");
        failed.delete("10:00:00", &any(1), Outcome::Failed(String::new()), None);
        failed.settled = false;
        assert_eq!(failed.look("10:00:05").closes.len(), 1);
    }

    #[test]
    fn a_rule_that_stays_is_closed_again_and_is_an_alarm_after_five_minutes() {
        let mut story = Story::of(vec![any(1)]);
        for time in ["10:00:00", "10:00:30", "10:04:59"] {
            assert_eq!(story.look(time).closes.len(), 1);
            story.delete(time, &any(1), Outcome::Failed("busy".to_owned()), None);
            assert_eq!(story.conclude(time), [], "{time}");
        }
        let audits = story.conclude("10:05:00");
        assert_eq!((kinds(&audits), audits[0].code.as_str(), audits[0].severity), (vec!["alarm-raised"], "slow", Severity::High));
        assert_eq!(
            said(&audits),
            ["port 22 of vm1 is open and must not be: it lets in *, which amounts to the whole internet; Azure has not shut it yet. \
              What to do: see what Azure says below; delete the rule by hand if the port must be shut now"]
        );
        assert_eq!(story.conclude("10:06:00"), []);
        assert_eq!(story.memory.alarms["close-22"].since, at("10:05:00"));
        story.openings.clear();
        story.look("10:07:00");
        assert_eq!(story.conclude("10:07:00"), []);
        story.look("10:08:00");
        let audits = story.conclude("10:08:00");
        assert_eq!((kinds(&audits), audits[0].severity), (vec!["alarm-cleared"], Severity::Informational));
        assert!(audits[0].why.starts_with("no longer: port 22"));
        assert!(story.memory.is_at_rest() && story.next().is_none());
    }

    #[test]
    fn one_of_two_rules_that_returns_is_an_alarm_at_once() {
        let mut story = Story::of(vec![any(1), opening_in("subnet", 2, "22", &["*"])]);
        assert_eq!(story.look_and_shut("10:00:00").closes.len(), 2);
        assert_eq!(story.conclude("10:00:00"), []);
        story.openings = vec![any(1)];
        assert_eq!(story.look_and_shut("10:00:30").closes.len(), 1);
        let audits = story.conclude("10:00:30");
        assert_eq!((kinds(&audits), audits[0].code.as_str()), (vec!["alarm-raised"], "rule-returns"));
        assert_eq!(story.memory.closings[&22].since, at("10:00:00"));
    }

    #[test]
    fn what_is_being_shut_goes_on_being_shut_when_its_record_is_revoked() {
        let mut story = Story::of(vec![home(1), home(2)]);
        story.openings[1].sources = Sources::read(["198.51.100.7"]);
        story.records = vec![record(22, "203.0.113.4", "09:00:00", "20:00:00", RecordStatus::Initiated)];
        let closes = story.look("10:00:00").closes;
        assert_eq!(closes.len(), 1);
        story.records[0].status = RecordStatus::Revoked;
        assert_eq!(story.look("10:00:30").closes, closes);
        // Azure may say of it what it will, as long as it is the same rule for the same sources.
        story.openings[0].flush_connection = true;
        story.openings[0].ports = PortSet::one(23);
        let again = story.look("10:01:00").closes;
        assert_eq!((again.len(), again[0].port, &again[0].opening), (1, 23, &story.openings[0]));
        story.openings.remove(0);
        assert!(kinds(&story.look("10:02:00").audits).is_empty());
        assert_eq!(kinds(&story.look("10:03:00").audits), ["proved-shut", "proved-shut", "finding-gone"]);
        // In observe mode nothing is being shut.
        let mut story = Story::of(vec![home(1)]);
        story.records = vec![record(22, "203.0.113.4", "09:00:00", "20:00:00", RecordStatus::Initiated)];
        story.look("10:00:00");
        story.records.clear();
        story.mode = Mode::Observe;
        let plan = story.look("10:01:00");
        assert_eq!((kinds(&plan.audits), plan.record.closings.len()), (vec!["finding-appeared", "finding-gone"], 0));
    }

    #[test]
    fn a_target_that_changed_is_remembered_as_it_is_now() {
        let mut story = Story::of(vec![any(1)]);
        story.look("10:00:00");
        story.openings[0].flush_connection = true;
        story.look("10:00:30");
        assert_eq!(story.memory.closings[&22].targets, story.openings);
        story.openings.push(any(2));
        story.look("10:01:00");
        assert_eq!(story.memory.closings[&22].targets, story.openings);
        assert_eq!(story.memory.openings.iter().map(|seen| seen.first).collect::<Vec<_>>(), [at("10:00:00"), at("10:01:00")]);
    }

    #[test]
    fn a_target_that_a_grant_covers_now_is_spared_and_never_proved_shut() {
        let long = |mut story: Story| {
            story.records = vec![record(22, "203.0.113.4", "09:00:00", "20:00:00", RecordStatus::Initiated)];
            story
        };
        let mut story = long(Story::of(vec![home(1)]));
        story.look("10:00:00");
        story.memory.grants = vec![grant("g", 22, "203.0.113.4", "12:00:00", Phase::Open)];
        for time in ["10:00:30", "10:02:00", "10:05:00"] {
            let plan = story.look(time);
            assert!(plan.closes.is_empty() && !kinds(&plan.audits).contains(&"proved-shut"), "{time}");
        }
        assert!(story.memory.closings.is_empty() && story.memory.findings.is_empty());
        // What else is to be shut on the port stays so.
        let mut story = long(Story::of(vec![home(1), any(2)]));
        story.look("10:00:00");
        story.memory.grants = vec![grant("g", 22, "203.0.113.4", "12:00:00", Phase::Open)];
        story.look("10:00:30");
        assert_eq!(story.memory.closings[&22].targets, [any(2)]);
    }

    #[test]
    fn observe_mode_says_once_what_it_would_close_and_does_nothing() {
        let mut story = Story::of(vec![any(1)]);
        story.mode = Mode::Observe;
        let plan = story.look("10:00:00");
        assert_eq!((plan.closes.len(), kinds(&plan.audits)), (0, vec!["would-close", "finding-appeared"]));
        let would = &plan.audits[0];
        assert_eq!(
            (would.port, would.code.as_str(), would.severity, &would.sources),
            (Some(22), "any-source", Severity::High, &Some(Sources::internet()))
        );
        assert_eq!(
            (would.why.as_str(), would.about.clone()),
            ("it lets in *, which amounts to the whole internet", Some(any(1).rule.to_string()))
        );
        assert!(plan.audits[1].why.ends_with("it would be shut in enforce mode"));
        for time in ["10:10:00", "23:00:00"] {
            assert_eq!(story.look(time).audits, []);
            assert_eq!((story.conclude(time), story.next()), (Vec::new(), None), "{time}");
        }
        assert!(story.memory.closings.is_empty() && story.memory.alarms.is_empty());
        // It went and came back: that is another time.
        story.openings.clear();
        assert_eq!(kinds(&story.look("23:10:00").audits), ["finding-gone"]);
        story.openings = vec![any(1)];
        assert_eq!(kinds(&story.look("23:20:00").audits), ["would-close", "finding-appeared"]);

        story.mode = Mode::Enforce;
        let plan = story.look("23:30:00");
        assert_eq!((plan.closes.len(), kinds(&plan.audits)), (1, vec!["finding-changed"]));
        assert!(story.memory.would_close.is_empty());
        story.mode = Mode::Observe;
        let plan = story.look("23:40:00");
        assert_eq!((plan.closes.len(), kinds(&plan.audits), plan.record.closings.len()), (0, vec!["would-close", "finding-changed"], 0));
        assert_eq!((Mode::Observe.text(), Mode::Enforce.text()), ("observe", "enforce"));
    }

    #[test]
    fn observe_mode_opens_nothing() {
        let mut story = Story::of(Vec::new()).granted(vec![grant("g", 22, "203.0.113.4", "12:00:00", Phase::Approved)]);
        story.mode = Mode::Observe;
        assert_eq!(story.look("10:00:00").opens, []);
        story.conclude("10:00:00");
        assert_eq!(story.next(), None);
    }

    fn remark(code: FindingCode, about: &str, evidence: &str) -> Remark {
        Remark { code, port: None, about: about.to_owned(), evidence: evidence.to_owned() }
    }

    #[test]
    fn findings_appear_change_and_go_and_keep_their_beginning() {
        let mut story = Story::of(vec![home(1)]);
        story.remarks = vec![remark(FindingCode::UnreadableRecord, "/policy", "b"), remark(FindingCode::UnreadableRecord, "/policy", "a")];
        let plan = story.look("10:00:00");
        assert_eq!(kinds(&plan.audits), ["finding-appeared"; 2]);
        let mut words = said(&plan.audits);
        words.sort_unstable();
        let left = format!("{RULE_1} lets in 203.0.113.4 to port 22, and no grant covers it; it is left: no hard limit forbids it");
        assert_eq!(words, [left.as_str(), "a; b; it is left for a person to look at"]);
        story.remarks.reverse();
        assert_eq!(story.look("10:01:00").audits, []);
        story.remarks.truncate(1);
        assert_eq!(kinds(&story.look("10:02:00").audits), ["finding-changed"]);
        assert!(story.memory.findings.values().all(|finding| finding.since == at("10:00:00")));
        story.remarks.clear();
        let gone = story.look("10:03:00").audits;
        assert_eq!((kinds(&gone), gone[0].severity), (vec!["finding-gone"], Severity::Informational));
    }

    #[test]
    fn another_letter_case_is_no_change() {
        let mut story = Story::of(vec![any(1)]);
        story.look("10:00:00");
        let shouted = any(1).rule.to_string().to_uppercase().replace("/SUBSCRIPTIONS", "/subscriptions");
        story.openings[0].rule = shouted.parse().unwrap();
        assert_eq!(story.look("10:00:30").audits, []);
        story.openings.clear();
        assert_eq!(story.look("10:01:00").audits, []);
        assert_eq!(kinds(&story.look("10:02:00").audits), ["proved-shut", "finding-gone"]);
    }

    #[test]
    fn what_turned_from_harmless_to_wrong_is_one_finding() {
        let mut story = Story::of(vec![home(1)]);
        story.look("01:00:00");
        assert_eq!(kinds(&story.look("10:00:00").audits), ["finding-appeared", "finding-gone"]);
        assert_eq!(story.memory.findings.values().map(|finding| finding.code).collect::<Vec<_>>(), [FindingCode::Outlived]);
        story.openings.clear();
        story.look("10:00:30");
        assert_eq!(story.memory.findings.len(), 1);
    }

    #[test]
    fn an_opening_that_cannot_be_read_is_left_and_in_enforce_an_alarm() {
        let mut story = Story::of(vec![opening(1, "22", &["??"])]);
        let plan = story.look("10:00:00");
        assert_eq!(plan.closes, []);
        assert_eq!(plan.audits[0].why, format!("{RULE_1} lets in ?? to port 22, which cannot be read; it is left for a person to look at"));
        let audits = story.conclude("10:00:00");
        assert_eq!((kinds(&audits), audits[0].code.as_str(), audits[0].port), (vec!["alarm-raised"], "unreadable", Some(22)));
        assert_eq!(story.conclude("10:00:10"), []);
    }

    #[test]
    fn a_classic_firewall_is_an_alarm_in_enforce_only() {
        for code in [FindingCode::FirewallPolicy, FindingCode::FirewallPort] {
            let mut story = Story::of(Vec::new());
            story.remarks = vec![remark(code, "/policy", "it opens a firewall")];
            story.mode = Mode::Observe;
            story.look("10:00:00");
            assert_eq!(story.conclude("10:00:00"), []);
            story.mode = Mode::Enforce;
            story.look("10:01:00");
            let audits = story.conclude("10:01:00");
            assert_eq!((kinds(&audits), audits[0].code.as_str()), (vec!["alarm-raised"], "firewall"));
            story.remarks.clear();
            story.look("10:02:00");
            assert_eq!(kinds(&story.conclude("10:02:00")), ["alarm-cleared"]);
        }
        let mut quiet = Story::of(vec![home(1)]);
        quiet.remarks = vec![remark(FindingCode::UnreadableRecord, "/policy", "odd")];
        quiet.look("10:00:00");
        assert_eq!(quiet.conclude("10:00:00"), []);
    }

    #[test]
    fn a_cause_that_a_person_must_remove_is_an_alarm_at_once_and_only_another_such_replaces_it() {
        let mut story = Story::of(vec![any(1)]);
        let mut told = Vec::new();
        for (time, cause) in [
            ("10:00:00", None),
            ("10:00:10", Some(Cause::Lock)),
            ("10:00:20", Some(Cause::Lock)),
            ("10:00:30", Some(Cause::Slow)),
            ("10:00:40", Some(Cause::Denial)),
            ("10:00:50", Some(Cause::MissingRight)),
        ] {
            story.look(time);
            story.delete(time, &any(1), Outcome::Failed("no".to_owned()), cause);
            told.extend(story.conclude(time).into_iter().map(|audit| format!("{} {}", audit.kind.text(), audit.code)));
        }
        assert_eq!(told, ["alarm-raised lock", "alarm-raised denial", "alarm-raised missing-right"]);
        let alarm = &story.memory.alarms["close-22"];
        assert_eq!((alarm.since, alarm.cause, alarm.port), (at("10:00:10"), Cause::MissingRight, Some(22)));
        assert!(alarm.text.ends_with("Azure says no"));
    }

    #[test]
    fn a_cause_of_waiting_gives_way_to_one_that_a_person_must_remove() {
        let mut story = Story::of(vec![any(1)]);
        story.look("10:00:00");
        assert_eq!(story.conclude("10:05:00")[0].code, "slow");
        story.delete("10:06:00", &any(1), Outcome::Failed(String::new()), Some(Cause::Lock));
        assert_eq!(story.conclude("10:06:00")[0].code, "lock");
        assert_eq!(story.memory.alarms["close-22"].cause, Cause::Lock);
    }

    #[test]
    fn a_vm_that_cannot_be_read_is_an_alarm_after_five_minutes_or_at_once() {
        let blind = |cause| Trouble { cause, said: "503".to_owned() };
        let mut story = Story::of(Vec::new());
        could_not_look(&mut story.memory, at("10:00:00"), blind(Cause::CannotLook));
        assert_eq!(story.conclude("10:00:00"), []);
        assert!(story.next().unwrap() <= at("10:00:04"));
        could_not_look(&mut story.memory, at("10:05:00"), blind(Cause::CannotLook));
        assert_eq!(story.memory.blind.as_ref().map(|blind| blind.since), Some(at("10:00:00")));
        let mut early = story.memory.clone();
        assert_eq!(conclude(&mut early, at("10:04:59"), Mode::Enforce), []);
        let audits = story.conclude("10:05:00");
        assert_eq!((kinds(&audits), audits[0].code.as_str(), audits[0].port), (vec!["alarm-raised"], "cannot-look", None));
        assert!(audits[0].why.starts_with("vm1 cannot be read: 503. What to do: "));
        assert_eq!(story.conclude("10:06:00"), []);
        story.look("10:07:00");
        assert_eq!(story.memory.blind, None);
        assert_eq!(kinds(&story.conclude("10:07:00")), ["alarm-cleared"]);
        could_not_look(&mut story.memory, at("10:08:00"), blind(Cause::MissingRight));
        assert_eq!(kinds(&story.conclude("10:08:00")), ["alarm-raised"]);
        could_not_look(&mut story.memory, at("10:08:30"), blind(Cause::CannotLook));
        assert_eq!(story.conclude("10:08:30"), []);
    }

    #[test]
    fn the_next_look_follows_what_is_waited_for() {
        let mut story = Story::of(vec![any(1)]);
        story.look_and_shut("10:00:00");
        story.conclude("10:00:00");
        assert_eq!(story.next(), Some(at("10:00:05")));
        story.look("10:00:05");
        story.conclude("10:00:06");
        assert_eq!((story.next(), story.memory.pause_seconds), (Some(at("10:00:37")), 0));
        // Not before a minute after the record's start.
        story.records = vec![record(22, "*", "10:00:00", "12:00:00", RecordStatus::Revoked)];
        story.look("10:00:10");
        story.conclude("10:00:10");
        assert_eq!(story.next(), Some(at("10:01:00")));
        // Past its time and not yet done: the pauses grow.
        story.conclude("10:03:00");
        assert!(story.memory.pause_seconds == 4 && (at("10:03:01")..=at("10:03:04")).contains(&story.next().unwrap()));
        story.conclude("10:03:10");
        assert!(story.memory.pause_seconds == 8 && (at("10:03:11")..=at("10:03:18")).contains(&story.next().unwrap()));
    }

    #[test]
    fn a_rule_that_keeps_returning_is_deleted_again_with_growing_pauses() {
        let mut story = Story::of(vec![any(1)]);
        for (time, bound) in [("10:00:00", 0), ("10:00:30", 4), ("10:01:00", 8), ("10:02:00", 16), ("10:03:00", 32)] {
            story.openings = vec![any(1)];
            assert_eq!(story.look_and_shut(time).closes.len(), 1);
            story.conclude(time);
            assert_eq!(story.memory.pause_seconds, bound, "{time}");
            let pause = (story.next().unwrap() - at(time)).num_seconds();
            assert!((5..=bound.max(5)).contains(&pause), "{time} {pause}");
        }
    }

    #[test]
    fn a_look_is_asked_for_at_a_whole_second_and_never_too_early() {
        for (time, next) in [("10:00:00", "10:00:05"), ("10:00:00.001", "10:00:06"), ("10:00:00.999", "10:00:06")] {
            let mut story = Story::of(vec![any(1)]);
            story.look_and_shut(time);
            story.conclude(time);
            assert_eq!(story.next(), Some(at(next)), "{time}");
        }
    }

    #[test]
    fn a_second_read_that_is_due_this_second_is_made_in_the_next_one() {
        let mut story = Story::of(vec![any(1)]);
        story.look_and_shut("10:00:00");
        story.look("10:00:05");
        let late = |story: &mut Story, time| {
            story.conclude(time);
            (story.next(), story.memory.pause_seconds)
        };
        assert_eq!(late(&mut story, "10:00:36"), (Some(at("10:00:37")), 0));
        assert_eq!(late(&mut story, "10:00:37").1, 4);
        assert!(story.next() <= Some(at("10:00:38")));
    }

    #[test]
    fn two_reasons_to_try_again_are_still_a_reason() {
        let mut story = Story::of(vec![any(1), opening(2, "23", &["*"])]);
        story.look_and_shut("10:00:00");
        story.look("10:00:05");
        story.conclude("10:03:00");
        assert_eq!(story.memory.pause_seconds, 4);
        could_not_look(&mut story.memory, at("10:03:00"), Trouble { cause: Cause::CannotLook, said: String::new() });
        story.memory.closings.remove(&23);
        story.conclude("10:03:10");
        assert_eq!(story.memory.pause_seconds, 8);
    }

    #[test]
    fn a_delete_that_failed_or_was_sent_before_is_tried_again_after_a_pause() {
        for (sent, outcome) in
            [("10:00:00", Outcome::Failed(String::new())), ("10:00:00", Outcome::Unknown(String::new())), ("09:59:59", Outcome::Accepted)]
        {
            let mut story = Story::of(vec![any(1)]);
            story.look("10:00:00");
            story.delete(sent, &any(1), outcome.clone(), None);
            story.conclude("10:00:00");
            assert_eq!(story.memory.pause_seconds, 4, "{sent} {outcome:?}");
            assert!((at("10:00:01")..=at("10:00:04")).contains(&story.next().unwrap()));
        }
    }

    #[test]
    fn the_pause_is_drawn_anew_for_each_try() {
        let drawn = |attempt: u32, serial: u64, time: &str| {
            let mut story = Story::of(vec![any(1)]);
            story.look("10:00:00");
            story.memory.pause_seconds = 30;
            story.memory.attempts.insert(22, attempt);
            story.memory.serial = serial;
            story.conclude(time);
            (story.next().unwrap() - at(time)).num_seconds()
        };
        let distinct = |pauses: Vec<i64>| pauses.into_iter().collect::<BTreeSet<_>>().len();
        assert!(distinct((0..20).map(|n| drawn(n, 0, "10:00:00")).collect()) > 10);
        assert!(distinct((0..20).map(|n| drawn(0, n, "10:00:00")).collect()) > 10);
        assert!(distinct((10..30).map(|n| drawn(0, 0, &format!("10:00:{n}"))).collect()) > 10);
        // The tries are counted together.
        assert_eq!(drawn(3, 4, "10:00:00"), drawn(4, 3, "10:00:00"));
        assert_eq!(drawn(3, 4, "10:00:00"), drawn(3, 3, "10:00:01"));
    }

    #[test]
    fn nothing_is_looked_at_while_azure_wants_quiet_and_alarms_fall_due_all_the_same() {
        let mut story = Story::of(vec![any(1)]);
        story.look("10:00:00");
        story.memory.hold_until(at("10:04:00"));
        story.conclude("10:00:00");
        assert_eq!(story.next(), Some(at("10:04:00")));
        story.memory.hold_until(at("10:20:00"));
        story.conclude("10:00:10");
        assert_eq!(story.next(), Some(at("10:05:00")));
        assert_eq!(kinds(&story.conclude("10:05:00")), ["alarm-raised"]);
        assert_eq!(story.next(), Some(at("10:20:00")));
        story.conclude("10:20:00");
        assert!((at("10:20:01")..=at("10:21:00")).contains(&story.next().unwrap()));
        let mut blind = Story::of(Vec::new());
        could_not_look(&mut blind.memory, at("10:00:00"), Trouble { cause: Cause::CannotLook, said: String::new() });
        blind.memory.hold_until(at("10:20:00"));
        blind.conclude("10:00:00");
        assert_eq!(blind.next(), Some(at("10:05:00")));
        assert_eq!(kinds(&blind.conclude("10:05:00")), ["alarm-raised"]);
        assert_eq!(blind.next(), Some(at("10:20:00")));
    }

    #[test]
    fn an_opening_that_is_left_is_judged_again_when_it_may_stand_no_longer() {
        let mut story = Story::of(vec![home(1), opening(2, "23", &["198.51.100.7"])]);
        story.look("10:00:00");
        story.openings.remove(0);
        story.look("11:00:00");
        story.openings.push(home(1));
        story.look("12:00:00");
        story.conclude("12:00:00");
        assert_eq!(story.next(), Some(at("18:00:01")));
        assert_eq!(story.look("18:00:00").closes, []);
        assert_eq!(story.look("18:00:01").closes.len(), 1);
        let mut late = Story::of(vec![home(1)]);
        late.look("10:00:00");
        late.conclude("19:00:00");
        assert_eq!(late.next(), Some(at("19:00:01")));
    }

    #[test]
    fn a_grant_is_looked_at_when_it_begins_and_when_it_ends() {
        let mut story = Story::of(vec![home(1)])
            .granted(vec![grant("g", 22, "203.0.113.4", "11:00:00", Phase::Open), grant("h", 22, "203.0.113.4", "12:00:00", Phase::Open)]);
        story.look("10:00:00");
        story.conclude("10:00:00");
        assert_eq!(story.next(), Some(at("11:00:00")));
        story.conclude("08:00:00");
        assert_eq!(story.next(), Some(at("09:00:00")));
    }

    #[test]
    fn a_rule_that_may_still_come_is_waited_for() {
        let awaits = |openings: Vec<Opening>, record: JitRecord| {
            let mut story = Story::of(openings);
            story.records = vec![record];
            story.look("10:00:00");
            story.conclude("10:00:00");
            assert_eq!(story.memory.awaits_opening, story.memory.pause_seconds > 0);
            story.memory.awaits_opening
        };
        let new = |port, start, end, status| record(port, "203.0.113.4", start, end, status);
        use RecordStatus::{Initiated, Initiating, Revoked};
        for (openings, record, expected) in [
            (vec![], new(22, "09:00:00", "11:00:00", Initiating), true),
            (vec![home(1)], new(22, "09:00:00", "11:00:00", Initiating), true),
            (vec![], new(22, "09:00:00", "10:00:00", Initiating), false),
            (vec![], new(22, "09:57:31", "11:00:00", Initiated), true),
            (vec![], new(22, "09:57:30", "11:00:00", Initiated), false),
            (vec![], new(22, "09:59:00", "10:00:00", Initiated), false),
            (vec![], new(22, "09:59:00", "11:00:00", Revoked), false),
            (vec![home(1)], new(22, "09:59:00", "11:00:00", Initiated), false),
            (vec![home(1)], new(23, "09:59:00", "11:00:00", Initiated), true),
            (vec![opening(1, "22", &["198.51.100.7"])], new(22, "09:59:00", "11:00:00", Initiated), true),
        ] {
            assert_eq!(awaits(openings, record.clone()), expected, "{record:?}");
        }
    }

    fn open(port: u16, sources: &[&str], until: &str) -> Open {
        Open { port, sources: Sources::read(sources.iter().copied()), until: at(until) }
    }

    fn ids(ids: &BTreeSet<String>) -> Vec<&str> {
        ids.iter().map(String::as_str).collect()
    }

    #[test]
    fn a_port_is_opened_for_the_union_of_its_live_grants_until_the_latest_end() {
        let mut story = Story::of(vec![home(1)]).granted(vec![
            grant("there", 22, "203.0.113.4", "13:00:00", Phase::Open),
            grant("new", 22, "203.0.113.5", "12:00:00", Phase::Approved),
            grant("other", 23, "203.0.113.6", "11:00:00", Phase::Opening),
            grant("over", 22, "203.0.113.7", "09:30:00", Phase::Open),
            grant("declined", 22, "203.0.113.8", "12:00:00", Phase::Waiting),
        ]);
        let plan = story.look("10:00:00");
        assert_eq!(plan.opens, [open(22, &["203.0.113.4/31"], "13:00:00"), open(23, &["203.0.113.6"], "11:00:00")]);
        assert_eq!((plan.closes.len(), plan.cut_short.len(), plan.shut_by_another.len(), plan.record.taken_down.len()), (0, 0, 0, 0));
        story.openings = vec![opening(1, "22", &["203.0.113.4/31"]), opening(2, "23", &["203.0.113.0/24"])];
        assert_eq!(story.look("10:01:00").opens, []);
    }

    #[test]
    fn less_than_five_minutes_are_not_opened_for() {
        for (until, opens) in [("10:04:59", 0), ("10:05:00", 1)] {
            let mut story = Story::of(vec![home(1)]).granted(vec![
                grant("g", 22, "203.0.113.9", until, Phase::Approved),
                grant("there", 22, "203.0.113.4", until, Phase::Open),
            ]);
            let plan = story.look("10:00:00");
            assert_eq!((plan.opens.len(), ids(&plan.cut_short)), (opens, if opens == 0 { vec!["g"] } else { vec![] }), "{until}");
        }
    }

    #[test]
    fn what_another_hand_shut_is_not_opened_again() {
        let mut story = Story::of(Vec::new()).granted(vec![
            grant("gone", 22, "203.0.113.4", "13:00:00", Phase::Open),
            grant("new", 22, "203.0.113.5", "12:00:00", Phase::Approved),
        ]);
        let plan = story.look("10:00:00");
        assert_eq!((ids(&plan.shut_by_another), plan.opens), (vec!["gone"], vec![open(22, &["203.0.113.5"], "12:00:00")]));
        let mut alone = Story::of(Vec::new()).granted(vec![grant("gone", 22, "203.0.113.4", "13:00:00", Phase::Open)]);
        let plan = alone.look("10:00:00");
        assert_eq!((ids(&plan.shut_by_another), plan.opens.len(), plan.cut_short.len()), (vec!["gone"], 0, 0));
    }

    #[test]
    fn the_live_rest_of_a_rule_that_must_go_is_opened_again_however_long_that_takes() {
        let wide = opening(1, "22", &["203.0.113.4/31"]);
        let mut story = Story::of(vec![wide]).granted(vec![
            grant("stays", 22, "203.0.113.4", "13:00:00", Phase::Open),
            grant("over", 22, "203.0.113.5", "10:00:00", Phase::Open),
        ]);
        let again = || vec![open(22, &["203.0.113.4"], "13:00:00")];
        let plan = story.look_and_shut("10:00:00");
        assert_eq!((plan.closes.len(), plan.opens), (1, again()));
        // The initiate fails again and again; meanwhile the old rule is proved gone.
        for time in ["10:00:05", "10:01:00", "10:02:00", "10:10:00"] {
            let plan = story.look(time);
            assert_eq!((plan.opens, plan.shut_by_another.len()), (again(), 0), "{time}");
        }
        assert!(story.memory.closings.is_empty());
        assert_eq!(ids(&story.memory.taken_down), ["stays"]);
        story.openings = vec![home(2)];
        assert_eq!(story.look("10:11:00").opens, []);
        assert!(story.memory.taken_down.is_empty());
        // From here on it is another hand again.
        story.openings.clear();
        assert_eq!(ids(&story.look("10:12:00").shut_by_another), ["stays"]);
    }

    #[test]
    fn only_a_rule_that_let_in_the_grants_sources_on_its_port_was_taken_down_for_it() {
        for (target, ours) in [("22", true), ("20-25", true), ("23", false)] {
            let mut story =
                Story::of(vec![opening(1, target, &["*"])]).granted(vec![grant("g", 22, "203.0.113.4", "13:00:00", Phase::Open)]);
            let plan = story.look("10:00:00");
            assert_eq!((plan.opens.len(), plan.shut_by_another.len()), if ours { (1, 0) } else { (0, 1) }, "{target}");
        }
        let mut elsewhere =
            Story::of(vec![opening(1, "22", &["64.0.0.0/2"])]).granted(vec![grant("g", 22, "203.0.113.4", "13:00:00", Phase::Open)]);
        let plan = elsewhere.look("10:00:00");
        assert_eq!((plan.closes.len(), plan.opens.len(), ids(&plan.shut_by_another)), (1, 0, vec!["g"]));
    }

    #[test]
    fn the_order_of_deletes_is_that_of_ports_and_rules() {
        let mut story = Story::of(vec![
            opening_in("b", 1, "3389", &["*"]),
            opening_in("b", 2, "22", &["*"]),
            opening_in("a", 3, "22", &["*"]),
            opening_in("a", 3, "22", &["*"]),
        ]);
        let closes = story.look("10:00:00").closes;
        let order: Vec<(u16, String)> = closes.iter().map(|close| (close.port, close.opening.nsg().unwrap().name().to_owned())).collect();
        assert_eq!(order, [(22, "a".to_owned()), (22, "b".to_owned()), (3389, "b".to_owned())]);
    }

    #[test]
    fn the_audit_record_of_a_delete_says_which_why_and_for_whom() {
        let mut story = Story::of(vec![any(1)]);
        let close = story.look("10:00:00").closes.remove(0);
        let audit = audit_of_close(&story.memory, &close, 3, at("10:00:01"));
        assert_eq!(
            audit,
            AuditRecord {
                id: AuditRecord::effect_id(&vm(), 22, 3),
                at: at("10:00:01"),
                kind: AuditKind::Close,
                vm: Some(vm()),
                port: Some(22),
                sources: Some(Sources::internet()),
                about: Some(any(1).rule.to_string()),
                code: "any-source".to_owned(),
                severity: Severity::High,
                why: "it lets in *, which amounts to the whole internet".to_owned(),
                attempt: Some(3),
                claims: Vec::new(),
            }
        );
    }
}
