//! What the world has shown so far: openings as JIT's own records tell them, rules as they stood second by second,
//! audit records as the store holds them, and what of all that happened since the last look.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};
use portcullis_domain::audit::{AuditKind, AuditRecord};
use portcullis_domain::finding::FindingCode;
use portcullis_domain::time;
use portcullis_sandbox::blob;
use portcullis_sandbox::state::{LogEntry, State};
use serde_json::Value;

/// The action by which a rule goes, as the world's log names it.
pub const DELETE: &str = "Microsoft.Network/networkSecurityGroups/securityRules/delete";
const WRITE: &str = "Microsoft.Network/networkSecurityGroups/securityRules/write";
/// The action by which JIT is asked to open.
pub const INITIATE: &str = "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action";
const GROUPS: &str = "Microsoft.Network/networkSecurityGroups";
const POLICIES: &str = "Microsoft.Security/locations/jitNetworkAccessPolicies";
/// What the names of JIT's allow rules have and those of its deny rules have not.
const ALLOW_RULE: &str = "-JITRule-";

/// A port of a VM.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The VM's name.
    pub vm: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.port, self.vm)
    }
}

/// What somebody asked JIT for, as JIT's record says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// What.
    pub place: Place,
    /// When it was asked for.
    pub asked: DateTime<Utc>,
    /// Until when.
    pub until: DateTime<Utc>,
    /// By whom.
    pub by: String,
    /// Who is let in.
    pub sources: Vec<String>,
}

/// An allow rule of JIT, as it stood in a security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// The group's name.
    pub group: String,
    /// What it opens.
    pub place: Place,
    /// Whom it lets in.
    pub sources: Vec<String>,
    /// The times in which it stood: from, and until, unless it still stands.
    pub stood: Vec<(DateTime<Utc>, Option<DateTime<Utc>>)>,
}

/// How Portcullis came to know of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Through {
    /// The handling of an event sent the look.
    Event,
    /// The sweep sent the look.
    Sweep,
    /// The look was planned before.
    Look,
}

/// Something that happened, with everything alike of the same instant in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// When.
    pub at: DateTime<Utc>,
    /// What.
    pub what: What,
    /// The groups whose rules it is about, one for each rule.
    pub groups: Vec<String>,
    /// How many things alike are in it: calls of Azure, rules, or records.
    pub count: usize,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Somebody asked JIT to open a port.
    Asked(Opening),
    /// An event was delivered, or could not be.
    Delivered { status: u16 },
    /// JIT wrote the rules of an opening.
    Opened { place: Place, sources: Vec<String> },
    /// JIT wrote rules again that had been deleted.
    Returned { place: Place },
    /// JIT took its rules away, for the reason that its record names.
    TakenAway { place: Place, reason: String },
    /// Azure refused a delete of Portcullis.
    NotDeleted { place: Place, status: u16 },
    /// The ingestion endpoint refused rows.
    RowsRefused { status: u16 },
    /// Portcullis wrote an audit record.
    Audited { audit: Box<AuditRecord>, through: Through },
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub struct Watch {
    /// What was asked of JIT, in that order.
    pub openings: Vec<Opening>,
    /// JIT's allow rules, by id in lower case.
    pub rules: BTreeMap<String, Rule>,
    /// Portcullis' audit records, in the order in which they were written.
    pub audits: Vec<AuditRecord>,
    /// How often Azure itself wrote a rule, by its id in lower case: each time but the first it wrote it again.
    writes: BTreeMap<String, usize>,
    /// How Portcullis came to write an audit record, by the record's id.
    through: BTreeMap<String, Through>,
    entries_read: usize,
}

impl Watch {
    /// Looks at a world at rest, and gives what happened since the last look.
    pub fn look(&mut self, state: &State) -> Vec<Happening> {
        self.film(state);
        self.take_openings(state);
        let mut happened: Vec<Happening> = Vec::new();
        let entries = state.log.get(self.entries_read..).unwrap_or_default();
        for entry in entries {
            if let Some(next) = self.happening(state, entry) {
                add(&mut happened, next);
            }
        }
        self.entries_read = state.log.len();
        in_order(&mut happened);
        happened
    }

