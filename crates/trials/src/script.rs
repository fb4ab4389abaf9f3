//! A story as a file: what people do when, and how it must end under which settings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use chrono::TimeDelta;
use portcullis_domain::grant::{LONGEST, SHORTEST};
use portcullis_domain::record::Cause;
use portcullis_domain::source::Sources;
use portcullis_sandbox::estate;
use portcullis_sandbox::faults::Fault;
use portcullis_sandbox::roles;
use portcullis_sandbox::state::IncidentStatus;
use portcullis_sandbox::switches::Switches;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

/// A story that can be played.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Script {
    /// What happens, in one sentence.
    pub tells: String,
    /// What is changed in the small estate before it begins.
    #[serde(default, skip_serializing_if = "World::is_usual")]
    pub world: World,
    /// What happens, in the order of its times.
    pub steps: Vec<Step>,
    /// How long it is watched.
    pub lasts: Time,
    /// How each port that it is about must end.
    pub ends: Vec<End>,
    /// How it must end where settings make a difference: the first that fits the world stands for `ends`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub but: Vec<But>,
}

/// What is changed in the small estate of the sandbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct World {
    /// Tags of machines, by the machine's name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, BTreeMap<String, String>>,
    /// What the JIT policy lets every port be opened to; absent is everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_source: Option<String>,
    /// Open incidents of Microsoft Sentinel: by its number, the machine that each names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub incidents: BTreeMap<u32, String>,
    /// Settings of the app besides the sandbox's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// Files of rules besides the shipped ones, or instead of them, by their names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<String, String>,
    /// Whether the app only says what it would do.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub observe: bool,
    /// The switches that this story is about, whatever else is tried.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub switches: BTreeMap<String, Value>,
}

impl World {
    fn is_usual(&self) -> bool {
        *self == World::default()
    }
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Step {
    /// When, from the beginning.
    pub at: Time,
    /// What.
    pub what: Deed,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Deed {
    /// Somebody opens a port through JIT, around Portcullis. That JIT refuses is an answer, too.
    Opens(Opens),
    /// An operator asks Portcullis for a port for somebody.
    Asks(Asks),
    /// An operator ends whatever is granted on a machine.
    Closes(Closes),
    /// Somebody calls Resource Manager.
    Calls(Calls),
    /// Somebody writes the JIT policy as it is, with its records.
    WritesPolicy(Writes),
    /// The rules that JIT wrote for a port are deleted by somebody.
    DeletesRules(Closes),
    /// The machine is deleted, and what belongs to it.
    DeletesMachine(Closes),
    /// A lock is put on the resource group, or taken off.
    Locks(bool),
    /// Defender for Servers Plan 2 is on or off.
    Plan(bool),
    /// Somebody gets on with an incident.
    Incident(IncidentGoesOn),
    /// The product's identity loses an action, or gets it.
    Right(Right),
    /// Switches are set.
    Switches(BTreeMap<String, Value>),
    /// A fault is injected.
    Fault(FaultJson),
    /// Every fault is taken away.
    Heals,
    /// The handler dies.
    Kills,
}

/// An opening around Portcullis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Opens {
    /// Who, as in [`person`].
    pub who: String,
    /// The machine.
    pub vm: String,
    /// The port.
    pub port: u16,
    /// The sources.
    pub from: OneOrMany,
    /// For how long.
    #[serde(rename = "for")]
    pub time: Time,
}

/// A wish for a port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Asks {
    /// Who asks, as in [`person`].
    #[serde(default = "operator", skip_serializing_if = "is_operator")]
    pub who: String,
    /// For whom, as in [`person`].
    pub person: String,
    /// The machine.
    pub vm: String,
    /// The port.
    pub port: u16,
    /// The sources.
    pub from: OneOrMany,
    /// For how long.
    #[serde(rename = "for")]
    pub time: Time,
    /// The number of the incident that it is asked for on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<u32>,
    /// Whether the app must refuse it at once, whatever the rules say.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
}

/// A machine, or a port of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Closes {
    /// The machine.
    pub vm: String,
}

/// A call to Resource Manager.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Calls {
    /// Who, as in [`person`].
    pub who: String,
    /// The method.
    pub method: String,
    /// The path, with `{group}` for the resource group of the small estate and `{policy}` for its JIT policy.
    pub path: String,
    /// The body, with the same in its texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
}

/// A PUT of the JIT policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Writes {
    /// Who, as in [`person`].
    pub who: String,
}

/// How far an incident is from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct IncidentGoesOn {
    /// Its number.
    pub number: u32,
    /// How far it is.
    pub status: IncidentStatus,
}

/// An action of the product's identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Right {
    /// The action.
    pub action: String,
    /// Whether it has it.
    pub given: bool,
}

/// A fault, as the control API takes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FaultJson(pub Fault);

