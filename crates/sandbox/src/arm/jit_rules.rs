//! The rules that JIT writes into security groups: their names, their shape, and where they land.
//!
//! Names as recorded: `…-JITRule-<number>-<32 hex>` lets in, `…-JITRule_<number>_<32 hex>` keeps out. The number
//! stands for the VM (it is the same in both, where both were recorded); what the hex digits stand for is not known,
//! here the first eight stand for the record and the port.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::state::State;
use crate::switches::{RuleNames, RulesLand};

use super::jit_records::RecordPort;
use super::nsg;
use super::path::{Kind, last, parent, segment_after};

/// A network place of a VM: an address of one of its NICs and a group that filters it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub nsg: String,
    pub nic: String,
    pub address: String,
}

/// Whether a rule lets in or keeps out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JitRule {
    /// The rule of a granted request.
    Allow,
    /// The baseline rule of a VM.
    Deny,
}

/// A rule name of JIT's, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JitName {
    /// Lets in or keeps out.
    pub rule: JitRule,
    /// The number, which stands for the VM.
    pub number: i32,
    /// 32 hex digits.
    pub hex: String,
}

/// Takes a rule name of either generation apart, in any letter case, as Azure takes names; nothing if it is not JIT's.
pub fn parse_name(name: &str) -> Option<JitName> {
    let prefixes = ["SecurityCenter-JITRule", "MicrosoftDefenderForCloud-JITRule"];
    let after = |prefix: &str| name.split_at_checked(prefix.len()).filter(|(start, _)| start.eq_ignore_ascii_case(prefix));
    let (_, rest) = prefixes.into_iter().find_map(after)?;
    let (rule, separator) = match rest.chars().next()? {
        '-' => (JitRule::Allow, '-'),
        '_' => (JitRule::Deny, '_'),
        _ => return None,
    };
    let (number, hex) = rest[1..].rsplit_once(separator)?;
    let well_written = hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    Some(JitName { rule, number: number.parse().ok().filter(|_| well_written)?, hex: hex.to_ascii_uppercase() })
}

/// The number that stands for a VM in the names of its rules.
pub fn vm_number(vm: &str) -> i32 {
    let [a, b, c, d, ..] = digest(&["vm", vm]);
    i32::from_be_bytes([a, b, c, d])
}

/// The hex digits that stand for a record's port.
pub(super) fn tag(policy: &str, record: &str, vm: &str, port: u16) -> String {
    hex(&digest(&["record", policy, record, vm, &port.to_string()]), 4)
}

fn digest(parts: &[&str]) -> [u8; 32] {
    let text = parts.join("\n").to_ascii_lowercase();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(&digest.as_ref()[..32]);
    bytes
}

fn hex(bytes: &[u8], take: usize) -> String {
    bytes.iter().take(take).map(|byte| format!("{byte:02X}")).collect()
}

fn name(state: &State, rule: JitRule, vm: &str, hex: &str) -> String {
    let prefix = match state.switches.rule_names {
        RuleNames::SecurityCenter => "SecurityCenter",
        RuleNames::MicrosoftDefenderForCloud => "MicrosoftDefenderForCloud",
    };
    let number = vm_number(vm);
    match rule {
        JitRule::Allow => format!("{prefix}-JITRule-{number}-{hex}"),
        JitRule::Deny => format!("{prefix}-JITRule_{number}_{hex}"),
    }
}

fn description(state: &State, rule: JitRule, policy: &str, vm: &str) -> String {
    let product = match state.switches.rule_names {
        RuleNames::SecurityCenter => "ASC",
        RuleNames::MicrosoftDefenderForCloud => "MDC",
    };
    let by = match rule {
        JitRule::Allow => "created by an initiation request ",
        JitRule::Deny => "",
    };
    format!("{product} JIT Network Access rule {by}for policy '{}' of VM '{}'.", last(policy), last(vm))
}

