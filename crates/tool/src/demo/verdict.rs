//! The verdict: what went wrong in the hour, judged by the world. Of what Portcullis says, only its audit records count,
//! and those are held against what stood in the security groups.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use portcullis_domain::audit::{AuditKind, AuditRecord};
use portcullis_domain::source::Sources;
use portcullis_sandbox::estate;
use portcullis_sandbox::host::record::{Invocation, Outcome};
use portcullis_sandbox::state::{LogEntry, State};

use super::story;
use super::timeline::{counted, length, readable, times};
use super::watch::{DELETE, INITIATE, Opening, Place, Through, Watch, first_found, first_permitted};

/// The longest opening that is let stand, as the app's setting says it.
pub const LONGEST: &str = "PT8H";
const LONGEST_OPENING: TimeDelta = TimeDelta::hours(8);
/// An opening to the whole internet must be found by its event.
const FOUND_BY_EVENT: TimeDelta = TimeDelta::minutes(1);
/// What no event told must be found by the next sweep, which comes every five minutes.
const FOUND_BY_SWEEP: TimeDelta = TimeDelta::minutes(6);
/// What nothing but an event vouches for must be found when nothing confirmed it for half an hour.
const FOUND_UNCONFIRMED: TimeDelta = TimeDelta::minutes(37);
/// How long after the end that was asked for JIT may leave its rule.
const JIT_MAY_BE_LATE: TimeDelta = TimeDelta::minutes(2);

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    fault: Fault,
    /// What, in a sentence that names the thing.
    pub what: String,
    /// Why, as far as the world shows it; empty where nothing does.
    pub why: String,
}

/// Kinds of what can go wrong, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// A port that must be shut is open.
    Open,
    /// It was called shut before it was.
    FalseProof,
    /// Nothing proves that it is shut.
    Unproved,
    /// It was found too late, or never.
    Late,
    /// Azure was changed by a function that must not, or in a way that it must not.
    WrongHand,
    /// Sentinel does not know.
    Untold,
    /// A harmless opening was not left alone.
    NotLeft,
    /// A message, an event or an invocation was lost.
    Lost,
    /// The hour was not played as it should.
    NotPlayed,
    /// Azure itself did not do what it should.
    Azure,
}

impl Wrong {
    fn new(fault: Fault, what: impl Into<String>) -> Self {
        Wrong { fault, what: what.into(), why: String::new() }
    }

    fn because(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }
}

/// What should become of an opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Should {
    /// It must be found within this time, shut, and proved shut.
    BeShut(TimeDelta),
    /// It must stand until its own end.
    Stand,
}

/// What should become of an opening, by what was asked for and by whom alone.
fn should(state: &State, opening: &Opening) -> Should {
    let sources = Sources::read(opening.sources.iter().map(String::as_str));
    let of = |permitted: &[&str]| {
        let mut people = state.principals.iter().filter(|one| one.managed_identity || permitted.contains(&one.object_id.as_str()));
        people.any(|one| one.name == opening.by)
    };
    if sources.amounts_to_internet() {
        Should::BeShut(FOUND_BY_EVENT)
    } else if opening.until - opening.asked > LONGEST_OPENING {
        Should::BeShut(FOUND_BY_SWEEP)
    } else if of(&[estate::RESPONDER_OBJECT_ID]) {
        Should::Stand
    } else {
        Should::BeShut(FOUND_UNCONFIRMED)
    }
}

/// Everything that went wrong, the worst first; nothing if all is well.
pub fn wrong(state: &State, watch: &Watch, failed: &[Invocation]) -> Vec<Wrong> {
    let mut wrong: Vec<Wrong> = Vec::new();
    for opening in &watch.openings {
        wrong.extend(match should(state, opening) {
            Should::BeShut(within) => not_shut(state, watch, opening, within),
            Should::Stand => not_left(state, watch, opening),
        });
    }
    wrong.extend(not_told(state, watch));
    wrong.extend(by_the_wrong_hand(state));
    wrong.extend(lost(state, failed));
    wrong.extend(not_played(state, watch));
    wrong.sort_by_key(|one| one.fault);
    wrong
}

