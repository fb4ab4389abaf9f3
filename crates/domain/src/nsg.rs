//! Network security groups, their rules, and the names that JIT gives its own.

use serde_json::Value;

use crate::arm_id::{ArmIdError, NicId, NsgId, RuleId, SubnetId};
use crate::json::{items, singular_and_plural, text};
use crate::plain::quoted;
use crate::port::PortSet;
use crate::source::Sources;

/// A network security group as ARM answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nsg {
    /// Its id.
    pub id: NsgId,
    /// Which version of it this is: each write gives it another (recorded). Empty where Azure does not say.
    pub etag: String,
    /// `Succeeded` when no write is under way.
    pub provisioning_state: String,
    /// Whether Azure cuts flows that a changed rule no longer allows; without it, connections survive a closing.
    pub flush_connection: bool,
    /// Its own rules.
    pub rules: Vec<SecurityRule>,
    /// Subnets that it is attached to, where the answer says so.
    pub subnets: Vec<SubnetId>,
    /// The interfaces that it is in front of by itself.
    pub nics: Vec<NicId>,
}

/// Why a security group cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NsgError {
    /// It has no id that can be read.
    #[error(transparent)]
    Id(#[from] ArmIdError),
    /// Its rules are not listed, which is not to say that it has none.
    #[error("security group `{}` comes without the list of its rules", quoted(&.0.to_string()))]
    NoRules(NsgId),
}

impl Nsg {
    /// Reads a group. A rule whose id is missing or cannot be read has that of its name; one with neither is left out: it is not
    /// JIT's, and nobody could delete it.
    pub fn read(body: &Value) -> Result<Self, NsgError> {
        let properties = body.get("properties").unwrap_or(&Value::Null);
        let id = NsgId::parse(text(body, "id"))?;
        if !properties.get("securityRules").is_some_and(Value::is_array) {
            return Err(NsgError::NoRules(id));
        }
        Ok(Nsg {
            id,
            etag: text(body, "etag").to_owned(),
            provisioning_state: text(properties, "provisioningState").to_owned(),
            flush_connection: properties.get("flushConnection").and_then(Value::as_bool).unwrap_or(false),
            rules: items(properties, "securityRules")
                .iter()
                .filter_map(|rule| SecurityRule::read_in(text(body, "id"), rule).ok())
                .collect(),
            nics: items(properties, "networkInterfaces").iter().filter_map(|n| NicId::parse(text(n, "id")).ok()).collect(),
            subnets: items(properties, "subnets").iter().filter_map(|s| SubnetId::parse(text(s, "id")).ok()).collect(),
        })
    }

    /// Whether no write to it is under way, so that what was read is what is in force.
    pub fn is_settled(&self) -> bool {
        self.provisioning_state.eq_ignore_ascii_case("Succeeded")
    }
}

/// Which versions of these groups were read, in one text: it is the same as long as nobody has written to any of them.
pub fn versions(groups: &[Nsg]) -> String {
    let mut versions: Vec<&str> = groups.iter().map(|group| group.etag.as_str()).collect();
    versions.sort_unstable();
    versions.join(" ")
}

/// Whether a rule lets traffic through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It does.
    Allow,
    /// It does not.
    Deny,
}

/// Which way the traffic of a rule goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the VM.
    Inbound,
    /// From the VM.
    Outbound,
}

/// A security rule as ARM answers it, singular and plural fields joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityRule {
    /// Its id.
    pub id: RuleId,
    /// Whether it allows or denies; a word that is neither is taken for `Allow`, the worse.
    pub access: Access,
    /// Which way; a word that is neither is taken for `Inbound`, the worse.
    pub direction: Direction,
    /// `TCP`, `UDP`, `*` and so on, as it came.
    pub protocol: String,
    /// The destination ports; none at all, or a text that is none, is taken for every port, the worst.
    pub ports: PortSet,
    /// Where the traffic comes from; never empty: see [`NO_PREFIX`].
    pub sources: Sources,
    /// Where it goes; never empty: see [`NO_PREFIX`].
    pub destinations: Sources,
    /// The description, as it came.
    pub description: String,
}

