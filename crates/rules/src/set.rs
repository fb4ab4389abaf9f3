//! A rule set: loaded and checked, with every mistake at once.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::OnceLock;

use cedar_policy::{ActionConstraint, Effect as CedarEffect, EntityUid, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use chrono_tz::Tz;
use portcullis_domain::arm_id::is_guid;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::action::Action;
use crate::bounds::never_met;
use crate::decision::Named;
use crate::files::{NETWORKS, PEOPLE, RuleFiles, SCHEMA};
use crate::miss::Clause;
use crate::mistake::{Lines, Mistake, Weight, nearest};
use crate::networks::Networks;
use crate::people::{Group, People};
use crate::said::{CUT_SHORT, UNENDED, diagnosed, in_our_words, of_bare_action, without_echoes};
use crate::spoken::{Spoken, attributes};
use crate::terms::{self, Effect, MISSING, Source, Terms};
use crate::text::{Shape, opened, places, shape, statements, too_much};
use crate::unknown::Unknown;

/// The schema that rules are checked against: what this program can say to a rule.
pub const SCHEMA_TEXT: &str = include_str!("../../../policies/portcullis.cedarschema");

/// A rule set that can decide.
#[derive(Debug)]
pub struct Rules {
    pub(crate) schema: Schema,
    pub(crate) chapters: Vec<Chapter>,
    pub(crate) rules: BTreeMap<String, Rule>,
    pub(crate) names: Names,
    networks: Networks,
    names_management_groups: bool,
    asks_for_incidents: bool,
    hash: String,
}

/// The rules about one action that are read at one clock. A set has one for each action and zone that has a rule, in the order of
/// actions and of the zones' names.
#[derive(Debug)]
pub(crate) struct Chapter {
    pub(crate) action: Action,
    pub(crate) zone: Tz,
    pub(crate) policies: PolicySet,
}

/// What scenarios may name, also of a set that cannot be used.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub(crate) people: People,
    /// The networks.
    pub(crate) networks: BTreeSet<String>,
    /// The groups that conditions and heads of rules name.
    pub(crate) asked_groups: BTreeSet<String>,
    /// Whether there may be rules that name groups and cannot be read.
    pub(crate) unread_groups: bool,
    /// The rules by id, each with its file and line.
    pub(crate) rules: BTreeMap<String, (String, usize)>,
    /// Whether there may be rules whose id cannot be read.
    pub(crate) unread: bool,
}

impl Names {
    /// Whether a rule asks for a group that only Entra knows, or one that cannot be read may do.
    pub(crate) fn may_ask_entra(&self) -> bool {
        self.unread
            || self.unread_groups
            || self.people.is_read_in_part()
            || self.people.entra_groups().any(|(name, _)| self.asked_groups.contains(name))
    }
}

/// A set as its files have it: to be used, or no more than what is named in it.
pub(crate) struct Found {
    pub(crate) rules: Result<Rules, Names>,
    pub(crate) mistakes: Vec<Mistake>,
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Whether it permits or forbids.
    pub effect: Effect,
    /// What it is about; a forbid of every action is about all.
    pub actions: BTreeSet<Action>,
    /// Its annotations.
    pub terms: Terms,
    /// Its file.
    pub file: String,
    /// The line on which it begins, from 1.
    pub line: usize,
    /// Its text.
    pub text: String,
    pub(crate) shape: Shape,
    pub(crate) clauses: OnceLock<Vec<Clause>>,
}

impl Rule {
    /// The rule as people are told of it.
    pub fn named(&self) -> Named {
        Named { id: self.terms.id.clone(), reason: self.terms.reason.clone() }
    }
}

/// A rule set that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Mistakes(pub Vec<Mistake>);

impl Rules {
    /// Loads a rule set. One that has an error is not loaded at all: half a set could permit what the other half forbids.
    pub fn load(files: &RuleFiles) -> Result<Self, Mistakes> {
        let (rules, mistakes) = Rules::check(files);
        rules.ok_or_else(|| Mistakes(mistakes.into_iter().filter(|mistake| mistake.weight == Weight::Error).collect()))
    }

    /// Loads a rule set and tells every mistake, in the order of files and places. There is no set where one is an error.
    pub fn check(files: &RuleFiles) -> (Option<Self>, Vec<Mistake>) {
        let Found { rules, mistakes } = find(files);
        (rules.ok(), mistakes)
    }