/// What is wrong with an opening that must be shut.
fn not_shut(state: &State, watch: &Watch, opening: &Opening, within: TimeDelta) -> Option<Wrong> {
    let place = &opening.place;
    let lets_in = opening.sources.join(", ");
    let now = clock(state.now);
    let Some(opened) = watch.opened(place) else { return Some(never_opened(place)) };
    let Some(shut) = watch.shut(place) else {
        let what = format!("the port {place} is still open to {lets_in} at {now}, {} after it was opened", length(state.now - opened));
        return Some(Wrong::new(Fault::Open, what).because(hindrance(state, watch, place)));
    };
    let proofs = || watch.audits_of(place).filter(|audit| audit.kind == AuditKind::ProvedShut);
    if let Some(early) = proofs().find(|proof| stood_at(watch, place, proof.at)) {
        return Some(Wrong::new(
            Fault::FalseProof,
            format!("the port {place} was called shut at {}, and a rule for it stood", clock(early.at)),
        ));
    }
    if proofs().all(|proof| proof.at < shut) {
        let what = format!("no rule opens the port {place} at {now}, but nothing proves that it stays shut");
        return Some(Wrong::new(Fault::Unproved, what).because(hindrance(state, watch, place)));
    }
    let Some(found) = first_found(watch, place) else {
        return Some(Wrong::new(Fault::Late, format!("no audit record says that {place} was found open")));
    };
    let late = found.at - opening.asked;
    (late > within).then(|| {
        let what = format!(
            "the port {place} was open to {lets_in} and was not found until {} after it was asked for ({}, {}); it must be within {}",
            length(late),
            how(watch.through(found)),
            clock(found.at),
            length(within)
        );
        Wrong::new(Fault::Late, what).because(events(state))
    })
}

fn how(through: Through) -> &'static str {
    match through {
        Through::Event => "by its event",
        Through::Sweep => "by the sweep",
        Through::Look => "by a look that was planned",
    }
}

fn never_opened(place: &Place) -> Wrong {
    Wrong::new(Fault::Azure, format!("JIT was asked for {place} and never wrote a rule for it"))
}

/// Whether a rule let anybody in at a place then.
fn stood_at(watch: &Watch, place: &Place, at: DateTime<Utc>) -> bool {
    let mut times = watch.rules_of(place).flat_map(|rule| &rule.stood);
    times.any(|(from, until)| *from <= at && until.is_none_or(|until| at < until))
}

/// What is wrong with an opening that must be left alone.
fn not_left(state: &State, watch: &Watch, opening: &Opening) -> Option<Wrong> {
    let place = &opening.place;
    let end = opening.until.min(state.now);
    match (watch.opened(place), watch.shut(place)) {
        (None, _) => return Some(never_opened(place)),
        (Some(_), Some(shut)) if shut < end => {
            let what = format!("{place} was harmless and might be open until {}, but was shut at {}", clock(end), clock(shut));
            return Some(Wrong::new(Fault::NotLeft, what));
        }
        (Some(_), None) if state.now > opening.until + JIT_MAY_BE_LATE => {
            let what = format!("{place}, harmless and asked for until {}, is still open at {}", clock(opening.until), clock(state.now));
            return Some(Wrong::new(Fault::Azure, what));
        }
        (Some(_), _) => {}
    }
    if first_permitted(watch, place).is_none() {
        return Some(Wrong::new(Fault::NotLeft, format!("{place} might be open, and no audit record names the rule that permits it")));
    }
    None
}

