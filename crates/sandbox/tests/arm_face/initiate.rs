//! The life of an initiate, under every setting of every switch that acts on it.

use serde_json::{Value, json};

use portcullis_sandbox::estate;
use portcullis_sandbox::state::{Lock, LockLevel};
use portcullis_sandbox::switches::{
    EventResource, LetterCase, NewerInitiate, RecordOfDeletedRule, Requestor, Returns, RuleNames, RulesLand, SourceMust, Switches,
};

use crate::support::{CALLER_IP, Desk, after, nsg, policy, vm};

/// Opens web-1's port 22 for an hour from one address, and waits until it is open.
fn opened(desk: &mut Desk) -> Value {
    let end = after(desk, 3600);
    let seen = desk.initiate(22, &json!({"endTimeUtc": end, "allowedSourceAddressPrefix": "198.51.100.7"}));
    assert_eq!(seen.status, 202, "{}", seen.body);
    desk.advance(30);
    seen.body
}

/// Takes web-1's allow rules away, group after group, as somebody with the right would.
fn delete_rules(desk: &mut Desk) {
    for group in ["nsg-web-1", "nsg-servers"] {
        for rule in desk.allow_rules(group) {
            let path = rule["id"].as_str().unwrap_or_default().to_owned();
            let seen = desk.delete(&path);
            assert!([200, 202].contains(&seen.status), "{}", seen.body);
        }
        // Less than it takes for a deleted rule to come back.
        desk.advance(4);
    }
}

fn statuses(desk: &mut Desk) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut all: Vec<_> = desk.record_ports().iter().map(|port| (text(&port["status"]), text(&port["statusReason"]))).collect();
    all.sort();
    all
}

fn status(status: &str, reason: &str) -> Vec<(String, String)> {
    vec![(status.to_owned(), reason.to_owned())]
}

#[test]
fn an_initiate_opens_and_ends_by_itself() {
    let mut desk = Desk::small();
    let end = after(&desk, 3600);
    let seen = desk.initiate(22, &json!({"endTimeUtc": end, "allowedSourceAddressPrefix": "198.51.100.0/28"}));
    assert_eq!(seen.status, 202);
    assert_eq!(
        seen.body,
        json!({
            "virtualMachines": [{"id": vm("web-1"), "ports": [{
                "number": 22, "allowedSourceAddressPrefix": "198.51.100.0/28", "endTimeUtc": end,
                "status": "Initiating", "statusReason": "UserRequested",
            }]}],
            "startTimeUtc": "2026-01-15T09:00:00.0000000Z",
            "requestor": estate::ADMIN_UPN,
            "justification": "a test",
        })
    );
    assert_eq!(statuses(&mut desk), status("Initiating", "UserRequested"));
    assert!(desk.allow_rules("nsg-web-1").is_empty());

    desk.advance(12);
    assert_eq!(statuses(&mut desk), status("Initiated", "UserRequested"));
    assert_eq!(desk.get(&nsg("nsg-web-1")).body["properties"]["provisioningState"], "Updating");
    desk.advance(4);
    let rule = &desk.allow_rules("nsg-web-1")[0];
    assert_eq!(
        rule["properties"],
        json!({
            "provisioningState": "Succeeded",
            "description": "MDC JIT Network Access rule created by an initiation request for policy 'default' of VM 'web-1'.",
            "protocol": "TCP", "access": "Allow", "priority": 100, "direction": "Inbound",
            "sourcePortRange": "*", "sourcePortRanges": [],
            "destinationPortRange": "22", "destinationPortRanges": [],
            "sourceAddressPrefix": "198.51.100.0/28", "sourceAddressPrefixes": [],
            "destinationAddressPrefix": "10.0.0.4", "destinationAddressPrefixes": [],
        })
    );
    assert_eq!(desk.get(&nsg("nsg-web-1")).body["properties"]["provisioningState"], "Succeeded");

    desk.advance(3600 - 16 + 29);
    assert_eq!(desk.allow_rules("nsg-web-1").len(), 1, "it goes late");
    desk.advance(1);
    assert_eq!(statuses(&mut desk), status("Revoked", "Expired"));
    assert!(desk.allow_rules("nsg-web-1").is_empty() && desk.allow_rules("nsg-servers").is_empty());
    let rules = desk.get(&nsg("nsg-web-1")).body["properties"]["securityRules"].clone();
    assert!(rules[0]["name"].as_str().unwrap_or_default().contains("-JITRule_"), "the deny rule stays: {rules}");
}

