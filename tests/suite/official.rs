//! Azure's own clients, which nobody wrote against the sandbox, before the sandbox: what they read of it, and what the world
//! holds after them.
//!
//! Their programs are in `tests/clients`; `make test` installs the clients. Each program says in one JSON document what it saw.

use crate::judge::{node, output, python, sandbox, saw};
use chrono::TimeDelta;
use portcullis_sandbox::engine::Clock;
use portcullis_sandbox::estate;
use portcullis_sandbox::sandbox::Sandbox;
use portcullis_sandbox::state::State;
use portcullis_sandbox::switches::{EventResource, EventSchema, LetterCase};
use portcullis_trials::story::{DELETE, INITIATE, Setting, policy, vm};
use reqwest::Method;
use serde_json::{Value, json};

fn nsg() -> String {
    estate::resource_id(estate::SUBSCRIPTION, estate::GROUP, "Microsoft.Network/networkSecurityGroups", "nsg-web-1")
}

/// The rules of a group as the world has them.
fn rules(sandbox: &Sandbox) -> Vec<Value> {
    let state = sandbox.world.lock();
    state.resources.get(&nsg()).and_then(|group| group["properties"]["securityRules"].as_array().cloned()).unwrap_or_default()
}

fn names(rules: &[Value]) -> Vec<&str> {
    rules.iter().map(|rule| rule["name"].as_str().unwrap()).collect()
}

/// The statuses of the client's own writes of this kind, by the world's log.
fn answered(sandbox: &Sandbox, what: &str) -> Vec<u16> {
    let state = sandbox.world.lock();
    let deeds = state.log.iter().filter(|entry| entry.object_id == estate::CLIENT_OBJECT_ID && entry.what.ends_with(what));
    deeds.map(|entry| entry.status).collect()
}

/// A world that opens at once, and in which only the client's own writes take time: a second, which is the machine's.
async fn with_an_opening() -> (Sandbox, tempfile::TempDir) {
    let prepare = |state: &mut State| {
        state.switches.initiating_seconds = 0;
        state.switches.operation_seconds = 0;
        state.switches.page_size = 1;
    };
    let (sandbox, dir) = sandbox(Clock::Running, prepare).await;
    let end = (sandbox.now() + TimeDelta::hours(1)).to_rfc3339();
    let port = json!({"number": 22, "allowedSourceAddressPrefix": "203.0.113.7", "endTimeUtc": end});
    let body = json!({"virtualMachines": [{"id": vm("web-1"), "ports": [port]}]});
    assert_eq!(asked(&sandbox, Method::POST, &format!("{}/initiate", policy()), Some(body)).await, 202);
    sandbox.world.lock().switches.operation_seconds = 1;
    (sandbox, dir)
}

