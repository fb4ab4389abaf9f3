//! The sandbox before a judge that knows nothing of it: the published specification of JIT, held by Prism between the
//! caller and the sandbox.

use crate::judge::{Judge, node, sandbox};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use portcullis_sandbox::engine::Clock;
use portcullis_sandbox::sandbox::Sandbox;
use portcullis_sandbox::state::State;
use portcullis_sandbox::{entra, estate};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

const SPECIFICATION: &str = include_str!("../spec/jit-network-access-policies-2020-01-01.json");

const ARM: &str = "https://management.azure.com";

/// Fields that recorded answers of the service have and the published specification does not. Of all others that it
/// does not name, one is a violation.
///
/// `appendMode`: false in every answer that was recorded since 2021.
const FIELDS_BESIDES_THE_SPECIFICATION: [&str; 1] = ["appendMode"];

/// The statuses of a record: the two of the published specification, and `Initiating`, which every recorded answer to
/// an initiate has and the specification's own example too.
const STATUSES: [&str; 3] = ["Revoked", "Initiated", "Initiating"];

/// The reasons of the published specification; no other was recorded.
const STATUS_REASONS: [&str; 3] = ["Expired", "UserRequested", "NewerRequestInitiated"];

/// The specification as the judge holds it: stricter than it was published, since that one lets any other field and
/// any other status pass, and no stricter than what was recorded.
fn the_judges_specification() -> Value {
    let mut specification: Value = serde_json::from_str(SPECIFICATION).unwrap();
    let definitions = specification["definitions"].as_object_mut().unwrap();
    for (name, definition) in definitions.iter_mut().filter(|(name, _)| *name != "CloudError") {
        assert_eq!(definition["type"], "object", "{name}");
        definition["additionalProperties"] = json!(false);
    }
    let policy = definitions["JitNetworkAccessPolicyProperties"]["properties"].as_object_mut().unwrap();
    for field in FIELDS_BESIDES_THE_SPECIFICATION {
        assert!(policy.contains_key(field), "the copied specification says what {field} is");
    }
    let port = &mut definitions["JitNetworkAccessRequestPort"]["properties"];
    port["status"]["enum"] = json!(STATUSES);
    port["statusReason"]["enum"] = json!(STATUS_REASONS);
    // An error without a code and a message is none that a client could use (ARM's resource provider contract).
    let error = &mut definitions["CloudError"];
    error["required"] = json!(["error"]);
    error["properties"]["error"]["required"] = json!(["code", "message"]);
    specification
}

/// A sandbox and, before its ARM, the judge: every exchange of [`Court::ask`] keeps to the specification.
struct Court {
    sandbox: Sandbox,
    prism: Judge,
    http: reqwest::Client,
    _dir: TempDir,
}

impl Court {
    async fn sits(prepare: impl FnOnce(&mut State)) -> Court {
        let (sandbox, dir) = sandbox(Clock::Standing, prepare).await;
        let specification = dir.path().join("specification.json");
        std::fs::write(&specification, the_judges_specification().to_string()).unwrap();
        let mut command = node("node_modules/@stoplight/prism-cli/dist/index.js");
        command.arg("proxy").arg(&specification).arg(sandbox.url("arm"));
        command.args(["--errors", "--host", "127.0.0.1", "--port", "0"]).env("NODE_EXTRA_CA_CERTS", dir.path().join("ca.pem"));
        let prism = Judge::start("Prism", command).await;
        let http = sandbox.client().unwrap();
        Court { sandbox, prism, http, _dir: dir }
    }

    /// An exchange as somebody, before the judge: the status and the body, and what the judge holds against it.
    async fn exchange(&self, who: &str, method: Method, path: &str, body: Option<&Value>) -> (u16, Value, Option<String>) {
        let mark = if path.contains('?') { '&' } else { '?' };
        let mut request = self.http.request(method, format!("{}{path}{mark}api-version=2020-01-01", self.prism.url));
        let token = entra::mint(&self.sandbox.world.lock(), who, ARM);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let violations = header("sl-violations");
        let is_prisms_own = header("content-type").is_some_and(|kind| kind.starts_with("application/problem+json"));
        let text = answer.text().await.unwrap();
        let violations = violations.or_else(|| is_prisms_own.then(|| text.clone()));
        (status, serde_json::from_str(&text).unwrap_or(Value::Null), violations)
    }

    /// The same for an exchange against which the judge may hold nothing.
    async fn ask_as(&self, who: &str, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let (status, answer, violations) = self.exchange(who, method.clone(), path, body).await;
        if let Some(violations) = violations {
            panic!("{method} {path} ({status}) breaks the specification: {violations}\n{}", self.prism.said());
        }
        (status, answer)
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.ask_as(estate::ADMIN_OBJECT_ID, method, path, body).await
    }

