//! What the rules have to be asked about an opening around Portcullis, and what they answered.
//!
//! Rules are worked out elsewhere: they need people's groups and tags of machines, which are read. Here is for whom an
//! opening may have been made, and what a ruling does to it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::arm_id::RuleId;
use crate::behind::CLOCKS_DIFFER_BY;
use crate::duration::of_seconds;
use crate::grant::Grant;
use crate::jit::JitRecord;
use crate::judge::{Violation, records_of};
use crate::opening::Opening;
use crate::record::{Claim, VmRecord};
use crate::want::Wanter;

/// So long after its record's start an opening is nobody's, if nothing says whose it is: events take a moment.
pub const NOBODYS_AFTER: TimeDelta = TimeDelta::minutes(5);

/// So often it is tried again to find out what a decision needs and could not be told: until then nobody has decided.
pub const TRIED_AGAIN_AFTER: TimeDelta = TimeDelta::minutes(1);

/// So long a claim has time to be confirmed, and so long the groups of somebody have time to be told.
pub const CONFIRMED_WITHIN: TimeDelta = TimeDelta::minutes(30);

/// Whose an opening may be, by one record of JIT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The record; absent where none that still runs can be the reason of the opening.
    pub record: Option<JitRecord>,
    /// Who it says, or what events say.
    pub said_to_be: SaidToBe,
}

/// Who is said to have made an opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaidToBe {
    /// JIT's own record names somebody.
    Named(String),
    /// Only events do, each once a person.
    Claimed(Vec<Claim>),
    /// Nothing does, since this time.
    Nobody(DateTime<Utc>),
}

/// Whether something that was done then may have made this record: they lie no further apart than clocks do, and no record
/// that started at one of these times lies nearer. Where two lie as near, it may have made either.
pub fn may_have_made(at: DateTime<Utc>, record: &JitRecord, starts: &[DateTime<Utc>]) -> bool {
    is_near(at, record, nearest(at, starts))
}

/// Whether an event is about what made this record, as far as anybody has seen: [`may_have_made`], and no record that is gone by
/// now lay nearer.
pub fn is_claim_of(claim: &Claim, record: &JitRecord, starts: &[DateTime<Utc>]) -> bool {
    is_claim_with(claim, record, nearest(claim.at, starts))
}

/// The records that an event may be about: each of which it [is a claim of](is_claim_of).
pub fn claimed_by<'a>(claim: &Claim, all: &[&'a JitRecord]) -> Vec<&'a JitRecord> {
    let nearest = nearest(claim.at, &starts_of(all.iter().copied()));
    all.iter().copied().filter(|record| is_claim_with(claim, record, nearest)).collect()
}

fn is_claim_with(claim: &Claim, record: &JitRecord, nearest: Option<TimeDelta>) -> bool {
    let was_nearer = claim.apart_seconds.is_some_and(|least| apart(claim.at, record) > of_seconds(least) + AS_NEAR);
    claim.is_initiate() && !was_nearer && is_near(claim.at, record, nearest)
}

fn is_near(at: DateTime<Utc>, record: &JitRecord, nearest: Option<TimeDelta>) -> bool {
    let apart = apart(at, record);
    apart <= CLOCKS_DIFFER_BY && nearest.is_none_or(|nearest| apart <= nearest + AS_NEAR)
}

/// How far the nearest of the records that started at these times lies from something that was done then.
pub fn nearest(at: DateTime<Utc>, starts: &[DateTime<Utc>]) -> Option<TimeDelta> {
    starts.iter().map(|start| (at - *start).abs()).min()
}

/// When these records started.
pub fn starts_of<'a>(records: impl IntoIterator<Item = &'a JitRecord>) -> Vec<DateTime<Utc>> {
    records.into_iter().map(|record| record.start).collect()
}

fn apart(at: DateTime<Utc>, record: &JitRecord) -> TimeDelta {
    (at - record.start).abs()
}

/// What lies no further from the nearest than this is as near: times are given to the second.
const AS_NEAR: TimeDelta = TimeDelta::seconds(1);

