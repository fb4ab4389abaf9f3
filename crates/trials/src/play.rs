//! Plays a story: the real handler program in a simulated world whose time is moved from instant to instant.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use portcullis_domain::grant::Grant;
use portcullis_domain::source::Sources;
use portcullis_sandbox::arm::jit_rules::vm_number;
use portcullis_sandbox::estate;
use portcullis_sandbox::faults::{Fault, Meeting};
use portcullis_sandbox::host::deliver::Stuck;
use portcullis_sandbox::state::{Entity, Incident, IncidentSeverity, IncidentStatus, Lock, LockLevel, State};
use portcullis_sandbox::switches::Switches;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::script::{Asks, Deed, MACHINES, OneOrMany, Opens, Right, Script, Time, person, switched};
use crate::story::{COUNTS, Setting, Story, policy, vm};
use crate::watch::{Watch, clock, jit_allow};

/// How often somebody asks again whom the app could not answer, and after how many seconds.
const ASKED_AGAIN: usize = 6;
const ASKED_AGAIN_AFTER: i64 = 10;

/// By the machine's clock, by which tokens live: what a sign-in failed with counts for a second.
const SIGN_IN_COUNTS: Duration = Duration::from_millis(1_050);

/// The same of the keys that tokens are signed with, which the app asks for again no sooner.
const KEYS_COUNT: Duration = Duration::from_millis(10_250);

/// The path of what disturbs a story, which tells it from the story's own faults: a part of every path, as nothing is.
const BESIDE: &str = "/";

/// A story that has been played.
pub struct Played {
    /// It, as it was left.
    pub story: Story,
    /// What was let in when.
    pub watch: Watch,
    /// Whether it came to the call at which it was to be disturbed: with nothing to disturb it, it did.
    pub is_met: bool,
    /// What people ended.
    pub ended: Vec<Ended>,
    /// What people wanted of Azure and was not done, with what they were answered, and ends of what is not granted: such a step may be
    /// meant so, or a mistake of the story.
    pub refused: Vec<String>,
    /// What the app answered otherwise than it must.
    pub wrong: Vec<String>,
}

/// Something granted that an operator ended, and was told so.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The grant's id.
    pub grant: String,
    /// The machine.
    pub vm: String,
    /// The port.
    pub port: u16,
    /// What was let in by it.
    pub from: Sources,
    /// When.
    pub at: Time,
}

/// A story being played.
struct Stage {
    story: Story,
    watch: Watch,
    ended: Vec<Ended>,
    /// What goes wrong besides what the story says.
    beside: Option<Fault>,
    /// How often somebody could not sign in by now.
    turned_away: usize,
    refused: Vec<String>,
    wrong: Vec<String>,
}

/// Plays a story in a world with these switches and, from the beginning on, this fault; when it is over, that is taken away, and it is
/// watched for `longer`. Without one it is every fault of the story's own that is. The error says what made it impossible.
pub async fn play(script: &Script, switches: &Switches, fault: Option<Fault>, longer: Option<TimeDelta>) -> Result<Played, String> {
    let switches = switched(switches, &script.world.switches)?;
    let story = setting(script, &switches).starts().await.map_err(|why| cannot_start(&why))?;
    let fault = fault.map(|fault| Fault { path: BESIDE.to_owned(), ..fault });
    story.change(|state| state.faults.extend(fault.clone()));
    let mut watch = Watch::begin(story.now(), MACHINES.map(|name| (name, vm(name))));
    story.world(|state| watch.look(state));
    let mut stage = Stage { story, watch, ended: Vec::new(), beside: fault, turned_away: 0, refused: Vec::new(), wrong: Vec::new() };
    for step in &script.steps {
        stage.until(step.at).await?;
        stage.does(&step.what).await?;
    }
    stage.until(script.lasts).await?;
    // A fault that was met goes, since it is there for one call.
    let is_met = !stage.story.world(|state| state.faults.iter().any(|fault| stage.disturbs(fault)));
    if let Some(longer) = longer {
        stage.ends();
        stage.until(Time(script.lasts.0 + longer)).await?;
    }
    Ok(Played { story: stage.story, watch: stage.watch, is_met, ended: stage.ended, refused: stage.refused, wrong: stage.wrong })
}

/// Whether the app starts with a story's settings, in the usual world. The error says what is wrong with which.
pub async fn can_begin(script: &Script) -> Result<(), String> {
    let switches = switched(&Switches::default(), &script.world.switches)?;
    setting(script, &switches).starts().await.map(drop).map_err(|why| cannot_start(&why))
}

