//! Scenario files: requests and what must come of them, beside the rules that they test.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use portcullis_domain::arm_id::VmId;
use portcullis_domain::duration;
use portcullis_domain::source::Sources;

use crate::action::Action;
use crate::decision::{Decision, Lack, Miss, Outcome, Permission, Refusal};
use crate::files::RuleFiles;
use crate::mistake::{Mistake, Weight};
use crate::people::is_guid;
use crate::set::Rules;
use crate::wish::{self, Groups, Incident, IncidentSeverity, ManagementGroups, VmFacts, Way, Who, Wish};
use crate::yaml::{Fields, Node, Reading, Stands, Text};

/// One request and what must come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Its file.
    pub file: String,
    /// The line on which it begins, from 1.
    pub line: usize,
    /// What it shows.
    pub name: String,
    /// What it is about: a request for an opening, or a right.
    pub subject: Subject,
    /// What is asked for.
    pub wish: Wish,
    /// What must come of it.
    pub expect: Expect,
}

/// What a scenario is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A request for an opening: all its actions are tried.
    Opening,
    /// A right to decide, to close or to see.
    Right(Action),
}

/// What must come of a scenario; what is absent is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// `open`, `breakGlass`, `ask`, `refuse` or `undecided`; of a right `permit` or `refuse`.
    pub decision: String,
    /// The deciding rule.
    pub rule: Option<String>,
    /// Why it is refused: `limits`, `forbidden`, `erred` or `nothingPermits`.
    pub because: Option<String>,
    /// The longest time of the deciding rule, in ISO 8601.
    pub max: Option<String>,
    /// Who decides, as `@approvers` writes it.
    pub approvers: Option<String>,
    /// The permit that came nearest.
    pub nearest: Option<String>,
}

/// What came of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tested {
    /// The scenario.
    pub scenario: Scenario,
    /// What was decided.
    pub came: Came,
    /// How it differs from what was expected; empty where it does not.
    pub differs: Vec<String>,
}

/// What was decided on a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Came {
    /// On a request.
    Opening(Box<Decision>),
    /// On a right.
    Right(Permission),
}

impl Came {
    /// It in one sentence.
    pub fn sentence(&self) -> String {
        match self {
            Came::Opening(decision) => decision.outcome.sentence(),
            Came::Right(permission) => permission.sentence(),
        }
    }

    /// What the nearest permit lacked, a sentence each.
    pub fn lacks(&self) -> Vec<String> {
        let miss = match self {
            Came::Opening(decision) => decision.nearest.as_ref(),
            Came::Right(_) => None,
        };
        let told = |miss: &Miss| {
            miss.lacks.iter().map(|lack| format!("{} permits {}, but {}", miss.rule.id, miss.action, lack.sentence())).collect()
        };
        miss.map(told).unwrap_or_default()
    }
}

/// What the scenarios of a set show together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Each scenario, in the order of files and places.
    pub tested: Vec<Tested>,
    /// Rules that decide in no scenario.
    pub never_hit: Vec<String>,
    /// Rules that no scenario misses by one thing alone.
    pub never_nearly_hit: Vec<String>,
}

impl Report {
    /// How many scenarios came to something else than expected.
    pub fn failed(&self) -> usize {
        self.tested.iter().filter(|tested| !tested.differs.is_empty()).count()
    }
}

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

/// Reads all scenarios of a set, with every mistake in them.
pub fn read(files: &RuleFiles, rules: &Rules) -> (Vec<Scenario>, Vec<Mistake>) {
    read_all(files, Some(rules))
}

/// What is wrong with how scenarios are written, whatever the rules are.
pub fn misspelt(files: &RuleFiles) -> Vec<Mistake> {
    read_all(files, None).1
}

