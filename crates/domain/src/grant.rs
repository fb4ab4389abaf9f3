//! Grants: decisions that a port of a VM may be open for some sources, from a time, until a time, for a person.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::arm_id::VmId;
use crate::jit::JitRecord;
use crate::source::Sources;

/// A decision that (VM, port) may be open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// Its id.
    pub id: String,
    /// The VM.
    pub vm: VmId,
    /// The port.
    pub port: u16,
    /// The sources.
    pub sources: Sources,
    /// From when.
    #[serde(deserialize_with = "crate::time::stored")]
    pub from: DateTime<Utc>,
    /// Until when; at this instant it is over.
    #[serde(deserialize_with = "crate::time::stored")]
    pub until: DateTime<Utc>,
    /// For whom: an Entra object id, or a name where nothing else is known.
    pub person: String,
    /// Where it stands in its life.
    pub phase: Phase,
    /// The person as people know them: a user principal name, else empty. While nothing but an event says who it is, the event's
    /// name with the object id.
    #[serde(default)]
    pub name: String,
    /// The rule that allowed it.
    #[serde(default)]
    pub rule: String,
    /// How it came about.
    #[serde(default)]
    pub origin: Origin,
    /// While nothing but a claim says who it is for: until when somebody else has to say the same.
    #[serde(default, deserialize_with = "crate::time::stored")]
    pub confirm_by: Option<DateTime<Utc>>,
    /// Why it ended, once it has.
    #[serde(default)]
    pub ended: Option<End>,
    /// When the first read ended that showed nothing of it open, since anything of it was.
    #[serde(default, deserialize_with = "crate::time::stored")]
    pub first_shut_read: Option<DateTime<Utc>>,
    /// The id of the audit record that tells of it.
    #[serde(default)]
    pub audit: String,
}

/// How a grant came about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// Somebody asked Portcullis.
    #[default]
    Asked,
    /// Somebody opened it around Portcullis, and a rule permits that.
    Adopted,
    /// Somebody broke the glass around Portcullis.
    BreakGlass,
}

/// Why a grant ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum End {
    /// Its time was over.
    Time,
    /// Nobody but a claim said who it was for.
    Unconfirmed,
    /// What a claim said of it was not so.
    Contradicted {
        /// What is known instead.
        said: String,
    },
    /// Another hand took its rule away.
    ShutByAnother,
    /// Somebody ended it early.
    Early {
        /// Who, for people.
        by: String,
    },
    /// It could not be opened.
    NotOpened {
        /// Why.
        said: String,
    },
    /// Its machine is gone.
    VmGone,
    /// No audit record tells of it, so that it counts as none.
    Unaudited,
}

impl End {
    /// The stable code of rows.
    pub fn code(&self) -> &'static str {
        match self {
            End::Time => "time",
            End::Unconfirmed => "unconfirmed",
            End::Contradicted { .. } => "contradicted",
            End::ShutByAnother => "shut-by-another",
            End::Early { .. } => "early",
            End::NotOpened { .. } => "not-opened",
            End::VmGone => "vm-gone",
            End::Unaudited => "unaudited",
        }
    }

    /// It in words, as the end of a sentence about the grant.
    pub fn phrase(&self) -> String {
        match self {
            End::Time => "its time is over".to_owned(),
            End::Unconfirmed => "nothing confirmed who opened it".to_owned(),
            End::Contradicted { said } => format!("what an event said of it is not so: {said}"),
            End::ShutByAnother => "another hand took its rule away".to_owned(),
            End::Early { by } => format!("{by} ended it early"),
            End::NotOpened { said } => format!("it could not be opened: {said}"),
            End::VmGone => "its machine is gone".to_owned(),
            End::Unaudited => "no audit record tells of it, so that it counts as none".to_owned(),
        }
    }
}

impl Grant {
    /// Whether the port may be open for it now.
    pub fn is_live(&self, now: DateTime<Utc>) -> bool {
        let allowed = match self.phase {
            Phase::Approved | Phase::Opening | Phase::Open => true,
            Phase::Requested | Phase::Waiting | Phase::Closing | Phase::Closed | Phase::Declined(_) => false,
        };
        allowed && self.from <= now && now < self.until
    }

    /// Ends it, for this reason, if it may be open; tells whether it may have been.
    pub fn end(&mut self, why: End) -> bool {
        let Ok(phase) = self.phase.after(Step::End) else { return false };
        self.phase = phase;
        self.ended = Some(why);
        self.first_shut_read = None;
        true
    }

