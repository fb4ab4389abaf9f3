//! Initiate: somebody asks JIT to open ports, and JIT does so without asking anybody.

use std::net::{IpAddr, Ipv4Addr};

use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use serde_json::{Value, json};

use crate::face::Call;
use crate::iso_duration;
use crate::state::{AskedPort, DueKind, State};
use crate::switches::{Requestor, SourceMust};

use super::Request;
use super::authorization::demand_linked;
use super::envelope::{Outcome, Refusal, Reply};
use super::jit::{bad_request, entry, find, machines, port_number};
use super::path::{Kind, Resource};
use super::{instants, jit_life, jit_records};

/// 202 with `Initiating`: the answer says that it was asked, not that it is open (recorded).
pub(super) fn initiate(state: &mut State, request: &Request, resource: &Resource) -> Outcome {
    let policy = find(state, resource)?.clone();
    let id = policy["id"].as_str().unwrap_or_default().to_owned();
    let body: Value = request.json()?;
    let asked = machines(&body)?;
    if asked.is_empty() {
        return Err(bad_request("The request must name at least one virtual machine."));
    }
    let action = format!("{}/initiate/action", Kind::JitPolicy.name());
    let mut granted = Vec::new();
    for (vm, wish) in &asked {
        let linked = ("Microsoft.Compute/virtualMachines/read", *vm);
        demand_linked(state, &request.caller, (&action, &id), linked)?;
        let mut ports = Vec::new();
        for port in wish["ports"].as_array().into_iter().flatten() {
            ports.push(grant(state, request, &policy, vm, port)?);
        }
        granted.push(json!({"id": vm, "ports": ports}));
    }
    demand_once(&granted)?;

    let key = jit_records::new_key(&policy, state.now);
    let requestor = match state.switches.requestor {
        Requestor::Filled => request.caller.upn.as_str(),
        Requestor::Empty => "",
    };
    let mut record = json!({
        "virtualMachines": granted,
        "startTimeUtc": key,
        "requestor": requestor,
    });
    if let Some(why) = body["justification"].as_str() {
        record["justification"] = json!(why);
    }
    keep(state, &id, &record);
    plan(state, &id, &key);
    Ok(Reply::with(StatusCode::ACCEPTED, record))
}

/// What a call asks JIT to open, whether it may or not: nothing where it asks for something else, or cannot be read.
pub fn asked(call: &Call) -> Vec<AskedPort> {
    if !call.path.trim_end_matches('/').to_ascii_lowercase().ends_with("/initiate") {
        return Vec::new();
    }
    let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    let mut asked = Vec::new();
    for (vm, wish) in machines(&body).unwrap_or_default() {
        for port in wish["ports"].as_array().into_iter().flatten() {
            let Ok(number) = port_number(port) else { continue };
            let one = port["allowedSourceAddressPrefix"].as_str();
            let many = port["allowedSourceAddressPrefixes"].as_array().into_iter().flatten().filter_map(Value::as_str);
            asked.push(AskedPort { vm: vm.to_owned(), port: number, sources: one.into_iter().chain(many).map(str::to_owned).collect() });
        }
    }
    asked
}

/// Records are answered unsorted (recorded): a new one goes to a place that depends on how many there are.
fn keep(state: &mut State, id: &str, record: &Value) {
    let Some(policy) = state.resources.get_mut(id) else { return };
    let requests = &mut policy["properties"]["requests"];
    if !requests.is_array() {
        *requests = json!([]);
    }
    if let Some(list) = requests.as_array_mut() {
        list.insert(list.len() / 2, record.clone());
    }
}

/// Lets JIT open the record's ports, and close them after their ends.
fn plan(state: &mut State, id: &str, key: &str) {
    let ports = jit_records::of(state, id);
    for port in ports.into_iter().filter(|port| port.record == key) {
        let at = port.end.unwrap_or(state.now);
        state.later(at, DueKind::JitCloses { policy: id.to_owned(), record: key.to_owned(), vm: port.vm, port: port.number });
    }
    let takes = state.switches.initiating_seconds;
    if takes > 0 {
        let at = state.now + TimeDelta::seconds(takes);
        state.later(at, DueKind::JitOpens { policy: id.to_owned(), record: key.to_owned() });
    } else {
        jit_life::opens(state, id, key);
    }
}

