//! Who is behind an opening: what JIT's own records say, and what events claim.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::jit::JitRecord;
use crate::judge::{not_before, records_of};
use crate::opening::Opening;
use crate::record::{self, Claim};

/// A record of JIT that may be the reason of an opening, as Azure keeps it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// When it was asked for.
    #[serde(deserialize_with = "crate::time::stored")]
    pub start: DateTime<Utc>,
    /// Until when.
    #[serde(deserialize_with = "crate::time::stored")]
    pub end: DateTime<Utc>,
    /// By whom, as a UPN; [`OURSELVES`] where Portcullis asked for it; absent where Azure does not say, as for applications.
    pub by: Option<String>,
    /// The reason that was given, if any.
    pub justification: Option<String>,
}

/// Who asked, where Portcullis did, for whoever has its grants.
pub const OURSELVES: &str = "Portcullis";

/// All hints about who made an opening. None of them is proof.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Behind {
    /// The records of JIT that may be its reason, the oldest first.
    pub asked: Vec<Asked>,
    /// The claims of events that fit one of these records; where there is no record, all since the port was shut.
    pub claims: Vec<Claim>,
}

/// An event is one clock's word and a record another's: they fit when they lie no further apart than this.
pub const CLOCKS_DIFFER_BY: TimeDelta = TimeDelta::minutes(5);

/// What is remembered of each kind of hint: somebody who asks every minute must not fill the record.
const MOST: usize = 20;

impl Behind {
    /// What records and claims say of an opening. `port_shut` is when its port was last proved shut: older records are
    /// history. `ours` is what Portcullis asked for, of which no event of anybody else says who it was.
    pub fn of(
        opening: &Opening,
        records: &[JitRecord],
        port_shut: Option<DateTime<Utc>>,
        claims: &[Claim],
        ours: &[record::Asked],
    ) -> Self {
        let is_ours = |record: &JitRecord| record.requestor.is_none() && ours.iter().any(|ours| ours.is_of(record));
        // What lets in more than was asked for is not of that.
        let may_be_reason = |record: &&JitRecord| !is_ours(record) || record.sources.covers(&opening.sources);
        let asked = |record: &JitRecord| match is_ours(record) {
            true => Asked { by: Some(OURSELVES.to_owned()), ..Asked::from(record) },
            false => Asked::from(record),
        };
        let mut asked: Vec<Asked> = records_of(opening, records, port_shut).filter(may_be_reason).map(asked).collect();
        asked.sort();
        asked.dedup();
        keep_newest(&mut asked);
        let since_shut = |claim: &Claim| not_before(port_shut).is_none_or(|after| claim.at > after);
        let near = |claim: &Claim| asked.iter().any(|asked| asked.by.as_deref() != Some(OURSELVES) && asked.is_near(claim));
        let fits = |claim: &&Claim| claim.is_initiate() && if asked.is_empty() { since_shut(claim) } else { near(claim) };
        let claims = claims.iter().filter(fits).cloned().collect();
        Behind { asked, claims }
    }

    /// What one record and the claims near it say.
    pub(crate) fn of_record(record: &JitRecord, claims: &[Claim]) -> Self {
        let asked = Asked::from(record);
        let claims = claims.iter().filter(|claim| claim.is_initiate() && asked.is_near(claim)).cloned().collect();
        Behind { asked: vec![asked], claims }
    }

    /// Adds what another look learnt. One that found no record any more has learnt nothing: Azure drops the record of a
    /// rule that was deleted.
    pub fn learn(&mut self, other: &Behind) {
        if other.asked.is_empty() && !self.asked.is_empty() {
            return;
        }
        self.asked.extend(other.asked.iter().cloned());
        self.asked.sort();
        self.asked.dedup();
        // Who asked may be known of a record now and not have been then, or the other way round.
        let named: Vec<Asked> = self.asked.iter().filter(|asked| asked.by.is_some()).cloned().collect();
        let is_named = |asked: &Asked| named.iter().any(|named| Asked { by: None, ..named.clone() } == *asked);
        self.asked.retain(|asked| asked.by.is_some() || !is_named(asked));
        keep_newest(&mut self.asked);
        for claim in &other.claims {
            if !self.claims.iter().any(|known| known.event == claim.event) {
                self.claims.push(claim.clone());
            }
        }
        keep_newest(&mut self.claims);
    }

    /// The one person or application that all hints agree on. JIT's records count before events, which name no port;
    /// where the hints differ, or one is silent, nobody is named.
    pub fn one(&self) -> Option<&str> {
        if self.asked.iter().any(|asked| asked.by.is_some()) {
            return same(self.asked.iter().map(|asked| asked.by.as_deref().unwrap_or_default()));
        }
        // A name in an event is any text: two people of one name are two.
        same(self.claims.iter().map(|claim| claim.object_id.as_str()))?;
        same(self.claims.iter().map(Claim::shown)).filter(|one| !one.is_empty())
    }