fn read_all(files: &RuleFiles, rules: Option<&Rules>) -> (Vec<Scenario>, Vec<Mistake>) {
    let (mut scenarios, mut mistakes) = (Vec::new(), Vec::new());
    let mut named: BTreeMap<String, String> = BTreeMap::new();
    for (name, text) in files.scenarios() {
        let mut reader = Reader { file: name, rules, reading: Reading::of(name, text) };
        scenarios.extend(reader.file(&mut named));
        reader.reading.mistakes.sort_by_key(|mistake| (mistake.span.start, mistake.span.end));
        mistakes.append(&mut reader.reading.mistakes);
    }
    // What is wrong with a file's defaults is wrong with each of its scenarios.
    let mut told: Vec<Mistake> = Vec::new();
    mistakes.retain(|mistake| {
        let is_new = !told.contains(mistake);
        told.extend(is_new.then(|| mistake.clone()));
        is_new
    });
    (scenarios, mistakes)
}

/// Reads one request about this, written as a scenario's `given` is.
pub fn read_request(name: &str, text: &str, subject: Subject, rules: &Rules) -> Result<Wish, Vec<Mistake>> {
    let mut reader = Reader { file: name, rules: Some(rules), reading: Reading::of(name, text) };
    let wish = reader.reading.root().map(|root| {
        let given = reader.reading.fields("a request", &root, &GIVEN);
        reader.wish(&given, subject)
    });
    match wish {
        Some(wish) if reader.reading.mistakes.is_empty() => Ok(wish),
        Some(_) | None => Err(reader.reading.mistakes),
    }
}

/// Decides on every scenario of a set.
pub fn test(files: &RuleFiles, rules: &Rules) -> Result<Report, Vec<Mistake>> {
    let (scenarios, mistakes) = read(files, rules);
    if mistakes.iter().any(|mistake| mistake.weight == Weight::Error) {
        return Err(mistakes);
    }
    let (mut hit, mut nearly) = (BTreeSet::new(), BTreeSet::new());
    let mut tested = Vec::new();
    for scenario in scenarios {
        let came = match scenario.subject {
            Subject::Opening => Came::Opening(Box::new(rules.decide(&scenario.wish))),
            Subject::Right(action) => Came::Right(rules.may(action, &scenario.wish)),
        };
        hit.extend(deciding(&came));
        let action = match scenario.subject {
            Subject::Opening => None,
            Subject::Right(action) => Some(action),
        };
        nearly.extend(rules.lacks(&scenario.wish, action).into_iter().filter(|(_, lacks)| misses_by_one(lacks)).map(|(rule, _)| rule));
        let differs = differences(&scenario.expect, &came);
        tested.push(Tested { scenario, came, differs });
    }
    let ids = || rules.rules().map(|rule| rule.terms.id.clone());
    let never_nearly = |id: &String| {
        // A rule for everybody, everything and every time cannot be missed.
        let can_be_missed = rules.rule(id).is_some_and(|rule| !rule.shape.parts.is_empty());
        can_be_missed && !nearly.contains(id)
    };
    Ok(Report { never_hit: ids().filter(|id| !hit.contains(id)).collect(), never_nearly_hit: ids().filter(never_nearly).collect(), tested })
}

fn misses_by_one(lacks: &[Lack]) -> bool {
    lacks.len() == 1
}

fn deciding(came: &Came) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    match came {
        Came::Opening(decision) => {
            ids.extend(decision.forbade.iter().map(|rule| rule.id.clone()));
            ids.extend(decision.outcome.rule().map(|rule| rule.id.clone()));
            if let Outcome::Refuse(Refusal::Forbidden { rules }) = &decision.outcome {
                ids.extend(rules.iter().map(|rule| rule.id.clone()));
            }
        }
        Came::Right(permission) => ids.extend(permission.rules().map(|rule| rule.id.clone())),
    }
    ids
}

