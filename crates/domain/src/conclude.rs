//! After the effects, or when nothing could be read: which alarms stand and when to look again.

use std::collections::BTreeMap;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

use crate::audit::AuditRecord;
use crate::audits::Audits;
use crate::finding::{Finding, FindingCode};
use crate::grant::{Grant, Phase};
use crate::initiate::{BRAKE, OPENS_WITHIN, SENT_WITHIN};
use crate::opening::Opening;
use crate::reconcile::{BETWEEN_READS, Mode, earliest};
use crate::record::{ALARM_AFTER, Alarm, Blind, Cause, Closing, Intent, Outcome, Trouble, Undecided, VmRecord};

/// What is remembered when the VM could not be read, so that there was nothing to reconcile.
pub fn could_not_look(record: &mut VmRecord, now: DateTime<Utc>, trouble: Trouble) {
    let since = record.blind.as_ref().map_or(now, |blind| blind.since);
    record.blind = Some(Blind { since, trouble });
}

/// Says which alarms stand and when to look again. Running it twice on the same input finds nothing new.
pub fn conclude(record: &mut VmRecord, now: DateTime<Utc>, mode: Mode) -> Vec<AuditRecord> {
    let mut audits = Audits::new(now);
    replace_alarms(record, now, mode, &mut audits);
    record.next_look = next_look(record, now, mode).map(whole_second);
    audits.written
}

/// What is to be told before the next delete: alarms that are late about a port whose last delete has no end, since the run that sent it
/// was killed. So may the next one be, and nobody would ever be told.
pub fn overdue(record: &mut VmRecord, now: DateTime<Utc>, mode: Mode) -> Vec<AuditRecord> {
    let is_cut_off = |closing: &Closing| closing.intent.as_ref().is_some_and(|intent| intent.outcome.is_none());
    let is_late = |closing: &Closing| alarm_at(record, closing, false).is_some_and(|at| at <= now);
    match record.closings.values().any(|closing| is_cut_off(closing) && is_late(closing)) {
        true => conclude(record, now, mode),
        false => Vec::new(),
    }
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
                // Who is let in, and what keeps it from being decided, changes without being news.
                if alarm.cause != Cause::Undecided {
                    alarm.text.clone_from(&old.text);
                }
            } else {
                audits.alarm_raised(record, &alarm);
            }
            alarm.since = old.since;
        } else {
            audits.alarm_raised(record, &alarm);
        }
        standing.insert(key, alarm);
    }
    for (key, old) in &before {
        if !standing.contains_key(key) {
            // Observe mode forgets its closings, which says nothing about the port.
            let withdrawn = (mode == Mode::Observe && old.cause != Cause::CannotLook).then_some(mode);
            audits.alarm_cleared(record, old, withdrawn);
        }
    }
    record.alarms = standing;
}