    /// Whether somebody opened it around Portcullis, and it was adopted.
    pub fn is_adopted(&self) -> bool {
        match self.origin {
            Origin::Adopted | Origin::BreakGlass => true,
            Origin::Asked => false,
        }
    }

    /// Whether it was adopted for this record of JIT.
    pub fn is_made_for(&self, record: &JitRecord) -> bool {
        self.is_adopted() && record.is_asked_for(self.port, self.from, self.until)
    }

    /// Who it is for, for people: the name, else the object id.
    pub fn shown(&self) -> &str {
        if self.name.is_empty() { &self.person } else { &self.name }
    }

    /// When it next begins or ceases to be live by time alone; absent when neither will happen.
    pub fn next_turn(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let allowed = self.is_live(self.from);
        [self.from, self.until].into_iter().find(|turn| allowed && *turn > now)
    }

    /// Whether it was live once and is no longer: what it covered must be shut.
    pub fn has_ended(&self, now: DateTime<Utc>) -> bool {
        match self.phase {
            Phase::Opening | Phase::Open => now >= self.until,
            Phase::Closing | Phase::Closed => true,
            Phase::Requested | Phase::Waiting | Phase::Approved | Phase::Declined(_) => false,
        }
    }
}

/// What all live grants of a port together allow.
pub fn live_sources<'a>(grants: impl IntoIterator<Item = &'a Grant>, port: u16, now: DateTime<Utc>) -> Sources {
    grants
        .into_iter()
        .filter(|grant| grant.port == port && grant.is_live(now))
        .fold(Sources::default(), |all, grant| all.union(&grant.sources))
}

/// Where a grant stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Somebody asked.
    Requested,
    /// People decide.
    Waiting,
    /// It may be opened.
    Approved,
    /// An `initiate` may have been sent.
    Opening,
    /// The rule was seen.
    Open,
    /// It is being shut.
    Closing,
    /// It was proved shut.
    Closed,
    /// It never opened anything.
    Declined(Declined),
}

/// Why a request never became an opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Declined {
    /// A rule, a limit or a person refused it.
    Refused,
    /// Nobody decided in time.
    Expired,
    /// The requester took it back.
    Withdrawn,
    /// It was approved, but Azure was never asked.
    NeverSent,
}

/// What happens to a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A rule leaves the decision to people.
    AskPeople,
    /// A rule or people approve.
    Approve,
    /// It is declined.
    Decline(Declined),
    /// The intent to send `initiate` was written: from here on Azure may have been asked.
    Send,
    /// The rule was seen.
    SeeOpen,
    /// It ends, at its time or early, or it could not be opened.
    End,
    /// The port was proved shut.
    ProveShut,
}

/// A step that a grant in this phase cannot take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a grant that is {phase:?} cannot {step:?}")]
pub struct ImpossibleStep {
    /// The phase.
    pub phase: Phase,
    /// The step.
    pub step: Step,
}

impl Phase {
    /// The phase after a step. Once `initiate` may have been sent, a grant ends only through Closing and proof.
    pub fn after(self, step: Step) -> Result<Phase, ImpossibleStep> {
        let impossible = Err(ImpossibleStep { phase: self, step });
        match step {
            Step::AskPeople => match self {
                Phase::Requested => Ok(Phase::Waiting),
                _ => impossible,
            },
            Step::Approve => match self {
                Phase::Requested | Phase::Waiting => Ok(Phase::Approved),
                _ => impossible,
            },
            Step::Decline(Declined::NeverSent) => match self {
                Phase::Approved => Ok(Phase::Declined(Declined::NeverSent)),
                _ => impossible,
            },
            Step::Decline(why) => match self {
                Phase::Requested | Phase::Waiting | Phase::Approved => Ok(Phase::Declined(why)),
                _ => impossible,
            },
            Step::Send => match self {
                Phase::Approved => Ok(Phase::Opening),
                _ => impossible,
            },
            Step::SeeOpen => match self {
                Phase::Opening => Ok(Phase::Open),
                _ => impossible,
            },
            Step::End => match self {
                Phase::Opening | Phase::Open => Ok(Phase::Closing),
                _ => impossible,
            },
            Step::ProveShut => match self {
                Phase::Closing => Ok(Phase::Closed),
                _ => impossible,
            },
        }
    }
}

/// The shortest opening that Azure accepts (REST specification: "Minimum 5 minutes").
pub const SHORTEST: TimeDelta = TimeDelta::minutes(5);

