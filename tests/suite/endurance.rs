//! What goes on working while a part does not: slow answers, documents of the store that nobody can read, parts that
//! refuse, and who is named for an opening.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use portcullis_sandbox::estate;
use portcullis_sandbox::faults::{Effect, Fault};
use portcullis_sandbox::state::{Lock, LockLevel, LogEntry, State};
use portcullis_sandbox::switches::{Events, Requestor};
use portcullis_sandbox::{blob, servicebus};
use portcullis_trials::story::{DELETE, Setting, Story, initiate_event, policy, tag, vm};
use serde_json::{Value, json};

const MINUTE: i64 = 60;
const HOUR: TimeDelta = TimeDelta::hours(1);

async fn in_silence() -> Story {
    let story = Setting::with(|state| state.switches.events = Events::Never).begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], HOUR).await;
    story
}

async fn told_by_an_event(story: &Story, id: &str) {
    let event = initiate_event(id, &policy(), story.now());
    assert_eq!(story.post_events(json!([event]).to_string()).await, 202);
}

/// Puts a text where the product's store keeps something.
fn put(story: &Story, name: &str, text: &str) {
    story.change(|state| blob::put(state, "state", name, text.as_bytes(), "application/json"));
}

fn names(story: &Story, prefix: &str) -> Vec<String> {
    story.world(|state| state.containers["state"].blobs.keys().filter(|name| name.starts_with(prefix)).cloned().collect())
}

