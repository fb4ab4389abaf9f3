//! The audit records of one run, in the words that people read.

use std::collections::BTreeSet;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::audit::{ACCEPTED, AuditKind, AuditRecord, REFUSED, UNKNOWN};
use crate::behind::Behind;
use crate::duration::spoken;
use crate::finding::{Finding, Severity};
use crate::grant::{End, Grant, Origin};
use crate::jit::JitRecord;
use crate::judge::Violation;
use crate::opening::Opening;
use crate::plain::quoted;
use crate::port::PortSet;
use crate::reconcile::{Close, Mode, Open, code_of};
use crate::record::{Alarm, Cause, Closing, Outcome, VmRecord};
use crate::ruling::{Adoption, Ruling};

/// Audit records of one run without an effect, numbered from the serial of the VM's record.
#[derive(Clone)]
pub(crate) struct Audits {
    now: DateTime<Utc>,
    pub(crate) written: Vec<AuditRecord>,
}

impl Audits {
    pub(crate) fn new(now: DateTime<Utc>) -> Self {
        Audits { now, written: Vec::new() }
    }

    fn add(&mut self, record: &mut VmRecord, kind: AuditKind, fill: impl FnOnce(&mut AuditRecord)) {
        let mut audit = blank(record, kind, self.now);
        record.serial += 1;
        fill(&mut audit);
        let about = format!("{} {:?} {:?} {:?}", audit.code, audit.port, audit.about, audit.grant);
        audit.id = AuditRecord::numbered_id(&record.vm, record.serial, kind, &about);
        self.written.push(audit);
    }

    /// A finding that appeared, changed or is gone; with the decision that made it one, where a rule did.
    pub(crate) fn finding(&mut self, record: &mut VmRecord, kind: AuditKind, finding: &Finding, ruling: Option<&Ruling>) {
        let stood = spoken(self.now - finding.since);
        self.add(record, kind, |audit| {
            audit.port = finding.port;
            audit.about = Some(finding.about.clone());
            audit.sources.clone_from(&finding.sources);
            audit.behind = finding.behind.clone();
            audit.code = finding.code.text().to_owned();
            if kind == AuditKind::FindingGone {
                audit.what = format!("no longer so, after {stood}");
                audit.why.clone_from(&finding.evidence);
            } else {
                audit.severity = finding.code.severity();
                audit.what = format!("{}{}", finding.evidence, finding.behind.phrase());
                audit.why.clone_from(&finding.done);
            }
            if let Some(Ruling::Shut { rule, decision, .. }) = ruling {
                audit.rule.clone_from(rule);
                audit.decision.clone_from(decision);
            }
        });
    }

    /// That JIT has a record of an opening that no look saw. Whether it ever was open its record does not say.
    pub(crate) fn missed(&mut self, record: &mut VmRecord, one: &JitRecord, violation: &Violation) {
        let behind = Behind::of_record(one, &record.claims);
        let since = one.start.to_rfc3339_opts(SecondsFormat::Secs, true);
        self.add(record, AuditKind::Missed, |audit| {
            audit.port = Some(one.port);
            // A record has no id of its own.
            audit.about = Some(format!("{}#{}", one.policy, one.start.to_rfc3339_opts(SecondsFormat::Micros, true)));
            audit.sources = Some(one.sources.clone());
            audit.code = violation.code().to_owned();
            audit.severity = code_of(violation).severity();
            audit.what = format!(
                "port {} of {} was asked to be open to {} from {since}{}, and no look saw it open",
                one.port,
                one.vm.name(),
                one.sources,
                behind.phrase()
            );
            let status = String::from(one.status.clone());
            audit.why = format!("{}; JIT says that it is {}, and it is not open now", violation.sentence(), quoted(&status));
            audit.behind = behind;
        });
    }

