//! What became of a story, judged by the world: its security groups at every instant, its log, and what was written down in
//! it. The handler is asked nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use portcullis_domain::source::Sources;
use portcullis_sandbox::faults::{Effect, Meeting};
use portcullis_sandbox::switches::{Events, Messages, Returns, Switches};
use serde_json::Value;

use crate::disturbance::Disturbance;
use crate::play::{Ended, Played};
use crate::script::{End, How, Script, Stay, Time};
use crate::story::{COUNTS, vm};
use crate::watch::{Place, Span, clock, merged};

const MINUTE: i64 = 60;

/// An opening that nothing covers is an alarm five minutes after it was first seen, and whatever no event told the sweep sees
/// within five more; the rest is for a lease, a pause and a read.
const UNCOVERED_WITHOUT_ALARM: i64 = 12 * MINUTE;

/// The same where an event tells of it and nothing is in the way: no sweep has to see it first, and no lease to end.
const TOLD_WITHOUT_ALARM: i64 = 7 * MINUTE;

/// The same in the usual world, where nothing is in the way of a walk: what JIT writes is read and shut, and has no time for an alarm.
const SHUT_WITHIN: i64 = 2 * MINUTE;

/// The causes that are an alarm as soon as they are met.
const AT_ONCE: [&str; 4] = ["lock", "denial", "missing-right", "rule-returns"];

/// The cause of an alarm of what is not done within five minutes.
const SLOW: &str = "slow";

/// The cause of an alarm that stands beside others.
const UNDECIDED: &str = "undecided";

/// A row that says that the store cannot be used, or what waits for a later sweep, comes every five minutes while that is so, and what
/// else fails is told of once an hour: so long one of them counts.
const SAID_OF_THE_STORE: i64 = 10 * MINUTE;
const SAID_OF_OTHERS: i64 = 60 * MINUTE;

/// For so long a call may be put off.
const PUT_OFF: i64 = 20 * MINUTE;

/// So much later may something happen where the handler was disturbed: a lease, and a pause between two tries.
const DISTURBED: i64 = 4 * MINUTE;

/// Within so many seconds somebody is let in again whose rule JIT took away for another one.
const OPENED_AGAIN_WITHIN: i64 = 2 * MINUTE;

/// JIT is not asked for less than five minutes, and a look before that takes time.
const NOT_OPENED_AGAIN: i64 = 6 * MINUTE;

/// The two reads that prove a port shut are so far apart.
const BETWEEN_READS: i64 = 30;

/// What opens after a read began need not be in it.
const READ_TAKES: i64 = 10;

/// So many seconds after its delete a rule is there again.
const RETURNS: i64 = 5;

/// So much later comes the event that is overtaken.
const REORDERED: i64 = 30;

/// And so much later what the sweep alone finds: one that is lost is made up for by the next.
const NEXT_SWEEP: i64 = 5 * MINUTE;

/// Seconds after it must be at which an opening is there at the latest.
pub fn opens_within(switches: &Switches) -> i64 {
    switches.initiating_seconds + 30
}

/// Seconds after it must be at which an opening is gone at the latest: reads and deletes of two groups, one after another where
/// they are busy, and once more where a rule comes back. The longer JIT takes, the longer are the pauses between two looks.
pub fn shuts_within(switches: &Switches) -> i64 {
    let returns = if switches.deleted_rule_returns == Returns::Never { 0 } else { 45 };
    20 + 4 * switches.operation_seconds + switches.initiating_seconds / 4 + returns
}

/// Whether operations take so long that shutting a port for so many may be an alarm by itself, since one group carries out one after
/// another: it waits five minutes for that.
fn is_slow(switches: &Switches, stays: usize) -> bool {
    switches.operation_seconds.saturating_mul(i64::try_from(stays.max(1)).unwrap_or(i64::MAX)) >= 4 * MINUTE
}

/// The same of any port of a story: an alarm may stand until all is done, which is later than the story lasts.
pub fn may_be_slow(script: &Script, switches: &Switches) -> bool {
    let most = script.ends(switches).iter().map(|end| end.lets_in.len()).max().unwrap_or_default();
    script.worlds(switches).iter().any(|world| is_slow(world, most))
}

/// The end of a story.
pub struct Verdict {
    /// How each port ended of which that can be said.
    pub ends: Vec<How>,
    /// The same with all that there is to see of it, for people.
    pub told: Vec<String>,
    /// What is not as it must be; nothing if all is.
    pub wrong: Vec<String>,
}

/// An alarm, as it was written down.
#[derive(Clone)]
struct Alarm {
    /// The id of the machine that it is about.
    vm: String,
    /// The port that it is about; without one it is about the machine as a whole.
    port: Option<u64>,
    /// Its causes, one after another, each with when it was told.
    causes: Vec<(String, i64)>,
    /// When Sentinel took the row that tells of it; never, if none came.
    heard: Option<i64>,
    cleared: Option<i64>,
}

impl Alarm {
    fn is_about(&self, name: &str, port: u16) -> bool {
        self.vm.eq_ignore_ascii_case(&vm(name)) && self.port.is_none_or(|its| its == u64::from(port))
    }

    fn codes(&self) -> impl Iterator<Item = &String> {
        self.causes.iter().map(|(code, _)| code)
    }

    /// The cause that it has now, or had last.
    fn code(&self) -> &str {
        self.causes.last().map_or("", |(code, _)| code)
    }

    /// The alarm as it is told of something that is not looked at otherwise.
    fn of_what(&self) -> String {
        let machine = self.vm.rsplit('/').next().unwrap_or_default();
        self.port.map_or_else(|| format!("{machine}: {self}"), |port| format!("{machine} port {port}: {self}"))
    }

    /// Until when it counts as standing, if somebody has heard of it by `at`.
    ///
    /// The look that sees again clears it and deletes in one, or after one more where a machine is gone: that the rule goes some
    /// seconds later is Azure's time.
    fn stands_until(&self, at: i64) -> Option<i64> {
        let is_heard = self.heard.is_some_and(|heard| heard <= at);
        is_heard.then(|| self.cleared.map_or(i64::MAX, |cleared| cleared + MINUTE))
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let causes: Vec<String> = self.causes.iter().map(|(code, at)| format!("{code}@{}", clock(*at))).collect();
        write!(f, "+{}", causes.join(", then "))?;
        self.cleared.map_or(Ok(()), |cleared| write!(f, " -{}@{}", self.code(), clock(cleared)))
    }
}