/// A request to ARM as an administrator, and its status.
async fn asked(sandbox: &Sandbox, method: Method, path: &str, body: Option<Value>) -> u16 {
    let token = portcullis_sandbox::entra::mint(&sandbox.world.lock(), estate::ADMIN_OBJECT_ID, "https://management.azure.com").unwrap();
    let request = sandbox.client().unwrap().request(method, format!("{}{path}?api-version=2020-01-01", sandbox.url("arm")));
    let request = body.into_iter().fold(request.bearer_auth(token), |request, body| request.json(&body));
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn azures_javascript_client_lists_the_rules_of_a_group_and_deletes_one() {
    let (sandbox, _dir) = with_an_opening().await;
    let before = rules(&sandbox);
    let rule = before.iter().find(|rule| rule["properties"]["access"] == "Allow").expect("an opening")["name"].as_str().unwrap();
    assert!(before.len() > 1, "a list that takes several pages");

    let mut command = node("rules.mjs");
    command.args([estate::GROUP, "nsg-web-1", rule]);
    let saw = saw(command, &sandbox).await;
    let listed = |name: &str| saw[name].as_array().unwrap().clone();
    assert_eq!(names(&listed("before")), names(&before));
    assert_eq!(saw["pages"], before.len(), "one rule on a page");
    assert_eq!((&saw["read"]["name"], &saw["read"]["access"]), (&json!(rule), &json!("Allow")));
    assert!(saw["read"]["etag"].as_str().is_some_and(|etag| !etag.is_empty()), "{saw}");
    let statuses = saw["statuses"].as_array().unwrap();
    assert_eq!(statuses.first(), Some(&json!(202)), "the delete was accepted, not done: {saw}");
    assert!(statuses.len() > 1 && statuses[1..].iter().all(|status| *status == 200), "and then asked after: {saw}");
    assert!(!names(&listed("after")).contains(&rule), "{saw}");
    assert_eq!(listed("after").len(), before.len() - 1);
    assert_eq!(saw["missing"], json!({"name": "RestError", "status": 404, "code": "NotFound"}));
    assert_eq!(saw["nowhere"], json!({"name": "RestError", "status": 404, "code": "ResourceNotFound"}));

    assert!(!names(&rules(&sandbox)).contains(&rule), "the world's own rule is gone");
    assert_eq!(answered(&sandbox, "securityRules/delete"), [202]);
}

#[tokio::test(flavor = "multi_thread")]
async fn azures_python_client_writes_a_rule_changes_it_and_deletes_it() {
    let (sandbox, _dir) = with_an_opening().await;
    let before = rules(&sandbox);
    let mut command = python("rules.py");
    command.args([estate::GROUP, "nsg-web-1"]);
    let saw = saw(command, &sandbox).await;
    let rule = |port: &str| json!({"name": "ours", "port": port, "state": "Succeeded"});
    assert_eq!([&saw["written"], &saw["changed"], &saw["read"]], [&rule("443"), &rule("8443"), &rule("8443")]);
    let with_ours: Vec<&str> = names(&before).into_iter().chain(["ours"]).collect();
    assert_eq!([&saw["before"], &saw["between"], &saw["after"]], [&json!(names(&before)), &json!(with_ours), &json!(names(&before))]);
    let statuses = saw["statuses"].as_array().unwrap();
    let first_of = |status: u16| statuses.iter().position(|known| *known == status);
    assert_eq!(first_of(201), Some(0), "written anew: {saw}");
    let accepted = first_of(202).expect("a delete that is accepted, not done");
    let asked_after = statuses[1..accepted].iter().chain(&statuses[accepted + 1..]);
    assert!(asked_after.clone().count() > 2 && asked_after.clone().all(|status| *status == 200), "{saw}");
    assert_eq!(saw["missing"], json!({"name": "ResourceNotFoundError", "status": 404, "code": "NotFound"}));

    assert_eq!(rules(&sandbox).iter().map(|rule| rule["name"].clone()).collect::<Vec<_>>(), names(&before));
    assert_eq!(answered(&sandbox, "securityRules/write"), [201, 200]);
    assert_eq!(answered(&sandbox, "securityRules/delete"), [202, 204], "what is not there is deleted already");
}

#[tokio::test(flavor = "multi_thread")]
async fn azures_javascript_client_writes_a_jit_policy_opens_a_port_and_deletes_it() {
    let (sandbox, _dir) = sandbox(Clock::Standing, |state| state.switches.page_size = 1).await;
    let started = sandbox.now() + TimeDelta::seconds(60);
    let ends = sandbox.now() + TimeDelta::hours(1);
    let mut command = node("policies.mjs");
    command.args([estate::GROUP, estate::LOCATION, &vm("db-1")]);
    let saw = saw(command, &sandbox).await;
    let instant = |at: &Value| at.as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();

    assert_eq!((&saw["written"]["name"], &saw["written"]["provisioningState"]), (&json!("second"), &json!("Updating")));
    for (scope, listed) in saw["lists"].as_object().unwrap() {
        assert_eq!(listed, &json!(["default", "second"]), "{scope}, a policy on a page");
    }
    assert_eq!(saw["lists"].as_object().unwrap().len(), 4);
    let port = json!({"number": 5985, "protocol": "TCP", "allowedSourceAddressPrefix": "*", "maxRequestAccessDuration": "PT3H"});
    assert_eq!(saw["read"]["virtualMachines"], json!([{"id": vm("db-1"), "ports": [port]}]));
    assert_eq!((&saw["read"]["kind"], &saw["read"]["provisioningState"]), (&json!("Basic"), &json!("Succeeded")));
    for (record, status) in [(&saw["record"], "Initiating"), (&saw["opened"][0], "Initiated")] {
        let port = &record["virtualMachines"][0]["ports"][0];
        assert_eq!((&port["number"], &port["status"], &port["statusReason"]), (&json!(5985), &json!(status), &json!("UserRequested")));
        assert_eq!((&record["justification"], &port["allowedSourceAddressPrefix"]), (&json!("a trial"), &json!("203.0.113.7")));
        assert_eq!((instant(&record["startTimeUtc"]), instant(&port["endTimeUtc"])), (started, ends));
    }
    assert_eq!((&saw["beyond"]["name"], &saw["beyond"]["status"]), (&json!("RestError"), &json!(400)), "outside the policy");
    assert_eq!(saw["missing"], json!({"name": "RestError", "status": 404, "code": "PolicyNotFound"}));
    assert_eq!(answered(&sandbox, "/initiate/action"), [202, 400]);
    assert_eq!(answered(&sandbox, "jitNetworkAccessPolicies/delete"), [200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_azures_clients_open_is_shut_and_they_see_it_go() {
    // JIT's rules alone: the client lists whatever allows.
    let mut state = State::default();
    estate::small(&mut state);
    let story = Setting { state, ..Setting::default() }.begin().await;
    let begun = story.now();
    let mut command = python("governed.py");
    command.args([estate::GROUP, estate::LOCATION, "web-1", "*"]);
    let saw = saw(command, &story.sandbox).await;
    assert_eq!(saw["vms"], json!(["db-1", "web-1", "web-2"]));
    assert_eq!(saw["groups"], json!(["nsg-web-1", "nsg-servers"]));
    for (scope, listed) in saw["listed"].as_object().unwrap() {
        assert_eq!(listed, &json!(["default"]), "{scope}");
    }
    assert_eq!(saw["before"], json!([]));
    assert_eq!(saw["answered"], json!({"port": 22, "status": "Initiating", "source": "*"}));
    let rule = json!({"source": "*", "port": "22"});
    assert_eq!(saw["seen"][0], json!([rule, rule]), "one before the interface, one before its subnet");
    assert_eq!(saw["seen"].as_array().unwrap().last(), Some(&json!([])), "both go");
    let ends = (begun + TimeDelta::hours(1)).to_rfc3339();
    let record = json!({"port": 22, "status": "Initiated", "reason": "UserRequested", "ends": ends});
    assert_eq!(saw["records"], json!([record]), "JIT's record stays as it was");

    assert_eq!(answered(&story.sandbox, "/initiate/action"), [202]);
    assert_eq!((story.ours(INITIATE).len(), story.ours(DELETE).len()), (0, 2));
    story.pass(300).await;
    story.is_proved_shut("web-1", 22);
    for close in story.audits_of("close") {
        assert_eq!((&close["code"], &close["claims"][0]["objectId"]), (&json!("any-source"), &json!(estate::CLIENT_OBJECT_ID)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn microsofts_rest_client_sends_locks_renews_gives_back_and_completes() {
    let (sandbox, _dir) = sandbox(Clock::Standing, |_| {}).await;
    let begun = sandbox.now();
    let mut command = node("queue.mjs");
    command.arg("alerts");
    let saw = saw(command, &sandbox).await;
    let statuses = [
        ("sent", 201),
        ("first", 201),
        ("whileLocked", 204),
        ("renewed", 200),
        ("unlocked", 200),
        ("second", 201),
        ("completed", 200),
        ("again", 404),
        ("empty", 204),
        ("early", 204),
        ("scheduled", 200),
        ("lost", 404),
        ("back", 200),
        ("nowhere", 410),
        ("withKey", 401),
    ];
    assert_eq!(saw.as_object().unwrap().len(), statuses.len());
    for (step, status) in statuses {
        assert_eq!(saw[step]["status"], status, "{step}: {}", saw[step]);
    }
    assert!(saw["withKey"]["error"].as_str().unwrap().starts_with("LocalAuthDisabled"), "{}", saw["withKey"]);

    let after = |seconds| (begun + TimeDelta::seconds(seconds)).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    for (read, deliveries, locked_until) in [("first", 1, 60), ("second", 2, 150)] {
        let message = &saw[read]["message"];
        assert_eq!((&message["body"], &message["contentType"]), (&json!(r#"{"n":1}"#), &json!("application/json")));
        let own = &message["customProperties"];
        assert_eq!((&own["attempt"], &own["urgent"], &own["note"]), (&json!(3), &json!(true), &json!("two words")));
        let properties = &message["brokerProperties"];
        let sent = ["MessageId", "CorrelationId", "Label", "TimeToLive"].map(|name| &properties[name]);
        assert_eq!(sent, [&json!("m-1"), &json!("c-1"), &json!("trial"), &json!(600)]);
        assert_eq!((&properties["DeliveryCount"], &properties["State"]), (&json!(deliveries), &json!("Active")));
        assert_eq!((&properties["EnqueuedTimeUtc"], &properties["LockedUntilUtc"]), (&json!(after(0)), &json!(after(locked_until))));
        let location = message["location"].as_str().unwrap();
        assert!(location.ends_with(properties["LockToken"].as_str().unwrap()), "{location}");
    }
    let scheduled = &saw["scheduled"]["message"];
    assert_eq!((&scheduled["body"], &scheduled["contentType"]), (&json!("later"), &json!("text/plain")));
    let properties = &scheduled["brokerProperties"];
    assert_eq!((&properties["MessageId"], &properties["EnqueuedTimeUtc"]), (&json!("m-2"), &json!(after(300))));
    assert_eq!(saw["back"]["message"]["brokerProperties"]["DeliveryCount"], 2, "a lost lock gives the message back");
    let state = sandbox.world.lock();
    assert!(state.queues["alerts"].messages.is_empty() && state.queues["alerts"].dead_letters.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn azures_reader_of_events_reads_every_event_under_every_setting() {
    let (sandbox, dir) = sandbox(Clock::Standing, |_| {}).await;
    let mut calls: Vec<Value> = Vec::new();
    for schema in EventSchema::ALL {
        for resource in EventResource::ALL {
            for case in LetterCase::ALL {
                {
                    let switches = &mut sandbox.world.lock().switches;
                    (switches.event_schema, switches.event_resource, switches.letter_case) = (*schema, *resource, *case);
                }
                let second = policy().replace("/default", "/second");
                let port = json!({"number": 22, "protocol": "TCP", "allowedSourceAddressPrefix": "*", "maxRequestAccessDuration": "PT3H"});
                let body = json!({"kind": "Basic", "properties": {"virtualMachines": [{"id": vm("db-1"), "ports": [port]}]}});
                assert_eq!(asked(&sandbox, Method::PUT, &second, Some(body)).await, 200);
                let end = (sandbox.now() + TimeDelta::hours(1)).to_rfc3339();
                let port = json!({"number": 22, "allowedSourceAddressPrefix": "203.0.113.7", "endTimeUtc": end});
                let body = json!({"virtualMachines": [{"id": vm("db-1"), "ports": [port]}]});
                assert_eq!(asked(&sandbox, Method::POST, &format!("{second}/initiate"), Some(body)).await, 202);
                assert_eq!(asked(&sandbox, Method::DELETE, &second, None).await, 200);
                let published: Vec<Value> = sandbox.world.lock().event_grid.pending.drain(..).map(|event| event.body).collect();
                let initiates = if *resource == EventResource::Both { 2 } else { 1 };
                assert_eq!(published.len(), 2 + initiates, "{schema:?} {resource:?} {case:?}");
                calls.extend(published.into_iter().map(|event| json!([event])));
            }
        }
    }
    let file = dir.path().join("events.json");
    std::fs::write(&file, json!(calls).to_string()).unwrap();
    let mut command = node("events.mjs");
    command.arg(&file);
    let read = saw(command, &sandbox).await;
    let read = read.as_array().unwrap();
    assert_eq!(read.len(), calls.len());
    for (read, published) in read.iter().zip(&calls) {
        let published = &published[0];
        let kind = published.get("eventType").or(published.get("type")).unwrap();
        assert_eq!(read["is"], json!([kind]), "a system event that the client knows, and no other");
        let mut event = read["event"].clone();
        // The client makes a date of it, of milliseconds.
        for name in ["eventTime", "time"] {
            let at = |event: &Value| event[name].as_str().map(|at| at.parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp_millis());
            assert_eq!(at(&event), at(published));
            if let Some(time) = event.get_mut(name) {
                *time = published[name].clone();
            }
        }
        assert_eq!(&event, published, "nothing is lost");
        assert_eq!(published["subject"], published["data"]["resourceUri"]);
    }

    for missing in ["eventTime", "source"] {
        let mut event = calls.iter().map(|call| call[0].clone()).find(|event| event.get(missing).is_some()).unwrap();
        event.as_object_mut().unwrap().remove(missing);
        std::fs::write(&file, json!([[event]]).to_string()).unwrap();
        let mut command = node("events.mjs");
        command.arg(&file);
        let refused = crate::judge::ended(command, &sandbox).await;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(&format!("missing required property '{missing}'")), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn azures_python_client_finds_the_stores_conditions_pages_and_refusals() {
    let (sandbox, _dir) = sandbox(Clock::Standing, |_| {}).await;
    let mut command = python("store.py");
    command.arg("audit");
    let saw = saw(command, &sandbox).await;
    let refused = |name: &str, status: u16, code: &str| json!({"name": name, "status": status, "code": code});
    let changed = refused("ResourceModifiedError", 412, "StorageErrorCode.CONDITION_NOT_MET");
    assert_eq!((&saw["stale"], &saw["still"]), (&changed, &changed), "under If-Match of the first version");
    assert_eq!(saw["twice"], refused("ResourceExistsError", 409, "BlobAlreadyExists"));
    assert_eq!(saw["gone"], refused("ResourceNotFoundError", 404, "BlobNotFound"));
    assert_eq!(saw["elsewhere"], refused("ClientAuthenticationError", 401, "InvalidAuthenticationInfo"));
    assert_eq!(saw["nobody"], refused("ClientAuthenticationError", 401, "NoAuthenticationInformation"));
    assert_ne!(saw["etags"][0], saw["etags"][1]);
    assert_eq!((&saw["content"], &saw["type"]), (&json!(r#"{"n":2}"#), &json!("application/json")));
    assert_eq!(saw["pages"], json!([["trial/0", "trial/1", "trial/2", "trial/3"], ["trial/4", "trial/a b.json"]]));
    assert_eq!(saw["folders"], json!(["trial/"]));
    let state = sandbox.world.lock();
    let left: Vec<(&str, &str)> =
        state.containers["audit"].blobs.iter().map(|(name, blob)| (name.as_str(), blob.content.as_str())).collect();
    assert_eq!(left, [("trial/0", "0"), ("trial/1", "1"), ("trial/2", "2"), ("trial/3", "3"), ("trial/4", "4")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_azures_python_client_sends_as_the_apps_identity_come_in_whole() {
    let (sandbox, _dir) = sandbox(Clock::Standing, |_| {}).await;
    let mut command = python("rows.py");
    command.arg("120");
    let saw = saw(command, &sandbox).await;
    let refused = |code: &str| json!({"name": "ResourceNotFoundError", "status": 404, "code": code});
    assert_eq!(saw, json!({"signedIn": true, "refused": {"stream": refused("InvalidStream"), "rule": refused("NotFound")}}));
    let state = sandbox.world.lock();
    let of_logs = || state.log.iter().filter(|entry| entry.face == "logs");
    assert_eq!(of_logs().map(|entry| entry.status).collect::<Vec<_>>(), [204, 204, 204, 404, 404]);
    assert!(of_logs().all(|entry| entry.object_id == estate::PRODUCT_OBJECT_ID));
    let expected = |n: usize| json!({"EventUid": n.to_string(), "EventMessage": format!("{:x<20000}", format!("{n} "))});
    assert_eq!(state.rows.iter().map(|row| row.row.clone()).collect::<Vec<_>>(), (0..120).map(expected).collect::<Vec<_>>());
}

/// The blocks of docs/sandbox.md in this language.
fn examples(language: &str) -> Vec<String> {
    let document = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sandbox.md")).unwrap();
    let begins = format!("\n```{language}\n");
    document.split(&begins).skip(1).map(|rest| rest.split("\n```").next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_document_run_as_they_stand() {
    let (sandbox, _dir) = with_an_opening().await;
    let rules = rules(&sandbox);
    let rules = names(&rules);
    let marker = "portcullis";

    let [py] = examples("python").try_into().expect("one block");
    let mut command = crate::judge::interpreter();
    command.args(["-c", &py]);
    let printed = output(command, &sandbox).await;
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[0], format!("['{}']", rules.join("', '")));
    assert_eq!(lines[1], "['default']");
    assert!(lines[2].starts_with("b'{") && lines[2].contains(marker), "{printed}");

    let [resources, bus, events] = examples("js").try_into().expect("three blocks");
    let run = async |block: &str| {
        let mut command = crate::judge::javascript();
        command.args(["--input-type=module", "--eval", block]);
        output(command, &sandbox).await
    };
    assert_eq!(run(&resources).await.lines().collect::<Vec<_>>(), [&rules[..], &["default"]].concat());
    assert_eq!(run(&bus).await, "m-1\n");
    assert!(sandbox.world.lock().queues["alerts"].messages.is_empty(), "it was completed");
    let told = run(&events).await;
    assert!(told.starts_with(INITIATE) && told.lines().count() == 1, "{told}");
}
