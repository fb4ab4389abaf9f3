//! Findings: openings, records and JIT policies that should not be as they are.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::behind::Behind;
use crate::opening::short_hash;
use crate::source::Sources;

/// What kind of thing was found. The codes are stable: queries and people rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingCode {
    /// An opening to the whole internet.
    AnySource,
    /// An opening asked for longer than allowed.
    Overlong,
    /// An opening that has stood longer than allowed.
    Outlived,
    /// An opening whose grant has ended.
    GrantEnded,
    /// An opening whose grant ended because nothing confirmed who opened it.
    Unconfirmed,
    /// An opening whose grant has no audit record, and so counts as none.
    Unaudited,
    /// An opening whose record is over and that JIT did not take away.
    Expired,
    /// An opening for longer than the rule that would permit it does.
    OverCap,
    /// An opening that no grant covers, and that no rule permits or none could be asked about yet.
    Unapproved,
    /// An opening that leads to no machine.
    Orphan,
    /// An opening with a source or a port that cannot be read.
    Unreadable,
    /// A JIT policy with a classic firewall's address: JIT opens that firewall too, which Portcullis cannot shut.
    FirewallPolicy,
    /// A record with a port of a classic firewall: a DNAT rule that Portcullis cannot shut.
    FirewallPort,
    /// A part of a JIT policy or record that cannot be read.
    UnreadableRecord,
    /// A JIT policy that names a machine which is gone.
    NoMachine,
}

impl FindingCode {
    /// The code as it is written.
    pub fn text(self) -> &'static str {
        match self {
            FindingCode::AnySource => "any-source",
            FindingCode::Overlong => "overlong",
            FindingCode::Outlived => "outlived",
            FindingCode::GrantEnded => "grant-ended",
            FindingCode::Unconfirmed => "unconfirmed",
            FindingCode::Unaudited => "unaudited",
            FindingCode::Expired => "expired",
            FindingCode::OverCap => "over-cap",
            FindingCode::Unapproved => "unapproved",
            FindingCode::Orphan => "orphan",
            FindingCode::Unreadable => "unreadable",
            FindingCode::FirewallPolicy => "firewall-policy",
            FindingCode::FirewallPort => "firewall-port",
            FindingCode::UnreadableRecord => "unreadable-record",
            FindingCode::NoMachine => "no-machine",
        }
    }

    /// Whether it is about JIT's policies and not about an opening: only they show it.
    pub(crate) fn is_of_policies(self) -> bool {
        match self {
            FindingCode::FirewallPolicy | FindingCode::FirewallPort | FindingCode::UnreadableRecord | FindingCode::NoMachine => true,
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
            | FindingCode::Unreadable => false,
        }
    }

    /// How bad it is, in the words of ASIM's `EventSeverity`.
    pub fn severity(self) -> Severity {
        match self {
            FindingCode::AnySource | FindingCode::FirewallPort | FindingCode::Unconfirmed | FindingCode::Unaudited => Severity::High,
            FindingCode::Overlong
            | FindingCode::Outlived
            | FindingCode::Expired
            | FindingCode::OverCap
            | FindingCode::Unapproved
            | FindingCode::Orphan
            | FindingCode::Unreadable
            | FindingCode::FirewallPolicy => Severity::Medium,
            FindingCode::UnreadableRecord | FindingCode::NoMachine => Severity::Low,
            // That a grant ends is as it should be; that its rule stays is an alarm.
            FindingCode::GrantEnded => Severity::Informational,
        }
    }
}

/// How bad something is, in the words of ASIM's `EventSeverity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// Nothing to do.
    Informational,
    /// To be looked at some day.
    Low,
    /// To be looked at today.
    Medium,
    /// To be looked at now.
    High,
}