/// Judges a story that was played in a world with these switches.
pub fn judge(script: &Script, switches: &Switches, disturbance: &Disturbance, played: &Played) -> Verdict {
    let (alarms, mistold) = alarms(played);
    let worlds = script.worlds(switches);
    let judge = Judge { script, worlds, disturbance: disturbance.clone(), played, now: seconds(played, played.story.now()), alarms };
    let mut verdict = Verdict { ends: Vec::new(), told: Vec::new(), wrong: played.story.broken() };
    verdict.wrong.extend(mistold);
    verdict.wrong.extend(played.wrong.iter().cloned());
    let is_untroubled = judge.is_undisturbed() && !script.fails();
    let may_double = judge.any(|world| world.messages != Messages::Once);
    verdict.wrong.extend(doubled_rows(played).filter(|_| is_untroubled && !may_double));
    let mut ends = script.ends(switches).to_vec();
    if judge.is_undisturbed() {
        ends.iter_mut().for_each(|end| end.lets_in.retain(|stay| !stay.if_disturbed));
    }
    for end in &ends {
        let (how, told, wrong) = judge.port(end);
        verdict.ends.extend(how);
        verdict.told.push(told);
        verdict.wrong.extend(wrong.into_iter().map(|why| format!("{} port {}: {why}", end.vm, end.port)));
    }
    for place in played.watch.places() {
        if !ends.iter().any(|end| (end.vm.as_str(), end.port) == (place.0.as_str(), place.1)) {
            verdict.wrong.push(format!("{} port {} was open, and the story says nothing of it", place.0, place.1));
        }
    }
    let others = judge.alarms.iter().filter(|alarm| !ends.iter().any(|end| alarm.is_about(&end.vm, end.port)));
    let unexpected = others.filter(|alarm| !disturbance.may_alarm() || alarm.cleared.is_none());
    verdict.wrong.extend(unexpected.map(|alarm| format!("an alarm on what the story does not name: {}", alarm.of_what())));
    verdict.wrong.extend(failed(played).filter(|_| is_untroubled));
    verdict.wrong.extend(unexpected_alerts(played, is_untroubled));
    verdict.wrong.extend(rows_of_nothing(played));
    let mut refused: Vec<String> = played.refused.iter().map(|step| format!("not done: {step}")).collect();
    if !script.world.rules.is_empty() {
        let of_rules = |audit: &Value| audit["kind"] == "service-failing" && audit["code"] == "rules";
        let why = played.story.audits().into_iter().find(of_rules);
        refused.extend(why.map(|audit| format!("the rules of the story cannot be used: {}", audit["why"].as_str().unwrap_or_default())));
    }
    // What is wrong may be that alone.
    if !verdict.wrong.is_empty() {
        verdict.wrong.extend(refused.iter().cloned());
    }
    verdict.told.extend(refused);
    verdict
}

/// What the rules permit of a walk.
#[derive(Clone, Debug)]
pub struct Granted {
    /// The machine.
    pub vm: String,
    /// The port.
    pub port: u16,
    /// From where.
    pub from: Sources,
    /// Since when.
    pub since: Time,
    /// Until when, if it was opened at once.
    pub until: Time,
    /// When it was over before that, if it was, and not opened again: somebody deleted JIT's rules, or, where it was opened around
    /// Portcullis, opened the port so another time; or nothing was left to know it by.
    pub shut: Option<Time>,
}

/// What is in the way of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InTheWay {
    /// Nothing, in the usual world.
    Nothing,
    /// Nothing fails, and the world is not as usual.
    World,
    /// Something fails.
    Faults,
}

/// What does not hold of a walk: what must hold always, the claim, and that in the end every port is shut and no alarm stands.
///
/// Where nothing was in its way, it may raise no alarm, and nobody is kept out.
pub fn judge_walk(granted: &[Granted], in_the_way: InTheWay, played: &Played) -> Vec<String> {
    let (is_untroubled, nothing_fails) = (in_the_way == InTheWay::Nothing, in_the_way != InTheWay::Faults);
    let now = seconds(played, played.story.now());
    let mut wrong = played.story.broken();
    // A call that was put off for twenty minutes puts off what is seen.
    let is_put_off =
        |met: &&Meeting| matches!(met.effect, Effect::Status { retry_after: Some(wait), .. } if wait >= PUT_OFF.unsigned_abs());
    let put_off = played.story.world(|state| state.met.iter().filter(is_put_off).count());
    let world = played.story.world(|state| state.switches.clone());
    let is_told = nothing_fails && !matches!(world.events, Events::Late | Events::Never);
    let grace = if is_untroubled {
        SHUT_WITHIN
    } else if is_told {
        TOLD_WITHOUT_ALARM
    } else {
        UNCOVERED_WITHOUT_ALARM + i64::try_from(put_off).unwrap_or_default() * PUT_OFF
    };
    let (all, mistold) = alarms(played);
    wrong.extend(mistold);
    wrong.extend(played.wrong.iter().cloned());
    wrong.extend(doubled_rows(played).filter(|_| nothing_fails && world.messages == Messages::Once));
    wrong.extend(failed(played).filter(|_| nothing_fails));
    for place in played.watch.places() {
        let alarms = of_port(&all, &place);
        let its: Vec<&Granted> =
            granted.iter().filter(|granted| (granted.vm.as_str(), granted.port) == (place.0.as_str(), place.1)).collect();
        let switches = &world;
        // Time runs from the opening, which may come late.
        let late = opens_within(switches) + DISTURBED;
        let ends = |granted: &Granted| ended(played, granted).map_or(granted.until.seconds() + late, Time::seconds);
        let due = |at: i64| {
            let live = its.iter().filter(|granted| (granted.since.seconds()..ends(granted)).contains(&at));
            live.fold(Sources::default(), |all, granted| all.union(&granted.from))
        };
        let turns: Vec<i64> = its.iter().flat_map(|granted| [granted.since.seconds(), ends(granted)]).collect();
        let silent = silent(&played.watch.beyond(&place, &turns, due), &proofs_of_going(played, &place), &alarms, grace, now);
        wrong.extend(silent.iter().map(|why| format!("{} port {}: {why}", place.0, place.1)));
        wrong.extend(untold(played, &place).map(|why| format!("{} port {}: {why}", place.0, place.1)));
        wrong.extend(proved_while_open(played, &place).map(|why| format!("{} port {}: {why}", place.0, place.1)));
        wrong.extend(proved_while_initiating(played, &place).map(|why| format!("{} port {}: {why}", place.0, place.1)));
        if let Some(open) = played.watch.open_now(&place) {
            wrong.push(format!("{} port {} is open to {}", place.0, place.1, open.prefixes().join(", ")));
        } else {
            wrong.extend(unproved(played, &place, switches));
            if let Ok(proof) = played.story.seen_shut(&vm(&place.0), place.1) {
                wrong.extend(played.story.asked_before(&vm(&place.0), place.1, proof));
            }
        }
    }
    if is_untroubled {
        wrong.extend(granted.iter().filter_map(|granted| kept_out(granted, played)));
    }
    wrong.extend(all.iter().filter(|alarm| alarm.cleared.is_none()).map(|alarm| format!("an alarm stands: {}", alarm.of_what())));
    wrong.extend(all.iter().filter(|_| is_untroubled).map(|alarm| format!("an alarm where nothing went wrong: {}", alarm.of_what())));
    wrong.extend(unexpected_alerts(played, nothing_fails));
    wrong.extend(rows_of_nothing(played));
    wrong
}