impl PartialEq for FaultJson {
    fn eq(&self, other: &Self) -> bool {
        json!(self.0) == json!(other.0)
    }
}

/// One text or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl OneOrMany {
    /// All of them.
    pub fn all(&self) -> Vec<&str> {
        match self {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many.iter().map(String::as_str).collect(),
        }
    }

    /// Them as sources.
    pub fn sources(&self) -> Sources {
        Sources::read(self.all())
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    OneOrMany::deserialize(from).map(|given| given.all().into_iter().map(str::to_owned).collect())
}

/// How a port must end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct End {
    /// The machine.
    pub vm: String,
    /// The port.
    pub port: u16,
    /// How.
    pub is: How,
    /// The causes of the alarms that are raised, where that is said: each of these, and no other.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    pub alarms: Vec<String>,
    /// The causes of alarms that may be raised besides, and may not: where seconds decide whether somebody has to be told.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    pub may_raise: Vec<String>,
    /// Who is to be let in when. What is let in otherwise must be shut.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lets_in: Vec<Stay>,
}

/// The ways in which a port may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum How {
    /// Proved shut, and no alarm was raised.
    Shut,
    /// Proved shut, after an alarm that was cleared.
    ShutAfterAlarm,
    /// Open, and an alarm stands.
    AlarmStanding,
    /// Open, and a grant that lives covers all that is.
    OpenCovered,
    /// Nothing was ever opened.
    NeverOpen,
}

impl How {
    /// All of them.
    pub const ALL: [How; 5] = [How::Shut, How::ShutAfterAlarm, How::AlarmStanding, How::OpenCovered, How::NeverOpen];
}

/// A time for which somebody is to be let in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Stay {
    /// The sources.
    pub from: OneOrMany,
    /// Since when.
    pub since: Time,
    /// Until when.
    pub until: Time,
    /// How much later it may end; absent is what reads and deletes take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Time>,
    /// Whether the sweep alone finds that it is over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_sweep: bool,
    /// Whether nothing covers it, and it lasts because nobody can help it yet: then an alarm must stand.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uncovered: bool,
    /// Whether it may be where the story is disturbed, and is not where it is not: what stood against it was not remembered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub if_disturbed: bool,
}

/// What is otherwise where the world has these settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct But {
    /// Switches with their settings, or lists of them; a number may be given by what it lies between: `{atLeast: 60}`,
    /// `{atMost: 300}`, or both.
    pub when: BTreeMap<String, Value>,
    /// How each port must end then.
    pub ends: Vec<End>,
}

impl But {
    fn fits(&self, switches: &Value) -> bool {
        self.when.iter().all(|(name, wanted)| fits(wanted, &switches[name]))
    }

    /// Whether every world that fits another one fits this, too.
    fn stands_for(&self, other: &But) -> bool {
        self.when.iter().all(|(name, wanted)| other.when.get(name).is_some_and(|narrower| has_all(wanted, narrower)))
    }
}

/// Whether every setting that is meant by one is meant by another, as far as each of its parts alone can tell.
fn has_all(wanted: &Value, narrower: &Value) -> bool {
    match (wanted, narrower) {
        (_, Value::Array(all)) => all.iter().all(|one| has_all(wanted, one)),
        (Value::Array(any), one) => any.iter().any(|wanted| has_all(wanted, one)),
        (Value::Object(_), Value::Object(_)) => {
            let read = |between| Between::deserialize(between).ok();
            read(wanted).zip(read(narrower)).is_some_and(|(wanted, narrower)| {
                let least = wanted.at_least.is_none_or(|least| narrower.at_least.is_some_and(|its| least <= its));
                least && wanted.at_most.is_none_or(|most| narrower.at_most.is_some_and(|its| its <= most))
            })
        }
        (wanted, one) => fits(wanted, one),
    }
}

fn fits(wanted: &Value, setting: &Value) -> bool {
    match wanted {
        Value::Array(any) => any.iter().any(|one| fits(one, setting)),
        Value::Object(_) => Between::deserialize(wanted).is_ok_and(|between| setting.as_i64().is_some_and(|number| between.holds(number))),
        one => one == setting,
    }
}

/// Numbers from one to another, both among them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Between {
    at_least: Option<i64>,
    at_most: Option<i64>,
}

impl Between {
    fn holds(&self, number: i64) -> bool {
        self.at_least.is_none_or(|least| least <= number) && self.at_most.is_none_or(|most| number <= most)
    }

    /// Whether a switch has numbers, and one of them can be meant.
    fn check(name: &str, given: &Value) -> Result<(), String> {
        let between = Between::deserialize(given).map_err(|why| why.to_string())?;
        if !json!(Switches::default())[name].is_i64() {
            return Err(format!("{name} has no numbers"));
        }
        match (between.at_least, between.at_most) {
            (None, None) => Err("say atLeast, atMost, or both".to_owned()),
            (Some(least), Some(most)) if least > most => Err(format!("no number is {least} at least and {most} at most")),
            _ => Ok(()),
        }
    }
}