/// What kept a port open, by the world's log, and the alarm that stands for it.
fn hindrance(state: &State, watch: &Watch, place: &Place) -> String {
    let of_place = |entry: &&LogEntry| watch.rules.get(&entry.target.to_ascii_lowercase()).is_some_and(|rule| rule.place == *place);
    let deletes: Vec<u16> =
        ours(state).filter(|entry| entry.what.eq_ignore_ascii_case(DELETE)).filter(of_place).map(|entry| entry.status).collect();
    let refused: Vec<u16> = deletes.iter().copied().filter(|status| *status >= 400).collect();
    let answers = refused.iter().collect::<BTreeSet<_>>().into_iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    let returned = watch.returns(place);
    let what = match (deletes.len(), refused.len()) {
        (0, _) => "Portcullis deleted none of its rules".to_owned(),
        (1, 1) => format!("Azure refused the one delete of its rules ({answers})"),
        (tried, refused) if tried == refused => format!("Azure refused all {tried} deletes of its rules ({answers})"),
        _ if returned > 0 => {
            let sent = watch.audits_of(place).filter(|audit| audit.kind == AuditKind::Close).count();
            format!("Portcullis sent the delete of a rule {} and JIT wrote one again {}", times(sent), times(returned))
        }
        (tried, refused) if refused > 0 => format!("Azure refused {refused} of the {tried} deletes of its rules ({answers})"),
        (tried, _) => format!("Portcullis sent {} of its rules", counted(tried, "delete")),
    };
    let alarm = match standing_alarm(watch, place) {
        Some(alarm) => format!("alarm `{}` raised at {}: {}", alarm.code, clock(alarm.at), readable(&alarm.why)),
        None => "no alarm stands".to_owned(),
    };
    format!("{what}; {alarm}")
}

/// The alarm about a place that was raised last and is not cleared.
fn standing_alarm<'a>(watch: &'a Watch, place: &'a Place) -> Option<&'a AuditRecord> {
    let last = watch.audits_of(place).rev().find(|audit| matches!(audit.kind, AuditKind::AlarmRaised | AuditKind::AlarmCleared));
    last.filter(|audit| audit.kind == AuditKind::AlarmRaised)
}

fn events(state: &State) -> String {
    let deliveries: Vec<u16> = state.log.iter().filter(|entry| entry.face == "eventgrid").map(|entry| entry.status).collect();
    let taken = deliveries.iter().filter(|status| **status < 400).count();
    match (deliveries.len(), taken) {
        (0, _) => "Event Grid delivered no event in the whole hour".to_owned(),
        (all, 0) => format!("Portcullis took none of the {} that Event Grid delivered", counted(all, "event")),
        (all, taken) => format!("Portcullis took {taken} of the {} that Event Grid delivered", counted(all, "event")),
    }
}

/// Audit records whose row did not arrive.
fn not_told(state: &State, watch: &Watch) -> Option<Wrong> {
    let missing = watch.audits.iter().filter(|audit| !has_row(state, audit)).count();
    if missing == 0 {
        return None;
    }
    let calls = state.log.iter().filter(|entry| entry.face == "logs");
    let mut answers: BTreeMap<u16, usize> = BTreeMap::new();
    for entry in calls {
        *answers.entry(entry.status).or_default() += 1;
    }
    let told: Vec<String> = answers.iter().map(|(status, answers)| format!("{status} {}", times(*answers))).collect();
    let why = match told.is_empty() {
        true => "nothing was sent to the ingestion endpoint".to_owned(),
        false => format!("the ingestion endpoint answered {}", told.join(", ")),
    };
    let of = match watch.audits.len() {
        1 => "the one audit record does not have".to_owned(),
        all if all == missing => format!("none of the {all} audit records has"),
        all if missing == 1 => format!("1 of the {all} audit records does not have"),
        all => format!("{missing} of the {all} audit records do not have"),
    };
    Some(Wrong::new(Fault::Untold, format!("{of} a row in Sentinel")).because(why))
}

/// Whether the row of an audit record arrived.
pub fn has_row(state: &State, audit: &AuditRecord) -> bool {
    state.rows.iter().any(|row| row.row["AuditId"] == audit.id.as_str())
}

/// Calls of the app that were meant to change Azure and must not be.
fn by_the_wrong_hand(state: &State) -> impl Iterator<Item = Wrong> {
    let is_right = |entry: &LogEntry| {
        let of_approval = entry.function.as_deref() == Some("approval");
        let deletes = entry.what.eq_ignore_ascii_case(DELETE) && entry.target.contains("-JITRule-");
        of_approval && (deletes || entry.what.eq_ignore_ascii_case(INITIATE))
    };
    ours(state).filter(move |entry| !is_right(entry)).map(|entry| {
        let function = entry.function.as_deref().unwrap_or("no function");
        let what = format!("{function} called {} on {} at {}", entry.what, readable(&entry.target), clock(entry.at));
        Wrong::new(Fault::WrongHand, what)
            .because("only approval may change Azure, and only by deleting JIT's allow rules and asking JIT to open")
    })
}

