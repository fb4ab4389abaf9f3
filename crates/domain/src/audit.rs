//! Audit records: what is written down for good, and the row of Microsoft Sentinel that tells it.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::arm_id::VmId;
use crate::behind::Behind;
use crate::finding::Severity;
use crate::opening::short_hash;
use crate::source::Sources;

/// What an audit record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditKind {
    /// A rule is about to be deleted; written before the call.
    Close,
    /// What Azure answered to a delete, where it is not what it answered the last time.
    CloseAnswered,
    /// A rule would have been deleted in enforce mode.
    WouldClose,
    /// A port was proved shut.
    ProvedShut,
    /// What had to go from a port was proved gone, and something else that opens it stays.
    ProvedGone,
    /// A finding appeared.
    FindingAppeared,
    /// What is found or done about it changed.
    FindingChanged,
    /// A finding is gone.
    FindingGone,
    /// An alarm was raised, or its cause is another.
    AlarmRaised,
    /// An alarm was cleared.
    AlarmCleared,
    /// JIT was asked for an opening around Portcullis, and no look saw it before it was gone.
    Missed,
    /// What somebody opened around Portcullis is permitted by a rule.
    Adopted,
    /// Somebody else said the same as the claim that a grant was made on.
    Confirmed,
    /// Somebody may have a port open: asked for, and permitted.
    Granted,
    /// What somebody asked for is not permitted, or never came to be.
    Declined,
    /// JIT is about to be asked to open; written before the call.
    Open,
    /// What JIT answered.
    OpenAnswered,
    /// The rule of a grant was seen.
    Opened,
    /// A grant ended.
    GrantEnded,
    /// Nothing that a grant allowed is open any more.
    GrantClosed,
    /// Something that came in could not be used and was stored.
    Rejected,
    /// A part of the service itself does not work.
    ServiceFailing,
    /// Somebody had something worked on again that had come to no end.
    Replayed,
    /// A sweep was begun, or a subscription swept. It is a row alone, so that a sweep that is silent shows; no record is kept of it.
    Swept,
}

impl AuditKind {
    /// The kind as it is written.
    pub fn text(self) -> &'static str {
        match self {
            AuditKind::Close => "close",
            AuditKind::CloseAnswered => "close-answered",
            AuditKind::WouldClose => "would-close",
            AuditKind::ProvedShut => "proved-shut",
            AuditKind::ProvedGone => "proved-gone",
            AuditKind::FindingAppeared => "finding-appeared",
            AuditKind::FindingChanged => "finding-changed",
            AuditKind::FindingGone => "finding-gone",
            AuditKind::AlarmRaised => "alarm-raised",
            AuditKind::AlarmCleared => "alarm-cleared",
            AuditKind::Missed => "missed",
            AuditKind::Adopted => "adopted",
            AuditKind::Confirmed => "confirmed",
            AuditKind::Granted => "granted",
            AuditKind::Declined => "declined",
            AuditKind::Open => "open",
            AuditKind::OpenAnswered => "open-answered",
            AuditKind::Opened => "opened",
            AuditKind::GrantEnded => "grant-ended",
            AuditKind::GrantClosed => "grant-closed",
            AuditKind::Rejected => "rejected",
            AuditKind::ServiceFailing => "service-failing",
            AuditKind::Replayed => "replayed",
            AuditKind::Swept => "swept",
        }
    }

    /// ASIM's `EventType` for it.
    fn event_type(self) -> &'static str {
        match self {
            AuditKind::Close | AuditKind::CloseAnswered | AuditKind::ProvedShut | AuditKind::ProvedGone => "Disable",
            AuditKind::WouldClose | AuditKind::FindingAppeared | AuditKind::FindingChanged | AuditKind::FindingGone => "Read",
            AuditKind::Adopted | AuditKind::Granted | AuditKind::Open | AuditKind::OpenAnswered | AuditKind::Opened => "Enable",
            AuditKind::Declined => "Other",
            AuditKind::GrantEnded | AuditKind::GrantClosed => "Disable",
            AuditKind::Confirmed | AuditKind::Missed => "Read",
            AuditKind::AlarmRaised | AuditKind::AlarmCleared | AuditKind::Rejected | AuditKind::ServiceFailing => "Other",
            AuditKind::Replayed | AuditKind::Swept => "Execute",
        }
    }
}