/// Whose an opening may be: one answer for each record that runs and was asked for all that the opening lets in, or one for
/// none. What Portcullis asked for itself, and what an adopted grant was ended for before its time, is no reason to adopt.
/// `starts` are those of all records of the VM's policies, of other VMs too: what made one of them did not make this one.
pub fn candidates(
    opening: &Opening,
    records: &[JitRecord],
    starts: &[DateTime<Utc>],
    memory: &VmRecord,
    now: DateTime<Utc>,
) -> Vec<Candidate> {
    let running = running(opening, records, memory, now).filter(|record| !memory.is_ours_or_ended(record));
    let found: Vec<Candidate> =
        running.map(|record| Candidate { record: Some(record.clone()), said_to_be: said_to_be(record, starts, &memory.claims) }).collect();
    if found.is_empty() {
        let since = memory.first_seen(opening).unwrap_or(now);
        return vec![Candidate { record: None, said_to_be: SaidToBe::Nobody(since) }];
    }
    found
}

/// Whether nothing but what is over can be the reason of an opening: what Portcullis asked for itself, or an adopted grant that was
/// ended before its time. No grant covers it, or nobody would ask.
pub fn is_left_over(opening: &Opening, records: &[JitRecord], memory: &VmRecord, now: DateTime<Utc>) -> bool {
    let mut running = running(opening, records, memory, now).peekable();
    running.peek().is_some() && running.all(|record| memory.is_ours_or_ended(record))
}

/// Whether an opening lets in at more ports than the records were asked for that let in its sources: nobody asked for the others.
pub fn opens_more_ports(opening: &Opening, records: &[JitRecord], memory: &VmRecord, now: DateTime<Utc>) -> bool {
    let asked: BTreeSet<u16> = running(opening, records, memory, now).map(|record| record.port).collect();
    !asked.is_empty() && asked.iter().filter(|port| opening.ports.contains(**port)).count() < opening.ports.len()
}

/// The records that run and were asked for all that an opening lets in.
fn running<'a>(
    opening: &'a Opening,
    records: &'a [JitRecord],
    memory: &VmRecord,
    now: DateTime<Utc>,
) -> impl Iterator<Item = &'a JitRecord> {
    let runs = move |record: &&JitRecord| record.sources.covers(&opening.sources) && record.end > now;
    records_of(opening, records, memory.port_shut(opening)).filter(runs)
}

fn said_to_be(record: &JitRecord, starts: &[DateTime<Utc>], claims: &[Claim]) -> SaidToBe {
    if let Some(name) = &record.requestor {
        return SaidToBe::Named(name.clone());
    }
    let near = |claim: &&Claim| is_claim_of(claim, record, starts);
    let by_person: BTreeMap<&str, &Claim> = claims.iter().filter(near).map(|claim| (claim.object_id.as_str(), claim)).collect();
    if by_person.is_empty() { SaidToBe::Nobody(record.start) } else { SaidToBe::Claimed(by_person.into_values().cloned().collect()) }
}

/// What the rules say of an opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Somebody may have it open: these grants cover it.
    Adopt(Vec<Adoption>),
    /// Nobody may.
    Shut {
        /// Why.
        why: Violation,
        /// The rule that says so, where one does.
        rule: Option<String>,
        /// The decision whole, as it is stored; absent where nothing could be decided.
        decision: Option<Value>,
    },
    /// It cannot be told yet.
    Wait {
        /// When it has to be told again at the latest.
        until: DateTime<Utc>,
        /// Why, as the end of a sentence.
        why: String,
    },
}

/// A grant for what was opened around Portcullis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adoption {
    /// The grant, open.
    pub grant: Grant,
    /// The decision in one sentence.
    pub said: String,
    /// The decision whole, as it is stored.
    pub decision: Value,
}

/// Rulings by the rule of the security group that makes the opening.
pub type Rulings = BTreeMap<RuleId, Ruling>;

/// What was found out about a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// Somebody else says the same, or that it was another person who is permitted it, too.
    Confirmed {
        /// Who says so, as the end of a sentence.
        by: String,
        /// Whose it is by that, and by which name, where it says so.
        who: Option<Wanter>,
    },
    /// Somebody else says that it was another person.
    Contradicted {
        /// What is known instead.
        said: String,
    },
}