    /// The rules that ever opened a place.
    pub fn rules_of<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = &'a Rule> {
        self.rules.values().filter(move |rule| rule.place == *place)
    }

    /// How often JIT wrote deleted rules of a place again, a rule at a time.
    pub fn returns(&self, place: &Place) -> usize {
        let of_place = |id: &str| self.rules.get(id).is_some_and(|rule| rule.place == *place);
        self.writes.iter().filter(|(id, _)| of_place(id)).map(|(_, writes)| writes.saturating_sub(1)).sum()
    }

    /// How Portcullis came to write an audit record.
    pub fn through(&self, audit: &AuditRecord) -> Through {
        self.through.get(&audit.id).copied().unwrap_or(Through::Look)
    }

    /// When a rule first let somebody in at a place.
    pub fn opened(&self, place: &Place) -> Option<DateTime<Utc>> {
        self.rules_of(place).filter_map(|rule| rule.stood.first()).map(|(from, _)| *from).min()
    }

    /// When the last rule of a place went; absent while one stands, or if there never was one.
    pub fn shut(&self, place: &Place) -> Option<DateTime<Utc>> {
        let ends: Option<Vec<DateTime<Utc>>> = self.rules_of(place).filter_map(|rule| rule.stood.last()).map(|(_, until)| *until).collect();
        ends?.into_iter().max()
    }

    /// Audit records about a place.
    pub fn audits_of<'a>(&'a self, place: &'a Place) -> impl DoubleEndedIterator<Item = &'a AuditRecord> {
        self.audits.iter().filter(move |audit| place_of(audit).as_ref() == Some(place))
    }

    fn film(&mut self, state: &State) {
        for rule in self.rules.values_mut() {
            if let Some((_, until @ None)) = rule.stood.last_mut() {
                *until = Some(state.now);
            }
        }
        for (id, seen) in state.resources.of_type(GROUPS).flat_map(allow_rules) {
            let rule = self.rules.entry(id).or_insert(seen);
            match rule.stood.last_mut() {
                Some((_, until)) if *until == Some(state.now) => *until = None,
                _ => rule.stood.push((state.now, None)),
            }
        }
    }

    fn take_openings(&mut self, state: &State) {
        let policies = state.resources.of_type(POLICIES);
        let records = policies.flat_map(|policy| list(policy, "/properties/requests"));
        let mut new: Vec<Opening> = records.flat_map(|record| openings_of(state, record)).collect();
        for opening in new.iter_mut().filter(|opening| opening.by.is_empty()) {
            // JIT's record does not say; the world's log does.
            let is_it = |entry: &&LogEntry| entry.at == opening.asked && entry.what.eq_ignore_ascii_case(INITIATE) && entry.status < 400;
            opening.by = state.log.iter().find(is_it).map(|entry| entry.caller.clone()).unwrap_or_default();
        }
        new.retain(|opening| !self.openings.contains(opening));
        new.sort_by_key(|opening| opening.asked);
        self.openings.extend(new);
    }

    fn happening(&mut self, state: &State, entry: &LogEntry) -> Option<Happening> {
        let of_rule = self.rules.get(&entry.target.to_ascii_lowercase()).cloned();
        let groups = of_rule.iter().map(|rule| rule.group.clone()).collect();
        let is = |what: &str| entry.what.eq_ignore_ascii_case(what);
        let by_azure = entry.object_id.is_empty();
        let refused = entry.status >= 400;
        let what = match (entry.face.as_str(), of_rule) {
            // What Portcullis asks for is told by its own audit record.
            ("arm", _) if is(INITIATE) && is_ours(state, entry) => return None,
            ("arm", _) if is(INITIATE) && !refused => {
                let asked = self.openings.iter().find(|opening| opening.asked == entry.at && opening.by == entry.caller);
                What::Asked(asked?.clone())
            }
            ("arm", Some(rule)) if is(WRITE) && by_azure => match self.written(&entry.target) {
                1 => What::Opened { place: rule.place, sources: rule.sources },
                _ => What::Returned { place: rule.place },
            },
            ("arm", Some(rule)) if is(DELETE) && by_azure => {
                let reason = reason(state, &rule.place);
                What::TakenAway { place: rule.place, reason }
            }
            ("arm", Some(rule)) if is(DELETE) && refused => What::NotDeleted { place: rule.place, status: entry.status },
            ("eventgrid", _) => What::Delivered { status: entry.status },
            ("logs", _) if refused => What::RowsRefused { status: entry.status },
            ("blob", _) if entry.status == 201 => {
                let audit = audit(state, entry.target.strip_prefix("audit/")?)?;
                self.audits.push(audit.clone());
                let place = place_of(&audit);
                let asked = self.openings.iter().rev().find(|one| Some(&one.place) == place.as_ref()).map(|one| one.asked);
                let through = through(state, entry, &audit, asked);
                self.through.insert(audit.id.clone(), through);
                let only_ends = audit.code == FindingCode::GrantEnded.text();
                if only_ends && matches!(audit.kind, AuditKind::FindingAppeared | AuditKind::FindingGone) {
                    // That the grant ends is told, and what becomes of its rule.
                    return None;
                }
                if matches!(audit.kind, AuditKind::CloseAnswered | AuditKind::OpenAnswered) {
                    // The line of Azure's own answer, from the world's log, says the same.
                    return None;
                }
                let about = audit.about.as_deref().unwrap_or_default().to_ascii_lowercase();
                let groups = self.rules.get(&about).map(|rule| rule.group.clone()).into_iter().collect();
                return Some(Happening { at: entry.at, what: What::Audited { audit: Box::new(audit), through }, groups, count: 1 });
            }
            _ => return None,
        };
        Some(Happening { at: entry.at, what, groups, count: 1 })
    }

    /// Counts a write of a rule.
    fn written(&mut self, id: &str) -> usize {
        let writes = self.writes.entry(id.to_ascii_lowercase()).or_default();
        *writes += 1;
        *writes
    }
}

