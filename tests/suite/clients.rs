//! The clients against the sandbox: real TLS, real tokens, the world's clock.
//!
//! A story runs in a process of its own, since trust in the sandbox's authority comes from the environment and a
//! test does not change its own: the test starts itself again with the sandbox's variables and looks at the world
//! when that process has ended.

use std::ops::ControlFlow;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use portcullis::azure::blob::{Create, Read, Remove, Replace};
use portcullis::azure::servicebus::Options;
use portcullis::azure::{Azure, FailureKind};
use portcullis::settings::Settings;
use portcullis::telemetry::trace;
use portcullis_domain::arm_id::{ArmId, NicId, NsgId, PolicyId, VmId};
use portcullis_domain::json::tree;
use portcullis_sandbox::estate;
use portcullis_sandbox::faults::{Effect, Fault};
use portcullis_sandbox::sandbox::{Sandbox, SandboxOptions};
use portcullis_sandbox::state::State;
use serde_json::value::RawValue;
use serde_json::{Value, json};

const IN_STORY: &str = "PORTCULLIS_TEST_STORY";

/// A part inside makes a few calls; a machine that is busy with a build takes a multiple.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Which of its two parts a test is playing.
enum Part {
    /// Inside the sandbox's environment, with the clients.
    Inside(Box<Azure>, Box<Settings>),
    /// After the part inside has ended well, with the world as it left it, and the sandbox that goes on.
    After(Box<State>, Box<Left>),
}

/// A sandbox and the folder that it lives in.
struct Left {
    sandbox: Sandbox,
    _dir: tempfile::TempDir,
}

