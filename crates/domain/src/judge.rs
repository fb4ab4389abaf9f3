//! Judgement of openings by the hard limits: what no rule can allow.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::duration;
use crate::grant::{End, Grant, live_sources};
use crate::jit::JitRecord;
use crate::opening::Opening;
use crate::record::{Asked, EndedEarly};
use crate::source::Sources;

/// The limits of an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest time for which a direct opening may be asked, and for which it may stay.
    pub longest_opening: TimeDelta,
}

/// Why an opening must be shut.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Violation {
    /// It lets in the whole internet, alone or together with the port's other openings.
    AnySource {
        /// What it lets in, or what the port's openings let in together.
        sources: Sources,
    },
    /// It was asked for longer than allowed.
    Overlong {
        /// Seconds that it was asked for.
        asked_seconds: i64,
        /// Seconds that are allowed.
        longest_seconds: i64,
    },
    /// It has stood for longer than allowed, whatever was asked.
    Outlived {
        /// When it was first seen.
        #[serde(deserialize_with = "crate::time::stored")]
        since: DateTime<Utc>,
        /// Seconds that are allowed.
        longest_seconds: i64,
    },
    /// The grant that covered it has ended.
    GrantEnded {
        /// The grant.
        grant: String,
        /// Why it ended.
        #[serde(default = "by_time")]
        why: End,
    },
    /// Its record has been over for longer than JIT takes to take a rule away.
    Expired {
        /// The end of the last record that can be its reason.
        #[serde(deserialize_with = "crate::time::stored")]
        ended: DateTime<Utc>,
    },
    /// A rule would permit it, for less time.
    OverCap {
        /// The rule.
        rule: String,
        /// Seconds that were asked for.
        asked_seconds: i64,
        /// Seconds that the rule permits.
        cap_seconds: i64,
    },
    /// It leads to no machine.
    Orphan,
    /// No rule permits it to whoever may have opened it, or one forbids it.
    Unapproved {
        /// What the rules say, in one sentence.
        said: String,
    },
}

fn by_time() -> End {
    End::Time
}

impl Violation {
    /// The stable code of findings and rows.
    pub fn code(&self) -> &'static str {
        match self {
            Violation::AnySource { .. } => "any-source",
            Violation::Overlong { .. } => "overlong",
            Violation::Outlived { .. } => "outlived",
            Violation::GrantEnded { why: End::Unconfirmed | End::Contradicted { .. }, .. } => "unconfirmed",
            Violation::GrantEnded { why: End::Unaudited, .. } => "unaudited",
            Violation::GrantEnded { .. } => "grant-ended",
            Violation::Expired { .. } => "expired",
            Violation::OverCap { .. } => "over-cap",
            Violation::Orphan => "orphan",
            Violation::Unapproved { .. } => "unapproved",
        }
    }

    /// One sentence for people.
    pub fn sentence(&self) -> String {
        let hours = |seconds: &i64| duration::spoken(duration::of_seconds(*seconds));
        match self {
            Violation::AnySource { sources } => format!("it lets in {sources}, which amounts to the whole internet"),
            Violation::Overlong { asked_seconds, longest_seconds } => {
                format!("it was asked for {}, longer than the {} that is allowed", hours(asked_seconds), hours(longest_seconds))
            }
            Violation::Outlived { since, longest_seconds } => {
                format!(
                    "it has stood since {}, longer than the {} that is allowed",
                    since.format("%Y-%m-%dT%H:%M:%SZ"),
                    hours(longest_seconds)
                )
            }
            Violation::GrantEnded { grant, why } => format!("grant {grant}, which covered it, has ended: {}", why.phrase()),
            Violation::Expired { ended } => {
                format!("its time was over at {}, and JIT did not take it away", ended.format("%Y-%m-%dT%H:%M:%SZ"))
            }
            Violation::OverCap { rule, asked_seconds, cap_seconds } => {
                format!("it was asked for {}, longer than the {} that rule {rule} permits", hours(asked_seconds), hours(cap_seconds))
            }
            Violation::Orphan => "no machine has the address that it leads to, and whichever gets it next would be open".to_owned(),
            Violation::Unapproved { said } => said.clone(),
        }
    }
}