/// Stands for the addresses of a rule that names none in prefixes: it may name application security groups instead,
/// which JIT does not do. It is a text that cannot be read, so that nothing covers it and it is nobody's harmless rule.
pub const NO_PREFIX: &str = "(no address prefix)";

impl SecurityRule {
    /// Reads a rule.
    pub fn read(body: &Value) -> Result<Self, ArmIdError> {
        RuleId::parse(text(body, "id")).map(|id| Self::of(id, body))
    }

    /// Reads a rule of a group. The specification asks for no id: where none is there that can be read, it is that of the rule's name.
    pub fn read_in(group: &str, body: &Value) -> Result<Self, ArmIdError> {
        let by_name = || RuleId::parse(&format!("{group}/securityRules/{}", text(body, "name")));
        Self::read(body).or_else(|why| by_name().map(|id| Self::of(id, body)).map_err(|_| why))
    }

    fn of(id: RuleId, body: &Value) -> Self {
        let properties = body.get("properties").unwrap_or(&Value::Null);
        let ports = singular_and_plural(properties, "destinationPortRange", "destinationPortRanges");
        SecurityRule {
            id,
            access: if text(properties, "access").eq_ignore_ascii_case("deny") { Access::Deny } else { Access::Allow },
            direction: if text(properties, "direction").eq_ignore_ascii_case("outbound") {
                Direction::Outbound
            } else {
                Direction::Inbound
            },
            protocol: text(properties, "protocol").to_owned(),
            ports: PortSet::parse(ports).ok().filter(|ports| !ports.is_empty()).unwrap_or_else(PortSet::all),
            sources: prefixes(properties, "sourceAddressPrefix", "sourceAddressPrefixes"),
            destinations: prefixes(properties, "destinationAddressPrefix", "destinationAddressPrefixes"),
            description: text(properties, "description").to_owned(),
        }
    }

    /// Whether it is a rule by which JIT opens: named as JIT names those, inbound, and allowing.
    pub fn is_jit_allow(&self) -> bool {
        let named = JitRuleName::parse(self.id.name()).is_some_and(|name| name.purpose == JitRulePurpose::Allow);
        named && self.access == Access::Allow && self.direction == Direction::Inbound
    }
}

fn prefixes(properties: &Value, singular: &str, plural: &str) -> Sources {
    let texts = singular_and_plural(properties, singular, plural);
    if texts.is_empty() { Sources::read([NO_PREFIX]) } else { Sources::read(texts) }
}

/// The two generations of names; the prefix changed in May 2023 (Defender for Cloud release notes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JitRuleGeneration {
    /// `SecurityCenter-JITRule`
    SecurityCenter,
    /// `MicrosoftDefenderForCloud-JITRule`
    MicrosoftDefenderForCloud,
}

/// What a rule of JIT is for, told by the separator in its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JitRulePurpose {
    /// A grant: `-`
    Allow,
    /// The deny that JIT keeps in place: `_`
    Deny,
}

/// The name of a rule that JIT made: prefix, separator, a 32-bit number that may be negative, separator, 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JitRuleName {
    /// Which generation.
    pub generation: JitRuleGeneration,
    /// What for.
    pub purpose: JitRulePurpose,
}

impl JitRuleName {
    /// Reads a name; `None` means that the rule is not one of JIT's.
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let (generation, rest) = [
            ("securitycenter-jitrule", JitRuleGeneration::SecurityCenter),
            ("microsoftdefenderforcloud-jitrule", JitRuleGeneration::MicrosoftDefenderForCloud),
        ]
        .into_iter()
        .find_map(|(prefix, generation)| name.strip_prefix(prefix).map(|rest| (generation, rest)))?;
        let (separator, purpose) = match rest.chars().next()? {
            '-' => ('-', JitRulePurpose::Allow),
            '_' => ('_', JitRulePurpose::Deny),
            _ => return None,
        };
        let (number, hash) = rest[1..].rsplit_once(separator)?;
        number.parse::<i32>().ok()?;
        let is_hash = hash.len() == 32 && hash.chars().all(|c| c.is_ascii_hexdigit());
        let plain_number = !number.starts_with('+');
        (is_hash && plain_number).then_some(JitRuleName { generation, purpose })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HASH: &str = "0123456789ABCDEF0123456789abcdef";
    const NSG: &str = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Network/networkSecurityGroups/web";

