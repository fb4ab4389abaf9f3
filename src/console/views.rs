//! What of a VM's record is shown, and in which words. Pure: what is shown is what the last look wrote down.

use chrono::{DateTime, SecondsFormat, Utc};
use portcullis_domain::arm_id::{RuleId, VmId, lower};
use portcullis_domain::audit::{AuditKind, AuditRecord};
use portcullis_domain::behind::{Asked, Behind};
use portcullis_domain::finding::{Finding, FindingCode, Severity};
use portcullis_domain::grant::{Declined, End, Grant, Origin, Phase};
use portcullis_domain::opening::short_hash;
use portcullis_domain::record::{Alarm, Blind, Cause, Claim, Closing, Intent, Outcome, SeenOpening, Trouble, VmRecord};
use portcullis_domain::source::Sources;
use portcullis_domain::want::{Answer, Became, What};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::page::Keyed;

/// A time, shown to the second: what is finer means nothing between clocks of different machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Second(pub(super) DateTime<Utc>);

impl Serialize for Second {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_rfc3339_opts(SecondsFormat::Secs, true))
    }
}

/// A VM in the list of VMs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VmLine {
    id: VmId,
    openings: usize,
    grants: usize,
    closings: usize,
    findings: usize,
    alarms: usize,
    blind_since: Option<Second>,
    next_look: Option<Second>,
}

/// A VM's whole record, without what only the next run needs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Vm {
    id: VmId,
    openings: Vec<Opening>,
    grants: Vec<GrantView>,
    closings: Vec<ClosingView>,
    findings: Vec<FindingView>,
    alarms: Vec<AlarmView>,
    claims: Vec<ClaimView>,
    ports: Vec<PortView>,
    blind: Option<BlindView>,
    taken_down: Vec<String>,
    awaits_opening: bool,
    would_shut: Vec<String>,
    not_before: Option<Second>,
    next_look: Option<Second>,
}

/// An opening.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Opening {
    vm: VmId,
    rule: RuleId,
    ports: String,
    protocol: String,
    sources: Sources,
    destinations: Sources,
    first_seen: Second,
    flush_connection: bool,
    judgement: Judgement,
    findings: Vec<FindingView>,
    closing: Option<ClosingView>,
    #[serde(flatten)]
    behind: BehindView,
}

/// What the last look held of an opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Judgement {
    /// A live grant covers it.
    Covered,
    /// No grant covers it and no limit forbids it.
    Left,
    /// It is being shut.
    BeingShut,
    /// It would be shut in enforce mode.
    WouldBeShut,
}

/// A grant.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GrantView {
    id: String,
    vm: VmId,
    port: u16,
    sources: Sources,
    from: Second,
    until: Second,
    person: String,
    name: Option<String>,
    rule: Option<String>,
    origin: &'static str,
    phase: &'static str,
    declined: Option<&'static str>,
    confirm_by: Option<Second>,
    ended: Option<&'static str>,
    ended_because: Option<String>,
    first_shut_read: Option<Second>,
}

/// A port that is being shut.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ClosingView {
    port: u16,
    code: &'static str,
    why: String,
    since: Second,
    attempt: Option<AttemptView>,
    last_delete: Option<Second>,
    first_shut_read: Option<Second>,
    no_proof_before: Option<Second>,
    trouble: Option<TroubleView>,
    rules: Vec<RuleView>,
    flush_connection: bool,
}

/// A rule that is being taken away, and when the last delete of it was intended that Azure then accepted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RuleView {
    rule: RuleId,
    deleted: Option<Second>,
}

/// The last effect that was intended.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AttemptView {
    number: u32,
    rule: RuleId,
    at: Second,
    outcome: &'static str,
    said: Option<String>,
}

/// What keeps something from going forward.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TroubleView {
    cause: Cause,
    cure: &'static str,
    said: String,
}

/// A finding.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FindingView {
    id: String,
    vm: VmId,
    code: FindingCode,
    severity: &'static str,
    port: Option<u16>,
    about: String,
    sources: Option<Sources>,
    evidence: String,
    done: String,
    since: Second,
    #[serde(flatten)]
    behind: BehindView,
}

/// An alarm.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AlarmView {
    id: String,
    vm: VmId,
    cause: Cause,
    cure: &'static str,
    port: Option<u16>,
    since: Second,
    text: String,
}

/// What an event said.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ClaimView {
    event: String,
    at: Second,
    object_id: String,
    name: String,
    operation: String,
}

/// An audit record.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuditView {
    id: String,
    at: Second,
    kind: AuditKind,
    vm: Option<VmId>,
    port: Option<u16>,
    sources: Option<Sources>,
    about: Option<String>,
    code: String,
    severity: &'static str,
    what: String,
    why: String,
    attempt: Option<u32>,
    grant: Option<String>,
    rule: Option<String>,
    person: Option<String>,
    person_id: Option<String>,
    decision: Option<Value>,
    #[serde(flatten)]
    behind: BehindView,
}

