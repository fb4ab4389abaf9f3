//! A random walk: people, faults and kills drawn from a seed, in a world whose switches are drawn from it, too. It must hold
//! whatever must hold always, and leave every port shut.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use fastrand::Rng;
use portcullis_domain::source::Sources;
use portcullis_sandbox::faults::{Effect, Fault};
use portcullis_sandbox::switches::{NewerInitiate, Switches};
use serde_json::json;

use crate::matrix::Unusual;
use crate::play::{Played, play};
use crate::script::{Asks, Closes, Deed, FaultJson, MACHINES, OneOrMany, Opens, Script, Step, Time, World};
use crate::story::settings::settings;
use crate::verdict::{Granted, InTheWay, judge_walk};
use crate::watch::JIT_PORTS;

/// For so long something is begun.
const BEGINS_WITHIN: i64 = 60;
/// When everything has ended, so long is watched until it is proved: a call that was put off for twenty minutes, and another one.
const AFTER: TimeDelta = TimeDelta::minutes(75);

/// One in so many switches is not as usual.
const ODD_SWITCHES: u32 = 6;

/// A walk: what happens, in which world, and what the rules permit of it.
#[derive(Clone, Debug)]
pub struct Walk {
    /// What it was drawn from.
    pub seed: u64,
    /// The world.
    pub setting: Unusual,
    /// What happens.
    pub script: Script,
    /// What of it may be open.
    pub granted: Vec<Granted>,
}

/// What people try: who, from where, and whether a shipped rule lets them.
struct Try {
    who: &'static str,
    from: &'static str,
    is_asked: bool,
    is_permitted: bool,
    /// The incident that it is asked for on: a rule lets them then on the machine that it names, and on no other.
    incident: Option<u32>,
}

/// An incident of Microsoft Sentinel, and the machine that it names.
const INCIDENT: (u32, &str) = (1234, MACHINES[0]);

const TRIES: [Try; 8] = [
    Try { who: "rosa.responder", from: "198.51.100.7", is_asked: false, is_permitted: true, incident: None },
    Try { who: "rosa.responder", from: "198.51.100.9", is_asked: true, is_permitted: true, incident: None },
    Try { who: "dora.developer", from: "203.0.113.4", is_asked: true, is_permitted: true, incident: None },
    Try { who: "dora.developer", from: "203.0.113.8", is_asked: false, is_permitted: false, incident: None },
    Try { who: "ada.admin", from: "192.0.2.9", is_asked: false, is_permitted: false, incident: None },
    Try { who: "rosa.responder", from: "203.0.113.9", is_asked: true, is_permitted: true, incident: Some(INCIDENT.0) },
    Try { who: "ada.admin", from: "*", is_asked: false, is_permitted: false, incident: None },
    Try { who: "rosa.responder", from: "192.0.2.77", is_asked: false, is_permitted: false, incident: None },
];

