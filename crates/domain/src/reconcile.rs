//! The reconcile: what is remembered and what was just read of a VM become what is to be done.
//!
//! It runs after Azure was read and before anything is changed; [`crate::conclude`] runs after the effects. Both are
//! functions of their arguments alone, and running either twice on the same input finds nothing new.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use crate::arm_id::lower;
use crate::audit::{AuditKind, AuditRecord};
use crate::audits::Audits;
use crate::behind::Behind;
use crate::finding::{Finding, FindingCode};
use crate::grant::{End, Grant, Phase, live_sources};
use crate::initiate::{self, BRAKE, Newer};
use crate::jit::JitRecord;
use crate::judge::{EXPIRED_AFTER, Facts, Judgement, Limits, Seen, Violation, judge, last_end, may_be_reason};
use crate::life;
use crate::missed;
use crate::opening::Opening;
use crate::record::{Closing, Gone, OpenSpan, SeenOpening, Undecided, VmRecord};
use crate::ruling::{Confirmations, Ruling, Rulings};
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
    /// The versions of these groups, see [`versions`](crate::nsg::versions): while they stay, nobody has written to any.
    pub versions: &'a str,
    /// What JIT's policies say of the VM; absent where they could not be read. What the groups alone show to be wrong is
    /// shut then, too; nothing is proved, and nothing opened.
    pub jit: Option<Jit<'a>>,
    /// Whether Azure says that the VM is gone, so that whatever it left open leads to no machine.
    pub gone: bool,
    /// The limits.
    pub limits: Limits,
    /// Whether to act.
    pub mode: Mode,
    /// What a newer `initiate` makes of an older one.
    pub newer: Newer,
    /// What the rules say of openings; absent where they were not asked, or could not be loaded.
    pub rulings: &'a Rulings,
    /// What was found out about claims.
    pub confirmations: &'a Confirmations,
    /// Live grants of which no audit record tells, by id: they count as none.
    pub unaudited: &'a BTreeSet<String>,
}

/// What JIT's policies say of a VM.
#[derive(Clone, Copy, Debug, Default)]
pub struct Jit<'a> {
    /// JIT's records of the VM.
    pub records: &'a [JitRecord],
    /// What is odd about the VM's JIT policies.
    pub remarks: &'a [Remark],
}

impl<'a> Look<'a> {
    /// JIT's records of the VM; none where they could not be read.
    pub(crate) fn records(&self) -> &'a [JitRecord] {
        self.jit.unwrap_or_default().records
    }
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
    /// Who may have opened it.
    pub behind: Behind,
}

/// A port that has to be opened for live grants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Open {
    /// The port.
    pub port: u16,
    /// The union of the live grants' sources.
    pub sources: Sources,
    /// The latest end of the live grants, those included whose time begins with this opening.
    pub until: DateTime<Utc>,
    /// The live grants, by id.
    pub grants: BTreeSet<String>,
}

/// What has to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What is to be remembered before any effect.
    pub record: VmRecord,
    /// What is to be deleted, in this order, which is another one at the next look.
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

/// A write to a group between the two reads makes another first one, so many times: what JIT writes for other machines must not
/// hold up a proof for ever.
const MOST_REPEATS: u32 = 3;

/// A record this new may still bring a rule, whatever its status says (`Initiating` was reported to last up to two
/// minutes).
pub const RULE_MAY_COME: TimeDelta = TimeDelta::seconds(150);

/// What is read in Azure and what is remembered become what is to be done.
///
/// A grant that cannot be opened again ends, and what it alone let in has to go in the same plan; that may take away the
/// rule of another grant. So it is planned anew until nobody ends by it: each time there is one live grant less.
pub fn reconcile(record: VmRecord, look: &Look<'_>) -> Plan {
    let mut record = record;
    record.unsettled = false;
    let openings = sorted(look.openings);
    let mut audits = Audits::new(look.now);
    missed::account(&mut record, &openings, look, &mut audits);
    remember_openings(&mut record, &openings, look);
    life::begin(&mut record, look, &mut audits);
    let mut cut_short = BTreeSet::new();
    loop {
        let mut told = audits.clone();
        let (mut plan, lost) = plan_once(record.clone(), &openings, look, &mut told);
        let mut ended = false;
        for Lost { grant, said, is_short } in lost {
            ended |= life::end_of(&mut record, &grant, End::NotOpened { said }, &mut audits);
            record.taken_down.remove(&grant);
            cut_short.extend(Some(grant).filter(|_| is_short));
        }
        if !ended {
            plan.cut_short = cut_short;
            life::prove(&mut plan.record, &openings, look, &mut told);
            plan.audits = told.written;
            return plan;
        }
    }
}

/// A grant that has to end, since JIT cannot open for it.
pub(crate) struct Lost {
    /// Its id.
    pub(crate) grant: String,
    /// Why, for people.
    pub(crate) said: String,
    /// Whether it is because less than Azure's shortest time is left.
    pub(crate) is_short: bool,
}

/// The plan for the grants as they stand, and those of them for whom nothing can be planned.
fn plan_once(mut record: VmRecord, openings: &[Opening], look: &Look<'_>, audits: &mut Audits) -> (Plan, Vec<Lost>) {
    let judgements = judge_all(&record, openings, look);
    let judgements: Vec<Judgement> =
        openings.iter().zip(judgements).map(|(o, j)| ruled(o, keep_shutting(&record, o, j, look), look)).collect();
    let behind = |opening: &Opening| Behind::of(opening, look.records(), record.port_shut(opening), &record.claims, &record.asked);
    let judged: Vec<Judged<'_>> =
        openings.iter().zip(judgements).map(|(opening, judgement)| Judged { opening, judgement, behind: behind(opening) }).collect();

    let closes = match look.mode {
        Mode::Enforce => plan_closes(&mut record, &judged, look),
        Mode::Observe => {
            // JIT is asked for nothing: what it was asked for is waited for no longer.
            record.initiates.clear();
            record.taken_down.clear();
            would_close(&mut record, &judged, audits)
        }
    };
    prove_shut(&mut record, openings, look, audits);
    note_findings(&mut record, &judged, look, audits);
    note_undecided(&mut record, &judged, look);
    let mut plan =
        Plan { record, closes, opens: Vec::new(), cut_short: BTreeSet::new(), shut_by_another: BTreeSet::new(), audits: Vec::new() };
    let mut lost = Vec::new();
    if look.mode == Mode::Enforce {
        let wanted = plan_opens(&mut plan, openings, look, &mut lost);
        // What was asked of JIT is not forgotten, and its time does not run out, while nobody can see what came of it.
        if look.jit.is_some() {
            plan.opens = initiate::gate(&mut plan.record, wanted, look, &mut lost);
        }
    }
    (plan, lost)
}

/// What is remembered once a look has begun: grants whose time is over, whose claim nobody confirms, or that count as none have
/// ended. Rules are asked about what is left.
pub fn begun(record: &VmRecord, look: &Look<'_>) -> VmRecord {
    let mut begun = record.clone();
    life::begin(&mut begun, look, &mut Audits::new(look.now));
    begun
}

/// The openings of which only the rules can say whether they may be: no live grant covers them, no limit forbids them,
/// nothing is known of them that makes them wrong, and they can be read.
pub fn to_be_ruled(record: &VmRecord, look: &Look<'_>) -> Vec<Opening> {
    let openings = sorted(look.openings);
    let judgements = judge_all(record, &openings, look);
    let is_open = |opening: &Opening, judgement: Judgement| {
        keep_shutting(record, opening, judgement, look) == Judgement::Left && opening.sources.is_understood() && !opening.ports.is_empty()
    };
    openings
        .into_iter()
        .zip(judgements)
        .filter(|(opening, judgement)| is_open(opening, judgement.clone()))
        .map(|(opening, _)| opening)
        .collect()
}

/// What the rules say of an opening that nothing else decides.
fn ruled(opening: &Opening, judgement: Judgement, look: &Look<'_>) -> Judgement {
    match (judgement, look.rulings.get(&opening.rule)) {
        (Judgement::Left, Some(Ruling::Shut { why, .. })) => Judgement::Shut(why.clone()),
        (judgement, _) => judgement,
    }
}

/// An opening, what was found about it, and who may have made it.
struct Judged<'a> {
    opening: &'a Opening,
    judgement: Judgement,
    behind: Behind,
}

fn sorted(openings: &[Opening]) -> Vec<Opening> {
    let mut openings = openings.to_vec();
    openings.sort();
    openings.dedup();
    openings
}