/// What the handler said, once: it says the same at each of its starts.
fn cannot_start(why: &anyhow::Error) -> String {
    let text = why.to_string();
    let mut said = BTreeSet::new();
    text.lines().filter(|line| said.insert(*line)).collect::<Vec<_>>().join("\n")
}

fn setting(script: &Script, switches: &Switches) -> Setting {
    let world = |state: &mut State| {
        estate::set_switches(state, switches.clone());
        for (name, tags) in &script.world.tags {
            if let Some(machine) = state.resources.get_mut(&vm(name)) {
                machine["tags"] = json!(tags);
            }
        }
        let machines = state.resources.get_mut(&policy()).and_then(|policy| policy["properties"]["virtualMachines"].as_array_mut());
        let ports = machines.into_iter().flatten().filter_map(|machine| machine["ports"].as_array_mut()).flatten();
        for port in ports {
            if let Some(source) = &script.world.allowed_source {
                port["allowedSourceAddressPrefix"] = json!(source);
            }
        }
        let created = state.now;
        let incidents = script.world.incidents.iter().map(|(number, machine)| incident(*number, machine, created));
        state.workspaces[0].incidents.extend(incidents);
    };
    let mut setting = Setting::with(world);
    for (name, value) in &script.world.settings {
        setting = setting.set(name, value);
    }
    for (name, text) in &script.world.rules {
        setting = setting.ruled_by(name, text);
    }
    if script.world.observe { setting.observing() } else { setting }
}

fn incident(number: u32, machine: &str, created: DateTime<Utc>) -> Incident {
    Incident {
        id: format!("73e01a99-5cd7-4139-a149-{number:012x}"),
        number,
        title: "a story".to_owned(),
        severity: IncidentSeverity::High,
        status: IncidentStatus::Active,
        owner: None,
        created,
        entities: vec![Entity::AzureResource { resource_id: vm(machine) }],
    }
}

fn told(stuck: Stuck) -> String {
    stuck.to_string()
}

impl Stage {
    async fn until(&mut self, time: Time) -> Result<(), String> {
        let target = self.watch.begun + time.0;
        while self.story.sandbox.engine.step_to(target).await.map_err(told)? {
            self.story.world(|state| self.watch.look(state));
            self.waits_for_sign_in().await;
        }
        Ok(())
    }

    /// A second of the machine's time is half an hour of the world's: a sign-in that failed must not count for that long.
    async fn waits_for_sign_in(&mut self) {
        let is_refusal = |met: &&Meeting| met.face == "identity" && met.effect != COUNTS;
        let refused = self.story.world(|state| state.met.iter().filter(is_refusal).count());
        if refused > self.turned_away {
            self.turned_away = refused;
            tokio::time::sleep(SIGN_IN_COUNTS).await;
        }
    }

    async fn does(&mut self, deed: &Deed) -> Result<(), String> {
        match deed {
            Deed::Opens(opens) => self.opens(opens).await,
            Deed::Asks(asks) => self.asks(asks).await?,
            Deed::Closes(closes) => self.closes(&closes.vm).await?,
            Deed::Calls(calls) => {
                let method = reqwest::Method::from_bytes(calls.method.as_bytes()).map_err(|why| why.to_string())?;
                let mut body = calls.body.clone();
                body.iter_mut().for_each(name_places);
                let answer = self.story.arm(id_of(&calls.who)?, method, &with_places(&calls.path), body).await;
                self.was_answered(&format!("calls {} {}", calls.method, calls.path), &answer);
            }
            Deed::WritesPolicy(writes) => self.writes_policy(id_of(&writes.who)?).await,
            Deed::DeletesRules(closes) => self.deletes_rules(&closes.vm).await,
            Deed::DeletesMachine(closes) => self.story.change(|state| estate::delete_vm(state, &vm(&closes.vm))),
            Deed::Locks(true) => self.story.change(|state| state.locks.push(Lock::new(group(), LockLevel::CanNotDelete))),
            Deed::Locks(false) => self.story.change(|state| state.locks.clear()),
            Deed::Plan(on) => self.story.change(|state| state.subscriptions[0].jit_plan = *on),
            Deed::Incident(goes_on) => self.story.change(|state| {
                let incidents = state.workspaces.iter_mut().flat_map(|workspace| &mut workspace.incidents);
                incidents.filter(|incident| incident.number == goes_on.number).for_each(|incident| incident.status = goes_on.status);
            }),
            Deed::Right(right) => self.story.change(|state| give(state, right)),
            Deed::Switches(given) => {
                let switches = switched(&self.story.world(|state| state.switches.clone()), given)?;
                self.story.change(|state| estate::set_switches(state, switches));
            }
            Deed::Fault(fault) => self.fails(fault.0.clone()),
            Deed::Heals => self.heals(),
            Deed::Kills => {
                self.story.sandbox.world.kill_handler();
            }
        }
        self.story.world(|state| self.watch.look(state));
        Ok(())
    }