#[test]
fn an_omitted_source_is_the_callers_address_and_a_duration_is_an_end() {
    let mut desk = Desk::small();
    let seen = desk.initiate(3389, &json!({"duration": "PT3H"}));
    let port = &seen.body["virtualMachines"][0]["ports"][0];
    assert_eq!(port["allowedSourceAddressPrefix"], CALLER_IP);
    assert_eq!(port["endTimeUtc"], "2026-01-15T12:00:00.0000000Z");
}

#[test]
fn time_in_initiating_is_the_worlds_choice() {
    for seconds in [0, 120] {
        let mut desk = Desk::small();
        desk.state.switches.initiating_seconds = seconds;
        let seen = desk.initiate(22, &json!({"duration": "PT1H"}));
        assert_eq!(seen.body["virtualMachines"][0]["ports"][0]["status"], "Initiating");
        desk.advance((seconds - 1).max(0));
        let early = statuses(&mut desk);
        desk.advance(1);
        assert_eq!(statuses(&mut desk), status("Initiated", "UserRequested"));
        assert_eq!(early[0].0, if seconds == 0 { "Initiated" } else { "Initiating" });
    }
}

#[test]
fn an_end_before_the_opening_opens_nothing() {
    let mut desk = Desk::small();
    desk.state.switches.initiating_seconds = 120;
    desk.initiate(22, &json!({"duration": "PT60S"}));
    desk.advance(300);
    assert_eq!(statuses(&mut desk), status("Revoked", "Expired"));
    assert!(desk.allow_rules("nsg-web-1").is_empty());
}

#[test]
fn rules_land_where_the_world_says() {
    for (land, nic, subnet) in [(RulesLand::Nic, 1, 0), (RulesLand::Subnet, 0, 1), (RulesLand::Both, 1, 1)] {
        let mut desk = Desk::small();
        desk.state.switches.rules_land = land;
        opened(&mut desk);
        let found = (desk.allow_rules("nsg-web-1").len(), desk.allow_rules("nsg-servers").len());
        assert_eq!(found, (nic, subnet), "{land:?}");
        desk.advance(4000);
        let left = desk.allow_rules("nsg-web-1").len() + desk.allow_rules("nsg-servers").len();
        assert_eq!(left, 0, "{land:?}");
    }
}

/// Whoever is granted something gets in where JIT's rules of both kinds are in the same groups alone.
#[test]
fn where_rules_land_may_change_while_the_world_runs() {
    let mut desk = Desk::small();
    for (land, nic, subnet) in [(RulesLand::Nic, 1, 0), (RulesLand::Subnet, 0, 1), (RulesLand::Both, 1, 1), (RulesLand::Subnet, 0, 1)] {
        let switches = Switches { rules_land: land, ..desk.state.switches.clone() };
        estate::set_switches(&mut desk.state, switches);
        let denied = |desk: &mut Desk, group: &str| {
            let body = desk.get(&nsg(group)).body;
            let rules = body["properties"]["securityRules"].as_array().cloned().unwrap_or_default();
            rules.iter().filter(|rule| rule["properties"]["access"] == "Deny" && rule["properties"]["direction"] == "Inbound").count()
        };
        let of_jit = (denied(&mut desk, "nsg-web-1") > 0, denied(&mut desk, "nsg-servers") > 0);
        assert_eq!(of_jit, (nic > 0, subnet > 0), "{land:?}");
        opened(&mut desk);
        assert_eq!((desk.allow_rules("nsg-web-1").len(), desk.allow_rules("nsg-servers").len()), (nic, subnet), "{land:?}");
        desk.advance(4000);
    }
}

