//! What is remembered of a VM between two looks: the one document of the store that decides.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::arm_id::{RuleId, VmId, lower};
use crate::audit::AuditRecord;
use crate::behind::{Behind, CLOCKS_DIFFER_BY};
use crate::finding::{Finding, FindingCode};
use crate::grant::Grant;
use crate::initiate::Asking;
use crate::jit::{ENDS_DIFFER_BY, JitRecord};
use crate::judge::Violation;
use crate::opening::{Opening, short_hash};
use crate::source::Sources;

/// Everything that is remembered of a VM. What a stored record does not name yet is as in a new one, so that another
/// version of the app reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VmRecord {
    /// The VM.
    pub vm: VmId,
    /// How many audit records without an effect were written: the next one's number.
    #[serde(default, deserialize_with = "serial")]
    pub serial: u64,
    /// Audit records that the run which wrote this was about to write: one that was killed in between may have written some of
    /// them, and the next run writes the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<AuditRecord>,
    /// Grants that are not yet over and proved shut.
    #[serde(default)]
    pub grants: Vec<Grant>,
    /// Claims that events made, newest last.
    #[serde(default)]
    pub claims: Vec<Claim>,
    /// The openings of the last read that saw them, with the time each was first seen.
    #[serde(default)]
    pub openings: Vec<SeenOpening>,
    /// Ports that are being shut.
    #[serde(default)]
    pub closings: BTreeMap<u16, Closing>,
    /// When a port was last proved shut.
    #[serde(default, deserialize_with = "crate::time::stored")]
    pub shut: BTreeMap<u16, DateTime<Utc>>,
    /// Rules that Portcullis deleted in the last day and that were seen gone: one that is there again has come back.
    #[serde(default)]
    pub gone: BTreeMap<RuleId, Gone>,
    /// What JIT was asked for and does not show yet, by port.
    #[serde(default)]
    pub initiates: BTreeMap<u16, Asking>,
    /// How many effects were intended for a port: the last attempt's number.
    #[serde(default, deserialize_with = "attempts")]
    pub attempts: BTreeMap<u16, u32>,
    /// What stands as a finding, by its id.
    #[serde(default)]
    pub findings: BTreeMap<String, Finding>,
    /// What stands as an alarm, by its key.
    #[serde(default)]
    pub alarms: BTreeMap<String, Alarm>,
    /// Closings that observe mode has written once as `would close`, by rule key.
    #[serde(default)]
    pub would_close: BTreeSet<String>,
    /// Why the VM could not be read, while it cannot.
    #[serde(default)]
    pub blind: Option<Blind>,
    /// Live grants whose rule Portcullis took down itself, because it also let in what must not be: theirs is
    /// initiated again.
    #[serde(default)]
    pub taken_down: BTreeSet<String>,
    /// How often JIT replaced a grant's rule by somebody else's opening, so that it was opened again, by the grant's id.
    #[serde(default)]
    pub replaced: BTreeMap<String, usize>,
    /// Ports with an opening that no grant covers and on which nobody has decided.
    #[serde(default)]
    pub undecided: BTreeMap<u16, Undecided>,
    /// Findings of rules that nobody can read, whose rule a read did not show any more, by their ids: since when. They are over with a
    /// second one.
    #[serde(default, deserialize_with = "crate::time::stored", skip_serializing_if = "BTreeMap::is_empty")]
    pub unseen: BTreeMap<String, DateTime<Utc>>,
    /// Whether the last look could not tell if something is over, since a group was being written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsettled: bool,
    /// Adopted grants that ended before their time: their JIT records, which may run on, are no reason to adopt again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended_early: Vec<EndedEarly>,
    /// What Portcullis asked JIT for, while it may be open: JIT's records of it are nobody else's. Nothing that a record says
    /// of itself tells that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<Asked>,
    /// JIT's records of the last day that a look has accounted for, by what they are known by, with their starts.
    #[serde(default, deserialize_with = "crate::time::stored", skip_serializing_if = "BTreeMap::is_empty")]
    pub accounted: BTreeMap<String, DateTime<Utc>>,
    /// Whether JIT may still be about to open something: a record that is `Initiating`, or one so new that its rule
    /// may not show yet.
    #[serde(default)]
    pub awaits_opening: bool,
    /// When an opening that was left has to be judged again.
    #[serde(default, deserialize_with = "crate::time::stored")]
    pub judge_again: Option<DateTime<Utc>>,
    /// Since when Azure says that the VM is gone. One answer is not believed: Azure is known to deny what it has just made.
    #[serde(default, deserialize_with = "crate::time::stored", skip_serializing_if = "Option::is_none")]
    pub gone_since: Option<DateTime<Utc>>,
    /// When the VM was open at any port in the last day.
    #[serde(default)]
    pub opened: Vec<OpenSpan>,
    /// The run that works on it.
    #[serde(default)]
    pub lease: Option<Lease>,
    /// Before this time Azure wants no call.
    #[serde(default, deserialize_with = "crate::time::stored")]
    pub not_before: Option<DateTime<Utc>>,
    /// The last pause in seconds, while things do not go forward.
    #[serde(default)]
    pub pause_seconds: i64,
    /// When it has to be looked at again; absent means that nothing is left to do.
    #[serde(default, deserialize_with = "crate::time::stored")]
    pub next_look: Option<DateTime<Utc>>,
    /// When the last look that was brought to its end began.
    #[serde(default, deserialize_with = "crate::time::stored")]
    pub looked: Option<DateTime<Utc>>,
    /// The one wake-up under way.
    #[serde(default)]
    pub wake_up: Option<WakeUp>,
    /// How many looks had several rules to delete, which have turns to be the first.
    #[serde(default)]
    pub turns: u32,
    /// What the last look saw, as the index of what is open tells it to the sweep; absent while it is not in it.
    #[serde(default)]
    pub fingerprint: Option<String>,
    /// The entries of this VM in the index of what is due: the time, and the run that made the entry. A run takes away
    /// none but those that its record names, so that it never takes away another run's.
    #[serde(default, deserialize_with = "crate::time::stored")]
    pub due: BTreeMap<DateTime<Utc>, String>,
}