impl Walk {
    /// The walk of a seed: always the same.
    pub fn of(seed: u64) -> Walk {
        let mut rng = Rng::with_seed(seed);
        let mut switches = Switches::default();
        // Each switch once, however many settings it has.
        let all = settings();
        let names: BTreeSet<&str> = all.iter().map(|(name, ..)| *name).collect();
        // What nobody disturbs in a world as it is thought to be must go as it is meant to.
        let (is_usual, is_undisturbed) = (rng.u32(..4) == 0, rng.u32(..4) == 0);
        for switch in names {
            let odd: Vec<&Switches> = all.iter().filter(|(name, ..)| *name == switch).map(|(.., switches)| switches).collect();
            if !is_usual
                && rng.u32(..ODD_SWITCHES) == 0
                && let Some(drawn) = rng.choice(odd)
            {
                switches = with(&switches, &Unusual::of(drawn));
            }
        }
        // Whether Portcullis is told that a newer request leaves an older one open.
        let is_told = switches.newer_initiate == NewerInitiate::Adds && rng.bool();
        let mut steps = Vec::new();
        let mut granted = Vec::new();
        for _ in 0..rng.usize(2..8) {
            steps.push(wish(&mut rng, &mut granted));
        }
        for _ in 0..if is_undisturbed { 0 } else { rng.usize(0..6) } {
            steps.push(Step { at: at(&mut rng), what: trouble(&mut rng) });
        }
        if !is_undisturbed && rng.u32(..4) == 0 {
            let locked = rng.i64(0..BEGINS_WITHIN - 10);
            steps.push(Step { at: Time::minutes(locked), what: Deed::Locks(true) });
            steps.push(Step { at: Time::minutes(locked + rng.i64(1..10)), what: Deed::Locks(false) });
        }
        steps.sort_by_key(|step| step.at);
        for granted in &mut granted {
            let is_open_around =
                |step: &Step| matches!(&step.what, Deed::Opens(opens) if (&opens.vm, opens.port) == (&granted.vm, granted.port));
            let opened_around = steps.iter().any(|step| step.at == granted.since && is_open_around(step));
            let shuts = |step: &&Step| match &step.what {
                Deed::DeletesRules(closes) => closes.vm == granted.vm && step.at >= granted.since,
                _ => opened_around && is_open_around(step) && step.at > granted.since,
            };
            granted.shut = steps.iter().find(shuts).map(|step| step.at);
        }
        let all = granted.clone();
        for granted in &mut granted {
            granted.shut = [granted.shut, forgotten(granted, &all, &steps)].into_iter().flatten().min();
        }
        let last = granted.iter().map(|granted| granted.until).chain(steps.iter().map(|step| step.at)).max().unwrap_or(Time::minutes(0));
        let settings = is_told.then(|| ("PORTCULLIS_JIT_NEWER".to_owned(), "adds".to_owned())).into_iter().collect();
        let tags = MACHINES.map(|machine| (machine.to_owned(), BTreeMap::from([("environment".to_owned(), "development".to_owned())])));
        let script = Script {
            tells: format!("what seed {seed} draws"),
            world: World {
                tags: tags.into(),
                incidents: BTreeMap::from([(INCIDENT.0, INCIDENT.1.to_owned())]),
                settings,
                ..World::default()
            },
            steps,
            lasts: Time(last.0 + TimeDelta::minutes(15)),
            ends: Vec::new(),
            but: Vec::new(),
        };
        Walk { seed, setting: Unusual::of(&switches), script, granted }
    }

    /// Plays it, and gives what does not hold.
    pub async fn played(&self) -> Result<(Played, Vec<String>), String> {
        let played = play(&self.script, &self.setting.switches()?, None, Some(AFTER)).await?;
        let wrong = judge_walk(&self.granted, self.in_the_way(), &played);
        Ok((played, wrong))
    }

    fn in_the_way(&self) -> InTheWay {
        let fails = |step: &Step| matches!(step.what, Deed::Fault(_) | Deed::Kills | Deed::Locks(_));
        match self.script.steps.iter().any(fails) {
            true => InTheWay::Faults,
            false if self.setting == Unusual::default() => InTheWay::Nothing,
            false => InTheWay::World,
        }
    }
}

fn with(switches: &Switches, setting: &Unusual) -> Switches {
    crate::script::switched(switches, &setting.0).unwrap_or_else(|_| switches.clone())
}

/// When something that was opened around Portcullis is over since nothing is left to know it by. While something granted covers it, it
/// is not judged; when that ends it is, by JIT's record, which is gone once Portcullis has opened the port for somebody else.
fn forgotten(granted: &Granted, all: &[Granted], steps: &[Step]) -> Option<Time> {
    let is_its = |vm: &str, port: u16| (vm, port) == (granted.vm.as_str(), granted.port);
    let opens = |step: &Step| matches!(&step.what, Deed::Opens(opens) if is_its(&opens.vm, opens.port));
    let asks = |step: &Step| matches!(&step.what, Deed::Asks(asks) if is_its(&asks.vm, asks.port));
    let is_opened_around = steps.iter().any(|step| step.at == granted.since && opens(step));
    let is_ended = |other: &Granted| {
        let closes = |step: &Step| matches!(&step.what, Deed::Closes(closes) if closes.vm == other.vm);
        other.shut.is_some_and(|shut| shut < granted.since)
            || steps.iter().any(|step| closes(step) && (other.since..granted.since).contains(&step.at))
    };
    let covers = |other: &&Granted| {
        let is_before = other.since < granted.since && granted.since < other.until;
        is_before && is_its(&other.vm, other.port) && other.from.covers(&granted.from) && !is_ended(other)
    };
    let covered_until = all.iter().filter(covers).map(|other| other.until).max()?;
    let is_permitted = |at: Time| all.iter().any(|other| other.since == at && is_its(&other.vm, other.port));
    let is_in_between = |step: &&Step| (granted.since..covered_until).contains(&step.at);
    let is_forgotten = steps.iter().filter(is_in_between).any(|step| asks(step) && is_permitted(step.at));
    (is_opened_around && is_forgotten).then_some(covered_until)
}