/// Confirmations by the id of the grant.
pub type Confirmations = BTreeMap<String, Confirmation>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jit::RecordStatus;
    use crate::record::{Asked, EndedEarly, SeenOpening};
    use crate::samples::{at, opening, record, vm};
    use crate::source::Sources;

    #[test]
    fn a_rule_that_opens_more_ports_than_were_asked_for_is_told_by_its_records() {
        let asked = |ports: &[u16]| -> Vec<JitRecord> {
            ports.iter().map(|port| record(*port, "203.0.113.4", "09:50:00", "11:00:00", RecordStatus::Initiated)).collect()
        };
        for (ports, records, is_more) in [
            ("22", asked(&[22]), false),
            ("22-65535", asked(&[22]), true),
            ("22-23", asked(&[22, 23]), false),
            ("22-23", asked(&[22, 3389]), true),
            ("22-23", Vec::new(), false),
        ] {
            let opening = opening(1, ports, &["203.0.113.4"]);
            assert_eq!(opens_more_ports(&opening, &records, &VmRecord::new(vm()), at("10:00:00")), is_more, "{ports}");
        }
    }

    fn claim(time: &str, person: &str) -> Claim {
        let (event, name) = (format!("{time}{person}"), person.to_owned());
        Claim { event, at: at(time), object_id: person.to_owned(), name, operation: "initiate".to_owned(), apart_seconds: None }
    }

    fn asked(start: &str, end: &str, by: Option<&str>) -> JitRecord {
        JitRecord { requestor: by.map(str::to_owned), ..record(22, "203.0.113.4", start, end, RecordStatus::Initiated) }
    }

    fn told(records: &[JitRecord], claims: &[Claim], port_shut: Option<&str>) -> Vec<String> {
        let one = opening(1, "22", &["203.0.113.4"]);
        let mut memory = VmRecord::new(vm());
        memory.claims = claims.to_vec();
        memory.openings.push(SeenOpening { opening: one.clone(), first: at("09:30:00") });
        memory.shut.extend(port_shut.map(|time| (22, at(time))));
        let found = candidates(&one, records, &starts_of(records), &memory, at("10:00:00"));
        let said = |candidate: Candidate| match candidate.said_to_be {
            SaidToBe::Named(name) => format!("named {name}"),
            SaidToBe::Claimed(claims) => claims.iter().map(|claim| claim.event.clone()).collect::<Vec<_>>().join(" "),
            SaidToBe::Nobody(since) => format!("nobody since {}", since.format("%H:%M")),
        };
        found.into_iter().map(said).collect()
    }

    #[test]
    fn a_record_that_names_somebody_counts_before_every_event() {
        let records = [asked("09:00:00", "11:00:00", Some("ada@contoso.com")), asked("09:30:00", "11:00:00", Some("bob@contoso.com"))];
        assert_eq!(told(&records, &[claim("09:00:00", "mallory")], None), ["named ada@contoso.com", "named bob@contoso.com"]);
    }

    #[test]
    fn a_record_for_less_than_the_opening_of_our_own_or_of_an_ended_grant_is_no_reason() {
        let one = opening(1, "22", &["203.0.113.0/24"]);
        let of = |source: &str| JitRecord { sources: Sources::read([source]), ..asked("09:00:00", "11:00:00", Some("ada")) };
        let mut memory = VmRecord::new(vm());
        memory.openings.push(SeenOpening { opening: one.clone(), first: at("09:30:00") });
        let said = |memory: &VmRecord, record: JitRecord| {
            let found = candidates(&one, std::slice::from_ref(&record), &[record.start], memory, at("10:00:00"));
            found.len() == 1 && matches!(found[0].said_to_be, SaidToBe::Named(_))
        };
        assert!(said(&memory, of("203.0.113.0/24")) && said(&memory, of("203.0.112.0/23")));
        assert!(!said(&memory, of("203.0.113.4")));
        // What a record says of itself makes it nobody's; what is remembered of it does.
        assert!(said(&memory, JitRecord { justification: Some("Portcullis: x".to_owned()), ..of("203.0.113.0/24") }));
        let asked = |source: &str, until: &str| Asked { port: 22, sources: Sources::read([source]), at: at("08:59:57"), until: at(until) };
        for (ask, ours) in [
            (asked("203.0.113.0/24", "11:00:00"), true),
            (asked("203.0.113.0/25", "11:00:00"), false),
            (asked("203.0.113.0/24", "11:00:02"), false),
            (Asked { port: 23, ..asked("203.0.113.0/24", "11:00:00") }, false),
            (Asked { at: at("08:54:59"), ..asked("203.0.113.0/24", "11:00:00") }, false),
        ] {
            memory.asked = vec![ask.clone()];
            assert_eq!(said(&memory, of("203.0.113.0/24")), !ours, "{ask:?}");
        }
        memory.asked.clear();
        memory.ended_early.push(EndedEarly { port: 22, from: at("09:00:00"), until: at("11:00:00") });
        assert!(!said(&memory, of("203.0.113.0/24")));
    }

    #[test]
    fn what_was_opened_for_something_that_is_over_alone_is_left_over() {
        let one = opening(1, "22", &["203.0.113.4"]);
        let (ours, others) = (asked("09:00:00", "11:00:00", None), asked("09:40:00", "11:00:00", Some("eve")));
        let mut memory = VmRecord::new(vm());
        let left_over = |memory: &VmRecord, records: &[JitRecord]| is_left_over(&one, records, memory, at("10:00:00"));
        assert!(!left_over(&memory, std::slice::from_ref(&ours)), "nothing says that it is ours");
        let sources = Sources::read(["203.0.113.4"]);
        memory.asked = vec![Asked { port: 22, sources, at: at("09:00:00"), until: at("11:00:00") }];
        assert!(left_over(&memory, std::slice::from_ref(&ours)));
        assert!(
            !left_over(&memory, &[ours, others.clone()]) && !left_over(&memory, std::slice::from_ref(&others)) && !left_over(&memory, &[])
        );
        memory.ended_early.push(EndedEarly { port: 22, from: at("09:40:00"), until: at("11:00:00") });
        assert!(left_over(&memory, &[others]));
    }

    #[test]
    fn a_claim_of_a_record_that_is_gone_is_not_one_of_the_next_nearest() {
        let mine = asked("09:00:00", "11:00:00", None);
        let of = |apart_seconds| is_claim_of(&Claim { apart_seconds, ..claim("09:02:00", "eve") }, &mine, &[mine.start]);
        assert_eq!([None, Some(0), Some(118), Some(119), Some(120)].map(of), [true, false, false, true, true]);
    }

    #[test]
    fn the_claims_of_a_record_are_those_near_its_start_one_for_each_person() {
        let claims = [
            claim("08:54:59", "a"),
            claim("08:55:00", "b"),
            claim("09:00:00", "c"),
            claim("09:01:00", "c"),
            claim("09:05:00", "d"),
            claim("09:05:01", "e"),
            Claim { operation: "write".to_owned(), ..claim("09:00:00", "f") },
        ];
        assert_eq!(told(&[asked("09:00:00", "11:00:00", None)], &claims, None), ["08:55:00b 09:01:00c 09:05:00d"]);
    }

    #[test]
    fn a_claim_is_of_the_record_that_is_nearest_and_of_both_that_are_as_near() {
        let (one, other) = (asked("09:00:00", "11:00:00", None), asked("09:01:00", "11:00:00", None));
        let both = [one.clone(), other];
        assert_eq!(told(&both, &[claim("09:00:02", "a"), claim("09:00:58", "b")], None), ["09:00:02a", "09:00:58b"]);
        assert_eq!(told(&both, &[claim("09:00:30", "c")], None), ["09:00:30c", "09:00:30c"]);
        assert_eq!(told(&both, &[claim("09:00:00", "a")], None), ["09:00:00a", "nobody since 09:01"]);
        assert!(may_have_made(at("09:05:00"), &one, &[]) && !may_have_made(at("09:05:01"), &one, &[]));
    }

    #[test]
    fn what_nothing_tells_is_nobodys_since_its_record_or_since_it_was_seen() {
        assert_eq!(told(&[asked("09:00:00", "11:00:00", None)], &[], None), ["nobody since 09:00"]);
        // No record, one that is over, and one that is history: a claim alone says nothing of how long.
        for records in [vec![], vec![asked("09:00:00", "10:00:00", Some("ada"))], vec![asked("08:00:00", "11:00:00", Some("ada"))]] {
            assert_eq!(told(&records, &[claim("09:00:00", "ada")], Some("08:30:00")), ["nobody since 09:30"], "{records:?}");
        }
    }
}