    /// The same as the end of a sentence about the opening, such as `, asked for by ada@contoso.com until …`.
    pub fn phrase(&self) -> String {
        let mut text = match (self.one(), self.asked.iter().any(|asked| asked.by.is_some())) {
            (Some(one), true) => format!(", asked for by {one}"),
            (Some(one), false) => {
                let id = self.claims.first().map(|claim| claim.object_id.as_str()).filter(|id| !id.is_empty() && *id != one);
                format!(", asked for by {one}{} as an event says", id.map(|id| format!(" ({id})")).unwrap_or_default())
            }
            (None, _) if self.asked.is_empty() && self.claims.is_empty() => return String::new(),
            (None, _) => ", asked for by somebody who is not known for certain".to_owned(),
        };
        if let Some(end) = self.asked.iter().map(|asked| asked.end).max() {
            text.push_str(&format!(" until {}", end.to_rfc3339_opts(SecondsFormat::Secs, true)));
        }
        text
    }
}

/// The first of these texts, if the others are the same but for their letter case.
fn same<'a>(mut texts: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let first = texts.next()?;
    texts.all(|text| text.eq_ignore_ascii_case(first)).then_some(first)
}

/// Leaves the last [`MOST`] of them.
fn keep_newest<T>(all: &mut Vec<T>) {
    all.drain(..all.len().saturating_sub(MOST));
}

impl Asked {
    fn is_near(&self, claim: &Claim) -> bool {
        (claim.at - self.start).abs() <= CLOCKS_DIFFER_BY
    }
}

