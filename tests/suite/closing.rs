//! Openings around Portcullis, from their event to the proof that they are shut.

use chrono::TimeDelta;
use portcullis_sandbox::estate;
use portcullis_sandbox::faults::Effect;
use portcullis_sandbox::state::State;
use portcullis_sandbox::switches::Events;
use portcullis_trials::story::{DELETE, Setting, Story, vm};
use serde_json::Value;

const HOUR: TimeDelta = TimeDelta::hours(1);

#[tokio::test]
async fn an_opening_to_the_whole_internet_is_caught_by_its_event_shut_and_proved_shut() {
    let story = Story::begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], HOUR).await;
    story.pass(20).await;
    assert_eq!(story.ours(DELETE).len(), 2, "one in the NIC's group, one in the subnet's");
    story.pass(180).await;
    story.is_proved_shut("web-1", 3389);
    assert_eq!(story.audits_of("alarm-raised").len(), 0);
}

#[tokio::test]
async fn while_the_rules_cannot_be_used_a_harmless_opening_is_left_and_reported_and_that_is_told() {
    let story = Setting::default().without_rules().begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 22, &["203.0.113.4"], HOUR).await;
    story.pass(300).await;
    assert_eq!(story.allow_rules(22).len(), 2);
    assert_eq!(story.ours(DELETE).len(), 0);
    let mut kinds = story.row_kinds();
    kinds.sort_unstable();
    assert_eq!(kinds, ["finding-appeared", "finding-appeared", "service-failing"]);
    assert!(story.audits_of("service-failing")[0]["why"].as_str().unwrap().contains("broken.cedar"), "{}", story.told());
    story.holds();
}

#[tokio::test]
async fn what_was_left_while_the_rules_could_not_be_used_is_judged_once_they_can() {
    let broken = Setting::default().without_rules().begin().await;
    broken.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 22, &["203.0.113.4"], TimeDelta::hours(3)).await;
    broken.pass(900).await;
    assert_eq!((broken.allow_rules(22).len(), broken.tried(DELETE).len()), (2, 0), "{}", broken.told());
    let mended = broken.left().begin().await;
    mended.pass(420).await;
    assert_eq!(mended.audits_of("close")[0]["code"], "unapproved", "{}", mended.told());
    mended.is_proved_shut("web-1", 22);
    mended.holds();
}

/// What is told of openings that no look saw: the code, the port and the severity of each.
fn missed(story: &Story) -> Vec<String> {
    let text = |audit: &Value, field: &str| audit[field].as_str().unwrap_or_default().to_owned();
    story.audits_of("missed").iter().map(|one| format!("{} {} {}", text(one, "code"), one["port"], text(one, "severity"))).collect()
}

/// How often the function `approval` was invoked.
fn looks(story: &Story) -> usize {
    let record = story.sandbox.host.as_ref().unwrap().record();
    record.invocations().iter().filter(|invocation| invocation.function == "approval").count()
}

#[tokio::test]
async fn what_was_open_only_between_two_sweeps_is_judged_by_its_record_and_told_once() {
    let story = Setting::with(|state| state.switches.events = Events::Never).begin().await;
    story.pass(310).await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::minutes(2)).await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-2"), 22, &["203.0.113.4"], TimeDelta::minutes(2)).await;
    story.pass(200).await;
    assert_eq!(story.allow_rules(3389).len() + story.allow_rules(22).len(), 0, "JIT took them away");
    assert_eq!(missed(&story), [""; 0], "no sweep has come");
    story.pass(300).await;
    let mut told = missed(&story);
    told.sort_unstable();
    assert_eq!(told, ["any-source 3389 High", "unapproved 22 Medium"], "{}", story.told());
    let audit = story.audits_of("missed").into_iter().find(|one| one["port"] == 3389).unwrap();
    assert!(audit["what"].as_str().unwrap().contains("asked for by "), "{audit}");
    // Each record is looked into once, also by a handler that begins anew.
    let before = looks(&story);
    story.pass(900).await;
    assert_eq!((missed(&story).len(), looks(&story)), (2, before), "{}", story.told());
    let later = story.left().begin().await;
    later.pass(900).await;
    assert_eq!((missed(&later).len(), looks(&later), later.alarms()), (2, 0, String::new()), "{}", later.told());
    story.holds();
    later.holds();
}

#[tokio::test]
async fn what_was_open_between_two_sweeps_beside_what_stays_open_is_told_too() {
    let story = Setting::with(|state| state.switches.events = Events::Never).observing().begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 22, &["*"], TimeDelta::hours(3)).await;
    story.pass(310).await;
    assert_eq!(story.audits_of("would-close").len(), 2, "{}", story.told());
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::minutes(2)).await;
    story.pass(900).await;
    assert_eq!((missed(&story).join(", ").as_str(), story.allow_rules(3389).len()), ("any-source 3389 High", 0), "{}", story.told());
    story.holds();
}

#[tokio::test]
async fn what_jit_shut_while_nothing_could_be_read_is_told_of_afterwards() {
    // The machine alone, and everything: then not even which machine it is can be found out.
    for (path, alarms) in [("/virtualMachines/web-1", "+cannot-look -cannot-look"), ("/", "")] {
        let story = Story::begin().await;
        story.fault("arm", "GET", path, Effect::status(503, None), None);
        story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::minutes(10)).await;
        story.pass(900).await;
        assert_eq!(story.allow_rules(3389).len(), 0, "JIT took it away");
        assert_eq!(story.audits_of("service-failing").is_empty(), path != "/", "{}", story.told());
        story.heal();
        story.pass(900).await;
        assert_eq!((missed(&story).join(", ").as_str(), story.alarms().as_str()), ("any-source 3389 High", alarms), "{}", story.told());
        story.holds();
    }
}

/// The cure of a record that cannot be read: it is deleted, or an earlier version is put back. Both count what was counted before.
#[tokio::test]
async fn a_machines_record_that_was_lost_or_put_back_hides_no_audit_record_behind_an_older_one() {
    for is_put_back in [false, true] {
        let story = Story::begin().await;
        story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::minutes(10)).await;
        story.pass(1200).await;
        let records = |state: &mut State| {
            let blobs = &mut state.containers.get_mut("state").unwrap().blobs;
            blobs.iter().filter(|(name, _)| name.starts_with("vm/")).map(|(name, blob)| (name.clone(), blob.clone())).collect::<Vec<_>>()
        };
        let before = story.change(records);
        let kinds = ["finding-appeared", "proved-shut", "finding-gone"];
        let of_one = kinds.map(|kind| story.audits_of(kind).len());
        story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::minutes(10)).await;
        story.pass(3600).await;
        story.change(|state| {
            let blobs = &mut state.containers.get_mut("state").unwrap().blobs;
            blobs.retain(|name, _| !name.starts_with("vm/"));
            blobs.extend(before.into_iter().filter(|_| is_put_back));
        });
        story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::minutes(10)).await;
        story.pass(1200).await;
        let of_three = kinds.map(|kind| story.audits_of(kind).len());
        assert_eq!(of_three, of_one.map(|count| count * 3), "{kinds:?}, {is_put_back}: {}", story.told());
        assert_eq!(story.audits_of("close").len(), story.tried(DELETE).len(), "{is_put_back}: {}", story.told());
        story.is_proved_shut("web-1", 3389);
        story.holds();
    }
}
