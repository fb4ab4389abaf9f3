//! The HTTP API as callers meet it: through the host, with tokens of the tenant, after something has happened.

use chrono::TimeDelta;
use portcullis_sandbox::faults::Effect;
use portcullis_sandbox::{entra, estate, host};
use portcullis_trials::story::{Setting, Story, vm};
use serde_json::{Value, json};

const HOUR: TimeDelta = TimeDelta::hours(1);

/// A caller of the API.
struct Caller<'a> {
    story: &'a Story,
    http: reqwest::Client,
    token: Option<String>,
}

/// What the caller was answered.
struct Answered {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Value,
}

impl<'a> Caller<'a> {
    fn nobody(story: &'a Story) -> Self {
        Caller { story, http: host::client::trusting(&story.sandbox.ca_pem).unwrap(), token: None }
    }

    fn with(story: &'a Story, token: String) -> Self {
        Caller { token: Some(token), ..Self::nobody(story) }
    }

    /// An application that signs in with its secret, as any client would.
    async fn application(story: &'a Story, client_id: &str, secret: &str) -> Self {
        let nobody = Self::nobody(story);
        let url = format!("{}/{}/oauth2/v2.0/token", story.sandbox.env("SANDBOX_ENTRA_URL"), story.sandbox.env("SANDBOX_TENANT_ID"));
        let scope = story.sandbox.env("SANDBOX_API_SCOPE");
        let form = format!("grant_type=client_credentials&client_id={client_id}&client_secret={secret}&scope={scope}");
        let request = nobody.http.post(url).header("content-type", "application/x-www-form-urlencoded").body(form);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        Caller { token: Some(answer["access_token"].as_str().expect("a token").to_owned()), ..nobody }
    }

    async fn auditor(story: &'a Story) -> Self {
        Self::application(story, estate::AUDITOR_APP_ID, estate::AUDITOR_SECRET).await
    }

    async fn get(&self, path: &str) -> Answered {
        self.ask(reqwest::Method::GET, path).await
    }

    async fn ask(&self, method: reqwest::Method, path: &str) -> Answered {
        let mut request = self.http.request(method, format!("{}/api{path}", self.story.sandbox.env("SANDBOX_API_URL")));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect("JSON") };
        Answered { status, headers, body }
    }

    async fn items(&self, path: &str) -> Vec<Value> {
        let answered = self.get(path).await;
        assert_eq!(answered.status, 200, "{path}: {}", answered.body);
        assert_eq!(answered.body["next"], Value::Null);
        answered.body["items"].as_array().unwrap().clone()
    }
}

fn key(name: &str) -> String {
    format!("{}/{}/{name}", estate::SUBSCRIPTION, estate::GROUP)
}

/// Two VMs with a harmless opening, one that was caught and proved shut.
async fn eventful() -> Story {
    eventful_in(Setting::default().without_rules()).await
}

async fn eventful_in(setting: Setting) -> Story {
    let story = setting.begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 22, &["203.0.113.4"], HOUR).await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-2"), 22, &["203.0.113.5"], HOUR).await;
    story.pass(60).await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], HOUR).await;
    story.pass(240).await;
    story
}

#[tokio::test]
async fn health_needs_no_token_and_names_nothing_of_the_estate() {
    let story = Setting::default().observing().begin().await;
    let health = Caller::nobody(&story).get("/health").await;
    let well = json!({
        "status": "ok", "mode": "observe", "loopback": true, "version": env!("CARGO_PKG_VERSION"),
        "store": {"ok": true, "sentence": "The store answers."},
        "rows": {"ok": true, "sentence": "Rows go out to Microsoft Sentinel."},
        "rules": {"ok": true, "sentence": "The rules are used."},
    });
    assert_eq!((health.status, health.body), (200, well));
    assert_eq!(health.headers["cache-control"], "no-store");

    story.change(|state| state.containers.get_mut("state").unwrap().blobs.remove("portcullis-store.json"));
    let health = Caller::nobody(&story).get("/health").await;
    assert_eq!((health.status, &health.body["status"], &health.body["store"]["ok"]), (503, &json!("failing"), &json!(false)));
    let text = health.body.to_string();
    for name in [estate::SUBSCRIPTION, "web-1", "127.0.0.1", "rg-workload", "container"] {
        assert!(!text.contains(name), "{name} in {text}");
    }
}

