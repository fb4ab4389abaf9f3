//! The handler is killed with SIGKILL before and after each of its outgoing calls, and the story goes on: every one of
//! them ends proved shut, with one audit record for each effect.

#[expect(dead_code, reason = "each test binary uses its part of the harness")]
mod story;

use chrono::TimeDelta;
use portcullis_sandbox::estate;
use portcullis_sandbox::faults::{Effect, Fault};
use serde_json::json;
use story::{DELETE, INITIATE, Setting, Story, tag, vm};

/// Long enough for a lease to end, a wake-up to come late and two reads to prove.
const TEN_MINUTES: i64 = 600;

async fn any_source(fault: Option<Fault>) -> Story {
    let story = Story::begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(1)).await;
    story.change(|state| state.faults.extend(fault));
    story
}

/// An operator's wish for a developer, who has the port for a quarter of an hour.
async fn granted(fault: Option<Fault>) -> Story {
    let story = Setting::with(|state| tag(state, "web-1", "development")).begin().await;
    let wish = json!({"vm": vm("web-1"), "port": 22, "sources": [VPN], "duration": "PT15M", "person": estate::DEVELOPER_OBJECT_ID});
    assert_eq!(story.posts(estate::SECURITY_OBJECT_ID, "/grants", &wish).await.0, 202);
    story.change(|state| state.faults.extend(fault));
    story
}

const VPN: &str = "203.0.113.4";

/// The same kills while a grant is decided on, opened, ended and proved shut: it opens once, and everything is told once.
async fn killed_while_granted(effect: Effect, method: &str, part: u32, of: u32) {
    let mut kills = 0;
    for call in (part..).step_by(of as usize) {
        assert!(call < MOST_CALLS, "{effect:?} at {method}: the story has no end");
        let story = granted(Some(Fault::new("*", method, "", effect.clone()).skip(call).times(1))).await;
        let place = format!("{effect:?} at {method} {call}");
        story.pass(TEN_MINUTES).await;
        assert!(story.lets_in("web-1", 22, &[VPN]), "{place}: {}", story.told());
        story.pass(2 * TEN_MINUTES).await;
        assert_eq!((story.ours(INITIATE).len(), story.allow_rules(22).len()), (1, 0), "{place}: {}", story.told());
        let kinds = ["granted", "opened", "grant-ended", "grant-closed"].map(|kind| story.audits_of(kind).len());
        assert_eq!((kinds, story.alarms().as_str()), ([1; 4], ""), "{place}: {}", story.told());
        story.holds();
        if story.sandbox.host.as_ref().unwrap().process().unwrap().starts() == 1 {
            break;
        }
        kills += 1;
    }
    assert!(kills >= 2, "only {kills} kills: is it still the story?");
}

/// More calls with one method than any story makes: one that makes them goes round.
const MOST_CALLS: u32 = 200;

/// Kills at every `of`-th call with this method, beginning with the `part`-th, until a story makes no such call any more.
/// Calls with these methods are those that change something.
async fn killed(effect: Effect, method: &str, part: u32, of: u32) {
    let mut kills = 0;
    for call in (part..).step_by(of as usize) {
        assert!(call < MOST_CALLS, "{effect:?} at {method}: the story has no end");
        let story = any_source(Some(Fault::new("*", method, "", effect.clone()).skip(call).times(1))).await;
        story.pass(TEN_MINUTES).await;
        let starts = story.sandbox.host.as_ref().unwrap().process().unwrap().starts();
        let deletes = story.ours(DELETE).len();
        assert!(deletes >= 2, "{effect:?} at {method} {call}: {deletes} deletes\n{}", story.told());
        story.is_proved_shut("web-1", 3389);
        if starts == 1 {
            break;
        }
        kills += 1;
    }
    assert!(kills >= 5, "only {kills} kills: is it still the story?");
}

macro_rules! killed {
    ($($name:ident: $kill:ident $effect:ident $method:literal $part:literal of $of:literal),+ $(,)?) => {$(
        #[tokio::test]
        async fn $name() {
            $kill(Effect::$effect, $method, $part, $of).await;
        }
    )+};
}

killed! {
    a_kill_before_any_put_loses_nothing: killed KillBefore "PUT" 0 of 2,
    a_kill_before_any_other_put_loses_nothing: killed KillBefore "PUT" 1 of 2,
    a_kill_before_any_post_loses_nothing: killed KillBefore "POST" 0 of 1,
    a_kill_before_any_delete_loses_nothing: killed KillBefore "DELETE" 0 of 1,
    a_kill_after_any_put_loses_nothing: killed KillAfter "PUT" 0 of 2,
    a_kill_after_any_other_put_loses_nothing: killed KillAfter "PUT" 1 of 2,
    a_kill_after_any_post_loses_nothing: killed KillAfter "POST" 0 of 1,
    a_kill_after_any_delete_loses_nothing: killed KillAfter "DELETE" 0 of 1,
    a_kill_before_any_put_opens_once: killed_while_granted KillBefore "PUT" 0 of 2,
    a_kill_before_any_other_put_opens_once: killed_while_granted KillBefore "PUT" 1 of 2,
    a_kill_before_any_post_opens_once: killed_while_granted KillBefore "POST" 0 of 1,
    a_kill_before_any_delete_opens_once: killed_while_granted KillBefore "DELETE" 0 of 1,
    a_kill_after_any_put_opens_once: killed_while_granted KillAfter "PUT" 0 of 2,
    a_kill_after_any_other_put_opens_once: killed_while_granted KillAfter "PUT" 1 of 2,
    a_kill_after_any_post_opens_once: killed_while_granted KillAfter "POST" 0 of 1,
    a_kill_after_any_delete_opens_once: killed_while_granted KillAfter "DELETE" 0 of 1,
}
