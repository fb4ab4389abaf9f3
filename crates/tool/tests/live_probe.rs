//! `portcullis live-probe` against worlds of the sandbox that behave in every way that is not known of the real Azure. The probe
//! sees them through Resource Manager alone, as a person with the rights that its plan names.

#[path = "live_probe/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use portcullis_sandbox::estate;
use portcullis_sandbox::faults::{Effect, Fault};
use portcullis_sandbox::servicebus;
use portcullis_sandbox::state::{Lock, LockLevel, Message, NeededRight, State};
use portcullis_sandbox::switches::*;
use portcullis_tool::live_probe::questions::QUESTIONS;
use portcullis_tool::live_probe::report::Report;
use portcullis_trials::story::{each_row, settings::settings};
use serde_json::{Value, json};

use world::{PERSON, World, queue, vm};

/// What a probe can find out of a world with these switches, whose plan is on.
fn expected(switches: &Switches) -> BTreeMap<String, Value> {
    let all = serde_json::to_value(switches).unwrap();
    let unseen = |name: &str| match name {
        "planOffRefuses" => true,
        // What a queue's reader is given twice is between the broker and the Functions host.
        "messages" => true,
        // Nothing names what the events of requests do that do not come.
        "eventResource" => switches.events == Events::Never,
        // Nothing is ever under way.
        "busyNsg" => switches.operation_seconds == 0,
        // Its rule is never gone for good.
        "recordOfDeletedRule" => switches.deleted_rule_returns == Returns::Always,
        _ => false,
    };
    all.as_object().unwrap().iter().filter(|(name, _)| !unseen(name)).map(|(name, setting)| (name.clone(), setting.clone())).collect()
}

fn answers(report: &Report) -> BTreeMap<String, Value> {
    report.to_json()["switches"].as_object().unwrap().iter().map(|(name, answer)| (name.clone(), answer.clone())).collect()
}