    /// What somebody opened around Portcullis, and a rule permits. The glass that was broken is told as loudly as an alarm.
    /// Gives the id of the record.
    pub(crate) fn adopted(&mut self, record: &mut VmRecord, adoption: &Adoption) -> String {
        let grant = &adoption.grant;
        let (severity, how) = match grant.origin {
            Origin::BreakGlass => (Severity::High, "broke the glass and opened"),
            Origin::Adopted | Origin::Asked => (Severity::Informational, "opened"),
        };
        let waits = grant.confirm_by.map(|by| format!(", which has to be confirmed by {}", by.to_rfc3339_opts(SecondsFormat::Secs, true)));
        let until = grant.until.to_rfc3339_opts(SecondsFormat::Secs, true);
        self.of_grant(record, AuditKind::Adopted, grant, |audit, target| {
            audit.code = match grant.origin {
                Origin::BreakGlass => "break-glass".to_owned(),
                Origin::Adopted | Origin::Asked if grant.confirm_by.is_some() => "provisional".to_owned(),
                Origin::Adopted | Origin::Asked => "adopted".to_owned(),
            };
            audit.severity = severity;
            audit.decision = Some(adoption.decision.clone());
            let sources = &grant.sources;
            audit.what = format!("{} {how} {target} to {sources} until {until}{}", grant.shown(), waits.unwrap_or_default());
            audit.why.clone_from(&adoption.said);
        });
        self.written.last().map(|audit| audit.id.clone()).unwrap_or_default()
    }

    /// That what a grant was made on is confirmed.
    pub(crate) fn confirmed(&mut self, record: &mut VmRecord, grant: &Grant, by: &str) {
        self.of_grant(record, AuditKind::Confirmed, grant, |audit, target| {
            audit.code = "confirmed".to_owned();
            audit.what = format!("it was {} who opened {target}", grant.shown());
            audit.why = format!("{by} says so, too");
        });
    }

    /// That the rule of a grant was seen.
    pub(crate) fn opened(&mut self, record: &mut VmRecord, grant: &Grant) {
        let until = grant.until.to_rfc3339_opts(SecondsFormat::Secs, true);
        self.of_grant(record, AuditKind::Opened, grant, |audit, target| {
            audit.code = "opened".to_owned();
            audit.what = format!("{target} is open to {} for {} until {until}", grant.sources, grant.shown());
            audit.why = format!("grant {}", grant.id);
        });
    }

    /// That a grant never came to be, and why JIT was not asked for it.
    pub(crate) fn declined(&mut self, record: &mut VmRecord, grant: &Grant, why: &str) {
        self.of_grant(record, AuditKind::Declined, grant, |audit, target| {
            audit.code = "never-sent".to_owned();
            audit.severity = Severity::Medium;
            audit.what = format!("grant {} of {} for {target} never came to be", grant.id, grant.shown());
            audit.why = format!("it was permitted, and {why}");
        });
    }

    /// That a grant ended.
    pub(crate) fn grant_ended(&mut self, record: &mut VmRecord, grant: &Grant) {
        self.of_end(record, AuditKind::GrantEnded, grant, "ends");
    }

    /// That nothing a grant allowed is open any more.
    pub(crate) fn grant_closed(&mut self, record: &mut VmRecord, grant: &Grant) {
        self.of_end(record, AuditKind::GrantClosed, grant, "is closed");
    }

    fn of_end(&mut self, record: &mut VmRecord, kind: AuditKind, grant: &Grant, verb: &str) {
        let end = grant.ended.clone().unwrap_or(End::Time);
        self.of_grant(record, kind, grant, |audit, target| {
            audit.code = end.code().to_owned();
            audit.severity = match (&end, kind) {
                (End::Unconfirmed | End::Contradicted { .. } | End::Unaudited, AuditKind::GrantEnded) => Severity::High,
                _ => Severity::Informational,
            };
            audit.what = format!("grant {} of {} for {target} {verb}", grant.id, grant.shown());
            audit.why = end.phrase();
            if kind == AuditKind::GrantClosed {
                audit.why.push_str("; nothing that it allowed was seen open, twice");
            }
        });
    }

