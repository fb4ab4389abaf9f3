//! Estates as they are: VMs without what others have, several of what others have one of, things that go away, and
//! more to be shut than one sweep may shut.

use chrono::TimeDelta;
use portcullis_sandbox::estate::{self, GROUP, Nic, SUBSCRIPTION, Vm};
use portcullis_sandbox::state::{Lock, LockLevel, State};
use portcullis_sandbox::switches::{Events, Messages, NewerInitiate};
use portcullis_trials::story::{DELETE, Setting, Story, policy, vm};
use reqwest::Method;
use serde_json::{Value, json};

const MINUTE: i64 = 60;
const HOUR: TimeDelta = TimeDelta::hours(1);

/// Opens through a policy of any name, as `opens` does through the usual one.
async fn opens_by(story: &Story, policy: &str, vm: &str, port: u16, source: &str) {
    let end = (story.now() + HOUR).to_rfc3339();
    let body =
        json!({"virtualMachines": [{"id": vm, "ports": [{"number": port, "allowedSourceAddressPrefix": source, "endTimeUtc": end}]}]});
    let (status, answer) = story.arm(estate::ADMIN_OBJECT_ID, Method::POST, &format!("{policy}/initiate"), Some(body)).await;
    assert_eq!(status, 202, "{answer}");
}

fn a_vm(state: &mut State, name: &str, nics: Vec<Nic>) -> String {
    estate::add_vm(state, &Vm { nics, ..Vm::new(SUBSCRIPTION, GROUP, name) })
}

fn a_group(state: &mut State, name: &str) -> Option<String> {
    Some(estate::add_nsg(state, SUBSCRIPTION, GROUP, name))
}

#[tokio::test]
async fn a_vm_that_nothing_can_reach_ends_at_rest_without_an_alarm() {
    let mut policies = Vec::new();
    let story = Setting::with(|state| {
        let group = a_group(state, "nsg-odd");
        let bare = estate::add_subnet(state, SUBSCRIPTION, GROUP, ("vnet-bare", "bare"), None);
        let odd = [
            ("no-nic", vec![]),
            ("no-group", vec![Nic { nsg: None, subnet: Some(bare), addresses: vec!["10.9.0.4".to_owned()] }]),
            ("no-address", vec![Nic { nsg: group, subnet: None, addresses: vec![] }]),
        ];
        for (name, nics) in odd {
            let id = a_vm(state, name, nics);
            policies.push((estate::add_policy(state, SUBSCRIPTION, GROUP, name, std::slice::from_ref(&id), &[22]), id));
        }
    });
    let story = story.begin().await;
    for (policy, vm) in &policies {
        opens_by(&story, policy, vm, 22, "*").await;
    }
    story.pass(20 * MINUTE).await;
    assert_eq!((story.tried(DELETE).len(), story.alarms().as_str(), story.queued("approval")), (0, "", 0), "{}", story.told());
    for name in ["no-nic", "no-group", "no-address"] {
        assert_eq!(story.record(name).unwrap()["nextLook"], Value::Null, "{name}");
    }
    story.holds();
}

#[tokio::test]
async fn all_interfaces_of_a_vm_are_shut() {
    let mut id = String::new();
    let story = Setting::with(|state| {
        let one = Nic { nsg: a_group(state, "nsg-front"), subnet: None, addresses: vec!["10.1.0.4".to_owned(), "10.1.0.5".to_owned()] };
        let other = Nic { nsg: a_group(state, "nsg-back"), subnet: None, addresses: vec!["10.2.0.4".to_owned()] };
        id = a_vm(state, "gateway", vec![one, other]);
        estate::add_policy(state, SUBSCRIPTION, GROUP, "gateways", std::slice::from_ref(&id), &[22]);
    });
    let story = story.begin().await;
    opens_by(&story, &policy().replace("/default", "/gateways"), &id, 22, "*").await;
    story.pass(13).await;
    assert!(story.allow_rules(22).iter().any(|rule| rule.contains("nsg-front")) || !story.ours(DELETE).is_empty());
    story.pass(5 * MINUTE).await;
    let groups: std::collections::BTreeSet<bool> = story.ours(DELETE).iter().map(|entry| entry.target.contains("nsg-front")).collect();
    assert_eq!(groups.len(), 2, "in both groups: {}", story.told());
    story.is_proved_shut("gateway", 22);
}