/// A number that is near the end of its kind was damaged: the next ones would be those of records that are there already.
const DAMAGED: u32 = u32::MAX / 2;

fn serial<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let serial = u64::deserialize(from)?;
    if serial < u64::from(DAMAGED) { Ok(serial) } else { Err(D::Error::custom("no VM has so many audit records")) }
}

fn attempts<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<u16, u32>, D::Error> {
    let attempts = BTreeMap::<u16, u32>::deserialize(from)?;
    if attempts.values().all(|attempt| *attempt < DAMAGED) { Ok(attempts) } else { Err(D::Error::custom("no port has so many attempts")) }
}

/// A time in which a VM was open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenSpan {
    /// When it was first seen open.
    #[serde(deserialize_with = "crate::time::stored")]
    pub from: DateTime<Utc>,
    /// When it was first seen shut again; absent while it is open.
    #[serde(default, deserialize_with = "crate::time::stored")]
    pub until: Option<DateTime<Utc>>,
}

/// The run that works on a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// The run.
    pub run: String,
    /// Until when nobody else may work.
    #[serde(deserialize_with = "crate::time::stored")]
    pub until: DateTime<Utc>,
}

/// A scheduled message that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WakeUp {
    /// When it comes.
    #[serde(deserialize_with = "crate::time::stored")]
    pub at: DateTime<Utc>,
}

/// What an event said about an opening around Portcullis. A hint, never a proof.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The stored event.
    pub event: String,
    /// When the event says that it happened.
    #[serde(deserialize_with = "crate::time::stored")]
    pub at: DateTime<Utc>,
    /// The object id in the event's claims.
    pub object_id: String,
    /// A name for people: the UPN, or the application's name.
    pub name: String,
    /// The operation.
    pub operation: String,
    /// How far in seconds the nearest record of its policy lay from it, of all that any read showed: what made one that is
    /// gone by now did not make the next nearest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart_seconds: Option<i64>,
}

impl Claim {
    /// Whether it is about asking for an opening, and not about writing or deleting a policy.
    pub fn is_initiate(&self) -> bool {
        self.operation == "initiate"
    }

    /// Who it names, for people: the name, else the object id.
    pub fn shown(&self) -> &str {
        if self.name.is_empty() { &self.object_id } else { &self.name }
    }
}

/// An opening and when it was first seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenOpening {
    /// The opening.
    pub opening: Opening,
    /// When it was first seen.
    #[serde(deserialize_with = "crate::time::stored")]
    pub first: DateTime<Utc>,
}

/// A port on which nobody has decided yet. What is opened there meanwhile, by whomever, gains no time by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Undecided {
    /// Since when.
    #[serde(deserialize_with = "crate::time::stored")]
    pub since: DateTime<Utc>,
    /// When a read first showed nothing of it any more; it is over with a second one.
    #[serde(default, deserialize_with = "crate::time::stored")]
    pub first_shut_read: Option<DateTime<Utc>>,
}