/// Something that should not be as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Stable for as long as the same thing is found: made of code, subject, port and what it is about.
    pub id: String,
    /// What kind.
    pub code: FindingCode,
    /// The port, where it is about one.
    pub port: Option<u16>,
    /// What it is about: a rule, a policy or a record.
    pub about: String,
    /// What was seen, in one sentence.
    pub evidence: String,
    /// What Portcullis does about it, in one sentence.
    pub done: String,
    /// When it was first seen.
    #[serde(deserialize_with = "crate::time::stored")]
    pub since: DateTime<Utc>,
    /// What it lets in, where it is about an opening.
    pub sources: Option<Sources>,
    /// Who is behind it, where it is about an opening.
    pub behind: Behind,
}

impl Finding {
    /// A finding about `about` on the subject with this key.
    pub fn new(code: FindingCode, subject_key: &str, port: Option<u16>, about: &str, since: DateTime<Utc>) -> Self {
        let port_text = port.map(|p| p.to_string()).unwrap_or_default();
        Finding {
            id: short_hash(&format!("{}|{subject_key}|{port_text}|{}", code.text(), about.to_ascii_lowercase())),
            code,
            port,
            about: about.to_owned(),
            evidence: String::new(),
            done: String::new(),
            since,
            sources: None,
            behind: Behind::default(),
        }
    }

    /// The same with what was seen.
    #[must_use]
    pub fn seen(mut self, evidence: impl Into<String>) -> Self {
        self.evidence = evidence.into();
        self
    }

    /// The same about an opening, with who is behind it.
    #[must_use]
    pub fn of_opening(mut self, sources: &Sources, behind: &Behind) -> Self {
        self.sources = Some(sources.clone());
        self.behind = behind.clone();
        self
    }

    /// The same with what is done about it.
    #[must_use]
    pub fn doing(mut self, done: impl Into<String>) -> Self {
        self.done = done.into();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time;

    const CODES: [FindingCode; 15] = [
        FindingCode::AnySource,
        FindingCode::Overlong,
        FindingCode::Outlived,
        FindingCode::GrantEnded,
        FindingCode::Unconfirmed,
        FindingCode::Unaudited,
        FindingCode::Expired,
        FindingCode::OverCap,
        FindingCode::Unapproved,
        FindingCode::Orphan,
        FindingCode::Unreadable,
        FindingCode::FirewallPolicy,
        FindingCode::FirewallPort,
        FindingCode::UnreadableRecord,
        FindingCode::NoMachine,
    ];

    #[test]
    fn codes_are_written_as_they_are_stored() {
        for code in CODES {
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{}\"", code.text()));
        }
    }

    #[test]
    fn each_code_has_its_severity() {
        let of = |severity| CODES.into_iter().filter(|c| c.severity() == severity).map(FindingCode::text).collect::<Vec<_>>();
        assert_eq!(of(Severity::High), ["any-source", "unconfirmed", "unaudited", "firewall-port"]);
        assert_eq!(
            of(Severity::Medium),
            ["overlong", "outlived", "expired", "over-cap", "unapproved", "orphan", "unreadable", "firewall-policy"]
        );
        assert_eq!(of(Severity::Low), ["unreadable-record", "no-machine"]);
        assert_eq!(of(Severity::Informational), ["grant-ended"]);
    }

    #[test]
    fn the_id_is_that_of_the_thing_and_not_of_its_evidence_or_letter_case() {
        let since = time::parse("2026-01-15T09:00:00Z").unwrap();
        let one = Finding::new(FindingCode::AnySource, "s/rg/vm", Some(22), "/Rule", since).seen("a").doing("b");
        let same = Finding::new(FindingCode::AnySource, "s/rg/vm", Some(22), "/rule", since + chrono::TimeDelta::hours(1));
        assert_eq!((one.evidence.as_str(), one.done.as_str()), ("a", "b"));
        assert_eq!(one.id, same.id);
        for other in [
            Finding::new(FindingCode::Overlong, "s/rg/vm", Some(22), "/rule", since),
            Finding::new(FindingCode::AnySource, "s/rg/vm2", Some(22), "/rule", since),
            Finding::new(FindingCode::AnySource, "s/rg/vm", Some(23), "/rule", since),
            Finding::new(FindingCode::AnySource, "s/rg/vm", Some(22), "/rule2", since),
        ] {
            assert_ne!(one.id, other.id);
        }
    }
}