fn alarms_wanted(record: &VmRecord, now: DateTime<Utc>, mode: Mode) -> BTreeMap<String, Alarm> {
    let mut wanted = BTreeMap::new();
    if let Some(blind) = &record.blind {
        let stands = record.alarms.contains_key(BLIND);
        if stands || blind.trouble.cause.is_alarm_at_once() || now >= blind.since + ALARM_AFTER {
            let text = format!("{} cannot be read: {}", record.vm.name(), blind.trouble.said);
            wanted.insert(BLIND.to_owned(), Alarm { cause: blind.trouble.cause, port: None, since: now, text });
        }
    }
    for (port, closing) in &record.closings {
        let key = format!("close-{port}");
        let cause = closing.trouble.as_ref().map_or(Cause::Slow, |trouble| trouble.cause);
        let stands = record.alarms.contains_key(&key);
        let late = alarm_at(record, closing, wanted.contains_key(BLIND)).is_some_and(|at| at <= now);
        if stands || cause.is_alarm_at_once() || late {
            wanted.insert(key, Alarm { cause, port: Some(*port), since: now, text: is_open(record, *port, closing) });
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
                | FindingCode::Unconfirmed
                | FindingCode::Unaudited
                | FindingCode::Expired
                | FindingCode::OverCap
                | FindingCode::Unapproved
                | FindingCode::Orphan
                | FindingCode::UnreadableRecord
                | FindingCode::NoMachine => continue,
            };
            let alarm = Alarm { cause, port: finding.port, since: now, text: finding.evidence.clone() };
            wanted.insert(finding_key(cause, finding), alarm);
        }
    }
    // What nobody could read is still open when it becomes clear that it must not be.
    let unproved = record.closings.values().flat_map(|closing| unreadable(record, closing));
    wanted.extend(unproved.map(|(key, alarm)| (key.clone(), alarm.clone())));
    for (port, undecided) in record.undecided.iter().filter(|_| mode == Mode::Enforce) {
        let alarm = undecided_alarm(record, *port, undecided, now);
        wanted.extend(alarm.map(|alarm| (undecided_key(*port), alarm)));
    }
    for (port, asking) in record.initiates.iter().filter(|(_, asking)| asking.intents.len() >= BRAKE) {
        let said = match &asking.outcome {
            Some(Outcome::Failed(said) | Outcome::Unknown(said)) => said.as_str(),
            Some(Outcome::Accepted | Outcome::NothingToDelete) | None => "it accepts, and writes no rule",
        };
        let text = format!("JIT was asked {} times to open port {port} of {}: {said}", asking.intents.len(), record.vm.name());
        wanted.insert(format!("brake-{port}"), Alarm { cause: Cause::Brake, port: Some(*port), since: now, text });
    }
    wanted
}

/// The alarm that nobody has decided on what is open at a port, where it stands or has come. It stands until that is adopted or
/// proved shut; what is being shut otherwise has an alarm of its own.
fn undecided_alarm(record: &VmRecord, port: u16, undecided: &Undecided, now: DateTime<Utc>) -> Option<Alarm> {
    let stands = record.alarms.get(&undecided_key(port));
    if stands.is_none() && undecided_due(record, port, undecided).is_none_or(|due| due > now) {
        return None;
    }
    let text = match record.undecided_at(port).next() {
        Some(first) => {
            let sources = record.undecided_sources(port).unwrap_or_default();
            format!("port {port} of {} is open to {sources}, and no grant covers it: {}", record.vm.name(), first.done)
        }
        None => stands.map(|alarm| alarm.text.clone())?,
    };
    Some(Alarm { cause: Cause::Undecided, port: Some(port), since: now, text })
}

fn undecided_key(port: u16) -> String {
    format!("{}-{port}", Cause::Undecided.text())
}

/// When it is an alarm that nobody has decided; never while all that is wrong about the port is being shut.
fn undecided_due(record: &VmRecord, port: u16, undecided: &Undecided) -> Option<DateTime<Utc>> {
    record.undecided_at(port).next().map(|_| undecided.since + ALARM_AFTER)
}

/// When it is an alarm that something has not been shut, unless that is proved before. What is not seen any more lacks its
/// proof alone: time for it counts from its first read, and while the VM `cannot_be_read` the alarm of that says it. So does, as long
/// as it stands, that nobody could read the rule.
fn alarm_at(record: &VmRecord, closing: &Closing, cannot_be_read: bool) -> Option<DateTime<Utc>> {
    if !unreadable(record, closing).is_empty() {
        return None;
    }
    let since = match shows(record, closing) {
        true => closing.since,
        false if cannot_be_read => return None,
        false => closing.clear_since.map_or(closing.since, |first| first.max(closing.since)),
    };
    Some(since + ALARM_AFTER)
}

/// The alarms that stand since nobody could read rules which are being shut by now: they stand until that is proved.
fn unreadable<'a>(record: &'a VmRecord, closing: &Closing) -> Vec<(&'a String, &'a Alarm)> {
    let key = |target: &Opening| {
        let finding = Finding::new(FindingCode::Unreadable, &record.vm.key(), target.port(), &target.rule.to_string(), closing.since);
        finding_key(Cause::Unreadable, &finding)
    };
    closing.targets.iter().filter_map(|target| record.alarms.get_key_value(&key(target))).collect()
}