/// Whether the app did it.
pub fn is_ours(state: &State, entry: &LogEntry) -> bool {
    state.principals.iter().any(|one| one.managed_identity && one.object_id == entry.object_id)
}

/// The place that an audit record is about.
pub fn place_of(audit: &AuditRecord) -> Option<Place> {
    Some(Place { vm: audit.vm.as_ref()?.name().to_owned(), port: audit.port? })
}

/// Audit records of one run are written side by side: they are told in the order of their numbers, but for what is granted,
/// whose number is the wish's and which comes before what is done about it.
fn in_order(happened: &mut [Happening]) {
    let key = |one: &Happening| match &one.what {
        What::Audited { audit, .. } => Some((one.at, audit.vm.clone(), audit.kind != AuditKind::Granted, audit.id.clone())),
        _ => None,
    };
    for run in happened.chunk_by_mut(|one, other| matches!((&one.what, &other.what), (What::Audited { .. }, What::Audited { .. }))) {
        run.sort_by_key(key);
    }
}

/// Adds to what happened, together with its like of the same instant.
fn add(happened: &mut Vec<Happening>, next: Happening) {
    match happened.iter_mut().find(|before| before.at == next.at && is_like(&before.what, &next.what)) {
        Some(before) => {
            before.groups.extend(next.groups);
            before.count += next.count;
        }
        None => happened.push(next),
    }
}

fn is_like(one: &What, other: &What) -> bool {
    match (one, other) {
        (What::Audited { audit: one, .. }, What::Audited { audit: other, .. }) => {
            let is_about_rules = one.about.is_some();
            one.kind == other.kind && one.vm == other.vm && one.port == other.port && one.code == other.code && is_about_rules
        }
        (What::Audited { .. }, _) => false,
        (one, other) => one == other,
    }
}