/// The codes of the rows about the service itself, each once.
fn service_rows(story: &Story) -> Vec<String> {
    let mut codes: Vec<String> = story.world(|state| {
        let of_service = state.rows.iter().filter(|taken| taken.row["EventSubType"] == "service-failing");
        of_service.map(|taken| taken.row["Code"].as_str().unwrap_or_default().to_owned()).collect()
    });
    codes.dedup();
    codes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_takes_too_long_is_remembered_and_fails_no_invocation() {
    let story = in_silence().await;
    story.fault("arm", "GET", "/virtualMachines/web-1", Effect::Delay { milliseconds: 10_500 }, Some(1));
    told_by_an_event(&story, "slow").await;
    story.pass(0).await;
    let record = story.record("web-1").unwrap();
    assert!(record["blind"]["trouble"]["said"].as_str().is_some_and(|said| said.contains("within 10 s")), "{record:#}");
    assert!(!record["nextLook"].is_null() && record["lease"].is_null(), "{record:#}");
    story.pass(5 * MINUTE).await;
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_when_the_handler_is_asked_to_stop_is_answered_first_and_what_comes_meanwhile() {
    let story = in_silence().await;
    story.fault("blob", "PUT", "/events/", Effect::Delay { milliseconds: 4_000 }, Some(1));
    let process = story.sandbox.host.as_ref().and_then(|host| host.process()).unwrap();
    let another = async {
        while !process.lines().iter().any(|line| line.contains("asked to stop")) {
            tokio::task::yield_now().await;
        }
        told_by_an_event(&story, "another").await;
        assert_eq!(process.starts(), 1, "it listens still");
    };
    let asked_to_stop = async {
        while story.world(|state| state.met.is_empty()) {
            tokio::task::yield_now().await;
        }
        tokio::join!(story.stops(), another);
    };
    tokio::join!(told_by_an_event(&story, "slow"), asked_to_stop);
    assert_eq!((names(&story, "events/").len(), story.queued("approval")), (2, 2), "{}", story.told());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_whose_answer_takes_too_long_was_perhaps_done() {
    let story = in_silence().await;
    story.pass(12).await;
    story.fault("arm", "DELETE", "/securityRules/", Effect::Delay { milliseconds: 14_500 }, Some(1));
    told_by_an_event(&story, "slow").await;
    story.pass(10 * MINUTE).await;
    let answers: Vec<Value> = story.audits_of("close-answered");
    assert!(answers.iter().any(|answer| answer["code"] == "unknown"), "{answers:#?}");
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_takes_too_long_is_told_and_left_to_the_next_sweep() {
    let story = in_silence().await;
    story.fault("arm", "GET", "Microsoft.Network/networkInterfaces?", Effect::Delay { milliseconds: 8_500 }, Some(2));
    story.change(|state| state.switches.page_size = 1);
    story.pass(12 * MINUTE).await;
    assert_eq!(service_rows(&story), ["shard"]);
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_waits_in_its_queue_while_the_store_is_slow() {
    let story = in_silence().await;
    story.fault("blob", "*", "", Effect::Delay { milliseconds: 9_000 }, Some(2));
    story.send("approval", "{");
    story.pass(0).await;
    assert_eq!((story.audits_of("rejected").len(), story.queued("approval")), (0, 1));
    story.pass(2 * MINUTE).await;
    assert_eq!((story.audits_of("rejected").len(), story.queued("approval"), story.rejected().len()), (1, 0, 1));
    story.holds();
}

#[tokio::test]
async fn an_index_entry_of_a_run_that_came_to_nothing_hides_nothing_from_the_sweep() {
    let story = in_silence().await;
    let down = || Effect::status(503, None);
    for (face, method, path, skip) in
        [("blob", "PUT", "/state/vm/", 1), ("blob", "PUT", "/state/later/", 0), ("servicebus", "POST", "/messages", 0)]
    {
        story.change(|state| state.faults.push(Fault::new(face, method, path, down()).skip(skip)));
    }
    let look = json!({"portcullis": {"kind": "look", "vm": vm("web-1")}}).to_string();
    story.pass(12).await;
    story.send("approval", &look);
    story.pass(20).await;
    assert_eq!(story.world(|state| state.queues["approval"].dead_letters.len()), 1, "neither store nor queue took it");
    assert_eq!(names(&story, "open/").len(), 1, "the run came as far as the index");
    story.heal();
    story.change(|state| state.queues.get_mut("approval").unwrap().dead_letters.clear());
    story.pass(10 * MINUTE).await;
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test]
async fn vms_that_cannot_be_read_do_not_use_up_the_cap() {
    let mut state = State::default();
    estate::large(&mut state, 22);
    state.switches.events = Events::Never;
    let name = |n: usize| format!("vm-0001-{n:03}");
    for n in 1..=20 {
        state.faults.push(Fault::new("arm", "GET", &format!("/networkInterfaces/{}-nic", name(n)), Effect::status(403, None)));
    }
    let story = Setting { state, ..Setting::default() }.begin().await;
    for n in 1..=22 {
        story.opens(estate::ADMIN_OBJECT_ID, &vm(&name(n)), 22, &["*"], TimeDelta::hours(3)).await;
    }
    story.pass(15 * MINUTE).await;
    for n in 21..=22 {
        assert_eq!(story.record(&name(n)).map(|record| record["closings"].clone()), Some(json!({})), "{}", name(n));
    }
    assert_eq!(story.allow_rules(22).len(), 20);
    story.heal();
    story.pass(10 * MINUTE).await;
    for n in 1..=22 {
        story.is_proved_shut(&name(n), 22);
    }
}

#[tokio::test]
async fn claims_without_end_and_one_that_nobody_can_read_stop_no_look() {
    let story = in_silence().await;
    let inbox = format!("inbox/{}/{}/web-1", estate::SUBSCRIPTION, estate::GROUP);
    let at = story.now();
    for n in 0..120 {
        let claim = json!({"event": format!("e{n:03}"), "at": at, "objectId": "o", "name": "n", "operation": "initiate"});
        put(&story, &format!("{inbox}/e{n:03}"), &claim.to_string());
    }
    put(&story, &format!("{inbox}/bad"), "not a claim");
    story.pass(12).await;
    told_by_an_event(&story, "one").await;
    story.pass(3 * MINUTE).await;
    story.is_proved_shut("web-1", 3389);
    assert_eq!(names(&story, "inbox/"), Vec::<String>::new());
    let kept: Vec<Value> = story.rejected().into_iter().map(|kept| kept["body"].clone()).collect();
    assert_eq!(kept, ["not a claim"]);
    assert!(story.record("web-1").unwrap()["claims"].as_array().unwrap().len() <= 20);
}

#[tokio::test]
async fn an_event_that_has_to_wait_has_each_of_its_later_rounds_once() {
    each_round_comes_once("GET", "/state/events/").await;
    each_round_comes_once("PUT", "/state/inbox/").await;
}

async fn each_round_comes_once(method: &str, path: &str) {
    let story = in_silence().await;
    story.fault("blob", method, path, Effect::status(503, None), Some(3));
    told_by_an_event(&story, "late").await;
    story.pass(12).await;
    let rounds = |story: &Story| {
        story.world(|state| {
            let bodies = state.queues["approval"].messages.iter().map(|message| message.body.clone());
            let mut rounds: Vec<String> = bodies.filter(|body| body.contains("\"kind\":\"event\"")).collect();
            rounds.sort();
            rounds
        })
    };
    let told = rounds(&story);
    assert!(told.len() == 2 && told[0].contains("\"second\"") && told[1].contains("\"third\""), "{method} {path}: {told:?}");
    story.pass(3 * MINUTE).await;
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test]
async fn a_document_that_nobody_can_read_stops_nothing_else() {
    let story = in_silence().await;
    put(&story, "later/20260115T085900Z/odd", "no message");
    put(&story, "service/rows.json", "no document");
    put(&story, "events/odd.json", "no event");
    story.send("approval", &json!({"portcullis": {"kind": "event", "id": "odd", "round": "first"}}).to_string());
    story.pass(12).await;
    told_by_an_event(&story, "one").await;
    story.pass(30 * MINUTE).await;
    story.is_proved_shut("web-1", 3389);
    let mut from: Vec<String> = story.rejected().iter().map(|kept| kept["from"].as_str().unwrap().to_owned()).collect();
    from.sort();
    assert_eq!((from, story.queued("approval")), (vec!["approval".to_owned(), "schedule".to_owned()], 0));
    assert_eq!(service_rows(&story), ["unreadable"], "the store itself works, and nobody says otherwise");
    let mut rows: BTreeMap<String, usize> = BTreeMap::new();
    story.world(|state| {
        for taken in &state.rows {
            *rows.entry(taken.row["AuditId"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    });
    assert!(rows.values().all(|count| *count == 1), "each row once: {rows:?}");
}

#[tokio::test]
async fn an_emptied_store_is_given_nothing() {
    let story = in_silence().await;
    story.change(|state| state.containers.get_mut("state").unwrap().blobs.clear());
    story.send("approval", "{");
    assert_eq!(story.post_events(json!([{"id": "x"}]).to_string()).await, 202, "the queue holds it");
    story.pass(2 * MINUTE).await;
    assert_eq!((names(&story, ""), story.audits()), (Vec::new(), Vec::new()));
    assert_eq!(story.queued("approval"), 2);
    put(&story, "portcullis-store.json", "{}");
    story.pass(5 * MINUTE).await;
    assert_eq!((story.rejected().len(), story.queued("approval")), (2, 0));
}

#[tokio::test]
async fn a_time_beyond_the_calendar_is_a_malformed_event() {
    let story = in_silence().await;
    let mut event = initiate_event("old", &policy(), story.now());
    event["eventTime"] = json!("-262143-01-01T00:00:30");
    assert_eq!(story.post_events(json!([event]).to_string()).await, 202);
    story.pass(1).await;
    assert!(story.rejected()[0]["reason"].as_str().unwrap().contains("no readable `eventTime`"));
}

#[tokio::test]
async fn a_busy_group_that_names_a_time_is_left_alone_until_then() {
    let story = in_silence().await;
    let busy = Effect::Status {
        status: 429,
        code: Some("RetryableError".to_owned()),
        details: vec!["ReferencedResourceNotProvisioned".to_owned()],
        retry_after: Some(600),
    };
    story.pass(12).await;
    story.fault("arm", "DELETE", "/securityRules/", busy, Some(1));
    told_by_an_event(&story, "busy").await;
    story.pass(9 * MINUTE).await;
    assert_eq!((story.tried(DELETE).len(), story.alarms().as_str()), (1, "+cannot-look +slow"), "{}", story.told());
    story.pass(4 * MINUTE).await;
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test]
async fn observe_mode_tells_of_an_opening_that_has_stood_too_long() {
    let change = |state: &mut State| state.switches.expiry_delay_seconds = 4 * 3600;
    let story = Setting::with(change).observing().without_rules().set("PORTCULLIS_LONGEST_OPENING", "PT1H").begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 22, &["203.0.113.4"], HOUR).await;
    story.pass(59 * MINUTE).await;
    assert_eq!(story.audits_of("would-close").len(), 0);
    story.pass(5 * MINUTE).await;
    let would = story.audits_of("would-close");
    assert!(would.len() == 2 && would.iter().all(|audit| audit["code"] == "outlived"), "{would:#?}");
    assert_eq!((story.tried(DELETE).len(), story.alarms().as_str()), (0, ""));
    story.holds();
}

#[tokio::test]
async fn a_subscription_that_is_not_named_is_left_alone_by_events_and_looks_too() {
    let other = estate::numbered_subscription(9);
    let story = Setting::default().set("PORTCULLIS_SUBSCRIPTIONS", &other).begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], HOUR).await;
    story.send("approval", &json!({"portcullis": {"kind": "look", "vm": vm("web-1")}}).to_string());
    story.pass(11 * MINUTE).await;
    assert_eq!((story.tried(DELETE).len(), story.record("web-1"), names(&story, "events/").len()), (0, None, 0));
}

#[tokio::test]
async fn a_subscription_that_is_no_longer_seen_is_told_once() {
    let other = estate::numbered_subscription(9);
    let story = Setting::with(|state| estate::add_subscription(state, &other, "Workload 9")).begin().await;
    story.pass(6 * MINUTE).await;
    assert_eq!(service_rows(&story), Vec::<String>::new());
    story.change(|state| state.subscriptions.retain(|subscription| subscription.id != other));
    story.pass(21 * MINUTE).await;
    let told = story.audits_of("service-failing");
    assert_eq!((told.len(), service_rows(&story)), (1, vec!["subscription-lost".to_owned()]), "{told:#?}");
    assert!(told[0]["what"].as_str().unwrap().contains(&other), "{told:#?}");
}

#[tokio::test]
async fn a_queue_that_takes_nothing_is_told_although_rows_go_by_queue() {
    let story = in_silence().await;
    story.fault("servicebus", "POST", "/messages", Effect::status(403, None), None);
    told_by_an_event(&story, "one").await;
    story.pass(3 * MINUTE).await;
    assert_eq!(service_rows(&story), ["queue"]);
    story.heal();
    story.pass(10 * MINUTE).await;
    story.is_proved_shut("web-1", 3389);
}

/// How many rows say that a sweep was begun, and how many that the subscription was swept.
fn swept(story: &Story) -> (usize, usize) {
    let of = |code: &str, object: &str| {
        let is_it = |row: &Value| row["EventSubType"] == "swept" && row["Code"] == code && row["Object"] == object;
        story.world(|state| state.rows.iter().filter(|taken| is_it(&taken.row)).count())
    };
    (of("sweep", ""), of("shard", &format!("/subscriptions/{}", estate::SUBSCRIPTION)))
}

#[tokio::test]
async fn each_sweep_is_told_and_each_subscription_once_an_hour_and_what_is_not_swept_is_not() {
    let story = Story::begin().await;
    story.pass(150 * MINUTE).await;
    assert_eq!((swept(&story), story.audits().len()), ((30, 3), 0));
    // A sweep whose shards are not taken was not begun; one whose lists cannot be read has swept nothing.
    story.fault("servicebus", "POST", "/sweep/messages", Effect::status(403, None), None);
    story.pass(60 * MINUTE).await;
    assert_eq!(swept(&story), (30, 3));
    story.heal();
    story.fault("arm", "GET", "/networkSecurityGroups", Effect::status(403, None), None);
    story.pass(60 * MINUTE).await;
    assert_eq!(swept(&story), (42, 3));
    story.heal();
    story.pass(5 * MINUTE).await;
    assert_eq!(swept(&story), (43, 4));
}

#[tokio::test]
async fn that_a_subscription_is_swept_is_told_by_a_later_sweep_where_the_row_was_not_taken() {
    let story = Story::begin().await;
    story.fault("logs", "POST", "", Effect::status(403, None), None);
    story.pass(20 * MINUTE).await;
    assert_eq!(swept(&story), (0, 0));
    story.heal();
    story.pass(20 * MINUTE).await;
    assert_eq!(swept(&story), (4, 1));
}

#[tokio::test]
async fn a_row_that_has_its_receipt_is_not_sent_again() {
    let story = Story::begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], HOUR).await;
    story.pass(3 * MINUTE).await;
    let rows = story.row_kinds().len();
    for audit in story.audits() {
        story.send("alerts", &json!({"portcullis": {"kind": "row", "audit": audit["id"]}}).to_string());
    }
    story.pass(MINUTE).await;
    assert_eq!((story.row_kinds().len(), story.queued("alerts")), (rows, 0));
}

/// Who the rows of a VM name as the one who opened it, each once.
fn opened_by(story: &Story, name: &str) -> Vec<String> {
    let mut named: Vec<String> = story.world(|state| {
        let of_vm = state.rows.iter().filter(|taken| taken.row["TargetHostname"] == name);
        of_vm.map(|taken| taken.row["OpenedBy"].as_str().unwrap_or_default().to_owned()).collect()
    });
    named.sort();
    named.dedup();
    named
}

#[tokio::test]
async fn each_opening_names_who_asked_for_it() {
    let both = (estate::ADMIN_UPN, estate::RESPONDER_UPN);
    for (requestor, apart, (ada, rosa)) in [(Requestor::Filled, 0, both), (Requestor::Filled, 5, both), (Requestor::Empty, 5, both)] {
        let story = Setting::with(|state| state.switches.requestor = requestor).begin().await;
        story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], HOUR).await;
        story.pass(apart).await;
        story.opens(estate::RESPONDER_OBJECT_ID, &vm("db-1"), 22, &["*"], HOUR).await;
        story.pass(4 * MINUTE).await;
        story.is_proved_shut("web-1", 3389);
        story.is_proved_shut("db-1", 22);
        assert_eq!(
            (opened_by(&story, "web-1"), opened_by(&story, "db-1")),
            (vec![ada.to_owned()], vec![rosa.to_owned()]),
            "{requestor:?}, {apart} s"
        );
        let actors = story.world(|state| state.rows.iter().filter(|taken| taken.row["ActorUserType"] != "Application").count());
        assert_eq!(actors, 0, "what a row tells was done by Portcullis");
    }
}

#[tokio::test]
async fn what_azure_answered_to_a_delete_is_told_when_it_is_news() {
    let story = Story::begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], HOUR).await;
    let scope = format!("/subscriptions/{}", estate::SUBSCRIPTION);
    story.change(|state| state.locks.push(Lock::new(scope, LockLevel::CanNotDelete)));
    story.pass(10 * MINUTE).await;
    let answers = |story: &Story| {
        let mut codes: Vec<String> = story.audits_of("close-answered").iter().map(|a| a["code"].as_str().unwrap().to_owned()).collect();
        codes.sort();
        codes
    };
    assert!(story.audits_of("close").len() > 6, "it goes on trying");
    assert_eq!(answers(&story), ["refused", "refused"], "one for each rule");
    let loud = story.audits_of("close").iter().filter(|close| close["severity"] == "High").count();
    assert!((1..=2).contains(&loud), "{loud} rows of tries to be looked at");
    story.change(|state| state.locks.clear());
    story.pass(4 * MINUTE).await;
    assert_eq!(answers(&story), ["accepted", "accepted", "refused", "refused"]);
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test]
async fn wake_ups_that_are_lost_are_made_good_by_the_entry_of_their_own_run() {
    let story = Story::begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], HOUR).await;
    story.pass(19).await;
    let due = names(&story, "due/");
    assert!(due.len() == 1 && due[0].rsplit('/').next().is_some_and(|run| run.len() == 8), "{due:?}");
    story.change(|state| {
        state.switches.events = Events::Never;
        state.queues.get_mut("approval").unwrap().messages.clear();
        let another = format!("{}/00000000", due[0].rsplit_once('/').unwrap().0);
        blob::put(state, "state", &another, b"{}", "application/json");
        assert!(servicebus::next_due(state).is_none());
    });
    story.pass(4 * MINUTE).await;
    assert_eq!(names(&story, "due/"), Vec::<String>::new(), "one too many is harmless");
    story.is_proved_shut("web-1", 3389);
}

