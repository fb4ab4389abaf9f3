//! Azure that does not answer as it should: what stands meanwhile, and that everything ends proved shut.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use portcullis_sandbox::estate;
use portcullis_sandbox::faults::{Effect, Fault};
use portcullis_sandbox::state::{Denial, IngestedRow, Lock, LockLevel};
use portcullis_trials::story::{self, DELETE, Setting, Story, each_row, vm};

const MINUTE: i64 = 60;

/// Longer than what is tried at once and than any alarm waits.
const FAULT_SECONDS: i64 = 12 * MINUTE;

fn status(status: u16) -> Effect {
    Effect::status(status, None)
}

fn throttled(seconds: u64) -> Effect {
    Effect::status(429, Some(seconds))
}

async fn any_source() -> Story {
    let story = Story::begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(2)).await;
    story
}

/// Whether the port is open and which alarms there were, as the rows of the tables tell it.
fn stands(story: &Story) -> String {
    let open = if story.allow_rules(3389).is_empty() { "shut" } else { "open" };
    format!("{open} {}", story.alarms()).trim().to_owned()
}

/// A row: a fault that lasts for twelve minutes, and what stands after three minutes, after ten, and ten minutes
/// after it is gone.
struct Row {
    effect: Effect,
    at_3: &'static str,
    at_10: &'static str,
    after: &'static str,
}

fn row(effect: Effect, at_3: &'static str, at_10: &'static str, after: &'static str) -> Row {
    Row { effect, at_3, at_10, after }
}

async fn meets(method: &'static str, path: &'static str, row: Row) {
    let story = any_source().await;
    story.fault("arm", method, path, row.effect, None);
    story.pass(3 * MINUTE).await;
    let at_3 = stands(&story);
    story.pass(7 * MINUTE).await;
    let at_10 = stands(&story);
    story.pass(FAULT_SECONDS - 10 * MINUTE).await;
    story.heal();
    story.pass(10 * MINUTE).await;
    let after = format!("{} by {} deletes", stands(&story), story.ours(DELETE).len());
    assert_eq!([at_3.as_str(), &at_10, &after], [row.at_3, row.at_10, row.after]);
    story.is_proved_shut("web-1", 3389);
}

async fn table(method: &'static str, path: &'static str, rows: Vec<Row>) {
    each_row(rows.into_iter().map(|row| (format!("{method} {path} {:?}", row.effect), meets(method, path, row)))).await;
}