/// When what was granted was ended by the operator, if that is so.
fn ended(played: &Played, granted: &Granted) -> Option<Time> {
    let is_it = |ended: &&Ended| (&ended.vm, ended.port) == (&granted.vm, granted.port) && ended.from.covers(&granted.from);
    let within = |ended: &&Ended| (granted.since..granted.until).contains(&ended.at);
    // Whether an operator may is decided later, and refused where it cannot be: then they are told so, and the grant goes on.
    let declined: Vec<Value> = played.story.audits().into_iter().filter(|audit| audit["kind"] == "declined").collect();
    let is_declined = |ended: &&Ended| declined.iter().any(|audit| audit["what"].as_str().is_some_and(|what| what.contains(&ended.grant)));
    played.ended.iter().filter(is_it).filter(within).filter(|ended| !is_declined(ended)).map(|ended| ended.at).min()
}

/// Whether somebody whom a rule lets in was kept out, where nothing was in the way of that: between the time that an opening takes, and
/// the last minutes, in which nothing that was lost is opened again.
fn kept_out(granted: &Granted, played: &Played) -> Option<String> {
    let place = (granted.vm.clone(), granted.port);
    let until = [ended(played, granted), granted.shut].into_iter().flatten().fold(granted.until, Time::min);
    let (from, to) = (granted.since.seconds() + opens_within(&Switches::default()), until.seconds() - NOT_OPENED_AGAIN);
    let spans = merged(&played.watch.let_in(&place, &granted.from), OPENED_AGAIN_WITHIN);
    let is_in = from >= to || spans.iter().any(|span| span.from <= from && span.until.is_none_or(|until| until >= to));
    let was = || or_never(&spans.iter().map(ToString::to_string).collect::<Vec<_>>());
    let must = || format!("{}-{}", clock(granted.since.seconds()), clock(until.seconds()));
    let from = || granted.from.prefixes().join(", ");
    (!is_in).then(|| format!("{} port {}: {} was let in {}, and must be {}", place.0, place.1, from(), was(), must()))
}

/// When a port was open, without the times of which it was told afterwards that no look had seen them: what JIT shut by itself
/// while nobody could look has no proof, but the record of it.
fn not_missed(played: &Played, place: &Place, opens: i64) -> Vec<Span> {
    let start = |audit: &Value| audit["about"].as_str()?.rsplit_once('#')?.1.parse().ok();
    let missed: Vec<i64> =
        audits_of(played, place).iter().filter(|audit| audit["kind"] == "missed").filter_map(start).map(|at| seconds(played, at)).collect();
    let mut open = played.watch.beyond(place, &[], |_| Sources::default());
    open.retain(|span| !missed.iter().any(|start| (*start..=start + opens).contains(&span.from)));
    open
}

/// What is missing of a port that is shut: that it was said to be so after it was last open, or that what was found there went. What
/// JIT shut while nobody could look needs neither.
fn unproved(played: &Played, place: &Place, switches: &Switches) -> Option<String> {
    let (vm, seen) = (vm(&place.0), not_missed(played, place, opens_within(switches)));
    let Some(last) = seen.last().map(|span| span.until.unwrap_or(i64::MAX)) else {
        let shut = played.story.seen_shut(&vm, place.1);
        return shut.err().filter(|_| !played.story.saw_go(&vm, place.1, played.watch.begun) && !played.story.rests(&vm));
    };
    let went = played.story.saw_go(&vm, place.1, played.watch.begun + TimeDelta::seconds(last));
    let shut = match played.story.seen_shut(&vm, place.1).map(|proof| seconds(played, proof)) {
        Ok(proof) if proof < last + BETWEEN_READS => {
            Err(format!("{} port {} was said to be shut at {}, and was open until {}", place.0, place.1, clock(proof), clock(last)))
        }
        shut => shut.map(drop),
    };
    shut.err().filter(|_| !went)
}

/// Proofs that were told while the port was open, and had been when the second read was made.
fn proved_while_open(played: &Played, place: &Place) -> Option<String> {
    let open = played.watch.beyond(place, &[], |_| Sources::default());
    let is_lie = |at: &i64, span: &Span| span.from + READ_TAKES < *at && span.until.is_none_or(|until| until > *at);
    let lie = proofs(played, place).into_iter().find_map(|at| open.iter().find(|span| is_lie(&at, span)).map(|span| (at, *span)));
    lie.map(|(at, span)| format!("it was proved shut at {}, and was open {span}", clock(at)))
}

/// Proofs that were told while JIT was still carrying out what somebody had asked for, and had been when the second read was made.
fn proved_while_initiating(played: &Played, place: &Place) -> Option<String> {
    let under_way = played.watch.initiating(place);
    let is_early = |at: &i64, span: &Span| span.from + READ_TAKES < *at && span.until.is_none_or(|until| until > *at);
    let early = proofs(played, place).into_iter().find_map(|at| under_way.iter().find(|span| is_early(&at, span)).map(|span| (at, *span)));
    early.map(|(at, span)| format!("it was proved shut at {}, and JIT was opening it {span}", clock(at)))
}

/// What nothing was written down of: an opening may go before anybody can look, and its record tells of it later.
fn untold(played: &Played, place: &Place) -> Option<String> {
    let tells = |audit: &Value| tells_of_an_opening(audit) || audit["kind"] == "open";
    (!audits_of(played, place).iter().any(tells)).then(|| "it was open, and no audit record tells that".to_owned())
}

/// Whether an audit record tells that its port was open: that it was asked to be is not enough.
fn tells_of_an_opening(audit: &Value) -> bool {
    matches!(audit["kind"].as_str(), Some("finding-appeared" | "missed" | "adopted" | "opened"))
}

/// When an audit record says that it happened.
fn told_at(played: &Played, audit: &Value) -> Option<i64> {
    Some(seconds(played, audit["at"].as_str()?.parse().ok()?))
}

/// Who is let in by what an audit record is about; nobody, where it does not say.
fn sources_of(audit: &Value) -> Sources {
    serde_json::from_value(audit["sources"].clone()).unwrap_or_default()
}

/// What was written down of a port.
fn audits_of(played: &Played, place: &Place) -> Vec<Value> {
    let id = vm(&place.0);
    let is_its = |audit: &Value| audit["port"] == place.1 && audit["vm"].as_str().is_some_and(|its| its.eq_ignore_ascii_case(&id));
    played.story.audits().into_iter().filter(is_its).collect()
}

/// When a port was said to be proved shut.
fn proofs(played: &Played, place: &Place) -> Vec<i64> {
    said_at(played, place, &["proved-shut"])
}

/// When what had to go from a port was said to be proved gone, be it that something else stays.
fn proofs_of_going(played: &Played, place: &Place) -> Vec<i64> {
    said_at(played, place, &["proved-shut", "proved-gone"])
}

fn said_at(played: &Played, place: &Place, kinds: &[&str]) -> Vec<i64> {
    let is_said = |audit: &&Value| audit["kind"].as_str().is_some_and(|kind| kinds.contains(&kind));
    audits_of(played, place).iter().filter(is_said).filter_map(|audit| told_at(played, audit)).collect()
}