    fn of_grant(&mut self, record: &mut VmRecord, kind: AuditKind, grant: &Grant, fill: impl FnOnce(&mut AuditRecord, &str)) {
        let target = format!("port {} of {}", grant.port, record.vm.name());
        self.add(record, kind, |audit| {
            audit.port = Some(grant.port);
            audit.sources = Some(grant.sources.clone());
            audit.grant = Some(grant.id.clone());
            audit.person = Some(grant.shown().to_owned());
            audit.person_id = Some(grant.person.clone()).filter(|id| !id.is_empty());
            audit.rule = Some(grant.rule.clone()).filter(|rule| !rule.is_empty());
            fill(audit, &target);
        });
    }

    pub(crate) fn would_close(&mut self, record: &mut VmRecord, opening: &Opening, why: &Violation, behind: &Behind) {
        self.add(record, AuditKind::WouldClose, |audit| {
            of_opening(audit, opening, why, behind);
            audit.what = format!("enforce mode would delete {}", lets_in(audit, opening, behind));
        });
    }

    /// The end of a closing: the port is proved shut, or what had to go from it is proved gone while `stays` stays. `written` says
    /// that its groups were written to between the two reads.
    pub(crate) fn proved(&mut self, record: &mut VmRecord, port: u16, closing: &Closing, stays: &[&Opening], written: bool) {
        let attempts = record.attempts.get(&port).copied();
        let vm = record.vm.name().to_owned();
        let kind = if stays.is_empty() { AuditKind::ProvedShut } else { AuditKind::ProvedGone };
        let why = proof(closing, stays, written, self.now);
        self.add(record, kind, |audit| {
            audit.port = Some(port);
            audit.code = closing.why.code().to_owned();
            audit.attempt = attempts;
            audit.sources = Some(closing.sources());
            audit.behind = closing.behind.clone();
            // What opened several ports is kept under the least of them; others of them something harmless may open.
            let opened = closing.targets.iter().fold(PortSet::one(port), |all, target| all.union(&target.ports));
            audit.what = match stays {
                [] if opened.len() == 1 => format!("port {port} of {vm} is proved shut"),
                [] => format!("what opened {} of {vm} is proved gone, and port {port} shut", opened.words()),
                [..] => format!("what had to go from {} of {vm} is proved gone", opened.words()),
            };
            audit.why = why;
        });
    }

    /// An alarm that is raised, or whose cause is another.
    pub(crate) fn alarm_raised(&mut self, record: &mut VmRecord, alarm: &Alarm) {
        self.alarm(record, AuditKind::AlarmRaised, alarm, |audit| {
            audit.severity = Severity::High;
            audit.what = "alarm".to_owned();
            audit.why = format!("{}. What to do: {}", alarm.text, alarm.cause.cure());
        });
    }

    /// An alarm that no longer stands: what it was about is over, or observe mode no longer acts on it.
    pub(crate) fn alarm_cleared(&mut self, record: &mut VmRecord, alarm: &Alarm, withdrawn: Option<Mode>) {
        let stood = spoken(self.now - alarm.since);
        self.alarm(record, AuditKind::AlarmCleared, alarm, |audit| {
            audit.what = match withdrawn {
                Some(mode) => {
                    format!("the alarm is withdrawn after {stood}, since {} mode shuts nothing; what it says may still be so", mode.text())
                }
                None => format!("the alarm is over, after {stood}"),
            };
            audit.why.clone_from(&alarm.text);
        });
    }

    fn alarm(&mut self, record: &mut VmRecord, kind: AuditKind, alarm: &Alarm, fill: impl FnOnce(&mut AuditRecord)) {
        let closing = alarm.port.and_then(|port| record.closings.get(&port));
        let (sources, behind) = match (alarm.cause, alarm.port) {
            (Cause::Undecided, Some(port)) => {
                let mut behind = Behind::default();
                record.undecided_at(port).for_each(|finding| behind.learn(&finding.behind));
                (record.undecided_sources(port), behind)
            }
            _ => (closing.map(Closing::sources), closing.map(|closing| closing.behind.clone()).unwrap_or_default()),
        };
        self.add(record, kind, |audit| {
            audit.port = alarm.port;
            audit.code = alarm.cause.text().to_owned();
            audit.sources = sources;
            audit.behind = behind;
            fill(audit);
        });
    }
}