fn at(rng: &mut Rng) -> Time {
    Time(TimeDelta::seconds(rng.i64(0..BEGINS_WITHIN * 60)))
}

/// Somebody opens, asks, ends or tidies up.
fn wish(rng: &mut Rng, granted: &mut Vec<Granted>) -> Step {
    let at = at(rng);
    let vm = MACHINES[rng.usize(..MACHINES.len())].to_owned();
    let what = match rng.u32(..10) {
        0 => Deed::Closes(Closes { vm }),
        1 => Deed::DeletesRules(Closes { vm }),
        _ => {
            let tried = &TRIES[rng.usize(..TRIES.len())];
            let (port, time) = (JIT_PORTS[rng.usize(..JIT_PORTS.len())], Time::minutes(rng.i64(5..60)));
            let (who, from) = (tried.who.to_owned(), OneOrMany::One(tried.from.to_owned()));
            if tried.is_permitted && (tried.incident.is_none() || vm == INCIDENT.1) {
                granted.push(Granted {
                    vm: vm.clone(),
                    port,
                    from: Sources::read([tried.from]),
                    since: at,
                    until: Time(at.0 + time.0),
                    shut: None,
                });
            }
            if tried.is_asked {
                Deed::Asks(Asks {
                    who: "sam.security".to_owned(),
                    person: who,
                    vm,
                    port,
                    from,
                    time,
                    incident: tried.incident,
                    refused: false,
                })
            } else {
                Deed::Opens(Opens { who, vm, port, from, time })
            }
        }
    };
    Step { at, what }
}

/// Something goes wrong: the handler dies, now or at one of its next calls, or some of them are not answered as they should.
fn trouble(rng: &mut Rng) -> Deed {
    let effect = match rng.u32(..9) {
        0 => return Deed::Kills,
        1 => Effect::KillBefore,
        2 => Effect::KillAfter,
        3 => Effect::CutBefore,
        4 => Effect::CutAfter,
        5 => Effect::status(503, None),
        6 => Effect::status(429, Some(2)),
        7 => Effect::status(429, Some(20 * 60)),
        _ => Effect::status(500, None),
    };
    let face = ["*", "*", "arm", "blob", "servicebus", "graph", "logs", "identity"];
    let face = face[rng.usize(..face.len())];
    let fault = Fault::new(face, "*", "", effect).of_handler().skip(rng.u32(..60)).times(rng.u32(1..4));
    Deed::Fault(FaultJson(fault))
}

/// A walk as a file of its own: what `json` shows of a story.
pub fn shown(walk: &Walk) -> String {
    let setting = &walk.setting;
    format!("seed {} in a world where {setting}\n{:#}", walk.seed, json!(walk.script))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_always_the_same_walk_and_another_seed_another_one() {
        assert_eq!(shown(&Walk::of(7)), shown(&Walk::of(7)));
        assert_ne!(shown(&Walk::of(7)), shown(&Walk::of(8)));
    }

    #[test]
    fn every_walk_is_a_story_that_can_be_read() {
        for seed in 0..300 {
            let walk = Walk::of(seed);
            let script = json!(walk.script).to_string();
            assert_eq!(Script::read(&script).as_ref(), Ok(&walk.script), "{script}");
            assert!(walk.setting.switches().is_ok());
        }
    }
}
