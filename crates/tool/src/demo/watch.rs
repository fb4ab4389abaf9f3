//! What the world has shown so far: openings as JIT's own records tell them, rules as they stood second by second,
//! audit records as the store holds them, and what of all that happened since the last look.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};
use portcullis_domain::audit::{AuditKind, AuditRecord};
use portcullis_domain::time;
use portcullis_sandbox::blob;
use portcullis_sandbox::state::{LogEntry, State};
use serde_json::Value;

/// The action by which a rule goes, as the world's log names it.
pub const DELETE: &str = "Microsoft.Network/networkSecurityGroups/securityRules/delete";
const WRITE: &str = "Microsoft.Network/networkSecurityGroups/securityRules/write";
const INITIATE: &str = "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action";
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
    /// An event named who did it.
    Event,
    /// The sweep sent the look.
    Sweep,
    /// A look that was planned before.
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
        happened
    }

    /// The rules that ever opened a place.
    pub fn rules_of<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = &'a Rule> {
        self.rules.values().filter(move |rule| rule.place == *place)
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
            ("arm", _) if is(INITIATE) && !refused => {
                let asked = self.openings.iter().find(|opening| opening.asked == entry.at && opening.by == entry.caller);
                What::Asked(asked?.clone())
            }
            ("arm", Some(rule)) if is(WRITE) && by_azure => match rule.stood.len() {
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
                let through = through(state, &audit);
                let about = audit.about.as_deref().unwrap_or_default().to_ascii_lowercase();
                let groups = self.rules.get(&about).map(|rule| rule.group.clone()).into_iter().collect();
                return Some(Happening { at: entry.at, what: What::Audited { audit: Box::new(audit), through }, groups });
            }
            _ => return None,
        };
        Some(Happening { at: entry.at, what, groups })
    }
}

/// The place that an audit record is about.
pub fn place_of(audit: &AuditRecord) -> Option<Place> {
    Some(Place { vm: audit.vm.as_ref()?.name().to_owned(), port: audit.port? })
}

/// Adds to what happened, together with its like of the same instant.
fn add(happened: &mut Vec<Happening>, next: Happening) {
    match happened.iter_mut().find(|before| before.at == next.at && is_like(&before.what, &next.what)) {
        Some(before) => before.groups.extend(next.groups),
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

/// How Portcullis came to write that something was found: by the sweep, if it sent a look at that instant and no event
/// says who made the opening.
pub fn through(state: &State, audit: &AuditRecord) -> Through {
    let of_instant = state.log.iter().rev().skip_while(|entry| entry.at > audit.at).take_while(|entry| entry.at == audit.at);
    let mut sends = of_instant.filter(|entry| entry.face == "servicebus" && entry.target == "approval");
    match audit.behind.claims.is_empty() {
        false => Through::Event,
        true if sends.any(|entry| entry.function.as_deref() == Some("sweep_shard")) => Through::Sweep,
        true => Through::Look,
    }
}

/// The first record in which Portcullis says that it found a place open.
pub fn first_found<'a>(watch: &'a Watch, place: &'a Place) -> Option<&'a AuditRecord> {
    watch.audits_of(place).find(|audit| matches!(audit.kind, AuditKind::FindingAppeared | AuditKind::Close | AuditKind::WouldClose))
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
    let person = state.principals.iter().find(|principal| principal.upn == upn);
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