/// The proof in words: how long it took, what was deleted, what stays, and what became of connections.
fn proof(closing: &Closing, stays: &[&Opening], written: bool, now: DateTime<Utc>) -> String {
    let names = |rules: &[&Opening]| rules.iter().map(|opening| opening.named()).collect::<Vec<_>>().join(", ");
    let (by_us, others): (Vec<&Opening>, Vec<&Opening>) =
        closing.targets.iter().partition(|target| closing.deleted.contains_key(&target.rule));
    let took = spoken(now - closing.since);
    let seen = if stays.is_empty() { "shut" } else { "gone" };
    let mut told = vec![format!("it was seen {seen} twice, {took} after it was known that it must be")];
    if written {
        told.push("its groups were written to in between".to_owned());
    }
    if !stays.is_empty() {
        told.push(format!("{} stays", names(stays)));
    }
    if !by_us.is_empty() {
        told.push(format!("deleted {}", names(&by_us)));
    }
    if !others.is_empty() {
        told.push(format!("{} went without a delete that Azure confirmed to us", names(&others)));
    }
    told.push(if closing.flush_connection { "connections were cut" } else { "connections that were open survive" }.to_owned());
    told.join("; ")
}

/// The audit record of one `initiate`: the one that is written before it is sent, or with an outcome that of what JIT answered.
pub fn audits_of_open(record: &VmRecord, open: &Open, attempt: u32, now: DateTime<Utc>, outcome: Option<&Outcome>) -> AuditRecord {
    let [before, after] = AuditRecord::open_ids(&record.vm, open.port, attempt);
    let grants: Vec<&Grant> = record.grants.iter().filter(|grant| open.grants.contains(&grant.id)).collect();
    let names = |of: fn(&Grant) -> &str| {
        let names: BTreeSet<&str> = grants.iter().map(|grant| of(grant)).filter(|name| !name.is_empty()).collect();
        names.into_iter().collect::<Vec<_>>().join(", ")
    };
    let words = crate::initiate::words(open, record);
    let (kind, id) = if outcome.is_some() { (AuditKind::OpenAnswered, after) } else { (AuditKind::Open, before) };
    let mut audit = blank(record, kind, now);
    audit.id = id;
    audit.port = Some(open.port);
    audit.sources = Some(open.sources.clone());
    audit.attempt = Some(attempt);
    audit.grant = Some(names(|grant| &grant.id));
    audit.person = Some(names(Grant::shown));
    audit.person_id = Some(names(|grant| &grant.person)).filter(|ids| !ids.is_empty());
    audit.rule = Some(names(|grant| &grant.rule));
    (audit.code, audit.what, audit.why) = match outcome {
        None => ("open".to_owned(), format!("asks JIT to open {words}"), format!("for {}", names(Grant::shown))),
        Some(Outcome::Accepted | Outcome::NothingToDelete) => {
            (ACCEPTED.to_owned(), format!("JIT accepted to open {words}"), "what came of it is found out by reading".to_owned())
        }
        Some(Outcome::Failed(said)) => (REFUSED.to_owned(), format!("JIT did not open {words}"), said.clone()),
        Some(Outcome::Unknown(said)) => (UNKNOWN.to_owned(), format!("JIT has perhaps opened {words}, perhaps not"), said.clone()),
    };
    if audit.code == REFUSED {
        audit.severity = Severity::Medium;
    }
    audit
}

/// The audit record of one delete, written before it is sent.
pub fn audit_of_close(record: &VmRecord, close: &Close, attempt: u32, now: DateTime<Utc>) -> AuditRecord {
    let mut audit = blank(record, AuditKind::Close, now);
    of_opening(&mut audit, &close.opening, &close.why, &close.behind);
    audit.id = AuditRecord::effect_id(&record.vm, close.port, attempt);
    audit.port = Some(close.port);
    audit.attempt = Some(attempt);
    let again = if attempt > 1 { format!(" (attempt {attempt} at this port)") } else { String::new() };
    audit.what = format!("deletes {}{again}", lets_in(&audit, &close.opening, &close.behind));
    let refused_before = record.closings.get(&close.port).and_then(|closing| closing.trouble.as_ref()).is_some();
    if refused_before {
        // The first row and the alarm are to be looked at; what is tried again and again is not.
        audit.severity = Severity::Informational;
    }
    audit
}