fn grant(state: &State, request: &Request, policy: &Value, vm: &str, port: &Value) -> Result<Value, Refusal> {
    let number = port_number(port)?;
    let outside = || {
        bad_request(format!(
            "The given access request is not a subset of policy '{}'. Please make sure that the access request is within \
             the allowed policy properties.",
            policy["id"].as_str().unwrap_or_default()
        ))
    };
    let allowed = entry(policy, vm)
        .and_then(|entry| entry["ports"].as_array())
        .and_then(|ports| ports.iter().find(|p| p["number"].as_u64() == Some(u64::from(number))))
        .ok_or_else(outside)?;
    if port["allowedSourceAddressPrefixes"].is_array() && !state.switches.plural_sources {
        return Err(bad_request("allowedSourceAddressPrefixes is not accepted in an access request. Give allowedSourceAddressPrefix."));
    }
    let mut wanted = sources(port)?;
    if wanted.is_empty() {
        wanted = sources(&json!({ "allowedSourceAddressPrefix": request.caller.ip }))?;
    }
    let permitted = sources(allowed)?;
    let fits = |wish: &Source| {
        permitted.is_empty()
            || permitted.iter().any(|within| match state.switches.source_must {
                SourceMust::LieInside => within.holds(wish),
                SourceMust::Equal => *within == Source::Anybody || within.net() == wish.net(),
            })
    };
    if !wanted.iter().all(fits) {
        return Err(outside());
    }
    let longest = allowed["maxRequestAccessDuration"].as_str().and_then(iso_duration::parse);
    let (end, written) = end_of(state, port)?;
    if longest.is_some_and(|longest| end - state.now > longest) {
        return Err(outside());
    }
    let mut answered = json!({
        "number": number,
        "endTimeUtc": written,
        "status": "Initiating",
        "statusReason": "UserRequested",
    });
    match (port["allowedSourceAddressPrefixes"].as_array(), wanted.as_slice()) {
        (Some(list), _) => answered["allowedSourceAddressPrefixes"] = json!(list),
        (None, [only]) => answered["allowedSourceAddressPrefix"] = json!(only.written()),
        (None, many) => answered["allowedSourceAddressPrefixes"] = many.iter().map(Source::written).collect(),
    }
    Ok(answered)
}

/// The end that a port asks for, and how the answer writes it: a UTC instant as it was given (recorded).
fn end_of(state: &State, port: &Value) -> Result<(DateTime<Utc>, String), Refusal> {
    let (end, written) = match (port.get("endTimeUtc").filter(|v| !v.is_null()), port.get("duration").filter(|v| !v.is_null())) {
        (Some(_), Some(_)) => return Err(bad_request("A port has either endTimeUtc or duration, not both.")),
        (None, None) => return Err(bad_request("A port must have endTimeUtc, the end of the access.")),
        (Some(end), None) => {
            let text = end.as_str().unwrap_or_default();
            let at = instants::parse(text)
                .ok_or_else(|| bad_request(format!("endTimeUtc {end} is no instant of the form 2026-01-15T10:00:00Z.")))?;
            let written = if text.ends_with('Z') { text.to_owned() } else { instants::seven_digits(at) };
            (at, written)
        }
        (None, Some(duration)) => {
            let text = duration.as_str().unwrap_or_default();
            let long = iso_duration::parse(text)
                .ok_or_else(|| bad_request(format!("duration {duration} is no ISO 8601 duration such as PT3H.")))?;
            let at = state.now.checked_add_signed(long).unwrap_or(DateTime::<Utc>::MAX_UTC);
            (at, instants::seven_digits(at))
        }
    };
    if end <= state.now {
        return Err(bad_request(format!("The end of the access, {written}, has passed.")));
    }
    let shortest = state.switches.smallest_end_seconds;
    if end - state.now < TimeDelta::seconds(shortest) {
        return Err(bad_request(format!("The end of the access, {written}, is too near: at least {shortest} seconds from now.")));
    }
    Ok((end, written))
}

