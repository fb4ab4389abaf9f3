//! What JIT's allow rules let in at each port, at every instant at which anything happened: read from the world's security
//! groups alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, Utc};
use portcullis_domain::source::Sources;
use portcullis_sandbox::arm::jit_records;
use portcullis_sandbox::arm::jit_rules::{JitName, JitRule, parse_name, vm_number};
use portcullis_sandbox::state::State;
use serde_json::Value;

/// A port of a machine, by the machine's name.
pub type Place = (String, u16);

/// What each group in which JIT's rules keep a port, or open it, lets in there: nothing, where a rule that denies stands alone.
type Gates = BTreeMap<String, BTreeSet<String>>;

/// What was let in from when on.
#[derive(Clone, Debug)]
struct Instant {
    seconds: i64,
    gates: BTreeMap<Place, Gates>,
    /// The ports that JIT was asked to open, and has not opened yet, before the end of what was asked for.
    initiating: BTreeSet<Place>,
}

/// What some group lets in.
fn of_any(gates: &Gates) -> Option<Sources> {
    let texts: Vec<&str> = gates.values().flatten().map(String::as_str).collect();
    (!texts.is_empty()).then(|| Sources::read(texts))
}

/// Whether every group lets all of these in, since traffic passes a network interface's group and its subnet's.
fn every_gate_lets_in(gates: &Gates, sources: &Sources) -> bool {
    gates.values().all(|texts| Sources::read(texts.iter().map(String::as_str)).covers(sources))
}

/// A time in seconds from the beginning; without an end while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Since when.
    pub from: i64,
    /// Until when.
    pub until: Option<i64>,
}

impl Span {
    /// How long it lasted by `now`.
    pub fn length(self, now: i64) -> i64 {
        self.until.unwrap_or(now) - self.from
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", clock(self.from), self.until.map_or("?".to_owned(), clock))
    }
}

