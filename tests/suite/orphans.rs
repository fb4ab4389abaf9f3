//! Rules that JIT left behind: of a VM that was deleted, and to an address that no machine has any more.

use chrono::TimeDelta;
use portcullis_sandbox::blob;
use portcullis_sandbox::estate;
use portcullis_sandbox::faults::Effect;
use portcullis_sandbox::state::State;
use portcullis_sandbox::switches::{Events, NewerInitiate};
use portcullis_trials::story::{self, DELETE, INITIATE, Setting, Story, tag, vm};
use serde_json::{Value, json};

const MINUTE: i64 = 60;
const OFFICE: &str = "198.51.100.7";
const VPN: &str = "203.0.113.4";
const NOBODYS: &str = "10.0.77.7";

fn group() -> String {
    estate::resource_id(estate::SUBSCRIPTION, estate::GROUP, "Microsoft.Network/networkSecurityGroups", "nsg-web-1")
}

/// A rule of JIT in front of web-1 that leads to somewhere else.
fn left_behind(state: &mut State, destination: &str) {
    let id = format!("{}/securityRules/MicrosoftDefenderForCloud-JITRule-7-{:032X}", group(), 7);
    let rules = &mut state.resources.get_mut(&group()).unwrap()["properties"]["securityRules"];
    rules.as_array_mut().unwrap().push(json!({
        "id": id, "name": id.rsplit('/').next(), "type": "Microsoft.Network/networkSecurityGroups/securityRules",
        "etag": "W/\"7\"",
        "properties": {
            "provisioningState": "Succeeded", "access": "Allow", "direction": "Inbound", "priority": 200, "protocol": "*",
            "sourceAddressPrefix": OFFICE, "sourcePortRange": "*", "destinationPortRange": "22",
            "destinationAddressPrefix": destination,
            "description": "ASC JIT Network Access rule for policy 'default' of VM 'old-1'.",
        },
    }));
}

fn orphans(story: &Story) -> Vec<Value> {
    story.audits_of("finding-appeared").into_iter().filter(|audit| audit["code"] == "orphan").collect()
}

#[tokio::test]
async fn the_grants_of_a_deleted_vm_end_and_its_rules_go() {
    for newer in [NewerInitiate::Adds, NewerInitiate::Replaces] {
        let story = Setting::with(|state| {
            tag(state, "web-1", "development");
            state.switches.newer_initiate = newer;
        });
        let story = story.begin().await;
        story.grants(estate::DEVELOPER_OBJECT_ID, "web-1", 22, VPN, "PT2H").await;
        story.pass(3 * MINUTE).await;
        story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], TimeDelta::hours(2)).await;
        story.pass(3 * MINUTE).await;
        assert!(!story.allow_rules(22).is_empty(), "{}", story.told());
        story.change(|state| estate::delete_vm(state, &vm("web-1")));
        story.pass(15 * MINUTE).await;
        assert_eq!((story.allow_rules(22).len(), story.alarms().as_str()), (0, ""), "{newer:?}: {}", story.told());
        let ended: Vec<Value> = story.audits_of("grant-ended").iter().map(|audit| audit["code"].clone()).collect();
        assert!(ended.iter().any(|code| code == "vm-gone") && ended.len() <= 2, "{newer:?}: {ended:?}");
        assert_eq!(story.record("web-1").unwrap()["grants"], json!([]));
        story.holds();
    }
}

#[tokio::test]
async fn a_wish_for_a_vm_that_is_deleted_before_jit_is_asked_is_declined() {
    let story = Setting::with(|state| tag(state, "web-1", "development")).begin().await;
    story.fault("arm", "POST", "/initiate", Effect::CutBefore, None);
    story.grants(estate::DEVELOPER_OBJECT_ID, "web-1", 22, VPN, "PT1H").await;
    story.change(|state| estate::delete_vm(state, &vm("web-1")));
    story.pass(15 * MINUTE).await;
    assert_eq!((story.ours(INITIATE).len(), story.alarms().as_str()), (0, ""), "{}", story.told());
    assert_eq!(story.record("web-1").unwrap()["grants"], json!([]));
    story.holds();
}

#[tokio::test]
async fn a_rule_to_an_address_that_no_machine_has_is_found_and_shut() {
    let story = Setting::with(|state| left_behind(state, NOBODYS)).begin().await;
    story.pass(12 * MINUTE).await;
    let [found] = <[Value; 1]>::try_from(orphans(&story)).unwrap();
    assert_eq!((&found["severity"], &found["port"], &found["vm"]), (&json!("Medium"), &json!(22), &json!(group())));
    assert!(found["what"].as_str().unwrap().contains(&format!("of nsg-web-1 opens port 22 of {NOBODYS} to {OFFICE}")), "{found}");
    assert_eq!((story.ours(DELETE).len(), story.allow_rules(22).len(), story.alarms().as_str()), (1, 0, ""), "{}", story.told());
    assert_eq!((story.audits_of("proved-shut").len(), story.audits_of("finding-gone").len()), (1, 1));
    story.holds();
}