    async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    async fn pass(&self, seconds: i64) {
        self.sandbox.engine.advance_by(TimeDelta::seconds(seconds)).await.unwrap();
    }

    /// Somebody asks for port 22 of a VM for so many seconds; gives the answer, which must be a record.
    async fn initiate(&self, name: &str, source: &str, seconds: i64) -> Value {
        let body = self.wish(name, json!({"number": 22, "allowedSourceAddressPrefix": source}), seconds);
        let (status, record) = self.ask(Method::POST, &format!("{}/initiate", policy("default")), Some(&body)).await;
        assert_eq!(status, 202, "{record}");
        record
    }

    fn wish(&self, name: &str, mut port: Value, seconds: i64) -> Value {
        port["endTimeUtc"] = json!(instant(self.sandbox.now() + TimeDelta::seconds(seconds)));
        json!({"virtualMachines": [{"id": vm(name), "ports": [port]}], "justification": "a story"})
    }

    /// Status and reason of every port of every record, sorted.
    async fn records(&self) -> Vec<(String, String)> {
        let policy = self.get(&policy("default")).await;
        let mut all: Vec<(String, String)> = ports(&policy["properties"]["requests"]).into_iter().map(|port| told(&port)).collect();
        all.sort();
        all
    }
}

fn ports(records: &Value) -> Vec<Value> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    list(records).iter().flat_map(|record| list(&record["virtualMachines"])).flat_map(|vm| list(&vm["ports"])).collect()
}

