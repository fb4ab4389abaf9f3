//! The handler program itself, driven over raw sockets as the Functions host drives it: the paths and bodies here are
//! sent byte for byte, without a client that would tidy them up.
//!
//! Every endpoint in its settings is a dead port of loopback, so what is checked is the protocol alone: an answer is
//! always JSON and never empty, and the program never ends unasked.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

struct Handler {
    child: Child,
    port: u16,
}

impl Drop for Handler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        assert!(self.head.to_ascii_lowercase().contains("content-type: application/json"), "{}", self.head);
        assert!(!self.body.is_empty(), "an empty body makes the host hang: {}", self.head);
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

fn dead_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn command(port: u16) -> Command {
    let dead = dead_port();
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis-handler"));
    command.env_clear().stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, value) in [
        ("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string()),
        ("PORTCULLIS_TENANT_ID", "72f988bf-86f1-41af-91ab-2d7cd011db47".to_owned()),
        ("PORTCULLIS_BLOB_ENDPOINT", format!("https://127.0.0.1:{dead}/portcullisstate")),
        ("ServiceBus__fullyQualifiedNamespace", "portcullis.servicebus.windows.net".to_owned()),
        ("PORTCULLIS_SERVICEBUS_ENDPOINT", format!("https://127.0.0.1:{dead}")),
        ("PORTCULLIS_LOGS_ENDPOINT", format!("https://127.0.0.1:{dead}")),
        ("PORTCULLIS_LOGS_RULE_ID", "dcr-1".to_owned()),
        ("PORTCULLIS_ARM_ENDPOINT", format!("https://127.0.0.1:{dead}")),
        ("PORTCULLIS_LOGIN_ENDPOINT", format!("https://127.0.0.1:{dead}")),
        ("PORTCULLIS_GRAPH_ENDPOINT", format!("https://127.0.0.1:{dead}")),
        ("IDENTITY_ENDPOINT", format!("http://127.0.0.1:{dead}/msi/token")),
        ("IDENTITY_HEADER", "header".to_owned()),
    ] {
        command.env(name, value);
    }
    command
}

fn start() -> Handler {
    start_with(Stdio::null)
}

/// A free port can be taken by another test before the handler binds it; then the next one is tried.
fn start_with(stdout: fn() -> Stdio) -> Handler {
    let begun = Instant::now();
    loop {
        let port = dead_port();
        let child = command(port).stdout(stdout()).stderr(Stdio::null()).spawn().expect("the handler starts");
        let mut handler = Handler { child, port };
        while handler.child.try_wait().unwrap().is_none() {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return handler;
            }
            assert!(begun.elapsed() < PATIENCE, "the handler does not listen");
            std::thread::yield_now();
        }
    }
}

/// What a program said that ends by itself; one that does not is ended.
fn ended(command: &mut Command) -> Output {
    let mut child = command.spawn().expect("the handler starts");
    ends(&mut child);
    child.wait_with_output().unwrap()
}

/// Waits for a program that says less than a pipe holds.
fn ends(child: &mut Child) -> Option<i32> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("the handler did not end within {PATIENCE:?}");
        }
        std::thread::yield_now();
    }
}

impl Handler {
    fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n{headers}\r\n", self.port).unwrap();
        // A body that is refused early may meet a closed socket.
        let _ = stream.write_all(body);
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let cut = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("no answer to {method} {path}"));
        let head = String::from_utf8_lossy(&all[..cut]).into_owned();
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a status");
        let mut body = all[cut + 4..].to_vec();
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            body = unchunked(&body);
        }
        Answer { status, head, body }
    }

    fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", b"")
    }

    /// As the host sends an invocation: chunked, without a length, with its headers.
    fn invoke(&self, path: &str, body: &[u8]) -> Answer {
        let headers = "User-Agent: Azure-Functions-Host/4.1037.0\r\nContent-Type: application/json; charset=utf-8\r\nTransfer-Encoding: chunked\r\nX-Azure-Functions-HostVersion: 4.1037.0\r\nX-Azure-Functions-InvocationId: 24ad4c06-24ad-4e5b-8294-3da9714877e9\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00\r\n";
        self.send("POST", path, headers, &chunked(body))
    }

    fn lives(&mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "the handler ended unasked");
        let answer = self.get("/");
        assert_eq!((answer.status, answer.json()), (200, json!({"status": "up"})));
    }
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut all = Vec::with_capacity(body.len() + body.len() / 1000 + 100);
    for chunk in body.chunks(8192) {
        write!(all, "{:x}\r\n", chunk.len()).unwrap();
        all.extend_from_slice(chunk);
        all.extend_from_slice(b"\r\n");
    }
    all.extend_from_slice(b"0\r\n\r\n");
    all
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(end) = body.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap().trim(), 16).unwrap();
        if size == 0 {
            break;
        }
        all.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 4 + size..];
    }
    all
}

