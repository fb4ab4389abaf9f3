//! Audit records: what is written down for good, and the row of Microsoft Sentinel that tells it.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::arm_id::VmId;
use crate::finding::Severity;
use crate::opening::short_hash;
use crate::record::Claim;
use crate::source::Sources;

/// What an audit record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditKind {
    /// A rule is about to be deleted; written before the call.
    Close,
    /// A rule would have been deleted in enforce mode.
    WouldClose,
    /// A port was proved shut.
    ProvedShut,
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
    /// Something that came in could not be used and was stored.
    Rejected,
    /// A part of the service itself does not work.
    ServiceFailing,
}

impl AuditKind {
    /// The kind as it is written.
    pub fn text(self) -> &'static str {
        match self {
            AuditKind::Close => "close",
            AuditKind::WouldClose => "would-close",
            AuditKind::ProvedShut => "proved-shut",
            AuditKind::FindingAppeared => "finding-appeared",
            AuditKind::FindingChanged => "finding-changed",
            AuditKind::FindingGone => "finding-gone",
            AuditKind::AlarmRaised => "alarm-raised",
            AuditKind::AlarmCleared => "alarm-cleared",
            AuditKind::Rejected => "rejected",
            AuditKind::ServiceFailing => "service-failing",
        }
    }

    /// ASIM's `EventType` for it.
    fn event_type(self) -> &'static str {
        match self {
            AuditKind::Close | AuditKind::ProvedShut => "Disable",
            AuditKind::WouldClose | AuditKind::FindingAppeared | AuditKind::FindingChanged | AuditKind::FindingGone => "Read",
            AuditKind::AlarmRaised | AuditKind::AlarmCleared | AuditKind::Rejected | AuditKind::ServiceFailing => "Other",
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
    /// Why, in one sentence for people.
    pub why: String,
    /// The attempt, where it is about an effect.
    pub attempt: Option<u32>,
    /// What events claim about who made the opening. Hints, never proofs.
    pub claims: Vec<Claim>,
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

/// The version of ASIM's AuditEvent schema that rows are written after (documentation of 2022-12 says 0.1).
pub const SCHEMA_VERSION: &str = "0.1.0";

impl AuditRecord {
    /// The part of every id that stands for a VM; ids of one VM begin with it.
    pub fn prefix(vm: &VmId) -> String {
        short_hash(&vm.key())
    }

    /// The id of the record of one effect: the same attempt always has the same.
    pub fn effect_id(vm: &VmId, port: u16, attempt: u32) -> String {
        format!("{}-close-{port:05}-{attempt:06}", Self::prefix(vm))
    }

    /// The id of the record with this number among a VM's records without an effect, about this thing: a run that is
    /// repeated after a kill may number the same things in another order, and none of them must hide another.
    pub fn numbered_id(vm: &VmId, serial: u64, kind: AuditKind, about: &str) -> String {
        let about = &short_hash(about)[..8];
        format!("{}-{serial:08}-{}-{about}", Self::prefix(vm), kind.text())
    }

    /// The row for Microsoft Sentinel: ASIM's AuditEvent columns where they fit, ours beside them.
    pub fn row(&self, installation: &Installation) -> Value {
        let at = self.at.to_rfc3339_opts(SecondsFormat::Millis, true);
        let vm = self.vm.as_ref();
        let claim = self.claims.last();
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
            "EventMessage": self.why,
            "EventProduct": "Portcullis",
            "EventVendor": "Portcullis",
            "EventProductVersion": installation.version,
            "EventSchema": "AuditEvent",
            "EventSchemaVersion": SCHEMA_VERSION,
            "Dvc": installation.name,
            "Operation": self.operation(),
            "Object": self.about.clone().or_else(|| vm.map(ToString::to_string)).unwrap_or_default(),
            "ObjectType": "Cloud Resource",
            "ActorUserId": claim.map(|c| c.object_id.clone()).unwrap_or_default(),
            "ActorUserIdType": if claim.is_some() { "EntraID" } else { "" },
            "ActorUsername": claim.map(|c| c.name.clone()).unwrap_or_default(),
            "ActorScopeId": installation.tenant,
            "ActingAppName": "Portcullis",
            "TargetHostname": vm.map(|v| v.name().to_owned()).unwrap_or_default(),
            "TargetDvcId": vm.map(ToString::to_string).unwrap_or_default(),
            "TargetDvcIdType": if vm.is_some() { "AzureResourceId" } else { "" },
            "TargetDvcScopeId": vm.map(|v| v.subscription().to_owned()).unwrap_or_default(),
            "TargetPortNumber": self.port,
            "AuditId": self.id,
            "Code": self.code,
            "Sources": self.sources.as_ref().map(ToString::to_string).unwrap_or_default(),
            "Attempt": self.attempt,
            "Claims": self.claims,
        })
    }

    fn result(&self) -> &'static str {
        match self.kind {
            AuditKind::ProvedShut | AuditKind::FindingGone | AuditKind::AlarmCleared => "Success",
            AuditKind::AlarmRaised | AuditKind::Rejected | AuditKind::ServiceFailing => "Failure",
            AuditKind::Close | AuditKind::WouldClose | AuditKind::FindingAppeared | AuditKind::FindingChanged => "NA",
        }
    }

    fn operation(&self) -> String {
        let port = self.port.map(|port| format!(" {port}")).unwrap_or_default();
        match self.kind {
            AuditKind::Close => format!("JIT close{port}"),
            AuditKind::WouldClose => format!("JIT would close{port}"),
            AuditKind::ProvedShut => format!("JIT proved shut{port}"),
            AuditKind::FindingAppeared | AuditKind::FindingChanged | AuditKind::FindingGone => format!("Finding {}{port}", self.code),
            AuditKind::AlarmRaised | AuditKind::AlarmCleared => format!("Alarm {}{port}", self.code),
            AuditKind::Rejected => "Reject".to_owned(),
            AuditKind::ServiceFailing => format!("Service {}", self.code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time;

    const KINDS: [AuditKind; 10] = [
        AuditKind::Close,
        AuditKind::WouldClose,
        AuditKind::ProvedShut,
        AuditKind::FindingAppeared,
        AuditKind::FindingChanged,
        AuditKind::FindingGone,
        AuditKind::AlarmRaised,
        AuditKind::AlarmCleared,
        AuditKind::Rejected,
        AuditKind::ServiceFailing,
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
            why: "because".to_owned(),
            attempt: Some(1),
            claims: vec![Claim {
                event: "e".to_owned(),
                at: time::parse("2026-01-15T09:00:00Z").unwrap(),
                object_id: "oid".to_owned(),
                name: "a@contoso.com".to_owned(),
                operation: "initiate".to_owned(),
            }],
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
            ("ActorUsername", json!("a@contoso.com")),
            ("ActorUserIdType", json!("EntraID")),
            ("TargetHostname", json!("Vm1")),
            ("TargetDvcScopeId", json!("s")),
            ("TargetPortNumber", json!(3389)),
            ("Sources", json!("*")),
            ("Dvc", json!("portcullis")),
        ] {
            assert_eq!(row[column], value, "{column}");
        }
    }

    #[test]
    fn a_row_about_the_service_itself_has_no_target() {
        let mut service = record(AuditKind::ServiceFailing);
        (service.vm, service.port, service.claims, service.about) = (None, None, Vec::new(), Some("queue".to_owned()));
        let row = service.row(&installation());
        assert_eq!((&row["TargetDvcIdType"], &row["ActorUserIdType"], &row["Object"]), (&json!(""), &json!(""), &json!("queue")));
        assert_eq!((&row["TargetPortNumber"], &row["Operation"]), (&Value::Null, &json!("Service any-source")));
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
                "would-close: Read NA JIT would close 3389",
                "proved-shut: Disable Success JIT proved shut 3389",
                "finding-appeared: Read NA Finding any-source 3389",
                "finding-changed: Read NA Finding any-source 3389",
                "finding-gone: Read Success Finding any-source 3389",
                "alarm-raised: Other Failure Alarm any-source 3389",
                "alarm-cleared: Other Success Alarm any-source 3389",
                "rejected: Other Failure Reject",
                "service-failing: Other Failure Service any-source",
            ]
        );
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
