//! A rule set: loaded and checked, with every mistake at once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::OnceLock;

use cedar_policy::{
    ActionConstraint, Effect as CedarEffect, EntityUid, Policy, PolicyId, PolicySet, Schema, SchemaFragment, ValidationMode, Validator,
};
use chrono_tz::Tz;
use miette::Diagnostic;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::action::Action;
use crate::decision::Named;
use crate::files::{NETWORKS, PEOPLE, RuleFiles, SCHEMA};
use crate::miss::Part;
use crate::mistake::{Mistake, Weight, nearest, place};
use crate::networks::Networks;
use crate::people::People;
use crate::terms::{self, Effect, Source, Terms};
use crate::text::{Shape, places, shape, statements, too_much};

/// The schema that rules are checked against: what this program can say to a rule.
pub const SCHEMA_TEXT: &str = include_str!("../../../policies/portcullis.cedarschema");

/// A rule set that can decide.
#[derive(Debug)]
pub struct Rules {
    pub(crate) schema: Schema,
    pub(crate) zones: Vec<(Tz, PolicySet)>,
    pub(crate) rules: BTreeMap<String, Rule>,
    people: People,
    networks: Networks,
    names_management_groups: bool,
    hash: String,
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
    pub(crate) parts: OnceLock<Vec<Part>>,
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
        let mut check = Check::new(files);
        check.schema_file();
        for (file, text) in files.rules() {
            for span in statements(text) {
                check.statement(file, text, span);
            }
        }
        for name in files.not_read() {
            let what = if name.ends_with('/') { "folder" } else { "file" };
            let mistake = Mistake::error(name, 0..0, format!("this {what} is not read, so what it says does not hold"));
            let known = [PEOPLE, NETWORKS, SCHEMA, "tests/"];
            let cure = nearest(name, known).map_or_else(
                || {
                    "rules are in files that end in .cedar, scenarios in files of tests/ that end in .yaml; move everything else away"
                        .to_owned()
                },
                |near| format!("did you mean `{near}`?"),
            );
            check.mistakes.push(mistake.cured(cure));
        }
        if files.rules().next().is_none() {
            check.mistakes.push(Mistake::error("", 0..0, "there are no rules: no file here ends in .cedar"));
        } else if check.rules.is_empty() && check.mistakes.is_empty() {
            check.mistakes.push(Mistake::error("", 0..0, "there are no rules: the files that end in .cedar say nothing"));
        }
        check.done()
    }

    /// The hash of everything that decides.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// People and groups.
    pub fn people(&self) -> &People {
        &self.people
    }

    /// Named ranges of addresses.
    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    /// Whether any rule names a management group: else nobody has to know which are above a machine.
    pub fn name_management_groups(&self) -> bool {
        self.names_management_groups
    }

    /// The rule of this id.
    pub fn rule(&self, id: &str) -> Option<&Rule> {
        self.rules.get(id)
    }

    /// All rules, by id.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.values()
    }
}

/// A set that is being checked.
struct Check<'a> {
    files: &'a RuleFiles,
    validator: Validator,
    schema: Schema,
    people: People,
    networks: Networks,
    rules: BTreeMap<String, Rule>,
    zones: BTreeMap<&'static str, (Tz, PolicySet)>,
    mistakes: Vec<Mistake>,
}