/// What the alarm of a finding is known by.
fn finding_key(cause: Cause, finding: &Finding) -> String {
    format!("{}-{}", cause.text(), finding.id)
}

/// Whether the last look that saw anything saw something of what has to be shut.
fn shows(record: &VmRecord, closing: &Closing) -> bool {
    record.openings.iter().any(|seen| closing.targets.iter().any(|target| target.is_same(&seen.opening)))
}

/// What is wrong about a port that has to be shut and is not, or not for certain, in one sentence.
fn is_open(record: &VmRecord, port: u16, closing: &Closing) -> String {
    let (is, and, yet) = match shows(record, closing) {
        true => ("is", "and must not be", "Azure has not shut it yet"),
        false => ("was", "is not seen open any more, and not proved shut", "a proof takes two reads of everything that show nothing"),
    };
    let said = closing.trouble.as_ref().map_or(yet, |trouble| &trouble.said);
    format!(
        "port {port} of {} {is} open to {} by rules in {}{}, {and}: {}; {said}",
        record.vm.name(),
        closing.sources(),
        closing.groups(),
        closing.behind.phrase(),
        closing.why.sentence()
    )
}

const BLIND: &str = "cannot-look";

fn next_look(record: &mut VmRecord, now: DateTime<Utc>, mode: Mode) -> Option<DateTime<Utc>> {
    let soon = now + TimeDelta::seconds(1);
    let mut next = None;
    let mut stuck = record.blind.is_some() || record.awaits_opening;
    let mut returned = false;
    for closing in record.closings.values() {
        let sent_now = closing.last_delete == Some(now) && closing.intent.as_ref().is_some_and(Intent::was_deleted);
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
    for (port, asking) in &record.initiates {
        match (&asking.outcome, asking.intents.last()) {
            (Some(Outcome::Failed(_)), _) if asking.intents.len() < BRAKE => stuck = true,
            (_, Some(last)) => {
                // Its rule takes some seconds, and up to two minutes; then it is asked again, or given up.
                let due = [*last + FIRST_READ_AFTER, *last + RULE_TAKES, asking.first + OPENS_WITHIN];
                let due = due.into_iter().chain(record.repeats(*port)).filter(|at| *at > now).min();
                // While nothing can be read nobody gives it up, and looks are asked for by that.
                let overdue = Some(soon).filter(|_| record.blind.is_none());
                next = earliest(next, due.map(|at| at.min(now + RULE_TAKES)).or(overdue));
            }
            (_, None) => {}
        }
    }
    stuck |= record.unsettled;
    if stuck || returned {
        let tries = record.attempts.values().copied().map(u64::from).sum::<u64>() + record.serial + now.timestamp().unsigned_abs();
        let least = if stuck { TimeDelta::zero() } else { FIRST_READ_AFTER };
        next = earliest(next, Some(now + record.take_pause(tries).max(least)));
    } else {
        record.pause_seconds = 0;
    }
    // In observe mode too: that an opening has outlived the limit is told when it has.
    next = earliest(next, record.judge_again.map(|again| again.max(soon)));
    next = earliest(next, record.grants.iter().filter_map(|grant| grant.next_turn(now)).min());
    let approved = record.grants.iter().filter(|grant| grant.phase == Phase::Approved);
    let unsent = approved.map(|grant| match mode {
        // The run may have ended before it could ask JIT.
        Mode::Enforce => soon + RULE_TAKES,
        Mode::Observe => (grant.from + SENT_WITHIN).max(soon),
    });
    next = earliest(next, unsent.min());
    next = earliest(next, record.grants.iter().filter_map(|grant| proof_due(grant, soon)).min());
    next = earliest(next, record.grants.iter().filter_map(|grant| confirmation_due(grant, now)).min());
    if let Some(hold) = record.not_before {
        next = next.map(|at| at.max(hold));
    }
    earliest(next, alarm_due(record, mode))
}

/// When the second read is due that proves a grant over, or the first one that could begin to.
fn proof_due(grant: &Grant, soon: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let first = grant.first_shut_read.map(|first| (first + BETWEEN_READS + TimeDelta::seconds(1)).max(soon));
    first.or_else(|| (grant.phase == Phase::Closing).then_some(soon + LOOKS_FOR_AN_END))
}

/// While a grant that has ended still shows, its closing asks for looks; this one only makes sure that there is one.
const LOOKS_FOR_AN_END: TimeDelta = TimeDelta::seconds(59);

/// When a claim has to be looked after: the activity log lags by minutes.
fn confirmation_due(grant: &Grant, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    grant.confirm_by.filter(|_| grant.is_live(now)).map(|by| by.min(now + CONFIRMATION_EVERY))
}

const CONFIRMATION_EVERY: TimeDelta = TimeDelta::minutes(2);

/// How often an `initiate` is looked after: recorded ones wrote their rule after some 12 seconds.
const RULE_TAKES: TimeDelta = TimeDelta::seconds(15);

/// How long after an accepted delete the first read is made: recorded deletes take a few seconds.
const FIRST_READ_AFTER: TimeDelta = TimeDelta::seconds(5);

/// When the next alarm falls due by time alone; Azure's wish for quiet does not delay it.
fn alarm_due(record: &VmRecord, mode: Mode) -> Option<DateTime<Utc>> {
    let closings = record.closings.iter().filter(|(port, _)| !record.alarms.contains_key(&format!("close-{port}")));
    let blind = record.blind.as_ref().filter(|_| !record.alarms.contains_key(BLIND));
    let cannot_be_read = record.alarms.contains_key(BLIND);
    let undecided =
        record.undecided.iter().filter(|(port, _)| mode == Mode::Enforce && !record.alarms.contains_key(&undecided_key(**port)));
    let closings = closings.filter_map(|(_, closing)| alarm_at(record, closing, cannot_be_read));
    let undecided = undecided.filter_map(|(port, undecided)| undecided_due(record, *port, undecided));
    closings.chain(undecided).chain(blind.map(|blind| blind.since + ALARM_AFTER)).min()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::finding::Severity;
    use crate::grant::Phase;
    use crate::jit::{JitRecord, RecordStatus};
    use crate::judge::Violation;
    use crate::ruling::Ruling;
    use crate::samples::{at, grant, opening, opening_in, record};
    use crate::story::{Story, any, home, kinds, remark, said};

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
            ["Alarm: port 22 of vm1 is open to * by rules in g, and must not be: it lets in *, which amounts to the whole internet; \
              Azure has not shut it yet. What to do: if it must be shut now, delete the rules by hand; Portcullis goes on trying"]
        );
        assert_eq!(story.conclude("10:06:00"), []);
        assert_eq!(story.memory.alarms["close-22"].since, at("10:05:00"));
        story.openings.clear();
        story.look("10:07:00");
        assert_eq!(story.conclude("10:07:00"), []);
        story.look("10:08:00");
        let audits = story.conclude("10:08:00");
        assert_eq!((kinds(&audits), audits[0].severity), (vec!["alarm-cleared"], Severity::Informational));
        assert!(audits[0].message().starts_with("The alarm is over, after 3 min: port 22 of vm1"), "{}", audits[0].message());
        assert!(story.memory.is_at_rest() && story.next().is_none());
    }

    #[test]
    fn the_alarm_of_a_rule_that_nobody_can_read_stands_until_it_is_proved_shut() {
        let mut story = Story::of(vec![opening(1, "22", &["??"])]);
        story.look("01:00:00");
        assert_eq!(kinds(&story.conclude("01:00:00")), ["alarm-raised"]);
        // It outlives the longest opening, and the group is busy for longer than an alarm waits.
        for time in ["09:00:01", "09:03:00", "09:07:00"] {
            assert_eq!(story.look(time).closes.len(), 1, "{time}");
            story.delete(time, &opening(1, "22", &["??"]), Outcome::Failed("busy".to_owned()), None);
            assert_eq!(kinds(&story.conclude(time)), Vec::<&str>::new(), "{time}");
            assert!(story.next() > Some(at(time)), "{time}");
        }
        story.openings.clear();
        story.look("09:08:00");
        assert_eq!(story.conclude("09:08:00"), []);
        story.look("09:09:00");
        assert_eq!(kinds(&story.conclude("09:09:00")), ["alarm-cleared"]);
        assert!(story.memory.is_at_rest());
    }

    #[test]
    fn that_nobody_can_read_a_rule_is_over_with_a_second_settled_read_that_does_not_show_it() {
        let mut story = Story::of(vec![opening(1, "22", &["??"])]);
        story.look("10:00:00");
        assert_eq!(kinds(&story.conclude("10:00:00")), ["alarm-raised"]);
        let shown = story.openings.clone();
        for (time, settled, shows) in [
            ("10:01:00", true, false),
            ("10:02:00", true, true),
            ("10:03:00", false, false),
            ("10:04:00", true, false),
            ("10:04:20", true, false),
        ] {
            (story.openings, story.settled) = (if shows { shown.clone() } else { Vec::new() }, settled);
            story.look(time);
            assert_eq!(story.conclude(time), [], "{time}");
            assert!(shows || story.next().is_some_and(|next| next > at(time) && next <= at(time) + TimeDelta::minutes(1)), "{time}");
        }
        story.look("10:04:32");
        assert_eq!(kinds(&story.conclude("10:04:32")), ["alarm-cleared"]);
        assert!(story.memory.is_at_rest() && story.next().is_none());
    }

    #[test]
    fn what_jit_leaves_behind_is_shut_before_it_is_an_alarm_that_nobody_decided() {
        let mut story = Story::of(vec![home(1)]);
        story.records = vec![record(22, "203.0.113.4", "09:00:00", "10:00:00", RecordStatus::Revoked)];
        for time in ["10:00:00", "10:04:59"] {
            assert_eq!(story.look(time).closes, [], "{time}");
            assert_eq!((story.conclude(time), story.next()), (Vec::new(), Some(at("10:05:00"))), "{time}");
        }
        let closes = story.look("10:05:00").closes;
        assert_eq!(closes.iter().map(|close| close.why.code()).collect::<Vec<_>>(), ["expired"]);
        story.delete("10:05:00", &home(1), Outcome::Accepted, None);
        story.openings.clear();
        assert_eq!(story.conclude("10:05:00"), []);
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
    fn a_rule_that_azure_took_away_lets_the_pauses_for_the_others_begin_anew() {
        let busy = || Outcome::Failed("429: RetryableError".to_owned());
        for (outcome, bound) in [(Outcome::Accepted, 4), (Outcome::NothingToDelete, 4), (busy(), 60)] {
            let mut story = Story::of(vec![any(1), any(2)]);
            story.look("10:00:00");
            story.memory.pause_seconds = 60;
            story.delete("10:00:00", &any(1), outcome.clone(), None);
            story.delete("10:00:00", &any(2), busy(), None);
            story.conclude("10:00:00");
            assert_eq!(story.memory.pause_seconds, bound, "{outcome:?}");
        }
        // One that comes back each time does not: the deletes of it would go on every five seconds.
        let mut story = Story::of(vec![any(1), any(2)]);
        story.look("10:00:00");
        story.delete("10:00:00", &any(1), Outcome::Accepted, None);
        story.memory.pause_seconds = 60;
        story.delete("10:03:00", &any(1), Outcome::Accepted, None);
        story.delete("10:03:00", &any(2), busy(), None);
        story.conclude("10:03:00");
        assert_eq!(story.memory.pause_seconds, 60);
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
    fn an_opening_on_which_nobody_decides_is_one_alarm_a_port_until_it_is_adopted_or_proved_shut() {
        let waits = || Ruling::Wait { until: at("10:30:00"), why: "Microsoft Graph answered 503".to_owned() };
        let there = || vec![home(1), opening_in("subnet", 1, "22", &["203.0.113.4"])];
        for adopted in [true, false] {
            let mut story = Story::of(there());
            story.rulings = there().into_iter().map(|opening| (opening.rule, waits())).collect();
            for (time, alarms) in [("10:00:00", 0), ("10:04:59", 0), ("10:05:00", 1), ("10:06:00", 0)] {
                story.look(time);
                let audits = story.conclude(time);
                assert_eq!(audits.len(), alarms, "{time}: {audits:?}");
                if time < "10:05:00" {
                    assert_eq!(story.next(), Some(at("10:05:00")));
                }
            }
            let alarm = &story.memory.alarms["undecided-22"];
            assert!(alarm.text.ends_with("and no grant covers it: it is left for now: Microsoft Graph answered 503"), "{alarm:?}");
            if adopted {
                story.memory.grants = vec![grant("g", 22, "203.0.113.4", "11:00:00", Phase::Open)];
                story.look("10:07:00");
                assert_eq!(kinds(&story.conclude("10:07:00")), ["alarm-cleared"]);
                continue;
            }
            let why = Violation::Unapproved { said: "nobody could be asked for 30 min".to_owned() };
            let shut = || Ruling::Shut { why: why.clone(), rule: None, decision: None };
            story.rulings = there().into_iter().map(|opening| (opening.rule, shut())).collect();
            for (time, cleared) in [("10:30:00", 0), ("10:30:10", 0), ("10:31:00", 1)] {
                story.look_and_shut(time);
                assert_eq!(story.conclude(time).len(), cleared, "{time}: it is shut when that is proved");
            }
        }
        let mut observed = Story::of(there());
        observed.mode = Mode::Observe;
        observed.look("10:00:00");
        observed.look("10:30:00");
        assert_eq!(observed.conclude("10:30:00"), []);
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

    #[test]
    fn observe_mode_withdraws_an_alarm_and_does_not_say_that_it_is_over() {
        let mut story = Story::of(vec![any(1)]);
        story.look("10:00:00");
        story.delete("10:00:00", &any(1), Outcome::Failed("locked".to_owned()), Some(Cause::Lock));
        assert_eq!(kinds(&story.conclude("10:00:00")), ["alarm-raised"]);
        story.mode = Mode::Observe;
        story.look("10:10:00");
        let audits = story.conclude("10:10:00");
        let said = "The alarm is withdrawn after 10 min, since observe mode shuts nothing; what it says may still be so: port 22";
        assert!(audits[0].message().starts_with(said), "{}", audits[0].message());
    }

    #[test]
    fn observe_mode_looks_once_more_when_an_opening_has_stood_too_long() {
        let mut story = Story::of(vec![home(1)]);
        story.mode = Mode::Observe;
        story.look("10:00:00");
        story.conclude("10:00:00");
        assert_eq!(story.next(), Some(at("18:00:01")));
        assert_eq!(kinds(&story.look("18:00:01").audits), ["would-close", "finding-appeared", "finding-gone"]);
        story.conclude("18:00:01");
        assert_eq!(story.next(), None);
    }

    #[test]
    fn an_alarm_names_every_group_and_who_asked() {
        let mut story = Story::of(vec![any(1), opening_in("subnet", 2, "22", &["*"])]);
        let asked = record(22, "*", "09:59:00", "11:00:00", RecordStatus::Initiated);
        story.records = vec![JitRecord { requestor: Some("ada@contoso.com".to_owned()), ..asked }];
        story.look("10:00:00");
        story.delete("10:00:00", &any(1), Outcome::Failed("locked".to_owned()), Some(Cause::Lock));
        let audits = story.conclude("10:00:00");
        let said =
            "Alarm: port 22 of vm1 is open to * by rules in g and subnet, asked for by ada@contoso.com until 2026-01-15T11:00:00Z, and";
        assert!(audits[0].message().starts_with(said), "{}", audits[0].message());
        assert_eq!(
            (audits[0].behind.one(), audits[0].sources.clone()),
            (Some("ada@contoso.com"), Some(crate::source::Sources::internet()))
        );
    }
}