/// Seconds as minutes and seconds.
pub fn clock(seconds: i64) -> String {
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// Everything that was seen of a world's doors.
#[derive(Clone, Debug)]
pub struct Watch {
    /// The beginning.
    pub begun: DateTime<Utc>,
    machines: BTreeMap<i32, String>,
    instants: Vec<Instant>,
}

impl Watch {
    /// Begins to watch these machines, each named with its id.
    pub fn begin<'a>(now: DateTime<Utc>, machines: impl IntoIterator<Item = (&'a str, String)>) -> Watch {
        let machines = machines.into_iter().map(|(name, id)| (vm_number(&id), name.to_owned())).collect();
        Watch { begun: now, machines, instants: Vec::new() }
    }

    /// Looks at the world.
    pub fn look(&mut self, state: &State) {
        let mut gates: BTreeMap<Place, Gates> = BTreeMap::new();
        for group in state.resources.of_type("Microsoft.Network/networkSecurityGroups") {
            for rule in group["properties"]["securityRules"].as_array().into_iter().flatten() {
                let Some((places, sources)) = self.keeps(state, group, rule) else { continue };
                for place in places {
                    let gate = gates.entry(place).or_default().entry(group["id"].to_string()).or_default();
                    gate.extend(sources.iter().cloned());
                }
            }
        }
        let initiating = self.asked_of_jit(state);
        let seconds = (state.now - self.begun).num_seconds();
        match self.instants.last_mut() {
            Some(last) if last.gates == gates && last.initiating == initiating => {}
            // What changes twice within a second is seen as it was left.
            Some(last) if last.seconds == seconds => (last.gates, last.initiating) = (gates, initiating),
            _ => self.instants.push(Instant { seconds, gates, initiating }),
        }
    }

    fn asked_of_jit(&self, state: &State) -> BTreeSet<Place> {
        let policies = state.resources.of_type("Microsoft.Security/locations/jitNetworkAccessPolicies");
        let under_way = policies.flat_map(jit_records::all).filter(|port| port.status == "Initiating" && port.end > Some(state.now));
        under_way.filter_map(|port| Some((self.machines.get(&vm_number(&port.vm))?.clone(), port.number))).collect()
    }

    /// The times at which JIT was opening a port that it had not opened yet.
    pub fn initiating(&self, place: &Place) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for instant in &self.instants {
            turned(&mut spans, instant.seconds, instant.initiating.contains(place));
        }
        spans
    }

    /// The ports that a rule of JIT's is about, and whom it lets in there: nobody, if it denies.
    fn keeps(&self, state: &State, group: &Value, rule: &Value) -> Option<(Vec<Place>, Vec<String>)> {
        let (_, lets_in) = jit_rule(rule)?;
        let properties = &rule["properties"];
        let many = properties["sourceAddressPrefixes"].as_array().into_iter().flatten();
        let sources = properties.get("sourceAddressPrefix").into_iter().chain(many).filter_map(Value::as_str).map(str::to_owned);
        let number = machine_of(state, group, rule)?;
        let machine = self.machines.get(&number).cloned().unwrap_or_else(|| format!("machine {number}"));
        let places = ports(properties).into_iter().map(|port| (machine.clone(), port)).collect();
        Some((places, sources.filter(|_| lets_in).collect()))
    }

    /// Every port at which anything was ever let in.
    pub fn places(&self) -> BTreeSet<Place> {
        let gates = self.instants.iter().flat_map(|instant| &instant.gates);
        gates.filter(|(_, gates)| of_any(gates).is_some()).map(|(place, _)| place.clone()).collect()
    }

    /// The times at which somebody who comes from any of these sources could reach a port: every group that JIT keeps it in lets them in.
    pub fn let_in(&self, place: &Place, sources: &Sources) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for instant in &self.instants {
            let gates = instant.gates.get(place);
            turned(&mut spans, instant.seconds, gates.is_some_and(|gates| every_gate_lets_in(gates, sources)));
        }
        spans
    }

    /// The times at which a port let in anything beyond what was due. `due` gives the sources that were, by the second;
    /// `turns` are the seconds at which that changed.
    pub fn beyond(&self, place: &Place, turns: &[i64], due: impl Fn(i64) -> Sources) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let mut seconds: Vec<i64> = self.instants.iter().map(|instant| instant.seconds).chain(turns.iter().copied()).collect();
        seconds.sort_unstable();
        seconds.dedup();
        for at in seconds {
            turned(&mut spans, at, self.open_at(place, at).is_some_and(|open| !due(at).covers(&open)));
        }
        spans
    }

    /// What any group let in at a port at a second; nothing if it was shut.
    pub fn open_at(&self, place: &Place, seconds: i64) -> Option<Sources> {
        let instant = self.instants.iter().rev().find(|instant| instant.seconds <= seconds)?;
        of_any(instant.gates.get(place)?)
    }

    /// What a port lets in now, as the rules say it; nothing if it is shut.
    pub fn open_now(&self, place: &Place) -> Option<Sources> {
        self.open_at(place, i64::MAX)
    }
}

/// Begins a span at a second if it is so from then on, or ends the one that lasts if it is not.
fn turned(spans: &mut Vec<Span>, at: i64, is_so: bool) {
    match spans.last_mut().filter(|last| last.until.is_none()) {
        Some(last) if !is_so => last.until = Some(at),
        None if is_so => spans.push(Span { from: at, until: None }),
        _ => {}
    }
}

/// The ports that a rule is about: those that it names, and of a range those that JIT opens in the small estate.
/// The number of the machine that a rule of JIT's is about: the one behind its group that has the rule's one address, and where none has,
/// that of its name.
pub(crate) fn machine_of(state: &State, group: &Value, rule: &Value) -> Option<i32> {
    machine_behind(state, group, rule).or_else(|| Some(parse_name(rule["name"].as_str()?)?.number))
}

