//! Reads scenario files, with every mistake in them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use portcullis_domain::arm_id::{VmId, is_guid};
use portcullis_domain::duration;
use portcullis_domain::source::Sources;
use serde_saphyr::Location;

use crate::action::Action;
use crate::decision::{Decided, Ground};
use crate::mistake::{Mistake, nearest};
use crate::set::Names;
use crate::terms::count_and_group;
use crate::wish::{self, Groups, Incident, IncidentSeverity, ManagementGroups, NamedIncident, SeenIncident, VmFacts, Way, Who, Wish};
use crate::yaml::{Fields, Node, Reading, Stands, Text};

use super::{Expect, Scenario, Subject};

/// What a wish of a scenario, or the defaults of its file, may say. What neither says is as in a small request.
const GIVEN: [&str; 16] = [
    "person",
    "asker",
    "vm",
    "ports",
    "sources",
    "duration",
    "jitLongest",
    "at",
    "way",
    "reason",
    "incident",
    "alerts",
    "window",
    "change",
    "approvalsToday",
    "openToday",
];

const WAYS: [(&str, Way); 3] = [("asked", Way::Asked), ("breaksGlass", Way::BreaksGlass), ("direct", Way::Direct)];

const SEVERITIES: [(&str, IncidentSeverity); 4] = [
    ("informational", IncidentSeverity::Informational),
    ("low", IncidentSeverity::Low),
    ("medium", IncidentSeverity::Medium),
    ("high", IncidentSeverity::High),
];

const EXPECT: [&str; 6] = ["decision", "rule", "because", "max", "approvers", "nearest"];

/// More than any count of a scenario needs.
const MANY: u32 = 1_000_000;

/// The person of a scenario that names none by id.
const SOMEBODY: &str = "00000000-0000-4000-8000-00000000000a";

/// Whose request it is on which somebody wants to decide, where a scenario names nobody.
const SOMEBODY_ELSE: &str = "00000000-0000-4000-8000-00000000000b";

/// The subscription of a scenario that names none.
const SUBSCRIPTION: &str = "00000000-0000-4000-8000-000000000001";

/// When a scenario is decided on that does not say: a Thursday.
const NOON: &str = "2026-01-15T12:00:00Z";

/// A scenario file, or a request, that is being read.
pub(super) struct Reader<'a> {
    file: &'a str,
    names: &'a Names,
    reading: Reading<'a>,
}

/// The scenarios there are, by name, each with its file and line.
pub(super) type Named = BTreeMap<String, (String, usize)>;

impl<'a> Reader<'a> {
    /// Begins to read a file.
    pub(super) fn of(file: &'a str, text: &'a str, names: &'a Names) -> Self {
        Reader { file, names, reading: Reading::of(file, text) }
    }

    /// What is wrong in it.
    pub(super) fn mistakes(self) -> Vec<Mistake> {
        self.reading.mistakes
    }

    /// The request that the whole file is.
    pub(super) fn request(&mut self, subject: Subject) -> Option<Wish> {
        let root = self.reading.root()?;
        let given = self.given("a request", &root, subject);
        Some(self.wish(&given, subject))
    }

    /// The scenarios of the file.
    pub(super) fn file(&mut self, named: &mut Named) -> Vec<Scenario> {
        let Some(root) = self.reading.root() else { return Vec::new() };
        let file = self.reading.sections("a file of scenarios", &root, &["defaults", "scenarios"]);
        let defaults = file.get("defaults").map(|node| self.reading.fields("`defaults`", node, &GIVEN)).unwrap_or_default();
        self.wish(&defaults, Subject::Opening);
        let nodes = file.get("scenarios").map(|node| self.reading.list("`scenarios`", node)).unwrap_or_default();
        nodes.iter().filter_map(|node| self.scenario(node, &defaults, named)).collect()
    }