fn operator() -> String {
    "sam.security".to_owned()
}

fn is_operator(who: &str) -> bool {
    who == operator()
}

/// The object id of somebody of the small estate, named by what stands before the `@` of their sign-in name.
pub fn person(name: &str) -> Option<&'static str> {
    let people = [
        (estate::ADMIN_UPN, estate::ADMIN_OBJECT_ID),
        (estate::RESPONDER_UPN, estate::RESPONDER_OBJECT_ID),
        (estate::DEVELOPER_UPN, estate::DEVELOPER_OBJECT_ID),
        (estate::GLASS_UPN, estate::GLASS_OBJECT_ID),
        (estate::SECURITY_UPN, estate::SECURITY_OBJECT_ID),
    ];
    people.into_iter().find(|(upn, _)| upn.split('@').next() == Some(name)).map(|(_, id)| id)
}

/// A disturbed story is watched for so much longer at most.
pub const WATCHED_LONGER: TimeDelta = TimeDelta::minutes(45);

/// The machines of the small estate.
pub const MACHINES: [&str; 3] = ["web-1", "web-2", "db-1"];

/// A span of time: as ISO 8601 or in words (`PT6M`, `6m`, `1h 30m`, `20s`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub TimeDelta);

impl Time {
    /// So many minutes.
    pub const fn minutes(minutes: i64) -> Time {
        Time(TimeDelta::minutes(minutes))
    }

    /// In whole seconds.
    pub fn seconds(self) -> i64 {
        self.0.num_seconds()
    }

    /// In ISO 8601.
    pub fn iso(self) -> String {
        format!("PT{}S", self.seconds())
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Time, String> {
        let of_days = |span: jiff::Span| span.to_duration(jiff::SpanRelativeTo::days_are_24_hours());
        let span = if text == "0" { Ok(jiff::SignedDuration::ZERO) } else { text.parse::<jiff::Span>().and_then(of_days) };
        let span = span.ok().filter(|span| !span.is_negative() && span.as_secs() <= 7 * 86_400);
        let span = span.ok_or_else(|| format!("'{text}' is no time of at most a week such as 90s, 6m, 2d or PT1H30M"))?;
        Ok(Time(TimeDelta::seconds(span.as_secs())))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.seconds() / 60, self.seconds() % 60) {
            (0, 0) => write!(f, "0"),
            (0, seconds) => write!(f, "{seconds}s"),
            (minutes, 0) => write!(f, "{minutes}m"),
            (minutes, seconds) => write!(f, "{minutes}m {seconds}s"),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Time, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// The names of all switches.
fn names_of(switches: &Switches) -> String {
    let names = json!(switches).as_object().map(|all| all.keys().cloned().collect::<Vec<_>>());
    names.unwrap_or_default().join(", ")
}

/// The usual world with these switches set otherwise. The error names the switch.
pub fn switched<'a>(usual: &Switches, given: impl IntoIterator<Item = (&'a String, &'a Value)>) -> Result<Switches, String> {
    given.into_iter().try_fold(usual.clone(), |switches, (name, setting)| {
        let mut merged = json!(switches);
        let place = merged.get_mut(name).ok_or_else(|| format!("there is no switch '{name}': {}", names_of(usual)))?;
        *place = setting.clone();
        Switches::deserialize(&merged).map_err(|why| format!("no such setting of {name}: {why}"))
    })
}

/// Reads YAML or JSON, in which `true` and `false` alone are that. The error says what is wrong with it, and where.
pub(crate) fn read_yaml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|why| why.to_string())
}

impl Script {
    /// Reads a story. The error says what is wrong with it, and where.
    pub fn read(text: &str) -> Result<Script, String> {
        let script: Script = read_yaml(text)?;
        script.check()?;
        Ok(script)
    }

