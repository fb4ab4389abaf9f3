//! What JIT opened and took away again while nobody could look: its record tells, and is judged for itself.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::audits::Audits;
use crate::grant::live_sources;
use crate::jit::JitRecord;
use crate::judge::{Violation, asked_too_long, is_for_port, is_for_sources};
use crate::opening::{Opening, short_hash};
use crate::reconcile::{Look, RULE_MAY_COME};
use crate::record::VmRecord;

/// For so long after its start a record is asked about: what is older is history, of which Azure keeps weeks.
pub const REMEMBERED: TimeDelta = TimeDelta::days(1);

/// So many of a VM's records are asked about, the newest: somebody who asks every minute must not fill the VM's document.
const MOST: usize = 200;

/// Notes which of JIT's records a look has accounted for, before it is remembered what this one saw: a record whose opening
/// was seen, or that Portcullis asked for itself, and one that never showed an opening, which is told once. None of it is told
/// while its rule may still come.
pub(crate) fn account(record: &mut VmRecord, openings: &[Opening], look: &Look<'_>, audits: &mut Audits) {
    if look.jit.is_none() {
        return;
    }
    let is_recent = |one: &&JitRecord| one.start <= look.now && one.start + REMEMBERED > look.now;
    let mut recent: Vec<&JitRecord> = look.records().iter().filter(is_recent).collect();
    recent.sort_by_key(|one| one.start);
    let mut accounted = BTreeMap::new();
    for one in &recent[recent.len().saturating_sub(MOST)..] {
        let key = key(one);
        let is_known = record.accounted.contains_key(&key) || is_explained(record, openings, one);
        let may_come = one.is_initiating(look.now) || one.start + RULE_MAY_COME > look.now;
        if !is_known && may_come {
            continue;
        }
        if !is_known {
            let violation = violation(one, look);
            audits.missed(record, one, &violation);
        }
        accounted.insert(key, one.start);
    }
    // One that Azure does not show at the moment may show again.
    let mut others: Vec<(String, DateTime<Utc>)> =
        std::mem::take(&mut record.accounted).into_iter().filter(|(_, start)| *start + REMEMBERED > look.now).collect();
    others.sort_by_key(|(_, start)| *start);
    while accounted.len() < MOST
        && let Some((key, start)) = others.pop()
    {
        accounted.insert(key, start);
    }
    record.accounted = accounted;
}

/// What a record is known by. Its status changes, and with it perhaps its end.
fn key(one: &JitRecord) -> String {
    short_hash(&format!("{} {} {}", one.port, one.start.timestamp_micros(), one.sources))
}

/// Whether a look has seen what it is the reason of, or it is known whose it is.
fn is_explained(record: &VmRecord, openings: &[Opening], one: &JitRecord) -> bool {
    let is_seen = |opening: &Opening| is_for_port(one, opening) && (is_for_sources(one, opening) || !opening.sources.is_understood());
    openings.iter().chain(record.remembered()).any(is_seen)
        || record.is_ours_or_ended(one)
        || live_sources(&record.grants, one.port, one.start).covers(&one.sources)
}

