//! What nobody knows about Azure: the port is proved shut, or an alarm stands, under every setting of every switch; and
//! docs/switches.md tells of each.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use portcullis_sandbox::estate;
use portcullis_sandbox::switches::*;
use portcullis_trials::story::settings::settings;
use portcullis_trials::story::{DELETE, Setting, Story, each_row, policy, vm};
use reqwest::Method;
use serde_json::{Value, json};

const MINUTE: i64 = 60;

fn alarm_stands(story: &Story) -> bool {
    story.record("web-1").is_some_and(|record| record["alarms"] != json!({}))
}

/// Two people open the same port to everybody, and in between somebody writes the policy again.
async fn any_source(switches: Switches) {
    let returns = switches.deleted_rule_returns;
    let story = Setting::with(|state| estate::set_switches(state, switches)).begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(1)).await;
    story.pass(20).await;
    let (_, body) = story.arm(estate::ADMIN_OBJECT_ID, Method::GET, &policy(), None).await;
    let kept = json!({"kind": body["kind"], "properties": {"virtualMachines": body["properties"]["virtualMachines"], "requests": body["properties"]["requests"]}});
    let (status, answer) = story.arm(estate::ADMIN_OBJECT_ID, Method::PUT, &policy(), Some(kept)).await;
    assert_eq!(status, 200, "{answer}");
    story.pass(10).await;
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 3389, &["0.0.0.0/0"], TimeDelta::hours(1)).await;
    story.pass(20 * MINUTE).await;
    if returns == Returns::Always {
        assert!(alarm_stands(&story), "{}", story.told());
        assert!(story.ours(DELETE).len() < 120, "a returning rule is deleted with pauses: {}", story.ours(DELETE).len());
        // JIT itself takes it down after its record's end.
        story.pass(60 * MINUTE).await;
    }
    assert!(!alarm_stands(&story), "{}\n{:#}", story.alarms(), story.record("web-1").unwrap());
    assert!(!story.ours(DELETE).is_empty());
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_to_everybody_ends_proved_shut_under_every_setting() {
    each_row(settings().into_iter().map(|(_, name, switches)| (name, any_source(switches)))).await;
}

/// All that is slow at once, with rules that come back and groups that are written by others.
#[tokio::test(flavor = "multi_thread")]
async fn the_worst_of_all_settings_together_end_proved_shut() {
    let worst = |case| Switches {
        newer_initiate: NewerInitiate::Adds,
        deleted_rule_returns: Returns::Once,
        initiating_seconds: 120,
        record_of_deleted_rule: RecordOfDeletedRule::Disappears,
        letter_case: case,
        operation_seconds: 60,
        busy_nsg: BusyNsg::Conflict,
        events: Events::Late,
        event_schema: EventSchema::CloudEvents,
        page_size: 1,
        ..Switches::default()
    };
    each_row(LetterCase::ALL.iter().map(|case| (format!("{case:?}"), any_source(worst(*case))))).await;
}

/// The usual world with one switch set.
async fn world_with(set: impl FnOnce(&mut Switches)) -> Story {
    Setting::with(|state| set(&mut state.switches)).begin().await
}

/// Asks JIT for a port of `web-1` and gives the status: a setting may refuse it.
async fn asks(story: &Story, mut port: Value, time: TimeDelta) -> u16 {
    port["endTimeUtc"] = json!((story.now() + time).to_rfc3339());
    let body = json!({"virtualMachines": [{"id": vm("web-1"), "ports": [port]}]});
    story.arm(estate::ADMIN_OBJECT_ID, Method::POST, &format!("{}/initiate", policy()), Some(body)).await.0
}

/// The records of the policy as JIT keeps them, oldest first.
fn records(story: &Story) -> Vec<Value> {
    let mut records = story.world(|state| state.resources.get(&policy()).unwrap()["properties"]["requests"].as_array().unwrap().clone());
    records.sort_by_key(|record| record["startTimeUtc"].to_string());
    records
}

