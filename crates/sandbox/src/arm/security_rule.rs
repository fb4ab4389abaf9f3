//! Security rules as callers send them: checked, and brought into the form that the provider answers.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::envelope::Refusal;
use super::path::Kind;

/// Bounds of a rule's own priority (REST specification).
const PRIORITIES: std::ops::RangeInclusive<i64> = 100..=4096;
/// The longest description (REST specification).
const LONGEST_DESCRIPTION: usize = 140;
/// The longest name (naming rules in the documentation).
const LONGEST_NAME: usize = 80;

/// The rule of this name as it is stored, from the `properties` of a request.
pub(super) fn from_request(nsg_id: &str, name: &str, properties: &Value) -> Result<Value, Refusal> {
    demand_name(name)?;
    let id = format!("{nsg_id}/securityRules/{name}");
    let Some(given) = properties.as_object() else {
        return Err(missing(&id, "properties"));
    };
    let mut stored = Map::new();
    stored.insert("provisioningState".to_owned(), json!("Succeeded"));
    if let Some(description) = given.get("description").filter(|d| !d.is_null()) {
        let fits = description.as_str().is_some_and(|d| d.chars().count() <= LONGEST_DESCRIPTION);
        if !fits {
            return Err(Refusal::service(
                400,
                "SecurityRuleInvalidDescription",
                format!("Security rule {id} has a description of more than {LONGEST_DESCRIPTION} characters."),
            ));
        }
        stored.insert("description".to_owned(), description.clone());
    }
    for (field, allowed) in [
        ("protocol", &["Tcp", "Udp", "Icmp", "Esp", "Ah", "*"][..]),
        ("access", &["Allow", "Deny"]),
        ("direction", &["Inbound", "Outbound"]),
    ] {
        stored.insert(field.to_owned(), choice(&id, given, field, allowed)?);
    }
    stored.insert("priority".to_owned(), json!(priority(&id, given)?));
    ranges(&id, given, &mut stored, ("sourcePortRange", "sourcePortRanges"), &[], port)?;
    ranges(&id, given, &mut stored, ("destinationPortRange", "destinationPortRanges"), &[], port)?;
    for (one, many, groups) in [
        ("sourceAddressPrefix", "sourceAddressPrefixes", "sourceApplicationSecurityGroups"),
        ("destinationAddressPrefix", "destinationAddressPrefixes", "destinationApplicationSecurityGroups"),
    ] {
        if let Some(list) = given.get(groups).filter(|g| g.as_array().is_some_and(|g| !g.is_empty())) {
            stored.insert(groups.to_owned(), list.clone());
        }
        ranges(&id, given, &mut stored, (one, many), &[groups], address)?;
    }
    Ok(json!({
        "name": name,
        "id": id,
        "type": Kind::SecurityRule.name(),
        "properties": stored,
    }))
}

/// 400 if another rule of the same direction has the same priority (recorded text).
pub(super) fn demand_free_priority<'a>(rule: &Value, others: impl Iterator<Item = &'a Value>) -> Result<(), Refusal> {
    let key = |rule: &Value| {
        let properties = &rule["properties"];
        let direction = properties["direction"].as_str().unwrap_or_default().to_ascii_lowercase();
        (properties["priority"].as_i64(), direction)
    };
    let name = rule["name"].as_str().unwrap_or_default();
    for other in others {
        let other_name = other["name"].as_str().unwrap_or_default();
        if !other_name.eq_ignore_ascii_case(name) && key(other) == key(rule) {
            return Err(Refusal::service(
                400,
                "SecurityRuleConflict",
                format!("Security rule {name} conflicts with rule {other_name}. Rules cannot have the same Priority and Direction."),
            ));
        }
    }
    Ok(())
}

fn demand_name(name: &str) -> Result<(), Refusal> {
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    let last = name.chars().last().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    let inner = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if first && last && inner && name.len() <= LONGEST_NAME {
        return Ok(());
    }
    Err(Refusal::service(
        400,
        "InvalidResourceName",
        format!(
            "Resource name {name} is invalid. The name can be up to {LONGEST_NAME} characters long. It must begin with \
             a word character, and it must end with a word character or with '_'. The name may contain word characters \
             or '.', '-', '_'."
        ),
    ))
}