#[test]
fn rule_names_are_of_the_generation_that_the_world_has() {
    for (names, prefix, product) in [
        (RuleNames::SecurityCenter, "SecurityCenter-JITRule-", "ASC JIT"),
        (RuleNames::MicrosoftDefenderForCloud, "MicrosoftDefenderForCloud-JITRule-", "MDC JIT"),
    ] {
        let mut desk = Desk::small();
        desk.state.switches.rule_names = names;
        opened(&mut desk);
        let rule = desk.allow_rules("nsg-web-1").remove(0);
        assert!(rule["name"].as_str().unwrap_or_default().starts_with(prefix));
        assert!(rule["properties"]["description"].as_str().unwrap_or_default().starts_with(product));
    }
}

#[test]
fn a_newer_initiate_replaces_or_adds() {
    for (newer, rules, records) in [
        (NewerInitiate::Replaces, 1, vec![("Initiated", "UserRequested"), ("Revoked", "NewerRequestInitiated")]),
        (NewerInitiate::Adds, 2, vec![("Initiated", "UserRequested"), ("Initiated", "UserRequested")]),
    ] {
        let mut desk = Desk::small();
        desk.state.switches.newer_initiate = newer;
        opened(&mut desk);
        desk.initiate(22, &json!({"duration": "PT2H", "allowedSourceAddressPrefix": "198.51.100.8"}));
        desk.advance(30);
        assert_eq!(desk.allow_rules("nsg-web-1").len(), rules, "{newer:?}");
        let found = statuses(&mut desk);
        let found: Vec<_> = found.iter().map(|(s, r)| (s.as_str(), r.as_str())).collect();
        assert_eq!(found, records, "{newer:?}");
        desk.advance(3700);
        let left = desk.allow_rules("nsg-web-1");
        assert_eq!(left.len(), 1, "{newer:?}: the end of one is not the end of the other");
        assert_eq!(left[0]["properties"]["sourceAddressPrefix"], "198.51.100.8");
        desk.advance(4000);
        assert!(desk.allow_rules("nsg-web-1").is_empty());
    }
}

#[test]
fn a_deleted_rule_returns_as_often_as_the_world_says() {
    for (returns, after_first, after_second) in [(Returns::Never, 0, 0), (Returns::Once, 1, 0), (Returns::Always, 1, 1)] {
        let mut desk = Desk::small();
        desk.state.switches.deleted_rule_returns = returns;
        opened(&mut desk);
        delete_rules(&mut desk);
        desk.advance(30);
        assert_eq!(desk.allow_rules("nsg-web-1").len(), after_first, "{returns:?}");
        assert_eq!(desk.allow_rules("nsg-servers").len(), after_first, "{returns:?}");
        delete_rules(&mut desk);
        desk.advance(30);
        assert_eq!(desk.allow_rules("nsg-web-1").len(), after_second, "{returns:?}");
        desk.advance(4000);
        assert!(desk.allow_rules("nsg-web-1").is_empty(), "{returns:?}: nothing returns after the record's end");
    }
}

#[test]
fn the_record_of_a_deleted_rule_becomes_what_the_world_says() {
    for (switch, expected) in [
        (RecordOfDeletedRule::StaysInitiated, status("Initiated", "UserRequested")),
        (RecordOfDeletedRule::Revoked, status("Revoked", "UserRequested")),
        (RecordOfDeletedRule::Disappears, Vec::new()),
    ] {
        let mut desk = Desk::small();
        desk.state.switches.record_of_deleted_rule = switch;
        opened(&mut desk);
        delete_rules(&mut desk);
        assert_eq!(statuses(&mut desk), expected, "{switch:?}");
    }
}

#[test]
fn a_source_must_lie_inside_or_be_equal() {
    for (switch, outer, inside, equal) in [(SourceMust::LieInside, 400, 202, 202), (SourceMust::Equal, 400, 400, 202)] {
        let mut desk = Desk::small();
        desk.state.switches.source_must = switch;
        if let Some(policy) = desk.state.resources.get_mut(&policy()) {
            policy["properties"]["virtualMachines"][0]["ports"][0]["allowedSourceAddressPrefix"] = json!("10.1.0.0/16");
        }
        let mut ask = |source: &str| {
            let port = json!({"duration": "PT1H", "allowedSourceAddressPrefix": source});
            desk.initiate(22, &port).status
        };
        assert_eq!(ask("10.0.0.0/8"), outer, "{switch:?}");
        assert_eq!(ask("10.1.2.0/24"), inside, "{switch:?}");
        assert_eq!(ask("10.1.0.0/16"), equal, "{switch:?}");
        assert_eq!(ask("*"), 400, "{switch:?}");
    }
}

