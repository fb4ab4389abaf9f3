//! Scenario files: requests and what must come of them, beside the rules that they test.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use portcullis_domain::arm_id::VmId;
use portcullis_domain::duration;
use portcullis_domain::source::Sources;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::action::Action;
use crate::decision::{Decision, Lack, Miss, Outcome, Permission, Refusal};
use crate::files::RuleFiles;
use crate::mistake::{Mistake, Weight, place};
use crate::people::is_guid;
use crate::set::Rules;
use crate::wish::{self, Groups, Incident, ManagementGroups, VmFacts, Way, Who, Wish};
use crate::yaml;

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

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExpectGiven {
    decision: Spanned<String>,
    #[serde(default)]
    rule: Option<Spanned<String>>,
    #[serde(default)]
    because: Option<Spanned<String>>,
    #[serde(default)]
    max: Option<Spanned<String>>,
    #[serde(default)]
    approvers: Option<Spanned<String>>,
    #[serde(default)]
    nearest: Option<Spanned<String>>,
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

/// What a scenario, or the defaults of its file, says. What neither says is as in a small request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Given {
    person: Option<Spanned<PersonGiven>>,
    vm: Option<Spanned<VmGiven>>,
    ports: Option<Vec<u16>>,
    sources: Option<Vec<Spanned<String>>>,
    duration: Option<Spanned<String>>,
    jit_longest: Option<Spanned<String>>,
    at: Option<Spanned<String>>,
    way: Option<Way>,
    reason: Option<String>,
    incident: Option<Spanned<IncidentGiven>>,
    alerts: Option<u32>,
    window: Option<String>,
    change: Option<String>,
    approvals_today: Option<u32>,
    open_today: Option<Spanned<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PersonGiven {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    groups: Vec<Spanned<String>>,
    #[serde(default)]
    unknown: bool,
    #[serde(default)]
    groups_unreachable: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct VmGiven {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    resource_group: Option<String>,
    #[serde(default)]
    subscription: Option<String>,
    #[serde(default)]
    management_groups: Vec<String>,
    #[serde(default)]
    management_groups_unreachable: bool,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct IncidentGiven {
    #[serde(default = "yes")]
    open: bool,
    #[serde(default = "high")]
    severity: crate::wish::IncidentSeverity,
    #[serde(default)]
    owner: Option<String>,
    #[serde(default = "yes")]
    names_this_vm: bool,
    #[serde(default)]
    age: Option<String>,
}

fn yes() -> bool {
    true
}

fn high() -> crate::wish::IncidentSeverity {
    crate::wish::IncidentSeverity::High
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(default)]
    defaults: Given,
    #[serde(default)]
    scenarios: Vec<Spanned<ScenarioGiven>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ScenarioGiven {
    name: String,
    #[serde(default)]
    right: Option<Action>,
    #[serde(default)]
    given: Given,
    expect: ExpectGiven,
}

/// The person of a scenario that names none by id.
const SOMEBODY: &str = "00000000-0000-4000-8000-00000000000a";

/// The subscription of a scenario that names none.
const SUBSCRIPTION: &str = "00000000-0000-4000-8000-000000000001";

/// When a scenario is decided on that does not say: a Thursday.
const NOON: &str = "2026-01-15T12:00:00Z";

/// Reads all scenarios of a set, with every mistake in them.
pub fn read(files: &RuleFiles, rules: &Rules) -> (Vec<Scenario>, Vec<Mistake>) {
    let (mut scenarios, mut mistakes) = (Vec::new(), Vec::new());
    let mut named: BTreeMap<String, &str> = BTreeMap::new();
    for (name, text) in files.scenarios() {
        let file: File = match yaml::read(name, text) {
            Ok(file) => file,
            Err(mistake) => {
                mistakes.push(mistake);
                continue;
            }
        };
        let mut reader = Reader { file: name, text, rules, mistakes: Vec::new() };
        reader.wish(&file.defaults);
        mistakes.append(&mut reader.mistakes);
        for given in file.scenarios {
            let mut reader = Reader { file: name, text, rules, mistakes: Vec::new() };
            if let Some(other) = named.insert(given.value.name.clone(), name) {
                let what = format!("another scenario is called `{}`", given.value.name);
                reader.wrong(&given, &what, &format!("it is in {other}: give one of them another name"));
            }
            let scenario = reader.scenario(&given, &file.defaults);
            mistakes.append(&mut reader.mistakes);
            scenarios.extend(scenario);
        }
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

/// What is wrong with how scenarios are written, whatever the rules are.
pub fn misspelt(files: &RuleFiles) -> Vec<Mistake> {
    files.scenarios().filter_map(|(name, text)| yaml::read::<File>(name, text).err()).collect()
}

/// Reads one request, written as a scenario's `given` is.
pub fn read_request(name: &str, text: &str, rules: &Rules) -> Result<Wish, Vec<Mistake>> {
    let given: Given = yaml::read(name, text).map_err(|mistake| vec![mistake])?;
    let mut reader = Reader { file: name, text, rules, mistakes: Vec::new() };
    let wish = reader.wish(&given);
    if reader.mistakes.is_empty() { Ok(wish) } else { Err(reader.mistakes) }
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
    text: &'a str,
    rules: &'a Rules,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn scenario(&mut self, given: &Spanned<ScenarioGiven>, defaults: &Given) -> Option<Scenario> {
        let one = &given.value;
        let subject = match one.right {
            None => Subject::Opening,
            Some(action @ (Action::Approve | Action::Close | Action::Read)) => Subject::Right(action),
            Some(action @ (Action::Open | Action::Ask | Action::BreakGlass)) => {
                self.wrong(
                    given,
                    &format!("`{action}` is no right of its own"),
                    "leave `right` away: a request tries open, breakGlass and ask",
                );
                return None;
            }
        };
        let expect = self.expect(subject, &one.expect);
        let wish = self.wish(&one.given.clone().over(defaults.clone()));
        let (line, _) = place(self.text, yaml::span(self.text, given.referenced).start);
        self.mistakes.is_empty().then(|| Scenario { file: self.file.to_owned(), line, name: one.name.clone(), subject, wish, expect })
    }

    fn expect(&mut self, subject: Subject, given: &ExpectGiven) -> Expect {
        let decisions: &[&str] = match subject {
            Subject::Opening => &["open", "breakGlass", "ask", "refuse", "undecided"],
            Subject::Right(_) => &["permit", "refuse"],
        };
        self.one_of(&given.decision, "decision", decisions);
        if matches!(subject, Subject::Right(_)) {
            for (name, value) in
                [("because", &given.because), ("max", &given.max), ("approvers", &given.approvers), ("nearest", &given.nearest)]
            {
                if let Some(value) = value {
                    self.wrong(value, &format!("a right has no `{name}`"), "of a right only `decision` and `rule` can be expected");
                }
            }
        }
        if let Some(because) = &given.because {
            self.one_of(because, "reason to refuse", &["limits", "forbidden", "erred", "nothingPermits"]);
        }
        for id in given.rule.iter().chain(&given.nearest) {
            if self.rules.rule(&id.value).is_none() {
                let mistake = Mistake::error(self.file, yaml::span(self.text, id.referenced), format!("no rule is called `{}`", id.value));
                self.mistakes.push(mistake.meant(&id.value, self.rules.rules().map(|rule| rule.terms.id.as_str())));
            }
        }
        let max = self.seconds(given.max.as_ref()).map(|seconds| duration::format(wish::seconds(seconds)));
        let value = |text: &Option<Spanned<String>>| text.as_ref().map(|text| text.value.clone());
        Expect {
            decision: given.decision.value.clone(),
            rule: value(&given.rule),
            because: value(&given.because),
            max,
            approvers: value(&given.approvers),
            nearest: value(&given.nearest),
        }
    }

    fn one_of(&mut self, value: &Spanned<String>, what: &str, known: &[&str]) {
        if !known.contains(&value.value.as_str()) {
            self.wrong(value, &format!("`{}` is no {what}", value.value), &format!("write one of {}", known.join(", ")));
        }
    }

    fn wrong<T>(&mut self, at: &Spanned<T>, what: &str, cure: &str) {
        let span = yaml::span(self.text, at.referenced);
        self.mistakes.push(Mistake::error(self.file, span, what).cured(cure));
    }

    fn wish(&mut self, given: &Given) -> Wish {
        let sources = self.sources(given.sources.as_deref().unwrap_or_default());
        Wish {
            who: self.who(given.person.as_ref()),
            vm: self.vm(given.vm.as_ref()),
            ports: given.ports.clone().unwrap_or_else(|| vec![22]).into_iter().collect(),
            sources,
            seconds: self.seconds(given.duration.as_ref()).unwrap_or(3600),
            jit_longest_seconds: self.seconds(given.jit_longest.as_ref()),
            at: self.time(given.at.as_ref()),
            way: given.way.unwrap_or(Way::Asked),
            reason: given.reason.clone().unwrap_or_default(),
            incident: given.incident.as_ref().map(|incident| self.incident(incident)),
            alerts: given.alerts,
            window: given.window.clone(),
            change: given.change.clone(),
            approvals_today: given.approvals_today.unwrap_or_default(),
            open_today_seconds: self.seconds(given.open_today.as_ref()).unwrap_or_default(),
        }
    }

    fn who(&mut self, person: Option<&Spanned<PersonGiven>>) -> Who {
        let nobody = PersonGiven::default();
        let given = person.map_or(&nobody, |person| &person.value);
        if given.unknown {
            if let Some(person) = person.filter(|_| given.id.is_some() || !given.groups.is_empty()) {
                self.wrong(person, "somebody unknown has neither an id nor groups", "leave them away, or `unknown`");
            }
            return Who::Unknown;
        }
        let id = given.id.clone().unwrap_or_else(|| SOMEBODY.to_owned()).to_lowercase();
        let id = match self.rules.people().id_of(&id) {
            Some(known) => known.to_owned(),
            None => id,
        };
        if let Some(person) = person {
            if !is_guid(&id) {
                self.wrong(
                    person,
                    &format!("`{id}` is neither an object id nor a name of people.yaml"),
                    "leave `id` away, or write a GUID",
                );
            }
            for group in &given.groups {
                if !self.rules.people().groups().any(|(known, _)| known == group.value) {
                    let span = yaml::span(self.text, group.referenced);
                    let mistake = Mistake::error(self.file, span, format!("`{}` is no group of people.yaml", group.value));
                    self.mistakes.push(mistake.meant(&group.value, self.rules.people().groups().map(|(name, _)| name)));
                }
            }
        }
        if given.groups_unreachable {
            return Who::Person { id, groups: Groups::Unreachable { why: "Microsoft Graph does not answer".to_owned() } };
        }
        let of: BTreeSet<String> = given.groups.iter().map(|group| group.value.clone()).collect();
        let not_of = self.rules.people().groups().map(|(name, _)| name.to_owned()).filter(|name| !of.contains(name)).collect();
        Who::Person { id, groups: Groups::Known { of, not_of } }
    }

    fn vm(&mut self, vm: Option<&Spanned<VmGiven>>) -> VmFacts {
        let plain = VmGiven::default();
        let given = vm.map_or(&plain, |vm| &vm.value);
        let or = |value: &Option<String>, default: &str| value.clone().unwrap_or_else(|| default.to_owned());
        let id = given.id.clone().unwrap_or_else(|| {
            format!(
                "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.Compute/virtualMachines/{}",
                or(&given.subscription, SUBSCRIPTION),
                or(&given.resource_group, "rg"),
                or(&given.name, "vm")
            )
        });
        let id = id.parse::<VmId>().unwrap_or_else(|why| {
            if let Some(vm) = vm {
                self.wrong(vm, &why.to_string(), "give the VM's resource id, or its name, resourceGroup and subscription");
            }
            nowhere()
        });
        let above = match given.management_groups_unreachable {
            true => ManagementGroups::Unreachable { why: "Azure does not say which management groups are above it".to_owned() },
            false => ManagementGroups::of(given.management_groups.clone()),
        };
        VmFacts::new(id, above, given.tags.clone())
    }

    fn sources(&mut self, sources: &[Spanned<String>]) -> Sources {
        for source in sources {
            if let Err(why) = Sources::parse([source.value.as_str()]) {
                self.wrong(source, &why.to_string(), "write an address such as 203.0.113.4 or a range such as 203.0.113.0/24");
            }
        }
        Sources::read(sources.iter().map(|source| source.value.as_str()))
    }

    fn seconds(&mut self, text: Option<&Spanned<String>>) -> Option<i64> {
        let text = text?;
        match duration::parse(&text.value) {
            Ok(time) => Some(time.num_seconds()),
            Err(why) => {
                self.wrong(text, &why.to_string(), "write PT2H for two hours, PT30M for thirty minutes");
                None
            }
        }
    }

    fn time(&mut self, text: Option<&Spanned<String>>) -> DateTime<Utc> {
        let noon = || NOON.parse().unwrap_or_default();
        let Some(text) = text else { return noon() };
        DateTime::parse_from_rfc3339(&text.value).map_or_else(
            |_| {
                self.wrong(text, &format!("`{}` is not a time", text.value), "write it as 2026-01-15T09:00:00+01:00");
                noon()
            },
            |time| time.with_timezone(&Utc),
        )
    }

    fn incident(&mut self, given: &Spanned<IncidentGiven>) -> Incident {
        let one = &given.value;
        let age = one.age.as_deref().map(duration::parse).transpose();
        if let Err(why) = &age {
            self.wrong(given, &format!("the incident's age cannot be read: {why}"), "write PT2H for two hours");
        }
        Incident {
            open: one.open,
            severity: one.severity,
            owner: one.owner.clone(),
            names_this_vm: one.names_this_vm,
            age_seconds: age.ok().flatten().map_or(600, |age| age.num_seconds()),
        }
    }
}

/// The machine of a scenario whose own cannot be read; such a scenario is never decided on.
#[expect(clippy::expect_used, reason = "the text is part of the program")]
fn nowhere() -> VmId {
    format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm").parse().expect("a VM's id")
}

impl Given {
    /// This, and where it says nothing, the other.
    fn over(self, other: Given) -> Given {
        Given {
            person: self.person.or(other.person),
            vm: self.vm.or(other.vm),
            ports: self.ports.or(other.ports),
            sources: self.sources.or(other.sources),
            duration: self.duration.or(other.duration),
            jit_longest: self.jit_longest.or(other.jit_longest),
            at: self.at.or(other.at),
            way: self.way.or(other.way),
            reason: self.reason.or(other.reason),
            incident: self.incident.or(other.incident),
            alerts: self.alerts.or(other.alerts),
            window: self.window.or(other.window),
            change: self.change.or(other.change),
            approvals_today: self.approvals_today.or(other.approvals_today),
            open_today: self.open_today.or(other.open_today),
        }
    }
}