/// Who may be behind an opening: hints, and the one person or application that all of them agree on.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct BehindView {
    opened_by: Option<String>,
    asked: Vec<AskedView>,
    claims: Vec<ClaimView>,
}

/// What a record of JIT says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AskedView {
    start: Second,
    end: Second,
    by: Option<String>,
    justification: Option<String>,
}

/// What is remembered of a port over time.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PortView {
    port: u16,
    attempts: u32,
    proved_shut: Option<Second>,
}

/// That the VM cannot be read.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BlindView {
    since: Second,
    trouble: TroubleView,
}

/// The VM itself, as the list's one item of it.
pub(super) fn vm_lines(record: &VmRecord) -> Vec<Keyed<VmLine>> {
    let line = VmLine {
        id: record.vm.clone(),
        openings: record.openings.len(),
        grants: record.grants.len(),
        closings: record.closings.len(),
        findings: record.findings.len(),
        alarms: record.alarms.len(),
        blind_since: record.blind.as_ref().map(|blind| Second(blind.since)),
        next_look: record.next_look.map(Second),
    };
    vec![(String::new(), line)]
}

/// The VM's openings, by their rule.
pub(super) fn openings(record: &VmRecord) -> Vec<Keyed<Opening>> {
    record.openings.iter().map(|seen| (seen.opening.rule.arm_id().key(), opening(record, seen))).collect()
}

/// The VM's grants, by their id.
pub(super) fn grants(record: &VmRecord) -> Vec<Keyed<GrantView>> {
    record.grants.iter().map(|grant| (format!("{} {:05}", grant.id, grant.port), GrantView::of(grant))).collect()
}

/// The VM's findings, by their id.
pub(super) fn findings(record: &VmRecord) -> Vec<Keyed<FindingView>> {
    record.findings.iter().map(|(id, finding)| (id.clone(), FindingView::of(&record.vm, finding))).collect()
}

/// The VM's alarms, by their key.
pub(super) fn alarms(record: &VmRecord) -> Vec<Keyed<AlarmView>> {
    record.alarms.iter().map(|(key, alarm)| (key.clone(), AlarmView::of(&record.vm, key, alarm))).collect()
}

/// The whole record.
pub(super) fn vm(record: &VmRecord) -> Vm {
    // Named one by one, so that what is added to a record is shown, or left away on purpose.
    let VmRecord {
        vm,
        serial: _,
        untold: _,
        grants: _,
        claims,
        openings: _,
        closings,
        shut: _,
        gone: _,
        initiates: _,
        attempts: _,
        findings: _,
        alarms: _,
        would_close,
        opened: _,
        blind,
        taken_down,
        awaits_opening,
        judge_again: _,
        gone_since: _,
        lease: _,
        not_before,
        pause_seconds: _,
        next_look,
        looked: _,
        wake_up: _,
        fingerprint: _,
        due: _,
        ended_early: _,
        asked: _,
        accounted: _,
        replaced: _,
        undecided: _,
        unseen: _,
        unsettled: _,
        turns: _,
    } = record;
    Vm {
        id: vm.clone(),
        openings: plain(openings(record)),
        grants: plain(grants(record)),
        closings: closings.iter().map(|(port, closing)| ClosingView::of(*port, closing)).collect(),
        findings: plain(findings(record)),
        alarms: plain(alarms(record)),
        claims: claims.iter().map(ClaimView::of).collect(),
        ports: ports(record),
        blind: blind.as_ref().map(BlindView::of),
        taken_down: taken_down.iter().cloned().collect(),
        awaits_opening: *awaits_opening,
        would_shut: would_close.iter().cloned().collect(),
        not_before: not_before.map(Second),
        next_look: next_look.map(Second),
    }
}

fn plain<T>(keyed: Vec<Keyed<T>>) -> Vec<T> {
    keyed.into_iter().map(|(_, item)| item).collect()
}

fn opening(record: &VmRecord, seen: &SeenOpening) -> Opening {
    let opening = &seen.opening;
    let key = opening.rule.arm_id().key();
    let is_target = |closing: &Closing| closing.targets.iter().any(|target| target.rule == opening.rule);
    let closing = record.closings.iter().find(|(_, closing)| is_target(closing));
    let findings: Vec<FindingView> =
        record.findings.values().filter(|f| lower(&f.about) == key).map(|f| FindingView::of(&record.vm, f)).collect();
    let judgement = if closing.is_some() {
        Judgement::BeingShut
    } else if record.would_close.contains(&key) {
        Judgement::WouldBeShut
    } else if !findings.is_empty() {
        Judgement::Left
    } else {
        // A look writes a finding about every opening that no live grant covers.
        Judgement::Covered
    };
    let found = record.findings.values().find(|finding| lower(&finding.about) == key);
    let behind = closing.map(|(_, closing)| &closing.behind).or(found.map(|finding| &finding.behind));
    let behind = behind.map(BehindView::of).unwrap_or_default();
    Opening {
        vm: record.vm.clone(),
        rule: opening.rule.clone(),
        ports: opening.ports.to_string(),
        protocol: opening.protocol.clone(),
        sources: opening.sources.clone(),
        destinations: opening.destinations.clone(),
        first_seen: Second(seen.first),
        flush_connection: opening.flush_connection,
        judgement,
        findings,
        closing: closing.map(|(port, closing)| ClosingView::of(*port, closing)),
        behind,
    }
}

