//! Rules of others, which stand in every group of a trial beside JIT's own: nothing that is alike in name, access or direction alone
//! may be touched.

use portcullis_sandbox::arm::jit_rules::vm_number;
use portcullis_sandbox::estate;
use portcullis_sandbox::state::{LogEntry, State};
use serde_json::{Value, json};

use super::vm;
use crate::script::MACHINES;

/// What makes each of them none of JIT's: its name, its access and its direction.
fn kinds() -> Vec<(String, &'static str, &'static str)> {
    let number = |place: usize| vm_number(&vm(MACHINES[place]));
    let named = |prefix: &str, place: usize, separator: char, hex: &str| {
        format!("{prefix}-JITRule{separator}{}{separator}{}", number(place), hex.repeat(32 / hex.len()))
    };
    vec![
        ("allow-management-from-anywhere".to_owned(), "Allow", "Inbound"),
        (format!("my-{}", named("MicrosoftDefenderForCloud", 0, '-', "A1")), "Allow", "Inbound"),
        (format!("{}-old", named("SecurityCenter", 0, '-', "B2")), "Allow", "Inbound"),
        (named("MicrosoftDefenderForCloud", 0, '-', "C3"), "Deny", "Inbound"),
        (named("SecurityCenter", 1, '-', "D4"), "Allow", "Outbound"),
        (named("MicrosoftDefenderForCloud", 0, '_', "E5"), "Allow", "Inbound"),
    ]
}

/// The priority of the first of them, and of each the next: JIT takes lower and higher ones.
const PRIORITY: usize = 2_000;

/// Adds them to every group that there is.
pub(crate) fn add(state: &mut State) {
    for group in groups(state) {
        let rules = kinds().into_iter().enumerate().map(|(place, kind)| rule(&group, place, kind)).collect::<Vec<_>>();
        let known = state.resources.get_mut(&group).and_then(|group| group["properties"]["securityRules"].as_array_mut());
        known.into_iter().for_each(|known| known.extend(rules.clone()));
    }
}

/// Those that are gone or changed, unless somebody who is none of ours wrote to them or to their group, or the group is gone.
pub(crate) fn touched(state: &State) -> Vec<String> {
    let mut touched = Vec::new();
    for group in groups(state).iter().filter(|group| has_any(state, group)) {
        let rules = &state.resources.get(group).unwrap_or(&Value::Null)["properties"]["securityRules"];
        for (place, kind) in kinds().into_iter().enumerate() {
            let rule = rule(group, place, kind);
            // Azure gives each rule of a group that is written another etag.
            let is_it = |known: &Value| known["id"] == rule["id"] && known["properties"] == rule["properties"];
            let stands = rules.as_array().is_some_and(|rules| rules.iter().any(is_it));
            let id = rule["id"].as_str().unwrap_or_default();
            let is_by_a_person = |entry: &LogEntry| {
                let is_theirs = !entry.object_id.is_empty() && entry.object_id != estate::PRODUCT_OBJECT_ID;
                is_theirs && [id, group.as_str()].iter().any(|target| target.eq_ignore_ascii_case(&entry.target))
            };
            if !stands && !state.log.iter().any(is_by_a_person) {
                touched.push(format!("a rule that is not JIT's was touched: {id}"));
            }
        }
    }
    touched
}

fn groups(state: &State) -> Vec<String> {
    let groups = state.resources.of_type("Microsoft.Network/networkSecurityGroups");
    groups.filter_map(|group| group["id"].as_str()).map(str::to_owned).collect()
}

fn rule(group: &str, place: usize, (name, access, direction): (String, &str, &str)) -> Value {
    json!({
        "name": name,
        "id": format!("{group}/securityRules/{name}"),
        "etag": format!("W/\"{place}\""),
        "type": "Microsoft.Network/networkSecurityGroups/securityRules",
        "properties": {
            "provisioningState": "Succeeded",
            "protocol": "*",
            "sourcePortRange": "*",
            "destinationPortRange": if place.is_multiple_of(2) { "22" } else { "3389" },
            "sourceAddressPrefix": "*",
            "destinationAddressPrefix": "*",
            "access": access,
            "priority": PRIORITY + place,
            "direction": direction,
        },
    })
}

fn has_any(state: &State, group: &str) -> bool {
    let rules = state.resources.get(group).and_then(|group| group["properties"]["securityRules"].as_array());
    rules.is_some_and(|rules| kinds().iter().any(|(name, ..)| rules.iter().any(|rule| rule["name"] == name.as_str())))
}