    /// Reads every story of a folder, or the one that a file holds, in the order of their names.
    pub fn read_all(path: &Path) -> Result<Vec<(String, Script)>, String> {
        let cannot = |path: &Path, why: &dyn fmt::Display| format!("{}: {why}", path.display());
        let mut files = vec![path.to_owned()];
        if path.is_dir() {
            let listed = std::fs::read_dir(path).map_err(|why| cannot(path, &why))?;
            files =
                listed.collect::<Result<Vec<_>, _>>().map_err(|why| cannot(path, &why))?.into_iter().map(|entry| entry.path()).collect();
            files.retain(|file| file.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json"));
            files.sort();
            if files.is_empty() {
                return Err(cannot(path, &"there is no story in it: each is a .yaml file"));
            }
        }
        let read = |file: &Path| {
            let text = std::fs::read_to_string(file).map_err(|why| cannot(file, &why))?;
            let script = Script::read(&text).map_err(|why| cannot(file, &why))?;
            if script.ends.is_empty() {
                return Err(cannot(file, &"ends: it says of no port how that must end"));
            }
            Ok((file.file_stem().unwrap_or_default().to_string_lossy().into_owned(), script))
        };
        let stories = files.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?;
        let mut names = BTreeSet::new();
        if let Some((name, _)) = stories.iter().find(|(name, _)| !names.insert(name.as_str())) {
            return Err(cannot(path, &format!("two stories are called '{name}': the name is that of the file without its ending")));
        }
        Ok(stories)
    }

    /// How each port must end in a world with these switches.
    pub fn ends(&self, switches: &Switches) -> &[End] {
        let switches = json!(switches);
        self.but.iter().find(|but| but.fits(&switches)).map_or(&self.ends, |but| &but.ends)
    }

    /// The switches that it is played under, those of the beginning first: a step may set some otherwise.
    pub fn worlds(&self, begins: &Switches) -> Vec<Switches> {
        let mut worlds = vec![begins.clone()];
        for step in &self.steps {
            let Deed::Switches(given) = &step.what else { continue };
            let last = worlds.last().unwrap_or(begins);
            worlds.extend(switched(last, given));
        }
        worlds
    }

    /// Whether something of Azure, or the handler, fails in it: then a service may be told as failing.
    pub fn fails(&self) -> bool {
        let fails = |deed: &Deed| match deed {
            Deed::Plan(on) => !on,
            Deed::Right(right) => !right.given,
            Deed::Fault(_) | Deed::Kills => true,
            _ => false,
        };
        self.steps.iter().any(|step| fails(&step.what))
    }

    /// Whether somebody calls Resource Manager in it: what comes of that is not known.
    pub fn calls(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.what, Deed::Calls(_)))
    }

    /// Nobody is due for longer than they are asked for, unless something fails and they get their time later.
    fn check_due(&self, ends: &[End]) -> Result<(), String> {
        for end in ends.iter().filter(|_| !self.calls() && !self.fails()) {
            let asked = self.steps.iter().filter_map(|step| match &step.what {
                Deed::Opens(opens) if (&opens.vm, opens.port) == (&end.vm, end.port) => Some(Time(step.at.0 + opens.time.0)),
                Deed::Asks(asks) if (&asks.vm, asks.port) == (&end.vm, end.port) => Some(Time(step.at.0 + asks.time.0)),
                _ => None,
            });
            let asked = asked.max();
            let beyond = |stay: &&Stay| asked.is_none_or(|asked| !stay.uncovered && stay.until > asked);
            let Some(stay) = end.lets_in.iter().find(beyond) else { continue };
            let what = format!("{} port {}: letsIn: {} is let in until {}", end.vm, end.port, stay.from.all().join(", "), stay.until);
            return Err(match asked {
                Some(asked) => format!("{what}, and nothing is asked for beyond {asked}: what nothing covers is uncovered: true"),
                None => format!("{what}, and nobody opens or asks for that port"),
            });
        }
        Ok(())
    }

    /// A disturbed story is watched for longer: what is to be open in the end must be so then.
    fn check_open(&self, ends: &[End]) -> Result<(), String> {
        let by = Time(self.lasts.0 + WATCHED_LONGER);
        let is_over = |end: &&End| end.is == How::OpenCovered && end.lets_in.iter().all(|stay| stay.until <= by);
        match ends.iter().find(is_over) {
            Some(end) => Err(format!(
                "{} port {}: openCovered: a disturbed story is watched for 45m more than it lasts, so let somebody be due until after {by}",
                end.vm, end.port
            )),
            None => Ok(()),
        }
    }

    fn check(&self) -> Result<(), String> {
        let usual = Switches::default();
        switched(&usual, &self.world.switches).map_err(|why| format!("world.switches: {why}"))?;
        self.world.check().map_err(|why| format!("world.{why}"))?;
        if let Some(late) = self.steps.windows(2).find(|pair| pair[1].at < pair[0].at) {
            return Err(format!(
                "steps: the one at {} stands after the one at {}; give them in the order of their times",
                late[1].at, late[0].at
            ));
        }
        if let Some(step) = self.steps.iter().find(|step| step.at > self.lasts) {
            return Err(format!("steps: the one at {} is later than the story lasts ({})", step.at, self.lasts));
        }
        let mut may_fail = false;
        for step in &self.steps {
            step.what.check().map_err(|why| format!("the step at {}: {why}", step.at))?;
            match &step.what {
                Deed::Fault(_) => may_fail = true,
                Deed::Heals if !may_fail => return Err(format!("the step at {}: heals: no fault is there by then", step.at)),
                Deed::Incident(IncidentGoesOn { number, .. }) if !self.world.incidents.contains_key(number) => {
                    return Err(format!("the step at {}: incident: world.incidents has no {number}", step.at));
                }
                _ => {}
            }
        }
        self.check_open(&self.ends).map_err(|why| format!("ends: {why}"))?;
        for but in &self.but {
            self.check_open(&but.ends).map_err(|why| format!("but, when {}: {why}", json!(but.when)))?;
        }
        check_ends(&self.ends, self.lasts).map_err(|why| format!("ends: {why}"))?;
        self.check_due(&self.ends).map_err(|why| format!("ends: {why}"))?;
        for (place, but) in self.but.iter().enumerate() {
            let checked = check_ends(&but.ends, self.lasts).and_then(|()| self.check_due(&but.ends));
            checked.map_err(|why| format!("but, when {}: {why}", json!(but.when)))?;
            if but.when.is_empty() {
                return Err("but, when {}: it names no switch; what holds without one is said under ends".to_owned());
            }
            if but.ends.is_empty() {
                return Err(format!("but, when {}: it names no end; each port that opens in such a world has one", json!(but.when)));
            }
            if let Some(first) = self.but[..place].iter().find(|first| first.stands_for(but)) {
                let (first, own) = (json!(first.when), json!(but.when));
                return Err(format!("but, when {own}: every such world fits {first}, which stands before it; put it before that"));
            }
            for (name, wanted) in &but.when {
                let settings = if let Value::Array(any) = wanted { any.clone() } else { vec![wanted.clone()] };
                for setting in settings {
                    if setting.is_object() {
                        Between::check(name, &setting).map_err(|why| format!("but, when {name} is {setting}: {why}"))?;
                        continue;
                    }
                    switched(&usual, [(name, &setting)]).map_err(|why| format!("but, when {name} is {setting}: {why}"))?;
                }
            }
        }
        Ok(())
    }
}