fn machine_behind(state: &State, group: &Value, rule: &Value) -> Option<i32> {
    let to = rule["properties"]["destinationAddressPrefix"].as_str()?;
    let to = to.strip_suffix("/32").unwrap_or(to);
    let is_of = |list: &str, id: &Value| {
        let known = group["properties"][list].as_array().into_iter().flatten();
        id.as_str().is_some_and(|id| known.filter_map(|one| one["id"].as_str()).any(|one| one.eq_ignore_ascii_case(id)))
    };
    let leads_to = |nic: &&Value| {
        let mut configurations = nic["properties"]["ipConfigurations"].as_array().into_iter().flatten();
        configurations.any(|one| {
            let properties = &one["properties"];
            properties["privateIPAddress"] == to
                && (is_of("networkInterfaces", &nic["id"]) || is_of("subnets", &properties["subnet"]["id"]))
        })
    };
    let nic = state.resources.of_type("Microsoft.Network/networkInterfaces").find(leads_to)?;
    nic["properties"]["virtualMachine"]["id"].as_str().map(vm_number)
}

fn ports(properties: &Value) -> BTreeSet<u16> {
    let many = properties["destinationPortRanges"].as_array().into_iter().flatten();
    let texts = properties.get("destinationPortRange").into_iter().chain(many).filter_map(Value::as_str);
    let of_range = |text: &str| {
        let (low, high) = text.split_once('-').unwrap_or(if text == "*" { ("0", "65535") } else { (text, text) });
        let (low, high): (u16, u16) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
        Some(if low == high { vec![low] } else { JIT_PORTS.into_iter().filter(|port| (low..=high).contains(port)).collect() })
    };
    texts.filter_map(of_range).flatten().collect()
}

/// The ports of the small estate's JIT policy.
pub(crate) const JIT_PORTS: [u16; 2] = [22, 3389];

/// The name of a rule by which JIT lets somebody in; nothing of any other rule, however alike it looks.
pub fn jit_allow(rule: &Value) -> Option<JitName> {
    jit_rule(rule).filter(|(_, lets_in)| *lets_in).map(|(name, _)| name)
}

/// The name of a rule by which JIT lets somebody in or keeps everybody out, and which of both; nothing of any other rule.
fn jit_rule(rule: &Value) -> Option<(JitName, bool)> {
    let is = |field: &str, wanted: &str| rule["properties"][field].as_str().is_some_and(|text| text.eq_ignore_ascii_case(wanted));
    let name = parse_name(rule["name"].as_str()?).filter(|_| is("direction", "Inbound"))?;
    match name.rule {
        JitRule::Allow if is("access", "Allow") => Some((name, true)),
        JitRule::Deny if is("access", "Deny") => Some((name, false)),
        _ => None,
    }
}