#[tokio::test]
async fn an_old_address_of_a_vm_that_has_another_now_is_shut_and_the_new_one_stays() {
    let story = Setting::with(|state| state.switches.events = Events::Never).begin().await;
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 22, &[OFFICE], TimeDelta::hours(2)).await;
    story.change(|state| left_behind(state, NOBODYS));
    story.pass(15 * MINUTE).await;
    assert_eq!((orphans(&story).len(), story.ours(DELETE).len(), story.alarms().as_str()), (1, 1, ""), "{}", story.told());
    assert!(story.lets_in("web-1", 22, &[OFFICE]) && story.audits_of("adopted").len() == 1);
    story.holds();
}

#[tokio::test]
async fn in_observe_mode_it_is_told_and_stays() {
    let story = Setting::with(|state| left_behind(state, NOBODYS)).observing().begin().await;
    story.pass(12 * MINUTE).await;
    assert_eq!((orphans(&story).len(), story.audits_of("would-close").len(), story.tried(DELETE).len()), (1, 1, 0));
    assert_eq!(story.allow_rules(22).len(), 1);
    story.holds();
}

#[tokio::test]
async fn where_it_is_not_sure_that_nobody_has_the_address_nothing_is_done() {
    let interface = || estate::resource_id(estate::SUBSCRIPTION, estate::GROUP, "Microsoft.Network/networkInterfaces", "web-1-nic");
    // An interface that the list leaves out, and one whose address is not known yet.
    let unlisted = |state: &mut State| {
        let group = state.resources.get_mut(&group()).unwrap();
        let hidden = format!("{}-hidden", interface());
        group["properties"]["networkInterfaces"].as_array_mut().unwrap().push(json!({"id": hidden}));
    };
    let addressless = |state: &mut State| {
        let nic = state.resources.get_mut(&interface()).unwrap();
        nic["properties"]["ipConfigurations"][0]["properties"].as_object_mut().unwrap().remove("privateIPAddress");
    };
    for (name, unsure) in [("unlisted", &unlisted as &dyn Fn(&mut State)), ("addressless", &addressless)] {
        let story = Setting::with(|state| {
            left_behind(state, NOBODYS);
            unsure(state);
        });
        let story = story.begin().await;
        story.pass(12 * MINUTE).await;
        assert_eq!((orphans(&story).len(), story.tried(DELETE).len(), story.allow_rules(22).len()), (0, 0, 1), "{name}: {}", story.told());
    }
}

#[tokio::test]
async fn a_policy_that_names_a_machine_that_is_gone_is_a_finding_until_it_no_longer_does() {
    let story = Setting::with(|state| estate::delete_vm(state, &vm("web-2"))).begin().await;
    story.pass(12 * MINUTE).await;
    let found = || story.audits_of("finding-appeared");
    assert_eq!((found().len(), &found()[0]["code"], &found()[0]["vm"]), (1, &json!("no-machine"), &json!(vm("web-2"))), "{:#?}", found());
    let what = found()[0]["what"].as_str().unwrap().to_owned();
    assert!(what.starts_with("JIT policy default names web-2, and there is no such machine: take it out"), "{what}");
    // The sweep does not look again and again at what it has seen.
    story.count("arm", "GET", "/virtualMachines/web-2");
    story.pass(30 * MINUTE).await;
    assert_eq!((story.counted(), found().len(), story.alarms().as_str()), (0, 1, ""), "{}", story.told());
    story.change(|state| {
        let vms = &mut state.resources.get_mut(&story::policy()).unwrap()["properties"]["virtualMachines"];
        vms.as_array_mut().unwrap().retain(|entry| !entry["id"].as_str().unwrap().ends_with("web-2"));
    });
    story.pass(12 * MINUTE).await;
    assert_eq!((story.audits_of("finding-gone").len(), story.tried(DELETE).len()), (1, 0), "{}", story.told());
    story.holds();
}

#[tokio::test]
async fn an_orphan_is_shut_though_what_is_known_of_another_machine_cannot_be_read() {
    let story = Setting::with(|state| tag(state, "web-2", "development")).begin().await;
    story.grants(estate::DEVELOPER_OBJECT_ID, "web-2", 22, VPN, "PT2H").await;
    story.pass(3 * MINUTE).await;
    assert!(story.lets_in("web-2", 22, &[VPN]));
    let of_web_2 = story.allow_rules(22);
    story.change(|state| {
        let blobs = &mut state.containers.get_mut("state").unwrap().blobs;
        let records: Vec<String> = blobs.keys().filter(|name| name.starts_with("vm/") && name.contains("web-2")).cloned().collect();
        assert!(!records.is_empty());
        for name in records {
            blob::put(state, "state", &name, b"no record", "application/json");
        }
        left_behind(state, NOBODYS);
    });
    story.pass(15 * MINUTE).await;
    assert_eq!((orphans(&story).len(), story.ours(DELETE).len(), story.allow_rules(22)), (1, 1, of_web_2), "{}", story.told());
    assert_eq!(story.audits_of("proved-shut").len(), 1);
    assert!(story.audits_of("service-failing").iter().all(|audit| audit["code"] == "unreadable"));
}
