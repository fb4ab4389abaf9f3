//! Writes to security groups: etags, operations, and one write at a time.

use serde_json::{Value, json};

use portcullis_sandbox::switches::{BusyNsg, DeleteAnswers};

use crate::support::{Desk, a_rule, in_group, nsg};

fn rule(name: &str) -> String {
    format!("{}/securityRules/{name}", nsg("nsg-web-1"))
}

fn state_of(desk: &mut Desk) -> Value {
    desk.get(&nsg("nsg-web-1")).body["properties"]["provisioningState"].clone()
}

#[test]
fn a_rule_is_written_as_updating_and_then_succeeds() {
    let mut desk = Desk::small();
    let before = desk.get(&nsg("nsg-web-1")).body["etag"].clone();
    let seen = desk.put(&rule("https"), &a_rule(300));
    assert_eq!(seen.status, 201);
    assert_eq!(seen.body["properties"]["provisioningState"], "Updating");
    assert_eq!(seen.body["properties"]["destinationPortRange"], "443");
    assert_eq!(seen.body["properties"]["destinationPortRanges"], json!([]));
    let operation = seen.header("azure-asyncoperation").unwrap_or_default().to_owned();
    assert!(operation.contains("/providers/Microsoft.Network/locations/westeurope/operations/"), "{operation}");
    assert_eq!(desk.get(&operation).body, json!({"status": "InProgress"}));
    assert_eq!(state_of(&mut desk), "Updating");
    desk.advance(4);
    assert_eq!(desk.get(&operation).body, json!({"status": "Succeeded"}));
    let group = desk.get(&nsg("nsg-web-1"));
    assert_eq!(group.body["properties"]["provisioningState"], "Succeeded");
    assert_ne!(group.body["etag"], before);
    assert_eq!(group.header("etag"), group.body["etag"].as_str());
    let properties = &group.body["properties"];
    for part in ["securityRules", "defaultSecurityRules"] {
        let rules = properties[part].as_array().cloned().unwrap_or_default();
        assert!(!rules.is_empty() && rules.iter().all(|r| r["etag"] == group.body["etag"]), "{part}");
    }
    assert_eq!(desk.put(&rule("HTTPS"), &a_rule(301)).status, 200, "the same rule in another letter case");
    desk.advance(4);
    assert_eq!(desk.get(&rule("https")).body["properties"]["priority"], 301);
}

#[test]
fn a_delete_is_done_or_accepted() {
    for answers in DeleteAnswers::ALL {
        let mut desk = Desk::small();
        desk.state.switches.delete_answers = *answers;
        desk.put(&rule("x"), &a_rule(300));
        desk.advance(10);
        let seen = desk.delete(&rule("x"));
        match answers {
            DeleteAnswers::Done => {
                assert_eq!(seen.status, 200);
                assert_eq!(desk.get(&rule("x")).status, 404);
                assert_eq!(state_of(&mut desk), "Succeeded");
            }
            DeleteAnswers::Accepted => {
                assert_eq!((seen.status, seen.header("retry-after")), (202, Some("4")));
                let location = seen.header("location").unwrap_or_default().to_owned();
                assert_eq!(desk.get(&rule("x")).body["properties"]["provisioningState"], "Deleting");
                assert_eq!(state_of(&mut desk), "Updating");
                assert_eq!(desk.get(&location).status, 202);
                desk.advance(4);
                assert_eq!(desk.get(&location).status, 204);
                assert_eq!(desk.get(&rule("x")).status, 404);
                assert_eq!(state_of(&mut desk), "Succeeded");
            }
        }
        let operation = seen.header("azure-asyncoperation").unwrap_or_default().to_owned();
        assert_eq!(desk.get(&operation).body["status"], "Succeeded");
        assert_eq!(desk.delete(&rule("x")).status, 204, "what is not there is gone already");
    }
}

#[test]
fn operations_that_take_no_time_have_their_effect_at_once() {
    let mut desk = Desk::small();
    desk.state.switches.operation_seconds = 0;
    assert_eq!(desk.put(&rule("x"), &a_rule(300)).body["properties"]["provisioningState"], "Succeeded");
    let seen = desk.delete(&rule("x"));
    assert_eq!(seen.status, 202);
    assert_eq!(desk.get(&rule("x")).status, 404);
    assert_eq!(state_of(&mut desk), "Succeeded");
    assert!(desk.state.due.is_empty());
}