    /// The hash of everything that decides.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Whether the rules name groups, and nobody is in any of them, as it is in the shipped set until people.yaml says who is meant.
    pub fn name_empty_groups_alone(&self) -> bool {
        let is_empty = |group: &Group| matches!(group, Group::Listed(members) if members.is_empty());
        let mut asked = self.people().groups().filter(|(name, _)| self.names.asked_groups.contains(*name)).peekable();
        asked.peek().is_some() && asked.all(|(_, group)| is_empty(group))
    }

    /// People and groups.
    pub fn people(&self) -> &People {
        &self.names.people
    }

    /// Named ranges of addresses.
    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    /// Whether any rule names a management group: else nobody has to know which are above a machine.
    pub fn name_management_groups(&self) -> bool {
        self.names_management_groups
    }

    /// Whether any rule asks for the incident that a request names: else nobody has to read it.
    pub fn ask_for_incidents(&self) -> bool {
        self.asks_for_incidents
    }

    /// The rule of this id.
    pub fn rule(&self, id: &str) -> Option<&Rule> {
        self.rules.get(id)
    }

    /// The time zones whose clocks they are read at, by name.
    pub(crate) fn zones(&self) -> impl Iterator<Item = Tz> {
        let zones: BTreeMap<&str, Tz> = self.chapters.iter().map(|chapter| (chapter.zone.name(), chapter.zone)).collect();
        zones.into_values()
    }

    /// All rules, by id.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.values()
    }
}

/// What Cedar needs to read and to check the most that [`too_much`] lets through. With less it gives up on the types of a rule
/// without a word.
const STACK: usize = 64 << 20;

/// Finds the set that these files are.
pub(crate) fn find(files: &RuleFiles) -> Found {
    let found = std::thread::scope(|scope| {
        let checked = || {
            let mut check = Check::new(files);
            check.everything();
            check.done()
        };
        std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, checked).map(|thread| thread.join())
    });
    match found {
        Ok(Ok(found)) => found,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(why) => {
            let wrong = Mistake::error("", 0..0, format!("the rules cannot be checked: {why}"));
            let cure = "give the program more memory or threads: it needs a thread of its own for this";
            Found { rules: Err(Names { unread: true, ..Names::default() }), mistakes: vec![wrong.cured(cure)] }
        }
    }
}

/// Whether the semicolon of a rule is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It is, or the statement is no rule that could be told to lack it.
    Written,
    /// It is not.
    Forgotten,
}

/// A set that is being checked.
struct Check<'a> {
    files: &'a RuleFiles,
    validator: Validator,
    schema: Schema,
    names: Names,
    networks: Networks,
    rules: BTreeMap<String, Rule>,
    chapters: BTreeMap<(Action, &'static str), Chapter>,
    unknown: Unknown,
    names_management_groups: bool,
    asks_for_incidents: bool,
    /// Whether the statement before is a rule's annotations without the rule.
    cut: bool,
    mistakes: Vec<Mistake>,
}

impl<'a> Check<'a> {
    fn new(files: &'a RuleFiles) -> Self {
        let schema = schema();
        let (people, mut mistakes) = People::read(files.text(PEOPLE));
        let (networks, wrong) = Networks::read(files.text(NETWORKS));
        mistakes.extend(wrong);
        mistakes.extend(files.unreadable().iter().cloned());
        let people = if files.says_more(PEOPLE) { people.read_in_part() } else { people };
        let networks = if files.says_more(NETWORKS) { networks.read_in_part() } else { networks };
        // Whatever is not read may be meant to hold rules.
        let unread = files.not_read().next().is_some() || files.unreadable().iter().any(|mistake| mistake.file.ends_with(".cedar"));
        let names = Names { people, networks: networks.names().map(str::to_owned).collect(), unread, ..Names::default() };
        let validator = Validator::new(schema.clone());
        Check {
            files,
            validator,
            schema,
            names,
            networks,
            rules: BTreeMap::new(),
            chapters: BTreeMap::new(),
            unknown: Unknown::default(),
            names_management_groups: false,
            asks_for_incidents: false,
            cut: false,
            mistakes,
        }
    }