    /// One fault alone is met by a call, the first that waits for it: one of the story, before the call is only counted, and what
    /// disturbs the story, before one of its own.
    fn fails(&self, mut fault: Fault) {
        if fault.path == BESIDE {
            fault.path.clear();
        }
        let counts = self.beside.as_ref().is_some_and(|beside| beside.effect == COUNTS);
        self.story.change(|state| {
            let place = if counts { 0 } else { state.faults.len() };
            state.faults.insert(place, fault);
        });
    }

    /// Takes the story's own faults away: what disturbs it may be yet to come.
    fn heals(&self) {
        self.story.change(|state| state.faults.retain(|fault| self.disturbs(fault)));
    }

    /// Takes away what disturbs the story, or all that is in the way where nothing does: its own faults stay where they were to.
    fn ends(&self) {
        self.story.change(|state| state.faults.retain(|fault| self.beside.is_some() && !self.disturbs(fault)));
    }

    /// Whether a fault is not the story's own.
    fn disturbs(&self, fault: &Fault) -> bool {
        self.beside.is_some() && fault.path == BESIDE
    }

    async fn opens(&mut self, opens: &Opens) {
        let end = (self.story.now() + opens.time.0).to_rfc3339();
        let port = match &opens.from {
            OneOrMany::One(one) => json!({"number": opens.port, "allowedSourceAddressPrefix": one, "endTimeUtc": end}),
            OneOrMany::Many(many) => json!({"number": opens.port, "allowedSourceAddressPrefixes": many, "endTimeUtc": end}),
        };
        let body = json!({"virtualMachines": [{"id": vm(&opens.vm), "ports": [port]}]});
        let who = id_of(&opens.who).unwrap_or_default();
        let answer = self.story.arm(who, reqwest::Method::POST, &format!("{}/initiate", policy()), Some(body)).await;
        self.was_answered(&format!("opens {} port {}", opens.vm, opens.port), &answer);
    }

    /// The time of the story.
    fn time(&self) -> Time {
        Time(self.story.now() - self.watch.begun)
    }

    /// Keeps what was not done.
    fn was_answered(&mut self, what: &str, (status, answer): &(u16, Value)) {
        if *status >= 300 {
            self.was_not_done(what, &format!("{status} {answer}"));
        }
    }

    fn was_not_done(&mut self, what: &str, why: &str) {
        self.refused.push(format!("{what} at {}: {why}", clock(self.time().seconds())));
    }

    async fn writes_policy(&mut self, who: &str) {
        let read = self.story.arm(who, reqwest::Method::GET, &policy(), None).await;
        self.was_answered("writesPolicy, which reads it first,", &read);
        let (200, body) = read else { return };
        let kept = json!({"virtualMachines": body["properties"]["virtualMachines"], "requests": body["properties"]["requests"]});
        let body = json!({"kind": body["kind"], "properties": kept});
        let written = self.story.arm(who, reqwest::Method::PUT, &policy(), Some(body)).await;
        self.was_answered("writesPolicy", &written);
    }

    async fn asks(&mut self, asks: &Asks) -> Result<(), String> {
        let mut wish = json!({
            "vm": vm(&asks.vm), "port": asks.port, "sources": asks.from.all(), "duration": asks.time.iso(),
            "reason": "a story", "person": id_of(&asks.person)?,
        });
        if let Some(incident) = asks.incident {
            wish["incident"] = json!(incident);
        }
        let at = clock(self.time().seconds());
        let said = || {
            let from = asks.from.all().join(", ");
            format!("at {} what {} asked: {} port {} from {from} for {}, for {}", at, asks.who, asks.vm, asks.port, asks.person, asks.time)
        };
        match (self.posts(id_of(&asks.who)?, "/grants", &wish).await?, asks.refused) {
            (Some(answer), false) => self.wrong.push(format!("the app refused {}: {answer}", said())),
            (None, true) => self.wrong.push(format!("the app took {}, and must refuse it", said())),
            _ => {}
        }
        Ok(())
    }