#[tokio::test]
async fn an_opening_that_is_left_is_a_finding_until_jit_takes_it_down_however_late() {
    for delay in [0, 30, 240] {
        let story = Setting::with(|state| state.switches.expiry_delay_seconds = delay).without_rules().begin().await;
        story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 22, &["203.0.113.4"], TimeDelta::hours(1)).await;
        story.pass(60 * MINUTE + delay - 1).await;
        assert_eq!(story.allow_rules(22).len(), 2, "{delay}");
        story.pass(1).await;
        assert_eq!(story.allow_rules(22).len(), 0, "{delay}");
        story.pass(10 * MINUTE).await;
        let record = story.record("web-1").unwrap();
        assert_eq!((&record["openings"], &record["findings"], &record["nextLook"]), (&json!([]), &json!({}), &Value::Null), "{delay}");
        let alarms = "+undecided -undecided";
        assert_eq!((story.tried(DELETE).len(), story.alarms().as_str(), story.audits_of("finding-gone").len()), (0, alarms, 2), "{delay}");
        story.holds();
    }
}

/// Two people open the same port, one to everybody, the other to one address.
async fn beside_another(newer: NewerInitiate, sources: [&'static str; 2], after: i64) {
    let story = Setting::with(|state| state.switches.newer_initiate = newer).letting_everybody_in().begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &[sources[0]], TimeDelta::hours(1)).await;
    story.pass(after).await;
    assert_eq!(story.allow_rules(3389).len(), if after < 12 { 0 } else { 2 });
    story.opens(estate::RESPONDER_OBJECT_ID, &vm("web-1"), 3389, &[sources[1]], TimeDelta::hours(1)).await;
    story.pass(10 * MINUTE).await;
    let older = &records(&story)[0]["virtualMachines"][0]["ports"][0];
    let met = match newer {
        NewerInitiate::Replaces => ("Revoked", "NewerRequestInitiated"),
        NewerInitiate::Adds => ("Initiated", "UserRequested"),
    };
    assert_eq!((older["status"].as_str().unwrap(), older["statusReason"].as_str().unwrap()), met, "{older:#}");
    // What the one to everybody took away with it, Portcullis opens again: a rule permits it.
    story.is_proved_shut_but_for("web-1", 3389, &["203.0.113.4"]);
    assert_eq!(story.alarms(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_openings_of_a_port_the_one_to_everybody_goes_and_the_other_stays() {
    let orders = [["203.0.113.4", "*"], ["*", "203.0.113.4"]];
    let rows = NewerInitiate::ALL.iter().flat_map(|newer| {
        // With an older one to everybody, the newer one must come before that is shut.
        orders.map(|sources| (format!("{newer:?} {sources:?}"), beside_another(*newer, sources, if sources[0] == "*" { 10 } else { 60 })))
    });
    each_row(rows).await;
}

#[tokio::test]
async fn two_halves_of_the_internet_are_the_internet_whether_one_request_may_name_both_or_not() {
    let halves = ["0.0.0.0/1", "128.0.0.0/1"];
    for accepted in [true, false] {
        let story = world_with(|switches| {
            switches.plural_sources = accepted;
            switches.newer_initiate = NewerInitiate::Adds;
        });
        let story = story.await;
        let both = asks(&story, json!({"number": 3389, "allowedSourceAddressPrefixes": halves}), TimeDelta::hours(1)).await;
        assert_eq!(both, if accepted { 202 } else { 400 });
        if !accepted {
            for half in halves {
                let one = asks(&story, json!({"number": 3389, "allowedSourceAddressPrefix": half}), TimeDelta::hours(1)).await;
                assert_eq!(one, 202);
                story.pass(1).await;
            }
        }
        story.pass(10 * MINUTE).await;
        assert_eq!(story.ours(DELETE).len(), if accepted { 2 } else { 4 });
        assert!(story.audits_of("close").iter().all(|close| close["code"] == "any-source"));
        story.is_proved_shut("web-1", 3389);
    }
}

#[tokio::test]
async fn an_opening_for_too_long_is_shut_whatever_its_source_must_be_to_the_policys() {
    for must in SourceMust::ALL {
        let story = world_with(|switches| switches.source_must = *must).await;
        story.change(|state| {
            let ports = &mut state.resources.get_mut(&policy()).unwrap()["properties"]["virtualMachines"][0]["ports"];
            ports.as_array_mut().unwrap().iter_mut().for_each(|port| port["allowedSourceAddressPrefix"] = json!("203.0.113.0/24"));
        });
        let inside = match must {
            SourceMust::Equal => 400,
            SourceMust::LieInside => 202,
        };
        for (source, status) in [("*", 400), ("203.0.113.4", inside), ("203.0.113.0/24", 202)] {
            let answered = asks(&story, json!({"number": 22, "allowedSourceAddressPrefix": source}), TimeDelta::hours(12)).await;
            assert_eq!(answered, status, "{must:?} {source}");
            story.pass(1).await;
        }
        story.pass(10 * MINUTE).await;
        let closes = story.audits_of("close");
        assert!(!closes.is_empty() && closes.iter().all(|close| close["code"] == "overlong"), "{closes:#?}");
        story.is_proved_shut("web-1", 22);
    }
}

#[tokio::test]
async fn an_opening_that_ends_within_a_minute_is_refused_or_shut() {
    for (smallest, status) in [(0, 202), (300, 400)] {
        let story = world_with(|switches| switches.smallest_end_seconds = smallest).await;
        let answered = asks(&story, json!({"number": 3389, "allowedSourceAddressPrefix": "*"}), TimeDelta::seconds(50)).await;
        assert_eq!(answered, status);
        story.pass(10 * MINUTE).await;
        match status {
            202 => story.is_proved_shut("web-1", 3389),
            _ => assert_eq!((story.audits().len(), story.record("web-1")), (0, None)),
        }
    }
}

#[tokio::test]
async fn rules_are_deleted_in_the_groups_in_which_they_land() {
    for land in RulesLand::ALL {
        let story = world_with(|switches| switches.rules_land = *land).await;
        story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(1)).await;
        story.pass(5 * MINUTE).await;
        let deletes = story.ours(DELETE);
        let mut groups: Vec<&str> = deletes.iter().map(|delete| delete.target.split('/').nth(8).unwrap()).collect();
        groups.sort_unstable();
        let expected: &[&str] = match land {
            RulesLand::Nic => &["nsg-web-1"],
            RulesLand::Subnet => &["nsg-servers"],
            RulesLand::Both => &["nsg-servers", "nsg-web-1"],
        };
        assert_eq!(groups, expected);
        story.is_proved_shut("web-1", 3389);
    }
}

#[tokio::test]
async fn an_opening_is_shut_whether_its_record_says_who_asked_or_not() {
    for (requestor, said) in [(Requestor::Filled, estate::ADMIN_UPN), (Requestor::Empty, "")] {
        let story = world_with(|switches| switches.requestor = requestor).await;
        story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(1)).await;
        assert_eq!(records(&story)[0]["requestor"], said);
        story.pass(5 * MINUTE).await;
        story.is_proved_shut("web-1", 3389);
        let claims = story.audits_of("close")[0]["claims"].clone();
        assert_eq!(claims[0]["objectId"], estate::ADMIN_OBJECT_ID, "the event says who: {claims:#}");
    }
}

#[tokio::test]
async fn a_rule_that_comes_back_is_deleted_again_and_an_alarm_until_it_stays_away() {
    for returns in Returns::ALL {
        let story = world_with(|switches| switches.deleted_rule_returns = *returns).await;
        story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(1)).await;
        story.pass(15 * MINUTE).await;
        let written = story.world(|state| {
            let is_write = |what: &str| what == "Microsoft.Network/networkSecurityGroups/securityRules/write";
            state.log.iter().filter(|entry| is_write(&entry.what)).count()
        });
        let deletes = story.ours(DELETE).len();
        match returns {
            Returns::Never => assert_eq!((written, deletes, story.alarms().as_str()), (2, 2, "")),
            Returns::Once => assert_eq!((written, deletes, story.alarms().as_str()), (4, 4, "+rule-returns -rule-returns")),
            Returns::Always => {
                assert!(written > 10 && deletes > 10, "{written} writes, {deletes} deletes");
                assert_eq!(story.alarms(), "+rule-returns", "it stands");
                story.pass(60 * MINUTE).await;
                assert_eq!(story.alarms(), "+rule-returns -rule-returns");
            }
        }
        story.is_proved_shut("web-1", 3389);
    }
}