    #[test]
    fn the_names_of_both_generations_are_known() {
        use JitRuleGeneration::*;
        use JitRulePurpose::*;
        for (name, generation, purpose) in [
            (format!("SecurityCenter-JITRule-1170687618-{HASH}"), SecurityCenter, Allow),
            (format!("SecurityCenter-JITRule_-1170687618_{HASH}"), SecurityCenter, Deny),
            (format!("MicrosoftDefenderForCloud-JITRule--1170687618-{HASH}"), MicrosoftDefenderForCloud, Allow),
            (format!("MICROSOFTDEFENDERFORCLOUD-JITRULE_5_{HASH}"), MicrosoftDefenderForCloud, Deny),
        ] {
            assert_eq!(JitRuleName::parse(&name), Some(JitRuleName { generation, purpose }), "{name}");
        }
    }

    #[test]
    fn a_name_that_only_looks_alike_is_not_one_of_jits() {
        for name in [
            "SecurityCenter-JITRule".to_owned(),
            format!("SecurityCenter-JITRule-1-{}", &HASH[1..]),
            format!("SecurityCenter-JITRule-x-{HASH}"),
            format!("SecurityCenter-JITRule-+1-{HASH}"),
            format!("SecurityCenter-JITRule-1_{HASH}"),
            format!("SecurityCenter-JITRule.1.{HASH}"),
            format!("SecurityCenter-JITRule-99999999999-{HASH}"),
            format!("my-SecurityCenter-JITRule-1-{HASH}"),
            format!("SecurityCenter-JITRule-1-{HASH}0"),
            format!("SecurityCenter-JITRule-1-{}g", &HASH[1..]),
            "AllowRdp".to_owned(),
        ] {
            assert_eq!(JitRuleName::parse(&name), None, "{name}");
        }
    }

    fn rule(name: &str, properties: Value) -> SecurityRule {
        SecurityRule::read(&json!({"id": format!("{NSG}/securityRules/{name}"), "name": name, "properties": properties})).unwrap()
    }

    #[test]
    fn only_jits_allowing_inbound_rules_open() {
        let allow = format!("SecurityCenter-JITRule-1-{HASH}");
        let deny = format!("SecurityCenter-JITRule_1_{HASH}");
        let is_jit =
            |name: &str, access: &str, direction: &str| rule(name, json!({"access": access, "direction": direction})).is_jit_allow();
        assert!(is_jit(&allow, "Allow", "Inbound"));
        assert!(is_jit(&allow, "ALLOW", "inbound"));
        assert!(is_jit(&allow, "?", "?"));
        assert!(!is_jit(&allow, "deny", "Inbound"));
        assert!(!is_jit(&allow, "Allow", "OUTBOUND"));
        assert!(!is_jit(&deny, "Allow", "Inbound"));
        assert!(!is_jit("AllowRdp", "Allow", "Inbound"));
    }

    #[test]
    fn singular_and_plural_fields_are_joined() {
        let rule = rule(
            "r",
            json!({"destinationPortRange": "22", "destinationPortRanges": ["3389"], "sourceAddressPrefix": "10.0.0.1", "sourceAddressPrefixes": ["10.0.0.2"],
                   "destinationAddressPrefix": "", "destinationAddressPrefixes": ["10.1.0.4", "10.1.0.5"], "protocol": "TCP", "description": "d"}),
        );
        assert_eq!(rule.ports.to_string(), "22, 3389");
        assert_eq!(rule.sources.to_string(), "10.0.0.1, 10.0.0.2");
        assert_eq!(rule.destinations.to_string(), "10.1.0.4/31");
        assert_eq!((rule.protocol.as_str(), rule.description.as_str()), ("TCP", "d"));
    }