fn demand_machine(vm: &str) -> Result<(), String> {
    if MACHINES.contains(&vm) { Ok(()) } else { Err(format!("there is no machine '{vm}': {}", MACHINES.join(", "))) }
}

fn demand_port(port: u16) -> Result<(), String> {
    if port > 0 { Ok(()) } else { Err("there is no port 0".to_owned()) }
}

fn demand_person(who: &str) -> Result<(), String> {
    person(who)
        .map(|_| ())
        .ok_or_else(|| format!("nobody is called '{who}': ada.admin, rosa.responder, dora.developer, sam.security, glass"))
}

fn demand_sources(from: &OneOrMany) -> Result<(), String> {
    match from.all().as_slice() {
        [] => Err("from: a list without a source lets nobody in".to_owned()),
        _ if from.sources().is_understood() => Ok(()),
        all => Err(format!("from: {} cannot be read as sources", all.join(", "))),
    }
}

fn demand_duration(time: Time) -> Result<(), String> {
    let can = SHORTEST.num_seconds()..=LONGEST.num_seconds();
    if can.contains(&time.seconds()) { Ok(()) } else { Err(format!("for: {time} cannot be asked for: 5m to 24h")) }
}

impl World {
    fn check(&self) -> Result<(), String> {
        self.tags.keys().try_for_each(|machine| demand_machine(machine)).map_err(|why| format!("tags: {why}"))?;
        self.incidents.values().try_for_each(|machine| demand_machine(machine)).map_err(|why| format!("incidents: {why}"))?;
        if let Some(source) = self.allowed_source.as_ref().filter(|source| !Sources::read([source.as_str()]).is_understood()) {
            return Err(format!("allowedSource: {source} cannot be read as a source"));
        }
        let known = known_settings();
        if let Some(unknown) = self.settings.keys().find(|name| !known.contains(*name)) {
            let names = known.iter().filter(|name| name.starts_with("PORTCULLIS_")).map(String::as_str).collect::<Vec<_>>();
            return Err(format!("settings: the app reads no '{unknown}': {}", names.join(", ")));
        }
        match self.rules.keys().find(|name| Path::new(name).file_name().is_none_or(|file| file != name.as_str())) {
            Some(name) => Err(format!("rules: '{name}' is no name of a file")),
            None => Ok(()),
        }
    }
}

/// The app's settings, as the example file shows them.
fn known_settings() -> BTreeSet<String> {
    let example = serde_json::from_str(include_str!("../../../local.settings.example.json")).unwrap_or(Value::Null);
    example["Values"].as_object().into_iter().flat_map(|values| values.keys().cloned()).collect()
}