    fn everything(&mut self) {
        self.schema_file();
        for (file, text) in self.files.rules() {
            self.cut = false;
            let lines = Lines::of(text);
            for span in statements(text) {
                self.statement(file, &text[span.clone()], span.start, lines.line(span.start));
            }
        }
        for name in self.files.not_read() {
            self.not_read(name);
        }
        if self.files.rules().next().is_none() && !self.names.unread {
            self.mistakes.push(
                Mistake::error("", 0..0, "there are no rules: no file here ends in .cedar").cured("write some, or name their folder"),
            );
        } else if self.rules.is_empty() && self.mistakes.is_empty() {
            self.mistakes.push(
                Mistake::error("", 0..0, "there are no rules: the files that end in .cedar say nothing")
                    .cured("write one: a `permit`, or a `forbid` of everything"),
            );
        }
    }

    fn not_read(&mut self, name: &str) {
        let what = if name.ends_with('/') { "folder" } else { "file" };
        let mistake = Mistake::error(name, 0..0, format!("this {what} is not read, so what it says does not hold"));
        let cure = nearest(name, [PEOPLE, NETWORKS, SCHEMA, "tests/"]).map_or_else(
            || {
                "rules are in files that end in .cedar, scenarios in files of tests/ that end in .yaml; move everything else away"
                    .to_owned()
            },
            |near| format!("did you mean `{near}`?"),
        );
        self.mistakes.push(mistake.cured(cure));
    }

    /// The schema's copy beside the rules must be the program's own, or people would write rules after another one.
    fn schema_file(&mut self) {
        let Some(text) = self.files.text(SCHEMA) else { return };
        // Another way to end lines, or the mark that some editors begin a file with, changes nothing.
        let plain = |text: &str| text.trim_start_matches('\u{feff}').replace("\r\n", "\n").trim_end().to_owned();
        if plain(text) != plain(SCHEMA_TEXT) {
            let same = text.bytes().zip(SCHEMA_TEXT.bytes()).take_while(|(one, other)| one == other).count();
            let start = text.get(..same).map_or(0, |same| same.rfind('\n').map_or(0, |at| at + 1));
            let end = text.get(start..).and_then(|rest| rest.find('\n')).map_or(text.len(), |length| start + length);
            let mistake = Mistake::error(SCHEMA, start..end, "this is not the schema of this version of Portcullis");
            self.mistakes.push(mistake.cured("the program fills what rules see, so its schema cannot be changed here: restore the file"));
        }
    }

    fn statement(&mut self, file: &str, rule_text: &str, start: usize, line: usize) {
        let shape = shape(rule_text);
        let source = Source { file, text: rule_text, start, shape: &shape };
        let before = self.mistakes.len();
        if let Some(place) = too_much(rule_text) {
            let mistake = source.mistake(&place, "from here on the rule is nested too deeply, or is too long, to be read");
            self.mistakes.push(mistake.cured("take it apart into several rules"));
            self.terms(&source, effect_of(rule_text, &shape), None, line);
            self.names.unread_groups = true;
            return;
        }
        let is_a_rule = !shape.head.is_empty() && !shape.annotations.is_empty() || is_headed(rule_text, &shape);
        let end = if is_a_rule && !rule_text.ends_with(';') { End::Forgotten } else { End::Written };
        let is_cut = !shape.annotations.is_empty() && !is_headed(rule_text, &shape);
        let (policy, wrong) = parsed(&source, end);
        self.mistakes.extend(wrong);
        let Some(policy) = policy else {
            self.names.unread_groups = true;
            // Its name is taken, and what it says of itself is checked, so that nothing is told only after it is mended.
            if is_a_rule {
                let told = self.mistakes.len();
                self.terms(&source, effect_of(rule_text, &shape), None, line);
                // What is cut in two, or broken, has its other annotations elsewhere.
                if is_cut || self.cut {
                    let said = self.mistakes.split_off(told);
                    self.mistakes.extend(said.into_iter().filter(|mistake| !mistake.what.starts_with(MISSING)));
                }
            } else {
                self.names.unread = true;
            }
            self.cut = is_cut;
            return;
        };
        self.validate(&source, &policy);
        let effect = match policy.effect() {
            CedarEffect::Permit => Effect::Permit,
            CedarEffect::Forbid => Effect::Forbid,
        };
        let actions = self.actions(&source, &policy, effect);
        self.names(&source, &policy);
        self.mistakes.extend(never_met(&source, &policy));
        let said = self.mistakes.split_off(before);
        self.mistakes.extend(without_what_follows(said));
        let known = Some(&actions).filter(|actions| !actions.is_empty());
        let told = self.mistakes.len();
        let terms = self.terms(&source, effect, known, line);
        if std::mem::take(&mut self.cut) {
            let said = self.mistakes.split_off(told);
            self.mistakes.extend(said.into_iter().filter(|mistake| !mistake.what.starts_with(MISSING)));
        }
        let Some(terms) = terms else { return };
        let broken = self.mistakes[before..].iter().any(|mistake| mistake.weight == Weight::Error);
        if !broken {
            self.unknown.look(&source, &policy, &actions, &self.validator);
            self.names_management_groups |= policy.entity_literals().iter().any(|uid| uid.type_name().to_string() == "ManagementGroup");
            self.asks_for_incidents |= may_ask_for_incidents(&policy);
            for action in &actions {
                let chapter = self.chapters.entry((*action, terms.timezone.name()));
                let chapter = chapter.or_insert_with(|| Chapter { action: *action, zone: terms.timezone, policies: PolicySet::new() });
                if let Err(why) = chapter.policies.add(policy.new_id(PolicyId::new(&terms.id))) {
                    self.mistakes.push(source.mistake(&shape.head, why.to_string()));
                }
            }
        }
        let rule = Rule {
            effect,
            actions,
            file: file.to_owned(),
            line,
            text: rule_text.to_owned(),
            shape: shape.clone(),
            terms: terms.clone(),
            clauses: OnceLock::new(),
        };
        self.rules.insert(terms.id, rule);
    }