/// Either the success that the host understands, or a failure that it delivers again; both as JSON.
fn is_an_end(answer: &Answer) {
    let body = answer.json();
    match answer.status {
        200 => assert!(body["Outputs"].is_object() && body["Logs"].is_array() && body.get("ReturnValue").is_some(), "{body}"),
        500 => assert!(body["error"]["message"].is_string(), "{body}"),
        other => panic!("{other} is no end of an invocation: {body}"),
    }
}

/// Sends all of them at once: each waits for dead services in its own time.
fn all_end<'a>(handler: &Handler, invocations: impl IntoIterator<Item = (&'a str, Vec<u8>)>) {
    std::thread::scope(|threads| {
        for (trigger, body) in invocations {
            threads.spawn(move || is_an_end(&handler.invoke(&format!("/{trigger}"), &body)));
        }
    });
}

const TRIGGERS: [&str; 6] = ["jit_activity", "approval", "sweep", "sweep_shard", "schedule", "alert"];

const FIXTURES: [&str; 8] = [
    include_str!("../fixtures/host/eventgrid_many_derived.json"),
    include_str!("../fixtures/host/eventgrid_one_derived.json"),
    include_str!("../fixtures/host/http_default_derived.json"),
    include_str!("../fixtures/host/servicebus_many_dataType_string_derived.json"),
    include_str!("../fixtures/host/servicebus_many_no_dataType_derived.json"),
    include_str!("../fixtures/host/servicebus_one_derived.json"),
    include_str!("../fixtures/host/timer_first_run_derived.json"),
    include_str!("../fixtures/host/timer_usemonitor_derived.json"),
];

#[test]
fn every_payload_of_the_host_is_answered_as_json_by_every_trigger() {
    let mut handler = start();
    all_end(&handler, TRIGGERS.into_iter().flat_map(|trigger| FIXTURES.map(|fixture| (trigger, fixture.as_bytes().to_vec()))));
    handler.lives();
}

#[test]
fn bodies_that_are_no_invocations_are_answered_as_json() {
    let mut handler = start();
    let deep = "[".repeat(10_000);
    let bodies: [&[u8]; 14] = [
        b"",
        b"null",
        b"[]",
        b"{",
        b"{}",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b"{\"Data\":null}",
        b"{\"Data\":{}}",
        b"{\"Data\":{\"a\":1,\"b\":2}}",
        b"{\"Data\":{\"message\":null}}",
        b"{\"Data\":{\"message\":[1]}}",
        b"{\"Data\":{\"message\":\"\\ud800\"}}",
        deep.as_bytes(),
    ];
    all_end(&handler, TRIGGERS.into_iter().flat_map(|trigger| bodies.map(|body| (trigger, body.to_vec()))));
    handler.lives();
}

#[test]
fn messages_under_every_encoding_are_answered_as_json() {
    let mut handler = start();
    let text = r#"{"portcullis":{"kind":"nonsense"}}"#;
    let (once, twice) = (json!(text), json!(json!(text).to_string()));
    let thrice = json!(twice.to_string());
    let mut invocations = Vec::new();
    for message in [once, twice, thrice, json!({"portcullis": {}}), json!(""), json!("\"\""), json!("hello"), json!("5"), json!("null")] {
        let body = json!({"Data": {"message": message}, "Metadata": {"MessageId": "\"forged\"", "DeliveryCount": "\"many\""}});
        invocations.extend(["approval", "sweep_shard", "alert"].map(|trigger| (trigger, body.to_string().into_bytes())));
    }
    all_end(&handler, invocations);
    handler.lives();
}

#[test]
fn timers_with_every_form_of_date_are_answered_as_json() {
    let mut handler = start();
    let mut invocations = Vec::new();
    for date in [
        "0001-01-01T00:00:00",
        "2026-01-15T10:00:00",
        "2026-01-15T10:00:00.1Z",
        "2026-01-15T10:00:00.1234567+02:00",
        "01/15/2026 10:00:00",
        "",
    ] {
        let status = json!({"Last": date, "Next": date, "LastUpdated": date});
        let body = json!({"Data": {"timer": {"Schedule": {"AdjustForDST": true}, "ScheduleStatus": status, "IsPastDue": false}}});
        invocations.push(("schedule", body.to_string().into_bytes()));
    }
    let unmonitored = json!({"Data": {"timer": {"Schedule": {}, "ScheduleStatus": null, "IsPastDue": true}}});
    invocations.push(("sweep", unmonitored.to_string().into_bytes()));
    all_end(&handler, invocations);
    handler.lives();
}