    fn scenario(&mut self, node: &Node, defaults: &Fields<'_>, named: &mut Named) -> Option<Scenario> {
        let wrong_before = self.reading.mistakes.len();
        let given = self.reading.fields("a scenario", node, &["name", "right", "given", "expect"]);
        let name = given.get("name").and_then(|node| self.reading.text("`name`", node));
        let line = self.reading.line(node);
        if let Some(name) = &name {
            self.name(name, named, line);
        }
        let subject = given.get("right").map_or(Some(Subject::Opening), |node| self.right(node));
        let mut wished = defaults.clone();
        wished.extend(given.get("given").map(|node| self.given("`given`", node, subject.unwrap_or(Subject::Opening))).unwrap_or_default());
        let wish = self.wish(&wished, subject.unwrap_or(Subject::Opening));
        let expect = given.get("expect").and_then(|node| self.expect(subject.unwrap_or(Subject::Opening), node));
        for field in ["name", "expect"].into_iter().filter(|field| !given.contains_key(field)) {
            self.reading.missing(wrong_before, node, "a scenario", field);
        }
        let is_right = self.reading.mistakes.len() == wrong_before;
        let scenario = Scenario { file: self.file.to_owned(), line, name: name?.value, subject: subject?, wish, expect: expect? };
        is_right.then_some(scenario)
    }

    fn name(&mut self, name: &Text, named: &mut Named, line: usize) {
        if name.value.trim().is_empty() {
            self.reading.wrong_but(name.at, "the name is empty", "say what the scenario shows");
        } else if let Some((file, line)) = named.get(&name.value) {
            let cure = format!("it is in {file}, line {line}: give one of them another name");
            self.reading.wrong_but(name.at, format!("another scenario is called `{}`", name.value), cure);
        } else {
            named.insert(name.value.clone(), (self.file.to_owned(), line));
        }
    }

