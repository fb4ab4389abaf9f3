//! A world with a person in front of it, who calls in process and, where a test wants it, over https, too.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use chrono::TimeDelta;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

use portcullis_sandbox::face::{Bases, Call};
use portcullis_sandbox::sandbox::{Sandbox, SandboxOptions};
use portcullis_sandbox::state::State;
use portcullis_sandbox::{arm, entra, estate};

pub const BASE: &str = "https://127.0.0.1:40001";
pub const ARM: &str = "https://management.azure.com";
/// The address from which everybody calls.
pub const CALLER_IP: &str = "203.0.113.9";

/// A world, and who is calling it.
pub struct Desk {
    pub state: State,
    pub who: String,
    pub audience: String,
    tokens: HashMap<(String, String), String>,
    headers: Vec<(&'static str, String)>,
    wire: Option<Wire>,
}

/// A running sandbox that is asked the same questions over https, and how many it was asked.
pub struct Wire {
    runtime: tokio::runtime::Runtime,
    sandbox: Sandbox,
    client: reqwest::Client,
    sent: usize,
    _dir: tempfile::TempDir,
}

impl Wire {
    fn start() -> Wire {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let sandbox = runtime.block_on(Sandbox::start(SandboxOptions::new(dir.path()))).unwrap();
        let client = sandbox.client().unwrap();
        Wire { runtime, sandbox, client, sent: 0, _dir: dir }
    }

    /// Sends one request to this world; nothing of it may change.
    fn refused(&mut self, state: &State, method: &str, path: &str, body: Bytes, authorization: Option<&str>) -> Seen {
        *self.sandbox.world.lock() = state.clone();
        let url = format!("{}{path}", self.sandbox.url("arm"));
        let mut request = self.client.request(method.parse().unwrap(), url).body(body);
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let seen = self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            let header = |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), value.to_str().unwrap().to_owned());
            let headers = answer.headers().iter().map(header).collect();
            Seen { status: answer.status().as_u16(), headers, body: answer.json().await.unwrap_or(Value::Null) }
        });
        self.sent += 1;
        let (before, now): (Vec<Value>, Vec<Value>) = (state.resources.clone().into(), self.sandbox.world.lock().resources.clone().into());
        assert!(before == now, "{method} {path} changed the world");
        seen
    }
}

/// What came back.
#[derive(Debug)]
pub struct Seen {
    pub status: u16,
    pub body: Value,
    pub headers: Vec<(String, String)>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }
}

impl Desk {
    /// A small estate with Ada, who may do everything.
    pub fn small() -> Self {
        let mut state = State::default();
        estate::small(&mut state);
        Desk::over(state)
    }

    pub fn over(state: State) -> Self {
        Desk {
            state,
            who: estate::ADMIN_OBJECT_ID.to_owned(),
            audience: ARM.to_owned(),
            tokens: HashMap::new(),
            headers: Vec::new(),
            wire: None,
        }
    }

    /// A small estate whose refusals are asked for over https as well.
    pub fn small_over_https() -> Self {
        Desk { wire: Some(Wire::start()), ..Desk::small() }
    }

    /// The same sandbox in front of a small estate that is new; what was sent so far stays counted.
    pub fn renewed(self) -> Self {
        Desk { wire: self.wire, ..Desk::small() }
    }

    /// How many requests went over https.
    pub fn sent(&self) -> usize {
        self.wire.as_ref().map_or(0, |wire| wire.sent)
    }

    /// Sends a call that must change nothing, exactly as given: in process and, if there is one, over the wire.
    pub fn refusals(&mut self, method: &str, path: &str, body: &Bytes, authorization: Option<String>) -> Vec<Seen> {
        let mut seen = Vec::new();
        if let Some(wire) = &mut self.wire {
            seen.push(wire.refused(&self.state, method, path, body.clone(), authorization.as_deref()));
        }
        seen.push(self.send_with(method, path, body.clone(), authorization));
        seen
    }

    pub fn as_(&mut self, who: &str) -> &mut Self {
        self.who = who.to_owned();
        self
    }

    /// A header for the next call only.
    pub fn with(&mut self, name: &'static str, value: &str) -> &mut Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub fn get(&mut self, path: &str) -> Seen {
        self.send("GET", path, Bytes::new())
    }

    pub fn delete(&mut self, path: &str) -> Seen {
        self.send("DELETE", path, Bytes::new())
    }

    pub fn put(&mut self, path: &str, body: &Value) -> Seen {
        self.send("PUT", path, Bytes::from(body.to_string()))
    }

    pub fn post(&mut self, path: &str, body: &Value) -> Seen {
        self.send("POST", path, Bytes::from(body.to_string()))
    }

    /// Sends a call; a path without an api-version gets one.
    pub fn send(&mut self, method: &str, path: &str, body: Bytes) -> Seen {
        let bearer = self.bearer();
        self.send_with(method, &versioned(path), body, bearer)
    }

    /// The `Authorization` of who is calling.
    pub fn bearer(&mut self) -> Option<String> {
        self.token().map(|token| format!("Bearer {token}"))
    }