/// One thing that was written down for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditRecord {
    /// Made of what it is about, so that writing it twice writes it once.
    pub id: String,
    /// When, by the store's clock.
    #[serde(deserialize_with = "crate::time::stored")]
    pub at: DateTime<Utc>,
    /// What.
    pub kind: AuditKind,
    /// The VM; absent where it is about the service itself.
    pub vm: Option<VmId>,
    /// The port.
    pub port: Option<u16>,
    /// The sources.
    pub sources: Option<Sources>,
    /// The security rule, or what else it is about, as an ARM id.
    pub about: Option<String>,
    /// The stable code of the finding, violation or cause.
    pub code: String,
    /// How bad it is.
    pub severity: Severity,
    /// What happened, in one sentence for people that names the place.
    pub what: String,
    /// Why, and what is done or to be done about it; empty where `what` says all.
    pub why: String,
    /// The attempt, where it is about an effect.
    pub attempt: Option<u32>,
    /// The grant that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// The rule that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// For whom the grant is, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// The same by object id, by which it was decided: an event that names somebody can give any name beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person_id: Option<String>,
    /// The decision whole: what it was decided on, and what came nearest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Value>,
    /// Who may be behind the opening that it is about. Hints, never proofs.
    #[serde(flatten)]
    pub behind: Behind,
}

/// What rows say about the installation that writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The name of the function app.
    pub name: String,
    /// The Entra tenant.
    pub tenant: String,
    /// The version of Portcullis.
    pub version: String,
}

/// The code of a delete that Azure accepted, or that found nothing to delete.
pub const ACCEPTED: &str = "accepted";

/// The code of a delete that may have been done: no answer came, or none that says.
pub const UNKNOWN: &str = "unknown";

/// The code of a delete that Azure refused, and of one that was not sent because the rule is another one now.
pub const REFUSED: &str = "refused";

/// The version of ASIM's AuditEvent schema that rows are written after (documentation of 2022-12 says 0.1).
pub const SCHEMA_VERSION: &str = "0.1.0";

/// What stands in the id of a record of a wish, whose own id no two have.
const OF_WANT: &str = "want";

/// What a killed run told is told again by the next one, which may have to wait until the store can be reached.
const TOLD_AGAIN_WITHIN: TimeDelta = TimeDelta::hours(1);

impl AuditRecord {
    /// The part of every id that stands for a VM; ids of one VM begin with it.
    pub fn prefix(vm: &VmId) -> String {
        short_hash(&vm.key())
    }

    /// The id of the record of one effect: the same attempt always has the same.
    pub fn effect_id(vm: &VmId, port: u16, attempt: u32) -> String {
        format!("{}-close-{port:05}-{attempt:06}", Self::prefix(vm))
    }

    /// The id of the record of what Azure answered to that attempt.
    pub fn answer_id(vm: &VmId, port: u16, attempt: u32) -> String {
        format!("{}-close-answered-{port:05}-{attempt:06}", Self::prefix(vm))
    }

    /// The id of the record of one `initiate`, and that of what JIT answered to it.
    pub fn open_ids(vm: &VmId, port: u16, attempt: u32) -> [String; 2] {
        ["open", "open-answered"].map(|kind| format!("{}-{kind}-{port:05}-{attempt:06}", Self::prefix(vm)))
    }

    /// The id of the record of what became of a wish.
    pub fn want_id(vm: &VmId, want: &str, kind: AuditKind) -> String {
        format!("{}-{OF_WANT}-{want}-{}", Self::prefix(vm), kind.text())
    }

    /// The id of the record with this number among a VM's records without an effect, about this thing: a run that is
    /// repeated after a kill may number the same things in another order, and none of them must hide another.
    pub fn numbered_id(vm: &VmId, serial: u64, kind: AuditKind, about: &str) -> String {
        let about = &short_hash(about)[..8];
        format!("{}-{serial:08}-{}-{about}", Self::prefix(vm), kind.text())
    }

    /// Whether what stands under the same id is another record. A machine's record in the store counts its attempts and what is told
    /// of it; one that was lost, or put back to an earlier version, counts the same numbers again. An attempt has one time, and what
    /// else a run tells that was killed before is told again soon.
    pub fn is_another_than(&self, there: &AuditRecord) -> bool {
        let is_of_want = |vm: &VmId| self.id.starts_with(&format!("{}-{OF_WANT}-", Self::prefix(vm)));
        match (self.kind, &self.vm) {
            (_, None) => false,
            (AuditKind::Close | AuditKind::Open, Some(_)) => self.at != there.at,
            (_, Some(vm)) => !is_of_want(vm) && (self.at - there.at).abs() > TOLD_AGAIN_WITHIN,
        }
    }

