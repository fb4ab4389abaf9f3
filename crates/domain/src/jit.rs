//! JIT network access policies and their records, read from ARM's JSON.
//!
//! The shapes follow the REST specification 2020-01-01 and what recordings add to it: unknown status strings, an
//! empty `requestor`, seven fraction digits, an unsorted history, and singular or plural source fields.

use std::borrow::Cow;
use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::arm_id::{PolicyId, VmId};
use crate::json::{elements, fields, items, singular_and_plural, string, text, tree};
use crate::source::Sources;
use crate::{duration, time};

/// A part of a body that could not be used, with its place and the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Where it stands, such as `properties.requests[2].virtualMachines[0].ports[1].endTimeUtc`.
    pub place: String,
    /// What is wrong with it.
    pub why: String,
}

impl Problem {
    fn new(place: &str, why: impl ToString) -> Self {
        Problem { place: place.to_owned(), why: why.to_string() }
    }
}

/// A JIT policy: which ports of which VMs may be asked for, and what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JitPolicy {
    /// Its id.
    pub id: PolicyId,
    /// The VMs that it protects.
    pub vms: Vec<JitVm>,
    /// What was asked for, one entry per VM and port, in the order in which Azure listed it, which means nothing.
    pub records: Vec<JitRecord>,
    /// Azure's `provisioningState`, as it came.
    pub state: String,
    /// Parts that could not be read.
    pub problems: Vec<Problem>,
}

/// A VM in a JIT policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JitVm {
    /// The VM.
    pub vm: VmId,
    /// The public address of a classic Azure Firewall in front of it: JIT then also writes a DNAT rule.
    pub public_ip_address: Option<String>,
    /// The ports that may be asked for.
    pub ports: Vec<JitPort>,
}

/// A port in a JIT policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JitPort {
    /// The port.
    pub number: u16,
    /// `TCP`, `UDP` or `*`, as it came.
    pub protocol: String,
    /// The sources that may be asked for.
    pub sources: Sources,
    /// The longest time that may be asked for at once.
    pub longest: TimeDelta,
}

/// JIT's own entry for one port of one VM: who asked for it and until when, never whether it is open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JitRecord {
    /// The VM.
    pub vm: VmId,
    /// The port.
    pub port: u16,
    /// When it was asked for, by Azure's clock.
    #[serde(deserialize_with = "crate::time::stored")]
    pub start: DateTime<Utc>,
    /// Until when it was asked for.
    #[serde(deserialize_with = "crate::time::stored")]
    pub end: DateTime<Utc>,
    /// The sources it was asked for.
    pub sources: Sources,
    /// What Azure says of it.
    pub status: RecordStatus,
    /// Why the status is what it is, as it came.
    pub status_reason: String,
    /// Who asked, as a UPN; absent where Azure left it empty, as it does for applications.
    pub requestor: Option<String>,
    /// The reason that was given, if any.
    pub justification: Option<String>,
    /// The port of a classic Azure Firewall that is mapped to this one.
    pub mapped_port: Option<u16>,
    /// The policy that holds the record.
    pub policy: PolicyId,
}

/// The status of a record: an open list in the specification.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum RecordStatus {
    /// Azure is still writing the rules (recorded, not in the specification's list).
    Initiating,
    /// It was opened at some time; it stays so after the rule is gone.
    Initiated,
    /// It is over.
    Revoked,
    /// Something that was not seen before.
    Other(String),
}

impl From<String> for RecordStatus {
    fn from(text: String) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "initiating" => RecordStatus::Initiating,
            "initiated" => RecordStatus::Initiated,
            "revoked" => RecordStatus::Revoked,
            _ => RecordStatus::Other(text),
        }
    }
}

impl From<RecordStatus> for String {
    fn from(status: RecordStatus) -> Self {
        match status {
            RecordStatus::Initiating => "Initiating".to_owned(),
            RecordStatus::Initiated => "Initiated".to_owned(),
            RecordStatus::Revoked => "Revoked".to_owned(),
            RecordStatus::Other(text) => text,
        }
    }
}

/// Azure keeps an end as it was asked for, but for fractions of a second.
pub(crate) const ENDS_DIFFER_BY: TimeDelta = TimeDelta::seconds(1);

impl JitRecord {
    /// Whether it was asked for this port and exactly this time.
    pub fn is_asked_for(&self, port: u16, from: DateTime<Utc>, until: DateTime<Utc>) -> bool {
        (self.port, self.start, self.end) == (port, from, until)
    }

    /// Whether Azure may still be about to open for it: it is `Initiating` and its end is still to come.
    pub fn is_initiating(&self, now: DateTime<Utc>) -> bool {
        self.status == RecordStatus::Initiating && self.end > now
    }