/// A port that is being shut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Closing {
    /// Why.
    pub why: Violation,
    /// Since when it is known that it must be shut.
    #[serde(deserialize_with = "crate::time::stored")]
    pub since: DateTime<Utc>,
    /// The last effect that was intended.
    pub intent: Option<Intent>,
    /// When the last delete was sent or may have been.
    #[serde(default, deserialize_with = "crate::time::stored")]
    pub last_delete: Option<DateTime<Utc>>,
    /// When the first read without the opening ended, since the last delete.
    #[serde(default, deserialize_with = "crate::time::stored")]
    pub first_shut_read: Option<DateTime<Utc>>,
    /// Since when nothing of it was seen, through every first read since.
    #[serde(default, deserialize_with = "crate::time::stored")]
    pub clear_since: Option<DateTime<Utc>>,
    /// How often a write to a group made another first read since it was last seen open.
    #[serde(default)]
    pub repeats: u32,
    /// The versions of the groups at the first read.
    #[serde(default)]
    pub versions: String,
    /// Before this time no read proves anything: 60 s after the start of the newest record of the port.
    #[serde(default, deserialize_with = "crate::time::stored")]
    pub no_proof_before: Option<DateTime<Utc>>,
    /// What keeps it from being shut, once something does.
    pub trouble: Option<Trouble>,
    /// The rules of which Azure has said that they are deleted, and when the last such delete was intended: one of
    /// them that is there has come back.
    #[serde(deserialize_with = "crate::time::stored")]
    pub deleted: BTreeMap<RuleId, DateTime<Utc>>,
    /// The openings that are being shut, as they were seen.
    pub targets: Vec<Opening>,
    /// Whether taking the rule away also cuts connections.
    pub flush_connection: bool,
    /// Who is behind the openings, as far as any look could tell.
    pub behind: Behind,
    /// What was last told of each rule's delete: the same is told once.
    pub told: BTreeMap<RuleId, String>,
}

/// A rule that was deleted and seen gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gone {
    /// When its delete was intended that Azure then accepted.
    #[serde(deserialize_with = "crate::time::stored")]
    pub deleted: DateTime<Utc>,
    /// Why it had to go.
    pub why: Violation,
}

/// One effect that was intended, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// Which attempt of this port.
    pub attempt: u32,
    /// The rule to be deleted.
    pub rule: RuleId,
    /// When it was intended.
    #[serde(deserialize_with = "crate::time::stored")]
    pub at: DateTime<Utc>,
    /// Whether Azure had said before that this rule is deleted: if it is there, it has come back.
    pub again: bool,
    /// What came of it; absent while nobody knows.
    pub outcome: Option<Outcome>,
}

impl Closing {
    /// A closing of which nothing was tried yet.
    pub fn new(why: Violation, since: DateTime<Utc>, flush_connection: bool) -> Self {
        Closing {
            why,
            since,
            intent: None,
            last_delete: None,
            first_shut_read: None,
            clear_since: None,
            repeats: 0,
            versions: String::new(),
            no_proof_before: None,
            trouble: None,
            deleted: BTreeMap::new(),
            targets: Vec::new(),
            flush_connection,
            behind: Behind::default(),
            told: BTreeMap::new(),
        }
    }

    /// Remembers a read that showed nothing of the opening as the first of two.
    pub(crate) fn read_shut(&mut self, ended: DateTime<Utc>, versions: &str) {
        self.first_shut_read = Some(ended);
        self.clear_since.get_or_insert(ended);
        versions.clone_into(&mut self.versions);
    }

    /// Forgets the reads that showed nothing of it: they prove nothing any more.
    pub(crate) fn forget_reads(&mut self) {
        (self.first_shut_read, self.clear_since) = (None, None);
    }

    /// All that its rules let in.
    pub fn sources(&self) -> Sources {
        self.targets.iter().fold(Sources::default(), |all, target| all.union(&target.sources))
    }

    /// The groups that its rules are in, each once, for people.
    pub fn groups(&self) -> String {
        let names: BTreeSet<String> = self.targets.iter().filter_map(|target| Some(target.nsg()?.name().to_owned())).collect();
        names.into_iter().collect::<Vec<_>>().join(" and ")
    }
}

impl Intent {
    /// Whether Azure has said that the rule is deleted.
    pub fn was_deleted(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Accepted | Outcome::NothingToDelete))
    }
}

/// What came of a delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Azure accepted it.
    Accepted,
    /// The rule was gone already, or is another one now.
    NothingToDelete,
    /// It failed for this reason, and it is known not to have been done.
    Failed(String),
    /// No answer came: it was perhaps done.
    Unknown(String),
}

/// Something that keeps a port from being shut, or a VM from being watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trouble {
    /// What kind.
    pub cause: Cause,
    /// What Azure said, in one sentence.
    pub said: String,
}