/// What was found about one opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Live grants cover all of it.
    Covered,
    /// It must be shut.
    Shut(Violation),
    /// No limit forbids it; it is left and reported.
    Left,
}

/// What judging needs to know besides the openings.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The time of the look.
    pub now: DateTime<Utc>,
    /// JIT's records of the VM.
    pub records: &'a [JitRecord],
    /// The VM's grants.
    pub grants: &'a [Grant],
    /// What Portcullis asked JIT for.
    pub asked: &'a [Asked],
    /// What ended before its time with a grant.
    pub ended_early: &'a [EndedEarly],
    /// The limits.
    pub limits: Limits,
}

/// A union that amounts to the internet is shut by shutting its wide openings: one at most this wide, a /16, is
/// spared. A security group holds no more than a few thousand rules (documentation of Azure's limits), and it takes
/// over 14,000 openings of this width to make up a quarter of the public addresses.
const NARROW: u128 = 1 << 16;

/// Judges all openings of a VM. `seen` gives when an opening was first seen and when its port was last proved shut;
/// the answer is in the order of the openings.
pub fn judge(openings: &[Opening], facts: Facts<'_>, seen: impl Fn(&Opening) -> Seen) -> Vec<Judgement> {
    let uncovered: Vec<Sources> = openings.iter().map(|opening| uncovered(opening, facts)).collect();
    let judge_one = |n: usize| {
        let opening = &openings[n];
        if uncovered[n].is_empty() {
            return Judgement::Covered;
        }
        let violation = any_source(openings, n)
            .or_else(|| overlong(opening, facts, seen(opening)))
            .or_else(|| grant_ended(opening, &uncovered[n], facts, seen(opening)))
            .or_else(|| expired(opening, facts, seen(opening)));
        violation.map_or(Judgement::Left, Judgement::Shut)
    };
    (0..openings.len()).map(judge_one).collect()
}

/// What is remembered of an opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When it was first seen.
    pub first: DateTime<Utc>,
    /// When its port was last proved shut: older records are history.
    pub port_shut: Option<DateTime<Utc>>,
}

/// What an opening lets in that no live grant covers, on any of its ports.
pub fn uncovered(opening: &Opening, facts: Facts<'_>) -> Sources {
    let ports: BTreeSet<u16> = facts.grants.iter().map(|g| g.port).filter(|p| opening.ports.contains(*p)).collect();
    if ports.is_empty() || ports.len() < opening.ports.len() {
        return opening.sources.clone();
    }
    ports.iter().fold(Sources::default(), |left, port| left.union(&opening.sources.minus(&live_sources(facts.grants, *port, facts.now))))
}

fn any_source(openings: &[Opening], n: usize) -> Option<Violation> {
    let opening = &openings[n];
    if opening.sources.amounts_to_internet() {
        return Some(Violation::AnySource { sources: opening.sources.clone() });
    }
    if opening.sources.size() <= NARROW {
        return None;
    }
    // What grants cover counts, too: whoever is let in beside them must not make it everybody.
    let together = |port: u16| {
        let others = openings.iter().filter(|other| other.ports.contains(port));
        others.fold(Sources::default(), |all, other| all.union(&other.sources))
    };
    // More openings can only come in where a range of ports starts.
    let ports: BTreeSet<u16> =
        openings.iter().flat_map(|other| other.ports.starts()).filter(|port| opening.ports.contains(*port)).collect();
    ports.into_iter().map(together).find(Sources::amounts_to_internet).map(|sources| Violation::AnySource { sources })
}

fn overlong(opening: &Opening, facts: Facts<'_>, seen: Seen) -> Option<Violation> {
    let longest = facts.limits.longest_opening;
    let records = || records_of(opening, facts.records, seen.port_shut);
    // A record that is over is a reason only where none that still runs is: people ask again from the same address.
    let running = records().filter(|record| record.end > facts.now).map(JitRecord::length).max();
    let asked = running.or_else(|| records().map(JitRecord::length).max());
    let outlived = || {
        let longest_seconds = longest.num_seconds();
        (facts.now - seen.first > longest).then_some(Violation::Outlived { since: seen.first, longest_seconds })
    };
    asked.and_then(|asked| asked_too_long(asked, facts.limits)).or_else(outlived)
}