#[tokio::test]
async fn an_opening_for_too_long_whose_event_is_lost_is_found_by_the_sweep() {
    let story = Setting::with(|state| state.switches.events = Events::Never).begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 22, &["203.0.113.4"], TimeDelta::hours(12)).await;
    story.pass(4 * MINUTE).await;
    assert_eq!(story.ours(DELETE).len(), 0);
    story.pass(6 * MINUTE).await;
    assert_eq!((story.ours(DELETE).len(), story.alarms().as_str()), (2, ""));
    assert!(story.audits_of("close").iter().all(|close| close["code"] == "overlong"));
    story.is_proved_shut("web-1", 22);
}

#[tokio::test]
async fn observing_says_once_what_it_would_close_and_enforcing_later_closes_it() {
    let story = Setting::default().observing().begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(6)).await;
    story.pass(60 * MINUTE).await;
    assert_eq!((story.tried(DELETE).len(), story.allow_rules(3389).len(), story.alarms().as_str()), (0, 2, ""));
    assert_eq!(story.audits_of("would-close").len(), 2, "one a rule");
    assert_eq!((story.queued("approval"), &story.record("web-1").unwrap()["nextLook"]), (0, &Value::Null), "no wake-up");
    assert_eq!(story.record("web-1").unwrap()["closings"], json!({}));
    story.holds();

    let story = story.left().begin().await;
    story.pass(10 * MINUTE).await;
    assert_eq!(story.ours(DELETE).len(), 2);
    story.is_proved_shut("web-1", 3389);

    let observing = story.left().observing().begin().await;
    observing.pass(10 * MINUTE).await;
    assert_eq!((observing.ours(DELETE).len(), observing.audits_of("would-close").len()), (2, 2));
}