/// Calls of the app that were meant to change something in Azure.
fn ours(state: &State) -> impl Iterator<Item = &LogEntry> {
    let apps: BTreeSet<&str> = state.principals.iter().filter(|one| one.managed_identity).map(|one| one.object_id.as_str()).collect();
    state.log.iter().filter(move |entry| entry.face == "arm" && apps.contains(entry.object_id.as_str()))
}

/// Messages and events that nobody will deliver any more, and invocations that failed.
fn lost(state: &State, failed: &[Invocation]) -> Vec<Wrong> {
    let messages = state.queues.iter().flat_map(|(name, queue)| {
        queue.dead_letters.iter().map(move |message| {
            let reason = message.dead_letter_reason.as_deref().unwrap_or("no reason given");
            Wrong::new(Fault::Lost, format!("a message of the queue {name} is among the dead letters ({reason})"))
                .because(message.body.clone())
        })
    });
    let events = state.event_grid.dead_letters.iter().map(|event| {
        let reason = event["deadLetterReason"].as_str().or(event["deadletterreason"].as_str()).unwrap_or("no reason given");
        Wrong::new(Fault::Lost, format!("Event Grid gave an event up ({reason})"))
    });
    let failures = failed.iter().filter_map(|one| match &one.outcome {
        Outcome::Succeeded => None,
        Outcome::Failed { reason } => {
            Some(Wrong::new(Fault::Lost, format!("the invocation of {} at {} failed", one.function, clock(one.at))).because(reason.clone()))
        }
    });
    messages.chain(events).chain(failures).collect()
}

fn not_played(state: &State, watch: &Watch) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    // Portcullis may ask again for what stays of an opening that has to go.
    if watch.openings.len() < story::OPENINGS {
        let what = format!("JIT's records tell of {} and not of {}", counted(watch.openings.len(), "opening"), story::OPENINGS);
        wrong.push(Wrong::new(Fault::NotPlayed, what));
    }
    let end = story::end(portcullis_sandbox::state::beginning());
    if state.now != end {
        let what = format!("the world's clock stands at {} and not at {}", clock(state.now), clock(end));
        wrong.push(Wrong::new(Fault::NotPlayed, what));
    }
    wrong
}

