//! A story: the real handler program under the host stand-in, in a world whose time stands still until told.
//!
//! The world is judged by its own state and log, never by what the handler says of it.

pub(crate) mod bystanders;
mod proof;
pub mod settings;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use portcullis_domain::source::Sources;
use portcullis_sandbox::engine::Clock;
use portcullis_sandbox::host::HostFiles;
use portcullis_sandbox::sandbox::{HostOptions, Mode, Sandbox, SandboxOptions};
use portcullis_sandbox::state::{LogEntry, Message, State};
use portcullis_sandbox::{blob, entra, estate, faults::Effect, faults::Fault, servicebus};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::watch::jit_allow;

/// The action by which a rule goes.
pub const DELETE: &str = "Microsoft.Network/networkSecurityGroups/securityRules/delete";

/// The action by which JIT is asked to open.
pub const INITIATE: &str = "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action";

/// A fault that changes nothing and goes down with each call that it meets.
pub(crate) const COUNTS: Effect = Effect::Delay { milliseconds: 0 };
const COUNTER: u32 = 1_000_000;

/// What stands for the status of a request that had no answer: no service gives it.
pub const UNANSWERED: u16 = 599;

/// A running story.
pub struct Story {
    /// The sandbox.
    pub sandbox: Sandbox,
    http: reqwest::Client,
    _dir: tempfile::TempDir,
}

/// What a story begins with.
pub struct Setting {
    /// The world.
    pub state: State,
    /// What the handler is told to do.
    pub mode: Mode,
    /// Settings of the handler besides the sandbox's own.
    pub settings: Vec<(String, String)>,
    /// Files of the rules besides the shipped ones, or instead of them.
    pub rules: Vec<(String, String)>,
    /// Whether the handler tells Application Insights what it does.
    pub tells: bool,
}

/// The folder of the source, whose functions and rules a story runs with.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The handler that was built into the same folder as this program, or, for a test, into the one above it.
fn handler() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let handler = program.ancestors().skip(1).take(2).map(|folder| folder.join("portcullis-handler")).find(|path| path.is_file());
    handler.unwrap_or_else(|| panic!("there is no portcullis-handler beside {}: run `cargo build --workspace --bins`", program.display()))
}

/// Why the handler that stories are played with is not the one of its sources, if it is older than one of them: it is a program of
/// another package, which nothing builds with this one. What it was built of Cargo writes down beside it; one that lies elsewhere was
/// put there.
pub fn is_stale() -> Option<String> {
    let handler = handler();
    let built_of = std::fs::read_to_string(handler.with_extension("d")).ok()?;
    let changed = |path: &Path| path.metadata().and_then(|known| known.modified());
    let built = changed(&handler).ok()?;
    let (_, sources) = built_of.split_once(": ")?;
    // A blank in a path is written with a backslash before it.
    let sources = sources.replace("\\ ", "\0");
    let sources = sources.split_whitespace().map(|path| PathBuf::from(path.replace('\0', " ")));
    let newer = sources.into_iter().find(|path| changed(path).is_ok_and(|changed| changed > built))?;
    Some(format!("{} is older than {}: run `cargo build --workspace --bins`", handler.display(), newer.display()))
}

impl Default for Setting {
    fn default() -> Self {
        let mut state = State::default();
        estate::small(&mut state);
        bystanders::add(&mut state);
        Setting { state, mode: Mode::Enforce, settings: Vec::new(), rules: Vec::new(), tells: false }
    }
}

impl Setting {
    /// The small estate with something changed.
    pub fn with(change: impl FnOnce(&mut State)) -> Self {
        let mut setting = Setting::default();
        change(&mut setting.state);
        setting
    }

    /// The same in observe mode.
    pub fn observing(mut self) -> Self {
        self.mode = Mode::Observe;
        self
    }

    /// The same with another setting of the handler.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same where the handler tells Application Insights what it does.
    pub fn telling(mut self) -> Self {
        self.tells = true;
        self
    }

    /// The same with another file of rules, or another text of a shipped one.
    pub fn ruled_by(mut self, name: &str, text: &str) -> Self {
        self.rules.push((name.to_owned(), text.to_owned()));
        self
    }

    /// The same where rules let everybody in who is known, for as long as the limits do: for stories of other things.
    pub fn letting_everybody_in(self) -> Self {
        self.ruled_by("all.cedar", EVERYBODY)
    }