#[tokio::test]
async fn several_policies_of_any_name_in_one_group_are_all_read() {
    let names = ["default-2", "My Policy (old)", "x"];
    let vms = ["web-1", "web-2", "db-1"];
    let story = Setting::with(|state| {
        for (name, of) in names.iter().zip(vms) {
            estate::add_policy(state, SUBSCRIPTION, GROUP, name, &[vm(of)], &[5985]);
        }
    });
    let story = story.begin().await;
    for (name, of) in names.iter().zip(vms) {
        let policy = policy().replace("/default", &format!("/{}", name.replace(' ', "%20")));
        opens_by(&story, &policy, &vm(of), 5985, "0.0.0.0/0").await;
    }
    story.pass(10 * MINUTE).await;
    for of in vms {
        story.is_proved_shut(of, 5985);
    }
    assert_eq!((story.ours(DELETE).len(), story.alarms().as_str()), (6, ""));
}

#[tokio::test]
async fn vms_that_share_a_group_are_all_shut_though_it_takes_one_write_at_a_time() {
    let story = Setting::with(|state| state.switches.operation_seconds = 20).begin().await;
    for name in ["web-1", "web-2", "db-1"] {
        story.opens(estate::ADMIN_OBJECT_ID, &vm(name), 3389, &["*"], HOUR).await;
    }
    story.pass(10 * MINUTE).await;
    for name in ["web-1", "web-2", "db-1"] {
        story.is_proved_shut(name, 3389);
    }
    assert_eq!((story.ours(DELETE).len(), story.alarms().as_str()), (6, ""));
    assert!(story.tried(DELETE).len() > 6, "nothing was refused: the story does not show what it says");
}

#[tokio::test]
async fn the_rules_of_a_vm_that_is_deleted_while_it_is_shut_go_all_the_same() {
    let story = Story::begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(3)).await;
    let scope = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}");
    story.change(|state| state.locks.push(Lock::new(scope, LockLevel::CanNotDelete)));
    story.pass(MINUTE).await;
    assert_eq!(story.alarms(), "+lock");
    story.change(|state| estate::delete_vm(state, &vm("web-1")));
    story.pass(10 * MINUTE).await;
    assert_eq!((story.alarms().as_str(), story.allow_rules(3389).len()), ("+lock", 2));
    story.change(|state| state.locks.clear());
    story.pass(5 * MINUTE).await;
    assert_eq!(story.alarms(), "+lock -lock");
    story.is_proved_shut("web-1", 3389);
}

fn with_a_firewall() -> Setting {
    Setting::with(|state| {
        let policy = state.resources.get_mut(&policy()).unwrap();
        policy["properties"]["virtualMachines"][0]["publicIpAddress"] = json!("20.4.5.6");
    })
}

#[tokio::test]
async fn a_policy_with_a_firewall_is_a_finding_and_in_enforce_an_alarm_until_it_is_gone() {
    let story = with_a_firewall().begin().await;
    story.pass(6 * MINUTE).await;
    assert_eq!((story.audits_of("finding-appeared").len(), story.alarms().as_str()), (1, "+firewall"));
    let [alarm] = &story.audits_of("alarm-raised")[..] else { panic!() };
    assert!(alarm["why"].as_str().unwrap().contains("20.4.5.6"), "{alarm:#}");
    story.change(|state| state.resources.get_mut(&policy()).unwrap()["properties"]["virtualMachines"][0]["publicIpAddress"] = Value::Null);
    story.pass(10 * MINUTE).await;
    assert_eq!((story.audits_of("finding-gone").len(), story.alarms().as_str()), (1, "+firewall -firewall"));
    story.holds();

    let story = with_a_firewall().observing().begin().await;
    story.pass(10 * MINUTE).await;
    assert_eq!((story.audits_of("finding-appeared").len(), story.alarms().as_str()), (1, ""));
    story.holds();
}

#[tokio::test]
async fn a_record_with_a_mapped_port_is_a_finding_and_an_alarm() {
    let story = Setting::default().letting_everybody_in().begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 22, &["203.0.113.4"], HOUR).await;
    story.change(|state| {
        let policy = state.resources.get_mut(&policy()).unwrap();
        policy["properties"]["requests"][0]["virtualMachines"][0]["ports"][0]["mappedPort"] = json!(13_022);
    });
    story.pass(5 * MINUTE).await;
    assert_eq!(story.alarms(), "+firewall");
    assert!(story.audits_of("alarm-raised")[0]["why"].as_str().unwrap().contains("13022"));
    assert_eq!((story.tried(DELETE).len(), story.allow_rules(22).len()), (0, 2));
    story.holds();
}