/// What is wrong about asking for this long.
pub(crate) fn asked_too_long(asked: TimeDelta, limits: Limits) -> Option<Violation> {
    let (asked_seconds, longest_seconds) = (asked.num_seconds(), limits.longest_opening.num_seconds());
    (asked > limits.longest_opening).then_some(Violation::Overlong { asked_seconds, longest_seconds })
}

/// The records that may be the reason of an opening: of one of its ports, not over, for a source of it, and made
/// after the port was last proved shut.
pub fn records_of<'a>(
    opening: &'a Opening,
    records: &'a [JitRecord],
    port_shut: Option<DateTime<Utc>>,
) -> impl Iterator<Item = &'a JitRecord> + 'a {
    records.iter().filter(move |record| record.may_be_open() && may_be_reason(record, opening, not_before(port_shut)))
}

/// A proof is dated by the store's clock, in whole seconds, and a record by JIT's. What began so shortly before it was open at neither of the
/// two reads, which are half a minute apart, and may be open since.
const SAME_MOMENT: TimeDelta = TimeDelta::seconds(5);

/// After which time what began may be the reason of what is open at a port, by when that was last proved shut.
pub(crate) fn not_before(port_shut: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    port_shut.map(|shut| shut - SAME_MOMENT)
}

/// Whether a record, that may be over, is for a port and a source of an opening, and began after a time.
pub(crate) fn may_be_reason(record: &JitRecord, opening: &Opening, after: Option<DateTime<Utc>>) -> bool {
    after.is_none_or(|after| record.start > after) && is_for_port(record, opening) && is_for_sources(record, opening)
}

/// Whether a record is for a port of an opening.
pub(crate) fn is_for_port(record: &JitRecord, opening: &Opening) -> bool {
    opening.ports.contains(record.port)
}

/// Whether a record is for all that an opening lets in, or an opening lets in all that a record is for.
pub(crate) fn is_for_sources(record: &JitRecord, opening: &Opening) -> bool {
    opening.sources.covers(&record.sources) || record.sources.covers(&opening.sources)
}

/// What a grant let in has to go with it, unless somebody asked for it meanwhile: then the rules are asked about that.
fn grant_ended(opening: &Opening, left: &Sources, facts: Facts<'_>, seen: Seen) -> Option<Violation> {
    let meets = |grant: &&Grant| {
        let was_covered = !left.minus(&grant.sources).covers(left);
        opening.ports.contains(grant.port) && grant.has_ended(facts.now) && was_covered
    };
    let ended = facts.grants.iter().filter(meets).max_by_key(|grant| (grant.until, grant.id.as_str()))?;
    let is_anothers = |record: &&JitRecord| {
        let runs = record.end > facts.now && record.sources.covers(&opening.sources);
        let is_ours = facts.asked.iter().any(|asked| asked.is_of(record));
        let is_over = facts.ended_early.iter().any(|early| early.is_of(record));
        runs && !is_ours && !is_over && !facts.grants.iter().any(|grant| grant.is_made_for(record))
    };
    if records_of(opening, facts.records, seen.port_shut).any(|record| is_anothers(&record)) {
        return None;
    }
    Some(Violation::GrantEnded { grant: ended.id.clone(), why: ended.ended.clone().unwrap_or(End::Time) })
}

/// So long JIT has time to take a rule away after its record's end: how late it does is not known.
pub const EXPIRED_AFTER: TimeDelta = TimeDelta::minutes(5);

fn expired(opening: &Opening, facts: Facts<'_>, seen: Seen) -> Option<Violation> {
    let ended = last_end(opening, facts.records, seen.port_shut).filter(|ended| *ended + EXPIRED_AFTER <= facts.now)?;
    Some(Violation::Expired { ended })
}