    /// What is wished; what nobody looks at where it is about this is told, since somebody believes that it matters.
    fn given<'n>(&mut self, name: &str, node: &'n Node, subject: Subject) -> Fields<'n> {
        let given = self.reading.fields(name, node, &GIVEN);
        for (field, node) in &given {
            if let Some((what, cure)) = unseen(field, subject) {
                self.reading.wrong_but(node.referenced, what, cure);
            }
        }
        given
    }

    fn right(&mut self, node: &Node) -> Option<Subject> {
        let known: Vec<(&str, Action)> = Action::ALL.iter().map(|action| (action.text(), *action)).collect();
        match self.reading.one_of("right", node, &known)? {
            action @ (Action::Approve | Action::Close | Action::Read) => Some(Subject::Right(action)),
            action @ (Action::Open | Action::Ask | Action::BreakGlass) => {
                let cure = "leave `right` away: a request tries open, breakGlass and ask";
                self.reading.wrong_but(node.referenced, format!("`{action}` is no right of its own"), cure);
                None
            }
        }
    }

    fn expect(&mut self, subject: Subject, node: &Node) -> Option<Expect> {
        let wrong_before = self.reading.mistakes.len();
        let given = self.reading.fields("`expect`", node, &EXPECT);
        let (name, known): (_, &[Decided]) = match subject {
            Subject::Opening => ("decision", &Decided::OF_OPENINGS),
            Subject::Right(_) => ("decision on a right", &Decided::OF_RIGHTS),
        };
        let known: Vec<(&str, Decided)> = known.iter().map(|decided| (decided.text(), *decided)).collect();
        let decision = given.get("decision").and_then(|node| self.reading.one_of(name, node, &known));
        if !given.contains_key("decision") {
            self.reading.missing(wrong_before, node, "`expect`", "decision");
        }
        let grounds = Ground::ALL.map(|ground| (ground.text(), ground));
        let because = given.get("because").and_then(|node| self.reading.one_of("reason to refuse", node, &grounds));
        for (field, node) in &given {
            if matches!(subject, Subject::Right(_)) && !["decision", "rule"].contains(field) {
                let cure = "of a right only `decision` and `rule` can be expected";
                self.reading.wrong_but(node.referenced, format!("a right has no `{field}`"), cure);
            } else if let Some(why) = decision.and_then(|decision| never_met(field, decision, because)) {
                let what = format!("no `{field}` can be expected where {why}");
                self.reading.wrong_but(node.referenced, what, "take it away, or expect something else");
            }
        }
        let rule = given.get("rule").and_then(|node| self.rule("`rule`", node));
        let nearest = given.get("nearest").and_then(|node| self.rule("`nearest`", node));
        let max = self.seconds("`max`", given.get("max")).map(|seconds| duration::format(wish::seconds(seconds)));
        let approvers = given.get("approvers").and_then(|node| self.approvers(node));
        Some(Expect { decision: decision?, rule, because, max, approvers, nearest })
    }

    fn approvers(&mut self, node: &Node) -> Option<String> {
        let text = self.reading.text("`approvers`", node)?;
        let Some((count, group)) = count_and_group(&text.value) else {
            let what = format!("`approvers` cannot be read: `{}`", text.value);
            self.reading.wrong_but(text.at, what, "write `2 of security-duty`, as `@approvers` has it");
            return None;
        };
        self.group(text.at, &group);
        Some(format!("{count} of {group}"))
    }

    /// The id of a rule.
    fn rule(&mut self, name: &str, node: &Node) -> Option<String> {
        let id = self.reading.text(name, node)?;
        let Names { rules, unread, .. } = self.names;
        if !unread && !rules.contains_key(&id.value) {
            let mistake = self.reading.mistake(id.at, format!("no rule is called `{}`", id.value));
            self.reading.mistakes.push(mistake.meant(&id.value, rules.keys().map(String::as_str)));
        }
        Some(id.value)
    }

    fn text(&mut self, name: &str, node: Option<&&Node>) -> Option<String> {
        node.and_then(|node| self.reading.text(name, node)).map(|text| text.value)
    }

    fn texts(&mut self, name: &str, node: Option<&&Node>) -> Vec<Text> {
        node.map(|node| self.reading.texts(name, node)).unwrap_or_default()
    }

    fn flag(&mut self, name: &str, node: Option<&&Node>) -> Option<bool> {
        node.and_then(|node| self.reading.flag(name, node))
    }

    fn count(&mut self, name: &str, node: Option<&&Node>) -> Option<u32> {
        node.and_then(|node| self.reading.number(name, node, MANY))
    }

    fn wish(&mut self, given: &Fields<'_>, subject: Subject) -> Wish {
        let ports = given.get("ports").map(|node| {
            let nodes = self.reading.list("`ports`", node);
            nodes.iter().filter_map(|node| self.port(node)).collect()
        });
        Wish {
            who: self.who(given.get("person").copied()),
            asker: self.asker(given.get("asker"), subject),
            vm: self.vm(given.get("vm").copied()),
            ports: ports.unwrap_or_else(|| BTreeSet::from([22])),
            sources: self.sources(given.get("sources")),
            seconds: self.seconds("`duration`", given.get("duration")).unwrap_or(3600),
            jit_longest_seconds: self.seconds("`jitLongest`", given.get("jitLongest")),
            at: self.time(given.get("at")),
            way: given.get("way").and_then(|node| self.reading.one_of("way", node, &WAYS)).unwrap_or(Way::Asked),
            reason: self.text("`reason`", given.get("reason")).unwrap_or_default(),
            incident: given.get("incident").map(|node| NamedIncident { name: String::new(), seen: self.incident(node) }),
            alerts: self.count("`alerts`", given.get("alerts")),
            window: self.text("`window`", given.get("window")),
            change: self.text("`change`", given.get("change")),
            approvals_today: self.count("`approvalsToday`", given.get("approvalsToday")).unwrap_or_default(),
            open_today_seconds: self.seconds("`openToday`", given.get("openToday")).unwrap_or_default(),
        }
    }

    fn port(&mut self, node: &Node) -> Option<u16> {
        let port = self.reading.number("a port", node, u16::MAX)?;
        if port == 0 {
            self.reading.wrong_but(node.referenced, "0 is no port", "ports are from 1 to 65535");
        }
        Some(port)
    }

    fn who(&mut self, person: Option<&Node>) -> Who {
        let known = ["id", "groups", "unknown", "groupsUnreachable"];
        let given = person.map(|node| self.reading.fields("`person`", node, &known)).unwrap_or_default();
        let id = self.somebody("id", given.get("id"));
        let groups = self.texts("`groups`", given.get("groups"));
        for group in &groups {
            self.group(group.at, &group.value);
        }
        let is_unreachable = self.flag("`groupsUnreachable`", given.get("groupsUnreachable")).unwrap_or_default();
        if self.flag("`unknown`", given.get("unknown")).unwrap_or_default() {
            self.contradicts(&given, &["id", "groups", "groupsUnreachable"], "unknown", "somebody unknown has neither an id nor groups");
            return Who::Unknown;
        }
        let id = id.unwrap_or_else(|| SOMEBODY.to_owned());
        if is_unreachable {
            self.contradicts(&given, &["groups"], "groupsUnreachable", "nobody knows the groups of somebody whose groups are unreachable");
            if let Some(node) = given.get("groupsUnreachable").filter(|_| !given.contains_key("groups") && !self.names.may_ask_entra()) {
                let what = "nobody looks at `groupsUnreachable`: no rule names a group of Entra, so nobody has to be reached";
                self.reading.wrong_but(node.referenced, what, "take it away");
            }
            return Who::Person { id, groups: Groups::Unreachable { why: "Microsoft Graph does not answer".to_owned() } };
        }
        let of: BTreeSet<String> = groups.into_iter().map(|group| group.value).collect();
        let all = self.names.people.groups().map(|(name, _)| name);
        let not_of = all.filter(|name| !of.contains(*name)).map(str::to_owned).collect();
        Who::Person { id, groups: Groups::Known { of, not_of } }
    }

    /// Tells each of some fields that are given beside one that contradicts them.
    fn contradicts(&mut self, given: &Fields<'_>, fields: &[&str], with: &str, what: &str) {
        for node in fields.iter().filter_map(|field| given.get(field)) {
            self.reading.wrong_but(node.referenced, what, format!("take this away, or `{with}`"));
        }
    }

    fn group(&mut self, at: Location, group: &str) {
        let people = &self.names.people;
        if !people.may_name(group) {
            let mistake = self.reading.mistake(at, format!("`{group}` is no group of people.yaml"));
            self.reading.mistakes.push(mistake.meant(group, people.groups().map(|(name, _)| name)));
        }
    }

    /// The object id of somebody who is named by it, or by a name of people.yaml.
    fn somebody(&mut self, field: &str, node: Option<&&Node>) -> Option<String> {
        let text = self.reading.text(&format!("`{field}`"), node?)?;
        let people = &self.names.people;
        if let Some(id) = people.id_of(&text.value) {
            return Some(id.to_owned());
        }
        if !is_guid(&text.value) && !people.may_know(&text.value) {
            let what = format!("`{}` is neither an object id nor a name of people.yaml", text.value);
            let cure = nearest(&text.value, people.names()).map_or_else(
                || format!("write an object id, which is a GUID, or take `{field}` away for somebody without a name"),
                |near| format!("did you mean `{near}`?"),
            );
            self.reading.wrong_but(text.at, what, cure);
        }
        Some(text.value.to_lowercase())
    }

    /// Whose request it is, where somebody wants to decide on one.
    fn asker(&mut self, node: Option<&&Node>, subject: Subject) -> Option<String> {
        let asker = self.somebody("asker", node).unwrap_or_else(|| SOMEBODY_ELSE.to_owned());
        (subject == Subject::Right(Action::Approve)).then_some(asker)
    }

    fn vm(&mut self, vm: Option<&Node>) -> VmFacts {
        let known = ["name", "id", "resourceGroup", "subscription", "managementGroups", "managementGroupsUnreachable", "tags"];
        let given = vm.map(|node| self.reading.fields("`vm`", node, &known)).unwrap_or_default();
        let groups = self.texts("`managementGroups`", given.get("managementGroups")).into_iter().map(|group| group.value);
        let above = match self.flag("`managementGroupsUnreachable`", given.get("managementGroupsUnreachable")) {
            Some(true) => {
                let what = "nobody knows management groups that are unreachable";
                self.contradicts(&given, &["managementGroups"], "managementGroupsUnreachable", what);
                ManagementGroups::Unreachable { why: "Azure does not say which management groups are above it".to_owned() }
            }
            Some(false) | None => ManagementGroups::of(groups),
        };
        VmFacts::new(self.vm_id(vm, &given), above, self.tags(given.get("tags")))
    }

    fn vm_id(&mut self, vm: Option<&Node>, given: &Fields<'_>) -> VmId {
        let mut or = |name: &str, default: &str| self.part(name, given.get(name)).unwrap_or_else(|| default.to_owned());
        let (subscription, group, name) = (or("subscription", SUBSCRIPTION), or("resourceGroup", "rg"), or("name", "vm"));
        let id = self.text("`id`", given.get("id"));
        if id.is_some() {
            self.contradicts(given, &["name", "resourceGroup", "subscription"], "id", "the machine's id says this already");
        }
        let id = id.unwrap_or_else(|| {
            format!("/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Compute/virtualMachines/{name}")
        });
        id.parse::<VmId>().unwrap_or_else(|why| {
            let parts = ["id", "name", "resourceGroup", "subscription"].iter().filter_map(|field| given.get(field).copied());
            if let Some(node) = parts.chain(vm).next() {
                let cure = "give the VM's resource id, or its name, resourceGroup and subscription";
                self.reading.wrong_but(node.referenced, why.to_string(), cure);
            }
            nowhere()
        })
    }

    /// A part of a machine's id; one that could be none is told, and is none.
    fn part(&mut self, name: &str, node: Option<&&Node>) -> Option<String> {
        let text = self.reading.text(&format!("`{name}`"), node?)?;
        if text.value.is_empty() || text.value.contains('/') {
            let cure = "write a name alone, or the VM's resource id as `id`";
            self.reading.wrong_but(text.at, format!("`{}` cannot be a `{name}`", text.value), cure);
            return None;
        }
        Some(text.value)
    }

    fn tags(&mut self, node: Option<&&Node>) -> Vec<(String, String)> {
        let mut tags: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in node.map(|node| self.reading.named("`tags`", node)).unwrap_or_default() {
            let value = match value.value {
                Stands::Nothing => {
                    let what = format!("nothing stands under the tag `{}`", name.value);
                    self.reading.wrong_but(name.referenced, what, "write its value, or `\"\"` for an empty one");
                    String::new()
                }
                _ => self.reading.text("a tag", value).map(|text| text.value).unwrap_or_default(),
            };
            if tags.insert(name.value.to_lowercase(), value).is_some() {
                let what = format!("the tag `{}` is here twice: Azure does not tell their cases apart", name.value);
                self.reading.wrong_but(name.referenced, what, "keep one of them");
            }
        }
        tags.into_iter().collect()
    }

    fn sources(&mut self, node: Option<&&Node>) -> Sources {
        let sources = self.texts("`sources`", node);
        for source in &sources {
            if let Err(why) = Sources::parse([source.value.as_str()]) {
                self.reading.wrong_but(
                    source.at,
                    why.to_string(),
                    "write an address such as 203.0.113.4 or a range such as 203.0.113.0/24",
                );
            } else if self.names.networks.contains(&source.value) {
                let what = format!("`{}` is a network of networks.yaml, and a source is an address or a range", source.value);
                self.reading.wrong_but(source.at, what, "write one of its addresses");
            }
        }
        Sources::read(sources.iter().map(|source| source.value.as_str()))
    }

    fn seconds(&mut self, name: &str, node: Option<&&Node>) -> Option<i64> {
        let text = self.reading.text(name, node?)?;
        match duration::parse(&text.value) {
            Ok(time) => Some(time.num_seconds()),
            Err(why) => {
                self.reading.wrong_but(text.at, why.to_string(), "write PT2H for two hours, PT30M for thirty minutes");
                None
            }
        }
    }

    fn time(&mut self, node: Option<&&Node>) -> DateTime<Utc> {
        let noon = || NOON.parse().unwrap_or_default();
        let Some(text) = node.and_then(|node| self.reading.text("`at`", node)) else { return noon() };
        DateTime::parse_from_rfc3339(&text.value).map_or_else(
            |_| {
                self.reading.wrong_but(text.at, format!("`{}` is not a time", text.value), "write it as 2026-01-15T09:00:00+01:00");
                noon()
            },
            |time| time.with_timezone(&Utc),
        )
    }

    fn incident(&mut self, node: &Node) -> SeenIncident {
        const OF_KNOWN: [&str; 5] = ["open", "severity", "owner", "namesThisVm", "age"];
        let known: Vec<&str> = OF_KNOWN.into_iter().chain(["unreachable"]).collect();
        let given = self.reading.fields("`incident`", node, &known);
        if self.flag("`unreachable`", given.get("unreachable")).unwrap_or_default() {
            self.contradicts(&given, &OF_KNOWN, "unreachable", "nobody knows anything of an incident that is unreachable");
            return SeenIncident::Unreachable { why: "Microsoft Sentinel does not answer".to_owned() };
        }
        let severity = given.get("severity").and_then(|node| self.reading.one_of("severity", node, &SEVERITIES));
        SeenIncident::Known(Incident {
            open: self.flag("`open`", given.get("open")).unwrap_or(true),
            severity: severity.unwrap_or(IncidentSeverity::High),
            owner: self.somebody("owner", given.get("owner")),
            names_this_vm: self.flag("`namesThisVm`", given.get("namesThisVm")).unwrap_or(true),
            age_seconds: self.seconds("`age`", given.get("age")).unwrap_or(600),
        })
    }
}