/// Why something cannot go forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// It just takes long.
    Slow,
    /// A management lock.
    Lock,
    /// A denial by Azure Policy.
    Denial,
    /// The identity lacks a right.
    MissingRight,
    /// A deleted rule is there again.
    RuleReturns,
    /// JIT also opened a classic firewall, which Portcullis cannot shut.
    Firewall,
    /// JIT was asked for an opening several times, and it does not come.
    Brake,
    /// It cannot be read.
    Unreadable,
    /// No decision can be made on an opening.
    Undecided,
    /// Azure could not be read.
    CannotLook,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Cause; 10] = [
        Cause::Slow,
        Cause::Lock,
        Cause::Denial,
        Cause::MissingRight,
        Cause::RuleReturns,
        Cause::Firewall,
        Cause::Brake,
        Cause::Unreadable,
        Cause::Undecided,
        Cause::CannotLook,
    ];

    /// The code as it is written.
    pub fn text(self) -> &'static str {
        match self {
            Cause::Slow => "slow",
            Cause::Lock => "lock",
            Cause::Denial => "denial",
            Cause::MissingRight => "missing-right",
            Cause::RuleReturns => "rule-returns",
            Cause::Firewall => "firewall",
            Cause::Brake => "brake",
            Cause::Unreadable => "unreadable",
            Cause::Undecided => "undecided",
            Cause::CannotLook => "cannot-look",
        }
    }

    /// What a person does about it.
    pub fn cure(self) -> &'static str {
        match self {
            Cause::Slow => "if it must be shut now, delete the rules by hand; Portcullis goes on trying",
            Cause::Lock => "remove the lock that Azure names; Portcullis goes on trying and needs nothing else",
            Cause::Denial => "exempt the security group from the policy assignment that Azure names",
            Cause::MissingRight => {
                "give Portcullis' identity a role with the action that Azure names, on the scope that it names, or turn on the plan that it names"
            }
            Cause::RuleReturns => {
                "find out who or what writes the rule again, in the activity log of the security group; Portcullis deletes it each time"
            }
            Cause::Firewall => {
                "remove the DNAT rule of JIT from the Azure Firewall by hand, and the firewall's address from the JIT policy"
            }
            Cause::Brake => {
                "look at what JIT answers in the activity log of the JIT policy; Portcullis asks no more for these grants, and ends them"
            }
            Cause::Undecided => {
                "mend what keeps it from being decided, or delete the rule by hand if it is not meant; Portcullis goes on trying to decide"
            }
            Cause::Unreadable => "look at the rule in Azure and delete it by hand if it is not meant",
            Cause::CannotLook => "mend what Azure's answer names; until then nothing can be proved about this VM",
        }
    }

    /// Whether waiting cannot help, so that the alarm is raised at once.
    pub fn is_alarm_at_once(self) -> bool {
        match self {
            Cause::Lock | Cause::Denial | Cause::MissingRight | Cause::RuleReturns | Cause::Firewall | Cause::Brake | Cause::Unreadable => {
                true
            }
            Cause::Slow | Cause::CannotLook | Cause::Undecided => false,
        }
    }
}

/// Something that a person must know now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alarm {
    /// Why.
    pub cause: Cause,
    /// The port, where it is about one.
    pub port: Option<u16>,
    /// When it was raised.
    #[serde(deserialize_with = "crate::time::stored")]
    pub since: DateTime<Utc>,
    /// What is wrong, in one sentence.
    pub text: String,
}

/// That the VM could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blind {
    /// Since when.
    #[serde(deserialize_with = "crate::time::stored")]
    pub since: DateTime<Utc>,
    /// Why.
    pub trouble: Trouble,
}

/// An uncovered opening is an alarm this long after it was first seen, whatever the reason.
pub const ALARM_AFTER: TimeDelta = TimeDelta::minutes(5);

/// The longest pause between two tries.
pub const LONGEST_PAUSE_SECONDS: i64 = 60;

/// No run takes a lease for longer, and the clocks of a store differ by less.
const LONGEST_LEASE: TimeDelta = TimeDelta::minutes(2);

/// What an adopted grant that ended before its time was made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndedEarly {
    /// The port.
    pub port: u16,
    /// When its record starts.
    #[serde(deserialize_with = "crate::time::stored")]
    pub from: DateTime<Utc>,
    /// When its record ends.
    #[serde(deserialize_with = "crate::time::stored")]
    pub until: DateTime<Utc>,
}

/// What Portcullis asked JIT for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// The port.
    pub port: u16,
    /// For whom it is to be open.
    pub sources: Sources,
    /// When it was asked for.
    #[serde(deserialize_with = "crate::time::stored")]
    pub at: DateTime<Utc>,
    /// Until when.
    #[serde(deserialize_with = "crate::time::stored")]
    pub until: DateTime<Utc>,
}