    /// The same where no rules can be used, so that what no limit forbids is left.
    pub fn without_rules(self) -> Self {
        self.ruled_by("broken.cedar", "permit")
    }

    /// The shipped rules with the people of the simulated Azure, and those of this setting, in a folder of their own.
    fn write_rules(&self, folder: &Path) {
        let root = root();
        let shipped = std::fs::read_dir(root.join("policies")).unwrap().map(|entry| entry.unwrap().path());
        std::fs::create_dir_all(folder).unwrap();
        for path in shipped.filter(|path| path.is_file()) {
            std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
        std::fs::copy(root.join("crates/tool/src/policies/people.yaml"), folder.join("people.yaml")).unwrap();
        for (name, text) in &self.rules {
            std::fs::write(folder.join(name), text).unwrap();
        }
    }

    /// Starts the story.
    pub async fn begin(self) -> Story {
        self.starts().await.unwrap()
    }

    /// The same where it may be that the app cannot start. The error is the handler's own words.
    pub async fn starts(self) -> anyhow::Result<Story> {
        let files = HostFiles::read(&root())?;
        self.starts_with(HostOptions::new(handler(), files), tempfile::tempdir()?).await
    }

    /// Starts the story with the app as it is staged or unpacked.
    pub async fn begin_app(self, files: HostFiles) -> Story {
        self.starts_with(HostOptions::of_app(files), tempfile::tempdir().unwrap()).await.unwrap()
    }

    async fn starts_with(self, mut host: HostOptions, dir: tempfile::TempDir) -> anyhow::Result<Story> {
        let policies = dir.path().join("policies");
        self.write_rules(&policies);
        host.settings = self.settings;
        let mut options = SandboxOptions::new(dir.path().join("sandbox"));
        options.world = Some(self.state);
        options.host = Some(host);
        options.clock = Clock::Standing;
        options.mode = self.mode;
        options.insights = self.tells;
        options.app_settings = vec![("PORTCULLIS_POLICIES".to_owned(), policies.display().to_string())];
        let sandbox = Sandbox::start(options).await?;
        let http = sandbox.client()?;
        Ok(Story { sandbox, http, _dir: dir })
    }
}

/// A rule that lets everybody in who is known.
const EVERYBODY: &str = "@id(\"everybody\") @reason(\"Everybody may\") permit (principal is Person, action == Action::\"open\", resource);";

/// Stories that run at once, each with a handler of its own: most of their time they wait between two tries of a call.
const AT_ONCE: usize = 16;

/// Runs each row of a table as a story of its own and names every row that does not hold.
pub async fn each_row<F>(rows: impl IntoIterator<Item = (String, F)>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let begin = |(name, row): (String, F)| {
        let places = Arc::clone(&places);
        let running = tokio::spawn(async move {
            let _place = places.acquire().await.unwrap();
            row.await;
        });
        (name, running)
    };
    let running: Vec<_> = rows.into_iter().map(begin).collect();
    let mut failed = Vec::new();
    for (name, row) in running {
        if let Err(why) = row.await {
            failed.push(format!("== {name}: {}", said(why)));
        }
    }
    assert!(failed.is_empty(), "{} rows do not hold:\n{}", failed.len(), failed.join("\n"));
}

/// What a row that did not hold says.
pub fn said(why: tokio::task::JoinError) -> String {
    let panic = why.into_panic();
    let said = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
    said.unwrap_or_default()
}

/// An event of an initiate in the Event Grid schema, as the world would publish it.
pub fn initiate_event(id: &str, resource: &str, at: DateTime<Utc>) -> Value {
    json!({
        "id": id,
        "topic": format!("/subscriptions/{}", estate::SUBSCRIPTION),
        "subject": resource,
        "eventType": "Microsoft.Resources.ResourceActionSuccess",
        "eventTime": at.to_rfc3339(),
        "dataVersion": "2",
        "metadataVersion": "1",
        "data": {
            "operationName": "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action",
            "resourceUri": resource,
            "correlationId": format!("correlation-{id}"),
            "claims": {"http://schemas.microsoft.com/identity/claims/objectidentifier": estate::ADMIN_OBJECT_ID, "name": "Ada Admin"},
        },
    })
}

/// JIT's allow rules for a port, each with its group.
fn rules_for(state: &State, port: u16) -> Vec<(&Value, &Value)> {
    let groups = state.resources.of_type("Microsoft.Network/networkSecurityGroups");
    let rules =
        groups.flat_map(|group| group["properties"]["securityRules"].as_array().into_iter().flatten().map(move |rule| (group, rule)));
    let port = port.to_string();
    rules.filter(|(_, rule)| jit_allow(rule).is_some() && rule["properties"]["destinationPortRange"] == port.as_str()).collect()
}

fn id_of(rule: &Value) -> String {
    rule["id"].as_str().unwrap_or_default().to_owned()
}

/// The id of a VM of the small estate.
pub fn vm(name: &str) -> String {
    estate::resource_id(estate::SUBSCRIPTION, estate::GROUP, "Microsoft.Compute/virtualMachines", name)
}

/// Tags a VM of the small estate with an environment, in lower case.
pub fn tag(state: &mut State, name: &str, environment: &str) {
    state.resources.get_mut(&vm(name)).unwrap()["tags"] = json!({"environment": environment});
}

/// The id of its JIT policy.
pub fn policy() -> String {
    policy_in(estate::SUBSCRIPTION)
}

fn policy_in(subscription: &str) -> String {
    let (group, location) = (estate::GROUP, estate::LOCATION);
    format!(
        "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Security/locations/{location}/jitNetworkAccessPolicies/default"
    )
}

impl Story {
    /// The small estate in enforce mode.
    pub async fn begin() -> Story {
        Setting::default().begin().await
    }