    /// Sends a call exactly as given.
    pub fn send_with(&mut self, method: &str, path: &str, body: Bytes, authorization: Option<String>) -> Seen {
        let url = if path.starts_with('/') { format!("{BASE}{path}") } else { path.to_owned() };
        let url = url::Url::parse(&url).unwrap_or_else(|why| panic!("{url}: {why}"));
        let mut headers = HeaderMap::new();
        let given = std::mem::take(&mut self.headers);
        for (name, value) in given.into_iter().chain(authorization.map(|value| ("authorization", value))) {
            let value = HeaderValue::from_str(&value).unwrap_or_else(|why| panic!("{name}: {why}"));
            headers.insert(HeaderName::from_static(name), value);
        }
        let call = Call {
            method: Method::from_bytes(method.as_bytes()).unwrap_or_default(),
            path: url.path().to_owned(),
            raw_query: url.query().unwrap_or_default().to_owned(),
            query: url.query_pairs().into_owned().collect(),
            headers,
            body,
            base: BASE.to_owned(),
            bases: Arc::new(Bases::default()),
            trace: None,
            ip: CALLER_IP.to_owned(),
            port: 50_000,
        };
        let answer = arm::answer(&mut self.state, &call);
        Seen { status: answer.status.as_u16(), body: serde_json::from_slice(&answer.body).unwrap_or(Value::Null), headers: answer.headers }
    }

    fn token(&mut self) -> Option<String> {
        let key = (self.who.clone(), self.audience.clone());
        if let Some(token) = self.tokens.get(&key) {
            return Some(token.clone());
        }
        let token = entra::mint(&self.state, &self.who, &self.audience)?;
        self.tokens.insert(key, token.clone());
        Some(token)
    }

    /// Lets time pass, and everything happen that is due on the way.
    pub fn advance(&mut self, seconds: i64) {
        let until = self.state.now + TimeDelta::seconds(seconds);
        loop {
            let due = self.state.due.iter().enumerate().filter(|(_, due)| due.at <= until);
            let Some(index) = due.min_by_key(|(_, due)| (due.at, due.order)).map(|(index, _)| index) else {
                break;
            };
            let due = self.state.due.remove(index);
            self.state.now = self.state.now.max(due.at);
            arm::happen(&mut self.state, due.what);
        }
        self.state.now = until;
    }

    /// The names of JIT's allow rules in an NSG of the small estate.
    pub fn allow_rules(&mut self, nsg: &str) -> Vec<Value> {
        let body = self.get(&in_group(&format!("Microsoft.Network/networkSecurityGroups/{nsg}"))).body;
        let rules = body["properties"]["securityRules"].as_array().cloned().unwrap_or_default();
        rules.into_iter().filter(|rule| rule["name"].as_str().is_some_and(|name| name.contains("-JITRule-"))).collect()
    }

    /// Initiates for web-1, with the port's fields besides its number.
    pub fn initiate(&mut self, number: u16, fields: &Value) -> Seen {
        let mut port = fields.clone();
        port["number"] = json!(number);
        let body = json!({"virtualMachines": [{"id": vm("web-1"), "ports": [port]}], "justification": "a test"});
        self.post(&format!("{}/initiate", policy()), &body)
    }

    /// The ports of all records, with their record.
    pub fn record_ports(&mut self) -> Vec<Value> {
        let body = self.get(&policy()).body;
        let mut ports = Vec::new();
        for record in body["properties"]["requests"].as_array().into_iter().flatten() {
            for vm in record["virtualMachines"].as_array().into_iter().flatten() {
                ports.extend(vm["ports"].as_array().into_iter().flatten().cloned());
            }
        }
        ports
    }
}

/// The path with an api-version, if it has none.
pub fn versioned(path: &str) -> String {
    match (path.contains("api-version="), path.contains('?')) {
        (true, _) => path.to_owned(),
        (false, true) => format!("{path}&api-version=2020-01-01"),
        (false, false) => format!("{path}?api-version=2020-01-01"),
    }
}

/// A path in the small estate's resource group.
pub fn in_group(rest: &str) -> String {
    format!("/subscriptions/{}/resourceGroups/{}/providers/{rest}", estate::SUBSCRIPTION, estate::GROUP)
}

/// A path in the small estate's subscription.
pub fn in_subscription(rest: &str) -> String {
    format!("/subscriptions/{}/providers/{rest}", estate::SUBSCRIPTION)
}

pub fn vm(name: &str) -> String {
    in_group(&format!("Microsoft.Compute/virtualMachines/{name}"))
}

pub fn nsg(name: &str) -> String {
    in_group(&format!("Microsoft.Network/networkSecurityGroups/{name}"))
}

pub fn policy() -> String {
    in_group("Microsoft.Security/locations/westeurope/jitNetworkAccessPolicies/default")
}

/// A rule as a caller sends it.
pub fn a_rule(priority: i64) -> Value {
    json!({"properties": {
        "protocol": "Tcp", "access": "Allow", "direction": "Inbound", "priority": priority,
        "sourcePortRange": "*", "destinationPortRange": "443",
        "sourceAddressPrefix": "10.0.0.0/8", "destinationAddressPrefix": "*",
    }})
}

/// The instant so many seconds after the world's beginning, as a caller writes it.
pub fn after(desk: &Desk, seconds: i64) -> String {
    let at = desk.state.now + TimeDelta::seconds(seconds);
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