/// The rule that lets a record's sources in at one place.
pub(super) fn allow_rule(state: &State, policy: &str, port: &RecordPort, protocol: &str, place: &Place, priority: i64) -> Value {
    let tag = tag(policy, &port.record, &port.vm, port.number);
    let rest = hex(&digest(&["place", &place.nic, &port.record, &port.number.to_string()]), 12);
    let name = name(state, JitRule::Allow, &port.vm, &format!("{tag}{rest}"));
    let about = description(state, JitRule::Allow, policy, &port.vm);
    let ports = [port.number];
    body(&place.nsg, &name, &about, ("Allow", priority), protocol, &port.sources, &ports, &place.address)
}

/// The rule that keeps everybody out of a VM's JIT ports at one place.
pub(super) fn deny_rule(state: &State, policy: &str, entry: &Value, place: &Place) -> Value {
    let vm = entry["id"].as_str().unwrap_or_default();
    let ports: Vec<u16> = policy_ports(entry).map(|(number, _)| number).collect();
    let protocols: BTreeSet<&str> = policy_ports(entry).map(|(_, protocol)| protocol).collect();
    let protocol = match protocols.first() {
        Some(only) if protocols.len() == 1 => only,
        _ => "*",
    };
    let name = name(state, JitRule::Deny, vm, &hex(&digest(&["deny", policy, vm, &place.nic]), 16));
    let about = description(state, JitRule::Deny, policy, vm);
    let group = state.resources.get(&place.nsg);
    let priority = group.map_or(4096, |group| match nsg::rule(group, &name) {
        Some(own) => own["properties"]["priority"].as_i64().unwrap_or(4096),
        // Recorded: 1000 where a permissive rule for the port exists, otherwise the last that is free.
        None if lets_in(group, &ports) => nsg::free_priority(group, 1000, 1),
        None => nsg::free_priority(group, 4096, -1),
    });
    let anybody = ["*".to_owned()];
    body(&place.nsg, &name, &about, ("Deny", priority), protocol, &anybody, &ports, &place.address)
}

/// Ports and protocols of a VM's entry in a policy.
pub(super) fn policy_ports(entry: &Value) -> impl Iterator<Item = (u16, &str)> {
    let ports = entry["ports"].as_array().into_iter().flatten();
    ports.filter_map(|port| {
        let number = port["number"].as_u64().and_then(|n| u16::try_from(n).ok())?;
        Some((number, port["protocol"].as_str().unwrap_or("*")))
    })
}

fn lets_in(group: &Value, ports: &[u16]) -> bool {
    nsg::rules(group).iter().any(|rule| {
        let properties = &rule["properties"];
        let is = |field: &str, value: &str| properties[field].as_str().is_some_and(|v| v.eq_ignore_ascii_case(value));
        let own = rule["name"].as_str().is_some_and(|name| parse_name(name).is_some());
        !own && is("access", "Allow") && is("direction", "Inbound") && rule_ports(rule).any(|range| covers(range, ports))
    })
}

fn covers(range: &str, ports: &[u16]) -> bool {
    let (low, high) = match range.split_once('-') {
        Some((low, high)) => (low.parse().unwrap_or(0), high.parse().unwrap_or(u16::MAX)),
        None if range == "*" => (0, u16::MAX),
        None => match range.parse() {
            Ok(port) => (port, port),
            Err(_) => return false,
        },
    };
    ports.iter().any(|port| (low..=high).contains(port))
}

fn rule_ports(rule: &Value) -> impl Iterator<Item = &str> {
    let properties = &rule["properties"];
    let many = properties["destinationPortRanges"].as_array().into_iter().flatten();
    properties["destinationPortRange"].as_str().into_iter().chain(many.filter_map(Value::as_str))
}

fn rule_sources(rule: &Value) -> BTreeSet<&str> {
    let properties = &rule["properties"];
    let many = properties["sourceAddressPrefixes"].as_array().into_iter().flatten();
    let one = properties["sourceAddressPrefix"].as_str();
    one.into_iter().chain(many.filter_map(Value::as_str)).collect()
}