    /// The world's time.
    pub fn now(&self) -> DateTime<Utc> {
        self.sandbox.now()
    }

    /// Lets time pass, instant by instant, until the world is at rest.
    pub async fn pass(&self, seconds: i64) {
        self.sandbox.engine.advance_by(TimeDelta::seconds(seconds)).await.unwrap();
    }

    /// Asks the handler to stop, and waits until it has: what it had to tell is told then.
    pub async fn stops(&self) {
        let process = self.sandbox.host.as_ref().and_then(|host| host.process()).unwrap();
        process.ask_to_stop().await.unwrap();
    }

    /// One look at the world.
    pub fn world<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.sandbox.world.lock())
    }

    /// One change of the world behind everybody's back.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.sandbox.world.lock())
    }

    /// The world as it stands, to begin another story in: what a new deployment of the app finds.
    pub fn left(&self) -> Setting {
        Setting { state: self.world(State::clone), ..Setting::default() }
    }

    /// POSTs to the webhook what Event Grid would, and gives the status.
    pub async fn post_events(&self, body: impl Into<reqwest::Body>) -> u16 {
        let request = self.http.post(self.sandbox.env("SANDBOX_EVENTGRID_URL")).header("aeg-event-type", "Notification").body(body);
        request.send().await.unwrap().status().as_u16()
    }

    /// Puts a message into a queue as it is.
    pub fn send(&self, queue: &str, body: &str) {
        let message = Message { body: body.to_owned(), ..Message::default() };
        assert!(self.change(|state| servicebus::enqueue(state, queue, message)), "there is no queue {queue}");
    }

    /// How many messages a queue holds, scheduled ones included.
    pub fn queued(&self, queue: &str) -> usize {
        self.world(|state| state.queues[queue].messages.len())
    }

    /// What is kept under `rejected/`.
    pub fn rejected(&self) -> Vec<Value> {
        self.world(|state| {
            let blobs = state.containers["state"].blobs.iter().filter(|(name, _)| name.starts_with("rejected/"));
            blobs.map(|(_, blob)| serde_json::from_slice(&blob::content_bytes(&blob.content)).unwrap()).collect()
        })
    }

    /// From now on counts the calls that no other fault meets; [`Story::counted`] gives their number.
    pub fn count(&self, face: &str, method: &str, path: &str) {
        self.fault(face, method, path, COUNTS, Some(COUNTER));
    }

    /// The calls that were counted.
    pub fn counted(&self) -> u32 {
        let left = self.world(|state| state.faults.iter().filter(|fault| fault.effect == COUNTS).find_map(|fault| fault.times));
        COUNTER - left.unwrap()
    }

    /// Takes every fault away.
    pub fn heal(&self) {
        self.change(|state| state.faults.clear());
    }

    /// Adds a fault.
    pub fn fault(&self, face: &str, method: &str, path: &str, effect: Effect, times: Option<u32>) {
        let fault = Fault::new(face, method, path, effect);
        let fault = times.into_iter().fold(fault, Fault::times);
        self.change(|state| state.faults.push(fault));
    }

    /// A request to ARM as this person or application: the status and the body, or [`UNANSWERED`] and why.
    pub async fn arm(&self, who: &str, method: reqwest::Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let token = self.world(|state| entra::mint(state, who, "https://management.azure.com").unwrap());
        let version = match path.split_once('?') {
            Some((_, query)) if query.contains("api-version=") => "",
            Some(_) => "&api-version=2020-01-01",
            None => "?api-version=2020-01-01",
        };
        let mut request = self.http.request(method, format!("{}{path}{version}", self.sandbox.url("arm"))).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        match request.send().await {
            Ok(response) => (response.status().as_u16(), response.json().await.unwrap_or(Value::Null)),
            Err(why) => (UNANSWERED, json!(format!("no answer: {}", why.without_url()))),
        }
    }

    /// Somebody with the right opens a port through JIT, around Portcullis.
    pub async fn opens(&self, who: &str, vm: &str, port: u16, sources: &[&str], time: TimeDelta) {
        let end = (self.now() + time).to_rfc3339();
        let port = match sources {
            [one] => json!({"number": port, "allowedSourceAddressPrefix": one, "endTimeUtc": end}),
            many => json!({"number": port, "allowedSourceAddressPrefixes": many, "endTimeUtc": end}),
        };
        let body = json!({"virtualMachines": [{"id": vm, "ports": [port]}]});
        let policy = policy_in(vm.split('/').nth(2).unwrap_or_default());
        let (status, answer) = self.arm(who, reqwest::Method::POST, &format!("{policy}/initiate"), Some(body)).await;
        assert_eq!(status, 202, "{answer}");
    }

    /// A POST to our own API as this person, and the answer.
    pub async fn posts(&self, who: &str, path: &str, body: &Value) -> (u16, Value) {
        let token = self.world(|state| entra::mint(state, who, "api://portcullis").unwrap());
        let url = format!("{}/api{path}", self.sandbox.env("SANDBOX_API_URL"));
        let response = self.http.post(url).bearer_auth(token).json(body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or(Value::Null))
    }

    /// A GET of our own API as this person, and the answer.
    pub async fn reads(&self, who: &str, path: &str) -> (u16, Value) {
        let token = self.world(|state| entra::mint(state, who, "api://portcullis").unwrap());
        let url = format!("{}/api{path}", self.sandbox.env("SANDBOX_API_URL"));
        let response = self.http.get(url).bearer_auth(token).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or(Value::Null))
    }

    /// What became of a wish.
    pub async fn answer_to(&self, id: &str) -> Value {
        self.reads(estate::SECURITY_OBJECT_ID, &format!("/requests/{id}")).await.1
    }

    /// The operator asks for a port for somebody. Gives the wish's id.
    pub async fn asks_for(&self, person: &str, name: &str, port: u16, source: &str, duration: &str) -> String {
        let body = json!({"vm": vm(name), "port": port, "sources": [source], "duration": duration, "reason": "a story", "person": person});
        let (status, answer) = self.posts(estate::SECURITY_OBJECT_ID, "/grants", &body).await;
        assert_eq!(status, 202, "{answer}");
        answer["id"].as_str().unwrap().to_owned()
    }

    /// The operator asks for a port for somebody, and the wish is worked on. Gives what became of it.
    pub async fn grants(&self, person: &str, name: &str, port: u16, source: &str, duration: &str) -> Value {
        let id = self.asks_for(person, name, port, source, duration).await;
        self.pass(1).await;
        self.answer_to(&id).await
    }

    /// The operator ends a grant early. Gives what became of it.
    pub async fn closes(&self, who: &str, name: &str, grant: &str) -> Value {
        let (status, answer) = self.posts(who, &format!("/grants/{grant}/close"), &json!({"vm": vm(name)})).await;
        assert_eq!(status, 202, "{answer}");
        self.pass(1).await;
        self.answer_to(answer["id"].as_str().unwrap()).await
    }

    /// Whether JIT's allow rules in front of a VM let in every one of these addresses at this port, in each of its groups
    /// that has such a rule.
    pub fn lets_in(&self, name: &str, port: u16, addresses: &[&str]) -> bool {
        let rules = self.rules_of(&vm(name), port);
        let sources: Vec<String> = self.world(|state| {
            let of = |id: &String| {
                let (group, rule) = id.split_once("/securityRules/")?;
                let rules = state.resources.get(group)?["properties"]["securityRules"].as_array()?.clone();
                let rule = rules.into_iter().find(|known| known["name"] == rule)?;
                let many = rule["properties"]["sourceAddressPrefixes"].as_array().into_iter().flatten();
                let one = rule["properties"].get("sourceAddressPrefix");
                Some(one.into_iter().chain(many).filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>())
            };
            rules.iter().filter_map(of).flatten().collect()
        });
        let all = Sources::read(sources.iter().map(String::as_str));
        addresses.iter().all(|address| all.covers(&Sources::read([*address])))
    }

    /// The names of JIT's allow rules that are in some group now for this port.
    pub fn allow_rules(&self, port: u16) -> Vec<String> {
        self.world(|state| rules_for(state, port).into_iter().map(|(_, rule)| id_of(rule)).collect())
    }

    /// What the handler did of this kind and Azure accepted, by the world's log.
    pub fn ours(&self, what: &str) -> Vec<LogEntry> {
        self.tried(what).into_iter().filter(|entry| entry.status < 300).collect()
    }

    /// The same with what Azure refused.
    pub fn tried(&self, what: &str) -> Vec<LogEntry> {
        self.world(|state| {
            state.log.iter().filter(|entry| proof::is_ours(entry) && entry.what.eq_ignore_ascii_case(what)).cloned().collect()
        })
    }

    /// The log as a person reads it, for a test that fails.
    pub fn told(&self) -> String {
        let line = |e: &LogEntry| {
            format!(
                "{} {} {:?} {} {} {} {}",
                e.at.format("%T"),
                e.caller,
                e.function,
                e.face,
                e.what,
                e.status,
                e.target.rsplit('/').next().unwrap_or_default()
            )
        };
        self.world(|state| state.log.iter().filter(|e| e.face != "blob").map(line).collect::<Vec<_>>().join("\n"))
    }

    /// Every audit record in the store, by id.
    pub fn audits(&self) -> Vec<Value> {
        self.world(|state| {
            let blobs = state.containers.get("audit").map(|container| container.blobs.values());
            blobs.into_iter().flatten().map(|blob| serde_json::from_slice(&blob::content_bytes(&blob.content)).unwrap()).collect()
        })
    }

    /// The audit records of one kind.
    pub fn audits_of(&self, kind: &str) -> Vec<Value> {
        self.audits().into_iter().filter(|audit| audit["kind"] == kind).collect()
    }

    /// The `EventSubType` of every row that was taken, in order, but for those that only say that a sweep goes on.
    pub fn row_kinds(&self) -> Vec<String> {
        self.world(|state| {
            let kinds = state.rows.iter().map(|row| row.row["EventSubType"].as_str().unwrap_or_default());
            kinds.filter(|kind| *kind != "swept").map(str::to_owned).collect()
        })
    }

    /// The causes of the alarms that were raised (`+`) and cleared (`-`), in their order.
    pub fn alarms(&self) -> String {
        let mut told: Vec<(String, String, String)> = Vec::new();
        for audit in self.audits() {
            let text = |field: &str| audit[field].as_str().unwrap_or_default().to_owned();
            match audit["kind"].as_str() {
                Some("alarm-raised") => told.push((text("at"), text("id"), format!("+{}", text("code")))),
                Some("alarm-cleared") => told.push((text("at"), text("id"), format!("-{}", text("code")))),
                _ => {}
            }
        }
        told.sort();
        told.into_iter().map(|(_, _, told)| told).collect::<Vec<_>>().join(" ")
    }

    /// What is remembered of a VM of the small estate.
    pub fn record(&self, name: &str) -> Option<Value> {
        self.record_of(&vm(name))
    }

    /// What is remembered of a VM anywhere.
    pub fn record_of(&self, vm: &str) -> Option<Value> {
        let blob = format!("vm/{}.json", proof::key(vm));
        self.world(|state| {
            let blob = state.containers.get("state")?.blobs.get(&blob)?;
            serde_json::from_slice(&blob::content_bytes(&blob.content)).ok()
        })
    }
}