impl Asked {
    /// Whether this record of JIT is of it. Somebody who asks for the very same at the same time opens nothing more by it.
    pub fn is_of(&self, record: &JitRecord) -> bool {
        let same = record.port == self.port && record.sources == self.sources;
        same && (record.end - self.until).abs() <= ENDS_DIFFER_BY && (record.start - self.at).abs() <= CLOCKS_DIFFER_BY
    }
}

impl EndedEarly {
    /// Whether it is about this record.
    pub fn is_of(&self, record: &JitRecord) -> bool {
        record.is_asked_for(self.port, self.from, self.until)
    }
}

impl VmRecord {
    /// What is known of a VM that was never looked at.
    pub fn new(vm: VmId) -> Self {
        VmRecord {
            vm,
            serial: 0,
            untold: Vec::new(),
            grants: Vec::new(),
            claims: Vec::new(),
            openings: Vec::new(),
            closings: BTreeMap::new(),
            shut: BTreeMap::new(),
            gone: BTreeMap::new(),
            initiates: BTreeMap::new(),
            attempts: BTreeMap::new(),
            findings: BTreeMap::new(),
            alarms: BTreeMap::new(),
            would_close: BTreeSet::new(),
            blind: None,
            taken_down: BTreeSet::new(),
            replaced: BTreeMap::new(),
            undecided: BTreeMap::new(),
            unseen: BTreeMap::new(),
            unsettled: false,
            ended_early: Vec::new(),
            asked: Vec::new(),
            accounted: BTreeMap::new(),
            awaits_opening: false,
            judge_again: None,
            gone_since: None,
            opened: Vec::new(),
            lease: None,
            not_before: None,
            pause_seconds: 0,
            next_look: None,
            looked: None,
            wake_up: None,
            fingerprint: None,
            due: BTreeMap::new(),
            turns: 0,
        }
    }

    /// Whether another run than `run` works on it now. A lease that ends later than any run takes it for was damaged, and holds nobody up.
    pub fn is_leased_to_another(&self, run: &str, now: DateTime<Utc>) -> Option<&Lease> {
        self.lease.as_ref().filter(|lease| lease.run != run && lease.until > now && lease.until <= now + LONGEST_LEASE)
    }

    /// For how long the VM was open in the last 24 hours.
    pub fn open_in_a_day(&self, now: DateTime<Utc>) -> TimeDelta {
        let day = now - TimeDelta::days(1);
        let spans = self.opened.iter().map(|span| span.until.unwrap_or(now) - span.from.max(day));
        spans.filter(|length| *length > TimeDelta::zero()).fold(TimeDelta::zero(), |all, length| all + length)
    }

    /// The findings of a port on which nobody has decided, those left out that are being shut.
    pub fn undecided_at(&self, port: u16) -> impl Iterator<Item = &Finding> {
        let targets = self.closings.values().flat_map(|closing| &closing.targets);
        let shut: BTreeSet<String> = targets.map(|target| target.rule.arm_id().key()).collect();
        let is_left = move |finding: &&Finding| {
            finding.code == FindingCode::Unapproved && finding.port == Some(port) && !shut.contains(&lower(&finding.about))
        };
        self.findings.values().filter(is_left)
    }

    /// What those findings let in together; absent where there are none.
    pub fn undecided_sources(&self, port: u16) -> Option<Sources> {
        self.undecided_at(port).filter_map(|finding| finding.sources.clone()).reduce(|all, one| all.union(&one))
    }

    /// Since when nobody has decided on an opening, or on what was open at its port before it: patience counts from then.
    /// Absent where a look has yet to find out that nobody does.
    pub fn undecided_since(&self, opening: &Opening) -> Option<DateTime<Utc>> {
        opening.port().and_then(|port| self.undecided.get(&port)).map(|undecided| undecided.since)
    }

    /// Whether it need not be in the index of what is open: nothing is open, being shut, found or in alarm.
    pub fn is_at_rest(&self) -> bool {
        self.grants.is_empty()
            && self.openings.is_empty()
            && self.closings.is_empty()
            && self.findings.is_empty()
            && self.undecided.is_empty()
            && self.alarms.is_empty()
            && self.blind.is_none()
    }

    /// Whether Portcullis asked JIT for what this record is of.
    pub fn is_ours(&self, record: &JitRecord) -> bool {
        self.asked.iter().any(|asked| asked.is_of(record))
    }

    /// Whether it did, or the adopted grant that this record was the reason of was ended before its time.
    pub fn is_ours_or_ended(&self, record: &JitRecord) -> bool {
        self.is_ours(record) || self.ended_early.iter().any(|early| early.is_of(record))
    }