fn rules(closing: &Closing) -> Vec<RuleView> {
    let view = |rule: &RuleId| RuleView { rule: rule.clone(), deleted: closing.deleted.get(rule).copied().map(Second) };
    closing.targets.iter().map(|target| view(&target.rule)).collect()
}

fn ports(record: &VmRecord) -> Vec<PortView> {
    let mut ports: Vec<u16> = record.shut.keys().chain(record.attempts.keys()).copied().collect();
    ports.sort_unstable();
    ports.dedup();
    let view = |port| PortView {
        port,
        attempts: record.attempts.get(&port).copied().unwrap_or(0),
        proved_shut: record.shut.get(&port).copied().map(Second),
    };
    ports.into_iter().map(view).collect()
}

impl GrantView {
    fn of(grant: &Grant) -> Self {
        let (phase, declined) = match grant.phase {
            Phase::Requested => ("requested", None),
            Phase::Waiting => ("waiting", None),
            Phase::Approved => ("approved", None),
            Phase::Opening => ("opening", None),
            Phase::Open => ("open", None),
            Phase::Closing => ("closing", None),
            Phase::Closed => ("closed", None),
            Phase::Declined(why) => ("declined", Some(declined(why))),
        };
        GrantView {
            id: grant.id.clone(),
            vm: grant.vm.clone(),
            port: grant.port,
            sources: grant.sources.clone(),
            from: Second(grant.from),
            until: Second(grant.until),
            person: grant.person.clone(),
            name: Some(grant.name.clone()).filter(|name| !name.is_empty()),
            rule: Some(grant.rule.clone()).filter(|rule| !rule.is_empty()),
            origin: match grant.origin {
                Origin::Asked => "asked",
                Origin::Adopted => "adopted",
                Origin::BreakGlass => "break-glass",
            },
            phase,
            declined,
            confirm_by: grant.confirm_by.map(Second),
            ended: grant.ended.as_ref().map(End::code),
            ended_because: grant.ended.as_ref().map(End::phrase),
            first_shut_read: grant.first_shut_read.map(Second),
        }
    }
}

impl ClosingView {
    fn of(port: u16, closing: &Closing) -> Self {
        ClosingView {
            port,
            code: closing.why.code(),
            why: closing.why.sentence(),
            since: Second(closing.since),
            attempt: closing.intent.as_ref().map(AttemptView::of),
            last_delete: closing.last_delete.map(Second),
            first_shut_read: closing.first_shut_read.map(Second),
            no_proof_before: closing.no_proof_before.map(Second),
            trouble: closing.trouble.as_ref().map(TroubleView::of),
            rules: rules(closing),
            flush_connection: closing.flush_connection,
        }
    }
}

impl AttemptView {
    fn of(intent: &Intent) -> Self {
        let (outcome, said) = match &intent.outcome {
            None => ("not-known-yet", None),
            Some(Outcome::Accepted) => ("accepted", None),
            Some(Outcome::NothingToDelete) => ("nothing-to-delete", None),
            Some(Outcome::Failed(said)) => ("failed", Some(said.clone())),
            Some(Outcome::Unknown(said)) => ("unknown", Some(said.clone())),
        };
        AttemptView { number: intent.attempt, rule: intent.rule.clone(), at: Second(intent.at), outcome, said }
    }
}

impl TroubleView {
    fn of(trouble: &Trouble) -> Self {
        TroubleView { cause: trouble.cause, cure: trouble.cause.cure(), said: trouble.said.clone() }
    }
}

impl BlindView {
    fn of(blind: &Blind) -> Self {
        BlindView { since: Second(blind.since), trouble: TroubleView::of(&blind.trouble) }
    }
}

impl FindingView {
    fn of(vm: &VmId, finding: &Finding) -> Self {
        FindingView {
            id: finding.id.clone(),
            vm: vm.clone(),
            code: finding.code,
            severity: severity(finding.code.severity()),
            port: finding.port,
            about: finding.about.clone(),
            sources: finding.sources.clone(),
            evidence: finding.evidence.clone(),
            done: finding.done.clone(),
            since: Second(finding.since),
            behind: BehindView::of(&finding.behind),
        }
    }
}