async fn finds_out(switches: Switches) {
    let world = World::begin(|state| state.switches = switches.clone()).await;
    let report = world.probe().await.unwrap();
    assert_eq!(answers(&report), expected(&switches), "{}", report.to_text());
    world.is_as_it_was(&report);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_setting_of_every_switch_that_can_be_seen_is_found_out() {
    let rows = settings().into_iter().map(|(_, name, switches)| (name, finds_out(switches)));
    each_row(rows).await;
}

/// One setting of each switch by lot.
fn drawn(seed: u64) -> Switches {
    let mut lots = fastrand::Rng::with_seed(seed);
    let mut all = serde_json::to_value(Switches::default()).unwrap();
    let mut choices: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (switch, _, switches) in settings() {
        let with = serde_json::to_value(&switches).unwrap();
        let name = QUESTIONS.iter().find(|question| snake(question.name) == switch).unwrap().name;
        choices.entry(name).or_default().push(with[name].clone());
    }
    for (name, settings) in choices {
        all[name] = settings[lots.usize(..settings.len())].clone();
    }
    serde_json::from_value(all).unwrap()
}

fn snake(camel: &str) -> String {
    camel.chars().flat_map(|c| if c.is_ascii_uppercase() { vec!['_', c.to_ascii_lowercase()] } else { vec![c] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn several_switches_at_once_are_found_out() {
    each_row((0..24).map(|seed| (format!("seed {seed}: {:?}", drawn(seed)), finds_out(drawn(seed))))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_found_out_to_the_second() {
    let numbers = |smallest_end_seconds, initiating_seconds, expiry_delay_seconds, operation_seconds| Switches {
        smallest_end_seconds,
        initiating_seconds,
        expiry_delay_seconds,
        operation_seconds,
        page_size: 2,
        ..Switches::default()
    };
    let worlds = [numbers(97, 47, 33, 7), numbers(11, 119, 121, 13), numbers(541, 1, 1, 1)];
    each_row(worlds.map(|switches| (format!("{switches:?}"), finds_out(switches)))).await;
}

#[tokio::test]
async fn the_answers_are_switches_of_a_world() {
    let switches = Switches { newer_initiate: NewerInitiate::Adds, source_must: SourceMust::Equal, ..Switches::default() };
    let world = World::begin(|state| state.switches = switches.clone()).await;
    let told = world.probe().await.unwrap().to_json();
    assert_eq!(serde_json::from_value::<Switches>(told["switches"].clone()).unwrap(), switches);
    assert_eq!(told["settings"][0], "PORTCULLIS_JIT_NEWER=adds");
}

#[tokio::test]
async fn a_policy_that_allows_five_minutes_is_enough() {
    let world = World::begin(|state| {
        let policy = state.resources.get_mut(&world::policy()).unwrap();
        policy["properties"]["virtualMachines"][0]["ports"][0]["maxRequestAccessDuration"] = json!("PT5M");
    })
    .await;
    let report = world.probe().await.unwrap();
    assert_eq!(answers(&report), expected(&Switches::default()), "{}", report.to_text());
    world.is_as_it_was(&report);
}

#[tokio::test]
async fn what_no_switch_plays_is_told_besides() {
    let world = World::begin(|state| {
        state.switches.smallest_end_seconds = 300;
        state.switches.record_of_deleted_rule = RecordOfDeletedRule::Disappears;
        state.switches.put_closes_records = true;
        let of_old = json!([{
            "virtualMachines": [{"id": vm("db-1"), "ports": [{
                "number": 3389, "allowedSourceAddressPrefix": "10.1.1.1", "endTimeUtc": "2026-01-01T10:00:00Z",
                "status": "Revoked", "statusReason": "Expired",
            }]}],
            "startTimeUtc": "2026-01-01T09:00:00Z", "requestor": "ada.admin@sandbox.example", "justification": "of old",
        }]);
        state.resources.get_mut(&world::policy()).unwrap()["properties"]["requests"] = of_old;
    })
    .await;
    let report = world.probe().await.unwrap();
    let told: Vec<String> = report.besides.iter().map(|one| format!("{}\n  {}", one.asks, one.seen.join("\n  "))).collect();
    insta::assert_snapshot!("besides", told.join("\n"));
    world.is_as_it_was(&report);
}

#[tokio::test]
async fn with_a_machine_alone_the_rest_says_how_it_is_found_out() {
    let mut world = World::begin(|_| {}).await;
    world.alone = true;
    let report = world.probe().await.unwrap();
    let mut wanted = expected(&Switches::default());
    let besides = ["events", "eventResource", "incidentEntities", "logsUnpackedCounts"];
    wanted.retain(|name, _| !besides.contains(&name.as_str()));
    assert_eq!(answers(&report), wanted, "{}", report.to_text());
    let text = report.to_text();
    for question in QUESTIONS.iter().filter(|question| besides.contains(&question.name)) {
        assert!(text.contains(question.otherwise), "{text}");
    }
    assert!(text.contains("an entry of the activity log names"), "{text}");
    world.is_as_it_was(&report);
}

/// What is in a queue is somebody's.
#[tokio::test]
async fn a_queue_that_is_used_is_left_as_it_is() {
    let message = |state: &mut State, body: &str| {
        let message = Message { body: body.to_owned(), ..Message::default() };
        assert!(servicebus::enqueue(state, "probe", message));
    };
    let waiting = |world: &World| {
        let state = world.sandbox.world.lock();
        let messages = state.queues["probe"].messages.iter();
        messages.filter(|message| message.lock.is_none()).map(|message| message.body.clone()).collect::<Vec<_>>()
    };
    let world = World::begin(|state| message(state, "theirs")).await;
    let report = world.probe().await.unwrap();
    assert!(report.findings["events"].why.contains("probe holds messages already"), "{}", report.to_text());
    assert_eq!(waiting(&world), ["theirs"]);
    world.is_as_it_was(&report);

    let world = World::begin(|_| {}).await;
    let sends = |sandbox: &portcullis_sandbox::sandbox::Sandbox| {
        let mut state = sandbox.world.lock();
        let is_there = state.queues["probe"].messages.iter().any(|message| message.body == "theirs");
        let is_first = !is_there && !state.event_grid.queues.is_empty();
        if is_first {
            message(&mut state, "theirs");
        }
        is_first
    };
    let report = world.probe_while(sends).await.unwrap();
    assert!(report.findings["events"].why.contains("what the probe did not send"), "{}", report.to_text());
    assert!(waiting(&world).contains(&"theirs".to_owned()), "{:?}", waiting(&world));
    // What the probe was sent behind it cannot be taken out without it.
    let [left] = report.left.as_slice() else { panic!("{:?}", report.left) };
    assert!(left.starts_with("Messages of the probe may be left in the queue probe."), "{left}");
    world.is_shut();
}

#[tokio::test]
async fn who_may_do_more_than_the_app_is_told_to_ask_as_the_app() {
    let world = World::begin(|state| {
        let person = state.principals.iter_mut().find(|person| person.object_id == PERSON).unwrap();
        person.assignments[0].actions.push("Microsoft.SecurityInsights/*".to_owned());
    })
    .await;
    let report = world.probe().await.unwrap();
    let why = &report.findings["incidentEntities"].why;
    assert!(report.answer("incidentEntities").is_none() && why.contains("that has `Portcullis read incidents` alone"), "{why}");
}

#[tokio::test]
async fn an_event_subscription_that_cannot_be_taken_away_is_said() {
    let world = World::begin(|state| {
        let person = state.principals.iter_mut().find(|person| person.object_id == PERSON).unwrap();
        person.assignments[0].actions.retain(|action| action != "Microsoft.EventGrid/eventSubscriptions/delete");
    })
    .await;
    let report = world.probe().await.unwrap();
    assert_eq!(report.answer("events"), Some(&json!("inOrder")));
    let [left] = report.left.as_slice() else { panic!("{:?}", report.left) };
    assert!(left.contains("/eventSubscriptions/portcullis-live-probe-20260115090000 may be there still."), "{left}");
}

/// Everything else is found out.
#[tokio::test]
async fn what_a_machine_or_an_asker_cannot_show_is_not_guessed() {
    let world = World::begin(|state| {
        state.switches.requestor = Requestor::Empty;
        let person = state.principals.iter_mut().find(|person| person.object_id == PERSON).unwrap();
        (person.upn, person.app_id) = (String::new(), "5a4db0c5-00b0-4000-8000-0000000000f2".to_owned());
        let nic = estate::resource_id(estate::SUBSCRIPTION, estate::GROUP, "Microsoft.Network/networkInterfaces", "web-1-nic");
        state.resources.get_mut(&nic).unwrap()["properties"]["networkSecurityGroup"] = Value::Null;
    })
    .await;
    let report = world.probe().await.unwrap();
    let mut wanted = expected(&Switches::default());
    wanted.retain(|name, _| !["rulesLand", "requestor"].contains(&name.as_str()));
    assert_eq!(answers(&report), wanted, "{}", report.to_text());
    let why = |name: &str| report.findings[name].why.as_str();
    assert!(why("rulesLand").contains("do not have a group each") && why("requestor").contains("run the probe as a person"));
}

#[tokio::test]
async fn where_the_plan_is_off_it_is_seen_which_calls_are_refused() {
    for (setting, others) in [(PlanOffRefuses::Everything, 3), (PlanOffRefuses::Writes, 3)] {
        let world = World::begin(|state| {
            state.switches.plan_off_refuses = setting;
            state.subscriptions[0].jit_plan = false;
        })
        .await;
        let report = world.probe().await.unwrap();
        assert_eq!(report.answer("planOffRefuses"), Some(&serde_json::to_value(setting).unwrap()), "{}", report.to_text());
        // Besides: how ids are written, pages, and management groups; and what has nothing to do with JIT.
        assert_eq!(answers(&report).len(), others + 1 + 3, "{}", report.to_text());
        world.is_as_it_was(&report);
    }
}

#[tokio::test]
async fn the_report_is_read_by_people() {
    let world = World::begin(|_| {}).await;
    insta::assert_snapshot!("report", world.probe().await.unwrap().to_text());
}

#[tokio::test]
async fn the_actions_that_are_named_are_needed_and_suffice() {
    let world = World::begin(|state| state.switches.subscription_parents = SubscriptionParents::Shown).await;
    world.probe().await.unwrap();
    let is_its = |right: &&NeededRight| right.object_id == PERSON;
    let needed: BTreeSet<(String, bool)> = {
        let state = world.sandbox.world.lock();
        state.rights.borrow().iter().filter(is_its).map(|right| (right.action.clone(), right.held)).collect()
    };
    assert_eq!(needed, world::actions().map(|action| (action.to_owned(), true)).collect());
}

/// What each right is for is not found out without it, with Azure's words; everything else is.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_right_the_other_questions_are_answered() {
    let row = async |missing: &'static str, names: &[&str]| {
        let world = World::begin(|state| {
            let person = state.principals.iter_mut().find(|person| person.object_id == PERSON).unwrap();
            person.assignments[0].actions.retain(|action| action != missing);
        })
        .await;
        let report = world.probe().await.unwrap();
        let mut wanted = expected(&Switches::default());
        wanted.retain(|name, _| !names.contains(&name.as_str()));
        assert_eq!(answers(&report), wanted, "{missing}: {}", report.to_text());
        assert!(names.iter().all(|name| report.findings[name].why.contains(missing)), "{}", report.to_text());
        world.is_as_it_was(&report);
    };
    row(
        "Microsoft.Network/networkSecurityGroups/securityRules/delete",
        &["deletedRuleReturns", "recordOfDeletedRule", "nsgIfMatch", "deleteAnswers", "busyNsg"],
    )
    .await;
    row("Microsoft.Security/locations/jitNetworkAccessPolicies/write", &["putClosesRecords", "sourceMust"]).await;
    row("Microsoft.EventGrid/eventSubscriptions/write", &["events", "eventResource"]).await;
    row("Microsoft.Insights/eventtypes/values/read", &["activityLogSeconds"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_call_is_cut_the_world_is_left_as_it_was() {
    let calls = World::begin(|_| {}).await.calls().await;
    let writes = calls.iter().filter(|method| *method != "GET").count();
    // Every write, and reads here and there.
    let write = (0..writes).flat_map(|n| [Effect::CutBefore, Effect::CutAfter].map(|effect| ("write", n, effect)));
    let read = (0..calls.len()).step_by(41).map(|n| ("call", n, Effect::CutBefore));
    let rows = write.chain(read).map(|(what, n, effect)| {
        let name = format!("{what} {n}: {effect:?}");
        (name, async move {
            let world = World::begin(|_| {}).await;
            world.cuts(what, n, effect);
            if let Ok(report) = world.probe().await {
                world.is_as_it_was(&report);
            }
            world.is_shut();
        })
    });
    each_row(rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whenever_it_is_stopped_the_world_is_left_as_it_was() {
    let waits = World::begin(|_| {}).await.waits().await;
    let rows = (0..waits).step_by(5).map(|n| {
        (format!("wait {n} of {waits}"), async move {
            let world = World::begin(|_| {}).await;
            let report = world.probe_until(n).await.unwrap();
            assert!(report.stopped);
            world.is_as_it_was(&report);
        })
    });
    each_row(rows).await;
}

#[tokio::test]
async fn whoever_is_in_a_hurry_is_told_what_to_look_at() {
    let world = World::begin(|_| {}).await;
    let report = world.probe_in_a_hurry(20).await.unwrap();
    assert_eq!(report.left.len(), 1);
    assert!(report.left[0].starts_with("Putting back was stopped."), "{:?}", report.left);
}

#[tokio::test]
async fn what_cannot_be_put_back_is_said() {
    let world = World::begin(|state| {
        let group = estate::resource_id(estate::SUBSCRIPTION, estate::GROUP, "Microsoft.Network/networkSecurityGroups", "nsg-web-1");
        state.switches.rules_land = RulesLand::Nic;
        state.locks = vec![Lock::new(&group, LockLevel::CanNotDelete)];
    })
    .await;
    let report = world.probe().await.unwrap();
    assert!(!report.left.is_empty());
    assert!(report.left.iter().all(|left| left.contains("ScopeLocked") && left.ends_with("Delete it by hand.")), "{:?}", report.left);
}

#[tokio::test]
async fn where_azure_is_lost_it_is_said_what_to_look_at() {
    let world = World::begin(|state| state.faults = vec![Fault::new("arm", "*", "", Effect::CutBefore).skip(60)]).await;
    let report = world.probe().await.unwrap();
    assert!(report.left.iter().any(|left| left.ends_with("in nsg-web-1 and nsg-servers.")), "{:?}", report.left);
}

#[tokio::test]
async fn a_policy_that_somebody_else_wrote_is_left_to_them() {
    let world = World::begin(|_| {}).await;
    let changed = |sandbox: &portcullis_sandbox::sandbox::Sandbox| {
        let mut state = sandbox.world.lock();
        let policy = state.resources.get_mut(&world::policy()).unwrap();
        let source = policy.pointer_mut("/properties/virtualMachines/0/ports/0/allowedSourceAddressPrefix").unwrap();
        let narrowed = source == "198.51.100.0/24";
        if narrowed {
            policy["properties"]["virtualMachines"][2]["ports"][0]["maxRequestAccessDuration"] = json!("PT1H");
        }
        narrowed
    };
    let report = world.probe_while(changed).await.unwrap();
    assert!(report.left.len() == 1 && report.left[0].contains("Somebody else has written it meanwhile"), "{:?}", report.left);
}

/// The probe writes the policy as it is first, and takes time for it.
#[tokio::test]
async fn a_policy_that_somebody_writes_between_two_writes_of_the_probe_is_not_written_again() {
    let world = World::begin(|_| {}).await;
    let changed = |sandbox: &portcullis_sandbox::sandbox::Sandbox| {
        let mut state = sandbox.world.lock();
        let wrote = state.log.iter().filter(|entry| entry.what.ends_with("/jitNetworkAccessPolicies/write")).count();
        let policy = state.resources.get_mut(&world::policy()).unwrap();
        let longest = &mut policy["properties"]["virtualMachines"][2]["ports"][0]["maxRequestAccessDuration"];
        let is_due = wrote == 1 && *longest != json!("PT1H");
        if is_due {
            *longest = json!("PT1H");
        }
        is_due
    };
    let report = world.probe_while(changed).await.unwrap();
    assert!(report.answer("putClosesRecords").is_none(), "{}", report.to_text());
    assert_eq!(report.left, Vec::<String>::new());
    let state = world.sandbox.world.lock();
    assert_eq!(
        state.resources.get(&world::policy()).unwrap()["properties"]["virtualMachines"][2]["ports"][0]["maxRequestAccessDuration"],
        "PT1H"
    );
}

#[tokio::test]
async fn a_policy_is_not_written_while_somebody_has_another_of_its_machines_open() {
    let world = World::begin(|_| {}).await;
    world.opens("db-1", 3389, "10.1.1.1").await;
    let report = world.probe().await.unwrap();
    let finding = &report.findings["putClosesRecords"];
    assert!(finding.answer.is_none() && finding.why.starts_with("db-1 of the same policy is open until"), "{finding:?}");
    assert_eq!(report.answer("newerInitiate"), Some(&json!("replaces")));
}

#[tokio::test]
async fn a_machine_that_cannot_be_asked_about_is_refused() {
    let refused = async |vm: &str, world: &World| format!("{:#}", world.probe_of(vm).await.unwrap_err());
    let mut said = Vec::new();
    let world = World::begin(|_| {}).await;
    said.push(refused("web-9", &world).await);
    world.opens("web-1", 22, "10.1.1.1").await;
    said.push(refused("web-1", &world).await);
    let world = World::begin(|state| {
        let machines = state.resources.get_mut(&world::policy()).unwrap();
        machines["properties"]["virtualMachines"].as_array_mut().unwrap().remove(0);
    })
    .await;
    said.push(refused("web-1", &world).await);
    let world = World::begin(|state| {
        let machines = state.resources.get_mut(&world::policy()).unwrap();
        for port in machines["properties"]["virtualMachines"][0]["ports"].as_array_mut().unwrap() {
            port["allowedSourceAddressPrefix"] = json!("10.0.0.0/8");
        }
    })
    .await;
    said.push(refused("web-1", &world).await);
    let world = World::begin(|state| state.principals.iter_mut().for_each(|person| person.assignments.clear())).await;
    said.push(refused("web-1", &world).await);
    assert!(world.sandbox.world.lock().log.is_empty());
    insta::assert_snapshot!("refused", said.join("\n\n"));
}

/// The command itself, whose clock is the machine's: what it refuses before it asks anything, and what it would do.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_word_that_it_may_nothing_is_opened() {
    let world = World::begin(|_| {}).await;
    let web = vm("web-1");
    let mut said = Vec::new();
    for (arguments, code) in [
        (vec!["--vm", &web], 1),
        (vec!["--vm", "web-1", "--yes-this-vm-may-be-opened"], 2),
        (vec!["--yes-this-vm-may-be-opened"], 2),
        (vec!["--vm", &web, "--plan", "--arm-endpoint", "http://127.0.0.1:9"], 1),
        (vec!["--vm", &web, "--plan", "--logs-endpoint", "https://127.0.0.1:9"], 2),
        (vec!["--vm", &web, "--plan", "--events-queue", "probe"], 2),
        (vec!["--vm", &web, "--plan", "--events-queue", &queue(), "--bus-endpoint", "http://127.0.0.1:9"], 1),
        (vec!["--vm", &web, "--plan"], 0),
        (vec!["--vm", &web, "--plan", "--events-queue", &queue(), "--workspace", &estate::workspace_id()], 0),
    ] {
        let output = world.command(&arguments).await;
        let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        said.push(told);
    }
    assert!(world.sandbox.world.lock().log.is_empty());
    insta::assert_snapshot!("command", said.join("---\n"));
}

#[tokio::test]
async fn a_call_that_is_throttled_is_made_again() {
    let world = World::begin(|state| {
        let throttled = Effect::status(429, Some(7));
        state.faults = vec![Fault::new("arm", "*", "jitNetworkAccessPolicies", throttled).skip(1).times(3)];
    })
    .await;
    let report = world.probe().await.unwrap();
    assert_eq!(answers(&report), expected(&Switches::default()));
}