impl<'a> Check<'a> {
    fn new(files: &'a RuleFiles) -> Self {
        let schema = schema();
        let (people, mut mistakes) = People::read(files.text(PEOPLE));
        let (networks, wrong) = Networks::read(files.text(NETWORKS));
        mistakes.extend(wrong);
        let validator = Validator::new(schema.clone());
        Check { files, validator, schema, people, networks, rules: BTreeMap::new(), zones: BTreeMap::new(), mistakes }
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

    fn statement(&mut self, file: &str, text: &str, span: Range<usize>) {
        let rule_text = &text[span.clone()];
        let shape = shape(rule_text);
        let source = Source { file, text: rule_text, start: span.start, shape: &shape };
        let before = self.mistakes.len();
        if let Some(place) = too_much(rule_text) {
            let mistake = source.mistake(&place, "from here on the rule is nested too deeply, or is too long, to be read");
            self.mistakes.push(mistake.cured("take it apart into several rules"));
            self.terms(&source, effect_of(rule_text, &shape), None);
            return;
        }
        let is_a_rule = !shape.head.is_empty() && !shape.annotations.is_empty() || is_headed(rule_text, &shape);
        let mut whole = rule_text.to_owned();
        if is_a_rule && !rule_text.ends_with(';') {
            let end = rule_text.len();
            self.mistakes.push(source.mistake(&(end..end), "the rule does not end").cured("put a `;` here"));
            whole.push(';');
        }
        let policy = match Policy::parse(Some(PolicyId::new("rule")), &whole) {
            Ok(policy) => policy,
            Err(errors) => {
                self.mistakes.extend(errors.iter().map(|error| diagnosed(&source, error)));
                // Its name is taken, and what it says of itself is checked, so that nothing is told only after it is mended.
                if is_a_rule {
                    self.terms(&source, effect_of(rule_text, &shape), None);
                }
                return;
            }
        };
        self.validate(&source, &policy);
        let effect = match policy.effect() {
            CedarEffect::Permit => Effect::Permit,
            CedarEffect::Forbid => Effect::Forbid,
        };
        let actions = self.actions(&source, &policy, effect);
        self.names(&source, &policy);
        let known = Some(&actions).filter(|actions| !actions.is_empty());
        let Some(terms) = self.terms(&source, effect, known) else { return };
        if let Some(other) = self.rules.get(&terms.id) {
            let span = shape.annotations.iter().find(|a| &rule_text[a.name.clone()] == "id").and_then(|a| a.value.clone());
            let mistake = source.mistake(&span.unwrap_or(0..0), format!("another rule is called `{}`", terms.id));
            self.mistakes.push(mistake.cured(format!("it is in {}, line {}: give one of them another @id", other.file, other.line)));
            return;
        }
        let (line, _) = place(text, span.start);
        let broken = self.mistakes[before..].iter().any(|mistake| mistake.weight == Weight::Error);
        if !broken {
            let zone = self.zones.entry(terms.timezone.name()).or_insert_with(|| (terms.timezone, PolicySet::new()));
            if let Err(why) = zone.1.add(policy.new_id(PolicyId::new(&terms.id))) {
                self.mistakes.push(source.mistake(&shape.head, why.to_string()));
            }
        }
        let rule = Rule {
            effect,
            actions,
            file: file.to_owned(),
            line,
            text: rule_text.to_owned(),
            shape: shape.clone(),
            parts: OnceLock::new(),
            terms: terms.clone(),
        };
        self.rules.insert(terms.id, rule);
    }

    /// Its annotations; absent where it has no name by which it could be kept.
    fn terms(&mut self, source: &Source<'_>, effect: Effect, actions: Option<&BTreeSet<Action>>) -> Option<Terms> {
        let (terms, wrong) = terms::read(source, effect, actions, &self.people);
        self.mistakes.extend(wrong);
        Some(terms).filter(|terms| !terms.id.is_empty())
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
            (mistake.span.start, mistake.span.end, of_bare_action(mistake), mistake.cure.is_none(), mistake.what.clone())
        });
        let mut places = BTreeSet::new();
        told.retain(|mistake| places.insert((mistake.span.start, mistake.span.end)));
        let cured = told.into_iter().map(|mistake| match of_bare_action(&mistake) {
            true if policy.action_constraint() == ActionConstraint::Any => mistake.cured(
                "closing and seeing have no such thing: name what the rule is about, `action in [Action::\"open\", Action::\"ask\", Action::\"breakGlass\"]`",
            ),
            true => mistake.cured("a rule about closing or seeing can ask who it is and which machine, and nothing else"),
            false => mistake,
        });
        self.mistakes.extend(cured);
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
        let spoken = Spoken::of(policy);
        for (variable, kind, id) in spoken.compared {
            let (is, what) = if variable == "principal" { ("Person", "somebody who asks") } else { ("VM", "what is opened") };
            if kind != is {
                let span = find(source, &format!("{kind}::{id:?}"));
                let mistake = source.mistake(&span, format!("{what} is never a {kind}: comparing them says nothing"));
                self.mistakes.push(mistake.cured(format!("write `{variable} in {kind}::{id:?}`")));
            }
        }
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
            let mistake = source.mistake(&find(source, &format!("{name:?}")), what);
            self.mistakes.push(mistake.cured(format!("write {:?}: Azure does not tell their cases apart", name.to_lowercase())));
        }
    }

    fn literal(&self, source: &Source<'_>, kind: &str, id: &str) -> Option<Mistake> {
        let written = format!("{kind}::{id:?}");
        let mistake = |what: String| source.mistake(&find(source, &written), what);
        let unknown = |what: &str, names: Vec<&str>| Some(mistake(format!("`{id}` is no {what}")).meant(id, names));
        let shaped = |parts: usize, example: &str| {
            let lower = id.to_lowercase();
            let right = lower.split('/').count() == parts && lower.split('/').next().is_some_and(crate::people::is_guid);
            match (right, lower == id) {
                (true, true) => None,
                (true, false) => {
                    Some(mistake(format!("`{id}` is never met: ids are in lower case")).cured(format!("write {kind}::{lower:?}")))
                }
                (false, _) => Some(mistake(format!("`{id}` is never met")).cured(format!("write {kind}::{example:?}"))),
            }
        };
        match kind {
            "Group" if self.people.may_name(id) => None,
            "Network" if self.networks.may_name(id) => None,
            "Group" if self.files.text(PEOPLE).is_none() => {
                Some(mistake(format!("`{id}` is no group: there is no {PEOPLE}")).cured(format!("write {PEOPLE}, with its groups")))
            }
            "Network" if self.files.text(NETWORKS).is_none() => {
                Some(mistake(format!("`{id}` is no network: there is no {NETWORKS}")).cured(format!("write {NETWORKS}, with its networks")))
            }
            "Group" => unknown("group of people.yaml", self.people.groups().map(|(name, _)| name).collect()),
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

    fn done(mut self) -> (Option<Rules>, Vec<Mistake>) {
        self.mistakes.sort_by(|a, b| (&a.file, a.span.start, a.span.end).cmp(&(&b.file, b.span.start, b.span.end)));
        self.mistakes.dedup();
        let fits = !self.mistakes.iter().any(|mistake| mistake.weight == Weight::Error);
        let hash = hash(self.files);
        let zones: Vec<(Tz, PolicySet)> = self.zones.into_values().collect();
        let names = |policy: &Policy| policy.entity_literals().iter().any(|uid| uid.type_name().to_string() == "ManagementGroup");
        let names_management_groups = zones.iter().any(|(_, set)| set.policies().any(names));
        let rules = fits.then(|| Rules {
            schema: self.schema,
            zones,
            rules: self.rules,
            people: self.people,
            networks: self.networks,
            names_management_groups,
            hash,
        });
        (rules, self.mistakes)
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

/// Whether it is about an action that has no context at all, and so perhaps about that action alone.
fn of_bare_action(mistake: &Mistake) -> bool {
    [Action::Close, Action::Read].iter().any(|action| mistake.what.contains(&format!("in context for Action::\"{action}\"")))
}

/// What Cedar says of a rule, at its place in the file.
fn diagnosed(source: &Source<'_>, said: &dyn Diagnostic) -> Mistake {
    let label = said.labels().and_then(|mut labels| labels.next());
    let span = label.as_ref().map_or_else(|| source.shape.head.clone(), |label| label.offset()..label.offset() + label.len());
    let text = said.to_string();
    let named = |text: &str| text.replace("for policy `rule`, ", "").replace("policy `rule`", "this rule");
    let mistake = source.mistake(&span, named(&text));
    let expected = label.as_ref().and_then(|label| label.label()).map(str::to_owned);
    match said.help().map(|help| named(&help.to_string())).or(expected).filter(|cure| !is_far(&text, cure)) {
        Some(cure) => mistake.cured(cure),
        None => mistake,
    }
}

/// Whether a cure names something that is nothing like what is wrong: Cedar always has a nearest name.
fn is_far(what: &str, cure: &str) -> bool {
    let quoted = |text: &str| text.split('`').nth(1).map(str::to_owned);
    let meant = cure.strip_prefix("did you mean ").and_then(quoted).filter(|meant| !meant.contains("::"));
    meant.zip(quoted(what)).is_some_and(|(meant, wrong)| {
        let wrong = wrong.rsplit(['.', ' ']).next().unwrap_or_default().to_owned();
        nearest(&wrong, [meant.as_str()]).is_none()
    })
}

/// Where a few words stand in a rule first; its head where they are written in another way.
fn find(source: &Source<'_>, words: &str) -> Range<usize> {
    places(source.text, words).into_iter().next().unwrap_or_else(|| source.shape.head.clone())
}

/// The attributes that the schema knows, by how a rule reaches what has them.
fn attributes() -> &'static BTreeMap<&'static str, BTreeSet<String>> {
    static KNOWN: OnceLock<BTreeMap<&'static str, BTreeSet<String>>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let json = SchemaFragment::from_cedarschema_str(SCHEMA_TEXT).ok().and_then(|(schema, _)| schema.to_json_value().ok());
        let named = |pointer: &str| {
            let fields = json.as_ref().and_then(|json| json.pointer(pointer)).and_then(Value::as_object);
            fields.into_iter().flatten().map(|(name, _)| name.clone()).collect()
        };
        BTreeMap::from([
            ("context", named("//commonTypes/Ask/attributes")),
            ("context.incident", named("//commonTypes/Incident/attributes")),
            ("resource", named("//entityTypes/VM/shape/attributes")),
            ("principal", named("//entityTypes/Person/shape/attributes")),
            ("context.incident.owner", named("//entityTypes/Person/shape/attributes")),
        ])
    })
}

/// Everything in a rule that has parts of its own: each by its sign, such as `==`, `has` or `principal`, and what stands in it.
fn each_part<'a>(json: &'a Value, see: &mut impl FnMut(&'a str, &'a Value)) {
    match json {
        Value::Object(fields) => {
            for (sign, value) in fields {
                see(sign, value);
                each_part(value, see);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| each_part(item, see)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What a rule speaks of that neither Cedar nor the schema knows to be wrong.
#[derive(Default)]
struct Spoken {
    /// What it asks `has` of, and for which attribute.
    asked_for: BTreeSet<(String, String)>,
    /// What it says that whoever asks, or what is opened, is: the variable, the kind and the id.
    compared: BTreeSet<(String, String, String)>,
    /// The names of tags.
    tags: BTreeSet<String>,
    /// What it compares the names of machines with; of a pattern, with `*` for whatever stands there.
    machines: BTreeSet<String>,
}

impl Spoken {
    fn of(policy: &Policy) -> Self {
        let mut spoken = Spoken::default();
        if let Ok(json) = policy.to_json() {
            each_part(&json, &mut |sign, value| spoken.see(sign, value));
        }
        spoken
    }

    fn see(&mut self, sign: &str, value: &Value) {
        let (left, right) = (&value["left"], &value["right"]);
        match sign {
            "principal" | "resource" if value["op"] == "==" => self.compare(sign, &value["entity"]),
            "==" | "!=" => {
                for (one, other) in [(left, right), (right, left)] {
                    if let Some(variable @ ("principal" | "resource")) = one["Var"].as_str() {
                        self.compare(variable, &other["Value"]["__entity"]);
                    } else if is_name_of_machine(one) {
                        self.machines.extend(other["Value"].as_str().map(str::to_owned));
                    }
                }
            }
            "like" if is_name_of_machine(left) => {
                let parts = value["pattern"].as_array().into_iter().flatten();
                self.machines.insert(parts.map(|part| part["Literal"].as_str().unwrap_or("*")).collect());
            }
            "contains" if is_name_of_machine(right) => {
                let of_set = left["Set"].as_array().into_iter().flatten();
                self.machines.extend(of_set.filter_map(|one| one["Value"].as_str()).map(str::to_owned));
            }
            "hasTag" | "getTag" => self.tags.extend(right["Value"].as_str().map(str::to_owned)),
            "has" => {
                let mut of = path(left);
                // `has a.b` asks for one after the other.
                let names = value["attr"].as_array().map_or_else(|| vec![&value["attr"]], |names| names.iter().collect());
                for name in names.into_iter().filter_map(Value::as_str) {
                    self.asked_for.extend(of.clone().map(|of| (of, name.to_owned())));
                    of = of.map(|of| format!("{of}.{name}"));
                }
            }
            _ => {}
        }
    }

    fn compare(&mut self, variable: &str, entity: &Value) {
        if let (Some(kind), Some(id)) = (entity["type"].as_str(), entity["id"].as_str()) {
            self.compared.insert((variable.to_owned(), kind.to_owned(), id.to_owned()));
        }
    }
}

fn is_name_of_machine(json: &Value) -> bool {
    path(json).as_deref() == Some("resource.name")
}

/// How a rule reaches something, as `context.incident`.
fn path(json: &Value) -> Option<String> {
    if let Some(variable) = json["Var"].as_str() {
        return Some(variable.to_owned());
    }
    // What is neither a variable nor reached from one ends here.
    let name = json["."]["attr"].as_str()?;
    Some(format!("{}.{name}", path(&json["."]["left"])?))
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