impl From<&JitRecord> for Asked {
    fn from(record: &JitRecord) -> Self {
        Asked { start: record.start, end: record.end, by: record.requestor.clone(), justification: record.justification.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jit::RecordStatus;
    use crate::samples::{at, opening, record};
    use crate::source::Sources;

    fn claim(time: &str, event: &str, name: &str) -> Claim {
        Claim {
            event: event.to_owned(),
            at: at(time),
            object_id: String::new(),
            name: name.to_owned(),
            operation: "initiate".to_owned(),
            apart_seconds: None,
        }
    }

    fn asked(start: &str, by: Option<&str>) -> JitRecord {
        JitRecord { requestor: by.map(str::to_owned), ..record(22, "*", start, "11:00:00", RecordStatus::Initiated) }
    }

    fn behind(records: &[JitRecord], claims: &[Claim]) -> Behind {
        Behind::of(&opening(1, "22", &["*"]), records, None, claims, &[])
    }

    #[test]
    fn claims_that_no_record_fits_are_somebody_elses() {
        let claims = [claim("08:54:59", "a", "a"), claim("08:55:00", "b", "b"), claim("09:05:00", "c", "c"), claim("09:05:01", "d", "d")];
        let events = |behind: Behind| behind.claims.into_iter().map(|claim| claim.event).collect::<Vec<_>>().join("");
        assert_eq!(events(behind(&[asked("09:00:00", None)], &claims)), "bc");
        assert_eq!(events(behind(&[], &claims)), "abcd");
        assert_eq!(events(Behind::of(&opening(1, "22", &["*"]), &[], Some(at("08:55:05")), &claims, &[])), "cd");
        let write = Claim { operation: "write".to_owned(), ..claim("09:00:00", "w", "carol") };
        assert_eq!(behind(&[asked("09:00:00", None)], &[write]).claims, []);
        assert_eq!(Behind::of(&opening(1, "22", &["*"]), &[asked("09:00:00", None)], Some(at("09:00:05")), &[], &[]), Behind::default());
    }

    #[test]
    fn what_portcullis_asked_for_is_its_own_whoever_else_asked_at_that_time() {
        let ours = [record::Asked { port: 22, sources: Sources::internet(), at: at("09:00:20"), until: at("11:00:00") }];
        let behind = |records: &[JitRecord]| {
            let behind = Behind::of(&opening(1, "22", &["*"]), records, None, &[claim("09:00:00", "a", "ada")], &ours);
            (behind.phrase(), behind.one().map(str::to_owned), behind.claims.len())
        };
        let own = || Some(OURSELVES.to_owned());
        assert_eq!(behind(&[asked("09:00:20", None)]), (", asked for by Portcullis until 2026-01-15T11:00:00Z".to_owned(), own(), 0));
        let (phrase, one, claims) = behind(&[asked("09:00:20", None), record(22, "*", "09:00:00", "10:00:00", RecordStatus::Initiated)]);
        assert_eq!(phrase, ", asked for by somebody who is not known for certain until 2026-01-15T11:00:00Z");
        assert_eq!((one, claims), (None, 1));
        assert_eq!(behind(&[asked("09:00:20", Some("ada@contoso.com"))]).1, Some("ada@contoso.com".to_owned()));

        // Somebody opens more beside it, whom an event alone names.
        let ours = [record::Asked { port: 22, sources: Sources::read(["192.0.2.1"]), at: at("09:00:20"), until: at("11:00:00") }];
        let records = [record(22, "192.0.2.1", "09:00:20", "11:00:00", RecordStatus::Initiated), asked("09:00:00", None)];
        let beside = Behind::of(&opening(1, "22", &["*"]), &records, None, &[claim("09:00:00", "a", "ada")], &ours);
        assert_eq!((beside.one(), beside.asked.len()), (Some("ada"), 1));

        // What is not known any more to be our own was known before.
        let mut known = Behind::of(&opening(1, "22", &["192.0.2.1"]), &records[..1], None, &[], &ours);
        known.learn(&Behind::of(&opening(1, "22", &["192.0.2.1"]), &records[..1], None, &[], &[]));
        assert_eq!((known.one(), known.asked.len()), (Some(OURSELVES), 1));
    }

    #[test]
    fn somebody_is_named_only_where_all_hints_agree() {
        let (ada, bob) = (Some("ada@contoso.com"), Some("bob@contoso.com"));
        let says = |name: &str| claim("09:00:00", name, name);
        let with_id = |id: &str| Claim { object_id: id.to_owned(), ..says("ada") };
        for (records, claims, one) in [
            (vec![asked("09:00:00", ada)], vec![says("bob")], ada),
            (vec![asked("09:00:00", ada), asked("09:01:00", Some("ADA@contoso.com"))], vec![], ada),
            (vec![asked("09:00:00", ada), asked("09:01:00", bob)], vec![says("ada")], None),
            (vec![asked("09:00:00", ada), asked("09:01:00", None)], vec![says("ada")], None),
            (vec![asked("09:00:00", None)], vec![says("ada")], Some("ada")),
            (vec![asked("09:00:00", None)], vec![says("ada"), says("Ada")], Some("ada")),
            (vec![asked("09:00:00", None)], vec![says("ada"), says("bob")], None),
            (vec![asked("09:00:00", None)], vec![says("ada"), says("")], None),
            (vec![], vec![says("ada")], Some("ada")),
            (vec![], vec![with_id("1"), with_id("1")], Some("ada")),
            (vec![], vec![with_id("1"), with_id("2")], None),
            (vec![], vec![], None),
        ] {
            assert_eq!(behind(&records, &claims).one(), one, "{records:?} {claims:?}");
        }
    }

    #[test]
    fn who_asked_is_said_as_surely_as_it_is_known() {
        let (ada, bob) = (Some("ada@contoso.com"), Some("bob@contoso.com"));
        let says = |name: &str| claim("09:00:00", name, name);
        let with_id = Claim { object_id: "5a4d".to_owned(), ..says("ada") };
        for (records, claims, phrase) in [
            (vec![asked("09:00:00", ada)], vec![], ", asked for by ada@contoso.com until 2026-01-15T11:00:00Z"),
            (vec![asked("09:00:00", None)], vec![says("ada")], ", asked for by ada as an event says until 2026-01-15T11:00:00Z"),
            (vec![], vec![says("ada")], ", asked for by ada as an event says"),
            (vec![], vec![with_id], ", asked for by ada (5a4d) as an event says"),
            (
                vec![asked("09:00:00", ada), asked("09:01:00", bob)],
                vec![],
                ", asked for by somebody who is not known for certain until 2026-01-15T11:00:00Z",
            ),
            (vec![], vec![], ""),
        ] {
            assert_eq!(behind(&records, &claims).phrase(), phrase);
        }
    }

    #[test]
    fn what_was_learnt_is_kept_when_azure_drops_the_record() {
        let mut known = behind(&[asked("09:00:00", Some("ada"))], &[claim("09:00:00", "a", "ada")]);
        let before = known.clone();
        known.learn(&behind(&[], &[claim("09:00:00", "b", "bob")]));
        assert_eq!(known, before);
        known.learn(&behind(&[asked("09:01:00", Some("bob"))], &[claim("09:00:00", "a", "ada"), claim("09:01:00", "b", "bob")]));
        assert_eq!((known.asked.len(), known.claims.len()), (2, 2));
        let mut nothing = Behind::default();
        nothing.learn(&behind(&[], &[claim("09:00:00", "b", "bob")]));
        assert_eq!(nothing.claims.len(), 1);
    }

    #[test]
    fn somebody_who_asks_without_end_does_not_fill_the_record() {
        let records: Vec<JitRecord> = (0..50).map(|n| asked(&format!("09:{n:02}:00"), None)).collect();
        let claims: Vec<Claim> = (0..50).map(|n| claim(&format!("09:{n:02}:00"), &n.to_string(), "ada")).collect();
        let many = behind(&records, &[]);
        assert_eq!((many.asked.len(), many.asked.first().unwrap().start), (MOST, at("09:30:00")));
        let mut known = behind(&records[..10], &claims);
        known.learn(&many);
        known.learn(&behind(&[], &[]));
        assert_eq!((known.asked.len(), known.asked.first().unwrap().start), (MOST, at("09:30:00")));
        known.learn(&Behind { asked: many.asked.clone(), claims: claims.clone() });
        assert_eq!((known.claims.len(), known.claims.last().unwrap().event.as_str()), (MOST, "49"));
    }
}
