//! What is governed and how far, as settings say: the longest opening, the most that one sweep shuts, and which
//! subscriptions.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use portcullis_sandbox::estate::{self, GROUP, Nic, SUBSCRIPTION, Vm};
use portcullis_sandbox::faults::Effect;
use portcullis_sandbox::state::State;
use portcullis_sandbox::switches::Events;
use portcullis_trials::story::{DELETE, Setting, Story, vm};

const MINUTE: i64 = 60;

#[tokio::test]
async fn an_opening_is_too_long_by_the_limit_that_is_set() {
    for (longest, closes) in [("PT1H", 2), ("PT4H", 0)] {
        let story = Setting::default().letting_everybody_in().set("PORTCULLIS_LONGEST_OPENING", longest).begin().await;
        story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 22, &["203.0.113.4"], TimeDelta::hours(2)).await;
        story.pass(5 * MINUTE).await;
        assert_eq!(story.ours(DELETE).len(), closes, "{longest}");
        assert!(story.audits_of("close").iter().all(|close| close["code"] == "overlong"));
        match closes {
            0 => assert_eq!(story.allow_rules(22).len(), 2),
            _ => story.is_proved_shut("web-1", 22),
        }
        story.holds();
    }
}

/// The VMs of which a rule was deleted, by name.
fn shut(story: &Story) -> BTreeSet<String> {
    story.audits_of("close").iter().map(|close| close["vm"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()).collect()
}

fn name(n: i64) -> String {
    format!("vm-0001-{n:03}")
}

/// Five VMs, each open to a source for some time, of which no event tells, and a cap of two.
async fn five_open_and_two_may_be_shut_at_once(opened: impl Fn(i64) -> (&'static str, TimeDelta)) -> Story {
    let mut state = State::default();
    estate::large(&mut state, 5);
    state.switches.events = Events::Never;
    let story = Setting { state, ..Setting::default() }.set("PORTCULLIS_CLOSE_CAP", "2").begin().await;
    for n in 1..=5 {
        let (source, time) = opened(n);
        story.opens(estate::ADMIN_OBJECT_ID, &vm(&name(n)), 22, &[source], time).await;
    }
    story
}

#[tokio::test]
async fn a_sweep_shuts_as_many_vms_as_is_set_the_worst_first_and_counts_the_rest() {
    let story =
        five_open_and_two_may_be_shut_at_once(|n| if n <= 2 { ("203.0.113.4", TimeDelta::hours(12)) } else { ("*", TimeDelta::hours(1)) })
            .await;
    let worst: BTreeSet<String> = (3..=5).map(name).collect();
    let mut waiting = Vec::new();
    for (sweep, (closed, left)) in [(2, Some("3")), (4, Some("1")), (5, None)].into_iter().enumerate() {
        story.pass(5 * MINUTE + if sweep == 0 { 30 } else { 0 }).await;
        let shut = shut(&story);
        assert_eq!(shut.len(), closed, "after sweep {sweep}: {shut:?}");
        assert!(if closed < worst.len() { shut.is_subset(&worst) } else { shut.is_superset(&worst) }, "after sweep {sweep}: {shut:?}");
        waiting.extend(left);
    }
    let rows: Vec<serde_json::Value> = story.world(|state| state.rows.iter().map(|taken| taken.row.clone()).collect());
    let told = rows.iter().filter(|row| row["Code"] == "close-cap");
    let told: Vec<&str> =
        told.inspect(|row| assert_eq!(row["EventSeverity"], "High")).filter_map(|row| row["EventMessage"].as_str()).collect();
    assert_eq!(told.len(), waiting.len(), "{told:?}");
    for (text, count) in told.iter().zip(waiting) {
        assert!(text.split(' ').any(|word| word == count), "{count} wait: {text}");
    }
    story.pass(5 * MINUTE).await;
    for n in 1..=5 {
        story.is_proved_shut(&name(n), 22);
    }
}

#[tokio::test]
async fn what_waited_for_its_turn_and_was_shut_by_jit_meanwhile_is_told_of() {
    let story = five_open_and_two_may_be_shut_at_once(|_| ("*", TimeDelta::minutes(7))).await;
    story.pass(15 * MINUTE).await;
    let missed: BTreeSet<String> =
        story.audits_of("missed").iter().map(|missed| missed["vm"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()).collect();
    let shut = shut(&story);
    assert!(shut.len() == 2 && missed.len() == 3 && shut.is_disjoint(&missed), "{shut:?} {missed:?}");
    story.holds();
}

#[tokio::test]
async fn what_only_the_rules_refuse_counts_for_the_cap_too_after_what_everybody_may_use() {
    let story = five_open_and_two_may_be_shut_at_once(|n| (if n <= 4 { "203.0.113.4" } else { "*" }, TimeDelta::hours(1))).await;
    for (sweep, closed) in [2, 4, 5].into_iter().enumerate() {
        story.pass(5 * MINUTE + if sweep == 0 { 30 } else { 0 }).await;
        let shut = shut(&story);
        assert!(shut.len() == closed && shut.contains(&name(5)), "after sweep {sweep}: {shut:?}");
    }
    assert_eq!(story.audits_of("service-failing").iter().filter(|told| told["code"] == "close-cap").count(), 2);
}

/// The small estate and two more subscriptions with a VM each, of one name and one address; no event tells of anything.
fn three_subscriptions() -> Setting {
    Setting::with(|state| {
        state.switches.events = Events::Never;
        for subscription in [2, 3].map(estate::numbered_subscription) {
            estate::add_subscription(state, &subscription, "Workload");
            let nsg = estate::add_nsg(state, &subscription, GROUP, "nsg-web-1");
            let nic = Nic { nsg: Some(nsg), subnet: None, addresses: vec!["10.0.0.4".to_owned()] };
            let vm = estate::add_vm(state, &Vm { nics: vec![nic], ..Vm::new(&subscription, GROUP, "web-1") });
            estate::add_policy(state, &subscription, GROUP, "default", &[vm], &[3389]);
        }
    })
}

/// Opens port 3389 of `web-1` in each of the three, and gives the VMs.
async fn all_open(story: &Story) -> [String; 3] {
    let vms = [1, 2, 3].map(|n| Vm::new(&estate::numbered_subscription(n), GROUP, "web-1").id());
    for vm in &vms {
        story.opens(estate::ADMIN_OBJECT_ID, vm, 3389, &["*"], TimeDelta::hours(3)).await;
    }
    vms
}

/// How many shards each sweep sent, by the world's log.
fn shards(story: &Story) -> Vec<usize> {
    let mut sent = BTreeMap::new();
    for entry in story.world(|state| state.log.clone()) {
        if entry.face == "servicebus" && entry.target == "sweep" && entry.function.as_deref() == Some("sweep") {
            *sent.entry(entry.at).or_insert(0) += 1;
        }
    }
    sent.into_values().collect()
}

#[tokio::test]
async fn every_subscription_is_swept_by_a_shard_of_its_own() {
    let story = three_subscriptions().begin().await;
    let vms = all_open(&story).await;
    story.pass(12 * MINUTE).await;
    assert_eq!(shards(&story), [3, 3]);
    for vm in &vms {
        story.is_vm_proved_shut(vm, 3389);
    }
    assert_eq!(story.ours(DELETE).len(), 4);
}

#[tokio::test]
async fn a_subscription_that_cannot_be_listed_keeps_no_other_from_being_swept() {
    let story = three_subscriptions().begin().await;
    let [one, other, lost] = all_open(&story).await;
    let subscription = estate::numbered_subscription(3);
    let denied = Effect::status(403, None);
    story.fault("arm", "GET", &format!("/subscriptions/{subscription}/providers/"), denied, None);
    story.pass(22 * MINUTE).await;
    assert_eq!(shards(&story), [3; 4]);
    story.is_vm_proved_shut(&one, 3389);
    story.is_vm_proved_shut(&other, 3389);
    assert_eq!((story.rules_of(&lost, 3389).len(), story.record_of(&lost)), (1, None));
    let told = story.audits_of("service-failing");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0]["code"] == "shard" && told[0]["why"].as_str().unwrap().contains(&subscription), "{told:#?}");
    story.heal();
    story.pass(8 * MINUTE).await;
    story.is_vm_proved_shut(&lost, 3389);
}

#[tokio::test]
async fn shards_that_the_queue_refuses_keep_no_other_from_being_sent() {
    let story = three_subscriptions().begin().await;
    let vms = all_open(&story).await;
    // Each of three, and two of them once more.
    story.fault("servicebus", "POST", "/sweep/messages", Effect::status(503, None), Some(5));
    story.pass(5 * MINUTE + 45).await;
    let is_shut = |vm: &&String| story.rules_of(vm, 3389).is_empty();
    assert_eq!(vms.iter().filter(is_shut).count(), 1, "{}", story.told());
    assert_eq!(story.audits_of("service-failing").len(), 1);
    story.pass(5 * MINUTE).await;
    vms.iter().for_each(|vm| story.is_vm_proved_shut(vm, 3389));
}

#[tokio::test]
async fn only_the_subscriptions_that_are_named_are_swept() {
    let story = three_subscriptions().set("PORTCULLIS_SUBSCRIPTIONS", SUBSCRIPTION).begin().await;
    let [named, other, another] = all_open(&story).await;
    story.count("arm", "GET", "/subscriptions/5a4db0c5-0001-4000-8000-000000000002/");
    story.pass(12 * MINUTE).await;
    assert_eq!((shards(&story), story.counted()), (vec![1, 1], 0));
    story.is_vm_proved_shut(&named, 3389);
    for vm in [&other, &another] {
        assert_eq!((story.rules_of(vm, 3389).len(), story.record_of(vm)), (1, None), "{vm}");
    }
}