/// The longest opening that Azure accepts (REST specification: "maximum 1 day").
pub const LONGEST: TimeDelta = TimeDelta::hours(24);

/// A hard limit that a wish breaks: no rule can allow it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitBroken {
    /// No source was named; Azure would open for whoever calls it.
    #[error("name the addresses to open for; without one Azure would open for the caller's own")]
    NoSource,
    /// A source could not be read.
    #[error("the sources {0} cannot be read: give IPv4 addresses or ranges in CIDR notation")]
    UnreadSource(String),
    /// What a service tag holds changes without a word: nobody could say who is let in.
    #[error("the sources {0} are no addresses: give IPv4 addresses or ranges in CIDR notation")]
    ServiceTag(String),
    /// JIT takes no IPv6 addresses.
    #[error("the sources {0} hold IPv6 addresses, which JIT does not take: give IPv4 addresses or ranges in CIDR notation")]
    Ipv6(String),
    /// The whole internet, or a union of ranges that amounts to it.
    #[error("the sources {0} amount to the whole internet: name the addresses that need access")]
    Internet(String),
    /// Shorter than Azure's shortest.
    #[error("{} is shorter than the {} that Azure opens for at least", crate::duration::spoken(*.0), crate::duration::spoken(SHORTEST))]
    TooShort(TimeDelta),
    /// Longer than what is allowed at once.
    #[error("{} is longer than the {} that may be open at once", crate::duration::spoken(*.asked), crate::duration::spoken(*.longest))]
    TooLong {
        /// What was asked for.
        asked: TimeDelta,
        /// What is allowed.
        longest: TimeDelta,
    },
}