    /// Its annotations; absent where it has no name, or another rule's, by which it could be kept.
    fn terms(&mut self, source: &Source<'_>, effect: Effect, actions: Option<&BTreeSet<Action>>, line: usize) -> Option<Terms> {
        let (terms, wrong) = terms::read(source, effect, actions, &self.names.people);
        self.mistakes.extend(wrong);
        if terms.id.is_empty() {
            self.names.unread = true;
            return None;
        }
        if let Some((file, line)) = self.names.rules.get(&terms.id) {
            let id = source.shape.annotations.iter().find(|annotation| &source.text[annotation.name.clone()] == "id");
            let span = id.and_then(|id| id.value.clone()).unwrap_or(0..0);
            let mistake = source.mistake(&span, format!("another rule is called `{}`", terms.id));
            self.mistakes.push(mistake.cured(format!("it is in {file}, line {line}: give one of them another @id")));
            return None;
        }
        self.names.rules.insert(terms.id.clone(), (source.file.to_owned(), line));
        Some(terms)
    }

    fn validate(&mut self, source: &Source<'_>, policy: &Policy) {
        let mut told = self.validated(source, policy);
        let head_end = source.start + source.shape.head.end;
        let is_of_head = |mistake: &Mistake| mistake.weight == Weight::Error && mistake.span.end <= head_end;
        if told.iter().any(is_of_head) {
            // Cedar does not look at the conditions of a rule that is about nothing it knows.
            told.extend(self.validated_without_head(source).into_iter().filter(|mistake| mistake.span.start >= head_end));
        }
        // What can never hold can have that from the error.
        let errs = told.iter().any(|mistake| mistake.weight == Weight::Error);
        told.retain(|mistake| mistake.weight == Weight::Error || !errs);
        // One and the same thing is told for each action that the rule is about, in any order.
        told.sort_by_key(|mistake| {
            (mistake.span.start, mistake.span.end, of_bare_action(&mistake.what), mistake.cure.is_none(), mistake.what.clone())
        });
        let mut places = BTreeSet::new();
        told.retain(|mistake| places.insert((mistake.span.start, mistake.span.end)));
        let cured = told.into_iter().map(|mistake| match of_bare_action(&mistake.what) {
            true if policy.action_constraint() == ActionConstraint::Any => mistake.cured(
                "closing and seeing have no such thing: name what the rule is about, `action in [Action::\"open\", Action::\"ask\", Action::\"breakGlass\"]`",
            ),
            true => mistake.cured("a rule about closing or seeing can ask who it is and which machine, and nothing else"),
            false => mistake,
        });
        self.mistakes.extend(without_echoes(cured.map(|mistake| in_our_words(mistake, source)).collect()));
    }