fn differences(expect: &Expect, came: &Came) -> Vec<String> {
    let mut differs = Vec::new();
    let mut compare = |what: &str, wanted: Option<&str>, is: Option<String>| {
        if let Some(wanted) = wanted.filter(|wanted| is.as_deref() != Some(*wanted)) {
            differs.push(format!("{what} is {}, not {wanted}", is.as_deref().unwrap_or("none")));
        }
    };
    match came {
        Came::Opening(decision) => {
            let outcome = &decision.outcome;
            compare("the decision", Some(&expect.decision), Some(outcome.text().to_owned()));
            compare("the deciding rule", expect.rule.as_deref(), outcome.rule().map(|rule| rule.id.clone()));
            compare("the reason", expect.because.as_deref(), because(outcome).map(str::to_owned));
            let cap = outcome.cap_seconds().map(|seconds| duration::format(wish::seconds(seconds)));
            compare("the longest time", expect.max.as_deref(), cap);
            let approvers = match outcome {
                Outcome::Ask { decides, .. } => Some(format!("{} of {}", decides.count, decides.group)),
                Outcome::Open { .. } | Outcome::BreakGlass { .. } | Outcome::Refuse(_) | Outcome::Undecided { .. } => None,
            };
            compare("who decides", expect.approvers.as_deref(), approvers);
            compare("the nearest miss", expect.nearest.as_deref(), decision.nearest.as_ref().map(|miss| miss.rule.id.clone()));
        }
        Came::Right(permission) => {
            compare("the decision", Some(&expect.decision), Some(permission.text().to_owned()));
            compare("the deciding rule", expect.rule.as_deref(), permission.rules().next().map(|rule| rule.id.clone()));
        }
    }
    differs
}

fn because(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Refuse(refusal) => Some(refusal.text()),
        Outcome::Open { .. } | Outcome::BreakGlass { .. } | Outcome::Ask { .. } | Outcome::Undecided { .. } => None,
    }
}

struct Reader<'a> {
    file: &'a str,
    /// The rules that are tested; absent where only the spelling is looked at.
    rules: Option<&'a Rules>,
    reading: Reading<'a>,
}

