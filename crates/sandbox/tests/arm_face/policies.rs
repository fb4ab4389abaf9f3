//! PUT, DELETE and lists of JIT policies; lists in pages; what sees which subscription.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use portcullis_sandbox::estate;
use portcullis_sandbox::state::State;
use portcullis_sandbox::switches::SubscriptionParents;

use crate::support::{Desk, in_group, in_subscription, nsg, policy, vm};

fn an_entry(name: &str, ports: &[u16]) -> Value {
    let ports: Vec<Value> = ports
        .iter()
        .map(|p| json!({"number": p, "protocol": "TCP", "allowedSourceAddressPrefix": "*", "maxRequestAccessDuration": "PT3H"}))
        .collect();
    json!({"id": vm(name), "ports": ports})
}

fn a_policy(entries: &[Value]) -> Value {
    json!({"kind": "Basic", "properties": {"virtualMachines": entries}})
}

fn jit_rules(desk: &mut Desk, group: &str) -> Vec<String> {
    let body = desk.get(&nsg(group)).body;
    let rules = body["properties"]["securityRules"].as_array().cloned().unwrap_or_default();
    let about = |rule: &Value| rule["properties"]["description"].as_str().unwrap_or_default().to_owned();
    rules.iter().map(about).filter(|text| text.contains("JIT Network Access rule")).collect()
}

#[test]
fn a_put_is_updating_and_then_succeeds_and_keeps_the_records() {
    let mut desk = Desk::small();
    desk.initiate(22, &json!({"duration": "PT1H"}));
    desk.advance(30);
    let entries = [an_entry("web-1", &[22, 5985]), an_entry("web-2", &[22])];
    let seen = desk.put(&policy(), &a_policy(&entries));
    assert_eq!(seen.status, 200);
    let properties = &seen.body["properties"];
    assert_eq!(properties["provisioningState"], "Updating");
    assert_eq!((&properties["requests"], &properties["appendMode"]), (&json!([]), &json!(false)));
    assert_eq!(seen.header("x-ms-request-id"), Some(""));
    assert_eq!(desk.record_ports().len(), 1, "the answer's empty list says nothing of the records");
    desk.advance(30);
    let body = desk.get(&policy()).body;
    assert_eq!(body["properties"]["provisioningState"], "Succeeded");
    assert_eq!(body["properties"]["requests"][0]["virtualMachines"][0]["ports"][0]["status"], "Initiated");
    assert!(!jit_rules(&mut desk, "nsg-web-1").is_empty());
    assert_eq!(jit_rules(&mut desk, "nsg-db-1"), Vec::<String>::new(), "the dropped VM has no rule of JIT's");
    assert!(!jit_rules(&mut desk, "nsg-servers").iter().any(|text| text.contains("'db-1'")));
    let rules = desk.get(&nsg("nsg-web-1")).body["properties"]["securityRules"].clone();
    let deny = rules.as_array().into_iter().flatten().find(|r| r["properties"]["access"] == "Deny").cloned().unwrap_or_default();
    assert_eq!(deny["properties"]["destinationPortRanges"], json!(["22", "5985"]));
}

#[test]
fn a_put_closes_what_was_open_where_the_world_says_so() {
    for closes in [false, true] {
        let mut desk = Desk::small();
        desk.state.switches.put_closes_records = closes;
        desk.initiate(22, &json!({"duration": "PT1H"}));
        desk.advance(30);
        let entries = ["web-1", "web-2", "db-1"].map(|name| an_entry(name, &[22, 3389]));
        desk.put(&policy(), &a_policy(&entries));
        desk.advance(30);
        let status = if closes { "Revoked" } else { "Initiated" };
        assert_eq!(desk.record_ports()[0]["status"], status);
        assert_eq!(desk.allow_rules("nsg-web-1").len(), usize::from(!closes));
    }
}

#[test]
fn a_vm_dropped_while_it_opens_is_not_opened() {
    let mut desk = Desk::small();
    desk.initiate(22, &json!({"duration": "PT1H"}));
    desk.put(&policy(), &a_policy(&[an_entry("web-2", &[22])]));
    desk.advance(60);
    assert!(desk.allow_rules("nsg-web-1").is_empty());
    assert_eq!(desk.record_ports()[0]["status"], "Revoked");
}