fn remember_openings(record: &mut VmRecord, openings: &[Opening], look: &Look<'_>) {
    let seen = |opening: &Opening| SeenOpening { opening: opening.clone(), first: record.first_seen(opening).unwrap_or(look.now) };
    record.openings = openings.iter().map(seen).collect();
    remember_time_open(record, !openings.is_empty(), look.now);
    if look.jit.is_some() {
        record.blind = None;
    }
    record.awaits_opening = look.records().iter().any(|r| r.is_initiating(look.now) || may_still_open(r, look));
    record.gone_since = record.gone_since.or(Some(look.now)).filter(|_| look.gone);
    let is_sure = is_gone(record, look) || !look.gone;
    record.judge_again = record.gone_since.map(|since| since + BETWEEN_READS).filter(|_| !is_sure);
}

/// Remembers when the VM was open in the last day, at any port.
fn remember_time_open(record: &mut VmRecord, is_open: bool, now: DateTime<Utc>) {
    let last = record.opened.last_mut().filter(|span| span.until.is_none());
    match (is_open, last) {
        (true, None) => record.opened.push(OpenSpan { from: now, until: None }),
        (false, Some(span)) => span.until = Some(now),
        (true, Some(_)) | (false, None) => {}
    }
    record.opened.retain(|span| span.until.is_none_or(|until| until + TimeDelta::days(1) > now));
    // Of more times the first two become one: too much is counted then, and never too little.
    while record.opened.len() > MOST_SPANS {
        let first = record.opened.remove(0);
        record.opened[0].from = first.from;
    }
}

/// More times open than a VM has in a day, unless something opens and shuts it again and again.
const MOST_SPANS: usize = 100;

fn may_still_open(record: &JitRecord, look: &Look<'_>) -> bool {
    let shows = look.openings.iter().any(|opening| opening.ports.contains(record.port) && opening.sources.covers(&record.sources));
    let new = record.start + RULE_MAY_COME > look.now;
    record.may_be_open() && record.end > look.now && new && !shows
}

/// Whether the VM is gone for certain: two reads say so, half a minute apart. That nobody has an address was told by two reads
/// before a group is looked at for it: the sweep's and this one.
pub(crate) fn is_gone(record: &VmRecord, look: &Look<'_>) -> bool {
    let twice = record.gone_since.is_some_and(|since| since + BETWEEN_READS <= look.now);
    look.gone && (twice || record.vm.orphans_of().is_some())
}

fn judge_all(record: &VmRecord, openings: &[Opening], look: &Look<'_>) -> Vec<Judgement> {
    let facts = Facts {
        now: look.now,
        records: look.records(),
        grants: &record.grants,
        asked: &record.asked,
        ended_early: &record.ended_early,
        limits: look.limits,
    };
    let judgements = judge(openings, facts, |opening| Seen {
        first: record.first_seen(opening).unwrap_or(look.now),
        port_shut: record.port_shut(opening),
    });
    let orphaned = |(opening, judgement): (&Opening, Judgement)| match judgement {
        Judgement::Left if is_gone(record, look) && opening.sources.is_understood() => Judgement::Shut(Violation::Orphan),
        judgement => judgement,
    };
    openings.iter().zip(judgements).map(orphaned).collect()
}