/// The faults of a read that cannot be told from each other by what they do to a look.
fn reads() -> Vec<Row> {
    let passing = [status(401), status(409), status(412), status(429), status(500), status(503), Effect::CutBefore, Effect::CutAfter];
    let (open, alarm, shut) = ("open", "open +cannot-look", "shut +cannot-look -cannot-look by 2 deletes");
    let mut rows: Vec<Row> = passing.into_iter().map(|effect| row(effect, open, alarm, shut)).collect();
    rows.push(row(status(403), "open +missing-right", "open +missing-right", "shut +missing-right -missing-right by 2 deletes"));
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_jit_list_hinder_no_delete_and_are_an_alarm_until_it_is_proved() {
    let passing = [status(401), status(404), status(409), status(412), status(429), status(500), status(503)];
    let passing = passing.into_iter().chain([Effect::CutBefore, Effect::CutAfter]);
    let (alarm, proved) = ("shut +cannot-look", "shut +cannot-look -cannot-look by 2 deletes");
    let mut rows: Vec<Row> = passing.map(|effect| row(effect, "shut", alarm, proved)).collect();
    rows.push(row(status(403), "shut +missing-right", "shut +missing-right", "shut +missing-right -missing-right by 2 deletes"));
    table("GET", "/resourceGroups/rg-workload/providers/Microsoft.Security/jitNetworkAccessPolicies", rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_vm_end_proved_shut() {
    table("GET", "/virtualMachines/web-1", reads()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_what_stands_in_front_of_the_vm_end_proved_shut() {
    let paths =
        ["/networkInterfaces/web-1-nic", "/subnets/servers", "/networkSecurityGroups/nsg-web-1?", "/networkSecurityGroups/nsg-servers?"];
    let rows = paths.into_iter().flat_map(|path| {
        let lost = row(status(404), "open", "open +cannot-look", "shut +cannot-look -cannot-look by 2 deletes");
        let denied = row(status(403), "open +missing-right", "open +missing-right", "shut +missing-right -missing-right by 2 deletes");
        [lost, denied].map(|row| (format!("{path} {:?}", row.effect), meets("GET", path, row)))
    });
    each_row(rows).await;
}

/// Every fault there is, one after the other, each for three calls.
fn all_in_turn() -> Vec<Effect> {
    let mut effects: Vec<Effect> = [401, 403, 404, 409, 412, 429, 500, 503].map(status).into();
    effects.extend([throttled(2), throttled(3), Effect::CutBefore, Effect::CutAfter]);
    effects
}

async fn meets_all(method: &'static str, path: &'static str) {
    let story = any_source().await;
    // A VM that is not found is gone, and then only the sweep looks on.
    let effects = all_in_turn().into_iter().filter(|effect| !path.is_empty() || *effect != status(404));
    for effect in effects {
        story.fault("arm", method, path, effect, Some(3));
    }
    story.pass(15 * MINUTE).await;
    // The last fault has its effect, after which there may be nothing left to call for.
    let left = story.world(|state| state.faults.iter().filter(|fault| fault.effect != Effect::CutAfter).cloned().collect::<Vec<_>>());
    assert!(left.is_empty(), "{left:?}");
    story.pass(5 * MINUTE).await;
    assert!(story.ours(DELETE).len() >= 2, "{}", story.told());
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_after_every_other_ends_proved_shut() {
    let calls = [
        ("GET", "/jitNetworkAccessPolicies"),
        ("GET", "/virtualMachines/web-1"),
        ("GET", "/networkInterfaces/web-1-nic"),
        ("GET", "/subnets/servers"),
        ("GET", "/networkSecurityGroups/nsg-web-1?"),
        ("GET", "/networkSecurityGroups/nsg-servers?"),
        ("GET", "/securityRules/"),
        ("DELETE", "/securityRules/"),
        ("*", ""),
    ];
    each_row(calls.map(|(method, path)| (format!("{method} {path}"), meets_all(method, path)))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_rule_end_proved_shut() {
    let passing = [status(401), status(409), status(412), status(429), status(500), status(503), Effect::CutBefore, Effect::CutAfter];
    let mut rows: Vec<Row> = passing.into_iter().map(|effect| row(effect, "open", "open +slow", "shut +slow -slow by 2 deletes")).collect();
    rows.push(row(status(403), "open +missing-right", "open +missing-right", "shut +missing-right -missing-right by 2 deletes"));
    // What Azure calls gone and is there has come back, as far as anybody can tell.
    rows.push(row(status(404), "open", "open +slow", "shut +slow +rule-returns -rule-returns by 2 deletes"));
    table("GET", "/securityRules/", rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_delete_end_proved_shut() {
    let mut passing = vec![status(401), status(409), status(412), status(429), status(500), status(503), Effect::CutBefore];
    // What Azure answers while a group, or what it refers to, is being written.
    let busy = [(429, "ReferencedResourceNotProvisioned"), (429, "RetryableError"), (409, "AnotherOperationInProgress")];
    passing.extend(busy.map(|(status, code)| Effect::Status {
        status,
        code: Some(code.to_owned()),
        details: Vec::new(),
        retry_after: None,
    }));
    let mut rows: Vec<Row> = passing.into_iter().map(|effect| row(effect, "open", "open +slow", "shut +slow -slow by 2 deletes")).collect();
    rows.push(row(status(403), "open +missing-right", "open +missing-right", "shut +missing-right -missing-right by 2 deletes"));
    rows.push(row(status(404), "open", "open +slow", "shut +slow +rule-returns -rule-returns by 2 deletes"));
    // Its effect is had, and seen by reading.
    rows.push(row(Effect::CutAfter, "shut", "shut", "shut by 2 deletes"));
    table("DELETE", "/securityRules/", rows).await;
}

/// The fault of one call, that says: not before twenty minutes.
async fn wants_quiet(method: &'static str, path: &'static str) {
    let story = any_source().await;
    story.fault("arm", method, path, throttled(1200), Some(1));
    story.count("arm", "GET", "/virtualMachines/web-1");
    story.pass(30).await;
    assert!(!story.world(|state| state.faults.iter().any(|fault| fault.effect == throttled(1200))), "nothing met the fault");
    let calls = story.counted();
    // Whatever else asks for a look: another event, our own messages, the schedule's and the sweep's.
    let event = story::initiate_event("again", &story::policy(), story.now());
    assert_eq!(story.post_events(format!("[{event}]")).await, 202);
    for vm in [vm("web-1"), vm("web-1").to_ascii_uppercase()] {
        story.send("approval", &serde_json::json!({"portcullis": {"kind": "look", "vm": vm}}).to_string());
        story.pass(150).await;
    }
    assert_ne!(story.alarms(), "", "{:#}", story.record("web-1").unwrap());
    story.pass(14 * MINUTE).await;
    assert_eq!(story.counted(), calls, "a look called before Azure wanted it:\n{}", story.told());
    assert!(!story.allow_rules(3389).is_empty(), "its rule came after the look that was told so: {}", story.told());
    story.pass(6 * MINUTE).await;
    assert!(story.alarms().contains('-'), "{}", story.alarms());
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_minutes_of_quiet_are_kept_by_every_cause_of_a_look_while_the_alarm_comes_in_time() {
    let calls = [
        ("GET", "/resourceGroups/rg-workload/providers/Microsoft.Security/jitNetworkAccessPolicies"),
        ("GET", "/virtualMachines/web-1"),
        ("GET", "/networkInterfaces/web-1-nic"),
        ("GET", "/subnets/servers"),
        ("GET", "/networkSecurityGroups/nsg-servers?"),
        ("GET", "/securityRules/"),
        ("DELETE", "/securityRules/"),
    ];
    each_row(calls.map(|(method, path)| (format!("{method} {path}"), wants_quiet(method, path)))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_opened_while_azure_wants_quiet_for_something_else_is_an_alarm_in_time() {
    let story = any_source().await;
    story.fault("arm", "DELETE", "/securityRules/", throttled(1200), Some(1));
    story.pass(MINUTE).await;
    assert!(story.world(|state| state.faults.is_empty()), "nothing met the fault");
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 22, &["*"], TimeDelta::hours(2)).await;
    story.pass(6 * MINUTE).await;
    assert_eq!(story.alarms(), "+cannot-look +slow", "nobody sees the second port");
    story.pass(20 * MINUTE).await;
    assert_eq!(story.alarms(), "+cannot-look +slow -cannot-look -slow");
    story.is_proved_shut("web-1", 3389);
    story.is_proved_shut("web-1", 22);
}

/// When each delete was announced, beginning with the first.
fn announced(story: &Story) -> Vec<String> {
    let mut times: Vec<String> = story.audits_of("close").iter().map(|close| close["at"].as_str().unwrap().to_owned()).collect();
    times.sort();
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn two_seconds_of_quiet_are_waited_out_inside_a_read() {
    let [undisturbed, story] = [any_source().await, any_source().await];
    story.fault("arm", "GET", "/virtualMachines/web-1", throttled(2), Some(1));
    for story in [&undisturbed, &story] {
        story.pass(3 * MINUTE).await;
        assert_eq!(story.alarms(), "");
        story.is_proved_shut("web-1", 3389);
    }
    assert!(story.world(|state| state.faults.is_empty()), "nothing met the fault");
    assert_eq!(announced(&story), announced(&undisturbed), "no look was put off");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_seconds_of_quiet_after_a_delete_are_kept_by_the_next_look() {
    let story = any_source().await;
    story.fault("arm", "DELETE", "/securityRules/", throttled(2), Some(1));
    while story.world(|state| !state.faults.is_empty()) {
        story.pass(1).await;
    }
    let refused = story.now();
    assert_eq!((story.audits_of("close").len(), story.tried(DELETE).len()), (1, 1), "the other rule of this look is left alone");
    story.pass(3 * MINUTE).await;
    let next = story.tried(DELETE)[1].at - refused;
    assert!(next >= TimeDelta::seconds(2) && next <= TimeDelta::seconds(10), "{next}");
    assert_eq!(story.alarms(), "");
    story.is_proved_shut("web-1", 3389);
}

/// What forbids the delete, how it is said to a person, and how it goes away.
async fn forbidden(cause: &str, said: [&str; 2], forbid: impl AsyncFnOnce(&Story), allow: impl FnOnce(&Story)) {
    let story = any_source().await;
    forbid(&story).await;
    story.pass(MINUTE).await;
    assert_eq!(story.alarms(), format!("+{cause}"), "at once");
    let [alarm] = &story.audits_of("alarm-raised")[..] else { panic!("{:#?}", story.audits()) };
    for said in said {
        assert!(alarm["why"].as_str().unwrap().contains(said), "{alarm:#}");
    }
    story.pass(19 * MINUTE).await;
    assert_eq!((story.ours(DELETE).len(), story.alarms()), (0, format!("+{cause}")));
    assert_eq!(story.allow_rules(3389).len(), 2);
    allow(&story);
    story.pass(5 * MINUTE).await;
    assert_eq!((story.ours(DELETE).len(), story.alarms()), (2, format!("+{cause} -{cause}")));
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test]
async fn a_lock_is_an_alarm_at_once_with_its_cure_until_it_is_gone() {
    for level in [LockLevel::CanNotDelete, LockLevel::ReadOnly] {
        let scope = format!("/subscriptions/{}/resourceGroups/{}", estate::SUBSCRIPTION, estate::GROUP);
        // JIT could not write its rules either while the group is read-only.
        let lock = async |story: &Story| {
            story.pass(12).await;
            story.change(|state| state.locks.push(Lock::new(scope, level)));
        };
        forbidden("lock", ["What to do: remove the lock that Azure names", "ScopeLocked"], lock, |story| {
            story.change(|state| state.locks.clear())
        })
        .await;
    }
}

#[tokio::test]
async fn a_denial_is_an_alarm_at_once_with_its_cure_until_it_is_gone() {
    let scope = format!("/subscriptions/{}", estate::SUBSCRIPTION);
    let deny = async |story: &Story| story.change(|state| state.denials.push(Denial { scope, action: DELETE.to_owned() }));
    let allow = |story: &Story| story.change(|state| state.denials.clear());
    forbidden("denial", ["What to do: exempt the security group", "RequestDisallowedByPolicy"], deny, allow).await;
}

#[tokio::test]
async fn a_missing_right_is_an_alarm_at_once_with_its_cure_until_it_is_given() {
    let actions = |story: &Story, give: bool| {
        story.change(|state| {
            let product = state.principals.iter_mut().find(|principal| principal.managed_identity).unwrap();
            let actions = &mut product.assignments[0].actions;
            actions.retain(|action| action != DELETE);
            actions.extend(give.then(|| DELETE.to_owned()));
        });
    };
    let said = ["What to do: give Portcullis' identity a role", "securityRules/delete"];
    forbidden("missing-right", said, async |story| actions(story, false), |story| actions(story, true)).await;
}

#[tokio::test]
async fn a_store_conflict_ends_the_run_and_the_next_one_shuts() {
    for skip in 0..6 {
        let story = any_source().await;
        let conflict = Effect::Status { status: 412, code: Some("ConditionNotMet".to_owned()), details: Vec::new(), retry_after: None };
        story.change(|state| {
            let fault = Fault::new("blob", "PUT", "/state/vm/", conflict).skip(skip).times(2);
            state.faults.push(fault);
        });
        story.pass(5 * MINUTE).await;
        assert!(story.world(|state| state.faults.is_empty()), "no write met the conflict");
        assert_eq!(story.ours(DELETE).len(), 2);
        story.is_proved_shut("web-1", 3389);
    }
}

/// The store cannot be used for five minutes: nothing is read or done in Azure, the messages wait, and a row says so.
async fn without_the_store(fault: impl FnOnce(&Story), mend: impl FnOnce(&Story)) {
    let story = any_source().await;
    fault(&story);
    story.count("arm", "GET", "/virtualMachines/");
    story.pass(5 * MINUTE - 1).await;
    assert_eq!(story.counted(), 0, "nothing is judged:\n{}", story.told());
    assert_eq!((story.audits().len(), story.allow_rules(3389).len()), (0, 2));
    assert!(story.queued("approval") > 0, "the event waits in the queue");
    let rows: Vec<(String, String)> = story.world(|state| {
        let text = |row: &serde_json::Value, column: &str| row[column].as_str().unwrap_or_default().to_owned();
        state.rows.iter().map(|taken| (text(&taken.row, "EventSubType"), text(&taken.row, "Operation"))).collect()
    });
    assert_eq!(rows, [("service-failing".to_owned(), "Service store".to_owned())], "one row a period");
    mend(&story);
    story.pass(10 * MINUTE).await;
    assert_eq!(story.ours(DELETE).len(), 2);
    story.is_proved_shut("web-1", 3389);
    assert_eq!(story.queued("approval"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_does_not_answer_nothing_is_judged_and_afterwards_all_is_shut() {
    let effects = [status(503), status(500), status(403), status(429), throttled(30), Effect::CutBefore, Effect::CutAfter];
    let rows = effects.map(|effect| {
        let name = format!("{effect:?}");
        (name, without_the_store(move |story| story.fault("blob", "*", "", effect, None), Story::heal))
    });
    each_row(rows).await;
}

#[tokio::test]
async fn that_the_store_is_down_is_told_again_until_it_is_told() {
    let story = any_source().await;
    story.fault("blob", "*", "", status(503), None);
    story.fault("logs", "POST", "", status(429), None);
    story.pass(2 * MINUTE).await;
    assert!(story.row_kinds().is_empty());
    story.change(|state| state.faults.retain(|fault| fault.face != "logs"));
    story.pass(2 * MINUTE).await;
    assert_eq!(story.row_kinds(), ["service-failing"], "in the same period");
}

#[tokio::test]
async fn an_emptied_store_is_no_new_estate() {
    let empty = |story: &Story| story.change(|state| state.containers.get_mut("state").unwrap().blobs.clear());
    let restore = |story: &Story| {
        story.heal();
        story.change(|state| portcullis_sandbox::blob::put(state, "state", "portcullis-store.json", b"{}", "application/json"));
    };
    without_the_store(empty, restore).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_policy_cannot_be_read_is_made_good_by_the_sweep() {
    let rows = [status(403), status(404), status(500), throttled(1200), Effect::CutAfter].map(|effect| {
        let name = format!("{effect:?}");
        let story = async move {
            let story = any_source().await;
            story.fault("arm", "GET", "/locations/westeurope/jitNetworkAccessPolicies/default", effect, None);
            story.pass(4 * MINUTE).await;
            assert_eq!(story.ours(DELETE).len(), 0, "no event told of a VM");
            story.pass(4 * MINUTE).await;
            story.is_proved_shut("web-1", 3389);
            story.heal();
            story.pass(20 * MINUTE).await;
            assert_eq!((story.ours(DELETE).len(), story.queued("approval")), (2, 0));
            story.holds();
        };
        (name, story)
    });
    each_row(rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_cannot_be_sent_once_is_sent_again_in_the_same_sweep() {
    let rows = [status(503), throttled(1200), Effect::CutBefore, Effect::CutAfter].map(|effect| {
        let name = format!("{effect:?}");
        let story = async move {
            let story = Setting::with(|state| state.switches.events = portcullis_sandbox::switches::Events::Never).begin().await;
            story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(3)).await;
            story.fault("servicebus", "POST", "/sweep/messages", effect, Some(1));
            story.pass(5 * MINUTE + 45).await;
            story.is_proved_shut("web-1", 3389);
            assert_eq!(story.ours(DELETE).len(), 2);
        };
        (name, story)
    });
    each_row(rows).await;
}

/// What stands while a list of the sweep does not answer: nothing is found, one row says so, and no shard outlives its
/// period. Afterwards what was lost is found.
async fn without_a_list(path: &'static str, effect: Effect) {
    let story = Setting::with(|state| state.switches.events = portcullis_sandbox::switches::Events::Never).begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(3)).await;
    story.fault("arm", "GET", path, effect, None);
    story.pass(11 * MINUTE).await;
    assert_eq!(story.ours(DELETE).len(), 0);
    assert!(story.queued("sweep") <= 1, "a shard lives one period: {}", story.queued("sweep"));
    let told = story.audits_of("service-failing");
    assert_eq!(told.len(), 1, "{told:#?}");
    story.heal();
    story.pass(8 * MINUTE).await;
    assert_eq!(story.ours(DELETE).len(), 2);
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_fail_are_told_once_an_hour_and_swept_when_they_answer() {
    let lists =
        ["/providers/Microsoft.Network/networkSecurityGroups?", "/providers/Microsoft.Network/networkInterfaces?", "/subscriptions?"];
    let rows = lists
        .into_iter()
        .flat_map(|path| of_lists().into_iter().map(move |effect| (format!("{path} {effect:?}"), without_a_list(path, effect))));
    each_row(rows).await;
}

fn of_lists() -> Vec<Effect> {
    let mut effects: Vec<Effect> = [401, 403, 404, 409, 412, 429, 500, 503].map(status).into();
    effects.extend([throttled(1200), Effect::CutBefore, Effect::CutAfter]);
    effects
}

/// The list of JIT's policies does not answer, for a whole subscription, nor for the group of the VM where `of_looks` says so.
async fn without_the_list_of_policies(effect: Effect, of_looks: bool) {
    let story = Setting::with(|state| state.switches.events = portcullis_sandbox::switches::Events::Never).begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(3)).await;
    let list = "/providers/Microsoft.Security/jitNetworkAccessPolicies?";
    let of_subscription = format!("/subscriptions/{}{list}", estate::SUBSCRIPTION);
    story.fault("arm", "GET", if of_looks { list } else { &of_subscription }, effect, None);
    story.pass(6 * MINUTE).await;
    assert_eq!((story.ours(DELETE).len(), story.allow_rules(3389).len()), (2, 0), "{}", story.told());
    story.pass(14 * MINUTE).await;
    assert_eq!(story.audits_of("service-failing").len(), 1, "{}", story.told());
    assert_eq!((story.audits_of("proved-shut").len(), story.alarms().is_empty()), if of_looks { (0, false) } else { (1, true) });
    story.heal();
    story.pass(8 * MINUTE).await;
    assert_eq!(story.ours(DELETE).len(), 2);
    story.is_proved_shut("web-1", 3389);
    story.holds();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_waits_nine_seconds_for_jits_policies_and_finds_what_is_open_to_everybody_without_them() {
    let story = Setting::with(|state| state.switches.events = portcullis_sandbox::switches::Events::Never).begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(3)).await;
    let list = format!("/subscriptions/{}/providers/Microsoft.Security/jitNetworkAccessPolicies?", estate::SUBSCRIPTION);
    story.fault("arm", "GET", &list, Effect::Delay { milliseconds: 11_000 }, Some(1));
    let begun = story.now();
    story.pass(6 * MINUTE).await;
    let deletes = story.ours(DELETE);
    assert_eq!((deletes.len(), (deletes[0].at - begun).num_minutes()), (2, 5), "by the first sweep: {}", story.told());
    let told = story.audits_of("service-failing");
    assert!(told.len() == 1 && told[0]["why"].to_string().contains("not answered whole within 9 s"), "{told:#?}");
    story.pass(2 * MINUTE).await;
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_finds_what_is_open_to_everybody_although_jits_policies_cannot_be_listed() {
    let effects = [status(403), status(404), status(503), throttled(1200), Effect::CutBefore];
    let rows = effects.into_iter().flat_map(|effect| {
        // Also the look that JIT tells to keep quiet shuts what the groups show: that is no call of JIT.
        let both = if [status(403), status(404), throttled(1200)].contains(&effect) { vec![false, true] } else { vec![false] };
        both.into_iter().map(move |of_looks| (format!("{effect:?} {of_looks}"), without_the_list_of_policies(effect.clone(), of_looks)))
    });
    each_row(rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_wants_two_seconds_is_waited_for_inside_its_shard() {
    let lists = ["/jitNetworkAccessPolicies?", "/networkSecurityGroups?", "/networkInterfaces?", "/subscriptions?"];
    let rows = lists.map(|path| {
        let story = async move {
            let story = Setting::with(|state| state.switches.events = portcullis_sandbox::switches::Events::Never).begin().await;
            story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(3)).await;
            story.fault("arm", "GET", path, throttled(2), Some(2));
            story.pass(5 * MINUTE).await;
            assert_eq!(story.tried(DELETE)[0].at - story.now(), TimeDelta::zero(), "by the first sweep:\n{}", story.told());
            story.pass(2 * MINUTE).await;
            assert_eq!(story.audits_of("service-failing").len(), 0);
            story.is_proved_shut("web-1", 3389);
        };
        (path.to_owned(), story)
    });
    each_row(rows).await;
}

async fn without_sends(effect: Effect, from: i64, times: Option<u32>) {
    let story = any_source().await;
    story.pass(from).await;
    story.fault("servicebus", "POST", "/messages", effect, times);
    story.pass(7 * MINUTE).await;
    let dead: usize = story.world(|state| state.queues.values().map(|queue| queue.dead_letters.len()).sum());
    assert_eq!(dead, 0, "the store held what the queue did not take:\n{}", story.told());
    story.heal();
    story.pass(10 * MINUTE).await;
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_queue_takes_nothing_the_store_holds_it() {
    let times = [0, 13, 30];
    // A message whose answer is lost each time would come more and more often.
    let effects = || [(status(503), None), (status(403), None), (Effect::CutBefore, None), (Effect::CutAfter, Some(9))];
    let rows = times
        .into_iter()
        .flat_map(|from| effects().map(|(effect, times)| (format!("{effect:?} from second {from}"), without_sends(effect, from, times))));
    each_row(rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_queue_does_not_answer_the_store_holds_what_it_should_take() {
    let story = any_source().await;
    story.fault("servicebus", "*", "", Effect::Delay { milliseconds: 60_000 }, None);
    story.pass(15).await;
    let dead: usize = story.world(|state| state.queues.values().map(|queue| queue.dead_letters.len()).sum());
    assert_eq!(dead, 0, "the store held what the queue did not take:\n{}", story.told());
    let kept = story.world(|state| state.containers["state"].blobs.keys().filter(|name| name.starts_with("later/")).count());
    assert!(kept > 0 || story.ours(DELETE).len() == 2, "{}", story.told());
    story.heal();
    story.pass(10 * MINUTE).await;
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_a_moment_costs_no_message_its_deliveries() {
    let story = any_source().await;
    story.pass(1).await;
    // More calls than ten deliveries make which fail at once.
    story.fault("blob", "*", "", status(400), Some(30));
    story.fault("servicebus", "*", "", status(400), Some(30));
    story.pass(5 * MINUTE).await;
    assert!(story.world(|state| state.faults.is_empty()), "nothing met the faults");
    story.pass(5 * MINUTE).await;
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_record_that_the_store_says_is_there_and_is_not_is_written_before_anything_is_done() {
    let said = |code: &str, status: u16| Effect::Status { status, code: Some(code.to_owned()), details: Vec::new(), retry_after: None };
    let rows = [("/audit/", 1), ("/audit/", 4), ("/state/due/", 1), ("/state/due/", 4), ("/state/unsent/", 1)].into_iter();
    let rows = rows.flat_map(|row| [said("BlobAlreadyExists", 409), said("ConditionNotMet", 412)].map(|effect| (row, effect)));
    let plays = async |path: &'static str, times: u32, effect: Effect| {
        let story = any_source().await;
        story.fault("blob", "PUT", path, effect, Some(times));
        story.pass(10 * MINUTE).await;
        story.is_proved_shut("web-1", 3389);
    };
    each_row(rows.map(|((path, times), effect)| (format!("{effect:?} {times} times at {path}"), plays(path, times, effect)))).await;
}

#[tokio::test]
async fn what_finds_neither_store_nor_queue_ten_times_is_a_dead_letter_and_the_sweep_makes_it_good() {
    let story = any_source().await;
    story.pass(1).await;
    // What is not tried again inside a call, so that ten deliveries are over sooner.
    story.fault("blob", "*", "", status(400), None);
    story.fault("servicebus", "*", "", status(400), None);
    story.pass(12).await;
    let dead: Vec<u32> = story.world(|state| state.queues["approval"].dead_letters.iter().map(|message| message.delivery_count).collect());
    assert!(!dead.is_empty() && dead.iter().all(|count| *count == 10), "{dead:?}");
    assert_eq!(story.ours(DELETE).len(), 0);
    story.heal();
    story.pass(10 * MINUTE).await;
    story.change(|state| state.queues.values_mut().for_each(|queue| queue.dead_letters.clear()));
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test]
async fn a_message_whose_every_delivery_kills_the_handler_is_the_one_dead_letter_and_the_sweep_makes_it_good() {
    let story = Setting::with(|state| state.switches.events = portcullis_sandbox::switches::Events::Never).begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(3)).await;
    story.pass(20).await;
    story.fault("blob", "PUT", "/state/vm/", Effect::KillBefore, None);
    let look = serde_json::json!({"portcullis": {"kind": "look", "vm": vm("web-1")}}).to_string();
    story.send("approval", &look);
    story.pass(4 * MINUTE).await;
    let dead = story.world(|state| state.queues.values().flat_map(|queue| queue.dead_letters.iter()).cloned().collect::<Vec<_>>());
    assert_eq!(dead.iter().map(|message| (message.body.as_str(), message.delivery_count)).collect::<Vec<_>>(), [(look.as_str(), 10)]);
    assert_eq!((story.queued("approval"), story.tried(DELETE).len(), story.record("web-1")), (0, 0, None));
    story.heal();
    story.pass(3 * MINUTE).await;
    story.change(|state| state.queues.values_mut().for_each(|queue| queue.dead_letters.clear()));
    assert_eq!(story.ours(DELETE).len(), 2);
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test]
async fn a_sweep_that_dies_twice_is_tried_again_ten_seconds_later_each_time() {
    let story = Setting::with(|state| state.switches.events = portcullis_sandbox::switches::Events::Never).begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(3)).await;
    story.fault("servicebus", "POST", "/sweep/", Effect::KillBefore, Some(2));
    story.pass(5 * MINUTE).await;
    assert!(story.tried(DELETE).is_empty());
    story.pass(30).await;
    assert_eq!(story.ours(DELETE).len(), 2);
    story.pass(MINUTE).await;
    story.is_proved_shut("web-1", 3389);
}

/// The times at which `schedule` sent something to `approval`.
fn scheduled(story: &Story) -> Vec<chrono::DateTime<chrono::Utc>> {
    let is_it = |entry: &&portcullis_sandbox::state::LogEntry| {
        entry.function.as_deref() == Some("schedule") && entry.face == "servicebus" && entry.target == "approval"
    };
    story.world(|state| state.log.iter().filter(is_it).map(|entry| entry.at).collect())
}

#[tokio::test]
async fn when_every_message_of_a_look_is_lost_the_schedule_alone_looks_within_a_minute_until_the_port_is_proved_shut() {
    let story = Setting::with(|state| state.switches.events = portcullis_sandbox::switches::Events::Never).begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(3)).await;
    story.pass(20).await;
    story.send("approval", &serde_json::json!({"portcullis": {"kind": "look", "vm": vm("web-1")}}).to_string());
    story.pass(0).await;
    let first = story.now();
    assert!(!story.tried(DELETE).is_empty() && scheduled(&story).is_empty());
    // Until shortly before the first sweep.
    while story.now() < first + TimeDelta::seconds(4 * MINUTE) {
        story.change(|state| state.queues.get_mut("approval").unwrap().messages.clear());
        story.pass(1).await;
    }
    let looks = scheduled(&story);
    assert!(looks[0] - first <= TimeDelta::seconds(MINUTE), "{looks:?}");
    let runs = story.sandbox.host.as_ref().unwrap().record().invocations();
    let runs = runs.into_iter().filter(|run| run.function == "approval" && run.at > first);
    assert!(runs.clone().count() >= 2 && runs.clone().all(|run| looks.contains(&run.at)), "{:?}", runs.collect::<Vec<_>>());
    assert_eq!(story.ours(DELETE).len(), 2);
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_not_taken_are_sent_again_with_the_same_id_until_they_are() {
    let effects = [status(403), status(429), throttled(1200), status(500), status(413), Effect::CutBefore];
    let rows = effects.map(|effect| {
        let name = format!("{effect:?}");
        let story = async move {
            let story = any_source().await;
            story.fault("logs", "POST", "", effect, None);
            story.pass(10 * MINUTE).await;
            assert_eq!(story.allow_rules(3389).len(), 0, "shut all the same");
            let waiting = story.audits().len();
            assert!(waiting > 0 && story.row_kinds().is_empty());
            story.heal();
            story.pass(2 * MINUTE).await;
            story.is_proved_shut("web-1", 3389);
            assert_eq!(story.row_kinds().len(), waiting, "each once");
        };
        (name, story)
    });
    each_row(rows).await;
}

#[tokio::test]
async fn rows_whose_answer_was_lost_come_twice_with_one_id_each() {
    let story = any_source().await;
    story.fault("logs", "POST", "", Effect::CutAfter, Some(1));
    story.pass(5 * MINUTE).await;
    story.is_proved_shut("web-1", 3389);
    let of_record = |row: &&IngestedRow| row.row["EventSubType"] != "swept";
    let mut ids: Vec<String> = story.world(|state| state.rows.iter().filter(of_record).map(|row| row.row["AuditId"].to_string()).collect());
    let rows = ids.len();
    ids.sort();
    assert!(ids.windows(3).all(|three| three[0] != three[2]), "{ids:?}");
    ids.dedup();
    assert!(ids.len() == story.audits().len() && rows > ids.len(), "{rows} rows: {}", story.told());
}

/// The claim holds for a handler that never lives to the end of a look.
#[tokio::test]
async fn an_alarm_stands_although_every_delete_kills_the_handler_and_looks_do_not_multiply() {
    for (face, method, path) in [("arm", "DELETE", "/securityRules/"), ("blob", "PUT", "-close-")] {
        let story = any_source().await;
        story.fault(face, method, path, Effect::KillBefore, None);
        story.pass(30 * MINUTE).await;
        assert!(story.allow_rules(3389).len() == 2 && story.alarms().starts_with("+slow"), "{path}: {}", story.alarms());
        assert!(story.world(|state| state.rows.iter().any(|row| row.row["EventSubType"] == "alarm-raised")), "{path}");
        let record = story.sandbox.host.as_ref().unwrap().record();
        let looks = record.invocations().iter().filter(|one| one.function == "approval").count();
        assert!(looks < 600, "{path}: {looks} looks in half an hour");
        story.heal();
        story.pass(10 * MINUTE).await;
        story.is_proved_shut("web-1", 3389);
        assert_eq!(story.alarms(), "+slow -slow", "{path}");
    }
}

#[tokio::test]
async fn what_azure_answered_to_one_delete_is_told_although_the_next_one_kills_the_handler() {
    for effect in [Effect::KillBefore, Effect::KillAfter] {
        let story = any_source().await;
        let second = Fault::new("arm", "DELETE", "/securityRules/", effect.clone()).of_handler().skip(1).times(1);
        story.change(|state| state.faults.push(second));
        story.pass(10 * MINUTE).await;
        assert_eq!(story.world(|state| state.met.len()), 1, "{effect:?}: {}", story.told());
        story.is_proved_shut("web-1", 3389);
        let attempts = |kind: &str| -> BTreeMap<u64, String> {
            let audits = story.audits_of(kind).into_iter();
            audits.map(|audit| (audit["attempt"].as_u64().unwrap(), audit["about"].to_string())).collect()
        };
        let (closes, answers) = (attempts("close"), attempts("close-answered"));
        // The second delete has none: nobody was left to hear it.
        let answered: BTreeMap<u64, String> = closes.into_iter().filter(|(attempt, _)| *attempt != 2).collect();
        assert!(answered.contains_key(&1) && answers == answered, "{effect:?}: {answers:?} of {answered:?}");
    }
}

/// An alarm that is written down when the handler dies, and whose reason is gone by the next look.
#[tokio::test]
async fn an_alarm_that_was_told_of_when_the_handler_died_is_over_all_the_same() {
    for effect in [Effect::KillBefore, Effect::KillAfter] {
        let story = Setting::with(|state| state.switches.events = portcullis_sandbox::switches::Events::Never).begin().await;
        story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(1)).await;
        story.pass(20).await;
        let scope = format!("/subscriptions/{}", estate::SUBSCRIPTION);
        story.change(|state| state.locks.push(Lock::new(scope, LockLevel::CanNotDelete)));
        story.fault("blob", "PUT", "alarm-raised", effect.clone(), Some(1));
        story.send("approval", &serde_json::json!({"portcullis": {"kind": "look", "vm": vm("web-1")}}).to_string());
        story.pass(1).await;
        assert_eq!(story.world(|state| state.met.len()), 1, "{effect:?}: {}", story.told());
        story.change(|state| {
            state.locks.clear();
            estate::delete_vm(state, &vm("web-1"));
        });
        story.pass(10 * MINUTE).await;
        let kinds = ["alarm-raised", "alarm-cleared"].map(|kind| story.audits_of(kind).len());
        assert_eq!(kinds, [1, 1], "{effect:?}: {}", story.told());
    }
}