    async fn closes(&mut self, machine: &str) -> Result<(), String> {
        let record = self.story.record(machine).unwrap_or_default();
        let grants = record["grants"].as_array().cloned().unwrap_or_default();
        if grants.is_empty() {
            self.was_not_done(&format!("closes {machine}"), "nothing is granted there");
        }
        for grant in grants {
            let grant = Grant::deserialize(&grant).map_err(|why| why.to_string())?;
            let path = format!("/grants/{}/close", grant.id);
            match self.posts(estate::SECURITY_OBJECT_ID, &path, &json!({"vm": vm(machine)})).await? {
                Some(answer) => self.wrong.push(format!("the app refused to end what is granted on {machine}: {answer}")),
                None => {
                    let at = self.time();
                    self.ended.push(Ended {
                        grant: grant.id.to_string(),
                        vm: machine.to_owned(),
                        port: grant.port,
                        from: grant.sources,
                        at,
                    });
                }
            }
        }
        Ok(())
    }

    /// Somebody deletes JIT's allow rules of a machine, in whichever group. That a group is busy is an answer, too.
    async fn deletes_rules(&mut self, machine: &str) {
        let number = vm_number(&vm(machine));
        let is_its = |rule: &&Value| jit_allow(rule).is_some_and(|name| name.number == number);
        let rules: Vec<String> = self.story.world(|state| {
            let groups = state.resources.of_type("Microsoft.Network/networkSecurityGroups");
            let rules = groups.flat_map(|group| group["properties"]["securityRules"].as_array().into_iter().flatten());
            rules.filter(is_its).filter_map(|rule| rule["id"].as_str()).map(str::to_owned).collect()
        });
        for rule in rules {
            let path = format!("{rule}?api-version=2025-05-01");
            let answer = self.story.arm(estate::ADMIN_OBJECT_ID, reqwest::Method::DELETE, &path, None).await;
            self.was_answered(&format!("deletesRules {machine}"), &answer);
        }
    }

    /// What was answered, unless it was taken. Whoever is not answered asks again.
    async fn posts(&mut self, who: &str, path: &str, body: &Value) -> Result<Option<String>, String> {
        for _ in 0..ASKED_AGAIN {
            let (status, answer) = self.story.posts(who, path, body).await;
            if status < 500 {
                // That it is there already says that an answer was lost.
                return Ok((status >= 300 && status != 409).then(|| format!("{status} {answer}")));
            }
            let is_about_keys = answer["error"]["code"] == "SignInUnavailable";
            tokio::time::sleep(if is_about_keys { KEYS_COUNT } else { SIGN_IN_COUNTS }).await;
            self.until(Time(self.time().0 + TimeDelta::seconds(ASKED_AGAIN_AFTER))).await?;
        }
        Err(format!("POST {path} was never answered"))
    }
}

fn id_of(name: &str) -> Result<&'static str, String> {
    person(name).ok_or_else(|| format!("nobody is called '{name}'"))
}

fn group() -> String {
    format!("/subscriptions/{}/resourceGroups/{}", estate::SUBSCRIPTION, estate::GROUP)
}

/// A text with the paths of the resource group and the JIT policy where it names them.
fn with_places(text: &str) -> String {
    text.replace("{policy}", &policy()).replace("{group}", &group())
}

/// The same of every text of a body.
fn name_places(value: &mut Value) {
    match value {
        Value::String(text) => *text = with_places(text),
        Value::Array(all) => all.iter_mut().for_each(name_places),
        Value::Object(all) => all.values_mut().for_each(name_places),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Gives the product's identity an action, or takes it away.
fn give(state: &mut State, right: &Right) {
    let product = state.principals.iter_mut().filter(|principal| principal.managed_identity);
    for assignment in product.flat_map(|product| &mut product.assignments).take(1) {
        assignment.actions.retain(|action| *action != right.action);
        assignment.actions.extend(right.given.then(|| right.action.clone()));
    }
}

/// A fault that changes nothing and is met by every call of the handler.
pub fn counter() -> Fault {
    Fault::new("*", "*", "", COUNTS).of_handler()
}