/// Runs the test `name` again inside a fresh sandbox and gives the world afterwards; inside, gives the clients.
#[expect(clippy::disallowed_methods, reason = "the part inside reads the sandbox's settings as the handler does")]
async fn part(name: &str, prepare: impl FnOnce(&mut State)) -> Part {
    if story_is(name) {
        let settings =
            Settings::from_lookup(|name| std::env::var(name).ok(), std::env::vars().map(|(name, _)| name).filter(|name| name != IN_STORY));
        let settings = settings.expect("the sandbox's settings are valid");
        assert!(settings.loopback());
        return Part::Inside(Box::new(Azure::new(&settings)), Box::new(settings));
    }
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(SandboxOptions::new(dir.path())).await.unwrap();
    prepare(&mut sandbox.world.lock());
    sandbox.world.name_trace("4bf92f3577b34da6a3ce929d0e0e4736", "approval", "invocation-1");
    let mut again = tokio::process::Command::new(std::env::current_exe().unwrap());
    again.args([&format!("clients::{name}"), "--exact", "--nocapture", "--test-threads=1"]).kill_on_drop(true);
    again.env_clear().envs(sandbox.env.iter().cloned()).env(IN_STORY, name);
    let output = tokio::time::timeout(ENDS_WITHIN, again.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{name} did not end within {ENDS_WITHIN:?}")).unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    let state = sandbox.world.lock().clone();
    Part::After(Box::new(state), Box::new(Left { sandbox, _dir: dir }))
}

#[expect(clippy::disallowed_methods, reason = "a test that starts itself again tells its parts apart by the environment")]
fn story_is(name: &str) -> bool {
    static STORY: OnceLock<Option<String>> = OnceLock::new();
    STORY.get_or_init(|| std::env::var(IN_STORY).ok()).as_deref() == Some(name)
}

fn fault(face: &str, method: &str, path: &str, times: Option<u32>, effect: Effect) -> Fault {
    serde_json::from_value(json!({"face": face, "method": method, "path": path, "times": times, "effect": effect})).unwrap()
}

type Each = Box<dyn FnMut(Vec<&RawValue>) -> ControlFlow<()> + Send>;

async fn first<F>(read: impl FnOnce(Each) -> F) -> Vec<Value>
where
    F: Future<Output = Result<(), portcullis::azure::CallFailed>>,
{
    let all = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let into = all.clone();
    read(Box::new(move |page| {
        into.lock().unwrap().extend(page.into_iter().map(tree));
        ControlFlow::Continue(())
    }))
    .await
    .unwrap();
    let all = all.lock().unwrap();
    all.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_estate_is_read() {
    let Part::Inside(azure, _) = part("the_estate_is_read", |_| {}).await else { return };
    let subscriptions = azure.subscriptions.visible().await.unwrap();
    let subscription = subscriptions.first().expect("a subscription");
    let mut policies = Vec::new();
    let listing = azure.jit.list(subscription, |page| {
        policies.extend(page.into_iter().map(Result::unwrap));
        ControlFlow::Continue(())
    });
    listing.await.unwrap();
    let nics = first(|each| azure.network.nics(subscription, each)).await;
    let nsgs = first(|each| azure.network.nsgs(subscription, each)).await;
    for (is_empty, what) in [(policies.is_empty(), "policies"), (nics.is_empty(), "NICs"), (nsgs.is_empty(), "NSGs")] {
        assert!(!is_empty, "no {what}");
    }
    let id = |list: &[Value]| list[0]["id"].as_str().unwrap().to_owned();
    let (policy, vm) = (&policies[0].id, &policies[0].vms[0].vm);
    assert_eq!(azure.jit.get(policy).await.unwrap().as_ref(), Ok(&policies[0]));
    let of_group: Vec<_> = policies.iter().cloned().map(Ok).collect();
    assert_eq!(azure.jit.list_in_group(&policy.subscription(), &policy.resource_group()).await.unwrap(), of_group);
    assert_eq!(azure.compute.get(vm).await.unwrap()["name"], vm.name());
    assert_eq!(azure.network.nic(&NicId::parse(&id(&nics)).unwrap()).await.unwrap()["name"], nics[0]["name"]);
    assert_eq!(azure.network.nsg(&NsgId::parse(&id(&nsgs)).unwrap()).await.unwrap()["name"], nsgs[0]["name"]);
    let gone = VmId::parse(&format!("{vm}-gone")).unwrap();
    assert_eq!(azure.compute.get(&gone).await.unwrap_err().kind, FailureKind::NotFound);
    let nowhere = ArmId::parse("/subscriptions/00000000-0000-0000-0000-00000000dead").unwrap();
    assert!(azure.arm.get("reading", &nowhere, portcullis::azure::arm::ApiVersion::SUBSCRIPTIONS).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_keeps_its_conditions_and_tells_its_clock() {
    let name = "the_store_keeps_its_conditions_and_tells_its_clock";
    let (azure, settings) = match part(name, |state| state.now = "2030-06-01T12:00:00Z".parse().unwrap()).await {
        Part::Inside(azure, settings) => (azure, settings),
        Part::After(state, _) => {
            let blobs = &state.containers["state"].blobs;
            assert_eq!(blobs.get("vm/a b.json").map(|blob| blob.content.as_str()), Some("{\"n\":2}"));
            let puts: Vec<_> =
                state.log.iter().filter(|entry| entry.face == "blob" && entry.function.as_deref() == Some("approval")).collect();
            assert!(!puts.is_empty(), "writes inside a trace are the invocation's");
            return;
        }
    };
    let container = settings.state_container.as_str();
    let now = "2030-06-01T12:00:00Z".parse().unwrap();
    let blobs = &azure.blobs;
    let body = |n: u32| Bytes::from(format!("{{\"n\":{n}}}"));
    assert_eq!(blobs.get(container, "vm/a b.json").await.unwrap(), Read::Missing { date: now });
    let created = trace::within(trace::parse(TRACE).map(trace::of), blobs.create(container, "vm/a b.json", body(1))).await.unwrap();
    let Create::Created { etag: first, date } = created else { panic!("{created:?}") };
    assert_eq!(date, now);
    assert_eq!(blobs.create(container, "vm/a b.json", body(9)).await.unwrap(), Create::Exists { date: now });
    let Replace::Replaced { etag: second, .. } = blobs.replace(container, "vm/a b.json", body(2), &first).await.unwrap() else {
        panic!("replaced")
    };
    assert_ne!(first, second);
    assert_eq!(blobs.replace(container, "vm/a b.json", body(3), &first).await.unwrap(), Replace::Changed { date: now });
    assert_eq!(blobs.replace(container, "vm/none.json", body(3), &first).await.unwrap(), Replace::Changed { date: now });
    assert_eq!(blobs.get(container, "vm/a b.json").await.unwrap(), Read::Found { body: body(2), etag: second.clone(), date: now });
    for n in 0..7 {
        blobs.create(container, &format!("due/{n}"), body(n)).await.unwrap();
    }
    let mut listed = Vec::new();
    let date = blobs.list(container, "due/", 3, |page| {
        assert!(page.len() <= 3);
        listed.extend(page);
        ControlFlow::Continue(())
    });
    assert_eq!(date.await.unwrap(), now);
    assert_eq!(
        listed.iter().map(|blob| blob.name.as_str()).collect::<Vec<_>>(),
        ["due/0", "due/1", "due/2", "due/3", "due/4", "due/5", "due/6"]
    );
    let etag = listed[0].etag.clone().expect("a version in the list");
    assert_eq!(blobs.delete(container, "due/1", Some(&etag)).await.unwrap(), Remove::Changed { date: now });
    assert_eq!(blobs.delete(container, "due/0", Some(&etag)).await.unwrap(), Remove::Deleted { date: now });
    assert_eq!(blobs.delete(container, "due/0", None).await.unwrap(), Remove::Missing { date: now });
    let missing = blobs.get("nowhere", "x").await.unwrap_err();
    assert!(missing.is_missing_container(), "{missing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_and_rows_go_out() {
    let azure = match part("messages_and_rows_go_out", |_| {}).await {
        Part::Inside(azure, _) => azure,
        Part::After(state, _) => {
            let messages = &state.queues["approval"].messages;
            assert_eq!(messages.len(), 2);
            assert_eq!(messages[0].body, r#"{"portcullis":{"kind":"x"}}"#);
            let at = state.now + chrono::TimeDelta::minutes(5);
            assert_eq!(
                (messages[0].scheduled_for, messages[1].scheduled_for),
                (None, Some(at)),
                "the documented form of the time is understood"
            );
            assert_eq!(messages[1].properties.get("MessageId"), Some(&json!("m-2")));
            let rows: Vec<&Value> = state.rows.iter().map(|row| &row.row).collect();
            assert_eq!(rows, [&json!({"EventUid": "1"}), &json!({"EventUid": "2", "EventMessage": "x".repeat(2000)})]);
            return;
        }
    };
    let body = r#"{"portcullis":{"kind":"x"}}"#;
    azure.bus.send("approval", body, Options::default()).await.unwrap();
    let at = azure.service_time().await.unwrap() + chrono::TimeDelta::minutes(5);
    let options =
        Options { message_id: Some("m-2".to_owned()), at: Some(at), time_to_live: Some(Duration::from_secs(600)), ..Options::default() };
    azure.bus.send("approval", body, options).await.unwrap();
    assert_eq!(azure.bus.send("nowhere", body, Options::default()).await.unwrap_err().kind, FailureKind::NotFound);
    azure.logs.ingest(&[json!({"EventUid": "1"}), json!({"EventUid": "2", "EventMessage": "x".repeat(2000)})]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_is_read_by_microsofts_rest_client() {
    let bodies = [r#"{"portcullis":{"kind":"now"}}"#, r#"{"portcullis":{"kind":"later","why":"ein Gedankenstrich – so"}}"#];
    let left = match part("what_is_sent_is_read_by_microsofts_rest_client", |_| {}).await {
        Part::Inside(azure, _) => {
            let at = azure.service_time().await.unwrap() + chrono::TimeDelta::minutes(5);
            let options = |id: &str, at| Options {
                message_id: Some(id.to_owned()),
                correlation_id: Some("c-1".to_owned()),
                time_to_live: Some(Duration::from_secs(900)),
                at,
            };
            azure.bus.send("approval", bodies[0], options("m-1", None)).await.unwrap();
            azure.bus.send("approval", bodies[1], options("m-2", Some(at))).await.unwrap();
            return;
        }
        Part::After(_, left) => left,
    };
    let sandbox = &left.sandbox;
    let read = async || {
        let mut command = crate::judge::node("messages.mjs");
        command.arg("approval");
        crate::judge::saw(command, sandbox).await
    };
    let sent = sandbox.now();
    let told = |at: chrono::DateTime<chrono::Utc>| at.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    for (n, (id, enqueued)) in [("m-1", sent), ("m-2", sent + chrono::TimeDelta::minutes(5))].into_iter().enumerate() {
        let read = read().await;
        assert_eq!(read.as_array().unwrap().len(), 1, "{id} and no other: {read}");
        let properties = &read[0]["brokerProperties"];
        assert_eq!((read[0]["body"].as_str(), read[0]["contentType"].as_str()), (Some(bodies[n]), Some("application/json")));
        assert_eq!((&properties["MessageId"], &properties["CorrelationId"]), (&json!(id), &json!("c-1")));
        assert_eq!((&properties["TimeToLive"], &properties["EnqueuedTimeUtc"]), (&json!(900), &json!(told(enqueued))), "{properties}");
        sandbox.engine.advance_by(chrono::TimeDelta::minutes(5)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_several_megabytes_go_out_in_several_calls_and_none_is_lost() {
    let rows: Vec<Value> = (0..40).map(|n| json!({"EventUid": n.to_string(), "EventMessage": format!("{n} ").repeat(20_000)})).collect();
    let azure = match part("rows_of_several_megabytes_go_out_in_several_calls_and_none_is_lost", |_| {}).await {
        Part::Inside(azure, _) => azure,
        Part::After(state, _) => {
            let calls: Vec<u16> = state.log.iter().filter(|entry| entry.face == "logs").map(|entry| entry.status).collect();
            assert_eq!(calls, [204, 204, 204]);
            assert_eq!(state.rows.iter().map(|row| &row.row).collect::<Vec<_>>(), rows.iter().collect::<Vec<_>>());
            return;
        }
    };
    assert!(rows.iter().map(|row| row.to_string().len()).sum::<usize>() > 2_000_000);
    azure.logs.ingest(&rows).await.unwrap();
}

/// Moves the world's clock from inside.
#[expect(clippy::disallowed_methods, reason = "the part inside finds the control API as any other program does")]
async fn passes(seconds: u32) {
    let env = |name: &str| std::env::var(name).unwrap();
    let ca = std::fs::read_to_string(env("SSL_CERT_FILE")).unwrap();
    let http = portcullis_sandbox::host::client::trusting(&ca).unwrap();
    let clock = http.post(format!("{}/clock", env("SANDBOX_CONTROL_URL"))).bearer_auth(env("SANDBOX_CONTROL_TOKEN"));
    let moved = clock.json(&json!({"advance": format!("PT{seconds}S")})).send().await.unwrap();
    assert_eq!(moved.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_initiate_opens_and_the_activity_log_tells_of_it_minutes_later() {
    let name = "an_initiate_opens_and_the_activity_log_tells_of_it_minutes_later";
    let vm = estate::resource_id(estate::SUBSCRIPTION, estate::GROUP, "Microsoft.Compute/virtualMachines", "web-1");
    let kind = format!("Microsoft.Security/locations/{}/jitNetworkAccessPolicies", estate::LOCATION);
    let policy = estate::resource_id(estate::SUBSCRIPTION, estate::GROUP, &kind, "default");
    let prepare = |state: &mut State| state.switches.activity_log_seconds = 300;
    let azure = match part(name, prepare).await {
        Part::Inside(azure, _) => azure,
        Part::After(state, _) => {
            let records = &state.resources.get(&policy).unwrap()["properties"]["requests"];
            let port = &records[0]["virtualMachines"][0]["ports"][0];
            assert_eq!((records.as_array().unwrap().len(), port["number"].as_u64(), &port["status"]), (1, Some(22), &json!("Initiated")));
            let asked: Vec<_> = state.log.iter().filter(|entry| entry.what.ends_with("/initiate/action")).collect();
            assert_eq!((asked.len(), asked[0].status, asked[0].object_id.as_str()), (1, 202, estate::PRODUCT_OBJECT_ID));
            return;
        }
    };
    let now = azure.service_time().await.unwrap();
    let end = (now + chrono::TimeDelta::hours(1)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let port = json!({"number": 22, "allowedSourceAddressPrefix": "203.0.113.4", "endTimeUtc": end});
    let body = json!({"virtualMachines": [{"id": vm, "ports": [port]}], "justification": "a trial"});
    let policy = PolicyId::parse(&policy).unwrap();
    let record = azure.jit.initiate(&policy, &body).await.unwrap().record;
    let (start, asked) = (record["startTimeUtc"].as_str().unwrap(), &record["virtualMachines"][0]);
    assert_eq!(start.parse::<chrono::DateTime<chrono::Utc>>().unwrap(), now);
    assert_eq!((asked["id"].as_str(), asked["ports"].as_array().unwrap().len()), (Some(vm.as_str()), 1));
    let told = &asked["ports"][0];
    assert_eq!((&told["number"], &told["status"], &told["endTimeUtc"]), (&json!(22), &json!("Initiating"), &json!(end)));
    assert_eq!((&told["allowedSourceAddressPrefix"], &record["justification"]), (&json!("203.0.113.4"), &json!("a trial")));

    let subscription = policy.subscription().parse().unwrap();
    let (from, to) = (now - chrono::TimeDelta::days(1), now + chrono::TimeDelta::hours(1));
    let told_of = async |resource: &ArmId| {
        let entries = first(|each| azure.activity_log.query(&subscription, from, to, Some(resource), each)).await;
        assert!(entries.iter().all(|entry| entry["resourceId"].as_str().unwrap().eq_ignore_ascii_case(&resource.to_string())));
        entries.iter().map(|entry| entry["operationName"]["value"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(told_of(policy.arm_id()).await, Vec::<String>::new());
    passes(299).await;
    assert_eq!(told_of(policy.arm_id()).await, Vec::<String>::new());
    passes(60).await;
    let told = told_of(policy.arm_id()).await;
    let initiate = "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action";
    assert!(!told.is_empty() && told.iter().all(|what| what.eq_ignore_ascii_case(initiate)), "{told:?}");
    let other = ArmId::parse(&vm.replace("web-1", "web-2")).unwrap();
    assert_eq!(told_of(&other).await, Vec::<String>::new(), "nothing was asked for another VM");
    let all = first(|each| azure.activity_log.query(&subscription, from, to, None, each)).await;
    assert!(all.len() > told.len(), "without a resource all that happened is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_told_apart_on_the_wire() {
    let prepare = |state: &mut State| {
        state.faults = vec![
            fault("arm", "GET", "/networkSecurityGroups", None, Effect::status(429, Some(1200))),
            fault("arm", "GET", "/networkInterfaces", Some(1), Effect::status(503, Some(1))),
            fault("arm", "GET", "/jitNetworkAccessPolicies", None, Effect::status(403, None)),
            fault("arm", "POST", "/initiate", None, Effect::CutAfter),
            fault("blob", "PUT", "cut-after", None, Effect::CutAfter),
            fault("servicebus", "POST", "/sweep/", None, Effect::CutBefore),
            fault("logs", "POST", "", None, Effect::status(403, None)),
        ];
    };
    let azure = match part("failures_are_told_apart_on_the_wire", prepare).await {
        Part::Inside(azure, _) => azure,
        Part::After(state, _) => {
            assert!(state.containers["state"].blobs.contains_key("cut-after"), "the effect was there though the answer was lost");
            return;
        }
    };
    let subscription = azure.subscriptions.visible().await.unwrap()[0];
    let never = |_: Vec<&RawValue>| ControlFlow::Continue(());
    let throttled = azure.network.nsgs(&subscription, never).await.unwrap_err();
    assert_eq!((throttled.kind, throttled.retry_after), (FailureKind::Throttled, Some(Duration::from_secs(1200))));
    azure.network.nics(&subscription, never).await.expect("a short wait is waited for");
    assert_eq!(azure.jit.list(&subscription, |_| ControlFlow::Continue(())).await.unwrap_err().kind, FailureKind::MissingRight);
    let policy = format!(
        "/subscriptions/{subscription}/resourceGroups/rg/providers/Microsoft.Security/locations/westeurope/jitNetworkAccessPolicies/default"
    );
    let doubtful = azure.jit.initiate(&PolicyId::parse(&policy).unwrap(), &json!({})).await.unwrap_err();
    assert_eq!((doubtful.kind, doubtful.may_have_happened()), (FailureKind::Doubtful, true));
    assert_eq!(azure.blobs.create("state", "cut-after", Bytes::from("{}")).await.unwrap_err().kind, FailureKind::Doubtful);
    assert_eq!(azure.bus.send("sweep", "{}", Options::default()).await.unwrap_err().kind, FailureKind::Doubtful);
    assert_eq!(azure.logs.ingest(&[json!({})]).await.unwrap_err().cause.kind, FailureKind::MissingRight);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_sign_in_is_told_as_one() {
    let prepare = |state: &mut State| state.faults = vec![fault("identity", "*", "", None, Effect::status(400, None))];
    let Part::Inside(azure, _) = part("a_failing_sign_in_is_told_as_one", prepare).await else { return };
    let failed = azure.subscriptions.visible().await.unwrap_err();
    assert_eq!((failed.kind, failed.may_have_happened()), (FailureKind::NotSignedIn, false), "{failed}");
}