#[test]
fn a_second_write_is_refused_while_one_is_under_way() {
    for (busy, status, code) in [(BusyNsg::RetryableError, 429, "RetryableError"), (BusyNsg::Conflict, 409, "AnotherOperationInProgress")] {
        let mut desk = Desk::small();
        desk.state.switches.busy_nsg = busy;
        desk.put(&rule("x"), &a_rule(300));
        for seen in [desk.delete(&rule("x")), desk.put(&rule("y"), &a_rule(301))] {
            assert_eq!((seen.status, seen.code()), (status, code));
            assert_eq!(seen.header("x-ms-failure-cause"), Some("service"));
        }
        if busy == BusyNsg::RetryableError {
            let seen = desk.delete(&rule("x"));
            assert_eq!(seen.body["error"]["details"][0]["code"], "RetryableErrorDueToAnotherOperation");
        }
        desk.advance(4);
        assert_eq!(desk.delete(&rule("x")).status, 202);
    }
}

#[test]
fn a_full_write_drops_the_rules_that_it_does_not_name() {
    let mut desk = Desk::small();
    desk.put(&rule("x"), &a_rule(300));
    desk.advance(10);
    let mut kept = a_rule(400);
    kept["name"] = json!("kept");
    let body = json!({"location": "westeurope", "tags": {"a": "b"}, "properties": {"securityRules": [kept]}});
    let seen = desk.put(&nsg("nsg-web-1"), &body);
    assert_eq!(seen.status, 200);
    desk.advance(10);
    let group = desk.get(&nsg("nsg-web-1")).body;
    let names: Vec<_> = group["properties"]["securityRules"].as_array().into_iter().flatten().map(|r| &r["name"]).collect();
    assert_eq!(names, ["kept"]);
    assert_eq!(group["tags"], json!({"a": "b"}));
    assert_eq!(group["properties"]["networkInterfaces"].as_array().map(Vec::len), Some(1), "still attached");
}

#[test]
fn a_group_that_nothing_refers_to_is_made_and_deleted() {
    let mut desk = Desk::small();
    assert_eq!(desk.put(&nsg("lonely"), &json!({"location": "West Europe"})).status, 201);
    desk.advance(10);
    let body = desk.get(&nsg("lonely")).body;
    assert_eq!((&body["location"], &body["properties"]["securityRules"]), (&json!("westeurope"), &json!([])));
    assert_eq!(desk.delete(&nsg("lonely")).status, 202);
    desk.advance(10);
    assert_eq!(desk.get(&nsg("lonely")).status, 404);
    assert_eq!(desk.delete(&nsg("lonely")).status, 204);
}

#[test]
fn back_references_are_found_where_the_body_has_none() {
    let mut desk = Desk::small();
    for group in ["nsg-web-1", "nsg-servers"] {
        if let Some(properties) = desk.state.resources.get_mut(&nsg(group)).and_then(|g| g["properties"].as_object_mut()) {
            properties.remove("networkInterfaces");
            properties.remove("subnets");
        }
    }
    let nic = in_group("Microsoft.Network/networkInterfaces/web-1-nic");
    let subnet = in_group("Microsoft.Network/virtualNetworks/vnet-workload/subnets/servers");
    assert_eq!(desk.get(&nsg("nsg-web-1")).body["properties"]["networkInterfaces"], json!([{ "id": nic }]));
    let list = desk.get(&in_group("Microsoft.Network/networkSecurityGroups")).body;
    let of = |name: &str| list["value"].as_array().into_iter().flatten().find(|g| g["name"] == name).cloned().unwrap_or_default();
    assert_eq!(of("nsg-servers")["properties"]["subnets"], json!([{ "id": subnet }]));
    assert_eq!(of("nsg-web-1")["properties"]["networkInterfaces"], json!([{ "id": nic }]));
    assert_eq!(of("nsg-web-1")["properties"].get("subnets"), None);
}

#[test]
fn parts_are_read_by_list_and_by_name() {
    let mut desk = Desk::small();
    let subnets = in_group("Microsoft.Network/virtualNetworks/vnet-workload/subnets");
    assert_eq!(desk.get(&subnets).body["value"][0]["name"], "servers");
    assert_eq!(desk.get(&format!("{subnets}/SERVERS")).body["name"], "servers");
    let defaults = desk.get(&format!("{}/defaultSecurityRules", nsg("nsg-web-1"))).body;
    assert_eq!(defaults["value"].as_array().map(Vec::len), Some(6));
    let one = desk.get(&format!("{}/defaultSecurityRules/denyallinbound", nsg("nsg-web-1")));
    assert_eq!(one.body["properties"]["priority"], 65500);
    let rules = desk.get(&format!("{}/securityRules", nsg("nsg-web-1"))).body;
    assert_eq!(rules["value"].as_array().map(Vec::len), Some(1), "the deny rule of JIT");
}