/// The n-th VM of a large estate's first subscription.
fn numbered(n: usize) -> String {
    let subscription = estate::numbered_subscription(1);
    estate::resource_id(&subscription, estate::GROUP, "Microsoft.Compute/virtualMachines", &format!("vm-0001-{n:03}"))
}

#[tokio::test]
async fn requests_of_one_moment_bring_about_a_look_each() {
    const REQUESTS: usize = 40;
    let mut state = State::default();
    estate::large(&mut state, REQUESTS);
    let story = Setting { state, ..Setting::default() }.begin().await;
    let sent = |story: &Story| {
        let is_sent =
            |entry: &LogEntry| entry.what == "send" && entry.target == "approval" && entry.function.as_deref() == Some("approval");
        story.world(|state| state.log.iter().filter(|entry| is_sent(entry)).count())
    };
    for n in 1..=REQUESTS {
        story.opens(estate::ADMIN_OBJECT_ID, &numbered(n), 22, &["*"], HOUR).await;
    }
    // Two later rounds of each event, a look, and what that look puts off.
    story.pass(0).await;
    assert!(sent(&story) <= 5 * REQUESTS, "{} messages for {REQUESTS} requests", sent(&story));
    let before = sent(&story);
    story.pass(20).await;
    assert!((REQUESTS..=8 * REQUESTS).contains(&(sent(&story) - before)), "the second round looks again: {}", sent(&story) - before);
    story.pass(10 * MINUTE).await;
    for n in 1..=REQUESTS {
        story.is_vm_proved_shut(&numbered(n), 22);
    }
    let found = story.audits_of("finding-appeared");
    let whose = |audit: &&Value| audit["claims"][0]["objectId"] == estate::ADMIN_OBJECT_ID;
    assert_eq!((found.len(), found.iter().filter(whose).count()), (REQUESTS, REQUESTS), "each says whose it was: {:#}", found[0]);
}