#[test]
fn a_chunked_body_of_16_mb_is_taken_and_one_of_40_is_refused() {
    let mut handler = start();
    let text = json!({"portcullis": {"kind": "nonsense", "filling": "x".repeat(16 * 1024 * 1024)}}).to_string();
    let body = json!({"Data": {"message": json!(text).to_string()}, "Metadata": {}}).to_string();
    is_an_end(&handler.invoke("/approval", body.as_bytes()));
    let answer = handler.invoke("/approval", &vec![b' '; 40 * 1024 * 1024]);
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (413, Some("TooLarge")));
    handler.lives();
}

#[test]
fn a_trigger_is_reached_at_its_own_path_only() {
    let mut handler = start();
    let body = include_str!("../fixtures/host/servicebus_one_derived.json");
    for path in [
        "/approval/",
        "/%61pproval",
        "/api/../approval",
        "//approval",
        "/./approval",
        "/APPROVAL",
        "/approval/x",
        "/approval%2f",
        "/approval%20",
        "/api/%2e%2e/approval",
        "/api/%2E%2E%2Fapproval",
        "/api/..%5capproval",
        "/api/./../approval",
        "/api//approval",
        "/api/approval",
        "/x/../approval",
        "/approval;v=1",
        "/",
        "/api",
        "/admin/functions/approval",
        "/runtime/webhooks/EventGrid",
    ] {
        let answer = handler.invoke(path, body.as_bytes());
        assert!([400, 401, 403, 404, 405].contains(&answer.status), "{path}: {}", answer.head);
        answer.json();
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let answer = handler.send(method, "/approval", "Content-Length: 0\r\n", b"");
        assert_eq!(answer.status, 404, "{method}");
        answer.json();
    }
    // An absolute target names a path too.
    let answer = handler.invoke("http://127.0.0.1/api/../approval", body.as_bytes());
    assert_eq!(answer.status, 404);
    handler.lives();
}

#[test]
fn a_query_does_not_change_the_path() {
    let mut handler = start();
    let body = include_str!("../fixtures/host/servicebus_one_derived.json");
    is_an_end(&handler.invoke("/approval?code=x", body.as_bytes()));
    assert_eq!(handler.invoke("/api/x?/approval", body.as_bytes()).status, 404);
    handler.lives();
}

#[test]
fn a_caller_that_hangs_up_or_speaks_nonsense_harms_nobody() {
    let mut handler = start();
    for words in ["", "\r\n\r\n", "GARBAGE\r\n\r\n", "POST /approval HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal"] {
        let mut stream = TcpStream::connect(("127.0.0.1", handler.port)).unwrap();
        stream.write_all(words.as_bytes()).unwrap();
        drop(stream);
    }
    handler.lives();
}

#[test]
fn mistakes_in_the_settings_are_all_told_and_end_with_1() {
    let mut mistaken = command(dead_port());
    mistaken.env("PORTCULLIS_MODE", "enforced").env("PORTCULLIS_TENANT_ID", "contoso").env("PORTCULLIS_MODUS", "observe");
    let output = ended(mistaken.env_remove("PORTCULLIS_LOGS_RULE_ID"));
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    for name in ["PORTCULLIS_MODE ", "PORTCULLIS_TENANT_ID ", "PORTCULLIS_MODUS ", "PORTCULLIS_LOGS_RULE_ID "] {
        assert!(told.lines().any(|line| line.contains(name)), "{name} is missing in {told}");
    }
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn without_a_port_or_with_one_that_is_taken_it_ends_with_1() {
    let missing = ended(command(1).env_remove("FUNCTIONS_CUSTOMHANDLER_PORT"));
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stdout).contains("FUNCTIONS_CUSTOMHANDLER_PORT is not set"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let output = ended(&mut command(taken.local_addr().unwrap().port()));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("cannot be bound"));
    for port in ["0", "70000", "http"] {
        let output = ended(command(1).env("FUNCTIONS_CUSTOMHANDLER_PORT", port));
        assert_eq!(output.status.code(), Some(1), "{port}");
    }
}

#[test]
fn it_ends_so_that_the_host_starts_it_again_unless_a_person_asks_and_logs_json_that_says_loopback() {
    let asked = |signal: &str| {
        let mut handler = start_with(Stdio::piped);
        handler.lives();
        let asked = Command::new("sh").args(["-c", &format!("kill -{signal} {}", handler.child.id())]).status().unwrap();
        assert!(asked.success());
        let code = ends(&mut handler.child);
        (handler, code)
    };
    assert_eq!(asked("INT").1, Some(0));
    let (mut handler, code) = asked("TERM");
    assert_eq!(code, Some(200));
    let mut told = String::new();
    handler.child.stdout.take().unwrap().read_to_string(&mut told).unwrap();
    let first: Value = serde_json::from_str(told.lines().next().expect("a first line")).expect("JSON");
    assert_eq!((first["loopback"].as_bool(), first["mode"].as_str()), (Some(true), Some("observe")));
    assert!(!told.contains('\u{1b}'), "no colour where no person watches");
}