#[expect(clippy::too_many_arguments, reason = "the fields of one rule, each of its own meaning")]
fn body(
    nsg: &str,
    name: &str,
    about: &str,
    (access, priority): (&str, i64),
    protocol: &str,
    sources: &[String],
    ports: &[u16],
    destination: &str,
) -> Value {
    let mut properties = json!({
        "provisioningState": "Succeeded",
        "description": about,
        "protocol": protocol,
        "sourcePortRange": "*",
        "destinationAddressPrefix": destination,
        "access": access,
        "priority": priority,
        "direction": "Inbound",
        "sourcePortRanges": [],
        "destinationPortRanges": [],
        "sourceAddressPrefixes": [],
        "destinationAddressPrefixes": [],
    });
    match sources {
        [one] => properties["sourceAddressPrefix"] = json!(one),
        many => properties["sourceAddressPrefixes"] = json!(many),
    }
    match ports {
        [one] => properties["destinationPortRange"] = json!(one.to_string()),
        many => properties["destinationPortRanges"] = many.iter().map(u16::to_string).collect(),
    }
    json!({
        "name": name,
        "id": format!("{nsg}/securityRules/{name}"),
        "type": Kind::SecurityRule.name(),
        "properties": properties,
    })
}

/// The places of a VM at which JIT writes, as the world's switch says.
pub(super) fn places(state: &State, vm: &str) -> Vec<Place> {
    let land = state.switches.rules_land;
    let mut found: Vec<Place> = Vec::new();
    for (nic_id, nic) in nics(state, vm) {
        let Some((address, subnet)) = address_of(nic) else { continue };
        let own = nic["properties"]["networkSecurityGroup"]["id"].as_str().map(str::to_owned);
        let subnets = subnet.and_then(|subnet| subnet_group(state, subnet));
        let groups = match (land, own, subnets) {
            (RulesLand::Nic, Some(own), _) => vec![own],
            (RulesLand::Subnet, _, Some(subnets)) => vec![subnets],
            (RulesLand::Both, own, subnets) => own.into_iter().chain(subnets).collect(),
            (RulesLand::Nic, None, other) | (RulesLand::Subnet, other, None) => other.into_iter().collect(),
        };
        for id in groups {
            if let Some(group) = state.resources.get(&id) {
                found.push(Place { nsg: group["id"].as_str().unwrap_or(&id).to_owned(), nic: nic_id.clone(), address: address.clone() });
            }
        }
    }
    found
}

/// All groups that filter a VM, whatever the switch; of a VM that is gone, all groups of its subscription.
pub(super) fn groups(state: &State, vm: &str) -> Vec<String> {
    if state.resources.get(vm).is_none() {
        let subscription = segment_after(vm, "subscriptions").unwrap_or_default();
        return state
            .resources
            .under(&format!("/subscriptions/{subscription}/"))
            .filter(|body| super::compute::is(body, Kind::SecurityGroup))
            .filter_map(|body| body["id"].as_str().map(str::to_owned))
            .collect();
    }
    let mut ids = BTreeSet::new();
    for (_, nic) in nics(state, vm) {
        let own = nic["properties"]["networkSecurityGroup"]["id"].as_str().map(str::to_owned);
        let subnets = address_of(nic).and_then(|(_, subnet)| subnet_group(state, subnet?));
        ids.extend(own.into_iter().chain(subnets));
    }
    ids.into_iter().collect()
}

fn nics<'a>(state: &'a State, vm: &str) -> Vec<(String, &'a Value)> {
    let Some(vm) = state.resources.get(vm) else { return Vec::new() };
    vm["properties"]["networkProfile"]["networkInterfaces"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|nic| nic["id"].as_str())
        .filter_map(|id| Some((id.to_owned(), state.resources.get(id)?)))
        .collect()
}