/// Since when no alarm stands between two times, though it must all the time, be it one after another, since what it is about may change
/// its cause; and when the next one was heard of, if one was.
fn unalarmed(alarms: &[Alarm], from: i64, to: i64) -> Option<(i64, Option<i64>)> {
    let mut at = from;
    loop {
        match alarms.iter().filter_map(|alarm| alarm.stands_until(at)).max() {
            Some(until) if until >= to => return None,
            Some(until) if until > at => at = until,
            _ => return Some((at, alarms.iter().filter_map(|alarm| alarm.heard).filter(|heard| *heard > at).min())),
        }
    }
}

/// The claim: what nothing covers does not stay open for longer than this without an alarm. What is open again within a minute was
/// open all the time, unless it was proved shut while it really was.
fn silent(beyond: &[Span], proofs: &[i64], alarms: &[Alarm], grace: i64, now: i64) -> Vec<String> {
    let is_proved = |from: Option<i64>, until: i64| proofs.iter().any(|at| from.is_some_and(|from| from <= *at) && *at < until);
    let mut places: Vec<usize> = (1..beyond.len()).filter(|n| is_proved(beyond[n - 1].until, beyond[*n].from)).collect();
    places.push(beyond.len());
    let mut begun = 0;
    let runs = places.into_iter().flat_map(|end| merged(&beyond[std::mem::replace(&mut begun, end)..end], MINUTE));
    let long = runs.filter(|span| span.length(now) > grace);
    let silent = long.filter_map(|span| {
        let (from, to) = (span.from + grace, span.until.unwrap_or(now));
        let (since, next) = unalarmed(alarms, from, to)?;
        let until = next.filter(|next| *next < to).map_or_else(String::new, |next| format!(" until {}", clock(next)));
        Some(format!("it was open {span} without being due, and no alarm stood from {} on{until}", clock(since)))
    });
    silent.collect()
}

fn seconds(played: &Played, at: DateTime<Utc>) -> i64 {
    (at - played.watch.begun).num_seconds()
}

/// A story with all that it is judged by.
struct Judge<'a> {
    script: &'a Script,
    /// The switches that it was played under: what Azure may take is what it takes in the slowest of them.
    worlds: Vec<Switches>,
    disturbance: Disturbance,
    played: &'a Played,
    now: i64,
    alarms: Vec<Alarm>,
}