    #[test]
    fn ports_that_cannot_be_read_count_as_all() {
        assert_eq!(rule("r", json!({"destinationPortRange": "ssh"})).ports, PortSet::all());
        assert_eq!(rule("r", json!({"destinationPortRange": ""})).ports, PortSet::all());
        assert_eq!(rule("r", json!({})).ports, PortSet::all());
    }

    #[test]
    fn a_rule_that_names_no_address_is_not_a_rule_for_nobody() {
        let rule = rule("r", json!({"sourceApplicationSecurityGroups": [{"id": "x"}], "destinationAddressPrefix": ""}));
        for addresses in [&rule.sources, &rule.destinations] {
            assert_eq!(addresses.to_string(), NO_PREFIX);
            assert!(!addresses.is_empty() && !addresses.is_understood());
        }
    }

    #[test]
    fn a_recorded_group_is_read() {
        let path = format!("{}/tests/fixtures/rec_nsg_list.json", env!("CARGO_MANIFEST_DIR"));
        let body: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let groups: Vec<Nsg> = items(&body["response"]["body"], "value").iter().map(|g| Nsg::read(g).unwrap()).collect();
        let group = groups.iter().find(|g| g.id.name() == "c7n-nsg").unwrap();
        assert!(group.is_settled() && !group.flush_connection);
        let test4 = group.rules.iter().find(|r| r.id.name() == "test4").unwrap();
        assert_eq!((test4.access, test4.direction), (Access::Deny, Direction::Inbound));
        assert_eq!(test4.ports, PortSet::one(22));
        assert!(test4.sources.amounts_to_internet());
    }

    #[test]
    fn a_rule_whose_id_is_missing_or_no_id_has_that_of_its_name() {
        let name = format!("MicrosoftDefenderForCloud-JITRule-1-{HASH}");
        let allow = json!({"access": "Allow", "direction": "Inbound", "sourceAddressPrefix": "*"});
        for id in [None, Some(Value::Null), Some(json!("")), Some(json!(7)), Some(json!("rules/1"))] {
            let mut rule = json!({"name": name, "properties": allow});
            rule.as_object_mut().unwrap().extend(id.map(|id| ("id".to_owned(), id)));
            let group = Nsg::read(&json!({"id": NSG, "properties": {"securityRules": [rule]}})).unwrap();
            let [read] = group.rules.as_slice() else { panic!("{rule} was dropped") };
            assert!(read.is_jit_allow());
            assert_eq!(read.id, RuleId::parse(&format!("{NSG}/securityRules/{name}")).unwrap());
        }
    }

    #[test]
    fn a_group_says_whether_it_is_settled_and_what_it_flushes() {
        let group = Nsg::read(&json!({"id": NSG, "properties": {"provisioningState": "Updating", "flushConnection": true,
            "subnets": [{"id": "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/v/subnets/a"}, {"id": "?"}],
            "securityRules": [{"id": "?"}]}}))
        .unwrap();
        assert!(!group.is_settled() && group.flush_connection);
        assert_eq!((group.subnets.len(), group.rules.len()), (1, 0));
        assert!(Nsg::read(&json!({})).is_err());
    }

    #[test]
    fn a_group_whose_rules_are_not_listed_is_not_one_without_rules() {
        for (rules, is_read) in [(json!([]), true), (Value::Null, false), (json!({}), false)] {
            let read = Nsg::read(&json!({"id": NSG, "properties": {"securityRules": rules}}));
            assert_eq!(read.is_ok(), is_read, "{rules}");
            let said = read.map_or_else(|why| why.to_string(), |group| group.id.to_string());
            assert!(said.ends_with("comes without the list of its rules") || is_read, "{said}");
        }
    }
}