#[tokio::test]
async fn a_wish_whose_answer_cannot_be_read_stops_no_look_at_its_machine() {
    let story = Setting::with(|state| tag(state, "web-1", "development")).begin().await;
    story.fault("arm", "GET", "", Effect::status(503, None), None);
    story.asks_for(estate::DEVELOPER_OBJECT_ID, "web-1", 22, "203.0.113.4", "PT1H").await;
    story.pass(30).await;
    assert_eq!(names(&story, "inbox/").len(), 1, "{}", story.told());
    for name in names(&story, "requests/") {
        put(&story, &name, "no answer");
    }
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], HOUR).await;
    story.heal();
    story.pass(20 * MINUTE).await;
    story.is_proved_shut("web-1", 3389);
    let [kept] = <[Value; 1]>::try_from(story.rejected()).unwrap();
    assert!(kept["reason"].as_str().unwrap().contains("requests/") && kept["body"].as_str().unwrap().contains("203.0.113.4"), "{kept}");
    assert_eq!((names(&story, "inbox/").len(), story.audits_of("granted").len()), (0, 0), "{}", story.told());
}

#[tokio::test]
async fn what_was_promised_for_a_time_before_the_last_look_costs_no_look() {
    let story = Story::begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::minutes(10)).await;
    story.pass(20 * MINUTE).await;
    story.is_proved_shut("web-1", 3389);
    let entry =
        |time: &str| format!("due/20260115T{time}Z/{}/0a1b2c3d", names(&story, "vm/")[0].strip_prefix("vm/").unwrap().replace(".json", ""));
    put(&story, &entry("085900"), "{}");
    story.count("arm", "GET", "");
    story.pass(MINUTE + 30).await;
    assert_eq!((story.counted(), names(&story, "due/").len()), (0, 0), "{}", story.told());
    // One that nobody has looked after costs a look.
    put(&story, &entry("091500"), "{}");
    story.pass(MINUTE + 30).await;
    assert!(story.counted() > 0 && names(&story, "due/").is_empty(), "{}", story.told());
    story.holds();
}