#[test]
fn plural_sources_are_taken_or_refused() {
    for (taken, expected) in [(true, 202), (false, 400)] {
        let mut desk = Desk::small();
        desk.state.switches.plural_sources = taken;
        let sources = json!(["198.51.100.7", "198.51.100.9"]);
        let seen = desk.initiate(22, &json!({"duration": "PT1H", "allowedSourceAddressPrefixes": sources}));
        assert_eq!(seen.status, expected);
        desk.advance(30);
        let rules = desk.allow_rules("nsg-web-1");
        assert_eq!(rules.len(), usize::from(taken));
        if let Some(rule) = rules.first() {
            assert_eq!(rule["properties"]["sourceAddressPrefixes"], sources);
            assert_eq!(rule["properties"].get("sourceAddressPrefix"), None);
        }
    }
}

#[test]
fn how_late_a_rule_goes_is_asked_at_the_records_end() {
    let mut desk = Desk::small();
    desk.initiate(22, &json!({"duration": "PT1H"}));
    desk.advance(3_599);
    desk.state.switches.expiry_delay_seconds = 120;
    desk.advance(120);
    assert_eq!((desk.record_ports()[0]["status"].clone(), desk.allow_rules("nsg-web-1").len()), (json!("Initiated"), 1));
    desk.advance(1);
    assert_eq!((desk.record_ports()[0]["status"].clone(), desk.allow_rules("nsg-web-1").len()), (json!("Revoked"), 0));

    desk.initiate(22, &json!({"duration": "PT1H"}));
    desk.advance(1_800);
    desk.state.switches.expiry_delay_seconds = 0;
    desk.advance(1_800);
    assert!(desk.allow_rules("nsg-web-1").is_empty());
}

#[test]
fn the_shortest_end_is_the_worlds_choice() {
    for (shortest, expected) in [(0, 202), (300, 400)] {
        let mut desk = Desk::small();
        desk.state.switches.smallest_end_seconds = shortest;
        assert_eq!(desk.initiate(22, &json!({"duration": "PT2M"})).status, expected);
        assert_eq!(desk.initiate(22, &json!({"duration": "PT5M"})).status, 202);
    }
}

#[test]
fn the_requestor_is_a_persons_upn_or_nothing() {
    for (switch, who, expected) in [
        (Requestor::Filled, estate::RESPONDER_OBJECT_ID, estate::RESPONDER_UPN),
        (Requestor::Filled, estate::CLIENT_OBJECT_ID, ""),
        (Requestor::Empty, estate::RESPONDER_OBJECT_ID, ""),
    ] {
        let mut desk = Desk::small();
        desk.state.switches.requestor = switch;
        let seen = desk.as_(who).initiate(22, &json!({"duration": "PT1H"}));
        assert_eq!(seen.body["requestor"], expected, "{switch:?}");
    }
}

#[test]
fn the_events_of_an_initiate_name_what_the_world_says() {
    let vm_id = vm("web-1");
    for (switch, expected) in [
        (EventResource::Policy, vec![policy()]),
        (EventResource::Vm, vec![vm_id.clone()]),
        (EventResource::Both, vec![policy(), vm_id.clone()]),
    ] {
        let mut desk = Desk::small();
        desk.state.switches.event_resource = switch;
        let seen = desk.as_(estate::RESPONDER_OBJECT_ID).initiate(22, &json!({"duration": "PT1H"}));
        let events = &desk.state.event_grid.pending;
        let subjects: Vec<_> = events.iter().map(|e| e.body["subject"].as_str().unwrap_or_default()).collect();
        assert_eq!(subjects, expected, "{switch:?}");
        let data = &events[0].body["data"];
        assert_eq!(events[0].body["eventType"], "Microsoft.Resources.ResourceActionSuccess");
        assert_eq!(data["operationName"], "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action");
        assert_eq!(data["resourceUri"], expected[0]);
        assert_eq!(data["status"], "Succeeded");
        assert_eq!(data["correlationId"].as_str(), seen.header("x-ms-correlation-request-id"));
        let claims = &data["claims"];
        assert_eq!(claims["http://schemas.microsoft.com/identity/claims/objectidentifier"], estate::RESPONDER_OBJECT_ID);
        assert_eq!(claims["http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn"], estate::RESPONDER_UPN);
        assert_eq!(claims["ipaddr"], CALLER_IP);
        assert!(!data.to_string().contains("\"ports\""), "the request's body is not in the event");
    }
}