/// When the last record ended that can have been the reason of an opening, if every such record is over by its time. A
/// record is `Revoked` then.
pub fn last_end(opening: &Opening, records: &[JitRecord], port_shut: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    records.iter().filter(|record| may_be_reason(record, opening, not_before(port_shut))).map(|record| record.end).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::{Origin, Phase};
    use crate::jit::RecordStatus;
    use crate::port::PortSet;
    use crate::samples::{at, grant, opening, record};

    struct Case<'a> {
        openings: Vec<Opening>,
        records: Vec<JitRecord>,
        grants: Vec<Grant>,
        first: &'a str,
        port_shut: Option<&'a str>,
    }

    impl Default for Case<'_> {
        fn default() -> Self {
            Case { openings: Vec::new(), records: Vec::new(), grants: Vec::new(), first: "09:30:00", port_shut: None }
        }
    }

    fn codes(case: &Case<'_>) -> Vec<&'static str> {
        let limits = Limits { longest_opening: TimeDelta::hours(8) };
        let facts = Facts { now: at("10:00:00"), records: &case.records, grants: &case.grants, asked: &[], ended_early: &[], limits };
        let seen = Seen { first: at(case.first), port_shut: case.port_shut.map(at) };
        judge(&case.openings, facts, |_| seen)
            .into_iter()
            .map(|judgement| match judgement {
                Judgement::Covered => "covered",
                Judgement::Left => "left",
                Judgement::Shut(violation) => violation.code(),
            })
            .collect()
    }

    #[test]
    fn what_a_grant_let_in_goes_with_it_unless_somebody_else_asked_for_it_meanwhile() {
        let grant = |origin| Grant { origin, from: at("09:00:00"), ..grant("g", 22, "203.0.113.4", "10:00:00", Phase::Open) };
        let asked = |start: &str, source: &str| record(22, source, start, "11:00:00", RecordStatus::Initiated);
        let own = JitRecord { end: at("10:00:00"), ..asked("09:00:00", "203.0.113.4") };
        // What Portcullis remembers that it asked for, and never what a record says of itself.
        let says_so = JitRecord { justification: Some("Portcullis: grant g".to_owned()), ..asked("09:30:00", "203.0.113.4") };
        let ours = [Asked { port: 22, sources: Sources::read(["203.0.113.4"]), at: at("09:00:03"), until: at("11:00:00") }];
        for (origin, records, shut) in [
            (Origin::Adopted, vec![own.clone()], true),
            (Origin::Adopted, vec![own.clone(), asked("09:30:00", "203.0.113.4")], false),
            (Origin::Adopted, vec![asked("09:30:00", "203.0.113.0/24")], false),
            // For less than the rule lets in, and what Portcullis asked for itself.
            (Origin::Adopted, vec![asked("09:30:00", "203.0.113.5")], true),
            (Origin::Asked, vec![asked("09:00:00", "203.0.113.4")], true),
            (Origin::Asked, vec![asked("09:00:00", "203.0.113.4"), asked("09:30:00", "203.0.113.4")], false),
            (Origin::Asked, vec![says_so], false),
        ] {
            let facts = Facts {
                now: at("10:00:30"),
                records: &records,
                grants: &[grant(origin)],
                asked: &ours,
                ended_early: &[],
                limits: Limits { longest_opening: TimeDelta::hours(8) },
            };
            let seen = |_: &Opening| Seen { first: at("09:00:00"), port_shut: None };
            let judged = judge(&[opening(1, "22", &["203.0.113.4"])], facts, seen);
            assert_eq!(matches!(judged[0], Judgement::Shut(Violation::GrantEnded { .. })), shut, "{origin:?} {records:?}: {judged:?}");
        }
    }

    #[test]
    fn an_opening_to_the_whole_internet_is_shut() {
        for source in ["*", "0.0.0.0/0", "Internet", "0.0.0.0/1,128.0.0.0/1"] {
            assert_eq!(codes(&Case { openings: vec![opening(1, "22", &[source])], ..Case::default() }), ["any-source"]);
        }
        assert_eq!(codes(&Case { openings: vec![opening(1, "22", &["203.0.113.0/24"])], ..Case::default() }), ["left"]);
    }

    #[test]
    fn openings_that_amount_to_the_internet_together_are_all_shut() {
        let quarters = || ["32.0.0.0/4", "48.0.0.0/4", "64.0.0.0/4", "80.0.0.0/4"].iter().enumerate();
        let mut openings: Vec<Opening> = quarters().map(|(n, q)| opening(n as u32, "22", &[q])).collect();
        openings.push(opening(9, "22", &["203.0.113.4"]));
        assert_eq!(
            codes(&Case { openings: openings.clone(), ..Case::default() }),
            ["any-source", "any-source", "any-source", "any-source", "left"]
        );
        // On different ports they do not add up.
        openings[0].ports = PortSet::one(23);
        assert_eq!(codes(&Case { openings, ..Case::default() }), ["left"; 5]);
    }

    #[test]
    fn openings_of_several_ports_add_up_on_each_port_that_they_share() {
        let judged = |ports: [&str; 3]| {
            let sources = [&["32.0.0.0/3"][..], &["64.0.0.0/4"], &["80.0.0.0/4"]];
            let openings = ports.iter().zip(sources).enumerate().map(|(n, (ports, sources))| opening(n as u32, ports, sources));
            codes(&Case { openings: openings.collect(), ..Case::default() })
        };
        assert_eq!(judged(["20-25", "22-30", "25"]), ["any-source"; 3]);
        // None is the least port of another, and yet all three open 25.
        assert_eq!(judged(["20,25", "21,25", "22,25"]), ["any-source"; 3]);
        // Each two share a port, and no port is open to all three.
        assert_eq!(judged(["22", "22-23", "23"]), ["left"; 3]);
    }

    #[test]
    fn an_opening_as_wide_as_a_16_is_spared_and_a_wider_one_is_not() {
        let most = || opening(1, "22", &["32.0.0.0/4", "48.0.0.0/4", "64.0.0.0/4"]);
        let other =
            |source| Case { openings: vec![most(), opening(2, "22", &["80.0.0.0/5"]), opening(3, "22", &[source])], ..Case::default() };
        assert_eq!(codes(&other("203.0.0.0/16")), ["any-source", "any-source", "left"]);
        assert_eq!(codes(&other("203.0.0.0/15")), ["any-source"; 3]);
    }

    #[test]
    fn an_opening_without_ports_is_covered_by_nothing() {
        let mut case = Case { openings: vec![opening(1, "22", &["203.0.113.4"])], ..Case::default() };
        case.openings[0].ports = PortSet::default();
        assert_eq!(codes(&case), ["left"]);
    }

    #[test]
    fn a_record_that_is_over_is_no_reason_while_one_that_runs_is() {
        let record = |start, end| record(22, "203.0.113.4", start, end, RecordStatus::Initiated);
        let case = |records| Case { openings: vec![opening(1, "22", &["203.0.113.4"])], records, ..Case::default() };
        let over = || record("00:00:00", "10:00:00");
        assert_eq!(codes(&case(vec![over()])), ["overlong"]);
        assert_eq!(codes(&case(vec![over(), record("09:00:00", "10:00:01")])), ["left"]);
        assert_eq!(codes(&case(vec![record("00:00:00", "10:00:01"), record("09:00:00", "11:00:00")])), ["overlong"]);
    }

    #[test]
    fn an_opening_asked_for_longer_than_allowed_is_shut() {
        let case = |end: &str| Case {
            openings: vec![opening(1, "22", &["203.0.113.4"])],
            records: vec![record(22, "203.0.113.4", "09:00:00", end, RecordStatus::Initiated)],
            ..Case::default()
        };
        assert_eq!(codes(&case("17:00:00")), ["left"]);
        assert_eq!(codes(&case("17:00:01")), ["overlong"]);
    }

    #[test]
    fn only_a_record_that_can_be_its_reason_makes_an_opening_overlong() {
        let long = |port, source, status| record(port, source, "09:00:00", "20:00:00", status);
        for (other, expected) in [
            (long(22, "203.0.113.4", RecordStatus::Initiating), "overlong"),
            (long(22, "203.0.113.4", RecordStatus::Other("Odd".to_owned())), "overlong"),
            (long(22, "203.0.113.0/24", RecordStatus::Initiated), "overlong"),
            (long(22, "203.0.113.4", RecordStatus::Revoked), "left"),
            (long(23, "203.0.113.4", RecordStatus::Initiated), "left"),
            (long(22, "203.0.113.5", RecordStatus::Initiated), "left"),
        ] {
            let case = Case { openings: vec![opening(1, "22", &["203.0.113.4"])], records: vec![other.clone()], ..Case::default() };
            assert_eq!(codes(&case), [expected], "{other:?}");
        }
    }

    #[test]
    fn a_record_from_before_the_port_was_proved_shut_is_history() {
        let mut case = Case {
            openings: vec![opening(1, "22", &["203.0.113.4"])],
            records: vec![record(22, "203.0.113.4", "09:00:00", "20:00:00", RecordStatus::Initiated)],
            port_shut: Some("09:00:05"),
            ..Case::default()
        };
        assert_eq!(codes(&case), ["left"]);
        case.port_shut = Some("09:00:04");
        assert_eq!(codes(&case), ["overlong"]);
    }

    #[test]
    fn an_opening_that_stands_longer_than_allowed_is_shut_whatever_was_asked() {
        let case = |first| Case { openings: vec![opening(1, "22", &["203.0.113.4"])], first, ..Case::default() };
        assert_eq!(codes(&case("02:00:00")), ["left"]);
        assert_eq!(codes(&case("01:59:59")), ["outlived"]);
    }

    #[test]
    fn an_opening_that_live_grants_cover_is_right_whoever_made_it() {
        let mut case = Case {
            openings: vec![opening(1, "22", &["203.0.113.4/31"])],
            grants: vec![grant("a", 22, "203.0.113.4", "11:00:00", Phase::Open), grant("b", 22, "203.0.113.5", "11:00:00", Phase::Open)],
            first: "00:00:00",
            ..Case::default()
        };
        assert_eq!(codes(&case), ["covered"]);
        case.grants[1].phase = Phase::Closing;
        case.first = "09:30:00";
        assert_eq!(codes(&case), ["grant-ended"]);
        case.grants.pop();
        assert_eq!(codes(&case), ["left"]);
    }

    #[test]
    fn a_rule_for_several_ports_is_covered_only_when_each_port_is() {
        let mut case = Case {
            openings: vec![opening(1, "22-23", &["203.0.113.4"])],
            grants: vec![grant("a", 22, "203.0.113.4", "11:00:00", Phase::Open), grant("c", 22, "203.0.113.4", "11:00:00", Phase::Open)],
            ..Case::default()
        };
        assert_eq!(codes(&case), ["left"]);
        case.grants.push(grant("b", 23, "203.0.113.4", "11:00:00", Phase::Open));
        assert_eq!(codes(&case), ["covered"]);
        case.grants[2].sources = Sources::read(["203.0.113.5"]);
        assert_eq!(codes(&case), ["left"]);
    }

    #[test]
    fn the_last_grant_to_end_is_named() {
        let case = Case {
            openings: vec![opening(1, "22", &["203.0.113.4"])],
            grants: vec![
                grant("early", 22, "203.0.113.4", "09:40:00", Phase::Open),
                grant("late", 22, "203.0.113.4", "09:50:00", Phase::Open),
                grant("elsewhere", 22, "203.0.113.9", "09:55:00", Phase::Open),
                grant("other-port", 23, "203.0.113.4", "09:55:00", Phase::Open),
            ],
            ..Case::default()
        };
        let limits = Limits { longest_opening: TimeDelta::hours(8) };
        let facts = Facts { now: at("10:00:00"), records: &[], grants: &case.grants, asked: &[], ended_early: &[], limits };
        let judgement = judge(&case.openings, facts, |_| Seen { first: at("09:30:00"), port_shut: None });
        assert_eq!(judgement, [Judgement::Shut(Violation::GrantEnded { grant: "late".to_owned(), why: End::Time })]);
    }

    #[test]
    fn violations_are_told_in_a_sentence() {
        let sentences = [
            Violation::AnySource { sources: Sources::internet() },
            Violation::Overlong { asked_seconds: 86_400, longest_seconds: 28_800 },
            Violation::Outlived { since: at("01:00:00"), longest_seconds: 28_800 },
            Violation::GrantEnded { grant: "g1".to_owned(), why: End::Time },
        ]
        .map(|v| v.sentence());
        assert_eq!(
            sentences,
            [
                "it lets in *, which amounts to the whole internet",
                "it was asked for 24 h, longer than the 8 h that is allowed",
                "it has stood since 2026-01-15T01:00:00Z, longer than the 8 h that is allowed",
                "grant g1, which covered it, has ended: its time is over",
            ]
        );
    }
}