    fn validated(&self, source: &Source<'_>, policy: &Policy) -> Vec<Mistake> {
        let Ok(alone) = PolicySet::from_policies([policy.clone()]) else { return Vec::new() };
        let told = self.validator.validate(&alone, ValidationMode::Strict);
        let errors = told.validation_errors().map(|error| diagnosed(source, error));
        // A permit that can never hold permits nothing; a forbid that can never hold forbids nothing.
        let weigh = |mistake: Mistake| if policy.effect() == CedarEffect::Permit { mistake.as_warning() } else { mistake };
        errors.chain(told.validation_warnings().map(|warning| weigh(diagnosed(source, warning)))).collect()
    }

    /// What is wrong with the conditions of a rule, were it about anybody's opening of any machine.
    fn validated_without_head(&self, source: &Source<'_>) -> Vec<Mistake> {
        const HEAD: &str = "permit (principal, action == Action::\"open\", resource)";
        let conditions = &source.text[source.shape.head.end..];
        let Ok(policy) = Policy::parse(Some(PolicyId::new("rule")), format!("{HEAD}{conditions}")) else { return Vec::new() };
        let there = |at: usize| (at + source.shape.head.end).saturating_sub(HEAD.len());
        let told = self.validated(&Source { start: 0, ..*source }, &policy).into_iter();
        told.map(|mistake| Mistake { span: source.start + there(mistake.span.start)..source.start + there(mistake.span.end), ..mistake })
            .collect()
    }

    fn actions(&mut self, source: &Source<'_>, policy: &Policy, effect: Effect) -> BTreeSet<Action> {
        let named = match policy.action_constraint() {
            ActionConstraint::Any => {
                if effect == Effect::Permit {
                    let mistake = source.mistake(&source.shape.head, "the rule permits every action there is");
                    self.mistakes.push(mistake.cured("name what it permits: `action == Action::\"open\"`"));
                    return BTreeSet::new();
                }
                return Action::ALL.into_iter().collect();
            }
            ActionConstraint::Eq(uid) => vec![uid],
            ActionConstraint::In(uids) => uids,
        };
        named.iter().filter_map(|uid| Action::read(uid.id().unescaped())).collect()
    }

    /// Names that the schema cannot know: groups, networks, and the spelling of Azure's ids and tags.
    fn names(&mut self, source: &Source<'_>, policy: &Policy) {
        let literals: BTreeSet<(String, String)> =
            policy.entity_literals().iter().map(|uid: &EntityUid| (uid.type_name().to_string(), uid.id().unescaped().to_owned())).collect();
        self.names.asked_groups.extend(literals.iter().filter(|(kind, _)| kind == "Group").map(|(_, id)| id.clone()));
        let spoken = Spoken::of(policy);
        self.mistakes.extend(spoken.compared.iter().filter_map(|(variable, kind, id)| of_another_kind(source, variable, kind, id)));
        for (kind, id) in &literals {
            let Some(mistake) = self.literal(source, kind, id) else { continue };
            // The first place is the mistake's own.
            let others = places(source.text, &format!("{kind}::{id:?}")).into_iter().skip(1);
            let at = |span: Range<usize>| Mistake { span: source.start + span.start..source.start + span.end, ..mistake.clone() };
            self.mistakes.extend(others.map(at));
            self.mistakes.push(mistake);
        }
        for (of, name) in spoken.asked_for {
            // Cedar takes what nobody knows for what is merely absent, so that the condition would never hold.
            let Some(known) = attributes().get(of.as_str()).filter(|known| !known.contains(&name)) else { continue };
            let places = [format!("has {name}"), format!(".{name}"), name.clone()].map(|words| places(source.text, &words));
            let span = places.into_iter().flatten().next().unwrap_or_else(|| source.shape.head.clone());
            let mistake = source.mistake(&span, format!("`{name}` is no attribute of `{of}`, so this never holds"));
            self.mistakes.push(mistake.meant(&name, known.iter().map(String::as_str)));
        }
        let tags = spoken.tags.iter().map(|tag| (tag, format!("no machine has a tag `{tag}` here: names of tags are in lower case")));
        let machines =
            spoken.machines.iter().map(|name| (name, format!("no machine is called `{name}` here: names of machines are in lower case")));
        for (name, what) in tags.chain(machines).filter(|(name, _)| **name != name.to_lowercase()) {
            let mistake = source.mistake(&source.find(&format!("{name:?}")), what);
            self.mistakes.push(mistake.cured(format!("write {:?}: Azure does not tell their cases apart", name.to_lowercase())));
        }
    }