#[test]
fn ids_come_in_the_letter_case_that_the_world_has() {
    for (case, change) in [
        (LetterCase::AsGiven, None),
        (LetterCase::Upper, Some(str::to_ascii_uppercase as fn(&str) -> String)),
        (LetterCase::Lower, Some(str::to_ascii_lowercase as fn(&str) -> String)),
    ] {
        let mut desk = Desk::small();
        desk.state.switches.letter_case = case;
        opened(&mut desk);
        let seen = desk.get(&policy().to_ascii_uppercase());
        let id = seen.body["id"].as_str().unwrap_or_default().to_owned();
        let expected = change.map_or_else(policy, |change| change(&policy()));
        assert_eq!(id, expected, "{case:?}");
        assert_eq!(desk.state.event_grid.pending[0].body["subject"], expected, "{case:?}");
        desk.advance(4000);
        assert_eq!(statuses(&mut desk), status("Revoked", "Expired"), "{case:?}");
        assert!(desk.allow_rules("nsg-web-1").is_empty(), "{case:?}");
    }
}

#[test]
fn two_records_of_one_instant_have_different_starts() {
    let mut desk = Desk::small();
    let first = desk.initiate(22, &json!({"duration": "PT1H"}));
    let second = desk.initiate(3389, &json!({"duration": "PT1H"}));
    assert_eq!(first.body["startTimeUtc"], "2026-01-15T09:00:00.0000000Z");
    assert_eq!(second.body["startTimeUtc"], "2026-01-15T09:00:00.0000001Z");
    desk.advance(30);
    let ports: Vec<_> = desk.allow_rules("nsg-web-1").iter().map(|r| r["properties"]["destinationPortRange"].clone()).collect();
    assert_eq!(ports, ["22", "3389"]);
    let priorities: Vec<_> = desk.allow_rules("nsg-web-1").iter().map(|r| r["properties"]["priority"].clone()).collect();
    assert_eq!(priorities, [100, 101]);
}

#[test]
fn jit_waits_while_somebody_else_writes_the_group() {
    let mut desk = Desk::small();
    desk.state.switches.operation_seconds = 20;
    desk.initiate(22, &json!({"duration": "PT1H"}));
    desk.advance(10);
    let path = format!("{}/securityRules/other", nsg("nsg-servers"));
    assert_eq!(desk.put(&path, &crate::support::a_rule(500)).status, 201);
    desk.advance(15);
    assert_eq!(statuses(&mut desk), status("Initiating", "UserRequested"));
    assert!(desk.allow_rules("nsg-web-1").is_empty(), "nothing is half done");
    desk.advance(6);
    assert_eq!(statuses(&mut desk), status("Initiated", "UserRequested"));
}

#[test]
fn a_delete_lock_keeps_even_jit_from_closing() {
    let mut desk = Desk::small();
    opened(&mut desk);
    desk.state.locks.push(Lock::new(nsg("nsg-web-1"), LockLevel::CanNotDelete));
    desk.advance(4000);
    assert_eq!(statuses(&mut desk), status("Revoked", "Expired"), "the record says nothing of the rule");
    assert_eq!(desk.allow_rules("nsg-web-1").len(), 1);
    assert_eq!(desk.allow_rules("nsg-servers").len(), 0);
    desk.state.locks.clear();
    desk.advance(400);
    assert_eq!(desk.allow_rules("nsg-web-1").len(), 0);
}