/// Why nobody looks at a field where it is about this, and what to do with it.
fn unseen(field: &str, subject: Subject) -> Option<(String, &'static str)> {
    let Subject::Right(right) = subject else {
        let cure = "take it away, or write `right: approve` for somebody who decides on a request";
        return (field == "asker").then(|| ("nobody looks at `asker` of an opening: whoever asks is `person`".to_owned(), cure));
    };
    let is_seen = match right {
        Action::Approve => field != "jitLongest",
        Action::Close | Action::Read => ["person", "vm"].contains(&field),
        Action::Open | Action::Ask | Action::BreakGlass => true,
    };
    let cure = match right {
        Action::Approve => "take it away: what JIT allows is looked at when it is opened",
        _ => "take it away: who it is and which machine is all that decides",
    };
    (!is_seen).then(|| (format!("nobody looks at `{field}` for the right `{right}`"), cure))
}

/// Why something cannot be expected of a decision on an opening.
fn never_met(field: &str, decision: Decided, because: Option<Ground>) -> Option<String> {
    let is_met = match field {
        "max" => matches!(decision, Decided::Open | Decided::BreakGlass | Decided::Ask),
        "approvers" => decision == Decided::Ask,
        "because" => decision == Decided::Refuse,
        "rule" => decision != Decided::Undecided,
        "nearest" => !matches!(decision, Decided::Open | Decided::Undecided),
        _ => true,
    };
    if !is_met {
        return Some(format!("the decision is `{}`", decision.text()));
    }
    let because = because.filter(|_| decision == Decided::Refuse)?;
    let is_met = match field {
        "rule" => matches!(because, Ground::Forbidden | Ground::Erred),
        "nearest" => because != Ground::Limits,
        _ => true,
    };
    (!is_met).then(|| format!("it is refused because of `{}`", because.text()))
}

/// The machine of a scenario whose own cannot be read; such a scenario is never decided on.
#[expect(clippy::expect_used, reason = "the text is part of the program")]
fn nowhere() -> VmId {
    format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm").parse().expect("a VM's id")
}