impl Judge<'_> {
    fn is_undisturbed(&self) -> bool {
        self.disturbance == Disturbance::Nothing
    }

    fn most(&self, of: impl Fn(&Switches) -> i64) -> i64 {
        self.worlds.iter().map(of).max().unwrap_or_default()
    }

    fn any(&self, is: impl Fn(&Switches) -> bool) -> bool {
        self.worlds.iter().any(is)
    }

    fn is_slow(&self, end: &End) -> bool {
        self.any(|world| is_slow(world, end.lets_in.len()))
    }

    /// How a port ended, and what is wrong with it.
    fn port(&self, end: &End) -> (Option<How>, String, Vec<String>) {
        let place: Place = (end.vm.clone(), end.port);
        let alarms = of_port(&self.alarms, &place);
        let mut wrong = Vec::new();
        let how = self.how(&place, end, &alarms);
        match &how {
            Err(why) => wrong.push(why.clone()),
            Ok(how) if self.is_accepted(end, *how) => {}
            Ok(how) => wrong.push(format!("it ended {how}, and must end {}", end.is)),
        }
        // Where the story names no cause, it says whether there is an alarm at all.
        let is_expected = |alarm: &&Alarm| match end.alarms.as_slice() {
            [] if matches!(end.is, How::ShutAfterAlarm | How::AlarmStanding) => true,
            // Where an operation takes so long, that is an alarm by itself, and may be the cause that another takes the place of.
            causes => alarm.codes().all(|code| causes.contains(code) || end.may_raise.contains(code) || self.is_slow(end) && code == SLOW),
        };
        let raised = |cause: &&String| alarms.iter().any(|alarm| alarm.codes().any(|code| code == *cause));
        if self.is_undisturbed() {
            wrong.extend(end.alarms.iter().filter(|cause| !raised(cause)).map(|cause| format!("no alarm {cause} was raised")));
        }
        let unexpected = alarms.iter().filter(|alarm| !is_expected(alarm));
        wrong.extend(unexpected.filter(|_| !self.disturbance.may_alarm()).map(|alarm| format!("an alarm that nobody expects: {alarm}")));
        wrong.extend(self.stays(&place, end));
        wrong.extend(if self.script.world.observe { self.unobserved(&place, end) } else { self.uncovered(&place, end, &alarms) });
        let was_open = self.played.watch.places().contains(&place);
        wrong.extend(untold(self.played, &place).filter(|_| was_open));
        wrong.extend(proved_while_open(self.played, &place));
        wrong.extend(proved_while_initiating(self.played, &place));
        if self.is_undisturbed() {
            wrong.extend(self.proved_again(&place));
            wrong.extend(self.contradicted(&place, end, &alarms));
        }
        if was_open && matches!(how, Ok(How::Shut | How::ShutAfterAlarm)) {
            let seen = not_missed(self.played, &place, self.most(opens_within));
            // Without an event, an opening may come and go between two sweeps.
            let may_be_missed = !self.is_undisturbed() || self.is_swept(end.lets_in.iter());
            match self.played.story.seen_shut(&vm(&end.vm), end.port) {
                Err(_) if may_be_missed && seen.is_empty() && self.played.story.rests(&vm(&end.vm)) => {}
                Err(_) if self.disturbance.may_alarm() && self.went(&place, &seen) => {}
                // Nobody shuts anything there, and what JIT shuts is found to be gone.
                Err(_) if self.script.world.observe && (self.went(&place, &seen) || self.played.story.rests(&vm(&end.vm))) => {}
                Err(why) => wrong.push(why),
                Ok(proof) => {
                    wrong.extend(self.played.story.asked_before(&vm(&end.vm), end.port, proof));
                    let last = seen.last().and_then(|span| span.until);
                    if last.is_some_and(|last| seconds(self.played, proof) < last + BETWEEN_READS) {
                        wrong.push(format!(
                            "it was said to be shut at {}, and was open until {}",
                            clock(seconds(self.played, proof)),
                            clock(last.unwrap_or_default())
                        ));
                    }
                }
            }
        }
        let told = self.told(&place, &how, &alarms);
        (how.ok(), told, wrong)
    }

    /// Whether what was found at a port was seen to be gone after it was last open, since JIT shut it while nobody could look.
    fn went(&self, place: &Place, seen: &[Span]) -> bool {
        let last = seen.last().and_then(|span| span.until).unwrap_or_default();
        self.played.story.saw_go(&vm(&place.0), place.1, self.played.watch.begun + TimeDelta::seconds(last))
    }

    /// Proofs after which the port was not open again before the next one.
    fn proved_again(&self, place: &Place) -> Vec<String> {
        let mut proofs = proofs(self.played, place);
        proofs.sort_unstable();
        let open = self.played.watch.beyond(place, &[], |_| Sources::default());
        let is_open_between = |from: i64, to: i64| open.iter().any(|span| span.from < to && span.until.is_none_or(|until| until > from));
        let again = proofs.windows(2).filter(|pair| !is_open_between(pair[0], pair[1]));
        again.map(|pair| format!("it was proved shut at {}, and again at {}", clock(pair[0]), clock(pair[1]))).collect()
    }

    fn how(&self, place: &Place, end: &End, alarms: &[Alarm]) -> Result<How, String> {
        let standing: Vec<&Alarm> = alarms.iter().filter(|alarm| alarm.cleared.is_none()).collect();
        match (self.played.watch.open_now(place), standing.is_empty()) {
            (Some(open), true) if self.due(end, self.now).covers(&open) => Ok(How::OpenCovered),
            (Some(open), true) => Err(format!("it is open to {}, nothing covers that, and no alarm stands", open.prefixes().join(", "))),
            (_, false) => Ok(How::AlarmStanding),
            (None, true) if !self.played.watch.places().contains(place) => Ok(How::NeverOpen),
            (None, true) if !alarms.is_empty() => Ok(How::ShutAfterAlarm),
            (None, true) => Ok(How::Shut),
        }
    }

    /// Whether it may end so. What was disturbed may have kept somebody out; whether an alarm may be raised is told of each alarm.
    fn is_accepted(&self, end: &End, how: How) -> bool {
        match (end.is, how) {
            _ if end.is == how => true,
            // Nothing is seen of an opening that is there for no time.
            (How::Shut, How::NeverOpen) => {
                let place = (end.vm.clone(), end.port);
                let is_told = || audits_of(self.played, &place).iter().any(tells_of_an_opening);
                (self.any(|world| world.operation_seconds == 0) && is_told()) || self.disturbance.may_alarm()
            }
            (How::Shut, How::ShutAfterAlarm) => self.disturbance.may_alarm() || self.is_slow(end) || !end.may_raise.is_empty(),
            (How::OpenCovered | How::ShutAfterAlarm, How::NeverOpen) => self.disturbance.may_alarm(),
            // What was shut before anybody could be alarmed, since it began later.
            (How::ShutAfterAlarm, How::Shut) => !self.is_undisturbed(),
            (How::NeverOpen, How::Shut | How::ShutAfterAlarm) => end.lets_in.iter().any(|stay| stay.if_disturbed),
            _ => false,
        }
    }

    /// The sources that are due at an instant.
    fn due(&self, end: &End, at: i64) -> Sources {
        let stays = end.lets_in.iter().filter(|stay| !stay.uncovered && (stay.since.seconds()..stay.until.seconds()).contains(&at));
        stays.fold(Sources::default(), |all, stay| all.union(&stay.from.sources()))
    }

    /// What is wrong with who was let in when.
    fn stays(&self, place: &Place, end: &End) -> Vec<String> {
        let mut wrong = Vec::new();
        let is_put_off = self.disturbance.may_alarm();
        let late = if self.is_undisturbed() { 0 } else { DISTURBED } + if is_put_off { PUT_OFF } else { 0 };
        let by_jit = if self.script.world.observe { self.most(|world| world.expiry_delay_seconds) } else { 0 };
        let (in_time, operation) = (self.most(opens_within), self.most(|world| world.operation_seconds));
        let (opens, shuts) = (in_time + late, self.most(shuts_within) + late + by_jit);
        // Whose rule JIT took away for another one is let in again once the event of that one is there.
        let gap = opens + if self.any(|world| world.events == Events::Reordered) { REORDERED } else { 0 };
        let returns = self.any(|world| world.deleted_rule_returns == Returns::Always);
        // When each of them may be let in, at the most.
        let may_stay = end.is == How::AlarmStanding;
        let mut lasts: Vec<(i64, i64, Sources)> = Vec::new();
        let mut known: Vec<(Sources, Vec<&Stay>)> = Vec::new();
        for stay in &end.lets_in {
            let sources = stay.from.sources();
            match known.iter_mut().find(|(of, _)| *of == sources) {
                Some((_, stays)) => stays.push(stay),
                None => known.push((sources, vec![stay])),
            }
        }
        for (sources, stays) in &known {
            let seen = self.played.watch.let_in(place, sources);
            let shuts = shuts + self.next_sweep(stays);
            let visit = |stay: &&Stay| {
                // How long nobody can help it counts from when it is there, and what is deleted right before JIT's own end does not
                // return any more, to either of its groups. What disturbs the story may take away what was in the way.
                let waits = if stay.uncovered { in_time } else { 0 };
                let early = match stay.uncovered {
                    true if !self.is_undisturbed() => stay.until.seconds() - stay.since.seconds(),
                    true if returns => 2 * (RETURNS + operation),
                    _ => 0,
                };
                let within = stay.within.map_or(0, Time::seconds);
                Visit {
                    since: stay.since.seconds(),
                    until: stay.until.seconds(),
                    opens,
                    shuts: shuts.max(within) + waits,
                    early,
                    is_sure: !stay.if_disturbed,
                }
            };
            let mut visits: Vec<Visit> = stays.iter().map(visit).collect();
            visits.sort_by_key(|visit| visit.since);
            let by = |visit: &Visit| visit.until.max(visit.since + visit.opens) + visit.shuts;
            lasts.extend(
                visits.iter().map(|visit| (visit.since, if is_put_off || may_stay { i64::MAX } else { by(visit) }, sources.clone())),
            );
            // What is shut at sight may have been there for no time, or have been shut before anybody saw it open; that it was
            // there is told.
            let since = visits.iter().map(|visit| visit.since).min().unwrap_or_default();
            let is_since = |audit: &Value| told_at(self.played, audit).is_some_and(|at| at >= since);
            let is_of_it = |audit: &Value| tells_of_an_opening(audit) && sources_of(audit).covers(sources) && is_since(audit);
            let is_told = || is_put_off || audits_of(self.played, place).iter().any(is_of_it);
            let is_never_seen = seen.is_empty() && visits.iter().all(|visit| visit.since == visit.until) && is_told();
            // Who was kept out, or had to wait, is no harm; who is let in is so while it is due, or later by what was put off.
            let is_right =
                nobody_outstays(&seen, &visits, is_put_off, may_stay, self.now) && (is_put_off || nobody_is_kept_out(&seen, &visits, gap));
            if !is_right && !is_never_seen {
                // That they were let in at another time is told once.
                lasts.push((i64::MIN, i64::MAX, sources.clone()));
                let was: Vec<String> = merged(&seen, gap).iter().map(ToString::to_string).collect();
                let must: Vec<String> = visits.iter().map(|visit| format!("{}-{}", clock(visit.since), clock(visit.until))).collect();
                let who = sources.prefixes().join(", ");
                wrong.push(format!("{who} was let in {}, and must be {}{}", or_never(&was), or_never(&must), self.declined(place)));
            }
        }
        let turns: Vec<i64> = lasts.iter().flat_map(|(since, by, _)| [*since, *by]).filter(|at| (0..=self.now).contains(at)).collect();
        let let_in = |at: i64| lasts.iter().filter(move |(since, by, _)| (*since..*by).contains(&at));
        let others = self.played.watch.beyond(place, &turns, |at| let_in(at).fold(Sources::default(), |all, (.., of)| all.union(of)));
        wrong.extend(others.into_iter().map(|span| format!("somebody else was let in {}", span)));
        wrong
    }

    /// What of the port was declined, and why: the end of a sentence about somebody who was kept out.
    fn declined(&self, place: &Place) -> String {
        let declined = audits_of(self.played, place).into_iter().filter(|audit| audit["kind"] == "declined");
        let at = |audit: &Value| told_at(self.played, audit).map(clock).unwrap_or_default();
        declined.map(|audit| format!("; declined at {}: {}", at(&audit), audit["why"].as_str().unwrap_or_default())).collect()
    }

    /// How much later than at once a disturbed sweep may find that one of these is over.
    fn next_sweep(&self, stays: &[&Stay]) -> i64 {
        if self.is_swept(stays.iter().copied()) && !self.is_undisturbed() { NEXT_SWEEP } else { 0 }
    }

    /// The claim: what nothing covers does not stay open without an alarm.
    fn uncovered(&self, place: &Place, end: &End, alarms: &[Alarm]) -> Vec<String> {
        let turns: Vec<i64> = end.lets_in.iter().flat_map(|stay| [stay.since.seconds(), stay.until.seconds()]).collect();
        let beyond = self.played.watch.beyond(place, &turns, |at| self.due(end, at));
        let mut alarms = alarms.to_vec();
        alarms.extend(self.failing_services(place));
        silent(&beyond, &proofs_of_going(self.played, place), &alarms, self.silence(end), self.now)
    }

    /// What is said to be failing, as an alarm about the port: while nothing can be judged, or nothing seen, no other one can be
    /// raised. What waits for a later sweep is named by the row that says so, in whatever story.
    fn failing_services(&self, place: &Place) -> Vec<Alarm> {
        let waits = |row: &Value| {
            let said = row["EventMessage"].as_str().unwrap_or_default();
            row["Code"] == "close-cap"
                && said.split([' ', ',']).any(|word| word.rsplit_once('/').is_some_and(|(_, vm)| vm.eq_ignore_ascii_case(&place.0)))
        };
        let alarm = |at: DateTime<Utc>, code: &str| {
            let at = seconds(self.played, at);
            let stands = if ["store", "close-cap"].contains(&code) { SAID_OF_THE_STORE } else { SAID_OF_OTHERS };
            let causes = vec![(code.to_owned(), at)];
            Alarm { vm: String::new(), port: None, causes, heard: Some(at), cleared: Some(at + stands) }
        };
        self.played.story.world(|state| {
            let rows = state.rows.iter().filter(|row| row.row["EventSubType"] == "service-failing");
            let rows = rows.filter(|row| waits(&row.row) || self.script.fails() && row.row["Code"] != "close-cap");
            rows.map(|row| alarm(row.at, row.row["Code"].as_str().unwrap_or_default())).collect()
        })
    }

    /// What is wrong where Portcullis only says what it would do: it would shut what nothing covers, and nothing else.
    fn unobserved(&self, place: &Place, end: &End) -> Vec<String> {
        if !self.is_undisturbed() {
            return Vec::new();
        }
        let would_close = audits_of(self.played, place).into_iter().filter(|audit| audit["kind"] == "would-close");
        let said: Vec<(i64, Sources)> = would_close.filter_map(|audit| Some((told_at(self.played, &audit)?, sources_of(&audit)))).collect();
        let is_due = |(at, of): &&(i64, Sources)| !of.is_empty() && self.due(end, *at).covers(of);
        let due = said.iter().filter(is_due);
        let mut wrong: Vec<String> = due
            .map(|(at, of)| format!("at {} it was said that {} would be shut, and is due", clock(*at), of.prefixes().join(", ")))
            .collect();
        // It is said of each group.
        wrong.dedup();
        for stay in end.lets_in.iter().filter(|stay| stay.uncovered) {
            let (from, since) = (stay.from.sources(), stay.since.seconds());
            let in_time = since..=since + self.most(opens_within) + UNCOVERED_WITHOUT_ALARM;
            if !said.iter().any(|(at, of)| in_time.contains(at) && of.covers(&from)) {
                wrong.push(format!("nothing says in time that {} would be shut", from.prefixes().join(", ")));
            }
        }
        wrong
    }

    /// Alarms about what stays open that were raised while all that was open was due.
    fn contradicted(&self, place: &Place, end: &End, alarms: &[Alarm]) -> Vec<String> {
        // A rule that returned may be gone again by then.
        let is_of_staying = |code: &String| ["lock", "denial", "missing-right"].contains(&code.as_str());
        let told = alarms.iter().filter(|alarm| alarm.port.is_some()).flat_map(|alarm| &alarm.causes);
        let is_due = |at: i64| self.played.watch.open_at(place, at).is_some_and(|open| self.due(end, at).covers(&open));
        let wrong = told.filter(|(code, at)| is_of_staying(code) && is_due(*at));
        wrong.map(|(code, at)| format!("an alarm {code} was raised at {}, and all that was open was due", clock(*at))).collect()
    }

    /// For how long what nothing covers may be open without an alarm. What Azure's answer names, or a rule that is there again, is an
    /// alarm at once.
    fn silence(&self, end: &End) -> i64 {
        let put_off = if self.disturbance.may_alarm() { PUT_OFF } else { 0 };
        if end.alarms.is_empty() || !end.alarms.iter().all(|code| AT_ONCE.contains(&code.as_str())) {
            // What somebody writes by other calls than JIT's has no event.
            let has_events = !self.script.calls() && !self.is_swept(end.lets_in.iter());
            let is_told = self.is_undisturbed() && !self.script.fails() && has_events;
            return if is_told { TOLD_WITHOUT_ALARM } else { UNCOVERED_WITHOUT_ALARM + put_off };
        }
        let by_sweep = if self.is_swept(end.lets_in.iter()) { NEXT_SWEEP } else { 0 };
        let disturbed = if self.is_undisturbed() { 0 } else { DISTURBED + by_sweep };
        self.most(opens_within) + self.most(shuts_within) + by_sweep + disturbed + put_off
    }

    /// Whether the sweep alone finds what is to be shut.
    fn is_swept<'s>(&self, mut stays: impl Iterator<Item = &'s Stay>) -> bool {
        self.any(|world| matches!(world.events, Events::Late | Events::Never)) || stays.any(|stay| stay.by_sweep)
    }

    fn told(&self, place: &Place, how: &Result<How, String>, alarms: &[Alarm]) -> String {
        let how = how.as_ref().map_or("WRONG".to_owned(), ToString::to_string);
        let open: Vec<String> = self.played.watch.beyond(place, &[], |_| Sources::default()).iter().map(ToString::to_string).collect();
        let alarms: Vec<String> = alarms.iter().map(ToString::to_string).collect();
        let mut told = format!("{} {}: {how}, open {}", place.0, place.1, or_never(&open));
        if !alarms.is_empty() {
            told.push_str(&format!(", {}", alarms.join(" ")));
        }
        told
    }
}