fn check_ends(ends: &[End], lasts: Time) -> Result<(), String> {
    for (place, end) in ends.iter().enumerate() {
        let what = format!("{} port {}", end.vm, end.port);
        demand_machine(&end.vm)?;
        demand_port(end.port)?;
        if ends[..place].iter().any(|other| (&other.vm, other.port) == (&end.vm, end.port)) {
            return Err(format!("{what} ends twice"));
        }
        for (key, codes) in [("alarms", &end.alarms), ("mayRaise", &end.may_raise)] {
            if let Some(unknown) = codes.iter().find(|code| Cause::ALL.iter().all(|cause| cause.text() != **code)) {
                return Err(format!("{what}: {key}: there is no cause '{unknown}': {}", Cause::ALL.map(Cause::text).join(", ")));
            }
        }
        if !end.alarms.is_empty() && !matches!(end.is, How::ShutAfterAlarm | How::AlarmStanding) {
            return Err(format!("{what}: alarms: nothing is raised where it is {}; it may be shutAfterAlarm or alarmStanding", end.is));
        }
        if let Some(sure) = end.alarms.iter().find(|code| end.may_raise.contains(code)) {
            return Err(format!("{what}: mayRaise: alarms says that {sure} is raised"));
        }
        if !end.may_raise.is_empty() && end.is == How::OpenCovered {
            return Err(format!("{what}: mayRaise: where it is {} nothing is raised", end.is));
        }
        if !end.may_raise.is_empty() && end.alarms.is_empty() && !matches!(end.is, How::Shut | How::NeverOpen) {
            return Err(format!("{what}: mayRaise: without alarms any may be raised where it is {}", end.is));
        }
        match (end.is, end.lets_in.iter().all(|stay| stay.if_disturbed)) {
            (How::NeverOpen, false) => {
                return Err(format!("{what}: letsIn: nobody is let in where it is never open, but for what is ifDisturbed: true"));
            }
            (How::Shut | How::ShutAfterAlarm | How::OpenCovered, true) => {
                return Err(format!(
                    "{what}: letsIn: it must be open to be {}; say to whom and when, with an until that is since where it is shut at sight",
                    end.is
                ));
            }
            _ => {}
        }
        for stay in &end.lets_in {
            let by = match end.is {
                How::OpenCovered | How::AlarmStanding => stay.since,
                How::Shut | How::ShutAfterAlarm | How::NeverOpen => stay.until,
            };
            if by > lasts {
                return Err(format!("{what}: letsIn: {by} is later than the story lasts ({lasts}), and nobody would see it"));
            }
            demand_sources(&stay.from).map_err(|why| format!("{what}: letsIn: {why}"))?;
            if stay.since > stay.until {
                return Err(format!("{what}: letsIn: since {} is later than until {}", stay.since, stay.until));
            }
        }
    }
    Ok(())
}