fn note_findings(record: &mut VmRecord, judged: &[Judged<'_>], look: &Look<'_>, audits: &mut Audits) {
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
    for Judged { opening, judgement, behind } in judged {
        let opens = opening.sentence(&record.vm);
        let found =
            |code| Finding::new(code, &key, opening.port(), &opening.rule.to_string(), look.now).of_opening(&opening.sources, behind);
        match judgement {
            Judgement::Covered => {}
            Judgement::Left if !opening.sources.is_understood() => {
                add(found(FindingCode::Unreadable)
                    .seen(format!("{opens}, which cannot be read"))
                    .doing("it is left for a person to look at"));
            }
            Judgement::Left => {
                let left = match look.rulings.get(&opening.rule) {
                    Some(Ruling::Wait { why, .. }) => format!("it is left for now: {why}"),
                    Some(Ruling::Adopt(_) | Ruling::Shut { .. }) | None => {
                        "it is left: no hard limit forbids it, and no rules could be asked".to_owned()
                    }
                };
                add(found(FindingCode::Unapproved).seen(format!("{opens}, and no grant covers it")).doing(left));
            }
            Judgement::Shut(violation) => {
                add(found(code_of(violation)).seen(format!("{opens}; {}", violation.sentence())).doing(acts));
            }
        }
        if *judgement == Judgement::Left {
            let again = record.first_seen(opening).map(|first| first + look.limits.longest_opening + TimeDelta::seconds(1));
            record.judge_again = earliest(record.judge_again, again);
            let expires = last_end(opening, look.records(), record.port_shut(opening)).map(|end| end + EXPIRED_AFTER);
            record.judge_again = earliest(record.judge_again, expires);
            if let Some(Ruling::Wait { until, .. }) = look.rulings.get(&opening.rule) {
                record.judge_again = earliest(record.judge_again, Some(*until));
            }
        }
    }
    // That a machine is gone is not believed at once.
    let is_sure = |remark: &&Remark| remark.code != FindingCode::NoMachine || is_gone(record, look);
    let remarks: BTreeSet<&Remark> = look.jit.iter().flat_map(|jit| jit.remarks).filter(is_sure).collect();
    for remark in remarks {
        add(Finding::new(remark.code, &key, remark.port, &remark.about, look.now)
            .seen(remark.evidence.clone())
            .doing("it is left for a person to look at"));
    }
    keep_until_proved(record, &mut found);
    keep_unreadable(record, &mut found, judged, look);
    if look.jit.is_none() {
        keep_unread(record, &mut found);
    }
    replace_findings(record, found, audits, look.rulings);
}

/// Remembers the ports on which nobody has decided: until all that is open there is covered, or two reads show nothing.
fn note_undecided(record: &mut VmRecord, judged: &[Judged<'_>], look: &Look<'_>) {
    let is_left = |judged: &&Judged<'_>| judged.judgement == Judgement::Left && judged.opening.sources.is_understood();
    let left: BTreeSet<u16> = judged.iter().filter(is_left).filter_map(|judged| judged.opening.port()).collect();
    let others: BTreeSet<u16> = judged.iter().filter(|one| !is_left(one)).filter_map(|judged| judged.opening.port()).collect();
    for port in &left {
        let undecided = record.undecided.entry(*port).or_insert(Undecided { since: look.now, first_shut_read: None });
        undecided.first_shut_read = None;
    }
    let (closings, shut, unsettled) = (&record.closings, &record.shut, &mut record.unsettled);
    record.undecided.retain(|port, undecided| match undecided.first_shut_read {
        _ if left.contains(port) || closings.contains_key(port) => true,
        _ if others.contains(port) || shut.get(port).is_some_and(|shut| *shut > undecided.since) => false,
        _ if !look.groups_settled => {
            undecided.first_shut_read = None;
            *unsettled = true;
            true
        }
        None => {
            undecided.first_shut_read = Some(look.ended);
            true
        }
        Some(first) => look.now < first + BETWEEN_READS,
    });
    let second = record.undecided.values().filter_map(|undecided| undecided.first_shut_read).min();
    record.judge_again = earliest(record.judge_again, second.map(|first| first + BETWEEN_READS + TimeDelta::seconds(1)));
}

/// What is being shut stays a finding until it is proved shut, also while a read does not show it.
fn keep_until_proved(record: &VmRecord, found: &mut BTreeMap<String, Finding>) {
    let targets = record.closings.values().flat_map(|closing| &closing.targets);
    let unproved: BTreeSet<String> = targets.map(|target| target.rule.arm_id().key()).collect();
    let shown: BTreeSet<String> = found.values().map(|finding| lower(&finding.about)).collect();
    for (id, finding) in &record.findings {
        let about = lower(&finding.about);
        if unproved.contains(&about) && !shown.contains(&about) {
            found.insert(id.clone(), finding.clone());
        }
    }
}

/// That nobody can read a rule is over when two reads show it no more, and not with one that did not see it.
fn keep_unreadable(record: &mut VmRecord, found: &mut BTreeMap<String, Finding>, judged: &[Judged<'_>], look: &Look<'_>) {
    let shown: BTreeSet<String> = judged.iter().map(|judged| judged.opening.rule.arm_id().key()).collect();
    let is_gone = |(id, finding): &(&String, &Finding)| {
        finding.code == FindingCode::Unreadable && !found.contains_key(*id) && !shown.contains(&lower(&finding.about))
    };
    let gone: Vec<(String, Finding)> = record.findings.iter().filter(is_gone).map(|(id, finding)| (id.clone(), finding.clone())).collect();
    record.unseen.retain(|id, _| gone.iter().any(|(known, _)| known == id));
    for (id, finding) in gone {
        if !look.groups_settled {
            record.unseen.remove(&id);
            record.unsettled = true;
        } else if look.now < *record.unseen.entry(id.clone()).or_insert(look.ended) + BETWEEN_READS {
            let second = record.unseen[&id] + BETWEEN_READS + TimeDelta::seconds(1);
            record.judge_again = earliest(record.judge_again, Some(second));
        } else {
            record.unseen.remove(&id);
            continue;
        }
        found.insert(id, finding);
    }
}

/// What only JIT's policies say stays as it was while they cannot be read.
fn keep_unread(record: &VmRecord, found: &mut BTreeMap<String, Finding>) {
    for (id, finding) in record.findings.iter().filter(|(_, finding)| finding.code.is_of_policies()) {
        found.insert(id.clone(), finding.clone());
    }
}

/// The finding that a violation is.
pub(crate) fn code_of(violation: &Violation) -> FindingCode {
    match violation {
        Violation::AnySource { .. } => FindingCode::AnySource,
        Violation::Overlong { .. } => FindingCode::Overlong,
        Violation::Outlived { .. } => FindingCode::Outlived,
        Violation::GrantEnded { why: End::Unconfirmed | End::Contradicted { .. }, .. } => FindingCode::Unconfirmed,
        Violation::GrantEnded { why: End::Unaudited, .. } => FindingCode::Unaudited,
        Violation::GrantEnded { .. } => FindingCode::GrantEnded,
        Violation::Expired { .. } => FindingCode::Expired,
        Violation::OverCap { .. } => FindingCode::OverCap,
        Violation::Orphan => FindingCode::Orphan,
        Violation::Unapproved { .. } => FindingCode::Unapproved,
    }
}

fn replace_findings(record: &mut VmRecord, mut found: BTreeMap<String, Finding>, audits: &mut Audits, rulings: &Rulings) {
    let ruling =
        |finding: &Finding| rulings.iter().find(|(rule, _)| rule.arm_id().key() == lower(&finding.about)).map(|(_, ruling)| ruling);
    let before = std::mem::take(&mut record.findings);
    for (id, finding) in &mut found {
        match before.get(id) {
            // Azure gives one id in several letter cases: that alone is no change.
            Some(old) if lower(&old.evidence) == lower(&finding.evidence) && old.done == finding.done => {
                // Who is behind it may have become known since: that is kept, and told with whatever is told next.
                let behind = std::mem::take(&mut finding.behind);
                finding.clone_from(old);
                finding.behind.learn(&behind);
            }
            Some(old) => {
                finding.since = old.since;
                audits.finding(record, AuditKind::FindingChanged, finding, ruling(finding));
            }
            None => audits.finding(record, AuditKind::FindingAppeared, finding, ruling(finding)),
        }
    }
    for (id, old) in &before {
        if !found.contains_key(id) {
            audits.finding(record, AuditKind::FindingGone, old, None);
        }
    }
    record.findings = found;
}

fn plan_closes(record: &mut VmRecord, judged: &[Judged<'_>], look: &Look<'_>) -> Vec<Close> {
    record.would_close.clear();
    spare_covered(record, judged);
    let mut closes = Vec::new();
    for Judged { opening, judgement, behind } in judged {
        let port = opening.port().unwrap_or_default();
        let Judgement::Shut(why) = judgement else { continue };
        let since = must_be_shut_since(record, opening, why, look);
        let returned = returned(record, opening, look).map(|gone| gone.deleted);
        let closing = record.closings.entry(port).or_insert_with(|| Closing::new(why.clone(), since, opening.flush_connection));
        closing.forget_reads();
        closing.behind.learn(behind);
        if let Some(deleted) = returned {
            closing.deleted.entry(opening.rule.clone()).or_insert(deleted);
        }
        match closing.targets.iter_mut().find(|target| target.is_same(opening)) {
            Some(target) => target.clone_from(opening),
            None => closing.targets.push((*opening).clone()),
        }
        if closing.targets.len() > MOST_REMEMBERED {
            forget_a_target(closing, judged);
        }
        if is_still_being_deleted(closing, opening, look) {
            continue;
        }
        closes.push(Close { port, opening: (*opening).clone(), why: why.clone(), behind: closing.behind.clone() });
    }
    in_turns(&mut closes, &mut record.turns);
    closes
}

/// Puts what lets in everybody first, and lets each of them be the first in its turn: what comes back each time, or is refused each time, keeps
/// its group busy, or ends the run, and must not keep the others of the VM waiting for ever. What lets in everybody has every other
/// turn for itself, so that no number of lesser rules puts it off.
fn in_turns(closes: &mut [Close], turns: &mut u32) {
    let is_lesser = |close: &Close| !matches!(close.why, Violation::AnySource { .. });
    closes.sort_by(|one, other| (is_lesser(one), one).cmp(&(is_lesser(other), other)));
    if closes.len() < 2 {
        return;
    }
    let (turn, all) = (usize::try_from(*turns).unwrap_or_default(), closes.len());
    *turns = turns.wrapping_add(1);
    let worst = closes.partition_point(|close| !is_lesser(close));
    if worst == 0 || worst == all {
        closes.rotate_left(turn % all);
    } else if turn.is_multiple_of(2) {
        closes[..worst].rotate_left(turn / 2 % worst);
    } else {
        closes.rotate_left(turn / 2 % all);
    }
}

/// Somebody who opens faster than a proof takes must not fill the record: of what was deleted and does not show, the one
/// that was known first is forgotten.
fn forget_a_target(closing: &mut Closing, judged: &[Judged<'_>]) {
    let shows = |target: &Opening| judged.iter().any(|one| target.is_same(one.opening));
    let over = closing.targets.iter().position(|target| closing.deleted.contains_key(&target.rule) && !shows(target));
    if let Some(over) = over {
        let forgotten = closing.targets.remove(over);
        closing.deleted.remove(&forgotten.rule);
        closing.told.remove(&forgotten.rule);
    }
}

/// What was being shut and is covered by live grants now is right: it is no longer to be shut, and a closing that has
/// nothing else to shut is over without proof.
fn spare_covered(record: &mut VmRecord, judged: &[Judged<'_>]) {
    for closing in record.closings.values_mut() {
        closing.targets.retain(|target| !judged.iter().any(|one| one.judgement == Judgement::Covered && target.is_same(one.opening)));
    }
    record.closings.retain(|_, closing| !closing.targets.is_empty());
}

/// What the whole internet or a request made wrong was wrong when it was first seen; what time made wrong is so only
/// since this look.
fn must_be_shut_since(record: &VmRecord, opening: &Opening, why: &Violation, look: &Look<'_>) -> DateTime<Utc> {
    match why {
        Violation::AnySource { .. } | Violation::Overlong { .. } | Violation::OverCap { .. } => {
            record.first_seen(opening).unwrap_or(look.now)
        }
        Violation::Outlived { .. }
        | Violation::GrantEnded { .. }
        | Violation::Expired { .. }
        | Violation::Orphan
        | Violation::Unapproved { .. } => look.now,
    }
}

/// An opening that is being shut goes on being shut, and one that came back goes again. What made it a violation may be
/// gone with its first delete: a record that became `Revoked`, for one.
fn keep_shutting(record: &VmRecord, opening: &Opening, judgement: Judgement, look: &Look<'_>) -> Judgement {
    let closing = record.closings.values().find(|closing| closing.targets.iter().any(|target| target.is_same(opening)));
    let known = closing.map(|closing| &closing.why).or_else(|| returned(record, opening, look).map(|gone| &gone.why));
    match (judgement, known, look.mode) {
        (Judgement::Left, Some(why), Mode::Enforce) => Judgement::Shut(why.clone()),
        (judgement, _, _) => judgement,
    }
}

/// What is known of an opening whose rule was deleted and seen gone, and that nobody has asked for since.
fn returned<'a>(record: &'a VmRecord, opening: &Opening, look: &Look<'_>) -> Option<&'a Gone> {
    let gone = record.gone.get(&opening.rule).filter(|_| look.jit.is_some())?;
    // JIT may have revoked the record before the rule that it made is gone.
    let asked_since = look.records().iter().any(|record| may_be_reason(record, opening, Some(gone.deleted)));
    (!asked_since).then_some(gone)
}

/// Rules that were deleted and are seen gone are remembered for a day: who writes rules by a schedule does so at least
/// daily.
fn remember_gone(record: &mut VmRecord, closing: &Closing, now: DateTime<Utc>) {
    let gone = closing.deleted.iter().map(|(rule, deleted)| (rule.clone(), Gone { deleted: *deleted, why: closing.why.clone() }));
    record.gone.extend(gone);
    record.gone.retain(|_, gone| gone.deleted + REMEMBERED_FOR > now);
    while record.gone.len() > MOST_REMEMBERED {
        let oldest = record.gone.iter().min_by_key(|(_, gone)| gone.deleted).map(|(rule, _)| rule.clone());
        oldest.and_then(|rule| record.gone.remove(&rule));
    }
}

const REMEMBERED_FOR: TimeDelta = TimeDelta::hours(24);

/// More rules than JIT makes for a VM in a day, unless somebody wants to fill the record.
const MOST_REMEMBERED: usize = 200;

/// A delete that Azure has accepted and is still carrying out is not sent again: its group is not settled yet.
fn is_still_being_deleted(closing: &Closing, opening: &Opening, look: &Look<'_>) -> bool {
    !look.groups_settled && closing.deleted.get(&opening.rule).is_some_and(|at| *at + CARRIED_OUT_WITHIN > look.now)
}

/// An accepted delete that has not shown any effect by then is sent again.
const CARRIED_OUT_WITHIN: TimeDelta = TimeDelta::minutes(2);

fn would_close(record: &mut VmRecord, judged: &[Judged<'_>], audits: &mut Audits) -> Vec<Close> {
    record.closings.clear();
    let mut would = BTreeSet::new();
    for Judged { opening, judgement, behind } in judged {
        let Judgement::Shut(why) = judgement else { continue };
        let key = opening.rule.arm_id().key();
        if !record.would_close.contains(&key) {
            audits.would_close(record, opening, why, behind);
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
        let newest = look.records().iter().filter(concerned).map(|r| r.start).max();
        let initiating = look.records().iter().filter(concerned).any(|r| r.is_initiating(look.now));
        closing.no_proof_before = newest.map(|start| start + AFTER_START).or(closing.no_proof_before.filter(|_| look.jit.is_none()));
        if shows {
            closing.repeats = 0;
        }
        if shows || !look.groups_settled || initiating || look.jit.is_none() {
            closing.forget_reads();
            continue;
        }
        let written_between = closing.versions != look.versions;
        let early = closing.no_proof_before.is_some_and(|earliest| look.now < earliest);
        match closing.first_shut_read {
            Some(first) if early || look.now < first + BETWEEN_READS => {}
            // A rule that came back and went again between two reads was seen in neither.
            Some(_) if written_between && closing.repeats < MOST_REPEATS => {
                closing.repeats += 1;
                closing.read_shut(look.ended, look.versions);
            }
            None => closing.read_shut(look.ended, look.versions),
            Some(_) => {
                let Some(closing) = record.closings.remove(&port) else { continue };
                let stays: Vec<&Opening> = openings.iter().filter(|opening| opening.ports.contains(port)).collect();
                audits.proved(record, port, &closing, &stays, written_between);
                remember_gone(record, &closing, look.now);
                if stays.is_empty() {
                    record.shut.insert(port, look.now);
                }
            }
        }
    }
}

/// A port that has to be opened, and for whom of its live grants.
pub(crate) struct Wanted {
    /// What JIT would be asked for.
    pub(crate) open: Open,
    /// The grants whose sources are not let in, by id: the others would be there without it.
    pub(crate) lacking: BTreeSet<String>,
}

fn plan_opens(plan: &mut Plan, openings: &[Opening], look: &Look<'_>, lost: &mut Vec<Lost>) -> Vec<Wanted> {
    let goes = |opening: &Opening| plan.closes.iter().any(|close| close.opening == *opening) || is_on_its_way(&plan.record, opening, look);
    let kept: Vec<&Opening> = openings.iter().filter(|opening| !goes(opening)).collect();
    let before = std::mem::take(&mut plan.record.taken_down);
    let ids: BTreeSet<&str> = plan.record.grants.iter().map(|grant| grant.id.as_str()).collect();
    plan.record.replaced.retain(|id, _| ids.contains(id.as_str()));
    let live: Vec<Grant> = plan.record.grants.iter().filter(|grant| grant.is_live(look.now)).cloned().collect();
    let ports: BTreeSet<u16> = live.iter().map(|grant| grant.port).collect();
    let mut opens = Vec::new();
    for port in ports {
        let there = kept.iter().filter(|o| o.ports.contains(port)).fold(Sources::default(), |all, o| all.union(&o.sources));
        // What is approved, or opening, has no rule of its own yet: one that lets it in goes when somebody else's time is over.
        let lacks = |grant: &Grant| matches!(grant.phase, Phase::Approved | Phase::Opening) || !there.covers(&grant.sources);
        // Somebody who goes on opening has won after so many times.
        let is_replaced = |grant: &Grant| {
            let times = plan.record.replaced.get(&grant.id).copied().unwrap_or_default();
            times < BRAKE && was_replaced(&plan.record, grant, look)
        };
        let may_open = |grant: &Grant| match grant.phase {
            Phase::Open => before.contains(&grant.id) || is_being_taken_down(&plan.record, grant) || is_replaced(grant),
            Phase::Requested | Phase::Waiting | Phase::Approved | Phase::Opening | Phase::Closing | Phase::Closed | Phase::Declined(_) => {
                true
            }
        };
        let (gone, wanted): (Vec<&Grant>, Vec<&Grant>) =
            live.iter().filter(|grant| grant.port == port).partition(|grant| lacks(grant) && !may_open(grant));
        plan.shut_by_another.extend(gone.iter().map(|grant| grant.id.clone()));
        let lacking: Vec<&Grant> = wanted.iter().copied().filter(|grant| lacks(grant)).collect();
        for grant in lacking.iter().filter(|grant| grant.phase == Phase::Open) {
            if !before.contains(&grant.id) && !is_being_taken_down(&plan.record, grant) {
                let replaced = plan.record.replaced.entry(grant.id.clone()).or_default();
                *replaced = replaced.saturating_add(1);
            }
            plan.record.taken_down.insert(grant.id.clone());
        }
        // What nobody has decided on yet would go with the next initiate: who lost a rule to it waits for the decision.
        let would_replace = look.newer == Newer::Replaces && plan.record.undecided_at(port).next().is_some();
        let waits = |grant: &&Grant| would_replace && grant.phase == Phase::Open && plan.record.replaced.contains_key(&grant.id);
        if lacking.iter().all(waits) {
            continue;
        }
        let together = live_sources(wanted.iter().copied(), port, look.now);
        if together.amounts_to_internet() {
            // Whatever let them in one by one: JIT is not asked for this.
            let said = format!("with what else is granted on this port it would be {together}, which amounts to the whole internet");
            lost.extend(lacking.iter().map(|grant| Lost { grant: grant.id.clone(), said: said.clone(), is_short: false }));
            continue;
        }
        let (asked_for, lacking) = match look.newer {
            Newer::Replaces => (wanted, lacking),
            Newer::Adds => {
                let first = lacking.into_iter().min_by_key(|grant| (grant.phase == Phase::Approved, grant.from, grant.id.clone()));
                (first.into_iter().collect(), first.into_iter().collect())
            }
        };
        let Some(until) = asked_for.iter().map(|grant| plan.record.would_end(grant, look.now)).max() else { continue };
        let ids = |grants: &[&Grant]| grants.iter().map(|grant| grant.id.clone()).collect();
        let sources = live_sources(asked_for.iter().copied(), port, look.now);
        opens.push(Wanted { open: Open { port, sources, until, grants: ids(&asked_for) }, lacking: ids(&lacking) });
    }
    opens
}

/// Whether Azure is carrying out the delete of this very rule, and shows it still. Any other that is shut is among the closes.
fn is_on_its_way(record: &VmRecord, opening: &Opening, look: &Look<'_>) -> bool {
    let is_target = |closing: &Closing| closing.targets.iter().any(|target| target.is_same(opening));
    record.closings.values().any(|closing| is_target(closing) && is_still_being_deleted(closing, opening, look))
}

/// Whether a rule that lets in any of a grant's sources is being shut.
fn is_being_taken_down(record: &VmRecord, grant: &Grant) -> bool {
    let mut targets = record.closings.values().flat_map(|closing| &closing.targets);
    targets.any(|target| target.ports.contains(grant.port) && grant.sources.minus(&target.sources) != grant.sources)
}

/// Whether JIT took a grant's rule, which Portcullis had asked for, away for somebody else's newer opening of the port that does not
/// let the grant's person in. Its records say so (`Revoked`, `NewerRequestInitiated` in the REST specification). Nobody meant to
/// shut it, and an opening that no rule permits must not end anybody's grant.
fn was_replaced(record: &VmRecord, grant: &Grant, look: &Look<'_>) -> bool {
    let of_port = look.records().iter().filter(|known| known.port == grant.port && known.end > look.now);
    let newest = |lets_in: bool| of_port.clone().filter(|known| known.sources.covers(&grant.sources) == lets_in).max_by_key(|k| k.start);
    match (newest(true), newest(false)) {
        (Some(own), Some(newer)) => record.is_ours(own) && own.was_replaced() && newer.start > own.start && !record.is_ours(newer),
        (Some(_) | None, _) => false,
    }
}

/// The earlier of two times.
pub(crate) fn earliest(one: Option<DateTime<Utc>>, other: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conclude::could_not_look;
    use crate::finding::Severity;
    use crate::initiate::Weighs;
    use crate::jit::RecordStatus;
    use crate::port::PortSet;
    use crate::record::{Asked, Cause, Outcome, Trouble};
    use crate::samples::{at, grant, opening, opening_in, record, vm};
    use crate::story::{RULE_1, Story, any, home, kinds, remark, said};

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
        assert_eq!(plan.closes, [Close { port: 22, opening: any(1), why: why.clone(), behind: Behind::default() }]);
        let closing = Closing {
            why,
            since: at("10:00:00"),
            intent: None,
            last_delete: None,
            first_shut_read: None,
            clear_since: None,
            repeats: 0,
            versions: String::new(),
            no_proof_before: None,
            trouble: None,
            deleted: BTreeMap::new(),
            targets: vec![any(1)],
            flush_connection: false,
            behind: Behind::default(),
            told: BTreeMap::new(),
        };
        assert_eq!(story.memory.closings, BTreeMap::from([(22, closing)]));
        assert_eq!(story.memory.openings, [SeenOpening { opening: any(1), first: at("10:00:00") }]);
        let [audit] = plan.audits.as_slice() else { panic!("{:?}", plan.audits) };
        let evidence = format!("rule {RULE_1} of g opens port 22 of vm1 to *; it lets in *, which amounts to the whole internet");
        assert_eq!(
            (audit.kind, audit.at, audit.vm.as_ref(), audit.port),
            (AuditKind::FindingAppeared, at("10:00:00"), Some(&vm()), Some(22))
        );
        assert_eq!(
            (audit.code.as_str(), audit.severity, audit.about.clone()),
            ("any-source", Severity::High, Some(any(1).rule.to_string()))
        );
        assert_eq!((audit.what.as_str(), audit.why.as_str()), (evidence.as_str(), "it is being shut"));
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
    fn whatever_comes_back_or_is_refused_keeps_nothing_else_waiting() {
        let (ssh, rdp) = (any(1), opening(2, "3389", &["*"]));
        let overlong = |n: u32| opening(n, "3389", &["203.0.113.4"]);
        for openings in [
            vec![ssh.clone(), rdp.clone()],
            vec![ssh.clone(), rdp.clone(), overlong(3)],
            vec![ssh.clone(), overlong(3), overlong(4), overlong(5)],
            vec![overlong(3), overlong(4), overlong(5)],
        ] {
            let mut story = Story::of(openings.clone());
            story.records = vec![record(3389, "203.0.113.4", "01:00:00", "23:00:00", RecordStatus::Initiated)];
            let mut first = Vec::new();
            for minute in 0..2 * openings.len() {
                let time = format!("10:{minute:02}:00");
                let closes = story.look(&time).closes;
                assert_eq!(closes.iter().map(|close| close.opening.clone()).collect::<BTreeSet<_>>(), openings.iter().cloned().collect());
                // After the first one the group is busy, or Azure wants no more calls.
                story.delete(&time, &closes[0].opening, Outcome::Accepted, None);
                first.push(closes[0].opening.clone());
            }
            for opening in &openings {
                assert!(first.contains(opening), "{opening:?} is never the first of {first:#?}");
            }
            let worst = openings.iter().filter(|opening| opening.sources.amounts_to_internet()).count();
            if worst > 0 {
                let turns = first.iter().filter(|opening| opening.sources.amounts_to_internet()).count();
                assert!(turns * 2 >= first.len() && first[0] == ssh, "{first:#?}");
            }
        }
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
    fn a_write_to_a_group_between_the_reads_makes_another_first_read() {
        let mut story = Story::of(vec![any(1)]);
        story.look_and_shut("10:00:00");
        story.look("10:00:05");
        story.versions = "it came back and went";
        assert_eq!(kinds(&story.look("10:00:40").audits), Vec::<&str>::new());
        assert_eq!(story.memory.closings[&22].first_shut_read, Some(at("10:00:41")));
        story.conclude("10:00:41");
        assert_eq!(story.next(), Some(at("10:01:12")));
        let audits = story.look("10:01:12").audits;
        assert!(
            audits[0].why.starts_with("it was seen shut twice, 1 min 12 s after it was known that it must be; deleted"),
            "{}",
            audits[0].why
        );
    }

    #[test]
    fn a_group_that_is_written_to_all_the_time_does_not_hold_up_a_proof_for_ever() {
        let mut story = Story::of(vec![any(1)]);
        story.look_and_shut("10:00:00");
        for (time, versions) in [("10:00:05", "1"), ("10:00:40", "2"), ("10:01:20", "3"), ("10:02:00", "4")] {
            story.versions = versions;
            assert_eq!(kinds(&story.look(time).audits), Vec::<&str>::new(), "{time}");
        }
        story.versions = "5";
        let audits = story.look("10:02:40").audits;
        assert!(audits[0].why.contains("; its groups were written to in between; "), "{}", audits[0].why);

        let mut returning = Story::of(vec![any(1)]);
        returning.look_and_shut("10:00:00");
        for (time, versions) in [("10:00:05", "1"), ("10:00:40", "2"), ("10:01:20", "3"), ("10:02:00", "4")] {
            returning.versions = versions;
            returning.look(time);
        }
        returning.openings = vec![any(1)];
        returning.look_and_shut("10:02:40");
        assert_eq!(returning.memory.closings[&22].repeats, 0, "what came back is proved gone anew");

        // What else throws a first read away uses nothing up.
        let mut unsettled = Story::of(vec![any(1)]);
        unsettled.look_and_shut("10:00:00");
        for (time, settled) in [("10:00:05", true), ("10:00:10", false), ("10:00:15", true), ("10:00:20", false), ("10:00:25", true)] {
            unsettled.settled = settled;
            unsettled.look(time);
        }
        unsettled.versions = "it came back and went";
        assert_eq!(kinds(&unsettled.look("10:01:00").audits), Vec::<&str>::new());
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
        assert_eq!(kinds(&story.look("10:03:00").audits), ["proved-gone", "proved-shut", "finding-gone"]);
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
    fn without_jits_policies_what_the_groups_show_to_be_wrong_is_shut_and_nothing_is_proved() {
        let over = grant("over", 22, "203.0.113.4", "09:59:00", Phase::Open);
        let mut story = Story::of(vec![any(1), home(2), opening(3, "23", &["203.0.113.7"])]).granted(vec![over]);
        story.openings.push(opening(4, "3389", &["203.0.113.9"]));
        story.remarks = vec![remark(FindingCode::FirewallPolicy, "/policy", "it opens a firewall")];
        story.records = vec![record(3389, "203.0.113.9", "09:00:00", "11:00:00", RecordStatus::Initiated)];
        story.look("09:58:00");
        story.memory.grants.push(grant("runs", 23, "203.0.113.7", "12:00:00", Phase::Opening));
        story.jit_unread = true;
        let wait = Ruling::Wait { until: at("10:30:01"), why: "who asked for it cannot be told".to_owned() };
        story.rulings.insert(story.openings[3].rule.clone(), wait);
        could_not_look(&mut story.memory, at("10:00:00"), Trouble { cause: Cause::CannotLook, said: "503".to_owned() });
        let plan = story.look_and_shut("10:00:00");
        assert_eq!(plan.closes.iter().map(|close| close.why.code()).collect::<Vec<_>>(), ["any-source", "grant-ended"]);
        assert_eq!((plan.opens.len(), plan.shut_by_another.len(), plan.cut_short.len()), (0, 0, 0));
        let left = "rule MicrosoftDefenderForCloud-JITRule-4-00000000000000000000000000000004 of g opens port 3389 of vm1 to 203.0.113.9, \
                    and no grant covers it: it is left for now: who asked for it cannot be told";
        assert!(said(&plan.audits).iter().any(|said| said.eq_ignore_ascii_case(left)), "{:#?}", said(&plan.audits));
        assert!(story.memory.findings.values().any(|finding| finding.code == FindingCode::FirewallPolicy));
        // Half an hour later it is not proved, and alarms say that nobody can see, and that nobody decides on the last one.
        story.conclude("10:00:00");
        for time in ["10:00:05", "10:01:00", "10:30:00"] {
            let plan = story.look(time);
            assert_eq!((plan.closes.len(), plan.audits.len(), story.memory.closings.len()), (0, 0, 1), "{time}");
            let alarms = story.conclude(time);
            assert_eq!(alarms.len(), if time == "10:30:00" { 2 } else { 0 }, "{time}: {alarms:?}");
        }
        let alarms: Vec<&str> = story.memory.alarms.values().map(|alarm| alarm.cause.text()).collect();
        assert_eq!(alarms, ["cannot-look", "firewall", "undecided"]);
        assert!(story.memory.blind.is_some() && story.memory.grants.iter().any(|grant| grant.phase == Phase::Opening));
        // With JIT's policies it is proved like any other.
        story.jit_unread = false;
        story.records.clear();
        assert!(kinds(&story.look("10:31:00").audits).contains(&"opened"));
        assert_eq!(kinds(&story.conclude("10:31:00")), ["alarm-cleared"]);
        let audits = story.look("10:31:40").audits;
        assert!(kinds(&audits).contains(&"proved-shut") && kinds(&audits).contains(&"grant-closed"), "{:?}", kinds(&audits));
    }

    #[test]
    fn a_grant_of_which_no_audit_record_tells_counts_as_none() {
        let mut story = Story::of(vec![home(1)]).granted(vec![grant("g", 22, "203.0.113.4", "12:00:00", Phase::Open)]);
        assert_eq!(story.look("10:00:00").audits, []);
        story.unaudited.insert("g".to_owned());
        let plan = story.look("10:01:00");
        assert_eq!((kinds(&plan.audits), plan.audits[0].severity), (vec!["grant-ended", "finding-appeared"], Severity::High));
        assert_eq!((plan.audits[1].code.as_str(), plan.audits[1].severity, plan.closes.len()), ("unaudited", Severity::High, 1));
        assert!(plan.audits[0].why.starts_with("no audit record tells of it"), "{}", plan.audits[0].why);
    }

    #[test]
    fn grants_that_together_are_everybody_are_not_asked_for() {
        let half = |id: &str, source: &str, phase| grant(id, 22, source, "12:00:00", phase);
        let mut story = Story::of(vec![opening(1, "22", &["0.0.0.0/4", "16.0.0.0/4", "32.0.0.0/4"])]).granted(vec![
            half("a", "0.0.0.0/4", Phase::Open),
            half("b", "16.0.0.0/4", Phase::Open),
            half("c", "32.0.0.0/4", Phase::Open),
            half("d", "48.0.0.0/4", Phase::Approved),
            half("e", "64.0.0.0/4", Phase::Opening),
        ]);
        let plan = story.look("10:00:00");
        assert_eq!((plan.opens.len(), kinds(&plan.audits)), (0, vec!["grant-ended"]));
        assert!(plan.audits[0].why.ends_with("which amounts to the whole internet"), "{}", plan.audits[0].why);
    }

    #[test]
    fn an_opening_that_is_everybody_together_with_what_grants_let_in_is_shut() {
        let mut story = Story::of(vec![opening(1, "22", &["0.0.0.0/3"]), opening(2, "22", &["32.0.0.0/3"])]).granted(vec![grant(
            "a",
            22,
            "0.0.0.0/3",
            "12:00:00",
            Phase::Open,
        )]);
        let closes = story.look("10:00:00").closes;
        assert_eq!(
            closes.iter().map(|close| (close.opening.sources.to_string(), close.why.code())).collect::<Vec<_>>(),
            [("32.0.0.0/3".to_owned(), "any-source")]
        );
    }

    #[test]
    fn a_machine_is_gone_only_when_two_reads_say_so() {
        let mut story = Story::of(Vec::new());
        story.remarks = vec![remark(FindingCode::NoMachine, "/policy", "there is no such machine")];
        story.gone = true;
        assert_eq!(story.look("10:00:00").audits, []);
        assert_eq!(kinds(&story.look("10:00:31").audits), ["finding-appeared"]);
    }

    #[test]
    fn a_vm_that_opens_and_shuts_again_and_again_does_not_fill_its_record() {
        let mut story = Story::of(Vec::new());
        for second in 0..250 {
            let time = format!("10:{:02}:{:02}", second / 60, second % 60);
            story.openings = if second % 2 == 0 { vec![home(1)] } else { Vec::new() };
            story.look(&time);
        }
        assert_eq!((story.memory.opened.len(), story.memory.opened[0].from), (MOST_SPANS, at("10:00:00")));
        let open = story.memory.open_in_a_day(at("10:05:00"));
        assert!(open >= TimeDelta::seconds(125) && open <= TimeDelta::seconds(250), "{open}");
    }

    #[test]
    fn what_was_asked_of_jit_is_not_given_up_while_nobody_can_see_what_came_of_it() {
        let approved = Grant { from: at("10:00:00"), ..grant("g", 22, "203.0.113.4", "12:00:00", Phase::Approved) };
        let mut story = Story::of(Vec::new()).granted(vec![approved]);
        let plan = story.look("10:00:00");
        story.memory.intend_open(&plan.opens[0], at("10:00:00"));
        story.memory.open_came_to(22, Outcome::Accepted, Weighs::Once);
        story.jit_unread = true;
        let plan = story.look("10:20:00");
        assert_eq!((plan.audits.len(), plan.opens.len(), plan.record.grants[0].phase), (0, 0, Phase::Opening));
        story.jit_unread = false;
        assert_eq!(kinds(&story.look("10:20:10").audits), ["grant-ended"]);
    }

    #[test]
    fn observe_mode_opens_nothing() {
        let mut story = Story::of(Vec::new()).granted(vec![grant("g", 22, "203.0.113.4", "12:00:00", Phase::Approved)]);
        story.mode = Mode::Observe;
        assert_eq!(story.look("10:00:00").opens, []);
        story.conclude("10:00:00");
        // Nobody waits for it for ever: it is declined then.
        assert_eq!(story.next(), Some(at("10:14:00")));
    }

    #[test]
    fn findings_appear_change_and_go_and_keep_their_beginning() {
        let mut story = Story::of(vec![home(1)]);
        story.remarks = vec![remark(FindingCode::UnreadableRecord, "/policy", "b"), remark(FindingCode::UnreadableRecord, "/policy", "a")];
        let plan = story.look("10:00:00");
        assert_eq!(kinds(&plan.audits), ["finding-appeared"; 2]);
        let mut words = said(&plan.audits);
        words.sort_unstable();
        let left = format!(
            "Rule {RULE_1} of g opens port 22 of vm1 to 203.0.113.4, and no grant covers it: it is left: no hard limit forbids it, and no rules could be asked"
        );
        assert_eq!(words, ["A; b: it is left for a person to look at".to_owned(), left]);
        story.remarks.reverse();
        assert_eq!(story.look("10:01:00").audits, []);
        story.remarks.truncate(1);
        assert_eq!(kinds(&story.look("10:02:00").audits), ["finding-changed"]);
        assert!(story.memory.findings.values().all(|finding| finding.since == at("10:00:00")));
        story.remarks.clear();
        let gone = story.look("10:03:00").audits;
        assert_eq!((kinds(&gone), gone[0].severity), (vec!["finding-gone"], Severity::Informational));
        assert_eq!(said(&gone), ["No longer so, after 3 min: a"]);
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
        let said = format!("Rule {RULE_1} of g opens port 22 of vm1 to ??, which cannot be read: it is left for a person to look at");
        assert_eq!(plan.audits[0].message(), said);
        let audits = story.conclude("10:00:00");
        assert_eq!((kinds(&audits), audits[0].code.as_str(), audits[0].port), (vec!["alarm-raised"], "unreadable", Some(22)));
        assert_eq!(story.conclude("10:00:10"), []);
    }

    /// A VM whose one opening was deleted at ten and proved shut.
    fn shut(opening: Opening, records: Vec<JitRecord>) -> Story {
        let mut story = Story::of(vec![opening]);
        story.records = records;
        story.look_and_shut("10:00:00");
        story.look("10:00:05");
        assert_eq!(kinds(&story.look("10:01:00").audits)[0], "proved-shut");
        story
    }

    #[test]
    fn a_rule_that_is_there_again_after_its_proof_has_come_back() {
        let mut story = shut(any(1), Vec::new());
        story.openings = vec![any(1)];
        story.look_and_shut("10:20:00");
        let audits = story.conclude("10:20:00");
        assert_eq!((kinds(&audits), audits[0].code.as_str()), (vec!["alarm-raised"], "rule-returns"));
        // Another rule, or the same one a day later, has not come back.
        let mut other = shut(any(1), Vec::new());
        other.openings = vec![any(2)];
        other.look_and_shut("10:20:00");
        assert_eq!(other.conclude("10:20:00"), []);
        other.memory.gone.clear();
        let mut later = shut(any(1), Vec::new());
        let closing = Closing::new(Violation::GrantEnded { grant: "g".to_owned(), why: End::Time }, at("10:00:00"), false);
        let deleted = later.memory.gone.values().next().unwrap().deleted;
        remember_gone(&mut later.memory, &closing, deleted + TimeDelta::hours(24) - TimeDelta::seconds(1));
        assert_eq!(later.memory.gone.len(), 1);
        remember_gone(&mut later.memory, &closing, deleted + TimeDelta::hours(24));
        assert_eq!(later.memory.gone, BTreeMap::new());
    }

    #[test]
    fn what_came_back_goes_again_though_its_record_is_history() {
        let overlong = record(22, "203.0.113.4", "09:00:00", "20:00:00", RecordStatus::Initiated);
        let mut story = shut(home(1), vec![overlong.clone()]);
        story.openings = vec![home(1)];
        let closes = story.look("10:20:00").closes;
        assert_eq!((closes.len(), closes[0].why.code()), (1, "overlong"));
        // Somebody has asked for it since: that is another opening by the same rule, whose record may be revoked before its rule is gone.
        for status in [RecordStatus::Initiated, RecordStatus::Revoked] {
            let mut asked = shut(home(1), vec![overlong.clone()]);
            asked.records.push(record(22, "203.0.113.4", "10:19:00", "11:00:00", status));
            asked.openings = vec![home(1)];
            assert_eq!(asked.look("10:20:00").closes, []);
        }
    }

    #[test]
    fn a_port_that_something_else_opens_is_not_proved_shut() {
        let mut story = Story::of(vec![any(1), home(2)]);
        story.look_and_shut("10:00:00");
        story.look("10:00:05");
        assert_eq!(kinds(&story.look("10:01:00").audits), ["proved-gone", "finding-gone"]);
        assert!(story.memory.shut.is_empty() && story.memory.closings.is_empty());
    }

    #[test]
    fn who_asked_is_learnt_without_a_word_and_told_with_the_next() {
        let mut story = Story::of(vec![any(1)]);
        story.look("10:00:00");
        let asked = record(22, "*", "09:59:00", "11:00:00", RecordStatus::Initiated);
        story.records = vec![JitRecord { requestor: Some("ada@contoso.com".to_owned()), ..asked }];
        let plan = story.look("10:00:30");
        assert_eq!((plan.audits.len(), plan.closes[0].behind.one()), (0, Some("ada@contoso.com")));
        story.records[0].status = RecordStatus::Revoked;
        story.openings.clear();
        story.look("10:01:00");
        let audits = story.look("10:02:00").audits;
        assert_eq!(kinds(&audits), ["proved-shut", "finding-gone"]);
        assert!(audits.iter().all(|audit| audit.behind.one() == Some("ada@contoso.com")), "{audits:#?}");
    }

    #[test]
    fn somebody_who_opens_without_end_does_not_fill_the_record() {
        let mut story = Story::of(Vec::new());
        for n in 0..u32::try_from(MOST_REMEMBERED).unwrap() + 20 {
            story.openings = vec![any(n)];
            story.look_and_shut("10:00:00");
        }
        let closing = &story.memory.closings[&22];
        assert_eq!((closing.targets.len(), closing.deleted.len()), (MOST_REMEMBERED, MOST_REMEMBERED));
        assert!(closing.targets.iter().any(|target| target.is_same(&any(219))));
        // What was not deleted, or shows, is still to be shut.
        let mut closing = Closing::new(closing.why.clone(), at("10:00:00"), false);
        closing.targets = vec![any(1), any(2), any(3), any(4)];
        for n in [2, 3, 4] {
            closing.deleted.insert(any(n).rule, at("10:00:00"));
        }
        let shown = any(2);
        let judged = [Judged { opening: &shown, judgement: Judgement::Left, behind: Behind::default() }];
        forget_a_target(&mut closing, &judged);
        assert_eq!(closing.targets, [any(1), any(2), any(4)]);
        assert_eq!(closing.deleted.keys().collect::<Vec<_>>(), [&any(2).rule, &any(4).rule]);
        let mut record = VmRecord::new(vm());
        let mut many = Closing::new(closing.why.clone(), at("10:00:00"), false);
        for n in 0..300 {
            many.deleted.insert(any(n).rule, at("10:00:00") + TimeDelta::seconds(n.into()));
        }
        remember_gone(&mut record, &many, at("11:00:00"));
        assert_eq!(
            (record.gone.len(), record.gone.contains_key(&any(99).rule), record.gone.contains_key(&any(100).rule)),
            (200, false, true)
        );
    }

    fn open(port: u16, sources: &[&str], until: &str, grants: &[&str]) -> Open {
        let grants = grants.iter().map(|id| (*id).to_owned()).collect();
        Open { port, sources: Sources::read(sources.iter().copied()), until: at(until), grants }
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
        assert_eq!(
            plan.opens,
            [open(22, &["203.0.113.4/31"], "13:00:00", &["new", "there"]), open(23, &["203.0.113.6"], "11:00:00", &["other"])]
        );
        assert_eq!((plan.closes.len(), plan.cut_short.len(), plan.shut_by_another.len(), plan.record.taken_down.len()), (0, 0, 0, 0));
        for open in &plan.opens {
            story.memory.intend_open(open, at("10:00:00"));
        }
        story.openings = vec![opening(1, "22", &["203.0.113.4/31"]), opening(2, "23", &["203.0.113.0/24"])];
        assert_eq!(story.look("10:01:00").opens, []);
    }

    #[test]
    fn where_a_newer_initiate_adds_each_grant_is_asked_for_alone_whoever_waits_for_an_answer_first() {
        let mut story = Story::of(vec![home(1)]).granted(vec![
            grant("there", 22, "203.0.113.4", "13:00:00", Phase::Open),
            grant("later", 22, "203.0.113.6", "10:30:00", Phase::Approved),
            grant("new", 22, "203.0.113.5", "12:00:00", Phase::Opening),
            grant("other", 23, "203.0.113.6", "11:00:00", Phase::Opening),
        ]);
        story.newer = Newer::Adds;
        let plan = story.look("10:00:00");
        let alone = open(22, &["203.0.113.5"], "12:00:00", &["new"]);
        assert_eq!(plan.opens, [alone, open(23, &["203.0.113.6"], "11:00:00", &["other"])]);
        for open in &plan.opens {
            story.memory.intend_open(open, at("10:00:00"));
            story.memory.open_came_to(open.port, Outcome::Accepted, Weighs::Once);
        }
        assert_eq!(story.look("10:00:10").opens, []);
        story.openings.extend([opening(2, "22", &["203.0.113.5"]), opening(3, "23", &["203.0.113.6"])]);
        assert_eq!(story.look("10:00:20").opens, [open(22, &["203.0.113.6"], "10:31:20", &["later"])]);
        // The end of one leaves the others' rules alone.
        let end = |grant: &mut Grant| grant.until = at("10:01:00");
        story.memory.grants.iter_mut().filter(|grant| grant.id == "there").for_each(end);
        let plan = story.look("10:01:00");
        assert_eq!((plan.closes.len(), plan.closes[0].opening.clone()), (1, home(1)));
    }

    #[test]
    fn less_than_five_minutes_are_not_opened_for() {
        for (until, opens) in [("10:04:59", 0), ("10:05:00", 1)] {
            let mut story = Story::of(vec![home(1)])
                .granted(vec![grant("g", 22, "203.0.113.9", until, Phase::Opening), grant("there", 22, "203.0.113.4", until, Phase::Open)]);
            let plan = story.look("10:00:00");
            assert_eq!((plan.opens.len(), ids(&plan.cut_short)), (opens, if opens == 0 { vec!["g"] } else { vec![] }), "{until}");
        }
    }

    #[test]
    fn what_a_grant_let_in_that_is_cut_short_goes_at_once_and_so_on() {
        let mut story = Story::of(vec![opening(1, "22-23", &["203.0.113.4"]), opening(2, "22", &["*"])]).granted(vec![
            grant("short", 22, "203.0.113.0/24", "10:03:00", Phase::Open),
            grant("next", 23, "203.0.113.4", "10:04:00", Phase::Open),
            grant("long", 23, "203.0.113.5", "12:00:00", Phase::Opening),
        ]);
        let plan = story.look("10:00:00");
        // The grant on the second port is let in by the rule that goes with the first one's end; it is opened again since
        // another of that port has time enough.
        assert_eq!(ids(&plan.cut_short), ["short"]);
        assert_eq!(plan.closes.iter().map(|close| close.why.code()).collect::<Vec<_>>(), ["any-source", "grant-ended"]);
        assert_eq!(plan.opens, [open(23, &["203.0.113.4/31"], "12:00:00", &["long", "next"])]);
        assert_eq!(kinds(&plan.audits), ["grant-ended", "finding-appeared", "finding-appeared"]);
        let why = "it could not be opened: less than 5 min of its time are left, and JIT opens for no less";
        assert_eq!(plan.audits[0].why, why);

        story.memory.grants.retain(|grant| grant.id != "long");
        let plan = story.look("10:00:00");
        assert_eq!(
            (ids(&plan.cut_short), plan.opens.len(), kinds(&plan.audits)),
            (vec!["next"], 0, vec!["grant-ended", "finding-changed"])
        );
        assert_eq!(story.look("10:00:00").audits, []);
    }

    #[test]
    fn what_another_hand_shut_is_not_opened_again() {
        let mut story = Story::of(Vec::new()).granted(vec![
            grant("gone", 22, "203.0.113.4", "13:00:00", Phase::Open),
            grant("new", 22, "203.0.113.5", "12:00:00", Phase::Approved),
        ]);
        let plan = story.look("10:00:00");
        assert_eq!((ids(&plan.shut_by_another), plan.opens), (vec!["gone"], vec![open(22, &["203.0.113.5"], "12:01:00", &["new"])]));
        let mut alone = Story::of(Vec::new()).granted(vec![grant("gone", 22, "203.0.113.4", "13:00:00", Phase::Open)]);
        let plan = alone.look("10:00:00");
        assert_eq!((ids(&plan.shut_by_another), plan.opens.len(), plan.cut_short.len()), (vec!["gone"], 0, 0));
    }

    #[test]
    fn what_jit_replaced_by_another_opening_is_opened_again_and_what_another_hand_shut_is_not() {
        let reason = |reason: &str, record: JitRecord| JitRecord { status_reason: reason.to_owned(), ..record };
        let own = || record(22, "203.0.113.4", "09:00:00", "13:00:00", RecordStatus::Revoked);
        let replaced = || reason("NewerRequestInitiated", own());
        let newer = |source, start| record(22, source, start, "11:00:00", RecordStatus::Initiated);
        let asked =
            |source: &str, at_: &str, until: &str| Asked { port: 22, sources: Sources::read([source]), at: at(at_), until: at(until) };
        let ours = || asked("203.0.113.4", "09:00:00", "13:00:00");
        let others = || newer("198.51.100.7", "09:59:00");
        let cases: [(&str, Vec<JitRecord>, Vec<Asked>, bool); 7] = [
            ("replaced", vec![replaced(), others()], vec![ours()], true),
            ("what somebody opened themselves", vec![replaced(), others()], vec![], false),
            ("revoked by hand", vec![own(), others()], vec![ours()], false),
            ("nothing newer", vec![replaced()], vec![ours()], false),
            ("an older one beside", vec![replaced(), newer("198.51.100.7", "08:59:00")], vec![ours()], false),
            (
                "by what Portcullis asked for",
                vec![replaced(), others()],
                vec![ours(), asked("198.51.100.7", "09:59:00", "11:00:00")],
                false,
            ),
            ("a newer one of its own was shut by hand", vec![replaced(), newer("203.0.113.4", "09:58:00"), others()], vec![ours()], false),
        ];
        for (name, records, asked, again) in cases {
            let mut story = replaced_story(records, asked);
            let plan = story.look("10:00:00");
            assert_eq!((plan.opens.len(), plan.shut_by_another.len()), if again { (1, 0) } else { (0, 1) }, "{name}");
        }
    }

    /// A grant from nine to one whose rule is not there.
    fn replaced_story(records: Vec<JitRecord>, asked: Vec<Asked>) -> Story {
        let mut story = Story::of(Vec::new()).granted(vec![grant("g", 22, "203.0.113.4", "13:00:00", Phase::Open)]);
        story.records = records;
        story.memory.asked = asked;
        story
    }

    #[test]
    fn what_jit_replaced_waits_while_nobody_has_decided_on_what_took_its_place_and_is_given_up_after_three_times() {
        let ours = Asked { port: 22, sources: Sources::read(["203.0.113.4"]), at: at("09:00:00"), until: at("13:00:00") };
        let own = record(22, "203.0.113.4", "09:00:00", "13:00:00", RecordStatus::Revoked);
        let own = JitRecord { status_reason: "NewerRequestInitiated".to_owned(), ..own };
        let newer = record(22, "198.51.100.7", "09:59:00", "11:00:00", RecordStatus::Initiated);
        let other = opening(2, "22", &["198.51.100.7"]);
        let mut story = replaced_story(vec![own, newer], vec![ours]);
        story.openings = vec![other.clone()];
        let wait = Ruling::Wait { until: at("10:30:00"), why: "Microsoft Graph answered 503".to_owned() };
        story.rulings.insert(other.rule.clone(), wait);
        for time in ["10:00:00", "10:00:20", "10:10:00"] {
            let plan = story.look(time);
            assert_eq!((plan.opens.len(), plan.shut_by_another.len(), plan.closes.len()), (0, 0, 0), "{time}");
        }
        let refused = Violation::Unapproved { said: "no rule permits it".to_owned() };
        story.rulings.insert(other.rule.clone(), Ruling::Shut { why: refused, rule: None, decision: None });
        let plan = story.look_and_shut("10:11:00");
        assert_eq!((plan.opens, plan.closes.len()), (vec![open(22, &["203.0.113.4"], "13:00:00", &["g"])], 1));
        // It is there, and the same happens again and again.
        for (there, gone, again) in [("10:12:00", "10:13:00", true), ("10:14:00", "10:15:00", true), ("10:16:00", "10:17:00", false)] {
            story.openings = vec![home(1)];
            story.look(there);
            story.openings = vec![other.clone()];
            let plan = story.look(gone);
            assert_eq!((plan.opens.len(), plan.shut_by_another.len()), if again { (1, 0) } else { (0, 1) }, "{gone}");
        }
    }

    #[test]
    fn what_nobody_has_decided_on_is_over_when_it_is_covered_or_two_reads_show_nothing_of_it() {
        let mut story = Story::of(vec![home(1)]);
        story.look("10:00:00");
        // Another opening, or a single read without one, gains no time by it.
        for (time, openings) in [
            ("10:01:00", vec![]),
            ("10:01:20", vec![opening(2, "22", &["198.51.100.7"])]),
            ("10:02:00", vec![]),
            ("10:02:20", vec![home(3)]),
        ] {
            story.openings = openings;
            story.look(time);
            assert_eq!(story.memory.undecided[&22].since, at("10:00:00"), "{time}");
        }
        story.openings.clear();
        story.look("10:03:00");
        story.conclude("10:03:00");
        assert_eq!(story.next(), Some(at("10:03:32")), "the second read is not left to chance");
        story.settled = false;
        for (time, longest) in [("10:03:40", 4), ("10:03:46", 8), ("10:05:00", 16), ("10:06:00", 32)] {
            story.look(time);
            assert!(!story.memory.undecided.is_empty(), "while a group is being written no read shows anything");
            story.conclude(time);
            assert!(story.next().is_some_and(|next| next <= at(time) + TimeDelta::seconds(longest)), "{time}: {:?}", story.next());
            assert_eq!(story.memory.pause_seconds, longest, "it waits longer each time");
        }
        story.settled = true;
        for time in ["10:07:00", "10:07:40"] {
            assert!(!story.memory.undecided.is_empty());
            story.look(time);
        }
        assert!(story.memory.undecided.is_empty() && story.memory.is_at_rest());
        story.openings = vec![home(4)];
        story.look("10:10:00");
        story.memory.grants = vec![grant("g", 22, "203.0.113.4", "11:00:00", Phase::Open)];
        story.look("10:11:00");
        assert!(story.memory.undecided.is_empty());
    }

    #[test]
    fn the_live_rest_of_a_rule_that_must_go_is_opened_again_however_long_that_takes() {
        let wide = opening(1, "22", &["203.0.113.4/31"]);
        let mut story = Story::of(vec![wide]).granted(vec![
            grant("stays", 22, "203.0.113.4", "13:00:00", Phase::Open),
            grant("over", 22, "203.0.113.5", "10:00:00", Phase::Open),
        ]);
        let again = || vec![open(22, &["203.0.113.4"], "13:00:00", &["stays"])];
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
}