    /// Whether it may be the reason of a rule that is there now. Only `Revoked` says that it is not; a status that
    /// nobody has seen before says nothing.
    pub fn may_be_open(&self) -> bool {
        self.status != RecordStatus::Revoked
    }

    /// Whether a newer request for the port took its rule away (`JitNetworkAccessRequestPort.statusReason` of the REST
    /// specification).
    pub fn was_replaced(&self) -> bool {
        self.status == RecordStatus::Revoked && self.status_reason.eq_ignore_ascii_case("NewerRequestInitiated")
    }

    /// For how long it was asked.
    pub fn length(&self) -> TimeDelta {
        self.end - self.start
    }
}

impl JitPolicy {
    /// Reads a policy. Only an unusable id makes it unreadable as a whole; any other part that cannot be used is
    /// among [`Self::problems`] and everything else is there.
    pub fn read(body: &Value) -> Result<Self, Problem> {
        let properties = body.get("properties").unwrap_or(&Value::Null);
        let parts = |field| items(properties, field).iter().map(Cow::Borrowed);
        Self::of(text(body, "id"), text(properties, "provisioningState"), parts("virtualMachines"), parts("requests"))
    }

    /// Reads a policy from its text, as [`Self::read`] does from its tree, of which there is only a part at any time: a policy of
    /// a hundred machines is half a megabyte, and its tree four times that.
    pub fn of_text(body: &str) -> Result<Self, Problem> {
        let parts = |parts: Vec<_>| parts.into_iter().map(|part| Cow::Owned(tree(part)));
        if let Ok(Shell { id, properties: Properties { state, vms, requests } }) = serde_json::from_str(body) {
            return Self::of(&id, &state, parts(vms), parts(requests));
        }
        let body = fields(body);
        let properties = body.get("properties").map(|part| fields(part.get())).unwrap_or_default();
        let of = |field| parts(elements(&properties, field).unwrap_or_default());
        let (id, state) = (string(&body, "id"), string(&properties, "provisioningState"));
        Self::of(&id, &state, of("virtualMachines"), of("requests"))
    }

    fn of<'a>(
        id: &str,
        state: &str,
        vms: impl Iterator<Item = Cow<'a, Value>>,
        requests: impl Iterator<Item = Cow<'a, Value>>,
    ) -> Result<Self, Problem> {
        let id = PolicyId::parse(id).map_err(|why| Problem::new("id", why))?;
        let mut policy = JitPolicy { id, vms: Vec::new(), records: Vec::new(), state: state.to_owned(), problems: Vec::new() };
        for (n, vm) in vms.enumerate() {
            policy.read_vm(&vm, &format!("properties.virtualMachines[{n}]"));
        }
        // A policy names each of its VMs many times; one text of an id is kept.
        let known: BTreeSet<VmId> = policy.vms.iter().map(|known| known.vm.clone()).collect();
        for (n, request) in requests.enumerate() {
            policy.read_request(&request, &known, &format!("properties.requests[{n}]"));
        }
        Ok(policy)
    }

    fn read_vm(&mut self, body: &Value, place: &str) {
        let vm = match VmId::parse(text(body, "id")) {
            Ok(vm) => vm,
            Err(why) => return self.problems.push(Problem::new(&format!("{place}.id"), why)),
        };
        let mut ports = Vec::new();
        for (n, port) in items(body, "ports").iter().enumerate() {
            match JitPort::read(port, &format!("{place}.ports[{n}]")) {
                Ok(port) => ports.push(port),
                Err(problem) => self.problems.push(problem),
            }
        }
        let public_ip_address = Some(text(body, "publicIpAddress")).filter(|t| !t.is_empty()).map(str::to_owned);
        self.vms.push(JitVm { vm, public_ip_address, ports });
    }

    fn read_request(&mut self, body: &Value, known: &BTreeSet<VmId>, place: &str) {
        let start = match time::parse(text(body, "startTimeUtc")) {
            Some(start) => start,
            None => return self.problems.push(Problem::new(&format!("{place}.startTimeUtc"), "it is not a time")),
        };
        let given = |field| Some(text(body, field)).filter(|t| !t.is_empty()).map(str::to_owned);
        let (requestor, justification) = (given("requestor"), given("justification"));
        for (n, vm) in items(body, "virtualMachines").iter().enumerate() {
            let place = format!("{place}.virtualMachines[{n}]");
            let id = match VmId::parse(text(vm, "id")) {
                Ok(id) => known.get(&id).cloned().unwrap_or(id),
                Err(why) => {
                    self.problems.push(Problem::new(&format!("{place}.id"), why));
                    continue;
                }
            };
            for (n, port) in items(vm, "ports").iter().enumerate() {
                let place = format!("{place}.ports[{n}]");
                let read = read_record_port(port, &place).map(|port| JitRecord {
                    vm: id.clone(),
                    port: port.number,
                    start,
                    end: port.end,
                    sources: port.sources,
                    status: port.status,
                    status_reason: port.status_reason,
                    requestor: requestor.clone(),
                    justification: justification.clone(),
                    mapped_port: port.mapped_port,
                    policy: self.id.clone(),
                });
                match read {
                    Ok(record) => self.records.push(record),
                    Err(problem) => self.problems.push(problem),
                }
            }
        }
    }
}