/// The audit record of what Azure answered to the delete that was intended last, unless the same was told of this rule
/// the last time. A delete that Azure accepted has changed something and is told each time.
pub fn audit_of_answer(record: &mut VmRecord, close: &Close, attempt: u32, now: DateTime<Utc>) -> Option<AuditRecord> {
    let closing = record.closings.get_mut(&close.port)?;
    let outcome = closing.intent.as_ref()?.outcome.clone()?;
    let cause = closing.trouble.as_ref().map(|trouble| trouble.cause.text()).unwrap_or_default();
    let (code, what, why) = match outcome {
        Outcome::Accepted => (ACCEPTED, "Azure accepted the delete of", "what came of it is found out by reading".to_owned()),
        Outcome::NothingToDelete => (ACCEPTED, "Azure has nothing to delete for", "it was gone before".to_owned()),
        Outcome::Failed(said) => (REFUSED, "not deleted", said),
        Outcome::Unknown(said) => (UNKNOWN, "perhaps deleted, perhaps not", said),
    };
    let told = format!("{code} {cause}");
    if closing.told.insert(close.opening.rule.clone(), told.clone()) == Some(told) && code != ACCEPTED {
        return None;
    }
    let mut audit = blank(record, AuditKind::CloseAnswered, now);
    of_opening(&mut audit, &close.opening, &close.why, &close.behind);
    audit.id = AuditRecord::answer_id(&record.vm, close.port, attempt);
    audit.port = Some(close.port);
    audit.attempt = Some(attempt);
    audit.code = code.to_owned();
    audit.severity = if code == ACCEPTED { Severity::Informational } else { code_of(&close.why).severity() };
    audit.what = format!("{what} {}", lets_in(&audit, &close.opening, &Behind::default()));
    audit.why = why;
    Some(audit)
}

fn blank(record: &VmRecord, kind: AuditKind, now: DateTime<Utc>) -> AuditRecord {
    AuditRecord { vm: Some(record.vm.clone()), ..AuditRecord::blank(String::new(), now, kind) }
}

fn of_opening(audit: &mut AuditRecord, opening: &Opening, why: &Violation, behind: &Behind) {
    audit.port = opening.port();
    audit.about = Some(opening.rule.to_string());
    audit.sources = Some(opening.sources.clone());
    audit.behind = behind.clone();
    audit.code = why.code().to_owned();
    audit.severity = code_of(why).severity();
    audit.why = why.sentence();
}

/// `rule … of nsg-web, which opens port 22 of web-1 to *, asked for by …`
fn lets_in(audit: &AuditRecord, opening: &Opening, behind: &Behind) -> String {
    let (ports, sources) = (opening.ports.words(), &opening.sources);
    format!("{}, which opens {ports} of {} to {sources}{}", opening.named(), name(audit), behind.phrase())
}

