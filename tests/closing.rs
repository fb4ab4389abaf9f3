//! Openings around Portcullis, from their event to the proof that they are shut.

use chrono::TimeDelta;
use portcullis_sandbox::estate;
use portcullis_trials::story::{DELETE, Setting, Story, vm};

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