fn audit(state: &State, name: &str) -> Option<AuditRecord> {
    let blob = state.containers.get("audit")?.blobs.get(name)?;
    serde_json::from_slice(&blob::content_bytes(&blob.content)).ok()
}

/// How the run that wrote an audit record came about, by what the world's log shows. A look is sent by the sweep, in the
/// same instant; or by the run that handled an event and left a claim for the VM, then or, if it was planned since, after
/// the opening had been asked for.
fn through(state: &State, written: &LogEntry, audit: &AuditRecord, asked: Option<DateTime<Utc>>) -> Through {
    let inbox = audit.vm.as_ref().map(|vm| format!("state/inbox/{}/", vm.key())).unwrap_or_default();
    let asked = asked.unwrap_or(written.at);
    let before = state.log.iter().rev().skip_while(|entry| entry.order >= written.order).take_while(|entry| entry.at >= asked);
    for entry in before.filter(|entry| entry.invocation != written.invocation) {
        let is_left_here = entry.face == "blob" && entry.what == "put" && entry.target.starts_with(&inbox);
        let is_sent = entry.face == "servicebus" && entry.target == "approval" && entry.at == written.at;
        match entry.function.as_deref() {
            Some("approval") if is_left_here => return Through::Event,
            Some("sweep_shard") if is_sent => return Through::Sweep,
            _ => {}
        }
    }
    Through::Look
}

/// The first record in which Portcullis says that it found a place open.
pub fn first_found<'a>(watch: &'a Watch, place: &'a Place) -> Option<&'a AuditRecord> {
    watch.audits_of(place).find(|audit| matches!(audit.kind, AuditKind::FindingAppeared | AuditKind::Close | AuditKind::WouldClose))
}

/// The first record in which Portcullis says that a place may be open: adopted, or opened for a grant.
pub fn first_permitted<'a>(watch: &'a Watch, place: &'a Place) -> Option<&'a AuditRecord> {
    watch.audits_of(place).find(|audit| matches!(audit.kind, AuditKind::Adopted | AuditKind::Opened))
}

fn list<'a>(body: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    body.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn text(body: &Value, pointer: &str) -> String {
    body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn last_segment(id: &str) -> String {
    id.rsplit('/').next().unwrap_or_default().to_owned()
}

fn sources(body: &Value, one: &str, many: &str) -> Vec<String> {
    let many = list(body, many).filter_map(Value::as_str);
    body.pointer(one).and_then(Value::as_str).into_iter().chain(many).map(str::to_owned).collect()
}

/// JIT's allow rules in a group, by id. Each rule names its VM in its description (recorded).
fn allow_rules(group: &Value) -> impl Iterator<Item = (String, Rule)> {
    let group_name = text(group, "/name");
    list(group, "/properties/securityRules").filter_map(move |body| {
        let name = text(body, "/name");
        if !name.contains(ALLOW_RULE) || text(body, "/properties/access") != "Allow" {
            return None;
        }
        let about = text(body, "/properties/description");
        let vm = about.split_once(" of VM '")?.1.split('\'').next()?.to_owned();
        let port = text(body, "/properties/destinationPortRange").parse().ok()?;
        let sources = sources(body, "/properties/sourceAddressPrefix", "/properties/sourceAddressPrefixes");
        let rule = Rule { name, group: group_name.clone(), place: Place { vm, port }, sources, stood: Vec::new() };
        Some((text(body, "/id").to_ascii_lowercase(), rule))
    })
}

/// What JIT's newest record of a place says last.
fn reason(state: &State, place: &Place) -> String {
    let policies = state.resources.of_type(POLICIES);
    let records = policies.flat_map(|policy| list(policy, "/properties/requests"));
    let ports = records.flat_map(|record| {
        let vms = list(record, "/virtualMachines").filter(|vm| last_segment(&text(vm, "/id")) == place.vm);
        let ports = vms.flat_map(|vm| list(vm, "/ports")).filter(|port| port["number"] == place.port);
        ports.map(|port| (text(record, "/startTimeUtc"), port))
    });
    let newest = ports.max_by(|(one, _), (other, _)| one.cmp(other));
    newest.map_or("without a record".to_owned(), |(_, port)| format!("{}: {}", text(port, "/status"), text(port, "/statusReason")))
}

