//! Openings: what lets traffic in to a VM now.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::arm_id::{NsgId, RuleId, VmId};
use crate::jit::JitRecord;
use crate::nsg::{Nsg, SecurityRule};
use crate::port::PortSet;
use crate::source::Sources;

/// A JIT allow rule in a security group in front of a VM, with that VM's address as a destination.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Opening {
    /// The rule.
    pub rule: RuleId,
    /// The ports it opens, in Azure's notation.
    #[serde(with = "ports_as_text")]
    pub ports: PortSet,
    /// `TCP`, `UDP` or `*`: the JIT policy's, shown and never chosen.
    pub protocol: String,
    /// Where it lets traffic in from.
    pub sources: Sources,
    /// The addresses it lets traffic in to.
    pub destinations: Sources,
    /// Whether taking it away also cuts connections: the group has `flushConnection`.
    pub flush_connection: bool,
}

impl Opening {
    /// The opening that a rule makes, if it is one.
    pub fn of(rule: &SecurityRule, nsg: &Nsg) -> Option<Self> {
        rule.is_jit_allow().then(|| Opening {
            rule: rule.id.clone(),
            ports: rule.ports.clone(),
            protocol: rule.protocol.clone(),
            sources: rule.sources.clone(),
            destinations: rule.destinations.clone(),
            flush_connection: nsg.flush_connection,
        })
    }

    /// The port by which it is known: its least.
    pub fn port(&self) -> Option<u16> {
        self.ports.least()
    }

    /// What it does, for people, such as `rule … of nsg-web opens port 22 of web-1 to *`.
    pub fn sentence(&self, vm: &VmId) -> String {
        if vm.orphans_of().is_some() {
            return format!("{} opens {} of {} to {}", self.named(), self.ports.words(), self.destinations, self.sources);
        }
        format!("{} opens {} of {} to {}", self.named(), self.ports.words(), vm.name(), self.sources)
    }

    /// Its rule and the group that the rule is in, for people.
    pub fn named(&self) -> String {
        match self.nsg() {
            Some(nsg) => format!("rule {} of {}", self.rule.name(), nsg.name()),
            None => format!("rule {}", self.rule.name()),
        }
    }

    /// The group that the rule is in.
    pub fn nsg(&self) -> Option<NsgId> {
        self.rule.nsg().ok()
    }

    /// Whether it lets traffic in to one of these addresses, or may do so: a destination that is a tag or cannot be
    /// read may be any of them.
    pub fn leads_to(&self, addresses: &BTreeSet<IpAddr>) -> bool {
        addresses.iter().any(|address| self.destinations.may_contain(*address))
    }

    /// Whether the other is this one, seen at another time: the same rule lets in the same sources.
    pub fn is_same(&self, other: &Opening) -> bool {
        self.rule == other.rule && self.sources == other.sources
    }

    /// Whether a rule that was read just now is still the one that this opening was seen as. The reason names the
    /// first thing that differs.
    pub fn agrees_with(&self, rule: &SecurityRule) -> Result<(), String> {
        if rule.id != self.rule {
            return Err(format!("it is {} and not {}", rule.id, self.rule));
        }
        if !rule.is_jit_allow() {
            return Err("it is no longer an inbound allow rule of JIT".to_owned());
        }
        for (what, now, then) in [
            ("destination", rule.destinations.to_string(), self.destinations.to_string()),
            ("ports", rule.ports.to_string(), self.ports.to_string()),
            ("sources", rule.sources.to_string(), self.sources.to_string()),
        ] {
            if now != then {
                return Err(format!("its {what} are now {now} and were {then}"));
            }
        }
        Ok(())
    }
}

/// All openings in these groups that lead to these addresses, sorted by rule.
pub fn openings(groups: &[Nsg], addresses: &BTreeSet<IpAddr>) -> Vec<Opening> {
    let mut found: Vec<Opening> = groups
        .iter()
        .flat_map(|nsg| nsg.rules.iter().filter_map(|rule| Opening::of(rule, nsg)))
        .filter(|opening| opening.leads_to(addresses))
        .collect();
    found.sort();
    found.dedup();
    found
}

/// A short text that changes when openings or records of a VM change: what the sweep compares to know whether a
/// look has already seen what it sees. The order of the input does not matter; nor do records that are over.
pub fn fingerprint(openings: &[Opening], records: &[JitRecord], remarks: &[String]) -> String {
    let mut lines: Vec<String> =
        openings.iter().map(|o| format!("o {} {} {} {}", o.rule.arm_id().key(), o.ports, o.sources, o.destinations)).collect();
    let told = records.iter().filter(|r| r.may_be_open() || r.mapped_port.is_some());
    lines.extend(told.map(|r| format!("r {} {} {} {} {:?} {:?}", r.port, r.start, r.end, r.sources, r.status, r.mapped_port)));
    lines.extend(remarks.iter().map(|remark| format!("m {remark}")));
    lines.sort();
    lines.dedup();
    short_hash(&lines.join("\n"))
}

/// The first 16 hex digits of the SHA-256 of a text.
pub fn short_hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