#[tokio::test]
async fn rules_that_cannot_be_used_are_told_by_health_without_a_name() {
    let story = Setting::default().ruled_by("secret-name.cedar", "permit").begin().await;
    let health = Caller::nobody(&story).get("/health").await;
    assert_eq!((health.status, &health.body["store"]["ok"], &health.body["rules"]["ok"]), (503, &json!(true), &json!(false)));
    assert!(!health.body.to_string().contains("secret-name"), "{}", health.body);
}

#[tokio::test]
async fn rows_that_are_not_taken_are_told_by_health() {
    let story = Story::begin().await;
    story.fault("logs", "POST", "", Effect::status(403, None), None);
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 22, &["203.0.113.4"], HOUR).await;
    story.pass(60).await;
    let health = Caller::nobody(&story).get("/health").await;
    assert_eq!(
        (health.status, &health.body["store"]["ok"], &health.body["rows"]["ok"]),
        (503, &json!(true), &json!(false)),
        "{}",
        health.body
    );
}

#[tokio::test]
async fn a_view_opens_to_auditors_alone() {
    let story = eventful().await;
    let nobody = Caller::nobody(&story);
    let auditor = Caller::auditor(&story).await;
    let person = |who: &str, audience: &str| story.world(|state| entra::mint(state, who, audience).unwrap());
    let client = Caller::with(&story, person(estate::RESPONDER_OBJECT_ID, "api://portcullis"));
    let elsewhere = Caller::with(&story, person(estate::AUDITOR_OBJECT_ID, "https://management.azure.com"));
    let old = story.world(|state| entra::mint_aged(state, estate::AUDITOR_OBJECT_ID, "api://portcullis", TimeDelta::hours(2)).unwrap());
    let late = Caller::with(&story, old);
    let audit = auditor.get("/audit?limit=1").await.body["items"][0]["id"].as_str().unwrap().to_owned();
    let (whole, one) = (format!("/vms/{}", key("web-1")), format!("/audit/{audit}"));
    for path in ["/vms", &whole, "/openings", "/grants", "/findings", "/alarms", "/audit", &one] {
        let answered = auditor.get(path).await;
        assert_eq!((answered.status, &answered.headers["x-content-type-options"]), (200, &"nosniff".parse().unwrap()), "{path}");
        assert_eq!(auditor.ask(reqwest::Method::HEAD, path).await.status, 200, "{path}");
        for caller in [&nobody, &elsewhere, &late] {
            let refused = caller.get(path).await;
            assert_eq!(refused.status, 401, "{path}");
            assert!(refused.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
        }
        assert_eq!(client.get(path).await.status, 403, "{path}");
        assert_eq!(auditor.ask(reqwest::Method::DELETE, path).await.status, 405, "{path}");
    }
    for path in [format!("/vms/{}", key("nothing")), "/audit/nothing".to_owned(), "/nothing".to_owned()] {
        assert_eq!(auditor.get(&path).await.status, 404, "{path}");
    }
    let never = auditor.get(&format!("/vms/{}", key("nothing"))).await.body;
    assert_eq!(never["error"]["code"], "NeverLookedAt");
    assert!(never["error"]["message"].as_str().unwrap().starts_with("Portcullis has never looked at this VM"), "{never}");
    for list in ["/openings", "/grants", "/findings", "/alarms"] {
        assert_eq!(auditor.get(&format!("{list}?vm={}", key("nothing"))).await.status, 404, "nothing there is not nothing open");
    }
    assert_eq!(client.get(&format!("/vms/{}", key("nothing"))).await.status, 403);
    assert_eq!(auditor.get("/vms?colour=red").await.status, 400);
}

#[tokio::test]
async fn the_views_show_what_happened() {
    let story = eventful().await;
    let auditor = Caller::auditor(&story).await;
    let ids: Vec<Value> = auditor.items("/vms").await.iter().map(|line| line["id"].clone()).collect();
    assert!(ids.contains(&json!(vm("web-1"))) && ids.contains(&json!(vm("web-2"))), "{ids:?}");

    let openings = auditor.items("/openings").await;
    assert_eq!(openings.len(), 4, "two rules for each of two VMs");
    for opening in &openings {
        assert_eq!((&opening["ports"], &opening["judgement"]), (&json!("22"), &json!("left")));
        assert_eq!(opening["claims"][0]["objectId"], estate::ADMIN_OBJECT_ID);
    }
    let findings = auditor.items("/findings").await;
    assert!(findings.len() == 4 && findings.iter().all(|finding| finding["code"] == "unapproved" && finding["vm"].is_string()));
    assert!(auditor.items("/alarms").await.is_empty() && auditor.items("/grants").await.is_empty());

    let whole = auditor.get(&format!("/vms/{}", key("web-1"))).await.body;
    assert_eq!((&whole["id"], whole.get("lease")), (&json!(vm("web-1")), None));
    let port = whole["ports"].as_array().unwrap().iter().find(|port| port["port"] == 3389).unwrap();
    assert!(port["provedShut"].is_string() && port["attempts"].as_u64() >= Some(2), "one for each of its rules: {port}");
    assert_eq!(auditor.get(&format!("/vms/{}", key("WEB-1"))).await.body, whole, "letter case makes no difference");

    let audits = auditor.items(&format!("/audit?vm={}&limit=1000", key("web-1"))).await;
    assert!(audits.iter().all(|audit| audit["vm"] == vm("web-1").as_str()));
    let times: Vec<&str> = audits.iter().map(|audit| audit["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:?}");
    let kinds: Vec<&str> = audits.iter().map(|audit| audit["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"close") && kinds.contains(&"proved-shut"), "{kinds:?}");
    let all = auditor.items("/audit?limit=1000").await;
    assert_eq!(all.len(), story.audits().len());
    let one = auditor.get(&format!("/audit/{}", audits[0]["id"].as_str().unwrap())).await.body;
    assert_eq!(one, audits[0]);
}

#[tokio::test]
async fn a_list_is_read_page_by_page_and_by_subscription() {
    let story = eventful().await;
    let auditor = Caller::auditor(&story).await;
    for path in ["/vms", "/openings", "/findings", "/audit"] {
        let whole = auditor.items(&format!("{path}?limit=1000")).await;
        let mut parts = Vec::new();
        let mut after = String::new();
        loop {
            let page = auditor.get(&format!("{path}?limit=1{after}")).await.body;
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= 1, "{path}");
            parts.extend(items.iter().cloned());
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert_eq!(parts, whole, "{path}");
        let ours = auditor.items(&format!("{path}?limit=1000&subscription={}", estate::SUBSCRIPTION.to_uppercase())).await;
        let in_it: Vec<Value> = whole
            .iter()
            .filter(|item| item["vm"].is_string() || item["id"].as_str().is_some_and(|id| id.contains("/subscriptions/")))
            .cloned()
            .collect();
        assert_eq!(ours, in_it, "{path}");
        assert!(auditor.items(&format!("{path}?subscription=00000000-0000-0000-0000-00000000dead")).await.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn a_list_is_asked_for_one_vm() {
    let story = eventful().await;
    let auditor = Caller::auditor(&story).await;
    for path in ["/openings", "/findings"] {
        let all = auditor.items(path).await;
        let ours: Vec<Value> = all.iter().filter(|item| item["vm"] == vm("web-2").as_str()).cloned().collect();
        assert_eq!(ours.len(), 2, "{path}");
        for name in [key("web-2"), vm("WEB-2")] {
            assert_eq!(auditor.items(&format!("{path}?vm={name}")).await, ours, "{path}");
        }
        let first = auditor.get(&format!("{path}?limit=1&vm={}", key("web-2"))).await.body;
        let next = first["next"].as_str().expect("a second page");
        assert_eq!(first["items"], json!(ours[..1]));
        assert_eq!(auditor.items(&format!("{path}?limit=1&vm={}&after={next}", key("web-2"))).await, ours[1..]);
        assert_eq!(auditor.get(&format!("{path}?vm={}&after={next}", key("web-1"))).await.status, 400, "a place in another list");
        let dead = "00000000-0000-0000-0000-00000000dead";
        assert!(auditor.items(&format!("{path}?vm={}&subscription={dead}", key("web-2"))).await.is_empty());
    }
    assert!(auditor.items(&format!("/alarms?vm={}", key("web-1"))).await.is_empty());
}

#[tokio::test]
async fn audit_records_are_asked_for_by_kind_code_and_time() {
    let story = eventful().await;
    let auditor = Caller::auditor(&story).await;
    let all = auditor.items("/audit?limit=1000").await;
    let times: Vec<&str> = all.iter().map(|audit| audit["at"].as_str().unwrap()).collect();
    let middle = times[times.len() / 2];
    let is_of = |audit: &Value, field: &str, value: &str| audit[field] == value;
    let those = |fits: &dyn Fn(&Value) -> bool| all.iter().filter(|audit| fits(audit)).cloned().collect::<Vec<Value>>();
    let rows = [
        ("kind=proved-shut".to_owned(), those(&|audit| is_of(audit, "kind", "proved-shut"))),
        ("code=any-source".to_owned(), those(&|audit| is_of(audit, "code", "any-source"))),
        (format!("from={middle}"), those(&|audit| audit["at"].as_str().unwrap() >= middle)),
        (format!("to={middle}"), those(&|audit| audit["at"].as_str().unwrap() < middle)),
        (
            format!("kind=close&code=any-source&vm={}", key("web-1")),
            those(&|audit| is_of(audit, "kind", "close") && is_of(audit, "vm", &vm("web-1"))),
        ),
        ("kind=service-failing".to_owned(), those(&|audit| is_of(audit, "kind", "service-failing"))),
        ("kind=alarm-raised".to_owned(), Vec::new()),
    ];
    for (query, expected) in rows {
        assert!(expected.len() < all.len(), "{query} asks for a part");
        assert_eq!(auditor.items(&format!("/audit?limit=1000&{query}")).await, expected, "{query}");
        let mut parts = Vec::new();
        let mut after = String::new();
        for _ in 0..=all.len() {
            let page = auditor.get(&format!("/audit?limit=1&{query}{after}")).await.body;
            parts.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert_eq!(parts, expected, "{query}, page by page");
    }
}

/// The fenced `sh` blocks of docs/api.md, as one script.
fn script() -> String {
    let blocks = include_str!("../../docs/api.md").split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    format!("set -euo pipefail\n{}", blocks.collect::<String>())
}

#[tokio::test]
async fn every_request_of_the_document_works() {
    let story = eventful_in(Setting::default().letting_everybody_in()).await;
    let dir = std::path::Path::new(story.sandbox.env("SSL_CERT_FILE")).parent().unwrap();
    let mut bash = tokio::process::Command::new("bash");
    bash.arg("-c").arg(script()).env("DIR", dir);
    bash.env("SANDBOX_AUDITOR_CLIENT_ID", estate::AUDITOR_APP_ID).env("SANDBOX_AUDITOR_CLIENT_SECRET", estate::AUDITOR_SECRET);
    let ran = bash.output().await.unwrap();
    let (out, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}{errors}");
    for shown in [
        "\"status\":\"ok\"",
        "\"judgement\":\"covered\"",
        "\"origin\":\"adopted\"",
        "\"rule\":\"everybody\"",
        "\"kind\":\"finding-appeared\"",
        "\"items\":[]",
    ] {
        assert!(out.contains(shown), "{shown} is not in {out}");
    }
}

#[tokio::test]
async fn a_store_that_fails_is_a_503_without_details() {
    let story = eventful().await;
    let auditor = Caller::auditor(&story).await;
    assert_eq!(auditor.get("/vms").await.status, 200);
    story.fault(
        "blob",
        "GET",
        "",
        Effect::Status { status: 403, code: Some("AuthorizationFailure".to_owned()), details: Vec::new(), retry_after: None },
        None,
    );
    for path in ["/vms", "/openings", "/audit", "/audit/x", "/vms/s/rg/vm1", "/health"] {
        let answered = auditor.get(path).await;
        assert_eq!(answered.status, 503, "{path}");
        let text = answered.body.to_string();
        assert!(!text.contains("127.0.0.1") && !text.contains("Authorization") && !text.contains("portcullisstate"), "{text}");
        let id = answered.body["error"]["id"].as_str().unwrap_or_default();
        let lines = story.sandbox.host.as_ref().and_then(|host| host.process().map(|process| process.lines())).unwrap();
        let told = lines.iter().any(|line| line.contains(id) && line.contains("AuthorizationFailure"));
        assert!(told || path == "/health", "{path}: {id} is not in the log");
    }
}

#[tokio::test]
async fn a_tenant_that_cannot_be_asked_for_its_keys_lets_nobody_in_and_blames_nobody() {
    let story = Story::begin().await;
    let auditor = Caller::auditor(&story).await;
    story.fault("entra", "GET", "", Effect::status(404, None), None);
    let answered = auditor.get("/vms").await;
    assert_eq!((answered.status, answered.body["error"]["code"].as_str()), (503, Some("SignInUnavailable")));
    assert_eq!(Caller::nobody(&story).get("/vms").await.status, 401);
}