fn clock(at: DateTime<Utc>) -> String {
    at.format("%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use portcullis_domain::finding::Severity;
    use portcullis_sandbox::blob;
    use portcullis_sandbox::state::{Caller, IngestedRow, Message};
    use serde_json::json;

    use super::super::watch::Rule;
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        portcullis_sandbox::state::beginning() + TimeDelta::seconds(second)
    }

    fn place(vm: &str) -> Place {
        Place { vm: vm.to_owned(), port: 22 }
    }

    fn opening(vm: &str, source: &str, hours: i64) -> Opening {
        let by = if vm == "db-1" { "Rosa Responder" } else { "Ada Admin" };
        Opening { place: place(vm), asked: at(0), until: at(hours * 3600), by: by.to_owned(), sources: vec![source.to_owned()] }
    }

    fn audit(vm: &str, kind: AuditKind, second: i64) -> AuditRecord {
        let id = estate::resource_id(estate::SUBSCRIPTION, estate::GROUP, "Microsoft.Compute/virtualMachines", vm);
        AuditRecord {
            id: format!("{vm}-{}-{second}", kind.text()),
            vm: Some(id.parse().unwrap()),
            port: Some(22),
            what: "what".to_owned(),
            why: "why".to_owned(),
            ..AuditRecord::of_service("", at(second), kind, "code", Severity::High)
        }
    }

    /// An hour in which all went well: a responder's opening was adopted, one to the whole internet and one for too long were
    /// shut.
    struct Hour {
        state: State,
        watch: Watch,
    }

    impl Hour {
        fn good() -> Hour {
            let mut state = State::default();
            estate::small(&mut state);
            state.now = at(3600);
            let mut hour = Hour { state, watch: Watch::default() };
            for n in 3..story::OPENINGS {
                // What else is asked for in the hour, all well.
                let vm = format!("more-{n}");
                hour.watch.openings.push(Opening { by: "portcullis".to_owned(), ..opening(&vm, "203.0.113.4", 2) });
                let stood = vec![(at(12), None)];
                let rule = Rule { name: vm.clone(), group: "nsg".to_owned(), place: place(&vm), sources: Vec::new(), stood };
                hour.watch.rules.insert(format!("/nsg/{vm}"), rule);
                hour.audits(&vm, AuditKind::Opened, 20);
            }
            for (vm, source, hours, shut) in
                [("db-1", "203.0.113.7", 2, None), ("web-1", "*", 1, Some(30)), ("web-2", "203.0.113.7", 24, Some(320))]
            {
                hour.watch.openings.push(opening(vm, source, hours));
                let rule = Rule {
                    name: vm.to_owned(),
                    group: "nsg".to_owned(),
                    place: place(vm),
                    sources: vec![source.to_owned()],
                    stood: vec![(at(12), shut.map(at))],
                };
                hour.watch.rules.insert(format!("/nsg/{vm}"), rule);
                let kind = if shut.is_some() { AuditKind::FindingAppeared } else { AuditKind::Adopted };
                hour.audits(vm, kind, shut.unwrap_or(30) - 10);
                if let Some(shut) = shut {
                    hour.audits(vm, AuditKind::ProvedShut, shut + 60);
                }
            }
            hour
        }

        fn audits(&mut self, vm: &str, kind: AuditKind, second: i64) {
            let audit = audit(vm, kind, second);
            self.state.rows.push(IngestedRow {
                at: audit.at,
                rule: String::new(),
                stream: String::new(),
                row: json!({"AuditId": audit.id}),
            });
            self.watch.audits.push(audit);
        }

        fn stood(&mut self, vm: &str, until: Option<i64>) {
            self.watch.rules.get_mut(&format!("/nsg/{vm}")).unwrap().stood.last_mut().unwrap().1 = until.map(at);
        }

        /// Azure writes a rule, and the watch looks.
        fn wrote(&mut self, target: &str) {
            self.state.record(&Caller::default(), "arm", "Microsoft.Network/networkSecurityGroups/securityRules/write", target, 201);
            let rules = self.watch.rules.clone();
            self.watch.look(&self.state);
            self.watch.rules = rules;
        }

        fn called(&mut self, function: &str, target: &str, status: u16) {
            let caller =
                Caller { object_id: estate::PRODUCT_OBJECT_ID.to_owned(), function: Some(function.to_owned()), ..Caller::default() };
            self.state.record(&caller, "arm", DELETE, target, status);
        }

        fn wrong(&self) -> Vec<String> {
            let wrong = wrong(&self.state, &self.watch, &[]);
            wrong.into_iter().map(|one| format!("{}: {}", one.what, one.why)).collect()
        }
    }

    #[test]
    fn nothing_is_wrong_with_a_good_hour() {
        assert_eq!(Hour::good().wrong(), Vec::<String>::new());
    }

    #[test]
    fn a_port_that_is_open_at_the_end_is_told_with_what_kept_it_open() {
        let mut hour = Hour::good();
        hour.stood("web-1", None);
        hour.called("approval", "/NSG/web-1", 200);
        let open = "the port 22 of web-1 is still open to * at 10:00:00, 59 min 48 s after it was opened";
        let told = |hour: &Hour| hour.wrong().into_iter().find(|what| what.contains("still open")).unwrap();
        assert_eq!(told(&hour), format!("{open}: Portcullis sent 1 delete of its rules; no alarm stands"));
        hour.called("approval", "/nsg/web-1", 409);
        assert_eq!(told(&hour), format!("{open}: Azure refused 1 of the 2 deletes of its rules (409); no alarm stands"));
        hour.audits("web-1", AuditKind::AlarmRaised, 300);
        hour.audits("web-1", AuditKind::Close, 25);
        hour.wrote("/nsg/web-1");
        hour.wrote("/nsg/web-1");
        let said = told(&hour);
        assert!(
            said.ends_with(
                ": Portcullis sent the delete of a rule once and JIT wrote one again once; alarm `code` raised at 09:05:00: why"
            ),
            "{said}"
        );
    }

    #[test]
    fn a_proof_is_believed_only_if_no_rule_stood_and_none_came_after_it() {
        let mut hour = Hour::good();
        hour.stood("web-1", Some(95));
        assert_eq!(hour.wrong(), ["the port 22 of web-1 was called shut at 09:01:30, and a rule for it stood: "]);
        let mut hour = Hour::good();
        hour.watch.rules.get_mut("/nsg/web-1").unwrap().stood.push((at(100), Some(at(110))));
        assert!(hour.wrong()[0].starts_with("no rule opens the port 22 of web-1 at 10:00:00, but nothing proves that it stays shut: "));
    }

    #[test]
    fn an_opening_to_the_internet_must_be_found_by_its_event() {
        let mut hour = Hour::good();
        hour.watch.audits.retain(|audit| audit.id != "web-1-finding-appeared-20");
        hour.audits("web-1", AuditKind::FindingAppeared, 61);
        let expected = "the port 22 of web-1 was open to * and was not found until 1 min 1 s after it was asked for (by a look that was planned, 09:01:01); it must be within 1 min: Event Grid delivered no event in the whole hour";
        assert_eq!(hour.wrong(), [expected]);
    }

    #[test]
    fn a_harmless_opening_must_stand_until_its_end_and_be_reported() {
        let mut hour = Hour::good();
        hour.stood("db-1", Some(3599));
        assert_eq!(hour.wrong(), ["22 of db-1 was harmless and might be open until 10:00:00, but was shut at 09:59:59: "]);
        let mut hour = Hour::good();
        hour.watch.audits.retain(|audit| audit.vm.as_ref().unwrap().name() != "db-1");
        assert_eq!(hour.wrong(), ["22 of db-1 might be open, and no audit record names the rule that permits it: "]);
    }

    #[test]
    fn rows_that_did_not_arrive_are_counted() {
        let mut hour = Hour::good();
        hour.state.rows.pop();
        assert_eq!(hour.wrong(), ["1 of the 9 audit records does not have a row in Sentinel: nothing was sent to the ingestion endpoint"]);
        hour.state.rows.clear();
        hour.state.record(&Caller::default(), "logs", "ingest", "", 403);
        assert_eq!(hour.wrong(), ["none of the 9 audit records has a row in Sentinel: the ingestion endpoint answered 403 once"]);
    }

    #[test]
    fn only_approval_may_delete_and_only_allow_rules_of_jit() {
        let rule = "/s/securityRules/MicrosoftDefenderForCloud-JITRule-1-0A";
        for (function, target, is_wrong) in
            [("approval", rule, false), ("sweep_shard", rule, true), ("approval", "/s/securityRules/AllowRdp", true)]
        {
            let mut hour = Hour::good();
            hour.called(function, target, 200);
            assert_eq!(hour.wrong().len(), usize::from(is_wrong), "{function} {target}");
        }
    }

    #[test]
    fn what_was_given_up_or_not_played_is_told() {
        let mut hour = Hour::good();
        let dead = Message { body: "{}".to_owned(), dead_letter_reason: Some("MaxDeliveryCountExceeded".to_owned()), ..Message::default() };
        hour.state.queues.get_mut("approval").unwrap().dead_letters.push(dead);
        hour.state.event_grid.dead_letters.push(json!({"deadLetterReason": "TimeToLiveExceeded"}));
        hour.state.now = at(3599);
        let expected = [
            "a message of the queue approval is among the dead letters (MaxDeliveryCountExceeded): {}",
            "Event Grid gave an event up (TimeToLiveExceeded): ",
            "the world's clock stands at 09:59:59 and not at 10:00:00: ",
        ];
        assert_eq!(hour.wrong(), expected);
    }

    #[test]
    fn the_watch_reads_a_world_that_was_not_played() {
        let mut state = State::default();
        estate::small(&mut state);
        blob::put(&mut state, "audit", "x.json", b"no record", "application/json");
        let mut watch = Watch::default();
        assert_eq!(watch.look(&state), []);
        assert!(watch.rules.is_empty(), "deny rules open nothing");
    }
}