#[test]
fn a_delete_takes_all_of_jits_rules_away() {
    let mut desk = Desk::small();
    desk.initiate(22, &json!({"duration": "PT1H"}));
    desk.advance(30);
    let seen = desk.delete(&policy());
    assert_eq!((seen.status, seen.body), (200, Value::Null));
    for group in ["nsg-web-1", "nsg-web-2", "nsg-db-1", "nsg-servers"] {
        assert_eq!(jit_rules(&mut desk, group), Vec::<String>::new(), "{group}");
    }
    assert_eq!(desk.get(&policy()).code(), "PolicyNotFound");
    assert_eq!(desk.delete(&policy()).status, 204);
    desk.advance(4000);
    assert!(desk.state.due.is_empty());
}

#[test]
fn the_deny_rule_comes_before_a_permissive_one() {
    let mut desk = Desk::small();
    desk.delete(&policy());
    desk.advance(30);
    let mut open = crate::support::a_rule(1001);
    open["properties"]["destinationPortRange"] = json!("20-25");
    desk.put(&format!("{}/securityRules/AllowSsh", nsg("nsg-web-1")), &open);
    desk.advance(30);
    desk.put(&policy(), &a_policy(&[an_entry("web-1", &[22]), an_entry("web-2", &[22])]));
    desk.advance(30);
    let mut priorities = |group: &str| {
        let rules = desk.get(&nsg(group)).body["properties"]["securityRules"].clone();
        let deny = rules.as_array().cloned().unwrap_or_default().into_iter().filter(|r| r["properties"]["access"] == "Deny");
        deny.map(|r| r["properties"]["priority"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(priorities("nsg-web-1"), [1000]);
    assert_eq!(priorities("nsg-web-2"), [4096]);
    assert_eq!(priorities("nsg-servers"), [4096, 4095], "each VM's rule has its own");
}

#[test]
fn fields_of_a_firewall_pass_through() {
    let mut desk = Desk::small();
    let mut entry = an_entry("web-1", &[22]);
    entry["publicIpAddress"] = json!("203.0.113.80");
    desk.put(&policy(), &a_policy(&[entry]));
    desk.initiate(22, &json!({"duration": "PT1H"}));
    if let Some(policy) = desk.state.resources.get_mut(&policy()) {
        policy["properties"]["requests"][0]["virtualMachines"][0]["ports"][0]["mappedPort"] = json!(13389);
    }
    desk.advance(30);
    let body = desk.get(&policy()).body;
    assert_eq!(body["properties"]["virtualMachines"][0]["publicIpAddress"], "203.0.113.80");
    let port = &body["properties"]["requests"][0]["virtualMachines"][0]["ports"][0];
    assert_eq!((&port["mappedPort"], &port["status"]), (&json!(13389), &json!("Initiated")));
}

#[test]
fn all_four_lists_hold_the_policy() {
    let mut desk = Desk::small();
    for (path, count) in [
        (in_subscription("Microsoft.Security/jitNetworkAccessPolicies"), 1),
        (in_subscription("Microsoft.Security/locations/westeurope/jitNetworkAccessPolicies"), 1),
        (in_subscription("Microsoft.Security/locations/northeurope/jitNetworkAccessPolicies"), 0),
        (in_group("Microsoft.Security/jitNetworkAccessPolicies"), 1),
        (in_group("Microsoft.Security/locations/westeurope/jitNetworkAccessPolicies"), 1),
    ] {
        let seen = desk.get(&path);
        assert_eq!(seen.body["value"].as_array().map(Vec::len), Some(count), "{path}");
        assert_eq!(seen.header("x-ms-ratelimit-remaining-subscription-resource-requests"), Some("749"));
    }
}

#[test]
fn a_list_is_followed_page_by_page_to_all_of_it() {
    let mut state = State::default();
    estate::large(&mut state, 105);
    let mut desk = Desk::over(state);
    for size in [0, 1, 7, 100] {
        desk.state.switches.page_size = size;
        let mut names = BTreeSet::new();
        let mut pages = 0;
        let mut next = Some(in_subscription("Microsoft.Compute/virtualMachines?api-version=2021-03-01&statusOnly=false"));
        while let Some(path) = next {
            let seen = desk.get(&path);
            assert_eq!(seen.status, 200, "{}", seen.body);
            let page = seen.body["value"].as_array().cloned().unwrap_or_default();
            assert!(size == 0 || page.len() <= size);
            names.extend(page.iter().map(|vm| vm["name"].to_string()));
            next = seen.body["nextLink"].as_str().map(str::to_owned);
            pages += 1;
        }
        assert_eq!(names.len(), 100, "page size {size}");
        assert_eq!(pages, if size == 0 { 1 } else { 100_usize.div_ceil(size) });
    }
    assert_eq!(desk.get("/subscriptions").body["value"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_skip_token_of_another_list_is_refused() {
    let mut desk = Desk::small();
    desk.state.switches.page_size = 1;
    let next = desk.get(&in_subscription("Microsoft.Compute/virtualMachines")).body["nextLink"].as_str().unwrap_or_default().to_owned();
    assert_eq!(desk.get(&next).status, 200);
    let elsewhere = next.replace("Microsoft.Compute/virtualMachines", "Microsoft.Network/networkInterfaces");
    let seen = desk.get(&elsewhere);
    assert_eq!((seen.status, seen.code()), (400, "InvalidSkipToken"));
}

#[test]
fn what_a_vm_is_doing_is_told_to_who_asks_for_it() {
    let mut desk = Desk::small();
    let codes = |view: &Value| -> Vec<String> {
        let statuses = view["statuses"].as_array().into_iter().flatten();
        statuses.map(|status| status["code"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let running = ["ProvisioningState/succeeded", "PowerState/running"];
    let plain = desk.get(&vm("web-1")).body;
    assert!(plain["properties"].get("instanceView").is_none());
    let mut expanded = desk.get(&format!("{}?$expand=instanceView", vm("web-1"))).body;
    let view = expanded["properties"].as_object_mut().and_then(|properties| properties.remove("instanceView")).unwrap_or_default();
    assert_eq!(codes(&view), running);
    assert_eq!(expanded, plain, "nothing else changes");
    assert_eq!(desk.get(&format!("{}/instanceView", vm("WEB-1"))).body, view);
    assert_eq!(desk.get(&format!("{}?$expand=userData", vm("web-1"))).body, plain);
    let list = desk.get(&in_subscription("Microsoft.Compute/virtualMachines?statusOnly=true")).body;
    let all = list["value"].as_array().cloned().unwrap_or_default();
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|vm| vm["properties"]["instanceView"] == view));
    assert_eq!(desk.get(&format!("{}/instanceView", vm("none"))).status, 404);
    assert_eq!(desk.post(&format!("{}/instanceView", vm("web-1")), &Value::Null).status, 405);
    let id = vm("web-1");
    let stopped = json!({"statuses": [{"code": "PowerState/deallocated"}]});
    if let Some(body) = desk.state.resources.get_mut(&id) {
        body["properties"]["instanceView"] = stopped.clone();
    }
    assert_eq!(desk.get(&format!("{id}/instanceView")).body, stopped, "what the world's file says comes first");
}

#[test]
fn what_clients_sign_in_by_needs_no_token() {
    let mut desk = Desk::small();
    let mut metadata = |version: &str| {
        let seen = desk.send_with("GET", &format!("/metadata/endpoints?api-version={version}"), bytes::Bytes::new(), None);
        assert_eq!(seen.status, 200, "{version}");
        seen.body
    };
    let one = metadata("2022-09-01");
    assert_eq!(one["resourceManager"], crate::support::BASE);
    assert_ne!(one["name"], "AzureCloud", "az would send its users to the public login endpoint");
    assert!(one["authentication"]["loginEndpoint"].is_string());
    assert_eq!(metadata("2019-05-01"), json!([one]));
    for oldest in ["1.0", "2018-05-01"] {
        let keys: BTreeSet<String> = metadata(oldest).as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys.into_iter().collect::<Vec<_>>(), ["authentication", "galleryEndpoint", "graphEndpoint", "portalEndpoint"]);
    }
    let refused = desk.send_with("GET", "/metadata/endpoints?api-version=2.0", bytes::Bytes::new(), None);
    assert_eq!((refused.status, refused.code()), (400, "InvalidApiVersionParameter"));
    let tenants = desk.get("/tenants");
    assert_eq!(tenants.body["value"][0]["tenantId"], desk.state.tenant_id.as_str());
    let seen = desk.get(&format!("/SUBSCRIPTIONS/{}", estate::SUBSCRIPTION));
    assert_eq!(seen.body["subscriptionId"], estate::SUBSCRIPTION);
    let group = |name: &str| format!("/subscriptions/{}/resourcegroups/{name}", estate::SUBSCRIPTION);
    assert_eq!(desk.send("HEAD", &group(&estate::GROUP.to_uppercase()), bytes::Bytes::new()).status, 204);
    assert_eq!(desk.send("HEAD", &group("none"), bytes::Bytes::new()).status, 404);
    let groups = desk.get(&format!("/subscriptions/{}/resourcegroups", estate::SUBSCRIPTION));
    assert_eq!(groups.body["value"][0]["name"], estate::GROUP);
    let plan = desk.get(&in_subscription("Microsoft.Security/pricings/VirtualMachines"));
    assert_eq!(plan.body["properties"]["subPlan"], "P2");
}

#[test]
fn the_products_identity_may_do_its_duties_and_no_more() {
    let mut desk = Desk::small();
    desk.as_(estate::PRODUCT_OBJECT_ID);
    for path in [
        policy(),
        in_subscription("Microsoft.Security/jitNetworkAccessPolicies"),
        in_subscription("Microsoft.Compute/virtualMachines"),
        in_subscription("Microsoft.Network/networkInterfaces"),
        in_subscription("Microsoft.Network/networkSecurityGroups"),
        in_group("Microsoft.Network/virtualNetworks/vnet-workload/subnets/servers"),
    ] {
        assert_eq!(desk.get(&path).status, 200, "{path}");
    }
    assert_eq!(desk.get(&in_group("Microsoft.Authorization/locks")).code(), "AuthorizationFailed");
    assert_eq!(desk.initiate(22, &json!({"duration": "PT1H"})).status, 202);
    desk.advance(30);
    let rule = desk.allow_rules("nsg-web-1")[0]["id"].as_str().unwrap_or_default().to_owned();
    let seen = desk.delete(&rule);
    assert_eq!(seen.status, 202);
    assert_eq!(desk.put(&policy(), &json!({})).code(), "AuthorizationFailed");
    assert_eq!(desk.put(&rule, &crate::support::a_rule(200)).code(), "AuthorizationFailed");
}

#[test]
fn equal_builders_make_equal_worlds() {
    let build = || {
        let mut state = State::default();
        estate::large(&mut state, 250);
        serde_json::to_value(&state).unwrap_or_default()
    };
    assert!(build() == build());
}

#[test]
fn whoever_sees_a_subscription_is_told_the_management_groups_above_it() {
    const ENTITIES: &str = "/providers/Microsoft.Management/getEntities?api-version=2020-05-01";
    let mut desk = Desk::small();
    let other = estate::numbered_subscription(2);
    estate::add_subscription(&mut desk.state, &other, "Other");
    desk.state.subscriptions[0].management_groups = vec!["platform".to_owned(), "online".to_owned()];
    let responder = desk.state.principals.iter_mut().find(|one| one.object_id == estate::RESPONDER_OBJECT_ID).unwrap();
    responder.assignments.iter_mut().for_each(|one| one.scope = format!("/subscriptions/{}", estate::SUBSCRIPTION));
    let root = desk.state.tenant_id.clone();
    let mine = format!("{ENTITIES}&$filter=name%20eq%20'{}'", estate::SUBSCRIPTION.to_uppercase());
    let seen = desk.as_(estate::RESPONDER_OBJECT_ID).post(&mine, &Value::Null);
    let value = seen.body["value"].as_array().unwrap();
    assert_eq!((seen.status, value.len()), (200, 1), "{}", seen.body);
    assert_eq!(
        (&value[0]["type"], &value[0]["properties"]["parentNameChain"]),
        (&json!("/subscriptions"), &json!([root, "platform", "online"]))
    );
    assert_eq!(value[0]["properties"]["parent"]["id"], "/providers/Microsoft.Management/managementGroups/online");
    // The groups are entities, too, and what the caller does not see is none.
    let all = desk.post(ENTITIES, &Value::Null);
    let names: BTreeSet<&str> = all.body["value"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, BTreeSet::from([estate::SUBSCRIPTION, &root, "platform", "online"]));
    desk.state.switches.subscription_parents = SubscriptionParents::Withheld;
    assert_eq!(desk.post(&mine, &Value::Null).body["value"][0]["properties"]["parentNameChain"], json!([]));
    desk.state.switches.subscription_parents = SubscriptionParents::Refused;
    assert_eq!((desk.post(&mine, &Value::Null).status, desk.get(ENTITIES).status), (403, 405));
    desk.state.switches.subscription_parents = SubscriptionParents::Shown;
    for refused in ["&$search=ParentOnly", "&$filter=contains(name,'x')"] {
        assert_eq!(desk.post(&format!("{ENTITIES}{refused}"), &Value::Null).status, 400, "{refused}");
    }
    assert_eq!(desk.state.log.len(), 0, "it is a read");
}