/// Every hard limit that a wish for these sources and this time breaks; `policy_longest` is the JIT policy's own
/// longest time at once.
pub fn limits_broken(sources: &Sources, asked: TimeDelta, policy_longest: TimeDelta) -> Vec<LimitBroken> {
    let mut broken = Vec::new();
    if sources.is_empty() {
        broken.push(LimitBroken::NoSource);
    }
    if !sources.is_understood() {
        broken.push(LimitBroken::UnreadSource(sources.to_string()));
    }
    if sources.amounts_to_internet() {
        broken.push(LimitBroken::Internet(sources.to_string()));
    } else if sources.names_tags() {
        broken.push(LimitBroken::ServiceTag(sources.to_string()));
    } else if sources.prefixes().iter().any(|prefix| prefix.contains(':')) {
        broken.push(LimitBroken::Ipv6(sources.to_string()));
    }
    if asked < SHORTEST {
        broken.push(LimitBroken::TooShort(asked));
    }
    let longest = policy_longest.min(LONGEST);
    if asked > longest {
        broken.push(LimitBroken::TooLong { asked, longest });
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 11] = [
        Phase::Requested,
        Phase::Waiting,
        Phase::Approved,
        Phase::Opening,
        Phase::Open,
        Phase::Closing,
        Phase::Closed,
        Phase::Declined(Declined::Refused),
        Phase::Declined(Declined::Expired),
        Phase::Declined(Declined::Withdrawn),
        Phase::Declined(Declined::NeverSent),
    ];

    fn steps() -> Vec<Step> {
        let declined = [Declined::Refused, Declined::Expired, Declined::Withdrawn, Declined::NeverSent].map(Step::Decline);
        [Step::AskPeople, Step::Approve, Step::Send, Step::SeeOpen, Step::End, Step::ProveShut].into_iter().chain(declined).collect()
    }

    #[test]
    fn the_life_of_a_grant_has_these_ways_and_no_others() {
        let mut ways: Vec<String> = Vec::new();
        for phase in PHASES {
            for step in steps() {
                match phase.after(step) {
                    Ok(next) => ways.push(format!("{phase:?} -{step:?}-> {next:?}")),
                    Err(error) => assert_eq!(error, ImpossibleStep { phase, step }),
                }
            }
        }
        ways.sort();
        assert_eq!(
            ways,
            [
                "Approved -Decline(Expired)-> Declined(Expired)",
                "Approved -Decline(NeverSent)-> Declined(NeverSent)",
                "Approved -Decline(Refused)-> Declined(Refused)",
                "Approved -Decline(Withdrawn)-> Declined(Withdrawn)",
                "Approved -Send-> Opening",
                "Closing -ProveShut-> Closed",
                "Open -End-> Closing",
                "Opening -End-> Closing",
                "Opening -SeeOpen-> Open",
                "Requested -Approve-> Approved",
                "Requested -AskPeople-> Waiting",
                "Requested -Decline(Expired)-> Declined(Expired)",
                "Requested -Decline(Refused)-> Declined(Refused)",
                "Requested -Decline(Withdrawn)-> Declined(Withdrawn)",
                "Waiting -Approve-> Approved",
                "Waiting -Decline(Expired)-> Declined(Expired)",
                "Waiting -Decline(Refused)-> Declined(Refused)",
                "Waiting -Decline(Withdrawn)-> Declined(Withdrawn)",
            ]
        );
    }

    fn grant(phase: Phase) -> Grant {
        Grant { from: crate::samples::at("09:00:00"), ..crate::samples::grant("g1", 22, "203.0.113.4", "10:00:00", phase) }
    }

    #[test]
    fn a_grant_is_live_from_its_start_until_just_before_its_end() {
        let g = grant(Phase::Open);
        let second = TimeDelta::seconds(1);
        assert!(!g.is_live(g.from - second) && g.is_live(g.from) && g.is_live(g.until - second) && !g.is_live(g.until));
        assert!(!g.has_ended(g.until - second) && g.has_ended(g.until));
        let live: Vec<Phase> = PHASES.into_iter().filter(|p| grant(*p).is_live(g.from)).collect();
        assert_eq!(live, [Phase::Approved, Phase::Opening, Phase::Open]);
        let ended: Vec<Phase> = PHASES.into_iter().filter(|p| grant(*p).has_ended(g.until)).collect();
        assert_eq!(ended, [Phase::Opening, Phase::Open, Phase::Closing, Phase::Closed]);
    }

    #[test]
    fn a_grant_turns_at_its_start_and_at_its_end() {
        let g = grant(Phase::Open);
        let second = TimeDelta::seconds(1);
        assert_eq!(g.next_turn(g.from - second), Some(g.from));
        assert_eq!((g.next_turn(g.from), g.next_turn(g.until - second)), (Some(g.until), Some(g.until)));
        assert_eq!(g.next_turn(g.until), None);
        assert_eq!(grant(Phase::Closing).next_turn(g.from), None);
    }

    #[test]
    fn the_live_sources_of_a_port_are_the_union_of_its_live_grants() {
        let one = grant(Phase::Open);
        let mut two = grant(Phase::Open);
        two.sources = Sources::read(["203.0.113.5"]);
        let mut other_port = grant(Phase::Open);
        (other_port.port, other_port.sources) = (23, Sources::read(["203.0.113.9"]));
        let mut over = grant(Phase::Closing);
        over.sources = Sources::read(["203.0.113.6"]);
        let all = [one.clone(), two, other_port, over];
        assert_eq!(live_sources(&all, 22, one.from).to_string(), "203.0.113.4/31");
        assert!(live_sources(&all, 22, one.until).is_empty());
    }

    #[test]
    fn hard_limits_name_everything_that_is_broken() {
        let hours = TimeDelta::hours;
        let narrow = Sources::read(["203.0.113.0/24"]);
        assert_eq!(limits_broken(&narrow, hours(1), hours(3)), []);
        assert_eq!(limits_broken(&narrow, SHORTEST, hours(3)), []);
        assert_eq!(limits_broken(&narrow, hours(3), hours(3)), []);
        assert_eq!(limits_broken(&narrow, hours(24), hours(48)), []);
        assert_eq!(limits_broken(&narrow, hours(25), hours(48)), [LimitBroken::TooLong { asked: hours(25), longest: hours(24) }]);
        assert_eq!(limits_broken(&narrow, hours(4), hours(3)), [LimitBroken::TooLong { asked: hours(4), longest: hours(3) }]);
        assert_eq!(
            limits_broken(&Sources::default(), TimeDelta::minutes(4), hours(3)),
            [LimitBroken::NoSource, LimitBroken::TooShort(TimeDelta::minutes(4))]
        );
        assert_eq!(limits_broken(&Sources::read(["??"]), hours(1), hours(3)), [LimitBroken::UnreadSource("??".to_owned())]);
        let with_a_tag = Sources::read(["203.0.113.4", "AzureCloud"]);
        assert_eq!(limits_broken(&with_a_tag, hours(1), hours(3)), [LimitBroken::ServiceTag(with_a_tag.to_string())]);
        let texts: Vec<String> = limits_broken(&Sources::internet(), hours(4), hours(3)).iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "the sources * amount to the whole internet: name the addresses that need access",
                "4 h is longer than the 3 h that may be open at once"
            ]
        );
    }
}
