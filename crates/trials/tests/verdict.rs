//! The judge finds what is wrong: stories that end otherwise than they say, and worlds that were tampered with once their story was
//! over.

use std::collections::BTreeMap;

use chrono::DateTime;
use portcullis_domain::source::Sources;
use portcullis_sandbox::estate;
use portcullis_sandbox::host::record::{Invocation, Outcome};
use portcullis_sandbox::state::{LogEntry, Message, State};
use portcullis_sandbox::switches::Switches;
use portcullis_trials::disturbance::Disturbance;
use portcullis_trials::matrix::shipped_stories;
use portcullis_trials::play::{Ended, Played, play};
use portcullis_trials::script::{Script, Time};
use portcullis_trials::story::{DELETE, INITIATE, vm};
use portcullis_trials::verdict::{Granted, InTheWay, judge, judge_walk};
use serde_json::{Value, json};

const USUAL: Disturbance = Disturbance::Nothing;

async fn played(script: &Script) -> Played {
    play(script, &Switches::default(), None, None).await.unwrap()
}

fn wrong(script: &Script, disturbance: &Disturbance, played: &Played) -> Vec<String> {
    judge(script, &Switches::default(), disturbance, played).wrong
}

/// Whether each of these phrases is in one of the sentences, in their order, and there is no other sentence.
fn are(sentences: &[String], phrases: &[&str]) -> bool {
    sentences.len() == phrases.len() && sentences.iter().zip(phrases).all(|(sentence, phrase)| sentence.contains(phrase))
}