/// What was wrong about it, as far as it tells itself. The rules are not asked about what is over.
fn violation(one: &JitRecord, look: &Look<'_>) -> Violation {
    if one.sources.amounts_to_internet() {
        return Violation::AnySource { sources: one.sources.clone() };
    }
    asked_too_long(one.length(), look.limits)
        .unwrap_or_else(|| Violation::Unapproved { said: "no grant covered it, and rules are not asked about what is over".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{AuditKind, AuditRecord};
    use crate::finding::Severity;
    use crate::jit::RecordStatus;
    use crate::record::Asked;
    use crate::samples::{at, record};
    use crate::source::Sources;
    use crate::story::{Story, any, home};

    fn revoked(start: &str, end: &str) -> JitRecord {
        JitRecord { requestor: Some("ada@contoso.com".to_owned()), ..record(22, "203.0.113.4", start, end, RecordStatus::Revoked) }
    }

    fn told(story: &mut Story, time: &str) -> Vec<AuditRecord> {
        let told = story.look(time).audits;
        told.into_iter().filter(|audit| audit.kind == AuditKind::Missed).collect()
    }

    fn with(records: Vec<JitRecord>) -> Story {
        Story { records, ..Story::of(Vec::new()) }
    }

    #[test]
    fn what_was_gone_before_anybody_looked_is_told_once() {
        let mut story = with(vec![revoked("09:00:00", "09:05:00")]);
        let audits = told(&mut story, "10:00:00");
        assert_eq!(
            audits[0].message(),
            "Port 22 of vm1 was asked to be open to 203.0.113.4 from 2026-01-15T09:00:00Z, asked for by ada@contoso.com until \
             2026-01-15T09:05:00Z, and no look saw it open: no grant covered it, and rules are not asked about what is over; \
             JIT says that it is Revoked, and it is not open now"
        );
        assert_eq!(
            (audits.len(), audits[0].code.as_str(), audits[0].severity, audits[0].port, &audits[0].sources),
            (1, "unapproved", Severity::Medium, Some(22), &Some(Sources::read(["203.0.113.4"])))
        );
        assert_eq!(audits[0].behind.one(), Some("ada@contoso.com"));
        assert!(told(&mut story, "10:05:00").is_empty());
        // Azure may drop it and show it again.
        let record = story.records.pop().unwrap();
        assert!(told(&mut story, "10:10:00").is_empty());
        story.records.push(JitRecord { status: RecordStatus::Initiated, end: at("09:04:00"), ..record });
        assert!(told(&mut story, "10:15:00").is_empty());
        assert!(story.memory.is_at_rest());
    }

    #[test]
    fn a_limit_that_it_broke_is_named() {
        for (sources, end, code) in
            [("*", "09:05:00", "any-source"), ("203.0.113.4", "17:00:01", "overlong"), ("203.0.113.4", "17:00:00", "unapproved")]
        {
            let mut story = with(vec![record(22, sources, "09:00:00", end, RecordStatus::Revoked)]);
            let audits = told(&mut story, "10:00:00");
            assert_eq!(audits.iter().map(|audit| audit.code.as_str()).collect::<Vec<_>>(), [code], "{sources} {end}");
        }
    }

    #[test]
    fn nothing_is_told_while_its_rule_may_still_come() {
        let mut story = with(vec![record(22, "*", "09:00:00", "10:00:00", RecordStatus::Initiated)]);
        assert!(told(&mut story, "09:02:29").is_empty());
        story.records[0].status = RecordStatus::Initiating;
        assert!(told(&mut story, "09:03:00").is_empty());
        story.records[0].status = RecordStatus::Initiated;
        assert_eq!(told(&mut story, "09:03:30").len(), 1);
    }

    #[test]
    fn what_was_seen_open_is_not_told_when_it_is_gone() {
        for opening in [home(1), any(1)] {
            let mut story = with(vec![revoked("09:00:00", "10:00:00")]);
            story.records[0].status = RecordStatus::Initiated;
            story.openings = vec![opening];
            assert!(told(&mut story, "09:00:20").is_empty());
            story.openings.clear();
            assert!(told(&mut story, "09:10:00").is_empty());
        }
        // Also where JIT could not be read when it was seen.
        let mut story = with(vec![revoked("09:00:00", "10:00:00")]);
        (story.openings, story.jit_unread) = (vec![home(1)], true);
        story.look("09:00:20");
        (story.openings, story.jit_unread) = (Vec::new(), false);
        assert!(told(&mut story, "09:10:00").is_empty());
    }

    #[test]
    fn another_opening_of_the_port_does_not_explain_it() {
        let mut story = with(vec![record(22, "198.51.100.7", "09:00:00", "10:00:00", RecordStatus::Revoked)]);
        story.openings = vec![home(1)];
        assert_eq!(told(&mut story, "09:10:00").len(), 1);
    }

    #[test]
    fn what_portcullis_asked_for_is_its_own() {
        let mut story = with(vec![revoked("09:00:00", "10:00:00")]);
        let asked = Asked { port: 22, sources: Sources::read(["203.0.113.4"]), at: at("09:00:00"), until: at("10:00:00") };
        story.memory.asked = vec![asked];
        assert!(told(&mut story, "11:00:00").is_empty());
        // And stays so when it is forgotten what was asked for.
        story.memory.asked.clear();
        assert!(told(&mut story, "11:05:00").is_empty());
    }

    #[test]
    fn what_is_older_than_a_day_is_history_and_so_is_what_somebody_asks_for_without_end() {
        let start = |n: i64| at("09:00:00") + TimeDelta::seconds(n);
        let of = |start: DateTime<Utc>| JitRecord { start, end: start + TimeDelta::minutes(1), ..revoked("09:00:00", "09:01:00") };
        let mut story = with(vec![of(at("10:00:00") - REMEMBERED), of(at("10:00:01") - REMEMBERED), of(at("10:00:01"))]);
        assert_eq!(told(&mut story, "10:00:00").len(), 1);
        let mut story = with((0..300).map(|n| of(start(n))).collect());
        assert_eq!(told(&mut story, "10:00:00").len(), MOST);
        assert_eq!(story.memory.accounted.len(), MOST);
        assert!(told(&mut story, "10:00:01").is_empty());
    }
}
