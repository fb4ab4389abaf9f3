//! The whole sandbox, with a handler that is made for the purpose.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use chrono::TimeDelta;
use portcullis_sandbox::engine::Clock;
use portcullis_sandbox::entra;
use portcullis_sandbox::estate;
use portcullis_sandbox::host::HostFiles;
use portcullis_sandbox::sandbox::{HostOptions, STATE_CONTAINER, STORE_MARKER, Sandbox, SandboxOptions};
use portcullis_sandbox::state::{Container, State, beginning};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Answers every request with `{}`, and every request under `/api` with the setting `PORTCULLIS_MODE`.
const HANDLER: &str = r#"
import http.server, os
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def reply(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            while True:
                size = int(self.rfile.readline(), 16)
                self.rfile.read(size); self.rfile.readline()
                if size == 0: break
        body = b"{}"
        if self.path.startswith("/api"): body = os.environ["PORTCULLIS_MODE"].encode()
        self.send_response(200); self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    do_GET = do_POST = reply
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["FUNCTIONS_CUSTOMHANDLER_PORT"])), H).serve_forever()
"#;

fn a_dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn with_handler(dir: &TempDir) -> SandboxOptions {
    let mut files = HostFiles::read(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap();
    let mut host_json: Value = serde_json::from_str(&files.host_json).unwrap();
    host_json["customHandler"]["description"]["arguments"] = json!(["-c", HANDLER]);
    files.host_json = host_json.to_string();
    SandboxOptions { host: Some(HostOptions::new("python3", files)), ..SandboxOptions::new(dir.path()) }
}

async fn initiate(sandbox: &Sandbox) {
    let (vm, policy) = {
        let state = sandbox.world.lock();
        let id = |kind: &str| state.resources.of_type(kind).next().unwrap()["id"].as_str().unwrap().to_owned();
        (id("Microsoft.Compute/virtualMachines"), id("Microsoft.Security/locations/jitNetworkAccessPolicies"))
    };
    let end = (sandbox.now() + TimeDelta::hours(1)).format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let port = json!({ "number": 3389, "allowedSourceAddressPrefix": "203.0.113.7", "endTimeUtc": end });
    let token = entra::mint(&sandbox.world.lock(), estate::ADMIN_OBJECT_ID, "https://management.azure.com").unwrap();
    let answer = sandbox
        .client()
        .unwrap()
        .post(format!("{}{policy}/initiate?api-version=2020-01-01", sandbox.url("arm")))
        .bearer_auth(token)
        .json(&json!({ "virtualMachines": [{ "id": vm, "ports": [port] }] }))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 202, "{}", answer.text().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_initiate_reaches_its_function_once_the_world_comes_to_rest() {
    let dir = a_dir();
    let sandbox = Sandbox::start(with_handler(&dir)).await.unwrap();
    let record = || sandbox.host.as_ref().unwrap().record().invocations();
    initiate(&sandbox).await;
    assert!(record().is_empty());
    assert_eq!(sandbox.engine.settle().await.unwrap(), beginning());
    assert_eq!(record().iter().map(|run| run.function.as_str()).collect::<Vec<_>>(), ["jit_activity"]);
    sandbox.engine.advance_by(TimeDelta::minutes(5)).await.unwrap();
    let runs = record();
    let of = |name: &str| runs.iter().filter(|run| run.function == name).count();
    assert_eq!((of("schedule"), of("sweep"), runs.len()), (5, 1, 7));
    let state = sandbox.world.lock();
    let policy = state.resources.of_type("Microsoft.Security/locations/jitNetworkAccessPolicies").next().unwrap();
    let status = &policy["properties"]["requests"][0]["virtualMachines"][0]["ports"][0]["status"];
    assert_eq!(status, "Initiated");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_clock_moves_by_itself_and_delivers_at_once() {
    let dir = a_dir();
    let sandbox = Sandbox::start(SandboxOptions { clock: Clock::Running, ..with_handler(&dir) }).await.unwrap();
    initiate(&sandbox).await;
    let host = sandbox.host.as_ref().unwrap();
    tokio::time::timeout(Duration::from_secs(20), async {
        while host.record().counts().0 == 0 || sandbox.now() == beginning() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let before = sandbox.now();
    let after = sandbox.engine.advance_by(TimeDelta::hours(1)).await.unwrap();
    assert!(after - before >= TimeDelta::hours(1));
    assert_eq!(host.record().counts().1, 0);
}

/// The status of one call to the queue `approval`.
async fn bus(sandbox: &Sandbox, method: &str, path: &str, properties: &str) -> u16 {
    let token = entra::mint(&sandbox.world.lock(), estate::ADMIN_OBJECT_ID, "https://servicebus.azure.net").unwrap();
    let url = format!("{}/approval/messages{path}", sandbox.url("servicebus"));
    let call = sandbox.client().unwrap().request(method.parse().unwrap(), url).bearer_auth(token).header("BrokerProperties", properties);
    call.body("x").send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receive_waits_for_a_message_while_the_clock_runs() {
    let dir = a_dir();
    let sandbox = Sandbox::start(SandboxOptions { clock: Clock::Running, ..SandboxOptions::new(dir.path()) }).await.unwrap();
    for method in ["POST", "DELETE"] {
        assert_eq!(bus(&sandbox, method, "/head?timeout=0", "{}").await, 204);
        let soon = portcullis_sandbox::face::http_date(sandbox.now() + TimeDelta::seconds(2));
        let scheduled = format!("{{\"ScheduledEnqueueTimeUtc\":\"{soon}\"}}");
        assert_eq!(bus(&sandbox, "POST", "", &scheduled).await, 201);
        let received = bus(&sandbox, method, "/head", "{}").await;
        assert_eq!(received, if method == "POST" { 201 } else { 200 }, "one that becomes due");
        let (received, sent) = tokio::join!(bus(&sandbox, method, "/head?timeout=60", "{}"), bus(&sandbox, "POST", "", "{}"));
        assert_eq!((received, sent), (if method == "POST" { 201 } else { 200 }, 201), "one that comes");
    }
    assert_eq!(bus(&sandbox, "DELETE", "/head?timeout=1", "{}").await, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receive_that_finds_nothing_does_not_wait_while_the_clock_stands() {
    let dir = a_dir();
    let sandbox = Sandbox::start(SandboxOptions::new(dir.path())).await.unwrap();
    let receive = bus(&sandbox, "POST", "/head?timeout=200", "{}");
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), receive).await, Ok(204));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_site_and_the_webhook_reach_the_handler() {
    let dir = a_dir();
    let sandbox = Sandbox::start(with_handler(&dir)).await.unwrap();
    let client = sandbox.client().unwrap();
    let answer = client.get(format!("{}/api/health", sandbox.url("api"))).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "enforce");
    let event = json!([{ "id": "1", "eventType": "x", "data": {} }]);
    let answer = client.post(sandbox.env("SANDBOX_EVENTGRID_URL")).json(&event).send().await.unwrap();
    assert_eq!(answer.status(), 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_app_is_started_with_the_program_that_its_host_json_names() {
    let dir = a_dir();
    let app = dir.path().join("app");
    std::fs::create_dir_all(app.join("sweep")).unwrap();
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::copy(source.join("host.json"), app.join("host.json")).unwrap();
    std::fs::copy(source.join("functions/sweep/function.json"), app.join("sweep/function.json")).unwrap();
    let program = app.join("portcullis-handler");
    std::fs::write(&program, format!("#!/usr/bin/env python3\n{HANDLER}")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let host = HostOptions::of_app(HostFiles::read(&app).unwrap());
    let options = SandboxOptions { host: Some(host), ..SandboxOptions::new(dir.path()) };
    let sandbox = Sandbox::start(options).await.unwrap();
    sandbox.engine.advance_by(TimeDelta::minutes(5)).await.unwrap();
    assert_eq!(sandbox.host.as_ref().unwrap().record().counts(), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handler_dies_with_the_sandbox() {
    let dir = a_dir();
    let sandbox = Sandbox::start(with_handler(&dir)).await.unwrap();
    let process = sandbox.host.as_ref().unwrap().process().unwrap().pid().unwrap();
    let folder = PathBuf::from(format!("/proc/{process}"));
    assert!(folder.exists());
    drop(sandbox);
    assert!(!folder.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_does_not_start_is_said_with_its_console() {
    let dir = a_dir();
    let mut options = with_handler(&dir);
    let host = options.host.as_mut().unwrap();
    host.files.host_json = host.files.host_json.replace("import http.server, os", "raise SystemExit('no settings')");
    let error = Sandbox::start(options).await.err().unwrap().to_string();
    assert!(error.contains("shut down after 3 errors") && error.contains("no settings"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_world_that_leaves_it_out_gets_what_the_product_needs() {
    let dir = a_dir();
    let options = SandboxOptions { world: Some(State::default()), ..SandboxOptions::new(dir.path()) };
    let sandbox = Sandbox::start(options).await.unwrap();
    let state = sandbox.world.lock();
    assert!(state.principals.iter().any(|principal| principal.managed_identity));
    assert!(["approval", "sweep", "alerts"].iter().all(|queue| state.queues.contains_key(*queue)));
    assert!(state.containers[STATE_CONTAINER].blobs.contains_key(STORE_MARKER));
    assert!(state.subscriptions.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_its_marker_stays_without() {
    let dir = a_dir();
    let mut world = State::default();
    world.containers.insert(STATE_CONTAINER.to_owned(), Container::default());
    let options = SandboxOptions { world: Some(world), ..SandboxOptions::new(dir.path()) };
    let sandbox = Sandbox::start(options).await.unwrap();
    assert!(sandbox.world.lock().containers[STATE_CONTAINER].blobs.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sandboxes_begin_with_equal_worlds_and_a_shown_world_can_be_given() {
    let dir = a_dir();
    let first = Sandbox::start(SandboxOptions { vms: Some(5), ..SandboxOptions::new(dir.path()) }).await.unwrap();
    let second = Sandbox::start(SandboxOptions { vms: Some(5), ..SandboxOptions::new(dir.path()) }).await.unwrap();
    let shown = |sandbox: &Sandbox| serde_json::to_value(&*sandbox.world.lock()).unwrap();
    assert_eq!(shown(&first), shown(&second));
    let given = serde_json::from_value(shown(&first)).unwrap();
    let third = Sandbox::start(SandboxOptions { world: Some(given), ..SandboxOptions::new(dir.path()) }).await.unwrap();
    assert_eq!(shown(&third), shown(&first));
}