impl AlarmView {
    fn of(vm: &VmId, key: &str, alarm: &Alarm) -> Self {
        AlarmView {
            // The key is only the VM's own: `lock 3389` stands on many.
            id: short_hash(&format!("alarm|{}|{key}", vm.key())),
            vm: vm.clone(),
            cause: alarm.cause,
            cure: alarm.cause.cure(),
            port: alarm.port,
            since: Second(alarm.since),
            text: alarm.text.clone(),
        }
    }
}

impl BehindView {
    fn of(behind: &Behind) -> Self {
        BehindView {
            opened_by: behind.one().map(str::to_owned),
            asked: behind.asked.iter().map(AskedView::of).collect(),
            claims: behind.claims.iter().map(ClaimView::of).collect(),
        }
    }
}

impl AskedView {
    fn of(asked: &Asked) -> Self {
        // Named one by one, as a record is.
        let Asked { start, end, by, justification } = asked;
        AskedView { start: Second(*start), end: Second(*end), by: by.clone(), justification: justification.clone() }
    }
}

impl ClaimView {
    fn of(claim: &Claim) -> Self {
        // Named one by one, as a record is.
        let Claim { event, at, object_id, name, operation, apart_seconds: _ } = claim;
        ClaimView { event: event.clone(), at: Second(*at), object_id: object_id.clone(), name: name.clone(), operation: operation.clone() }
    }
}

/// What became of a wish.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AnswerView {
    id: String,
    vm: VmId,
    by: String,
    wants: &'static str,
    grant_id: String,
    incident: Option<String>,
    received: Second,
    became: Became,
    decided: Option<Second>,
    why: Option<String>,
    rule: Option<String>,
    grant: Option<GrantView>,
}

impl AnswerView {
    /// The answer, with the grant as it stands now; a grant that is over is none.
    pub(super) fn of(answer: &Answer, record: &VmRecord) -> Self {
        let want = &answer.want;
        let (wants, grant_id, incident) = match &want.what {
            What::Open { incident, .. } => ("open", &want.id, incident.as_ref()),
            What::Close { grant } => ("close", grant, None),
        };
        AnswerView {
            id: want.id.clone(),
            vm: want.vm.clone(),
            by: want.by.shown().to_owned(),
            wants,
            grant_id: grant_id.clone(),
            incident: incident.map(ToString::to_string),
            received: Second(want.at),
            became: answer.became,
            decided: answer.at.map(Second),
            why: Some(answer.why.clone()).filter(|why| !why.is_empty()),
            rule: answer.rule.clone(),
            grant: record.grants.iter().find(|grant| grant.id == *grant_id).map(GrantView::of),
        }
    }
}

/// An audit record as it is shown.
pub(super) fn audit(record: &AuditRecord) -> AuditView {
    // Named one by one, so that what is added to a record is shown, or left away on purpose.
    let AuditRecord {
        id,
        at,
        kind,
        vm,
        port,
        sources,
        about,
        code,
        severity: bad,
        what,
        why,
        attempt,
        grant,
        rule,
        person,
        person_id,
        decision,
        behind,
    } = record;
    AuditView {
        id: id.clone(),
        at: Second(*at),
        kind: *kind,
        vm: vm.clone(),
        port: *port,
        sources: sources.clone(),
        about: about.clone(),
        code: code.clone(),
        severity: severity(*bad),
        what: what.clone(),
        why: why.clone(),
        attempt: *attempt,
        grant: grant.clone(),
        rule: rule.clone(),
        person: person.clone(),
        person_id: person_id.clone(),
        decision: decision.clone(),
        behind: BehindView::of(behind),
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Informational => "informational",
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
    }
}