    /// Writes the intent to delete the rule of an opening, and gives the attempt's number.
    pub fn intend_delete(&mut self, port: u16, rule: &RuleId, now: DateTime<Utc>) -> u32 {
        let attempt = self.attempts.entry(port).or_insert(0);
        *attempt += 1;
        let attempt = *attempt;
        if let Some(closing) = self.closings.get_mut(&port) {
            let again = closing.deleted.contains_key(rule);
            closing.intent = Some(Intent { attempt, rule: rule.clone(), at: now, again, outcome: None });
            closing.last_delete = Some(now);
            closing.forget_reads();
        }
        attempt
    }

    /// Remembers that with a grant that somebody ended goes what its person had opened besides, around Portcullis, and the grant had
    /// covered: nobody has decided on that, and it must not stay for the one who was shut out. What nobody is said to have opened
    /// goes with it.
    pub fn ends_with(&mut self, grant: &Grant, records: &[JitRecord], now: DateTime<Utc>) {
        let is_its = |record: &&JitRecord| {
            let is_persons = record.requestor.as_ref().is_none_or(|name| name.eq_ignore_ascii_case(&grant.name));
            let is_covered = record.port == grant.port && record.end > now && grant.sources.covers(&record.sources);
            is_covered && is_persons && !self.is_ours(record)
        };
        let with = records.iter().filter(is_its).map(|record| EndedEarly { port: record.port, from: record.start, until: record.end });
        let with: Vec<EndedEarly> = with.filter(|early| !self.ended_early.contains(early)).collect();
        self.ended_early.extend(with);
    }

    /// Writes what came of the last intended delete of a port. `trouble` is what keeps it from being shut, if the
    /// answer says so.
    pub fn delete_came_to(&mut self, port: u16, outcome: Outcome, trouble: Option<Trouble>) {
        let Some(closing) = self.closings.get_mut(&port) else { return };
        let Some(intent) = closing.intent.as_mut() else { return };
        let returned = intent.again && outcome == Outcome::Accepted;
        match outcome {
            // A rule that returns stays the cause until the port is proved shut: each delete of it succeeds.
            Outcome::Accepted | Outcome::NothingToDelete => closing.trouble.take_if(|t| t.cause != Cause::RuleReturns),
            Outcome::Failed(_) | Outcome::Unknown(_) => None,
        };
        intent.outcome = Some(outcome);
        if intent.was_deleted() {
            closing.deleted.insert(intent.rule.clone(), intent.at);
            if !intent.again {
                // Of several rules one has gone forward: the next ones are not kept waiting for what it was busy with.
                self.pause_seconds = 0;
            }
        }
        if returned {
            let said = format!("the rule {} was deleted and is there again", intent.rule.name());
            closing.trouble = Some(Trouble { cause: Cause::RuleReturns, said });
        }
        if trouble.is_some() {
            closing.trouble = trouble;
        }
    }

    /// When the port of an opening was last proved shut.
    pub fn port_shut(&self, opening: &Opening) -> Option<DateTime<Utc>> {
        self.shut.get(&opening.port()?).copied()
    }

    /// When the last look's opening that lets in the same by the same rule was first seen.
    pub fn first_seen(&self, opening: &Opening) -> Option<DateTime<Utc>> {
        self.openings.iter().find(|seen| seen.opening.is_same(opening)).map(|seen| seen.first)
    }

    /// The openings that the last look saw, and those that are being shut.
    pub fn remembered(&self) -> impl Iterator<Item = &Opening> {
        let targets = self.closings.values().flat_map(|closing| &closing.targets);
        self.openings.iter().map(|seen| &seen.opening).chain(targets)
    }

    /// Writes down until when Azure wants no call; a time that was named before stands if it is later.
    pub fn hold_until(&mut self, until: DateTime<Utc>) {
        self.not_before = Some(self.not_before.map_or(until, |held| held.max(until)));
    }