fn openings_of(state: &State, record: &Value) -> Vec<Opening> {
    let Some(asked) = time::parse(&text(record, "/startTimeUtc")) else { return Vec::new() };
    let upn = text(record, "/requestor");
    let person = state.principals.iter().find(|principal| !upn.is_empty() && principal.upn == upn);
    let by = person.map_or(upn, |person| person.name.clone());
    let mut openings = Vec::new();
    for vm in list(record, "/virtualMachines") {
        for port in list(vm, "/ports") {
            let number = port["number"].as_u64().and_then(|number| u16::try_from(number).ok());
            let (Some(number), Some(until)) = (number, time::parse(&text(port, "/endTimeUtc"))) else { continue };
            openings.push(Opening {
                place: Place { vm: last_segment(&text(vm, "/id")), port: number },
                asked,
                until,
                by: by.clone(),
                sources: sources(port, "/allowedSourceAddressPrefix", "/allowedSourceAddressPrefixes"),
            });
        }
    }
    openings
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use portcullis_domain::finding::Severity;
    use portcullis_sandbox::estate;
    use portcullis_sandbox::state::Caller;

    use super::*;

    fn ours(function: &str, invocation: &str) -> Caller {
        Caller { function: Some(function.to_owned()), invocation: Some(invocation.to_owned()), ..Caller::default() }
    }

    fn audit() -> AuditRecord {
        let id = estate::resource_id(estate::SUBSCRIPTION, estate::GROUP, "Microsoft.Compute/virtualMachines", "web-1");
        AuditRecord {
            id: "x".to_owned(),
            vm: Some(id.parse().unwrap()),
            port: Some(22),
            why: "why".to_owned(),
            what: String::new(),
            ..AuditRecord::of_service("", portcullis_sandbox::state::beginning(), AuditKind::FindingAppeared, "code", Severity::High)
        }
    }

    /// Who sent the look that found something, when the log holds these calls before the record of it.
    fn told_by(calls: &[(i64, Caller, &str, &str, &str)]) -> Through {
        let mut state = State::default();
        let beginning = state.now;
        for (second, caller, face, what, target) in calls {
            state.now = beginning + TimeDelta::seconds(*second);
            state.record(caller, face, what, target, 201);
        }
        state.now = beginning + TimeDelta::seconds(100);
        state.record(&ours("approval", "look"), "blob", "put", "audit/x.json", 201);
        through(&state, state.log.last().unwrap(), &audit(), Some(beginning + TimeDelta::seconds(50)))
    }

    #[test]
    fn who_told_is_read_from_the_log_and_not_from_claims() {
        let vm = audit().vm.unwrap();
        let own = format!("state/inbox/{}/e1", vm.key());
        let (own, other) = (own.as_str(), "state/inbox/s/rg/other/e1");
        let inbox = |second, invocation: &str, target| (second, ours("approval", invocation), "blob", "put", target);
        let sweep = |second| (second, ours("sweep_shard", "shard"), "servicebus", "send", "approval");
        assert_eq!(told_by(&[]), Through::Look);
        assert_eq!(told_by(&[inbox(100, "event", own)]), Through::Event);
        assert_eq!(told_by(&[inbox(60, "event", own)]), Through::Event, "a look that the event's look planned");
        assert_eq!(told_by(&[inbox(40, "event", own)]), Through::Look, "an event of before the opening");
        assert_eq!(told_by(&[inbox(100, "look", own)]), Through::Look, "its own call");
        assert_eq!(told_by(&[inbox(100, "event", other)]), Through::Look, "an event about another VM");
        assert_eq!(told_by(&[sweep(100)]), Through::Sweep);
        assert_eq!(told_by(&[sweep(99)]), Through::Look, "what an earlier sweep sent has come");
    }
}