    /// The same under an id that no other record has; that of the same record is always the same.
    pub fn apart(&self) -> AuditRecord {
        let told = format!("{} {} {}", self.at.timestamp_micros(), self.what, self.why);
        AuditRecord { id: format!("{}-{}", self.id, &short_hash(&told)[..8]), ..self.clone() }
    }

    /// A record of which nothing is said yet.
    pub(crate) fn blank(id: String, at: DateTime<Utc>, kind: AuditKind) -> Self {
        AuditRecord {
            id,
            at,
            kind,
            vm: None,
            port: None,
            sources: None,
            about: None,
            code: String::new(),
            severity: Severity::Informational,
            what: String::new(),
            why: String::new(),
            attempt: None,
            grant: None,
            rule: None,
            person: None,
            person_id: None,
            decision: None,
            behind: Behind::default(),
        }
    }

    /// A record of what became of a wish.
    pub fn of_want(id: String, at: DateTime<Utc>, kind: AuditKind, severity: Severity) -> Self {
        AuditRecord { code: kind.text().to_owned(), severity, ..Self::blank(id, at, kind) }
    }

    /// A record about the service itself.
    pub fn of_service(id: &str, at: DateTime<Utc>, kind: AuditKind, code: &str, severity: Severity) -> Self {
        AuditRecord { code: code.to_owned(), severity, ..Self::blank(format!("service-{id}"), at, kind) }
    }