/// Invocations that failed: where nothing is in the way each succeeds.
fn failed(played: &Played) -> impl Iterator<Item = String> {
    let failures = played.story.sandbox.host.as_ref().map(|host| host.record().failures()).unwrap_or_default();
    failures.into_iter().map(|failure| format!("an invocation failed: {}: {:?}", failure.trigger, failure.outcome))
}

/// Rows of audit records of which there is another one: nothing was in the way of the first.
fn doubled_rows(played: &Played) -> impl Iterator<Item = String> {
    let ids: Vec<String> =
        played.story.world(|state| state.rows.iter().map(|row| row.row["AuditId"].as_str().unwrap_or_default().to_owned()).collect());
    let mut known = BTreeSet::new();
    ids.into_iter().filter(move |id| !known.insert(id.clone())).map(|id| format!("two rows of the audit record {id}"))
}

/// When Sentinel took the first row of each audit record.
fn heard(played: &Played) -> BTreeMap<String, i64> {
    let mut heard = BTreeMap::new();
    played.story.world(|state| {
        for taken in &state.rows {
            let id = taken.row["AuditId"].as_str().unwrap_or_default().to_owned();
            heard.entry(id).or_insert_with(|| seconds(played, taken.at));
        }
    });
    heard
}

/// Every alarm, as the audit records have them, and what no alarm can be told so: raised while it stands, or cleared without that.
fn alarms(played: &Played) -> (Vec<Alarm>, Vec<String>) {
    let heard = heard(played);
    let mut told: Vec<(i64, String, bool, Alarm)> = Vec::new();
    for audit in played.story.audits() {
        let raised = match audit["kind"].as_str() {
            Some("alarm-raised") => true,
            Some("alarm-cleared") => false,
            _ => continue,
        };
        let text = |field: &str| audit[field].as_str().unwrap_or_default().to_owned();
        let at = told_at(played, &audit).unwrap_or_default();
        let alarm = Alarm {
            vm: text("vm"),
            port: audit["port"].as_u64(),
            causes: vec![(text("code"), at)],
            heard: heard.get(audit["id"].as_str().unwrap_or_default()).copied(),
            cleared: None,
        };
        told.push((at, text("id"), raised, alarm));
    }
    told.sort_by(|(at, id, ..), (later, other, ..)| (at, id).cmp(&(later, other)));
    let mut alarms: Vec<Alarm> = Vec::new();
    let mut mistold = Vec::new();
    for (at, _, raised, told) in told {
        // Three may stand beside each other: that the machine cannot be looked at, that nobody decided on the port, and what keeps
        // the port open. Another cause of one of them takes the place of the one before.
        let is_its = |alarm: &&mut Alarm| {
            let is_same = alarm.vm.eq_ignore_ascii_case(&told.vm)
                && alarm.port == told.port
                && (alarm.code() == UNDECIDED) == (told.code() == UNDECIDED);
            alarm.cleared.is_none() && is_same
        };
        match (raised, alarms.iter_mut().rev().find(is_its)) {
            (true, Some(alarm)) if alarm.code() == told.code() => {
                mistold.push(format!("an alarm that stands was raised again: {}", told.of_what()))
            }
            (true, Some(alarm)) => alarm.causes.extend(told.causes),
            (true, None) => alarms.push(told),
            (false, Some(alarm)) => alarm.cleared = Some(at),
            (false, None) => mistold.push(format!("an alarm that does not stand was cleared: {}", told.of_what())),
        }
    }
    (alarms, mistold)
}