impl JitPort {
    fn read(body: &Value, place: &str) -> Result<Self, Problem> {
        let longest = text(body, "maxRequestAccessDuration");
        Ok(JitPort {
            number: port_number(body, "number", place)?,
            protocol: text(body, "protocol").to_owned(),
            sources: sources(body),
            longest: duration::parse(longest).map_err(|why| Problem::new(&format!("{place}.maxRequestAccessDuration"), why))?,
        })
    }
}

/// A policy as Azure writes it, all of whose parts are there: its text is gone through once.
#[derive(Deserialize)]
struct Shell<'a> {
    id: String,
    #[serde(borrow)]
    properties: Properties<'a>,
}

#[derive(Deserialize)]
struct Properties<'a> {
    #[serde(rename = "provisioningState")]
    state: String,
    #[serde(borrow, rename = "virtualMachines")]
    vms: Vec<&'a RawValue>,
    #[serde(borrow)]
    requests: Vec<&'a RawValue>,
}

struct RecordPort {
    number: u16,
    sources: Sources,
    end: DateTime<Utc>,
    status: RecordStatus,
    status_reason: String,
    mapped_port: Option<u16>,
}

fn read_record_port(body: &Value, place: &str) -> Result<RecordPort, Problem> {
    let end = time::parse(text(body, "endTimeUtc")).ok_or_else(|| Problem::new(&format!("{place}.endTimeUtc"), "it is not a time"))?;
    let mapped_port = match body.get("mappedPort") {
        None | Some(Value::Null) => None,
        Some(_) => Some(port_number(body, "mappedPort", place)?),
    };
    Ok(RecordPort {
        number: port_number(body, "number", place)?,
        sources: sources(body),
        end,
        status: RecordStatus::from(text(body, "status").to_owned()),
        status_reason: text(body, "statusReason").to_owned(),
        mapped_port,
    })
}

fn sources(body: &Value) -> Sources {
    Sources::read(singular_and_plural(body, "allowedSourceAddressPrefix", "allowedSourceAddressPrefixes"))
}