fn name(audit: &AuditRecord) -> &str {
    audit.vm.as_ref().map(|vm| vm.name()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Cause;
    use crate::samples::{at, vm};
    use crate::source::Sources;
    use crate::story::{RULE_1, RULE_2, Story, any, home};

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
                "it was seen shut twice, 1 min after it was known that it must be; deleted rule {RULE_1} of g; \
                 rule {RULE_2} of g went without a delete that Azure confirmed to us; connections that were open survive"
            )
        );
        assert_eq!((audit.what.as_str(), &audit.sources), ("port 22 of vm1 is proved shut", &Some(Sources::internet())));
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
                "it was seen gone twice, 1 min after it was known that it must be; rule {RULE_2} of g stays; \
                 deleted rule {RULE_1} of g; connections were cut"
            )
        );
        assert_eq!(plan.audits[0].what, "what had to go from port 22 of vm1 is proved gone");

        let mut range = any(1);
        range.ports = PortSet::parse(["20-25"]).unwrap();
        let mut story = Story::of(vec![range]);
        story.look_and_shut("10:00:00");
        story.look("10:00:05");
        let plan = story.look("10:01:00");
        assert_eq!(plan.audits[0].what, "what opened ports 20-25 of vm1 is proved gone, and port 20 shut");

        let mut gone = Story::of(vec![any(1)]);
        gone.look("10:00:00");
        gone.openings.clear();
        gone.look("10:00:05");
        let why = format!("rule {RULE_1} of g went without a delete");
        assert!(gone.look("10:01:00").audits[0].why.contains(&why));
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
                what: format!("deletes rule {RULE_1} of g, which opens port 22 of vm1 to * (attempt 3 at this port)"),
                why: "it lets in *, which amounts to the whole internet".to_owned(),
                attempt: Some(3),
                grant: None,
                rule: None,
                person: None,
                person_id: None,
                decision: None,
                behind: Behind::default(),
            }
        );
    }

    #[test]
    fn what_is_tried_again_and_again_is_no_longer_to_be_looked_at() {
        let mut story = Story::of(vec![any(1)]);
        let close = story.look("10:00:00").closes.remove(0);
        let first = audit_of_close(&story.memory, &close, 1, at("10:00:01"));
        assert_eq!((first.severity, first.what), (Severity::High, format!("deletes rule {RULE_1} of g, which opens port 22 of vm1 to *")));
        story.delete("10:00:01", &any(1), Outcome::Failed("locked".to_owned()), Some(Cause::Lock));
        assert_eq!(audit_of_close(&story.memory, &close, 2, at("10:00:30")).severity, Severity::Informational);
    }

    #[test]
    fn an_answer_to_a_delete_is_told_when_it_is_news_or_changed_something() {
        let mut story = Story::of(vec![any(1)]);
        let close = story.look("10:00:00").closes.remove(0);
        let mut told = |attempt: u32, outcome: Outcome, trouble: Option<Cause>| {
            story.delete("10:00:01", &any(1), outcome, trouble);
            let audit = audit_of_answer(&mut story.memory, &close, attempt, at("10:00:02"));
            audit.map(|audit| (audit.code.clone(), audit.severity, audit.message()))
        };
        let rule = format!("rule {RULE_1} of g, which opens port 22 of vm1 to *");
        let news = |code: &str, severity, message: String| Some((code.to_owned(), severity, message));
        let refused = || Outcome::Failed("409 ScopeLocked".to_owned());
        assert_eq!(told(1, refused(), Some(Cause::Lock)), news("refused", Severity::High, format!("Not deleted {rule}: 409 ScopeLocked")));
        assert_eq!(told(2, refused(), Some(Cause::Lock)), None);
        assert!(told(3, refused(), Some(Cause::Denial)).is_some());
        let unknown = Outcome::Unknown("no answer".to_owned());
        assert_eq!(
            told(4, unknown.clone(), None),
            news("unknown", Severity::High, format!("Perhaps deleted, perhaps not {rule}: no answer"))
        );
        assert_eq!(told(5, unknown, None), None);
        let accepted = |what: &str, why: &str| news("accepted", Severity::Informational, format!("{what} {rule}: {why}"));
        let read = "what came of it is found out by reading";
        assert_eq!(told(6, Outcome::Accepted, None), accepted("Azure accepted the delete of", read));
        assert_eq!(told(7, Outcome::Accepted, None), accepted("Azure accepted the delete of", read));
        assert_eq!(told(8, Outcome::NothingToDelete, None), accepted("Azure has nothing to delete for", "it was gone before"));
    }

    #[test]
    fn without_an_intent_nothing_is_told_of_an_answer() {
        let mut story = Story::of(vec![any(1)]);
        let close = story.look("10:00:00").closes.remove(0);
        assert_eq!(audit_of_answer(&mut story.memory, &close, 1, at("10:00:02")), None);
        story.memory.closings.clear();
        assert_eq!(audit_of_answer(&mut story.memory, &close, 1, at("10:00:02")), None);
    }
}