    fn literal(&self, source: &Source<'_>, kind: &str, id: &str) -> Option<Mistake> {
        let written = format!("{kind}::{id:?}");
        let mistake = |what: String| source.mistake(&source.find(&written), what);
        let unknown = |what: &str, names: Vec<&str>| Some(mistake(format!("`{id}` is no {what}")).meant(id, names));
        let shaped = |parts: usize, example: &str| {
            let lower = id.to_lowercase();
            let right = lower.split('/').count() == parts && lower.split('/').next().is_some_and(is_guid);
            match (right, lower == id) {
                (true, true) => None,
                (true, false) => {
                    Some(mistake(format!("`{id}` is never met: ids are in lower case")).cured(format!("write {kind}::{lower:?}")))
                }
                (false, _) => Some(mistake(format!("`{id}` is never met")).cured(format!("write {kind}::{example:?}"))),
            }
        };
        match kind {
            "Group" if self.names.people.may_name(id) => None,
            "Network" if self.networks.may_name(id) => None,
            "Group" if self.files.text(PEOPLE).is_none() => {
                Some(mistake(format!("`{id}` is no group: there is no {PEOPLE}")).cured(format!("write {PEOPLE}, with its groups")))
            }
            "Network" if self.files.text(NETWORKS).is_none() => {
                Some(mistake(format!("`{id}` is no network: there is no {NETWORKS}")).cured(format!("write {NETWORKS}, with its networks")))
            }
            "Group" if self.names.people.groups().next().is_none() => {
                Some(mistake(format!("`{id}` is no group: {PEOPLE} has none")).cured("write it under `groups` there"))
            }
            "Group" => unknown("group of people.yaml", self.names.people.groups().map(|(name, _)| name).collect()),
            "Network" => unknown("network of networks.yaml", self.networks.names().collect()),
            "Person" => shaped(1, "OBJECT-ID"),
            "Subscription" => shaped(1, "SUBSCRIPTION-ID"),
            "ResourceGroup" => shaped(2, "SUBSCRIPTION-ID/resource-group"),
            "VM" => shaped(3, "SUBSCRIPTION-ID/resource-group/vm"),
            "ManagementGroup" if id != id.to_lowercase() => Some(
                mistake(format!("`{id}` is never met: names are in lower case")).cured(format!("write {kind}::{:?}", id.to_lowercase())),
            ),
            _ => None,
        }
    }

    fn done(mut self) -> Found {
        self.mistakes.extend(std::mem::take(&mut self.unknown).mistakes());
        // What could not be read is told; that nobody knows it follows from that.
        self.mistakes.retain(|mistake| !mistake.stands_on_unread(self.files) || self.files.unreadable().contains(mistake));
        self.mistakes.sort_by(|a, b| (&a.file, a.span.start, a.span.end).cmp(&(&b.file, b.span.start, b.span.end)));
        self.mistakes.dedup();
        if self.mistakes.iter().any(|mistake| mistake.weight == Weight::Error) {
            return Found { rules: Err(self.names), mistakes: self.mistakes };
        }
        let rules = Rules {
            schema: self.schema,
            chapters: self.chapters.into_values().collect(),
            names_management_groups: self.names_management_groups,
            asks_for_incidents: self.asks_for_incidents,
            rules: self.rules,
            names: self.names,
            networks: self.networks,
            hash: hash(self.files),
        };
        Found { rules: Ok(rules), mistakes: self.mistakes }
    }
}