fn port_number(body: &Value, field: &str, place: &str) -> Result<u16, Problem> {
    body.get(field)
        .and_then(Value::as_u64)
        .and_then(|n| u16::try_from(n).ok())
        .ok_or_else(|| Problem::new(&format!("{place}.{field}"), "it is not a port (0 to 65535)"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn recorded(name: &str) -> Value {
        let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    const VM: &str = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm1";
    const POLICY: &str =
        "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Security/locations/westeurope/jitNetworkAccessPolicies/default";

    #[test]
    fn a_recorded_policy_is_read_whole() {
        let body = &recorded("rec_net_2018_get_200.json")["response"]["body"];
        let policy = JitPolicy::read(body).unwrap();
        assert_eq!(policy.problems, []);
        assert_eq!(policy.id.name(), "default");
        assert_eq!(policy.vms[0].ports.iter().map(|p| p.number).collect::<Vec<_>>(), [22, 3389, 5985, 5986]);
        assert_eq!(policy.vms[0].ports[0].longest, TimeDelta::hours(3));
        assert_eq!(policy.vms[0].ports[0].protocol, "*");
        assert!(policy.vms[0].ports[0].sources.amounts_to_internet());
        assert_eq!(policy.vms[0].public_ip_address, None);
        assert_eq!(policy.records.len(), 6);
        let open: Vec<_> = policy.records.iter().filter(|r| r.may_be_open()).collect();
        assert_eq!(open.len(), 1);
        assert_eq!(open[0].status, RecordStatus::Initiated);
        assert_eq!(open[0].requestor, None);
        assert_eq!(open[0].end, time::parse("2018-07-22T15:51:55.21337Z").unwrap());
        assert_eq!(open[0].sources.to_string(), "167.220.196.64");
        assert_eq!(policy.records[4].requestor.as_deref(), Some("ordanoch@microsoft.com"));
        assert_eq!(policy.records[4].length(), TimeDelta::hours(1));
    }

    #[test]
    fn plural_sources_mapped_ports_and_unknown_statuses_are_read() {
        let policy = JitPolicy::read(&json!({
            "id": POLICY,
            "properties": {
                "virtualMachines": [{"id": VM, "publicIpAddress": "20.1.2.3", "ports": []}],
                "requests": [{
                    "startTimeUtc": "2026-01-15T09:00:00.1234567Z", "requestor": "a@contoso.com", "justification": "why not",
                    "virtualMachines": [{"id": VM.to_uppercase().replace("/SUBSCRIPTIONS", "/subscriptions"), "ports": [{
                        "number": 22, "allowedSourceAddressPrefixes": ["10.0.0.1", "10.0.0.2"],
                        "endTimeUtc": "2026-01-15T10:00:00Z", "status": "Failed", "statusReason": "Quota", "mappedPort": 13389
                    }]}]
                }]
            }
        }))
        .unwrap();
        assert_eq!(policy.vms[0].public_ip_address.as_deref(), Some("20.1.2.3"));
        let record = &policy.records[0];
        assert_eq!(record.vm, policy.vms[0].vm);
        assert_eq!(record.status, RecordStatus::Other("Failed".to_owned()));
        assert_eq!(String::from(record.status.clone()), "Failed");
        assert!(record.may_be_open());
        assert_eq!(record.mapped_port, Some(13389));
        assert_eq!(record.justification.as_deref(), Some("why not"));
        assert_eq!(record.sources.to_string(), "10.0.0.1, 10.0.0.2");
    }

    #[test]
    fn a_part_that_cannot_be_read_is_named_and_the_rest_is_there() {
        let port = |number: Value, end: &str| json!({"number": number, "endTimeUtc": end, "status": "Initiated"});
        let policy = JitPolicy::read(&json!({
            "id": POLICY,
            "properties": {
                "virtualMachines": [
                    {"id": "vm1", "ports": []},
                    {"id": VM, "ports": [{"number": 70000, "maxRequestAccessDuration": "PT3H"}, {"number": 22, "maxRequestAccessDuration": "3h"}, {"number": 22, "maxRequestAccessDuration": "PT3H"}]}
                ],
                "requests": [
                    {"startTimeUtc": "yesterday", "virtualMachines": []},
                    {"startTimeUtc": "2026-01-15T09:00:00Z", "virtualMachines": [
                        {"id": "?", "ports": []},
                        {"id": VM, "ports": [port(json!(22), "never"), port(json!("22"), "2026-01-15T09:00:00Z"), port(json!(23), "2026-01-15T10:00:00Z"), {"number": 22, "endTimeUtc": "2026-01-15T10:00:00Z", "mappedPort": "x"}]}
                    ]}
                ]
            }
        }))
        .unwrap();
        let places: Vec<&str> = policy.problems.iter().map(|p| p.place.as_str()).collect();
        assert_eq!(
            places,
            [
                "properties.virtualMachines[0].id",
                "properties.virtualMachines[1].ports[0].number",
                "properties.virtualMachines[1].ports[1].maxRequestAccessDuration",
                "properties.requests[0].startTimeUtc",
                "properties.requests[1].virtualMachines[0].id",
                "properties.requests[1].virtualMachines[1].ports[0].endTimeUtc",
                "properties.requests[1].virtualMachines[1].ports[1].number",
                "properties.requests[1].virtualMachines[1].ports[3].mappedPort",
            ]
        );
        assert_eq!((policy.vms.len(), policy.vms[0].ports.len(), policy.records.len()), (1, 1, 1));
        assert!(JitPolicy::read(&json!({"id": VM})).is_err());
        assert!(JitPolicy::read(&json!(null)).is_err());
        assert!(JitPolicy::of_text("null").is_err());
    }

    #[test]
    fn a_record_is_initiating_until_its_end() {
        let end = time::parse("2026-01-15T10:00:00Z").unwrap();
        let record = |status: &str| JitRecord {
            vm: VmId::parse(VM).unwrap(),
            port: 22,
            start: end - TimeDelta::hours(1),
            end,
            sources: Sources::internet(),
            status: RecordStatus::from(status.to_owned()),
            status_reason: String::new(),
            requestor: None,
            justification: None,
            mapped_port: None,
            policy: PolicyId::parse(POLICY).unwrap(),
        };
        assert!(record("initiating").is_initiating(end - TimeDelta::seconds(1)));
        assert!(!record("Initiating").is_initiating(end));
        assert!(!record("Initiated").is_initiating(end - TimeDelta::seconds(1)));
        assert!(record("Initiating").may_be_open() && record("Initiated").may_be_open());
        assert!(!record("REVOKED").may_be_open());
        for status in [RecordStatus::Initiating, RecordStatus::Initiated, RecordStatus::Revoked] {
            assert_eq!(RecordStatus::from(String::from(status.clone())), status);
        }
    }
}