    /// The next pause: drawn evenly from one second to twice the last one, at most a minute, so that many VMs that
    /// fail together do not come back together. The draw is made of the VM and the number of the try.
    pub fn take_pause(&mut self, tries: u64) -> TimeDelta {
        let bound = self.pause_seconds.saturating_mul(2).clamp(4, LONGEST_PAUSE_SECONDS);
        self.pause_seconds = bound;
        let draw = u64::from_str_radix(&short_hash(&format!("{} {tries}", self.vm.key())), 16).unwrap_or(0);
        TimeDelta::seconds(1 + i64::try_from(draw % bound.unsigned_abs()).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn record() -> VmRecord {
        VmRecord::new(samples::vm())
    }

    fn now() -> DateTime<Utc> {
        samples::at("09:00:00")
    }

    fn rule() -> RuleId {
        "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Network/networkSecurityGroups/g/securityRules/r".parse().unwrap()
    }

    fn closing() -> Closing {
        Closing {
            why: Violation::AnySource { sources: Sources::internet() },
            since: now(),
            intent: None,
            last_delete: None,
            first_shut_read: Some(now()),
            clear_since: Some(now()),
            repeats: 0,
            versions: String::new(),
            no_proof_before: None,
            trouble: None,
            deleted: BTreeMap::new(),
            targets: Vec::new(),
            flush_connection: false,
            behind: Behind::default(),
            told: BTreeMap::new(),
        }
    }

    #[test]
    fn an_intent_is_numbered_per_port_and_forgets_the_reads_before_it() {
        let mut record = record();
        record.closings.insert(22, closing());
        assert_eq!(record.intend_delete(22, &rule(), now()), 1);
        assert_eq!(record.intend_delete(22, &rule(), now()), 2);
        assert_eq!(record.intend_delete(23, &rule(), now()), 1);
        let closing = &record.closings[&22];
        assert_eq!((closing.last_delete, closing.first_shut_read), (Some(now()), None));
        assert_eq!(closing.intent.as_ref().map(|i| (i.attempt, i.outcome.clone())), Some((2, None)));
    }

    #[test]
    fn an_outcome_clears_or_keeps_the_trouble() {
        let trouble = |cause| Some(Trouble { cause, said: "x".to_owned() });
        let after = |before, outcome, new| {
            let mut record = record();
            record.closings.insert(22, Closing { trouble: before, ..closing() });
            record.intend_delete(22, &rule(), now());
            record.delete_came_to(22, outcome, new);
            record.delete_came_to(99, Outcome::Accepted, None);
            let closing = &record.closings[&22];
            assert!(closing.intent.as_ref().unwrap().outcome.is_some());
            closing.trouble.as_ref().map(|t| t.cause)
        };
        assert_eq!(after(trouble(Cause::Lock), Outcome::Accepted, None), None);
        assert_eq!(after(trouble(Cause::Lock), Outcome::NothingToDelete, None), None);
        assert_eq!(after(trouble(Cause::RuleReturns), Outcome::Accepted, None), Some(Cause::RuleReturns));
        assert_eq!(after(trouble(Cause::Lock), Outcome::Failed(String::new()), None), Some(Cause::Lock));
        assert_eq!(after(trouble(Cause::Lock), Outcome::Unknown(String::new()), None), Some(Cause::Lock));
        assert_eq!(after(None, Outcome::Failed(String::new()), trouble(Cause::Denial)), Some(Cause::Denial));
    }

    #[test]
    fn a_rule_that_was_deleted_and_is_deleted_again_has_returned() {
        let after = |first: Option<Outcome>, second: Outcome| {
            let mut record = record();
            record.closings.insert(22, closing());
            record.intend_delete(22, &rule(), now());
            if let Some(first) = first {
                record.delete_came_to(22, first, None);
            }
            record.intend_delete(22, &rule(), now());
            record.delete_came_to(22, second, None);
            record.closings[&22].trouble.as_ref().map(|t| t.cause)
        };
        let failed = || Outcome::Failed(String::new());
        assert_eq!(after(Some(Outcome::Accepted), Outcome::Accepted), Some(Cause::RuleReturns));
        assert_eq!(after(Some(Outcome::NothingToDelete), Outcome::Accepted), Some(Cause::RuleReturns));
        assert_eq!(after(Some(Outcome::Accepted), Outcome::NothingToDelete), None);
        assert_eq!(after(Some(failed()), Outcome::Accepted), None);
        assert_eq!(after(None, Outcome::Accepted), None);
    }

    #[test]
    fn a_killed_attempt_does_not_hide_that_a_rule_has_returned() {
        let mut record = record();
        record.closings.insert(22, closing());
        record.intend_delete(22, &rule(), now());
        record.delete_came_to(22, Outcome::Accepted, None);
        record.intend_delete(22, &rule(), now());
        record.intend_delete(22, &rule(), now());
        record.delete_came_to(22, Outcome::Accepted, None);
        assert_eq!(record.closings[&22].trouble.as_ref().map(|t| t.cause), Some(Cause::RuleReturns));
    }

    #[test]
    fn one_of_two_rules_of_a_port_is_known_to_return_though_the_other_was_deleted_last() {
        let mut record = record();
        record.closings.insert(22, closing());
        let other: RuleId = rule().to_string().replace("securityRules/r", "securityRules/q").parse().unwrap();
        for rule in [&rule(), &other] {
            record.intend_delete(22, rule, now());
            assert!(!record.closings[&22].intent.as_ref().unwrap().again);
            record.delete_came_to(22, Outcome::Accepted, None);
        }
        assert_eq!(record.closings[&22].trouble, None);
        let later = now() + TimeDelta::seconds(40);
        record.intend_delete(22, &rule(), later);
        record.delete_came_to(22, Outcome::Accepted, None);
        assert_eq!(record.closings[&22].trouble.as_ref().map(|t| t.cause), Some(Cause::RuleReturns));
        assert_eq!(record.closings[&22].deleted, BTreeMap::from([(rule(), later), (other, now())]));
        // What is remembered survives the store.
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<VmRecord>(&text).unwrap(), record);
    }

    #[test]
    fn pauses_grow_to_a_minute_and_differ_between_vms() {
        let mut one = record();
        let bounds: Vec<i64> = (0..7)
            .map(|n| {
                let pause = one.take_pause(n).num_seconds();
                assert!((1..=one.pause_seconds).contains(&pause));
                one.pause_seconds
            })
            .collect();
        assert_eq!(bounds, [4, 8, 16, 32, 60, 60, 60]);
        let drawn = |name: &str| {
            let id = format!("/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/{name}");
            let mut record = VmRecord::new(id.parse().unwrap());
            record.pause_seconds = 60;
            record.take_pause(7).num_seconds()
        };
        let pauses: BTreeSet<i64> = (0..40).map(|n| drawn(&format!("vm{n}"))).collect();
        assert!(pauses.len() > 15 && *pauses.last().unwrap() > 30 && *pauses.first().unwrap() < 30);
        // The draw is even: no value of its range is left out, and none lies outside.
        let short: BTreeSet<i64> = (0..200)
            .map(|tries| {
                let mut record = record();
                record.take_pause(tries).num_seconds()
            })
            .collect();
        assert_eq!(short, BTreeSet::from([1, 2, 3, 4]));
    }

    #[test]
    fn a_lease_holds_off_others_until_it_ends() {
        let mut record = record();
        record.lease = Some(Lease { run: "a".to_owned(), until: now() });
        let before = now() - TimeDelta::seconds(1);
        assert!(record.is_leased_to_another("b", before).is_some());
        assert!(record.is_leased_to_another("a", before).is_none());
        assert!(record.is_leased_to_another("b", now()).is_none());
        assert!(record.is_leased_to_another("b", now() - TimeDelta::days(1)).is_none(), "no run takes it for a day");
    }

    #[test]
    fn a_later_hold_stands() {
        let mut record = record();
        record.hold_until(now());
        record.hold_until(now() - TimeDelta::seconds(5));
        assert_eq!(record.not_before, Some(now()));
        record.hold_until(now() + TimeDelta::seconds(5));
        assert_eq!(record.not_before, Some(now() + TimeDelta::seconds(5)));
    }

    #[test]
    fn only_a_record_with_nothing_in_it_is_at_rest() {
        assert!(record().is_at_rest());
        type Fill = fn(&mut VmRecord);
        let fills: [(&str, Fill); 7] = [
            ("grants", |r| r.grants.push(samples::grant("g", 22, "203.0.113.4", "11:00:00", crate::grant::Phase::Open))),
            ("openings", |r| r.openings.push(SeenOpening { opening: samples::opening(1, "22", &["*"]), first: now() })),
            ("closings", |r| drop(r.closings.insert(22, closing()))),
            ("findings", |r| {
                drop(r.findings.insert("f".to_owned(), Finding::new(crate::finding::FindingCode::Unapproved, "k", None, "a", now())))
            }),
            ("undecided", |r| {
                let _none = r.undecided.insert(22, Undecided { since: now(), first_shut_read: None });
            }),
            ("alarms", |r| {
                drop(r.alarms.insert("a".to_owned(), Alarm { cause: Cause::Lock, port: None, since: now(), text: String::new() }))
            }),
            ("blind", |r| r.blind = Some(Blind { since: now(), trouble: Trouble { cause: Cause::CannotLook, said: String::new() } })),
        ];
        for (what, fill) in fills {
            let mut record = record();
            fill(&mut record);
            assert!(!record.is_at_rest(), "{what}");
        }
    }

    #[test]
    fn causes_are_written_as_they_are_stored_and_each_has_a_cure() {
        for cause in Cause::ALL {
            assert_eq!(serde_json::to_string(&cause).unwrap(), format!("\"{}\"", cause.text()));
            assert!(cause.cure().len() > 20);
        }
        let late: Vec<Cause> = Cause::ALL.into_iter().filter(|c| !c.is_alarm_at_once()).collect();
        assert_eq!(late, [Cause::Slow, Cause::Undecided, Cause::CannotLook]);
    }
}
