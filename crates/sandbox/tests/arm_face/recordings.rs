//! Recorded bodies that a world holds come back as they were recorded.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use portcullis_sandbox::state::{Lock, State, Subscription};

use crate::support::Desk;

/// A world that holds what a recording answered; the recording's path, and its body.
fn recorded(text: &str) -> (Desk, String, Value) {
    let file: Value = serde_json::from_str(text).unwrap_or_else(|why| panic!("fixture: {why}"));
    let path = file["request"]["uri"].as_str().unwrap_or_default();
    let path = path.strip_prefix("https://management.azure.com").unwrap_or(path).to_owned();
    let body = file["response"]["body"].clone();
    let mut desk = Desk::small();
    let id = path.split('/').nth(2).unwrap_or_default().to_owned();
    desk.state.subscriptions.push(Subscription {
        id,
        display_name: "recorded".to_owned(),
        jit_plan: true,
        events: true,
        management_groups: Vec::new(),
    });
    match body["value"].as_array() {
        Some(list) => list.iter().for_each(|item| desk.state.resources.put(item.clone())),
        None => desk.state.resources.put(body.clone()),
    }
    (desk, path, body)
}

macro_rules! round_trips {
    ($($name:ident: $file:literal),+ $(,)?) => {
        $(#[test]
        fn $name() {
            let (mut desk, path, body) = recorded(include_str!(concat!("../fixtures/", $file)));
            let seen = desk.get(&path);
            assert_eq!(seen.status, 200, "{}", seen.body);
            assert_eq!(seen.body, body);
        })+
    };
}

round_trips! {
    a_recorded_jit_list_comes_back: "rec_net_2018_list_by_subscription_200.json",
    a_recorded_jit_policy_comes_back: "rec_net_2018_get_200.json",
    a_recorded_nic_comes_back: "rec_nic_get.json",
    a_recorded_nsg_list_comes_back: "rec_nsg_list.json",
    a_recorded_vm_list_comes_back: "rec_vm_list.json",
}

#[test]
fn a_recorded_list_of_locks_comes_back() {
    let (mut desk, path, body) = recorded(include_str!("../fixtures/rec_locks_list.json"));
    for lock in body["value"].as_array().into_iter().flatten() {
        let (scope, name) = lock["id"].as_str().unwrap_or_default().split_once("/providers/Microsoft.Authorization/locks/").unwrap();
        let text = |field: &str| lock["properties"][field].as_str().map(str::to_owned);
        let level = serde_json::from_value(lock["properties"]["level"].clone()).unwrap();
        desk.state.locks.push(Lock { name: Some(name.to_owned()), notes: text("notes"), ..Lock::new(scope, level) });
        desk.state.resources.put(json!({"id": scope, "type": "Microsoft.Resources/resourceGroups"}));
    }
    let seen = desk.get(&path);
    assert_eq!((seen.status, &seen.body), (200, &body));
}

#[test]
fn a_world_with_recorded_bodies_is_written_and_read_without_a_change() {
    let (desk, _, _) = recorded(include_str!("../fixtures/rec_nsg_list.json"));
    let written = serde_json::to_value(&desk.state).unwrap_or_default();
    let read: State = serde_json::from_value(written.clone()).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(serde_json::to_value(&read).unwrap_or_default(), written);
}

#[test]
fn a_rule_is_answered_with_the_fields_of_the_recorded_one() {
    let file: Value = serde_json::from_str(include_str!("../fixtures/rec_nsg_rule_put_201.json")).unwrap_or_default();
    let recorded = &file["response"]["body"];
    let mut desk = Desk::small();
    let mut wish = recorded.clone();
    if let Some(properties) = wish["properties"].as_object_mut() {
        properties.retain(|name, value| name != "provisioningState" && !value.as_array().is_some_and(Vec::is_empty));
    }
    let path = format!("{}/securityRules/c7n-policy", crate::support::nsg("nsg-web-1"));
    let seen = desk.put(&path, &wish);
    assert_eq!(seen.status, 201, "{}", seen.body);
    assert_eq!(seen.body["properties"], recorded["properties"]);
    let names = |body: &Value| body.as_object().map(|o| o.keys().cloned().collect::<BTreeSet<_>>());
    assert_eq!(names(&seen.body), names(recorded));
}

#[test]
fn a_recorded_initiate_is_answered_as_it_was() {
    let (mut desk, _, held) = recorded(include_str!("../fixtures/rec_net_2018_get_200.json"));
    let file: Value = serde_json::from_str(include_str!("../fixtures/rec_net_2018_initiate_202.json")).unwrap_or_default();
    let start = file["response"]["body"]["startTimeUtc"].as_str().unwrap_or_default().to_owned();
    desk.state.now = start.parse().unwrap_or_default();
    // The policy was read after the initiate, and holds its record already.
    let mut policy = held;
    if let Some(records) = policy["properties"]["requests"].as_array_mut() {
        records.retain(|record| record["startTimeUtc"] != start.as_str());
    }
    desk.state.resources.put(policy);
    desk.as_(portcullis_sandbox::estate::CLIENT_OBJECT_ID);
    let path = file["request"]["uri"].as_str().unwrap_or_default().to_owned();
    let seen = desk.post(&path, &file["request"]["body"]);
    assert_eq!(seen.status, 202, "{}", seen.body);
    let mut expected = file["response"]["body"].clone();
    expected["virtualMachines"][0]["ports"][0]["allowedSourceAddressPrefix"] = crate::support::CALLER_IP.into();
    assert_eq!(seen.body, expected);
}

#[test]
fn a_recorded_delete_is_answered_as_it_was() {
    let (mut desk, path, _) = recorded(include_str!("../fixtures/rec_net_2018_get_200.json"));
    let seen = desk.delete(&path);
    assert_eq!((seen.status, seen.body), (200, Value::Null));
    assert_eq!(desk.delete(&path).status, 204);
}