fn declined(declined: Declined) -> &'static str {
    match declined {
        Declined::Refused => "refused",
        Declined::Expired => "expired",
        Declined::Withdrawn => "withdrawn",
        Declined::NeverSent => "never-sent",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use portcullis_domain::judge::Violation;
    use portcullis_domain::opening::Opening as DomainOpening;
    use portcullis_domain::port::PortSet;
    use portcullis_domain::record::{Lease, WakeUp};
    use portcullis_domain::want::{Want, Wanter};

    use super::*;

    fn at(time: &str) -> DateTime<Utc> {
        portcullis_domain::time::parse(&format!("2026-01-15T{time}Z")).unwrap()
    }

    fn rule(name: &str) -> RuleId {
        format!("/subscriptions/S/resourceGroups/rg/providers/Microsoft.Network/networkSecurityGroups/Web/securityRules/{name}")
            .parse()
            .unwrap()
    }

    fn seen(name: &str, port: u16, source: &str) -> SeenOpening {
        let opening = DomainOpening {
            rule: rule(name),
            ports: PortSet::one(port),
            protocol: "TCP".to_owned(),
            sources: Sources::read([source]),
            destinations: Sources::read(["10.0.0.4"]),
            flush_connection: false,
        };
        SeenOpening { opening, first: at("09:00:00") }
    }

    fn found(code: FindingCode, port: u16, name: &str) -> Finding {
        let about = rule(name).to_string().to_uppercase();
        let found = Finding::new(code, "s/rg/vm1", Some(port), &about, at("09:00:00")).seen("seen").doing("done");
        found.of_opening(&Sources::read(["10.9.0.0/16"]), &behind())
    }

    fn behind() -> Behind {
        let asked = Asked {
            start: at("08:59:00"),
            end: at("11:00:00.5"),
            by: Some("ada@contoso.com".to_owned()),
            justification: Some("repair".to_owned()),
        };
        let claim = Claim {
            event: "e".to_owned(),
            at: at("08:59:01.5"),
            object_id: "oid".to_owned(),
            name: "Ada".to_owned(),
            operation: "initiate".to_owned(),
            apart_seconds: None,
        };
        Behind { asked: vec![asked], claims: vec![claim] }
    }

    /// A VM with an opening of each judgement.
    fn busy() -> VmRecord {
        let vm: VmId = "/subscriptions/S/resourceGroups/Rg/providers/Microsoft.Compute/virtualMachines/Vm1".parse().unwrap();
        let mut record = VmRecord::new(vm.clone());
        record.openings =
            vec![seen("left", 22, "10.9.0.0/16"), seen("shut", 3389, "*"), seen("granted", 443, "203.0.113.4"), seen("would", 23, "*")];
        for finding in [
            found(FindingCode::Unapproved, 22, "left"),
            found(FindingCode::AnySource, 3389, "shut"),
            found(FindingCode::AnySource, 23, "would"),
        ] {
            record.findings.insert(finding.id.clone(), finding);
        }
        record.would_close.insert(rule("would").arm_id().key());
        record.grants.push(Grant {
            id: "g1".to_owned(),
            vm,
            port: 443,
            sources: Sources::read(["203.0.113.4"]),
            from: at("08:00:00"),
            until: at("10:00:00"),
            person: "00000000-0000-0000-0000-00000000000a".to_owned(),
            phase: Phase::Declined(Declined::Withdrawn),
            name: "ada@contoso.com".to_owned(),
            rule: "responders".to_owned(),
            origin: Origin::Adopted,
            confirm_by: Some(at("09:30:00")),
            ended: None,
            first_shut_read: None,
            audit: String::new(),
        });
        record.claims.push(Claim {
            event: "e1".to_owned(),
            at: at("08:59:50.1234567"),
            object_id: "00000000-0000-0000-0000-00000000000b".to_owned(),
            name: "eve@contoso.com".to_owned(),
            operation: "initiate".to_owned(),
            apart_seconds: None,
        });
        record.closings.insert(3389, closing());
        record.alarms.insert(
            "lock 3389".to_owned(),
            Alarm { cause: Cause::Lock, port: Some(3389), since: at("09:00:10"), text: "locked".to_owned() },
        );
        record.shut.insert(22, at("07:00:00"));
        record.attempts = [(22, 1), (3389, 2)].into();
        record.lease = Some(Lease { run: "secret-run".to_owned(), until: at("09:00:30") });
        record.next_look = Some(at("09:01:00"));
        record.wake_up = Some(WakeUp { at: at("09:01:00") });
        record.due.insert(at("09:01:00"), "0a1b2c3d".to_owned());
        record
    }

    fn closing() -> Closing {
        Closing {
            why: Violation::AnySource { sources: Sources::internet() },
            since: at("09:00:00"),
            intent: Some(Intent {
                attempt: 2,
                rule: rule("shut"),
                at: at("09:00:05"),
                again: false,
                outcome: Some(Outcome::Failed("it is locked".to_owned())),
            }),
            last_delete: Some(at("09:00:05")),
            first_shut_read: None,
            clear_since: None,
            repeats: 0,
            versions: String::new(),
            no_proof_before: Some(at("09:01:00")),
            trouble: Some(Trouble { cause: Cause::Lock, said: "ScopeLocked".to_owned() }),
            deleted: [(rule("shut"), at("09:00:02"))].into(),
            targets: vec![seen("SHUT", 3389, "*").opening],
            flush_connection: false,
            behind: behind(),
            told: Default::default(),
        }
    }

    #[test]
    fn a_vm_in_a_list_is_its_numbers() {
        insta::assert_json_snapshot!(plain(vm_lines(&busy())), @r#"
        [
          {
            "id": "/subscriptions/S/resourceGroups/Rg/providers/Microsoft.Compute/virtualMachines/Vm1",
            "openings": 4,
            "grants": 1,
            "closings": 1,
            "findings": 3,
            "alarms": 1,
            "blindSince": null,
            "nextLook": "2026-01-15T09:01:00Z"
          }
        ]
        "#);
    }

    #[test]
    fn an_opening_shows_what_is_held_of_it() {
        let openings = openings(&busy());
        let judged: Vec<(&str, Judgement)> = openings.iter().map(|(_, o)| (o.rule.name(), o.judgement)).collect();
        assert_eq!(
            judged,
            [("left", Judgement::Left), ("shut", Judgement::BeingShut), ("granted", Judgement::Covered), ("would", Judgement::WouldBeShut)]
        );
        insta::assert_json_snapshot!(openings[1].1, @r#"
        {
          "vm": "/subscriptions/S/resourceGroups/Rg/providers/Microsoft.Compute/virtualMachines/Vm1",
          "rule": "/subscriptions/S/resourceGroups/rg/providers/Microsoft.Network/networkSecurityGroups/Web/securityRules/shut",
          "ports": "3389",
          "protocol": "TCP",
          "sources": [
            "*"
          ],
          "destinations": [
            "10.0.0.4"
          ],
          "firstSeen": "2026-01-15T09:00:00Z",
          "flushConnection": false,
          "judgement": "being-shut",
          "findings": [
            {
              "id": "ba27ea88a8144ad0",
              "vm": "/subscriptions/S/resourceGroups/Rg/providers/Microsoft.Compute/virtualMachines/Vm1",
              "code": "any-source",
              "severity": "high",
              "port": 3389,
              "about": "/SUBSCRIPTIONS/S/RESOURCEGROUPS/RG/PROVIDERS/MICROSOFT.NETWORK/NETWORKSECURITYGROUPS/WEB/SECURITYRULES/SHUT",
              "sources": [
                "10.9.0.0/16"
              ],
              "evidence": "seen",
              "done": "done",
              "since": "2026-01-15T09:00:00Z",
              "openedBy": "ada@contoso.com",
              "asked": [
                {
                  "start": "2026-01-15T08:59:00Z",
                  "end": "2026-01-15T11:00:00Z",
                  "by": "ada@contoso.com",
                  "justification": "repair"
                }
              ],
              "claims": [
                {
                  "event": "e",
                  "at": "2026-01-15T08:59:01Z",
                  "objectId": "oid",
                  "name": "Ada",
                  "operation": "initiate"
                }
              ]
            }
          ],
          "closing": {
            "port": 3389,
            "code": "any-source",
            "why": "it lets in *, which amounts to the whole internet",
            "since": "2026-01-15T09:00:00Z",
            "attempt": {
              "number": 2,
              "rule": "/subscriptions/S/resourceGroups/rg/providers/Microsoft.Network/networkSecurityGroups/Web/securityRules/shut",
              "at": "2026-01-15T09:00:05Z",
              "outcome": "failed",
              "said": "it is locked"
            },
            "lastDelete": "2026-01-15T09:00:05Z",
            "firstShutRead": null,
            "noProofBefore": "2026-01-15T09:01:00Z",
            "trouble": {
              "cause": "lock",
              "cure": "remove the lock that Azure names; Portcullis goes on trying and needs nothing else",
              "said": "ScopeLocked"
            },
            "rules": [
              {
                "rule": "/subscriptions/S/resourceGroups/rg/providers/Microsoft.Network/networkSecurityGroups/Web/securityRules/SHUT",
                "deleted": "2026-01-15T09:00:02Z"
              }
            ],
            "flushConnection": false
          },
          "openedBy": "ada@contoso.com",
          "asked": [
            {
              "start": "2026-01-15T08:59:00Z",
              "end": "2026-01-15T11:00:00Z",
              "by": "ada@contoso.com",
              "justification": "repair"
            }
          ],
          "claims": [
            {
              "event": "e",
              "at": "2026-01-15T08:59:01Z",
              "objectId": "oid",
              "name": "Ada",
              "operation": "initiate"
            }
          ]
        }
        "#);
    }

    #[test]
    fn a_grant_says_where_it_stands() {
        insta::assert_json_snapshot!(plain(grants(&busy())), @r#"
        [
          {
            "id": "g1",
            "vm": "/subscriptions/S/resourceGroups/Rg/providers/Microsoft.Compute/virtualMachines/Vm1",
            "port": 443,
            "sources": [
              "203.0.113.4"
            ],
            "from": "2026-01-15T08:00:00Z",
            "until": "2026-01-15T10:00:00Z",
            "person": "00000000-0000-0000-0000-00000000000a",
            "name": "ada@contoso.com",
            "rule": "responders",
            "origin": "adopted",
            "phase": "declined",
            "declined": "withdrawn",
            "confirmBy": "2026-01-15T09:30:00Z",
            "ended": null,
            "endedBecause": null,
            "firstShutRead": null
          }
        ]
        "#);
        let mut grant = busy().grants.remove(0);
        for (phase, text) in [
            (Phase::Requested, "requested"),
            (Phase::Waiting, "waiting"),
            (Phase::Approved, "approved"),
            (Phase::Opening, "opening"),
            (Phase::Open, "open"),
            (Phase::Closing, "closing"),
            (Phase::Closed, "closed"),
        ] {
            grant.phase = phase;
            let view = GrantView::of(&grant);
            assert_eq!((view.phase, view.declined), (text, None));
        }
    }

    #[test]
    fn a_finding_and_an_alarm_say_what_to_do() {
        let findings = plain(findings(&busy()));
        assert_eq!(findings.len(), 3);
        insta::assert_json_snapshot!(findings.iter().find(|finding| finding.port == Some(22)), @r#"
        {
          "id": "59c02e5d5ae6e9fd",
          "vm": "/subscriptions/S/resourceGroups/Rg/providers/Microsoft.Compute/virtualMachines/Vm1",
          "code": "unapproved",
          "severity": "medium",
          "port": 22,
          "about": "/SUBSCRIPTIONS/S/RESOURCEGROUPS/RG/PROVIDERS/MICROSOFT.NETWORK/NETWORKSECURITYGROUPS/WEB/SECURITYRULES/LEFT",
          "sources": [
            "10.9.0.0/16"
          ],
          "evidence": "seen",
          "done": "done",
          "since": "2026-01-15T09:00:00Z",
          "openedBy": "ada@contoso.com",
          "asked": [
            {
              "start": "2026-01-15T08:59:00Z",
              "end": "2026-01-15T11:00:00Z",
              "by": "ada@contoso.com",
              "justification": "repair"
            }
          ],
          "claims": [
            {
              "event": "e",
              "at": "2026-01-15T08:59:01Z",
              "objectId": "oid",
              "name": "Ada",
              "operation": "initiate"
            }
          ]
        }
        "#);
        insta::assert_json_snapshot!(plain(alarms(&busy())), @r#"
        [
          {
            "id": "1b9e9300ff7f5a82",
            "vm": "/subscriptions/S/resourceGroups/Rg/providers/Microsoft.Compute/virtualMachines/Vm1",
            "cause": "lock",
            "cure": "remove the lock that Azure names; Portcullis goes on trying and needs nothing else",
            "port": 3389,
            "since": "2026-01-15T09:00:10Z",
            "text": "locked"
          }
        ]
        "#);
    }

    #[test]
    fn an_attempt_says_what_came_of_it() {
        let mut intent = closing().intent.unwrap();
        for (outcome, text, said) in [
            (None, "not-known-yet", None),
            (Some(Outcome::Accepted), "accepted", None),
            (Some(Outcome::NothingToDelete), "nothing-to-delete", None),
            (Some(Outcome::Unknown("cut".to_owned())), "unknown", Some("cut")),
        ] {
            intent.outcome = outcome;
            let view = AttemptView::of(&intent);
            assert_eq!((view.outcome, view.said.as_deref()), (text, said));
        }
    }

    #[test]
    fn the_whole_record_is_shown_without_its_lease() {
        let mut record = busy();
        record.blind = Some(Blind { since: at("09:00:00"), trouble: Trouble { cause: Cause::CannotLook, said: "503".to_owned() } });
        let text = serde_json::to_string(&vm(&record)).unwrap();
        assert!(!text.contains("secret-run") && !text.contains("lease"));
        let mut shown = serde_json::to_value(vm(&record)).unwrap();
        for list in ["openings", "grants", "closings", "findings", "alarms"] {
            assert!(!shown[list].as_array().unwrap().is_empty(), "{list}");
            shown[list] = serde_json::json!("…");
        }
        insta::assert_json_snapshot!(shown, @r#"
        {
          "id": "/subscriptions/S/resourceGroups/Rg/providers/Microsoft.Compute/virtualMachines/Vm1",
          "openings": "…",
          "grants": "…",
          "closings": "…",
          "findings": "…",
          "alarms": "…",
          "claims": [
            {
              "event": "e1",
              "at": "2026-01-15T08:59:50Z",
              "objectId": "00000000-0000-0000-0000-00000000000b",
              "name": "eve@contoso.com",
              "operation": "initiate"
            }
          ],
          "ports": [
            {
              "port": 22,
              "attempts": 1,
              "provedShut": "2026-01-15T07:00:00Z"
            },
            {
              "port": 3389,
              "attempts": 2,
              "provedShut": null
            }
          ],
          "blind": {
            "since": "2026-01-15T09:00:00Z",
            "trouble": {
              "cause": "cannot-look",
              "cure": "mend what Azure's answer names; until then nothing can be proved about this VM",
              "said": "503"
            }
          },
          "takenDown": [],
          "awaitsOpening": false,
          "wouldShut": [
            "/subscriptions/s/resourcegroups/rg/providers/microsoft.network/networksecuritygroups/web/securityrules/would"
          ],
          "notBefore": null,
          "nextLook": "2026-01-15T09:01:00Z"
        }
        "#);
    }

    #[test]
    fn an_alarm_of_another_vm_has_another_id() {
        let mut other = busy();
        other.vm = "/subscriptions/S/resourceGroups/Rg/providers/Microsoft.Compute/virtualMachines/Vm2".parse().unwrap();
        let ids = |record: &VmRecord| plain(alarms(record)).into_iter().map(|alarm| alarm.id).collect::<Vec<_>>();
        assert_eq!(ids(&busy()), ids(&busy()));
        assert_ne!(ids(&busy()), ids(&other));
    }

    fn audited() -> AuditRecord {
        AuditRecord {
            id: "x-close-03389-000002".to_owned(),
            at: at("09:00:05.25"),
            kind: AuditKind::ProvedShut,
            vm: Some(busy().vm),
            port: Some(3389),
            sources: Some(Sources::internet()),
            about: Some("rule".to_owned()),
            code: "any-source".to_owned(),
            severity: Severity::High,
            what: "the port is proved shut".to_owned(),
            why: "because".to_owned(),
            attempt: Some(2),
            grant: Some("g1".to_owned()),
            rule: Some("responders".to_owned()),
            person: Some("ada@contoso.com".to_owned()),
            person_id: Some("00000000-0000-0000-0000-00000000000a".to_owned()),
            decision: Some(serde_json::json!({"set": "s"})),
            behind: behind(),
        }
    }

    #[test]
    fn an_audit_record_is_shown_in_the_words_of_the_other_views() {
        insta::assert_json_snapshot!(audit(&audited()), @r#"
    {
      "id": "x-close-03389-000002",
      "at": "2026-01-15T09:00:05Z",
      "kind": "proved-shut",
      "vm": "/subscriptions/S/resourceGroups/Rg/providers/Microsoft.Compute/virtualMachines/Vm1",
      "port": 3389,
      "sources": [
        "*"
      ],
      "about": "rule",
      "code": "any-source",
      "severity": "high",
      "what": "the port is proved shut",
      "why": "because",
      "attempt": 2,
      "grant": "g1",
      "rule": "responders",
      "person": "ada@contoso.com",
      "personId": "00000000-0000-0000-0000-00000000000a",
      "decision": {
        "set": "s"
      },
      "openedBy": "ada@contoso.com",
      "asked": [
        {
          "start": "2026-01-15T08:59:00Z",
          "end": "2026-01-15T11:00:00Z",
          "by": "ada@contoso.com",
          "justification": "repair"
        }
      ],
      "claims": [
        {
          "event": "e",
          "at": "2026-01-15T08:59:01Z",
          "objectId": "oid",
          "name": "Ada",
          "operation": "initiate"
        }
      ]
    }
    "#);
    }

    fn answered() -> Answer {
        let by = Wanter { id: "oid".to_owned(), name: "Sam".to_owned() };
        let want = Want { id: "w1".to_owned(), at: at("09:00:00"), vm: busy().vm, by, what: What::Close { grant: "g1".to_owned() } };
        Answer { want, became: Became::Received, at: None, why: String::new(), rule: None }
    }

    #[test]
    fn the_document_explains_every_field_and_no_other() {
        use crate::console::tests::documented;
        let mut record = busy();
        record.blind = Some(Blind { since: at("09:00:00"), trouble: Trouble { cause: Cause::CannotLook, said: "503".to_owned() } });
        let whole = serde_json::to_value(vm(&record)).unwrap();
        let (openings, closing) = (&whole["openings"], &whole["closings"][0]);
        for (heading, value) in [
            ("GET /api/vms", &serde_json::to_value(&plain(vm_lines(&record))[0]).unwrap()),
            ("GET /api/vms/{subscription}/{group}/{name}", &whole),
            ("GET /api/openings", &openings[1]),
            ("GET /api/grants", &whole["grants"][0]),
            ("GET /api/findings", &whole["findings"][0]),
            ("GET /api/alarms", &whole["alarms"][0]),
            ("GET /api/audit", &serde_json::to_value(audit(&audited())).unwrap()),
            ("GET /api/requests/{id}", &serde_json::to_value(AnswerView::of(&answered(), &record)).unwrap()),
            ("A closing", closing),
            ("An attempt", &closing["attempt"]),
            ("A rule of a closing", &closing["rules"][0]),
            ("A trouble", &closing["trouble"]),
            ("A port", &whole["ports"][0]),
            ("What cannot be read", &whole["blind"]),
            ("A claim", &whole["claims"][0]),
        ] {
            let shown: BTreeSet<&str> = value.as_object().expect(heading).keys().map(String::as_str).collect();
            let explained = documented(heading);
            assert_eq!(explained.into_iter().collect::<BTreeSet<_>>(), shown, "{heading}");
        }
    }
}