    /// All that it says, as one text for people.
    pub fn message(&self) -> String {
        let mut text = self.what.clone();
        if !self.why.is_empty() {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&self.why);
        }
        let mut letters = text.chars();
        letters.next().map(|first| first.to_uppercase().collect::<String>() + letters.as_str()).unwrap_or_default()
    }

    /// The row for Microsoft Sentinel: ASIM's AuditEvent columns where they fit, ours beside them.
    ///
    /// The actor of a row is who did what the row tells, and that is Portcullis. Who opened a port is in `OpenedBy` where
    /// all hints agree, and with every hint in `Asked` (JIT's own records) and `Claims` (events).
    pub fn row(&self, installation: &Installation) -> Value {
        let mut row = self.asim_columns(installation);
        if let (Value::Object(row), Value::Object(own)) = (&mut row, self.own_columns()) {
            row.extend(own);
        }
        row
    }

    /// The columns of ASIM's audit event schema.
    fn asim_columns(&self, installation: &Installation) -> Value {
        let at = self.at.to_rfc3339_opts(SecondsFormat::Millis, true);
        let vm = self.vm.as_ref();
        json!({
            "TimeGenerated": at,
            "EventStartTime": at,
            "EventEndTime": at,
            "EventCount": 1,
            "EventType": self.kind.event_type(),
            "EventSubType": self.kind.text(),
            "EventResult": self.result(),
            "EventResultDetails": self.code,
            "EventSeverity": self.severity,
            "EventUid": self.id,
            "EventMessage": self.message(),
            "EventProduct": "Portcullis",
            "EventVendor": "Portcullis",
            "EventProductVersion": installation.version,
            "EventSchema": "AuditEvent",
            "EventSchemaVersion": SCHEMA_VERSION,
            "Dvc": installation.name,
            "Operation": self.operation(),
            "Object": self.about.clone().or_else(|| vm.map(ToString::to_string)).unwrap_or_default(),
            "ObjectType": "Cloud Resource",
            "ActorUsername": installation.name,
            "ActorUsernameType": "Simple",
            "ActorUserType": "Application",
            "ActorScopeId": installation.tenant,
            "ActingAppName": "Portcullis",
            "TargetHostname": vm.map(|v| v.name().to_owned()).unwrap_or_default(),
            "TargetDvcId": vm.map(ToString::to_string).unwrap_or_default(),
            "TargetDvcIdType": if vm.is_some() { "AzureResourceId" } else { "" },
            "TargetDvcScopeId": vm.map(VmId::subscription).unwrap_or_default(),
            "TargetPortNumber": self.port,
        })
    }

    /// The columns of Portcullis' own.
    fn own_columns(&self) -> Value {
        json!({
            "AuditId": self.id,
            "Code": self.code,
            "Sources": self.sources.as_ref().map(ToString::to_string).unwrap_or_default(),
            "Attempt": self.attempt,
            "GrantId": self.grant.as_deref().unwrap_or_default(),
            "RuleName": self.rule.as_deref().unwrap_or_default(),
            "GrantedTo": self.person.as_deref().unwrap_or_default(),
            "GrantedToId": self.person_id.as_deref().unwrap_or_default(),
            "Decision": self.decision,
            "OpenedBy": self.behind.one().unwrap_or_default(),
            "Asked": self.behind.asked,
            "Claims": self.behind.claims,
        })
    }

    fn result(&self) -> &'static str {
        match self.kind {
            AuditKind::ProvedShut | AuditKind::ProvedGone | AuditKind::FindingGone | AuditKind::AlarmCleared => "Success",
            AuditKind::Adopted | AuditKind::Confirmed | AuditKind::Granted | AuditKind::Opened | AuditKind::GrantClosed => "Success",
            AuditKind::Swept => "Success",
            AuditKind::Declined => "Failure",
            AuditKind::AlarmRaised | AuditKind::Rejected | AuditKind::ServiceFailing => "Failure",
            // "NA" is ASIM's word for what has no result yet.
            AuditKind::Close | AuditKind::WouldClose | AuditKind::FindingAppeared | AuditKind::FindingChanged => "NA",
            AuditKind::GrantEnded | AuditKind::Open | AuditKind::Replayed | AuditKind::Missed => "NA",
            AuditKind::CloseAnswered | AuditKind::OpenAnswered if self.code == ACCEPTED => "Success",
            AuditKind::CloseAnswered | AuditKind::OpenAnswered if self.code == UNKNOWN => "NA",
            AuditKind::CloseAnswered | AuditKind::OpenAnswered => "Failure",
        }
    }

    fn operation(&self) -> String {
        let port = self.port.map(|port| format!(" {port}")).unwrap_or_default();
        match self.kind {
            AuditKind::Close => format!("JIT close{port}"),
            AuditKind::CloseAnswered => format!("JIT close{port} {}", self.code),
            AuditKind::WouldClose => format!("JIT would close{port}"),
            AuditKind::ProvedShut => format!("JIT proved shut{port}"),
            AuditKind::ProvedGone => format!("JIT proved gone{port}"),
            AuditKind::FindingAppeared | AuditKind::FindingChanged | AuditKind::FindingGone => format!("Finding {}{port}", self.code),
            AuditKind::AlarmRaised | AuditKind::AlarmCleared => format!("Alarm {}{port}", self.code),
            AuditKind::Missed => format!("Opening missed {}{port}", self.code),
            AuditKind::Adopted => format!("Grant adopted{port}"),
            AuditKind::Confirmed => format!("Grant confirmed{port}"),
            AuditKind::Granted => format!("Grant given{port}"),
            AuditKind::Declined => format!("Grant declined{port}"),
            AuditKind::Open => format!("JIT open{port}"),
            AuditKind::OpenAnswered => format!("JIT open{port} {}", self.code),
            AuditKind::Opened => format!("JIT opened{port}"),
            AuditKind::GrantEnded => format!("Grant ended{port}"),
            AuditKind::GrantClosed => format!("Grant closed{port}"),
            AuditKind::Rejected => "Reject".to_owned(),
            AuditKind::ServiceFailing => format!("Service {}", self.code),
            AuditKind::Replayed => "Replay".to_owned(),
            AuditKind::Swept => "Sweep".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Claim;
    use crate::time;

    const KINDS: [AuditKind; 24] = [
        AuditKind::Close,
        AuditKind::CloseAnswered,
        AuditKind::WouldClose,
        AuditKind::ProvedShut,
        AuditKind::ProvedGone,
        AuditKind::FindingAppeared,
        AuditKind::FindingChanged,
        AuditKind::FindingGone,
        AuditKind::AlarmRaised,
        AuditKind::AlarmCleared,
        AuditKind::Missed,
        AuditKind::Adopted,
        AuditKind::Confirmed,
        AuditKind::Granted,
        AuditKind::Declined,
        AuditKind::Open,
        AuditKind::OpenAnswered,
        AuditKind::Opened,
        AuditKind::GrantEnded,
        AuditKind::GrantClosed,
        AuditKind::Rejected,
        AuditKind::ServiceFailing,
        AuditKind::Replayed,
        AuditKind::Swept,
    ];

    fn record(kind: AuditKind) -> AuditRecord {
        AuditRecord {
            id: "x".to_owned(),
            at: time::parse("2026-01-15T09:00:00.5Z").unwrap(),
            kind,
            vm: Some("/subscriptions/S/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/Vm1".parse().unwrap()),
            port: Some(3389),
            sources: Some(Sources::internet()),
            about: None,
            code: "any-source".to_owned(),
            severity: Severity::High,
            what: "ports are shut".to_owned(),
            why: "because".to_owned(),
            attempt: Some(1),
            grant: Some("g".to_owned()),
            rule: None,
            person: Some("p".to_owned()),
            person_id: Some("i".to_owned()),
            decision: Some(json!({"set": "s"})),
            behind: Behind {
                asked: Vec::new(),
                claims: vec![Claim {
                    event: "e".to_owned(),
                    at: time::parse("2026-01-15T09:00:00Z").unwrap(),
                    object_id: "oid".to_owned(),
                    name: "a@contoso.com".to_owned(),
                    operation: "initiate".to_owned(),
                    apart_seconds: None,
                }],
            },
        }
    }

    fn installation() -> Installation {
        Installation { name: "portcullis".to_owned(), tenant: "t".to_owned(), version: "1".to_owned() }
    }

    #[test]
    fn a_row_carries_the_id_and_what_asim_asks_for() {
        let row = record(AuditKind::Close).row(&installation());
        for (column, value) in [
            ("TimeGenerated", json!("2026-01-15T09:00:00.500Z")),
            ("EventUid", json!("x")),
            ("AuditId", json!("x")),
            ("EventType", json!("Disable")),
            ("EventResult", json!("NA")),
            ("EventSeverity", json!("High")),
            ("EventSchema", json!("AuditEvent")),
            ("Operation", json!("JIT close 3389")),
            ("Object", json!("/subscriptions/S/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/Vm1")),
            ("EventMessage", json!("Ports are shut: because")),
            ("ActorUsername", json!("portcullis")),
            ("ActorUserType", json!("Application")),
            ("OpenedBy", json!("a@contoso.com")),
            ("Asked", json!([])),
            (
                "Claims",
                json!([{"event": "e", "at": "2026-01-15T09:00:00Z", "objectId": "oid", "name": "a@contoso.com", "operation": "initiate"}]),
            ),
            ("TargetHostname", json!("Vm1")),
            ("TargetDvcScopeId", json!("s")),
            ("TargetPortNumber", json!(3389)),
            ("Sources", json!("*")),
            ("Dvc", json!("portcullis")),
            ("GrantId", json!("g")),
            ("RuleName", json!("")),
            ("GrantedTo", json!("p")),
            ("GrantedToId", json!("i")),
            ("Decision", json!({"set": "s"})),
        ] {
            assert_eq!(row[column], value, "{column}");
        }
    }

    #[test]
    fn a_row_about_the_service_itself_has_no_target() {
        let at = time::parse("2026-01-15T09:00:00Z").unwrap();
        let mut service = AuditRecord::of_service("x", at, AuditKind::ServiceFailing, "queue", Severity::High);
        service.about = Some("queue".to_owned());
        let row = service.row(&installation());
        assert_eq!((&row["TargetDvcIdType"], &row["OpenedBy"], &row["Object"]), (&json!(""), &json!(""), &json!("queue")));
        assert_eq!(
            (&row["TargetPortNumber"], &row["Operation"], &row["EventMessage"]),
            (&Value::Null, &json!("Service queue"), &json!(""))
        );
        assert_eq!((&row["AuditId"], &row["EventSeverity"]), (&json!("service-x"), &json!("High")));
        service.why = "it does not answer".to_owned();
        assert_eq!(service.message(), "It does not answer");
    }

    #[test]
    fn each_kind_has_its_words() {
        let words: Vec<String> = KINDS
            .iter()
            .map(|kind| {
                let row = record(*kind).row(&installation());
                let text = |column: &str| row[column].as_str().unwrap().to_owned();
                assert_eq!(serde_json::to_string(kind).unwrap(), format!("\"{}\"", kind.text()));
                format!("{}: {} {} {}", text("EventSubType"), text("EventType"), text("EventResult"), text("Operation"))
            })
            .collect();
        assert_eq!(
            words,
            [
                "close: Disable NA JIT close 3389",
                "close-answered: Disable Failure JIT close 3389 any-source",
                "would-close: Read NA JIT would close 3389",
                "proved-shut: Disable Success JIT proved shut 3389",
                "proved-gone: Disable Success JIT proved gone 3389",
                "finding-appeared: Read NA Finding any-source 3389",
                "finding-changed: Read NA Finding any-source 3389",
                "finding-gone: Read Success Finding any-source 3389",
                "alarm-raised: Other Failure Alarm any-source 3389",
                "alarm-cleared: Other Success Alarm any-source 3389",
                "missed: Read NA Opening missed any-source 3389",
                "adopted: Enable Success Grant adopted 3389",
                "confirmed: Read Success Grant confirmed 3389",
                "granted: Enable Success Grant given 3389",
                "declined: Other Failure Grant declined 3389",
                "open: Enable NA JIT open 3389",
                "open-answered: Enable Failure JIT open 3389 any-source",
                "opened: Enable Success JIT opened 3389",
                "grant-ended: Disable NA Grant ended 3389",
                "grant-closed: Disable Success Grant closed 3389",
                "rejected: Other Failure Reject",
                "service-failing: Other Failure Service any-source",
                "replayed: Execute NA Replay",
                "swept: Execute Success Sweep",
            ]
        );
    }

    #[test]
    fn the_answer_to_a_delete_is_a_success_only_when_azure_accepted_it() {
        let result = |code: &str| AuditRecord { code: code.to_owned(), ..record(AuditKind::CloseAnswered) }.result();
        assert_eq!((result(ACCEPTED), result(REFUSED), result(UNKNOWN)), ("Success", "Failure", "NA"));
    }

    #[test]
    fn numbers_that_a_lost_record_counted_before_hide_nothing() {
        let told = |kind: AuditKind, at: TimeDelta| AuditRecord { at: record(kind).at + at, ..record(kind) };
        let (now, later, tomorrow) = (TimeDelta::zero(), TimeDelta::minutes(20), TimeDelta::days(1));
        for kind in [AuditKind::Close, AuditKind::Open] {
            assert!(!told(kind, now).is_another_than(&told(kind, now)), "a run repeats itself");
            assert!(told(kind, later).is_another_than(&told(kind, now)), "an attempt has one time");
        }
        for kind in [AuditKind::AlarmRaised, AuditKind::CloseAnswered] {
            assert!(!told(kind, later).is_another_than(&told(kind, now)), "the run before was killed");
            assert!(told(kind, tomorrow).is_another_than(&told(kind, now)));
        }
        let of_want = |at: TimeDelta| {
            let granted = told(AuditKind::Granted, at);
            AuditRecord { id: AuditRecord::want_id(granted.vm.as_ref().unwrap(), "w", AuditKind::Granted), ..granted }
        };
        assert!(!of_want(tomorrow).is_another_than(&of_want(now)), "no two wishes have one id");
        let of_service = |at: TimeDelta| AuditRecord { vm: None, ..told(AuditKind::ServiceFailing, at) };
        assert!(!of_service(tomorrow).is_another_than(&of_service(now)), "its id says which time is meant");
        let apart = told(AuditKind::Close, later).apart();
        assert_eq!(apart, told(AuditKind::Close, later).apart());
        assert_ne!(apart.id, told(AuditKind::Close, tomorrow).apart().id);
        assert!(apart.id.starts_with(&record(AuditKind::Close).id));
    }

    #[test]
    fn ids_tell_vm_port_and_attempt_apart() {
        let vm = |name: &str| {
            format!("/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/{name}").parse::<VmId>().unwrap()
        };
        let ids = [
            AuditRecord::effect_id(&vm("a"), 22, 1),
            AuditRecord::effect_id(&vm("a"), 22, 2),
            AuditRecord::effect_id(&vm("a"), 23, 1),
            AuditRecord::effect_id(&vm("b"), 22, 1),
            AuditRecord::answer_id(&vm("a"), 22, 1),
            AuditRecord::numbered_id(&vm("a"), 1, AuditKind::ProvedShut, "a"),
            AuditRecord::numbered_id(&vm("a"), 1, AuditKind::AlarmRaised, "a"),
            AuditRecord::numbered_id(&vm("a"), 1, AuditKind::ProvedShut, "b"),
            AuditRecord::numbered_id(&vm("a"), 2, AuditKind::ProvedShut, "a"),
        ];
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), ids.len());
        assert_eq!(AuditRecord::effect_id(&vm("A"), 22, 1), ids[0]);
        assert!(ids[0].starts_with(&AuditRecord::prefix(&vm("a"))) && ids[4].starts_with(&AuditRecord::prefix(&vm("a"))));
    }
}