/// The settings that are played, by switch, as the world writes them.
fn played() -> BTreeMap<String, BTreeSet<String>> {
    let mut played: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (switch, _, switches) in settings() {
        let (first, rest) = switch.split_once('_').unwrap_or((switch, ""));
        let capital = |word: &str| word.get(..1).unwrap_or_default().to_uppercase() + word.get(1..).unwrap_or_default();
        let name = first.to_owned() + &rest.split('_').map(capital).collect::<String>();
        let written = &serde_json::to_value(switches).unwrap()[&name];
        let setting = written.as_str().map_or_else(|| written.to_string(), str::to_owned);
        played.entry(name).or_default().insert(setting);
    }
    played
}

#[test]
fn the_page_of_switches_tells_every_setting_that_is_played_and_no_other() {
    let page = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/switches.md")).unwrap();
    let section = |text: &str| {
        let (name, text) = text.split_once("`\n").unwrap();
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
        let settings = rows.map(|(setting, told)| {
            assert!(told.trim_matches([' ', '|']).len() > 3, "{name}, {setting}");
            setting.to_owned()
        });
        assert!(text.contains("Known: "), "{name}");
        (name.to_owned(), settings.collect())
    };
    let told: BTreeMap<String, BTreeSet<String>> = page.split("\n### `").skip(1).map(section).collect();
    assert_eq!(told, played());

    let named: Vec<&str> = page.split("` = `").collect();
    assert!(named.len() > 3, "elsewhere a switch is named with its setting");
    for pair in named.windows(2) {
        let (name, setting) = (pair[0].rsplit('`').next().unwrap(), pair[1].split('`').next().unwrap());
        assert!(told.get(name).is_some_and(|settings| settings.contains(setting)), "{name} = {setting}");
    }
}