fn demand_once(granted: &[Value]) -> Result<(), Refusal> {
    let mut seen = Vec::new();
    for vm in granted {
        let id = vm["id"].as_str().unwrap_or_default().to_ascii_lowercase();
        for port in vm["ports"].as_array().into_iter().flatten() {
            let key = (id.clone(), port["number"].as_u64());
            if seen.contains(&key) {
                return Err(bad_request(format!("Port {} of '{id}' is asked for twice.", port["number"])));
            }
            seen.push(key);
        }
    }
    Ok(())
}

/// A source of a policy or of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// `*`.
    Anybody,
    /// An IPv4 address or range, as it was written.
    Net(String, u32, u8),
}

impl Source {
    fn net(&self) -> (u32, u8) {
        match self {
            Source::Anybody => (0, 0),
            Source::Net(_, address, length) => (address & mask(*length), *length),
        }
    }

    fn holds(&self, other: &Source) -> bool {
        let ((mine, my_length), (theirs, their_length)) = (self.net(), other.net());
        *self == Source::Anybody || (my_length <= their_length && mine == theirs & mask(my_length))
    }

    fn written(&self) -> String {
        match self {
            Source::Anybody => "*".to_owned(),
            Source::Net(text, _, _) => text.clone(),
        }
    }
}

fn mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0)
}

/// The sources of a port: one or many, never both; none where the caller's own address is meant.
pub(super) fn sources(port: &Value) -> Result<Vec<Source>, Refusal> {
    let one = port.get("allowedSourceAddressPrefix").filter(|v| !v.is_null());
    let many = port.get("allowedSourceAddressPrefixes").filter(|v| !v.is_null());
    match (one, many) {
        (Some(_), Some(_)) => Err(bad_request("allowedSourceAddressPrefix and allowedSourceAddressPrefixes are mutually exclusive.")),
        (Some(one), None) => Ok(vec![source(one)?]),
        (None, Some(Value::Array(list))) if list.is_empty() => {
            Err(bad_request("allowedSourceAddressPrefixes must name at least one source."))
        }
        (None, Some(Value::Array(list))) => list.iter().map(source).collect(),
        (None, Some(other)) => Err(bad_request(format!("allowedSourceAddressPrefixes is {other}, which is no list."))),
        (None, None) => Ok(Vec::new()),
    }
}

fn source(value: &Value) -> Result<Source, Refusal> {
    let text = value.as_str().unwrap_or_default();
    if text == "*" {
        return Ok(Source::Anybody);
    }
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, length.parse::<u8>().ok()),
        None => (text, Some(32)),
    };
    match (address.parse::<IpAddr>(), length) {
        (Ok(IpAddr::V4(address)), Some(length @ 0..=32)) => Ok(Source::Net(text.to_owned(), Ipv4Addr::to_bits(address), length)),
        (Ok(IpAddr::V6(_)), _) => Err(bad_request(
            "The provided access request contains a source IP address in IPv6 format, which is unsupported by \
             Just-In-Time Network Access.",
        )),
        _ => Err(bad_request(format!("Source address prefix {value} is invalid: an IPv4 address, an IPv4 range in CIDR form, or *."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_source(text: &str) -> Source {
        source(&json!(text)).unwrap_or_else(|r| panic!("{text}: {}", r.message))
    }

    #[test]
    fn a_source_holds_what_lies_inside() {
        for (outer, inner, holds) in [
            ("*", "1.2.3.4", true),
            ("*", "*", true),
            ("0.0.0.0/0", "*", true),
            ("10.0.0.0/24", "10.0.0.7", true),
            ("10.0.0.0/24", "10.0.0.128/25", true),
            ("10.0.0.0/24", "10.0.1.0", false),
            ("10.0.0.0/24", "10.0.0.0/16", false),
            ("10.0.0.7", "10.0.0.7/32", true),
            ("10.0.0.0/24", "*", false),
        ] {
            assert_eq!(a_source(outer).holds(&a_source(inner)), holds, "{outer} {inner}");
        }
    }

    #[test]
    fn what_is_no_ipv4_source_is_refused() {
        for text in ["", "Internet", "10.0.0.0/33", "10.0.0", "10.0.0.0/", "::1", "2001:db8::/32"] {
            assert!(source(&json!(text)).is_err(), "{text}");
        }
    }
}