impl Deed {
    fn check(&self) -> Result<(), String> {
        match self {
            Deed::Opens(opens) => {
                demand_person(&opens.who)?;
                demand_machine(&opens.vm)?;
                demand_port(opens.port)?;
                demand_sources(&opens.from)
            }
            Deed::Asks(asks) => {
                demand_person(&asks.who)?;
                demand_person(&asks.person)?;
                demand_machine(&asks.vm)?;
                if asks.refused {
                    return Ok(());
                }
                demand_duration(asks.time)?;
                demand_port(asks.port)?;
                demand_sources(&asks.from)
            }
            Deed::Closes(closes) | Deed::DeletesRules(closes) | Deed::DeletesMachine(closes) => demand_machine(&closes.vm),
            Deed::Calls(calls) => {
                demand_person(&calls.who)?;
                let is_path = ["/", "{group}", "{policy}"].iter().any(|begins| calls.path.starts_with(begins));
                if !is_path || calls.path.contains(|c: char| c.is_whitespace() || c.is_control()) {
                    return Err(format!("'{}' is no path: it begins with /, {{group}} or {{policy}}, and has no blank in it", calls.path));
                }
                reqwest::Method::from_bytes(calls.method.as_bytes()).map(|_| ()).map_err(|_| format!("'{}' is no method", calls.method))
            }
            Deed::WritesPolicy(writes) => demand_person(&writes.who),
            Deed::Right(right) => {
                let actions = estate::product_actions(&roles::DUTIES);
                if actions.contains(&right.action.as_str()) {
                    return Ok(());
                }
                Err(format!("right: the app's identity has no action '{}': {}", right.action, actions.join(", ")))
            }
            Deed::Switches(given) => switched(&Switches::default(), given).map(|_| ()),
            Deed::Locks(_) | Deed::Plan(_) | Deed::Incident(_) | Deed::Fault(_) | Deed::Heals | Deed::Kills => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORY: &str = "
tells: Somebody opens a port.
steps:
  - at: 0
    what: {opens: {who: ada.admin, vm: web-1, port: 22, from: 192.0.2.9, for: 16m}}
lasts: PT30M
ends:
  - {vm: web-1, port: 22, is: shut, letsIn: [{from: 192.0.2.9, since: 0, until: 0}]}
but:
  - when: {events: [late, never], pageSize: 1}
    ends: [{vm: web-1, port: 22, is: alarmStanding}]
";

    #[test]
    fn a_story_ends_as_its_settings_say() {
        let script = Script::read(STORY).unwrap();
        let how = |switches: Switches| script.ends(&switches)[0].is;
        let late = Switches { events: portcullis_sandbox::switches::Events::Late, ..Switches::default() };
        assert_eq!(how(Switches::default()), How::Shut);
        assert_eq!(how(late.clone()), How::Shut);
        assert_eq!(how(Switches { page_size: 1, ..late }), How::AlarmStanding);
    }

    #[test]
    fn a_number_may_be_given_by_what_it_lies_between() {
        let between = |wanted: &str| STORY.replace("{events: [late, never], pageSize: 1}", wanted);
        let how = |wanted: &str, seconds| {
            let switches = Switches { initiating_seconds: seconds, ..Switches::default() };
            Script::read(&between(wanted)).unwrap().ends(&switches)[0].is
        };
        for (wanted, seconds, is) in [
            ("{initiatingSeconds: {atLeast: 60}}", 59, How::Shut),
            ("{initiatingSeconds: {atLeast: 60}}", 60, How::AlarmStanding),
            ("{initiatingSeconds: {atLeast: 60, atMost: 90}}", 91, How::Shut),
            ("{initiatingSeconds: [0, {atMost: 90, atLeast: 90}]}", 90, How::AlarmStanding),
        ] {
            assert_eq!(how(wanted, seconds), is, "{wanted} {seconds}");
        }
        for (wanted, says) in [
            ("{initiatingSeconds: {}}", "say atLeast, atMost, or both"),
            ("{initiatingSeconds: {atLeast: 2, atMost: 1}}", "no number is 2 at least and 1 at most"),
            ("{initiatingSeconds: {more: 2}}", "unknown field"),
            ("{events: {atLeast: 2}}", "events has no numbers"),
        ] {
            let why = Script::read(&between(wanted)).unwrap_err();
            assert!(why.contains("but, when ") && why.contains(says), "{wanted}: {why}");
        }
    }

    #[test]
    fn a_mistake_in_a_story_is_named_with_its_place() {
        const OPENS: &str = "{opens: {who: ada.admin, vm: web-1, port: 22, from: 192.0.2.9, for: 16m}}";
        let rows = [
            ("web-1, port: 22, from", "web-9, port: 22, from", "the step at 0: there is no machine 'web-9': web-1, web-2, db-1"),
            ("who: ada.admin", "who: ada", "the step at 0: nobody is called 'ada'"),
            ("from: 192.0.2.9, for", "from: 192.0.2.9/99, for", "the step at 0: from: 192.0.2.9/99 cannot be read"),
            ("for: 16m", "for: soon", "'soon' is no time"),
            ("lasts: PT30M", "lasts: -1m", "'-1m' is no time"),
            ("at: 0\n", "at: 31m\n", "the one at 31m is later than the story lasts (30m)"),
            ("opens:", "open:", "unknown variant"),
            ("events: [late, never]", "evnts: late", "but, when evnts is \"late\": there is no switch 'evnts'"),
            ("[late, never]", "[late, sometimes]", "but, when events is \"sometimes\": no such setting"),
            ("is: shut", "is: closed", "unknown variant"),
            ("tells:", "says:", "unknown field"),
            ("steps:", "world: {incidents: {7: web-9}}\nsteps:", "world.incidents: there is no machine 'web-9'"),
            ("steps:", "world: {tags: {web-9: {a: b}}}\nsteps:", "world.tags: there is no machine 'web-9'"),
            ("steps:", "world: {allowedSource: 192.0.2.9/99}\nsteps:", "world.allowedSource: 192.0.2.9/99 cannot be read"),
            ("steps:", "world: {rules: {../a.cedar: permit}}\nsteps:", "world.rules: '../a.cedar' is no name of a file"),
            (
                "steps:",
                "world: {settings: {PORTCULLIS_MODUS: a}}\nsteps:",
                "world.settings: the app reads no 'PORTCULLIS_MODUS': PORTCULLIS_API_AUDIENCE, ",
            ),
            ("steps:", "world: {switches: {pageSize: many}}\nsteps:", "world.switches: no such setting of pageSize"),
            (
                "{from: 192.0.2.9, since: 0, until: 0}",
                "{from: 192.0.2.9/99, since: 0, until: 0}",
                "ends: web-1 port 22: letsIn: from: 192.0.2.9/99 cannot",
            ),
            ("since: 0, until: 0", "since: 6m, until: 5m", "ends: web-1 port 22: letsIn: since 6m is later than until 5m"),
            ("is: shut, ", "is: shut, alarms: [lock], ", "ends: web-1 port 22: alarms: nothing is raised where it is proved shut"),
            ("is: shut, ", "is: shut, mayRaise: [locked], ", "ends: web-1 port 22: mayRaise: there is no cause 'locked': slow, lock"),
            (
                "is: shut, letsIn: [{from: 192.0.2.9, since: 0, until: 0}]",
                "is: openCovered, mayRaise: [lock], letsIn: [{from: 192.0.2.9, since: 0, until: 3h}]",
                "mayRaise: where it is open, covered nothing is raised",
            ),
            (
                "is: shut, letsIn: [{from: 192.0.2.9, since: 0, until: 0}]",
                "is: openCovered, letsIn: [{from: 192.0.2.9, since: 0, until: 75m}]",
                "so let somebody be due until after 75m",
            ),
            ("is: alarmStanding", "is: alarmStanding, mayRaise: [lock]", "mayRaise: without alarms any may be raised where it is"),
            (
                "is: alarmStanding",
                "is: alarmStanding, alarms: [lock], mayRaise: [lock]",
                "web-1 port 22: mayRaise: alarms says that lock is raised",
            ),
            ("is: alarmStanding", "is: alarmStanding, alarms: [locked]", "port 22: alarms: there is no cause 'locked': slow, lock"),
            ("is: alarmStanding}", "is: alarmStanding}, {vm: web-1, port: 22, is: shut}", "web-1 port 22 ends twice"),
            (OPENS, "{asks: {person: ada.admin, vm: web-1, port: 22, from: 192.0.2.9, for: 4m}}", "for: 4m cannot be asked for: 5m to 24h"),
            (OPENS, "{calls: {who: glass, method: 'A B', path: /}}", "'A B' is no method"),
            (OPENS, "{calls: {who: glass, method: GET, path: 'x:y'}}", "'x:y' is no path: it begins with /, {group} or {policy}"),
            (OPENS, "{calls: {who: glass, method: GET, path: '/a b'}}", "'/a b' is no path"),
            (OPENS, "{locks: 'yes'}", "invalid boolean"),
            (OPENS, "{incident: {number: 7, status: Closed}}", "the step at 0: incident: world.incidents has no 7"),
            (OPENS, "heals", "the step at 0: heals: no fault is there by then"),
            ("is: shut, ", "is: neverOpen, ", "ends: web-1 port 22: letsIn: nobody is let in where it is never open"),
            (", letsIn: [{from: 192.0.2.9, since: 0, until: 0}]", "", "ends: web-1 port 22: letsIn: it must be open to be proved shut"),
            ("since: 0, until: 0", "since: 0, until: 31m", "letsIn: 31m is later than the story lasts (30m)"),
            ("since: 0, until: 0", "since: 0, until: 17m", "192.0.2.9 is let in until 17m, and nothing is asked for beyond 16m"),
            (
                "vm: web-1, port: 22, is: shut",
                "vm: web-1, port: 3389, is: shut",
                "is let in until 0, and nobody opens or asks for that port",
            ),
            ("when: {events: [late, never], pageSize: 1}", "when: {}", "but, when {}: it names no switch"),
            (OPENS, "{right: {action: x/y, given: false}}", "the app's identity has no action 'x/y'"),
        ];
        for (right, mistaken, says) in rows {
            assert!(STORY.contains(right), "{right}");
            let why = Script::read(&STORY.replacen(right, mistaken, 1)).unwrap_err();
            assert!(why.contains(says), "{mistaken}: {why}");
        }
    }

    #[test]
    fn what_another_end_always_stands_before_is_named() {
        let rows = [
            ("{events: late}", "{events: late}", true),
            ("{events: [late, never]}", "{events: never}", true),
            ("{events: [late, never]}", "{pageSize: 1, events: [never, late]}", true),
            ("{events: never}", "{events: [late, never]}", false),
            ("{events: never, pageSize: 1}", "{events: never}", false),
            ("{operationSeconds: {atLeast: 5}}", "{operationSeconds: 5}", true),
            ("{operationSeconds: {atLeast: 5}}", "{operationSeconds: 4}", false),
            ("{operationSeconds: {atLeast: 5}}", "{operationSeconds: {atLeast: 6, atMost: 9}}", true),
            ("{operationSeconds: {atLeast: 5, atMost: 8}}", "{operationSeconds: {atLeast: 6, atMost: 9}}", false),
            ("{operationSeconds: {atLeast: 5}}", "{operationSeconds: {atMost: 9}}", false),
        ];
        for (first, second, is_hidden) in rows {
            let ends = "ends: [{vm: web-1, port: 22, is: alarmStanding}]";
            let (story, _) = STORY.split_once("  - when:").unwrap();
            let read = Script::read(&format!("{story}  - when: {first}\n    {ends}\n  - when: {second}\n    {ends}\n"));
            let why = read.err().unwrap_or_default();
            assert_eq!(why.contains("which stands before it; put it before that"), is_hidden, "{first} {second}: {why}");
        }
    }

    #[test]
    fn a_time_is_read_as_it_is_written() {
        for text in ["0", "20s", "6m", "6m 20s", "90m"] {
            assert_eq!(text.parse::<Time>().unwrap().to_string(), text);
        }
        assert_eq!("PT1H30M".parse::<Time>(), Ok(Time::minutes(90)));
        assert!("P8D".parse::<Time>().is_err());
    }
}