/// An opening to everybody of port 3389 of `vm`, in a world that is changed by `world`, with these steps besides and this end.
fn opening(vm: &str, world: &str, steps: &str, ends: &str) -> Script {
    let opens = format!("{{at: 0, what: {{opens: {{who: ada.admin, vm: {vm}, port: 3389, from: \"*\", for: 3h}}}}}}");
    Script::read(&format!("tells: a story\nworld: {world}\nsteps: [{opens}{steps}]\nlasts: 30m\nends: {ends}\n")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_story_that_ends_otherwise_than_it_says_is_told_so() {
    let at_sight = "[{from: \"*\", since: 0, until: 0}]";
    let web_1 = |is: &str, lets_in: &str| format!("[{{vm: web-1, port: 3389, is: {is}, letsIn: {lets_in}}}]");
    let cases: [(Script, &[&str]); 6] = [
        (opening("web-1", "{}", "", &web_1("shut", at_sight)), &[]),
        (opening("web-1", "{}", "", &web_1("alarmStanding", at_sight)), &["it ended proved shut, and must end alarm standing"]),
        (
            opening("web-1", "{}", "", &web_1("shut", "[{from: \"*\", since: 0, until: 10m}]")),
            &["* was let in 0:12-0:24, and must be 0:00-10:00"],
        ),
        (opening("web-1", "{}", "", &web_1("shut", "[{from: 192.0.2.9, since: 0, until: 0}]")), &["somebody else was let in 0:12-0:24"]),
        (
            opening("web-1", "{observe: true}", "", &web_1("shut", at_sight)),
            &["it is open to *, nothing covers that, and no alarm stands", "was let in 0:12-?, and must be 0:00-0:00"],
        ),
        (
            opening("web-2", "{}", ", {at: 0, what: {locks: true}}", "[{vm: web-1, port: 22, is: neverOpen}]"),
            &["web-2 port 3389 was open, and the story says nothing of it", "what the story does not name: web-2 port 3389: +lock@"],
        ),
    ];
    for (script, phrases) in cases {
        let wrong = wrong(&script, &USUAL, &played(&script).await);
        assert!(are(&wrong, phrases), "{phrases:#?}\n{wrong:#?}");
    }
}

/// Stories that claim what was not, or leave out what was.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_nothing_bears_out_is_told() {
    let story = |world: &str, steps: &str, ends: &str| {
        Script::read(&format!("tells: a story\nworld: {world}\nsteps: [{steps}]\nlasts: 40m\nends: [{{vm: web-1, port: 22, {ends}}}]\n"))
            .unwrap()
    };
    let around = |from: &str| format!("{{at: 0, what: {{opens: {{who: ada.admin, vm: web-1, port: 22, from: {from}, for: 20m}}}}}}");
    let granted = "{at: 0, what: {asks: {person: rosa.responder, vm: web-1, port: 22, from: 198.51.100.7, for: 20m}}}";
    let by_rosa = "{at: 0, what: {opens: {who: rosa.responder, vm: web-1, port: 22, from: 198.51.100.7, for: 20m}}}";
    let due = "{from: 198.51.100.7, since: 0, until: 20m}";
    let cases: [(&str, Script, &[&str]); 7] = [
        (
            "an opening that nobody made, where each is there for no time",
            story("{switches: {operationSeconds: 0}}", &around("192.0.2.9"), "is: shut, letsIn: [{from: 192.0.2.8, since: 0, until: 0}]"),
            &["192.0.2.8 was let in never", "somebody else was let in"],
        ),
        (
            "a port that Azure did not open, where each opening is there for no time",
            story(
                "{switches: {operationSeconds: 0}, allowedSource: 192.0.2.0/24}",
                &around("198.51.100.9"),
                "is: shut, letsIn: [{from: 198.51.100.9, since: 0, until: 0}]",
            ),
            &["it ended never open, and must end proved shut", "was let in never", "not done"],
        ),
        (
            "an opening shut at sight beside a real one",
            story("{}", granted, &format!("is: shut, letsIn: [{due}, {{from: 198.51.100.9, since: 5m, until: 5m, uncovered: true}}]")),
            &["198.51.100.9 was let in never"],
        ),
        (
            "that what would be shut is due",
            story("{observe: true}", &around("192.0.2.9"), "is: shut, letsIn: [{from: 192.0.2.9, since: 0, until: 20m}]"),
            &["it was said that 192.0.2.9 would be shut, and is due"],
        ),
        (
            "that what is due would be shut",
            story("{observe: true}", by_rosa, "is: shut, letsIn: [{from: 198.51.100.7, since: 0, until: 20m, uncovered: true}]"),
            &["nothing says in time that 198.51.100.7 would be shut"],
        ),
        (
            "that what a lock keeps open is due",
            story(
                "{}",
                &format!(
                    "{granted}, {{at: 14m, what: {{asks: {{person: ada.admin, vm: web-1, port: 22, from: '*', for: 26m, refused: true}}}}}}, {{at: 15m, what: {{locks: true}}}}"
                ),
                "is: alarmStanding, letsIn: [{from: 198.51.100.7, since: 0, until: 40m}]",
            ),
            &["an alarm lock was raised at 20:00, and all that was open was due"],
        ),
        (
            "nothing wrong, and Azure becomes slower once all is over",
            story(
                "{}",
                &format!("{granted}, {{at: 38m, what: {{switches: {{operationSeconds: 60}}}}}}"),
                &format!("is: shut, letsIn: [{due}]"),
            ),
            &[],
        ),
    ];
    for (what, script, phrases) in cases {
        let switches = portcullis_trials::script::switched(&Switches::default(), &script.world.switches).unwrap();
        let played = play(&script, &Switches::default(), None, None).await.unwrap();
        let wrong = judge(&script, &switches, &USUAL, &played).wrong;
        assert!(are(&wrong, phrases), "{what}: {phrases:#?}\n{wrong:#?}");
    }
}

/// Writes an audit record, and its row.
fn tell(state: &mut State, audit: &Value) {
    let blobs = &mut state.containers.get_mut("audit").unwrap().blobs;
    let mut blob = blobs.values().next().unwrap().clone();
    blob.content = audit.to_string();
    blobs.insert(format!("tampered/{}.json", audit["id"]), blob);
    let mut row = state.rows[0].clone();
    row.row["AuditId"] = audit["id"].clone();
    state.rows.push(row);
}

fn alarm(kind: &str, id: &str, vm: &str, port: Value) -> Value {
    json!({"id": id, "at": "2026-01-15T09:10:00Z", "kind": kind, "code": "slow", "vm": vm, "port": port})
}

/// That an opening with this start was told of by its record alone.
fn missed(vm: &str, start: &str) -> Value {
    json!({"id": "m1", "at": "2026-01-15T09:10:00Z", "kind": "missed", "code": "any-source", "vm": vm, "port": 3389, "about": format!("/p#{start}")})
}

fn forget(state: &mut State, kind: &str) {
    state.containers.get_mut("audit").unwrap().blobs.retain(|_, blob| !blob.content.contains(&format!("\"kind\":\"{kind}\"")));
    state.rows.retain(|taken| taken.row["EventSubType"] != kind);
}

/// Changes what the log says of the deletes of rules by the product.
fn deletes(state: &mut State, mut change: impl FnMut(&mut LogEntry)) {
    let is_ours = |entry: &&mut LogEntry| entry.object_id == estate::PRODUCT_OBJECT_ID && entry.what.eq_ignore_ascii_case(DELETE);
    state.log.iter_mut().filter(is_ours).for_each(&mut change);
}

/// Changes what the log says of what the product wrote to its store, beneath this prefix.
fn writes(state: &mut State, prefix: &str, mut change: impl FnMut(&mut LogEntry)) {
    let is_its = |entry: &&mut LogEntry| entry.face == "blob" && entry.what == "put" && entry.target.starts_with(prefix);
    state.log.iter_mut().filter(is_its).for_each(&mut change);
}

/// Changes the text of each audit record of a kind.
fn retell(state: &mut State, kind: &str, change: impl Fn(&str) -> String) {
    let blobs = state.containers.get_mut("audit").unwrap().blobs.values_mut();
    blobs.filter(|blob| blob.content.contains(&format!("\"kind\":\"{kind}\""))).for_each(|blob| blob.content = change(&blob.content));
}

/// A rule in web-1's group that is not JIT's.
fn a_rule_of_others(state: &mut State) -> &mut Value {
    let group = estate::resource_id(estate::SUBSCRIPTION, estate::GROUP, "Microsoft.Network/networkSecurityGroups", "nsg-web-1");
    let rules = state.resources.get_mut(&group).unwrap()["properties"]["securityRules"].as_array_mut().unwrap();
    rules.iter_mut().find(|rule| rule["name"] == "allow-management-from-anywhere").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_world_that_was_tampered_with_is_told_so() {
    let (_, script) = Script::read_all(&shipped_stories().join("any-source.yaml")).unwrap().remove(0);
    let web_2 = format!("/subscriptions/{}/resourceGroups/rg-web/providers/Microsoft.Compute/virtualMachines/web-2", estate::SUBSCRIPTION);
    type Tampers<'a> = Box<dyn Fn(&mut State) + 'a>;
    let cases: Vec<(Tampers<'_>, Option<&str>)> = vec![
        (Box::new(|_| {}), None),
        (Box::new(|state| forget(state, "close")), Some("no audit record before")),
        (Box::new(|state| forget(state, "proved-shut")), Some("nobody saw port 3389 of")),
        (
            Box::new(|state| {
                forget(state, "proved-shut");
                tell(state, &missed(&vm("web-1"), "2026-01-15T09:00:00.000000Z"));
            }),
            Some("nobody saw port 3389 of"),
        ),
        (Box::new(|state| forget(state, "finding-appeared")), Some("it was open, and no audit record tells that")),
        (
            Box::new(|state| {
                let ours = state.log.iter().rposition(|entry| entry.what.eq_ignore_ascii_case(DELETE)).unwrap();
                let again = state.log[ours].clone();
                state.log.push(again);
            }),
            Some("no audit record before"),
        ),
        (Box::new(|state| deletes(state, |entry| entry.function = Some("sweep".to_owned()))), Some("by another function than approval")),
        (Box::new(|state| deletes(state, |entry| entry.access = Some("Deny".to_owned()))), Some("a rule that lets nobody in")),
        (Box::new(|state| deletes(state, |entry| entry.direction = Some("Outbound".to_owned()))), Some("a rule that lets nobody in")),
        (
            Box::new(|state| {
                let of_others = |text: &str| text.replace("/securityRules/", "/securityRules/my-");
                deletes(state, |entry| entry.target = of_others(&entry.target));
                retell(state, "close", of_others);
            }),
            Some("in another way than by closing or opening"),
        ),
        (Box::new(|state| writes(state, "state/vm/", |entry| entry.condition = None)), Some("no intent before")),
        (
            Box::new(|state| writes(state, "state/due/", |entry| entry.target = "state/due/19990101T000000Z/x".to_owned())),
            Some("no later look was promised"),
        ),
        (Box::new(|state| writes(state, "state/vm/", |entry| entry.function = None)), Some("a write outside every invocation")),
        (
            Box::new(|state| {
                let blobs = &mut state.containers.get_mut("audit").unwrap().blobs;
                let (name, blob) = blobs.iter().find(|(_, blob)| blob.content.contains("\"kind\":\"close\"")).unwrap();
                let (name, blob) = (format!("audit/{name}"), blob.clone());
                let mut again = state.log.iter().find(|entry| entry.target == name).unwrap().clone();
                again.target = "audit/tampered/again.json".to_owned();
                blobs.insert("tampered/again.json".to_owned(), blob);
                state.log.push(again);
            }),
            Some("announced and not tried"),
        ),
        (Box::new(|state| drop(a_rule_of_others(state).take())), Some("a rule that is not JIT's was touched")),
        (
            Box::new(|state| a_rule_of_others(state)["properties"]["sourceAddressPrefix"] = json!("10.0.0.0/8")),
            Some("a rule that is not JIT's was touched"),
        ),
        (
            Box::new(|state| retell(state, "proved-shut", |text| text.replace("\"at\":\"2026-01-15T09:01:", "\"at\":\"2026-01-15T09:00:"))),
            Some("was said to be shut at"),
        ),
        (Box::new(|state| state.rows.retain(|row| row.row["EventSubType"] != "proved-shut")), Some("an audit record without a row")),
        (Box::new(|state| state.rows.push(state.rows[0].clone())), Some("two rows of the audit record")),
        (Box::new(|state| row_of_nothing(state, "alarm-raised", "slow")), Some("a row of which there is no audit record")),
        (Box::new(|state| row_of_nothing(state, "service-failing", "store")), Some("a row of which there is no audit record")),
        (Box::new(|state| row_of_nothing(state, "service-failing", "slow")), None),
        (
            Box::new(|state| {
                tell(state, &alarm("alarm-raised", "a1", &vm("web-1"), json!(3389)));
                tell(state, &alarm("alarm-raised", "a2", &vm("web-1"), json!(3389)));
                tell(state, &alarm("alarm-cleared", "a3", &vm("web-1"), json!(3389)));
            }),
            Some("alarm"),
        ),
        (
            Box::new(|state| tell(state, &alarm("alarm-cleared", "a1", &vm("web-1"), json!(3389)))),
            Some("an alarm that does not stand was cleared"),
        ),
        (
            Box::new(|state| {
                let again = json!({"id": "p2", "at": "2026-01-15T09:20:00Z", "kind": "proved-shut", "vm": vm("web-1"), "port": 3389});
                tell(state, &again);
            }),
            Some("it was proved shut at 1:00, and again at 20:00"),
        ),
        (Box::new(|state| state.queues.get_mut("approval").unwrap().dead_letters.push(lost())), Some("a dead letter in approval: lost")),
        (Box::new(|state| state.event_grid.dead_letters.push(json!({"id": "lost"}))), Some("a dead event")),
        (
            Box::new(|state| {
                let blobs = &mut state.containers.get_mut("state").unwrap().blobs;
                let blob = blobs.values().next().unwrap().clone();
                blobs.insert("inbox/lost.json".to_owned(), blob);
            }),
            Some("left over: inbox/lost.json"),
        ),
        (
            Box::new(|state| tell(state, &alarm("alarm-raised", "a1", &web_2, json!(22)))),
            Some("an alarm on what the story does not name: web-2 port 22: +slow@"),
        ),
        (
            Box::new(|state| {
                tell(state, &alarm("alarm-raised", "a1", &web_2, Value::Null));
                tell(state, &alarm("alarm-cleared", "a2", &web_2, Value::Null));
            }),
            Some("an alarm on what the story does not name: web-2: +slow@"),
        ),
        (
            Box::new(|state| tell(state, &json!({"id": "r1", "at": "2026-01-15T09:10:00Z", "kind": "rejected", "code": "event"}))),
            Some("an alert that nobody expects"),
        ),
        (Box::new(|state| (0..2).for_each(|n| tell(state, &granted(n)))), Some("told twice: granted of g")),
    ];
    for (tampers, phrase) in cases {
        let played = played(&script).await;
        played.story.change(|state| tampers(state));
        let wrong = wrong(&script, &USUAL, &played);
        let is_told = !wrong.is_empty() && wrong.iter().all(|sentence| phrase.is_some_and(|phrase| sentence.contains(phrase)));
        assert!(is_told || wrong.is_empty() && phrase.is_none(), "{phrase:?}\n{wrong:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_is_announced_as_it_is_asked_for() {
    let stories = Script::read_all(&shipped_stories()).unwrap();
    let (_, script) = stories.into_iter().find(|(name, _)| name == "granted").unwrap();
    for (told, instead, is_right) in [
        ("\"port\":22", "\"port\":22", true),
        ("\"port\":22", "\"port\":3389", false),
        ("[\"203.0.113.4\"]", "[\"203.0.113.5\"]", false),
        ("/virtualmachines/web-", "/virtualmachines/db-", false),
    ] {
        let played = played(&script).await;
        played.story.change(|state| {
            retell(state, "open", |text| {
                let lower = text.to_ascii_lowercase();
                let place = lower.find(told).unwrap_or_else(|| panic!("{told}: {text}"));
                format!("{}{instead}{}", &text[..place], &text[place + told.len()..])
            });
        });
        let wrong = wrong(&script, &USUAL, &played);
        assert_eq!(wrong.iter().any(|sentence| sentence.contains("no audit record before")), !is_right, "{instead}: {wrong:#?}");
    }
}

/// A row that Sentinel took, of no audit record.
fn row_of_nothing(state: &mut State, kind: &str, code: &str) {
    let mut taken = state.rows[0].clone();
    taken.row["AuditId"] = json!("nothing");
    taken.row["EventSubType"] = json!(kind);
    taken.row["Code"] = json!(code);
    state.rows.push(taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_is_a_lie_while_jit_is_about_to_open() {
    let stories = Script::read_all(&shipped_stories()).unwrap();
    let (_, script) = stories.into_iter().find(|(name, _)| name == "ended-while-opening").unwrap();
    let played = played(&script).await;
    let lies = json!({"id": "p0", "at": "2026-01-15T09:01:30Z", "kind": "proved-shut", "vm": vm("web-1"), "port": 22});
    played.story.change(|state| tell(state, &lies));
    let wrong = wrong(&script, &USUAL, &played);
    let is_it = |why: &String| why.ends_with("it was proved shut at 1:30, and JIT was opening it 0:02-2:00");
    assert!(wrong.iter().any(is_it), "{wrong:#?}");
}

fn granted(n: u32) -> Value {
    json!({"id": format!("g{n}"), "at": "2026-01-15T09:10:00Z", "kind": "granted", "grant": "g"})
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_call_was_put_off_for_twenty_minutes_an_alarm_elsewhere_has_to_clear() {
    let (_, script) = Script::read_all(&shipped_stories().join("any-source.yaml")).unwrap().remove(0);
    let put_off: Disturbance = "429-20m@3".parse().unwrap();
    let raised = alarm("alarm-raised", "a1", "/s/web-2", json!(22));
    let played = played(&script).await;
    played.story.change(|state| tell(state, &raised));
    assert!(are(&wrong(&script, &put_off, &played), &["an alarm on what the story does not name: web-2 port 22"]));
    played.story.change(|state| tell(state, &alarm("alarm-cleared", "a2", "/s/web-2", json!(22))));
    assert_eq!(wrong(&script, &put_off, &played), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_that_an_opening_was_missed_stands_for_a_proof_where_something_went_wrong() {
    let (_, script) = Script::read_all(&shipped_stories().join("any-source.yaml")).unwrap().remove(0);
    let unavailable: Disturbance = "503@3".parse().unwrap();
    let in_time = |start: &'static str| {
        let (script, unavailable) = (script.clone(), unavailable.clone());
        async move {
            let played = played(&script).await;
            played.story.change(|state| {
                forget(state, "proved-shut");
                tell(state, &missed(&vm("web-1"), start));
            });
            wrong(&script, &unavailable, &played)
        }
    };
    assert_eq!(in_time("2026-01-15T09:00:00.000000Z").await, Vec::<String>::new());
    assert!(are(&in_time("2026-01-15T08:50:00.000000Z").await, &["nobody saw port 3389 of"]), "it is of another opening");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_that_another_function_asked_for_is_told() {
    let asks = "{at: 0, what: {asks: {person: rosa.responder, vm: web-1, port: 22, from: 198.51.100.7, for: 20m}}}";
    let ends = "[{vm: web-1, port: 22, is: shut, letsIn: [{from: 198.51.100.7, since: 0, until: 20m}]}]";
    let script = Script::read(&format!("tells: a story\nsteps: [{asks}]\nlasts: 40m\nends: {ends}\n")).unwrap();
    let played = played(&script).await;
    assert_eq!(wrong(&script, &USUAL, &played), Vec::<String>::new());
    played.story.change(|state| {
        let opens = |entry: &&mut LogEntry| entry.what.eq_ignore_ascii_case(INITIATE);
        state.log.iter_mut().filter(opens).for_each(|entry| entry.function = Some("ask".to_owned()));
    });
    assert!(are(&wrong(&script, &USUAL, &played), &["Azure was changed by another function than approval"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invocation_that_failed_is_told_where_nothing_went_wrong() {
    let (_, script) = Script::read_all(&shipped_stories().join("any-source.yaml")).unwrap().remove(0);
    let played = played(&script).await;
    let record = played.story.sandbox.host.as_ref().unwrap().record();
    let reason = "it was said to have".to_owned();
    let failed = Invocation { outcome: Outcome::Failed { reason }, ..record.invocations().remove(0) };
    record.add(failed);
    assert!(are(&wrong(&script, &USUAL, &played), &["it was said to have"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_walk_leaves_open_or_alarmed_is_told() {
    let at_sight = "[{from: \"*\", since: 0, until: 0}]";
    let left_open = opening("web-1", "{observe: true}", "", &format!("[{{vm: web-1, port: 3389, is: shut, letsIn: {at_sight}}}]"));
    let wrong = judge_walk(&[], InTheWay::Nothing, &played(&left_open).await);
    assert!(wrong.iter().any(|wrong| wrong.contains("web-1 port 3389 is open to *")), "{wrong:#?}");
    assert!(wrong.iter().any(|wrong| wrong.contains("without being due, and no alarm stood")), "{wrong:#?}");

    let (_, script) = Script::read_all(&shipped_stories().join("any-source.yaml")).unwrap().remove(0);
    let played = played(&script).await;
    assert_eq!(judge_walk(&[], InTheWay::Nothing, &played), Vec::<String>::new());
    played.story.change(|state| tell(state, &alarm("alarm-raised", "a1", &vm("web-1"), json!(22))));
    assert!(are(&judge_walk(&[], InTheWay::Faults, &played), &["an alarm stands: web-1 port 22"]));
    played.story.change(|state| tell(state, &alarm("alarm-cleared", "a2", &vm("web-1"), json!(22))));
    assert_eq!(judge_walk(&[], InTheWay::Faults, &played), Vec::<String>::new());
    assert!(are(&judge_walk(&[], InTheWay::Nothing, &played), &["an alarm where nothing went wrong: web-1 port 22"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_that_keeps_somebody_out_is_told_so_where_nothing_was_in_the_way() {
    let (_, script) = Script::read_all(&shipped_stories().join("any-source.yaml")).unwrap().remove(0);
    let mut played = played(&script).await;
    let from = Sources::read(["192.0.2.1"]);
    let granted = |shut| {
        let (vm, from, since, until) = ("web-2".to_owned(), from.clone(), Time::minutes(2), Time::minutes(30));
        vec![Granted { vm, port: 22, from, since, until, shut }]
    };
    let kept_out = ["web-2 port 22: 192.0.2.1 was let in never, and must be 2:00-30:00"];
    assert_eq!(judge_walk(&granted(None), InTheWay::Nothing, &played), kept_out);
    assert_eq!(judge_walk(&granted(None), InTheWay::Faults, &played), Vec::<String>::new());
    assert_eq!(judge_walk(&granted(Some(Time::minutes(3))), InTheWay::Nothing, &played), Vec::<String>::new());
    played.ended.push(Ended { grant: "a-grant".to_owned(), vm: "web-2".to_owned(), port: 22, from: from.clone(), at: Time::minutes(4) });
    assert_eq!(judge_walk(&granted(None), InTheWay::Nothing, &played), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_those_who_were_let_in_is_somebody_else_when_their_time_is_over() {
    let both = "{at: 0, what: {opens: {who: ada.admin, vm: web-1, port: 22, from: [192.0.2.9, 192.0.2.10], for: 30m}}}";
    let one = "{at: 12m, what: {opens: {who: ada.admin, vm: web-1, port: 22, from: 192.0.2.9, for: 10m}}}";
    for (observe, told) in [(false, "somebody else was let in 12:12-12:2"), (true, "somebody else was let in 40:12-50:")] {
        let at = if observe { "40m" } else { "12m" };
        let until = if observe { "30m" } else { "0" };
        let steps = format!("{both}, {}", one.replace("12m", at));
        let ends = format!(
            "[{{vm: web-1, port: 22, is: shut, letsIn: [{{from: [192.0.2.9, 192.0.2.10], since: 0, until: {until}, uncovered: {observe}}}]}}]"
        );
        let script = format!("tells: a story\nworld: {{observe: {observe}}}\nsteps: [{steps}]\nlasts: 70m\nends: {ends}\n");
        let script = Script::read(&script).unwrap();
        let wrong = wrong(&script, &USUAL, &played(&script).await);
        assert!(wrong.iter().any(|wrong| wrong.contains(told)), "{wrong:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_may_die_of_ten_deaths_and_not_of_ten_broken_connections() {
    let (_, script) = Script::read_all(&shipped_stories().join("any-source.yaml")).unwrap().remove(0);
    for (reasons, is_excused) in [
        (vec!["the handler died: connection closed"; 10], true),
        (vec!["the handler died: connection closed"; 9], false),
        (vec!["the connection to the handler failed: connection reset"; 10], false),
        ([vec!["the handler died: connection closed"; 9], vec!["the connection to the handler failed: connection reset"]].concat(), false),
    ] {
        let played = played(&script).await;
        let record = played.story.sandbox.host.as_ref().unwrap().record();
        for (n, reason) in reasons.iter().enumerate() {
            let (trigger, reason) = (format!("approval message {}, delivery {}", lost().sequence, n + 1), (*reason).to_owned());
            record.add(Invocation { trigger, outcome: Outcome::Failed { reason }, ..record.invocations().remove(0) });
        }
        played.story.change(|state| state.queues.get_mut("approval").unwrap().dead_letters.push(lost()));
        let wrong = wrong(&script, &"kill-before@3".parse().unwrap(), &played);
        assert_eq!(wrong.iter().any(|wrong| wrong.contains("a dead letter in approval: lost")), !is_excused, "{reasons:?}: {wrong:#?}");
    }
}

fn lost() -> Message {
    Message {
        sequence: 1_000,
        body: "lost".to_owned(),
        content_type: None,
        properties: BTreeMap::new(),
        user_properties: BTreeMap::new(),
        enqueued_at: DateTime::UNIX_EPOCH,
        scheduled_for: None,
        expires_at: None,
        delivery_count: 10,
        lock: None,
        dead_letter_reason: Some("MaxDeliveryCountExceeded".to_owned()),
    }
}

#[test]
fn a_story_that_opens_for_nobody_is_refused() {
    let story = "
tells: Somebody opens a port for nobody.
steps: [{at: 0, what: {opens: {who: ada.admin, vm: web-1, port: 22, from: [], for: 30m}}}]
lasts: 50m
ends: [{vm: web-1, port: 22, is: shut, letsIn: [{from: '*', since: 0, until: 0}]}]
";
    let why = Script::read(story).unwrap_err();
    assert!(why.contains("from: a list without a source lets nobody in"), "{why}");
}