/// The private IPv4 address of a NIC's primary configuration, with its subnet.
fn address_of(nic: &Value) -> Option<(String, Option<&str>)> {
    let configurations = nic["properties"]["ipConfigurations"].as_array()?;
    let is_v4 =
        |c: &&Value| c["properties"]["privateIPAddress"].as_str().is_some_and(|address| address.parse::<std::net::Ipv4Addr>().is_ok());
    let primary = configurations
        .iter()
        .filter(is_v4)
        .find(|c| c["properties"]["primary"].as_bool() == Some(true))
        .or_else(|| configurations.iter().find(is_v4))?;
    let address = primary["properties"]["privateIPAddress"].as_str()?.to_owned();
    Some((address, primary["properties"]["subnet"]["id"].as_str()))
}

fn subnet_group(state: &State, subnet: &str) -> Option<String> {
    let group = |subnet: &Value| subnet["properties"]["networkSecurityGroup"]["id"].as_str().map(str::to_owned);
    if let Some(stored) = state.resources.get(subnet) {
        return group(stored);
    }
    let network = state.resources.get(parent(subnet))?;
    let all = network["properties"]["subnets"].as_array()?;
    let found = all.iter().find(|s| s["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(last(subnet))))?;
    group(found)
}

/// Whether a rule is JIT's for this VM under this policy.
pub(super) fn is_for(state: &State, rule: &Value, policy: &str, vm: &str) -> Option<JitName> {
    let name = parse_name(rule["name"].as_str()?)?;
    let about = format!("policy '{}' of VM '{}'", last(policy), last(vm)).to_ascii_lowercase();
    let described = rule["properties"]["description"].as_str().is_some_and(|text| text.to_ascii_lowercase().contains(&about));
    let destination = rule["properties"]["destinationAddressPrefix"].as_str().unwrap_or_default();
    let here = || nics(state, vm).iter().any(|(_, nic)| address_of(nic).is_some_and(|(a, _)| a == destination));
    (described && (name.number == vm_number(vm) || here())).then_some(name)
}

/// Whether an allow rule belongs to a record's port: by its name, or, for a rule that another world wrote, by its
/// port and sources.
pub(super) fn opens(state: &State, rule: &Value, policy: &str, port: &RecordPort, of_policy: &[RecordPort]) -> bool {
    let Some(name) = is_for(state, rule, policy, &port.vm).filter(|name| name.rule == JitRule::Allow) else {
        return false;
    };
    let named = |port: &RecordPort| name.hex.starts_with(&tag(policy, &port.record, &port.vm, port.number));
    if named(port) {
        return true;
    }
    let sources: BTreeSet<&str> = port.sources.iter().map(String::as_str).collect();
    let number = port.number.to_string();
    rule_ports(rule).eq([number.as_str()]) && rule_sources(rule) == sources && !of_policy.iter().any(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_generations_are_read() {
        let deny = parse_name("SecurityCenter-JITRule_-1170687618_0123456789ABCDEF0123456789abcdef");
        assert_eq!(deny.map(|n| (n.rule, n.number)), Some((JitRule::Deny, -1_170_687_618)));
        let allow = parse_name("MicrosoftDefenderForCloud-JITRule--5-0123456789ABCDEF0123456789ABCDEF");
        assert_eq!(parse_name("MICROSOFTDEFENDERFORCLOUD-jitrule--5-0123456789abcdef0123456789ABCDEF"), allow, "in any letter case");
        assert_eq!(allow.map(|n| (n.rule, n.number)), Some((JitRule::Allow, -5)));
        for other in [
            "AllowRdp",
            "SecurityCenter-JITRule",
            "SecurityCenter-JITRule-1-ABC",
            "SecurityCenter-JITRule-1_0123456789ABCDEF0123456789ABCDEF",
            "SecurityCenter-JITRule-99999999999-0123456789ABCDEF0123456789ABCDEF",
        ] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }

    #[test]
    fn the_number_of_a_vm_knows_no_letter_case() {
        assert_eq!(vm_number("/subscriptions/A/vm"), vm_number("/SUBSCRIPTIONS/a/VM"));
        assert_ne!(vm_number("/subscriptions/a/vm"), vm_number("/subscriptions/a/vm2"));
    }
}