fn told(port: &Value) -> (String, String) {
    (port["status"].as_str().unwrap_or_default().to_owned(), port["statusReason"].as_str().unwrap_or_default().to_owned())
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn subscription() -> String {
    format!("/subscriptions/{}", estate::SUBSCRIPTION)
}

fn in_group(rest: &str) -> String {
    format!("{}/resourceGroups/{}/providers/{rest}", subscription(), estate::GROUP)
}

fn policy(name: &str) -> String {
    in_group(&format!("Microsoft.Security/locations/{}/jitNetworkAccessPolicies/{name}", estate::LOCATION))
}

fn vm(name: &str) -> String {
    in_group(&format!("Microsoft.Compute/virtualMachines/{name}"))
}

/// A policy as a caller sends it: one VM, one port.
fn a_policy(vm_id: &str, port: u16, longest: &str) -> Value {
    let port = json!({"number": port, "protocol": "TCP", "allowedSourceAddressPrefix": "*", "maxRequestAccessDuration": longest});
    json!({"kind": "Basic", "properties": {"virtualMachines": [{"id": vm_id, "ports": [port]}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scope_lists_the_policies_as_specified_page_by_page() {
    let court = Court::sits(|state| state.switches.page_size = 1).await;
    court.ask(Method::PUT, &policy("second"), Some(&a_policy(&vm("db-1"), 5985, "PT3H"))).await;
    let (provider, kind) = ("providers/Microsoft.Security", "jitNetworkAccessPolicies");
    let (location, group) = (format!("locations/{}", estate::LOCATION), format!("resourceGroups/{}", estate::GROUP));
    for scope in [
        format!("{}/{provider}/{kind}", subscription()),
        format!("{}/{provider}/{location}/{kind}", subscription()),
        format!("{}/{group}/{provider}/{kind}", subscription()),
        format!("{}/{group}/{provider}/{location}/{kind}", subscription()),
    ] {
        let first = court.get(&scope).await;
        let next = first["nextLink"].as_str().unwrap_or_else(|| panic!("{scope} has a second page: {first}"));
        let next = next.strip_prefix(court.sandbox.url("arm")).unwrap_or_else(|| panic!("{next} is no address of ARM"));
        let (path, query) = next.split_once('?').unwrap();
        // `ask` gives the version itself.
        let query: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("api-version=")).collect();
        let last = court.get(&format!("{path}?{}", query.join("&"))).await;
        assert_eq!(last.get("nextLink"), None, "{scope}");
        let names: Vec<&Value> =
            [&first, &last].iter().flat_map(|page| page["value"].as_array().unwrap()).map(|policy| &policy["name"]).collect();
        assert_eq!(names, ["default", "second"], "{scope}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_put_read_and_deleted_as_specified() {
    let court = Court::sits(|_| {}).await;
    let (status, put) = court.ask(Method::PUT, &policy("second"), Some(&a_policy(&vm("db-1"), 5985, "PT3H"))).await;
    assert_eq!((status, &put["properties"]["provisioningState"]), (200, &json!("Updating")));
    court.pass(60).await;
    let read = court.get(&policy("second")).await;
    assert_eq!(read["properties"]["provisioningState"], "Succeeded");
    assert_eq!(read["properties"]["virtualMachines"], put["properties"]["virtualMachines"]);
    let (status, _) = court.ask(Method::PUT, &policy("second"), Some(&a_policy(&vm("db-1"), 5986, "PT1H"))).await;
    assert_eq!(status, 200);
    assert_eq!(court.ask(Method::DELETE, &policy("second"), None).await, (200, Value::Null));
    assert_eq!(court.ask(Method::DELETE, &policy("second"), None).await, (204, Value::Null), "what did not exist");
    let (status, gone) = court.ask(Method::GET, &policy("second"), None).await;
    assert_eq!((status, &gone["error"]["code"]), (404, &json!("PolicyNotFound")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_lives_as_specified_from_its_initiate_to_its_end() {
    let court = Court::sits(|_| {}).await;
    let record = court.initiate("web-1", "203.0.113.7", 3600).await;
    let initiating = [("Initiating".to_owned(), "UserRequested".to_owned())];
    assert_eq!(ports(&json!([record])).iter().map(told).collect::<Vec<_>>(), initiating);
    assert_eq!(record["requestor"], estate::ADMIN_UPN);
    assert_eq!(court.records().await, initiating);
    court.pass(60).await;
    let initiated = ("Initiated".to_owned(), "UserRequested".to_owned());
    assert_eq!(court.records().await, std::slice::from_ref(&initiated));

    court.initiate("web-1", "203.0.113.8", 1800).await;
    court.pass(60).await;
    let replaced = ("Revoked".to_owned(), "NewerRequestInitiated".to_owned());
    assert_eq!(court.records().await, [initiated, replaced.clone()]);

    court.pass(3600).await;
    let expired = ("Revoked".to_owned(), "Expired".to_owned());
    assert_eq!(court.records().await, [expired, replaced]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_has_a_requestor_too_and_the_callers_address_is_the_source_that_was_left_out() {
    let court = Court::sits(|_| {}).await;
    let body = court.wish("web-2", json!({"number": 3389}), 3600);
    let initiate = format!("{}/initiate", policy("default"));
    let (status, record) = court.ask_as(estate::CLIENT_OBJECT_ID, Method::POST, &initiate, Some(&body)).await;
    assert_eq!((status, &record["requestor"]), (202, &json!("")), "the field is required, and recorded empty");
    assert_eq!(ports(&json!([record]))[0]["allowedSourceAddressPrefix"], "127.0.0.1");
}

/// The role of people who request JIT access lets nobody write or delete a policy.
const MAY_ONLY_REQUEST: &str = estate::RESPONDER_OBJECT_ID;

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_errors_as_specified() {
    let without_plan = estate::numbered_subscription(2);
    let prepare = |state: &mut State| {
        estate::add_subscription(state, &without_plan, "Without Defender");
        state.subscriptions.last_mut().unwrap().jit_plan = false;
    };
    let court = Court::sits(prepare).await;
    let initiate = format!("{}/initiate", policy("default"));
    let admin = estate::ADMIN_OBJECT_ID;
    let wish = |port: Value, seconds| Some(court.wish("web-1", port, seconds));
    let a_put = |vm_id: &str, longest: &str| Some(a_policy(vm_id, 22, longest));
    let unknown = "5a4db0c5-ffff-4000-8000-000000000001";
    let list_of = |id: &str| format!("/subscriptions/{id}/providers/Microsoft.Security/jitNetworkAccessPolicies");
    let long = "n".repeat(60);
    let rows = [
        ("nobody", "no-such-principal", Method::GET, policy("default"), None, 401),
        ("an unknown policy", admin, Method::GET, policy("none"), None, 404),
        ("an unknown group", admin, Method::GET, policy("default").replace(estate::GROUP, "rg-none"), None, 404),
        ("an unknown subscription", admin, Method::GET, list_of(unknown), None, 404),
        ("an unknown region", admin, Method::GET, policy("default").replace(estate::LOCATION, "atlantis"), None, 400),
        ("a subscription without the plan", admin, Method::GET, list_of(&without_plan), None, 403),
        ("no right to write", MAY_ONLY_REQUEST, Method::PUT, policy("second"), a_put(&vm("db-1"), "PT3H"), 403),
        ("no right to delete", MAY_ONLY_REQUEST, Method::DELETE, policy("default"), None, 403),
        ("names that are too long", admin, Method::PUT, policy(&long), a_put(&vm("db-1"), "PT3H"), 400),
        ("a VM that is not there", admin, Method::PUT, policy("second"), a_put(&vm("none"), "PT3H"), 400),
        ("a longest time that is too long", admin, Method::PUT, policy("second"), a_put(&vm("db-1"), "PT25H"), 400),
        ("a port outside the policy", admin, Method::POST, initiate.clone(), wish(json!({"number": 5985}), 3600), 400),
        ("a time that is too long", admin, Method::POST, initiate.clone(), wish(json!({"number": 22}), 90_000), 400),
        ("an end that has passed", admin, Method::POST, initiate.clone(), wish(json!({"number": 22}), -60), 400),
        (
            "an IPv6 source",
            admin,
            Method::POST,
            initiate.clone(),
            wish(json!({"number": 22, "allowedSourceAddressPrefix": "2001:db8::1"}), 3600),
            400,
        ),
        ("a VM outside the policy", admin, Method::POST, initiate.clone(), Some(court.wish("none", json!({"number": 22}), 3600)), 400),
        ("no VM", admin, Method::POST, initiate.clone(), Some(json!({"virtualMachines": []})), 400),
        (
            "an initiate on an unknown policy",
            admin,
            Method::POST,
            format!("{}/initiate", policy("none")),
            wish(json!({"number": 22}), 3600),
            404,
        ),
    ];
    for (name, who, method, path, body, status) in rows {
        let (answered, error) = court.ask_as(who, method, &path, body.as_ref()).await;
        assert_eq!(answered, status, "{name}: {error}");
        assert!(!error["error"]["message"].as_str().unwrap_or_default().is_empty(), "{name}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_judge_sees_what_breaks_the_specification() {
    let court = Court::sits(|_| {}).await;
    court.initiate("web-1", "203.0.113.7", 3600).await;
    let default = policy("default");
    type Break = (&'static str, fn(&mut Value));
    let breaks: [Break; 5] = [
        ("a record without its requestor", |properties| drop(properties["requests"][0].as_object_mut().unwrap().remove("requestor"))),
        ("an unknown status", |properties| properties["requests"][0]["virtualMachines"][0]["ports"][0]["status"] = json!("Open")),
        ("a time that is none", |properties| properties["requests"][0]["startTimeUtc"] = json!("now")),
        ("a field of nobody", |properties| properties["appendedMode"] = json!(false)),
        ("a port that is a string", |properties| properties["virtualMachines"][0]["ports"][0]["number"] = json!("22")),
    ];
    for (name, break_it) in breaks {
        let whole = court.sandbox.world.lock().resources.get(&default).cloned().unwrap();
        break_it(&mut court.sandbox.world.lock().resources.get_mut(&default).unwrap()["properties"]);
        let (_, _, violations) = court.exchange(estate::ADMIN_OBJECT_ID, Method::GET, &default, None).await;
        assert!(violations.is_some(), "{name} went by");
        court.sandbox.world.lock().resources.put(whole);
        court.get(&default).await;
    }
    let unspecified = json!({"virtualMachines": [{"id": vm("web-1"), "ports": [{"number": 22}]}]});
    let (status, _, violations) =
        court.exchange(estate::ADMIN_OBJECT_ID, Method::POST, &format!("{default}/initiate"), Some(&unspecified)).await;
    assert!(status == 422 && violations.is_some(), "a request that breaks the specification went by: {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_judge_lets_pass_what_was_recorded_of_the_service() {
    const RECORDED: [&str; 2] = [
        include_str!("../../crates/sandbox/tests/fixtures/rec_net_2018_get_200.json"),
        include_str!("../../crates/sandbox/tests/fixtures/rec_net_2018_list_by_subscription_200.json"),
    ];
    let mut policies = Vec::new();
    for recorded in RECORDED {
        let body = serde_json::from_str::<Value>(recorded).unwrap()["response"]["body"].clone();
        policies.extend(body["value"].as_array().cloned().unwrap_or_else(|| vec![body.clone()]));
    }
    assert!(policies.iter().any(|policy| ports(&policy["properties"]["requests"]).len() > 1), "with records in it");
    let id = |policy: &Value| policy["id"].as_str().unwrap().to_owned();
    let subscription = id(&policies[0]).split('/').nth(2).unwrap().to_owned();
    let court = Court::sits(|state| estate::add_subscription(state, &subscription, "Recorded")).await;
    for policy in policies {
        let path = id(&policy);
        court.sandbox.world.lock().resources.put(policy.clone());
        assert_eq!(court.get(&path).await, policy);
        let list = court.get(&format!("/subscriptions/{subscription}/providers/Microsoft.Security/jitNetworkAccessPolicies")).await;
        assert!(list["value"].as_array().unwrap().contains(&policy), "{path}");
    }
}