/// Whether a rule may ask for `context.incident`: whatever else in its conditions says just that word counts, too, which costs a reading
/// and opens nothing.
fn may_ask_for_incidents(policy: &Policy) -> bool {
    fn says(json: &Value) -> bool {
        match json {
            Value::String(text) => text == "incident",
            Value::Array(items) => items.iter().any(says),
            Value::Object(members) => members.values().any(says),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
    policy.to_json().map_or(true, |json| json.get("conditions").is_none_or(says))
}

/// A rule as Cedar reads it, with every mistake in how it is written. One that only lacks its end is read all the same.
fn parsed(source: &Source<'_>, end: End) -> (Option<Policy>, Vec<Mistake>) {
    let (text, ends) = (source.text, source.text.len());
    let whole = match end {
        End::Written => Cow::Borrowed(text),
        End::Forgotten => Cow::Owned(format!("{text};")),
    };
    let (policy, mut wrong) = match Policy::parse(Some(PolicyId::new("rule")), whole) {
        Ok(policy) => (Some(policy), Vec::new()),
        Err(errors) => (None, errors.iter().map(|error| in_our_words(diagnosed(source, error), source)).collect::<Vec<_>>()),
    };
    if let Some(opens) = opened(text) {
        for mistake in wrong.iter_mut().filter(|mistake| mistake.what == UNENDED) {
            mistake.span = source.start + opens..source.start + opens + 1;
        }
    }
    // A head in another order is wrong in several places, and mended in one.
    wrong.dedup_by(|one, other| (&one.what, &one.cure) == (&other.what, &other.cure));
    if end == End::Forgotten {
        // What Cedar finds at the end that is not written is told where the text ends.
        for mistake in wrong.iter_mut().filter(|mistake| mistake.span.end > source.start + ends) {
            let cure = mistake.cure.take();
            *mistake = Mistake { cure, ..source.mistake(&(ends..ends), CUT_SHORT) };
        }
        // What is cut short lacks more than that, and what that is is told.
        if !wrong.iter().any(|mistake| [CUT_SHORT, UNENDED].contains(&mistake.what.as_str())) {
            wrong.push(source.mistake(&(ends..ends), "the rule does not end").cured("put a `;` here"));
        }
    }
    (policy, wrong)
}

/// Leaves out each warning that is about what an error is about, too, such as that the rule never holds.
fn without_what_follows(said: Vec<Mistake>) -> Vec<Mistake> {
    let errors: Vec<Range<usize>> =
        said.iter().filter(|mistake| mistake.weight == Weight::Error).map(|mistake| mistake.span.clone()).collect();
    let follows = |warning: &Mistake| errors.iter().any(|error| warning.span.start < error.end && error.start < warning.span.end);
    said.into_iter().filter(|mistake| mistake.weight == Weight::Error || !follows(mistake)).collect()
}

/// What is wrong where whoever asks, or what is opened, is compared with something that neither can be.
fn of_another_kind(source: &Source<'_>, variable: &str, kind: &str, id: &str) -> Option<Mistake> {
    let (is, what) = if variable == "principal" { ("Person", "somebody who asks") } else { ("VM", "what is opened") };
    let mistake = |what: String| source.mistake(&source.find(&format!("{kind}::{id:?}")), what);
    match kind {
        _ if kind == is => None,
        "Unknown" if variable == "principal" => {
            Some(mistake("somebody unknown has no id".to_owned()).cured("write `principal is Unknown`"))
        }
        _ => {
            let may_hold_it = ["Group", "ResourceGroup", "Subscription", "ManagementGroup"].contains(&kind);
            let cure =
                if may_hold_it { format!("write `{variable} in {kind}::{id:?}`") } else { format!("write `{variable} == {is}::\"…\"`") };
            Some(mistake(format!("{what} is never a {kind}: comparing them says nothing")).cured(cure))
        }
    }
}

/// The program's own schema.
#[expect(clippy::expect_used, reason = "the text is part of the program, and a test loads it")]
pub(crate) fn schema() -> Schema {
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA_TEXT).expect("the built-in schema is one");
    schema
}

/// Whether a statement says what it permits or forbids.
fn is_headed(text: &str, shape: &Shape) -> bool {
    text.get(shape.head.clone()).is_some_and(|head| head.starts_with("permit") || head.starts_with("forbid"))
}

/// What a broken rule was meant to do.
fn effect_of(text: &str, shape: &Shape) -> Effect {
    let forbids = text.get(shape.head.clone()).is_some_and(|head| head.starts_with("forbid"));
    if forbids { Effect::Forbid } else { Effect::Permit }
}

/// The first 16 hexadecimal digits of a SHA-256 over names and texts of the files that decide.
fn hash(files: &RuleFiles) -> String {
    let mut hash = Sha256::new();
    for (name, text) in files.deciding() {
        hash.update(format!("{} {} {name}\n", name.len(), text.len()));
        hash.update(text);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