mod ports_as_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::port::PortSet;

    pub(super) fn serialize<S: Serializer>(ports: &PortSet, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&ports.to_string())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PortSet, D::Error> {
        let text = String::deserialize(deserializer)?;
        PortSet::parse(text.split(',').map(str::trim)).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::jit::RecordStatus;
    use crate::samples;

    const NSG: &str = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Network/networkSecurityGroups/web";

    fn rule(name: &str, source: &str, port: &str, destination: &str) -> Value {
        json!({"id": format!("{NSG}/securityRules/{name}"), "properties": {"access": "Allow", "direction": "Inbound", "protocol": "*",
            "sourceAddressPrefix": source, "destinationPortRange": port, "destinationAddressPrefix": destination}})
    }

    fn allow(n: u32) -> String {
        format!("MicrosoftDefenderForCloud-JITRule-{n}-{n:032X}")
    }

    fn group(rules: Vec<Value>) -> Nsg {
        Nsg::read(&json!({"id": NSG, "properties": {"securityRules": rules, "flushConnection": true}})).unwrap()
    }

    fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    #[test]
    fn openings_are_jits_rules_to_the_vms_addresses() {
        let nsg = group(vec![
            rule(&allow(2), "203.0.113.4", "22", "10.0.0.4"),
            rule(&allow(1), "*", "3389", "10.0.0.4"),
            rule(&allow(3), "*", "22", "10.0.0.5"),
            rule("AllowSsh", "*", "22", "10.0.0.4"),
        ]);
        let found = openings(&[nsg.clone(), nsg], &addresses(&["10.0.0.4"]));
        assert_eq!(found.iter().map(|o| o.ports.to_string()).collect::<Vec<_>>(), ["3389", "22"]);
        assert!(found[0].flush_connection);
        assert_eq!(found[0].nsg().unwrap().name(), "web");
        assert_eq!((found[0].port(), found[1].port()), (Some(3389), Some(22)));
    }

    #[test]
    fn a_rule_to_every_address_leads_to_every_vm() {
        let found = openings(&[group(vec![rule(&allow(1), "*", "22", "*")])], &addresses(&["10.9.9.9"]));
        assert_eq!(found.len(), 1);
        for destination in ["VirtualNetwork", "??", ""] {
            assert_eq!(
                openings(&[group(vec![rule(&allow(1), "*", "22", destination)])], &addresses(&["10.9.9.9"])).len(),
                1,
                "{destination}"
            );
        }
        assert!(openings(&[group(vec![rule(&allow(1), "*", "22", "*")])], &addresses(&[])).is_empty());
    }

    #[test]
    fn a_rule_that_changed_since_it_was_seen_no_longer_agrees() {
        let nsg = group(vec![rule(&allow(1), "*", "22", "10.0.0.4")]);
        let seen = Opening::of(&nsg.rules[0], &nsg).unwrap();
        assert_eq!(seen.agrees_with(&nsg.rules[0]), Ok(()));
        for (name, source, port, destination, word) in [
            (allow(2), "*", "22", "10.0.0.4", "and not"),
            (allow(1), "10.0.0.0/8", "22", "10.0.0.4", "sources"),
            (allow(1), "*", "23", "10.0.0.4", "ports"),
            (allow(1), "*", "22", "10.0.0.5", "destination"),
        ] {
            let other = SecurityRule::read(&rule(&name, source, port, destination)).unwrap();
            assert!(seen.agrees_with(&other).unwrap_err().contains(word));
        }
        let mut denied = rule(&allow(1), "*", "22", "10.0.0.4");
        denied["properties"]["access"] = json!("Deny");
        assert!(seen.agrees_with(&SecurityRule::read(&denied).unwrap()).unwrap_err().contains("no longer"));
    }

    #[test]
    fn an_opening_is_the_same_while_its_rule_lets_in_the_same() {
        let of = |name: String, source: &str, port: &str| {
            let nsg = group(vec![rule(&name, source, port, "10.0.0.4")]);
            Opening::of(&nsg.rules[0], &nsg).unwrap()
        };
        let one = of(allow(1), "*", "22");
        assert!(one.is_same(&of(allow(1).to_lowercase(), "*", "23")));
        assert!(!one.is_same(&of(allow(2), "*", "22")) && !one.is_same(&of(allow(1), "10.0.0.1", "22")));
    }

    #[test]
    fn an_opening_survives_json() {
        let nsg = group(vec![rule(&allow(1), "10.0.0.0/24", "1000-1100", "10.0.0.4")]);
        let seen = Opening::of(&nsg.rules[0], &nsg).unwrap();
        let text = serde_json::to_string(&seen).unwrap();
        assert_eq!(serde_json::from_str::<Opening>(&text).unwrap(), seen);
    }

    #[test]
    fn the_fingerprint_tells_what_matters_and_nothing_else() {
        let nsg = group(vec![rule(&allow(1), "*", "22", "10.0.0.4"), rule(&allow(2), "10.0.0.1", "22", "10.0.0.4")]);
        let mut both = openings(&[nsg], &addresses(&["10.0.0.4"]));
        let mut record = samples::record(22, "*", "09:00:00", "10:00:00", RecordStatus::Initiated);
        let first = fingerprint(&both, std::slice::from_ref(&record), &[]);
        both.reverse();
        assert_eq!(first, fingerprint(&both, std::slice::from_ref(&record), &[]));
        assert_eq!(first.len(), 16);
        assert_ne!(first, fingerprint(&both[1..], std::slice::from_ref(&record), &[]));
        assert_ne!(first, fingerprint(&both, std::slice::from_ref(&record), &["public address".to_owned()]));
        assert_ne!(first, fingerprint(&both, &[], &[]));
        record.status = RecordStatus::Revoked;
        assert_eq!(fingerprint(&both, std::slice::from_ref(&record), &[]), fingerprint(&both, &[], &[]));
        record.mapped_port = Some(13389);
        assert_ne!(fingerprint(&both, &[record], &[]), fingerprint(&both, &[], &[]));
    }
}