/// Those of a port, and of its machine as a whole.
fn of_port(alarms: &[Alarm], place: &Place) -> Vec<Alarm> {
    alarms.iter().filter(|alarm| alarm.is_about(&place.0, place.1)).cloned().collect()
}

/// Alerts that nobody expects: of any kind where nothing went wrong, and always that something was set aside as what cannot be used,
/// since nobody in a story brings such a thing.
fn unexpected_alerts(played: &Played, is_untroubled: bool) -> impl Iterator<Item = String> {
    let is_unexpected = move |audit: &Value| match audit["kind"].as_str() {
        Some("rejected") => true,
        Some("service-failing") => is_untroubled,
        _ => false,
    };
    let unexpected = played.story.audits().into_iter().filter(is_unexpected);
    unexpected.map(|alert| format!("an alert that nobody expects: {}", audit_line(&alert)))
}

/// Rows of which there is no audit record. That a sweep goes on has none; nor has that the store is down, which only a call can tell
/// that was in its way, or that work is slow, as it is on a machine that has too much to do.
fn rows_of_nothing(played: &Played) -> Vec<String> {
    let known: BTreeSet<String> = played.story.audits().iter().filter_map(|audit| audit["id"].as_str().map(str::to_owned)).collect();
    played.story.world(|state| {
        let was_in_the_way = state.met.iter().any(|met| met.effect != COUNTS);
        let has_none = |row: &Value| match (row["EventSubType"].as_str(), row["Code"].as_str()) {
            (Some("swept"), _) | (Some("service-failing"), Some("slow")) => true,
            (Some("service-failing"), Some("store")) => was_in_the_way,
            _ => false,
        };
        let rows = state.rows.iter().map(|taken| &taken.row);
        let of_nothing = rows.filter(|row| !has_none(row) && row["AuditId"].as_str().is_none_or(|id| !known.contains(id)));
        of_nothing.map(|row| format!("a row of which there is no audit record: {row}")).collect()
    })
}

/// A time for which a source is to be let in, in seconds, and what leaves it room.
#[derive(Clone, Copy)]
struct Visit {
    since: i64,
    until: i64,
    /// So much later it may begin.
    opens: i64,
    /// So much later than it must it may end, counted from its opening where that is later.
    shuts: i64,
    /// So much sooner it may end.
    early: i64,
    /// Whether it must be made at all.
    is_sure: bool,
}

/// Whether nobody was let in but for these visits, given in the order in which they begin, of which several may have followed one
/// another without anybody being shut out. Where all may come late, how late does not matter.
fn nobody_outstays(seen: &[Span], visits: &[Visit], may_come_late: bool, may_stay: bool, now: i64) -> bool {
    let is_due = |span: &Span| {
        let opened = |visit: &Visit| if may_come_late { span.from } else { span.from.min(visit.since + visit.opens) };
        let begun = visits.iter().filter(|visit| visit.since <= span.from);
        let Some(by) = begun.map(|visit| visit.until.max(opened(visit)) + visit.shuts).max() else { return false };
        let next = visits.iter().filter(|visit| visit.since > span.from);
        let by = next.fold(by, |by, visit| if visit.since <= by { by.max(visit.until + visit.shuts) } else { by });
        span.until.map_or(may_stay || by >= now, |ended| ended <= by)
    };
    seen.iter().all(is_due)
}