#[tokio::test]
async fn one_sweep_shuts_no_more_than_the_cap_the_worst_first_and_says_what_waits() {
    let mut state = State::default();
    estate::large(&mut state, 25);
    state.switches.events = Events::Never;
    let story = Setting { state, ..Setting::default() }.begin().await;
    let name = |n: i64| format!("vm-0001-{n:03}");
    for n in 1..=25 {
        // Those that come first in any order by name are the lesser ones.
        let (source, hours) = if n <= 3 { ("203.0.113.4", 12) } else { ("*", 1) };
        story.opens(estate::ADMIN_OBJECT_ID, &vm(&name(n)), 22, &[source], TimeDelta::hours(hours)).await;
    }
    story.pass(5 * MINUTE + 30).await;
    let closed: std::collections::BTreeSet<String> =
        story.audits_of("close").iter().map(|close| close["vm"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()).collect();
    assert_eq!(closed.len(), 20);
    assert!(story.audits_of("close").iter().all(|close| close["code"] == "any-source"));
    let told = story.audits_of("service-failing");
    assert_eq!((told.len(), told[0]["code"].as_str(), told[0]["severity"].as_str()), (1, Some("close-cap"), Some("High")));
    assert!(told[0]["what"].as_str().unwrap().starts_with("5 more VMs"), "{told:#?}");
    // Who has to shut them by hand meanwhile must know which they are.
    for n in 1..=25 {
        let named = told[0]["why"].as_str().unwrap().split([' ', ',']).any(|word| word.ends_with(&format!("/{}", name(n))));
        assert_eq!(named, !closed.contains(&name(n)), "{} {told:#?}", name(n));
    }
    story.pass(10 * MINUTE).await;
    for n in 1..=25 {
        story.is_proved_shut(&name(n), 22);
    }
    assert_eq!(story.audits_of("service-failing").len(), 1);
}

#[tokio::test]
async fn two_halves_of_the_internet_are_the_internet_in_one_opening_or_in_two() {
    let halves = ["0.0.0.0/1", "128.0.0.0/1"];
    let one = Story::begin().await;
    one.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &halves, HOUR).await;
    one.pass(5 * MINUTE).await;
    one.is_proved_shut("web-1", 3389);

    let two = Setting::with(|state| state.switches.newer_initiate = NewerInitiate::Adds).begin().await;
    for (half, after) in halves.iter().zip([60, 5 * MINUTE]) {
        two.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &[half], HOUR).await;
        two.pass(after).await;
    }
    two.is_proved_shut("web-1", 3389);
    assert_eq!(two.ours(DELETE).len(), 4, "both halves, in both groups");
}

#[tokio::test]
async fn a_story_whose_messages_come_twice_deletes_and_tells_once() {
    let story = Setting::with(|state| {
        state.queues.values_mut().for_each(|queue| queue.come_twice = 40);
        state.switches.events = Events::Doubled;
    });
    let story = story.letting_everybody_in().begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], HOUR).await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-2"), 22, &["203.0.113.4"], HOUR).await;
    story.pass(15 * MINUTE).await;
    story.is_proved_shut("web-1", 3389);
    assert_eq!((story.ours(DELETE).len(), story.alarms().as_str()), (2, ""), "{}", story.told());
    assert_eq!(story.audits_of("close").len(), story.tried(DELETE).len(), "{}", story.told());
    assert_eq!((story.audits_of("proved-shut").len(), story.allow_rules(22).len()), (1, 2));
    assert_eq!(story.queued("approval"), 1, "nothing goes round: one wake-up waits for the opening that was left");
}

/// Each delivery of a message that is sent again would be delivered twice again: a dozen tries would be thousands.
#[tokio::test]
async fn what_comes_twice_while_nothing_can_be_read_does_not_multiply() {
    let story = Setting::with(|state| state.switches.messages = Messages::TwiceAtOnce).begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 22, &["203.0.113.4"], HOUR).await;
    story.change(|state| state.subscriptions[0].jit_plan = false);
    let sent = |story: &Story| story.ours("send").into_iter().filter(|entry| entry.face == "servicebus").count();
    for minute in 1..=15 {
        let before = sent(&story);
        story.pass(MINUTE).await;
        assert!(sent(&story) - before < 60, "{} messages in minute {minute}", sent(&story) - before);
    }
    story.change(|state| state.subscriptions[0].jit_plan = true);
    story.pass(15 * MINUTE).await;
    story.is_proved_shut("web-1", 22);
    assert_eq!((story.queued("approval"), story.queued("sweep")), (0, 0));
}