fn missing(id: &str, field: &str) -> Refusal {
    Refusal::service(400, "InvalidRequestFormat", "Cannot parse the request.")
        .detail("MissingJsonProperty", format!("Security rule {id} must specify {field}."))
}

fn choice(id: &str, given: &Map<String, Value>, field: &str, allowed: &[&str]) -> Result<Value, Refusal> {
    let value = given.get(field).filter(|v| !v.is_null()).ok_or_else(|| missing(id, field))?;
    if value.as_str().is_some_and(|text| allowed.iter().any(|a| a.eq_ignore_ascii_case(text))) {
        return Ok(value.clone());
    }
    Err(Refusal::service(400, "InvalidRequestFormat", "Cannot parse the request.")
        .detail("InvalidJson", format!("Security rule {id} has {field} {value}. Allowed: {}.", allowed.join(", "))))
}

fn priority(id: &str, given: &Map<String, Value>) -> Result<i64, Refusal> {
    let value = given.get("priority").filter(|v| !v.is_null()).ok_or_else(|| missing(id, "priority"))?;
    value.as_i64().filter(|p| PRIORITIES.contains(p)).ok_or_else(|| {
        Refusal::service(
            400,
            "SecurityRuleInvalidPriority",
            format!("Security rule {id} has invalid Priority. Value provided: {value}. Allowed range 100-4096."),
        )
    })
}

type Check = fn(&str, &str) -> Result<(), Refusal>;

/// A field that is either one value or a list. The list is always answered, empty when the one is used; the one is
/// absent when the list is used (recorded).
fn ranges(
    id: &str,
    given: &Map<String, Value>,
    stored: &mut Map<String, Value>,
    (one, many): (&str, &str),
    instead: &[&str],
    check: Check,
) -> Result<(), Refusal> {
    let single = match given.get(one) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(Value::String(text)) => Some(text.as_str()),
        Some(other) => return Err(not_text(id, one, other)),
    };
    let mut list = Vec::new();
    match given.get(many) {
        None | Some(Value::Null) => {}
        Some(Value::Array(items)) => {
            for item in items {
                list.push(item.as_str().ok_or_else(|| not_text(id, many, item))?);
            }
        }
        Some(other) => return Err(not_text(id, many, other)),
    }
    if single.is_some() && !list.is_empty() {
        return Err(Refusal::service(
            400,
            "SecurityRuleInvalidParameters",
            format!("Security rule {id} cannot specify both {one} and {many}."),
        ));
    }
    let has_instead = instead.iter().any(|field| stored.contains_key(*field));
    if single.is_none() && list.is_empty() && !has_instead {
        return Err(missing(id, one));
    }
    for value in single.iter().copied().chain(list.iter().copied()) {
        check(id, value)?;
    }
    if let Some(single) = single {
        stored.insert(one.to_owned(), json!(single));
    }
    stored.insert(many.to_owned(), json!(list));
    Ok(())
}

fn not_text(id: &str, field: &str, found: &Value) -> Refusal {
    Refusal::service(400, "InvalidRequestFormat", "Cannot parse the request.")
        .detail("InvalidJson", format!("Security rule {id} has {field} {found}, which is not text."))
}

fn port(_id: &str, value: &str) -> Result<(), Refusal> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let fits = value == "*"
        || number(value).is_some()
        || value.split_once('-').and_then(|(low, high)| Some(number(low)? <= number(high)?)).unwrap_or(false);
    if fits {
        return Ok(());
    }
    Err(Refusal::service(
        400,
        "SecurityRuleInvalidPortRange",
        format!(
            "Security rule has invalid Port range. Value provided: {value}. Value should be an integer OR integer range \
             with '-' delimiter. Valid range 0-65535."
        ),
    ))
}

fn address(id: &str, value: &str) -> Result<(), Refusal> {
    if value == "*" || is_prefix(value) || is_tag(value) {
        return Ok(());
    }
    Err(Refusal::service(
        400,
        "SecurityRuleInvalidAddressPrefix",
        format!("Security rule {id} has invalid Address prefix. Value provided: {value}"),
    ))
}

fn is_prefix(value: &str) -> bool {
    let (address, length) = match value.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (value, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    length.is_none_or(|length| length.parse::<u8>().is_ok_and(|length| length <= longest))
}

fn is_tag(value: &str) -> bool {
    value.starts_with(|c: char| c.is_ascii_alphabetic()) && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}