/// Whether each visit could be made. Whoever is let in again after such a gap was let in all the time.
fn nobody_is_kept_out(seen: &[Span], visits: &[Visit], gap: i64) -> bool {
    let seen = merged(seen, gap);
    visits.iter().filter(|visit| visit.is_sure).all(|visit| {
        let to = visit.since.max(visit.until - visit.early);
        seen.iter().any(|span| span.from <= visit.since + visit.opens && span.until.is_none_or(|ended| ended >= to))
    })
}

fn or_never(times: &[String]) -> String {
    if times.is_empty() { "never".to_owned() } else { times.join(", ") }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            How::Shut => "proved shut",
            How::ShutAfterAlarm => "shut after an alarm",
            How::AlarmStanding => "alarm standing",
            How::OpenCovered => "open, covered",
            How::NeverOpen => "never open",
        })
    }
}

/// An audit record's text, for a person who looks for what went wrong.
pub fn audit_line(audit: &Value) -> String {
    let text = |field: &str| audit[field].as_str().unwrap_or_default();
    format!("{} {} {} {}", text("at"), text("kind"), text("code"), text("what"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(heard: i64, cleared: Option<i64>) -> Alarm {
        Alarm { vm: String::new(), port: None, causes: vec![("slow".to_owned(), heard)], heard: Some(heard), cleared }
    }

    fn silent_in(spans: &[(i64, Option<i64>)], proofs: &[i64]) -> usize {
        let spans: Vec<Span> = spans.iter().map(|(from, until)| Span { from: *from, until: *until }).collect();
        silent(&spans, proofs, &[], 300, 10_000).len()
    }

    #[test]
    fn alarms_may_stand_one_after_another_and_not_apart() {
        for (alarms, stands) in [
            (vec![alarm(0, Some(500)), alarm(560, None)], true),
            (vec![alarm(0, Some(500)), alarm(561, None)], false),
            (vec![alarm(101, None)], false),
            (vec![alarm(100, Some(940))], true),
            (vec![alarm(100, Some(939))], false),
            (vec![Alarm { heard: None, ..alarm(0, None) }], false),
        ] {
            assert_eq!(unalarmed(&alarms, 100, 1_000).is_none(), stands, "{} alarms", alarms.len());
        }
    }

    #[test]
    fn what_was_open_without_an_alarm_is_told_with_the_times_at_which_one_had_to_stand() {
        let told = |alarms: &[Alarm]| silent(&[Span { from: 60, until: Some(1_200) }], &[], alarms, 300, 10_000);
        assert_eq!(told(&[]), ["it was open 1:00-20:00 without being due, and no alarm stood from 6:00 on"]);
        assert_eq!(told(&[alarm(500, None)]), ["it was open 1:00-20:00 without being due, and no alarm stood from 6:00 on until 8:20"]);
        assert_eq!(told(&[alarm(360, Some(600))]), ["it was open 1:00-20:00 without being due, and no alarm stood from 11:00 on"]);
        assert_eq!(told(&[alarm(360, Some(1_140))]), Vec::<String>::new());
    }

    #[test]
    fn visits_of_one_source_are_each_held_to_their_own_times() {
        let visit = |since, until| Visit { since, until, opens: 40, shuts: 30, early: 0, is_sure: true };
        let span = |from, until| Span { from, until: Some(until) };
        // Two visits, a minute apart, and what may be seen of them.
        let visits = [visit(0, 900), visit(960, 1_800)];
        let rows = [
            (vec![span(12, 904), span(972, 1_804)], true),
            (vec![span(40, 930), span(1_000, 1_830)], true),
            (vec![span(12, 500), span(530, 904), span(972, 1_804)], true),
            (vec![span(41, 904), span(972, 1_804)], false),
            (vec![span(12, 899), span(972, 1_804)], false),
            (vec![span(12, 931), span(972, 1_804)], false),
            (vec![span(12, 904), span(955, 1_804)], false),
            (vec![span(12, 904), span(972, 1_831)], false),
            (vec![span(12, 1_804)], false),
            (vec![span(12, 904)], false),
            (vec![span(12, 904), span(972, 1_804), span(2_000, 2_010)], false),
            (vec![], false),
        ];
        let is_right =
            |seen: &[Span], visits: &[Visit]| nobody_outstays(seen, visits, false, false, 9_000) && nobody_is_kept_out(seen, visits, 42);
        for (seen, right) in rows {
            assert_eq!(is_right(&seen, &visits), right, "{seen:?}");
        }
        // Whoever need not be out in between may be let in all the time, or be shut out and in again.
        let visits = [visit(0, 900), visit(920, 1_800)];
        for seen in [vec![span(12, 1_804)], vec![span(12, 904), span(932, 1_804)], vec![span(12, 904), span(960, 1_804)]] {
            assert!(is_right(&seen, &visits), "{seen:?}");
        }
        // What is shut at sight is seen, however late it came.
        let visits = [visit(300, 300)];
        assert!(is_right(&[span(340, 370)], &visits) && !is_right(&[span(340, 371)], &visits) && !is_right(&[span(341, 360)], &visits));
        // What came later than anybody can help is let in for no longer than it takes to shut it.
        let late = |seen: &[Span]| nobody_outstays(seen, &[visit(0, 900)], true, false, 9_000);
        assert!(late(&[span(1_500, 1_530)]) && !late(&[span(1_500, 1_531)]) && late(&[]));
        // What is open in the end is so only while it may be.
        let open = [Span { from: 12, until: None }];
        assert!(nobody_outstays(&open, &[visit(0, 9_000)], false, false, 9_000));
        assert!(!nobody_outstays(&open, &[visit(0, 900)], false, false, 9_000));
        assert!(nobody_outstays(&open, &[visit(0, 900)], false, true, 9_000));
    }

    #[test]
    fn what_is_open_again_in_a_minute_was_open_all_the_time_unless_it_was_proved_shut_in_between() {
        let returned = [(0, Some(200)), (209, Some(450))];
        assert_eq!(silent_in(&returned, &[]), 1);
        for (proof, silent) in [(199, 1), (200, 0), (208, 0), (209, 1)] {
            assert_eq!(silent_in(&returned, &[proof]), silent, "proved at {proof}");
        }
        assert_eq!(silent_in(&[(0, Some(200)), (209, Some(450)), (455, Some(800))], &[205]), 1, "what follows the proof is its own");
        assert_eq!(silent_in(&[(0, Some(200)), (261, Some(450))], &[]), 0, "more than a minute later is another time");
        assert_eq!(silent_in(&[(0, None)], &[5_000]), 1, "said to be proved while it was open");
        assert_eq!(silent_in(&[], &[5]), 0);
    }
}