impl Reader<'_> {
    fn file(&mut self, named: &mut BTreeMap<String, String>) -> Vec<Scenario> {
        let Some(root) = self.reading.root() else { return Vec::new() };
        let file = self.reading.fields("a file of scenarios", &root, &["defaults", "scenarios"]);
        let defaults = file.get("defaults").map(|node| self.reading.fields("`defaults`", node, &GIVEN)).unwrap_or_default();
        self.wish(&defaults, Subject::Opening);
        let nodes = file.get("scenarios").map(|node| self.reading.list("`scenarios`", node)).unwrap_or_default();
        nodes.iter().filter_map(|node| self.scenario(node, &defaults, named)).collect()
    }

    fn scenario(&mut self, node: &Node, defaults: &Fields<'_>, named: &mut BTreeMap<String, String>) -> Option<Scenario> {
        let wrong_before = self.reading.mistakes.len();
        let given = self.reading.fields("a scenario", node, &["name", "right", "given", "expect"]);
        let name = given.get("name").and_then(|node| self.reading.text("`name`", node)).map(|text| text.value);
        if let Some(name) = &name
            && let Some(other) = named.insert(name.clone(), self.file.to_owned())
        {
            let cure = format!("it is in {other}: give one of them another name");
            self.reading.wrong_but(node.referenced, format!("another scenario is called `{name}`"), cure);
        }
        let subject = given.get("right").map_or(Some(Subject::Opening), |node| self.right(node));
        let mut wished = defaults.clone();
        wished.extend(given.get("given").map(|node| self.reading.fields("`given`", node, &GIVEN)).unwrap_or_default());
        let wish = self.wish(&wished, subject.unwrap_or(Subject::Opening));
        let expect = given.get("expect").map(|node| self.expect(subject.unwrap_or(Subject::Opening), node));
        for field in ["name", "expect"].into_iter().filter(|field| !given.contains_key(field)) {
            self.reading.missing(wrong_before, node, "a scenario", field);
        }
        let is_right = self.reading.mistakes.len() == wrong_before;
        let scenario =
            Scenario { file: self.file.to_owned(), line: self.reading.line(node), name: name?, subject: subject?, wish, expect: expect? };
        is_right.then_some(scenario)
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

    fn expect(&mut self, subject: Subject, node: &Node) -> Expect {
        let wrong_before = self.reading.mistakes.len();
        let given = self.reading.fields("`expect`", node, &EXPECT);
        let decisions: &[&str] = match subject {
            Subject::Opening => &["open", "breakGlass", "ask", "refuse", "undecided"],
            Subject::Right(_) => &["permit", "refuse"],
        };
        let decision = given.get("decision").and_then(|node| self.word("decision", node, decisions));
        if !given.contains_key("decision") {
            self.reading.missing(wrong_before, node, "`expect`", "decision");
        }
        if matches!(subject, Subject::Right(_)) {
            for name in ["because", "max", "approvers", "nearest"] {
                if let Some(node) = given.get(name) {
                    let cure = "of a right only `decision` and `rule` can be expected";
                    self.reading.wrong_but(node.referenced, format!("a right has no `{name}`"), cure);
                }
            }
        }
        let reasons = ["limits", "forbidden", "erred", "nothingPermits"];
        let because = given.get("because").and_then(|node| self.word("reason to refuse", node, &reasons));
        let rule = given.get("rule").and_then(|node| self.rule("`rule`", node));
        let nearest = given.get("nearest").and_then(|node| self.rule("`nearest`", node));
        let max = self.seconds("`max`", given.get("max")).map(|seconds| duration::format(wish::seconds(seconds)));
        let approvers = self.text("`approvers`", given.get("approvers"));
        Expect { decision: decision.unwrap_or_default(), rule, because, max, approvers, nearest }
    }

    fn word(&mut self, name: &str, node: &Node, known: &[&str]) -> Option<String> {
        let known: Vec<(&str, &str)> = known.iter().map(|word| (*word, *word)).collect();
        self.reading.one_of(name, node, &known).map(str::to_owned)
    }

    /// The id of a rule.
    fn rule(&mut self, name: &str, node: &Node) -> Option<String> {
        let id = self.reading.text(name, node)?;
        if let Some(rules) = self.rules.filter(|rules| rules.rule(&id.value).is_none()) {
            let mistake = self.reading.mistake(id.at, format!("no rule is called `{}`", id.value));
            self.reading.mistakes.push(mistake.meant(&id.value, rules.rules().map(|rule| rule.terms.id.as_str())));
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
            nodes.iter().filter_map(|node| self.reading.number("a port", node, u16::MAX)).collect()
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
            incident: given.get("incident").map(|node| self.incident(node)),
            alerts: self.count("`alerts`", given.get("alerts")),
            window: self.text("`window`", given.get("window")),
            change: self.text("`change`", given.get("change")),
            approvals_today: self.count("`approvalsToday`", given.get("approvalsToday")).unwrap_or_default(),
            open_today_seconds: self.seconds("`openToday`", given.get("openToday")).unwrap_or_default(),
        }
    }

    fn who(&mut self, person: Option<&Node>) -> Who {
        let known = ["id", "groups", "unknown", "groupsUnreachable"];
        let given = person.map(|node| self.reading.fields("`person`", node, &known)).unwrap_or_default();
        let id = self.text("`id`", given.get("id"));
        let groups = self.texts("`groups`", given.get("groups"));
        let is_unreachable = self.flag("`groupsUnreachable`", given.get("groupsUnreachable")).unwrap_or_default();
        if self.flag("`unknown`", given.get("unknown")).unwrap_or_default() {
            if let Some(person) = person.filter(|_| id.is_some() || !groups.is_empty()) {
                let what = "somebody unknown has neither an id nor groups";
                self.reading.wrong_but(person.referenced, what, "leave them away, or `unknown`");
            }
            return Who::Unknown;
        }
        let id = id.unwrap_or_else(|| SOMEBODY.to_owned()).to_lowercase();
        let Some(rules) = self.rules else {
            return Who::Person { id, groups: Groups::Known { of: BTreeSet::new(), not_of: BTreeSet::new() } };
        };
        let id = rules.people().id_of(&id).map_or(id.clone(), str::to_owned);
        if let Some(person) = person.filter(|_| !is_guid(&id)) {
            let what = format!("`{id}` is neither an object id nor a name of people.yaml");
            self.reading.wrong_but(person.referenced, what, "leave `id` away, or write a GUID");
        }
        let names = || rules.people().groups().map(|(name, _)| name);
        for group in &groups {
            if names().all(|known| known != group.value) {
                let mistake = self.reading.mistake(group.at, format!("`{}` is no group of people.yaml", group.value));
                self.reading.mistakes.push(mistake.meant(&group.value, names()));
            }
        }
        if is_unreachable {
            return Who::Person { id, groups: Groups::Unreachable { why: "Microsoft Graph does not answer".to_owned() } };
        }
        let of: BTreeSet<String> = groups.into_iter().map(|group| group.value).collect();
        let not_of = names().filter(|name| !of.contains(*name)).map(str::to_owned).collect();
        Who::Person { id, groups: Groups::Known { of, not_of } }
    }

    /// Whose request it is, where somebody wants to decide on one.
    fn asker(&mut self, node: Option<&&Node>, subject: Subject) -> Option<String> {
        let given = node.and_then(|node| self.reading.text("`asker`", node));
        let named = given.as_ref().map_or_else(|| SOMEBODY_ELSE.to_owned(), |text| text.value.to_lowercase());
        let known = self.rules.and_then(|rules| rules.people().id_of(&named)).map(str::to_owned);
        let id = known.unwrap_or(named);
        if let Some(text) = given.filter(|_| !is_guid(&id) && self.rules.is_some()) {
            let what = format!("`{id}` is neither an object id nor a name of people.yaml");
            self.reading.wrong_but(text.at, what, "leave `asker` away, or write a GUID");
        }
        (subject == Subject::Right(Action::Approve)).then_some(id)
    }

    fn vm(&mut self, vm: Option<&Node>) -> VmFacts {
        let known = ["id", "name", "resourceGroup", "subscription", "managementGroups", "managementGroupsUnreachable", "tags"];
        let given = vm.map(|node| self.reading.fields("`vm`", node, &known)).unwrap_or_default();
        let id = self.text("`id`", given.get("id"));
        let mut or = |name: &str, default: &str| self.text(&format!("`{name}`"), given.get(name)).unwrap_or_else(|| default.to_owned());
        let (subscription, group, name) = (or("subscription", SUBSCRIPTION), or("resourceGroup", "rg"), or("name", "vm"));
        let id = id.unwrap_or_else(|| {
            format!("/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Compute/virtualMachines/{name}")
        });
        let id = id.parse::<VmId>().unwrap_or_else(|why| {
            if let Some(vm) = vm {
                let cure = "give the VM's resource id, or its name, resourceGroup and subscription";
                self.reading.wrong_but(vm.referenced, why.to_string(), cure);
            }
            nowhere()
        });
        let groups = self.texts("`managementGroups`", given.get("managementGroups")).into_iter().map(|group| group.value);
        let above = match self.flag("`managementGroupsUnreachable`", given.get("managementGroupsUnreachable")) {
            Some(true) => ManagementGroups::Unreachable { why: "Azure does not say which management groups are above it".to_owned() },
            Some(false) | None => ManagementGroups::of(groups),
        };
        let mut tags = BTreeMap::new();
        for (name, value) in given.get("tags").map(|node| self.reading.named("`tags`", node)).unwrap_or_default() {
            let value = match value.value {
                Stands::Nothing => Some(String::new()),
                _ => self.reading.text("a tag", value).map(|text| text.value),
            };
            tags.extend(value.map(|value| (name.value.clone(), value)));
        }
        VmFacts::new(id, above, tags)
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

    fn incident(&mut self, node: &Node) -> Incident {
        let given = self.reading.fields("`incident`", node, &["open", "severity", "owner", "namesThisVm", "age"]);
        let severity = given.get("severity").and_then(|node| self.reading.one_of("severity", node, &SEVERITIES));
        Incident {
            open: self.flag("`open`", given.get("open")).unwrap_or(true),
            severity: severity.unwrap_or(IncidentSeverity::High),
            owner: self.text("`owner`", given.get("owner")),
            names_this_vm: self.flag("`namesThisVm`", given.get("namesThisVm")).unwrap_or(true),
            age_seconds: self.seconds("`age`", given.get("age")).unwrap_or(600),
        }
    }
}

/// The machine of a scenario whose own cannot be read; such a scenario is never decided on.
#[expect(clippy::expect_used, reason = "the text is part of the program")]
fn nowhere() -> VmId {
    format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm").parse().expect("a VM's id")
}