#[test]
fn a_vm_that_nothing_filters_cannot_be_opened() {
    let mut desk = Desk::small();
    let bare = estate::Vm::new(estate::SUBSCRIPTION, estate::GROUP, "bare");
    let no_group = estate::Vm {
        nics: vec![estate::Nic { addresses: vec!["10.0.0.9".to_owned()], ..estate::Nic::default() }],
        ..estate::Vm::new(estate::SUBSCRIPTION, estate::GROUP, "no-group")
    };
    let group = nsg("nsg-web-1");
    let no_address = estate::Vm {
        nics: vec![estate::Nic { nsg: Some(group), ..estate::Nic::default() }],
        ..estate::Vm::new(estate::SUBSCRIPTION, estate::GROUP, "no-address")
    };
    let vms: Vec<String> = [bare, no_group, no_address].iter().map(|vm| estate::add_vm(&mut desk.state, vm)).collect();
    let policy = estate::add_policy(&mut desk.state, estate::SUBSCRIPTION, estate::GROUP, "odd", &vms, &[22]);
    for vm in &vms {
        let body = json!({"virtualMachines": [{"id": vm, "ports": [{"number": 22, "duration": "PT1H"}]}]});
        assert_eq!(desk.post(&format!("{policy}/initiate"), &body).status, 202);
    }
    desk.advance(30);
    let records = desk.get(&policy).body["properties"]["requests"].clone();
    assert_eq!(records.as_array().map(Vec::len), Some(3));
    for record in records.as_array().into_iter().flatten() {
        assert_eq!(record["virtualMachines"][0]["ports"][0]["status"], "Failed");
    }
}

#[test]
fn a_vm_with_several_nics_and_groups_is_opened_at_each() {
    let mut desk = Desk::small();
    let first = estate::add_nsg(&mut desk.state, estate::SUBSCRIPTION, estate::GROUP, "nsg-a");
    let second = estate::add_nsg(&mut desk.state, estate::SUBSCRIPTION, estate::GROUP, "nsg-b");
    let nic = |group: &str, address: &str| estate::Nic {
        nsg: Some(group.to_owned()),
        subnet: None,
        addresses: vec![address.to_owned(), "fd00::5".to_owned()],
    };
    let two = estate::Vm {
        nics: vec![nic(&first, "10.0.0.20"), nic(&second, "10.0.0.21")],
        ..estate::Vm::new(estate::SUBSCRIPTION, estate::GROUP, "two")
    };
    let id = estate::add_vm(&mut desk.state, &two);
    let policy = estate::add_policy(&mut desk.state, estate::SUBSCRIPTION, estate::GROUP, "two", std::slice::from_ref(&id), &[22]);
    let body = json!({"virtualMachines": [{"id": id, "ports": [{"number": 22, "duration": "PT1H"}]}]});
    assert_eq!(desk.post(&format!("{policy}/initiate"), &body).status, 202);
    desk.advance(30);
    for (group, address) in [("nsg-a", "10.0.0.20"), ("nsg-b", "10.0.0.21")] {
        let rules = desk.allow_rules(group);
        assert_eq!(rules.len(), 1, "{group}");
        assert_eq!(rules[0]["properties"]["destinationAddressPrefix"], address);
    }
}

#[test]
fn the_worlds_log_says_who_wrote_what() {
    let mut desk = Desk::small();
    desk.as_(estate::RESPONDER_OBJECT_ID).initiate(22, &json!({"duration": "PT1H"}));
    desk.advance(30);
    let first = &desk.state.log[0];
    assert_eq!(
        (first.caller.as_str(), first.what.as_str(), first.target.as_str(), first.status),
        ("Rosa Responder", "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action", policy().as_str(), 202)
    );
    let own: Vec<_> = desk.state.log.iter().filter(|e| e.caller == "Windows Azure Security Resource Provider").collect();
    assert_eq!(own.len(), 2);
    assert!(own.iter().all(|e| e.what == "Microsoft.Network/networkSecurityGroups/securityRules/write" && e.object_id.is_empty()));
    desk.delete(&format!("{}/securityRules/none", nsg("nsg-web-1")));
    let last = desk.state.log.last().map(|e| (e.status, e.what.clone()));
    assert_eq!(last, Some((403, "Microsoft.Network/networkSecurityGroups/securityRules/delete".to_owned())));
}