/// Spans with at most so many seconds between them as one.
pub fn merged(spans: &[Span], gap: i64) -> Vec<Span> {
    let mut merged: Vec<Span> = Vec::new();
    for span in spans {
        match merged.last_mut().filter(|last| last.until.is_some_and(|until| span.from - until <= gap)) {
            Some(last) => last.until = span.until,
            None => merged.push(*span),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use portcullis_sandbox::estate;
    use serde_json::json;

    use super::*;
    use crate::story::vm;

    fn watched(instants: &[(i64, &[&str])]) -> (Watch, Place) {
        let by_group: Vec<(i64, [&[&str]; 1])> = instants.iter().map(|(seconds, texts)| (*seconds, [*texts])).collect();
        watched_at(&by_group)
    }

    /// The same of several groups.
    fn watched_at<const GROUPS: usize>(instants: &[(i64, [&[&str]; GROUPS])]) -> (Watch, Place) {
        let place = ("web-1".to_owned(), 22);
        let instants = instants.iter().map(|(seconds, groups)| {
            let gate = |(group, texts): (usize, &&[&str])| (group.to_string(), texts.iter().map(|text| (*text).to_owned()).collect());
            let gates = BTreeMap::from([(place.clone(), groups.iter().enumerate().map(gate).collect())]);
            Instant { seconds: *seconds, gates, initiating: BTreeSet::new() }
        });
        let watch = Watch { begun: DateTime::UNIX_EPOCH, machines: BTreeMap::new(), instants: instants.collect() };
        (watch, place)
    }

    fn span(from: i64, until: i64) -> Span {
        Span { from, until: Some(until) }
    }

    #[test]
    fn a_source_is_in_while_the_rules_cover_it() {
        let (watch, place) = watched(&[(0, &[]), (5, &["10.0.0.1"]), (9, &["10.0.0.0/24"]), (20, &[]), (30, &["10.0.0.1"])]);
        assert_eq!(watch.let_in(&place, &Sources::read(["10.0.0.1"])), [span(5, 20), Span { from: 30, until: None }]);
        assert_eq!(watch.let_in(&place, &Sources::read(["10.0.0.2"])), [span(9, 20)]);
    }

    #[test]
    fn whoever_one_group_keeps_out_is_not_in_and_what_one_group_lets_in_is_open() {
        let (watch, place) = watched_at(&[(0, [&[], &[]]), (5, [&["10.0.0.1"], &["10.0.0.0/24"]]), (9, [&["10.0.0.1"], &[]])]);
        assert_eq!(watch.let_in(&place, &Sources::read(["10.0.0.1"])), [span(5, 9)]);
        assert_eq!(watch.let_in(&place, &Sources::read(["10.0.0.2"])), []);
        assert_eq!(watch.beyond(&place, &[], |_| Sources::default()), [Span { from: 5, until: None }]);
        assert_eq!(watch.open_now(&place), Some(Sources::read(["10.0.0.1"])));
    }

    #[test]
    fn a_rule_is_about_the_machine_that_it_leads_to_whatever_it_is_called() {
        let mut state = State::default();
        estate::small(&mut state);
        let ids = ["web-1", "web-2"].map(|name| (name, vm(name)));
        // By its subnet's group, by its own, by that of another machine, and to nobody.
        for (of, group, to, opens) in [
            ("web-1", "nsg-servers", "10.0.0.5", "web-2"),
            ("web-1", "nsg-web-2", "10.0.0.5/32", "web-2"),
            ("web-1", "nsg-web-1", "10.0.0.5", "web-1"),
            ("web-1", "nsg-servers", "10.9.9.9", "web-1"),
        ] {
            let number = vm_number(&vm(of));
            let rule = json!({"name": format!("SecurityCenter-JITRule-{number}-{}", "0".repeat(32)), "properties": {
                "access": "Allow", "direction": "Inbound", "destinationPortRange": "22",
                "sourceAddressPrefix": "192.0.2.9", "destinationAddressPrefix": to}});
            let mut state = state.clone();
            let id = estate::resource_id(estate::SUBSCRIPTION, estate::GROUP, "Microsoft.Network/networkSecurityGroups", group);
            state.resources.get_mut(&id).unwrap()["properties"]["securityRules"] = json!([rule]);
            let mut watch = Watch::begin(state.now, ids.clone());
            watch.look(&state);
            assert_eq!(watch.places(), BTreeSet::from([(opens.to_owned(), 22)]), "{of} {group} {to}");
        }
    }

    #[test]
    fn what_is_beyond_begins_with_an_opening_or_with_an_end_of_what_was_due() {
        let (watch, place) = watched(&[(0, &[]), (5, &["10.0.0.1"]), (50, &["10.0.0.1", "10.0.0.2"]), (60, &["10.0.0.1"]), (100, &[])]);
        let due = |at: i64| if at < 80 { Sources::read(["10.0.0.1"]) } else { Sources::default() };
        assert_eq!(watch.beyond(&place, &[80], due), [span(50, 60), span(80, 100)]);
    }

    #[test]
    fn spans_with_a_small_gap_are_one() {
        assert_eq!(merged(&[span(0, 5), span(8, 9), span(20, 30)], 3), [span(0, 9), span(20, 30)]);
    }
}
